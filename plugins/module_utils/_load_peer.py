# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Peers of a load test: publishers that play a recording, and subscribers that count what comes.

They use ICE, DTLS and SRTP of aiortc, and leave out what costs most in it: no codec, no jitter buffer, no reports. The
header of an SRTP packet is not encrypted (RFC 3711, 3.1), so packets are counted as they come from the socket. Nothing
that was lost is asked for again.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Sequence
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _load_media
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._call import ICE_SECONDS, Relay
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._load import Stream
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._signaling_client import Lost, Refused, Session

try:
    import aioice.ice
    from aiortc import RTCDtlsTransport, RTCIceGatherer, RTCIceServer, RTCIceTransport, RTCIceTransportPolicy
    from aiortc.sdp import SessionDescription, candidate_from_sdp, candidate_to_sdp
except ImportError:  # The module says so before anything of this is used.
    aioice = None

CODECS = {"audio": ("opus/48000/2", ()), "video": ("VP8/90000", ("nack", "nack pli", "ccm fir", "goog-remb"))}
KINDS = ("audio", "video")


class NoMedia(Exception):
    """A connection for media did not come about; the text says at which step."""


def local_addresses(host: str, port: int) -> list[str]:
    """Return the addresses with which this machine reaches a host, one for each family. Sends nothing."""
    found: dict[int, str] = {}
    for family, _kind, _protocol, _name, address in socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)
            found.setdefault(family, probe.getsockname()[0])
    return list(found.values())


def use_addresses(addresses: Sequence[str]) -> None:
    """Let ICE use these addresses of this machine only, since each costs a socket for each stream."""

    def chosen(use_ipv4: bool, use_ipv6: bool) -> list[str]:
        return [address for address in addresses if (use_ipv6 if ":" in address else use_ipv4)]

    # aioice has no option for it. Without this name it takes all addresses, which only costs more.
    if addresses and hasattr(aioice.ice, "get_host_addresses"):
        aioice.ice.get_host_addresses = chosen


def section(kind: str, direction: str, payload_type: int, mid: str, transport: Sequence[str]) -> list[str]:
    """Return the lines of a media section of SDP with the lines that describe the transport."""
    codec, feedback = CODECS[kind]
    return [
        f"m={kind} 9 UDP/TLS/RTP/SAVPF {payload_type}",
        "c=IN IP4 0.0.0.0",
        f"a={direction}",
        f"a=mid:{mid}",
        "a=rtcp-mux",
        f"a=rtpmap:{payload_type} {codec}",
        *(f"a=rtcp-fb:{payload_type} {item}" for item in feedback),
        *transport,
    ]


def description(sections: Sequence[Sequence[str]], mids: Sequence[str]) -> str:
    """Return an SDP of these media sections, all on one transport."""
    lines = ["v=0", "o=- 1 1 IN IP4 0.0.0.0", "s=-", "t=0 0", f"a=group:BUNDLE {' '.join(mids)}"]
    for part in sections:
        lines += part
    return "\r\n".join(lines) + "\r\n"


def offer_of(ssrcs: dict[str, int], transport: Sequence[str], candidates: Sequence[str]) -> str:
    """Return the offer of a publisher, whose streams have these SSRCs by kind."""
    parts = []
    for number, kind in enumerate(KINDS):
        ids = [f"a=msid:load {kind}", f"a=ssrc:{ssrcs[kind]} cname:load"]
        lines = [*ids, *transport, *(candidates if number == 0 else [])]
        parts.append(section(kind, "sendonly", _load_media.PAYLOAD_TYPES[kind], str(number), lines))
    return description(parts, [str(number) for number, _kind in enumerate(KINDS)])


def answer_to(offer: str, transport: Sequence[str], candidates: Sequence[str]) -> str:
    """Return the answer of a subscriber to the SFU's offer. Raises `NoMedia` for an offer of something else."""
    parts, mids = [], []
    for media in SessionDescription.parse(offer).media:
        if media.kind not in CODECS:
            raise NoMedia(f"the SFU offers {media.kind}, which nobody sends")
        lines = [*transport, *(candidates if not parts else [])]
        parts.append(section(media.kind, "recvonly", media.rtp.codecs[0].payloadType, media.rtp.muxId, lines))
        mids.append(media.rtp.muxId)
    return description(parts, mids)


