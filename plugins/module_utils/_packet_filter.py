# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host's packet filter does with the first packet of a caller from anywhere. No input or output.

Read are `nft list ruleset` (nft(8)), which shows the rules of iptables-nft too, and `iptables-save` (iptables(8)). A
packet walks through the chains of the hooks prerouting and input as in the kernel: what one of these chains accepts,
the next one may still drop. A condition that is not known may hold or not; a packet counts as stopped only when it is
stopped either way, so that no rule is blamed that lets it pass.
"""

from __future__ import annotations

import functools
import ipaddress
import re
import shlex
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _internet

ACCEPT, DROP, RETURN, JUMP, GOTO = "accept", "drop", "return", "jump", "goto"
# Whether a condition holds; None: not known.
Truth = Optional[bool]
# Where a walk ends: the verdict, and the rule that it is due to.
End = tuple[str, str]
DEPTH = 16
"""Jumps within jumps that are followed, as many as the kernel allows."""


@dataclass(frozen=True)
class Packet:
    """The first packet of a caller.

    protocol: udp or tcp; port: where it goes; ipv6: its family; interface: where it arrives ("": not known); addresses:
    the host's own, one of which it goes to; local: whether callers come from private addresses.
    """

    protocol: str
    port: int
    ipv6: bool = False
    interface: str = ""
    addresses: tuple[str, ...] = ()
    local: bool = False


@dataclass(frozen=True)
class Condition:
    """What a rule asks of a packet: `kind` is a key of TESTS, or anything else for what is not known."""

    kind: str
    values: tuple[str, ...] = ()
    negated: bool = False


@dataclass(frozen=True)
class Rule:
    """One rule: all conditions must hold for its verdict, a jump's target being `target`; `text` is for people.

    `choices` are those of a verdict map: one condition each, and the verdict and target that go with it.
    """

    conditions: tuple[Condition, ...]
    verdict: str
    target: str = ""
    text: str = ""
    choices: tuple[tuple[Condition, str, str], ...] = ()


@dataclass
class Chain:
    """The rules of a chain; a base chain has a policy, and `families` says which packets come to it."""

    name: str
    rules: list[Rule] = field(default_factory=list)
    policy: str = ""
    families: str = "ip ip6"


Table = dict[str, Chain]


# --- conditions ----------------------------------------------------------------------------------------------------


def _ports(values: Iterable[str], protocol: str) -> Iterator[tuple[int, int]]:
    for value in values:
        ends = re.split(r"[-:]", value) if re.match(r"\d*[-:]\d*$", value) else [value, value]
        numbers = []
        for text, rest in zip(ends, ("0", "65535")):
            try:
                numbers.append(int(text or rest) if (text or rest).isdigit() else socket.getservbyname(text, protocol))
            except OSError:
                break
        if len(numbers) == 2:
            yield numbers[0], numbers[1]


def _port(packet: Packet, values: tuple[str, ...]) -> Truth:
    return any(first <= packet.port <= last for first, last in _ports(values, packet.protocol))


def _source_port(packet: Packet, values: tuple[str, ...]) -> Truth:
    # Callers have any port that needs no privilege.
    spans = list(_ports(values, packet.protocol))
    if any(first <= 1024 and last >= 65535 for first, last in spans):
        return True
    return False if all(last < 1024 for _first, last in spans) else None


@functools.lru_cache(maxsize=64)
def _networks(values: tuple[str, ...], ipv6: bool) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    found: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
    for value in values:
        first, _dash, last = value.partition("-")
        try:
            if last:
                ends = ipaddress.ip_address(first), ipaddress.ip_address(last)
                found += ipaddress.summarize_address_range(*ends)  # type: ignore[type-var]
            else:
                found.append(ipaddress.ip_network(first, strict=False))
        except (TypeError, ValueError):
            continue
    return [network for network in found if (network.version == 6) == ipv6]


def _source(packet: Packet, values: tuple[str, ...]) -> Truth:
    """Whether a caller has one of these addresses: who comes from anywhere has none in particular, nor the host's."""
    networks = _networks(values, packet.ipv6)
    if any(network.prefixlen == 0 for network in networks):
        return True
    private = [one for one in networks if not _internet.is_public(str(one.network_address)) and not one.is_loopback]
    own = {str(ipaddress.ip_network(address)) for address in packet.addresses}
    return None if packet.local and {*map(str, private)} - own else False


