# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a change of a container costs, and why it is made: from the dry runs of what would make it.

The dry run of the container is the result of community.docker.docker_container in check mode with `debug`. Of what it
shows, only names, limits and images are ever repeated, so that a cost holds no secret.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

DIGEST_LABEL = "nextcloud-talk.hpb.restart-digest"

# What docker_container compares, in the words of this collection. Of these only the name is said.
NAMES = {
    "auto_remove": "removal at its end",
    "capabilities": "capabilities",
    "cap_drop": "capabilities",
    "command": "command",
    "entrypoint": "command",
    "etc_hosts": "fixed addresses of names",
    "expected_binds": "mounts",
    "expected_cmd": "command",
    "expected_entrypoint": "command",
    "expected_etc_hosts": "fixed addresses of names",
    "expected_mounts": "mounts",
    "expected_volumes": "mounts",
    "healthcheck": "health check",
    "log_driver": "log",
    "log_options": "log",
    "network_mode": "network",
    "published_ports": "published ports",
    "expected_exposed": "published ports",
    "restart_policy": "restart policy",
    "stop_signal": "stop signal",
    "stop_timeout": "time to stop",
    "tmpfs": "mounts",
    "user": "user",
    "volumes": "mounts",
}

# Said with both values.
LIMITS = {"memory": "memory limit", "pids_limit": "limit of processes"}

# Said by something else, or no reason of its own.
SILENT = ("exists", "image", "image_name", "labels", "memory_swap", "restarted", "running", *LIMITS)

SENTENCES = {
    "unchanged": ("unchanged", "unchanged"),
    "updated": ("updated in place, which costs nothing", "to be updated in place, which costs nothing"),
    "reloaded": ("reloaded, running calls go on", "to be reloaded, running calls go on"),
    "started": ("started, since it did not run", "to be started, since it does not run"),
    "restarted": ("restarted", "to be restarted"),
    "created": ("created", "to be created"),
}


def size(value: Any) -> str:
    """Return a memory limit in bytes as `docker` would be given it: 512M."""
    number = int(value or 0)
    for unit, factor in (("G", 1024**3), ("M", 1024**2), ("K", 1024)):
        if number and number % factor == 0:
            return f"{number // factor}{unit}"
    return str(number) if number else "none"


def limits(values: Any) -> str:
    """Return the soft limit of open files in docker_container's list of ulimits, "none" without one."""
    for entry in values or []:
        text = f"{entry.get('Name', '')}:{entry.get('Soft', '')}" if isinstance(entry, Mapping) else str(entry)
        found = re.match(r"nofile:(\d+)", text)
        if found:
            return found.group(1)
    return "none"


def image(before: Mapping[str, Any], after: Mapping[str, Any], wanted: str) -> list[str]:
    """Return the reason that lies in the image, as a list of one or none."""
    if "image_name" in after:
        return [f"image {before.get('image_name')} -> {wanted}"]
    if "image" in after and before.get("image") != after.get("image"):
        return [f"image {wanted}, of which another one was pulled"]
    return []


def environment(before: Any, after: Any) -> str:
    """Return which variables of the environment differ, by their names."""

    def table(lines: Any) -> dict[str, str]:
        if isinstance(lines, Mapping):
            return {str(name): str(value) for name, value in lines.items()}
        return {name: value for name, _equals, value in (str(line).partition("=") for line in lines or [])}

    old, new = table(before), table(after)
    return ", ".join(sorted(name for name in new if new[name] != old.get(name)))


def reasons(
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    files: Sequence[str],
    wanted: str,
) -> list[str]:
    """Return why a container that is there is changed.

    `before` and `after` are those of docker_container's difference, `files` the names of the configuration files that
    are written or removed, and `wanted` is the name of the image.
    """
    why = image(before, after, wanted)
    if files:
        why.append(("configuration file " if len(files) == 1 else "configuration files ") + ", ".join(sorted(files)))
    old, new = (side.get("labels") or {} for side in (before, after))
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        differing = {name for name in new if new[name] != old.get(name)}
        if DIGEST_LABEL in differing and not files:
            why.append("what is read at its start")
        if differing - {DIGEST_LABEL}:
            why.append("labels")
    for name, words in LIMITS.items():
        if name in after:
            show = size if name == "memory" else str
            why.append(f"{words} {show(before.get(name))} -> {show(after.get(name))}")
    names: list[str] = []
    for name in sorted(set(after) - set(SILENT)):
        if name in ("env", "expected_env"):
            changed = environment(before.get(name), after.get(name))
            names.append(f"environment {changed}".strip())
        elif name in ("ulimits", "expected_ulimits"):
            names.append(f"limit of open files {limits(before.get(name))} -> {limits(after.get(name))}")
        elif name.startswith("network."):
            names.append("network")
        else:
            names.append(NAMES.get(name, name.removeprefix("expected_").replace("_", " ")))
    return why + [words for index, words in enumerate(names) if words not in names[:index]]


def cost(
    dry: Mapping[str, Any] | None,
    files: Sequence[str],
    found: Mapping[str, Any],
    wanted: str,
    *,
    signalled: bool = False,
    watched: bool = False,
    renamed: str = "",
) -> dict[str, Any]:
    """Return what a change costs: `change` (a key of SENTENCES), `why` (texts), `anew` and `disrupts`.

    `dry` is the dry run of the container, None when none is possible yet. `files` are the configuration files that
    differ. `found` says of the container that is there whether it is `running`. `signalled`: it would be told to read
    its configuration again; `watched`: it notices by itself; `renamed`: its old and its new name. `anew`: the container
    is made anew, `disrupts`: a running one is stopped for it.
    """
    if dry is None:
        return {"change": "created", "why": [], "anew": False, "disrupts": False}
    difference = dry.get("diff") or {}
    before, after = (difference.get(side) or {} for side in ("before", "after"))
    done = {name for action in dry.get("actions") or [] for name in action}
    running = bool(found.get("running"))
    anew = "removed" in done
    if after.get("exists") and not before.get("exists"):
        return {"change": "created", "why": [], "anew": False, "disrupts": False}
    why = reasons(before, after, files, wanted)
    if anew or "restarted" in done:
        change = "restarted" if running else "started"
    elif "started" in done:
        change = "started"
    elif signalled or (files and watched):
        change = "reloaded"
    elif set(after) or files or renamed:
        change = "updated"
    else:
        change = "unchanged"
    if change == "reloaded" and not why:
        why = ["what it reads on a signal"]
    if renamed:
        why.append(f"name {renamed}")
    return {"change": change, "why": why, "anew": anew, "disrupts": change == "restarted"}


def sentence(cost: Mapping[str, Any], dry: bool, consequence: str = "", drained: str = "") -> str:
    """Return a cost in words, for a table of the containers.

    `dry` for a dry run, `consequence`: what a restart means for calls, `drained`: what is or was done about them first.
    """
    text = SENTENCES[cost["change"]][int(dry)]
    if cost["disrupts"]:
        text += f" ({consequence})" if consequence else ""
        text += f", {drained}" if drained else ""
    return f"{text}: {'; '.join(cost['why'])}" if cost["why"] else text
