# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks backup and restore: a host into an encrypted file on the controller, and onto another host."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from ansible.parsing.vault import VaultLib, VaultSecret
from module_process import run as run_module

ROOT = Path(__file__).resolve().parents[2]
KEY = "the-key-of-the-private-authority-0123456789"
LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}


class Bed:
    """This machine as controller and as the backend's hosts, below a directory of the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("mine", "other"):
            (folder / name).write_text(f"{name}-password\n", encoding="utf-8")
        nc = {"id": "nc", "url": "https://nc.example.org"}
        run_module("secrets", {"path": str(self.file("old")), "instances": [nc]})
        run_module("secrets", {"path": str(self.file("third")), "instances": [nc]})
        (folder / "old/ca").mkdir(mode=0o700)
        (folder / "old/ca/key.pem").write_text(KEY, encoding="utf-8")
        (folder / "old/ca/key.pem").chmod(0o600)
        (folder / "tmp").mkdir()

    def file(self, host: str) -> Path:
        return self.folder / host / "secrets/secrets.json"

    def play(
        self, playbook: str, host: str, *arguments: str, password: str = "", domain: str = "talk.example.org"
    ) -> tuple[int, str]:
        """Run the playbook; no secret may be in what it prints. Returns the exit code and the output."""
        backend = {**LOCAL, "hpb_domain": domain, "hpb_tls": "private_ca", "hpb_base_dir": str(self.folder / host)}
        inventory = {
            "hpb": {"hosts": {"talk.example.org": backend}},
            "nextcloud": {"children": {"nc": {"hosts": {"nc.example.org": {}}}}},
        }
        (self.folder / "hosts.json").write_text(json.dumps(inventory), encoding="utf-8")
        env = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
        command = [
            *(Path(sys.executable).parent / "ansible-playbook", "-i", self.folder / "hosts.json", "-vvv", "--diff"),
            *(f"nextcloud_talk.hpb.{playbook}", *arguments),
            *(["--vault-password-file", self.folder / password] if password else []),
        ]
        done = subprocess.run(
            command,
            cwd=self.folder,
            # Without the project's own configuration, as somebody has it who installed the collection.
            env={
                **env,
                "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".tree"),
                "ANSIBLE_LOCAL_TEMP": str(self.folder / "tmp"),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        output = done.stdout + done.stderr
        document = json.loads(self.file("old").read_text(encoding="utf-8"))
        for value in (
            document["internal"],
            document["instances"]["nc"]["turn"],
            KEY,
            "mine-password",
            "other-password",
        ):
            assert value not in output
        return done.returncode, output


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Bed:
    return Bed(tmp_path_factory.mktemp("backup"))


@pytest.fixture(scope="module")
def vault(bed: Bed) -> Path:
    """The backup of `old`."""
    code, output = bed.play("backup", "old", "-e", "backup=all.vault", password="mine")
    assert code == 0, output[-3000:]
    assert f"2 files of talk.example.org are in {bed.folder / 'all.vault'}" in output
    return bed.folder / "all.vault"


def test_out_and_onto_another_host(bed: Bed, vault: Path) -> None:
    assert stat.S_IMODE(vault.stat().st_mode) == 0o600
    library = VaultLib([("default", VaultSecret(b"mine-password"))])
    assert "secrets/secrets.json" in library.decrypt(vault.read_bytes()).decode()
    before = vault.read_bytes()
    code, output = bed.play("backup", "old", "-e", f"backup={vault}", password="mine")
    assert code == 0 and "changed=0" in output, output[-3000:]
    assert vault.read_bytes() == before

    code, output = bed.play("restore", "new", "-e", f"backup={vault}", "--check", password="mine")
    assert code == 0 and "would have the state of" in output, output[-3000:]
    assert not bed.file("new").exists()
    code, output = bed.play("restore", "new", "-e", f"backup={vault}", password="mine")
    assert code == 0, output[-3000:]
    assert "no Nextcloud has to be told anything new" in output
    for name in ("secrets/secrets.json", "ca/key.pem"):
        one, other = bed.folder / "old" / name, bed.folder / "new" / name
        assert one.read_bytes() == other.read_bytes()
        assert stat.S_IMODE(other.stat().st_mode) == 0o600
    assert stat.S_IMODE((bed.folder / "new/ca").stat().st_mode) == 0o700
    code, output = bed.play("restore", "new", "-e", f"backup={vault}", password="mine")
    assert code == 0 and "changed=0" in output, output[-3000:]


def test_faults_of_a_backup(bed: Bed, vault: Path) -> None:
    code, output = bed.play("backup", "old")
    assert code != 0 and "No backup was named, expected the file on the controller to write to" in output
    assert "This run has no vault password, expected the one to encrypt the backup with" in output
    before = vault.read_bytes()
    code, output = bed.play("backup", "old", "-e", f"backup={vault}", password="other")
    assert code != 0 and f"{vault} is there already and is no backup of this state with the vault password" in output
    assert vault.read_bytes() == before
    code, output = bed.play("backup", "bare", "-e", "backup=bare.vault", password="mine")
    assert code != 0 and "it holds no secrets: deploy first, or restore it from a backup" in output


def test_faults_of_a_restore(bed: Bed, vault: Path) -> None:
    kept = bed.file("third").read_text(encoding="utf-8")
    damaged, foreign, secrets = (bed.folder / name for name in ("damaged.vault", "foreign.vault", "secrets.vault"))
    damaged.write_bytes(vault.read_bytes()[:-50])
    library = VaultLib([("default", VaultSecret(b"mine-password"))])
    foreign.write_bytes(library.encrypt("a shopping list", library.secrets[0][1]))
    secrets.write_bytes(library.encrypt(kept, library.secrets[0][1]))
    for name, password, words in (
        (
            "nowhere.vault",
            "mine",
            "nowhere.vault, expected a file on the controller that the playbook backup has written",
        ),
        (
            vault.name,
            "other",
            "cannot be decrypted, expected the vault password of this run to be the one it was written",
        ),
        (damaged.name, "mine", "and the file to be whole: give that password"),
        (foreign.name, "mine", "cannot be used: it is no backup of a backend (no JSON)"),
        (secrets.name, "mine", "it holds the secrets alone: bring it back with the playbook secrets"),
        (
            vault.name,
            "mine",
            "has files that differ from those that were to be brought back: secrets/secrets.json (session",
        ),
    ):
        code, output = bed.play("restore", "third", "-e", f"backup={name}", password=password)
        assert code != 0 and words in output, (name, output[-3000:])
        assert bed.file("third").read_text(encoding="utf-8") == kept
    code, output = bed.play("restore", "bare", "-e", f"backup={vault}", password="mine", domain="talk.other.example")
    assert code != 0 and "is of talk.example.org, expected talk.other.example (hpb_domain)" in output
    assert not bed.file("bare").exists()
    code, output = bed.play("restore", "third", "-e", f"backup={vault}", "-e", "replace=true", password="mine")
    assert code == 0, output[-3000:]
    assert bed.file("third").read_bytes() == bed.file("old").read_bytes()
