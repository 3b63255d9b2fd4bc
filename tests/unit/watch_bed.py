# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A backend for the watcher: small servers on 127.0.0.1 that answer as the programs do, and a docker of its own."""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import hmac
import json
import socket
import socketserver
import ssl
import struct
import subprocess
import sys
import threading
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "roles/watch/files/watch.py"
NAMES = ["nats", "janus", "coturn", "signalling", "traefik"]
TURN_SECRET, TOKEN, PASSWORD = "5" * 64, "the-token-of-the-webhook-0123456789", "the-password-of-the-mail-server-0"
WELL = {
    "Status": "running",
    "Running": True,
    "Paused": False,
    "Restarting": False,
    "ExitCode": 0,
    "Health": {"Status": "healthy"},
}
STOPPED = {**WELL, "Status": "exited", "Running": False, "Health": {"Status": "unhealthy"}}

DOCKER = """#!{python}
import json, os, pathlib, sys
here = pathlib.Path({folder!r})
with open(here / "docker-calls", "a") as calls:
    calls.write(json.dumps([sys.argv[1:], dict(os.environ)]) + "\\n")
states = json.loads((here / "containers").read_text())
if states is None:
    sys.exit("Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?")
if sys.argv[1:] == ["ps", "--all", "--quiet", "--no-trunc", "--filter", "label=nextcloud-talk.hpb"]:
    print("\\n".join(states))
else:
    assert sys.argv[1:4] == ["inspect", "--type", "container"] and sys.argv[6:] == list(states)
    for name, state in states.items():
        service = state.get("service", name)
        binds = [state.get("base", str(here / "base")) + "/" + service + "/config:/config:ro"]
        print(*map(json.dumps, ("/" + name, state, {{"nextcloud-talk.hpb": service}}, binds)), sep="\\t")
"""


