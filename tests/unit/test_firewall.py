# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How ufw and firewalld say our rules, what of theirs is ours, and what is to be done."""

from __future__ import annotations

import configparser

import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _firewall

HTTPS = ("tcp", 443, 443, "")
TURN = ("udp", 3478, 3478, "")
MEDIA = ("udp", 20000, 29999, "")
PROXY = ("tcp", 8080, 8080, "198.51.100.7")
PROXY6 = ("tcp", 8080, 8080, "2001:db8::7")
RULES = [HTTPS, TURN, MEDIA, PROXY, PROXY6]


def test_rules_of_the_filter():
    entries = [
        {"protocol": "tcp", "first": 443, "last": 443, "source": "", "why": "browsers"},
        {"protocol": "tcp", "first": 443, "last": 443, "why": "once more"},
        {"protocol": "tcp", "first": 8080, "last": 8080, "source": "198.51.100.7", "why": "the proxy"},
    ]
    assert _firewall.rules_of(entries) == [HTTPS, PROXY]
    assert _firewall.shown([PROXY, MEDIA, HTTPS]) == [
        "tcp 443 from everybody",
        "tcp 8080 from 198.51.100.7",
        "udp 20000-29999 from everybody",
    ]


def test_application_profiles_of_ufw():
    parser = configparser.ConfigParser()
    parser.read_string(_firewall.ufw_profiles(RULES))
    assert {name: parser[name]["ports"] for name in parser.sections()} == {
        "nextcloud-talk-hpb": "443/tcp|3478,20000:29999/udp",
        "nextcloud-talk-hpb-198.51.100.7": "8080/tcp",
        "nextcloud-talk-hpb-2001.db8..7": "8080/tcp",
    }
    # All three are required, or ufw drops the profile.
    assert all(parser[name][key] for name in parser.sections() for key in ("title", "description", "ports"))
    assert _firewall.ufw_profiles([]) == ""


UFW = """*filter
### RULES ###

### tuple ### allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 in
-A ufw-user-input -p tcp --dport 22 -j ACCEPT

### tuple ### allow tcp 443 0.0.0.0/0 any 0.0.0.0/0 nextcloud-talk-hpb - in
-A ufw-user-input -p tcp --dport 443 -j ACCEPT -m comment --comment 'dapp_nextcloud-talk-hpb'

### tuple ### allow udp 3478,20000:29999 0.0.0.0/0 any 0.0.0.0/0 nextcloud-talk-hpb - in

### tuple ### allow tcp 8080 0.0.0.0/0 any 198.51.100.7 nextcloud-talk-hpb-198.51.100.7 - in

### tuple ### allow tcp 8080 0.0.0.0/0 any 198.51.100.9 nextcloud-talk-hpb - in
### tuple ### deny tcp 444 0.0.0.0/0 any 0.0.0.0/0 nextcloud-talk-hpb - in
### tuple ### allow tcp 445 0.0.0.0/0 any 0.0.0.0/0 nextcloud-talk-hpb - in_eth1
### tuple ### allow tcp 80 0.0.0.0/0 any 0.0.0.0/0 Nginx%20HTTP - in

### END RULES ###
"""
UFW6 = """### tuple ### allow tcp 443 ::/0 any ::/0 nextcloud-talk-hpb - in
### tuple ### allow tcp 8080 ::/0 any 2001:db8::7 nextcloud-talk-hpb-2001.db8..7 - in comment=6f757273
"""


def test_our_rules_in_ufw_are_told_from_others():
    assert _firewall.ufw_rules(UFW, UFW6) == set(RULES)
    assert _firewall.ufw_rules("", "") == set()


ALLOW = ["allow", "nextcloud-talk-hpb"]
ALLOW_PROXY = ["allow", "from", "198.51.100.7", "to", "any", "app", "nextcloud-talk-hpb-198.51.100.7"]


