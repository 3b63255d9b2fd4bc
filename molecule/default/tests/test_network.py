# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be reached from outside the host of the backend, and what cannot."""

from __future__ import annotations

import asyncio
import http.client
import socket
import ssl

import event_door
import pytest
from conftest import ADDRESS


async def is_open(port: int, gate: asyncio.Semaphore) -> bool:
    async with gate:
        try:
            _reader, writer = await asyncio.wait_for(asyncio.open_connection(ADDRESS, port), 3)
        except (OSError, asyncio.TimeoutError):
            return False
        writer.close()
        return True


async def open_ports() -> list[int]:
    gate = asyncio.Semaphore(400)
    answers = await asyncio.gather(*(is_open(port, gate) for port in range(1, 65536)))
    return [port for port, answer in enumerate(answers, start=1) if answer]


def test_tcp_ports_from_outside():
    assert asyncio.run(open_ports()) == [80, 443, 3478]


def test_udp_sockets_that_others_can_reach(hpb):
    """Every UDP socket that is not bound to loopback is TURN's or in a media range."""
    ports = set()
    for line in hpb.check_output("ss -Hlun").splitlines():
        address, _colon, port = line.split()[3].rpartition(":")
        if not address.strip("[]").split("%")[0].startswith(("127.", "::1")):
            ports.add(int(port))
    assert 3478 in ports
    outside = {port for port in ports if port != 3478 and not 20000 <= port <= 29999 and not 61000 <= port <= 65535}
    assert outside == set()


@pytest.fixture(scope="module")
def authority(hpb, tmp_path_factory):
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    path.write_text(hpb.check_output("cat /opt/nextcloud-talk-hpb/ca/ca.pem"))
    return path


class Pinned(http.client.HTTPSConnection):
    """An HTTPS connection to the test host under a name that only the test network knows."""

    def connect(self):
        raw = socket.create_connection((ADDRESS, 443), 10)
        self.sock = self._context.wrap_socket(raw, server_hostname=self.host)


def status(authority, path: str, method: str = "GET", host: str = "talk.example.org") -> int:
    context = ssl.create_default_context(cafile=str(authority))
    connection = Pinned("talk.example.org", context=context)
    connection.request(method, path, headers={"Host": host})
    return connection.getresponse().status


def test_what_is_public(authority):
    assert status(authority, "/api/v1/welcome") == 200
    assert status(authority, "/api/v1/room/abc", "POST") in (400, 411, 415)
    assert status(authority, "/spreed") == 400


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/metrics",
        "/api/v1/stats",
        "/api/v1/serverinfo",
        "/turn/credentials?service=turn&api=x",
        "/debug/pprof/",
        "/api/v1/welcome/../stats",
        "/api/v1/room/../stats",
        "/api/v1/room/%2e%2e/stats",
        "/spreed/x",
        "/dashboard/",
        "/api/rawdata",
        "/ping",
    ],
)
def test_what_is_not_public(authority, path):
    assert status(authority, path) == 404


@pytest.mark.parametrize("spelling", event_door.SPELLINGS)
def test_events_of_janus_do_not_come_from_outside(authority, spelling):
    context = ssl.create_default_context(cafile=str(authority))
    assert event_door.ask(event_door.SPELLINGS[spelling], context) == "404"


def test_another_name_is_not_served(authority):
    assert status(authority, "/api/v1/welcome", host="other.example.org") == 404


def test_http_leads_to_https():
    connection = http.client.HTTPConnection(ADDRESS, 80, timeout=10)
    connection.request("GET", "/api/v1/welcome", headers={"Host": "talk.example.org"})
    answer = connection.getresponse()
    assert answer.status in (301, 308)
    assert answer.headers["Location"] == "https://talk.example.org/api/v1/welcome"
