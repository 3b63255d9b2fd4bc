# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong on each way to occ, before occ itself has a word in it."""

from __future__ import annotations

import ctypes
import json
import os
import pwd
import shutil
import subprocess
import tempfile
import textwrap
from pathlib import Path

import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _occ, _occ_reach
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _occ_errors as errors
from occ_ways import DEFAULTS, STRANGER, Way, options

SECRET = "5ec7e7" * 8
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="switching the user needs root")
POD = {"pod": "deploy/nextcloud", "namespace": None, "container": None, "context": None, "kubeconfig": None}


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


def script(path: Path, text: str) -> str:
    path.write_text("#!/bin/sh\n" + textwrap.dedent(text), encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def occ_with(**given) -> _occ.Occ:
    return _occ.Occ(_occ_reach.reach_from(options(**given)))


def refusal(occ: _occ.Occ, kind: type[errors.OccError]) -> str:
    """Return the text of the error that a command raises, which must be of that kind."""
    with pytest.raises(errors.OccError) as caught:
        occ.run(["talk:signaling:add", "--", "https://talk.example.org", SECRET])
    assert caught.type is kind, caught.value
    assert SECRET not in str(caught.value)
    return str(caught.value)


# Which way


@pytest.mark.parametrize(
    ("given", "kind", "where"),
    [
        ({}, _occ_reach.HostPath, "occ /var/www/nextcloud/occ on this host"),
        ({"occ": "/srv/nc/occ"}, _occ_reach.HostPath, "occ /srv/nc/occ on this host"),
        (
            {"container": "", "command": [], "kubectl": {}},
            _occ_reach.HostPath,
            "occ /var/www/nextcloud/occ on this host",
        ),
        ({"container": "app"}, _occ_reach.InContainer, "occ /var/www/html/occ in the container app"),
        (
            {"container": "nextcloud-aio-nextcloud"},
            _occ_reach.InContainer,
            "occ /var/www/html/occ in the container nextcloud-aio-nextcloud",
        ),
        (
            {"container": "app", "container_engine": "podman", "occ": "/app/occ"},
            _occ_reach.InContainer,
            "occ /app/occ in the container app",
        ),
        ({"snap": True}, _occ_reach.InSnap, "occ of the snap nextcloud on this host"),
        ({"kubectl": POD}, _occ_reach.InPod, "occ /var/www/html/occ in deploy/nextcloud"),
        (
            {"kubectl": {**POD, "namespace": "cloud"}, "occ": "/app/occ"},
            _occ_reach.InPod,
            "occ /app/occ in deploy/nextcloud of the namespace cloud",
        ),
        ({"command": ["/usr/bin/ssh", "nas", "occ"]}, _occ_reach.ByCommand, "occ through the command /usr/bin/ssh"),
    ],
)
def test_options_choose_the_way(given, kind, where):
    reach = _occ_reach.reach_from(options(**given))
    assert reach.__class__ is kind
    assert reach.where == where


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        (
            {"container": "app", "kubectl": POD},
            errors.BadReach,
            "Several ways to occ are set, container and kubectl, but exactly one was expected; remove all but one (in "
            "the inventory: talk_container, talk_kubectl).",
        ),
        (
            {"container": "app", "snap": True, "command": ["occ"]},
            errors.BadReach,
            "Several ways to occ are set, container and snap and command, but exactly one was expected; remove all but "
            "one (in the inventory: talk_container, talk_snap, talk_occ_command).",
        ),
        (
            {"kubectl": POD, "user": "www-data"},
            errors.BadReach,
            "user is set to www-data, but has no effect on occ that is reached with kubectl; remove user "
            "(talk_occ_user in the inventory), or kubectl (talk_kubectl).",
        ),
        (
            {"command": ["occ"], "occ": "/srv/occ"},
            errors.BadReach,
            "occ is set to /srv/occ, but has no effect on occ that is reached with command; remove occ (talk_occ in "
            "the inventory), or command (talk_occ_command).",
        ),
        (
            {"snap": True, "user": "root"},
            errors.BadReach,
            "user is set to root, but has no effect on occ that is reached with snap; remove user (talk_occ_user in "
            "the inventory), or snap (talk_snap).",
        ),
        (
            {"occ": "nc/occ"},
            errors.OccNotFound,
            "occ is nc/occ, but an absolute path was expected; set occ (talk_occ) to one.",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(given, kind, message):
    with pytest.raises(kind) as caught:
        _occ_reach.reach_from(options(**given))
    assert str(caught.value) == message


# On the host


def test_the_host_runs_php_with_occ(tmp_path, nextcloud):
    php = script(tmp_path / "php", """printf '{"argv": "%s", "stdin": "%s"}' "$*" "$(cat)" """)
    occ = occ_with(occ=str(nextcloud / "occ"), php=php)
    assert occ.json(["config:list", "spreed"]) == {
        "argv": f"{nextcloud}/occ config:list spreed --output=json",
        "stdin": "",
    }
    assert json.loads(occ.run(["config:list", _occ.STDIN], stdin="in").out) == {
        "argv": f"{nextcloud}/occ config:list php://stdin",
        "stdin": "in",
    }


@as_root
@pytest.mark.parametrize("user", [None, "daemon", "1"])
def test_root_becomes_the_owner(tmp_path, nextcloud, user):
    php = script(tmp_path / "php", "id -u; id -g; echo $HOME; pwd")
    owner = pwd.getpwnam("daemon")
    os.chown(nextcloud / "config" / "config.php", owner.pw_uid, owner.pw_gid)
    occ = occ_with(occ=str(nextcloud / "occ"), php=php, user=user)
    assert occ.run(["status"]).out.split() == [str(owner.pw_uid), str(owner.pw_gid), owner.pw_dir, "/"]


@as_root
def test_root_becomes_an_owner_without_a_name(tmp_path, nextcloud):
    php = script(tmp_path / "php", "id -u; id -g; id -G")
    os.chown(nextcloud / "config" / "config.php", 54321, 54322)
    occ = occ_with(occ=str(nextcloud / "occ"), php=php)
    assert occ.run(["status"]).out.split() == ["54321", "54322", "54322"]


@as_root
def test_without_config_the_owner_of_occ_is_taken(tmp_path, nextcloud):
    php = script(tmp_path / "php", "id -u")
    (nextcloud / "config" / "config.php").unlink()
    os.chown(nextcloud / "occ", 54321, 54322)
    assert occ_with(occ=str(nextcloud / "occ"), php=php).run(["status"]).out == "54321\n"


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (
            {"occ": "/nowhere/occ"},
            errors.OccNotFound,
            "occ /nowhere/occ on this host does not exist; set occ (talk_occ in the inventory) to the path of the occ "
            "file of this Nextcloud.",
        ),
        (
            {"occ": "/"},
            errors.OccNotFound,
            "occ / on this host does not exist; set occ (talk_occ in the inventory) to the path of the occ file of "
            "this Nextcloud.",
        ),
        (
            {"php": "no-such-php"},
            errors.PhpNotFound,
            "{where} needs the program no-such-php, which is not there; set php (talk_php in the inventory) to the "
            "path of PHP.",
        ),
        (
            {"user": "no-such-user"},
            errors.UserUnknown,
            "{where} should run as no-such-user, who does not exist there; remove user (talk_occ_user in the "
            "inventory), so that the owner of config.php is taken.",
        ),
    ],
)
def test_what_is_missing_on_the_host_is_named(nextcloud, change, kind, message):
    occ = occ_with(**{"occ": str(nextcloud / "occ"), "php": "/bin/true", **change})
    assert refusal(occ, kind) == message.format(where=f"occ {nextcloud}/occ on this host")


