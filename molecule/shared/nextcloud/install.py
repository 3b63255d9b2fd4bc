#!/usr/bin/env python3
# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lay down one stand-in instance: code, config.php, data, and on request the php shim and the service's environment.

A repeated run brings new code and keeps configuration and data.
"""

from __future__ import annotations

import argparse
import compileall
import os
import pwd
import secrets
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from ncstandin import php
from ncstandin.state import SETTINGS, Instance

PROGRAMS = ("occ", "server.py", "standin")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, type=Path, help="directory of the instance, e.g. /var/www/nc")
    parser.add_argument("--domain", required=True, help="host name of the instance; goes into trusted_domains")
    parser.add_argument("--url", help="overwrite.cli.url (default https://DOMAIN)")
    parser.add_argument("--user", default="www-data", help="owner of config.php and of the data (default www-data)")
    parser.add_argument("--talk", default=SETTINGS["talk"], help="version of Talk, or 'none' (default %(default)s)")
    parser.add_argument("--nextcloud", default="34.0.1.2", help="version of Nextcloud (default %(default)s)")
    parser.add_argument("--php", type=Path, help="also put the php shim there, e.g. /usr/local/bin/php")
    parser.add_argument("--service", help="also write /etc/nextcloud-standin/SERVICE.env for the systemd unit")
    parser.add_argument("--bind", default="127.0.0.1", help="address for --service (default %(default)s)")
    parser.add_argument("--port", type=int, default=8081, help="port for --service (default %(default)s)")
    return parser.parse_args()


def copy_code(root: Path) -> None:
    """Copy the programs and their package, compiled for whoever cannot write there."""
    root.mkdir(parents=True, exist_ok=True)
    shutil.copytree(
        HERE / "ncstandin", root / "ncstandin", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in PROGRAMS:
        shutil.copy2(HERE / name, root / name)
        (root / name).chmod(0o755)
    compileall.compile_dir(root / "ncstandin", quiet=1)


def configure(options: argparse.Namespace) -> None:
    """Write config.php, the settings and the first app values of a new instance."""
    instance = Instance(options.root)
    instance.config_file.parent.mkdir(exist_ok=True)
    instance.data.mkdir(exist_ok=True)
    if instance.config_file.exists():
        return
    url = options.url or f"https://{options.domain}"
    config = {
        "instanceid": "oc" + secrets.token_hex(5),
        "passwordsalt": secrets.token_hex(15),
        "secret": secrets.token_hex(24),
        "trusted_domains": [options.domain],
        "datadirectory": str(instance.data),
        "dbtype": "sqlite3",
        "version": options.nextcloud,
        "overwrite.cli.url": url,
        "overwriteprotocol": "https",
        "installed": True,
    }
    instance.config_file.write_text(php.write_config(config), encoding="utf-8")
    if options.talk == "none":
        instance.settings["talk"] = None
    else:
        instance.settings["talk"] = options.talk
        instance.put("spreed", "enabled", "yes")
        instance.put("spreed", "installed_version", options.talk)
        instance.put("spreed", "types", "dav,prevent_group_restriction")
    instance.save_settings()


def hand_over(root: Path, user: str) -> None:
    """Give everything to the web server's user: what others may not read is config/ and data/."""
    account = pwd.getpwnam(user)
    for path in (root, *root.rglob("*")):
        os.chown(path, account.pw_uid, account.pw_gid)
    for directory in (root / "config", root / "data"):
        directory.chmod(0o770)
        for path in directory.iterdir():
            path.chmod(0o640)


def main() -> None:
    """Do what the command line asks."""
    options = arguments()
    copy_code(options.root)
    configure(options)
    if os.geteuid() == 0:
        hand_over(options.root, options.user)
    if options.php:
        shutil.copy2(HERE / "php", options.php)
    if options.service:
        folder = Path("/etc/nextcloud-standin")
        folder.mkdir(exist_ok=True)
        text = f"ROOT={options.root}\nBIND={options.bind}\nPORT={options.port}\n"
        (folder / f"{options.service}.env").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
