# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules of the backend in an nftables ruleset that is somebody else's: a chain of ours, and a jump to it.

A packet that one chain of the hook input accepts still passes the others, so a table of our own would open nothing: the
jump has to stand in each chain that filters. What is read is `nft --json list ruleset` (libnftables-json(5)).

The module host_firewall imports this file and also copies it to the host, where a systemd unit runs it after the
ruleset was loaded anew. Therefore it needs nothing but Python's standard library.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

CHAIN = "nextcloud_talk_hpb"
# A table of iptables: a rule that iptables does not know would make its own listing fail. Firewalld owns its table.
FOREIGN = {("ip", "filter", "INPUT"), ("ip6", "filter", "INPUT")}
FIREWALLD = "firewalld"
# Ordinary users have no such directories in their path, and neither has what becomes root by some ways.
SYSTEM_PATH = ":/usr/sbin:/sbin"
# What says of a packet only how it came, not who sent it or what it wants.
_GENERAL = {("meta", "l4proto"), ("meta", "nfproto"), ("meta", "protocol"), ("meta", "pkttype")}
_GENERAL_FIELDS = {("ip", "protocol"), ("ip6", "nexthdr")}

# Protocol, first and last port, and the one address that may ("": everybody).
Rule = tuple[str, int, int, str]
# Family, table and name.
Chain = tuple[str, str, str]


class NftError(Exception):
    """nftables is not as expected; the message is for the user."""


def _all(ruleset: Mapping[str, Any], kind: str) -> list[dict[str, Any]]:
    return [entry[kind] for entry in ruleset["nftables"] if kind in entry]


def chains(ruleset: Mapping[str, Any], named: Sequence[str] = ()) -> list[Chain]:
    """Return the chains that need the jump: the `named` ones ("inet filter input"), or those that filter what comes in.

    These are all whose policy is drop; where there is none, the only one with rules, which then drops at its end.
    Raises NftError when there is none, or when several could be meant.
    """
    known = {(chain["family"], chain["table"], chain["name"]): chain for chain in _all(ruleset, "chain")}
    if named:
        wanted = [tuple(name.split()) for name in named]
        for name in wanted:
            if name not in known:
                raise NftError(
                    f"hpb_firewall_chains names {' '.join(name)}, which nftables on this host does not have, expected "
                    f"a chain that filters incoming packets (nft list chains): correct it for the group hpb."
                )
        return wanted  # type: ignore[return-value]
    filtering = [
        name
        for name, chain in known.items()
        if chain.get("hook") == "input"
        and chain.get("type") == "filter"
        and name not in FOREIGN
        and name[1] != FIREWALLD
    ]
    dropping = [name for name in filtering if known[name].get("policy") == "drop"]
    if dropping:
        return dropping
    used = {(rule["family"], rule["table"], rule["chain"]) for rule in _all(ruleset, "rule")}
    others = [name for name in filtering if name in used]
    if len(others) == 1:
        return others
    if not others:
        raise NftError(
            "hpb_firewall is nftables, but no chain of nftables on this host filters incoming packets, expected one "
            "with hook input: load your ruleset (systemctl start nftables), or choose another hpb_firewall for the "
            "group hpb."
        )
    raise NftError(
        f"Several chains of nftables on this host filter incoming packets ("
        f"{', '.join(' '.join(name) for name in others)}), and none has the policy drop, expected to know in which "
        "ones our rules belong: name them in hpb_firewall_chains for the group hpb."
    )


def rule_text(rule: Rule) -> str:
    """Return a rule in the words of nft."""
    protocol, first, last, source = rule
    span = str(first) if first == last else f"{first}-{last}"
    who = f"{'ip6' if ':' in source else 'ip'} saddr {source} " if source else ""
    return f"{who}{protocol} dport {span} accept"


def rule_of(expressions: Sequence[Mapping[str, Any]]) -> Rule | None:
    """Return the rule that the expressions of nft's JSON are, None when they are none that `rule_text` makes."""
    source, found = "", None
    for expression in expressions[:-1]:
        match = expression.get("match")
        payload = match["left"].get("payload") if match and isinstance(match["left"], Mapping) else None
        if not match or not payload or match["op"] != "==":
            return None
        right = match["right"]
        if payload.get("field") == "saddr" and isinstance(right, str):
            source = right
        elif payload.get("field") == "dport" and isinstance(right, int):
            found = (payload["protocol"], right, right)
        elif payload.get("field") == "dport" and isinstance(right, Mapping) and "range" in right:
            found = (payload["protocol"], right["range"][0], right["range"][1])
        else:
            return None
    if found is None or "accept" not in expressions[-1]:
        return None
    return (*found, source)


def ours(ruleset: Mapping[str, Any]) -> dict[tuple[str, str], list[Rule | None]]:
    """Return the rules in each chain of ours, by family and table; None stands for one that we did not make."""
    found: dict[tuple[str, str], list[Rule | None]] = {
        (chain["family"], chain["table"]): [] for chain in _all(ruleset, "chain") if chain["name"] == CHAIN
    }
    for rule in _all(ruleset, "rule"):
        if rule["chain"] == CHAIN:
            found[(rule["family"], rule["table"])].append(rule_of(rule["expr"]))
    return found


def jumps(ruleset: Mapping[str, Any]) -> list[tuple[Chain, int]]:
    """Return where a jump to a chain of ours stands: the chain, and the handle of the rule."""
    return [
        ((rule["family"], rule["table"], rule["chain"]), rule["handle"])
        for rule in _all(ruleset, "rule")
        if any((expression.get("jump") or {}).get("target") == CHAIN for expression in rule["expr"])
    ]


