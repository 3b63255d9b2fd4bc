# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The secrets module as a real process: the ladder, the errors, the lock and the kill."""

from __future__ import annotations

import fcntl
import json
import os
import random
import signal
import stat
import subprocess
import sys
import time

import pytest
import secrets_loop
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _secrets
from module_process import standard_input

MODULE = "ansible_collections.nextcloud_talk.hpb.plugins.modules.secrets"
NC = {"id": "nc", "url": "https://nc.example.org"}
DEV = {"id": "dev", "url": "https://dev.example.org"}
USER = "userUSER0123456789userUSER012345"
WAY_OUT = (
    "Restore it from a backup, or move it away and run again with -e new_secrets=true, "
    "which makes new secrets for every instance."
)


def start(check=False, **options):
    process = subprocess.Popen(
        [sys.executable, "-m", MODULE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdin.write(standard_input({**options, "path": str(options["path"])}, check))
    process.stdin.close()
    process.stdin = None
    return process


def run(check=False, **options):
    out, err = start(check, **options).communicate(timeout=60)
    assert out.strip(), err
    return json.loads(out)


def failure(**options):
    result = run(**options)
    assert result.get("failed"), result
    return result["msg"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "base" / "secrets" / "secrets.json"


def names(directory):
    return sorted(entry.name for entry in directory.iterdir())


def mode(path):
    return oct(stat.S_IMODE(path.lstat().st_mode))


def test_ladder(path):
    dry = run(check=True, path=path, instances=[NC])
    assert dry["changed"] and dry["missing"] and not dry["stored"]
    assert dry["actions"][0] == f"create directory {path.parent}"
    assert len(dry["secrets"]["instances"]["nc"]["turn"]) == 64
    assert not path.parent.parent.exists()

    first = run(path=path, instances=[NC])
    assert first["changed"] and first["missing"] and first["stored"]
    assert first["actions"] == dry["actions"]
    assert first["diff"]["before"] == {}
    assert first["diff"]["after"]["instances"]["nc"]["turn"] == "(new secret)"
    assert "version" not in first["secrets"]
    assert (mode(path), mode(path.parent), mode(path.parent.parent)) == ("0o600", "0o700", "0o755")
    assert names(path.parent) == ["secrets.json"]
    inode = path.stat().st_ino

    for check in (True, False):
        again = run(check=check, path=path, instances=[NC], must_exist=True)
        assert not again["changed"] and not again["missing"] and again["stored"]
        assert (again["secrets"], again["actions"]) == (first["secrets"], [])
        assert again["diff"]["before"] == again["diff"]["after"]
    assert path.stat().st_ino == inode, "an unchanged file is not written again"

    dry = run(check=True, path=path, instances=[NC], rotate=["nc.turn"])
    assert dry["actions"] == ["rotate nc.turn"] and not dry["stored"]
    assert run(path=path, instances=[NC])["secrets"] == first["secrets"]

    rotated = run(path=path, instances=[NC], rotate=["nc.turn"])
    old, new = first["secrets"]["instances"]["nc"], rotated["secrets"]["instances"]["nc"]
    assert rotated["changed"] and new["turn"] != old["turn"] and new["backend"] == old["backend"]
    assert rotated["diff"]["before"]["instances"]["nc"]["turn"] == "********"

    both = run(path=path, instances=[NC, DEV])
    assert both["actions"] == ["create dev.backend", "create dev.turn"]
    renamed = run(path=path, instances=[NC, {**DEV, "id": "dev2"}])
    assert renamed["actions"] == ["rename dev to dev2"]
    assert renamed["secrets"]["instances"]["dev2"] == both["secrets"]["instances"]["dev"]
    kept = run(path=path, instances=[NC])
    assert not kept["changed"] and "dev2" in kept["secrets"]["instances"]
    removed = run(path=path, instances=[NC], remove=["dev2"])
    assert removed["actions"] == ["remove dev2"]
    assert not run(path=path, instances=[NC], remove=["dev2"])["changed"]


def test_the_user_s_values_are_stored_returned_and_not_shown_elsewhere(path):
    values = {"version": 1, "internal": USER, "instances": {"nc": {"url": NC["url"], "turn": USER[::-1]}}}
    result = run(path=path, instances=[NC], values=values)
    assert result["secrets"]["internal"] == USER
    assert result["secrets"]["instances"]["nc"]["turn"] == USER[::-1]
    assert result["secrets"]["instances"]["nc"]["url"] == NC["url"]
    assert result["invocation"]["module_args"]["values"] == "********"
    rest = json.dumps({key: value for key, value in result.items() if key != "secrets"})
    assert USER not in rest and USER[::-1] not in rest
    assert not run(path=path, instances=[NC], values=values)["changed"]
    assert not run(path=path, instances=[NC])["changed"], "a value once given stays"


def test_values_of_an_unknown_instance_warn(path):
    result = run(path=path, instances=[NC], values={"instances": {"n_c": {"turn": USER}}})
    assert "values holds secrets of instance 'n_c'" in json.dumps(result["warnings"])


def test_a_rotation_in_two_steps(path):
    first = run(path=path, instances=[NC, DEV])["secrets"]["instances"]
    dry = run(check=True, path=path, prepare=["nc"])
    assert dry["actions"] == ["prepare nc.backend", "prepare nc.turn"] and not dry["stored"]
    assert "next" not in path.read_text()

    ready = run(path=path, prepare=["nc"])
    assert ready["changed"] and ready["stored"]
    after = ready["secrets"]["instances"]
    upcoming = after["nc"]["next"]
    assert after == {**first, "nc": {**first["nc"], "next": upcoming}}
    assert len({*upcoming.values(), first["nc"]["backend"], first["nc"]["turn"]}) == 4
    assert ready["diff"]["after"]["instances"]["nc"]["next"] == {"backend": "(new secret)", "turn": "(new secret)"}
    for value in upcoming.values():
        assert value not in json.dumps({key: part for key, part in ready.items() if key != "secrets"})

    for check in (True, False):
        again = run(check=check, path=path, instances=[NC, DEV], prepare=["nc.turn"])
        assert not again["changed"] and again["secrets"]["instances"] == after
    assert run(path=path, promote=["nc.turn"])["actions"] == ["promote nc.turn"]
    assert run(path=path, promote=["nc"])["actions"] == ["promote nc.backend"]
    last = run(path=path, promote=["nc"])
    assert not last["changed"]
    assert last["secrets"]["instances"] == {**first, "nc": {**first["nc"], **upcoming}}


def test_a_backup_is_restored_as_it_is(path, tmp_path):
    run(path=path, instances=[NC, DEV], prepare=["nc"])
    text = path.read_text()
    other = tmp_path / "new" / "secrets.json"
    dry = run(check=True, path=other, restore=text)
    assert dry["changed"] and not other.parent.exists()
    done = run(path=other, restore=text)
    assert done["actions"] == [f"create directory {other.parent}", f"create {other}"]
    assert (other.read_text(), mode(other), mode(other.parent)) == (text, "0o600", "0o700")
    assert done["invocation"]["module_args"]["restore"] == "********"
    assert done["diff"]["after"]["internal"] == "(new secret)"
    assert not run(path=other, restore=text)["changed"]
    # The same document, written in another way.
    assert not run(path=other, restore=json.dumps(json.loads(text)))["changed"]


def test_a_restored_backup_replaces_other_secrets_only_when_told_to(path):
    run(path=path, instances=[NC, DEV])
    text = path.read_text()
    run(path=path, instances=[NC, DEV], rotate=["nc.turn", "internal"])
    kept = path.read_text()
    for check in (True, False):
        assert failure(path=path, restore=text, check=check) == (
            f"The secrets file {path} already holds other values than the text in restore, for internal, nc.turn; "
            f"nothing was changed. To put those of restore in their place, run again with -e replace=true."
        )
    assert path.read_text() == kept
    assert run(path=path, restore=text, replace=True)["actions"] == ["replace internal", "replace nc.turn"]
    assert path.read_text() == text
    path.write_text("{")
    assert failure(path=path, restore=text).startswith(f"The secrets file {path} cannot be used: it is no JSON")
    assert run(path=path, restore=text, replace=True)["actions"] == [f"replace {path}, which was damaged"]
    assert path.read_text() == text
    path.unlink()
    path.mkdir()
    assert "a regular file with one name was expected" in failure(path=path, restore=text, replace=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"restore": "{"},
            "The text in restore was expected to be a whole secrets file and cannot be used: it is no JSON from line 1 "
            "on. Nothing was changed; give the file as it was on the backend's host.",
        ),
        (
            {"restore": "{}", "instances": [NC], "rotate": ["nc"]},
            "restore stores a document as it is and was expected alone; leave out instances, rotate.",
        ),
    ],
)
def test_a_restore_that_is_refused(path, options, message):
    assert failure(path=path, **options) == message
    assert not path.exists()


