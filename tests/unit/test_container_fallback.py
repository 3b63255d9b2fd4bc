# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is kept of a container and put back: a real process with a docker that keeps its containers in a file.

The docker can end the module that calls it, before or after any command, as a kill or a power cut would.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import module_process
import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _fallback

DOCKER = """#!{python}
import json, os, signal, sys
here = {directory!r}
words = sys.argv[1:]
with open(here + "/engine.json") as file:
    containers = json.load(file)
def end(code=0, text=""):
    with open(here + "/engine.json", "w") as file:
        json.dump(containers, file)
    sys.stderr.write(text)
    sys.exit(code)
# By name or by id.
ids = {{one["id"]: name for name, one in containers.items()}}
name = ids.get(words[-1], words[-1])
if words[:2] == ["container", "inspect"]:
    asked = [ids.get(word, word) for word in words[2:]]
    print(json.dumps([{{"Name": "/" + name, "Id": one["id"],
        "Config": {{"Image": one["image"], "Labels": {{"nextcloud-talk.hpb": one.get("label", "nats")}}}},
        "HostConfig": {{"Memory": one.get("memory", 1), "MemorySwap": one.get("memory", 1),
                        "Binds": [one.get("base", here) + "/nats/config:/config:ro"]}},
        "State": {{"Running": one["running"], "Restarting": one.get("restarting", False),
                   "Status": one.get("status", "running" if one["running"] else "exited"),
                   "Health": {{"Status": one["health"] if one["running"] else "unhealthy"}}}}}}
        for name in asked for one in [containers.get(name)] if one]))
    sys.exit(0 if set(asked) <= set(containers) else 1)
if words[0] == "ps":
    service = words[-1].rpartition("=")[2]
    print("\\n".join(one["id"] for one in containers.values() if service == one.get("label", "nats")))
    sys.exit(0)
if words[:2] == ["image", "inspect"]:
    volumes = ".Config.Volumes" in words[3]
    print("/data" if volumes else "\\n".join("id-" + name for name in words[4:]))
    sys.exit(0)
if words[0] == "logs":
    print("last words of " + name)
    print("secret is {secret}")
    told = os.path.exists(here + "/calls") and "kill --signal" in open(here + "/calls").read()
    if told and os.path.exists(here + "/answer"):
        print(open(here + "/answer").read())
    sys.exit(0)
with open(here + "/calls", "a") as file:
    file.write(" ".join(words) + "\\n")
count = sum(1 for _line in open(here + "/calls"))
when = open(here + "/kill").read().split() if os.path.exists(here + "/kill") else []
if when == ["before", str(count)]:
    os.kill(os.getppid(), signal.SIGKILL)
    sys.exit(0)
source = ids.get(words[1], words[1]) if words[0] == "rename" else name
if words[0] == "create":
    name = next(word for word in words if word.startswith("--name=")).partition("=")[2]
    if os.path.exists(here + "/taken"):
        # Somebody else was faster.
        containers[name] = json.load(open(here + "/taken"))
        end(1, "Error: the name is in use")
    made = {{"id": "reserved", "image": words[-2], "running": False, "health": "", "restart": "no"}}
    containers[name] = {{**made, "status": "created"}}
    source = name
if source not in containers:
    end(1, "Error: No such container: " + source)
if words[:2] == ["update", "--memory"]:
    containers[name]["memory"] = int(words[2])
    containers[name]["health"] = "healthy"
elif words[0] == "update":
    containers[name]["restart"] = words[2]
elif words[0] == "rename":
    if name in containers:
        end(1, "Error: the name is in use")
    containers[name] = containers.pop(source)
elif words[0] == "stop":
    containers[name]["running"] = False
elif words[0] in ("start", "restart"):
    containers[name]["running"] = True
elif words[0] == "rm":
    del containers[name]
with open(here + "/engine.json", "w") as file:
    json.dump(containers, file)
if when == ["after", str(count)]:
    os.kill(os.getppid(), signal.SIGKILL)
"""
SECRET = "5ec2e7" * 8
OLD = {"id": "old", "image": "nats:1", "running": True, "health": "healthy", "restart": "always"}
NEW = {"id": "new", "image": "nats:2", "running": True, "health": "healthy", "restart": "always"}
SICK = {**NEW, "health": "unhealthy"}


def as_options(files: dict) -> list[dict]:
    """Return files as the modules take them."""
    return [{"name": name, "content": text} for name, text in files.items()]


