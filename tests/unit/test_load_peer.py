# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Load test: the recording, its RTP packets, and a publisher that a subscriber counts over a real connection."""

from __future__ import annotations

import asyncio
import struct

import pytest
from aiortc import RTCCertificate
from aiortc.sdp import SessionDescription
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _load_media, _load_peer


@pytest.mark.parametrize(
    ("size", "sizes", "first"),
    [(10, [11], 0x10), (1100, [1101], 0x10), (1101, [1101, 2], 0x10), (3000, [1101, 1101, 801], 0x10)],
)
def test_a_picture_is_cut_into_payloads(size, sizes, first):
    picture = bytes(range(250)) * 20
    parts = _load_media.fragments(picture[:size])
    assert [len(part) for part in parts] == sizes
    assert [part[0] for part in parts] == [first] + [0] * (len(parts) - 1)
    assert b"".join(part[1:] for part in parts) == picture[:size]


def test_packets_come_in_the_order_in_which_they_are_due():
    packets = _load_media.recording([bytes(1200), bytes(10)], [b"a", b"b", b"c"])
    assert [(round(due, 2), kind, marker, ticks, len(payload)) for due, kind, marker, ticks, payload in packets] == [
        (0.0, "video", 0, 0, 1101),
        (0.0, "video", 1, 0, 101),
        (0.0, "audio", 0, 0, 1),
        (0.02, "audio", 0, 960, 1),
        (0.04, "video", 1, 3600, 11),
        (0.04, "audio", 0, 1920, 1),
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("video", 1, 5, 7, 9), (0x80, 0x80 | 96, 5, 7, 9)),
        (("audio", 0, 65537, 2**32 + 3, 2**32 - 1), (0x80, 111, 1, 3, 2**32 - 1)),
    ],
)
def test_header(arguments, expected):
    assert struct.unpack("!BBHII", _load_media.header(*arguments)) == expected


@pytest.mark.parametrize("bitrate", [300000, 1000000])
def test_encoded_once_it_has_the_bitrate(bitrate):
    packets = _load_media.encode(bitrate)
    assert _load_media.bits_per_second(packets) == pytest.approx(bitrate, rel=0.15)
    assert sum(packet[1] == "audio" for packet in packets) == _load_media.SECONDS * 50
    assert sum(packet[1] == "video" and packet[2] for packet in packets) == _load_media.SECONDS * 25
    assert _load_media.unpacked(_load_media.packed(packets)) == packets


TRANSPORT = ["a=ice-ufrag:abcd", "a=ice-pwd:" + "p" * 22, "a=fingerprint:sha-256 AA:BB", "a=setup:actpass"]
CANDIDATES = ["a=candidate:1 1 udp 100 192.0.2.1 5000 typ host", "a=end-of-candidates"]


def test_offer():
    parsed = SessionDescription.parse(_load_peer.offer_of({"audio": 11, "video": 22}, TRANSPORT, CANDIDATES))
    assert [(media.kind, media.direction, media.rtp.muxId, media.ssrc[0].ssrc) for media in parsed.media] == [
        ("audio", "sendonly", "0", 11),
        ("video", "sendonly", "1", 22),
    ]
    assert [str(group) for group in parsed.group] == ["BUNDLE 0 1"]
    assert [len(media.ice_candidates) for media in parsed.media] == [1, 0]
    assert parsed.media[1].ice.usernameFragment == "abcd"


def test_answer_takes_kinds_numbers_and_names_of_the_offer():
    offer = _load_peer.offer_of({"audio": 11, "video": 22}, TRANSPORT, CANDIDATES)
    offer = offer.replace("a=mid:1", "a=mid:v").replace("BUNDLE 0 1", "BUNDLE 0 v")
    parsed = SessionDescription.parse(_load_peer.answer_to(offer, TRANSPORT, CANDIDATES))
    assert [(media.kind, media.direction, media.rtp.muxId) for media in parsed.media] == [
        ("audio", "recvonly", "0"),
        ("video", "recvonly", "v"),
    ]
    assert [media.rtp.codecs[0].payloadType for media in parsed.media] == [111, 96]


def test_an_offer_of_something_else_is_told():
    offer = _load_peer.offer_of({"audio": 11, "video": 22}, TRANSPORT, CANDIDATES).replace("m=video", "m=text")
    with pytest.raises(_load_peer.NoMedia, match=r"^the SFU offers text, which nobody sends$"):
        _load_peer.answer_to(offer, TRANSPORT, CANDIDATES)


class Room:
    """In place of a session: what a publisher says to the SFU is answered by a subscriber's transport."""

    session_id = "publisher"

    def __init__(self) -> None:
        self.inbox: asyncio.Queue = asyncio.Queue()
        self.link: _load_peer.Link | None = None
        self.connecting: asyncio.Future | None = None

    async def next_data(self):
        return await self.inbox.get()

    async def tell(self, recipient, data):
        assert (recipient, data["type"], data["roomType"]) == ("publisher", "offer", "video")
        sdp = data["payload"]["sdp"]
        self.link = _load_peer.Link(RTCCertificate.generateCertificate(), None, controlling=False)
        answer = _load_peer.answer_to(sdp, *await self.link.gather("active"))
        self.inbox.put_nowait(("publisher", {"type": "answer", "payload": {"type": "answer", "sdp": answer}}))
        self.connecting = asyncio.ensure_future(self.link.connect(sdp))

    async def close(self):
        pass


async def exchange(packets, lose):
    """Let a publisher play for a second, every `lose`-th packet of it lost, and return what was sent and counted."""
    room = Room()
    publisher = _load_peer.Publisher(room, RTCCertificate.generateCertificate(), None, packets)
    await publisher.publish()
    await room.connecting
    link = room.link
    for protocol in link.gatherer._connection._protocols:
        counting, seen = protocol.datagram_received, iter(range(1, 100000))

        def received(data, address, counting=counting, seen=seen):
            if not lose or not 127 < data[0] < 192 or next(seen) % lose:
                counting(data, address)

        protocol.datagram_received = received
    loop = asyncio.get_running_loop()
    publisher.start(loop.time())
    publisher.started = loop.time()
    end = loop.time() + 1
    while loop.time() < end:
        await publisher.play(loop.time())
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.3)
    assert publisher.alive and link.alive
    found = {
        link.kinds[ssrc]: (stream.received, stream.highest - stream.first + 1) for ssrc, stream in link.streams.items()
    }
    await asyncio.gather(publisher.close(), link.close())
    assert not publisher.alive
    return publisher.sent, found


@pytest.mark.parametrize("lose", [0, 10])
def test_a_subscriber_counts_what_a_publisher_sends(monkeypatch, lose):
    """ICE, DTLS and SRTP are real, on the loopback; only the room between both is not."""
    monkeypatch.setattr(_load_peer.aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])
    packets = _load_media.recording([bytes(2000)] * 50, [bytes(80)] * 100)
    sent, found = asyncio.run(exchange(packets, lose))
    assert 45 <= sent["audio"] <= 52
    assert 45 <= sent["video"] <= 54
    for kind in ("audio", "video"):
        received, span = found[kind]
        if lose:
            assert received < sent[kind]
            assert sent[kind] - 2 <= span <= sent[kind]
        else:
            assert received == span == sent[kind]
    if lose:
        both = sum(sent.values())
        assert sum(received for received, _span in found.values()) == both - both // lose


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_local_addresses_are_those_of_the_way_to_the_host(host):
    assert "127.0.0.1" in _load_peer.local_addresses(host, 443)