@pytest.mark.parametrize("container", [None, "app"])
def test_a_program_that_cannot_be_executed_is_named(tmp_path, nextcloud, container):
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF no more")
    program.chmod(0o755)
    given = {"php": str(program), "container": container, "container_engine": str(program)}
    text = refusal(occ_with(occ=str(nextcloud / "occ"), **given), errors.PermissionRefused)
    assert f"needs {program}, which " in text


def test_a_command_that_never_ends_is_stopped_and_its_arguments_are_not_shown(tmp_path, nextcloud, monkeypatch):
    monkeypatch.setattr(_occ_reach, "TIMEOUT", 0.2)
    php = script(tmp_path / "php", "exec sleep 20")
    occ = occ_with(occ=str(nextcloud / "occ"), php=php)
    with pytest.raises(errors.TimedOut) as caught:
        occ.run(["talk:signaling:add", "--", "https://talk.example.org", SECRET])
    assert "did not end 'talk:signaling:add' within 0.2 s" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.__suppress_context__


def test_the_timeout_is_the_one_of_the_process(monkeypatch):
    monkeypatch.setattr(_occ_reach, "TIMEOUT", 0.1)
    with pytest.raises(subprocess.TimeoutExpired):
        _occ_reach.execute(["sleep", "5"])


# sudo


