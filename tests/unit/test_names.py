# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the names lead, against the addresses of the host: what is refused, what is only said, and what is fine."""

from __future__ import annotations

import ipaddress

import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _cdn_ranges, _internet, _names

TALK, TURN = "talk.example.org", "turn.example.org"
HERE, FLOATING, HOME, ELSEWHERE = "192.0.2.10", "192.0.2.99", "10.0.0.5", "198.51.100.9"
# Documentation addresses that stand for a proxy's, by hpb_cdn_networks.
PROXY, PROXY6, CDN = "203.0.113.7", "2001:db8:cd::7", ["203.0.113.0/24", "2001:db8:cd::/48"]
HERE6 = "2001:db8:1::5"

PUBLIC = {"own": [HERE], "media_ip": HERE, "media_ip6": ""}
TWO = {"own": [HERE, FLOATING], "media_ip": HERE, "media_ip6": ""}
BOTH = {"own": [HERE, HERE6], "media_ip": HERE, "media_ip6": HERE6}
NAT = {"own": [HOME], "media_ip": HOME, "media_ip6": ""}
LITE = {"own": [HOME, HERE6], "media_ip": HOME, "media_ip6": HERE6}


def given(host, names, hidden=None, **wanted):
    """The facts and what is wanted, for a host and {name: addresses}. TURN is at the second name, or the only one."""
    turn = [list(names)[-1]]
    addresses = {address for found in names.values() for address in found} | {wanted.get("public_ip", "")}
    facts = {
        **host,
        "addresses": names,
        "hidden": hidden or {},
        "local": {address: address in host["own"] or address.startswith("127.") for address in addresses},
        "own_ip6": [address for address in host["own"] if ":" in address],
    }
    facts["local"][host["media_ip"]] = True
    facts["local"][host["media_ip6"]] = True
    return facts, {"public_ip": "", "media_ip": "", "turn_names": turn, "media_names": turn, "cdn": CDN, **wanted}


