# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls in Chromium: how it is started and ended, what is offered, what its statistics say; and a real Chromium."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
import threading
import time
from pathlib import Path

import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import (
    _browser,
    _browser_call,
    _call,
    _signaling_client,
)
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from test_probe_call import certificate

CHROMIUM = shutil.which("chromium")
PASSWORD = "a-credential-that-nobody-may-see"


# --- how it is started --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "address", "expected"),
    [
        ("", "", "MAP * ~NOTFOUND"),
        ("turn.example.org", "", "MAP * ~NOTFOUND"),
        ("192.0.2.1", "192.0.2.1", "MAP * ~NOTFOUND, EXCLUDE 192.0.2.1"),
        (
            "Turn.example.org.",
            "2001:db8::1",
            "MAP turn.example.org [2001:db8::1], MAP * ~NOTFOUND, EXCLUDE [2001:db8::1]",
        ),
    ],
)
def test_only_the_turn_server_is_found(name, address, expected):
    assert _browser.rules((name, address)) == expected


def test_two_names_of_one_turn_server_are_found():
    servers = ("turn.example.org", "192.0.2.1"), ("turn443.example.org", "192.0.2.1")
    assert _browser.rules(*servers) == (
        "MAP turn.example.org 192.0.2.1, MAP turn443.example.org 192.0.2.1, MAP * ~NOTFOUND, EXCLUDE 192.0.2.1"
    )


def test_the_command():
    command = _browser.arguments("/opt/chromium", "/tmp/probe", "MAP * ~NOTFOUND", [""], False)
    assert (command[0], command[-1]) == ("/opt/chromium", "file:///tmp/probe/page.html")
    assert "--user-data-dir=/tmp/probe/profile" in command
    assert "--host-resolver-rules=MAP * ~NOTFOUND" in command
    assert "--remote-debugging-pipe" in command and "--no-proxy-server" in command
    assert not [word for word in command if "certificate" in word or "sandbox" in word]
    assert "--no-sandbox" in _browser.arguments("chromium", "/tmp/probe", "", [], True)
    assert "--ignore-certificate-errors-spki-list=abc=,def=" in _browser.arguments(
        "chromium", "/tmp/probe", "", ["abc=", "", "def=", "abc="], True
    )


def test_the_environment_keeps_files_in_the_folder():
    present = {
        "HOME": "/home/someone",
        "PATH": "/bin",
        "DISPLAY": ":0",
        "XDG_CACHE_HOME": "/home/someone/.cache",
        "SSLKEYLOGFILE": "/x",
    }
    found = _browser.environment("/tmp/probe", present)
    assert (found.pop("PATH"), set(found.values())) == ("/bin", {"/tmp/probe"})
    assert "DISPLAY" not in found and "SSLKEYLOGFILE" not in found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "without a word"),
        ("first\n\n  last  \n\n", "last"),
        ("reason\n[1:2:1124/1.2:ERROR:dbus/bus.cc:405] Failed to connect\n", "reason"),
        ("[12:34:1124/180000.123456:FATAL:zygote_host_impl_linux.cc(128)] No usable sandbox!\n", "No usable sandbox!"),
    ],
)
def test_last_words(text, expected):
    assert _browser.last_words(text) == expected


def run(*steps):
    """Run a coroutine function, or several one after the other, within a time."""

    async def all_of_them():
        for step in steps:
            await step()

    asyncio.run(asyncio.wait_for(all_of_them(), 90))


def program(folder: Path, text: str) -> str:
    path = folder / "browser"
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("echo warning >&2; echo 'cannot open display' >&2; exit 1", "it ended: cannot open display"),
        ("exit 0", "it ended: without a word"),
        ("exec 3<&- 4>&-; echo alive >&2; sleep 60", "it ended: alive"),
        ("sleep 60", "it did not answer Browser.getVersion within 0.5 seconds"),
    ],
)
def test_a_browser_that_does_not_start_says_why(tmp_path, monkeypatch, text, words):
    monkeypatch.setattr(_browser, "START_SECONDS", 0.5 if "answer" in words else 30)
    monkeypatch.setattr(_browser, "END_SECONDS", 0.5)

    async def start():
        with pytest.raises(_browser.BrowserError) as caught:
            async with _browser.Browser([program(tmp_path, text)], str(tmp_path)):
                pass
        assert str(caught.value) == words

    run(start)


