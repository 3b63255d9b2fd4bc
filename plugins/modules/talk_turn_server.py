#!/usr/bin/python
# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Register TURN servers in Talk, or take them out."""

from __future__ import annotations

DOCUMENTATION = r"""
module: talk_turn_server
short_description: Register TURN servers in Nextcloud Talk
version_added: 0.1.0
description:
  - Makes Talk know our TURN servers exactly once each, with the right secret, or not at all.
  - An entry is ours when its C(host:port) is one of O(servers) or O(former). Such an entry with a former C(host:port),
    other schemes, other protocols or a former secret is a leftover and goes.
  - The first registration is made with C(talk:turn:add). A change replaces the stored value in one step where Nextcloud
    allows it (before Talk 25), without a secret in the process list, and otherwise by C(talk:turn:delete) and
    C(talk:turn:add).
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
    description: Secrets are shown as V(********), or as V((new secret\)) when they change.
  idempotent:
    support: full
    description: A second run changes nothing.
options:
  servers:
    description: All our TURN servers.
    type: list
    elements: dict
    required: true
    suboptions:
      server:
        description: Name or IPv4 address, colon, port, for example V(turn.example.org:3478).
        type: str
        required: true
      schemes:
        description: C(turn) is TURN over UDP or TCP, C(turns) is TURN over TLS.
        type: str
        choices: [turn, turns, "turn,turns"]
        default: turn
      protocols:
        description: Protocols that clients may use to reach the server.
        type: str
        choices: [udp, tcp, "udp,tcp"]
        default: udp,tcp
  secret:
    description: Secret that Talk shares with the TURN server. Required for O(state=present).
    type: str
  former:
    description:
      - Former C(host:port) of our TURN servers. Entries with one of them are leftovers and go, with O(state=present)
        not before the right ones are there.
    type: list
    elements: str
    default: []
  exclusive:
    description: Whether TURN servers of somebody else are removed.
    type: bool
    default: false
  state:
    description: Whether the TURN servers should be registered. With V(absent) only C(host:port) is compared.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: nextcloud_talk.hpb.talk_signaling_server
  - module: nextcloud_talk.hpb.talk_stun_server
"""

EXAMPLES = r"""
- name: Register TURN over UDP and TCP, and over TLS
  nextcloud_talk.hpb.talk_turn_server:
    occ: /var/www/nc/occ
    secret: "{{ hpb_secrets.instances.nc.turn }}"
    servers:
      - server: turn.example.org:3478
        schemes: turn
        protocols: udp,tcp
      - server: turn.example.org:5349
        schemes: turns
        protocols: tcp

- name: Take it out
  nextcloud_talk.hpb.talk_turn_server:
    occ: /var/www/nc/occ
    servers:
      - server: turn.example.org:3478
    state: absent
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, one sentence each, without secrets.
  type: list
  elements: str
  returned: success
  sample: ["added the TURN server turn turn.example.org:3478 udp,tcp"]
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _talk  # noqa: E402
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._occ import (  # noqa: E402
    ARGUMENTS,
    Occ,
    OccError,
    reach_from,
)

SERVER = {
    "server": {"type": "str", "required": True},
    "schemes": {"type": "str", "choices": ["turn", "turns", "turn,turns"], "default": "turn"},
    "protocols": {"type": "str", "choices": ["udp", "tcp", "udp,tcp"], "default": "udp,tcp"},
}


def main() -> None:
    """Compare, plan, and change unless in check mode."""
    module = AnsibleModule(
        argument_spec={
            **ARGUMENTS,
            "servers": {"type": "list", "elements": "dict", "required": True, "options": SERVER},
            "secret": {"type": "str", "no_log": True},
            "former": {"type": "list", "elements": "str", "default": []},
            "exclusive": {"type": "bool", "default": False},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        required_if=[("state", "present", ("secret",))],
        supports_check_mode=True,
    )
    params = module.params
    try:
        occ = Occ(reach_from(params), (params["secret"] or "",))
        planner = _talk.turn_planner(
            occ.where,
            servers=params["servers"],
            secret=params["secret"],
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
