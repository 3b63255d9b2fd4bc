#!/usr/bin/python
# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the files of a compose installation, so that the controller can judge them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: adopt_read
short_description: Read the configuration files of a compose installation
version_added: 0.1.0
description:
  - Returns, in one round trip, the text of every configuration file in the directory of a compose installation, and of
    those elsewhere that its compose files name.
  - Files of configuration are those that are called C(.env), end with C(.env), C(.yml), C(.yaml), C(.conf), C(.cfg),
    C(.jcfg), C(.ini) or C(.toml), or have C(dockerfile) in their names.
  - Nothing is understood here, since the host may have no YAML library; the filter
    P(nextcloud_talk.hpb.adopted#filter) does that.
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
attributes:
  check_mode:
    support: full
    description: Only reads.
  diff_mode:
    support: none
    description: Changes nothing.
  idempotent:
    support: full
    description: Changes nothing.
options:
  path:
    description: The directory with the compose file, an absolute path.
    type: path
    required: true
notes:
  - What it returns holds secrets, so the task needs C(no_log).
seealso:
  - plugin: nextcloud_talk.hpb.adopted
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Read an installation
  nextcloud_talk.hpb.adopt_read:
    path: /srv/talk
  register: installation
  no_log: true
"""

RETURN = r"""
files:
  description: The text of each file by its name, relative to O(path) for those below it. This is secret.
  type: dict
  returned: success
skipped:
  description: A sentence for each file that was left out, because it is too large, no text, or may not be read.
  type: list
  elements: str
  returned: success
path:
  description: The directory without symbolic links.
  type: str
  returned: success
"""

import os  # noqa: E402
import re  # noqa: E402
import stat  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402

# Levels of directories below the installation's own. Data directories of other services may lie there, too.
DEPTH = 3
MOST_FILES = 400
# Bytes of one file; no configuration of these programs is nearly as large.
LARGEST = 256 * 1024

CONFIGURATION = re.compile(
    r"\.env(\..+)?|.+\.(env|ya?ml|conf|cfg|jcfg|ini|toml)|.*dockerfile.*|containerfile", re.IGNORECASE
)
COMPOSE = re.compile(r"(docker-)?compose(\.[\w.-]+)?\.ya?ml", re.IGNORECASE)
# A path in a compose file. What YAML means by it is not looked at: a file too many does no harm.
ELSEWHERE = re.compile(r"(?<![\w.$}/-])(?:\.\./|/)[\w./-]+")


class ReadError(Exception):
    """The directory cannot be read; the text is a whole sentence for the user."""


def below(directory: Path, depth: int) -> Iterator[Path]:
    """Yield the configuration files in a directory, its own before those of the directories in it."""
    entries = sorted(directory.iterdir())
    for entry in entries:
        if CONFIGURATION.fullmatch(entry.name) and not entry.is_dir():
            yield entry
    for entry in entries:
        if depth > 0 and entry.is_dir() and not entry.is_symlink():
            try:
                yield from below(entry, depth - 1)
            except PermissionError:
                continue


def read(path: Path) -> str:
    """Return the text of a file; raises ReadError with the end of a sentence that starts with its name."""
    try:
        # A named pipe would never end.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ReadError("is no regular file")
            if status.st_size > LARGEST:
                raise ReadError(f"has {status.st_size} bytes, more than a configuration has")
            return file.read(LARGEST + 1).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ReadError("is no UTF-8 text") from error
    except OSError as error:
        raise ReadError(f"cannot be read: {error.strerror}") from error


def collect(path: Path) -> tuple[dict[str, str], list[str]]:
    """Return the text of each file by its name, and what was left out; raises ReadError."""
    files: dict[str, str] = {}
    skipped: list[str] = []

    def take(name: str, file: Path) -> None:
        if name in files or len(files) >= MOST_FILES:
            return
        try:
            files[name] = read(file)
        except ReadError as error:
            skipped.append(f"{name} {error}.")

    try:
        for file in below(path, DEPTH):
            take(str(file.relative_to(path)), file)
    except OSError as error:
        raise ReadError(
            f"{path} was expected to be the directory with the compose file and cannot be read: {error.strerror}. "
            f"Correct adopt=, or set ansible_become: true."
        ) from error
    named = [found for name, text in files.items() if COMPOSE.fullmatch(name) for found in ELSEWHERE.findall(text)]
    for found in sorted(set(named)):
        file = Path(os.path.normpath(path / found))
        inside = path in file.parents
        if file.is_file() and not inside and CONFIGURATION.fullmatch(file.name):
            take(str(file), file)
    if len(files) >= MOST_FILES:
        skipped.append(f"{path} holds more than {MOST_FILES} configuration files, of which the rest was not read.")
    return files, skipped


def main() -> None:
    """Read and return."""
    module = AnsibleModule(argument_spec={"path": {"type": "path", "required": True}}, supports_check_mode=True)
    path = Path(module.params["path"])
    if not path.is_absolute():
        module.fail_json(
            msg=f"path is {path}, expected an absolute path of a directory on this host: say -e adopt=/path/of/it."
        )
    path = Path(os.path.realpath(path))
    try:
        files, skipped = collect(path)
    except ReadError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, files=files, skipped=skipped, path=str(path))


if __name__ == "__main__":
    main()
