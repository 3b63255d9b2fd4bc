# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `release_pins`: the versions that are in force for a host."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _release
from ansible_collections.nextcloud_talk.hpb.plugins.plugin_utils import _releases

DOCUMENTATION = r"""
name: release_pins
short_description: Tell which versions are in force for a host
version_added: 0.1.0
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
description:
  - Takes the versions of a release and what the variables of a host pin otherwise, such as C(coturn_version), or
    C(janus_version) with C(janus_sha256).
positional: _input, variables
options:
  _input:
    description: Name of the release. Empty means the newest.
    type: str
    required: true
  variables:
    description: The host's variables, C(hostvars[inventory_hostname]).
    type: dict
    required: true
  check:
    description: Whether to return a list of sentences for what cannot work, instead of the versions.
    type: bool
    default: false
seealso:
  - plugin: nextcloud_talk.hpb.release
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show the versions that are in force
  ansible.builtin.debug:
    msg: "{{ (hpb_release | nextcloud_talk.hpb.release_pins(hostvars[inventory_hostname])).versions }}"
"""

RETURN = r"""
_value:
  description:
    - C(release), its name; C(versions), that of each part; C(pinned), the variables that override the release;
      C(checksums), the sha256 of each source; C(digests), those of images that the variables name.
  type: dict
"""


def release_pins(name: str, variables: Mapping[str, Any], check: bool = False) -> Any:
    """Return the versions in force, or with `check` the sentences about what cannot work."""
    if check:
        return _release.problems(_releases.load(), str(name), variables)
    try:
        return _release.pins(_releases.load(), str(name), variables)
    except _release.ReleaseError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """Ansible's table of the filters in this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"release_pins": release_pins}
