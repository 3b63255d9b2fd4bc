# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Send a container a signal and read in its log what the program makes of it.

`run` is the `run_command` of a module: it takes an argument list and returns exit code, standard output and error.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _evidence

Run = Callable[[list[str]], tuple[int, str, str]]


# Seconds of earlier log that are read as well: a clock may be set back so far between the signal and the answer.
CLOCK = 120


class ReloadError(Exception):
    """The signal could not be sent, was not answered, or the program refused what it read; the text is the message."""


def log_since(run: Run, container: str, since: float) -> tuple[str, str]:
    """Return what the container has logged since the POSIX time `since` (seconds) to its standard output and error.

    Both are "" when Docker does not say.
    """
    code, out, err = run(["docker", "logs", "--since", f"{since:.9f}", container])
    return (out, err) if code == 0 else ("", "")


def added(before: tuple[str, str], after: tuple[str, str]) -> str:
    """Return what `after` has more than `before`, each as `log_since` returns it; all of it when the log is a new one.

    What was logged earlier is told by its text, since its time may be one that is still to come: the clock of a host
    can be set back.
    """
    return "".join(new[len(old) :] if new.startswith(old) else new for old, new in zip(before, after))


def kept_digest(marker: str) -> str:
    """Return the digest in the file `marker`, or an empty string when there is no such file."""
    try:
        return Path(marker).read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        return ""


def keep_digest(marker: str, digest: str) -> None:
    """Write the digest into the file `marker`, atomically."""
    temporary = Path(f"{marker}.new")
    temporary.touch(mode=0o600)
    temporary.chmod(0o600)
    temporary.write_text(digest + "\n", encoding="utf-8")
    temporary.replace(marker)


def line_of(text: str, pattern: str) -> str:
    """Return the first whole line of the text in which the expression is found, "" when there is none."""
    return next((line.strip() for line in text.splitlines() if pattern and re.search(pattern, line)), "")


def send(
    run: Run, container: str, ident: str, signal: str, answer: str, *, refusal: str = "", timeout: float = 15
) -> None:
    """Send the signal and wait for the answer; raises ReloadError when it does not come, or a refusal comes first.

    `ident` is the id of the container, `container` what it is called.
    """
    since = time.time() - CLOCK
    before = log_since(run, ident, since)
    code, _out, err = run(["docker", "kill", "--signal", signal, ident])
    if code != 0:
        raise ReloadError(
            f"Container {container} was expected to take {signal}, but Docker said: {err.strip()}. "
            f"Look at 'docker ps -a' on this host, then run the same command again."
        )
    deadline = time.monotonic() + timeout
    while True:
        text = added(before, log_since(run, ident, since))
        refused = line_of(text, refusal)
        if refused:
            raise ReloadError(
                f"Container {container} was expected to take its changed configuration on {signal} and refused it: "
                f"{_evidence.masked(refused)[: _evidence.LINE_LENGTH]}. Mend the setting that this line names, then "
                f"run the same command again."
            )
        if re.search(answer, text, re.MULTILINE):
            return
        if time.monotonic() > deadline:
            raise ReloadError(
                f"Container {container} was expected to answer {signal} with a log line matching "
                f"'{answer}' within {timeout:g} s and did not. "
                f"Look at 'docker logs {container}' on this host, then run the same command again."
            )
        time.sleep(0.1)
