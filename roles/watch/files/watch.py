# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watch the Talk backend on its own host: one run looks at everything once and tells what has changed.

    python3 watch.py CONFIG

CONFIG is a JSON file (0600, it may hold secrets) that the role writes; `Settings` names its keys. What the instances
are is read from deployed.json each time, their TURN secrets from secrets.json, so a deployment or a rotation needs no
word to the watcher. A check has a name, is well or not, and is not judged while what it needs is not well or cannot be
known: a stopped container is told once, not once for each thing that it served.

A state counts when it was seen in two runs in a row, in both directions. Exit code 0, whatever the checks say; 1 when
the watcher itself cannot work. Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import errno
import fcntl
import hashlib
import hmac
import http.client
import ipaddress
import json
import os
import re
import secrets
import shutil
import smtplib
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

SEEN = 2
TRIES = 3
SECONDS_APART = 60
# Of our containers, with the name of the service.
LABEL = "nextcloud-talk.hpb"
SITE = "run the playbook nextcloud_talk.hpb.site"

# RFC 8489, sections 5 and 14; RFC 8656, sections 16 to 18.
COOKIE = 0x2112A442
BINDING, ALLOCATE, REFRESH = 0x0001, 0x0003, 0x0004
ERROR_CODE, REALM, NONCE, USERNAME, INTEGRITY = 0x0009, 0x0014, 0x0015, 0x0006, 0x0008
LIFETIME, REQUESTED_TRANSPORT = 0x000D, 0x0019


class BrokenError(Exception):
    """The watcher itself cannot work; one sentence says why."""


class Trouble(Exception):  # noqa: N818 - what a check has found, no error of the program
    """A check is not well: `cause` is a sentence, `mend` what to do."""

    def __init__(self, cause: str, mend: str) -> None:
        super().__init__(cause)
        self.cause, self.mend = cause, mend


class NotJudged(Exception):  # noqa: N818
    """Nothing can be said about a check in this run; its state stays."""


@dataclass
class Check:
    """One thing to look at. `run` raises Trouble or NotJudged; `needs` are names of checks that must be well.

    `service`: that of the container that is looked at, whose name is known once it was.
    """

    name: str
    title: str
    run: Callable[[], None]
    needs: tuple[str, ...] = ()
    service: str = ""


@dataclass
class Finding:
    """What one run saw of a check. well: None = not judged."""

    title: str
    well: bool | None
    cause: str = ""
    mend: str = ""


@dataclass
class Settings:
    """The configuration; `raw` is the JSON document.

    Keys: host, base_dir, own_network (whether the programs are on the host's own network), state_dir, docker,
    containers, timeout (s), tls (acme, files, private_ca or proxy), signaling {url, address}, nats (URL of its
    monitor), janus {address, port}, turn {name, address, port, tls_port, name_443, allocation}, ca_files, resolve
    {name: address}, certificate_days, disk_free_mb, mail {to, from, host, port, starttls, user, password} or null,
    webhook {url, token} or null, textfile_dir.
    """

    raw: dict[str, Any]
    context: ssl.SSLContext
    instances: list[dict[str, Any]] = field(default_factory=list)
    turn_secrets: dict[str, str] = field(default_factory=dict)
    # What the checks learn besides: days left of each certificate, seconds by which each Nextcloud's clock is ahead.
    days: dict[str, float] = field(default_factory=dict)
    ahead: dict[str, float] = field(default_factory=dict)
    # What the container of each service is called.
    called: dict[str, str] = field(default_factory=dict)

    def name(self, service: str) -> str:
        return self.called.get(service, service)

    def docker(self, words: str) -> str:
        """Return a command of Docker's for the container of a service, which is the last of the words."""
        command, _space, service = words.rpartition(" ")
        return f"docker {command} {self.name(service)}"

    def __getitem__(self, key: str) -> Any:
        if key not in self.raw:
            raise BrokenError(f"the configuration has no {key}: run the playbook nextcloud_talk.hpb.watch.")
        return self.raw[key]


def reason(error: BaseException) -> str:
    """Return an error in a few words that hold nothing of what was sent."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message or "its certificate is not valid"
    if isinstance(error, ssl.SSLError):
        return (error.reason or "no TLS").lower().replace("_", " ")
    if isinstance(error, (socket.timeout, TimeoutError)):
        return "no answer in time"
    if isinstance(error, socket.gaierror):
        return "its name does not resolve"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[0].lower() + error.strerror[1:]
    return type(error).__name__


def connect(settings: Settings, host: str, port: int) -> socket.socket:
    """Return a TCP connection, with the fixed addresses of `resolve` before DNS."""
    return socket.create_connection((settings["resolve"].get(host, host), port), settings["timeout"])


def request(
    stream: socket.socket, host: str, path: str, method: str = "GET"
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Ask over an open connection; returns status, headers and at most 64 KiB of the body."""
    lines = f"{method} {path} HTTP/1.0\r\nHost: {host}\r\nUser-Agent: nextcloud-talk-hpb-watch\r\n\r\n"
    stream.sendall(lines.encode("ascii"))
    answer = http.client.HTTPResponse(stream, method=method)
    answer.begin()
    return answer.status, answer.headers, answer.read(65536)