@pytest.mark.parametrize(
    ("wanted", "present", "before", "after"),
    [
        ([HTTPS, TURN], [], [], [ALLOW]),
        ([HTTPS, PROXY], [], [], [ALLOW, ALLOW_PROXY]),
        ([HTTPS, TURN, PROXY], [PROXY, TURN, HTTPS], [], []),
        ([HTTPS], [HTTPS, TURN], [], [["app", "update", "nextcloud-talk-hpb"]]),
        ([HTTPS], [HTTPS, PROXY], [["delete", *ALLOW_PROXY]], []),
        (
            [HTTPS, PROXY6],
            [HTTPS, PROXY],
            [["delete", *ALLOW_PROXY]],
            [[*ALLOW_PROXY[:2], "2001:db8::7", *ALLOW_PROXY[3:6], "nextcloud-talk-hpb-2001.db8..7"]],
        ),
        ([], [HTTPS, PROXY], [["delete", *ALLOW], ["delete", *ALLOW_PROXY]], []),
        ([], [], [], []),
    ],
)
def test_what_ufw_is_told(wanted, present, before, after):
    assert _firewall.ufw_plan(wanted, set(present)) == (before, after)


# With a space behind the colon, as firewall-cmd writes it.
ZONES = """public (default, active)
  target: default
  interfaces: eth0
  services: dhcpv6-client ssh
  ports: 443/tcp
  rich rules:{space}
\trule family="ipv4" source address="192.0.2.66" reject
\trule priority="31470" port port="443" protocol="tcp" accept
\trule priority="31470" family="ipv4" source address="198.51.100.7" port port="8080" protocol="tcp" accept
\trule priority="31471" port port="22" protocol="tcp" accept

docker
  target: ACCEPT
  rich rules:{space}
""".format(space=" ")


@pytest.mark.parametrize("rule", RULES)
def test_a_rich_rule_is_read_as_it_is_written(rule):
    assert _firewall.rule_of_rich(_firewall.rich_rule(rule)) == rule


def test_our_rules_in_firewalld_are_told_from_others():
    found = _firewall.rich_rules(ZONES)
    assert list(found) == ["public"]
    assert [_firewall.rule_of_rich(text) for text in found["public"]] == [HTTPS, PROXY]
    assert found["public"] == [_firewall.rich_rule(HTTPS), _firewall.rich_rule(PROXY)]
    assert _firewall.rule_of_rich('rule priority="31470" service name="ssh" accept') is None
    assert _firewall.rich_rules("") == {}


@pytest.mark.parametrize(
    ("wanted", "present", "calls"),
    [
        ({"public": ["a", "b"]}, {"public": ["b", "a"]}, []),
        ({"public": ["a"]}, {}, [("public", ["--add-rich-rule=a"])]),
        (
            {"public": ["a"]},
            {"public": ["b"]},
            [("public", ["--add-rich-rule=a"]), ("public", ["--remove-rich-rule=b"])],
        ),
        ({"dmz": ["a"]}, {"public": ["a"]}, [("dmz", ["--add-rich-rule=a"]), ("public", ["--remove-rich-rule=a"])]),
        ({}, {"public": ["a"]}, [("public", ["--remove-rich-rule=a"])]),
    ],
)
def test_what_firewalld_is_told(wanted, present, calls):
    assert _firewall.rich_plan(wanted, present) == calls


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("198.51.100.7 via 192.0.2.1 dev eth0 src 192.0.2.10 uid 0 \\    cache \n", "eth0"),
        ("2: ens3    inet 192.0.2.10/24 brd 192.0.2.255 scope global ens3\\       valid_lft forever\n", "ens3"),
        ("", ""),
    ],
)
def test_the_interface(line, name):
    assert _firewall.device(line) == name


def test_the_unit_follows_the_ruleset():
    lines = _firewall.unit("/opt/x/firewall").splitlines()
    for line in (
        "After=nftables.service",
        "PartOf=nftables.service",
        "ReloadPropagatedFrom=nftables.service",
        "ExecStart=/usr/bin/python3 /opt/x/firewall/nftables.py apply /opt/x/firewall/nftables.json",
        "ExecReload=/usr/bin/python3 /opt/x/firewall/nftables.py apply /opt/x/firewall/nftables.json",
        "ExecStop=/usr/bin/python3 /opt/x/firewall/nftables.py remove",
        "WantedBy=multi-user.target nftables.service",
    ):
        assert line in lines
