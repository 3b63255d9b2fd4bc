# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory model: which groups are instances, what they say, and everything that is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.vars.manager import VariableManager
from ansible_collections.nextcloud_talk.hpb.plugins.filter.backends import FilterModule
from ansible_collections.nextcloud_talk.hpb.plugins.filter.drift import FilterModule as DriftModule
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _backends
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._backends import InventoryError, backends
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._drift import drift

ROOT = Path(__file__).resolve().parents[2]


def inventory(variables=None, **groups):
    """Return (groups, hostvars) with a group hpb; the hosts of all other groups are in nextcloud unless it is given."""
    groups = {"hpb": ["talk"], **groups}
    others = [host for name, hosts in groups.items() if name != "hpb" for host in hosts]
    groups.setdefault("nextcloud", list(dict.fromkeys(others)))
    everybody = list(dict.fromkeys(["talk", *others, *groups["nextcloud"]]))
    groups.setdefault("all", everybody)
    groups.setdefault("ungrouped", [])
    hostvars = {host: {} for host in everybody}
    for name, values in (variables or {}).items():
        for host in groups[name]:
            hostvars[host].update(values)
    return groups, hostvars


def ids(entries):
    return [entry["id"] for entry in entries]


def refused(groups, hostvars, **options):
    with pytest.raises(InventoryError) as error:
        backends(groups, hostvars, **options)
    return error.value.problems


def only_problem(groups, hostvars, **options):
    problems = refused(groups, hostvars, **options)
    assert len(problems) == 1, problems
    return problems[0]


def test_everything_that_an_instance_says():
    groups, hostvars = inventory(
        {
            "nc": {
                "talk_url": "https://Cloud.example.org/",
                "talk_urls": ["https://alias.example.org:443", "https://cloud.example.org"],
                "talk_session_limit": "15",
                "talk_stream_bitrate": 2097152,
                "talk_screen_bitrate": "4194304",
                "talk_register": "no",
                "talk_optional": "True",
                "talk_state": "present",
                "talk_urls_from_nextcloud": "yes",
            }
        },
        nc=["nc.example.org", "nc2.example.org"],
    )
    assert backends(groups, hostvars) == [
        {
            "id": "nc",
            "host": "nc.example.org",
            "hosts": ["nc.example.org", "nc2.example.org"],
            "url": "https://cloud.example.org",
            "urls": ["https://cloud.example.org", "https://alias.example.org"],
            "session_limit": 15,
            "stream_bitrate": 2097152,
            "screen_bitrate": 4194304,
            "register": False,
            "optional": True,
            "state": "present",
            "urls_from_nextcloud": True,
        }
    ]


@pytest.mark.parametrize("unset", [{}, dict.fromkeys(_backends.READ), dict.fromkeys(_backends.READ, "")])
def test_defaults(unset):
    groups, hostvars = inventory({"nc": unset}, nc=["NC.example.org"])
    assert backends(groups, hostvars) == [
        {
            "id": "nc",
            "host": "NC.example.org",
            "hosts": ["NC.example.org"],
            "url": "https://nc.example.org",
            "urls": ["https://nc.example.org"],
            "session_limit": 0,
            "stream_bitrate": None,
            "screen_bitrate": None,
            "register": True,
            "optional": False,
            "state": "present",
            "urls_from_nextcloud": False,
        }
    ]


