# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways to occ: a path on the host, a container, the snap, a pod, and any command.

A reach knows how occ is started in one kind of place, which errors the programs on the way have of their own, and what
tells its Nextcloud from every other one of this host. `reach_from` chooses it from the module's options.
"""

from __future__ import annotations

import os
import pwd
import re
import shlex
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._occ_errors import (
    BadReach,
    ClusterUnavailable,
    ContainerNotFound,
    ContainerNotRunning,
    EngineUnavailable,
    HostUnreachable,
    OccError,
    OccNotFound,
    PermissionRefused,
    PhpNotFound,
    PodNotFound,
    UserUnknown,
    WrongUser,
)

ARGUMENTS: dict[str, dict[str, Any]] = {
    "occ": {"type": "str"},
    "php": {"type": "str", "default": "php"},
    "user": {"type": "str"},
    "container": {"type": "str"},
    "container_engine": {"type": "str", "default": "docker"},
    "snap": {"type": "bool", "default": False},
    "kubectl": {
        "type": "dict",
        "options": {
            "pod": {"type": "str", "required": True},
            "namespace": {"type": "str"},
            "container": {"type": "str"},
            "context": {"type": "str"},
            "kubeconfig": {"type": "path"},
        },
    },
    "command": {"type": "list", "elements": "str"},
}
HOST_OCC = "/var/www/nextcloud/occ"
CONTAINER_OCC = "/var/www/html/occ"
SNAP_OCC = "/snap/bin/nextcloud.occ"
TIMEOUT = 300
"""Seconds that one occ command may take."""
REMOTE_SHELLS = frozenset({"ssh", "autossh", "slogin", "rsh", "plink", "dbclient"})
"""Programs that join the words they are given and hand them to a shell on another host."""


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


class Hints(NamedTuple):
    """What to do when occ is not there, runs as the wrong user, gets no standard input, or is run by the wrong PHP.

    Parts of sentences.
    """

    path: str
    user: str
    stdin: str
    php: str


PATH_HINT = "set occ (talk_occ in the inventory) to the path of the occ file of this Nextcloud"
USER_HINT = "set user (talk_occ_user in the inventory) to the owner of config/config.php"
STDIN_HINT = "see whether its PHP can read php://stdin"
PHP_HINT = "set php (talk_php in the inventory) to the path of the PHP with which its web server runs it"
PHPS = (
    "usr/bin/php[0-9]*",
    "usr/local/bin/php[0-9]*",
    "opt/*/php*/bin/php",
    "opt/*/php*/usr/bin/php",
    "opt/*/php/*/bin/php",
)
"""Where distributions and hosting panels have a PHP for each version."""


def execute(argv: list[str], stdin: str | None = None, account: Account | None = None, **environment: str) -> Result:
    """Run `argv` without a shell, as `account` if given, and return the result whatever the exit code is.

    `stdin` goes in through a pipe, which any user may read from and which the confinement of a snap lets through.
    `environment` is added to ours. Raises `ProgramMissing`, `OSError` when the program cannot be executed, or
    `subprocess.TimeoutExpired` after `TIMEOUT` seconds.
    """
    settings: dict[str, Any] = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin.encode()}
    if account is not None:
        environment = {**environment, "HOME": account.home, "USER": account.name, "LOGNAME": account.name}
        settings.update(user=account.uid, group=account.gid, extra_groups=account.groups)
    try:
        done = subprocess.run(
            argv,
            capture_output=True,
            check=False,
            cwd="/",
            timeout=TIMEOUT,
            env={**os.environ, **environment},
            **settings,
        )
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ProgramMissing(argv[0]) from error
    return Result(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


class Reach(Protocol):
    """One way to start occ. A further way is one more class with these members."""

    @property
    def where(self) -> str:
        """Name of this occ for messages, such as `occ /srv/occ in the container app`."""

    @property
    def place(self) -> tuple[str, ...]:
        """The words that tell this Nextcloud from every other one that is reached from this host."""

    @property
    def hints(self) -> Hints:
        """What to do about faults that occ itself reports."""

    def spelled(self) -> str:
        """Return how a person starts occ on this host, without its arguments; exact once it has run."""

    def run(self, arguments: list[str], stdin: str | None) -> Result:
        """Start occ with `arguments`. Raises `OccError` when it could not even be started."""


@dataclass
class HostPath:
    """occ as a path on this host, run as the owner of config.php (or as `user`).

    Root becomes that user, that user runs it directly, and anybody else asks sudo, which must not want a password.
    """

    occ: str
    php: str
    user: str | None
    _account: Account | None = None
    _resolved: bool = False

    @property
    def where(self) -> str:
        """Name of this occ for messages."""
        return f"occ {self.occ} on this host"

    @property
    def place(self) -> tuple[str, ...]:
        """The file itself, under whichever of its names."""
        return ("host", os.path.realpath(self.occ))

    @property
    def hints(self) -> Hints:
        """What to do about faults that occ itself reports."""
        there = ", ".join(other_phps())
        return Hints(PATH_HINT, USER_HINT, STDIN_HINT, f"{PHP_HINT}{f' ({there} are there)' if there else ''}")

    def spelled(self) -> str:
        """Return how a person starts occ."""
        account = self._account or account_of(os.geteuid(), os.getegid())
        # Where there is no sudo, whoever is root has what belongs to util-linux.
        become = ["sudo", "-u", account.name] if shutil.which("sudo") else ["runuser", "-u", account.name, "--"]
        return shlex.join([*become, self.php, self.occ])

    def run(self, arguments: list[str], stdin: str | None) -> Result:
        """Start occ, after finding out once who must run it."""
        if not self._resolved:
            self._account = self._find_account()
            self._resolved = True
        words = [self.php, self.occ, *arguments]
        if self._account is not None and os.geteuid() != 0:
            return self._run_with_sudo(words, stdin, self._account)
        if shutil.which(self.php) is None:
            raise PhpNotFound(no_php(self.where, self.php))
        try:
            return execute(words, stdin, self._account)
        except ProgramMissing as error:
            raise PhpNotFound(no_php(self.where, self.php)) from error
        except OSError as error:
            raise PermissionRefused(
                f"{self.where} needs {self.php}, which its user may not execute; make it executable for "
                f"{self._account.name if self._account else 'them'}, or set php (talk_php in the inventory) to another."
            ) from error

    def _run_with_sudo(self, words: list[str], stdin: str | None, account: Account) -> Result:
        """Start occ through sudo. Raises `WrongUser` when there is none, or it wants a password or has no such rule.

        The messages of sudo are known in English. It can never ask, since it is told not to (-n).
        """
        user = account.name if not account.name.isdigit() else f"#{account.uid}"
        try:
            result = execute(["sudo", "-n", "-H", "-u", user, "--", *words], stdin, LC_ALL="C.UTF-8")
        except (ProgramMissing, OSError) as error:
            raise WrongUser(self._not_allowed(account, "there is no sudo that they may use")) from error
        own = [line for line in result.err.splitlines() if SUDO.match(line) and "unable to resolve host" not in line]
        if result.code != 0 and not result.out and own:
            if "command not found" in own[-1]:
                raise PhpNotFound(no_php(self.where, self.php))
            raise WrongUser(self._not_allowed(account, "sudo does not let them without a password"))
        return result

    def _not_allowed(self, account: Account, why: str) -> str:
        me = account_of(os.geteuid(), os.getegid()).name
        return (
            f"{self.where} must run as {account.name}, the owner of config/config.php, but this task runs as {me}, and "
            f"{why}; set become to true, or become_user to {account.name}, or let sudo do it without a password."
        )

    def _find_account(self) -> Account | None:
        """Return whom to switch to, or None when the task already runs as the right user."""
        if self.user:
            account = find_account(self.user, self.where)
            if os.geteuid() in (0, account.uid):
                self._owner()
        else:
            owner = self._owner()
            account = account_of(owner.st_uid, owner.st_gid)
        return None if account.uid == os.geteuid() else account

    def _owner(self) -> os.stat_result:
        """Return the owner of config.php, or of occ itself when this Nextcloud has no config.php.

        Where the directory `config` may not be entered its own owner is taken: whoever keeps others out of it.
        """
        config = Path(self.occ).parent / "config"
        try:
            occ = Path(self.occ).stat()
            if not stat.S_ISREG(occ.st_mode):
                raise OccNotFound(no_occ(self))
            try:
                return (config / "config.php").stat()
            except FileNotFoundError:
                return occ
            except PermissionError:
                return config.stat()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise OccNotFound(no_occ(self)) from error
        except PermissionError as error:
            raise PermissionRefused(
                f"{self.where} may not be read by the user of this task; set become to true, or set user "
                "(talk_occ_user in the inventory) to the owner of config/config.php and let sudo start it without a "
                "password."
            ) from error


SUDO = re.compile(r"sudo(?:-rs)?: |Sorry, user |.* is not in the sudoers file|.* may not run sudo ")
"""How the lines begin that sudo itself writes."""


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

    @property
    def place(self) -> tuple[str, ...]:
        """The container."""
        return ("container", Path(self.engine).name, self.container)

    @property
    def hints(self) -> Hints:
        """What to do about faults that occ itself reports."""
        return Hints(PATH_HINT, USER_HINT, STDIN_HINT, PHP_HINT)

    def spelled(self) -> str:
        """Return how a person starts occ."""
        user = ["-u", self.user] if self.user else []
        return shlex.join([self.engine, "exec", *user, self.container, self.php, self.occ])

    def run(self, arguments: list[str], stdin: str | None) -> Result:
        """Start occ, after finding out once who must run it."""
        if self.user is None:
            self.user = self._find_owner()
        result = self._exec(["-u", self.user, self.container, self.php, self.occ, *arguments], stdin)
        if result.code in (126, 127):
            raise PhpNotFound(no_php(self.where, self.php))
        return result

    def _find_owner(self) -> str:
        """Return the number of the user who owns config.php, or occ when there is no config.php.

        The container's own user looks, and root when that user may not.
        """
        config = str(Path(self.occ).parent / "config" / "config.php")
        look = [self.container, "stat", "-L", "-c", "%u %n", config, self.occ]
        result = self._exec(look, None)
        if "permission denied" in result.err.lower():
            result = self._exec(["-u", "0", *look], None)
        if result.code in (126, 127):
            raise UserUnknown(
                f"{self.where} belongs to the owner of config.php, who cannot be found out because the container "
                f"has no program stat; {USER_HINT}."
            )
        owners = {path: uid for uid, _space, path in (line.partition(" ") for line in result.out.splitlines())}
        if self.occ not in owners:
            raise OccNotFound(no_occ(self))
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
        """Raise what the engine says. Those of Podman were seen with 4.3."""
        if result.code == 0:
            return
        text = result.err.lower()
        look = f"look at '{self.engine} ps -a' on this host"
        if re.search(
            r"permission denied.*(?:socket|docker api)|^(?:error:|time=)(?!.* oci ).*permission denied",
            text,
            re.MULTILINE,
        ):
            raise PermissionRefused(
                f"{self.where} cannot be reached, because the user of this task may not use {self.engine}; "
                "set become to true."
            )
        if re.search(
            r"cannot connect to the docker daemon|failed to connect to the docker api"
            r"|unable to connect to podman|cannot connect to podman",
            text,
        ):
            raise EngineUnavailable(
                f"{self.where} cannot be reached, because {self.engine} does not answer on this host; start it."
            )
        if "no such container" in text or "no container with name" in text:
            raise ContainerNotFound(
                f"{self.where} cannot be reached, because {self.engine} on this host has no container of this name; "
                f"set container (talk_container in the inventory) to the right one, {look}{self._rootless()}."
            )
        if re.search(r"is not running|is paused|is restarting|container state improper", text):
            raise ContainerNotRunning(
                f"{self.where} cannot be reached, because this container is not running; start it, {look}."
            )
        if re.search(r"unable to find user|no matching entries in passwd|no such user", text):
            raise UserUnknown(
                f"{self.where} should run as {self.user}, who does not exist there; "
                "remove user (talk_occ_user in the inventory), so that the owner of config.php is taken."
            )

    def _rootless(self) -> str:
        """Return the hint for an engine in which every user has containers of their own."""
        if "podman" not in Path(self.engine).name:
            return ""
        me = account_of(os.geteuid(), os.getegid()).name
        return f" as {me}, since each user has containers of their own, and set become_user to whose it is"


@dataclass
class InSnap:
    """occ of the snap nextcloud, which wants root and itself knows where everything is."""

    @property
    def where(self) -> str:
        """Name of this occ for messages."""
        return "occ of the snap nextcloud on this host"

    @property
    def place(self) -> tuple[str, ...]:
        """There is one such snap on a host."""
        return ("snap", "nextcloud")

    @property
    def hints(self) -> Hints:
        """What to do about faults that occ itself reports."""
        look = "look at 'snap services nextcloud' and 'snap logs nextcloud'"
        owner = f"{look}, and see that root is the owner of config/config.php"
        return Hints(look, owner, look, "renew the snap with 'snap refresh nextcloud'")

    def spelled(self) -> str:
        """Return how a person starts occ."""
        return "sudo nextcloud.occ"

    def run(self, arguments: list[str], stdin: str | None) -> Result:
        """Start occ. Raises `PermissionRefused` unless the task runs as root."""
        program = SNAP_OCC if Path(SNAP_OCC).exists() else shutil.which("nextcloud.occ")
        if program is None:
            raise OccNotFound(
                f"{self.where} does not exist, neither as {SNAP_OCC} nor as nextcloud.occ in PATH; set snap (talk_snap "
                "in the inventory) to false, or install the snap."
            )
        if os.geteuid() != 0:
            raise PermissionRefused(f"{self.where} runs as root only; set become to true.")
        try:
            return execute([program, *arguments], stdin)
        except (ProgramMissing, OSError) as error:
            raise PermissionRefused(
                f"{self.where} is there as {program}, which cannot be executed; look at 'snap list nextcloud'."
            ) from error


class Refusal(NamedTuple):
    """An error of kubectl's own: how its text is known, what it is, and the sentence behind `cannot be reached`."""

    pattern: re.Pattern[str]
    error: type[OccError]
    sentence: str


