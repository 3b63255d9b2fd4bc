# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a change of a container costs, from the dry runs, as a table."""

from __future__ import annotations

import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.filter.container_cost import container_cost
from ansible_collections.nextcloud_talk.hpb.plugins.filter.container_sentence import container_sentence

RUNS = {"image": "nats:2.12.1", "running": True}
STOPPED = {"image": "nats:2.12.1", "running": False}
ANEW = [{"stopped": "1"}, {"removed": "1"}, {"created": "Created container"}]
LABEL = "nextcloud-talk.hpb.restart-digest"
SECRET = "5ec2e7" * 8


def dry(actions=(), before=None, after=None):
    return {"actions": list(actions), "diff": {"before": before or {}, "after": after or {}}}


CASES = {
    "nothing": (dry(), [], RUNS, {}, "unchanged", []),
    "not there": (dry([{"created": ""}], {"exists": False}, {"exists": True}), ["nats.conf"], {}, {}, "created", []),
    "no engine yet": ({}, ["nats.conf"], {}, {}, "created", []),
    "memory": (
        dry([], {"memory": 536870912, "memory_swap": 536870912}, {"memory": 629145600, "memory_swap": 629145600}),
        [],
        RUNS,
        {},
        "updated",
        ["memory limit 512M -> 600M"],
    ),
    "processes": (
        dry([], {"pids_limit": 64}, {"pids_limit": 128}),
        [],
        RUNS,
        {},
        "updated",
        ["limit of processes 64 -> 128"],
    ),
    "restart policy": (
        dry([], {"restart_policy": "no"}, {"restart_policy": "always"}),
        [],
        RUNS,
        {},
        "updated",
        ["restart policy"],
    ),
    "reload": (dry(), ["server.conf"], RUNS, {"signalled": True}, "reloaded", ["configuration file server.conf"]),
    "reload that was not answered": (dry(), [], RUNS, {"signalled": True}, "reloaded", ["what it reads on a signal"]),
    "memory and reload": (
        dry([], {"memory": 1024**3}, {"memory": 2 * 1024**3}),
        ["server.conf"],
        RUNS,
        {"signalled": True},
        "reloaded",
        ["configuration file server.conf", "memory limit 1G -> 2G"],
    ),
    "watched": (
        dry(),
        ["dynamic/hpb.yml"],
        RUNS,
        {"watched": True},
        "reloaded",
        ["configuration file dynamic/hpb.yml"],
    ),
    "file put right by hand": (
        dry([{"restarted": "1"}], {"restarted": False}, {"restarted": True}),
        ["nats.conf"],
        RUNS,
        {},
        "restarted",
        ["configuration file nats.conf"],
    ),
    "image": (
        dry(
            ANEW, {"image": "sha256:1", "image_name": "nats:2.12.1"}, {"image": "sha256:2", "image_name": "nats:2.12.2"}
        ),
        [],
        RUNS,
        {},
        "restarted",
        ["image nats:2.12.1 -> nats:2.12.2"],
    ),
    "image that is not here yet": (
        dry(ANEW, {"image_name": "nats:2.12.1"}, {"image_name": "nats:2.12.2"}),
        [],
        RUNS,
        {},
        "restarted",
        ["image nats:2.12.1 -> nats:2.12.2"],
    ),
    "the same name pulled anew": (
        dry(ANEW, {"image": "sha256:1"}, {"image": "sha256:2"}),
        [],
        {**RUNS, "image": "nats:2.12.2"},
        {},
        "restarted",
        ["image nats:2.12.2, of which another one was pulled"],
    ),
    "two files": (
        dry(ANEW, {"labels": {LABEL: "1"}}, {"labels": {LABEL: "2"}}),
        ["start", "server.conf"],
        RUNS,
        {"signalled": True},
        "restarted",
        ["configuration files server.conf, start"],
    ),
    "killed between the files and the container": (
        dry(ANEW, {"labels": {LABEL: "1"}}, {"labels": {LABEL: "2"}}),
        [],
        RUNS,
        {},
        "restarted",
        ["what is read at its start"],
    ),
    "labels of a proxy": (
        dry(
            ANEW,
            {"labels": {"traefik.enable": "false", LABEL: "1"}},
            {"labels": {"traefik.enable": "true", LABEL: "2"}},
        ),
        [],
        RUNS,
        {},
        "restarted",
        ["what is read at its start", "labels"],
    ),
    "environment": (
        dry(ANEW, {"env": ["A=1", f"B={SECRET}", "PATH=/bin"]}, {"env": ["A=1", f"B={SECRET[::-1]}", f"C={SECRET}"]}),
        [],
        RUNS,
        {},
        "restarted",
        ["environment B, C"],
    ),
    "open files": (
        dry(
            ANEW,
            {"ulimits": [{"Name": "nofile", "Soft": 1024, "Hard": 1024}]},
            {"ulimits": [{"Name": "nofile", "Soft": 2048, "Hard": 2048}]},
        ),
        [],
        RUNS,
        {},
        "restarted",
        ["limit of open files 1024 -> 2048"],
    ),
    "several names for one thing": (
        dry(
            ANEW,
            {"volumes": [], "expected_binds": [], "tmpfs": []},
            {"volumes": ["a"], "expected_binds": ["a"], "tmpfs": ["b"]},
        ),
        [],
        RUNS,
        {},
        "restarted",
        ["mounts"],
    ),
    "something without a name of ours": (
        dry(ANEW, {"oom_killer": True}, {"oom_killer": False}),
        [],
        RUNS,
        {},
        "restarted",
        ["oom killer"],
    ),
    "stopped": (dry([{"started": "1"}], {"running": False}, {"running": True}), [], STOPPED, {}, "started", []),
    "stopped and made anew": (
        dry(ANEW, {"image_name": "nats:2.12.1"}, {"image_name": "nats:2.12.2"}),
        [],
        STOPPED,
        {},
        "started",
        ["image nats:2.12.1 -> nats:2.12.2"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_cost(case):
    run, files, found, more, change, why = CASES[case]
    cost = container_cost(run, files, found, "nats:2.12.2", **more)
    assert (cost["change"], cost["why"]) == (change, why)
    assert cost["disrupts"] is (change == "restarted")
    assert cost["anew"] is (run.get("actions") == ANEW)
    assert SECRET not in str(cost) and SECRET[::-1] not in str(cost)


WORDS = [
    ("unchanged", [], True, "", "unchanged"),
    (
        "updated",
        ["memory limit 1G -> 2G"],
        True,
        "",
        "to be updated in place, which costs nothing: memory limit 1G -> 2G",
    ),
    ("reloaded", ["configuration file a"], False, "", "reloaded, running calls go on: configuration file a"),
    (
        "restarted",
        ["image a -> b", "user"],
        True,
        "after calls",
        "to be restarted (calls drop), after calls: image a -> b; user",
    ),
    ("restarted", [], False, "", "restarted (calls drop)"),
    ("created", [], True, "", "to be created"),
]


@pytest.mark.parametrize(("change", "why", "is_dry", "drained", "text"), WORDS)
def test_words(change, why, is_dry, drained, text):
    cost = {"change": change, "why": why, "disrupts": change == "restarted"}
    assert container_sentence(cost, is_dry, consequence="calls drop", drained=drained) == text
