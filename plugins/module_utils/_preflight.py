# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host must be to run the backend: reading it from the kernel, and judging it.

The readers ask the kernel (``/proc``) and the resolver and change nothing. `problems` is a pure function
of what they returned.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import re
import socket
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _engine, _holders, _names, _ours, _ports

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
DISTRIBUTIONS = {("debian", "12"), ("debian", "13"), ("ubuntu", "22.04"), ("ubuntu", "24.04")}
_LISTENING = {"tcp": "0A", "udp": "07"}


def os_release(text: str) -> dict[str, str]:
    """Return the fields of /etc/os-release (freedesktop.org os-release) as a dictionary."""
    fields = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals:
            fields[name.strip()] = value.strip().strip("\"'")
    return fields


def sockets(protocol: str, text: str) -> list[tuple[str, int, str]]:
    """Return (hex address, port, inode) of the listening sockets in a /proc/net/{tcp,udp}{,6} table.

    `protocol` is ``tcp`` or ``udp``; the states are those of the kernel's include/net/tcp_states.h.
    """
    found = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and fields[3] == _LISTENING[protocol]:
            address, _colon, port = fields[1].partition(":")
            found.append((address, int(port, 16), fields[9]))
    return found


def listening(protocols: Iterable[str] = ("tcp", "udp")) -> dict[str, dict[int, set[str]]]:
    """Return the inodes of listening sockets by protocol and port, both address families together."""
    table: dict[str, dict[int, set[str]]] = {}
    for protocol in protocols:
        ports: dict[int, set[str]] = table.setdefault(protocol, {})
        for path in (Path(f"/proc/net/{protocol}"), Path(f"/proc/net/{protocol}6")):
            if path.exists():
                for _address, port, inode in sockets(protocol, path.read_text(encoding="ascii")):
                    ports.setdefault(port, set()).add(inode)
    return table


def holders(inodes: set[str]) -> dict[str, int]:
    """Return the process id that holds each of the socket `inodes`; unreadable processes are passed over."""
    found: dict[str, int] = {}
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        for link in _links(process / "fd"):
            match = re.fullmatch(r"socket:\[(\d+)\]", link)
            if match and match.group(1) in inodes:
                found[match.group(1)] = int(process.name)
    return found


def _links(directory: Path) -> list[str]:
    """Return where the links in `directory` point; what vanishes meanwhile or cannot be read is left out."""
    try:
        entries = list(directory.iterdir())
    except OSError:
        return []
    links = []
    for entry in entries:
        with contextlib.suppress(OSError):
            links.append(str(entry.readlink()))
    return links


def parent(pid: int) -> int:
    """Return the parent of process `pid`, 0 when it has none or is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return 0


def descends(pid: int, ancestors: set[int]) -> bool:
    """Whether process `pid` is one of `ancestors` or a descendant of one."""
    while pid > 0:
        if pid in ancestors:
            return True
        pid = parent(pid)
    return False


def process_name(pid: int) -> str:
    """Return the name of process `pid`, or ``process <pid>`` when it cannot be read."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
    except OSError:
        return f"process {pid}"


def foreign(wanted: dict[str, list[int]], ours: set[int], published: Iterable[str] = ()) -> dict[str, int]:
    """Return ``{"tcp/443": pid}`` for each wanted port that a process outside `ours` listens on, 0 for an unknown one.

    `ours` holds the process ids of our containers' first processes. `published` has the ports, as ``tcp/443``, that
    Docker holds for our containers: those are not theirs to listen on.
    """
    table = listening(wanted)
    taken = {}
    for protocol, ports in wanted.items():
        for port in ports:
            if f"{protocol}/{port}" in published:
                continue
            inodes = table[protocol].get(port, set())
            pids = holders(inodes) if inodes else {}
            for inode in inodes:
                pid = pids.get(inode, 0)
                if pid == 0 or not descends(pid, ours):
                    taken[f"{protocol}/{port}"] = pid
    return taken


def held_ports(container: Mapping[str, Any]) -> list[str]:
    """Return the ports that Docker holds for a container, as ``tcp/443``."""
    # Docker says 443/tcp, and each of our ports has the same number on the host.
    return ["/".join(reversed(port.split("/"))) for port in container["HostConfig"].get("PortBindings") or {}]


