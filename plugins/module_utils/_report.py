# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a verification as one document of plain data, which docs/report.md describes. No input or output.

What is in the document is named here, key by key; everything else stays outside. So a new field of the probe, or of
somebody else's answer, cannot carry into a report what nobody looked at. The one exception are numbers among the
figures of a step: a number tells no secret.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _versions

SCHEMA_VERSION = 1
ALL = "all"
OK, FAILED, WARNING, SKIPPED, NOT_CHECKED = "ok", "failed", "warning", "skipped", "not_checked"
HIDDEN = "********"
# Shorter values would be found in words that are no secret.
SHORTEST_SECRET = 16
# A key that holds a number; longer ones may be anything.
NUMBER_KEY = re.compile(r"[a-z][a-z0-9_]{0,31}")


class ReportError(Exception):
    """The report cannot be made; the message is for the user."""


# --- what is taken over -------------------------------------------------------------------------------------------

Taker = Callable[[Any], Any]


def text(value: Any) -> str:
    """Take a text; what is none becomes empty."""
    return f"{value}" if isinstance(value, str) else ""


def number(value: Any) -> int | float | None:
    """Take a number; what is none, or cannot be written as JSON, becomes None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return value


def count(value: Any) -> int:
    """Take a whole number of at least 0, also as text; what is none becomes 0."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value)
    found = number(value)
    return max(0, int(found)) if found is not None else 0


def count_or_none(value: Any) -> int | None:
    """Take a whole number of at least 1; what is none becomes None."""
    return count(value) or None


def true(value: Any) -> bool:
    """Take a truth value; what is none becomes false."""
    return value is True


def one_of(*words: str) -> Taker:
    """Take one of the words; anything else becomes the last of them."""
    return lambda value: value if value in words else words[-1]


def items(take: Taker) -> Taker:
    """Take a list, each element by `take`; one of which nothing is left is left out."""
    return lambda value: [taken for item in value if (taken := take(item)) is not None] if _is_list(value) else []


def table(take: Taker) -> Taker:
    """Take a mapping of texts, each value by `take`."""
    return lambda value: {text(key): take(item) for key, item in value.items()} if isinstance(value, Mapping) else {}


def shape(**keys: Taker) -> Taker:
    """Take a mapping with exactly these keys; those that are missing get the taker's answer to None."""
    return lambda value: {key: take(_key(value, key)) for key, take in keys.items()}


def some(**keys: Taker) -> Taker:
    """Take those of the keys that a mapping has; None for what is no mapping."""

    def taken(value: Any) -> dict[str, Any] | None:
        if not isinstance(value, Mapping):
            return None
        found = {key: take(value[key]) for key, take in keys.items() if value.get(key) is not None}
        return {key: item for key, item in found.items() if item is not None}

    return taken


def _key(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, Mapping) else None


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


CANDIDATE = some(type=text, protocol=text, address=text, port=count)
PAIR = some(local=CANDIDATE, remote=CANDIDATE)
MEDIA = some(received=count, lost=count, frames=count)
FIGURES = {
    "audio": MEDIA,
    "video": MEDIA,
    "pair": PAIR,
    "publisher_pair": PAIR,
    "missing": items(text),
    "series": items(some(t=number, audio=number, video=number)),
    "version": text,
    "features": items(text),
    "talk_version": text,
    "missing_required": items(text),
    "missing_optional": items(text),
    "statuses": table(count),
    "ice": text,
    "connection": text,
    "local": items(text),
    "remote": items(text),
    "turn": some(server=text, allocate=text, bind=text, peer=text),
    "data": text,
    "family": text,
    "side": text,
    "other": text,
    "learnt": items(text),
    "browser": text,
    "codec": text,
    "held_back": text,
    "relay_protocol": text,
}


def figures(value: Any) -> dict[str, Any]:
    """Take the figures of a step: those that are known, and whatever else is a number or a mapping of numbers."""
    if not isinstance(value, Mapping):
        return {}
    found = {}
    for key, item in value.items():
        taken = FIGURES[key](item) if key in FIGURES else _numbers(key, item)
        if taken is not None:
            found[text(key)] = taken
    return found


