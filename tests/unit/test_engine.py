# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What kind of engine a host has, and what its refusals mean."""

from __future__ import annotations

import json
import socket
import threading

import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _engine
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._engine import Engine

BASE = "/opt/nextcloud-talk-hpb"
DOCKER = "/usr/bin/docker"
INFO = {
    "DockerRootDir": "/var/lib/docker",
    "OperatingSystem": "Debian GNU/Linux 13 (trixie)",
    "SecurityOptions": ["name=apparmor", "name=seccomp,profile=builtin", "name=cgroupns"],
}


def given(**further):
    return {**INFO, **further}


USERNS = given(SecurityOptions=["name=seccomp,profile=builtin", "name=userns"], DockerRootDir="/var/lib/docker/1.1")
ROOTLESS = given(SecurityOptions=["name=seccomp,profile=builtin", "name=rootless"])
SNAP = given(DockerRootDir="/var/snap/docker/common/var-lib-docker")


@pytest.mark.parametrize(
    ("engine", "error", "words"),
    [
        (
            Engine(DOCKER, info=SNAP),
            "",
            "Docker on this host is a snap, which does not see /opt/nextcloud-talk-hpb, expected Docker's own, as a "
            "service "
            "of this host: remove it when nothing else needs it (snap remove docker), and run the same command again, "
            "which "
            "installs Docker; or set hpb_base_dir: /home/nextcloud-talk-hpb for the group hpb, where a snap may read.",
        ),
        # Its service is stopped, so that it says nothing.
        (Engine("/snap/bin/docker"), "Cannot connect to the Docker daemon", "Docker on this host is a snap"),
        (
            Engine("/usr/bin/docker", shim=True),
            "",
            "What answers as Docker on this host is Podman, expected Docker's own, as a service of this host: remove "
            "the "
            "package podman-docker (and the link /var/run/docker.sock to Podman's socket), and run the same command "
            "again, "
            "which installs Docker beside it.",
        ),
        (Engine(DOCKER, info=given(BuildahVersion="1.39.3")), "", "What answers as Docker on this host is Podman"),
        (Engine(DOCKER, info=given(DockerRootDir="/var/lib/containers/storage")), "", "is Podman"),
        (
            Engine(DOCKER, place="unix:///run/user/1000/docker.sock", info=ROOTLESS),
            "",
            "The Docker engine of this host is a rootless one, which has no right to the host's network, expected "
            "Docker's "
            "own, as a service of this host: start that of root beside it (systemctl enable --now docker.socket "
            "docker), "
            "without DOCKER_HOST, and run the same command again.",
        ),
        (
            Engine(DOCKER, rootless=("1000",)),
            "Cannot connect to the Docker daemon",
            "is a rootless one of the user 1000, which has no right",
        ),
        (
            Engine(DOCKER, info=given(OperatingSystem="Docker Desktop")),
            "",
            "is Docker Desktop, whose containers are in",
        ),
        (
            Engine(DOCKER, place="context far"),
            "",
            "The command docker of root goes to the context far, expected Docker's own, as a service of this host: "
            "choose "
            "the usual one (docker context use default), and run the same command again.",
        ),
        (Engine(DOCKER, place="tcp://192.0.2.7:2376"), "", "DOCKER_HOST is tcp://192.0.2.7:2376 for root on this host"),
        (Engine(DOCKER, place="ssh://root@far.example.org"), "", "DOCKER_HOST is ssh://root@far.example.org for root"),
    ],
)
def test_an_engine_that_cannot_run_the_backend_is_named(engine, error, words):
    found = _engine.problem(engine, BASE, error)
    assert words in found
    assert found.endswith(".")


@pytest.mark.parametrize(
    ("engine", "error"),
    [
        (Engine(), ""),
        (Engine(DOCKER, info=INFO), ""),
        (Engine(DOCKER, info=USERNS), ""),
        # One of a user beside it is nobody's business.
        (Engine(DOCKER, rootless=("1000",), info=INFO), ""),
        (Engine(DOCKER, place="unix:///run/docker.sock", info=INFO), ""),
        # It says nothing more than that it does not answer, which is said elsewhere.
        (Engine(DOCKER), "Cannot connect to the Docker daemon"),
    ],
)
def test_an_engine_that_can(engine, error):
    assert _engine.problem(engine, BASE, error) == ""


def test_a_snap_reads_below_home():
    assert _engine.problem(Engine("/snap/bin/docker", info=SNAP), "/home/nextcloud-talk-hpb") == ""


def test_remapped_users():
    assert Engine(DOCKER, info=USERNS).remaps
    assert not Engine(DOCKER, info=INFO).remaps
    assert not Engine(DOCKER, info={}).remaps


