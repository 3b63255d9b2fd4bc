# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Nextcloud has counted against the signaling server: the module as a process against the stand-in's occ."""

from __future__ import annotations

import sqlite3
import time

import pytest
from test_talk_modules import FIRST, SECOND, URL, Nextcloud


@pytest.fixture
def nextcloud(tmp_path):
    """A Nextcloud that has counted 7 wrong requests of one address, and 2 with which a proxy on its host comes."""
    nextcloud = Nextcloud(tmp_path, "host", "--talk", "22.0.0")
    nextcloud.occ("talk:signaling:add", URL, FIRST)
    nextcloud.occ("security:bruteforce:attempts", "192.0.2.10")
    rows = [("talkSignalingSecret", int(time.time()), ip, f"{ip}/32") for ip in ["192.0.2.10"] * 7 + ["127.0.0.1"] * 2]
    with sqlite3.connect(nextcloud.root / "data" / "nextcloud.db") as connection:
        insert = "INSERT INTO oc_bruteforce_attempts (action, occurred, ip, subnet) VALUES (?, ?, ?, ?)"
        connection.executemany(insert, rows)
    return nextcloud


@pytest.mark.parametrize(
    ("options", "counted"),
    [
        ({"addresses": ["192.0.2.10", "192.0.2.11"]}, {"192.0.2.10": 7}),
        ({"addresses": ["192.0.2.11"], "near": True}, {"127.0.0.1": 2}),
    ],
)
def test_what_is_counted_for_which_address(nextcloud, options, counted):
    found = nextcloud.run("talk_attempts", **options)
    assert (found["changed"], found["counted"], found["sentence"]) == (False, counted, "")
    assert "secret_matches" not in found


@pytest.mark.parametrize(("secret", "matches"), [(FIRST, True), (SECOND, False)])
def test_whether_the_stored_secret_is_the_right_one(nextcloud, secret, matches):
    found = nextcloud.run("talk_attempts", addresses=["192.0.2.11"], secret=secret)
    assert found["secret_matches"] is matches
    assert FIRST not in str(found) and SECOND not in str(found)


def test_a_nextcloud_that_cannot_be_asked_is_no_failure(nextcloud):
    nextcloud.occ("maintenance:mode", "--on")
    found = nextcloud.run("talk_attempts", addresses=["192.0.2.10"], secret=FIRST)
    assert not found.get("failed") and found["counted"] == {}
    assert "maintenance" in found["sentence"]