def not_after(certificate: bytes) -> float:
    """Return when a DER certificate ends, in seconds since the epoch (RFC 5280, section 4.1).

    Python itself decodes only certificates that it has verified, and the days left of another one count too.
    """

    def element(at: int) -> tuple[int, int, int]:
        tag, length, at = certificate[at], certificate[at + 1], at + 2
        if length > 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(certificate[at : at + size], "big"), at + size
        return tag, at, at + length

    at = element(element(0)[1])[1]
    if element(at)[0] == 0xA0:
        at = element(at)[2]
    for _serial_signature_issuer in range(3):
        at = element(at)[2]
    before = element(element(at)[1])
    tag, start, end = element(before[2])
    text = certificate[start:end].decode("ascii")
    moment = datetime.datetime.strptime(text, "%y%m%d%H%M%SZ" if tag == 0x17 else "%Y%m%d%H%M%SZ")
    return moment.replace(tzinfo=datetime.timezone.utc).timestamp()


def certificate_of(settings: Settings, open_stream: Callable[[], socket.socket], name: str) -> bytes:
    """Return the certificate (DER) that is served, whether it is valid or not."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # Only to read it; that it is valid is judged elsewhere.
    with open_stream() as plain, context.wrap_socket(plain, server_hostname=name) as stream:
        return stream.getpeercert(binary_form=True) or b""


def judge_days(settings: Settings, name: str, what: str, certificate: bytes, mend: str) -> None:
    """Keep the days left of a certificate under `name`; raises Trouble when there are too few."""
    left = (not_after(certificate) - time.time()) / 86400
    settings.days[name] = round(left, 2)
    if left < 0:
        raise Trouble(f"The certificate of {what} ended {-left:.0f} days ago.", mend)
    if left < settings["certificate_days"]:
        raise Trouble(f"The certificate of {what} ends in {left:.0f} days.", mend)


def ask_docker(settings: Settings, *arguments: str) -> str:
    """Return what `docker` prints; what is gone meanwhile is left out."""
    mend = "systemctl restart docker"
    try:
        done = subprocess.run(
            [settings["docker"], *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=4 * settings["timeout"],
        )
    except subprocess.TimeoutExpired as error:
        raise Trouble("Docker does not answer.", mend) from error
    except OSError as error:
        raise Trouble(f"Docker cannot be asked ({reason(error)}).", SITE) from error
    if done.returncode != 0 and not re.search("no such (container|object)", done.stderr, re.IGNORECASE):
        raise Trouble("Docker does not answer.", mend)
    return done.stdout


def container_states(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return {service: State of docker inspect} of those of our containers that exist, and keep what each is called.

    Ours have our label and their configuration below our directory, whatever they are called: another application may
    have a container of the same name.
    """
    label = f"label={LABEL}"
    ids = ask_docker(settings, "ps", "--all", "--quiet", "--no-trunc", "--filter", label).split()
    form = "{{json .Name}}\t{{json .State}}\t{{json .Config.Labels}}\t{{json .HostConfig.Binds}}"
    states = {}
    lines = ask_docker(settings, "inspect", "--type", "container", "--format", form, *ids).splitlines() if ids else []
    for line in lines:
        name, state, labels, binds = (json.loads(part) for part in line.split("\t"))
        service, name = labels[LABEL], name.lstrip("/")
        place = str(Path(settings["base_dir"], service, "config"))
        if name.endswith(service) and place in [bind.split(":")[0] for bind in binds or []]:
            settings.called[service] = name
            states[service] = state
    return states


def judge_container(settings: Settings, states: dict[str, dict[str, Any]], service: str) -> None:
    """Raise Trouble unless the container of a service runs and is healthy."""
    if service not in states:
        raise Trouble(f"There is no container {service} of the backend.", SITE)
    state, name = states[service], settings.name(service)
    health = (state.get("Health") or {}).get("Status", "none")
    if state.get("Restarting"):
        raise Trouble(f"The container {name} ends again and again.", f"docker logs --tail 50 {name}")
    if not state.get("Running"):
        raise Trouble(
            f"The container {name} does not run ({state.get('Status', 'unknown')}, exit code "
            f"{state.get('ExitCode', 'unknown')}).",
            f"docker start {name}",
        )
    if state.get("Paused"):
        raise Trouble(f"The container {name} is paused.", f"docker unpause {name}")
    # Its program depends on NATS and calls itself unhealthy without it.
    if health != "healthy" and service == "signalling" and not (states.get("nats") or {}).get("Running"):
        raise NotJudged
    if health != "healthy":
        raise Trouble(f"The container {name} runs, but its health is: {health}.", f"docker restart {name}")


def open_signaling(settings: Settings) -> socket.socket:
    parts = urlsplit(settings["signaling"]["url"])
    address = settings["signaling"]["address"] or str(parts.hostname)
    return connect(settings, address, parts.port or 443)