def held_by(taken: dict[str, int], entries: Iterable[Mapping[str, Any]]) -> dict[str, _holders.Holder]:
    """Return who holds each of the ports that `foreign` returns; `entries` are the engine's running containers."""
    names = {port: process_name(pid) if pid else "" for port, pid in taken.items()}
    return {port: _holders.holder(port, names[port], pid, entries, descends) for port, pid in taken.items()}


def busy(taken: dict[str, int]) -> list[str]:
    """Return all ports on which something listens, as ``tcp/443``; nothing where none of ours is taken."""
    table = listening() if taken else {}
    return [f"{protocol}/{port}" for protocol, ports in table.items() for port in ports]


def inspected(run: Callable[..., tuple[int, str, str]], what: str, listing: list[str]) -> list[dict[str, Any]]:
    """Return the containers or networks that the engine lists, as it describes them; `run` starts a program."""
    code, out, _err = run(["docker", *listing, "--quiet", "--no-trunc"])
    if code != 0 or not out.split():
        return []
    _code, found, _err = run(["docker", what, "inspect", *out.split()])
    return _ours.entries(found)


def routes(text: str) -> list[tuple[str, str]]:
    """Return (interface, network) of the IPv4 routes in a /proc/net/route table, the default ones left out.

    Destination and mask are hexadecimal in the byte order of the processor (the kernel's net/ipv4/fib_trie.c).
    """
    found = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7 and int(fields[7], 16):
            destination, mask = (
                ipaddress.IPv4Address(int(field, 16).to_bytes(4, sys.byteorder)) for field in (fields[1], fields[7])
            )
            found.append((fields[0], str(ipaddress.ip_network(f"{destination}/{mask}", strict=False))))
    return found


def overlapping(subnet: str, known: Iterable[tuple[str, str]], own: Iterable[str]) -> list[tuple[str, str]]:
    """Return those of the `known` routes (interface, network) that `subnet` overlaps with, `own` interfaces left out.

    A subnet that is none overlaps with nothing; that it is none is said elsewhere.
    """
    try:
        wanted = ipaddress.ip_network(subnet)
    except ValueError:
        return []
    others = [(interface, network) for interface, network in known if interface not in set(own)]
    return [(interface, network) for interface, network in others if wanted.overlaps(ipaddress.ip_network(network))]


def ephemeral() -> tuple[str, str]:
    """Return the ports that the kernel gives to outgoing connections, and those that it keeps back, as it says them."""
    settings = Path("/proc/sys/net/ipv4")
    local, reserved = (
        (settings / name).read_text(encoding="ascii").strip()
        for name in ("ip_local_port_range", "ip_local_reserved_ports")
    )
    return local, reserved


def is_local(address: str) -> bool:
    """Whether `address` (IPv4 or IPv6 text) belongs to this host: only then can a socket be bound to it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def default_address() -> str:
    """Return the IPv4 address that packets to the outside leave with, or an empty string. Sends nothing."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))
            return probe.getsockname()[0]
    except OSError:
        return ""


def resolve(name: str) -> list[str]:
    """Return the addresses of host `name` as this host resolves it, empty when it does not."""
    try:
        answers = socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return []
    return sorted({str(answer[4][0]) for answer in answers})


def seat(inspected: str, network: str, container: str) -> tuple[dict, str]:
    """Return where a container is in a Docker network, and "" or why that is not known.

    `inspected` is what `docker container inspect` wrote, ``[]`` for an unknown container. The first is ``{"address",
    "gateway" (the host's address in the network), "fixed" (whether the address is the container's for good)}``, or {}.
    """
    expected = f"expected your proxy running in the Docker network {network} (hpb_proxy_network)"
    try:
        entries = json.loads(inspected)
    except ValueError:
        entries = []
    if not entries:
        return (
            {},
            f"There is no container {container} (hpb_proxy_container), {expected}: correct the name, or start it.",
        )
    networks = (entries[0].get("NetworkSettings") or {}).get("Networks") or {}
    place = networks.get(network)
    if place is None:
        known = ", ".join(sorted(networks)) or "no network"
        return {}, f"The container {container} is in {known}, {expected}: correct one of the two names."
    if not place.get("IPAddress") or not place.get("Gateway"):
        return {}, (
            f"The container {container} has no address in {network}, or the host has none there, {expected}: start it; "
            f"a network that is internal to its containers cannot be used."
        )
    fixed = bool((place.get("IPAMConfig") or {}).get("IPv4Address"))
    return {"address": place["IPAddress"], "gateway": place["Gateway"], "fixed": fixed}, ""