REFUSED = {
    "one name for both is proxied": (
        PUBLIC,
        {TALK: [PROXY, PROXY6]},
        {},
        "The name talk.example.org leads to 2001:db8:cd::7, 203.0.113.7, a proxy of a CDN, which passes on neither "
        "TURN nor "
        'media: give it a record without the proxy ("DNS only") that leads to 192.0.2.10, or TURN a name of its own '
        "with "
        "such a record (hpb_turn_domain).",
    ),
    "both names are proxied": (
        PUBLIC,
        {TALK: [PROXY], TURN: [PROXY]},
        {},
        "The name turn.example.org leads to 203.0.113.7, a proxy of a CDN, which passes on neither TURN nor media: "
        "give it "
        'a record without the proxy ("DNS only") that leads to 192.0.2.10.',
    ),
    "the AAAA record of TURN is proxied": (
        BOTH,
        {TALK: [HERE], TURN: [HERE, PROXY6]},
        {},
        f"leads to {PROXY6}, a proxy",
    ),
    "both names are proxied before a router": (
        NAT,
        {TALK: [PROXY], TURN: [PROXY]},
        {},
        'give it a record without the proxy ("DNS only") that leads to the public address of the router before this '
        "host; "
        "what that is cannot be seen behind the proxy, since this host has 10.0.0.5: say it in hpb_public_ip.",
    ),
    "both names are proxied before a router that is known": (
        NAT,
        {TALK: [PROXY], TURN: [PROXY]},
        {"public_ip": ELSEWHERE},
        f'give it a record without the proxy ("DNS only") that leads to {ELSEWHERE}.',
    ),
    "both names are proxied before a line without public IPv4": (
        LITE,
        {TALK: [PROXY], TURN: [PROXY]},
        {},
        f"leads to {HERE6} (AAAA), and to a public IPv4 address where this host is reached by one (hpb_public_ip).",
    ),
    "the proxy's address was obeyed": (
        PUBLIC,
        {TALK: [PROXY], TURN: [HERE]},
        {"public_ip": PROXY},
        "hpb_public_ip is 203.0.113.7, an address of a proxy of a CDN, which passes on no media; this host has the "
        "public "
        "address 192.0.2.10 itself: remove hpb_public_ip, and let the name for TURN lead there without the proxy "
        '("DNS only").',
    ),
    "a public host is not behind NAT": (
        PUBLIC,
        {TALK: [ELSEWHERE], TURN: [ELSEWHERE]},
        {},
        "The names talk.example.org and turn.example.org resolve to 198.51.100.9, expected 192.0.2.10, the public "
        "address "
        "that this host has itself: mend the DNS records; if that is a CDN's proxy, name its network in "
        "hpb_cdn_networks, "
        "and let the name for TURN lead here without it.",
    ),
    "nor is one whose public address is another than that for media": (
        {"own": [HOME, HERE], "media_ip": HOME, "media_ip6": ""},
        {TALK: [ELSEWHERE]},
        {},
        f"resolves to {ELSEWHERE}, expected {HERE}, the public address that this host has itself",
    ),
    "behind NAT": (
        NAT,
        {TALK: [ELSEWHERE]},
        {},
        f"when it is behind NAT, say hpb_public_ip: {ELSEWHERE} for the group hpb",
    ),
    "behind NAT with both families": (
        NAT,
        {TALK: [HERE6, ELSEWHERE]},
        {},
        f"say hpb_public_ip: {ELSEWHERE} for the group",
    ),
    "a network that is none": (
        PUBLIC,
        {TALK: [HERE]},
        {"cdn": ["203.0.113.7/24"]},
        "hpb_cdn_networks holds '203.0.113.7/24', expected a network such as 192.0.2.0/24: correct it for the group "
        "hpb.",
    ),
    "the floating address": (
        TWO,
        {TALK: [FLOATING]},
        {},
        "The name talk.example.org leads to 192.0.2.99, which this host has, but STUN, TURN and media are at its "
        "address "
        "192.0.2.10 alone: set hpb_media_ip: 192.0.2.99 for the group hpb, or let it lead to 192.0.2.10.",
    ),
    "the floating address against what is stated": (
        TWO,
        {TALK: [FLOATING]},
        {"media_ip": HERE},
        "set hpb_media_ip: 192.0.2.99 for the group hpb",
    ),
    "the public one of two": (
        {"own": [HOME, HERE], "media_ip": HOME, "media_ip6": ""},
        {TALK: [HERE], TURN: [HERE]},
        {},
        "The name turn.example.org leads to 192.0.2.10, which this host has, but STUN, TURN and media are at its "
        "address "
        "10.0.0.5 alone: set hpb_media_ip: 192.0.2.10 for the group hpb",
    ),
    "the second address in a LAN": (
        {"own": [HOME, "10.0.0.99"], "media_ip": HOME, "media_ip6": ""},
        {TALK: ["10.0.0.99"]},
        {},
        "set hpb_media_ip: 10.0.0.99 for the group hpb",
    ),
    "the floating IPv6 address": (
        {**BOTH, "own": [HERE, HERE6, "2001:db8:1::99"]},
        {TALK: [HERE, "2001:db8:1::99"]},
        {},
        "or say hpb_media_ip6: 2001:db8:1::99 for the group hpb.",
    ),
    "the hosts file hides a router": (
        NAT,
        {TALK: [ELSEWHERE]},
        {"hidden": {TALK: {"answers": [HOME], "dns": [ELSEWHERE]}}},
        "The name talk.example.org resolves to 198.51.100.9 in DNS (on this host itself its hosts file hides that with "
        "10.0.0.5), this host has 10.0.0.5: when it is behind NAT, say hpb_public_ip: 198.51.100.9",
    ),
    "the hosts file hides that there is no record": (
        PUBLIC,
        {TALK: []},
        {"hidden": {TALK: {"answers": ["127.0.1.1"], "dns": []}}},
        "This host itself answers 127.0.1.1 for talk.example.org (its hosts file, or since it is called so), and DNS "
        "knows "
        "no such name, expected its public address: add a DNS record (A, talk.example.org -> 192.0.2.10).",
    ),
    "no record of a name that a variable has": (
        PUBLIC,
        {TALK: [HERE], TURN: []},
        {"variables": {TALK: "hpb_domain", TURN: "hpb_turn_domain"}},
        "add a DNS record (A, turn.example.org -> 192.0.2.10), or correct hpb_turn_domain.",
    ),
    "a name that a variable has leads elsewhere": (
        PUBLIC,
        {TALK: [ELSEWHERE]},
        {"variables": {TALK: "hpb_domain"}},
        "this host has itself: mend the DNS record (or hpb_domain, where the name is wrong);",
    ),
    "a proxied name before a network whose address is stated": (
        NAT,
        {TALK: [PROXY], TURN: [PROXY]},
        {"media_ip": HOME},
        "leads to 10.0.0.5 (hpb_media_ip) where all calls stay in its network, else to the public address of the "
        "router before this host, with that as hpb_public_ip.",
    ),
    "no record": (
        PUBLIC,
        {TALK: []},
        {},
        "does not resolve on this host, expected its public address: add a DNS record (A, ",
    ),
}


