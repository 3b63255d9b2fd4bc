# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The IPv6 addresses of a host: which one is for media, and whether the names lead to them.

The readers take the text of a table in ``/proc/net``, empty where the kernel has none because it runs without IPv6.
Nothing is asked and nothing changed.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

AUTO = "auto"
# Flags of an address, the fifth column of if_inet6 (the kernel's include/uapi/linux/if_addr.h).
_TEMPORARY, _DADFAILED, _DEPRECATED, _TENTATIVE, _PERMANENT = 0x01, 0x08, 0x20, 0x40, 0x80
# Flags of a route, the ninth column of ipv6_route (include/uapi/linux/route.h).
_UP, _REJECT = 0x0001, 0x0200
# Addresses that are routed in the internet (RFC 4291), but for those of tunnels: 6to4 and Teredo.
_GLOBAL = ipaddress.ip_network("2000::/3")
_TUNNELS = tuple(ipaddress.ip_network(text) for text in ("2002::/16", "2001::/32"))


class Address(NamedTuple):
    """An address of an interface; `lasting` is one that can be used now and is configured without an end."""

    text: str
    interface: str
    lasting: bool


def own_addresses(table: str) -> list[Address]:
    """Return the host's addresses in /proc/net/if_inet6 that are valid beyond one link, without the loopback's."""
    found = []
    for line in table.splitlines():
        fields = line.split()
        # The fourth column is the scope: 00 is global, private addresses (fc00::/7) included (include/net/ipv6.h).
        if len(fields) < 6 or fields[3] != "00":
            continue
        flags = int(fields[4], 16)
        lasting = flags & (_PERMANENT | _TEMPORARY | _DADFAILED | _DEPRECATED | _TENTATIVE) == _PERMANENT
        found.append(Address(str(ipaddress.IPv6Address(bytes.fromhex(fields[0]))), fields[5], lasting))
    return found


def default_interface(table: str) -> str:
    """Return the interface of the default route in /proc/net/ipv6_route, "" when there is none."""
    found = []
    for line in table.splitlines():
        fields = line.split()
        if len(fields) > 9 and fields[0] == "0" * 32 and int(fields[1], 16) == 0:
            usable = int(fields[8], 16) & (_UP | _REJECT) == _UP
            found += [(int(fields[5], 16), fields[9])] if usable and fields[9] != "lo" else []
    return min(found)[1] if found else ""


def media_address(addresses: str, routes: str) -> str:
    """Return the address to offer for media, from the tables if_inet6 and ipv6_route; "" when there is none.

    It is one of the interface by which the host reaches the internet, so none of Docker's or of a tunnel beside it, and
    it is global and lasting: neither private nor one that privacy extensions change every day (RFC 8981), nor of a
    prefix that a router lends, since coturn does not start without an address that it is told to listen at.
    """
    interface = default_interface(routes)
    lasting = [one.text for one in own_addresses(addresses) if one.interface == interface and one.lasting]
    fit = [address for address in map(ipaddress.IPv6Address, lasting) if is_global(address)]
    return str(min(fit)) if fit else ""


def is_global(address: ipaddress.IPv6Address) -> bool:
    """Whether the internet routes this address, and not by way of 6to4 or Teredo."""
    return address in _GLOBAL and not any(address in tunnel for tunnel in _TUNNELS)


def parsed(text: str) -> ipaddress.IPv6Address | None:
    """Return the IPv6 address that a text is, None for anything else."""
    try:
        return ipaddress.IPv6Address(text)
    except ValueError:
        return None


def _counts(text: str) -> bool:
    """Whether this is an IPv6 address that says where a name leads; a host's own name may have all kinds of others."""
    address = parsed(text)
    return address is not None and not (address.is_loopback or address.is_link_local or address.ipv4_mapped)


def problems(facts: Mapping[str, Any], names: Iterable[str], media_names: Iterable[str]) -> list[str]:
    """Judge the host's address for media and the AAAA records of names that lead here over IPv4.

    :param facts: ``addresses`` ({name: [address]}), ``local`` ({address: bool}), ``media_ip6`` (address for media,
        empty for none), ``own_ip6`` (the host's addresses).
    :param media_names: those of `names` at which clients look for STUN and TURN, which listen at one address only.
    :returns: one sentence for each problem; names with the same wrong addresses are one.
    """
    media = facts["media_ip6"]
    if media:
        found = _media_problem(media, facts)
        if found:
            return [found]
    elsewhere: dict[tuple[str, ...], list[str]] = {}
    found_problems = []
    for name in sorted(names):
        led = [address for address in facts["addresses"][name] if _counts(address)]
        wrong = tuple(address for address in led if not facts["local"].get(address))
        if wrong:
            elsewhere.setdefault(wrong, []).append(name)
        elif led and name in media_names and media not in led:
            found_problems.append(_not_media(name, led, media))
    return [*(_elsewhere(group, wrong, facts) for wrong, group in elsewhere.items()), *found_problems]


def _media_problem(media: str, facts: Mapping[str, Any]) -> str:
    """Return why the address cannot be that for media, "" when it can."""
    address = parsed(media)
    if address is None or address.is_link_local or address.is_loopback:
        return (
            f"hpb_media_ip6 is '{media}', expected an IPv6 address of this host such as 2001:db8::10, auto, or nothing "
            "for no IPv6: correct it for the group hpb."
        )
    if not facts["local"].get(media):
        known = ", ".join(facts["own_ip6"])
        return (
            f"hpb_media_ip6 is {media}, expected an address of this host"
            f"{', which has ' + known if known else ', which has no IPv6'}: correct it for the group hpb, or leave it "
            "at auto."
        )
    return ""


def _elsewhere(names: list[str], addresses: tuple[str, ...], facts: Mapping[str, Any]) -> str:
    several = len(names) > 1
    known = ", ".join(facts["own_ip6"])
    records = f"AAAA record{'s' if several or len(addresses) > 1 else ''}"
    return (
        f"The name{'s' if several else ''} {' and '.join(names)} lead{'' if several else 's'} to "
        f"{', '.join(addresses)} over IPv6, {'this host has ' + known if known else 'and this host has no IPv6'}: "
        f"{'mend' if known else 'remove'} the {records}, since who has IPv6 tries it first."
    )


def _not_media(name: str, addresses: list[str], media: str) -> str:
    leads = f"The name {name} leads to {', '.join(addresses)} over IPv6,"
    say = f"or say hpb_media_ip6: {addresses[0]} for the group hpb."
    if media:
        return (
            f"{leads} expected {media} (hpb_media_ip6), the one address at which STUN and TURN listen: mend the AAAA "
            f"record, {say}"
        )
    return (
        f"{leads} where neither STUN nor TURN listens, since hpb_media_ip6 is empty or this host has no global address "
        f"that is configured for good: remove the AAAA record, {say}"
    )