def must_run_as_owner(way: Way, why: str, owner: str, me: str = str(STRANGER)) -> str:
    return (
        f"{way.where} must run as {owner}, the owner of config/config.php, but this task runs as {me}, and {why}; set "
        f"become to true, or become_user to {owner}, or let sudo do it without a password."
    )


@pytest.mark.parametrize(
    "text",
    [
        "sudo: a password is required",
        "sudo: interactive authentication is required",
        "sudo-rs: interactive authentication is required",
        "sudo: unable to resolve host box: Name or service not known\nsudo: a password is required",
        f"Sorry, user me is not allowed to execute 'php occ talk:signaling:add {SECRET}' as www-data on box.",
        "me is not in the sudoers file.",
        'sudo: The "no new privileges" flag is set, which prevents sudo from running as root.',
    ],
)
def test_a_sudo_that_does_not_let_us_is_named(tmp_path, monkeypatch, text):
    way = Way(tmp_path, "sudo", monkeypatch)
    script(way.bin / "sudo", f"cat >&2 <<'END'\n{text}\nEND\nexit 1\n")
    owner = pwd.getpwuid((way.nextcloud.root / "config" / "config.php").stat().st_uid).pw_name
    expected = must_run_as_owner(way, "sudo does not let them without a password", owner)
    assert refusal(way.caller(), errors.WrongUser) == expected


def test_a_host_without_sudo_is_named(tmp_path, monkeypatch):
    way = Way(tmp_path, "sudo", monkeypatch)
    (way.bin / "sudo").unlink()
    monkeypatch.setenv("PATH", str(way.bin))
    owner = pwd.getpwuid((way.nextcloud.root / "config" / "config.php").stat().st_uid).pw_name
    assert refusal(way.caller(), errors.WrongUser) == must_run_as_owner(
        way, "there is no sudo that they may use", owner
    )


def test_a_php_that_sudo_does_not_find_is_named(tmp_path, monkeypatch):
    way = Way(tmp_path, "sudo", monkeypatch)
    script(way.bin / "sudo", 'echo "sudo: $6: command not found" >&2; exit 1\n')
    assert f"needs the program {way.php}, which is not there" in refusal(way.caller(), errors.PhpNotFound)


def test_a_warning_of_sudo_is_no_refusal(tmp_path, monkeypatch):
    way = Way(tmp_path, "sudo", monkeypatch)
    script(way.bin / "sudo", "echo 'sudo: unable to resolve host box' >&2; echo '[]'\n")
    assert way.caller().json(["talk:stun:list"]) == []


