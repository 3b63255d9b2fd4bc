# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""New backend secrets come into force: what is decided, and a server that counts what it refuses meanwhile."""

from __future__ import annotations

import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _changeover, _proxy, _secret_file, _secrets
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._signaling_client import checksum, signed_headers

OLD, NEW, OTHER = "a" * 64, "b" * 64, "c" * 64
URL = "https://nc.example.org"
CONF = f"""[http]
listen = 127.0.0.1:8080

[backend]
backends = nc, nc2

[nc]
urls = {URL}, https://cloud.example.org
secret = {OLD}
sessionlimit = 0

[nc2]
urls = https://nc.example.org/two
secret = {OTHER}
"""
BODY = b'{"type":"message"}'


def change(name: str = "nc", urls: tuple[str, ...] = (URL,), old: str = OLD, new: str = NEW) -> _changeover.Change:
    return _changeover.Change(name, list(urls), old, new, [f"{name}.backend"])


# What is decided


def test_the_secret_of_one_instance_is_replaced():
    assert _changeover.with_secret(CONF, "nc", NEW) == CONF.replace(OLD, NEW)
    assert _changeover.with_secret(CONF, "nc2", NEW) == CONF.replace(OTHER, NEW)


@pytest.mark.parametrize("name", ["nowhere", "backend", "n", "http"])
def test_an_instance_without_a_secret_is_an_error(name):
    with pytest.raises(_changeover.ChangeoverError, match=f"one secret for the instance {name} and has 0"):
        _changeover.with_secret(CONF, name, NEW)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (URL, "nc"),
        (f"{URL}/", "nc"),
        ("HTTPS://NC.example.org/index.php", "nc"),
        (f"{URL}/two", "nc2"),
        (f"{URL}/two/", "nc2"),
        (f"{URL}/twofold", "nc"),
        ("https://nc.example.orga.example.org", None),
        ("https://other.example.org", None),
        ("", None),
    ],
)
def test_a_post_belongs_to_the_longest_url(url, expected):
    found = _changeover.whose(url, [change(), change("nc2", (f"{URL}/two",))])
    assert (found.id if found else None) == expected


@pytest.mark.parametrize(
    ("secret", "body", "expected"),
    [(OLD, BODY, "old"), (NEW, BODY, "new"), (OTHER, BODY, "none"), (NEW, BODY + b" ", "none")],
)
def test_who_signed(secret, body, expected):
    signature = checksum(secret, "r" * 64, BODY)
    assert _changeover.signed_with(change(), "r" * 64, signature.upper(), body) == expected
    assert _changeover.signed_with(change(), "", signature, body) == "none"


def test_only_the_rooms_of_these_nextclouds_are_led_elsewhere():
    public = _proxy.traefik("talk.example.org", "http://127.0.0.1:8080", ["", "/standalone-signaling"])
    http = _changeover.routes(public, [URL, "https://cloud.example.org/a-b"], "http://127.0.0.1:1")["http"]
    assert set(http["routers"]) == {"changeover-signalling", "changeover-signalling-path"}
    for name, router in http["routers"].items():
        original = public["http"]["routers"][name.partition("-")[2]]
        assert router["rule"].startswith(f"({original['rule']}) && PathRegexp(`/api/v1/room/")
        assert {key: router[key] for key in ("entryPoints", "tls")} == {
            key: original[key] for key in ("entryPoints", "tls")
        }
        assert set(router["middlewares"]) <= set(http["middlewares"])
        service = http["services"][router["service"]]["failover"]
        assert service["fallback"] == original["service"]
        assert http["services"][service["service"]]["loadBalancer"]["servers"] == [{"url": "http://127.0.0.1:1"}]
    (pattern,) = set(re.findall(r"HeaderRegexp\(`Spreed-Signaling-Backend`, `([^`]*)`\)", json.dumps(http))) or {""}
    pattern = json.loads(f'"{pattern}"')
    for url in (URL, f"{URL}/", "HTTPS://nc.example.org/index.php", "https://cloud.example.org/a-b/"):
        assert re.search(pattern, url), url
    for url in ("https://nc1example.example.org", f"{URL}.example.net", "https://cloud.example.org", f"x{URL}"):
        assert not re.search(pattern, url), url


LOG = """2026-11-30T22:01:01.5Z throttle.go:302: Failed attempt on "BackendRoomAuth" from 192.0.2.7, throttling by 100ms
2026-11-30T22:01:02.5Z throttle.go:302: Failed attempt on "HelloInternal" from 192.0.2.7, throttling by 100ms
2026-11-30T22:01:03.5Z throttle.go:302: Failed attempt on "BackendRoomAuth" from 2001:db8::7, throttling by 200ms
2026-11-30T22:01:04.5Z throttle.go:285: Detected bruteforce attempt on "BackendRoomAuth" from 192.0.2.7
2026-11-30T22:01:05.5Z throttle.go:302: Failed attempt on "BackendRoomAuth" from 2001:db8::8, throttling by 400ms
"""
AT = _changeover.moment("2026-11-30T22:01:00Z")


