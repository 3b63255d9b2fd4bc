# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""TURN secrets in coturn's database: a table over the plan, and the module as a real process."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _coturn
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._coturn import Current, Plan
from module_process import standard_input

MODULE = "ansible_collections.nextcloud_talk.hpb.plugins.modules.coturn_secrets"
ROOT = os.geteuid() == 0
UID, GID = (65534, 65534) if ROOT else (os.geteuid(), os.getegid())
REALM = "turn.example.org"
A, B, C = "a1" * 32, "b2" * 32, "c3" * 32


@pytest.mark.parametrize(
    ("current", "wanted", "plan", "actions"),
    [
        (
            Current(),
            [A],
            Plan(True, [A], []),
            ["create the table turn_secret", f"add 1 secret(s) to realm {REALM}"],
        ),
        (Current(True, frozenset([A])), [A, A], Plan(False, [], []), []),
        (
            Current(True, frozenset([A, B])),
            [C, B],
            Plan(False, [C], [A]),
            [f"add 1 secret(s) to realm {REALM}", f"withdraw 1 secret(s) from realm {REALM}"],
        ),
        (Current(True, frozenset([A, B])), [], Plan(False, [], [A, B]), [f"withdraw 2 secret(s) from realm {REALM}"]),
    ],
)
def test_plan(current, wanted, plan, actions):
    result = _coturn.plan(current, wanted)
    assert result == plan
    assert result.actions(REALM) == actions


def test_diff_shows_numbers_only():
    current = Current(True, frozenset([A, B]))
    assert _coturn.diff(REALM, current, _coturn.plan(current, [B, C])) == {
        "before": f"realm {REALM}: 2 secret(s)\n********\n********\n",
        "after": f"realm {REALM}: 2 secret(s)\n********\n(new secret)\n",
    }
    assert _coturn.diff(REALM, Current(), _coturn.plan(Current(), [])) == {
        "before": "",
        "after": f"realm {REALM}: 0 secret(s)\n",
    }


