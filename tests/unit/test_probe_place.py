# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole calls, with real media on this machine, through a small SFU of aiortc's own in place of Janus."""

from __future__ import annotations

import asyncio
import socket

import pytest
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.contrib.media import MediaRelay
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _call


class Sfu:
    """Takes a publisher's stream and offers it to a subscriber. `broken` is what it does not pass on."""

    def __init__(self, broken=()):
        self.broken = broken
        self.relay = MediaRelay()
        self.connections, self.tracks, self.streams = [], [], []
        self.channels = []

    async def open(self):
        return Session(self, f"session{len(self.connections)}")

    def connect(self):
        connection = RTCPeerConnection()
        self.connections.append(connection)
        return connection

    def pass_text(self, text):
        for channel in self.channels:
            if channel.readyState == "open" and "data" not in self.broken:
                channel.send(text)

    async def take(self, session, data):
        self.streams.append(data.get("roomType"))
        description = data.get("payload") or {}
        if data["type"] == "offer":
            publisher = self.connect()
            publisher.on("track", self.tracks.append)
            publisher.on("datachannel", lambda channel: channel.on("message", self.pass_text))
            await publisher.setRemoteDescription(RTCSessionDescription(**description))
            await publisher.setLocalDescription()
            self.say(session, publisher)
        elif data["type"] == "requestoffer":
            session.subscriber = self.connect()
            for track in self.tracks:
                session.subscriber.addTrack(self.relay.subscribe(track))
            session.subscriber.createDataChannel("unused")
            session.subscriber.on("datachannel", self.channels.append)
            await session.subscriber.setLocalDescription()
            self.say(session, session.subscriber)
        elif data["type"] == "answer":
            await session.subscriber.setRemoteDescription(RTCSessionDescription(**description))

    @staticmethod
    def say(session, connection):
        local = connection.localDescription
        payload = {"type": local.type, "sdp": local.sdp}
        session.inbox.put_nowait(("sfu", {"type": local.type, "sid": "1", "payload": payload}))

    async def close(self):
        await asyncio.gather(*(connection.close() for connection in self.connections))


class Session:
    """A session on the signaling server, which passes everything to the SFU."""

    def __init__(self, sfu, name):
        self.sfu, self.session_id = sfu, name
        self.inbox = asyncio.Queue()

    async def join(self, _room):
        pass

    async def tell(self, _recipient, data):
        await self.sfu.take(self, data)

    async def next_data(self):
        return await self.inbox.get()

    async def close(self):
        pass


def call(plan, broken=()):
    """Place a call of one second and return its figures and the streams that were named."""

    async def run():
        sfu = Sfu(broken)
        try:
            return await _call.place(sfu.open, "room", plan, 1), set(sfu.streams)
        finally:
            await sfu.close()

    return asyncio.run(asyncio.wait_for(run(), 60))


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.connect(("2001:db8::1", 9))
            return not probe.getsockname()[0].startswith("fe80")
    except OSError:
        return False


@pytest.mark.parametrize(
    "family", ["ipv4", pytest.param("ipv6", marks=pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here"))]
)
def test_a_direct_call_with_a_text_keeps_to_its_family(family):
    figures, streams = call(_call.Plan(data=True, family=family))
    assert (figures["missing"], figures["data"], streams) == ([], "ok", {"video"})
    assert figures["audio"]["received"] > 20 and figures["video"]["frames"] > 5
    for pair in (figures["pair"], figures["publisher_pair"]):
        assert {(":" in pair[side]["address"]) for side in ("local", "remote")} == {family == "ipv6"}
    assert 0 < figures["kbit_per_second"] < 2000


def test_a_text_that_is_lost_fails_nothing_else(monkeypatch):
    monkeypatch.setattr(_call, "DATA_SECONDS", 1)
    figures, _streams = call(_call.Plan(data=True), broken=("data",))
    assert (figures["missing"], figures["data"]) == ([], "lost")


def test_a_screen_share_has_a_picture_only():
    figures, streams = call(_call.Plan(stream="screen", tracks=("video",)))
    assert streams == {"screen"}
    assert figures["missing"] == [] and figures["video"]["frames"] > 5
    assert "audio" not in figures and "data" not in figures


def test_the_told_limit_is_returned_where_the_bitrate_is_measured():
    figures, _streams = call(_call.Plan(tracks=("video",), greedy=True))
    assert figures["missing"] == [] and figures["kbit_per_second"] > 0
    assert "told_kbit_per_second" in figures
