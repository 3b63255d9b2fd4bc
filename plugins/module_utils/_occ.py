# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run Nextcloud's occ, wherever it is, and tell every way in which it can fail from the others.

`reach_from` chooses the way to occ from the module's options (`ARGUMENTS`). `Occ` runs a command through it and raises
an `OccError` whose text is one sentence; `Occ.alone` keeps everything else on this host from changing the same
Nextcloud.

occ prints secrets, so nothing that it prints reaches an error unless it is recognised as an error text, and known
secrets are masked in that.
"""

from __future__ import annotations

import contextlib
import html
import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _occ_lock, _occ_reach
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._occ_errors import (
    CommandFailed,
    DatabaseAway,
    Maintenance,
    NotConfirmed,
    NotInstalled,
    NotJson,
    OccError,
    OccNotFound,
    PhpFatal,
    StdinRefused,
    TalkDisabled,
    TalkMissing,
    TalkTooOld,
    TalkUnavailable,
    TimedOut,
    UpgradeNeeded,
    WrongPhp,
    WrongUser,
)
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._occ_reach import (
    ARGUMENTS,
    Reach,
    Result,
    no_occ,
    reach_from,
)

__all__ = ["ARGUMENTS", "MASK", "STDIN", "UPGRADE", "Occ", "OccError", "Result", "StdinRefused", "reach_from"]

MASK = "********"
TALK = "spreed"
STDIN = "php://stdin"
"""Standard input as a file name for occ, and the only one that works for every way to it.