class Host:
    """A directory with a docker, its containers and the configuration of the container nats."""

    def __init__(self, directory) -> None:
        self.directory = directory
        self.config = directory / "nats/config"
        docker = directory / "docker"
        docker.write_text(DOCKER.format(python=sys.executable, directory=str(directory), secret=SECRET))
        docker.chmod(0o755)
        self.write({"nats.conf": "old", "sub/b": "old too"})
        self.containers = {"nats": dict(OLD)}

    @property
    def containers(self) -> dict:
        return json.loads((self.directory / "engine.json").read_text())

    @containers.setter
    def containers(self, value: dict) -> None:
        (self.directory / "engine.json").write_text(json.dumps(value))

    def write(self, files: dict) -> None:
        for path in self.config.rglob("*") if self.config.exists() else []:
            if path.is_file():
                path.unlink()
        for name, text in files.items():
            path = self.config / name
            path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(0o640)
        self.config.chmod(0o750)

    def files(self) -> dict:
        return {str(p.relative_to(self.config)): p.read_text() for p in self.config.rglob("*") if p.is_file()}

    def beside(self) -> list[str]:
        return sorted(path.name for path in self.config.parent.iterdir())

    def run(self, state, check=False, **options):
        """Run the module; returns its result, or None when it was killed."""
        (self.directory / "calls").write_text("")
        given = {"container": "nats", "directory": str(self.directory / "nats"), **options}
        if state != "kept":
            given.pop("anew", None)
        if state == "found":
            module, given = "container_look", {"files": as_options(self.files()), **given}
        elif state == "kept":
            module, given = "container_config", {"files": as_options(self.files()), **given}
        else:
            module, given = "container_fallback", {"state": state, "timeout": 1, **given}
        try:
            return module_process.run(module, given, check, PATH=f"{self.directory}:{os.environ['PATH']}")
        except AssertionError:
            return None

    def kill(self, moment: str) -> None:
        (self.directory / "kill").write_text(moment)

    def calls(self) -> list[str]:
        return (self.directory / "calls").read_text().splitlines()


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


STEPS = [
    # state, what is there, whether another one is set aside, whether a configuration is kept, anew, commands
    ("found", {}, False, False, False, []),
    ("found", OLD, False, True, False, []),
    ("found", {}, True, True, False, ["rename aside nats", "update --restart always aside"]),
    ("found", {}, True, False, False, ["rename aside nats", "update --restart always aside"]),
    ("found", NEW, True, True, False, []),
    ("found", NEW, True, False, False, ["rm --force aside"]),
    ("kept", OLD, False, True, False, []),
    ("kept", OLD, False, True, True, ["update --restart no old", "rename old nats-previous", "stop old"]),
    ("kept", {**OLD, "sound": False}, False, True, True, []),
    ("kept", {}, False, False, True, []),
    ("kept", NEW, True, True, True, []),
    ("settled", NEW, False, True, False, []),
    ("settled", NEW, True, True, False, ["rm --force aside"]),
    ("restored", NEW, False, True, False, []),
    (
        "restored",
        NEW,
        True,
        True,
        False,
        ["rm --force new", "rename aside nats", "update --restart always aside", "start aside"],
    ),
    ("restored", {}, True, True, False, ["rename aside nats", "update --restart always aside", "start aside"]),
]


@pytest.mark.parametrize(("state", "there", "aside", "kept", "anew", "commands"), STEPS)
def test_commands(state, there, aside, kept, anew, commands):
    there = {"sound": True, **there} if there else {}
    aside = {"id": "aside"} if aside else {}
    steps = _fallback.container_steps(state, "nats", there, aside, kept, anew=anew)
    assert [" ".join(step) for step in steps] == [f"docker {command}" for command in commands]


PRESENT = [
    ({"Running": True, "Health": {"Status": "healthy"}}, True, True),
    ({"Running": True, "Health": {"Status": "starting"}}, True, True),
    ({"Running": True, "Health": {"Status": "unhealthy"}}, True, False),
    ({"Running": True, "Restarting": True, "Health": {"Status": "starting"}}, False, False),
    # One that was stopped is unhealthy for Docker.
    ({"Running": False, "Health": {"Status": "unhealthy"}}, False, True),
    ({"Running": True}, True, True),
    # One that only has the name.
    ({"Running": False, "Status": "created"}, False, False),
]


@pytest.mark.parametrize(("state", "running", "sound"), PRESENT)
def test_what_counts_of_a_container(state, running, sound):
    found = _fallback.present({"Name": "/nats", "Id": "1", "Config": {"Image": "nats:1"}, "State": state})
    assert (found["name"], found["image"], found["running"], found["sound"]) == ("nats", "nats:1", running, sound)


