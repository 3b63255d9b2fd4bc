# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compose projects as data: files found, included, extended, overridden and with their variables replaced.

Everything here is pure, and no message holds a value. The parser of YAML is handed in, since hosts may have none.
Source: the Compose Specification (compose-spec/compose-spec, 13-merge.md, 14-include.md, 05-services.md).
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Callable

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _adopt_text
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._adopt_text import TextError

# In the order in which compose looks for them, and those that it merges into them.
COMPOSE = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
OVERRIDES = (
    "compose.override.yaml",
    "compose.override.yml",
    "docker-compose.override.yaml",
    "docker-compose.override.yml",
)
# Where the variables of a project are; Portainer writes those of a stack into the second one.
ENVIRONMENTS = (".env", "stack.env")

# Where Docker has its volumes.
VOLUMES = "/var/lib/docker/volumes"

# Projects of one installation, and files in a row of includes and extends. No installation has as many.
MOST_PROJECTS = 50
DEEPEST = 20
# Values of one project; anchors of YAML can be as many as nobody waits for.
MOST_VALUES = 200_000

# Part of a service: words in the image's name without registry and version, and names that a service has whose image
# tells nothing. The first that fits counts.
KINDS = {
    "recording": (("talk-recording", "talk_recording"), ()),
    "aio_master": (("all-in-one",), ()),
    "aio": (("aio-talk",), ()),
    "signaling": (("spreed-signaling",), ("signaling", "signalling", "spreedbackend", "talk-hpb", "spreed-signaling")),
    "janus": (("janus",), ("janus",)),
    "eturnal": (("eturnal",), ("eturnal",)),
    "coturn": (("coturn", "turnserver"), ("coturn", "turn", "turnserver")),
    "nats": (("nats",), ("nats",)),
    "form": (("nginx-proxy-manager", "npmplus", "zoraxy", "cloudflared"), ()),
    "proxy": (("traefik", "nginx", "caddy", "haproxy", "httpd", "swag"), ("traefik", "proxy", "nginx", "caddy")),
}
# Words of images that belong to a program and are not it.
_BESIDE = re.compile(r"exporter|prometheus|-box$|websockify|ui$")

LoadYaml = Callable[[str], Any]


class AdoptError(Exception):
    """What was found cannot be adopted; the text has one sentence for each problem, one a line, without a secret.

    `notes` has what else was noticed until then.
    """

    def __init__(self, text: str, notes: Iterable[str] = ()) -> None:
        super().__init__(text)
        self.notes = list(notes)


@dataclass(frozen=True)
class Replaced:
    """What stands behind !reset (None) or !override in an overriding file: it takes the place of what was there."""

    value: Any = None


class Files:
    """Texts by their absolute path, what they are called for the user, and what was noticed on the way."""

    def __init__(self, path: str, texts: Mapping[str, str], notes: Iterable[str] = ()) -> None:
        self.path = posixpath.normpath(path)
        self.texts = {self.place(name): text for name, text in texts.items()}
        self.notes = list(notes)

    def place(self, name: str, base: str = "") -> str:
        """Return the absolute path of a name that is relative to `base`, or to the installation."""
        return posixpath.normpath(posixpath.join(base or self.path, name))

    def shown(self, place: str) -> str:
        """Return what a path is called: relative to the installation, if it is below it."""
        return posixpath.relpath(place, self.path) if place.startswith(f"{self.path.rstrip('/')}/") else place

    def note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)

    def inside(self, place: str) -> bool:
        """Whether a path is below the installation."""
        return self.shown(place) != place

    def named(self, *names: str) -> list[str]:
        """Return the paths of files with one of these names, those of the installation and the shortest first; what
        is in a volume of Docker's elsewhere belongs to whoever mounts it.
        """
        found = [
            place
            for place in self.texts
            if posixpath.basename(place) in names and (self.inside(place) or not place.startswith(f"{VOLUMES}/"))
        ]
        return sorted(found, key=lambda place: (place == self.shown(place), place.count("/"), place))


@dataclass
class Port:
    """A published range of ports: on the host and in the container, both (first, last)."""

    address: str
    host: tuple[int, int]
    container: tuple[int, int]
    protocol: str


