# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The judgement of a host, and the readers it rests on."""

from __future__ import annotations

import os
import socket
import sys

import pytest
import test_ports
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _preflight
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._holders import Holder

FIT = {
    "architecture": "x86_64",
    "distribution": "debian",
    "release": "13",
    "root": True,
    "engine": "26.1.5",
    "engine_error": "",
    "engine_problem": "",
    "inside": "",
    "running": True,
    "free_mb": {"/opt": 10000},
    "addresses": {"talk.example.org": ["192.0.2.10"]},
    "hidden": {},
    "local": {"192.0.2.10": True},
    "own": ["192.0.2.10"],
    "media_ip": "192.0.2.10",
    "media_ip6": "",
    "own_ip6": [],
    "taken": {},
    "busy": [],
    "overlapping": [],
    "ephemeral": ("32768\t60999", ""),
    "strangers": [],
}
WANTED = {
    "public_ip": "",
    "media_ip": "",
    "cdn": [],
    "min_free_mb": 2048,
    "used_ports": {},
    "subnet": "",
    "turn_names": [],
    "media_names": [],
    "ranges": [],
}
NAT = {"local": {"10.0.0.5": True, "192.0.2.10": False}, "own": ["10.0.0.5"], "media_ip": "10.0.0.5"}


def test_a_fit_host_has_no_problem():
    assert _preflight.problems(FIT, WANTED) == []


def test_a_bare_supported_host_needs_no_engine():
    assert _preflight.problems({**FIT, "engine": ""}, WANTED) == []


@pytest.mark.parametrize(
    ("facts", "wanted", "words"),
    [
        ({"root": False}, {}, "ordinary user on this host, expected root"),
        ({"architecture": "riscv64"}, {}, "processor is riscv64, expected one of aarch64, x86_64"),
        ({"engine": "", "engine_error": "permission denied"}, {}, "does not answer: permission denied"),
        ({"engine_problem": "It is a snap.", "engine": "", "engine_error": "no answer"}, {}, "It is a snap."),
        ({"engine": "", "distribution": "fedora", "release": "44"}, {}, "not on fedora 44: install Docker there first"),
        ({"free_mb": {"/opt": 100}}, {}, "/opt has 100 MiB free, expected at least 2048"),
        ({"addresses": {"talk.example.org": []}}, {}, "name talk.example.org does not resolve on this host"),
        (
            NAT,
            {},
            "resolves to 192.0.2.10, this host has 10.0.0.5: when it is behind NAT, say hpb_public_ip: 192.0.2.10",
        ),
        (
            {**NAT, "addresses": {"talk.example.org": ["192.0.2.10"], "turn.example.org": ["192.0.2.10"]}},
            {},
            "The names talk.example.org and turn.example.org resolve to 192.0.2.10, this host has 10.0.0.5",
        ),
        (
            {"addresses": {"talk.example.org": ["2001:db8::10"]}},
            {},
            "resolves to 2001:db8::10, expected an IPv4 address as well, which media needs: mend the DNS record.",
        ),
        (NAT, {"public_ip": "192.0.2.11"}, "resolves to 192.0.2.10, expected 192.0.2.11 (hpb_public_ip)"),
        ({}, {"public_ip": "talk.example.org"}, "hpb_public_ip is 'talk.example.org', expected an IPv4 address"),
        ({}, {"public_ip": "2001:db8::10"}, "hpb_public_ip is '2001:db8::10', expected an IPv4 address"),
        (
            {"media_ip": "10.0.0.5", "local": {"10.0.0.5": True, "192.0.2.10": True}},
            {"public_ip": "192.0.2.10"},
            "hpb_public_ip is 192.0.2.10, which is an address of this host, expected one that a router before it "
            "translates: set hpb_media_ip: 192.0.2.10 instead and remove hpb_public_ip.",
        ),
        (
            {"overlapping": [("eth0", "172.31.0.0/16")]},
            {"subnet": "172.31.254.0/24"},
            "hpb_bridge_subnet is 172.31.254.0/24, which overlaps with 172.31.0.0/16 of the interface eth0",
        ),
        (
            {"addresses": {"talk.example.org": ["192.0.2.10", "2001:db8::10"]}},
            {},
            "The name talk.example.org leads to 2001:db8::10 over IPv6, and this host has no IPv6: remove the AAAA ",
        ),
        ({"media_ip": ""}, {}, "no IPv4 address towards the outside"),
        (
            {"media_ip": "192.0.2.99", "local": {"192.0.2.10": True, "192.0.2.99": False}},
            {},
            "hpb_media_ip is 192.0.2.99, expected an address of this host",
        ),
        (
            {"ephemeral": ("1024\t65535", "")},
            {"ranges": [{"name": "janus_min_port to janus_max_port", "first": 20000, "last": 29999}]},
            "janus_min_port to janus_max_port is 20000-29999, expected ports that the kernel of this host does "
            "not give",
        ),
        (
            {"taken": {"tcp/443": Holder("nginx")}},
            {"used_ports": test_ports.USUAL},
            "Port tcp/443 is held by nginx, which can serve the backend beside what it serves now",
        ),
    ],
)
def test_each_fault_is_one_sentence(facts, wanted, words):
    found = _preflight.problems({**FIT, **facts}, {**WANTED, **wanted})
    assert len(found) == 1, found
    assert words in found[0]


