# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases: the file is in its form, and an inventory's pins override it."""

from __future__ import annotations

import datetime
import re
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.nextcloud_talk.hpb.plugins.filter.release import release
from ansible_collections.nextcloud_talk.hpb.plugins.filter.source_checksum import source_checksum
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _release
from ansible_collections.nextcloud_talk.hpb.plugins.plugin_utils import _releases

FILE = _releases.load()
SHA = "ab" * 32
OTHER = "cd" * 32
COMMIT = "6046e47ad1be4dc3a7c1d1c5b2d7c7e0d6a5f3b2"

DATA: dict[str, Any] = {
    "releases": [
        {
            "name": "2026.02",
            "images": {"nats": "2.2-alpine", "coturn": "4.2-r0", "signaling": "2.2.0", "traefik": "v3.2", "base": "b"},
            "sources": {"libsrtp": "2.2", "usrsctp": "ffff0000", "janus": "1.2.0"},
        },
        {
            "name": "2026.01",
            "images": {"nats": "2.1-alpine", "coturn": "4.1-r0", "signaling": "2.1.0", "traefik": "v3.1", "base": "b"},
            "sources": {"libsrtp": "2.1", "usrsctp": "eeee0000", "janus": "1.1.0"},
        },
    ],
    "sources": {
        "libsrtp": {"2.2": SHA, "2.1": SHA},
        "usrsctp": {"ffff0000": SHA, "eeee0000": SHA},
        "janus": {"1.2.0": SHA, "1.1.0": SHA, "1.0.0": SHA},
    },
}
UNKNOWN = (
    "hpb_release is '2020.01', which this collection does not know, expected one of 2026.02, 2026.01: correct it, or "
    "remove it to have the newest."
)


def test_the_file_has_its_form() -> None:
    assert set(FILE) == {"releases", "sources", "changes"}
    assert len(FILE["releases"]) >= 2
    dates = [datetime.date.fromisoformat(one["date"]) for one in FILE["releases"]]
    assert dates == sorted(dates, reverse=True)
    assert len(set(_release.names(FILE))) == len(dates)
    allowed = {"name", "date", "proven", "images", "sources", "unverified", "remarks"}
    for one, date in zip(FILE["releases"], dates):
        assert set(one) - {"proven"} == allowed - {"proven"}, one["name"]
        assert one["name"] == f"{date:%Y.%m}"
        assert set(one.get("proven", {"nextcloud": "", "talk": ""})) == {"nextcloud", "talk"}
        assert set(one["images"]) | set(one["sources"]) == set(_release.PARTS)
        assert set(one["unverified"]) <= set(_release.PARTS)
        assert all(isinstance(text, str) and text.endswith(".") for text in one["remarks"])
        assert all(isinstance(value, str) for value in {**one["images"], **one["sources"]}.values()), one["name"]
        for source, version in one["sources"].items():
            assert _release.checksum(FILE, source, version), f"{one['name']}: {source} {version}"
    for source, known in FILE["sources"].items():
        assert source in _release.SOURCES
        assert all(isinstance(version, str) and _release.SHA256.fullmatch(value) for version, value in known.items())
    for part, texts in FILE["changes"].items():
        assert part in _release.PARTS
        assert all(isinstance(version, str) and text.endswith(".") for version, text in texts.items())


def test_what_nobody_pulled_is_marked() -> None:
    """The test bed has other tags, so no release may claim more of the images."""
    for one in FILE["releases"]:
        assert {"nats", "coturn", "signaling", "traefik"} <= set(one["unverified"]), one["name"]


@pytest.mark.parametrize(
    ("name", "part", "expected"),
    [("", "janus", "1.2.0"), ("2026.02", "nats", "2.2-alpine"), ("2026.01", "usrsctp", "eeee0000")],
)
def test_a_release_has_a_version_of_each_part(name: str, part: str, expected: str) -> None:
    assert _release.versions(DATA, name)[part] == expected


