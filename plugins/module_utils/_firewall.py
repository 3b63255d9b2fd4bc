# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules of the backend in a firewall that is somebody else's: how ufw and firewalld say them, and what is to be done.

Ours are known by a name. In ufw that is the application profile that a rule refers to (ufw(8), APPLICATION
INTEGRATION). In firewalld a service would be the same, but the running firewalld learns of a new one only when it is
reloaded, and that throws away what others changed in it for the time being, the bans of fail2ban for one. So they are
rich rules (firewalld.richlanguage(5)) with a priority that nobody else has. Everything here is pure; nftables is in
`_nftables`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

NAME = "nextcloud-talk-hpb"
# From 1 on a zone's other rules, those that refuse someone included, come first.
PRIORITY = 31470
_ANYWHERE = {"0.0.0.0/0", "::/0"}

# Protocol, first and last port, and the one address that may ("": everybody).
Rule = tuple[str, int, int, str]
Span = tuple[str, int, int]


def rules_of(entries: Iterable[Mapping[str, Any]]) -> list[Rule]:
    """Return the rules that the filter firewall_rules made, in the form that everything here works with."""
    found = [
        (str(entry["protocol"]), int(entry["first"]), int(entry["last"]), str(entry.get("source") or ""))
        for entry in entries
    ]
    return list(dict.fromkeys(found))


def shown(rules: Iterable[Rule]) -> list[str]:
    """Return the rules as a person reads them, in an order of their own."""
    return [
        f"{protocol} {first if first == last else f'{first}-{last}'} from {source or 'everybody'}"
        for protocol, first, last, source in sorted(rules)
    ]


def ufw_app(source: str) -> str:
    """Return the name of the application profile with the ports for a source; ufw knows no colon in it."""
    return f"{NAME}-{source.replace(':', '.')}" if source else NAME


def ufw_profiles(rules: Iterable[Rule]) -> str:
    """Return the file of application profiles, one for each source."""
    parts = []
    for source, spans in by_source(rules).items():
        ports = []
        for protocol in sorted({span[0] for span in spans}):
            texts = [
                str(first) if first == last else f"{first}:{last}" for kind, first, last in spans if kind == protocol
            ]
            ports.append(f"{','.join(texts)}/{protocol}")
        parts.append(
            f"[{ufw_app(source)}]\ntitle=Nextcloud Talk\n"
            f"description=High performance backend of Nextcloud Talk, written by Ansible (nextcloud_talk.hpb)\n"
            f"ports={'|'.join(ports)}\n"
        )
    return "\n".join(parts)


def by_source(rules: Iterable[Rule]) -> dict[str, list[Span]]:
    """Return protocol, first and last port of the rules for each source."""
    found: dict[str, list[Span]] = {}
    for protocol, first, last, source in sorted(rules):
        found.setdefault(source, []).append((protocol, first, last))
    return found


def ufw_rules(*texts: str) -> set[Rule]:
    """Return our rules in ufw's files user.rules and user6.rules.

    Each rule has a line ``### tuple ### allow tcp 80,443 0.0.0.0/0 any 0.0.0.0/0 PROFILE - in`` there: action,
    protocol, port and address of the destination, the same of the source, the profiles of both, direction (ufw,
    backend_iptables.py).
    """
    found = set()
    for line in "\n".join(texts).splitlines():
        fields = line.split()
        if fields[:3] != ["###", "tuple", "###"] or len(fields) < 12:
            continue
        action, protocol, ports, destination, _port, source, profile, _profile, direction = fields[3:12]
        who = "" if source in _ANYWHERE else source
        if (action, destination in _ANYWHERE, direction) != ("allow", True, "in") or profile != ufw_app(who):
            continue
        for span in ports.split(","):
            first, _colon, last = span.partition(":")
            found.add((protocol, int(first), int(last or first), who))
    return found


def ufw_words(source: str) -> list[str]:
    """Return how ufw is told a rule with a profile of ours."""
    return ["allow", "from", source, "to", "any", "app", ufw_app(source)] if source else ["allow", ufw_app(source)]