def test_what_stops_nothing_is_only_said():
    facts = {**FIT, "inside": "lxc", "running": False}
    assert _preflight.problems(facts, WANTED) == []
    (note,) = _preflight.notes(facts, WANTED)
    assert note.startswith("This host is itself a container (LXC)")
    assert _preflight.notes(FIT, WANTED) == []


def test_behind_nat_the_public_address_is_right():
    assert _preflight.problems({**FIT, **NAT}, {**WANTED, "public_ip": "192.0.2.10"}) == []


def test_behind_nat_a_name_may_lead_to_the_private_address_as_well():
    """As a name server of the LAN has it."""
    facts = {**FIT, **NAT, "addresses": {"talk.example.org": ["10.0.0.5"]}}
    assert _preflight.problems(facts, {**WANTED, "public_ip": "192.0.2.10"}) == []


ROUTES = (
    "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
    "eth0\t00000000\t{gateway}\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
    "eth0\t{lan}\t00000000\t0001\t0\t0\t0\t{mask}\t0\t0\t0\n"
    "hpb-edge\t{edge}\t00000000\t0001\t0\t0\t0\t{mask}\t0\t0\t0\n"
)


def hexadecimal(address):
    """As the kernel writes it: the number that the four bytes are in the processor's order."""
    return f"{int.from_bytes(socket.inet_aton(address), sys.byteorder):08X}"


def test_routes_and_what_a_subnet_overlaps_with():
    places = {"gateway": "192.168.7.1", "lan": "192.168.7.0", "mask": "255.255.255.0", "edge": "172.31.254.0"}
    found = _preflight.routes(ROUTES.format(**{name: hexadecimal(address) for name, address in places.items()}))
    assert found == [("eth0", "192.168.7.0/24"), ("hpb-edge", "172.31.254.0/24")]
    assert _preflight.overlapping("192.168.0.0/16", found, []) == [("eth0", "192.168.7.0/24")]
    assert _preflight.overlapping("172.31.254.0/25", found, []) == [("hpb-edge", "172.31.254.0/24")]
    assert _preflight.overlapping("172.31.254.0/25", found, ["hpb-edge"]) == []
    assert _preflight.overlapping("10.0.0.0/24", found, []) == []
    assert _preflight.overlapping("", found, []) == []
    assert _preflight.overlapping("nonsense", found, []) == []


def test_all_faults_are_named_at_once():
    taken = {"tcp/80": Holder("apache2"), "udp/3478": Holder("coturn")}
    wanted = {**WANTED, "used_ports": test_ports.USUAL}
    found = _preflight.problems({**FIT, "root": False, "taken": taken}, wanted)
    assert len(found) == 3


@pytest.mark.parametrize(
    ("distribution", "release", "client"),
    [("debian", "12", False), ("debian", "13", True), ("ubuntu", "22.04", False), ("ubuntu", "24.04", False)],
)
def test_the_command_line_is_installed_where_it_is_a_package_of_its_own(distribution, release, client):
    packages = _preflight.engine_packages(distribution, release)
    assert "docker.io" in packages
    assert ("docker-cli" in packages) is client


def test_os_release():
    assert _preflight.os_release('ID=debian\nVERSION_ID="13"\n# x\n') == {"ID": "debian", "VERSION_ID": "13"}


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_the_holder_of_a_port_is_found(kind):
    protocol = "tcp" if kind == socket.SOCK_STREAM else "udp"
    with socket.socket(socket.AF_INET, kind) as held:
        held.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            held.listen()
        port = held.getsockname()[1]
        other = _preflight.foreign({protocol: [port]}, set())
        assert other == {f"{protocol}/{port}": os.getpid()}
        assert _preflight.foreign({protocol: [port]}, {os.getpid()}) == {}
        assert _preflight.foreign({protocol: [port]}, {os.getppid()}) == {}, "a child of ours is ours"
        assert _preflight.foreign({protocol: [port]}, set(), [f"{protocol}/{port}"]) == {}, "Docker holds it for us"
        assert _preflight.foreign({protocol: [port]}, set(), [f"{protocol}/{port + 1}"]) == other
    assert _preflight.foreign({protocol: [port]}, set()) == {}


def test_own_addresses():
    assert _preflight.is_local("127.0.0.1")
    assert not _preflight.is_local("192.0.2.1")
