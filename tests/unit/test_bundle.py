# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bundles: written by the module, judged by the other, and refused when anything in them is not as it was."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _bundle
from module_process import run as run_module

ROOT = Path(__file__).resolve().parents[2]
PINS = {
    "release": "2026.11",
    "versions": {"nats": "2.14.5", "coturn": "4.17.0-r0"},
    "pinned": [],
    "checksums": {"janus": "a" * 64},
    "digests": {},
}


def pack(path: Path, files: dict[str, bytes]) -> Path:
    """Write a tar archive with these files, in this order."""
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def unpack(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {one.name: archive.extractfile(one).read() for one in archive}


def saved(path: Path, text: str, *, index: str = "") -> tuple[Path, str]:
    """Write what `docker save` writes of an image; returns the file and the image's id."""
    config = json.dumps({"config": text}).encode()
    digest = hashlib.sha256(config).hexdigest()
    name = f"blobs/sha256/{digest}" if index else f"{digest}.json"
    files = {name: config, "manifest.json": json.dumps([{"Config": name, "RepoTags": ["x:1"]}]).encode()}
    if index:
        files["index.json"] = json.dumps({"manifests": [{"digest": f"sha256:{index}"}]}).encode()
    return pack(path, files), f"sha256:{digest}"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """A bundle with two images and a source, written by the module from this checkout."""
    folder = tmp_path_factory.mktemp("bundle")
    nats, nats_id = saved(folder / "nats.tar", "nats")
    janus, janus_id = saved(folder / "janus.tar", "janus", index="e" * 64)
    (folder / "janus-1.4.1.tar").write_bytes(b"source")
    result = run_module(
        "bundle_write",
        {
            "path": str(folder / "hpb.tar"),
            "release": PINS,
            "architecture": "amd64",
            "images": [
                {"part": "nats", "name": "nats:2.14.5", "id": nats_id, "path": str(nats)},
                {"part": "janus", "name": "hpb/janus:1", "id": janus_id, "path": str(janus), "notes": {"base": "b"}},
            ],
            "sources": [str(folder / "janus-1.4.1.tar")],
            "collection_dir": str(ROOT),
        },
    )
    assert result.get("changed"), result
    return {"path": folder / "hpb.tar", "ids": [nats_id, janus_id], **result}


def judge(path: Path, **changes: object) -> list[str]:
    options = {"path": str(path), "release": {**PINS, **changes}, "collection_dir": str(ROOT)}
    return run_module("bundle_read", options)["problems"]


def test_the_manifest_comes_first_and_describes_every_other_file(made: dict) -> None:
    files = unpack(made["path"])
    assert next(iter(files)) == "manifest.json"
    manifest = json.loads(files["manifest.json"])
    assert manifest == made["manifest"]
    described = {one["member"]: one for one in manifest["images"] + manifest["files"]}
    assert set(files) == {"manifest.json", *described}
    for name, one in described.items():
        assert one["sha256"] == hashlib.sha256(files[name]).hexdigest()
        assert one["size"] == len(files[name])
    nats, janus = manifest["images"]
    assert (nats["part"], nats["name"], nats["ids"], nats["notes"]) == ("nats", "nats:2.14.5", made["ids"][:1], {})
    assert janus["ids"] == [made["ids"][1], f"sha256:{'e' * 64}"]
    assert janus["notes"] == {"base": "b"}
    assert (manifest["architecture"], manifest["release"]) == ("amd64", PINS)
    assert made["sha256"] == hashlib.sha256(made["path"].read_bytes()).hexdigest()


def test_the_collection_is_in_it_and_can_be_installed(made: dict, tmp_path: Path) -> None:
    (name,) = [one for one in unpack(made["path"]) if one.startswith("collection/")]
    assert name == f"collection/nextcloud_talk-hpb-{made['manifest']['collection']}.tar.gz"
    with tarfile.open(fileobj=io.BytesIO(unpack(made["path"])[name])) as archive:
        archive.extractall(tmp_path / "installed")
    assert (tmp_path / "installed/roles/hpb/files/releases.yml").is_file()
    # Nothing that only lies beside it in a checkout, such as an inventory.
    own = {"meta", "plugins", "roles", "playbooks", "docs", "changelogs"}
    assert {one.name for one in (tmp_path / "installed").iterdir() if one.is_dir()} == own
    # An installed collection has no galaxy.yml; it is packed as it is.
    image, image_id = saved(tmp_path / "nats.tar", "nats")
    entry = {"part": "nats", "name": "nats:1", "id": image_id, "path": str(image)}
    options = {"path": str(tmp_path / "again.tar"), "release": PINS, "architecture": "amd64", "images": [entry]}
    result = run_module("bundle_write", {**options, "collection_dir": str(tmp_path / "installed")})
    assert result["manifest"]["collection"] == made["manifest"]["collection"]
    with tarfile.open(fileobj=io.BytesIO(unpack(tmp_path / "again.tar")[name])) as archive:
        assert "MANIFEST.json" in archive.getnames()
        assert "playbooks/site.yml" in archive.getnames()


def test_a_good_bundle_is_taken_and_its_files_come_out(made: dict, tmp_path: Path) -> None:
    assert judge(made["path"]) == []
    for check in (False, True):
        dest = tmp_path / f"out{check}"
        options = {"path": str(made["path"]), "member": "images/janus.tar", "dest": str(dest)}
        assert not run_module("bundle_read", options, check=check)["changed"]
        assert dest.read_bytes() == unpack(made["path"])["images/janus.tar"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"release": "2026.07"},
            "The bundle PATH is of release 2026.11, expected 2026.07, which hpb_release asks for: set hpb_release: "
            "'2026.11', or make a bundle of 2026.07.",
        ),
        (
            {"versions": {"nats": "2.14.5", "coturn": "4.18.0-r0"}},
            "The bundle PATH holds coturn with 4.17.0-r0 instead of 4.18.0-r0, expected what the inventory pins: make "
            "it again with this inventory, or pin what it holds.",
        ),
        (
            {"checksums": {"janus": "b" * 64}},
            f"The bundle PATH holds janus with the checksum {'a' * 64} instead of {'b' * 64}, expected what the "
            "inventory pins: make it again with this inventory, or pin what it holds.",
        ),
        (
            {"digests": {"nats": "sha256:1"}},
            "The bundle PATH holds nats with the digest none instead of sha256:1, expected what the inventory pins: "
            "make it again with this inventory, or pin what it holds.",
        ),
    ],
)
def test_a_bundle_of_something_else_is_refused(made: dict, changes: dict, expected: str) -> None:
    assert judge(made["path"], **changes) == [expected.replace("PATH", str(made["path"]))]


