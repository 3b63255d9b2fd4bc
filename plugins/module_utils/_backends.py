# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the inventory to the list of Nextcloud instances that everything else derives from.

An instance is a minimal group inside the group `nextcloud`: all its hosts are in `nextcloud`, and no other such group
is a true part of it. Everything here is pure: `groups` is {group: [host, ...]}, `hostvars` is {host: variables}, of
which nothing but the `talk_*` variables named in `READ` is looked at, and of the first host of each instance only
(`talk_instance` of each host).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._network import (
    UrlError,
    covers,
    normalize_host,
    normalize_url,
)

PARENT = "nextcloud"
HPB = "hpb"

# Groups that are never an instance: Ansible's own, and those of the backend itself.
NOT_INSTANCES = frozenset({"all", "ungrouped", PARENT, HPB, "hpb_media"})

# Sections of server.conf. The id of an instance becomes a section there
# (strukturag/nextcloud-spreed-signaling, server.conf.in; names are compared without regard to case).
SECTIONS = frozenset(
    {
        "app",
        "backend",
        "clients",
        "continent-overrides",
        "default",
        "etcd",
        "federation",
        "geoip",
        "geoip-overrides",
        "grpc",
        "http",
        "https",
        "mcu",
        "nats",
        "sessions",
        "stats",
        "turn",
    }
)

STATES = ("present", "absent")

# Sessions of the smallest call.
SESSIONS = 2
# bit/s. Below it is unwatchable and surely meant as kbit/s or Mbit/s; above it is a slip of the finger.
BITRATES = (64_000, 1_000_000_000)

READ = (
    "talk_url",
    "talk_urls",
    "talk_session_limit",
    "talk_stream_bitrate",
    "talk_screen_bitrate",
    "talk_register",
    "talk_optional",
    "talk_state",
    "talk_urls_from_nextcloud",
)

_ID = re.compile(r"[A-Za-z0-9_]+")
_DIGITS = re.compile(r"[0-9]+")


class InventoryError(ValueError):
    """What cannot work in the inventory; `problems` has one sentence for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


@dataclass
class _Finding:
    """Instances found so far, and what is wrong."""

    hosts: dict[str, list[str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def names(value: Any) -> list[str]:
    """Return the names in a list or in a comma separated text, without empty ones."""
    if value is None:
        return []
    items = value.split(",") if isinstance(value, str) else value
    return [str(item).strip() for item in items if str(item).strip()]


def backends(
    groups: Mapping[str, Sequence[str]],
    hostvars: Mapping[str, Mapping[str, Any]],
    *,
    only: Any = None,
    remove: Any = None,
    state: str = "present",
) -> list[dict[str, Any]]:
    """Return the instances in the order in which the signaling server must list them.

    only, remove: ids as a list or comma separated text. Those of `remove` get the state absent. With `only`, the
    whole inventory is checked and these instances are returned. state: present, absent or all.

    Each instance is {"id", "host" (the first one), "hosts", "url", "urls" (with url first), "session_limit"
    (0 = none), "stream_bitrate", "screen_bitrate" (bit/s or None), "register", "optional", "state",
    "urls_from_nextcloud"}.
    Raises InventoryError with every problem of the whole inventory.
    """
    if state not in (*STATES, "all"):
        raise InventoryError([f"The state '{state}' was asked for, expected present, absent or all."])
    finding = find_instances(groups, hostvars)
    leaving = set(names(remove))
    instances = []
    for group, hosts in finding.hosts.items():
        instance, problems = read_instance(group, hosts, hostvars[hosts[0]])
        finding.problems += problems
        if group in leaving:
            instance["state"] = "absent"
        instances.append(instance)
    finding.problems = hpb_problems(groups) + finding.problems + _collisions(instances)
    if not finding.problems:
        finding.problems = _narrowing(names(only), names(remove), list(finding.hosts))
        instances, unordered = order(instances)
        finding.problems += unordered
    if finding.problems:
        raise InventoryError(finding.problems)
    wanted = set(names(only)) or {instance["id"] for instance in instances}
    return [entry for entry in instances if entry["id"] in wanted and state in ("all", entry["state"])]


def hpb_problems(groups: Mapping[str, Sequence[str]]) -> list[str]:
    """Return what is wrong with the group of the backend's own host: it must have exactly one."""
    hosts = list(groups.get(HPB) or [])
    if not hosts:
        return [
            f"The group {HPB} is missing or empty in the inventory, expected it to hold the host that runs the "
            f"backend: add it, or check the path after -i."
        ]
    if len(hosts) > 1:
        return [
            f"The group {HPB} has {len(hosts)} hosts ({', '.join(hosts)}), expected exactly one: several hosts for one "
            f"backend are not supported yet; give each backend an inventory of its own."
        ]
    return []