def made_anew(host, container=None) -> None:
    """What a run does between keeping and settling."""
    host.write({"nats.conf": "new", "c": "new too"})
    host.containers = {**host.containers, "nats": dict(container or SICK)}


def test_a_container_that_is_healthy_replaces_the_old_one(host):
    kept = host.run("kept", anew=True)
    assert kept["changed"] is False and kept["kept"] is True
    assert host.containers == {"nats-previous": {**OLD, "running": False, "restart": "no"}}
    assert host.beside() == ["config", "config.previous", "state.previous"]
    made_anew(host, NEW)
    settled = host.run("settled")
    assert settled["changed"] is True and settled["kept"] is False
    assert host.containers == {"nats": NEW}
    assert host.beside() == ["config"] and host.files() == {"nats.conf": "new", "c": "new too"}
    again = host.run("settled")
    assert again["changed"] is False and again["actions"] == []


def test_one_that_is_not_is_replaced_by_the_old_one(host):
    before = {path: path.stat().st_mode for path in host.config.rglob("*")}
    host.run("kept", anew=True)
    made_anew(host)
    back = host.run("restored", secrets=[SECRET])
    assert (back["restored"], back["healthy"], back["image"]) == (True, True, "nats:1")
    assert back["log"] == ["last words of nats", "secret is ********"]
    assert host.containers == {"nats": OLD}
    assert host.beside() == ["config"] and host.files() == {"nats.conf": "old", "sub/b": "old too"}
    assert {path: path.stat().st_mode for path in host.config.rglob("*")} == before


def test_one_that_could_not_even_be_made(host):
    host.run("kept", anew=True)
    back = host.run("restored")
    assert (back["restored"], back["healthy"], back["log"]) == (True, True, [])
    assert host.containers == {"nats": OLD}


def test_an_old_one_that_does_not_come_back_is_told(host):
    host.run("kept", anew=True)
    made_anew(host)
    host.containers = {**host.containers, "nats-previous": {**OLD, "health": "starting"}}
    back = host.run("restored")
    assert (back["restored"], back["healthy"], back["image"]) == (True, False, "nats:1")


def test_a_configuration_that_was_refused_is_put_back_and_read_again(host):
    host.run("kept")
    host.write({"nats.conf": "new"})
    (host.directory / "answer").write_text("reloaded")
    back = host.run("restored", signal="SIGHUP", answer="^reloaded")
    assert back["restored"] is True and back["healthy"] is True
    assert host.calls() == ["kill --signal SIGHUP old"]
    assert host.files() == {"nats.conf": "old", "sub/b": "old too"}
    assert host.containers == {"nats": OLD} and host.beside() == ["config"]


def test_without_a_signal_it_is_restarted(host):
    host.run("kept")
    host.write({"nats.conf": "new"})
    assert host.run("restored")["healthy"] is True
    assert host.calls() == ["restart old"]


def test_a_limit_that_was_changed_in_place_is_put_back(host):
    host.run("kept")
    # Docker has it killed with the new one.
    host.containers = {"nats": {**SICK, "id": "old", "memory": 0}}
    back = host.run("restored")
    assert (back["restored"], back["healthy"], host.calls()) == (True, True, ["update --memory 1 --memory-swap 1 old"])
    assert host.containers["nats"]["memory"] == 1 and host.beside() == ["config"]
    # As it is to be it stays as it is.
    host.run("kept")
    assert host.run("restored")["restored"] is True and host.calls() == []


def test_limits_that_a_killed_run_left_alone_are_cleaned_up(host):
    (host.config.parent / "state.previous").write_text("{}")
    assert host.run("found", check=True)["actions"] and host.beside() == ["config", "state.previous"]
    host.run("found")
    assert host.beside() == ["config"]


def test_what_is_put_back_is_another_thing_than_what_was_read(host):
    marker = host.config.parent / "reloaded"
    marker.write_text("digest of the old one\n")
    (host.directory / "answer").write_text("reloaded")
    for changed in (True, False):
        host.run("kept")
        if changed:
            host.write({"nats.conf": "new"})
        # Read before it was put back; or put back by a run that was killed then.
        marker.write_text("digest of the new one\n")
        back = host.run("restored", signal="SIGHUP", answer="^reloaded")
        assert back["healthy"] is True and host.calls() == ["kill --signal SIGHUP old"]
        assert host.beside() == ["config", "reloaded"] and marker.read_text() == "digest of the old one\n"
    host.run("kept")
    assert host.run("restored", signal="SIGHUP", answer="^reloaded")["healthy"] is True
    assert host.calls() == [] and marker.read_text() == "digest of the old one\n"


