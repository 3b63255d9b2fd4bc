# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `tabs_sentence`: what a change of Talk's servers means for whoever has Talk open."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _talk

DOCUMENTATION = r"""
name: tabs_sentence
short_description: Say what a registration means for open tabs of Talk
version_added: 0.1.0
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
description:
  - With each answer Talk tells its clients what it is configured with, as a hash that is made of its signaling, STUN
    and TURN servers, too. Where that is another one than before, an open tab asks for a reload, and offers no call
    until then.
positional: _input, dry
options:
  _input:
    description:
      - By the id of each instance, what M(nextcloud_talk.hpb.talk_registration) did there or would do, its C(actions).
    type: dict
    required: true
  dry:
    description: Whether it is only said and not done (C(--check)).
    type: bool
    required: true
seealso:
  - module: nextcloud_talk.hpb.talk_registration
"""

EXAMPLES = r"""
- name: Say what people see
  ansible.builtin.debug:
    msg: "{{ {'nc': registration.actions} | nextcloud_talk.hpb.tabs_sentence(ansible_check_mode) }}"
"""

RETURN = r"""
_value:
  description: One sentence, empty where no tab is concerned.
  type: str
"""


def tabs_sentence(actions: Mapping[str, Sequence[str]], dry: bool) -> str:
    """Return what people with an open tab see, see `_talk.tabs`."""
    return _talk.tabs(actions, bool(dry))


class FilterModule:
    """Ansible's table of the filters in this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"tabs_sentence": tabs_sentence}
