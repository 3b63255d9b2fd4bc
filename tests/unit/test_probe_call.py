# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of a call that need no SFU: texts, families of addresses, limits that are told, TURN over TLS."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import socket
import ssl
from types import SimpleNamespace

import pytest
from aiortc import rtp
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _call, _signaling_client
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@pytest.mark.parametrize(
    ("sctp", "state", "heard", "expected"),
    [
        (True, "open", True, "ok"),
        (True, "open", False, "lost"),
        (True, "connecting", False, "closed"),
        (None, "open", True, "no offer"),
    ],
)
def test_how_far_a_text_comes(monkeypatch, sctp, state, heard, expected):
    monkeypatch.setattr(_call, "DATA_SECONDS", 0.3)
    monkeypatch.setattr(_call, "DATA_PAUSE", 0.05)

    async def run():
        texts = asyncio.Queue()
        sent = []

        def send(text):
            # The first one is lost, as it is while the other side's channel is not open yet.
            sent.append(text)
            if heard and len(sent) > 1:
                texts.put_nowait("something else")
                texts.put_nowait(text)

        channel = SimpleNamespace(readyState=state, send=send)
        publisher = SimpleNamespace(session=SimpleNamespace(session_id="me"), channel=channel)
        subscriber = SimpleNamespace(connection=SimpleNamespace(sctp=sctp), texts=texts)
        return await _call.pass_text(publisher, subscriber)

    assert asyncio.run(run()) == expected


class Session:
    """Takes what a peer tells, and answers nothing."""

    session_id = "me"

    def __init__(self):
        self.told = []

    async def tell(self, recipient, data):
        self.told.append((recipient, data))

    async def next_data(self):
        await asyncio.Event().wait()

    async def close(self):
        pass


def offer_of(plan):
    """Return what a publisher with this plan tells the SFU."""

    async def run():
        peer = _call.Peer(Session(), plan)
        publishing = asyncio.ensure_future(_call.publish(peer))
        try:
            while not peer.session.told and not publishing.done():
                await asyncio.sleep(0.05)
            if publishing.done():
                publishing.result()
            return peer.session.told[0][1]
        finally:
            publishing.cancel()
            await peer.close()

    return asyncio.run(asyncio.wait_for(run(), 20))


def candidates(sdp):
    lines = [line.split() for line in sdp.splitlines() if line.startswith("a=candidate:")]
    return {ipaddress.ip_address(words[4]).version for words in lines}


def test_only_candidates_of_the_wanted_family_are_offered():
    assert candidates(offer_of(_call.Plan(family="ipv4"))["payload"]["sdp"]) == {4}
    try:
        assert candidates(offer_of(_call.Plan(family="ipv6"))["payload"]["sdp"]) == {6}
    except _call.CallFailed as failed:  # There is no such address on this machine.
        assert (failed.stage, failed.evidence) == ("family", {"side": "local", "family": "ipv6"})


def test_an_offer_has_what_the_plan_says():
    screen = offer_of(_call.Plan(stream="screen", tracks=("video",)))
    assert screen["roomType"] == "screen"
    assert "m=video" in screen["payload"]["sdp"]
    assert "m=audio" not in screen["payload"]["sdp"] and "m=application" not in screen["payload"]["sdp"]
    camera = offer_of(_call.Plan(data=True))
    assert camera["roomType"] == "video"
    assert "m=audio" in camera["payload"]["sdp"] and "m=application" in camera["payload"]["sdp"]


def test_an_sfu_without_the_wanted_family_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(_call, "CANDIDATE_SECONDS", 0.1)

    async def run():
        peer = _call.Peer(Session(), _call.Plan(family="ipv6"))
        peer.connection.addTransceiver("audio")
        peer._described = True
        try:
            await peer._take_candidate({"candidate": "candidate:1 1 udp 100 192.0.2.10 20000 typ host"})
            with pytest.raises(_call.CallFailed) as caught:
                await peer.connected(5)
            return caught.value, peer.remote_addresses()
        finally:
            await peer.close()

    failed, remote = asyncio.run(asyncio.wait_for(run(), 5))
    assert (failed.stage, failed.evidence) == ("family", {"side": "remote", "family": "ipv6"})
    assert remote == []


