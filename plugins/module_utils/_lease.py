# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One writer at a time on one Nextcloud, wherever the others run.

occ reads Talk's settings, changes them and writes them back without a lock, so that of several writers all but one lose
what they wrote. A lock on this host (`Occ.alone`) keeps out the writers of this host. For those on other hosts there is
a lease in the only place that all of them share: a value in Nextcloud's own app configuration.

That value can be read and written, but not compared and written in one step. Fischer's algorithm needs no more: write
one's own token only while the lease is free, wait longer than anybody who saw it free as well can need to write theirs,
and read it back. The last one to write finds their own token and holds the lease; all others wait.

A holder that was killed leaves its token behind. It is dead for those who have seen the same token for `DEAD` seconds
by their own clock, since a living one writes a new token every `RENEW` seconds.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Callable

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._occ import Occ, OccError

APP = "nextcloud_talk_hpb"
KEY = "lease"
FREE = "free"
"""What occ answers for a lease that nobody has; no token is this word."""

SETTLE = 1.0
"""Seconds at least between writing a token and believing it."""
SLOWER = 3
"""Times our slowest command that we wait. Between another writer's look and their token lie two starts of occ, so
theirs may take half as long again as ours.
"""
POLL = 0.5
"""Seconds at least between two looks at somebody else's token; twice that at most, so that nobody stays in step."""
RENEW = 20.0
DEAD = 60.0
LIMIT = 300.0
"""Seconds after which a writer gives up waiting."""


class LeaseBusy(OccError):
    """Others changed Talk's settings for all of the time that was waited."""


class LeaseLost(OccError):
    """Somebody took the lease for abandoned while we still had it."""


class Lease:
    """The lease on the Nextcloud that `occ` reaches. `clock` is monotonic, in seconds."""

    def __init__(
        self, occ: Occ, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._occ, self._clock, self._sleep = occ, clock, sleep
        self._slowest = 0.0
        self._token = ""
        self._written = 0.0

    def take(self) -> None:
        """Wait until the lease is ours. Raises `LeaseBusy` after `LIMIT` seconds, or what occ raises."""
        start = self._clock()
        seen, since = FREE, start
        while True:
            token = self._read()
            now = self._clock()
            if token != seen:
                seen, since = token, now
            if token == FREE or now - since >= DEAD:
                self._write()
                self._sleep(max(SETTLE, SLOWER * self._slowest))
                seen, since = self._read(), self._clock()
                if seen == self._token:
                    return
            if now - start >= LIMIT:
                raise LeaseBusy(
                    f"{self._occ.where} was being set up by somebody else for {LIMIT:.0f} s; "
                    "wait until the other runs of this collection have ended, and run this again."
                )
            self._sleep(random.uniform(POLL, 2 * POLL))  # noqa: S311 - no secret

    def keep(self) -> None:
        """Make sure, before a change, that the lease is ours and will be for long enough. Raises `LeaseLost`."""
        if self._clock() - self._written < RENEW:
            return
        if self._read() != self._token:
            raise LeaseLost(
                f"{self._occ.where} takes so long for each command that somebody else began to change Talk's settings "
                "meanwhile; see why this Nextcloud is so slow, and run this again."
            )
        self._write()

    def release(self) -> None:
        """Give the lease back if it is still ours."""
        if self._read() == self._token:
            self._timed("config:app:delete", APP, KEY)

    def _read(self) -> str:
        """Return the token that is stored; PHP sometimes prints warnings before it."""
        lines = self._timed("config:app:get", f"--default-value={FREE}", APP, KEY).split()
        return lines[-1] if lines else FREE

    def _write(self) -> None:
        self._token = secrets.token_hex(16)
        self._timed("config:app:set", f"--value={self._token}", APP, KEY)
        self._written = self._clock()

    def _timed(self, *arguments: str) -> str:
        """Run one occ command, and remember how long the slowest one took."""
        start = self._clock()
        out = self._occ.run(list(arguments)).out
        self._slowest = max(self._slowest, self._clock() - start)
        return out


@contextmanager
def held(occ: Occ) -> Iterator[Callable[[], None]]:
    """Hold the lease; give `keep`, which has to be called before each change.

    Raises an `OccError` when it cannot be had. Writers of this host should queue for `Occ.alone` first, which is exact
    and costs nothing.
    """
    lease = Lease(occ)
    try:
        lease.take()
        yield lease.keep
    finally:
        # What happened inside matters more, and a lease that stays behind is taken over.
        with suppress(OccError):
            lease.release()
