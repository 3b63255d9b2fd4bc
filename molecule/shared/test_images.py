# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The images in the registry mirror have the layout of upstream's, so that what passes here passes there.

The facts come from upstream's Dockerfiles: strukturag/nextcloud-spreed-signaling docker/server, coturn/coturn
docker/coturn/debian, nats-io/nats-docker alpine, traefik/traefik-library-image alpine.
Run it with: .venv/bin/pytest molecule/shared/test_images.py (it makes the images that are missing).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import docker
import pytest
from bed.common import engine
from bed.environment import fill
from bed.images import Images

LAYOUT = {
    "nats": {
        "repository": "library/nats",
        "tag": r"\d+\.\d+\.\d+-alpine3\.\d+",
        "entrypoint": ["docker-entrypoint.sh"],
        "command": ["nats-server", "--config", "/etc/nats/nats-server.conf"],
        "ports": {"4222/tcp", "6222/tcp", "8222/tcp"},
        "program": "/usr/local/bin/nats-server",
        "version_command": ["--version"],
        "with": ["sh", "wget"],
        "without": ["bash", "curl"],
    },
    "traefik": {
        "repository": "library/traefik",
        "tag": r"v3\.\d+\.\d+",
        "entrypoint": ["/entrypoint.sh"],
        "command": ["traefik"],
        "ports": {"80/tcp"},
        "program": "/usr/local/bin/traefik",
        "version_command": ["version"],
        "with": ["sh", "wget"],
        "without": ["bash", "curl"],
    },
    "coturn": {
        "repository": "coturn/coturn",
        "tag": r"\d+\.\d+\.\d+-r\d+",
        "entrypoint": ["docker-entrypoint.sh"],
        "user": "nobody:nogroup",
        "ports": {"3478/tcp", "3478/udp", "5349/tcp", "5349/udp"},
        "volumes": {"/var/lib/coturn"},
        "program": "/usr/bin/turnserver",
        "needed": ["NET_BIND_SERVICE"],
        "version_command": ["--version"],
        "with": ["bash", "turnutils_stunclient", "turnutils_uclient", "turnadmin"],
        "without": ["curl", "wget", "sqlite3", "telnet"],
    },
    "signaling": {
        "repository": "strukturag/nextcloud-spreed-signaling",
        "tag": r"\d+\.\d+\.\d+",
        "entrypoint": ["/entrypoint.sh"],
        "environment": ["CONFIG=/config/server.conf"],
        "stop_signal": "SIGUSR1",
        "program": "/usr/bin/nextcloud-spreed-signaling",
        "version_command": ["/usr/bin/nextcloud-spreed-signaling", "-version"],
        "run_as": "850:850",
        "with": ["bash", "wget", "su-exec"],
        "without": ["curl"],
    },
}


def execute(client: docker.DockerClient, image: str, command: list[str] | None = None, **settings: object) -> str:
    """Run a container without network to its end and return what it wrote; a failed one fails the test.

    The container goes with the volumes that its image declares.
    """
    container = client.containers.create(image, command, network_mode="none", **settings)
    try:
        container.start()
        status = container.wait(timeout=60)["StatusCode"]
        output = container.logs().decode().strip()
    finally:
        container.remove(v=True, force=True)
    assert status == 0, f"{command or settings.get('entrypoint')} in {image} ended with status {status}: {output}"
    return output


@pytest.fixture(scope="session")
def client() -> docker.DockerClient:
    """Return the engine on this machine."""
    return engine()


@pytest.fixture(scope="session")
def published(client: docker.DockerClient) -> dict[str, tuple[str, str, str]]:
    """Return each program's image, repository and tag."""
    fill()
    images = Images(client)
    images.all()
    return images.published


@pytest.fixture(params=sorted(LAYOUT))
def name(request: pytest.FixtureRequest) -> str:
    """Return the name of one program after the other."""
    return request.param


