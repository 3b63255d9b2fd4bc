# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `container_cost`: what a change of a container costs, and why it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _container

DOCUMENTATION = r"""
name: container_cost
short_description: Say what a change of a container costs, before it is made
version_added: 0.1.0
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
description:
  - Tells from the dry run of M(community.docker.docker_container) and of what writes the configuration whether a
    container is left alone, updated in place, told to read its configuration again, restarted, started or created, and
    why. No value of an environment, a label or a configuration is repeated.
positional: files, found, wanted
options:
  _input:
    description:
      - Result of M(community.docker.docker_container) in check mode with
        O(community.docker.docker_container#module:debug). Empty when nothing can be there yet.
    type: dict
    required: true
  files:
    description: Names of the configuration files that would be written or removed.
    type: list
    elements: str
    required: true
  found:
    description: RV(nextcloud_talk.hpb.container_look#module:present) of the container.
    type: dict
    required: true
  wanted:
    description: The image that is wanted.
    type: str
    required: true
  signalled:
    description: Whether the program would get a signal to read its configuration again.
    type: bool
    default: false
  watched:
    description: Whether the program notices a changed configuration by itself.
    type: bool
    default: false
  renamed:
    description: The old and the new name of a container that gets another one, as text. Empty when it keeps its own.
    type: str
    default: ""
seealso:
  - plugin: nextcloud_talk.hpb.container_sentence
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Say what it costs
  ansible.builtin.debug:
    msg: "{{ (dry_run | nextcloud_talk.hpb.container_cost(files.written, found.present, 'nats:2.12.15')).why }}"
"""

RETURN = r"""
_value:
  description:
    - C(change) (V(unchanged), V(updated), V(reloaded), V(started), V(restarted) or V(created)), C(why) (texts), C(anew)
      (the container is made anew) and C(disrupts) (a running one is stopped for it).
  type: dict
"""


def container_cost(
    dry: Mapping[str, Any] | None,
    files: Sequence[str],
    found: Mapping[str, Any],
    wanted: str,
    *,
    signalled: bool = False,
    watched: bool = False,
    renamed: str = "",
) -> dict[str, Any]:
    """Return what a change costs, see `_container.cost`."""
    return _container.cost(
        dry or None, list(files), found, wanted, signalled=signalled, watched=watched, renamed=renamed
    )


class FilterModule:
    """Ansible's table of the filters in this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"container_cost": container_cost}
