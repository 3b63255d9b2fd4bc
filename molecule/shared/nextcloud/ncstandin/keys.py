# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ES256 key pair of the v2 hello, made and used by the `openssl` program."""

from __future__ import annotations

import base64
import fcntl
import json
import subprocess
import tempfile
import time
from typing import Any

from .state import Instance

PRIVATE, PUBLIC = "signaling_token_privkey_es256", "signaling_token_pubkey_es256"


def _openssl(*arguments: str, data: str = "") -> bytes:
    return subprocess.run(["openssl", *arguments], input=data.encode(), capture_output=True, check=True).stdout


def public_key(private: str) -> str:
    """Return the PEM public key that belongs to a PEM private key."""
    return _openssl("pkey", "-pubout", data=private).decode()


def stored(instance: Instance) -> tuple[str, str]:
    """Return the stored private and public key; empty when there are none."""
    return instance.get("spreed", PRIVATE) or "", instance.get("spreed", PUBLIC) or ""


def ensure(instance: Instance) -> bool:
    """Create the pair if there is none; return whether it was created now."""
    if all(stored(instance)):
        return False
    with (instance.data / "keys.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        instance.forget()
        return _create(instance)


def _create(instance: Instance) -> bool:
    if all(stored(instance)):
        return False
    private = _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256").decode()
    instance.put("spreed", PRIVATE, private)
    instance.put("spreed", PUBLIC, public_key(private))
    return True


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _raw_signature(der: bytes) -> bytes:
    """Turn a DER signature (a sequence of two integers) into the 64 bytes that a JWT carries."""
    result, position = b"", 2
    for _number in range(2):
        length = der[position + 1]
        integer = der[position + 2 : position + 2 + length]
        result += integer.lstrip(b"\0").rjust(32, b"\0")
        position += 2 + length
    return result


def token(instance: Instance, claims: dict[str, Any], lifetime: int = 60) -> str:
    """Return a JWT with `iat` now and `exp` after `lifetime` seconds, signed with the stored private key."""
    ensure(instance)
    now = int(time.time())
    head = {"typ": "JWT", "alg": "ES256"}
    body = {"iss": instance.base_url, "iat": now, "exp": now + lifetime, **claims}
    message = ".".join(_encode(json.dumps(part, separators=(",", ":")).encode()) for part in (head, body))
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as key:
        key.write(stored(instance)[0])
        key.flush()
        signature = _openssl("dgst", "-sha256", "-sign", key.name, data=message)
    return f"{message}.{_encode(_raw_signature(signature))}"
