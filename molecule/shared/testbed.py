#!/usr/bin/env python3
# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command line of the test bed: test hosts in containers, a registry mirror and Nextcloud stand-ins."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import docker
from bed import environment as bed
from bed import inventory
from bed.common import SETTINGS, BedError, Environment, say


def main() -> int:
    """Do what the command line asks; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, help_text in (
        ("up", "make an environment: its test hosts and everything they need"),
        ("down", "remove an environment: exactly what carries its label"),
        ("status", "show the test hosts of an environment"),
        ("mirror-janus", "copy the Janus image that was built in an environment into the registry mirror"),
    ):
        command = commands.add_parser(name, help=help_text)
        command.add_argument("environment", choices=sorted(SETTINGS["environments"]))
        if name == "down":
            command.add_argument(
                "--caches", action="store_true", help="also images and registry, once no environment is left"
            )
    command = commands.add_parser("inventory", help="write the demo's inventory for an environment that is up")
    command.add_argument("environment", choices=sorted(SETTINGS["environments"]))
    command.add_argument("directory", type=Path)
    commands.add_parser("images", help="make the images and fill the registry mirror")
    options = parser.parse_args()
    try:
        return run(options)
    except (BedError, docker.errors.APIError) as error:
        sys.stderr.write(f"testbed: {error}\n")
        return 1


def run(options: argparse.Namespace) -> int:
    """Run one command; return the exit status."""
    if options.command == "images":
        for name, version in bed.fill().items():
            say(f"{name} {version}")
        return 0
    environment = Environment(options.environment)
    if options.command == "up":
        facts = bed.up(environment)
        bed.status(environment)
        say(f"test CA {facts['ca']}, facts {environment.directory / 'testbed.json'}")
    elif options.command == "down":
        bed.down(environment, caches=options.caches)
        say(f"{environment.prefix}: removed")
    elif options.command == "inventory":
        facts = json.loads((environment.directory / "testbed.json").read_text(encoding="utf-8"))
        say(f"inventory {inventory.write(facts, options.directory)}")
    elif options.command == "mirror-janus":
        for tag in bed.mirror_janus(environment):
            say(f"registry mirror has {bed.JANUS}:{tag}")
    elif not bed.status(environment):
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
