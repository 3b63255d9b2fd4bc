# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which names a Nextcloud answers to, and whether the inventory has one that is none of them. No input or output."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit


def hostname(name: str) -> str:
    """Return `name` in lower case and without a port."""
    return re.sub(r":\d+$", "", name.strip().lower())


def is_public(name: str) -> bool:
    """Whether people on the internet may know a Nextcloud by this name: no wildcard, no address, with a dot."""
    host = hostname(name)
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return "*" not in host and "." in host.strip(".") and not host.endswith((".localhost", ".localdomain"))
    return False


def is_named(url: str, patterns: Iterable[str]) -> bool:
    """Whether the name in `url` is among trusted domains.

    A name is compared without regard to case, with its port and without; `*` stands for any part of it
    (lib/private/Security/TrustedDomainHelper.php of Nextcloud).
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    names = {parts.hostname or "", parts.netloc.lower()}
    regexes = ("[-.a-z0-9]*".join(re.escape(part) for part in one.lower().split("*")) for one in patterns)
    return any(re.fullmatch(regex, name) for regex in regexes for name in names)


def misnamed(urls: Sequence[str], cli_url: str, trusted: Sequence[str], overwritehost: str = "") -> list[str]:
    """Return those of the inventory's `urls` of which the Nextcloud knows nothing, while it has an address of its own.

    That is so where its `overwrite.cli.url` is a public https address to which it answers: then the inventory is
    wrong, and whoever gave the Nextcloud the inventory's name would spoil it. Otherwise nothing is known.
    """
    names = [*trusted, *([overwritehost] if overwritehost else [])]
    try:
        own = urlsplit(cli_url.strip())
        known = own.scheme.lower() == "https" and is_public(own.hostname or "") and is_named(cli_url.strip(), names)
    except ValueError:
        return []
    return [url for url in urls if not is_named(url, names)] if known else []
