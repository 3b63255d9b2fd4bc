# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The signaling client: signatures against known values, and how it takes what a server may do to it."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import socket

import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _signaling_client as client
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._signaling_client import Lost, Refused, Session
from websockets.asyncio.server import serve

NC = "https://nc.example.org"


def test_checksum_of_the_documented_example():
    random = "afb6b872ab03e3376b31bf0af601067222ff7990335ca02d327071b73c0119c6"
    body = b'{"type":"auth","auth":{"version":"1.0","params":{"hello":"world"}}}'
    expected = "3c4a69ff328299803ac2879614b707c807b4758cf19450755c60656cac46e3bc"
    assert client.checksum("MySecretValue", random, body) == expected


def test_a_signed_request_carries_a_matching_checksum_and_never_the_same_random_string():
    first, second = (client.signed_headers("s" * 64, NC, b"{}") for _turn in range(2))
    random = first["Spreed-Signaling-Random"]
    assert first["Spreed-Signaling-Checksum"] == client.checksum("s" * 64, random, b"{}")
    assert len(random) == 64
    assert random != second["Spreed-Signaling-Random"]
    assert first["Spreed-Signaling-Backend"] == NC
    assert first["Content-Type"] == "application/json"


def test_the_internal_token_is_a_hmac_of_the_random_string():
    # RFC 4231, test case 2.
    expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert client.internal_token("Jefe", "what do ya want for nothing?") == expected
    params = client.internal_hello("Jefe", NC)["auth"]["params"]
    assert params["token"] == hmac.new(b"Jefe", params["random"].encode(), hashlib.sha256).hexdigest()
    assert len(params["random"]) >= 32
    assert params["backend"] == NC


def test_turn_credentials():
    # Password made with: printf 1700000000:probe | openssl dgst -sha1 -hmac secret -binary | base64
    assert client.turn_credentials("secret", "probe", 1700000000) == (
        "1700000000:probe",
        "moI1OzgNPpaJytfCCVKxd1dC7+Y=",
    )


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://talk.example.org", "wss://talk.example.org/spreed"),
        ("https://talk.example.org:8443/", "wss://talk.example.org:8443/spreed"),
        ("https://example.org/standalone-signaling", "wss://example.org/standalone-signaling/spreed"),
        ("http://[2001:db8::1]:8080", "ws://[2001:db8::1]:8080/spreed"),
    ],
)
def test_the_websocket_url(url, expected):
    assert client.websocket_url(url) == expected


def test_a_ticket_goes_to_the_backend_of_talk():
    hello = client.ticket_hello("https://example.org/nc/", "made-up")
    assert hello["auth"]["url"] == "https://example.org/nc/ocs/v2.php/apps/spreed/api/v3/signaling/backend"
    assert hello["auth"]["params"] == {"userid": "", "ticket": "made-up"}


def test_names_are_pinned_only_within_the_block():
    original = socket.getaddrinfo
    with client.pinned_names({"Talk.example.org": "127.0.0.1", "six.example.org": "::1"}):
        assert socket.getaddrinfo("talk.EXAMPLE.org.", 443)[0][4][0] == "127.0.0.1"
        assert socket.getaddrinfo(b"talk.example.org", 443)[0][4][0] == "127.0.0.1"
        assert socket.getaddrinfo("six.example.org", 443)[0][4][0] == "::1"
        assert socket.getaddrinfo("127.0.0.2", 443)[0][4][0] == "127.0.0.2"
    assert socket.getaddrinfo is original


WELCOME = {"type": "welcome", "welcome": {"version": "2.1.1", "features": ["mcu"]}}
HELLO = {"type": "hello", "hello": {"version": "1.0", "sessionid": "me", "resumeid": "r"}}


def error(code, identifier=None):
    return {"type": "error", "error": {"code": code, "message": "why"}, **({"id": identifier} if identifier else {})}


