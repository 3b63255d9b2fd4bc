# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Talk's side of the signaling protocol: checks a signaling server's request and answers it.

Facts: the signaling server's docs/standalone-signaling-api-v1.md and api_backend.go, and Talk's answers as observed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from typing import Any

from .state import Instance

MIN_RANDOM = 32
PERMISSIONS = ["publish-audio", "publish-video", "publish-screen", "control"]


def checksum(secret: str, random: str, body: bytes) -> str:
    """Return the hex HMAC-SHA256 over random and body that both directions carry."""
    return hmac.new(secret.encode(), random.encode() + body, hashlib.sha256).hexdigest()


def is_signed(instance: Instance, random: str, claimed: str, body: bytes) -> bool:
    """Say whether a request is signed with the secret that this instance has stored."""
    if len(random) < MIN_RANDOM or not claimed:
        return False
    expected = checksum(instance.signaling()["secret"], random, body)
    return hmac.compare_digest(expected.encode(), claimed.lower().encode())


def _ticket_mac(instance: Instance, message: str) -> str:
    key = str(instance.system["secret"])
    return hmac.new(key.encode(), message.encode(), hashlib.sha256).hexdigest()


def ticket(instance: Instance, user: str) -> str:
    """Return a ticket for the v1 hello; the empty user is a guest."""
    message = f"{secrets.token_hex(8)}:{int(time.time())}:{user}"
    return f"{message}:{_ticket_mac(instance, message)}"


def is_ticket(instance: Instance, user: str, text: str) -> bool:
    """Say whether this is a ticket that this instance gave to this user."""
    message, _separator, claimed = text.rpartition(":")
    if message.count(":") < 2 or message.split(":", 2)[2] != user:
        return False
    return hmac.compare_digest(_ticket_mac(instance, message).encode(), claimed.encode())


def error(code: str, message: str) -> dict[str, Any]:
    """Return Talk's error answer."""
    return {"type": "error", "error": {"code": code, "message": message}}


def _params(part: dict[str, Any]) -> dict[str, Any]:
    """Return the client's own parameters, which may be anything that it sent."""
    params = part.get("params")
    return params if isinstance(params, dict) else {}


def _auth(instance: Instance, auth: dict[str, Any]) -> dict[str, Any]:
    params = _params(auth)
    user = str(params.get("userid") or "")
    if not is_ticket(instance, user, str(params.get("ticket") or "")):
        return error("invalid_ticket", "The ticket is not valid for this user.")
    if not user:
        return {"type": "auth", "auth": {"version": "1.0"}}
    if user not in instance.settings["users"]:
        return error("no_such_user", "There is no such user.")
    display = {"displayname": instance.settings["users"][user]}
    return {"type": "auth", "auth": {"version": "1.0", "userid": user, "user": display}}


def _permissions(bits: int) -> list[str]:
    """Return what the bits of a participant allow, in the words of the protocol; every owner has control."""
    return [word for bit, word in ((16, "publish-audio"), (32, "publish-video"), (64, "publish-screen")) if bits & bit]


def _conversation(instance: Instance, room: dict[str, Any]) -> list[str] | None:
    """Return what a session may do in a conversation that a user has made, None where it is not in it."""
    from .conversations import Conversations

    token, session = str(room.get("roomid") or ""), str(room.get("sessionid") or "")
    with Conversations(instance) as rooms:
        found = rooms.get(token, {}).get("sessions", {}).get(session)
        if not found or found["user"] != room.get("userid"):
            return None
        if room.get("action") == "leave":
            del rooms[token]["sessions"][session]
        return [*_permissions(rooms[token]["permissions"]), "control"]


def _room(instance: Instance, room: dict[str, Any]) -> dict[str, Any]:
    token = str(room.get("roomid") or "")
    if str(room.get("userid") or "") in instance.settings["rooms"].get(token, []):
        permissions: list[str] | None = PERMISSIONS
    else:
        permissions = _conversation(instance, room)
    if permissions is None:
        return error("no_such_room", "The user is not invited to this room.")
    properties = {"name": token, "type": 2, "lobby-state": 0, "read-only": 0, "listable": 0, "active-since": None}
    answer = {"version": "1.0", "roomid": token, "properties": properties, "permissions": permissions}
    return {"type": "room", "room": answer}


