# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions to and answers of a name server, and the list of what has to change."""

from __future__ import annotations

import socket
import struct
import threading

import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _dns

NUMBER = 4711


def record(kind, seconds, data):
    """A record whose name points to the question's."""
    return b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, seconds, len(data)) + data


def answer(*records, flags=0x8180, number=NUMBER):
    question = _dns.question("talk.example.org", _dns.A, number)
    return struct.pack("!6H", number, flags, 1, len(records), 0, 0) + question[12:] + b"".join(records)


def test_a_question_has_the_name_in_its_labels():
    assert _dns.question("talk.example.org.", _dns.AAAA, NUMBER) == (
        struct.pack("!6H", NUMBER, 0x0100, 1, 0, 0, 0) + b"\x04talk\x07example\x03org\x00" + struct.pack("!2H", 28, 1)
    )
    with pytest.raises(_dns.DnsError, match="is no name"):
        _dns.question("a..b", _dns.A, NUMBER)


def test_answers():
    alias = record(5, 60, b"\xc0\x0c")
    assert _dns.answers(answer(alias, record(1, 300, bytes([192, 0, 2, 9]))), _dns.A, NUMBER) == [("192.0.2.9", 300)]
    six = bytes.fromhex("20010db8000000000000000000000001")
    assert _dns.answers(answer(record(28, 60, six)), _dns.AAAA, NUMBER) == [("2001:db8::1", 60)]
    assert _dns.answers(answer(flags=0x8183), _dns.A, NUMBER) == []


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (answer(number=1), "to another question"),
        (answer(flags=0x8182), "refused .code 2"),
        (answer(record(1, 1, b"\1\2\3\4"))[:-3], "is damaged"),
        (b"", "is damaged"),
    ],
)
def test_bad_answers(message, reason):
    with pytest.raises(_dns.DnsError, match=reason):
        _dns.answers(message, _dns.A, NUMBER)


def test_a_name_server_is_asked(monkeypatch):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]

        def serve():
            message, client = server.recvfrom(512)
            number = struct.unpack("!H", message[:2])[0]
            server.sendto(answer(record(1, 300, bytes([192, 0, 2, 9])), number=number), client)

        thread = threading.Thread(target=serve)
        thread.start()
        connect = socket.socket.connect
        monkeypatch.setattr(socket.socket, "connect", lambda one, where: connect(one, (where[0], port)))
        assert _dns.ask("127.0.0.1", "talk.example.org", _dns.A) == [("192.0.2.9", 300)]
        thread.join()


def test_servers():
    assert _dns.servers("# a\nnameserver 192.0.2.1\nsearch x\nnameserver 2001:db8::1\n") == ["192.0.2.1", "2001:db8::1"]


@pytest.mark.parametrize(
    ("etc", "real", "known"),
    [
        ("nameserver 192.0.2.1\n", "nameserver 192.0.2.2\n", ["192.0.2.1"]),
        # systemd-resolved answers from the hosts file; those whom it asks do not.
        ("nameserver 127.0.0.53\n", "nameserver 192.0.2.2\n", ["192.0.2.2"]),
        ("nameserver 127.0.0.53\n", None, ["127.0.0.53"]),
        ("nameserver 127.0.0.1\n", "nameserver 192.0.2.2\n", ["127.0.0.1"]),
        (None, "nameserver 192.0.2.2\n", []),
    ],
)
def test_resolvers(tmp_path, etc, real, known):
    for name, text in (("etc", etc), ("real", real)):
        if text is not None:
            (tmp_path / name).write_text(text, encoding="utf-8")
    assert _dns.resolvers(tmp_path / "etc", tmp_path / "real") == known


def test_a_name_server_that_does_not_answer_is_asked_once(monkeypatch):
    asked = []

    def ask(server, name, kind):
        asked.append((server, name))
        if server == "192.0.2.1":
            raise TimeoutError
        return [("192.0.2.10", 60)] if kind == _dns.A else []

    monkeypatch.setattr(_dns, "ask", ask)
    known = ["192.0.2.1", "192.0.2.2"]
    assert _dns.look_up("talk.example.org", known) == _dns.look_up("turn.example.org", known) == [("192.0.2.10", 60)]
    assert [name for server, name in asked if server == "192.0.2.1"] == ["talk.example.org"]
    assert _dns.look_up("talk.example.org", []) is None


def test_checklist_beside_a_proxy_in_the_internet():
    records = {
        "talk.example.org": {"addresses": ["203.0.113.7"], "seconds": 300},
        "turn.example.org": {"addresses": ["203.0.113.7"], "seconds": 300},
        "six.example.org": {"addresses": ["192.0.2.10", "2001:db8::10"], "seconds": 60},
    }
    further = {"others": ["2001:db8::10"], "direct": ["turn.example.org"], "further": ["203.0.113.0/24"]}
    assert _dns.checklist(records, records, "192.0.2.10", **further) == [
        "talk.example.org leads to 203.0.113.7, a proxy of a CDN, which must lead to 192.0.2.10: change the record "
        "there; "
        "that it is changed cannot be seen from outside",
        "turn.example.org leads to 203.0.113.7 (kept by others for 300 s or longer) and must lead to 192.0.2.10 "
        "without "
        'the proxy of a CDN ("DNS only"): change its DNS record',
        "six.example.org leads to 192.0.2.10, 2001:db8::10: nothing is to be done",
    ]


def test_checklist():
    records = {
        "talk.example.org": {"addresses": ["192.0.2.9"], "seconds": 300},
        "turn.example.org": {"addresses": ["192.0.2.9"], "seconds": None},
        "done.example.org": {"addresses": ["192.0.2.10"], "seconds": 60},
    }
    assert _dns.checklist([*records, "new.example.org"], records, "192.0.2.10") == [
        "talk.example.org leads to 192.0.2.9 (kept by others for 300 s or longer) and must lead to 192.0.2.10: change "
        "its DNS record",
        "turn.example.org leads to 192.0.2.9 and must lead to 192.0.2.10: change its DNS record",
        "done.example.org leads to 192.0.2.10: nothing is to be done",
        "new.example.org leads to nowhere and must lead to 192.0.2.10: change its DNS record",
    ]
