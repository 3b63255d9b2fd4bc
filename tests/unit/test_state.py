# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What makes a backend the same one: out of one directory and into another, and what is refused."""

from __future__ import annotations

import base64
import json
import os
import stat

import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _state
from module_process import run

PATHS = ["secrets", "deployed.json", "ca", "traefik/acme"]
DOMAIN = "talk.example.org"
NC = {"id": "nc", "url": "https://nc.example.org"}


class Bed:
    def __init__(self, folder):
        self.folder = folder
        self.old, self.new = folder / "old", folder / "new"
        run("secrets", {"path": str(self.old / "secrets/secrets.json"), "instances": [NC]})
        for name, text, mode in (
            ("deployed.json", '{"instances": []}', 0o600),
            ("ca/key.pem", "the key of the authority", 0o600),
            ("ca/ca.pem", "the authority", 0o644),
            ("traefik/acme/acme.json", '{"account": 1}', 0o600),
            ("traefik/config/traefik.yml", "no part of the state", 0o640),
        ):
            path = self.old / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            path.chmod(mode)
        for name, mode in ((".", 0o755), ("ca", 0o700), ("traefik", 0o750), ("traefik/acme", 0o700)):
            (self.old / name).chmod(mode)

    def run(self, base, check=False, **options):
        return run("hpb_state", {"base_dir": str(base), "paths": PATHS, "domain": DOMAIN, **options}, check)

    def read(self, base=None):
        return self.run(base or self.old)["document"]

    def restore(self, document, base=None, check=False, **options):
        return self.run(base or self.new, check, state="restored", document=document, **options)


@pytest.fixture
def bed(tmp_path):
    return Bed(tmp_path)


def tree(base):
    """Return {path: (mode, uid, gid, content)} of everything below."""
    found = {}
    for path in [base, *base.rglob("*")]:
        status = path.lstat()
        text = path.read_text(encoding="utf-8") if path.is_file() else None
        found[str(path.relative_to(base))] = (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, text)
    return found


def test_another_host_gets_the_same(bed):
    if os.geteuid() == 0:
        os.chown(bed.old / "traefik/acme/acme.json", 0, 65534)
    document = bed.read()
    assert bed.restore(document, check=True)["changed"] and not bed.new.exists()
    done = bed.restore(document)
    assert done["actions"][-5:] == [
        "write secrets/secrets.json",
        "write ca/ca.pem",
        "write ca/key.pem",
        "write traefik/acme/acme.json",
        "write deployed.json",
    ]
    there = {name: what for name, what in tree(bed.old).items() if not name.startswith("traefik/config")}
    assert tree(bed.new) == there
    again = bed.restore(document)
    assert (again["changed"], again["actions"]) == (False, [])
    assert bed.read(bed.new) == document


def test_modes_are_put_right_and_files_of_a_killed_run_left_out(bed):
    document = bed.read()
    bed.restore(document)
    (bed.new / "ca/key.pem").chmod(0o644)
    (bed.new / "secrets").chmod(0o755)
    (bed.old / "ca/.ca.pem.new").write_text("half", encoding="utf-8")
    assert bed.restore(bed.read())["actions"] == [
        "make or correct the directory secrets",
        "set owner and mode of ca/key.pem",
    ]
    assert bed.read(bed.new) == document


def test_no_secret_is_shown(bed):
    document = bed.read()
    done = bed.restore(document)
    text = json.dumps(done)
    internal = json.loads((bed.old / "secrets/secrets.json").read_text(encoding="utf-8"))["internal"]
    assert internal not in text and "the key of" not in text
    assert base64.b64encode(b"the key of the authority").decode() not in text
    assert "secrets/secrets.json: (new secret)" in done["diff"]["after"]


def test_what_differs_is_refused_kept_or_replaced(bed):
    document = bed.read()
    bed.restore(document)
    (bed.new / "traefik/acme/acme.json").write_text("renewed", encoding="utf-8")
    refused = bed.restore(document)
    assert refused["failed"]
    assert f"{bed.new} on this host has files that differ" in refused["msg"]
    assert (
        "traefik/acme/acme.json; nothing was changed. To put those in their place, run again with -e replace"
        in (refused["msg"])
    )
    kept = bed.restore(document, existing="keep")
    assert (kept["changed"], kept["kept"]) == (False, ["traefik/acme/acme.json"])
    assert bed.restore(document, existing="replace")["actions"] == ["write traefik/acme/acme.json"]

    other = bed.folder / "other"
    run("secrets", {"path": str(other / "secrets/secrets.json"), "instances": [NC]})
    before = tree(other)
    for existing in ("refuse", "keep"):
        refused = bed.restore(document, other, existing=existing)
        assert "secrets/secrets.json (session_hash_key, session_block_key, internal," in refused["msg"]
    assert tree(other) == before
    assert bed.restore(document, other, existing="replace")["changed"]
    assert bed.read(other) == document