def look_at_signaling(settings: Settings) -> None:
    """Ask for the welcome as a client does (strukturag/nextcloud-spreed-signaling, server/backend_server.go)."""
    parts = urlsplit(settings["signaling"]["url"])
    name, path = str(parts.hostname), parts.path.rstrip("/") + "/api/v1/welcome"
    asked = f"https://{name}{path}"
    ours = "traefik" in settings["containers"]
    try:
        with open_signaling(settings) as plain, settings.context.wrap_socket(plain, server_hostname=name) as stream:
            status, headers, body = request(stream, name, path)
    except ssl.SSLCertVerificationError as error:
        mend = SITE if ours else f"renew the certificate of {name} on your proxy"
        raise Trouble(f"The certificate of https://{name} is not valid ({reason(error)}).", mend) from error
    except (OSError, http.client.HTTPException) as error:
        mend = (
            settings.docker("restart traefik")
            if ours
            else f"start your proxy; curl -I {asked} on this host must reach it"
        )
        raise Trouble(f"{asked} does not answer ({reason(error)}).", mend) from error
    if status != 200 or b"nextcloud-spreed-signaling" not in body:
        mend = (
            settings.docker("logs --tail 50 traefik") if ours else "let your proxy pass on what its file in proxy/ says"
        )
        raise Trouble(f"{asked} answers {status}, expected the welcome of the signaling server.", mend)
    features = {word.strip() for word in (headers.get("X-Spreed-Signaling-Features") or "").split(",")}
    if "mcu" not in features:
        raise Trouble(
            "The signaling server is not connected to Janus (no mcu among its features).",
            settings.docker("restart janus"),
        )


def look_at_nats(settings: Settings) -> None:
    """The signaling server is the one client that NATS has (its monitor's /varz)."""
    parts = urlsplit(settings["nats"])
    try:
        with connect(settings, str(parts.hostname), parts.port or 80) as stream:
            status, _headers, body = request(stream, "localhost", "/varz")
        connections = int(json.loads(body)["connections"]) if status == 200 else None
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        raise Trouble(f"NATS does not answer ({reason(error)}).", settings.docker("restart nats")) from error
    if connections is None:
        raise Trouble(f"The monitor of NATS answers {status}, expected its counters.", settings.docker("restart nats"))
    if connections < 1:
        raise Trouble("The signaling server is not connected to NATS.", settings.docker("restart signalling"))


def look_at_janus(settings: Settings) -> None:
    """Janus answers a ping of its own protocol on the websocket (RFC 6455; janus.conf.meetecho.com/docs/rest)."""
    place = settings["janus"]
    upgrade = (
        "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: {base64.b64encode(secrets.token_bytes(16)).decode()}\r\n"
        "Sec-WebSocket-Protocol: janus-protocol\r\n\r\n"
    )
    try:
        with connect(settings, place["address"], place["port"]) as stream, stream.makefile("rb") as answers:
            stream.sendall(upgrade.encode("ascii"))
            status = answers.readline()
            while answers.readline().strip():
                pass
            pong = b""
            if b" 101 " in status:
                text = b'{"janus":"ping","transaction":"watch"}'
                # The mask of a client's frame may be anything, and of zeros it changes nothing.
                stream.sendall(bytes([0x81, 0x80 | len(text)]) + bytes(4) + text)
                _opcode, length = answers.read(2)
                pong = answers.read(length if length < 126 else int.from_bytes(answers.read(2), "big"))
                # The end is waited for, so that Janus sees no broken connection.
                with contextlib.suppress(OSError):
                    stream.sendall(b"\x88\x80" + bytes(4))
                    answers.read()
    except (OSError, ValueError) as error:
        raise Trouble(
            f"Janus does not answer on its websocket ({reason(error)}).", settings.docker("restart janus")
        ) from error
    if b'"pong"' not in pong:
        raise Trouble("Janus takes no ping on its websocket.", settings.docker("restart janus"))


def default_address() -> str:
    """Return the address that packets to the outside leave with; nothing is sent for it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


def turn_address(settings: Settings) -> str:
    return settings["turn"]["address"] or default_address()


def stun_message(kind: int, attributes: list[tuple[int, bytes]], key: bytes = b"") -> bytes:
    """Return a STUN message, with MESSAGE-INTEGRITY when there is a key (RFC 8489, section 14.5)."""
    body = b"".join(struct.pack("!HH", name, len(value)) + value + bytes(-len(value) % 4) for name, value in attributes)
    transaction = secrets.token_bytes(12)

    def head(length: int) -> bytes:
        return struct.pack("!HHI", kind, length, COOKIE) + transaction

    if not key:
        return head(len(body)) + body
    digest = hmac.new(key, head(len(body) + 24) + body, hashlib.sha1).digest()
    return head(len(body) + 24) + body + struct.pack("!HH", INTEGRITY, 20) + digest


def stun_ask(link: socket.socket, message: bytes, timeout: float) -> tuple[int, dict[int, bytes]]:
    """Send a STUN message over connected UDP, again when it is lost; returns the answer's type and attributes."""
    deadline, wait = time.monotonic() + timeout, 0.5
    while True:
        link.send(message)
        until = min(time.monotonic() + wait, deadline)
        while (left := until - time.monotonic()) > 0:
            link.settimeout(left)
            try:
                answer = link.recv(2048)
            except socket.timeout:
                break
            if len(answer) >= 20 and answer[4:20] == message[4:20]:
                return stun_read(answer)
        if time.monotonic() >= deadline:
            raise socket.timeout
        wait *= 2


