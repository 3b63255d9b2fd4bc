# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our rules in somebody else's ruleset of nftables: where they belong, what is ours, and what is to be done."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _nftables

INPUT = ("inet", "filter", "input")
OURS = ("inet", "filter", _nftables.CHAIN)
HTTPS = ("tcp", 443, 443, "")
MEDIA = ("udp", 20000, 29999, "")
PROXY = ("tcp", 8080, 8080, "198.51.100.7")
PROXY6 = ("tcp", 8080, 8080, "2001:db8::7")
RULES = [HTTPS, MEDIA, PROXY, PROXY6]


def match(left, right, op="=="):
    return {"match": {"op": op, "left": left, "right": right}}


def meta(key, right, op="=="):
    return match({"meta": {"key": key}}, right, op)


def field(protocol, name, right, op="=="):
    return match({"payload": {"protocol": protocol, "field": name}}, right, op)


ESTABLISHED = [match({"ct": {"key": "state"}}, ["established", "related"], "in"), {"accept": None}]
INVALID = [match({"ct": {"key": "state"}}, "invalid", "in"), {"drop": None}]
BANNED = [field("ip", "saddr", "@banned"), {"drop": None}]
SSH = [field("tcp", "dport", 22), {"accept": None}]
FLOOD = [meta("l4proto", "udp"), {"limit": {"rate": 9, "per": "second", "inv": True}}, {"drop": None}]
GUESTS = [meta("iifname", "guests"), {"drop": None}]
JUMP = [{"jump": {"target": _nftables.CHAIN}}]
DROP = [{"counter": {"packets": 0, "bytes": 0}}, {"drop": None}]
REJECT = [
    meta("pkttype", "host"),
    {"limit": {"rate": 5, "burst": 5, "per": "second"}},
    {"counter": None},
    {"reject": {"type": "icmpx", "expr": "admin-prohibited"}},
]
REJECT_UDP = [meta("l4proto", "udp"), {"reject": None}]
OUTSIDE = [meta("iifname", "eth0"), {"drop": None}]
NOT_LOOPBACK = [meta("iifname", "lo", "!="), {"drop": None}]


def expressions(rule):
    """What nft makes of a rule of ours in its JSON."""
    protocol, first, last, source = rule
    port = first if first == last else {"range": [first, last]}
    who = [field("ip6" if ":" in source else "ip", "saddr", source)] if source else []
    return [*who, field(protocol, "dport", port), {"accept": None}]


def ruleset(*chains):
    """Return a ruleset of chains, each (name, policy or None for one without a hook, rules); handles count from 1."""
    entries, handle = [{"metainfo": {"json_schema_version": 1}}], 0
    for name, policy, rules in chains:
        family, table, chain = name
        hook = {"type": "filter", "hook": "input", "prio": 0, "policy": policy} if policy else {}
        entries.append({"chain": {"family": family, "table": table, "name": chain, "handle": 99, **hook}})
        for rule in rules:
            handle += 1
            entries.append({"rule": {"family": family, "table": table, "chain": chain, "handle": handle, "expr": rule}})
    return {"nftables": entries}


IPTABLES = (("ip", "filter", "INPUT"), "drop", [SSH])
BANS = (("inet", "f2b-table", "f2b-chain"), "accept", [[field("ip", "saddr", "@addr"), {"reject": None}]])
EMPTY = (("inet", "other", "input"), "accept", [])
FIREWALLD = (("inet", "firewalld", "filter_INPUT"), "drop", [SSH])


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ([(INPUT, "drop", [SSH])], [INPUT]),
        ([IPTABLES, FIREWALLD, BANS, EMPTY, (INPUT, "drop", [])], [INPUT]),
        ([(INPUT, "accept", [SSH, DROP]), EMPTY], [INPUT]),
        ([(("ip", "f", "in"), "drop", []), (("ip6", "f", "in"), "drop", [])], [("ip", "f", "in"), ("ip6", "f", "in")]),
    ],
)
def test_the_chains_that_filter_are_found(known, expected):
    assert _nftables.chains(ruleset(*known)) == expected


