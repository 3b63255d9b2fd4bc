# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One backend through its life, each test from where the one before it has left it.

It begins on the host hpb; hpb2 is bare.
"""

from __future__ import annotations

import subprocess
import time

import sudden_end
import traces
from conftest import CACHE, PROJECT, call_at, changed, command, environment, lead_to, play, running, secrets_of, stored

FIVE = ["coturn", "janus", "nats", "signalling", "traefik"]
BASE = "/opt/nextcloud-talk-hpb"
MOVE = ["-e", "move_from=old.example.org", "-e", "machine=hpb2"]


def difference(one, other):
    """Return what is in one of two lists of lines only."""
    return [f"- {line}" for line in one if line not in other] + [f"+ {line}" for line in other if line not in one]


def left_behind(before, host, secrets=False):
    """Return what is on a host now and was not, or was and is not; with `secrets` but for those."""
    now = traces.of_host(host)
    found = {kind: difference(lines, now[kind]) for kind, lines in before["hosts"][host].items()}
    if secrets:
        kept = [line for line in found["files"] if line.startswith(f"+ {BASE}")]
        assert [line.split()[1] for line in kept] == [BASE, f"{BASE}/secrets", f"{BASE}/secrets/secrets.json"]
        found["files"] = [line for line in found["files"] if line not in kept]
    return {kind: lines for kind, lines in found.items() if lines}


def test_a_backup_is_one_encrypted_file(vault):
    done = play("backup", "-e", f"backup={vault}", password=True)
    assert done.returncode == 0, done.stdout[-4000:]
    assert vault.read_text(encoding="utf-8").startswith("$ANSIBLE_VAULT;1.1;AES256\n")
    assert "ca/key.pem" in done.stdout and "deployed.json" in done.stdout
    again = play("backup", "-e", f"backup={vault}", password=True)
    assert again.returncode == 0 and set(changed(again.stdout).values()) == {0}


def test_an_image_that_changes_is_preceded_by_a_copy_on_the_host(bed):
    assert not has_copies()
    version = bed["versions"]["nats"]
    run = [
        "sh",
        "-ec",
        f"docker tag nats:{version} nats:other && docker image inspect nats:other >/dev/null",
    ]
    traces.run("hpb", *run)
    shown = play("deploy", "-e", "nats_version=other", "--check")
    assert shown.returncode == 0, shown.stdout[-4000:]
    assert "the state would be copied to" in shown.stdout and not has_copies()
    deployed = traces.run("hpb", "cat", f"{BASE}/deployed.json")
    done = play("deploy", "-e", "nats_version=other")
    assert done.returncode == 0, done.stdout[-4000:]
    assert done.stdout.count("the state was copied to") == 1
    (copy,) = traces.run("hpb", "ls", f"{BASE}/backups").split()
    for name in ("secrets/secrets.json", "ca/key.pem"):
        traces.run("hpb", "cmp", f"{BASE}/{name}", f"{BASE}/backups/{copy}/{name}")
    assert traces.run("hpb", "cat", f"{BASE}/backups/{copy}/deployed.json") == deployed
    assert traces.run("hpb", "stat", "-c", "%a %U", f"{BASE}/backups/{copy}").split() == ["700", "root"]
    assert f"nats:{version}" in traces.run("hpb", "cat", f"{BASE}/backups/{copy}/images.json")
    back = play("deploy")
    assert back.returncode == 0, back.stdout[-4000:]
    assert len(traces.run("hpb", "ls", f"{BASE}/backups").split()) == 2
    same = play("deploy")
    assert set(changed(same.stdout).values()) == {0}
    assert len(traces.run("hpb", "ls", f"{BASE}/backups").split()) == 2


def has_copies():
    """Whether there are copies on the host."""
    return traces.run("hpb", "sh", "-c", f"if test -d {BASE}/backups; then echo yes; else echo no; fi").strip() == "yes"


def test_a_move_leaves_both_up_and_no_nextcloud_is_told_anything(bed):
    known, secrets = stored(), secrets_of("hpb")
    dry = play("move", *MOVE, "--check")
    assert dry.returncode == 0, dry.stdout[-4000:]
    assert secrets_of("hpb2") == {}
    with call_at("hpb", bed) as call:
        done = play("move", *MOVE, "-e", "off=1")
    assert done.returncode == 0, done.stdout[-6000:]
    assert call.figures["missing"] == []
    assert max(call.figures[kind]["longest_pause"] for kind in ("audio", "video")) < 5
    assert running("hpb") == running("hpb2") == FIVE
    assert secrets_of("hpb2") == secrets
    new = bed["hosts"]["hpb2"]["address"]
    for name in ("talk", "turn"):
        assert f"{name}.example.org leads to" in done.stdout and f"must lead to {new}: change its DNS" in done.stdout
    assert stored() == known
    # What was called there really was the new one.
    assert "publish" in traces.run("hpb2", "sh", "-c", "docker logs signalling 2>&1").lower()
    again = play("move", *MOVE)
    assert again.returncode == 0 and set(changed(again.stdout).values()) == {0}


def test_the_old_host_is_stopped_when_the_names_lead_elsewhere_and_nobody_is_left(bed):
    known = stored()
    finish = [*MOVE, "-e", "move_finish=true"]
    early = play("move", *finish)
    assert early.returncode != 0 and "resolve to" in early.stdout
    lead_to("hpb2")
    with call_at("hpb", bed) as call:
        busy = play("move", *finish, "-e", "led_to=hpb2", "-e", "move_wait=10")
    assert busy.returncode != 0
    assert "that are still on old.example.org after 10 s" in busy.stdout and "nothing was stopped" in busy.stdout
    assert call.figures["missing"] == [] and running("hpb") == FIVE
    done = play("move", *finish, "-e", "led_to=hpb2")
    assert done.returncode == 0, done.stdout[-4000:]
    assert running("hpb") == [] and running("hpb2") == FIVE
    traces.run("hpb", "systemctl", "restart", "docker")
    time.sleep(3)
    assert running("hpb") == []
    assert {name: entry["written"] for name, entry in stored().items()} == {
        name: entry["written"] for name, entry in known.items()
    }
    again = play("move", *finish, "-e", "led_to=hpb2")
    assert again.returncode == 0 and set(changed(again.stdout).values()) == {0}


def test_the_host_that_was_left_is_removed_without_a_trace(before):
    known = stored()
    ask = play("remove", "-e", "machine=hpb2")
    assert ask.returncode != 0 and "Nothing is removed unasked, expected -e remove_hpb=true" in ask.stdout
    done = play("remove", "-e", "machine=hpb2", "-e", "remove_hpb=old.example.org", "-e", "remove_secrets=true")
    assert done.returncode == 0, done.stdout[-4000:]
    assert left_behind(before, "hpb") == {}
    assert stored() == known and running("hpb2") == FIVE
    again = play("remove", "-e", "machine=hpb2", "-e", "remove_hpb=old.example.org", "-e", "remove_secrets=true")
    assert again.returncode == 0 and set(changed(again.stdout).values()) == {0}


def test_a_backup_makes_the_same_backend_of_a_fresh_host(vault):
    known, secrets = stored(), secrets_of("hpb2")
    lead_to("hpb")
    done = play("restore", "-e", f"backup={vault}", password=True)
    assert done.returncode == 0, done.stdout[-4000:]
    assert secrets_of("hpb") == secrets
    # One Nextcloud cannot even be asked.
    site = play("site", "-e", "off=1")
    assert site.returncode == 0, site.stdout[-6000:]
    assert running("hpb") == FIVE and secrets_of("hpb") == secrets
    assert stored() == known


def test_the_other_host_and_what_it_alone_used_go_too(before):
    done = play("remove", "-e", "remove_hpb=second.example.org", "-e", "remove_secrets=true")
    assert done.returncode == 0, done.stdout[-4000:]
    assert left_behind(before, "hpb2") == {}
    assert running("hpb") == FIVE


def fail_units():
    """Have the units of the watcher and of coturn's certificate fail, as they do when their program cannot run."""
    for unit, program in (
        ("watch", f"{BASE}/watch/watch.py"),
        ("turn-certificate", f"{BASE}/coturn/certificate/turn_certificate.py"),
    ):
        name = f"nextcloud-talk-hpb-{unit}.service"
        script = f"mv {program} /tmp/away; systemctl start {name}; mv /tmp/away {program}; systemctl is-failed {name}"
        assert traces.run("hpb", "sh", "-c", script).strip() == "failed"


