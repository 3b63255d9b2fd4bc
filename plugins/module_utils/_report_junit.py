# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a verification as JUnit XML: a suite for the backend and for each instance, a case for each step.

There is no standard of it. This is what the readers of the usual CI servers agree on: `testsuites`, `testsuite` with
counts, time and timestamp, `testcase` with at most one of `failure` and `skipped`, then `system-out`.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET  # noqa: S405 - nothing is parsed
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _report

NAME = "nextcloud_talk.hpb"
# What XML 1.0 allows as a character (its section 2.2); nothing else can be written, not even escaped.
ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def legal(value: str) -> str:
    """Return a text with the replacement character for each one that XML does not have."""
    return ILLEGAL.sub("\ufffd", value)


def render(report: Mapping[str, Any]) -> str:
    """Return the document of `_report.document` as JUnit XML."""
    backend = report["backend"]
    suites = [_suite(report, "backend", backend["steps"], report["findings"], _backend_properties(backend))]
    for instance in report["instances"]:
        steps = [*instance["steps"], *_check(instance["check"])]
        suites.append(_suite(report, instance["id"], steps, instance["findings"], _instance_properties(instance)))
    root = ET.Element("testsuites", {"name": NAME})
    for key in ("tests", "failures", "errors", "skipped"):
        root.set(key, str(sum(int(suite.get(key, "0")) for suite in suites)))
    root.set("time", _seconds(report["seconds"] or 0))
    root.set("timestamp", _timestamp(report["time"]))
    root.extend(suites)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _suite(
    report: Mapping[str, Any],
    name: str,
    steps: Sequence[Mapping[str, Any]],
    findings: Sequence[Mapping[str, str]],
    properties: Mapping[str, str],
) -> ET.Element:
    steps = steps or [_step("calls", "calls", _report.SKIPPED, "No call was placed.")]
    states = [step["status"] for step in steps]
    suite = ET.Element("testsuite", {"name": legal(name)})
    suite.set("tests", str(len(steps)))
    suite.set("failures", str(states.count(_report.FAILED)))
    suite.set("errors", "0")
    suite.set("skipped", str(states.count(_report.SKIPPED)))
    suite.set("time", _seconds(sum(duration(step) or 0 for step in steps)))
    suite.set("timestamp", _timestamp(report["time"]))
    listed = ET.SubElement(suite, "properties")
    for key, value in properties.items():
        ET.SubElement(listed, "property", {"name": legal(key), "value": legal(value)})
    suite.extend(_case(name, step) for step in steps)
    if findings:
        lines = [" ".join(item[key] for key in ("what", "why", "mend") if item[key]) for item in findings]
        ET.SubElement(suite, "system-out").text = legal("\n".join(lines))
    return suite


def _case(suite: str, step: Mapping[str, Any]) -> ET.Element:
    case = ET.Element("testcase", {"classname": legal(f"{NAME}.{suite}"), "name": legal(step["name"] or step["step"])})
    if duration(step) is not None:
        case.set("time", _seconds(duration(step)))
    if step["status"] == _report.FAILED:
        failure = ET.SubElement(case, "failure", {"message": legal(step["cause"]), "type": legal(step["step"])})
        seen = step["seen"] if step["seen"] != step["cause"] else ""
        failure.text = legal("\n".join(line for line in (step["cause"], step["remedy"], seen) if line))
    elif step["status"] == _report.SKIPPED:
        ET.SubElement(case, "skipped", {"message": legal(step["seen"])})
    else:
        warning = step["status"] == _report.WARNING
        lines = [step["seen"], *((step["cause"], step["remedy"]) if warning else ())]
        text = "\n".join(line for line in dict.fromkeys(lines) if line)
        ET.SubElement(case, "system-out").text = legal(f"Warning: {text}" if warning else text)
    return case


def _check(check: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return Talk's own check as a step; none where nobody asked for it."""
    name = "Talk's own check"
    if not check["ok"]:
        return [_step("check", name, _report.FAILED, "", check["sentence"])]
    if check["available"]:
        return [_step("check", name, _report.OK, check["sentence"] or "ok")]
    return [_step("check", name, _report.SKIPPED, check["sentence"])] if check["sentence"] else []


def _step(step: str, name: str, status: str, seen: str, cause: str = "") -> dict[str, Any]:
    return {"step": step, "name": name, "status": status, "seen": seen, "cause": cause, "remedy": "", "figures": {}}


def duration(step: Mapping[str, Any]) -> float | None:
    """Return the seconds that a call took for its media, from the request to the end; None where nothing tells."""
    figures = step["figures"]
    if figures.get("seconds") is None:
        return None
    return float(figures["seconds"]) + float(figures.get("first_frame_seconds") or 0)


def _backend_properties(backend: Mapping[str, Any]) -> dict[str, str]:
    versions = {f"version.{name}": version for name, version in backend["versions"].items()}
    return {"url": backend["url"], "turn_server": backend["turn_server"], **versions}


def _instance_properties(instance: Mapping[str, Any]) -> dict[str, str]:
    return {key: instance[key] for key in ("url", "verdict", "nextcloud_version", "talk_version")}


def _seconds(value: float | None) -> str:
    return f"{value or 0:.3f}"


def _timestamp(time: str) -> str:
    """JUnit's timestamps carry no zone; this one is UTC."""
    return legal(time.rstrip("Z"))
