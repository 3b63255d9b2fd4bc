# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The look at a host as a real process: a bare host, an engine, and what is kept in the base directory."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import sys
from pathlib import Path

import module_process
import pytest
import test_ports
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _preflight

# The engine's version, and no container of ours.
DOCKER = """#!/bin/sh
case $1 in
  version) {version} ;;
  ps) test "$*" = 'ps --all --quiet --no-trunc' || exit 99 ;;
  network) test "$*" = 'network ls --quiet --no-trunc' || exit 99 ;;
  *) exit 99 ;;
esac
"""


@pytest.fixture
def look(tmp_path):
    """Run the module on this machine, whose PATH holds nothing but what a test puts into it."""
    programs = tmp_path / "bin"
    programs.mkdir()
    # Only this machine's own state may decide, so the address is one that every machine has.
    given = {"names": ["localhost"], "media_ip": "127.0.0.1", "min_free_mb": 0, "base_dir": str(tmp_path / "base")}

    def run(check=False, docker=None, **options):
        if docker is not None:
            (programs / "docker").write_text(DOCKER.format(version=docker), encoding="utf-8")
            (programs / "docker").chmod(0o755)
        return module_process.run("host_preflight", {**given, **options}, check, PATH=str(programs))

    return run


def test_a_bare_host(look, tmp_path):
    result = look()
    release = _preflight.os_release(Path("/etc/os-release").read_text(encoding="utf-8"))
    assert {key: result[key] for key in ("changed", "engine", "deployed", "secrets_exist", "media_ip", "cpus")} == {
        "changed": False,
        "engine": "",
        "deployed": {},
        "secrets_exist": False,
        "media_ip": "127.0.0.1",
        "cpus": os.cpu_count(),
    }
    assert result["engine_packages"] == _preflight.engine_packages(release["ID"], release["VERSION_ID"])
    for library in ("requests", "cryptography"):
        assert result[library] is (importlib.util.find_spec(library) is not None), sys.executable
    assert look(check=True) == result
    assert not (tmp_path / "base").exists(), "the module only reads"


def test_the_ipv6_address_is_what_is_stated_or_what_there_is(look):
    assert look(media_ip6="")["media_ip6"] == ""
    result = look(media_ip6="2001:DB8:0::99")
    assert result["media_ip6"] == "2001:db8::99"
    (problem,) = (problem for problem in result["problems"] if "hpb_media_ip6" in problem)
    assert problem.startswith("hpb_media_ip6 is 2001:db8::99, expected an address of this host")
    # Only this machine knows what there is.
    found = look()["media_ip6"]
    assert found == "" or _preflight.is_local(found)


def test_what_is_deployed_is_returned(look, tmp_path):
    deployed = {"url": "https://talk.example.org", "instances": [{"id": "nc", "url": "https://nc.example.org"}]}
    (tmp_path / "base" / "secrets").mkdir(parents=True)
    (tmp_path / "base" / "deployed.json").write_text(json.dumps(deployed), encoding="utf-8")
    (tmp_path / "base" / "secrets" / "secrets.json").write_text("{}", encoding="utf-8")
    result = look()
    assert (result["deployed"], result["secrets_exist"]) == (deployed, True)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ('{"instances": [', "Expecting value: line 1 column 16 (char 15)"),
        ("[]", "not a JSON object"),
        ("", "Expecting value: line 1 column 1 (char 0)"),
    ],
)
def test_a_damaged_memory_of_what_is_deployed_is_named(look, tmp_path, text, cause):
    (tmp_path / "base").mkdir()
    path = tmp_path / "base" / "deployed.json"
    path.write_text(text, encoding="utf-8")
    result = look()
    assert result["failed"]
    assert result["msg"] == (
        f"{path} was expected to be the JSON file that remembers what is deployed, but it cannot be read ({cause}): "
        "restore it from a backup, or move it away; the next run then takes the inventory as new."
    )
    assert path.read_text(encoding="utf-8") == text


def test_an_engine_is_asked_for_its_version(look):
    result = look(docker="echo 26.1.5")
    assert result["engine"] == "26.1.5"
    assert [problem for problem in result["problems"] if "engine" in problem] == []


@pytest.mark.parametrize(
    ("docker", "cause"),
    [
        ("echo 'first line' >&2; echo 'Cannot connect to the Docker daemon.' >&2; exit 1", "Cannot connect to the"),
        ("exit 1", "no answer"),
    ],
)
def test_an_engine_that_does_not_answer_is_a_problem(look, docker, cause):
    result = look(docker=docker)
    assert result["engine"] == ""
    (problem,) = (problem for problem in result["problems"] if "Docker" in problem)
    assert problem.startswith(f"A Docker engine is installed on this host, but does not answer: {cause}")
    assert "first line" not in problem


