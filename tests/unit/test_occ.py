# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ways to occ, and each way in which it fails told from the others."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import tempfile
import textwrap
from pathlib import Path

import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _occ
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._occ import Result

WHERE = "occ /srv/nc/occ on this host"
SECRET = "5ec7e7" * 8
NO_COMMANDS = '\n  There are no commands defined in the "talk:signaling" namespace.\n'
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="switching the user needs root")


def options(**given):
    return {"occ": None, "php": "php", "user": None, "container": None, "container_engine": "docker", **given}


OUTCOMES = [
    (
        Result(1, "", "Nextcloud is not installed - only a limited number of commands are available\n" + NO_COMMANDS),
        _occ.NotInstalled,
        f"{WHERE} belongs to a Nextcloud that is not installed; finish its installation first.",
    ),
    (
        Result(1, "", "Nextcloud is in maintenance mode, no apps are loaded.\n" + NO_COMMANDS),
        _occ.Maintenance,
        f"{WHERE} says that Nextcloud is in maintenance mode, in which Talk cannot be changed; "
        "end it with 'occ maintenance:mode --off' and run this again.",
    ),
    (
        Result(0, "{}", "Nextcloud is in maintenance mode, no apps are loaded.\n"),
        _occ.Maintenance,
        "in maintenance mode",
    ),
    (
        Result(
            1, "", "Nextcloud or one of the apps require upgrade - only a limited number of commands\n" + NO_COMMANDS
        ),
        _occ.UpgradeNeeded,
        f"{WHERE} says that Nextcloud or an app needs an upgrade, before which Talk cannot be changed; "
        "run 'occ upgrade' and then this again.",
    ),
    (
        Result(1, "", NO_COMMANDS),
        _occ.TalkUnavailable,
        f"{WHERE} knows no command 'talk:signaling:add', because Talk is missing, disabled or too old in this "
        "Nextcloud; install it with 'occ app:install spreed', or enable it with 'occ app:enable spreed'.",
    ),
    (
        Result(0, 'Cannot write into "config" directory!\nThis can usually be fixed\n', ""),
        _occ.WrongUser,
        f"{WHERE} cannot write into its config directory as the user it was run as; set user (talk_occ_user in the "
        "inventory) to the owner of config/config.php, or make that directory writable for them.",
    ),
    (
        Result(
            1,
            "Console has to be executed with the user that owns the file config/config.php\n"
            "Current user id: 0\nOwner id of config.php: 33\n",
            "",
        ),
        _occ.WrongUser,
        f"{WHERE} refused the user it was run as; set user (talk_occ_user in the inventory) to the owner of "
        "config/config.php, number 33.",
    ),
    (
        Result(1, "Could not open input file: /srv/nc/occ\n", ""),
        _occ.OccNotFound,
        f"{WHERE} does not exist; set occ (talk_occ in the inventory) to the path of the occ file of this Nextcloud.",
    ),
    (
        Result(255, "PHP Fatal error: Uncaught Error: Class Memcached not found in /srv/nc/lib/x.php:3\n#0 x\n", ""),
        _occ.PhpFatal,
        f"{WHERE} was stopped by a PHP error at 'talk:signaling:add': PHP Fatal error: Uncaught Error: Class Memcached "
        "not found in /srv/nc/lib/x.php:3; mend this Nextcloud first, its log says more.",
    ),
    (
        Result(1, "An unhandled exception has been thrown:\nException: no database\n#0 x", ""),
        _occ.PhpFatal,
        f"{WHERE} was stopped by a PHP error at 'talk:signaling:add': An unhandled exception has been thrown: "
        "Exception: no database; mend this Nextcloud first, its log says more.",
    ),
    (
        Result(1, "Server cannot be empty.\n", ""),
        _occ.CommandFailed,
        f"{WHERE} refused 'talk:signaling:add' with exit code 1: Server cannot be empty; "
        "run the command by hand to see more.",
    ),
    (
        Result(
            1, "", '\n   Not enough arguments (missing: "secret").  \n\n\ntalk:signaling:add [--verify] [--] <server>\n'
        ),
        _occ.CommandFailed,
        f"{WHERE} refused 'talk:signaling:add' with exit code 1: Not enough arguments (missing: \"secret\"); "
        "run the command by hand to see more.",
    ),
    (
        Result(1, "", f"  The {SECRET} option does not exist.\n"),
        _occ.CommandFailed,
        f"{WHERE} refused 'talk:signaling:add' with exit code 1: The ******** option does not exist; "
        "run the command by hand to see more.",
    ),
    (
        Result(1, '{"servers":[],"secret":"somebody-elses"}', ""),
        _occ.CommandFailed,
        f"{WHERE} refused 'talk:signaling:add' with exit code 1; run the command by hand to see more.",
    ),
]


