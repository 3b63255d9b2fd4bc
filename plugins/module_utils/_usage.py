# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What processors did, from /proc: of this machine, and of the processes of containers on it.

A process belongs to the container whose main process is in the same cgroup, which holds for version 1 and 2 of them
and for hosts that are containers themselves. Commands of health checks are gone before they are counted.
Files and their fields are those of proc(5).
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

PROC = Path("/proc")


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


def host_seconds(stat: str, tick: int) -> tuple[float, float]:
    """Return for how many seconds all processors were busy, and for how many they were there, from /proc/stat."""
    fields = [int(field) for field in stat.split("\n", 1)[0].split()[1:9]]
    if len(fields) < 8:
        return 0.0, 0.0
    return (sum(fields) - fields[3] - fields[4]) / tick, sum(fields) / tick


def process_seconds(stat: str, tick: int) -> float:
    """Return the processor time of a process with all its threads, from its /proc/<pid>/stat; 0 without one."""
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / tick if len(fields) > 12 else 0.0


def members(cgroups: Mapping[int, str], mains: Mapping[str, int]) -> dict[str, list[int]]:
    """Return the processes of each container.

    cgroups: the text of /proc/<pid>/cgroup of each process. mains: the main process of each container.
    """
    return {
        name: sorted(pid for pid, text in cgroups.items() if text and text == cgroups.get(main))
        for name, main in mains.items()
    }


def sample(mains: Mapping[str, int], now: float, proc: Path = PROC) -> dict[str, Any]:
    """Return what was used until now: time, busy and all seconds of the host, seconds of each container as `used`."""
    tick = os.sysconf("SC_CLK_TCK")
    pids = [int(path.name) for path in proc.iterdir() if path.name.isdigit()]
    found = members({pid: text_of(proc / str(pid) / "cgroup") for pid in pids}, mains)
    busy, whole = host_seconds(text_of(proc / "stat"), tick)
    return {
        "time": now,
        "busy": busy,
        "whole": whole,
        "used": {
            name: round(sum(process_seconds(text_of(proc / str(pid) / "stat"), tick) for pid in pids), 2)
            for name, pids in found.items()
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
    """Return what was used until a time between two samples, None for a time that they do not cover."""
    for left, right in zip(samples, samples[1:]):
        if left["time"] <= time <= right["time"]:
            share = (time - left["time"]) / max(1e-6, right["time"] - left["time"])

            def between(first: float, second: float, share: float = share) -> float:
                return first + share * (second - first)

            return {
                "busy": between(left["busy"], right["busy"]),
                "whole": between(left["whole"], right["whole"]),
                "used": {
                    name: between(seconds, right["used"][name])
                    for name, seconds in left["used"].items()
                    if name in right["used"]
                },
            }
    return None


def cores_between(samples: Sequence[Mapping[str, Any]], begin: float, end: float) -> dict[str, Any] | None:
    """Return how many cores were in use: `host` as a share of all of them (0 to 1), `used` by container.

    None when the samples do not cover the time, or a container was started anew in it.
    """
    first, last = at(samples, begin), at(samples, end)
    if first is None or last is None or end <= begin:
        return None
    used = {name: (last["used"][name] - seconds) / (end - begin) for name, seconds in first["used"].items()}
    if any(cores < -0.001 for cores in used.values()):
        return None
    whole = last["whole"] - first["whole"]
    return {"host": (last["busy"] - first["busy"]) / whole if whole else 0.0, "used": used}


def publishers(metrics: str) -> int:
    """Return how many streams are published now, from the signaling server's metrics (docs/prometheus-metrics.md)."""
    values = re.findall(r"^signaling_mcu_publishers(?:\{[^}]*\})? ([0-9.e+]+)$", metrics, re.MULTILINE)
    return int(sum(float(value) for value in values))
