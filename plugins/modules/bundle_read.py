#!/usr/bin/python
# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judge a bundle, or take one file out of it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bundle_read
short_description: Judge a bundle for hosts without a network, or take a file out of it
version_added: 0.1.0
description:
  - Runs on the controller. Reads the manifest of a bundle and compares every file in it with its checksum, and the
    whole with what the inventory asks for.
  - With O(member), only takes that file out, if it is what the manifest says.
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
attributes:
  check_mode:
    support: full
    description: Writes O(dest) in check mode, too, since it is a file for a moment.
  diff_mode:
    support: none
    description: A bundle is binary.
  idempotent:
    support: full
    description: Changes nothing but O(dest).
options:
  path:
    description: The bundle.
    type: path
    required: true
  release:
    description: What P(nextcloud_talk.hpb.release_pins#filter) returns for the inventory, to compare with.
    type: dict
    default: {}
  collection_dir:
    description: Directory of this collection, installed or a checkout, whose version is compared.
    type: path
  member:
    description: A file of the bundle to take out.
    type: str
  dest:
    description: Where to write it.
    type: path
seealso:
  - module: nextcloud_talk.hpb.bundle_write
"""

EXAMPLES = r"""
- name: Judge the bundle
  nextcloud_talk.hpb.bundle_read:
    path: /srv/hpb.tar
    release: "{{ hpb_release | nextcloud_talk.hpb.release_pins(hostvars[inventory_hostname]) }}"
    collection_dir: "{{ role_path }}/../.."
  delegate_to: localhost
  register: bundle
"""

RETURN = r"""
manifest:
  description: What is in the bundle. Empty when it is none.
  type: dict
  returned: success
problems:
  description: One sentence for each thing for which the bundle cannot be used; empty when it can.
  type: list
  elements: str
  returned: success
"""

import json  # noqa: E402
import re  # noqa: E402
from pathlib import Path  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _bundle  # noqa: E402


def collection_version(collection: Path) -> str:
    """Return the version of the collection in that directory; of a checkout, the one that galaxy.yml names."""
    manifest = collection / "MANIFEST.json"
    if manifest.is_file():
        return str(json.loads(manifest.read_text(encoding="utf-8"))["collection_info"]["version"])
    found = re.search(r"^version: *(\S+)", (collection / "galaxy.yml").read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else ""


def judge(path: Path, release: dict, collection: str) -> tuple[dict, list[str]]:
    """Return (manifest, problems) of the bundle."""
    try:
        manifest = _bundle.read(path)
    except _bundle.BundleError as error:
        return {}, [str(error)]
    problems = _bundle.differences(path, manifest, release, collection) if release else []
    if not problems:
        bad = _bundle.damaged(path, manifest)
        problems = [_bundle.damage(path, bad)] if bad else []
    return manifest, problems


def main() -> None:
    """Judge the bundle, or take a file out."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "release": {"type": "dict", "default": {}},
            "collection_dir": {"type": "path"},
            "member": {"type": "str"},
            "dest": {"type": "path"},
        },
        required_together=[["member", "dest"]],
        supports_check_mode=True,
    )
    wanted = module.params
    path = Path(wanted["path"])
    if wanted["member"]:
        try:
            manifest = _bundle.read(path)
            _bundle.extract(path, manifest, wanted["member"], Path(wanted["dest"]))
        except _bundle.BundleError as error:
            module.fail_json(msg=str(error))
        module.exit_json(changed=False, manifest=manifest, problems=[])
    collection = collection_version(Path(wanted["collection_dir"])) if wanted["collection_dir"] else ""
    manifest, problems = judge(path, wanted["release"], collection)
    module.exit_json(changed=False, manifest=manifest, problems=problems)


if __name__ == "__main__":
    main()