def _destination(packet: Packet, values: tuple[str, ...]) -> Truth:
    networks = _networks(values, packet.ipv6)
    if all(network.is_multicast for network in networks):
        return False
    own = [one for one in map(ipaddress.ip_address, packet.addresses) if (one.version == 6) == packet.ipv6]
    if not own:
        return None
    inside = [any(one in network for network in networks) for one in own]
    return True if all(inside) else None if any(inside) else False


def _interface(packet: Packet, values: tuple[str, ...]) -> Truth:
    patterns = [re.escape(value).replace(r"\*", ".*").replace(r"\+", ".*") for value in values]
    if not packet.interface:
        return False if set(values) == {"lo"} else None
    return any(re.fullmatch(pattern, packet.interface) for pattern in patterns)


def _protocol(packet: Packet, values: tuple[str, ...]) -> Truth:
    names = {packet.protocol, {"tcp": "6", "udp": "17"}[packet.protocol], "all", "0"}
    return bool(names & set(values))


def _family(packet: Packet, values: tuple[str, ...]) -> Truth:
    return bool({"ipv6", "ip6"} & set(values) if packet.ipv6 else {"ipv4", "ip"} & set(values))


def _among(*names: str):
    return lambda _packet, values: bool(set(names) & {value.lower() for value in values})


TESTS = {
    "dport": _port,
    "sport": _source_port,
    "saddr": _source,
    "daddr": _destination,
    "interface": _interface,
    "protocol": _protocol,
    "family": _family,
    "state": _among("new"),
    "kind": _among("local", "host", "unicast"),
    "flags": _among("syn"),
    "never": lambda _packet, _values: False,
    "always": lambda _packet, _values: True,
}


def holds(condition: Condition, packet: Packet) -> Truth:
    """Whether a condition holds for a packet, None when that is not known."""
    test = TESTS.get(condition.kind)
    found = test(packet, condition.values) if test else None
    return found if found is None else found != condition.negated


def all_hold(conditions: Iterable[Condition], packet: Packet) -> Truth:
    """Whether all conditions hold."""
    found = [holds(condition, packet) for condition in conditions]
    return False if False in found else None if None in found else True


# --- the walk ------------------------------------------------------------------------------------------------------


def _outcomes(rule: Rule, packet: Packet) -> tuple[Truth, str, str]:
    """Return whether a rule is for the packet, and the verdict and the target that it then has."""
    matching = all_hold(rule.conditions, packet)
    if matching is False or not rule.choices:
        return matching, rule.verdict, rule.target
    for condition, verdict, target in rule.choices:
        chosen = holds(condition, packet)
        if chosen is not False:
            return (matching if chosen else None), verdict, target
    return False, "", ""


def walk(table: Table, chain: Chain, packet: Packet, depth: int = 0) -> list[End]:
    """Return all ends that a packet may come to in a chain; RETURN is that no rule there decides."""
    final = (DROP, f"policy of {chain.name}: drop") if chain.policy == DROP else (RETURN, "")
    ends: list[End] = []
    for rule in chain.rules:
        matching, verdict, target = _outcomes(rule, packet)
        # What is dropped for a reason that is not known are certain packets, not those of all callers.
        if matching is False or not verdict or matching is None and verdict == DROP:
            continue
        if verdict in (JUMP, GOTO):
            further = table.get(target)
            # Targets of iptables that only note something are no chains.
            inner = walk(table, further, packet, depth + 1) if further and depth < DEPTH else [(RETURN, "")]
            ends += [end for end in inner if end[0] != RETURN]
            undecided = any(end[0] == RETURN for end in inner)
            if verdict == GOTO and undecided:
                ends.append(final)
            if matching and (verdict == GOTO or not undecided):
                return ends
            continue
        found = {DROP: (DROP, rule.text), RETURN: final}
        ends.append(found.get(verdict, (verdict, "")))
        if matching:
            return ends
    return [*ends, final]


def stopped_by(tables: Iterable[Table], packet: Packet) -> str:
    """Return the rule that stops a packet for certain, as people read it; "" when there is none."""
    family = "ip6" if packet.ipv6 else "ip"
    for table in tables:
        for chain in table.values():
            if not chain.policy or family not in chain.families.split():
                continue
            ends = walk(table, chain, packet)
            if all(verdict == DROP for verdict, _text in ends):
                return ends[0][1]
    return ""


