#!/usr/bin/env python3
# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Benchmarks, as ratios of things measured side by side in one run; scripts/bench sets up what they need.

scripts/bench register [--instances 1,10,50] [--forks 5,20]
    A run of the playbook register that changes nothing, for so many Nextclouds. They are stand-ins on this machine,
    whose PHP takes 0.3 s to start; each is an inventory host of its own with a local connection. Beside each run
    stands one that only gathers facts from the same hosts. PHP's starts are counted.

scripts/bench site -i INVENTORY [--rounds 3]
    Deploy and register, changing nothing, on the deployed installation of an inventory, beside a run that only gathers
    facts from the same hosts.

scripts/bench tenant -i INVENTORY --instance NAME [--rounds 3]
    The instance NAME joins that installation (-e instance=NAME), beside a run for all that changes nothing. It leaves
    before each measurement, so take one of a test bed.

scripts/bench many -i INVENTORY [--instances 10,100] [--forks 20] [--rounds 1]
    Deploy and register, changing nothing, with so many further Nextclouds, which are stand-ins on this machine as for
    register. In the end they leave, so take a test bed.

scripts/bench image -i INVENTORY [--rounds 1]
    The role's build of the Janus image from nothing, beside the same commands by hand in a container of the same base
    image on the same host. The host of the inventory must be a container on this machine, as those of the test bed are.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
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

LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}

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
  hosts: {hosts}
  gather_facts: true
"""


# What is worth a change of the code, and what is aimed at.
LIMITS = {"site": (10.0, 4.0), "tenant": (1.0, 1.0), "many": (6.0, 6.0), "image": (1.15, 1.15)}
NO_CALLS = ("-e", "hpb_verify=false")
DEPLOY = ("nextcloud_talk.hpb.deploy", "nextcloud_talk.hpb.register")


def play(inventories: list[Path], playbooks: tuple[str, ...], forks: int, *arguments: str) -> tuple[float, str]:
    """Run playbooks in one go; return its seconds and its output."""
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "false"}
    sources = [part for inventory in inventories for part in ("-i", inventory)]
    start = time.monotonic()
    done = subprocess.run(
        [PYTHON.parent / "ansible-playbook", *sources, "--forks", str(forks), *arguments, *playbooks],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - start
    if done.returncode:
        sys.exit(f"bench: {' '.join(playbooks)} failed:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
    return seconds, done.stdout


def unchanged(output: str) -> None:
    """End the benchmark when a run changed something that was expected to change nothing."""
    if re.search(r" changed=[1-9]", output):
        sys.exit(f"bench: this run was expected to change nothing:\n{output[-2000:]}")


def verdict(name: str, left: str, right: str, pairs: list[tuple[float, float]]) -> None:
    """Print the seconds of both sides of each round, and the median of their ratios beside the limit."""
    print(f"{left:>20} {right:>20} {'ratio':>6}")
    for first, second in pairs:
        print(f"{first:>18.1f} s {second:>18.1f} s {first / second:>6.2f}")
    limit, goal = LIMITS[name]
    ratio = statistics.median(first / second for first, second in pairs)
    word = "within" if ratio <= limit else "BEYOND"
    print(f"{name}: {ratio:.2f}, {word} the limit of {limit:g}" + (f" (aim {goal:g})" if goal != limit else ""))


def install(directory: Path, count: int) -> dict[str, dict]:
    """Install `count` stand-ins in `directory`, with its slow php; return their groups as an inventory has them."""
    php = directory / "php"
    php.write_text(PHP.format(counter=directory / "starts", seconds=PHP_SECONDS, shim=STAND_IN / "php"))
    php.chmod(0o755)
    installs, groups = [], {}
    for number in range(count):
        name = f"nc{number}"
        root = directory / name
        command = [PYTHON, STAND_IN / "install.py", "--root", root, "--domain", f"{name}.example.org", "--user", "root"]
        installs.append(subprocess.Popen(command))
        groups[name] = {
            "hosts": {f"{name}.example.org": LOCAL},
            "vars": {"talk_occ": str(root / "occ"), "talk_php": str(php)},
        }
    if any(process.wait() for process in installs):
        sys.exit("bench: a stand-in could not be installed")
    return groups


def lay_out(directory: Path, count: int) -> list[Path]:
    """Install `count` stand-ins and write an inventory for them; return it."""
    backend = {"hpb_domain": "talk.example.org", "hpb_tls": "private_ca", "hpb_base_dir": str(directory / "hpb")}
    inventory = {
        "hpb": {"hosts": {"talk.example.org": LOCAL}, "vars": backend},
        "nextcloud": {"children": install(directory, count)},
    }
    (directory / "prepare.yml").write_text(PREPARE)
    (directory / "facts.yml").write_text(FACTS.format(hosts="nextcloud"))
    return [write(directory / "hosts.yml", inventory)]


def write(path: Path, inventory: dict) -> Path:
    """Write an inventory; return its file."""
    path.write_text(json.dumps(inventory))
    return path


def register(options: argparse.Namespace) -> None:
    """Measure runs of register that change nothing."""
    print(f"{'instances':>9} {'forks':>5} {'PHP starts each':>15} {'register':>9} {'only facts':>10} {'ratio':>6}")
    for count in options.instances:
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            inventories = lay_out(directory, count)
            play(inventories, (str(directory / "prepare.yml"),), 20)
            play(inventories, ("nextcloud_talk.hpb.register",), 20)
            for forks in options.forks:
                starts = directory / "starts"
                starts.write_text("")
                seconds, output = play(inventories, ("nextcloud_talk.hpb.register",), forks)
                unchanged(output)
                each = len(starts.read_text().splitlines()) / count
                facts, _output = play(inventories, (str(directory / "facts.yml"),), forks)
                print(f"{count:>9} {forks:>5} {each:>15.1f} {seconds:>7.1f} s {facts:>8.1f} s {seconds / facts:>6.1f}")


def site(options: argparse.Namespace) -> None:
    """Measure runs that change nothing beside runs that only gather facts."""
    inventories, pairs = [options.inventory], []
    with tempfile.TemporaryDirectory() as name:
        facts = Path(name) / "facts.yml"
        facts.write_text(FACTS.format(hosts="hpb:nextcloud"))
        # What was not settled before does not count.
        play(inventories, DEPLOY, 20)
        for _round in range(options.rounds):
            seconds, output = play(inventories, DEPLOY, 20)
            unchanged(output)
            pairs.append((seconds, play(inventories, (str(facts),), 20)[0]))
    verdict("site", "changing nothing", "only facts", pairs)


def tenant(options: argparse.Namespace) -> None:
    """Measure how an instance joins beside runs for all that change nothing."""
    pairs = []
    with tempfile.TemporaryDirectory() as name:
        leaving = {"nextcloud": {"children": {options.instance: {"vars": {"talk_state": "absent"}}}}}
        absent = [options.inventory, write(Path(name) / "leaving.yml", leaving)]
        for _round in range(options.rounds):
            play(absent, DEPLOY, 20)
            joining, output = play([options.inventory], DEPLOY, 20, "-e", f"instance={options.instance}")
            if not re.search(r" changed=[1-9]", output):
                sys.exit(f"bench: {options.instance} was expected to join:\n{output[-2000:]}")
            still, output = play([options.inventory], DEPLOY, 20)
            unchanged(output)
            pairs.append((joining, still))
    verdict("tenant", "one joins", "changing nothing", pairs)


def many(options: argparse.Namespace) -> None:
    """Measure runs that change nothing with few and with many further instances."""
    seconds: dict[int, list[float]] = {count: [] for count in options.instances}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        groups = install(directory, max(options.instances))
        deployed: set[str] = set()
        for _round in range(options.rounds):
            for count in options.instances:
                some = dict(list(groups.items())[:count])
                further = write(directory / "further.yml", {"nextcloud": {"children": some}})
                gone = ",".join(sorted(deployed - set(some)))
                play([options.inventory, further], DEPLOY, options.forks, *(("-e", f"remove={gone}") if gone else ()))
                deployed = set(some)
                once, output = play([options.inventory, further], DEPLOY, options.forks)
                unchanged(output)
                seconds[count].append(once)
        play([options.inventory], DEPLOY, options.forks, "-e", f"remove={','.join(sorted(deployed))}")
    few, lots = min(options.instances), max(options.instances)
    verdict("many", f"{lots} further", f"{few} further", list(zip(seconds[lots], seconds[few])))


def image(options: argparse.Namespace) -> None:
    """Measure the role's build of Janus beside the commands of its Dockerfile."""
    pairs = []
    for _round in range(options.rounds):
        built, _output = play([options.inventory], DEPLOY[:1], 20, "-e", "janus_rebuild=true")
        still, output = play([options.inventory], DEPLOY[:1], 20)
        unchanged(output)
        # The rest of the playbook is no part of the build.
        pairs.append((built - still, by_hand(options.inventory)))
    verdict("image", "image", "compiling only", pairs)


