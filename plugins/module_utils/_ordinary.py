# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines that look like trouble and that the programs write although all is well, each with the reason. Pure.

Each was seen in the log of a sound deployment whose calls all worked, and none of them tells anything that another line
or a verification would not. A pattern has to fit the whole line behind its time and level, so that whatever is said
beyond it, or otherwise, is shown. The test of the logs holds this list against the programs of the test bed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Ordinary:
    """A line of one of the containers.

    then: what must stand in one of the lines that follow, "" for nothing: without it the line is trouble that lasts.
    """

    containers: tuple[str, ...]
    line: str
    why: str
    then: str = ""


JANUS, SIGNALLING, TRAEFIK = ("janus",), ("signalling",), ("traefik",)
TURN = ("coturn", "coturn443")
ORDINARY = (
    Ordinary(
        JANUS,
        r"\[\d+\]\s+Hashing algorithm not the one we expected \(sha-\d+\), \*NOT\* cool",
        "A client offers its fingerprint in several forms, and Janus says this of each that it does not take.",
    ),
    Ordinary(
        JANUS,
        r"\[\d+\] Failed to add some remote candidates \(added \d+, expected \d+\)",
        "A client offers addresses that no server can use, names of mDNS among them; the others are tried.",
    ),
    Ordinary(
        JANUS,
        r"mDNS resolution disabled, \.local candidates will be ignored",
        "So it is configured: names that only hold in the client's LAN are not to be looked up here.",
    ),
    Ordinary(
        JANUS,
        r"Janus is deployed on a private address \(\S+\) but you didn't specify any STUN server! Expect trouble if "
        r"this is supposed to work over the internet and not just in a LAN\.\.\.",
        "The public address is configured where there is one, and the run checks it before it deploys.",
    ),
    Ordinary(
        JANUS,
        r"\[plugins/janus_videoroom\.c:janus_videoroom_handler:\d+\] No such feed \(\d+\)",
        "Somebody wants to see a stream that is just being set up; the signaling server asks again until it is there.",
    ),
    Ordinary(
        JANUS,
        r"\[WARN\]\s+Couldn't access logger plugins folder\.\.\.",
        "There are no such plugins in the image, and none is wanted.",
    ),
    Ordinary(
        JANUS,
        r"\[events/janus_wsevh\.c:\w+:\d+\] WebSocketsEventHandler: Error connecting to backend \(.*\) "
        r"\(next retry in \d+s\)",
        "Janus is there before the signaling server that takes its events, and while that one starts anew.",
        then=r"WebSocketsEventHandler connected",
    ),
    Ordinary(
        JANUS,
        r"\[ice\.c:janus_plugin_session_is_alive:\d+\] Invalid plugin session \(0x[0-9a-f]+\)",
        "A client has left while Janus was about to answer it.",
        then=r"Cannot push event \(handle not available anymore or negotiation stopped\)",
    ),
    Ordinary(
        JANUS,
        r"\[janus\.c:janus_plugin_handle_sdp:\d+\] \[\d+\]\s+Error setting ICE locally",
        "The same.",
        then=r"Cannot push event \(handle not available anymore or negotiation stopped\)",
    ),
    Ordinary(
        JANUS,
        r"\[janus\.c:janus_plugin_push_event:\d+\] \[\d+\]\s+Cannot push event "
        r"\(handle not available anymore or negotiation stopped\)",
        "The same.",
    ),
    Ordinary(
        TURN,
        r"(Certificate|Private key) file not found or not readable: //turn_server_(cert|pkey)\.pem",
        "The names that coturn looks for when it is given no certificate, which it needs for TLS only.",
    ),
    Ordinary(
        SIGNALLING,
        r"\S+\.go:\d+: WARNING: No GRPC server certificate and/or key configured, running unencrypted",
        "Said at each start, although a single server has no gRPC at all.",
    ),
    Ordinary(
        SIGNALLING,
        r"\S+\.go:\d+: WARNING: No GRPC CA configured, expecting unencrypted connections",
        "Said at each start and each reload, although a single server has no gRPC at all.",
    ),
    Ordinary(
        SIGNALLING,
        r"\S+\.go:\d+: Unable to deliver message .*(gone\?|detached)",
        "Said of calls that end, about Janus' parts of them that are gone already.",
    ),
    Ordinary(
        SIGNALLING,
        r"\S+\.go:\d+: Removed room session .*",
        "Said when somebody leaves; what the Nextcloud answered stands in it, whatever that is.",
    ),
    Ordinary(
        TRAEFIK,
        r"Traefik can reject some encoded characters in the request path\..*"
        r"#encoded-characters-configuration-default-values",
        "Said at each start, before Traefik has read its configuration.",
    ),
)


def ordinary(container: str, lines: Sequence[str]) -> list[bool]:
    """Return for each line of a container's log whether it is ordinary.

    lines: what stands behind time and level, in order of time.
    """
    mine = [(re.compile(one.line), one.then) for one in ORDINARY if container in one.containers]
    # Where what must follow stands for the last time; what needs nothing is followed by the end.
    last = {then: len(lines) for _line, then in mine}
    for then in filter(None, last):
        last[then] = max((place for place, line in enumerate(lines) if re.search(then, line)), default=-1)
    return [
        any(pattern.fullmatch(line) and place < last[then] for pattern, then in mine)
        for place, line in enumerate(lines)
    ]
