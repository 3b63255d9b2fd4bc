# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The deployed test hosts of the scenario tls, as seen from the controller."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import testinfra

PROJECT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(PROJECT / "molecule/shared"), str(PROJECT / ".tree")]
CACHE = PROJECT / ".cache/tls"
ADDRESS, OURS = "10.87.15.10", "10.87.15.1"
TALK, TURN, TURN443 = "talk.example.org", "turn.example.org", "turn443.example.org"
CONTAINERS = ["nats", "janus", "coturn", "coturn443", "signalling", "traefik"]


@pytest.fixture(scope="session")
def hpb():
    """The host of the backend."""
    return testinfra.get_host("docker://hpb-tls-hpb")


@pytest.fixture(scope="session")
def web():
    """The host of the Nextcloud nc."""
    return testinfra.get_host("docker://hpb-tls-web")


def play(*arguments: str, playbook: str = "site.yml") -> subprocess.CompletedProcess:
    """Run a playbook of the collection as a user does; returns the finished process with its whole output."""
    return subprocess.run(
        [
            Path(sys.executable).parent / "ansible-playbook",
            "-i",
            PROJECT / "molecule/tls/inventory.yml",
            playbook,
            *arguments,
        ],
        cwd=PROJECT,
        env={**os.environ, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "false"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@contextlib.contextmanager
def tls(port: int, name: str) -> Iterator[ssl.SSLSocket]:
    """A TLS connection to the host of the backend, whose certificate must hold for `name` by the ACME server's root."""
    context = ssl.create_default_context(cafile=str(CACHE / "acme-root.pem"))
    with (
        socket.create_connection((ADDRESS, port), 10) as plain,
        context.wrap_socket(plain, server_hostname=name) as stream,
    ):
        yield stream


def certificate(port: int, name: str) -> dict:
    """Return the certificate that is shown, checked as a client does."""
    with tls(port, name) as stream:
        return stream.getpeercert()


def read_secrets(hpb) -> dict:
    """Return the generated secrets as they are now."""
    return json.loads(hpb.check_output("cat /opt/nextcloud-talk-hpb/secrets/secrets.json"))


def started(hpb) -> list[str]:
    """Return when each container was made and started; equal lists mean that none was touched."""
    return [
        hpb.check_output("docker inspect --format '{{.State.StartedAt}} {{.Created}}' %s", name) for name in CONTAINERS
    ]


@contextlib.contextmanager
def firewall(hpb, *rules: str) -> Iterator[None]:
    """Rules of iptables in front of all others, as long as the block lasts."""
    done: list[str] = []
    try:
        for rule in rules:
            hpb.check_output(f"iptables -I {rule}")
            done.insert(0, rule)
        yield
    finally:
        for rule in done:
            hpb.check_output(f"iptables -D {rule}")


def pytest_configure(config):
    """Name the mark of tests that take minutes, as in the scenario default."""
    config.addinivalue_line("markers", "long: takes minutes")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Print the containers' logs before a failure is reported."""
    report = (yield).get_result()
    if report.when == "call" and report.failed:
        for name in CONTAINERS:
            argv = ["docker", "exec", "hpb-tls-hpb", "docker", "logs", "--tail", "15", name]
            log = subprocess.run(argv, capture_output=True, text=True, check=False)
            report.sections.append((f"log of {name}", log.stdout + log.stderr))