@dataclass
class Service:
    """One service of a compose file, with variables replaced, short forms made long and absolute sources of volumes."""

    name: str
    image: str = ""
    build: bool = False
    build_args: dict[str, str] = field(default_factory=dict)
    dockerfile: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    env_files: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    ports: list[Port] = field(default_factory=list)
    volumes: list[tuple[str, str]] = field(default_factory=list)
    networks: list[str] = field(default_factory=list)
    aliases: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    depends_on: dict[str, str] = field(default_factory=dict)
    raw: dict[str, Any] = field(default_factory=dict)

    @property
    def container_name(self) -> str:
        """Return the name that its container is given, "" where compose makes one: PROJECT-SERVICE-1."""
        return str(self.raw.get("container_name") or "")

    @property
    def restart(self) -> str:
        """Return what makes its container start again: no, always, on-failure or unless-stopped, "" for no."""
        policy = _mapping(_mapping(self.raw.get("deploy")).get("restart_policy")).get("condition")
        said = str(policy or self.raw.get("restart") or "")
        return {"any": "always", "none": "no"}.get(said, said)

    @property
    def on_host_network(self) -> bool:
        return self.raw.get("network_mode") == "host"

    @property
    def known_as(self) -> set[str]:
        """Return the names by which other containers reach it."""
        return {
            self.name,
            *self.aliases,
            *(str(self.raw.get(key) or self.name) for key in ("container_name", "hostname")),
        }

    def publishes(self, port: int, protocol: str) -> Port | None:
        """Return the entry that publishes a port of the container, or None."""
        for entry in self.ports:
            if entry.protocol == protocol and entry.container[0] <= port <= entry.container[1]:
                return entry
        return None

    def outside(self, port: int, protocol: str) -> int | None:
        """Return the port of the host at which a port of the container is reached, None where it is at none."""
        if self.on_host_network:
            return port
        entry = self.publishes(port, protocol)
        return entry.host[0] + port - entry.container[0] if entry and entry.host[0] else None


@dataclass
class Project:
    """What docker compose would start from one directory."""

    files: Files
    directory: str
    names: list[str] = field(default_factory=list)
    name: str = ""
    variables: dict[str, str] = field(default_factory=dict)
    services: dict[str, Service] = field(default_factory=dict)
    networks: dict[str, dict[str, Any]] = field(default_factory=dict)
    volumes: dict[str, dict[str, Any]] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    env_texts: dict[str, _adopt_text.Environment] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)
    unset: dict[str, None] = field(default_factory=dict)

    def of_kind(self, kind: str) -> list[Service]:
        """Return the services of a kind in `KINDS`."""
        return [service for name, service in self.services.items() if self.kinds[name] == kind]

    @property
    def called(self) -> str:
        """Return what compose calls it: by itself like its directory."""
        return self.name or re.sub(r"[^a-z0-9_-]", "", posixpath.basename(self.directory).lower()).lstrip("_-")

    @property
    def ours(self) -> list[Service]:
        """Return the services that are signaling servers, each of them one of its own."""
        return [service for name, service in self.services.items() if self.kinds[name] in ("signaling", "aio")]


def find(files: Files, load: LoadYaml, entry: str = "") -> list[Project]:
    """Return the projects with a signaling server; where there is none, the one that was meant, or nothing.

    entry: the name of the one file that was named, "" when it was a directory. Raises AdoptError.
    """
    groups = [(files.path, [files.place(entry)])] if entry else _top(files)
    top = [_project(files, directory, names, load) for directory, names in groups]
    if entry or any(project.ours for project in top):
        return top
    below = []
    for directory, names in _below(files):
        taken = list(files.notes)
        try:
            below.append(_project(files, directory, names, load))
        except AdoptError as error:
            files.notes[:] = taken
            files.note(f"{error} It was left out.")
            continue
        if not below[-1].ours:
            # What is wrong in files of others is nobody's business here.
            files.notes[:] = taken
            del below[-1]
    inner = {place for project in below for place in project.read - set(project.names)}
    return [project for project in below if not set(project.names) <= inner][:MOST_PROJECTS] or top


def _top(files: Files) -> list[tuple[str, list[str]]]:
    """Return what compose would take in the directory itself."""
    said: dict[str, str] = {}
    for name in ENVIRONMENTS:
        if files.place(name) in files.texts:
            said.update(_environment(files, files.place(name), {}).values)
    if said.get("COMPOSE_FILE"):
        separator = said.get("COMPOSE_PATH_SEPARATOR") or ":"
        wanted = [files.place(name) for name in said["COMPOSE_FILE"].split(separator) if name]
        for place in wanted:
            if place not in files.texts:
                files.note(f"{files.shown(place)}, which COMPOSE_FILE names, could not be read.")
        return [(files.path, names)] if (names := [place for place in wanted if place in files.texts]) else []
    names = _standard(files, files.path)
    return [(files.path, names)] if names else []


