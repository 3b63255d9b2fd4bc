# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a change costs: said before, waited for when calls are running, and taken back when it fails."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import threading
import time

import pytest
from conftest import INVENTORY, PROJECT, SERVICES, play, read_secrets, recap, secret_values, started
from test_rotation import call, sudden_end

DEPLOY = "playbooks/deploy.yml"
NC = "https://nc.example.org"
DIRECTORY = "/opt/nextcloud-talk-hpb"


class Running:
    """A playbook that runs beside the test; `text` is what it has said so far."""

    def __init__(self, *arguments: str, playbook: str = DEPLOY) -> None:
        self.text = ""
        self.process = subprocess.Popen(
            ["ansible-playbook", "-i", str(INVENTORY), playbook, *arguments],
            cwd=PROJECT,
            env={**os.environ, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.text += line

    def says(self, words: str, seconds: float = 300) -> None:
        """Wait until it has said these words."""
        deadline = time.monotonic() + seconds
        while words not in self.text:
            assert self.process.poll() is None and time.monotonic() < deadline, self.text[-4000:]
            time.sleep(0.02)

    def end(self) -> int:
        """Wait for its end; returns the exit code."""
        code = self.process.wait(timeout=600)
        self._thread.join()
        return code

    def kill(self) -> None:
        """End it without warning."""
        sudden_end.end(self.process.pid)
        self.end()


def restarted(hpb, before: list[str]) -> list[str]:
    """Return which containers are no longer those of `started`."""
    return [name for name, then, now in zip(SERVICES, before, started(hpb)) if then != now]


def undisturbed(figures: dict) -> None:
    for kind in ("audio", "video"):
        assert figures[kind]["frames"] > 0
        assert figures[kind]["longest_pause"] <= 1, figures


def nothing_is_left(hpb) -> None:
    """Neither a container nor a configuration of what was before."""
    assert sorted(hpb.check_output("docker ps --all --format '{{.Names}}'").split()) == sorted(SERVICES)
    assert hpb.check_output(f"find {DIRECTORY} -name 'config.*' -type d") == ""
    policies = hpb.check_output("docker inspect --format '{{.HostConfig.RestartPolicy.Name}}' " + " ".join(SERVICES))
    assert set(policies.split()) == {"always"}


def configuration(hpb, name: str) -> str:
    """Return names, contents, modes and owners of the configuration of a container."""
    command = "find . -type f | sort | xargs sha256sum && stat -c '%a %U %g %n' *"
    return hpb.check_output(f"cd {DIRECTORY}/{name}/config && {command}")


def snapshots(hpb) -> set[str]:
    """Return the names of the copies of the state that were made before an image changed."""
    return set(hpb.check_output(f"mkdir -p -m 0700 {DIRECTORY}/backups && ls {DIRECTORY}/backups").split())


def a_call_works(hpb) -> None:
    with call(hpb, NC, None) as one:
        time.sleep(2)
    undisturbed(one.figures)


def change(done: str, name: str) -> str:
    """Return what is said about a container."""
    return re.search(rf'"{name}: (.*)"|^{name}: (.*)$', done, re.MULTILINE).group(1)


def back_to_normal(hpb) -> None:
    done = play(playbook=DEPLOY)
    assert done.returncode == 0, done.stdout[-4000:]
    nothing_is_left(hpb)


def test_a_dry_run_says_what_each_container_costs_and_why(hpb):
    before = started(hpb)
    changed = ["signalling_memory=600M", "janus_nofile=8192", "nats_max_payload=2097152", "coturn_pids=300"]
    done = play("--check", "--diff", *[word for one in changed for word in ("-e", one)])
    assert done.returncode == 0, done.stdout[-4000:]
    for line in (
        r"nats +to be restarted \(running calls go on, .*\): configuration file nats.conf",
        r"janus +to be restarted \(sound and picture of all calls drop\), after running calls have ended, 600 s at "
        r"most: limit of open files 16384 -> 8192",
        r"coturn +to be restarted \(sound and picture that go through TURN drop\), after .*: "
        r"limit of processes 128 -> 300",
        r"signalling +to be updated in place, which costs nothing: memory limit 512M -> 600M",
        r"traefik +unchanged",
    ):
        assert re.search(line, done.stdout), done.stdout[-4000:]
    assert recap(done.stdout)["talk.example.org"]["changed"] > 0
    assert started(hpb) == before
    for value in secret_values(read_secrets(hpb)):
        assert value not in done.stdout


@pytest.mark.long
def test_a_memory_limit_costs_nothing(hpb):
    before = started(hpb)
    with call(hpb, NC, None) as running:
        done = play("-e", "janus_memory=700M", "-e", "signalling_memory=600M", playbook=DEPLOY)
        back = play(playbook=DEPLOY)
    assert done.returncode == 0, done.stdout[-4000:]
    assert back.returncode == 0, back.stdout[-4000:]
    undisturbed(running.figures)
    assert started(hpb) == before
    assert "-> 700M" in done.stdout and "waiting for running calls" not in done.stdout
    nothing_is_left(hpb)


@pytest.mark.long
def test_a_restart_waits_for_the_running_call(hpb):
    before = started(hpb)
    with call(hpb, NC, None) as running:
        run = Running("-e", "signalling_connections_per_host=33")
        run.says("waiting for running calls")
        time.sleep(5)
        assert started(hpb) == before
    assert run.end() == 0, run.text[-4000:]
    undisturbed(running.figures)
    assert "published). To go on at once, end this run and say -e at_once=true." in run.text
    assert restarted(hpb, before) == ["signalling"]
    assert "after running calls had ended" in change(run.text, "signalling")
    a_call_works(hpb)
    back_to_normal(hpb)


@pytest.mark.long
def test_at_once_it_does_not_wait_and_says_what_it_interrupts(hpb):
    before = started(hpb)
    # The call that is interrupted has no figures.
    with contextlib.suppress(Exception), call(hpb, NC, None):
        done = play("-e", "signalling_connections_per_host=33", "-e", "at_once=true", playbook=DEPLOY)
    assert done.returncode == 0, done.stdout[-4000:]
    assert restarted(hpb, before) == ["signalling"]
    assert "waiting for running calls" not in done.stdout
    assert "running calls are interrupted, since at_once is true" in done.stdout
    a_call_works(hpb)
    back_to_normal(hpb)


@pytest.mark.long
def test_at_the_limit_it_goes_on_and_says_what_it_interrupts(hpb):
    before = started(hpb)
    with contextlib.suppress(Exception), call(hpb, NC, None):
        done = play("-e", "signalling_connections_per_host=33", "-e", "hpb_drain_seconds=6", playbook=DEPLOY)
    assert done.returncode == 0, done.stdout[-4000:]
    assert restarted(hpb, before) == ["signalling"]
    assert "waiting for running calls, 6 s at most" in done.stdout
    assert "running calls are interrupted, since hpb_drain_seconds (6) are over" in done.stdout
    a_call_works(hpb)
    back_to_normal(hpb)


@pytest.mark.long
def test_an_image_that_cannot_be_pulled_changes_nothing(hpb):
    before, config, copies = started(hpb), configuration(hpb, "nats"), snapshots(hpb)
    done = play("-e", "nats_version=0.0.1", "-e", "nats_max_payload=2097152", playbook=DEPLOY)
    assert done.returncode != 0
    assert "The image nats:0.0.1 was expected on talk.example.org or in its registry" in done.stdout
    assert "Container nats was left as it is" in done.stdout
    assert (started(hpb), configuration(hpb, "nats")) == (before, config)
    assert snapshots(hpb) == copies


@pytest.mark.long
def test_a_configuration_that_is_refused_is_put_back(hpb):
    before, config = started(hpb), configuration(hpb, "signalling")
    with call(hpb, NC, None) as running:
        done = play("-e", '{"signalling_trusted_proxies": ["300.0.0.1"]}', playbook=DEPLOY)
    assert done.returncode != 0
    assert "refused it" in done.stdout and "Error parsing trusted proxies" in done.stdout, done.stdout[-3000:]
    assert "was put back with its configuration and is healthy again" in done.stdout
    undisturbed(running.figures)
    assert (started(hpb), configuration(hpb, "signalling")) == (before, config)
    nothing_is_left(hpb)
    again = play("-e", "hpb_verify=false")
    assert again.returncode == 0, again.stdout[-4000:]
    assert all(counts["changed"] == 0 for counts in recap(again.stdout).values()), again.stdout[-4000:]


@pytest.fixture
def broken(hpb):
    """The version of an image of the signaling server that ends at once, and tells a secret before."""
    image = hpb.check_output("docker inspect --format '{{.Config.Image}}' signalling").rpartition(":")[0]
    script = "grep internalsecret /config/server.conf; echo this server is broken; exit 1"
    hpb.check_output(
        f"cd /tmp && mkdir -p broken && printf '#!/bin/sh\\n{script}\\n' > broken/server && chmod 755 broken/server && "
        f"printf 'FROM %s\\nCOPY server /usr/bin/nextcloud-spreed-signaling\\n' "
        f"$(docker inspect --format '{{{{.Config.Image}}}}' signalling) > broken/Dockerfile && "
        f"DOCKER_BUILDKIT=0 docker build --quiet --tag {image}:2.0.99 broken"
    )
    yield "2.0.99"
    hpb.run(f"docker image rm {image}:2.0.99")


@pytest.mark.long
def test_a_version_that_never_gets_healthy_is_rolled_back(hpb, broken):
    before, config, copies = started(hpb), configuration(hpb, "signalling"), snapshots(hpb)
    done = play("-e", f"signalling_version={broken}", "-e", "signalling_connections_per_host=34", playbook=DEPLOY)
    assert done.returncode != 0
    assert len(snapshots(hpb) - copies) == 1, done.stdout[-4000:]
    assert f"signalling (strukturag/nextcloud-spreed-signaling:{broken}) was expected to be running" in done.stdout
    assert "this server is broken" in done.stdout
    assert "was put back with its configuration and is healthy again" in done.stdout
    for value in secret_values(read_secrets(hpb)):
        assert value not in done.stdout + done.stderr
    # It was stopped and started again, and is the same container.
    assert [line.split()[1] for line in started(hpb)] == [line.split()[1] for line in before]
    assert configuration(hpb, "signalling") == config
    nothing_is_left(hpb)
    a_call_works(hpb)
    again = play("-e", "hpb_verify=false")
    assert again.returncode == 0, again.stdout[-4000:]
    assert all(counts["changed"] == 0 for counts in recap(again.stdout).values()), again.stdout[-4000:]


@pytest.mark.long
@pytest.mark.parametrize(
    "task", ["then write the configuration of signalling", "Have a running and healthy container signalling"]
)
def test_a_run_that_is_killed_is_repaired_by_the_next(hpb, broken, task):
    config = configuration(hpb, "signalling")
    run = Running("-e", f"signalling_version={broken}", "-e", "signalling_connections_per_host=35")
    run.says(task)
    # Some time in the task that was named.
    time.sleep(4)
    run.kill()
    # The next one fails too: then it still knows what was healthy.
    failed = play("-e", f"signalling_version={broken}", playbook=DEPLOY)
    assert failed.returncode != 0
    assert "was put back with its configuration and is healthy again" in failed.stdout, failed.stdout[-4000:]
    assert configuration(hpb, "signalling") == config
    nothing_is_left(hpb)
    a_call_works(hpb)

    run = Running("-e", f"signalling_version={broken}")
    run.says(task)
    time.sleep(4)
    run.kill()
    back_to_normal(hpb)
    assert configuration(hpb, "signalling") == config
    a_call_works(hpb)


@pytest.mark.long
def test_a_configuration_that_never_gets_healthy_is_rolled_back(hpb):
    before, config = started(hpb), configuration(hpb, "nats")
    done = play("-e", "nats_max_payload=1073741824", playbook=DEPLOY)
    assert done.returncode != 0
    assert "max_payload" in done.stdout and "was put back with its configuration" in done.stdout, done.stdout[-4000:]
    assert [line.split()[1] for line in started(hpb)] == [line.split()[1] for line in before]
    assert configuration(hpb, "nats") == config
    nothing_is_left(hpb)
    again = play()
    assert again.returncode == 0, again.stdout[-4000:]
    assert all(counts["changed"] == 0 for counts in recap(again.stdout).values()), again.stdout[-4000:]


@pytest.mark.long
def test_after_a_verification_that_fails_the_containers_go_back(hpb):
    before, config = started(hpb), configuration(hpb, "coturn")
    deployed = hpb.check_output(f"cat {DIRECTORY}/deployed.json")
    # Healthy, and no relayed call works.
    done = play("-e", "hpb_rollback_on_failed_verify=true", "-e", '{"coturn_allowed_peers": []}')
    assert done.returncode != 0
    assert "Container coturn was put back to what was healthy before this run" in done.stdout, done.stdout[-6000:]
    assert [line.split()[1] for line in started(hpb)] == [line.split()[1] for line in before]
    assert configuration(hpb, "coturn") == config
    assert hpb.check_output(f"cat {DIRECTORY}/deployed.json") == deployed
    nothing_is_left(hpb)
    good = play("-e", "hpb_rollback_on_failed_verify=true", "-e", "coturn_nofile=8192")
    assert good.returncode == 0, good.stdout[-4000:]
    nothing_is_left(hpb)
    back_to_normal(hpb)
