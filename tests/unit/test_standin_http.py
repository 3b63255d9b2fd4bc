# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in's web side: signatures, tickets, capabilities, its own posts, and Talk's setup check."""

from __future__ import annotations

import base64
import email.utils
import hashlib
import hmac
import http.client
import json
import subprocess
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _nextcloud_answer
from standin_instance import Nextcloud

SECRET = "5ec7e7" * 8
RANDOM = "afb6b872ab03e3376b31bf0af601067222ff7990335ca02d327071b73c0119c6"
PATH = "/ocs/v2.php/apps/spreed/api/v3/signaling/backend"
FEATURES = "audio-video-permissions, dialout, federation, hello-v2, incall-all, join-features, switchto"


@pytest.fixture
def nextcloud(tmp_path: Path):
    """A running instance that has SECRET stored for a signaling server."""
    instance = Nextcloud(tmp_path / "nc", "--talk", "22.0.0")
    instance.occ("talk:signaling:add", "https://hpb.example.org", SECRET)
    command = [instance.root / "server.py", "--root", instance.root, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        instance.address = process.stdout.readline().split()[-1]
        yield instance
        process.terminate()


def fetch(nextcloud: Nextcloud, path: str, body: bytes | None = None, **headers: str) -> tuple[int, str]:
    """Send one request; return status and text. Header names are given with underscores."""
    request = urllib.request.Request(f"http://{nextcloud.address}{path}", data=body)
    request.add_header("Host", "nc.example.org")
    for name, value in headers.items():
        request.add_unredirected_header(name.replace("_", "-"), value)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def call(nextcloud: Nextcloud, message: object, secret: str = SECRET, **headers: str) -> tuple[int, object]:
    """Call back as a signaling server does; return status and the OCS data."""
    body = json.dumps(message).encode()
    checksum = hmac.new(secret.encode(), RANDOM.encode() + body, hashlib.sha256).hexdigest()
    wanted = {
        "Content_Type": "application/json",
        "Accept": "application/json",
        "OCS_APIRequest": "true",
        "Spreed_Signaling_Random": RANDOM,
        "Spreed_Signaling_Checksum": checksum,
        **headers,
    }
    status, text = fetch(nextcloud, PATH, body, **{name: value for name, value in wanted.items() if value})
    return status, json.loads(text)["ocs"]["data"]


def auth(user: str, ticket: str) -> dict:
    return {"type": "auth", "auth": {"version": "1.0", "params": {"userid": user, "ticket": ticket}}}


def test_right_secret_and_made_up_ticket(nextcloud: Nextcloud) -> None:
    status, data = call(nextcloud, auth("alice", "made-up"))
    assert (status, data["type"], data["error"]["code"]) == (200, "error", "invalid_ticket")


@pytest.mark.parametrize(
    "changes",
    [
        {"secret": "0" * 64},
        {"Spreed_Signaling_Random": "short"},
        {"Spreed_Signaling_Checksum": ""},
        {"Spreed_Signaling_Random": ""},
    ],
)
def test_wrong_signature_is_http_200_invalid_request(nextcloud: Nextcloud, changes: dict) -> None:
    status, data = call(nextcloud, auth("alice", "made-up"), **changes)
    assert (status, data["type"], data["error"]["code"]) == (200, "error", "invalid_request")
    assert nextcloud.log()[-1]["verdict"] == "invalid_request"


def test_unset_configuration_accepts_the_empty_secret(nextcloud: Nextcloud) -> None:
    nextcloud.occ("config:app:delete", "spreed", "signaling_servers")
    assert call(nextcloud, auth("alice", "made-up"), secret="")[1]["error"]["code"] == "invalid_ticket"


def test_a_new_secret_holds_at_once(nextcloud: Nextcloud) -> None:
    nextcloud.occ("talk:signaling:add", "https://hpb.example.org", "f" * 64)
    assert call(nextcloud, auth("alice", "x"))[1]["error"]["code"] == "invalid_request"
    assert call(nextcloud, auth("alice", "x"), secret="f" * 64)[1]["error"]["code"] == "invalid_ticket"


def test_tickets(nextcloud: Nextcloud) -> None:
    ticket = nextcloud.standin("ticket", "alice")[0].strip()
    assert call(nextcloud, auth("alice", ticket)) == (
        200,
        {"type": "auth", "auth": {"version": "1.0", "userid": "alice", "user": {"displayname": "Alice"}}},
    )
    assert call(nextcloud, auth("bob", ticket))[1]["error"]["code"] == "invalid_ticket"
    guest = nextcloud.standin("ticket", "")[0].strip()
    assert call(nextcloud, auth("", guest))[1] == {"type": "auth", "auth": {"version": "1.0"}}
    stranger = nextcloud.standin("ticket", "mallory")[0].strip()
    assert call(nextcloud, auth("mallory", stranger))[1]["error"]["code"] == "no_such_user"


def test_rooms(nextcloud: Nextcloud) -> None:
    def join(user: str, room: str) -> dict:
        message = {"version": "1.0", "roomid": room, "userid": user, "sessionid": "s1", "action": "join"}
        return call(nextcloud, {"type": "room", "room": message})[1]

    room = join("alice", "testroom")["room"]
    assert (room["version"], room["roomid"]) == ("1.0", "testroom")
    assert {"publish-audio", "publish-video", "publish-screen"} <= set(room["permissions"])
    assert join("mallory", "testroom")["error"]["code"] == "no_such_room"
    assert join("mallory", "other")["error"]["code"] == "no_such_room"
    nextcloud.standin("room", "other", "mallory")
    assert join("mallory", "other")["type"] == "room"
    last = nextcloud.log()[-1]
    assert {key: last[key] for key in ("type", "verdict", "userid", "roomid", "action", "http")} == {
        "type": "room",
        "verdict": "ok",
        "userid": "mallory",
        "roomid": "other",
        "action": "join",
        "http": 200,
    }


def test_ping_session_and_unknown_types(nextcloud: Nextcloud) -> None:
    ping = {"type": "ping", "ping": {"version": "1.0", "roomid": "testroom", "entries": [{"sessionid": "s1"}]}}
    assert call(nextcloud, ping)[1] == {"type": "room", "room": {"version": "1.0"}}
    session = {"type": "session", "session": {"version": "1.0", "roomid": "testroom", "action": "add"}}
    assert call(nextcloud, session)[1] == {"type": "session", "session": {"version": "1.0", "roomid": "testroom"}}
    for message in ({"type": "nonsense"}, ["no", "object"], {"type": "auth", "auth": {"params": [1]}}):
        assert call(nextcloud, message)[1]["error"]["code"] in ("unknown_type", "invalid_ticket")


def test_ocs_header_is_required(nextcloud: Nextcloud) -> None:
    assert call(nextcloud, auth("alice", "x"), OCS_APIRequest="")[0] == 412
    assert call(nextcloud, auth("alice", "x"), OCS_APIRequest="false")[0] == 412


def test_states_over_http(nextcloud: Nextcloud) -> None:
    assert fetch(nextcloud, "/status.php", Host="evil.example.org")[0] == 400
    nextcloud.occ("maintenance:mode", "--on")
    assert json.loads(fetch(nextcloud, "/status.php")[1])["maintenance"] is True
    assert call(nextcloud, auth("alice", "x"))[0] == 503
    nextcloud.occ("maintenance:mode", "--off")
    nextcloud.occ("app:disable", "spreed")
    assert call(nextcloud, auth("alice", "x"))[0] == 404
    capabilities = json.loads(fetch(nextcloud, "/ocs/v2.php/cloud/capabilities?format=json")[1])
    assert "spreed" not in capabilities["ocs"]["data"]["capabilities"]


def test_capabilities_and_hello_v2_token(nextcloud: Nextcloud, tmp_path: Path) -> None:
    status, text = fetch(nextcloud, "/ocs/v2.php/cloud/capabilities", Accept="application/json")
    data = json.loads(text)["ocs"]["data"]
    spreed = data["capabilities"]["spreed"]
    assert (status, data["version"]["string"]) == (200, "34.0.1")
    assert "signaling-v3" in spreed["features"]
    assert fetch(nextcloud, "/ocs/v2.php/cloud/capabilities")[1].startswith('<?xml version="1.0"?>\n<ocs><meta>')

    token = nextcloud.standin("hello-v2-token", "alice")[0].strip()
    message, _separator, signature = token.rpartition(".")
    head, claims = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in message.split("."))
    assert head == {"typ": "JWT", "alg": "ES256"}
    assert (claims["iss"], claims["sub"]) == ("https://nc.example.org", "alice")
    assert claims["exp"] - claims["iat"] == 60
    assert claims["userdata"] == {"displayname": "Alice"}

    raw = base64.urlsafe_b64decode(signature + "==")
    assert len(raw) == 64
    integers = [(b"\0" if part[0] & 128 else b"") + part for part in (raw[:32], raw[32:])]
    body = b"".join(bytes([2, len(part)]) + part for part in integers)
    (tmp_path / "der").write_bytes(bytes([48, len(body)]) + body)
    (tmp_path / "key").write_text(spreed["config"]["signaling"]["hello-v2-token-key"])
    command = ["openssl", "dgst", "-sha256", "-verify", "key", "-signature", "der"]
    assert subprocess.run(command, input=message.encode(), cwd=tmp_path, check=False).returncode == 0


