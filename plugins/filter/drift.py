# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `drift`: the inventory's instances against the deployed ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _drift

DOCUMENTATION = r"""
name: drift
short_description: Compare the instances of the inventory with the deployed ones
version_added: 0.1.0
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
description:
  - Says who joins, who changes and who leaves. Leaving needs consent, by C(talk_state=absent) in the inventory or by
    O(remove). A deployed instance that the inventory no longer has is otherwise a problem and stops the run.
  - The same URL under another id is a rename.
positional: deployed
options:
  _input:
    description: The instances as the filter P(nextcloud_talk.hpb.backends#filter) returns them with C(state='all').
    type: list
    elements: dict
    required: true
  deployed:
    description:
      - The instances as they were deployed, in the same form. C(id) and C(url) are enough, and what else is missing is
        not compared.
    type: list
    elements: dict
    required: true
  remove:
    description: Names of instances that may leave unasked by the inventory, as a list or comma separated.
    type: raw
  only:
    description: Names to which the run is narrowed, as a list or comma separated. The others stay as they are deployed.
    type: raw
  known:
    description:
      - Names of all instances of the inventory, for a run that O(only) narrows. Without them an instance outside of
        that run counts as gone, and one that takes its URL as its new name.
    type: list
    elements: str
seealso:
  - plugin: nextcloud_talk.hpb.backends
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show what a run would do
  ansible.builtin.debug:
    msg: "{{ instances | nextcloud_talk.hpb.drift(deployed, remove='nc') }}"
  vars:
    instances: "{{ groups | nextcloud_talk.hpb.backends(hostvars, state='all') }}"
    deployed:
      - id: nc
        url: https://nc.example.org
"""

RETURN = r"""
_value:
  description: Ids by what happens to them.
  type: dict
  contains:
    added:
      description: Not deployed yet.
      type: list
      elements: str
    changed:
      description: Deployed with other URLs, limits or bitrates.
      type: list
      elements: str
    removed:
      description: Deployed, and leaving with consent.
      type: list
      elements: str
    renamed:
      description: The same URL under another id, each with C(from) and C(to).
      type: list
      elements: dict
    vanished:
      description: Deployed, neither in the inventory nor leaving with consent.
      type: list
      elements: str
    unchanged:
      description: Deployed as they are, or not concerned by a narrowed run.
      type: list
      elements: str
    unknown:
      description: Names in O(remove) that are neither deployed nor in the inventory.
      type: list
      elements: str
    problems:
      description: A sentence for each reason not to go on.
      type: list
      elements: str
    not_deployed:
      description:
        - For a run that deploys nothing. A sentence for each instance that the inventory has at another address than
          the deployed one, or that is not deployed, and for each deployed one that it does not have. Empty where
          nothing is deployed.
      type: list
      elements: str
    instances:
      description: What is to be deployed, in the order in which the signaling server must list it.
      type: list
      elements: dict
"""


def drift(
    instances: Sequence[Mapping[str, Any]],
    deployed: Sequence[Mapping[str, Any]],
    remove: Any = None,
    only: Any = None,
    known: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Return what the inventory changes of what is deployed; raises AnsibleFilterError for a list that is none."""
    for entry in deployed:
        if not isinstance(entry, Mapping) or not entry.get("id") or not entry.get("url"):
            raise AnsibleFilterError(
                "The list of deployed instances holds an entry without id or url, expected both in each: restore the "
                "file deployed.json on the host of the group hpb, or remove it so that the next run writes it anew."
            )
    return vars(_drift.drift(instances, deployed, remove=remove, only=only, known=known))


class FilterModule:
    """Ansible's table of the filters in this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"drift": drift}
