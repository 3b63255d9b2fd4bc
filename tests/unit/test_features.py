# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a release of Talk needs of the signaling server: the table, and the sentences that follow from it."""

from __future__ import annotations

import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _features

OLD = ["audio-video-permissions", "dialout", "hello-v2", "incall-all", "switchto", "mcu", "simulcast", "update-sdp"]
FEDERATED = [*OLD, "federation"]
JOINING = [*FEDERATED, "join-features", "offer-codecs", "recipient-call"]
COMMIT = "6046e47ad1be4dc3a7c1d1c5b2d7c7e0d6a5f3b2~docker"
NEWEST = [*JOINING, "chat-relay", "serverinfo", "transient-sessiondata"]


@pytest.mark.parametrize(
    ("talk", "features", "required", "optional"),
    [
        ("14.0.0", [], [], []),
        ("15.0.8", [], ["audio-video-permissions", "incall-all", "hello-v2"], []),
        ("16.0.0", ["audio-video-permissions", "incall-all", "hello-v2"], ["switchto"], []),
        ("18.0.0", ["audio-video-permissions", "incall-all", "hello-v2", "switchto"], [], ["dialout"]),
        ("19.0.0", OLD, [], []),
        ("20.0.0", OLD, ["federation"], []),
        ("20.1.9", FEDERATED, [], []),
        ("21.1.0", FEDERATED, [], ["join-features"]),
        ("22.0.0", JOINING, [], []),
        ("23.0.0", JOINING, [], ["chat-relay"]),
        ("24.0.3", NEWEST, [], ["changed-users"]),
        # Newer than the table, and without a number: what the newest needs.
        ("31.0.0", JOINING, [], ["chat-relay", "changed-users"]),
        ("main", OLD, ["federation"], ["join-features", "chat-relay", "changed-users"]),
    ],
)
def test_what_is_missing(talk, features, required, optional):
    assert _features.missing(talk, features) == (required, optional)


def test_nothing_to_say():
    assert _features.explain("22.0.4", "2.1.1", NEWEST) == ([], [])


def test_features_that_come_and_go_with_janus_do_not_matter():
    without = [name for name in JOINING if name not in ("mcu", "simulcast", "update-sdp")]
    assert _features.explain("22.0.4", "2.1.1", without) == ([], [])


@pytest.mark.parametrize(
    ("talk", "server", "features", "sentences"),
    [
        (
            "21.1.0",
            "1.2.4",
            OLD,
            [
                "Talk 21.1.0 refuses the signaling server 1.2.4, which lacks federation (calls between Nextclouds). "
                "Set hpb_signaling_version to 2.0.0 or newer, and deploy again."
            ],
        ),
        (
            "20.0.0",
            "0.4.1",
            ["audio-video-permissions", "incall-all", "hello-v2"],
            [
                "Talk 20.0.0 refuses the signaling server 0.4.1, which lacks switchto (breakout rooms), federation "
                "(calls between Nextclouds). Set hpb_signaling_version to 2.0.0 or newer, and deploy again."
            ],
        ),
        # Built of a branch: what it has is told by its features alone.
        (
            "20.0.0",
            COMMIT,
            OLD,
            [
                "Talk 20.0.0 refuses the signaling server (unknown version 6046e47ad1be), which lacks federation "
                "(calls between Nextclouds). Set hpb_signaling_version to 2.0.0 or newer, and deploy again. If it was "
                "built from newer sources, let the proxy pass the header X-Spreed-Signaling-Features on as it is."
            ],
        ),
        ("20.0.0", COMMIT, NEWEST, []),
        # The server has it, so somebody on the way took it out of the header.
        (
            "20.0.0",
            "2.1.1",
            OLD,
            [
                "Talk 20.0.0 refuses the signaling server 2.1.1, whose answers do not name federation (calls between "
                "Nextclouds), which this version has. "
                "Let the proxy pass the header X-Spreed-Signaling-Features on as it is."
            ],
        ),
    ],
)
def test_a_server_that_talk_refuses(talk, server, features, sentences):
    problems, _notes = _features.explain(talk, server, features)
    assert [str(problem) for problem in problems] == sentences


@pytest.mark.parametrize(
    ("server", "names", "sentences"),
    [
        (
            "2.0.1",
            ["join-features"],
            [
                "join-features (knowing what other clients can do) comes with signaling server 2.0.2; calls work all "
                "the same, set hpb_signaling_version to it or a newer one to have it."
            ],
        ),
        (
            "2.1.1",
            ["changed-users"],
            [
                "changed-users (shorter news about who is in a call) is in no released signaling server yet; calls "
                "work all the same, and nothing is to do."
            ],
        ),
        (
            "2.1.1",
            ["join-features"],
            [
                "join-features (knowing what other clients can do) is missing although this version has it; calls "
                "work all the same, but see whether the proxy changes the header X-Spreed-Signaling-Features."
            ],
        ),
        ("2.1.1", ["brand-new"], ["brand-new is missing, which calls do not need."]),
    ],
)
def test_what_talk_does_without(server, names, sentences):
    assert _features.notes(server, names) == sentences


@pytest.mark.parametrize(
    ("server", "features", "expected"),
    [
        ("2.0.4", OLD, False),
        ("2.1.0~docker", NEWEST, True),
        ("v2.1.1", [], True),
        # A version that says it is believed; where it says nothing, the feature of the same release is.
        ("2.0.4", NEWEST, False),
        (COMMIT, NEWEST, True),
        (COMMIT, JOINING, False),
        ("unknown", NEWEST, True),
        ("", [], False),
    ],
)
def test_which_server_takes_the_events_of_janus(server, features, expected):
    assert _features.takes_events(server, features) == expected


def test_what_a_server_says_of_itself():
    welcome = '{"nextcloud-spreed-signaling":"Welcome","version":"2.0.4~docker"}'
    assert _features.server(welcome, OLD) == {
        "version": "2.0.4~docker",
        "features": OLD,
        "takes_events": False,
        "has_janus": True,
    }
    without = [name for name in NEWEST if name != "mcu"]
    built = _features.server(welcome.replace("2.0.4~docker", COMMIT), without)
    assert (built["takes_events"], built["has_janus"]) == (True, False)
    for text in ("", "<html>", "[]", '{"version":"2.1.1"}'):
        assert _features.server(text, NEWEST) == {}


def test_no_feature_is_required_and_optional_or_neither():
    for name, feature in _features.FEATURES.items():
        assert (feature.required is None) != (feature.optional is None), name
        assert feature.since or feature.required is None, f"{name}: no server that Talk could take"
        assert feature.purpose
