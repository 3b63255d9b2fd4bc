# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One real call whose two ends are a headless Chromium's: a camera in three layers (simulcast), and who watches it.

The sessions on the signaling server are ours, Chromium has the media. What is offered is what Talk's web client offers
in browsers of this kind (nextcloud/spreed, src/utils/webrtc/simplewebrtc/peer.js): camera and microphone, a data
channel, candidates one by one, and three streams of the camera, named by their sources in the description (ssrc-group
SIM), the smallest first. Whoever watches chooses one with the message selectStream, whose `substream` is 0 for the
smallest.

`place` makes the call and returns what was measured, or raises what `_call.place` does. Nothing here judges.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import time
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Any, Callable

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _call
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._browser import Browser, BrowserError, Page
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._call import CallFailed, Relay
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._signaling_client import Lost, Refused, Session

# The smallest picture of which Chromium makes three layers. For a larger one it wants more for the largest layer than
# the usual limit of a camera (1 Mbit/s) lets through.
WIDTH, HEIGHT = 960, 540
LAYERS = ("low", "medium", "high")
ICE_SECONDS = 12
FRAME_SECONDS = 10
# How long the publisher may take to send all layers, after the first one: the bitrate grows step by step.
LAYER_SECONDS = 12
SWITCH_SECONDS = 8
# Who chooses again at once gets the other layer late or never: Janus asks a publisher for a whole picture, with which a
# layer can begin, at most once a second.
CHOICE_PAUSE = 1.5
PAUSE = 0.1
# The rate of Opus, and the samples in one of its packets.
SAMPLES = 960

# What the page knows to do. A peer is a connection by a name of ours.
SCRIPT = """
const peers = {};
const note = (name, kind, data) => tell(JSON.stringify({name, kind, data}));

function open(name, servers, policy) {
  const pc = new RTCPeerConnection({iceServers: servers, iceTransportPolicy: policy, bundlePolicy: 'max-bundle'});
  peers[name] = pc;
  pc.onicecandidate = (event) => event.candidate && note(name, 'candidate', event.candidate.toJSON());
  pc.onicegatheringstatechange = () => note(name, 'gathering', pc.iceGatheringState);
  pc.onconnectionstatechange = () => note(name, 'state', pc.connectionState);
  pc.ontrack = (event) => {
    const view = document.createElement(event.track.kind);
    view.autoplay = true;
    view.srcObject = new MediaStream([event.track]);
    document.body.append(view);
    if (event.track.kind === 'video') view.requestVideoFrameCallback(() => note(name, 'picture', true));
  };
}

async function publish(name, width, height) {
  const want = {width: {exact: width}, height: {exact: height}};
  const stream = await navigator.mediaDevices.getUserMedia({audio: true, video: want});
  const pc = peers[name];
  for (const track of stream.getTracks()) pc.addTrack(track, stream);
  pc.createDataChannel('probe');
  return (await pc.createOffer()).sdp;
}

async function settle(name, sdp) {
  await peers[name].setLocalDescription({type: 'offer', sdp});
}

async function take(name, type, sdp) {
  const pc = peers[name];
  await pc.setRemoteDescription({type, sdp});
  if (type === 'answer') return '';
  await pc.setLocalDescription();
  return pc.localDescription.sdp;
}

async function come(name, candidate) {
  await peers[name].addIceCandidate(candidate);
}

async function look(name) {
  return [...(await peers[name].getStats()).values()];
}

function state(name) {
  const pc = peers[name];
  return {ice: pc.iceConnectionState, connection: pc.connectionState};
}
"""


# --- descriptions and statistics: pure ----------------------------------------------------------------------------


def with_layers(sdp: str) -> tuple[str, list[int]]:
    """Return an offer whose camera is sent in three layers, and their sources, the smallest layer first.

    The description gets two more sources beside the camera's, each with the lines of the first one and with a source
    for what is sent again, as the first one has, and a line that groups the three. An offer without a camera is
    returned as it is, without sources.
    """
    head, *parts = re.split(r"(?m)^(?=m=)", sdp)
    for index, part in enumerate(parts):
        sources = re.findall(r"(?m)^a=ssrc:(\d+) ", part)
        if part.startswith("m=video") and sources:
            parts[index], layers = _with_layers(part, int(sources[0]))
            return "".join([head, *parts]), layers
    return sdp, []


