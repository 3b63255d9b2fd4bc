#!/usr/bin/python
# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say which DNS records have to change so that names lead to another host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: dns_checklist
short_description: Say which DNS records have to change
version_added: 0.1.0
description:
  - Asks the name server of the host it runs on where names lead, and for how long others may keep that.
  - Where it does not answer, the names are looked up as every program does, and how long that is kept is not known.
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
attributes:
  check_mode:
    support: full
    description: Changes nothing in any mode.
  diff_mode:
    support: none
    description: Changes nothing.
  idempotent:
    support: full
    description: Changes nothing.
options:
  names:
    description: The names.
    type: list
    elements: str
    required: true
  address:
    description: The address that they must lead to.
    type: str
    required: true
  others:
    description: Addresses that are also right, such as an IPv6 one of the same host.
    type: list
    elements: str
    default: []
  direct:
    description:
      - Those of O(names) at which more than HTTP is looked for. A proxy in the internet (a CDN) is no good for them.
    type: list
    elements: str
    default: []
  cdn:
    description: Networks of such proxies beside those that are published.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: See what has to change
  nextcloud_talk.hpb.dns_checklist:
    names: [talk.example.org, turn.example.org]
    address: 192.0.2.10
  delegate_to: localhost
  register: checklist
"""

RETURN = r"""
lines:
  description: A sentence for each name.
  type: list
  elements: str
  returned: success
  sample:
    - "talk.example.org leads to 192.0.2.9 and must lead to 192.0.2.10: change its DNS record"
records:
  description: For each name its C(addresses), and C(seconds), for how long they are kept at most, null when not known.
  type: dict
  returned: success
"""

import contextlib  # noqa: E402
import socket  # noqa: E402
from typing import Any  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _dns  # noqa: E402


def look_up(name: str, servers: list[str]) -> dict[str, Any]:
    """Return the addresses of `name` and for how many seconds they are kept."""
    found = _dns.look_up(name, servers)
    if found:
        addresses, seconds = zip(*found)
        return {"addresses": list(addresses), "seconds": max(seconds)}
    with contextlib.suppress(OSError):
        entries = socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
        return {"addresses": list(dict.fromkeys(str(entry[4][0]) for entry in entries)), "seconds": None}
    return {"addresses": [], "seconds": None}


def main() -> None:
    """Look each name up and report."""
    module = AnsibleModule(
        argument_spec={
            "names": {"type": "list", "elements": "str", "required": True},
            "address": {"type": "str", "required": True},
            "others": {"type": "list", "elements": "str", "default": []},
            "direct": {"type": "list", "elements": "str", "default": []},
            "cdn": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    servers = _dns.resolvers()
    records = {name: look_up(name, servers) for name in wanted["names"]}
    ways = {"others": wanted["others"], "direct": wanted["direct"], "further": wanted["cdn"]}
    lines = _dns.checklist(wanted["names"], records, wanted["address"], **ways)
    module.exit_json(changed=False, lines=lines, records=records)


if __name__ == "__main__":
    main()
