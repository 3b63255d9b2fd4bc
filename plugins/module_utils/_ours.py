# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which containers, networks, directories and units of a host are ours. Nothing here asks the host.

A container of ours has the label `LABEL` with the name of its service, such as nats. In the engine it is called like
its service, with a prefix where the host is given one, and NAME-previous while its successor is tried. So one is ours
that

- has that label, and a name that ends with it: an image may be made of a container, labels included; and
- has the name that is wanted now, or the configuration of that service below our directory: then it is ours under
  another prefix. One with neither belongs to another backend on this host.

Whatever else is in an engine is somebody else's, however it is called.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LABEL = "nextcloud-talk.hpb"
PREVIOUS = "previous"
PREFIX = "hpb_container_prefix"
SERVICES = ("nats", "janus", "coturn", "coturn443", "signalling", "traefik")
# What is proposed as a prefix; the first one that leads to free names.
PROPOSED = ("hpb-", "talk-", "nextcloud-talk-hpb-")


def previous_name(name: str) -> str:
    """Return the name that a container has while another one is tried under its own."""
    return f"{name}-{PREVIOUS}"


@dataclass(frozen=True)
class Container:
    """A container of the engine: `image` is what it was made of, as it was named; `image_id` is what that was.

    `restarts`: whether the engine starts it by itself. `project` is that of docker compose, "" for none. `mounts` are
    the host's directories that it has.
    """

    name: str
    label: str = ""
    image: str = ""
    image_id: str = ""
    running: bool = False
    restarts: bool = False
    id: str = ""
    project: str = ""
    mounts: tuple[str, ...] = ()

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Container:
        """Return a container as ``docker container inspect`` describes it (Engine API, ContainerInspect)."""
        config, host = entry.get("Config") or {}, entry.get("HostConfig") or {}
        labels = config.get("Labels") or {}
        return cls(
            name=str(entry.get("Name", "")).lstrip("/"),
            label=str(labels.get(LABEL) or ""),
            image=str(config.get("Image") or ""),
            image_id=str(entry.get("Image") or ""),
            running=bool((entry.get("State") or {}).get("Running")),
            restarts=(host.get("RestartPolicy") or {}).get("Name", "") not in {"", "no"},
            id=str(entry.get("Id") or ""),
            project=str(labels.get("com.docker.compose.project") or ""),
            mounts=tuple(str(bind).split(":", 1)[0] for bind in host.get("Binds") or []),
        )

    @classmethod
    def listed(cls, entry: Mapping[str, Any]) -> Container:
        """Return a container as the engine lists it (Engine API, ContainerList): its own name comes first."""
        labels = entry.get("Labels") or {}
        return cls(
            name=str((entry.get("Names") or [""])[0]).lstrip("/"),
            label=str(labels.get(LABEL) or ""),
            image=str(entry.get("Image") or ""),
            running=entry.get("State") == "running",
            id=str(entry.get("Id") or ""),
            mounts=tuple(str(mount.get("Source") or "") for mount in entry.get("Mounts") or []),
        )

    @property
    def kept(self) -> bool:
        """Whether it has the name of one whose successor is tried."""
        return self.name.endswith(f"-{PREVIOUS}")

    @property
    def service(self) -> str:
        """Return the service that it runs, "" when this collection has not made it."""
        called = self.name.removesuffix(f"-{PREVIOUS}")
        return self.label if self.label and called.endswith(self.label) else ""

    def is_ours(self, name: str, directory: str) -> bool:
        """Whether it is ours for the service of `directory`, of which `name` is what it is to be called."""
        if not self.service or self.service != Path(directory).name:
            return False
        return self.name in (name, previous_name(name)) or str(Path(directory, "config")) in self.mounts

    def __str__(self) -> str:
        """Return what a user knows it by."""
        project = f", compose project {self.project}" if self.project else ""
        return f"{self.name} (image {self.image}{project}, {'running' if self.running else 'not running'})"


def entries(text: str) -> list[dict[str, Any]]:
    """Return what ``docker container inspect`` printed, [] when that is nothing."""
    try:
        found = json.loads(text or "[]")
    except ValueError:
        return []
    return found if isinstance(found, list) else []


@dataclass(frozen=True)
class Network:
    """A network of the engine, its interface on the host, and the names of the containers that are in it."""

    name: str
    ours: bool = False
    subnets: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    interface: str = ""

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Network:
        """Return a network as ``docker network inspect`` describes it (Engine API, NetworkInspect)."""
        configs = (entry.get("IPAM") or {}).get("Config") or []
        return cls(
            name=str(entry.get("Name") or ""),
            ours=LABEL in (entry.get("Labels") or {}),
            subnets=tuple(str(one.get("Subnet") or "") for one in configs),
            members=tuple(sorted(str(one.get("Name")) for one in (entry.get("Containers") or {}).values())),
            interface=str((entry.get("Options") or {}).get("com.docker.network.bridge.name") or ""),
        )


