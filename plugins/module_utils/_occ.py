# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run Nextcloud's occ, wherever it is, and tell every way in which it can fail from the others.

A reach knows how occ is started in one kind of place (`HostPath`, `InContainer`); `reach_from` chooses it from the
module's options. `Occ` runs a command through a reach and raises an `OccError` whose text is one sentence.

occ prints secrets, so nothing that it prints reaches an error unless it is recognised as an error text, and known
secrets are masked in that.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pwd
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

ARGUMENTS: dict[str, dict[str, Any]] = {
    "occ": {"type": "str"},
    "php": {"type": "str", "default": "php"},
    "user": {"type": "str"},
    "container": {"type": "str"},
    "container_engine": {"type": "str", "default": "docker"},
}
HOST_OCC = "/var/www/nextcloud/occ"
CONTAINER_OCC = "/var/www/html/occ"
TIMEOUT = 300
"""Seconds that one occ command may take."""

MASK = "********"


class OccError(Exception):
    """occ could not be run, or did not do what it was asked to. The text is one sentence for the user."""


class OccNotFound(OccError):
    """There is no occ at the given path."""


class PhpNotFound(OccError):
    """There is no such php."""


class EngineUnavailable(OccError):
    """The container engine is not installed or does not answer."""


class ContainerNotFound(OccError):
    """The engine knows no such container."""


class ContainerNotRunning(OccError):
    """The container is there but stopped, paused or restarting."""


class PermissionRefused(OccError):
    """The user of the task may not do this."""


class UserUnknown(OccError):
    """The user that occ should run as does not exist."""


class WrongUser(OccError):
    """occ ran, or would have run, as a user who does not own config.php."""


class NotInstalled(OccError):
    """This Nextcloud was never set up."""


class Maintenance(OccError):
    """Maintenance mode is on, so that no app is loaded."""


class UpgradeNeeded(OccError):
    """Nextcloud or an app waits for its upgrade, so that no app is loaded."""


class TalkUnavailable(OccError):
    """Talk is missing or disabled."""


class PhpFatal(OccError):
    """PHP stopped with an error."""


class NotJson(OccError):
    """The answer should have been JSON and is not."""


class CommandFailed(OccError):
    """occ refused the command for a reason that is not one of the others."""


class TimedOut(OccError):
    """occ did not end in time."""


class StdinRefused(OccError):
    """config:import could not read standard input."""


class Busy(OccError):
    """Another process on this host holds the lock."""


class ProgramMissing(Exception):
    """The program at the head of the argument list does not exist (turned into an `OccError` by a reach)."""


@dataclass(frozen=True)
class Result:
    """What a process left behind: its exit code and its decoded output."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Account:
    """A user to run a process as."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    name: str
    home: str


