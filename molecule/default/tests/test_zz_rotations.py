# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotations that nobody feels: people chat and are in calls, web workers cache, and it is done again and again."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import time
from pathlib import Path

import pytest
from conftest import ADDRESS, BED, PROJECT, play, read_secrets
from test_rotation import call, signed_request, stored

sys.path.insert(0, str(PROJECT / "molecule/shared"))
from busy_talk import BusyTalk  # noqa: E402

OCC = "php /var/www/nc/occ"
STANDIN = "/var/www/nc/standin"
REFUSED = re.compile(r'(Failed attempt on|Detected bruteforce attempt on) "BackendRoomAuth"')


def people(hpb, senders: int = 5) -> BusyTalk:
    """Five senders and an idle call of two in the Nextcloud nc."""
    return BusyTalk(
        {
            "url": "https://talk.example.org",
            "nextcloud": "https://nc.example.org",
            "user": "alice",
            "password": "TestB-edUse-rAppP-asswo-rd4Al",
            "ca_pem": [hpb.check_output("cat /opt/nextcloud-talk-hpb/ca/ca.pem"), Path(BED["ca"]).read_text()],
            "resolve": {**BED["resolve"], "talk.example.org": ADDRESS, "turn.example.org": ADDRESS},
            "senders": senders,
            "pause": 0.2,
        }
    )


@contextlib.contextmanager
def cached(web, seconds: float = 3):
    """The web workers of nc keep the app configuration, as those of Nextcloud 32 and newer do."""
    web.check_output(f"{STANDIN} set config_cache {seconds}")
    try:
        yield
    finally:
        web.check_output(f"{STANDIN} set config_cache 0")


def gap(output: str) -> float:
    """Return how many seconds lay between the change in nc and that in the server, of a run with -v."""
    stored_at, report = re.search(r'"stored_at": ([\d.]+)', output), re.search(r'"nc": \{[^}]*"at": ([\d.]+)', output)
    return float(report[1]) - float(stored_at[1])


def flowing(*calls) -> None:
    """Nowhere did media pause for longer than a second."""
    for one in calls:
        print({name: one.figures[name] for name in ("audio", "video", "longest_stall")})
    for one in calls:
        for kind in ("audio", "video"):
            assert one.figures[kind]["longest_pause"] <= 1, one.figures


def attempts(web) -> int:
    """Return what nc has counted for the address of the backend."""
    return json.loads(web.check_output(f"{OCC} security:bruteforce:attempts {ADDRESS} --output=json"))["attempts"]


def refusals(hpb, since: float) -> list[str]:
    """Return the lines with which the signaling server counted something since then."""
    log = hpb.check_output(f"docker logs --since {since:.3f} signalling 2>&1")
    return [line for line in log.splitlines() if REFUSED.search(line)]


@pytest.mark.long
@pytest.mark.parametrize("word", ["nc", "nc.turn", "all"])
def test_six_rotations_within_ten_minutes(hpb, web, word):
    web.check_output(f"{OCC} security:bruteforce:reset {ADDRESS}")
    begun = time.time()
    direct, other = call(hpb, "https://nc.example.org", None), call(hpb, "https://dev.example.org", None)
    with cached(web), direct, other, people(hpb) as talk:
        for _round in range(6):
            start = time.time()
            done = play("-v", "-e", f"rotate={word}", playbook="playbooks/rotate.yml")
            assert done.returncode == 0, done.stdout[-6000:]
            took = f"{time.time() - start:.0f} s"
            print(f"{word}: {took}, {len(refusals(hpb, start))} refused, nc counts {attempts(web)}")
            if word != "nc.turn":
                late = re.search(r"nc: the new secret is in force since .*", done.stdout)
                print(f"  {gap(done.stdout):.2f} s between the two changes; {late[0]}")
                assert abs(gap(done.stdout)) <= 1
    print(talk.figures, f"{time.time() - begun:.0f} s in all")
    assert time.time() - begun < 600
    assert refusals(hpb, begun) == []
    assert attempts(web) == 0
    assert set(talk.figures["sent"]) == {"200"} and talk.figures["sockets_lost"] == 0
    flowing(direct, other)
    secrets = read_secrets(hpb)["instances"]["nc"]
    assert stored(web) == secrets["backend"]
    assert signed_request(hpb, "https://nc.example.org", secrets["backend"]) == 200


