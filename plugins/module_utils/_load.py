# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a load test counts and decides: packets of a stream, the next number of subscribers, whether a step counts.

A step is a mapping with the figures that `_load_run` measures; rates are in Mbit/s of RTP packets as they are on the
line, without the headers of UDP and IP. Nothing here knows a socket.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

OK = "ok"
LOSS = "loss"
GENERATOR = "generator"
FAILED = "failed"

# A process of the generator that ran, or waited for a processor, for a larger share of the time was at its limit.
BUSY_SHARE = 0.9
# One that stood still for longer sends in bursts that no camera sends.
LATE_SECONDS = 0.25
# Packets that it did not send in time, or that its own sockets threw away, are no loss of the backend.
SENT_SHARE = 0.97
DROPPED_SHARE = 0.001
# What may be on its way when a window closes, in seconds of a stream.
SLACK_SECONDS = 0.5


class Mark(NamedTuple):
    """What a stream had received at one moment; highest is the last sequence number without wrapping, -1 for none."""

    received: int
    octets: int
    highest: int


class Stream:
    """Counts the packets of one RTP stream by their sequence numbers (RFC 3550, A.1)."""

    __slots__ = ("first", "highest", "octets", "received")

    def __init__(self) -> None:
        self.received = 0
        self.octets = 0
        self.highest = -1
        self.first = -1

    def take(self, sequence: int, size: int) -> None:
        """Count a packet with the sequence number (16 bits) of so many octets; a repeated one is not counted twice."""
        if self.highest < 0:
            self.first = self.highest = sequence
        else:
            step = (sequence - self.highest) & 0xFFFF
            if step == 0:
                return
            if step < 0x8000:
                self.highest += step
        self.received += 1
        self.octets += size

    def mark(self) -> Mark:
        """Return what was received until now."""
        return Mark(self.received, self.octets, self.highest)

    def since(self, before: Mark) -> tuple[int, int, int]:
        """Return packets and octets received since the mark, and the packets that are missing between them."""
        if self.highest < 0:
            return 0, 0, 0
        received = self.received - before.received
        start = before.highest if before.highest >= 0 else self.first - 1
        return received, self.octets - before.octets, max(0, self.highest - start - received)


def lost(sent: int, received: int, missing: int, slack: int) -> int:
    """Return how many of the `sent` packets of a stream were lost.

    The gaps between the received ones say it exactly; a stream that has stopped shows no gap, so what is missing
    beside those that may be on their way (`slack`) counts as well.
    """
    return max(missing, sent - received - slack, 0)


def percent(part: float, whole: float) -> float:
    """Return a share in percent, 0 of nothing."""
    return 100.0 * part / whole if whole else 0.0


def limit_of(step: Mapping[str, Any]) -> str:
    """Return why the generator was the limit in a step, "" when it was not."""
    generator = step["generator"]
    busiest = max(generator["busy"], default=0.0)
    if busiest > BUSY_SHARE:
        return f"one of its processes was busy for {busiest:.0%} of the time"
    if generator["late_seconds"] > LATE_SECONDS:
        return f"one of its processes stood still for {generator['late_seconds']:.2f} s"
    if not step["broken"] and step["sent"] < SENT_SHARE * step["due"]:
        return f"it sent {step['sent']} packets of {step['due']}"
    if generator["dropped"] > DROPPED_SHARE * max(1, step["expected"]):
        return f"its own sockets threw {generator['dropped']} packets away"
    return ""


def judge(step: Mapping[str, Any], loss_percent: float) -> tuple[str, str]:
    """Return verdict and reason of a step. A step whose verdict is `GENERATOR` does not count.

    The generator is looked at before the loss: what is lost when it cannot keep up says nothing about the backend.
    """
    if step["streams"] < step["wanted"]:
        return FAILED, f"{step['wanted'] - step['streams']} of {step['wanted']} streams did not come about"
    limit = limit_of(step)
    if limit:
        return GENERATOR, limit
    if step["broken"]:
        return FAILED, f"{step['broken']} publishers lost their connection"
    if step["loss_percent"] > loss_percent:
        return LOSS, f"{step['loss_percent']:.2f} % of the packets were lost"
    return OK, ""


def most(wanted: int, each_mbit: float, streams_each: int, max_mbit: float, max_streams: int) -> int:
    """Return the highest number of subscribers that keeps to all limits.

    wanted: the number that was asked for. each_mbit, streams_each: what one more of them costs.
    """
    return max(0, min(wanted, int(max_mbit / each_mbit), max_streams // streams_each))


def next_count(tried: Sequence[tuple[int, str]], highest: int) -> int | None:
    """Return the number of subscribers of the next step, None when the ramp is over.

    tried: number and verdict of each step until now. It is doubled as long as all is well; then the middle between
    the best and the worse is tried, until they are within an eighth of each other. A step that does not count is made
    once more, since something else on its machine can have kept the generator for a moment.
    """
    if not tried:
        return 1 if highest else None
    count, verdict = tried[-1]
    if verdict == GENERATOR and sum(count == other for other, _verdict in tried) == 1:
        return count
    good = max((count for count, verdict in tried if verdict == OK), default=0)
    bad = min((count for count, verdict in tried if verdict != OK and count > good), default=0)
    if not bad:
        return min(2 * good, highest) if good < highest else None
    middle = (good + bad) // 2
    return middle if good and bad - good > max(1, good // 8) else None


def best(steps: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the step with the most delivered among those that are well, None when there is none."""
    good = [step for step in steps if step["verdict"] == OK]
    return max(good, key=lambda step: step["mbit_per_second"], default=None)


def ending(steps: Sequence[Mapping[str, Any]], highest: int) -> str:
    """Return in one sentence what the steps show of the backend's limit."""
    good = best(steps)
    if good is None:
        why = steps[-1]["why"] if steps else "no step was made"
        return f"No step was well, the smallest included: {why}."
    reached = f"{good['mbit_per_second']:.1f} Mbit/s delivered to {good['subscribers']} subscribers"
    above = [step for step in steps if step["subscribers"] > good["subscribers"]]
    if not above:
        why = "which was the most allowed" if good["subscribers"] >= highest else "when the time was over"
        return f"The limit was not reached: {reached} with {good['loss_percent']:.2f} % loss, {why}."
    fewest = min(step["subscribers"] for step in above)
    # The last one of those with as many, since it was made again where the first did not count.
    worse = [step for step in above if step["subscribers"] == fewest][-1]
    if worse["verdict"] == GENERATOR:
        return (
            f"At least {reached}: at {worse['subscribers']} the generator was the limit ({worse['why']}), so that step "
            "does not count, and the backend's own limit is not known."
        )
    return f"The limit is at {reached}: at {worse['subscribers']}, {worse['why']}."
