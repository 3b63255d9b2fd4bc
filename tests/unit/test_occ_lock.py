# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One process at a time changes a Nextcloud: with real processes and real users."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _occ, _occ_lock
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _occ_errors as errors
from occ_ways import options

PLACE = ("host", "/srv/nc/occ")
WHERE = "occ /srv/nc/occ on this host"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

# Takes the lock, says so, and holds it until its standard input ends.
HOLDER = f"""
import sys
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _occ_lock
_occ_lock.DIRECTORIES = (sys.argv[1],)
with _occ_lock.alone({PLACE!r}, "occ"):
    print("held", flush=True)
    sys.stdin.read()
"""
# Adds one to the number in a file, slowly, as occ changes what is stored.
COUNTER = f"""
import pathlib, sys, time
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _occ_lock
_occ_lock.DIRECTORIES = (sys.argv[1],)
file = pathlib.Path(sys.argv[2])
with _occ_lock.alone({PLACE!r}, "occ"):
    number = int(file.read_text())
    time.sleep(0.1)
    file.write_text(str(number + 1))
"""


@pytest.fixture
def directory(tmp_path, monkeypatch):
    """A directory like /run/lock."""
    path = tmp_path / "lock"
    path.mkdir()
    path.chmod(0o1777)
    monkeypatch.setattr(_occ_lock, "DIRECTORIES", (str(path),))
    monkeypatch.setattr(_occ_lock, "PATIENCE", 0.3)
    return path


def hold(directory: Path) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def release(process: subprocess.Popen) -> None:
    process.stdin.close()
    process.stdout.close()
    process.wait(timeout=20)


def test_parallel_changes_are_made_one_after_the_other(directory, tmp_path):
    number = tmp_path / "number"
    number.write_text("0")
    command = [sys.executable, "-c", COUNTER, str(directory), str(number)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _index: subprocess.run(command, check=True), range(6)))
    assert number.read_text() == "6"


def test_who_waits_too_long_is_told(directory):
    process = hold(directory)
    path = _occ_lock.lock_file(PLACE)
    with pytest.raises(errors.NotAlone) as caught, _occ_lock.alone(PLACE, WHERE):
        pass
    release(process)
    assert str(caught.value) == (
        f"{WHERE} is being changed by something else on this host, which did not end within 0.3 s; "
        f"look with 'fuser -v {path}' what it is, and run this again after it."
    )
    with _occ_lock.alone(PLACE, WHERE):
        assert list(directory.iterdir()) == [path]


def test_who_waits_long_enough_gets_it(directory, monkeypatch):
    monkeypatch.setattr(_occ_lock, "PATIENCE", 20)
    process = hold(directory)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: (time.sleep(0.5), release(process)))
        with _occ_lock.alone(PLACE, WHERE):
            assert process.poll() is not None or process.wait(timeout=20) is not None


def test_a_killed_holder_leaves_nothing_locked(directory):
    process = hold(directory)
    process.kill()
    process.communicate()
    with _occ_lock.alone(PLACE, WHERE):
        pass


def test_other_places_are_not_waited_for(directory):
    process = hold(directory)
    with _occ_lock.alone((*PLACE[:1], "/srv/other/occ"), WHERE):
        pass
    release(process)


def test_a_lock_that_was_tidied_away_is_made_again(directory):
    process = hold(directory)
    path = _occ_lock.lock_file(PLACE)
    path.unlink()
    # Now a new file is the lock, and not the one that the other process still has.
    with _occ_lock.alone(PLACE, WHERE), pytest.raises(errors.NotAlone), _occ_lock.alone(PLACE, WHERE):
        pass
    release(process)


def test_the_lock_of_a_file_that_was_replaced_is_not_taken_for_it(directory, monkeypatch):
    """Between opening and locking somebody may have put a new file there."""
    opened = _occ_lock._open
    replaced = []

    def open_and_replace(path, where):
        descriptor = opened(path, where)
        if not replaced:
            path.unlink()
            path.touch(mode=0o444)
            replaced.append(path)
        return descriptor

    monkeypatch.setattr(_occ_lock, "_open", open_and_replace)
    monkeypatch.setattr(_occ_lock, "PATIENCE", 5)
    with _occ_lock.alone(PLACE, WHERE):
        path = _occ_lock.lock_file(PLACE)
        assert path.exists()
        monkeypatch.setattr(_occ_lock, "PATIENCE", 0.2)
        with pytest.raises(errors.NotAlone), _occ_lock.alone(PLACE, WHERE):
            pass


def test_the_file_is_readable_for_all_whatever_the_umask(directory):
    umask = os.umask(0o077)
    try:
        with _occ_lock.alone(PLACE, WHERE):
            pass
    finally:
        os.umask(umask)
    assert stat.S_IMODE(_occ_lock.lock_file(PLACE).stat().st_mode) == 0o444