def ufw_plan(wanted: Iterable[Rule], present: Iterable[Rule]) -> tuple[list[list[str]], list[list[str]]]:
    """Return the arguments of ufw before and after the file of profiles is replaced.

    A rule can be withdrawn only as long as its profile is there.
    """
    new, old = by_source(wanted), by_source(present)
    before = [["delete", *ufw_words(source)] for source in old if source not in new]
    after = [ufw_words(source) for source in new if source not in old]
    after += [["app", "update", ufw_app(source)] for source in new if source in old and new[source] != old[source]]
    return before, after


def rich_rule(rule: Rule) -> str:
    """Return a rule in firewalld's rich language, as firewalld itself writes it."""
    protocol, first, last, source = rule
    who = f' family="{"ipv6" if ":" in source else "ipv4"}" source address="{source}"' if source else ""
    span = str(first) if first == last else f"{first}-{last}"
    return f'rule priority="{PRIORITY}"{who} port port="{span}" protocol="{protocol}" accept'


def rich_rules(listing: str) -> dict[str, list[str]]:
    """Return our rich rules of each zone in what `firewall-cmd --list-all-zones` writes, as they stand there."""
    found: dict[str, list[str]] = {}
    zone = ""
    for line in listing.splitlines():
        if line and not line[0].isspace():
            zone = line.split()[0]
        elif line.strip().startswith(f'rule priority="{PRIORITY}"'):
            found.setdefault(zone, []).append(line.strip())
    return found


_RICH = re.compile(
    r'rule priority="\d+"(?: family="\w+")?(?: source address="(?P<source>[^"]+)")?'
    r' port port="(?P<first>\d+)(?:-(?P<last>\d+))?" protocol="(?P<protocol>\w+)" accept'
)


def rule_of_rich(text: str) -> Rule | None:
    """Return the rule that a rich rule is, None when it is none that `rich_rule` makes."""
    match = _RICH.fullmatch(text)
    if not match:
        return None
    first = int(match["first"])
    return match["protocol"], first, int(match["last"] or first), match["source"] or ""


def rich_plan(wanted: Mapping[str, Iterable[str]], present: Mapping[str, Iterable[str]]) -> list[tuple[str, list[str]]]:
    """Return (zone, options) of each call of firewall-cmd that makes the zones have exactly the wanted ones of ours.

    One call adds or removes, firewall-cmd takes no mixture.
    """
    calls = []
    for zone in sorted({*wanted, *present}):
        new, old = list(wanted.get(zone, [])), list(present.get(zone, []))
        added = [f"--add-rich-rule={rule}" for rule in new if rule not in old]
        removed = [f"--remove-rich-rule={rule}" for rule in old if rule not in new]
        calls += [(zone, options) for options in (added, removed) if options]
    return calls


def device(route: str) -> str:
    """Return the interface in a line of `ip -o route get` or `ip -o address`, an empty text when there is none."""
    match = re.search(r"\bdev (\S+)", route) or re.match(r"\d+: (\S+)\s", route)
    return match[1] if match else ""


UNIT = f"{NAME}-firewall.service"


def unit(directory: str) -> str:
    """Return the systemd unit that puts our rules into the ruleset of nftables whenever that was loaded anew.

    A stop of nftables.service empties the ruleset, and ours stops with it; a start and a reload load it again, and ours
    is started or reloaded after it.
    """
    program = f"/usr/bin/python3 {directory}/nftables.py"
    return f"""# Written by Ansible (nextcloud_talk.hpb.firewall).
[Unit]
Description=Let the Nextcloud Talk backend through nftables
After=nftables.service
PartOf=nftables.service
ReloadPropagatedFrom=nftables.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={program} apply {directory}/nftables.json
ExecReload={program} apply {directory}/nftables.json
ExecStop={program} remove
CapabilityBoundingSet=CAP_NET_ADMIN
NoNewPrivileges=true
ProtectSystem=strict
ProtectHome=true
PrivateTmp=true
RestrictAddressFamilies=AF_UNIX AF_NETLINK

[Install]
WantedBy=multi-user.target nftables.service
"""


def needed(kind: str, what: str, how: str) -> str:
    """Return the sentence about a firewall that cannot be told anything."""
    return (
        f"hpb_firewall is {kind}, but {what} on this host, expected it there and active: {how}, letting SSH in first, "
        f"or choose another hpb_firewall for the group hpb (empty: you open the ports yourself)."
    )


def sequence(lines: Sequence[str]) -> str:
    """Return the lines as one text for a difference."""
    return "".join(f"{line}\n" for line in lines)