def _with_layers(part: str, first: int) -> tuple[str, list[int]]:
    pairs = {int(one): int(other) for one, other in re.findall(r"(?m)^a=ssrc-group:FID (\d+) (\d+)", part)}
    layers, again = [first], [pairs[first]] if first in pairs else []
    while len(layers) < len(LAYERS):
        layers.append(_new_source([*layers, *again]))
        again += [_new_source([*layers, *again])] if again else []
    lines = [line for line in part.splitlines() if not line.startswith("a=ssrc")]
    known = [re.sub(r"^a=ssrc:\d+ ", "", line) for line in part.splitlines() if line.startswith(f"a=ssrc:{first} ")]
    lines.append(f"a=ssrc-group:SIM {' '.join(str(source) for source in layers)}")
    lines += [f"a=ssrc-group:FID {one} {other}" for one, other in zip(layers, again)]
    lines += [f"a=ssrc:{source} {text}" for source in [*layers, *again] for text in known]
    return "\r\n".join(lines) + "\r\n", layers


def _new_source(taken: Sequence[int]) -> int:
    return next(source for source in iter(lambda: secrets.randbelow(2**32 - 1) + 1, 0) if source not in taken)


Stats = Iterable[Mapping[str, Any]]


def layers_of(stats: Stats, sources: Sequence[int]) -> dict[str, dict[str, Any]]:
    """Return what a publisher sends in each layer, by its name: width and height, packets, bytes, frames.

    A layer that is not sent now (no picture in the last second, or none at all) is left out.
    """
    rows = {row.get("ssrc"): row for row in stats if row.get("type") == "outbound-rtp" and row.get("kind") == "video"}
    found = {}
    for name, source in zip(LAYERS, sources):
        row = rows.get(source, {})
        if row.get("active", True) and row.get("framesPerSecond") and row.get("frameWidth"):
            names = {"width": "frameWidth", "height": "frameHeight", "packets": "packetsSent", "bytes": "bytesSent"}
            found[name] = {key: int(row.get(stat) or 0) for key, stat in names.items()}
    return found


def held_back(stats: Stats) -> str:
    """Return what keeps a publisher from sending more: cpu, bandwidth, other, or "" for nothing."""
    reasons = {row.get("qualityLimitationReason") for row in stats if row.get("type") == "outbound-rtp"}
    return next((reason for reason in ("cpu", "bandwidth", "other") if reason in reasons), "")


def media_of(stats: Stats) -> dict[str, dict[str, int]]:
    """Return what a subscriber received by kind: received and lost packets, and frames that were decoded.

    A frame of sound is one of 20 ms that was played.
    """
    found = {}
    for row in stats:
        if row.get("type") == "inbound-rtp" and row.get("kind") in ("audio", "video"):
            frames = row.get("framesDecoded") or int(row.get("jitterBufferEmittedCount") or 0) // SAMPLES
            counts = {"received": row.get("packetsReceived"), "lost": row.get("packetsLost"), "frames": frames}
            found[row["kind"]] = {key: max(0, int(value or 0)) for key, value in counts.items()}
    return found


def picture_of(stats: Stats) -> tuple[int, int, int]:
    """Return width and height of the picture that a subscriber sees now, and how many it has decoded; 0 for none."""
    for row in stats:
        if row.get("type") == "inbound-rtp" and row.get("kind") == "video":
            width, height, frames = (int(row.get(key) or 0) for key in ("frameWidth", "frameHeight", "framesDecoded"))
            return width, height, frames
    return 0, 0, 0


def received_bytes(stats: Stats) -> int:
    """Return how many bytes all transports have received."""
    return sum(int(row.get("bytesReceived") or 0) for row in stats if row.get("type") == "transport")


def codec_of(stats: Stats) -> str:
    """Return the codec of the picture that a subscriber gets, such as VP8, "" when it is not known."""
    rows = {row.get("id"): row for row in stats}
    for row in rows.values():
        if row.get("type") == "inbound-rtp" and row.get("kind") == "video":
            return str(rows.get(row.get("codecId"), {}).get("mimeType", "")).rpartition("/")[2]
    return ""


