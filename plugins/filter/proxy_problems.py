# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `proxy_problems`: what of the settings of the proxy cannot work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _proxy

DOCUMENTATION = r"""
name: proxy_problems
short_description: What of the proxy's settings cannot work
version_added: 0.1.0
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
description:
  - Judges the variables that say which proxy serves the signaling server.
options:
  _input:
    description:
      - The settings - C(own) (whether our own Traefik serves it), C(kind), C(path),
        C(address) (the proxy's), C(listen) and C(port) (the signaling server's), C(tls), C(network), C(container),
        C(entry_point), C(resolver), C(turn_tls_port) and C(turn_443).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Refuse what cannot work
  ansible.builtin.assert:
    that: settings | nextcloud_talk.hpb.proxy_problems | length == 0
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
        return {"proxy_problems": _proxy.problems}
