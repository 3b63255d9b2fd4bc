# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A move and a removal beside containers of others that are called as ours are, on both hosts.

It begins and ends with the backend on the host hpb, and hpb2 bare.
"""

from __future__ import annotations

import json
import re

import pytest
import traces
from conftest import lead_to, play, running

FIVE = ["coturn", "janus", "nats", "signalling", "traefik"]
PREFIX = "neighbour-"
IMAGE = "debian:trixie-slim"
BESIDE = ["-e", f"hpb_container_prefix={PREFIX}"]
MOVE = ["-e", "move_from=old.example.org", "-e", "machine=hpb2"]
# Of each host: what runs there, what has been stopped, and what was never started.
OTHERS = {
    "hpb": {"coturn": "running", "janus-previous": "running", "traefik-previous": "created"},
    "hpb2": {"nats": "running", "janus": "exited", "coturn": "running", "signalling": "created", "traefik": "running"},
}
PORTS = {"coturn": "127.0.0.1:4999:4999", "traefik": "127.0.0.1:4998:80"}


def make(host: str, name: str, state: str) -> None:
    """Make a container of somebody else in this state."""
    start = ["create"] if state == "created" else ["run", "--detach"]
    options = ["--publish", PORTS[name]] if name in PORTS else []
    label = "com.docker.compose.project=shop"
    words = ["--name", name, "--label", label, "--restart", "unless-stopped", *options, IMAGE, "sleep", "9d"]
    traces.run(host, "docker", *start, *words)
    if state == "exited":
        traces.run(host, "docker", "stop", "--time", "0", name)


def seen() -> dict[str, list[str]]:
    """Return what must stay of each container of others, on both hosts."""
    found = {}
    for host, names in OTHERS.items():
        for one in json.loads(traces.run(host, "docker", "container", "inspect", *names)):
            state, policy = one["State"], one["HostConfig"]["RestartPolicy"]["Name"]
            found[f"{host} {one['Name']}"] = [one["Id"], state["StartedAt"], state["Status"], policy]
    return found


@pytest.fixture
def others():
    """Containers of others on both hosts, one of them in the place of ours that somebody has deleted."""
    traces.run("hpb", "docker", "rm", "--force", "coturn")
    for host, names in OTHERS.items():
        traces.run(host, "docker", "pull", "--quiet", IMAGE)
        for name, state in names.items():
            make(host, name, state)
    yield
    for host, names in OTHERS.items():
        traces.run(host, "docker", "rm", "--force", *names)
    # The other one is used on the first host.
    traces.run("hpb2", "docker", "rmi", IMAGE)
    lead_to("hpb")
    for playbook in ("site", "watch"):
        assert play(playbook).returncode == 0
    assert running("hpb") == FIVE and running("hpb2") == []


@pytest.mark.usefixtures("others")
def test_a_move_and_a_removal_touch_no_container_of_others():
    before = seen()
    assert sorted({line[2] for line in before.values()}) == ["created", "exited", "running"]
    refused = play("move", *MOVE)
    assert refused.returncode != 0 and seen() == before
    for name, state in (("coturn", "running"), ("janus", "not running"), ("nats", "running"), ("traefik", "running")):
        assert f"{name} (image {IMAGE}, compose project shop, {state})" in refused.stdout
    assert "have the name of one of ours and are not ours" in refused.stdout
    assert "set hpb_container_prefix: hpb- for the group hpb" in refused.stdout
    assert running("hpb2") == []

    four = [name for name in FIVE if name != "coturn"]
    assert running("hpb") == four
    done = play("move", *MOVE, *BESIDE)
    assert done.returncode == 0, done.stdout[-6000:]
    assert seen() == before
    assert running("hpb") == four and running("hpb2") == [PREFIX + name for name in FIVE]
    assert re.search(r"call over TURN udp +ok ", done.stdout)
    lead_to("hpb2")
    finished = play("move", *MOVE, *BESIDE, "-e", "move_finish=true", "-e", "led_to=hpb2", "-e", "move_wait=0")
    assert finished.returncode == 0, finished.stdout[-6000:]
    assert seen() == before
    assert running("hpb") == [] and running("hpb2") == [PREFIX + name for name in FIVE]

    everything = ["-e", "machine=hpb2", "-e", "remove_secrets=true", *BESIDE]
    for host in ("old.example.org", "true"):
        gone = play("remove", *everything, "-e", f"remove_hpb={host}")
        assert gone.returncode == 0, gone.stdout[-6000:]
        assert seen() == before
    for host in OTHERS:
        labelled = traces.run(host, "docker", "ps", "--all", "--quiet", "--filter", "label=nextcloud-talk.hpb")
        paths = "/opt/nextcloud-talk-hpb /etc/systemd/system/nextcloud-talk-hpb-*"
        left = traces.run(host, "sh", "-c", f"for one in {paths}; do test ! -e $one || echo $one; done")
        assert (labelled.strip(), left.strip()) == ("", "")
