# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""occ: who may run it, which commands there are in the instance's state, and how it ends."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from . import bruteforce, core_commands, talk_commands
from .console import GLOBALS, NONE, Command, ConsoleError, error_lines
from .state import Instance

# What Nextcloud offers before it is installed or while it waits for an upgrade.
_ALWAYS = ("app:disable", "app:enable", "app:list", "maintenance:mode", "status", "config:system:get")
_CHANGES = (":add", ":delete", ":set", ":import", ":enable", ":disable")


def become_owner(instance: Instance) -> list[str]:
    """As root become the owner of config.php; return what to print instead of working, if this user may not.

    Another user gets the complaint about the config directory (and exit code 0), as in Nextcloud.
    """
    import pwd

    if not os.access(instance.config_file.parent, os.W_OK):
        return [
            'Cannot write into "config" directory!',
            "",
            "The web server needs write access to the config directory.",
            "",
            "For a configuration that shall stay read-only set config_is_read_only to true.",
        ]
    if os.geteuid() != 0 or not instance.config_file.exists():
        return []
    owner = instance.config_file.stat().st_uid
    if owner != 0:
        try:
            os.initgroups(pwd.getpwuid(owner).pw_name, instance.config_file.stat().st_gid)
        except KeyError:
            os.setgroups([])
        os.setgid(instance.config_file.stat().st_gid)
        os.setuid(owner)
    return []


def refusal(instance: Instance, uid: int) -> list[str]:
    """Return the complaint for a user who is not the owner of config.php, though it can write the directory."""
    try:
        owner = instance.config_file.stat().st_uid
    except FileNotFoundError:
        return []
    if uid == owner or (uid == 0 and not instance.settings["root_refused"]):
        return []
    return [
        "Console has to be executed with the user that owns the file config/config.php",
        f"Current user id: {uid}",
        f"Owner id of config.php: {owner}",
    ]


def state_complaint(instance: Instance, command: str) -> list[str]:
    """Return the lines that occ writes to stderr because of the instance's state."""
    if not instance.system.get("installed", False):
        return ["Nextcloud is not installed - only a limited number of commands are available"]
    if instance.settings["needs_upgrade"]:
        return [
            "Nextcloud or one of the apps require upgrade - only a limited number of commands are available",
            "You may use your browser or the occ upgrade command to do the upgrade",
        ]
    if instance.system.get("maintenance", False) and command not in ("maintenance:mode", "status"):
        return [
            "Nextcloud is in maintenance mode, no apps are loaded.",
            "Commands provided by apps are unavailable.",
        ]
    return []


def available(instance: Instance) -> dict[str, Command]:
    """Return the commands that exist in the instance's present state."""
    commands = {command.name: command for command in (*core_commands.COMMANDS, *bruteforce.COMMANDS)}
    installed = bool(instance.system.get("installed", False))
    if not installed:
        return {name: command for name, command in commands.items() if name == "status"}
    if instance.settings["needs_upgrade"]:
        return {name: command for name, command in commands.items() if name in _ALWAYS}
    if not instance.system.get("maintenance", False) and instance.talk_enabled:
        commands.update((command.name, command) for command in talk_commands.COMMANDS)
    return commands


def find(commands: dict[str, Command], name: str) -> Command:
    """Return the command; raises ConsoleError in Symfony's words."""
    if name in commands:
        return commands[name]
    namespace = name.rpartition(":")[0]
    if namespace and not any(known.startswith(namespace + ":") for known in commands):
        raise ConsoleError(f'There are no commands defined in the "{namespace}" namespace.')
    raise ConsoleError(f'Command "{name}" is not defined.')


def _split(argv: list[str]) -> tuple[str, list[str]]:
    """Return the command's name (the first word that is no option) and the other words."""
    for index, word in enumerate(argv):
        if not word.startswith("-"):
            return word, argv[:index] + argv[index + 1 :]
    return "", argv


def run(instance: Instance, argv: list[str]) -> tuple[list[str], list[str], int]:
    """Run one command line; return the lines of stdout, the lines of stderr and the exit code."""
    name, tokens = _split(argv)
    if name in ("", "list"):
        switches = {option.short for option in GLOBALS if option.mode == NONE} & {word[1:] for word in tokens}
        if "V" in switches or "--version" in tokens:
            return [f"Nextcloud {core_commands.status_of(instance)['versionstring']}"], [], 0
        return ["Available commands:", *(f"  {known}" for known in sorted(available(instance)))], [], 0
    err = state_complaint(instance, name)
    synopsis = None
    try:
        command = find(available(instance), name)
        synopsis = command.synopsis()
        call = command.parse(instance, tokens)
        if call.options["help"]:
            return ["Usage:", f"  {synopsis}"], err, 0
        if name.endswith(_CHANGES):
            time.sleep(float(instance.settings["occ_delay"]))
        code = command.run(call)
    except ConsoleError as error:
        return [], err + error_lines(error, synopsis), 1
    return ([] if call.options["quiet"] else call.out), err + call.err, code


def main(root: str, argv: list[str]) -> int:
    """Entry of the `occ` program."""
    instance = Instance(Path(root))
    uid = os.geteuid()
    complaint = become_owner(instance)
    if complaint:
        sys.stdout.write("\n".join(complaint) + "\n")
        return 0
    complaint = refusal(instance, uid)
    if complaint:
        sys.stdout.write("\n".join(complaint) + "\n")
        return 1
    os.chdir(instance.root)
    out, err, code = run(instance, argv)
    for stream, lines in ((sys.stderr, err), (sys.stdout, out)):
        stream.flush()
        stream.buffer.write("".join(line + "\n" for line in lines).encode())
        stream.flush()
    return code
