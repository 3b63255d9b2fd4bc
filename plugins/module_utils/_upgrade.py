# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an upgrade would change on a host, what it interrupts, and how it is done. Nothing is changed here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _release, _versions

# The program that each part belongs to, in the order in which people ask for them. The base image is left out: what its
# tag means moves, and Janus' image is only made anew when something else of it changes.
PROGRAMS = {
    "signaling": "signaling server",
    "janus": "Janus",
    "libsrtp": "Janus",
    "usrsctp": "Janus",
    "coturn": "coturn",
    "traefik": "Traefik",
    "nats": "NATS",
}
CONTAINERS = {"signalling": "signaling", "coturn": "coturn", "traefik": "traefik", "nats": "nats"}

# What a new version of a program interrupts, the most first.
INTERRUPTS = {
    "Janus": "ends the media of all calls; the clients connect again by themselves",
    "coturn": "ends the media that is relayed by TURN; direct media goes on",
    "signaling server": "everybody in a call joins again by himself",
    "Traefik": "websockets connect again within seconds; media goes on",
    "NATS": "the signaling server connects again within seconds; media goes on",
}
JANUS_TAG = re.compile(r"(?P<janus>.+)-srtp(?P<libsrtp>.+)-sctp(?P<usrsctp>[^-]+)-[0-9a-f]{16}")
COMMIT = re.compile(r"[0-9a-f]{40}")
UNKNOWN = "?"


def tag(image: str) -> str:
    """Return the tag of an image's reference; empty when it names none, or the image by a digest."""
    name = image.rpartition("/")[2]
    return "" if "@" in name or name.startswith("sha256:") else name.partition(":")[2]


def running_versions(running: Mapping[str, str], deployed: Mapping[str, Any]) -> dict[str, str]:
    """Return {part: version} of what runs; `UNKNOWN` for what does not say it.

    running: {container: reference of its image}. deployed: what `_release.pins` returned at the last deployment, as
    deployed.json has it under release; it tells what an image with a digest is. Parts of programs that do not run are
    left out.
    """
    remembered = {part: str(version) for part, version in (deployed.get("versions") or {}).items()}
    found = {}
    for container, part in CONTAINERS.items():
        if container in running:
            found[part] = tag(running[container]) or remembered.get(part, UNKNOWN)
    if "janus" in running:
        match = JANUS_TAG.fullmatch(tag(running["janus"]))
        parts = match.groupdict() if match else {}
        found |= {part: parts.get(part) or remembered.get(part, UNKNOWN) for part in _release.SOURCES}
    return found


def short(part: str, version: str) -> str:
    """Return a version as people read it; of a commit its first 8 characters, as the tag of Janus' image has it."""
    return version[:8] if part == "usrsctp" and COMMIT.fullmatch(version) else version


def words(changes: Mapping[str, Any], part: str, old: str, new: str) -> list[str]:
    """Return what the versions after `old` up to `new` brought, as 'version: sentence', the newest first."""
    low, high = _versions.order(old), _versions.order(new)
    if low is None or high is None:
        return []
    known = {_versions.order(version): f"{version}: {text}" for version, text in (changes.get(part) or {}).items()}
    return [known[key] for key in sorted(key for key in known if key and low < key <= high)][::-1]


def compare(
    data: Mapping[str, Any], name: str, variables: Mapping[str, Any], running: Mapping[str, str], deployed: Mapping
) -> dict[str, Any]:
    """Return what runs, what the inventory asks for, and what the newest release has.

    data, name, variables: as in `_release.pins`. running, deployed: as in `running_versions`.
    Returns {release: name of the deployed one or empty, wanted: that of the inventory, newest, pinned: [variables],
    rows: [{part, program, running, wanted, newest, words}] of the programs that run, unverified: [parts of the
    newest], remarks: [sentences], proven: {nextcloud, talk} or {}}. Raises _release.ReleaseError for an unknown name.
    """
    wanted = _release.pins(data, name, variables)
    newest, newest_versions = _release.find(data), _release.versions(data)
    now = running_versions(running, deployed)
    rows = []
    for part, program in PROGRAMS.items():
        if part not in now:
            continue
        versions = (now[part], wanted["versions"][part], newest_versions[part])
        mine, asked, new = (short(part, version) for version in versions)
        row = {"part": part, "program": program, "running": mine, "wanted": asked, "newest": new}
        rows.append({**row, "words": words(data["changes"], part, mine, new)})
    return {
        "release": str(deployed.get("release") or ""),
        "wanted": wanted["release"],
        "newest": str(newest["name"]),
        "pinned": wanted["pinned"],
        "rows": rows,
        "unverified": list(newest["unverified"]),
        "remarks": list(newest["remarks"]),
        "proven": dict(newest.get("proven") or {}),
    }


