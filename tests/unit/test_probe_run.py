# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The run of the call probe: what stops what, that nothing refused is tried again, and the module as a process."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _probe_run, _signaling_client
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._probe import OK, SKIPPED
from module_process import standard_input
from websockets.asyncio.server import serve

MODULE = "ansible_collections.nextcloud_talk.hpb.plugins.modules.call_probe"
SECRETS = {"internal": "1" * 64, "backend": "2" * 64, "turn": "3" * 64}
WELCOME = json.dumps({"nextcloud-spreed-signaling": "Welcome", "version": "2.1.1"}).encode()
FEATURES = {_signaling_client.FEATURES_HEADER: "mcu"}


def spec(url="https://talk.example.org", **given):
    instances = [
        {
            "id": name,
            "url": f"https://{name}.example.org",
            "secret": SECRETS["backend"],
            "turn_secret": SECRETS["turn"],
            "register": True,
            "optional": False,
        }
        for name in ("nc", "dev")
    ]
    return {
        "url": url,
        "internal_secret": SECRETS["internal"],
        "ca_files": [],
        "ca_pem": [],
        "resolve": {},
        "turn": {"server": "turn.example.org:3478", "protocols": ["udp", "tcp"]},
        "instances": instances,
        "duration": 1,
        "timeout": 20,
        **given,
    }


