# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One real call: a publisher and a subscriber that exchange sound and picture through the SFU, with aiortc.

`place` makes the call and returns what was measured; a call that does not come about raises `CallFailed` with the stage
it reached and what was seen there. Nothing here judges: see `_probe`.
"""

from __future__ import annotations

import asyncio
import contextlib
import fractions
import os
import socket
import ssl
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, Callable

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._signaling_client import Lost, Refused, Session

try:
    from aioice import stun, turn
    from aiortc import (
        MediaStreamTrack,
        RTCBundlePolicy,
        RTCConfiguration,
        RTCIceServer,
        RTCIceTransportPolicy,
        RTCPeerConnection,
        RTCRtpSender,
        RTCSessionDescription,
        rtp,
    )
    from aiortc.mediastreams import MediaStreamError
    from aiortc.sdp import candidate_from_sdp
    from av import AudioFrame, VideoFrame
except ImportError:  # The module says so before anything of this is used.
    MediaStreamTrack = object

PICTURES_PER_SECOND = 15
SAMPLES = 960  # 20 ms at 48 kHz, which is one packet
SAMPLE_RATE = 48000
ICE_SECONDS = 15
FRAME_SECONDS = 10
# How long the SFU may take to name an address, and a text to come through after the media did.
CANDIDATE_SECONDS = 3
DATA_SECONDS = 8
DATA_PAUSE = 0.1


@dataclass(frozen=True)
class Relay:
    """A TURN server that all media must go through. The transport (udp, tcp or tls) is the client's way to it.

    For tls, name and authority of the certificate are checked; authorities beside the system's are those of the
    environment variable SSL_CERT_FILE, since aiortc has no option for them.
    """

    host: str
    port: int
    transport: str
    username: str
    password: str = field(repr=False)

    @property
    def uri(self) -> str:
        """The server as ICE knows it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.transport == "tls":
            return f"turns:{host}:{self.port}?transport=tcp"
        return f"turn:{host}:{self.port}?transport={self.transport}"


@dataclass(frozen=True)
class Picture:
    """A picture of grey noise: the first `lines` of it, every point up to `contrast` from the middle grey.

    An encoder spends much on faint noise where it may, and nearly nothing where it must not; strong noise it cannot
    shrink at all.
    """

    width: int = 160
    height: int = 120
    lines: int = 16
    contrast: int = 127


# Wants more than aiortc sends, and can be had for less than its least.
GREEDY = Picture(480, 360, 360, 16)
# How long its stream may take to become steady.
SETTLE_SECONDS = 1.5


@dataclass(frozen=True)
class Plan:
    """What a call is made of.

    relay: the TURN server for all media, None for the direct way. family: ipv4 or ipv6 for candidates of that family
    only, "" for all. stream: video, or screen for the second stream of a peer. tracks: kinds of media in it.
    data: whether a text goes through a data channel as well. greedy: whether the picture is one for which the
    publisher would spend all that it may; its bitrate is measured when it is steady.
    """

    relay: Relay | None = None
    family: str = ""
    stream: str = "video"
    tracks: tuple[str, ...] = ("audio", "video")
    data: bool = False
    greedy: bool = False


class CallFailed(Exception):
    """A call stopped at `stage`: signaling, offer, publisher, requestoffer, subscriber, turn or family.

    At family the evidence has `side`: local when this machine has no address of the family, remote for the SFU.
    """

    def __init__(self, stage: str, **evidence: Any) -> None:
        super().__init__(stage)
        self.stage = stage
        self.evidence = evidence


