# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A client of the standalone signaling server: signed requests of a Nextcloud, and sessions on its websocket.

The protocol is described in upstream's docs/standalone-signaling-api-v1.md. Nothing here judges what the server says:
a refusal is raised as `Refused` with the server's own code, a lost connection as `Lost`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import http.client
import itertools
import json
import secrets
import socket
import ssl
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _proxy

try:
    from websockets.asyncio.client import connect
    from websockets.exceptions import ConnectionClosed
except ImportError:  # The module says so before anything of this is used.
    connect = None

    class ConnectionClosed(Exception):  # type: ignore[no-redef]
        """Stands for the exception of the missing library."""


BACKEND_PATH = "/ocs/v2.php/apps/spreed/api/v3/signaling/backend"
FEATURES_HEADER = "X-Spreed-Signaling-Features"
MAX_BODY = 1024 * 1024
# A client's frame that closes a websocket with the code 1000 (RFC 6455, 5.2 and 5.5.1); its mask is zeros.
GOODBYE = b"\x88\x82\0\0\0\0\x03\xe8"


class Refused(Exception):
    """The server answered with an error message; `code` is its machine-readable name."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code
        self.message = message


class Lost(Exception):
    """The websocket was closed, or the server said goodbye, while something was expected."""


class Answer(NamedTuple):
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes


def checksum(secret: str, random: str, body: bytes) -> str:
    """Return the checksum of a request between a Nextcloud and the server, as lower case hex."""
    return hmac.new(secret.encode(), random.encode() + body, hashlib.sha256).hexdigest()


def signed_headers(secret: str, backend: str, body: bytes) -> dict[str, str]:
    """Return the headers with which a Nextcloud at the URL `backend` sends `body` to the server."""
    random = secrets.token_hex(32)
    return {
        "Content-Type": "application/json",
        "Spreed-Signaling-Backend": backend,
        "Spreed-Signaling-Random": random,
        "Spreed-Signaling-Checksum": checksum(secret, random, body),
    }


def internal_token(secret: str, random: str) -> str:
    """Return the token of an internal client for the random string it sends (at least 32 characters)."""
    return hmac.new(secret.encode(), random.encode(), hashlib.sha256).hexdigest()


def turn_credentials(secret: str, name: str, expires_at: int) -> tuple[str, str]:
    """Return user name and password for a TURN server with a shared secret, valid until the Unix time given."""
    username = f"{expires_at}:{name}"
    digest = hmac.new(secret.encode(), username.encode(), hashlib.sha1).digest()
    return username, base64.b64encode(digest).decode()


def websocket_url(url: str) -> str:
    """Return the websocket's URL for the server's https URL."""
    parts = urlsplit(url)
    scheme = "ws" if parts.scheme == "http" else "wss"
    return f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}/spreed"


def internal_hello(secret: str, backend: str) -> dict[str, Any]:
    """Return the hello of an internal client (no Nextcloud is asked) for the backend with this URL."""
    random = secrets.token_hex(32)
    params = {"random": random, "token": internal_token(secret, random), "backend": backend}
    return {"version": "1.0", "auth": {"type": "internal", "params": params}}


def ticket_hello(backend: str, ticket: str, user: str = "") -> dict[str, Any]:
    """Return the hello of an ordinary client, whose ticket the server lets the Nextcloud check; "" is a guest."""
    params = {"userid": user, "ticket": ticket}
    return {"version": "1.0", "auth": {"url": backend.rstrip("/") + BACKEND_PATH, "params": params}}


def token_hello(backend: str, token: str) -> dict[str, Any]:
    """Return the hello of an ordinary client, whose token the server checks with the key that the Nextcloud shows."""
    return {"version": "2.0", "auth": {"url": backend.rstrip("/") + BACKEND_PATH, "params": {"token": token}}}


def tls_context(ca_files: Sequence[str], ca_pem: Sequence[str]) -> ssl.SSLContext:
    """Return a context that trusts the system's authorities and these. Raises OSError (also for an unusable PEM)."""
    context = ssl.create_default_context()
    for path in ca_files:
        context.load_verify_locations(cafile=path)
    for text in ca_pem:
        context.load_verify_locations(cadata=text)
    return context


@contextlib.contextmanager
def pinned_names(pins: dict[str, str]) -> Iterator[None]:
    """Let names resolve to the given addresses in this process.

    Every library used here, TURN included, asks `socket.getaddrinfo`, so certificates are still checked for the name.
    """
    wanted = {name.lower().rstrip("."): address for name, address in pins.items()}
    original = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if isinstance(name, str):
            host = wanted.get(name.lower().rstrip("."), host)
        return original(host, *args, **kwargs)

    socket.getaddrinfo = getaddrinfo
    try:
        yield
    finally:
        socket.getaddrinfo = original


