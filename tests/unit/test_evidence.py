# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the doctor's modules see: readers as tables, requests against small servers, the modules as real processes."""

from __future__ import annotations

import contextlib
import datetime
import json
import socket
import socketserver
import ssl
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import module_process
import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _evidence
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from test_standin_http import SECRET, Hpb

SHORT = "kept-short"
SESSION = "QkTB7zIpg9vfml7_5av5b6rHcmZke0jVWkBeejR_FTN8PVVUVURW=="

TRIE = """Main:
  +-- 0.0.0.0/0 3 0 5
        |-- 127.0.0.1
           /32 host LOCAL
        |-- 192.0.2.10
           /32 host LOCAL
        |-- 192.0.2.255
           /32 link BROADCAST
"""
INET6 = """20010db8000000000000000000000010 02 40 00 80     eth0
fe80000000000000000000fffe000001 02 40 20 80     eth0
00000000000000000000000000000001 01 80 10 80       lo
"""
ROUTES = (
    "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
    "docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
    "eth1\t00000000\t0A0200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
)
ROUTES6 = f"{'0' * 32} 00 {'0' * 32} 00 {'0' * 32} ffffffff 00000001 00000000 00200200       lo\n" + (
    f"{'0' * 32} 00 {'0' * 32} 00 fe80{'0' * 27}1 00000400 00000002 00000000 00000003     eth2\n"
)
# Recorded from a signaling server 2.0.2; the sessions of clients are what its documentation has.
METRICS = """signaling_backend_current 2
signaling_backend_session_limit{backend="nc"} 15
signaling_backend_session_limit_exceeded_total{backend="nc"} 2
signaling_hub_sessions{backend="nc",clienttype="client"} 14
signaling_hub_sessions{backend="nc",clienttype="federation"} 1
signaling_hub_sessions{backend="nc",clienttype="internal"} 9
signaling_throttle_delayed_total{action="BackendRoomAuth",delay="100"} 1
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"the secret {SHORT} is here", "the secret ******** is here"),
        (f"session {SESSION} left", "session ******** left"),
        (f"session probe1.7-{SESSION}: gone", "session probe1.********: gone"),
        ("a" * 64, "********"),
        ("nats://user:geheim@127.0.0.1:4222", "nats://********@127.0.0.1:4222"),
        ('{"secret":"short1","password": "x"}', '{"secret":"********","password": "********"}'),
        ("token=abc next", "token=******** next"),
        (
            "dial tcp 192.0.2.21:443: connect: connection refused",
            "dial tcp 192.0.2.21:443: connect: connection refused",
        ),
        ("/usr/share/a-very-long-path-with-many-many-parts/x", "/usr/share/a-very-long-path-with-many-many-parts/x"),
    ],
)
def test_secrets_and_what_looks_like_one_are_masked(text, expected):
    assert _evidence.masked(text, [SHORT, "", "a"]) == expected


def test_the_lines_of_a_log_that_tell_of_trouble():
    harmless = [
        "[Tue Nov 24 15:30:49 2026] [WARN] [1]  Hashing algorithm not the one we expected (sha-256), *NOT* cool",
        "started",
        "listening",
        "",
    ]
    assert _evidence.log_tail("janus", "\n".join([*harmless, "one", "two"])) == ["listening", "one", "two"]
    # Of another program, or said otherwise, it is not harmless.
    assert _evidence.log_tail("coturn", "\n".join(harmless)) == harmless[:1]
    more = [f"{harmless[0]}, at all", *harmless]
    assert _evidence.log_tail("janus", "\n".join(more)) == more[:1]
    log = "\n".join([*harmless, "\x1b[31mERR\x1b[0m it failed " + SHORT, "fine", *harmless])
    assert _evidence.log_tail("janus", log, [SHORT]) == ["ERR it failed ********"]
    many = "\n".join(f"error {number}" for number in range(9))
    assert _evidence.log_tail("nats", many, count=2) == ["error 7", "error 8"]
    assert len(_evidence.log_tail("nats", "error " + "x " * 900)[0]) == _evidence.LINE_LENGTH


def test_the_state_of_containers():
    entry = {
        "Name": "/janus",
        "RestartCount": 3,
        "HostConfig": {"RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}},
        "Config": {"Image": "janus:1"},
        "State": {
            "Status": "exited",
            "ExitCode": 137,
            "OOMKilled": True,
            "Error": "",
            "StartedAt": "a",
            "FinishedAt": "b",
            "Health": {
                "Status": "unhealthy",
                "Log": [{"ExitCode": 0, "Output": "x"}, {"ExitCode": 1, "Output": " no \n"}],
            },
        },
    }
    found = _evidence.containers({"janus": {**entry, "Name": "/hpb-janus"}}, ["janus", "nats"])
    assert found["janus"] == {
        "name": "hpb-janus",
        "state": "exited",
        "health": "unhealthy",
        "health_output": "no",
        "exit_code": 137,
        "oom_killed": True,
        "error": "",
        "started_at": "a",
        "finished_at": "b",
        "restarts": 3,
        "restart_policy": "no",
        "image": "janus:1",
    }
    assert found["nats"]["state"] == "missing"
    assert (found["nats"]["state"], found["nats"]["name"]) == ("missing", "nats")


@pytest.mark.parametrize(
    ("code", "output", "errors", "expected"),
    [
        (
            0,
            '{"ocs":{}}',
            "Connecting to nc.example.org (192.0.2.21:443)\nwget: note: TLS certificate validation not implemented\n"
            "  HTTP/1.1 200 OK\n",
            {"kind": "", "status": 200, "address": "192.0.2.21", "text": "", "nextcloud": True},
        ),
        (1, "", "wget: bad address 'nc.example.org'\n", {"kind": "name", "status": 0, "address": ""}),
        (
            1,
            "",
            "Connecting to nc.example.org:81 (192.0.2.21:81)\n"
            "wget: can't connect to remote host (192.0.2.21): Connection refused\n",
            {"kind": "refused", "address": "192.0.2.21"},
        ),
        (
            1,
            "",
            "Connecting to x ([2001:db8::1]:443)\nwget: can't connect to remote host: Network is unreachable\n",
            {"kind": "unreachable", "address": "2001:db8::1"},
        ),
        (1, "", "Connecting to x (192.0.2.21:443)\nwget: download timed out\n", {"kind": "timeout"}),
        (143, "", "Connecting to x (192.0.2.21:443)\n", {"kind": "timeout", "text": "no answer (code 143)"}),
        (1, "", "ssl_client: handshake\nwget: error getting response: ssl failed\n", {"kind": "tls"}),
        (
            1,
            "",
            "  HTTP/1.1 503 Service Unavailable\n  X-Nextcloud-Maintenance-Mode: 1\n"
            "wget: server returned error: HTTP/1.1 503 Service Unavailable\n",
            {"kind": "", "status": 503, "maintenance": True, "nextcloud": False},
        ),
        (127, "", "sh: something else\n", {"kind": "other", "text": "no answer (code 127)"}),
    ],
)
def test_what_wget_came_to(code, output, errors, expected):
    outcome = _evidence.wget_outcome(code, output, errors)
    assert {key: outcome[key] for key in expected} == expected


def test_sessions_and_limits():
    assert _evidence.session_limits(METRICS) == {"nc": {"sessions": 15, "limit": 15, "refused": 2}}


def test_settings_of_the_programs():
    janus = (
        'nat: {\n    full_trickle = true\n    ice_enforce_list = "192.0.2.10"\n    nat_1_1_mapping = 198.51.100.7\n}\n'
    )
    assert _evidence.jcfg_setting(janus, "ice_enforce_list") == "192.0.2.10"
    assert _evidence.jcfg_setting(janus, "nat_1_1_mapping") == "198.51.100.7"
    assert _evidence.jcfg_setting(janus, "enforce_list") == ""
    turn = "use-auth-secret\nlistening-ip=192.0.2.10\ndenied-peer-ip=a\ndenied-peer-ip=b\n# realm=x\n"
    assert _evidence.turn_options(turn) == {"listening-ip": ["192.0.2.10"], "denied-peer-ip": ["a", "b"]}


@pytest.mark.parametrize(
    ("routes", "routes6", "expected"),
    [
        (ROUTES, "", "eth1"),
        (ROUTES.replace("00000000\t0A0200C0", "0000FEA9\t0A0200C0"), ROUTES6, "eth2"),
        ("", "", ""),
    ],
)
def test_where_callers_arrive(routes, routes6, expected):
    assert _evidence.arriving(routes, routes6) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("udp 3478", ("udp", 3478, 3478)),
        ("udp 20000-29999", ("udp", 20000, 29999)),
        ("tcp 0", None),
        ("udp ", None),
    ],
)
def test_ports_as_numbers(text, expected):
    assert _evidence.span(text) == expected


def test_the_line_of_a_hosts_file(tmp_path):
    path = tmp_path / "hosts"
    assert _evidence.hosts_file("talk.example.org", path) == ""
    path.write_text("127.0.0.1 localhost\n# 10.0.0.1 talk.example.org\n10.0.0.2 Talk.example.org talk\n")
    found = [_evidence.hosts_file(name, path) for name in ("talk.Example.org", "localhost", "example.org")]
    assert found == ["10.0.0.2", "127.0.0.1", ""]


def test_addresses_and_pins():
    assert _evidence.host_addresses(TRIE, INET6) == ["192.0.2.10", "2001:db8::10"]
    assert _evidence.pinned("127.0.0.1 localhost\n192.0.2.21 NC.example.org b # c\n192.0.2.9 b\n") == {
        "localhost": "127.0.0.1",
        "nc.example.org": "192.0.2.21",
        "b": "192.0.2.21",
    }


# --- requests ------------------------------------------------------------------------------------------------------


def make_certificate(folder, name, ends):
    """Write a self-signed certificate for `name` that ends after the days given; return the path of both."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=30))
        .not_valid_after(now + datetime.timedelta(days=ends))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    encoding = serialization.Encoding.PEM
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(private + made.public_bytes(encoding))
    return path