def test_an_unknown_release_is_refused_with_the_known_ones() -> None:
    with pytest.raises(_release.ReleaseError, match=re.escape(UNKNOWN)):
        _release.versions(DATA, "2020.01")
    assert _release.problems(DATA, "2020.01", {}) == [UNKNOWN]
    with pytest.raises(AnsibleFilterError, match="hpb_release is '2020.01', which this collection does not know"):
        release("2020.01", "janus")
    with pytest.raises(AnsibleFilterError, match="There is no part 'redis', expected one of nats, coturn, signaling, "):
        release("", "redis")
    with pytest.raises(AnsibleFilterError, match="There is no source 'nats', expected one of libsrtp, usrsctp, janus"):
        source_checksum("1", "nats")


@pytest.mark.parametrize(
    ("variables", "changed", "pinned"),
    [
        ({}, {}, []),
        ({"coturn_version": "4.2-r0"}, {}, []),
        ({"coturn_version": "4.9-r0", "other": "1"}, {"coturn": "4.9-r0"}, ["coturn_version"]),
        ({"hpb_signaling_version": "2.0"}, {"signaling": "2.0"}, ["hpb_signaling_version"]),
        (
            {"hpb_signaling_version": "2.0", "signalling_version": "3.0"},
            {"signaling": "3.0"},
            ["signalling_version"],
        ),
        ({"janus_version": "1.0.0"}, {"janus": "1.0.0"}, ["janus_version"]),
        ({"janus_base_image": "debian@sha256:1"}, {"base": "debian@sha256:1"}, ["janus_base_image"]),
    ],
)
def test_pins_override_the_release(variables: dict, changed: dict, pinned: list) -> None:
    found = _release.pins(DATA, "", variables)
    assert found["release"] == "2026.02"
    assert found["versions"] == {**_release.versions(DATA), **changed}
    assert found["pinned"] == pinned
    assert _release.problems(DATA, "", variables) == []


def test_checksums_follow_the_version_and_digests_are_kept() -> None:
    plain = _release.pins(DATA, "", {})
    assert plain["checksums"] == {"libsrtp": SHA, "usrsctp": SHA, "janus": SHA}
    assert plain["digests"] == {}
    own = _release.pins(DATA, "2026.01", {"janus_version": "9.9", "janus_sha256": OTHER, "nats_digest": "sha256:1"})
    assert own["checksums"]["janus"] == OTHER
    assert own["digests"] == {"nats": "sha256:1"}
    assert own["pinned"] == ["janus_sha256", "janus_version", "nats_digest"]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (
            {"janus_version": "9.9"},
            "janus_version is 9.9, of which this collection knows no checksum, expected janus_sha256 beside it: set it "
            "to the sha256 of that archive, or remove janus_version to have 1.2.0.",
        ),
        (
            {"janus_libsrtp_version": "3.0"},
            "janus_libsrtp_version is 3.0, of which this collection knows no checksum, expected janus_libsrtp_sha256 "
            "beside it: set it to the sha256 of that archive, or remove janus_libsrtp_version to have 2.2.",
        ),
        (
            {"janus_usrsctp_version": "aaaa0000", "janus_usrsctp_sha256": "sha256:abc"},
            "janus_usrsctp_sha256 is 'sha256:abc', expected a sha256, 64 characters of 0-9 and a-f: correct it, or "
            "remove it together with janus_usrsctp_version.",
        ),
    ],
)
def test_a_version_without_its_checksum_is_refused(variables: dict, expected: str) -> None:
    assert _release.problems(DATA, "", variables) == [expected]
    assert _release.problems(DATA, "", {**variables, **{_sha_of(variables): SHA}}) == []


def _sha_of(variables: dict) -> str:
    return next(name for name in variables if name.endswith("_version")).replace("_version", "_sha256")


