# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Environments: everything from the images to a Nextcloud that answers, and its removal."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import ssl
import time
from concurrent.futures import Future, ThreadPoolExecutor

import docker

from bed import pki, registry
from bed.common import SETTINGS, BedError, Environment, engine, lock, say
from bed.families import Families
from bed.hosts import Host, create_network
from bed.images import STAND_IN_IMAGE, Images, stand_in
from bed.internet import Internet

JANUS = "nextcloud-talk-hpb/janus"


def up(environment: Environment) -> dict:
    """Bring the environment up and return its facts, which are also written to .cache/<environment>/testbed.json."""
    client = engine()
    with lock("testbed"), ThreadPoolExecutor() as pool:
        images = Images(client)
        found = images.all()
        mirror, pushes = _fill(client, images, found, pool)
        create_network(client, environment)
        mirror.join(environment)
        environment.directory.mkdir(parents=True, exist_ok=True)
        pki.authority(environment.directory, f"Test CA of {environment.prefix}")
        families = Families(client, environment)
        families.give_back()
        hosts = {
            name: Host(client, environment, name, found[settings.get("image", "host")])
            for name, settings in environment.hosts().items()
        }
        tags = {domain: _tag(reference) for domain, reference in _stand_ins(found).items()}
        list(pool.map(lambda host: host.up(tags), hosts.values()))
        list(pool.map(lambda instance: _answers(environment, instance), environment.instances().values()))
        list(pool.map(lambda host: _resolves(environment, host), hosts.values()))
        internet = Internet(client, environment)
        if internet.wanted:
            internet.up(images.net())
        if families.wanted:
            families.up(images.net())
        for push in pushes:
            push.result()
        facts = describe(environment, images) | {"internet": internet.describe(), "ipv6": families.describe()}
        (environment.directory / "testbed.json").write_text(json.dumps(facts, indent=2) + "\n")
    return facts


def fill() -> dict[str, str]:
    """Make the images and put them into the registry mirror; return the versions of the programs."""
    client = engine()
    with lock("testbed"), ThreadPoolExecutor() as pool:
        images = Images(client)
        for push in _fill(client, images, images.all(), pool)[1]:
            push.result()
    return {name: one[2] for name, one in images.published.items()}


def _tag(reference: str) -> str:
    return reference.rpartition(":")[2]


def _stand_ins(found: dict[str, str]) -> dict[str, str]:
    """Return the images of the Nextclouds that run in a container, by their domain."""
    domains = [one["domain"] for one in SETTINGS["instances"].values() if "container" in one]
    return {domain: found[stand_in(domain)] for domain in domains}


def _fill(
    client: docker.DockerClient, images: Images, found: dict[str, str], pool: ThreadPoolExecutor
) -> tuple[registry.Registry, list[Future]]:
    """Start the mirror and push into it: the stand-in at once, since the hosts need it, the rest on the side."""
    mirror = registry.Registry(client, found["registry"])
    for reference in _stand_ins(found).values():
        mirror.push(reference, f"library/{STAND_IN_IMAGE}", _tag(reference))
    wanted = [(found["base"], "library/debian", "trixie-slim"), *images.published.values()]
    return mirror, [pool.submit(mirror.push, *one) for one in wanted]


def describe(environment: Environment, images: Images) -> dict:
    """Return what scenarios and the demo need to know: addresses, names, certificates, versions, sources of Janus."""
    hosts = environment.hosts()
    names = {name: environment.host_address(host) for host in hosts for name in environment.names(host)}
    hpb = environment.names("hpb")
    certificate, key = pki.certificate(environment.directory, hpb)
    return {
        "environment": environment.name,
        "subnet": environment.subnet,
        "registry": environment.registry,
        "hosts": {
            name: {"container": environment.container(name), "address": environment.host_address(name)}
            for name in hosts
        },
        "resolve": names,
        "ca": str(environment.directory / "ca.pem"),
        "certificate": str(certificate),
        "key": str(key),
        "instances": environment.instances(),
        "versions": {name: one[2] for name, one in images.published.items()},
        "janus_sources": {
            name: {"version": one["version"], "url": f"{images.mirror}/{one['path']}", "sha256": one["sha256"]}
            for name, one in SETTINGS["janus_sources"].items()
        },
    }


def down(environment: Environment, *, caches: bool = False) -> None:
    """Remove what carries the environment's label, and nothing else; with `caches` also what all environments share."""
    client = engine()
    with lock("testbed"):
        for container in client.containers.list(all=True, filters=environment.filters):
            say(f"{container.name}: removing it")
            container.remove(force=True, v=True)
        for volume in client.volumes.list(filters=environment.filters):
            volume.remove()
        registry.leave(client, environment, caches=caches)
        for network in client.networks.list(filters=environment.filters):
            network.remove()
        shutil.rmtree(environment.directory, ignore_errors=True)


def status(environment: Environment) -> bool:
    """Print the state of each test host; return whether all run."""
    client = engine()
    states = {one.name: one.status for one in client.containers.list(all=True, filters=environment.filters)}
    for host in environment.hosts():
        name = environment.container(host)
        names = " ".join(environment.names(host))
        say(f"{name:16} {environment.host_address(host):12} {states.get(name, 'absent'):10} {names}")
    return all(states.get(environment.container(host)) == "running" for host in environment.hosts())


def mirror_janus(environment: Environment) -> list[str]:
    """Copy the Janus images of the HPB's test host into the registry mirror; return their tags.

    A fresh test host then pulls Janus under the name that the product gives it.
    """
    client = engine()
    container = client.containers.get(environment.container("hpb"))
    code, output = container.exec_run(["docker", "image", "ls", "--format", "{{.Tag}}", JANUS])
    tags = [tag for tag in output.decode().split() if tag != "<none>"] if code == 0 else []
    if not tags:
        raise BedError(f"{container.name}: expected an image {JANUS} in its engine, found none: deploy to it first.")
    mirror = registry.Registry(client, client.containers.get(registry.NAME).attrs["Config"]["Image"])
    for tag in tags:
        saved = client.api.exec_create(container.id, ["docker", "image", "save", f"{JANUS}:{tag}"], stderr=False)
        client.api.load_image(client.api.exec_start(saved["Id"], stream=True))
        mirror.push(f"{JANUS}:{tag}", JANUS, tag)
        client.images.remove(f"{JANUS}:{tag}", noprune=True)
    return tags


def _answers(environment: Environment, instance: dict) -> None:
    """Wait until https://<domain>/status.php answers with a certificate of the test CA."""
    domain, host = instance["domain"], instance["host"]
    context = ssl.create_default_context(cafile=str(environment.directory / "ca.pem"))
    problem = "no answer"
    for _ in range(60):
        try:
            with socket.create_connection((environment.host_address(host), 443), timeout=5) as plain:
                connection = http.client.HTTPConnection(domain)
                connection.sock = context.wrap_socket(plain, server_hostname=domain)
                connection.request("GET", "/status.php")
                status = connection.getresponse().status
                if status == 200:
                    return
                problem = f"status {status}"
        except OSError as error:
            problem = str(error)
        time.sleep(0.5)
    raise BedError(f"https://{domain}/status.php on {environment.container(host)}: expected status 200, got {problem}.")


def _resolves(environment: Environment, host: Host) -> None:
    """Check that a test host finds the others by name."""
    for other in environment.hosts():
        for name in environment.names(other):
            found = host.run("getent", "ahostsv4", name, check=False).split()
            if other != host.name and environment.host_address(other) not in found:
                wanted = environment.host_address(other)
                raise BedError(f"{host.container_name}: {name} should resolve to {wanted}, found {found}.")