@contextlib.contextmanager
def served(handler, certificate=None):
    """Serve on this machine and give the server."""
    server = HTTPServer(("127.0.0.1", 0), handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def answers():
    """A signaling server's web side of which a test may change the answers."""
    return type("Answers", (Hpb,), {"seen": []})


@pytest.mark.parametrize(("name", "ends"), [("localhost", 10), ("other.example.org", -5)])
def test_a_certificate_is_read_whether_it_holds_or_not(tmp_path, answers, name, ends):
    with served(answers, make_certificate(tmp_path, name, ends)) as server:
        found = _evidence.certificate("127.0.0.1", server.server_port, "localhost", 5)
    assert (found["error"], found["names"], found["issuer"]) == ("", [name], name)
    assert abs(found["not_after"] - time.time() - ends * 86400) < 60
    assert _evidence.certificate("127.0.0.1", server.server_port, "localhost", 5)["kind"] == "refused"


@pytest.mark.parametrize(
    ("name", "ends", "trusted", "kind"),
    [
        ("localhost", 10, True, ""),
        ("localhost", 10, False, "unknown_ca"),
        ("localhost", -5, True, "expired"),
        ("other.example.org", 10, True, "wrong_name"),
    ],
)
def test_why_a_certificate_does_not_hold(tmp_path, answers, name, ends, trusted, kind):
    path = make_certificate(tmp_path, name, ends)
    with served(answers, path) as server:
        context = _evidence.trust(str(path) if trusted else str(tmp_path / "none"))
        assert _evidence.tls("127.0.0.1", server.server_port, "localhost", context, 5)["kind"] == kind


@pytest.mark.parametrize("answering", [True, False])
def test_stun(answering):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plug:
        plug.bind(("127.0.0.1", 0))

        def answer():
            request, sender = plug.recvfrom(100)
            value = struct.unpack("!I", socket.inet_aton("192.0.2.77"))[0] ^ 0x2112A442
            attribute = struct.pack("!HHBBHI", 0x20, 8, 0, 1, 0, value)
            plug.sendto(b"\x01\x01" + struct.pack("!H", len(attribute)) + request[4:20] + attribute, sender)

        if answering:
            threading.Thread(target=answer).start()
        found = _evidence.stun("127.0.0.1", plug.getsockname()[1], 2 if answering else 0.2)
    assert found == ({"kind": "", "address": "192.0.2.77"} if answering else {"kind": "timeout", "address": ""})


class Page(BaseHTTPRequestHandler):
    """A web server of which a test sets status, headers and body, and how long it thinks."""

    status, headers_sent, body, seconds = 200, {}, b"", 0.0

    def do_GET(self):
        time.sleep(self.seconds)
        self.send_response(self.status)
        for name, value in self.headers_sent.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    do_POST = do_GET

    def log_message(self, *_arguments):
        pass


def place(server, context=None, seconds=5.0):
    return _evidence.Place("127.0.0.1", server.server_port, "localhost", context, seconds)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            {
                "status": 403,
                "headers_sent": {"Content-Type": "text/html; charset=utf-8"},
                "body": b"<title> A &amp;\n B</title>",
            },
            {"stage": "", "status": 403, "type": "text/html", "title": "A & B", "marks": []},
        ),
        (
            {"status": 302, "headers_sent": {"Location": "/login", "Content-Security-Policy": "connect-src 'self'"}},
            {"status": 302, "location": "/login", "headers": {"content-security-policy": ["connect-src 'self'"]}},
        ),
        (
            {
                "status": 412,
                "headers_sent": {"Content-Type": "application/json"},
                "body": b'{"message":"CSRF check failed"}',
            },
            {"status": 412, "type": "application/json", "marks": ["ocs"]},
        ),
        ({"body": b'{"error": "Trusted domain error.", "code": 15}', "status": 400}, {"marks": ["untrusted"]}),
        ({"body": b'{"nextcloud-spreed-signaling":"Welcome"}'}, {"marks": ["welcome"], "stage": ""}),
    ],
)
def test_an_answer_and_what_counts_of_it(given, expected):
    handler = type("Given", (Page,), given)
    with served(handler) as server:
        found = _evidence.ask(place(server), "/x", {"Accept": "application/json"}, b"{}")
    assert {key: found[key] for key in expected} == expected
    assert found["tls"] == {"kind": "", "text": ""}


