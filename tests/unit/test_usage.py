# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processor time of containers and hosts, from texts of /proc as kernels write them and from the real one."""

from __future__ import annotations

import os
import socket

import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _usage

PROCESS = "77 (a (b) c) S 1 77 77 0 -1 4194560 100 0 0 0 250 50 7 8 20 0 3 0 100 1000 10 18446744073709551615 1 1 0 0"


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        ("processor\t: 0\nmodel name\t: AMD EPYC 7B13\nprocessor\t: 1\nmodel name\t: AMD EPYC 7B13\n", "AMD EPYC 7B13"),
        ("processor\t: 0\nBogoMIPS\t: 108.00\nModel\t\t: Raspberry Pi 4 Model B\n", "Raspberry Pi 4 Model B"),
        ("processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n", "CPU implementer 0x41 part 0xd0c"),
        ("", "unknown processor"),
    ],
)
def test_processor(cpuinfo, expected):
    assert _usage.processor(cpuinfo) == expected


def test_this_machine_is_named():
    machine = _usage.machine()
    assert machine["cores"] == os.cpu_count()
    assert machine["memory_mb"] > 100
    assert len(machine["boot"]) == 36


@pytest.mark.parametrize(
    ("stat", "expected"),
    [
        ("cpu  100 10 50 800 40 0 0 0 0 0\ncpu0 1 1 1 1 1 0 0 0 0 0\n", (1.6, 10.0)),
        ("cpu  100 10 50 800 40 5 20 75 9 9\n", (2.6, 11.0)),
        ("", (0.0, 0.0)),
    ],
)
def test_host_seconds(stat, expected):
    assert _usage.host_seconds(stat, 100) == expected


@pytest.mark.parametrize(("stat", "expected"), [(PROCESS, 3.0), ("", 0.0)])
def test_process_seconds(stat, expected):
    assert _usage.process_seconds(stat, 100) == expected


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param("0::/system.slice/docker-aa.scope\n", "0::/system.slice/docker-bb.scope\n", id="v2"),
        pytest.param(
            "4:cpu:/docker/aa\n1:name=systemd:/docker/aa\n", "4:cpu:/docker/bb\n1:name=systemd:/docker/bb\n", id="v1"
        ),
    ],
)
def test_processes_belong_to_the_container_of_their_cgroup(first, second):
    cgroups = {10: first, 11: first, 20: second, 30: "0::/user.slice\n", 40: ""}
    assert _usage.members(cgroups, {"janus": 10, "coturn": 20, "gone": 99}) == {
        "janus": [10, 11],
        "coturn": [20],
        "gone": [],
    }


def sampled(time, janus, busy, **others):
    return {"time": time, "busy": busy, "whole": 2.0 * time, "used": {"janus": janus, **others}}


SAMPLES = [sampled(100, 5.0, 20.0), sampled(101, 5.5, 21.0), sampled(102, 6.0, 22.0), sampled(104, 8.0, 24.0)]


@pytest.mark.parametrize(
    ("begin", "end", "host", "janus"),
    [
        pytest.param(100, 102, 0.5, 0.5, id="at samples"),
        pytest.param(100.5, 101.5, 0.5, 0.5, id="between samples"),
        pytest.param(102, 104, 0.5, 1.0, id="a longer pause"),
        pytest.param(101, 103, 0.5, 0.75, id="over a change"),
    ],
)
def test_cores_between(begin, end, host, janus):
    found = _usage.cores_between(SAMPLES, begin, end)
    assert found["host"] == pytest.approx(host)
    assert found["used"] == {"janus": pytest.approx(janus)}


@pytest.mark.parametrize(
    ("samples", "begin", "end"),
    [
        pytest.param(SAMPLES, 99, 102, id="begins too early"),
        pytest.param(SAMPLES, 103, 105, id="ends too late"),
        pytest.param(SAMPLES, 102, 102, id="no time"),
        pytest.param([], 1, 2, id="no samples"),
        pytest.param([sampled(100, 5.0, 20.0), sampled(101, 0.1, 21.0)], 100, 101, id="started anew"),
    ],
)
def test_what_was_not_seen_has_no_figures(samples, begin, end):
    assert _usage.cores_between(samples, begin, end) is None


@pytest.mark.parametrize(
    ("before", "there", "after", "expected"),
    [(10, 10.5, 11, 0.0), (10, 10, 10, 0.0), (10, 9, 11, -1.5), (10, 40, 12, 29.0)],
)
def test_clock_offset(before, there, after, expected):
    assert _usage.clock_offset(before, there, after) == expected


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ('signaling_mcu_publishers{type="video"} 3\nsignaling_mcu_publishers{type="screen"} 1\n', 4),
        ('signaling_mcu_publishers_total{type="video"} 7\nsignaling_mcu_subscribers{type="video"} 2\n', 0),
        ("", 0),
    ],
)
def test_publishers(metrics, expected):
    assert _usage.publishers(metrics) == expected


def drops():
    return _usage.own_drops([_usage.text_of(_usage.PROC / "net/udp")], _usage.socket_inodes())


def test_what_own_sockets_throw_away_is_seen():
    """A receiver that does not read, with the smallest buffer, and one that does."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        receiver.bind(("127.0.0.1", 0))
        before = drops()
        sender.sendto(b"x", receiver.getsockname())
        receiver.recv(10)
        assert drops() == before
        for _number in range(50):
            sender.sendto(bytes(1000), receiver.getsockname())
        assert drops() > before + 20


def test_own_time_is_seen():
    main = os.getpid()
    first = _usage.sample({"own": main}, 1.0)
    x = 0
    while _usage.sample({"own": main}, 2.0)["used"]["own"] < first["used"]["own"] + 0.2:
        x += sum(range(10000))
    last = _usage.sample({"own": main}, 2.0)
    assert last["busy"] > first["busy"]
    assert last["whole"] > first["whole"]
