# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An internet beside an environment's LAN: a router between the two, and a machine on either side to place calls from.

The router translates one public address to the host of the backend and back (1:1 NAT), for what comes from the internet
only: from inside, its public address leads nowhere (no hairpin NAT). The machines have this machine's programs, the
checkout and its Python, read-only, so that the probe runs there. All addresses are reserved for documentation
(RFC 5737).
"""

from __future__ import annotations

import sys
from pathlib import Path

import docker

from bed.common import ROOT, SETTINGS, BedError, Environment, say

RULES = """
table ip translate {{
  chain inwards {{
    type nat hook prerouting priority dstnat;
    iifname "{outer}" ip daddr {public} dnat to {private}
  }}
  chain outwards {{
    type nat hook postrouting priority srcnat;
    oifname "{outer}" snat to {public}
  }}
}}
"""


def have(
    client: docker.DockerClient,
    environment: Environment,
    name: str,
    image: str,
    networks: dict[str, dict[str, str]],
    forwards: bool = False,
) -> docker.models.containers.Container:
    """Have a container on these networks ({name: its addresses}) that does nothing by itself, and return it.

    One that does not forward packets is a machine to place calls from: it has this machine's programs, the checkout and
    its Python.
    """
    container_name = environment.container(name)
    try:
        container = client.containers.get(container_name)
    except docker.errors.NotFound:
        container = None
    if container and container.attrs["Config"]["Image"] != image:
        container.remove(force=True)
        container = None
    if not container:
        say(f"{container_name}: making it")
        binds = []
        if not forwards:
            folders = {Path("/usr"), ROOT, Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()}
            binds = [f"{folder}:{folder}:ro" for folder in sorted(folders)]
        api = client.api
        (first, addresses), *others = networks.items()
        made = api.create_container(
            image,
            ["sleep", "infinity"],
            name=container_name,
            hostname=name,
            labels=environment.labels,
            host_config=api.create_host_config(
                binds=binds,
                cap_add=["NET_ADMIN"],
                sysctls={"net.ipv4.ip_forward": "1"} if forwards else None,
            ),
            networking_config=api.create_networking_config({first: api.create_endpoint_config(**addresses)}),
        )
        for network, further in others:
            client.networks.get(network).connect(made["Id"], **further)
        container = client.containers.get(container_name)
    if container.status != "running":
        container.start()
    return container


class Internet:
    """The internet of an environment that is named in `internet.environments` of bed.yml; nothing for others."""

    def __init__(self, client: docker.DockerClient, environment: Environment) -> None:
        self.client = client
        self.environment = environment
        self.settings = SETTINGS["internet"]
        self.wanted = environment.name in self.settings["environments"]
        self.name = f"{environment.prefix}-internet"
        # Sixteen of them for each environment.
        self.base = 16 * (environment.octet % 16)
        self.subnet = f"203.0.113.{self.base}/28"
        self.public = self.address("router")
        self.python = Path(sys.prefix).resolve() / "bin/python"

    def address(self, name: str) -> str:
        """Return the address in the internet of what bed.yml calls so: router, direct, or a client there."""
        places = {**self.settings["addresses"], **{key: one.get("internet") for key, one in self._clients().items()}}
        return f"203.0.113.{self.base + places[name]}"

    def _clients(self) -> dict[str, dict]:
        return self.settings["clients"]

    def container(self, name: str) -> str:
        """Return the name of the container that is the router or a client."""
        return f"{self.environment.prefix}-{name}"

    def up(self, image: str) -> None:
        """Have the network, the router and the clients; `image` is that of all of them. What is there stays."""
        if not self.wanted:
            return
        if not self.client.networks.list(names=[f"^{self.name}$"]):
            self.client.networks.create(
                self.name,
                driver="bridge",
                internal=True,
                ipam=docker.types.IPAMConfig(pool_configs=[docker.types.IPAMPool(subnet=self.subnet)]),
                labels=self.environment.labels,
            )
        router = {self.name: {"ipv4_address": self.public}}
        router[self.environment.prefix] = {"ipv4_address": self._lan("router")}
        have(self.client, self.environment, "router", image, router, forwards=True)
        for name, client in self._clients().items():
            network = self.name if "internet" in client else self.environment.prefix
            address = self.address(name) if "internet" in client else self.environment.address(client["address"])
            have(self.client, self.environment, name, image, {network: {"ipv4_address": address}})
        self._translate()
        for name in [*(key for key, one in self._clients().items() if "address" in one), "hpb"]:
            self.run(name, "ip", "route", "replace", self.subnet, "via", self._lan("router"))

    def _lan(self, name: str) -> str:
        return self.environment.address(self.settings["lan_addresses"][name])

    def run(self, name: str, *command: str, stdin: str = "") -> str:
        """Run a command in the container of `name` and return what it wrote; raises BedError when it fails."""
        line = ["sh", "-c", f"cat <<'END' | {' '.join(command)}\n{stdin}\nEND"] if stdin else list(command)
        code, output = self.client.containers.get(self.container(name)).exec_run(line)
        text = (output or b"").decode(errors="replace")
        if code:
            raise BedError(f"{self.container(name)}: {' '.join(command)} failed with status {code}: {text.strip()}")
        return text

    def _translate(self) -> None:
        """Let the router translate."""
        outer = self.run("router", "ip", "-o", "-4", "address", "show", "to", self.public).split()[1]
        private = self.environment.host_address("hpb")
        self.run("router", "nft", "flush", "ruleset")
        self.run("router", "nft", "-f", "-", stdin=RULES.format(outer=outer, public=self.public, private=private))

    def attach(self, attached: bool) -> None:
        """Give the host of the backend a public address of its own beside the private one, or take it away again."""
        network, container = self.client.networks.get(self.name), self.client.containers.get(self.container("hpb"))
        has = self.name in container.attrs["NetworkSettings"]["Networks"]
        if attached and not has:
            self.run("hpb", "ip", "route", "del", self.subnet, "via", self._lan("router"))
            network.connect(container, ipv4_address=self.address("direct"))
        elif has and not attached:
            network.disconnect(container)
            self.run("hpb", "ip", "route", "replace", self.subnet, "via", self._lan("router"))

    def describe(self) -> dict:
        """Return what scenarios need to know, {} for an environment without an internet."""
        if not self.wanted:
            return {}
        return {
            "subnet": self.subnet,
            "public": self.public,
            "direct": self.address("direct"),
            "python": str(self.python),
            "clients": {
                name: {
                    "container": self.container(name),
                    "address": self.address(name) if "internet" in one else self.environment.address(one["address"]),
                }
                for name, one in self._clients().items()
            },
        }
