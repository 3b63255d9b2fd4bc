# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `report`: what a verification came to, as one document."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _instances_page, _report

DOCUMENTATION = r"""
name: report
short_description: Put the result of a verification into one document
version_added: 0.1.0
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
description:
  - Returns the document that C(docs/report.md) of this collection describes, as plain data. Only what is described
    there is in it, and no secret.
  - P(nextcloud_talk.hpb.report_text#filter) writes it as JSON, as JUnit XML or as a page of HTML.
positional: seen
options:
  _input:
    description: The instances as the filter P(nextcloud_talk.hpb.backends#filter) returns them.
    type: list
    elements: dict
    required: true
  seen:
    description:
      - What this run saw of an instance, by id. C(nextcloud) and C(talk) are versions, C(check) is what
        M(nextcloud_talk.hpb.talk_check) returns. All of it may be missing.
    type: dict
    required: true
  time:
    description: When it was, in UTC, as V(YYYY-MM-DDThh:mm:ssZ).
    type: str
    required: true
  url:
    description: The URL of the signaling server.
    type: str
    required: true
  turn_server:
    description: The TURN server as in Talk's settings.
    type: str
  result:
    description: What M(nextcloud_talk.hpb.call_probe) returns; empty when no call was placed.
    type: dict
  findings:
    description:
      - What was found out about the causes, each with the texts C(instance), C(step), C(what), C(why), C(mend), C(seen)
        and C(status) (C(failed) or C(warning)).
    type: list
    elements: dict
  images:
    description: Names of the images of the running containers, by container.
    type: dict
  hide:
    description:
      - Anything that holds secrets, for example what M(nextcloud_talk.hpb.secrets) returns. A text of it with 16
        characters or more is masked wherever it stands, unless its key is C(url).
    type: raw
"""

EXAMPLES = r"""
- name: Show the verdict
  ansible.builtin.debug:
    msg: "{{ document.verdict }}"
  vars:
    document: "{{ instances | nextcloud_talk.hpb.report({}, time=time, url='https://talk.example.org', result=probe) }}"
    instances: "{{ groups | nextcloud_talk.hpb.backends(hostvars) }}"
    time: "{{ now(utc=true, fmt='%Y-%m-%dT%H:%M:%SZ') }}"
"""

RETURN = r"""
_value:
  description: The document.
  type: dict
"""


def report(
    instances: Sequence[Mapping[str, Any]],
    seen: Mapping[str, Mapping[str, Any]],
    *,
    time: str,
    url: str,
    turn_server: str = "",
    result: Mapping[str, Any] | None = None,
    findings: Sequence[Mapping[str, Any]] = (),
    images: Mapping[str, str] | None = None,
    hide: Any = None,
) -> dict[str, Any]:
    """Return the document."""
    versions = {name: _instances_page.version_of(image) for name, image in (images or {}).items()}
    return _report.document(
        instances,
        seen,
        result or {},
        findings=findings,
        versions=versions,
        time=time,
        url=url,
        turn_server=turn_server,
        hide=hide,
    )


class FilterModule:
    """Ansible's table of the filters in this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"report": report}