def test_a_port_of_somebody_else_is_a_problem(look):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        ports = {**test_ports.USUAL, "signaling": port}
        result = look(docker="echo 26.1.5", tcp_ports=[port], udp_ports=[], used_ports=ports)
    (problem,) = (problem for problem in result["problems"] if problem.startswith("Port "))
    holder = _preflight.process_name(os.getpid())
    assert problem.startswith(f"Port tcp/{port} is held by {holder}, which is not ours: set hpb_signaling_port: ")


# One container of ours, whose process number none has.
CONTAINERS = """#!/bin/sh
case "$*" in
  version*) echo 26.1.5 ;;
  ps*) echo 0123 ;;
  "network ls"*) echo 45 67 89 ;;
  "network inspect"*) echo '[{"Name": "hpb-edge", "Labels": {"nextcloud-talk.hpb": "network"}}, {"Name": "bridge"},
    {"Name": "hpb-core", "Labels": {"nextcloud-talk.hpb": "network"}}]' ;;
  "container inspect 0123") echo '[{"Name": "/traefik",
    "Config": {"Image": "traefik:v3", "Labels": {"nextcloud-talk.hpb": "traefik"}},
    "State": {"Pid": 4194305, "StartedAt": "2026-01-01T00:00:00Z", "Running": true},
    "HostConfig": {"PortBindings": {"PORT/tcp": [], "1/udp": []}}}]' ;;
  *) exit 99 ;;
esac
"""


def test_a_port_that_docker_holds_for_us_is_ours(look, tmp_path):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        (tmp_path / "bin/docker").write_text(CONTAINERS.replace("PORT", str(port)), encoding="utf-8")
        (tmp_path / "bin/docker").chmod(0o755)
        result = look(tcp_ports=[port])
    assert [problem for problem in result["problems"] if problem.startswith("Port ")] == []
    assert result["containers"] == {"traefik": "2026-01-01T00:00:00Z"}
    assert result["images"] == {"traefik": "traefik:v3"}
    assert result["networks"] == ["hpb-core", "hpb-edge"]
    assert result["settled"] == {}


def test_private_networks_may_not_lie_over_others(look):
    """This machine's own routes decide; the one to its first network is taken."""
    routes = _preflight.routes(Path("/proc/net/route").read_text(encoding="ascii"))
    if not routes:
        pytest.skip("this machine has no IPv4 network")
    interface, network = routes[0]
    (problem,) = (problem for problem in look(subnet=network)["problems"] if "overlaps" in problem)
    assert f"hpb_bridge_subnet is {network}, which overlaps with {network} of the interface {interface}" in problem


def test_a_range_for_media_is_none_of_the_kernels(look):
    """This machine's own kernel decides."""
    low, high = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()
    wanted = {"name": "coturn_min_port to coturn_max_port", "first": int(high), "last": int(high)}
    (problem,) = (problem for problem in look(ranges=[wanted])["problems"] if "kernel" in problem)
    assert f"coturn_min_port to coturn_max_port is {high}, expected" in problem and f"({low}-{high})" in problem


@pytest.mark.parametrize("units", [[], ["nextcloud-talk-hpb-turn-certificate.path"]])
def test_units_are_judged_that_there_are_to_be(look, units):
    assert [problem for problem in look(units=units)["problems"] if "unit" in problem] == []


def test_every_fault_of_a_host_is_returned_at_once(look):
    result = look(names=["talk.invalid"], media_ip="192.0.2.99", min_free_mb=10**9)
    words = ["talk.invalid does not resolve", "hpb_media_ip is 192.0.2.99", "MiB free, expected at least 1000000000"]
    assert [word for word in words if not any(word in problem for problem in result["problems"])] == []


def test_what_has_a_name_of_ours_is_a_problem(look, tmp_path):
    ours = '"Labels": {"nextcloud-talk.hpb": "traefik"}'
    text = CONTAINERS.replace(ours, '"Labels": {"com.docker.compose.project": "shop"}')
    (tmp_path / "bin").mkdir(exist_ok=True)
    (tmp_path / "bin/docker").write_text(text, encoding="utf-8")
    (tmp_path / "bin/docker").chmod(0o755)
    (tmp_path / "base/janus/etc").mkdir(parents=True)
    for check in (True, False):
        result = look(check, containers=["nats", "traefik"])
        assert [problem for problem in result["problems"] if "ours" in problem] == [
            "The container traefik (image traefik:v3, compose project shop, running) has the name of one of ours and "
            "is not ours, expected that name free: set hpb_container_prefix: hpb- for the group hpb, so that ours is "
            "called hpb-traefik beside it.",
            f"{tmp_path}/base (hpb_base_dir) has janus in it, which is not ours (there is no containers.json, "
            "deployed.json or secrets/secrets.json beside), expected a directory of the backend's own: set another "
            "hpb_base_dir for the group hpb.",
        ]
        assert (result["containers"], result["images"]) == ({}, {})
    (tmp_path / "base/deployed.json").write_text("{}", encoding="utf-8")
    result = look(containers=["nats", "traefik"], container_prefix="hpb-")
    assert [problem for problem in result["problems"] if "ours" in problem] == []
