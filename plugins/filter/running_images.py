# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `running_images`: which image each of our containers runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _ours

DOCUMENTATION = r"""
name: running_images
short_description: Tell which images our containers run
version_added: 0.1.0
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
description:
  - Takes what the engine lists and leaves out what is not ours, however it is called.
positional: _input, base_dir, prefix
options:
  _input:
    description: RV(community.docker.docker_host_info#module:containers).
    type: list
    elements: dict
    required: true
  base_dir:
    description: Directory that holds the directories of all containers.
    type: str
    required: true
  prefix:
    description: What stands before the names of our containers in the engine.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Show the image of NATS
  ansible.builtin.debug:
    msg: "{{ (engine.containers | nextcloud_talk.hpb.running_images('/opt/nextcloud-talk-hpb')).nats }}"
"""

RETURN = r"""
_value:
  description: The reference of the image of each container, by the container's name without its prefix.
  type: dict
"""


def running_images(containers: Iterable[Mapping[str, Any]], base_dir: str, prefix: str = "") -> dict[str, str]:
    """Return the image of each of our containers by its service."""
    claim = _ours.Claim((), str(prefix), str(base_dir), {})
    found = claim.present(_ours.Container.listed(entry) for entry in containers)
    return {service: ours[0].image for service, ours in found.items()}


class FilterModule:
    """Ansible's table of the filters in this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"running_images": running_images}
