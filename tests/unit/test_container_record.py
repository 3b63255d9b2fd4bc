# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run writes down of its containers, and what the next one makes of it: both modules as real processes."""

from __future__ import annotations

import copy
import json
import shutil
import sys

import module_process
import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _record

# An engine that describes what stands in two files.
DOCKER = """#!{python}
import json, sys
words = sys.argv[1:]
containers = json.load(open("{directory}/engine.json"))
images = json.load(open("{directory}/images.json"))
if words[0] == "version":
    print("26.1.5")
elif words[0] == "ps":
    print("\\n".join(one["Id"] for one in containers if one["State"]["Running"]))
elif words[:2] == ["container", "inspect"]:
    print(json.dumps([one for one in containers if one["Id"] in words or one["Name"][1:] in words]))
elif words[:3] == ["image", "inspect", "--format"]:
    print("\\n".join(images[name] for name in words[4:] if name in images))
    sys.exit(not set(words[4:]) <= set(images))
elif words[0] != "network":
    sys.exit(99)
"""


def container(name):
    return {
        "Id": f"id-{name}",
        "Name": f"/{name}",
        "Image": f"sha256:{name}",
        "Path": f"/{name}",
        "Args": ["--quiet"],
        "State": {
            "Running": True,
            "Pid": 4194305,
            "StartedAt": "2026-01-01T00:00:00Z",
            "Health": {"Status": "healthy"},
        },
        "Config": {"Image": f"{name}:1", "Env": ["A=1"], "Labels": {"nextcloud-talk.hpb": name}},
        "HostConfig": {"Memory": 1024, "PortBindings": {}},
        "Mounts": [{"Destination": "/config", "Source": "/srv"}, {"Destination": "/data", "Source": "/data"}],
        "NetworkSettings": {"Networks": {"hpb-core": {"IPAMConfig": {"IPv4Address": "192.0.2.5"}, "MacAddress": "1"}}},
    }


class Host:
    """A directory with an engine, two containers of ours and their configuration, which were deployed with a and b."""

    def __init__(self, directory) -> None:
        self.directory = directory
        self.base = directory / "base"
        (directory / "docker").write_text(DOCKER.format(python=sys.executable, directory=directory))
        (directory / "docker").chmod(0o755)
        self.containers = [container("nats"), container("traefik")]
        self.images = {"nats:1": "sha256:nats", "traefik:1": "sha256:traefik"}
        for name in ("nats", "traefik"):
            (self.base / name / "config/sub").mkdir(parents=True)
            (self.base / name / "config/sub/file").write_text("content")
            (self.base / name / "reloaded").write_text("digest")

    def run(self, module, check=False, **options):
        (self.directory / "engine.json").write_text(json.dumps(self.containers))
        (self.directory / "images.json").write_text(json.dumps(self.images))
        given = {"base_dir": str(self.base), **options}
        return module_process.run(module, given, check, PATH=str(self.directory))

    def begin(self, run):
        self.run("container_record", state="begun", run=run, files=[])

    def found(self, name):
        """What a run sees of a container that it has just dealt with."""
        place = {"container": name, "directory": str(self.base / name), "state": "tried"}
        (self.directory / "engine.json").write_text(json.dumps(self.containers))
        (self.directory / "images.json").write_text(json.dumps(self.images))
        return module_process.run("container_fallback", place, PATH=str(self.directory))["found"]

    def end(self, run="1", settings="d", check=False, **found):
        """The end of a run that has seen containers, each with its digest and what `found` returned of it."""
        seen = {name: {"wanted": one[0], "found": one[1]} for name, one in found.items()}
        files = [{"name": "deployed.json", "mode": "0600", "content": "{}"}]
        return self.run("container_record", check, run=run, settings=settings, containers=seen, files=files)

    def record(self, run="1", settings="d", check=False):
        """A whole run that looks at both containers."""
        if not check:
            self.begin(run)
        return self.end(run, settings, check, nats=("a", self.found("nats")), traefik=("b", self.found("traefik")))

    def look(self):
        return self.run("host_preflight", names=["localhost"], media_ip="127.0.0.1", min_free_mb=0)

    def settled(self):
        return self.look()["settled"]


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


