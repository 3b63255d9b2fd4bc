#!/usr/bin/python
# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judge whether a host can run the backend, before anything on it is changed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_preflight
short_description: Judge whether a host can run the backend
version_added: 0.1.0
description:
  - Reads from the host everything that later steps need to know and everything that could make them fail.
    One round trip, nothing is changed.
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
attributes:
  check_mode:
    support: full
    description: Reads only.
  diff_mode:
    support: none
    description: Changes nothing.
  idempotent:
    support: full
    description: Reads only.
options:
  names:
    description: Names that must resolve to this host.
    type: list
    elements: str
    required: true
  public_ip:
    description: Public address of this host when it is behind NAT.
    type: str
    default: ""
  media_ip:
    description: Address of this host for media. Empty means the one that packets to the outside leave with.
    type: str
    default: ""
  media_ip6:
    description:
      - IPv6 address of this host for media. Empty means none.
      - V(auto) means a global one of the interface that leads to the internet, or none where there is none. It must be
        configured for good. One that a router lends for a time, and a temporary one, are not taken.
    type: str
    default: auto
  media_names:
    description: Those of O(turn_names) that must lead to the addresses for media, since nothing listens at others.
    type: list
    elements: str
    default: []
  turn_names:
    description: Those of O(names) at which STUN and TURN are looked for. A proxy in the internet is no good for them.
    type: list
    elements: str
    default: []
  variables:
    description: Which variable of the inventory has which of O(names), for what is said of them.
    type: dict
    default: {}
  cdn:
    description: Networks of proxies in the internet (CDNs) beside those that are published.
    type: list
    elements: str
    default: []
  tcp_ports:
    description: TCP ports that must be free or ours.
    type: list
    elements: int
    default: []
  udp_ports:
    description: UDP ports that must be free or ours.
    type: list
    elements: int
    default: []
  used_ports:
    description: All ports of the backend with what they are for, as the variable C(hpb_used_ports) of the role C(hpb).
    type: dict
    default: {}
  ranges:
    description: Ranges of UDP ports for media, which the kernel must not give to outgoing connections.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: What the range is called in a problem.
        type: str
        required: true
      first:
        description: Its first port.
        type: int
        required: true
      last:
        description: Its last port.
        type: int
        required: true
  subnet:
    description: Network that private networks of Docker's are made of. Empty means that there will be none.
    type: str
    default: ""
  min_free_mb:
    description: MiB that must be free in O(base_dir) and in Docker's directory.
    type: int
    default: 2048
  base_dir:
    description: Directory of the backend. Its C(deployed.json) and C(secrets/secrets.json) are looked for.
    type: path
    required: true
  listen:
    description: Addresses that the signaling server will listen on, which must be this host's.
    type: list
    elements: str
    default: []
  server:
    description: Address and port at which a signaling server of ours that runs is asked what it is. Empty, none is.
    type: str
    default: ""
  proxy_network:
    description: Docker network in which the container O(proxy_container) is looked for.
    type: str
    default: ""
  proxy_container:
    description: Container of a reverse proxy that runs in Docker on this host. Empty for none.
    type: str
    default: ""
  containers:
    description: Names of the containers that there are to be, without their prefix.
    type: list
    elements: str
    default: []
  container_prefix:
    description: What stands before the names of our containers in the engine.
    type: str
    default: ""
  units:
    description: Names of the units of systemd that there are to be.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Look at the host
  nextcloud_talk.hpb.host_preflight:
    names: [talk.example.org, turn.example.org]
    tcp_ports: [80, 443, 3478]
    udp_ports: [3478]
    base_dir: /opt/nextcloud-talk-hpb
"""

RETURN = r"""
problems:
  description: One sentence for each thing that must be mended first; empty when the host is fit.
  type: list
  elements: str
  returned: success
notes:
  description: One sentence for each thing that stops nothing and that somebody will stumble over.
  type: list
  elements: str
  returned: success
engine:
  description: Version of the Docker engine, empty when there is none.
  type: str
  returned: success
engine_userns:
  description: Whether the engine gives containers other users than the host's, unless they ask for them (userns-remap).
  type: bool
  returned: success
containers:
  description: When each of our running containers was started, by name without its prefix.
  type: dict
  returned: success