class Noise(MediaStreamTrack):
    """Noise that a codec cannot shrink to nothing, so that packets flow all the time, but few at once."""

    def __init__(self, kind: str, picture: Picture) -> None:
        super().__init__()
        self.kind = kind
        self._picture = picture
        spread = 2 * picture.contrast + 1
        self._greys = bytes(128 - picture.contrast + value * spread // 256 for value in range(256))
        self._count = -1
        self._start = 0.0
        self._pictures: list[Any] = []

    async def _tick(self, rate: int, step: int) -> int:
        """Wait until the next frame is due and return its time in units of 1/rate seconds."""
        self._count += 1
        if not self._start:
            self._start = time.monotonic()
        await asyncio.sleep(self._start + self._count * step / rate - time.monotonic())
        return self._count * step

    async def recv(self) -> Any:
        """Return the next frame, when it is due."""
        if self.kind == "audio":
            frame = AudioFrame(format="s16", layout="mono", samples=SAMPLES)
            frame.planes[0].update(os.urandom(frame.planes[0].buffer_size))
            frame.sample_rate = SAMPLE_RATE
            frame.pts = await self._tick(SAMPLE_RATE, SAMPLES)
            frame.time_base = fractions.Fraction(1, SAMPLE_RATE)
            return frame
        pts = await self._tick(90000, 90000 // PICTURES_PER_SECOND)
        frame = VideoFrame(self._picture.width, self._picture.height, "yuv420p")
        for index, plane in enumerate(frame.planes):
            noise = self._picture.lines * plane.line_size if index == 0 else 0
            plane.update(os.urandom(noise).translate(self._greys) + bytes([128]) * (plane.buffer_size - noise))
        frame.pts = pts
        frame.time_base = fractions.Fraction(1, 90000)
        return frame


class Peer:
    """One end of the call: a session on the server, a peer connection, and what connects the two."""

    def __init__(self, session: Session, plan: Plan) -> None:
        self.session = session
        self.plan = plan
        self.partner = session.session_id
        self.sid = ""
        # One transport for sound and picture, so one port and one TURN allocation.
        servers, policy = [], RTCIceTransportPolicy.ALL
        if plan.relay:
            servers = [RTCIceServer(plan.relay.uri, plan.relay.username, plan.relay.password)]
            policy = RTCIceTransportPolicy.RELAY
        self.connection = RTCPeerConnection(RTCConfiguration(servers, policy, RTCBundlePolicy.MAX_BUNDLE))
        self.channel: Any = None
        self.allowed: list[int] = []
        self.texts: asyncio.Queue[str] = asyncio.Queue()
        self.description: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._early: list[dict[str, Any]] = []
        self._described = False
        self._changed = asyncio.Event()
        # Whether the SFU has named an address of the wanted family.
        self._named = asyncio.Event()
        self.connection.on("connectionstatechange", self._changed.set)
        self._pump = asyncio.ensure_future(self._receive())

    async def _receive(self) -> None:
        """Take what the SFU sends: one description, and candidates, which may come before it."""
        try:
            while True:
                _sender, data = await self.session.next_data()
                payload = data.get("payload") or {}
                if data.get("type") in ("offer", "answer") and not self.description.done():
                    self.sid = str(data.get("sid", ""))
                    self.description.set_result(payload)
                elif data.get("type") == "candidate":
                    await self._take_candidate(payload.get("candidate") or {})
        except (Refused, Lost) as error:
            if not self.description.done():
                self.description.set_exception(error)

    async def _take_candidate(self, candidate: dict[str, Any]) -> None:
        if not self._described:
            self._early.append(candidate)
            return
        line = str(candidate.get("candidate") or "").partition(":")[2]
        if len(line.split()) < 8:
            return
        parsed = candidate_from_sdp(line)
        # Everything is bundled on the first media section, whatever the candidate was sent for.
        parsed.sdpMLineIndex = 0
        if parsed.protocol.lower() == "udp" and self._in_family(parsed.ip):
            self._named.set()
            await self.connection.addIceCandidate(parsed)

    async def describe(self, payload: dict[str, Any]) -> None:
        """Take the remote description, and the candidates that came before it."""
        await self.connection.setRemoteDescription(RTCSessionDescription(payload["sdp"], payload["type"]))
        self._described = True
        for candidate in self._early:
            await self._take_candidate(candidate)
        self._early = []

    def _in_family(self, address: str) -> bool:
        return not self.plan.family or (":" in address) == (self.plan.family == "ipv6")

    async def send_description(self) -> None:
        """Gather candidates and send our offer or answer with all of them in it."""
        if self.plan.family:
            # aiortc has no public option for it. Candidates of the other family would win, or hide what fails.
            ice = self.ice.iceGatherer._connection
            ice._use_ipv4, ice._use_ipv6 = self.plan.family == "ipv4", self.plan.family == "ipv6"
        await self.connection.setLocalDescription()
        if not self.ice.iceGatherer.getLocalCandidates():
            raise CallFailed("turn") if self.plan.relay else CallFailed("family", side="local", family=self.plan.family)
        local = self.connection.localDescription
        data = {
            "to": self.partner,
            "type": local.type,
            "sid": self.sid or "1",
            "roomType": self.plan.stream,
            "payload": {"type": local.type, "sdp": local.sdp},
        }
        await self.session.tell(self.partner, data)

    @property
    def ice(self) -> Any:
        """The one ICE transport."""
        return self.connection.getTransceivers()[0].receiver.transport.transport

    async def connected(self, seconds: float) -> bool:
        """Wait until media can flow. Raises `CallFailed` when the SFU names no address of the wanted family."""
        if self.plan.family:
            self._named_in_description()
            try:
                await asyncio.wait_for(self._named.wait(), CANDIDATE_SECONDS)
            except asyncio.TimeoutError as error:
                raise CallFailed("family", side="remote", family=self.plan.family) from error
        end = time.monotonic() + seconds
        while self.connection.connectionState not in ("connected", "failed", "closed"):
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), max(0.0, end - time.monotonic()))
            except asyncio.TimeoutError:
                break
        return self.connection.connectionState == "connected"

    def _named_in_description(self) -> None:
        if any(self._in_family(item.ip) for item in self.ice.getRemoteCandidates()):
            self._named.set()

    def pair(self) -> dict[str, Any]:
        """Return the selected candidate pair, {} when there is none. aiortc has no public name for it."""
        pairs = getattr(self.ice._connection, "_nominated", {})
        for selected in pairs.values():
            return {
                side: {"type": candidate.type, "protocol": "udp", "address": candidate.host, "port": candidate.port}
                for side, candidate in (("local", selected.local_candidate), ("remote", selected.remote_candidate))
            }
        return {}

    def remote_addresses(self) -> list[tuple[str, int]]:
        """Return where the SFU says that it can be reached; nothing before its description came."""
        if not self._described:
            return []
        return [(item.ip, item.port) for item in self.ice.getRemoteCandidates()]

    def evidence(self) -> dict[str, Any]:
        """Return what tells how far ICE came."""
        return {
            "ice": self.connection.iceConnectionState,
            "connection": self.connection.connectionState,
            "local": [f"{item.type} {item.ip}:{item.port}" for item in self.ice.iceGatherer.getLocalCandidates()],
            "remote": [f"{item.type} {item.ip}:{item.port}" for item in self.ice.getRemoteCandidates()],
        }

    def hear(self, channel: Any) -> None:
        """Take the texts that come through a data channel."""
        channel.on("message", lambda text: self.texts.put_nowait(str(text)))

    async def close(self) -> None:
        """Leave the room and free everything, a TURN allocation included."""
        self._pump.cancel()
        if self.description.done() and not self.description.cancelled():
            self.description.exception()
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self.session.close(), 5)
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self.connection.close(), 5)