# Seen with kubectl 1.32 as far as it goes without a cluster; the others are its own and the API server's words.
KUBECTL_REFUSALS = (
    Refusal(
        re.compile(
            r"\(forbidden\)|forbidden \(user=|must be logged in|unauthorized|provide credentials", re.IGNORECASE
        ),
        PermissionRefused,
        "the cluster does not let this user run programs in pods (create pods/exec); give them that right, or set "
        "kubectl.context or kubectl.kubeconfig (talk_kubectl in the inventory) to those of a user who may.",
    ),
    Refusal(
        re.compile(r"container \S+ is not valid for pod|container \S+ not found in pod"),
        ContainerNotFound,
        "the pod has no container {container}; set kubectl.container (talk_kubectl in the inventory) to the right one.",
    ),
    Refusal(
        re.compile(
            r"container not found \(|completed pod|timed out waiting for the condition|unable to upgrade connection"
            r"|does not have a host assigned|not running"
        ),
        ContainerNotRunning,
        "no such pod is running; start it, look at 'kubectl get pods'.",
    ),
    Refusal(
        re.compile(r"\(NotFound\)|the server doesn't have a resource type"),
        PodNotFound,
        "the cluster has no such pod; set kubectl.pod and kubectl.namespace (talk_kubectl in the inventory) to the "
        "right ones, such as deploy/nextcloud, look at 'kubectl get pods --all-namespaces'.",
    ),
    Refusal(
        re.compile(
            r"^The connection to the server|^Unable to connect to the server"
            r"|^error: (?:context|cluster) .* does not exist|^Error in configuration|^error: (?:stat|open) "
            r"|error loading config file|invalid configuration|no configuration has been provided"
            r"|no route to host|i/o timeout|certificate",
            re.MULTILINE,
        ),
        ClusterUnavailable,
        "kubectl gets no answer from a cluster; set kubectl.context and kubectl.kubeconfig (talk_kubectl in the "
        "inventory) to the right ones, look at 'kubectl cluster-info'.",
    ),
)
KUBECTL_NOISE = re.compile(r"^(?:command terminated with exit code \d+|Defaulted container .*)\n?", re.MULTILINE)
"""What kubectl adds to the standard error of the program that it runs."""


