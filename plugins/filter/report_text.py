# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `report_text`: the document of a verification as JSON, JUnit XML or HTML."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _report, _report_junit, _report_page

DOCUMENTATION = r"""
name: report_text
short_description: Write the result of a verification as JSON, JUnit XML or HTML
version_added: 0.1.0
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
description:
  - Returns a document of the filter P(nextcloud_talk.hpb.report#filter) as a text. C(docs/report.md) of this collection
    describes all three forms.
  - What is no part of the described document is left out.
positional: form
options:
  _input:
    description: The document, also one that was read from a C(report.json).
    type: dict
    required: true
  form:
    description:
      - V(json) is the document itself, V(junit) the XML that CI servers read, V(html) one page for people that loads
        nothing from anywhere.
    type: str
    choices: [json, junit, html]
    required: true
"""

EXAMPLES = r"""
- name: Make the page of an older report
  ansible.builtin.copy:
    content: "{{ lookup('ansible.builtin.file', 'report.json') | from_json | nextcloud_talk.hpb.report_text('html') }}"
    dest: report.html
    mode: "0644"
"""

RETURN = r"""
_value:
  description: The text.
  type: str
"""


def _json(report: Mapping[str, Any]) -> str:
    return json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


FORMS = {"json": _json, "junit": _report_junit.render, "html": _report_page.render}


def report_text(report: Mapping[str, Any], form: str) -> str:
    """Return the document as a text. Raises `AnsibleFilterError`."""
    if form not in FORMS:
        raise AnsibleFilterError(f"report_text: the form is {form!r}, expected one of {', '.join(FORMS)}.")
    try:
        return FORMS[form](_report.known(report))
    except _report.ReportError as error:
        raise AnsibleFilterError(f"report_text: {error}") from error


class FilterModule:
    """Ansible's table of the filters in this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"report_text": report_text}
