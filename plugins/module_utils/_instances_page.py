# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page with all instances in one table, and the verdicts in it. No input or output, and no secrets.

A run does not learn everything: it may be narrowed to one instance, or a host may be switched off. What it did not
learn is taken over from the page that is there, so the page itself is the memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

TITLE = "# Nextcloud instances of the Talk backend"
PROGRAMS = "## Programs"
COLUMNS = (
    "instance",
    "address",
    "registered",
    "sessions",
    "camera",
    "screen",
    "Nextcloud",
    "Talk",
    "last verification",
)
# Columns whose value a run may not know, as the keys of a row and of what was seen.
LEARNT = {"registered": "place", "Nextcloud": "nextcloud", "Talk": "talk", "last verification": "verdict"}
UNKNOWN = "?"
NEVER = "not checked"
ALL = "all"


def verdict(instance: str, results: Iterable[Mapping[str, Any]], check_ok: bool, day: str) -> str:
    """Return what the verification came to for an instance: ok, failed or not checked, the day, and what was not ok.

    results: the steps that the module call_probe returns. check_ok: what Talk's own check says. day: YYYY-MM-DD.
    A warning about the way to the Nextcloud means that it was not reached, or has no secret yet.
    """
    rows = [row for row in results if row["instance"] in (instance, ALL)]
    failed = [row["name"] for row in rows if row["status"] == "failed"] + ([] if check_ok else ["Talk's own check"])
    if failed:
        return f"failed, {day}: {', '.join(failed)}"
    unsure = [row["name"] for row in rows if row["status"] == "warning" and row["step"] == "hello"]
    if unsure or not any(row["instance"] == instance for row in rows):
        return ": ".join([f"{NEVER}, {day}", *unsure])
    return f"ok, {day}"


def rows_of(text: str) -> dict[str, dict[str, str]]:
    """Return the rows of the first table in a page that `render` made, by instance; {} for any other text."""
    found: dict[str, dict[str, str]] = {}
    for line in text.partition(PROGRAMS)[0].splitlines():
        cells = _cells(line)
        if len(cells) == len(COLUMNS) and cells != list(COLUMNS) and set(cells[0]) != {"-"}:
            found[cells[0]] = dict(zip(COLUMNS, cells))
    return found


def programs_of(text: str) -> dict[str, str]:
    """Return the second table in a page that `render` made: programs and their versions."""
    found = {}
    for line in text.partition(PROGRAMS)[2].splitlines():
        cells = _cells(line)
        if len(cells) == 2 and cells != ["program", "version"] and set(cells[0]) != {"-"}:
            found[cells[0]] = cells[1]
    return found


def _cells(line: str) -> list[str]:
    line = line.strip()
    if not line.startswith("|") or not line.endswith("|"):
        return []
    return [cell.strip().replace("\0", "|") for cell in line.replace(r"\|", "\0")[1:-1].split("|")]


def render(
    instances: Sequence[Mapping[str, Any]],
    seen: Mapping[str, Mapping[str, str]],
    programs: Mapping[str, str],
    before: str = "",
) -> str:
    """Return the page as Markdown.

    instances: what the filter `backends` returns. seen: {id: {"place", "nextcloud", "talk", "verdict"}}, of which
    anything may be missing or empty. programs: {name: version}, empty when nobody asked. before: the present page,
    which fills the gaps.
    """
    old = rows_of(before)
    lines = [TITLE, "", "Written by the verification; changes by hand are lost.", ""]
    lines += [_line(COLUMNS), _line(["---"] * len(COLUMNS))]
    for instance in instances:
        row = old.get(instance["id"], {})
        learnt = seen.get(instance["id"], {})
        known = {column: learnt.get(key) or row.get(column, "") for column, key in LEARNT.items()}
        if not instance["register"]:
            known |= {"registered": "by its admin (handover page)"}
        lines.append(
            _line(
                [
                    instance["id"],
                    " ".join(instance["urls"]),
                    known["registered"] or UNKNOWN,
                    str(instance["session_limit"] or "no limit"),
                    _bitrate(instance["stream_bitrate"]),
                    _bitrate(instance["screen_bitrate"]),
                    known["Nextcloud"] or UNKNOWN,
                    known["Talk"] or UNKNOWN,
                    known["last verification"] or NEVER,
                ]
            )
        )
    lines += ["", PROGRAMS, "", _line(["program", "version"]), _line(["---", "---"])]
    versions = {**programs_of(before), **{name: version for name, version in programs.items() if version}}
    lines += [_line([name, versions[name]]) for name in sorted(versions)]
    return "\n".join(lines) + "\n"


def _bitrate(value: int | str | None) -> str:
    return f"{int(value) / 1_000_000:.3g} Mbit/s" if value else "server's limit"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def version_of(image: str) -> str:
    """Return the version in the name of an image: its tag, or the start of its digest when it is pinned by that."""
    name, _at, digest = image.partition("@")
    if digest or image.startswith("sha256:"):
        return (digest or image)[:19]
    tag = name.rpartition("/")[2].partition(":")[2]
    return tag or UNKNOWN