BROKEN = """#!/usr/bin/python3 -IS
import io, sys
from pathlib import Path
ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))
from ncstandin.occ import main
words = " ".join(sys.argv[1:])
text = sys.stdin.buffer.read() if "config:import" in words else b""
sys.stdin = io.TextIOWrapper(io.BytesIO(text))
named = "signaling_servers" in text.decode() + words and "app:get" not in words
if named or "talk:signaling:add" in words:
    if {written}:
        main(str(ROOT), sys.argv[1:])
    print("SQLSTATE[HY000] [2006] MySQL server has gone away")
    sys.exit(1)
sys.exit(main(str(ROOT), sys.argv[1:]))
"""


@pytest.mark.long
@pytest.mark.parametrize("written", [False, True])
def test_one_that_fails_in_the_middle_keeps_calls_and_the_others_get_theirs(hpb, web, written):
    """The database of nc goes away when its new secret is written: before it is stored, or before occ has said so."""
    web.check_output(f"{OCC} security:bruteforce:reset {ADDRESS}")
    old, begun = read_secrets(hpb)["instances"], time.time()
    occ = web.check_output("cat /var/www/nc/occ")
    own, other = call(hpb, "https://nc.example.org", None), call(hpb, "https://dev.example.org", None)
    with cached(web), own, other, people(hpb) as talk:
        web.check_output("printf %%s %s > /var/www/nc/occ", BROKEN.format(written=written))
        try:
            done = play("-e", "rotate=all", playbook="playbooks/rotate.yml")
        finally:
            web.check_output("printf '%%s\\n' %s > /var/www/nc/occ", occ)
        assert "MySQL server has gone away" in done.stdout, done.stdout[-4000:]
        now = read_secrets(hpb)["instances"]
        print(written, talk.figures, [name for name in now if now[name]["backend"] != old[name]["backend"]])
        for name in ("dev_nc", "test_nc"):
            assert now[name]["backend"] != old[name]["backend"] and "next" not in now[name]
        # Whichever of the two is in force, both sides have it, and the run says whether it is the new one: what was
        # stored is used, and so put in force by the first post, whatever occ said.
        assert (done.returncode == 0) == (now["nc"]["backend"] != old["nc"]["backend"]) == written
        assert signed_request(hpb, "https://nc.example.org", stored(web)) == 200
        assert stored(web) == now["nc"]["backend"]
        done = play("-e", "rotate=nc", playbook="playbooks/rotate.yml")
        assert done.returncode == 0, done.stdout[-4000:]
    secrets = read_secrets(hpb)["instances"]["nc"]
    assert secrets["backend"] != old["nc"]["backend"] and "next" not in secrets
    assert stored(web) == secrets["backend"]
    assert signed_request(hpb, "https://nc.example.org", secrets["backend"]) == 200
    assert refusals(hpb, begun) == [] and attempts(web) == 0
    assert set(talk.figures["sent"]) == {"200"} and talk.figures["sockets_lost"] == 0
    flowing(own, other)


@pytest.mark.long
def test_behind_another_proxy_a_moment_lies_between_the_two_changes(hpb, web):
    """What leads posts aside is taken away; one person chats, and the workers cache nothing."""
    begun = time.time()
    with people(hpb, senders=1) as talk:
        done = play("-v", "-e", "rotate=nc", "-e", '{"traefik_changeover": {}}', playbook="playbooks/rotate.yml")
    assert done.returncode == 0, done.stdout[-6000:]
    print(f"{gap(done.stdout):.2f} s, {len(refusals(hpb, begun))} refused, {talk.figures}")
    assert 0 <= gap(done.stdout) <= 1
    assert len(refusals(hpb, begun)) <= 5 and attempts(web) == 0


@pytest.mark.long
def test_behind_another_proxy_an_address_that_could_be_shut_out_is_not_risked(hpb, web):
    before = read_secrets(hpb)["instances"]["nc"]["backend"]
    value = json.loads(web.check_output(f"{OCC} config:app:get spreed signaling_servers"))
    wrong = json.dumps({**value, "secret": "0" * 64})
    web.check_output(f"{OCC} config:app:set spreed signaling_servers --value=%s", wrong)
    for _time in range(5):
        web.run(f"{STANDIN} talk-post")
    web.check_output(f"{OCC} config:app:set spreed signaling_servers --value=%s", json.dumps(value))
    done = play("-e", "rotate=nc", "-e", '{"traefik_changeover": {}}', playbook="playbooks/rotate.yml")
    assert done.returncode != 0
    found = re.search(r"nc: the signaling server has counted \d wrong requests .* rotate after [\d:]+ UTC", done.stdout)
    assert found, done.stdout[-3000:]
    print(found[0])
    assert read_secrets(hpb)["instances"]["nc"]["backend"] == before == stored(web)
    # Behind our own Traefik nothing is counted, so that nothing is risked.
    done = play("-e", "rotate=nc", playbook="playbooks/rotate.yml")
    assert done.returncode == 0, done.stdout[-3000:]