class Reception:
    """Takes the frames of one track: how many, and when the first one came."""

    def __init__(self, track: Any) -> None:
        self.kind = track.kind
        self.frames = 0
        self.first = 0.0
        self.arrived = asyncio.Event()
        self._task = asyncio.ensure_future(self._take(track))

    async def _take(self, track: Any) -> None:
        with contextlib.suppress(MediaStreamError):
            while True:
                await track.recv()
                self.frames += 1
                if self.frames == 1:
                    self.first = time.monotonic()
                    self.arrived.set()

    def stop(self) -> None:
        """Take no more."""
        self._task.cancel()


async def described(peer: Peer, stage: str, seconds: float) -> dict[str, Any]:
    """Wait for the SFU's description. Raises `CallFailed` at that stage."""
    try:
        return await asyncio.wait_for(peer.description, seconds)
    except Refused as error:
        raise CallFailed(stage, code=error.code, message=error.message) from error
    except Lost as error:
        raise CallFailed(stage, message=str(error)) from error
    except asyncio.TimeoutError as error:
        raise CallFailed(stage, code="timeout") from error


def watch_limits(sender: Any) -> list[int]:
    """Return a list that grows by each bitrate (bit/s) that the SFU tells a sender as its limit (REMB).

    It stays empty where aiortc has other private names; the measured bitrate has to do then.
    """
    limits: list[int] = []
    handle = getattr(sender, "_handle_rtcp_packet", None)
    if handle is None:
        return limits

    async def watched(packet: Any) -> None:
        with contextlib.suppress(ValueError, AttributeError):
            if packet.fmt == rtp.RTCP_PSFB_APP:
                limits.append(rtp.unpack_remb_fci(packet.fci)[0])
        await handle(packet)

    sender._handle_rtcp_packet = watched
    return limits


async def publish(peer: Peer) -> None:
    """Send noise to the SFU until the peer is closed."""
    for kind in peer.plan.tracks:
        transceiver = peer.connection.addTransceiver(Noise(kind, GREEDY if peer.plan.greedy else Picture()), "sendonly")
        if peer.plan.greedy:
            peer.allowed = watch_limits(transceiver.sender)
        # Without the retransmission format, repeated packets keep their stream and the counts stay true.
        codecs = RTCRtpSender.getCapabilities(kind).codecs
        wanted = ("audio/opus", "video/vp8")
        transceiver.setCodecPreferences([item for item in codecs if item.mimeType.lower() in wanted])
    if peer.plan.data:
        peer.channel = peer.connection.createDataChannel("probe")
    await peer.send_description()
    await peer.describe(await described(peer, "offer", ICE_SECONDS))
    if not await peer.connected(ICE_SECONDS):
        raise CallFailed("publisher", **peer.evidence())


