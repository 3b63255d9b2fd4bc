#!/usr/bin/python
# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write everything that a deployment without a network needs into one archive."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bundle_write
short_description: Write a bundle for hosts without a network
version_added: 0.1.0
description:
  - Runs on the controller. Packs saved images, further files and this collection into one archive, with a manifest that
    has the checksum of each. Of a checkout only what is the collection goes in, no inventory that lies beside it.
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
attributes:
  check_mode:
    support: none
    description: There is nothing to predict.
  diff_mode:
    support: none
    description: A bundle is binary.
  idempotent:
    support: none
    description: Writes a bundle each time.
options:
  path:
    description: The bundle. One that is there is replaced.
    type: path
    required: true
  release:
    description: What P(nextcloud_talk.hpb.release_pins#filter) returns for the inventory.
    type: dict
    required: true
  architecture:
    description: Architecture of the images as Docker names it, such as V(amd64).
    type: str
    required: true
  images:
    description: The images, each as C(docker save) wrote it.
    type: list
    elements: dict
    required: true
    suboptions:
      part:
        description: Name of the container that is made of it.
        type: str
        required: true
      name:
        description: Its repository and tag, without a registry.
        type: str
        required: true
      id:
        description: Its id in the engine that saved it.
        type: str
        required: true
      path:
        description: The saved file.
        type: path
        required: true
      notes:
        description: What the role that deploys it wants to know.
        type: dict
        default: {}
  sources:
    description: Archives of sources, which are put into the bundle by the name of their file.
    type: list
    elements: path
    default: []
  collection_dir:
    description: Directory of this collection, installed or a checkout.
    type: path
    required: true
seealso:
  - module: nextcloud_talk.hpb.bundle_read
"""

EXAMPLES = r"""
- name: Write the bundle
  nextcloud_talk.hpb.bundle_write:
    path: /srv/hpb.tar
    release: "{{ hpb_release | nextcloud_talk.hpb.release_pins(hostvars[inventory_hostname]) }}"
    architecture: amd64
    images:
      - {part: nats, name: "nats:2.14.5-alpine3.22", id: "sha256:...", path: /srv/parts/nats.tar}
    collection_dir: "{{ role_path }}/../.."
  delegate_to: localhost
"""

RETURN = r"""
manifest:
  description: What is in the bundle.
  type: dict
  returned: success
sha256:
  description: Checksum of the bundle itself.
  type: str
  returned: success
size:
  description: Size of the bundle in bytes.
  type: int
  returned: success
"""

import json  # noqa: E402
import shutil  # noqa: E402
import sys  # noqa: E402
import tarfile  # noqa: E402
import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _bundle  # noqa: E402

# What of a checkout is the collection. Beside it may lie whatever its user put there: inventories, passwords, pages for
# others; a bundle is carried around.
COLLECTION = (
    *("galaxy.yml", "meta", "plugins", "roles", "playbooks", "docs", "changelogs"),
    *("README.md", "CHANGELOG.rst", "LICENSE", "requirements.txt"),
)


def copy_checkout(checkout: Path, target: Path) -> None:
    """Copy what of a checkout is the collection into a new directory."""
    target.mkdir()
    for source in (checkout / name for name in COLLECTION):
        if source.is_dir():
            shutil.copytree(source, target / source.name, symlinks=True)
        elif source.is_file():
            shutil.copyfile(source, target / source.name)


def collection_archive(module: AnsibleModule, collection: Path, folder: Path) -> tuple[Path, str]:
    """Return (an archive in `folder` that ansible-galaxy installs, version) of the collection in that directory."""
    manifest = collection / "MANIFEST.json"
    if not manifest.is_file():
        copy_checkout(collection, folder / "checkout")
        command = [sys.executable, "-m", "ansible", "galaxy", "collection", "build", "--force"]
        code, _out, err = module.run_command([*command, "--output-path", str(folder), str(folder / "checkout")])
        if code:
            raise _bundle.BundleError(
                f"ansible-galaxy cannot build the collection in {collection}: {err.strip()}. Expected a checkout with "
                f"galaxy.yml or an installed collection: mend what it names."
            )
        (built,) = folder.glob("*.tar.gz")
        with tarfile.open(built) as archive:
            info = json.load(archive.extractfile("MANIFEST.json"))["collection_info"]
        return built, info["version"]
    info = json.loads(manifest.read_text(encoding="utf-8"))["collection_info"]
    listed = json.loads((collection / "FILES.json").read_text(encoding="utf-8"))["files"]
    built = folder / f"{info['namespace']}-{info['name']}-{info['version']}.tar.gz"
    with tarfile.open(built, "w:gz") as archive:
        for name in ["MANIFEST.json", "FILES.json", *(one["name"] for one in listed if one["name"] != ".")]:
            archive.add(collection / name, arcname=name, recursive=False)
    return built, info["version"]


def main() -> None:
    """Pack what is named."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "release": {"type": "dict", "required": True},
            "architecture": {"type": "str", "required": True},
            "images": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "part": {"type": "str", "required": True},
                    "name": {"type": "str", "required": True},
                    "id": {"type": "str", "required": True},
                    "path": {"type": "path", "required": True},
                    "notes": {"type": "dict", "default": {}},
                },
            },
            "sources": {"type": "list", "elements": "path", "default": []},
            "collection_dir": {"type": "path", "required": True},
        },
    )
    wanted = module.params
    path = Path(wanted["path"])
    try:
        with tempfile.TemporaryDirectory(dir=module.tmpdir) as folder:
            archive, version = collection_archive(module, Path(wanted["collection_dir"]).resolve(), Path(folder))
            files = {f"sources/{Path(one).name}": Path(one) for one in wanted["sources"]}
            files[f"collection/{archive.name}"] = archive
            facts = {**{key: wanted[key] for key in ("release", "architecture")}, "collection": version}
            manifest = _bundle.write(path, facts, wanted["images"], files)
    except _bundle.BundleError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=True, manifest=manifest, sha256=module.sha256(str(path)), size=path.stat().st_size)


if __name__ == "__main__":
    main()
