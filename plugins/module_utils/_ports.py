# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ports of the backend: which of them collide, and which have to be open for whom. Everything here is pure.

All functions take the same settings, the variable hpb_used_ports: ``profile`` (hpb_network_profile), ``own`` (bool:
our own Traefik serves the backend on 80 and 443), ``form`` (the port at which it serves a proxy that is only a form; 0:
none), ``acme_http`` (bool: Let's Encrypt proves the name by port 80), ``turn``,
``turn_tls`` (0: none), ``turn_443`` (the name for TURN on port 443, "" for none), ``turn_proxy``, ``signaling``,
``media`` and ``relay`` (first and last UDP port of Janus and of coturn), ``nats``, ``nats_monitor``, ``janus`` and
``ping`` (those of NATS, Janus and Traefik on the host itself), ``relay_443`` (how many of the last relay ports are for
those who come by port 443), ``listen`` and ``proxy`` (hpb_signaling_address, hpb_proxy_address), ``container``
(hpb_proxy_container), ``public`` and ``private`` (the addresses outside and inside of a 1:1 NAT; "" or a name where
there is none, or it is not known).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any, NamedTuple

LAST = 65535
# Below are ports that the kernel gives to root alone, and those of well-known services.
FIRST_OF_RANGE = 1024
# In a call of two each one sends on a port of its own, and receives on another.
LEAST_OF_RANGE = 4
# The variables behind the settings, and what each is for.
TURN = ("hpb_turn_port", "STUN and TURN")
TURN_TLS = ("hpb_turn_tls_port", "TURN over TLS")
TURN_PROXY = ("hpb_turn_proxy_port", "what coturn takes from port 443")
FORM = ("hpb_proxy_port", "what our Traefik takes from your own proxy")
SIGNALING = ("hpb_signaling_port", "the signaling server")
NATS = ("hpb_nats_port", "NATS")
NATS_MONITOR = ("hpb_nats_monitor_port", "the monitor of NATS")
JANUS = ("hpb_janus_port", "the websocket of Janus")
PING = ("traefik_ping_port", "the health check of Traefik")
MEDIA = ("janus_min_port to janus_max_port", "media of Janus")
RELAY = ("coturn_min_port to coturn_max_port", "media relayed by coturn")

Span = tuple[str, int, int]


class Use(NamedTuple):
    """What takes ports: the variable ("": none, it is always there), what for, and (protocol, first, last) of each."""

    variable: str
    purpose: str
    spans: tuple[Span, ...]


def number(value: Any) -> int | None:
    """Return the whole number that `value` is or spells, None for anything else."""
    text = str(value).strip()
    return int(text) if text.isascii() and text.isdigit() and not isinstance(value, bool) else None


def problems(settings: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each port or range that cannot work, those that two programs would share included."""
    found = _numbers(settings)
    # Of numbers that are none nobody can say what they overlap with.
    return found or _overlaps(uses(settings))


def _numbers(settings: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with each value for itself."""
    found = []
    single = [("turn", TURN[0], 1), ("turn_tls", TURN_TLS[0], 0)]
    if settings["turn_443"]:
        single.append(("turn_proxy", TURN_PROXY[0], 1))
    single += [(key, variable, 1) for key, (variable, _purpose) in _inner(settings)]
    for key, variable, lowest in single:
        value = number(settings[key])
        if value is None or not lowest <= value <= LAST:
            none = ", such as 5349, or 0 for none" if key == "turn_tls" else f" from {lowest} to {LAST}"
            found.append(
                f"{variable} is '{settings[key]}', expected a port of its own{none}: correct it for the group hpb."
            )
    for key, (variables, purpose) in (("media", MEDIA), ("relay", RELAY)):
        found.extend(_range(variables.split(" to "), purpose, settings[key]))
    if settings["turn_443"] and not found:
        first, last = (int(port) for port in settings["relay"])
        share, size = number(settings["relay_443"]), last - first + 1
        if share is None or not 1 <= share < size:
            found.append(
                f"coturn_443_ports is '{settings['relay_443']}', expected 1 to {size - 1} of the {size} ports "
                f"{first}-{last} (coturn_min_port to coturn_max_port), the others being for those who do not come by "
                "port 443: correct one of the three for the group hpb."
            )
    return found


def _range(variables: list[str], purpose: str, values: Iterable[Any]) -> list[str]:
    """Return what is wrong with the first and the last port of a range."""
    values = list(values)
    found = []
    for variable, value in zip(variables, values):
        port = number(value)
        if port is None or not FIRST_OF_RANGE <= port <= LAST:
            found.append(
                f"{variable} is '{value}', expected a port from {FIRST_OF_RANGE} to {LAST} for {purpose}: correct it "
                "for the group hpb."
            )
    if not found and int(values[0]) > int(values[1]):
        found.append(
            f"{variables[0]} is {values[0]} and {variables[1]} is {values[1]}, expected the first and the last port "
            f"for {purpose}: correct one of them for the group hpb."
        )
    elif not found and int(values[1]) - int(values[0]) + 1 < LEAST_OF_RANGE:
        found.append(
            f"{variables[0]} is {values[0]} and {variables[1]} is {values[1]}, expected {LEAST_OF_RANGE} ports at "
            f"least for {purpose}, as many as a call of two takes: correct one of them for the group hpb."
        )
    return found


def uses(settings: Mapping[str, Any]) -> list[Use]:
    """Return what takes ports on the host, in the order in which a person would change them.

    In the profile `bridge` only what Docker publishes does: each program has an address of its own for the rest.
    """
    turn, turn_tls = int(settings["turn"]), int(settings["turn_tls"])
    found = [Use(*TURN_TLS, (("tcp", turn_tls, turn_tls),))] if turn_tls else []
    found.append(Use(*TURN, (("tcp", turn, turn), ("udp", turn, turn))))
    if settings["own"]:
        found += [Use("", "HTTP of our Traefik", (("tcp", 80, 80),)), Use("", "HTTPS", (("tcp", 443, 443),))]
    form = number(settings["form"]) or 0
    if form:
        found.insert(0, Use(*FORM, (("tcp", form, form),)))
    if settings["profile"] == "bridge":
        return found
    if settings["turn_443"]:
        turn_proxy = int(settings["turn_proxy"])
        found.insert(0, Use(*TURN_PROXY, (("tcp", turn_proxy, turn_proxy), ("udp", turn_proxy, turn_proxy))))
    # What it must be by itself is judged with the proxy's settings.
    signaling = number(settings["signaling"]) or 0
    if signaling >= FIRST_OF_RANGE:
        found.insert(0, Use(*SIGNALING, (("tcp", signaling, signaling),)))
    for variables, key in ((RELAY, "relay"), (MEDIA, "media")):
        first, last = (int(port) for port in settings[key])
        found.insert(0, Use(*variables, (("udp", first, last),)))
    found += [Use(*what, (("tcp", int(settings[key]), int(settings[key])),)) for key, what in _inner(settings)]
    return found


def _inner(settings: Mapping[str, Any]) -> list[tuple[str, tuple[str, str]]]:
    """Return the settings of the ports that the programs have for each other, with variable and purpose."""
    found = [("ping", PING)] if settings["own"] or number(settings["form"]) else []
    return [*found, ("nats", NATS), ("nats_monitor", NATS_MONITOR), ("janus", JANUS)]


def _overlaps(known: list[Use]) -> list[str]:
    """Return a sentence for each two that share ports."""
    found = []
    for one, other in combinations(known, 2):
        shared = [
            (protocol, max(first, start), min(last, end))
            for protocol, first, last in one.spans
            for another, start, end in other.spans
            if protocol == another and max(first, start) <= min(last, end)
        ]
        if shared:
            where = " and ".join(f"{protocol}/{ports(first, last)}" for protocol, first, last in shared)
            are = "are" if len(shared) > 1 or shared[0][1] < shared[0][2] else "is"
            hint = ", such as 5349, or 0 for none" if one.variable == TURN_TLS[0] else ""
            theirs = f" ({other.variable})" if other.variable else ""
            either = f"one of {one.variable} and {other.variable}" if other.variable else "it"
            further = (
                " For TURN on port 443 set hpb_turn_443_domain."
                if one.variable == TURN_TLS[0] and ("tcp", 443, 443) in shared
                else ""
            )
            span = ports(*one.spans[0][1:])
            found.append(
                f"{one.variable} is {span}, expected {'ports' if '-' in span else 'a port'} of its own{hint}: {where} "
                f"{are} for {other.purpose}{theirs} as well. Change {either} for the group hpb.{further}"
            )
    return found


def ports(first: int, last: int) -> str:
    """Return how a port or a range is written."""
    return str(first) if first == last else f"{first}-{last}"


def spans(text: str) -> list[tuple[int, int]]:
    """Return (first, last) of each entry of the kernel's net.ipv4.ip_local_reserved_ports, as in 8080,9000-9010."""
    found = []
    for part in text.replace(" ", "").strip().split(","):
        first, _dash, last = part.partition("-")
        if first:
            found.append((int(first), int(last or first)))
    return found


def ephemeral_problems(ranges: Iterable[Mapping[str, Any]], local: str, reserved: str) -> list[str]:
    """Return a sentence for each of the ranges that the kernel takes ports for outgoing connections from.

    :param ranges: each with ``name``, ``first`` and ``last``.
    :param local: /proc/sys/net/ipv4/ip_local_port_range, "32768 60999" (Linux Documentation/networking/ip-sysctl.rst).
    :param reserved: ip_local_reserved_ports beside it: those of them that the kernel never takes.
    """
    low, high = (int(port) for port in local.split())
    kept = spans(reserved)
    found = []
    for one in ranges:
        first, last = max(int(one["first"]), low), min(int(one["last"]), high)
        free = first
        for start, end in sorted(kept):
            if start <= free <= end:
                free = end + 1
        if free > last or first > last:
            continue
        value = ",".join([*(ports(*span) for span in kept), ports(first, last)])
        found.append(
            f"{one['name']} is {ports(int(one['first']), int(one['last']))}, expected ports that the kernel of this "
            f"host does not give to outgoing connections ({low}-{high}), or a call fails when one of them is taken: "
            f"choose others for the group hpb, or reserve them, with the line net.ipv4.ip_local_reserved_ports = "
            f"{value} in /etc/sysctl.d/90-nextcloud-talk.conf and sysctl --system."
        )
    return found


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _behind_the_proxy(settings: Mapping[str, Any]) -> tuple[Any, str]:
    """Return the port to which a proxy of others passes on, and what listens there."""
    if int(settings["form"]):
        return settings["form"], "our Traefik"
    return settings["signaling"], "the signaling server"


def rules(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what has to be open, for settings that `problems` has nothing to say about.

    :returns: dictionaries with ``protocol``, ``first``, ``last``, ``source`` (the one address that may; "" for
        everybody) and ``why``. What is for the host itself is in none of them.
    """
    found: list[dict[str, Any]] = []

    def add(protocol: str, first: Any, last: Any, why: str, source: str = "") -> None:
        rule = {"protocol": protocol, "first": int(first), "last": int(last), "source": source, "why": why}
        found.append(rule)

    if settings["own"]:
        if settings["acme_http"]:
            add("tcp", 80, 80, "Let's Encrypt proves the names of the certificate, now and at each renewal")
        beside = ", and TURN over TLS beside it" if settings["turn_443"] else ""
        add("tcp", 443, 443, f"browsers, apps and the Nextclouds reach the signaling server{beside}")
    elif not (_is_loopback(settings["proxy"]) or _is_loopback(settings["listen"])):
        port, to = _behind_the_proxy(settings)
        why = f"your own proxy passes on to {to}, in plain HTTP"
        add("tcp", port, port, why, str(ipaddress.ip_address(settings["proxy"])))
    turn, turn_tls = int(settings["turn"]), int(settings["turn_tls"])
    add("udp", turn, turn, "STUN and TURN")
    add("tcp", turn, turn, "TURN for clients whose network lets no udp through")
    if turn_tls:
        add("tcp", turn_tls, turn_tls, "TURN over TLS, for clients whose network lets nothing else through")
    if settings["profile"] == "host":
        add("udp", *settings["media"], "media to and from Janus")
        add("udp", *settings["relay"], "media that TURN relays, for calls of two and with other servers")
    return found


def table(settings: Mapping[str, Any], host: str, firewall: str, short: bool = False) -> list[str]:
    """Return the lines that say to a person what has to be open, and what a router has to pass on.

    :param host: what the host is called.
    :param firewall: what is opened by itself (hpb_firewall), "" for nothing.
    :param short: whether to leave out what each port is for.
    """
    known = rules(settings)
    if short:
        return [f"Ports to be open for {host}: {_summary(known)}. {_who(settings, firewall)}"]
    rows = [
        (ports(rule["first"], rule["last"]), rule["protocol"], rule["source"] or "everybody", rule["why"])
        for rule in known
    ]
    lines = [f"Ports to be open for {host}. {_who(settings, firewall)}", *_columns([_HEAD, *rows])]
    if not settings["own"]:
        lines.append("443 tcp is your own proxy's, which serves the signaling server: open it where that is.")
        if settings["container"] and _is_loopback(settings["proxy"]):
            lines.append(
                f"{_behind_the_proxy(settings)[0]} tcp is for the container {settings['container']} alone, whose "
                "address is found out when it is deployed."
            )
    if settings["public"]:
        private = _private(settings)
        lines.append(f"What the router passes on, from {settings['public']} to the same port of {private}:")
        lines += _columns(
            [
                (f"{rule['protocol']} {settings['public']}:{span}", "->", f"{private}:{span}")
                for rule in known
                if not rule["source"]
                for span in [ports(rule["first"], rule["last"])]
            ]
        )
    return lines


def _private(settings: Mapping[str, Any]) -> str:
    """Return where a router passes packets on to; only a name or the public address may be known."""
    try:
        address = str(ipaddress.ip_address(settings["private"]))
    except ValueError:
        address = ""
    return address if address not in ("", settings["public"]) else "this host's private address"


_HEAD = ("port", "protocol", "from", "for")


def _columns(rows: list[tuple[str, ...]]) -> list[str]:
    """Return the rows as lines whose columns are below each other."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def _summary(known: list[dict[str, Any]]) -> str:
    """Return the rules in one line."""
    parts = []
    for protocol in ("tcp", "udp"):
        mine = [rule for rule in known if rule["protocol"] == protocol]
        texts = [
            ports(rule["first"], rule["last"]) + (f" (from {rule['source']} only)" if rule["source"] else "")
            for rule in mine
        ]
        parts.append(f"{protocol} {', '.join(texts)}")
    return "; ".join(parts)


def _who(settings: Mapping[str, Any], firewall: str) -> str:
    """Return the sentence about who opens the ports on the host, and before it."""
    before = (
        f"The router has to pass them on from {settings['public']} to {_private(settings)}."
        if settings["public"]
        else "A firewall before the host, such as a cloud's, is yours."
    )
    if settings["profile"] == "bridge":
        return f"Docker publishes them past ufw, firewalld and nftables, so nothing is opened on the host. {before}"
    if firewall:
        return f"On the host {firewall} opens them (hpb_firewall). {before}"
    return f"On the host they are yours to open, or set hpb_firewall: ufw, firewalld or nftables. {before}"
