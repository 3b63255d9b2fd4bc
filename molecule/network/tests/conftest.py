# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend in one network after the other, and what is seen of it from the internet and from the LAN."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import testinfra

PROJECT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(PROJECT / "molecule/shared"))

import docker  # noqa: E402
import turn_client  # noqa: E402
from bed.common import Environment  # noqa: E402
from bed.internet import Internet  # noqa: E402
from running_call import RunningCall  # noqa: E402

NAME = os.environ.get("HPB_TEST_ENVIRONMENT") or "network"
SERVICES = ["nats", "janus", "coturn", "signalling", "traefik"]
RUN = (
    "import json, sys; from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _probe_run; "
    "print(json.dumps(_probe_run.in_child(json.load(sys.stdin))))"
)


@pytest.fixture(scope="session")
def bed() -> dict[str, Any]:
    """What the test bed says of itself."""
    return json.loads((PROJECT / f".cache/{NAME}/testbed.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def internet() -> Internet:
    """The internet of the environment."""
    return Internet(docker.from_env(), Environment(NAME))


@pytest.fixture(scope="session")
def hpb(bed):
    """The host of the backend."""
    return testinfra.get_host(f"docker://{bed['hosts']['hpb']['container']}")


@pytest.fixture(scope="session")
def private(bed) -> str:
    """The address of the host of the backend in the LAN."""
    return bed["hosts"]["hpb"]["address"]


@pytest.fixture(scope="session")
def secrets(hpb) -> dict[str, Any]:
    """The generated secrets."""
    return json.loads(hpb.check_output("cat /opt/nextcloud-talk-hpb/secrets/secrets.json"))


class Site:
    """The playbook site in one network: what it said, and how to run it again."""

    def __init__(self, variables: dict[str, Any], folder: Path) -> None:
        self.variables = variables
        self.folder = folder
        self.first = self.play()

    def play(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the playbook as a user does; returns the finished process with its whole output."""
        report = {"verify_report_dir": str(self.folder)}
        command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "molecule/network/inventory.yml"]
        return subprocess.run(
            [*command, "site.yml", "-e", json.dumps({**self.variables, **report}), *arguments],
            cwd=PROJECT,
            env={**os.environ, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "false"},
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
            stdin=subprocess.DEVNULL,
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory, internet) -> Callable[..., Site]:
    """Deploy, register and verify with these variables; fails the test with the end of the output when that fails."""

    def deploy(**variables: Any) -> Site:
        made = Site(variables, tmp_path_factory.mktemp("report"))
        print(made.first.stdout[-6000:])
        assert made.first.returncode == 0, made.first.stdout[-6000:] + made.first.stderr[-2000:]
        return made

    return deploy


def changed(output: str) -> dict[str, int]:
    """Return how much each host changed, from the play recap: {host: number}."""
    counters = {}
    for line in output.rpartition("PLAY RECAP")[2].splitlines():
        host, colon, rest = line.partition(" : ")
        if colon:
            counters[host.strip()] = int(dict(pair.split("=") for pair in rest.split())["changed"])
    return counters


def probe(bed: dict[str, Any], secrets: dict[str, Any], hpb: Any, client: str, **options: Any) -> dict[str, Any]:
    """Place calls from `outside` or `inside` as the module call_probe does; returns its result.

    `options` are the module's. Without `resolve` the client's own name server says where the names lead.
    """
    nc = secrets["instances"]["nc"]
    arguments = {
        "url": "https://talk.example.org",
        "internal_secret": secrets["internal"],
        "ca_pem": [hpb.check_output("cat /opt/nextcloud-talk-hpb/ca/ca.pem")],
        "ca_files": [],
        "resolve": {},
        "turn": {"server": "turn.example.org:3478", "protocols": ["udp", "tcp"], "tls_port": 5349},
        "instances": [
            {"id": "nc", "url": "https://nc.example.org", "secret": nc["backend"], "turn_secret": nc["turn"]}
        ],
        "duration": 2,
        "timeout": 120,
        "place": client,
        **options,
    }
    container = bed["internet"]["clients"][client]["container"]
    done = subprocess.run(
        [
            "docker",
            "exec",
            "-i",
            "-e",
            f"PYTHONPATH={PROJECT / '.tree'}",
            container,
            bed["internet"]["python"],
            "-c",
            RUN,
        ],
        input=json.dumps(arguments),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.stdout.startswith("{"), done.stdout + done.stderr
    return json.loads(done.stdout)


def steps(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the steps of the one instance by their name."""
    return {row["step"]: row for row in result["results"] if row["instance"] == "nc"}


def running_call(bed, hpb, secrets, relay: bool) -> RunningCall:
    """A call of the controller that goes on as long as the `with` block, through TURN or directly."""
    server = {
        "host": bed["hosts"]["hpb"]["address"],
        "port": 3478,
        "transport": "udp",
        "secret": secrets["instances"]["nc"]["turn"],
    }
    return RunningCall(
        {
            "url": "https://talk.example.org",
            "internal_secret": secrets["internal"],
            "ca_pem": [hpb.check_output("cat /opt/nextcloud-talk-hpb/ca/ca.pem")],
            "resolve": bed["resolve"],
            "backend": "https://nc.example.org",
            "relay": server if relay else None,
        }
    )


@pytest.fixture
def call(bed, hpb, secrets) -> Iterator[RunningCall]:
    """A call through TURN that goes on while a test does something else, and that has not suffered from it."""
    with running_call(bed, hpb, secrets, relay=True) as running:
        yield running
    assert running.figures["missing"] == []
    # A busy machine makes pauses, too; one that is forbidden in the middle of a call would have no end.
    assert max(running.figures[kind]["longest_pause"] for kind in ("audio", "video")) < 5


@pytest.fixture
def told(bed, hpb, secrets) -> Callable[[bool], list[str]]:
    """Place a call, through TURN or directly, and return the addresses at which Janus says it is reached."""

    def ask_janus(relay: bool) -> list[str]:
        with running_call(bed, hpb, secrets, relay) as running:
            pass
        return running.figures["told"]

    return ask_janus


@pytest.fixture
def ask(private, secrets) -> Callable[[list[str]], dict[str, int]]:
    """Ask coturn which peers it relays to."""
    secret = secrets["instances"]["nc"]["turn"]
    return lambda peers: asyncio.run(turn_client.ask((private, 3478), secret, peers))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Print the containers' logs before a failure is reported."""
    outcome = yield
    report = outcome.get_result()
    if report.when == "call" and report.failed:
        for name in SERVICES:
            log = subprocess.run(
                ["docker", "exec", f"hpb-{NAME}-hpb", "docker", "logs", "--tail", "15", name],
                capture_output=True,
                text=True,
                check=False,
            )
            report.sections.append((f"log of {name}", log.stdout + log.stderr))
