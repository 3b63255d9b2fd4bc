# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `release`: the version of a part in a set of versions that belong together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _release
from ansible_collections.nextcloud_talk.hpb.plugins.plugin_utils import _releases

DOCUMENTATION = r"""
name: release
short_description: Tell the version of a part in a release
version_added: 0.1.0
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
description:
  - A release is a set of versions that belong together. They stand in C(roles/hpb/files/releases.yml).
positional: _input, part
options:
  _input:
    description: Name of the release. Empty means the newest.
    type: str
    required: true
  part:
    description:
      - Which part, one of V(nats), V(coturn), V(signaling), V(traefik), V(base), V(libsrtp), V(usrsctp) and V(janus).
    type: str
    required: true
seealso:
  - plugin: nextcloud_talk.hpb.source_checksum
    plugin_type: filter
  - plugin: nextcloud_talk.hpb.release_pins
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show which Janus the newest release has
  ansible.builtin.debug:
    msg: "{{ '' | nextcloud_talk.hpb.release('janus') }}"
"""

RETURN = r"""
_value:
  description: The version, as the tag of the image or the archive has it.
  type: str
"""


def release(name: str, part: str) -> str:
    """Return the version of the part in the release of that name; the newest release for an empty name."""
    try:
        found = _release.versions(_releases.load(), str(name))
    except _release.ReleaseError as error:
        raise AnsibleFilterError(str(error)) from error
    if part not in found:
        raise AnsibleFilterError(f"There is no part '{part}', expected one of {', '.join(found)}.")
    return found[part]


class FilterModule:
    """Ansible's table of the filters in this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"release": release}
