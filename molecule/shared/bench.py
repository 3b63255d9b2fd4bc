#!/usr/bin/env python3
# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Benchmarks, as ratios of things measured side by side in one run; scripts/bench sets up what they need.

scripts/bench register [--instances 1,10,50] [--forks 5,20]
    A run of the playbook register that changes nothing, for so many Nextclouds. They are stand-ins on this machine,
    whose PHP takes 0.3 s to start; each is an inventory host of its own with a local connection. Beside each run
    stands one that only gathers facts from the same hosts. PHP's starts are counted.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PYTHON = ROOT / ".venv/bin/python"
STAND_IN = HERE / "nextcloud"
PHP_SECONDS = 0.3

PHP = """#!/bin/sh
echo start >>{counter}
sleep {seconds}
exec {shim} "$@"
"""

PREPARE = """---
- name: Make the secrets as a deployment does
  hosts: hpb
  gather_facts: false
  tasks:
    - name: Read the inventory
      ansible.builtin.import_role:
        name: nextcloud_talk.hpb.hpb
        tasks_from: inventory

    - name: Make the secrets
      nextcloud_talk.hpb.secrets:
        path: "{{ hpb_base_dir }}/secrets/secrets.json"
        instances: "{{ hpb_instances }}"
      no_log: true
"""

FACTS = """---
- name: Gather facts and nothing else
  hosts: nextcloud
  gather_facts: true
"""


def play(directory: Path, playbook: str, forks: int) -> tuple[float, str]:
    """Run a playbook on the inventory in `directory`; return its seconds and its output."""
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "false"}
    start = time.monotonic()
    done = subprocess.run(
        [PYTHON.parent / "ansible-playbook", "-i", directory / "hosts.yml", "--forks", str(forks), playbook],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - start
    if done.returncode:
        sys.exit(f"bench: {playbook} failed:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
    return seconds, done.stdout


def lay_out(directory: Path, count: int) -> None:
    """Install `count` stand-ins and write an inventory for them."""
    php = directory / "php"
    php.write_text(PHP.format(counter=directory / "starts", seconds=PHP_SECONDS, shim=STAND_IN / "php"))
    php.chmod(0o755)
    lines = [
        "all:",
        "  vars:",
        "    ansible_connection: local",
        "    ansible_python_interpreter: '{{ ansible_playbook_python }}'",
        "hpb:",
        "  hosts: {talk.example.org: }",
        "  vars:",
        "    hpb_domain: talk.example.org",
        "    hpb_tls: private_ca",
        f"    hpb_base_dir: {directory / 'hpb'}",
        "nextcloud:",
        "  vars:",
        f"    talk_php: {php}",
        "  children:",
    ]
    installs = []
    for number in range(count):
        name = f"nc{number}"
        root = directory / name
        command = [PYTHON, STAND_IN / "install.py", "--root", root, "--domain", f"{name}.example.org", "--user", "root"]
        installs.append(subprocess.Popen(command))
        lines.append(f"    {name}: {{hosts: {{{name}.example.org: }}, vars: {{talk_occ: {root / 'occ'}}}}}")
    if any(process.wait() for process in installs):
        sys.exit("bench: a stand-in could not be installed")
    (directory / "hosts.yml").write_text("\n".join(lines) + "\n")
    (directory / "prepare.yml").write_text(PREPARE)
    (directory / "facts.yml").write_text(FACTS)


def register(options: argparse.Namespace) -> None:
    """Measure runs of register that change nothing."""
    print(f"{'instances':>9} {'forks':>5} {'PHP starts each':>15} {'register':>9} {'only facts':>10} {'ratio':>6}")
    for count in options.instances:
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            lay_out(directory, count)
            play(directory, str(directory / "prepare.yml"), 20)
            play(directory, "nextcloud_talk.hpb.register", 20)
            for forks in options.forks:
                starts = directory / "starts"
                starts.write_text("")
                seconds, output = play(directory, "nextcloud_talk.hpb.register", forks)
                if "changed=1" in output:
                    sys.exit(f"bench: this run was expected to change nothing:\n{output[-2000:]}")
                each = len(starts.read_text().splitlines()) / count
                facts, _output = play(directory, str(directory / "facts.yml"), forks)
                print(f"{count:>9} {forks:>5} {each:>15.1f} {seconds:>7.1f} s {facts:>8.1f} s {seconds / facts:>6.1f}")


def numbers(text: str) -> list[int]:
    """Return the whole numbers in a comma separated text."""
    return [int(part) for part in text.split(",")]


def main() -> None:
    """Run the benchmark that the command line names."""
    if os.geteuid() != 0:
        sys.exit("bench: the stand-ins belong to root; run this as root.")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("register", help="no-change registration of many instances")
    command.add_argument("--instances", type=numbers, default=[1, 10, 50])
    command.add_argument("--forks", type=numbers, default=[5, 20])
    options = parser.parse_args()
    register(options)


if __name__ == "__main__":
    main()
