# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `further_urls`: instances with the URLs that their Nextclouds name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _found_urls

DOCUMENTATION = r"""
name: further_urls
short_description: Add the URLs that the Nextclouds themselves name
version_added: 0.1.0
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
description:
  - Adds to each instance with C(talk_urls_from_nextcloud) the URLs that were found in its Nextcloud. An instance that
    leaves stays as it is, and one whose Nextcloud was not asked keeps the URLs that it is deployed with.
  - A URL that another instance has, or that lies above or below one of another instance, is not taken.
positional: found
options:
  _input:
    description: The instances as the filter P(nextcloud_talk.hpb.backends#filter) returns them.
    type: list
    elements: dict
    required: true
  found:
    description:
      - For each Nextcloud that was asked a dictionary with C(id) of the instance, C(urls) as
        M(nextcloud_talk.hpb.talk_info) returns them in C(urls_found), C(cli_url), and C(mend), which says whether a
        wrong C(overwrite.cli.url) will be mended.
    type: list
    elements: dict
    required: true
  deployed:
    description: The instances as they were deployed.
    type: list
    elements: dict
    default: []
  known:
    description: The instances of the whole inventory, for a run that is narrowed to some of them.
    type: list
    elements: dict
    default: []
  several:
    description: Whether the signaling server knows several URLs of one instance, which it does from 2.0.4 on.
    type: bool
    default: true
seealso:
  - plugin: nextcloud_talk.hpb.backends
    plugin_type: filter
  - module: nextcloud_talk.hpb.talk_info
"""

EXAMPLES = r"""
- name: Show the instances with the URLs that were found in one Nextcloud
  ansible.builtin.debug:
    msg: "{{ groups | nextcloud_talk.hpb.backends(hostvars) | nextcloud_talk.hpb.further_urls(found) }}"
  vars:
    found:
      - id: nc
        urls: ["https://nc.example.org", "https://cloud.example.org"]
        cli_url: https://nc.example.org
        mend: false
"""

RETURN = r"""
_value:
  description: The instances and what has to be said about them.
  type: dict
  contains:
    instances:
      description: The instances in the order in which they came, with all their C(urls).
      type: list
      elements: dict
    warnings:
      description: A sentence for each URL that was not taken.
      type: list
      elements: str
    problems:
      description: A sentence for each C(overwrite.cli.url) that was not taken and that nobody mends.
      type: list
      elements: str
"""


def further_urls(
    instances: Sequence[Mapping[str, Any]],
    found: Sequence[Mapping[str, Any]],
    deployed: Sequence[Mapping[str, Any]] = (),
    known: Sequence[Mapping[str, Any]] = (),
    several: bool = True,
) -> dict[str, Any]:
    """Return the instances with the URLs that were found, and what has to be said about it."""
    return vars(_found_urls.merge(instances, found, deployed=deployed, known=known, several=several))


class FilterModule:
    """Ansible's table of the filters in this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"further_urls": further_urls}
