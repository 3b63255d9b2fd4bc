# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The container and the configuration that were healthy last, kept until what replaces them is healthy.

Beside `config` there is `config.previous`, and beside the container NAME, when it is made anew, the stopped container
NAME-previous. Another one than ours that has one of these names is never touched, see `_ours`. `config.previous`
appears and disappears in one step (a rename), and it alone says that one is kept:

- while it is there, it and NAME-previous (without one, NAME with the limits in `state.previous`) were healthy last,
  the others are unproven;
- without it, `config` and NAME are what was healthy last, and NAME-previous is rubbish.

So a run that is killed anywhere leaves a state in which the next one knows what to fall back to. `container_steps`
decides, purely, what is done with the containers; the rest works on directories.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _files, _ours, _record, _reload
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._ours import PREVIOUS, previous_name

# What Docker changes in place, in bytes, each with its option of ``docker update``.
LIMITS = {"Memory": "--memory", "MemorySwap": "--memory-swap"}
DISCARDED = "discarded"


class FallbackError(Exception):
    """Something could not be kept or put back; the text is the message."""


# Containers


def present(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return what counts of a container as ``docker container inspect`` describes it.

    `id`, `name`, `image` (its name), `running`, `health` ("" without a health check), `limits`, those that Docker
    changes while it runs, and `sound`, whether it may be fallen back to: not when it is unhealthy, is started again and
    again, or never was started. One that was stopped may be.
    """
    state = entry.get("State") or {}
    health = str((state.get("Health") or {}).get("Status") or "")
    running = bool(state.get("Running")) and not state.get("Restarting")
    begun = state.get("Status") != "created"
    return {
        "id": str(entry.get("Id") or ""),
        "name": _record.name_of(entry),
        "image": _record.image_of(entry),
        "running": running,
        "health": health,
        "limits": {name: (entry.get("HostConfig") or {}).get(name, 0) for name in LIMITS},
        "sound": begun and not state.get("Restarting") and not (running and health == "unhealthy"),
    }


# Each command names a container by its id: what has its name by then does not count.


def set_aside(name: str, there: str) -> list[list[str]]:
    """Return the commands that stop a container and keep it under its other name.

    Its restart policy goes first, so that Docker does not start it beside the new one after a boot.
    """
    return [
        ["docker", "update", "--restart", "no", there],
        ["docker", "rename", there, previous_name(name)],
        ["docker", "stop", there],
    ]


def take_back(name: str, aside: str) -> list[list[str]]:
    """Return the commands that give a kept container its name and its restart policy again."""
    return [
        ["docker", "rename", aside, name],
        ["docker", "update", "--restart", "always", aside],
    ]


def remove(there: str) -> list[list[str]]:
    """Return the command that removes a container, running or not."""
    return [["docker", "rm", "--force", there]]


def container_steps(
    state: str, name: str, there: Mapping[str, Any], aside: Mapping[str, Any], kept: bool, *, anew: bool = False
) -> list[list[str]]:
    """Return the commands for the containers.

    `there` and `aside` are `present` of those of ours that are called NAME and NAME-previous, {} for none. `kept`:
    there is a kept configuration.
    """
    if state == "found":
        if not aside:
            return []
        if not there:
            return take_back(name, aside["id"])
        return [] if kept else remove(aside["id"])
    if state == "kept":
        # What is there beside a kept one is unproven: it simply makes way.
        return set_aside(name, there["id"]) if anew and there and there["sound"] and not aside else []
    if state == "settled":
        return remove(aside["id"]) if aside else []
    if state == "restored" and aside:
        start = [["docker", "start", aside["id"]]]
        return (remove(there["id"]) if there else []) + take_back(name, aside["id"]) + start
    return []


def set_limits(there: str, now: Mapping[str, int], wanted: Mapping[str, int]) -> list[list[str]]:
    """Return the command that gives a container the limits that it had, none when it has them."""
    if not wanted or all(now.get(limit) == value for limit, value in wanted.items()):
        return []
    options = [word for limit, value in wanted.items() for word in (LIMITS[limit], str(value))]
    return [["docker", "update", *options, there]]


# Directories


def read_tree(path: Path) -> tuple[list[_files.Wanted], int, _files.Owner]:
    """Return the files of a configuration directory, and its mode and owners."""
    names = sorted(
        str(entry.relative_to(path))
        for entry in [*path.glob("*"), *path.glob("*/*")]
        if stat.S_ISREG(entry.lstat().st_mode) and not _files.is_temporary(entry.name)
    )
    found = _files.look_at_tree(str(path), names)
    root = found["."]
    files = [_files.Wanted(name, found[name].data, found[name].mode) for name in names]
    owner = found[names[0]].uid if names else os.geteuid()
    return files, root.mode, _files.Owner(root.uid, owner, root.gid)


def copy_tree(source: Path, target: Path) -> list[str]:
    """Make one configuration directory hold what another one does; returns what was done, empty when nothing was.

    Files are replaced one by one in the same directory, since that is what a running container has mounted.
    """
    files, mode, owner = read_tree(source)
    steps = _files.plan(
        str(target), _files.look_at_tree(str(target), [file.name for file in files]), files, mode, owner
    )
    _files.apply(str(target), steps, files, mode, owner)
    return [str(step) for step in steps]


class Kept:
    """The kept configuration of one container in `directory`."""

    def __init__(self, directory: Path) -> None:
        self.config = directory / "config"
        self.previous = directory / f"config.{PREVIOUS}"
        self._new = directory / f"config.{PREVIOUS}.new"
        self._old = directory / f"config.{DISCARDED}"
        self._state = directory / f"state.{PREVIOUS}"
        self._marker = directory / "reloaded"

    def there(self) -> bool:
        """Whether a configuration is kept."""
        return self.previous.is_dir()

    def rubbish(self) -> list[Path]:
        """Return what a killed run left of keeping or discarding."""
        state = [] if self.there() else [self._state]
        return [path for path in (self._new, self._old, *state) if path.exists()]

    def clean(self) -> None:
        """Remove that."""
        for path in self.rubbish():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def keep(self, limits: Mapping[str, int]) -> bool:
        """Keep the present configuration, what of it was read, and the limits of the container, see `present`.

        Not when one is kept already or there is none; returns whether it was done.
        """
        if self.there() or not self.config.is_dir():
            return False
        self.clean()
        copy_tree(self.config, self._new)
        state = {"limits": dict(limits), "read": _reload.kept_digest(str(self._marker))}
        self._state.write_text(json.dumps(state), encoding="utf-8")
        self._new.rename(self.previous)
        return True

    def _kept_state(self) -> dict[str, Any]:
        try:
            state = json.loads(self._state.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return state if isinstance(state, dict) else {}

    def limits(self) -> dict[str, int]:
        """Return the limits that are kept, {} when there are none."""
        kept = self._kept_state().get("limits")
        return {name: kept[name] for name in LIMITS if isinstance(kept, dict) and isinstance(kept.get(name), int)}

    def put_back(self) -> bool:
        """Give the configuration its kept content; returns whether the program may know another one.

        From then on, until `was_read`, it is not known what it has read.
        """
        if not self.there():
            return False
        other = _reload.kept_digest(str(self._marker)) != self._kept_state().get("read", "")
        self._marker.unlink(missing_ok=True)
        return bool(copy_tree(self.previous, self.config)) or other

    def was_read(self) -> None:
        """Write down that the program has read what was put back."""
        digest = self._kept_state().get("read")
        if self.there() and isinstance(digest, str) and digest:
            _reload.keep_digest(str(self._marker), digest)

    def discard(self) -> bool:
        """Keep it no longer; returns whether there was one."""
        if not self.there():
            return False
        self.clean()
        self.previous.rename(self._old)
        self.clean()
        return True


def outcome(module: Any, work: Callable[[Any], dict[str, Any]]) -> tuple[bool, dict[str, Any]]:
    """Do the work of a module that takes the files of a configuration.

    Returns (True, what `work` returned), or (False, the sentence that it raised as `msg`), each with the invocation
    that may be shown.
    """
    invocation = _files.invocation(module)
    try:
        return True, {**work(module), "invocation": invocation}
    except (FallbackError, _files.FilesError) as error:
        message = str(error)
    except OSError as error:
        where = error.filename or module.params.get("directory", "The directory")
        message = f"{where} cannot be read or written: {error.strerror}. Mend that, run again."
    return False, {"msg": message, "invocation": invocation}


class Fallback:
    """What is kept of one container: `actions` are what was done with it, or would be in check mode."""

    def __init__(self, run: _reload.Run, container: str, directory: str, check_mode: bool) -> None:
        self.run_command = run
        self.name = container
        self.check_mode = check_mode
        self.directory = Path(directory)
        self.kept = Kept(self.directory)
        self.actions: list[str] = []
        # Another one than ours that has our other name.
        self.stranger: _ours.Container | None = None
        self._names: dict[str, str] = {}

    def look(self, names: Iterable[str]) -> list[tuple[_ours.Container, dict[str, Any]]]:
        """Return the containers of these names or ids that are there, ours or not, each with what counts of it."""
        found = [(_ours.Container.of(one), present(one)) for one in _record.inspect(self.run_command, names)]
        self._names.update({one.id: one.name for one, _present in found})
        return found

    def both(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return `present` of those of ours that are called NAME and NAME-previous, {} for none.

        Raises FallbackError when NAME is another one than ours.
        """
        names = (self.name, previous_name(self.name))
        ours: dict[str, dict[str, Any]] = {}
        self.stranger = None
        # Docker also tells of the one when there is no other.
        for one, counts in self.look(names):
            if one.name in names and one.is_ours(self.name, str(self.directory)):
                ours[one.name] = counts
            elif one.name == self.name:
                raise FallbackError(_ours.stranger(one))
            elif one.name in names:
                self.stranger = one
        there, aside = (ours.get(name, {}) for name in names)
        return there, aside

    def elsewhere(self) -> list[dict[str, Any]]:
        """Return `present` of those of ours that have the names of another prefix: up to one, and one that is kept."""
        label = f"label={_ours.LABEL}={self.directory.name}"
        _code, out, _err = self.run_command(["docker", "ps", "--all", "--quiet", "--no-trunc", "--filter", label])
        found = {}
        for one, counts in self.look(out.split()) if out.split() else []:
            named = one.name in (self.name, previous_name(self.name))
            if not named and one.is_ours(self.name, str(self.directory)):
                if one.kept in found:
                    raise FallbackError(_ours.doubles([found[one.kept]["name"], one.name], self.directory.name))
                found[one.kept] = counts
        return [found.get(kept, {}) for kept in (False, True)]

    def docker(self, commands: list[list[str]]) -> None:
        """Run the commands, unless in check mode; raises FallbackError when one fails."""
        for command in commands:
            # As a person would write it.
            said = " ".join(self._names.get(word, word) for word in command)
            self.actions.append(said)
            if command[1] == "rename":
                self._names[command[2]] = command[3]
            if self.check_mode:
                continue
            code, _out, err = self.run_command(command)
            if code != 0:
                raise FallbackError(
                    f"'{said}' was expected to succeed, but Docker said: {err.strip()}. Look at 'docker ps -a' on this "
                    f"host, then run the same command again."
                )

    def note(self, what: str, done: bool) -> None:
        """Remember an action on the configuration."""
        if done:
            self.actions.append(f"{what} {self.kept.config}")

    def found(self) -> str:
        """Return how the container is now, see `_record.found`; "" in check mode."""
        return "" if self.check_mode else _record.found(self.run_command, self.name, self.directory)

    def options(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return what `_files.bring` is to be told of the configuration, with a module's options of the files."""
        given = {name: params[name] for name in ("group", "files", "secrets")}
        return {**given, "path": str(self.kept.config), "owner": None, "mode": "0750", "purge": True}

    def keep(self, *, anew: bool, image: str = "") -> None:
        """Keep what is sound, before the container is changed or, with `anew`, made anew.

        Where there is none then, its name is taken with `image`: so nobody else gets it before the new one is made.
        """
        there, aside = self.both()
        if anew and there.get("sound") and self.stranger:
            raise FallbackError(_ours.stranger(self.stranger))
        # What is there beside a kept one is unproven.
        if there.get("sound") or aside:
            self.note("keep", not self.check_mode and self.kept.keep(there.get("limits", {})))
        steps = container_steps("kept", self.name, there, aside, self.kept.there(), anew=anew)
        self.docker(steps)
        if image and (steps or not there) and not self.check_mode:
            self.reserve(image)

    def reserve(self, image: str) -> None:
        """Make a container that is never started and only has the name: Docker gives a name once."""
        form = "{{range $path, $_ := .Config.Volumes}}{{println $path}}{{end}}"
        _code, out, _err = self.run_command(["docker", "image", "inspect", "--format", form, image])
        # Else Docker would make a volume for each, which stays.
        volumes = [f"--tmpfs={path}" for path in out.split()]
        label = f"{_ours.LABEL}={self.directory.name}"
        options = ["--pull=never", "--network=none", f"--label={label}", f"--name={self.name}", *volumes]
        code, _out, err = self.run_command(["docker", "create", *options, image, "none"])
        if code != 0:
            # It may be somebody else's by now.
            self.both()
            raise FallbackError(
                f"The name {self.name} was expected to be free for a container of {image}, but Docker said: "
                f"{err.strip()}. Look at 'docker ps -a' on this host, then run the same command again."
            )

    def settle(self) -> None:
        """Keep no longer what was before."""
        there, aside = self.both()
        self.note("keep no longer what was before", self.kept.there())
        if not self.check_mode:
            self.kept.discard()
        self.docker(container_steps("settled", self.name, there, aside, self.kept.there()))

    def rename(self, there: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Give those of ours their names that have those of another prefix; returns `present` of them, by their names.

        `there` is `present` of the one that has its name already.
        """
        renamed = {}
        for one, name in zip(self.elsewhere(), (self.name, previous_name(self.name))):
            if one and there and name == self.name:
                raise FallbackError(_ours.doubles([one["name"], name], self.directory.name))
            if one and self.stranger and name == self.stranger.name:
                raise FallbackError(_ours.stranger(self.stranger))
            if one:
                self.docker([["docker", "rename", one["id"], name]])
                renamed[name] = one
        return renamed

    def set_right(self) -> tuple[dict[str, Any], str]:
        """Repair what a killed run left, and give the container its name.

        Returns `present` of the container that is there then, and what it was called before, "" when it had its name.
        In check mode it has that name still.
        """
        there, aside = self.both()
        renamed = self.rename(there)
        there, aside = renamed.get(self.name, there), renamed.get(previous_name(self.name), aside)
        self.note("clean up beside", bool(self.kept.rubbish()))
        if not self.check_mode:
            self.kept.clean()
        self.docker(container_steps("found", self.name, there, aside, self.kept.there()))
        there = there or aside
        before = there.get("name", "") if renamed else ""
        return {**there, "name": self.name} if there and not self.check_mode else there, before
