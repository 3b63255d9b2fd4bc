# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a verification as one page of HTML for people: no scripts, no links, nothing that is loaded.

Whatever is not an `Html` is escaped where it becomes a child or an attribute of an element, so no text of an inventory
or of a server's answer can become markup.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _probe, _report

# Characters that show nothing, or turn the direction of what follows: nobody could see what stands there.
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
WITHOUT_END = {"meta", "br"}

WORDS = {
    _report.OK: "works",
    _report.FAILED: "fails",
    _report.WARNING: "warning",
    _report.SKIPPED: "skipped",
    _report.NOT_CHECKED: "not checked",
}
ORDER = (_report.FAILED, _report.WARNING, _report.OK, _report.NOT_CHECKED)
CALLS = {
    "direct": "Directly",
    "direct-ipv6": "Directly, IPv6",
    "turn-udp": "Through TURN, UDP",
    "turn-tcp": "Through TURN, TCP",
    "turn-udp-ipv6": "Through TURN, UDP, IPv6",
    "turn-tcp-ipv6": "Through TURN, TCP, IPv6",
    "turn-tls": "Through TURN, TLS",
    "turn-443": "Through TURN, port 443",
    "screen": "Screen share",
    "user-call": "As a user",
    "user-turn": "As a user, TURN",
    "browser": "Directly, in Chromium",
    "browser-turn-udp": "Through TURN, UDP, in Chromium",
    "browser-turn-tcp": "Through TURN, TCP, in Chromium",
    "browser-turn-tls": "Through TURN, TLS, in Chromium",
    "browser-turn-443": "Through TURN, port 443, in Chromium",
}
KINDS = {"audio": "sound", "video": "picture"}

