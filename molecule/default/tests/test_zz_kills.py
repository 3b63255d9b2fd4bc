# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs are killed without warning at each of their tasks: what was there goes on, and the next run completes all of it.

HPB_TEST_KILLS=N takes N kills of each way, spread evenly, instead of one at every task, and HPB_TEST_KILLS_FROM=N
leaves out those before task N: together they let one go on where an earlier run was ended.
HPB_TEST_CALLS=N places a call after every Nth kill, before and after the run that completes it (5 unless given).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import PROJECT, SERVICES, play, read_secrets, recap
from states import BASE, NEXTCLOUDS, differences, run_tasks, snapshot, write_inventory
from test_rotation import signed_request

pytestmark = pytest.mark.long

# Seconds until the backend answers after a kill, which may have come while a container was made anew: what the host
# was told already it completes.
PATIENCE = 60
# Half of the kills come in the middle of a task.
DELAY = 0.4


def as_it_was(data):
    """Start without the instance test_nc."""
    data["nextcloud"]["children"]["test_nc"]["vars"]["talk_state"] = "absent"


def otherwise(data):
    """Let an instance join, and change something of each container: two while they run, three by making them anew."""
    data["nextcloud"]["children"]["nc"]["vars"]["talk_session_limit"] = 16
    data["hpb"]["vars"].update(
        signalling_memory="600M",
        nats_memory="300M",
        janus_debug_level=5,
        coturn_max_port=65000,
        traefik_dashboard=True,
        traefik_dashboard_users={"somebody": "only-in-this-test-bed"},
    )


def forget(hpb) -> None:
    """Take the secrets of test_nc out of the file, as if it had never been there."""
    document = read_secrets(hpb)
    document["instances"].pop("test_nc", None)
    path = f"{BASE}/secrets/secrets.json"
    subprocess.run(
        ["docker", "exec", "-i", hpb.backend.name, "sh", "-c", f"cat > {path}"],
        input=json.dumps(document, indent=2, sort_keys=True) + "\n",
        text=True,
        check=True,
    )


def answers(hpb, instances: tuple[str, ...] = ("nc", "dev_nc")) -> bool:
    """Whether requests that the Nextclouds sign with the secrets on the host are taken, now or soon."""
    urls = {"nc": "https://nc.example.org", "dev_nc": "https://dev.example.org"}
    secrets = read_secrets(hpb)["instances"]
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            if all(signed_request(hpb, urls[name], secrets[name]["backend"]) == 200 for name in instances):
                return True
        except OSError:
            pass
        if time.monotonic() > deadline:
            return False
        time.sleep(1)


def calls() -> str:
    """Place a call for nc and dev_nc; returns nothing, or the end of what the run said."""
    done = play("-e", "verify_seconds=1", "-e", "instance=nc", playbook="playbooks/verify.yml")
    return "" if done.returncode == 0 else done.stdout[-3000:]


def spread(count: int) -> list[int]:
    """Return the numbers of the tasks to kill at, of `count` tasks."""
    first = int(os.environ.get("HPB_TEST_KILLS_FROM") or 1)
    left = count + 1 - first
    wanted = int(os.environ.get("HPB_TEST_KILLS") or left)
    if wanted >= left:
        return list(range(first, count + 1))
    return [first + int((number + 0.5) * left / wanted) for number in range(wanted)]


def test_a_run_killed_at_any_task_is_completed_by_the_next(hpb, web, other, tmp_path):
    every = int(os.environ.get("HPB_TEST_CALLS", "5"))
    ways = {
        "back": write_inventory(tmp_path / "back.yml", as_it_was),
        "there": write_inventory(tmp_path / "there.yml", otherwise),
    }
    wanted, names = {}, {}
    # Once to be where it starts; then undisturbed, there and back.
    for way in ("back", "there", "back"):
        if way == "there":
            forget(hpb)
        code, output, names[way] = run_tasks(ways[way], tasks=tmp_path / "tasks")
        assert code == 0, output[-4000:]
        wanted[way] = snapshot(hpb, web, other)
    assert differences(wanted["back"], wanted["there"])

    plan = {way: spread(len(names[way])) for way in ways}
    rounds = max(len(numbers) for numbers in plan.values())
    lines, problems = [], []
    for place in range(rounds):
        for way in ("there", "back"):
            if way == "there":
                forget(hpb)
            # Where one way has fewer tasks than the other, its last ones are taken again.
            number = plan[way][min(place, len(plan[way]) - 1)]
            found = kill_and_complete(hpb, web, other, ways[way], number, place % 2 * DELAY, tmp_path / "tasks")
            found += mark_calls(place, every)
            difference = differences(wanted[way], snapshot(hpb, web, other))
            if difference:
                found.append("the end is another one")
            line = f"{way:5} {number:>3} {names[way][number - 1]:64.64} {'; '.join(found) or 'as undisturbed'}"
            lines.append(line)
            # Seen while it runs, which takes hours with all tasks.
            sys.stderr.write(f"{line}\n{difference}\n" if difference else f"{line}\n")
            sys.stderr.flush()
            problems += [f"{way} {number}: {text}" for text in found]
    print(f"{'way':5} {'at':>3} {'task':64} what the next run left", *lines, sep="\n")
    home = play("-e", "verify_seconds=1")
    assert home.returncode == 0, home.stdout[-4000:]
    again = play("-e", "hpb_verify=false")
    assert all(counts["changed"] == 0 for counts in recap(again.stdout).values()), again.stdout[-4000:]
    assert problems == []