async def subscribe(peer: Peer, publisher: str) -> list[Reception]:
    """Ask the SFU for the publisher's stream and wait until media can flow; returns the receptions."""
    receptions: list[Reception] = []
    peer.partner = publisher
    peer.connection.on("track", lambda track: receptions.append(Reception(track)))
    await peer.session.tell(publisher, {"type": "requestoffer", "roomType": peer.plan.stream})
    await peer.describe(await described(peer, "requestoffer", ICE_SECONDS))
    if peer.plan.data and peer.connection.sctp:
        # The SFU relays texts only to who opens a channel, and may open one of its own for them.
        peer.hear(peer.connection.createDataChannel("probe"))
        peer.connection.on("datachannel", peer.hear)
    await peer.send_description()
    if not await peer.connected(ICE_SECONDS):
        raise CallFailed("subscriber", **peer.evidence())
    return receptions


async def listen(seconds: float) -> float:
    """Let the given time pass and return by how many seconds this process was late at worst.

    One that is late does not fetch its packets in time, and loses what the line has delivered.
    """
    loop = asyncio.get_running_loop()
    end, worst = loop.time() + seconds, 0.0
    while loop.time() < end:
        due = loop.time() + 0.05
        await asyncio.sleep(0.05)
        worst = max(worst, loop.time() - due)
    return round(worst, 2)


async def pass_text(publisher: Peer, subscriber: Peer) -> str:
    """Send a text through the data channel until it arrives, and return ok.

    Otherwise return how far it came: no offer (the SFU offers no channel), closed (the publisher's did not open) or
    lost (nothing arrived).
    """
    if subscriber.connection.sctp is None:
        return "no offer"
    text = f"probe {publisher.session.session_id}"
    end = time.monotonic() + DATA_SECONDS
    while time.monotonic() < end:
        if publisher.channel.readyState == "open":
            publisher.channel.send(text)
        with contextlib.suppress(asyncio.TimeoutError):
            if await asyncio.wait_for(subscriber.texts.get(), DATA_PAUSE) == text:
                return "ok"
    return "lost" if publisher.channel.readyState == "open" else "closed"


async def received_bytes(peer: Peer) -> int:
    """Return how many bytes the one transport of a peer has received."""
    report = await peer.connection.getTransceivers()[0].receiver.getStats()
    return sum(entry.bytesReceived for entry in report.values() if entry.type == "transport")


async def measure(peer: Peer, receptions: list[Reception], asked: float, seconds: float) -> dict[str, Any]:
    """Wait for the first frames, listen for the given time and return the figures."""
    waits = [asyncio.ensure_future(item.arrived.wait()) for item in receptions]
    if waits:
        await asyncio.wait(waits, timeout=FRAME_SECONDS)
    for wait in waits:
        wait.cancel()
    missing = sorted(set(peer.plan.tracks) - {item.kind for item in receptions if item.frames})
    if not missing:
        await asyncio.sleep(SETTLE_SECONDS if peer.plan.greedy else 0)
    before, begun = await received_bytes(peer), time.monotonic()
    late = 0.0 if missing else await listen(seconds)
    kilobits = (await received_bytes(peer) - before) * 8 / 1000 / max(0.001, time.monotonic() - begun)
    figures: dict[str, Any] = {"seconds": seconds, "late_seconds": late, "pair": peer.pair(), "missing": missing}
    figures["kbit_per_second"] = 0 if missing else round(kilobits)
    for item in receptions:
        item.stop()
        report = await next(
            transceiver.receiver for transceiver in peer.connection.getTransceivers() if transceiver.kind == item.kind
        ).getStats()
        inbound = [entry for entry in report.values() if entry.type == "inbound-rtp"]
        figures[item.kind] = {
            "received": sum(entry.packetsReceived for entry in inbound),
            "lost": sum(max(0, entry.packetsLost) for entry in inbound),
            "frames": item.frames,
        }
        if item.kind == "video" and item.frames:
            figures["first_frame_seconds"] = round(item.first - asked, 2)
    return figures


