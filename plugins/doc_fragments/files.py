# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that say what a configuration directory holds."""

from __future__ import annotations


class ModuleDocFragment:
    """Documentation shared by the modules that take the files of a directory."""

    DOCUMENTATION = r"""
options:
  files:
    description: The files.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name relative to the directory, with at most one subdirectory.
        type: str
        required: true
      content:
        description: The whole content, written as it is, in UTF-8.
        type: str
        required: true
      mode:
        description: Mode of the file, as four octal digits in quotes.
        type: str
        default: "0640"
      secret:
        description: Show nothing of the content in a difference, for example of a private key.
        type: bool
        default: false
  secrets:
    description: The secrets that contents hold. They are masked wherever they would be shown.
    type: list
    elements: str
    default: []
"""