def _numbers(key: Any, value: Any) -> Any:
    if not isinstance(key, str) or not NUMBER_KEY.fullmatch(key):
        return None
    if isinstance(value, bool):
        return value
    if isinstance(value, Mapping):
        inner = {f"{name}": _numbers(name, item) for name, item in value.items()}
        return {name: item for name, item in inner.items() if item is not None} or None
    return number(value)


STEP = shape(
    step=text,
    name=text,
    status=one_of(OK, FAILED, SKIPPED, WARNING),
    seen=text,
    cause=text,
    remedy=text,
    figures=figures,
)
FINDING = shape(instance=text, step=text, what=text, why=text, mend=text, seen=text, status=one_of(WARNING, FAILED))
CHECK = shape(available=true, ok=true, sentence=text)
INSTANCE = shape(
    id=text,
    url=text,
    verdict=one_of(OK, FAILED, WARNING, NOT_CHECKED),
    register=true,
    optional=true,
    session_limit=count,
    stream_bitrate=count_or_none,
    screen_bitrate=count_or_none,
    nextcloud_version=text,
    talk_version=text,
    check=CHECK,
    steps=items(STEP),
    findings=items(FINDING),
)
BACKEND = shape(
    url=text,
    turn_server=text,
    verdict=one_of(OK, FAILED, WARNING, NOT_CHECKED),
    versions=table(text),
    features=items(text),
    steps=items(STEP),
)
DOCUMENT = shape(
    schema_version=count,
    time=text,
    seconds=number,
    verdict=one_of(OK, FAILED, NOT_CHECKED),
    backend=BACKEND,
    instances=items(INSTANCE),
    findings=items(FINDING),
)


def known(document: Any) -> dict[str, Any]:
    """Return a document with the keys of this version and no others. Raises `ReportError` for another version's."""
    version = _key(document, "schema_version")
    if version != SCHEMA_VERSION:
        raise ReportError(
            f"The report has the schema_version {version!r}, expected {SCHEMA_VERSION}: give what the filter report "
            "or a report.json of this collection holds."
        )
    return DOCUMENT(document)


# --- the document -------------------------------------------------------------------------------------------------


def verdict(steps: Sequence[Mapping[str, Any]], check_ok: bool = True) -> str:
    """Return what steps come to; skipped ones alone say nothing."""
    states = {step["status"] for step in steps}
    if FAILED in states or not check_ok:
        return FAILED
    if WARNING in states:
        return WARNING
    return OK if OK in states else NOT_CHECKED


def document(
    instances: Sequence[Mapping[str, Any]],
    seen: Mapping[str, Mapping[str, Any]],
    result: Mapping[str, Any],
    *,
    findings: Sequence[Mapping[str, Any]],
    versions: Mapping[str, str],
    time: str,
    url: str,
    turn_server: str,
    hide: Any = None,
) -> dict[str, Any]:
    """Return the report of one run.

    instances: what the filter `backends` returns. seen: {id: {"nextcloud", "talk" (versions), "check" (what the module
    talk_check returns)}}, of which anything may be missing. result: what the module call_probe returns, {} when no call
    was placed. findings: [{"instance", "step", "what", "why", "mend", "seen"}]. versions: {program: version}. time: in
    UTC as YYYY-MM-DDThh:mm:ssZ. hide: anything that holds secrets; none of its texts is in the report.
    """
    rows = result.get("results") or []
    steps: dict[str, list[Any]] = {}
    for row in rows:
        steps.setdefault(row["instance"], []).append(STEP(row))
    ids = {instance["id"] for instance in instances}
    described = [_instance(item, seen.get(item["id"], {}), steps.get(item["id"], []), findings) for item in instances]
    server = steps.get(ALL, [])
    answered = {"signalling": _versions.named(result["version"])} if result.get("version") else {}
    states = {verdict(server), *(item["verdict"] for item in described)}
    overall = FAILED if FAILED in states else OK if rows else NOT_CHECKED
    made = DOCUMENT(
        {
            "schema_version": SCHEMA_VERSION,
            "time": time,
            "seconds": result.get("seconds"),
            "verdict": overall,
            "backend": {
                "url": url,
                "turn_server": turn_server,
                "verdict": verdict(server),
                "versions": {**versions, **answered},
                "features": result.get("features"),
                "steps": server,
            },
            "instances": described,
            "findings": [item for item in findings if item.get("instance") not in ids],
        }
    )
    return _without(made, secrets_in(hide))


