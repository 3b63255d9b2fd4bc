# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which IPv6 address of a host is for media, and what is said of AAAA records that lead elsewhere."""

from __future__ import annotations

import ipaddress

import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _ipv6, _names

OWN, OTHER, LENT, ELSEWHERE = "2001:db8:1::10", "2001:db8:1::20", "2001:db8:1::aa", "2001:db8:9::9"
PERMANENT, DYNAMIC, TEMPORARY, DEPRECATED, TENTATIVE, DADFAILED = 0x80, 0x00, 0x01, 0xA0, 0xC0, 0x88


def inet6(*rows):
    """A table as the kernel writes it (net/ipv6/addrconf.c): address, index, prefix, scope, flags, interface."""
    return "".join(
        f"{int(ipaddress.IPv6Address(address)):032x} 02 40 {scope:02x} {flags:02x} {interface:>8}\n"
        for address, interface, flags, scope in rows
    )


def route(interface, network="::/0", metric=1024, flags=0x3):
    """A line of ipv6_route (net/ipv6/route.c)."""
    there = ipaddress.IPv6Network(network)
    return (
        f"{int(there.network_address):032x} {there.prefixlen:02x} {0:032x} 00 {1:032x} "
        f"{metric:08x} 00000001 00000000 {flags:08x} {interface:>8}\n"
    )


# What every host with IPv6 has: the kernel's refusal of what has no route, and networks that are no default.
ROUTES = route("lo", metric=0xFFFFFFFF, flags=0x200200) + route("eth0", "2001:db8:1::/64", 256, 1)


@pytest.mark.parametrize(
    ("addresses", "routes", "expected"),
    [
        ([(OWN, "eth0", PERMANENT, 0)], ROUTES + route("eth0"), OWN),
        ([(OTHER, "eth0", PERMANENT, 0), (OWN, "eth0", PERMANENT, 0)], ROUTES + route("eth0"), OWN),
        ([(OWN, "eth0", PERMANENT, 0)], ROUTES, ""),
        ([(OWN, "eth0", PERMANENT, 0)], ROUTES + route("eth0", flags=0x203), ""),
        ([(OWN, "docker0", PERMANENT, 0)], ROUTES + route("eth0"), ""),
        ([(OWN, "eth0", PERMANENT, 0), (OTHER, "wg0", PERMANENT, 0)], route("wg0", metric=50) + route("eth0"), OTHER),
        ([(LENT, "eth0", DYNAMIC, 0)], route("eth0"), ""),
        ([(LENT, "eth0", TEMPORARY, 0)], route("eth0"), ""),
        ([(OWN, "eth0", DEPRECATED, 0)], route("eth0"), ""),
        ([(OWN, "eth0", TENTATIVE, 0)], route("eth0"), ""),
        ([(OWN, "eth0", DADFAILED, 0)], route("eth0"), ""),
        ([("fd00::10", "eth0", PERMANENT, 0)], route("eth0"), ""),
        ([("fe80::10", "eth0", PERMANENT, 0x20)], route("eth0"), ""),
        ([("2002:c000:20a::1", "eth0", PERMANENT, 0)], route("eth0"), ""),
        ([("2001:0:c000:20a::1", "eth0", PERMANENT, 0)], route("eth0"), ""),
        ([], "", ""),
    ],
)
def test_the_address_for_media(addresses, routes, expected):
    assert _ipv6.media_address(inet6(*addresses), routes) == expected


def test_own_addresses_are_all_that_are_valid_beyond_the_link():
    table = inet6(
        ("::1", "lo", PERMANENT, 0x10),
        ("fe80::1", "eth0", PERMANENT, 0x20),
        (LENT, "eth0", TEMPORARY, 0),
        ("fd00::1", "eth0", PERMANENT, 0),
    )
    assert [(one.text, one.lasting) for one in _ipv6.own_addresses(table)] == [(LENT, False), ("fd00::1", True)]


