# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""URLs that the Nextclouds name: which instance gets which, and what is said about the others."""

from __future__ import annotations

import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.filter.further_urls import FilterModule
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._backends import order

further_urls = FilterModule().filters()["further_urls"]

A, B, WWW, ALIAS = (f"https://{name}.example.org" for name in ("a", "b", "www", "alias"))


def instance(name, *urls, wants=True, state="present"):
    urls = list(urls) or [f"https://{name}.example.org"]
    return {"id": name, "url": urls[0], "urls": urls, "state": state, "urls_from_nextcloud": wants, "session_limit": 5}


def found(name, *urls, cli=None, mend=False):
    return {"id": name, "urls": list(urls), "cli_url": cli or f"https://{name}.example.org", "mend": mend}


def warned(name, url, reason):
    return (
        f"The Nextcloud of the instance {name} was found at {url} too, but that {reason}, so it is not "
        f"taken: remove it from that Nextcloud's trusted domains, or add it to talk_urls of {name}."
    )


def refused(name, url, reason):
    return (
        f"Instance {name}: its overwrite.cli.url is {url}, which {reason}, and the signaling server refuses "
        f"what Talk sends from cron; set it with 'occ config:system:set overwrite.cli.url "
        f"--value=https://{name}.example.org', or set talk_mend: true for it."
    )


CASES = [
    ("nothing is found", [instance("a")], [], {}, [[A]], [], []),
    ("its own is no further one", [instance("a")], [found("a", A)], {}, [[A]], [], []),
    ("each further one once", [instance("a")], [found("a", A, WWW, WWW, ALIAS)], {}, [[A, WWW, ALIAS]], [], []),
    ("nobody asked for it", [instance("a", wants=False)], [found("a", WWW)], {}, [[A]], [], []),
    ("it leaves", [instance("a", state="absent")], [found("a", WWW)], {}, [[A]], [], []),
    ("the url for cron", [instance("a")], [found("a", WWW, cli=f"{WWW}/")], {}, [[A, WWW]], [], []),
    (
        "another one has it",
        [instance("a"), instance("b", wants=False)],
        [found("a", B, WWW)],
        {},
        [[A, WWW], [B]],
        [warned("a", B, "belongs to the instance b")],
        [],
    ),
    (
        "another one has it, though it leaves",
        [instance("a"), instance("b", wants=False, state="absent")],
        [found("a", B)],
        {},
        [[A], [B]],
        [warned("a", B, "belongs to the instance b")],
        [],
    ),
    (
        "above another one",
        [instance("a"), instance("b", f"{WWW}/club", wants=False)],
        [found("a", WWW)],
        {},
        [[A], [f"{WWW}/club"]],
        [warned("a", WWW, f"overlaps {WWW}/club of the instance b")],
        [],
    ),
    (
        "below another one",
        [instance("a"), instance("b", wants=False)],
        [found("a", f"{B}/club")],
        {},
        [[A], [B]],
        [warned("a", f"{B}/club", f"overlaps {B} of the instance b")],
        [],
    ),
    (
        "two find the same: nobody gets it",
        [instance("a"), instance("b")],
        [found("a", WWW), found("b", WWW)],
        {},
        [[A], [B]],
        [warned("a", WWW, "belongs to the instance b"), warned("b", WWW, "belongs to the instance a")],
        [],
    ),
    (
        "below its own is fine",
        [instance("a", WWW)],
        [found("a", f"{WWW}/cloud")],
        {},
        [[WWW, f"{WWW}/cloud"]],
        [],
        [],
    ),
    (
        "the url for cron is another one's",
        [instance("a"), instance("b", wants=False)],
        [found("a", B, cli="https://B.example.org/")],
        {},
        [[A], [B]],
        [],
        [refused("a", B, "belongs to the instance b")],
    ),
    (
        "the url for cron is another one's and will be mended",
        [instance("a"), instance("b", wants=False)],
        [found("a", B, cli=B, mend=True)],
        {},
        [[A], [B]],
        [warned("a", B, "belongs to the instance b")],
        [],
    ),
    (
        "outside of a narrowed run",
        [instance("a")],
        [found("a", B, WWW, ALIAS)],
        {
            "known": [instance("a"), instance("b", wants=False)],
            "deployed": [{"id": "b", "url": B, "urls": [B, WWW]}, {"id": "old", "url": ALIAS}],
        },
        [[A, ALIAS]],
        [warned("a", B, "belongs to the instance b"), warned("a", WWW, "belongs to the instance b")],
        [],
    ),
    (
        "not asked: as it is deployed",
        [instance("a"), instance("b", wants=False)],
        [],
        {"deployed": [{"id": "a", "url": A, "urls": [A, WWW]}, {"id": "b", "url": B, "urls": [B, ALIAS]}]},
        [[A, WWW], [B]],
        [],
        [],
    ),
    (
        "asked: not as it is deployed",
        [instance("a")],
        [found("a", ALIAS)],
        {"deployed": [{"id": "a", "url": A, "urls": [A, WWW]}]},
        [[A, ALIAS]],
        [],
        [],
    ),
    (
        "an old signaling server",
        [instance("a")],
        [found("a", WWW, ALIAS, cli=ALIAS)],
        {"several": False},
        [[A]],
        [
            f"talk_urls_from_nextcloud is set for a, whose Nextcloud was found at {WWW}, {ALIAS} too, but the "
            "signaling server knows one URL for each instance: use 2.0.4 or newer, or remove the variable."
        ],
        [refused("a", ALIAS, "would be its second URL")],
    ),
    ("an old one, nothing found", [instance("a")], [found("a", A)], {"several": False}, [[A]], [], []),
]


@pytest.mark.parametrize(
    ("instances", "answers", "options", "urls", "warnings", "problems"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_further_urls(instances, answers, options, urls, warnings, problems):
    result = further_urls(instances, answers, **options)
    assert [entry["urls"] for entry in result["instances"]] == urls
    assert result["warnings"] == warnings
    assert result["problems"] == problems
    assert [{**entry, "urls": []} for entry in result["instances"]] == [{**entry, "urls": []} for entry in instances]
    assert order(result["instances"])[1] == []
