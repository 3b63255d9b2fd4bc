#!/usr/bin/python
# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stop or remove what is ours in a Docker engine."""

from __future__ import annotations

DOCUMENTATION = r"""
module: engine_cleanup
short_description: Stop or remove what is ours in a Docker engine
version_added: 0.1.0
description:
  - Stops or removes containers of this collection, with the images that they were made of, and its networks.
  - Only a container with our label C(nextcloud-talk.hpb) is ours, whatever its prefix is; one of the same name without
    it is left alone, and so is an image that another container uses.
  - A host without Docker has nothing of it, which is no failure.
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
attributes:
  check_mode:
    support: full
    description: Says what would be done.
  diff_mode:
    support: none
    description: The actions say what changes.
  idempotent:
    support: full
    description: What is gone or stopped already is not touched.
options:
  containers:
    description:
      - Names of the containers without their prefix, in the order in which they go. One that is kept while its
        successor is tried goes with it.
    type: list
    elements: str
    default: []
  prefix:
    description: What stands before the names of our containers in the engine.
    type: str
    default: ""
  base_dir:
    description:
      - Directory that holds the directories of all containers. One with our label that has its configuration there is
        ours under another prefix, too.
    type: path
    default: /opt/nextcloud-talk-hpb
  state:
    description:
      - V(absent) stops and removes the containers, and then the images.
      - V(stopped) stops them and has the engine not start them again, so that they can be looked at or removed later.
    type: str
    choices: [absent, stopped]
    default: absent
  remember:
    description:
      - File that keeps, with O(state=absent), the names of the images from before the containers go until they have
        gone, too. So a run that was cut off is completed by the next one. Its directory must be there; the file stays.
    type: path
  images:
    description: Further images to remove with O(state=absent), by name with tag or digest.
    type: list
    elements: str
    default: []
  image_labels:
    description: Labels of further images to remove with O(state=absent), as C(name) or C(name=value).
    type: list
    elements: str
    default: []
  networks:
    description: Whether our networks go, too, with O(state=absent).
    type: bool
    default: false
  keep_networks:
    description: With O(networks), names of those of our networks that stay.
    type: list
    elements: str
    default: []
  keep_images:
    description: Whether the images of the containers stay with O(state=absent).
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Remove NATS
  nextcloud_talk.hpb.engine_cleanup:
    containers: [nats]
    remember: /opt/nextcloud-talk-hpb/nats/images

- name: Stop the backend for good
  nextcloud_talk.hpb.engine_cleanup:
    containers: [traefik, signalling, coturn, janus, nats]
    state: stopped
"""

RETURN = r"""
actions:
  description: What was (or, in check mode, would be) done, in words.
  type: list
  elements: str
  returned: success
  sample: [stop the container nats, remove the container nats, "remove the image nats:2.15.1-alpine3.22"]
kept:
  description: A sentence for each image that stays since something else uses it.
  type: list
  elements: str
  returned: success
"""

import json  # noqa: E402
import shutil  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _cleanup, _ours  # noqa: E402

COMMANDS = {
    "keep_stopped": ["update", "--restart=no"],
    # As the container itself says: its own signal, and its own time to end.
    "stop": ["stop"],
    "remove": ["rm", "--volumes"],
    "remove_image": ["image", "rm"],
    "remove_network": ["network", "rm"],
}


