# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An installed Nextcloud stand-in for unit tests: real files, real processes."""

from __future__ import annotations

import getpass
import json
import sqlite3
import subprocess
import sys
from pathlib import Path

STANDIN = Path(__file__).parents[2] / "molecule" / "shared" / "nextcloud"


class Nextcloud:
    """An installed stand-in and how a test speaks to it."""

    def __init__(self, root: Path, *options: str) -> None:
        self.root = root
        command = [sys.executable, STANDIN / "install.py", "--root", root, "--domain", "nc.example.org"]
        subprocess.run([*command, "--user", getpass.getuser(), *options], check=True)
        self.set(occ_delay=0)

    def set(self, **values: object) -> None:
        path = self.root / "data" / "standin.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    def configure(self, old: str, new: str) -> None:
        path = self.root / "config" / "config.php"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    def occ(self, *words: str, **options: object) -> tuple[str, str, int]:
        command = [self.root / "occ", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
        return done.stdout, done.stderr, done.returncode

    def standin(self, *words: str) -> tuple[str, str, int]:
        command = [self.root / "standin", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout, done.stderr, done.returncode

    def log(self) -> list[dict]:
        path = self.root / "data" / "requests.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def stored(self, key: str) -> list | None:
        with sqlite3.connect(self.root / "data" / "nextcloud.db") as connection:
            query = "SELECT configvalue, type, lazy FROM oc_appconfig WHERE appid = 'spreed' AND configkey = ?"
            row = connection.execute(query, (key,)).fetchone()
        return list(row) if row else None
