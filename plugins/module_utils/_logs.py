# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The logs of the five programs: parse, choose, mask, and lay out. Pure.

A line is what `docker logs --timestamps` prints: an RFC 3339 time in UTC with nine digits of a second, a space, and the
program's own line. The shapes below were recorded from the running programs (NATS 2.15, Janus 1.4, coturn 4.18,
signaling server 2.0 and 2.1, Traefik 3.7).
"""

from __future__ import annotations

import base64
import datetime
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, quote_plus, urlsplit

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _files, _ordinary

ERROR, WARNING, INFO = "error", "warning", "info"
LONGEST = 240
ALIKE = 100
SHORTEST_SECRET = 8

_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+)Z ?(.*)", re.DOTALL)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# Lines that a program writes in one go reach Docker within this time.
_TOGETHER = datetime.timedelta(milliseconds=2)

# For each program: how its lines begin (what stands before the text is cut off), and the word for the level in it.
_SHAPES = {
    "nats": re.compile(r"\[\d+\] \d{4}/\d\d/\d\d [\d:.]+ \[(?P<level>[A-Z]{3})\] "),
    "janus": re.compile(r"\[[A-Z][a-z]{2} [A-Z][a-z]{2} +\d+ [\d:]+ \d{4}\] (?:\[(?P<level>FATAL|ERR|WARN)\] )?"),
    "coturn": re.compile(
        r"(?:\d{4}-\d\d-\d\dT\S+|\d+): ?(?:\(\S+\): )?(?P<level>[A-Z]+):? |\d{4}-\S+ (?P<word>[A-Z]+) "
    ),
    "signalling": re.compile(r"(?:\d{4}/\d\d/\d\d [\d:.]+ )?(?=[\w.-]+\.go:\d+: )"),
    "traefik": re.compile(r"\d{4}-\d\d-\d\dT[\d:.+-]+Z? (?P<level>[A-Z]{3}) "),
}
_SHAPES["coturn443"] = _SHAPES["coturn"]
_LEVELS = {
    **dict.fromkeys(["ERR", "ERROR", "FTL", "FATAL", "PNC", "CRITICAL"], ERROR),
    **dict.fromkeys(["WRN", "WARN", "WARNING"], WARNING),
}

# The signaling server has no levels (strukturag/nextcloud-spreed-signaling logs everything alike); its words say it.
_WORDS = re.compile(
    r"\berror (?=\w)|\b(could not|cannot|can't|failed|invalid|denied|refused|incomplete|panic|fatal|bruteforce|"
    r"too many|ending the server|timed out|i/o timeout)\b",
    re.IGNORECASE,
)
# TURN asks every client for a credential with 401 and for a fresh nonce with 438 (RFC 8656): no fault.
_REFUSED = re.compile(r"error (?!401|438)[3-6]\d\d\b|Cannot find credentials|ban[ns]?ed")

_AUTHORIZATION = re.compile(r"(?i)\b((?:basic|bearer)\s+)[A-Za-z0-9+/=._~-]{6,}")
_RUN = re.compile(r"[A-Za-z0-9+/_-]{32,}={0,2}")
_PASSWORD_IN_URL = re.compile(r"(://[^/\s:@]*:)[^/\s@]+(?=@)")


@dataclass(frozen=True)
class Entry:
    """One line of a log; count: how often its like stood there; then `time` is that of the last one."""

    time: str
    container: str
    level: str
    text: str
    count: int = 1


def parse(container: str, output: str) -> list[Entry]:
    """Return the entries in what docker logs --timestamps printed, in order of time.

    A line without the shape of its program continues the one before when both were written together. What is written
    although all is well (`_ordinary`) is no error and no warning.
    """
    stamped = [match.groups() for line in output.split("\n") if (match := _STAMP.match(line))]
    found: list[Entry] = []
    last = ""
    for time, raw in sorted(stamped, key=lambda pair: pair[0]):
        text = _COLOUR.sub("", raw).rstrip()
        shape = _SHAPES[container].match(text) if container in _SHAPES else None
        if shape is None and found and _moment(time) - _moment(last) <= _TOGETHER:
            found[-1] = replace(found[-1], text=f"{found[-1].text} {text.strip()}".rstrip())
        elif text:
            words = [word for word in (shape.groupdict().values() if shape else ()) if word]
            body = text[shape.end() :] if shape else text
            found.append(Entry(time, container, _level(container, words, body), body))
        last = time
    usual = _ordinary.ordinary(container, [entry.text for entry in found])
    return [replace(entry, level=INFO) if known else entry for entry, known in zip(found, usual)]


def behind_the_stamp(container: str, line: str) -> str:
    """Return what a program says in a line of its own: without colours, time and level."""
    text = _COLOUR.sub("", line).strip()
    shape = _SHAPES[container].match(text) if container in _SHAPES else None
    return text[shape.end() :] if shape else text


def _moment(time: str) -> datetime.datetime:
    return datetime.datetime.strptime(time[:26], "%Y-%m-%dT%H:%M:%S.%f")


def _level(container: str, words: Sequence[str], text: str) -> str:
    """Return the level that the program names, or what its words amount to."""
    named = _LEVELS.get(words[0], INFO) if words else INFO
    if named != INFO:
        return named
    if container in ("coturn", "coturn443"):
        return WARNING if _REFUSED.search(text) else INFO
    if container == "signalling":
        if re.match(r"\S+\.go:\d+: WARNING", text):
            return WARNING
        return ERROR if _WORDS.search(text) else INFO
    return ERROR if not words and re.search(r"\b(fatal|panic|error)\b", text, re.IGNORECASE) else INFO


def names(instance: Mapping[str, Any]) -> re.Pattern[str]:
    """Return what finds an instance {"id", "urls"} in a line: its id as a word, its URLs and their hosts."""
    parts = [re.escape(str(instance["id"]))]
    parts += [re.escape(host) for url in instance.get("urls") or [] if (host := urlsplit(url).hostname)]
    return re.compile(rf"(?<![\w.-])(?:{'|'.join(parts)})(?![\w-]|\.\w)", re.IGNORECASE)


def choose(
    entries: Iterable[Entry],
    *,
    lines: int,
    instances: Iterable[Mapping[str, Any]] = (),
    others: Iterable[Mapping[str, Any]] = (),
    everything: bool = False,
) -> list[Entry]:
    """Return at most `lines` entries in order of time, the last ones.

    Errors and warnings; with instances, those that name none of the others unless they name one of these too, and what
    else names one of these, as far as errors and warnings leave room. Entries whose beginnings differ in long numbers
    and identifiers only become one.
    """
    ours = [names(instance) for instance in instances]
    theirs = [names(other) for other in others]
    first: list[Entry] = []
    second: list[Entry] = []
    for entry in entries:
        mine = any(one.search(entry.text) for one in ours)
        foreign = bool(ours) and not mine and any(other.search(entry.text) for other in theirs)
        if everything or (entry.level != INFO and not foreign):
            first.append(entry)
        elif mine:
            second.append(entry)
    chosen = (first if everything else _collapse(first))[-lines:]
    room = lines - len(chosen)
    return sorted(chosen + (_collapse(second)[-room:] if room else []), key=lambda entry: entry.time)


def _collapse(entries: Iterable[Entry]) -> list[Entry]:
    kept: dict[tuple[str, str, str], Entry] = {}
    for entry in sorted(entries, key=lambda entry: entry.time):
        key = (entry.container, entry.level, re.sub(r"[\w=-]{20,}|0x[0-9a-f]+|\d{4,}", "#", entry.text)[:ALIKE])
        before = kept.pop(key, None)
        kept[key] = replace(entry, count=before.count + 1 if before else 1)
    return list(kept.values())


def secrets_in(document: Any) -> list[str]:
    """Return every text in a parsed secrets file that is long enough to be a secret and no address."""
    if isinstance(document, Mapping):
        return [value for item in document.values() for value in secrets_in(item)]
    if isinstance(document, list):
        return [value for item in document for value in secrets_in(item)]
    secret = isinstance(document, str) and len(document) >= 16 and not document.startswith("https://")
    return [document] if secret else []


class Mask:
    """Hides secrets, however a log spells them: plain, in a URL, in base64 alone or behind a user's name."""

    def __init__(self, secrets: Iterable[str]) -> None:
        spelt: set[str] = set()
        inside: set[str] = set()
        for secret in {value for value in secrets if len(value) >= SHORTEST_SECRET}:
            spelt |= {secret, quote(secret, safe=""), quote_plus(secret), quote(secret)}
            inside |= set(_in_base64(secret))
        self._spelt = sorted(spelt, key=len, reverse=True)
        parts = "|".join(re.escape(core) for core in sorted(inside, key=len, reverse=True))
        self._inside = re.compile(rf"[A-Za-z0-9+/_-]*(?:{parts})[A-Za-z0-9+/=_-]*") if inside else None

    def __call__(self, text: str) -> str:
        """Return `text` without secrets, and without what could be one: a long run of letters and digits."""
        for value in self._spelt:
            text = re.sub(re.escape(value), _files.MASK, text, flags=re.IGNORECASE if "%" in value else 0)
        if self._inside:
            text = self._inside.sub(_files.MASK, text)
        text = _AUTHORIZATION.sub(rf"\1{_files.MASK}", text)
        text = _PASSWORD_IN_URL.sub(rf"\1{_files.MASK}", text)
        return _RUN.sub(_hidden, text)


def _hidden(match: re.Match[str]) -> str:
    """Return a long run of base64's letters masked; of a path, which has no mixture of letters, its long parts."""
    run = match.group()
    if all(re.search(kind, run) for kind in ("[A-Z]", "[a-z]", "[0-9]")):
        return _files.MASK
    return "/".join(_files.MASK if len(part) >= 32 else part for part in run.split("/"))


def _in_base64(secret: str) -> Iterable[str]:
    """Yield what base64 makes of a secret behind 0, 1 or 2 other bytes, without the letters that these share."""
    for before, cut in enumerate((0, 2, 3)):
        data = bytes(before) + secret.encode()
        letters = base64.b64encode(data).decode().rstrip("=")
        core = letters[cut : len(letters) - (1 if len(data) % 3 else 0)]
        yield core
        yield core.replace("+", "-").replace("/", "_")


def shown(entry: Entry) -> str:
    """Return an entry as a line of the terminal's table."""
    text = re.sub(r"\s+", " ", entry.text)
    text = text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
    often = f" ({entry.count} times)" if entry.count > 1 else ""
    return f"{entry.time[5:10]} {entry.time[11:19]}  {entry.container:<10}  {entry.level:<7}  {text}{often}"
