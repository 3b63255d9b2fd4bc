# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A user of a Nextcloud with Talk, as a browser is one: settings, a conversation of one's own, and the call in it.

Facts: Talk's docs (conversation.md, participant.md, call.md), its SignalingController, RoomController and TalkSession,
and the server's `OC\\User\\Session`. Credentials that are sent must be right even for what needs none (else 401);
where a second factor is needed, a login password silently makes a guest of the user. A conversation's session hangs on
the web session, so cookies are kept, and one user who is in a call twice has two web sessions. A conversation that is
not there counts as an attempt to guess, so none is asked for after its end.

Nothing here judges what the Nextcloud says: an unwanted answer is raised as `Unwanted`, none at all as `Unreached`.
"""

from __future__ import annotations

import asyncio
import base64
import calendar
import contextlib
import http.client
import json
import ssl
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _signaling_client
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._call import CallFailed
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._signaling_client import Session

TALK = "/ocs/v2.php/apps/spreed/api"
# An address with failed logins is made to wait for up to 25 seconds.
HTTP_SECONDS = 30
# What is left for tidying up when the time of the probe is over.
LEAVE_SECONDS = 6
IN_CALL_SECONDS = 10
MAX_BODY = 16 * 1024 * 1024

# By its name a conversation is known as ours, and from when on nobody can be using it.
NAME = "Test call of nextcloud_talk.hpb, over by "
NAME_TIME = "%Y-%m-%dT%H:%M:%SZ"
GROUP, OWNER = 2, 1
# In a call with sound and picture.
IN_CALL, FLAGS = 1, 7
MAY_SPEAK, MAY_SHOW = 16, 32


class Unwanted(Exception):
    """A Nextcloud answered `what` was asked with `status` (HTTP), and perhaps a `word` of its own."""

    def __init__(self, what: str, status: int, word: str = "") -> None:
        super().__init__(f"{what}: {status} {word}".rstrip())
        self.what = what
        self.status = status
        self.word = word


class Unreached(Exception):
    """A Nextcloud gave no answer; `error` is the OSError or HTTPException that says why."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error) or type(error).__name__)
        self.error = error


def room_name(until: float) -> str:
    """Return the name of a conversation that is over at the Unix time `until`."""
    return NAME + time.strftime(NAME_TIME, time.gmtime(until))


def is_leftover(room: Mapping[str, Any], now: float) -> bool:
    """Whether a conversation, as Talk describes it to its user, is one of ours whose time was over before `now`."""
    name = str(room.get("name", ""))
    if not name.startswith(NAME) or room.get("type") != GROUP or room.get("participantType") != OWNER:
        return False
    try:
        return calendar.timegm(time.strptime(name[len(NAME) :], NAME_TIME)) < now
    except ValueError:
        return False


class Web:
    """One web session of a user, like one browser. Its methods block, and raise `Unwanted` and `Unreached`."""

    def __init__(self, url: str, user: str, password: str, context: ssl.SSLContext | None) -> None:
        self.url = url
        self.user = user
        self._login = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._context = context
        self._cookies: dict[str, str] = {}

    def settings(self, token: str = "") -> dict[str, Any]:
        """Return what Talk tells a browser before it connects, for a conversation or in general."""
        return self._ask("settings", "GET", f"/v3/signaling/settings{f'?token={quote(token)}' if token else ''}")

    def rooms(self) -> list[dict[str, Any]]:
        """Return the user's conversations."""
        found = self._ask("list", "GET", "/v4/room?noStatusUpdate=1", kind=list)
        return [room for room in found if isinstance(room, dict)]

    def create(self, until: float) -> str:
        """Make a conversation that is over at the Unix time `until`, and return its token."""
        room = self._ask("create", "POST", "/v4/room", {"roomType": GROUP, "roomName": room_name(until)})
        return str(room["token"])

    def join(self, token: str) -> tuple[str, int]:
        """Enter a conversation, and return the session's id in Nextcloud and what it may do there."""
        room = self._ask("join", "POST", f"/v4/room/{quote(token)}/participants/active", {"force": True})
        return str(room["sessionId"]), int(room.get("permissions", 0))

    def join_call(self, token: str) -> None:
        """Enter the call of a conversation, without ringing anybody."""
        consent = {"flags": FLAGS, "silent": True, "recordingConsent": True}
        self._ask("call", "POST", f"/v4/call/{quote(token)}", consent, kind=None)

    def leave_call(self, token: str) -> None:
        """Leave the call of a conversation."""
        self._ask("leave", "DELETE", f"/v4/call/{quote(token)}", kind=None, seconds=LEAVE_SECONDS)

    def remove(self, token: str) -> None:
        """Delete a conversation, whoever is in it."""
        self._ask("remove", "DELETE", f"/v4/room/{quote(token)}", kind=None, seconds=LEAVE_SECONDS)

    def _ask(
        self,
        what: str,
        method: str,
        path: str,
        data: dict[str, Any] | None = None,
        *,
        kind: type | None = dict,
        seconds: float = HTTP_SECONDS,
    ) -> Any:
        """Send a request and return the data of its OCS answer, which must be of this kind (None: any)."""
        headers = {
            "Authorization": f"Basic {self._login}",
            "OCS-APIRequest": "true",
            "Accept": "application/json",
            "User-Agent": "nextcloud_talk.hpb",
        }
        if self._cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        body = None
        if data is not None:
            body = json.dumps(data).encode()
            headers["Content-Type"] = "application/json"
        parts = urlsplit(self.url)
        connection: http.client.HTTPConnection
        if parts.scheme == "http":
            connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=seconds)
        else:
            options = {"timeout": seconds, "context": self._context}
            connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, **options)
        try:
            connection.request(method, f"{parts.path.rstrip('/')}{TALK}{path}", body, headers)
            response = connection.getresponse()
            text = response.read(MAX_BODY)
        except (OSError, http.client.HTTPException) as error:
            raise Unreached(error) from error
        finally:
            connection.close()
        self._keep(response.msg.get_all("Set-Cookie") or [])
        return self._data(what, response.status, response.getheader("Location") or "", text, kind)

    def _keep(self, cookies: list[str]) -> None:
        """Keep cookies as a browser does; the last one of a name counts, an empty one is none."""
        for cookie in cookies:
            name, _equals, value = cookie.partition(";")[0].strip().partition("=")
            if value and value != "deleted":
                self._cookies[name] = value
            else:
                self._cookies.pop(name, None)

    @staticmethod
    def _data(what: str, status: int, location: str, text: bytes, kind: type | None) -> Any:
        if 300 <= status < 400:
            raise Unwanted(what, status, location)
        try:
            answer = json.loads(text)["ocs"]
            data, meta = answer["data"], answer["meta"]
        except (ValueError, KeyError, TypeError):
            raise Unwanted(what, status, "no answer of Talk") from None
        if status not in (200, 201):
            word = data.get("error") if isinstance(data, dict) else meta.get("message")
            raise Unwanted(what, status, str(word or ""))
        if kind is not None and not isinstance(data, kind):
            raise Unwanted(what, status, "no answer of Talk")
        return data