def test_a_removal_that_is_killed_is_completed_and_leaves_no_trace(before):
    assert play("watch").returncode == 0
    fail_units()
    dry = play("remove", "-e", "remove_hpb=true", "--check")
    assert dry.returncode == 0, dry.stdout[-4000:]
    assert running("hpb") == FIVE and "would be gone" in dry.stdout
    killed = subprocess.Popen(
        command("remove", "-e", "remove_hpb=true", "-e", "off=1"),
        cwd=PROJECT,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    for _ in range(600):
        if "signalling" not in running("hpb"):
            break
        time.sleep(0.2)
    sudden_end.end(killed.pid)
    killed.wait()
    assert running("hpb") != FIVE and "nats" in running("hpb")

    done = play("remove", "-e", "remove_hpb=true", "-e", "off=1")
    assert done.returncode == 0, done.stdout[-4000:]
    assert "test_nc (https://test.example.org) keeps its entries: its host is switched off" in done.stdout
    assert "client (https://cloud.client.example) keeps its entries: it is never contacted" in done.stdout
    assert "occ talk:turn:delete turns turn.example.org:5349 tcp" in done.stdout
    assert left_behind(before, "hpb", secrets=True) == {}
    assert traces.talk("test_nc")["signaling"]["servers"] != []
    assert not (CACHE / "handover").exists()

    # It can be reached again.
    last = play("remove", "-e", "remove_hpb=true")
    assert last.returncode == 0, last.stdout[-4000:]
    secrets = secrets_of("hpb")
    for name, was in before["talk"].items():
        now = traces.talk(name)
        assert now["signaling"]["servers"] == []
        assert now["signaling"]["secret"] not in ("", secrets["instances"][name]["backend"])
        assert now["turn"] == was["turn"]
        # Talk itself stores its default when the last one goes.
        assert now["stun"] in (was["stun"], ["stun.nextcloud.com:443"])
    again = play("remove", "-e", "remove_hpb=true")
    assert again.returncode == 0 and set(changed(again.stdout).values()) == {0}


def test_it_can_be_deployed_again_with_the_kept_secrets():
    secrets = secrets_of("hpb")
    done = play("site")
    assert done.returncode == 0, done.stdout[-6000:]
    assert secrets_of("hpb") == secrets and running("hpb") == FIVE
