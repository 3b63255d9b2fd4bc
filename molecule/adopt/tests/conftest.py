# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is shown when a test has failed."""

from __future__ import annotations

import os
import subprocess

import pytest

NAME = os.environ.get("HPB_TEST_ENVIRONMENT") or "adopt"
# Ours, and the old ones that have their names.
SERVICES = ["hpb-nats", "hpb-janus", "hpb-coturn", "hpb-signalling", "hpb-traefik", "coturn", "signalling", "traefik"]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Print the containers' logs before a failure is reported."""
    outcome = yield
    report = outcome.get_result()
    if report.when == "call" and report.failed:
        for name in SERVICES:
            log = subprocess.run(
                ["docker", "exec", f"hpb-{NAME}-hpb", "docker", "logs", "--tail", "15", name],
                capture_output=True,
                text=True,
                check=False,
            )
            report.sections.append((f"log of {name}", log.stdout + log.stderr))