def test_a_refused_value_is_not_in_the_message(path):
    result = run(path=path, instances=[NC], values={"internal": "too-short-but-mine"})
    assert result["msg"].startswith("In values, internal was expected to have 32 to 127 characters and has 18")
    assert "too-short-but-mine" not in json.dumps(result)
    assert not path.exists()


def test_must_exist(path):
    for check in (True, False):
        assert failure(path=path, instances=[NC], must_exist=True, check=check) == (
            f"The secrets file {path} is missing although this backend is already registered; restore it from a "
            f"backup, or run again with -e new_secrets=true, which makes new secrets for every instance."
        )
    assert not path.parent.exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b'{"version": 1', "it is no JSON from line 1 on"),
        (b"\xff\xfe", "it is no UTF-8 text"),
        (b'{"version": 7, "instances": {}}', "version 1 was expected and 7 was found"),
        (
            b'{"version": 1, "instances": {}, "internal": "abc"}',
            "internal was expected to have 32 to 127 characters and has 3",
        ),
    ],
)
def test_a_damaged_file_is_named_and_kept(path, content, reason):
    path.parent.mkdir(parents=True, mode=0o700)
    path.write_bytes(content)
    for check in (True, False):
        assert failure(path=path, instances=[NC], check=check) == (
            f"The secrets file {path} cannot be used: {reason}. {WAY_OUT}"
        )
    assert path.read_bytes() == content


