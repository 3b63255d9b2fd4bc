# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sound and picture that are encoded once, and played over and over as RTP packets with the right timing.

A recording is a list of packets, each (seconds from its start, kind, marker, ticks from its start, payload), of which
the whole lasts `SECONDS`. It goes to other processes as JSON, see `packed`.
"""

from __future__ import annotations

import base64
import fractions
import os
import struct
from collections.abc import Iterable
from typing import Any

try:
    import av
except ImportError:  # The module says so before anything of this is used.
    av = None

SECONDS = 2
PICTURES_PER_SECOND = 25
WIDTH = 640
HEIGHT = 360
SOUND_BITRATE = 32000
SAMPLES = 960  # 20 ms at 48 kHz, which is one packet
RATES = {"audio": 48000, "video": 90000}
PAYLOAD_TYPES = {"audio": 111, "video": 96}
# Octets of a picture in one packet: with all headers, those of TURN included, it passes every usual line in one piece.
FRAGMENT = 1100
# Noise that an encoder spends all on that it may, up to 4 Mbit/s and beyond, and can do with as little as 0.1.
CONTRAST = 16

Packet = tuple[float, str, int, int, bytes]


def fragments(picture: bytes) -> list[bytes]:
    """Return an encoded VP8 picture as payloads, with the shortest descriptor (RFC 7741, 4.2)."""
    parts = [picture[start : start + FRAGMENT] for start in range(0, len(picture), FRAGMENT)]
    return [bytes([0x00 if index else 0x10]) + part for index, part in enumerate(parts)]


def recording(pictures: Iterable[bytes], sounds: Iterable[bytes]) -> list[Packet]:
    """Return encoded pictures and sounds as packets in the order in which they are due."""
    packets: list[Packet] = []
    for number, picture in enumerate(pictures):
        due = number / PICTURES_PER_SECOND
        parts = fragments(picture)
        ticks = number * RATES["video"] // PICTURES_PER_SECOND
        packets += [(due, "video", int(index == len(parts) - 1), ticks, part) for index, part in enumerate(parts)]
    for number, sound in enumerate(sounds):
        packets.append((number * SAMPLES / RATES["audio"], "audio", 0, number * SAMPLES, sound))
    return sorted(packets, key=lambda packet: packet[0])


def header(kind: str, marker: int, sequence: int, ticks: int, ssrc: int) -> bytes:
    """Return the header of an RTP packet (RFC 3550, 5.1) without extensions; all counters may be beyond their bits."""
    second = marker << 7 | PAYLOAD_TYPES[kind]
    return struct.pack("!BBHII", 0x80, second, sequence & 0xFFFF, ticks & 0xFFFFFFFF, ssrc)


def encode(bitrate: int) -> list[Packet]:
    """Return a recording of noise whose sound and picture have this bitrate (bit/s) together, or come near to it."""
    return recording(_pictures(bitrate - SOUND_BITRATE), _sounds())


def _pictures(bitrate: int) -> list[bytes]:
    codec = av.CodecContext.create("libvpx", "w")
    codec.width, codec.height, codec.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    codec.bit_rate = bitrate
    codec.time_base = fractions.Fraction(1, PICTURES_PER_SECOND)
    codec.framerate = fractions.Fraction(PICTURES_PER_SECOND, 1)
    codec.gop_size = SECONDS * PICTURES_PER_SECOND
    rates = {"minrate": str(bitrate), "maxrate": str(bitrate), "bufsize": str(bitrate // 2)}
    codec.options = {"deadline": "realtime", "cpu-used": "-8", "lag-in-frames": "0", **rates}
    greys = bytes(128 - CONTRAST + value * (2 * CONTRAST + 1) // 256 for value in range(256))
    encoded: list[bytes] = []
    for number in range(SECONDS * PICTURES_PER_SECOND):
        frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
        for index, plane in enumerate(frame.planes):
            size = plane.buffer_size
            plane.update(bytes([128]) * size if index else os.urandom(size).translate(greys))
        frame.pts = number
        frame.time_base = codec.time_base
        encoded += [bytes(packet) for packet in codec.encode(frame)]
    return encoded + [bytes(packet) for packet in codec.encode(None)]


def _sounds() -> list[bytes]:
    codec = av.CodecContext.create("libopus", "w")
    codec.bit_rate, codec.sample_rate, codec.format, codec.layout = SOUND_BITRATE, RATES["audio"], "s16", "mono"
    codec.time_base = fractions.Fraction(1, RATES["audio"])
    codec.options = {"application": "voip", "vbr": "off"}
    encoded: list[bytes] = []
    count = SECONDS * RATES["audio"] // SAMPLES
    for number in range(count):
        frame = av.AudioFrame(format="s16", layout="mono", samples=SAMPLES)
        frame.planes[0].update(os.urandom(frame.planes[0].buffer_size))
        frame.sample_rate = RATES["audio"]
        frame.pts = number * SAMPLES
        frame.time_base = codec.time_base
        encoded += [bytes(packet) for packet in codec.encode(frame)]
    # The encoder adds one for its delay at the end.
    return (encoded + [bytes(packet) for packet in codec.encode(None)])[:count]


def bits_per_second(packets: Iterable[Packet]) -> float:
    """Return the rate of a recording with its RTP headers."""
    return sum(len(packet[4]) + 12 for packet in packets) * 8 / SECONDS


def packed(packets: Iterable[Packet]) -> list[list[Any]]:
    """Return a recording as JSON can hold it."""
    return [[*packet[:4], base64.b64encode(packet[4]).decode()] for packet in packets]


def unpacked(data: Iterable[list[Any]]) -> list[Packet]:
    """Return the recording that `packed` made."""
    return [(due, kind, marker, ticks, base64.b64decode(payload)) for due, kind, marker, ticks, payload in data]
