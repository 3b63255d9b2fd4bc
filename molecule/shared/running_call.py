#!/usr/bin/env python3
# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds a call of two peers while a test changes the backend, and counts how long media ever paused.

`RunningCall` is for tests: a context manager around a process of this file. The process reads one line of JSON from
standard input (`url`, `internal_secret`, `ca_pem` (list of texts), `resolve`, `backend` (URL of the instance) and
`relay` (null, or `{"host", "port", "transport", "secret"}` and perhaps `family`, ipv6 for a relay of that)), says
`ready` when media flows, and ends the call when standard input ends. Its last line is JSON: `seconds`, for `audio` and
`video` the `frames`, the `lost` packets and `longest_pause` in seconds, `longest_stall`, how many seconds this process
itself stood still at the most, `pair` and `publisher_pair`, `told`, the addresses at which the SFU says it is reached,
and `sockets_lost`, how many of the two peers' websockets are gone. An empty line on standard input is answered with
`longest_pause` and `frames` of each kind, and `sockets_lost`, since the last such line.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from typing import Any

from beside import Beside


class RunningCall(Beside):
    """A call that lasts as long as the `with` block; `figures` has what it saw afterwards."""

    PROGRAM = __file__

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__(spec, f"the call to {spec['backend']} did not come about")

    def since_last(self) -> dict[str, Any]:
        """Return what happened since the call began, or since this was asked last."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


async def sockets_lost(peers: list[Any]) -> int:
    """Return how many of the peers' websockets to the signaling server are gone."""
    from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _signaling_client

    lost = 0
    for peer in peers:
        try:
            # To the other one, who does not know this kind of message and passes it over.
            await peer.session.tell(None, {"type": "still-there"})
        except _signaling_client.Lost:
            lost += 1
    return lost


async def hold(spec: dict[str, Any]) -> dict[str, Any]:
    """Place the call, hold it until standard input ends, and return the figures."""
    from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _call, _signaling_client

    context = _signaling_client.tls_context([], spec["ca_pem"])
    relay = None
    if spec["relay"]:
        where = spec["relay"]
        credentials = _signaling_client.turn_credentials(where["secret"], "call", int(time.time()) + 3600)
        relay = _call.Relay(where["host"], where["port"], where["transport"], *credentials)
    peers = []
    for _end in ("publisher", "subscriber"):
        hello = _signaling_client.internal_hello(spec["internal_secret"], spec["backend"])
        session = await _signaling_client.Session.open(spec["url"], context, hello)
        peers.append(_call.Peer(session, _call.Plan(relay)))
        await session.join("running-call")
    publisher, subscriber = peers
    await _call.publish(publisher)
    asked = time.monotonic()
    receptions = await _call.subscribe(subscriber, publisher.session.session_id)
    await asyncio.gather(*(asyncio.wait_for(item.arrived.wait(), 15) for item in receptions))
    sys.stdout.write("ready\n")
    sys.stdout.flush()

    line = asyncio.ensure_future(asyncio.to_thread(sys.stdin.readline))
    start = time.monotonic()
    seen = {item.kind: (item.frames, start) for item in receptions}
    pauses = dict.fromkeys(seen, 0.0)
    turned, stalled = start, 0.0
    part, counted = dict(pauses), {item.kind: item.frames for item in receptions}
    while not (line.done() and line.result() == ""):
        await asyncio.sleep(0.02)
        now = time.monotonic()
        turned, stalled = now, max(stalled, now - turned)
        for item in receptions:
            frames, since = seen[item.kind]
            pauses[item.kind] = max(pauses[item.kind], now - since)
            part[item.kind] = max(part[item.kind], now - since)
            if item.frames != frames:
                seen[item.kind] = (item.frames, now)
        if line.done() and line.result():
            answer: dict[str, Any] = {"sockets_lost": await sockets_lost(peers)}
            for item in receptions:
                frames = item.frames - counted[item.kind]
                answer[item.kind] = {"longest_pause": round(part[item.kind], 2), "frames": frames}
                part[item.kind], counted[item.kind] = 0.0, item.frames
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
            line = asyncio.ensure_future(asyncio.to_thread(sys.stdin.readline))
    lost = await sockets_lost(peers)
    figures = await _call.measure(subscriber, receptions, asked, 0)
    figures["sockets_lost"] = lost
    figures["publisher_pair"] = publisher.pair()
    figures["told"] = sorted({address for address, _port in publisher.remote_addresses()})
    figures["seconds"] = round(time.monotonic() - start, 1)
    figures["longest_stall"] = round(stalled, 2)
    for kind, pause in pauses.items():
        figures[kind]["longest_pause"] = round(pause, 2)
    await asyncio.gather(*(peer.close() for peer in reversed(peers)))
    return figures


def main() -> None:
    """Hold one call as described on standard input."""
    logging.disable(logging.CRITICAL)
    spec = json.loads(sys.stdin.readline())
    import turn_client
    from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _signaling_client

    family = (spec["relay"] or {}).get("family", "")
    with _signaling_client.pinned_names(spec["resolve"]), turn_client.relays_of(family):
        figures = asyncio.run(hold(spec))
    sys.stdout.write(json.dumps(figures) + "\n")
    sys.stdout.flush()
    # Threads of a codec must not keep the process.
    os._exit(0)


if __name__ == "__main__":
    main()