def stun_read(answer: bytes) -> tuple[int, dict[int, bytes]]:
    attributes: dict[int, bytes] = {}
    at = 20
    while at + 4 <= len(answer):
        name, length = struct.unpack_from("!HH", answer, at)
        attributes.setdefault(name, answer[at + 4 : at + 4 + length])
        at += 4 + length + -length % 4
    return int.from_bytes(answer[:2], "big"), attributes


def udp(settings: Settings) -> socket.socket:
    address = (turn_address(settings), settings["turn"]["port"])
    family = socket.getaddrinfo(*address, type=socket.SOCK_DGRAM)[0][0]
    link = socket.socket(family, socket.SOCK_DGRAM)
    try:
        link.connect(address)
    except OSError:
        link.close()
        raise
    return link


def look_at_stun(settings: Settings) -> None:
    where = f"udp port {settings['turn']['port']}"
    try:
        with udp(settings) as link:
            kind, _attributes = stun_ask(link, stun_message(BINDING, []), settings["timeout"])
    except OSError as error:
        raise Trouble(
            f"coturn does not answer STUN on {where} ({reason(error)}).", settings.docker("restart coturn")
        ) from error
    if kind != 0x0101:
        raise Trouble(f"coturn refuses a STUN request on {where}.", settings.docker("logs --tail 50 coturn"))


def look_at_turn_tcp(settings: Settings) -> None:
    try:
        connect(settings, turn_address(settings), settings["turn"]["port"]).close()
    except OSError as error:
        raise Trouble(
            f"coturn takes no connection on tcp port {settings['turn']['port']} ({reason(error)}).",
            settings.docker("restart coturn"),
        ) from error


def look_at_allocation(settings: Settings, instance: str) -> None:
    """Ask for a relay address with a credential as Talk makes it (draft-uberti-behave-turn-rest), and give it back."""
    secret = settings.turn_secrets.get(instance)
    if not secret:
        raise NotJudged
    user = f"{int(time.time()) + 600}:watch"
    password = base64.b64encode(hmac.new(secret.encode(), user.encode(), hashlib.sha1).digest()).decode()
    transport = (REQUESTED_TRANSPORT, bytes([17, 0, 0, 0]))
    try:
        with udp(settings) as link:
            _kind, asked = stun_ask(link, stun_message(ALLOCATE, [transport]), settings["timeout"])
            realm, nonce = asked.get(REALM, b""), asked.get(NONCE, b"")
            # MD5 is what the protocol demands, RFC 8489 section 9.2.2.
            key = hashlib.md5(b":".join([user.encode(), realm, password.encode()])).digest()  # noqa: S324
            signed = [(USERNAME, user.encode()), (REALM, realm), (NONCE, nonce)]
            kind, answer = stun_ask(link, stun_message(ALLOCATE, [transport, *signed], key), settings["timeout"])
            if kind == 0x0103:
                stun_ask(link, stun_message(REFRESH, [(LIFETIME, bytes(4)), *signed], key), settings["timeout"])
                return
    except OSError as error:
        raise Trouble(
            f"coturn gives {instance} no relay address ({reason(error)}).", settings.docker("restart coturn")
        ) from error
    code = answer.get(ERROR_CODE, bytes(4))
    number = code[2] * 100 + code[3] if len(code) >= 4 else 0
    if number in (401, 441):
        raise Trouble(f"coturn does not know the TURN secret of {instance} ({number}).", SITE)
    raise Trouble(
        f"coturn gives {instance} no relay address (error {number}).", settings.docker("logs --tail 50 coturn")
    )


def look_at_signaling_certificate(settings: Settings) -> None:
    name = str(urlsplit(settings["signaling"]["url"]).hostname)
    try:
        certificate = certificate_of(settings, lambda: open_signaling(settings), name)
    except OSError as error:
        raise NotJudged from error
    renew = {
        "acme": settings.docker("logs --tail 50 traefik"),
        "proxy": f"renew the certificate of {name} on your proxy",
    }.get(settings["tls"], SITE)
    judge_days(settings, "signaling", f"https://{name}", certificate, renew)


def look_at_turn_certificate(settings: Settings) -> None:
    turn = settings["turn"]
    try:
        certificate = certificate_of(
            settings, lambda: connect(settings, turn_address(settings), turn["tls_port"]), turn["name"]
        )
    except OSError as error:
        raise Trouble(
            f"coturn does not speak TLS on port {turn['tls_port']} ({reason(error)}).",
            settings.docker("restart coturn"),
        ) from error
    judge_days(settings, "turn", turn["name"], certificate, SITE)


def look_at_turn_443_certificate(settings: Settings) -> None:
    """The certificate that Traefik serves under the name for TURN on port 443."""
    name = settings["turn"]["name_443"]
    try:
        certificate = certificate_of(settings, lambda: open_signaling(settings), name)
    except OSError as error:
        raise NotJudged from error
    judge_days(settings, "turn_443", name, certificate, settings.docker("logs --tail 50 traefik"))


