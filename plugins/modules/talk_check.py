#!/usr/bin/python
# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let Talk check its backend itself, and say what the result means."""

from __future__ import annotations

DOCUMENTATION = r"""
module: talk_check
short_description: Let Nextcloud Talk check its High Performance Backend
version_added: 0.1.0
description:
  - Runs C(occ setupchecks) once and returns what Talk's own check of its backend says, the one that the administration
    settings show, with a verdict in one sentence.
  - All setup checks of the Nextcloud are run, which takes seconds. Only Talk's is looked at.
  - Talk makes its signaling keys at their first use. When that is this check, it is made twice, since it fails then.
  - A wrong secret is never noticed by it. For that there is M(nextcloud_talk.hpb.call_probe).
  - The module does not fail, neither when the check finds an error nor when it cannot be run.
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
extends_documentation_fragment:
  - nextcloud_talk.hpb.occ
attributes:
  check_mode:
    support: full
    description: Runs the check, which changes nothing of ours.
  diff_mode:
    support: none
    description: Changes nothing.
  idempotent:
    support: full
    description: Changes nothing.
seealso:
  - module: nextcloud_talk.hpb.call_probe
  - module: nextcloud_talk.hpb.talk_info
"""

EXAMPLES = r"""
- name: Let Talk check its backend
  nextcloud_talk.hpb.talk_check:
    occ: /var/www/nc/occ
  register: check

- name: Stop when it finds an error
  ansible.builtin.assert:
    that: check.ok
    fail_msg: "{{ check.sentence }}"
"""

RETURN = r"""
available:
  description: Whether there is a result. There is none on releases without this check, and where C(occ) cannot be run.
  type: bool
  returned: always
ok:
  description: Whether nothing is wrong that keeps calls from working. Without a result it is V(true).
  type: bool
  returned: always
result:
  description:
    - Which result it is. V(not_available) stands for none at all, V(unknown) for one that this collection does not
      know, for example in another language; RV(sentence) quotes it then.
  type: str
  returned: always
  choices:
    - ok
    - not_configured
    - cluster_mode
    - several_servers
    - keys_differ
    - keys_unusable
    - cannot_connect
    - no_json
    - certificate_expired
    - clocks_differ
    - update_required
    - update_optional
    - no_cache
    - http_status
    - unknown
    - not_available
sentence:
  description: What the result means and what to do. Empty when all is well.
  type: str
  returned: always
  sample: >-
    The clocks of the Nextcloud's host and of the HPB's host differ by more than 45 seconds; let both follow a time
    server.
cause:
  description: Why it is not all well, the first part of RV(sentence). Empty without a result and when all is well.
  type: str
  returned: always
mend:
  description: What to do, the second part of RV(sentence). Empty without a result and when all is well.
  type: str
  returned: always
severity:
  description: What Talk calls it, V(success), V(info), V(warning) or V(error). Empty without a result.
  type: str
  returned: always
description:
  description: What Talk says in its own words. Empty when it says nothing.
  type: str
  returned: always
where:
  description: Which C(occ) was run, in words.
  type: str
  returned: when the options name one
  sample: occ /var/www/nc/occ on this host
"""

from typing import Any  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _setup_check  # noqa: E402
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._occ import (  # noqa: E402
    ARGUMENTS,
    OccError,
    Reach,
    reach_from,
)


def not_available(sentence: str) -> dict[str, Any]:
    """Return the module's result when there is none of Talk."""
    return {
        "available": False,
        "ok": True,
        "result": "not_available",
        "sentence": sentence,
        "cause": "",
        "mend": "",
        "severity": "",
        "description": "",
    }


def check(reach: Reach) -> dict[str, Any]:
    """Run the check and return the module's result. Raises `OccError`."""
    verdict = _setup_check.made(reach)
    if not verdict:
        return not_available(
            f"{reach.where} belongs to a Nextcloud whose Talk is disabled or has no check of its backend; see "
            "Administration settings, Talk, in the browser."
        )
    return {"available": True, **verdict.plain()}


def main() -> None:
    """Run and report; what keeps the check from being run is reported, too."""
    module = AnsibleModule(argument_spec=dict(ARGUMENTS), supports_check_mode=True)
    try:
        reach = reach_from(module.params)
    except OccError as error:
        module.exit_json(changed=False, **not_available(str(error)))
    try:
        result = check(reach)
    except OccError as error:
        result = not_available(str(error))
    module.exit_json(changed=False, where=reach.where, **result)


if __name__ == "__main__":
    main()
