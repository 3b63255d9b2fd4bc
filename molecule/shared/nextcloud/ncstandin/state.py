# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of one instance: config.php, the app configuration (SQLite) and the stand-in's own settings.

The app configuration is read once when a process starts, as Nextcloud does. Nothing locks between that read and a
later write: commands that run at the same time lose each other's changes, as they do with the real occ.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import php

TYPES = {"mixed": 2, "string": 4, "integer": 8, "float": 16, "boolean": 32, "array": 64}

SETTINGS: dict[str, Any] = {
    "talk": "22.0.0",  # version of the Talk app; null: the app is not there and cannot be downloaded
    "needs_upgrade": False,
    "root_refused": False,  # occ as root answers that it wants the owner of config.php
    "occ_delay": 0.05,  # seconds between occ's read of the configuration and its work
    # Seconds for which a web worker goes on with the app configuration that it has read, as Nextcloud 32 and newer do.
    "config_cache": 0,
    "posts_matter": True,  # what a user does fails when the signaling server refuses to be told of it
    "openssl_quirk": True,  # the first verify-keys creates the keys and fails, as with an unwritable home
    "memcache": "redis",  # redis, apcu (needs `php -d apc.enable_cli=1` on the command line) or null
    "ca_file": None,  # PEM file that is trusted in addition to the system's store
    "users": {"alice": "Alice", "bob": "Bob"},
    "rooms": {"testroom": ["alice", "bob"]},
    # What users log in with; who needs a second factor logs in with an app password only.
    "app_passwords": {"alice": "TestB-edUse-rAppP-asswo-rd4Al"},
    "passwords": {"alice": "the-password-of-alice-in-the-test-bed", "bob": "the-password-of-bob-in-the-test-bed"},
    "second_factor": ["alice"],
    "logins_throttled": False,  # logins are answered 429
    "no_talk": [],  # users in none of the groups that may use Talk
    "no_new_rooms": [],  # users who may make no conversation
    "permissions": {},  # user -> the bits of what the user may do in a conversation
    "calls_closed": False,  # nobody may start a call
    "rooms_stay": False,  # deleting a conversation fails
}


class Instance:
    """One installed Nextcloud: `root` is its directory, with config/config.php and data/ below it."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.config_file = self.root / "config" / "config.php"
        self.data = self.root / "data"
        self.log_file = self.data / "requests.jsonl"
        self._app: dict[tuple[str, str], tuple[str, int, int]] | None = None
        self._system: dict[str, Any] | None = None
        self._settings: dict[str, Any] | None = None

    @property
    def system(self) -> dict[str, Any]:
        """config.php as a dict; an absent file is an instance that is not installed."""
        if self._system is None:
            try:
                self._system = php.read_config(self.config_file.read_text(encoding="utf-8"))
            except FileNotFoundError:
                self._system = {}
        return self._system

    def save_system(self) -> None:
        """Write config.php in place, so that its owner and mode stay."""
        self.config_file.write_text(php.write_config(self.system), encoding="utf-8")

    @property
    def settings(self) -> dict[str, Any]:
        """The stand-in's own switches (data/standin.json) over their defaults."""
        if self._settings is None:
            self._settings = dict(SETTINGS)
            with suppress(FileNotFoundError):
                self._settings.update(json.loads((self.data / "standin.json").read_text(encoding="utf-8")))
        return self._settings

    def save_settings(self) -> None:
        """Write data/standin.json, whole and at once."""
        temporary = self.data / f"standin.json.{os.getpid()}"
        temporary.write_text(json.dumps(self.settings, indent=2) + "\n", encoding="utf-8")
        temporary.replace(self.data / "standin.json")

    @property
    def base_url(self) -> str:
        """The URL that Nextcloud takes for its own when no web request says otherwise."""
        return str(self.system.get("overwrite.cli.url", "")).rstrip("/")

    @property
    def talk_version(self) -> str | None:
        """Version of the Talk app, or None when the app is missing."""
        return self.settings["talk"]

    @property
    def talk_major(self) -> int:
        """Major version of Talk; 0 when the app is missing."""
        return int(str(self.talk_version or "0").split(".", maxsplit=1)[0])

    @property
    def talk_enabled(self) -> bool:
        """Whether the Talk app is there and switched on."""
        return self.talk_version is not None and self.get("spreed", "enabled", "no") == "yes"

    def connect(self) -> Any:
        """Return a connection to the instance's database."""
        import sqlite3

        connection = sqlite3.connect(self.data / "nextcloud.db", timeout=30, isolation_level=None)
        connection.execute(
            "CREATE TABLE IF NOT EXISTS oc_appconfig (appid TEXT, configkey TEXT, configvalue TEXT,"
            " type INTEGER, lazy INTEGER, PRIMARY KEY (appid, configkey))"
        )
        return connection

    @property
    def app(self) -> dict[tuple[str, str], tuple[str, int, int]]:
        """The app configuration as it was at the first look: (app, key) -> (value, type, lazy)."""
        if self._app is None:
            connection = self.connect()
            rows = connection.execute("SELECT appid, configkey, configvalue, type, lazy FROM oc_appconfig")
            self._app = {(row[0], row[1]): (row[2], row[3], row[4]) for row in rows}
            connection.close()
        return self._app

    def remember(self, app: dict[tuple[str, str], tuple[str, int, int]]) -> None:
        """Go on with an app configuration that was read earlier."""
        self._app = dict(app)

    def forget(self) -> None:
        """Read the app configuration again at the next look."""
        self._app = None

    def get(self, app: str, key: str, default: str | None = None) -> str | None:
        """Return one app value as stored, or the default."""
        row = self.app.get((app, key))
        return default if row is None else row[0]

    def get_json(self, app: str, key: str) -> Any:
        """Return one app value decoded, or None when it is unset or no JSON."""
        try:
            return json.loads(self.get(app, key) or "null")
        except ValueError:
            return None

    def put(self, app: str, key: str, value: str, kind: int = TYPES["mixed"]) -> None:
        """Store one app value."""
        connection = self.connect()
        connection.execute("REPLACE INTO oc_appconfig VALUES (?, ?, ?, ?, 0)", (app, key, value, kind))
        connection.close()
        self.app[(app, key)] = (value, kind, 0)

    def remove(self, app: str, key: str) -> None:
        """Delete one app value."""
        connection = self.connect()
        connection.execute("DELETE FROM oc_appconfig WHERE appid = ? AND configkey = ?", (app, key))
        connection.close()
        self.app.pop((app, key), None)

    def signaling(self) -> dict[str, Any]:
        """Return Talk's signaling configuration: `servers` (server, verify) and the one `secret`.

        Unset means the empty secret, which Talk 21 then accepts at its backend endpoint.
        """
        stored = self.get_json("spreed", "signaling_servers")
        stored = stored if isinstance(stored, dict) else {}
        return {"servers": stored.get("servers") or [], "secret": stored.get("secret") or ""}