@pytest.mark.parametrize("kind", ["link", "hard link", "directory"])
def test_something_else_in_the_place_of_the_file(path, tmp_path, kind):
    path.parent.mkdir(parents=True, mode=0o700)
    other = tmp_path / "other"
    other.write_text("mine")
    {"link": path.symlink_to, "hard link": path.hardlink_to, "directory": lambda _other: path.mkdir()}[kind](other)
    assert failure(path=path, instances=[NC]) == (
        f"The secrets file {path} cannot be used: a regular file with one name was expected and something else was "
        f"found. {WAY_OUT}"
    )
    assert other.read_text() == "mine"


def test_loose_modes_are_corrected_and_leftovers_removed(path):
    run(path=path, instances=[NC])
    path.chmod(0o644)
    path.parent.chmod(0o755)
    (path.parent / ".secrets.json.new").write_text("half")
    expected = [f"set owner and mode of directory {path.parent}", f"set owner and mode of {path}"]
    assert run(check=True, path=path, instances=[NC])["actions"] == expected
    assert mode(path) == "0o644"
    assert run(path=path, instances=[NC])["actions"] == expected
    assert (mode(path), mode(path.parent)) == ("0o600", "0o700")
    assert names(path.parent) == ["secrets.json"]
    assert not run(path=path, instances=[NC])["changed"]


def test_a_directory_that_others_use_is_not_closed(tmp_path):
    tmp_path.chmod(0o755)
    (tmp_path / "theirs").write_text("x")
    assert failure(path=tmp_path / "secrets.json", instances=[NC]) == (
        f"The directory {tmp_path} was expected to have mode 0700 and to belong to the user that runs the module, "
        f"and it also holds other files, so it is not changed; give the secrets file a directory of its own."
    )
    assert mode(tmp_path) == "0o755"