def test_only_our_variables_are_read():
    class Recorder(Mapping):
        def __init__(self, values):
            self.values_, self.read = values, set()

        def __getitem__(self, key):
            self.read.add(key)
            return self.values_[key]

        def __contains__(self, key):
            return key in self.values_

        def __iter__(self):
            return iter(self.values_)

        def __len__(self):
            return len(self.values_)

    groups, hostvars = inventory(nc=["a", "b"])
    recorders = {host: Recorder({"talk_session_limit": 3, "vault_password": "x", "talk_occ": "y"}) for host in hostvars}
    assert backends(groups, recorders)[0]["session_limit"] == 3
    assert recorders["a"].read <= {*_backends.READ, "talk_instance"}
    assert recorders["b"].read == set()
    assert recorders["talk"].read == set()


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ({"nc": ["a"]}, ["nc"]),
        ({"nc": ["a"], "dev_nc": ["b"]}, ["dev_nc", "nc"]),
        # A group of groups is no instance, nor is a machine group with SSH settings.
        ({"nc": ["a"], "dev_nc": ["b"], "customers": ["a", "b"], "web": ["b", "a"]}, ["dev_nc", "nc"]),
        # Groups that reach outside of nextcloud are about something else.
        ({"nc": ["a"], "debian": ["a", "talk"], "nextcloud": ["a"]}, ["nc"]),
        # An empty group is invisible.
        ({"nc": ["a"], "later": []}, ["nc"]),
        # The backend's own host may also be an inventory host of a Nextcloud.
        ({"nc": ["talk"], "hpb_media": ["talk"]}, ["nc"]),
        ({"nc": ["a", "b"], "Dev": ["c"]}, ["Dev", "nc"]),
    ],
)
def test_instances_are_the_minimal_groups(groups, expected):
    assert ids(backends(*inventory(**groups))) == expected


def test_hosts_keep_the_order_of_the_inventory():
    assert backends(*inventory(nc=["z", "a"]))[0]["hosts"] == ["z", "a"]


@pytest.mark.parametrize("choice", ["nc", "acme"])
def test_equal_groups_are_settled_by_talk_instance(choice):
    groups, hostvars = inventory({"nc": {"talk_instance": choice}}, nc=["a", "b"], acme=["b", "a"], dev=["c"])
    assert sorted(ids(backends(groups, hostvars))) == sorted([choice, "dev"])


def test_equal_groups_are_refused():
    problem = only_problem(*inventory(nc=["web"], dev_nc=["web"]))
    assert "The groups dev_nc and nc have exactly the same hosts (web)" in problem
    assert "set talk_instance: dev_nc (or nc) in one of them" in problem
    assert "two inventory hosts with the same ansible_host" in problem


@pytest.mark.parametrize(
    ("groups", "variables", "expected"),
    [
        ({"nc": ["a"]}, {"talk_instance": "cn"}, "talk_instance is cn for the host a, expected nc:"),
        ({"nc": ["a"], "x": ["a"]}, {"talk_instance": "y"}, "talk_instance is y for the host a, expected nc or x:"),
    ],
)
def test_talk_instance_that_names_no_such_group(groups, variables, expected):
    assert expected in only_problem(*inventory({"nc": variables}, **groups))


def test_host_in_two_instances():
    problem = only_problem(*inventory(nc=["a", "web"], dev_nc=["web", "b"]))
    assert "The host web is in the instance groups dev_nc and nc" in problem
    assert "two Nextclouds on one machine are two inventory hosts with the same ansible_host" in problem


def test_host_directly_in_nextcloud():
    problem = only_problem(*inventory(nc=["a"], nextcloud=["a", "stray"]))
    assert problem.startswith("The host stray is in the group nextcloud but in no instance group")


def test_host_beside_a_smaller_group():
    problem = only_problem(*inventory(nc=["a", "b"], site=["a"]))
    assert (
        "The host b is in the group nc but in no instance: nc also holds the hosts of the smaller group site" in problem
    )


@pytest.mark.parametrize("groups", [{"nextcloud": []}, {"nextcloud": [], "other": []}])
def test_no_nextcloud(groups):
    assert only_problem(*inventory(**groups)).startswith("The group nextcloud is missing or empty")
    del groups["nextcloud"]
    assert only_problem({"hpb": ["talk"], **groups}, {"talk": {}}).startswith("The group nextcloud is missing or empty")


