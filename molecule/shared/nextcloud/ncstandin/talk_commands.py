# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""occ talk:*: the commands of the Talk app."""

from __future__ import annotations

import json
import re
import time
from typing import Any

from . import php
from .console import OUTPUT, REQUIRED, Argument, Call, Command, Option, ThrownError
from .state import TYPES, Instance

DEFAULT_STUN = "stun.nextcloud.com:443"
TYPED_ARRAYS_SINCE = 25
# PHP's parse_url finds a host and a port in these, with or without a scheme.
_HOST_PORT = re.compile(r"(?:[a-z][a-z0-9+.-]*://)?(?:[^/?#@]*@)?([^/?#@:\[\]\s]+):(\d{1,5})(?:[/?#].*)?", re.I)
_OPENSSL_ERROR = "error:12000079:random number generator::Cannot open file"


def read_list(instance: Instance, key: str) -> list[Any]:
    """Return stun_servers or turn_servers; Talk with typed arrays implies its default STUN server."""
    stored = instance.get_json("spreed", key)
    if isinstance(stored, list):
        return stored
    return [DEFAULT_STUN] if key == "stun_servers" and instance.talk_major >= TYPED_ARRAYS_SINCE else []


def write_list(instance: Instance, key: str, value: list[Any]) -> None:
    """Store stun_servers or turn_servers in the type that this Talk uses."""
    typed = instance.talk_major >= TYPED_ARRAYS_SINCE
    # A typed array is stored by Nextcloud itself, which does not escape slashes.
    text = json.dumps(value, separators=(",", ":")) if typed else php.json_encode(value)
    instance.put("spreed", key, text, TYPES["array" if typed else "mixed"])


def signaling_add(call: Call) -> int:
    """Append a server and replace the secret that all servers share."""
    server, secret = call.arguments["server"], call.arguments["secret"]
    if not server.strip():
        call.say("Server cannot be empty.")
        return 1
    if not secret.strip():
        call.say("Secret cannot be empty.")
        return 1
    stored = call.instance.signaling()
    servers = [*stored["servers"], {"server": server, "verify": call.options["verify"]}]
    call.instance.put("spreed", "signaling_servers", php.json_encode({"servers": servers, "secret": secret}))
    call.say(f"Added signaling server {server}.")
    return 0


def signaling_delete(call: Call) -> int:
    """Remove every entry with exactly this server; the secret stays."""
    server = call.arguments["server"]
    stored = call.instance.signaling()
    kept = [entry for entry in stored["servers"] if entry["server"] != server]
    if len(kept) == len(stored["servers"]):
        call.say("There is nothing to delete.")
        return 0
    call.instance.put("spreed", "signaling_servers", php.json_encode({"servers": kept, "secret": stored["secret"]}))
    call.say(f"Deleted {server}.")
    return 0


def signaling_list(call: Call) -> int:
    """Print the servers and the secret, as stored."""
    call.show(call.instance.get_json("spreed", "signaling_servers") or [], prefix="")
    return 0


def verify_keys(call: Call) -> int:
    """Compare the stored public key of the v2 hello with the one that belongs to the stored private key."""
    from . import keys

    if keys.ensure(call.instance) and call.instance.settings["openssl_quirk"]:
        raise ThrownError("Config.php line 609", f"OpenSSL error:\n{_OPENSSL_ERROR}\n{_OPENSSL_ERROR}")
    private, public = keys.stored(call.instance)
    derived = keys.public_key(private)
    for title, key in (("Stored public key:", public), ("Derived public key:", derived)):
        call.say(title)
        call.out += key.split("\n")
    if public == derived:
        call.say("Stored public key for algorithm es256 matches stored private key")
        return 0
    if call.options["update"]:
        call.instance.put("spreed", keys.PUBLIC, derived)
        call.say("Stored public key for algorithm es256 did not match stored private key.")
        call.say("A new public key was created and stored.")
        return 0
    call.say("Stored public key for algorithm es256 does not match stored private key")
    return 1


def stun_add(call: Call) -> int:
    """Append one STUN server as host:port."""
    match = _HOST_PORT.fullmatch(call.arguments["server"])
    if not match or not 0 < int(match[2]) < 65536:
        call.say("Incorrect value. Must be stunserver:port.")
        return 1
    server = f"{match[1]}:{int(match[2])}"
    servers = read_list(call.instance, "stun_servers")
    if server in servers:
        call.say("Server already exists.")
        return 1
    write_list(call.instance, "stun_servers", [*servers, server])
    call.say(f"Added {server}.")
    return 0


