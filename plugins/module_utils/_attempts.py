# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Nextcloud has counted against an address, by its brute force protection.

Each request of the signaling server with a wrong checksum counts for the address from which it comes, for 12 hours,
and delays what comes from there by up to 25 seconds, which is longer than the server waits. Source: Nextcloud's
OC\\Security\\Bruteforce\\Throttler, and SignalingController::backend of Talk.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._occ import Occ, OccError

SIGNALING = "talkSignalingSecret"
"""The action under which Talk counts them."""


def attempts(document: Any) -> int:
    """Return how many count, in the answer of `occ security:bruteforce:attempts`; raises ValueError for another one."""
    if not isinstance(document, dict) or not isinstance(document.get("attempts"), int):
        raise ValueError("no number of attempts")
    return int(document["attempts"])


def counted(occ: Occ, addresses: Iterable[str]) -> dict[str, int]:
    """Return {address: wrong requests of a signaling server that count}, without those that have none.

    Raises `OccError`.
    """
    found = {}
    for address in dict.fromkeys(addresses):
        try:
            number = attempts(occ.json(["security:bruteforce:attempts", address, SIGNALING]))
        except ValueError:
            raise OccError(
                f"{occ.where} was expected to say how many attempts of {address} it has counted and said something "
                f"else; run 'occ security:bruteforce:attempts {address}' by hand to see what."
            ) from None
        if number:
            found[address] = number
    return found


def reset(occ: Occ, addresses: Iterable[str]) -> None:
    """Have these addresses forgotten. Raises `OccError`."""
    for address in addresses:
        occ.run(["security:bruteforce:reset", address])