def _standard(files: Files, directory: str) -> list[str]:
    """Return the compose file of a directory with what overrides it."""
    names = [place for name in COMPOSE if (place := posixpath.join(directory, name)) in files.texts][:1]
    return (
        names + [place for name in OVERRIDES if names and (place := posixpath.join(directory, name)) in files.texts][:1]
    )


def _below(files: Files) -> list[tuple[str, list[str]]]:
    """Return the projects of the directories below, and files with services of other names, each alone.

    Of what Portainer keeps of a stack (12/v3/docker-compose.yml) only the last version counts.
    """
    inside = [place for place in files.texts if files.shown(place) != place]
    directories = sorted({posixpath.dirname(place) for place in inside}, key=lambda name: (name.count("/"), name))
    newest: dict[str, int] = {}
    for directory in directories:
        match = re.fullmatch(r"(.*/\d+)/v(\d+)", directory)
        if match and _standard(files, directory):
            newest[match.group(1)] = max(int(match.group(2)), newest.get(match.group(1), 0))
    found = []
    for directory in directories:
        match = re.fullmatch(r"(.*/\d+)/v(\d+)", directory)
        if (match and int(match.group(2)) < newest.get(match.group(1), 0)) or directory in newest:
            continue
        standard = _standard(files, directory)
        if standard and directory != files.path:
            found.append((directory, standard))
        others = [
            place
            for place in inside
            if posixpath.dirname(place) == directory
            and place.endswith((".yml", ".yaml"))
            and posixpath.basename(place) not in (*COMPOSE, *OVERRIDES)
            and re.search(r"(?m)^services:", files.texts[place])
        ]
        found += [(directory, [place]) for place in others]
    return found


def _project(files: Files, directory: str, names: list[str], load: LoadYaml) -> Project:
    """Read the compose files of a project, what they lead to, and the variables for all of them."""
    project = Project(files, directory, names)
    for name in ENVIRONMENTS:
        place = posixpath.join(directory, name)
        if place in files.texts:
            project.env_texts[files.shown(place)] = text = _environment(files, place, project.variables)
            project.variables.update(text.values)
    reader = _Reader(project, load)
    document: dict[str, Any] = {}
    for place in names:
        document = _merged(document, reader.whole(place, project.variables, directory, ()))
    document = _settled(document)
    project.name = project.variables.get("COMPOSE_PROJECT_NAME") or str(document.get("name") or "")
    project.networks, project.volumes = (
        {name: _mapping(entry) for name, entry in _mapping(document.get(kind)).items()}
        for kind in ("networks", "volumes")
    )
    definitions = {kind: _mapping(document.get(kind)) for kind in ("configs", "secrets")}
    for name, raw in _mapping(document.get("services")).items():
        project.services[name] = _service(project, name, _mapping(raw))
        project.services[name].volumes += _given(project, name, _mapping(raw), definitions)
    for service in project.services.values():
        other = re.fullmatch(r"service:(.+)", str(service.raw.get("network_mode", "")))
        if other and other.group(1) in project.services:
            service.ports = service.ports + project.services[other.group(1)].ports
    project.kinds = {name: kind_of(service) for name, service in project.services.items()}
    if project.unset and project.ours:
        several = len(project.unset) > 1
        there = [posixpath.join(directory, name) for name in reversed(ENVIRONMENTS)]
        into = next((place for place in there if place in files.texts), there[-1])
        files.note(
            f"{files.shown(names[0])} uses {', '.join(list(project.unset)[:12])}, which no file that was read sets: "
            f"{'they were' if several else 'it was'} taken as empty. Put {'them' if several else 'it'} into "
            f"{files.shown(into)} where something is missing below."
        )
    return project