@pytest.fixture
def base():
    """A directory that every user may pass, unlike pytest's own."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def path(base):
    return base / "data" / "turndb"


def run(check=False, **options):
    arguments = {"realm": REALM, "owner": str(UID), "group": str(GID), **options, "path": str(options["path"])}
    done = subprocess.run(
        [sys.executable, "-m", MODULE],
        input=standard_input(arguments, check),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.strip(), done.stderr
    for secret in (A, B, C):
        assert secret not in done.stdout
    return json.loads(done.stdout)


def rows(path):
    with closing(sqlite3.connect(path)) as connection:
        return sorted(connection.execute("SELECT realm, value FROM turn_secret"))


def attributes(path):
    status = path.lstat()
    return oct(stat.S_IMODE(status.st_mode)), status.st_uid, status.st_gid


def test_ladder(path):
    dry = run(check=True, path=path, secrets=[A])
    assert dry["changed"] and dry["created"] and not path.parent.exists()
    first = run(path=path, secrets=[A])
    assert first["changed"] and first["created"]
    assert first["actions"] == [
        f"create directory {path.parent}",
        f"create {path}",
        "create the table turn_secret",
        f"add 1 secret(s) to realm {REALM}",
    ]
    assert (dry["actions"], dry["diff"]) == (first["actions"], first["diff"])
    assert rows(path) == [(REALM, A)]
    assert attributes(path) == ("0o600", UID, GID)
    assert attributes(path.parent) == ("0o700", UID, GID)
    assert attributes(path.parent.parent)[0] == "0o755"

    for check in (True, False):
        again = run(check=check, path=path, secrets=[A, A])
        assert (again["changed"], again["created"], again["actions"]) == (False, False, [])
        assert again["diff"]["before"] == again["diff"]["after"]

    dry = run(check=True, path=path, secrets=[B, C])
    assert rows(path) == [(REALM, A)]
    changed = run(path=path, secrets=[B, C])
    assert (
        dry["actions"]
        == changed["actions"]
        == [
            f"add 2 secret(s) to realm {REALM}",
            f"withdraw 1 secret(s) from realm {REALM}",
        ]
    )
    assert rows(path) == [(REALM, B), (REALM, C)]

    assert run(path=path, realm="other.example.org", secrets=[B])["actions"] == [
        "add 1 secret(s) to realm other.example.org"
    ]
    assert run(path=path, secrets=[])["actions"] == [f"withdraw 2 secret(s) from realm {REALM}"]
    assert rows(path) == [("other.example.org", B)]
    assert [entry.name for entry in path.parent.iterdir()] == ["turndb"]


def test_a_database_that_coturn_made_is_used_as_it_is(path):
    path.parent.mkdir(mode=0o755)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE turnusers_lt (realm varchar(127))")
        connection.execute(
            "CREATE TABLE turn_secret (realm varchar(127), value varchar(127), PRIMARY KEY (realm, value))"
        )
        connection.execute("INSERT INTO turn_secret VALUES (?, ?)", (REALM, A))
        connection.commit()
    path.chmod(0o644)
    expected = [
        f"set owner and mode of directory {path.parent}",
        f"set owner and mode of {path}",
        f"add 1 secret(s) to realm {REALM}",
    ]
    assert run(check=True, path=path, secrets=[A, B])["actions"] == expected
    assert attributes(path)[0] == "0o644"
    assert run(path=path, secrets=[A, B])["actions"] == expected
    assert attributes(path) == ("0o600", UID, GID)
    assert rows(path) == [(REALM, A), (REALM, B)]


def test_an_empty_file_becomes_a_database(path):
    path.parent.mkdir()
    path.touch()
    assert "create the table turn_secret" in run(path=path, secrets=[A])["actions"]
    assert rows(path) == [(REALM, A)]


def test_waits_for_another_writer(path):
    run(path=path, secrets=[A])
    writer = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    writer.execute("BEGIN EXCLUSIVE")
    timer = threading.Timer(2, lambda: writer.execute("COMMIT"))
    begun = time.monotonic()
    timer.start()
    result = run(path=path, secrets=[A, B])
    timer.join()
    writer.close()
    assert result["changed"] and time.monotonic() - begun >= 2
    assert rows(path) == [(REALM, A), (REALM, B)]


def test_a_reader_never_sees_neither_secret(path):
    """While the one secret is exchanged for the other again and again, a reader always finds one."""
    run(path=path, secrets=[A])
    seen, done = [], threading.Event()

    def watch():
        with closing(sqlite3.connect(path, timeout=10)) as connection:
            while not done.is_set():
                seen.append([row[0] for row in connection.execute("SELECT value FROM turn_secret")])
                time.sleep(0.001)

    thread = threading.Thread(target=watch)
    thread.start()
    for secret in (B, A, B, A):
        run(path=path, secrets=[secret])
    done.set()
    thread.join()
    assert {tuple(values) for values in seen} == {(A,), (B,)}


def unusable(path, reason):
    return (
        f"coturn's database {path} cannot be used: {reason}; check that every directory above it is passable for "
        f"uid {UID} and the disk is not full, or stop coturn, move the file away and run again, then it is made anew."
    )


@pytest.mark.parametrize("check", [True, False])
def test_a_damaged_database_is_named_and_kept(path, check):
    run(path=path, secrets=[A])
    path.write_bytes(b"this is no database, but it is long enough to be one" * 40)
    content = path.read_bytes()
    assert run(check=check, path=path, secrets=[A])["msg"] == unusable(
        path, "it is damaged or no SQLite database, SQLite says 'file is not a database'"
    )
    assert path.read_bytes() == content


def test_a_table_of_another_shape_is_refused(path):
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE turn_secret (name text)")
    assert run(path=path, secrets=[A])["msg"] == unusable(path, "its table turn_secret has no columns realm and value")


@pytest.mark.parametrize("kind", ["link", "directory"])
def test_something_else_in_the_place_of_the_database(path, base, kind):
    run(path=path, secrets=[A])
    path.rename(base / "moved")
    path.symlink_to(base / "moved") if kind == "link" else path.mkdir()
    assert run(path=path, secrets=[B])["msg"] == (
        f"{path} was expected to be a regular file with one name and is not; "
        f"stop coturn, move it away and run again, then it is made anew."
    )
    assert rows(base / "moved") == [(REALM, A)]


def test_a_directory_that_others_use_is_not_closed(base):
    (base / "theirs").write_text("x")
    assert run(path=base / "turndb", secrets=[A])["msg"] == (
        f"The directory {base} was expected to have mode 0700 and to belong to coturn's user, and it "
        f"also holds other files, so it is not changed; give the database a directory of its own."
    )
    assert attributes(base)[0] == "0o755"


@pytest.mark.skipif(not ROOT, reason="only root can open what another user cannot reach")
def test_a_closed_directory_above(path, base):
    run(path=path, secrets=[A])
    base.chmod(0o700)
    message = (
        f"{path.parent} was expected to be reachable for uid {UID} and is not, because a directory "
        f"above it is closed to this user; give that directory the mode 0755 or 0711."
    )
    for check in (True, False):
        assert run(check=check, path=path, secrets=[B])["msg"] == message
    shutil.rmtree(path.parent)
    assert run(path=path, secrets=[B])["msg"] == message


def test_input_that_cannot_work(path):
    assert run(path=path, secrets=[A, "has a blank" * 4])["msg"] == (
        "Entry 2 of secrets cannot be used: turn was expected to hold letters, digits and signs of ASCII only and "
        "holds something else, such as a blank, which server.conf or a command would cut; make one with "
        "'openssl rand -hex 32'."
    )
    assert run(path=path, realm="", secrets=[A])["msg"] == (
        "The realm was expected to have 1 to 127 characters and has 0; use the TURN server's name."
    )
    assert run(path=path, owner="no-such-user", secrets=[A])["msg"] == (
        "The user 'no-such-user' was expected to exist on this host and does not; create it or give its number."
    )
    assert run(check=True, path=path, owner="no-such-user", secrets=[A])["changed"]
    assert not path.parent.exists()
