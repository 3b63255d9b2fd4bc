# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A user of a Nextcloud, against the stand-in: logins, conversations that never stay, and what is not understood."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
import test_standin_web
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _signaling_client, _talk_client
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._talk_client import Conversation, Unreached, Unwanted
from test_standin_web import APP, BOB, LOGIN

# The fixture.
nextcloud = test_standin_web.nextcloud
HOUR = 3600


@pytest.fixture
def web(nextcloud):
    """A function that opens a browser of a user of the running instance."""
    port = nextcloud.address.rpartition(":")[2]
    with _signaling_client.pinned_names({"nc.example.org": "127.0.0.1"}):
        yield lambda user="alice", password=APP: _talk_client.Web(f"http://nc.example.org:{port}", user, password, None)


def rooms_of(nextcloud):
    path = nextcloud.root / "data" / "conversations.json"
    return sorted(room["name"] for room in json.loads(path.read_text() or "{}").values()) if path.exists() else []


def test_a_call_from_the_beginning_to_the_end(nextcloud, web):
    first, second = web(), web()
    token = first.create(time.time() + HOUR)
    sessions = []
    for browser in (first, second):
        assert browser.settings(token)["userId"] == "alice"
        session, permissions = browser.join(token)
        sessions.append(session)
        assert permissions & _talk_client.MAY_SPEAK and permissions & _talk_client.MAY_SHOW
        browser.join_call(token)
    assert {entry["sessionId"] for entry in nextcloud.posts[-1][2]["incall"]["users"]} == set(sessions)
    first.leave_call(token)
    first.remove(token)
    assert rooms_of(nextcloud) == []


def test_a_login_is_one_for_all_requests_of_a_browser(nextcloud, web):
    browser = web()
    browser.settings()
    nextcloud.set(app_passwords={})
    assert browser.settings()["userId"] == "alice"
    with pytest.raises(Unwanted) as caught:
        web().settings()
    assert (caught.value.what, caught.value.status) == ("settings", 401)
    assert [entry["verdict"] for entry in nextcloud.log()] == ["ok", "ok", "login_failed"]


@pytest.mark.parametrize(
    ("user", "password", "found"), [("alice", APP, "alice"), ("alice", LOGIN, None), ("bob", BOB, "bob")]
)
def test_as_whom_talk_knows_us(web, user, password, found):
    assert web(user, password).settings()["userId"] == found


@pytest.mark.parametrize(
    ("changes", "act", "expected"),
    [
        ({"no_talk": ["alice"]}, lambda web: web.settings(), ("settings", 403)),
        ({"logins_throttled": True}, lambda web: web.settings(), ("settings", 429)),
        ({"needs_upgrade": True}, lambda web: web.settings(), ("settings", 503)),
        ({"talk": None}, lambda web: web.settings(), ("settings", 404)),
        ({"no_new_rooms": ["alice"]}, lambda web: web.create(0), ("create", 403)),
        ({"calls_closed": True}, lambda web: web.join_call("unknown1"), ("call", 403)),
        ({}, lambda web: web.join_call("unknown1"), ("call", 404)),
    ],
)
def test_what_is_not_wanted_is_raised_with_its_status(nextcloud, web, changes, act, expected):
    nextcloud.set(**changes)
    with pytest.raises(Unwanted) as caught:
        act(web())
    assert (caught.value.what, caught.value.status) == expected


def test_a_nextcloud_that_is_not_there():
    with pytest.raises(Unreached) as caught:
        _talk_client.Web("http://127.0.0.1:1", "alice", APP, None).settings()
    assert isinstance(caught.value.error, ConnectionRefusedError)


@pytest.mark.parametrize(
    ("status", "location", "text", "kind", "expected"),
    [
        (200, "", b'{"ocs": {"meta": {}, "data": {"a": 1}}}', dict, {"a": 1}),
        (201, "", b'{"ocs": {"meta": {}, "data": null}}', None, None),
        (302, "https://other.example.org/", b"", dict, (302, "https://other.example.org/")),
        (200, "", b"<html>", dict, (200, "no answer of Talk")),
        (200, "", b'{"ocs": {"meta": {}, "data": []}}', dict, (200, "no answer of Talk")),
        (400, "", b'{"ocs": {"meta": {"message": "m"}, "data": {"error": "consent"}}}', dict, (400, "consent")),
        (403, "", b'{"ocs": {"meta": {"message": "m"}, "data": []}}', dict, (403, "m")),
    ],
)
def test_answers(status, location, text, kind, expected):
    try:
        found = _talk_client.Web._data("settings", status, location, text, kind)
    except Unwanted as error:
        found = (error.status, error.word)
    assert found == expected


