# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Configuration directories: tables over the pure part, the module as a real process, and a real playbook."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import module_process
import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _files
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._files import Found, Owner, Step, Wanted

COLLECTIONS = Path(_files.__file__).parents[5]
OLD, NEW, OTHER = "0a1b" * 16, "9f8e" * 16, "77aa" * 16
ME = Owner(0, 0, 0)


def directory(**changes):
    return Found(**{"kind": "directory", "mode": 0o750, "uid": 0, "gid": 0, **changes})


def regular(data=b"x", **changes):
    return Found(**{"kind": "file", "data": data, "mode": 0o640, "uid": 0, "gid": 0, **changes})


@pytest.mark.parametrize(
    ("tree", "wanted", "purge", "steps"),
    [
        ({".": Found()}, [Wanted("a", b"x")], True, [("create", "."), ("write", "a")]),
        ({".": Found()}, [Wanted("d/a", b"x")], True, [("create", "."), ("create", "d"), ("write", "d/a")]),
        ({".": directory(), "a": regular()}, [Wanted("a", b"x")], True, []),
        ({".": directory(), "a": regular(b"y")}, [Wanted("a", b"x")], True, [("write", "a")]),
        ({".": directory(), "a": regular(mode=0o644)}, [Wanted("a", b"x")], True, [("adjust", "a")]),
        ({".": directory(), "a": regular(gid=5)}, [Wanted("a", b"x")], True, [("adjust", "a")]),
        ({".": directory(), "a": regular(kind="link")}, [Wanted("a", b"x")], True, [("write", "a")]),
        ({".": directory(mode=0o755)}, [], True, [("attributes", ".")]),
        ({".": directory(), "b": regular(), "l": Found("link")}, [], True, [("remove", "b"), ("remove", "l")]),
        ({".": directory(), "b": regular()}, [], False, []),
        ({".": directory(), ".a.new": regular()}, [], False, [("remove", ".a.new")]),
        ({".": directory(), "d": directory(), "s": Found("other")}, [], True, []),
        (
            {".": directory(), "d": directory(uid=7), "d/b": regular()},
            [Wanted("d/a", b"x")],
            True,
            [("attributes", "d"), ("write", "d/a"), ("remove", "d/b")],
        ),
    ],
)
def test_plan(tree, wanted, purge, steps):
    assert _files.plan("/c", tree, wanted, 0o750, ME, purge=purge) == [Step(*step) for step in steps]


def test_plan_leaves_an_unknown_owner_alone():
    tree = {".": directory(gid=9, uid=9), "a": regular(gid=9)}
    assert _files.plan("/c", tree, [Wanted("a", b"x")], 0o750, Owner(None, 0, None)) == []


@pytest.mark.parametrize(
    ("tree", "wanted", "message"),
    [
        (
            {".": directory(), "a": directory()},
            [Wanted("a", b"")],
            "/c/a was expected to be a regular file and is a directory or a special file; move it away and run again.",
        ),
        (
            {".": directory(), "d": Found("link")},
            [Wanted("d/a", b"")],
            "/c/d was expected to be a directory and is not; move it away and run again.",
        ),
    ],
)
def test_plan_refuses(tree, wanted, message):
    with pytest.raises(_files.FilesError) as caught:
        _files.plan("/c", tree, wanted, 0o750, ME)
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["", ".", "..", "/etc/x", "../x", "a/../b", "a/b/c", "a//b", "a b", ".a.new", "a\n"])
def test_check_names_refuses(name):
    with pytest.raises(_files.FilesError) as caught:
        _files.check_names([name])
    assert str(caught.value).startswith(f"The file name '{name}' was expected to be a relative path of letters")