def _instance(
    instance: Mapping[str, Any],
    seen: Mapping[str, Any],
    steps: Sequence[Mapping[str, Any]],
    findings: Iterable[Mapping[str, Any]],
) -> dict[str, Any]:
    check = seen.get("check") or {"available": False, "ok": True}
    own = [item for item in findings if item.get("instance") == instance["id"]]
    found = verdict(steps, check.get("ok") is not False)
    return {
        **instance,
        "verdict": WARNING if found == OK and WARNING in {item.get("status") for item in own} else found,
        "nextcloud_version": seen.get("nextcloud"),
        "talk_version": seen.get("talk"),
        "check": check,
        "steps": steps,
        "findings": own,
    }


def secrets_in(value: Any) -> list[str]:
    """Return the texts in any structure that are long enough to be secrets, the longest first.

    What stands under the key `url` is none: the module secrets returns it beside an instance's secrets.
    """
    found: set[str] = set()

    def collect(item: Any) -> None:
        if isinstance(item, str):
            found.update({f"{item}"} if len(item) >= SHORTEST_SECRET else set())
        elif isinstance(item, Mapping):
            for key, inner in item.items():
                if key != "url":
                    collect(inner)
        elif _is_list(item):
            for inner in item:
                collect(inner)

    collect(value)
    return sorted(found, key=lambda item: (-len(item), item))


def _without(value: Any, secrets: Sequence[str]) -> Any:
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, HIDDEN)
        return value
    if isinstance(value, Mapping):
        return {_without(key, secrets): _without(item, secrets) for key, item in value.items()}
    if _is_list(value):
        return [_without(item, secrets) for item in value]
    return value


# --- what the renderers share -------------------------------------------------------------------------------------


def is_call(step: Mapping[str, Any]) -> bool:
    """Whether a step is a call: one of the paths, or anything that counted media."""
    name = step["step"]
    named = name in ("direct", "screen", "browser") or name.startswith(("direct-", "turn-", "browser-"))
    return named or bool({"audio", "video"} & set(step["figures"]))


def problems(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return what is wrong and how to mend it, for people, each once: {"place", "status", "cause", "remedy"}.

    A finding that explains a failed step stands in the place of that step's own cause.
    """
    found: dict[tuple[str, str, str], dict[str, str]] = {}

    def note(place: str, status: str, cause: str, remedy: str) -> None:
        known_one = found.setdefault(
            (place, cause, remedy), {"place": place, "status": status, "cause": cause, "remedy": remedy}
        )
        if status == FAILED:
            known_one["status"] = FAILED

    server = {"id": ALL, "steps": report["backend"]["steps"], "findings": report["findings"], "check": {"ok": True}}
    for item in (server, *report["instances"]):
        place = "backend" if item["id"] == ALL else item["id"]
        explained = {step for finding in item["findings"] for step in re.split(r"[,\s]+", finding["step"]) if step}
        for step in item["steps"]:
            if step["status"] in (FAILED, WARNING) and step["step"] not in explained:
                note(place, step["status"], step["cause"] or step["seen"], step["remedy"])
        states = {step["step"]: step["status"] for step in item["steps"]}
        for finding in item["findings"]:
            about = {states.get(step, FAILED) for step in re.split(r"[,\s]+", finding["step"])}
            owner = finding["instance"] if item["id"] == ALL and finding["instance"] not in ("", ALL) else place
            status = FAILED if FAILED in about and finding["status"] == FAILED else WARNING
            note(owner, status, " ".join(part for part in (finding["what"], finding["why"]) if part), finding["mend"])
        if not item["check"]["ok"]:
            note(place, FAILED, f"Talk's own check: {item['check']['sentence']}", "")
    return sorted(found.values(), key=lambda problem: problem["status"] != FAILED)
