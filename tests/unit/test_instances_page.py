# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of all instances: verdicts, the table, and what a run that learns little takes over from it."""

from __future__ import annotations

import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.filter.instances_page import instances_page
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _instances_page

DAY = "2026-11-24"


def step(instance, name, status, label=""):
    return {"instance": instance, "step": name, "status": status, "name": label or name}


SERVER = [step("all", "welcome", "ok"), step("all", "closed", "ok")]
GOOD = [*SERVER, step("nc", "request", "ok"), step("nc", "hello", "ok"), step("nc", "direct", "ok")]


@pytest.mark.parametrize(
    ("results", "check_ok", "expected"),
    [
        (GOOD, True, "ok, 2026-11-24"),
        (GOOD, False, "failed, 2026-11-24: Talk's own check"),
        ([*GOOD, step("nc", "turn-udp", "failed", "TURN udp")], True, "failed, 2026-11-24: TURN udp"),
        ([*GOOD, step("nc", "turn-udp", "warning", "TURN udp")], True, "ok, 2026-11-24"),
        ([*GOOD, step("dev", "direct", "failed")], True, "ok, 2026-11-24"),
        (
            [step("all", "welcome", "failed", "signaling server"), step("nc", "direct", "skipped")],
            True,
            "failed, 2026-11-24: signaling server",
        ),
        (
            [*SERVER, step("nc", "hello", "warning", "way to the Nextcloud"), step("nc", "direct", "ok")],
            True,
            "not checked, 2026-11-24: way to the Nextcloud",
        ),
        (SERVER, True, "not checked, 2026-11-24"),
    ],
)
def test_the_verdict_of_an_instance(results, check_ok, expected):
    assert _instances_page.verdict("nc", results, check_ok, DAY) == expected


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("nats:2.12-alpine", "2.12-alpine"),
        ("registry.example.org:5000/coturn/coturn:4.17.1", "4.17.1"),
        ("registry.example.org:5000/coturn/coturn", "?"),
        (f"traefik@sha256:{'0a1b' * 16}", "sha256:0a1b0a1b0a1b"),
        (f"sha256:{'0a1b' * 16}", "sha256:0a1b0a1b0a1b"),
    ],
)
def test_the_version_in_an_image(image, expected):
    assert _instances_page.version_of(image) == expected


def instance(name, **given):
    url = f"https://{name}.example.org"
    values = {"id": name, "url": url, "urls": [url], "session_limit": 0, "register": True}
    return {**values, "stream_bitrate": None, "screen_bitrate": None, **given}


INSTANCES = [
    instance("nc", session_limit=15, stream_bitrate=2097152, urls=["https://nc.example.org", "https://x.example.org"]),
    instance("client", register=False, screen_bitrate=4000000),
]
SEEN = {
    "nc": {"place": "/srv/a|b/occ on web", "nextcloud": "34.0.1.2", "talk": "22.0.4", "check_ok": True},
    "client": {},
}
RESULTS = [*GOOD, step("client", "hello", "warning", "way to the Nextcloud")]
IMAGES = {"nats": "nats:2.12-alpine", "signalling": "signaling:2.1.1"}
PAGE = """# Nextcloud instances of the Talk backend

Written by the verification; changes by hand are lost.

| instance | address | registered | sessions | camera | screen | Nextcloud | Talk | last verification |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
| nc | https://nc.example.org https://x.example.org | /srv/a\\|b/occ on web | 15 | 2.1 Mbit/s | server's limit | \
34.0.1.2 | 22.0.4 | ok, 2026-11-24 |
| client | https://client.example.org | by its admin (handover page) | no limit | server's limit | 4 Mbit/s | \
? | ? | not checked, 2026-11-24: way to the Nextcloud |

## Programs

| program | version |
| --- | --- |
| nats | 2.12-alpine |
| signalling | 2.1.1 |
"""


def test_the_page():
    assert instances_page(INSTANCES, SEEN, day=DAY, results=RESULTS, images=IMAGES, version="2.1.1") == PAGE


def test_the_same_run_on_the_same_day_changes_nothing():
    again = instances_page(INSTANCES, SEEN, day=DAY, results=RESULTS, images=IMAGES, version="2.1.1", before=PAGE)
    assert again == PAGE


def test_a_run_that_learns_nothing_leaves_the_page_as_it_is():
    assert instances_page(INSTANCES, {}, day="2027-01-01", before=PAGE) == PAGE


def test_a_narrowed_run_leaves_the_others_alone():
    failed = [*SERVER, step("nc", "direct", "failed", "direct call")]
    page = instances_page(INSTANCES, {"nc": {"talk": "23.0.0"}}, day="2027-01-01", results=failed, before=PAGE)
    expected = PAGE.replace("ok, 2026-11-24", "failed, 2027-01-01: direct call").replace("22.0.4", "23.0.0")
    assert page == expected
    assert "not checked, 2026-11-24: way to the Nextcloud" in page


def test_what_is_no_longer_in_the_inventory_goes_and_what_is_new_was_not_checked():
    page = instances_page([INSTANCES[0], instance("new")], {}, day=DAY, before=PAGE)
    assert "client" not in page
    assert (
        "| new | https://new.example.org | ? | no limit | server's limit | server's limit | ? | ? | not checked |"
        in page
    )


@pytest.mark.parametrize("text", ["", "# something else\n\n| a | b |\n|---|---|\n| c | d |\n", "| x"])
def test_another_text_says_nothing(text):
    assert _instances_page.rows_of(text) == {}
    assert "| nc |" in instances_page(INSTANCES, {}, day=DAY, before=text)
