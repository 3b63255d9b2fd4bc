# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What kind of engine a host has, whether it can run the backend, and what its refusals mean.

`look` and `ask` read; all else is pure. What an engine says of itself is the answer of its API to ``GET /info`` (Engine
API, SystemInfo).
"""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SOCKET = "/var/run/docker.sock"
"""Where community.docker looks for the engine."""
SECONDS = 10.0
AGAIN = "and run the same command again"
# What systemd calls containers that are made to hold a whole system (systemd-detect-virt(1)).
SYSTEM_CONTAINERS = {"lxc": "LXC", "lxc-libvirt": "LXC", "openvz": "OpenVZ", "systemd-nspawn": "systemd-nspawn"}


@dataclass(frozen=True)
class Engine:
    """What can be seen of an engine without asking it for more than its state.

    program: where the command docker really is, "" for none. shim: whether it is Podman's. place: DOCKER_HOST, or
    ``context NAME``; "" for the usual socket. rootless: the users (numbers) who have an engine of their own. info: what
    the engine says of itself, {} when it was not asked.
    """

    program: str = ""
    shim: bool = False
    place: str = ""
    rootless: tuple[str, ...] = ()
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def root(self) -> str:
        """The directory of the engine, "" when it is not known."""
        return str(self.info.get("DockerRootDir") or "")

    @property
    def security(self) -> set[str]:
        """The names of its security options, such as ``userns`` and ``rootless``."""
        options = [str(one) for one in self.info.get("SecurityOptions") or []]
        return {part.partition("=")[2] for one in options for part in one.split(",") if part.startswith("name=")}

    @property
    def remaps(self) -> bool:
        """Whether it gives containers other users than the host's (userns-remap), unless they ask for them."""
        return "userns" in self.security


def problem(engine: Engine, base_dir: str, error: str = "") -> str:
    """Return why this engine cannot run the backend, "" when it can.

    error: what it answered when it was asked for its version, "" when it gave one or there is none.
    """
    own = "expected Docker's own, as a service of this host"
    if engine.shim or "BuildahVersion" in engine.info or "/containers/storage" in engine.root:
        return (
            f"What answers as Docker on this host is Podman, {own}: remove the package podman-docker (and the link "
            f"{SOCKET} to Podman's socket), {AGAIN}, which installs Docker beside it."
        )
    if engine.program.startswith("/snap/") or engine.root.startswith("/var/snap/"):
        if base_dir.startswith("/home/"):
            return ""
        return (
            f"Docker on this host is a snap, which does not see {base_dir}, {own}: remove it when nothing else needs "
            "it "
            f"(snap remove docker), {AGAIN}, which installs Docker; or set hpb_base_dir: /home/nextcloud-talk-hpb for "
            "the group hpb, where a snap may read."
        )
    if "rootless" in engine.security or error and engine.rootless:
        whose = f" of the user {' and '.join(engine.rootless)}" if engine.rootless else ""
        return (
            f"The Docker engine of this host is a rootless one{whose}, which has no right to the host's network, "
            f"{own}: "
            f"start that of root beside it (systemctl enable --now docker.socket docker), without DOCKER_HOST, {AGAIN}."
        )
    if engine.info.get("OperatingSystem") == "Docker Desktop":
        return (
            "The engine of this host is Docker Desktop, whose containers are in a machine of its own behind NAT, "
            f"{own}: run the backend on a server with Docker Engine."
        )
    if engine.place.startswith("context "):
        return (
            f"The command docker of root goes to the {engine.place}, {own}: choose the usual one (docker context use "
            f"default), {AGAIN}."
        )
    if engine.place and not engine.place.startswith("unix:"):
        return (
            f"DOCKER_HOST is {engine.place} for root on this host, so that containers would run elsewhere, {own}: "
            f"remove the variable, {AGAIN}."
        )
    return ""


