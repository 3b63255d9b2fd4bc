#!/usr/bin/python
# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask the signaling server which calls are running."""

from __future__ import annotations

DOCUMENTATION = r"""
module: hpb_drain
short_description: Wait until no call is running
version_added: 0.1.0
description:
  - Asks the signaling server on its own host which calls are running, until none is, or O(timeout) is over. It says who
    is waited for when it begins, and every O(report) seconds.
  - A call is a stream that is published or, with a signaling server from 2.1.0 on, somebody who is in a call. An open
    browser tab is none.
  - A server that does not answer holds no call, so that it is not waited for.
  - Nothing is kept from beginning meanwhile. The server's own way to end gracefully (C(SIGUSR1)) would turn away
    everybody who joins, for as long as the last one stays.
  - The waiting is done on the controller, with a short look at the host each time.
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
attributes:
  check_mode:
    support: full
    description: Looks once and does not wait.
  diff_mode:
    support: none
    description: Changes nothing.
  idempotent:
    support: full
    description: Changes nothing.
options:
  address:
    description: Address of the signaling server on its host.
    type: str
    default: 127.0.0.1
  port:
    description: Port of the signaling server on its address.
    type: int
    default: 8080
  timeout:
    description: Seconds to wait at most. With V(0) it looks once.
    type: int
    default: 0
  interval:
    description: Seconds between two looks.
    type: int
    default: 5
  report:
    description: Seconds after which it says again who is waited for.
    type: int
    default: 30
  hint:
    description: What is said besides, for example how not to wait.
    type: str
    default: ""
seealso:
  - module: nextcloud_talk.hpb.hpb_usage
"""

EXAMPLES = r"""
- name: Wait for running calls, ten minutes at most
  nextcloud_talk.hpb.hpb_drain:
    timeout: 600
"""

RETURN = r"""
running:
  description: Whether a call is running at the end.
  type: bool
  returned: success
streams:
  description: How many streams are published at the end.
  type: int
  returned: success
instances:
  description: For each instance of which somebody is in a call the number of C(calls) and C(people) in them.
  type: dict
  returned: success
  sample: {nc: {calls: 1, people: 3}}
text:
  description: The same in words.
  type: str
  returned: success
answered:
  description: Whether the signaling server answered.
  type: bool
  returned: success
waited:
  description: Seconds that were waited.
  type: int
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _calls, _evidence  # noqa: E402


def main() -> None:
    """Look once and say what is running; the action plugin of the same name repeats that."""
    module = AnsibleModule(
        argument_spec={
            "address": {"type": "str", "default": _evidence.LOOPBACK},
            "port": {"type": "int", "default": 8080},
            "timeout": {"type": "int", "default": 0},
            "interval": {"type": "int", "default": 5},
            "report": {"type": "int", "default": 30},
            "hint": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    answer = _evidence.local(module.params["port"], "/metrics", 5, module.params["address"])
    answered = answer["status"] == 200
    found = _calls.calls(answer["body"] if answered else "")
    text = _calls.sentence(found) if answered else "the signaling server does not answer, so that it holds no call"
    module.exit_json(changed=False, answered=answered, text=text, waited=0, **found)


if __name__ == "__main__":
    main()
