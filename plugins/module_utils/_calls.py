# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which calls are running, from the signaling server's metrics (upstream's docs/prometheus-metrics.md).

A call runs while somebody publishes a stream, or, from version 2.1.0 on, while a session is in a call. Sessions that
are only in a conversation, such as an open browser tab, are no call.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _usage

# An internal session, of a recording for one, is in its call from its start and is nobody who talks.
PEOPLE = ("client", "federation", "virtual")


def _sessions(metrics: str, name: str) -> dict[str, dict[str, int]]:
    """Return the sessions of people in each room of each backend that has any: {backend: {room: sessions}}."""
    found: dict[str, dict[str, int]] = {}
    for labels, value in re.findall(rf"^{name}\{{([^}}]*)\}} ([0-9.e+]+)$", metrics, re.MULTILINE):
        label = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        count = int(float(value))
        if count > 0 and label.get("clienttype") in PEOPLE and label.get("backend"):
            rooms = found.setdefault(label["backend"], {})
            rooms[label.get("room", "")] = rooms.get(label.get("room", ""), 0) + count
    return found


def calls(metrics: str) -> dict[str, Any]:
    """Return what is running: `running`, `streams` (published now) and `instances` ({id: {"calls", "people"}}).

    Servers before 2.1.0 do not say who is in a call; then `instances` is empty, and `running` follows from the streams.
    """
    streams = _usage.publishers(metrics)
    rooms = _sessions(metrics, "signaling_call_sessions")
    instances = {
        backend: {"calls": len(rooms[backend]), "people": sum(rooms[backend].values())} for backend in sorted(rooms)
    }
    return {"running": streams > 0 or bool(instances), "streams": streams, "instances": instances}


def number(count: int, one: str, many: str) -> str:
    """Return a count with its noun."""
    return f"{count} {one if count == 1 else many}"


def sentence(found: Mapping[str, Any]) -> str:
    """Return what is running in words: "nc: 1 call with 2 people; 4 streams are published"."""
    if not found["running"]:
        return "no call is running"
    parts = [
        f"{name}: {number(one['calls'], 'call', 'calls')} with {number(one['people'], 'person', 'people')}"
        for name, one in found["instances"].items()
    ]
    verb = "is" if found["streams"] == 1 else "are"
    published = f"{number(found['streams'], 'stream', 'streams')} {verb} published"
    return "; ".join([", ".join(parts), published] if parts else [published])


def talk_calls(text: str) -> dict[str, int] | None:
    """Return `calls` and `people` from what ``occ talk:active-calls`` says, None for something else.

    lib/Command/ActiveCalls.php of Talk: a sentence that is never translated.
    """
    found = re.search(r"There are currently (\d+) calls in progress with (\d+) participants", text)
    if found:
        return {"calls": int(found.group(1)), "people": int(found.group(2))}
    return {"calls": 0, "people": 0} if "No calls in progress" in text else None
