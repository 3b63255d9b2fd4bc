# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The digest of files of the controller, by which a run knows that its settings are others."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.nextcloud_talk.hpb.plugins.filter.contents import contents

CHANGES = {
    "the content of the file": lambda place: (place / "key.pem").write_text("other"),
    "a file below": lambda place: (place / "roles/nats/main.yml").write_text("other"),
    "one more": lambda place: (place / "roles/nats/more.yml").write_text(""),
    "one less": lambda place: (place / "roles/nats/main.yml").unlink(),
    "another name": lambda place: (place / "roles/nats/main.yml").rename(place / "roles/nats/other.yml"),
    "the file is gone": lambda place: (place / "key.pem").unlink(),
    "the directory is gone": lambda place: (place / "roles").rename(place / "elsewhere"),
}


@pytest.fixture
def place(tmp_path):
    (tmp_path / "key.pem").write_text("key")
    (tmp_path / "roles/nats/__pycache__").mkdir(parents=True)
    (tmp_path / "roles/nats/main.yml").write_text("key")
    return tmp_path


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_whatever_is_changed_gives_another_digest(place, change):
    paths = [str(place / "key.pem"), str(place / "roles")]
    before = contents(paths)
    assert len(before) == 64 and contents(paths) == before
    change(place)
    assert contents(paths) != before


def test_what_python_leaves_behind_does_not_count(place):
    before = contents([str(place)])
    (place / "roles/nats/__pycache__/main.cpython-311.pyc").write_text("compiled")
    (place / "roles/nats/old.pyc").write_text("compiled")
    assert contents([str(place)]) == before


def test_paths_are_taken_as_the_shell_takes_them(place, monkeypatch):
    wanted = contents([str(place / "key.pem")])
    (place / "link").symlink_to(place / "key.pem")
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.chdir(place / "roles")
    assert {contents([path]) for path in ("~/key.pem", "../key.pem", str(place / "link"))} == {wanted}


def test_which_of_them_it_is_counts(place):
    (place / "other.pem").write_text("other")
    pair = [str(place / "key.pem"), str(place / "other.pem")]
    assert contents(pair) != contents(pair[::-1])
    assert contents([]) != contents(pair[:1])


def test_what_cannot_be_read_is_named(place, monkeypatch):
    def refuse(_path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    with pytest.raises(AnsibleFilterError, match=r"key\.pem was expected .*: Permission denied"):
        contents([str(place / "key.pem")])