def families_of(host: str, port: int) -> list[str]:
    """Return which of ipv4 and ipv6 the name has addresses of that this machine has a route to. Sends nothing.

    Raises OSError when the name does not resolve at all.
    """
    return list(addresses_of(host, port))


def addresses_of(host: str, port: int) -> dict[str, str]:
    """Return the first address of the name that this machine has a route to, by family (ipv4, ipv6). Sends nothing.

    Raises OSError when the name does not resolve at all.
    """
    found = {info[0] for info in socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)}
    addresses: dict[str, str] = {}
    for name, family in (("ipv4", socket.AF_INET), ("ipv6", socket.AF_INET6)):
        with contextlib.suppress(OSError):
            if family in found:
                address = socket.getaddrinfo(host, port, family, socket.SOCK_DGRAM)[0][4]
                with socket.socket(family, socket.SOCK_DGRAM) as probe:
                    probe.connect(address)
                addresses[name] = str(address[0])
    return addresses


def _connection(parts: SplitResult, context: ssl.SSLContext | None, timeout: float) -> http.client.HTTPConnection:
    """Return a connection, not made yet, to the host of a URL."""
    if parts.scheme == "http":
        return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
    return http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=timeout, context=context)


class NoAnswer(TimeoutError):
    """The server took the connection, and then nothing came in time."""


def fetch(
    url: str,
    context: ssl.SSLContext | None,
    timeout: float,
    headers: dict[str, str] | None = None,
    body: bytes | None = None,
) -> Answer:
    """Send a GET, or a POST when there is a body, and return the answer, redirects included as they are.

    Raises OSError (with its TLS and name subclasses; `NoAnswer` where the server took the connection) and
    http.client.HTTPException.
    """
    parts = urlsplit(url)
    connection = _connection(parts, context, timeout)
    connected = False
    try:
        connection.connect()
        connected = True
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET" if body is None else "POST", target, body=body, headers=headers or {})
        response = connection.getresponse()
        received = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, received, response.read(MAX_BODY))
    except TimeoutError as error:
        # The words are those of Python's ssl, which has no class for them.
        if connected or "handshake" in str(error):
            raise NoAnswer(str(error)) from error
        raise
    finally:
        connection.close()


def ask_for_events(url: str, context: ssl.SSLContext | None, timeout: float) -> tuple[int, bool]:
    """Ask the server with the https URL `url` for the websocket of Janus' events, and leave at once where there is one.

    Returns the status of the answer, 101 for a websocket, and whether that is one for events: a server that knows none
    takes it for a client's. Nothing is said on it but goodbye, not even in answer to a ping, so that no server has
    anything to note. Raises OSError (with its TLS and name subclasses) and http.client.HTTPException.
    """
    parts = urlsplit(url)
    connection = _connection(parts, context, timeout)
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(secrets.token_bytes(16)).decode(),
        _proxy.EVENTS_HEADER: _proxy.EVENTS,
    }
    try:
        connection.request("GET", f"{parts.path}/spreed", headers=headers)
        response = connection.getresponse()
        if response.status != http.client.SWITCHING_PROTOCOLS:
            return response.status, False
        with contextlib.suppress(OSError):
            connection.sock.settimeout(2)
            connection.sock.sendall(GOODBYE)
            while connection.sock.recv(4096):
                pass
        return response.status, response.getheader(_proxy.EVENTS_HEADER, "").strip() == _proxy.EVENTS
    finally:
        connection.close()


def is_in_call(flags: Any) -> bool:
    """Whether the flags of a participant, a number or a truth value, say that it is in the call."""
    return bool(flags & 1) if isinstance(flags, int) else False


