# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the doctor's modules see: readers of logs, settings and rules, and small requests to servers.

The readers are pure. A request never raises for what a server or the network does: that is what it returns.
"""

from __future__ import annotations

import contextlib
import errno
import html
import http.client
import os
import re
import socket
import ssl
import struct
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _logs, _ordinary

LOOPBACK = "127.0.0.1"
MASK = "********"
# Shorter ones are words of any log; ours have 32 characters and more.
SHORTEST_SECRET = 8
LINE_LENGTH = 300
# Frames that the signaling server sends on each new websocket by itself: its welcome, and a ping.
GREETINGS = 2
# Seconds for each of them.
GREETING_SECONDS = 2
# Of a page no more is read than what its title stands in.
PAGE_BYTES = 64 * 1024
# Headers of a Nextcloud's answer that say who answers, or what its pages may do.
COUNTING_HEADERS = (
    "www-authenticate",
    "cf-mitigated",
    "x-nextcloud-maintenance-mode",
    "content-security-policy",
    "permissions-policy",
    "feature-policy",
)

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_NAMED_SECRET = re.compile(r"(?i)\b(secret|password|passwd|token|apikey|credential)(\"?\s*[:=]\s*\"?)([^\s\"',;]+)")
_URL_PASSWORD = re.compile(r"://[^/\s:@]+:[^/\s@]+@")
_LONG_WORD = re.compile(r"(?<![\w/-])[A-Za-z0-9_=+-]{32,}")
_RELEVANT = re.compile(
    r"(?i)\b(err|error|errors|fail|failed|failure|fatal|panic|warn|warning|wrn|denied|refused|refuses|forbidden|timeout|"
    r"unable|cannot|can't|could not|invalid|unknown authority|x509|too many|throttl\w*|killed|oom|waiting for|"
    r"out of memory|does not match|not responding|unreachable|exceeded)\b"
)

# By what an answer is known: to one of Nextcloud's interfaces, its refusal of a name, and a signaling server's welcome.
MARKS = {
    "ocs": re.compile(r'"ocs"|<ocs>|CSRF check failed'),
    "untrusted": re.compile(r"(?i)trusted domain error|untrusted domain"),
    "welcome": re.compile(r'"nextcloud-spreed-signaling"'),
}

# Flags of OpenSSL (x509_vfy.h) that Python names only in part: a certificate counts as its own authority, at any time.
_PARTIAL_CHAIN = 0x80000
_NO_CHECK_TIME = 0x200000


# --- readers -------------------------------------------------------------------------------------------------------


def masked(text: str, secrets: Iterable[str] = ()) -> str:
    """Return text without these secrets, and without what looks like one (session ids included)."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= SHORTEST_SECRET:
            text = text.replace(secret, MASK)
    text = _URL_PASSWORD.sub(f"://{MASK}@", text)
    text = _NAMED_SECRET.sub(rf"\1\2{MASK}", text)
    return _LONG_WORD.sub(MASK, text)


def log_tail(container: str, text: str, secrets: Iterable[str] = (), count: int = 6) -> list[str]:
    """Return the last `count` lines that tell of trouble, or the last three when none does; masked."""
    lines = [line for line in (line.strip() for line in _COLOURS.sub("", text).splitlines()) if line]
    usual = _ordinary.ordinary(container, [_logs.behind_the_stamp(container, line) for line in lines])
    lines = [line for line, known in zip(lines, usual) if not known]
    chosen = [line for line in lines if _RELEVANT.search(line)][-count:] or lines[-3:]
    return [masked(line, secrets)[:LINE_LENGTH] for line in chosen]


