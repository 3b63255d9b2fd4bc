# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook verify on this machine, without calls: Talk's own check, the summary, and the page of all instances."""

from __future__ import annotations

import datetime
import json
import os
import re
import secrets
import subprocess
import sys
import threading
from http.server import HTTPServer
from pathlib import Path

import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _secrets
from test_standin_http import FEATURES, Hpb
from test_talk_modules import FIRST, Nextcloud

ROOT = Path(__file__).resolve().parents[2]
OWN = {"backend": FIRST, "turn": FIRST[::-1]}
SECRETS = {
    "internal": FIRST,
    "instances": {id_: {**OWN, "url": f"https://{id_}.example.org"} for id_ in ("nc", "client", "nas")},
}


class Bed:
    """A Nextcloud whose signaling server answers on this machine, the inventory around it, and a run's output."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.page = folder, folder / "INSTANCES.md"
        self.nextcloud = Nextcloud(folder, "host", "--talk", "22.0.0")
        self.nextcloud.occ("talk:signaling:add", "--", url, FIRST)
        self.variables = {
            "talk_occ": self.nextcloud.options["occ"],
            "talk_php": self.nextcloud.options["php"],
            "ansible_connection": "local",
        }
        self.output = ""
        # This machine's own engine has nothing to say about the backend.
        self.programs = folder / "bin"
        self.programs.mkdir()
        (self.programs / "docker").write_text("#!/bin/sh\necho 'no engine here' >&2\nexit 1\n", encoding="utf-8")
        (self.programs / "docker").chmod(0o755)

    def inventory(self) -> dict:
        return {
            "hpb": {
                "hosts": {"talk.example.org": {"ansible_connection": "local"}},
                "vars": {
                    "hpb_domain": "talk.example.org",
                    "hpb_acme_email": "admin@example.org",
                    "hpb_base_dir": str(self.folder / "base"),
                    "hpb_secrets": SECRETS,
                    "hpb_verify": False,
                    "verify_instances_page": str(self.page),
                },
            },
            "nextcloud": {
                "children": {
                    "nc": {"hosts": {"nc.example.org": self.variables}},
                    "client": {"hosts": {"cloud.client.example": {}}, "vars": {"talk_register": False}},
                    # Nothing can be asked there: the connection itself does not come about.
                    "nas": {
                        "hosts": {
                            "nas.example.org": {"ansible_connection": "ssh", "ansible_ssh_executable": "/bin/false"}
                        },
                        "vars": {"talk_optional": True},
                    },
                }
            },
        }

    def run(self, *arguments: str) -> int:
        """Run the playbook and return its exit code; no secret may be in what it shows."""
        (self.folder / "hosts.yml").write_text(json.dumps(self.inventory()), encoding="utf-8")
        command = [sys.executable, "-m", "ansible", "playbook", "-i", "hosts.yml", "nextcloud_talk.hpb.verify"]
        done = subprocess.run(
            [*command, "-v", *arguments],
            cwd=self.folder,
            env={
                **os.environ,
                "PATH": f"{self.programs}:{os.environ['PATH']}",
                "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".tree"),
                "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
                "ANSIBLE_LOCAL_TEMP": str(self.folder / "local"),
                "ANSIBLE_REMOTE_TEMP": str(self.folder / "remote"),
                "ANSIBLE_NOCOLOR": "1",
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        self.output = done.stdout + done.stderr
        assert FIRST not in self.output and FIRST[::-1] not in self.output
        return done.returncode

    def summary(self) -> list[str]:
        found = re.search(r'"msg": (\[[^]]*No call was placed.*?\])', self.output, re.DOTALL)
        assert found, self.output
        return [line for line in json.loads(found.group(1)) if line]

    def rows(self) -> dict[str, list[str]]:
        lines = [line.strip("| ").split(" | ") for line in self.page.read_text().splitlines() if line.startswith("|")]
        return {cells[0]: cells[1:] for cells in lines}


@pytest.fixture
def bed(tmp_path):
    answers = type("Answers", (Hpb,), {"seen": []})
    server = HTTPServer(("127.0.0.1", 0), answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    made = Bed(tmp_path, f"http://127.0.0.1:{server.server_port}")
    made.answers = answers
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_summary_names_the_variable_that_keeps_calls_away(bed):
    assert bed.run("-e", '{"hpb_verify": true, "verify_calls": false}') == 0, bed.output
    assert bed.summary()[-1] == "No call was placed: verify_calls is false."


def test_the_summary_has_what_talk_thinks_and_who_was_not_asked(bed):
    assert bed.run() == 0, bed.output
    assert bed.summary() == [
        "client: never contacted (talk_register: false); its admin enters what stands in the page that the deployment "
        "wrote",
        "nas: not checked, its host nas.example.org is switched off",
        "nc: Talk's own check: ok",
        "No call was placed: hpb_verify is false.",
    ]
    rows = bed.rows()
    assert rows["nc"][1] == f"{bed.nextcloud.root}/occ on nc.example.org"
    assert rows["nc"][5:] == ["34.0.1.2", "22.0.0", "not checked"]
    assert rows["client"][1] == "by its admin (handover page)"
    assert bed.page.stat().st_mode & 0o777 == 0o644
    before = bed.page.read_text()
    assert FIRST not in before
    # Nothing new was learnt, so nothing changes.
    assert bed.run() == 0
    assert bed.page.read_text() == before
    assert re.search(r"talk\.example\.org +: ok=\d+ +changed=0", bed.output)


def test_an_error_that_talk_finds_makes_the_verification_fail(bed):
    bed.answers.code = 502
    assert bed.run() == 2
    summary = bed.summary()
    assert (
        "nc: Talk's own check: Talk was answered 502 by the signaling server, expected 200; look at the proxy before "
        "it and at the log of signalling (playbook logs)."
    ) in summary
    # What Talk's host sees tells more than what Talk says.
    why = "The name talk.example.org does not resolve on nc.example.org."
    mend = "Give talk.example.org an address in the DNS of nc.example.org; where the name is wrong, correct hpb_domain"
    place = summary.index("nc: Talk's own check")
    assert summary[place + 1 : place + 3] == [f"  why   {why}", f"  mend  {mend}"]
    assert summary[place + 3].startswith("  seen  name: ")
    assert f"nc, Talk's own check: {why} {mend}" in bed.output.replace("\\n", "\n")


def test_where_all_is_well_nobody_looks_for_causes_unless_told_to(bed):
    assert bed.run() == 0
    assert "[nextcloud_talk.hpb.verify : diagnose |" not in bed.output
    assert bed.run("-e", "verify_diagnose=true") == 0, bed.output
    assert "[nextcloud_talk.hpb.hpb : findings | Keep the causes that a verification found]" in bed.output
    # The signaling server that Talk has here is on this machine, and so not that of the inventory; and it has no TURN.
    (kept,) = (line for line in bed.output.splitlines() if '"hpb_findings"' in line)
    findings = json.loads(kept.partition(" => ")[2])["ansible_facts"]["hpb_findings"]
    assert [finding["cause"] for finding in findings] == ["foreign-signaling", "turn-not-in-talk"]
    assert {finding["status"] for finding in findings} == {"warning"}
    # The addresses that the secrets file has beside the secrets are no secrets.
    (look,) = (line for line in bed.output.splitlines() if '"engine_error"' in line)
    assert json.loads(look.partition(" => ")[2])["nextclouds"]["nc"]["url"] == "https://nc.example.org"


def test_what_talk_does_without_is_said_and_is_no_failure(bed):
    bed.answers.features = FEATURES.replace("join-features, ", "")
    assert bed.run() == 0, bed.output
    (line,) = [line for line in bed.summary() if line.startswith("nc:")]
    assert line.startswith("nc: Talk's own check: Talk does without something; join-features (")


def test_a_nextcloud_that_cannot_be_asked_is_said_and_is_no_failure(bed):
    bed.nextcloud.occ("maintenance:mode", "--on")
    assert bed.run() == 0, bed.output
    (line,) = [line for line in bed.summary() if line.startswith("nc:")]
    assert line.startswith(f"nc: Talk's own check: not made: occ {bed.nextcloud.root}/occ on nc.example.org says that ")
    assert "is in maintenance mode" in line


def test_a_host_that_is_away_and_should_not_be_is_said_and_is_no_failure(bed):
    bed.variables = {"ansible_connection": "ssh", "ansible_ssh_executable": "/bin/false"}
    assert bed.run() == 0, bed.output
    (line,) = [line for line in bed.summary() if line.startswith("nc:")]
    assert line.startswith("nc: Talk's own check: not made: Instance nc: its host nc.example.org cannot be reached")


@pytest.mark.parametrize("arguments", [["-e", "talk_setup_check=false"], ["--check"]])
def test_talk_is_not_asked_where_that_is_not_wanted(bed, arguments):
    bed.answers.code = 502
    assert bed.run(*arguments) == 0, bed.output
    assert not [line for line in bed.summary() if "Talk's own check" in line]
    assert bed.nextcloud.log.read_text() == ""


def test_a_narrowed_run_asks_that_instance_only_and_keeps_the_rest_of_the_page(bed):
    assert bed.run() == 0, bed.output
    text = bed.page.read_text().replace("| ? | ? | not checked |", "| 31.0.0 | 21.0.0 | ok, 2026-01-02 |")
    bed.page.write_text(text)
    bed.nextcloud.log.write_text("")
    assert bed.run("-e", "instance=client") == 0, bed.output
    assert bed.page.read_text() == text
    assert bed.nextcloud.log.read_text() == ""


def test_an_inventory_that_is_not_deployed_is_named_instance_by_instance(bed, monkeypatch):
    inventory = bed.inventory()
    inventory["hpb"]["vars"].pop("hpb_secrets")
    inventory["nextcloud"]["children"]["nc"]["vars"] = {"talk_url": "https://nc.odd.example"}
    monkeypatch.setattr(bed, "inventory", lambda: inventory)
    folder = bed.folder / "base" / "secrets"
    folder.mkdir(mode=0o700, parents=True)
    own = {key: secrets.token_hex(size // 2) for key, size in _secrets.SHARED.items()}
    own["instances"] = {
        id_: {"url": f"https://{id_}.example.org", "backend": secrets.token_hex(32), "turn": secrets.token_hex(32)}
        for id_ in ("nc", "gone")
    }
    (folder / "secrets.json").write_text(json.dumps({"version": 1, **own}))
    (folder / "secrets.json").chmod(0o600)
    deployed = [{"id": id_, "url": f"https://{id_}.example.org"} for id_ in ("nc", "gone")]
    (bed.folder / "base" / "deployed.json").write_text(json.dumps({"instances": deployed}))
    assert bed.run() != 0
    for sentence in (
        "The instance nc is at https://nc.odd.example in the inventory (talk_url, or else its first host), but "
        "deployed with https://nc.example.org: correct talk_url, or deploy the new address.",
        "The instance nas (https://nas.example.org) of the inventory is not deployed.",
        "The instance gone (https://gone.example.org) is deployed, but not in the inventory.",
    ):
        assert sentence in bed.output


def test_calls_are_placed_with_what_is_known_and_pages_are_named(bed):
    """Nothing listens at the backend's address, so the probe ends at once, and with a result."""
    given = {
        "hpb_verify": True,
        "hpb_resolve": {"talk.example.org": "127.0.0.77"},
        "handover_pages": {"client": "/home/me/inventory/.handover/client.md"},
        "handover_removed": ["gone"],
    }
    assert bed.run("-e", json.dumps(given)) == 2
    text = bed.output.replace("\\n", "\n")
    assert "HPB, signaling server: " in text, text
    summary = json.loads(re.search(r'"msg": (\[[^]]*its admin enters.*?\n    \])', bed.output, re.DOTALL).group(1))
    assert (
        "client: never contacted (talk_register: false); its admin enters what stands in "
        "/home/me/inventory/.handover/client.md" in summary
    )
    assert "Handover page removed: gone has left, or is registered by us now" in summary
    steps = [line.split("  ")[0].strip() for line in summary if "what Talk needs" in line]
    # Talk's version is known of the one that was asked.
    assert steps == ["nc"]
    day = datetime.date.today().isoformat()
    rows = bed.rows()
    assert {name: rows[name][-1] for name in ("nc", "client", "nas")} == dict.fromkeys(
        ("nc", "client", "nas"), f"failed, {day}: signaling server"
    )


