# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What makes a backend the same one on another host: some of its files, as one text and back.

The document is `{"format": FORMAT, "version": 1, "domain": name, "directories": [entry], "files": [entry]}`. An entry
has `path` (relative to the base directory, "." is that itself), `mode`, `uid`, `gid` (integers), a file also `content`
(base64). Nothing is reached through a symbolic link.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _files, _secrets

FORMAT = "nextcloud_talk.hpb.state"
VERSION = 1
SECRETS = "secrets/secrets.json"

REFUSE, KEEP, REPLACE = "refuse", "keep", "replace"
"""What happens to a file that is there with another content. `keep` still refuses other secrets."""


class StateError(Exception):
    """The state cannot be read or written; the text is a whole sentence for the user and holds no secret."""


class DamagedError(Exception):
    """The text is no state; what it is instead, as the end of a sentence."""


@dataclass
class Plan:
    """What is to be done: directories and files (entries of a document) to write or to correct, in words."""

    directories: list[dict[str, Any]] = field(default_factory=list)
    write: list[dict[str, Any]] = field(default_factory=list)
    adjust: list[dict[str, Any]] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)

    @property
    def actions(self) -> list[str]:
        """What is to be done, without a secret."""
        return (
            [f"make or correct the directory {entry['path']}" for entry in self.directories]
            + [f"write {entry['path']}" for entry in self.write]
            + [f"set owner and mode of {entry['path']}" for entry in self.adjust]
        )


@contextmanager
def opened(base: str, path: str) -> Iterator[int]:
    """Open the directory `path` below `base` for the block, each part of it without following a link."""
    with ExitStack() as stack:
        fd = stack.enter_context(_files.directory(base))
        for part in [part for part in path.split("/") if part not in {"", "."}]:
            fd = stack.enter_context(_files.directory(part, fd))
        yield fd


def _entry(path: str, status: os.stat_result) -> dict[str, Any]:
    return {"path": path, "mode": stat.S_IMODE(status.st_mode), "uid": status.st_uid, "gid": status.st_gid}


def _parents(path: str) -> list[str]:
    """Return the directories above `path`, the base itself first."""
    parts = path.split("/")[:-1]
    return [".", *("/".join(parts[: index + 1]) for index in range(len(parts)))]


def collect(base: str, paths: Iterable[str], domain: str) -> dict[str, Any]:
    """Return the document of those of `paths` (files, or directories with all that is in them) that are there.

    Temporary files of a run that was killed are left out. Raises StateError for what is neither file nor directory.
    """
    directories: dict[str, dict[str, Any]] = {}
    files: list[dict[str, Any]] = []

    def visit(path: str) -> None:
        head, _slash, name = path.rpartition("/")
        try:
            with opened(base, head) as fd:
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    content = base64.b64encode(_files.read(fd, name)).decode("ascii")
                    files.append({**_entry(path, status), "content": content})
                    children = []
                elif stat.S_ISDIR(status.st_mode):
                    directories[path] = _entry(path, status)
                    with _files.directory(name, fd) as inside:
                        children = sorted(entry.name for entry in os.scandir(inside))
                else:
                    raise StateError(
                        f"{base}/{path} is a link or a special file, expected a file or a directory of the backend: "
                        f"move it away, then run this again."
                    )
        except FileNotFoundError:
            return
        for above in _parents(path):
            if above not in directories:
                where = Path(base) if above == "." else Path(base, above)
                directories[above] = _entry(above, where.lstat())
        for child in children:
            if not _files.is_temporary(child):
                visit(f"{path}/{child}")

    for path in paths:
        visit(path)
    return {
        "format": FORMAT,
        "version": VERSION,
        "domain": domain,
        "directories": sorted(directories.values(), key=lambda entry: entry["path"]),
        "files": sorted(files, key=lambda entry: entry["path"]),
    }


def dump(document: dict[str, Any]) -> str:
    """Return the text of a document, the same for the same state."""
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def _is_count(value: Any) -> bool:
    """Whether this is a whole number from 0; JSON's true is none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _fault(document: dict[str, Any], paths: Iterable[str]) -> str | None:
    """Return what is wrong with a document, as the end of a sentence, or None."""
    allowed = {*paths}
    above = {parent for path in allowed for parent in _parents(path)}
    if not isinstance(document.get("domain"), str):
        return "it does not say of which backend it is"
    for kind in ("directories", "files"):
        entries = document.get(kind)
        if not isinstance(entries, list):
            return f"its {kind} were expected to be a list and are not"
        for entry in entries:
            whole = isinstance(entry, dict) and isinstance(entry.get("path"), str)
            if not whole or not all(_is_count(entry.get(key)) for key in ("mode", "uid", "gid")):
                return f"one of its {kind} is incomplete"
            path = entry["path"]
            parts = path.split("/")
            known = any(path == one or path.startswith(f"{one}/") for one in allowed)
            if not (known or (kind == "directories" and path in above)) or {"..", ""} & {*parts}:
                return f"it names {json.dumps(path)[:80]}, which is no part of a backend's state"
            if entry["mode"] & 0o7022:
                return f"it gives {json.dumps(path)[:80]} the mode {entry['mode']:04o}, which others could write"
            if kind == "files":
                try:
                    base64.b64decode(entry.get("content"), validate=True)
                except (TypeError, ValueError, binascii.Error):
                    return f"the content of {json.dumps(path)[:80]} cannot be read"
    return None


def content(entry: dict[str, Any]) -> bytes:
    """Return the content of a file's entry."""
    return base64.b64decode(entry["content"])


