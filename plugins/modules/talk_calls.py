#!/usr/bin/python
# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask a Nextcloud for its running calls."""

from __future__ import annotations

DOCUMENTATION = r"""
module: talk_calls
short_description: Ask Nextcloud Talk for its running calls
version_added: 0.1.0
description:
  - Runs C(occ talk:active-calls) and returns how many people are in a call.
  - Talk counts those whom it has heard of within the last minute, so that a call that broke off counts no longer.
  - The module does not fail, since a Nextcloud that cannot be asked is no reason to wait for it.
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
extends_documentation_fragment:
  - nextcloud_talk.hpb.occ
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
seealso:
  - module: nextcloud_talk.hpb.hpb_drain
"""

EXAMPLES = r"""
- name: See whether somebody is in a call
  nextcloud_talk.hpb.talk_calls:
    occ: /var/www/nc/occ
  register: calls
"""

RETURN = r"""
answered:
  description: Whether Talk said how many calls there are.
  type: bool
  returned: always
calls:
  description: How many calls are running; V(0) when it did not say.
  type: int
  returned: always
people:
  description: How many people are in them; V(0) when it did not say.
  type: int
  returned: always
sentence:
  description: Why it did not say. Empty when it did.
  type: str
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _calls  # noqa: E402
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._occ import (  # noqa: E402
    ARGUMENTS,
    Occ,
    OccError,
    reach_from,
)


def main() -> None:
    """Ask and say what was answered."""
    module = AnsibleModule(argument_spec=dict(ARGUMENTS), supports_check_mode=True)
    try:
        found = _calls.talk_calls(Occ(reach_from(module.params)).run(["talk:active-calls"]).out)
    except OccError as error:
        module.exit_json(changed=False, answered=False, calls=0, people=0, sentence=str(error))
    if found is None:
        sentence = "occ talk:active-calls was expected to say how many calls there are, and said something else."
        module.exit_json(changed=False, answered=False, calls=0, people=0, sentence=sentence)
    module.exit_json(changed=False, answered=True, sentence="", **found)


if __name__ == "__main__":
    main()