FACTS = {
    "addresses": {"talk.example.org": ["192.0.2.10", OWN], "turn.example.org": ["192.0.2.10", OWN]},
    "local": {"192.0.2.10": True, OWN: True, OTHER: True, "::1": True},
    "media_ip6": OWN,
    "own_ip6": [OWN, OTHER],
}
NAMES, TURN = ["talk.example.org", "turn.example.org"], ["turn.example.org"]


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"addresses": dict.fromkeys(NAMES, ["192.0.2.10"])},
        {"addresses": dict.fromkeys(NAMES, ["192.0.2.10"]), "media_ip6": "", "own_ip6": []},
        # As a host resolves its own name.
        {"addresses": {NAMES[0]: ["192.0.2.10", OTHER], NAMES[1]: ["::1", "192.0.2.10", "fe80::1%eth0", OTHER, OWN]}},
        {"addresses": dict.fromkeys(NAMES, ["::ffff:192.0.2.10", "192.0.2.10"])},
    ],
)
def test_names_that_lead_here(facts):
    assert _ipv6.problems({**FACTS, **facts}, NAMES, TURN) == []


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        (
            {"addresses": dict.fromkeys(NAMES, ["192.0.2.10", ELSEWHERE])},
            f"The names talk.example.org and turn.example.org lead to {ELSEWHERE} over IPv6, this host has {OWN}, "
            f"{OTHER}: mend the AAAA records, since who has IPv6 tries it first.",
        ),
        (
            {"addresses": {**FACTS["addresses"], "talk.example.org": ["192.0.2.10", ELSEWHERE, OWN]}},
            f"The name talk.example.org leads to {ELSEWHERE} over IPv6, this host has {OWN}, {OTHER}: "
            "mend the AAAA record, since who has IPv6 tries it first.",
        ),
        (
            {"addresses": {"talk.example.org": ["192.0.2.10", OWN]}, "local": {}, "media_ip6": "", "own_ip6": []},
            f"The name talk.example.org leads to {OWN} over IPv6, and this host has no IPv6: "
            "remove the AAAA record, since who has IPv6 tries it first.",
        ),
        (
            {"addresses": {**FACTS["addresses"], "turn.example.org": ["192.0.2.10", OTHER]}},
            f"The name turn.example.org leads to {OTHER} over IPv6, expected {OWN} (hpb_media_ip6), the one address at "
            f"which STUN and TURN listen: mend the AAAA record, or say hpb_media_ip6: {OTHER} for the group hpb.",
        ),
        (
            {"media_ip6": ""},
            f"The name turn.example.org leads to {OWN} over IPv6, where neither STUN nor TURN listens, since "
            "hpb_media_ip6 is empty or this host has no global address that is configured for good: remove the AAAA "
            f"record, or say hpb_media_ip6: {OWN} for the group hpb.",
        ),
        (
            {"media_ip6": "192.0.2.10"},
            "hpb_media_ip6 is '192.0.2.10', expected an IPv6 address of this host such as 2001:db8::10, auto, or "
            "nothing for no IPv6: correct it for the group hpb.",
        ),
        ({"media_ip6": "fe80::1"}, "hpb_media_ip6 is 'fe80::1', expected an IPv6 address of this host such as"),
        (
            {"media_ip6": ELSEWHERE},
            f"hpb_media_ip6 is {ELSEWHERE}, expected an address of this host, which has {OWN}, {OTHER}: correct it for "
            "the group hpb, or leave it at auto.",
        ),
        (
            {"media_ip6": ELSEWHERE, "own_ip6": []},
            f"hpb_media_ip6 is {ELSEWHERE}, expected an address of this host, which has no IPv6: correct it",
        ),
    ],
)
def test_each_fault_is_one_sentence(facts, sentence):
    (found,) = _ipv6.problems({**FACTS, **facts}, facts.get("addresses", FACTS["addresses"]), TURN)
    assert found.startswith(sentence)


@pytest.mark.parametrize("second", [ELSEWHERE, OWN])
def test_a_wrong_ipv4_address_is_named_once_and_not_hidden_by_one_of_ipv6(second):
    facts = {**FACTS, "addresses": {"talk.example.org": ["198.51.100.9", second]}, "media_ip": "10.0.0.5"}
    wanted = {"public_ip": "", "media_ip": "", "turn_names": [], "media_names": [], "cdn": []}
    (found,) = _names.problems({**facts, "own": [], "hidden": {}}, wanted)
    assert f"resolves to 198.51.100.9, {second}, this host has 10.0.0.5" in found