def pair_of(stats: Stats) -> dict[str, Any]:
    """Return the candidate pair that is used, {} when there is none.

    local and remote have type, protocol, address and port; a relay of ours also relay_protocol, by which the TURN
    server is reached. round_trip_seconds is the last one that was measured.
    """
    rows = {row.get("id"): row for row in stats}
    chosen = next((row.get("selectedCandidatePairId") for row in rows.values() if row.get("type") == "transport"), None)
    pair = rows.get(chosen)
    if not pair:
        return {}
    sides = {side: rows.get(pair.get(f"{side}CandidateId"), {}) for side in ("local", "remote")}
    found: dict[str, Any] = {
        side: {
            "type": str(row.get("candidateType", "")),
            "protocol": str(row.get("protocol", "")),
            "address": str(row.get("address") or row.get("ip") or ""),
            "port": int(row.get("port") or 0),
        }
        for side, row in sides.items()
    }
    if sides["local"].get("relayProtocol"):
        found["relay_protocol"] = str(sides["local"]["relayProtocol"])
    if pair.get("currentRoundTripTime") is not None:
        found["round_trip_seconds"] = round(float(pair["currentRoundTripTime"]), 4)
    return found


def candidate_words(line: str) -> str:
    """Return a candidate's type, address and port, such as ``host 192.0.2.1:20000``; "" for what is none."""
    words = line.split()
    if len(words) < 8 or words[6] != "typ":
        return ""
    address = f"[{words[4]}]" if ":" in words[4] else words[4]
    return f"{words[7]} {address}:{words[5]}"


def candidates_in(sdp: str) -> list[str]:
    """Return the candidates in a description."""
    lines = [line[2:] for line in sdp.splitlines() if line.startswith("a=candidate:")]
    return [words for line in lines if (words := candidate_words(line))]


# --- the call ------------------------------------------------------------------------------------------------------


class Peer:
    """One end of the call: a session on the server, a connection in the page, and what connects the two."""

    def __init__(self, name: str, session: Session, page: Page, relay: Relay | None) -> None:
        self.name = name
        self.session = session
        self.partner = session.session_id
        self.sid = ""
        self.relay = relay
        self.description: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.pictured = asyncio.Event()
        self.first_picture = 0.0
        self.local: list[str] = []
        self.remote: list[str] = []
        self.state = "new"
        self._page = page
        self._changed = asyncio.Event()
        self._lost = False
        # The SFU's candidates until there is its description, and ours until it has one of us.
        self._described = self._known = False
        self._early: list[dict[str, Any]] = []
        self._waiting: list[dict[str, Any]] = []
        self._tasks = [asyncio.ensure_future(self._receive())]

    async def open(self) -> None:
        """Make the connection in the page."""
        servers, policy = [], "all"
        if self.relay:
            servers = [{"urls": self.relay.uri, "username": self.relay.username, "credential": self.relay.password}]
            policy = "relay"
        await self._page.call("open", self.name, servers, policy)

    def told(self, kind: str, data: Any) -> None:
        """Take what the connection tells by itself."""
        if kind == "candidate":
            self.local += [words] if (words := candidate_words(data.get("candidate") or "")) else []
            self._waiting.append(data)
            if self._known:
                self._tasks.append(asyncio.ensure_future(self.send_candidates()))
        elif kind == "state":
            self.state = str(data)
            self._changed.set()
        elif kind == "gathering" and data == "complete":
            # Without a candidate there is nothing to wait for.
            self._lost = not self.local
            self._changed.set()
        elif kind == "picture" and not self.first_picture:
            self.first_picture = time.monotonic()
            self.pictured.set()

    async def tell(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Send something to the SFU, about our own stream or about the partner's that we watch."""
        data = {"to": self.partner, "type": kind, "sid": self.sid or "1", "roomType": "video", "payload": payload}
        await self.session.tell(self.partner, data)

    async def send_candidates(self) -> None:
        """Send the candidates that have been found, and from now on each when it is found."""
        self._known = True
        with contextlib.suppress(Lost):
            while self._waiting:
                await self.tell("candidate", {"candidate": self._waiting.pop(0)})

    async def describe(self, payload: Mapping[str, Any]) -> str:
        """Take the SFU's description, and the candidates that came before it; returns our answer to an offer."""
        self.remote += candidates_in(payload["sdp"])
        answer = await self._page.call("take", self.name, payload["type"], payload["sdp"])
        self._described = True
        for candidate in self._early:
            await self._pass(candidate)
        self._early = []
        return answer

    async def _pass(self, candidate: dict[str, Any]) -> None:
        # One that the browser does not like is as good as none.
        with contextlib.suppress(BrowserError):
            await self._page.call("come", self.name, candidate)

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
        words = candidate_words(str(candidate.get("candidate") or "").partition(":")[2])
        if not words:
            return
        self.remote.append(words)
        if self._described:
            await self._pass(candidate)
        else:
            self._early.append(candidate)

    async def connected(self, seconds: float) -> bool:
        """Wait until media can flow."""
        end = time.monotonic() + seconds
        while self.state not in ("connected", "failed", "closed") and not self._lost:
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), max(0.0, end - time.monotonic()))
            except asyncio.TimeoutError:
                break
        return self.state == "connected"

    async def stats(self) -> list[dict[str, Any]]:
        """Return the connection's statistics, as the browser names them."""
        return await self._page.call("look", self.name)

    async def evidence(self) -> dict[str, Any]:
        """Return what tells how far ICE came."""
        states = await self._page.call("state", self.name)
        # What a browser calls connected or completed is the same for us.
        ice = "completed" if states["ice"] in ("connected", "completed") else states["ice"]
        return {"ice": ice, "connection": states["connection"], "local": self.local, "remote": self.addresses()}

    def addresses(self) -> list[str]:
        """Return where the SFU says that it can be reached, each once."""
        return list(dict.fromkeys(self.remote))

    async def close(self) -> None:
        """Leave the room. The page frees the connection, a TURN allocation included."""
        for task in self._tasks:
            task.cancel()
        if self.description.done() and not self.description.cancelled():
            self.description.exception()
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self.session.close(), 5)


