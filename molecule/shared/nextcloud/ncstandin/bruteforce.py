# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nextcloud's brute force protection, which counts the failures of an address and delays what comes from it.

Facts: the server's `OC\\Security\\Bruteforce\\Throttler` and `BruteForceMiddleware`: failures count for 12 hours and
for the whole subnet (an IPv4 address, or a /64), each doubles the delay from 0.2 to 25 seconds, and beyond ten within
half an hour the answer is 429. What is right is delayed as well and resets nothing.
"""

from __future__ import annotations

import ipaddress
import time
from typing import Any

from .console import OUTPUT, Argument, Call, Command, ConsoleError
from .state import Instance

SIGNALING = "talkSignalingSecret"
"""The action under which Talk counts a wrong checksum (SignalingController::backend)."""
MAX_ATTEMPTS = 10
MAX_DELAY_MS = 25000
REMEMBERED = 12 * 3600
BLOCKED = 1800


def _table(instance: Instance) -> Any:
    connection = instance.connect()
    connection.execute(
        "CREATE TABLE IF NOT EXISTS oc_bruteforce_attempts (id INTEGER PRIMARY KEY, action TEXT, occurred INTEGER,"
        " ip TEXT, subnet TEXT)"
    )
    return connection


def subnet(address: str) -> str:
    """Return what counts together with an address."""
    found = ipaddress.ip_address(address)
    return str(ipaddress.ip_network(f"{found}/{32 if found.version == 4 else 64}", strict=False))


def attempts(instance: Instance, address: str, action: str = "", seconds: int = REMEMBERED) -> int:
    """Return how many failures of an address count."""
    connection = _table(instance)
    try:
        rows = connection.execute(
            "SELECT COUNT(*) FROM oc_bruteforce_attempts WHERE occurred > ? AND subnet = ? AND ? IN ('', action)",
            (int(time.time()) - seconds, subnet(address), action),
        )
        return int(rows.fetchone()[0])
    finally:
        connection.close()


def delay(instance: Instance, address: str, action: str = "") -> int:
    """Return for how many milliseconds what comes from an address has to wait."""
    found = attempts(instance, address, action)
    return 0 if not found else MAX_DELAY_MS if found > MAX_ATTEMPTS else min(100 * 2**found, MAX_DELAY_MS)


def register(instance: Instance, address: str, action: str) -> None:
    """Count one more failure."""
    connection = _table(instance)
    connection.execute(
        "INSERT INTO oc_bruteforce_attempts (action, occurred, ip, subnet) VALUES (?, ?, ?, ?)",
        (action, int(time.time()), address, subnet(address)),
    )
    connection.close()


def wait(instance: Instance, address: str, action: str) -> bool:
    """Wait as long as the address has to; returns whether its request is refused altogether."""
    milliseconds = delay(instance, address, action)
    if milliseconds == MAX_DELAY_MS and attempts(instance, address, action, BLOCKED) > MAX_ATTEMPTS:
        return True
    time.sleep(milliseconds / 1000)
    return False


def _address(call: Call) -> str:
    address = call.arguments["ipaddress"]
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise ConsoleError(f'"{address}" is not a valid IP address') from None
    return address


def show(call: Call) -> int:
    """Print what counts for an address."""
    address, action = _address(call), call.arguments["action"] or ""
    milliseconds: Any = delay(call.instance, address, action)
    call.show(
        {
            "bypass-listed": False,
            "attempts": attempts(call.instance, address, action),
            "delay": milliseconds if call.options["output"] != "plain" else f"{milliseconds} ms",
        }
    )
    return 0


def reset(call: Call) -> int:
    """Forget what this very address has done."""
    connection = _table(call.instance)
    connection.execute("DELETE FROM oc_bruteforce_attempts WHERE ip = ?", (_address(call),))
    connection.close()
    return 0


COMMANDS = (
    Command(
        "security:bruteforce:attempts", show, (Argument("ipaddress"), Argument("action", required=False)), (OUTPUT,)
    ),
    Command("security:bruteforce:reset", reset, (Argument("ipaddress"),)),
)
