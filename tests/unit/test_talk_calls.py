# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module talk_calls as a real process, against the stand-in's occ."""

from __future__ import annotations

import json
import time

import pytest
from test_talk_modules import Nextcloud


@pytest.fixture
def nextcloud(tmp_path):
    return Nextcloud(tmp_path, "host", "--talk", "22.0.0")


ROOMS = [
    # {room: [(flags, seconds since it was heard of) of each session]}
    ({}, 0, 0),
    ({"a": [(0, 0)]}, 0, 0),
    ({"a": [(7, 0), (3, 0), (0, 0)], "b": [(1, 0)]}, 2, 3),
    # A call that broke off.
    ({"a": [(7, 120)]}, 1, 0),
]


@pytest.mark.parametrize(("rooms", "calls", "people"), ROOMS)
def test_the_people_in_calls(nextcloud, rooms, calls, people):
    held = {
        token: {
            "name": token,
            "owner": "alice",
            "permissions": 0,
            "sessions": {
                number: {"user": "alice", "in_call": flags, "last_ping": int(time.time()) - age}
                for number, (flags, age) in enumerate(sessions)
            },
        }
        for token, sessions in rooms.items()
    }
    (nextcloud.root / "data/conversations.json").write_text(json.dumps(held))
    found = nextcloud.run("talk_calls", check=True)
    assert (found["answered"], found["calls"], found["people"], found["sentence"]) == (True, calls, people, "")
    assert found["changed"] is False


def test_a_nextcloud_that_cannot_say_is_no_failure(nextcloud):
    nextcloud.occ("maintenance:mode", "--on")
    found = nextcloud.run("talk_calls")
    assert (found["answered"], found["calls"], found["people"]) == (False, 0, 0)
    assert "maintenance mode" in found["sentence"]
