# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Load test: counting packets, the ramp, and what does not count."""

from __future__ import annotations

import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _load
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._load import FAILED, GENERATOR, LOSS, OK


@pytest.mark.parametrize(
    ("before", "window", "expected"),
    [
        pytest.param([10, 11], [12, 13, 14], (3, 0), id="all"),
        pytest.param([10, 11], [13, 14], (2, 1), id="one missing at the begin"),
        pytest.param([10], [11, 15, 16], (3, 3), id="a gap"),
        pytest.param([10], [12, 11, 13], (3, 0), id="another order"),
        pytest.param([10], [11, 11, 11, 12], (2, 0), id="repeated"),
        pytest.param([65533], [65534, 65535, 0, 1], (4, 0), id="wraps"),
        pytest.param([65533], [65534, 2], (2, 3), id="wraps in a gap"),
        pytest.param([65534], [0, 65535, 1], (3, 0), id="another order at the wrap"),
        pytest.param([], [500, 501, 503], (3, 1), id="begins in the window"),
        pytest.param([10, 11], [], (0, 0), id="nothing"),
        pytest.param([], [], (0, 0), id="never anything"),
        pytest.param([1, 3], [2, 4], (2, 0), id="late ones of before fill no gap of now"),
    ],
)
def test_a_stream_counts_by_sequence_numbers(before, window, expected):
    stream = _load.Stream()
    for sequence in before:
        stream.take(sequence, 100)
    mark = stream.mark()
    for sequence in window:
        stream.take(sequence, 100)
    received, octets, missing = stream.since(mark)
    assert (received, missing) == expected
    assert octets == 100 * received


def test_a_stream_wraps_many_times():
    stream = _load.Stream()
    stream.take(0, 1)
    mark = stream.mark()
    for sequence in range(1, 200001):
        if sequence % 100:
            stream.take(sequence & 0xFFFF, 1)
    # The last one is missing, which no gap shows.
    assert stream.since(mark) == (198000, 198000, 1999)


@pytest.mark.parametrize(
    ("sent", "received", "missing", "expected"),
    [
        pytest.param(1000, 1000, 0, 0, id="none"),
        pytest.param(1000, 995, 0, 0, id="some are on their way"),
        pytest.param(1000, 1005, 0, 0, id="some were on their way"),
        pytest.param(1000, 990, 10, 10, id="gaps"),
        pytest.param(1000, 400, 0, 550, id="it has stopped"),
        pytest.param(1000, 0, 0, 950, id="it never came"),
    ],
)
def test_what_was_lost(sent, received, missing, expected):
    assert _load.lost(sent, received, missing, 50) == expected


STEP = {
    "subscribers": 8,
    "streams": 32,
    "wanted": 32,
    "broken": 0,
    "due": 10000,
    "sent": 10000,
    "expected": 80000,
    "loss_percent": 0.0,
    "mbit_per_second": 32.0,
    "generator": {"busy": [0.4, 0.5], "late_seconds": 0.01, "dropped": 0},
}


def step(generator=None, **figures):
    return {**STEP, **figures, "generator": {**STEP["generator"], **(generator or {})}}


@pytest.mark.parametrize(
    ("figures", "verdict", "why"),
    [
        pytest.param(step(), OK, "", id="well"),
        pytest.param(step(loss_percent=1.0), OK, "", id="just as much as is allowed"),
        pytest.param(step(loss_percent=1.01), LOSS, "1.01 % of the packets were lost", id="loss"),
        pytest.param(
            step({"busy": [0.2, 0.95]}), GENERATOR, "one of its processes was busy for 95% of the time", id="busy"
        ),
        pytest.param(
            step({"busy": [0.95]}, loss_percent=30.0),
            GENERATOR,
            "one of its processes was busy for 95% of the time",
            id="loss with a busy generator says nothing of the backend",
        ),
        pytest.param(
            step({"late_seconds": 0.5}), GENERATOR, "one of its processes stood still for 0.50 s", id="stood still"
        ),
        pytest.param(step(sent=9600), GENERATOR, "it sent 9600 packets of 10000", id="sent too little"),
        pytest.param(step(sent=9700), OK, "", id="sent nearly all"),
        pytest.param(
            step({"dropped": 81}), GENERATOR, "its own sockets threw 81 packets away", id="lost them after they came"
        ),
        pytest.param(step({"dropped": 80}), OK, "", id="a few thrown away"),
        pytest.param(step(streams=30), FAILED, "2 of 32 streams did not come about", id="no connection"),
        pytest.param(step(broken=1, sent=7500), FAILED, "1 publishers lost their connection", id="broken"),
    ],
)
def test_verdicts(figures, verdict, why):
    assert _load.judge(figures, 1.0) == (verdict, why)


