# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook secrets: out of one host into an encrypted file on the controller, and into another host."""

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


class Bed:
    """This machine as controller and as the backend's host, below a directory of the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        local = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
        (folder / "hosts.json").write_text(
            json.dumps({"hpb": {"hosts": {"talk.example.org": local}}}), encoding="utf-8"
        )
        for name in ("mine", "other"):
            (folder / name).write_text(f"{name}-password\n", encoding="utf-8")

    def file(self, host: str) -> Path:
        return self.folder / host / "secrets/secrets.json"

    def play(self, host: str, *arguments: str, password: str = "") -> tuple[int, str]:
        """Run the playbook; no secret may be in what it prints. Returns the exit code and the output."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
        command = [
            *(Path(sys.executable).parent / "ansible-playbook", "-i", self.folder / "hosts.json", "-vvv", "--diff"),
            *("nextcloud_talk.hpb.secrets", "-e", f"hpb_base_dir={self.folder / host}", *arguments),
            *(["--vault-password-file", self.folder / password] if password else []),
        ]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**env, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        output = done.stdout + done.stderr
        document = json.loads(self.file("old").read_text(encoding="utf-8"))
        entry = document["instances"]["nc"]
        for value in (document["internal"], entry["turn"], entry["next"]["turn"], "mine-password", "other-password"):
            assert value not in output
        return done.returncode, output


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Bed:
    made = Bed(tmp_path_factory.mktemp("secrets"))
    nc = {"id": "nc", "url": "https://nc.example.org"}
    run_module("secrets", {"path": str(made.file("old")), "instances": [nc], "prepare": ["nc"]})
    return made


def test_out_and_in_again(bed: Bed) -> None:
    vault, text = bed.folder / "all.vault", bed.file("old").read_text(encoding="utf-8")
    code, output = bed.play("old", "-e", "export=all.vault", password="mine")
    assert code == 0, output[-3000:]
    assert f"All secrets of talk.example.org are in {vault}" in output
    assert stat.S_IMODE(vault.stat().st_mode) == 0o600
    library = VaultLib([("default", VaultSecret(b"mine-password"))])
    assert library.decrypt(vault.read_bytes()).decode() == text

    code, output = bed.play("new", "-e", f"import={vault}", password="mine")
    assert code == 0, output[-3000:]
    assert "Run the playbook site now" in output
    assert bed.file("new").read_text(encoding="utf-8") == text
    assert stat.S_IMODE(bed.file("new").stat().st_mode) == 0o600


def test_what_is_there_is_not_overwritten(bed: Bed) -> None:
    vault = bed.folder / "there.vault"
    vault.write_text("mine", encoding="utf-8")
    code, output = bed.play("old", "-e", f"export={vault}")
    assert code != 0
    assert f"This run has no vault password, expected the one to encrypt {vault} with: give --ask-vault-pass," in output
    assert f"{vault} is there already, expected a new file: name another one, or replace it with -e replace" in output
    assert vault.read_text(encoding="utf-8") == "mine"

    library = VaultLib([("default", VaultSecret(b"mine-password"))])
    vault.write_bytes(library.encrypt(bed.file("old").read_text(encoding="utf-8"), library.secrets[0][1]))
    nc = {"id": "nc", "url": "https://nc.example.org"}
    run_module("secrets", {"path": str(bed.file("third")), "instances": [nc]})
    kept = bed.file("third").read_text(encoding="utf-8")
    code, output = bed.play("third", "-e", f"import={vault}", password="mine")
    assert code != 0
    assert "already holds other values than the text in restore, for session_hash_key, session_block_key," in output
    assert bed.file("third").read_text(encoding="utf-8") == kept

    code, output = bed.play("third", "-e", f"import={vault}", "-e", "replace=true", password="other")
    assert code != 0
    assert f"{vault} cannot be read or decrypted, expected the vault password of this run to be the one" in output
    assert bed.file("third").read_text(encoding="utf-8") == kept