def test_a_program_that_is_none_says_so(tmp_path):
    async def start():
        with pytest.raises(_browser.BrowserError, match=r"it ended: FileNotFoundError: .*No such file"):
            async with _browser.Browser([str(tmp_path / "nothing")], str(tmp_path)):
                pass

    run(start)


def test_the_key_of_a_server_is_told_only_when_its_certificate_holds(tmp_path):
    path = certificate(tmp_path, "turn.example.org")
    own = ssl.create_default_context(cafile=str(path))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path)

    async def serve():
        server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]

        def key(name, authorities):
            return asyncio.to_thread(_browser.checked_key, name, port, authorities)

        der = ssl.PEM_cert_to_DER_cert(path.read_text()[path.read_text().index("-----BEGIN CERT") :])
        assert await key("turn.example.org", own) == _browser.key_of(der)
        assert await key("other.example.org", own) == ""
        assert await key("turn.example.org", ssl.create_default_context()) == ""
        server.close()
        assert await key("turn.example.org", own) == ""

    with _signaling_client.pinned_names(dict.fromkeys(("turn.example.org", "other.example.org"), "127.0.0.1")):
        run(serve)


def test_a_key_is_named_as_chromium_does(tmp_path):
    # openssl x509 -pubkey | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64
    path = certificate(tmp_path, "turn.example.org")
    der = x509.load_pem_x509_certificate(path.read_bytes()).public_bytes(Encoding.DER)
    shell = (
        f"openssl x509 -in {path} -noout -pubkey | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary"
        " | base64"
    )
    assert _browser.key_of(der) == os.popen(shell).read().strip()


# --- what is offered, and what statistics say ---------------------------------------------------------------------

OFFER = "\r\n".join(
    [
        "v=0",
        "a=group:BUNDLE 0 1",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "a=mid:0",
        "a=ssrc:7 cname:c",
        "m=video 9 UDP/TLS/RTP/SAVPF 96 97",
        "a=mid:1",
        "a=ssrc-group:FID 11 12",
        "a=ssrc:11 cname:c",
        "a=ssrc:11 msid:s t",
        "a=ssrc:12 cname:c",
        "a=ssrc:12 msid:s t",
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
        "a=mid:2",
        "",
    ]
)


def test_the_camera_is_offered_in_three_layers():
    sdp, layers = _browser_call.with_layers(OFFER)
    assert layers[0] == 11 and len(set(layers)) == 3
    before, after = OFFER.split("m=video"), sdp.split("m=video")
    assert before[0] == after[0]
    video, _separator, data = after[1].partition("m=application")
    assert "m=application" + data == OFFER[OFFER.index("m=application") :]
    lines = video.splitlines()
    again = [int(line.split()[2]) for line in lines if line.startswith("a=ssrc-group:FID")]
    assert lines[1] == "a=mid:1"
    assert f"a=ssrc-group:SIM {' '.join(map(str, layers))}" in lines
    assert [line for line in lines if "FID" in line] == [
        f"a=ssrc-group:FID {one} {other}" for one, other in zip(layers, again)
    ]
    assert again[0] == 12 and len({*layers, *again}) == 6
    for source in [*layers, *again]:
        assert [line for line in lines if line.startswith(f"a=ssrc:{source} ")] == [
            f"a=ssrc:{source} cname:c",
            f"a=ssrc:{source} msid:s t",
        ]
    assert "\n" not in sdp.replace("\r\n", "")


def test_a_camera_without_sources_for_repeats_gets_none():
    offer = OFFER.replace("a=ssrc-group:FID 11 12\r\n", "").replace("a=ssrc:12 cname:c\r\na=ssrc:12 msid:s t\r\n", "")
    sdp, layers = _browser_call.with_layers(offer)
    assert "FID" not in sdp and sdp.count("a=ssrc:") == 1 + 2 * len(layers) == 7


