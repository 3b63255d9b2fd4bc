# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run writes down of its containers, and what the next one makes of it: both modules as real processes."""

from __future__ import annotations

import copy
import json
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
        "Config": {"Image": f"{name}:1", "Env": ["A=1"]},
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

    def record(self, check=False, run="1", before=None, digests=None, settled=None):
        options = {
            "run": run,
            "before": self.look()["record"] if before is None else before,
            "settings": "d",
            "digests": {"nats": "a", "traefik": "b", "janus": "c"} if digests is None else digests,
            "settled": settled or {},
            "files": [{"name": "deployed.json", "mode": "0600", "content": "{}"}],
        }
        return self.run("container_record", check, **options)

    def begin(self, run):
        self.run("container_record", state="begun", run=run, files=[])

    def look(self):
        return self.run("host_preflight", names=["localhost"], media_ip="127.0.0.1", min_free_mb=0)

    def settled(self):
        return {name: one["wanted"] for name, one in self.look()["settled"].items()}


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
    assert host.record()["changed"] is False
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


def test_what_is_not_healthy_is_not_written_down(host):
    host.containers[0]["State"]["Health"]["Status"] = "unhealthy"
    assert host.record()["recorded"] == ["traefik"]
    host.containers[0]["State"]["Health"]["Status"] = "healthy"
    assert host.settled() == {"traefik": "b"}


def test_a_dry_run_writes_nothing(host):
    result = host.record(check=True)
    assert (result["changed"], result["recorded"]) == (True, ["nats", "traefik"])
    assert sorted(path.name for path in host.base.iterdir()) == ["nats", "traefik"]


def test_a_dry_run_on_a_host_without_an_engine(host):
    (host.directory / "docker").unlink()
    assert host.record(check=True)["recorded"] == []


@pytest.mark.parametrize(
    "text",
    ["", '{"nats"', "[]", "1", '{"settings": "d"}', '{"settings": "d", "containers": {"nats": {"wanted": "a"}}}'],
)
def test_a_damaged_record_is_none(host, text):
    (host.base / _record.NAME).write_text(text)
    assert (host.look()["settings"], host.settled()) == ("", {})


def test_while_a_run_changes_anything_nothing_is_known_for_certain(host):
    host.record()
    host.begin("2")
    assert (host.look()["settings"], host.settled()) == ("", {})
    # It dies; the next one has found that, and ends well, or has changed something itself.
    found = host.look()["record"]
    assert host.record(run="3", before=found)["recorded"] == ["nats", "traefik"]
    host.begin("3")
    host.begin("3")
    assert host.record(run="3", before="other")["recorded"] == ["nats", "traefik"]
    assert host.settled() == {"nats": "a", "traefik": "b"}


def test_of_two_runs_at_once_none_is_recorded(host):
    host.record()
    start = host.look()["record"]
    # Both change something; the first one ends, then the other.
    host.begin("2")
    host.begin("3")
    assert host.record(run="2", before=start)["recorded"] == []
    assert host.record(run="3", before=start)["recorded"] == []
    assert host.settled() == {}
    # The next one looks at all, and knows.
    assert host.record(run="4")["recorded"] == ["nats", "traefik"]
    # One that changes nothing knows nothing of what another one has done meanwhile, and leaves that alone.
    start = host.look()["record"]
    host.begin("5")
    assert host.record(run="6", before=start)["recorded"] == []
    assert host.record(run="5", before=start)["recorded"] == []
    start = host.record(run="7") and host.look()["record"]
    host.begin("8")
    host.containers[0]["HostConfig"]["Memory"] = 4096
    host.record(run="8", before=start)
    host.containers[0]["HostConfig"]["Memory"] = 1024
    host.record(run="9", before=start)
    assert host.settled() == {"traefik": "b"}


@pytest.mark.parametrize("digests", [{"nats": "a", "traefik": "e"}, {"traefik": "e"}])
def test_what_a_hand_changes_while_a_run_leaves_it_alone_is_noticed(host, digests):
    host.record()
    start = host.look()
    host.containers[0]["HostConfig"]["Memory"] = 4096
    host.containers[1]["HostConfig"]["Memory"] = 4096
    # The run leaves nats alone, or does not come to it at all; traefik it makes otherwise.
    done = host.record(before=start["record"], digests=digests, settled=start["settled"])
    assert done["recorded"] == ["nats", "traefik"]
    assert host.settled() == {"traefik": "e"}
    # Taken back it is as it was deployed.
    host.containers[0]["HostConfig"]["Memory"] = 1024
    assert host.settled() == {"nats": "a", "traefik": "e"}


def test_a_container_that_is_gone_is_in_no_record(host):
    host.record()
    start = host.look()
    del host.containers[0]
    assert host.record(before=start["record"], digests={}, settled=start["settled"])["recorded"] == ["traefik"]


def test_a_file_that_cannot_be_written_is_named(host):
    (host.base / _record.NAME).mkdir()
    result = host.record()
    assert result["failed"]
    assert f"{host.base}/{_record.NAME}" in result["msg"] and "move it away" in result["msg"]