class Member(Session):
    """A session on the signaling server of a user who enters conversations and their calls through Talk."""

    web: Web
    _room = ""

    @classmethod
    async def enter(cls, web: Web, url: str, context: ssl.SSLContext | None, hello: dict[str, Any]) -> Member:
        """Connect to the signaling server as this user. Raises what `Session.open` raises."""
        session = await cls.open(url, context, hello)
        session.web = web
        return session

    async def join(self, room: str) -> None:
        """Enter a conversation and its call, and wait until the signaling server has learnt of the latter.

        Raises `Refused`, `Lost`, `Unwanted`, `Unreached`, and `CallFailed` at permissions or incall.
        """
        identifier, permissions = await asyncio.to_thread(self.web.join, room)
        if not permissions & MAY_SPEAK or not permissions & MAY_SHOW:
            raise CallFailed("permissions", permissions=permissions)
        await self.request("room", {"roomid": room, "sessionid": identifier})
        self._room = room
        await asyncio.to_thread(self.web.join_call, room)
        try:
            await asyncio.wait_for(self.called(), IN_CALL_SECONDS)
        except asyncio.TimeoutError as error:
            raise CallFailed("incall") from error

    async def close(self) -> None:
        """Leave the call and the signaling server; never raises."""
        if self._room:
            room, self._room = self._room, ""
            with contextlib.suppress(Exception):
                await asyncio.to_thread(self.web.leave_call, room)
        await super().close()


class Conversation:
    """A conversation of the user's own, for the time of an `async with` block; `left` says why it is still there.

    It is removed also when the block fails or is cancelled. `token` is its name in the protocol.
    """

    def __init__(self, web: Web, until: float) -> None:
        self.token = ""
        self.left = ""
        self._web = web
        self._until = until

    async def __aenter__(self) -> Conversation:
        making = asyncio.ensure_future(asyncio.to_thread(self._web.create, self._until))
        try:
            self.token = await asyncio.shield(making)
        except asyncio.CancelledError:
            # It comes into being all the same.
            with contextlib.suppress(Exception):
                self.token = await making
                await self._remove()
            raise
        return self

    async def __aexit__(self, *_raised: object) -> None:
        await asyncio.shield(self._remove())

    async def _remove(self) -> None:
        try:
            await asyncio.to_thread(self._web.remove, self.token)
        except Unwanted as error:
            self.left = f"{error.status} {error.word}".rstrip()
        except Unreached as error:
            self.left = str(error)


async def tidy_up(web: Web, now: float) -> int:
    """Remove what interrupted runs have left with this user, and return how many conversations that were."""
    rooms = [room for room in await asyncio.to_thread(web.rooms) if is_leftover(room, now)]
    for room in rooms:
        await asyncio.to_thread(web.remove, str(room["token"]))
    return len(rooms)


def best_hello(url: str, settings: Mapping[str, Any], features: list[str]) -> dict[str, Any]:
    """Return the hello that a browser would take: by token where both sides know it, else by ticket."""
    token = token_of(settings)
    if token and "hello-v2" in features:
        return _signaling_client.token_hello(url, token)
    return _signaling_client.ticket_hello(url, ticket_of(settings), str(settings.get("userId") or ""))


def ticket_of(settings: Mapping[str, Any]) -> str:
    """Return the ticket in Talk's settings, "" for none."""
    params = settings.get("helloAuthParams") or {}
    return str((params.get("1.0") or {}).get("ticket") or settings.get("ticket") or "")


def token_of(settings: Mapping[str, Any]) -> str:
    """Return the token in Talk's settings, "" for none."""
    return str(((settings.get("helloAuthParams") or {}).get("2.0") or {}).get("token") or "")