PHP reads what is already open there. `/dev/stdin` it would open again, under the name of what is behind that link, and
a pipe, a socket or a file in memory has none (seen with PHP 8.2: "No such file or directory").
"""


class Occ:
    """Runs occ commands at one place."""

    def __init__(self, reach: Reach, secrets: tuple[str, ...] = ()) -> None:
        """`secrets` are masked wherever a part of occ's output is shown."""
        self.where = reach.where
        self._reach = reach
        self._secrets = tuple(secret for secret in secrets if secret)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep everything else on this host that does the same from changing this Nextcloud meanwhile.

        Raises `NotAlone` when that takes too long. Not to be nested.
        """
        with _occ_lock.alone(self._reach.place, self.where):
            yield

    def run(self, arguments: list[str], stdin: str | None = None, bare: bool = False) -> Result:
        """Run one command and return its result; every outcome but success raises an `OccError`.

        What is given as `stdin` is there under the name `STDIN`.
        With `bare`, a command of Nextcloud itself is fine although no apps are loaded (maintenance, upgrade needed).
        """
        try:
            result = self._reach.run(arguments, stdin)
        except subprocess.TimeoutExpired:
            # The exception holds the argument list, so it must not become part of any output.
            raise TimedOut(
                f"{self.where} did not end '{arguments[0]}' within {_occ_reach.TIMEOUT} s; "
                "run it by hand to see what it awaits."
            ) from None
        try:
            raise_for(result, self._reach, arguments[0], bare=bare, fed=stdin is not None, secrets=self._secrets)
        except TalkUnavailable as error:
            raise self._why_no_talk(error, arguments[0]) from None
        return result

    def _why_no_talk(self, unknown: TalkUnavailable, command: str) -> TalkUnavailable:
        """Return the error that says why there is no such command of Talk, or `unknown` when that does not come out."""
        try:
            apps = self.json(["app:list"])
        except OccError:
            return unknown
        # PHP writes an empty object as a list.
        enabled, disabled = (apps.get(key) or () if isinstance(apps, dict) else () for key in ("enabled", "disabled"))
        if TALK in enabled:
            return TalkTooOld(
                f"{self.where} knows no command '{command}', although Talk is enabled, because it is too old or failed "
                "to load; update it with 'occ app:update spreed', and see Nextcloud's log."
            )
        if TALK in disabled:
            return TalkDisabled(
                f"{self.where} belongs to a Nextcloud in which Talk is disabled; "
                "enable it with 'occ app:enable spreed'."
            )
        return (
            TalkMissing(f"{self.where} belongs to a Nextcloud without Talk; install it with 'occ app:install spreed'.")
            if enabled
            else unknown
        )

    def json(self, arguments: list[str], bare: bool = False) -> Any:
        """Run one command with JSON output and return the decoded answer. Raises `OccError`."""
        return self.answer(arguments, bare)[0]

    def answer(self, arguments: list[str], bare: bool = False) -> tuple[Any, Result]:
        """Do what `json` does, and return the raw result too, for what occ says beside the answer."""
        result = self.run([*arguments, "--output=json"], bare=bare)
        try:
            return decode(result.out), result
        except ValueError:
            # No `from`: the error would carry the whole output, secrets included.
            raise NotJson(
                f"{self.where} answered '{arguments[0]} --output=json' with something that is not JSON"
                f"{shown(result.out, self._secrets)}; run it by hand as the owner of config.php and mend what it says."
            ) from None


def decode(text: str) -> Any:
    """Return the JSON document that ends `text`; PHP and occ sometimes print warnings before it.

    Raises `ValueError` when there is none.
    """
    lines = text.splitlines(keepends=True)
    for index, line in enumerate(lines):
        if line.lstrip().startswith(("{", "[")):
            try:
                return json.loads("".join(lines[index:]))
            except ValueError:
                continue
    raise ValueError("no JSON document")


def shown(text: str, secrets: tuple[str, ...]) -> str:
    """Return the start of `text` for a message, `: ...`, as far as no secret can stand in it that we do not know.

    That is up to where data begins. What databases and Symfony write in brackets is none (`SQLSTATE[HY000] [2002]`).
    """
    lines = [plain(line) for line in text.splitlines()]
    line = " ".join(line for line in lines if line and not re.search(r"^talk:.*\[", line))
    data = DATA.search(line)
    line = line[: data.start()] if data else line
    for secret in secrets:
        line = line.replace(secret, MASK)
    line = LONG_WORD.sub(MASK, line)[:SHOWN].rstrip(". ;:,")
    return f": {line}" if line else ""


def plain(text: str) -> str:
    """Return a line without the marks of a web page, which some errors have although nobody sees them in one."""
    return " ".join(html.unescape(re.sub(r"</?[a-zA-Z][^<>]*>", " ", text)).split())


SHOWN = 300
"""Characters of occ's words that a message has at most."""
DATA = re.compile(r"\{|\bsecret\b[\"']?\s*[:=]|\[(?![\w\\. -]*\])", re.IGNORECASE)
LONG_WORD = re.compile(r"(?<![\w/\\.-])[A-Za-z0-9+=_-]{32,}(?![\w/\\.])")
"""What may be a secret although none is expected there; no path and no name of a class."""
PHP_VERSION = re.compile(
    r"requires at least PHP ?(?P<least>[\d.]*\d)|is not compatible with PHP ?>= ?(?P<below>[\d.]*\d)", re.IGNORECASE
)
PHP_RUNNING = re.compile(r"You are currently running (?:PHP )?(\d[\w.+~-]*\w)")
PHP_LACKS = re.compile(
    r"The (\w+) extensions? (?:is|are) required|PHP module ([\w ]+?) not installed|could not find driver"
)
DATABASE = re.compile(r"SQLSTATE\[|Failed to connect to the database|Doctrine\\DBAL\\Exception", re.IGNORECASE)
FATAL = re.compile(r"^(?:PHP )?(?:Fatal|Parse) error: .*|^An unhandled exception has been thrown:\s*.*", re.MULTILINE)
UPGRADE = "require upgrade"
"""Part of what occ prints on standard error when an upgrade waits."""
OWNER = re.compile(r"Owner id of config\.php: (\d+)")
NO_COMMAND = re.compile(r'There are no commands defined in the "talk[:"]|Command "talk:[\w:-]+" is not defined')
NO_CONTENT = re.compile(
    r"The file must contain a valid json array|file_get_contents\((?:php:/)?/(?:dev/)?stdin\)|open_basedir restriction"
)
"""What comes of it when nothing arrives at `config:import` (core/Command/Config/Import.php of Nextcloud)."""
ANSWERS = {"talk:active-calls": r"There are currently \d+ calls in progress with \d+ participants"}
"""What a command says although its exit code is not 0 (lib/Command/ActiveCalls.php of Talk); never translated."""
DONE = {
    "config:import": "Config successfully imported",
    "talk:signaling:add": r"Added\b",
    "talk:signaling:delete": r"Deleted\b|There is nothing to delete",
    "talk:stun:add": r"Added\b",
    "talk:stun:delete": r"Deleted\b|There is nothing to delete|You deleted all STUN servers",
    "talk:turn:add": r"Added\b",
    "talk:turn:delete": r"Deleted\b|There is nothing to delete",
}
"""How commands that change something say that it is done; none of these texts is ever translated."""