class _Reader:
    """Loads the files of one project, each with the variables that hold for it."""

    def __init__(self, project: Project, load: LoadYaml) -> None:
        self.project, self.files, self.load = project, project.files, load
        self.values = 0

    def part(self, place: str, variables: Mapping[str, str], base: str) -> dict[str, Any]:
        """Return one file with its variables replaced and its paths absolute; `base` is what they are relative to."""
        shown = self.files.shown(place)
        where = posixpath.join(self.files.path, shown)
        self.project.read.add(place)
        try:
            document = self.load(self.files.texts[place]) or {}
        except ValueError as error:
            raise AdoptError(f"{where} is no YAML, expected a compose file: correct it.") from error
        if not isinstance(document, dict) or not isinstance(document.get("services") or {}, dict):
            raise AdoptError(f"{where} has no mapping 'services', expected a compose file: correct adopt=.")
        document = self._interpolated(document, variables, shown)
        for kind in ("configs", "secrets"):
            for entry in _mapping(document.get(kind)).values():
                _anchor(entry, "file", base)
                if isinstance(entry, dict) and entry.get("environment"):
                    # What the variable is depends on the file; later nobody knows which.
                    entry["content"] = variables.get(str(entry["environment"]), "")
        services = _mapping(document.get("services"))
        document["services"] = {
            name: raw if isinstance(raw, Replaced) else self._normal(_mapping(raw), base, variables)
            for name, raw in services.items()
        }
        return document

    def _normal(self, raw: dict[str, Any], base: str, variables: Mapping[str, str]) -> dict[str, Any]:
        """Return a service in the forms in which two of them can be merged, its paths absolute."""
        instead = {key for key, value in raw.items() if isinstance(value, Replaced)}
        found = {key: value.value if key in instead else value for key, value in raw.items()}
        for key in ("environment", "labels"):
            if key in found:
                found[key] = self._assigned(found[key], variables)
        for key in ("networks", "depends_on"):
            if isinstance(found.get(key), list):
                found[key] = {str(name): None for name in found[key]}
        if isinstance(found.get("volumes"), list):
            found["volumes"] = [_anchored_volume(entry, base) for entry in found["volumes"]]
        if isinstance(found.get("build"), str):
            found["build"] = {"context": found["build"]}
        if isinstance(found.get("build"), dict):
            found["build"] = {**found["build"], "args": self._assigned(found["build"].get("args"), variables)}
            _anchor(found["build"], "context", base)
        if "env_file" in found:
            entries = [{"path": entry} if isinstance(entry, str) else entry for entry in _entries(found["env_file"])]
            found["env_file"] = [dict(entry) for entry in entries if isinstance(entry, dict)]
            for entry in found["env_file"]:
                _anchor(entry, "path", base)
        if isinstance(found.get("extends"), dict):
            found["extends"] = dict(found["extends"])
            _anchor(found["extends"], "file", base)
        return {key: Replaced(value) if key in instead else value for key, value in found.items()}

    def _assigned(self, value: Any, variables: Mapping[str, str]) -> dict[str, str]:
        """Return assignments as a mapping; a name without a value takes it from the variables of the project."""
        if isinstance(value, dict):
            bare = [str(key) for key, entry in value.items() if entry is None]
        else:
            bare = [str(entry) for entry in _entries(value) if "=" not in str(entry)]
        self.project.unset.update(dict.fromkeys(name for name in bare if name not in variables))
        return {**{name: variables[name] for name in bare if name in variables}, **_pairs(value)}

    def whole(self, place: str, variables: Mapping[str, str], base: str, chain: tuple[str, ...]) -> dict[str, Any]:
        """Return one file with what it includes and extends."""
        document = self.part(place, variables, base)
        for entry in _entries(document.pop("include", None)):
            document = _merged(self._included(place, entry, variables, base, (*chain, place)), document)
        services = document["services"]
        for name in list(services):
            services[name] = self._extended(services, name, place, variables, ())
        return document

    def _included(
        self, place: str, entry: Any, variables: Mapping[str, str], base: str, chain: tuple[str, ...]
    ) -> dict[str, Any]:
        said = entry if isinstance(entry, dict) else {"path": entry}
        places = [self.files.place(str(name), base) for name in _entries(said.get("path"))]
        if not places:
            return {}
        folder = self.files.place(str(said["project_directory"]), base) if said.get("project_directory") else ""
        folder = folder or posixpath.dirname(places[0])
        values: dict[str, str] = {}
        named = [self.files.place(str(name), base) for name in _entries(said.get("env_file"))]
        for file in named or [posixpath.join(folder, ".env")]:
            if file in self.files.texts:
                values.update(_environment(self.files, file, variables).values)
            elif named:
                self._missing(file, place, "has as an env file")
        document: dict[str, Any] = {}
        for other in places:
            if other in chain or len(chain) > DEEPEST:
                self.files.note(f"{self.files.shown(other)} includes itself: it was left out there.")
            elif other not in self.files.texts:
                self._missing(other, place, "includes")
            else:
                document = _merged(document, self.whole(other, {**values, **variables}, folder, chain))
        return document

    def _extended(
        self,
        services: dict[str, Any],
        name: str,
        place: str,
        variables: Mapping[str, str],
        chain: tuple[tuple[str, str], ...],
    ) -> Any:
        raw = services.get(name)
        if not isinstance(raw, dict) or "extends" not in raw:
            return raw
        said = raw["extends"] if isinstance(raw["extends"], dict) else {"service": raw["extends"]}
        own = {key: value for key, value in raw.items() if key != "extends"}
        other, where, among = str(said.get("service", "")), str(said.get("file") or place), services
        if (where, other) in chain or (where, other) == (place, name) or len(chain) > DEEPEST:
            self.files.note(f"The service {name} in {self.files.shown(place)} extends itself: it was taken as it is.")
            return own
        if where != place:
            if where not in self.files.texts:
                self._missing(where, place, f"extends for {name}")
                return own
            among = self.part(where, variables, posixpath.dirname(where))["services"]
        if other not in among:
            self.files.note(
                f"The service {name} extends {other}, which is not in {self.files.shown(where)}: it was taken as it is."
            )
            return own
        return _merged(self._extended(among, other, where, variables, (*chain, (where, other))), own)

    def _missing(self, other: str, place: str, what: str) -> None:
        self.files.note(f"{self.files.shown(other)}, which {self.files.shown(place)} {what}, could not be read.")

    def _interpolated(self, value: Any, variables: Mapping[str, str], name: str) -> Any:
        """Return a document with the variables in all its texts replaced; keys stay."""
        self.values += 1
        if self.values > MOST_VALUES:
            raise AdoptError(f"{name} has more than {MOST_VALUES} values, expected a compose file: correct adopt=.")
        if isinstance(value, dict):
            return {str(key): self._interpolated(entry, variables, name) for key, entry in value.items()}
        if isinstance(value, list):
            return [self._interpolated(entry, variables, name) for entry in value]
        if isinstance(value, Replaced):
            return Replaced(self._interpolated(value.value, variables, name))
        try:
            text = _adopt_text.interpolate(value, variables, self.project.unset) if isinstance(value, str) else value
        except TextError as error:
            raise AdoptError(f"{name} {error}.") from error
        return text


