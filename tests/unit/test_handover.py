# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role handover in a real play on this machine: the pages, what changes them, and what is never shown."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OTHER = "0123456789abcdef" * 4
SECRETS = {
    # The second is too short to be taken for a secret by its looks: it must be named to be masked.
    name: {"backend": digit * 60 + "back", "turn": digit * 20 + "turn"}
    for name, digit in (("nc", "a"), ("client", "b"), ("second", "c"))
}
PLAYBOOK = """
- hosts: hpb
  gather_facts: false
  tasks:
    - name: Read the inventory
      ansible.builtin.import_role:
        name: nextcloud_talk.hpb.hpb
        tasks_from: inventory
    - name: Write the pages
      ansible.builtin.import_role:
        name: nextcloud_talk.hpb.handover
    - name: Show what it leaves behind
      ansible.builtin.debug:
        msg: "left={{ {'pages': handover_pages, 'removed': handover_removed} | to_json }}"
"""


def inventory():
    """The inventory as data: two Nextclouds of others, one that we register."""
    return {
        "hpb": {
            "hosts": {"talk.example.org": {"ansible_connection": "local"}},
            "vars": {
                "hpb_domain": "talk.example.org",
                "hpb_turn_domain": "turn.example.org",
                "hpb_acme_email": "admin@example.org",
                "hpb_public_ip": "192.0.2.10",
                "hpb_secrets": {"instances": {name: dict(entry) for name, entry in SECRETS.items()}},
            },
        },
        "nextcloud": {
            "children": {
                "nc": {"hosts": {"nc.example.org": {}}},
                "client": {
                    "hosts": {"cloud.client.example": {}},
                    "vars": {
                        "talk_register": False,
                        "talk_url": "https://cloud.client.example/nc",
                        "talk_urls": ["https://intra.client.example"],
                        "talk_session_limit": 7,
                        "talk_stream_bitrate": 2097152,
                        "talk_screen_bitrate": 4194304,
                    },
                },
                "second": {"hosts": {"second.example.net": {}}, "vars": {"talk_register": False}},
            }
        },
    }


