# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role talk in real plays: the playbook register, and what the preflight tells the backend's own host.

All hosts are this machine, and the Nextclouds are stand-ins in a temporary directory. Nothing else is changed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import module_process
import pytest
import yaml
from standin_instance import STANDIN, Nextcloud

ROOT = Path(__file__).resolve().parents[2]
PHP = """#!/bin/sh
printf '%s\\n' "$*" >> {log}
exec {php} "$@"
"""
AWAY = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
SIGNALING = "https://talk.example.org"

# The first two plays of deploy, and the beginning of the third: nothing is changed.
PREFLIGHT = """
- hosts: hpb
  gather_facts: false
  tasks:
    - ansible.builtin.import_role: {name: nextcloud_talk.hpb.hpb, tasks_from: inventory}
- hosts: nextcloud
  gather_facts: false
  tasks:
    - ansible.builtin.import_role: {name: nextcloud_talk.hpb.talk, tasks_from: preflight}
- hosts: hpb
  gather_facts: false
  tasks:
    - block:
        - ansible.builtin.import_role: {name: nextcloud_talk.hpb.hpb, tasks_from: preflight}
      rescue:
        - ansible.builtin.debug:
            msg: "PROBLEMS {{ ansible_failed_result.msg }}"
      always:
        - ansible.builtin.copy:
            dest: "{{ hpb_base_dir }}/merged.json"
            mode: "0600"
            content: "{{ {'inventory': hpb_inventory, 'warnings': hpb_url_warnings} | to_json }}"
"""

# What verify says at the end of a run, without calls.
SUMMARY = """
- ansible.builtin.import_playbook: nextcloud_talk.hpb.register
- hosts: hpb
  gather_facts: false
  tasks:
    - ansible.builtin.debug:
        msg: "SUMMARY {{ lookup('ansible.builtin.template', '%s') }}"
      vars: {verify_calls: false, __verify_registered: true, __verify_secrets_path: secrets.json}
"""