@dataclass
class InPod:
    """occ inside a pod, run by kubectl as the user whom the pod runs as: kubectl cannot choose another one."""

    pod: str
    namespace: str | None
    container: str | None
    context: str | None
    kubeconfig: str | None
    occ: str
    php: str

    @property
    def where(self) -> str:
        """Name of this occ for messages."""
        return f"occ {self.occ} in {self.pod}{f' of the namespace {self.namespace}' if self.namespace else ''}"

    @property
    def place(self) -> tuple[str, ...]:
        """The pod and what it is looked for in."""
        return ("kubectl", *(word or "" for word in (self.kubeconfig, self.context, self.namespace, self.pod)))

    @property
    def hints(self) -> Hints:
        """What to do about faults that occ itself reports."""
        user = (
            "set command (talk_occ_command in the inventory) instead of kubectl, with a program in it that becomes the "
            "owner of config/config.php"
        )
        return Hints(PATH_HINT, user, STDIN_HINT, PHP_HINT)

    def _words(self, *options: str) -> list[str]:
        """Return the words that start occ."""
        choices = (("--context", self.context), ("--kubeconfig", self.kubeconfig))
        places = (("-n", self.namespace), ("-c", self.container))
        words = ["kubectl", *_given(choices), "exec", *_given(places), *options, self.pod]
        return [*words, "--", self.php, self.occ]

    def spelled(self) -> str:
        """Return how a person starts occ."""
        return shlex.join(self._words())

    def run(self, arguments: list[str], stdin: str | None) -> Result:
        """Start occ and raise what kubectl itself complains about."""
        try:
            result = execute([*self._words(*([] if stdin is None else ["-i"])), *arguments], stdin)
        except ProgramMissing as error:
            raise EngineUnavailable(
                f"{self.where} needs the program kubectl, which is not on this host; install it, or run this "
                "where it is."
            ) from error
        except OSError as error:
            raise PermissionRefused(
                f"{self.where} needs kubectl, which the user of this task may not execute; set become to true."
            ) from error
        ended = re.search(r"^command terminated with exit code (\d+)", result.err, re.MULTILINE)
        if result.code != 0 and (not ended or ended.group(1) in ("126", "127")):
            self._raise_refusal(result.err, bool(ended))
        return Result(result.code, result.out, KUBECTL_NOISE.sub("", result.err))

    def _raise_refusal(self, text: str, ended: bool) -> None:
        """Raise what kubectl says; with `ended` it is the code of a program that could not be started."""
        if ended or re.search(r"executable file not found|OCI runtime exec failed|failed to start exec", text):
            raise PhpNotFound(no_php(self.where, self.php))
        for refusal in KUBECTL_REFUSALS:
            if refusal.pattern.search(text):
                why = refusal.sentence.format(container=self.container or "of its own choice")
                raise refusal.error(f"{self.where} cannot be reached, because {why}")


