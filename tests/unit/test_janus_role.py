# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When Janus is made anew, before the signaling server or behind it, and whether it sends that one its events."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]

OLD = {"version": "2.0.4", "features": ["mcu"], "takes_events": False, "has_janus": True}
NEW = {"version": "2.1.1", "features": ["mcu"], "takes_events": True, "has_janus": True}
ALONE = {**OLD, "has_janus": False}


def turn(change: str) -> dict[str, Any]:
    """What the turn of the signaling server in this run came to."""
    return {"container_changes": {"signalling": {"change": change, "text": change}}}


# What is wanted and known, whether Janus waits for the server, and whether it sends its events then.
CASES: dict[str, tuple[dict[str, Any], bool, bool]] = {
    "a bare host": ({"janus_events": True, "hpb_server": {}}, False, True),
    "a playbook that does not look": ({"janus_events": True}, False, True),
    "the server takes them": ({"janus_events": True, "hpb_server": NEW}, False, True),
    "and is replaced": ({"janus_events": True, "hpb_server": NEW, **turn("restarted")}, False, True),
    # An upgrade: the server first, since the old one refuses events.
    "before the server's turn": ({"janus_events": True, "hpb_server": OLD, "container_changes": {}}, True, False),
    "behind the new server": ({"janus_events": True, "hpb_server": OLD, **turn("restarted")}, False, True),
    # A server that says it is old although it is as it is to be, by its digest for one, gets none.
    "the server stays": ({"janus_events": True, "hpb_server": OLD, **turn("unchanged")}, False, False),
    "the server reads its files again": ({"janus_events": True, "hpb_server": OLD, **turn("reloaded")}, False, False),
    # Without Janus a new server does not start: so Janus comes first, without events, and gets them behind the server.
    "no Janus before the server's turn": ({"janus_events": True, "hpb_server": ALONE}, False, False),
    "no Janus, behind the new server": ({"janus_events": True, "hpb_server": ALONE, **turn("started")}, False, True),
    # The way back: Janus stops sending them before the old server comes.
    "no events, the new server is there": ({"janus_events": False, "hpb_server": NEW}, False, False),
    "no events, the old server is there": ({"janus_events": "no", "hpb_server": OLD}, False, False),
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[bool]]:
    """Return what the role makes of each case, all in one run."""
    folder = tmp_path_factory.mktemp("janus")
    hosts = {f"case{number}": variables for number, (variables, _waits, _sends) in enumerate(CASES.values())}
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    (folder / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts, "vars": local}}), encoding="utf-8")
    copy = {
        "content": "{{ [__janus_waits, __janus_events] | to_json }}",
        "dest": f"{folder}/{{{{ inventory_hostname }}}}",
    }
    play = {
        "hosts": "all",
        "gather_facts": False,
        "vars_files": [str(ROOT / "roles/janus/vars/main.yml")],
        "tasks": [{"ansible.builtin.copy": copy}],
    }
    (folder / "play.yml").write_text(yaml.safe_dump([play]), encoding="utf-8")
    program = str(Path(sys.executable).parent / "ansible-playbook")
    done = subprocess.run(
        [program, "-i", str(folder / "hosts.json"), str(folder / "play.yml")],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    return dict(zip(CASES, (json.loads((folder / host).read_text(encoding="utf-8")) for host in hosts)))


@pytest.mark.parametrize("name", CASES)
def test_events_go_to_a_server_that_takes_them(found: dict[str, list[bool]], name: str) -> None:
    _variables, waits, sends = CASES[name]
    assert found[name] == [waits, sends]


def test_janus_has_a_turn_before_the_server_and_one_behind_it() -> None:
    plays = yaml.safe_load((ROOT / "playbooks/deploy.yml").read_text(encoding="utf-8"))
    (roles,) = ([entry["role"].rpartition(".")[2] for entry in play["roles"]] for play in plays if "roles" in play)
    order = [name for name in roles if name in ("janus", "signalling")]
    assert order == ["janus", "signalling", "janus"]