async def publish(peer: Peer, page: Page) -> list[int]:
    """Send the camera to the SFU until the peer is closed; returns the sources of its layers."""
    offer, sources = with_layers(await page.call("publish", peer.name, WIDTH, HEIGHT))
    try:
        await page.call("settle", peer.name, offer)
    except BrowserError as error:
        raise CallFailed("layers", message=str(error)) from error
    await peer.tell("offer", {"type": "offer", "sdp": offer})
    await peer.describe(await _call.described(peer, "offer", ICE_SECONDS))
    await peer.send_candidates()
    await _connect(peer, "publisher")
    return sources


async def subscribe(peer: Peer, publisher: str) -> None:
    """Ask the SFU for the publisher's stream and wait until media can flow."""
    peer.partner = publisher
    await peer.session.tell(publisher, {"type": "requestoffer", "roomType": "video"})
    answer = await peer.describe(await _call.described(peer, "requestoffer", ICE_SECONDS))
    await peer.tell("answer", {"type": "answer", "sdp": answer})
    await peer.send_candidates()
    await _connect(peer, "subscriber")


async def _connect(peer: Peer, stage: str) -> None:
    if not await peer.connected(ICE_SECONDS):
        raise CallFailed("turn" if peer.relay and not peer.local else stage, **await peer.evidence())


async def all_layers(publisher: Peer, sources: Sequence[int]) -> None:
    """Wait until the publisher sends all layers, or will not."""
    end = time.monotonic() + LAYER_SECONDS
    while len(layers_of(await publisher.stats(), sources)) < len(LAYERS) and time.monotonic() < end:
        await asyncio.sleep(PAUSE)


async def switch(publisher: Peer, subscriber: Peer, sources: Sequence[int], layer: str) -> dict[str, Any]:
    """Let the subscriber choose a layer, and wait until it sees that one's picture, which goes on.

    Returns the picture's width and height, and seconds until it came, without which it did not; `stopped` is true when
    the publisher did not go on sending that layer, so that it could not come.
    """
    await subscriber.tell("selectStream", {"substream": LAYERS.index(layer), "temporal": 2})
    begun = time.monotonic()
    came, frames, stopped = 0.0, 0, False
    while time.monotonic() < begun + SWITCH_SECONDS:
        wanted = layers_of(await publisher.stats(), sources).get(layer, {})
        stopped = stopped or not wanted
        width, height, count = picture_of(await subscriber.stats())
        if came and count > frames:
            return {"width": width, "height": height, "seconds": round(came, 2)}
        if (width, height) == (wanted.get("width"), wanted.get("height")):
            came, frames = came or time.monotonic() - begun, count
        await asyncio.sleep(PAUSE)
    return {"width": width, "height": height, **({"stopped": True} if stopped else {})}


