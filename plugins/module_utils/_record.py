# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""With what each container was deployed, and how it was found then.

`containers.json` beside the directories of all containers holds under `containers` for each service

    wanted  digest of everything that the role was given, and of how a container is made of it
    found   digest of the container as the engine describes it, of the image that has its name, and of its files, at
            the moment at which it was seen to be what is wanted

While a container has both digests, there is nothing to do for it and nobody need look closer. One that anybody has
changed since, by hand, by another run or by one that was killed, has another second one, whatever the record says; so
nobody need tell the record of a change.

What the host has beside its containers is not looked at like that. For it there are `settings`, the digest of the
settings of the backend with which a run came to its end, `shared`, that of the secrets which all instances share, and
`changing`, the run that has begun to change it (`begin`). The settings are known as long as no run has begun after the
one that wrote them, and the secrets are the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _ours, _reload

NAME = "containers.json"

# What an engine says of a container that is not about this moment.
LASTING = ("Id", "Image", "Name", "Path", "Args", "Config", "HostConfig")


def inspect(run: _reload.Run, names: Iterable[str]) -> list[dict[str, Any]]:
    """Return what ``docker container inspect`` says of the containers that are there."""
    _code, out, _err = run(["docker", "container", "inspect", *names])
    return _ours.entries(out)


def ours(run: _reload.Run, base: Path) -> dict[str, dict[str, Any]]:
    """Return our containers by service as inspected, whatever they are called: their configuration is below `base`.

    Those that are kept while a successor is tried are left out. Raises _reload.ReloadError when Docker does not answer.
    """
    label = f"label={_ours.LABEL}"
    code, out, err = run(["docker", "ps", "--all", "--quiet", "--no-trunc", "--filter", label])
    if code != 0:
        said = (err.strip().splitlines() or ["nothing"])[-1]
        raise _reload.ReloadError(
            f"Docker was expected to list the containers of the backend and said: {said}. Look at 'docker ps -a' on "
            f"this host, then run the same command again."
        )
    found = {}
    for entry in inspect(run, out.split()) if out.split() else []:
        one = _ours.Container.of(entry)
        if not one.kept and one.is_ours("", str(base / one.service)):
            found[one.service] = entry
    return found


def located(run: _reload.Run, directory: Path) -> tuple[str, str]:
    """Return name and id of our container whose directory this is; raises _reload.ReloadError when there is none."""
    entry = ours(run, directory.parent).get(directory.name)
    if entry is None:
        raise _reload.ReloadError(
            f"No container {directory.name} of the backend is on this host, expected one: run the playbook site."
        )
    return name_of(entry), str(entry.get("Id"))


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
    content = ""
    try:
        status = path.lstat()
        if stat.S_ISREG(status.st_mode):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        elif stat.S_ISLNK(status.st_mode):
            content = str(path.readlink())
    except FileNotFoundError:
        # Another run is writing just now.
        return []
    return [stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, content]


def _files(directory: Path) -> dict[str, list[Any]]:
    config, marker = directory / "config", directory / "reloaded"
    paths = [path for path in (config, marker) if path.exists()]
    for parent, directories, names in os.walk(config):
        paths += [Path(parent, name) for name in (*directories, *names)]
    return {str(path.relative_to(directory)): _file(path) for path in sorted(paths)}


def fingerprint(entry: Mapping[str, Any], image_id: str, directory: Path) -> str:
    """Return the digest of a container (as inspected), of the id that its image's name has now, and of its files."""
    seen = {"container": _lasting(entry), "image": image_id, "files": _files(directory)}
    return hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()