def test_no_secret_in_the_log(nextcloud: Nextcloud) -> None:
    ticket = nextcloud.standin("ticket", "alice")[0].strip()
    call(nextcloud, auth("alice", ticket))
    call(nextcloud, auth("alice", ticket), secret="0" * 64)
    text = (nextcloud.root / "data" / "requests.jsonl").read_text()
    assert len(nextcloud.log()) == 2
    assert SECRET not in text
    assert ticket not in text
    assert nextcloud.standin("log", "--clear")[0] == text
    assert nextcloud.log() == []


def test_turn_credentials_of_a_client(nextcloud: Nextcloud) -> None:
    nextcloud.occ("talk:turn:add", "turn,turns", "turn.example.org:3478", "udp,tcp", "--secret=tsecret")
    settings = json.loads(nextcloud.standin("settings", "alice")[0])
    assert settings["server"] == "https://hpb.example.org"
    turn = settings["turnservers"][0]
    assert turn["urls"] == [
        "turn:turn.example.org:3478?transport=udp",
        "turn:turn.example.org:3478?transport=tcp",
        "turns:turn.example.org:3478?transport=udp",
        "turns:turn.example.org:3478?transport=tcp",
    ]
    expires = int(turn["username"].split(":")[0])
    assert 86000 < expires - time.time() <= 86400
    mac = hmac.new(b"tsecret", turn["username"].encode(), hashlib.sha1).digest()
    assert turn["credential"] == base64.b64encode(mac).decode()