def test_a_connection_and_an_answer_are_told_apart():
    slow = type("Slow", (Page,), {"seconds": 1.0})
    with served(slow) as server:
        found = _evidence.ask(place(server, seconds=0.2), "/", {})
    assert (found["stage"], found["kind"]) == ("answer", "timeout")
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        # The kernel takes the connection, and nobody speaks TLS.
        here = _evidence.Place("127.0.0.1", held.getsockname()[1], "localhost", _evidence.trust(), 0.2)
        found = _evidence.ask(here, "/", {})
    assert (found["stage"], found["kind"]) == ("tls", "timeout")
    found = _evidence.ask(here, "/", {})
    assert (found["stage"], found["kind"]) == ("connect", "refused")
    found = _evidence.ask(here._replace(address="nobody.invalid"), "/", {})
    assert (found["stage"], found["kind"]) == ("name", "name")


@pytest.mark.parametrize(("name", "kind"), [("localhost", ""), ("other.example.org", "wrong_name")])
def test_a_certificate_that_does_not_hold_keeps_nobody_from_looking(tmp_path, name, kind):
    path = make_certificate(tmp_path, name, 10)
    with served(type("Given", (Page,), {"status": 404}), path) as server:
        found = _evidence.ask(place(server, _evidence.trust(str(path))), "/", {})
    assert (found["tls"]["kind"], found["stage"], found["status"]) == (kind, "", 404)