# The shapes tell the verdicts apart where colours do not.
MARKS = {
    _report.OK: "M6.5 12.5l3.6 3.6 7.4-8",
    _report.FAILED: "M8 8l8 8M16 8l-8 8",
    _report.WARNING: "M12 6.5v7M12 16.6v.4",
    _report.SKIPPED: "M7.5 12h9",
    _report.NOT_CHECKED: "M7.5 12h9",
}

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f4f6f8; --card: #ffffff; --line: #dfe4ea; --text: #17212b; --soft: #5a6875; --inset: #f7f9fb;
  --ok: #14804a; --ok-back: #e5f4ec; --failed: #c02b2b; --failed-back: #fcebea;
  --warning: #94610a; --warning-back: #fdf3dc; --skipped: #66727e; --skipped-back: #eceff2;
  --audio: #6d57c9; --video: #0a7ea4; --lost: #d64545; --track: #e8ecf0;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #10151a; --card: #182027; --line: #2b3640; --text: #e6ecf1; --soft: #9aa8b5; --inset: #131a20;
    --ok: #5bcf92; --ok-back: #14301f; --failed: #ff8a85; --failed-back: #3a1c1d;
    --warning: #eebd5b; --warning-back: #33270f; --skipped: #a3afba; --skipped-back: #26303a;
    --audio: #a797f5; --video: #53bfe3; --lost: #f06a6a; --track: #2a343e;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; padding: 32px 20px 48px; background: var(--page); color: var(--text);
  font: 15px/1.5 Inter, system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
}
main { max-width: 1040px; margin: 0 auto; }
h1, h2, h3, p, dl, dd, ul { margin: 0; padding: 0; }
ul { list-style: none; }
h1 { font-size: 27px; line-height: 1.25; letter-spacing: -.015em; }
h2 { font-size: 19px; line-height: 1.3; letter-spacing: -.01em; overflow-wrap: anywhere; }
h3 { font-size: 14px; font-weight: 600; }
.soft { color: var(--soft); }
.small { font-size: 13px; }
.mono { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: 12px; }
.break { overflow-wrap: anywhere; }
.kicker { color: var(--soft); font-size: 13px; font-weight: 600; margin-bottom: 12px; }
.card {
  background: var(--card); border: 1px solid var(--line); border-radius: 14px; padding: 22px 24px; margin-top: 18px;
}
.mark { flex: none; width: 20px; height: 20px; }
.mark circle { fill: var(--back); }
.mark path { fill: none; stroke: var(--fore); stroke-width: 2.4; stroke-linecap: round; stroke-linejoin: round; }
.ok { --fore: var(--ok); --back: var(--ok-back); }
.failed { --fore: var(--failed); --back: var(--failed-back); }
.warning { --fore: var(--warning); --back: var(--warning-back); }
.skipped, .not_checked { --fore: var(--skipped); --back: var(--skipped-back); }
.verdict { display: flex; gap: 18px; align-items: center; border-left: 6px solid var(--fore); }
.verdict .mark { width: 52px; height: 52px; }
.verdict p { color: var(--soft); margin-top: 3px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 14px; margin-top: 18px; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 13px 16px; }
.tile b { display: block; font-size: 24px; line-height: 1.25; letter-spacing: -.02em; }
.tile span { color: var(--soft); font-size: 13px; }
.head { display: flex; gap: 12px; align-items: flex-start; justify-content: space-between; }
.pill {
  flex: none; display: inline-flex; gap: 6px; align-items: center; padding: 3px 12px 3px 5px; border-radius: 99px;
  background: var(--back); color: var(--fore); font-size: 13px; font-weight: 600; white-space: nowrap;
}
.facts { display: flex; flex-wrap: wrap; gap: 4px 22px; margin-top: 10px; font-size: 13px; }
.facts div { display: flex; gap: 6px; }
.facts dt { color: var(--soft); }
.facts dd { font-weight: 500; overflow-wrap: anywhere; }
.calls { display: grid; grid-template-columns: repeat(auto-fit, minmax(240px, 1fr)); gap: 14px; margin-top: 18px; }
.call { background: var(--inset); border: 1px solid var(--line); border-radius: 12px; padding: 14px 16px; }
.call .head { align-items: center; }
.plot { display: block; width: 100%; height: auto; margin: 12px 0 10px; }
.plot text { font-size: 11px; fill: var(--soft); font-family: inherit; font-variant-numeric: tabular-nums; }
.plot .track { fill: var(--track); }
.plot .lost { fill: var(--lost); }
.plot .audio { fill: var(--audio); }
.plot .video { fill: var(--video); }
.plot polyline { fill: none; stroke-width: 1.8; stroke-linejoin: round; stroke-linecap: round; }
.plot polyline.audio { fill: none; stroke: var(--audio); }
.plot polyline.video { fill: none; stroke: var(--video); stroke-dasharray: 5 3; }
.plot line { stroke: var(--line); stroke-width: 1; }
.numbers { display: grid; grid-template-columns: 1fr auto; gap: 2px 10px; font-size: 13px; }
.numbers dt { color: var(--soft); }
.numbers dd { text-align: right; font-weight: 600; font-variant-numeric: tabular-nums; }
.why { margin-top: 9px; color: var(--soft); font-size: 13px; overflow-wrap: anywhere; }
.path { margin-top: 10px; padding-top: 9px; border-top: 1px solid var(--line); font-size: 12px; }
.path dt { color: var(--soft); }
.path dd + dt { margin-top: 5px; }
.path .side { display: inline-block; max-width: 100%; overflow-wrap: anywhere; }
.path .who { font-family: Inter, system-ui, sans-serif; }
.checks { margin-top: 16px; }
.checks li { display: grid; grid-template-columns: 20px 190px 1fr; gap: 10px; padding: 7px 0; align-items: start; }
.checks li { border-top: 1px solid var(--line); }
.checks .name { font-weight: 500; }
.checks .seen { color: var(--soft); overflow-wrap: anywhere; }
.trouble { display: flex; gap: 12px; padding: 12px 0; border-top: 1px solid var(--line); }
.trouble:first-of-type { border-top: 0; padding-bottom: 12px; }
.trouble:last-child { padding-bottom: 0; }
.trouble p { overflow-wrap: anywhere; }
.trouble .mend { margin-top: 3px; }
.trouble .place { font-size: 13px; font-weight: 600; color: var(--soft); }
.mend b { color: var(--fore); }
.chips { display: flex; flex-wrap: wrap; gap: 6px; margin-top: 8px; }
.chips li { background: var(--inset); border: 1px solid var(--line); border-radius: 6px; padding: 1px 8px; }
h3.part { margin-top: 18px; }
footer { margin-top: 22px; color: var(--soft); font-size: 13px; }
@media (max-width: 620px) {
  body { padding: 18px 12px 32px; font-size: 14px; }
  .card { padding: 16px; border-radius: 12px; }
  h1 { font-size: 21px; }
  .verdict { gap: 14px; }
  .verdict .mark { width: 40px; height: 40px; }
  .tiles { grid-template-columns: 1fr 1fr; gap: 10px; }
  .checks li { grid-template-columns: 20px 1fr; }
  .checks .seen { grid-column: 2; }
}
@media print {
  :root {
    color-scheme: light;
    --page: #fff; --card: #fff; --line: #ccd3da; --text: #000; --soft: #4a5560; --inset: #fff;
    --ok: #14804a; --ok-back: #e5f4ec; --failed: #c02b2b; --failed-back: #fcebea;
    --warning: #94610a; --warning-back: #fdf3dc; --skipped: #66727e; --skipped-back: #eceff2;
    --audio: #6d57c9; --video: #0a7ea4; --lost: #d64545; --track: #e8ecf0;
    print-color-adjust: exact; -webkit-print-color-adjust: exact;
  }
  @page { margin: 14mm; }
  body { padding: 0; font-size: 12px; }
  h1 { font-size: 21px; }
  h2 { font-size: 16px; }
  .card { padding: 14px 16px; margin-top: 12px; }
  .tiles { grid-template-columns: repeat(4, 1fr); gap: 10px; margin-top: 12px; }
  .tile b { font-size: 18px; }
  .calls { grid-template-columns: repeat(3, 1fr); gap: 10px; margin-top: 12px; }
  .call { padding: 10px 12px; }
  .mono, .path { font-size: 10px; }
  .facts, .numbers, .small, .why, .tile span, footer { font-size: 11px; }
  .checks { margin-top: 10px; }
  .checks li { grid-template-columns: 20px 150px 1fr; padding: 4px 0; }
  .checks .seen { grid-column: auto; }
  .call, .tile, .trouble, .verdict, .checks li { break-inside: avoid; }
  .card > .head, h3 { break-after: avoid; }
}
"""


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def shown(value: Any) -> str:
    """Return a text with the replacement character for what cannot be seen."""
    return UNSEEN.sub("\ufffd", f"{value}")


def el(tag: str, *children: Any, **attributes: Any) -> Html:
    """Return an element; children are escaped unless they are `Html`, attributes always. None is left out.

    A name with an underscore at its end stands for the one without (class_), others get a dash for it.
    """
    words = [tag]
    for name, value in attributes.items():
        if value is not None:
            key = name[:-1] if name.endswith("_") else name.replace("_", "-")
            words.append(f'{key}="{html.escape(shown(value), quote=True)}"')
    start = f"<{' '.join(words)}>"
    return Html(start) if tag in WITHOUT_END else Html(f"{start}{join(children)}</{tag}>")


def join(children: Iterable[Any]) -> Html:
    """Return children one after another; each that is no `Html` is escaped, None is left out."""
    return Html("".join(_child(child) for child in children if child is not None))


def _child(child: Any) -> str:
    return child if isinstance(child, Html) else html.escape(shown(child), quote=True)


def render(report: Mapping[str, Any]) -> str:
    """Return the document of `_report.document` as a page."""
    headline, line = summary(report)
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        # Nothing may be loaded or run, whatever stands in the page.
        el("meta", http_equiv="Content-Security-Policy", content="default-src 'none'; style-src 'unsafe-inline'"),
        el("meta", name="referrer", content="no-referrer"),
        el("meta", name="robots", content="noindex"),
        el("title", f"{headline} - {report['backend']['url']}"),
        el("style", Html(STYLE)),
    )
    parts = [
        el("p", "Nextcloud Talk backend: verification", class_="kicker"),
        el(
            "div",
            mark(report["verdict"]),
            el("div", el("h1", headline), el("p", line, class_="break")),
            class_=f"card verdict {report['verdict']}",
        ),
        _tiles(report),
        _troubles(report),
        # Those that need somebody come first.
        *(_instance(item) for item in sorted(report["instances"], key=lambda item: ORDER.index(item["verdict"]))),
        _backend(report["backend"]),
        el(
            "footer",
            f"Made by nextcloud_talk.hpb at {readable_time(report['time'])}. The calls were placed from the "
            "controller, which is where this Ansible ran. This page holds no secrets and loads nothing from anywhere.",
        ),
    ]
    page = el("html", head, el("body", el("main", *parts)), lang="en")
    return f"<!DOCTYPE html>\n{page}\n"


def mark(status: str) -> Html:
    """Return the sign of a verdict."""
    shape = join([el("circle", cx=12, cy=12, r=12), el("path", d=MARKS[status])])
    return el("svg", shape, class_=f"mark {status}", viewBox="0 0 24 24", role="img", aria_label=WORDS[status])


def pill(status: str) -> Html:
    """Return the verdict of a card as a word with its sign."""
    return el("span", mark(status), WORDS[status], class_=f"pill {status}")


def readable_time(time: str) -> str:
    """Return YYYY-MM-DDThh:mm:ssZ for people; anything else as it is."""
    found = re.fullmatch(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d):\d\dZ", time)
    return f"{found.group(1)}, {found.group(2)} UTC" if found else time


def seconds(value: float) -> str:
    """Return seconds for people; those below a tenth as milliseconds."""
    return f"{1000 * value:.0f} ms" if value < 0.1 else f"{value:.1f} s"


def bitrate(value: int | None) -> str:
    """Return bit/s for people."""
    return f"{value / 1_000_000:.3g} Mbit/s" if value else "the server's limit"


# --- the top ------------------------------------------------------------------------------------------------------


def summary(report: Mapping[str, Any]) -> tuple[str, str]:
    """Return the verdict as a headline, and a line about what was looked at."""
    states = [instance["verdict"] for instance in report["instances"]]
    whole, bad = len(states), states.count(_report.FAILED)
    unsure = states.count(_report.NOT_CHECKED)
    if report["verdict"] == _report.NOT_CHECKED:
        headline = "No call was placed"
    elif report["backend"]["verdict"] == _report.FAILED:
        headline = "The backend does not work as it should"
    elif bad:
        some = "One of" if bad == 1 else f"{bad} of"
        does = "does" if bad == 1 else "do"
        headline = "The instance does not work" if whole == 1 else f"{some} {whole} instances {does} not work"
    else:
        good = whole - unsure
        headline = "Calls work" if whole == 1 else f"Calls work for all {whole} instances"
        if unsure:
            headline = f"Calls work for {good} of {whole} instances, the rest was not checked"
    line = [report["backend"]["url"], readable_time(report["time"])]
    if report["seconds"]:
        line.append(f"verified in {report['seconds']:.0f} s")
    return headline, "  \u00b7  ".join(part for part in line if part)


def _tiles(report: Mapping[str, Any]) -> Html | None:
    steps = [step for instance in report["instances"] for step in instance["steps"] if _report.is_call(step)]
    media = [step["figures"] for step in steps if heard(step["figures"])]
    if not steps:
        return None
    steps = [step for step in steps if step["status"] != _report.SKIPPED]
    good = sum(step["status"] != _report.FAILED for step in steps)
    received, lost = (sum(packets(item, key) for item in media) for key in ("received", "lost"))
    firsts = [item["first_frame_seconds"] for item in media if item.get("first_frame_seconds") is not None]
    tiles = [
        (f"{good} / {len(steps)}", "calls went well"),
        (f"{received:,}".replace(",", "\u202f"), "packets received"),
        (share_lost(received, lost), f"of them lost ({lost})" if lost else "of them lost"),
    ]
    if firsts:
        tiles.append((seconds(max(firsts)), "to the first picture, at most"))
    return el(
        "div", *(el("div", el("b", value), el("span", what), class_="tile") for value, what in tiles), class_="tiles"
    )


def heard(figures: Mapping[str, Any]) -> list[str]:
    """Return the kinds of media that were counted."""
    return [kind for kind in KINDS if figures.get(kind)]


def packets(figures: Mapping[str, Any], key: str) -> int:
    """Return the received or the lost packets of all kinds."""
    return sum(figures[kind].get(key, 0) for kind in heard(figures))


def share_lost(received: int, lost: int) -> str:
    """Return the share of lost packets; a loss never reads as none."""
    if not lost:
        return "0 %"
    share = 100 * lost / (received + lost)
    if share < 0.01:
        return "< 0.01 %"
    return f"{share:.0f} %" if share >= 10 else f"{share:.2g} %"


def _troubles(report: Mapping[str, Any]) -> Html | None:
    problems = _report.problems(report)
    if not problems:
        return None
    rows = []
    for problem in problems:
        mend = el("p", el("b", "Mend: "), problem["remedy"], class_="mend") if problem["remedy"] else None
        words = el("div", el("p", problem["place"], class_="place"), el("p", problem["cause"]), mend)
        rows.append(el("div", mark(problem["status"]), words, class_=f"trouble {problem['status']}"))
    return el("section", el("h2", "What is wrong, and how to mend it"), *rows, class_="card")


# --- cards --------------------------------------------------------------------------------------------------------


def _facts(pairs: Iterable[tuple[str, str]]) -> Html:
    return el("dl", *(el("div", el("dt", name), el("dd", value)) for name, value in pairs if value), class_="facts")


def _card(title: str, url: str, verdict: str, *parts: Any) -> Html:
    head = el("div", el("h2", title), el("p", url, class_="soft small break"))
    return el("section", el("div", head, pill(verdict), class_="head"), *parts, class_="card")


def _instance(instance: Mapping[str, Any]) -> Html:
    calls = [step for step in instance["steps"] if _report.is_call(step)]
    others = [step for step in instance["steps"] if not _report.is_call(step)]
    checks = [_check(step["status"], step["name"] or step["step"], step["seen"]) for step in others]
    own = instance["check"]
    if not own["ok"] or own["available"] or own["sentence"]:
        status = _report.FAILED if not own["ok"] else _report.OK if own["available"] else _report.SKIPPED
        checks.append(_check(status, "Talk's own check", own["sentence"] or "finds nothing wrong"))
    return _card(
        instance["id"],
        instance["url"],
        instance["verdict"],
        _facts(
            [
                ("Nextcloud", instance["nextcloud_version"]),
                ("Talk", instance["talk_version"]),
                ("sessions", f"at most {instance['session_limit']}" if instance["session_limit"] else "no limit"),
                ("camera", bitrate(instance["stream_bitrate"])),
                ("screen", bitrate(instance["screen_bitrate"])),
                ("registered by", "us" if instance["register"] else "its admin"),
            ]
        ),
        el("div", *(_call(step) for step in calls), class_="calls") if calls else None,
        el("ul", *checks, class_="checks") if checks else None,
        None if instance["steps"] else el("p", "No call was placed for it in this run.", class_="soft"),
    )


def _backend(backend: Mapping[str, Any]) -> Html:
    steps = backend["steps"]
    checks = [_check(step["status"], step["name"] or step["step"], step["seen"]) for step in steps]
    versions = sorted(backend["versions"].items())
    features = backend["features"]
    return _card(
        "Backend",
        backend["url"],
        backend["verdict"],
        _facts([("TURN server", backend["turn_server"]), *versions]),
        el("ul", *checks, class_="checks") if checks else None,
        el("h3", "Features of the signaling server", class_="part") if features else None,
        el("ul", *(el("li", name, class_="mono") for name in features), class_="chips") if features else None,
    )


def _check(status: str, name: str, seen: str) -> Html:
    return el("li", mark(status), el("span", name, class_="name"), el("span", seen, class_="seen"))


# --- a call -------------------------------------------------------------------------------------------------------


def _call(step: Mapping[str, Any]) -> Html:
    figures = step["figures"]
    parts = [
        el(
            "div",
            el("h3", CALLS.get(step["step"]) or step["name"] or step["step"]),
            mark(step["status"]),
            class_="head",
        )
    ]
    if heard(figures):
        parts.append(curves(figures["series"]) if len(figures.get("series") or []) > 1 else bars(figures))
        parts.append(_numbers(figures))
    if step["status"] != _report.OK:
        parts.append(el("p", step["cause"] or step["seen"], class_="why"))
    parts.append(_paths(figures))
    return el("div", *parts, class_="call")


def _numbers(figures: Mapping[str, Any]) -> Html:
    received, lost = packets(figures, "received"), packets(figures, "lost")
    rows = [("packets", f"{received}"), ("lost", f"{lost}" + (f" ({share_lost(received, lost)})" if lost else ""))]
    if _probe.show_families(figures):
        rows.append(("network", _probe.show_families(figures).strip(" ()")))
    if figures.get("first_frame_seconds") is not None:
        rows.append(("first picture after", seconds(figures["first_frame_seconds"])))
    if figures.get("round_trip_seconds") is not None:
        rows.append(("round trip", seconds(figures["round_trip_seconds"])))
    if figures.get("layers"):
        rows.append(("layers", sizes(figures["layers"])))
    if figures.get("switched"):
        rows.append(("chosen", sizes(figures["switched"])))
    if figures.get("data"):
        rows.append(("text", "came through" if figures["data"] == "ok" else "did not come through"))
    return el("dl", *(part for name, value in rows for part in (el("dt", name), el("dd", value))), class_="numbers")


def sizes(pictures: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the sizes of pictures, the smallest first."""
    found = sorted((picture.get("width", 0), picture.get("height", 0)) for picture in pictures.values())
    return ", ".join(f"{width}\u00d7{height}" for width, height in found)