def test_an_offer_without_a_camera_stays_as_it_is():
    offer = OFFER[: OFFER.index("m=video")]
    assert _browser_call.with_layers(offer) == (offer, [])


def outbound(ssrc, width, **given):
    size = {"frameWidth": width, "frameHeight": width * 9 // 16} if width else {}
    counts = {"packetsSent": 10, "bytesSent": 1000, "framesPerSecond": 20}
    return {"type": "outbound-rtp", "kind": "video", "ssrc": ssrc, **size, **counts, **given}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([outbound(3, 960), outbound(1, 240), outbound(2, 480)], {"low": 240, "medium": 480, "high": 960}),
        ([outbound(1, 240), outbound(2, 480), outbound(3, 0)], {"low": 240, "medium": 480}),
        ([outbound(1, 240), outbound(2, 480, active=False), outbound(3, 960, framesPerSecond=0)], {"low": 240}),
        ([outbound(1, 240, kind="audio"), {"type": "inbound-rtp", "kind": "video", "ssrc": 2}], {}),
    ],
)
def test_layers_that_are_sent(rows, expected):
    found = _browser_call.layers_of(rows, [1, 2, 3])
    assert {name: layer["width"] for name, layer in found.items()} == expected
    assert all((layer["packets"], layer["bytes"]) == (10, 1000) for layer in found.values())


@pytest.mark.parametrize(
    ("reasons", "expected"), [(["none"], ""), (["bandwidth", "cpu"], "cpu"), (["none", "bandwidth"], "bandwidth")]
)
def test_what_holds_a_publisher_back(reasons, expected):
    rows = [outbound(1, 240, qualityLimitationReason=reason) for reason in reasons]
    assert _browser_call.held_back(rows) == expected


STATS = [
    {"type": "transport", "id": "T", "selectedCandidatePairId": "P", "bytesReceived": 4000},
    {"type": "candidate-pair", "id": "other", "localCandidateId": "R", "remoteCandidateId": "L"},
    {
        "type": "candidate-pair",
        "id": "P",
        "localCandidateId": "L",
        "remoteCandidateId": "R",
        "currentRoundTripTime": 0.00123,
    },
    {
        "type": "local-candidate",
        "id": "L",
        "candidateType": "relay",
        "protocol": "udp",
        "address": "192.0.2.10",
        "port": 61000,
        "relayProtocol": "tls",
    },
    {
        "type": "remote-candidate",
        "id": "R",
        "candidateType": "host",
        "protocol": "udp",
        "address": "2001:db8::10",
        "port": 20000,
    },
    {"type": "codec", "id": "C", "mimeType": "video/VP8"},
    {
        "type": "inbound-rtp",
        "id": "V",
        "kind": "video",
        "codecId": "C",
        "packetsReceived": 90,
        "packetsLost": -1,
        "framesDecoded": 30,
        "frameWidth": 960,
        "frameHeight": 540,
    },
    {
        "type": "inbound-rtp",
        "id": "A",
        "kind": "audio",
        "packetsReceived": 150,
        "packetsLost": 2,
        "jitterBufferEmittedCount": 96000,
    },
]


def test_what_was_received():
    assert _browser_call.media_of(STATS) == {
        "video": {"received": 90, "lost": 0, "frames": 30},
        "audio": {"received": 150, "lost": 2, "frames": 100},
    }
    assert _browser_call.picture_of(STATS) == (960, 540, 30)
    assert _browser_call.codec_of(STATS) == "VP8"
    assert _browser_call.received_bytes(STATS) == 4000
    empty = ({}, (0, 0, 0), "", 0)
    assert (
        _browser_call.media_of([]),
        _browser_call.picture_of([]),
        _browser_call.codec_of([]),
        _browser_call.received_bytes([]),
    ) == empty


def test_the_pair_that_is_used():
    assert _browser_call.pair_of(STATS) == {
        "local": {"type": "relay", "protocol": "udp", "address": "192.0.2.10", "port": 61000},
        "remote": {"type": "host", "protocol": "udp", "address": "2001:db8::10", "port": 20000},
        "relay_protocol": "tls",
        "round_trip_seconds": 0.0012,
    }
    assert _browser_call.pair_of(STATS[1:]) == {}