@pytest.mark.parametrize(("host", "names", "wanted", "words"), REFUSED.values(), ids=REFUSED)
def test_each_fault_is_one_sentence(host, names, wanted, words):
    found = _names.problems(*given(host, names, **wanted))
    assert len(found) == 1, found
    assert words in found[0]
    # The first way out must be one: nothing that a proxy has is ever proposed.
    assert f"hpb_public_ip: {PROXY}" not in found[0]


def test_a_proxys_address_that_was_obeyed_behind_a_router():
    found = _names.problems(*given(NAT, {TALK: [PROXY], TURN: [ELSEWHERE]}, public_ip=PROXY))
    assert found == [
        "hpb_public_ip is 203.0.113.7, an address of a proxy of a CDN, which passes on no media, expected that of the "
        'router before this host: set that one, and let the name for TURN lead there without the proxy ("DNS only").',
        "The name turn.example.org resolves to 198.51.100.9, this host has 10.0.0.5: when it is behind NAT, say "
        "hpb_public_ip: 198.51.100.9 for the group hpb, else mend the DNS record.",
    ]


FINE = {
    "a public host": (PUBLIC, {TALK: [HERE], TURN: [HERE]}, {}),
    "a proxied signaling name beside a direct one for TURN": (PUBLIC, {TALK: [PROXY, PROXY6], TURN: [HERE]}, {}),
    "the same with both families": (BOTH, {TALK: [PROXY, PROXY6], TURN: [HERE, HERE6]}, {}),
    "the same behind a router": (NAT, {TALK: [PROXY], TURN: [ELSEWHERE]}, {"public_ip": ELSEWHERE}),
    "the same with the private address in DNS": (NAT, {TALK: [PROXY], TURN: [HOME]}, {"public_ip": ELSEWHERE}),
    "behind a router": (NAT, {TALK: [ELSEWHERE]}, {"public_ip": ELSEWHERE}),
    "in a LAN": (NAT, {TALK: [HOME]}, {}),
    "the signaling name at the floating address": (TWO, {TALK: [FLOATING], TURN: [HERE]}, {}),
    "all at the floating address": ({**TWO, "media_ip": FLOATING}, {TALK: [FLOATING]}, {"media_ip": FLOATING}),
    "on private networks every address is published": (TWO, {TALK: [FLOATING]}, {"media_names": []}),
    "the name server of the LAN knows the private address of a host in both nets": (
        {"own": [HOME, HERE], "media_ip": HERE, "media_ip6": ""},
        {TALK: [HOME]},
        {"media_ip": HERE},
    ),
    "the loopback for a trial": ({**NAT, "media_ip": "127.0.0.1"}, {TALK: ["127.0.0.1"]}, {}),
}


@pytest.mark.parametrize(("host", "names", "wanted"), FINE.values(), ids=FINE)
def test_what_is_fine(host, names, wanted):
    facts, wanted = given(host, names, **wanted)
    assert (_names.problems(facts, wanted), _names.notes(facts, wanted)) == ([], [])


SAID = {
    "IPv6 only, without public IPv4": (
        LITE,
        {TALK: [HERE6]},
        {},
        "The name talk.example.org leads here over IPv6 only (2001:db8:1::5), so nobody without IPv6 gets into a call: "
        "where your provider gives you no public IPv4 address (DS-Lite), ask it for one, or run the backend on a "
        "machine "
        "that has one, such as a rented one.",
    ),
    "IPv6 only for TURN, since a proxy lends the signaling server IPv4": (
        LITE,
        {TALK: [PROXY], TURN: [HERE6]},
        {},
        "The name turn.example.org leads here over IPv6 only (2001:db8:1::5), so",
    ),
    "IPv6 only on a host with both": (
        BOTH,
        {TALK: [HERE6], TURN: [HERE6]},
        {},
        "The names talk.example.org and turn.example.org lead here over IPv6 only (2001:db8:1::5), so nobody without "
        "IPv6 "
        "gets into a call: add an A record that leads to 192.0.2.10.",
    ),
    "a second record that leads elsewhere": (
        PUBLIC,
        {TALK: [HERE, ELSEWHERE]},
        {},
        "The name talk.example.org leads here and to 198.51.100.9 as well, which this host has not: who gets that "
        "address "
        "lands there, so remove that DNS record unless it is another way to this host.",
    ),
    "the provider's own NAT": (
        NAT,
        {TALK: ["100.64.3.4"]},
        {"public_ip": "100.64.3.4"},
        "hpb_public_ip is 100.64.3.4, an address inside of your provider's own NAT, which nobody in the internet "
        "reaches:",
    ),
    "the hosts file where no name server answers": (
        PUBLIC,
        {TALK: []},
        {"hidden": {TALK: {"answers": ["127.0.1.1"], "dns": None}}},
        "This host itself answers 127.0.1.1 for talk.example.org (its hosts file, or since it is called so), and no "
        "name "
        "server could be asked where it leads for others: remove that line of /etc/hosts, and see that the name leads "
        "here.",
    ),
    "the hosts file against DNS on purpose": (
        PUBLIC,
        {TALK: [HERE]},
        {"hidden": {TALK: {"answers": [HERE], "dns": [ELSEWHERE]}}},
        "but DNS 198.51.100.9: where everybody else is to come here, mend the DNS record.",
    ),
}