server:
  description:
    - What the signaling server that runs says of itself - its C(version) and C(features) - and what follows from that,
      C(takes_events), whether it takes Janus' events, and C(has_janus), whether it is connected to Janus. Empty when
      none of ours runs or it does not answer.
  type: dict
  returned: success
images:
  description: The image that each of our running containers was made of, as it was named, by name without its prefix.
  type: dict
  returned: success
settled:
  description:
    - With what they were deployed (a digest), by name without prefix, of those of our containers that are healthy,
      beside which no killed run has left anything, and that are in every respect as they were found then, see
      M(nextcloud_talk.hpb.container_record).
  type: dict
  returned: success
settings:
  description:
    - Digest of the settings with which the host is as deployed, as M(nextcloud_talk.hpb.container_record) has it.
      Empty when that is not known for certain.
  type: str
  returned: success
networks:
  description: Names of our networks in the Docker engine.
  type: list
  elements: str
  returned: success
network_names:
  description: What our networks are to be called in the Docker engine, by their names without a prefix.
  type: dict
  returned: success
engine_packages:
  description: Packages of this distribution that hold the Docker engine and its command line.
  type: list
  elements: str
  returned: success
requests:
  description: Whether the Python library is there that community.docker needs on the host.
  type: bool
  returned: success
cryptography:
  description: Whether the Python library is there that makes certificates on the host.
  type: bool
  returned: success
architecture:
  description: Architecture as the kernel names it, such as V(x86_64).
  type: str
  returned: success
cpus:
  description: Number of processors.
  type: int
  returned: success
media_ip:
  description: Address of this host for media.
  type: str
  returned: success
media_ip6:
  description: IPv6 address of this host for media, empty for none.
  type: str
  returned: success
proxy:
  description:
    - Where O(proxy_container) is - its C(address) in the network, the host's address there (C(gateway)), and whether
      the former is C(fixed). Empty when none was asked for or it was not found.
  type: dict
  returned: success
deployed:
  description: What was deployed last, as kept in C(deployed.json). Empty on a bare host.
  type: dict
  returned: success
secrets_exist:
  description: Whether there is a file of secrets.
  type: bool
  returned: success
