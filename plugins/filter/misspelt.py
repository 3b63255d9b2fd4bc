# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `misspelt`: variables that look like misspelt ones of this collection."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _variables

DOCUMENTATION = r"""
name: misspelt
short_description: Find variables that look like misspelt ones of this collection
version_added: 0.1.0
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
description:
  - Looks at variables that start with C(talk_), C(hpb_) or the name of a role, are unknown to the argument
    specifications of the collection's roles, and are one or two errors away from a known one.
  - Hosts that are neither in C(hpb) nor in C(nextcloud) are left alone. Only the names of variables are looked at.
options:
  _input:
    description: The magic variable C(hostvars).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Refuse misspelt variables
  ansible.builtin.assert:
    that: hostvars | nextcloud_talk.hpb.misspelt | length == 0
    fail_msg: "{{ hostvars | nextcloud_talk.hpb.misspelt | join(' ') }}"
"""

RETURN = r"""
_value:
  description: A sentence for each misspelt variable, with its hosts and the right name.
  type: list
  elements: str
"""

ROLES = Path(__file__).resolve().parents[2] / "roles"
GROUPS = frozenset({"hpb", "nextcloud"})


def _load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def known_names(roles: Path = ROLES) -> set[str]:
    """Return every variable that the roles take or leave behind as a fact."""
    found: set[str] = set()
    for path in roles.glob("*/meta/argument_specs.yml"):
        found |= _variables.spec_names(_load(path))
    for path in roles.glob("*/tasks/*.yml"):
        found |= _variables.fact_names(_load(path))
    return found


def misspelt(hostvars: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a sentence for each variable of our hosts that looks like a misspelt one of the collection."""
    variables = {}
    for host in hostvars:
        present = hostvars[host]
        if "group_names" not in present or GROUPS & set(present["group_names"]):
            variables[host] = list(present)
    roles = [path.name for path in ROLES.iterdir() if (path / "meta").is_dir()]
    return _variables.misspelt(variables, known_names(), roles)


class FilterModule:
    """Ansible's table of the filters in this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"misspelt": misspelt}