def test_nextcloud_without_groups():
    problem = only_problem(*inventory(nextcloud=["a", "b"]))
    assert problem.startswith("The group nextcloud has hosts (a, b) but no groups below it")


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ([], "The group hpb is missing or empty"),
        (["t1", "t2"], "The group hpb has 2 hosts (t1, t2), expected exactly one"),
    ],
)
def test_hpb_has_one_host(hosts, expected):
    groups, hostvars = inventory(nc=["a"])
    assert expected in only_problem({**groups, "hpb": hosts}, hostvars)
    if not hosts:
        del groups["hpb"]
        assert expected in only_problem(groups, hostvars)


@pytest.mark.parametrize("group", sorted(_backends.SECTIONS) + ["Turn", "NATS", "dev-nc", "dev.nc", "wölkchen"])
def test_ids_that_cannot_be(group):
    problem = only_problem(*inventory(**{group: ["a"]}))
    assert problem.startswith(f"The group {group} cannot be an instance")
    assert "rename it, for example to " in problem


def test_suggested_id_is_one():
    assert "for example to dev_nc." in only_problem(*inventory(**{"dev-nc": ["a"]}))


def test_ids_equal_but_for_case():
    assert "The groups NC and nc differ in capital letters only" in only_problem(*inventory(nc=["a"], NC=["b"]))


@pytest.mark.parametrize("state", ["present", "absent"])
def test_two_instances_with_one_url(state):
    variables = {"nc": {"talk_url": "https://B:443/", "talk_state": state}}
    problem = only_problem(*inventory(variables, nc=["a"], dev=["b"]))
    assert "have the same URL https://b," in problem
    assert "nc" in problem
    assert "dev" in problem


def test_two_instances_with_one_further_url():
    variables = {"nc": {"talk_urls": ["https://b/x"]}, "dev": {"talk_urls": ["https://b/x/"]}}
    assert "have the same URL https://b/x," in only_problem(*inventory(variables, nc=["a"], dev=["b"]))


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (
            {"talk_url": "http://nc.example.org"},
            "talk_url of the instance nc: http://nc.example.org starts with http://",
        ),
        (
            {"talk_urls": ["https://ok.example", "http://x"]},
            "talk_urls of the instance nc: http://x starts with http://",
        ),
        ({"talk_urls": 5}, "talk_urls is 5 for the instance nc, expected a list of URLs"),
        ({"talk_urls": {"a": "b"}}, "expected a list of URLs"),
        (
            {"talk_session_limit": -1},
            "talk_session_limit is -1 for the instance nc, expected a whole number from 2, as a call of two has so "
            "many sessions, or 0 for no limit: correct it.",
        ),
        ({"talk_session_limit": 1}, "talk_session_limit is 1 for the instance nc, expected a whole number from 2,"),
        ({"talk_session_limit": "many"}, "talk_session_limit is 'many' for"),
        ({"talk_session_limit": 1.5}, "talk_session_limit is 1.5 for"),
        ({"talk_session_limit": True}, "talk_session_limit is True for"),
        ({"talk_session_limit": [5]}, "talk_session_limit is [5] for"),
        (
            {"talk_stream_bitrate": 0},
            "talk_stream_bitrate is 0 for the instance nc, expected bit/s from 64000 to 1000000000",
        ),
        ({"talk_stream_bitrate": 2048}, "talk_stream_bitrate is 2048 for"),
        ({"talk_screen_bitrate": "4 Mbit/s"}, "talk_screen_bitrate is '4 Mbit/s' for"),
        ({"talk_screen_bitrate": 10**10}, "talk_screen_bitrate is 10000000000 for"),
        ({"talk_register": "perhaps"}, "talk_register is 'perhaps' for the instance nc, expected true or false"),
        ({"talk_optional": 7}, "talk_optional is 7 for the instance nc, expected true or false"),
        ({"talk_state": "gone"}, "talk_state is 'gone' for the instance nc, expected present or absent"),
        ({"talk_state": ["absent"]}, "talk_state is ['absent'] for"),
    ],
)
def test_values_refused(variables, expected):
    assert expected in only_problem(*inventory({"nc": variables}, nc=["nc.example.org"]))