AWAY = {"ansible_connection": "ssh", "ansible_host": "192.0.2.1", "ansible_ssh_executable": "{folder}/ssh"}


ONE = [{"id": "nc", "state": "present", "host": "office.example.org"}]


def with_places(bed, monkeypatch, **places):
    """Add hosts from which calls are placed to the inventory; one that is away has an ssh that fails as ssh does."""
    ssh = bed.folder / "ssh"
    ssh.write_text("#!/bin/sh\nexit 255\n")
    ssh.chmod(0o755)
    hosts = {
        name.replace("_", "."): {key: value.format(folder=bed.folder) for key, value in variables.items()}
        for name, variables in places.items()
    }
    inventory = {**bed.inventory(), "places": {"hosts": hosts}}
    monkeypatch.setattr(Bed, "inventory", lambda _bed: inventory)


def test_calls_are_placed_from_other_hosts_and_each_is_named(bed, monkeypatch):
    with_places(bed, monkeypatch, office_example_org={"ansible_connection": "local"}, away_example_org=AWAY)
    given = {
        "hpb_verify": True,
        "hpb_resolve": {"talk.example.org": "127.0.0.77"},
        "verify_from": ["office.example.org", "away.example.org", "unknown.example.org"],
    }
    assert bed.run("-e", json.dumps(given)) == 2
    text = bed.output.replace("\\n", "\n")
    for sentence in (
        "HPB, signaling server: talk.example.org refuses the connection",
        "From office.example.org: HPB, signaling server: talk.example.org refuses the connection",
        "From away.example.org: the host cannot be reached, expected to place calls from it; check its connection",
        "verify_from names unknown.example.org, expected a host of the inventory",
    ):
        assert text.count(f"\n{sentence}") + text.count(f'"{sentence}') >= 1, (sentence, text)
    summary = json.loads(re.search(r'"msg": (\[[^]]*From unknown.*?\n    \])', bed.output, re.DOTALL).group(1))
    tables = [index for index, line in enumerate(summary) if line.startswith("instance  step")]
    assert len(tables) == 2
    assert summary[tables[1] - 2] == "From office.example.org:"


