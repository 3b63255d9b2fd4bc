# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The deployed test hosts, as seen from the controller."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import testinfra

PROJECT = Path(__file__).resolve().parents[3]
INVENTORY = PROJECT / "molecule/default/inventory.yml"
# Another environment of the test bed may be taken, so that several are deployed side by side.
ENVIRONMENT = os.environ.get("HPB_BED") or "test"
DIRECTORY = PROJECT / ".cache" / ENVIRONMENT
BED = json.loads((DIRECTORY / "testbed.json").read_text(encoding="utf-8"))
SERVICES = ["nats", "janus", "coturn", "signalling", "traefik"]
ADDRESS = BED["hosts"]["hpb"]["address"]
HPB, WEB, OTHER = (BED["hosts"][host]["container"] for host in ("hpb", "web", "test"))


@pytest.fixture(scope="session")
def hpb():
    """The host of the backend."""
    return testinfra.get_host(f"docker://{HPB}")


@pytest.fixture(scope="session")
def web():
    """The host of the Nextclouds nc (a path) and dev_nc (a container)."""
    return testinfra.get_host(f"docker://{WEB}")


@pytest.fixture(scope="session")
def other():
    """The host of the Nextcloud test_nc."""
    return testinfra.get_host(f"docker://{OTHER}")


def play(*arguments: str, inventory: Path | None = None, playbook: str = "site.yml") -> subprocess.CompletedProcess:
    """Run a playbook of the collection as a user does; returns the finished process with its whole output."""
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"),
        "ANSIBLE_FORCE_COLOR": "false",
        "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
    }
    return subprocess.run(
        [
            str(Path(sys.executable).parent / "ansible-playbook"),
            "-i",
            str(inventory or INVENTORY),
            playbook,
            *arguments,
        ],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def recap(output: str) -> dict[str, dict[str, int]]:
    """Return the counters of the play recap: {host: {"ok": 1, "changed": 0, ...}}."""
    counters = {}
    for line in output.rpartition("PLAY RECAP")[2].splitlines():
        host, colon, rest = line.partition(" : ")
        if colon:
            counters[host.strip()] = {k: int(v) for k, v in (pair.split("=") for pair in rest.split())}
    return counters


@pytest.fixture(scope="session")
def containers(hpb) -> dict[str, dict]:
    """What `docker inspect` says of our containers, by name."""
    found = json.loads(hpb.check_output("docker inspect " + " ".join(SERVICES)))
    return {container["Name"].lstrip("/"): container for container in found}


def read_secrets(hpb) -> dict:
    """Return the generated secrets as they are now."""
    return json.loads(hpb.check_output("cat /opt/nextcloud-talk-hpb/secrets/secrets.json"))


@pytest.fixture
def secrets(hpb) -> dict:
    """The generated secrets."""
    return read_secrets(hpb)


def started(hpb) -> list[str]:
    """Return when each container was made and started; equal lists mean that none was touched."""
    return [
        hpb.check_output("docker inspect --format '{{.State.StartedAt}} {{.Created}}' %s", name) for name in SERVICES
    ]


def secret_values(secrets: dict) -> set[str]:
    """Return every secret value in the file of secrets."""
    values = {secrets[name] for name in ("session_hash_key", "session_block_key", "internal", "janus_admin")}
    for entry in secrets["instances"].values():
        values |= {entry["backend"], entry["turn"], *entry.get("next", {}).values()}
    return values


def pytest_configure(config):
    """Name the mark of tests that take minutes; `scripts/test long` runs them."""
    config.addinivalue_line("markers", "long: takes minutes")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Print the containers' logs before a failure is reported."""
    outcome = yield
    report = outcome.get_result()
    if report.when == "call" and report.failed:
        for name in SERVICES:
            log = subprocess.run(
                ["docker", "exec", HPB, "docker", "logs", "--tail", "15", name],
                capture_output=True,
                text=True,
                check=False,
            )
            report.sections.append((f"log of {name}", log.stdout + log.stderr))
