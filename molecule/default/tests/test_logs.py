# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook logs against the real programs' logs."""

from __future__ import annotations

import socket
import ssl

from conftest import ADDRESS, play, secret_values
from websockets.sync.client import connect


def test_what_went_wrong_is_shown_without_secrets(hpb, secrets):
    context = ssl.create_default_context(cadata=hpb.check_output("cat /opt/nextcloud-talk-hpb/ca/ca.pem"))
    with connect(
        "wss://talk.example.org/spreed",
        sock=socket.create_connection((ADDRESS, 443), 10),
        ssl=context,
        server_hostname="talk.example.org",
    ) as client:
        client.recv(10)
        client.send("this is no message")
        assert "invalid_format" in client.recv(10)
    done = play("-e", "since=5m", playbook="playbooks/logs.yml")
    assert done.returncode == 0, done.stdout[-4000:]
    assert "Error decoding message" in done.stdout, done.stdout[-4000:]
    for value in secret_values(secrets):
        assert value not in done.stdout


def test_lines_of_other_instances_are_left_out(secrets):
    done = play("-e", "instance=nc", "-e", "all=true", playbook="playbooks/logs.yml")
    assert done.returncode == 0, done.stdout[-4000:]
    assert "signalling" in done.stdout
    assert "dev.example.org" not in done.stdout and "test.example.org" not in done.stdout, done.stdout[-4000:]
    for value in secret_values(secrets):
        assert value not in done.stdout
