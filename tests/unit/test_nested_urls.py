# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two Nextclouds on one name: which order the signaling server must be started with."""

from __future__ import annotations

import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.filter.nested_urls import nested_urls
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _backends

A, B, C = "https://example.org", "https://example.org/two", "https://example.org/two/three"


@pytest.mark.parametrize(
    ("urls", "expected"),
    [
        ({}, []),
        ({"a": [A]}, []),
        ({"a": [A], "b": ["https://other.example.org"]}, []),
        ({"a": ["https://example.org/one"], "b": [B]}, []),
        ({"a": ["https://example.org/twofold"], "b": [B]}, []),
        # Those of one instance have the same secret, whichever is found first.
        ({"a": [A, B]}, []),
        ({"b": [B], "a": [A]}, [B, A]),
        ({"c": [C], "b": [B], "x": ["https://x.example.org"], "a": [A]}, [C, B, A]),
        ({"b": ["https://x.example.org", B], "a": [A]}, [B, A]),
    ],
)
def test_only_those_below_each_other(urls, expected):
    assert nested_urls([{"id": name, "urls": found} for name, found in urls.items()]) == expected


def test_the_longer_path_comes_first_whatever_the_inventory_says():
    groups = {"hpb": ["hpb"], "nextcloud": ["a", "b", "c"], "one": ["a"], "two": ["b"], "three": ["c"]}
    hostvars = {"hpb": {}, "a": {"talk_url": A}, "b": {"talk_url": B}, "c": {"talk_url": C}}
    found = _backends.backends(groups, hostvars)
    assert nested_urls(found) == [C, B, A]
