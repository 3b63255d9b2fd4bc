# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Further URLs of the instances, as their Nextclouds themselves name them.

A URL decides whose secret the signaling server uses, so one that another instance has, or that lies above or below one
of another instance, is never taken on a Nextcloud's word.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._network import UrlError, covers, normalize_url


@dataclass
class Merged:
    """The instances with their further URLs, in the order in which they came, and what has to be said about it."""

    instances: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def merge(
    instances: Sequence[Mapping[str, Any]],
    found: Iterable[Mapping[str, Any]],
    *,
    deployed: Sequence[Mapping[str, Any]] = (),
    known: Sequence[Mapping[str, Any]] = (),
    several: bool = True,
) -> Merged:
    """Give those instances that want it (`urls_from_nextcloud`) the URLs that were found in their Nextclouds.

    instances, known: as the filter `backends` returns them, of this run and of the whole inventory. found: dicts with
    `id`, `urls` (normalized), `cli_url` and `mend` of each Nextcloud that was asked. deployed: instances as remembered;
    one that was not asked keeps the URLs that it has there. several: whether the signaling server knows several URLs of
    one instance. An instance that leaves stays as it is.

    A URL that cannot be taken is a warning, or a problem when it is the Nextcloud's own `overwrite.cli.url`, which
    nobody mends.
    """
    result = Merged()
    answers = {str(entry["id"]): entry for entry in found}
    candidates = {
        entry["id"]: _candidates(entry, answers.get(entry["id"]), deployed)
        for entry in instances
        if entry.get("urls_from_nextcloud") and entry["state"] == "present"
    }
    taken = _taken(instances, deployed, known)
    taken += [(url, name) for name, urls in candidates.items() for url in urls]
    for entry in instances:
        name, urls = entry["id"], list(entry["urls"])
        refused: dict[str, str] = {}
        for url in candidates.get(name, ()):
            reason = _reason(url, name, taken) if several else "would be its second URL"
            if reason:
                refused[url] = reason
            else:
                urls.append(url)
        result.instances.append({**entry, "urls": urls})
        _tell(result, entry, refused, answers.get(name), several)
    return result


def _candidates(
    entry: Mapping[str, Any], answer: Mapping[str, Any] | None, deployed: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Return the further URLs that this instance may get."""
    if answer is not None:
        urls = answer["urls"]
    else:
        urls = next((one.get("urls") or [] for one in deployed if one["id"] == entry["id"]), [])
    return [url for url in dict.fromkeys(urls) if url not in entry["urls"]]


def _taken(
    instances: Sequence[Mapping[str, Any]], deployed: Sequence[Mapping[str, Any]], known: Sequence[Mapping[str, Any]]
) -> list[tuple[str, str]]:
    """Return (URL, id) of all instances, those outside of a narrowed run as they are deployed."""
    here = {entry["id"] for entry in instances}
    outside = {entry["id"] for entry in known} - here
    staying = [entry for entry in deployed if entry["id"] in outside]
    every = [*instances, *known, *staying]
    return [(url, entry["id"]) for entry in every for url in entry.get("urls") or [entry["url"]]]


def _reason(url: str, name: str, others: Iterable[tuple[str, str]]) -> str:
    """Return why the instance `name` cannot have `url`, the end of a sentence; empty when it can."""
    for theirs, other in others:
        if other != name and (covers(url, theirs) or covers(theirs, url)):
            return f"belongs to the instance {other}" if theirs == url else f"overlaps {theirs} of the instance {other}"
    return ""


def _tell(
    result: Merged,
    entry: Mapping[str, Any],
    refused: Mapping[str, str],
    answer: Mapping[str, Any] | None,
    several: bool,
) -> None:
    """Say what was not taken."""
    name = entry["id"]
    if refused and not several:
        result.warnings.append(
            f"talk_urls_from_nextcloud is set for {name}, whose Nextcloud was found at {', '.join(refused)} too, but "
            "the signaling server knows one URL for each instance: use 2.0.4 or newer, or remove the variable."
        )
    own = _normalized(str(answer["cli_url"])) if answer and not answer["mend"] else ""
    for url, reason in refused.items():
        if url == own:
            result.problems.append(
                f"Instance {name}: its overwrite.cli.url is {url}, which {reason}, and the signaling server refuses "
                f"what Talk sends from cron; set it with 'occ config:system:set overwrite.cli.url "
                f"--value={entry['url']}', or set talk_mend: true for it."
            )
        elif several:
            result.warnings.append(
                f"The Nextcloud of the instance {name} was found at {url} too, but that {reason}, so it is not "
                f"taken: remove it from that Nextcloud's trusted domains, or add it to talk_urls of {name}."
            )


def _normalized(url: str) -> str:
    try:
        return normalize_url(url)
    except UrlError:
        return ""
