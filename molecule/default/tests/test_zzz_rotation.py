# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""New secrets on the deployed hosts. It comes last: what the other tests know of the secrets is old afterwards."""

from __future__ import annotations

import json

from conftest import SERVICES, play, recap, secret_values

FILE = "/opt/nextcloud-talk-hpb/secrets/secrets.json"


def started(hpb) -> dict[str, str]:
    return {name: hpb.check_output("docker inspect --format '{{.State.StartedAt}}' %s", name) for name in SERVICES}


def stored(hpb) -> dict:
    return json.loads(hpb.check_output("cat %s", FILE))


def test_an_instance_gets_new_secrets_without_a_restart(hpb):
    old, before = stored(hpb), started(hpb)
    dry = play("-e", "rotate=nc", "--check", "--diff", playbook="playbooks/rotate.yml")
    assert dry.returncode == 0, dry.stdout[-4000:]
    assert stored(hpb) == old
    done = play("-e", "rotate=nc", "-vvv", "--diff", playbook="playbooks/rotate.yml")
    assert done.returncode == 0, done.stdout[-4000:]
    new = stored(hpb)
    for value in secret_values(old) | secret_values(new):
        assert value not in dry.stdout + dry.stderr + done.stdout + done.stderr
    kept, changed = old["instances"].pop("nc"), new["instances"].pop("nc")
    assert new == old
    assert set(changed) == {"url", "backend", "turn"}
    assert changed["backend"] != kept["backend"] and changed["turn"] != kept["turn"]
    assert started(hpb) == before
    config = hpb.check_output("cat /opt/nextcloud-talk-hpb/signalling/config/server.conf")
    assert changed["backend"] in config and kept["backend"] not in config
    again = play()
    assert again.returncode == 0, again.stdout[-4000:]
    assert {host: counts["changed"] for host, counts in recap(again.stdout).items()} == dict.fromkeys(
        recap(again.stdout), 0
    )


def test_the_internal_secret_restarts_the_signaling_server_only(hpb):
    old, before = stored(hpb), started(hpb)
    done = play("-e", "rotate=internal", playbook="playbooks/rotate.yml")
    assert done.returncode == 0, done.stdout[-4000:]
    assert "internal: the signaling server restarts" in done.stdout
    assert {key for key in old if old[key] != stored(hpb)[key]} == {"internal"}
    after = started(hpb)
    assert {name for name in SERVICES if after[name] != before[name]} == {"signalling"}
