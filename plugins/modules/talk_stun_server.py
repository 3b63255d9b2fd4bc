#!/usr/bin/python
# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Register STUN servers in Talk, or take them out."""

from __future__ import annotations

DOCUMENTATION = r"""
module: talk_stun_server
short_description: Register STUN servers in Nextcloud Talk
version_added: 0.1.0
description:
  - Makes Talk know our STUN servers exactly once each, or not at all.
  - Talk uses C(stun.nextcloud.com:443) while no STUN server is stored. Up to Talk 24 the first one of ours takes its
    place; Talk 25 keeps it beside ours, where O(exclusive=true) removes it. When the last one goes, Talk gets its
    default back.
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
extends_documentation_fragment:
  - nextcloud_talk.hpb.occ
attributes:
  check_mode:
    support: full
    description: Says what would change and changes nothing, with one start of PHP.
  diff_mode:
    support: full
    description: Shows the list before and after.
  idempotent:
    support: full
    description: A second run changes nothing.
options:
  servers:
    description: All our STUN servers as name or IPv4 address, colon, port, for example V(turn.example.org:3478).
    type: list
    elements: str
    required: true
  former:
    description:
      - Former C(host:port) of our STUN servers. Entries with one of them are leftovers and go, with O(state=present)
        not before the right ones are there.
    type: list
    elements: str
    default: []
  exclusive:
    description: Whether STUN servers of somebody else are removed, Talk's default included.
    type: bool
    default: false
  state:
    description: Whether the STUN servers should be registered.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: nextcloud_talk.hpb.talk_signaling_server
  - module: nextcloud_talk.hpb.talk_turn_server
"""

EXAMPLES = r"""
- name: Use our STUN server and no other
  nextcloud_talk.hpb.talk_stun_server:
    occ: /var/www/nc/occ
    servers: ["turn.example.org:3478"]
    exclusive: true

- name: Take it out
  nextcloud_talk.hpb.talk_stun_server:
    occ: /var/www/nc/occ
    servers: ["turn.example.org:3478"]
    state: absent
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, one sentence each.
  type: list
  elements: str
  returned: success
  sample: ["added the STUN server turn.example.org:3478"]
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _talk  # noqa: E402
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._occ import (  # noqa: E402
    ARGUMENTS,
    Occ,
    OccError,
    reach_from,
)


def main() -> None:
    """Compare, plan, and change unless in check mode."""
    module = AnsibleModule(
        argument_spec={
            **ARGUMENTS,
            "servers": {"type": "list", "elements": "str", "required": True},
            "former": {"type": "list", "elements": "str", "default": []},
            "exclusive": {"type": "bool", "default": False},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        occ = Occ(reach_from(params))
        planner = _talk.stun_planner(
            occ.where,
            servers=params["servers"],
            former=params["former"],
            exclusive=params["exclusive"],
            present=params["state"] == "present",
        )
        result = _talk.sync(occ, [planner], module.check_mode)
    except (OccError, _talk.BadInput) as error:
        module.fail_json(msg=str(error))
    for warning in result.pop("warnings"):
        module.warn(warning)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
