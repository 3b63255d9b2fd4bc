# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps as a user, against the stand-in: what stops what, one login for each run, and nothing that stays behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import test_standin_web
import test_talk_client
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import (
    _call,
    _probe,
    _probe_run,
    _signaling_client,
    _talk_client,
    _user_run,
)
from test_probe_run import module, spec
from test_standin_web import APP
from test_talk_client import rooms_of
from websockets.asyncio.server import serve

# The fixtures.
nextcloud = test_standin_web.nextcloud
web = test_talk_client.web
SERVER = "turn.example.org:3478"
TURN = {"server": SERVER, "protocols": ["udp", "tcp"], "tls_port": 5349}
STEPS = ("user-settings", "user-hello-v1", "user-hello-v2", "user-call", "user-turn")
FIGURES = {
    "audio": {"received": 50, "lost": 0, "frames": 50},
    "video": {"received": 60, "lost": 0, "frames": 15},
    "pair": {},
}


class Hub:
    """Greets everybody as the user of the hello; `refusals` are codes by version of the hello."""

    def __init__(self) -> None:
        self.refusals, self.hellos, self.user = {}, [], None

    async def __call__(self, websocket) -> None:
        async for text in websocket:
            question = json.loads(text)
            kind = question["type"]
            content = {}
            if kind == "hello":
                version, params = question["hello"]["version"], question["hello"]["auth"]["params"]
                self.hellos.append(version)
                if version in self.refusals:
                    refusal = {"code": self.refusals[version], "message": ""}
                    await websocket.send(json.dumps({"id": question["id"], "type": "error", "error": refusal}))
                    continue
                content = {"sessionid": "s", "userid": self.user or params.get("userid", "alice")}
            await websocket.send(json.dumps({"id": question["id"], "type": kind, kind: content}))


@pytest.fixture
def run(nextcloud, web, monkeypatch):
    """A function that takes all steps, with calls that `place` stands for; returns the verdicts by step."""
    hub, item = Hub(), {"id": "nc", "url": web().url, "user": "alice", "password": APP, "register": True}
    nextcloud.occ("talk:stun:add", SERVER)
    # What stands for the signaling server has no ear for a Nextcloud.
    nextcloud.set(posts_matter=False)

    def take(place=None, features=("hello-v2",), url=None, others=None, **changes):
        async def called(*arguments):
            return await place(*arguments) if place else dict(FIGURES)

        async def steps():
            async with serve(hub, "127.0.0.1", 0) as server:
                address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
                if url is None:
                    nextcloud.occ("talk:signaling:delete", nextcloud.hpb)
                    nextcloud.hpb = address
                    nextcloud.occ("talk:signaling:add", address, test_standin_web.SECRET)
                user = _user_run.UserSteps({**item, **changes}, url or address, None, TURN, time.time() + 60)
                if await user.ask() and await user.greet(features):
                    for step in ("user-call", "user-turn"):
                        await user.call(step, lambda: _call.Plan(data=True, family="ipv4"), relay)
                user.settle(others or {})
                return user.verdicts

        monkeypatch.setattr(_call, "place", called)
        return asyncio.run(steps())

    take.hub = hub
    return take


def relay(transport, username, password):
    return _call.Relay("turn.example.org", 3478, transport, username, password)


def shown(verdicts):
    assert set(verdicts) == set(STEPS)
    return " ".join(verdicts[step].status for step in STEPS)


def logins(nextcloud):
    return [entry["verdict"] for entry in nextcloud.log() if entry["verdict"] != "ok"]


def test_all_steps(nextcloud, run):
    plans = []

    async def place(_open, token, plan, seconds):
        plans.append((plan, seconds))
        assert len(rooms_of(nextcloud)) == 1 and token
        return dict(FIGURES)

    verdicts = run(place)
    assert shown(verdicts) == "ok ok ok ok ok"
    assert sorted(run.hub.hellos) == ["1.0", "2.0"]
    direct, relayed = (plan for plan, _seconds in plans)
    assert (direct.data, direct.family, direct.relay) == (False, "ipv4", None)
    # The credentials that Talk hands out: the expiry is a day away.
    assert relayed.relay.transport == "udp"
    assert 86000 < int(relayed.relay.username.partition(":")[0]) - time.time() <= 86400
    assert rooms_of(nextcloud) == []
    assert logins(nextcloud) == []


