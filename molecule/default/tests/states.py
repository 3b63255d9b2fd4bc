# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of an installation as texts that can be compared, and inventories that lead from one to another."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from conftest import BED, DIRECTORY, INVENTORY, PROJECT, SERVICES, read_secrets

BASE = "/opt/nextcloud-talk-hpb"
NEXTCLOUDS = {
    "nc": ("web", "php /var/www/nc/occ"),
    "dev_nc": ("web", "docker exec -u www-data dev-app-1 php /var/www/html/occ"),
    "test_nc": ("other", "podman exec -u www-data test-app-1 php /var/www/html/occ"),
}
LISTS = ("signaling", "turn", "stun")
# What differs between two containers that are described alike.
PASSING = ("Id", "Created", "State", "ResolvConfPath", "HostnamePath", "HostsPath", "LogPath", "GraphDriver")
PASSING += ("NetworkSettings", "RestartCount", "ExecIDs")
DATABASE = f"{BASE}/coturn/database/turndb"
SECRETS_IN_COTURN = (
    f"import sqlite3; c = sqlite3.connect('{DATABASE}'); "
    "print('\\n'.join(map(str, c.execute('select realm, value from turn_secret'))))"
)

Edit = Callable[[dict[str, Any]], None]


def write_inventory(path: Path, *edits: Edit) -> Path:
    """Write the scenario's inventory after each of `edits` has changed its data in place, and return the file."""
    data = yaml.safe_load(INVENTORY.read_text())
    data["hpb"]["vars"]["bed"] = BED
    data["hpb"]["vars"]["handover_dir"] = str(DIRECTORY / "handover")
    for edit in edits:
        edit(data)
    path.write_text(yaml.safe_dump(data))
    return path


