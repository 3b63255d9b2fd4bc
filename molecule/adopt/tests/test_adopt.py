# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way from a compose installation to a backend of ours, as a user goes it.

Three Nextclouds have the settings that their admins entered for the old backend. Two of them are registered by us; the
third cannot be touched, and goes on with what it has. The tests are steps of one way.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import testinfra

PROJECT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(PROJECT / "molecule/shared"), str(PROJECT / "tests/unit")]

import turn_client  # noqa: E402
from adopt_bed import SECRETS  # noqa: E402

NAME = os.environ.get("HPB_TEST_ENVIRONMENT") or "adopt"
BED_INVENTORY = "molecule/adopt/inventory.yml"
OCC = {
    "NC": ("web", "php /var/www/nc/occ", "/var/www/nc/standin"),
    "DEVNC": (
        "web",
        "docker exec -u www-data dev-app-1 php /var/www/html/occ",
        "docker exec -u www-data dev-app-1 /var/www/html/standin",
    ),
    "TESTNC": (
        "test",
        "podman exec -u www-data test-app-1 php /var/www/html/occ",
        "podman exec -u www-data test-app-1 /var/www/html/standin",
    ),
}
# What a user fills in: of each group the line that is to stand in the place of those that are offered.
FILLED = {
    "NC": "talk_occ: /var/www/nc/occ",
    "DEVNC": "talk_container: dev-app-1",
    "TESTNC": "talk_register: false",
}