@pytest.mark.parametrize(
    ("line", "words", "place"),
    [
        ("candidate:1 1 udp 100 192.0.2.10 20000 typ host", "host 192.0.2.10:20000", ("192.0.2.10", 20000)),
        ("candidate:1 1 udp 1 2001:db8::1 2 typ srflx raddr :: rport 0", "srflx [2001:db8::1]:2", ("2001:db8::1", 2)),
        ("", "", None),
        ("candidate:1 1 udp 100 192.0.2.10", "", None),
    ],
)
def test_candidates(line, words, place):
    assert _browser_call.candidate_words(line) == words
    assert _browser_call.candidates_in(f"v=0\r\na={line}\r\n") == ([words] if words else [])
    assert _browser_call.where([words] if words else []) == ([place] if place else [])


# --- one end of a call, with a page that answers as it is told ------------------------------------------------------

CANDIDATE = {"candidate": "candidate:1 1 udp 100 192.0.2.10 20000 typ host", "sdpMid": "0"}


class Session:
    """Takes what a peer tells, and gives it what the SFU would."""

    session_id = "me"

    def __init__(self):
        self.told = []
        self.inbox = asyncio.Queue()

    async def tell(self, _recipient, data):
        self.told.append((data["type"], data.get("payload")))

    async def next_data(self):
        return "sfu", await self.inbox.get()

    async def close(self):
        pass


class Page:
    """Keeps what is called; `answers` has what functions return, the last one of a list again and again."""

    def __init__(self, **answers):
        self.called = []
        self.answers = answers

    async def call(self, function, *values):
        self.called.append((function, *values[1:]))
        found = self.answers.get(function)
        if isinstance(found, list):
            found = found.pop(0) if len(found) > 1 else found[0]
        if isinstance(found, Exception):
            raise found
        return found


RELAY = _call.Relay("192.0.2.1", 3478, "udp", "name", PASSWORD)


def test_candidates_wait_for_descriptions():
    async def look():
        page, session = Page(take="answer", come=_browser.BrowserError("no")), Session()
        peer = _browser_call.Peer("publisher", session, page, None)
        session.inbox.put_nowait({"type": "candidate", "payload": {"candidate": CANDIDATE}})
        session.inbox.put_nowait({"type": "candidate", "payload": {"candidate": {"completed": True}}})
        session.inbox.put_nowait({"type": "answer", "sid": "7", "payload": {"type": "answer", "sdp": "v=0\r\n"}})
        payload = await _call.described(peer, "offer", 5)
        peer.told("candidate", CANDIDATE)
        assert (page.called, session.told, peer.sid) == ([], [], "7")
        # One that the browser does not take is no reason to stop.
        assert await peer.describe(payload) == "answer"
        assert page.called == [("take", "answer", "v=0\r\n"), ("come", CANDIDATE)]
        await peer.send_candidates()
        peer.told("candidate", CANDIDATE)
        session.inbox.put_nowait({"type": "candidate", "payload": {"candidate": CANDIDATE}})
        await asyncio.sleep(0.05)
        assert session.told == [("candidate", {"candidate": CANDIDATE})] * 2
        assert page.called[2:] == [("come", CANDIDATE)]
        assert (peer.local, peer.addresses()) == (["host 192.0.2.10:20000"] * 2, ["host 192.0.2.10:20000"])
        await peer.close()

    run(look)


@pytest.mark.parametrize(("found", "expected"), [([], "turn"), ([CANDIDATE], "publisher")])
def test_without_a_relay_address_nothing_is_waited_for(monkeypatch, found, expected):
    monkeypatch.setattr(_browser_call, "ICE_SECONDS", 5 if expected == "turn" else 0.1)

    async def look():
        page = Page(state={"ice": "checking", "connection": "new"})
        peer = _browser_call.Peer("publisher", Session(), page, RELAY)
        await peer.open()
        assert page.called == [
            (
                "open",
                [{"urls": "turn:192.0.2.1:3478?transport=udp", "username": "name", "credential": PASSWORD}],
                "relay",
            )
        ]
        for candidate in found:
            peer.told("candidate", candidate)
        peer.told("gathering", "complete")
        begun = time.monotonic()
        with pytest.raises(_call.CallFailed) as caught:
            await _browser_call._connect(peer, "publisher")
        assert (caught.value.stage, caught.value.evidence["ice"]) == (expected, "checking")
        assert time.monotonic() - begun < 2
        await peer.close()

    run(look)


