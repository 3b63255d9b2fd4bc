#!/usr/bin/python
# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say which units of systemd are ours, before anything writes or removes them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: unit_look
short_description: Say which units of systemd are ours
version_added: 0.2.0
description:
  - Looks which units of these names there are, and whether this collection has written them for the backend below
    O(base_dir). What another one has is not to be touched, whatever it is called.
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
attributes:
  check_mode:
    support: full
    description: Reads only.
  diff_mode:
    support: none
    description: Changes nothing.
  idempotent:
    support: full
    description: Reads only.
options:
  units:
    description: Names of the units.
    type: list
    elements: str
    required: true
  base_dir:
    description: Directory of the backend. What a unit of ours starts is below it.
    type: path
    required: true
  directory:
    description: Directory of the units.
    type: path
    default: /etc/systemd/system
seealso:
  - module: nextcloud_talk.hpb.host_preflight
"""

EXAMPLES = r"""
- name: Look whose the units are
  nextcloud_talk.hpb.unit_look:
    units: [nextcloud-talk-hpb-watch.service, nextcloud-talk-hpb-watch.timer]
    base_dir: /opt/nextcloud-talk-hpb
"""

RETURN = r"""
ours:
  description: Those of the units that are there and ours.
  type: list
  elements: str
  returned: success
problems:
  description: One sentence for each that is there and somebody else's.
  type: list
  elements: str
  returned: success
"""

from pathlib import Path  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _ours  # noqa: E402


def main() -> None:
    """Read the units, return whose they are."""
    module = AnsibleModule(
        argument_spec={
            "units": {"type": "list", "elements": "str", "required": True},
            "base_dir": {"type": "path", "required": True},
            "directory": {"type": "path", "default": "/etc/systemd/system"},
        },
        supports_check_mode=True,
    )
    base, directory = module.params["base_dir"].rstrip("/"), Path(module.params["directory"])
    # A unit's service says whose it is, so all of them are read.
    there = _ours.unit_files(directory, {*module.params["units"], *_ours.UNITS})
    wanted = [str(directory / name) for name in module.params["units"] if str(directory / name) in there]
    module.exit_json(
        changed=False,
        ours=[Path(path).name for path in wanted if not _ours.unit_problem(path, there, base)],
        problems=_ours.unit_problems(there, base, module.params["units"]),
    )


if __name__ == "__main__":
    main()
