# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A process beside a test for the time of a `with` block."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

TREE = Path(__file__).resolve().parents[2] / ".tree"


class Beside:
    """Runs the file PROGRAM: it reads `spec` as one line of JSON, says `ready`, and ends when its standard input does.

    Its last line is JSON and becomes `figures` when the block ends. Raises AssertionError with `unready` when it does
    not say `ready`.
    """

    PROGRAM = ""

    def __init__(self, spec: dict[str, Any], unready: str) -> None:
        self.spec = spec
        self.figures: dict[str, Any] = {}
        self._unready = unready

    def __enter__(self):
        self._process = subprocess.Popen(
            [sys.executable, self.PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(TREE)},
        )
        self._process.stdin.write(json.dumps(self.spec) + "\n")
        self._process.stdin.flush()
        if self._process.stdout.readline() != "ready\n":
            self._process.kill()
            raise AssertionError(self._unready)
        return self

    def __exit__(self, *_unused: object) -> None:
        output, _errors = self._process.communicate(timeout=60)
        self.figures = json.loads(output.splitlines()[-1])
