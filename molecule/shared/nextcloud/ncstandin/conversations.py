# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The conversations that users have made, and the signed posts by which Talk tells the signaling server of them."""

from __future__ import annotations

import fcntl
import json
import secrets
import ssl
import urllib.error
import urllib.request
from typing import Any

from . import setupcheck
from .backend import checksum
from .state import Instance

GROUP, OWNER = 2, 1


class Conversations(dict):
    """data/conversations.json for the time of a `with` block, in which nobody else has it; written at its end.

    {token: {"name", "owner", "permissions" (bits), "sessions": {id: {"user", "in_call" (flags), "last_ping"}}}}
    """

    def __init__(self, instance: Instance) -> None:
        super().__init__()
        self._path = instance.data / "conversations.json"
        self._read = ""

    def __enter__(self) -> Conversations:
        self._file = self._path.open("a+", encoding="utf-8")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._file.seek(0)
        self._read = self._file.read()
        self.update(json.loads(self._read or "{}"))
        return self

    def __exit__(self, *raised: object) -> None:
        with self._file:
            text = json.dumps(self)
            if raised[0] is None and text != self._read:
                self._file.seek(0)
                self._file.truncate()
                self._file.write(text)


def post(
    instance: Instance, server: dict[str, Any], room: str, message: dict[str, Any], base_url: str, tries: int = 1
) -> str:
    """Send one signed message about a room; return the HTTP status, or why there is none."""
    body = json.dumps(message).encode()
    random = secrets.token_hex(32)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "nextcloud-standin",
        "Spreed-Signaling-Random": random,
        "Spreed-Signaling-Checksum": checksum(instance.signaling()["secret"], random, body),
        "Spreed-Signaling-Backend": base_url,
    }
    url = f"{setupcheck.http_url(server['server'])}/api/v1/room/{room}"
    while True:
        answer = _sent(instance, url, body, headers, server["verify"])
        tries -= 1
        if tries <= 0 or not answer.startswith(("5", "failed")):
            return answer


def _sent(instance: Instance, url: str, body: bytes, headers: dict[str, str], verify: bool) -> str:
    """Send one request; return what `post` does."""
    try:
        context: ssl.SSLContext = setupcheck.tls_context(instance, verify)
        request = urllib.request.Request(url, data=body, headers=headers)
        with urllib.request.urlopen(request, timeout=10, context=context) as response:
            return str(response.status)
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.read().decode(errors='replace').strip()}"
    except (OSError, ValueError) as error:
        return f"failed: {getattr(error, 'reason', error)}"


def notify(instance: Instance, room: str, message: dict[str, Any], base_url: str) -> bool:
    """Tell the signaling server of the conversation about a change; returns whether what the user does goes on.

    Talk's BackendNotifier sends the same signed request up to three times while the server fails or cannot be reached.
    After that a failure of the server is passed over, and one to reach it ends what the user does, as does every
    refusal (4xx) at once.
    """
    servers = instance.signaling()["servers"]
    if not servers or instance.get("spreed", "signaling_mode") == "internal":
        return True
    answer = post(instance, servers[0], room, message, base_url, tries=3)
    return not answer.startswith(("4", "failed")) or not instance.settings["posts_matter"]
