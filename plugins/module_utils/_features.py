# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a release of Talk needs of the signaling server, and which release of the server has it. No input or output.

Talk reads the ids in the header X-Spreed-Signaling-Features of the server's answers (lib/Signaling/Manager.php of
Talk). It refuses a server that lacks a required one, and warns of optional ones that are missing. Which server has
which id stands in the server's CHANGELOG.md. Ids that are not in the table do not matter to Talk: those that come and
go with Janus (mcu, simulcast, update-sdp), and those of other clients.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _versions


@dataclass(frozen=True)
class Feature:
    """One id.

    since: the signaling server from which on it is there for certain, "" while no released one has it; required and
    optional: the major version of Talk from which on a server without it is refused, or warned of; purpose: what it
    is for.
    """

    since: str
    required: int | None
    optional: int | None
    purpose: str


FEATURES = {
    "audio-video-permissions": Feature("1.2.0", 15, None, "permissions for microphone and camera"),
    "incall-all": Feature("1.2.0", 15, None, "ending a call for everybody"),
    "hello-v2": Feature("1.2.0", 15, None, "signed logins of clients"),
    "switchto": Feature("1.2.0", 16, None, "breakout rooms"),
    "federation": Feature("2.0.0", 20, None, "calls between Nextclouds"),
    "dialout": Feature("1.2.0", None, 18, "calling telephones"),
    "join-features": Feature("2.0.2", None, 21, "knowing what other clients can do"),
    "chat-relay": Feature("2.1.0", None, 23, "chat messages without asking the Nextcloud"),
    "changed-users": Feature("", None, 24, "shorter news about who is in a call"),
}

SETTING = "hpb_signaling_version"
KEEP_HEADER = "let the proxy pass the header X-Spreed-Signaling-Features on as it is"

# From this version on the server takes Janus' events on its websocket, and this id came with it.
EVENTS, EVENTS_ID = "2.1.0", "chat-relay"


@dataclass(frozen=True)
class Problem:
    """Why Talk refuses the server: a sentence, and a sentence about what to do."""

    cause: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.cause} {self.remedy}"


def missing(talk_version: str, features: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the required and the optional ids that this Talk does not find in `features`.

    A Talk that is newer than the table, or whose version says nothing, is taken for the newest in the table.
    """
    major = (_versions.numbers(talk_version) or (None,))[0]
    present = set(features)
    required, optional = [], []
    for name, feature in FEATURES.items():
        for since, found in ((feature.required, required), (feature.optional, optional)):
            if since is not None and (major is None or since <= major) and name not in present:
                found.append(name)
    return required, optional


def explain(talk_version: str, server_version: str, features: Iterable[str]) -> tuple[list[Problem], list[str]]:
    """Return why this Talk refuses the server (empty when it takes it), and a sentence for what it does without."""
    required, optional = missing(talk_version, features)
    return _problems(talk_version, server_version, required), notes(server_version, optional)


def _problems(talk_version: str, server_version: str, required: Sequence[str]) -> list[Problem]:
    refusal = f"Talk {talk_version} refuses the signaling server {_versions.named(server_version)}"
    old = [name for name in required if not _has(server_version, name)]
    problems = []
    if old:
        since = max((FEATURES[name].since for name in old), key=_versions.numbers)
        remedy = f"Set {SETTING} to {since} or newer, and deploy again."
        if not _versions.numbers(server_version):
            remedy += f" If it was built from newer sources, {KEEP_HEADER}."
        problems.append(Problem(f"{refusal}, which lacks {_named(old)}.", remedy))
    lost = [name for name in required if name not in old]
    if lost:
        cause = f"{refusal}, whose answers do not name {_named(lost)}, which this version has."
        problems.append(Problem(cause, f"{KEEP_HEADER[0].upper()}{KEEP_HEADER[1:]}."))
    return problems


def notes(server_version: str, optional: Iterable[str]) -> list[str]:
    """Return a sentence for each optional id that is missing; one that is not in the table is named all the same."""
    return [_note(server_version, name) for name in optional]


def _note(server_version: str, name: str) -> str:
    feature = FEATURES.get(name)
    if feature is None:
        return f"{name} is missing, which calls do not need."
    if not feature.since:
        return (
            f"{_named([name])} is in no released signaling server yet; calls work all the same, and nothing is to do."
        )
    if _has(server_version, name):
        return (
            f"{_named([name])} is missing although this version has it; calls work all the same, but see whether the "
            "proxy changes the header X-Spreed-Signaling-Features."
        )
    return (
        f"{_named([name])} comes with signaling server {feature.since}; calls work all the same, set {SETTING} to it "
        "or a newer one to have it."
    )


def _has(server_version: str, name: str) -> bool:
    """Whether a server of that version should have the feature; an unknown version should not."""
    since = FEATURES[name].since
    return bool(since) and _versions.at_least(server_version, since)


def takes_events(server_version: str, features: Iterable[str]) -> bool:
    """Whether a server that says this of itself takes Janus' events; one of unknown version is told by its ids."""
    if _versions.numbers(server_version):
        return _versions.at_least(server_version, EVENTS)
    return EVENTS_ID in features


def server(welcome: str, features: Sequence[str]) -> dict[str, Any]:
    """Return what a server is by the body of its welcome and the ids of its header.

    That is {version, features, takes_events, has_janus}; {} for the answer of something else.
    """
    try:
        content = json.loads(welcome)
    except ValueError:
        content = None
    if not isinstance(content, dict) or "nextcloud-spreed-signaling" not in content:
        return {}
    version = str(content.get("version", ""))
    return {
        "version": version,
        "features": list(features),
        "takes_events": takes_events(version, features),
        # The server names what only goes with Janus while it is connected to it.
        "has_janus": "mcu" in features,
    }


def _named(names: Sequence[str]) -> str:
    return ", ".join(f"{name} ({FEATURES[name].purpose})" for name in names)
