# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Versions: what their numbers are, which is newer, and that nothing else compares them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.filter.at_least import at_least
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _versions

ROOT = Path(__file__).resolve().parents[2]
COMMIT = "6046e47ad1be4dc3a7c1d1c5b2d7c7e0d6a5f3b2"
OTHER = "f6047ad1be4dc3a7c1d1c5b2d7c7e0d6a5f3b26e"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # The signaling server, Traefik, NATS, coturn, Janus, usrsctp.
        ("2.1.1", (2, 1, 1)),
        ("v2.0.4~docker", (2, 0, 4)),
        ("v2.1.1-7-g6046e47-dirty", (2, 1, 1)),
        ("v3.7.15", (3, 7, 15)),
        ("2.15.1-alpine3.22", (2, 15, 1)),
        ("4.18.0-r0", (4, 18, 0)),
        (f"4.18.0-r0@sha256:{'ab' * 32}", (4, 18, 0)),
        ("0.9.5.0", (0, 9, 5, 0)),
        # Nextcloud and Talk.
        ("34.0.1", (34, 0, 1)),
        ("31.0.6.2", (31, 0, 6, 2)),
        ("28.0.0-rc.1", (28, 0, 0)),
        (" 22.0.0-dev.1", (22, 0, 0)),
        ("13.0.0beta2", (13, 0, 0)),
        # Docker's engine.
        ("20.10.24+dfsg1", (20, 10, 24)),
        ("29.0.0~ce", (29, 0, 0)),
        ("19.03.13-ce", (19, 3, 13)),
        ("27.5.1-0ubuntu3~24.04.2", (27, 5, 1)),
        # Tags that move.
        ("2", (2,)),
        ("v3", (3,)),
        ("2-alpine", (2,)),
        ("2.1", (2, 1)),
        # None at all: commits, whatever they begin with, dates, words.
        (COMMIT, ()),
        (f"{COMMIT}~docker", ()),
        (OTHER, ()),
        ("604", (604,)),
        ("6046", ()),
        ("6046471", ()),
        ("604e471", ()),
        ("20261130", ()),
        ("unknown", ()),
        ("latest", ()),
        ("alpine3.22", ()),
        ("?", ()),
        ("v", ()),
        ("", ()),
    ],
)
def test_the_numbers_of_a_version(text: str, expected: tuple[int, ...]) -> None:
    assert _versions.numbers(text) == expected


@pytest.mark.parametrize(
    ("version", "wanted", "expected"),
    [
        ("2.1.0", "2.1.0", True),
        ("2.1", "2.1.0", True),
        ("31.0.0.0", "31.0", True),
        ("2.0.10", "2.0.4", True),
        ("2.0.3~docker", "2.0.4", False),
        ("2", "2.0.4", False),
        ("10.0", "9.9.9", True),
        ("v3.7.15", "3.7.12", True),
        ("v3.7.9", "3.7.12", False),
        ("4.18.0-r1", "4.18.0-r0", True),
        ("4.18.0-r0", "4.18.0-r1", False),
        ("4.18.0-r10", "4.18.0-r9", True),
        ("2.15.1-rc2", "2.15.1", True),
        ("20.10.24+dfsg1", "25", False),
        ("29.0.0~ce", "25", True),
        ("25.0.0-rc.1", "25", True),
        ("28.0.0-rc.1", "28", True),
        (COMMIT, "2.1.0", False),
        (OTHER, "2.1.0", False),
        ("60464712345", "2.1.0", False),
        ("latest", "2.1.0", False),
        ("", "25", False),
        ("2.1.0", COMMIT, False),
        # As YAML reads them.
        (2.1, "2.1.0", True),
        (25, 25, True),
        (None, "25", False),
    ],
)
def test_which_is_newer(version: Any, wanted: Any, expected: bool) -> None:
    assert at_least(version, wanted) is expected


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("2.1.1~docker", "2.1.1~docker"),
        (f"{COMMIT}~docker", "(unknown version 6046e47ad1be)"),
        ("unknown~docker", "(unknown version)"),
        ("", "(unknown version)"),
    ],
)
def test_how_a_version_is_said(version: str, expected: str) -> None:
    assert _versions.named(version) == expected


def test_nothing_else_compares_versions() -> None:
    """Ansible's own test ends a run with a sentence about types when a version has no numbers."""
    files = [*ROOT.glob("roles/**/*.yml"), *ROOT.glob("roles/**/*.j2"), *ROOT.glob("playbooks/*.yml")]
    found = [str(path) for path in files if re.search(r"\bis (not )?version\b", path.read_text(encoding="utf-8"))]
    assert len(files) > 100 and not found
    modules = [path for path in ROOT.glob("plugins/**/*.py") if path.name != "_versions.py"]
    own = re.compile(r"version\w*\.(split|partition)\(|(Loose|Strict)Version|packaging|v\?\((\\d|\[0-9\])")
    assert [str(path) for path in modules if own.search(path.read_text(encoding="utf-8"))] == []
