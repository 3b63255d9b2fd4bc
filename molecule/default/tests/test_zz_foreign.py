# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers of others that are called as ours are: nothing touches them, and ours find other names."""

from __future__ import annotations

import json

import pytest
from conftest import DIRECTORY, SERVICES, play

pytestmark = pytest.mark.long
PREFIX = "neighbour-"


def foreign(hpb, name: str, *options: str, running: bool = True) -> None:
    """Make a container of somebody else."""
    words = " ".join(
        ["--name", name, "--label", "com.docker.compose.project=shop", "--restart", "unless-stopped", *options]
    )
    hpb.check_output(f"docker {'run -d' if running else 'create'} {words} debian:trixie-slim sleep 1000000")


def seen(hpb, names: list[str]) -> dict[str, list]:
    """Return what must stay of each container."""
    found = {}
    for name in names:
        one = json.loads(hpb.check_output("docker container inspect %s", name))[0]
        policy = one["HostConfig"]["RestartPolicy"]["Name"]
        found[name] = [one["Id"], one["State"]["StartedAt"], one["State"]["Status"], policy]
    return found


@pytest.fixture
def neighbours(hpb):
    """One of ours is gone, and it and one that is kept while its successor is tried have their names from others."""
    hpb.check_output("docker pull -q debian:trixie-slim")
    hpb.check_output("docker rm --force coturn")
    foreign(hpb, "coturn", "--publish 127.0.0.1:4999:4999")
    foreign(hpb, "janus-previous")
    foreign(hpb, "traefik-previous", running=False)
    names = ["coturn", "janus-previous", "traefik-previous"]
    yield names
    for name in names:
        hpb.check_output("docker rm --force %s", name)
    done = play()
    assert done.returncode == 0, done.stdout[-6000:]
    assert sorted(hpb.check_output("docker ps --format '{{.Names}}'").split()) == sorted(SERVICES)


def test_no_playbook_touches_a_foreign_container_and_ours_get_other_names(hpb, neighbours):
    before = seen(hpb, neighbours)
    ours = seen(hpb, ["nats", "janus", "signalling", "traefik"])
    runs = [
        ("site.yml",),
        ("playbooks/deploy.yml", "--check"),
        ("playbooks/upgrade.yml",),
        ("playbooks/rotate.yml", "-e", "rotate=nc"),
        ("playbooks/firewall.yml",),
        ("playbooks/bundle.yml", "-e", f"bundle={DIRECTORY}/foreign.tar", "-e", "replace=true"),
        ("playbooks/logs.yml",),
        ("playbooks/remove.yml", "-e", "remove_hpb=true", "--check"),
    ]
    for playbook, *arguments in runs:
        done = play(*arguments, playbook=playbook)
        print(playbook, *arguments, done.returncode)
        assert seen(hpb, neighbours) == before, (playbook, done.stdout[-3000:])
        if playbook in ("site.yml", "playbooks/deploy.yml"):
            assert done.returncode != 0
            assert "coturn (image debian:trixie-slim, compose project shop, running)" in done.stdout, done.stdout[
                -4000:
            ]
            assert "hpb_container_prefix" in done.stdout
    assert seen(hpb, list(ours)) == ours

    done = play("-e", f"hpb_container_prefix={PREFIX}")
    assert done.returncode == 0, done.stdout[-6000:]
    assert seen(hpb, neighbours) == before
    renamed = {name.removeprefix(PREFIX): one for name, one in seen(hpb, [PREFIX + name for name in ours]).items()}
    assert renamed == ours, "a new name must end no call"
    assert "call over TURN udp      ok" in done.stdout
    again = play("-e", f"hpb_container_prefix={PREFIX}", "-e", "hpb_verify=false")
    assert again.returncode == 0 and seen(hpb, [PREFIX + name for name in ours]).values() != {}
    for playbook, *arguments in (
        ("playbooks/rotate.yml", "-e", "rotate=nc"),
        ("playbooks/logs.yml",),
        ("playbooks/verify.yml", "-e", "verify_diagnose=true"),
    ):
        done = play("-e", f"hpb_container_prefix={PREFIX}", *arguments, playbook=playbook)
        print(playbook, *arguments, done.returncode)
        assert done.returncode == 0, done.stdout[-5000:]
        assert seen(hpb, neighbours) == before
