#!/usr/bin/python
# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep what is healthy of a container, then write its new configuration."""

from __future__ import annotations

DOCUMENTATION = r"""
module: container_config
short_description: Keep what is healthy of a container, then write its new configuration
version_added: 0.1.0
description:
  - The first step of every change of a container. The configuration directory C(config) is copied to C(config.previous)
    beside it, the limits of the container and what its program has read last to C(state.previous), and a container that
    is going to be made anew is stopped and renamed to NAME-previous. Then C(config) is made to hold O(files), as
    M(nextcloud_talk.hpb.config_files) does it.
  - What is kept already, by a run that was killed, is never replaced by something unproven, and what is not sound is
    not kept. M(nextcloud_talk.hpb.container_fallback) removes what is kept or puts it back.
  - A container that is not ours is never touched, whatever it is called. Where one has the name of ours, the module
    fails and says so.
  - Works with the program C(docker) on the host.
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
extends_documentation_fragment:
  - nextcloud_talk.hpb.files
attributes:
  check_mode:
    support: full
    description: Keeps and writes nothing, and says which files would be written.
  diff_mode:
    support: full
    description: One difference for each file of the configuration, with secrets masked.
  idempotent:
    support: full
    description: A configuration that is right is not written. That something is kept is no change of the host.
options:
  container:
    description: Name of the container.
    type: str
    required: true
  directory:
    description: Directory that holds the C(config) of the container. It is called like it, without a prefix.
    type: path
    required: true
  anew:
    description: Whether the container is going to be made anew.
    type: bool
    default: false
  image:
    description:
      - Where there is no container of the name in the end, one of this image is made that is never started. So nobody
        else can have the name before the new one is made. Empty for none.
    type: str
    default: ""
  group:
    description: Name or gid of the group of the configuration.
    type: str
    aliases: [gid]
seealso:
  - module: nextcloud_talk.hpb.config_files
  - module: nextcloud_talk.hpb.container_fallback
  - module: nextcloud_talk.hpb.container_look
"""

EXAMPLES = r"""
- name: Keep what runs, and write what is new
  nextcloud_talk.hpb.container_config:
    container: signalling
    directory: /opt/nextcloud-talk-hpb/signalling
    anew: true
    group: "850"
    files:
      - name: server.conf
        content: "{{ server_conf }}"
    secrets: "{{ backend_secrets }}"
"""

RETURN = r"""
kept:
  description: Whether something is kept at the end.
  type: bool
  returned: success
actions:
  description: What was (or would be) done, in words.
  type: list
  elements: str
  returned: success
written:
  description: The files that were (or would be) written.
  type: list
  elements: str
  returned: success
  sample: [server.conf]
"""

from typing import Any  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import (  # noqa: E402
    _fallback,
    _files,
)


def change(module: AnsibleModule) -> dict[str, Any]:
    """Keep, then write; returns the module's result."""
    params = module.params
    found = _fallback.Fallback(module.run_command, params["container"], params["directory"], module.check_mode)
    found.keep(anew=params["anew"], image=params["image"])
    written = _files.bring(found.options(params), module.check_mode)
    return {
        **{key: written[key] for key in ("changed", "written", "diff")},
        "kept": found.kept.there(),
        "actions": found.actions + written["actions"],
    }


def main() -> None:
    """Read the options, do it, and say what was done."""
    module = AnsibleModule(
        argument_spec={
            "container": {"type": "str", "required": True},
            "directory": {"type": "path", "required": True},
            "anew": {"type": "bool", "default": False},
            "image": {"type": "str", "default": ""},
            "group": {"type": "str", "aliases": ["gid"]},
            "files": {"type": "list", "elements": "dict", "required": True, "options": _files.FILE},
            "secrets": {"type": "list", "elements": "str", "default": [], "no_log": True},
        },
        supports_check_mode=True,
    )
    done, result = _fallback.outcome(module, change)
    if not done:
        module.fail_json(**result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