@pytest.mark.parametrize(
    ("given", "python", "code", "sentence"),
    [
        ({}, "", 0, ""),
        ({"verify_from": ["office.example.org"]}, sys.executable, 0, ""),
        ({"verify_from": ["office.example.org"], "hpb_verify": False}, "/bin/false", 0, ""),
        (
            {"verify_from": ["office.example.org"]},
            "/bin/false",
            2,
            "The Python /bin/false of office.example.org has no aiortc, expected it for the calls from there "
            "(verify_from): run '/bin/false -m pip install aiortc websockets' on office.example.org",
        ),
        (
            {"verify_from": ["unknown.example.org"]},
            "",
            2,
            "verify_from names unknown.example.org, expected a host of the inventory",
        ),
        ({"verify_browser": "sh"}, "", 0, ""),
        ({"verify_browser": "/nonexistent/chromium", "hpb_verify": False}, "", 0, ""),
        (
            {"verify_browser": "/nonexistent/chromium"},
            "",
            2,
            "There is no program /nonexistent/chromium on the controller, expected the Chromium that verify_browser "
            "names: install it (Debian's package chromium), correct the path, or leave verify_browser empty.",
        ),
        # An empty user is nobody, and then nobody's password is missing or too much.
        ({"talk_verify_user": "", "talk_verify_password": "w" * 32, "hpb_inventory": ONE}, "", 0, ""),
        (
            {"talk_verify_password": "w" * 32, "hpb_inventory": ONE},
            "",
            2,
            "talk_verify_password is set for the instance nc, expected talk_verify_user with it: set both, or remove "
            "it.",
        ),
        (
            {"talk_verify_user": "alice", "talk_verify_password": "", "hpb_inventory": ONE},
            "",
            2,
            "talk_verify_user is set for the instance nc, expected talk_verify_password with it: set both, or remove "
            "it.",
        ),
    ],
)
def test_what_calls_need_is_looked_for_before_anything_else(bed, given, python, code, sentence):
    play = {
        "hosts": "hpb",
        "gather_facts": False,
        "tasks": [{"import_role": {"name": "nextcloud_talk.hpb.verify", "tasks_from": "preflight"}}],
    }
    # The modules run with this test's own Python; only the one that is looked at differs.
    office = {"ansible_connection": "local", **({"ansible_python_interpreter": python} if python else {})}
    hosts = {"hpb": {"hosts": {"talk.example.org": {"ansible_connection": "local"}}}}
    hosts["places"] = {"hosts": {"office.example.org": office}}
    (bed.folder / "hosts.yml").write_text(json.dumps(hosts), encoding="utf-8")
    (bed.folder / "play.yml").write_text(json.dumps([play]), encoding="utf-8")
    command = [sys.executable, "-m", "ansible", "playbook", "-i", "hosts.yml", "play.yml"]
    done = subprocess.run(
        [*command, "-e", json.dumps({"hpb_verify": True, "hpb_inventory": [], **given})],
        cwd=bed.folder,
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".tree"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, sentence in done.stdout) == (code, True), done.stdout
