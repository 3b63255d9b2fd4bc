# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Address records of a name with the time for which they are kept, from a name server (RFC 1035, RFC 3596)."""

from __future__ import annotations

import ipaddress
import secrets
import socket
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _internet

A, AAAA = 1, 28
TIMEOUT = 3.0
"""Seconds to wait for a name server."""
_INTERNET = 1
_TRUNCATED = 0x0200
_POINTER = 0xC0
# Where systemd-resolved listens (systemd-resolved.service(8)).
_STUBS = {"127.0.0.53", "127.0.0.54"}


class DnsError(Exception):
    """The answer cannot be used; the text is the reason, as the end of a sentence."""


def servers(text: str) -> list[str]:
    """Return the addresses of the name servers in the text of a resolv.conf."""
    lines = [line.split() for line in text.splitlines()]
    return [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]


def resolvers(etc: Path = Path("/etc/resolv.conf"), real: Path = Path("/run/systemd/resolve/resolv.conf")) -> list[str]:
    """Return the addresses of this machine's name servers.

    In place of systemd-resolved itself, which answers from the hosts file (resolved.conf(5), ReadEtcHosts), those whom
    it asks.
    """
    known = servers(etc.read_text(encoding="utf-8")) if etc.is_file() else []
    if known and set(known) <= _STUBS and real.is_file():
        return servers(real.read_text(encoding="utf-8"))
    return known


def look_up(name: str, known: list[str]) -> list[tuple[str, int]] | None:
    """Ask the name servers for a name; returns what `answers` does for both families, None when none of them answers.

    The one that answers is the first of `known` from then on: those before it would be waited for again.
    """
    for server in list(known):
        try:
            found = ask(server, name, A) + ask(server, name, AAAA)
        except (OSError, DnsError):
            known.remove(server)
            continue
        return found
    return None


def question(name: str, kind: int, number: int) -> bytes:
    """Return the message that asks for the records of this kind; raises DnsError for what is no name."""
    try:
        labels = name.rstrip(".").encode("idna").split(b".")
    except UnicodeError as error:
        raise DnsError(f"{name} is no name") from error
    words = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return struct.pack("!6H", number, 0x0100, 1, 0, 0, 0) + words + struct.pack("!2H", kind, _INTERNET)


def _after_name(message: bytes, place: int) -> int:
    """Return where the name that begins at `place` ends."""
    while message[place]:
        if message[place] & _POINTER:
            return place + 2
        place += 1 + message[place]
    return place + 1


def answers(message: bytes, kind: int, number: int) -> list[tuple[str, int]]:
    """Return (address, seconds for which it may be kept) of each record; a name that is not there has none.

    Raises DnsError for what is no whole answer to the question `number`.
    """
    try:
        found, flags, questions, records = struct.unpack("!4H", message[:8])
        if found != number or not flags & 0x8000:
            raise DnsError("the answer is to another question")
        if flags & _TRUNCATED or flags & 15 not in (0, 3):
            raise DnsError(f"the name server refused (code {flags & 15})")
        place, result = 12, []
        for _question in range(questions):
            place = _after_name(message, place) + 4
        for _record in range(records):
            place = _after_name(message, place)
            this, _class, seconds, length = struct.unpack("!HHIH", message[place : place + 10])
            data, place = message[place + 10 : place + 10 + length], place + 10 + length
            if this == kind:
                result.append((str(ipaddress.ip_address(data)), seconds))
    except (IndexError, struct.error, ValueError) as error:
        raise DnsError("the answer is damaged") from error
    return result


def ask(server: str, name: str, kind: int) -> list[tuple[str, int]]:
    """Ask the name server; returns what `answers` does. Raises DnsError or OSError."""
    number = secrets.randbelow(1 << 16)
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as asked:
        asked.settimeout(TIMEOUT)
        asked.connect((server, 53))
        asked.send(question(name, kind, number))
        return answers(asked.recv(4096), kind, number)


def checklist(
    names: Iterable[str],
    records: Mapping[str, Mapping[str, Any]],
    address: str,
    *,
    others: Iterable[str] = (),
    direct: Iterable[str] = (),
    further: Iterable[str] = (),
) -> list[str]:
    """Return a line for each name: where it leads, for how long that is kept, and where it must lead.

    records: {name: {"addresses": [address], "seconds": how long at most, None when not known}}. address: the one to
    lead to. others: addresses that are also right, as the host's IPv6 one. direct: the names that a proxy in the
    internet is no good for. further: networks of such proxies that only the inventory knows.
    """
    right = {address, *others}
    lines = []
    for name in names:
        found = records.get(name, {"addresses": [], "seconds": None})
        wrong = [one for one in found["addresses"] if one not in right]
        now = ", ".join(found["addresses"]) or "nowhere"
        whose = next((whose for one in wrong if (whose := _internet.cdn(one, further))), "")
        if found["addresses"] and not wrong:
            lines.append(f"{name} leads to {now}: nothing is to be done")
            continue
        if whose and name not in direct:
            lines.append(
                f"{name} leads to {now}, a proxy of {whose}, which must lead to {address}: change the record there; "
                "that it is changed cannot be seen from outside"
            )
            continue
        kept = "" if found["seconds"] is None else f" (kept by others for {found['seconds']} s or longer)"
        past = f' without the proxy of {whose} ("DNS only")' if whose else ""
        lines.append(f"{name} leads to {now}{kept} and must lead to {address}{past}: change its DNS record")
    return lines
