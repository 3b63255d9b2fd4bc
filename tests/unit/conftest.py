# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Marks: `plays` for files whose tests run whole playbooks, `long` for tests that take minutes."""

from __future__ import annotations

import pytest

PLAYS = (
    "test_handover",
    "test_report_role",
    "test_rotate_playbook",
    "test_secrets_playbook",
    "test_talk_role",
    "test_verify_playbook",
    "test_watch_role",
)


def pytest_configure(config):
    """Name the marks; scripts/test chooses by them."""
    config.addinivalue_line("markers", "plays: runs whole playbooks, with the first environment only")
    config.addinivalue_line("markers", "long: takes minutes, with scripts/test long only")


def pytest_collection_modifyitems(items):
    """Mark the files that run playbooks."""
    for item in items:
        if item.path.stem in PLAYS:
            item.add_marker(pytest.mark.plays)
