# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Paths, settings, the engine on this machine, and progress lines: what every part of the test bed needs."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import yaml

SHARED = Path(__file__).resolve().parent.parent
ROOT = SHARED.parent.parent
CACHE = ROOT / ".cache"
IMAGES = SHARED / "images"
SETTINGS = yaml.safe_load((SHARED / "bed.yml").read_text())

LABEL = "nextcloud-talk-hpb.testbed"
LOCAL = "hpb-testbed"
START = time.monotonic()


class BedError(Exception):
    """A problem that the reader of the message can solve."""


def say(text: str) -> None:
    """Print a progress line with the seconds since the start."""
    sys.stdout.write(f"[{time.monotonic() - START:6.1f}s] {text}\n")
    sys.stdout.flush()


def engine() -> docker.DockerClient:
    """Return a client of the engine on this machine."""
    try:
        client = docker.from_env(timeout=600)
        client.ping()
    except docker.errors.DockerException as error:
        raise BedError(
            f"Docker on this machine does not answer ({error}): run scripts/setup, which starts one."
        ) from None
    return client


def digest(*parts: str | bytes | Path) -> str:
    """Return 12 hex digits for texts, bytes and directories; a directory counts with its names and contents."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            for file in sorted(part.rglob("*")):
                if file.is_file() and "__pycache__" not in file.parts:
                    total.update(str(file.relative_to(part)).encode() + b"\0" + file.read_bytes() + b"\0")
        else:
            total.update((part if isinstance(part, bytes) else part.encode()) + b"\0")
    return total.hexdigest()[:12]


@contextlib.contextmanager
def lock(name: str) -> Iterator[None]:
    """Let one process at a time do what `name` stands for."""
    CACHE.mkdir(exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another run that holds {handle.name}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


class Environment:
    """Names and addresses of one environment, such as `demo`.

    `name` is a key of `environments` in bed.yml. Raises BedError when there is none.
    """

    def __init__(self, name: str) -> None:
        known = SETTINGS["environments"]
        if name not in known:
            raise BedError(f"{name}: expected an environment of molecule/shared/bed.yml, which has {', '.join(known)}.")
        self.name = name
        self.octet = known[name]
        self.prefix = f"hpb-{name}"
        self.subnet = f"10.87.{self.octet}.0/24"
        # "both", "none" or "", as bed.yml has it.
        self.ipv6 = SETTINGS["ipv6"]["environments"].get(name, "")
        self.subnet6 = f"2001:db8:87:{self.octet}::/64"
        self.registry = f"{self.address(SETTINGS['registry_address'])}:5000"
        self.directory = CACHE / name
        self.labels = {LABEL: name}
        self.filters = {"label": f"{LABEL}={name}"}

    def address(self, last: int) -> str:
        """Return the address that ends in `last`."""
        return f"10.87.{self.octet}.{last}"

    def address6(self, last: int) -> str:
        """Return the IPv6 address that ends as `last` is written."""
        return f"2001:db8:87:{self.octet}::{last}"

    def host_address(self, host: str) -> str:
        """Return the address of a test host."""
        return self.address(SETTINGS["hosts"][host]["address"])

    def host_address6(self, host: str) -> str:
        """Return the IPv6 address of a test host, "" where its environment has none."""
        return self.address6(SETTINGS["hosts"][host]["address"]) if self.ipv6 == "both" else ""

    def container(self, host: str) -> str:
        """Return the name of the container that is the test host `host`."""
        return f"{self.prefix}-{host}"

    def hosts(self) -> dict[str, dict]:
        """Return the test hosts of this environment: some are only in those that they name."""
        return {key: one for key, one in SETTINGS["hosts"].items() if self.name in one.get("environments", [self.name])}

    def instances(self, host: str | None = None) -> dict[str, dict]:
        """Return the Nextclouds, or those on `host`, by their id."""
        return {key: one for key, one in SETTINGS["instances"].items() if host in (None, one["host"])}

    def names(self, host: str) -> list[str]:
        """Return the DNS names under which the other test hosts know `host`."""
        return SETTINGS["hosts"][host].get("names", []) + [one["domain"] for one in self.instances(host).values()]
