# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the inventory changes of what is deployed: who joins, who leaves, and who went without a word."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._backends import names, order

# Of these the signaling server is told; the others concern how a Nextcloud is reached.
COMPARED = ("url", "session_limit", "stream_bitrate", "screen_bitrate")


@dataclass
class Drift:
    """Ids by what happens to them. `instances` is what is to be deployed, in the server's order."""

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    renamed: list[dict[str, str]] = field(default_factory=list)
    vanished: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    not_deployed: list[str] = field(default_factory=list)
    instances: list[dict[str, Any]] = field(default_factory=list)


def drift(
    instances: Sequence[Mapping[str, Any]],
    deployed: Sequence[Mapping[str, Any]],
    *,
    remove: Any = None,
    only: Any = None,
    known: Sequence[str] | None = None,
) -> Drift:
    """Compare the inventory's instances (those with the state absent as well) with the ones remembered as deployed.

    deployed: dicts of the same shape; id and url are enough, and what is missing is not compared. remove: ids that
    may leave although the inventory does not have them. only: ids to which this run is narrowed, `instances` holds no
    others; the other deployed ones stay as they are. known: the ids of the whole inventory, needed with `only` to tell
    a rename from a URL that another instance of the inventory has given away; None: those of `instances`.
    """
    result = Drift()
    wanted = {entry["id"]: dict(entry) for entry in instances}
    remembered = {entry["id"]: dict(entry) for entry in deployed}
    narrowed, leaving = set(names(only)), set(names(remove))
    result.unknown = sorted(leaving - set(wanted) - set(remembered))
    renamed = _renames(wanted, remembered, {*wanted, *(known or ())})
    kept: list[dict[str, Any]] = []
    for name, entry in wanted.items():
        if entry["state"] != "present" or name in leaving:
            continue
        kept.append(entry)
        if name in remembered:
            (result.changed if _differs(entry, remembered[name]) else result.unchanged).append(name)
        elif name in renamed.values():
            old = next(key for key, value in renamed.items() if value == name)
            result.renamed.append({"from": old, "to": name})
        else:
            result.added.append(name)
    gone_to = {pair["from"] for pair in result.renamed}
    staying = {entry["id"] for entry in kept}
    for name, entry in remembered.items():
        if name in staying or name in gone_to:
            continue
        if name in wanted or name in leaving or name in renamed:
            result.removed.append(name)
        elif narrowed and name not in narrowed:
            kept.append(entry)
            result.unchanged.append(name)
        else:
            result.vanished.append(name)
            result.problems.append(_vanished(entry))
    result.not_deployed = _not_deployed(wanted, remembered, known or ())
    clashes = _clashes(kept)
    result.instances, unordered = order([{**entry, "urls": _urls(entry)} for entry in kept])
    result.problems += clashes or unordered
    return result


def _urls(entry: Mapping[str, Any]) -> list[str]:
    return list(entry.get("urls") or [entry["url"]])


def _renames(
    wanted: Mapping[str, Mapping[str, Any]], remembered: Mapping[str, Mapping[str, Any]], known: Collection[str]
) -> dict[str, str]:
    """Return {old id: new id} where the URL of a deployed id that is not `known` any more is now another's."""
    found: dict[str, str] = {}
    for new, entry in wanted.items():
        if new in remembered:
            continue
        for old, before in remembered.items():
            if old not in known and old not in found and before["url"] in _urls(entry):
                found[old] = new
                break
    return found


def _differs(entry: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    return set(_urls(entry)) != set(_urls(before)) or any(
        name in before and entry.get(name) != before[name] for name in COMPARED
    )


def _not_deployed(
    wanted: Mapping[str, Mapping[str, Any]], remembered: Mapping[str, Mapping[str, Any]], known: Collection[str]
) -> list[str]:
    """Return a sentence for each instance whose address is not the deployed one, and each deployed one without a word.

    Where nothing is deployed there is none.
    """
    found = []
    for name, entry in wanted.items() if remembered else ():
        before = remembered.get(name)
        if entry["state"] != "present" or before and before["url"] == entry["url"]:
            continue
        if before:
            found.append(
                f"The instance {name} is at {entry['url']} in the inventory (talk_url, or else its first host), but "
                f"deployed with {before['url']}: correct talk_url, or deploy the new address."
            )
        else:
            found.append(f"The instance {name} ({entry['url']}) of the inventory is not deployed.")
    found += [
        f"The instance {name} ({entry['url']}) is deployed, but not in the inventory."
        for name, entry in remembered.items()
        if name not in wanted and name not in known
    ]
    return found


def _vanished(entry: Mapping[str, Any]) -> str:
    name = entry["id"]
    return (
        f"The instance {name} ({entry['url']}) is deployed but not in the inventory, expected it there: if it shall "
        f"leave, say -e remove={name} (or put it back with talk_state: absent, which also cleans up its Nextcloud); "
        f"if not, put it back or check the path after -i. Nothing was changed."
    )


def _clashes(instances: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a problem for each URL that two have; possible only in a narrowed run."""
    owner: dict[str, str] = {}
    problems = []
    for entry in instances:
        for url in _urls(entry):
            other = owner.setdefault(url, entry["id"])
            if other != entry["id"]:
                problems.append(
                    f"The instance {entry['id']} is deployed with the URL {url}, which the inventory now gives to "
                    f"{other}; expected a run for both: leave out -e instance=..."
                )
    return problems
