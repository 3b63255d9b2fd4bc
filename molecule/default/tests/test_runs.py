# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Further runs of the playbooks against the deployed hosts: what they say, show and leave alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from conftest import BED, DIRECTORY, HPB, INVENTORY, PROJECT, WEB, play, recap, secret_values, started


@pytest.fixture
def inventory(tmp_path):
    """A function that writes the inventory after `edit` has changed its data in place, and returns the file."""

    def make(edit):
        data = yaml.safe_load(INVENTORY.read_text())
        data["hpb"]["vars"]["bed"] = BED
        data["hpb"]["vars"]["handover_dir"] = str(DIRECTORY / "handover")
        edit(data)
        path = tmp_path / "inventory.yml"
        path.write_text(yaml.safe_dump(data))
        return path

    return make


class Watch:
    """Collects the command lines of all processes on a host while it runs."""

    # One process for the whole time: starting one for each look would slow down what is looked at.
    LOOK = "rm -f /run/looked; until [ -e /run/looked ]; do ps -eww -o args=; sleep 0.1; done; rm /run/looked"

    def __init__(self, container: str) -> None:
        self.seen = ""
        self._container = container

    def __enter__(self):
        self._process = subprocess.Popen(
            ["docker", "exec", self._container, "sh", "-c", self.LOOK], stdout=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        return self

    def _read(self) -> None:
        self.seen = self._process.stdout.read()

    def __exit__(self, *_unused):
        subprocess.run(["docker", "exec", self._container, "touch", "/run/looked"], check=True)
        self._reader.join(timeout=30)
        self._process.wait(timeout=30)


def test_a_second_run_changes_nothing_and_shows_no_secret(hpb, secrets):
    before = started(hpb)
    with Watch(HPB) as backend, Watch(WEB) as nextcloud:
        done = play("-vvv", "--diff")
    assert done.returncode == 0, done.stdout[-4000:]
    assert {host: counts["changed"] for host, counts in recap(done.stdout).items()} == dict.fromkeys(
        recap(done.stdout), 0
    )
    assert started(hpb) == before
    assert "nextcloud-spreed-signaling" in backend.seen
    for value in secret_values(secrets):
        assert value not in done.stdout + done.stderr
        assert value not in backend.seen + nextcloud.seen


def test_a_dry_run_on_the_running_installation_has_nothing_to_change():
    done = play("--check", "--diff")
    assert done.returncode == 0, done.stdout[-4000:]
    assert all(counts["changed"] == 0 for counts in recap(done.stdout).values())
    assert "No call was placed" in done.stdout


def test_a_new_limit_is_reloaded_and_nothing_restarts(hpb, secrets, inventory):
    def raise_limit(data):
        data["nextcloud"]["children"]["nc"]["vars"]["talk_session_limit"] = 16

    before = started(hpb)
    changed = inventory(raise_limit)
    shown = play("--check", "--diff", inventory=changed, playbook="playbooks/deploy.yml")
    assert shown.returncode == 0, shown.stdout[-4000:]
    assert "-sessionlimit = 15" in shown.stdout
    assert "+sessionlimit = 16" in shown.stdout
    for value in secret_values(secrets):
        assert value not in shown.stdout
    # Docker changes a memory limit without a restart: the server still has to be told of the other change.
    done = play("-e", "signalling_memory=600M", inventory=changed, playbook="playbooks/deploy.yml")
    assert done.returncode == 0, done.stdout[-4000:]
    assert started(hpb) == before
    assert hpb.check_output("docker inspect --format '{{.HostConfig.Memory}}' signalling") == str(600 * 1024**2)
    assert "Backend nc updated" in hpb.check_output("docker logs --tail 20 signalling 2>&1")
    back = play(playbook="playbooks/deploy.yml")
    assert back.returncode == 0, back.stdout[-4000:]
    assert started(hpb) == before


def test_a_run_that_died_before_the_signal_is_completed_by_the_next(hpb):
    hpb.check_output("sed -i 's/.*/0000/' /opt/nextcloud-talk-hpb/signalling/reloaded")
    before = started(hpb)
    done = play(playbook="playbooks/deploy.yml")
    assert done.returncode == 0, done.stdout[-4000:]
    assert recap(done.stdout)["talk.example.org"]["changed"] == 1
    assert started(hpb) == before


def test_one_instance_leaves_and_comes_back_with_its_secrets(hpb, web, secrets, inventory):
    def absent(data):
        data["nextcloud"]["children"]["customers"]["children"]["dev_nc"]["vars"]["talk_state"] = "absent"

    before = started(hpb)
    done = play("-e", "hpb_verify=false", inventory=inventory(absent))
    assert done.returncode == 0, done.stdout[-4000:]
    assert "[dev_nc]" not in hpb.check_output("cat /opt/nextcloud-talk-hpb/signalling/config/server.conf")
    listed = web.check_output(
        "docker exec -u www-data dev-app-1 php /var/www/html/occ talk:signaling:list --output=json"
    )
    assert "talk.example.org" not in listed
    assert secrets["instances"]["dev_nc"]["backend"] not in listed
    assert '"secret":""' not in listed and '"secret":"' in listed
    back = play("-e", "instance=dev_nc", "-vvv", "--diff")
    assert back.returncode == 0, back.stdout[-4000:]
    for value in secret_values(secrets):
        assert value not in back.stdout + back.stderr
    listed = web.check_output(
        "docker exec -u www-data dev-app-1 php /var/www/html/occ talk:signaling:list --output=json"
    )
    assert secrets["instances"]["dev_nc"]["backend"] in listed
    assert started(hpb) == before


def test_a_run_looks_only_at_containers_that_are_not_as_they_were_deployed(hpb):
    memory, base = "docker inspect --format '{{.HostConfig.Memory}}' nats", "/opt/nextcloud-talk-hpb"

    def looked(*arguments):
        done = play(*arguments, playbook="playbooks/deploy.yml")
        assert done.returncode == 0, done.stdout[-4000:]
        found = set(re.findall(r"Compare the configuration of (\w+)", done.stdout))
        # In a run for one instance the others are not even put together, unless something of them is looked at.
        whole = "Put together all that makes janus" in done.stdout
        return found, recap(done.stdout)["talk.example.org"]["changed"], whole

    assert play(playbook="playbooks/deploy.yml").returncode == 0
    before, known = started(hpb), hpb.check_output(memory)
    assert looked() == (set(), 0, True)
    assert looked("-e", "instance=nc") == (set(), 0, False)
    # What the inventory has changed, for all.
    found, changed, whole = looked("--check", "-e", "instance=nc", "-e", "nats_memory=99M", "-e", "traefik_memory=199M")
    assert found == {"nats", "traefik"} and changed and whole
    # What somebody has changed by hand, in the engine or in a file; and what a killed run has left.
    hpb.check_output("docker update --memory 99m --memory-swap 99m nats")
    hpb.check_output(f"echo >> {base}/traefik/config/traefik.yml")
    hpb.check_output(f"cp -a {base}/signalling/config {base}/signalling/config.previous")
    found, changed, whole = looked("-e", "instance=nc")
    assert found == {"nats", "traefik", "signalling"} and changed and whole
    assert hpb.check_output(memory) == known
    hpb.check_output(f"test ! -e {base}/signalling/config.previous")
    assert looked("-e", "instance=nc") == (set(), 0, False)
    assert started(hpb) == before


def drop(data):
    del data["nextcloud"]["children"]["test_nc"]


def test_a_vanished_instance_stops_the_run(hpb, inventory):
    config = hpb.check_output("cat /opt/nextcloud-talk-hpb/signalling/config/server.conf")
    done = play(inventory=inventory(drop))
    assert done.returncode != 0
    assert "-e remove=test_nc" in done.stdout and "talk_state: absent" in done.stdout
    assert all(counts["changed"] == 0 for counts in recap(done.stdout).values())
    assert hpb.check_output("cat /opt/nextcloud-talk-hpb/signalling/config/server.conf") == config


def test_limit_does_no_harm_and_says_so():
    done = play("--limit", "nc.example.org")
    assert done.returncode != 0
    assert "-e instance=NAME instead of --limit" in done.stdout
    assert all(counts["changed"] == 0 for counts in recap(done.stdout).values())


BAD = {
    "two instances with one URL": (
        lambda data: data["nextcloud"]["children"]["nc"]["vars"].update(talk_url="https://test.example.org"),
        ["nc", "test_nc", "https://test.example.org"],
    ),
    "one host in two instance groups": (
        lambda data: (
            data["nextcloud"]["children"]["test_nc"]["hosts"].update({"nc.example.org": None, "x.example.org": None})
            or data["nextcloud"]["children"]["nc"]["hosts"].update({"y.example.org": None})
        ),
        ["nc.example.org", "ansible_host"],
    ),
    "http URL": (
        lambda data: data["nextcloud"]["children"]["nc"]["vars"].update(talk_url="http://nc.example.org"),
        ["http://nc.example.org", "https"],
    ),
    "group name that is a section of server.conf": (
        lambda data: data["nextcloud"]["children"].update({"mcu": data["nextcloud"]["children"].pop("test_nc")}),
        ["group mcu", "section of that name"],
    ),
    "missing domain": (lambda data: data["hpb"]["vars"].pop("hpb_domain"), ["hpb_domain is not set"]),
    "misspelt variable": (
        lambda data: data["nextcloud"]["vars"].update(talk_sesion_limit=3),
        ["talk_sesion_limit", "talk_session_limit"],
    ),
    "trusted proxy network wider than /8": (
        lambda data: data["hpb"]["vars"].update(signalling_trusted_proxies=["192.168.0.0/1"]),
        ["192.168.0.0/1", "wider than /8"],
    ),
    "several URLs for a signaling server that knows one": (
        lambda data: data["nextcloud"]["children"]["nc"]["vars"].update(talk_urls=["https://cloud.example.org"]),
        ["talk_urls or talk_urls_from_nextcloud is set for nc", "2.0.4 or newer"],
    ),
    "published sample secret": (
        lambda data: data["hpb"]["vars"].update(
            hpb_secret_values={"internal": "the-shared-secret-for-internal-clients"}
        ),
        ["internal"],
    ),
    "unknown occ": (
        lambda data: data["nextcloud"]["children"]["nc"]["vars"].update(talk_occ="/var/www/nowhere/occ"),
        ["/var/www/nowhere/occ"],
    ),
    "wrong checksum of a source": (
        lambda data: data["hpb"]["vars"].update(janus_libsrtp_sha256="0" * 64),
        ["libsrtp", "0" * 64, "sha256"],
    ),
}


@pytest.mark.parametrize("fault", sorted(BAD))
def test_bad_input_is_refused_with_one_sentence_before_any_container_changes(fault, hpb, inventory):
    edit, words = BAD[fault]
    before = started(hpb)
    done = play("-e", "janus_pull=false", inventory=inventory(edit))
    assert done.returncode != 0
    for word in words:
        assert word in done.stdout + done.stderr, done.stdout[-3000:]
    assert started(hpb) == before


def test_a_port_held_by_something_else_is_named(hpb):
    hpb.check_output("docker stop coturn")
    hpb.check_output(
        "systemd-run --unit=squatter python3 -c "
        "'import socket,time; s=socket.socket(); s.bind((\"\",3478)); s.listen(); time.sleep(600)'"
    )
    try:
        time.sleep(1)
        done = play(playbook="playbooks/deploy.yml")
        assert done.returncode != 0
        assert "tcp/3478 is held by python3" in done.stdout
    finally:
        hpb.check_output("systemctl stop squatter")
        hpb.check_output("docker start coturn")


def test_lost_secrets_are_not_replaced_in_silence(hpb):
    hpb.check_output("mv /opt/nextcloud-talk-hpb/secrets/secrets.json /opt/nextcloud-talk-hpb/secrets-away")
    try:
        done = play(playbook="playbooks/deploy.yml")
        assert done.returncode != 0
        assert "new_secrets=true" in done.stdout
        assert not hpb.file("/opt/nextcloud-talk-hpb/secrets/secrets.json").exists
    finally:
        hpb.check_output("mv /opt/nextcloud-talk-hpb/secrets-away /opt/nextcloud-talk-hpb/secrets/secrets.json")


def test_the_installed_collection_alone_is_enough(tmp_path):
    """Built, installed and run from a directory that has nothing but an inventory."""
    tools = Path(sys.executable).parent
    galaxy = [tools / "ansible-galaxy", "collection"]
    subprocess.check_output([*galaxy, "build", PROJECT, "--output-path", tmp_path], cwd=tmp_path)
    archive = next(tmp_path.glob("nextcloud_talk-hpb-*.tar.gz"))
    subprocess.check_output(
        [*galaxy, "install", archive, "-p", tmp_path / "collections", "--no-deps", "--force"], cwd=tmp_path
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    done = subprocess.run(
        [tools / "ansible-playbook", "-i", INVENTORY, "nextcloud_talk.hpb.site", "--check"],
        cwd=tmp_path,
        env={**environment, "ANSIBLE_COLLECTIONS_PATH": str(tmp_path / "collections"), "ANSIBLE_PIPELINING": "true"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert all(counts["changed"] == 0 for counts in recap(done.stdout).values())
