# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook logs against the real programs' logs."""

from __future__ import annotations

import asyncio

import pytest
from aioice import stun
from conftest import ADDRESS, play, secret_values
from test_turn import permission


def test_what_went_wrong_is_shown_without_secrets(secrets):
    with pytest.raises(stun.TransactionFailed):
        asyncio.run(permission(ADDRESS, "0" * 64))
    done = play("-e", "since=5m", playbook="playbooks/logs.yml")
    assert done.returncode == 0, done.stdout[-4000:]
    assert "coturn" in done.stdout and "401" in done.stdout, done.stdout[-4000:]
    for value in secret_values(secrets):
        assert value not in done.stdout


def test_one_instance_is_shown_alone(secrets):
    done = play("-e", "instance=nc", "-e", "all=true", "-e", "since=24h", playbook="playbooks/logs.yml")
    assert done.returncode == 0, done.stdout[-4000:]
    assert "dev.example.org" not in done.stdout and "test.example.org" not in done.stdout, done.stdout[-4000:]
    assert "nc.example.org" in done.stdout, done.stdout[-4000:]
    for value in secret_values(secrets):
        assert value not in done.stdout
