# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Configuration directories: read what is there, plan, apply, and a diff that shows no secret.

Everything below the directory is reached through open directory descriptors and never through a
symbolic link. Owners are uids and gids, modes are integers such as 0o640.
"""

from __future__ import annotations

import errno
import grp
import hashlib
import os
import pwd
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MASK = "********"
NEW = "(new secret)"
SHORTEST_SECRET = 16

_COMPONENT = re.compile(r"[A-Za-z0-9._-]+")
_MODE = re.compile(r"0[0-7]{3}")
_TOKEN = re.compile(r"[A-Za-z0-9+/_-]{32,}={0,2}")
_PART = re.compile(r"[A-Za-z0-9+_-]{32,}={0,2}")


# The option of a module for one file.
FILE = {
    "name": {"type": "str", "required": True},
    "content": {"type": "str", "required": True, "no_log": True},
    "mode": {"type": "str", "default": "0640"},
    "secret": {"type": "bool", "default": False, "no_log": False},
}


class FilesError(Exception):
    """What was found or asked for cannot work; the text is a whole sentence for the user."""


@dataclass(frozen=True)
class Wanted:
    """A file as it is to be: `name` relative to the directory, with at most one subdirectory."""

    name: str
    data: bytes
    mode: int = 0o640
    secret: bool = False


@dataclass(frozen=True)
class Found:
    """What is at a path. `kind`: absent, file, link (symbolic, or one of several hard links), directory, other."""

    kind: str = "absent"
    data: bytes = b""
    mode: int = 0
    uid: int = -1
    gid: int = -1


@dataclass(frozen=True)
class Owner:
    """Who owns what: uid of the directories, uid of the files, gid of both; None = leave as it is."""

    directory: int | None
    file: int | None
    group: int | None


@dataclass(frozen=True)
class Step:
    """One change: `verb` is create, attributes (of a directory), write, adjust or remove (of a file)."""

    verb: str
    name: str

    def __str__(self) -> str:
        words = {
            "create": f"create directory {self.name}",
            "attributes": f"set owner and mode of directory {self.name}",
            "write": f"write {self.name}",
            "adjust": f"set owner and mode of {self.name}",
            "remove": f"remove {self.name}",
        }
        return words[self.verb]


def parse_mode(value: str, what: str) -> int:
    """Return the mode written as four octal digits, such as `0640`; raises FilesError otherwise."""
    if not _MODE.fullmatch(value):
        raise FilesError(
            f"The mode '{value}' of {what} was expected to be four octal digits such as 0640; "
            f"write it in quotes, because YAML reads a bare 0640 as another number."
        )
    return int(value, 8)


def parse_id(value: str | None, group: bool = False) -> int | None:
    """Return the uid (or gid) of a number or name; None for None; KeyError when this host has no such name."""
    if value is None:
        return None
    if value.isdecimal():
        return int(value)
    return grp.getgrnam(value).gr_gid if group else pwd.getpwnam(value).pw_uid


def temporary(name: str) -> str:
    """Name of the temporary file beside the file `name`; one per file, so that a killed run leaves at most one."""
    return f".{name}.new"


def is_temporary(name: str) -> bool:
    """Whether `name` (without directory) is one that `temporary` makes."""
    return name.startswith(".") and name.endswith(".new")


def check_names(names: Iterable[str]) -> None:
    """Raise FilesError for a name that is no plain relative path, is given twice, or is file and directory at once."""
    seen: set[str] = set()
    parents: set[str] = set()
    for name in names:
        parts = name.split("/")
        plain = all(_COMPONENT.fullmatch(part) and part not in {".", ".."} for part in parts)
        if not plain or len(parts) > 2 or is_temporary(parts[-1]):
            raise FilesError(
                f"The file name '{name}' was expected to be a relative path of letters, digits, dots, dashes and "
                f"underscores with at most one subdirectory, and not of the form .NAME.new; give it another name."
            )
        if name in seen:
            raise FilesError(f"The file '{name}' is named twice in files; name every file once.")
        seen.add(name)
        parents.update(parts[:-1])
    for name in sorted(seen & parents):
        raise FilesError(f"'{name}' is named as a file and as a directory in files; rename one of them.")


def check_secrets(values: Iterable[str]) -> None:
    """Raise FilesError for a secret so short that masking it would garble every output."""
    for index, value in enumerate(values):
        if len(value) < SHORTEST_SECRET:
            raise FilesError(
                f"Entry {index + 1} of secrets has {len(value)} characters and {SHORTEST_SECRET} were expected at "
                f"least, because a shorter one would be masked in unrelated words; use a longer secret."
            )


def digest(wanted: Iterable[Wanted]) -> str:
    """Return the sha256 (hex) over names and contents, whatever their order."""
    total = hashlib.sha256()
    for file in sorted(wanted, key=lambda entry: entry.name):
        total.update(f"{file.name}\0{len(file.data)}\0".encode())
        total.update(file.data)
    return total.hexdigest()


# Reading


@contextmanager
def directory(path: str, parent: int | None = None) -> Iterator[int]:
    """Open the directory `path` (below the descriptor `parent`) for the block; a symbolic link is refused."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except OSError as exc:
        if exc.errno not in {errno.ENOTDIR, errno.ELOOP}:
            raise
        raise FilesError(
            f"{path} was expected to be a directory and is a file or a symbolic link; move it away and run again."
        ) from exc
    try:
        yield fd
    finally:
        os.close(fd)