def stun_delete(call: Call) -> int:
    """Remove one STUN server; after the last one the default comes back."""
    server = call.arguments["server"]
    servers = read_list(call.instance, "stun_servers")
    kept = [entry for entry in servers if entry != server]
    if len(kept) == len(servers):
        call.say("There is nothing to delete.")
        return 0
    write_list(call.instance, "stun_servers", kept or [DEFAULT_STUN])
    call.say(f"Deleted {server}." if kept else "You deleted all STUN servers. A default STUN server was added.")
    return 0


def stun_list(call: Call) -> int:
    """Print the STUN servers."""
    call.show(read_list(call.instance, "stun_servers"))
    return 0


def turn_add(call: Call) -> int:
    """Append one TURN server; an entry with the same schemes, server and protocols keeps its old secret."""
    schemes, server, protocols = (call.arguments[name] for name in ("schemes", "server", "protocols"))
    secret, generate = call.options["secret"], call.options["generate-secret"]
    problem = ""
    if schemes not in ("turn", "turns", "turn,turns"):
        problem = "Not allowed schemes, must be turn or turns or turn,turns."
    elif protocols not in ("udp", "tcp", "udp,tcp"):
        problem = "Not allowed protocols, must be udp or tcp or udp,tcp."
    elif not server.strip():
        problem = "Server cannot be empty."
    elif (secret is None) == (not generate):
        problem = "You must provide --secret or --generate-secret."
    elif not generate and not secret.strip():
        problem = "Secret cannot be empty."
    if problem:
        call.say(problem)
        return 1
    if generate:
        import secrets

        secret = secrets.token_hex(20)
    server = re.sub(r"^https?://", "", server, flags=re.I)
    servers = read_list(call.instance, "turn_servers")
    if any(
        (entry["schemes"], entry["server"], entry["protocols"]) == (schemes, server, protocols) for entry in servers
    ):
        call.say("Server already exists with the same configuration.")
        return 1
    entry = {"schemes": schemes, "server": server, "secret": secret, "protocols": protocols}
    write_list(call.instance, "turn_servers", [*servers, entry])
    call.say(f"Added {server}.")
    return 0


def turn_delete(call: Call) -> int:
    """Remove the entries with exactly these schemes, server and protocols."""
    wanted = tuple(call.arguments[name] for name in ("schemes", "server", "protocols"))
    servers = read_list(call.instance, "turn_servers")
    kept = [entry for entry in servers if (entry["schemes"], entry["server"], entry["protocols"]) != wanted]
    if len(kept) == len(servers):
        call.say("There is nothing to delete.")
        return 0
    write_list(call.instance, "turn_servers", kept)
    call.say(f"Deleted {wanted[1]}.")
    return 0


def turn_list(call: Call) -> int:
    """Print the TURN servers with their secrets."""
    call.show(read_list(call.instance, "turn_servers"), prefix="")
    return 0


_SERVER = (Argument("server"),)
_TURN = (Argument("schemes"), Argument("server"), Argument("protocols"))


def active_calls(call: Call) -> int:
    """Say how many calls there are and how many participants; exit code 1 when there are any."""
    from .conversations import Conversations

    with Conversations(call.instance) as rooms:
        present = [[one for one in room["sessions"].values() if one["in_call"]] for room in rooms.values()]
    calls = [people for people in present if people]
    if not calls:
        call.say("No calls in progress")
        return 0
    recent = sum(one["last_ping"] > time.time() - 60 for people in calls for one in people)
    call.say(f"There are currently {len(calls)} calls in progress with {recent} participants")
    return 1


COMMANDS = (
    Command("talk:active-calls", active_calls),
    Command("talk:signaling:add", signaling_add, (Argument("server"), Argument("secret")), (Option("verify"),)),
    Command("talk:signaling:delete", signaling_delete, _SERVER),
    Command("talk:signaling:list", signaling_list, (), (OUTPUT,)),
    Command("talk:signaling:verify-keys", verify_keys, (), (OUTPUT, Option("update"))),
    Command("talk:stun:add", stun_add, _SERVER),
    Command("talk:stun:delete", stun_delete, _SERVER),
    Command("talk:stun:list", stun_list, (), (OUTPUT,)),
    Command("talk:turn:add", turn_add, _TURN, (Option("secret", REQUIRED), Option("generate-secret"))),
    Command("talk:turn:delete", turn_delete, _TURN),
    Command("talk:turn:list", turn_list, (), (OUTPUT,)),
)
