# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The web server of the stand-in: plain HTTP, for a reverse proxy in front that terminates TLS."""

from __future__ import annotations

import argparse
import json
import random
import re
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

from . import backend, bruteforce, web
from .core_commands import status_of
from .occ import become_owner
from .state import Instance

_BACKEND = re.compile(r"/ocs/v2\.php/apps/spreed/api/v[123]/signaling/backend")
_CAPABILITIES = re.compile(r"/ocs/v[12]\.php/cloud/capabilities")
_log_lock = threading.Lock()
_workers_lock = threading.Lock()
WORKERS = 4


def _xml(value: Any, name: str) -> str:
    if isinstance(value, dict):
        inner = "".join(_xml(item, key) for key, item in value.items())
    elif isinstance(value, list):
        inner = "".join(_xml(item, "element") for item in value)
    else:
        inner = escape("" if value is None else str(int(value) if isinstance(value, bool) else value))
    return f"<{name}>{inner}</{name}>"


class Handler(BaseHTTPRequestHandler):
    """One request; the instance is read anew each time, so that every change by occ shows at once."""

    protocol_version = "HTTP/1.1"
    server_version = "nextcloud-standin"
    root = Path()
    webroot = ""
    sessions = web.Sessions()
    workers: dict[int, tuple[float, dict]] = {}

    def do_GET(self) -> None:
        """Answer GET."""
        self._handle(b"")

    def do_POST(self) -> None:
        """Answer POST."""
        self._handle(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def do_DELETE(self) -> None:
        """Answer DELETE."""
        self._handle(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def log_message(self, *_arguments: Any) -> None:
        """Keep stderr silent: requests are in data/requests.jsonl."""

    def _worker(self) -> Instance:
        """Return the instance as one of the web workers knows it, each of which has its own cache."""
        instance = Instance(self.root)
        seconds = instance.settings["config_cache"]
        if seconds:
            number = random.randrange(WORKERS)
            with _workers_lock:
                read, app = self.workers.get(number, (0.0, {}))
                if time.monotonic() - read < seconds:
                    instance.remember(app)
                else:
                    self.workers[number] = (time.monotonic(), instance.app)
        return instance

    def _remote(self) -> str:
        """Return from where the request comes, as the proxy before this server says."""
        return (self.headers.get("X-Forwarded-For") or "").split(",")[0].strip() or str(self.client_address[0])

    def _own_url(self, instance: Instance) -> str:
        """Return the address that Nextcloud takes for its own in this request.

        Behind a proxy that ends TLS it takes itself for http unless it is told otherwise. A config.php of a bed that
        does not say so is one of before.
        """
        told = self.headers.get("X-Forwarded-Proto") if instance.system.get("trusted_proxies") else None
        protocol = instance.system.get("overwriteprotocol", "https") or told or "http"
        return f"{protocol}://{self.headers.get('Host')}{self.webroot}"

    def _page(self, location: str) -> None:
        """Answer with the way to the login, or with its page, with the headers that Nextcloud gives to each."""
        self.send_response(302 if location else 200)
        text = b"" if location else b"<!DOCTYPE html><title>Login</title>"
        headers = {"Content-Type": "text/html; charset=UTF-8", "Content-Length": str(len(text))}
        if location:
            headers["Location"] = location
            headers["Content-Security-Policy"] = (
                "default-src 'self'; script-src 'self' 'nonce-bm9uY2U='; style-src 'self' 'unsafe-inline'; "
                "frame-src *; img-src * data: blob:; font-src 'self' data:; media-src *; connect-src *; "
                "object-src 'none'; base-uri 'self'; "
            )
        else:
            headers["Content-Security-Policy"] = (
                "default-src 'none';base-uri 'none';manifest-src 'self';script-src 'nonce-bm9uY2U=';style-src 'self' "
                "'unsafe-inline';img-src 'self' data: blob:;font-src 'self' data:;connect-src 'self';media-src 'self';"
                "frame-ancestors 'self';form-action 'self'"
            )
            headers["Feature-Policy"] = (
                "autoplay 'self';camera 'none';fullscreen 'self';geolocation 'none';microphone 'none';payment 'none'"
            )
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    def _handle(self, body: bytes) -> None:
        instance = self._worker()
        self._cookies: list[str] = []
        address = urlsplit(self.path)
        path = address.path
        if self.webroot and path.startswith(self.webroot + "/"):
            path = path[len(self.webroot) :]
        elif self.webroot:
            path = ""
        domain = (self.headers.get("Host") or "").rpartition("@")[2]
        domain = re.sub(r":\d+$", "", domain).lower()
        trusted = instance.system.get("trusted_domains") or [domain]
        if domain not in trusted:
            self._log(instance, path, 400, {"verdict": "untrusted_domain"})
            self._send(400, "application/json", json.dumps({"error": "Trusted domain error.", "code": 15}))
        elif path == "/status.php":
            self._log(instance, path, 200, {"type": "status", "verdict": "ok"})
            self._send(200, "application/json", json.dumps(status_of(instance)))
        elif path in ("/", "/index.php", "/login"):
            self._log(instance, path, 200 if path == "/login" else 302, {"type": "page", "verdict": "ok"})
            self._page(f"{self._own_url(instance)}/login" if path != "/login" else "")
        elif not path.startswith("/ocs/"):
            self._log(instance, path, 404, {"verdict": "not_found"})
            self._send(404, "text/html; charset=UTF-8", "<!DOCTYPE html><title>Not found</title>\n")
        else:
            code, data, seen = self._ocs(instance, path, address.query, body)
            self._log(instance, path, code, seen)
            self._send_ocs(code, data, parse_qs(address.query), seen)

    def _ocs(self, instance: Instance, path: str, query: str, body: bytes) -> tuple[int, Any, dict[str, Any]]:
        """Return the HTTP status, the OCS data and what is logged."""
        state = status_of(instance)
        if not state["installed"] or state["maintenance"] or state["needsDbUpgrade"]:
            return 503, [], {"verdict": "maintenance"}
        if self.command == "GET" and _CAPABILITIES.fullmatch(path):
            return 200, backend.capabilities(instance), {"type": "capabilities", "verdict": "ok"}
        if not instance.talk_enabled:
            return 404, [], {"verdict": "not_found"}
        if not _BACKEND.fullmatch(path):
            return self._browser(instance, path, query, body)
        if self.command != "POST":
            return 405, [], {"verdict": "method_not_allowed"}
        if self.headers.get("OCS-APIRequest") != "true":
            return 412, [], {"verdict": "no_ocs_header"}
        nonce = self.headers.get("Spreed-Signaling-Random") or ""
        claimed = self.headers.get("Spreed-Signaling-Checksum") or ""
        if bruteforce.wait(instance, self._remote(), bruteforce.SIGNALING):
            return 429, [], {"verdict": "throttled"}
        data, seen = backend.answer(instance, nonce, claimed, body)
        if seen["verdict"] == "invalid_request":
            bruteforce.register(instance, self._remote(), bruteforce.SIGNALING)
            bruteforce.wait(instance, self._remote(), bruteforce.SIGNALING)
        return 200, data, seen

    def _browser(self, instance: Instance, path: str, query: str, body: bytes) -> tuple[int, Any, dict[str, Any]]:
        """Answer what a user's browser asks for; what is returned is that of `_ocs`."""
        if not web.is_known(path):
            return 404, [], {"verdict": "not_found"}
        try:
            if self.headers.get("OCS-APIRequest") != "true":
                raise web.Refused(412, "no_ocs_header")
            request = web.Request(instance, self.sessions, self.headers, self._own_url(instance))
            self._cookies = request.cookies
            return (200, *web.answer(request, self.command, path, query, body))
        except web.Refused as error:
            return error.status, error.data, {"verdict": error.verdict}

    def _send_ocs(self, code: int, data: Any, query: dict[str, list[str]], seen: dict[str, Any]) -> None:
        messages = {
            200: "OK",
            401: "Current user is not logged in",
            404: "Invalid query, please check the syntax.",
            412: "CSRF check failed",
            429: "Reached maximum delay",
        }
        meta = {
            "status": "ok" if code == 200 else "failure",
            "statuscode": 997 if code == 401 else code,
            "message": messages.get(code, seen["verdict"]),
        }
        ocs = {"meta": meta, "data": data}
        form = (query.get("format") or [""])[0]
        if form == "json" or (not form and "json" in (self.headers.get("Accept") or "")):
            self._send(code, "application/json; charset=utf-8", json.dumps({"ocs": ocs}))
        else:
            self._send(code, "application/xml; charset=utf-8", '<?xml version="1.0"?>\n' + _xml(ocs, "ocs"))

    def _send(self, code: int, kind: str, text: str) -> None:
        data = text.encode()
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-cache, no-store, must-revalidate")
        for cookie in self._cookies:
            self.send_header("Set-Cookie", cookie)
        self.end_headers()
        self.wfile.write(data)

    def _log(self, instance: Instance, path: str, code: int, seen: dict[str, Any]) -> None:
        entry = {
            "time": round(time.time(), 3),
            "remote": self._remote(),
            "method": self.command,
            "path": path,
            "http": code,
            "agent": self.headers.get("User-Agent") or "",
            **seen,
        }
        with _log_lock, instance.log_file.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(entry) + "\n")


def serve(root: Path, bind: str, port: int, webroot: str = "") -> ThreadingHTTPServer:
    """Return a server that is bound and not yet running; port 0 takes a free one (`server_address`)."""
    handler = type(
        "InstanceHandler",
        (Handler,),
        {"root": root, "webroot": webroot.rstrip("/"), "sessions": web.Sessions(), "workers": {}},
    )
    server = ThreadingHTTPServer((bind, port), handler)
    server.daemon_threads = True
    return server


def main(argv: list[str]) -> int:
    """Entry of the `server.py` program; started as root it becomes the owner of config.php."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", required=True, type=Path, help="directory of the instance")
    parser.add_argument("--bind", default="127.0.0.1", help="address to listen on (default %(default)s)")
    parser.add_argument("--port", type=int, default=8081, help="port to listen on (default %(default)s)")
    parser.add_argument("--webroot", default="", help="path of the instance below its host, e.g. /nextcloud")
    options = parser.parse_args(argv)
    server = serve(options.root, options.bind, options.port, options.webroot)
    complaint = become_owner(Instance(options.root))
    if complaint:
        parser.exit(1, complaint[0] + "\n")
    print(f"listening on {server.server_address[0]}:{server.server_address[1]}", flush=True)
    # As process 1 of a container it would otherwise ignore the signal.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
    server.serve_forever()
    return 0
