#!/usr/bin/python
# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the files of an installation of the backend, so that the controller can judge them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: adopt_read
short_description: Read the configuration files of an installation of the backend
version_added: 0.1.0
description:
  - Returns, in one round trip, the text of every configuration file in the directory of an installation, of those
    elsewhere that its compose files and env files name, and of those at the usual places of packages and of reverse
    proxies.
  - Files of configuration are those that are called C(.env), C(Caddyfile), end with C(.env), C(.yml), C(.yaml),
    C(.conf), C(.cfg), C(.jcfg), C(.ini) or C(.toml), or have C(dockerfile) in their names. Of a directory that is
    called C(etc) only those are read that the backend and proxies have there.
  - Nothing is understood here, since the host may have no YAML library; the filter
    P(nextcloud_talk.hpb.adopted#filter) does that.
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
attributes:
  check_mode:
    support: full
    description: Only reads.
  diff_mode:
    support: none
    description: Changes nothing.
  idempotent:
    support: full
    description: Changes nothing.
options:
  path:
    description: The directory of the installation, or its compose file or C(server.conf), an absolute path.
    type: path
    required: true
  usual_places:
    description:
      - Whether the usual places of packages and proxies are looked at, such as C(/etc/nginx). Where O(path) is in or
        above a directory C(etc), that one is looked at in any case, and no other.
    type: bool
    default: true
notes:
  - What it returns holds secrets, so the task needs C(no_log).
seealso:
  - plugin: nextcloud_talk.hpb.adopted
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Read an installation
  nextcloud_talk.hpb.adopt_read:
    path: /srv/talk
  register: installation
  no_log: true
"""

RETURN = r"""
files:
  description: The text of each file by its name, relative to RV(path) for those below it. This is secret.
  type: dict
  returned: success
skipped:
  description: >-
    A sentence for each file or directory that was left out, because it is too large, no text, or may not be read.
  type: list
  elements: str
  returned: success
path:
  description: The directory without symbolic links.
  type: str
  returned: success
entry:
  description: The name of the one file that was named, empty when it was the directory.
  type: str
  returned: success
"""

import os  # noqa: E402
import re  # noqa: E402
import stat  # noqa: E402
from collections.abc import Iterable, Iterator  # noqa: E402
from contextlib import suppress  # noqa: E402
from pathlib import Path  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _adopt_text  # noqa: E402

# Levels of directories below the installation's own. Data directories of other services may lie there, too.
DEPTH = 3
# Entries of directories that are looked at in one of them, and in all.
MOST_IN_ONE = 2000
MOST_ENTRIES = 20000
MOST_FILES = 400
# Bytes of one file, and of all; no configuration of these programs is nearly as large.
LARGEST = 256 * 1024
LARGEST_SUM = 8 * 1024 * 1024
# Files that name files that name files.
ROUNDS = 5
# Sentences about what was left out.
MOST_SKIPPED = 20

COMPOSE = re.compile(r"(docker-)?compose(\.[\w.-]+)?\.ya?ml", re.IGNORECASE)
ENVIRONMENT = re.compile(r"\.env(\..+)?|.+\.env", re.IGNORECASE)
CONFIGURATION = re.compile(
    r"\.env(\..+)?|.+\.(env|ya?ml|conf|cfg|jcfg|ini|toml)|.*dockerfile.*|containerfile|caddyfile", re.IGNORECASE
)
# What the backend's programs and proxies call their files; in a directory of all programs only these are read.
KNOWN = re.compile(
    r"server\.conf|turnserver\.conf|eturnal\.yml|janus\..*jcfg|(nats|gnatsd).*\.conf|haproxy.*\.cfg|caddyfile|"
    r"nginx\.conf|configuration\.json",
    re.IGNORECASE,
)
# Directories in which every file is a proxy's, whatever it is called.
PROXY_DIRECTORIES = frozenset(
    {"sites-enabled", "sites-available", "conf.d", "http.d", "proxy_host", "proxy-confs", "site-confs", "snippets"}
)
# What a compose file names beside configuration: a secret or a template has no ending, or one of these.
NAMED = re.compile(r"[^.]+|.+\.(txt|secret|tmpl|template|in|json|lua)", re.IGNORECASE)
NEVER = frozenset({".git", "node_modules", "__pycache__", "proc", "sys", "dev", "run"})

# Where packages, and proxies in Docker's volumes, have their files; below the root.
PLACES = (
    "etc/nextcloud-spreed-signaling/server.conf",
    "etc/signaling/server.conf",
    "etc/turnserver.conf",
    "etc/coturn/turnserver.conf",
    "usr/local/etc/turnserver.conf",
    "etc/eturnal.yml",
    "etc/eturnal/eturnal.yml",
    "opt/eturnal/etc/eturnal.yml",
    "etc/janus/*.jcfg",
    "opt/janus/etc/janus/*.jcfg",
    "usr/local/etc/janus/*.jcfg",
    "etc/nats*.conf",
    "etc/nats/*.conf",
    "etc/nginx/nginx.conf",
    "etc/nginx/conf.d/*",
    "etc/nginx/http.d/*",
    "etc/nginx/sites-enabled/*",
    "etc/nginx/snippets/*",
    "etc/apache2/sites-enabled/*",
    "etc/apache2/conf-enabled/*",
    "etc/httpd/conf/httpd.conf",
    "etc/httpd/conf.d/*",
    "etc/caddy/Caddyfile",
    "etc/caddy/*.caddy",
    "etc/caddy/conf.d/*",
    "etc/haproxy/haproxy.cfg",
    "etc/haproxy/conf.d/*.cfg",
    "etc/traefik/*.y*ml",
    "etc/traefik/*/*.y*ml",
    "var/lib/docker/volumes/nextcloud_aio_mastercontainer/_data/data/configuration.json",
    "var/lib/docker/volumes/*/_data/nginx/proxy_host/*.conf",
    "var/lib/docker/volumes/*/_data/server.conf",
    "var/lib/docker/volumes/*/_data/turnserver.conf",
    "var/lib/docker/volumes/*/_data/eturnal.yml",
    "var/lib/docker/volumes/*/_data/janus.jcfg",
    *(
        f"{directory}/systemd/system/{name}.service"
        for directory in ("etc", "lib", "usr/lib")
        for name in (
            "nextcloud-spreed-signaling",
            "signaling",
            "spreed-signaling",
            "janus",
            "janus-gateway",
            "nats-server",
            "nats",
            "gnatsd",
            "coturn",
            "eturnal",
        )
    ),
)

# Where proxies in Docker have their files, in a directory beside the installation or in it.
BESIDE = (
    "data/nginx/proxy_host/*.conf",
    "*/data/nginx/proxy_host/*.conf",
    "*/nginx/proxy-confs/*.conf",
    "*/*/nginx/proxy-confs/*.conf",
    "*/Caddyfile",
    "*/*/Caddyfile",
)

# A path in a compose file, and a name of a configuration file. What YAML means by it is not looked at: a file too many
# does no harm.
PATH = re.compile(r"(?<![\w.$}/~-])(?:\.{0,2}/)[\w./@+-]+")
NAME = re.compile(r"(?<![\w./@+$}~-])[\w@+-][\w./@+-]*\.(?:env|ya?ml|conf|cfg|jcfg|ini|toml|txt)\b")
# Portainer has the files of a stack below its own /data; what a stack calls ./x is in the host's /data.
PORTAINER = re.compile(r".*?(/compose/\d+(?:/v\d+)?)(/.*)?")


class ReadError(Exception):
    """The directory cannot be read; the text is a whole sentence for the user."""


class Left(Exception):
    """A file is left out; the text ends a sentence that starts with its name, and is "" where nobody needs to know."""


def read(path: Path) -> str:
    """Return the text of a file; raises Left."""
    try:
        # A named pipe would never end.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise Left("is no regular file")
            if status.st_size > LARGEST:
                raise Left(f"has {status.st_size} bytes, more than a configuration has")
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise Left(f"cannot be read: {error.strerror}") from error
    if b"\0" in data:
        raise Left("is no UTF-8 text")
    if b"PRIVATE KEY-----" in data:
        raise Left("")
    # A comment in another encoding is no reason to know nothing of the rest.
    return data.decode("utf-8", "replace")


def is_file(path: Path) -> bool:
    """Whether there is a file; what may not be looked at is none."""
    with suppress(OSError):
        return path.is_file()
    return False


def is_dir(path: Path) -> bool:
    """Whether there is a directory; what may not be looked at is none."""
    with suppress(OSError):
        return path.is_dir()
    return False


class Reader:
    """What was read so far, and what was left out."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files: dict[str, str] = {}
        self.skipped: list[str] = []
        self.seen: set[str] = set()
        self.size = self.entries = 0
        self.full = False

    def shown(self, path: Path) -> str:
        return str(path.relative_to(self.root)) if self.root in path.parents else str(path)

    def take(self, path: Path, quiet: bool = False) -> bool:
        """Read a file, once; `quiet` when it may well be something else. Returns whether its text is new."""
        name = self.shown(path)
        if name in self.seen:
            return False
        if len(self.files) >= MOST_FILES or self.size >= LARGEST_SUM:
            self.full = True
            return False
        self.seen.add(name)
        try:
            text = read(path)
        except Left as reason:
            if str(reason) and not quiet:
                self.skipped.append(f"{name} {reason}.")
            return False
        self.files[name] = text
        self.size += len(text)
        return True

    def below(self, top: Path, depth: int) -> Iterator[tuple[int, Path]]:
        """Yield the configuration files in a directory with how much they matter, those of the upper levels first."""
        level = [top]
        for _number in range(depth + 1):
            following: list[Path] = []
            for directory in level:
                for entry in self.listed(directory):
                    path = Path(entry.path)
                    if is_dir(path):
                        # A link may lead in a circle, or to where all the data is.
                        following += [] if entry.name in NEVER or path.is_symlink() else [path]
                    elif (rank := self.rank(directory, entry.name)) is not None:
                        yield rank, path
            level = following

    def rank(self, directory: Path, name: str) -> int | None:
        """Return how a file matters: 0 when it names others, 1 by its own name, 2 as configuration, None: not."""
        if KNOWN.fullmatch(name):
            return 1
        if self.root.name == "etc":
            return None
        if COMPOSE.fullmatch(name) or ENVIRONMENT.fullmatch(name):
            return 0
        return 2 if CONFIGURATION.fullmatch(name) or directory.name in PROXY_DIRECTORIES else None

    def listed(self, directory: Path) -> list[os.DirEntry[str]]:
        """Return the entries of a directory by name, as many as are looked at."""
        found: list[os.DirEntry[str]] = []
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    if len(found) >= MOST_IN_ONE or self.entries >= MOST_ENTRIES:
                        self.skipped.append(f"{self.shown(directory)} has more entries than were looked at.")
                        break
                    self.entries += 1
                    found.append(entry)
        except OSError as error:
            if directory == self.root:
                raise
            self.skipped.append(f"{self.shown(directory)} cannot be looked into: {error.strerror}.")
        return sorted(found, key=lambda entry: entry.name)


def interpolated(text: str, values: dict[str, str]) -> str:
    """Return a text with its variables replaced, line by line: what cannot be stays."""
    lines = []
    for line in text.splitlines():
        try:
            lines.append(_adopt_text.interpolate(line, values) if "$" in line else line)
        except _adopt_text.TextError:
            lines.append(line)
    return "\n".join(lines)


def named(text: str, directory: Path, root: Path) -> Iterator[Path]:
    """Yield the paths that a compose file or an env file names, as they may be meant."""
    for found in dict.fromkeys([*PATH.findall(text), *NAME.findall(text)]):
        for base in dict.fromkeys((directory, root)):
            path = os.path.normpath(base / found)
            yield Path(path)
            stack = PORTAINER.fullmatch(path)
            if stack:
                yield Path(f"/data{stack.group(1)}{stack.group(2) or ''}")


def follow(reader: Reader, names: Iterable[str]) -> list[str]:
    """Read what these files name, and return which of it is new."""
    values: dict[str, str] = {}
    for name, text in reader.files.items():
        if ENVIRONMENT.fullmatch(name.rpartition("/")[2]):
            try:
                values.update(_adopt_text.environment(text, values).values)
            except _adopt_text.TextError:
                continue
    before = set(reader.files)
    for name in list(names):
        directory = (reader.root / name).parent
        for path in named(interpolated(reader.files[name], values), directory, reader.root):
            inside = reader.root in path.parents
            if is_file(path):
                usual = CONFIGURATION.fullmatch(path.name) or KNOWN.fullmatch(path.name)
                if usual or NAMED.fullmatch(path.name):
                    reader.take(path, quiet=not (usual and inside))
            elif len(path.parts) > 2 and path.parts[1] not in NEVER and is_dir(path):
                walked = inside and len(path.relative_to(reader.root).parts) <= DEPTH and not path.is_symlink()
                for _rank, file in [] if walked else sorted(reader.below(path, 1)):
                    reader.take(file, quiet=True)
    return [name for name in reader.files if name not in before]


def found(directory: Path, pattern: str) -> list[Path]:
    """Return the files that match a pattern."""
    try:
        return [file for file in sorted(directory.glob(pattern))[:MOST_FILES] if is_file(file)]
    except OSError:
        return []


def top_of(root: Path) -> Path | None:
    """Return the directory whose etc belongs to what is read: that of this host, or of a copy."""
    for directory in (root, *root.parents):
        if directory.name == "etc":
            return directory.parent
    return root if is_dir(root / "etc") else None


def collect(path: Path, usual_places: bool) -> Reader:
    """Return what there is to be known of a directory, or of the file that is named; raises ReadError."""
    root = path.parent if is_file(path) else path
    reader = Reader(root)
    try:
        if path != root:
            reader.take(path)
        if root != Path("/"):
            for _rank, file in sorted(reader.below(root, DEPTH), key=lambda entry: entry[0]):
                reader.take(file)
    except OSError as error:
        raise ReadError(
            f"{path} was expected to be the directory of an installation and cannot be read: {error.strerror}. "
            f"Correct adopt=, or set ansible_become: true."
        ) from error
    new = [
        name
        for name in reader.files
        if name.endswith((".yml", ".yaml")) or ENVIRONMENT.fullmatch(name.rpartition("/")[2])
    ]
    for _number in range(ROUNDS):
        new = follow(reader, new)
    top = top_of(root) or (Path("/") if usual_places else None)
    places = [(top, pattern) for pattern in PLACES if top]
    places += [
        (directory, pattern)
        for directory in (root, root.parent)
        if len(directory.parts) > 1 and (usual_places or directory == root)
        for pattern in BESIDE
    ]
    for directory, pattern in places:
        for file in found(directory, pattern):
            reader.take(file, quiet=True)
    if reader.full:
        reader.skipped.append(
            f"{root} holds more than {MOST_FILES} configuration files or {LARGEST_SUM // 1048576} MiB of them, and the "
            f"rest was not read: name the directory with the compose file itself."
        )
    return reader


def main() -> None:
    """Read and return."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "usual_places": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    path = Path(module.params["path"])
    if not path.is_absolute():
        module.fail_json(
            msg=f"path is {path}, expected an absolute path of a directory on this host: say -e adopt=/path/of/it."
        )
    path = Path(os.path.realpath(path))
    try:
        reader = collect(path, module.params["usual_places"])
    except ReadError as error:
        module.fail_json(msg=str(error))
    more = len(reader.skipped) - MOST_SKIPPED
    module.exit_json(
        changed=False,
        files=reader.files,
        skipped=reader.skipped[:MOST_SKIPPED] + ([f"{more} more were left out like these."] if more > 0 else []),
        path=str(reader.root),
        entry=path.name if path != reader.root else "",
    )


if __name__ == "__main__":
    main()