def look(fd: int, name: str, content: bool = True) -> Found:
    """Return what is at `name` in the open directory `fd`; the data of a regular file too when `content`."""
    try:
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return Found()
    kind, data = "other", b""
    if stat.S_ISDIR(status.st_mode):
        kind = "directory"
    elif stat.S_ISLNK(status.st_mode):
        kind = "link"
    elif stat.S_ISREG(status.st_mode):
        kind = "file" if status.st_nlink == 1 else "link"
        data = read(fd, name) if content else b""
    return Found(kind, data, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)


def read(fd: int, name: str) -> bytes:
    """Return the content of the file `name` in the open directory `fd`; a symbolic link raises OSError."""
    with os.fdopen(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd), "rb") as file:
        return file.read()


def look_at_tree(path: str, names: Iterable[str]) -> dict[str, Found]:
    """Return what is in the directory `path` and in the subdirectories that `names` mention.

    Keys are relative paths; the directory itself is ".". Contents are read of the named files only.
    """
    wanted = set(names)
    subs = sorted({name.split("/")[0] for name in wanted if "/" in name})
    tree: dict[str, Found] = {}
    try:
        root = os.lstat(path)
    except FileNotFoundError:
        return {".": Found()}
    with directory(path) as fd:
        tree["."] = Found("directory", b"", stat.S_IMODE(root.st_mode), root.st_uid, root.st_gid)
        for name in [entry.name for entry in os.scandir(fd)]:
            tree[name] = look(fd, name, name in wanted)
        for sub in subs:
            if tree.get(sub, Found()).kind != "directory":
                continue
            with directory(sub, fd) as sub_fd:
                for name in [entry.name for entry in os.scandir(sub_fd)]:
                    tree[f"{sub}/{name}"] = look(sub_fd, name, f"{sub}/{name}" in wanted)
    return tree


# Planning


def _differs(found: Found, mode: int, uid: int | None, gid: int | None) -> bool:
    return found.mode != mode or (uid is not None and found.uid != uid) or (gid is not None and found.gid != gid)


def plan(
    path: str, tree: dict[str, Found], wanted: list[Wanted], mode: int, owner: Owner, *, purge: bool = True
) -> list[Step]:
    """Return the steps from `tree` (see look_at_tree) to `wanted`, in the order in which they are to be done.

    `mode` is that of the directories. Raises FilesError when something that is not a file stands in the way.
    """
    names = {file.name for file in wanted}
    subs = sorted({name.split("/")[0] for name in names if "/" in name})
    steps: list[Step] = []
    for name in [".", *subs]:
        found = tree.get(name, Found())
        if found.kind == "absent":
            steps.append(Step("create", name))
        elif found.kind != "directory":
            raise FilesError(f"{path}/{name} was expected to be a directory and is not; move it away and run again.")
        elif _differs(found, mode, owner.directory, owner.group):
            steps.append(Step("attributes", name))
    for file in wanted:
        found = tree.get(file.name, Found())
        if found.kind in {"directory", "other"}:
            raise FilesError(
                f"{path}/{file.name} was expected to be a regular file and is a directory or a special file; "
                f"move it away and run again."
            )
        if found.kind != "file" or found.data != file.data:
            steps.append(Step("write", file.name))
        elif _differs(found, file.mode, owner.file, owner.group):
            steps.append(Step("adjust", file.name))
    for name in sorted(tree):
        unnamed = tree[name].kind in {"file", "link"} and name not in names
        if unnamed and (purge or is_temporary(name.split("/")[-1])):
            steps.append(Step("remove", name))
    return steps


