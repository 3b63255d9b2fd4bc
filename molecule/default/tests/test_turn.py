# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where TURN relays to. A permission is asked for; nothing is sent to the peers."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import time

import pytest
from aioice import stun, turn
from conftest import ADDRESS, BED


async def permission(peer: str, secret: str) -> int:
    """Ask for a channel to `peer`; returns 200 or the TURN error code."""
    username = f"{int(time.time()) + 600}:test"
    password = base64.b64encode(hmac.new(secret.encode(), username.encode(), hashlib.sha1).digest()).decode()
    server = (ADDRESS, 3478)
    transport, client = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: turn.TurnClientUdpProtocol(server, username, password, 600, 500), remote_addr=server
    )
    try:
        await client.connect()
        try:
            await client.channel_bind(0x4000, (peer, 9))
        except stun.TransactionFailed as error:
            return error.response.error_code
        return 200
    finally:
        await client.delete() if client.relayed_address else transport.close()


@pytest.mark.parametrize(
    "peer",
    [
        "127.0.0.1",
        "0.0.0.0",
        "169.254.169.254",
        "10.0.0.1",
        BED["subnet"].replace("0/24", "1"),
        BED["hosts"]["web"]["address"],
        "172.17.0.1",
        "172.17.0.2",
        "172.31.255.254",
        "192.168.1.1",
        "100.64.0.1",
        "198.18.0.1",
        "240.0.0.1",
    ],
)
def test_relaying_to_private_addresses_is_refused(peer, secrets):
    assert asyncio.run(permission(peer, secrets["instances"]["nc"]["turn"])) == 403


def test_relaying_to_janus_is_allowed(secrets):
    assert asyncio.run(permission(ADDRESS, secrets["instances"]["nc"]["turn"])) == 200


def test_every_instance_has_a_turn_secret_that_works(secrets):
    for name in ("nc", "dev_nc", "test_nc", "client", "nas"):
        assert asyncio.run(permission(ADDRESS, secrets["instances"][name]["turn"])) == 200, name


def test_an_unknown_turn_secret_is_refused():
    with pytest.raises(stun.TransactionFailed) as refused:
        asyncio.run(permission(ADDRESS, "0" * 64))
    assert refused.value.response.error_code == 401
