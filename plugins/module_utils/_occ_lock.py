# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let one process of this host at a time change a Nextcloud: occ itself takes no lock, and loses parallel changes.

The lock is an empty file in a directory that all users share and that a reboot empties, not a file in the Nextcloud:
root, the owner of config.php and a user with sudo must all find the same one, whether or not they may read the
Nextcloud's directory.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._occ_errors import NotAlone, PermissionRefused

DIRECTORIES = ("/run/lock", "/var/lock", "/tmp")  # noqa: S108 - files in it are opened with the care that it needs
"""Where the locks are: the first of these that everybody may write to, so that everybody chooses the same."""

PATIENCE = 120
"""Seconds to wait for whoever holds the lock."""
PAUSE = 0.1
"""Seconds between two attempts."""
OPEN_TO_ALL = 0o1777


def lock_file(place: tuple[str, ...]) -> Path:
    """Return the lock of the Nextcloud at `place` (the words that tell it from every other one)."""
    name = hashlib.sha256("\0".join(place).encode()).hexdigest()[:24]
    return Path(_directory(), f"nextcloud-talk-hpb-{name}.lock")


def _directory() -> str:
    for directory in DIRECTORIES:
        with contextlib.suppress(OSError):
            if stat.S_IMODE(Path(directory).stat().st_mode) & OPEN_TO_ALL == OPEN_TO_ALL:
                return directory
    return DIRECTORIES[-1]


@contextlib.contextmanager
def alone(place: tuple[str, ...], where: str) -> Iterator[None]:
    """Hold the lock of `place`. Raises `NotAlone` after `PATIENCE` seconds; `where` names the occ in its text.

    Not for one inside another: the inner one would wait for the outer one.
    """
    path = lock_file(place)
    deadline = time.monotonic() + PATIENCE
    while True:
        descriptor = _try(path, where)
        if descriptor is not None:
            break
        if time.monotonic() >= deadline:
            raise NotAlone(
                f"{where} is being changed by something else on this host, which did not end within {PATIENCE} s; "
                f"look with 'fuser -v {path}' what it is, and run this again after it."
            )
        time.sleep(PAUSE)
    try:
        yield
    finally:
        os.close(descriptor)


def _try(path: Path, where: str) -> int | None:
    """Return the descriptor that holds the lock, or None when another one has it."""
    descriptor = _open(path, where)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever tidies up the directory takes the file away, and the next one locks a new file.
        now, mine = path.stat(), os.fstat(descriptor)
        if (now.st_dev, now.st_ino) == (mine.st_dev, mine.st_ino):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _open(path: Path, where: str) -> int:
    """Return a descriptor of the file, which is made when it is not there.

    An existing file is opened without O_CREAT, which the kernel refuses for files of others in such a directory
    (fs.protected_regular); a link is never followed, and neither a pipe nor a device is waited for.
    """
    guard = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    problem = "is no plain file"
    try:
        try:
            descriptor = os.open(path, guard)
        except FileNotFoundError:
            descriptor = _create(path, guard)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO):
            problem = f"cannot be opened ({error.strerror})"
    raise PermissionRefused(
        f"{where} cannot be locked against other changes, because {path} {problem}; see who made it, and remove it."
    )


def _create(path: Path, guard: int) -> int:
    """Make the file, readable by all users whatever the umask is, or open the one that another process just made."""
    umask = os.umask(0)
    try:
        return os.open(path, guard | os.O_CREAT | os.O_EXCL, 0o444)
    except FileExistsError:
        return os.open(path, guard)
    finally:
        os.umask(umask)