def look_at_nextcloud(settings: Settings, instance: dict[str, Any]) -> None:
    """The certificate of a Nextcloud, as browsers and the signaling server meet it."""
    parts = urlsplit(instance["url"])
    name, port, key = str(parts.hostname), parts.port or 443, instance["id"]
    try:
        plain = connect(settings, name, port)
    except OSError as error:
        # One of somebody else may be behind a name or a firewall that only its own clients get through.
        if instance.get("optional") or not instance.get("register", True):
            raise NotJudged from error
        raise Trouble(
            f"The Nextcloud {key} does not answer at {instance['url']} ({reason(error)}).",
            f"start its web server, and see that this host reaches it: curl -I {instance['url']}",
        ) from error
    mend = f"renew the certificate on {name}"
    try:
        with plain, settings.context.wrap_socket(plain, server_hostname=name) as stream:
            certificate = stream.getpeercert(binary_form=True) or b""
            with contextlib.suppress(OSError, ValueError, TypeError, http.client.HTTPException):
                _status, headers, _body = request(stream, parts.netloc, f"{parts.path}/status.php", "HEAD")
                settings.ahead[key] = parsedate_to_datetime(headers["Date"]).timestamp() - time.time()
    except ssl.SSLCertVerificationError as error:
        with contextlib.suppress(OSError):
            certificate = certificate_of(settings, lambda: connect(settings, name, port), name)
            judge_days(settings, f"nextcloud/{key}", f"the Nextcloud {key}", certificate, mend)
        raise Trouble(
            f"The certificate of the Nextcloud {key} ({instance['url']}) is not valid here ({reason(error)}).",
            f"{mend}, or name its CA in hpb_ca_files",
        ) from error
    except OSError as error:
        raise Trouble(
            f"The Nextcloud {key} speaks no TLS at {instance['url']} ({reason(error)}).", "mend its web server"
        ) from error
    judge_days(settings, f"nextcloud/{key}", f"the Nextcloud {key}", certificate, mend)


def look_at_disk(settings: Settings) -> None:
    free = shutil.disk_usage(settings["base_dir"]).free // 2**20
    if free < settings["disk_free_mb"]:
        raise Trouble(
            f"{settings['base_dir']} has {free} MiB of free space, expected {settings['disk_free_mb']}.",
            "docker builder prune",
        )


# IPv4 networks that nobody in the internet reaches. What a name leads to there is what a name server of the LAN says.
INSIDE = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
)


def announced(text: str) -> tuple[list[str], str]:
    """Return at which addresses coturn listens, and the public one before them ("" without NAT), from its settings."""
    options: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, _equals, value = line.strip().partition("=")
        options.setdefault(name, []).append(value)
    return options.get("listening-ip", []), options.get("external-ip", [""])[0].partition("/")[0]


def astray(name: str, led: list[str], listening: list[str], public: str) -> tuple[str, str]:
    """Return why a name for TURN does not lead to where the backend is, and what to do; twice "" when it does.

    An address of the LAN, or of this machine alone, says nothing about where others are led.
    """
    ours = {public, *listening}
    inside = [ipaddress.ip_network(text) for text in INSIDE]
    for family, variable in ((4, "hpb_public_ip" if public else "hpb_media_ip"), (6, "hpb_media_ip6")):
        right = [one for one in ([public] if public and family == 4 else listening) if (":" in one) == (family == 6)]
        found = [ipaddress.ip_address(one.partition("%")[0]) for one in led]
        led_to = [
            str(one)
            for one in found
            if one.version == family
            and not (one.is_loopback or one.is_link_local)
            and (
                not any(one in network for network in inside)
                if family == 4
                else one in ipaddress.ip_network("2000::/3")
            )
        ]
        if right and led_to and not ours & set(led_to):
            return (
                f"{name} leads to {', '.join(led_to)}, but calls are told to come to {right[0]}.",
                f"when that is the new address of this host or of its router, set {variable}: {led_to[0]} for the "
                f"group hpb, if it is set there, and {SITE}; else correct the DNS record of {name}",
            )
    return "", ""


def has(address: str) -> bool:
    """Whether this host has the address: only then can a socket be bound to it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError as error:
        return error.errno != errno.EADDRNOTAVAIL
    return True


def look_at_address(settings: Settings) -> None:
    """The addresses that are deployed are still this host's, and the name for TURN still leads to them."""
    try:
        text = Path(settings["base_dir"], "coturn/config/turnserver.conf").read_text(encoding="utf-8")
    except OSError as error:
        raise NotJudged from error
    listening, public = announced(text)
    for address in listening:
        if not has(address):
            variable = "hpb_media_ip6" if ":" in address else "hpb_media_ip"
            raise Trouble(
                f"This host has no longer the address {address}, at which STUN, TURN and media are.",
                f"correct {variable} for the group hpb, if it is set there, and {SITE}",
            )
    name = settings["turn"]["name"]
    if name in settings["resolve"]:
        raise NotJudged
    try:
        led = sorted({str(answer[4][0]) for answer in socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM)})
    except (OSError, UnicodeError) as error:
        raise NotJudged from error
    cause, mend = astray(name, led, listening, public)
    if cause:
        raise Trouble(cause, mend)


