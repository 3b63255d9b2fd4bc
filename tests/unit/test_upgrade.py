# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The upgrade page: what runs against what the inventory asks for and what is newest."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.nextcloud_talk.hpb.plugins.filter.upgrade import upgrade
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _upgrade

COMMIT = "fd070e05a7474f38c7fecdf4d4b6005d2547ee00"
SITE = "ansible-playbook -i inventory nextcloud_talk.hpb.site"
DATA: dict[str, Any] = {
    "releases": [
        {
            "name": "2026.02",
            "proven": {"nextcloud": "34.0.1", "talk": "22"},
            "images": {
                "nats": "2.14.5-alpine3.22",
                "coturn": "4.17.0-r0",
                "signaling": "2.1.1",
                "traefik": "v3.7.13",
                "base": "trixie-slim",
            },
            "sources": {"libsrtp": "2.8.0", "usrsctp": COMMIT, "janus": "1.4.1"},
            "unverified": ["coturn"],
            "remarks": ["A remark."],
        },
        {
            "name": "2026.01",
            "images": {
                "nats": "2.12.15-alpine3.22",
                "coturn": "4.17.0-r0",
                "signaling": "2.0.4",
                "traefik": "v3.7.9",
                "base": "trixie-slim",
            },
            "sources": {"libsrtp": "2.7.0", "usrsctp": COMMIT, "janus": "1.4.1"},
            "unverified": [],
            "remarks": [],
        },
    ],
    "sources": {
        "libsrtp": {"2.8.0": "a" * 64, "2.7.0": "b" * 64},
        "usrsctp": {COMMIT: "c" * 64},
        "janus": {"1.4.1": "d" * 64},
    },
    "changes": {
        "signaling": {"2.0.3": "Old.", "2.1.0": "New.", "2.1.1": "Newer.", "3.0.0": "Future."},
        "traefik": {"v3.7.13": "Mended."},
    },
}
NEWEST = {
    "nats": "nats:2.14.5-alpine3.22",
    "coturn": "coturn/coturn:4.17.0-r0",
    "coturn443": "coturn/coturn:4.17.0-r0",
    "signalling": "strukturag/nextcloud-spreed-signaling:2.1.1",
    "traefik": "traefik:v3.7.13",
    "janus": "nextcloud-talk-hpb/janus:1.4.1-srtp2.8.0-sctpfd070e05-0123456789abcdef",
}
OLDER = {
    **NEWEST,
    "nats": "registry.example.org:5000/nats:2.12.15-alpine3.22",
    "signalling": "strukturag/nextcloud-spreed-signaling:2.0.4",
    "traefik": "traefik:v3.7.9",
    "janus": "nextcloud-talk-hpb/janus:1.4.1-srtp2.7.0-sctpfd070e05-0123456789abcdef",
}


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("nats:2.14.5", "2.14.5"),
        ("registry.example.org:5000/nats:2.14.5", "2.14.5"),
        ("registry.example.org:5000/nats", ""),
        ("nats@sha256:abcd", ""),
        ("sha256:abcd", ""),
        ("", ""),
    ],
)
def test_the_tag_of_an_image(image: str, expected: str) -> None:
    assert _upgrade.tag(image) == expected


def test_what_runs_is_read_from_the_images_and_else_from_what_was_deployed() -> None:
    assert _upgrade.running_versions(OLDER, {}) == {
        "signaling": "2.0.4",
        "coturn": "4.17.0-r0",
        "traefik": "v3.7.9",
        "nats": "2.12.15-alpine3.22",
        "janus": "1.4.1",
        "libsrtp": "2.7.0",
        "usrsctp": "fd070e05",
    }
    pinned = {"nats": "nats@sha256:abcd", "coturn": "coturn/coturn@sha256:abcd", "janus": "mine/janus:latest"}
    remembered = {"versions": {"nats": "2.12.15", "janus": "1.4.0", "libsrtp": "2.7.0", "usrsctp": COMMIT}}
    assert _upgrade.running_versions(pinned, remembered) == {
        "nats": "2.12.15",
        "coturn": "?",
        "janus": "1.4.0",
        "libsrtp": "2.7.0",
        "usrsctp": COMMIT,
    }


def test_the_words_are_those_of_the_versions_between() -> None:
    assert _upgrade.words(DATA["changes"], "signaling", "2.0.4", "2.1.1") == ["2.1.1: Newer.", "2.1.0: New."]
    assert _upgrade.words(DATA["changes"], "signaling", "2.1.1", "2.0.4") == []
    assert _upgrade.words(DATA["changes"], "signaling", "?", "2.1.1") == []
    assert _upgrade.words(DATA["changes"], "signaling", "6046e47ad1be4dc3a7c1d1c5b2d7c7e0d6a5f3b2", "2.1.1") == []
    assert _upgrade.words(DATA["changes"], "nats", "2.12.15", "2.14.5") == []


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        ({}, []),
        ({"nats": "nats:2.12.15"}, ["NATS"]),
        ({"traefik": "traefik:v3.7.9"}, ["Traefik"]),
        ({"signalling": "s:2.0.4"}, ["signaling server"]),
        ({"coturn": "c:4.13.1-r0"}, ["coturn"]),
        ({"janus": OLDER["janus"]}, ["Janus"]),
        (OLDER, ["Janus", "signaling server", "Traefik", "NATS"]),
    ],
)
def test_each_program_has_its_price(images: dict, expected: list) -> None:
    rows = _upgrade.compare(DATA, "", {}, {**NEWEST, **images}, {})["rows"]
    lines = _upgrade.interrupted(rows, "newest")
    assert [line.partition(":")[0] for line in lines] == expected
    assert all(line == f"{name}: {_upgrade.INTERRUPTS[name]}" for name, line in zip(expected, lines))


