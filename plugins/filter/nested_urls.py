# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `nested_urls`: addresses of instances that lie below each other, whose order matters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._network import covers

DOCUMENTATION = r"""
name: nested_urls
short_description: Addresses of instances that lie below each other
version_added: 0.1.0
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
description:
  - Returns the addresses of which one begins with that of another instance, such as C(https://example.org/two) and
    C(https://example.org), in the order in which the signaling server must know them.
  - A reload adds a new address behind those that the server knows already (strukturag/nextcloud-spreed-signaling,
    talk/backend_storage_static.go), and of two that fit a request it takes the first. So a new order needs a restart.
options:
  _input:
    description: The instances, as P(nextcloud_talk.hpb.backends#filter) returns them.
    type: list
    elements: dict
    required: true
seealso:
  - plugin: nextcloud_talk.hpb.backends
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show them
  ansible.builtin.debug:
    msg: "{{ hpb_instances | nextcloud_talk.hpb.nested_urls }}"
"""

RETURN = r"""
_value:
  description: The addresses, none where no two instances share a name.
  type: list
  elements: str
"""


def nested_urls(instances: Sequence[dict[str, Any]]) -> list[str]:
    """Return the URLs that cover one of another instance or are covered by one, in the order of the instances."""
    urls = [(instance["id"], url) for instance in instances for url in instance["urls"]]
    return [
        url
        for owner, url in urls
        if any(other != owner and (covers(url, second) or covers(second, url)) for other, second in urls)
    ]


class FilterModule:
    """Ansible's table of the filters in this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"nested_urls": nested_urls}