# Applying


def make_directories(path: str, mode: int = 0o755) -> None:
    """Make the directory `path` and its parents with `mode`, whatever the umask; what exists is left alone."""
    missing = []
    current = Path(path)
    while not current.exists():
        missing.append(current)
        current = current.parent
    for entry in reversed(missing):
        try:
            entry.mkdir(mode=0o700)
        except FileExistsError:
            continue
        entry.chmod(mode)


def _own(fd: int, mode: int, uid: int | None, gid: int | None) -> None:
    # chown first: it clears bits of the mode.
    os.fchown(fd, -1 if uid is None else uid, -1 if gid is None else gid)
    os.fchmod(fd, mode)


def write(fd: int, name: str, data: bytes, *, mode: int, uid: int | None, gid: int | None) -> None:
    """Replace the file `name` in the open directory `fd` at once: readers see the old or the new one whole.

    The data is on the disk before the name points to it, and the name is on the disk when this returns.
    """
    other = temporary(name)
    with suppress(FileNotFoundError):
        os.unlink(other, dir_fd=fd)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(other, flags, 0o600, dir_fd=fd), "wb") as file:
        file.write(data)
        file.flush()
        _own(file.fileno(), mode, uid, gid)
        os.fsync(file.fileno())
    os.rename(other, name, src_dir_fd=fd, dst_dir_fd=fd)
    os.fsync(fd)


def adjust(fd: int, name: str, mode: int, uid: int | None, gid: int | None) -> None:
    """Set mode and owner of the regular file or directory `name` in the open directory `fd`."""
    target = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)
    try:
        _own(target, mode, uid, gid)
    finally:
        os.close(target)


def apply(path: str, steps: Iterable[Step], wanted: Iterable[Wanted], mode: int, owner: Owner) -> None:
    """Do the steps that `plan` returned."""
    files = {file.name: file for file in wanted}
    for step in steps:
        if step == Step("create", "."):
            make_directories(str(Path(path).parent))
            Path(path).mkdir(mode=0o700)
        with directory(path) as root:
            head, _slash, last = step.name.rpartition("/")
            if step.verb == "create" and step.name != ".":
                os.mkdir(step.name, 0o700, dir_fd=root)
            if step.verb in {"create", "attributes"}:
                adjust(root, step.name, mode, owner.directory, owner.group)
                continue
            with directory(head or ".", root) as fd:
                if step.verb == "write":
                    file = files[step.name]
                    write(fd, last, file.data, mode=file.mode, uid=owner.file, gid=owner.group)
                elif step.verb == "adjust":
                    adjust(fd, last, files[step.name].mode, owner.file, owner.group)
                else:
                    # A temporary file of a killed run is gone already when its file was written above.
                    with suppress(FileNotFoundError):
                        os.unlink(last, dir_fd=fd)


# Diff


def mask_pair(before: str, after: str, secrets: Iterable[str] = ()) -> tuple[str, str]:
    """Return both texts with every secret masked.

    Masked are the given secrets, and whatever could be one: a run of 32 or more characters of the base64
    alphabets (a run that begins with a slash is a path; of it only such a run between slashes). A value of
    `after` that is not in `before` becomes "(new secret)", so that a change stays visible.
    """
    known = sorted({value for value in secrets if value}, key=len, reverse=True)
    exact = re.compile("|".join(re.escape(value) for value in known)) if known else None

    def hide(text: str, other: str | None) -> str:
        def name(value: str) -> str:
            return MASK if other is None or value in other else NEW

        def token(match: re.Match[str]) -> str:
            value = match.group()
            if value.startswith("/"):
                return _PART.sub(lambda part: name(part.group()), value)
            return name(value)

        if exact:
            pieces, end = [], 0
            for match in exact.finditer(text):
                pieces += [_TOKEN.sub(token, text[end : match.start()]), name(match.group())]
                end = match.end()
            return "".join([*pieces, _TOKEN.sub(token, text[end:])])
        return _TOKEN.sub(token, text)

    return hide(before, None), hide(after, before)


