# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines to place calls from over IPv4 and IPv6, and over IPv6 alone, in an environment that has both.

Their name server is the engine's, which knows all names of the environment with the addresses of both families, so that
a machine without IPv4 learns of addresses that it cannot reach, as in the internet.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import docker

from bed.common import SETTINGS, BedError, Environment
from bed.internet import have


class Families:
    """The machines of an environment that bed.yml calls `both`; nothing for others."""

    def __init__(self, client: docker.DockerClient, environment: Environment) -> None:
        self.client = client
        self.environment = environment
        self.wanted = environment.ipv6 == "both"
        self.clients = SETTINGS["ipv6"]["clients"]
        self.python = Path(sys.prefix).resolve() / "bin/python"

    def give_back(self) -> None:
        """Give the hosts that have IPv6 only their IPv4 addresses back, for what the test bed itself does there."""
        for host in SETTINGS["ipv6"]["only"] if self.wanted else ():
            with contextlib.suppress(docker.errors.NotFound):
                container = self.client.containers.get(self.environment.container(host))
                if container.status == "running":
                    with_ipv4(container, self.environment.host_address(host), self.environment.address(1))

    def up(self, image: str) -> None:
        """Have the machines, and take away IPv4 where there is to be none; `image` is that of all machines."""
        for name, one in self.clients.items() if self.wanted else ():
            addresses = {"ipv4_address": self.environment.address(one["address"])}
            addresses["ipv6_address"] = self.environment.address6(one["address"])
            container = have(self.client, self.environment, name, image, {self.environment.prefix: addresses})
            if not one["ipv4"]:
                without_ipv4(container)
        for host in SETTINGS["ipv6"]["only"] if self.wanted else ():
            without_ipv4(self.client.containers.get(self.environment.container(host)))

    def describe(self) -> dict:
        """Return what scenarios need to know, {} for an environment without these machines."""
        if not self.wanted:
            return {}
        environment = self.environment
        return {
            "subnet": environment.subnet6,
            "python": str(self.python),
            "hosts": {name: environment.host_address6(name) for name in SETTINGS["hosts"]},
            "resolve": {
                name: environment.host_address6(host) for host in SETTINGS["hosts"] for name in environment.names(host)
            },
            "clients": {
                name: {"container": environment.container(name), "address": environment.address6(one["address"])}
                for name, one in self.clients.items()
            },
        }


def without_ipv4(container: docker.models.containers.Container) -> None:
    """Take a container's IPv4 addresses away, but for the loopback's, where its name server is."""
    code, output = container.exec_run(["ip", "-4", "address", "flush", "scope", "global"])
    if code:
        raise BedError(f"{container.name}: its IPv4 addresses should be gone, but: {(output or b'').decode().strip()}")


def with_ipv4(container: docker.models.containers.Container, address: str, gateway: str) -> None:
    """Give a container that is on one network its IPv4 address back; nothing where it has it."""
    script = f"ip address replace {address}/24 dev eth0 && ip route replace default via {gateway}"
    code, output = container.exec_run(["sh", "-c", script])
    if code:
        raise BedError(f"{container.name}: expected to have {address} again, but: {(output or b'').decode().strip()}")
