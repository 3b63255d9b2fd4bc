#!/usr/bin/python
# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Set right what a killed run left of a container, and compare its configuration with what it is to be."""

from __future__ import annotations

DOCUMENTATION = r"""
module: container_look
short_description: Compare a container's configuration with what it is to be
version_added: 0.1.0
description:
  - Looks at everything of a container that its engine does not compare by itself, in one go - what a killed run left
    beside it, the files of its configuration, and whether its program has read the newest of them.
  - What a killed run left is set right - a container that has only its other name gets its own again, and what is not
    kept any more is removed, see M(nextcloud_talk.hpb.container_fallback). One of ours that has the name of another
    prefix is renamed, which its program does not notice. Nothing else is changed - that is done by
    M(nextcloud_talk.hpb.container_config) and M(nextcloud_talk.hpb.container_reload).
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
    description: Sets nothing right, and reports a difference of the configuration as a change that is to come.
  diff_mode:
    support: full
    description: One difference for each file of the configuration, with secrets masked.
  idempotent:
    support: full
    description: What is right is not touched.
options:
  container:
    description: Name of the container.
    type: str
    required: true
  directory:
    description: Directory that holds the C(config) of the container, and the C(reloaded) of
      M(nextcloud_talk.hpb.container_reload). It is called like it, without a prefix.
    type: path
    required: true
  group:
    description: Name or gid of the group of the configuration.
    type: str
    aliases: [gid]
  digest:
    description: Digest of everything that the program reads when it gets a signal. Empty for a program that gets none.
    type: str
    default: ""
seealso:
  - module: nextcloud_talk.hpb.container_config
  - module: nextcloud_talk.hpb.container_fallback
  - module: nextcloud_talk.hpb.container_reload
"""

EXAMPLES = r"""
- name: Look whether anything of the signaling server is to be changed
  nextcloud_talk.hpb.container_look:
    container: signalling
    directory: /opt/nextcloud-talk-hpb/signalling
    group: "65534"
    files:
      - name: server.conf
        content: "{{ server_conf }}"
    secrets: "{{ backend_secrets }}"
    digest: "{{ server_conf | hash('sha256') }}"
"""

RETURN = r"""
present:
  description:
    - The container as it is - C(name), C(image), C(running), C(health), C(limits), those that Docker changes while it
      runs, and C(sound), whether it is fit to fall back to. Empty when there is none.
  type: dict
  returned: success
renamed:
  description: What the container was called until now, where it got (or would get) its name. Empty when it had it.
  type: str
  returned: success
kept:
  description: Whether a killed run has left something to fall back to.
  type: bool
  returned: success
actions:
  description: What was (or would be) done to set right what a killed run left, in words.
  type: list
  elements: str
  returned: success
differing:
  description: The configuration files that differ; when only an owner or a mode does, C((owner or mode)).
  type: list
  elements: str
  returned: success
  sample: [server.conf]
found:
  description:
    - A digest of how the container, its image and its configuration were before all else was looked at, for
      M(nextcloud_talk.hpb.container_record). Empty when it is not healthy, and in check mode.
  type: str
  returned: success
signalled:
  description: Whether the program is to read its configuration again.
  type: bool
  returned: success
"""

from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import (  # noqa: E402
    _fallback,
    _files,
    _reload,
)

ATTRIBUTES = "(owner or mode)"


def look(module: AnsibleModule) -> dict[str, Any]:
    """Set right what was left, compare the rest; returns the module's result."""
    params = module.params
    found = _fallback.Fallback(module.run_command, params["container"], params["directory"], module.check_mode)
    present, renamed = found.set_right()
    # Before the comparisons, so that what somebody changes meanwhile is not taken for what was compared.
    fingerprint = found.found()
    compared = _files.bring(found.options(params), check_mode=True)
    differing = compared["written"] + compared["removed"] or ([ATTRIBUTES] if compared["actions"] else [])
    read = _reload.kept_digest(str(Path(params["directory"]) / "reloaded"))
    signalled = bool(params["digest"]) and (bool(differing) or read != params["digest"])
    return {
        "changed": bool(found.actions) or module.check_mode and (bool(differing) or signalled),
        "present": present,
        "renamed": renamed,
        "kept": found.kept.there(),
        "actions": found.actions,
        "differing": differing,
        "found": fingerprint,
        "signalled": signalled,
        "diff": compared["diff"],
    }


def main() -> None:
    """Read the options, look, return what was seen."""
    module = AnsibleModule(
        argument_spec={
            "container": {"type": "str", "required": True},
            "directory": {"type": "path", "required": True},
            "group": {"type": "str", "aliases": ["gid"]},
            "files": {"type": "list", "elements": "dict", "required": True, "options": _files.FILE},
            "secrets": {"type": "list", "elements": "str", "default": [], "no_log": True},
            "digest": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    done, result = _fallback.outcome(module, look)
    if not done:
        module.fail_json(**result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