def test_what_the_server_has_counted():
    assert _changeover.counted(LOG, 0) == {"192.0.2.7": [AT + 1], "2001:db8::/64": [AT + 3, AT + 5]}
    assert _changeover.counted(LOG, AT + 4) == {"2001:db8::/64": [AT + 5]}
    assert _changeover.counted("", 0) == {}


@pytest.mark.parametrize(
    ("times", "routed", "expected"),
    [
        ([], False, ""),
        ([-10] * 4, False, ""),
        ([-10] * 5, False, "could be shut out by a rotation behind this proxy"),
        ([-10] * 9, True, ""),
        ([-10] * 10, True, "is shut out"),
        ([-1900] * 10, True, ""),
        ([-1900] * 10 + [-10] * 4, False, ""),
    ],
)
def test_an_instance_that_new_secrets_would_shut_out_is_named_with_the_time(times, routed, expected):
    now = AT
    counts = {"192.0.2.7": [now + one for one in times]}
    found = _changeover.in_the_way(counts, {"nc": {"192.0.2.7"}, "dev": {"192.0.2.9"}}, now, routed=routed)
    assert len(found) == bool(expected)
    if expected:
        assert found[0].startswith(f"nc: the signaling server has counted {len(times)} wrong requests of 192.0.2.7")
        assert expected in found[0] and found[0].endswith("rotate after 22:30:50 UTC.")


def test_ipv6_counts_by_network():
    counts = {"2001:db8::/64": [AT - 10] * 10}
    assert _changeover.in_the_way(counts, {"nc": {"2001:db8::1", "2001:db8::2"}}, AT, routed=True)[0].startswith("nc: ")


def test_the_lines_say_what_happened():
    one = {"changed": True, "at": AT, "last_old": AT + 2.94, "error": "", "old": 3, "new": 9, "none": 0}
    report = {
        "instances": {
            "nc": one,
            "dev": {**one, "last_old": 0},
            "off": {**one, "changed": False, "at": 0.0},
            "bad": {**one, "changed": False, "at": 0.0, "error": "why"},
        }
    }
    assert _changeover.lines(report, {"192.0.2.7": [AT - 5, AT + 1]}, AT) == [
        "nc: the new secret is in force since 22:01:00 UTC, and was not yet used by all of its Nextcloud for 2.9 s, "
        "which was seen to.",
        "dev: the new secret is in force since 22:01:00 UTC.",
        "bad: the new secret could not come into force at once (why).",
        "The signaling server has refused 1 requests of 192.0.2.7 meanwhile.",
    ]


# A server that counts


class Server:
    """As much of a signaling server as a Nextcloud sees; it knows what it has read, and is slow with it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log, self.refused, self.taken = folder, [], 0, 0
        (folder / "config").mkdir()
        (folder / "config/server.conf").write_text(CONF)
        document = {
            "version": 1,
            **{name: "d" * (size - 1) + str(number) for number, (name, size) in enumerate(_secrets.SHARED.items())},
        }
        entry = {"url": URL, "backend": OLD, "turn": "e" * 64, "next": {"backend": NEW}}
        (folder / "secrets").mkdir(mode=0o700)
        (folder / "secrets/secrets.json").write_text(json.dumps({**document, "instances": {"nc": entry}}))
        self.read()
        handler = type("Case", (_Signaling,), {"known": self})
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def read(self) -> None:
        self.text = (self.folder / "config/server.conf").read_text()

    def run(self, command: list[str]) -> tuple[int, str, str]:
        """Docker's command line."""
        if command[1] == "ps":
            return 0, "1d", ""
        if command[1] == "container":
            name, binds = self.folder.name, [f"{self.folder}/config:/config:ro"]
            labels = {"nextcloud-talk.hpb": name}
            entry = {"Id": "1d", "Name": f"/hpb-{name}", "Config": {"Labels": labels}, "HostConfig": {"Binds": binds}}
            return 0, json.dumps([entry]), ""
        if command[1] == "kill":
            assert command[-1] == "1d"
            self.log.append("Trusted proxies: 127.0.0.1\n")
            threading.Timer(0.05, self.read).start()
        return 0, "", "".join(self.log) if command[1] == "logs" else ""

    def changeover(self, **changes: object) -> _changeover.Changeover:
        spec = {
            "directory": str(self.folder / "run"),
            "secrets": str(self.folder / "secrets/secrets.json"),
            "config": str(self.folder),
            "signal": "SIGHUP",
            "answer": "Trusted proxies: ",
            "refusal": "Could not read",
            "server": self.http.server_address,
            "routes": {},
            "settle": 0.2,
            "timeout": 20,
        }
        (self.folder / "run").mkdir()
        return _changeover.Changeover({**spec, **changes}, [change()], self.run)


