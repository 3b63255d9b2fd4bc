# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Counts the tasks of a run and can end it without warning at one of them."""

from __future__ import annotations

DOCUMENTATION = r"""
name: at_task
type: notification
short_description: Name each task as it starts, and die at one of them
description:
  - Writes the name of each task into a file, a line each, as the task starts.
  - Kills ansible-playbook and all that it has started with SIGKILL when the task with the given number starts, or a
    moment later, in the middle of it.
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
options:
  file:
    description: The file; empty for none.
    type: path
    env:
      - name: HPB_TASKS_FILE
  kill:
    description: Number of the task at which the run dies, from 1; 0 for none.
    type: int
    default: 0
    env:
      - name: HPB_TASKS_KILL
  delay:
    description: Seconds between the start of that task and the end.
    type: float
    default: 0
    env:
      - name: HPB_TASKS_DELAY
"""

import os  # noqa: E402
import sys  # noqa: E402
import threading  # noqa: E402
from pathlib import Path  # noqa: E402

from ansible.plugins.callback import CallbackBase  # noqa: E402


def die() -> None:
    """End this process and all that it has started."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    import sudden_end

    sudden_end.end(os.getpid())


class CallbackModule(CallbackBase):
    """Counts the tasks."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "at_task"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, display=None, options=None):
        super().__init__(display=display, options=options)
        self._count = 0

    def v2_playbook_on_task_start(self, task, is_conditional):
        """Write down the task, and end the run when it is the one."""
        self._count += 1
        if self.get_option("file"):
            with Path(self.get_option("file")).open("a", encoding="utf-8") as file:
                file.write(f"{task.get_name()}\n")
        if self._count != self.get_option("kill"):
            return
        if self.get_option("delay"):
            threading.Timer(self.get_option("delay"), die).start()
        else:
            die()
