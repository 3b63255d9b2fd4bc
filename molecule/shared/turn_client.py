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
from collections.abc import AsyncIterator, Iterable

from aioice import stun, turn

GRANTED = 200
UDP, TCP = 0x11000000, 0x06000000
FIRST_CHANNEL = 0x4000


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


async def ask(server: tuple[str, int], secret: str, peers: Iterable[str]) -> dict[str, int]:
    """Ask for a channel to port 9 of each peer; returns for each `GRANTED` or the error's code.

    A relay for IPv4 answers 443 (Peer Address Family Mismatch) for IPv6, 403 stands for a peer that is forbidden.
    """

    async def one(made: turn.TurnClientMixin, channel: int, peer: str) -> int:
        try:
            await made.channel_bind(channel, (peer, 9))
        except stun.TransactionFailed as error:
            return error.response.error_code
        return GRANTED

    asked = list(peers)
    async with client(server, secret) as made:
        await made.connect()
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
