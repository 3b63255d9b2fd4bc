# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring the certificate for TURN over TLS to coturn, and see that coturn shows it.

`turn_certificate.py CONFIG [--wait SECONDS] [--check]` takes the certificate from where it is renewed (Traefik's file
of ACME certificates, or two PEM files), writes certificate and key into one file that coturn's user can read, and sends
coturn SIGUSR2 unless it shows already what stands in the file. Connections that exist are not touched by that. It keeps
no state: what is there is compared, so a run that was cut off anywhere is completed by the next one.

The last line of its output is JSON: `changed` (the file was written), `signalled`, `state` (served; waiting: there is
no certificate yet; stopped: nothing listens on the port), `not_after` (seconds since the epoch, 0 without a
certificate), `days` (left, rounded down) and `note` (a sentence, "" when all is well). Exit status 1 with a sentence on
standard error when the certificate cannot be used or coturn does not take it; what coturn had stays in place then.

CONFIG is a JSON file: `acme` (path of Traefik's file, "" for the other way), `certificate` and `key` (paths), `name`
(for which it must hold), `file`, `group` (gid), `address` and `port` of coturn, `container` (its name without a
prefix), `traefik` (what Traefik's container is called), `docker`, `days` (left, below which there is a note).
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import fcntl
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

# From OpenSSL's x509_vfy.h; Python names the first from 3.10 on, the second never.
PARTIAL_CHAIN = 0x80000
NO_CHECK_TIME = 0x200000
PEM_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----\n.+?-----END CERTIFICATE-----\n?", re.DOTALL)
# coturn opens its port for TLS only when its file can be read at the start, whatever stands in it.
PLACEHOLDER = "No certificate yet.\n"
SIGNAL_SECONDS = 10
ANSWER_SECONDS = 5
# Traefik does not replace its file but writes it anew, so that half of it can be seen for a moment.
READ_SECONDS = 5
PAUSE = 0.3
AGAIN = 5


class CertificateError(Exception):
    """The certificate cannot be used, or coturn does not take it; the text is one sentence for the user."""


class Pair:
    """A certificate chain with its key, as one PEM text.

    `names` are the DNS names of the first certificate, `not_after` its end in seconds since the epoch, `der` what it is
    as bytes. Raises CertificateError when it cannot be read, or the key is another one's.
    """

    def __init__(self, text: str, where: str, scratch: Path) -> None:
        self.text = text
        leaf = PEM_CERTIFICATE.search(text)
        if leaf is None:
            raise CertificateError(f"{where} holds no certificate, expected a chain (PEM): look at what writes it.")
        try:
            self.der = ssl.PEM_cert_to_DER_cert(leaf.group(0))
            fields = _decoded(text, leaf.group(0), scratch)
        except (OSError, ValueError) as error:
            raise CertificateError(
                f"The certificate of {where} and its key cannot be used ({_reason(error)}), expected a chain (PEM) "
                "that begins with the certificate of this key."
            ) from error
        self.names = [value.lower() for kind, value in fields.get("subjectAltName", ()) if kind == "DNS"]
        self.not_after = float(ssl.cert_time_to_seconds(fields["notAfter"]))

    def holds_for(self, name: str) -> bool:
        """Whether the certificate is for `name`; a wildcard stands for one label (RFC 9525)."""
        name = name.lower()
        return any(known in (name, f"*.{name.partition('.')[2]}") for known in self.names)


def _reason(error: BaseException) -> str:
    return str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error or type(error).__name__)


def _decoded(text: str, leaf: str, scratch: Path) -> dict[str, Any]:
    """Return the fields of a certificate by a handshake in memory: Python decodes only what it has verified."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # OpenSSL takes a key from a file only, and says when it does not belong to the certificate.
    _write(scratch, text, os.getegid(), 0o600)
    try:
        server.load_cert_chain(scratch)
    finally:
        scratch.unlink()
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.load_verify_locations(cadata=leaf)
    client.verify_flags = ssl.VerifyFlags(PARTIAL_CHAIN | NO_CHECK_TIME)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True)]
    for _round in range(4):
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    return dict(ends[0].getpeercert() or {})


def _write(path: Path, text: str, group: int, mode: int) -> None:
    """Write a file that nobody else can read, not even for a moment."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        os.fchmod(handle, 0o600)
        file.write(text)
        file.flush()
        if os.fstat(handle).st_gid != group:
            os.fchown(handle, -1, group)
        os.fchmod(handle, mode)
        os.fsync(handle)


def acme_pairs(text: str) -> list[str]:
    """Return the certificates with their keys, each as one PEM text, in Traefik's file (its pkg/provider/acme).

    It is `{resolver: {"Certificates": [{"domain", "certificate", "key"}]}}`, the last two PEM in base64. Raises
    ValueError, KeyError, TypeError or AttributeError for anything else.
    """
    found = []
    for resolver in (json.loads(text) or {}).values():
        for entry in (resolver or {}).get("Certificates") or []:
            parts = [base64.b64decode(entry[key]).decode("ascii") for key in ("certificate", "key")]
            found.append("\n".join(part.strip() for part in parts) + "\n")
    return found


def from_acme(path: Path, name: str, scratch: Path) -> Pair | None:
    """Return the certificate for `name` that is valid longest in Traefik's file, None when there is none yet."""
    end = time.monotonic() + READ_SECONDS
    while True:
        try:
            text = path.read_text(encoding="utf-8")
            texts = acme_pairs(text) if text.strip() else []
            break
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if time.monotonic() > end:
                raise CertificateError(
                    f"{path} was expected to be Traefik's file of ACME certificates (JSON) and is not "
                    f"({type(error).__name__}): look at the log of Traefik."
                ) from error
            time.sleep(PAUSE)
    pairs = [pair for pair in (Pair(one, str(path), scratch) for one in texts) if pair.holds_for(name)]
    return max(pairs, key=lambda pair: pair.not_after, default=None)


def from_files(certificate: Path, key: Path, name: str, scratch: Path) -> Pair:
    """Return the certificate of two PEM files. Raises CertificateError when it is not for `name`."""
    try:
        text = "\n".join(path.read_text(encoding="ascii").strip() for path in (certificate, key)) + "\n"
    except (OSError, ValueError) as error:
        raise CertificateError(
            f"The certificate {certificate} or its key {key} cannot be read ({_reason(error)}): "
            "run the deployment again."
        ) from error
    pair = Pair(text, str(certificate), scratch)
    if not pair.holds_for(name):
        raise CertificateError(
            f"The certificate {certificate} is for {', '.join(pair.names) or 'no name'}, expected also {name}, the "
            "name for TURN over TLS: get one that holds for it, correct hpb_turn_domain, or set hpb_turn_tls_port to 0."
        )
    return pair


def shown(address: str, port: int, name: str) -> bytes | None:
    """Return the certificate (DER) that coturn shows, b"" when it shows none, None when nothing listens."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        plain = socket.create_connection((address, port), ANSWER_SECONDS)
    except OSError:
        return None
    try:
        with plain, context.wrap_socket(plain, server_hostname=name) as stream:
            return stream.getpeercert(binary_form=True) or b""
    except OSError:
        return b""


class Keeper:
    """One run with one configuration; `result` is what the last line of the output says."""

    def __init__(self, config: dict[str, Any], check: bool) -> None:
        self.config, self.check = config, check
        self.file = Path(config["file"])
        self.scratch = self.file.with_name(f".{self.file.name}.new")
        self.sources = [Path(config[key]) for key in ("acme", "certificate", "key") if config[key]]
        self.result: dict[str, Any] = {
            "changed": False,
            "signalled": False,
            "state": "waiting",
            "not_after": 0.0,
            "days": 0,
            "note": "",
        }

    def run(self, wait: float) -> None:
        """Do everything. `wait`: seconds to wait for a certificate that is not there yet. Raises CertificateError."""
        if not self._directory():
            return
        end = time.monotonic() + wait
        for _round in range(AGAIN):
            before, pair = self._stamps(), self._source()
            while pair is None and time.monotonic() < end:
                time.sleep(PAUSE)
                before, pair = self._stamps(), self._source()
            self._keep(pair)
            # What changed meanwhile would start nobody again.
            if self._stamps() == before:
                break

    def _directory(self) -> bool:
        """Make the directory of the file; returns whether it is there."""
        directory, group = self.file.parent, self.config["group"]
        if self.check and not directory.is_dir():
            self.result["changed"] = True
            return False
        directory.mkdir(mode=0o700, exist_ok=True)
        state = directory.stat()
        if (state.st_gid, state.st_mode & 0o777) != (group, 0o750) and not self.check:
            os.chown(directory, -1, group)
            directory.chmod(0o750)
        return True

    def _stamps(self) -> list[int]:
        return [path.stat().st_mtime_ns if path.exists() else 0 for path in self.sources]

    def _source(self) -> Pair | None:
        config = self.config
        if config["acme"]:
            return from_acme(Path(config["acme"]), config["name"], self.scratch)
        return from_files(Path(config["certificate"]), Path(config["key"]), config["name"], self.scratch)

    def _keep(self, pair: Pair | None) -> None:
        """Have this certificate in the file and shown by coturn."""
        name = self.config["name"]
        if pair is None:
            if not self.file.exists():
                self._put(PLACEHOLDER)
            self.result["note"] = (
                f"There is no certificate for {name} yet, so TURN over TLS does not work. It is brought to coturn as "
                f"soon as Traefik has it: see what docker logs {self.config['traefik']} says of it."
            )
            return
        left = (pair.not_after - time.time()) / 86400
        self.result.update(not_after=pair.not_after, days=int(left // 1), note=self._age(left))
        if self._stored() != (pair.text, self.config["group"], 0o640):
            self._put(pair.text)
        seen = shown(self.config["address"], self.config["port"], name)
        self.result["state"] = "stopped" if seen is None else "served"
        if seen is not None and seen != pair.der:
            self._signal(pair)

    def _age(self, left: float) -> str:
        """Return what is to be said of a certificate with `left` days, "" for a good one."""
        what = f"The certificate for {self.config['name']}, with which coturn speaks TLS,"
        mend = (
            f"see what docker logs {self.config['traefik']} says of its renewal"
            if self.config["acme"]
            else "run the deployment with a new one"
        )
        if left < 0:
            return f"{what} ended {-left:.0f} days ago: {mend}."
        return f"{what} ends in {left:.0f} days: {mend}." if left < self.config["days"] else ""

    def _stored(self) -> tuple[str, int, int]:
        """Return content, group and mode of the file."""
        try:
            state = self.file.stat()
            return self.file.read_text(encoding="ascii"), state.st_gid, state.st_mode & 0o777
        except (OSError, ValueError):
            return "", -1, 0

    def _put(self, text: str) -> None:
        """Replace the file as a whole, so that certificate and key in it always belong together."""
        self.result["changed"] = True
        if not self.check:
            _write(self.scratch, text, self.config["group"], 0o640)
            self.scratch.replace(self.file)

    def _signal(self, pair: Pair) -> None:
        """Have coturn read the file, and wait until it shows the certificate."""
        self.result["signalled"] = True
        if self.check:
            return
        container, name = self._container()
        self._docker(f"The container {name} was expected to take SIGUSR2", "kill", "--signal", "USR2", container)
        end = time.monotonic() + SIGNAL_SECONDS
        while shown(self.config["address"], self.config["port"], self.config["name"]) != pair.der:
            if time.monotonic() > end:
                raise CertificateError(
                    f"coturn was expected to show the certificate of {self.file} on port {self.config['port']} within "
                    f"{SIGNAL_SECONDS} s of SIGUSR2 and does not: look at docker logs {name}."
                )
            time.sleep(PAUSE)

    def _docker(self, expected: str, *arguments: str) -> str:
        """Return what `docker` prints; raises CertificateError with what was expected when it fails."""
        try:
            done = subprocess.run(
                [self.config["docker"], *arguments], capture_output=True, text=True, check=False, timeout=60
            )
            problem = "" if done.returncode == 0 else done.stderr.strip() or "nothing"
        except (OSError, subprocess.SubprocessError) as error:
            problem = _reason(error)
        if problem:
            raise CertificateError(f"{expected}, but Docker said: {problem}. Look at docker ps -a.")
        return done.stdout

    def _container(self) -> tuple[str, str]:
        """Return id and name of our container: it has our label and our configuration, whatever it is called."""
        service = self.config["container"]
        label, mount = f"label=nextcloud-talk.hpb={service}", f"volume={self.file.parent.parent / 'config'}"
        expected = f"Docker was expected to tell which container is {service} of the backend"
        form = "{{.ID}} {{.Names}}"
        out = self._docker(expected, "ps", "--no-trunc", "--filter", label, "--filter", mount, "--format", form)
        for line in out.splitlines():
            container, _space, name = line.partition(" ")
            if name.endswith(service):
                return container, name
        raise CertificateError(
            f"No container {service} of the backend runs, expected one to take SIGUSR2: run the deployment."
        )


def main() -> int:
    """Do what the command line asks; returns the exit status."""
    parser = argparse.ArgumentParser(description="Bring the certificate for TURN over TLS to coturn.")
    parser.add_argument("config", type=Path)
    parser.add_argument(
        "--wait", type=float, default=0.0, help="seconds to wait for a certificate that is not there yet"
    )
    parser.add_argument("--check", action="store_true", help="say what would be done, and do nothing")
    options = parser.parse_args()
    with options.config.open(encoding="utf-8") as handle:
        # The unit and a deployment may run this at the same time.
        fcntl.flock(handle, fcntl.LOCK_EX)
        keeper = Keeper(json.load(handle), options.check)
        problem = ""
        try:
            keeper.run(options.wait)
        except CertificateError as error:
            problem = str(error)
        except OSError as error:
            problem = f"{error.filename or keeper.file} cannot be read or written ({error.strerror}): mend that."
    if problem or keeper.result["note"]:
        sys.stderr.write(f"{problem or keeper.result['note']}\n")
    sys.stdout.write(json.dumps(keeper.result) + "\n")
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
