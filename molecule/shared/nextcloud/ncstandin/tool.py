# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The `standin` program: what Nextcloud and its users would do, for tests that need it on the command line."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from . import backend, web
from .conversations import post
from .occ import become_owner
from .state import SETTINGS, Instance


def talk_post(instance: Instance, options: argparse.Namespace) -> int:
    """Tell every registered signaling server about an invitation; 0 only if each answered 200."""
    servers = instance.signaling()["servers"]
    if not servers:
        print("no signaling server is registered in this Nextcloud", file=sys.stderr)
        return 1
    if options.message:
        message = json.loads(options.message)
    else:
        users = instance.settings["rooms"].get(options.room, [])
        invite = {"userids": users, "alluserids": users, "properties": {"name": options.room}}
        message = {"type": "invite", "invite": invite}
    good = True
    for server in servers:
        answer = post(instance, server, options.room, message, (options.url or instance.base_url).rstrip("/"))
        print(f"{server['server']} {answer}")
        good = good and answer == "200"
    return 0 if good else 1


def _set(instance: Instance, options: argparse.Namespace) -> int:
    if options.key not in SETTINGS:
        print(f"unknown setting {options.key!r}, expected one of: {', '.join(SETTINGS)}", file=sys.stderr)
        return 1
    try:
        instance.settings[options.key] = json.loads(options.value)
    except ValueError:
        instance.settings[options.key] = options.value
    instance.save_settings()
    return 0


def _log(instance: Instance, options: argparse.Namespace) -> int:
    if instance.log_file.exists():
        sys.stdout.write(instance.log_file.read_text(encoding="utf-8"))
        if options.clear:
            instance.log_file.write_text("", encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="standin", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    post = commands.add_parser("talk-post", help="send Talk's signed POST to the registered signaling servers")
    post.add_argument("--room", default="testroom", help="room token (default %(default)s)")
    post.add_argument("--url", help="base URL to name instead of overwrite.cli.url")
    post.add_argument("--message", help="JSON to send instead of an invitation of the room's users")
    token = commands.add_parser("hello-v2-token", help="print the JWT of a v2 hello")
    token.add_argument("user")
    token.add_argument("--lifetime", type=int, default=60, help="seconds (default %(default)s)")
    commands.add_parser("ticket", help="print a ticket of a v1 hello").add_argument("user")
    commands.add_parser("settings", help="print what Talk gives to a user's client (JSON)").add_argument("user")
    user = commands.add_parser("user", help="add a user")
    user.add_argument("user")
    user.add_argument("name")
    room = commands.add_parser("room", help="make a room with these users")
    room.add_argument("room")
    room.add_argument("users", nargs="+")
    change = commands.add_parser("set", help="change a setting of the stand-in; the value is JSON or a word")
    change.add_argument("key")
    change.add_argument("value")
    commands.add_parser("log", help="print the request log").add_argument("--clear", action="store_true")
    return parser


def _run(instance: Instance, options: argparse.Namespace) -> int:
    if options.command == "talk-post":
        return talk_post(instance, options)
    if options.command == "set":
        return _set(instance, options)
    if options.command == "log":
        return _log(instance, options)
    if options.command == "ticket":
        print(backend.ticket(instance, options.user))
    elif options.command == "hello-v2-token":
        print(backend.hello_v2_token(instance, options.user, options.lifetime))
    elif options.command == "settings":
        print(json.dumps(web.settings_of(instance, options.user), indent=2))
    elif options.command == "user":
        instance.settings["users"][options.user] = options.name
        instance.save_settings()
    else:
        instance.settings["rooms"][options.room] = options.users
        instance.save_settings()
    return 0


def main(root: str, argv: list[str]) -> int:
    """Entry of the `standin` program; as root it becomes the owner of config.php."""
    options = _parser().parse_args(argv)
    instance = Instance(Path(root))
    complaint = become_owner(instance)
    if complaint:
        print(complaint[0], file=sys.stderr)
        return 1
    return _run(instance, options)
