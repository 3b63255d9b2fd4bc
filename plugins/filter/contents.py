# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `contents`: one digest of everything in files and directories of the controller."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: contents
short_description: Sum up what is in files and directories
version_added: 0.1.0
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
description:
  - Returns the SHA-256, in hexadecimal digits, of names and contents of files on the controller, which is another one
    as soon as any of them changes. A file that is not there counts as such.
options:
  _input:
    description: Paths of files, and of directories with all that is below them but Python's compiled files.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Tell whether the certificate is another one
  ansible.builtin.debug:
    msg: "{{ ['/etc/ssl/talk.pem', '/etc/ssl/talk.key'] | nextcloud_talk.hpb.contents }}"
"""

RETURN = r"""
_value:
  description: SHA-256 in hexadecimal digits.
  type: str
"""


def files(path: Path) -> list[Path]:
    """Return the files that are there, in the order of their names."""
    if not path.is_dir():
        return [path] if path.exists() else []
    found = (one for one in path.rglob("*") if one.is_file())
    return sorted(one for one in found if one.suffix != ".pyc" and "__pycache__" not in one.parts)


def contents(paths: Iterable[str]) -> str:
    """Return the digest of what is in the files and directories; raises AnsibleFilterError when one cannot be read."""
    total = hashlib.sha256()
    for place, name in enumerate(paths):
        path = Path(name).expanduser().resolve()
        for one in files(path):
            try:
                digest = hashlib.sha256(one.read_bytes()).hexdigest()
            except OSError as error:
                raise AnsibleFilterError(
                    f"{one} was expected to be a file that can be read: {error.strerror}. Mend that, run again."
                ) from error
            total.update(f"{place}\0{one.relative_to(path)}\0{digest}\0".encode())
    return total.hexdigest()


class FilterModule:
    """Ansible's table of the filters in this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"contents": contents}