def run_tasks(
    inventory: Path, *arguments: str, tasks: Path, kill: int = 0, delay: float = 0
) -> tuple[int, str, list[str]]:
    """Deploy and register; the run dies at its task number `kill`, `delay` seconds after that began.

    Returns its exit status (-9 when it was killed), its output and the names of the tasks that it began. `tasks` is
    a file for them.
    """
    tasks.write_text("")
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"),
        "ANSIBLE_FORCE_COLOR": "false",
        "ANSIBLE_CALLBACK_PLUGINS": str(PROJECT / "molecule/shared/callbacks"),
        "ANSIBLE_CALLBACKS_ENABLED": "at_task",
        "HPB_TASKS_FILE": str(tasks),
        "HPB_TASKS_KILL": str(kill),
        "HPB_TASKS_DELAY": str(delay),
    }
    program = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(inventory)]
    with tasks.with_suffix(".log").open("w+") as log:
        process = subprocess.Popen(
            [*program, "playbooks/deploy.yml", "playbooks/register.yml", *arguments],
            cwd=PROJECT,
            env=environment,
            # Not a pipe, which processes that outlive the run would keep open.
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            process.wait(timeout=1800)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        log.seek(0)
        return process.returncode, log.read(), tasks.read_text().splitlines()


def secret_names(document: dict[str, Any]) -> dict[str, str]:
    """Return {value: name} of all secrets in the file of secrets."""
    names = {value: f"<{key}>" for key, value in document.items() if isinstance(value, str)}
    for instance, entry in document["instances"].items():
        for kind in ("backend", "turn"):
            names[entry[kind]] = f"<{instance}.{kind}>"
        for kind, value in entry.get("next", {}).items():
            names[value] = f"<{instance}.next.{kind}>"
    return names


def containers(hpb) -> dict[str, str]:
    """Return the definition of each of our containers, without what is new with each container."""
    texts = {}
    for name in SERVICES:
        found = json.loads(hpb.check_output("docker inspect %s", name))[0]
        for key in PASSING:
            found.pop(key, None)
        found["Mounts"] = sorted(found["Mounts"], key=lambda mount: mount["Destination"])
        found["HostConfig"]["Binds"] = sorted(found["HostConfig"]["Binds"])
        found["Config"]["Env"] = sorted(found["Config"]["Env"] or [])
        texts[f"container {name}"] = json.dumps(found, indent=1, sort_keys=True)
    running = hpb.check_output("docker ps --all --format '{{.Names}} {{.State}}'").splitlines()
    texts["containers"] = "\n".join(sorted(running))
    return texts


def files(hpb) -> dict[str, str]:
    """Return mode, owner and content of everything in the base directory but coturn's database."""
    archive = subprocess.run(
        ["docker", "exec", hpb.backend.name, "tar", "-C", BASE, "-c", "--exclude=./coturn/database/turndb*", "."],
        capture_output=True,
        check=True,
    ).stdout
    texts = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tree:
        for item in tree:
            content = tree.extractfile(item).read() if item.isfile() else item.linkname.encode()
            head = f"{item.mode:o} {item.uid}:{item.gid} {item.type.decode()}\n"
            texts[f"file {item.name}"] = head + content.decode(errors="backslashreplace")
    return texts


def told(hpb) -> str:
    """Return whether the signaling server has read its newest configuration, and whether the marker says so."""
    path = f"{BASE}/signalling/config/server.conf"
    written = float(hpb.check_output(f"stat -c %.Y {path}"))
    text = hpb.check_output(f"cat {path}; echo .")[:-1]
    marker = hpb.check_output(f"cat {BASE}/signalling/reloaded").strip()
    log = hpb.check_output("docker logs --timestamps signalling 2>&1 | grep 'Received SIGHUP, reloading' | tail -n 1")
    start = hpb.check_output("docker inspect --format '{{.State.StartedAt}}' signalling")
    read = [float(hpb.check_output("date -d %s +%%s.%%N", when)) for when in (start, *log.split()[:1])]
    known = marker == hashlib.sha256(json.dumps(text).encode()).hexdigest()
    return f"read after it was written: {max(read) >= written}, marker right: {known}"


def snapshot(hpb, web, other, anew: bool = False) -> dict[str, str]:
    """Return {what: text} of the whole installation, with each secret by its name.

    `anew`: the host was made anew, so that keys, certificates and digests over secrets are others; they are left out.
    """
    hosts = {"web": web, "other": other}
    texts = {**containers(hpb), **files(hpb)}
    # Its digests are of these very containers and of secrets.
    head, _, record = texts["file ./containers.json"].partition("\n")
    known = json.loads(record)
    texts["file ./containers.json"] = f"{head}\n{known.get('settings')} {sorted(known.get('containers', {}))}"
    marker = texts.pop("file ./signalling/reloaded", "")
    texts["signaling server"] = told(hpb) if marker else "was never told anything"
    texts["coturn's secrets"] = hpb.check_output("python3 -c %s", SECRETS_IN_COTURN)
    for instance, (host, occ) in NEXTCLOUDS.items():
        for kind in LISTS:
            texts[f"{instance} {kind}"] = hosts[host].check_output(f"{occ} talk:{kind}:list --output=json")
    if anew:
        for key, text in texts.items():
            if key.startswith(("file ./tls/", "file ./ca/")):
                texts[key] = text.splitlines()[0]
            elif key.startswith("container "):
                texts[key] = re.sub(r'(restart-digest": ")\w+', r"\1", text)
            elif key.startswith("file ./traefik/config/dynamic/"):
                texts[key] = re.sub(r"# certificate .*", "# certificate", text)
    names = secret_names(read_secrets(hpb))
    pattern = re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))))
    named = {key: pattern.sub(lambda found: names[found[0]], text) for key, text in texts.items()}
    for instance in NEXTCLOUDS:
        # Where no server is left, a secret that nobody knows is in the place of ours.
        text = named[f"{instance} signaling"]
        if json.loads(text)["servers"] == []:
            named[f"{instance} signaling"] = re.sub(r'(?<="secret":")[0-9a-f]{64}(?=")', "<nobody's>", text)
    # The database has no order of its own.
    named["coturn's secrets"] = "\n".join(sorted(named["coturn's secrets"].splitlines()))
    return named


def differences(wanted: dict[str, str], found: dict[str, str]) -> str:
    """Return in what two snapshots differ, as a unified difference; empty when they are the same."""
    lines: list[str] = []
    for key in sorted({**wanted, **found}):
        pair = [side.get(key, "").splitlines() for side in (wanted, found)]
        if (key in wanted) != (key in found):
            lines.append(f"{key}: {'missing' if key in wanted else 'left over'}")
        lines += difflib.unified_diff(*pair, f"{key} undisturbed", key, lineterm="", n=1)
    return "\n".join(lines)
