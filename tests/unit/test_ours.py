# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a host is ours, and what is said of what is not: tables over the pure functions."""

from __future__ import annotations

import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.filter.running_images import running_images
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _ours

BASE = "/opt/hpb"
SERVICES = ["nats", "janus", "coturn", "signalling", "traefik"]


def container(name, label="", base="", **other):
    """A container; `base`: the directory that holds the configuration of its service."""
    mounts = (f"{base}/{label}/config", "/etc/localtime") if base else ()
    return _ours.Container(name, label, "image:1", mounts=mounts, **other)


@pytest.mark.parametrize(
    ("one", "ours"),
    [
        (container("nats", "nats", BASE), True),
        (container("nats", "nats"), True),
        (container("nats", "nats", "/elsewhere"), True),
        (container("nats-previous", "nats"), True),
        (container("hpb-nats", "nats", BASE), True),
        (container("hpb-nats-previous", "nats", BASE), True),
        (container("hpb-nats", "nats", "/elsewhere"), False),
        (container("hpb-nats", "nats"), False),
        (container("nats"), False),
        (container("nats", "janus", BASE), False),
        (container("nats", "network"), False),
        # Made of an image that was made of ours.
        (container("nats-debug", "nats", BASE), False),
        (container("coturn443", "coturn", BASE), False),
    ],
)
def test_which_containers_are_ours(one, ours):
    assert one.is_ours("nats", f"{BASE}/nats") is ours
    assert _ours.Claim(SERVICES, "", BASE, {}).is_ours(one) is ours


def test_a_prefix_is_part_of_the_name_that_is_wanted():
    assert container("hpb-nats", "nats").is_ours("hpb-nats", f"{BASE}/nats")
    assert not container("nats", "nats").is_ours("hpb-nats", f"{BASE}/nats")
    assert container("nats", "nats", BASE).is_ours("hpb-nats", f"{BASE}/nats")


def test_what_the_engine_says_of_a_container():
    entry = {
        "Id": "1d",
        "Name": "/nats",
        "Image": "sha256:1",
        "Config": {"Image": "nats:2", "Labels": {"com.docker.compose.project": "shop", _ours.LABEL: "nats"}},
        "State": {"Running": True},
        "HostConfig": {"RestartPolicy": {"Name": "no"}, "Binds": ["/opt/hpb/nats/config:/config:ro"]},
    }
    one = _ours.Container.of(entry)
    assert (one.id, one.label, one.image_id, one.restarts) == ("1d", "nats", "sha256:1", False)
    assert one.mounts == ("/opt/hpb/nats/config",)
    assert str(one) == "nats (image nats:2, compose project shop, running)"
    assert str(_ours.Container.of({"Name": "/x"})) == "x (image , not running)"
    assert _ours.entries("no JSON") == [] == _ours.entries("{}") == _ours.entries("")


SHOP = container("nats", project="shop", running=True)
PHONE = container("janus")
OURS = container("signalling", "signalling", BASE, running=True)
FREE = "expected that name free: set hpb_container_prefix: hpb- for the group hpb, so that ours"


