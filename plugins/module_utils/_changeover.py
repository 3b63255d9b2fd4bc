# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""New backend secrets come into force, the one half in a Nextcloud, the other half in the signaling server.

Both know one secret for each other, so between the two changes each refuses what the other sends, and counts it: the
server shuts an address out after ten within half an hour, which only its restart ends (async/throttle.go of
strukturag/nextcloud-spreed-signaling). And a web worker of Nextcloud may go on with the secret that it has read for
some seconds more.

So while secrets change, a process on the host of the server, a `Changeover`, stands between our own Traefik and the
server for the posts of the Nextclouds that are concerned. It knows both secrets of each. What is signed with either is
signed anew with the one in force and passed on; anything else is passed on as it is, for the server to judge. The
first post that is signed with a new secret proves that this Nextcloud has it: then, or when it is told to, the process
puts the new one in force. Behind another proxy it is told to only.

It is told by files in a directory of its own: one with an instance's name to change that, `END` to end. It ends by
itself as well, so that nothing of it stays when nobody tells it any more.
"""

from __future__ import annotations

import datetime
import fcntl
import http.client
import ipaddress
import json
import os
import re
import secrets
import ssl
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import (
    _files,
    _proxy,
    _record,
    _reload,
    _secret_file,
)
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._signaling_client import checksum

BACKEND = "Spreed-Signaling-Backend"
RANDOM = "Spreed-Signaling-Random"
CHECKSUM = "Spreed-Signaling-Checksum"
TRIAL = "X-Hpb-Changeover"

READY, REPORT, END, LOCK = ".ready", ".report", ".end", ".lock"
"""Files in the directory: what was found at the beginning and at the end, the word to end, and who works there."""
NAME = "changeover"
HEALTH = f"/{NAME}"
"""By which Traefik knows that there is somebody."""

ATTEMPTS = 10
"""Wrong requests of an address after which the server shuts it out while they lie within `WINDOW` seconds."""
WINDOW = 1800
EXPECTED = 5
"""How many a rotation may add where posts are not led to us: those of a second, and of web workers that cache."""

POLL = 0.02
"""Seconds between two looks for words."""
ROUTE_SECONDS = 10
"""How long Traefik may take to read a changed file: it does so every two seconds at most."""
IDLE = 2.0
"""Seconds that are waited for requests that are under way when a secret changes."""
READ = 0.2
"""Seconds after the server's answer to the signal, which it gives before it reads the instances (server/hub.go)."""
TIMEOUT = 30
"""Seconds for a request to the server, which delays what it refuses for 25 at most."""
HOP = frozenset(
    ("connection", "content-length", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer")
    + ("transfer-encoding", "upgrade")
)
"""Headers that are not passed on (RFC 9110, 7.6.1)."""


class ChangeoverError(Exception):
    """New secrets cannot come into force; the text is a whole sentence for the user and holds no secret."""


@dataclass
class Change:
    """The change of one instance: `words` are its prepared secrets for `_secret_file.promote`.

    at: Unix time at which the new secret was in force, 0 before that. posts: how many were signed with the `old` and
    the `new` one, and with `none` of them. last_old: Unix time of the last post with the old one. error: why it could
    not come into force.
    """

    id: str
    urls: Sequence[str]
    old: str
    new: str
    words: Sequence[str]
    at: float = 0.0
    last_old: float = 0.0
    error: str = ""
    posts: dict[str, int] = field(default_factory=lambda: {"old": 0, "new": 0, "none": 0})

    def report(self) -> dict[str, Any]:
        """Return what may be shown of it."""
        return {"changed": bool(self.at), "at": self.at, "last_old": self.last_old, "error": self.error, **self.posts}


# Pure


def with_secret(text: str, instance: str, secret: str) -> str:
    """Return a server.conf in which `instance` has another secret; raises ChangeoverError when it has none."""
    pattern = rf"(^\[{re.escape(instance)}\][^\[]*?^secret = )[^\n]*$"
    changed, count = re.subn(pattern, lambda found: found[1] + secret, text, flags=re.MULTILINE)
    if count != 1:
        raise ChangeoverError(
            f"server.conf was expected to have one secret for the instance {instance} and has {count}: run the "
            f"playbook site, then this again."
        )
    return changed


def _base(url: str) -> str:
    return url.strip().rstrip("/").lower()


def whose(url: str, changes: Iterable[Change]) -> Change | None:
    """Return the change of the instance that names itself so in a post: its URL, or one below it; None for others."""
    name = _base(url)
    fitting = [
        (len(_base(one)), number, change)
        for number, change in enumerate(changes)
        for one in change.urls
        if name == _base(one) or name.startswith(_base(one) + "/")
    ]
    return max(fitting)[2] if fitting else None


def signed_with(change: Change, random: str, claimed: str, body: bytes) -> str:
    """Return with which secret a post is signed: old, new or none."""
    for kind, secret in (("new", change.new), ("old", change.old)):
        if random and secrets.compare_digest(checksum(secret, random, body).encode(), claimed.lower().encode()):
            return kind
    return "none"


def moment(text: str) -> float:
    """Return the Unix time of one in Docker's words, in whole seconds; 0 for what is none."""
    try:
        parsed = datetime.datetime.fromisoformat(text.strip()[:19])
    except ValueError:
        return 0.0
    return parsed.replace(tzinfo=datetime.timezone.utc).timestamp()


def counted(log: str, started: float, action: str = "BackendRoomAuth") -> dict[str, list[float]]:
    """Return the Unix times at which the server has counted something against an address, from ``logs --timestamps``.

    The line is that of async/throttle.go of strukturag/nextcloud-spreed-signaling. What was counted before the server
    `started` is forgotten.
    """
    pattern = rf'^(\d+-\d+-\d+T\d+:\d+:\d+)\S* .*Failed attempt on "{action}" from (\S+), throttling'
    found: dict[str, list[float]] = {}
    for when, address in re.findall(pattern, log, re.MULTILINE):
        if moment(when) >= started:
            found.setdefault(_subnet(address), []).append(moment(when))
    return found


def _subnet(address: str) -> str:
    """Return what counts together: an IPv4 address, or the /64 of an IPv6 one."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return address if parsed.version == 4 else str(ipaddress.IPv6Network((address, 64), strict=False))


def ends(times: Sequence[float], now: float, attempts: int = ATTEMPTS) -> float:
    """Return the Unix time until which an address has so many attempts within half an hour, 0 when it has fewer."""
    recent = [time_ for time_ in sorted(times) if now - time_ < WINDOW]
    return recent[-attempts] + WINDOW if len(recent) >= attempts else 0.0


def in_the_way(
    counts: Mapping[str, Sequence[float]], addresses: Mapping[str, Iterable[str]], now: float, *, routed: bool
) -> list[str]:
    """Return a sentence for each instance that new secrets would shut out, or that is shut out already.

    counts: of `counted`. addresses: {instance: addresses of its Nextcloud}. routed: whether posts are led to us, so
    that nothing new is counted.
    """
    found = []
    for instance, own in addresses.items():
        for address in sorted({_subnet(one) for one in own}):
            until = ends(counts.get(address, ()), now, ATTEMPTS if routed else ATTEMPTS - EXPECTED)
            if until:
                number = sum(now - time_ < WINDOW for time_ in counts[address])
                word = "is shut out" if number >= ATTEMPTS else "could be shut out by a rotation behind this proxy"
                limit = ATTEMPTS if routed else ATTEMPTS - EXPECTED
                found.append(
                    f"{instance}: the signaling server has counted {number} wrong requests of {address} within half an "
                    f"hour, expected fewer than {limit}: at {ATTEMPTS} it shuts an address out, and this Nextcloud "
                    f"{word}. Look for who sends a wrong secret from there, and rotate after {clock(until)}."
                )
    return found


def clock(when: float) -> str:
    """Return a Unix time as people read it."""
    return time.strftime("%H:%M:%S UTC", time.gmtime(when))


def lines(report: Mapping[str, Any], counts: Mapping[str, Sequence[float]], begun: float) -> list[str]:
    """Return in sentences what the process reported, and what the server has counted since it `begun`, of `counted`."""
    found = []
    for instance, one in report["instances"].items():
        text = f"{instance}: the new secret is in force since {clock(one['at'])}" if one["changed"] else ""
        if one["error"]:
            text = f"{instance}: the new secret could not come into force at once ({one['error']})"
        if text and one["last_old"] > one["at"] > 0:
            late = one["last_old"] - one["at"]
            text += f", and was not yet used by all of its Nextcloud for {late:.1f} s, which was seen to"
        if text:
            found.append(f"{text}.")
    for address, times in sorted(counts.items()):
        number = sum(when >= int(begun) for when in times)
        if number:
            found.append(f"The signaling server has refused {number} requests of {address} meanwhile.")
    return found


def signed_anew(headers: Mapping[str, str], secret: str, body: bytes) -> dict[str, str]:
    """Return the headers of a post with another signature."""
    signature = (RANDOM.lower(), CHECKSUM.lower())
    random = secrets.token_hex(32)
    kept = {name: value for name, value in headers.items() if name.lower() not in signature}
    return {**kept, RANDOM: random, CHECKSUM: checksum(secret, random, body)}


def routes(public: Mapping[str, Any], urls: Iterable[str], server: str) -> dict[str, Any]:
    """Return Traefik's dynamic configuration that leads the posts of these Nextclouds to `server`.

    public: what `_proxy.traefik` made for the signaling server, whose routers are taken over. Where nobody is at
    `server` any more, as after a boot, they lead to the signaling server itself again.
    """
    names = "|".join(re.escape(_base(url)) for url in urls)
    rule = f"HeaderRegexp(`{BACKEND}`, `(?i)^\\s*({names})(/.*)?\\s*$`)"
    middlewares = public["http"]["middlewares"]
    # Of a rule's paths only the rooms; a longer rule is not enough to come first, as a path of others may be longer.
    routers = {
        f"{NAME}-{name}": {
            **router,
            "rule": f"({router['rule']}) && PathRegexp(`/api/v1/room/{_proxy.ROOM}$`) && {rule}",
            "service": f"{NAME}-{name}",
            "priority": 1000000,
            "middlewares": [f"{NAME}-{one}" for one in router["middlewares"]],
        }
        for name, router in public["http"]["routers"].items()
    }
    check = {"path": HEALTH, "interval": "1s", "timeout": "10s"}
    services: dict[str, Any] = {
        f"{NAME}-process": {"loadBalancer": {"servers": [{"url": server}], "healthCheck": check}}
    }
    for name, router in public["http"]["routers"].items():
        services[f"{NAME}-{name}"] = {"failover": {"service": f"{NAME}-process", "fallback": router["service"]}}
    own = {f"{NAME}-{name}": middleware for name, middleware in middlewares.items()}
    return {"http": {"routers": routers, "services": services, "middlewares": own}}


# The process


def run_command(command: list[str]) -> tuple[int, str, str]:
    """Run a command without a module at hand."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)  # noqa: S603
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


class Changeover:
    """The process; `spec` are the options of the module hpb_changeover."""

    def __init__(self, spec: Mapping[str, Any], changes: Sequence[Change], run: _reload.Run = run_command) -> None:
        self.spec, self.changes, self.run_command = spec, changes, run
        self.directory = Path(spec["directory"])
        self.trial = secrets.token_hex(16)
        self.arrived = threading.Event()
        self._gate = threading.Condition()
        self._under_way = 0
        self._closed = False
        self.server: ThreadingHTTPServer | None = None

    # Posts

    def enter(self) -> None:
        """Begin to pass a post on; waits while a secret changes."""
        with self._gate:
            self._gate.wait_for(lambda: not self._closed, TIMEOUT)
            self._under_way += 1

    def leave(self) -> None:
        """End passing it on."""
        with self._gate:
            self._under_way -= 1
            self._gate.notify_all()

    def known(self, headers: Mapping[str, str], body: bytes) -> tuple[Change | None, str]:
        """Return of which instance a post is and with which secret it is signed; the new one comes into force by it."""
        lower = {name.lower(): value for name, value in headers.items()}
        change = whose(lower.get(BACKEND.lower(), ""), self.changes)
        if change is None:
            return None, "none"
        kind = signed_with(change, lower.get(RANDOM.lower(), ""), lower.get(CHECKSUM.lower(), ""), body)
        change.posts[kind] += 1
        if kind == "old":
            change.last_old = time.time()
        if kind == "new":
            self.change(change)
        return change, kind

    def pass_on(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """Send a request to the signaling server; returns its status, headers and body. Raises OSError."""
        change, kind = self.known(headers, body)
        self.enter()
        try:
            made = {name: value for name, value in headers.items() if name.lower() not in HOP}
            if change is not None and kind != "none":
                made = signed_anew(made, change.new if change.at else change.old, body)
            with closing(http.client.HTTPConnection(*self.spec["server"], timeout=TIMEOUT)) as connection:
                connection.request(method, path, body, made)
                answer = connection.getresponse()
                return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            self.leave()

    # Secrets

    def change(self, change: Change) -> None:
        """Put the new secret of an instance in force, once. What is under way comes to its end first."""
        with self._gate:
            self._gate.wait_for(lambda: not self._closed)
            if change.at or change.error:
                return
            self._closed = True
            self._gate.wait_for(lambda: self._under_way == 0, IDLE)
        try:
            # Whoever finds this cut off here goes on forwards: the file of secrets decides.
            _secret_file.promote(Path(self.spec["secrets"]), change.words)
            self.put(change)
            change.at = time.time()
        except (ChangeoverError, _reload.ReloadError, _secret_file.SecretsError, _files.FilesError) as error:
            change.error = str(error)
        except OSError as error:
            change.error = (
                f"{error.filename or 'A file'} cannot be read or written: {error.strerror}. Mend that, run again."
            )
        finally:
            with self._gate:
                self._closed = False
                self._gate.notify_all()

    def put(self, change: Change) -> None:
        """Write the secret into server.conf and have the server read it."""
        container = Path(self.spec["config"])
        with _files.directory(str(container / "config")) as fd:
            there = _files.look(fd, "server.conf")
            text = with_secret(there.data.decode(), change.id, change.new)
            if text.encode() == there.data:
                return
            # Until the next run has seen that everything was read.
            (container / "reloaded").unlink(missing_ok=True)
            _files.write(fd, "server.conf", text.encode(), mode=there.mode, uid=there.uid, gid=there.gid)
        signal = (self.spec["signal"], self.spec["answer"])
        located = _record.located(self.run_command, container)
        _reload.send(self.run_command, *located, *signal, refusal=self.spec["refusal"])
        time.sleep(READ)

    # The route

    def _route_file(self) -> Path:
        return Path(self.spec["dynamic"]) / f"{NAME}.yml"

    def _trial(self) -> bool:
        """Whether a request to Traefik comes to us."""
        self.arrived.clear()
        address, port, tls = self.spec["web"]
        context = ssl.create_default_context()
        # It is asked whether it leads here; nothing is told.
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        headers = {"Host": self.spec["domain"], BACKEND: self.changes[0].urls[0], TRIAL: self.trial}
        try:
            if tls:
                connection: http.client.HTTPConnection = _Named(address, port, context, self.spec["domain"])
            else:
                connection = http.client.HTTPConnection(address, port, timeout=2)
            with closing(connection):
                # Never a post: the server would count it. It takes no other method there.
                connection.request("GET", f"/api/v1/room/{NAME}", headers=headers)
                connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            return False
        return self.arrived.is_set()

    def lead(self) -> bool:
        """Have the Nextclouds' posts led here; returns whether they are."""
        if not self.spec["routes"] or not Path(self.spec["dynamic"]).is_dir():
            return False
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        urls = [url for change in self.changes for url in change.urls]
        text = json.dumps(routes(self.spec["routes"], urls, f"http://127.0.0.1:{self.server.server_address[1]}"))
        with _files.directory(self.spec["dynamic"]) as fd:
            # JSON is YAML, and the name says so to Traefik. What the others are like is what Traefik can read.
            _files.write(fd, self._route_file().name, text.encode(), mode=0o640, uid=os.geteuid(), gid=os.getegid())
        until = time.monotonic() + ROUTE_SECONDS
        while time.monotonic() < until:
            if self._trial():
                return True
            time.sleep(0.1)
        self._route_file().unlink(missing_ok=True)
        return False

    def let_go(self) -> None:
        """Have them led to the server again, and wait until they are."""
        if self.server is None:
            return
        self._route_file().unlink(missing_ok=True)
        until = time.monotonic() + ROUTE_SECONDS
        while time.monotonic() < until and self._trial():
            time.sleep(0.1)
        # What came before that.
        with self._gate:
            self._gate.wait_for(lambda: self._under_way == 0, IDLE)
        self.server.shutdown()
        self.server.server_close()

    # From beginning to end

    def serve(self) -> None:
        """Do as the files in the directory say, until one says to end or the time is over."""
        until = time.monotonic() + self.spec["timeout"]
        lock = (self.directory / LOCK).open("wb")
        fcntl.flock(lock, fcntl.LOCK_EX)
        routed, error = False, ""
        try:
            routed = self.lead()
            _write(self.directory / READY, {"routed": routed})
            while not (self.directory / END).exists() and time.monotonic() < until:
                for change in self.changes:
                    if not change.at and (self.directory / change.id).exists():
                        self.change(change)
                time.sleep(POLL)
            if routed:
                self.settle(until)
        except Exception as reason:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            error = f"{type(reason).__name__}: {reason}"
        finally:
            self.let_go()
            report = {one.id: one.report() for one in self.changes}
            _write(self.directory / REPORT, {"routed": routed, "error": error, "instances": report})
            lock.close()

    def settle(self, until: float) -> None:
        """Wait until no Nextcloud has signed with its old secret for a while."""
        while time.monotonic() < until:
            last = max([max(one.at, one.last_old) for one in self.changes if one.at], default=0.0)
            if time.time() - last >= self.spec["settle"]:
                return
            time.sleep(POLL)


class _Named(http.client.HTTPSConnection):
    """A connection to an address, with TLS for a name."""

    def __init__(self, address: str, port: int, context: ssl.SSLContext, name: str) -> None:
        super().__init__(address, port, timeout=2, context=context)
        self._name, self._tls = name, context

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._name)


def _write(path: Path, document: Mapping[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(json.dumps(document), encoding="utf-8")
    temporary.replace(path)


def _handler(changeover: Changeover) -> type[BaseHTTPRequestHandler]:
    """Return what answers the requests that Traefik leads here."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = TIMEOUT

        def log_message(self, *_arguments: Any) -> None:
            """Nobody reads it."""

        def _answer(self) -> None:
            if self.path == HEALTH:
                self._send(200, {}, b"")
                return
            if secrets.compare_digest(self.headers.get(TRIAL, "").encode(), changeover.trial.encode()):
                changeover.arrived.set()
                self._send(204, {}, b"")
                return
            length = self.headers.get("Content-Length") or "0"
            if not length.isdigit() or int(length) > _proxy.MAX_BODY:
                self.close_connection = True
                self._send(413, {}, b"")
                return
            body = self.rfile.read(int(length))
            try:
                answer = changeover.pass_on(self.command, self.path, dict(self.headers.items()), body)
            except (OSError, http.client.HTTPException):
                # What Talk sends again (lib/Signaling/BackendNotifier.php).
                answer = (502, {}, b"")
            self._send(*answer)

        def _send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                if name.lower() not in HOP:
                    self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = do_OPTIONS = do_PATCH = do_HEAD = _answer

    return Handler


# How a module begins and ends it


def alive(directory: Path) -> bool:
    """Whether the process of the directory runs."""
    try:
        with (directory / LOCK).open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def detach(work: Any) -> None:
    """Go on with `work` in a process of its own, which outlives this one and has none of its files open."""
    if os.fork():
        os.wait()
        return
    try:
        os.setsid()
        if os.fork() == 0:
            null = os.open(os.devnull, os.O_RDWR)
            for number in range(3):
                os.dup2(null, number)
            os.closerange(3, 1024)
            os.chdir("/")
            work()
    finally:
        os._exit(0)


def wait_for(path: Path, seconds: float) -> dict[str, Any] | None:
    """Return what a file says that the process writes, None when it does not come in time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with suppress(OSError, ValueError):
            return json.loads(path.read_text(encoding="utf-8"))
        time.sleep(POLL)
    return None
