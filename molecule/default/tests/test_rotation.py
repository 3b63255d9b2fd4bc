# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""New secrets for one instance while calls are running, and what an interrupted rotation leaves behind."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from aioice import stun
from conftest import ADDRESS, INVENTORY, PROJECT, SERVICES, play, read_secrets, recap, secret_values, started
from test_turn import permission

sys.path.insert(0, str(PROJECT / "molecule/shared"))
sys.path.insert(0, str(PROJECT / ".tree"))
import sudden_end  # noqa: E402
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _signaling_client  # noqa: E402
from running_call import RunningCall  # noqa: E402

URL = "https://talk.example.org"


def call(hpb, backend: str, turn_secret: str | None) -> RunningCall:
    """A call in the name of the instance with the URL `backend`, over TURN only when there is a secret for it."""
    relay = {"host": "turn.example.org", "port": 3478, "transport": "udp", "secret": turn_secret}
    return RunningCall(
        {
            "url": URL,
            "internal_secret": read_secrets(hpb)["internal"],
            "ca_pem": [hpb.check_output("cat /opt/nextcloud-talk-hpb/ca/ca.pem")],
            "resolve": {"talk.example.org": ADDRESS, "turn.example.org": ADDRESS},
            "backend": backend,
            "relay": relay if turn_secret else None,
        }
    )


def signed_request(hpb, backend: str, secret: str) -> int:
    """Return the status that the signaling server answers to a request signed with `secret`."""
    body = json.dumps({"type": "message", "message": {"data": {}}}).encode()
    headers = {"Content-Type": "application/json", **_signaling_client.signed_headers(secret, backend, body)}
    context = ssl.create_default_context(cadata=hpb.check_output("cat /opt/nextcloud-talk-hpb/ca/ca.pem"))
    request = urllib.request.Request(f"{URL}/api/v1/room/nobody", data=body, headers=headers)
    with _signaling_client.pinned_names({"talk.example.org": ADDRESS}):
        try:
            return urllib.request.urlopen(request, context=context, timeout=10).status
        except urllib.error.HTTPError as error:
            return error.code


def stored(web) -> str:
    """Return the secret that the Nextcloud nc has for its signaling server."""
    return json.loads(web.check_output("php /var/www/nc/occ talk:signaling:list --output=json"))["secret"]


