# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user's browser asks Nextcloud and Talk for: a login, settings, conversations and calls.

Facts: nextcloud/spreed's SignalingController, RoomController, CallController, TalkSession and BackendNotifier, and the
server's `OC\\User\\Session`. Wrong credentials are refused even where none are needed; a login password makes a guest
of who has a second factor. A session in a conversation hangs on the web session, which is a cookie.
"""

from __future__ import annotations

import base64
import hmac
import json
import re
import secrets
import string
import threading
import time
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from . import backend
from .conversations import GROUP, OWNER, Conversations, notify
from .state import Instance

_LETTERS = string.ascii_letters + string.digits
_SETTINGS = re.compile(r"/ocs/v2\.php/apps/spreed/api/v[123]/signaling/settings")
_ROOMS = re.compile(r"/ocs/v2\.php/apps/spreed/api/v4/room")
_ROOM = re.compile(r"/ocs/v2\.php/apps/spreed/api/v4/room/(\w+)")
_ACTIVE = re.compile(r"/ocs/v2\.php/apps/spreed/api/v4/room/(\w+)/participants/active")
_CALL = re.compile(r"/ocs/v2\.php/apps/spreed/api/v4/call/(\w+)")
_CHAT = re.compile(r"/ocs/v2\.php/apps/spreed/api/v1/chat/(\w+)")

# Everything; an owner's permissions are never restricted.
ALL_PERMISSIONS = 254


class Refused(Exception):
    """The answer is this HTTP status; `data` goes with it, `verdict` into the log."""

    def __init__(self, status: int, verdict: str, data: Any = None) -> None:
        super().__init__(verdict)
        self.status, self.verdict, self.data = status, verdict, [] if data is None else data


class Sessions:
    """The web sessions of a running server: the user (None for a guest) and the sessions in conversations."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[str, dict[str, Any]] = {}

    def get(self, identifier: str) -> dict[str, Any] | None:
        """Return a web session by the value of its cookie."""
        with self._lock:
            return self._found.get(identifier)

    def open(self, user: str | None) -> tuple[str, dict[str, Any]]:
        """Begin a web session and return the value of its cookie with it."""
        identifier = secrets.token_hex(16)
        with self._lock:
            self._found[identifier] = {"user": user, "rooms": {}}
            return identifier, self._found[identifier]


class Request:
    """One request of a browser. `cookies` are those that its answer sets, `user` is None for a guest."""

    def __init__(self, instance: Instance, sessions: Sessions, headers: Any, base_url: str) -> None:
        self.instance = instance
        self.base_url = base_url
        self.cookies: list[str] = []
        self._sessions = sessions
        self.session = self._session(headers)
        self.user: str | None = self.session["user"]

    def _session(self, headers: Any) -> dict[str, Any]:
        """Return the web session of a request: the one of its cookie, or that of a login."""
        name = str(self.instance.system.get("instanceid") or "nc_session")
        try:
            cookie = SimpleCookie(headers.get("Cookie") or "").get(name)
        except CookieError:
            cookie = None
        session = self._sessions.get(cookie.value) if cookie else None
        if session and session["user"] is not None:
            return session
        user = self._login(headers.get("Authorization") or "")
        identifier, session = self._sessions.open(user)
        # As PHP does: one before the login, and another one after it.
        if user is not None:
            self.cookies.append(f"{name}={secrets.token_hex(16)}; path=/; HttpOnly; SameSite=Lax")
        self.cookies.append(f"{name}={identifier}; path=/; HttpOnly; SameSite=Lax")
        return session

    def _login(self, authorization: str) -> str | None:
        """Return the user of the credentials, None for none. Wrong ones are refused."""
        scheme, _space, text = authorization.partition(" ")
        if scheme.lower() != "basic":
            return None
        settings = self.instance.settings
        if settings["logins_throttled"]:
            raise Refused(429, "throttled")
        try:
            user, _colon, password = base64.b64decode(text).decode().partition(":")
        except ValueError:
            user, password = "", ""
        if _equal(password, settings["app_passwords"].get(user)):
            return user
        if _equal(password, settings["passwords"].get(user)):
            return None if user in settings["second_factor"] else user
        raise Refused(401, "login_failed")

    def needs_user(self) -> str:
        """Return the user who is logged in; a guest is refused."""
        if self.user is None:
            raise Refused(401, "not_logged_in")
        return self.user