# --- the way from a Nextcloud's host -------------------------------------------------------------------------------


def reach(server, scheme="http", **options):
    given = {"url": f"{scheme}://localhost:{server.server_port}", "nextcloud_url": "https://nc.example.org"}
    result = module_process.run("hpb_reach", {**given, "secret": SECRET, **options})
    assert SECRET not in json.dumps(result)
    assert not result.get("failed"), result
    assert result["changed"] is False
    return result


def test_a_way_without_obstacles(answers):
    def sign(self):
        Hpb.do_POST(self)

    answers.do_POST = sign
    answers.end_headers = lambda self: (self.send_header("X-Spreed-Signaling-Features", "mcu"), Hpb.end_headers(self))
    with served(answers) as server:
        result = reach(server)
    assert (result["failed_at"], result["kind"], result["text"]) == ("", "", "")
    assert result["request"] == {"status": 200, "features": ["mcu"]}
    assert "127.0.0.1" in result["addresses"] and abs(result["seconds_off"]) < 3
    # One request, for a room in which nobody is.
    ((path, backend, body),) = answers.seen
    assert path.startswith("/api/v1/room/reach") and backend == "https://nc.example.org"
    assert body == {"type": "message", "message": {"data": {}}}


def test_headers_that_are_lost_on_posts_are_noticed(answers):
    with served(answers) as server:
        result = reach(server)
    assert (result["failed_at"], result["kind"]) == ("request", "features")


