# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `traefik_labels`: Traefik's dynamic configuration as labels of a container."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _proxy

DOCUMENTATION = r"""
name: traefik_labels
short_description: Traefik's dynamic configuration as labels
version_added: 0.1.0
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
description:
  - Makes labels for Traefik's Docker provider of what its file provider would take. They need Traefik 3.4 or newer,
    since the signaling server is named by its URL. A container on the host's network has no address of its own that
    Traefik could find.
options:
  _input:
    description: The configuration, as P(nextcloud_talk.hpb.traefik_routes#filter) returns it.
    type: dict
    required: true
seealso:
  - plugin: nextcloud_talk.hpb.traefik_routes
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show the labels
  ansible.builtin.debug:
    msg: "{{ routes | nextcloud_talk.hpb.traefik_labels }}"
  vars:
    routes: "{{ 'talk.example.org' | nextcloud_talk.hpb.traefik_routes('http://192.0.2.1:8080') }}"
"""

RETURN = r"""
_value:
  description: The labels by their names.
  type: dict
"""


class FilterModule:
    """Ansible's table of the filters in this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"traefik_labels": _proxy.labels}
