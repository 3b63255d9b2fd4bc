# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role verify writes the reports of a recorded run on this machine."""

from __future__ import annotations

import json
import os
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import jsonschema
import pytest
import test_verify_playbook
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _probe
from test_report import SAMPLE, SCHEMA, Page
from test_talk_modules import FIRST

# The fixture.
bed = test_verify_playbook.bed

NAMES = {"nc": "nc", "dev_nc": "client", "test_nc": "nas"}
FILES = ["report.html", "report.json", "report.xml"]
FINDING = {
    **{"instance": "nas", "step": "hello", "what": "It is off", "why": "", "mend": "Wake it.", "seen": ""},
    "status": "failed",
}


def recorded() -> dict:
    """What the probe returned in the recorded run, for the instances of the test's inventory."""
    rows = [{"instance": "all", **step} for step in SAMPLE["backend"]["steps"]]
    for instance in SAMPLE["instances"]:
        rows += [{"instance": NAMES[instance["id"]], **step} for step in instance["steps"]]
    return {**_probe.report(rows), "seconds": 8.1}


def run(bed, folder: Path, result: dict, *arguments: str, **more) -> int:
    given = {"verify_report_dir": str(folder), "__verify_result": result, **more}
    (bed.folder / "given.json").write_text(json.dumps(given), encoding="utf-8")
    # The files' modes come from the task, whatever the shell's mask is.
    before = os.umask(0o077)
    try:
        return bed.run("-e", "@given.json", *arguments)
    finally:
        os.umask(before)


def test_a_failed_run_leaves_its_reports(bed):
    folder = bed.folder / "new" / "report"
    result = recorded()
    result["results"][3]["seen"] += f" with {FIRST}"
    assert run(bed, folder, result, hpb_findings=[{**FINDING, "sentence": "nas, hello: It is off. Wake it."}]) == 2
    assert "nas, hello: It is off. Wake it." in bed.output
    assert sorted(path.name for path in folder.iterdir()) == FILES
    texts = {path.suffix: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}
    assert FIRST not in "".join(texts.values())
    document = json.loads(texts[".json"])
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    assert document["verdict"] == "failed"
    verdicts = {item["id"]: item["verdict"] for item in document["instances"]}
    assert verdicts == {"nc": "ok", "client": "ok", "nas": "failed"}
    by_id = {item["id"]: item for item in document["instances"]}
    assert (by_id["nc"]["talk_version"], by_id["nc"]["nextcloud_version"]) == ("22.0.0", "34.0.1.2")
    assert by_id["nc"]["check"] == {"available": True, "ok": True, "sentence": ""}
    assert by_id["client"]["register"] is False
    assert by_id["nas"]["findings"] == [FINDING]
    assert document["backend"]["url"] == "https://talk.example.org"
    assert document["backend"]["turn_server"] == "talk.example.org:3478"
    assert document["seconds"] == 8.1
    assert [row for item in document["instances"] for row in item["steps"] if "********" in row["seen"]]
    root = ET.fromstring(texts[".xml"])
    assert root.get("failures") == "1"
    assert f"{root.get('timestamp')}Z" == document["time"]
    page = Page(texts[".html"])
    assert "One of 3 instances does not work" in page.said and "Wake it." in page.said


def test_a_report_is_no_change(bed):
    result = recorded()
    for row in result["results"]:
        row["status"] = "ok"
    result["failures"] = []
    folder = bed.folder / "report"
    times = []
    for _run in range(2):
        assert run(bed, folder, result) == 0, bed.output
        document = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        assert document["verdict"] == "ok"
        times.append(document["time"])
    assert times[0] < times[1]
    assert re.search(r"talk\.example\.org +: ok=\d+ +changed=0 ", bed.output), bed.output


def test_a_run_without_calls_says_so(bed):
    folder = bed.folder / "report"
    assert bed.run("-e", f"verify_report_dir={folder}") == 0, bed.output
    assert json.loads((folder / "report.json").read_text(encoding="utf-8"))["verdict"] == "not_checked"
    assert "No call was placed" in Page((folder / "report.html").read_text(encoding="utf-8")).said


@pytest.mark.parametrize("arguments", [["--check"], ["-e", "verify_report_dir="]])
def test_no_report_is_written(bed, arguments):
    folder = bed.folder / "report"
    assert run(bed, folder, recorded(), *arguments) == 2
    assert not folder.exists()


def test_a_narrowed_run_reports_that_instance(bed):
    folder = bed.folder / "report"
    assert run(bed, folder, {}, "-e", "instance=client") == 0, bed.output
    document = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert [item["id"] for item in document["instances"]] == ["client"]
