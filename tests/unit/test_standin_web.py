# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in's web side for users: logins, Talk's settings, conversations, and what a signaling server learns."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import subprocess
import threading
from http.server import HTTPServer
from pathlib import Path

import pytest
from standin_instance import Nextcloud
from test_standin_http import SECRET, Hpb, auth, call

APP, LOGIN, BOB = (
    "TestB-edUse-rAppP-asswo-rd4Al",
    "the-password-of-alice-in-the-test-bed",
    "the-password-of-bob-in-the-test-bed",
)
TALK = "/ocs/v2.php/apps/spreed/api"
SETTINGS = f"{TALK}/v3/signaling/settings"


@pytest.fixture
def nextcloud(tmp_path: Path):
    """A running instance whose signaling server is on this machine; what that got is in `posts`."""
    handler = type("Case", (Hpb,), {"seen": []})
    hpb = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=hpb.serve_forever)
    thread.start()
    instance = Nextcloud(tmp_path / "nc", "--talk", "22.0.0")
    instance.handler = handler
    instance.hpb, instance.posts = f"http://127.0.0.1:{hpb.server_address[1]}", handler.seen
    instance.occ("talk:signaling:add", instance.hpb, SECRET)
    instance.occ("talk:turn:add", "turn", "turn.example.org:3478", "udp,tcp", "--secret=tsecret")
    command = [instance.root / "server.py", "--root", instance.root, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        instance.address = process.stdout.readline().split()[-1]
        yield instance
        process.terminate()
    hpb.shutdown()
    thread.join()
    hpb.server_close()


class Browser:
    """Keeps cookies. `ask` returns the status and the OCS data."""

    def __init__(self, nextcloud: Nextcloud, user: str = "", password: str = "") -> None:
        self.nextcloud, self.cookies = nextcloud, {}
        self.login = base64.b64encode(f"{user}:{password}".encode()).decode() if user else ""

    def ask(self, method: str, path: str, data: object = None, ocs: str = "true") -> tuple[int, object]:
        headers = {"Host": "nc.example.org", "Accept": "application/json"}
        headers.update({"OCS-APIRequest": ocs} if ocs else {})
        headers.update({"Authorization": f"Basic {self.login}"} if self.login else {})
        headers.update({"Cookie": "; ".join(f"{k}={v}" for k, v in self.cookies.items())} if self.cookies else {})
        connection = http.client.HTTPConnection(self.nextcloud.address, timeout=10)
        body = None if data is None else json.dumps(data)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        self.cookies.update(cookie.split(";")[0].split("=", 1) for cookie in answer.msg.get_all("Set-Cookie") or [])
        text = answer.read()
        connection.close()
        return answer.status, json.loads(text)["ocs"]["data"]

    def room(self) -> str:
        return self.ask("POST", f"{TALK}/v4/room", {"roomType": 2, "roomName": "a test"})[1]["token"]


@pytest.mark.parametrize(
    ("user", "password", "changes", "status", "found", "verdict"),
    [
        ("alice", APP, {}, 200, "alice", "ok"),
        ("alice", LOGIN, {}, 200, None, "ok"),
        ("alice", LOGIN, {"second_factor": []}, 200, "alice", "ok"),
        ("bob", BOB, {}, 200, "bob", "ok"),
        ("alice", "wrong", {}, 401, None, "login_failed"),
        ("nobody", APP, {}, 401, None, "login_failed"),
        ("alice", APP, {"logins_throttled": True}, 429, None, "throttled"),
        ("alice", APP, {"no_talk": ["alice"]}, 403, None, "no_talk"),
        ("", "", {}, 200, None, "ok"),
    ],
)
def test_logins(nextcloud, user, password, changes, status, found, verdict):
    nextcloud.set(**changes)
    code, data = Browser(nextcloud, user, password).ask("GET", SETTINGS)
    assert (code, nextcloud.log()[-1]["verdict"]) == (status, verdict)
    if status == 200:
        assert data["userId"] == found


def test_the_header_of_ocs_is_required(nextcloud):
    assert Browser(nextcloud, "alice", APP).ask("GET", SETTINGS, ocs="")[0] == 412


def test_settings(nextcloud):
    data = Browser(nextcloud, "alice", APP).ask("GET", SETTINGS)[1]
    assert set(data) == {
        "signalingMode",
        "userId",
        "hideWarning",
        "server",
        "ticket",
        "helloAuthParams",
        "federation",
        "stunservers",
        "turnservers",
        "sipDialinInfo",
    }
    assert (data["signalingMode"], data["server"], data["hideWarning"]) == ("external", nextcloud.hpb, True)
    assert data["stunservers"] == [{"urls": ["stun:stun.nextcloud.com:443"]}]
    (turn,) = data["turnservers"]
    assert turn["urls"] == ["turn:turn.example.org:3478?transport=udp", "turn:turn.example.org:3478?transport=tcp"]
    mac = hmac.new(b"tsecret", turn["username"].encode(), hashlib.sha1).digest()
    assert turn["credential"] == base64.b64encode(mac).decode()

    ticket = data["helloAuthParams"]["1.0"]["ticket"]
    assert call(nextcloud, auth("alice", ticket))[1]["auth"]["userid"] == "alice"
    assert call(nextcloud, auth("bob", ticket))[1]["error"]["code"] == "invalid_ticket"
    claims = json.loads(base64.urlsafe_b64decode(data["helloAuthParams"]["2.0"]["token"].split(".")[1] + "=="))
    assert (claims["sub"], claims["exp"] - claims["iat"]) == ("alice", 60)


def test_settings_of_the_internal_signaling(nextcloud):
    nextcloud.occ("config:app:set", "spreed", "signaling_mode", "--value=internal")
    data = Browser(nextcloud, "alice", APP).ask("GET", SETTINGS)[1]
    assert (data["signalingMode"], data["server"], data["hideWarning"]) == ("internal", "", False)
    nextcloud.occ("config:app:set", "spreed", "hide_signaling_warning", "--value=yes")
    assert Browser(nextcloud, "alice", APP).ask("GET", SETTINGS)[1]["hideWarning"] is True


def of_server(room: str, session: str, action: str = "join", user: str = "alice") -> dict:
    """What a signaling server asks when a session enters or leaves a conversation."""
    asked = {"version": "1.0", "roomid": room, "userid": user, "sessionid": session, "action": action}
    return {"type": "room", "room": asked}


def test_a_call_of_two_browsers(nextcloud):
    first, second = Browser(nextcloud, "alice", APP), Browser(nextcloud, "alice", APP)
    token = first.room()
    sessions = []
    for browser in (first, second):
        status, room = browser.ask("POST", f"{TALK}/v4/room/{token}/participants/active", {"force": True})
        assert (status, room["permissions"] & 48, len(room["sessionId"])) == (200, 48, 255)
        sessions.append(room["sessionId"])
        answer = call(nextcloud, of_server(token, room["sessionId"]))[1]
        assert answer["room"]["permissions"] == ["publish-audio", "publish-video", "publish-screen", "control"]
        flags = {"flags": 7, "silent": True}
        assert browser.ask("POST", f"{TALK}/v4/call/{token}", flags) == (200, None)
    path, base_url, message = nextcloud.posts[-1]
    assert (path, base_url, message["type"]) == (f"/api/v1/room/{token}", "https://nc.example.org", "incall")
    assert [entry["sessionId"] for entry in message["incall"]["changed"]] == sessions[1:]
    assert {entry["sessionId"]: entry["inCall"] for entry in message["incall"]["users"]} == dict.fromkeys(sessions, 7)

    assert first.ask("DELETE", f"{TALK}/v4/call/{token}") == (200, None)
    assert [entry["sessionId"] for entry in nextcloud.posts[-1][2]["incall"]["users"]] == sessions[1:]
    assert second.ask("DELETE", f"{TALK}/v4/room/{token}") == (200, None)
    assert nextcloud.posts[-1][2] == {"type": "delete", "delete": {"userids": ["alice"]}}
    assert first.ask("GET", f"{TALK}/v4/room") == (200, [])
    assert call(nextcloud, of_server(token, sessions[0]))[1]["error"]["code"] == "no_such_room"


def test_a_session_is_known_by_its_id_and_hangs_on_the_web_session(nextcloud):
    browser = Browser(nextcloud, "alice", APP)
    token = browser.room()
    session = browser.ask("POST", f"{TALK}/v4/room/{token}/participants/active")[1]["sessionId"]
    made_up = call(nextcloud, of_server(token, "made-up"))[1]
    stranger = call(nextcloud, of_server(token, session, user="bob"))[1]
    assert {made_up["error"]["code"], stranger["error"]["code"]} == {"no_such_room"}
    assert Browser(nextcloud, "alice", APP).ask("POST", f"{TALK}/v4/call/{token}")[0] == 404
    bob = Browser(nextcloud, "bob", BOB)
    assert bob.ask("POST", f"{TALK}/v4/room/{token}/participants/active")[0] == 404
    assert bob.ask("DELETE", f"{TALK}/v4/room/{token}")[0] == 404
    assert call(nextcloud, of_server(token, session, "leave"))[1]["type"] == "room"
    assert browser.ask("POST", f"{TALK}/v4/call/{token}")[0] == 404
    assert [message["type"] for _path, _url, message in nextcloud.posts] == ["invite"]


@pytest.mark.parametrize(
    ("changes", "method", "path", "data", "status"),
    [
        ({"no_new_rooms": ["alice"]}, "POST", "/v4/room", {"roomType": 2, "roomName": "x"}, 403),
        ({}, "POST", "/v4/room", {"roomType": 2}, 400),
        ({"calls_closed": True}, "POST", "/v4/call/{token}", None, 403),
        ({"rooms_stay": True}, "DELETE", "/v4/room/{token}", None, 500),
        ({}, "PUT", "/v4/room/{token}", None, 501),
        ({}, "POST", "/v3/signaling/settings", None, 405),
        ({}, "GET", "/v3/signaling/settings?token=unknown1", None, 404),
        ({}, "GET", "/v3/signaling/settings?token={token}", None, 200),
    ],
)
def test_what_is_refused(nextcloud, changes, method, path, data, status):
    browser = Browser(nextcloud, "alice", APP)
    token = browser.room()
    nextcloud.set(**changes)
    if status == 501:
        connection = http.client.HTTPConnection(nextcloud.address, timeout=10)
        connection.request(method, TALK + path.format(token=token))
        assert connection.getresponse().status == 501
        connection.close()
    else:
        assert browser.ask(method, TALK + path.format(token=token), data)[0] == status


def test_a_guest_makes_nothing(nextcloud):
    for method, path in (("GET", "room"), ("POST", "room"), ("DELETE", "room/abcdefgh"), ("POST", "call/abcdefgh")):
        assert Browser(nextcloud).ask(method, f"{TALK}/v4/{path}")[0] == 401


def test_permissions_reach_the_signaling_server(nextcloud):
    nextcloud.set(permissions={"alice": 128 + 16})
    browser = Browser(nextcloud, "alice", APP)
    token = browser.room()
    room = browser.ask("POST", f"{TALK}/v4/room/{token}/participants/active")[1]
    assert room["permissions"] == 144
    answer = call(nextcloud, of_server(token, room["sessionId"]))[1]
    assert answer["room"]["permissions"] == ["publish-audio", "control"]


def test_the_test_beds_inventories_have_the_same_user():
    root = Path(__file__).parents[2] / "molecule"
    for path in (
        root / "default/inventory.yml",
        root / "shared/bed/inventory.py",
        root / "shared/nextcloud/ncstandin/state.py",
    ):
        assert "alice" in path.read_text() and APP in path.read_text(), path


def test_no_password_is_in_the_log(nextcloud):
    Browser(nextcloud, "alice", APP).room()
    Browser(nextcloud, "alice", "wrong-password").ask("GET", SETTINGS)
    text = (nextcloud.root / "data" / "requests.jsonl").read_text()
    assert len(nextcloud.log()) == 2
    encoded = base64.b64encode(f"alice:{APP}".encode()).decode()
    assert not [word for word in (APP, "wrong-password", encoded) if word in text]