def watched(width, frames):
    return [{"type": "inbound-rtp", "kind": "video", "frameWidth": width, "frameHeight": 1, "framesDecoded": frames}]


@pytest.mark.parametrize(
    ("seen", "rate", "came", "stopped"),
    [
        ([watched(960, 5), watched(240, 6), watched(240, 7)], 15, True, False),
        # The last picture of a stream that stopped.
        ([watched(960, 5), watched(240, 6)], 15, False, False),
        ([watched(960, 5), watched(960, 9)], 15, False, False),
        ([watched(960, 5), watched(960, 9)], 0, False, True),
    ],
)
def test_a_layer_has_come_when_its_picture_goes_on(monkeypatch, seen, rate, came, stopped):
    monkeypatch.setattr(_browser_call, "SWITCH_SECONDS", 0.3)
    monkeypatch.setattr(_browser_call, "PAUSE", 0.02)

    async def look():
        sent = [outbound(1, 240, frameHeight=1, framesPerSecond=rate), outbound(3, 960, frameHeight=1)]
        publisher = _browser_call.Peer("publisher", Session(), Page(look=sent), None)
        publisher.stats = lambda: asyncio.sleep(0, sent)
        session = Session()
        subscriber = _browser_call.Peer("subscriber", session, Page(look=list(seen)), None)
        found = await _browser_call.switch(publisher, subscriber, [1, 2, 3], "low")
        assert session.told == [("selectStream", {"substream": 0, "temporal": 2})]
        assert ("seconds" in found, found["width"]) == (came, seen[-1][0]["frameWidth"])
        assert found.get("stopped", False) == stopped
        await asyncio.gather(publisher.close(), subscriber.close())

    run(look)


# --- a real one ---------------------------------------------------------------------------------------------------

HAS_CHROMIUM = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no program chromium on this machine: install Debian's package chromium"
)


def needs_chromium(test):
    """Mark a test that starts the real program, which wants a whole processor."""
    return pytest.mark.long(HAS_CHROMIUM(test))


def command(folder: Path, name_rules: str = "MAP * ~NOTFOUND", key: str = "") -> list[str]:
    return _browser.arguments(str(CHROMIUM), str(folder), name_rules, [key], os.geteuid() == 0)


def processes_of(folder: Path) -> list[str]:
    """Return the commands of processes that were started for this folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if f"{folder}/profile" in line:
            found.append(line)
    return found


async def connect(page, names=("publisher", "subscriber")):
    """Let two connections of a page meet without an SFU; returns the sources of the first one's layers."""
    told = {name: [] for name in names}
    page.told = lambda message: told[message["name"]].append((message["kind"], message["data"]))
    await page.run(_browser_call.SCRIPT)
    for name in names:
        await page.call("open", name, [], "all")
    offer, sources = _browser_call.with_layers(
        await page.call("publish", names[0], _browser_call.WIDTH, _browser_call.HEIGHT)
    )
    await page.call("settle", names[0], offer)
    answer = await page.call("take", names[1], "offer", offer)
    await page.call("take", names[0], "answer", answer)
    end = time.monotonic() + 20
    while time.monotonic() < end and not [kind for kind, _data in told[names[1]] if kind == "picture"]:
        for one, other in (names, names[::-1]):
            for kind, data in told[one]:
                if kind == "candidate":
                    await page.call("come", other, data)
        await asyncio.sleep(0.2)
    return sources, told