def test_limits_that_the_sfu_tells_are_kept_and_passed_on():
    handled = []

    async def handle(packet):
        handled.append(packet)

    sender = SimpleNamespace(_handle_rtcp_packet=handle)
    limits = _call.watch_limits(sender)
    told = [
        rtp.RtcpPsfbPacket(fmt=rtp.RTCP_PSFB_APP, ssrc=1, media_ssrc=0, fci=rtp.pack_remb_fci(rate, [1]))
        for rate in (262144, 1048576)
    ]
    others = [rtp.RtcpPsfbPacket(fmt=rtp.RTCP_PSFB_PLI, ssrc=1, media_ssrc=2), rtp.RtcpByePacket(sources=[1])]
    for packet in [*told, *others]:
        asyncio.run(sender._handle_rtcp_packet(packet))
    assert limits == [262144, 1048576]
    assert handled == [*told, *others]
    assert _call.watch_limits(SimpleNamespace()) == []


def test_pictures_have_the_contrast_that_is_wanted():
    async def picture(kind):
        frame = await _call.Noise("video", kind).recv()
        plane = bytes(frame.planes[0])
        width = frame.planes[0].line_size
        return frame.width, frame.height, plane[: kind.lines * width], plane[kind.lines * width :]

    width, height, noise, rest = asyncio.run(picture(_call.GREEDY))
    assert (width, height, rest) == (480, 360, b"")
    assert (min(noise), max(noise)) == (112, 144)
    width, height, noise, rest = asyncio.run(picture(_call.Picture()))
    assert (width, height, set(rest)) == (160, 120, {128})
    assert len(set(noise)) > 200


def certificate(folder, name):
    """Write a self-signed certificate for a name and return its path (key and certificate in one file)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / f"{name}.pem"
    path.write_bytes(private + made.public_bytes(pem))
    return path


@pytest.mark.parametrize(
    ("named", "trusted", "expected"),
    [
        # It agrees on TLS and is silent then, as what is no TURN server may be.
        ("turn.example.org", True, "timeout"),
        ("turn.example.org", False, "certificate"),
        ("other.example.org", True, "certificate"),
        ("", True, "no tls"),
    ],
)
def test_turn_over_tls_checks_name_and_authority(tmp_path, monkeypatch, named, trusted, expected):
    own = certificate(tmp_path, named or "turn.example.org")
    usual = certificate(tmp_path, "usual.example.org")
    monkeypatch.setenv("SSL_CERT_FILE", str(own if trusted else usual))
    context = None
    if named:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(own)

    async def serve(reader, writer):
        if not context:
            writer.write(b"no TLS at all\r\n")
            await writer.drain()
        await reader.read(100)
        await asyncio.sleep(6 if context else 0)
        writer.close()

    async def run():
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        relay = _call.Relay("turn.example.org", port, "tls", "name", "word")
        found = await _call.examine_turn(relay, [])
        server.close()
        return found

    with _signaling_client.pinned_names({"turn.example.org": "127.0.0.1"}):
        assert asyncio.run(asyncio.wait_for(run(), 20)) == {"server": "127.0.0.1", "allocate": expected}


FAMILIES = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))


def test_families_of_a_name(monkeypatch):
    def six():
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.connect(("::1", 443))

    assert _signaling_client.families_of("127.0.0.1", 443) == ["ipv4"]
    with _signaling_client.pinned_names({"talk.example.org": "192.0.2.1", "six.example.org": "::1"}):
        # Whether there is a route to a documentation address is not known, but it is no IPv6 address.
        assert "ipv6" not in _signaling_client.families_of("talk.example.org", 443)
        try:
            six()
        except OSError:
            assert _signaling_client.families_of("six.example.org", 443) == []
        else:
            assert _signaling_client.families_of("six.example.org", 443) == ["ipv6"]
    both = [(family, 2, 17, "", (address, 443)) for family, address in FAMILIES]
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda _host, _port, family=0, *_rest, **_named: [item for item in both if family in (0, item[0])],
    )

    class Routed(socket.socket):
        def connect(self, address):
            if address[0] == "::1":
                raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(_signaling_client.socket, "socket", Routed)
    assert _signaling_client.families_of("both.example.org", 443) == ["ipv4"]