@pytest.mark.parametrize(
    ("name", "variables", "images", "expected"),
    [
        ("", {}, NEWEST, ["Nothing: everything that runs is the newest in this collection."]),
        ("", {}, {}, [f"Nothing of the backend runs there. This deploys release 2026.02: {SITE}"]),
        (
            "",
            {},
            OLDER,
            [f"See what would be done: {SITE} --check --diff", f"Do it, and prove it with calls: {SITE}"],
        ),
        (
            "2026.01",
            {},
            OLDER,
            [
                "Your inventory asks for release 2026.01: remove hpb_release, or set it to '2026.02'.",
                f"See what would be done: {SITE} --check --diff",
                f"Do it, and prove it with calls: {SITE}",
            ],
        ),
        (
            "",
            {"nats_version": "2.12.15-alpine3.22", "signalling_version": "2.0.4"},
            OLDER,
            [
                "Your inventory pins nats_version, signalling_version: remove what you pinned, or set it to the "
                "newest.",
                f"See what would be done: {SITE} --check --diff",
                f"Do it, and prove it with calls: {SITE}",
            ],
        ),
    ],
)
def test_it_says_what_to_do(name: str, variables: dict, images: dict, expected: list) -> None:
    assert _upgrade.steps(_upgrade.compare(DATA, name, variables, images, {}), SITE) == expected


def test_the_page_for_the_terminal() -> None:
    found = _upgrade.compare(DATA, "2026.01", {"traefik_version": "v3.7.13"}, OLDER, {"release": "2026.01"})
    assert found["release"] == "2026.01"
    assert _upgrade.text(found, "talk.example.org", SITE) == [
        "part       runs (2026.01)      your inventory      newest (2026.02)",
        "signaling  2.0.4               2.0.4               2.1.1",
        "janus      1.4.1               1.4.1               1.4.1",
        "libsrtp    2.7.0               2.7.0               2.8.0",
        "usrsctp    fd070e05            fd070e05            fd070e05",
        "coturn     4.17.0-r0           4.17.0-r0           4.17.0-r0",
        "traefik    v3.7.9              v3.7.13             v3.7.13",
        "nats       2.12.15-alpine3.22  2.12.15-alpine3.22  2.14.5-alpine3.22",
        "",
        "What the newest interrupts:",
        *(f"  {name}: {_upgrade.INTERRUPTS[name]}" for name in ("Janus", "signaling server", "Traefik", "NATS")),
        "",
        "What changed since yours:",
        "  signaling 2.1.1: Newer.",
        "  signaling 2.1.0: New.",
        "  traefik v3.7.13: Mended.",
        "",
        "What is known of the newest:",
        "  Release 2026.02: Tried with Nextcloud 34.0.1 and Talk 22.",
        "  No test has run these very versions, but others of the same programs: coturn.",
        "  A remark.",
        "",
        "What to do for talk.example.org:",
        "  Your inventory asks for release 2026.01: remove hpb_release, or set it to '2026.02'.",
        "  Your inventory pins traefik_version: remove what you pinned, or set it to the newest.",
        f"  See what would be done: {SITE} --check --diff",
        f"  Do it, and prove it with calls: {SITE}",
    ]


def test_the_way_back_is_shown_too() -> None:
    found = _upgrade.compare(DATA, "2026.01", {}, NEWEST, {})
    lines = _upgrade.text(found, "talk.example.org", SITE)
    start = lines.index("What site would do with your inventory as it is:")
    assert "  signaling 2.1.1 -> 2.0.4" in lines[start:]
    assert f"  signaling server: {_upgrade.INTERRUPTS['signaling server']}" in lines[start:]
    assert lines[lines.index("What the newest interrupts:") + 1] == "  nothing"


def test_the_page_as_a_file() -> None:
    hostile = {**OLDER, "signalling": "s:2.0.4|<b>*x*"}
    page = _upgrade.markdown(_upgrade.compare(DATA, "", {}, hostile, {}), "talk.example.org", SITE)
    assert page.startswith(
        "# Upgrade of talk.example.org\n\n| part | runs | your inventory | newest (2026.02) | changes |\n"
    )
    assert "| signaling | 2.0.4\\|\\<b\\>\\*x\\* | 2.1.1 | 2.1.1 | yes |\n" in page
    assert "| coturn | 4.17.0-r0 | 4.17.0-r0 | 4.17.0-r0 |  |\n" in page
    assert "## What the newest interrupts\n\n- Janus: ends the media of all calls" in page
    assert page.endswith(f"- Do it, and prove it with calls: {SITE.replace('_', chr(92) + '_')}\n")


def test_the_filter_has_the_real_releases() -> None:
    found = upgrade("", {}, running=OLDER, host="talk.example.org", site=SITE)
    assert found["text"][0].endswith(f"newest ({found['newest']})")
    assert found["interrupts"] and found["markdown"]
    with pytest.raises(AnsibleFilterError, match="hpb_release is '1', which this collection does not know"):
        upgrade("1", {}, running={}, host="h", site=SITE)