def _paths(figures: Mapping[str, Any]) -> Html | None:
    ways = [("path of the sender", figures.get("publisher_pair")), ("path of the listener", figures.get("pair"))]
    rows = [(name, way(pair)) for name, pair in ways if pair and pair.get("local") and pair.get("remote")]
    if not rows:
        return None
    return el(
        "dl", *(part for name, text in rows for part in (el("dt", name), el("dd", text, class_="mono"))), class_="path"
    )


def way(pair: Mapping[str, Any]) -> Html:
    """Return a selected candidate pair for people, our side first; a relay of ours is the TURN server."""
    sides = []
    for side, name in (("local", "controller"), ("remote", "Janus")):
        candidate = pair[side]
        kind = candidate.get("type", "")
        if side == "local" and kind == "relay":
            name, kind = "TURN", ""
        address = _probe.join_address({"address": candidate.get("address", "?"), "port": candidate.get("port", "?")})
        words = (el("span", name, class_="who"), f" {address}", f" ({kind})" if kind not in ("", "host") else None)
        sides.append(el("span", "\u2194 " if side == "remote" else None, *words, class_="side"))
    return join([sides[0], " ", sides[1]])


def bars(figures: Mapping[str, Any]) -> Html:
    """Return a picture of what was received and lost: a bar for each kind of media."""
    rows, kinds = [], heard(figures)
    for index, kind in enumerate(kinds):
        received, lost = figures[kind].get("received", 0), figures[kind].get("lost", 0)
        top, width = 26 * index, 240.0
        # Less than two pixels cannot be seen.
        bad = max(2.0, width * lost / (received + lost)) if lost else 0.0
        rows += [
            el("text", KINDS[kind], x=0, y=top + 10),
            el("text", f"{received} received, {lost} lost", x=240, y=top + 10, text_anchor="end"),
            el("rect", x=0, y=top + 15, width=240, height=5, rx=2.5, class_="track"),
        ]
        if received:
            rows.append(el("rect", x=0, y=top + 15, width=f"{width - bad:.1f}", height=5, rx=2.5, class_=kind))
        if bad:
            rows.append(el("rect", x=f"{width - bad:.1f}", y=top + 15, width=f"{bad:.1f}", height=5, class_="lost"))
    view = f"0 0 240 {26 * len(kinds) - 4}"
    return el("svg", *rows, class_="plot", viewBox=view, role="img", aria_label="received and lost packets")