def test_numbers_at_their_limits():
    variables = {"talk_session_limit": "0", "talk_stream_bitrate": 64000, "talk_screen_bitrate": " 1000000000 "}
    (entry,) = backends(*inventory({"nc": variables}, nc=["a"]))
    assert (entry["session_limit"], entry["stream_bitrate"], entry["screen_bitrate"]) == (0, 64000, 1000000000)


def test_the_least_limit_of_sessions():
    (entry,) = backends(*inventory({"nc": {"talk_session_limit": "2"}}, nc=["a"]))
    assert entry["session_limit"] == 2


def test_further_urls_as_text():
    (entry,) = backends(*inventory({"nc": {"talk_urls": "https://b.example, https://c.example"}}, nc=["a"]))
    assert entry["urls"] == ["https://a", "https://b.example", "https://c.example"]


def test_host_name_that_cannot_be_in_a_url():
    groups, hostvars = inventory(nc=["nc_1"])
    assert "The instance nc has no talk_url, and its first host nc_1 cannot be in a URL" in only_problem(
        groups, hostvars
    )
    hostvars["nc_1"]["talk_url"] = "https://nc.example.org"
    assert backends(groups, hostvars)[0]["url"] == "https://nc.example.org"


def test_ipv6_host():
    assert backends(*inventory(nc=["2001:DB8::5"]))[0]["url"] == "https://[2001:db8::5]"


def test_all_problems_at_once():
    variables = {"nc": {"talk_url": "http://x", "talk_state": "gone"}, "turn": {"talk_optional": "perhaps"}}
    groups, hostvars = inventory(variables, nc=["a"], turn=["b"])
    groups["hpb"] = ["t1", "t2"]
    problems = refused(groups, hostvars, only="nobody")
    assert [problem.split(" ")[0] for problem in problems] == ["The", "talk_state", "talk_url", "The", "talk_optional"]


@pytest.mark.parametrize(
    ("urls", "expected"),
    [
        ({"a": ["https://x"], "b": ["https://x/nc2"]}, ["b", "a"]),
        ({"a": ["https://x/nc"], "b": ["https://x/nc2"]}, ["a", "b"]),
        ({"a": ["https://x"], "b": ["https://x/1"], "c": ["https://x/1/2"], "d": ["https://w"]}, ["c", "b", "a", "d"]),
        ({"a": ["https://x", "https://y/long"], "b": ["https://w", "https://y"]}, ["a", "b"]),
        ({"a": ["https://x"], "b": ["https://w", "https://x/1"]}, ["b", "a"]),
        ({"b": ["https://x"], "A": ["https://y"]}, ["A", "b"]),
    ],
)
def test_longer_paths_come_first(urls, expected):
    variables = {name: {"talk_url": given[0], "talk_urls": given[1:]} for name, given in urls.items()}
    groups, hostvars = inventory(variables, **{name: [f"host-{name}"] for name in urls})
    assert ids(backends(groups, hostvars)) == expected
    reverse = dict(reversed(list(groups.items())))
    assert ids(backends(reverse, hostvars)) == expected


def test_no_order_is_possible():
    variables = {
        "a": {"talk_url": "https://x", "talk_urls": ["https://y/1"]},
        "b": {"talk_url": "https://x/1", "talk_urls": ["https://y"]},
    }
    assert "The URLs of a and b lie below each other" in only_problem(*inventory(variables, a=["h"], b=["i"]))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [("dev", "present"), ("nc", "present")]),
        ({"state": "all"}, [("dev", "present"), ("nc", "present"), ("old", "absent")]),
        ({"state": "absent"}, [("old", "absent")]),
        ({"only": "nc"}, [("nc", "present")]),
        ({"only": ""}, [("dev", "present"), ("nc", "present")]),
        ({"only": ["nc", "dev"]}, [("dev", "present"), ("nc", "present")]),
        ({"only": "nc, dev"}, [("dev", "present"), ("nc", "present")]),
        ({"only": "old"}, []),
        ({"only": "old", "state": "all"}, [("old", "absent")]),
        ({"remove": ["nc"], "state": "all"}, [("dev", "present"), ("nc", "absent"), ("old", "absent")]),
        ({"remove": "nc,dev"}, []),
        ({"remove": "vanished"}, [("dev", "present"), ("nc", "present")]),
        ({"only": "vanished", "remove": "vanished", "state": "all"}, []),
        ({"only": "nc", "remove": "nc", "state": "all"}, [("nc", "absent")]),
    ],
)
def test_narrowed(options, expected):
    groups, hostvars = inventory({"old": {"talk_state": "absent"}}, nc=["a"], dev=["b"], old=["c"])
    assert [(entry["id"], entry["state"]) for entry in backends(groups, hostvars, **options)] == expected