def _attributes(mode: int, uid: int | None, gid: int | None) -> str:
    return f"mode: {mode:04o}\nowner: {uid}\ngroup: {gid}\n"


def diff(
    path: str,
    tree: dict[str, Found],
    steps: Iterable[Step],
    wanted: Iterable[Wanted],
    *,
    secrets: Iterable[str],
    mode: int,
    owner: Owner,
) -> list[dict[str, str]]:
    """Return one Ansible diff (before, after, headers) per step, with secrets masked."""
    files = {file.name: file for file in wanted}
    secrets = list(secrets)
    result = []
    for step in steps:
        found = tree.get(step.name, Found())
        before = after = ""
        if step.verb == "write":
            file = files[step.name]
            if file.secret:
                before = f"{MASK}\n" if found.kind == "file" else ""
                after = f"{NEW}\n"
            else:
                before, after = mask_pair(_text(found.data), _text(file.data), secrets)
        elif step.verb == "remove":
            before, after = "(a file that is not named)\n", ""
        else:
            target = files[step.name].mode if step.verb == "adjust" else mode
            uid = owner.file if step.verb == "adjust" else owner.directory
            if found.kind != "absent":
                before = _attributes(found.mode, found.uid, found.gid)
            uid = found.uid if uid is None else uid
            after = _attributes(target, uid, found.gid if owner.group is None else owner.group)
        where = path if step.name == "." else f"{path}/{step.name}"
        result.append({"before_header": where, "after_header": where, "before": before, "after": after})
    return result


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="replace")


def wishes(files: list[dict[str, Any]]) -> list[Wanted]:
    """Return the option `files` checked and in the form that _files works with."""
    check_names(file["name"] for file in files)
    return [
        Wanted(
            file["name"],
            file["content"].encode("utf-8", errors="surrogateescape"),
            parse_mode(file["mode"], file["name"]),
            file["secret"],
        )
        for file in files
    ]


def identify(value: str | None, group: bool, check_mode: bool) -> int | None:
    """Return the uid or gid of an option; None in check mode when the name does not exist yet."""
    if value is None:
        return os.getegid() if group else os.geteuid()
    try:
        return parse_id(value, group)
    except KeyError as exc:
        if check_mode:
            return None
        kind = "group" if group else "user"
        raise FilesError(
            f"The {kind} '{value}' was expected to exist on this host and does not; create it or give its number."
        ) from exc


def bring(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Read the directory that the options of the module config_files describe, and make it so.

    In check mode nothing is made. Returns changed, actions, written, removed, digest and diff (one for each file).
    """
    path = params["path"].rstrip("/") or "/"
    wanted = wishes(params["files"])
    check_secrets(params["secrets"])
    mode = parse_mode(params["mode"], path)
    owner = Owner(
        identify(params["owner"], False, check_mode), os.geteuid(), identify(params["group"], True, check_mode)
    )
    tree = look_at_tree(path, [file.name for file in wanted])
    steps = plan(path, tree, wanted, mode, owner, purge=params["purge"])
    if not check_mode:
        apply(path, steps, wanted, mode, owner)
    return {
        "changed": bool(steps),
        "actions": [str(step) for step in steps],
        "written": [step.name for step in steps if step.verb == "write"],
        "removed": [step.name for step in steps if step.verb == "remove"],
        "digest": digest(wanted),
        "diff": diff(path, tree, steps, wanted, secrets=params["secrets"], mode=mode, owner=owner),
    }


def invocation(module: Any) -> dict[str, Any]:
    """Have a module mask the secrets alone, and return what it may tell of its options.

    Whole contents as words to mask would garble the difference, which masks by itself. The secrets stay masked, and the
    contents are taken out of the arguments that Ansible returns.
    """
    module.no_log_values.clear()
    module.no_log_values.update(value for value in module.params["secrets"] if len(value) >= SHORTEST_SECRET)
    files = [{**entry, "content": MASK} for entry in module.params["files"]]
    return {"module_args": {**module.params, "files": files, "secrets": MASK}}
