# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What PHP's own formats look like: config.php, `json_encode` and occ's plain lists."""

from __future__ import annotations

import json
import re
from typing import Any

_TOKEN = re.compile(
    r"""\s*(?:(?P<string>'(?:\\.|[^'\\])*')|(?P<number>-?\d+(?:\.\d+)?)|(?P<word>[A-Za-z]+)|(?P<sign>=>|[(),\[\];]))""",
    re.S,
)


def json_encode(value: Any, pretty: bool = False) -> str:
    """Encode as PHP does: slashes escaped, no spaces; `pretty` is JSON_PRETTY_PRINT with four spaces."""
    text = json.dumps(value, indent=4) if pretty else json.dumps(value, separators=(",", ":"))
    return text.replace("/", "\\/")


def plain_lines(items: Any, prefix: str) -> list[str]:
    """Return occ's plain form of a list or dict, as the Base command of Nextcloud prints it."""
    lines: list[str] = []
    pairs = items.items() if isinstance(items, dict) else enumerate(items)
    for key, item in pairs:
        if isinstance(item, (dict, list)):
            lines.append(f"{prefix}{key}:")
            lines += plain_lines(item, "  " + prefix)
        elif isinstance(key, int):
            lines.append(prefix + plain_value(item))
        elif item is None:
            lines.append(f"{prefix}{key}")
        else:
            lines.append(f"{prefix}{key}: {plain_value(item)}")
    return lines


def plain_value(item: Any) -> str:
    """Return one scalar as occ prints it: booleans as words, null as nothing."""
    if item is None:
        return ""
    if isinstance(item, bool):
        return "true" if item else "false"
    return str(item)


def read_config(text: str) -> dict[str, Any]:
    """Parse the `$CONFIG = array(...)` of a config.php: strings, numbers, booleans, null and nested arrays.

    Raises ValueError when the text is anything else.
    """
    start = text.find("$CONFIG")
    if start < 0:
        return {}
    tokens: list[str] = []
    position = text.index("=", start) + 1
    while position < len(text.rstrip()):
        match = _TOKEN.match(text, position)
        if not match:
            raise ValueError(f"config.php: unexpected text at character {position}")
        tokens.append(match.group().strip())
        position = match.end()
        if tokens[-1] == ";":
            break
    value, rest = _value(tokens)
    if rest != [";"]:
        raise ValueError("config.php: expected one array that ends with ';'")
    return value if isinstance(value, dict) else {str(index): item for index, item in enumerate(value)}


def _value(tokens: list[str]) -> tuple[Any, list[str]]:
    head, rest = tokens[0], tokens[1:]
    if head.startswith("'"):
        return re.sub(r"\\([\\'])", r"\1", head[1:-1]), rest
    if head[0].isdigit() or head[0] == "-":
        return (float(head) if "." in head else int(head)), rest
    lowered = head.lower()
    if lowered in ("true", "false", "null"):
        return {"true": True, "false": False, "null": None}[lowered], rest
    if lowered == "array" and rest[0] == "(":
        return _array(rest[1:], ")")
    if head == "[":
        return _array(rest, "]")
    raise ValueError(f"config.php: unexpected {head!r}")


def _array(tokens: list[str], end: str) -> tuple[Any, list[str]]:
    result: dict[Any, Any] = {}
    while tokens[0] != end:
        item, tokens = _value(tokens)
        if tokens[0] == "=>":
            key = item
            item, tokens = _value(tokens[1:])
        else:
            key = len(result)
        result[key] = item
        if tokens[0] == ",":
            tokens = tokens[1:]
    if result and list(result) == list(range(len(result))):
        return list(result.values()), tokens[1:]
    return result, tokens[1:]


def write_config(config: dict[str, Any]) -> str:
    """Return the text of a config.php, in the layout that Nextcloud itself writes."""
    return f"<?php\n$CONFIG = {_export(config, '')};\n"


def _export(value: Any, indent: str) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, (dict, list)):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        lines = [f"{indent}  {_export(key, '')} => {_export(item, indent + '  ')},\n" for key, item in pairs]
        return "array (\n" + "".join(lines) + indent + ")"
    escaped = str(value).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
