# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `public_surface`: the paths of the signaling server that a proxy passes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _proxy

DOCUMENTATION = r"""
name: public_surface
short_description: The paths of the signaling server that are public
version_added: 0.1.0
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
description:
  - Says which paths of the signaling server a reverse proxy passes on. It answers 404 to everything else.
options:
  _input:
    description: Path under which the signaling server is reached, without a slash at its end. Empty for the root.
    type: str
    required: true
seealso:
  - plugin: nextcloud_talk.hpb.traefik_routes
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show a regular expression of the public paths
  ansible.builtin.debug:
    msg: "^/standalone-signaling/({{ ('/standalone-signaling' | nextcloud_talk.hpb.public_surface).pattern }})$"
"""

RETURN = r"""
_value:
  description:
    - C(prefix) as given, C(routes), each with its C(path) after the prefix, C(exact), C(websocket), C(base) and C(leaf)
      (the path up to its last slash, and a regular expression of the rest) and C(rule) (a matcher of Traefik).
      C(pattern) is a regular expression of all paths after the prefix and a slash. A request whose header
      C(events_header) has C(events) in it, in whatever letters, is public under none of them. C(max_body) is the
      largest request in bytes, C(idle) the seconds for which a silent websocket is kept.
  type: dict
"""


class FilterModule:
    """Ansible's table of the filters in this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"public_surface": _proxy.surface}
