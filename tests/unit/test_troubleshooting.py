# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/troubleshooting.md holds what the doctor can say, all of it and nothing else, and its links lead somewhere."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _doctor

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / _doctor.GUIDE).read_text(encoding="utf-8")
SOURCES = ("_doctor.py", "_nextcloud_answer.py")
# Calls whose first argument is a code, and functions that return one as the first of three words.
CALLS = ("found", "blocked", "Word")
RETURNS = ("no_way",)


def words(node: ast.expr) -> set[str]:
    """Return the codes that an expression can be: text, a choice of texts, or the name of a program with an end."""
    if isinstance(node, ast.Constant):
        return {node.value} - {""}
    if isinstance(node, ast.IfExp):
        return words(node.body) | words(node.orelse)
    if isinstance(node, ast.JoinedStr):
        end = node.values[-1]
        assert isinstance(end, ast.Constant), ast.unparse(node)
        return {f"{name}{end.value}" for name in _doctor.PROGRAMS}
    # A variable holds what a call or a return elsewhere has named.
    assert ast.unparse(node) in ("cause", "word.cause"), ast.unparse(node)
    return set()


def codes() -> set[str]:
    """Return all codes in the sources."""
    found: set[str] = set()
    for name in SOURCES:
        tree = ast.parse((ROOT / "plugins/module_utils" / name).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and node.args:
                called = getattr(node.func, "attr", getattr(node.func, "id", ""))
                found |= words(node.args[0]) if called in CALLS else set()
            if isinstance(node, ast.FunctionDef) and node.name in RETURNS:
                for inner in ast.walk(node):
                    if isinstance(inner, ast.Return) and isinstance(inner.value, ast.Tuple):
                        found |= words(inner.value.elts[0])
    return found


def anchors(text: str) -> list[str]:
    """Return what a link into a page can lead to: its own anchors and its headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    slugs = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
    return re.findall(r'<a id="([^"]+)"></a>', text) + slugs


def test_every_code_has_its_line_and_there_is_no_other():
    there = re.findall(r'<a id="([^"]+)"></a>`([^`]+)`', PAGE)
    assert [place for place, code in there if place != code] == []
    listed = [code for _place, code in there]
    assert len(listed) == len(set(listed))
    assert set(listed) == codes()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)]+)\)", PAGE))))
def test_links_lead_somewhere(target):
    path, _hash, place = target.partition("#")
    file = (ROOT / "docs" / path) if path else ROOT / _doctor.GUIDE
    assert file.is_file()
    assert not place or place in anchors(file.read_text(encoding="utf-8"))


def test_a_finding_leads_to_its_line():
    finding = _doctor.Finding("brute-force", "nc", "hello", "way", "why", "mend")
    path, _hash, place = finding.plain()["more"].partition("#")
    assert path == "docs/troubleshooting.md" and place in anchors(PAGE)


@pytest.mark.parametrize(
    ("words_there", "source"),
    [
        ("Talk has no signaling server", "plugins/module_utils/_setup_check.py"),
        ("Talk's two signaling keys do not belong together", "plugins/module_utils/_setup_check.py"),
        ("this host is itself a container", "plugins/module_utils/_engine.py"),
        ("does not get into the database of this Nextcloud", "plugins/module_utils/_occ.py"),
    ],
)
def test_what_the_page_quotes_is_said(words_there, source):
    """What is quoted begins some sentence, perhaps with another letter."""
    assert words_there in PAGE
    assert words_there.lower() in (ROOT / source).read_text(encoding="utf-8").lower()