def container(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return what counts of an entry of ``docker inspect`` (Docker Engine API, ContainerInspect)."""
    state = entry.get("State") or {}
    health = state.get("Health") or {}
    last = (health.get("Log") or [{}])[-1]
    return {
        "name": str(entry.get("Name", "")).lstrip("/"),
        "state": str(state.get("Status") or "unknown"),
        "health": str(health.get("Status") or ""),
        "health_output": str(last.get("Output") or "").strip()[:LINE_LENGTH] if last.get("ExitCode") else "",
        "exit_code": int(state.get("ExitCode") or 0),
        "oom_killed": bool(state.get("OOMKilled")),
        "error": str(state.get("Error") or ""),
        "started_at": str(state.get("StartedAt") or ""),
        "finished_at": str(state.get("FinishedAt") or ""),
        "restarts": int(entry.get("RestartCount") or 0),
        "restart_policy": str(((entry.get("HostConfig") or {}).get("RestartPolicy") or {}).get("Name") or ""),
        "image": str((entry.get("Config") or {}).get("Image") or ""),
    }


def containers(ours: Mapping[str, Mapping[str, Any]], services: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the state of each service's container, of those that `_record.ours` found; another one is missing."""
    missing = {**container({}), "state": "missing"}
    return {name: container(ours[name]) if name in ours else {**missing, "name": name} for name in services}


def jcfg_setting(text: str, name: str) -> str:
    """Return an option of a Janus configuration file as text, "" when it is not set."""
    match = re.search(rf"^\s*{re.escape(name)}\s*=\s*\"?([^\"\n]*?)\"?\s*$", text, re.MULTILINE)
    return match.group(1).strip() if match else ""


def turn_options(text: str) -> dict[str, list[str]]:
    """Return the options of a turnserver.conf with all their values."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and not name.startswith("#"):
            found.setdefault(name.strip(), []).append(value.strip())
    return found


def span(text: str) -> tuple[str, int, int] | None:
    """Return protocol, first and last port of a text such as `udp 20000-29999`, None when there is no port in it."""
    found = re.fullmatch(r"(udp|tcp) ([1-9]\d*)(?:-([1-9]\d*))?", text)
    return (found.group(1), int(found.group(2)), int(found.group(3) or found.group(2))) if found else None


def session_limits(metrics: str) -> dict[str, dict[str, int]]:
    """Return each backend's sessions, limit and refusals from the signaling server's metrics.

    The sessions that count are those of clients and of federation, not internal and virtual ones (upstream's
    docs/prometheus-metrics.md and talk/backend.go).
    """
    found: dict[str, dict[str, int]] = {}
    for name, labels, value in re.findall(r"^(signaling_\w+)\{([^}]*)\} ([0-9.e+]+)$", metrics, re.MULTILINE):
        label = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        entry = (
            found.setdefault(label["backend"], {"sessions": 0, "limit": 0, "refused": 0}) if "backend" in label else {}
        )
        if name == "signaling_backend_session_limit":
            entry["limit"] = int(float(value))
        elif name == "signaling_backend_session_limit_exceeded_total":
            entry["refused"] = int(float(value))
        elif name == "signaling_hub_sessions" and label.get("clienttype") in ("client", "federation"):
            entry["sessions"] += int(float(value))
    return found


def wget_outcome(code: int, output: str, errors: str) -> dict[str, Any]:
    """Return what busybox' ``wget -S`` came to: kind, HTTP status (0: none), address, text, and what answered.

    kind is "" for an answer, else name, refused, timeout, unreachable, tls, or other.
    """
    status = re.findall(r"HTTP/\S+ (\d{3})", errors)
    address = re.findall(r"Connecting to \S+ \(\[?([0-9a-fA-F.:]+?)\]?:\d+\)", errors)
    address += re.findall(r"remote host \(\[?([0-9a-fA-F.:]+?)\]?\)", errors)
    said = [line.strip() for line in errors.splitlines() if line.strip().startswith("wget: ") and "note:" not in line]
    text = said[-1][len("wget: ") :] if said else ""
    result = {
        "kind": "",
        "status": int(status[-1]) if status else 0,
        "address": address[-1] if address else "",
        "text": text[:LINE_LENGTH],
        "maintenance": bool(re.search(r"(?i)x-nextcloud-maintenance-mode: *1", errors)),
        "nextcloud": '"ocs"' in output,
    }
    if result["status"]:
        return result
    known = (
        ("bad address", "name"),
        ("Connection refused", "refused"),
        ("timed out", "timeout"),
        ("unreachable", "unreachable"),
        ("No route", "unreachable"),
        ("TLS", "tls"),
        ("ssl", "tls"),
        ("certificate", "tls"),
    )
    kind = next((kind for word, kind in known if word in text), "timeout" if code in (124, 143) else "other")
    return {**result, "kind": kind, "text": text or f"no answer (code {code})"}


def host_addresses(trie: str, inet6: str) -> list[str]:
    """Return a host's own addresses without loopback, from /proc/net/fib_trie and /proc/net/if_inet6."""
    found = re.findall(r"\|-- ([0-9.]+)\n\s+/32 host LOCAL", trie)
    for line in inet6.splitlines():
        fields = line.split()
        # The fourth column is the scope: 00 is global (Linux' include/net/ipv6.h).
        if len(fields) > 3 and fields[3] == "00":
            found.append(socket.inet_ntop(socket.AF_INET6, bytes.fromhex(fields[0])))
    return sorted({address for address in found if not address.startswith("127.")})


def arriving(routes: str, routes6: str) -> str:
    """Return the interface of the default route, from /proc/net/route and /proc/net/ipv6_route; "" without one."""
    for line in routes.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7 and fields[1] == fields[7] == "00000000":
            return fields[0]
    for line in routes6.splitlines():
        fields = line.split()
        if len(fields) > 9 and fields[1] == "00" and fields[9] != "lo" and not fields[0].strip("0"):
            return fields[9]
    return ""


def pinned(hosts: str) -> dict[str, str]:
    """Return the names of an /etc/hosts with their first addresses."""
    found: dict[str, str] = {}
    for line in hosts.splitlines():
        fields = line.partition("#")[0].split()
        for name in fields[1:]:
            found.setdefault(name.lower(), fields[0])
    return found


def hosts_file(name: str, path: Path = Path("/etc/hosts")) -> str:
    """Return the address that this host's own file has for a name, "" when it has none or cannot be read."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return pinned(text).get(name.lower(), "")


# --- requests ------------------------------------------------------------------------------------------------------


def network_kind(error: BaseException) -> str:
    """Return a short name for why a connection did not come about."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return certificate_kind(error.verify_code)
    if isinstance(error, ssl.SSLError):
        return "tls"
    if isinstance(error, socket.gaierror):
        return "name"
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    # Before Python 3.10 the two are not one.
    if isinstance(error, (TimeoutError, socket.timeout)):
        return "timeout"
    if isinstance(error, OSError) and error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        return "unreachable"
    return "other"


def certificate_kind(code: int) -> str:
    """Return a short name for OpenSSL's verification code (x509_vfy.h)."""
    known = {9: "not_yet_valid", 10: "expired", 18: "unknown_ca", 19: "unknown_ca", 20: "unknown_ca", 21: "unknown_ca"}
    return {**known, 62: "wrong_name", 64: "wrong_name"}.get(code, "certificate")


def reason(error: BaseException) -> str:
    """Return what an exception says, on one line."""
    text = getattr(error, "verify_message", "") or getattr(error, "strerror", "") or str(error) or type(error).__name__
    return " ".join(str(text).split())[:LINE_LENGTH]


def resolve(name: str) -> tuple[list[str], str]:
    """Return the addresses of a name as this host sees it, and the error when it has none."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return [], reason(error)
    return sorted({str(entry[4][0]) for entry in found}), ""


def trust(ca_file: str = "") -> ssl.SSLContext:
    """Return a context with the system's authorities, and those of a file that may not be there or be empty."""
    context = ssl.create_default_context()
    with contextlib.suppress(OSError, ValueError):
        if ca_file and Path(ca_file).read_text(encoding="ascii").strip():
            context.load_verify_locations(cafile=ca_file)
    return context


@contextlib.contextmanager
def secured(address: str, port: int, name: str, context: ssl.SSLContext, timeout: float) -> Iterator[ssl.SSLSocket]:
    """Connect with TLS for `name` to an address. Raises OSError and ValueError."""
    connection = socket.create_connection((address, port), timeout)
    with connection, context.wrap_socket(connection, server_hostname=name) as wrapped:
        yield wrapped


def tls(address: str, port: int, name: str, context: ssl.SSLContext, timeout: float) -> dict[str, str]:
    """Return {"kind", "text"} of a TLS handshake that verifies the certificate for `name`; kind "" is a good one."""
    try:
        with secured(address, port, name, context, timeout):
            return {"kind": "", "text": ""}
    except (OSError, ValueError) as error:
        return {"kind": network_kind(error), "text": reason(error)}


def certificate(address: str, port: int, name: str, timeout: float) -> dict[str, Any]:
    """Return the certificate that a server shows for `name`, valid or not: names, issuer and times in Unix seconds."""
    empty = {"error": "", "kind": "", "names": [], "issuer": "", "not_before": 0.0, "not_after": 0.0}
    try:
        with secured(address, port, name, blind(), timeout) as connection:
            shown = ssl.DER_cert_to_PEM_cert(connection.getpeercert(binary_form=True) or b"")
        # Python decodes only certificates that it has verified, so this one is made its own authority.
        seeing = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        seeing.check_hostname = False
        seeing.load_verify_locations(cadata=shown)
        seeing.verify_flags = ssl.VerifyFlags(int(seeing.verify_flags) & ~0x20 | _PARTIAL_CHAIN | _NO_CHECK_TIME)
        with secured(address, port, name, seeing, timeout) as connection:
            fields: Any = connection.getpeercert() or {}
    except (OSError, ValueError) as error:
        return {**empty, "error": reason(error), "kind": network_kind(error)}
    issuer = {key: value for part in fields.get("issuer", ()) for key, value in part}
    return {
        **empty,
        "names": [value for kind, value in fields.get("subjectAltName", ()) if kind in ("DNS", "IP Address")],
        "issuer": issuer.get("organizationName") or issuer.get("commonName") or "",
        "not_before": float(ssl.cert_time_to_seconds(fields["notBefore"])),
        "not_after": float(ssl.cert_time_to_seconds(fields["notAfter"])),
    }


def http_request(
    connection: http.client.HTTPConnection,
    path: str,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> dict[str, Any]:
    """Return {"kind", "text", "status", "headers", "body"} of a GET, or of a POST when there is a body."""
    empty: dict[str, Any] = {"kind": "", "text": "", "status": 0, "headers": {}, "body": ""}
    try:
        connection.request("GET" if body is None else "POST", path, body=body, headers=dict(headers or {}))
        response = connection.getresponse()
        received = {name.lower(): value for name, value in response.getheaders()}
        text = response.read(1024 * 1024).decode("utf-8", "replace")
        return {**empty, "status": response.status, "headers": received, "body": text}
    except (OSError, http.client.HTTPException, ValueError) as error:
        return {**empty, "kind": network_kind(error), "text": reason(error)}
    finally:
        connection.close()


class Place(NamedTuple):
    """Where a request goes: `name` is whom it is meant for; without a context it is http. Seconds count per step."""

    address: str
    port: int
    name: str
    context: ssl.SSLContext | None
    seconds: float


def ask(place: Place, path: str, headers: Mapping[str, str], body: bytes | None = None) -> dict[str, Any]:
    """Send a GET, or a POST when there is a body, step by step.

    Returns `stage`, the step that did not come about (name, connect, tls, answer; "" when there is an answer), with
    `kind` and `text`; `tls`, the kind and text of a certificate that does not hold, with which the request is sent all
    the same; `seconds` until the answer; and of that `status`, `type`, `location`, `title` of a page, `headers` (those
    that count, in small letters, each a list), and `marks`, the keys of MARKS that are found in it.
    """
    address, port, name, context, timeout = place
    found: dict[str, Any] = {"stage": "connect", "kind": "", "text": "", "tls": {"kind": "", "text": ""}, "status": 0}
    found.update(type="", location="", title="", headers={}, marks=[], seconds=0.0)
    began = time.monotonic()
    try:
        with contextlib.ExitStack() as stack:
            connection = stack.enter_context(socket.create_connection((address, port), timeout))
            found["stage"] = "tls"
            if context:
                try:
                    connection = stack.enter_context(context.wrap_socket(connection, server_hostname=name))
                except ssl.SSLCertVerificationError as error:
                    found["tls"] = {"kind": network_kind(error), "text": reason(error)}
                    connection = stack.enter_context(socket.create_connection((address, port), timeout))
                    connection = stack.enter_context(blind().wrap_socket(connection, server_hostname=name))
            found["stage"] = "answer"
            http_connection = http.client.HTTPConnection(name, port, timeout=timeout)
            http_connection.sock = connection
            # The port is named only where it is not the usual one.
            host = f"[{name}]" if ":" in name else name
            host += "" if port == (443 if context else 80) else f":{port}"
            http_connection.request(
                "GET" if body is None else "POST", path, body=body, headers={"Host": host, **headers}
            )
            response = http_connection.getresponse()
            text = response.read(PAGE_BYTES).decode("utf-8", "replace")
            received = response.headers
    except (OSError, http.client.HTTPException, ValueError) as error:
        kind = network_kind(error)
        stage = "name" if kind == "name" else found["stage"]
        return {**found, "stage": stage, "kind": kind, "text": reason(error)}
    kept = {key: received.get_all(key) or [] for key in COUNTING_HEADERS}
    title = re.search(r"(?is)<title[^>]*>(.*?)</title>", text)
    return {
        **found,
        "stage": "",
        "seconds": round(time.monotonic() - began, 2),
        "status": response.status,
        "type": (received.get("Content-Type") or "").partition(";")[0].strip().lower(),
        "location": received.get("Location") or "",
        "title": " ".join(html.unescape(title.group(1)).split())[:80] if title else "",
        "headers": {
            key: [" ".join(value.split())[:LINE_LENGTH] for value in values] for key, values in kept.items() if values
        },
        "marks": [mark for mark, pattern in MARKS.items() if pattern.search(text)],
    }


def blind() -> ssl.SSLContext:
    """Return a context that takes any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def local(port: int, path: str, timeout: float, address: str = LOOPBACK) -> dict[str, Any]:
    """Return the answer of a server on this host, see `http_request`."""
    return http_request(http.client.HTTPConnection(address, port, timeout=timeout), path)


def upgrade(port: int, path: str, protocol: str, timeout: float, address: str = LOOPBACK, *, greetings: int = 0) -> str:
    """Return how a server on this host answers the request for a websocket: a status, or what the network says.

    A websocket that comes about is closed again in such a way that the server has nothing to complain of in its log.
    greetings: how many frames it sends first by itself.
    """
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", "Connection: Upgrade", "Upgrade: websocket"]
    lines += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]
    lines += [f"Sec-WebSocket-Protocol: {protocol}"] if protocol else []
    try:
        with socket.create_connection((address, port), timeout) as connection:
            connection.sendall("\r\n".join([*lines, "", ""]).encode())
            with connection.makefile("rb") as answers:
                first = answers.readline(1024).decode("ascii", "replace").split()
                if first[1:2] == ["101"]:
                    with contextlib.suppress(OSError, struct.error):
                        _leave(connection, answers, greetings)
            return first[1] if len(first) > 1 else "no answer"
    except OSError as error:
        return network_kind(error)


def _leave(connection: socket.socket, answers: BinaryIO, greetings: int) -> None:
    """Close a websocket as RFC 6455, section 7.1.2, has it: say so, and wait for the answer.

    Not before the server has sent what it sends by itself: it would find the websocket closed while it does.
    """
    while answers.readline(4096).strip():
        pass
    connection.settimeout(GREETING_SECONDS)
    if all(_frame(answers) for _greeting in range(greetings)):
        # The mask of a client's frame may be anything, and of zeros it changes nothing. 1000: a normal end.
        connection.sendall(b"\x88\x82" + bytes(4) + struct.pack("!H", 1000))
        while _frame(answers) not in (0, 0x8):
            pass


def _frame(answers: BinaryIO) -> int:
    """Return the opcode of the next frame of a server (RFC 6455, section 5.2), which is read whole; 0 at the end."""
    head = answers.read(2)
    if len(head) < 2:
        return 0
    length = head[1] & 0x7F
    if length > 125:
        (length,) = struct.unpack("!H" if length == 126 else "!Q", answers.read(2 if length == 126 else 8))
    answers.read(length)
    return head[0] & 0xF


def stun(address: str, port: int, timeout: float) -> dict[str, str]:
    """Ask a STUN server for our address over UDP (RFC 8489); returns {"kind", "address"}, kind "" for an answer."""
    cookie, transaction = 0x2112A442, os.urandom(12)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    message = struct.pack("!HHI", 1, 0, cookie) + transaction
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as plug:
            plug.settimeout(timeout / 2)
            plug.connect((address, port))
            for attempt in (1, 2):
                try:
                    plug.send(message)
                    answer = plug.recv(1500)
                    break
                except (TimeoutError, socket.timeout):
                    if attempt == 2:
                        raise
    except OSError as error:
        return {"kind": network_kind(error), "address": ""}
    if answer[:2] != b"\x01\x01" or answer[8:20] != transaction:
        return {"kind": "other", "address": ""}
    return {"kind": "", "address": mapped_address(answer)}


def mapped_address(answer: bytes) -> str:
    """Return the IPv4 address in the XOR-MAPPED-ADDRESS of a STUN answer, "" when there is none."""
    place = 20
    while place + 4 <= len(answer):
        kind, length = struct.unpack_from("!HH", answer, place)
        if kind == 0x0020 and length == 8:
            (value,) = struct.unpack_from("!I", answer, place + 8)
            return socket.inet_ntoa(struct.pack("!I", value ^ 0x2112A442))
        place += 4 + (length + 3) // 4 * 4
    return ""


def tcp(address: str, port: int, timeout: float) -> str:
    """Return "" when a TCP connection comes about, else why it does not."""
    try:
        socket.create_connection((address, port), timeout).close()
    except OSError as error:
        return network_kind(error)
    return ""


def features(headers: Mapping[str, str]) -> list[str]:
    """Return the features that an answer of the signaling server names."""
    text = headers.get("x-spreed-signaling-features", "")
    return sorted(item.strip() for item in text.split(",") if item.strip())


def first(values: Sequence[str]) -> str:
    """Return the first of these, "" when there is none."""
    return values[0] if values else ""