def ramp(carries, highest, above=LOSS):
    """Return the numbers of a whole ramp of a backend that carries so many."""
    tried = []
    while (count := _load.next_count(tried, highest)) is not None:
        tried.append((count, OK if count <= carries else above))
        assert len(tried) < 50
    return [count for count, _verdict in tried]


def test_a_step_that_does_not_count_is_made_once_more():
    """The second time decides."""
    assert _load.next_count([(1, OK), (2, GENERATOR)], 4) == 2
    assert _load.next_count([(1, OK), (2, GENERATOR), (2, OK)], 4) == 4
    assert _load.next_count([(1, OK), (2, GENERATOR), (2, LOSS)], 4) is None
    assert _load.next_count([(1, OK), (2, GENERATOR), (2, GENERATOR)], 4) is None
    assert _load.next_count([(1, GENERATOR)], 4) == 1
    assert _load.next_count([(1, GENERATOR), (1, GENERATOR)], 4) is None


@pytest.mark.parametrize(
    ("carries", "highest", "steps"),
    [
        pytest.param(100, 16, [1, 2, 4, 8, 16], id="up to the highest"),
        pytest.param(100, 11, [1, 2, 4, 8, 11], id="the highest is no power of two"),
        pytest.param(100, 1, [1], id="one"),
        pytest.param(100, 0, [], id="none is allowed"),
        pytest.param(0, 16, [1], id="not even one"),
        pytest.param(1, 16, [1, 2], id="one is all"),
        pytest.param(5, 64, [1, 2, 4, 8, 6, 5], id="between"),
        pytest.param(40, 256, [1, 2, 4, 8, 16, 32, 64, 48, 40, 44], id="within an eighth"),
    ],
)
@pytest.mark.parametrize("above", [LOSS, FAILED])
def test_ramp(carries, highest, steps, above):
    assert ramp(carries, highest, above) == steps


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param((16, 4.0, 4, 200, 400), 16, id="as many as were asked for"),
        pytest.param((100, 4.0, 4, 200, 400), 50, id="the line"),
        pytest.param((100, 4.0, 4, 2000, 40), 10, id="the ports"),
        pytest.param((100, 300.0, 4, 200, 400), 0, id="one is too much"),
    ],
)
def test_the_maximums_protect_the_backend(arguments, expected):
    assert _load.most(*arguments) == expected


def judged(subscribers, verdict, why=""):
    return step(subscribers=subscribers, mbit_per_second=4.0 * subscribers, verdict=verdict, why=why)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        pytest.param(
            [judged(1, OK), judged(2, OK)],
            "The limit was not reached: 8.0 Mbit/s delivered to 2 subscribers with 0.00 % loss, which was the most "
            "allowed.",
            id="maximum",
        ),
        pytest.param(
            [judged(1, OK)],
            "The limit was not reached: 4.0 Mbit/s delivered to 1 subscribers with 0.00 % loss, when the time was "
            "over.",
            id="time",
        ),
        pytest.param(
            [judged(1, OK), judged(2, LOSS, "3.00 % of the packets were lost")],
            "The limit is at 4.0 Mbit/s delivered to 1 subscribers: at 2, 3.00 % of the packets were lost.",
            id="loss",
        ),
        pytest.param(
            [judged(1, OK), judged(2, GENERATOR, "it sent 1 packets of 2")],
            "At least 4.0 Mbit/s delivered to 1 subscribers: at 2 the generator was the limit (it sent 1 packets of "
            "2), so that step does not count, and the backend's own limit is not known.",
            id="generator",
        ),
        pytest.param(
            [judged(1, LOSS, "3.00 % of the packets were lost")],
            "No step was well, the smallest included: 3.00 % of the packets were lost.",
            id="none",
        ),
        pytest.param([], "No step was well, the smallest included: no step was made.", id="nothing"),
    ],
)
def test_ending(steps, expected):
    assert _load.ending(steps, 2) == expected


def test_best_is_the_most_delivered_of_those_that_are_well():
    steps = [judged(1, OK), judged(4, GENERATOR), judged(2, OK), judged(3, LOSS)]
    assert _load.best(steps)["subscribers"] == 2
    assert _load.best([judged(4, GENERATOR)]) is None
