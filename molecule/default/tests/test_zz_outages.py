# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens without anybody's help when a part is late, away, or the host boots."""

from __future__ import annotations

import subprocess
import time

import pytest
from conftest import HPB, SERVICES, play, recap


def wait_healthy(hpb, seconds: float) -> None:
    """Wait until all five containers are healthy."""
    deadline = time.monotonic() + seconds
    states: dict[str, str] = {}
    while time.monotonic() < deadline:
        answer = hpb.run("docker inspect --format '{{.Name}} {{.State.Health.Status}}' " + " ".join(SERVICES))
        # While Docker itself is still starting, it has errors to tell instead.
        states = dict(line.split() for line in answer.stdout.splitlines() if len(line.split()) == 2)
        if len(states) == len(SERVICES) and set(states.values()) == {"healthy"}:
            return
        time.sleep(1)
    raise AssertionError(f"not healthy after {seconds} s: {states}")


def calls_work() -> None:
    done = play(playbook="playbooks/verify.yml")
    assert done.returncode == 0, done.stdout[-4000:]


def test_after_a_reboot_everything_comes_back_by_itself(hpb):
    subprocess.run(["docker", "restart", HPB], check=True, capture_output=True)
    wait_healthy(hpb, 120)
    calls_work()
    again = play("-e", "hpb_verify=false")
    assert again.returncode == 0, again.stdout[-4000:]
    assert all(counts["changed"] == 0 for counts in recap(again.stdout).values())


def test_nats_that_is_ten_seconds_late_is_waited_for(hpb):
    hpb.check_output("docker stop signalling nats")
    hpb.check_output("docker start signalling")
    time.sleep(10)
    assert "waiting for NATS" in hpb.check_output("docker logs --since 10s signalling 2>&1")
    hpb.check_output("docker start nats")
    wait_healthy(hpb, 90)
    calls_work()


@pytest.mark.long
def test_nats_that_is_away_for_three_minutes(hpb):
    hpb.check_output("docker stop nats")
    time.sleep(180)
    hpb.check_output("docker start nats")
    wait_healthy(hpb, 90)
    calls_work()
