# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role watch on this machine as the backend's host, below a directory of the test, with a systemctl of its own."""

from __future__ import annotations

import configparser
import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOKEN, PASSWORD = "the-token-of-the-webhook-0123456789", "the-password-of-the-mail-server-0"

# What the module systemd_service asks; the state of each unit is a file.
SYSTEMCTL = """#!{python}
import pathlib, sys
here = pathlib.Path({folder!r})
known, arguments = here / "systemd", [word for word in sys.argv[1:] if not word.startswith("--")]
with open(here / "systemctl-calls", "a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\\n")
command, unit = arguments[0], (arguments + [""])[1]
if command == "daemon-reload":
    for path in known.glob("*.*"):
        if not (here / "units" / path.name).exists():
            path.unlink()
    for path in (here / "units").iterdir():
        (known / path.name).touch()
    sys.exit()
state = set((known / unit).read_text().split()) if (known / unit).exists() else None
if command == "show":
    print("Id=" + unit)
    print("LoadState=" + ("not-found" if state is None else "loaded"))
    print("ActiveState=" + ("active" if "active" in (state or ()) else "inactive"))
    sys.exit()
if command == "reset-failed":
    sys.exit()
assert state is not None, "Unit " + unit + " not found"
if command == "is-enabled":
    print("enabled" if "enabled" in state else "disabled")
    sys.exit(0 if "enabled" in state else 1)
word = {{"enable": "enabled", "disable": "enabled", "start": "active", "restart": "active", "stop": "active"}}[command]
(state.discard if command in ("disable", "stop") else state.add)(word)
(known / unit).write_text(" ".join(sorted(state)))
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the role writes files that belong to root")


class Bed:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("units", "metrics", "systemd", "bin"):
            (folder / name).mkdir()
        systemctl = folder / "bin/systemctl"
        systemctl.write_text(SYSTEMCTL.format(python=sys.executable, folder=str(folder)), encoding="utf-8")
        systemctl.chmod(0o755)
        (folder / "nextcloud-ca.pem").write_text("the CA of a Nextcloud\n", encoding="utf-8")
        self.variables = {
            "ansible_connection": "local",
            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
            "hpb_domain": "talk.example.org",
            "hpb_turn_domain": "turn.example.org",
            "hpb_tls": "private_ca",
            "hpb_base_dir": str(folder / "base"),
            "hpb_ca_files": [str(folder / "nextcloud-ca.pem")],
            "watch_mail_to": ["admin@example.org"],
            "watch_smtp_user": "watch",
            "watch_smtp_password": PASSWORD,
            "watch_webhook_url": "https://hooks.example.org/talk",
            "watch_webhook_token": TOKEN,
            "watch_textfile_dir": str(folder / "metrics"),
        }
        self.directories = {
            "__watch_units_directory": str(folder / "units"),
            "__watch_state_directory": str(folder / "nextcloud-talk-hpb-watch"),
        }

    def play(
        self, *arguments: str, code: int = 0, playbook: str = "nextcloud_talk.hpb.watch", **other
    ) -> tuple[int, str]:
        """Run the playbook; returns how many tasks changed something, and the output, which holds no secret."""
        nextcloud = {"children": {"nc": {"hosts": {"nc.example.org": {}}}}}
        inventory = {
            "hpb": {"hosts": {"talk.example.org": {**self.variables, **other}}},
            "nextcloud": nextcloud,
        }
        (self.folder / "hosts.json").write_text(json.dumps(inventory), encoding="utf-8")
        env = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
        command = [
            *(Path(sys.executable).parent / "ansible-playbook", "-i", self.folder / "hosts.json", "-vvv", "--diff"),
            *(playbook, "-e", json.dumps(self.directories), *arguments),
        ]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**env, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "PATH": f"{self.folder}/bin:{env['PATH']}"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        output = done.stdout + done.stderr
        assert (done.returncode == 0) == (code == 0), output[-4000:]
        assert [secret for secret in (TOKEN, PASSWORD) if secret in output] == []
        return int(re.search(r"changed=(\d+)", output)[1]), output

    def units(self) -> dict[str, str]:
        """Return {unit that systemd knows: its state}."""
        return {path.name: path.read_text(encoding="utf-8") for path in (self.folder / "systemd").iterdir()}

    def files(self) -> dict[str, int]:
        """Return {path below the directory: mode} of what the role wrote."""
        kept = [*self.folder.glob("base/**/*"), *self.folder.glob("units/*"), *self.folder.glob("nextcloud-talk*")]
        return {str(path.relative_to(self.folder)): stat.S_IMODE(path.stat().st_mode) for path in kept}


@pytest.fixture
def bed(tmp_path):
    return Bed(tmp_path)


WRITTEN = {
    "base/watch": 0o750,
    "base/watch/watch.py": 0o750,
    "base/watch/config.json": 0o600,
    "base/watch/authorities.pem": 0o644,
    "units/nextcloud-talk-hpb-watch.service": 0o644,
    "units/nextcloud-talk-hpb-watch.timer": 0o644,
}


TIMER, SERVICE = "nextcloud-talk-hpb-watch.timer", "nextcloud-talk-hpb-watch.service"


def test_ladder(bed):
    changed, output = bed.play("--check")
    assert (changed, bed.files()) == (2, {})
    assert "OnUnitActiveSec=60s" in output

    # The files, the units, the timer.
    assert bed.play()[0] == 3
    assert bed.files() == WRITTEN
    assert bed.units() == {TIMER: "active enabled", SERVICE: ""}
    for arguments in (["--check"], []):
        assert bed.play(*arguments)[0] == 0

    assert bed.play(watch_period=30)[0] == 2
    assert "OnUnitActiveSec=30s" in (bed.folder / f"units/{TIMER}").read_text(encoding="utf-8")
    assert f"restart {TIMER}" in (bed.folder / "systemctl-calls").read_text(encoding="utf-8")

    (bed.folder / "nextcloud-talk-hpb-watch").mkdir()
    (bed.folder / "metrics/hpb_watch.prom").write_text("", encoding="utf-8")
    assert bed.play("--check", "-e", "watch_state=absent")[0] == 2
    assert bed.units() == {TIMER: "active enabled", SERVICE: ""}
    assert bed.play("-e", "watch_state=absent")[0] == 2
    assert (bed.files(), bed.units(), list((bed.folder / "metrics").iterdir())) == ({}, {}, [])
    for arguments in (["--check"], []):
        assert bed.play(*arguments, "-e", "watch_state=absent")[0] == 0


def test_configuration_and_units(bed):
    bed.play()
    config = json.loads((bed.folder / "base/watch/config.json").read_text(encoding="utf-8"))
    assert config["signaling"] == {"url": "https://talk.example.org", "address": ""}
    assert config["turn"] == {
        "name": "turn.example.org",
        "address": "",
        "port": 3478,
        "tls_port": 0,
        "name_443": "",
        "allocation": True,
    }
    assert config["webhook"] == {"url": "https://hooks.example.org/talk", "token": TOKEN}
    assert config["mail"] == {
        "to": ["admin@example.org"],
        "from": "hpb-watch@talk.example.org",
        "host": "localhost",
        "port": 25,
        "starttls": False,
        "user": "watch",
        "password": PASSWORD,
    }
    assert config["ca_files"] == [f"{bed.folder}/base/ca/ca.pem", f"{bed.folder}/base/watch/authorities.pem"]
    program = (ROOT / "roles/watch/files/watch.py").read_text(encoding="utf-8")
    assert (bed.folder / "base/watch/watch.py").read_text(encoding="utf-8") == program
    units = configparser.ConfigParser(interpolation=None, strict=False)
    units.optionxform = str
    units.read(bed.folder / "units/nextcloud-talk-hpb-watch.service", encoding="utf-8")
    service = units["Service"]
    watch = bed.folder / "base/watch"
    assert service["ExecStart"] == f"/usr/bin/python3 {watch}/watch.py {watch}/config.json"
    assert service["StateDirectory"] == "nextcloud-talk-hpb-watch"
    assert service["ReadWritePaths"] == str(bed.folder / "metrics")
    assert service["CapabilityBoundingSet"] == "CAP_DAC_OVERRIDE"


def test_neither_mail_nor_webhook_nor_metrics_and_behind_nat(bed):
    empty = {"watch_mail_to": [], "watch_webhook_url": "", "watch_textfile_dir": "", "hpb_ca_files": []}
    bed.play(**empty, watch_smtp_user="", watch_smtp_password="", hpb_public_ip="192.0.2.1", hpb_media_ip="10.0.0.5")
    config = json.loads((bed.folder / "base/watch/config.json").read_text(encoding="utf-8"))
    assert (config["mail"], config["webhook"], config["textfile_dir"]) == (None, None, "")
    assert config["signaling"]["address"] == "127.0.0.1"
    assert config["turn"]["address"] == "10.0.0.5"
    unit = (bed.folder / "units/nextcloud-talk-hpb-watch.service").read_text(encoding="utf-8")
    assert "ReadWritePaths" not in unit and "CapabilityBoundingSet=\n" in unit
    assert "base/watch/authorities.pem" not in bed.files()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (
            {"watch_textfile_dir": "/nowhere"},
            "watch_textfile_dir is /nowhere, expected a directory on talk.example.org: make it, or name the one that "
            "node_exporter reads.",
        ),
        (
            {"watch_period": 5},
            "watch_period is 5, expected 10 seconds or more: a run needs some itself.",
        ),
        (
            {"watch_smtp_password": ""},
            "Of watch_smtp_user and watch_smtp_password only one is set, expected both or none.",
        ),
        (
            {"watch_smtp_host": "mail.example.org"},
            "watch_smtp_password would be sent to mail.example.org readable by all on the way, expected TLS: set "
            "watch_smtp_starttls: true, or watch_smtp_port: 465.",
        ),
        (
            {"watch_webhook_url": "hooks.example.org"},
            "watch_webhook_url does not start with https:// or http:// and a host, expected the address that gets the "
            "messages: mend it, or leave it empty.",
        ),
    ],
)
def test_what_cannot_work_is_refused(bed, variables, expected):
    _changed, output = bed.play("--check", code=1, **variables)
    assert expected in output
    assert bed.files() == {}


FOREIGN = "was not written by this collection, expected that name free for one of ours: rename it."


def test_units_of_others_are_neither_written_over_nor_removed(bed):
    unit = bed.folder / f"units/{SERVICE}"
    unit.write_text("[Service]\nExecStart=/usr/bin/true\n", encoding="utf-8")
    _changed, output = bed.play(code=1)
    assert f"The unit {unit} {FOREIGN}" in output
    assert list(bed.files()) == [f"units/{SERVICE}"]
    # Another backend on this host: its state is no more ours than its units are.
    unit.unlink()
    bed.play()
    (bed.folder / "nextcloud-talk-hpb-watch").mkdir()
    (bed.folder / "metrics/hpb_watch.prom").write_text("", encoding="utf-8")
    there = bed.files()
    for arguments in (["--check"], []):
        changed, output = bed.play(*arguments, "-e", "watch_state=absent", hpb_base_dir=str(bed.folder / "other"))
        assert changed == 0
        assert f"starts {bed.folder}/base/watch/watch.py, which another backend on this host has" in output
        assert "it was left as it is." in output
    assert bed.files() == there and bed.units()[TIMER] == "active enabled"
    assert (bed.folder / "metrics/hpb_watch.prom").exists()


FOLLOW = """
- hosts: hpb
  gather_facts: false
  tasks:
    - ansible.builtin.import_role: {name: nextcloud_talk.hpb.hpb, tasks_from: inventory}
    - ansible.builtin.import_role: {name: nextcloud_talk.hpb.watch, tasks_from: follow}
      vars: {watch_deployed: DEPLOYED}
