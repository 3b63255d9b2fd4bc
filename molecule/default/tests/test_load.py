# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small load test against the deployed hosts: what is counted, whose processor time it is, what is left behind."""

from __future__ import annotations

import json

import pytest
from conftest import play, secret_values

pytestmark = pytest.mark.long

SMALL = {"load_publishers": 2, "load_subscribers": 2, "load_seconds": 4, "load_bitrate": 500}


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """A load test of every kind of path that is deployed: its output, and what it wrote."""
    folder = tmp_path_factory.mktemp("load")
    options = {**SMALL, "load_paths": ["direct", "turn-udp", "turn-tcp"]}
    options |= {"load_json": str(folder / "load.json"), "load_page": str(folder / "load.md")}
    done = play("-vvv", "-e", json.dumps(options), playbook="playbooks/load.yml")
    assert (folder / "load.json").exists(), done.stdout + done.stderr
    return done.stdout + done.stderr, json.loads((folder / "load.json").read_text()), (folder / "load.md").read_text()


def test_media_arrives_on_every_path(load):
    """A machine that is busy with other tests may be the limit itself; then it must say so."""
    output, document, _page = load
    assert [run["path"] for run in document["runs"]] == ["direct", "turn-udp", "turn-tcp"]
    for run in document["runs"]:
        first = run["steps"][0]
        assert first["verdict"] in ("ok", "generator"), output
        assert first["streams"] == first["wanted"] == 2
        # Two publishers of 500 kbit/s each.
        assert 0.5 < first["mbit_per_second"] < 1.3


def test_processor_time_is_that_of_the_programs(load):
    """What is relayed costs coturn something, what is not costs it nothing."""
    _output, document, _page = load
    used = {run["path"]: run["steps"][0]["usage"]["cores"] for run in document["runs"]}
    assert all(cores["janus"] > 0 for cores in used.values())
    assert used["direct"]["coturn"] < used["turn-udp"]["coturn"]
    assert used["turn-tcp"]["coturn"] > 0
    assert document["host"]["processor"] and document["one_machine"]


def test_page_has_a_row_for_each_path(load):
    _output, _document, page = load
    for name in ("direct", "TURN over udp", "TURN over tcp"):
        assert f"\n| {name} | " in page


def test_no_secret_is_shown(load, secrets):
    output, document, page = load
    for value in secret_values(secrets):
        assert value not in output + json.dumps(document) + page


def test_nobody_and_nothing_is_left_behind(load, hpb):
    metrics = hpb.check_output(
        "python3 -c %s", "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8080/metrics').read().decode())"
    )
    assert 'signaling_mcu_publishers{type="video"} 0' in metrics
    assert hpb.check_output("find /tmp ~/.ansible_async -name 'hpb-load-*' -o -path '*/.ansible_async/*'") == ""
