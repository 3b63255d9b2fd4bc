# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every way to the occ stand-in, with strict stand-ins of the programs on the way.

A stand-in knows the argument lists that it expects, and refuses any other with exit code 97. What follows an expected
list is given to occ. Where the tests run as root, occ runs as another real user on every way.
"""

from __future__ import annotations

import getpass
import os
import pwd
import shutil
from pathlib import Path

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _occ, _occ_reach
from standin_instance import Nextcloud

IS_ROOT = os.geteuid() == 0
OWNER = pwd.getpwnam("daemon" if IS_ROOT else getpass.getuser())
STRANGER = 54321
WAYS = ("host", "owner", "sudo", "docker", "podman", "snap", "kubectl", "command", "ssh", "ssh twice")
DEFAULTS = {
    "occ": None,
    "php": "php",
    "user": None,
    "container": None,
    "container_engine": "docker",
    "snap": False,
    "kubectl": None,
    "command": None,
}
WANTS_INPUT = "[-i]"
"""In an expected list: -i or nothing, and without it occ gets no standard input."""
REMOTE = "(remote shell)"
"""As what is started: what follows is joined and given to a shell."""

PROGRAM = """#!/usr/bin/python3 -IS
import os, subprocess, sys
given = sys.argv[1:]
with open({log!r}, "a") as log:
    log.write(repr([{name!r}, *given]) + "\\n")
for expected, start in {forms!r}:
    for option in (["-i"], []):
        words = []
        for word in expected:
            words += option if word == "[-i]" else [word]
        if given[:len(words)] != words:
            continue
        if "[-i]" in expected and not option:
            os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        rest = given[len(words):]
        if start == "(remote shell)":
            os.execvp("sh", ["sh", "-c", " ".join(rest)])
        code = subprocess.run([*start, *rest]).returncode
        if {name!r} == "kubectl" and code:
            print("command terminated with exit code", code, file=sys.stderr)
        sys.exit(code)
print("not expected:", given, file=sys.stderr)
sys.exit(97)
"""


def options(**given):
    """The options of a module that says only what is `given`."""
    return {**DEFAULTS, **given}


def as_owner() -> list[str]:
    """Return the words that make root the owner of config.php."""
    if not IS_ROOT:
        return []
    return ["setpriv", f"--reuid={OWNER.pw_uid}", f"--regid={OWNER.pw_gid}", "--clear-groups"]


class Way:
    """A stand-in of Nextcloud in `folder`, and one way to it."""

    def __init__(self, folder: Path, name: str, monkeypatch, *install: str) -> None:
        self.folder, self.monkeypatch = folder, monkeypatch
        self.bin, self.log = folder / "bin", folder / "log"
        self.bin.mkdir()
        self.log.touch()
        self.log.chmod(0o666)
        self.php = str(self.bin / "php")
        self.nextcloud = Nextcloud(folder / "nc", "--user", OWNER.pw_name, "--php", self.php, *install)
        self.occ = str(self.nextcloud.root / "occ")
        self.config = str(self.nextcloud.root / "config" / "config.php")
        monkeypatch.setenv("PATH", f"{self.bin}:{os.environ['PATH']}")
        given = getattr(self, "_" + name.replace(" ", "_"))()
        self.where = given.pop("where")
        self.options = options(**given)
        self.reach = _occ_reach.reach_from(self.options)

    def run_as(self, uid: int) -> None:
        """Make the code believe that the task runs as `uid`; the strict sudo does what the real one would."""
        self.monkeypatch.setattr(os, "geteuid", lambda: uid)

    def caller(self, *secrets: str) -> _occ.Occ:
        return _occ.Occ(_occ_reach.reach_from(self.options), secrets)

    def program(self, name: str, *forms) -> str:
        path = self.bin / name
        path.write_text(PROGRAM.format(name=name, log=str(self.log), forms=list(forms)), encoding="utf-8")
        path.chmod(0o755)
        return str(path)

    def _host(self):
        return {"where": f"occ {self.occ} on this host", "occ": self.occ, "php": self.php}

    def _owner(self):
        """The task runs as the owner: nothing has to be switched."""
        if IS_ROOT:
            for path in (self.nextcloud.root, *self.nextcloud.root.rglob("*")):
                shutil.chown(path, 0, 0)
        return self._host()

    def _sudo(self):
        self.run_as(STRANGER)
        words = ["-n", "-H", "-u", OWNER.pw_name, "--", self.php, self.occ]
        self.program("sudo", (words, [*as_owner(), self.php, self.occ]))
        return self._host()

    def _engine(self, name):
        look = ["stat", "-L", "-c", "%u %n", self.config, self.occ]
        enter = ["exec", WANTS_INPUT, "-u", str(OWNER.pw_uid), "app", self.php, self.occ]
        self.program(name, (["exec", "app", *look], look), (enter, [*as_owner(), self.php, self.occ]))

    def _docker(self, name="docker"):
        self._engine(name)
        given = {"occ": self.occ, "php": self.php, "container": "app", "container_engine": name}
        return {"where": f"occ {self.occ} in the container app", **given}

    def _podman(self):
        return self._docker("podman")

    def _snap(self):
        self.run_as(0)
        self.monkeypatch.setattr(_occ_reach, "SNAP_OCC", self.program("nextcloud.occ", ([], [self.php, self.occ])))
        return {"where": "occ of the snap nextcloud on this host", "snap": True}

    def _kubectl(self):
        words = ["--context", "prod", "--kubeconfig", "/etc/kube", "exec", "-n", "cloud", "-c", "app", WANTS_INPUT]
        words += ["deploy/nextcloud", "--", self.php, self.occ]
        self.program("kubectl", (words, [*as_owner(), self.php, self.occ]))
        pod = {"pod": "deploy/nextcloud", "namespace": "cloud", "container": "app"}
        pod |= {"context": "prod", "kubeconfig": "/etc/kube"}
        where = f"occ {self.occ} in deploy/nextcloud of the namespace cloud"
        return {"where": where, "occ": self.occ, "php": self.php, "kubectl": pod}

    def enter_words(self):
        return ["docker", "exec", "-i", "-u", str(OWNER.pw_uid), "app", self.php, self.occ]

    def _command(self):
        self._engine("docker")
        return {"where": "occ through the command docker", "command": self.enter_words()}

    def _ssh(self):
        self.program("ssh", (["-o", "BatchMode=yes", "nas"], REMOTE))
        command = ["ssh", "-o", "BatchMode=yes", "nas", *self._command()["command"]]
        return {"where": "occ through the command ssh", "command": command}

    def _ssh_twice(self):
        """By way of another host, on which there is an ssh again; the host there is called ssh, too."""
        self.program("ssh", (["hop"], REMOTE), (["ssh"], REMOTE))
        command = ["ssh", "hop", "ssh", "ssh", *self._command()["command"]]
        return {"where": "occ through the command ssh", "command": command}