def test_what_is_as_it_was_deployed_is_settled(host):
    assert (host.look()["settings"], host.settled()) == ("", {})
    result = host.record()
    assert (result["changed"], result["recorded"]) == (True, ["nats", "traefik"])
    assert (host.base / "deployed.json").read_text() == "{}"
    path = host.base / _record.NAME
    assert path.stat().st_mode & 0o777 == 0o600
    assert (host.look()["settings"], host.settled()) == ("d", {"nats": "a", "traefik": "b"})
    # Started again, otherwise connected, described in another order: it is the same.
    nats = host.containers[0]
    nats["State"].update(Pid=4194306, StartedAt="2026-02-02T00:00:00Z")
    nats["NetworkSettings"]["Networks"]["hpb-core"]["MacAddress"] = "2"
    nats["Mounts"].reverse()
    host.containers.reverse()
    assert host.settled() == {"nats": "a", "traefik": "b"}
    # Written again it is the same to the byte.
    text = path.read_text()
    assert host.record("2")["changed"] is False
    assert path.read_text() == text


CHANGES = {
    "another container": lambda nats: nats.update(Id="other"),
    "of another image": lambda nats: nats.update(Image="sha256:other"),
    "another command": lambda nats: nats.update(Args=[]),
    "another limit": lambda nats: nats["HostConfig"].update(Memory=2048),
    "another environment": lambda nats: nats["Config"].update(Env=["A=2"]),
    "another mount": lambda nats: nats["Mounts"].pop(),
    "another address": lambda nats: nats["NetworkSettings"]["Networks"]["hpb-core"].update(IPAMConfig=None),
    "another network": lambda nats: nats["NetworkSettings"].update(Networks={"bridge": {}}),
    "not healthy": lambda nats: nats["State"]["Health"].update(Status="starting"),
    "health not known": lambda nats: nats["State"].pop("Health"),
    "stopped": lambda nats: nats["State"].update(Running=False),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_container_that_is_otherwise_is_looked_at(host, change):
    host.record()
    nats = host.containers[0]
    before = copy.deepcopy(nats)
    CHANGES[change](nats)
    assert nats != before
    assert host.settled() == {"traefik": "b"}


FILES = {
    "content": lambda nats: (nats / "config/sub/file").write_text("contend"),
    "mode": lambda nats: (nats / "config/sub/file").chmod(0o600),
    "mode of the directory": lambda nats: (nats / "config").chmod(0o700),
    "one more": lambda nats: (nats / "config/more").write_text(""),
    "one less": lambda nats: (nats / "config/sub/file").unlink(),
    "a link to the same": lambda nats: (
        (nats / "config/sub/file").rename(nats / "file") and (nats / "config/sub/file").symlink_to(nats / "file")
    ),
    "what was read last": lambda nats: (nats / "reloaded").write_text("other"),
    "not known what was read": lambda nats: (nats / "reloaded").unlink(),
    "left by a killed run": lambda nats: (nats / "config.previous").mkdir(),
    "all gone": lambda nats: nats.rename(nats.parent / "other"),
}


@pytest.mark.parametrize("change", FILES)
def test_a_container_with_other_files_is_looked_at(host, change):
    host.record()
    FILES[change](host.base / "nats")
    assert host.settled() == {"traefik": "b"}


def test_an_image_that_has_a_name_no_longer_is_looked_at(host):
    host.record()
    host.images["nats:1"] = "sha256:newer"
    assert host.settled() == {"traefik": "b"}
    del host.images["nats:1"]
    assert host.settled() == {}


def test_of_what_is_not_healthy_nothing_new_is_written_down(host):
    host.containers[0]["State"]["Health"]["Status"] = "unhealthy"
    assert host.found("nats") == ""
    assert host.record()["recorded"] == ["traefik"]
    host.containers[0]["State"]["Health"]["Status"] = "healthy"
    assert host.settled() == {"traefik": "b"}


def test_a_dry_run_writes_nothing(host):
    result = host.record(check=True)
    assert (result["changed"], result["recorded"]) == (True, ["nats", "traefik"])
    assert sorted(path.name for path in host.base.iterdir()) == ["nats", "traefik"]


def test_a_host_without_a_directory_of_ours(host):
    shutil.rmtree(host.base)
    assert host.end(check=True)["recorded"] == []
    host.begin("1")
    assert host.base.stat().st_mode & 0o777 == 0o755
    host.end("1")
    assert host.look()["settings"] == "d"


DAMAGED = {
    "empty": "",
    "half": '{"nats"',
    "a list": "[]",
    "a number": "1",
    "other types": '{"settings": ["d"], "changing": 1, "containers": ["nats"]}',
    "a container that is a list": '{"containers": {"nats": ["wanted", "found"]}}',
    "half a container": '{"containers": {"nats": {"wanted": "a"}}}',
    "numbers": '{"containers": {"nats": {"wanted": 1, "found": 2}}}',
    "too deep": "[" * 100000,
}


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_record_is_none(host, text):
    (host.base / _record.NAME).write_text(text)
    assert (host.look()["settings"], host.settled()) == ("", {})
    host.record()
    assert (host.look()["settings"], host.settled()) == ("d", {"nats": "a", "traefik": "b"})


def test_while_a_run_changes_the_host_its_settings_are_not_known(host):
    host.record()
    host.begin("2")
    # Of the containers the record says what it has seen, and they are looked at each time.
    assert (host.look()["settings"], host.settled()) == ("", {"nats": "a", "traefik": "b"})
    # It dies; the next one begins as well, and ends.
    host.begin("3")
    assert host.look()["settings"] == ""
    host.end("3", "e")
    assert (host.look()["settings"], host.settled()) == ("e", {"nats": "a", "traefik": "b"})


def test_other_secrets_that_all_share_are_other_settings(host):
    path = host.base / "secrets/secrets.json"
    path.parent.mkdir()
    for document, known in (
        ({"janus_admin": "1", "instances": {}}, False),
        ({"instances": {"nc": {"backend": "2"}}, "janus_admin": "1"}, True),
        ({"janus_admin": "3", "instances": {}}, False),
    ):
        path.write_text(json.dumps(document))
        assert host.look()["settings"] == ("d" if known else "")
        host.record()
    path.write_text("damaged")
    assert host.look()["settings"] == ""


ORDERS = {
    "one within the other": ["begin 2", "begin 3", "end 3", "end 2"],
    "one after the other has begun": ["begin 2", "begin 3", "end 2", "end 3"],
    "begun by one that knew no better": ["begin 3", "begin 2", "end 2", "end 3"],
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_what_two_runs_with_different_settings_have_made_of_the_host_is_not_known(host, order):
    host.record()
    for word, run in (step.split() for step in order):
        if word == "begin":
            host.begin(run)
        else:
            host.end(run, settings=run)
    assert host.look()["settings"] == ""
    # The next one makes the host as it is to be, and knows it.
    host.begin("4")
    host.end("4", settings="4")
    assert host.look()["settings"] == "4"


def test_a_run_that_does_not_touch_the_host_leaves_its_settings_known(host):
    host.record()
    assert host.end("2", nats=("c", host.found("nats")))["recorded"] == ["nats", "traefik"]
    assert (host.look()["settings"], host.settled()) == ("d", {"nats": "c", "traefik": "b"})
    # Another one begins and ends meanwhile.
    host.begin("3")
    host.end("3", settings="e")
    host.end("4", settings="d")
    assert host.look()["settings"] == ""


def test_what_is_changed_after_it_was_seen_is_noticed_whoever_did_it(host):
    host.record()
    nats, traefik = host.found("nats"), host.found("traefik")
    # A hand, or another run, before this one ends: of what it looked at, and of what it left alone.
    host.containers[0]["HostConfig"]["Memory"] = 4096
    host.containers[1]["HostConfig"]["Memory"] = 4096
    host.end("2", nats=("c", nats))
    assert host.settled() == {}
    # The other run comes to its end as well, before or after.
    host.end("3", traefik=("e", host.found("traefik")))
    host.end("4", nats=("c", nats), traefik=("b", traefik))
    assert host.settled() == {}
    # Taken back they are as they were deployed.
    host.containers[0]["HostConfig"]["Memory"] = 1024
    host.containers[1]["HostConfig"]["Memory"] = 1024
    assert host.settled() == {"nats": "c", "traefik": "b"}


def test_a_file_that_cannot_be_written_is_named(host):
    (host.base / _record.NAME).mkdir()
    result = host.record()
    assert result["failed"]
    assert f"{host.base}/{_record.NAME}" in result["msg"] and "move it away" in result["msg"]