class Link:
    """One transport to the SFU: a publisher's, or that of one publisher's stream to a subscriber."""

    def __init__(self, certificate: Any, relay: Relay | None, controlling: bool) -> None:
        servers, policy = [], RTCIceTransportPolicy.ALL
        if relay:
            servers = [RTCIceServer(relay.uri, relay.username, relay.password)]
            policy = RTCIceTransportPolicy.RELAY
        self.certificate = certificate
        self.gatherer = RTCIceGatherer(servers, policy)
        # Who offers is in control (RFC 8445, 6.1.1), and by that aiortc chooses its part in DTLS as SDP has it below.
        self.gatherer._connection.ice_controlling = controlling
        self.ice = RTCIceTransport(self.gatherer)
        self.dtls = RTCDtlsTransport(self.ice, [certificate])
        self.described: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.streams: dict[bytes, Stream] = {}
        self.kinds: dict[bytes, str] = {}

    async def take(self, data: dict[str, Any]) -> None:
        """Take what the SFU sends for this transport: its description, and candidates."""
        payload = data.get("payload") or {}
        if data.get("type") in ("offer", "answer") and not self.described.done():
            self.described.set_result(data)
        elif data.get("type") == "candidate":
            line = str((payload.get("candidate") or {}).get("candidate") or "").partition(":")[2]
            if len(line.split()) >= 8 and line.split()[2].lower() == "udp":
                await self.ice.addRemoteCandidate(candidate_from_sdp(line))

    def fail(self, error: Exception) -> None:
        """Let who waits for the description know that none will come."""
        if not self.described.done():
            self.described.set_exception(error)

    async def gather(self, setup: str) -> tuple[list[str], list[str]]:
        """Gather candidates; return the lines that describe this transport, and those of the candidates."""
        await self.gatherer.gather()
        candidates = self.gatherer.getLocalCandidates()
        if not candidates:
            raise NoMedia("the TURN server gave no address")
        # From here on media is counted where it comes from the socket, below all of aiortc.
        for protocol in self.gatherer._connection._protocols:
            protocol.datagram_received = self._counting(protocol.datagram_received)
        parameters = self.gatherer.getLocalParameters()
        prints = [item for item in self.certificate.getFingerprints() if item.algorithm == "sha-256"]
        transport = [
            f"a=ice-ufrag:{parameters.usernameFragment}",
            f"a=ice-pwd:{parameters.password}",
            *(f"a=fingerprint:{item.algorithm} {item.value}" for item in prints),
            f"a=setup:{setup}",
        ]
        lines = [f"a=candidate:{candidate_to_sdp(item)}" for item in candidates]
        return transport, [*lines, "a=end-of-candidates"]

    def _counting(self, other: Any) -> Any:
        """Return a receiver of datagrams that counts RTP, drops RTCP, and leaves the rest to `other`."""
        streams, kinds = self.streams, self.kinds

        def received(data: bytes, address: Any) -> None:
            # RFC 7983 tells them apart by the first octet, RFC 5761 RTCP by the second.
            if len(data) < 12 or not 127 < data[0] < 192:
                other(data, address)
                return
            if 192 <= data[1] <= 223:
                return
            ssrc = data[8:12]
            stream = streams.get(ssrc)
            if stream is None:
                stream = streams[ssrc] = Stream()
                kinds[ssrc] = "audio" if data[1] & 0x7F in self.sound else "video"
            stream.take(data[2] << 8 | data[3], len(data))

        return received

    # Payload types of sound, by the description.
    sound: frozenset[int] = frozenset()

    async def connect(self, sdp: str) -> None:
        """Connect to the SFU that described itself so, ICE first, then DTLS. Raises `NoMedia`."""
        remote = SessionDescription.parse(sdp)
        self.sound = frozenset(
            codec.payloadType for media in remote.media if media.kind == "audio" for codec in media.rtp.codecs
        )
        first = remote.media[0]
        for candidate in first.ice_candidates:
            if candidate.protocol.lower() == "udp":
                await self.ice.addRemoteCandidate(candidate)
        try:
            await asyncio.wait_for(self.ice.start(first.ice), ICE_SECONDS)
            if self.ice.state != "completed":
                raise NoMedia("no candidate of the SFU could be reached")
            await asyncio.wait_for(self.dtls.start(first.dtls), ICE_SECONDS)
        except asyncio.TimeoutError as error:
            raise NoMedia("no connection for media in time") from error
        if self.dtls.state != "connected":
            raise NoMedia("the SFU refused the encryption of media")

    @property
    def alive(self) -> bool:
        """Whether media can flow."""
        return bool(self.dtls.state == "connected" and self.ice.state == "completed")

    async def close(self) -> None:
        """Free everything, a TURN allocation included."""
        if self.described.done() and not self.described.cancelled():
            self.described.exception()
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self.dtls.stop(), 5)
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self.ice.stop(), 5)


