# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook rotate, whole and cut off, with everything real but the container engine.

Host of the backend and of the Nextcloud is this machine, below the test's own directory. The role container is
replaced by one that keeps what it is asked for, and handover by one that keeps what it is given.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from module_process import run as run_module
from standin_instance import Nextcloud

ROOT = Path(__file__).resolve().parents[2]
PLAYS = yaml.safe_load((ROOT / "playbooks/rotate.yml").read_text(encoding="utf-8"))
LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="coturn's database is given to coturn's user")

CONTAINER = """
- name: Keep what was asked for
  nextcloud_talk.hpb.config_files:
    path: "{{ hpb_base_dir }}/{{ container_name }}/config"
    group: 0
    mode: "0700"
    files:
      - {name: server.conf, mode: "0600", content: "{{ container_config[0].content }}"}
      - {name: restart, mode: "0600", content: "{{ container_restart_on | to_json(sort_keys=true) | hash('sha256') }}"}
"""
DOCKER = """#!/bin/sh
case $1 in
    version) echo 28.0.0 ;;
    kill) echo "Trusted proxies: 127.0.0.1" >> {log} ;;
    logs) cat {log} 2>/dev/null ;;
    ps) case "$*" in *label=nextcloud-talk.hpb*) echo c0ffee ;; esac ;;
    container) case "$*" in *c0ffee*) cat {container} ;; esac ;;
esac
"""
HANDOVER = """
- name: Keep what was given
  ansible.builtin.copy:
    content: "{{ {'instances': handover_instances, 'secrets': handover_secrets} | to_json }}"
    dest: "{{ hpb_base_dir }}/handover"
    mode: "0600"
  no_log: true
"""
# What a plain run of site does to the ends that a rotation changes.
DEPLOY = """
- hosts: hpb
  gather_facts: false
  tasks:
    - ansible.builtin.import_role: {name: nextcloud_talk.hpb.hpb, tasks_from: inventory}
    - ansible.builtin.import_role: {name: nextcloud_talk.hpb.hpb, tasks_from: read}
    - ansible.builtin.import_role: {name: nextcloud_talk.hpb.coturn, tasks_from: secrets}
    - ansible.builtin.import_role: {name: nextcloud_talk.hpb.signalling}
"""
REGISTER = """
- hosts: nextcloud
  gather_facts: false
  tasks:
    - ansible.builtin.import_role: {name: nextcloud_talk.hpb.talk}
- hosts: hpb
  gather_facts: false
  tasks:
    - ansible.builtin.import_role: {name: nextcloud_talk.hpb.hpb, tasks_from: inventory}
    - ansible.builtin.import_role: {name: nextcloud_talk.hpb.verify}
"""
SETTLE = DEPLOY + REGISTER


