# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `promoted`: the secrets as they are at the end of a rotation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _secrets

DOCUMENTATION = r"""
name: promoted
short_description: Put prepared secrets in place
version_added: 0.1.0
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
description:
  - Returns the secrets as O(nextcloud_talk.hpb.secrets#module:promote) would leave them, without storing anything.
positional: words
options:
  _input:
    description: All secrets, as RV(nextcloud_talk.hpb.secrets#module:secrets).
    type: dict
    required: true
  words:
    description: Which prepared secrets are put in place. An instance's name means both of its secrets, C(NAME.backend)
      and C(NAME.turn) one of them.
    type: list
    elements: str
    required: true
seealso:
  - module: nextcloud_talk.hpb.secrets
"""

EXAMPLES = r"""
- name: Keep what a Nextcloud is to be told
  ansible.builtin.set_fact:
    next_secrets: "{{ result.secrets | nextcloud_talk.hpb.promoted(['nc']) }}"
  no_log: true
"""

RETURN = r"""
_value:
  description: The secrets, in the same form. This is secret.
  type: dict
"""


def promoted(secrets: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """Return the secrets with the prepared ones of `words` in place; raises AnsibleFilterError for an unknown word."""
    try:
        return _secrets.promoted(dict(secrets), words)
    except _secrets.SecretsError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """Ansible's table of the filters in this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"promoted": promoted}
