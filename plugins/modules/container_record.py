#!/usr/bin/python
# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write down what is deployed, with what each container was made, and how it is now."""

from __future__ import annotations

DOCUMENTATION = r"""
module: container_record
short_description: Write down what is deployed, and how each container is
version_added: 0.1.0
description:
  - Keeps C(containers.json) in the directory that holds the directories of all containers - the digest of the settings
    of the backend, and for each container the digest of what it was deployed with, and of how it was found then.
  - The next run has nothing to do with a container that still has both, see
    RV(nextcloud_talk.hpb.host_preflight#module:settled). Who changes a container need not tell this module.
  - Writes O(files) beside it in the same go.
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
extends_documentation_fragment:
  - nextcloud_talk.hpb.files
attributes:
  check_mode:
    support: full
    description: Writes nothing, and says which of the O(files) would be written.
  diff_mode:
    support: full
    description: One difference for each of the O(files). The digests of the record tell nobody anything.
  idempotent:
    support: full
    description: Reports a change of the O(files) only, since what is remembered of the host is no change of it.
options:
  state:
    description:
      - V(begun) writes down that a run is about to change what the host has beside the containers.
      - V(done) writes down what the run has come to. The settings only, if no other run has begun meanwhile.
    type: str
    choices: [begun, done]
    default: done
  run:
    description: Name of the run of Ansible, of which no other has the same.
    type: str
    required: true
  base_dir:
    description: Directory that holds the directories of all containers.
    type: path
    required: true
  settings:
    description: Digest of the settings of the backend.
    type: str
    default: ""
  containers:
    description:
      - Of each container that the run saw to be what is wanted, by its name, C(wanted), the digest of what that is, and
        C(found), what M(nextcloud_talk.hpb.container_look), M(nextcloud_talk.hpb.container_reload) or
        M(nextcloud_talk.hpb.container_fallback) returned of it. One that was not healthy has an empty one.
    type: dict
    default: {}
seealso:
  - module: nextcloud_talk.hpb.container_config
  - module: nextcloud_talk.hpb.host_preflight
"""

EXAMPLES = r"""
- name: Remember what is deployed and how the containers are
  nextcloud_talk.hpb.container_record:
    base_dir: /opt/nextcloud-talk-hpb
    run: 9f1c0b7d52aa4e33
    settings: 60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752
    containers:
      nats:
        wanted: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
        found: "{{ look.found }}"
    files:
      - name: deployed.json
        mode: "0600"
        content: "{{ deployed | to_nice_json(sort_keys=true) }}"
"""

RETURN = r"""
recorded:
  description: Names of the containers that are in the file now.
  type: list
  elements: str
  returned: success
"""

from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import (  # noqa: E402
    _fallback,
    _files,
    _record,
)


def write(module: AnsibleModule) -> dict[str, Any]:
    """Write all; returns the module's result."""
    params = module.params
    base = Path(params["base_dir"])
    if params["state"] == "begun":
        if not module.check_mode:
            _record.begin(base, params["run"])
        return {"changed": False, "recorded": []}
    record = _record.ended(base, params["run"], params["settings"], params["containers"])
    own = {"name": _record.NAME, "mode": "0600", "content": _record.text(record), "secret": False}
    wanted = {
        "path": str(base),
        "owner": None,
        "group": "0",
        "mode": "0755",
        "purge": False,
        "secrets": params["secrets"],
    }
    result = _files.bring({**wanted, "files": params["files"]}, module.check_mode)
    _files.bring({**wanted, "files": [own]}, module.check_mode)
    return {"changed": result["changed"], "diff": result["diff"], "recorded": sorted(record["containers"])}


def main() -> None:
    """Read the options, do it, and say what was done."""
    module = AnsibleModule(
        argument_spec={
            "base_dir": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["begun", "done"], "default": "done"},
            "run": {"type": "str", "required": True},
            "settings": {"type": "str", "default": ""},
            "containers": {"type": "dict", "default": {}},
            "files": {"type": "list", "elements": "dict", "required": True, "options": _files.FILE},
            "secrets": {"type": "list", "elements": "str", "default": [], "no_log": True},
        },
        supports_check_mode=True,
    )
    done, result = _fallback.outcome(module, write)
    if not done:
        module.fail_json(**result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