@pytest.mark.parametrize("first", ["link", "pipe", "directory", "closed"])
def test_what_somebody_else_put_there_is_refused(directory, first, tmp_path):
    path = _occ_lock.lock_file(PLACE)
    treasure = tmp_path / "treasure"
    problem = "is no plain file"
    if first == "link":
        path.symlink_to(treasure)
    elif first == "pipe":
        os.mkfifo(path)
    elif first == "directory":
        path.mkdir()
    else:
        if os.geteuid() == 0:
            pytest.skip("root may open everything")
        path.touch(mode=0)
        problem = "cannot be opened (Permission denied)"
    with pytest.raises(errors.PermissionRefused) as caught, _occ_lock.alone(PLACE, WHERE):
        pass
    assert str(caught.value) == (
        f"{WHERE} cannot be locked against other changes, because {path} {problem}; see who made it, and remove it."
    )
    assert not treasure.exists()


@as_root
@pytest.mark.parametrize(("first", "second"), [(0, 1), (1, 0), (1, 2)])
def test_all_users_share_it(first, second):
    """Whoever makes the file, in the real directory, where the kernel may guard files of others."""
    place = ("host", f"/nowhere/{os.getpid()}/{first}/{second}")

    def attempt(uid: int, patience: float) -> int:
        """Return 0 when the lock could be taken, 1 when it is held, and 2 for any other outcome."""
        child = os.fork()
        if child == 0:
            code = 2
            try:
                os.setgroups([])
                os.setgid(uid)
                os.setuid(uid)
                _occ_lock.PATIENCE = patience
                with _occ_lock.alone(place, WHERE):
                    code = 0
            except errors.NotAlone:
                code = 1
            finally:
                os._exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    path = _occ_lock.lock_file(place)
    try:
        assert attempt(first, 5) == 0
        assert attempt(second, 5) == 0
        descriptor = os.open(path, os.O_RDONLY)
        _occ_lock.fcntl.flock(descriptor, _occ_lock.fcntl.LOCK_EX)
        assert attempt(first, 0.2) == 1
        assert attempt(second, 0.2) == 1
        os.close(descriptor)
    finally:
        path.unlink(missing_ok=True)


def test_the_directory_is_one_that_all_may_write_to(tmp_path, monkeypatch):
    closed, shared = tmp_path / "closed", tmp_path / "shared"
    for path, mode in ((closed, 0o755), (shared, 0o1777)):
        path.mkdir()
        path.chmod(mode)
    monkeypatch.setattr(_occ_lock, "DIRECTORIES", (str(tmp_path / "none"), str(closed), str(shared)))
    assert _occ_lock.lock_file(PLACE).parent == shared


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"occ": "{0}/nc/occ"}, {"occ": "{0}/link/occ"}, True),
        ({"occ": "{0}/nc/occ"}, {"occ": "{0}/nc/occ", "user": "root"}, True),
        ({"occ": "{0}/nc/occ"}, {"occ": "{0}/other/occ"}, False),
        ({"container": "app"}, {"container": "app", "container_engine": "/usr/bin/docker"}, True),
        ({"container": "app"}, {"container": "app", "container_engine": "podman"}, False),
        ({"container": "app"}, {"container": "web"}, False),
        ({"snap": True}, {"snap": True}, True),
        ({"command": ["ssh", "nas", "occ"]}, {"command": ["ssh", "nas", "occ"]}, True),
        ({"command": ["ssh", "nas", "occ"]}, {"command": ["ssh", "nas2", "occ"]}, False),
    ],
)
def test_what_is_one_place(directory, tmp_path, one, other, same):
    (tmp_path / "nc").mkdir()
    (tmp_path / "link").symlink_to("nc")

    def occ(given):
        filled = {key: value.format(tmp_path) if isinstance(value, str) else value for key, value in given.items()}
        return _occ.Occ(_occ.reach_from(options(**filled)))

    with occ(one).alone():
        if same:
            with pytest.raises(errors.NotAlone), occ(other).alone():
                pass
        else:
            with occ(other).alone():
                pass


@pytest.mark.parametrize("change", ["pod", "namespace", "context", "kubeconfig"])
def test_pods_are_told_apart(directory, change):
    pod = {"pod": "deploy/nextcloud", "namespace": "a", "container": None, "context": "b", "kubeconfig": "/c"}

    def occ(given):
        return _occ.Occ(_occ.reach_from(options(kubectl=given)))

    again = occ({**pod, "container": "app"})
    with occ(pod).alone(), occ({**pod, change: "/other"}).alone(), pytest.raises(errors.NotAlone), again.alone():
        pass