def engine_packages(distribution: str, release: str) -> list[str]:
    """Return the packages that make a Docker engine and its command line on a distribution (os-release ID, VERSION_ID).

    From Debian 13 on the command line is a package of its own, which docker.io only recommends.
    """
    client = ["docker-cli"] if distribution == "debian" and release not in ("", "11", "12") else []
    return ["docker.io", *client, "iptables", "apparmor"]


def problems(facts: dict, wanted: dict) -> list[str]:
    """Judge a host.

    :param facts: ``architecture`` (as uname says), ``distribution`` and ``release`` (os-release ID and
        VERSION_ID), ``root`` (bool), ``engine`` (version, empty: none), ``engine_error`` (what the engine that is
        there answered), ``engine_problem`` (as `_engine.problem` returns it), ``inside`` and ``running`` (as
        `_engine.notes` takes them), ``free_mb`` ({directory: MiB}), what `_names` and `_ipv6` take, ``taken`` and
        ``busy`` (as `_holders.problems` takes them), ``proxy_error`` (as `seat` returns it), ``overlapping`` (as
        `overlapping` returns it), ``ephemeral`` (as `ephemeral` returns it), ``strangers`` (sentences about what has a
        name of ours and is not, as `_ours` has them).
    :param wanted: what `_names` takes, ``min_free_mb`` (MiB), ``listen`` (addresses of the signaling server),
        ``used_ports`` (hpb_used_ports), ``subnet`` (of the private networks, empty: there are none), ``ranges`` (of
        ports for media, each with name, first and last).
    :returns: one sentence for each problem, none when the host is fit.
    """
    found = []
    if not facts["root"]:
        found.append(
            "Ansible acts as an ordinary user on this host, expected root: set ansible_become: true for the group hpb."
        )
    if facts["architecture"] not in ARCHITECTURES:
        found.append(
            f"The processor is {facts['architecture']}, expected one of {', '.join(sorted(ARCHITECTURES))}: "
            "there are no images of the signaling server for others. Use another host."
        )
    if facts["engine_problem"]:
        found.append(facts["engine_problem"])
    elif facts["engine_error"]:
        found.append(
            f"A Docker engine is installed on this host, but does not answer: {facts['engine_error']}. "
            "Start it (systemctl start docker) and run the same command again."
        )
    elif not facts["engine"] and (facts["distribution"], facts["release"]) not in DISTRIBUTIONS:
        found.append(
            f"No Docker engine is on this host and it can be installed by itself only on Debian 12 and 13 and Ubuntu "
            f"22.04 and 24.04, not on {facts['distribution']} {facts['release']}: install Docker there first."
        )
    for directory, free in sorted(facts["free_mb"].items()):
        if free < wanted["min_free_mb"]:
            found.append(
                f"{directory} has {free} MiB free, expected at least {wanted['min_free_mb']}: make room, or set "
                "hpb_min_free_mb if you know that less is enough."
            )
    if not facts["media_ip"]:
        found.append(
            "This host has no IPv4 address towards the outside (no default route): set hpb_media_ip to the address "
            "that clients reach."
        )
    elif not facts["local"].get(facts["media_ip"], False):
        found.append(
            f"hpb_media_ip is {facts['media_ip']}, expected an address of this host: behind NAT that is the private "
            "one, and the public one goes into hpb_public_ip."
        )
    if facts.get("proxy_error"):
        found.append(facts["proxy_error"])
    for address in wanted.get("listen") or []:
        if not facts["local"].get(address, False):
            found.append(
                f"hpb_signaling_address is {address}, expected an address of this host, which your proxy reaches: "
                "correct the variable."
            )
    found.extend(_names.problems(facts, wanted))
    for interface, network in facts["overlapping"]:
        found.append(
            f"hpb_bridge_subnet is {wanted['subnet']}, which overlaps with {network} of the interface {interface}, "
            "expected a network of private addresses that nothing else uses: set another one for the group hpb."
        )
    found.extend(facts["strangers"])
    found.extend(_ports.ephemeral_problems(wanted["ranges"], *facts["ephemeral"]))
    found.extend(_holders.problems(facts["taken"], wanted["used_ports"], facts["busy"]))
    return found


def notes(facts: dict, wanted: dict) -> list[str]:
    """Return one sentence for each thing that stops nothing and that somebody will stumble over; as `problems`."""
    return [*_engine.notes(facts["inside"], facts["running"]), *_names.notes(facts, wanted)]