@pytest.mark.parametrize(
    ("containers", "prefix", "problems"),
    [
        ([OURS, container("shop"), container("nats-1")], "", []),
        (
            [SHOP],
            "",
            [
                "The container nats (image image:1, compose project shop, running) has the name of one of ours and is "
                f"not ours, {FREE} is called hpb-nats beside it."
            ],
        ),
        (
            [SHOP, PHONE, OURS],
            "",
            [
                "The containers janus (image image:1, not running) and nats (image image:1, compose project shop, "
                "running) have the name of one of ours and are not ours, expected these names free: set "
                "hpb_container_prefix: hpb- for the group hpb, so that ours are called hpb-janus and hpb-nats beside "
                "them; of ours, which were deployed here, nats is gone and is made again; what runs of ours is "
                "renamed, which ends no call."
            ],
        ),
        # The first prefixes lead to names that are taken as well.
        (
            [SHOP, container("hpb-nats"), container("talk-janus-previous")],
            "",
            [
                "The container nats (image image:1, compose project shop, running) has the name of one of ours and is "
                "not ours, expected that name free: set hpb_container_prefix: nextcloud-talk-hpb- for the group hpb, "
                "so that ours is called nextcloud-talk-hpb-nats beside it."
            ],
        ),
        ([SHOP, PHONE], "hpb-", []),
        (
            [container("hpb-nats")],
            "hpb-",
            [
                "The container hpb-nats (image image:1, not running) has the name of one of ours and is not ours, "
                "expected that name free: set hpb_container_prefix: talk- for the group hpb, so that ours is called "
                "talk-nats beside it."
            ],
        ),
        (
            [OURS, container("signalling-previous")],
            "",
            [
                "The container signalling-previous (image image:1, not running) is not ours and has the name that "
                f"ours called signalling gets while its successor is tried, {FREE} are called otherwise; what runs of "
                "ours is renamed, which ends no call."
            ],
        ),
        ([OURS, container("signalling-previous", "signalling", BASE)], "", []),
        # One of another backend on this host that has a wanted name and one that has not.
        ([container("hpb-nats", "nats", "/elsewhere")], "", []),
        (
            [OURS, container("hpb-signalling", "signalling", BASE)],
            "",
            ["The containers hpb-signalling and signalling are"],
        ),
        # coturn443 is none of those that are wanted.
        ([container("coturn443")], "", []),
    ],
)
def test_what_has_the_name_of_ours_is_named_with_the_way_out(containers, prefix, problems):
    deployed = ["nats", "signalling"] if OURS in containers else []
    found = _ours.Claim(SERVICES, prefix, BASE, {}, deployed).problems(containers, [])
    assert len(found) == len(problems)
    for sentence, words in zip(found, problems):
        assert sentence == words if words.endswith(".") else sentence.startswith(words)


@pytest.mark.parametrize(
    ("one", "told"),
    [
        (container("nats-previous", project="shop"), True),
        (container("nats-previous", running=True), False),
        (container("nats-previous", restarts=True), False),
        (container("nats-previous", "nats"), False),
        (container("shop-previous"), False),
    ],
)
def test_what_an_affected_release_may_have_set_aside_is_told(one, told):
    sentence = (
        "The container nats-previous (image image:1, compose project shop, not running) is not ours, and release 0.1.0 "
        "may have renamed and stopped it, which took every container called nats for its own: once none of ours is "
        "called so, give it back with 'docker rename nats-previous nats', 'docker update --restart unless-stopped "
        "nats' and 'docker start nats'."
    )
    for prefix in ("", "hpb-"):
        assert _ours.Claim(SERVICES, prefix, BASE, {}).notes([OURS, one]) == ([sentence] if told else [])


EDGE, CORE = "172.31.254.0/25", "172.31.254.128/25"
WANTED = {"hpb-edge": EDGE, "hpb-core": CORE}


def network(name, subnet, ours=True, members=(), interface=""):
    return _ours.Network(name, ours, (subnet,), tuple(members), interface)


@pytest.mark.parametrize(
    ("networks", "prefix", "names"),
    [
        ([], "", ["hpb-edge", "hpb-core"]),
        ([], "my-", ["my-hpb-edge", "my-hpb-core"]),
        # What is there keeps its name, since Docker renames none.
        ([network("hpb-edge", EDGE)], "my-", ["hpb-edge", "my-hpb-core"]),
        ([network("my-hpb-edge", EDGE)], "", ["my-hpb-edge", "hpb-core"]),
        ([network("hpb-edge", "10.0.0.0/25")], "my-", ["my-hpb-edge", "my-hpb-core"]),
        ([network("hpb-edge", EDGE, ours=False)], "", ["hpb-edge", "hpb-core"]),
    ],
)
def test_what_our_networks_are_called(networks, prefix, names):
    assert list(_ours.network_names(networks, WANTED, prefix).values()) == names