class Engine:
    """The engine of this host, asked by its command line, since the Python library may not be there."""

    def __init__(self, module: AnsibleModule) -> None:
        self._module = module

    def _run(self, *arguments: str) -> tuple[int, str, str]:
        return self._module.run_command(["docker", *arguments])

    def ask(self, *arguments: str) -> str:
        """Return what the command prints; raises CleanupError when the engine does not answer."""
        code, out, err = self._run(*arguments)
        if code != 0:
            last = (err.strip().splitlines() or ["no answer"])[-1]
            raise _cleanup.CleanupError(
                f"Docker on this host was expected to answer 'docker {' '.join(arguments[:2])}' and does not ({last}): "
                f"start it (systemctl start docker), then run this again."
            )
        return out

    def containers(self) -> list[_ours.Container]:
        """Return every container, ours or not, whatever its state."""
        ids = self.ask("ps", "--all", "--quiet", "--no-trunc").split()
        # One that is gone meanwhile is left out.
        _code, out, _err = self._run("container", "inspect", *ids) if ids else (0, "[]", "")
        return [_ours.Container.of(entry) for entry in _ours.entries(out)]

    def images(self, references: list[str]) -> dict[str, str]:
        """Return {reference: id} of those images that are there."""
        found = {}
        for reference in references:
            code, out, _err = self._run("image", "inspect", "--format", "{{.Id}}", reference)
            if code == 0:
                found[reference] = out.strip()
        return found

    def labelled(self, label: str) -> list[str]:
        """Return the images with the label, each by its name, or by its id when it has none."""
        form = "{{.Repository}}:{{.Tag}} {{.ID}}"
        out = self.ask("image", "ls", "--no-trunc", "--filter", f"label={label}", "--format", form)
        pairs = [line.split() for line in out.splitlines()]
        return [image if "<none>" in name else name for name, image in pairs]

    def networks(self) -> dict[str, list[str]]:
        """Return our networks with the names of the containers that are in them."""
        names = self.ask("network", "ls", "--filter", f"label={_ours.LABEL}", "--format", "{{.Name}}").split()
        entries = json.loads(self.ask("network", "inspect", *names)) if names else []
        return {one["Name"]: [inside["Name"] for inside in one["Containers"].values()] for one in entries}

    def do(self, step: _cleanup.Step) -> None:
        """Do one step; raises CleanupError when the engine refuses."""
        code, _out, err = self._run(*COMMANDS[step.verb], step.target or step.name)
        if code != 0:
            last = (err.strip().splitlines() or ["no answer"])[-1]
            raise _cleanup.CleanupError(
                f"Docker on this host refused to {step}: {last}. Mend that, then run this again."
            )


def remembered(path: str | None) -> list[str]:
    """Return the images that an earlier run has noted."""
    try:
        return Path(path).read_text(encoding="utf-8").split() if path else []
    except FileNotFoundError:
        return []


def absent(
    engine: Engine, containers: list[_ours.Container], leaving: list[_ours.Container], module: AnsibleModule
) -> _cleanup.Plan:
    """Plan and, unless in check mode, note the images; returns the plan."""
    params = module.params
    of_containers = [] if params["keep_images"] else [one.image for one in leaving]
    noted = remembered(params["remember"])
    labelled = [image for label in params["image_labels"] for image in engine.labelled(label)]
    references = [*noted, *of_containers, *params["images"], *labelled]
    plan = _cleanup.plan_absent(containers, leaving, references, engine.images(references))
    if params["networks"]:
        going = {name: inside for name, inside in engine.networks().items() if name not in params["keep_networks"]}
        plan.steps += _cleanup.plan_networks(going, containers)
    # Without its directory there are no files of ours either, so that nothing would read the note.
    if params["remember"] and of_containers and not module.check_mode and Path(params["remember"]).parent.is_dir():
        lines = dict.fromkeys([*noted, *of_containers])
        Path(params["remember"]).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return plan


def run(module: AnsibleModule) -> dict[str, Any]:
    """Look, plan, and do it unless in check mode; returns the module's result."""
    params = module.params
    if shutil.which("docker") is None:
        return {"changed": False, "actions": [], "kept": []}
    engine = Engine(module)
    containers = engine.containers()
    leaving = _cleanup.concerned(containers, params["containers"], params["prefix"], params["base_dir"])
    if params["state"] == "stopped":
        plan = _cleanup.Plan(_cleanup.plan_stop(leaving))
    else:
        plan = absent(engine, containers, leaving, module)
    if not module.check_mode:
        for step in plan.steps:
            engine.do(step)
    return {"changed": bool(plan.steps), "actions": [str(step) for step in plan.steps], "kept": plan.kept}


def main() -> None:
    """Read the options, bring the engine to the wish, return what was done."""
    module = AnsibleModule(
        argument_spec={
            "containers": {"type": "list", "elements": "str", "default": []},
            "prefix": {"type": "str", "default": ""},
            "base_dir": {"type": "path", "default": "/opt/nextcloud-talk-hpb"},
            "state": {"type": "str", "choices": ["absent", "stopped"], "default": "absent"},
            "remember": {"type": "path"},
            "images": {"type": "list", "elements": "str", "default": []},
            "image_labels": {"type": "list", "elements": "str", "default": []},
            "networks": {"type": "bool", "default": False},
            "keep_networks": {"type": "list", "elements": "str", "default": []},
            "keep_images": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except (_cleanup.CleanupError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