def curves(series: Sequence[Mapping[str, Any]]) -> Html:
    """Return a picture of the packets over time: a line for sound, a dashed one for the picture."""
    points = [item for item in series if item.get("t") is not None]
    start, end = min((item["t"] for item in points), default=0), max((item["t"] for item in points), default=0)
    top = max((item.get(kind) or 0 for item in points for kind in KINDS), default=0)
    parts = [el("line", x1=0, y1=70, x2=240, y2=70), el("line", x1=0, y1=14, x2=240, y2=14, stroke_dasharray="2 3")]
    for kind in KINDS:
        there = [item for item in points if item.get(kind) is not None]
        drawn = [
            f"{240 * (item['t'] - start) / ((end - start) or 1):.1f},{70 - 56 * max(0, item[kind]) / (top or 1):.1f}"
            for item in there
        ]
        if drawn:
            parts.append(el("polyline", points=" ".join(drawn), class_=kind))
    parts += [
        el("text", f"{top:g} packets", x=0, y=10),
        el("text", "0 s", x=0, y=83),
        el("text", f"{end - start:.1f} s", x=240, y=83, text_anchor="end"),
        el("text", "\u2014 sound  \u2013 \u2013 picture", x=240, y=10, text_anchor="end"),
    ]
    return el("svg", *parts, class_="plot", viewBox="0 0 240 86", role="img", aria_label="packets over time")