class Site:
    """An inventory of this machine: the backend's host, and groups of Nextcloud hosts."""

    def __init__(self, folder: Path, **groups: dict) -> None:
        self.folder, self.log = folder, folder / "starts"
        (folder / "php").write_text(PHP.format(log=self.log, php=STANDIN / "php"))
        (folder / "php").chmod(0o755)
        (folder / "base").mkdir()
        backend = {"hpb_domain": "talk.example.org", "hpb_tls": "private_ca", "hpb_base_dir": str(folder / "base")}
        self.data = {
            "all": {"vars": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}},
            "hpb": {"hosts": {"talk.example.org": None}, "vars": backend},
            "nextcloud": {"vars": {"talk_php": str(folder / "php")}, "children": groups},
        }
        instances = [{"id": name, "url": f"https://{next(iter(group['hosts']))}"} for name, group in groups.items()]
        path = folder / "base/secrets/secrets.json"
        made = module_process.run("secrets", {"path": str(path), "instances": instances})
        self.secrets = made["secrets"]["instances"]

    def play(self, playbook: str | Path, *arguments: str) -> tuple[str, int]:
        """Run a playbook; return its output and exit code. The starts of PHP are in `starts`."""
        self.log.write_text("")
        (self.folder / "hosts.yml").write_text(yaml.safe_dump(self.data))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
        environment |= {"ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".tree"), "ANSIBLE_HOME": str(self.folder / "home")}
        program = Path(sys.executable).parent / "ansible-playbook"
        done = subprocess.run(
            [program, "-i", self.folder / "hosts.yml", playbook, *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        for secret in self.secrets.values():
            assert secret["backend"] not in done.stdout + done.stderr
            assert secret["turn"] not in done.stdout + done.stderr
        return done.stdout + done.stderr, done.returncode

    def register(self, *arguments: str) -> dict[str, dict[str, int]]:
        """Run the playbook register, which must succeed; return the numbers of its recap for each host."""
        output, code = self.play("nextcloud_talk.hpb.register", *arguments)
        assert code == 0, output
        return recap(output)

    def summary(self) -> str:
        """Register, and return what the summary says."""
        template = ROOT / "roles/verify/templates/summary.txt.j2"
        (self.folder / "summary.yml").write_text(SUMMARY % template)
        output, code = self.play(self.folder / "summary.yml")
        assert code == 0, output
        return output.partition("SUMMARY ")[2].partition('"')[0]

    def preflight(self, *arguments: str) -> tuple[str, dict]:
        """Run the preflight; return its problems and the instances that the backend's host then has."""
        (self.folder / "preflight.yml").write_text(PREFLIGHT)
        output, code = self.play(self.folder / "preflight.yml", *arguments)
        assert code == 0, output
        merged = json.loads((self.folder / "base/merged.json").read_text())
        (problems,) = re.findall(r'"msg": "(PROBLEMS .*)"', output) or [""]
        return problems.replace('\\"', '"'), merged

    @property
    def starts(self) -> list[str]:
        return [line.partition("/occ ")[2].split()[0] for line in self.log.read_text().splitlines()]


def recap(output: str) -> dict[str, dict[str, int]]:
    found = {}
    for line in output.partition("PLAY RECAP")[2].splitlines():
        host, colon, numbers = line.partition(" : ")
        if colon:
            found[host.strip()] = {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", numbers)}
    return found


def hosts(nextcloud: Nextcloud, *names: str, **variables: object) -> dict:
    """Return a group of the inventory."""
    return {"hosts": dict.fromkeys(names), "vars": {"talk_occ": str(nextcloud.root / "occ"), **variables}}


@pytest.fixture
def nextcloud(tmp_path):
    return Nextcloud(tmp_path / "nc")


def registered(nextcloud: Nextcloud) -> list[str]:
    stored = nextcloud.stored("signaling_servers")
    return [entry["server"] for entry in json.loads(stored[0])["servers"]] if stored else []


def test_a_run_without_changes_costs_two_starts_of_php_for_each_instance(tmp_path, nextcloud):
    site = Site(tmp_path, nc=hosts(nextcloud, "nc.example.org"))
    assert site.register()["nc.example.org"]["changed"] == 1
    assert registered(nextcloud) == [SIGNALING]
    numbers = site.register()["nc.example.org"]
    assert (numbers["changed"], numbers["failed"]) == (0, 0)
    assert site.starts == ["config:list", "config:list"]


def test_people_with_an_open_tab_are_thought_of_where_something_changes(tmp_path, nextcloud):
    site = Site(tmp_path, nc=hosts(nextcloud, "nc.example.org"))
    output, _code = site.play("nextcloud_talk.hpb.register", "--check")
    assert "Tabs in which Talk is open (nc) will say that it was updated and has to be reloaded" in output
    assert "do this outside working hours" in output
    said = "Tabs in which Talk is open (nc) say that it was updated and has to be reloaded"
    assert site.summary().count(said) == 1
    assert "Tabs in which" not in site.summary()
    assert "Tabs in which" not in site.play("nextcloud_talk.hpb.register")[0]


def test_another_host_of_the_instance_acts_when_the_first_is_away(tmp_path, nextcloud):
    nc = hosts(nextcloud, "nc.example.org", "nc2.example.org", "nc3.example.org")
    site = Site(tmp_path, nc=nc)
    site.register()
    assert "config:list" in site.starts
    site.register()
    assert len(site.starts) == 2

    nc["hosts"]["nc.example.org"] = AWAY
    nextcloud.occ("talk:stun:add", "stun.example.net:443")
    nextcloud.occ("talk:stun:delete", "talk.example.org:3478")
    assert site.summary().startswith("nc: added the STUN server talk.example.org:3478\\n")
    assert "config:import" not in site.starts and site.starts.count("talk:stun:add") == 1
    assert nextcloud.stored("stun_servers")[0].count("talk.example.org:3478") == 1


@pytest.mark.parametrize("optional", [False, True])
def test_all_hosts_away_is_a_problem_unless_they_may_be(tmp_path, nextcloud, optional):
    nc = hosts(nextcloud, "nc.example.org", "nc2.example.org", talk_optional=optional)
    nc["hosts"] = dict.fromkeys(nc["hosts"], AWAY)
    site = Site(tmp_path, nc=nc)
    if optional:
        away = "nc: not checked, its hosts nc.example.org, nc2.example.org are switched off"
        assert site.summary().startswith(away)
    else:
        output, code = site.play("nextcloud_talk.hpb.register")
        assert code != 0
        assert "Instance nc: none of its hosts nc.example.org, nc2.example.org can be reached (" in output
    assert site.starts == []


def test_what_keeps_the_backend_from_working_stops_the_run_or_is_mended(tmp_path, nextcloud):
    nextcloud.occ("config:system:set", "overwrite.cli.url", "--value=http://localhost")
    nextcloud.occ("config:app:set", "spreed", "signaling_mode", "--value=internal")
    nc = hosts(nextcloud, "nc.example.org")
    site = Site(tmp_path, nc=nc)
    output, code = site.play("nextcloud_talk.hpb.register")
    assert code != 0
    assert "'occ config:system:set overwrite.cli.url --value=https://nc.example.org'" in output
    assert "'occ config:app:delete spreed signaling_mode'" in output
    assert registered(nextcloud) == []
    nc["vars"]["talk_mend"] = True
    site.register("--diff")
    assert registered(nextcloud) == [SIGNALING]
    assert nextcloud.occ("config:system:get", "overwrite.cli.url")[0] == "https://nc.example.org\n"
    assert site.register()["nc.example.org"]["changed"] == 0


def test_an_address_that_is_deployed_is_not_mended(tmp_path, nextcloud):
    """Only the registration runs, so that nobody has merged what the Nextcloud says about itself."""
    nextcloud.occ("config:system:set", "trusted_domains", "1", "--value=cloud.example.org")
    nextcloud.occ("config:system:set", "overwrite.cli.url", "--value=https://cloud.example.org")
    nc = hosts(nextcloud, "nc.example.org", talk_urls_from_nextcloud=True, talk_mend=True)
    site = Site(tmp_path, nc=nc)
    urls = ["https://nc.example.org", "https://cloud.example.org"]
    (tmp_path / "base/deployed.json").write_text(
        json.dumps({"instances": [{"id": "nc", "url": urls[0], "urls": urls}]})
    )
    site.register()
    assert nextcloud.occ("config:system:get", "overwrite.cli.url")[0] == "https://cloud.example.org\n"
    (tmp_path / "base/deployed.json").unlink()
    site.register()
    assert nextcloud.occ("config:system:get", "overwrite.cli.url")[0] == "https://nc.example.org\n"


def test_found_addresses_reach_the_backend(tmp_path, nextcloud):
    other = Nextcloud(tmp_path / "other")
    other.occ("config:system:set", "overwrite.cli.url", "--value=https://www.example.org")
    other.occ("config:system:set", "trusted_domains", "0", "--value=other.example.org")
    for index, name in enumerate(("cloud.example.org", "other.example.org"), 1):
        nextcloud.occ("config:system:set", "trusted_domains", str(index), f"--value={name}")
    nextcloud.occ("config:system:set", "overwrite.cli.url", "--value=https://cloud.example.org")
    nc = hosts(nextcloud, "nc.example.org", talk_urls_from_nextcloud=True)
    leaving = hosts(nextcloud, "old.example.org", talk_urls_from_nextcloud=True, talk_state="absent")
    site = Site(tmp_path, nc=nc, other=hosts(other, "other.example.org"), old=leaving)
    problems, merged = site.preflight()
    urls = {entry["id"]: entry["urls"] for entry in merged["inventory"]}
    assert urls == {
        "nc": ["https://nc.example.org", "https://cloud.example.org"],
        "other": ["https://other.example.org"],
        "old": ["https://old.example.org"],
    }
    assert [text.partition(", so ")[0] for text in merged["warnings"]] == [
        "The Nextcloud of the instance nc was found at https://other.example.org too, but that belongs to the instance "
        "other"
    ]
    assert "Instance other on other.example.org: occ " in problems
    assert "whose overwrite.cli.url is https://www.example.org, but https://other.example.org was expected" in problems
    assert "Instance nc on nc.example.org" not in problems
    assert "Instance old" not in problems

    deployed = {"instances": [entry for entry in merged["inventory"] if entry["state"] == "present"]}
    (tmp_path / "base/deployed.json").write_text(json.dumps(deployed))
    nc["hosts"]["nc.example.org"] = AWAY
    nc["vars"]["talk_optional"] = True
    merged = site.preflight()[1]
    assert {entry["id"]: entry["urls"] for entry in merged["inventory"]} == urls

    nc["hosts"]["nc.example.org"] = None
    site.data["hpb"]["vars"]["hpb_signaling_version"] = "2.0.3"
    problems, merged = site.preflight()
    assert [entry["urls"] for entry in merged["inventory"] if entry["id"] == "nc"] == [["https://nc.example.org"]]
    assert "talk_urls_from_nextcloud is set for nc" in merged["warnings"][0]
    assert "Instance nc: its overwrite.cli.url is https://cloud.example.org, which would be its second URL" in problems
