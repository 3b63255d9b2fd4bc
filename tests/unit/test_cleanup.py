# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes from a Docker engine: the plan as tables, the module with an engine that keeps its state in a file."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _cleanup, _ours, _record
from module_process import run

OURS = _ours.Container("nats", "nats", "nats:2", "sha256:1", running=True, restarts=True)
FOREIGN = _ours.Container("traefik", "", "traefik:3", "sha256:2", running=True, restarts=True)

# The commands of docker that the module uses; what there is stands in state.json.
DOCKER = """#!{python}
import json, pathlib, sys
file = pathlib.Path({state!r})
state, words = json.loads(file.read_text()), sys.argv[1:]
with open({calls!r}, "a") as calls:
    calls.write(" ".join(words) + "\\n")
def fail(text):
    sys.stderr.write(text + "\\n")
    sys.exit(1)
if state.get("silent"):
    fail("Cannot connect to the Docker daemon")
if words[0] == "ps":
    print("\\n".join(state["containers"]))
elif words[:2] == ["container", "inspect"]:
    print(json.dumps([state["containers"][name] for name in words[2:] if name in state["containers"]]))
elif words[:2] == ["image", "inspect"]:
    print(state["images"][words[-1]]["id"]) if words[-1] in state["images"] else fail("No such image")
elif words[:2] == ["image", "ls"]:
    label = words[words.index("--filter") + 1].partition("=")[2]
    for name, image in state["images"].items():
        if label in image["labels"]:
            print(("<none>:<none>" if name.startswith("sha256:") else name), image["id"])
elif words[:2] == ["network", "ls"]:
    print("\\n".join(state["networks"]))
elif words[:2] == ["network", "inspect"]:
    inside = lambda name: {{str(n): {{"Name": one}} for n, one in enumerate(state["networks"][name])}}
    print(json.dumps([{{"Name": name, "Containers": inside(name)}} for name in words[2:]]))
elif words[0] == "update":
    state["containers"][words[-1]]["HostConfig"]["RestartPolicy"]["Name"] = words[1].partition("=")[2]
elif words[0] == "stop":
    state["containers"][words[-1]]["State"]["Running"] = False
elif words[0] == "rm":
    if state["containers"][words[-1]]["State"]["Running"]:
        fail("container is running")
    del state["containers"][words[-1]]
elif words[:2] in (["image", "rm"], ["network", "rm"]):
    if words[-1] == state.get("cut"):
        fail("the power is gone")
    del state[words[0] + "s"][words[-1]]
else:
    fail("unknown")
file.write_text(json.dumps(state))
"""


def leaving(services, containers=(OURS, FOREIGN)):
    return _cleanup.concerned(containers, services, "", "/base")


def container(name, image, label=None, running=True):
    return {
        "Id": name,
        "Name": f"/{name}",
        "Image": f"id:{image}",
        "Config": {"Image": image, "Labels": {"nextcloud-talk.hpb": label} if label else None},
        "State": {"Running": running},
        "HostConfig": {"RestartPolicy": {"Name": "always"}},
    }


class Bed:
    def __init__(self, folder):
        self.folder = folder
        (folder / "bin").mkdir()
        (folder / "nats").mkdir()
        docker = folder / "bin/docker"
        names = {"state": str(folder / "state.json"), "calls": str(folder / "calls")}
        docker.write_text(DOCKER.format(python=sys.executable, **names), encoding="utf-8")
        docker.chmod(0o755)
        self.write(
            {
                "containers": {
                    "nats": container("nats", "nats:2", "nats"),
                    "traefik": container("traefik", "traefik:3"),
                    "other": container("other", "debian:slim"),
                },
                "images": {
                    "nats:2": {"id": "id:nats:2", "labels": []},
                    "traefik:3": {"id": "id:traefik:3", "labels": []},
                    "debian:slim": {"id": "id:debian:slim", "labels": []},
                    "janus:new": {"id": "id:janus:new", "labels": ["built"]},
                    "sha256:9": {"id": "sha256:9", "labels": ["built"]},
                },
                "networks": {"hpb-core": ["nats"], "hpb-edge": []},
            }
        )

    def write(self, state):
        (self.folder / "state.json").write_text(json.dumps(state), encoding="utf-8")

    @property
    def state(self):
        return json.loads((self.folder / "state.json").read_text(encoding="utf-8"))

    def run(self, check=False, **options):
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return run("engine_cleanup", options, check, PATH=path)

    def remove(self, check=False, **options):
        return self.run(check, containers=["nats", "traefik"], remember=str(self.folder / "nats/images"), **options)