"""

import importlib.util  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import platform  # noqa: E402
import shutil  # noqa: E402
import socket  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import (  # noqa: E402
    _addresses,
    _dns,
    _engine,
    _evidence,
    _fallback,
    _features,
    _internet,
    _ipv6,
    _names,
    _ours,
    _preflight,
    _record,
)

UNITS = Path("/etc/systemd/system")
# For the answer of a program on this host.
SECONDS = 5


def engine(module: AnsibleModule) -> tuple[str, str]:
    """Return (version, "") of the engine, ("", "") when none is installed, ("", error) when it does not answer."""
    docker = shutil.which("docker")
    if docker is None:
        return "", ""
    code, out, err = module.run_command([docker, "version", "--format", "{{.Server.Version}}"])
    return (out.strip(), "") if code == 0 else ("", err.strip().splitlines()[-1] if err.strip() else "no answer")


def settled(module: AnsibleModule, containers: dict[str, dict], record: dict[str, dict], base: Path) -> dict[str, str]:
    """Return with what those were deployed that are as recorded, and beside which no killed run has left anything."""
    candidates = {
        service: one
        for service, one in containers.items()
        if service in record and not _fallback.Kept(base / service).there()
    }
    return _record.settled(record, _record.fingerprints(module.run_command, candidates, base))


def server(place: str, containers: dict[str, dict]) -> dict[str, Any]:
    """Return what a signaling server of ours says of itself at this address and port; {} when none of ours answers."""
    address, _colon, port = place.rpartition(":")
    if not address or "signalling" not in containers:
        return {}
    answer = _evidence.local(int(port), "/api/v1/welcome", SECONDS, address)
    return _features.server(answer["body"], _evidence.features(answer["headers"])) if answer["status"] == 200 else {}


def networks_wanted(subnet: str) -> dict[str, str]:
    """Return the subnets of our networks by their names, {} when there are to be none."""
    if not subnet or _addresses.problems("bridge", subnet):
        return {}
    return {one["name"]: one["subnet"] for one in _addresses.addresses("bridge", subnet, "")["networks"]}


def directories(base: Path) -> dict[str, list[str]]:
    """Return which directories are below ours with what is in them, {} when something says that they are ours."""
    if any((base / name).exists() for name in _ours.RECORDS):
        return {}
    there = [base / name for name in _ours.DIRECTORIES if (base / name).is_dir()]
    return {path.name: [entry.name for entry in path.iterdir()] for path in there}


def seat(module: AnsibleModule, network: str, container: str) -> tuple[dict, str]:
    """Return (where the proxy's container is in the Docker network, "") or ({}, why that is not known)."""
    if not container:
        return {}, ""
    if shutil.which("docker") is None:
        return {}, f"There is no Docker on this host, expected the container {container} (hpb_proxy_container) in it."
    _code, out, _err = module.run_command(["docker", "container", "inspect", container])
    return _preflight.seat(out, network, container)


def free_mb(path: Path) -> int:
    """Return the MiB that are free where `path` is or will be."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free // (1024 * 1024)


def read_deployed(module: AnsibleModule, path: Path) -> dict:
    """Return what was deployed last; an empty dictionary when nothing was."""
    try:
        deployed = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(deployed, dict):
            raise ValueError("not a JSON object")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        module.fail_json(
            msg=f"{path} was expected to be the JSON file that remembers what is deployed, but it cannot be read "
            f"({error}): restore it from a backup, or move it away; the next run then takes the inventory as new."
        )
    return deployed


def media_ip6(wanted: str, addresses: str) -> str:
    """Return the IPv6 address for media in its shortest form, "" for none; what is stated may be wrong."""
    if wanted != _ipv6.AUTO:
        return str(_ipv6.parsed(wanted) or wanted)
    found = _ipv6.media_address(addresses, table("ipv6_route"))
    return found if found and _preflight.is_local(found) else ""


def look_up(names: list[str], further: list[str]) -> tuple[dict[str, list[str]], dict[str, dict]]:
    """Return where the names lead, and those that the host itself answers for, as `_names` takes both."""
    hosts = Path("/etc/hosts")
    pinned = _evidence.pinned(hosts.read_text(encoding="utf-8", errors="replace")) if hosts.is_file() else {}
    # Nobody asks a name server for localhost (RFC 6761).
    own, servers = {*pinned, socket.gethostname().lower()} - {"localhost"}, _dns.resolvers()
    addresses, hidden = {}, {}
    for name in names:
        addresses[name] = answers = _preflight.resolve(name)
        if not answers or name.lower() not in own:
            continue
        records = _dns.look_up(name, servers)
        outside = [address for address, _seconds in records or [] if not _internet.is_loopback(address)]
        # A name server that answers with the loopback has read the hosts file as well.
        known = records is not None and (outside or not records)
        hidden[name] = {"answers": answers, "dns": outside if known else None}
        addresses[name] = _names.seen(answers, hidden[name]["dns"], further)
    return addresses, hidden


def table(name: str) -> str:
    """Return a table of the kernel's in /proc/net, "" where it has none."""
    path = Path("/proc/net", name)
    return path.read_text(encoding="ascii") if path.exists() else ""


def main() -> None:
    """Read the host, judge it, return both."""
    span = {
        name: {"type": kind, "required": True} for name, kind in {"name": "str", "first": "int", "last": "int"}.items()
    }
    module = AnsibleModule(
        argument_spec={
            "names": {"type": "list", "elements": "str", "required": True},
            "public_ip": {"type": "str", "default": ""},
            "media_ip": {"type": "str", "default": ""},
            "media_ip6": {"type": "str", "default": "auto"},
            "media_names": {"type": "list", "elements": "str", "default": []},
            "turn_names": {"type": "list", "elements": "str", "default": []},
            "variables": {"type": "dict", "default": {}},
            "cdn": {"type": "list", "elements": "str", "default": []},
            "tcp_ports": {"type": "list", "elements": "int", "default": []},
            "udp_ports": {"type": "list", "elements": "int", "default": []},
            "used_ports": {"type": "dict", "default": {}},
            "ranges": {"type": "list", "elements": "dict", "default": [], "options": span},
            "subnet": {"type": "str", "default": ""},
            "min_free_mb": {"type": "int", "default": 2048},
            "base_dir": {"type": "path", "required": True},
            "listen": {"type": "list", "elements": "str", "default": []},
            "server": {"type": "str", "default": ""},
            "proxy_network": {"type": "str", "default": ""},
            "proxy_container": {"type": "str", "default": ""},
            "containers": {"type": "list", "elements": "str", "default": []},
            "container_prefix": {"type": "str", "default": ""},
            "units": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    base = Path(wanted["base_dir"])
    version, error = engine(module)
    kind = _engine.look(shutil.which("docker"), os.environ)
    release = _preflight.os_release(Path("/etc/os-release").read_text(encoding="utf-8"))
    addresses, hidden = look_up(wanted["names"], wanted["cdn"])
    media_ip = wanted["media_ip"] or _preflight.default_address()
    inet6 = table("if_inet6")
    address6 = media_ip6(wanted["media_ip6"], inet6)
    proxy, proxy_error = seat(module, wanted["proxy_network"], wanted["proxy_container"])
    known = {media_ip, address6, wanted["public_ip"], *wanted["listen"]}
    known |= {address for found in addresses.values() for address in found}
    record = _record.parse(_record.content(base))
    claim = _ours.Claim(
        wanted["containers"],
        wanted["container_prefix"],
        str(base),
        networks_wanted(wanted["subnet"]),
        sorted(record["containers"]),
    )
    entries = _preflight.inspected(module.run_command, "container", ["ps", "--all"]) if version else []
    everything = [_ours.Container.of(entry) for entry in entries]
    networks = (
        [_ours.Network.of(one) for one in _preflight.inspected(module.run_command, "network", ["network", "ls"])]
        if version
        else []
    )
    containers = {
        one.service: entry
        for one, entry in zip(everything, entries)
        if claim.is_ours(one) and one.running and not one.kept
    }
    taken = _preflight.foreign(
        {"tcp": wanted["tcp_ports"], "udp": wanted["udp_ports"]},
        {one["State"]["Pid"] for one in containers.values()},
        {port for one in containers.values() for port in _preflight.held_ports(one)},
    )
    facts = {
        "architecture": platform.machine(),
        "distribution": release.get("ID", "unknown"),
        "release": release.get("VERSION_ID", "unknown"),
        "root": os.geteuid() == 0,
        "engine": version,
        "engine_error": error,
        "engine_problem": _engine.problem(kind, str(base), error),
        "inside": _engine.inside(),
        "running": bool(containers),
        "free_mb": {str(path): free_mb(path) for path in (base, Path(kind.root or "/var/lib/docker"))},
        "addresses": addresses,
        "hidden": hidden,
        "own": _evidence.host_addresses(table("fib_trie"), inet6),
        "local": {address: _preflight.is_local(address) for address in known if address},
        "media_ip": media_ip,
        "media_ip6": address6,
        "own_ip6": [one.text for one in _ipv6.own_addresses(inet6)],
        "proxy_error": proxy_error,
        "taken": _preflight.held_by(taken, [entry for entry in entries if (entry.get("State") or {}).get("Running")]),
        "busy": _preflight.busy(taken),
        "ephemeral": _preflight.ephemeral(),
        "overlapping": _preflight.overlapping(
            wanted["subnet"], _preflight.routes(table("route")), [one.interface for one in networks if one.ours]
        ),
        "strangers": [
            *claim.problems(everything, networks, [name for _index, name in socket.if_nameindex()]),
            *_ours.directory_problems(str(base), directories(base)),
            *_ours.unit_problems(_ours.unit_files(UNITS, _ours.UNITS), str(base), wanted["units"]),
        ],
    }
    module.exit_json(
        changed=False,
        problems=_preflight.problems(facts, wanted),
        notes=[*_preflight.notes(facts, wanted), *claim.notes(everything)],
        engine=version,
        engine_userns=kind.remaps,
        containers={name: one["State"]["StartedAt"] for name, one in containers.items()},
        server=server(wanted["server"], containers),
        images={name: _record.image_of(one) for name, one in containers.items()},
        settings=_record.settings(record, base),
        settled=settled(module, containers, record["containers"], base),
        networks=sorted(one.name for one in networks if one.ours),
        network_names=_ours.network_names(networks, claim.networks, claim.prefix),
        engine_packages=_preflight.engine_packages(facts["distribution"], facts["release"]),
        requests=importlib.util.find_spec("requests") is not None,
        cryptography=importlib.util.find_spec("cryptography") is not None,
        architecture=facts["architecture"],
        cpus=os.cpu_count() or 1,
        media_ip=media_ip,
        media_ip6=address6,
        proxy=proxy,
        deployed=read_deployed(module, base / "deployed.json"),
        secrets_exist=(base / "secrets" / "secrets.json").exists(),
    )


if __name__ == "__main__":
    main()
