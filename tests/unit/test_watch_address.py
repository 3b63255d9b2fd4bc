# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the watcher makes of the addresses of the host and of the name for TURN."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from watch_bed import Bed

PATH = Path(__file__).resolve().parents[2] / "roles/watch/files/watch.py"
HERE, NEW, HOME, HERE6, NEW6 = "192.0.2.10", "198.51.100.9", "10.0.0.5", "2001:db8:1::5", "2001:db8:2::5"
TURN = "turn.example.org"


@pytest.fixture(scope="module")
def watch():
    spec = importlib.util.spec_from_file_location("watch_of_the_role", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"listening-ip={HERE}\nlistening-ip={HERE6}\nlistening-port=3478\n", ([HERE, HERE6], "")),
        (f"fingerprint\nlistening-ip={HOME}\nexternal-ip={HERE}/{HOME}\n", ([HOME], HERE)),
        ("", ([], "")),
    ],
)
def test_what_is_deployed(watch, text, found):
    assert watch.announced(text) == found


@pytest.mark.parametrize(
    ("led", "listening", "public"),
    [
        ([HERE], [HERE], ""),
        ([HERE, HERE6], [HERE, HERE6], ""),
        ([HERE], [HOME], HERE),
        # What a name server of the LAN says, or the hosts file.
        ([HOME], [HOME], HERE),
        (["10.0.0.99"], [HOME], HERE),
        (["127.0.1.1"], [HERE], ""),
        (["100.64.3.4"], [HERE], ""),
        # Several ways lead here.
        ([NEW, HERE], [HOME], HERE),
        # A record of one family alone, or one that nothing is told of.
        ([HERE6], [HERE, HERE6], ""),
        ([HERE, NEW6], [HERE], ""),
        ([HERE, "fe80::1%eth0", "fd00::1"], [HERE, HERE6], ""),
        ([], [HERE], ""),
    ],
)
def test_no_alarm(watch, led, listening, public):
    assert watch.astray(TURN, led, listening, public) == ("", "")


@pytest.mark.parametrize(
    ("led", "listening", "public", "cause", "variable"),
    [
        ([NEW], [HOME], HERE, f"{TURN} leads to {NEW}, but calls are told to come to {HERE}.", f"hpb_public_ip: {NEW}"),
        ([NEW], [HERE], "", f"{TURN} leads to {NEW}, but calls are told to come to {HERE}.", f"hpb_media_ip: {NEW}"),
        ([HERE, NEW6], [HERE, HERE6], "", f"{TURN} leads to {NEW6}, but calls", f"hpb_media_ip6: {NEW6}"),
        ([HERE, NEW6], [HOME, HERE6], HERE, f"{TURN} leads to {NEW6}, but calls", f"hpb_media_ip6: {NEW6}"),
    ],
)
def test_an_address_that_changed(watch, led, listening, public, cause, variable):
    found, mend = watch.astray(TURN, led, listening, public)
    assert found.startswith(cause)
    assert f"set {variable} for the group hpb, if it is set there, and run the playbook" in mend
    assert f"else correct the DNS record of {TURN}" in mend


def test_own_addresses(watch):
    assert watch.has("127.0.0.1")
    assert not watch.has("192.0.2.1")


class TestProcess:
    @pytest.fixture
    def bed(self, tmp_path):
        bed = Bed(tmp_path)
        (tmp_path / "base/coturn/config").mkdir(parents=True)
        return bed

    def deploy(self, bed, text):
        (bed.folder / "base/coturn/config/turnserver.conf").write_text(text, encoding="utf-8")

    def test_a_lost_address_is_told_once(self, bed):
        self.deploy(bed, "listening-ip=127.0.0.1\n")
        assert bed.run() == []
        self.deploy(bed, "listening-ip=192.0.2.1\n")
        assert bed.run() == []
        assert bed.run() == [
            "<4>address failed: This host has no longer the address 192.0.2.1, at which STUN, TURN and media are. To "
            "mend "
            "it: correct hpb_media_ip for the group hpb, if it is set there, and run the playbook "
            "nextcloud_talk.hpb.site"
        ]
        assert bed.run() == []

    @pytest.mark.parametrize("name", ["no-such-name.invalid", "localhost", "talk.example.org"])
    def test_what_says_nothing_is_no_alarm(self, bed, name):
        """A name that does not resolve, one that leads to the machine itself, and one with a fixed address."""
        self.deploy(bed, "listening-ip=127.0.0.1\nexternal-ip=192.0.2.10/127.0.0.1\n")
        bed.config["turn"]["name"] = name
        for _period in range(3):
            assert bed.run() == []

    def test_private_networks_of_dockers_are_not_looked_at(self, bed):
        self.deploy(bed, "listening-ip=192.0.2.1\n")
        bed.config["own_network"] = False
        for _period in range(3):
            assert bed.run() == []
        assert bed.metric('hpb_watch_check_ok{check="address"}') is None