class Hpb(BaseHTTPRequestHandler):
    """As much of a signaling server as Nextcloud sees; the attributes say how it answers."""

    code, body, features, clock = 200, b'{"nextcloud-spreed-signaling": "Welcome", "version": "2.0.2"}', FEATURES, 0
    seen: list

    def do_GET(self) -> None:
        assert self.path == "/api/v1/welcome"
        self.send_response_only(self.code)
        self.send_header("Date", email.utils.formatdate(time.time() + self.clock, usegmt=True))
        self.send_header("X-Spreed-Signaling-Features", self.features)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        random = self.headers["Spreed-Signaling-Random"]
        expected = hmac.new(SECRET.encode(), random.encode() + body, hashlib.sha256).hexdigest()
        self.seen.append((self.path, self.headers["Spreed-Signaling-Backend"], json.loads(body)))
        good = expected == self.headers["Spreed-Signaling-Checksum"]
        answer = b"{}" if good else b"Authentication check failed\n"
        self.send_response(self.code if good else 403)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def hpb(tmp_path: Path):
    """An instance with one registered signaling server, which is `Hpb` on this machine."""
    handler = type("Case", (Hpb,), {"seen": []})
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    instance = Nextcloud(tmp_path / "nc", "--talk", "22.0.0")
    instance.url = f"http://127.0.0.1:{server.server_address[1]}"
    instance.occ("talk:signaling:add", instance.url + "/", SECRET)
    # What the first use of the keys leaves behind is another test's.
    instance.set(openssl_quirk=False)
    yield instance, handler
    server.shutdown()
    thread.join()
    server.server_close()


def setup_check(nextcloud: Nextcloud) -> tuple[str, str | None]:
    out, _err, code = nextcloud.occ("setupchecks", "--output=json")
    result = json.loads(out)["talk"]["OCA\\Talk\\SetupCheck\\HighPerformanceBackend"]
    assert code == (0 if result["severity"] == "success" else 1)
    return result["severity"], result["description"]