Span = tuple[str, int, int]
"""Protocol, first and last port."""


def stops(
    listings: Mapping[str, str], spans: Iterable[Span], interface: str, addresses: Sequence[str]
) -> list[dict[str, str]]:
    """Return which of these ports callers do not get through to, and the rules: ports, family (ipv4, ipv6), rule.

    listings: {program: what it listed}; interface: where callers arrive; addresses: the host's own. A range is stopped
    when any part of it is, seen by its two ends and its middle.
    """
    parsed: list[list[Table]] = []
    for program, text in listings.items():
        parsed.append(nft_tables(text) if program == "nft" else iptables_tables(text, program.startswith("ip6")))
    local = bool(addresses) and not any(map(_internet.is_public, addresses))
    found = []
    for protocol, first, last in spans:
        ports = f"{protocol} {first}" if first == last else f"{protocol} {first}-{last}"
        for ipv6 in (False, True) if any(":" in address for address in addresses) else (False,):
            packets = [
                Packet(protocol, port, ipv6, interface, tuple(addresses), local)
                for port in dict.fromkeys((first, (first + last) // 2, last))
            ]
            rules = (stopped_by(tables, packet) for packet in packets for tables in parsed)
            rule = next(filter(None, rules), "")
            if rule:
                found.append({"ports": ports, "family": "ipv6" if ipv6 else "ipv4", "rule": rule})
    return found


def kind_of(listings: Mapping[str, str]) -> str:
    """Return which firewall keeps the rules of a host: ufw, firewalld, nftables or iptables; "" when there are none."""
    text = "\n".join(listings.values())
    if re.search(r"\bufw6?-user-input\b", text):
        return "ufw"
    if re.search(r"\btable inet firewalld\b|\b(?:filter_)?IN_public\b", text):
        return "firewalld"
    # Chains with capital letters are those of iptables-nft.
    own = re.search(
        r"\bchain (?!INPUT |PREROUTING )\S+ \{\n\s*type filter hook (?:input|prerouting)", listings.get("nft", "")
    )
    if own:
        return "nftables"
    return (
        "iptables"
        if re.search(r"chain INPUT \{|^-A INPUT|^\[\d+:\d+\] -A INPUT|^:INPUT DROP", text, re.MULTILINE)
        else ""
    )


# --- nft -----------------------------------------------------------------------------------------------------------

_OPEN = re.compile(r"(table|chain|set|map|counter|quota|limit|ct \w+|flowtable|secmark|synproxy) (.*?) ?\{(?: #.*)?$")
_HOOK = re.compile(r"type filter hook (?:prerouting|input)\b.*?;(?: policy (\w+);)?")
_WORDS = re.compile(r'"[^"]*"|\{[^{}]*\}|[^\s"{}]+')
_NO_CONDITION = {"counter", "comment", "log", "notrack", "continue", "nftrace"}
# Statements that hold words which mean something else elsewhere.
_OPTIONS = {"prefix", "flags", "level", "group", "snaplen", "queue-threshold", "packets", "bytes", "name"}
_KEYS = {
    "ip saddr": ("saddr", "ip"),
    "ip6 saddr": ("saddr", "ip6"),
    "ip daddr": ("daddr", "ip"),
    "ip6 daddr": ("daddr", "ip6"),
    "ip protocol": ("protocol", "ip"),
    "ip6 nexthdr": ("protocol", "ip6"),
    "meta l4proto": ("protocol", ""),
    "meta nfproto": ("family", ""),
    "meta protocol": ("family", ""),
    "meta pkttype": ("kind", ""),
    "pkttype": ("kind", ""),
    "iif": ("interface", ""),
    "iifname": ("interface", ""),
    "meta iif": ("interface", ""),
    "meta iifname": ("interface", ""),
    "ct state": ("state", ""),
    # Nothing that is translated or marked comes to a program that listens on the host itself.
    "ct status": ("never", ""),
    "fib daddr type": ("kind", ""),
    "th dport": ("dport", ""),
    "th sport": ("sport", ""),
    **{f"{name} {part}": (part, name) for name in ("tcp", "udp") for part in ("dport", "sport", "flags")},
}
# What a refusal says is of one protocol or family, also where the listing does not name it.
_ANSWERED = {
    "tcp": [Condition("protocol", ("tcp",))],
    "icmp": [Condition("family", ("ip",))],
    "icmpv6": [Condition("family", ("ip6",))],
}
_KEYS_BY_LENGTH = sorted(_KEYS, key=lambda key: -key.count(" "))


def nft_tables(text: str) -> list[Table]:
    """Return the tables of `nft list ruleset`."""
    tables: list[Table] = []
    sets: dict[str, list[str]] = {}
    table: Table = {}
    chain, named, families = None, "", "ip ip6"
    for line in _joined(text):
        opened = _OPEN.match(line)
        if opened and opened.group(1) == "table":
            family = opened.group(2).split()[0]
            families = {"ip": "ip", "ip6": "ip6"}.get(family, "ip ip6" if family in ("inet", "netdev") else "")
            table, sets = {}, {}
            tables.append(table)
        elif opened:
            chain = Chain(opened.group(2), families=families) if opened.group(1) == "chain" else None
            named = opened.group(2)
            if chain is not None:
                table[chain.name] = chain
        elif line == "}":
            chain = None
        elif chain is None:
            elements = re.match(r"elements = \{(.*)\}", line)
            if elements:
                sets[named] = _elements(elements.group(1))
        elif line.startswith("type "):
            hook = _HOOK.match(line)
            chain.policy = (hook.group(1) or ACCEPT) if hook else ""
        else:
            chain.rules.append(nft_rule(line, sets, chain.name))
    return tables


def _joined(text: str) -> Iterator[str]:
    """Give the lines without indentation, a list that goes over several lines as one."""
    kept = ""
    for raw in text.splitlines():
        line = f"{kept} {raw.strip()}".strip()
        if not line or line.startswith("#"):
            continue
        outside = re.sub(r'"[^"]*"', "", line)
        if outside.count("{") > outside.count("}") and not _OPEN.match(line):
            kept = line
            continue
        kept = ""
        yield line


def _elements(text: str) -> list[str]:
    """Return the members of a set without what is said beside them (timeouts, counters, comments)."""
    return [part.split()[0].strip('"') for part in text.strip("{} ").split(",") if part.strip()]


def _values(word: str, sets: Mapping[str, list[str]]) -> tuple[str, ...] | None:
    """Return the values behind a condition, None for a set whose members are not known."""
    if word.startswith("@"):
        found = sets.get(word[1:])
        return None if found is None else tuple(found)
    return tuple(_elements(word)) if word.startswith("{") else tuple(word.strip('"').split(","))


def nft_rule(line: str, sets: Mapping[str, list[str]], chain: str) -> Rule:
    """Return a rule of nft in the chain of this name."""
    words = _WORDS.findall(line)
    text = f"{chain}: {line}"
    conditions: list[Condition] = []
    place = 0
    while place < len(words):
        word = words[place]
        if word in (ACCEPT, DROP, RETURN):
            return Rule(tuple(conditions), word, text=text)
        if word == "reject":
            conditions += _ANSWERED.get(words[place + 2] if place + 2 < len(words) else "", [])
            return Rule(tuple(conditions), DROP, text=text)
        if word in (JUMP, GOTO) and place + 1 < len(words):
            return Rule(tuple(conditions), word, words[place + 1], text)
        if word in _NO_CONDITION:
            place += 1
            while place < len(words) and (words[place] in _OPTIONS or words[place].startswith('"')):
                place += 1 if words[place].startswith('"') else 2
            continue
        key = next((key for key in _KEYS_BY_LENGTH if words[place : place + key.count(" ") + 1] == key.split()), "")
        place += key.count(" ") + 1
        if not key:
            conditions.append(_unknown(words, place - 1))
            continue
        kind, of = _KEYS[key]
        conditions += [Condition("protocol", (of,))] if of in ("tcp", "udp") else []
        conditions += [Condition("family", (of,))] if of in ("ip", "ip6") else []
        negated = place < len(words) and words[place] == "!="
        place += negated or place < len(words) and words[place] == "=="
        value = words[place] if place < len(words) else ""
        place += 1
        if value == "vmap" and place < len(words):
            return Rule(tuple(conditions), "", text=text, choices=_choices(kind, words[place]))
        values = _values(value, sets) if value not in (".", "&") else None
        conditions.append(Condition("unknown") if values is None else Condition(kind, values, negated))
        # Flags may be followed by the mask of those that are looked at.
        if kind == "flags" and words[place : place + 1] == ["/"]:
            place += 2
    return Rule(tuple(conditions), "", text=text)


def _unknown(words: Sequence[str], place: int) -> Condition:
    """Return the condition that a word is which no key begins with."""
    # A way back is there, which is what the test against forged senders asks.
    if words[place] == "missing":
        return Condition("never")
    return Condition("never") if words[place] in ("icmp", "icmpv6", "igmp", "esp", "ah") else Condition("unknown")


def _choices(kind: str, text: str) -> tuple[tuple[Condition, str, str], ...]:
    """Return the choices of a verdict map such as { 7 : accept, 8-9 : jump other }; a named one is not known."""
    found = []
    for part in text.strip("{} ").split(","):
        value, _colon, verdict = part.partition(" : ")
        words = verdict.split()
        if words and words[0] in (ACCEPT, DROP, RETURN, JUMP, GOTO, "continue"):
            condition = Condition("always") if value.strip() == "*" else Condition(kind, (value.strip().strip('"'),))
            chosen = "" if words[0] == "continue" else words[0]
            found.append((condition, chosen, words[1] if len(words) > 1 else ""))
    return tuple(found)


# --- iptables ------------------------------------------------------------------------------------------------------

_TARGETS = {"ACCEPT": ACCEPT, "DROP": DROP, "REJECT": DROP, "RETURN": RETURN}
_IPTABLES = {
    "-p": "protocol",
    "-s": "saddr",
    "-d": "daddr",
    "-i": "interface",
    "--dport": "dport",
    "--dports": "dport",
    "--ports": "unknown",
    "--sport": "sport",
    "--sports": "sport",
    "--state": "state",
    "--ctstate": "state",
    "--dst-type": "kind",
    "--pkt-type": "kind",
    "--icmp-type": "never",
    "--icmpv6-type": "never",
    "--comment": "always",
    "--reject-with": "always",
    "--syn": "always",
    "--tcp-flags": "unknown",
}
# Modules that have conditions only of the kinds above.
_MODULES = {"udp", "tcp", "icmp", "icmp6", "ipv6-icmp", "state", "conntrack", "multiport", "addrtype", "comment"}


def iptables_tables(text: str, ipv6: bool = False) -> list[Table]:
    """Return the tables of `iptables-save`, those of `ip6tables-save` with `ipv6`."""
    tables: list[Table] = []
    table: Table = {}
    for line in text.splitlines():
        begun = re.match(r"\*(\w+)", line)
        chain = re.match(r":(\S+) (\S+)", line)
        rule = re.match(r"(?:\[(\d+):\d+\] )?(-A (\S+) ?(.*))", line)
        if begun:
            table = {}
            # What is translated is no verdict.
            tables += [table] if begun.group(1) != "nat" else []
        elif chain:
            policy = chain.group(2).lower() if chain.group(1) in ("INPUT", "PREROUTING") else ""
            table[chain.group(1)] = Chain(chain.group(1), policy=policy, families="ip6" if ipv6 else "ip")
        elif rule:
            count = f" ({rule.group(1)} packets)" if rule.group(1) else ""
            table.setdefault(rule.group(3), Chain(rule.group(3))).rules.append(
                iptables_rule(rule.group(4), rule.group(2).strip() + count)
            )
    return tables


def iptables_rule(line: str, text: str) -> Rule:
    """Return a rule of iptables, from what follows the name of its chain; `text` is for people."""
    try:
        words = shlex.split(line)
    except ValueError:
        words = line.split()
    conditions: list[Condition] = []
    negated, place = False, 0
    verdict = target = ""
    while place < len(words):
        word, value = words[place], words[place + 1] if place + 1 < len(words) else ""
        place += 1
        if word == "!":
            negated = True
            continue
        if word in ("-j", "-g"):
            verdict = GOTO if word == "-g" else _TARGETS.get(value, JUMP)
            target = value
            place += 1
        elif word == "-m":
            conditions += [] if value in _MODULES else [Condition("unknown")]
            place += 1
        elif word.startswith("-"):
            kind = _IPTABLES.get(word, "unknown" if verdict == "" else "always")
            conditions.append(Condition(kind, tuple(value.split(",")), negated))
            negated = False
            place += word != "--syn" and not value.startswith("-")
    return Rule(tuple(conditions), verdict, target, text)
