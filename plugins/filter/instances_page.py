# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `instances_page`: all instances in one table of Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _instances_page, _versions

DOCUMENTATION = r"""
name: instances_page
short_description: Write all instances into one table
version_added: 0.1.0
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
description:
  - Returns a page of Markdown with one line for each instance and the versions of the backend's programs. It holds no
    secret.
  - What a run did not learn is taken over from O(before).
positional: seen
options:
  _input:
    description: The instances as the filter P(nextcloud_talk.hpb.backends#filter) returns them.
    type: list
    elements: dict
    required: true
  seen:
    description:
      - What this run saw of an instance, by id. C(place) is where its C(occ) is, C(nextcloud) and C(talk) are versions,
        C(check_ok) is whether Talk's own check found no error. All of it may be missing.
    type: dict
    required: true
  results:
    description: What M(nextcloud_talk.hpb.call_probe) returns under the same name; empty when no call was placed.
    type: list
    elements: dict
  images:
    description: Names of the images of the running containers, by container.
    type: dict
  version:
    description: The signaling server's version as it says itself.
    type: str
  day:
    description: The day of the verification as V(YYYY-MM-DD).
    type: str
    required: true
  before:
    description: The page as it is now.
    type: str
"""

EXAMPLES = r"""
- name: Show the page
  ansible.builtin.debug:
    msg: "{{ instances | nextcloud_talk.hpb.instances_page({'nc': {'talk': '22.0.4'}}, day=now(fmt='%Y-%m-%d')) }}"
  vars:
    instances: "{{ groups | nextcloud_talk.hpb.backends(hostvars) }}"
"""

RETURN = r"""
_value:
  description: The page.
  type: str
"""


def instances_page(
    instances: Sequence[Mapping[str, Any]],
    seen: Mapping[str, Mapping[str, Any]],
    *,
    day: str,
    results: Sequence[Mapping[str, Any]] = (),
    images: Mapping[str, str] | None = None,
    version: str = "",
    before: str = "",
) -> str:
    """Return the page."""
    verified = {row["instance"] for row in results}
    known = {}
    for instance in instances:
        name = instance["id"]
        mine = seen.get(name, {})
        known[name] = {key: str(mine.get(key) or "") for key in ("place", "nextcloud", "talk")}
        if name in verified:
            good = bool(mine.get("check_ok", True))
            known[name]["verdict"] = _instances_page.verdict(name, results, good, day)
    programs = {name: _instances_page.version_of(image) for name, image in (images or {}).items()}
    return _instances_page.render(
        instances, known, {**programs, **({"signalling": _versions.named(version)} if version else {})}, before
    )


class FilterModule:
    """Ansible's table of the filters in this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"instances_page": instances_page}
