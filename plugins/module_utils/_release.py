# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases: sets of versions that belong together, and the single pins of an inventory that override them.

`data` is the parsed roles/hpb/files/releases.yml; its form is described there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _features, _versions

SHA256 = re.compile(r"[0-9a-f]{64}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class ReleaseError(Exception):
    """A release or a part that does not exist. The message is a whole sentence for the user."""


class Part(NamedTuple):
    """The variables with which an inventory pins one part, the strongest first."""

    versions: tuple[str, ...]
    sha256: str = ""
    digest: str = ""


PARTS: dict[str, Part] = {
    "nats": Part(("nats_version",), digest="nats_digest"),
    "coturn": Part(("coturn_version",), digest="coturn_digest"),
    "signaling": Part(("signalling_version", "hpb_signaling_version"), digest="signalling_digest"),
    "traefik": Part(("traefik_version",), digest="traefik_digest"),
    "base": Part(("janus_base_image",)),
    "libsrtp": Part(("janus_libsrtp_version",), sha256="janus_libsrtp_sha256"),
    "usrsctp": Part(("janus_usrsctp_version",), sha256="janus_usrsctp_sha256"),
    "janus": Part(("janus_version",), sha256="janus_sha256"),
}
SOURCES = tuple(name for name, part in PARTS.items() if part.sha256)


def names(data: Mapping[str, Any]) -> list[str]:
    """Return the names of all releases, the newest first."""
    return [str(one["name"]) for one in data["releases"]]


def find(data: Mapping[str, Any], name: str = "") -> Mapping[str, Any]:
    """Return the release of that name; the newest for an empty one.

    Raises ReleaseError with the known names for another.
    """
    known = names(data)
    wanted = str(name or known[0])
    if wanted not in known:
        raise ReleaseError(
            f"hpb_release is '{wanted}', which this collection does not know, expected one of {', '.join(known)}: "
            f"correct it, or remove it to have the newest."
        )
    return data["releases"][known.index(wanted)]


def versions(data: Mapping[str, Any], name: str = "") -> dict[str, str]:
    """Return {part: version} of a release, all of `PARTS`."""
    release = find(data, name)
    found = {**release["images"], **release["sources"]}
    return {part: str(found[part]) for part in PARTS}


def checksum(data: Mapping[str, Any], source: str, version: str) -> str:
    """Return the sha256 of a source's archive; empty for a version that is not known.

    Raises ReleaseError for something that is no source.
    """
    if source not in SOURCES:
        raise ReleaseError(f"There is no source '{source}', expected one of {', '.join(SOURCES)}.")
    return str(data["sources"][source].get(str(version), ""))


def _given(variables: Mapping[str, Any], *names_: str) -> tuple[str, str]:
    """Return the first of the variables that is set, as (name, value); empty texts when none is."""
    for name in names_:
        if name and name in variables and str(variables[name] or ""):
            return name, str(variables[name])
    return "", ""


def pins(data: Mapping[str, Any], name: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is in force for a host: the release, and what its variables pin otherwise.

    variables: {name: value} of the host, as the inventory and the command line have them.
    Returns {release, versions: {part: version}, pinned: [variables that override the release],
    checksums: {source: sha256, empty when it is not known}, digests: {part: sha256:...}}.
    """
    release = find(data, name)
    found = versions(data, name)
    pinned, checksums, digests = [], {}, {}
    for part, names_ in PARTS.items():
        variable, version = _given(variables, *names_.versions)
        if variable and version != found[part]:
            pinned.append(variable)
            found[part] = version
        if names_.sha256:
            known = checksum(data, part, found[part])
            variable, value = _given(variables, names_.sha256)
            checksums[part] = value or known
            if variable and value != known:
                pinned.append(variable)
        variable, value = _given(variables, names_.digest)
        if variable:
            pinned.append(variable)
            digests[part] = value
    return {
        "release": str(release["name"]),
        "versions": found,
        "pinned": sorted(pinned),
        "checksums": checksums,
        "digests": digests,
    }


def problems(data: Mapping[str, Any], name: str, variables: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each thing about release and pins that cannot work."""
    try:
        force = pins(data, name, variables)
    except ReleaseError as error:
        return [str(error)]
    found = _words(versions(data, name), variables)
    if found:
        return found
    server = force["versions"]["signaling"]
    if _truth(variables.get("janus_events")) and not _versions.at_least(server, _features.EVENTS):
        found.append(
            f"janus_events is true, but the signaling server {server} refuses Janus' events, expected "
            f"{_features.EVENTS} or newer: remove janus_events, or raise {_features.SETTING}."
        )
    for source in SOURCES:
        part, version, sha256 = PARTS[source], force["versions"][source], force["checksums"][source]
        if not sha256:
            found.append(
                f"{part.versions[0]} is {version}, of which this collection knows no checksum, expected "
                f"{part.sha256} beside it: set it to the sha256 of that archive, or remove {part.versions[0]} to "
                f"have {versions(data, name)[source]}."
            )
        elif not SHA256.fullmatch(sha256):
            found.append(
                f"{part.sha256} is '{sha256}', expected a sha256, 64 characters of 0-9 and a-f: correct it, or remove "
                f"it together with {part.versions[0]}."
            )
    return found


def _words(release: Mapping[str, str], variables: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each variable that names no version or no digest.

    Versions are compared, and they become tags of images and names of archives: so latest, or the name of a branch, is
    none. An archive of sources may be that of a commit. release: {part: version} of the release in force.
    """
    found = []
    for part, names_ in PARTS.items():
        source = bool(names_.sha256)
        for variable in [] if part == "base" else [name for name in names_.versions if name in variables]:
            value = "" if variables[variable] is None else str(variables[variable])
            if not (_versions.is_source(value) if source else _versions.is_tag(value)):
                found.append(
                    f"{variable} is '{value}', which is no version number, expected one such as {release[part]}"
                    f"{' or the hash of a commit' if source else ', as the image has it in its tag'}: correct it, or "
                    f"remove it to have {release[part]}."
                )
        value = str(variables.get(names_.digest) or "")
        if value and not DIGEST.fullmatch(value):
            found.append(
                f"{names_.digest} is '{value}', expected sha256: and 64 characters of 0-9 and a-f, the digest of the "
                f"image: correct it, or remove it."
            )
    return found


def _truth(value: Any) -> bool:
    """Return what Ansible makes of a truth value of the inventory."""
    return str(value).strip().lower() in ("true", "yes", "on", "y", "t", "1")
