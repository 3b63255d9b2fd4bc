# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line as Symfony's console parses it and reports its errors, for the few commands of the stand-in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable

from . import php

if TYPE_CHECKING:
    from .state import Instance

NONE, REQUIRED, OPTIONAL, NEGATABLE = "none", "required", "optional", "negatable"
LINE_WIDTH = 75  # a terminal of 80 columns less Symfony's margins


class ConsoleError(Exception):
    """A usage error: shown as a padded block, with the synopsis below it, exit code 1."""


class ThrownError(ConsoleError):
    """An exception out of a command: the block names the PHP file and line first."""

    def __init__(self, where: str, message: str) -> None:
        super().__init__(message)
        self.where = where


@dataclass(frozen=True)
class Argument:
    """One positional argument."""

    name: str
    required: bool = True
    array: bool = False
    default: Any = None


@dataclass(frozen=True)
class Option:
    """One option; `mode` says whether it takes a value."""

    name: str
    mode: str = NONE
    short: str = ""
    default: Any = None

    def synopsis(self) -> str:
        """Return its part of the synopsis."""
        value = {REQUIRED: f" {self.name.upper()}", OPTIONAL: f" [{self.name.upper()}]"}.get(self.mode, "")
        negation = f"|--no-{self.name}" if self.mode == NEGATABLE else ""
        return f"[{'-' + self.short + '|' if self.short else ''}--{self.name}{value}{negation}]"


OUTPUT = Option("output", OPTIONAL, default="plain")
GLOBALS = (
    Option("help", short="h"),
    Option("silent"),
    Option("quiet", short="q"),
    Option("verbose", short="v"),
    Option("version", short="V"),
    Option("ansi", NEGATABLE),
    Option("no-interaction", short="n"),
    Option("no-warnings"),
)


@dataclass
class Call:
    """One parsed command line and where its output goes."""

    instance: Instance
    arguments: dict[str, Any]
    options: dict[str, Any]
    given: set[str] = field(default_factory=set)
    out: list[str] = field(default_factory=list)
    err: list[str] = field(default_factory=list)

    def say(self, line: str) -> None:
        """Print one line to stdout."""
        self.out.append(line)

    def show(self, items: Any, prefix: str = "  - ", default: str = "plain") -> None:
        """Print a list or dict in the format that --output asks for."""
        form = self.options["output"] if "output" in self.given else default
        if form == "json":
            self.say(php.json_encode(items))
        elif form == "json_pretty":
            self.say(php.json_encode(items, pretty=True))
        else:
            self.out += php.plain_lines(items, prefix)

    def show_value(self, value: Any) -> None:
        """Print one value in the format that --output asks for."""
        if isinstance(value, (dict, list)):
            self.show(value)
        elif self.options.get("output") in ("json", "json_pretty"):
            self.say(php.json_encode(value))
        else:
            self.say(php.plain_value(value))


@dataclass(frozen=True)
class Command:
    """One command: what it takes, and the function that returns its exit code."""

    name: str
    run: Callable[[Call], int]
    arguments: tuple[Argument, ...] = ()
    options: tuple[Option, ...] = ()

    def synopsis(self) -> str:
        """Return the usage line."""
        parts = [self.name, *(option.synopsis() for option in self.options)]
        if self.options and self.arguments:
            parts.append("[--]")
        for argument in self.arguments:
            text = f"<{argument.name}>" + ("..." if argument.array else "")
            parts.append(text if argument.required else f"[{text}]")
        return " ".join(parts)

    def parse(self, instance: Instance, tokens: list[str]) -> Call:
        """Read the words after the command's name; raises ConsoleError."""
        options = {option.name: option for option in (*self.options, *GLOBALS)}
        values = {name: False if option.mode == NONE else option.default for name, option in options.items()}
        given: set[str] = set()
        words: list[str] = []
        tokens = list(tokens)
        only_words = False
        while tokens:
            token = tokens.pop(0)
            if only_words or token in ("", "-") or not token.startswith("-"):
                words.append(token)
            elif token == "--":
                only_words = True
            elif token.startswith("--"):
                name, separator, value = token[2:].partition("=")
                _long(options, values, given, tokens, name, value if separator else None)
            else:
                _short(options, values, given, tokens, token[1:])
        return Call(instance, self._assign(words), values, given)

    def _assign(self, words: list[str]) -> dict[str, Any]:
        values: dict[str, Any] = {argument.name: argument.default for argument in self.arguments}
        rest = list(words)
        filled: set[str] = set()
        for argument in self.arguments:
            if rest:
                filled.add(argument.name)
                values[argument.name] = rest if argument.array else rest.pop(0)
                rest = [] if argument.array else rest
        if rest and not self.arguments:
            raise ConsoleError(f'No arguments expected for "{self.name}" command, got "{rest[0]}".')
        if rest:
            names = '" "'.join(argument.name for argument in self.arguments)
            raise ConsoleError(f'Too many arguments to "{self.name}" command, expected arguments "{names}".')
        missing = [argument.name for argument in self.arguments if argument.required and argument.name not in filled]
        if missing:
            raise ConsoleError(f'Not enough arguments (missing: "{", ".join(missing)}").')
        return values


def _long(options: dict, values: dict, given: set[str], tokens: list[str], name: str, value: str | None) -> None:
    option = options.get(name)
    if option is None and name.startswith("no-") and options.get(name[3:], Option("")).mode == NEGATABLE:
        given.add(name[3:])
        values[name[3:]] = False
        return
    if option is None:
        raise ConsoleError(f'The "--{name}" option does not exist.')
    if option.mode in (NONE, NEGATABLE):
        if value is not None:
            raise ConsoleError(f'The "--{name}" option does not accept a value.')
        result: Any = True
    else:
        if value is None and tokens and (tokens[0] == "" or not tokens[0].startswith("-")):
            value = tokens.pop(0)
        if value is None and option.mode == REQUIRED:
            raise ConsoleError(f'The "--{name}" option requires a value.')
        result = value
    given.add(name)
    values[name] = result


def _short(options: dict, values: dict, given: set[str], tokens: list[str], letters: str) -> None:
    by_letter = {option.short: option for option in options.values() if option.short}
    for letter in letters:
        if letter not in by_letter:
            raise ConsoleError(f'The "-{letter}" option does not exist.')
        _long(options, values, given, tokens, by_letter[letter].name, None)


def error_lines(error: ConsoleError, synopsis: str | None) -> list[str]:
    """Return the lines that Symfony writes to stderr for an exception."""
    lines = []
    for line in str(error).strip().splitlines():
        lines += [line[start : start + LINE_WIDTH] for start in range(0, max(len(line), 1), LINE_WIDTH)]
    width = max(len(line) for line in lines)
    empty = " " * (width + 4)
    result = [""]
    if isinstance(error, ThrownError):
        result.append(f"In {error.where}:")
    result += [empty, *(f"  {line.ljust(width)}  " for line in lines), empty, ""]
    return [*result, synopsis, ""] if synopsis else result
