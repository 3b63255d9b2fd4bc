# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `traefik_routes`: the public surface as Traefik's dynamic configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _proxy

DOCUMENTATION = r"""
name: traefik_routes
short_description: The public paths as Traefik's dynamic configuration
version_added: 0.1.0
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
description:
  - Makes routers, a service and middlewares of the public paths of the signaling server, as Traefik's file provider
    takes them.
positional: server, prefixes
options:
  _input:
    description: Name at which the signaling server is reached.
    type: str
    required: true
  server:
    description: URL at which Traefik reaches the signaling server.
    type: str
    required: true
  prefixes:
    description: Paths under which it is reached, without a slash at their end. An empty one is the root.
    type: list
    elements: str
    default: [""]
  entry_point:
    description: Name of Traefik's entry point for HTTPS.
    type: str
    default: websecure
  tls:
    description: The routers' part about TLS, for example C(certResolver).
    type: dict
    default: {}
  plain:
    description:
      - Whether a proxy comes to this entry point that has the certificate, by whatever name. There is no TLS then, and
        C(X-Real-IP) is not passed on.
    type: bool
    default: false
  name:
    description: What the names of all parts begin with, before a dash. Empty for nothing.
    type: str
    default: ""
seealso:
  - plugin: nextcloud_talk.hpb.traefik_labels
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Write a file for Traefik's file provider
  ansible.builtin.copy:
    content: "{{ 'talk.example.org' | nextcloud_talk.hpb.traefik_routes('http://127.0.0.1:8080') | to_nice_yaml }}"
    dest: /etc/traefik/dynamic/talk.yml
    mode: "0644"
"""

RETURN = r"""
_value:
  description: C(http) with C(routers), C(services) and C(middlewares).
  type: dict
"""


class FilterModule:
    """Ansible's table of the filters in this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"traefik_routes": _proxy.traefik}
