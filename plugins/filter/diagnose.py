# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `diagnose`: from a verification and the evidence to the causes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _doctor

DOCUMENTATION = r"""
name: diagnose
short_description: Find the causes of what does not work
version_added: 0.1.0
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
description:
  - Judges what a verification found by the evidence from the backend's host and from the Nextclouds' hosts. Each cause
    is named once with all instances that it concerns, and what only follows from it is left out.
  - What is not explained by the evidence is returned as the verification says it. Where that does not know the cause
    either, this is said, and the evidence is attached.
positional: inspection, reaches, context
options:
  _input:
    description: The result of M(nextcloud_talk.hpb.call_probe), or an empty dictionary when no call was placed.
    type: dict
    required: true
  inspection:
    description: The result of M(nextcloud_talk.hpb.hpb_inspect), or an empty dictionary.
    type: dict
    required: true
  reaches:
    description: The results of M(nextcloud_talk.hpb.hpb_reach), each with the C(id) of its instance and its C(host).
    type: list
    elements: dict
    required: true
  context:
    description:
      - What else is known - C(url), C(domain), C(turn_server), C(public_ip), C(media_ip),
        C(cdn) (networks of proxies in the internet), C(hpb_host), C(tls), C(resolve), C(profile), C(proxy_address),
        C(time) (the controller's clock when the inspection began, in Unix seconds), and C(instances), each
        with C(id), C(url), C(urls), C(host), C(check), C(nextcloud), C(talk), C(occ) (how it is begun there) and
        C(attempts) (what M(nextcloud_talk.hpb.talk_attempts) returns).
    type: dict
    required: true
seealso:
  - module: nextcloud_talk.hpb.call_probe
  - module: nextcloud_talk.hpb.hpb_inspect
  - module: nextcloud_talk.hpb.hpb_reach
"""

EXAMPLES = r"""
- name: Say why it does not work
  ansible.builtin.debug:
    msg: "{{ probe | nextcloud_talk.hpb.diagnose(inspection, [], context) | map(attribute='sentence') }}"
  vars:
    context:
      url: https://talk.example.org
      domain: talk.example.org
      hpb_host: talk.example.org
      instances:
        - id: nc
          url: https://nc.example.org
"""

RETURN = r"""
_value:
  description: The causes, the root of each trouble once; empty when nothing is wrong.
  type: list
  elements: dict
  contains:
    cause:
      description: The cause in one word, for machines; V(as-seen) and V(unknown) are not explained by the evidence.
      type: str
    instance:
      description: Ids of the instances concerned, separated by commas, or V(all).
      type: str
    step:
      description: The steps of the verification that fail because of it, separated by commas.
      type: str
    what:
      description: What fails, for people.
      type: str
    why:
      description: The cause in one sentence.
      type: str
    mend:
      description: What to do, with the command.
      type: str
    seen:
      description: The evidence.
      type: str
    status:
      description: V(failed), or V(warning) where nothing was seen to fail because of it.
      type: str
    sentence:
      description: All that in one line.
      type: str
    more:
      description: Where the documentation says more about it.
      type: str
"""


def diagnose(
    report: Mapping[str, Any],
    inspection: Mapping[str, Any],
    reaches: Sequence[Mapping[str, Any]],
    context: Mapping[str, Any],
) -> list[dict[str, str]]:
    """Return the findings as plain data; raises AnsibleFilterError for evidence in another form."""
    for name, value in (("the result of the probe", report), ("inspection", inspection), ("context", context)):
        if not isinstance(value, Mapping):
            raise AnsibleFilterError(
                f"diagnose was given {type(value).__name__} for {name}, expected a dictionary as the modules return it."
            )
    return [finding.plain() for finding in _doctor.diagnose(report, inspection, reaches, context)]


class FilterModule:
    """Ansible's table of the filters in this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"diagnose": diagnose}