def _equal(given: str, wanted: str | None) -> bool:
    return bool(wanted) and hmac.compare_digest(given.encode(), str(wanted).encode())


def is_known(path: str) -> bool:
    """Whether this is the path of something that a browser asks for."""
    return any(pattern.fullmatch(path) for pattern, _methods in _ROUTES)


def answer(request: Request, method: str, path: str, query: str, body: bytes) -> tuple[Any, dict[str, Any]]:
    """Answer a browser's request for a known path: the OCS data, and what is logged. Raises `Refused`."""
    found, methods = next(
        (match, methods) for match, methods in ((pattern.fullmatch(path), rest) for pattern, rest in _ROUTES) if match
    )
    if method not in methods:
        raise Refused(405, "method_not_allowed")
    if request.user in request.instance.settings["no_talk"]:
        raise Refused(403, "no_talk")
    try:
        content = json.loads(body) if body else {}
    except ValueError:
        content = {}
    given = {name: values[-1] for name, values in parse_qs(query).items()}
    given.update(content if isinstance(content, dict) else {})
    kind, act = methods[method]
    token = found.group(1) if found.groups() else str(given.get("token") or "")
    data = act(request, token, given)
    seen = {"type": kind, "verdict": "ok", "userid": request.user or "", "roomid": token}
    return data, {key: value for key, value in seen.items() if value}


def settings_of(instance: Instance, user: str | None) -> dict[str, Any]:
    """Return what Talk tells a browser before it connects."""
    from .talk_commands import DEFAULT_STUN, read_list

    servers = instance.signaling()["servers"]
    internal = not servers or instance.get("spreed", "signaling_mode") == "internal"
    server = "" if internal else servers[0]["server"]
    ticket = backend.ticket(instance, user or "")
    stun = [f"stun:{name}" for name in read_list(instance, "stun_servers") or [DEFAULT_STUN]]
    return {
        "signalingMode": "internal" if internal else "external",
        "userId": user,
        "hideWarning": bool(server) or instance.get("spreed", "hide_signaling_warning") == "yes",
        "server": server,
        "ticket": ticket,
        "helloAuthParams": {
            "1.0": {"userid": user, "ticket": ticket},
            "2.0": {"token": backend.hello_v2_token(instance, user or "")},
        },
        "federation": None,
        "stunservers": [{"urls": stun}],
        "turnservers": backend.turn_servers(instance),
        "sipDialinInfo": "",
    }


def _settings(request: Request, token: str, _given: dict[str, Any]) -> dict[str, Any]:
    if token and not _room_of(request, token):
        raise Refused(404, "no_such_room")
    return settings_of(request.instance, request.user)


def _room_of(request: Request, token: str) -> dict[str, Any] | None:
    with Conversations(request.instance) as rooms:
        room = rooms.get(token)
        return room if room and room["owner"] == request.needs_user() else None


def _shown(token: str, room: dict[str, Any], session: str = "0") -> dict[str, Any]:
    """Return a conversation as Talk shows it to its owner; `session` is the one of this browser."""
    return {
        "token": token,
        "type": GROUP,
        "name": room["name"],
        "displayName": room["name"],
        "participantType": OWNER,
        "permissions": room["permissions"],
        "sessionId": session,
        "hasCall": any(entry["in_call"] for entry in room["sessions"].values()),
        "canDeleteConversation": True,
    }


def _list(request: Request, _token: str, _given: dict[str, Any]) -> list[dict[str, Any]]:
    user = request.needs_user()
    with Conversations(request.instance) as rooms:
        return [_shown(token, room) for token, room in rooms.items() if room["owner"] == user]


def _create(request: Request, _token: str, given: dict[str, Any]) -> dict[str, Any]:
    user = request.needs_user()
    if user in request.instance.settings["no_new_rooms"]:
        raise Refused(403, "no_new_rooms", {"error": "permissions"})
    if given.get("roomType") != GROUP or not given.get("roomName"):
        raise Refused(400, "no_name", {"error": "name"})
    token = "".join(secrets.choice(string.ascii_lowercase + string.digits) for _letter in range(8))
    permissions = request.instance.settings["permissions"].get(user, ALL_PERMISSIONS)
    room = {"name": str(given["roomName"]), "owner": user, "permissions": permissions, "sessions": {}}
    with Conversations(request.instance) as rooms:
        rooms[token] = room
    invite = {"userids": [user], "alluserids": [user], "properties": {"name": room["name"]}}
    _tell(request, token, {"type": "invite", "invite": invite}, 500)
    return _shown(token, room)


