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
    ("stat", "busy", "interrupts", "whole"),
    [
        ("cpu  100 10 50 800 40 0 0 0 0 0\ncpu0 1 1 1 1 1 0 0 0 0 0\n", 1.6, 0.0, 10.0),
        ("cpu  100 10 50 800 40 5 20 75 9 9\n", 2.6, 0.25, 11.0),
        ("", 0.0, 0.0, 0.0),
    ],
)
def test_host_seconds(stat, busy, interrupts, whole):
    assert _usage.host_seconds(stat, 100) == {"busy": busy, "interrupts": interrupts, "whole": whole}


@pytest.mark.parametrize(("stat", "expected"), [(PROCESS, (1, 3.15)), ("", None)])
def test_process(stat, expected):
    assert _usage.process(stat, 100) == expected


@pytest.mark.parametrize(
    ("main", "expected"),
    [
        pytest.param(10, [10, 11, 13, 12], id="children and theirs"),
        pytest.param(20, [20], id="alone"),
        pytest.param(99, [], id="gone"),
    ],
)
def test_family(main, expected):
    """The health check 30 was started by what started 10, too."""
    assert _usage.family({1: 0, 5: 1, 10: 5, 30: 5, 11: 10, 12: 11, 13: 10, 20: 1}, main) == expected


def proc(folder, **seconds):
    """Write a /proc with the main process 10 of a container, its child 11, and a health check beside both."""
    (folder / "stat").write_text("cpu  100 10 50 800 40 5 20 75 9 9\n", encoding="utf-8")
    for pid, (parent, own, ended) in seconds.items():
        (folder / pid[1:]).mkdir(exist_ok=True)
        text = f"{pid[1:]} (x) S {parent} 1 1 0 -1 0 0 0 0 0 {own} 0 {ended} 0 20 0 1 0 1 1 1"
        (folder / pid[1:] / "stat").write_text(text, encoding="utf-8")
    return folder


def test_a_sample_holds_what_a_container_used_and_no_health_check(tmp_path):
    tick = os.sysconf("SC_CLK_TCK")
    folder = proc(tmp_path, p5=(1, 9 * tick, 0), p10=(5, tick, 0), p11=(10, 2 * tick, 0), p12=(5, 7 * tick, 0))
    assert _usage.sample({"janus": 10, "gone": 99}, 1.5, folder) == {
        "time": 1.5,
        **_usage.host_seconds((folder / "stat").read_text(encoding="utf-8"), tick),
        "used": {"janus": 3.0},
    }
    # The child ends: its time goes to its parent, and nothing goes down.
    (folder / "11/stat").unlink()
    proc(folder, p10=(5, tick, 2 * tick))
    assert _usage.sample({"janus": 10}, 2.5, folder)["used"] == {"janus": 3.0}


def sampled(time, janus, busy, **others):
    return {
        "time": time,
        "busy": busy,
        "interrupts": 0.1 * time,
        "whole": 2.0 * time,
        "used": {"janus": janus, **others},
    }


SAMPLES = [sampled(100, 5.0, 20.0), sampled(101, 5.5, 21.0), sampled(102, 6.0, 22.0), sampled(104, 8.0, 24.0)]


@pytest.mark.parametrize(
    ("begin", "end", "busy", "janus"),
    [
        pytest.param(100, 102, 1.0, 0.5, id="at samples"),
        pytest.param(100.5, 101.5, 1.0, 0.5, id="between samples"),
        pytest.param(102, 104, 1.0, 1.0, id="a longer pause"),
        pytest.param(101, 103, 1.0, 0.75, id="over a change"),
    ],
)
def test_cores_between(begin, end, busy, janus):
    found = _usage.cores_between(SAMPLES, begin, end)
    assert [found[name] for name in _usage.HOST] == pytest.approx([busy, 0.1, 2.0])
    assert found["used"] == {"janus": pytest.approx(janus)}


@pytest.mark.parametrize(
    ("samples", "begin", "end"),
    [
        pytest.param(SAMPLES, 99, 102, id="begins too early"),
        pytest.param(SAMPLES, 103, 105, id="ends too late"),
        pytest.param(SAMPLES, 102, 102, id="no time"),
        pytest.param([], 1, 2, id="no samples"),
        pytest.param([sampled(100, 5.0, 20.0), sampled(101, 0.1, 21.0)], 100, 101, id="started anew"),
        pytest.param(
            [sampled(100, 5.0, 20.0, coturn=1.0), sampled(101, 5.1, 21.0), sampled(102, 5.2, 22.0)],
            100,
            101.5,
            id="ended",
        ),
    ],
)
def test_what_was_not_seen_has_no_figures(samples, begin, end):
    assert _usage.cores_between(samples, begin, end) is None


@pytest.mark.parametrize(
    ("before", "there", "after", "expected"),
    [(10, 10.2, 11, 0.0), (10, 10, 10, 0.0), (10, 9, 11, -1.5), (10, 40, 12, 29.0)],
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


UDP = """  sl local_address rem_address st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
   10: 0100007F:1F90 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 701 2 0000000000000000 3
   11: 0100007F:1F91 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 702 2 0000000000000000 50
   12: 0100007F:1F92 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 703 2 0000000000000000 4
"""


@pytest.mark.parametrize(("inodes", "expected"), [(["701", "703"], 7), (["702"], 50), (["7"], 0), ([], 0)])
def test_what_sockets_of_others_throw_away_is_not_counted(inodes, expected):
    assert _usage.own_drops([UDP, ""], inodes) == expected


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