def network_names(networks: Iterable[Network], wanted: Mapping[str, str], prefix: str) -> dict[str, str]:
    """Return what each of our networks is called: as it is, where there is one, since Docker renames none.

    `wanted` are their subnets by their names without a prefix, and so is the result.
    """
    there = {
        name: one.name
        for name, subnet in wanted.items()
        for one in networks
        if one.ours and one.name.endswith(name) and subnet in one.subnets
    }
    return {name: there.get(name, prefix + name) for name in wanted}


@dataclass
class Claim:
    """What of a host is to be ours: `services` by name, all below the directory `base`, called with `prefix`.

    `networks`: subnets of our networks by their names without a prefix. `recorded`: services that were deployed before.
    """

    services: Sequence[str]
    prefix: str
    base: str
    networks: Mapping[str, str]
    recorded: Iterable[str] = ()

    def is_ours(self, one: Container) -> bool:
        """Whether a container is ours, whichever of our services it runs."""
        return bool(one.service) and one.is_ours(self.prefix + one.service, str(Path(self.base, one.service)))

    def present(self, containers: Iterable[Container]) -> dict[str, list[Container]]:
        """Return our containers by service, those that are kept while a successor is tried left out."""
        found: dict[str, list[Container]] = {}
        for one in containers:
            if self.is_ours(one) and not one.kept:
                found.setdefault(one.service, []).append(one)
        return found

    def strangers(self, containers: Iterable[Container]) -> tuple[list[Container], list[Container]]:
        """Return the containers of others that have names of ours, and those that have names of ones that are kept."""
        names = [self.prefix + service for service in self.services]
        there = sorted((one for one in containers if not self.is_ours(one)), key=lambda one: one.name)
        kept = [previous_name(name) for name in names]
        return [one for one in there if one.name in names], [one for one in there if one.name in kept]

    def proposal(self, containers: Iterable[Container], networks: Iterable[Network]) -> str:
        """Return a prefix with which all names are free or ours."""
        taken = {one.name for one in containers if not self.is_ours(one)} | {one.name for one in networks}
        for prefix in PROPOSED:
            names = [prefix + name for name in (*self.services, *self.networks)]
            if prefix != self.prefix and not taken & {*names, *map(previous_name, names)}:
                return prefix
        return f"{PROPOSED[-1]}2-"

    def problems(
        self, containers: Sequence[Container], networks: Sequence[Network], interfaces: Iterable[str] = ()
    ) -> list[str]:
        """Return a sentence for whatever of others has a name that ours are to get, and for what is ours twice.

        `interfaces` are the names of the host's.
        """
        taken, kept = self.strangers(containers)
        ours = self.present(containers)
        prefix = self.proposal(containers, networks)
        way = f"set {PREFIX}: {prefix} for the group hpb"
        found = []
        # What of ours runs gets its other name without an end.
        end = "; what runs of ours is renamed, which ends no call." if ours else "."
        if taken:
            called = [prefix + one.name.removeprefix(self.prefix) for one in taken]
            gone = [service for service in self.recorded if service in self.services and service not in ours]
            which = _verb(taken, "that name", "these names")
            found.append(
                f"The {_plural('container', taken)} {_and(taken)} {_verb(taken, 'has', 'have')} the name of one of "
                f"ours and {_verb(taken, 'is', 'are')} not ours, expected {which} free: {way}, so that ours "
                f"{_verb(taken, 'is', 'are')} called {_and(called)} beside {_verb(taken, 'it', 'them')}"
                + (f"; of ours, which were deployed here, {_and(gone)} is gone and is made again" if gone else "")
                + end
            )
        for one in kept:
            name = one.name.removesuffix(f"-{PREVIOUS}")
            found.append(
                f"The container {one} is not ours and has the name that ours called {name} gets while its successor is "
                f"tried, expected that name free: {way}, so that ours are called otherwise{end}"
            )
        found += [
            doubles([one.name for one in several], service) for service, several in sorted(ours.items()) if several[1:]
        ]
        names = network_names(networks, self.networks, self.prefix)
        for one in networks:
            if one.name in names.values() and not one.ours:
                found.append(
                    f"The network {one.name} of Docker's is not ours, expected that name free: {way}, so that ours are "
                    f"called otherwise."
                )
            right = any(one.name == names[name] and subnet in one.subnets for name, subnet in self.networks.items())
            others = sorted(set(one.members) - {container.name for container in containers if self.is_ours(container)})
            if one.ours and others and not right:
                found.append(network_members(one.name, others))
        own = {one.interface for one in networks if one.ours}
        for name in sorted({*self.networks} & {*interfaces} - own):
            found.append(
                f"This host has an interface {name}, which is not ours, expected that name free for a network of ours: "
                f"rename it, or set hpb_network_profile: host."
            )
        return found

    def notes(self, containers: Iterable[Container]) -> list[str]:
        """Return a sentence for each container of others that an earlier release may have set aside."""
        # That knew of no prefix.
        names = {previous_name(service): service for service in SERVICES}
        aside = [one for one in containers if one.name in names and not (one.service or one.running or one.restarts)]
        return [set_aside(one, names[one.name]) for one in sorted(aside, key=lambda one: one.name)]