def fingerprints(run: _reload.Run, entries: Mapping[str, Mapping[str, Any]], base: Path) -> dict[str, str]:
    """Return the fingerprint of each healthy container by its service; {} when an image's name is gone.

    `entries` are containers of ours by their services, each with its directory in `base`.
    """
    sound = {service: entry for service, entry in entries.items() if healthy(entry)}
    images = sorted({image_of(entry) for entry in sound.values()})
    if not images:
        return {}
    code, out, _err = run(["docker", "image", "inspect", "--format", "{{.Id}}", *images])
    ids = dict(zip(images, out.split()))
    if code != 0 or len(ids) != len(images):
        return {}
    return {service: fingerprint(entry, ids[image_of(entry)], base / service) for service, entry in sound.items()}


def found(run: _reload.Run, name: str, directory: Path) -> str:
    """Return the fingerprint of the container NAME of `directory`, "" when it is not ours or not healthy."""
    service = directory.name
    ours = [one for one in inspect(run, [name]) if _ours.Container.of(one).is_ours(name, str(directory))]
    return fingerprints(run, {service: ours[0]} if ours else {}, directory.parent).get(service, "")


def parse(text_now: str) -> dict[str, Any]:
    """Return the record, an empty one when the file is none."""
    empty = {"settings": "", "shared": "", "changing": "", "containers": {}}
    try:
        record = json.loads(text_now)
    except (ValueError, RecursionError):
        return empty
    if not isinstance(record, dict):
        return empty
    words = {name: record[name] for name in ("settings", "shared", "changing") if isinstance(record.get(name), str)}
    containers = record.get("containers")
    whole = {
        name: one
        for name, one in (containers.items() if isinstance(containers, dict) else ())
        if isinstance(one, dict) and all(isinstance(one.get(key), str) for key in ("wanted", "found"))
    }
    return {**empty, **words, "containers": whole}


def content(base: Path) -> str:
    """Return the file as it is, "" when there is none that can be read."""
    try:
        return (base / NAME).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def shared(base: Path) -> str:
    """Return the digest of the secrets that all instances share, "" when there are none."""
    try:
        document = json.loads((base / "secrets" / "secrets.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    own = {name: value for name, value in document.items() if name != "instances"} if isinstance(document, dict) else {}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()


def settings(record: Mapping[str, Any], base: Path) -> str:
    """Return with which settings the host is as deployed, "" when that is not known for certain."""
    return record["settings"] if not record["changing"] and record["shared"] == shared(base) else ""


def text(record: Mapping[str, Any]) -> str:
    """Return the record as it is written."""
    return json.dumps(record, indent=4, sort_keys=True) + "\n"


def begin(base: Path, run: str) -> None:
    """Write down that a run is about to change what the host has beside its containers."""
    base.mkdir(mode=0o755, parents=True, exist_ok=True)
    record = {**parse(content(base)), "settings": "", "changing": run}
    temporary = base / f".{NAME}.new"
    temporary.unlink(missing_ok=True)
    try:
        temporary.touch(mode=0o600)
        temporary.write_text(text(record), encoding="utf-8")
        temporary.replace(base / NAME)
    except OSError:
        # On a full disk what was before must still be put back, and no record is as good.
        temporary.unlink(missing_ok=True)
        (base / NAME).unlink(missing_ok=True)


def ended(base: Path, run: str, digest: str, containers: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Return the record as it is to be at the end of a run with the settings `digest`.

    `containers` are those that it saw to be what is wanted. Those that it left alone, or that were not healthy, are as
    they were recorded. Of two runs that change the host at once with different settings none knows what it is like in
    the end: then the settings are not known.
    """
    record = parse(content(base))
    fresh = {name: dict(one) for name, one in containers.items() if one["found"]}
    known = {**record, "containers": {**record["containers"], **fresh}}
    if record["changing"] == run:
        return {**known, "settings": digest, "shared": shared(base), "changing": ""}
    if record["settings"] == digest:
        return known
    return {**known, "settings": "", "changing": ""}


def settled(record: Mapping[str, Mapping[str, str]], now: Mapping[str, str]) -> dict[str, str]:
    """Return with what those containers were deployed that are as they were found then, by name."""
    return {name: one["wanted"] for name, one in record.items() if now.get(name) == one["found"]}