class Member:
    """A session in a room, and its transports by the session at their other end."""

    def __init__(self, session: Session, certificate: Any, relay: Relay | None) -> None:
        self.session = session
        self.certificate = certificate
        self.relay = relay
        self.links: dict[str, Link] = {}
        self._pump = asyncio.ensure_future(self._receive())

    async def _receive(self) -> None:
        while True:
            try:
                sender, data = await self.session.next_data()
            except Refused as error:
                # The server does not say which request it refuses.
                for link in self.links.values():
                    link.fail(error)
                continue
            except Lost as error:
                for link in self.links.values():
                    link.fail(error)
                return
            if sender in self.links:
                await self.links[sender].take(data)

    def link(self, partner: str) -> Link:
        """Return a new transport for what goes on with the session `partner`; one's own to publish."""
        self.links[partner] = Link(self.certificate, self.relay, controlling=partner == self.session.session_id)
        return self.links[partner]

    async def described(self, link: Link) -> dict[str, Any]:
        """Wait for the SFU's description. Raises `NoMedia`."""
        try:
            return await asyncio.wait_for(link.described, ICE_SECONDS)
        except (Refused, Lost) as error:
            raise NoMedia(f"the signaling server refused it ({error})") from error
        except asyncio.TimeoutError as error:
            raise NoMedia("no description from the SFU in time") from error

    async def tell(self, partner: str, kind: str, sdp: str, sid: str) -> None:
        """Send a description to the SFU."""
        payload = {"type": kind, "sdp": sdp}
        data = {"to": partner, "type": kind, "sid": sid, "roomType": "video", "payload": payload}
        await self.session.tell(partner, data)

    async def subscribe(self, publisher: str) -> None:
        """Receive a publisher's stream. Raises `NoMedia`."""
        link = self.link(publisher)
        await self.session.tell(publisher, {"type": "requestoffer", "roomType": "video"})
        offer = await self.described(link)
        transport, candidates = await link.gather("active")
        sdp = offer["payload"]["sdp"]
        await self.tell(publisher, "answer", answer_to(sdp, transport, candidates), str(offer.get("sid", "")))
        await link.connect(sdp)

    async def close(self) -> None:
        """Leave the room and free everything."""
        self._pump.cancel()
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self.session.close(), 5)
        await asyncio.gather(*(link.close() for link in self.links.values()))


class Publisher(Member):
    """A member that plays a recording over and over, from a place in it that is its own."""

    def __init__(self, session: Session, certificate: Any, relay: Relay | None, packets: list[Any]) -> None:
        super().__init__(session, certificate, relay)
        self._packets = packets
        self.ssrcs = {kind: secrets.randbits(31) + 1 for kind in KINDS}
        # In the lower half, so that the first wrap does not come before the SFU knows the stream.
        self._sequences = {kind: secrets.randbits(15) for kind in KINDS}
        self._ticks = {kind: secrets.randbits(31) for kind in KINDS}
        self.sent = dict.fromkeys(KINDS, 0)
        self.started = 0.0
        self._next = 0
        self._round = 0

    async def publish(self) -> None:
        """Connect to the SFU. Raises `NoMedia`."""
        link = self.link(self.session.session_id)
        transport, candidates = await link.gather("actpass")
        await self.tell(self.session.session_id, "offer", offer_of(self.ssrcs, transport, candidates), "1")
        answer = await self.described(link)
        await link.connect(answer["payload"]["sdp"])

    def start(self, now: float) -> None:
        """Begin to play at a moment that others hardly share, or all would send their big pictures at once."""
        self.started = now + secrets.randbelow(1000) / 1000 * _load_media.SECONDS

    def rate(self, kind: str) -> float:
        """Return packets per second."""
        return sum(packet[1] == kind for packet in self._packets) / _load_media.SECONDS

    async def play(self, now: float) -> None:
        """Send all packets that are due."""
        link = self.links[self.session.session_id]
        while self.started and link.alive:
            due, kind, marker, ticks, payload = self._packets[self._next]
            if self.started + self._round * _load_media.SECONDS + due > now:
                return
            rate = _load_media.RATES[kind]
            ticks += self._ticks[kind] + self._round * _load_media.SECONDS * rate
            head = _load_media.header(kind, marker, self._sequences[kind], ticks, self.ssrcs[kind])
            self._sequences[kind] += 1
            self.sent[kind] += 1
            self._next += 1
            if self._next == len(self._packets):
                self._next, self._round = 0, self._round + 1
            with contextlib.suppress(ConnectionError):
                await link.dtls._send_rtp(head + payload)

    @property
    def alive(self) -> bool:
        """Whether its media can flow."""
        return self.links[self.session.session_id].alive
