# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbooks as a user runs them, the names of the backend, and calls that go on meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "shared"))

import docker  # noqa: E402
import traces  # noqa: E402
from bed.common import Environment  # noqa: E402
from running_call import RunningCall  # noqa: E402

PROJECT, NAME, CACHE = traces.PROJECT, traces.NAME, traces.CACHE
NAMES = ["talk.example.org", "turn.example.org"]
ANSIBLE = Path(sys.executable).parent / "ansible-playbook"


@pytest.fixture(scope="session")
def bed() -> dict[str, Any]:
    """What the test bed says of itself."""
    return json.loads((CACHE / "testbed.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def before() -> dict[str, Any]:
    """What there was before the first run."""
    return json.loads((CACHE / "before.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def vault() -> Path:
    """The file of the backup, encrypted with the password in the file `password` beside it."""
    (CACHE / "password").write_text("the-password-of-the-backup\n", encoding="utf-8")
    file = CACHE / "backup.vault"
    file.unlink(missing_ok=True)
    return file


def command(playbook: str, *arguments: str) -> list[str]:
    """Return the command line of a playbook."""
    return [str(ANSIBLE), "-i", "molecule/lifecycle/inventory.yml", f"playbooks/{playbook}.yml", *arguments]


def environment() -> dict[str, str]:
    """Return the environment of a playbook."""
    return {**os.environ, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "false"}


def play(playbook: str, *arguments: str, password: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a playbook of the collection as a user does; no secret may be in what it prints."""
    vault = ["--vault-password-file", str(CACHE / "password")] if password else []
    known = secret_values("hpb") | secret_values("hpb2")
    done = subprocess.run(
        command(playbook, "--diff", *arguments, *vault),
        cwd=PROJECT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    print(f"--- {playbook} {' '.join(arguments)}\n{done.stdout[-5000:]}")
    for value in known | secret_values("hpb") | secret_values("hpb2"):
        assert value not in done.stdout + done.stderr
    return done


def changed(output: str) -> dict[str, int]:
    """Return how much each host changed, from the play recap."""
    counters = {}
    for line in output.rpartition("PLAY RECAP")[2].splitlines():
        host, colon, rest = line.partition(" : ")
        if colon:
            counters[host.strip()] = int(dict(pair.split("=") for pair in rest.split())["changed"])
    return counters


def secrets_of(host: str) -> dict[str, Any]:
    """Return the secrets on a host, empty when it has none."""
    text = traces.run(host, "sh", "-c", "cat /opt/nextcloud-talk-hpb/secrets/secrets.json 2>/dev/null || echo {}")
    return json.loads(text)


def secret_values(host: str) -> set[str]:
    """Return every secret value on a host."""
    secrets = secrets_of(host)
    values = {value for name, value in secrets.items() if isinstance(value, str)}
    for entry in secrets.get("instances", {}).values():
        values |= {entry["backend"], entry["turn"]}
    return values


def running(host: str) -> list[str]:
    """Return the names of our containers that run on a host."""
    form = ["--filter", "label=nextcloud-talk.hpb", "--format", "{{.Names}}"]
    return sorted(traces.run(host, "docker", "ps", *form).split())


def lead_to(host: str) -> None:
    """Have the names of the backend lead to this host, for all test hosts."""
    bed = Environment(NAME)
    client = docker.from_env()
    network = client.networks.get(bed.prefix)
    for machine in traces.HOSTS:
        network.disconnect(bed.container(machine))
        names = NAMES if machine == host else []
        network.connect(bed.container(machine), aliases=names, ipv4_address=bed.host_address(machine))


def call_at(host: str, bed: dict[str, Any]) -> RunningCall:
    """A call at the backend on this host that goes on as long as the `with` block."""
    secrets = secrets_of(host)
    address = bed["hosts"][host]["address"]
    return RunningCall(
        {
            "url": "https://talk.example.org",
            "internal_secret": secrets["internal"],
            "ca_pem": [traces.run(host, "cat", "/opt/nextcloud-talk-hpb/ca/ca.pem")],
            "resolve": {**bed["resolve"], **dict.fromkeys(NAMES, address)},
            "backend": "https://nc.example.org",
            "relay": None,
        }
    )


def stored() -> dict[str, Any]:
    """Return what each Nextcloud has stored, and when that was last written."""
    roots = {"nc": "/var/www/nc", "dev_nc": "/var/www/html", "test_nc": "/var/www/html"}
    found = {}
    for name, (host, occ) in traces.OCC.items():
        inside = occ[: occ.index("php")]
        times = traces.run(host, *inside, "stat", "-c", "%y", f"{roots[name]}/data/nextcloud.db")
        found[name] = {**traces.talk(name), "written": times}
    return found