@pytest.mark.parametrize(
    ("known", "named", "words"),
    [
        ([IPTABLES, FIREWALLD, EMPTY], [], "no chain of nftables on this host filters incoming packets"),
        ([], [], "load your ruleset (systemctl start nftables)"),
        (
            [(INPUT, "accept", [SSH, DROP]), BANS],
            [],
            "Several chains of nftables on this host filter incoming packets (inet filter input, inet "
            "f2b-table f2b-chain)",
        ),
        (
            [(INPUT, "drop", [])],
            ["inet filter services"],
            "hpb_firewall_chains names inet filter services, which nftables",
        ),
    ],
)
def test_when_no_chain_can_be_told_it_is_said(known, named, words):
    with pytest.raises(_nftables.NftError, match="expected") as error:
        _nftables.chains(ruleset(*known), named)
    assert words in str(error.value)


def test_a_chain_that_is_named_is_taken():
    known = ruleset((INPUT, "accept", [SSH, DROP]), BANS, (("inet", "filter", "services"), None, []))
    assert _nftables.chains(known, ["inet filter services"]) == [("inet", "filter", "services")]


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_is_read_as_nft_lists_it(rule):
    assert _nftables.rule_of(expressions(rule)) == rule


@pytest.mark.parametrize("other", [SSH[:1] + [{"drop": None}], ESTABLISHED, JUMP, REJECT, [{"accept": None}]])
def test_what_is_no_rule_of_ours_is_told(other):
    assert _nftables.rule_of(other) is None


@pytest.mark.parametrize(
    ("rule", "refuses"),
    [
        (DROP, True),
        (REJECT, True),
        (REJECT_UDP, True),
        (OUTSIDE, True),
        (NOT_LOOPBACK, True),
        (ESTABLISHED, False),
        (INVALID, False),
        (BANNED, False),
        (SSH, False),
        (FLOOD, False),
        (GUESTS, False),
        (JUMP, False),
        ([field("tcp", "dport", 443), {"drop": None}], False),
        ([field("ip", "protocol", "icmp"), {"accept": None}], False),
        ([field("ip", "protocol", "udp"), {"drop": None}], True),
        ([meta("iifname", {"set": ["eth0", "eth1"]}), {"drop": None}], True),
        ([meta("iifname", {"set": ["eth1", "eth2"]}), {"drop": None}], False),
    ],
)
def test_a_rule_that_refuses_everybody(rule, refuses):
    assert _nftables.refuses_all(rule, "eth0") is refuses


ADDED = [
    "add chain inet filter nextcloud_talk_hpb",
    "add rule inet filter nextcloud_talk_hpb tcp dport 443 accept",
    "add rule inet filter nextcloud_talk_hpb udp dport 20000-29999 accept",
]


@pytest.mark.parametrize(
    ("rules", "place"),
    [
        ([], "add rule inet filter input jump nextcloud_talk_hpb"),
        ([ESTABLISHED, INVALID, SSH], "add rule inet filter input jump nextcloud_talk_hpb"),
        (
            [ESTABLISHED, BANNED, GUESTS, FLOOD, REJECT, DROP],
            "insert rule inet filter input handle 5 jump nextcloud_talk_hpb",
        ),
        ([SSH, OUTSIDE], "insert rule inet filter input handle 2 jump nextcloud_talk_hpb"),
    ],
)
def test_the_jump_stands_before_what_refuses_everybody(rules, place):
    lines = _nftables.plan(ruleset((INPUT, "drop", rules)), [HTTPS, MEDIA], [INPUT], "eth0")
    assert lines == [*ADDED, place]


def present(rules, *, before=(), after=()):
    return ruleset((INPUT, "drop", [*before, JUMP, *after]), (OURS, None, [expressions(rule) for rule in rules]))


def test_what_is_right_is_left_alone():
    assert _nftables.plan(present(RULES, before=[SSH, BANNED], after=[DROP]), RULES, [INPUT], "eth0") == []