def steps(found: Mapping[str, Any], site: str) -> list[str]:
    """Return what to do to have the newest, one sentence each. found: what `compare` returned. site: the command."""
    rows = found["rows"]
    if not rows:
        return [f"Nothing of the backend runs there. This deploys release {found['wanted']}: {site}"]
    if all(row["running"] == row["newest"] for row in rows):
        return ["Nothing: everything that runs is the newest in this collection."]
    behind = [row for row in rows if row["wanted"] != row["newest"]]
    result = []
    if behind and found["wanted"] != found["newest"]:
        result.append(
            f"Your inventory asks for release {found['wanted']}: remove hpb_release, or set it to '{found['newest']}'."
        )
    if behind and found["pinned"]:
        result.append(
            f"Your inventory pins {', '.join(found['pinned'])}: remove what you pinned, or set it to the newest."
        )
    result.append(f"See what would be done: {site} --check --diff")
    return [*result, f"Do it, and prove it with calls: {site}"]


def interrupted(rows: list[Mapping[str, Any]], to: str) -> list[str]:
    """Return 'program: what its new version interrupts' for each program that changes to the versions `to`.

    rows: those of `compare`. to: `wanted` or `newest`.
    """
    changed = {row["program"] for row in rows if row["running"] != row[to]}
    return [f"{program}: {text}" for program, text in INTERRUPTS.items() if program in changed]


def _facts(found: Mapping[str, Any], host: str, site: str) -> list[tuple[str, list[str]]]:
    """Return the page below its table: each section with a title and its lines."""
    rows = found["rows"]
    sections = [("What the newest interrupts", interrupted(rows, "newest") or ["nothing"])]
    ahead = [row for row in rows if row["wanted"] not in (row["running"], row["newest"])]
    if ahead:
        lines = [f"{row['part']} {row['running']} -> {row['wanted']}" for row in ahead]
        sections.append(("What site would do with your inventory as it is", [*lines, *interrupted(rows, "wanted")]))
    told = [f"{row['part']} {line}" for row in rows for line in row["words"]]
    if told:
        sections.append(("What changed since yours", told))
    proven = found["proven"]
    tried = f"Tried with Nextcloud {proven['nextcloud']} and Talk {proven['talk']}." if proven else "Not tried."
    notes = [f"Release {found['newest']}: {tried}"]
    if found["unverified"]:
        notes.append(
            f"No test has run these very versions, but others of the same programs: {', '.join(found['unverified'])}."
        )
    sections.append(("What is known of the newest", [*notes, *found["remarks"]]))
    sections.append((f"What to do for {host}", steps(found, site)))
    return sections


def _runs(found: Mapping[str, Any]) -> str:
    """Return the title of the column of what runs, with the name of the release that was deployed."""
    return f"runs ({found['release']})" if found["release"] else "runs"


def text(found: Mapping[str, Any], host: str, site: str) -> list[str]:
    """Return the page as lines for a terminal. found: what `compare` returned."""
    head = ["part", _runs(found), "your inventory", f"newest ({found['newest']})"]
    table = [head, *([row["part"], row["running"], row["wanted"], row["newest"]] for row in found["rows"])]
    widths = [max(len(line[column]) for line in table) for column in range(4)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in table]
    for title, body in _facts(found, host, site):
        lines += ["", f"{title}:", *(f"  {line}" for line in body)]
    return lines


def _plain(value: str) -> str:
    """Return a text in which Markdown finds nothing of its own."""
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", value)


def markdown(found: Mapping[str, Any], host: str, site: str) -> str:
    """Return the page as Markdown that needs nothing besides. found: what `compare` returned."""
    lines = [f"# Upgrade of {_plain(host)}", ""]
    lines.append(f"| part | {_plain(_runs(found))} | your inventory | newest ({_plain(found['newest'])}) | changes |")
    lines.append("|---|---|---|---|---|")
    for row in found["rows"]:
        cells = [_plain(row[name]) for name in ("part", "running", "wanted", "newest")]
        lines.append(f"| {' | '.join(cells)} | {'' if row['running'] == row['newest'] else 'yes'} |")
    for title, body in _facts(found, host, site):
        lines += ["", f"## {_plain(title)}", "", *(f"- {_plain(line)}" for line in body)]
    return "\n".join(lines) + "\n"