@pytest.mark.parametrize(("result", "kind", "message"), OUTCOMES)
def test_an_outcome_is_named(result, kind, message):
    with pytest.raises(_occ.OccError) as caught:
        _occ.raise_for(result, WHERE, "talk:signaling:add", False, (SECRET,))
    assert caught.type is kind
    assert message in str(caught.value)
    assert SECRET not in str(caught.value)
    assert "somebody-elses" not in str(caught.value)


@pytest.mark.parametrize(
    ("result", "bare"),
    [
        (Result(0, "Added signaling server https://talk.example.org.\n", ""), False),
        (Result(0, "There is nothing to delete.\n", ""), False),
        (Result(0, "{}", "Nextcloud is in maintenance mode, no apps are loaded.\n"), True),
        (Result(0, "{}", "Nextcloud or one of the apps require upgrade - only a limited number\n"), True),
    ],
)
def test_a_success_is_none_of_them(result, bare):
    assert _occ.raise_for(result, WHERE, "config:list", bare, ()) is None


@pytest.mark.parametrize(
    ("text", "document"),
    [
        ("[]\n", []),
        ('{"a": 1}', {"a": 1}),
        ('The process control (PCNTL) extensions are required\n{\n  "a": [\n 2]\n}\n', {"a": [2]}),
        ('[warning] something\n{"a": 3}\n', {"a": 3}),
    ],
)
def test_json_is_found_behind_warnings(text, document):
    assert _occ.decode(text) == document


@pytest.mark.parametrize("text", ["", "Cannot write", "{", '{"a": 1} and more'])
def test_what_is_no_json_is_refused(text):
    with pytest.raises(ValueError, match="no JSON document"):
        _occ.decode(text)


@pytest.mark.parametrize(
    ("given", "kind", "where"),
    [
        ({}, _occ.HostPath, "occ /var/www/nextcloud/occ on this host"),
        ({"occ": "/srv/nc/occ"}, _occ.HostPath, WHERE),
        ({"container": "app"}, _occ.InContainer, "occ /var/www/html/occ in the container app"),
        (
            {"container": "app", "container_engine": "podman", "occ": "/app/occ"},
            _occ.InContainer,
            "occ /app/occ in the container app",
        ),
    ],
)
def test_options_choose_the_reach(given, kind, where):
    reach = _occ.reach_from(options(**given))
    assert reach.__class__ is kind
    assert reach.where == where


def test_a_relative_path_is_refused():
    with pytest.raises(_occ.OccNotFound) as caught:
        _occ.reach_from(options(occ="nc/occ"))
    assert str(caught.value) == "occ is nc/occ, but an absolute path was expected; set occ (talk_occ) to one."


