# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables that look like misspelt ones of this collection. Only names are looked at, never values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

# Roles whose prefix is an everyday word, and whose own variables nobody sets in an inventory.
NOT_CHECKED = frozenset({"container", "host", "proxy"})

# Prefixes that no role has: the collection-wide one, and upstream's spelling of `signalling`.
FURTHER = frozenset({"hpb", "signaling"})

SHORT = 5
_SHOWN_HOSTS = 3


def spec_names(specs: Mapping[str, Any]) -> set[str]:
    """Return the names of all options in a parsed meta/argument_specs.yml."""
    found: set[str] = set()
    for entry_point in (specs.get("argument_specs") or {}).values():
        found |= set(entry_point.get("options") or {})
    return found


def fact_names(tasks: Any) -> set[str]:
    """Return the names that the set_fact tasks in a parsed task file set: they appear among a host's variables."""
    found: set[str] = set()
    if isinstance(tasks, Mapping):
        for key, value in tasks.items():
            if key == "ansible.builtin.set_fact":
                found |= set(value)
            else:
                found |= fact_names(value)
    elif isinstance(tasks, list):
        for task in tasks:
            found |= fact_names(task)
    return found - {"cacheable"}


def distance(left: str, right: str) -> int:
    """Return how many insertions, deletions, replacements and swaps of neighbours make one text the other."""
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, start=1):
        before, last, row = row, before, [i]
        for j, b in enumerate(right, start=1):
            best = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and left[i - 2] == b:
                best = min(best, last[j - 2] + 1)
            row.append(best)
    return row[-1]


def meant(name: str, known: Iterable[str]) -> str | None:
    """Return the known variable that `name` is a misspelling of, or None.

    Both must share the prefix (`signaling_` counts as `signalling_`). In what follows it, two errors are allowed, and
    one if it is short, since short words are close to each other by chance.
    """
    prefix, _underscore, rest = name.lower().partition("_")
    prefix = "signalling" if prefix == "signaling" else prefix
    best: tuple[int, str] | None = None
    for candidate in sorted(known):
        start, _underscore, right = candidate.partition("_")
        if start != prefix or abs(len(right) - len(rest)) > 2:
            continue
        errors = distance(rest, right)
        if errors <= (1 if min(len(right), len(rest)) < SHORT else 2) and (best is None or errors < best[0]):
            best = (errors, candidate)
    return best[1] if best else None


def misspelt(variables: Mapping[str, Iterable[str]], known: Iterable[str], roles: Iterable[str]) -> list[str]:
    """Return a sentence for each variable that looks like a misspelt known one.

    variables: {host: names of its variables}. known: names of the collection. roles: its roles, whose names are
    prefixes together with `FURTHER`. Names that start with __ are internal.
    """
    known = set(known)
    prefixes = (set(roles) | FURTHER) - NOT_CHECKED
    hosts: dict[str, list[str]] = {}
    for host, present in variables.items():
        for name in present:
            if name not in known and name.lower().partition("_")[0] in prefixes:
                hosts.setdefault(name, []).append(host)
    problems = []
    for name, where in sorted(hosts.items()):
        right = meant(name, known)
        if right:
            problems.append(
                f"The variable {name} ({_shown(where)}) does nothing, expected {right}: correct its name in the "
                f"inventory or on the command line (if it is a variable of your own, give it a name less like ours)."
            )
    return problems


def _shown(hosts: list[str]) -> str:
    more = len(hosts) - _SHOWN_HOSTS
    text = ", ".join(hosts[:_SHOWN_HOSTS])
    return f"host{'s' if len(hosts) > 1 else ''} {text}{f' and {more} more' if more > 0 else ''}"