def _environment(files: Files, place: str, known: Mapping[str, str]) -> _adopt_text.Environment:
    try:
        return _adopt_text.environment(files.texts[place], known)
    except TextError as error:
        raise AdoptError(f"{posixpath.join(files.path, files.shown(place))} {error}.") from error


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _entries(value: Any) -> list[Any]:
    """Return a list, also of one that stands alone."""
    return value if isinstance(value, list) else [] if value is None else [value]


def _anchor(entry: Any, key: str, base: str) -> None:
    """Make a path in a mapping absolute."""
    if isinstance(entry, dict) and isinstance(entry.get(key), str):
        entry[key] = posixpath.normpath(posixpath.join(base, entry[key]))


def _anchored_volume(entry: Any, base: str) -> Any:
    if isinstance(entry, dict):
        source = str(entry.get("source", ""))
        return {**entry, "source": posixpath.normpath(posixpath.join(base, source))} if _is_path(source) else entry
    source, colon, rest = str(entry).partition(":")
    return f"{posixpath.normpath(posixpath.join(base, source))}:{rest}" if colon and _is_path(source) else str(entry)


def _is_path(source: str) -> bool:
    """Whether the source of a volume is a path, whose place can be known: that of ~ depends on who asks."""
    return source.startswith((".", "/"))


# What an overriding file says in place of what was there, where lists else grow.
_WHOLE = frozenset({"command", "entrypoint", "test"})


def _merged(below: Any, above: Any, key: str = "") -> Any:
    """Return two documents as compose merges them, as far as it matters here: mappings and lists grow."""
    if isinstance(above, Replaced) or key in _WHOLE:
        return above
    if isinstance(below, dict) and isinstance(above, dict):
        return {
            **below,
            **{name: _merged(below[name], value, name) if name in below else value for name, value in above.items()},
        }
    if isinstance(below, list) and isinstance(above, list):
        return below + above
    return below if above is None else above