def changed(document, edit):
    data = json.loads(document)
    edit(data)
    return json.dumps(data)


def entry(path, **other):
    return {"path": path, "mode": 0o600, "uid": 0, "gid": 0, "content": "eA==", **other}


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda data: data.update(domain="talk.other.example"), "is of talk.other.example, expected talk.example.org"),
        (lambda data: data.update(format="x"), "it is no backup of a backend"),
        (lambda data: data.update(version=2), "version 1 was expected and 2 was found"),
        (lambda data: data.update(session_hash_key="x"), "it holds the secrets alone: bring it back with the playbook"),
        (lambda data: data.update(files=[]), "it holds no secrets"),
        (lambda data: data["files"].append(entry("../etc/passwd")), "is no part of a backend's state"),
        (lambda data: data["files"].append(entry("ca/../../x")), "is no part of a backend's state"),
        (lambda data: data["files"].append(entry("traefik/config/x")), "is no part of a backend's state"),
        (lambda data: data["files"].append(entry("ca/x", mode=0o666)), "the mode 0666, which others could write"),
        (lambda data: data["files"].append(entry("ca/x", content="!")), 'the content of "ca/x" cannot be read'),
        (lambda data: data["files"].append({"path": "ca/x"}), "one of its files is incomplete"),
        (lambda data: data.update(directories=None), "its directories were expected to be a list"),
        (lambda data: data.pop("domain"), "it does not say of which backend it is"),
    ],
)
def test_foreign_and_damaged_texts(bed, edit, words):
    refused = bed.restore(changed(bed.read(), edit))
    assert refused["failed"] and words in refused["msg"]
    assert "othing was changed" in refused["msg"]
    assert not bed.new.exists()


def test_damaged_secrets_and_no_json(bed):
    assert "it is no backup of a backend (no JSON)" in bed.restore("a b c")["msg"]
    (bed.old / "secrets/secrets.json").write_text("{", encoding="utf-8")
    assert "its secrets cannot be used: it is no JSON" in bed.run(bed.old)["msg"]
    assert "it holds no secrets: deploy first, or restore it from a backup" in bed.run(bed.folder / "bare")["msg"]


def test_no_link_is_followed(bed):
    (bed.old / "ca/key.pem").unlink()
    (bed.old / "ca/key.pem").symlink_to("/etc/hostname")
    assert f"{bed.old}/ca/key.pem is a link or a special file" in bed.run(bed.old)["msg"]


def test_copies_on_the_host(bed):
    dry = bed.run(bed.old, check=True, state="copied")
    assert dry["changed"] and not (bed.old / "backups").exists()
    backups = bed.old / "backups"
    backups.mkdir()
    for name in ("20250101T000000Z", "20250102T000000Z", "20250103T000000Z", ".20250104T000000Z.new", "mine"):
        (backups / name).mkdir()
    done = bed.run(bed.old, state="copied", images={"nats": "nats:2"})
    copy = backups / done["path"].rpartition("/")[2]
    assert sorted(path.name for path in backups.iterdir()) == sorted(
        ["20250102T000000Z", "20250103T000000Z", copy.name, "mine"]
    )
    assert stat.S_IMODE(backups.stat().st_mode) == stat.S_IMODE(copy.stat().st_mode) == 0o700
    made = tree(copy)
    assert json.loads(made.pop("images.json")[3]) == {"nats": "nats:2"}
    wanted = {
        name: what
        for name, what in tree(bed.old).items()
        if not name.startswith(("traefik/config", "backups")) and name != "."
    }
    made.pop(".")
    assert made == wanted


@pytest.mark.parametrize(
    ("names", "keep", "gone"),
    [
        (["20250103T000000Z", "20250101T000000Z", "20250102T000000Z"], 2, ["20250101T000000Z"]),
        (["20250103T000000Z"], 3, []),
        (["mine", "20250101", "2025010xT000000Z"], 0, []),
        ([".20250103T000000Z.new"], 3, [".20250103T000000Z.new"]),
    ],
)
def test_surplus(names, keep, gone):
    assert _state.surplus(names, keep) == gone
