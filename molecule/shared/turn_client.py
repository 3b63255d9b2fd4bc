# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A TURN client that asks and sends nothing: which peers a server relays to, and what it allocates (RFC 8656, 6062)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import time
from collections.abc import AsyncIterator, Iterable, Iterator

from aioice import stun, turn

GRANTED = 200
UDP, TCP = 0x11000000, 0x06000000
FIRST_CHANNEL = 0x4000
# The attribute by which a client asks for a relay of a family (RFC 8656, 14.7 in RFC 6156), which aioice does not know.
FAMILY_ATTRIBUTE = (0x0017, "REQUESTED-ADDRESS-FAMILY", stun.pack_unsigned, stun.unpack_unsigned)
FAMILIES = {"ipv4": 0x01000000, "ipv6": 0x02000000}


@contextlib.contextmanager
def relays_of(family: str) -> Iterator[None]:
    """Let all TURN clients of this process ask for relays of a family (ipv4, ipv6); "" leaves it to the server."""
    if not family:
        yield
        return
    number, name, *_functions = FAMILY_ATTRIBUTE
    stun.ATTRIBUTES_BY_NAME[name] = stun.ATTRIBUTES_BY_TYPE[number] = FAMILY_ATTRIBUTE
    usual = turn.TurnClientMixin.request_with_retry

    async def asking(self: turn.TurnClientMixin, request: stun.Message) -> tuple[stun.Message, tuple[str, int]]:
        if request.message_method == stun.Method.ALLOCATE:
            request.attributes[name] = FAMILIES[family]
        return await usual(self, request)

    turn.TurnClientMixin.request_with_retry = asking
    try:
        yield
    finally:
        turn.TurnClientMixin.request_with_retry = usual


@contextlib.asynccontextmanager
async def client(server: tuple[str, int], secret: str, udp: bool = True) -> AsyncIterator[turn.TurnClientMixin]:
    """Connect to a server (address, port) over udp or tcp with a time-limited credential made of `secret`."""
    username = f"{int(time.time()) + 600}:test"
    password = base64.b64encode(hmac.new(secret.encode(), username.encode(), hashlib.sha1).digest()).decode()
    kind = turn.TurnClientUdpProtocol if udp else turn.TurnClientTcpProtocol
    loop = asyncio.get_running_loop()

    def factory() -> turn.TurnClientMixin:
        return kind(server, username, password, 600, 500)

    if udp:
        transport, made = await loop.create_datagram_endpoint(factory, remote_addr=server)
    else:
        transport, made = await loop.create_connection(factory, *server)
    try:
        yield made
    finally:
        if made.relayed_address:
            await made.delete()
        else:
            transport.close()


async def ask(server: tuple[str, int], secret: str, peers: Iterable[str], family: str = "") -> dict[str, int]:
    """Ask for a channel to port 9 of each peer; returns for each `GRANTED` or the error's code.

    The relay is of the wanted family, else of the server's choice. One for IPv4 answers 443 (Peer Address Family
    Mismatch) for IPv6 and the other way round, 403 stands for a peer that is forbidden.
    """

    async def one(made: turn.TurnClientMixin, channel: int, peer: str) -> int:
        try:
            await made.channel_bind(channel, (peer, 9))
        except stun.TransactionFailed as error:
            return error.response.error_code
        return GRANTED

    asked = list(peers)
    async with client(server, secret) as made:
        with relays_of(family):
            relay, _port = await made.connect()
        assert not family or (":" in relay) == (family == "ipv6"), relay
        # One after the other, since an answer with a new nonce changes what the next request is made of.
        return {peer: await one(made, FIRST_CHANNEL + number, peer) for number, peer in enumerate(asked)}


async def allocate(server: tuple[str, int], secret: str, transport: int, udp: bool = True) -> int:
    """Ask for a relay by a transport (UDP or TCP), over a connection of udp or tcp; returns `GRANTED` or the code."""
    request = stun.Message(message_method=stun.Method.ALLOCATE, message_class=stun.Class.REQUEST)
    request.attributes["REQUESTED-TRANSPORT"] = transport
    async with client(server, secret, udp) as made:
        try:
            response, _address = await made.request_with_retry(request)
        except stun.TransactionFailed as error:
            return error.response.error_code
        made.relayed_address = response.attributes["XOR-RELAYED-ADDRESS"]
        return GRANTED
