# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The old installation: that of the unit tests with a proxy of its own, whose ports ours takes over. As JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests/unit"))
from adopt_bed import FILES  # noqa: E402

EDGE = """services:
  edge:
    image: traefik:v3.4
    command: [--providers.docker, --entrypoints.websecure.address=:443]
    ports: ["443:443"]
    networks: [proxy]
"""

FILES_WITH_EDGE = {**FILES, "compose.yml": FILES["compose.yml"].replace("services:\n", EDGE, 1)}

if __name__ == "__main__":
    sys.stdout.write(json.dumps(FILES_WITH_EDGE))