_NESTED = (
    "this host is itself a container: give it nesting and keyctl (Proxmox: pct set ID --features nesting=1,keyctl=1; "
    "Incus: "
    "security.nesting=true) and restart it, or take a virtual machine"
)
# What an engine says, all of these words, and what that means.
_REFUSALS: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("ip_unprivileged_port_start", "permission denied"),
        "this host is itself a container, and the AppArmor rules around it are older than its runc (1.3.3 and newer): "
        "update the machine that it is on (Proxmox: lxc-pve 6.0.5-2 or newer; Incus: 6.19 or newer) and restart it; "
        "until "
        "then lxc.apparmor.profile: unconfined in its configuration helps, or take a virtual machine",
    ),
    (
        ("docker-default", "could not be loaded"),
        "this host is itself a container and may not load AppArmor rules: give it nesting and keyctl (Proxmox: pct set "
        "ID "
        "--features nesting=1,keyctl=1; Incus: security.nesting=true) and restart it, or let lxc.apparmor.profile be "
        "unconfined in its configuration, or take a virtual machine",
    ),
    (("session keyring",), _NESTED),
    (("create session key",), _NESTED),
    (("mounting", "proc", "to rootfs", "not permitted"), _NESTED),
    (("mounting", "proc", "to rootfs", "permission denied"), _NESTED),
    (
        ("lchown", "invalid argument"),
        "this host is itself a container that has too few user numbers for the image: give it 65536 or more (its "
        "idmap, "
        "/etc/subuid and /etc/subgid on the machine that it is on), or take a virtual machine",
    ),
    (
        ("mount source path", "read-only file system"),
        "the engine does not see that directory, as Docker from a snap does: remove it (snap remove docker) and run "
        "the "
        "same command again, which installs Docker, or set hpb_base_dir: /home/nextcloud-talk-hpb for the group hpb",
    ),
    (
        ("host's network namespace", "user namespaces"),
        "the engine remaps users (userns-remap), which nobody knew when this run began",
    ),
)


def refusal(text: str) -> str:
    """Return what an engine's refusal to start or to build something means, and what to do; "" for an unknown one."""
    said = text.lower()
    return next((meaning for words, meaning in _REFUSALS if all(word in said for word in words)), "")


def notes(inside: str, running: bool) -> list[str]:
    """Return what a host that is itself a container has to have.

    inside: what systemd calls it, "" for none. running: whether containers of ours run there, so that it has all that.
    """
    kind = SYSTEM_CONTAINERS.get(inside, "")
    if not kind or running:
        return []
    return [
        f"This host is itself a container ({kind}), in which an engine can start containers only with nesting and "
        "keyctl "
        "(Proxmox: pct set ID --features nesting=1,keyctl=1; Incus: security.nesting=true), and on a machine whose "
        "AppArmor "
        "rules are as new as runc (Proxmox: lxc-pve 6.0.5-2 or newer; Incus: 6.19 or newer). A virtual machine asks "
        "for "
        "none of that."
    ]


# --- reading -------------------------------------------------------------------------------------------------------


def inside(root: Path = Path("/")) -> str:
    """Return what systemd calls the container that this machine is, such as ``lxc``, "" for none."""
    for path, marker in ((root / "run/systemd/container", ""), (root / "proc/1/environ", "container=")):
        try:
            words = path.read_text(encoding="utf-8", errors="replace").replace("\0", "\n").split()
        except OSError:
            continue
        found = [word[len(marker) :] for word in words if word.startswith(marker)]
        if found:
            return found[0]
    return ""


def look(program: str | None, environment: Mapping[str, str], root: Path = Path("/")) -> Engine:
    """Return what there is on this machine, and what the engine says of itself when it is where it is looked for."""
    if not program:
        return Engine()
    real = Path(program).resolve()
    try:
        beginning = real.read_bytes()[:4096] if real.stat().st_size < 65536 else b""
    except OSError:
        beginning = b""
    shim = real.name == "podman" or beginning.startswith(b"#!") and b"podman" in beginning
    place = environment.get("DOCKER_HOST") or context(environment)
    local = not place or place.startswith("unix://")
    users = sorted(path.parent.name for path in (root / "run/user").glob("*/docker.sock"))
    info = ask(place[len("unix://") :] if place else str(root / SOCKET[1:])) if local and not shim else {}
    # A snap's command is a link to the program snap.
    return Engine(program if program.startswith("/snap/") else str(real), shim, place, tuple(users), info)


def context(environment: Mapping[str, str]) -> str:
    """Return the context of the command docker (docker context), as ``context NAME``; "" for the usual one."""
    name = environment.get("DOCKER_CONTEXT", "")
    if not name:
        folder = environment.get("DOCKER_CONFIG") or str(Path(environment.get("HOME") or "/root") / ".docker")
        try:
            name = json.loads(Path(folder, "config.json").read_text(encoding="utf-8")).get("currentContext") or ""
        except (OSError, ValueError, AttributeError):
            name = ""
    return f"context {name}" if name not in ("", "default") else ""


class _Local(http.client.HTTPConnection):
    """HTTP over a socket of this machine."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(SECONDS)
        self.sock.connect(self.host)


def ask(path: str) -> dict[str, Any]:
    """Return what the engine at this socket says of itself, {} when it says nothing."""
    if not os.path.exists(path):  # noqa: PTH110 - a socket of others may lie where only they may look.
        return {}
    link = _Local(path)
    try:
        link.request("GET", "/info", headers={"Host": "docker"})
        found = json.loads(link.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return {}
    finally:
        link.close()
    return found if isinstance(found, dict) else {}
