# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The waiting of the module hpb_drain, which looks once: here, so that it can be said meanwhile who is waited for."""

from __future__ import annotations

import time
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _evidence

MODULE = "nextcloud_talk.hpb.hpb_drain"


class ActionModule(ActionBase):
    """Repeats the look until no call is running or the time is over."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the result of the last look, with the seconds that were waited."""
        super().run(tmp, task_vars)
        _valid, wanted = self.validate_argument_spec(
            argument_spec={
                "address": {"type": "str", "default": _evidence.LOOPBACK},
                "port": {"type": "int", "default": 8080},
                "timeout": {"type": "int", "default": 0},
                "interval": {"type": "int", "default": 5},
                "report": {"type": "int", "default": 30},
                "hint": {"type": "str", "default": ""},
            }
        )
        host = (task_vars or {}).get("inventory_hostname", "")
        began = said = None
        while True:
            result = self._execute_module(module_name=MODULE, module_args=wanted, task_vars=task_vars)
            # A look itself, on a slow host, is no waiting.
            began = began or time.monotonic()
            waited = time.monotonic() - began
            result["waited"] = int(waited)
            if result.get("failed") or not result.get("running"):
                return result
            if self._task.check_mode or waited >= wanted["timeout"]:
                return result
            if said is None or waited - said >= wanted["report"]:
                said = waited
                left = round(wanted["timeout"] - waited)
                text = f"{host}: waiting for running calls, {left} s at most ({result['text']}). {wanted['hint']}"
                Display().display(text.strip())
            time.sleep(max(0.0, min(wanted["interval"], wanted["timeout"] - waited)))
