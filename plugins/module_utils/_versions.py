# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place where versions are read and compared: of images, sources, servers, engines, Nextcloud and Talk.

A version begins with numbers: `2.1.1~docker`, `v3.7.15`, `4.18.0-r0`, `20.10.24+dfsg1`, `28.0.0-rc.1`. A word
(`latest`), a date, or a commit's hash, by which a signaling server calls itself that was built of a branch, does not
say what came before or after it: such a version is unknown, and an unknown one is never at least another.
"""

from __future__ import annotations

import re

# A commit's hash may begin with digits, and may be nothing but digits: a number alone is a version when it is short.
_NUMBERS = re.compile(r"v?([0-9]{1,9}(?:\.[0-9]{1,9})+|[0-9]{1,3}(?=$|[-+~_@ ]))")
_REVISION = re.compile(r"-r([0-9]{1,9})(?:[-@]|$)")
_TAG = re.compile(r"[A-Za-z0-9_.-]{1,128}(?:@sha256:[0-9a-f]{64})?")
_COMMIT = re.compile(r"[0-9a-f]{4,40}")

Order = tuple[tuple[int, ...], int]


def numbers(version: str) -> tuple[int, ...]:
    """Return the numbers that a version starts with, such as (2, 1, 1) for `v2.1.1~docker`; () for an unknown one."""
    match = _NUMBERS.match(version.strip())
    return tuple(int(number) for number in match.group(1).split(".")) if match else ()


def order(version: str) -> Order | None:
    """Return a key to sort versions by, that of an image's revision (`-r1`) included; None for an unknown one."""
    found = numbers(version)
    if not found:
        return None
    while found[1:] and found[-1] == 0:
        found = found[:-1]
    revision = _REVISION.search(version.strip())
    return found, int(revision.group(1)) if revision else 0


def at_least(version: str, wanted: str) -> bool:
    """Whether a version is `wanted` or newer; an unknown one is not."""
    mine, least = order(version), order(wanted)
    return mine is not None and least is not None and mine >= least


def named(version: str) -> str:
    """Return a version as people read it behind the name of a program: of an unknown one how it begins."""
    if numbers(version):
        return version
    beginning = "" if version.startswith("unknown") else version[:12]
    return f"({' '.join(['unknown version', *beginning.split()])})"


def is_tag(text: str) -> bool:
    """Whether a text is a version that an image can have as its tag, a digest behind it included."""
    return bool(numbers(text)) and _TAG.fullmatch(text) is not None


def is_source(text: str) -> bool:
    """Whether a text is a version that an archive of sources can have: numbers, or the commit that it was made of."""
    return is_tag(text) or _COMMIT.fullmatch(text) is not None