def test_a_linked_directory_is_refused(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert failure(path=tmp_path / "link" / "secrets.json", instances=[NC]) == (
        f"{tmp_path}/link was expected to be a directory and is a file or a symbolic link; move it away and run again."
    )


def test_a_link_above_the_directory_is_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert run(path=tmp_path / "link" / "secrets" / "secrets.json", instances=[NC])["stored"]
    assert names(tmp_path / "real" / "secrets") == ["secrets.json"]


def test_a_second_run_waits_for_the_first(path):
    run(path=path, instances=[NC])
    fd = os.open(path.parent, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    process = start(path=path, instances=[NC, DEV])
    time.sleep(1)
    assert process.poll() is None
    assert "dev" not in path.read_text()
    os.close(fd)
    out, _err = process.communicate(timeout=30)
    assert json.loads(out)["actions"] == ["create dev.backend", "create dev.turn"]


def test_parallel_runs_agree(path):
    processes = [start(path=path, instances=[NC]) for _index in range(4)]
    results = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    assert {json.dumps(result["secrets"], sort_keys=True) for result in results} == {
        json.dumps(run(path=path, instances=[NC])["secrets"], sort_keys=True)
    }


def test_killed_at_any_moment_the_file_is_whole(path):
    """Each run rotates everything of one instance; whatever is left is the old or a wholly new document."""
    run(path=path, instances=[NC, DEV])
    begun = time.monotonic()
    run(path=path, instances=[NC, DEV], rotate=["nc"])
    delay = time.monotonic() - begun
    chance = random.Random(1)
    outcomes = {"old": 0, "new": 0}
    for _round in range(20):
        before = _secrets.parse(path.read_text())
        process = start(path=path, instances=[NC, DEV], rotate=["nc"])
        time.sleep(delay * chance.uniform(0.85, 1.15))
        process.kill()
        process.communicate()
        after = _secrets.parse(path.read_text())
        old, new = before["instances"].pop("nc"), after["instances"].pop("nc")
        assert before == after
        changed = {kind for kind in ("backend", "turn") if old[kind] != new[kind]}
        assert changed in (set(), {"backend", "turn"})
        assert mode(path) == "0o600"
        outcomes["new" if changed else "old"] += 1
        # The moments gather around the one in which the file is replaced, however busy the machine is.
        delay *= 0.95 if changed else 1.05
    assert min(outcomes.values()) > 0, outcomes
    assert not run(path=path, instances=[NC, DEV])["changed"]
    assert names(path.parent) == [path.name]


def test_killed_at_200_moments_no_secret_is_lost_or_half(path):
    """Both secrets of an instance are made one after the other, so their numbers tell what belongs together."""
    run(path=path, instances=[DEV, NC])
    document = _secrets.parse(path.read_text())
    dev = document["instances"]["dev"]
    first = secrets_loop.numbered(1)
    document["instances"]["nc"].update(backend=first(32), turn=first(32))
    path.write_text(_secrets.dump(document))
    chance = random.Random(2)
    newest, seen = 0, {"temporary": 0, "prepared": 0, "plain": 0}
    command = [sys.executable, secrets_loop.__file__, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        for begin in range(1_000_000, 201_000_000, 1_000_000):
            parent.stdin.write(f"{begin}\n")
            parent.stdin.flush()
            process = int(parent.stdout.readline())
            time.sleep(chance.uniform(0.002, 0.05))
            os.kill(process, signal.SIGKILL)
            assert int(parent.stdout.readline()) == signal.SIGKILL, "the loop ended by itself"
            after = _secrets.parse(path.read_text())
            entry = after["instances"]["nc"]
            upcoming = entry.get("next")
            assert mode(path) == "0o600"
            assert after["instances"]["dev"] == dev
            assert int(entry["turn"]) == int(entry["backend"]) + 1
            assert int(entry["backend"]) >= newest, "an older secret is in force again"
            newest = int(entry["backend"])
            if upcoming is not None:
                assert int(upcoming["turn"]) == int(upcoming["backend"]) + 1
                assert int(upcoming["backend"]) > int(entry["turn"])
            seen["plain" if upcoming is None else "prepared"] += 1
            seen["temporary"] += (path.parent / ".secrets.json.new").exists()
        parent.stdin.close()
    assert min(seen.values()) > 0, seen
    assert newest > 100_000_000, "the later processes got nothing done"
    assert not run(path=path, instances=[NC, DEV])["changed"]
    assert names(path.parent) == [path.name]