@pytest.mark.parametrize(("host", "names", "wanted", "words"), SAID.values(), ids=SAID)
def test_what_is_only_said(host, names, wanted, words):
    facts, wanted = given(host, names, **wanted)
    found = _names.notes(facts, wanted)
    assert len(found) == 1, found
    assert words in found[0]
    assert _names.problems(facts, wanted) == []


@pytest.mark.parametrize(
    ("answers", "dns", "led"),
    [
        (["127.0.1.1"], [HERE], [HERE]),
        (["127.0.1.1"], [HERE, HERE6], [HERE, HERE6]),
        (["127.0.1.1", "::1"], [], []),
        (["127.0.1.1"], [HOME], [HOME]),
        (["127.0.1.1"], None, []),
        # In a LAN that has no name server of its own.
        ([HOME], None, [HOME]),
        ([HOME], [], [HOME]),
        ([HOME], ["10.0.0.9"], [HOME]),
        # What everybody else sees.
        ([HOME], [ELSEWHERE], [ELSEWHERE]),
        ([HERE], [ELSEWHERE], [HERE]),
        ([HERE], [PROXY], [PROXY]),
    ],
)
def test_where_a_name_leads_of_which_the_host_has_an_answer(answers, dns, led):
    assert _names.seen(answers, dns, CDN) == led


class TestInternet:
    @pytest.mark.parametrize("published", _cdn_ranges.LISTS, ids=[one.operator for one in _cdn_ranges.LISTS])
    def test_what_operators_publish(self, published):
        assert published.source.startswith("https://")
        year, month = map(int, published.read.split("-"))
        assert year >= 2026 and 1 <= month <= 12
        networks = [ipaddress.ip_network(text) for text in published.networks]
        assert tuple(map(str, networks)) == published.networks
        for network in networks:
            assert _internet.cdn(str(network[0])) == _internet.cdn(str(network[-1])) == published.operator
            assert network.is_global
        # No list holds half of the internet by a slip of the pen.
        assert all(network.prefixlen >= (12 if network.version == 4 else 28) for network in networks)

    def test_networks_of_two_operators_do_not_overlap(self):
        known = [(ipaddress.ip_network(text), one.operator) for one in _cdn_ranges.LISTS for text in one.networks]
        both = [
            (str(one), str(other))
            for index, (one, whose) in enumerate(known)
            for other, another in known[index + 1 :]
            if whose != another and one.version == other.version and one.overlaps(other)
        ]
        assert both == []

    @pytest.mark.parametrize(
        ("address", "public"),
        [
            (HERE, True),
            (HOME, False),
            ("172.16.0.1", False),
            ("192.168.1.1", False),
            ("100.64.0.1", False),
            ("169.254.1.1", False),
            ("127.0.1.1", False),
            ("224.0.0.1", False),
            (HERE6, True),
            ("fd00::1", False),
            ("fe80::1", False),
            ("::1", False),
            ("talk.example.org", False),
            ("", False),
        ],
    )
    def test_public(self, address, public):
        assert _internet.is_public(address) is public

    def test_of_a_proxy(self):
        assert _internet.cdn(PROXY, CDN) == "a CDN"
        assert _internet.cdn(PROXY) == _internet.cdn(HERE) == _internet.cdn("") == _internet.cdn("x", CDN) == ""
