# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a load test came to: its steps with the processor time of the backend, as a document, a table and a page.

Processor time is in cores (seconds of one per second), and per delivered Mbit/s in percent of one core.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _load, _usage

PROGRAMS = {"janus": "Janus", "coturn": "coturn", "signalling": "signaling"}
PATHS = {
    "direct": "direct",
    "turn-udp": "TURN over udp",
    "turn-tcp": "TURN over tcp",
    "turn-tls": "TURN over tls",
}
# What an idle host does beside the backend is less.
OTHERS_SHARE = 0.1
# Meetings for which the sizing table says what they need.
PEOPLE = (3, 5, 10, 15, 20, 30)


def per_megabit(cores: float, megabits: float) -> float | None:
    """Return percent of a core for each Mbit/s that is delivered, None when nothing is."""
    return round(100 * cores / megabits, 3) if megabits else None


def step_with_usage(step: Mapping[str, Any], samples: Sequence[Mapping[str, Any]], offset: float) -> dict[str, Any]:
    """Return a step with `usage`, None where it was not seen.

    usage: host (share of all cores), others (cores of what is no container of ours and no interrupt, the generator
    included where it runs there), cores and per_mbit by container. offset: seconds by which the clock of the samples is
    ahead of that of the step.
    """
    seen = _usage.cores_between(samples, step["begin"] + offset, step["end"] + offset)
    usage = None
    if seen:
        cores = {name: round(value, 4) for name, value in seen["used"].items()}
        usage = {
            "host": round(seen["busy"] / seen["whole"], 3) if seen["whole"] else 0.0,
            "others": round(max(0.0, seen["busy"] - seen["interrupts"] - sum(cores.values())), 3),
            "cores": cores,
            "per_mbit": {name: per_megabit(value, step["mbit_per_second"]) for name, value in cores.items()},
        }
    return {**step, "usage": usage}


def document(
    runs: Sequence[Mapping[str, Any]], usage: Mapping[str, Any], look: Mapping[str, Any], asked: float, answered: float
) -> dict[str, Any]:
    """Return the document of a load test.

    runs: each with `path` and `result`, what the module call_load returned, or what it failed with. usage, look: what
    the module hpb_usage returned for the time of all runs, and for one moment before. asked, answered: between which
    times of the generator's clock that moment was.
    """
    offset = _usage.clock_offset(asked, look["time"], answered)
    found: dict[str, Any] = {
        "version": 1,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(asked)),
        "host": dict(look["machine"]),
        "generator": {},
        "runs": [],
    }
    for run in runs:
        result = run["result"]
        if "steps" not in result:
            found["runs"].append({"path": run["path"], "error": str(result.get("msg") or "no step was made")})
            continue
        found["generator"] = {**result["machine"], "processes": result["processes"]}
        steps = [step_with_usage(step, usage.get("samples") or [], offset) for step in result["steps"]]
        found["runs"].append(
            {
                "path": run["path"],
                "mbit_each": result["mbit_each"],
                "ending": result["ending"],
                "steps": steps,
                "best": _load.best(steps),
            }
        )
    found["one_machine"] = bool(found["generator"]) and found["host"]["boot"] == found["generator"]["boot"] != ""
    for run in found["runs"]:
        foreign = others(
            {**found, "runs": [{"steps": [step for step in run.get("steps", []) if step["verdict"] == _load.LOSS]}]}
        )
        if foreign > OTHERS_SHARE:
            run["ending"] += f" Other programs used {foreign:.0%} of the host then, so it is not the backend's limit."
    found["sizing"] = sizing(found["runs"])
    # It says which boot of which machine that was, which is nobody's business.
    found["host"].pop("boot")
    found["generator"].pop("boot", None)
    return found


