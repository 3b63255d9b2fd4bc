# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Nextcloud's side of new secrets: told last and announced at once, and what it has counted is forgotten."""

from __future__ import annotations

import sqlite3
import time

import pytest
from test_talk_modules import FIRST, REGISTRATION, SECOND, STUN, TURN_LINE, URL, Nextcloud

HERE = "192.0.2.7"


@pytest.fixture
def nextcloud(tmp_path):
    return Nextcloud(tmp_path, "host", "--talk", "22.0.0")


def test_the_secret_is_the_last_that_changes_and_is_not_read_back(nextcloud):
    assert nextcloud.run("talk_registration", **REGISTRATION)["changed"]
    begun = time.time()
    # Nobody listens there; that nobody hears of it is no failure.
    new = {"secret": "n" * 64, "turn_secret": "t" * 64, "url": "https://127.0.0.1:1", "former_urls": [URL]}
    urls = ["https://nc.example.org"]
    options = {**REGISTRATION, **new, "changeover": True, "announce": True, "nextcloud_urls": urls}
    result = nextcloud.run("talk_registration", **options)
    assert result["changed"] and result["announced"] is False
    assert begun <= result["stored_at"] <= time.time()
    writing = [start for start in result["starts"] if start.startswith(("config:import", "talk:"))]
    # TURN, which the other side knows both secrets of, comes before the lease is given back.
    assert result["starts"][-1] == writing[-1]
    assert [start for start in result["starts"] if "lease" in start] and "lease" not in result["starts"][-1]
    assert nextcloud.stored("signaling_servers")["secret"] == "n" * 64
    assert [entry["secret"] for entry in nextcloud.stored("turn_servers")] == ["t" * 64]
    for value in (FIRST, SECOND, "n" * 64, "t" * 64):
        assert value not in str({**result, "starts": []})


def test_a_dry_run_announces_nothing(nextcloud):
    result = nextcloud.run("talk_registration", check=True, **REGISTRATION, changeover=True, announce=True)
    assert result["changed"] and (result["announced"], result["stored_at"]) == (False, 0.0)
    assert nextcloud.stored("signaling_servers") is None


def test_what_has_the_secret_already_is_announced_all_the_same(nextcloud):
    nextcloud.run("talk_registration", **REGISTRATION)
    result = nextcloud.run("talk_registration", **REGISTRATION, changeover=True)
    assert not result["changed"] and result["stored_at"] > 0
    assert nextcloud.stored("signaling_servers") == {"servers": [{"server": URL, "verify": True}], "secret": FIRST}
    assert STUN in nextcloud.stored("stun_servers") and TURN_LINE


def count(instance, address: str, action: str) -> None:
    instance.run("talk_attempts", addresses=[address])
    with sqlite3.connect(instance.root / "data" / "nextcloud.db") as connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS oc_bruteforce_attempts (id INTEGER PRIMARY KEY, action TEXT, occurred INTEGER,"
            " ip TEXT, subnet TEXT)"
        )
        row = (action, int(time.time()), address, f"{address}/32")
        connection.execute("INSERT INTO oc_bruteforce_attempts (action, occurred, ip, subnet) VALUES (?, ?, ?, ?)", row)


def test_what_counts_against_the_server_is_named_and_forgotten_on_request(nextcloud):
    count(nextcloud, HERE, "talkSignalingSecret")
    count(nextcloud, "192.0.2.8", "login")
    options = {"addresses": [HERE, HERE, "192.0.2.8", "192.0.2.9"]}
    for check in (False, True):
        found = nextcloud.run("talk_attempts", check=check, **options, reset=check)
        assert (found["counted"], found["changed"], found["sentence"]) == ({HERE: 1}, check, "")
    assert nextcloud.run("talk_attempts", **options, reset=True)["changed"]
    found = nextcloud.run("talk_attempts", **options, reset=True)
    assert (found["counted"], found["changed"]) == ({}, False)
    # Somebody's wrong passwords are none of ours.
    with sqlite3.connect(nextcloud.root / "data" / "nextcloud.db") as connection:
        assert connection.execute("SELECT ip, action FROM oc_bruteforce_attempts").fetchall() == [
            ("192.0.2.8", "login")
        ]


def test_a_nextcloud_that_cannot_say_is_no_failure(nextcloud):
    nextcloud.options["occ"] = str(nextcloud.root / "nowhere")
    found = nextcloud.run("talk_attempts", addresses=[HERE])
    assert found["counted"] == {} and found["sentence"] and not found.get("failed")