def mark_calls(place: int, every: int) -> list[str]:
    """Place a call after every so many kills; returns what went wrong in words."""
    if place % every:
        return []
    return ["no call afterwards"] if calls() else []


def kill_and_complete(hpb, web, other, inventory: Path, number: int, delay: float, tasks: Path) -> list[str]:
    """Kill a run at a task, look at what is left, run again; returns what went wrong in words."""
    found = []
    code, output, _names = run_tasks(inventory, tasks=tasks, kill=number, delay=delay)
    if code != -9 and not (code == 0 and delay):
        found.append(f"the run ended with {code} and was not killed")
    if not answers(hpb):
        found.append("the backend did not answer after the kill")
    code, output, _names = run_tasks(inventory, tasks=tasks)
    if code:
        found.append(f"the next run failed: {output.partition('fatal: ')[2][:600]}")
    return found


# The first container of each role, and what comes before any.
BARE = (
    "engine | Install Docker and what Ansible needs to talk to it",
    "secrets | Create the secrets that are missing",
    "secrets | Put each instance's TURN secret into coturn's database",
    *(f"run | Have a running and healthy container {name}" for name in SERVICES),
    "remember | Keep what is deployed now, and how the containers are",
    "register | Signaling, TURN and STUN server",
)


def make_bare(hpb, web, other) -> None:
    """Make the backend's host anew, and let no Nextcloud know of it."""
    for instance, (host, occ) in NEXTCLOUDS.items():
        for kind in ("signaling", "turn", "stun"):
            where = {"web": web, "other": other}[host]
            where.check_output(f"{occ} config:app:delete spreed {kind}_servers")
        assert "talk.example.org" not in where.check_output(f"{occ} talk:signaling:list --output=json"), instance
    environment = hpb.backend.name.split("-")[1]
    subprocess.run(["docker", "rm", "-f", "-v", hpb.backend.name], check=True, capture_output=True)
    testbed = [sys.executable, str(PROJECT / "molecule/shared/testbed.py"), "up", environment]
    subprocess.run(testbed, check=True, capture_output=True)


def test_a_first_run_killed_on_a_bare_host_is_completed_by_the_next(hpb, web, other, tmp_path):
    inventory = write_inventory(tmp_path / "inventory.yml")
    picked = BARE[:: max(1, len(BARE) // int(os.environ.get("HPB_TEST_KILLS") or len(BARE)))]
    lines, problems = [], []
    names: list[str] = []
    wanted: dict[str, str] = {}
    for task in (None, *picked):
        make_bare(hpb, web, other)
        found = []
        if task:
            number = names.index(task) + 1
            # In the middle of it.
            code, output, _names = run_tasks(inventory, tasks=tmp_path / "tasks", kill=number, delay=1)
            if code != -9:
                found.append(f"the run ended with {code} and was not killed")
        code, output, began = run_tasks(inventory, tasks=tmp_path / "tasks")
        if code:
            found.append(f"the run failed: {output.partition('fatal: ')[2][:600]}")
        if task is None:
            assert not found, output[-4000:]
            wanted, names = snapshot(hpb, web, other, anew=True), [name.rpartition(" : ")[2] for name in began]
            continue
        difference = differences(wanted, snapshot(hpb, web, other, anew=True))
        if difference:
            found.append("the end is another one")
        if calls():
            found.append("no call afterwards")
        lines.append(f"{task:64.64} {'; '.join(found) or 'as undisturbed'}")
        sys.stderr.write(f"{lines[-1]}\n{difference}\n")
        problems += [f"{task}: {text}" for text in found]
    print(*lines, sep="\n")
    assert problems == []


def test_units_that_a_killed_run_wrote_are_read_by_the_next(hpb):
    unit = "nextcloud-talk-hpb-watch.timer"
    stale = f"systemctl show --property NeedDaemonReload --value {unit}"
    arguments = ["-e", json.dumps({"watch_period": 3600, "watch_webhook_url": "http://127.0.0.1:9/hook"})]
    try:
        done = play(*arguments, playbook="playbooks/watch.yml")
        assert done.returncode == 0, done.stdout[-4000:]
        # What a run leaves that dies after it has written the unit and before it has told systemd.
        path = f"/etc/systemd/system/{unit}"
        hpb.check_output(f"sed -i s/3600s/3601s/ {path} && systemctl daemon-reload && sed -i s/3601s/3600s/ {path}")
        assert hpb.check_output(stale) == "yes"
        done = play(*arguments, playbook="playbooks/watch.yml")
        assert done.returncode == 0, done.stdout[-4000:]
        assert hpb.check_output(stale) == "no"
    finally:
        play(*arguments, "-e", "watch_state=absent", playbook="playbooks/watch.yml")
