# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bundles: one tar archive with everything that a deployment without a network needs.

Its first member is manifest.json:
{format, release: what is in force as `_release.pins` returns it, architecture: as Docker names it (amd64), collection:
its version, images: [{part, name: repository:tag without a registry, ids: [sha256:...], member, sha256, size, notes}],
files: [{member, sha256, size}]}. The other members are the files that it names. Sizes are bytes.

`docker save` writes a tar archive, too; its manifest.json (docker/docker image/tarexport) names the image's
configuration, whose sha256 is the image's id, and the index.json of newer engines the digest that is the id where the
engine keeps images in containerd.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

FORMAT = 1
MANIFEST = "manifest.json"
LARGEST_MANIFEST = 1024 * 1024
SAFE_MEMBER = re.compile(r"(?:images|sources|collection)/[A-Za-z0-9_][A-Za-z0-9._-]*")
SHA256 = re.compile(r"[0-9a-f]{64}")


class BundleError(Exception):
    """A bundle that cannot be written or used. The message is a whole sentence for the user."""


def _copy(source: IO[bytes], target: IO[bytes] | None = None) -> tuple[str, int]:
    """Read a file to its end, and write it to `target` if there is one; return (sha256, size)."""
    digest, size = hashlib.sha256(), 0
    while block := source.read(1024 * 1024):
        digest.update(block)
        size += len(block)
        if target is not None:
            target.write(block)
    return digest.hexdigest(), size


def saved_ids(path: Path) -> list[str]:
    """Return the ids that an engine may give the one image in what `docker save` wrote.

    Raises BundleError when the archive holds another number of images, or a configuration that is not its digest's.
    """
    try:
        with tarfile.open(path) as archive:
            (image,) = json.load(archive.extractfile("manifest.json"))
            config = archive.extractfile(image["Config"]).read()
            found = [hashlib.sha256(config).hexdigest()]
            if found[0] not in image["Config"]:
                raise ValueError("the configuration is not what its name says")
            if "index.json" in archive.getnames():
                index = json.load(archive.extractfile("index.json"))
                found += [str(one["digest"]).removeprefix("sha256:") for one in index.get("manifests", [])]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, tarfile.TarError) as error:
        raise BundleError(
            f"{path} was expected to be one image as docker save writes it, and is not ({error}): look at the engine "
            f"that saved it, and make the bundle again."
        ) from None
    return [f"sha256:{one}" for one in dict.fromkeys(found)]