"""


def test_a_watcher_keeps_up_with_a_deployment_and_tells_as_before(bed):
    """With what release 0.1.0 has written, and variables that were given to the playbook watch alone."""

    def follow(deployed: bool, *arguments: str, **other) -> int:
        book = bed.folder / "follow.yml"
        book.write_text(FOLLOW.replace("DEPLOYED", str(deployed).lower()), encoding="utf-8")
        return bed.play(*arguments, playbook=str(book), **other)[0]

    none = {"watch_mail_to": [], "watch_webhook_url": "", "watch_smtp_user": "", "watch_smtp_password": ""}
    assert follow(False) == follow(True) == 0
    assert bed.files() == {}
    bed.play("-e", "watch_disk_free_mb=17", "-e", "watch_turn_allocation=false")
    path = bed.folder / "base/watch/config.json"
    told = json.loads(path.read_text(encoding="utf-8"))
    earlier = {name: value for name, value in told.items() if name != "own_network"}
    path.write_text(json.dumps(earlier), encoding="utf-8")
    program = bed.folder / "base/watch/watch.py"
    program.write_text("# of an earlier release\n", encoding="utf-8")

    new = {**none, "hpb_container_prefix": "hpb-", "hpb_turn_tls_port": 5349}
    assert follow(False, "--check", **new) == 1
    assert json.loads(path.read_text(encoding="utf-8")) == earlier
    assert follow(False, **new) == 1
    assert program.read_text(encoding="utf-8") == (ROOT / "roles/watch/files/watch.py").read_text(encoding="utf-8")
    # All that was known stays until it is deployed otherwise.
    assert json.loads(path.read_text(encoding="utf-8")) == told
    assert follow(False, **new) == 0
    assert follow(True, **new) == 1
    turn = {**told["turn"], "tls_port": 5349}
    assert json.loads(path.read_text(encoding="utf-8")) == {**told, "turn": turn}
    assert (told["disk_free_mb"], turn["allocation"], told["mail"]["password"]) == (17, False, PASSWORD)
    assert follow(True, **new) == follow(False, **new) == 0
