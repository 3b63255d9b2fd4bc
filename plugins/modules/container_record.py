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
  - Writes C(containers.json) into the directory that holds the directories of all containers - a digest of the settings
    of the backend, and for each container that is healthy now the digest of what it was deployed with, and one of how
    it is, of the id that the name of its image has, and of its configuration.
  - The next run has nothing to do with a container that still has both, see
    RV(nextcloud_talk.hpb.host_preflight#module:settled). Who is about to change anything puts the name of the run in
    the place of the record first, as M(nextcloud_talk.hpb.container_config) does.
  - Writes O(files) beside it in the same go.
  - Works with the program C(docker) on the host.
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
      - V(begun) puts the name of the run in the place of the record, before anything is changed.
      - V(done) writes the record, unless another run changed containers meanwhile; then the next one looks at all.
    type: str
    choices: [begun, done]
    default: done
  run:
    description: Name of the run of Ansible, of which no other has the same.
    type: str
    required: true
  before:
    description: RV(nextcloud_talk.hpb.host_preflight#module:record) at the beginning of the run.
    type: str
    default: ""
  base_dir:
    description: Directory that holds the directories of all containers.
    type: path
    required: true
  settings:
    description: Digest of the settings of the backend.
    type: str
    default: ""
  digests:
    description: Digest of everything with which each container that the run came to is deployed, by its name.
    type: dict
    default: {}
  settled:
    description:
      - RV(nextcloud_talk.hpb.host_preflight#module:settled) at the beginning of the run. What was recorded of a
        container that the run left alone stays as it is, so that what somebody changed by hand meanwhile is noticed.
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
    before: "{{ preflight.record }}"
    settings: 60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752
    digests:
      nats: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    settled: "{{ preflight.settled }}"
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

import shutil  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import (  # noqa: E402
    _fallback,
    _files,
    _record,
)


def write(module: AnsibleModule) -> dict[str, Any]:
    """Look at the containers, and write all; returns the module's result."""
    params = module.params
    base, digests, before = Path(params["base_dir"]), params["digests"], params["settled"]
    if params["state"] == "begun":
        if not module.check_mode:
            _record.forget(base, params["run"])
        return {"changed": False, "recorded": []}
    # In a dry run a bare host has none.
    names = sorted({*digests, *before})
    entries = _record.inspect(module.run_command, names) if names and shutil.which("docker") else []
    found = _record.fingerprints(module.run_command, entries, base)
    text = _record.text(params["settings"], _record.renewed(digests, before, found))
    content = _record.end(base, params["run"], params["before"], text)
    record = {"name": _record.NAME, "mode": "0600", "content": content}
    wanted = {
        "path": str(base),
        "owner": None,
        "group": "0",
        "mode": "0755",
        "purge": False,
        "secrets": params["secrets"],
    }
    result = _files.bring({**wanted, "files": params["files"]}, module.check_mode)
    _files.bring({**wanted, "files": [{**record, "secret": False}]}, module.check_mode)
    return {"changed": result["changed"], "diff": result["diff"], "recorded": sorted(_record.parse(content)[1])}


def main() -> None:
    """Read the options, do it, and say what was done."""
    module = AnsibleModule(
        argument_spec={
            "base_dir": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["begun", "done"], "default": "done"},
            "run": {"type": "str", "required": True},
            "before": {"type": "str", "default": ""},
            "settings": {"type": "str", "default": ""},
            "digests": {"type": "dict", "default": {}},
            "settled": {"type": "dict", "default": {}},
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