class Controller:
    """A directory with an inventory and a play, the pages in it, and the last run's output."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.pages, self.data = folder, folder / ".handover", inventory()
        self.output = ""

    def run(self, *arguments: str, fails: bool = False) -> int:
        """Run the play with everything shown; no secret may be in that. Returns how many tasks changed something."""
        (self.folder / "hosts.yml").write_text(json.dumps(self.data), encoding="utf-8")
        (self.folder / "play.yml").write_text(PLAYBOOK, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "ansible", "playbook", "-i", "hosts.yml", "play.yml", "-vvv", "--diff", *arguments],
            cwd=self.folder,
            env={
                **os.environ,
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
        assert (done.returncode != 0) == fails, self.output
        hidden = [*self.secrets(), *(value for entry in SECRETS.values() for value in entry.values())]
        assert [value for value in hidden if value in self.output] == []
        return int(re.search(r"changed=(\d+)", self.output).group(1))

    def secrets(self) -> list[str]:
        instances = self.data["hpb"]["vars"]["hpb_secrets"]["instances"]
        return [value for entry in instances.values() for value in entry.values()]

    def left(self) -> dict:
        return json.loads(json.loads(f'"{re.search(r"left=(.*)", self.output).group(1).rstrip(chr(34))}"'))

    def names(self) -> list[str]:
        return sorted(path.name for path in self.pages.glob("*.md"))

    def page(self, name: str) -> str:
        return (self.pages / f"{name}.md").read_text(encoding="utf-8")

    def change(self, group: str, **variables: object) -> None:
        self.data["nextcloud"]["children"][group].setdefault("vars", {}).update(variables)


@pytest.fixture
def controller(tmp_path):
    return Controller(tmp_path)


COMMANDS = [
    f"occ talk:signaling:add --verify https://talk.example.org {SECRETS['client']['backend']}",
    f"occ talk:turn:add turn turn.example.org:3478 udp,tcp --secret={SECRETS['client']['turn']}",
    "occ talk:stun:add turn.example.org:3478",
    "occ talk:signaling:list",
    "occ talk:signaling:delete https://the-other-one.example.org",
    "occ talk:signaling:delete https://talk.example.org",
    "occ talk:turn:delete turn turn.example.org:3478 udp,tcp",
    "occ config:system:set overwrite.cli.url --value=https://cloud.client.example/nc",
    "occ setupchecks",
]
FIELDS = {
    "english": [
        ("High-performance backend", "URL", "`https://talk.example.org`"),
        ("High-performance backend", "Validate SSL certificate", "on"),
        ("High-performance backend", "Shared secret", f"`{SECRETS['client']['backend']}`"),
        ("STUN servers", "server", "`turn.example.org:3478`"),
        ("TURN servers", "scheme", "turn: only"),
        ("TURN servers", "server", "`turn.example.org:3478`"),
        ("TURN servers", "secret", f"`{SECRETS['client']['turn']}`"),
        ("TURN servers", "protocols", "UDP and TCP"),
        ("the backend, 192.0.2.10", "this Nextcloud, ", "443 tcp"),
        ("open Talk windows at the same time", "7"),
        ("one camera", "2097152 bit/s"),
        ("one shared screen", "4194304 bit/s"),
    ],
    "german": [
        ("High-Performance-Backend", "URL", "`https://talk.example.org`"),
        ("High-Performance-Backend", "SSL-Zertifikat prüfen", "ein"),
        ("High-Performance-Backend", "Gemeinsames Geheimnis", f"`{SECRETS['client']['backend']}`"),
        ("STUN-Server", "Server", "`turn.example.org:3478`"),
        ("TURN-Server", "Schema", "nur turn:"),
        ("TURN-Server", "Server", "`turn.example.org:3478`"),
        ("TURN-Server", "Geheimnis", f"`{SECRETS['client']['turn']}`"),
        ("TURN-Server", "Protokolle", "UDP und TCP"),
        ("dem Backend, 192.0.2.10", "dieser Nextcloud, ", "443 tcp"),
        ("gleichzeitig offene Talk-Fenster", "7"),
        ("eine Kamera", "2097152 bit/s"),
        ("ein geteilter Bildschirm", "4194304 bit/s"),
    ],
}


def halves(page: str) -> dict[str, str]:
    marker, english, german = re.split(r"^(?:<!-- nextcloud_talk.hpb.handover -->|---)$", page, flags=re.MULTILINE)
    assert marker == ""
    # Without an empty line above it, the line would make the last sentence a heading.
    assert "\n\n---\n\n# " in page and page.endswith(".\n")
    return {"english": english, "german": german}


def test_both_languages_hold_everything_that_is_to_be_entered(controller):
    controller.run()
    for language, text in halves(controller.page("client")).items():
        assert [command for command in COMMANDS if command not in text] == [], language
        rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in text.splitlines()]
        for wanted in FIELDS[language]:
            assert any(
                len(row) == len(wanted) and all(cell.startswith(part) for cell, part in zip(row, wanted))
                for row in rows
            ), wanted
        assert "https://cloud.client.example/nc" in text and "https://intra.client.example" in text
        assert "{" not in text and "None" not in text and "True" not in text
        # Nobody else's secrets.
        assert SECRETS["second"]["backend"] not in text


def test_each_way_to_turn_over_tls_is_entered_once(controller):
    controller.data["hpb"]["vars"].update(hpb_turn_tls_port=5349, hpb_turn_443_domain="turn443.example.org")
    controller.run()
    secret = SECRETS["client"]["turn"]
    for language, text in halves(controller.page("client")).items():
        for server, port in (("turn.example.org:5349", 5349), ("turn443.example.org:443", 443)):
            # Once to begin with, and once for new secrets.
            assert text.count(f"occ talk:turn:add turns {server} tcp --secret={secret}") == 2, language
            assert text.count(f"occ talk:turn:delete turns {server} tcp") == 1
            assert f"| {server} | {port} tcp |" in text
            assert f"| `{server}` |" in text
        assert text.count("turns:") == 2


def test_defaults_are_said_in_words(controller):
    controller.data["hpb"]["vars"].update(hpb_tls="private_ca", hpb_public_ip="", hpb_media_ip="192.0.2.77")
    controller.run()
    english, german = halves(controller.page("second")).values()
    assert "| open Talk windows at the same time | no limit |" in english
    assert "| one camera | the server's own limit |" in english
    assert "| eine Kamera | die Grenze des Servers |" in german
    for text in (english, german):
        assert f"occ talk:signaling:add https://talk.example.org {SECRETS['second']['backend']}" in text
        assert "192.0.2.77" in text
    assert "Validate SSL certificate | off" in english and "SSL-Zertifikat prüfen | aus" in german
    # Once the other side knows the authority.
    controller.change("second", talk_verify_tls=True)
    assert controller.run() == 1
    assert "occ talk:signaling:add --verify" in controller.page("second")


def test_pages_are_private_and_written_again_only_when_something_changes(controller):
    shown = controller.run("--check")
    assert (shown, controller.names()) == (1, [])
    assert "(new secret)" in controller.output
    assert controller.run() == 1
    assert controller.names() == ["client.md", "second.md"]
    assert controller.left() == {
        "pages": {name: f"{controller.pages}/{name}.md" for name in ("client", "second")},
        "removed": [],
    }
    assert stat.S_IMODE(controller.pages.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in controller.pages.iterdir()} == {0o600}
    assert (controller.pages / ".gitignore").read_text() == "*\n"
    assert controller.run() == 0

    before = controller.page("client")
    controller.change("client", talk_session_limit=8)
    assert controller.run("--check") == 1
    assert "+| open Talk windows at the same time | 8 |" in controller.output
    assert controller.page("client") == before
    assert controller.run() == 1
    assert "| open Talk windows at the same time | 8 |" in controller.page("client")

    controller.data["hpb"]["vars"]["hpb_secrets"]["instances"]["client"]["backend"] = OTHER
    assert controller.run("--check") == 1
    assert "-occ talk:signaling:add --verify https://talk.example.org ********" in controller.output
    assert "+occ talk:signaling:add --verify https://talk.example.org (new secret)" in controller.output
    assert controller.run() == 1
    assert OTHER in controller.page("client") and SECRETS["client"]["backend"] not in controller.page("client")


def test_pages_go_with_their_instances_and_other_files_stay(controller):
    controller.run()
    (controller.pages / "notes.md").write_text("# ours\n", encoding="utf-8")
    (controller.pages / "nc.md").write_text("written by hand\n", encoding="utf-8")
    controller.change("client", talk_register=True)
    assert controller.run("--check") == 1
    assert "client.md" in controller.names()
    assert controller.run() == 1
    assert controller.names() == ["nc.md", "notes.md", "second.md"]
    assert controller.left()["removed"] == ["client"]
    assert controller.run("-e", "remove=second") == 1
    assert controller.names() == ["nc.md", "notes.md"]
    assert controller.page("nc") == "written by hand\n"


def test_pages_of_an_older_release_are_moved(controller):
    """It wrote them where Ansible looked for hosts, and said in each run that there are none."""
    controller.run()
    former = controller.folder / "handover"
    controller.pages.rename(former)
    kept = former / "nas.md"
    kept.write_text("<!-- nextcloud_talk.hpb.handover -->\nfrom a rotation\n", encoding="utf-8")
    # It cannot be told otherwise now, so what it was given last stays.
    nas = {"hosts": {"nas.example.org": {"talk_acting": ""}}, "vars": {"talk_optional": True}}
    controller.data["nextcloud"]["children"]["nas"] = nas
    controller.run("--check")
    assert sorted(path.name for path in former.iterdir()) == [".gitignore", "client.md", "nas.md", "second.md"]
    controller.run()
    assert controller.names() == ["client.md", "second.md"] and controller.left()["removed"] == []
    assert sorted(path.name for path in former.iterdir()) == [".gitignore", "nas.md"]
    del controller.data["nextcloud"]["children"]["nas"]
    controller.run()
    assert not former.exists() and controller.left()["removed"] == ["nas"]
    assert controller.run() == 0


def test_pages_stay_where_they_are_wanted_however_that_is_spelt(controller):
    wanted = ("-e", f"handover_dir={controller.folder}/handover/")
    assert controller.run(*wanted) == 1 and controller.run(*wanted) == 0
    assert sorted(path.name for path in (controller.folder / "handover").iterdir()) == [
        ".gitignore",
        "client.md",
        "second.md",
    ]


@pytest.mark.parametrize(("name", "silent"), [(".handover", True), ("handover", False)])
def test_a_directory_as_inventory_is_read_without_a_warning(controller, name, silent):
    controller.run("-e", f"handover_dir={controller.folder}/{name}")
    program = str(Path(sys.executable).parent / "ansible-inventory")
    for path in ("play.yml", "local", "remote"):
        target = controller.folder / path
        shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
    done = subprocess.run(
        [program, "-i", str(controller.folder), "--list"], capture_output=True, text=True, check=True, timeout=60
    )
    assert ("WARNING" not in done.stderr) is silent, done.stderr


def test_a_narrowed_run_leaves_the_pages_of_the_others(controller):
    controller.run()
    assert controller.run("-e", "instance=nc") == 0
    assert controller.names() == ["client.md", "second.md"]
    # Deployed, and this run has nothing to do with it: whether it may leave is asked in another one.
    deployed = [
        {"id": name, "url": f"https://{name}.example.net", "urls": [f"https://{name}.example.net"], "register": False}
        for name in ("client", "second")
    ]
    del controller.data["nextcloud"]["children"]["second"]
    given = {"hpb_instances": deployed, "handover_instances": ["client"], "instance": "client"}
    given |= {"hpb_signaling_url": "https://talk.example.org", "hpb_turn_server": "turn.example.org:3478"}
    assert controller.run("-e", json.dumps(given)) == 1
    assert controller.names() == ["client.md", "second.md"]
    assert "| one camera | the server's own limit |" in controller.page("client")


def test_a_registered_instance_gets_a_page_only_when_it_is_named(controller):
    controller.run("-e", '{"handover_instances": ["nc"]}')
    assert controller.names() == ["nc.md"]
    assert SECRETS["nc"]["turn"] in controller.page("nc")
    controller.run()
    assert controller.names() == ["client.md", "second.md"]
    # Naming one takes nobody else's page away.
    controller.run("-e", '{"handover_instances": ["nc"]}')
    assert controller.names() == ["client.md", "nc.md", "second.md"]


def test_other_secrets_and_another_directory_can_be_given(controller):
    given = {"handover_dir": str(controller.folder / "new"), "handover_instances": ["client"]}
    (controller.folder / "vars.json").write_text(
        json.dumps({**given, "handover_secrets": {"instances": {"client": {"backend": OTHER, "turn": OTHER[::-1]}}}})
    )
    controller.run("-e", "@vars.json")
    controller.pages = controller.folder / "new"
    assert controller.names() == ["client.md"]
    assert OTHER in controller.page("client") and OTHER not in controller.output


def test_no_page_and_no_directory_where_there_is_nothing_to_hand_over(controller):
    for name in ("client", "second"):
        controller.change(name, talk_register=True)
    assert controller.run() == 0
    assert not controller.pages.exists()
    assert controller.left() == {"pages": {}, "removed": []}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"handover_dir": "pages"}, "handover_dir is 'pages', expected an absolute path on the controller"),
        ({"handover_instances": "client"}, "handover_instances is a text, expected a list of ids"),
        ({"handover_instances": ["nowhere"]}, "handover_instances names nowhere, expected the id of an instance"),
        (
            {"handover_secrets": {"instances": {"client": SECRETS["client"]}}},
            "handover_secrets has no secrets of the instance second, expected backend and turn: deploy first.",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(controller, given, message):
    (controller.folder / "vars.json").write_text(json.dumps(given))
    controller.run("-e", "@vars.json", fails=True)
    assert message in controller.output
    assert controller.names() == []


def test_secrets_with_signs_are_quoted_in_the_commands_and_are_the_same_in_the_table(controller):
    backend, turn = "-bAse64_url-" * 3, "a&b#c;d$e*f(g)h~i!j?k=l/m+n" * 2
    controller.data["hpb"]["vars"]["hpb_secrets"]["instances"]["client"] = {"backend": backend, "turn": turn}
    controller.run()
    text = controller.page("client")
    assert f"occ talk:signaling:add --verify -- https://talk.example.org {backend}\n" in text
    assert f"occ talk:turn:add turn turn.example.org:3478 udp,tcp --secret='{turn}'\n" in text
    assert f"| `{backend}` |" in text
    assert f"| `{turn}` |" in text