def sizing(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return for meetings of `PEOPLE`, all with their camera on, what is delivered and the cores for it by path."""
    rows = []
    known = [run for run in runs if run.get("best") and run["best"]["usage"]]
    for people in PEOPLE if known else ():
        streams = people * (people - 1)
        megabits = streams * known[0]["mbit_each"]
        cores = {
            run["path"]: round(
                sum(value or 0 for value in run["best"]["usage"]["per_mbit"].values()) * megabits / 100, 2
            )
            for run in known
        }
        rows.append({"people": people, "streams": streams, "mbit_per_second": round(megabits, 1), "cores": cores})
    return rows


def problems(found: Mapping[str, Any]) -> list[str]:
    """Return why the load test says nothing of some path; empty when it does of all."""
    sentences = []
    for run in found["runs"]:
        if "error" in run:
            sentences.append(f"{PATHS[run['path']]}: {run['error']}")
        elif run["best"] is None:
            sentences.append(f"{PATHS[run['path']]}: {run['ending']}")
        elif run["best"]["usage"] is None:
            sentences.append(
                f"{PATHS[run['path']]}: the processor time of the backend was not seen for the best step, expected "
                "samples from its host all the time: look whether a container was started anew meanwhile."
            )
    return sentences


def named(machine: Mapping[str, Any]) -> str:
    """Return a machine as people name it."""
    cores = f"{machine['cores']} core{'s' if machine['cores'] > 1 else ''}"
    return f"{machine['processor']}, {cores}, {machine['memory_mb'] / 1024:.0f} GB, Linux {machine['kernel']}"


def notes(found: Mapping[str, Any]) -> list[str]:
    """Return the sentences without which the figures say nothing."""
    if not found["generator"]:
        return [f"Backend: {named(found['host'])}."]
    sentences = [f"Backend: {named(found['host'])}.", f"Generator: {named(found['generator'])}."]
    if found["one_machine"]:
        sentences = [
            f"Backend and generator on one machine: {named(found['host'])}. They took processor time from each other, "
            "so the limit is that of both together and the backend alone does more; what a Mbit/s costs is rough."
        ]
    foreign = others(found)
    if foreign > OTHERS_SHARE:
        sentences.append(
            f"Other programs used up to {foreign:.0%} of the backend's host meanwhile: it carries more without them."
        )
    return sentences


def others(found: Mapping[str, Any]) -> float:
    """Return which share of the host's cores programs used that had nothing to do with the test, in the worst step."""
    shares = [0.0]
    for run in found["runs"]:
        for step in run.get("steps", []):
            if step["usage"]:
                generator = step["generator"]["cores"] if found["one_machine"] else 0.0
                shares.append((step["usage"]["others"] - generator) / found["host"]["cores"])
    return max(shares)


def cell(usage: Mapping[str, Any] | None, name: str) -> str:
    """Return cores and percent of a core per Mbit/s of a container, - when they were not seen."""
    if not usage or name not in usage["cores"]:
        return "-"
    each = usage["per_mbit"][name]
    return f"{usage['cores'][name]:.3f}" + ("" if each is None else f" ({each:.2f})")


def lines(found: Mapping[str, Any]) -> list[str]:
    """Return the document as lines of text."""
    head = (
        "path",
        "rooms",
        "publishers",
        "subscribers",
        "streams",
        "Mbit/s",
        "loss %",
        "generator",
        *PROGRAMS.values(),
    )
    rows = [(*head, "host", "result")]
    for run in found["runs"]:
        for step in run.get("steps", []):
            usage = step["usage"]
            generator = step["generator"]
            rows.append(
                (
                    run["path"],
                    str(step["rooms"]),
                    str(step["publishers"]),
                    str(step["subscribers"]),
                    str(step["streams"]),
                    f"{step['mbit_per_second']:.1f}",
                    f"{step['loss_percent']:.2f}",
                    f"{generator['cores']:.2f} {max(generator['busy'], default=0):.0%}",
                    *(cell(usage, name) for name in PROGRAMS),
                    f"{usage['host']:.0%}" if usage else "-",
                    f"{step['verdict']}: {step['why']}" if step["why"] else step["verdict"],
                )
            )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    table = ["  ".join([*(text.ljust(width) for text, width in zip(row, widths)), row[-1]]) for row in rows]
    endings = [f"{PATHS[run['path']]}: {run.get('ending') or run['error']}" for run in found["runs"]]
    legend = (
        "Programs: cores (percent of one core per delivered Mbit/s). Generator: cores, and the share of the time in "
        "which its busiest process ran or waited for a processor. Host: share of all cores, everything on it included."
    )
    return [*table, "", *endings, "", legend, *notes(found), *sizing_lines(found)]


def sizing_lines(found: Mapping[str, Any]) -> list[str]:
    """Return the sizing table as lines of text, none without figures."""
    if not found["sizing"]:
        return []
    paths = list(found["sizing"][0]["cores"])
    rows = [("people, all with camera", "streams", "Mbit/s", *(f"cores, {PATHS[path]}" for path in paths))]
    for row in found["sizing"]:
        cores = (f"{row['cores'][path]:.2f}" for path in paths)
        rows.append((str(row["people"]), str(row["streams"]), f"{row['mbit_per_second']:.0f}", *cores))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["", *("  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip() for row in rows)]


def markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as a table of Markdown; the first one is its head."""
    text = ["| " + " | ".join(row) + " |" for row in rows]
    return [text[0], "|" + "---|" * len(rows[0]), *text[1:]]


def page(found: Mapping[str, Any]) -> str:
    """Return the sizing page in Markdown: what was measured, where, and what meetings need by that."""
    measured = [("media", "most that was well", "loss", *PROGRAMS.values(), "what the next step showed")]
    for run in found["runs"]:
        best = run.get("best")
        if not best:
            measured.append((PATHS[run["path"]], "nothing", "-", "-", "-", "-", run.get("ending") or run["error"]))
            continue
        each = best["usage"]["per_mbit"] if best["usage"] else {}
        rooms = f"{best['rooms']} x " if best["rooms"] > 1 else ""
        measured.append(
            (
                PATHS[run["path"]],
                f"{rooms}{best['publishers']} x {best['subscribers']}: {best['mbit_per_second']:.0f} Mbit/s",
                f"{best['loss_percent']:.2f} %",
                *("-" if each.get(name) is None else f"{each[name]:.2f} %" for name in PROGRAMS),
                run["ending"],
            )
        )
    first = next((run["mbit_each"] for run in found["runs"] if "mbit_each" in run), 0.0)
    text = [
        f"Measured by the playbook `nextcloud_talk.hpb.load` on {found['time'][:10]}, publishers x subscribers, "
        f"{first:.2f} Mbit/s for each publisher. {' '.join(notes(found))}",
        "",
        *markdown(measured),
        "",
        "The programs' processor time is in percent of one core for each Mbit/s that is delivered to subscribers.",
    ]
    if found["sizing"]:
        paths = list(found["sizing"][0]["cores"])
        rows = [
            ("people in one call, all with camera", "streams", "Mbit/s", *(f"cores, {PATHS[path]}" for path in paths))
        ]
        for row in found["sizing"]:
            cores = (f"{row['cores'][path]:.2f}" for path in paths)
            rows.append((str(row["people"]), str(row["streams"]), f"{row['mbit_per_second']:.0f}", *cores))
        text += ["", *markdown(rows), "", "Calculated from the first table; leave half of the cores free for peaks."]
    return "\n".join(text) + "\n"
