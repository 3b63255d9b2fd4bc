# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two calls are held through every change that need not end one: no media pauses, no container restarts."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from conftest import ADDRESS, play, read_secrets, recap, started
from states import BASE, Edit, write_inventory
from test_rotation import call

pytestmark = pytest.mark.long

# Seconds without a frame that nobody would call a dropped call.
GAP = 1.0
NO_CALL = ("-e", "hpb_verify=false")


@dataclass(frozen=True)
class Step:
    """What is run, and how many of the hosts' tasks change something: none or some."""

    edits: tuple[Edit, ...] = ()
    arguments: tuple[str, ...] = NO_CALL
    playbook: str = "site.yml"
    changes: bool = True
    before: str = "true"
    # A command on the backend's host, and what its output holds when the change has arrived.
    proof: tuple[str, str] = ("true", "")


def leave(data):
    """Let the instance test_nc leave."""
    data["nextcloud"]["children"]["test_nc"]["vars"]["talk_state"] = "absent"


def limit(data):
    """Give the instance nc another limit of sessions."""
    data["nextcloud"]["children"]["nc"]["vars"]["talk_session_limit"] = 16


def newer_tls(data):
    """Let Traefik speak TLS 1.3 only, which stands in the file that it watches."""
    data["hpb"]["vars"]["traefik_min_tls_version"] = "VersionTLS13"


CONF = f"cat {BASE}/signalling/config/server.conf"
STEPS: dict[str, Step] = {
    "nothing changes": Step(changes=False),
    "an instance leaves": Step((leave,), proof=("docker logs --tail 30 signalling 2>&1", "Backend test_nc removed")),
    "an instance joins": Step(proof=("docker logs --tail 30 signalling 2>&1", "Backend test_nc added")),
    "a session limit changes": Step((limit,), proof=(f"{CONF} | grep sessionlimit", "= 16")),
    "a memory limit changes": Step(
        (limit,),
        (*NO_CALL, "-e", "signalling_memory=600M"),
        proof=("docker inspect --format '{{.HostConfig.Memory}}' signalling", str(600 * 1024**2)),
    ),
    "the secrets of nc are rotated": Step((limit,), ("-e", "rotate=nc"), "playbooks/rotate.yml"),
    "Traefik's watched file changes": Step(
        (limit, newer_tls),
        proof=(
            f"sleep 3; echo | openssl s_client -connect {ADDRESS}:443 -servername talk.example.org -tls1_2 2>&1 | cat",
            "alert protocol version",
        ),
    ),
    "the certificate is made anew": Step((limit, newer_tls), before=f"rm {BASE}/tls/fullchain.pem"),
    "all of it is taken back": Step(),
}


def test_no_change_that_need_not_ends_a_call(hpb, tmp_path):
    secrets, before = read_secrets(hpb), started(hpb)
    relayed = call(hpb, "https://nc.example.org", secrets["instances"]["nc"]["turn"])
    direct = call(hpb, "https://dev.example.org", None)
    lines, problems = [], []
    with relayed, direct:
        for name, step in STEPS.items():
            inventory = write_inventory(tmp_path / "inventory.yml", *step.edits)
            hpb.check_output(step.before)
            done = play(*step.arguments, inventory=inventory, playbook=step.playbook)
            assert done.returncode == 0, done.stdout[-6000:]
            changes = sum(counts["changed"] for counts in recap(done.stdout).values())
            assert bool(changes) == step.changes, done.stdout[-6000:]
            command, words = step.proof
            assert words in hpb.check_output(command), name
            figures = [one.since_last() for one in (relayed, direct)]
            if started(hpb) != before:
                problems.append(f"{name}: a container was restarted")
                before = started(hpb)
            problems += [f"{name}: {text}" for text in broken(figures)]
            gaps = [max(one[kind]["longest_pause"] for kind in ("audio", "video")) for one in figures]
            lines.append(f"{name:34} {gaps[0]:>7.2f} s {gaps[1]:>7.2f} s")
    print(f"{'longest pause of media':34} {'relayed':>9} {'direct':>9}", *lines, sep="\n")
    for one in (relayed, direct):
        print({key: one.figures[key] for key in ("seconds", "sockets_lost", "audio", "video")})
        assert one.figures["sockets_lost"] == 0
    assert relayed.figures["pair"]["local"]["type"] == "relay"
    assert direct.figures["pair"]["local"]["type"] == "host"
    assert problems == []


def broken(figures: list[dict]) -> list[str]:
    """Return in words what the calls lost during a step."""
    found = []
    for name, one in zip(("relayed", "direct"), figures):
        if one["sockets_lost"]:
            found.append(f"{one['sockets_lost']} sockets of the {name} call were lost")
        for kind in ("audio", "video"):
            if not one[kind]["frames"] or one[kind]["longest_pause"] > GAP:
                found.append(f"{kind} of the {name} call paused for {one[kind]['longest_pause']} s")
    return found
