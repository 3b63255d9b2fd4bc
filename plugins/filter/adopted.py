# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `adopted`: from the files of a compose installation to an inventory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _adopt, _adopt_compose, _adopt_inventory

DOCUMENTATION = r"""
name: adopted
short_description: Make an inventory of an installation of the backend
version_added: 0.1.0
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
description:
  - Understands compose files and what they lead to, the container aio-talk, packages with their C(server.conf), the
    settings of coturn, eturnal and Janus, and the files of reverse proxies, and takes over names, Nextclouds, their
    limits and their secrets.
  - Names the defects of the installation, by the numbers of C(docs/adopt.md).
positional: path, host, into, secrets_file
options:
  _input:
    description: The text of each file by its name, as M(nextcloud_talk.hpb.adopt_read) returns them.
    type: dict
    required: true
  path:
    description: The directory of the installation on its host.
    type: str
    required: true
  host:
    description:
      - What the inventory that is used now says of that host. C(name) is its name; C(ansible_host), C(ansible_port),
        C(ansible_user), C(ansible_connection) and C(ansible_become) are taken over where they are set.
    type: dict
    required: true
  into:
    description: The directory of the new inventory, for the commands that are named.
    type: str
    required: true
  secrets_file:
    description: The file on the controller with the encrypted secrets, for the commands that are named.
    type: str
    required: true
  entry:
    description: The name of the one file that was named, empty when it was the directory.
    type: str
    default: ""
  skipped:
    description: Sentences about what could not be read, as M(nextcloud_talk.hpb.adopt_read) returns them.
    type: list
    elements: str
    default: []
seealso:
  - module: nextcloud_talk.hpb.adopt_read
"""

EXAMPLES = r"""
- name: Understand an installation
  ansible.builtin.set_fact:
    adopted: >-
      {{ installation.files | nextcloud_talk.hpb.adopted('/srv/talk', {'name': 'talk.example.org'}, 'inventory',
      'inventory-secrets.vault') }}
  no_log: true
"""

RETURN = r"""
_value:
  description: What came of it. When RV(_value.problems) is not empty, the others are missing.
  type: dict
  contains:
    problems:
      description: A sentence for each thing for which it cannot be adopted, without a secret.
      type: list
      elements: str
    hosts:
      description: The text of C(hosts.yml).
      type: str
    group_vars:
      description: The text of C(group_vars/hpb.yml).
      type: str
    page:
      description: A page of Markdown about what was found, without a secret.
      type: str
    lines:
      description: The same for a terminal.
      type: list
      elements: str
    secrets:
      description: The text of a secrets file. This is secret.
      type: str
"""


class _Loader(yaml.SafeLoader):
    """Leaves every scalar but null a text: 53:53 is no number in base 60, and a version no fraction."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if tag.endswith((":null", ":merge"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def _plain(loader: _Loader, suffix: str, node: yaml.Node) -> Any:
    """Return a node as if it had no tag, but for what it says of the file below."""
    if suffix in ("reset", "override"):
        return _adopt_compose.Replaced(None if suffix == "reset" else _plain(loader, "", node))
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_scalar(node)


# Compose has tags of its own, such as !reset and !override.
_Loader.add_multi_constructor("!", _plain)


def load(text: str) -> Any:
    """Return a YAML document with every scalar but null as text; raises ValueError, without a part of the text."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506
    except (yaml.YAMLError, RecursionError, TypeError, ValueError):
        # Its message quotes the line, which may hold a secret.
        raise ValueError("no YAML") from None


def adopted(
    files: Mapping[str, str],
    path: str,
    host: Mapping[str, Any],
    into: str,
    secrets_file: str,
    *,
    entry: str = "",
    skipped: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the new files and words, or the problems with what else was noticed."""
    notes: list[str] = []
    try:
        found = _adopt.read(files, path, load, entry, skipped)
        notes = found[0].notes
        made = _adopt_inventory.adopt(found, host, into, secrets_file)
    except _adopt.AdoptError as error:
        return {"problems": _refusal(str(error).splitlines(), error.notes)}
    except Exception as error:  # noqa: BLE001
        # Files of others may have any shape, and the task hides what Ansible would say.
        frame = error.__traceback__
        while frame is not None and frame.tb_next is not None:
            frame = frame.tb_next
        line = f" at {frame.tb_frame.f_code.co_name}, line {frame.tb_lineno}" if frame else ""
        problem = (
            f"The files of {path} have a shape that was not expected ({type(error).__name__}{line}): report this with "
            f"the compose file, without its secrets, or begin with inventory.example."
        )
        return {"problems": _refusal([problem], notes or list(skipped))}
    return {"problems": [], **vars(made)}


def _refusal(problems: Sequence[str], notes: Sequence[str]) -> list[str]:
    """Return the problems with what was noticed until then."""
    return [*problems, *(["Noticed until then:"] if notes else []), *(f"  - {note}" for note in notes)]


class FilterModule:
    """Ansible's table of the filters in this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"adopted": adopted}