class _Signaling(BaseHTTPRequestHandler):
    known: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        expected = checksum(
            re.findall(r"^secret = (\w+)", self.known.text, re.MULTILINE)[0],
            self.headers["Spreed-Signaling-Random"],
            body,
        )
        good = expected == self.headers["Spreed-Signaling-Checksum"]
        self.known.taken += good
        self.known.refused += not good
        self.send_response(200 if good else 403)
        self.send_header("Content-Length", "0")
        self.send_header("X-From", self.headers.get("X-Real-Ip", ""))
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def server(tmp_path):
    made = Server(tmp_path)
    yield made
    made.http.shutdown()


def post(changeover: _changeover.Changeover, secret: str, url: str = URL) -> int:
    headers = {**signed_headers(secret, url, BODY), "X-Real-Ip": "192.0.2.7", "Connection": "keep-alive"}
    status, answered, _body = changeover.pass_on("POST", "/api/v1/room/abc", headers, BODY)
    assert answered["X-From"] == "192.0.2.7"
    return status


def test_nobody_is_refused_whichever_secret_they_use_and_however_many_they_are(server):
    changeover = server.changeover()
    over, answers = threading.Event(), []

    def people(secret: str) -> None:
        while not over.is_set():
            answers.append(post(changeover, secret))

    threads = [threading.Thread(target=people, args=(OLD,)) for _one in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    assert changeover.changes[0].at == 0.0
    threads.append(threading.Thread(target=people, args=(NEW,)))
    threads[-1].start()
    time.sleep(1)
    over.set()
    for thread in threads:
        thread.join()
    assert set(answers) == {200} and server.refused == 0 and len(answers) > 50
    assert changeover.changes[0].at > 0 and changeover.changes[0].posts["old"] > 0
    assert server.text == CONF.replace(OLD, NEW)
    entry = _secret_file.load(server.folder / "secrets/secrets.json")[0]["instances"]["nc"]
    assert entry["backend"] == NEW and "next" not in entry
    assert list(server.log) == ["Trusted proxies: 127.0.0.1\n"]


def test_what_is_signed_by_nobody_we_know_is_for_the_server_to_judge(server):
    changeover = server.changeover()
    assert post(changeover, OTHER) == 403
    assert changeover.changes[0].at == 0.0 and changeover.changes[0].posts == {"old": 0, "new": 0, "none": 1}
    assert post(changeover, OLD) == 200
    assert post(changeover, OLD, "https://other.example.org") == 200


def test_without_a_route_a_file_is_the_word_and_another_one_the_end(server):
    changeover = server.changeover()
    thread = threading.Thread(target=changeover.serve)
    thread.start()
    directory = server.folder / "run"
    assert _changeover.wait_for(directory / _changeover.READY, 5) == {"routed": False}
    assert _changeover.alive(directory)
    (directory / "nc").touch()
    until = time.monotonic() + 5
    while not changeover.changes[0].at and time.monotonic() < until:
        time.sleep(0.01)
    assert server.text == CONF.replace(OLD, NEW)
    (directory / _changeover.END).touch()
    thread.join(5)
    report = _changeover.wait_for(directory / _changeover.REPORT, 1)
    assert report["instances"]["nc"]["changed"] and report["error"] == ""
    assert not _changeover.alive(directory)


def test_it_ends_by_itself(server):
    changeover = server.changeover(timeout=0.3)
    begun = time.monotonic()
    changeover.serve()
    assert time.monotonic() - begun < 3
    assert not _changeover.wait_for(server.folder / "run" / _changeover.REPORT, 1)["instances"]["nc"]["changed"]


def test_a_server_that_does_not_answer_is_told_and_the_file_of_secrets_leads_on(server, monkeypatch):
    monkeypatch.setattr(server, "log", type("Deaf", (list,), {"append": lambda self, line: None})())
    monkeypatch.setattr(_changeover._reload, "send", _failing)
    changeover = server.changeover()
    changeover.change(changeover.changes[0])
    assert changeover.changes[0].error == "no answer" and changeover.changes[0].at == 0.0
    assert _secret_file.load(server.folder / "secrets/secrets.json")[0]["instances"]["nc"]["backend"] == NEW
    assert "reloaded" not in [path.name for path in server.folder.iterdir()]


def _failing(*_arguments: object, **_options: object) -> None:
    raise _changeover._reload.ReloadError("no answer")


def test_a_secret_that_is_in_force_already_needs_no_signal(server):
    (server.folder / "config/server.conf").write_text(CONF.replace(OLD, NEW))
    changeover = server.changeover()
    changeover.change(changeover.changes[0])
    assert changeover.changes[0].at > 0 and list(server.log) == []
