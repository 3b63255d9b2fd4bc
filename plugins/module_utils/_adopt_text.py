# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The languages of the files of a compose installation, as the programs that read them understand them.

Everything here is pure, and no message holds a value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ASSIGNMENT = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.-]*)[ \t]*[=:]")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$$"}


class TextError(ValueError):
    """The text cannot be understood; the message ends a sentence that starts with the file's name."""


def interpolate(text: str, values: Mapping[str, str], unset: MutableMapping[str, None] | None = None) -> str:
    """Return `text` with variables replaced as compose does it: $A, ${A}, ${A:-other}, ${A-other}, ${A:+other},
    ${A+other}, ${A:?message}, ${A?message}, and $$ for a dollar sign. What has no value is empty, and `unset` gets its
    name where nothing stands for it.

    Source: the Compose Specification, "Interpolation".
    """
    unset = {} if unset is None else unset
    result, position = [], 0
    while position < len(text):
        start = text.find("$", position)
        if start < 0:
            result.append(text[position:])
            break
        result.append(text[position:start])
        following = text[start + 1 : start + 2]
        if following == "$":
            result.append("$")
            position = start + 2
        elif following == "{":
            end = _closing(text, start + 2)
            result.append(_substitute(text[start + 2 : end], values, unset))
            position = end + 1
        else:
            name = _NAME.match(text, start + 1)
            result.append(_known(name.group(), values, unset) if name else "$")
            position = name.end() if name else start + 1
    return "".join(result)


def _closing(text: str, position: int) -> int:
    """Return where the brace is closed that stands open before `position`; raises TextError."""
    depth = 1
    for place in range(position, len(text)):
        if text[place] == "}":
            depth -= 1
            if depth == 0:
                return place
        elif text[place] == "{" and text[place - 1] == "$":
            depth += 1
    raise TextError("has ${ without a } after it, expected both: correct it")


def _known(name: str, values: Mapping[str, str], unset: MutableMapping[str, None]) -> str:
    if name not in values:
        unset[name] = None
    return values.get(name, "")


def _substitute(inside: str, values: Mapping[str, str], unset: MutableMapping[str, None]) -> str:
    """Return what stands for ${inside}."""
    name = _NAME.match(inside)
    if not name:
        raise TextError("has ${ without the name of a variable after it, expected one: correct it")
    found, rest = values.get(name.group()), inside[name.end() :]
    there = bool(found) if rest.startswith(":") else found is not None
    sign, other = rest.removeprefix(":")[:1], rest.removeprefix(":")[1:]
    if sign == "+":
        return interpolate(other, values, unset) if there else ""
    if sign == "-" and not there:
        return interpolate(other, values, unset)
    return _known(name.group(), values, unset)


@dataclass
class Environment:
    """What an env file says: the values, and the names of those written in quotes and with a comment behind."""

    values: dict[str, str] = field(default_factory=dict)
    quoted: list[str] = field(default_factory=list)
    commented: list[str] = field(default_factory=list)


def environment(text: str, known: Mapping[str, str]) -> Environment:
    """Return what an env file says, as compose reads it.

    known: variables that may be used in it beside those of its earlier lines, before which they win. Single quotes keep
    everything as it is, double quotes know \\n, \\t, \\", \\\\ and variables, and both may span lines; without quotes a
    # after a blank starts a comment. A name without = would come from the caller's environment, and is left out.

    Source: the Compose documentation, "Env file syntax".
    """
    found = Environment()
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    number = 0
    while number < len(lines):
        line, start = lines[number], number
        number += 1
        match = _ASSIGNMENT.match(line)
        if not match or line.lstrip().startswith("#"):
            continue
        name, value = match.group(1), line[match.end() :].lstrip(" \t")
        quote = value[:1]
        if quote in ("'", '"'):
            found.quoted.append(name)
            while (end := _end_of_quotes(value, quote)) < 0:
                if number >= len(lines):
                    raise TextError(
                        f"has a quote in line {start + 1} that is not closed, expected one more: correct it"
                    )
                value += "\n" + lines[number]
                number += 1
            if value[end + 1 :].strip().startswith("#"):
                found.commented.append(name)
            value = value[1:end]
            if quote == '"':
                value = re.sub(r"\\(.)", lambda pair: _ESCAPES.get(pair.group(1), pair.group()), value)
        else:
            comment = re.search(r"(?:^|[ \t])#", value)
            if comment:
                found.commented.append(name)
                value = value[: comment.start()]
            value = value.rstrip()
        found.values[name] = value if quote == "'" else interpolate(value, {**found.values, **known})
    return found


