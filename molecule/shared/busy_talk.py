#!/usr/bin/env python3
# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""People who chat and an idle call in one Nextcloud, while a test changes the backend.

`BusyTalk` is for tests: a context manager around a process of this file. The process reads one line of JSON from
standard input (`url` of the signaling server, `nextcloud` (URL), `user`, `password`, `ca_pem` (list of texts),
`resolve`, `senders` and `pause` in seconds between two messages of each), says `ready` when two ends are in a call and
the first messages are sent, and ends when standard input does. Its last line is JSON: `sent`, the HTTP statuses of chat
messages with how often each came, `sockets_lost`, how many of the two ends lost their websocket.
"""

from __future__ import annotations

import asyncio
import collections
import json
import os
import sys
import time
from typing import Any

from beside import Beside


class BusyTalk(Beside):
    """People in Talk for the time of the `with` block; `figures` has what they saw afterwards."""

    PROGRAM = __file__

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__(spec, f"nobody came into a call of {spec['nextcloud']}")


async def chat(spec: dict[str, Any], web: Any, token: str, sent: collections.Counter, over: asyncio.Event) -> None:
    """Send messages one after the other."""
    from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _talk_client

    while not over.is_set():
        try:
            await asyncio.to_thread(web._ask, "chat", "POST", f"/v1/chat/{token}", {"message": "hello"})
            sent["200"] += 1
        except _talk_client.Unwanted as error:
            sent[str(error.status)] += 1
        except _talk_client.Unreached:
            sent["unreached"] += 1
        await asyncio.sleep(spec["pause"])


async def hold(spec: dict[str, Any]) -> dict[str, Any]:
    """Enter the call, chat until standard input ends, and return the figures."""
    from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _signaling_client, _talk_client

    context = _signaling_client.tls_context([], spec["ca_pem"])
    webs = [
        _talk_client.Web(spec["nextcloud"], spec["user"], spec["password"], context)
        for _one in range(2 + spec["senders"])
    ]
    sent: collections.Counter[str] = collections.Counter()
    over = asyncio.Event()
    lost = 0
    async with _talk_client.Conversation(webs[0], time.time() + 3600) as room:
        members = []
        for web in webs[:2]:
            settings = await asyncio.to_thread(web.settings, room.token)
            hello = _talk_client.best_hello(spec["nextcloud"], settings, ["hello-v2"])
            member = await _talk_client.Member.enter(web, spec["url"], context, hello)
            await member.join(room.token)
            members.append(member)
        chats = [asyncio.ensure_future(chat(spec, web, room.token, sent, over)) for web in webs[2:]]
        while spec["senders"] and not sent:
            await asyncio.sleep(0.05)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        over.set()
        await asyncio.gather(*chats)
        for member in members:
            try:
                await member.tell(None, {"type": "still-there"})
            except _signaling_client.Lost:
                lost += 1
            await member.close()
    return {"sent": dict(sent), "sockets_lost": lost}


def main() -> None:
    """Do as described on standard input."""
    spec = json.loads(sys.stdin.readline())
    from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _signaling_client

    with _signaling_client.pinned_names(spec["resolve"]):
        figures = asyncio.run(hold(spec))
    sys.stdout.write(json.dumps(figures) + "\n")
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
