# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `firewall_rules`: which ports have to be open for whom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _ports

DOCUMENTATION = r"""
name: firewall_rules
short_description: Tell which ports have to be open for whom
version_added: 0.1.0
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
description:
  - Makes the list of what a firewall has to let in. What the programs have for each other is not in it.
  - In the network profile V(bridge) these are the ports that Docker publishes.
options:
  _input:
    description: The ports, as the variable C(hpb_used_ports) of the role C(hpb) has them.
    type: dict
    required: true
seealso:
  - plugin: nextcloud_talk.hpb.firewall_table
    plugin_type: filter
  - module: nextcloud_talk.hpb.host_firewall
"""

EXAMPLES = r"""
- name: Show the UDP ports
  ansible.builtin.debug:
    msg: "{{ hpb_used_ports | nextcloud_talk.hpb.firewall_rules | selectattr('protocol', 'equalto', 'udp') | list }}"
"""

RETURN = r"""
_value:
  description:
    - Rules, each with C(protocol) (V(tcp) or V(udp)), C(first) and C(last) port, C(source) (the one address that may,
      empty for everybody), and C(why).
  type: list
  elements: dict
"""


class FilterModule:
    """Ansible's table of the filters in this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"firewall_rules": _ports.rules}