def script(path: Path, text: str) -> str:
    path.write_text("#!/bin/sh\n" + textwrap.dedent(text), encoding="utf-8")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def tmp_path():
    """A directory that other users may enter, which those that pytest makes are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def nextcloud(tmp_path):
    """A directory that looks like a Nextcloud."""
    root = tmp_path / "nc"
    (root / "config").mkdir(parents=True)
    (root / "occ").write_text("<?php", encoding="utf-8")
    (root / "config" / "config.php").write_text("<?php", encoding="utf-8")
    return root


def test_the_host_runs_php_with_occ(tmp_path, nextcloud):
    php = script(tmp_path / "php", """printf '{"argv": "%s", "stdin": "%s"}' "$*" "$(cat)" """)
    occ = _occ.Occ(_occ.reach_from(options(occ=str(nextcloud / "occ"), php=php)))
    assert occ.json(["config:list", "spreed"]) == {
        "argv": f"{nextcloud}/occ config:list spreed --output=json",
        "stdin": "",
    }
    assert occ.run(["config:import", "/dev/stdin"], stdin="in").out.endswith('"stdin": "in"}')


@as_root
@pytest.mark.parametrize("user", [None, "daemon", "1"])
def test_root_becomes_the_owner(tmp_path, nextcloud, user):
    php = script(tmp_path / "php", "id -u; id -g; echo $HOME; umask >/dev/null; pwd")
    owner = pwd.getpwnam("daemon")
    os.chown(nextcloud / "config" / "config.php", owner.pw_uid, owner.pw_gid)
    occ = _occ.Occ(_occ.reach_from(options(occ=str(nextcloud / "occ"), php=php, user=user)))
    assert occ.run(["status"]).out.split() == [str(owner.pw_uid), str(owner.pw_gid), owner.pw_dir, "/"]


@as_root
def test_root_becomes_an_owner_without_a_name(tmp_path, nextcloud):
    php = script(tmp_path / "php", "id -u; id -g; id -G")
    os.chown(nextcloud / "config" / "config.php", 54321, 54322)
    occ = _occ.Occ(_occ.reach_from(options(occ=str(nextcloud / "occ"), php=php)))
    assert occ.run(["status"]).out.split() == ["54321", "54322", "54322"]


@as_root
def test_without_config_the_owner_of_occ_is_taken(tmp_path, nextcloud):
    php = script(tmp_path / "php", "id -u")
    (nextcloud / "config" / "config.php").unlink()
    os.chown(nextcloud / "occ", 54321, 54322)
    occ = _occ.Occ(_occ.reach_from(options(occ=str(nextcloud / "occ"), php=php)))
    assert occ.run(["status"]).out == "54321\n"


def test_another_user_than_the_owner_is_told_to_become(tmp_path, nextcloud, monkeypatch):
    owner = pwd.getpwuid((nextcloud / "config" / "config.php").stat().st_uid).pw_name
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    occ = _occ.Occ(_occ.reach_from(options(occ=str(nextcloud / "occ"), php="/bin/true")))
    with pytest.raises(_occ.WrongUser) as caught:
        occ.run(["status"])
    assert str(caught.value) == (
        f"occ {nextcloud}/occ on this host must run as {owner}, the owner of config/config.php, but this task runs as "
        f"54321; set become to true, or become_user to {owner}."
    )


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"occ": "/nowhere/occ"}, _occ.OccNotFound, "occ /nowhere/occ on this host does not exist; set occ (talk_occ"),
        (
            {"php": "no-such-php"},
            _occ.PhpNotFound,
            "needs the program no-such-php, which is not there; set php (talk_php",
        ),
        (
            {"user": "no-such-user"},
            _occ.UserUnknown,
            "should run as no-such-user, who does not exist there; remove user",
        ),
    ],
)
def test_what_is_missing_on_the_host_is_named(nextcloud, change, kind, message):
    occ = _occ.Occ(_occ.reach_from(options(**{"occ": str(nextcloud / "occ"), "php": "/bin/true", **change})))
    with pytest.raises(kind) as caught:
        occ.run(["status"])
    assert message in str(caught.value)


@pytest.mark.parametrize("container", [None, "app"])
def test_a_program_that_cannot_be_executed_is_named(tmp_path, nextcloud, container):
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF no more")
    program.chmod(0o755)
    given = {"php": str(program), "container": container, "container_engine": str(program)}
    occ = _occ.Occ(_occ.reach_from(options(occ=str(nextcloud / "occ"), **given)))
    with pytest.raises(_occ.PermissionRefused) as caught:
        occ.run(["status"])
    assert f"needs {program}, which " in str(caught.value)


def test_an_answer_that_is_not_json_is_named(tmp_path, nextcloud):
    php = script(tmp_path / "php", "echo 'Welcome to nowhere'")
    occ = _occ.Occ(_occ.reach_from(options(occ=str(nextcloud / "occ"), php=php)))
    with pytest.raises(_occ.NotJson) as caught:
        occ.json(["config:list", "spreed"])
    assert str(caught.value) == (
        f"occ {nextcloud}/occ on this host answered 'config:list --output=json' with something that is not JSON: "
        "Welcome to nowhere; run it by hand as the owner of config.php and mend what it says."
    )


def test_a_command_that_never_ends_is_stopped_and_its_arguments_are_not_shown(tmp_path, nextcloud, monkeypatch):
    monkeypatch.setattr(_occ, "TIMEOUT", 0.2)
    php = script(tmp_path / "php", "exec sleep 20")
    occ = _occ.Occ(_occ.reach_from(options(occ=str(nextcloud / "occ"), php=php)))
    with pytest.raises(_occ.TimedOut) as caught:
        occ.run(["talk:signaling:add", "--", "https://talk.example.org", SECRET])
    assert "did not end 'talk:signaling:add' within 0.2 s" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.__suppress_context__


ENGINE = """
    test "$1" = exec || exit 99; shift
    case "$1" in -i) shift;; *) exec </dev/null;; esac
    user=nobody
    if test "$1" = -u; then user=$2; shift 2; fi
    test "$1" = app || { echo "Error response from daemon: No such container: $1" >&2; exit 1; }
    shift
    if test "$1" = stat; then printf '33 /srv/config/config.php\\n0 /srv/occ\\n'; exit 0; fi
    printf '{"user": "%s", "argv": "%s", "stdin": "%s"}' "$user" "$*" "$(cat)"