def test_a_refused_secret_is_tried_once(answers):
    with served(answers) as server:
        result = reach(server, secret=SECRET[::-1])
    assert (result["failed_at"], result["kind"], result["text"]) == ("request", "status", "403")
    assert len(answers.seen) == 1


def test_without_a_secret_nothing_is_signed(answers):
    with served(answers) as server:
        result = reach(server, secret="")
    assert (result["failed_at"], result["request"]["status"], answers.seen) == ("", 0, [])


def test_a_clock_that_is_off(answers):
    answers.clock = 60
    with served(answers) as server:
        assert -62 < reach(server)["seconds_off"] < -57


@pytest.mark.parametrize(
    ("changes", "kind", "text"),
    [
        ({"code": 502}, "status", "502"),
        ({"body": b"hello"}, "status", "200"),
        ({"features": ""}, "features", ""),
    ],
)
def test_what_is_no_welcome(answers, changes, kind, text):
    for name, value in changes.items():
        setattr(answers, name, value)
    with served(answers) as server:
        result = reach(server)
    assert (result["failed_at"], result["kind"], result["text"]) == ("welcome", kind, text)
    assert answers.seen == []


@pytest.mark.parametrize(
    ("name", "ends", "kind"),
    [("localhost", 10, "unknown_ca"), ("localhost", -5, "unknown_ca")],
)
def test_a_request_is_not_signed_for_a_server_whose_certificate_does_not_hold(tmp_path, answers, name, ends, kind):
    with served(answers, make_certificate(tmp_path, name, ends)) as server:
        result = reach(server, "https")
        assert (result["failed_at"], result["kind"]) == ("tls", kind)
        assert answers.seen == []
        assert "seconds_off" in result
        # Talk that does not check it would send it.
        result = reach(server, "https", verify=False)
        assert (result["certificate"]["kind"], result["request"]["status"], len(answers.seen)) == (kind, 200, 1)


def test_a_closed_port_and_an_unknown_name(answers):
    with served(answers) as server:
        pass
    assert (reach(server)["failed_at"], reach(server)["kind"]) == ("tcp", "refused")
    result = reach(server, url="https://hpb.invalid")
    assert (result["failed_at"], result["kind"], result["addresses"]) == ("name", "name", [])


