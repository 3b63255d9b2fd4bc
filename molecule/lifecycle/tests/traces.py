#!/usr/bin/env python3
# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything of a host that a deployment could leave behind, as lines that can be compared.

As a program it installs Docker on both hosts of the backend, gives one a container, a network and an image of somebody
else, and notes what there is before anything is deployed, in `.cache/<environment>/before.json`.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[3]
NAME = os.environ.get("HPB_TEST_ENVIRONMENT") or "lifecycle"
CACHE = PROJECT / ".cache" / NAME
HOSTS = ("hpb", "hpb2")

# What the host does by itself, whether or not anything is deployed: logs, what runs, and what apt and Docker keep of
# their own. Ansible leaves its directory of temporary files.
NOT_OURS = [
    "/var/log/*",
    "/var/lib/docker/*",
    "/var/lib/containerd/*",
    "/var/cache/*",
    "/var/lib/apt/*",
    "/var/lib/dpkg/*",
    "/tmp/*",
    "/run/*",
    "/proc/*",
    "/sys/*",
    "/dev/*",
    "*/.ansible*",
    "/var/lib/systemd/*",
    "/etc/ld.so.cache",
    "*/.docker/*",
    "*.pyc",
    "*/__pycache__",
]
FIND = ["find", "/", "-xdev", *(word for path in NOT_OURS for word in ("-not", "-path", path))]

# What is looked at, and the command that lists it. The test bed's name server (127.0.0.11) has another port each time.
COMMANDS = {
    "containers": ["docker", "ps", "--all", "--format", "{{.Names}} {{.Image}} {{.State}}"],
    "networks": ["docker", "network", "ls", "--format", "{{.Name}} {{.Driver}}"],
    "images": ["docker", "image", "ls", "--all", "--format", "{{.Repository}}:{{.Tag}}"],
    "volumes": ["docker", "volume", "ls", "--quiet"],
    "files": ["sh", "-c", shlex.join([*FIND, "-printf", "%p %M %u %g\\n"]) + " 2>/dev/null; true"],
    "ports": ["sh", "-c", "ss --listening --numeric --no-header --tcp --udp | grep -v 127.0.0.11:; true"],
    "units": ["systemctl", "list-unit-files", "--no-legend", "--no-pager"],
    "loaded": ["systemctl", "list-units", "--all", "--plain", "--no-legend", "--no-pager", "nextcloud-talk-hpb*"],
    "kernel": ["sh", "-c", "sysctl --all --pattern 'mem(_max|_default)?$|file-max$|ip_forward$' 2>/dev/null; true"],
    "firewall": ["sh", "-c", "iptables-save | grep -v -e '^#' -e 127.0.0.11 | sed 's/[[][0-9:]*]//'"],
}

OCC = {
    "nc": ("web", ["php", "/var/www/nc/occ"]),
    "dev_nc": ("web", ["docker", "exec", "-u", "www-data", "dev-app-1", "php", "/var/www/html/occ"]),
    "test_nc": ("test", ["podman", "exec", "-u", "www-data", "test-app-1", "php", "/var/www/html/occ"]),
}


def run(host: str, *command: str) -> str:
    """Run a command on a test host and return what it prints; raises CalledProcessError when it fails."""
    done = subprocess.run(
        ["docker", "exec", f"hpb-{NAME}-{host}", *command], capture_output=True, text=True, check=False, timeout=300
    )
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
    return done.stdout


def of_host(host: str) -> dict[str, list[str]]:
    """Return what there is on a host, a sorted list of lines for each kind."""
    found = {name: sorted(set(run(host, *command).splitlines())) for name, command in COMMANDS.items()}
    # The local address and the port; what a socket has in its queues is of no interest.
    found["ports"] = sorted({f"{words[0]} {words[4]}" for words in map(str.split, found["ports"])})
    return found


def talk(instance: str) -> dict[str, object]:
    """Return what Talk of a Nextcloud has stored."""
    host, occ = OCC[instance]
    return {
        what: json.loads(run(host, *occ, f"talk:{what}:list", "--output=json"))
        for what in ("signaling", "turn", "stun")
    }


def everything() -> dict[str, object]:
    """Return what there is on both hosts of the backend, and in the Nextclouds."""
    return {"hosts": {host: of_host(host) for host in HOSTS}, "talk": {name: talk(name) for name in OCC}}


def prepare(host: str) -> None:
    """Have an engine on the host, and things of somebody else in it."""
    packages = "docker.io docker-cli python3-requests python3-cryptography iproute2 procps iptables"
    run(host, "sh", "-ec", f"apt-get update -qq && apt-get install -y -qq --no-install-recommends {packages}")
    run(host, "systemctl", "start", "docker")
    run(host, "sh", "-ec", "mkdir -p /opt/other && echo mine > /opt/other/file")
    if host == HOSTS[0]:
        # Of an image that the backend uses as well.
        run(host, "docker", "network", "create", "other")
        run(
            host,
            "docker",
            "run",
            "-d",
            "--restart",
            "always",
            "--name",
            "other",
            "--network",
            "other",
            "debian:trixie-slim",
            "sleep",
            "9d",
        )


if __name__ == "__main__":
    for machine in HOSTS:
        prepare(machine)
    before = everything()
    (CACHE / "before.json").write_text(json.dumps(before, indent=1), encoding="utf-8")
    sys.stdout.write("".join(f"{host}: {len(what['files'])} files\n" for host, what in before["hosts"].items()))
