# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a load test came to: processor time per Mbit/s, the tables, the page, and what is said of it."""

from __future__ import annotations

import copy

import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.filter.load_report import load_report
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _load_report

HOST = {"processor": "AMD EPYC", "cores": 4, "memory_mb": 8192, "kernel": "6.1.0", "boot": "one"}
OTHER = {"processor": "Intel Xeon", "cores": 1, "memory_mb": 2048, "kernel": "6.12.0", "boot": "two"}


def step(subscribers, begin, verdict="ok", why="", loss=0.0):
    return {
        "subscribers": subscribers,
        "publishers": 4,
        "rooms": 1,
        "streams": 4 * subscribers,
        "wanted": 4 * subscribers,
        "begin": begin,
        "end": begin + 10,
        "loss_percent": loss,
        "mbit_per_second": 4.0 * subscribers,
        "generator": {"busy": [0.2, 0.25], "cores": 0.31, "late_seconds": 0.0, "dropped": 0},
        "verdict": verdict,
        "why": why,
    }


def result(*steps, ending="The limit was not reached."):
    return {"steps": list(steps), "ending": ending, "mbit_each": 1.0, "machine": OTHER, "processes": 2}


def usage(ahead=0.0, others=1.0, **cores):
    """Samples of 100 seconds in which each container used so many cores, and the host `others` of four in all."""
    return {
        "samples": [
            {
                "time": 1000.0 + second + ahead,
                "busy": others * second,
                "interrupts": 0.5 * second,
                "whole": 4.0 * second,
                "used": {name: value * second for name, value in cores.items()},
            }
            for second in range(100)
        ]
    }


LOOK = {"machine": HOST, "time": 1000.5}
DIRECT = {"path": "direct", "result": result(step(1, 1010), step(8, 1030), step(16, 1050, "loss", "3.00 % lost", 3.0))}
RELAYED = {"path": "turn-udp", "result": result(step(4, 1070))}
USAGE = usage(janus=0.16, coturn=0.08, signalling=0.004)


def made(runs, seen=None, look=None):
    seen, look = USAGE if seen is None else seen, LOOK if look is None else look
    return load_report(copy.deepcopy(runs), seen, copy.deepcopy(look), 1000.0, 1001.0)


@pytest.mark.parametrize(
    ("cores", "megabits", "expected"), [(0.16, 32.0, 0.5), (0.0, 32.0, 0.0), (0.16, 0.0, None), (1.0, 3.0, 33.333)]
)
def test_percent_of_a_core_per_megabit(cores, megabits, expected):
    assert _load_report.per_megabit(cores, megabits) == expected


def test_each_step_gets_what_was_used_in_its_time():
    run = made([DIRECT])["document"]["runs"][0]
    assert run["best"]["subscribers"] == 8
    assert run["best"]["usage"] == {
        "host": 0.25,
        "others": 0.256,
        "cores": {"janus": 0.16, "coturn": 0.08, "signalling": 0.004},
        "per_mbit": {"janus": 0.5, "coturn": 0.25, "signalling": 0.013},
    }


def test_a_clock_that_is_ahead_is_taken_into_account():
    found = made([DIRECT], usage(3600.0, janus=0.16), {"machine": HOST, "time": 4600.5})
    assert found["document"]["runs"][0]["best"]["usage"]["cores"] == {"janus": 0.16}
    assert made([DIRECT], usage(3600.0, janus=0.16))["document"]["runs"][0]["best"]["usage"] is None


def test_sizing():
    rows = made([DIRECT, RELAYED])["document"]["sizing"]
    assert rows[2] == {
        "people": 10,
        "streams": 90,
        "mbit_per_second": 90.0,
        # Of direct 0.763 % of a core for each Mbit/s, of relayed 1.525 %.
        "cores": {"direct": 0.69, "turn-udp": 1.37},
    }


def test_table():
    lines = made([DIRECT, RELAYED])["lines"]
    assert lines[:5] == [
        "path      rooms  publishers  subscribers  streams  Mbit/s  loss %  generator  Janus         coturn        "
        "signaling     host  result",
        "direct    1      4           1            4        4.0     0.00    0.31 25%   0.160 (4.00)  0.080 (2.00)  "
        "0.004 (0.10)  25%   ok",
        "direct    1      4           8            32       32.0    0.00    0.31 25%   0.160 (0.50)  0.080 (0.25)  "
        "0.004 (0.01)  25%   ok",
        "direct    1      4           16           64       64.0    3.00    0.31 25%   0.160 (0.25)  0.080 (0.12)  "
        "0.004 (0.01)  25%   loss: 3.00 % lost",
        "turn-udp  1      4           4            16       16.0    0.00    0.31 25%   0.160 (1.00)  0.080 (0.50)  "
        "0.004 (0.03)  25%   ok",
    ]
    assert "Backend: AMD EPYC, 4 cores, 8 GB, Linux 6.1.0." in lines
    assert "Generator: Intel Xeon, 1 core, 2 GB, Linux 6.12.0." in lines


