# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hardening and cost of the five containers, as Docker itself describes them."""

from __future__ import annotations

import json
import re

import pytest
from conftest import SERVICES, secret_values

CAPABILITIES = {"coturn": ["NET_BIND_SERVICE"], "traefik": ["NET_BIND_SERVICE"]}
USERS = {
    "nats": "65534:65534",
    "janus": "65534:65534",
    "coturn": "65534:65534",
    "signalling": "850:850",
    "traefik": "0:0",
}


@pytest.mark.parametrize("name", SERVICES)
def test_hardening(containers, name):
    container = containers[name]
    host = container["HostConfig"]
    assert container["State"]["Health"]["Status"] == "healthy"
    assert container["Config"]["User"] == USERS[name]
    assert host["ReadonlyRootfs"] is True
    assert host["Privileged"] is False
    assert host["CapDrop"] == ["ALL"]
    added = [capability.removeprefix("CAP_") for capability in host["CapAdd"] or []]
    assert added == CAPABILITIES.get(name, [])
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["Memory"] > 0
    assert host["MemorySwap"] == host["Memory"]
    assert host["PidsLimit"] > 0
    assert [limit["Name"] for limit in host["Ulimits"]] == ["nofile"]
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-file": "3", "max-size": "10m"}}
    assert host["RestartPolicy"]["Name"] == "always"
    assert not any("docker.sock" in mount["Source"] for mount in container["Mounts"])
    writable = [mount["Destination"] for mount in container["Mounts"] if mount["RW"]]
    assert writable == (["/var/lib/coturn"] if name == "coturn" else [])


@pytest.mark.parametrize("name", SERVICES)
def test_what_runs_is_what_was_asked_for(hpb, name):
    """Docker's description is a wish: the process itself shows what it got."""
    pid = hpb.check_output("docker inspect --format '{{.State.Pid}}' %s", name)
    status = dict(
        line.split(":", 1) for line in hpb.check_output(f"cat /proc/{pid}/status").splitlines() if ":" in line
    )
    assert status["Uid"].split()[0] == USERS[name].split(":", maxsplit=1)[0]
    assert status["NoNewPrivs"].strip() == "1"
    bind_service = 1 << 10
    assert int(status["CapBnd"], 16) == (bind_service if name in CAPABILITIES else 0)


def test_no_secret_is_in_the_description_of_a_container_or_image(hpb, containers, secrets):
    text = json.dumps(containers) + hpb.check_output(
        "docker image ls -q | sort -u | xargs -n 1 docker history --no-trunc --format json"
    )
    for name in SERVICES:
        text += hpb.check_output("docker logs %s 2>&1", name)
    for value in secret_values(secrets):
        assert value not in text


def test_no_secret_is_in_the_journals(hpb, web, other, secrets):
    """Ansible's modules log how they were called."""
    for host in (hpb, web, other):
        journal = host.check_output("journalctl --no-pager --output cat")
        assert "Invoked with" in journal
        for value in secret_values(secrets):
            assert value not in journal


def test_configuration_is_not_readable_for_others(hpb):
    found = hpb.check_output("find /opt/nextcloud-talk-hpb -type f -perm /o+r ! -path '*/build/*' ! -name '*.pem'")
    assert found == ""
    assert hpb.file("/opt/nextcloud-talk-hpb/secrets/secrets.json").mode == 0o600


def test_idle_memory(hpb):
    """All five together use at most 100 MiB, as Docker counts it (without the cache of files)."""
    units = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
    lines = hpb.check_output("docker stats --no-stream --format '{{.Name}} {{.MemUsage}}' " + " ".join(SERVICES))
    used = {}
    for line in lines.splitlines():
        name, amount = line.split()[:2]
        number, unit = re.fullmatch(r"([\d.]+)([A-Za-z]+)", amount).groups()
        used[name] = float(number) * units[unit]
    assert sorted(used) == sorted(SERVICES)
    print({name: round(size / units["MiB"], 1) for name, size in used.items()})
    assert sum(used.values()) <= 100 * units["MiB"]


def test_the_janus_image_is_small_and_holds_only_what_is_linked(hpb, containers):
    image = json.loads(hpb.check_output("docker image inspect %s", containers["janus"]["Config"]["Image"]))[0]
    assert image["Size"] <= 120 * 1024 * 1024
    assert image["Config"]["User"] == "65534:65534"
    for absent in ("apt-get", "gcc", "perl"):
        assert hpb.run(f"docker exec janus /bin/bash -c 'command -v {absent}'").rc != 0


def test_the_signaling_server_trusts_its_own_authority(hpb):
    """A call between two of its Nextclouds brings it to its own public name, with a certificate of the private CA."""
    base = "/opt/nextcloud-talk-hpb"
    trusted = f"{base}/signalling/config/authorities/hpb.pem"
    hpb.check_output(f"openssl verify -no-CAfile -no-CApath -CAfile {trusted} {base}/tls/fullchain.pem")