@needs_chromium
def test_chromium_sends_the_camera_in_three_layers(tmp_path):
    async def look():
        async with _browser.Browser(command(tmp_path), str(tmp_path)) as browser:
            assert int(browser.version.partition(".")[0]) > 100
            page = await browser.page()
            sources, told = await connect(page)
            assert ("picture", True) in told["subscriber"]
            end = time.monotonic() + 30
            layers = {}
            while len(layers) < 3 and time.monotonic() < end:
                await asyncio.sleep(0.3)
                layers = _browser_call.layers_of(await page.call("look", "publisher"), sources)
            # A machine that is too busy makes all of them smaller.
            assert list(layers) == ["low", "medium", "high"]
            assert [4 * layers["low"]["width"], 2 * layers["medium"]["width"]] == [layers["high"]["width"]] * 2
            stats = await page.call("look", "subscriber")
            media = _browser_call.media_of(stats)
            assert min(media["audio"]["frames"], media["video"]["frames"]) > 0
            assert _browser_call.codec_of(stats) == "VP8"
            assert _browser_call.pair_of(stats)["local"]["type"] == "host"
            # Real addresses, none that only mDNS finds.
            assert not [data for kind, data in told["publisher"] if kind == "candidate" and ".local" in str(data)]
            with pytest.raises(_browser.BrowserError, match="TypeError"):
                await page.call("open", "third", [{"urls": 5, "credential": PASSWORD}, 7], "all")
            with pytest.raises(_browser.BrowserError, match="ReferenceError: nothing is not defined"):
                await page.run("nothing")
            assert PASSWORD not in str(processes_of(tmp_path))
            assert processes_of(tmp_path)

    run(look)
    end = time.monotonic() + 10
    while processes_of(tmp_path) and time.monotonic() < end:
        time.sleep(0.2)
    assert processes_of(tmp_path) == []


@needs_chromium
def test_chromium_reaches_no_name_but_those_it_is_given(tmp_path):
    """It looks two names up, of which only one is pinned to this machine, where a TURN server would be."""
    seen = []

    async def look():
        server = await asyncio.start_server(lambda _reader, writer: (seen.append(1), writer.close()), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        name_rules = _browser.rules(("turn.example.org", "127.0.0.1"))
        async with _browser.Browser(command(tmp_path, name_rules), str(tmp_path)) as browser:
            page = await browser.page()
            await page.run(_browser_call.SCRIPT)
            for name, expected in (("localhost", 0), ("turn.example.org", 1)):
                relay = [{"urls": f"turn:{name}:{port}?transport=tcp", "username": "a", "credential": PASSWORD}]
                await page.call("open", name, relay, "relay")
                await page.call("settle", name, await page.call("publish", name, 320, 180))
                end = time.monotonic() + 8
                while time.monotonic() < end and bool(seen) != bool(expected):
                    await asyncio.sleep(0.2)
                if not expected:
                    await asyncio.sleep(2)
                assert bool(seen) == bool(expected), name
        server.close()

    run(look)


@needs_chromium
@pytest.mark.parametrize(("told", "expected"), [(True, True), (False, False)])
def test_chromium_takes_the_certificate_whose_key_it_is_told(tmp_path, told, expected):
    """A TURN server over TLS, by a private authority: whether what TURN begins with comes through."""
    path = certificate(tmp_path, "turn.example.org")
    other = certificate(tmp_path, "other.example.org")
    key = _browser.key_of(
        x509.load_pem_x509_certificate((path if told else other).read_bytes()).public_bytes(Encoding.DER)
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path)
    came = threading.Event()

    async def serve(reader, writer):
        if await reader.read(20):
            came.set()
        writer.close()

    async def look():
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        name_rules = _browser.rules(("turn.example.org", "127.0.0.1"))
        async with _browser.Browser(command(tmp_path, name_rules, key), str(tmp_path)) as browser:
            page = await browser.page()
            await page.run(_browser_call.SCRIPT)
            relay = [{"urls": f"turns:turn.example.org:{port}?transport=tcp", "username": "a", "credential": "b"}]
            await page.call("open", "peer", relay, "relay")
            await page.call("settle", "peer", await page.call("publish", "peer", 320, 180))
            end = time.monotonic() + (8 if expected else 4)
            while time.monotonic() < end and not came.is_set():
                await asyncio.sleep(0.2)
        server.close()
        assert came.is_set() == expected

    run(look)
