# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file of releases that comes with the collection, for plugins that run on the controller."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

PATH = Path(__file__).resolve().parents[2] / "roles/hpb/files/releases.yml"


@lru_cache(maxsize=1)
def load() -> Mapping[str, Any]:
    """Return the parsed file; see there for its form."""
    return yaml.safe_load(PATH.read_text(encoding="utf-8"))
