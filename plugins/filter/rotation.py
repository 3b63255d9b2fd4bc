# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `rotation`: what a rotation of secrets concerns, and what it will cost."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _rotation

DOCUMENTATION = r"""
name: rotation
short_description: Tell what a rotation of secrets concerns
version_added: 0.1.0
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
description:
  - Makes a plan of the words of C(-e rotate=...), and says beforehand what will happen. No secret is read.
positional: inventory, deployed
options:
  _input:
    description:
      - What is to be rotated, as a list or comma separated. The name of an instance means both of its secrets,
        C(NAME.backend) and C(NAME.turn) one of them, V(all) every instance. V(internal), V(session) and V(janus_admin)
        are the shared ones.
    type: raw
    required: true
  inventory:
    description: The instances as the filter P(nextcloud_talk.hpb.backends#filter) returns them with C(state='all').
    type: list
    elements: dict
    required: true
  deployed:
    description: The instances that are deployed. Of each the C(id) is read.
    type: list
    elements: dict
    required: true
  away:
    description: Instances whose host does not answer.
    type: list
    elements: str
    default: []
seealso:
  - plugin: nextcloud_talk.hpb.promoted
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Say what would happen
  ansible.builtin.debug:
    msg: "{{ (rotate | nextcloud_talk.hpb.rotation(instances, deployed)).lines }}"
  vars:
    rotate: nc, internal
    instances: "{{ groups | nextcloud_talk.hpb.backends(hostvars, state='all') }}"
    deployed:
      - id: nc
"""

RETURN = r"""
_value:
  description: The plan.
  type: dict
  contains:
    secrets:
      description: Secrets of instances that get a new value, such as V(nc.turn).
      type: list
      elements: str
    shared:
      description: Shared secrets that get a new value, such as V(shared.internal).
      type: list
      elements: str
    containers:
      description: Containers that are deployed for it, V(signalling) and V(janus).
      type: list
      elements: str
    instances:
      description: Instances whose Nextcloud is told.
      type: list
      elements: str
    handover:
      description: Instances whose Nextcloud is not contacted, and which were named all the same.
      type: list
      elements: str
    skipped:
      description: A sentence for each instance that V(all) leaves out.
      type: list
      elements: str
    lines:
      description: What will happen, a sentence for each.
      type: list
      elements: str
    problems:
      description: A sentence for each reason not to go on.
      type: list
      elements: str
"""


def rotation(
    words: Any,
    inventory: Sequence[Mapping[str, Any]],
    deployed: Sequence[Mapping[str, Any]],
    away: Collection[str] = (),
) -> dict[str, Any]:
    """Return what the words of a rotation mean for these instances."""
    return vars(_rotation.rotation(words, inventory, deployed, away))


class FilterModule:
    """Ansible's table of the filters in this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"rotation": rotation}