def _end_of_quotes(value: str, quote: str) -> int:
    """Return where the quotes end that `value` starts with, -1 when they do not."""
    position = 1
    while position < len(value):
        if quote == '"' and value[position] == "\\":
            position += 1
        elif value[position] == quote:
            return position
        position += 1
    return -1


def ini(text: str) -> dict[str, dict[str, str]]:
    """Return {section: {option: value}} of a server.conf as the signaling server reads it.

    Names are in lower case. = or : ends the option's name, whichever comes first; the last of several counts. A # or ;
    after a blank starts a comment, and so does `rem` at the beginning of a line. %(name)s is replaced; with a name that
    is not there the option counts as not set. Quotes are part of the value. A line without = and : goes on with the
    value before, blanks at the beginning mean nothing.

    Source: dlintw/goconf (read.go, get.go), which strukturag/nextcloud-spreed-signaling uses.
    """
    found: dict[str, dict[str, str]] = {"default": {}}
    section, option = "default", ""
    for line in text.removeprefix("\ufeff").splitlines():
        bare = line.strip()
        if not bare or bare[0] in "#;" or bare[:3].lower() == "rem":
            continue
        if bare.startswith("[") and bare.endswith("]"):
            section, option = bare[1:-1].strip().lower(), ""
            found.setdefault(section, {})
            continue
        match = re.match(r"([^=:]+)[=:](.*)", bare)
        if match:
            option = match.group(1).strip().lower()
            found[section][option] = _without_comment(match.group(2))
        elif option:
            found[section][option] = f"{found[section][option]}\n{_without_comment(bare)}"
        else:
            raise TextError(
                "has a line that is neither a [section] nor name = value, expected one of these: correct it"
            )
    for name, options in found.items():
        for key in list(options):
            value = _expanded(options[key], {**found["default"], **options})
            if value is None:
                del found[name][key]
            else:
                options[key] = value
    return found


def _without_comment(value: str) -> str:
    return re.split(r"[ \t][#;]", value, maxsplit=1)[0].strip()


def _expanded(value: str, options: Mapping[str, str], depth: int = 0) -> str | None:
    """Return the value with %(name)s replaced, None where a name is not there or leads in a circle."""
    for match in re.finditer(r"%\(([A-Za-z0-9_.-]+)\)s", value):
        inner = options.get(match.group(1).lower())
        inner = None if inner is None or depth > 20 else _expanded(inner, options, depth + 1)
        if inner is None:
            return None
        value = value.replace(match.group(), inner)
    return value


def turnserver(text: str) -> list[tuple[str, str]]:
    """Return the options of a turnserver.conf, in order and without dashes; those without a value have "".

    Source: coturn, README.turnserver: one option a line, # starts a comment line.
    """
    found = []
    for line in text.removeprefix("\ufeff").splitlines():
        bare = line.strip()
        if bare and bare[0] != "#":
            name, _sign, value = bare.lstrip("-").partition("=")
            found.append((name.strip(), value.strip().strip("\"'")))
    return found


def arguments(words: list[str], short: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the options among the words of a command line, as `turnserver` returns them.

    short: the long names of options of one letter; one that is not in it keeps its letter.
    """
    found: list[tuple[str, str]] = []
    waiting = False
    for word in words:
        if word.startswith("--"):
            name, sign, value = word[2:].partition("=")
            found.append((name, value))
            waiting = not sign
        elif re.fullmatch(r"-[A-Za-z].*", word):
            name, value = short.get(word[1], word[1]), word[2:].lstrip("=")
            found.append((name, value))
            waiting = not value
        elif waiting:
            found[-1] = (found[-1][0], word)
            waiting = False
    return found


def jcfg(text: str) -> dict[str, str]:
    """Return {option: value} of a janus.jcfg, without regard to its sections: the options looked for have one each.

    Source: libconfig's grammar; # and // start a comment.
    """
    found = {}
    for line in text.splitlines():
        bare = line.strip()
        match = re.match(r"([A-Za-z0-9_]+)\s*[=:]\s*(\"[^\"]*\"|[^\s;#]+)", bare)
        if match and not bare.startswith(("#", "//")):
            found[match.group(1)] = match.group(2).strip('"')
    return found