@pytest.fixture
def bed(tmp_path):
    return Bed(tmp_path)


@pytest.mark.parametrize(
    ("names", "references", "images", "steps", "kept"),
    [
        (["nats"], ["nats:2"], {"nats:2": "sha256:1"}, ["stop nats", "remove nats", "remove_image nats:2"], 0),
        (["nats"], ["nats:2"], {}, ["stop nats", "remove nats"], 0),
        ([], ["nats:2"], {"nats:2": "sha256:1"}, [], 1),
        (["traefik"], ["traefik:3"], {"traefik:3": "sha256:2"}, [], 1),
        ([], ["old:1", "old:1"], {"old:1": "sha256:7"}, ["remove_image old:1"], 0),
    ],
)
def test_plan_absent(names, references, images, steps, kept):
    plan = _cleanup.plan_absent([OURS, FOREIGN], leaving(names), references, images)
    assert [f"{step.verb} {step.name}" for step in plan.steps] == steps
    assert len(plan.kept) == kept


def test_an_image_in_use_is_named():
    plan = _cleanup.plan_absent([OURS, FOREIGN], [], ["traefik:3"], {"traefik:3": "sha256:2"})
    assert plan.kept == ["The image traefik:3 stays, since the container traefik uses it."]


def test_plan_stop():
    steps = _cleanup.plan_stop(leaving(["traefik", "nats", "gone"]))
    assert [str(step) for step in steps] == [
        "have the container nats not started again",
        "stop the container nats",
    ]


def test_a_foreign_container_in_a_network_of_ours_is_named():
    with pytest.raises(_cleanup.CleanupError) as caught:
        _cleanup.plan_networks({"hpb-core": ["nats", "mine"]}, [OURS, FOREIGN])
    assert "has the container mine in it, which is not ours" in str(caught.value)
    assert "docker network disconnect hpb-core mine" in str(caught.value)


def test_one_that_waits_for_its_successor_to_be_healthy_is_ours_too():
    kept = _ours.Container("nats-previous", "nats", "nats:1", "sha256:3")
    other = _ours.Container("nats-previous", "", "nats:1", "sha256:3")
    assert leaving(["nats"], [other, OURS]) == [OURS]
    plan = _cleanup.plan_absent([kept, OURS], leaving(["nats"], [kept, OURS]), [], {})
    assert [str(step) for step in plan.steps] == [
        "stop the container nats",
        "remove the container nats",
        "remove the container nats-previous",
    ]


def test_what_is_ours_goes_and_nothing_else(bed):
    before = bed.state
    dry = bed.remove(check=True, images=["debian:slim"], image_labels=["built"], networks=True)
    assert bed.state == before
    assert not (bed.folder / "nats/images").exists()
    done = bed.remove(images=["debian:slim"], image_labels=["built"], networks=True)
    assert done["actions"] == dry["actions"]
    assert done["actions"] == [
        "stop the container nats",
        "remove the container nats",
        "remove the image nats:2",
        "remove the image janus:new",
        "remove the image sha256:9",
        "remove the network hpb-core",
        "remove the network hpb-edge",
    ]
    assert done["kept"] == ["The image debian:slim stays, since the container other uses it."]
    assert sorted(bed.state["containers"]) == ["other", "traefik"]
    assert sorted(bed.state["images"]) == ["debian:slim", "traefik:3"]
    again = bed.remove(images=["debian:slim"], image_labels=["built"], networks=True)
    assert not again["changed"] and again["actions"] == []


