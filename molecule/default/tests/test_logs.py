# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook logs against the real programs' logs."""

from __future__ import annotations

import json
import socket
import ssl

import pytest
from conftest import ADDRESS, SERVICES, play, secret_values
from websockets.sync.client import connect


def test_what_went_wrong_is_shown_without_secrets(hpb, secrets):
    context = ssl.create_default_context(cadata=hpb.check_output("cat /opt/nextcloud-talk-hpb/ca/ca.pem"))
    with connect(
        "wss://talk.example.org/spreed",
        sock=socket.create_connection((ADDRESS, 443), 10),
        ssl=context,
        server_hostname="talk.example.org",
    ) as client:
        client.recv(10)
        client.send("this is no message")
        assert "invalid_format" in client.recv(10)
    done = play("-e", "since=5m", playbook="playbooks/logs.yml")
    assert done.returncode == 0, done.stdout[-4000:]
    assert "Error decoding message" in done.stdout, done.stdout[-4000:]
    for value in secret_values(secrets):
        assert value not in done.stdout


def test_lines_of_other_instances_are_left_out(secrets):
    done = play("-e", "instance=nc", "-e", "all=true", playbook="playbooks/logs.yml")
    assert done.returncode == 0, done.stdout[-4000:]
    assert "signalling" in done.stdout
    assert "dev.example.org" not in done.stdout and "test.example.org" not in done.stdout, done.stdout[-4000:]
    for value in secret_values(secrets):
        assert value not in done.stdout


# Two Nextclouds of the inventory are not there: one is switched off, and one is somebody else's.
AWAY = ("nas.example.org", "cloud.client.example")
NOTHING = "Nothing of this kind was logged."


def complaints(hpb, since: str) -> list[str]:
    """Return the lines of the playbook logs since then, without those that name a Nextcloud that is not there."""
    done = play("-e", f"since={since}", "-e", "lines=500", playbook="playbooks/logs.yml")
    assert done.returncode == 0, done.stdout[-4000:]
    shown = json.loads(done.stdout.partition('"msg": ')[2].partition("\n}")[0])
    return [line for line in shown if line != NOTHING and not any(name in line for name in AWAY)]


def now(hpb) -> str:
    return hpb.check_output("date -u +%Y-%m-%dT%H:%M:%S.%NZ")


def uncollected(hpb) -> dict[str, list[str]]:
    """Return the programs in each container that have ended and that nobody there has collected."""
    found = {}
    for name in SERVICES:
        first = hpb.check_output("docker inspect --format '{{.State.Pid}}' %s", name)
        children = hpb.run("ps --no-headers -o stat,comm --ppid %s", first).stdout.splitlines()
        found[name] = [line for line in children if line.startswith("Z")]
    return found


def test_a_verification_that_looks_everywhere_leaves_nothing_in_the_logs_and_no_process(hpb):
    began, before = now(hpb), uncollected(hpb)
    done = play("-e", "verify_diagnose=true", playbook="playbooks/verify.yml")
    assert done.returncode == 0, done.stdout[-4000:]
    assert complaints(hpb, began) == []
    assert uncollected(hpb) == before


@pytest.mark.long
def test_sound_programs_start_and_bear_twenty_verifications_without_a_complaint(hpb):
    """They start in the order of a deployment, since what one says of another's absence is no noise."""
    hpb.check_output("docker stop " + " ".join(reversed(SERVICES)))
    began = now(hpb)
    for name in SERVICES:
        hpb.check_output(
            f"docker start {name} && timeout 90 sh -c 'until [ \"$(docker inspect "
            f"--format {{{{.State.Health.Status}}}} {name})\" = healthy ]; do sleep 1; done'"
        )
    for _time in range(20):
        done = play("-e", "verify_diagnose=true", playbook="playbooks/verify.yml")
        assert done.returncode == 0, done.stdout[-4000:]
    assert complaints(hpb, began) == []
