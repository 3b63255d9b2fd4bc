# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `backends`: from the inventory to the list of Nextcloud instances."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _backends

DOCUMENTATION = r"""
name: backends
short_description: List the Nextcloud instances of an inventory
version_added: 0.1.0
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
description:
  - An instance is a minimal group inside the group C(nextcloud). All its hosts are in C(nextcloud), and no other such
    group is a true part of it. The group's name is the id of the instance, its URL is V(https://) and the first host
    unless C(talk_url) says otherwise.
  - Everything about the backend derives from this list.
  - What cannot work is refused, everything at once with a sentence for each. This includes a group C(hpb) with no or
    several hosts, a host in no or in two instances, an id that the signaling server cannot have, a URL that is not
    https, two instances with one URL, and a value out of its range.
  - Of the variables nothing but C(talk_*) is read.
positional: hostvars
options:
  _input:
    description: The magic variable C(groups).
    type: dict
    required: true
  hostvars:
    description: The magic variable C(hostvars).
    type: dict
    required: true
  only:
    description:
      - Names of the instances to return, as a list or comma separated. The whole inventory is checked all the same.
      - Empty returns all. A name that is neither in the inventory nor in O(remove) is refused.
    type: raw
  remove:
    description: Names of instances that leave, as a list or comma separated. They get the state V(absent).
    type: raw
  state:
    description: Return instances with this C(talk_state).
    type: str
    choices: [present, absent, all]
    default: present
  check:
    description: Return the problems of the inventory instead of the instances, a sentence for each; empty means fit.
    type: bool
    default: false
seealso:
  - plugin: nextcloud_talk.hpb.drift
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show the instances
  ansible.builtin.debug:
    msg: "{{ groups | nextcloud_talk.hpb.backends(hostvars) }}"

- name: Show one of them, also if it is to leave
  ansible.builtin.debug:
    msg: "{{ groups | nextcloud_talk.hpb.backends(hostvars, only='nc', state='all') }}"
"""

RETURN = r"""
_value:
  description:
    - The instances in the order in which the signaling server must list them. A longer URL comes before one that is its
      beginning, otherwise they are sorted by id.
  type: list
  elements: dict
  contains:
    id:
      description: Name of the group.
      type: str
    host:
      description: The first host of the group, on which C(occ) is run unless it cannot be reached.
      type: str
    hosts:
      description: All hosts of the group.
      type: list
      elements: str
    url:
      description: Address of the Nextcloud, in lower case, without the default port and without a slash at the end.
      type: str
    urls:
      description: All its addresses, RV(_value[].url) first.
      type: list
      elements: str
    session_limit:
      description: Sessions at the same time, 0 for no limit.
      type: int
    stream_bitrate:
      description: Highest bitrate of a camera in bit/s, null for the server's own.
      type: int
    screen_bitrate:
      description: Highest bitrate of a shared screen in bit/s, null for the server's own.
      type: int
    register:
      description: Whether the backend is registered in this Nextcloud. If not, its hosts are never contacted.
      type: bool
    optional:
      description: Whether its host may be switched off.
      type: bool
    state:
      description: V(present) or V(absent).
      type: str
    urls_from_nextcloud:
      description: Whether the instance gets the URLs that are found in its Nextcloud, too.
      type: bool
"""


def backends(
    groups: Mapping[str, Sequence[str]],
    hostvars: Mapping[str, Mapping[str, Any]],
    *,
    only: Any = None,
    remove: Any = None,
    state: str = "present",
    check: bool = False,
) -> list[dict[str, Any]] | list[str]:
    """Return the instances of the inventory; raises AnsibleFilterError with all its problems, one a line.

    With `check` the problems are returned instead, an empty list when there are none.
    """
    try:
        found = _backends.backends(groups, hostvars, only=only, remove=remove, state=state)
    except _backends.InventoryError as error:
        if check:
            return error.problems
        raise AnsibleFilterError(str(error)) from error
    return [] if check else found


class FilterModule:
    """Ansible's table of the filters in this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"backends": backends}
