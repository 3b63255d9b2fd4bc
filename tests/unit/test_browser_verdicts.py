# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The judgement of calls in Chromium, and how their steps are named and shown."""

from __future__ import annotations

import jsonschema
import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.filter.report_text import report_text
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _browser_verdict, _probe
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._probe import FAILED, OK, WARNING
from test_probe_verdicts import RELAY, figures
from test_report import SCHEMA, made, step

SIZES = {"low": (240, 135), "medium": (480, 270), "high": (960, 540)}


def browsed(names=("low", "medium", "high"), unseen=(), held_back="", load=0.5, stopped=False, **given):
    """Return the figures of a call that sends these layers; who watches gets no picture of a layer in `unseen`."""
    layers = {name: {"width": SIZES[name][0], "height": SIZES[name][1], "packets": 90, "bytes": 9000} for name in names}
    chosen = [names[0], names[-1]] if len(names) > 1 else []
    switched = {name: {"width": SIZES[name][0], "height": SIZES[name][1], "seconds": 0.42} for name in chosen}
    switched.update({name: {"width": 960, "height": 540, "stopped": stopped} for name in unseen})
    more = {"load_per_processor": load, **({"held_back": held_back} if held_back else {})}
    return {**figures(**given), "layers": layers, "switched": switched, "codec": "VP8", "browser": "156.0", **more}


@pytest.mark.parametrize(
    ("limit", "seen", "status", "words"),
    [
        (
            None,
            browsed(),
            OK,
            "three layers (240x135, 480x270, 960x540), chosen: 240x135 after 0.4 s, then 960x540 after 0.4 s",
        ),
        (1048576, browsed(), OK, "150 audio and 150 video packets, 0 lost"),
        (500000, browsed(["low", "medium"]), OK, "two layers (240x135, 480x270), chosen"),
        (500000, browsed(["low", "medium"]), OK, "; the limit of 500 kbit/s leaves no room for more"),
        (100000, browsed(["low"]), OK, "one layer (240x135); the limit of 100 kbit/s leaves no room for more"),
        (
            1048576,
            browsed(["low", "medium"], held_back="cpu"),
            WARNING,
            "of three: the controller is too busy for more.",
        ),
        (1048576, browsed(["low"], held_back="bandwidth", load=3.0), WARNING, "the controller is too busy for more."),
        (
            1048576,
            browsed(["low"], held_back="bandwidth"),
            WARNING,
            "one layer (240x135) of three: it finds too little bandwidth",
        ),
        (None, browsed(["low", "medium"], held_back="bandwidth"), WARNING, "it finds too little bandwidth for more."),
        (
            None,
            browsed(unseen=["low"]),
            FAILED,
            "three layers (240x135, 480x270, 960x540), but who watches and chooses 240x135 gets 960x540.",
        ),
        (
            None,
            browsed(unseen=["low"], load=2.0),
            WARNING,
            "gets 960x540, but the controller was too busy to tell why.",
        ),
        (None, browsed(unseen=["high"], stopped=True), WARNING, "but the controller was too busy to tell why."),
        (None, browsed(missing=["video"]), FAILED, "connected, but no video came through"),
        (None, browsed(lost=50), FAILED, "of the packets were lost"),
        (None, browsed(lost=6), WARNING, "2 % of the packets were lost"),
        (None, browsed(["low"], lost=6), WARNING, "2 % of the packets were lost"),
        (None, browsed(lost=3, late=0.5), WARNING, "the controller was too busy to tell where"),
    ],
)
def test_a_call_in_chromium(limit, seen, status, words):
    verdict = _browser_verdict.call("browser", limit, seen)
    assert (verdict.status, words in f"{verdict.seen} {verdict.cause}") == (status, True)
    assert verdict.figures["layers"] == seen["layers"]
    assert bool(verdict.remedy) == (status != OK)


def test_a_relayed_call_names_the_relay():
    verdict = _browser_verdict.call("browser-turn-tls", None, browsed(local=RELAY))
    assert (verdict.status, "relay 192.0.2.10:50000 -> host" in verdict.seen) == (OK, True)
    direct = _browser_verdict.call("browser-turn-tls", None, browsed())
    assert (direct.status, "did not go through TURN" in direct.cause) == (FAILED, True)


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("it ended: No usable sandbox! Update your kernel", "Allow unprivileged user namespaces on the controller"),
        ("it ended: cannot open libnss3.so", "Run '/opt/chromium --headless --disable-gpu --dump-dom about:blank'"),
    ],
)
def test_a_browser_that_does_not_start(said, remedy):
    verdict = _browser_verdict.not_started("/opt/chromium", said)
    assert verdict.cause == f"The browser /opt/chromium does not start: {said}."
    assert verdict.remedy.startswith(remedy)


def test_a_browser_that_fails_later():
    cause = _browser_verdict.broke("it ended: out of memory").cause
    assert cause == "Chromium did not do what a call needs: it ended: out of memory."


@pytest.mark.parametrize(
    ("stage", "evidence", "words"),
    [
        ("layers", {"message": "OperationError: no"}, "refuses an offer with three layers of the kind that Talk makes"),
        ("requestoffer", {"code": "timeout"}, "Janus did not offer the publisher's stream"),
        ("turn", {"turn": {"allocate": "401"}}, "refuses this instance's TURN secret (401)"),
        ("publisher", {"remote": ["host 192.0.2.1:2"], "turn": {"allocate": "ok", "bind": "403"}}, "refuses to relay"),
    ],
)
def test_a_call_that_does_not_come_about(stage, evidence, words):
    verdict = _browser_verdict.call_failed("browser-turn-tcp", "turn.example.org:3478", stage, evidence)
    assert (verdict.status, words in verdict.cause) == (FAILED, True)


@pytest.mark.parametrize(
    ("name", "way", "protocol", "shown"),
    [
        ("browser", "direct", "", "direct call in Chromium"),
        ("browser-turn-udp", "turn-udp", "udp", "call over TURN udp in Chromium"),
        ("browser-turn-tls", "turn-tls", "tls", "call over TURN tls in Chromium"),
        ("chromium", "chromium", "", "Chromium"),
        ("direct", "direct", "", "direct call"),
        ("turn-tcp", "turn-tcp", "tcp", "call over TURN tcp"),
    ],
)
def test_the_names_of_steps(name, way, protocol, shown):
    assert (_probe.way(name), _probe.turn_protocol(name), _probe.step_name(name)) == (way, protocol, shown)


def test_steps_for_protocols():
    assert _probe.browser_steps(["udp", "tls"]) == ["browser", "browser-turn-udp", "browser-turn-tls"]


def test_the_report_shows_what_was_sent_and_chosen():
    extra = {"relay_protocol": "tls", "round_trip_seconds": 0.001, "held_back": "cpu", "secret": "no"}
    verdict = _browser_verdict.call("browser", None, {**browsed(), **extra})
    document = made([step("browser", figures=verdict.figures), step("browser-turn-tls", "skipped")])
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    kept = document["instances"][0]["steps"][0]["figures"]
    assert kept["layers"]["high"] == {"width": 960, "height": 540, "packets": 90, "bytes": 9000}
    assert kept["switched"]["low"]["seconds"] == 0.42
    assert (kept["codec"], kept["browser"], kept["held_back"], kept["relay_protocol"]) == ("VP8", "156.0", "cpu", "tls")
    assert "secret" not in kept
    page = report_text(document, "html")
    assert "Directly, in Chromium" in page and "Through TURN, TLS, in Chromium" in page
    assert "240\u00d7135, 480\u00d7270, 960\u00d7540" in page and "240\u00d7135, 960\u00d7540" in page
