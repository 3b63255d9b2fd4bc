# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Misspelt variables, and those that only look strange."""

from __future__ import annotations

import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.filter import misspelt as plugin
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _variables

KNOWN = plugin.known_names()
ROLES = {"host", "container", "nats", "janus", "coturn", "signalling", "traefik", "talk", "verify"}


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ("", "", 0),
        ("", "abc", 3),
        ("abc", "abc", 0),
        ("domian", "domain", 1),
        ("sesion", "session", 1),
        ("limits", "limit", 1),
        ("kitten", "sitting", 3),
        ("ab", "ba", 1),
    ],
)
def test_distance(left, right, expected):
    assert _variables.distance(left, right) == expected
    assert _variables.distance(left=right, right=left) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("talk_sesion_limit", "talk_session_limit"),
        ("talk_session_limits", "talk_session_limit"),
        ("talk_sessionlimit", "talk_session_limit"),
        ("talk_sessionLimit", "talk_session_limit"),
        ("talk_ulr", "talk_url"),
        ("talk_uri", "talk_url"),
        ("talk_regsiter", "talk_register"),
        ("talk_stream_bit_rate", "talk_stream_bitrate"),
        ("talk_cotnainer", "talk_container"),
        ("talk_oc", "talk_occ"),
        ("hpb_turn_domian", "hpb_turn_domain"),
        ("hpb_domian", "hpb_domain"),
        ("hpb_publik_ip", "hpb_public_ip"),
        ("hpb_ca_file", "hpb_ca_files"),
        ("HPB_domain", "hpb_domain"),
        ("janus_max_prot", "janus_max_port"),
        ("coturn_verison", "coturn_version"),
        ("signaling_version", "signalling_version"),
        ("signaling_stats_ip", "signalling_stats_ips"),
        ("traefik_versions", "traefik_version"),
    ],
)
def test_misspelt(name, expected):
    assert expected in KNOWN
    (sentence,) = _variables.misspelt({"a": [name]}, KNOWN, ROLES)
    assert sentence.startswith(f"The variable {name} (host a) does nothing, expected {expected}: correct its name")


@pytest.mark.parametrize(
    "name",
    [
        "talk_session_limit",
        "talk_bot_password",
        "talk_room",
        "hpb_backup_target",
        "hpb_dns",
        "nats_url",
        "nats_user",
        "nats_cluster_name",
        "coturn_host",
        "coturn_realm",
        "traefik_dashboard_users",
        "traefik_network",
        "janus_user",
        "container_names",
        "host_name",
        "signaling_proxy",
        "__talk_sesion_limit",
        "__hpb_domian",
        "ansible_talk_ulr",
        "nextcloud_url",
        "talk",
        "talk_",
        "hpb",
        "",
    ],
)
def test_left_alone(name):
    assert _variables.misspelt({"a": [name]}, KNOWN, ROLES) == []


def test_what_the_roles_take_and_leave_is_known():
    assert {"hpb_domain", "hpb_instances", "talk_session_limit", "talk_instance", "janus_version"} <= KNOWN
    assert not {name for name in KNOWN if not name.replace("_", "a").isalnum()}


def test_facts_are_found_in_blocks():
    tasks = [
        {"block": [{"ansible.builtin.set_fact": {"talk_x": 1, "cacheable": True}}], "rescue": None},
        {"ansible.builtin.debug": {"msg": {"talk_y": 1}}},
    ]
    assert _variables.fact_names(tasks) == {"talk_x"}
    assert _variables.fact_names(None) == set()


def test_options_of_every_entry_point():
    specs = {"argument_specs": {"main": {"options": {"a": {}}}, "read": {"options": {"b": {}}}, "bare": {}}}
    assert _variables.spec_names(specs) == {"a", "b"}
    assert _variables.spec_names({}) == set()


def test_hosts_are_named_but_not_all():
    variables = {name: ["talk_ulr", "hpb_domian"] if name == "a" else ["talk_ulr"] for name in "abcde"}
    first, second = _variables.misspelt(variables, KNOWN, ROLES)
    assert first.startswith("The variable hpb_domian (host a)")
    assert second.startswith("The variable talk_ulr (hosts a, b, c and 2 more)")


class Unreadable(dict):
    """Variables of a host whose values must not be looked at."""

    def __getitem__(self, key):
        assert key == "group_names", key
        return super().__getitem__(key)


@pytest.mark.parametrize(
    ("groups", "expected"),
    [(["hpb"], 1), (["nc", "nextcloud"], 1), (["other"], 0), ([], 0)],
)
def test_filter_looks_at_names_of_our_hosts_only(groups, expected):
    hostvars = {"a": Unreadable(talk_ulr="x", ansible_facts={}, group_names=groups)}
    found = plugin.FilterModule().filters()["misspelt"](hostvars)
    assert len(found) == expected