def _raise_for_php(text: str, reach: Reach) -> None:
    """Raise `WrongPhp` when Nextcloud says that the PHP is not one for it (lib/versioncheck.php, console.php)."""
    version, running = PHP_VERSION.search(text), PHP_RUNNING.search(text)
    if version:
        wanted = f"PHP {version['least']} or newer" if version["least"] else f"a PHP older than {version['below']}"
        found = f"PHP {running.group(1)}" if running else "another one"
        raise WrongPhp(f"{reach.where} wants {wanted}, but is run by {found}; {reach.hints.php}.")
    lacks = PHP_LACKS.search(text)
    # Without pcntl, which is also said to be required, occ works.
    if lacks and "control" not in (lacks.group(1) or ""):
        name = next((f"the extension {word}" for word in lacks.groups() if word), "the driver of its database")
        raise WrongPhp(
            f"{reach.where} is run by a PHP without {name}; install that for the command line as well, or "
            f"{reach.hints.php}."
        )


def raise_for(
    result: Result, reach: Reach, command: str, *, bare: bool = False, fed: bool = False, secrets: tuple[str, ...] = ()
) -> None:
    """Raise the `OccError` that `result` of the occ command `command` stands for; return when it is a success.

    `fed`: the command was given something by standard input. The texts are those of console.php, of Nextcloud's
    base.php and of its console application. An exit code of 0 proves nothing: a wrong user, for one, is answered with
    a sentence instead of JSON and exit code 0, and in the language of the Nextcloud.
    """
    out, err, where = result.out, result.err, reach.where
    if "Console has to be executed with the user that owns the file" in out + err:
        owner = OWNER.search(out + err)
        number = f", number {owner.group(1)}" if owner else ""
        raise WrongUser(f"{where} refused the user it was run as; {reach.hints.user}{number}.")
    if re.search(r'^Cannot write into "config" directory', out, re.MULTILINE):
        raise WrongUser(
            f"{where} cannot write into its config directory as the user it was run as; {reach.hints.user}, "
            "or make that directory writable for them."
        )
    if re.search(r"^Could not open input file", out, re.MULTILINE):
        raise OccNotFound(no_occ(reach))
    _raise_for_php(out + "\n" + err, reach)
    fatal = FATAL.search(out) or FATAL.search(err)
    if fatal and DATABASE.search(fatal.group(0)):
        raise DatabaseAway(
            f"{where} does not get into the database of this Nextcloud{shown(fatal.group(0), secrets)}; start the "
            "database, or see what config.php says of it (dbhost, dbuser)."
        )
    if fatal:
        raise PhpFatal(
            f"{where} was stopped by a PHP error at '{command}'{shown(fatal.group(0), secrets)}; "
            "mend this Nextcloud first, its log says more."
        )
    if "Nextcloud is not installed" in err:
        raise NotInstalled(f"{where} belongs to a Nextcloud that is not installed; finish its installation first.")
    answered = command in ANSWERS and re.search(ANSWERS[command], out) is not None
    failed = result.code != 0 and not answered
    if "is in maintenance mode" in err and (failed or not bare):
        raise Maintenance(
            f"{where} says that Nextcloud is in maintenance mode, in which Talk cannot be changed; "
            "end it with 'occ maintenance:mode --off' and run this again."
        )
    if UPGRADE in err and (failed or not bare):
        raise UpgradeNeeded(
            f"{where} says that Nextcloud or an app needs an upgrade, before which Talk cannot be changed; "
            "run 'occ upgrade' and then this again."
        )
    if NO_COMMAND.search(err):
        raise TalkUnavailable(
            f"{where} knows no command '{command}', because Talk is missing, disabled or too old in this Nextcloud; "
            "install it with 'occ app:install spreed', or enable it with 'occ app:enable spreed'."
        )
    if failed and fed and NO_CONTENT.search(out + err):
        raise StdinRefused(f"{where} got nothing by standard input at '{command}'; {reach.hints.stdin}.")
    if failed:
        raise CommandFailed(
            f"{where} refused '{command}' with exit code {result.code}{shown(err, secrets) or shown(out, secrets)}; "
            "run the command by hand to see more."
        )
    if command in DONE and not re.search(f"^(?:{DONE[command]})", out, re.MULTILINE):
        raise NotConfirmed(
            f"{where} ended '{command}' with success, but did not say that it was done{shown(out, secrets)}; "
            "run the command by hand, and mend what it says."
        )