# --- the look at the HPB's host ------------------------------------------------------------------------------------

DOCKER = """#!/bin/sh
case $1 in
  version) echo 26.1.5 ;;
  ps) echo 1d 2d ;;
  container) test "$*" = "container inspect 1d 2d" || exit 99; cat {folder}/inspect.json; exit 1 ;;
  logs) test "$4" = 1d || exit 99; echo started; echo "it failed: {secret}" >&2 ;;
  exec)
    test "$2" = 1d || exit 99
    case "$*" in
      *hosts) echo "127.0.0.1 localhost" ;;
      *) exit 99 ;;
    esac ;;
  *) exit 99 ;;
esac
"""
# Programs of the container are started as the host's processes: what they leave behind there is collected.
NSENTER = """#!/bin/sh
case "$*" in
  "--target 4711 --mount --net --setuid 65534 --setgid 65534 timeout 2 wget -S "*bad.example.org*)
    echo "wget: bad address 'bad.example.org'" >&2; exit 1 ;;
  *) exit 99 ;;
esac
"""


@pytest.fixture
def look(tmp_path):
    """Inspect this machine, with a docker of ours and a base directory of ours."""
    (tmp_path / "bin").mkdir()

    def run(docker=True, **options):
        if docker:
            (tmp_path / "bin" / "docker").write_text(DOCKER.format(folder=tmp_path, secret=SECRET), encoding="utf-8")
            (tmp_path / "bin" / "docker").chmod(0o755)
            (tmp_path / "bin" / "nsenter").write_text(NSENTER, encoding="utf-8")
            (tmp_path / "bin" / "nsenter").chmod(0o755)
        given = {"domain": "talk.example.org", "base_dir": str(tmp_path / "base"), "secrets": [SECRET], "timeout": 1}
        result = module_process.run(
            "hpb_inspect", {**given, **options}, PATH=f"{tmp_path}/bin:/bin" if docker else str(tmp_path / "bin")
        )
        assert SECRET not in json.dumps(result)
        assert not result.get("failed"), result
        return result

    return run


def test_programs_are_asked_at_the_addresses_that_are_given(look):
    """On private networks they are not on the loopback; of another address of it nobody else answers."""
    result = look(addresses={"janus": "127.0.0.7"}, signalling_port=9)
    assert (result["janus"]["address"], result["signalling"]["address"]) == ("127.0.0.7", "127.0.0.1")
    assert result["signalling"]["port"] == 9
    with socket.socket() as held:
        held.bind(("127.0.0.7", 0))
        held.listen()
        port = held.getsockname()[1]
        assert _evidence.upgrade(port, "/", "", 0.5) == "refused"
        assert _evidence.upgrade(port, "/", "", 0.5, "127.0.0.7") == "timeout"


class Websockets:
    """A server of websockets that does as the signaling server does, and complains of what that one would."""

    def __init__(self, frames=(), pause=0.0, answers=True) -> None:
        self.complaints, self.seen, outer = [], threading.Event(), self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while self.rfile.readline().strip():
                    pass
                self.wfile.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n")
                try:
                    for frame in frames:
                        time.sleep(pause)
                        self.connection.settimeout(0.05)
                        with contextlib.suppress(TimeoutError):
                            early = self.connection.recv(8, socket.MSG_PEEK)
                            outer.complaints.append(f"could not send: closed ({early!r})")
                        self.wfile.write(frame)
                    self.connection.settimeout(5)
                    farewell = self.rfile.read(8)
                    if farewell != b"\x88\x82\0\0\0\0\x03\xe8":
                        outer.complaints.append(f"error reading: {farewell!r}")
                    if answers:
                        self.connection.settimeout(0.1)
                        with contextlib.suppress(TimeoutError):
                            outer.complaints.append(f"gone without waiting: {self.connection.recv(1)!r}")
                        self.wfile.write(b"\x88\x02\x03\xe8")
                except OSError as error:
                    outer.complaints.append(f"error reading: {error}")
                finally:
                    outer.seen.set()

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()