@pytest.mark.parametrize(
    ("networks", "interfaces", "problem"),
    [
        ([network("hpb-edge", EDGE, members=["signalling", "shop"], interface="hpb-edge")], ["hpb-edge"], ""),
        (
            [network("hpb-edge", "10.0.0.0/25", ours=False)],
            [],
            "The network hpb-edge of Docker's is not ours, expected",
        ),
        ([network("hpb-edge", "10.0.0.0/25", members=["signalling"])], [], ""),
        # One that is made anew, and one that is not wanted any more.
        ([network("hpb-edge", "10.0.0.0/25", members=["signalling", "shop"])], [], "take it out with 'docker network"),
        ([network("old-hpb-edge", "10.0.0.0/25", members=["shop", "signalling"])], [], "disconnect old-hpb-edge shop'"),
        ([], ["hpb-core"], "This host has an interface hpb-core, which is not ours, expected that name free"),
    ],
)
def test_networks_of_others_are_named(networks, interfaces, problem):
    found = _ours.Claim(SERVICES, "", BASE, WANTED).problems([OURS], networks, interfaces)
    assert len(found) == bool(problem)
    assert problem in "".join(found)


@pytest.mark.parametrize(
    ("there", "foreign"),
    [
        ({}, ""),
        ({"nats": [], "janus": ["build"], "watch": ["watch.py", "config.json"]}, ""),
        ({"janus": ["build", "etc"]}, "/opt (hpb_base_dir) has janus in it, which is not ours"),
        (
            {"traefik": ["traefik.yml"], "coturn": ["a"], "nats": ["b"]},
            "has coturn, nats and traefik in it, which are not",
        ),
    ],
)
def test_a_directory_of_others_is_named(there, foreign):
    found = _ours.directory_problems("/opt", there)
    assert len(found) == bool(foreign)
    assert foreign in "".join(found)


HEAD = "# Written by Ansible (nextcloud_talk.hpb.watch).\n[Unit]\n"
WATCH = "/etc/systemd/system/nextcloud-talk-hpb-watch"
FOREIGN_UNIT = "was not written by this collection, expected that name free for one of ours: rename it."


@pytest.mark.parametrize(
    ("units", "found"),
    [
        ({}, []),
        ({f"{WATCH}.timer": HEAD, f"{WATCH}.service": f"{HEAD}ExecStart=/usr/bin/python3 {BASE}/watch/watch.py\n"}, []),
        # Whose a lone timer is cannot be known; it starts nothing.
        ({f"{WATCH}.timer": HEAD}, []),
        (
            {f"{WATCH}.timer": "[Unit]\n", f"{WATCH}.service": HEAD},
            [f"The unit {WATCH}.timer {FOREIGN_UNIT}"],
        ),
        (
            {f"{WATCH}.timer": HEAD, f"{WATCH}.service": f"{HEAD}ExecStart=/usr/bin/python3 {BASE}2/watch/watch.py\n"},
            [
                f"The unit {WATCH}.{kind} starts {BASE}2/watch/watch.py, which another backend on this host has, not "
                f"the one below {BASE} (hpb_base_dir), expected that name free for one of ours: take it away with that "
                "backend's inventory."
                for kind in ("service", "timer")
            ],
        ),
        # Like ours, but none of our names.
        ({"/etc/systemd/system/nextcloud-talk-hpb-backup.timer": "[Unit]\n"}, []),
    ],
)
def test_units_of_others_are_named(units, found):
    assert _ours.unit_problems(units, BASE) == found
    assert _ours.unit_problems(units, BASE, []) == []


def test_which_images_run():
    def listed(name, label, source):
        labels = {_ours.LABEL: label} if label else {}
        return {
            "Names": [f"/{name}", "/a/link"],
            "Image": f"{name}:1",
            "Labels": labels,
            "Mounts": [{"Source": source}],
        }

    containers = [
        listed("hpb-nats", "nats", f"{BASE}/nats/config"),
        listed("test-nats", "nats", "/elsewhere/nats/config"),
        listed("janus", "", f"{BASE}/janus/config"),
        listed("traefik", "traefik", ""),
    ]
    assert running_images(containers, BASE) == {"nats": "hpb-nats:1", "traefik": "traefik:1"}
    assert running_images(containers, BASE, "hpb-") == {"nats": "hpb-nats:1"}