def _given(options: tuple[tuple[str, str | None], ...]) -> list[str]:
    """Return the words of the options that have a value."""
    return [word for name, value in options if value for word in (name, value)]


SSH_REFUSAL = re.compile(
    r"^(?:ssh: |Host key verification failed|No route to host|kex_exchange_identification|.*Permission denied \("
    r"|Connection (?:closed|reset|timed out|to .* (?:closed|timed out)))",
    re.MULTILINE,
)
"""How the lines begin that ssh itself writes when it does not get to the other host; its exit code is 255 then."""


@dataclass
class ByCommand:
    """occ behind any words that start it, such as `ssh nas docker exec -i -u www-data nextcloud php occ`.

    The words are taken as they are. ssh and its like join them and give them to a shell, so what is added for occ is
    quoted for that shell, once for each of them.
    """

    words: list[str]

    @property
    def where(self) -> str:
        """Name of this occ for messages. Of the words only the program is named: others may be nobody's business."""
        return f"occ through the command {self.words[0]}"

    @property
    def place(self) -> tuple[str, ...]:
        """The command."""
        return ("command", *self.words)

    @property
    def hints(self) -> Hints:
        """What to do about faults that occ itself reports."""
        correct = "correct command (talk_occ_command in the inventory)"
        return Hints(
            f"{correct}, whose end is the path of the occ file of this Nextcloud",
            f"{correct}, so that occ runs as the owner of config/config.php",
            f"{correct}, in which docker, podman and kubectl exec need -i, and ssh must not have -n",
            f"{correct}, so that it runs the PHP with which its web server runs it",
        )

    def spelled(self) -> str:
        """Return how a person starts occ. The words themselves may be nobody's business."""
        return "occ (by talk_occ_command)"

    def run(self, arguments: list[str], stdin: str | None) -> Result:
        """Start occ."""
        for _shell in range(remote_shells(self.words)):
            arguments = [shlex.quote(word) for word in arguments]
        try:
            result = execute([*self.words, *arguments], stdin)
        except ProgramMissing as error:
            raise EngineUnavailable(
                f"{self.where} needs that program, which is not on this host; correct command (talk_occ_command in the "
                "inventory), or install it."
            ) from error
        except OSError as error:
            raise PermissionRefused(
                f"{self.where} needs that program, which the user of this task may not execute; set become to true."
            ) from error
        if result.code == 255 and not result.out and remote_shells(self.words) and SSH_REFUSAL.search(result.err):
            line = result.err.strip().splitlines()[-1].strip().rstrip(".")
            raise HostUnreachable(
                f"{self.where} cannot be reached, because the other host does not let us in ({line}); try the command "
                "by hand as the user of this task, it must work without a question."
            )
        if result.code in (126, 127):
            raise OccNotFound(
                f"{self.where} cannot be started, because a program in it is not there or may not be executed; "
                "correct command (talk_occ_command in the inventory)."
            )
        return result