"""


@pytest.mark.parametrize(("user", "ran_as"), [(None, "33"), ("www-data", "www-data")])
def test_a_container_is_entered_as_the_owner(tmp_path, user, ran_as):
    docker = script(tmp_path / "docker", ENGINE)
    occ = _occ.Occ(
        _occ.reach_from(options(container="app", container_engine=docker, occ="/srv/occ", php="/bin/php", user=user))
    )
    assert occ.json(["config:list"]) == {
        "user": ran_as,
        "argv": "/bin/php /srv/occ config:list --output=json",
        "stdin": "",
    }
    assert json.loads(occ.run(["config:import"], stdin="in").out)["stdin"] == "in"


@pytest.mark.parametrize(
    ("behaviour", "kind", "message"),
    [
        (
            "echo 'Error response from daemon: No such container: app' >&2; exit 1",
            _occ.ContainerNotFound,
            "has no container of this name; set container (talk_container in the inventory) to the right one",
        ),
        (
            "echo 'Error: no container with name or ID \"app\" found: no such container' >&2; exit 125",
            _occ.ContainerNotFound,
            "has no container of this name",
        ),
        (
            "echo 'Error response from daemon: Container 0a1b is not running' >&2; exit 1",
            _occ.ContainerNotRunning,
            "because this container is not running; start it",
        ),
        (
            "echo 'Error: can only create exec sessions on running containers: container state improper' >&2; exit 255",
            _occ.ContainerNotRunning,
            "because this container is not running; start it",
        ),
        (
            "echo 'permission denied while trying to connect to the Docker daemon socket' >&2; exit 1",
            _occ.PermissionRefused,
            "the user of this task may not use",
        ),
        (
            "echo 'Cannot connect to the Docker daemon at unix:///var/run/docker.sock.' >&2; exit 1",
            _occ.EngineUnavailable,
            "does not answer on this host; start it.",
        ),
        ("echo 'stat: cannot stat' >&2; exit 1", _occ.OccNotFound, "occ /srv/occ in the container app does not exist"),
        (
            "case $2 in app) echo '0 /srv/occ';; *) echo 'exec: \"php\": not found' >&2; exit 127;; esac",
            _occ.PhpNotFound,
            "occ /srv/occ in the container app needs the program php, which is not there",
        ),
        (
            "case $2 in app) echo '7 /srv/occ';; *) echo 'unable to find user 7: no match' >&2; exit 126;; esac",
            _occ.UserUnknown,
            "should run as 7, who does not exist there",
        ),
    ],
)
def test_what_is_wrong_with_a_container_is_named(tmp_path, behaviour, kind, message):
    docker = script(tmp_path / "docker", behaviour)
    occ = _occ.Occ(_occ.reach_from(options(container="app", container_engine=docker, occ="/srv/occ")))
    with pytest.raises(_occ.OccError) as caught:
        occ.run(["status"])
    assert caught.type is kind
    assert message in str(caught.value)


def test_a_missing_engine_is_named():
    occ = _occ.Occ(_occ.reach_from(options(container="app", container_engine="no-such-engine")))
    with pytest.raises(_occ.EngineUnavailable) as caught:
        occ.run(["status"])
    assert "needs the program no-such-engine, which is not on this host; install it, or set" in str(caught.value)


def test_the_timeout_is_the_one_of_the_process(tmp_path, monkeypatch):
    monkeypatch.setattr(_occ, "TIMEOUT", 0.1)
    with pytest.raises(subprocess.TimeoutExpired):
        _occ.execute(["sleep", "5"])


@as_root
def test_another_user_can_open_standard_input_again(tmp_path, nextcloud):
    php = script(tmp_path / "php", "id -u; cat /dev/stdin")
    os.chown(nextcloud / "config" / "config.php", 54321, 54322)
    occ = _occ.Occ(_occ.reach_from(options(occ=str(nextcloud / "occ"), php=php)))
    assert occ.run(["config:import", "/dev/stdin"], stdin="x" * 100000).out == "54321\n" + "x" * 100000
