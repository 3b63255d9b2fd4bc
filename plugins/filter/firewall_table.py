# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `firewall_table`: what has to be open, for a person."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _ports

DOCUMENTATION = r"""
name: firewall_table
short_description: Say which ports have to be open for whom
version_added: 0.1.0
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
description:
  - Makes a table of what a firewall has to let in and, behind NAT, of what a router has to pass on.
positional: _input, host, firewall
options:
  _input:
    description: The ports, as the variable C(hpb_used_ports) of the role C(hpb) has them.
    type: dict
    required: true
  host:
    description: What the host is called.
    type: str
    required: true
  firewall:
    description: The firewall of the host that is told by itself. Empty for none.
    type: str
    default: ""
  short:
    description: Whether to say it in one line, without what each port is for.
    type: bool
    default: false
seealso:
  - plugin: nextcloud_talk.hpb.firewall_rules
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show the table
  ansible.builtin.debug:
    msg: "{{ hpb_used_ports | nextcloud_talk.hpb.firewall_table(inventory_hostname) }}"
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
"""


class FilterModule:
    """Ansible's table of the filters in this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"firewall_table": _ports.table}