def remote_shells(words: list[str]) -> int:
    """Return how many shells on other hosts take the words apart again: one for each ssh, rsh and so on.

    A word right behind such a program is no further one, but the name of a host.
    """
    names = [Path(word).name in REMOTE_SHELLS for word in words]
    return sum(is_shell and not (index and names[index - 1]) for index, is_shell in enumerate(names))


def no_occ(reach: Reach) -> str:
    """Return the sentence for an occ that is not there."""
    return f"{reach.where} does not exist; {reach.hints.path}."


def no_php(where: str, php: str) -> str:
    """Return the sentence for a php that is not there."""
    return (
        f"{where} needs the program {php}, which is not there; set php (talk_php in the inventory) to the path of PHP."
    )


def other_phps() -> list[str]:
    """Return the paths of the PHPs on this host that are there for one version each."""
    found = {str(path) for pattern in PHPS for path in Path("/").glob(pattern)}
    return sorted(path for path in found if re.search(r"\d", path) and re.fullmatch(r"php[\d.]*", Path(path).name))[:5]


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


VARIABLES = {
    "container": "talk_container",
    "snap": "talk_snap",
    "kubectl": "talk_kubectl",
    "command": "talk_occ_command",
}
"""The options that choose a way, and the role's variables that feed them."""


def reach_from(options: dict[str, Any]) -> Reach:
    """Return the way to occ that the module options (`ARGUMENTS`) name.

    Raises `BadReach` when they name two ways or do not fit each other, `OccNotFound` for a path that is none.
    """
    ways = [name for name in VARIABLES if options[name]]
    if len(ways) > 1:
        raise BadReach(
            f"Several ways to occ are set, {' and '.join(ways)}, but exactly one was expected; remove all but one "
            f"(in the inventory: {', '.join(VARIABLES[name] for name in ways)})."
        )
    way = ways[0] if ways else None
    _refuse_unused(way, options)
    if way == "snap":
        return InSnap()
    if way == "command":
        return ByCommand(list(options["command"]))
    occ = options["occ"] or (CONTAINER_OCC if way else HOST_OCC)
    if not occ.startswith("/"):
        raise OccNotFound(f"occ is {occ}, but an absolute path was expected; set occ (talk_occ) to one.")
    if way == "container":
        return InContainer(options["container_engine"], options["container"], occ, options["php"], options["user"])
    if way == "kubectl":
        return InPod(**options["kubectl"], occ=occ, php=options["php"])
    return HostPath(occ, options["php"], options["user"])


def _refuse_unused(way: str | None, options: dict[str, Any]) -> None:
    """Raise `BadReach` for an option that would have no effect with this way."""
    unused = {"snap": ("occ", "user"), "command": ("occ", "user"), "kubectl": ("user",)}.get(way or "", ())
    variables = {"occ": "talk_occ", "user": "talk_occ_user"}
    for name in unused:
        if options[name]:
            raise BadReach(
                f"{name} is set to {options[name]}, but has no effect on occ that is reached with {way}; "
                f"remove {name} ({variables[name]} in the inventory), or {way} ({VARIABLES[way or '']})."
            )
