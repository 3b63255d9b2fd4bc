# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A process to be killed: it turns over the secrets of the instance nc in the file argv[1] without an end.

For each number read from standard input it starts such a process, prints its id, and after its end the signal that
ended it. The new secrets are numbered from that number on.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable
from pathlib import Path

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _secrets
from ansible_collections.nextcloud_talk.hpb.plugins.modules import secrets


def numbered(begin: int) -> Callable[[int], str]:
    """A stand-in for token_hex whose values tell in which order they were made."""
    numbers = itertools.count(begin)
    return lambda size: f"{next(numbers):0{2 * size}d}"


def turn_over(path: Path, begin: int) -> None:
    """Prepare, promote and rotate both secrets again and again, as the module does for its options."""
    _secrets.plan.__kwdefaults__["generate"] = numbered(begin)
    defaults = {"values": {}, "must_exist": True, "restore": None, "replace": False}
    defaults |= {"instances": [], "remove": [], "stage": []}
    for step in itertools.cycle(("prepare", "promote", "rotate", "prepare", "rotate")):
        words = {name: ["nc"] if name == step else [] for name in ("rotate", "prepare", "promote")}
        secrets.run(path, {**defaults, **words}, False)


def main() -> None:
    for line in sys.stdin:
        process = os.fork()
        if process == 0:
            try:
                turn_over(Path(sys.argv[1]), int(line))
            finally:
                os._exit(1)
        print(process, flush=True)
        _process, status = os.waitpid(process, 0)
        print(os.WTERMSIG(status), flush=True)


if __name__ == "__main__":
    main()
