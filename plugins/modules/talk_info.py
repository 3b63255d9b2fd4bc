#!/usr/bin/python
# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say what a Nextcloud and its Talk are like, without changing anything."""

from __future__ import annotations

DOCUMENTATION = r"""
module: talk_info
short_description: Read what Nextcloud Talk knows about its High Performance Backend
version_added: 0.1.0
description:
  - Reads the state of a Nextcloud and of its Talk, and says in RV(problems) what would keep the High Performance
    Backend from being registered or used.
  - No secret is returned. One start of PHP.
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
options:
  url:
    description: URL of the signaling server that is looked for, in any spelling.
    type: str
  secret:
    description: Secret that is compared with the stored one.
    type: str
  nextcloud_urls:
    description:
      - URLs under which the signaling server knows this Nextcloud. C(overwrite.cli.url) must be one of them, because
        Talk sends it from C(occ) and cron, and the names in them must be trusted domains.
    type: list
    elements: str
    default: []
  accept_found:
    description: Whether C(overwrite.cli.url) may also be one of RV(urls_found).
    type: bool
    default: false
  mend:
    description:
      - Whether the registration mends what it can, see O(nextcloud_talk.hpb.talk_registration#module:mend). Then that
        is no problem.
    type: bool
    default: false
  state:
    description:
      - Whether the backend shall be registered. With V(absent) only what keeps C(occ) from removing it is a problem.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: nextcloud_talk.hpb.talk_registration
  - module: nextcloud_talk.hpb.talk_signaling_server
"""

EXAMPLES = r"""
- name: See whether this Nextcloud can be registered
  nextcloud_talk.hpb.talk_info:
    occ: /var/www/nc/occ
    url: https://talk.example.org
    nextcloud_urls: ["https://nc.example.org"]
  register: talk

- name: Stop when it cannot
  ansible.builtin.assert:
    that: talk.problems | length == 0
    fail_msg: "{{ talk.problems | join(' ') }}"
"""

RETURN = r"""
nextcloud:
  description: What Nextcloud says about itself.
  type: dict
  returned: success
  contains:
    version:
      description: Version with its four numbers.
      type: str
      sample: 31.0.6.2
    maintenance:
      description: Whether maintenance mode is on.
      type: bool
    needs_upgrade:
      description: Whether Nextcloud or an app waits for its upgrade.
      type: bool
    overwrite_cli_url:
      description: Its own URL for C(occ) and cron, empty when it is not set.
      type: str
    overwritehost:
      description: Name by which it calls itself whatever the request says, empty when it is not set.
      type: str
    overwriteprotocol:
      description: Protocol by which it calls itself whatever the request says, empty when it is not set.
      type: str
    overwritewebroot:
      description: Path by which it calls itself whatever the request says, empty when it is not set.
      type: str
    trusted_domains:
      description: Names under which it answers.
      type: list
      elements: str
    trusted_proxies:
      description: Proxies whom it believes from where a request comes.
      type: list
      elements: str
    all_in_one:
      description: Whether it is a Nextcloud All-in-One.
      type: bool
talk:
  description: What Talk has stored, without secrets.
  type: dict
  returned: success
  contains:
    installed:
      description: Whether Talk is installed.
      type: bool
    enabled:
      description: Whether Talk is enabled.
      type: bool
    version:
      description: Version of Talk, empty when it is not installed.
      type: str
    signaling_mode:
      description: The setting of this name, normally empty.
      type: str
    federation:
      description: Whether its users may talk with those of other Nextclouds.
      type: bool
    signaling_servers:
      description: Entries with C(server) and C(verify).
      type: list
      elements: dict
    turn_servers:
      description: Entries with C(schemes), C(server) and C(protocols).
      type: list
      elements: dict
    stun_servers:
      description: Entries as C(host:port).
      type: list
      elements: str
urls_found:
  description:
    - URLs with https by which this Nextcloud can be meant, in lower case, without the default port and without a slash
      at the end. These are C(overwrite.cli.url) unless its name is not trusted, and C(overwritehost) and each trusted
      domain with the path of C(overwritewebroot) or else of C(overwrite.cli.url).
    - Trusted domains with a wildcard, without a dot or with an address are left out.
  type: list
  elements: str
  returned: success
  sample: ["https://nc.example.org"]
registered:
  description: Whether O(url) is among the signaling servers, in any spelling.
  type: bool
  returned: when O(url) is given
secret_matches:
  description: Whether the stored secret is O(secret).
  type: bool
  returned: when O(secret) is given
trusted:
  description: Whether Nextcloud answers under the names in all of O(nextcloud_urls).
  type: bool
  returned: when O(nextcloud_urls) is given
cli_url_matches:
  description: Whether C(overwrite.cli.url) is one of O(nextcloud_urls).
  type: bool
  returned: when O(nextcloud_urls) is given
occ:
  description: How a person starts C(occ) on this host.
  type: str
  returned: success
  sample: sudo -u www-data php /var/www/nc/occ
problems:
  description: Each thing that would keep the backend from being registered or used, with what to do about it.
  type: list
  elements: str
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _talk_report  # noqa: E402
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._occ import (  # noqa: E402
    ARGUMENTS,
    Occ,
    OccError,
    reach_from,
)


def main() -> None:
    """Read and report."""
    module = AnsibleModule(
        argument_spec={
            **ARGUMENTS,
            "url": {"type": "str"},
            "secret": {"type": "str", "no_log": True},
            "nextcloud_urls": {"type": "list", "elements": "str", "default": []},
            "accept_found": {"type": "bool", "default": False},
            "mend": {"type": "bool", "default": False},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    params = module.params
    urls = params["nextcloud_urls"]
    try:
        reach = reach_from(params)
        occ = Occ(reach, (params["secret"] or "",))
        server, state = _talk_report.read_all(occ, bare=True)
    except OccError as error:
        module.fail_json(msg=str(error))
    result = _talk_report.report(server, state, params["url"], params["secret"], urls)
    problems = _talk_report.problems(
        server,
        state,
        urls,
        occ.where,
        present=params["state"] == "present",
        mend=params["mend"],
        further=result["urls_found"] if params["accept_found"] else (),
    )
    module.exit_json(changed=False, problems=problems, occ=reach.spelled(), **result)


if __name__ == "__main__":
    main()