def look_at_clock(settings: Settings) -> None:
    """TURN credentials and tokens carry times. When every Nextcloud that told its time differs, ours may be wrong."""
    if not settings.ahead:
        raise NotJudged
    least = min(settings.ahead.values(), key=abs)
    if abs(least) > SECONDS_APART:
        raise Trouble(
            f"The clock of this host is {abs(least):.0f} s {'behind' if least > 0 else 'ahead of'} that of every "
            "Nextcloud that answers.",
            "timedatectl set-ntp true",
        )


def checks(settings: Settings) -> tuple[list[Check], list[Check], list[Check]]:
    """Return all checks, in three rounds: the containers, what they serve, and what the second round's answers tell."""
    states: dict[str, dict[str, Any]] = {}

    def engine() -> None:
        states.update(container_states(settings))

    first = [Check("docker", "Docker", engine)]
    for name in settings["containers"]:
        first.append(
            Check(
                f"container/{name}",
                f"The container {name}",
                lambda name=name: judge_container(settings, states, name),  # type: ignore[misc]
                ("docker",),
                name,
            )
        )
    coturn = ("container/coturn",)
    second = [
        Check(
            "signaling",
            "The signaling server",
            lambda: look_at_signaling(settings),
            ("container/traefik", "container/signalling", "container/janus"),
        ),
        Check(
            "nats",
            "The signaling server's connection to NATS",
            lambda: look_at_nats(settings),
            ("container/nats", "container/signalling"),
        ),
        Check("janus", "The websocket of Janus", lambda: look_at_janus(settings), ("container/janus",)),
        Check("stun", "STUN", lambda: look_at_stun(settings), coturn),
        Check("turn_tcp", "TURN over tcp", lambda: look_at_turn_tcp(settings), coturn),
        Check("disk", "The disk", lambda: look_at_disk(settings)),
        # On private networks of Docker's every address of the host is theirs.
        *([Check("address", "The address", lambda: look_at_address(settings))] if settings["own_network"] else []),
        Check(
            "certificate/signaling",
            "The certificate of the signaling server",
            lambda: look_at_signaling_certificate(settings),
            ("container/traefik",),
        ),
    ]
    if settings["turn"]["tls_port"]:
        second.append(
            Check("certificate/turn", "The certificate of coturn", lambda: look_at_turn_certificate(settings), coturn)
        )
    if settings["turn"]["name_443"]:
        second.append(
            Check(
                "certificate/turn_443",
                "The certificate of TURN on port 443",
                lambda: look_at_turn_443_certificate(settings),
                ("container/traefik",),
            )
        )
    for instance in settings.instances:
        key = instance["id"]
        second.append(
            Check(
                f"nextcloud/{key}",
                f"The Nextcloud {key}",
                lambda instance=instance: look_at_nextcloud(settings, instance),  # type: ignore[misc]
            )
        )
        if settings["turn"]["allocation"]:
            second.append(
                Check(
                    f"turn/{key}",
                    f"The relay for {key}",
                    lambda key=key: look_at_allocation(settings, key),  # type: ignore[misc]
                    coturn,
                )
            )
    return first, second, [Check("clock", "The clock of this host", lambda: look_at_clock(settings))]


def look(settings: Settings) -> dict[str, Finding]:
    """Return what this run sees: {name of a check: Finding}."""
    found: dict[str, Finding] = {}

    def one(check: Check) -> Finding:
        if not all(found[name].well for name in check.needs if name in found):
            return Finding(check.title, None)
        try:
            check.run()
        except Trouble as trouble:
            return Finding(check.title, False, trouble.cause, trouble.mend)
        except NotJudged:
            return Finding(check.title, None)
        except BrokenError:
            raise
        except Exception as error:  # An answer that nobody has thought of must not silence the other checks.
            cause = f"{check.title} could not be judged ({type(error).__name__})."
            return Finding(check.title, False, cause, "run the playbook nextcloud_talk.hpb.verify")
        return Finding(f"The container {settings.name(check.service)}" if check.service else check.title, True)

    first, second, third = checks(settings)
    for check in first:
        found[check.name] = one(check)
    with ThreadPoolExecutor(max_workers=16) as pool:
        found.update(zip([check.name for check in second], pool.map(one, second)))
    for check in third:
        found[check.name] = one(check)
    return found


