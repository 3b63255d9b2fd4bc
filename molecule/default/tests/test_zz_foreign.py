# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers of others that are called as ours are: nothing touches them, and ours find other names.

Each test begins where the one before it has left the host: deployed, removed, and bare but for Docker.
"""

from __future__ import annotations

import json
import time

import pytest
from conftest import DIRECTORY, PROJECT, SERVICES, play, read_secrets, recap

pytestmark = pytest.mark.long
PREFIX = "neighbour-"
BASE = "/opt/nextcloud-talk-hpb"
BESIDE = ["-e", f"hpb_container_prefix={PREFIX}"]
IMAGE = "debian:trixie-slim"
SET_ASIDE = (
    f"The container traefik-previous (image {IMAGE}, compose project shop, not running) is not ours, and release 0.1.0 "
    "may have renamed and stopped it"
)


def foreign(hpb, name: str, *options: str, state: str = "running") -> None:
    """Make a container of somebody else, with a volume and a network of its own; `state` as Docker calls it."""
    words = " ".join(
        ["--name", name, "--label", "com.docker.compose.project=shop", "--restart", "unless-stopped"]
        + ["--network", "shop", "--volume", f"shop-{name}:/data", *options]
    )
    hpb.check_output(f"docker {'create' if state == 'created' else 'run -d'} {words} {IMAGE} sleep 1000000")
    if state == "exited":
        hpb.check_output("docker stop --time 0 %s", name)


def seen(hpb, names: list[str]) -> dict[str, list]:
    """Return what must stay of each container."""
    found = {}
    for name in names:
        one = json.loads(hpb.check_output("docker container inspect %s", name))[0]
        policy = one["HostConfig"]["RestartPolicy"]["Name"]
        found[name] = [one["Id"], one["State"]["StartedAt"], one["State"]["Status"], policy]
    return found


def all_of_others(hpb, names: list[str]) -> dict[str, object]:
    """Return what must stay of these containers, and of what else somebody has in the engine."""
    return {
        "containers": seen(hpb, names),
        "image": hpb.check_output(f"docker image inspect --format '{{{{.Id}}}}' {IMAGE}"),
        "network": hpb.check_output("docker network inspect --format '{{.Id}} {{.Created}}' shop"),
        "volumes": hpb.check_output("docker volume ls --quiet --filter name=shop").split(),
    }


def running(hpb) -> list[str]:
    """Return the names of our containers, whether they run or not."""
    return sorted(hpb.check_output("docker ps --all --filter label=nextcloud-talk.hpb --format '{{.Names}}'").split())


@pytest.fixture
def others(hpb):
    """Returns what makes containers of others, {name: [state, options]}; afterwards they are gone."""
    made: list[str] = []

    def make(**containers) -> list[str]:
        for called, (state, *options) in containers.items():
            foreign(hpb, called.replace("_", "-"), *options, state=state)
            made.append(called.replace("_", "-"))
        return sorted(made)

    hpb.check_output(f"docker pull -q {IMAGE}")
    hpb.check_output("docker network create shop")
    yield make
    for name in made:
        hpb.check_output("docker rm --force %s", name)
        hpb.check_output("docker volume rm %s", f"shop-{name}")
    hpb.check_output("docker network rm shop")


@pytest.fixture(scope="module", autouse=True)
def _as_it_was(hpb):
    """Have ours deployed under their own names behind all of this."""
    yield
    assert play("-e", "watch_state=absent", playbook="playbooks/watch.yml").returncode == 0
    done = play()
    assert done.returncode == 0, done.stdout[-6000:]
    assert running(hpb) == sorted(SERVICES)


def told(hpb, since: float) -> dict[str, dict]:
    """Return what the watcher knows of each check, once it has looked twice since then."""
    for _ in range(30):
        looked = hpb.run("systemctl show nextcloud-talk-hpb-watch.service -p ExecMainStartTimestamp --timestamp=unix")
        if float(looked.stdout.partition("@")[2] or 0) > since + 12:
            break
        time.sleep(2)
    return json.loads(hpb.check_output("cat /var/lib/nextcloud-talk-hpb-watch/state.json"))["checks"]


def test_no_playbook_touches_a_foreign_container_and_ours_get_other_names(hpb, others):
    # As an earlier release has set the watcher up, which knew neither of the two.
    watch = play("-e", "watch_period=10", "-e", "watch_disk_free_mb=17", playbook="playbooks/watch.yml")
    assert watch.returncode == 0, watch.stdout[-3000:]
    hpb.check_output(
        f"sed -i '/own_network/d; /\"base_dir\"/d' {BASE}/watch/config.json; echo '# earlier' >> {BASE}/watch/watch.py"
    )
    hpb.check_output("docker rm --force coturn")
    names = others(
        coturn=["running", "--publish", "127.0.0.1:4999:4999"],
        janus_previous=["running"],
        traefik_previous=["created", "--restart", "no"],
    )
    before = all_of_others(hpb, names)
    ours = seen(hpb, ["nats", "janus", "signalling", "traefik"])
    bundle = ["-e", f"bundle={DIRECTORY}/foreign.tar", "-e", "replace=true"]
    # What becomes of each while something stands in the way: those that make containers refuse.
    for playbook, fine, *arguments in (
        ("site.yml", False),
        ("playbooks/deploy.yml", False, "--check"),
        ("playbooks/rotate.yml", False, "-e", "rotate=nc"),
        ("playbooks/upgrade.yml", True),
        ("playbooks/firewall.yml", True),
        ("playbooks/bundle.yml", True, *bundle),
        ("playbooks/logs.yml", True),
        ("playbooks/remove.yml", True, "-e", "remove_hpb=true", "--check"),
    ):
        done = play(*arguments, playbook=playbook)
        print(playbook, *arguments, done.returncode)
        assert all_of_others(hpb, names) == before, (playbook, done.stdout[-3000:])
        assert (done.returncode == 0) == fine, (playbook, done.stdout[-4000:])
        if not fine:
            assert (
                "The container coturn (image debian:trixie-slim, compose project shop, running) has the name of one of "
                "ours and is not ours, expected that name free: set hpb_container_prefix: hpb- for the group hpb, so "
                "that ours is called hpb-coturn beside it; of ours, which were deployed here, coturn is gone and is "
                "made again; what runs of ours is renamed, which ends no call."
            ) in done.stdout, done.stdout[-4000:]
            for kept in ("janus-previous", "traefik-previous"):
                assert f"The container {kept} (image debian:trixie-slim, compose project shop" in done.stdout
            # This one is stopped and started by nobody, as release 0.1.0 has left others.
            assert SET_ASIDE in done.stdout
    assert seen(hpb, list(ours)) == ours

    done = play(*BESIDE)
    assert done.returncode == 0, done.stdout[-6000:]
    assert all_of_others(hpb, names) == before
    renamed = {name.removeprefix(PREFIX): one for name, one in seen(hpb, [PREFIX + name for name in ours]).items()}
    assert renamed == ours, "a new name must end no call"
    assert "call over TURN udp      ok" in done.stdout and SET_ASIDE in done.stdout
    for name in SERVICES:
        assert f"  {PREFIX}{name} " in done.stdout.partition("Containers:")[2], name
    # The watcher looks for the new names, with the program of now, and still as it was told to.
    config = json.loads(hpb.check_output(f"cat {BASE}/watch/config.json"))
    assert (config["own_network"], config["disk_free_mb"], config["base_dir"]) == (True, 17, BASE)
    program = (PROJECT / "roles/watch/files/watch.py").read_text(encoding="utf-8")
    assert hpb.check_output(f"cat {BASE}/watch/watch.py").strip() == program.strip()
    known = told(hpb, time.time())
    assert {f"container/{name}" for name in SERVICES} <= set(known)
    assert [name for name, state in known.items() if not state["well"] or state["seen"]] == []

    again = play(*BESIDE, "-e", "hpb_verify=false")
    assert again.returncode == 0 and recap(again.stdout)["talk.example.org"]["changed"] == 0, again.stdout[-3000:]
    for playbook, *arguments in (
        ("playbooks/rotate.yml", "-e", "rotate=nc"),
        ("playbooks/logs.yml",),
        ("playbooks/verify.yml", "-e", "verify_diagnose=true"),
        ("playbooks/bundle.yml", *bundle),
    ):
        done = play(*BESIDE, *arguments, playbook=playbook)
        print(playbook, *arguments, done.returncode)
        assert done.returncode == 0, done.stdout[-5000:]
        assert (SET_ASIDE in done.stdout) == (playbook == "playbooks/rotate.yml")
        assert all_of_others(hpb, names) == before

    # Everything of ours goes, whatever it is called; nothing of others does.
    everything = ["-e", "remove_hpb=true", "-e", "remove_secrets=true"]
    done = play(*BESIDE, *everything, playbook="playbooks/remove.yml")
    assert done.returncode == 0, done.stdout[-5000:]
    assert running(hpb) == [] and not hpb.file(BASE).exists
    assert all_of_others(hpb, names) == before


def test_a_bare_host_on_which_others_have_all_the_names(hpb, others):
    assert running(hpb) == [] and not hpb.file(BASE).exists
    names = others(
        nats=["created"],
        janus=["running"],
        coturn=["running", "--publish", "127.0.0.1:4999:4999"],
        signalling=["exited"],
        traefik=["running", "--publish", "127.0.0.1:4998:80"],
        nats_previous=["exited"],
    )
    before = all_of_others(hpb, names)
    every = hpb.check_output("docker ps --all --no-trunc --format '{{.ID}} {{.Names}}'").splitlines()
    for arguments in (["--check"], []):
        done = play(*arguments)
        assert done.returncode != 0
        start = done.stdout.index("The containers coturn (image")
        sentence = done.stdout[start : done.stdout.index(" beside them.", start)]
        for name, state in (
            ("coturn", "running"),
            ("janus", "running"),
            ("nats", "not running"),
            ("signalling", "not running"),
            ("traefik", "running"),
        ):
            assert f"{name} (image {IMAGE}, compose project shop, {state})" in sentence
        assert "have the name of one of ours and are not ours" in sentence
        assert "set hpb_container_prefix: hpb- for the group hpb" in sentence
        assert "called hpb-coturn, hpb-janus, hpb-nats, hpb-signalling and hpb-traefik" in sentence
        assert (
            f"The container nats-previous (image {IMAGE}, compose project shop, not running) is not ours" in done.stdout
        )
        assert not hpb.file(BASE).exists
        assert hpb.check_output("docker ps --all --no-trunc --format '{{.ID}} {{.Names}}'").splitlines() == every
        assert all_of_others(hpb, names) == before

    done = play(*BESIDE)
    assert done.returncode == 0, done.stdout[-6000:]
    assert all_of_others(hpb, names) == before
    assert running(hpb) == sorted(PREFIX + name for name in SERVICES)
    assert "call over TURN udp      ok" in done.stdout and "direct call             ok" in done.stdout
    assert sorted(read_secrets(hpb)["instances"]) == ["client", "dev_nc", "nas", "nc", "test_nc"]
