# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reload of a container as a real process, with a docker that notes its calls and prints the log it is given."""

from __future__ import annotations

import json
import os
import re
import stat
import time

import module_process
import pytest

FIRST, SECOND = "1" * 64, "2" * 64
KILL = "kill --signal SIGHUP 1d"
ANSWER = "hub.go:123: Received SIGHUP, reloading /config/server.conf"
CONTAINER = {"Id": "1d", "Name": "/signalling", "Config": {"Labels": {"nextcloud-talk.hpb": "signalling"}}}
DOCKER = """#!/bin/sh
cd {directory} || exit 99
printf '%s\\n' "$*" >>calls
case $1 in
  kill)
    if [ -s refusal ]; then cat refusal >&2; exit 1; fi
    cat answer >>log ;;
  container)
    cat containers ;;
  logs)
    cat log >&2
    if [ -s rotated ]; then mv rotated log; fi ;;
esac
"""


class Engine:
    """The docker of a test: `answer` is what the program logs on the signal, `refusal` what docker kill ends with."""

    def __init__(self, directory) -> None:
        self.directory = directory / "signalling"
        self.directory.mkdir()
        directory = self.directory
        self.marker = directory / "reloaded"
        self.set("containers", json.dumps([CONTAINER]))
        self.set("log", "Starting up\n")
        self.set("rotated", "")
        self.set("answer", f"{ANSWER}\n")
        self.set("calls", "")
        docker = directory / "docker"
        docker.write_text(DOCKER.format(directory=directory), encoding="utf-8")
        docker.chmod(0o755)

    def set(self, name: str, text: str) -> None:
        (self.directory / name).write_text(text, encoding="utf-8")

    def reload(self, digest: str, check: bool = False, **options):
        """Run the module; returns its result with `calls`, what docker was called with."""
        self.set("calls", "")
        given = {"container": "signalling", "signal": "SIGHUP", "answer": "Received SIGHUP, reloading"}
        result = module_process.run(
            "container_reload",
            {**given, "digest": digest, "directory": str(self.directory), "timeout": 5, **options},
            check,
            PATH=f"{self.directory}:{os.environ['PATH']}",
        )
        calls = (self.directory / "calls").read_text(encoding="utf-8").splitlines()
        # It also says how the container is at the end.
        result["calls"] = [call for call in calls if "inspect" not in call]
        return result

    @property
    def kept(self) -> str | None:
        return self.marker.read_text(encoding="utf-8").strip() if self.marker.exists() else None


@pytest.fixture
def engine(tmp_path):
    return Engine(tmp_path)


def outcome(result):
    assert not result.get("failed"), result
    return result["changed"], result["signalled"], [call for call in result["calls"] if call.startswith("kill")]


def test_ladder(engine):
    assert outcome(engine.reload(FIRST, check=True)) == (True, True, [])
    assert engine.kept is None

    first = engine.reload(FIRST)
    assert outcome(first) == (True, True, [KILL])
    assert [call.split()[0] for call in first["calls"]] == ["logs", "kill", "logs"]
    assert first["calls"][0] == first["calls"][2]
    since = float(re.fullmatch(r"logs --since ([0-9.]+) 1d", first["calls"][0])[1])
    assert 60 < time.time() - since < 180, "lines of a clock that was set back meanwhile"
    assert engine.kept == FIRST
    assert stat.S_IMODE(engine.marker.stat().st_mode) == 0o600

    for check in (True, False):
        again = engine.reload(FIRST, check=check)
        assert outcome(again) == (False, False, [])
        assert again["calls"] == [], "the same digest does not make it read anything"

    assert outcome(engine.reload(SECOND, check=True)) == (True, True, [])
    assert engine.kept == FIRST
    assert outcome(engine.reload(SECOND)) == (True, True, [KILL])
    assert engine.kept == SECOND
    assert sorted(path.name for path in engine.directory.glob("reloaded*")) == ["reloaded"]