def talk(use, answers):
    """Run `use(url)` against a server that answers the nth message with answers[n]; returns what the server got.

    An answer is a list of messages (replies get the id of the question), or the word close.
    """
    got = []

    async def peer(websocket):
        await websocket.send(json.dumps(WELCOME))
        async for text in websocket:
            question = json.loads(text)
            got.append(question)
            answer = answers[len(got) - 1] if len(got) <= len(answers) else []
            if answer == "close":
                await websocket.close(1008, "no")
                return
            for message in answer:
                sent = message if isinstance(message, str) else json.dumps({"id": question["id"], **message})
                await websocket.send(sent)

    async def run():
        async with serve(peer, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            await asyncio.wait_for(use(f"http://127.0.0.1:{port}"), 10)

    asyncio.run(run())
    return got


def open_at(url, timeout=5):
    return Session.open(url, None, client.internal_hello("s" * 64, NC), timeout)


def test_hello_room_and_goodbye():
    async def use(url):
        session = await open_at(url)
        assert (session.session_id, session.features) == ("me", ["mcu"])
        await session.join("room1")
        await session.close()

    got = talk(use, [[HELLO], [{"type": "room", "room": {"roomid": "room1"}}], [{"type": "bye"}]])
    assert [message["type"] for message in got] == ["hello", "room", "bye"]
    assert got[1]["room"]["roomid"] == "room1"


@pytest.mark.parametrize("code", ["invalid_token", "invalid_backend", "too_many_requests"])
def test_a_refused_hello_is_raised_with_its_code_and_not_repeated(code):
    async def use(url):
        with pytest.raises(Refused) as caught:
            await open_at(url)
        assert (caught.value.code, caught.value.message) == (code, "why")

    assert len(talk(use, [[error(code)]])) == 1


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("close", "closed the websocket with code 1008"),
        ([{"type": "bye", "bye": {"reason": "hello_timeout"}}], "the server answered a hello with a bye"),
        (["no json"], "not JSON"),
        ([{"type": "room", "room": {}}], "answered a hello with a room"),
    ],
)
def test_a_server_that_does_not_take_the_hello(answer, words):
    async def use(url):
        with pytest.raises(Lost, match=words):
            await open_at(url)

    talk(use, [answer])


def test_a_server_that_is_silent():
    async def use(url):
        with pytest.raises(asyncio.TimeoutError):
            await open_at(url, timeout=0.2)

    talk(use, [[]])


def test_messages_come_in_order_and_noise_is_ignored():
    data = [{"type": "candidate", "payload": {}}, {"type": "offer", "payload": {"sdp": "x"}}]
    messages = [
        {"type": "event", "event": {"target": "room"}},
        *({"type": "message", "id": "", "message": {"sender": {"sessionid": "p"}, "data": item}} for item in data),
    ]

    async def use(url):
        session = await open_at(url)
        await session.tell("p", {"type": "requestoffer", "roomType": "video"})
        assert [await session.next_data() for _item in data] == [("p", item) for item in data]
        await session.close()

    got = talk(use, [[HELLO], messages, [{"type": "bye"}]])
    assert got[1]["message"] == {
        "recipient": {"type": "session", "sessionid": "p"},
        "data": {"type": "requestoffer", "roomType": "video"},
    }


def test_an_error_for_a_message_is_raised_where_its_answer_is_awaited():
    async def use(url):
        session = await open_at(url)
        await session.tell("p", {"type": "requestoffer"})
        with pytest.raises(Refused, match="client_not_found"):
            await session.next_data()
        await session.close()

    talk(use, [[HELLO], [error("client_not_found")], [{"type": "bye"}]])


def test_a_connection_that_is_gone_fails_every_later_use():
    async def use(url):
        session = await open_at(url)
        await session.tell("p", {"type": "requestoffer"})
        for _turn in range(2):
            with pytest.raises(Lost, match="code 1008"):
                await session.next_data()
        with pytest.raises(Lost, match="code 1008"):
            await session.join("room1")
        await session.close()

    talk(use, [[HELLO], "close"])


@pytest.mark.parametrize(
    ("server", "expected", "closed"),
    [
        ({"subprotocols": ["janus-events"]}, (101, True), 1000),
        # One that knows no subprotocol greets its client.
        ({}, (101, False), 1000),
        ({"process_request": lambda connection, _request: connection.respond(404, "")}, (404, False), None),
        ({"process_request": lambda connection, _request: connection.respond(403, "")}, (403, False), None),
    ],
)
def test_the_websocket_for_events_is_asked_for_and_left_at_once(server, expected, closed):
    """The server hears no word, and a proper goodbye."""
    heard, ends = [], []

    async def welcome(connection):
        await connection.send(json.dumps({"type": "welcome"}))
        heard.extend([message async for message in connection])
        ends.append(connection.close_code)

    async def run():
        async with serve(welcome, "127.0.0.1", 0, **server) as listening:
            url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
            found = await asyncio.to_thread(client.ask_for_events, url, None, 5)
            await asyncio.sleep(0.1)
            return found

    assert asyncio.run(run()) == expected
    assert (heard, ends) == ([], [closed] if closed else [])