@pytest.mark.parametrize(
    ("settings", "changes", "expected", "cause"),
    [
        ({}, {"password": "wrong"}, "failed skipped skipped skipped skipped", "refuses the password of alice"),
        ({}, {"password": test_standin_web.LOGIN}, "failed skipped skipped skipped skipped", "for a guest"),
        ({"logins_throttled": True}, {}, "failed skipped skipped skipped skipped", "locked the controller's"),
        ({"no_talk": ["alice"]}, {}, "failed skipped skipped skipped skipped", "may not use Talk"),
        ({"no_new_rooms": ["alice"]}, {}, "ok ok ok failed skipped", "may not make conversations"),
        ({"posts_matter": True}, {}, "ok ok ok failed skipped", "could not tell the HPB of it"),
    ],
)
def test_what_stops_what(nextcloud, run, settings, changes, expected, cause):
    nextcloud.set(**settings)
    verdicts = run(**changes)
    assert shown(verdicts) == expected
    found = next(verdicts[step] for step in STEPS if verdicts[step].status == "failed")
    assert cause in found.cause
    assert logins(nextcloud).count("login_failed") == (1 if changes.get("password") == "wrong" else 0)
    # What Nextcloud has made before it answers with an error is removed by the next run.
    assert len(rooms_of(nextcloud)) == (1 if "posts_matter" in settings else 0)


def test_a_nextcloud_that_is_not_there_stops_all():
    item = {"id": "nc", "url": "http://127.0.0.1:1", "user": "alice", "password": APP}
    user = _user_run.UserSteps(item, "https://talk.example.org", None, TURN, time.time())
    assert asyncio.run(user.ask()) is False
    assert shown(user.verdicts) == "failed skipped skipped skipped skipped"


def test_another_server_stops_the_rest(nextcloud, run):
    verdicts = run(url="https://talk.example.org")
    assert shown(verdicts) == "failed skipped skipped skipped skipped"
    assert f"sends its users to {nextcloud.hpb}, expected https://talk.example.org" in verdicts["user-settings"].cause
    assert run.hub.hellos == []


def test_other_media_servers_do_not_stop_the_rest(nextcloud, run):
    nextcloud.occ("talk:turn:delete", "turn", SERVER, "udp,tcp")
    verdicts = run()
    assert shown(verdicts) == "failed ok ok ok skipped"
    assert verdicts["user-turn"].seen == "Talk hands out no TURN server of this HPB"


@pytest.mark.parametrize(
    ("refusals", "features", "expected", "seen"),
    [
        ({"1.0": "invalid_ticket"}, ["hello-v2"], "ok failed ok ok ok", "refuses the ticket"),
        ({"2.0": "token_expired"}, ["hello-v2"], "ok ok failed skipped skipped", "behind the HPB's"),
        ({"1.0": "invalid_ticket"}, [], "ok failed skipped skipped skipped", "refuses the ticket"),
        ({}, [], "ok ok skipped ok ok", "feature hello-v2"),
    ],
)
def test_hellos(run, refusals, features, expected, seen):
    run.hub.refusals = refusals
    verdicts = run(features=features)
    assert shown(verdicts) == expected
    assert seen in " ".join(verdict.seen for verdict in verdicts.values())


def test_a_session_of_somebody_else_is_a_failure(run):
    run.hub.user = "bob"
    assert run()["user-hello-v1"].cause == "The signaling server takes alice for bob."


def test_a_call_that_fails_leaves_nothing_and_keeps_to_its_cause(nextcloud, run):
    async def place(_open, _token, plan, _seconds):
        raise _call.CallFailed("publisher", remote=["host 192.0.2.1:1"], ice="checking")

    verdicts = run(place)
    assert shown(verdicts) == "ok ok ok failed failed"
    assert rooms_of(nextcloud) == []
    bad = _probe.failed("No media path.", "Open it.")
    others = {"direct": bad, "turn-udp": _probe.passed("fine"), "turn-tcp": bad}
    verdicts = run(place, others=others)
    assert shown(verdicts) == "ok ok ok skipped failed"
    assert verdicts["user-call"].seen == "the direct call of this instance failed"