def _chat(request: Request, token: str, given: dict[str, Any]) -> dict[str, Any]:
    if not _room_of(request, token):
        raise Refused(404, "no_such_room")
    _tell(request, token, {"type": "message", "message": {"data": {"type": "chat", "chat": {"refresh": True}}}}, 400)
    return {"token": token, "message": str(given.get("message") or "")}


def _join(request: Request, token: str, _given: dict[str, Any]) -> dict[str, Any]:
    user = request.needs_user()
    session = "".join(secrets.choice(_LETTERS) for _letter in range(255))
    with Conversations(request.instance) as rooms:
        room = rooms.get(token)
        if not room or room["owner"] != user:
            raise Refused(404, "no_such_room")
        # The former session of this browser ends.
        room["sessions"].pop(request.session["rooms"].get(token), None)
        room["sessions"][session] = {"user": user, "in_call": 0, "last_ping": int(time.time())}
        request.session["rooms"][token] = session
        return _shown(token, room, session)


def _tell(request: Request, token: str, message: dict[str, Any], status: int) -> None:
    """Tell the signaling server; that it refuses is the user's error, with this status."""
    if not notify(request.instance, token, message, request.base_url):
        raise Refused(status, "signaling_failed")


def _set_call(request: Request, token: str, flags: int) -> None:
    """Note that this browser is in the call or not, and tell the signaling server."""
    user = request.needs_user()
    with Conversations(request.instance) as rooms:
        room = rooms.get(token)
        session = request.session["rooms"].get(token)
        if not room or room["owner"] != user or session not in room["sessions"]:
            raise Refused(404, "no_session")
        room["sessions"][session]["in_call"] = flags
        users = [
            {
                "inCall": entry["in_call"],
                "lastPing": entry["last_ping"],
                "sessionId": name,
                "nextcloudSessionId": name,
                "participantType": OWNER,
                "participantPermissions": room["permissions"],
                "actorType": "users",
                "actorId": entry["user"],
                "userId": entry["user"],
            }
            for name, entry in room["sessions"].items()
        ]
    changed = [entry for entry in users if entry["sessionId"] == session]
    present = [entry for entry in users if entry["inCall"]]
    message = {"incall": flags, "changed": changed, "users": present}
    _tell(request, token, {"type": "incall", "incall": message}, 500)


def _call(request: Request, token: str, given: dict[str, Any]) -> None:
    if request.instance.settings["calls_closed"]:
        raise Refused(403, "calls_closed")
    flags = given.get("flags")
    _set_call(request, token, flags if isinstance(flags, int) and 0 < flags < 16 else 7)


def _leave_call(request: Request, token: str, _given: dict[str, Any]) -> None:
    _set_call(request, token, 0)


def _leave(request: Request, token: str, _given: dict[str, Any]) -> None:
    request.needs_user()
    with Conversations(request.instance) as rooms:
        if token not in rooms:
            raise Refused(404, "no_such_room")
        rooms[token]["sessions"].pop(request.session["rooms"].pop(token, None), None)


def _remove(request: Request, token: str, _given: dict[str, Any]) -> None:
    user = request.needs_user()
    with Conversations(request.instance) as rooms:
        if token not in rooms or rooms[token]["owner"] != user:
            raise Refused(404, "no_such_room")
        if request.instance.settings["rooms_stay"]:
            raise Refused(500, "rooms_stay")
        del rooms[token]
    _tell(request, token, {"type": "delete", "delete": {"userids": [user]}}, 500)


_ROUTES = (
    (_SETTINGS, {"GET": ("settings", _settings)}),
    (_ROOMS, {"GET": ("list", _list), "POST": ("create", _create)}),
    (_ACTIVE, {"POST": ("join", _join), "DELETE": ("leave", _leave)}),
    (_CHAT, {"POST": ("chat", _chat)}),
    (_CALL, {"POST": ("call", _call), "DELETE": ("leave_call", _leave_call)}),
    (_ROOM, {"DELETE": ("remove", _remove)}),
)
