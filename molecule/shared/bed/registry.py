# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registry mirror: one container for all environments, which the engines inside the test hosts pull from."""

from __future__ import annotations

import time

import docker
import requests

from bed.common import LABEL, LOCAL, SETTINGS, BedError, Environment, say

NAME = "hpb-testbed-registry"
VOLUME = "hpb-testbed-registry"
SHARED_BY_ALL = {LABEL: "shared"}
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"


class Registry:
    """The mirror's container, started from `image`."""

    def __init__(self, client: docker.DockerClient, image: str) -> None:
        self.client = client
        self.container = self._start(image)
        self.address = self._published()

    def _start(self, image: str) -> docker.models.containers.Container:
        try:
            container = self.client.containers.get(NAME)
        except docker.errors.NotFound:
            container = None
        if container and container.attrs["Config"]["Image"] != image:
            container.remove(force=True)
            container = None
        if not container:
            say("registry mirror: starting it")
            return self.client.containers.run(
                image,
                name=NAME,
                detach=True,
                labels=SHARED_BY_ALL,
                ports={"5000/tcp": ("127.0.0.1", None)},
                volumes={VOLUME: {"bind": "/var/lib/registry"}},
                restart_policy={"Name": "unless-stopped"},
            )
        if container.status != "running":
            container.start()
        return container

    def _published(self) -> str:
        for _ in range(100):
            self.container.reload()
            bindings = self.container.ports.get("5000/tcp")
            if bindings:
                address = f"127.0.0.1:{bindings[0]['HostPort']}"
                try:
                    requests.get(f"http://{address}/v2/", timeout=2).raise_for_status()
                    return address
                except requests.RequestException:
                    pass
            time.sleep(0.1)
        raise BedError(f"{NAME}: the registry mirror does not answer: see docker logs {NAME}.")

    def join(self, environment: Environment) -> None:
        """Give the mirror its address in the environment's network."""
        network = self.client.networks.get(environment.prefix)
        self.container.reload()
        if environment.prefix not in self.container.attrs["NetworkSettings"]["Networks"]:
            network.connect(self.container, ipv4_address=environment.address(SETTINGS["registry_address"]))

    def has(self, repository: str, tag: str, image_id: str) -> bool:
        """Return whether the mirror holds exactly this image under that name."""
        answer = requests.get(
            f"http://{self.address}/v2/{repository}/manifests/{tag}", headers={"Accept": MANIFEST}, timeout=10
        )
        if not answer.ok:
            return False
        return image_id in (answer.json().get("config", {}).get("digest"), answer.headers.get("Docker-Content-Digest"))

    def push(self, reference: str, repository: str, tag: str) -> None:
        """Put the local image `reference` into the mirror as repository:tag, unless it is there."""
        image = self.client.images.get(reference)
        if self.has(repository, tag, image.id):
            return
        say(f"registry mirror: pushing {repository}:{tag}")
        target = f"{self.address}/{repository}"
        image.tag(target, tag)
        try:
            for line in self.client.images.push(target, tag, stream=True, decode=True):
                if "error" in line:
                    raise BedError(f"{repository}:{tag}: the registry mirror refuses it: {line['error']}")
        finally:
            self.client.images.remove(f"{target}:{tag}", noprune=True)


def leave(client: docker.DockerClient, environment: Environment, *, caches: bool) -> None:
    """Take the mirror out of the environment's network; remove it with the last one, its volume with `caches`."""
    try:
        container = client.containers.get(NAME)
    except docker.errors.NotFound:
        container = None
    if container:
        networks = container.attrs["NetworkSettings"]["Networks"]
        if environment.prefix in networks:
            client.networks.get(environment.prefix).disconnect(container, force=True)
        if not set(networks) - {environment.prefix, "bridge"}:
            container.remove(force=True)
    if caches and not client.containers.list(all=True, filters={"label": LABEL}):
        for volume in client.volumes.list(filters={"name": VOLUME}):
            volume.remove()
        for image in client.images.list():
            for tag in image.tags:
                if tag.startswith(f"{LOCAL}/"):
                    client.images.remove(tag, force=True)
