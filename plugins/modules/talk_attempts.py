#!/usr/bin/python
# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask Nextcloud what its brute force protection has counted against the signaling server, or have it forget that."""

from __future__ import annotations

DOCUMENTATION = r"""
module: talk_attempts
short_description: Ask Nextcloud what it has counted against the signaling server
version_added: 0.1.0
description:
  - Runs C(occ security:bruteforce:attempts) and returns how many requests with a wrong secret count for which address.
    Each delays all that comes from there, up to 25 seconds, which is longer than the signaling server waits.
  - With O(reset) those addresses are forgotten with C(occ security:bruteforce:reset), with all that counted for them.
  - With O(secret) it is also said whether that is the one which Talk has stored, so whether more requests will count.
  - The module does not fail, since a Nextcloud that cannot be asked is found by what needs it.
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
extends_documentation_fragment:
  - nextcloud_talk.hpb.occ
attributes:
  check_mode:
    support: full
    description: Resets nothing.
  diff_mode:
    support: none
    description: The result says what was counted.
  idempotent:
    support: full
    description: What is not counted is not reset.
options:
  addresses:
    description: Addresses with which the signaling server may come.
    type: list
    elements: str
    required: true
  near:
    description:
      - Whether the addresses of the host itself are asked for as well. A proxy comes with one of them, and where
        C(trusted_proxies) does not name it, all that others do counts for it.
    type: bool
    default: false
  secret:
    description: The instance's backend secret, which is compared with the stored one.
    type: str
  reset:
    description: Whether those for which something counts are forgotten.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Have what a rotation caused forgotten
  nextcloud_talk.hpb.talk_attempts:
    occ: /var/www/nc/occ
    addresses: [192.0.2.10]
    reset: true
"""

RETURN = r"""
counted:
  description: How many wrong requests counted for which address, before a reset.
  type: dict
  returned: always
  sample: {192.0.2.10: 3}
secret_matches:
  description: Whether the stored secret is O(secret).
  type: bool
  returned: when O(secret) is given and the stored one could be read
sentence:
  description: Why that is not known. Empty when it is.
  type: str
  returned: always
"""

import hmac  # noqa: E402
from pathlib import Path  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _attempts, _evidence, _talk  # noqa: E402
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._occ import (  # noqa: E402
    ARGUMENTS,
    Occ,
    OccError,
    reach_from,
)

PROC = ("/proc/net/fib_trie", "/proc/net/if_inet6")


def own_addresses() -> list[str]:
    """Return the addresses with which a program on this host may come to another one there."""
    texts = [path.read_text(encoding="ascii") if path.exists() else "" for path in map(Path, PROC)]
    return ["127.0.0.1", "::1", *_evidence.host_addresses(*texts)]


def main() -> None:
    """Ask, reset where that is wanted, and say what was counted."""
    options = {
        **ARGUMENTS,
        "addresses": {"type": "list", "elements": "str", "required": True},
        "near": {"type": "bool", "default": False},
        "secret": {"type": "str", "no_log": True},
        "reset": {"type": "bool", "default": False},
    }
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    found: dict = {}
    known: dict = {}
    wanted, secret = module.params["addresses"], module.params["secret"]
    try:
        occ = Occ(reach_from(module.params), (secret or "",))
        if secret:
            stored = _talk.read_state(occ).secret or ""
            known = {"secret_matches": hmac.compare_digest(stored.encode(), secret.encode())}
        found = _attempts.counted(occ, wanted + (own_addresses() if module.params["near"] else []))
        if module.params["reset"] and not module.check_mode:
            _attempts.reset(occ, found)
    except OccError as error:
        module.exit_json(changed=False, counted=found, sentence=str(error), **known)
    module.exit_json(changed=bool(found) and module.params["reset"], counted=found, sentence="", **known)


if __name__ == "__main__":
    main()