def compare(
    known: dict[str, Any], found: dict[str, Finding], now: float
) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Return the new states {check: {well, seen, since}} and the changes to tell.

    `seen` is in how many runs in a row the opposite of `well` was seen. A check that is new starts as well. Each
    change is {"check", "state" (failed or ok), "sentence", "mend"}.
    """
    states, changes = {}, []
    for name, finding in found.items():
        state = dict(known.get(name) or {"well": True, "seen": 0, "since": now})
        differs = finding.well is not None and finding.well != state["well"]
        state["seen"] = state["seen"] + 1 if differs else 0
        if state["seen"] >= SEEN:
            minutes = max(round((now - state["since"]) / 60), 1)
            sentence = finding.cause if not finding.well else f"{finding.title} is well again, after {minutes} min."
            changes.append(
                {
                    "check": name,
                    "state": "ok" if finding.well else "failed",
                    "sentence": sentence,
                    "mend": finding.mend,
                }
            )
            state = {"well": finding.well, "seen": 0, "since": now}
        states[name] = state
    return states, changes


def message_of(host: str, changes: list[dict[str, str]], now: float) -> dict[str, Any]:
    """Return one message for all changes of a run."""
    moment = datetime.datetime.fromtimestamp(now, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    lines = [f"Talk backend {host}, {moment}", ""]
    for change in changes:
        lines.append(f"{change['check']}: {change['sentence']}")
        if change["mend"]:
            lines.append(f"    To mend it: {change['mend']}")
    return {
        "id": secrets.token_hex(16),
        "body": {"host": host, "time": moment, "changes": changes, "text": "\n".join(lines) + "\n"},
    }


def post(settings: Settings, message: dict[str, Any]) -> str:
    """Deliver a message to the webhook; returns why that failed, or an empty text."""
    hook = settings["webhook"]
    parts = urlsplit(hook["url"])
    headers = {"Content-Type": "application/json", "Idempotency-Key": message["id"]}
    if hook["token"]:
        headers["Authorization"] = f"Bearer {hook['token']}"
    failed = ""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(attempt)
        link: http.client.HTTPConnection
        if parts.scheme == "https":
            link = http.client.HTTPSConnection(
                str(parts.hostname), parts.port, timeout=settings["timeout"], context=settings.context
            )
        else:
            link = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=settings["timeout"])
        try:
            # No redirection is followed: the token is for this address.
            link.request(
                "POST",
                (parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
                json.dumps(message["body"]).encode(),
                headers,
            )
            status = link.getresponse().status
            if 200 <= status < 300:
                return ""
            failed = f"it answers {status}"
        except (OSError, http.client.HTTPException, ValueError) as error:
            failed = reason(error)
        finally:
            link.close()
    return failed


def open_mail_server(settings: Settings) -> smtplib.SMTP:
    """Return a connection to the mail server; TLS from the first byte on port 465 (RFC 8314)."""
    given = settings["mail"]
    if given["port"] == 465:
        return smtplib.SMTP_SSL(given["host"], 465, timeout=settings["timeout"], context=settings.context)
    return smtplib.SMTP(given["host"], given["port"], timeout=settings["timeout"])


def mail(settings: Settings, message: dict[str, Any]) -> str:
    """Deliver a message by mail to those in message["to"]; who got it leaves that list. Returns why it failed."""
    given, body = settings["mail"], message["body"]
    letter = EmailMessage()
    changes = body["changes"]
    letter["Subject"] = f"[{body['host']}] " + (
        f"{changes[0]['check']}: {changes[0]['state']}" if len(changes) == 1 else f"{len(changes)} changes"
    )
    letter["From"], letter["To"] = given["from"], ", ".join(given["to"])
    moment = datetime.datetime.strptime(body["time"], "%Y-%m-%dT%H:%M:%SZ")
    letter["Date"] = format_datetime(moment.replace(tzinfo=datetime.timezone.utc), usegmt=True)
    letter["Message-ID"] = f"<{message['id']}@{body['host']}>"
    letter["Auto-Submitted"] = "auto-generated"
    letter.set_content(body["text"])
    try:
        with open_mail_server(settings) as server:
            if given["starttls"] and given["port"] != 465:
                server.starttls(context=settings.context)
            if given["user"]:
                server.login(given["user"], given["password"])
            refused = server.send_message(letter, to_addrs=message["to"])
            message["to"] = [address for address in message["to"] if address in refused]
    except smtplib.SMTPRecipientsRefused:
        return "it refuses every recipient"
    except (OSError, smtplib.SMTPException) as error:
        # What fails at QUIT is no matter: the letter is theirs by then.
        code = getattr(error, "smtp_code", None)
        return (f"it answers {code}" if code else reason(error)) if message["to"] else ""
    return f"it refuses {', '.join(message['to'])}" if message["to"] else ""


def deliver(settings: Settings, state: dict[str, Any], save: Callable[[], None]) -> None:
    """Send what waits, oldest first. What cannot be sent stays and is sent by the next run; each success is saved."""
    for channel, send, where in (("mail", mail, "the mail server"), ("webhook", post, "the webhook")):
        if not settings[channel]:
            state["waiting"][channel] = []
            continue
        waiting = state["waiting"].setdefault(channel, [])
        while waiting:
            failed = send(settings, waiting[0])
            if failed:
                known = state["silent"].get(channel)
                state["silent"][channel] = True
                save()
                if not known:
                    say(4, f"{where} takes no message: {failed}. {len(waiting)} wait and are sent again in each run.")
                break
            waiting.pop(0)
            save()
        else:
            if state["silent"].pop(channel, None):
                save()
                say(5, f"{where} takes messages again; all that waited were sent.")


def say(level: int, text: str) -> None:
    """Write a line for the journal, with its priority as systemd reads it (sd-daemon(3))."""
    print(f"<{level}>{text}", flush=True)


def write(path: Path, text: str, mode: int) -> None:
    """Replace a file as a whole."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(handle, "w", encoding="utf-8") as file:  # noqa: PTH123 - it is open already
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except OSError:
        Path(temporary).unlink()
        raise