def as_user(uid: int, call):
    """Return the text that `call` returns in a process of that user, or that of the error it raises."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        text = "no answer"
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            text = call()
        except errors.OccError as error:
            text = f"{type(error).__name__}: {error}"
        finally:
            os.write(writing, text.encode())
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return text


@as_root
@pytest.mark.skipif(shutil.which("sudo") is None, reason="there is no sudo on this machine")
@pytest.mark.parametrize("allowed", [False, True])
def test_the_real_sudo(tmp_path, monkeypatch, allowed):
    """As real users, with rules of our own in a mount namespace of our own."""
    way = Way(tmp_path, "host", monkeypatch)
    (way.nextcloud.root / "config").chmod(0o770)
    stranger = pwd.getpwnam("nobody")
    rule = f"nobody ALL=(daemon) NOPASSWD: {way.php} {way.occ} *\n" if allowed else ""
    rules = tmp_path / "sudoers"
    rules.write_text(f"Defaults use_pty\n{rule}")
    rules.chmod(0o440)
    libc = ctypes.CDLL(None, use_errno=True)

    def import_it():
        document = json.dumps({"apps": {"spreed": {"signaling_servers": SECRET * 3000}}})
        occ = way.caller(SECRET)
        assert os.geteuid() == stranger.pw_uid
        occ.run(["config:import", _occ.STDIN], stdin=document)
        return "stored"

    def in_namespace():
        clone_newns, ms_rec, ms_private, ms_bind = 0x20000, 0x4000, 0x40000, 0x1000
        for outcome in (
            libc.unshare(clone_newns),
            libc.mount(b"none", b"/", None, ms_rec | ms_private, None),
            libc.mount(str(rules).encode(), b"/etc/sudoers", None, ms_bind, None),
        ):
            if outcome:
                return "no namespace"
        return as_user(stranger.pw_uid, import_it)

    answer = as_user(0, in_namespace)
    if answer == "no namespace":
        pytest.skip("this machine gives root no mount namespace")
    if allowed:
        assert answer == "stored"
        assert way.nextcloud.stored("signaling_servers")[0] == SECRET * 3000
        owner = (way.nextcloud.root / "config" / "config.php").stat().st_uid
        assert (way.nextcloud.root / "data" / "nextcloud.db").stat().st_uid == owner
    else:
        why = "sudo does not let them without a password"
        assert answer == f"WrongUser: {must_run_as_owner(way, why, 'daemon', 'nobody')}"


@as_root
def test_a_closed_config_directory_tells_its_owner(tmp_path, monkeypatch):
    way = Way(tmp_path, "host", monkeypatch)
    monkeypatch.setenv("PATH", str(way.bin))
    (way.nextcloud.root / "config").chmod(0o700)
    answer = as_user(54321, lambda: way.caller().run(["status"]).out)
    assert answer.startswith(f"WrongUser: {way.where} must run as daemon, the owner of config/config.php, but this ")
    way.nextcloud.root.chmod(0o700)
    answer = as_user(54321, lambda: way.caller().run(["status"]).out)
    assert answer == (
        f"PermissionRefused: {way.where} may not be read by the user of this task; set become to true, or set user "
        "(talk_occ_user in the inventory) to the owner of config/config.php and let sudo start it without a password."
    )


# Containers


CONTAINER_FAULTS = [
    (
        "echo 'Error response from daemon: No such container: app' >&2; exit 1",
        errors.ContainerNotFound,
        "cannot be reached, because {engine} on this host has no container of this name; set container (talk_container "
        "in the inventory) to the right one, look at '{engine} ps -a' on this host{rootless}.",
    ),
    (
        "echo 'Error: no container with name or ID \"app\" found: no such container' >&2; exit 125",
        errors.ContainerNotFound,
        "cannot be reached, because {engine} on this host has no container of this name; set container (talk_container "
        "in the inventory) to the right one, look at '{engine} ps -a' on this host{rootless}.",
    ),
    (
        "echo 'Error response from daemon: Container 0a1b is not running' >&2; exit 1",
        errors.ContainerNotRunning,
        "cannot be reached, because this container is not running; start it, look at '{engine} ps -a' on this host.",
    ),
    (
        "echo 'Error response from daemon: Container app is paused, unpause the container before exec' >&2; exit 1",
        errors.ContainerNotRunning,
        "cannot be reached, because this container is not running; start it, look at '{engine} ps -a' on this host.",
    ),
    (
        "echo 'Error: can only create exec sessions on running containers: container state improper' >&2; exit 255",
        errors.ContainerNotRunning,
        "cannot be reached, because this container is not running; start it, look at '{engine} ps -a' on this host.",
    ),
    (
        "echo 'permission denied while trying to connect to the Docker daemon socket at unix:///x.sock' >&2; exit 1",
        errors.PermissionRefused,
        "cannot be reached, because the user of this task may not use {engine}; set become to true.",
    ),
    (
        "echo 'permission denied while trying to connect to the docker API at unix:///x' >&2; exit 1",
        errors.PermissionRefused,
        "cannot be reached, because the user of this task may not use {engine}; set become to true.",
    ),
    (
        "echo 'Error: creating runtime static files directory: mkdir /x: permission denied' >&2; exit 125",
        errors.PermissionRefused,
        "cannot be reached, because the user of this task may not use {engine}; set become to true.",
    ),
    (
        'echo \'time="2026-01-01T00:00:00Z" level=error msg="stat /x/storage.conf: permission denied"\' >&2; exit 1',
        errors.PermissionRefused,
        "cannot be reached, because the user of this task may not use {engine}; set become to true.",
    ),
    (
        "echo 'Cannot connect to the Docker daemon at unix:///var/run/docker.sock.' >&2; exit 1",
        errors.EngineUnavailable,
        "cannot be reached, because {engine} does not answer on this host; start it.",
    ),
    (
        "echo 'Error: unable to connect to Podman socket: dial unix /run/podman/podman.sock' >&2; exit 125",
        errors.EngineUnavailable,
        "cannot be reached, because {engine} does not answer on this host; start it.",
    ),
    (
        "echo 'stat: cannot stat' >&2; exit 1",
        errors.OccNotFound,
        "does not exist; set occ (talk_occ in the inventory) to the path of the occ file of this Nextcloud.",
    ),
    (
        "echo 'exec: \"stat\": executable file not found in $PATH' >&2; exit 127",
        errors.UserUnknown,
        "belongs to the owner of config.php, who cannot be found out because the container has no program stat; set "
        "user (talk_occ_user in the inventory) to the owner of config/config.php.",
    ),
    (
        "case $2 in app) echo '0 /srv/occ';; *) echo 'exec: \"php\": not found' >&2; exit 127;; esac",
        errors.PhpNotFound,
        "needs the program php, which is not there; set php (talk_php in the inventory) to the path of PHP.",
    ),
    (
        "case $2 in app) echo '0 /srv/occ';; *) echo 'Error: crun: open executable: Permission denied: OCI permission "
        "denied' >&2; exit 126;; esac",
        errors.PhpNotFound,
        "needs the program php, which is not there; set php (talk_php in the inventory) to the path of PHP.",
    ),
    (
        "case $2 in app) echo '7 /srv/occ';; *) echo 'unable to find user 7: no match' >&2; exit 126;; esac",
        errors.UserUnknown,
        "should run as 7, who does not exist there; remove user (talk_occ_user in the inventory), so that the owner of "
        "config.php is taken.",
    ),
]


@pytest.mark.parametrize("name", ["docker", "podman"])
@pytest.mark.parametrize(("behaviour", "kind", "message"), CONTAINER_FAULTS)
def test_what_is_wrong_with_a_container_is_named(tmp_path, name, behaviour, kind, message):
    engine = script(tmp_path / name, behaviour)
    occ = occ_with(container="app", container_engine=engine, occ="/srv/occ")
    me = pwd.getpwuid(os.geteuid()).pw_name
    rootless = f" as {me}, since each user has containers of their own, and set become_user to whose it is"
    text = message.format(engine=engine, rootless=rootless if name == "podman" else "")
    assert refusal(occ, kind) == f"occ /srv/occ in the container app {text}"


def test_a_missing_engine_is_named():
    occ = occ_with(container="app", container_engine="no-such-engine")
    assert refusal(occ, errors.EngineUnavailable) == (
        "occ /var/www/html/occ in the container app needs the program no-such-engine, which is not on this host; "
        "install it, or set container_engine (talk_container_engine in the inventory) to the one that runs the "
        "container."
    )


@pytest.mark.parametrize(("user", "ran_as"), [(None, "33"), ("www-data", "www-data")])
def test_a_container_is_entered_as_the_owner(tmp_path, user, ran_as):
    """Also as the owner that only root in the container can find out."""
    engine = script(
        tmp_path / "docker",
        """
        case "$*" in
          "exec app stat"*) echo '0 /srv/occ'; echo "stat: /srv/config/config.php: Permission denied" >&2; exit 1 ;;
          "exec -u 0 app stat"*) printf '33 /srv/config/config.php\\n0 /srv/occ\\n' ;;
          *) echo "$*" ;;
        esac
        """,
    )
    occ = occ_with(container="app", container_engine=engine, occ="/srv/occ", php="/bin/php", user=user)
    assert occ.run(["config:list"]).out == f"exec -u {ran_as} app /bin/php /srv/occ config:list\n"
    assert occ.run(["config:list"], stdin="in").out == f"exec -i -u {ran_as} app /bin/php /srv/occ config:list\n"


# The snap


def test_the_snap_is_also_found_in_path(tmp_path, monkeypatch):
    way = Way(tmp_path, "snap", monkeypatch)
    monkeypatch.setattr(_occ_reach, "SNAP_OCC", "/nowhere/nextcloud.occ")
    assert way.caller().json(["talk:stun:list"]) == []
    (way.bin / "nextcloud.occ").unlink()
    assert refusal(way.caller(), errors.OccNotFound) == (
        f"{way.where} does not exist, neither as /nowhere/nextcloud.occ nor as nextcloud.occ in PATH; set snap "
        "(talk_snap in the inventory) to false, or install the snap."
    )


def test_the_snap_wants_root(tmp_path, monkeypatch):
    way = Way(tmp_path, "snap", monkeypatch)
    way.run_as(STRANGER)
    assert refusal(way.caller(), errors.PermissionRefused) == f"{way.where} runs as root only; set become to true."


# kubectl


NO_CLUSTER = (
    "cannot be reached, because kubectl gets no answer from a cluster; set kubectl.context and kubectl.kubeconfig "
    "(talk_kubectl in the inventory) to the right ones, look at 'kubectl cluster-info'."
)
NO_POD = (
    "cannot be reached, because the cluster has no such pod; set kubectl.pod and kubectl.namespace (talk_kubectl in "
    "the inventory) to the right ones, such as deploy/nextcloud, look at 'kubectl get pods --all-namespaces'."
)
NO_CONTAINER = (
    "cannot be reached, because the pod has no container app; set kubectl.container (talk_kubectl in the inventory) to "
    "the right one."
)
NOT_RUNNING = "cannot be reached, because no such pod is running; start it, look at 'kubectl get pods'."
FORBIDDEN = (
    "cannot be reached, because the cluster does not let this user run programs in pods (create pods/exec); give them "
    "that right, or set kubectl.context or kubectl.kubeconfig (talk_kubectl in the inventory) to those of a user who "
    "may."
)
NO_PHP = "needs the program php, which is not there; set php (talk_php in the inventory) to the path of PHP."
KUBECTL_FAULTS = [
    (
        'E1 memcache.go:265] "Unhandled Error" err="dial tcp 192.0.2.1:6443: connect: connection refused"\n'
        "The connection to the server 192.0.2.1:6443 was refused - did you specify the right host or port?",
        1,
        errors.ClusterUnavailable,
        NO_CLUSTER,
    ),
    (
        "Unable to connect to the server: dial tcp: lookup k.invalid: no such host",
        1,
        errors.ClusterUnavailable,
        NO_CLUSTER,
    ),
    (
        "Unable to connect to the server: x509: certificate signed by unknown authority",
        1,
        errors.ClusterUnavailable,
        NO_CLUSTER,
    ),
    ('error: context "prod" does not exist', 1, errors.ClusterUnavailable, NO_CLUSTER),
    ("error: stat /etc/kube: no such file or directory", 1, errors.ClusterUnavailable, NO_CLUSTER),
    ('Error from server (NotFound): pods "x" not found', 1, errors.PodNotFound, NO_POD),
    ('Error from server (NotFound): deployments.apps "nextcloud" not found', 1, errors.PodNotFound, NO_POD),
    ('Error from server (NotFound): namespaces "x" not found', 1, errors.PodNotFound, NO_POD),
    (
        "Error from server (BadRequest): container app is not valid for pod nextcloud-1",
        1,
        errors.ContainerNotFound,
        NO_CONTAINER,
    ),
    ("error: container app not found in pod nextcloud-1_cloud", 1, errors.ContainerNotFound, NO_CONTAINER),
    ('error: unable to upgrade connection: container not found ("app")', 1, errors.ContainerNotRunning, NOT_RUNNING),
    ("error: timed out waiting for the condition", 1, errors.ContainerNotRunning, NOT_RUNNING),
    (
        "error: cannot exec into a container in a completed pod; current phase is Failed",
        1,
        errors.ContainerNotRunning,
        NOT_RUNNING,
    ),
    (
        'Error from server (Forbidden): pods "x" is forbidden: User "u" cannot create resource "pods/exec"',
        1,
        errors.PermissionRefused,
        FORBIDDEN,
    ),
    ("error: You must be logged in to the server (Unauthorized)", 1, errors.PermissionRefused, FORBIDDEN),
    (
        'error: Internal error occurred: error executing command in container: exec: "php": executable file not found',
        1,
        errors.PhpNotFound,
        NO_PHP,
    ),
    ("command terminated with exit code 126", 126, errors.PhpNotFound, NO_PHP),
]


@pytest.mark.parametrize(("text", "code", "kind", "message"), KUBECTL_FAULTS)
def test_what_is_wrong_with_a_pod_is_named(tmp_path, monkeypatch, text, code, kind, message):
    script(tmp_path / "kubectl", f"cat >&2 <<'END'\n{text}\nEND\nexit {code}\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    occ = occ_with(kubectl={**POD, "container": "app"})
    assert refusal(occ, kind) == f"occ /var/www/html/occ in deploy/nextcloud {message}"


def test_a_word_of_occ_is_none_of_kubectl(tmp_path, monkeypatch):
    text = "error: context x does not exist\nUnauthorized\ncommand terminated with exit code 1"
    script(tmp_path / "kubectl", f"cat >&2 <<'END'\n{text}\nEND\nexit 1\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert refusal(occ_with(kubectl=POD), errors.CommandFailed).endswith(
        "with exit code 1: error: context x does not exist Unauthorized; run the command by hand to see more."
    )


def test_a_missing_kubectl_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert refusal(occ_with(kubectl=POD), errors.EngineUnavailable) == (
        "occ /var/www/html/occ in deploy/nextcloud needs the program kubectl, which is not on this host; install it, "
        "or run this where it is."
    )


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl on this machine")
def test_the_real_kubectl_without_a_cluster(tmp_path):
    config = tmp_path / "config"
    cluster = {"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    document = {"apiVersion": "v1", "kind": "Config", "current-context": "c", "clusters": [cluster]}
    config.write_text(json.dumps({**document, "contexts": [context], "users": [{"name": "u", "user": {"token": "t"}}]}))
    for change in ({}, {"context": "nowhere"}, {"kubeconfig": str(tmp_path / "none")}):
        occ = occ_with(kubectl={**POD, "kubeconfig": str(config), **change})
        assert refusal(occ, errors.ClusterUnavailable) == f"{occ.where} {NO_CLUSTER}"


# Any command


@pytest.mark.parametrize(
    ("words", "shells"),
    [
        (["docker", "exec", "-i", "app", "php", "occ"], 0),
        (["ssh", "nas", "php", "occ"], 1),
        (["/usr/bin/ssh", "-p", "22", "nas", "php", "occ"], 1),
        (["sshpass", "-f", "/f", "ssh", "nas", "php", "occ"], 1),
        (["env", "X=1", "autossh", "nas", "php", "occ"], 1),
        (["ssh", "hop", "ssh", "nas", "php", "occ"], 2),
        (["ssh", "ssh", "php", "occ"], 1),
        (["rsh", "nas", "/srv/ssh/occ"], 1),
    ],
)
def test_remote_shells_are_counted(words, shells):
    assert _occ_reach.remote_shells(words) == shells


@pytest.mark.parametrize(
    ("behaviour", "kind", "message"),
    [
        (
            "echo 'ssh: connect to host nas port 22: Connection refused' >&2; exit 255",
            errors.HostUnreachable,
            "cannot be reached, because the other host does not let us in (ssh: connect to host nas port 22: "
            "Connection refused); try the command by hand as the user of this task, it must work without a question.",
        ),
        (
            "echo 'me@nas: Permission denied (publickey,password).' >&2; exit 255",
            errors.HostUnreachable,
            "cannot be reached, because the other host does not let us in (me@nas: Permission denied "
            "(publickey,password)); try the command by hand as the user of this task, it must work without a question.",
        ),
        (
            "echo 'sh: 1: docker: not found' >&2; exit 127",
            errors.OccNotFound,
            "cannot be started, because a program in it is not there or may not be executed; correct command "
            "(talk_occ_command in the inventory).",
        ),
        (
            "echo 'PHP Fatal error: Out of memory'; exit 255",
            errors.PhpFatal,
            "was stopped by a PHP error at 'talk:signaling:add': PHP Fatal error: Out of memory; mend this Nextcloud "
            "first, its log says more.",
        ),
        (
            "echo 'Error response from daemon: No such container: app' >&2; exit 1",
            errors.CommandFailed,
            "refused 'talk:signaling:add' with exit code 1: Error response from daemon: No such container: app; run "
            "the command by hand to see more.",
        ),
    ],
)
def test_what_is_wrong_with_a_command_is_named(tmp_path, behaviour, kind, message):
    ssh = script(tmp_path / "ssh", behaviour)
    assert refusal(occ_with(command=[ssh, "nas", "occ"]), kind) == f"occ through the command {ssh} {message}"


def test_a_missing_command_is_named():
    assert refusal(occ_with(command=["no-such-program", "occ"]), errors.EngineUnavailable) == (
        "occ through the command no-such-program needs that program, which is not on this host; correct command "
        "(talk_occ_command in the inventory), or install it."
    )


def test_a_command_that_keeps_standard_input_to_itself_is_named(tmp_path, monkeypatch):
    """docker exec without -i: what the real occ says of it is known from the stand-in."""
    way = Way(tmp_path, "command", monkeypatch)
    way.options["command"].remove("-i")
    with pytest.raises(errors.StdinRefused) as caught:
        way.caller().run(["config:import", _occ.STDIN], stdin='{"apps": {"spreed": {"x": "1"}}}')
    assert str(caught.value) == (
        "occ through the command docker got nothing by standard input at 'config:import'; correct command "
        "(talk_occ_command in the inventory), in which docker, podman and kubectl exec need -i, and ssh must not have "
        "-n."
    )


@pytest.mark.parametrize("name", ["/dev/stdin", "/proc/self/fd/0"])
def test_occ_cannot_open_what_has_no_name(tmp_path, monkeypatch, name):
    """Why the secret has to go in as php://stdin."""
    way = Way(tmp_path, "host", monkeypatch)
    done = subprocess.run(
        [way.php, way.occ, "config:import", name], input=b'{"apps": {}}', capture_output=True, check=False
    )
    assert (done.stdout, done.returncode) == (b"The file must contain a valid json array\n", 1)


