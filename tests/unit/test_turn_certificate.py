# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program that brings the certificate to coturn, as a real process with a TLS server in coturn's place."""

from __future__ import annotations

import base64
import datetime
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PROGRAM = Path(__file__).resolve().parents[2] / "roles/coturn/files/turn_certificate.py"
NAME = "turn.example.org"
DAY = datetime.timedelta(days=1)

# What coturn does: it opens its port with whatever it finds, keeps its certificate when a new one cannot be used, and
# reads the file again on SIGUSR2 only.
SERVER = """
import signal, socket, ssl, sys
path, port = sys.argv[1], int(sys.argv[2])
current = [ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)]
def load(*_):
    fresh = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        fresh.load_cert_chain(path)
    except (OSError, ssl.SSLError):
        return
    current[0] = fresh
load()
signal.signal(signal.SIGUSR2, load)
listener = socket.create_server(("127.0.0.1", port))
print("ready", flush=True)
while True:
    plain, _ = listener.accept()
    try:
        with plain, current[0].wrap_socket(plain, server_side=True) as stream:
            stream.recv(1)
    except OSError:
        pass
"""


def pem_pair(names: list[str], days: float, *, other_key: bool = False) -> tuple[str, str]:
    """Return a certificate and its key (PEM) that ends in `days` days; with other_key, the key of another one."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.timezone.utc)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "leaf")])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 100 * DAY)
        .not_valid_after(now + days * DAY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    )
    shown = ec.generate_private_key(ec.SECP256R1()) if other_key else key
    forms = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return made.public_bytes(forms[0]).decode(), shown.private_bytes(*forms).decode()


def acme(*pairs: tuple[str, str]) -> str:
    """Return a file of Traefik with these certificates."""
    entries = [
        {"domain": {"main": "x"}, "Store": "default"}
        | {key: base64.b64encode(text.encode()).decode() for key, text in zip(("certificate", "key"), pair)}
        for pair in pairs
    ]
    return json.dumps({"letsencryptresolver": {"Account": {"Email": "a@example.org"}, "Certificates": entries or None}})


class Bed:
    """A directory with the configuration, Traefik's file, and a coturn that is signalled by a `docker`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.acme, self.file = folder / "acme.json", folder / "tls/turn.pem"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.config = {
            "acme": str(self.acme),
            "certificate": "",
            "key": "",
            "name": NAME,
            "file": str(self.file),
            "group": os.getgid(),
            "address": "127.0.0.1",
            "port": self.port,
            "container": "coturn",
            "traefik": "hpb-traefik",
            "docker": str(folder / "docker"),
            "days": 14,
        }
        self.server: subprocess.Popen | None = None
        self.docker('kill -s USR2 "$(cat pid)"')

    def docker(self, does: str) -> None:
        """Have `docker` list the container that is kept and the one that runs, note other arguments and do this."""
        path = self.folder / "docker"
        form = "{{.ID}} {{.Names}}"
        filters = f"--filter label=nextcloud-talk.hpb=coturn --filter volume={self.folder}/config"
        asked = f"ps --no-trunc {filters} --format {form}"
        path.write_text(
            f'#!/bin/sh\ncd {self.folder}\nif [ "$*" = "{asked}" ]; then cat containers; exit; fi\n'
            f'echo "$@" >> said\n{does}\n'
        )
        (self.folder / "containers").write_text("0 hpb-coturn-previous\n1 hpb-coturn\n")
        path.chmod(0o755)

    def said(self) -> list[str]:
        path = self.folder / "said"
        return path.read_text().splitlines() if path.exists() else []

    def start(self) -> None:
        """Start the server, as coturn is started after the first run of the program."""
        self.server = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(self.file), str(self.port)], stdout=subprocess.PIPE, text=True
        )
        assert self.server.stdout.readline() == "ready\n"
        (self.folder / "pid").write_text(str(self.server.pid))

    def argv(self, *arguments: str) -> list[str]:
        (self.folder / "config.json").write_text(json.dumps(self.config))
        return [sys.executable, str(PROGRAM), str(self.folder / "config.json"), *arguments]

    def run(self, *arguments: str, code: int = 0) -> dict:
        """Run the program; returns its result with what it said on standard error."""
        done = subprocess.run(self.argv(*arguments), capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == code, done.stderr
        assert "PRIVATE KEY" not in done.stdout + done.stderr
        return {**json.loads(done.stdout.splitlines()[-1]), "error": done.stderr.strip()}

    def shown(self) -> str:
        """Return the certificate (PEM) that the server shows."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection(("127.0.0.1", self.port), 5) as plain, context.wrap_socket(plain) as stream:
            return ssl.DER_cert_to_PEM_cert(stream.getpeercert(binary_form=True))


@pytest.fixture
def bed(tmp_path):
    made = Bed(tmp_path)
    yield made
    if made.server:
        made.server.kill()
        made.server.wait()


@pytest.mark.parametrize(
    "content",
    [None, "", "{}", "null", acme(), '{"one": null}', acme(pem_pair(["other.example.org"], 60))],
    ids=["no file", "empty", "no resolver", "null", "no certificate", "no account", "another name"],
)
def test_without_a_certificate_coturn_gets_a_file_to_start_with(bed, content):
    if content is not None:
        bed.acme.write_text(content)
    first = bed.run()
    assert (first["changed"], first["state"], first["days"]) == (True, "waiting", 0)
    assert first["error"] == first["note"]
    assert f"There is no certificate for {NAME} yet" in first["note"]
    assert bed.file.read_text() == "No certificate yet.\n"
    bed.start()
    second = bed.run()
    assert (second["changed"], second["signalled"], bed.said()) == (False, False, [])


def test_a_certificate_and_each_renewal_reach_coturn_once(bed):
    bed.run()
    bed.start()
    old, new = pem_pair([NAME], 60), pem_pair(["mail.example.org", NAME.upper()], 89.5)
    bed.acme.write_text(acme(pem_pair(["talk.example.org"], 99), old))
    assert bed.run() | {"not_after": 0, "error": ""} == {
        "changed": True,
        "signalled": True,
        "state": "served",
        "not_after": 0,
        "days": 59,
        "note": "",
        "error": "",
    }
    assert bed.shown() == old[0]
    assert bed.file.read_text() == "".join(old)
    state = bed.file.stat()
    assert (state.st_mode & 0o777, bed.file.parent.stat().st_mode & 0o777) == (0o640, 0o750)
    again = bed.run()
    assert (again["changed"], again["signalled"], bed.file.stat().st_ino) == (False, False, state.st_ino)

    # Traefik keeps an old one beside the new one for a while; the one that ends last counts.
    bed.acme.write_text(acme(new, old))
    renewed = bed.run()
    assert (renewed["changed"], renewed["signalled"], renewed["days"]) == (True, True, 89)
    assert bed.shown() == new[0]
    assert bed.said() == ["kill --signal USR2 1"] * 2
    assert [path.name for path in bed.file.parent.iterdir()] == ["turn.pem"]


def test_what_was_cut_off_before_the_signal_is_completed(bed):
    old, new = pem_pair([NAME], 20), pem_pair([NAME], 89)
    bed.acme.write_text(acme(old))
    bed.run()
    bed.start()
    bed.acme.write_text(acme(new))
    bed.file.write_text("".join(new))
    bed.file.chmod(0o640)
    result = bed.run()
    assert (result["changed"], result["signalled"]) == (False, True)
    assert bed.shown() == new[0]


def test_a_run_that_is_killed_leaves_one_certificate_or_the_other(bed):
    pairs = [pem_pair([NAME], 20 + number) for number in range(12)]
    bed.acme.write_text(acme(pairs[0]))
    bed.run()
    bed.start()
    whole = {"".join(pair) for pair in pairs}
    ended = 0
    for number, pair in enumerate(pairs):
        bed.acme.write_text(acme(pair))
        process = subprocess.Popen(bed.argv(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.02 * (number + 1))
        process.send_signal(signal.SIGKILL)
        ended += process.wait() == -signal.SIGKILL
        assert bed.file.read_text() in whole
    assert ended > 0
    assert bed.run()["state"] == "served"
    assert bed.shown() == pairs[-1][0]
    assert [path.name for path in bed.file.parent.iterdir()] == ["turn.pem"]


def test_a_wildcard_holds_for_one_label(bed):
    bed.acme.write_text(acme(pem_pair(["*.org"], 60)))
    assert bed.run()["state"] == "waiting"
    bed.acme.write_text(acme(pem_pair(["*.example.org"], 60)))
    assert bed.run()["state"] == "stopped"


def test_it_waits_for_a_first_certificate(bed):
    bed.run()
    bed.start()
    pair = pem_pair([NAME], 60)
    timer = threading.Timer(1, lambda: bed.acme.write_text(acme(pair)))
    timer.start()
    assert bed.run("--wait", "30")["state"] == "served"
    assert bed.shown() == pair[0]


def test_half_a_file_is_read_again(bed):
    text = acme(pem_pair([NAME], 60))
    bed.acme.write_text(text[: len(text) // 2])
    timer = threading.Timer(1, lambda: bed.acme.write_text(text))
    timer.start()
    assert bed.run()["days"] == 59


@pytest.mark.parametrize(
    ("days", "note"),
    [
        (13.2, "ends in 13 days: see what docker logs hpb-traefik says of its renewal."),
        (-3.1, "ended 3 days ago: see what docker logs hpb-traefik says of its renewal."),
        (14.5, ""),
    ],
)
def test_an_old_certificate_is_told_and_used(bed, days, note):
    pair = pem_pair([NAME], days)
    bed.acme.write_text(acme(pair))
    said = bed.run()["note"]
    assert said == (f"The certificate for {NAME}, with which coturn speaks TLS, {note}" if note else "")
    assert bed.file.read_text() == "".join(pair)


def files(bed: Bed, certificate: str, key: str) -> None:
    """Have the certificate come from two files instead of Traefik's."""
    bed.config.update(acme="", certificate=str(bed.folder / "fullchain.pem"), key=str(bed.folder / "key.pem"))
    (bed.folder / "fullchain.pem").write_text(certificate)
    (bed.folder / "key.pem").write_text(key)


def test_own_files_are_used_as_well(bed):
    pair = pem_pair([NAME], 60)
    files(bed, *pair)
    bed.run()
    bed.start()
    renewed = pem_pair([NAME], 5)
    files(bed, *renewed)
    result = bed.run()
    assert (result["changed"], result["signalled"]) == (True, True)
    assert result["note"].endswith("ends in 5 days: run the deployment with a new one.")
    assert bed.shown() == renewed[0]


@pytest.mark.parametrize(
    ("certificate", "key", "problem"),
    [
        (
            *pem_pair(["talk.example.org"], 60),
            f"is for talk.example.org, expected also {NAME}, the name for TURN over TLS",
        ),
        (
            *pem_pair([NAME], 60, other_key=True),
            "and its key cannot be used (KEY_VALUES_MISMATCH), expected a chain (PEM)",
        ),
        (pem_pair([NAME], 60)[0], "nothing", "and its key cannot be used"),
        ("nothing", pem_pair([NAME], 60)[1], "holds no certificate, expected a chain (PEM)"),
        ("Schl\u00fcssel", "", "cannot be read"),
    ],
    ids=["name", "key", "no key", "no certificate", "no text"],
)
def test_what_cannot_be_used_changes_nothing(bed, certificate, key, problem):
    good = pem_pair([NAME], 60)
    files(bed, *good)
    bed.run()
    bed.start()
    files(bed, certificate, key)
    result = bed.run(code=1)
    assert problem in result["error"]
    assert (result["changed"], result["signalled"], bed.said()) == (False, False, [])
    assert bed.file.read_text() == "".join(good)
    assert bed.shown() == good[0]


def test_a_file_that_is_not_traefiks_is_named(bed):
    bed.acme.write_text("[1]")
    assert (
        "expected to be Traefik's file of ACME certificates (JSON) and is not (AttributeError)"
        in bed.run(code=1)["error"]
    )
    assert not bed.file.exists()


def test_a_dry_run_says_what_it_would_do(bed):
    bed.acme.write_text(acme(pem_pair([NAME], 60)))
    assert bed.run("--check")["changed"] is True
    assert not bed.file.parent.exists()
    bed.run()
    bed.start()
    before = bed.file.read_text()
    assert bed.run("--check")["changed"] is False
    bed.acme.write_text(acme(pem_pair([NAME], 61)))
    result = bed.run("--check")
    assert (result["changed"], result["signalled"]) == (True, True)
    assert (bed.file.read_text(), bed.said()) == (before, [])


def test_a_signal_that_fails_is_told(bed):
    bed.run()
    bed.start()
    bed.acme.write_text(acme(pem_pair([NAME], 60)))
    bed.docker("echo 'No such container: coturn' >&2; exit 1")
    said = "The container hpb-coturn was expected to take SIGUSR2, but Docker said: No such container: coturn. Look at"
    assert said in bed.run(code=1)["error"]


def test_a_container_of_others_gets_no_signal(bed):
    bed.run()
    bed.start()
    bed.acme.write_text(acme(pem_pair([NAME], 60)))
    # Docker lists those with our label and our configuration.
    (bed.folder / "containers").write_text("0 hpb-coturn-previous\n")
    assert "No container coturn of the backend runs, expected one to take SIGUSR2" in bed.run(code=1)["error"]
    assert bed.said() == []


@pytest.mark.long
def test_a_signal_without_effect_is_told(bed):
    bed.run()
    bed.start()
    bed.acme.write_text(acme(pem_pair([NAME], 60)))
    bed.docker("true")
    assert f"on port {bed.port} within 10 s of SIGUSR2 and does not" in bed.run(code=1)["error"]