class Bed:
    """A deployed backend with the instances nc (here), client (never contacted) and nas (switched off)."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.base = folder, folder / "base"
        self.nextcloud = Nextcloud(folder / "nc")
        self._make_collection()
        self.inventory = folder / "hosts.yml"
        self.inventory.write_text(json.dumps(self._inventory()), encoding="utf-8")
        entries = [
            {"id": name, "url": f"https://{name}.example.org", "urls": [f"https://{name}.example.org"]}
            for name in ("client", "nas", "nc")
        ]
        limits = {"session_limit": 0, "stream_bitrate": None, "screen_bitrate": None}
        result = run_module("secrets", {"path": str(self.base / "secrets/secrets.json"), "instances": entries})
        assert result["changed"], result
        registered = {"urls": ["https://talk.example.org"], "turn_servers": ["talk.example.org:3478"]}
        document = {"registered": registered, "instances": [{**entry, **limits} for entry in entries]}
        (self.base / "deployed.json").write_text(json.dumps(document), encoding="utf-8")

    def _make_collection(self) -> None:
        place = self.folder / "tree/ansible_collections/nextcloud_talk/hpb"
        (place / "roles").mkdir(parents=True)
        for name in ("plugins", "meta", "galaxy.yml"):
            (place / name).symlink_to(ROOT / name)
        for role in (ROOT / "roles").iterdir():
            if role.name not in ("container", "handover"):
                (place / "roles" / role.name).symlink_to(role)
        for role, tasks in (("container", CONTAINER), ("handover", HANDOVER)):
            (place / "roles" / role / "tasks").mkdir(parents=True)
            (place / "roles" / role / "tasks/main.yml").write_text(tasks, encoding="utf-8")
        # An engine that answers and has no containers; what would be one takes its signals.
        (self.folder / "bin").mkdir()
        container = self.folder / "container"
        (self.folder / "bin/docker").write_text(
            DOCKER.format(log=self.folder / "log", container=container), encoding="utf-8"
        )
        labels = {"nextcloud-talk.hpb": "signalling"}
        binds = [f"{self.base}/signalling/config:/config:ro"]
        entry = {"Id": "c0ffee", "Name": "/signalling", "Config": {"Labels": labels}, "HostConfig": {"Binds": binds}}
        container.write_text(json.dumps([entry]), encoding="utf-8")
        (self.folder / "bin/docker").chmod(0o755)

    def _inventory(self) -> dict:
        nc = {
            **LOCAL,
            "talk_occ": str(self.nextcloud.root / "occ"),
            "talk_php": str(ROOT / "molecule/shared/nextcloud/php"),
        }
        hpb = {"hpb_domain": "talk.example.org", "hpb_base_dir": str(self.base), "hpb_tls": "private_ca"}
        off = {"ansible_host": "127.0.0.1", "ansible_port": 1}
        return {
            "hpb": {
                "hosts": {"talk.example.org": LOCAL},
                "vars": {**hpb, "hpb_media_ip": "127.0.0.1", "hpb_verify": False},
            },
            "nextcloud": {
                "children": {
                    "nc": {"hosts": {"nc.example.org": nc}},
                    "client": {"hosts": {"client.example.org": {}}, "vars": {"talk_register": False}},
                    "nas": {"hosts": {"nas.example.org": off}, "vars": {"talk_optional": True}},
                }
            },
        }

    def play(self, plays: object, *arguments: str) -> tuple[int, str]:
        """Run the plays; returns the exit code and the whole output, in which no secret may stand."""
        playbook = self.folder / "playbook.yml"
        playbook.write_text(plays if isinstance(plays, str) else yaml.safe_dump(plays), encoding="utf-8")
        known = self.values()
        env = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
        env |= {
            "ANSIBLE_COLLECTIONS_PATH": str(self.folder / "tree"),
            "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
            "ANSIBLE_PIPELINING": "true",
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{env['PATH']}",
        }
        command = [
            Path(sys.executable).parent / "ansible-playbook",
            "-i",
            self.inventory,
            playbook,
            "--diff",
            "-vv",
            "-e",
            f"__signalling_changeover_directory={self.folder / 'run'}",
        ]
        done = subprocess.run(
            [*command, *arguments],
            cwd=self.folder,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        output = done.stdout + done.stderr
        assert [name for value, name in {**known, **self.values()}.items() if value in output] == []
        return done.returncode, output

    def document(self) -> dict:
        return json.loads((self.base / "secrets/secrets.json").read_text(encoding="utf-8"))

    def values(self) -> dict[str, str]:
        """Every secret of the file with the path to it."""

        def walk(where: dict, path: str) -> dict[str, str]:
            found = {}
            for key, value in where.items():
                if isinstance(value, dict):
                    found |= walk(value, f"{path}.{key}")
                elif key not in ("url", "version"):
                    found[value] = f"{path}.{key}"
            return found

        return walk(self.document(), "")

    def ends(self) -> dict:
        """What the backend, coturn and the Nextcloud take for secrets."""
        conf = (self.base / "signalling/config/server.conf").read_text(encoding="utf-8")
        with closing(sqlite3.connect(self.base / "coturn/database/turndb")) as database:
            turn = {row[0] for row in database.execute("SELECT value FROM turn_secret")}
        signaling, _err, _code = self.nextcloud.occ("talk:signaling:list", "--output=json")
        relays, _err, _code = self.nextcloud.occ("talk:turn:list", "--output=json")
        return {
            "server": dict(re.findall(r"^\[(nc|client|nas)\]\n(?:.+\n)*?secret = (\w+)$", conf, re.MULTILINE)),
            "coturn": turn,
            "nc": (json.loads(signaling)["secret"], [entry["secret"] for entry in json.loads(relays)]),
            "restart": (self.base / "signalling/config/restart").read_text(encoding="utf-8"),
        }


def pair(entry: dict) -> tuple[str, list[str]]:
    return entry["backend"], [entry["turn"]]


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    # Not below pytest's own directory, which is closed to others: coturn's user has to pass.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        made = Bed(folder)
        code, output = made.play(SETTLE)
        assert code == 0, output[-4000:]
        yield made


def test_check_says_what_would_happen_and_changes_nothing(bed: Bed) -> None:
    document, ends = bed.document(), bed.ends()
    code, output = bed.play(PLAYS, "--check", "-e", "rotate=all,session")
    assert code == 0, output[-4000:]
    assert "nc: new backend and turn secret, here and in its Nextcloud; that restarts no container" in output
    assert "session: the signaling server restarts: every client reconnects" in output
    assert "client: skipped, since we never contact it; rotate=client changes it here all the same." in output
    assert "nas: skipped, since its host nas.example.org is switched off" in output
    assert (bed.document(), bed.ends()) == (document, ends)


def test_what_cannot_be_rotated_is_refused_at_once(bed: Bed) -> None:
    before = bed.document()
    code, output = bed.play(PLAYS[:1], "-e", "rotate=nope", "-e", "instance=nc")
    assert code != 0
    assert "rotate names 'nope', which is unknown; known are all, client, client.backend, client.turn, " in output
    assert "expected no instance=... or remove=... beside it" in output
    assert bed.document() == before


def test_a_rotation_that_was_cut_off_is_settled_by_site_and_finished_by_a_second_one(bed: Bed) -> None:
    """It ends before the Nextcloud is told; some word of it has come there all the same, as after a lost answer."""
    old, before = bed.document()["instances"], bed.ends()
    lost = {"hosts": "nextcloud", "gather_facts": False, "roles": ["nextcloud_talk.hpb.talk"]}
    code, output = bed.play([*PLAYS[:3], lost], "-e", "rotate=nc")
    assert code == 0, output[-4000:]
    prepared = bed.document()["instances"]["nc"]["next"]
    assert bed.document()["instances"] == {**old, "nc": {**old["nc"], "next": prepared}}
    ends = bed.ends()
    assert ends["nc"] == pair(prepared)
    assert ends["server"] == before["server"] == {name: entry["backend"] for name, entry in old.items()}
    assert ends["coturn"] == before["coturn"] | {prepared["turn"]}

    code, output = bed.play(SETTLE)
    assert code == 0, output[-4000:]
    assert "nc: other secrets are prepared, the present ones still in force" in output
    assert "-e rotate=nc.backend,nc.turn" in output
    assert bed.document()["instances"]["nc"]["next"] == prepared
    assert bed.ends() == ends | {"nc": pair(old["nc"])}

    code, output = bed.play(PLAYS, "-e", "rotate=nc")
    assert code == 0, output[-4000:]
    assert bed.document()["instances"] == {**old, "nc": {"url": old["nc"]["url"], **prepared}}
    ends = bed.ends()
    assert ends["nc"] == pair(prepared)
    assert ends["server"] == before["server"] | {"nc": prepared["backend"]}
    assert ends["coturn"] == before["coturn"] - {old["nc"]["turn"]} | {prepared["turn"]}
    assert ends["restart"] == before["restart"], "an instance's secret must not restart the signaling server"


def test_a_rotation_that_was_cut_off_behind_the_change_is_what_site_goes_on_with(bed: Bed) -> None:
    old, before = bed.document()["instances"], bed.ends()
    code, output = bed.play(PLAYS[:4], "-e", "rotate=nc")
    assert code == 0, output[-4000:]
    new = bed.document()["instances"]["nc"]
    assert new["backend"] != old["nc"]["backend"] and new["turn"] != old["nc"]["turn"] and "next" not in new
    ends = bed.ends()
    assert ends["nc"] == pair(new)
    assert ends["server"] == before["server"] | {"nc": new["backend"]}
    code, output = bed.play(SETTLE)
    assert code == 0, output[-4000:]
    assert bed.document()["instances"]["nc"] == new
    assert {**bed.ends(), "coturn": None} == {**ends, "coturn": None}


def test_a_nextcloud_that_fails_keeps_its_secrets_and_a_named_one_is_handed_over(bed: Bed) -> None:
    """It is in maintenance while it is told, and found with the next secrets all the same, as after a lost answer."""

    def maintenance(switch: str) -> dict:
        task = {"ansible.builtin.command": {"argv": [str(bed.nextcloud.root / "occ"), "maintenance:mode", switch]}}
        return {"hosts": "hpb", "gather_facts": False, "tasks": [task]}

    lost = {"hosts": "nextcloud", "gather_facts": False, "roles": ["nextcloud_talk.hpb.talk"]}
    old, before = bed.document()["instances"], bed.ends()
    plays = [*PLAYS[:3], maintenance("--on"), PLAYS[3], maintenance("--off"), lost, *PLAYS[4:]]
    code, output = bed.play(plays, "-e", "rotate=nc,client,nas.turn,internal")
    assert code != 0
    assert "Not rotated: nc. The present secrets stay in force here" in output
    assert "go on with -e rotate=nc.backend,nc.turn." in output
    new = bed.document()["instances"]
    prepared = new["nc"]["next"]
    assert new["nc"] == {**old["nc"], "next": prepared}
    assert "next" not in new["client"] and "next" not in new["nas"]
    assert new["client"]["backend"] != old["client"]["backend"] and new["client"]["turn"] != old["client"]["turn"]
    assert new["nas"]["backend"] == old["nas"]["backend"] and new["nas"]["turn"] != old["nas"]["turn"]
    given = json.loads((bed.base / "handover").read_text(encoding="utf-8"))
    assert given["instances"] == ["client", "nas"]
    assert given["secrets"]["instances"]["client"] == new["client"]
    ends = bed.ends()
    assert ends["nc"] == before["nc"]
    assert ends["server"] == {name: entry["backend"] for name, entry in new.items()}
    assert ends["coturn"] == {entry["turn"] for entry in new.values()} | {prepared["turn"]}
    assert ends["restart"] != before["restart"], "the signaling server reads the internal secret at its start only"


def test_another_value_of_the_users_comes_into_force_by_a_rotation(bed: Bed) -> None:
    old, before, given = bed.document()["instances"]["nc"], bed.ends(), "9f" * 32
    values, wanted = bed.folder / "values.json", {"instances": {"nc": {"backend": given}}}
    values.write_text(json.dumps({"hpb_secret_values": wanted}), encoding="utf-8")
    # What site asks for.
    options = {"path": str(bed.base / "secrets/secrets.json"), "values": wanted, "stage": ["nc"]}
    assert run_module("secrets", options)["actions"] == ["prepare from values: nc.backend"]
    code, output = bed.play(SETTLE, "-e", f"@{values}")
    assert code == 0, output[-4000:]
    assert "nc: other secrets are prepared, the present ones still in force" in output and given not in output
    now = bed.document()["instances"]["nc"]
    assert now["backend"] == old["backend"] and now["next"]["backend"] == given
    assert bed.ends()["nc"] == before["nc"] and bed.ends()["server"] == before["server"]
    code, output = bed.play(PLAYS, "-e", "rotate=nc.backend", "-e", f"@{values}")
    assert code == 0, output[-4000:]
    assert bed.document()["instances"]["nc"]["backend"] == given
    assert bed.ends()["nc"][0] == bed.ends()["server"]["nc"] == given


def test_an_instance_that_leaves_is_dropped_everywhere_but_in_the_file(bed: Bed) -> None:
    document = bed.document()
    entry = document["instances"]["client"]
    code, output = bed.play(DEPLOY, "-e", "remove=client")
    assert code == 0, output[-4000:]
    ends = bed.ends()
    assert sorted(ends["server"]) == ["nas", "nc"]
    assert entry["turn"] not in ends["coturn"] and len(ends["coturn"]) >= 2
    assert bed.document() == document
    code, output = bed.play(DEPLOY)
    assert code == 0, output[-4000:]
    assert bed.ends()["server"]["client"] == entry["backend"]