def _settled(value: Any) -> Any:
    """Return a document in which nothing is left to be replaced."""
    if isinstance(value, Replaced):
        return _settled(value.value)
    if isinstance(value, dict):
        return {key: _settled(entry) for key, entry in value.items()}
    return [_settled(entry) for entry in value] if isinstance(value, list) else value


def _pairs(value: Any) -> dict[str, str]:
    """Return a mapping, or a list of NAME=VALUE, as a mapping; names without a value are left out."""
    if isinstance(value, dict):
        return {str(key): str(entry) for key, entry in value.items() if entry is not None}
    pairs = [str(entry).partition("=") for entry in _entries(value)]
    return {name.strip(): entry for name, sign, entry in pairs if sign}


def _words(value: Any) -> list[str]:
    if isinstance(value, list):
        return [str(entry) for entry in value]
    try:
        return shlex.split(value) if isinstance(value, str) else []
    except ValueError:
        return str(value).split()


def _service(project: Project, name: str, raw: dict[str, Any]) -> Service:
    """Return one service; its env files are read, and its own environment wins over them."""
    files, build = project.files, _mapping(raw.get("build"))
    environment: dict[str, str] = {}
    env_files = []
    for entry in _entries(raw.get("env_file")):
        place = str(_mapping(entry).get("path", ""))
        env_files.append(files.shown(place))
        if place in files.texts:
            project.env_texts[files.shown(place)] = text = _environment(files, place, project.variables)
            environment.update(text.values)
        elif str(_mapping(entry).get("required", "true")).lower() != "false":
            files.note(f"{files.shown(place)}, the env file of the service {name}, could not be read.")
    environment.update(_pairs(raw.get("environment")))
    context, dockerfile = str(build.get("context", "")), str(build.get("dockerfile") or "Dockerfile")
    networks = _mapping(raw.get("networks"))
    volumes = [pair for entry in _entries(raw.get("volumes")) for pair in _volume(entry)]
    return Service(
        name=name,
        image=str(raw.get("image") or ""),
        build=bool(build),
        build_args=_pairs(build.get("args")),
        dockerfile=posixpath.normpath(posixpath.join(context, dockerfile)) if build else "",
        environment=environment,
        env_files=env_files,
        command=_words(raw.get("entrypoint")) + _words(raw.get("command")),
        ports=[port for entry in _entries(raw.get("ports")) for port in ports(entry)],
        # Where a target has two sources, the last one counts.
        volumes=[(source, target) for target, source in dict(map(reversed, volumes)).items()],
        networks=list(networks) or ([] if "network_mode" in raw else ["default"]),
        aliases=[str(alias) for entry in networks.values() for alias in _entries(_mapping(entry).get("aliases"))],
        labels={**_pairs(_mapping(raw.get("deploy")).get("labels")), **_pairs(raw.get("labels"))},
        depends_on={
            str(key): str(_mapping(entry).get("condition", ""))
            for key, entry in _mapping(raw.get("depends_on")).items()
        },
        raw=raw,
    )


def _given(
    project: Project, service: str, raw: Mapping[str, Any], definitions: Mapping[str, dict[str, Any]]
) -> list[tuple[str, str]]:
    """Return source and target of each of the configs and secrets of a service, as if they were volumes."""
    files, found = project.files, []
    for kind, entry in [(one, entry) for one in definitions for entry in _entries(raw.get(one))]:
        said = entry if isinstance(entry, dict) else {"source": entry}
        name = str(said.get("source", ""))
        target = posixpath.join("/" if kind == "configs" else "/run/secrets", str(said.get("target") or name))
        definition = _mapping(definitions[kind].get(name))
        if definition.get("file"):
            found.append((str(definition["file"]), target))
        elif "content" in definition:
            place = f"{project.names[0]}: {kind}.{name}"
            files.texts[place] = str(definition["content"] or "")
            found.append((place, target))
        else:
            files.note(f"What {kind}.{name} of the service {service} is, only Docker knows: it could not be read.")
    return found


def _range(text: str) -> tuple[int, int] | None:
    match = re.fullmatch(r"\s*([0-9]{1,9})(?:-([0-9]{1,9}))?\s*", str(text))
    return (int(match.group(1)), int(match.group(2) or match.group(1))) if match else None


