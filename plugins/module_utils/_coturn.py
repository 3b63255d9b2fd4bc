# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The TURN secrets in coturn's SQLite database, which coturn reads at every authentication.

coturn (src/apps/relay/dbdrivers/dbd_sqlite.c) creates whatever table is missing when it connects, so a
database that holds turn_secret alone is complete enough to start with.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

MASK = "********"
NEW = "(new secret)"
BUSY_SECONDS = 20.0

_TABLE = "CREATE TABLE turn_secret (realm varchar(127) DEFAULT '', value varchar(127), PRIMARY KEY (realm, value))"


class CoturnError(Exception):
    """The database cannot be used; the text is the reason, without path and without a secret."""


@dataclass(frozen=True)
class Current:
    """What the database holds of one realm: whether the table is there, and the secrets."""

    table: bool = False
    secrets: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Plan:
    """What is to be done: create the table, add and withdraw secrets (sorted)."""

    table: bool
    add: list[str]
    withdraw: list[str]

    def actions(self, realm: str) -> list[str]:
        """Return the plan in words, without a secret."""
        words = ["create the table turn_secret"] if self.table else []
        if self.add:
            words.append(f"add {len(self.add)} secret(s) to realm {realm}")
        if self.withdraw:
            words.append(f"withdraw {len(self.withdraw)} secret(s) from realm {realm}")
        return words


def plan(current: Current, wanted: Iterable[str]) -> Plan:
    """Return what leads from `current` to exactly the secrets `wanted`."""
    target = set(wanted)
    return Plan(not current.table, sorted(target - current.secrets), sorted(current.secrets - target))


def diff(realm: str, current: Current, steps: Plan) -> dict[str, str]:
    """Return an Ansible diff of the number of secrets, with one masked line for each."""
    kept = len(current.secrets) - len(steps.withdraw)

    def text(count: int, new: int, exists: bool) -> str:
        lines = [f"realm {realm}: {count} secret(s)", *[MASK] * (count - new), *[NEW] * new]
        return "\n".join([*lines, ""]) if exists else ""

    return {
        "before": text(len(current.secrets), 0, current.table),
        "after": text(kept + len(steps.add), len(steps.add), True),
    }


@contextmanager
def acting_as(uid: int, gid: int) -> Iterator[None]:
    """Run the block with the effective user and group `uid`, `gid`; nothing happens when we are not root.

    So a journal that a killed run leaves belongs to coturn, and a link that coturn's user made leads
    nowhere that this user may not go.
    """
    if os.geteuid() != 0:
        yield
        return
    groups, old_gid = os.getgroups(), os.getegid()
    old_umask = os.umask(0o077)
    try:
        os.setgroups([gid])
        os.setegid(gid)
        os.seteuid(uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(old_gid)
        os.setgroups(groups)
        os.umask(old_umask)


def _connect(path: str, mode: str) -> sqlite3.Connection:
    # isolation_level None: the transactions are the ones that stand here.
    return sqlite3.connect(f"file:{quote(path)}?mode={mode}", uri=True, timeout=BUSY_SECONDS, isolation_level=None)


@contextmanager
def _explained() -> Iterator[None]:
    """Turn SQLite's errors into CoturnError."""
    try:
        yield
    except sqlite3.OperationalError as exc:
        raise CoturnError(f"SQLite says '{exc}'") from exc
    except sqlite3.DatabaseError as exc:
        raise CoturnError(f"it is damaged or no SQLite database, SQLite says '{exc}'") from exc


def _read(connection: sqlite3.Connection, realm: str) -> Current:
    columns = {row[1] for row in connection.execute("PRAGMA table_info(turn_secret)")}
    if not columns:
        return Current()
    if not {"realm", "value"} <= columns:
        raise CoturnError("its table turn_secret has no columns realm and value")
    rows = connection.execute("SELECT value FROM turn_secret WHERE realm = ?", (realm,))
    return Current(True, frozenset(row[0] for row in rows))


def read(path: str, realm: str) -> Current:
    """Return what the database at `path` holds of `realm`; nothing when there is no file. Raises CoturnError."""
    if not Path(path).exists():
        return Current()
    with _explained(), closing(_connect(path, "ro")) as connection:
        check: tuple[str] | None = connection.execute("PRAGMA quick_check(1)").fetchone()
        if check != ("ok",):
            raise CoturnError("it is damaged, SQLite's quick_check found errors")
        return _read(connection, realm)


def apply(path: str, realm: str, wanted: Iterable[str]) -> Plan:
    """Make the secrets of `realm` exactly `wanted` in one transaction, and return what was done.

    The database is created when there is none. The plan is made anew inside the transaction, so that two
    runs at once end with one of the two wishes whole. Raises CoturnError.
    """
    with _explained(), closing(_connect(path, "rwc")) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            steps = plan(_read(connection, realm), wanted)
            if steps.table:
                connection.execute(_TABLE)
            connection.executemany(
                "INSERT INTO turn_secret (realm, value) VALUES (?, ?)", [(realm, v) for v in steps.add]
            )
            connection.executemany(
                "DELETE FROM turn_secret WHERE realm = ? AND value = ?", [(realm, v) for v in steps.withdraw]
            )
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    return steps
