#!/usr/bin/python
# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Register one signaling server in Talk, or take it out."""

from __future__ import annotations

DOCUMENTATION = r"""
module: talk_signaling_server
short_description: Register the signaling server in Nextcloud Talk
version_added: 0.1.0
description:
  - Makes Talk know our signaling server exactly once, with the right secret and the right certificate check, or not
    at all.
  - A duplicate, another spelling of the same URL (case of the host, slash at the end, C(wss) for C(https)) and a former
    secret are put right.
  - The first registration is made with C(talk:signaling:add). A change replaces the stored value in one step, so that
    Talk is never without a signaling server, and without a secret in the process list.
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
  url:
    description:
      - URL of the signaling server as browsers reach it, without C(/spreed).
      - It must start with C(https://) or C(wss://); for O(state=absent) it may also be an C(http://) or C(ws://) one.
    type: str
    required: true
  secret:
    description:
      - Secret that Talk shares with the signaling server. Required for O(state=present).
      - Talk has one secret for all its signaling servers. With O(state=absent) a secret that is still stored although
        no server is left is replaced by a random one.
    type: str
  verify:
    description: Whether Talk checks the certificate of the signaling server.
    type: bool
    default: true
  former:
    description:
      - Former URLs of our signaling server. Entries with one of them are leftovers and go, with O(state=present) in
        the same step in which the right one comes.
    type: list
    elements: str
    default: []
  exclusive:
    description:
      - Whether signaling servers of somebody else are removed. Without it they stay, and a warning names them, since
        Talk does not support several any more.
    type: bool
    default: false
  state:
    description:
      - Whether the signaling server should be registered.
      - V(absent) leaves a random secret behind, because without one anybody could sign requests to Talk's backend.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: nextcloud_talk.hpb.talk_turn_server
  - module: nextcloud_talk.hpb.talk_stun_server
  - module: nextcloud_talk.hpb.talk_info
"""

EXAMPLES = r"""
- name: Register the signaling server in a Nextcloud on this host
  nextcloud_talk.hpb.talk_signaling_server:
    occ: /var/www/nc/occ
    url: https://talk.example.org
    secret: "{{ hpb_secrets.instances.nc.backend }}"

- name: Make it the only one of a Nextcloud in a container
  nextcloud_talk.hpb.talk_signaling_server:
    container: dev-app-1
    url: https://talk.example.org
    secret: "{{ hpb_secrets.instances.dev_nc.backend }}"
    exclusive: true

- name: Register it in a Nextcloud in Kubernetes
  nextcloud_talk.hpb.talk_signaling_server:
    kubectl:
      pod: deploy/nextcloud
      namespace: cloud
    url: https://talk.example.org
    secret: "{{ hpb_secrets.instances.nc.backend }}"

- name: Register it in the Nextcloud of a NAS without Python
  nextcloud_talk.hpb.talk_signaling_server:
    command: [ssh, -o, BatchMode=yes, nas, docker, exec, -i, -u, www-data, nextcloud, php, occ]
    url: https://talk.example.org
    secret: "{{ hpb_secrets.instances.nas.backend }}"
  delegate_to: localhost

- name: Register it under its new name instead of the former one
  nextcloud_talk.hpb.talk_signaling_server:
    occ: /var/www/nc/occ
    url: https://talk.example.org
    former: ["https://signaling.example.org"]
    secret: "{{ hpb_secrets.instances.nc.backend }}"

- name: Take it out
  nextcloud_talk.hpb.talk_signaling_server:
    occ: /var/www/nc/occ
    url: https://talk.example.org
    state: absent
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, one sentence each, without secrets.
  type: list
  elements: str
  returned: success
  sample: ["added the signaling server https://talk.example.org, with certificate check"]
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
            "url": {"type": "str", "required": True},
            "secret": {"type": "str", "no_log": True},
            "verify": {"type": "bool", "default": True},
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
        planner = _talk.signaling_planner(
            occ.where,
            url=params["url"],
            secret=params["secret"],
            verify=params["verify"],
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
