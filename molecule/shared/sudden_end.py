# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ends a run of ansible-playbook without warning, as a power failure does.

Its workers are sessions of their own, so a signal to the process group leaves them at work on the host.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path


def children(pid: int) -> list[int]:
    """Return the processes that this one has started and that still run."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name, in brackets, may hold anything; the parent is the second word behind it (proc(5)).
            if int(file.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1]) == pid:
                found.append(int(file.parent.name))
    return found


def end(pid: int) -> None:
    """Kill the process and all that it has started; itself last, where it is the one that calls."""
    # Stopped first: one that still runs could start another one meanwhile.
    tree = [pid]
    for one in tree:
        if one != os.getpid():
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGSTOP)
        tree += children(one)
    for one in reversed(tree):
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)
