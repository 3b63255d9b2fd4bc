# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the names of the backend lead, against the addresses that its host has. Everything here is pure.

All functions take the same two dictionaries.

`facts`: ``addresses`` ({name: [address]}, as `seen` returns them), ``hidden`` ({name: {"answers", "dns"}} of those that
the host itself has an answer for, see `seen`), ``local`` ({address: whether it is the host's}), ``own`` (all that it
has), ``own_ip6`` (the IPv6 ones), ``media_ip`` and ``media_ip6`` (its addresses for media).

`wanted`: ``public_ip`` (empty: the host's own address is public), ``media_ip`` (as stated, empty: the host was asked),
``turn_names`` (those at which STUN and TURN are looked for), ``media_names`` (those of them that must lead to the
address for media), ``cdn`` (networks of further proxies), ``variables`` ({name: the variable that has it}).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _internet, _ipv6

Facts = Mapping[str, Any]


def seen(answers: list[str], dns: list[str] | None, further: Iterable[str] = ()) -> list[str]:
    """Return where a name leads in the internet, of which the host itself has an answer, such as in its hosts file.

    answers: that of the host. dns: that of the name server, None when there was none. What is in the internet counts
    where DNS knows it, unless the host answers with a public address, which somebody has chosen on purpose. The
    loopback says nothing.
    """
    here = [address for address in answers if not _internet.is_loopback(address)]
    outside = [address for address in dns or [] if _internet.is_public(address)]
    chosen = any(map(_internet.is_public, here)) and not any(_internet.cdn(one, further) for one in outside)
    return list(dns or []) if outside and not chosen or not here else here


def problems(facts: Facts, wanted: Mapping[str, Any]) -> list[str]:
    """Return one sentence for each problem; names that have the same one share it."""
    found = _internet.problems(wanted["cdn"])
    stated, public = _stated(facts, wanted)
    led = [name for name, addresses in facts["addresses"].items() if _leads_here(addresses, facts, public)]
    proxied = {name: whose for name in facts["addresses"] if (whose := _proxy(facts["addresses"][name], wanted["cdn"]))}
    # For the signaling server a proxy is as good as the host itself.
    judged = [name for name in led if name not in proxied]
    return [
        *found,
        *stated,
        *_proxied({name: whose for name, whose in proxied.items() if name in wanted["turn_names"]}, facts, wanted),
        *_elsewhere(sorted(set(facts["addresses"]) - set(led) - set(proxied)), facts, wanted, public),
        *_not_media(judged, facts, wanted, public),
        *_ipv6.problems(facts, judged, wanted["media_names"]),
    ]


def notes(facts: Facts, wanted: Mapping[str, Any]) -> list[str]:
    """Return one sentence for each thing that does not stop a deployment and that somebody will stumble over."""
    _stated_problems, public = _stated(facts, wanted)
    return [
        *_hidden(facts),
        *_also_elsewhere(facts, wanted, public),
        *_ipv6_only(facts, public),
        *_carriers(public),
    ]


def _ipv4(addresses: Iterable[str]) -> list[str]:
    return [address for address in addresses if ":" not in address]


def _and(items: Iterable[str]) -> str:
    return " and ".join(items)


def _who(names: list[str], verb: str) -> str:
    """Return names with a verb, such as ``The name talk.example.org leads``."""
    return f"The name{'s' if len(names) > 1 else ''} {_and(names)} {verb}{'' if len(names) > 1 else 's'}"


def _proxy(addresses: Iterable[str], further: Iterable[str]) -> str:
    """Return whose proxy one of the addresses is, "" for nobody's."""
    return next((whose for address in addresses if (whose := _internet.cdn(address, further))), "")


def _own_public(facts: Facts) -> str:
    """Return a public IPv4 address that the host itself has, that for media before others; "" when it has none."""
    own = [facts["media_ip"], *sorted(facts["own"])]
    return next(
        (one for one in _ipv4(own) if _internet.is_public(one) and (one in facts["own"] or _is(one, facts))), ""
    )


def _own_public6(facts: Facts) -> str:
    """Return the public IPv6 address for media, "" when there is none."""
    return facts["media_ip6"] if _internet.is_public(facts["media_ip6"]) else ""


def _is(address: str, facts: Facts) -> bool:
    return bool(facts["local"].get(address))


def _stated(facts: Facts, wanted: Mapping[str, Any]) -> tuple[list[str], str]:
    """Return the problems of the public address that was stated, and that address; "" when there is none to go by."""
    public = wanted["public_ip"]
    if not public:
        return [], ""
    try:
        ipaddress.IPv4Address(public)
    except ValueError:
        said = (
            f"hpb_public_ip is '{public}', expected an IPv4 address such as 192.0.2.10, to which media is sent: "
            "correct it for the group hpb."
        )
        return [said], public
    whose = _internet.cdn(public, wanted["cdn"])
    own = _own_public(facts)
    if whose:
        mend = (
            f"; this host has the public address {own} itself: remove hpb_public_ip, and let the name for TURN lead "
            "there"
            if own
            else ", expected that of the router before this host: set that one, and let the name for TURN lead there"
        )
        said = f"hpb_public_ip is {public}, an address of a proxy of {whose}, which passes on no media{mend}"
        return [f'{said} without the proxy ("DNS only").'], ""
    if public != facts["media_ip"] and _is(public, facts):
        said = (
            f"hpb_public_ip is {public}, which is an address of this host, expected one that a router before it "
            f"translates: set hpb_media_ip: {public} instead and remove hpb_public_ip."
        )
        return [said], public
    return [], public


def _leads_here(addresses: list[str], facts: Facts, public: str) -> bool:
    """Whether a name with these addresses leads to the host over IPv4, or over IPv6 where it has nothing else."""
    counting = _ipv4(addresses) or addresses
    return public in counting or any(_is(address, facts) for address in counting)


def _proxied(names: Mapping[str, str], facts: Facts, wanted: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with names for TURN that lead to somebody's proxy."""
    found = []
    _problems, public = _stated(facts, wanted)
    right, right6 = public or _own_public(facts), _own_public6(facts)
    for whose in sorted(set(names.values())):
        mine = sorted(name for name in names if names[name] == whose)
        where = sorted({one for name in mine for one in facts["addresses"][name] if _internet.cdn(one, wanted["cdn"])})
        it = "each of them" if len(mine) > 1 else "it"
        own_name = (
            ", or TURN a name of its own with such a record (hpb_turn_domain)"
            if not set(facts["addresses"]) - set(wanted["turn_names"])
            else ""
        )
        if right:
            to, rest = right, ""
        elif right6:
            to, rest = (
                f"{right6} (AAAA)",
                ", and to a public IPv4 address where this host is reached by one (hpb_public_ip)",
            )
        elif wanted["media_ip"]:
            to = f"{facts['media_ip']} (hpb_media_ip) where all calls stay in its network"
            rest = ", else to the public address of the router before this host, with that as hpb_public_ip"
        else:
            to = "the public address of the router before this host"
            rest = (
                f"; what that is cannot be seen behind the proxy, since this host has {facts['media_ip']}: say it in "
                "hpb_public_ip"
            )
        found.append(
            f"{_who(mine, 'lead')} to {', '.join(where)}, a proxy of {whose}, which passes on neither TURN nor media: "
            f'give {it} a record without the proxy ("DNS only") that leads to {to}{own_name}{rest}.'
        )
    return found


def _said_in(names: Iterable[str], wanted: Mapping[str, Any]) -> str:
    """Return the variables that have these names, "" when they are not known."""
    known = wanted.get("variables") or {}
    return _and(dict.fromkeys(known[name] for name in names if name in known))


def _elsewhere(names: list[str], facts: Facts, wanted: Mapping[str, Any], public: str) -> list[str]:
    """Return the problems of names that do not lead here; names with the same wrong addresses are one problem."""
    found = []
    own = _own_public(facts)
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        addresses = facts["addresses"][name]
        if addresses:
            groups.setdefault(tuple(addresses), []).append(name)
            continue
        if name in facts["hidden"]:
            if facts["hidden"][name]["dns"] is None:
                continue
            said = f"{_itself(name, facts)}, and DNS knows no such name,"
        else:
            said = f"The name {name} does not resolve on this host,"
        right = public or own or facts["media_ip"]
        variable = _said_in([name], wanted)
        found.append(
            f"{said} expected its public address: add a DNS record (A{', ' + name + ' -> ' + right if right else ''})"
            f"{', or correct ' + variable if variable else ''}."
        )
    for addresses_, group in groups.items():
        several = len(group) > 1
        who = f"{_who(group, 'resolve')} to {', '.join(addresses_)}{_hidden_by(group, facts)}"
        records = f"the DNS record{'s' if several else ''}"
        outside = next(iter(_ipv4(addresses_)), "")
        if variables := _said_in(group, wanted):
            records += f" (or {variables}, where the name is wrong)"
        if public:
            found.append(f"{who}, expected {public} (hpb_public_ip): mend {records} or that variable.")
        elif outside and own:
            found.append(
                f"{who}, expected {own}, the public address that this host has itself: mend {records}; if that is "
                "a CDN's proxy, name its network in hpb_cdn_networks, and let the name for TURN lead here without it."
            )
        elif outside:
            found.append(
                f"{who}, this host has {facts['media_ip'] or 'no address'}: when it is behind NAT, say "
                f"hpb_public_ip: {outside} for the group hpb, else mend {records}."
            )
        else:
            found.append(f"{who}, expected an IPv4 address as well, which media needs: mend {records}.")
    return found


def _not_media(names: list[str], facts: Facts, wanted: Mapping[str, Any], public: str) -> list[str]:
    """Return the problems of names for TURN that lead to another IPv4 address of the host than that for media.

    Where somebody has stated the latter, a private one is what the name server of a LAN says of a host in both nets.
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        addresses = _ipv4(facts["addresses"][name])
        own = [one for one in addresses if _is(one, facts) and not _internet.is_loopback(one)]
        if name not in wanted["media_names"] or not own or {facts["media_ip"], public} & set(addresses):
            continue
        fit = [one for one in own if _internet.is_public(one)]
        if not fit and (wanted["media_ip"] or _internet.is_public(facts["media_ip"])):
            continue
        groups.setdefault((fit or own)[0], []).append(name)
    return [
        f"{_who(group, 'lead')} to {address}, which this host has, but STUN, TURN and media are at its address "
        f"{facts['media_ip']} alone: set hpb_media_ip: {address} for the group hpb, or let "
        f"{'them' if len(group) > 1 else 'it'} lead to {facts['media_ip']}."
        for address, group in groups.items()
    ]


# --- what is only said ---------------------------------------------------------------------------------------------


def _itself(name: str, facts: Facts) -> str:
    answers = ", ".join(facts["hidden"][name]["answers"])
    return f"This host itself answers {answers} for {name} (its hosts file, or since it is called so)"


def _hidden_by(names: list[str], facts: Facts) -> str:
    """Return in brackets that the host itself has another answer, "" when it has none."""
    answers = sorted({one for name in names if name in facts["hidden"] for one in facts["hidden"][name]["answers"]})
    return f" in DNS (on this host itself its hosts file hides that with {', '.join(answers)})" if answers else ""


def _hidden(facts: Facts) -> list[str]:
    """Return what nobody could see, since the host itself has an answer."""
    found = []
    for name, hidden in sorted(facts["hidden"].items()):
        dns, here = hidden["dns"], facts["addresses"][name]
        if dns is None and not here:
            found.append(
                f"{_itself(name, facts)}, and no name server could be asked where it leads for others: "
                "remove that line of /etc/hosts, and see that the name leads here."
            )
        elif dns and here and not set(dns) & set(here):
            found.append(
                f"{_itself(name, facts)}, but DNS {', '.join(dns)}: where everybody else is to come here, mend the "
                "DNS record."
            )
    return found


def _also_elsewhere(facts: Facts, wanted: Mapping[str, Any], public: str) -> list[str]:
    """Return the names that lead here and to somebody else as well."""
    found = []
    for name, addresses in sorted(facts["addresses"].items()):
        wrong = [one for one in _ipv4(addresses) if not _is(one, facts) and one != public]
        if _leads_here(addresses, facts, public) and wrong and not _proxy(addresses, wanted["cdn"]):
            found.append(
                f"The name {name} leads here and to {', '.join(wrong)} as well, which this host has not: who gets "
                "that address lands there, so remove that DNS record unless it is another way to this host."
            )
    return found


def _ipv6_only(facts: Facts, public: str) -> list[str]:
    """Return the names by which nobody comes in who has no IPv6."""
    names = sorted(
        name
        for name, addresses in facts["addresses"].items()
        if addresses and not _ipv4(addresses) and _leads_here(addresses, facts, public)
    )
    if not names:
        return []
    where = ", ".join(sorted({one for name in names for one in facts["addresses"][name]}))
    right = public or _own_public(facts)
    mend = (
        f"add an A record that leads to {right}"
        if right
        else "where your provider gives you no public IPv4 address (DS-Lite), ask it for one, or run the backend on a "
        "machine that has one, such as a rented one"
    )
    return [f"{_who(names, 'lead')} here over IPv6 only ({where}), so nobody without IPv6 gets into a call: {mend}."]


def _carriers(public: str) -> list[str]:
    if not _internet.is_carriers(public):
        return []
    return [
        f"hpb_public_ip is {public}, an address inside of your provider's own NAT, which nobody in the internet "
        "reaches: "
        "ask it for a public one, or run the backend on a machine that has one."
    ]
