# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way from a compose installation to a backend of ours, as a user goes it, and the way back.

Three Nextclouds have the settings that their admins entered for the old backend, which runs. Two of them are registered
by us; the third cannot be touched, and goes on with what it has. Of the old containers four have names of ours. The
tests are steps of one way.
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
# The old containers, and ours beside them.
OLD = ["coturn", "nats", "old-janus", "signalling", "traefik"]
OURS = ["hpb-coturn", "hpb-janus", "hpb-nats", "hpb-signalling", "hpb-traefik"]
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


def containers(hosts) -> dict[str, dict]:
    """Return the containers of the host by name: what must not change of them, and whether they run."""
    names = hosts["hpb"].check_output("docker ps --all --format '{{.Names}}'").split()
    inspected = json.loads(hosts["hpb"].check_output(f"docker container inspect {' '.join(names)}"))
    return {
        one["Name"].lstrip("/"): {
            "id": one["Id"],
            "made": [one["Created"], one["Image"], one["Config"], one["HostConfig"], sorted(map(str, one["Mounts"]))],
            "running": one["State"]["Running"],
        }
        for one in inspected
    }


def stays(found: dict[str, dict]) -> dict[str, list]:
    """Return what must stay of the old containers. Who stops one with restart: always sets that to unless-stopped."""
    kept = {name: [found[name]["id"], *found[name]["made"]] for name in OLD}
    policies = {name: kept[name][4].pop("RestartPolicy")["Name"] for name in OLD}
    assert policies["traefik"] in ("always", "unless-stopped")
    assert {policies[name] for name in OLD if name != "traefik"} == {"unless-stopped"}
    return kept


def answers(hosts, name: str) -> list[str]:
    """Send a request signed with the secret that a Nextcloud has; return the server and its status."""
    host, _occ, standin = OCC[name]
    answer = hosts[host].run(f"{standin} talk-post")
    assert answer.rc == 0, answer.stdout + answer.stderr
    return answer.stdout.split()


def wait_for(question, seconds: int = 60):
    """Return what a question comes to that may be asked too early."""
    end = time.monotonic() + seconds
    while True:
        try:
            return question()
        except AssertionError:
            if time.monotonic() > end:
                raise
            time.sleep(1)


def printed(output: str, start: str) -> str:
    """Return the command that adopt has printed."""
    lines = [line.strip(' ",') for line in output.splitlines()]
    (found,) = {line for line in lines if line.startswith(start)}
    return found


@pytest.fixture(scope="session")
def before(hosts, entered):
    """The old containers as they were when nobody had adopted anything."""
    found = containers(hosts)
    assert sorted(found) == OLD, "the backend is deployed already: create the hosts anew"
    assert all(one["running"] for one in found.values())
    return stays(found)


@pytest.fixture(scope="session")
def stopped(adopted, before, hosts):
    """Stop the old containers as adopt has said."""
    hosts["hpb"].check_output(printed(adopted, "cd /srv/talk && "))
    return stays(containers(hosts))


@pytest.fixture(scope="session")
def deployed(folder, stopped):
    """Deploy, register and verify; returns the output."""
    done = play(folder, "site.yml")
    assert done.returncode == 0
    return done.stdout


def test_the_old_backend_serves_its_nextclouds(before, hosts, bed):
    for name in OCC:
        assert answers(hosts, name) == ["https://talk.example.org", "200"]
    server = (bed["hosts"]["hpb"]["address"], 3478)
    assert asyncio.run(turn_client.allocate(server, SECRETS["turn"], turn_client.UDP, True)) == turn_client.GRANTED


def test_the_old_installation_is_understood_and_untouched(before, adopted, hosts, folder):
    assert "3 Nextclouds in /srv/talk:" in adopted
    assert "  16. too many are believed as proxies" in adopted
    assert "Of the old containers coturn, nats, signalling, traefik have names of ours." in adopted
    assert "cd /srv/talk && docker update --restart unless-stopped $(docker compose ps --all --quiet edge)" in adopted
    assert "hpb_container_prefix: hpb-" in (folder / "inventory/group_vars/hpb.yml").read_text(encoding="utf-8")
    left = hosts["hpb"].check_output("cd /srv/talk && find . -type f | sort").split()
    assert left == ["./.env", "./compose.yml", "./talk-hpb/signalling.env", "./turnserver.conf"]
    texts = [path.read_text(encoding="utf-8") for path in (folder / "inventory").rglob("*.*") if path.is_file()]
    assert len(texts) == 3
    assert [name for name, value in SECRETS.items() if any(value in text for text in texts)] == []
    assert stays(containers(hosts)) == before


def test_site_refuses_while_the_old_one_has_the_ports(before, adopted, hosts, folder):
    """All that it complains of is what the printed steps say; without the prefix it is the names as well."""
    done = play(folder, "site.yml", "--check")
    assert done.returncode != 0
    said = json.loads(re.search(r"fatal: \[talk\.example\.org\]: FAILED! => (\{.*\})", done.stdout).group(1))["msg"]
    assert [line.partition(" (image ")[0] for line in said.splitlines()] == [
        "Port tcp/443 is held by the container traefik",
        "Ports tcp/3478 and udp/3478 are held by the container coturn",
    ]
    assert "registered" not in done.stdout.partition("Port tcp/443")[2].partition("PLAY RECAP")[0]
    done = play(folder, "site.yml", "--check", "-e", "hpb_container_prefix=")
    assert done.returncode != 0
    assert "expected these names free: set hpb_container_prefix: hpb- for the group hpb" in done.stdout
    found = containers(hosts)
    assert stays(found) == before and all(one["running"] for one in found.values())


def test_the_old_containers_are_stopped_and_stay_as_they_are_beside_ours(before, stopped, deployed, hosts):
    found = containers(hosts)
    assert stopped == stays(found) == before
    assert {name: one["running"] for name, one in found.items()} == {
        **dict.fromkeys(OLD, False),
        **dict.fromkeys(OURS, True),
    }
    assert set(re.findall(r"(\w+) +call over TURN udp +ok", deployed)) == set(OCC)


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
    assert answers(hosts, name) == ["https://talk.example.org", "200"]


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


def test_the_way_back_starts_the_same_old_containers_and_ours_come_again(before, adopted, deployed, folder, hosts, bed):
    ours = {name: one["id"] for name, one in containers(hosts).items() if name in OURS}
    stop, start = re.search(r"The way back is (docker stop [^,]*), and then (docker compose start)\.", adopted).groups()
    hosts["hpb"].check_output(f"{stop} && cd /srv/talk && {start}")
    found = containers(hosts)
    assert stays(found) == before
    assert {name: one["running"] for name, one in found.items()} == {
        **dict.fromkeys(OLD, True),
        **dict.fromkeys(OURS, False),
    }
    for name in OCC:
        assert wait_for(lambda name=name: answers(hosts, name)) == ["https://talk.example.org", "200"]
    assert "Starting up" in hosts["hpb"].check_output("docker logs --since 2m signalling 2>&1")
    server = (bed["hosts"]["hpb"]["address"], 3478)
    assert asyncio.run(turn_client.allocate(server, SECRETS["turn"], turn_client.UDP, True)) == turn_client.GRANTED

    # And there again.
    hosts["hpb"].check_output(printed(adopted, "cd /srv/talk && "))
    done = play(folder, "site.yml")
    assert done.returncode == 0
    found = containers(hosts)
    assert stays(found) == before
    assert {name: one["id"] for name, one in found.items() if one["running"]} == ours


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
