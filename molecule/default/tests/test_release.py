# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is deployed is remembered with its versions, and the upgrade page compares it with the newest."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from conftest import BED, PROJECT, play, recap, started

RELEASES = yaml.safe_load((PROJECT / "roles/hpb/files/releases.yml").read_text(encoding="utf-8"))["releases"]


def test_the_release_and_what_was_in_force_are_remembered(hpb):
    release = json.loads(hpb.check_output("cat /opt/nextcloud-talk-hpb/deployed.json"))["release"]
    assert release["release"] == RELEASES[0]["name"]
    sources = BED["janus_sources"]
    assert release["versions"] == {
        **BED["versions"],
        **{name: one["version"] for name, one in sources.items()},
        "base": RELEASES[0]["images"]["base"],
    }
    assert release["checksums"] == {name: one["sha256"] for name, one in sources.items()}


def test_the_upgrade_page_compares_and_changes_nothing(hpb, tmp_path: Path):
    before = started(hpb)
    page = tmp_path / "upgrade.md"
    done = play("-e", f"hpb_upgrade_page={page}", playbook="playbooks/upgrade.yml")
    assert done.returncode == 0, done.stdout[-4000:]
    text = page.read_text(encoding="utf-8")
    newest = RELEASES[0]["images"]
    mine = BED["versions"]["signaling"]
    assert f"| signaling | {mine} | {mine} | {newest['signaling']} |" in text
    assert "hpb\\_signaling\\_version" in text
    assert "signaling server: everybody in a call joins again" in done.stdout
    assert "nextcloud_talk.hpb.site --check --diff" in done.stdout
    assert started(hpb) == before
    again = play("-e", f"hpb_upgrade_page={page}", playbook="playbooks/upgrade.yml")
    assert all(counts["changed"] == 0 for counts in recap(again.stdout).values())


def test_what_is_not_known_is_refused_before_anything_changes(hpb):
    before = started(hpb)
    done = play("-e", "hpb_release=2020.01")
    assert done.returncode != 0
    assert "hpb_release is '2020.01', which this collection does not know, expected one of " in done.stdout
    done = play("-e", "janus_version=9.9", "-e", "janus_sha256=")
    assert done.returncode != 0
    assert "janus_version is 9.9, of which this collection knows no checksum, expected janus_sha256" in done.stdout
    assert started(hpb) == before