def find_instances(groups: Mapping[str, Sequence[str]], hostvars: Mapping[str, Mapping[str, Any]]) -> _Finding:
    """Return the instance groups inside `nextcloud` with their hosts, in the inventory's order of hosts."""
    finding = _Finding()
    inside = list(groups.get(PARENT) or [])
    if not inside:
        finding.problems.append(
            f"The group {PARENT} is missing or empty in the inventory, expected one group with a host below it for "
            f"each Nextcloud: add them, or check the path after -i."
        )
        return finding
    candidates = {
        group: list(hosts)
        for group, hosts in sorted(groups.items())
        if group not in NOT_INSTANCES and hosts and set(hosts) <= set(inside)
    }
    if not candidates:
        finding.problems.append(
            f"The group {PARENT} has hosts ({', '.join(inside)}) but no groups below it, expected one group for each "
            f"Nextcloud, whose name is its id: put each host into a group under {PARENT}: children:."
        )
        return finding
    minimal = {
        group: hosts
        for group, hosts in candidates.items()
        if not any(set(other) < set(hosts) for other in candidates.values())
    }
    chosen = _without_twins(minimal, hostvars, finding)
    for host in inside:
        holders = [group for group, hosts in minimal.items() if host in hosts and group in chosen]
        if len(holders) > 1:
            finding.problems.append(
                f"The host {host} is in the instance groups {_and(holders)}, expected one instance for each inventory "
                f"host: two Nextclouds on one machine are two inventory hosts with the same ansible_host, since "
                f"otherwise Ansible gives both the variables of the last group."
            )
        if not any(host in hosts for hosts in minimal.values()):
            finding.problems.append(_orphan(host, candidates, minimal))
    position = {host: number for number, host in enumerate(inside)}
    finding.hosts = dict(sorted(chosen.items(), key=lambda item: position[item[1][0]]))
    return finding


def _without_twins(
    minimal: Mapping[str, list[str]], hostvars: Mapping[str, Mapping[str, Any]], finding: _Finding
) -> dict[str, list[str]]:
    """Return one group for each set of hosts; `talk_instance` says which where several have the same."""
    twins: dict[frozenset[str], list[str]] = {}
    for group, hosts in minimal.items():
        twins.setdefault(frozenset(hosts), []).append(group)
    chosen = {}
    for same in twins.values():
        hosts = minimal[same[0]]
        said = names(hostvars[hosts[0]].get("talk_instance"))
        if said and said[0] not in same:
            finding.problems.append(
                f"talk_instance is {said[0]} for the host {hosts[0]}, expected {_or(same)}: name one of the groups "
                f"that have exactly the hosts of the instance, or remove the variable."
            )
        elif not said and len(same) > 1:
            finding.problems.append(
                f"The groups {_and(same)} have exactly the same hosts ({', '.join(hosts)}), expected one group for "
                f"each instance: if it is one Nextcloud, set talk_instance: {same[0]} (or {_or(same[1:])}) in one of "
                f"them; two Nextclouds on one machine are two inventory hosts with the same ansible_host."
            )
        else:
            group = said[0] if said else same[0]
            chosen[group] = minimal[group]
    return chosen


def _orphan(host: str, candidates: Mapping[str, list[str]], minimal: Mapping[str, list[str]]) -> str:
    """Say why a host of `nextcloud` belongs to no instance."""
    for group, hosts in candidates.items():
        if host in hosts:
            smaller = next(name for name, part in minimal.items() if set(part) < set(hosts))
            return (
                f"The host {host} is in the group {group} but in no instance: {group} also holds the hosts of the "
                f"smaller group {smaller}, which therefore is the instance. Put {host} into a group of its own, or "
                f"move {smaller} out of {PARENT}."
            )
    return (
        f"The host {host} is in the group {PARENT} but in no instance group, expected a group for its Nextcloud below "
        f"{PARENT}, whose name is its id: add it under {PARENT}: children:."
    )