async def measure(
    publisher: Peer, subscriber: Peer, sources: Sequence[int], asked: float, seconds: float
) -> dict[str, Any]:
    """Wait for the first picture and for all layers, listen for the given time, switch layers; returns the figures."""
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(subscriber.pictured.wait(), FRAME_SECONDS)
    before = await subscriber.stats()
    missing = sorted({"audio", "video"} - {kind for kind, counts in media_of(before).items() if counts["frames"]})
    figures: dict[str, Any] = {"seconds": seconds, "missing": missing, "late_seconds": 0.0, "kbit_per_second": 0}
    if subscriber.first_picture:
        figures["first_frame_seconds"] = round(subscriber.first_picture - asked, 2)
    if not missing:
        await all_layers(publisher, sources)
        before, begun = await subscriber.stats(), time.monotonic()
        figures["late_seconds"] = await _call.listen(seconds)
    after = await subscriber.stats()
    if not missing:
        kilobits = (received_bytes(after) - received_bytes(before)) * 8 / 1000
        figures["kbit_per_second"] = round(kilobits / (time.monotonic() - begun))
        sent = await publisher.stats()
        figures["layers"] = layers_of(sent, sources)
        if held_back(sent):
            figures["held_back"] = held_back(sent)
        figures["load_per_processor"] = round(os.getloadavg()[0] / (os.cpu_count() or 1), 1)
        # The largest one last: it is what a watcher begins with.
        ends = [name for name in LAYERS if name in figures["layers"]]
        chosen = dict.fromkeys([ends[0], ends[-1]]) if len(ends) > 1 else {}
        figures["switched"] = {}
        for name in chosen:
            figures["switched"][name] = await switch(publisher, subscriber, sources, name)
            await asyncio.sleep(CHOICE_PAUSE)
    for name, pair in (("pair", pair_of(after)), ("publisher_pair", pair_of(await publisher.stats()))):
        figures[name] = {side: pair[side] for side in ("local", "remote") if side in pair}
        if name == "pair":
            figures.update({key: pair[key] for key in ("relay_protocol", "round_trip_seconds") if key in pair})
    return {**figures, **media_of(after), "codec": codec_of(after)}


async def place(
    browser: Browser, open_session: Callable[[], Awaitable[Session]], room: str, relay: Relay | None, seconds: float
) -> dict[str, Any]:
    """Place one call of two new sessions in `room` and return its figures.

    They are those of `_call.place` without data, and: layers (by their names what the publisher sends: width, height,
    packets, bytes), held_back (what keeps it from sending more: cpu, bandwidth), load_per_processor (of this machine),
    switched (by the name of the layer that was chosen, what `switch` returns), codec, relay_protocol (by which the TURN
    server was reached), round_trip_seconds, browser (its version).

    Raises `CallFailed`, whose stage may also be layers: the browser refuses the offer with them, and says why; and
    `BrowserError` when the browser itself fails.
    """
    page = await browser.page()
    peers: dict[str, Peer] = {}
    page.told = lambda message: peers[message["name"]].told(message["kind"], message["data"])
    try:
        await page.run(SCRIPT)
        for name in ("publisher", "subscriber"):
            session = await open_session()
            peers[name] = Peer(name, session, page, relay)
            await peers[name].open()
            await session.join(room)
        publisher, subscriber = peers["publisher"], peers["subscriber"]
        sources = await publish(publisher, page)
        asked = time.monotonic()
        await subscribe(subscriber, publisher.session.session_id)
        figures = await measure(publisher, subscriber, sources, asked, seconds)
        return {**figures, "browser": browser.version}
    except Refused as error:
        raise CallFailed("signaling", code=error.code, message=error.message) from error
    except Lost as error:
        raise CallFailed("signaling", message=str(error)) from error
    except CallFailed as error:
        if relay and error.stage in ("turn", "publisher", "subscriber"):
            sfu = [address for peer in peers.values() for address in where(peer.addresses())]
            error.evidence["turn"] = await _call.examine_turn(relay, sfu if error.stage != "turn" else [])
        raise
    finally:
        await asyncio.gather(*(peer.close() for peer in reversed(peers.values())))
        await page.close()


def where(candidates: Iterable[str]) -> list[tuple[str, int]]:
    """Return address and port of candidates such as ``host 192.0.2.1:20000``."""
    found = (words.split(" ", 1)[1].rpartition(":") for words in candidates)
    return [(address.strip("[]"), int(port)) for address, _colon, port in found]
