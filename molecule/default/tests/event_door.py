# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The subprotocol by which a signaling server from 2.1.0 on takes Janus' events: how a client may ask for it, and a
small server that plays such a one in place of what is deployed."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

from conftest import ADDRESS

DOMAIN = "talk.example.org"
NAME = "Sec-WebSocket-Protocol"
# Each a request's header lines, as they are sent.
SPELLINGS = {
    "plain": [f"{NAME}: janus-events"],
    "capitals": [f"{NAME}: JANUS-EVENTS"],
    "mixed": [f"{NAME}: Janus-eVents"],
    "no blank": [f"{NAME}:janus-events"],
    "small name": [f"{NAME.lower()}: janus-events"],
    "large name": [f"{NAME.upper()}: janus-events"],
    "first of two": [f"{NAME}: janus-events,b"],
    "last of two": [f"{NAME}: a, janus-events"],
    "among several": [f"{NAME}: a,b,janus-events ,c, d"],
    "after nothing": [f"{NAME}: ,,janus-events"],
    "first line": [f"{NAME}: janus-events", f"{NAME}: a"],
    "last line": [f"{NAME}: a", f"{NAME}: janus-events"],
    "third line, another case": [f"{NAME}: a", f"{NAME.upper()}: b", f"{NAME.lower()}: c,JANUS-events"],
    "line after an empty one": [f"{NAME}:", f"{NAME}: janus-events"],
    "blanks": [f"{NAME}:    janus-events    "],
    "tabs": [f"{NAME}:\tjanus-events\t"],
    "tabs among several": [f"{NAME}: a\t,\tjanus-events\t,b"],
    "longer word": [f"{NAME}: janus-events2"],
}
# What is no proper request. It may be refused in any way, or be passed on without that header.
CRIPPLED = {
    "folded": [f"{NAME}: a,", " janus-events"],
    "folded from the start": [f"{NAME}:", "\tjanus-events"],
    "blank before the colon": [f"{NAME} : janus-events"],
    "other name": ["Sec_WebSocket_Protocol: janus-events"],
    "vertical tab": [f"{NAME}: \vjanus-events"],
    "no-break space": [f"{NAME}: \xa0janus-events"],
}
HARMLESS = {"none": [], "another": [f"{NAME}: chat"], "several": [f"{NAME}: janus, events", f"{NAME}: x"]}

# What comes for the signaling server leads there, from this host and from elsewhere, and connections to the real one,
# which a proxy would keep using, are ended.
CHAINS = ("PREROUTING", "OUTPUT")
RULE = "-p tcp --dport 8080 -j REDIRECT --to-ports 8099"
CUT = "OUTPUT -p tcp --sport 8080 -j REJECT --reject-with tcp-reset"


def ask(lines: list[str], context: ssl.SSLContext, path: str = "/spreed", address: str = ADDRESS) -> str:
    """Ask for a websocket with these header lines; return the status of the answer, "" for none at all."""
    head = [
        f"GET {path} HTTP/1.1",
        f"Host: {DOMAIN}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        *lines,
    ]
    with (
        socket.create_connection((address, 443), 10) as raw,
        context.wrap_socket(raw, server_hostname=DOMAIN) as secured,
    ):
        secured.sendall(("\r\n".join(head) + "\r\n\r\n").encode("latin-1"))
        try:
            answer = secured.recv(4096).decode("latin-1")
        except OSError:
            answer = ""
    return answer.split(" ")[1] if answer else ""


@contextlib.contextmanager
def played(hpb) -> Iterator[None]:
    """Let a small server take the place of the signaling server on the host."""
    program = Path(__file__).with_name("played_signaling.py").read_text(encoding="utf-8")
    hpb.check_output("rm -f /tmp/heads; printf %%s %s > /tmp/played.py", program)
    hpb.check_output("systemd-run --quiet --collect --unit played python3 /tmp/played.py 8099 /tmp/heads")
    try:
        for _ in range(50):
            if hpb.run("ss -Hltn sport = :8099 | grep -q .").rc == 0:
                break
            time.sleep(0.1)
        for chain in CHAINS:
            hpb.check_output(f"iptables -t nat -I {chain} {RULE}")
        hpb.check_output(f"iptables -I {CUT}")
        yield
    finally:
        hpb.run(f"iptables -D {CUT}")
        for chain in CHAINS:
            hpb.run(f"iptables -t nat -D {chain} {RULE}")
        hpb.run("systemctl stop played; rm -f /tmp/played.py /tmp/heads")


def heads(hpb) -> list[list[str]]:
    """Return the heads of the requests that came to the small server, the oldest first."""
    return [json.loads(line) for line in hpb.run("cat /tmp/heads").stdout.splitlines()]


def is_shut(hpb, context: ssl.SSLContext, under: str = "", address: str = ADDRESS) -> None:
    """Whoever asks for it gets a 404, in whatever way, and the server never hears of it."""
    path = f"{under}/spreed"
    with played(hpb):
        # A connection that was cut may cost the first request.
        for _ in range(20):
            if ask([], context, path, address) == "101":
                break
            time.sleep(0.5)
        harmless = {name: ask(lines, context, path, address) for name, lines in HARMLESS.items()}
        assert harmless == dict.fromkeys(HARMLESS, "101")
        assert len(heads(hpb)) >= len(HARMLESS)
        found = {name: ask(lines, context, path, address) for name, lines in SPELLINGS.items()}
        for lines in CRIPPLED.values():
            ask(lines, context, path, address)
        came = [line for head in heads(hpb) for line in head if "janus-events" in line.lower()]
        # A name that is another one is nothing to the server.
        came = [line for line in came if not line.lower().startswith("sec_")]
        assert (found, came) == (dict.fromkeys(SPELLINGS, "404"), [])