def test_check_names_refuses_the_same_twice():
    with pytest.raises(_files.FilesError, match=r"^The file 'a' is named twice in files; name every file once\.$"):
        _files.check_names(["a", "a"])
    with pytest.raises(_files.FilesError, match=r"^'a' is named as a file and as a directory in files; rename one"):
        _files.check_names(["a", "a/b"])
    assert _files.check_names(["server.conf", ".digest", "dynamic/tls.yml"]) is None


@pytest.mark.parametrize("value", ["416", "640", "u=rw", "0999", "04755", ""])
def test_parse_mode_refuses(value):
    with pytest.raises(_files.FilesError) as caught:
        _files.parse_mode(value, "a.conf")
    assert str(caught.value) == (
        f"The mode '{value}' of a.conf was expected to be four octal digits such as 0640; "
        f"write it in quotes, because YAML reads a bare 0640 as another number."
    )


def test_digest_depends_on_names_and_contents_only():
    one, two = Wanted("a", b"x"), Wanted("b", b"y")
    assert _files.digest([one, two]) == _files.digest([two, Wanted("a", b"x", 0o600, True)])
    different = [[one], [Wanted("a", b"xb\0y")], [Wanted("a", b"y"), Wanted("b", b"x")], [one, two], []]
    assert len({_files.digest(files) for files in different}) == len(different)


@pytest.mark.parametrize(
    ("before", "after", "secrets", "expected"),
    [
        (f"k = {OLD}\n", f"k = {NEW}\n", [NEW], ("k = ********\n", "k = (new secret)\n")),
        (f"k = {NEW}\n", f"k = {NEW}\nlog = 1\n", [NEW], ("k = ********\n", "k = ********\nlog = 1\n")),
        ("", f"static-auth-secret={NEW}\n", [], ("", "static-auth-secret=(new secret)\n")),
        (f"k={OLD}", "k=", [], ("k=********", "k=")),
        ("", "k: 'p$short and odd!!'", ["p$short and odd!!"], ("", "k: '(new secret)'")),
        ("", f"x{NEW}y", [NEW], ("", "x(new secret)y")),
        ("", "c=/opt/nextcloud-talk-hpb/traefik/config/tls", [], ("", "c=/opt/nextcloud-talk-hpb/traefik/config/tls")),
        ("", f"u=/api/{NEW}/x", [], ("", "u=/api/(new secret)/x")),
        ("k: QUJD/" + "Zm9v+" * 8 + "==", "", [], ("k: ********", "")),
        ("a: 1\n", "a: 2\n", [NEW], ("a: 1\n", "a: 2\n")),
    ],
)
def test_mask_pair(before, after, secrets, expected):
    assert _files.mask_pair(before, after, secrets) == expected


# The module as a process


def run(check=False, **options):
    return module_process.run("config_files", {**options, "path": str(options["path"])}, check)


def mode(path):
    return oct(stat.S_IMODE(path.lstat().st_mode))


FILES = [
    {"name": "server.conf", "content": f"[a]\nsecret = {OLD}\nlog = 1\n"},
    {"name": "tls/key.pem", "content": "short key\n", "mode": "0600", "secret": True},
]


