# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module unit_look as a real process."""

from __future__ import annotations

import module_process

OURS = "# Written by Ansible (nextcloud_talk.hpb.watch).\n[Service]\nExecStart=/usr/bin/python3 {}/watch/watch.py\n"
SERVICE, TIMER = "nextcloud-talk-hpb-watch.service", "nextcloud-talk-hpb-watch.timer"


def look(folder, units, check=False):
    options = {"units": units, "base_dir": "/opt/hpb/", "directory": str(folder)}
    result = module_process.run("unit_look", options, check)
    assert result["changed"] is False
    return result["ours"], result["problems"]


def test_whose_units_there_are(tmp_path):
    assert look(tmp_path, [SERVICE, TIMER]) == ([], [])
    (tmp_path / SERVICE).write_text(OURS.format("/opt/hpb"), encoding="utf-8")
    (tmp_path / TIMER).write_text(OURS.partition("\n")[0], encoding="utf-8")
    (tmp_path / "nextcloud-talk-hpb-turn-certificate.path").write_text("[Path]\n", encoding="utf-8")
    for check in (True, False):
        assert look(tmp_path, [SERVICE, TIMER], check) == ([SERVICE, TIMER], [])
    (tmp_path / SERVICE).write_text(OURS.format("/opt/other"), encoding="utf-8")
    ours, problems = look(tmp_path, [TIMER])
    assert ours == [] and problems == [
        f"The unit {tmp_path}/{TIMER} starts /opt/other/watch/watch.py, which another backend on this host has, not "
        "the one below /opt/hpb (hpb_base_dir), expected that name free for one of ours: take it away with that "
        "backend's inventory."
    ]
    (tmp_path / SERVICE).write_text("[Unit]\nDescription=\xe9\n", encoding="latin-1")
    assert look(tmp_path, [SERVICE, TIMER]) == (
        [TIMER],
        [
            f"The unit {tmp_path}/{SERVICE} was not written by this collection, expected that name free for one of "
            "ours: rename it."
        ],
    )