def ports(entry: Any) -> list[Port]:
    """Return one entry of `ports`, in its short form [address:][host:]container[/protocol] or its long one."""
    if isinstance(entry, dict):
        inside = _range(str(entry.get("target", "")))
        outside = _range(str(entry.get("published", "")))
        protocol, address = str(entry.get("protocol") or "tcp"), str(entry.get("host_ip") or "")
    else:
        rest, _slash, protocol = str(entry).partition("/")
        head, _colon, container = rest.rpartition(":")
        address, _colon, host = head.rpartition(":")
        inside, outside = _range(container), _range(host)
    return [Port(address.strip("[]"), outside or (0, 0), inside, protocol or "tcp")] if inside else []


def _volume(entry: Any) -> list[tuple[str, str]]:
    """Return source and target of one entry of `volumes`; an anonymous one has no source."""
    if isinstance(entry, dict):
        return [(str(entry.get("source", "")), str(entry.get("target", "")))]
    parts = str(entry).split(":")
    return [(parts[0], parts[1]) if len(parts) > 1 else ("", parts[0])]


def kind_of(service: Service) -> str:
    """Return what a service is, a key of `KINDS` or "": by its image, then by what it is told, then by its name."""
    repository, _colon, tag = service.image.partition("@")[0].rpartition("/")[2].partition(":")
    repository = repository.lower()
    if _BESIDE.search(repository):
        return ""
    for kind, (words, _names) in KINDS.items():
        if any(word in repository for word in words):
            if kind == "signaling" and tag.endswith("-proxy"):
                # The image of the signaling proxy, which stands before a Janus elsewhere.
                return ""
            return kind if kind != "proxy" or _at_the_edge(service, repository) else ""
    said = service.environment
    if {"NC_DOMAIN", "TURN_SECRET", "SIGNALING_SECRET", "INTERNAL_SECRET"} <= set(said):
        return "aio"
    if any(re.fullmatch(r"BACKEND_\w+_SHARED_SECRET", name) for name in said):
        return "signaling"
    for kind, (_words, names) in KINDS.items():
        if service.name.lower() in names and (kind != "proxy" or service.build):
            return kind
    return ""


def _at_the_edge(service: Service, repository: str) -> bool:
    """Whether a web server is the one that the world reaches: many an application has one of its own behind it."""
    return "traefik" in repository or any(service.outside(port, "tcp") for port in (80, 443, 4443, 8443))


def mounted(project: Project, service: Service, wanted: str) -> str:
    """Return the path of the file that is at the path `wanted` in a container, "" when none that was read is."""
    files, missed = project.files, ""
    for source, target in service.volumes:
        target = target.rstrip("/")
        inner = "" if target == wanted else wanted[len(target) + 1 :] if wanted.startswith(f"{target}/") else None
        if inner is None or not source:
            continue
        for folder in _sources(project, source):
            place = posixpath.normpath(posixpath.join(folder, inner)) if inner else folder
            if place in files.texts:
                return place
        missed = missed or files.shown(posixpath.join(source, inner) if inner else source)
    if missed:
        files.note(f"{missed}, which the service {service.name} mounts at {wanted}, could not be read.")
    return ""


def _sources(project: Project, source: str) -> list[str]:
    """Return where the source of a volume may be on the host, the likeliest first."""
    if source.startswith("/"):
        # Portainer reads a stack below its own /data; what a stack calls ./x is in the host's /data.
        match = re.fullmatch(r".*?(/compose/\d+(?:/v\d+)?)(/.*)?", source)
        return [source, *([f"/data{match.group(1)}{match.group(2) or ''}"] if match else [])]
    if source.startswith("~"):
        return []
    definition = project.volumes.get(source, {})
    device = str(_mapping(definition.get("driver_opts")).get("device") or "")
    if device.startswith("/"):
        return [device]
    names = [str(definition.get("name") or ""), source] if definition.get("external") or definition.get("name") else []
    names += [f"{project.called}_{source}"]
    start = f"{VOLUMES}/"
    known = {place[len(start) :].partition("/")[0] for place in project.files.texts if place.startswith(start)}
    alike = [name for name in known if name.endswith(f"_{source}")]
    # What the project was called when it was started is nowhere in its files.
    names += alike if len(alike) == 1 else []
    return [f"{VOLUMES}/{name}/_data" for name in names if name]