@pytest.mark.parametrize("moment", ["before", "after"])
def test_put_back_and_killed_before_it_was_read_it_is_not_known_what_was_read(host, moment):
    marker = host.config.parent / "reloaded"
    marker.write_text("digest of the old one\n")
    host.run("kept")
    host.write({"nats.conf": "new"})
    marker.write_text("digest of the new one\n")
    host.kill(f"{moment} 1")
    assert host.run("restored", signal="SIGHUP", answer="^reloaded") is None
    assert not marker.exists() and host.files()["nats.conf"] == "old"


def test_nothing_healthy_is_nothing_to_go_back_to(host):
    for there in ({}, {"nats": SICK}, {"nats": {**OLD, "restarting": True}}):
        host.containers = there
        assert host.run("kept", anew=True)["kept"] is False
        assert host.beside() == ["config"] and host.containers == there
        back = host.run("restored")
        assert back["restored"] is False and back["changed"] is False


def test_what_is_kept_is_not_replaced_by_something_unproven(host):
    host.run("kept", anew=True)
    made_anew(host)
    assert host.run("found")["kept"] is True
    host.run("kept", anew=True)
    host.write({"nats.conf": "newer still"})
    host.run("restored")
    assert host.files() == {"nats.conf": "old", "sub/b": "old too"} and host.containers == {"nats": OLD}


def test_a_dry_run_changes_nothing(host):
    host.run("kept", anew=True)
    made_anew(host)
    for state in ("found", "kept", "settled", "restored"):
        before, beside = host.containers, host.beside()
        host.run(state, check=True, anew=True)
        assert (host.containers, host.beside(), host.calls()) == (before, beside, [])


def test_docker_that_refuses_is_named(host):
    host.run("kept", anew=True)
    host.containers = {**host.containers, "nats": dict(NEW)}
    script = (host.directory / "docker").read_text()
    (host.directory / "docker").write_text(
        script.replace('elif words[0] == "rm":', 'elif words[0] == "rm":\n    end(1, "device busy")')
    )
    failed = host.run("settled")
    assert failed["failed"] is True
    assert failed["msg"].startswith(
        "'docker rm --force nats-previous' was expected to succeed, but Docker said: device busy."
    )
    assert "docker ps -a" in failed["msg"]


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("command", range(1, 5))
@pytest.mark.parametrize(
    "state", ["restored", *(pytest.param(state, marks=pytest.mark.long) for state in ("kept", "settled"))]
)
def test_killed_at_any_command_the_next_run_knows_what_was_healthy(host, state, command, moment):
    """Whatever was cut off, a next run that fails ends with the old one, and one that succeeds with the new one."""
    for good in (False, True):
        host.containers = {"nats": dict(OLD)}
        host.write({"nats.conf": "old", "sub/b": "old too"})
        (host.directory / "kill").unlink(missing_ok=True)
        if state != "kept":
            host.run("kept", anew=True)
            made_anew(host, NEW if state == "settled" else SICK)
        host.kill(f"{moment} {command}")
        was_killed = host.run(state, anew=True) is None
        (host.directory / "kill").unlink()
        if not was_killed:
            return
        found = host.run("found")
        assert found is not None and "nats" in host.containers
        host.run("kept", anew=True)
        newer = {**NEW, "id": "newer"}
        made_anew(host, newer if good else {**SICK, "id": "newer"})
        host.run("settled" if good else "restored")
        # What had been settled was healthy: then that is what a failing run falls back to.
        settled = state == "settled" and not good and host.files()["nats.conf"] == "new"
        wanted = {"nats": newer if good else NEW if settled else OLD}
        assert host.containers == wanted
        assert host.beside() == ["config"]
        assert host.files()["nats.conf"] == ("new" if good or settled else "old")


@pytest.mark.parametrize("left", ["config.previous.new", "config.discarded"])
def test_what_a_killed_run_left_half_is_cleaned_up(host, left):
    half = host.config.parent / left
    half.mkdir()
    (half / "nats.conf").write_text("hal")
    assert host.run("found")["changed"] is True
    assert host.beside() == ["config"]
    assert host.run("found")["changed"] is False