def test_ladder(tmp_path):
    path = tmp_path / "base" / "config"
    dry = run(check=True, path=path, files=FILES, secrets=[OLD])
    assert dry["changed"] and not path.parent.exists()

    first = run(path=path, files=FILES, secrets=[OLD])
    assert first["changed"] and first["removed"] == []
    assert first["actions"] == ["create directory .", "create directory tls", "write server.conf", "write tls/key.pem"]
    assert first["written"] == ["server.conf", "tls/key.pem"]
    assert {key: dry[key] for key in ("actions", "digest", "diff")} == {
        key: first[key] for key in ("actions", "digest", "diff")
    }
    assert first["diff"][2] == {
        "before_header": f"{path}/server.conf",
        "after_header": f"{path}/server.conf",
        "before": "",
        "after": "[a]\nsecret = (new secret)\nlog = 1\n",
    }
    assert first["diff"][3]["after"] == "(new secret)\n"
    assert OLD not in json.dumps(first) and "short key" not in json.dumps(first)
    assert (path / "server.conf").read_text() == FILES[0]["content"]
    assert [mode(path), mode(path / "tls"), mode(path / "server.conf"), mode(path / "tls/key.pem")] == [
        "0o750",
        "0o750",
        "0o640",
        "0o600",
    ]
    assert mode(path.parent) == "0o755"
    inode = (path / "server.conf").stat().st_ino

    for check in (True, False):
        again = run(check=check, path=path, files=FILES, secrets=[OLD])
        assert (again["changed"], again["actions"], again["diff"]) == (False, [], [])
        assert again["digest"] == first["digest"]

    (path / "server.conf").chmod(0o666)
    (path / "left.conf").write_text("old")
    dry = run(check=True, path=path, files=FILES, secrets=[OLD])
    assert (path / "left.conf").exists() and mode(path / "server.conf") == "0o666"
    fixed = run(path=path, files=FILES, secrets=[OLD])
    assert dry["actions"] == fixed["actions"] == ["set owner and mode of server.conf", "remove left.conf"]
    assert fixed["removed"] == ["left.conf"] and fixed["written"] == []
    assert "mode: 0666" in fixed["diff"][0]["before"] and "mode: 0640" in fixed["diff"][0]["after"]
    assert (path / "server.conf").stat().st_ino == inode
    assert sorted(entry.name for entry in path.iterdir()) == ["server.conf", "tls"]

    (path / "kept.conf").write_text("old")
    assert not run(path=path, files=FILES, secrets=[OLD], purge=False)["changed"]


def test_a_changed_secret_shows_neither_the_old_nor_the_new(tmp_path):
    run(path=tmp_path / "c", files=FILES, secrets=[OLD])
    files = [{**FILES[0], "content": f"[a]\nsecret = {NEW}\nlog = 2\n"}, {**FILES[1], "content": "another key\n"}]
    result = run(path=tmp_path / "c", files=files, secrets=[NEW])
    assert [(entry["before"], entry["after"]) for entry in result["diff"]] == [
        ("[a]\nsecret = ********\nlog = 1\n", "[a]\nsecret = (new secret)\nlog = 2\n"),
        ("********\n", "(new secret)\n"),
    ]
    for hidden in (OLD, NEW, "short key", "another key"):
        assert hidden not in json.dumps(result)


def test_links_are_replaced_and_never_followed(tmp_path):
    path, victim = tmp_path / "c", tmp_path / "victim"
    path.mkdir(mode=0o750)
    victim.write_text("mine")
    victim.chmod(0o604)
    (path / "server.conf").symlink_to(victim)
    (path / ".server.conf.new").symlink_to(victim)
    (path / "other").symlink_to(victim)
    (path / "key").hardlink_to(victim)
    result = run(path=path, files=[FILES[0], {"name": "key", "content": "mine"}])
    assert result["written"] == ["server.conf", "key"] and result["removed"] == [".server.conf.new", "other"]
    assert not (path / "server.conf").is_symlink()
    assert (victim.read_text(), mode(victim), victim.stat().st_nlink) == ("mine", "0o604", 1)