def test_both_ends_enter_as_browsers_do(nextcloud, run):
    entered = []

    async def place(enter, token, _plan, _seconds):
        for _end in range(2):
            session = await enter()
            entered.append(session)
            await session.close()
        return dict(FIGURES)

    assert shown(run(place)) == "ok ok ok ok ok"
    assert entered[0].web is not entered[1].web
    assert run.hub.hellos.count("2.0") == 5 and run.hub.hellos.count("1.0") == 1
    assert [entry["type"] for entry in nextcloud.log() if entry.get("roomid")] == ["settings", "settings", "remove"] * 2


def test_the_call_waits_for_the_nextcloud_to_tell_the_server(nextcloud, run, monkeypatch):
    monkeypatch.setattr(_talk_client, "IN_CALL_SECONDS", 0.2)

    async def place(enter, token, _plan, _seconds):
        session = await enter()
        try:
            await session.join(token)
        finally:
            await session.close()

    verdicts = run(place)
    assert shown(verdicts) == "ok ok ok failed skipped"
    assert "does not tell the HPB that alice is in a call" in verdicts["user-call"].cause
    assert rooms_of(nextcloud) == []


def update(session, flags):
    users = [{"sessionId": session, "inCall": flags}]
    return {"type": "event", "event": {"target": "participants", "type": "update", "update": {"users": users}}}


@pytest.mark.parametrize(
    ("session", "flags", "expected"),
    [("s", 7, True), ("s", True, True), ("s", 0, False), ("s", 6, False), ("o", 7, False)],
)
def test_who_is_in_the_call(session, flags, expected):
    async def peer(websocket):
        question = json.loads(await websocket.recv())
        await websocket.send(json.dumps({"id": question["id"], "type": "hello", "hello": {"sessionid": "s"}}))
        await asyncio.sleep(0.1)
        await websocket.send(json.dumps(update(session, flags)))
        await asyncio.sleep(2)

    async def look():
        async with serve(peer, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            opened = await _signaling_client.Session.open(url, None, {})
            try:
                await asyncio.wait_for(opened.called(), 1)
                return True
            except asyncio.TimeoutError:
                return False
            finally:
                await opened.close()

    assert asyncio.run(look()) is expected


def test_steps_of_a_user_stand_last_and_only_where_one_is_given():
    instances = spec()["instances"]
    instances[0].update(user="alice", password=APP)
    report = asyncio.run(_probe_run.limited(spec("https://127.0.0.1:1", instances=instances)))
    found = [row["step"] for row in report["results"] if row["instance"] == "nc"]
    assert found[-5:] == list(STEPS)
    assert not [row for row in report["results"] if row["instance"] == "dev" and row["step"].startswith("user-")]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"user": "alice"}, "The instance nc has a user and no password, expected both or none: set password"),
        ({"password": APP}, "The instance nc has a password and no user, expected both or none: set user"),
    ],
)
def test_a_user_needs_a_password(given, words):
    instances = spec()["instances"]
    instances[0].update(given)
    result = module(spec(instances=instances))
    assert result["failed"] and words in result["msg"]
    assert APP not in json.dumps(result)


def test_who_is_told_to_end_tidies_up_first(monkeypatch):
    done = []

    async def busy(_self):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(10)
        finally:
            await asyncio.sleep(0.05)
            done.append("tidy")

    monkeypatch.setattr(_probe_run.Probe, "run", busy)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(_probe_run.limited(spec()))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert done == ["tidy"]


def test_a_child_that_is_left_early_may_tidy_up(tmp_path):
    mark = tmp_path / "tidy"
    script = (
        "import pathlib, signal, sys, time\n"
        f"def tidy(*_): time.sleep(0.2); pathlib.Path({str(mark)!r}).touch(); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, tidy)\nprint('ready', flush=True)\ntime.sleep(30)\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", script], **pipes)
    with pytest.raises(subprocess.TimeoutExpired):
        _probe_run.followed(process, "", 1.5)
    assert mark.exists()
    assert process.returncode == 0