@pytest.fixture(scope="session")
def bed():
    """What the test bed says of itself."""
    return json.loads((PROJECT / f".cache/{NAME}/testbed.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def hosts(bed):
    """The test hosts."""
    return {name: testinfra.get_host(f"docker://{host['container']}") for name, host in bed["hosts"].items()}


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Where the user works."""
    made = tmp_path_factory.mktemp("adopt")
    (made / "password").write_text("a-password-for-the-vault\n", encoding="utf-8")
    return made


def play(folder: Path, playbook: str, *arguments: str, adopted: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a playbook as a user does; none of the old secrets may be in what it prints."""
    inventories = ["-i", BED_INVENTORY, *(["-i", str(folder / "inventory")] if adopted else [])]
    done = subprocess.run(
        [
            *(str(Path(sys.executable).parent / "ansible-playbook"), *inventories, playbook, "--diff"),
            *("--vault-password-file", str(folder / "password"), *arguments),
        ],
        cwd=PROJECT,
        env={**os.environ, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "false"},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    print(done.stdout[-6000:], done.stderr[-2000:])
    assert [name for name, value in SECRETS.items() if value in done.stdout + done.stderr] == []
    return done


def ask(hosts, name: str, command: str):
    """Return what a Nextcloud's occ says, from its JSON."""
    host, occ, _standin = OCC[name]
    return json.loads(hosts[host].check_output(f"{occ} {command} --output=json"))


def settings(hosts, name: str):
    """Return everything that a Nextcloud has registered."""
    return {command: ask(hosts, name, f"talk:{command}:list") for command in ("signaling", "turn", "stun")}


@pytest.fixture(scope="session")
def entered(hosts):
    """Enter the old backend into each Nextcloud, as its admin did once; returns the settings by name."""
    for name, (host, occ, _standin) in OCC.items():
        # Without servers it is an empty list.
        if ask(hosts, name, "talk:signaling:list"):
            continue
        hosts[host].check_output(f"{occ} talk:signaling:add https://talk.example.org {SECRETS[name]}")
        hosts[host].check_output(f"{occ} talk:turn:add turn turn.example.org:3478 udp,tcp --secret={SECRETS['turn']}")
    return {name: settings(hosts, name) for name in OCC}


def fill_in(path: Path) -> None:
    """Put one line into each group of hosts.yml, in the place of what is offered there."""
    group, lines = "", []
    for line in path.read_text(encoding="utf-8").splitlines():
        match = re.fullmatch(r"    (\w+):", line)
        group = match.group(1) if match else group
        if line.startswith("        # FILL IN"):
            lines.append(f"        {FILLED[group]}")
        elif not line.startswith("        #"):
            lines.append(line)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="session")
def adopted(folder, entered):
    """Adopt the old installation, fill in and import; returns what the playbook adopt said."""
    done = play(folder, "playbooks/adopt.yml", "-e", "adopt=/srv/talk", "-e", f"into={folder}/inventory", adopted=False)
    assert done.returncode == 0
    fill_in(folder / "inventory/hosts.yml")
    vault = folder / "inventory-secrets.vault"
    assert play(folder, "playbooks/secrets.yml", "-e", f"import={vault}").returncode == 0
    return done.stdout


@pytest.fixture(scope="session")
def deployed(folder, adopted, hosts):
    """Deploy, register and verify; returns the output."""
    done = play(folder, "site.yml")
    assert done.returncode == 0
    return done.stdout


def test_the_old_installation_is_understood_and_untouched(adopted, hosts, folder):
    assert "3 Nextclouds in /srv/talk:" in adopted
    assert "  16. too many are believed as proxies" in adopted
    assert "cd /srv/talk && docker compose down" in adopted
    left = hosts["hpb"].check_output("cd /srv/talk && find . -type f | sort").split()
    assert left == ["./.env", "./compose.yml", "./talk-hpb/signalling.env", "./turnserver.conf"]
    texts = [path.read_text(encoding="utf-8") for path in (folder / "inventory").rglob("*.*") if path.is_file()]
    assert len(texts) == 3
    assert [name for name, value in SECRETS.items() if any(value in text for text in texts)] == []


def test_site_refuses_while_the_old_one_has_the_ports(adopted, hosts, folder, bed):
    """All that it complains of is what the printed steps say; then the old one is stopped."""
    assert hosts["hpb"].run("command -v docker").rc != 0, "the backend is deployed already: create the hosts anew"
    container = bed["hosts"]["hpb"]["container"]
    subprocess.run(["docker", "exec", "-d", container, "python3", "-m", "http.server", "3478"], check=True)
    listening = "ss -Hltn sport = :3478"
    for _attempt in range(50):
        if hosts["hpb"].run(listening).stdout:
            break
        time.sleep(0.2)
    try:
        done = play(folder, "site.yml", "--check")
    finally:
        hosts["hpb"].check_output("kill $(ss -Hltnp sport = :3478 | sed 's/.*pid=\\([0-9]*\\).*/\\1/')")
    assert done.returncode != 0
    complaints = re.findall(r"(Port \S+ is held by \S+)", done.stdout)
    assert set(complaints) == {"Port tcp/3478 is held by python3,"}
    assert "FAILED! => " in done.stdout
    assert "registered" not in done.stdout.partition("Port tcp/3478")[2].partition("PLAY RECAP")[0]


def test_every_nextcloud_is_proven_with_its_old_secrets(deployed, hosts):
    stored = json.loads(hosts["hpb"].check_output("cat /opt/nextcloud-talk-hpb/secrets/secrets.json"))
    kept = {name: (entry["backend"], entry["turn"]) for name, entry in stored["instances"].items()}
    assert kept == {name: (SECRETS[name], SECRETS["turn"]) for name in OCC}
    assert "DEVNC, NC, TESTNC have one TURN secret, as they had before they were adopted" in deployed


def test_no_nextcloud_has_other_settings_than_before(deployed, hosts, entered):
    for name in OCC:
        now, before = settings(hosts, name), entered[name]
        assert (now["signaling"], now["turn"]) == (before["signaling"], before["turn"]), name
    # What cannot be touched is as it was, down to its STUN servers.
    assert settings(hosts, "TESTNC") == entered["TESTNC"]


@pytest.mark.parametrize("name", OCC)
def test_each_nextcloud_reaches_the_backend_with_what_it_has(deployed, hosts, name):
    """A signed request with the secret that is stored there."""
    host, _occ, standin = OCC[name]
    answer = hosts[host].run(f"{standin} talk-post")
    assert answer.rc == 0, answer.stdout + answer.stderr
    assert answer.stdout.split() == ["https://talk.example.org", "200"]


def test_turn_takes_credentials_of_the_old_secret_and_no_others(deployed, hosts, bed):
    server = (bed["hosts"]["hpb"]["address"], 3478)
    (entry,) = ask(hosts, "TESTNC", "talk:turn:list")
    assert asyncio.run(turn_client.allocate(server, entry["secret"], turn_client.UDP, True)) == turn_client.GRANTED
    assert asyncio.run(turn_client.allocate(server, "x" * 64, turn_client.UDP, True)) == 401


def test_a_second_run_changes_nothing(deployed, folder):
    done = play(folder, "site.yml", "-e", "hpb_verify=false")
    assert done.returncode == 0
    counters = re.findall(r"^(\S+) +: ok=\d+ +changed=(\d+)", done.stdout, re.MULTILINE)
    assert counters
    assert [counter for counter in counters if counter[1] != "0"] == []


def test_one_gets_a_turn_secret_of_its_own(deployed, folder, hosts):
    done = play(folder, "playbooks/rotate.yml", "-e", "rotate=DEVNC.turn")
    assert done.returncode == 0
    (own,) = ask(hosts, "DEVNC", "talk:turn:list")
    (other,) = ask(hosts, "TESTNC", "talk:turn:list")
    assert own["secret"] != other["secret"] == SECRETS["turn"]
    again = play(folder, "site.yml", "-e", "hpb_verify=false")
    assert again.returncode == 0
    assert "NC, TESTNC have one TURN secret" in again.stdout
    assert "DEVNC, NC, TESTNC have" not in again.stdout