def _of(family: str, rules: Iterable[Rule]) -> list[Rule]:
    """Return those rules that a table of this family can hold."""
    other = {"ip": ":", "ip6": "."}.get(family)
    return [rule for rule in rules if other is None or other not in rule[3]]


def refuses_all(expressions: Sequence[Mapping[str, Any]], interface: str) -> bool:
    """Whether a rule refuses what comes in at `interface`, whoever sends it and whatever it asks for."""
    if not any("drop" in expression or "reject" in expression for expression in expressions):
        return False
    for expression in expressions:
        if "limit" in expression and expression["limit"].get("inv"):
            # Only what is too much.
            return False
        if "match" in expression and not _general(expression["match"], interface):
            return False
    return True


def _general(match: Mapping[str, Any], interface: str) -> bool:
    """Whether a match holds for ordinary packets that come in at the interface."""
    left, right = match["left"], match["right"]
    if not isinstance(left, Mapping):
        return False
    key = (left.get("meta") or {}).get("key", "")
    if key in ("iif", "iifname"):
        names = right["set"] if isinstance(right, Mapping) and "set" in right else [right]
        return (interface in names) == (match["op"] in ("==", "in"))
    payload = left.get("payload") or {}
    return ("meta", key) in _GENERAL or (payload.get("protocol"), payload.get("field")) in _GENERAL_FIELDS


def plan(ruleset: Mapping[str, Any], rules: Sequence[Rule], wanted: Sequence[Chain], interface: str) -> list[str]:
    """Return the commands of nft, for one transaction, that make the ruleset have our rules; none when it has them.

    The jump stands before the first rule that refuses everybody, so that what the ruleset refuses of certain senders
    stays refused, and at the end where there is no such rule. Without `wanted` chains all of ours is removed.
    """
    present, standing = ours(ruleset), jumps(ruleset)
    tables = {(family, table): _of(family, rules) for family, table, _name in wanted}
    right = present == tables and sorted(chain for chain, _handle in standing) == sorted(wanted)
    if right and not any(_too_late(ruleset, chain, handle, interface) for chain, handle in standing):
        return []
    lines = [f"delete rule {' '.join(chain)} handle {handle}" for chain, handle in standing]
    for family, table in present:
        lines.append(f"flush chain {family} {table} {CHAIN}")
        if (family, table) not in tables:
            lines.append(f"delete chain {family} {table} {CHAIN}")
    for (family, table), mine in tables.items():
        lines.append(f"add chain {family} {table} {CHAIN}")
        lines += [f"add rule {family} {table} {CHAIN} {rule_text(rule)}" for rule in mine]
    for chain in wanted:
        before = _first_refusal(ruleset, chain, interface)
        verb, place = ("insert", f" handle {before}") if before is not None else ("add", "")
        lines.append(f"{verb} rule {' '.join(chain)}{place} jump {CHAIN}")
    return lines


def _rules_of(ruleset: Mapping[str, Any], chain: Chain) -> list[dict[str, Any]]:
    return [rule for rule in _all(ruleset, "rule") if (rule["family"], rule["table"], rule["chain"]) == chain]


def _first_refusal(ruleset: Mapping[str, Any], chain: Chain, interface: str) -> int | None:
    """Return the handle of the first rule in the chain that refuses everybody, None when there is none."""
    for rule in _rules_of(ruleset, chain):
        if refuses_all(rule["expr"], interface):
            return int(rule["handle"])
    return None


def _too_late(ruleset: Mapping[str, Any], chain: Chain, handle: int, interface: str) -> bool:
    """Whether the jump with this handle stands behind a rule that refuses everybody."""
    refusal = _first_refusal(ruleset, chain, interface)
    handles = [rule["handle"] for rule in _rules_of(ruleset, chain)]
    return refusal is not None and handles.index(handle) > handles.index(refusal)


def nft(*arguments: str, script: str = "") -> str:
    """Run nft and return what it wrote; raises NftError."""
    try:
        program = shutil.which("nft", path=f"{os.environ.get('PATH', '')}{SYSTEM_PATH}") or "nft"
        done = subprocess.run([program, *arguments], input=script, capture_output=True, text=True, check=False)
    except OSError as error:
        raise NftError(f"nft cannot be run ({error.strerror}), expected it on this host: install nftables.") from error
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no word"])[0]
        raise NftError(f"nft {' '.join(arguments)} failed ({said}), expected to change nothing but our own rules.")
    return done.stdout


def read() -> dict[str, Any]:
    """Return the ruleset of this host."""
    return json.loads(nft("--json", "list", "ruleset") or '{"nftables": []}')


def rules_from(entries: Iterable[Sequence[Any]]) -> list[Rule]:
    """Return the rules of a configuration file, where they are lists."""
    return [(str(entry[0]), int(entry[1]), int(entry[2]), str(entry[3])) for entry in entries]


def change(lines: Sequence[str]) -> None:
    """Have nft do all of it, or nothing."""
    if lines:
        nft("--file", "-", script="\n".join(lines) + "\n")


def main(arguments: Sequence[str]) -> int:
    """Do ``apply CONFIGURATION`` or ``remove``, and return the exit code."""
    try:
        ruleset = read()
        if arguments[:1] == ["apply"]:
            config = json.loads(Path(arguments[1]).read_text(encoding="utf-8"))
            wanted = chains(ruleset, config["chains"])
            change(plan(ruleset, rules_from(config["rules"]), wanted, config["interface"]))
        else:
            change(plan(ruleset, [], [], ""))
    except NftError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