class Authority:
    """A certificate authority of the test, below `folder`."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name, self.key = folder, name, ec.generate_private_key(ec.SECP256R1())
        self.path = folder / f"{name}.pem"
        self.path.write_bytes(self._signed(name, self.key, 3650, True).public_bytes(serialization.Encoding.PEM))

    def _signed(self, name: str, key: ec.EllipticCurvePrivateKey, days: float, authority: bool) -> x509.Certificate:
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=400))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if not authority:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def context(self, name: str, days: float = 90) -> ssl.SSLContext:
        """Return what a server needs that is called `name`."""
        key = ec.generate_private_key(ec.SECP256R1())
        file = self.folder / f"{name}-{days}-{self.name}.pem"
        file.write_bytes(
            self._signed(name, key, days, False).public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context


class Web:
    """An HTTP or HTTPS server: `answer(path, body, headers)` returns (status, headers, text)."""

    def __init__(self, answer, context: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.answer, self.context = answer, context
        outer = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 5

            def setup(self) -> None:
                if outer.context is not None:
                    self.request = outer.context.wrap_socket(self.request, server_side=True)
                super().setup()

            def reply(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, headers, text = outer.answer(self.path, body, self.headers)
                self.send_response_only(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text.encode() if self.command != "HEAD" else b"")

            do_GET = do_POST = do_HEAD = reply

            def log_message(self, *_words) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_words) -> None:
                pass  # A client that does not like the certificate hangs up.

        self.server = Server((host, 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()


class Janus:
    """The websocket: takes the upgrade for janus-protocol and answers a masked ping with a pong."""

    def __init__(self) -> None:
        self.well, self.left, outer = True, [], self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                lines = []
                while line := self.rfile.readline().strip():
                    lines.append(line)
                if not outer.well or b"Sec-WebSocket-Protocol: janus-protocol" not in lines:
                    self.wfile.write(b"HTTP/1.1 403 Forbidden\r\n\r\n")
                    return
                self.wfile.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n")
                first, length = self.rfile.read(2)
                assert first == 0x81 and length & 0x80
                mask, text = self.rfile.read(4), self.rfile.read(length & 0x7F)
                asked = json.loads(bytes(byte ^ mask[at % 4] for at, byte in enumerate(text)))
                assert asked["janus"] == "ping"
                pong = json.dumps({"janus": "pong", "transaction": asked["transaction"]}, separators=(",", ":"))
                self.wfile.write(bytes([0x81, len(pong)]) + pong.encode())
                farewell = self.rfile.read(6)
                self.connection.settimeout(0.2)
                try:
                    outer.left.append("gone without waiting" if self.connection.recv(1) == b"" else "more words")
                except TimeoutError:
                    outer.left.append(farewell)
                    self.wfile.write(b"\x88\x00")

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()


class Coturn:
    """STUN and TURN on one port, udp and tcp; checks MESSAGE-INTEGRITY of allocations against one shared secret."""

    def __init__(self, secret: str) -> None:
        self.secret, self.udp_well, self.allocated, self.released = secret, True, 0, 0
        while True:
            self.tcp = socket.create_server(("127.0.0.1", 0))
            self.port = self.tcp.getsockname()[1]
            self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                self.udp.bind(("127.0.0.1", self.port))
                break
            except OSError:
                self.tcp.close()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        while True:
            try:
                message, sender = self.udp.recvfrom(2048)
            except OSError:
                return
            if self.udp_well and (answer := self.answer(message)):
                self.udp.sendto(answer, sender)

    def answer(self, message: bytes) -> bytes:
        kind, length, cookie = struct.unpack("!HHI", message[:8])
        assert cookie == 0x2112A442 and length == len(message) - 20 and length % 4 == 0
        attributes, at, integrity_at = {}, 20, None
        while at < len(message):
            name, size = struct.unpack("!HH", message[at : at + 4])
            integrity_at = at if name == 8 else integrity_at
            attributes[name] = message[at + 4 : at + 4 + size]
            at += 4 + size + -size % 4

        def reply(answer_kind: int, body: bytes = b"") -> bytes:
            return struct.pack("!HH", answer_kind, len(body)) + message[4:20] + body

        if kind == 1:
            return reply(0x0101)
        if integrity_at is None:
            return reply(0x0113, b"\0\x09\0\x04\0\0\x04\x01" + b"\0\x14\0\x0bexample.org\0" + b"\0\x15\0\x08abcdefgh")
        user, realm, nonce = attributes[6], attributes[0x14], attributes[0x15]
        assert (realm, nonce) == (b"example.org", b"abcdefgh") and int(user.split(b":")[0]) > time()
        password = base64.b64encode(hmac.new(self.secret.encode(), user, hashlib.sha1).digest())
        key = hashlib.md5(b":".join([user, realm, password])).digest()
        if hmac.new(key, message[:integrity_at], hashlib.sha1).digest() != attributes[8]:
            return reply(0x0113, b"\0\x09\0\x04\0\0\x04\x01")
        if kind == 3:
            assert attributes[0x19] == b"\x11\0\0\0"
            self.allocated += 1
            return reply(0x0103)
        assert kind == 4 and attributes[0x0D] == bytes(4)
        self.released += 1
        return reply(0x0104)


class MailServer:
    """SMTP; keeps letters as (recipients, text). `refuse` names recipients that are put off.

    It demands a login unless told otherwise; with a `context` that is taken after STARTTLS only.
    """

    def __init__(self, host: str = "127.0.0.1", *, login: bool = True) -> None:
        self.letters, self.refuse, self.well, self.rude, self.context, outer = [], set(), True, False, None, self

        class Handler(socketserver.StreamRequestHandler):
            def say(self, line: str) -> None:
                self.wfile.write(f"{line}\r\n".encode())

            def handle(self) -> None:
                if not outer.well:
                    self.say("421 come back later")
                    return
                self.say("220 mail.example.org")
                to, logged_in, covered = [], not login, outer.context is None
                while line := self.rfile.readline().decode().strip():
                    word = line.upper()
                    if word.startswith("EHLO"):
                        self.say("250-mail.example.org\r\n250 " + ("AUTH PLAIN" if covered else "STARTTLS"))
                    elif word == "STARTTLS" and not covered:
                        self.say("220 go on")
                        self.request = outer.context.wrap_socket(self.request, server_side=True)
                        super().setup()
                        covered = True
                    elif word.startswith("AUTH PLAIN"):
                        wanted = base64.b64encode(f"\0watch\0{PASSWORD}".encode()).decode()
                        logged_in = line.split()[2] == wanted
                        self.say("235 ok" if logged_in else "535 no")
                    elif word.startswith("MAIL"):
                        to = []
                        self.say("250 ok" if logged_in else "530 login first")
                    elif word.startswith("RCPT"):
                        address = line.partition("<")[2].partition(">")[0]
                        if address in outer.refuse:
                            self.say("451 later")
                        else:
                            to.append(address)
                            self.say("250 ok")
                    elif word == "DATA":
                        self.say("354 go on")
                        text = []
                        while (part := self.rfile.readline()) != b".\r\n":
                            text.append(part.decode())
                        outer.letters.append((to, "".join(text)))
                        self.say("250 ok")
                    elif word == "QUIT":
                        self.say("421 rude" if outer.rude else "221 bye")
                        return
                    else:
                        self.say("250 ok")

        self.server = socketserver.ThreadingTCPServer((host, 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()


class Bed:
    """Everything that the watcher looks at, and what it tells."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority, self.stranger = Authority(folder, "authority"), Authority(folder, "stranger")
        self.features, self.connections, self.ahead = "welcome, mcu, simulcast", 1, 0.0
        self.hook_status, self.posts, self.tries = 204, [], 0
        self.janus, self.coturn, self.mail_server = Janus(), Coturn(TURN_SECRET), MailServer()
        self.signaling = Web(self.welcome, self.authority.context("talk.example.org"))
        self.nextcloud = Web(self.status_page, self.authority.context("nc.example.org", 60))
        self.nats = Web(lambda *_words: (200, {}, json.dumps({"connections": self.connections})))
        self.hook = Web(self.post)
        docker = folder / "docker"
        docker.write_text(DOCKER.format(python=sys.executable, folder=str(folder)), encoding="utf-8")
        docker.chmod(0o755)
        self.names(NAMES)
        for name in ("base/secrets", "state", "metrics"):
            (folder / name).mkdir(parents=True)
        self.deployed()
        self.put("base/secrets/secrets.json", {"instances": {"nc": {"turn": TURN_SECRET}}})
        self.config = {
            "host": "talk.example.org",
            "base_dir": str(folder / "base"),
            "own_network": True,
            "state_dir": str(folder / "state"),
            "docker": str(docker),
            "containers": NAMES,
            "timeout": 1,
            "tls": "private_ca",
            "signaling": {"url": f"https://talk.example.org:{self.signaling.port}", "address": ""},
            "nats": f"http://127.0.0.1:{self.nats.port}",
            "janus": {"address": "127.0.0.1", "port": self.janus.port},
            "turn": {
                "name": "turn.example.org",
                "address": "127.0.0.1",
                "port": self.coturn.port,
                "tls_port": 0,
                "name_443": "",
                "allocation": True,
            },
            "ca_files": [str(self.authority.path)],
            "resolve": {"talk.example.org": "127.0.0.1", "nc.example.org": "127.0.0.1", "nas.example.org": "127.0.0.1"},
            "certificate_days": 14,
            "disk_free_mb": 1,
            "mail": {
                "to": ["admin@example.org"],
                "from": "hpb-watch@talk.example.org",
                "host": "127.0.0.1",
                "port": self.mail_server.port,
                "starttls": False,
                "user": "watch",
                "password": PASSWORD,
            },
            "webhook": {"url": f"http://127.0.0.1:{self.hook.port}/hook?a=b", "token": TOKEN},
            "textfile_dir": str(folder / "metrics"),
        }

    def put(self, name: str, document) -> None:
        (self.folder / name).write_text(json.dumps(document), encoding="utf-8")

    def names(self, names: list[str]) -> None:
        """Set which containers there are; all of them are well."""
        self.put("containers", dict.fromkeys(names, WELL))

    def containers(self, **other) -> None:
        """Set the states of the containers; None: there is none of that name."""
        states = {**dict.fromkeys(NAMES, WELL), **other}
        self.put("containers", {name: state for name, state in states.items() if state is not None})

    def deployed(self, *further) -> None:
        nc = {"id": "nc", "url": f"https://nc.example.org:{self.nextcloud.port}/cloud", "optional": False}
        self.put("base/deployed.json", {"instances": [nc, *further]})

    def welcome(self, path, _body, headers):
        assert headers["Host"] == "talk.example.org"
        if path != "/api/v1/welcome":
            return 404, {}, "nothing"
        features = {"X-Spreed-Signaling-Features": self.features}
        return 200, features, '{"nextcloud-spreed-signaling":"Welcome","version":"2.1.1"}'

    def status_page(self, path, _body, _headers):
        assert path == "/cloud/status.php"
        return 200, {"Date": formatdate(time() + self.ahead, usegmt=True)}, "{}"

    def post(self, path, body, headers):
        self.tries += 1
        assert path == "/hook?a=b" and headers["Authorization"] == f"Bearer {TOKEN}"
        assert headers["Content-Type"] == "application/json"
        if self.hook_status < 300:
            self.posts.append((headers["Idempotency-Key"], json.loads(body)))
        return self.hook_status, {}, ""

    def start(self) -> subprocess.Popen[str]:
        path = self.folder / "config.json"
        path.write_text(json.dumps(self.config), encoding="utf-8")
        return subprocess.Popen(
            [sys.executable, PROGRAM, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/"
        )

    def run(self, code: int = 0) -> list[str]:
        """Let the watcher look once; returns what it said. No secret is where it must not be."""
        process = self.start()
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (code, ""), out + err
        told = out + json.dumps(self.posts) + json.dumps(self.mail_server.letters)
        for name in ("state", "metrics"):
            told += "".join(path.read_text(encoding="utf-8") for path in (self.folder / name).iterdir())
        with contextlib.suppress(FileNotFoundError):
            told += (self.folder / "docker-calls").read_text(encoding="utf-8")
        assert [secret for secret in (TURN_SECRET, TOKEN, PASSWORD) if secret in told] == []
        return out.splitlines()

    def changes(self) -> list[tuple[str, str]]:
        """Return (check, state) of all that was posted."""
        return [(change["check"], change["state"]) for _key, post in self.posts for change in post["changes"]]

    def metric(self, name: str) -> float | None:
        for line in (self.folder / "metrics/hpb_watch.prom").read_text(encoding="utf-8").splitlines():
            if line.rpartition(" ")[0] == name:
                return float(line.rpartition(" ")[2])
        return None

    def mode(self, name: str) -> int:
        return (self.folder / name).stat().st_mode & 0o7777
