# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether instances are apart, against a server that keeps rooms of one name apart or mixes them."""

from __future__ import annotations

import asyncio
import json

import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _isolation, _probe
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _signaling_client as client
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._probe import FAILED, OK
from websockets.asyncio.server import serve

FIRST, SECOND = "https://nc.example.org", "https://dev.example.org"


class Server:
    """A signaling server with rooms. `leaks` says what crosses from one backend to another: see, to, room.

    A deaf one delivers nothing at all; a strict one refuses a message to a session of another backend.
    """

    def __init__(self, leaks=(), deaf=False, strict=False):
        self.leaks, self.deaf, self.strict = leaks, deaf, strict
        self.peers = {}

    async def peer(self, websocket):
        me = f"session{len(self.peers)}"
        await websocket.send(json.dumps({"type": "welcome", "welcome": {}}))
        async for text in websocket:
            question = json.loads(text)
            kind, identifier = question["type"], question["id"]
            if kind == "hello":
                backend = question["hello"]["auth"]["params"]["backend"]
                self.peers[me] = (backend, websocket)
                await self.send(websocket, id=identifier, type="hello", hello={"sessionid": me})
            elif kind == "room":
                await self.send(websocket, id=identifier, type="room", room={"roomid": "r"})
                for _other, (backend, connection) in self.peers.items():
                    if backend == self.peers[me][0] or "see" in self.leaks:
                        await self.send(connection, type="event", event={"join": [{"sessionid": me}]})
            elif kind == "message":
                await self.deliver(me, identifier, question["message"])
            elif kind == "bye":
                await self.send(websocket, id=identifier, type="bye")

    async def deliver(self, sender, identifier, message):
        recipient = message["recipient"]
        for name, (backend, connection) in self.peers.items():
            foreign = backend != self.peers[sender][0]
            way = "to" if recipient["type"] == "session" else "room"
            if self.deaf or name == sender or (way == "to" and recipient["sessionid"] != name):
                continue
            if foreign and way not in self.leaks:
                if self.strict and way == "to":
                    refusal = {"code": "client_not_found", "message": "no"}
                    await self.send(self.peers[sender][1], id=identifier, type="error", error=refusal)
                continue
            content = {"sender": {"type": way, "sessionid": sender}, "data": message["data"]}
            await self.send(connection, type="message", message=content)

    async def send(self, connection, **message):
        await connection.send(json.dumps(message))


@pytest.mark.parametrize(
    ("server", "control", "learnt"),
    [
        (Server(), True, []),
        (Server(strict=True), True, []),
        (Server(leaks=("see",)), True, ["sees who is in its room"]),
        (Server(leaks=("to",)), True, ["gets a message to a session"]),
        (Server(leaks=("room",)), True, ["gets a message to its room"]),
        (
            Server(leaks=("see", "to", "room")),
            True,
            ["sees who is in its room", "gets a message to a session", "gets a message to its room"],
        ),
        (Server(deaf=True), False, []),
    ],
)
def test_what_one_instance_learns_of_another(server, control, learnt, monkeypatch):
    monkeypatch.setattr(_isolation, "HEAR_SECONDS", 0.5)
    monkeypatch.setattr(_isolation, "QUIET_SECONDS", 0.1)

    async def run():
        async with serve(server.peer, "127.0.0.1", 0) as listening:
            url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"

            def opened(backend):
                return lambda: client.Session.open(url, None, client.internal_hello("s" * 64, backend), 5)

            return await _isolation.look(opened(FIRST), opened(SECOND), "room")

    assert asyncio.run(run()) == {"control": control, "learnt": learnt}
    assert len(server.peers) == 3


def test_one_list_of_users_is_enough_to_be_seen():
    session = object.__new__(client.Session)
    session.session_id, session.others, session._replies = "", set(), {}
    users = [{"sessionId": "a"}, {"sessionId": "b"}, {}]
    session._dispatch({"type": "event", "event": {"target": "participants", "update": {"users": users}}})
    assert session.others == {"a", "b"}


@pytest.mark.parametrize(
    ("control", "learnt", "result", "words"),
    [
        (True, [], OK, "nothing of nc is seen or heard in a room of the same name"),
        (True, ["sees it", "hears it"], FAILED, "in rooms of one name, one sees it and hears it of the other (nc)."),
        (False, [], FAILED, "do not hear each other, so nothing is known of others"),
        (False, ["sees it"], FAILED, "The instances are not apart"),
    ],
)
def test_the_verdict_about_isolation(control, learnt, result, words):
    verdict = _probe.isolation("nc", {"control": control, "learnt": learnt})
    assert (verdict.status, words in verdict.seen) == (result, True)
    assert verdict.figures["other"] == "nc"


@pytest.mark.parametrize(
    ("status", "result", "words"),
    [
        (403, OK, f"the secret of nc is refused for {SECOND}"),
        (200, FAILED, f"accepts the secret of nc for {SECOND}"),
        (429, FAILED, "locked this controller's address out"),
        (500, FAILED, "is answered 500, expected 403"),
    ],
)
def test_the_verdict_about_a_wrong_secret(status, result, words):
    verdict = _probe.refusal("nc", SECOND, status)
    assert (verdict.status, words in verdict.seen) == (result, True)
