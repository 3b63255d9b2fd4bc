# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Nextcloud counts, delays and caches, and what a post that fails costs a user, as the stand-in does it."""

from __future__ import annotations

import json
import sqlite3
import time

import pytest
import test_standin_http
import test_standin_web
from test_standin_http import auth, call
from test_standin_web import APP, TALK, Browser

nextcloud = test_standin_http.nextcloud
web = test_standin_web.nextcloud
HERE, OTHER = "192.0.2.7", "192.0.2.8"
SIGNALING = "talkSignalingSecret"


def attempts(instance, address: str, *action: str) -> dict:
    return json.loads(instance.occ("security:bruteforce:attempts", address, *action, "--output=json")[0])


def register(instance, address: str) -> None:
    """Count a failure without the wait for it."""
    with sqlite3.connect(instance.root / "data" / "nextcloud.db") as connection:
        row = (SIGNALING, int(time.time()), address, f"{address}/32")
        connection.execute("INSERT INTO oc_bruteforce_attempts (action, occurred, ip, subnet) VALUES (?, ?, ?, ?)", row)


def wrong(instance, **headers: str) -> tuple[int, object]:
    return call(instance, auth("alice", "x"), secret="0" * 64, **headers)


def test_a_wrong_checksum_counts_for_its_address_until_that_is_reset(nextcloud):
    assert attempts(nextcloud, HERE) == {"bypass-listed": False, "attempts": 0, "delay": 0}
    for expected in ({"attempts": 1, "delay": 200}, {"attempts": 2, "delay": 400}):
        assert wrong(nextcloud, X_Forwarded_For=HERE)[1]["error"]["code"] == "invalid_request"
        assert attempts(nextcloud, HERE, SIGNALING) == {"bypass-listed": False, **expected}
    assert attempts(nextcloud, HERE, "login")["attempts"] == 0
    assert attempts(nextcloud, OTHER)["attempts"] == 0
    begun = time.monotonic()
    assert call(nextcloud, auth("alice", "x"), X_Forwarded_For=HERE)[1]["error"]["code"] == "invalid_ticket"
    assert time.monotonic() - begun >= 0.4
    assert attempts(nextcloud, HERE)["attempts"] == 2
    assert nextcloud.occ("security:bruteforce:reset", HERE)[2] == 0
    assert attempts(nextcloud, HERE)["attempts"] == 0


def test_a_whole_subnet_is_delayed_and_only_the_very_address_is_reset(nextcloud):
    wrong(nextcloud, X_Forwarded_For="2001:db8::1")
    assert attempts(nextcloud, "2001:db8::2")["attempts"] == 1
    nextcloud.occ("security:bruteforce:reset", "2001:db8::2")
    assert attempts(nextcloud, "2001:db8::2")["attempts"] == 1


@pytest.mark.parametrize(
    ("count", "milliseconds"), [(0, 0), (1, 200), (7, 12800), (8, 25000), (10, 25000), (11, 25000)]
)
def test_delays(nextcloud, count, milliseconds):
    assert attempts(nextcloud, HERE)["attempts"] == 0
    for _time in range(count):
        register(nextcloud, HERE)
    assert attempts(nextcloud, HERE)["delay"] == milliseconds
    if count == 11:
        assert call(nextcloud, auth("alice", "x"), X_Forwarded_For=HERE)[0] == 429


def test_what_is_no_address_is_refused(nextcloud):
    out, err, code = nextcloud.occ("security:bruteforce:reset", "talk.example.org")
    assert code == 1 and "is not a valid IP address" in out + err


def test_a_worker_goes_on_with_the_configuration_that_it_has_read(nextcloud):
    nextcloud.set(config_cache=1)
    new = "1" * 64
    for _time in range(40):
        assert call(nextcloud, auth("alice", "x"))[1]["error"]["code"] == "invalid_ticket"
    stored = {"servers": [{"server": "https://hpb.example.org", "verify": True}], "secret": new}
    nextcloud.occ("config:app:set", "spreed", "signaling_servers", f"--value={json.dumps(stored)}")
    assert call(nextcloud, auth("alice", "x"))[1]["error"]["code"] == "invalid_ticket"
    time.sleep(1.1)
    assert call(nextcloud, auth("alice", "x"), secret=new)[1]["error"]["code"] == "invalid_ticket"


@pytest.mark.parametrize(
    ("status", "posts", "answers"), [(200, 3, (200, 200, 200)), (403, 3, (500, 400, 500)), (503, 9, (200, 200, 200))]
)
def test_a_refused_post_is_the_users_error_and_a_failing_server_is_not(web, status, posts, answers):
    browser = Browser(web, "alice", APP)
    token = browser.room()
    browser.ask("POST", f"{TALK}/v4/room/{token}/participants/active")
    web.posts.clear()
    web.handler.code = status
    new = browser.ask("POST", f"{TALK}/v4/room", {"roomType": 2, "roomName": "another"})[0]
    chat = browser.ask("POST", f"{TALK}/v1/chat/{token}", {"message": "hello"})[0]
    joined = browser.ask("POST", f"{TALK}/v4/call/{token}", {"flags": 7})[0]
    assert (new, chat, joined) == answers
    assert len(web.posts) == posts