async def place(
    open_session: Callable[[], Awaitable[Session]], room: str, plan: Plan, seconds: float
) -> dict[str, Any]:
    """Place one call of two new sessions in `room` and return its figures.

    They are: audio and video (received and lost packets, frames), first_frame_seconds (from the request for the
    stream to its first picture), pair and publisher_pair (selected candidates), missing (kinds that never came),
    kbit_per_second (of all that arrived), late_seconds (by how much this process was late at worst), with
    plan.data the data (ok, or what `pass_text` says), with plan.greedy told_kbit_per_second (the limit that the SFU
    told the publisher, 0 for none).
    Raises `CallFailed`.
    """
    relay = plan.relay
    peers: list[Peer] = []
    try:
        for _end in ("publisher", "subscriber"):
            session = await open_session()
            peers.append(Peer(session, plan))
            await session.join(room)
        publisher, subscriber = peers
        await publish(publisher)
        asked = time.monotonic()
        receptions = await subscribe(subscriber, publisher.session.session_id)
        text = asyncio.ensure_future(pass_text(publisher, subscriber)) if plan.data else None
        figures = await measure(subscriber, receptions, asked, seconds)
        figures["publisher_pair"] = publisher.pair()
        if plan.greedy:
            # The first ones are lower: the SFU lets a sender begin gently.
            figures["told_kbit_per_second"] = round(max(publisher.allowed, default=0) / 1000)
        if text:
            figures["data"] = await text
        return figures
    except Refused as error:
        raise CallFailed("signaling", code=error.code, message=error.message) from error
    except Lost as error:
        raise CallFailed("signaling", message=str(error)) from error
    except CallFailed as error:
        if relay and error.stage in ("turn", "publisher", "subscriber"):
            sfu = [address for peer in peers for address in peer.remote_addresses()] if error.stage != "turn" else []
            error.evidence["turn"] = await examine_turn(relay, sfu)
        raise
    finally:
        await asyncio.gather(*(peer.close() for peer in reversed(peers)))


async def examine_turn(relay: Relay, peers: list[tuple[str, int]]) -> dict[str, Any]:
    """Say why a TURN server does not serve: allocate once, then ask it to relay to the first of `peers`.

    Returns {"server": the address that its name leads to here, "allocate": "ok" or an error, "bind": the same for the
    peer, "peer": its address}. An error is a TURN error code as text, "timeout", "refused", "name" or the name of the
    exception. Without an address there is no "server".
    """
    loop = asyncio.get_running_loop()
    server = (relay.host, relay.port)
    found: dict[str, Any] = {}
    # What is tried first. That there is none shows below.
    with contextlib.suppress(OSError):
        found["server"] = (await loop.getaddrinfo(*server, type=socket.SOCK_STREAM))[0][4][0]
    base = turn.TurnClientUdpProtocol if relay.transport == "udp" else turn.TurnClientTcpProtocol
    refused: list[Exception] = []

    class Client(base):  # type: ignore[misc,valid-type]
        """Keeps what the network says of single packets, which aioice throws away."""

        def error_received(self, exc: Exception) -> None:
            refused.append(exc)

    def factory() -> Any:
        return Client(server, relay.username, relay.password, lifetime=60, channel_refresh_time=500)

    try:
        if relay.transport != "udp":
            tls = ssl.create_default_context() if relay.transport == "tls" else None
            transport, client = await asyncio.wait_for(loop.create_connection(factory, *server, ssl=tls), 5)
        else:
            transport, client = await asyncio.wait_for(loop.create_datagram_endpoint(factory, remote_addr=server), 5)
    except (OSError, asyncio.TimeoutError) as error:
        return {**found, "allocate": turn_error(error)}
    try:
        await asyncio.wait_for(client.connect(), 5)
        found["allocate"] = "ok"
        if peers:
            found["peer"] = f"{peers[0][0]}:{peers[0][1]}"
            found["bind"] = "ok"
            await asyncio.wait_for(client.channel_bind(0x4000, peers[0]), 5)
    except (OSError, asyncio.TimeoutError, stun.TransactionError) as error:
        found["bind" if "bind" in found else "allocate"] = turn_error(refused[0] if refused else error)
    finally:
        with contextlib.suppress(Exception):
            if found.get("allocate") == "ok":
                await asyncio.wait_for(client.delete(), 2)
        transport.close()
    return found


def turn_error(error: Exception) -> str:
    """Return a short name for what went wrong at the TURN server."""
    response = getattr(error, "response", None)
    if response is not None:
        code: tuple[int, str] = response.attributes.get("ERROR-CODE", (0, ""))
        return str(code[0])
    if isinstance(error, asyncio.TimeoutError) or type(error).__name__ == "TransactionTimeout":
        return "timeout"
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, ssl.SSLCertVerificationError):
        return "certificate"
    if isinstance(error, ssl.SSLError):
        return "no tls"
    if type(error).__name__ == "gaierror":
        return "name"
    return type(error).__name__