def test_a_run_that_was_cut_off_is_completed_by_the_next(bed):
    bed.write({**bed.state, "cut": "nats:2"})
    broken = bed.remove()
    assert broken["failed"]
    assert "refused to remove the image nats:2: the power is gone. Mend that" in broken["msg"]
    assert "nats" not in bed.state["containers"]
    bed.write({**bed.state, "cut": ""})
    assert bed.remove()["actions"] == ["remove the image nats:2"]


def test_whatever_the_prefix_is_ours_go_and_those_of_another_backend_stay(bed):
    def below(base):
        return {"HostConfig": {"RestartPolicy": {"Name": "always"}, "Binds": [f"{base}/nats/config:/config:ro"]}}

    ours = {**container("hpb-nats", "nats:2", "nats"), **below("/base")}
    theirs = {**container("test-nats", "nats:2", "nats"), **below("/elsewhere")}
    bed.write({**bed.state, "containers": {"hpb-nats": ours, "test-nats": theirs}, "networks": {}})
    done = bed.run(containers=["nats"], base_dir="/base", prefix="talk-")
    assert done["actions"] == ["stop the container hpb-nats", "remove the container hpb-nats"]
    assert done["kept"] == ["The image nats:2 stays, since the container test-nats uses it."]
    assert list(bed.state["containers"]) == ["test-nats"]


def test_networks_and_images_that_are_to_stay(bed):
    done = bed.run(containers=["nats"], keep_images=True, networks=True, keep_networks=["hpb-core"])
    assert done["actions"][2:] == ["remove the network hpb-edge"]
    assert "nats:2" in bed.state["images"]


def test_stopped_for_good(bed):
    assert bed.run(containers=["traefik", "nats"], state="stopped")["changed"]
    nats, traefik = bed.state["containers"]["nats"], bed.state["containers"]["traefik"]
    assert (nats["State"]["Running"], nats["HostConfig"]["RestartPolicy"]["Name"]) == (False, "no")
    assert (traefik["State"]["Running"], traefik["HostConfig"]["RestartPolicy"]["Name"]) == (True, "always")
    assert not bed.run(containers=["traefik", "nats"], state="stopped")["changed"]


def test_an_engine_that_does_not_answer_and_none(bed):
    bed.write({**bed.state, "silent": True})
    answer = bed.remove()
    assert answer["failed"]
    assert "does not (Cannot connect to the Docker daemon): start it (systemctl start docker)" in answer["msg"]
    (bed.folder / "empty").mkdir()
    answer = run("engine_cleanup", {"containers": ["nats"]}, PATH=str(bed.folder / "empty"))
    assert (answer["changed"], answer["actions"]) == (False, [])


def test_a_dry_removal_knows_every_directory_that_a_role_makes():
    roles = Path(__file__).resolve().parents[2] / "roles"
    made = set()
    for role in roles.iterdir():
        for file in [*role.glob("vars/*.yml"), *role.glob("tasks/*.yml")]:
            text = file.read_text(encoding="utf-8")
            made |= set(re.findall(r"hpb_base_dir(?: \}\}/| ~ ')/?([a-z][a-z0-9.]*)", text))
            made |= set(re.findall(r"^ *container_name: ([a-z0-9]+)$", text, re.MULTILINE))
    known = yaml.safe_load((roles / "hpb/vars/main.yml").read_text(encoding="utf-8"))
    assert {"firewall", "nats", "ca"} <= made
    # One is made by a module.
    made.add(_record.NAME)
    assert made == {*known["__hpb_removed_dirs"], *known["__hpb_kept_with_secrets"]} - {"backups"}