def metrics(found: dict[str, Finding], days: dict[str, float], waiting: int, now: float) -> str:
    """Return the run in Prometheus' text format. A check that was not judged has no line."""
    lines = ["# HELP hpb_watch_check_ok Whether a check is well.", "# TYPE hpb_watch_check_ok gauge"]
    judged = ((name, finding) for name, finding in sorted(found.items()) if finding.well is not None)
    lines += [f'hpb_watch_check_ok{{check="{name}"}} {int(bool(finding.well))}' for name, finding in judged]
    lines += [
        "# HELP hpb_watch_certificate_days Days until a certificate ends.",
        "# TYPE hpb_watch_certificate_days gauge",
    ]
    lines += [f'hpb_watch_certificate_days{{name="{name}"}} {left}' for name, left in sorted(days.items())]
    lines += [
        "# HELP hpb_watch_waiting_messages Messages that could not be delivered yet.",
        "# TYPE hpb_watch_waiting_messages gauge",
        f"hpb_watch_waiting_messages {waiting}",
        "# HELP hpb_watch_last_run_timestamp_seconds When the watcher looked last.",
        "# TYPE hpb_watch_last_run_timestamp_seconds gauge",
        f"hpb_watch_last_run_timestamp_seconds {now:.0f}",
    ]
    return "\n".join(lines) + "\n"


def read_json(path: Path) -> Any:
    """Return a JSON file, or None if there is none. Raises BrokenError for one that cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise BrokenError(f"{path} cannot be read ({reason(error)}): {SITE}, then the playbook watch.") from error


def load(path: Path) -> Settings:
    """Return the configuration with the deployed instances."""
    raw = read_json(path)
    if raw is None:
        raise BrokenError(f"{path} is missing, expected the configuration: run the playbook nextcloud_talk.hpb.watch.")
    context = ssl.create_default_context()
    # Not every private CA writes the key identifiers that Python 3.13 and newer ask for.
    context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    settings = Settings(raw, context)
    for file in settings["ca_files"]:
        try:
            context.load_verify_locations(file)
        except OSError as error:
            raise BrokenError(
                f"{file} was expected to hold certificates of a CA (PEM) and does not ({reason(error)}): run the "
                "playbook nextcloud_talk.hpb.watch."
            ) from error
    base = Path(settings["base_dir"])
    deployed = read_json(base / "deployed.json") or {}
    settings.instances = [entry for entry in deployed.get("instances", []) if entry.get("state") != "absent"]
    entries = (
        (read_json(base / "secrets/secrets.json") or {}).get("instances", {}) if settings["turn"]["allocation"] else {}
    )
    settings.turn_secrets = {name: entry.get("turn", "") for name, entry in entries.items()}
    return settings


def run(settings: Settings) -> None:
    """Look once, keep the states, write the metrics, and tell what has changed."""
    path = Path(settings["state_dir"]) / "state.json"
    try:
        state = read_json(path) or {}
    except BrokenError as error:
        say(4, f"{error} It is begun anew, and what waited in it is lost.")
        state = {}
    state.setdefault("waiting", {})
    state.setdefault("silent", {})

    def save() -> None:
        write(path, json.dumps(state, indent=1) + "\n", 0o600)

    found, now = look(settings), time.time()
    state["checks"], changes = compare(state.get("checks", {}), found, now)
    if changes:
        message = message_of(settings["host"], changes, now)
        if settings["mail"]:
            state["waiting"].setdefault("mail", []).append({**message, "to": settings["mail"]["to"]})
        if settings["webhook"]:
            state["waiting"].setdefault("webhook", []).append(message)
    # Before anything is told: a run that is cut off must not tell it twice, nor forget it.
    save()
    for change in changes:
        mend = f" To mend it: {change['mend']}" if change["mend"] else ""
        say(5 if change["state"] == "ok" else 4, f"{change['check']} {change['state']}: {change['sentence']}{mend}")
    deliver(settings, state, save)
    if settings["textfile_dir"]:
        waiting = sum(len(messages) for messages in state["waiting"].values())
        write(Path(settings["textfile_dir"]) / "hpb_watch.prom", metrics(found, settings.days, waiting, now), 0o644)


def main() -> int:
    """Do one run; returns the exit code."""
    try:
        settings = load(Path(sys.argv[1]))
        with open(Path(settings["state_dir"]) / "lock", "w", encoding="utf-8") as lock:  # noqa: PTH123
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(5, "Another run of the watcher is under way; this one ends.")
                return 0
            run(settings)
    except BrokenError as error:
        say(3, f"The watcher cannot work: {error}")
    except (OSError, KeyError, TypeError, ValueError) as error:
        where = getattr(error, "filename", None)
        say(3, f"The watcher cannot work: {type(error).__name__}, {reason(error)}{f' ({where})' if where else ''}.")
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