@pytest.fixture
def web():
    """A web server whose answers are in `answers`: a path, or the start of one, to status, headers and body."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.server.seen.append((self.command, self.path, dict(self.headers)))
            found = [key for key in self.server.answers if self.path.startswith(key)]
            status, headers, body = self.server.answers[found[0]] if found else (404, {}, b"")
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.answers = {"/api/v1/welcome": (200, FEATURES, WELCOME), "/api/v1/room/": (200, {}, b"{}")}
    server.seen = []
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def statuses(report):
    return {(row["instance"], row["step"]): row["status"] for row in report["results"]}


def test_a_server_that_is_not_ready_stops_everything(web):
    web.answers["/api/v1/welcome"] = (502, {}, b"")
    report = asyncio.run(_probe_run.limited(spec(web.url)))
    found = statuses(report)
    assert found.pop(("all", "welcome")) == "failed"
    assert set(found.values()) == {SKIPPED}
    assert [path for _method, path, _headers in web.seen] == ["/api/v1/welcome"]


def with_talk(*versions):
    instances = spec()["instances"]
    return [{**item, "talk_version": version} for item, version in zip(instances, versions)]


def test_a_server_that_is_not_ready_leaves_the_features_open(web):
    web.answers["/api/v1/welcome"] = (502, {}, b"")
    found = statuses(asyncio.run(_probe_run.limited(spec(web.url, instances=with_talk("22.0.0", "")))))
    assert found["nc", "features"] == SKIPPED
    assert ("dev", "features") not in found


def test_each_instance_is_told_what_its_talk_needs(web):
    header = "mcu, audio-video-permissions, dialout, hello-v2, incall-all, switchto"
    web.answers["/api/v1/welcome"] = (
        200,
        {_signaling_client.FEATURES_HEADER: header},
        WELCOME.replace(b"2.1.1", b"1.3.2"),
    )
    web.answers["/api/v1/room/"] = (403, {}, b"")
    result = module(spec(web.url, instances=with_talk("21.1.0", "19.0.0"), fail_on_error=False))
    rows = {(row["instance"], row["step"]): row for row in result["results"]}
    assert rows["dev", "features"]["seen"] == "all that Talk 19.0.0 requires"
    assert rows["nc", "features"]["figures"]["missing_required"] == ["federation"]
    assert [item["sentence"] for item in result["failures"] if item["step"] == "features"] == [
        "nc, what Talk needs: Talk 21.1.0 refuses the signaling server 1.3.2, which lacks federation (calls between "
        "Nextclouds). Set hpb_signaling_version to 2.0.0 or newer, and deploy again."
    ]
    line = next(line for line in result["table"] if line.startswith("nc") and "what Talk needs" in line)
    assert "failed" in line and "lacks federation" in line


def test_a_refused_signature_is_not_tried_again_and_stops_the_instance(web):
    web.answers["/api/v1/room/"] = (403, {}, b"")
    report = asyncio.run(_probe_run.limited(spec(web.url)))
    found = statuses(report)
    posts = [headers for method, _path, headers in web.seen if method == "POST"]
    assert sorted(headers["Spreed-Signaling-Backend"] for headers in posts) == [
        "https://dev.example.org",
        "https://nc.example.org",
    ]
    assert found["nc", "request"] == "failed"
    assert {found["nc", step] for step in ("hello", "direct", "turn-udp", "turn-tcp")} == {SKIPPED}
    assert [item["step"] for item in report["failures"]] == ["request", "request"]


@pytest.mark.parametrize(("taken", "status"), [(True, "failed"), (False, "ok")])
def test_a_websocket_for_events_is_a_failure_beside_the_others(web, monkeypatch, taken, status):
    web.answers["/spreed"] = (404, {}, b"")
    asked = []

    def ask(url, _context, _timeout):
        asked.append(url)
        return (101, taken)

    monkeypatch.setattr(_signaling_client, "ask_for_events", ask)
    report = asyncio.run(_probe_run.limited(spec(web.url)))
    found = statuses(report)
    assert asked == [web.url]
    assert (found["all", "closed"], found["nc", "request"]) == (status, "ok")
    sentences = [item["sentence"] for item in report["failures"] if item["step"] == "closed"]
    assert [text.split(" is taken")[0] for text in sentences] == (
        ["HPB, private paths closed: A websocket with the subprotocol janus-events"] if taken else []
    )


def given_secrets(web, *secrets):
    """Let the server accept exactly these secrets, in the order of the instances, and return what was refused."""
    instances = [{**item, "secret": secret} for item, secret in zip(spec()["instances"], secrets)]
    refused = []

    async def fetch(self, path, headers=None, body=None):
        if not path.startswith("/api/v1/room/"):
            return await original(self, path, headers, body)
        known = {item["url"]: item["secret"] for item in instances}
        secret = known[headers["Spreed-Signaling-Backend"]]
        signed = _signaling_client.checksum(secret, headers["Spreed-Signaling-Random"], body)
        if signed == headers["Spreed-Signaling-Checksum"]:
            return _signaling_client.Answer(200, {}, b"{}")
        refused.append(headers["Spreed-Signaling-Backend"])
        return _signaling_client.Answer(403, {}, b"")

    original = _probe_run.Probe._fetch
    return instances, refused, fetch


@pytest.mark.parametrize(
    ("negative", "secrets", "refused", "status"),
    [
        (False, ("2" * 64, "4" * 64), [], None),
        (True, ("2" * 64, "4" * 64), ["https://dev.example.org"], "ok"),
        (True, ("2" * 64, "2" * 64), [], "failed"),
        (True, ("2" * 64,), ["https://nc.example.org"], "ok"),
    ],
)
def test_one_refusal_is_provoked_on_request(web, monkeypatch, negative, secrets, refused, status):
    web.answers["/spreed"] = (404, {}, b"")
    instances, seen, fetch = given_secrets(web, *secrets)
    monkeypatch.setattr(_probe_run.Probe, "_fetch", fetch)
    report = asyncio.run(_probe_run.limited(spec(web.url, instances=instances, negative=negative)))
    rows = [row for row in report["results"] if row["step"] == "refusal"]
    assert seen == refused
    assert [(row["instance"], row["status"]) for row in rows] == ([(instances[-1]["id"], status)] if status else [])


def test_no_refusal_is_provoked_where_one_happened(web):
    web.answers["/api/v1/room/"] = (403, {}, b"")
    report = asyncio.run(_probe_run.limited(spec(web.url, negative=True)))
    assert len([1 for method, _path, _headers in web.seen if method == "POST"]) == 2
    assert statuses(report)["dev", "refusal"] == SKIPPED


def test_isolation_is_a_step_between_neighbours(web):
    web.answers["/spreed"] = (404, {}, b"")
    third = {**spec()["instances"][0], "id": "third", "url": "https://third.example.org"}
    report = asyncio.run(_probe_run.limited(spec(web.url, instances=[*spec()["instances"], third])))
    assert [place for place, status in statuses(report).items() if place[1] == "isolation"] == [
        ("dev", "isolation"),
        ("third", "isolation"),
    ]
    alone = asyncio.run(_probe_run.limited(spec(web.url, instances=spec()["instances"][:1])))
    assert not [row for row in alone["results"] if row["step"] == "isolation"]


def test_paths_that_are_open_are_named(web):
    web.answers["/metrics"] = (200, {}, b"secret")
    web.answers["/api/v1/room/"] = (403, {}, b"")
    report = asyncio.run(_probe_run.limited(spec(web.url)))
    assert "/metrics answers 200, expected 404" in report["failures"][0]["cause"]


def test_a_proxy_without_websockets_is_one_failure(web):
    web.answers["/spreed"] = (400, {}, b"Bad Request")
    report = asyncio.run(_probe_run.limited(spec(web.url)))
    assert [(item["instance"], item["step"]) for item in report["failures"]] == [("all", "websocket")]
    assert "does not pass the upgrade" in report["failures"][0]["cause"]
    assert statuses(report)["nc", "request"] == OK


def test_a_wrong_internal_secret_is_tried_once(monkeypatch):
    hellos = []

    async def fetch(_self, path, *_rest):
        if path == "/api/v1/welcome":
            return _signaling_client.Answer(200, {key.lower(): value for key, value in FEATURES.items()}, WELCOME)
        return _signaling_client.Answer(200 if path.startswith("/api/v1/room/") else 404, {}, b"{}")

    async def peer(websocket):
        async for text in websocket:
            hello = json.loads(text)
            hellos.append(hello["hello"]["auth"])
            refusal = {"code": "invalid_token", "message": "The passed token is invalid."}
            await websocket.send(json.dumps({"id": hello["id"], "type": "error", "error": refusal}))

    async def run():
        async with serve(peer, "127.0.0.1", 0) as server:
            return await _probe_run.limited(spec(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"))

    monkeypatch.setattr(_probe_run.Probe, "_fetch", fetch)
    report = asyncio.run(run())
    assert [hello["type"] for hello in hellos] == ["internal"]
    assert [(item["instance"], item["step"]) for item in report["failures"]] == [("all", "websocket")]
    assert "refuses the internal secret" in report["failures"][0]["cause"]


def test_steps_that_are_not_finished_have_failed(monkeypatch):
    async def fetch(_self, _path, *_rest):
        await asyncio.sleep(60)

    monkeypatch.setattr(_probe_run.Probe, "_fetch", fetch)
    report = asyncio.run(_probe_run.limited(spec(timeout=0.1)))
    assert set(statuses(report).values()) == {"failed"}
    assert report["failures"][0]["cause"] == "It was not finished within 0.1 seconds."


def test_a_doubtful_call_is_placed_once_more_and_alone(monkeypatch):
    placed, busy, crowd = [], [], []

    async def place(_open, _room, plan, _seconds):
        relay = plan.relay
        kind = relay.transport if relay else ("screen" if plan.stream == "screen" else "direct")
        placed.append(kind)
        busy.append(kind)
        crowd.append(len(busy))
        again = len(placed) > 8
        await asyncio.sleep(0.01)
        busy.remove(kind)
        return {
            "audio": {"received": 99, "lost": 0 if again else 1, "frames": 9},
            "video": {"received": 99, "lost": 0, "frames": 9},
            "late_seconds": 0.5 if relay else 0.0,
            "pair": {},
            "missing": [],
        }

    async def good(*_arguments):
        return True

    monkeypatch.setattr(_probe_run._call, "place", place)
    for step in ("_welcome", "_request", "_websocket", "_hello", "_closed", "_isolate"):
        monkeypatch.setattr(_probe_run.Probe, step, good)
    report = asyncio.run(_probe_run.limited(spec()))
    assert sorted(placed[:8]) == sorted(["direct", "udp", "tcp", "screen"] * 2)
    assert placed[8:] == ["udp", "tcp"] * 2
    assert crowd[8:] == [1, 1, 1, 1]
    found = {row["step"]: row["figures"]["loss_percent"] for row in report["results"] if row["figures"]}
    assert found == {"direct": 0.5, "turn-udp": 0.0, "turn-tcp": 0.0, "screen": 0.5}


def figures(**given):
    kinds = {kind: {"received": 99, "lost": 0, "frames": 9} for kind in ("audio", "video")}
    return {**kinds, "late_seconds": 0.0, "pair": {}, "missing": [], **given}


def plans_of(monkeypatch, given, there=("ipv4",), fail=None):
    """Run the probe without a server; returns the plans of its calls by instance and step, and the report.

    there: the families of the server's name. fail: raised for a plan that it returns an exception for.
    """
    plans, running = {}, []

    async def good(*_arguments):
        return True

    async def place(_open, _room, plan, seconds):
        running.append(plan)
        assert not plan.greedy or len(running) == 1, "the bitrate is measured alone"
        await asyncio.sleep(0.01)
        running.remove(plan)
        if fail and (failure := fail(plan)):
            raise failure
        return figures(kbit_per_second=1000, told_kbit_per_second=1049, seconds=seconds)

    original = _probe_run.Probe._plan

    def plan_of(self, item, step):
        plan, seconds = original(self, item, step)
        plans[item["id"], step] = plan
        return plan, seconds

    monkeypatch.setattr(_probe_run._call, "place", place)
    monkeypatch.setattr(_probe_run.Probe, "_plan", plan_of)
    monkeypatch.setattr(_signaling_client, "families_of", lambda *_place: list(there))
    for step in ("_welcome", "_request", "_websocket", "_hello", "_closed", "_isolate"):
        monkeypatch.setattr(_probe_run.Probe, step, good)
    return plans, asyncio.run(_probe_run.limited(spec(**{"turn": None, **given})))


@pytest.mark.parametrize(
    ("wished", "there", "expected"),
    [
        (None, ["ipv4"], {"direct": ""}),
        (None, ["ipv6"], {"direct": ""}),
        (None, [], {"direct": ""}),
        (None, ["ipv4", "ipv6"], {"direct": "ipv4", "direct-ipv6": "ipv6"}),
        (["ipv4"], ["ipv4", "ipv6"], {"direct": "ipv4"}),
        (["ipv6"], ["ipv4", "ipv6"], {"direct-ipv6": "ipv6"}),
    ],
)
def test_direct_calls_are_placed_for_each_family(monkeypatch, wished, there, expected):
    plans, report = plans_of(monkeypatch, {"families": wished}, there)
    found = {step: plan.family for (name, step), plan in plans.items() if name == "nc" and step.startswith("direct")}
    assert found == expected
    steps = [row["step"] for row in report["results"] if row["instance"] == "nc" and row["step"].startswith("direct")]
    assert steps == list(expected)


def test_a_family_that_was_asked_for_and_is_not_there_is_a_failure(monkeypatch):
    plans, report = plans_of(monkeypatch, {"families": ["ipv4", "ipv6"]}, ["ipv4"])
    assert ("nc", "direct-ipv6") not in plans
    assert statuses(report)["nc", "direct-ipv6"] == "failed"
    causes = [item["cause"] for item in report["failures"] if item["step"] == "direct-ipv6"]
    assert len(causes) == 2 and all("name has no IPv6 address" in cause for cause in causes)


@pytest.mark.parametrize(("wished", "status"), [(None, SKIPPED), (["ipv4", "ipv6"], "failed")])
def test_janus_without_a_family_matters_where_it_was_asked_for(monkeypatch, wished, status):
    def fail(plan):
        evidence = {"side": "remote", "family": plan.family}
        return _probe_run._call.CallFailed("family", **evidence) if plan.family == "ipv6" else None

    _plans, report = plans_of(monkeypatch, {"families": wished}, ["ipv4", "ipv6"], fail)
    assert statuses(report)["nc", "direct-ipv6"] == status
    assert statuses(report)["nc", "direct"] == "ok"


BOTH = {"ipv4": "192.0.2.10", "ipv6": "2001:db8::10"}
FOUR, SIX = _probe_run.FAMILY_ALIASES["ipv4"], _probe_run.FAMILY_ALIASES["ipv6"]
NAME = "turn.example.org"


@pytest.mark.parametrize(
    ("wished", "addresses", "expected"),
    [
        (None, {}, {"turn-udp": (NAME, ""), "turn-tcp": (NAME, ""), "turn-tls": (NAME, "")}),
        (None, {"ipv6": "2001:db8::10"}, dict.fromkeys(("turn-udp", "turn-tcp", "turn-tls"), (NAME, "ipv6"))),
        (["ipv4"], BOTH, dict.fromkeys(("turn-udp", "turn-tcp", "turn-tls"), (NAME, ""))),
        (
            None,
            BOTH,
            {
                "turn-udp": (FOUR, "ipv4"),
                "turn-tcp": (FOUR, "ipv4"),
                "turn-tls": (NAME, ""),
                "turn-udp-ipv6": (SIX, "ipv6"),
                "turn-tcp-ipv6": (SIX, "ipv6"),
            },
        ),
    ],
)
def test_the_turn_server_is_reached_over_each_family(monkeypatch, wished, addresses, expected):
    turn = {"server": f"{NAME}:3478", "protocols": ["udp", "tcp", "tls"], "tls_port": 5349}
    given = {"turn": turn, "turn_addresses": addresses, "families": wished}
    plans, report = plans_of(monkeypatch, given, ["ipv4", "ipv6"])
    rows = {row["step"]: row for row in report["results"] if row["instance"] == "nc"}
    assert [step for step in rows if step.startswith("turn-")] == list(expected)
    hosts = {step: plan.relay.host for (name, step), plan in plans.items() if name == "nc" and plan.relay}
    assert {step: (hosts[step], rows[step]["figures"]["turn_family"]) for step in expected} == expected


def test_the_child_learns_the_turn_servers_addresses(monkeypatch):
    """Of each family that this machine has a route to; each gets a name of its own, which the TURN client takes."""
    seen = {}

    async def limited(given):
        seen.update(given)
        seen["addresses"] = {name: socket.getaddrinfo(alias, 3478)[0][4][0] for name, alias in (("ipv4", FOUR),)}
        return {}

    monkeypatch.setattr(_probe_run, "limited", limited)
    monkeypatch.setattr(_probe_run.os, "_exit", lambda _code: None)
    turn = {"server": f"{NAME}:3478", "protocols": ["udp"], "tls_port": 5349}
    _probe_run.child(spec(turn=turn, resolve={NAME: "127.0.0.1"}))
    assert seen["turn_addresses"] == seen["addresses"] == {"ipv4": "127.0.0.1"}
    logging.disable(logging.NOTSET)


def test_what_the_calls_are_made_of(monkeypatch):
    plans, report = plans_of(monkeypatch, {})
    assert plans["nc", "direct"].data is True
    assert (plans["nc", "screen"].stream, plans["nc", "screen"].tracks) == ("screen", ("video",))
    assert ("nc", "bitrate") not in plans
    assert report["limits"]["nc"] == {"session_limit": None, "stream_bitrate": None}


def test_where_all_media_is_relayed_nothing_goes_directly(monkeypatch):
    turn = {"server": "turn.example.org:3478", "protocols": ["udp", "tcp"]}
    plans, report = plans_of(monkeypatch, {"direct": False, "turn": turn, "bitrate": True}, ["ipv4", "ipv6"])
    found = {row["step"]: (row["status"], row["seen"]) for row in report["results"] if row["instance"] == "nc"}
    assert found["direct"] == (SKIPPED, "not to be expected: all media of this backend goes through TURN")
    assert "direct-ipv6" not in found
    assert {found[step][0] for step in ("turn-udp", "turn-tcp", "screen", "bitrate")} == {"ok"}
    kinds = {step: plan.relay and plan.relay.transport for (name, step), plan in plans.items() if name == "nc"}
    assert kinds == {"turn-udp": "udp", "turn-tcp": "tcp", "screen": "udp", "bitrate": "udp"}
    # What the direct call shows otherwise is shown once.
    assert [step for (name, step), plan in plans.items() if name == "nc" and plan.data] == ["turn-udp"]


def test_where_all_media_is_relayed_a_user_calls_through_turn_only(monkeypatch):
    placed = []

    async def good(*_arguments):
        return True

    async def call(self, step, plan, _relay):
        placed.append(step)
        assert plan().family == ""
        self.verdicts[step] = _probe_run._probe.passed("it went well")

    for step in ("ask", "greet"):
        monkeypatch.setattr(_probe_run._user_run.UserSteps, step, good)
    monkeypatch.setattr(_probe_run._user_run.UserSteps, "call", call)
    instances = [{**item, "user": "tester", "password": "-"} for item in spec()["instances"][:1]]
    turn = {"server": "turn.example.org:3478", "protocols": ["udp", "tcp"]}
    _plans, report = plans_of(monkeypatch, {"direct": False, "turn": turn, "instances": instances})
    assert placed == ["user-turn"]
    (row,) = [row for row in report["results"] if row["step"] == "user-call"]
    assert (row["status"], row["seen"]) == (
        SKIPPED,
        "not to be expected: all media of this backend goes through TURN",
    )


def test_where_all_media_is_relayed_and_no_relay_is_named_nothing_is_proven(monkeypatch):
    plans, report = plans_of(monkeypatch, {"direct": False})
    assert plans == {}
    assert {row["status"] for row in report["results"] if row["step"] in ("direct", "screen")} == {SKIPPED}


def test_bitrates_are_measured_on_request_and_alone(monkeypatch):
    instances = [
        {**item, "session_limit": 5, "stream_bitrate": limit}
        for item, limit in zip(spec()["instances"], (1048576, 500000))
    ]
    plans, report = plans_of(monkeypatch, {"bitrate": True, "instances": instances})
    assert plans["nc", "bitrate"].greedy
    found = statuses(report)
    assert (found["nc", "bitrate"], found["dev", "bitrate"]) == ("ok", "failed")
    assert report["limits"]["dev"] == {"session_limit": 5, "stream_bitrate": 500000}


class Browser:
    """A browser that starts, or does not."""

    version = "156.0"
    wrong = ""
    running = 0

    def __init__(self, command, folder):
        self.command, self.folder = command, folder

    async def __aenter__(self):
        if self.wrong:
            raise _probe_run._browser.BrowserError(self.wrong)
        return self

    async def __aexit__(self, *_unused):
        pass


def browse(monkeypatch, results, wrong="", **given):
    """Run the probe with a browser and without a server; returns the relays of its calls, and the report.

    results: what the calls in the browser come to, figures or an exception, one after the other; the last one for all
    others.
    """
    placed, commands = [], []

    async def place(browser, _open, _room, relay, _seconds):
        placed.append(relay and relay.uri)
        commands[:] = browser.command
        found = results[min(len(placed), len(results)) - 1]
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(Browser, "wrong", wrong)
    monkeypatch.setattr(_probe_run._browser, "Browser", Browser)
    monkeypatch.setattr(_probe_run._browser_call, "place", place)
    turn = {"server": "turn.example.org:3478", "protocols": ["udp", "tcp"], "tls_port": 5349}
    original = _probe_run.Probe.__init__

    def patched(self, spec):
        original(self, {**spec, "turn": turn, "browser": "/opt/chromium", "folder": "/tmp/probe", **given})

    monkeypatch.setattr(_probe_run.Probe, "__init__", patched)
    _plans, report = plans_of(monkeypatch, {})
    return placed, commands, report


BROWSED = {"browser": "156.0", "layers": {name: {"width": 1, "height": 1} for name in ("low", "medium", "high")}}


def test_calls_are_placed_in_a_browser_one_after_the_other(monkeypatch):
    with _signaling_client.pinned_names({"turn.example.org": "192.0.2.1"}):
        placed, command, report = browse(monkeypatch, [figures(**BROWSED)])
    # By its address, since Chromium looks names of TURN servers up on its own.
    ways = [None, "turn:192.0.2.1:3478?transport=udp", "turn:192.0.2.1:3478?transport=tcp"]
    assert placed == ways * 2
    assert "--host-resolver-rules=MAP turn.example.org 192.0.2.1, MAP * ~NOTFOUND, EXCLUDE 192.0.2.1" in command
    assert not [word for word in command if SECRETS["turn"] in word]
    found = statuses(report)
    assert found["all", "chromium"] == "ok"
    steps = [step for name, step in found if name == "dev"]
    assert steps[-3:] == ["browser", "browser-turn-udp", "browser-turn-tcp"]
    relayed = [row for row in report["results"] if row["step"].startswith("browser-turn")]
    assert {row["status"] for row in relayed} == {"ok"}


def test_where_all_media_is_relayed_a_browser_calls_through_turn_only(monkeypatch):
    with _signaling_client.pinned_names({"turn.example.org": "192.0.2.1"}):
        placed, _command, report = browse(monkeypatch, [figures(**BROWSED)], direct=False)
    assert placed == ["turn:192.0.2.1:3478?transport=udp", "turn:192.0.2.1:3478?transport=tcp"] * 2
    rows = [row for row in report["results"] if row["step"] == "browser"]
    assert {(row["status"], row["seen"]) for row in rows} == {
        (SKIPPED, "not to be expected: all media of this backend goes through TURN")
    }


def test_a_browser_gets_an_ipv6_address_as_in_a_url(monkeypatch):
    turn = {"server": "[2001:db8::1]:3478", "protocols": ["udp"], "tls_port": 5349}
    placed, command, _report = browse(monkeypatch, [figures(**BROWSED)], turn=turn)
    assert placed == [None, "turn:[2001:db8::1]:3478?transport=udp"] * 2
    assert "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE [2001:db8::1]" in command


def test_a_doubtful_call_in_a_browser_is_placed_once_more(monkeypatch):
    lossy = {"audio": {"received": 99, "lost": 1, "frames": 9}, "late_seconds": 0.5}
    placed, _command, report = browse(monkeypatch, [figures(**{**BROWSED, **lossy}), figures(**BROWSED)])
    assert (len(placed), placed[:2]) == (7, [None, None])
    assert statuses(report)["nc", "browser"] == "ok"


def test_a_browser_that_does_not_start_is_one_failure(monkeypatch):
    placed, _command, report = browse(monkeypatch, [], wrong="it ended: no display")
    assert placed == []
    found = [item for item in report["failures"] if "chromium" in item["step"] or "browser" in item["step"]]
    assert [(item["instance"], item["step"]) for item in found] == [("all", "chromium")]
    assert found[0]["cause"] == "The browser /opt/chromium does not start: it ended: no display."
    assert {statuses(report)["nc", step] for step in ("browser", "browser-turn-udp")} == {SKIPPED}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            _probe_run._browser.BrowserError("it ended: out of memory"),
            "Chromium did not do what a call needs: it ended",
        ),
        (_probe_run._call.CallFailed("offer", code="timeout"), "Janus did not take the publisher's offer"),
        (_probe_run.Refused("invalid_token"), "refuses the internal secret"),
    ],
)
def test_a_call_in_a_browser_that_fails_is_explained(monkeypatch, error, words):
    placed, _command, report = browse(monkeypatch, [error])
    assert len(placed) == 6
    found = {item["instance"]: item for item in report["failures"] if item["step"].startswith("browser")}
    assert list(found) == ["nc", "dev"]
    assert found["nc"]["step"] == "browser, browser-turn-udp, browser-turn-tcp"
    assert all(words in item["cause"] for item in found.values())


def test_an_instance_without_a_turn_secret_has_no_relayed_call_in_a_browser(monkeypatch):
    instances = [{**item, "turn_secret": None} for item in spec()["instances"]]
    placed, _command, report = browse(monkeypatch, [figures(**BROWSED)], instances=instances)
    assert placed == [None, None]
    assert statuses(report)["nc", "browser-turn-udp"] == SKIPPED


@pytest.mark.parametrize("wrong", ["welcome", "request", "websocket"])
def test_a_browser_is_not_started_where_no_call_can_be_placed(web, monkeypatch, wrong):
    answers = {"welcome": {"/api/v1/welcome": (502, {}, b"")}, "request": {"/api/v1/room/": (403, {}, b"")}}
    web.answers.update(answers.get(wrong, {"/spreed": (400, {}, b"")}))
    monkeypatch.setattr(_probe_run._browser, "Browser", None)
    report = asyncio.run(_probe_run.limited(spec(web.url, browser="/opt/chromium")))
    found = statuses(report)
    assert {found["all", "chromium"], found["nc", "browser"], found["dev", "browser-turn-tcp"]} == {SKIPPED}


def test_the_browsers_folder_does_not_stay(monkeypatch):
    show = "import json, sys; print(json.dumps(json.load(sys.stdin)['folder']))"
    monkeypatch.setattr(_probe_run, "START", show)
    folder = _probe_run.in_child(spec(browser="/opt/chromium"))
    assert folder and not Path(folder).exists()
    assert _probe_run.in_child(spec()) == ""


def test_a_folder_into_which_a_browser_still_writes_is_removed(monkeypatch, tmp_path):
    remove, times = _probe_run.shutil.rmtree, []

    def busy(path, ignore_errors):
        remove(path, ignore_errors=ignore_errors)
        times.append(path)
        if len(times) < 3:
            Path(path, "profile").mkdir(parents=True)

    monkeypatch.setattr(_probe_run.shutil, "rmtree", busy)
    _probe_run.discard(str(tmp_path / "folder"))
    (tmp_path / "folder").mkdir()
    _probe_run.discard("")
    _probe_run.discard(str(tmp_path / "folder"))
    assert (len(times), list(tmp_path.iterdir())) == (3, [])


def test_turn_over_tls_has_a_port_of_its_own():
    probe = _probe_run.Probe(spec(turn={"server": "turn.example.org:3478", "protocols": ["tls"], "tls_port": 443}))
    relay = probe._plan(probe.instances[0], "turn-tls")[0].relay
    assert relay.uri == "turns:turn.example.org:443?transport=tcp"
    assert probe._plan(probe.instances[0], "turn-udp")[0].relay.uri == "turn:turn.example.org:3478?transport=udp"
    assert probe._turn_address("tls") == "turn.example.org:443"


def test_turn_on_443_has_a_name_of_its_own():
    turn = {
        "server": "turn.example.org:3478",
        "protocols": ["443"],
        "tls_port": 5349,
        "name_443": "turn443.example.org",
    }
    probe = _probe_run.Probe(spec(turn=turn))
    assert "turn-443" in probe.calls
    relay = probe._plan(probe.instances[0], "turn-443")[0].relay
    assert (relay.uri, relay.transport) == ("turns:turn443.example.org:443?transport=tcp", "tls")


def test_the_child_trusts_all_authorities_by_its_environment(tmp_path, monkeypatch):
    (tmp_path / "usual.pem").write_text("usual")
    (tmp_path / "file.pem").write_text("of a file")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "usual.pem"))
    show = "import json, os, sys; sys.stdin.read(); print(json.dumps(open(os.environ['SSL_CERT_FILE']).read()))"
    monkeypatch.setattr(_probe_run, "START", show)
    found = _probe_run.in_child(spec(ca_files=[str(tmp_path / "file.pem")], ca_pem=["given"]))
    assert found == "usual\nof a file\ngiven\n"


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        ("turn.example.org:3478", ("turn.example.org", 3478)),
        ("192.0.2.1:443", ("192.0.2.1", 443)),
        ("[2001:db8::1]:3478", ("2001:db8::1", 3478)),
    ],
)
def test_a_turn_server_is_split(server, expected):
    assert _probe_run.split_server(server) == expected


@pytest.mark.parametrize("server", ["turn.example.org", "turn.example.org:", "turn.example.org:0", ":3478", "a:99999"])
def test_a_turn_server_without_a_port_is_refused(server):
    with pytest.raises(_probe_run.ProbeError, match="expected a name, a colon and a port"):
        _probe_run.split_server(server)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def module(arguments, check=False):
    """Run the module as Ansible does; no secret may be in what it says."""
    done = subprocess.run(
        [sys.executable, "-m", MODULE],
        input=standard_input(arguments, check),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.strip(), done.stderr
    result = json.loads(done.stdout)
    invocation = result.pop("invocation")
    for secret in SECRETS.values():
        assert secret not in json.dumps(result) + json.dumps(invocation) + done.stderr
    return result


def test_the_module_names_the_failure_and_returns_everything():
    url = f"https://talk.example.org:{free_port()}"
    result = module(spec(url, resolve={"talk.example.org": "127.0.0.1"}))
    assert (result["failed"], result["ok"]) == (True, False)
    assert result["msg"].startswith(f"HPB, signaling server: {url[8:]} refuses the connection")
    assert result["failures"][0]["instance"] == "all"
    assert [row["status"] for row in result["results"]].count("skipped") == len(result["results"]) - 1
    assert result["table"][0].startswith("instance")


def test_the_module_only_returns_failures_when_it_is_told_to(web):
    web.answers["/api/v1/room/"] = (403, {}, b"")
    result = module(spec(web.url, fail_on_error=False))
    assert (result.get("failed", False), result["ok"], result["changed"]) == (False, False, False)
    assert (result["version"], result["features"]) == ("2.1.1", ["mcu"])


def test_check_mode_places_no_call(web):
    result = module(spec(web.url), check=True)
    assert result == {"changed": False, "skipped": True, "msg": "No calls are placed in check mode."}
    assert web.seen == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"ca_files": ["/nonexistent/ca.pem"]}, "The file /nonexistent/ca.pem of ca_files is no readable PEM file"),
        ({"ca_pem": ["no certificate"]}, "A text of ca_pem is no certificate in PEM format"),
        ({"turn": {"server": "turn.example.org"}}, "expected a name, a colon and a port"),
        (
            {"browser": "/nonexistent/chromium"},
            "There is no program /nonexistent/chromium on the controller, expected the Chromium that browser names: "
            "install it (Debian's package chromium), correct the path, or leave browser empty.",
        ),
        (
            {"turn": {"server": "[2001:db8::1]:3478", "protocols": ["tls"]}},
            "The TURN server is the address 2001:db8::1, expected a name for a call over TLS",
        ),
        (
            {"turn": {"server": "turn.example.org:3478", "protocols": ["443"]}},
            "turn.protocols has 443, expected also the name for it",
        ),
    ],
)
def test_wrong_options_are_refused_before_anything_is_sent(web, given, words):
    result = module(spec(web.url, **given))
    assert result["failed"]
    assert words in result["msg"]
    assert web.seen == []


def test_missing_libraries_are_named_with_the_command(tmp_path):
    # A Python that sees Ansible and the collection but none of the libraries.
    start = (
        "import importlib.util, runpy, sys; find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'aiortc' else find(name, *rest)\n"
        f"runpy.run_module({MODULE!r}, run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", start],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": spec()}),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert json.loads(done.stdout)["msg"] == (
        f"The Python {sys.executable} has no aiortc, expected both for placing calls: "
        f"run '{sys.executable} -m pip install aiortc websockets'."
    )