def test_a_bundle_of_another_collection_is_refused(made: dict) -> None:
    problems = _bundle.differences(made["path"], made["manifest"], PINS, "9.9.9")
    assert problems == [
        f"The bundle {made['path']} was made by version {made['manifest']['collection']} of this collection, expected "
        "9.9.9: install the collection that is in the bundle, or make it again."
    ]


@pytest.mark.parametrize("how", ["changed", "missing", "cut off"])
def test_a_damaged_bundle_is_refused(made: dict, tmp_path: Path, how: str) -> None:
    files, bad = unpack(made["path"]), tmp_path / "bad.tar"
    if how == "changed":
        files["images/nats.tar"] = files["images/nats.tar"].replace(b"nats", b"evil")
    elif how == "missing":
        del files["images/nats.tar"]
    pack(bad, files)
    if how == "cut off":
        bad.write_bytes(bad.read_bytes()[:6000])
    (problem,) = judge(bad)
    names = "images/nats.tar" if how != "cut off" else ", ".join(sorted(name for name in files if "/" in name))
    assert problem == (
        f"The bundle {bad} is damaged: {names} is not there or is not what the manifest says; expected the file as the "
        "playbook bundle wrote it: copy it again."
    )
    dest = tmp_path / "out"
    result = run_module("bundle_read", {"path": str(bad), "member": "images/nats.tar", "dest": str(dest)})
    assert result["failed"] and "images/nats.tar is not there or is not what the manifest says" in result["msg"]
    assert not dest.exists()


def manifest_with(made: dict, **changes: object) -> bytes:
    return json.dumps({**made["manifest"], **changes}).encode()


@pytest.mark.parametrize("kind", ["absent", "text", "other tar", "format", "outside", "not whole"])
def test_what_is_no_bundle_is_refused(made: dict, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "none.tar"
    outside = {"part": "x", "name": "x", "ids": [], "member": "images/../../etc/cron.d/x", "sha256": "a" * 64}
    reasons = {
        "absent": "No such file",
        "text": "",
        "other tar": "its first file is not manifest.json",
        "format": "its format is 2, and not 1",
        "outside": "its manifest names 'images/../../etc/cron.d/x'",
        "not whole": "its manifest is not whole",
    }
    if kind == "text":
        path.write_text("hello", encoding="utf-8")
    elif kind == "other tar":
        pack(path, {"hello": b""})
    elif kind == "format":
        pack(path, {"manifest.json": manifest_with(made, format=2)})
    elif kind == "outside":
        pack(path, {"manifest.json": manifest_with(made, images=[outside])})
    elif kind == "not whole":
        pack(path, {"manifest.json": json.dumps({"format": 1, "images": [], "files": []}).encode()})
    (problem,) = judge(path)
    assert problem.startswith(f"{path} was expected to be a bundle of this collection, and is not (")
    assert reasons[kind] in problem
    assert problem.endswith("copy it again, or make one with the playbook nextcloud_talk.hpb.bundle.")


def test_an_image_that_is_none_is_not_packed(tmp_path: Path) -> None:
    image, image_id = saved(tmp_path / "nats.tar", "nats")
    files = unpack(image)
    config = next(name for name in files if name.endswith(".json") and name != "manifest.json")
    pack(image, {**files, config: b"{}"})
    entry = {"part": "nats", "name": "nats:1", "id": image_id, "path": str(image)}
    target = tmp_path / "hpb.tar"
    options = {"path": str(target), "release": PINS, "architecture": "amd64", "images": [entry]}
    result = run_module("bundle_write", {**options, "collection_dir": str(ROOT)})
    assert result["failed"]
    assert result["msg"] == (
        f"{image} was expected to be one image as docker save writes it, and is not (the configuration is not what its "
        "name says): look at the engine that saved it, and make the bundle again."
    )
    assert not target.exists()
