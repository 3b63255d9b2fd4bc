# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the five programs reach each other: on the host's own network, or on two private networks of Docker's.

In the profile `bridge` the network `core` is internal (Docker gives it no way in or out, Engine API, Internal): NATS
and Janus are on it alone. The network `edge` is for those that are reached from outside or call others: Traefik, coturn
and the signaling server, the latter two on both. Every address is fixed, since configurations name them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

PROFILES = ("host", "bridge")
LOOPBACK = "127.0.0.1"
NAMES = {"edge": "hpb-edge", "core": "hpb-core"}
# The places in a network behind the gateway, which is the host itself.
PROGRAMS = ("nats", "janus", "coturn", "signalling", "traefik")
MEMBERS = {"edge": ("coturn", "signalling", "traefik"), "core": ("nats", "janus", "coturn", "signalling")}
# One half has to hold the network's own address, the gateway, five programs and the broadcast address.
LONGEST_PREFIX = 28
# The signaling server takes events of Janus from private addresses only (sfu/janus/events_handler.go).
PRIVATE = tuple(ipaddress.ip_network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))


class AddressError(ValueError):
    """What was asked for cannot work; the message is for the user."""


def problems(profile: str, subnet: str) -> list[str]:
    """Return a sentence for each value that cannot work, none when both can. The subnet counts for `bridge` only."""
    if profile not in PROFILES:
        return [
            f"hpb_network_profile is '{profile}', expected host (all programs on the host's network) or bridge "
            "(private networks, all media through TURN): set one of them for the group hpb."
        ]
    if profile == "host":
        return []
    wanted = (
        "expected a network of private IPv4 addresses with at least 16 of them, such as 172.31.254.0/24, that nothing "
        "else uses: correct it for the group hpb."
    )
    try:
        network = ipaddress.ip_network(subnet)
    except ValueError as error:
        return [f"hpb_bridge_subnet is '{subnet}' ({error}), {wanted}"]
    if network.version != 4 or network.prefixlen > LONGEST_PREFIX:
        return [f"hpb_bridge_subnet is {subnet}, {wanted}"]
    if not any(network.subnet_of(private) for private in PRIVATE):
        return [f"hpb_bridge_subnet is {subnet}, which is not private, {wanted}"]
    return []


def addresses(
    profile: str, subnet: str, media_ip: str, media_ip6: str = "", called: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return the addresses of the programs.

    :param media_ip: the host's address for media, empty while it is not known.
    :param media_ip6: the same for IPv6, empty for none.
    :param called: what the networks are called in the engine, by their names in `NAMES`, where that is another name.
    :returns: ``core`` and ``edge`` ({program: address}, with ``host`` for how the programs see the host itself),
        ``media`` (of Janus for media, the one peer that coturn relays to), ``media6`` (the same for IPv6, empty for
        none, as on private networks), ``neighbours6`` (first and last address of its network, with a dash), ``web``
        (where the host reaches Traefik),
        ``networks`` (each with name, subnet, gateway and internal), ``interfaces`` (of the host, by the names of the
        networks), and ``places`` ({program: its networks, each with name and ipv4_address}, the one with its way out
        first); all empty when Docker's networks are not used.
    :raises AddressError: when `problems` has something to say.
    """
    found_problems = problems(profile, subnet)
    if found_problems:
        raise AddressError(found_problems[0])
    if profile == "host":
        local = dict.fromkeys((*PROGRAMS, "host"), LOOPBACK)
        own = {**local, "coturn": media_ip}
        media = {"media": media_ip, "media6": short6(media_ip6), "neighbours6": neighbours6(media_ip6)}
        return {"core": own, "edge": own, **media, "web": LOOPBACK, "networks": [], "interfaces": {}, "places": {}}
    halves = dict(zip(NAMES, ipaddress.ip_network(subnet).subnets()))
    found: dict[str, Any] = {"networks": [], "interfaces": {}, "places": {}}
    for half, network in halves.items():
        gateway = network.network_address + 1
        places = {name: str(gateway + 1 + PROGRAMS.index(name)) for name in MEMBERS[half]}
        found[half] = {**places, "host": str(gateway)}
        called_now = (called or {}).get(NAMES[half], NAMES[half])
        described = {"name": called_now, "subnet": str(network), "gateway": str(gateway), "internal": half == "core"}
        found["networks"].append(described)
        found["interfaces"][called_now] = NAMES[half]
        for name, address in places.items():
            found["places"].setdefault(name, []).append({"name": called_now, "ipv4_address": address})
    # A published port is reached at the host's own address also where Docker runs no proxy for the loopback.
    return {**found, "media": found["core"]["janus"], "media6": "", "neighbours6": "", "web": media_ip or LOOPBACK}


def short6(text: str) -> str:
    """Return an IPv6 address in its shortest form, as Janus compares it; what is none stays for the preflight."""
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        return text


def neighbours6(text: str) -> str:
    """Return the range of addresses that share the network of an IPv6 address, "" when it is none.

    Machines in a LAN have global addresses there, which only a router's firewall keeps apart from the internet. In a
    network that machines are in, the last 64 bits tell them apart (RFC 7421).
    """
    try:
        network = ipaddress.IPv6Network((text, 64), strict=False)
    except ValueError:
        return ""
    return f"{network[0]}-{network[-1]}"
