#!/usr/bin/python
# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write a whole configuration directory in one go."""

from __future__ import annotations

DOCUMENTATION = r"""
module: config_files
short_description: Write a whole configuration directory
version_added: 0.1.0
description:
  - Makes a directory hold exactly the given files, with one module run for all of them.
  - A file is replaced as a whole, so that a program never reads half of one; a file whose content is right is not
    touched. A symbolic link in the place of a file is replaced and never followed.
  - Nothing that this module returns, logs or shows as a difference holds a secret that O(secrets) names, the content
    of a file with O(files[].secret), or another run of 32 or more letters and digits.
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
extends_documentation_fragment:
  - nextcloud_talk.hpb.files
attributes:
  check_mode:
    support: full
    description: Works on a host without the directory too; an owner or group that does not exist yet is passed over.
  diff_mode:
    support: full
    description: One difference for each file, with secrets masked; a secret that changes is shown as C((new secret)).
  idempotent:
    support: full
    description: A directory that is right already is not touched.
options:
  path:
    description: The directory. It and its parents are made when they are missing; parents get mode 0755.
    type: path
    required: true
  owner:
    description:
      - Name or uid of the owner of the directory and its subdirectories; without it the user that runs the module.
      - The files belong to the user that runs the module in any case, so that the program cannot write them.
    type: str
    aliases: [uid]
  group:
    description: Name or gid of the group of everything; without it the group of the user that runs the module.
    type: str
    aliases: [gid]
  mode:
    description: Mode of the directory and its subdirectories, as four octal digits in quotes.
    type: str
    default: "0750"
  purge:
    description:
      - Remove other files and links from the directory and from the subdirectories that O(files) name.
      - Other subdirectories are left alone.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Write the configuration of coturn
  nextcloud_talk.hpb.config_files:
    path: /opt/nextcloud-talk-hpb/coturn/config
    group: "65534"
    files:
      - name: turnserver.conf
        content: "{{ lookup('template', 'turnserver.conf.j2') }}"
      - name: tls/privkey.pem
        content: "{{ private_key }}"
        secret: true
    secrets: "{{ turn_secrets }}"
"""

RETURN = r"""
actions:
  description: What was (or, in check mode, would be) done, in words and without a secret.
  type: list
  elements: str
  returned: success
  sample: [create directory ., write turnserver.conf]
written:
  description: Names of the files whose content was (or would be) written.
  type: list
  elements: str
  returned: success
removed:
  description: Names of the files that were (or would be) removed.
  type: list
  elements: str
  returned: success
digest:
  description: SHA-256 over the names and contents of all files, whatever their order. The same in check mode.
  type: str
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _files  # noqa: E402


def main() -> None:
    """Read the options, bring the directory to the wish, return what was done."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "owner": {"type": "str", "aliases": ["uid"]},
            "group": {"type": "str", "aliases": ["gid"]},
            "mode": {"type": "str", "default": "0750"},
            "files": {"type": "list", "elements": "dict", "required": True, "options": _files.FILE},
            "secrets": {"type": "list", "elements": "str", "default": [], "no_log": True},
            "purge": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    invocation = _files.invocation(module)
    try:
        result = _files.bring(module.params, module.check_mode)
    except _files.FilesError as exc:
        module.fail_json(msg=str(exc), invocation=invocation)
    except OSError as exc:
        msg = (
            f"{exc.filename or module.params['path']} cannot be read or written: {exc.strerror}. Mend that, run again."
        )
        module.fail_json(msg=msg, invocation=invocation)
    module.exit_json(invocation=invocation, **result)


if __name__ == "__main__":
    main()
