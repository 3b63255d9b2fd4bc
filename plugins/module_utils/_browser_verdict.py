# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The judgement of calls in Chromium: what `_probe` says of any call, and what became of the layers.

No input or output. The figures are those that `_browser_call.place` returns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _probe
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._probe import FAILED, OK, WARNING, Verdict

ALL_LAYERS = 3
# The bitrate below which a camera's limit leaves no room for all layers, in kbit/s; see _browser_call.WIDTH.
ROOM = 900
# The load of a processor above which nobody is served in time.
BUSY = 1.5
LESS_BUSY = "Run the verification again when the controller is less busy."
NUMBERS = {0: "no", 1: "one", 2: "two", 3: "three"}


def started(version: str) -> Verdict:
    """Return the verdict of a browser that started."""
    return _probe.passed(f"Chromium {version} starts without a screen", browser=version)


def not_started(program: str, said: str) -> Verdict:
    """Explain a browser that did not start; `said` is the reason, which ends with its own last words."""
    if "sandbox" in said.lower():
        remedy = (
            "Allow unprivileged user namespaces on the controller, which its sandbox needs, or run Ansible there as "
            "root, where it does without."
        )
    else:
        remedy = (
            f"Run '{program} --headless --disable-gpu --dump-dom about:blank' on the controller as the same user, and "
            "correct what it complains about."
        )
    return _probe.failed(f"The browser {program} does not start: {said}.", remedy)


def broke(error: str) -> Verdict:
    """Explain a call in which the browser itself failed."""
    return _probe.failed(
        f"Chromium did not do what a call needs: {error}.",
        "Run the verification again, and look at memory and load of the controller.",
    )


def size(picture: Mapping[str, Any]) -> str:
    """Return width and height as one word."""
    return f"{picture.get('width', 0)}x{picture.get('height', 0)}"


def show_layers(layers: Mapping[str, Mapping[str, Any]]) -> str:
    """Return layers as text, the smallest first."""
    noun = "layer" if len(layers) == 1 else "layers"
    sizes = f" ({', '.join(size(layer) for layer in layers.values())})" if layers else ""
    return f"{NUMBERS[len(layers)]} {noun}{sizes}"


def call(step: str, limit: int | None, figures: dict[str, Any]) -> Verdict:
    """Judge the figures of a call that was connected; `limit` of a camera in bit/s, None for an unknown one."""
    verdict = _probe.call(step, figures)
    if verdict.status == FAILED:
        return verdict
    figures, layers, switched = verdict.figures, figures.get("layers") or {}, figures.get("switched") or {}
    sent = show_layers(layers)
    busy = figures.get("load_per_processor", 0) > BUSY
    failing = [name for name, picture in switched.items() if "seconds" not in picture]
    if failing:
        wanted = " and ".join(size(layers.get(name, {})) for name in failing)
        got = " and ".join(size(switched[name]) for name in failing)
        if busy or any(switched[name].get("stopped") for name in failing):
            return Verdict(
                WARNING,
                f"{verdict.seen}, {sent}",
                f"Who watches and chooses {wanted} gets {got}, but the controller was too busy to tell why.",
                LESS_BUSY,
                figures,
            )
        return _probe.failed(
            f"Chromium sends {sent}, but who watches and chooses {wanted} gets {got}.",
            "Look at the log of janus (playbook logs), and whether it is of the release that this collection builds: "
            "without layers everybody gets the largest picture.",
            **figures,
        )
    times = [f"{size(picture)} after {picture['seconds']:.1f} s" for picture in switched.values()]
    parts = [verdict.seen, sent, *([f"chosen: {', then '.join(times)}"] if times else [])]
    seen = ", ".join(parts)
    if len(layers) == ALL_LAYERS or verdict.status == WARNING:
        return Verdict(verdict.status, seen, verdict.cause, verdict.remedy, figures)
    room = round(limit / 1000) if limit else 0
    if room and room < ROOM:
        return Verdict(OK, f"{seen}; the limit of {room} kbit/s leaves no room for more", figures=figures)
    # Who is late with everything also finds too little bandwidth.
    if busy or figures.get("held_back") == "cpu":
        return Verdict(
            WARNING,
            seen,
            f"Chromium sends {sent} of {NUMBERS[ALL_LAYERS]}: the controller is too busy for more.",
            LESS_BUSY,
            figures,
        )
    return Verdict(
        WARNING,
        seen,
        f"Chromium sends {sent} of {NUMBERS[ALL_LAYERS]}: it finds too little bandwidth for more.",
        f"Check the line and the load of the controller, and that a camera may have {ROOM} kbit/s (talk_stream_bitrate "
        "of the instance, or the server's limit).",
        figures,
    )


def call_failed(step: str, server: str, stage: str, evidence: Mapping[str, Any]) -> Verdict:
    """Explain a call that did not come about; `server` is the TURN server as configured, "" without one."""
    if stage == "layers":
        return _probe.failed(
            f"Chromium refuses an offer with three layers of the kind that Talk makes: {evidence.get('message', '')}.",
            "Look whether a newer Talk makes another one; this release of the browser and this Talk do not agree.",
            **evidence,
        )
    return _probe.call_failed(step, server, stage, evidence)
