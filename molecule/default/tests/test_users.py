# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verification as a user of a Nextcloud: what it proves, what it leaves, and what it says of faults."""

from __future__ import annotations

import json

import yaml
from conftest import HPB, INVENTORY, WEB, play
from test_runs import Watch, inventory

__all__ = ["inventory"]

USER = yaml.safe_load(INVENTORY.read_text())["nextcloud"]["children"]["nc"]["vars"]
STANDIN = "/var/www/nc/standin"


def verify(*arguments, inventory=None):
    """Verify the instance nc, and return the run."""
    return play("-e", "instance=nc", *arguments, inventory=inventory, playbook="playbooks/verify.yml")


def requests(web):
    """Return what the Nextcloud was asked, and forget it."""
    return [json.loads(line) for line in web.check_output(f"{STANDIN} log --clear").splitlines()]


def test_a_call_is_placed_as_a_user_and_leaves_nothing(web):
    requests(web)
    with Watch(HPB) as backend, Watch(WEB) as nextcloud:
        done = verify("-vvv", "--diff")
    assert done.returncode == 0, done.stdout[-4000:]
    for step in ("what Talk tells a user", "a user's ticket", "a user's token", "direct call as a user"):
        assert f"nc        {step}" in done.stdout
    relayed = next(line for line in done.stdout.splitlines() if "nc        relayed call as a user" in line)
    assert " ok " in relayed and "relay " in relayed
    assert USER["talk_verify_password"] not in done.stdout + done.stderr + backend.seen + nextcloud.seen
    assert web.check_output("cat /var/www/nc/data/conversations.json") == "{}"
    seen = requests(web)
    own = [entry for entry in seen if entry.get("userid") == "alice"]
    assert {entry["verdict"] for entry in own if entry.get("action") != "leave"} == {"ok"}
    # The signaling server tells of a client that has gone when it comes to it; the conversation may have gone, too.
    assert {entry["verdict"] for entry in own if entry.get("action") == "leave"} <= {"ok", "no_such_room"}
    assert (
        [entry.get("type") for entry in seen].count("create")
        == [entry.get("type") for entry in seen].count("remove")
        == 2
    )


def test_a_wrong_password_is_tried_once_and_named(web, inventory):
    def forget(data):
        data["nextcloud"]["children"]["nc"]["vars"]["talk_verify_password"] = "not-the-password-of-alice-in-the-test"

    requests(web)
    done = verify(inventory=inventory(forget))
    assert done.returncode != 0
    assert "https://nc.example.org refuses the password of alice (401)" in done.stdout
    assert [entry["verdict"] for entry in requests(web)].count("login_failed") == 1


def test_settings_that_name_another_server_are_named(web):
    occ = "php /var/www/nc/occ config:app:"
    kept = web.check_output(f"{occ}get spreed signaling_servers")
    other = json.loads(kept)
    other["servers"][0]["server"] = "https://other.example.net"
    web.check_output(f"{occ}set spreed signaling_servers --value=%s", json.dumps(other))
    try:
        done = verify("-e", "talk_setup_check=false")
    finally:
        web.check_output(f"{occ}set spreed signaling_servers --value=%s", kept)
    assert done.returncode != 0
    words = (
        "Talk in https://nc.example.org sends its users to https://other.example.net, expected https://talk.example.org"
    )
    assert words in done.stdout