class Session:
    """One websocket to the server: requests with their replies, and the messages that come by themselves."""

    def __init__(self, websocket: Any, timeout: float) -> None:
        self.features: list[str] = []
        self.session_id = ""
        # As whom the server knows us, "" for a guest or an internal client.
        self.user_id = ""
        # Sessions that the server named as being in the room; our own is among them.
        self.others: set[str] = set()
        # Whether the server knows that we are in the call, which a Nextcloud tells it.
        self._called = asyncio.Event()
        self._websocket = websocket
        self._timeout = timeout
        self._ids = itertools.count(1)
        self._replies: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._inbox: asyncio.Queue[dict[str, Any] | Exception] = asyncio.Queue()
        self._end: Lost | None = None
        self._reader = asyncio.ensure_future(self._read())

    @classmethod
    async def open(
        cls, url: str, context: ssl.SSLContext | None, hello: dict[str, Any], timeout: float = 15
    ) -> Session:
        """Connect to the server with the https URL `url` and say hello, which must follow within two seconds.

        Raises `Refused`, `Lost`, asyncio.TimeoutError, OSError, and what websockets raises for a handshake.
        """
        target = websocket_url(url)
        options = {"ssl": context} if target.startswith("wss:") else {}
        websocket = await connect(target, open_timeout=timeout, close_timeout=1, proxy=None, **options)
        session = cls(websocket, timeout)
        try:
            reply = await session.request("hello", hello)
            session.session_id = reply["sessionid"]
            session.user_id = str(reply.get("userid") or "")
        except BaseException:
            await session.close()
            raise
        return session

    async def request(self, kind: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Send a message and return the content of its reply, which has the same type."""
        identifier = str(next(self._ids))
        future = asyncio.get_running_loop().create_future()
        self._replies[identifier] = future
        try:
            await self._send({"id": identifier, "type": kind, kind: payload})
            reply = await asyncio.wait_for(future, self._timeout)
        finally:
            self._replies.pop(identifier, None)
        if reply.get("type") != kind or not isinstance(reply.get(kind), dict):
            raise Lost(f"the server answered a {kind} with a {reply.get('type')}")
        return reply[kind]

    async def join(self, room: str) -> None:
        """Join a room. As an internal client this needs no invitation."""
        await self.request("room", {"roomid": room, "sessionid": f"{room}-{self.session_id}"[:256]})

    async def tell(self, recipient: str | None, data: dict[str, Any]) -> None:
        """Send data to the session `recipient`, None for all in the room.

        Offers, answers and candidates for a session go to the SFU from there.
        """
        target = {"type": "session", "sessionid": recipient} if recipient else {"type": "room"}
        message = {"recipient": target, "data": data}
        await self._send({"id": str(next(self._ids)), "type": "message", "message": message})

    async def next_data(self) -> tuple[str, dict[str, Any]]:
        """Return sender and data of the next message of another session or of the SFU; waits without a limit."""
        if self._inbox.empty() and self._end is not None:
            raise self._end
        item = await self._inbox.get()
        if isinstance(item, Exception):
            raise item
        sender = item.get("sender") or {}
        return str(sender.get("sessionid", "")), item["data"]

    async def called(self) -> None:
        """Wait until the server says that we are in the call; waits without a limit. Raises `Lost`."""
        await self._called.wait()
        if self._end is not None:
            raise self._end

    async def close(self) -> None:
        """Leave without a trace on the server; never raises for a connection that is gone."""
        if self._end is None and self.session_id:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self.request("bye", {}), 2)
        self._reader.cancel()
        with contextlib.suppress(Exception):
            await self._websocket.close()

    async def _send(self, message: dict[str, Any]) -> None:
        if self._end is not None:
            raise self._end
        try:
            await self._websocket.send(json.dumps(message))
        except ConnectionClosed as error:
            raise self._lost(error) from error

    def _lost(self, error: ConnectionClosed) -> Lost:
        frame = getattr(error, "rcvd", None)
        return Lost(f"the server closed the websocket with code {frame.code}" if frame else "the connection was cut")

    async def _read(self) -> None:
        try:
            async for text in self._websocket:
                self._dispatch(json.loads(text))
            end = Lost("the server closed the websocket")
        except ConnectionClosed as error:
            end = self._lost(error)
        except ValueError:
            end = Lost("the server sent something that is not JSON")
        self._finish(self._end or end)

    def _finish(self, end: Lost) -> None:
        self._end = end
        for future in self._replies.values():
            if not future.done():
                future.set_exception(end)
        self._inbox.put_nowait(end)
        self._called.set()

    def _dispatch(self, message: dict[str, Any]) -> None:
        """Sort one message in: a reply to a request, data for us, or something that we do not need."""
        kind = message.get("type")
        future = self._replies.get(message.get("id", ""))
        if kind == "welcome":
            self.features = list((message.get("welcome") or {}).get("features") or [])
        elif kind == "error":
            error = message.get("error") or {}
            refused = Refused(str(error.get("code", "error")), str(error.get("message", "")))
            if future is not None and not future.done():
                future.set_exception(refused)
            else:
                self._inbox.put_nowait(refused)
        elif future is not None and not future.done():
            future.set_result(message)
        elif kind == "bye":
            reason = (message.get("bye") or {}).get("reason", "")
            self._finish(Lost(f"the server said goodbye: {reason or 'no reason given'}"))
        elif kind == "message":
            content = message.get("message") or {}
            if isinstance(content.get("data"), dict):
                self._inbox.put_nowait(content)
        elif kind == "event":
            event = message.get("event") or {}
            joined = [item.get("sessionid") for item in event.get("join") or []]
            users = (event.get("update") or {}).get("users") or []
            self.others.update(str(item) for item in [*joined, *(item.get("sessionId") for item in users)] if item)
            if any(item.get("sessionId") == self.session_id and is_in_call(item.get("inCall")) for item in users):
                self._called.set()