def test_a_linked_directory_is_refused(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "c").symlink_to(tmp_path / "real")
    assert run(path=tmp_path / "c", files=FILES)["msg"] == (
        f"{tmp_path}/c was expected to be a directory and is a file or a symbolic link; move it away and run again."
    )
    assert list((tmp_path / "real").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_owner_and_group(tmp_path):
    path = tmp_path / "c"
    options = {"path": path, "files": FILES, "uid": 850, "gid": "851"}
    run(**options)
    owners = [(entry.stat().st_uid, entry.stat().st_gid) for entry in (path, path / "tls", path / "server.conf")]
    assert owners == [(850, 851), (850, 851), (0, 851)]
    assert not run(**options)["changed"]
    assert run(path=path, files=FILES, group="851")["actions"] == [
        "set owner and mode of directory .",
        "set owner and mode of directory tls",
    ]


def test_errors_of_the_module(tmp_path):
    path = tmp_path / "c"
    assert run(path=path, files=FILES, owner="no-such-user")["msg"] == (
        "The user 'no-such-user' was expected to exist on this host and does not; create it or give its number."
    )
    assert run(path=path, files=FILES, group="no-such-group")["msg"] == (
        "The group 'no-such-group' was expected to exist on this host and does not; create it or give its number."
    )
    assert run(check=True, path=path, files=FILES, owner="no-such-user")["changed"]
    short = run(path=path, files=FILES, secrets=["abc"])
    assert short["msg"] == (
        "Entry 1 of secrets has 3 characters and 16 were expected at least, because a shorter one would be masked in "
        "unrelated words; use a longer secret."
    )
    assert OLD not in json.dumps(short) and "short key" not in json.dumps(short)
    assert "quotes" in run(path=path, files=[{**FILES[0], "mode": 416}])["msg"]
    (tmp_path / "file").write_text("")
    assert run(path=tmp_path / "file" / "c", files=FILES)["msg"] == (
        f"{tmp_path}/file/c cannot be read or written: Not a directory. Mend that, run again."
    )
    assert not path.exists()


PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  vars:
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
    secrets_of_mine: "{{ lookup('file', base ~ '/input') | from_json }}"
    options:
      path: "{{ base }}/config"
  tasks:
    - name: Write
      nextcloud_talk.hpb.config_files:
        path: "{{ base }}/config"
        files:
          - {name: server.conf, content: "{{ lookup('template', base ~ '/server.conf.j2') }}"}
          - {name: key.pem, content: "{{ secrets_of_mine.key }}", secret: true}
        secrets: "{{ [secrets_of_mine.one, secrets_of_mine.two] }}"
      register: result
    - name: Show
      ansible.builtin.debug: {var: result}
    - name: Write into coturn's database
      nextcloud_talk.hpb.coturn_secrets:
        path: "{{ base }}/data/turndb"
        realm: turn.example.org
        secrets: "{{ [secrets_of_mine.one, secrets_of_mine.two] }}"
        owner: "{{ uid }}"
        group: "{{ gid }}"
    - name: Fail
      nextcloud_talk.hpb.config_files:
        path: "{{ base }}/config"
        mode: "wrong"
        files:
          - {name: server.conf, content: "{{ secrets_of_mine.one }}"}
        secrets: "{{ [secrets_of_mine.one] }}"
      ignore_errors: true
"""


def test_no_secret_in_a_verbose_run(tmp_path):
    (tmp_path / "play.yml").write_text(PLAYBOOK)
    (tmp_path / "server.conf.j2").write_text(
        "visible = yes\none = {{ secrets_of_mine.one }}\ntwo={{ secrets_of_mine.two }}\n"
    )
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-vvv", "--diff", "play.yml"]
    command += ["-i", "localhost,", "-c", "local", "-e", f"base={tmp_path} uid={os.geteuid()} gid={os.getegid()}"]
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS), "ANSIBLE_NOCOLOR": "1"}
    hidden = set()
    for one, two, key in ((OLD, OTHER, "first private key"), (NEW, OTHER, "second private key")):
        hidden |= {one, two, key}
        (tmp_path / "input").write_text(json.dumps({"one": one, "two": two, "key": key}))
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        output = done.stdout + done.stderr
        assert done.returncode == 0, output
        assert [value for value in hidden if value in output] == []
        assert "The mode 'wrong' of " in output
        assert "visible = yes" in output and "+one = (new secret)" in output
    assert "-one = ********" in output and " two=********" in output and "failed=0" in output
    assert f"one = {NEW}\ntwo={OTHER}\n" in (tmp_path / "config/server.conf").read_text()