def secrets_in(document: dict[str, Any]) -> dict[str, Any]:
    """Return the secrets in a document; raises DamagedError without usable ones."""
    for entry in document["files"]:
        if entry["path"] == SECRETS:
            try:
                return _secrets.parse(content(entry).decode("utf-8"))
            except UnicodeDecodeError as error:
                raise DamagedError("its secrets are no text") from error
            except _secrets.DamagedError as error:
                raise DamagedError(f"its secrets cannot be used: {error}") from error
    raise DamagedError("it holds no secrets")


def parse(text: str, paths: Iterable[str]) -> dict[str, Any]:
    """Return the document that `text` holds; only `paths` may be in it. Raises DamagedError with the reason."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise DamagedError("it is no backup of a backend (no JSON)") from error
    if isinstance(document, dict) and "session_hash_key" in document:
        raise DamagedError("it holds the secrets alone: bring it back with the playbook secrets, -e import=FILE")
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise DamagedError("it is no backup of a backend")
    if document.get("version") != VERSION:
        raise DamagedError(f"version {VERSION} was expected and {json.dumps(document.get('version'))[:20]} was found")
    reason = _fault(document, list(paths))
    if reason:
        raise DamagedError(reason)
    secrets_in(document)
    return document


def _order(entry: dict[str, Any]) -> tuple[bool, bool, str]:
    # The secrets first, since a run that is cut off must leave them; what is remembered last, as it says "deployed".
    return (entry["path"] != SECRETS, entry["path"] == "deployed.json", entry["path"])


def _attributes(entry: dict[str, Any]) -> tuple[int, int, int]:
    return entry["mode"], entry["uid"], entry["gid"]


def plan(current: dict[str, Any], wanted: dict[str, Any]) -> Plan:
    """Return the way from the document of what is there to the wanted one; what only `current` has stays."""
    steps = Plan()
    directories = {entry["path"]: entry for entry in current["directories"]}
    files = {entry["path"]: entry for entry in current["files"]}
    for entry in wanted["directories"]:
        found = directories.get(entry["path"])
        if found is None or _attributes(found) != _attributes(entry):
            steps.directories.append(entry)
    for entry in sorted(wanted["files"], key=_order):
        found = files.get(entry["path"])
        if found is None or found["content"] != entry["content"]:
            steps.write.append(entry)
            if found is not None:
                steps.differing.append(entry["path"])
        elif _attributes(found) != _attributes(entry):
            steps.adjust.append(entry)
    return steps


def settle(steps: Plan, current: dict[str, Any], wanted: dict[str, Any], existing: str, base: str) -> Plan:
    """Return the plan with what `existing` says of files that differ; raises StateError for what is refused."""
    if existing == REPLACE or not steps.differing:
        return steps
    if existing == KEEP and SECRETS not in steps.differing:
        steps.write = [entry for entry in steps.write if entry["path"] not in steps.differing]
        return steps
    named = [path for path in steps.differing if path != SECRETS]
    if SECRETS in steps.differing:
        try:
            names = _secrets.differing(secrets_in(current), secrets_in(wanted))
        except DamagedError:
            names = []
        named.insert(0, f"{SECRETS} ({', '.join(names) if names else 'damaged, or in another form'})")
    raise StateError(
        f"{base} on this host has files that differ from those that were to be brought back: {', '.join(named)}; "
        f"nothing was changed. To put those in their place, run again with -e replace=true."
    )


def apply(base: str, steps: Plan) -> None:
    """Carry the plan out: each file is replaced as a whole, with its mode and its owner."""
    for entry in steps.directories:
        path = entry["path"]
        if path == ".":
            _files.make_directories(base)
            with _files.directory(base) as fd:
                _files.adjust(fd, ".", *_attributes(entry))
            continue
        head, _slash, name = path.rpartition("/")
        with opened(base, head) as fd:
            with suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=fd)
            with _files.directory(name, fd) as inside:
                _files.adjust(inside, ".", *_attributes(entry))
    for entry in steps.write:
        head, _slash, name = entry["path"].rpartition("/")
        with opened(base, head) as fd:
            _files.write(fd, name, content(entry), mode=entry["mode"], uid=entry["uid"], gid=entry["gid"])
    for entry in steps.adjust:
        head, _slash, name = entry["path"].rpartition("/")
        with opened(base, head) as fd:
            _files.adjust(fd, name, *_attributes(entry))


def surplus(names: Iterable[str], keep: int) -> list[str]:
    """Return which of the copies go: all but the newest `keep`, and what a killed run has left half done.

    The names of copies are UTC times as `20260102T030405Z`, so that they sort by age. Other names are not ours.
    """
    copies, halves = [], []
    for name in names:
        stamp = name[1:-4] if _files.is_temporary(name) else name
        if len(stamp) == 16 and stamp[8] == "T" and stamp[15] == "Z" and (stamp[:8] + stamp[9:15]).isdecimal():
            (copies if stamp == name else halves).append(name)
    return sorted(halves) + sorted(copies)[: max(len(copies) - keep, 0)]