NOW = 1764000000
OURS = "Test call of nextcloud_talk.hpb, over by 2025-11-24T16:00:00Z"


@pytest.mark.parametrize(
    ("room", "expected"),
    [
        ({}, True),
        ({"name": "Test call of nextcloud_talk.hpb, over by 2025-11-24T15:59:59Z"}, True),
        ({"name": "Test call of nextcloud_talk.hpb, over by 2025-11-24T16:00:02Z"}, False),
        ({"name": "Test call of nextcloud_talk.hpb, over by noon"}, False),
        ({"name": "Weekly"}, False),
        ({"type": 3}, False),
        ({"participantType": 3}, False),
    ],
)
def test_leftovers(room, expected):
    assert _talk_client.room_name(NOW) == OURS
    assert _talk_client.is_leftover({"name": OURS, "type": 2, "participantType": 1, **room}, NOW + 1) is expected


def test_what_an_interrupted_run_has_left_is_removed(nextcloud, web):
    browser = web()
    browser.create(time.time() - 2)
    kept = _talk_client.room_name(time.time() + HOUR)
    browser.create(time.time() + HOUR)
    assert asyncio.run(_talk_client.tidy_up(web(), time.time())) == 1
    assert rooms_of(nextcloud) == [kept]


def use(web, body):
    """Run `body(conversation)` in a conversation; returns it afterwards."""

    async def run():
        room = Conversation(web(), time.time() + HOUR)
        task = asyncio.current_task()
        try:
            async with room:
                await body(task)
        except (RuntimeError, asyncio.CancelledError):
            pass
        return room

    return asyncio.run(run())


async def good(_task):
    pass


async def bad(_task):
    raise RuntimeError


async def ended(task):
    task.cancel()
    await asyncio.sleep(10)


@pytest.mark.parametrize("body", [good, bad, ended])
def test_a_conversation_is_gone_however_its_use_ends(nextcloud, web, body):
    room = use(web, body)
    assert (rooms_of(nextcloud), room.left) == ([], "")
    assert [entry["type"] for entry in nextcloud.log()] == ["create", "remove"]


def test_a_conversation_is_gone_also_when_its_making_is_interrupted(nextcloud, web):
    async def run():
        browser = web()
        make = browser.create
        made = asyncio.Event()
        loop = asyncio.get_running_loop()

        def slow(until):
            loop.call_soon_threadsafe(made.set)
            time.sleep(0.2)
            return make(until)

        browser.create = slow
        task = asyncio.ensure_future(Conversation(browser, time.time() + HOUR).__aenter__())
        await made.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert [entry["type"] for entry in nextcloud.log()] == ["create", "remove"]
    assert rooms_of(nextcloud) == []


def test_a_conversation_that_stays_is_told(nextcloud, web):
    nextcloud.set(rooms_stay=True)
    assert use(web, good).left == "500 rooms_stay"


@pytest.mark.parametrize(
    ("params", "features", "version", "expected"),
    [
        ({"1.0": {"ticket": "t"}, "2.0": {"token": "j"}}, ["hello-v2"], "2.0", {"token": "j"}),
        ({"1.0": {"ticket": "t"}, "2.0": {"token": "j"}}, [], "1.0", {"userid": "alice", "ticket": "t"}),
        ({"1.0": {"ticket": "t"}}, ["hello-v2"], "1.0", {"userid": "alice", "ticket": "t"}),
    ],
)
def test_the_hello_is_the_one_that_a_browser_takes(params, features, version, expected):
    hello = _talk_client.best_hello("https://nc", {"userId": "alice", "helloAuthParams": params}, features)
    assert (hello["version"], hello["auth"]["params"]) == (version, expected)
    assert hello["auth"]["url"] == "https://nc/ocs/v2.php/apps/spreed/api/v3/signaling/backend"