def write(path: Path, facts: Mapping[str, Any], images: Iterable[Mapping], files: Mapping[str, Path]) -> dict[str, Any]:
    """Write a bundle, whole or not at all, and return its manifest.

    facts: release, architecture, collection. images: each {part, name, id, path, notes}, saved by `docker save`.
    files: {member: file} of the rest.
    """
    described, members = [], []
    for image in images:
        source, member = Path(image["path"]), f"images/{image['part']}.tar"
        members.append((member, source))
        ids = list(dict.fromkeys([image["id"], *saved_ids(source)]))
        described.append({key: image[key] for key in ("part", "name", "notes")} | {"ids": ids} | _seen(member, source))
    members += sorted(files.items())
    manifest = {
        "format": FORMAT,
        **{key: facts[key] for key in ("release", "architecture", "collection")},
        "images": described,
        "files": [_seen(member, source) for member, source in sorted(files.items())],
    }
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with tarfile.open(unfinished, "w", format=tarfile.PAX_FORMAT) as archive:
            text = (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode()
            _add(archive, MANIFEST, io.BytesIO(text), len(text))
            for member, source in members:
                with source.open("rb") as opened:
                    _add(archive, member, opened, source.stat().st_size)
        unfinished.replace(path)
    except OSError as error:
        raise BundleError(f"The bundle {path} cannot be written ({error}): make room, or name another place.") from None
    finally:
        unfinished.unlink(missing_ok=True)
    return manifest


def _seen(member: str, source: Path) -> dict[str, Any]:
    with source.open("rb") as opened:
        sha256, size = _copy(opened)
    return {"member": member, "sha256": sha256, "size": size}


def _add(archive: tarfile.TarFile, name: str, content: IO[bytes], size: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    archive.addfile(member, content)


def members(manifest: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return what the manifest says of each file in the bundle: {member, sha256, size, ...}."""
    return [*manifest["images"], *manifest["files"]]


def read(path: Path) -> dict[str, Any]:
    """Return the manifest of a bundle, the other members unread. Raises BundleError for what is none."""
    try:
        with tarfile.open(path, "r:") as archive:
            first = archive.next()
            if first is None or first.name != MANIFEST or first.size > LARGEST_MANIFEST:
                raise ValueError(f"its first file is not {MANIFEST}")
            manifest = json.load(archive.extractfile(first))
        if manifest["format"] != FORMAT:
            raise ValueError(f"its format is {manifest['format']}, and not {FORMAT}")
        for one in members(manifest):
            if not SAFE_MEMBER.fullmatch(one["member"]) or not SHA256.fullmatch(one["sha256"]):
                raise ValueError(f"its manifest names {one['member']!r}")
        if not all(key in manifest for key in ("release", "architecture", "collection")):
            raise ValueError("its manifest is not whole")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, tarfile.TarError) as error:
        raise BundleError(
            f"{path} was expected to be a bundle of this collection, and is not ({error}): copy it again, or make one "
            f"with the playbook nextcloud_talk.hpb.bundle."
        ) from None
    return manifest


def damaged(path: Path, manifest: Mapping[str, Any]) -> list[str]:
    """Return the members of a bundle that are missing or not what its manifest says."""
    wanted = {one["member"]: one["sha256"] for one in members(manifest)}
    found: dict[str, str] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for one in archive:
                if one.name in wanted and one.isfile():
                    found[one.name] = _copy(archive.extractfile(one))[0]
    except (OSError, tarfile.TarError):
        # A bundle that was cut off: what is behind the cut is missing.
        pass
    return sorted(name for name, sha256 in wanted.items() if found.get(name) != sha256)


def extract(path: Path, manifest: Mapping[str, Any], member: str, target: Path) -> None:
    """Write one member of a bundle to a file. Raises BundleError, and leaves no file, when it is damaged."""
    wanted = {one["member"]: one["sha256"] for one in members(manifest)}
    sha256 = ""
    try:
        with tarfile.open(path, "r:") as archive, target.open("wb") as opened:
            sha256 = _copy(archive.extractfile(member), opened)[0]
    except (OSError, KeyError, AttributeError, tarfile.TarError):
        sha256 = ""
    if sha256 != wanted.get(member):
        target.unlink(missing_ok=True)
        raise BundleError(damage(path, [member]))


def damage(path: Path, found: list[str]) -> str:
    """Return the sentence about damaged members."""
    return (
        f"The bundle {path} is damaged: {', '.join(found)} is not there or is not what the manifest says; expected the "
        f"file as the playbook bundle wrote it: copy it again."
    )


def differences(path: Path, manifest: Mapping[str, Any], wanted: Mapping[str, Any], collection: str) -> list[str]:
    """Return a sentence for each thing in which a bundle is not what the inventory asks for.

    wanted: what `_release.pins` returned for the inventory. collection: the version of this collection.
    """
    has = manifest["release"]
    if has.get("release") != wanted["release"]:
        return [
            f"The bundle {path} is of release {has.get('release')}, expected {wanted['release']}, which hpb_release "
            f"asks for: set hpb_release: '{has.get('release')}', or make a bundle of {wanted['release']}."
        ]
    found = []
    for key, what in (("versions", ""), ("checksums", "the checksum "), ("digests", "the digest ")):
        ours, theirs = wanted[key], has.get(key) or {}
        parts = sorted(part for part in {*ours, *theirs} if ours.get(part) != theirs.get(part))
        if parts:
            described = ", ".join(
                f"{part} with {what}{theirs.get(part) or 'none'} instead of {ours.get(part) or 'none'}"
                for part in parts
            )
            found.append(
                f"The bundle {path} holds {described}, expected what the inventory pins: make it again with this "
                f"inventory, or pin what it holds."
            )
            break
    if not found and manifest["collection"] != collection:
        found.append(
            f"The bundle {path} was made by version {manifest['collection']} of this collection, expected "
            f"{collection}: install the collection that is in the bundle, or make it again."
        )
    return found