@pytest.fixture
def config(client: docker.DockerClient, published: dict, name: str) -> dict:
    """Return the image's configuration."""
    return client.images.get(published[name][0]).attrs["Config"]


@pytest.fixture
def inside(client: docker.DockerClient, published: dict, name: str) -> Iterator:
    """Return a function that runs a shell command in the image as root and returns its output."""

    def run(script: str, **options: object) -> str:
        settings = {"user": "0:0", "entrypoint": ["/bin/sh", "-c", script]} | options
        return execute(client, published[name][0], **settings)

    return run


def test_published_under_upstreams_name(published: dict, name: str) -> None:
    """The product asks for these names, and pins versions of this form."""
    _, repository, tag = published[name]
    assert repository == LAYOUT[name]["repository"]
    assert re.fullmatch(LAYOUT[name]["tag"], tag)


def test_configuration(config: dict, name: str) -> None:
    """User, entrypoint, command, ports, volumes, stop signal and environment are upstream's."""
    layout = LAYOUT[name]
    assert config["Entrypoint"] == layout["entrypoint"]
    assert config["User"] == layout.get("user", "")
    assert set(config.get("ExposedPorts") or {}) == layout.get("ports", set())
    assert set(config.get("Volumes") or {}) == layout.get("volumes", set())
    assert config.get("StopSignal") == layout.get("stop_signal")
    assert "Healthcheck" not in config
    assert set(layout.get("environment", [])) <= set(config["Env"])
    if "command" in layout:
        assert config["Cmd"] == layout["command"]


def test_programs(inside, name: str) -> None:
    """The helper programs of upstream's image are there, and those that it lacks are not."""
    for program in LAYOUT[name]["with"]:
        assert inside(f"command -v {program}"), f"{program} should be in the image"
    for program in LAYOUT[name]["without"]:
        assert not inside(f"command -v {program} || true"), f"{program} should not be in the image"


def test_program_is_where_upstream_has_it(inside, name: str) -> None:
    """The program itself is at upstream's path and may be run by everybody."""
    assert inside(f"test -x {LAYOUT[name]['program']} && echo yes", user="12345:12345") == "yes"


def test_version_is_the_tags(client: docker.DockerClient, published: dict, name: str) -> None:
    """The program says the version that the tag promises, without root, capabilities or a writable file system."""
    layout = LAYOUT[name]
    said = execute(
        client,
        published[name][0],
        layout["version_command"],
        user=layout.get("run_as", "65534:65534"),
        cap_drop=["ALL"],
        cap_add=layout.get("needed", []),
        read_only=True,
        security_opt=["no-new-privileges"],
    )
    assert re.search(r"\d+\.\d+\.\d+", published[name][2]).group() in said


@pytest.mark.parametrize("name", ["coturn"], indirect=True)
def test_file_capability(client: docker.DockerClient, published: dict, name: str) -> None:
    """Without the capability in the container's set execve fails, as with upstream's image."""
    with pytest.raises(AssertionError, match="Operation not permitted"):
        execute(client, published[name][0], ["--version"], cap_drop=["ALL"])


@pytest.mark.parametrize("name", ["coturn"], indirect=True)
def test_user_owns_the_database_directory(inside, name: str) -> None:
    """The image's user is 65534 and may write where turnserver keeps its database."""
    assert inside("id -u; id -g", user=None).split() == ["65534", "65534"]
    assert inside("stat -c '%u %g' /var/lib/coturn") == "65534 65534"


@pytest.mark.parametrize("name", ["signaling"], indirect=True)
def test_account_and_configuration_directory(inside, name: str) -> None:
    """Configuration is mounted at /config and written for group 850."""
    assert inside("id -u spreedbackend; id -g spreedbackend").split() == ["850", "850"]
    assert inside("test -d /config && echo yes") == "yes"


def test_arguments_are_a_command_of_their_own(client: docker.DockerClient, published: dict, name: str) -> None:
    """An argument that is no option replaces the program."""
    assert execute(client, published[name][0], ["echo", "spoken"]) == "spoken"
