# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which containers a run leaves alone: none of which anything is another thing than when it was deployed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUNDLED = {"images": [{"name": "janus:1", "ids": ["sha256:first"]}]}
FACTS = {
    "ansible_connection": "local",
    "ansible_python_interpreter": sys.executable,
    "hpb_base_dir": "/nowhere",
    "hpb_container_prefix": "",
    "hpb_engine_ready": False,
    "hpb_engine_version": "26.1.5",
    "hpb_secure_logging": False,
    "hpb_rollback_on_failed_verify": False,
    "hpb_verify": False,
    "hpb_registry": "",
    "hpb_addresses": {"places": {}, "networks": []},
}
DEPLOYED = {
    "container_name": "janus",
    "container_image": "janus:1",
    "container_command": ["janus"],
    "container_config": [{"name": "janus.jcfg", "content": "a"}],
    "container_health": ["CMD", "true"],
    "hpb_bundled": BUNDLED,
    # By the next run.
    "hpb_settled": "{{ {'janus': deployed} if deployed is defined else {} }}",
}
# What else a run is given, and whether it leaves the container alone.
RUNS = {
    "the same": ({}, True),
    "another image": ({"container_image": "janus:2", "hpb_bundled": {"images": []}}, False),
    "another bundle with an image of the same name": (
        {"hpb_bundled": {"images": [{"name": "janus:1", "ids": ["sha256:second"]}]}},
        False,
    ),
    "an image that was built again": ({"container_image_renewed": True}, False),
    "networks that were made anew": ({"host_networks_changed": True}, False),
    "another configuration": ({"container_config": [{"name": "janus.jcfg", "content": "b"}]}, False),
    "another limit": ({"container_memory": "1M"}, False),
    "another environment": ({"container_environment": {"A": "1"}}, False),
    "another health check": ({"container_health": ["CMD", "false"]}, False),
    "another prefix": ({"hpb_container_prefix": "hpb-"}, False),
    "another engine": ({"hpb_engine_version": "27"}, False),
    "not as it was deployed": ({"hpb_settled": {}}, False),
    "deployed as something else": ({"hpb_settled": {"janus": "0-0"}}, False),
}


@pytest.fixture(scope="module")
def left(tmp_path_factory) -> dict[str, bool]:
    """Whether the container is left alone, by the name of the run: all of them in one playbook."""
    folder = tmp_path_factory.mktemp("play")
    tasks: list[dict] = [
        {"ansible.builtin.include_role": {"name": "nextcloud_talk.hpb.container"}, "vars": DEPLOYED},
        {"ansible.builtin.set_fact": {"deployed": "{{ container_seen.janus.wanted }}"}},
    ]
    for name, (given, _left) in RUNS.items():
        found = f"{{{{ came_to | default({{}}) | combine({{{name!r}: container_changes.janus.change}}) }}}}"
        tasks += [
            {"ansible.builtin.include_role": {"name": "nextcloud_talk.hpb.container"}, "vars": {**DEPLOYED, **given}},
            {"ansible.builtin.set_fact": {"came_to": found}},
        ]
    tasks.append(
        {
            "ansible.builtin.copy": {
                "content": "{{ came_to | to_json }}",
                "dest": str(folder / "came_to"),
                "mode": "0600",
            }
        }
    )
    play = [{"hosts": "localhost", "gather_facts": False, "vars": FACTS, "tasks": tasks}]
    (folder / "playbook.yml").write_text(json.dumps(play), encoding="utf-8")
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", str(folder / "playbook.yml")],
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return {name: change == "unchanged" for name, change in json.loads((folder / "came_to").read_text()).items()}


@pytest.mark.parametrize("name", RUNS)
def test_only_one_that_is_to_be_as_it_is_is_left_alone(left, name):
    assert left[name] is RUNS[name][1]