def killed_at(task: str, *arguments: str) -> None:
    """Run the rotation and kill it without warning when it begins the task whose name holds `task`."""
    process = subprocess.Popen(
        ["ansible-playbook", "-i", str(INVENTORY), "playbooks/rotate.yml", *arguments],
        cwd=PROJECT,
        env={**os.environ, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    seen = ""
    for line in process.stdout:
        seen += line
        if line.startswith("TASK [") and task in line:
            break
    sudden_end.end(process.pid)
    process.wait()
    assert task in seen.splitlines()[-1], seen[-3000:]


def test_a_rotation_drops_no_call_and_ends_the_old_secrets(hpb, web):
    secrets = read_secrets(hpb)
    old, other, before = secrets["instances"]["nc"], secrets["instances"]["dev_nc"], started(hpb)
    relayed, direct = call(hpb, "https://nc.example.org", old["turn"]), call(hpb, "https://dev.example.org", None)
    with relayed, direct:
        done = play("-e", "rotate=nc", "-vvv", "--diff", playbook="playbooks/rotate.yml")
    assert done.returncode == 0, done.stdout[-6000:]
    for figures in (relayed.figures, direct.figures):
        print(figures)
        for kind in ("audio", "video"):
            assert figures[kind]["frames"] > 0
            assert figures[kind]["longest_pause"] <= 1
    assert relayed.figures["pair"]["local"]["type"] == "relay"
    assert direct.figures["pair"]["local"]["type"] == "host"
    assert started(hpb) == before

    now = read_secrets(hpb)
    new = now["instances"]["nc"]
    assert new["backend"] != old["backend"] and new["turn"] != old["turn"] and "next" not in new
    assert now["instances"]["dev_nc"] == other
    for value in secret_values(secrets) | secret_values(now):
        assert value not in done.stdout + done.stderr
    assert stored(web) == new["backend"]
    turn = json.loads(web.check_output("php /var/www/nc/occ talk:turn:list --output=json"))
    assert [entry["secret"] for entry in turn] == [new["turn"]]

    assert signed_request(hpb, "https://nc.example.org", new["backend"]) == 200
    assert signed_request(hpb, "https://nc.example.org", old["backend"]) == 403
    assert asyncio.run(permission(ADDRESS, new["turn"])) == 200
    with pytest.raises(stun.TransactionFailed) as refused:
        asyncio.run(permission(ADDRESS, old["turn"]))
    assert refused.value.response.error_code == 401


def test_an_unknown_name_is_refused_before_anything_changes(hpb):
    before = read_secrets(hpb)
    done = play("-e", "rotate=nowhere", playbook="playbooks/rotate.yml")
    assert done.returncode != 0
    assert "nowhere" in done.stdout
    assert all(counts["changed"] == 0 for counts in recap(done.stdout).values())
    assert read_secrets(hpb) == before


def test_a_dry_run_of_a_rotation_changes_nothing_and_says_what_it_costs(hpb):
    before = read_secrets(hpb)
    done = play("-e", "rotate=nc", "--check", "--diff", playbook="playbooks/rotate.yml")
    assert done.returncode == 0, done.stdout[-4000:]
    assert "restarts no container, running calls go on" in done.stdout
    assert read_secrets(hpb) == before
    for value in secret_values(before):
        assert value not in done.stdout


# Before the Nextcloud is told, between the two changes, and behind them.
PLACES = (
    "changeover | Signaling, TURN and STUN server",
    "changeover | Read back what is stored",
    "rotation_promote | Put the next secrets in place",
)


@pytest.mark.long
@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize("place", PLACES)
def test_an_interrupted_rotation_is_completed_when_run_again(hpb, web, place, settled):
    old, before, begun = read_secrets(hpb)["instances"]["nc"], started(hpb), time.time()
    killed_at(place, "-e", "rotate=nc")
    if settled:
        done = play("-e", "hpb_verify=false")
        assert done.returncode == 0, done.stdout[-4000:]
        now = read_secrets(hpb)["instances"]["nc"]
        assert stored(web) == now["backend"]
        assert signed_request(hpb, "https://nc.example.org", now["backend"]) == 200
    done = play("-e", "rotate=nc", playbook="playbooks/rotate.yml")
    assert done.returncode == 0, done.stdout[-4000:]
    new = read_secrets(hpb)["instances"]["nc"]
    assert "next" not in new and new["backend"] != old["backend"] and new["turn"] != old["turn"]
    assert stored(web) == new["backend"]
    assert signed_request(hpb, "https://nc.example.org", new["backend"]) == 200
    assert started(hpb) == before
    assert 'Failed attempt on "BackendRoomAuth"' not in hpb.check_output(
        f"docker logs --since {begun:.3f} signalling 2>&1"
    )
    again = play("-e", "hpb_verify=false")
    assert again.returncode == 0, again.stdout[-4000:]
    assert all(counts["changed"] == 0 for counts in recap(again.stdout).values()), again.stdout[-4000:]
    assert not hpb.file("/run/nextcloud-talk-hpb-changeover").exists
    assert not hpb.file("/opt/nextcloud-talk-hpb/traefik/config/dynamic/changeover.yml").exists


def test_the_internal_secret_restarts_the_signaling_server_only(hpb):
    old, before = read_secrets(hpb), started(hpb)
    done = play("-e", "rotate=internal", playbook="playbooks/rotate.yml")
    assert done.returncode == 0, done.stdout[-4000:]
    assert "internal: the signaling server restarts" in done.stdout
    new = read_secrets(hpb)
    assert {key for key in old if old[key] != new[key]} == {"internal"}
    assert [name for name, then, now in zip(SERVICES, before, started(hpb)) if then != now] == ["signalling"]