def by_hand(inventory: Path) -> float:
    """Run what the Dockerfile's first stage runs in one container on the backend's host; return its seconds."""
    listed = subprocess.check_output(
        [PYTHON.parent / "ansible-inventory", "-i", inventory, "--list"], env={**os.environ, "ANSIBLE_CONFIG": ""}
    )
    document = json.loads(listed)
    (host,) = document["hpb"]["hosts"]
    facts = document["_meta"]["hostvars"][host]
    build = f"{facts.get('hpb_base_dir', '/opt/nextcloud-talk-hpb')}/janus/build"
    inside = ["docker", "exec", facts["ansible_host"]]
    text = subprocess.check_output([*inside, "cat", f"{build}/Dockerfile"], text=True)
    first = text.partition("\nFROM scratch")[0].replace("\\\n", " ")
    base = first.split()[1]
    commands = ["set -e"]
    for line in first.splitlines():
        word, _space, rest = line.partition(" ")
        if word == "RUN":
            commands.append(f"( {rest} )")
        elif word == "ENV":
            commands.append(f"export {rest}")
        elif word == "COPY":
            commands.append(f"mkdir -p /sources && cp /context/{rest.split()[0]} /sources/")
    start = time.monotonic()
    subprocess.run(
        [*inside, "docker", "run", "--rm", "-v", f"{build}:/context:ro", base, "sh", "-c", "\n".join(commands)],
        check=True,
        capture_output=True,
    )
    return time.monotonic() - start


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
    command.set_defaults(run=register)
    for name, run, rounds, help_text in (
        ("site", site, 3, "a run that changes nothing, beside one that only gathers facts"),
        ("tenant", tenant, 3, "one instance joins, beside a run that changes nothing"),
        ("many", many, 1, "many instances beside few"),
        ("image", image, 1, "the image of Janus beside compiling it"),
    ):
        command = commands.add_parser(name, help=help_text)
        command.add_argument("-i", "--inventory", type=Path, required=True)
        command.add_argument("--rounds", type=int, default=rounds)
        command.set_defaults(run=run)
        if name == "tenant":
            command.add_argument("--instance", required=True)
        if name == "many":
            command.add_argument("--instances", type=numbers, default=[10, 100])
            command.add_argument("--forks", type=int, default=20)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