def execute(argv: list[str], stdin: str | None = None, account: Account | None = None) -> Result:
    """Run `argv` without a shell, as `account` if given, and return the result whatever the exit code is.

    Raises `ProgramMissing`, `OSError` when the program cannot be executed, or `subprocess.TimeoutExpired` after
    `TIMEOUT` seconds.
    """
    identity: dict[str, Any] = {}
    if account is not None:
        environment = {**os.environ, "HOME": account.home, "USER": account.name, "LOGNAME": account.name}
        identity = {"user": account.uid, "group": account.gid, "extra_groups": account.groups, "env": environment}
    source = memory_file(stdin or "", account)
    try:
        done = subprocess.run(
            argv, stdin=source, capture_output=True, check=False, cwd="/", timeout=TIMEOUT, **identity
        )
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ProgramMissing(argv[0]) from error
    finally:
        os.close(source)
    return Result(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def memory_file(text: str, account: Account | None) -> int:
    """Return the descriptor of a file that exists in memory only, holds `text` and belongs to `account`.

    As standard input it can be opened again as `/dev/stdin`, which a pipe made by root cannot for another user.
    """
    descriptor = os.memfd_create("stdin")
    with os.fdopen(descriptor, "wb", closefd=False) as file:
        file.write(text.encode())
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.fchmod(descriptor, 0o600)
    if account is not None:
        os.fchown(descriptor, account.uid, account.gid)
    return descriptor


class Reach(Protocol):
    """One way to start occ. A further way (snap, kubectl, any prefix) is one more class with these members."""

    @property
    def where(self) -> str:
        """Name of this occ for messages, such as `occ /srv/occ in the container app`."""

    def run(self, arguments: list[str], stdin: str | None) -> Result:
        """Start occ with `arguments`. Raises `OccError` when it could not even be started."""


@dataclass
class HostPath:
    """occ as a path on this host, run as the owner of config.php (or as `user`)."""

    occ: str
    php: str
    user: str | None
    _account: Account | None = None
    _resolved: bool = False

    @property
    def where(self) -> str:
        """Name of this occ for messages."""
        return f"occ {self.occ} on this host"

    def run(self, arguments: list[str], stdin: str | None) -> Result:
        """Start occ, after finding out once who must run it."""
        if not self._resolved:
            self._account = self._find_account()
            self._resolved = True
        if shutil.which(self.php) is None:
            raise PhpNotFound(no_php(self.where, self.php))
        try:
            return execute([self.php, self.occ, *arguments], stdin, self._account)
        except ProgramMissing as error:
            raise PhpNotFound(no_php(self.where, self.php)) from error
        except OSError as error:
            raise PermissionRefused(
                f"{self.where} needs {self.php}, which its user may not execute; make it executable for "
                f"{self._account.name if self._account else 'them'}, or set php (talk_php in the inventory) to another."
            ) from error

    def _find_account(self) -> Account | None:
        """Return whom to switch to, or None when the task already runs as the right user."""
        owner = self._owner()
        account = find_account(self.user, self.where) if self.user else account_of(owner.st_uid, owner.st_gid)
        me = os.geteuid()
        if account.uid == me:
            return None
        if me != 0:
            raise WrongUser(
                f"{self.where} must run as {account.name}, the owner of config/config.php, but this task runs as "
                f"{account_of(me, os.getegid()).name}; set become to true, or become_user to {account.name}."
            )
        return account

    def _owner(self) -> os.stat_result:
        """Return the owner of config.php, or of occ itself when this Nextcloud has no config.php."""
        try:
            if not Path(self.occ).is_file():
                raise OccNotFound(no_occ(self.where))
            try:
                return (Path(self.occ).parent / "config" / "config.php").stat()
            except FileNotFoundError:
                return Path(self.occ).stat()
        except PermissionError as error:
            raise PermissionRefused(
                f"{self.where} may not be read by the user of this task; set become to true, so that it can be run "
                "as the owner of config/config.php."
            ) from error


@dataclass
class InContainer:
    """occ inside a running container, run by the engine as the owner of config.php (or as `user`)."""

    engine: str
    container: str
    occ: str
    php: str
    user: str | None

    @property
    def where(self) -> str:
        """Name of this occ for messages."""
        return f"occ {self.occ} in the container {self.container}"

    def run(self, arguments: list[str], stdin: str | None) -> Result:
        """Start occ, after finding out once who must run it."""
        if self.user is None:
            self.user = self._find_owner()
        result = self._exec(["-u", self.user, self.container, self.php, self.occ, *arguments], stdin)
        if result.code in (126, 127):
            raise PhpNotFound(no_php(self.where, self.php))
        return result

    def _find_owner(self) -> str:
        """Return the number of the user who owns config.php, or occ when there is no config.php."""
        config = str(Path(self.occ).parent / "config" / "config.php")
        result = self._exec([self.container, "stat", "-L", "-c", "%u %n", config, self.occ], None)
        owners = {path: uid for uid, _space, path in (line.partition(" ") for line in result.out.splitlines())}
        if self.occ not in owners:
            raise OccNotFound(no_occ(self.where))
        return owners.get(config, owners[self.occ])

    def _exec(self, arguments: list[str], stdin: str | None) -> Result:
        """Run `<engine> exec` and raise what the engine itself complains about."""
        interactive = [] if stdin is None else ["-i"]
        try:
            result = execute([self.engine, "exec", *interactive, *arguments], stdin)
        except ProgramMissing as error:
            raise EngineUnavailable(
                f"{self.where} needs the program {self.engine}, which is not on this host; install it, or set "
                "container_engine (talk_container_engine in the inventory) to the one that runs the container."
            ) from error
        except OSError as error:
            raise PermissionRefused(
                f"{self.where} needs {self.engine}, which the user of this task may not execute; set become to true."
            ) from error
        self._raise_engine_error(result)
        return result

    def _raise_engine_error(self, result: Result) -> None:
        if result.code == 0:
            return
        text = result.err.lower()
        look = f"look at '{self.engine} ps -a' on this host"
        if "permission denied" in text and ("socket" in text or "docker api" in text):
            raise PermissionRefused(
                f"{self.where} cannot be reached, because the user of this task may not use {self.engine}; "
                "set become to true."
            )
        if "cannot connect to the docker daemon" in text or "failed to connect to the docker api" in text:
            raise EngineUnavailable(
                f"{self.where} cannot be reached, because {self.engine} does not answer on this host; start it."
            )
        if "no such container" in text or "no container with name" in text:
            raise ContainerNotFound(
                f"{self.where} cannot be reached, because {self.engine} on this host has no container of this name; "
                f"set container (talk_container in the inventory) to the right one, {look}."
            )
        if re.search(r"is not running|is paused|is restarting|container state improper", text):
            raise ContainerNotRunning(
                f"{self.where} cannot be reached, because this container is not running; start it, {look}."
            )
        if "unable to find user" in text or "no matching entries in passwd" in text:
            raise UserUnknown(
                f"{self.where} should run as {self.user}, who does not exist there; "
                "remove user (talk_occ_user in the inventory), so that the owner of config.php is taken."
            )


def no_occ(where: str) -> str:
    """Return the sentence for an occ that is not there."""
    return f"{where} does not exist; set occ (talk_occ in the inventory) to the path of the occ file of this Nextcloud."


def no_php(where: str, php: str) -> str:
    """Return the sentence for a php that is not there."""
    return (
        f"{where} needs the program {php}, which is not there; set php (talk_php in the inventory) to the path of PHP."
    )


def find_account(user: str, where: str) -> Account:
    """Return the account of `user` (a name or a number). Raises `UserUnknown`."""
    if user.isdigit():
        return account_of(int(user), int(user))
    try:
        entry = pwd.getpwnam(user)
    except KeyError as error:
        raise UserUnknown(
            f"{where} should run as {user}, who does not exist there; "
            "remove user (talk_occ_user in the inventory), so that the owner of config.php is taken."
        ) from error
    return account_of(entry.pw_uid, entry.pw_gid)


def account_of(uid: int, gid: int) -> Account:
    """Return the account with the number `uid`; `gid` is its group when the user database does not know it."""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return Account(uid, gid, (gid,), str(uid), "/")
    groups = tuple(os.getgrouplist(entry.pw_name, entry.pw_gid))
    return Account(uid, entry.pw_gid, groups, entry.pw_name, entry.pw_dir)


def reach_from(options: dict[str, Any]) -> Reach:
    """Return the way to occ that the module options (`ARGUMENTS`) name. Raises `OccError` for a path that is none."""
    occ = options["occ"] or (CONTAINER_OCC if options["container"] else HOST_OCC)
    if not occ.startswith("/"):
        raise OccNotFound(f"occ is {occ}, but an absolute path was expected; set occ (talk_occ) to one.")
    if options["container"]:
        return InContainer(options["container_engine"], options["container"], occ, options["php"], options["user"])
    return HostPath(occ, options["php"], options["user"])


class Occ:
    """Runs occ commands at one place."""

    def __init__(self, reach: Reach, secrets: tuple[str, ...] = ()) -> None:
        """`secrets` are masked wherever a part of occ's output is shown."""
        self.where = reach.where
        self._reach = reach
        self._secrets = tuple(secret for secret in secrets if secret)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the lock of this host on this occ. Raises `Busy` after 120 s."""
        name = hashlib.sha256(self.where.encode()).hexdigest()[:16]
        descriptor = os.open(Path(tempfile.gettempdir()) / f"nextcloud_talk_hpb-{name}", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            until = time.monotonic() + 120
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > until:
                        raise Busy(f"{self.where} is used by another process; run this again.") from None
                    time.sleep(0.1)
            yield
        finally:
            os.close(descriptor)

    def run(self, arguments: list[str], stdin: str | None = None, bare: bool = False) -> Result:
        """Run one command and return its result; every outcome but success raises an `OccError`.

        With `bare`, a command of Nextcloud itself is fine although no apps are loaded (maintenance, upgrade needed).
        """
        try:
            result = self._reach.run(arguments, stdin)
        except subprocess.TimeoutExpired:
            # The exception holds the argument list, so it must not become part of any output.
            raise TimedOut(
                f"{self.where} did not end '{arguments[0]}' within {TIMEOUT} s; run it by hand to see what it awaits."
            ) from None
        raise_for(result, self.where, arguments[0], bare, self._secrets)
        return result

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
    """Return the start of `text` for a message, `: ...`, or nothing when it could hold a secret that we do not know."""
    words = [line.strip() for line in text.splitlines() if line.strip() and not re.search(r"^talk:.*\[", line.strip())]
    line = " ".join(words)
    if not line or "{" in line or "[" in line or "secret:" in line:
        return ""
    for secret in secrets:
        line = line.replace(secret, MASK)
    return f": {line[:200].rstrip('. ')}"


FATAL = re.compile(r"^(?:PHP )?(?:Fatal|Parse) error: .*|^An unhandled exception has been thrown:\s*.*", re.MULTILINE)
UPGRADE = "require upgrade"
"""Part of what occ prints on standard error when an upgrade waits."""
OWNER = re.compile(r"Owner id of config\.php: (\d+)")


def raise_for(result: Result, where: str, command: str, bare: bool, secrets: tuple[str, ...]) -> None:
    """Raise the `OccError` that `result` of the occ command `command` stands for; return when it is a success.

    The texts are those of console.php, of Nextcloud's base.php and of its console application. An exit code of 0
    proves nothing: a wrong user, for one, is answered with a sentence instead of JSON and exit code 0.
    """
    out, err = result.out, result.err
    if "Console has to be executed with the user that owns the file" in out + err:
        owner = OWNER.search(out + err)
        raise WrongUser(
            f"{where} refused the user it was run as; set user (talk_occ_user in the inventory) to the owner of "
            f"config/config.php{f', number {owner.group(1)}' if owner else ''}."
        )
    if re.search(r'^Cannot write into "config" directory', out, re.MULTILINE):
        raise WrongUser(
            f"{where} cannot write into its config directory as the user it was run as; set user (talk_occ_user in the "
            "inventory) to the owner of config/config.php, or make that directory writable for them."
        )
    if re.search(r"^Could not open input file", out, re.MULTILINE):
        raise OccNotFound(no_occ(where))
    fatal = FATAL.search(out) or FATAL.search(err)
    if fatal:
        raise PhpFatal(
            f"{where} was stopped by a PHP error at '{command}'{shown(fatal.group(0), secrets)}; "
            "mend this Nextcloud first, its log says more."
        )
    if "Nextcloud is not installed" in err:
        raise NotInstalled(f"{where} belongs to a Nextcloud that is not installed; finish its installation first.")
    failed = result.code != 0
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
    if re.search(r'There are no commands defined in the "talk[:"]|Command "talk:[\w:-]+" is not defined', err):
        raise TalkUnavailable(
            f"{where} knows no command '{command}', because Talk is missing, disabled or too old in this Nextcloud; "
            "install it with 'occ app:install spreed', or enable it with 'occ app:enable spreed'."
        )
    if failed:
        raise CommandFailed(
            f"{where} refused '{command}' with exit code {result.code}{shown(err, secrets) or shown(out, secrets)}; "
            "run the command by hand to see more."
        )
