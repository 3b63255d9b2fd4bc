# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers websockets as a signaling server from 2.1.0 on does, and keeps the head of each request. Runs on a test host.

Where the server takes the first header line with subprotocols alone, here every line counts.
"""

from __future__ import annotations

import base64
import hashlib
import json
import socketserver
import sys
from pathlib import Path

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Handler(socketserver.StreamRequestHandler):
    """One connection."""

    def head(self) -> list[str]:
        """Return the lines of the next request's head, none at the end."""
        lines = []
        for line in self.rfile:
            if line == b"\r\n":
                break
            lines.append(line.decode("latin-1").rstrip("\r\n"))
        return lines

    def handle(self) -> None:
        while head := self.head():
            with Path(sys.argv[2]).open("a", encoding="utf-8") as file:
                file.write(json.dumps(head) + "\n")
            pairs = [line.partition(":")[::2] for line in head[1:]]
            fields = [(name.strip().lower(), value.strip()) for name, value in pairs]
            key = dict(fields).get("sec-websocket-key")
            if not key:
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nplayed")
                continue
            offered = ",".join(value for name, value in fields if name == "sec-websocket-protocol").split(",")
            accept = base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()
            answer = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
            answer.append(f"Sec-WebSocket-Accept: {accept}")
            if "janus-events" in [word.strip() for word in offered]:
                answer.append("Sec-WebSocket-Protocol: janus-events")
            self.wfile.write(("\r\n".join(answer) + "\r\n\r\n").encode())
            # Until the client goes.
            self.rfile.read(1)
            return


class Server(socketserver.ThreadingTCPServer):
    """One thread for each connection."""

    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    Server(("", int(sys.argv[1])), Handler).serve_forever()
