# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `container_sentence`: what a change of a container costs, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _container

DOCUMENTATION = r"""
name: container_sentence
short_description: Put into words what a change of a container costs
version_added: 0.1.0
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
description:
  - Makes of a cost the text that stands beside the container's name in the summary of a run.
positional: dry
options:
  _input:
    description: What P(nextcloud_talk.hpb.container_cost#filter) returned.
    type: dict
    required: true
  dry:
    description: Whether it is only said and not done (C(--check)).
    type: bool
    required: true
  consequence:
    description: What a restart of this container means for calls.
    type: str
    default: ""
  drained:
    description: What is done, or was done, for running calls before a restart.
    type: str
    default: ""
seealso:
  - plugin: nextcloud_talk.hpb.container_cost
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Say what it costs
  ansible.builtin.debug:
    msg: "{{ cost | nextcloud_talk.hpb.container_sentence(ansible_check_mode, consequence='all calls drop') }}"
"""

RETURN = r"""
_value:
  description: One line.
  type: str
"""


def container_sentence(cost: Mapping[str, Any], dry: bool, consequence: str = "", drained: str = "") -> str:
    """Return a cost in words, see `_container.sentence`."""
    return _container.sentence(cost, bool(dry), consequence, drained)


class FilterModule:
    """Ansible's table of the filters in this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"container_sentence": container_sentence}