def test_a_file_that_was_put_right_sends_the_signal_although_the_digest_is_the_same(engine):
    engine.reload(FIRST)
    assert outcome(engine.reload(FIRST, check=True, force=True)) == (True, True, [])
    assert outcome(engine.reload(FIRST, force=True)) == (True, True, [KILL])


def test_an_answer_that_does_not_come_is_named_and_the_next_run_sends_the_signal_again(engine):
    engine.set("answer", "Something else\n")
    result = engine.reload(FIRST, timeout=1)
    assert result["failed"]
    assert result["msg"] == (
        "Container signalling was expected to answer SIGHUP with a log line matching 'Received SIGHUP, reloading' "
        "within 1 s and did not. Look at 'docker logs signalling' on this host, then run the same command again."
    )
    assert engine.kept is None

    engine.set("answer", f"{ANSWER}\n")
    assert outcome(engine.reload(FIRST)) == (True, True, [KILL])
    assert engine.kept == FIRST


def test_an_answer_of_earlier_does_not_count_although_docker_takes_its_time_for_later(engine):
    """As on a host whose clock was set back: Docker returns old lines, too."""
    engine.set("log", f"Starting up\n{ANSWER}\n")
    engine.set("answer", "")
    failed = engine.reload(FIRST, timeout=1)
    assert failed["failed"] is True and "within 1 s" in failed["msg"]
    assert engine.kept is None
    engine.set("answer", f"{ANSWER}\n")
    assert outcome(engine.reload(FIRST)) == (True, True, [KILL])


def test_the_answer_is_found_in_a_log_that_was_begun_anew(engine):
    engine.set("log", "Starting up\n" * 9)
    engine.set("rotated", "A new file\n")
    assert outcome(engine.reload(FIRST)) == (True, True, [KILL])


def test_the_answer_is_a_regular_expression(engine):
    assert outcome(engine.reload(FIRST, answer=r"^hub\.go:\d+: Received SIG(HUP|USR1)")) == (True, True, [KILL])


def test_a_signal_that_docker_refuses_is_named(engine):
    engine.reload(FIRST)
    engine.set("refusal", "Error response from daemon: cannot kill container: signalling: is not running\n")
    result = engine.reload(SECOND)
    assert result["failed"]
    assert result["msg"] == (
        "Container signalling was expected to take SIGHUP, but Docker said: Error response from daemon: cannot kill "
        "container: signalling: is not running. Look at 'docker ps -a' on this host, then run the same command again."
    )
    assert result["calls"][-1] == KILL
    # What it has read is not known any more, so the next run has it read again, whatever the files are.
    assert engine.kept is None


REFUSED = 'hub.go:607: Error parsing trusted proxies from "300.0.0.1": invalid IP, secret=0123456789abcdef'


@pytest.mark.parametrize("answer", [f"{REFUSED}\n", f"{ANSWER}\n{REFUSED}\n"])
def test_a_configuration_that_the_program_refuses_fails_at_once_and_is_not_taken_for_read(engine, answer):
    engine.reload(FIRST)
    engine.set("answer", answer)
    result = engine.reload(SECOND, refusal="Could not read configuration|Error parsing trusted proxies")
    assert result["failed"]
    assert result["msg"] == (
        "Container signalling was expected to take its changed configuration on SIGHUP and refused it: hub.go:607: "
        'Error parsing trusted proxies from "300.0.0.1": invalid IP, secret=********. Mend the setting that this line '
        "names, then run the same command again."
    )
    assert engine.kept is None


@pytest.mark.parametrize("there", [[{**CONTAINER, "Config": {"Image": "shop:1", "Labels": None}}], []])
def test_a_container_that_is_not_ours_gets_no_signal(engine, there):
    engine.set("containers", json.dumps(there))
    result = engine.reload(FIRST)
    assert result["failed"] is True and result["calls"] == []
    said = (
        "signalling (image shop:1, not running) has the name of one of ours and is not ours" if there else "not there"
    )
    assert said in result["msg"]
