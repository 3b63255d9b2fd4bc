# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role talk on every way to occ: its variables reach the modules, in one run over one instance for each way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml
from occ_ways import IS_ROOT, Way

ROOT = Path(__file__).resolve().parents[2]
VARIABLES = {
    "occ": "talk_occ",
    "php": "talk_php",
    "container": "talk_container",
    "container_engine": "talk_container_engine",
    "snap": "talk_snap",
    "kubectl": "talk_kubectl",
    "command": "talk_occ_command",
}
NAMES = ["host", "podman", "kubectl", "ssh", *(["snap"] if IS_ROOT else [])]
SECRET = "0123456789abcdef" * 4
URL = "https://talk.example.org"


@pytest.fixture
def folder():
    """A directory that other users may enter."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_the_role_registers_on_every_way(folder):
    ways = {}
    for name in NAMES:
        (folder / name).mkdir()
        # PATH and the like are for one way only; the play sets them again for each host.
        with pytest.MonkeyPatch.context() as patch:
            ways[name] = Way(folder / name, name, patch)
    hosts = {
        f"{name}.example.org": {
            "test_path": f"{way.bin}:{os.environ['PATH']}",
            # Python gives an unset option as None; an inventory does not have it.
            **{variable: way.options[option] for option, variable in VARIABLES.items() if way.options[option]},
        }
        for name, way in ways.items()
    }
    instances = [
        {"id": name, "host": f"{name}.example.org", "register": True, "state": "present", "optional": False}
        | {"urls": ["https://nc.example.org"], "hosts": [f"{name}.example.org"]}
        for name in NAMES
    ]
    secrets = {name: {"backend": SECRET, "turn": SECRET[::-1]} for name in NAMES}
    backend = {
        "hpb_inventory": instances,
        "hpb_secrets": {"instances": secrets},
        "hpb_signaling_url": URL,
        "hpb_turn_server": "turn.example.org:3478",
    }
    inventory = {
        "all": {"vars": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}},
        "hpb": {"hosts": {"hpb.example.org": backend}},
        "nextcloud": {"hosts": hosts},
    }
    play = {
        "hosts": "nextcloud",
        "gather_facts": False,
        "environment": {"PATH": "{{ test_path }}"},
        "roles": ["nextcloud_talk.hpb.talk"],
    }
    (folder / "hosts.yml").write_text(yaml.safe_dump(inventory))
    (folder / "play.yml").write_text(yaml.safe_dump([play]))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".tree"),
        "ANSIBLE_NOCOLOR": "true",
    }
    command = [Path(sys.executable).parent / "ansible-playbook", "-i", "hosts.yml", "play.yml"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert SECRET not in done.stdout + done.stderr
    for name, way in ways.items():
        stored = json.loads(way.nextcloud.stored("signaling_servers")[0])
        assert stored == {"servers": [{"server": URL, "verify": True}], "secret": SECRET}, name
        assert (name == "host") == (way.log.read_text() == ""), name


def test_the_way_is_written_once():
    """Every task that runs occ names the variable, and the variable names every option of the modules."""
    reach = yaml.safe_load((ROOT / "roles/talk/vars/main.yml").read_text())["__talk_reach"]
    assert set(reach) == {*VARIABLES, "user"}
    for file in ("ask", "check", "register"):
        text = (ROOT / f"roles/talk/tasks/{file}.yml").read_text()
        assert text.count('group/nextcloud_talk.hpb.occ: "{{ __talk_reach }}"') == text.count("module_defaults:") == 1
