# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `load_report`: what a load test came to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _load_report

DOCUMENTATION = r"""
name: load_report
short_description: Put a load test and the processor time of the backend together
version_added: 0.1.0
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
description:
  - Finds for each step of a load test what the programs of the backend used in that very time, and what that is per
    Mbit/s that was delivered.
positional: usage, look, asked, answered
options:
  _input:
    description:
      - The runs. Each has a C(path) (V(direct), V(turn-udp), V(turn-tcp) or V(turn-tls)) and a C(result), what
        M(nextcloud_talk.hpb.call_load) returned.
    type: list
    elements: dict
    required: true
  usage:
    description: What M(nextcloud_talk.hpb.hpb_usage) returned for the time of all runs.
    type: dict
    required: true
  look:
    description: What it returned before the runs.
    type: dict
    required: true
  asked:
    description: The time of the generator's clock when O(look) was asked for, in Unix seconds.
    type: float
    required: true
  answered:
    description: The same when it was there. When the host's own time lies between both, the clocks are taken as equal.
    type: float
    required: true
seealso:
  - module: nextcloud_talk.hpb.call_load
  - module: nextcloud_talk.hpb.hpb_usage
"""

EXAMPLES = r"""
- name: Show the table
  ansible.builtin.debug:
    msg: "{{ (runs | nextcloud_talk.hpb.load_report(usage, look, asked, answered)).lines }}"
  vars:
    runs:
      - path: direct
        result: "{{ load }}"
"""

RETURN = r"""
_value:
  description: The result in all its forms.
  type: dict
  contains:
    document:
      description:
        - The machines as C(host) and C(generator), C(one_machine), and C(runs), each with its steps as
          M(nextcloud_talk.hpb.call_load) returns them. A step has besides C(usage) with C(host) (share of all cores),
          C(others) (cores of what is neither backend nor interrupt), C(cores) and C(per_mbit) (percent of one core per
          delivered Mbit/s) by container. C(sizing) says what meetings of some sizes need by that.
      type: dict
    lines:
      description: The same as lines of text.
      type: list
      elements: str
    page:
      description: What was measured and the sizing table, in Markdown.
      type: str
    problems:
      description: Why it says nothing of some path, as sentences; empty when it does of all.
      type: list
      elements: str
"""


def load_report(
    runs: Sequence[Mapping[str, Any]], usage: Mapping[str, Any], look: Mapping[str, Any], asked: float, answered: float
) -> dict[str, Any]:
    """Return document, lines, page and problems."""
    found = _load_report.document(runs, usage, look, float(asked), float(answered))
    return {
        "document": found,
        "lines": _load_report.lines(found),
        "page": _load_report.page(found),
        "problems": _load_report.problems(found),
    }


class FilterModule:
    """Ansible's table of the filters in this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"load_report": load_report}