def test_narrowed_to_what_is_not_there():
    problem = only_problem(*inventory(nc=["a"], dev=["b"]), only="cn")
    assert problem == "instance=cn names no instance of the inventory, expected one of dev, nc: correct the name."


def test_narrowed_run_that_removes_another():
    problem = only_problem(*inventory(nc=["a"], dev=["b"]), only="nc", remove="dev")
    assert problem.startswith("instance=nc narrows the run, but remove=dev asks for others as well")


def test_a_narrowed_run_checks_the_whole_inventory():
    assert "talk_url of the instance dev" in only_problem(
        *inventory({"dev": {"talk_url": "http://b"}}, nc=["a"], dev=["b"]), only="nc"
    )


def test_filter_raises_what_ansible_shows():
    groups, hostvars = inventory({"nc": {"talk_url": "http://x", "talk_state": "gone"}}, nc=["a"])
    with pytest.raises(AnsibleFilterError) as error:
        FilterModule().filters()["backends"](groups, hostvars)
    assert "talk_state is 'gone'" in str(error.value)
    assert "\ntalk_url of the instance nc" in str(error.value)
    with pytest.raises(AnsibleFilterError, match="expected present, absent or all"):
        FilterModule().filters()["backends"](groups, hostvars, state="here")


# --- drift


def instance(name, url=None, **values):
    url = url or f"https://{name}.example.org"
    return {"id": name, "url": url, "urls": [url], "session_limit": 0, "state": "present", **values}


