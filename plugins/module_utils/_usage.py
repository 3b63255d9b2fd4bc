# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What processors did, from /proc: of this machine, and of the processes of containers on it.

A container's processes are its main process and what descends from it. So commands of health checks are not counted,
and it makes no difference which version of cgroups there is. Files and their fields are those of proc(5).
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

PROC = Path("/proc")
# Seconds of all processors in a sample.
HOST = ("busy", "interrupts", "whole")


def text_of(path: Path) -> str:
    """Return a file's text, "" for one that cannot be read: processes come and go."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def processor(cpuinfo: str) -> str:
    """Return the name of the processor in /proc/cpuinfo; of one that has none, as on ARM, what it says of itself."""
    fields = dict(re.findall(r"^([A-Za-z ]+?)\s*:\s*(.+?)\s*$", cpuinfo, re.MULTILINE))
    if fields.get("model name"):
        return fields["model name"]
    named = [fields.get(name, "") for name in ("Model", "Hardware")]
    part = f"CPU implementer {fields['CPU implementer']} part {fields['CPU part']}" if "CPU part" in fields else ""
    return next((text for text in [*named, part] if text), "unknown processor")


def machine(proc: Path = PROC) -> dict[str, Any]:
    """Return processor, cores, memory_mb, kernel and boot (which two names of one machine have in common)."""
    memory = re.search(r"^MemTotal:\s+(\d+) kB", text_of(proc / "meminfo"), re.MULTILINE)
    return {
        "processor": processor(text_of(proc / "cpuinfo")),
        "cores": os.cpu_count() or 1,
        "memory_mb": int(memory.group(1)) // 1024 if memory else 0,
        "kernel": platform.release(),
        "boot": text_of(proc / "sys/kernel/random/boot_id").strip(),
    }


def host_seconds(stat: str, tick: int) -> dict[str, float]:
    """Return the seconds of all processors since the start from /proc/stat: busy, interrupts (in busy), and whole."""
    fields = [int(field) for field in stat.split("\n", 1)[0].split()[1:9]]
    if len(fields) < 8:
        return {"busy": 0.0, "interrupts": 0.0, "whole": 0.0}
    _user, _nice, _system, idle, waiting, hard, soft, _stolen = fields
    whole = sum(fields)
    return {"busy": (whole - idle - waiting) / tick, "interrupts": (hard + soft) / tick, "whole": whole / tick}


def process(stat: str, tick: int) -> tuple[int, float] | None:
    """Return parent and processor time of a process from its /proc/<pid>/stat, None for one that is gone.

    The time is that of all its threads, and of its children that have ended.
    """
    fields = stat.rpartition(")")[2].split()
    return (int(fields[1]), sum(int(field) for field in fields[11:15]) / tick) if len(fields) > 14 else None


def family(parents: Mapping[int, int], main: int) -> list[int]:
    """Return a process and all that descend from it."""
    found = [main] if main in parents else []
    for member in found:
        found += [pid for pid, parent in parents.items() if parent == member]
    return found


def sample(mains: Mapping[str, int], now: float, proc: Path = PROC) -> dict[str, Any]:
    """Return what was used until now.

    They are: time, seconds of the host (`host_seconds`), and as `used` those of the main process of each container with
    all that descend from it. A container whose main process is gone is not in it.
    """
    tick = os.sysconf("SC_CLK_TCK")
    stats = {int(path.name): process(text_of(path / "stat"), tick) for path in proc.iterdir() if path.name.isdigit()}
    found = {pid: stat for pid, stat in stats.items() if stat}
    parents = {pid: stat[0] for pid, stat in found.items()}
    return {
        "time": now,
        **host_seconds(text_of(proc / "stat"), tick),
        "used": {
            name: round(sum(found[pid][1] for pid in family(parents, main)), 2)
            for name, main in mains.items()
            if main in found
        },
    }


def own_drops(tables: Iterable[str], inodes: Iterable[str]) -> int:
    """Return how many packets the sockets with these inodes threw away, from the texts of /proc/net/udp and udp6."""
    wanted = set(inodes)
    total = 0
    for table in tables:
        for line in table.splitlines()[1:]:
            fields = line.split()
            if len(fields) > 12 and fields[9] in wanted:
                total += int(fields[12])
    return total


def socket_inodes(proc: Path = PROC) -> list[str]:
    """Return the inodes of all sockets of this process."""
    found = []
    for path in (proc / "self/fd").iterdir():
        try:
            target = os.readlink(path)  # noqa: PTH115 - it is no path
        except OSError:
            continue
        if target.startswith("socket:["):
            found.append(target[8:-1])
    return found


def clock_offset(before: float, there: float, after: float) -> float:
    """Return by how many seconds the other clock is ahead of ours; 0 when it lies between question and answer."""
    return 0.0 if before <= there <= after else there - (before + after) / 2


def at(samples: Sequence[Mapping[str, Any]], time: float) -> dict[str, Any] | None:
    """Return what was used until a time between two samples, None for a time that they do not cover.

    None as well where a container ended or began between the two.
    """
    for left, right in zip(samples, samples[1:]):
        if left["time"] <= time <= right["time"]:
            if set(left["used"]) != set(right["used"]):
                return None
            share = (time - left["time"]) / max(1e-6, right["time"] - left["time"])

            def between(first: float, second: float, share: float = share) -> float:
                return first + share * (second - first)

            return {
                **{name: between(left[name], right[name]) for name in HOST},
                "used": {name: between(seconds, right["used"][name]) for name, seconds in left["used"].items()},
            }
    return None


def cores_between(samples: Sequence[Mapping[str, Any]], begin: float, end: float) -> dict[str, Any] | None:
    """Return how many cores were in use: `busy` of the host, `interrupts` in it, `whole` (all there are), and `used`.

    used: by container. None when the samples do not cover the time, or a container was started anew in it.
    """
    first, last = at(samples, begin), at(samples, end)
    if first is None or last is None or end <= begin or set(first["used"]) != set(last["used"]):
        return None
    used = {name: (last["used"][name] - seconds) / (end - begin) for name, seconds in first["used"].items()}
    if any(cores < 0 for cores in used.values()):
        return None
    return {**{name: (last[name] - first[name]) / (end - begin) for name in HOST}, "used": used}


def publishers(metrics: str) -> int:
    """Return how many streams are published now, from the signaling server's metrics (docs/prometheus-metrics.md)."""
    values = re.findall(r"^signaling_mcu_publishers(?:\{[^}]*\})? ([0-9.e+]+)$", metrics, re.MULTILINE)
    return int(sum(float(value) for value in values))
