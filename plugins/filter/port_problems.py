# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `port_problems`: ports of the backend that cannot work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _ports

DOCUMENTATION = r"""
name: port_problems
short_description: Ports of the backend that cannot work
version_added: 0.1.0
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
description:
  - Judges each port and each range of ports for itself, and tells which of them two programs would share.
options:
  _input:
    description: The ports, as the variable C(hpb_used_ports) of the role C(hpb) has them.
    type: dict
    required: true
seealso:
  - plugin: nextcloud_talk.hpb.firewall_rules
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Refuse what cannot work
  ansible.builtin.assert:
    that: hpb_used_ports | nextcloud_talk.hpb.port_problems | length == 0
"""

RETURN = r"""
_value:
  description: One sentence for each problem.
  type: list
  elements: str
"""


class FilterModule:
    """Ansible's table of the filters in this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"port_problems": _ports.problems}