def test_the_module_is_documented_as_it_is():
    done = subprocess.run(
        [sys.executable, "-m", module_process.MODULES + "container_fallback"],
        input=module_process.standard_input({"container": "nats", "directory": "/nowhere", "state": "gone"}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "value of state must be one of: tried, settled, restored" in json.loads(done.stdout)["msg"]


# What container_look compares besides


def look(host, files, check=False, **options):
    return host.run("found", check, files=as_options(files), secrets=[SECRET], **options)


def test_a_configuration_that_is_as_wanted_is_no_difference(host):
    for check in (True, False):
        same = look(host, {"nats.conf": "old", "sub/b": "old too"}, check)
        assert (same["changed"], same["differing"], same["signalled"], same["kept"]) == (False, [], False, False)
        assert same["present"]["limits"] == {"Memory": 1, "MemorySwap": 1}
        present = {name: value for name, value in same["present"].items() if name != "limits"}
        old = {"id": "old", "name": "nats", "image": "nats:1", "running": True, "health": "healthy", "sound": True}
        assert present == old and same["renamed"] == ""
        assert bool(same["found"]) is not check
    assert host.calls() == []


@pytest.mark.parametrize(
    ("files", "differing"),
    [
        ({"nats.conf": "new", "sub/b": "old too"}, ["nats.conf"]),
        ({"sub/b": "old too"}, ["nats.conf"]),
        ({"nats.conf": "old", "sub/b": "old too", "c": "new"}, ["c"]),
    ],
)
def test_each_file_that_differs_is_named_and_only_a_dry_run_says_changed(host, files, differing):
    before = host.files()
    for check in (True, False):
        found = look(host, files, check)
        assert (found["changed"], found["differing"], found["signalled"]) == (check, differing, False)
        assert found["diff"]
    assert host.files() == before and host.calls() == []


def test_a_mode_alone_is_a_difference_too(host):
    (host.config / "nats.conf").chmod(0o600)
    assert look(host, host.files())["differing"] == ["(owner or mode)"]


def test_the_program_has_to_read_what_differs_or_was_not_answered(host):
    files, digest = host.files(), "1" * 64
    marker = host.config.parent / "reloaded"
    assert look(host, files, digest=digest)["signalled"] is True
    marker.write_text(digest + "\n")
    assert look(host, files, digest=digest)["signalled"] is False
    assert look(host, {**files, "nats.conf": "new"}, digest=digest)["signalled"] is True
    marker.write_text("2" * 64 + "\n")
    assert look(host, files, True, digest=digest)["changed"] is True
    assert look(host, files)["signalled"] is False, "a program without a signal gets none"


def test_on_a_host_without_it_everything_differs(host):
    shutil.rmtree(host.config)
    host.containers = {}
    found = look(host, {"nats.conf": "new"}, True)
    assert (found["present"], found["differing"], found["changed"]) == ({}, ["nats.conf"], True)


def test_a_secret_is_shown_in_no_difference(host):
    found = look(host, {"nats.conf": f"password: {SECRET}\n", "sub/b": "old too"}, True)
    assert found["differing"] == ["nats.conf"]
    assert SECRET not in json.dumps(found)


# What is not ours

FOREIGN = {
    "id": "foreign",
    "image": "shop:1",
    "running": True,
    "health": "healthy",
    "restart": "unless-stopped",
    "label": "",
}
STATES = ("found", "kept", "settled", "restored", "tried")
LEFT = (
    "(image shop:1, running) has the name of one of ours and is not ours, expected that name free or ours: it was left"
)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("aside", [{}, {"nats-previous": {**OLD, "running": False}}])
def test_a_container_of_others_is_never_touched(host, state, running, aside):
    host.run("kept")
    host.containers = before = {"nats": {**FOREIGN, "running": running}, **aside}
    for check in (True, False):
        refused = host.run(state, check, anew=True)
        if state == "tried":
            assert (refused["changed"], refused["found"]) == (False, "")
        else:
            assert refused["failed"] is True and "hpb_container_prefix" in refused["msg"]
            assert LEFT.replace("running", "running" if running else "not running") in refused["msg"]
        assert host.containers == before and host.calls() == []


@pytest.mark.parametrize("there", [{}, {"nats": OLD}, {"nats": SICK}])
def test_nor_is_one_that_has_the_other_name(host, there):
    aside = {"nats-previous": dict(FOREIGN)}
    for state in STATES:
        host.write({"nats.conf": "old"})
        host.containers = {**there, **aside}
        result = host.run(state, anew=True)
        refused = state == "kept" and there == {"nats": OLD}
        assert result.get("failed", False) is refused, result
        assert not refused or "nats-previous " + LEFT in result["msg"]
        assert host.containers["nats-previous"] == FOREIGN
        assert there == {} or host.containers["nats"]["id"] == there["nats"]["id"]
        assert [call for call in host.calls() if "foreign" in call] == []


@pytest.mark.parametrize("label", ["janus", "nats-previous", ""])
def test_a_label_of_something_else_is_none_of_ours(host, label):
    host.containers = {"nats": {**OLD, "label": label}}
    assert host.run("found")["failed"] is True


def test_one_of_another_backend_that_has_the_wanted_name_is_ours_as_before(host):
    host.containers = {"nats": {**OLD, "base": "/elsewhere"}}
    assert host.run("found")["present"]["id"] == "old"


@pytest.mark.parametrize("there", [{"nats": OLD}, {}])
def test_the_name_is_taken_before_the_new_one_is_made(host, there):
    host.containers = dict(there)
    host.run("kept", check=True, anew=True, image="nats:2")
    assert host.containers == there
    host.run("kept", anew=True, image="nats:2")
    assert host.containers["nats"]["id"] == "reserved" and host.containers["nats"]["running"] is False
    create = next(call for call in host.calls() if call.startswith("create"))
    assert create == (
        "create --pull=never --network=none --label=nextcloud-talk.hpb=nats --name=nats --tmpfs=/data nats:2 none"
    )
    # It is nothing to fall back to, whoever comes next.
    host.run("kept", anew=True, image="nats:2")
    host.run("restored")
    assert host.containers.get("nats", {}).get("id") == ("old" if there else "reserved")


@pytest.mark.parametrize("there", [{"nats": OLD}, {}])
def test_somebody_else_who_takes_it_first_keeps_it(host, there):
    host.containers = dict(there)
    (host.directory / "taken").write_text(json.dumps(FOREIGN))
    refused = host.run("kept", anew=True, image="nats:2")
    assert refused["failed"] is True and f"nats {LEFT}" in refused["msg"]
    assert host.containers["nats"] == FOREIGN
    back = host.run("restored")
    assert back["failed"] is True and host.containers["nats"] == FOREIGN


# Another prefix


def look_called(host, name, check=False):
    return host.run("found", check, container=name, files=as_options(host.files()))


def test_what_is_ours_gets_its_name_when_the_prefix_changes(host):
    for before, after in (("nats", "hpb-nats"), ("hpb-nats", "talk-nats"), ("talk-nats", "nats")):
        there = host.containers
        dry = look_called(host, after, check=True)
        assert (dry["renamed"], dry["present"]["name"], host.containers) == (before, before, there)
        done = look_called(host, after)
        assert (done["renamed"], done["present"]["name"], done["changed"]) == (before, after, True)
        assert done["actions"] == dry["actions"] == [f"docker rename {before} {after}"]
        assert host.containers == {after: OLD} and bool(done["found"])
        again = look_called(host, after)
        assert (again["renamed"], again["changed"]) == ("", False)


@pytest.mark.parametrize("moment", ["before 1", "after 1", "before 2", "after 2"])
def test_what_a_killed_run_left_under_another_prefix_is_gone_on_with(host, moment):
    host.run("kept", anew=True)
    made_anew(host)
    host.kill(moment)
    look_called(host, "hpb-nats")
    (host.directory / "kill").unlink()
    assert look_called(host, "hpb-nats")["kept"] is True
    assert {name: one["id"] for name, one in host.containers.items()} == {"hpb-nats": "new", "hpb-nats-previous": "old"}
    host.run("restored", container="hpb-nats")
    assert host.containers == {"hpb-nats": OLD}


def test_of_two_that_are_ours_none_is_chosen(host):
    host.containers = before = {"nats": OLD, "hpb-nats": NEW}
    for name in ("nats", "hpb-nats", "talk-nats"):
        refused = look_called(host, name)
        assert "The containers hpb-nats and nats are both nats of this backend, expected one of them" in refused["msg"]
        assert host.containers == before


def test_another_backend_on_the_host_is_left_alone(host):
    host.containers = {"nats": OLD, "test-nats": {**NEW, "base": "/elsewhere"}}
    assert look_called(host, "nats")["renamed"] == ""
    assert look_called(host, "hpb-nats")["renamed"] == "nats"
    assert host.containers == {"hpb-nats": OLD, "test-nats": {**NEW, "base": "/elsewhere"}}
