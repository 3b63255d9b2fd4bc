# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether two instances are apart: peers of both in rooms of one name, and what either learns of the other.

A third peer, of the second instance, does the same things with success: without it, silence would prove nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable
from typing import Any, Callable

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._signaling_client import Refused, Session

# How long the companion's messages may take, and for how long nothing of the stranger's may come after them.
HEAR_SECONDS = 5
QUIET_SECONDS = 0.5

Open = Callable[[], Awaitable[Session]]


async def heard(session: Session, wanted: set[str], seconds: float) -> set[str]:
    """Return way ("to" or "room") and sender of the messages that come, until all `wanted` came or the time is over."""
    found: set[str] = set()
    end = time.monotonic() + seconds
    while not (wanted and wanted <= found):
        try:
            _sender, data = await asyncio.wait_for(session.next_data(), max(0.0, end - time.monotonic()))
        except Refused:
            # A message to somebody unknown may be refused, which is as good as not delivered.
            continue
        except asyncio.TimeoutError:
            break
        if data.get("type") == "probe":
            found.add(str(data.get("way")))
    return found


async def speak(session: Session, recipient: str) -> None:
    """Send a message to a session and one to our room. Each names its way and its sender."""
    for way, target in (("to", recipient), ("room", None)):
        await session.tell(target, {"type": "probe", "way": f"{way} {session.session_id}"})


async def look(open_first: Open, open_second: Open, room: str) -> dict[str, Any]:
    """Let a peer of the first and two of the second instance join rooms of one name, and speak.

    Returns {"control": whether the two of the second instance saw and heard each other, "learnt": what one instance
    learnt of the other, as sentences without a subject; empty where they are apart}.
    Raises what sessions raise: `Refused`, `Lost`, OSError.
    """
    sessions: list[Session] = []
    try:
        for opened in (open_first, open_second, open_second):
            session = await opened()
            sessions.append(session)
            await session.join(room)
        stranger, peer, companion = sessions
        await speak(stranger, peer.session_id)
        await speak(peer, stranger.session_id)
        await speak(companion, peer.session_id)
        ours = {f"to {companion.session_id}", f"room {companion.session_id}"}
        inside = await heard(peer, ours, HEAR_SECONDS)
        inside |= await heard(peer, set(), QUIET_SECONDS)
        outside = await heard(stranger, set(), QUIET_SECONDS)
        learnt = []
        if stranger.session_id in peer.others or {peer.session_id, companion.session_id} & stranger.others:
            learnt.append("sees who is in its room")
        spoken = {word.partition(" ")[0] for word in (inside - ours) | outside}
        if "to" in spoken:
            learnt.append("gets a message to a session")
        if "room" in spoken:
            learnt.append("gets a message to its room")
        return {"control": ours <= inside and companion.session_id in peer.others, "learnt": learnt}
    finally:
        for session in sessions:
            with contextlib.suppress(Exception):
                await session.close()