WELCOME = b"\x81\x7e\x01\x2c" + b"w" * 300
PING = b"\x89\x13" + b"1796075828212345678"


@pytest.mark.parametrize(
    ("protocol", "frames", "pause"),
    [("", [WELCOME, PING], 0), ("", [WELCOME, PING], 0.2), ("janus-protocol", [], 0)],
)
def test_a_look_at_a_websocket_leaves_nothing_to_complain_of(protocol, frames, pause):
    server = Websockets(frames, pause)
    assert _evidence.upgrade(server.port, "/spreed", protocol, 5, greetings=len(frames)) == "101"
    assert server.seen.wait(5)
    assert server.complaints == []


def test_a_server_that_does_not_close_keeps_a_look_not_for_long():
    server = Websockets([WELCOME, PING], answers=False)
    began = time.monotonic()
    assert _evidence.upgrade(server.port, "/spreed", "", 5, greetings=2) == "101"
    assert time.monotonic() - began < 2 * _evidence.GREETING_SECONDS + 1


def test_the_look_at_a_host(look, tmp_path):
    def container(name, service, base):
        config, host = {"Labels": {"nextcloud-talk.hpb": service}}, {"Binds": [f"{base}/{service}/config:/config:ro"]}
        state = {"Status": "running", "Pid": 4711}
        return {"Id": "1d", "Name": name, "State": state, "Config": config, "HostConfig": host}

    ours, others = container("/hpb-signalling", "signalling", tmp_path / "base"), container("/nats", "nats", "/other")
    (tmp_path / "inspect.json").write_text(json.dumps([ours, {**others, "Id": "2d"}]), encoding="utf-8")
    for name, text in (
        ("janus/config/janus.jcfg", 'nat: {\n ice_enforce_list = "192.0.2.10"\n}\n'),
        (
            "coturn/config/turnserver.conf",
            "listening-ip=127.0.0.1\nlistening-port=9\nmin-port=1\nmax-port=2\n"
            "realm=turn.example.org\ntls-listening-port=9\n",
        ),
    ):
        (tmp_path / "base" / name).parent.mkdir(parents=True)
        (tmp_path / "base" / name).write_text(text, encoding="utf-8")
    result = look(nextclouds=[{"id": "nc", "url": "https://bad.example.org"}])
    assert result["changed"] is False and result["engine_error"] == ""
    assert {name: state["state"] for name, state in result["containers"].items()} == {
        "nats": "missing",
        "janus": "missing",
        "coturn": "missing",
        "signalling": "running",
        "traefik": "missing",
    }
    assert result["containers"]["signalling"]["name"] == "hpb-signalling"
    # A secret in a log is never seen.
    assert result["containers"]["signalling"]["log"] == ["it failed: ********"]
    assert result["nextclouds"]["nc"]["inside"]["kind"] == "name"
    assert (result["janus"]["enforce"], result["janus"]["mapping"]) == ("192.0.2.10", "")
    assert (result["coturn"]["listening"], result["coturn"]["port"], result["coturn"]["ports"]) == (
        "127.0.0.1",
        9,
        "1-2",
    )
    assert result["coturn"]["stun"] != ""
    assert (result["coturn"]["realm"], result["coturn"]["tls_port"]) == ("turn.example.org", 9)
    assert result["coturn"]["certificate"]["kind"] == "refused"
    assert abs(result["time"] - time.time()) < 60


def test_the_look_at_a_host_without_an_engine(look):
    result = look(docker=False, nextclouds=[{"id": "nc", "url": "https://nc.invalid"}])
    assert result["engine_error"] == "there is no program docker on this host"
    assert result["containers"] == {}
    assert result["nextclouds"]["nc"]["inside"]["kind"] == "not asked"
    assert result["nextclouds"]["nc"]["tls"]["kind"] == "name"