@pytest.mark.parametrize(
    "known",
    [
        present([HTTPS]),
        present([MEDIA, HTTPS]),
        present([HTTPS, MEDIA], before=[DROP]),
        ruleset((INPUT, "drop", [JUMP, JUMP]), (OURS, None, [expressions(HTTPS), expressions(MEDIA)])),
        ruleset((INPUT, "drop", [JUMP]), (OURS, None, [expressions(HTTPS), expressions(MEDIA), DROP])),
        ruleset((INPUT, "drop", []), (OURS, None, [expressions(HTTPS), expressions(MEDIA)])),
    ],
)
def test_what_is_wrong_is_made_anew_in_one_transaction(known):
    lines = _nftables.plan(known, [HTTPS, MEDIA], [INPUT], "eth0")
    gone = [f"delete rule inet filter input handle {handle}" for _chain, handle in _nftables.jumps(known)]
    assert lines[: len(gone) + 1] == [*gone, "flush chain inet filter nextcloud_talk_hpb"]
    assert lines[len(gone) + 1 : -1] == ADDED
    assert lines[-1].endswith("jump nextcloud_talk_hpb")
    assert not any(line.startswith(("delete table", "flush ruleset", "delete chain")) for line in lines)


def test_another_chain_takes_over_and_the_former_one_is_left_as_it_was():
    other = ("ip6", "mine", "in")
    known = ruleset((INPUT, "drop", [JUMP]), (OURS, None, [expressions(HTTPS)]), (other, "drop", []))
    assert _nftables.plan(known, RULES, [other], "eth0") == [
        "delete rule inet filter input handle 1",
        "flush chain inet filter nextcloud_talk_hpb",
        "delete chain inet filter nextcloud_talk_hpb",
        "add chain ip6 mine nextcloud_talk_hpb",
        "add rule ip6 mine nextcloud_talk_hpb tcp dport 443 accept",
        "add rule ip6 mine nextcloud_talk_hpb udp dport 20000-29999 accept",
        "add rule ip6 mine nextcloud_talk_hpb ip6 saddr 2001:db8::7 tcp dport 8080 accept",
        "add rule ip6 mine in jump nextcloud_talk_hpb",
    ]


def test_removal_takes_all_of_ours():
    assert _nftables.plan(present(RULES, before=[SSH]), [], [], "") == [
        "delete rule inet filter input handle 2",
        "flush chain inet filter nextcloud_talk_hpb",
        "delete chain inet filter nextcloud_talk_hpb",
    ]
    assert _nftables.plan(ruleset((INPUT, "drop", [SSH])), [], [], "") == []


# Lists the ruleset that lies beside it, and keeps what it is to do.
NFT = """#!/bin/sh
cd "$(dirname "$0")" || exit 1
case "$*" in
  "--json list ruleset") cat ruleset.json ;;
  "--file -") cat > script ;;
  *) exit 99 ;;
esac
"""


@pytest.mark.parametrize(
    ("known", "arguments", "code", "script", "said"),
    [
        (
            ruleset((INPUT, "drop", [])),
            ["apply"],
            0,
            [*ADDED, "add rule inet filter input jump nextcloud_talk_hpb"],
            "",
        ),
        (present([HTTPS, MEDIA]), ["apply"], 0, None, ""),
        (
            present([HTTPS]),
            ["remove"],
            0,
            ["delete rule inet filter input handle 1", "flush chain", "delete chain"],
            "",
        ),
        (ruleset(), ["apply"], 1, None, "no chain of nftables on this host filters incoming packets"),
    ],
)
def test_the_program_on_the_host(tmp_path, known, arguments, code, script, said):
    """As its own process, with nothing but the standard library, as the unit runs it."""
    (tmp_path / "nft").write_text(NFT, encoding="utf-8")
    (tmp_path / "nft").chmod(0o755)
    (tmp_path / "ruleset.json").write_text(json.dumps(known), encoding="utf-8")
    config = {"rules": [HTTPS, MEDIA], "chains": [], "interface": "eth0"}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    more = [str(tmp_path / "config.json")] if arguments == ["apply"] else []
    program = tmp_path / "nftables.py"
    program.write_text(Path(_nftables.__file__).read_text(encoding="utf-8"), encoding="utf-8")
    command = [sys.executable, "-I", str(program), *arguments, *more]
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert said in done.stderr and "Traceback" not in done.stderr
    written = (tmp_path / "script").read_text().splitlines() if (tmp_path / "script").exists() else None
    assert (written is None) == (script is None)
    for line, start in zip(written or [], script or []):
        assert line.startswith(start)
    assert len(written or []) == len(script or [])