def read_instance(group: str, hosts: list[str], variables: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the instance of a group, and what is wrong with its name and its `talk_*` variables."""
    problems = _id_problems(group)
    said = {name: variables[name] for name in READ if name in variables and variables[name] not in (None, "")}

    def number(name: str, low: int, high: int | None, expected: str, default: int | None) -> int | None:
        value = said.get(name, default)
        if value is default:
            return default
        if not isinstance(value, bool) and isinstance(value, (int, str)) and _DIGITS.fullmatch(str(value).strip()):
            found = int(value)
            # The default stands for no limit, and so may be less than the least one.
            if found == default or low <= found and (high is None or found <= high):
                return found
        problems.append(f"{name} is {_shown(value)} for the instance {group}, expected {expected}: correct it.")
        return default

    def flag(name: str, default: bool) -> bool:
        try:
            return boolean(said.get(name, default))
        except TypeError:
            problems.append(
                f"{name} is {_shown(said[name])} for the instance {group}, expected true or false: correct it."
            )
            return default

    state = said.get("talk_state", "present")
    if state not in STATES:
        problems.append(
            f"talk_state is {_shown(state)} for the instance {group}, expected present or absent: correct it, "
            f"or remove the variable."
        )
    urls = _urls(group, hosts[0], said, problems)
    bitrate = f"bit/s from {BITRATES[0]} to {BITRATES[1]}, for example 2097152 (2 Mbit/s)"
    sessions = f"a whole number from {SESSIONS}, as a call of two has so many sessions, or 0 for no limit"
    instance = {
        "id": str(group),
        "host": str(hosts[0]),
        "hosts": [str(host) for host in hosts],
        "url": urls[0] if urls else "",
        "urls": urls,
        "session_limit": number("talk_session_limit", SESSIONS, None, sessions, 0),
        "stream_bitrate": number("talk_stream_bitrate", *BITRATES, bitrate, None),
        "screen_bitrate": number("talk_screen_bitrate", *BITRATES, bitrate, None),
        "register": flag("talk_register", True),
        "optional": flag("talk_optional", False),
        "state": str(state),
        "urls_from_nextcloud": flag("talk_urls_from_nextcloud", False),
    }
    return instance, problems


def _id_problems(group: str) -> list[str]:
    if not _ID.fullmatch(group):
        return [
            f"The group {group} cannot be an instance, expected a name of letters, digits and _ since it is the id in "
            f"the signaling server's configuration: rename it, for example to {re.sub('[^A-Za-z0-9_]', '_', group)}."
        ]
    if group.lower() in SECTIONS:
        return [
            f"The group {group} cannot be an instance, since the signaling server's configuration has a section of "
            f"that name; expected any other name: rename it, for example to {group}_nc."
        ]
    return []


def _urls(group: str, host: str, said: Mapping[str, Any], problems: list[str]) -> list[str]:
    """Return the normalized URLs of an instance, the main one first."""
    further = said.get("talk_urls", [])
    if isinstance(further, str):
        further = names(further)
    if isinstance(further, Mapping) or not isinstance(further, Iterable):
        problems.append(
            f"talk_urls is {_shown(further)} for the instance {group}, expected a list of URLs: correct it."
        )
        further = []
    given = [("talk_url", said["talk_url"])] if "talk_url" in said else []
    urls: list[str] = []
    if not given:
        try:
            urls.append(f"https://{normalize_host(host)}")
        except UrlError as error:
            problems.append(
                f"The instance {group} has no talk_url, and its first host {host} cannot be in a URL (it {error}): "
                f"set talk_url for it."
            )
    for name, url in [*given, *(("talk_urls", url) for url in further)]:
        try:
            urls.append(normalize_url(str(url)))
        except UrlError as error:
            problems.append(f"{name} of the instance {group}: {url} {error}.")
    return list(dict.fromkeys(urls))


def _collisions(instances: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a problem for each id (ignoring case) and each URL that two instances share."""
    problems = []
    by_id: dict[str, str] = {}
    by_url: dict[str, str] = {}
    for instance in instances:
        other = by_id.setdefault(instance["id"].lower(), instance["id"])
        if other != instance["id"]:
            problems.append(
                f"The groups {_and(sorted([other, instance['id']]))} differ in capital letters only, expected "
                f"different names since the signaling server ignores them: rename one."
            )
        for url in instance["urls"]:
            other = by_url.setdefault(url, instance["id"])
            if other != instance["id"]:
                problems.append(
                    f"The instances {other} and {instance['id']} have the same URL {url}, expected one instance for "
                    f"each Nextcloud: correct talk_url of one of them, or remove one."
                )
    return problems


def _narrowing(only: list[str], remove: list[str], known: list[str]) -> list[str]:
    """Return what is wrong with -e instance=... and -e remove=..."""
    unknown = [name for name in only if name not in known and name not in remove]
    problems = [
        f"instance={name} names no instance of the inventory, expected one of {', '.join(sorted(known)) or '(none)'}: "
        f"correct the name."
        for name in unknown
    ]
    if only and not set(remove) <= set(only):
        problems.append(
            f"instance={','.join(only)} narrows the run, but remove={','.join(remove)} asks for others as well, "
            f"expected the same names in both: leave one of them out."
        )
    return problems


def order(instances: Iterable[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the instances by id, but each URL before every URL that is the beginning of it, and what prevents that.

    The signaling server takes the first URL in its list that a request's URL starts with.
    """
    waiting = sorted(instances, key=lambda instance: (instance["id"].lower(), instance["id"]))
    done: list[dict[str, Any]] = []
    while waiting:
        ready = next((one for one in waiting if not any(_before(other, one) for other in waiting)), None)
        if ready is None:
            stuck = [one["id"] for one in waiting]
            return done + waiting, [
                f"The URLs of {_and(stuck)} lie below each other in both directions, expected an order in which the "
                f"longer path comes first: remove some of their talk_urls."
            ]
        waiting.remove(ready)
        done.append(ready)
    return done, []


def _before(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Say whether `first` has a URL that would be taken for one of `second` if `second` came first."""
    return first is not second and any(covers(short, long) for short in second["urls"] for long in first["urls"])


def _shown(value: Any) -> str:
    text = f"'{value}'" if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _and(items: Sequence[str]) -> str:
    return _joined(items, "and")


def _or(items: Sequence[str]) -> str:
    return _joined(items, "or")


def _joined(items: Sequence[str], word: str) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {word} {items[-1]}"
