# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an address is to the internet: one that everybody reaches, one that nobody does, or a proxy's that serves many.

Such a proxy (a CDN, a web application firewall) takes HTTP for names of others and passes it on. It takes no media: a
name that leads to it is good for the signaling server, and never for STUN and TURN.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Union

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _cdn_ranges, _ipv6

Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]

OTHER = "a CDN"
"""What a proxy is called that only the inventory names (hpb_cdn_networks)."""

# IPv4 networks whose addresses no router in the internet knows. Those for documentation are not among them, so that
# examples are judged like what they stand for.
_NOWHERE = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # A provider's own NAT (RFC 6598).
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "224.0.0.0/3",
    )
)
_CARRIER = ipaddress.ip_network("100.64.0.0/10")
_KNOWN = tuple(
    (ipaddress.ip_network(text), published.operator) for published in _cdn_ranges.LISTS for text in published.networks
)


def is_public(text: str) -> bool:
    """Whether everybody in the internet can send to this address; False for what is no address."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        return _ipv6.is_global(address)
    return not any(address in network for network in _NOWHERE)


def is_carriers(text: str) -> bool:
    """Whether this is an address inside of a provider's own NAT (RFC 6598)."""
    try:
        return ipaddress.ip_address(text) in _CARRIER
    except ValueError:
        return False


def is_loopback(text: str) -> bool:
    """Whether this address leads nowhere but to the machine itself; False for what is no address."""
    try:
        return ipaddress.ip_address(text).is_loopback
    except ValueError:
        return False


def cdn(text: str, further: Iterable[str] = ()) -> str:
    """Return whose proxy has this address, such as ``Cloudflare``; "" for nobody's.

    further: networks of proxies that only the inventory knows; one that is none is passed over, `problems` says so.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return ""
    networks = [*((network, OTHER) for network in map(_network, further) if network), *_KNOWN]
    return next((whose for network, whose in networks if address in network), "")


def problems(further: Iterable[str]) -> list[str]:
    """Return a sentence for each of these texts that is no network."""
    return [
        f"hpb_cdn_networks holds '{text}', expected a network such as 192.0.2.0/24: correct it for the group hpb."
        for text in further
        if _network(text) is None
    ]


def _network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        return None
