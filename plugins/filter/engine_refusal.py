# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `engine_refusal`: what it means that a Docker engine refuses to start or to build something."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _engine

DOCUMENTATION = r"""
name: engine_refusal
short_description: What a refusal of a Docker engine means
version_added: 0.1.0
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
description:
  - Knows the texts with which an engine refuses to start or to build something for reasons that lie in the host, such
    as one that is itself a container.
options:
  _input:
    description: What the engine said.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Say what it means
  ansible.builtin.debug:
    msg: "{{ ansible_failed_result.msg | nextcloud_talk.hpb.engine_refusal }}"
"""

RETURN = r"""
_value:
  description: The cause and what to do, without a dot at the end. Empty when the text is not known.
  type: str
"""


class FilterModule:
    """Ansible's table of the filters in this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"engine_refusal": lambda text: _engine.refusal(str(text))}