# As engines said it to those who reported it.
SYSCTL = (
    "Error starting container 3f2a: 500 Server Error for http+docker://localhost/v1.47/containers/3f2a/start: Internal "
    'Server Error ("failed to create task for container: failed to create shim task: OCI runtime create failed: runc '
    "create "
    "failed: unable to start container process: error during container init: open sysctl "
    'net.ipv4.ip_unprivileged_port_start file: reopen fd 8: permission denied")'
)
PROFILE = (
    "AppArmor enabled on system but the docker-default profile could not be loaded: running '/usr/sbin/apparmor_parser "
    "apparmor_parser -Kr /var/lib/docker/tmp/docker-default1' failed with output: apparmor_parser: Unable to replace "
    '"docker-default".  Access denied. You need policy admin privileges to manage profiles.'
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (SYSCTL, "(Proxmox: lxc-pve 6.0.5-2 or newer; Incus: 6.19 or newer)"),
        (
            PROFILE,
            "may not load AppArmor rules: give it nesting and keyctl (Proxmox: pct set ID --features nesting=1",
        ),
        ("unable to join session keyring: unable to create session key: disk quota exceeded", "nesting=1,keyctl=1"),
        ('container init caused "join session keyring: create session key: disk quota exceeded"', "nesting=1,keyctl=1"),
        ('error mounting "proc" to rootfs at "/proc": mount proc:/proc: operation not permitted', "nesting=1,keyctl=1"),
        ('error mounting "proc" to rootfs at "/proc": permission denied', "security.nesting=true"),
        ("failed to register layer: lchown /etc/gshadow: invalid argument", "too few user numbers for the image"),
        (
            "error while creating mount source path '/opt/nextcloud-talk-hpb/nats/config': mkdir /opt: read-only file "
            "system",
            "hpb_base_dir: /home/nextcloud-talk-hpb",
        ),
        (
            "conflicting options: cannot share the host's network namespace when user namespaces are enabled",
            "(userns-remap)",
        ),
    ],
)
def test_refusals_are_recognised(text, words):
    assert words in _engine.refusal(text)
    assert not _engine.refusal(text).endswith(".")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "timeout",
        "Ports are not available: exposing port TCP 0.0.0.0:443: permission denied",
        "no space left on device",
        "pull access denied for nats, repository does not exist",
    ],
)
def test_what_is_not_known_means_nothing(text):
    assert _engine.refusal(text) == ""


@pytest.mark.parametrize(
    ("inside", "running", "kind"),
    [
        ("lxc", False, "LXC"),
        ("lxc-libvirt", False, "LXC"),
        ("lxc", True, ""),
        # Whoever runs an engine in one of these has made it so.
        ("docker", False, ""),
        ("podman", False, ""),
        ("", False, ""),
    ],
)
def test_what_a_host_needs_that_is_itself_a_container(inside, running, kind):
    found = _engine.notes(inside, running)
    assert len(found) == bool(kind)
    assert all(f"This host is itself a container ({kind})" in note and "nesting=1,keyctl=1" in note for note in found)


@pytest.mark.parametrize(
    ("files", "inside"),
    [
        ({"run/systemd/container": "lxc\n", "proc/1/environ": "TERM=linux\0container=docker\0"}, "lxc"),
        ({"proc/1/environ": "TERM=linux\0container=lxc\0"}, "lxc"),
        ({"proc/1/environ": "TERM=linux\0"}, ""),
        ({}, ""),
    ],
)
def test_inside(tmp_path, files, inside):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert _engine.inside(tmp_path) == inside


class TestLook:
    """What is read from a machine, which is a directory here."""

    @pytest.fixture
    def docker(self, tmp_path):
        path = tmp_path / "docker"
        path.write_bytes(b"\x7fELF")
        return str(path)

    def test_nothing(self, tmp_path):
        assert _engine.look(None, {}, tmp_path) == Engine()

    def test_the_shim_of_podman(self, tmp_path):
        path = tmp_path / "docker"
        path.write_text('#!/bin/sh\nexec /usr/bin/podman "$@"\n', encoding="utf-8")
        assert _engine.look(str(path), {}, tmp_path).shim
        path.unlink()
        (tmp_path / "podman").touch()
        path.symlink_to("podman")
        assert _engine.look(str(path), {}, tmp_path).shim

    def test_places(self, tmp_path, docker):
        def place(**environment):
            return _engine.look(docker, {"HOME": str(tmp_path), **environment}, tmp_path).place

        assert place() == ""
        assert place(DOCKER_HOST="tcp://192.0.2.7:2376") == "tcp://192.0.2.7:2376"
        assert place(DOCKER_CONTEXT="far") == "context far"
        (tmp_path / ".docker").mkdir()
        config = tmp_path / ".docker/config.json"
        for text, name in (
            ('{"currentContext": "far"}', "context far"),
            ('{"currentContext": "default"}', ""),
            ("[", ""),
        ):
            config.write_text(text, encoding="utf-8")
            assert place() == name
        config.write_text('{"currentContext": "far"}', encoding="utf-8")
        assert place(DOCKER_CONTEXT="default") == ""

    def test_engines_of_users(self, tmp_path, docker):
        (tmp_path / "run/user/1000").mkdir(parents=True)
        (tmp_path / "run/user/1000/docker.sock").touch()
        assert _engine.look(docker, {}, tmp_path).rootless == ("1000",)

    def test_the_engine_is_asked(self, tmp_path, docker):
        path = tmp_path / "sock"
        body = json.dumps(USERNS).encode()
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
            server.listen()

            def serve():
                link, _address = server.accept()
                with link:
                    assert link.recv(4096).startswith(b"GET /info HTTP/1.1\r\n")
                    link.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

            thread = threading.Thread(target=serve)
            thread.start()
            found = _engine.look(docker, {"DOCKER_HOST": f"unix://{path}"}, tmp_path)
            thread.join()
        assert (found.info, found.remaps, found.root) == (USERNS, True, "/var/lib/docker/1.1")

    def test_an_engine_that_says_nothing(self, tmp_path, docker):
        path = tmp_path / "sock"
        assert _engine.look(docker, {"DOCKER_HOST": f"unix://{path}"}, tmp_path).info == {}
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
        assert _engine.look(docker, {"DOCKER_HOST": f"unix://{path}"}, tmp_path).info == {}
