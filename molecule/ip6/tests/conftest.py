# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend with IPv6 and without, and what is seen of it over either family."""

from __future__ import annotations

import asyncio
import contextlib
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
# What is forbidden is the same in every network.
sys.path[:0] = [str(PROJECT / "molecule/shared"), str(PROJECT / "molecule/network/tests")]

import turn_client  # noqa: E402
from running_call import RunningCall  # noqa: E402

SERVICES = ["nats", "janus", "coturn", "signalling", "traefik"]
BASE = "/opt/nextcloud-talk-hpb"
PROBE = (
    "import json, sys; from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _probe_run; "
    "print(json.dumps(_probe_run.in_child(json.load(sys.stdin))))"
)


class Backend:
    """The backend of one environment, deployed by `site`; `first` is what the playbook said."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.bed = json.loads((PROJECT / f".cache/{name}/testbed.json").read_text(encoding="utf-8"))
        self.hpb = testinfra.get_host(f"docker://{self.bed['hosts']['hpb']['container']}")
        self.first = self.play()

    def play(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the playbook site as a user does; returns the finished process with its whole output."""
        command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "molecule/ip6/inventory.yml"]
        settings = {"ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "false"}
        return subprocess.run(
            [*command, "site.yml", "-e", json.dumps({"verify_report_dir": str(self.folder)}), *arguments],
            cwd=PROJECT,
            env={**os.environ, **settings, "HPB_TEST_ENVIRONMENT": self.name},
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def text(self, path: str) -> str:
        """Return a file of the backend."""
        return self.hpb.check_output(f"cat {BASE}/{path}")

    @property
    def secrets(self) -> dict[str, Any]:
        """The generated secrets."""
        return json.loads(self.text("secrets/secrets.json"))

    @property
    def turn_secret(self) -> str:
        """The TURN secret of one instance."""
        return self.secrets["instances"]["nc"]["turn"]

    def listening(self) -> list[tuple[str, str]]:
        """Return (address, program) of all sockets that take packets or connections on the host."""
        found = []
        for line in self.hpb.check_output("ss -Hltunp").splitlines():
            address = line.split()[4].rpartition(":")[0].strip("[]").partition("%")[0]
            found.append((address, line.split('users:(("')[1].partition('"')[0] if "users:" in line else ""))
        return found

    def probe(self, client: str, **options: Any) -> dict[tuple[str, str], dict[str, Any]]:
        """Place calls from a client's machine as the module call_probe does; returns the steps.

        The client's own name server says where the names lead.
        """
        secrets = self.secrets
        instances = [
            {"id": id_, "url": url, "secret": one["backend"], "turn_secret": one["turn"]}
            for id_, url in (("nc", "https://nc.example.org"), ("test_nc", "https://test.example.org"))
            for one in (secrets["instances"][id_],)
        ]
        arguments = {
            "url": "https://talk.example.org",
            "internal_secret": secrets["internal"],
            "ca_pem": [self.text("ca/ca.pem")],
            "ca_files": [],
            "resolve": {},
            "turn": {"server": "turn.example.org:3478", "protocols": ["udp", "tcp"], "tls_port": 5349},
            "instances": instances,
            "duration": 2,
            "timeout": 120,
            "place": client,
            **options,
        }
        ipv6 = self.bed["ipv6"]
        command = ["docker", "exec", "-i", "-e", f"PYTHONPATH={PROJECT / '.tree'}"]
        done = subprocess.run(
            [*command, ipv6["clients"][client]["container"], ipv6["python"], "-c", PROBE],
            input=json.dumps(arguments),
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.stdout.startswith("{"), done.stdout + done.stderr
        return {(row["instance"], row["step"]): row for row in json.loads(done.stdout)["results"]}

    def call(self, relay: dict[str, Any] | None = None) -> RunningCall:
        """A call of the controller that goes on as long as the `with` block, directly or through this TURN server."""
        # An address of IPv6 needs a name, since the client takes no other.
        name = "turn-server.invalid"
        usual = {"port": 3478, "transport": "udp", "secret": self.turn_secret}
        server = {**usual, **relay, "host": name} if relay else None
        return RunningCall(
            {
                "url": "https://talk.example.org",
                "internal_secret": self.secrets["internal"],
                "ca_pem": [self.text("ca/ca.pem")],
                "resolve": {**self.bed["resolve"], **({name: relay["host"]} if relay else {})},
                "backend": "https://nc.example.org",
                "relay": server,
            }
        )

    def ask(self, server: str, peers: list[str], family: str) -> dict[str, int]:
        """Ask coturn at an address of its own which peers it relays to from a relay of a family."""
        return asyncio.run(turn_client.ask((server, 3478), self.turn_secret, peers, family))

    @contextlib.contextmanager
    def led_to(self, name: str, addresses: list[str]) -> Iterator[None]:
        """Let a name lead to these addresses on the host of the backend."""
        lines = "\n".join(f"{address} {name}" for address in addresses)
        before = self.hpb.check_output("cat /etc/hosts")
        # Docker has mounted the file, so it can only be written into.
        self.hpb.check_output("printf '%%s\\n' %s >> /etc/hosts", lines)
        try:
            yield
        finally:
            self.hpb.check_output("printf '%%s\\n' %s > /etc/hosts", before)


def changed(output: str) -> dict[str, int]:
    """Return how much each host changed, from the play recap: {host: number}."""
    counters = {}
    for line in output.rpartition("PLAY RECAP")[2].splitlines():
        host, colon, rest = line.partition(" : ")
        if colon:
            counters[host.strip()] = int(dict(pair.split("=") for pair in rest.split())["changed"])
    return counters


@pytest.fixture(scope="module")
def deploy(tmp_path_factory) -> Callable[[str], Backend]:
    """Deploy, register and verify in an environment; fails the test with the end of the output when that fails."""

    def made(name: str) -> Backend:
        backend = Backend(name, tmp_path_factory.mktemp("report"))
        print(backend.first.stdout[-6000:])
        assert backend.first.returncode == 0, backend.first.stdout[-6000:] + backend.first.stderr[-2000:]
        return backend

    return made