CHECKS = [
    ({}, "success", None),
    ({"features": ""}, "error", "Error: Running version: 2.0.2; Server needs to be updated"),
    ({"features": FEATURES.replace("federation, ", "")}, "error", "Error: Running version: 2.0.2; Server needs"),
    ({"features": FEATURES.replace("join-features, ", "")}, "warning", "missing features: join-features"),
    ({"clock": 60}, "error", "out of sync"),
    ({"clock": -60}, "error", "out of sync"),
    ({"body": b"<html>"}, "error", "did not respond with proper JSON"),
    ({"code": 502}, "error", "Error: Server responded with: 502"),
]


def test_the_check_that_makes_the_keys_fails_once(hpb: tuple) -> None:
    nextcloud, _handler = hpb
    nextcloud.set(openssl_quirk=True)
    severity, text = setup_check(nextcloud)
    assert (severity, "talk:signaling:verify-keys" in text) == ("error", True)
    assert setup_check(nextcloud) == ("success", None)


@pytest.mark.parametrize(("answers", "severity", "text"), CHECKS)
def test_setup_check(hpb: tuple, answers: dict, severity: str, text: str | None) -> None:
    nextcloud, handler = hpb
    for name, value in answers.items():
        setattr(handler, name, value)
    got = setup_check(nextcloud)
    assert got[0] == severity
    assert got[1] is None if text is None else text in got[1]


def test_setup_check_order(hpb: tuple) -> None:
    nextcloud, handler = hpb
    nextcloud.set(memcache="apcu")
    assert setup_check(nextcloud) == ("warning", "It is highly recommended to configure a memory cache")
    handler.code = 502
    nextcloud.occ("config:app:set", "spreed", "signaling_token_pubkey_es256", "--value=other")
    assert "verify-keys --update" in setup_check(nextcloud)[1]
    nextcloud.occ("talk:signaling:add", "https://second.example.org", SECRET)
    assert setup_check(nextcloud)[1].startswith("Defining multiple")
    nextcloud.occ("config:app:set", "spreed", "signaling_mode", "--value=internal")
    assert setup_check(nextcloud) == ("error", "No High-performance backend configured")


def test_setup_check_of_a_closed_port(nextcloud: Nextcloud) -> None:
    nextcloud.occ("talk:signaling:delete", "https://hpb.example.org")
    nextcloud.occ("talk:signaling:add", "https://127.0.0.1:1", SECRET)
    nextcloud.set(openssl_quirk=False)
    assert setup_check(nextcloud) == ("error", "Error: Cannot connect to server")


def test_talk_post(hpb: tuple) -> None:
    nextcloud, handler = hpb
    assert nextcloud.standin("talk-post") == (f"{nextcloud.url}/ 200\n", "", 0)
    path, base_url, message = handler.seen[-1]
    assert (path, base_url, message["type"]) == ("/api/v1/room/testroom", "https://nc.example.org", "invite")
    assert message["invite"]["userids"] == ["alice", "bob"]
    nextcloud.occ(
        "config:app:set",
        "spreed",
        "signaling_servers",
        "--value",
        json.dumps({"servers": [{"server": nextcloud.url, "verify": True}], "secret": "wrong"}),
    )
    assert nextcloud.standin("talk-post") == (f"{nextcloud.url} 403 Authentication check failed\n", "", 1)
    nextcloud.occ("talk:signaling:delete", nextcloud.url)
    out, err, code = nextcloud.standin("talk-post")
    assert (out, err, code) == ("", "no signaling server is registered in this Nextcloud\n", 1)


@pytest.mark.parametrize(
    ("told", "protocol"),
    [("https", "https"), ("", "http")],
)
def test_its_own_address_is_what_it_takes_itself_for(nextcloud, told, protocol):
    nextcloud.occ("config:system:set", "overwriteprotocol", f"--value={told}")
    host, _colon, port = nextcloud.address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    connection.request("GET", "/", headers={"Host": "nc.example.org"})
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Location"]) == (302, f"{protocol}://nc.example.org/login")
    assert _nextcloud_answer.policies("https://nc.example.org", "https://talk.example.org", policies(answer)) == []
    connection.close()
    connection.request("GET", "/login", headers={"Host": "nc.example.org"})
    answer = connection.getresponse()
    assert answer.status == 200
    assert _nextcloud_answer.policies("https://nc.example.org", "https://talk.example.org", policies(answer)) == []
    connection.close()


def policies(answer):
    """Return the policies of an answer as the look at a host returns them."""
    names = ("content-security-policy", "permissions-policy", "feature-policy")
    return {name: answer.headers.get_all(name) or [] for name in names}
