# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file of secrets on the host of the backend: read it, and change it alone."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _files, _secrets
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._secrets import SecretsError

LOCK_SECONDS = 60
WAY_OUT = (
    "Restore it from a backup, or move it away and run again with -e new_secrets=true, "
    "which makes new secrets for every instance."
)


@contextmanager
def locked(path: Path) -> Iterator[int]:
    """Open the directory `path` for the block and keep other runs out of it; yields the descriptor."""
    with _files.directory(str(path)) as fd:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as exc:
                if time.monotonic() > deadline:
                    raise SecretsError(
                        f"Another run has held the lock of {path} for {LOCK_SECONDS} s and was expected to be done; "
                        f"wait for its end, then run again."
                    ) from exc
                time.sleep(0.1)
        yield fd


def load(path: Path) -> tuple[dict[str, Any] | None, _files.Found]:
    """Return the stored document (None when there is no file) and what is at `path`; raises SecretsError."""
    try:
        with _files.directory(str(path.parent)) as fd:
            found = _files.look(fd, path.name)
        if found.kind == "absent":
            return None, found
        if found.kind != "file":
            raise _secrets.DamagedError("a regular file with one name was expected and something else was found")
        return _secrets.parse(found.data.decode("utf-8")), found
    except FileNotFoundError:
        return None, _files.Found()
    except UnicodeDecodeError as exc:
        raise SecretsError(f"The secrets file {path} cannot be used: it is no UTF-8 text. {WAY_OUT}") from exc
    except OSError as exc:
        raise SecretsError(f"The secrets file {path} cannot be read: {exc.strerror}. {WAY_OUT}") from exc
    except _secrets.DamagedError as exc:
        raise SecretsError(f"The secrets file {path} cannot be used: {exc}. {WAY_OUT}") from exc


def promote(path: Path, words: Iterable[str]) -> None:
    """Put the prepared values of these secrets in place, as `_secrets.promoted` does; raises SecretsError."""
    with locked(path.parent) as fd:
        document, _found = load(path)
        if document is None:
            raise SecretsError(
                f"The secrets file {path} is missing, expected the one with the prepared secrets: restore it."
            )
        after = _secrets.promoted(document, words)
        if after != document:
            _files.write(fd, path.name, _secrets.dump(after).encode(), mode=0o600, uid=os.geteuid(), gid=os.getegid())
