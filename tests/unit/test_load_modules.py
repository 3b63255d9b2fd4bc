# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules of the load test as real processes, and what the leader makes of the carriers' windows."""

from __future__ import annotations

import os
import subprocess
import time

import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _load_run
from module_process import run

OPTIONS = {
    "url": "https://talk.example.org",
    "internal_secret": "0123456789abcdef0123456789abcdef",
    "backend": "https://nc.example.org",
}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"publishers": 0}, "publishers is 0, expected 1 or more: correct it."),
        ({"bitrate": 50}, "bitrate is 50, expected 100 or more: correct it."),
        ({"loss_percent": 0}, "loss_percent is 0, expected more than 0 and no more than 100: correct it."),
        (
            {"turn": {"server": "turn.example.org", "secret": "0123456789abcdef"}},
            "The TURN server is 'turn.example.org', expected a name, a colon and a port: correct turn.server.",
        ),
        ({"ca_pem": ["no certificate"]}, "ca_files or ca_pem holds no certificate in PEM format ("),
    ],
)
def test_options_that_cannot_work(options, message):
    result = run("call_load", {**OPTIONS, **options})
    assert result["failed"]
    assert result["msg"].startswith(message)


def test_nothing_is_done_in_check_mode():
    assert run("call_load", OPTIONS, check=True)["msg"] == "No load is made in check mode."


def test_what_one_subscriber_gets_keeps_to_the_maximums():
    result = run("call_load", {**OPTIONS, "publishers": 4, "bitrate": 1000, "max_mbit": 2})
    assert result["failed"]
    assert result["msg"].startswith(
        "One subscriber gets 4 streams of 1.0 Mbit/s, expected no more than 400 streams and 2 "
    )


def test_a_server_that_is_not_there_is_told():
    result = run("call_load", {**OPTIONS, "url": "https://localhost:1", "processes": 1})
    assert result["failed"]
    assert result["msg"].startswith("The load test stopped at publish: ")
    assert result["msg"].endswith(" Run the playbook verify, which names the cause.")
    assert OPTIONS["internal_secret"] not in str(result)


def window(sent, streams, **figures):
    return {
        "seconds": 10.0,
        "cpu": 2.0,
        "waited": 1.0,
        "late": 0.01,
        "dropped": 0,
        "due": 1000,
        "broken": 0,
        "sent": sent,
        "streams": streams,
        **figures,
    }


def test_windows_of_all_carriers_are_put_together():
    """Publisher a is carried by one process, b by the other; subscribers of both are in both."""
    found = _load_run.combined(
        [
            window(
                {"a": {"audio": 500, "video": 1000}},
                [
                    ["a", "audio", 500, 50000, 0],
                    ["a", "video", 990, 990000, 10],
                    ["b", "audio", 480, 48000, 0],
                    ["b", "video", 0, 0, 0],
                ],
            ),
            window(
                {"b": {"audio": 500, "video": 1000}},
                [["a", "video", 1000, 1000000, 0]],
                cpu=4.0,
                late=0.2,
                dropped=3,
                broken=1,
            ),
        ]
    )
    # 10 in gaps, and all but what may be on its way (half a second) of the picture that never came.
    assert (found["expected"], found["received"], found["lost"]) == (4000, 2970, 10 + 950)
    assert found["loss_percent"] == 24.0
    assert found["mbit_per_second"] == pytest.approx(2088000 * 8 / 1e6 / 10, abs=0.01)
    assert (found["due"], found["sent"], found["broken"]) == (2000, 3000, 1)
    assert found["generator"] == {"busy": [0.3, 0.5], "cores": 0.6, "late_seconds": 0.2, "dropped": 3}


DOCKER = """#!/bin/sh
[ -z "$MARKER" ] || { (sleep 3; rm -f "$MARKER") >/dev/null 2>&1 & }
case $1 in
  ps) echo 1d ;;
  container) echo '[{"Id": "1d", "Name": "/hpb-janus", "State": {"Pid": %d},
    "Config": {"Labels": {"nextcloud-talk.hpb": "janus"}},
    "HostConfig": {"Binds": ["/opt/nextcloud-talk-hpb/janus/config:/config:ro"]}}]' ;;
esac
"""


@pytest.fixture
def engine(tmp_path):
    """A directory with a program docker that knows one container, whose main process computes."""
    process = subprocess.Popen(["sh", "-c", "while :; do :; done"])
    (tmp_path / "docker").write_text(DOCKER % process.pid)
    (tmp_path / "docker").chmod(0o755)
    yield tmp_path
    process.kill()
    process.wait()


def test_a_container_is_watched_until_the_file_is_gone(engine):
    marker = engine / "marker"
    marker.touch()
    began = time.time()
    path = f"{engine}{os.pathsep}{os.environ['PATH']}"
    options = {"containers": ["janus", "coturn"], "while_exists": str(marker)}
    result = run("hpb_usage", options, PATH=path, MARKER=str(marker))
    samples = result["samples"]
    assert not marker.exists()
    assert len(samples) > 1
    assert result["missing"] == ["coturn"]
    assert samples[-1]["used"]["janus"] - samples[0]["used"]["janus"] > 0.1
    assert began <= result["time"] <= samples[0]["time"]
    assert result["machine"]["cores"] == os.cpu_count()
    assert not result["changed"]


def test_without_a_file_it_looks_once(engine):
    path = f"{engine}{os.pathsep}{os.environ['PATH']}"
    result = run("hpb_usage", {"containers": ["janus"]}, PATH=path)
    assert len(result["samples"]) == 1
