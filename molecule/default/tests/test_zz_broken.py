# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs that cannot succeed: they say why in a sentence, what runs goes on, and the next run completes the change."""

from __future__ import annotations

import contextlib
import itertools
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import play, started
from states import BASE, Edit, run_tasks, write_inventory
from test_zz_outages import calls_work, wait_healthy

pytestmark = pytest.mark.long

# A server on the host with what stands in /run/sources, to be built as a source of Janus.
SERVE = "systemd-run --unit=sources --working-directory=/run/sources python3 -m http.server --bind 127.0.0.1 8999"
NOWHERE = "http://127.0.0.1:8998/libsrtp.tar.gz"


# A change that the failing run should make besides what cannot work: each test sets another limit.
LIMITS = itertools.count(20)


@pytest.fixture(scope="module", autouse=True)
def home():
    """In the end the installation is as the scenario has it."""
    yield
    assert play(playbook="playbooks/deploy.yml").returncode == 0


@pytest.fixture
def limit() -> int:
    """The limit of sessions that this test sets for the instance nc."""
    return next(LIMITS)


@pytest.fixture
def changed(limit, tmp_path) -> Path:
    """The inventory with that limit."""
    return write_inventory(tmp_path / "inventory.yml", limited(limit))


def limited(limit: int) -> Edit:
    """Return the edit that sets the limit."""
    return lambda data: data["nextcloud"]["children"]["nc"]["vars"].update(talk_session_limit=limit)


@dataclass(frozen=True)
class Fault:
    """What makes a run fail (it gives the run's arguments), and words of what the run says then."""

    inject: Callable[[object], contextlib.AbstractContextManager[list[str]]]
    words: tuple[str, ...]


FAULTS: dict[str, Fault] = {}


def fault(name: str, *words: str):
    """Put a generator of one step into the table."""

    def keep(function: Callable[[object], Iterator[list[str]]]) -> Callable[[object], Iterator[list[str]]]:
        FAULTS[name] = Fault(contextmanager(function), words)
        return function

    return keep


@fault("no registry answers for a new image", "nats", "2.99.0-alpine3.22")
def _registry(hpb) -> Iterator[list[str]]:
    # The mirror is a container beside the host; whatever else the engine asks is not there either.
    rule = "OUTPUT -p tcp --dport 5000 -j REJECT"
    hpb.check_output(f"iptables -I {rule}")
    try:
        yield ["-e", "nats_version=2.99.0-alpine3.22"]
    finally:
        hpb.check_output(f"iptables -D {rule}")


@fault("the server of a source of Janus is away", "libsrtp", NOWHERE, "janus_libsrtp_url")
def _source_away(hpb) -> Iterator[list[str]]:
    # Another checksum, since a file that is there and right is not fetched.
    yield [
        *("-e", "janus_pull=false", "-e", f"janus_libsrtp_url={NOWHERE}"),
        *("-e", "janus_libsrtp_version=2.99.0", "-e", f"janus_libsrtp_sha256={'0' * 64}"),
    ]


def served(hpb, make: str) -> Iterator[list[str]]:
    """Let /run/sources/libsrtp be packed and served after `make` was done to it; gives the arguments to build it."""
    hpb.check_output(
        f"rm -rf /run/sources && mkdir -p /run/sources/libsrtp && cd /run/sources && {make} && "
        f"tar -czf libsrtp.tar.gz libsrtp && {SERVE} && sleep 1"
    )
    digest = hpb.check_output("sha256sum /run/sources/libsrtp.tar.gz").split()[0]
    try:
        yield [
            *("-e", "janus_pull=false", "-e", "janus_libsrtp_url=http://127.0.0.1:8999/libsrtp.tar.gz"),
            *("-e", "janus_libsrtp_version=2.99.0", "-e", f"janus_libsrtp_sha256={digest}"),
        ]
    finally:
        hpb.check_output(f"systemctl stop sources; rm -rf /run/sources {BASE}/janus/build/libsrtp.tar")


@fault("the source of Janus is another one", "libsrtp", "sha256", "janus_libsrtp_url")
def _source_other(hpb) -> Iterator[list[str]]:
    for arguments in served(hpb, "echo other > libsrtp/configure"):
        yield [*arguments[:-1], f"janus_libsrtp_sha256={'0' * 64}"]


@fault("Janus does not compile", "Janus 1.4.1", "this-does-not-compile", "janus_version")
def _does_not_compile(hpb) -> Iterator[list[str]]:
    script = "#!/bin/sh\\necho this-does-not-compile >&2; exit 1\\n"
    yield from served(hpb, f"printf '{script}' > libsrtp/configure && chmod +x libsrtp/configure")


@contextmanager
def small_disk(hpb) -> Iterator[None]:
    """Put the base directory onto a file system of a few megabytes, and fill that to the last byte."""
    hpb.check_output(
        f"systemctl stop docker.socket docker && mv {BASE} {BASE}-kept && mkdir {BASE} && "
        f"mount -t tmpfs -o size=8m,mode=755 tmpfs {BASE} && cp -a {BASE}-kept/. {BASE} && systemctl start docker"
    )
    wait_healthy(hpb, 120)
    hpb.check_output(f"dd if=/dev/zero of={BASE}/filler bs=4096 2> /dev/null; true")
    try:
        yield
    finally:
        hpb.check_output(
            f"systemctl stop docker.socket docker && rm -f {BASE}/filler && cp -a {BASE}/. {BASE}-new && "
            f"umount {BASE} && rmdir {BASE} && mv {BASE}-new {BASE} && rm -r {BASE}-kept && systemctl start docker"
        )
        wait_healthy(hpb, 120)