def _session(_instance: Instance, session: dict[str, Any]) -> dict[str, Any]:
    return {"type": "session", "session": {"version": "1.0", "roomid": session.get("roomid")}}


def _ping(_instance: Instance, _ping_request: dict[str, Any]) -> dict[str, Any]:
    # Talk really answers a ping with the type "room".
    return {"type": "room", "room": {"version": "1.0"}}


_ANSWERS = {"auth": _auth, "room": _room, "session": _session, "ping": _ping}


def answer(instance: Instance, random: str, claimed: str, body: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Answer one request of a signaling server; all answers go out as HTTP 200.

    Returns the data of the OCS answer, and what the request log keeps: `type`, `verdict` ("ok" or the error's code)
    and, where the request names them, `userid`, `roomid` and `action`.
    """
    if not is_signed(instance, random, claimed, body):
        return error("invalid_request", "The request could not be authenticated."), {"verdict": "invalid_request"}
    try:
        message = json.loads(body)
    except ValueError:
        message = {}
    kind = message.get("type", "") if isinstance(message, dict) else ""
    if kind not in _ANSWERS:
        return error("unknown_type", "This type is not supported."), {"type": kind, "verdict": "unknown_type"}
    part = message.get(kind)
    part = part if isinstance(part, dict) else {}
    reply = _ANSWERS[kind](instance, part)
    seen = {"type": kind, "verdict": reply.get("error", {}).get("code", "ok")}
    known = {**part, **_params(part)}
    seen.update({key: known[key] for key in ("userid", "roomid", "action") if known.get(key)})
    return reply, seen


def capabilities(instance: Instance) -> dict[str, Any]:
    """Return the anonymous capabilities, with Talk's part when it is enabled; may create the key pair."""
    from . import keys

    version = str(instance.system.get("version", "34.0.1.2"))
    major, minor, micro = (int(number) for number in version.split(".")[:3])
    result: dict[str, Any] = {"core": {"pollinterval": 60, "webdav-root": "remote.php/webdav"}}
    if instance.talk_enabled:
        keys.ensure(instance)
        signaling = {"session-ping-limit": 200, "hello-v2-token-key": keys.stored(instance)[1]}
        features = ["audio", "video", "chat-v2", "conversation-v4", "signaling-v3", "sip-support", "federation-v2"]
        config = {"call": {"enabled": True}, "signaling": signaling}
        result["spreed"] = {"features": features, "config": config, "version": instance.talk_version}
    names = {"major": major, "minor": minor, "micro": micro, "string": f"{major}.{minor}.{micro}"}
    return {"version": {**names, "edition": "", "extendedSupport": False}, "capabilities": result}


def hello_v2_token(instance: Instance, user: str, lifetime: int = 60) -> str:
    """Return the JWT of a v2 hello for a user of this instance; `lifetime` in seconds."""
    from . import keys

    claims = {"sub": user, "userdata": {"displayname": instance.settings["users"].get(user, user)}} if user else {}
    return keys.token(instance, claims, lifetime)


def turn_servers(instance: Instance) -> list[dict[str, Any]]:
    """Return the TURN entries as Talk hands them to clients, with credentials for one day."""
    from .talk_commands import read_list

    username = f"{int(time.time()) + 86400}:{secrets.token_hex(8)}"
    result = []
    for entry in read_list(instance, "turn_servers"):
        mac = hmac.new(entry["secret"].encode(), username.encode(), hashlib.sha1).digest()
        urls = [
            f"{scheme}:{entry['server']}?transport={protocol}"
            for scheme in entry["schemes"].split(",")
            for protocol in entry["protocols"].split(",")
        ]
        result.append({"urls": urls, "username": username, "credential": base64.b64encode(mac).decode()})
    return result
