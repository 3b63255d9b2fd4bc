#!/usr/bin/python
# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write down with what each container was deployed, and how it is now."""

from __future__ import annotations

DOCUMENTATION = r"""
module: container_record
short_description: Write down with what each container was deployed
version_added: 0.1.0
description:
  - Writes C(containers.json) into the directory that holds the directories of all containers - a digest of the settings
    of the backend, and for each container that is healthy now the digest of what it was deployed with, and one of how
    it is, of the id that the name of its image has, and of its configuration.
  - The next run has nothing to do with a container that still has both, see
    RV(nextcloud_talk.hpb.host_preflight#module:settled). Who is about to change anything removes the file first, as
    M(nextcloud_talk.hpb.container_fallback) does.
  - Works with the program C(docker) on the host.
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
attributes:
  check_mode:
    support: full
    description: Writes nothing.
  diff_mode:
    support: none
    description: Digests tell nobody anything.
  idempotent:
    support: full
    description: Never reports a change, since what is remembered of the host is none of the host.
options:
  base_dir:
    description: Directory that holds the directories of all containers.
    type: path
    required: true
  settings:
    description: Digest of the settings of the backend.
    type: str
    required: true
  digests:
    description: Digest of everything with which each container was deployed, by its name.
    type: dict
    required: true
seealso:
  - module: nextcloud_talk.hpb.container_fallback
  - module: nextcloud_talk.hpb.host_preflight
"""

EXAMPLES = r"""
- name: Remember how the containers are
  nextcloud_talk.hpb.container_record:
    base_dir: /opt/nextcloud-talk-hpb
    settings: 60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752
    digests:
      nats: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
"""

RETURN = r"""
recorded:
  description: Names of the containers that are in the file now.
  type: list
  elements: str
  returned: success
"""

from pathlib import Path  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _files, _record  # noqa: E402


def main() -> None:
    """Look at the containers, and write the file."""
    module = AnsibleModule(
        argument_spec={
            "base_dir": {"type": "path", "required": True},
            "settings": {"type": "str", "required": True},
            "digests": {"type": "dict", "required": True},
        },
        supports_check_mode=True,
    )
    base, digests = Path(module.params["base_dir"]), module.params["digests"]
    try:
        found = _record.fingerprints(module.run_command, _record.inspect(module.run_command, digests), base)
        content = _record.text(module.params["settings"], digests, found)
        file = {"name": _record.NAME, "mode": "0600", "content": content}
        wanted = {"path": str(base), "owner": None, "group": "0", "mode": "0755", "secrets": [], "purge": False}
        _files.bring({**wanted, "files": [{**file, "secret": False}]}, module.check_mode)
    except _files.FilesError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        where = error.filename or str(base)
        module.fail_json(msg=f"{where} cannot be read or written: {error.strerror}. Mend that, run again.")
    module.exit_json(changed=False, recorded=sorted(found))


if __name__ == "__main__":
    main()
