# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""With what each container was deployed, and how it was found when that had come to its end.

`containers.json` beside the directories of all containers holds the digest of the settings of the backend (`settings`),
and under `containers` for each name

    wanted  digest of everything that the role was given, and of how a container is made of it
    found   digest of the container as the engine describes it, of the image that has its name now, and of its files

While a container has both digests, there is nothing to do for it and nobody need look closer; one that somebody
changed by hand, a limit or a file of its configuration, has another second one.

The record is true as a whole or is not there: whoever is about to change a container writes the name of its run in its
place first (`forget`), and a run that came to its end writes the record, unless another one was changing things
meanwhile (`end`): of two at once neither knows what the other has left, so the next one looks at everything.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _reload

NAME = "containers.json"

# What an engine says of a container that is not about this moment.
LASTING = ("Id", "Image", "Name", "Path", "Args", "Config", "HostConfig")


def inspect(run: _reload.Run, names: Iterable[str]) -> list[dict[str, Any]]:
    """Return what ``docker container inspect`` says of the containers that are there."""
    _code, out, _err = run(["docker", "container", "inspect", *names])
    try:
        return json.loads(out or "[]")
    except ValueError:
        return []


def name_of(entry: Mapping[str, Any]) -> str:
    """Return the name of a container that was inspected."""
    return str(entry.get("Name", "")).lstrip("/")


def image_of(entry: Mapping[str, Any]) -> str:
    """Return the name of its image."""
    return str((entry.get("Config") or {}).get("Image") or "")


def healthy(entry: Mapping[str, Any]) -> bool:
    """Whether it runs and is healthy; one without a health check is not known to be."""
    state = entry.get("State") or {}
    return bool(state.get("Running")) and (state.get("Health") or {}).get("Status") == "healthy"


def _lasting(entry: Mapping[str, Any]) -> dict[str, Any]:
    networks = (entry.get("NetworkSettings") or {}).get("Networks") or {}
    return {
        **{key: entry.get(key) for key in LASTING},
        "Mounts": sorted(entry.get("Mounts") or [], key=lambda mount: str(mount.get("Destination"))),
        "Networks": {name: (one or {}).get("IPAMConfig") for name, one in networks.items()},
    }


def _file(path: Path) -> list[Any]:
    status = path.lstat()
    content = ""
    if stat.S_ISREG(status.st_mode):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
    elif stat.S_ISLNK(status.st_mode):
        content = str(path.readlink())
    return [stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, content]


def _files(directory: Path) -> dict[str, list[Any]]:
    config, marker = directory / "config", directory / "reloaded"
    paths = [path for path in (config, marker) if path.exists()]
    for parent, directories, names in os.walk(config):
        paths += [Path(parent, name) for name in (*directories, *names)]
    return {str(path.relative_to(directory)): _file(path) for path in paths}


def fingerprint(entry: Mapping[str, Any], image_id: str, directory: Path) -> str:
    """Return the digest of a container (as inspected), of the id that its image's name has now, and of its files."""
    seen = {"container": _lasting(entry), "image": image_id, "files": _files(directory)}
    return hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()


def fingerprints(run: _reload.Run, entries: Iterable[Mapping[str, Any]], base: Path) -> dict[str, str]:
    """Return the fingerprint of each healthy container by its name; {} when an image's name is gone."""
    sound = [entry for entry in entries if healthy(entry)]
    images = sorted({image_of(entry) for entry in sound})
    if not images:
        return {}
    code, out, _err = run(["docker", "image", "inspect", "--format", "{{.Id}}", *images])
    ids = dict(zip(images, out.split()))
    if code != 0 or len(ids) != len(images):
        return {}
    return {name_of(entry): fingerprint(entry, ids[image_of(entry)], base / name_of(entry)) for entry in sound}


def text(settings: str, containers: Mapping[str, Mapping[str, str]]) -> str:
    """Return the record as it is written."""
    return json.dumps({"settings": settings, "containers": containers}, indent=4, sort_keys=True) + "\n"


def parse(text_now: str) -> tuple[str, dict[str, dict[str, str]]]:
    """Return the settings and the containers of the record; ("", {}) when the file is none."""
    try:
        record = json.loads(text_now)
        settings, containers = str(record["settings"]), dict(record["containers"])
        whole = all({"wanted", "found"} <= set(one) for one in containers.values())
    except (ValueError, TypeError, KeyError):
        return "", {}
    return (settings, containers) if whole else ("", {})


def content(base: Path) -> str:
    """Return the file as it is, "" when there is none that can be read."""
    try:
        return (base / NAME).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def changing(text_now: str) -> str | None:
    """Return the run that is changing a container, "" when there were several; None when the file is no such note."""
    try:
        note = json.loads(text_now)
    except ValueError:
        return None
    return str(note["changing"]) if isinstance(note, dict) and "changing" in note else None


def _note(run: str) -> str:
    return json.dumps({"changing": run}) + "\n"


def forget(base: Path, run: str) -> None:
    """Put the name of a run in the place of the record, since that is about to change a container in `base`."""
    if not base.is_dir():
        return
    now = changing(content(base))
    if now == run:
        return
    temporary = base / f".{NAME}.new"
    temporary.unlink(missing_ok=True)
    try:
        temporary.touch(mode=0o600)
        temporary.write_text(_note(run if now is None else ""), encoding="utf-8")
        temporary.replace(base / NAME)
    except OSError:
        # On a full disk what was before must still be put back, and none is as good a note.
        temporary.unlink(missing_ok=True)
        (base / NAME).unlink(missing_ok=True)


def end(base: Path, run: str, before: str, record: str) -> str:
    """Return what the file is to be at the end of a run: the record, if no other run changed anything meanwhile.

    `before` is the digest of the file when the run began, see `digest`.
    """
    text_now = content(base)
    now = changing(text_now)
    if now == run or digest(text_now) == before:
        return record
    return text_now if now is None else _note("")


def digest(text_now: str) -> str:
    """Return the digest of the file."""
    return hashlib.sha256(text_now.encode()).hexdigest()


def settled(record: Mapping[str, Mapping[str, str]], found: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return what was recorded of those that are as they were found then."""
    return {name: dict(one) for name, one in record.items() if found.get(name) == one["found"]}


def renewed(
    digests: Mapping[str, str], before: Mapping[str, Mapping[str, str]], found: Mapping[str, str]
) -> dict[str, dict[str, str]]:
    """Return what to record of the containers that are found at the end of a run.

    Of those that it left alone, since `before` has the same digest of them or the run did not come to them at all, it
    is what was recorded before: what somebody changed by hand during the run was not deployed.
    """
    wanted = {name: one["wanted"] for name, one in before.items()} | dict(digests)
    fresh = {name: {"wanted": wanted[name], "found": one} for name, one in found.items()}
    return {name: before[name] if before.get(name, {}).get("wanted") == wanted[name] else fresh[name] for name in fresh}
