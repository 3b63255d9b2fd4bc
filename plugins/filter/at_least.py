# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `at_least`: whether a version is another one or newer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _versions

DOCUMENTATION = r"""
name: at_least
short_description: Whether a version is another one or newer
version_added: 0.1.0
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
description:
  - Compares the numbers that versions begin with, whatever stands behind them - V(v3.7.15), V(2.15.1-alpine3.22),
    V(20.10.24+dfsg1) - and the revision of an image, V(-r1).
  - What begins with no version number, a word or a commit's hash, is of unknown version. It is no failure, and never
    at least another one.
positional: _input, wanted
options:
  _input:
    description: A version.
    type: str
    required: true
  wanted:
    description: The version that it is to be at least.
    type: str
    required: true
seealso:
  - plugin: nextcloud_talk.hpb.release
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show whether this engine is new enough
  ansible.builtin.debug:
    msg: "{{ '20.10.24+dfsg1' | nextcloud_talk.hpb.at_least('25') }}"
"""

RETURN = r"""
_value:
  description: Whether it is.
  type: bool
"""


def at_least(version: Any, wanted: Any) -> bool:
    """Return whether a version is `wanted` or newer; YAML reads some versions as numbers."""
    return _versions.at_least(str(version), str(wanted))


class FilterModule:
    """Ansible's table of the filters in this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"at_least": at_least}