@pytest.mark.parametrize(
    ("variable", "value", "release"),
    [
        ("nats_version", "latest", "2.2-alpine"),
        ("nats_version", "alpine", "2.2-alpine"),
        ("coturn_version", "edge-alpine", "4.2-r0"),
        ("coturn_version", "", "4.2-r0"),
        ("coturn_version", None, "4.2-r0"),
        ("traefik_version", "v", "v3.2"),
        ("traefik_version", True, "v3.2"),
        ("hpb_signaling_version", "latest", "2.2.0"),
        ("hpb_signaling_version", "master", "2.2.0"),
        ("hpb_signaling_version", COMMIT, "2.2.0"),
        ("hpb_signaling_version", "20261130", "2.2.0"),
        ("hpb_signaling_version", ">=2.1", "2.2.0"),
        ("hpb_signaling_version", " 2.1.1", "2.2.0"),
        ("hpb_signaling_version", "2.1.1~docker", "2.2.0"),
        ("hpb_signaling_version", ["2.1.1"], "2.2.0"),
        ("signalling_version", "latest", "2.2.0"),
    ],
)
def test_what_is_no_version_of_an_image_is_refused(variable: str, value: Any, release: str) -> None:
    said = "" if value is None else value
    assert _release.problems(DATA, "", {variable: value}) == [
        f"{variable} is '{said}', which is no version number, expected one such as {release}, as the image has it in "
        f"its tag: correct it, or remove it to have {release}."
    ]


@pytest.mark.parametrize(
    ("variable", "value", "release"),
    [
        ("janus_version", "master", "1.2.0"),
        ("janus_version", "latest", "1.2.0"),
        ("janus_libsrtp_version", "", "2.2"),
        ("janus_usrsctp_version", "main", "ffff0000"),
    ],
)
def test_what_is_no_version_of_a_source_is_refused(variable: str, value: Any, release: str) -> None:
    sha256 = variable.replace("_version", "_sha256")
    assert _release.problems(DATA, "", {variable: value, sha256: SHA}) == [
        f"{variable} is '{value}', which is no version number, expected one such as {release} or the hash of a commit: "
        f"correct it, or remove it to have {release}."
    ]


@pytest.mark.parametrize(
    "variables",
    [
        {"traefik_version": "v3.7.15"},
        {"traefik_version": "v3"},
        {"nats_version": "2.15.1-alpine3.22"},
        {"nats_version": 2.15},
        {"nats_version": 2},
        {"coturn_version": "4.18.0-r0"},
        {"coturn_version": f"4.18.0-r0@sha256:{SHA}"},
        {"coturn_version": "4.18.0-r0", "coturn_digest": f"sha256:{SHA}"},
        {"hpb_signaling_version": "2.2.0-rc.1", "signalling_digest": ""},
        {"janus_version": COMMIT, "janus_sha256": SHA},
    ],
)
def test_versions_as_upstream_spells_them_are_taken(variables: dict) -> None:
    assert _release.problems(DATA, "", variables) == []


@pytest.mark.parametrize("digest", ["nats_digest", "coturn_digest", "signalling_digest", "traefik_digest"])
def test_a_digest_that_is_none_is_refused(digest: str) -> None:
    assert _release.problems(DATA, "", {digest: "latest"}) == [
        f"{digest} is 'latest', expected sha256: and 64 characters of 0-9 and a-f, the digest of the image: correct "
        "it, or remove it."
    ]


def test_janus_is_not_made_to_send_events_that_are_refused() -> None:
    old = {"hpb_signaling_version": "2.0.4", "janus_events": "yes"}
    assert _release.problems(DATA, "", old) == [
        "janus_events is true, but the signaling server 2.0.4 refuses Janus' events, expected 2.1.0 or newer: remove "
        "janus_events, or raise hpb_signaling_version."
    ]
    assert _release.problems(DATA, "", {**old, "janus_events": False}) == []
    assert _release.problems(DATA, "", {**old, "signalling_version": "2.1.0"}) == []