# Directories below ours, and what some have before anything is deployed: of the playbooks bundle and watch.
DIRECTORIES = (*SERVICES, "ca", "firewall", "proxy", "tls", "watch")
BEFORE = {"janus": {"build"}, "watch": {"authorities.pem", "config.json", "watch.py"}}
# Any of them says that the directory is ours.
RECORDS = ("containers.json", "deployed.json", "secrets/secrets.json")
# Our units: the watcher, what keeps coturn's certificate, and what puts our rules into nftables again.
WATCH_UNITS = ("nextcloud-talk-hpb-watch.service", "nextcloud-talk-hpb-watch.timer")
CERTIFICATE_UNITS = tuple(f"nextcloud-talk-hpb-turn-certificate.{kind}" for kind in ("service", "timer", "path"))
UNITS = (*WATCH_UNITS, *CERTIFICATE_UNITS, "nextcloud-talk-hpb-firewall.service")
# What the first line of each begins with.
UNIT = "# Written by Ansible (nextcloud_talk.hpb."


def directory_problems(base: str, there: Mapping[str, Iterable[str]]) -> list[str]:
    """Return a sentence about directories of others below a directory of which nothing says that it is ours.

    `there`: those of `DIRECTORIES` that are in it, with the names in them.
    """
    foreign = sorted(name for name, inside in there.items() if set(inside) - BEFORE.get(name, set()))
    if not foreign:
        return []
    return [
        f"{base} (hpb_base_dir) has {_and(foreign)} in it, which {_verb(foreign, 'is', 'are')} not ours (there is no "
        f"{RECORDS[0]}, {RECORDS[1]} or {RECORDS[2]} beside), expected a directory of the backend's own: set another "
        f"hpb_base_dir for the group hpb."
    ]


def unit_files(directory: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the units of these names that are in a directory of systemd's, {path: text}; a link is one, too."""
    paths = (directory / name for name in names)
    return {str(path): path.read_text(encoding="utf-8", errors="replace") for path in paths if path.is_file()}


def unit_problem(path: str, units: Mapping[str, str], base: str) -> str:
    """Return the sentence about a unit of `units`, {path: text}, that is called like one of ours and is not, else "".

    What a timer or a path unit starts stands in the service of the same name.
    """
    if not units[path].startswith(UNIT):
        return (
            f"The unit {path} was not written by this collection, expected that name free for one of ours: rename it."
        )
    started = re.search(r"^ExecStart=\S+ (\S+)", units.get(str(Path(path).with_suffix(".service")), ""), re.MULTILINE)
    if started and not started[1].startswith(f"{base}/"):
        return (
            f"The unit {path} starts {started[1]}, which another backend on this host has, not the one below {base} "
            "(hpb_base_dir), expected that name free for one of ours: take it away with that backend's inventory."
        )
    return ""


def unit_problems(units: Mapping[str, str], base: str, names: Iterable[str] = UNITS) -> list[str]:
    """Return a sentence for each of these units that is not ours; `units` are all that are called so, {path: text}."""
    wanted = set(names)
    found = (unit_problem(path, units, base) for path in sorted(units) if Path(path).name in wanted)
    return [problem for problem in found if problem]


def network_members(name: str, others: Sequence[str]) -> str:
    """Return the sentence about containers of others in a network of ours that is to go."""
    return (
        f"The network {name} of ours has the {_plural('container', others)} {_and(others)} in it, which "
        f"{_verb(others, 'is', 'are')} not ours, expected none: take {_verb(others, 'it', 'them')} out with 'docker "
        f"network disconnect {name} {others[0]}', then run this again."
    )


def _and(things: Sequence[Any]) -> str:
    words = [str(thing) for thing in things]
    return " and ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)


def _verb(things: Sequence[Any], one: str, several: str) -> str:
    return several if things[1:] else one


def _plural(word: str, things: Sequence[Any]) -> str:
    return _verb(things, word, f"{word}s")


def set_aside(one: Container, name: str) -> str:
    """Return the sentence about a container of others that an earlier release may have renamed from NAME."""
    return (
        f"The container {one} is not ours, and release 0.1.0 may have renamed and stopped it, which took every "
        f"container called {name} for its own: once none of ours is called so, give it back with 'docker rename "
        f"{one.name} {name}', 'docker update --restart unless-stopped {name}' and 'docker start {name}'."
    )


def stranger(one: Container) -> str:
    """Return the sentence about a container that has the name of one of ours."""
    return (
        f"The container {one} has the name of one of ours and is not ours, expected that name free or ours: it was "
        f"left as it is. Set {PREFIX} for the group hpb, so that ours are called otherwise, and run the same command "
        f"again."
    )


def doubles(names: Sequence[str], service: str) -> str:
    """Return the sentence about containers of ours that run the same service."""
    return (
        f"The containers {' and '.join(sorted(names))} are both {service} of this backend, expected one of them: "
        f"remove the one that is not to stay with 'docker rm --force NAME', and run the same command again."
    )