EMPTY = {
    "added": [],
    "changed": [],
    "removed": [],
    "renamed": [],
    "vanished": [],
    "unchanged": [],
    "unknown": [],
}
A, B = instance("a"), instance("b")
GONE = {"state": "absent"}
DRIFT = [
    ("first run", [A, B], [], {}, {"added": ["a", "b"]}, ["a", "b"]),
    ("nothing new", [A, B], [A, B], {}, {"unchanged": ["a", "b"]}, ["a", "b"]),
    ("joins", [A, B], [A], {}, {"added": ["b"], "unchanged": ["a"]}, ["a", "b"]),
    ("limit", [instance("a", session_limit=5)], [A], {}, {"changed": ["a"]}, ["a"]),
    ("bitrate", [instance("a", stream_bitrate=5)], [instance("a", stream_bitrate=None)], {}, {"changed": ["a"]}, ["a"]),
    ("url", [instance("a", "https://x")], [A], {}, {"changed": ["a"]}, ["a"]),
    ("further url", [instance("a", urls=[A["url"], "https://x"])], [A], {}, {"changed": ["a"]}, ["a"]),
    (
        "order of urls",
        [instance("a", urls=[A["url"], "https://y", "https://x"])],
        [instance("a", urls=[A["url"], "https://x", "https://y"])],
        {},
        {"unchanged": ["a"]},
        ["a"],
    ),
    ("host only", [instance("a", host="new")], [instance("a", host="old")], {}, {"unchanged": ["a"]}, ["a"]),
    ("old form", [A], [{"id": "a", "url": A["url"]}], {}, {"unchanged": ["a"]}, ["a"]),
    ("absent", [{**A, **GONE}, B], [A, B], {}, {"removed": ["a"], "unchanged": ["b"]}, ["b"]),
    ("absent again", [{**A, **GONE}, B], [B], {}, {"unchanged": ["b"]}, ["b"]),
    ("remove=", [B], [A, B], {"remove": "a"}, {"removed": ["a"], "unchanged": ["b"]}, ["b"]),
    ("remove= of a present one", [A, B], [A, B], {"remove": ["a"]}, {"removed": ["a"], "unchanged": ["b"]}, ["b"]),
    ("remove= again", [B], [B], {"remove": "a"}, {"unchanged": ["b"], "unknown": ["a"]}, ["b"]),
    ("the last one", [{**A, **GONE}], [A], {}, {"removed": ["a"]}, []),
    ("renamed", [instance("n", A["url"])], [A], {}, {"renamed": [{"from": "a", "to": "n"}]}, ["n"]),
    (
        "renamed, old url is a further one",
        [instance("n", urls=["https://n.example.org", A["url"]])],
        [A],
        {},
        {"renamed": [{"from": "a", "to": "n"}]},
        ["n"],
    ),
    ("renamed and absent", [instance("n", A["url"], **GONE)], [A], {}, {"removed": ["a"]}, []),
    (
        "the url moves to another, both stay",
        [instance("a", B["url"]), instance("b", A["url"])],
        [A, B],
        {},
        {"changed": ["a", "b"]},
        ["a", "b"],
    ),
    (
        "a new one takes the url of one that moves",
        [instance("a", "https://x"), instance("n", A["url"])],
        [A],
        {},
        {"changed": ["a"], "added": ["n"]},
        ["a", "n"],
    ),
    ("only: others stay", [A], [B], {"only": "a"}, {"added": ["a"], "unchanged": ["b"]}, ["a", "b"]),
    ("only: renamed", [instance("n", A["url"])], [A, B], {"only": "n"},
     {"renamed": [{"from": "a", "to": "n"}], "unchanged": ["b"]}, ["b", "n"]),
    ("only: renamed, gone", [instance("n", A["url"])], [A, B], {"only": "n", "known": ["n", "b"]},
     {"renamed": [{"from": "a", "to": "n"}], "unchanged": ["b"]}, ["b", "n"]),
    ("only: takes the url of one that leaves", [instance("n", A["url"])], [A, B],
     {"only": "n", "remove": "a", "known": ["a", "b", "n"]},
     {"added": ["n"], "removed": ["a"], "unchanged": ["b"]}, ["b", "n"]),
    ("only: removes", [{**A, **GONE}], [A, B], {"only": "a"}, {"removed": ["a"], "unchanged": ["b"]}, ["b"]),
    ("only: removes a vanished one", [], [A, B], {"only": "a", "remove": "a"},
     {"removed": ["a"], "unchanged": ["b"]}, ["b"]),
    ("only: order", [instance("z", "https://x/1")], [instance("b", "https://x")], {"only": "z"},
     {"added": ["z"], "unchanged": ["b"]}, ["z", "b"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("case", "wanted", "deployed", "options", "expected", "left"), DRIFT, ids=[c[0] for c in DRIFT]
)
def test_drift(case, wanted, deployed, options, expected, left):
    found = DriftModule().filters()["drift"](wanted, deployed, **options)
    assert found.pop("problems") == []
    assert isinstance(found.pop("not_deployed"), list)
    instances = found.pop("instances")
    assert ids(instances) == left
    assert all(entry["urls"] for entry in instances)
    assert found == {**EMPTY, **expected}


MOVED = instance("a", "https://a.odd.example")
SAYS_MOVED = (
    "The instance a is at https://a.odd.example in the inventory (talk_url, or else its first host), but deployed with "
    "https://a.example.org: correct talk_url, or deploy the new address."
)


@pytest.mark.parametrize(
    ("wanted", "deployed", "options", "expected"),
    [
        ([A, B], [A, B], {}, []),
        ([A, B], [], {}, []),
        ([MOVED, B], [A, B], {}, [SAYS_MOVED]),
        ([MOVED], [A, B], {"only": "a", "known": ["a", "b"]}, [SAYS_MOVED]),
        ([A, B], [A], {}, ["The instance b (https://b.example.org) of the inventory is not deployed."]),
        ([A, {**B, **GONE}], [A], {}, []),
        (
            [instance("n", "https://n.example.org"), B],
            [A, B],
            {},
            [
                "The instance n (https://n.example.org) of the inventory is not deployed.",
                "The instance a (https://a.example.org) is deployed, but not in the inventory.",
            ],
        ),
    ],
)
def test_what_is_not_deployed_is_named(wanted, deployed, options, expected):
    assert drift(wanted, deployed, **options).not_deployed == expected


@pytest.mark.parametrize("options", [{}, {"remove": "b"}, {"only": "a"}])
def test_vanished_without_consent(options):
    found = drift([B], [A, B], **options)
    assert found.vanished == ["a"]
    (problem,) = found.problems
    assert "The instance a (https://a.example.org) is deployed but not in the inventory" in problem
    assert "-e remove=a" in problem
    assert "talk_state: absent" in problem


def test_narrowed_run_that_takes_anothers_url():
    found = drift([instance("a", B["url"])], [A, B], only="a")
    (problem,) = found.problems
    assert "b is deployed with the URL https://b.example.org, which the inventory now gives to a" in problem


def test_narrowed_run_whose_new_instance_takes_anothers_url():
    taken = DriftModule().filters()["drift"]([instance("n", A["url"])], [A, B], only="n", known=["a", "b", "n"])
    assert (taken["renamed"], taken["removed"], taken["added"]) == ([], [], ["n"])
    assert sorted(ids(taken["instances"])) == ["a", "b", "n"]
    (problem,) = taken["problems"]
    assert "a is deployed with the URL https://a.example.org, which the inventory now gives to n" in problem
    assert "leave out -e instance=" in problem


def test_drift_keeps_what_it_was_given():
    wanted, deployed = [instance("a", host="new")], [instance("a", host="old"), instance("b", secret="x")]
    assert drift(wanted, deployed, only="a").instances == [wanted[0], deployed[1]]


@pytest.mark.parametrize("entry", ["a", {"id": "a"}, {"url": "https://a"}])
def test_drift_refuses_what_it_cannot_read(entry):
    with pytest.raises(AnsibleFilterError, match=r"an entry without id or url.*deployed\.json"):
        DriftModule().filters()["drift"]([A], [entry])


# --- with Ansible


def test_example_inventory():
    loader = DataLoader()
    manager = InventoryManager(loader=loader, sources=[str(ROOT / "inventory.example")])
    variables = VariableManager(loader=loader, inventory=manager)
    hostvars = {str(host): variables.get_vars(host=host, include_hostvars=False) for host in manager.get_hosts()}
    entries = {entry["id"]: entry for entry in backends(manager.get_groups_dict(), hostvars)}
    assert {name: entry["url"] for name, entry in entries.items()} == {
        "nc": "https://nc.example.org",
        "dev_nc": "https://dev.example.org",
        "club": "https://www.example.org/club",
        "client": "https://cloud.client.example",
        "nas": "https://nas.example.org",
    }
    assert {name: entry["session_limit"] for name, entry in entries.items()} == {
        "nc": 15,
        "dev_nc": 5,
        "club": 15,
        "client": 15,
        "nas": 15,
    }
    assert [name for name, entry in entries.items() if not entry["register"]] == ["client"]
    assert [name for name, entry in entries.items() if entry["optional"]] == ["nas"]
    assert hostvars["nc.example.org"]["ansible_host"] == hostvars["dev.example.org"]["ansible_host"]
    assert hostvars["talk.example.org"]["hpb_domain"] == "talk.example.org"


PLAYBOOK = """
- hosts: hpb
  gather_facts: false
  tasks:
    - ansible.builtin.set_fact:
        instances: "{{ groups | nextcloud_talk.hpb.backends(hostvars, state='all', only=instance | default('')) }}"
    - ansible.builtin.copy:
        dest: "{{ playbook_dir }}/result.json"
        mode: "0600"
        content: >-
          {{ {'instances': instances,
              'drift': instances | nextcloud_talk.hpb.drift(deployed, remove=['old'], only=instance | default('')),
              'misspelt': hostvars | nextcloud_talk.hpb.misspelt} | to_json }}
      vars:
        deployed:
          - {id: old, url: "https://old.example.org"}
          - {id: dev, url: "https://dev.example.org", session_limit: 9}
"""
INVENTORY = """
hpb: {hosts: {talk: {ansible_connection: local}}}
nextcloud:
  vars: {talk_session_limit: "{{ 10 + 5 }}", talk_container: "{{ never_defined }}"}
  children:
    customers:
      children:
        nc: {hosts: {nc.example.org: }, vars: {talk_url: "https://{{ inventory_hostname | upper }}/nc/"}}
        dev: {hosts: {dev.example.org: }, vars: {talk_sesion_limit: 5}}
other: {hosts: {elsewhere: {talk_ulr: not ours}}}
"""


@pytest.fixture
def play(tmp_path):
    def run(inventory_text, *arguments):
        (tmp_path / "hosts.yml").write_text(inventory_text, encoding="utf-8")
        (tmp_path / "play.yml").write_text(PLAYBOOK, encoding="utf-8")
        result = subprocess.run(
            [sys.executable, "-m", "ansible", "playbook", "-i", "hosts.yml", "play.yml", *arguments],
            cwd=tmp_path,
            env={
                **os.environ,
                "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".tree"),
                "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
                "ANSIBLE_LOCAL_TEMP": str(tmp_path / "local"),
                "ANSIBLE_REMOTE_TEMP": str(tmp_path / "remote"),
                "ANSIBLE_NOCOLOR": "1",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        written = tmp_path / "result.json"
        return result, json.loads(written.read_text(encoding="utf-8")) if written.exists() else None

    return run


def test_in_a_play(play):
    result, found = play(INVENTORY)
    assert result.returncode == 0, result.stdout + result.stderr
    assert [(entry["id"], entry["url"], entry["session_limit"]) for entry in found["instances"]] == [
        ("dev", "https://dev.example.org", 15),
        ("nc", "https://nc.example.org/nc", 15),
    ]
    assert found["drift"]["added"] == ["nc"]
    assert found["drift"]["changed"] == ["dev"]
    assert found["drift"]["removed"] == ["old"]
    assert [sentence.split(":")[0] for sentence in found["misspelt"]] == [
        "The variable talk_sesion_limit (host dev.example.org) does nothing, expected talk_session_limit"
    ]
    assert "WARNING" not in result.stderr


def test_in_a_play_with_extra_variables(play):
    result, found = play(INVENTORY, "-e", "talk_session_limit=7", "-e", "instance=nc", "-e", "talk_optional=yes")
    assert result.returncode == 0, result.stdout + result.stderr
    assert [(entry["id"], entry["session_limit"], entry["optional"]) for entry in found["instances"]] == [
        ("nc", 7, True)
    ]
    assert found["drift"]["unchanged"] == ["dev"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-e", "instance=cn"], "instance=cn names no instance of the inventory, expected one of dev, nc"),
        (["-e", "talk_url=https://same.example.org"], "have the same URL https://same.example.org"),
        (["-e", "talk_session_limit={{ nowhere }}"], "'nowhere' is undefined"),
    ],
)
def test_in_a_play_refused(play, arguments, expected):
    result, found = play(INVENTORY, *arguments)
    assert result.returncode != 0
    assert found is None
    assert expected in result.stdout + result.stderr


def test_the_filter_can_return_the_problems_instead():
    groups = {"all": [], "hpb": ["talk.example.org"], "nextcloud": ["a.example.org"], "mcu": ["a.example.org"]}
    hostvars = {"a.example.org": {}, "talk.example.org": {}}
    found = FilterModule().filters()["backends"](groups, hostvars, check=True)
    assert len(found) == 1
    assert "group mcu" in found[0]
    groups["nc"] = groups.pop("mcu")
    assert FilterModule().filters()["backends"](groups, hostvars, check=True) == []
