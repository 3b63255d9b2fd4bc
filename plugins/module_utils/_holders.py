# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who holds a port that the backend is to have, and how the two live beside each other. Everything here is pure.

What holds a port was there before: the way out is another port for the backend, or the web server that is there as its
proxy. That somebody stops what he runs is never the first advice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _ports

WEB = ("tcp/80", "tcp/443")
# Programs and images by what hpb_proxy calls the proxy that they are; images by the end of their names.
KINDS = {
    "nginx": "nginx",
    "openresty": "nginx",
    "angie": "nginx",
    "freenginx": "nginx",
    "apache2": "apache",
    "httpd": "apache",
    "caddy": "caddy",
    "haproxy": "haproxy",
    "traefik": "traefik",
}
# Programs and images that relay media, as ours does.
TURN_SERVERS = ("turnserver", "coturn", "eturnal", "aio-talk")
# Programs of Docker's that hold a port for a container.
_DOCKERS = ("docker-proxy", "dockerd")


class Holder(NamedTuple):
    """A process that listens, and the container that it belongs to ("" for none).

    The latter with its image, its compose project and its network of Docker's ("" for the host's own).
    """

    process: str
    container: str = ""
    image: str = ""
    project: str = ""
    network: str = ""

    @property
    def text(self) -> str:
        """Return it in words."""
        if not self.container:
            return self.process
        project = f", of the compose project {self.project}" if self.project else ""
        return f"the container {self.container} (image {self.image}{project})"

    @property
    def names(self) -> list[str]:
        """Return by which names what runs there is known: that of the program and the last part of the image's."""
        image = self.image.partition("@")[0].rpartition("/")[2].partition(":")[0]
        return [self.process, image] if self.container else [self.process]

    @property
    def kind(self) -> str:
        """Return what kind of proxy it is, as hpb_proxy calls it, "" for none that is known."""
        return next((KINDS[name] for name in self.names if name in KINDS), "")


def holder(
    port: str, process: str, pid: int, containers: Iterable[Mapping[str, Any]], within: Callable[..., bool]
) -> Holder:
    """Return who holds a port such as ``tcp/443``.

    process and pid: the process that listens, 0 for an unknown one. containers: those that run, as the engine describes
    them. within: whether a process is one of others or descends from one (`_preflight.descends`).
    """
    published = "/".join(reversed(port.split("/")))
    number = port.partition("/")[2]
    for entry in containers:
        settings = entry.get("HostConfig") or {}
        bindings = [one for found in (settings.get("PortBindings") or {}).items() for one in _bound(found, published)]
        own = int((entry.get("State") or {}).get("Pid") or 0)
        if number in bindings and process in (*_DOCKERS, "") or pid and own and within(pid, {own}):
            config = entry.get("Config") or {}
            project = (config.get("Labels") or {}).get("com.docker.compose.project", "")
            network = str(settings.get("NetworkMode") or "")
            networks = list((entry.get("NetworkSettings") or {}).get("Networks") or {})
            place = "" if network == "host" else next(iter(networks), "")
            return Holder(process, str(entry.get("Name", "")).lstrip("/"), str(config.get("Image", "")), project, place)
    return Holder(process or "an unknown process")


def _bound(binding: tuple[str, Any], published: str) -> list[str]:
    """Return the ports of the host that are bound for one of a container's, of the protocol of `published`."""
    inner, places = binding
    if inner.partition("/")[2] != published.partition("/")[2]:
        return []
    return [str(place.get("HostPort") or "") for place in places or []]


def problems(taken: Mapping[str, Holder], settings: Mapping[str, Any], busy: Iterable[str]) -> list[str]:
    """Return a sentence for each holder of ports that are to be ours, with the variables that lead past it.

    taken: {"tcp/443": Holder}. settings: as `_ports` takes them. busy: all ports on which something listens, as
    ``tcp/8081``.
    """
    if not taken:
        return []
    found = []
    variables = {
        f"{protocol}/{first}": use.variable
        for use in (_ports.uses(settings) if settings else [])
        for protocol, first, last in use.spans
        if first == last
    }
    groups: dict[tuple[str, Holder], list[str]] = {}
    for port in sorted(taken, key=lambda port: (port.partition("/")[0], int(port.partition("/")[2]))):
        groups.setdefault((variables.get(port, ""), taken[port]), []).append(port)
    for (variable, who), ports in groups.items():
        several = len(ports) > 1
        held = f"Port{'s' if several else ''} {' and '.join(ports)} {'are' if several else 'is'} held by {who.text}, "
        if variable:
            found.append(f"{held}{_another(variable, ports, who, settings, busy)}")
        elif set(ports) <= set(WEB):
            found.append(f"{held}{_beside(who, settings)}")
        else:
            found.append(f"{held}which is not ours: move it to another port, and run the same command again.")
    return found


def _another(variable: str, ports: list[str], who: Holder, settings: Mapping[str, Any], busy: Iterable[str]) -> str:
    """Return how the backend gets another port."""
    protocols = {port.partition("/")[0] for port in ports}
    if variable == _ports.TURN[0]:
        protocols = {"tcp", "udp"}
    number = free(int(ports[0].partition("/")[2]), protocols, settings, busy)
    outside = variable in (_ports.TURN[0], _ports.TURN_TLS[0])
    open_it = ", and let the firewalls and the router pass it" if outside else ""
    needless = (
        "; where that was for Talk alone, ours replaces it, and it can be stopped instead"
        if outside and set(who.names) & set(TURN_SERVERS)
        else ""
    )
    return f"which is not ours: set {variable}: {number} for the group hpb{open_it}{needless}."


def free(start: int, protocols: Iterable[str], settings: Mapping[str, Any], busy: Iterable[str]) -> int:
    """Return the next port after `start` on which nothing listens and that the backend has not for something else."""
    held = set(busy)
    spans = [span for use in _ports.uses(settings) for span in use.spans]
    for number in range(start + 1, _ports.LAST):
        mine = any(protocol in protocols and first <= number <= last for protocol, first, last in spans)
        if not mine and not any(f"{protocol}/{number}" in held for protocol in protocols):
            return number
    return start


def _beside(who: Holder, settings: Mapping[str, Any]) -> str:
    """Return how the backend lives beside a web server that is there."""
    words = ["traefik_enabled: false"]
    if who.kind:
        words.append(f"hpb_proxy: {who.kind}")
    if who.network:
        words += [f"hpb_proxy_network: {who.network}", f"hpb_proxy_container: {who.container}"]
    if settings.get("profile") == "bridge":
        words.append("hpb_network_profile: host")
    variables = f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]
    if who.kind:
        return (
            f"which can serve the backend beside what it serves now: set {variables} for the group hpb; the run then "
            "writes what belongs into its configuration, and says where."
        )
    return (
        f"which is not ours: when it is a web server that can pass on to another one, set {variables} for the group "
        "hpb, "
        "and the run writes what belongs into its configuration; else move it to another port, and run the same "
        "command "
        "again."
    )