@pytest.mark.parametrize(
    ("given", "spelled"),
    [
        ({"occ": "/srv/nc/occ", "php": "php8.3"}, "sudo -u {me} php8.3 /srv/nc/occ"),
        ({"container": "app 1"}, "docker exec 'app 1' php /var/www/html/occ"),
        (
            {"container": "app", "user": "33", "container_engine": "podman"},
            "podman exec -u 33 app php /var/www/html/occ",
        ),
        ({"snap": True}, "sudo nextcloud.occ"),
        (
            {
                "kubectl": {
                    "pod": "deploy/nc",
                    "namespace": "cloud",
                    "container": None,
                    "context": None,
                    "kubeconfig": None,
                }
            },
            "kubectl exec -n cloud deploy/nc -- php /var/www/html/occ",
        ),
        # The words may be nobody's business.
        ({"command": ["ssh", "admin@nas", "occ"]}, "occ (by talk_occ_command)"),
    ],
)
def test_how_a_person_starts_occ(given, spelled, monkeypatch):
    monkeypatch.setattr(_occ_reach.shutil, "which", lambda program: f"/usr/bin/{program}")
    me = pwd.getpwuid(os.geteuid()).pw_name
    assert _occ_reach.reach_from({**DEFAULTS, **given}).spelled() == spelled.replace("{me}", me)


def test_how_a_person_starts_occ_where_there_is_no_sudo(monkeypatch):
    monkeypatch.setattr(_occ_reach.shutil, "which", lambda program: None)
    me = pwd.getpwuid(os.geteuid()).pw_name
    given = {**DEFAULTS, "occ": "/srv/nc/occ", "php": "php8.3"}
    assert _occ_reach.reach_from(given).spelled() == f"runuser -u {me} -- php8.3 /srv/nc/occ"