@fault("the disk is full", "MiB free", "hpb_min_free_mb")
def _full(hpb) -> Iterator[list[str]]:
    with small_disk(hpb):
        yield []


@fault("the disk is full where nobody looked", "No space left on device", BASE)
def _full_unseen(hpb) -> Iterator[list[str]]:
    with small_disk(hpb):
        yield ["-e", "hpb_min_free_mb=0"]


@fault("the disk of Docker is full", "no space left on device", "Janus that runs was not touched")
def _full_docker(hpb) -> Iterator[list[str]]:
    # What is built comes there first.
    there = "/var/lib/docker/tmp"
    hpb.check_output(f"mkdir -p {there} && mount -t tmpfs -o size=64k tmpfs {there}")
    try:
        yield ["-e", "janus_pull=false", "-e", "janus_rebuild=true"]
    finally:
        hpb.check_output(f"umount {there}")


def sentence(output: str) -> str:
    """Return what the run says at its end: the message of the task that failed."""
    return re.sub(r"\s+", " ", output.partition("PLAY RECAP")[0].rpartition("TASK [")[2])


@pytest.mark.parametrize("name", FAULTS)
def test_a_run_that_cannot_succeed_says_why_and_harms_nothing(name, hpb, changed, limit):
    wanted = FAULTS[name]
    config = f"sha256sum {BASE}/signalling/config/server.conf"
    with wanted.inject(hpb) as arguments:
        before, known = started(hpb), hpb.check_output(config)
        begin = time.monotonic()
        done = play(*arguments, inventory=changed, playbook="playbooks/deploy.yml")
        print(f"{name}, after {time.monotonic() - begin:.0f} s: {sentence(done.stdout)}")
        assert done.returncode != 0
        for word in wanted.words:
            assert word in sentence(done.stdout)
        assert "Traceback" not in done.stdout + done.stderr
        # It has the last lines of the log, and Ansible says it twice.
        assert len(sentence(done.stdout)) < 8000
        # Nothing was touched that works, and it still does.
        assert started(hpb) == before
        assert hpb.check_output(config) == known
        calls_work()
    completes(hpb, changed, limit)


def completes(hpb, changed: Path, limit: int) -> None:
    """Run once more without the fault: the change is there, and calls work."""
    done = play(inventory=changed)
    assert done.returncode == 0, done.stdout[-4000:]
    assert f"sessionlimit = {limit}" in hpb.check_output(f"cat {BASE}/signalling/config/server.conf")


def test_what_a_failed_run_has_changed_is_taken_back_by_a_run_for_one_instance(hpb):
    memory = "docker inspect --format '{{.HostConfig.Memory}}' nats"
    before, known = started(hpb), hpb.check_output(memory)
    with FAULTS["the server of a source of Janus is away"].inject(hpb) as arguments:
        assert play("-e", "nats_memory=99M", *arguments, playbook="playbooks/deploy.yml").returncode != 0
    assert hpb.check_output(memory) == str(99 * 1024**2) != known
    # That leaves alone what is as it was deployed last, which this one no longer is.
    done = play("-e", "instance=nc", playbook="playbooks/deploy.yml")
    assert done.returncode == 0, done.stdout[-4000:]
    assert hpb.check_output(memory) == known and started(hpb) == before


def test_docker_that_was_stopped_is_named_and_nothing_else_happens(hpb, changed, limit):
    known = hpb.check_output(f"find {BASE} -type f -exec sha256sum {{}} + | sort")
    hpb.check_output("systemctl stop docker.socket docker")
    try:
        done = play(inventory=changed, playbook="playbooks/deploy.yml")
        assert done.returncode != 0
        assert "A Docker engine is installed on this host, but does not answer" in sentence(done.stdout)
        assert hpb.check_output(f"find {BASE} -type f -exec sha256sum {{}} + | sort") == known
    finally:
        hpb.check_output("systemctl start docker")
    wait_healthy(hpb, 120)
    completes(hpb, changed, limit)


@pytest.mark.parametrize(
    "task",
    ["Have a running and healthy container janus", "Have the changed configuration read by signalling"],
)
def test_a_host_that_boots_in_the_middle_of_a_run_is_completed_by_the_next(task, hpb, limit, tmp_path):
    # So that Janus is being made anew when the host goes down; each time it gets another level.
    changed = write_inventory(
        tmp_path / "inventory.yml",
        limited(limit),
        lambda data: data["hpb"]["vars"].update(janus_debug_level=5 + limit % 2),
    )
    tasks = tmp_path / "tasks"
    reboot = f"until grep -q '{task}' {tasks}; do sleep 0.1; done; sleep 0.5; docker restart -t 0 {hpb.backend.name}"
    tasks.write_text("")
    boot = subprocess.Popen(["sh", "-c", reboot], stdout=subprocess.DEVNULL)
    try:
        code, output, began = run_tasks(changed, tasks=tasks)
        assert boot.wait(60) == 0
    finally:
        boot.kill()
    print(sentence(output))
    assert code != 0
    # Behind it come only what is put back and the words of the failure.
    assert any(task in name for name in began[-3:])
    assert "Traceback" not in output
    wait_healthy(hpb, 180)
    calls_work()
    completes(hpb, changed, limit)
