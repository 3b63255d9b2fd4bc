# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `source_checksum`: the sha256 of an archive that Janus is built from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _release
from ansible_collections.nextcloud_talk.hpb.plugins.plugin_utils import _releases

DOCUMENTATION = r"""
name: source_checksum
short_description: Tell the checksum of a source of Janus
version_added: 0.1.0
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
description:
  - Knows the archives of the versions in C(roles/hpb/files/releases.yml), those of no release included.
positional: _input, source
options:
  _input:
    description: Version of the source.
    type: str
    required: true
  source:
    description: Which source, V(libsrtp), V(usrsctp) or V(janus).
    type: str
    required: true
seealso:
  - plugin: nextcloud_talk.hpb.release
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show the checksum of the archive of Janus 1.4.1
  ansible.builtin.debug:
    msg: "{{ '1.4.1' | nextcloud_talk.hpb.source_checksum('janus') }}"
"""

RETURN = r"""
_value:
  description: The sha256, empty for a version that is not known.
  type: str
"""


def source_checksum(version: str, source: str) -> str:
    """Return the sha256 of the archive of that version, empty when it is not known."""
    try:
        return _release.checksum(_releases.load(), str(source), str(version))
    except _release.ReleaseError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """Ansible's table of the filters in this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"source_checksum": source_checksum}