def test_page():
    page = made([DIRECT, RELAYED])["page"].splitlines()
    assert page[0] == (
        "Measured by the playbook `nextcloud_talk.hpb.load` on 1970-01-01, publishers x subscribers, 1.00 Mbit/s for "
        "each publisher. Backend: AMD EPYC, 4 cores, 8 GB, Linux 6.1.0. Generator: Intel Xeon, 1 core, 2 GB, "
        "Linux 6.12.0."
    )
    assert page[2:6] == [
        "| media | most that was well | loss | Janus | coturn | signaling | what the next step showed |",
        "|---|---|---|---|---|---|---|",
        "| direct | 4 x 8: 32 Mbit/s | 0.00 % | 0.50 % | 0.25 % | 0.01 % | The limit was not reached. |",
        "| TURN over udp | 4 x 4: 16 Mbit/s | 0.00 % | 1.00 % | 0.50 % | 0.03 % | The limit was not reached. |",
    ]
    assert "| 10 | 90 | 90 | 0.69 | 1.37 |" in page


@pytest.mark.parametrize("boot", ["one", ""])
def test_one_machine_for_both_is_said(boot):
    run = {"path": "direct", "result": {**result(step(1, 1010)), "machine": {**HOST, "boot": boot}}}
    found = made([run], look={"machine": {**HOST, "boot": boot}, "time": 1000.5})
    assert found["document"]["one_machine"] is (boot == "one")
    assert any("They took processor time from each other" in line for line in found["lines"]) is (boot == "one")
    assert "boot" not in found["document"]["host"] and "boot" not in found["document"]["generator"]


@pytest.mark.parametrize(
    ("busy", "boot", "expected"),
    [
        pytest.param(1.0, "two", None, id="what an idle host does"),
        pytest.param(3.0, "two", "Other programs used up to 56% of the backend's host meanwhile", id="others"),
        pytest.param(3.0, "one", "Other programs used up to 49% of the backend's host meanwhile", id="generator"),
        pytest.param(1.3, "one", None, id="the generator is no other program"),
    ],
)
def test_other_programs_on_the_host_are_told(busy, boot, expected):
    run = {"path": "direct", "result": {**result(step(1, 1010)), "machine": {**OTHER, "boot": boot}}}
    notes = _load_report.notes(made([run], usage(others=busy, janus=0.16, coturn=0.08))["document"])
    found = [note for note in notes if note.startswith("Other programs")]
    assert found == ([f"{expected}: it carries more without them."] if expected else [])


@pytest.mark.parametrize(
    ("busy", "steps", "expected"),
    [
        pytest.param(3.0, [step(8, 1030), step(16, 1050, "loss")], " Other programs used 62%", id="loss beside others"),
        pytest.param(0.7, [step(8, 1030), step(16, 1050, "loss")], "", id="loss alone"),
        pytest.param(3.0, [step(8, 1030)], "", id="others, but no loss"),
        pytest.param(3.0, [step(8, 1030), step(16, 1050, "generator")], "", id="a step that does not count"),
    ],
)
def test_loss_beside_other_programs_is_no_limit(busy, steps, expected):
    run = {"path": "direct", "result": result(*steps)}
    ending = made([run], usage(others=busy, janus=0.0))["document"]["runs"][0]["ending"]
    whole = f"{expected} of the host then, so it is not the backend's limit." if expected else ""
    assert ending == f"The limit was not reached.{whole}"


@pytest.mark.parametrize(
    ("run", "seen", "expected"),
    [
        pytest.param(DIRECT, USAGE, [], id="well"),
        pytest.param(
            {"path": "direct", "result": {"failed": True, "msg": "The load test stopped."}},
            USAGE,
            ["direct: The load test stopped."],
            id="failed",
        ),
        pytest.param(
            {"path": "turn-tcp", "result": result(step(1, 1010, "generator", "busy"), ending="No step was well.")},
            USAGE,
            ["TURN over tcp: No step was well."],
            id="nothing that counts",
        ),
        pytest.param(
            DIRECT,
            {},
            [
                "direct: the processor time of the backend was not seen for the best step, expected samples from its "
                "host all the time: look whether a container was started anew meanwhile."
            ],
            id="not watched",
        ),
    ],
)
def test_what_says_nothing_is_a_problem(run, seen, expected):
    found = made([run], seen)
    assert found["problems"] == expected
    assert found["lines"] and found["page"]
