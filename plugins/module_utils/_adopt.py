# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A compose installation of the backend as data: its services, what they are told, and its Nextclouds.

Everything here is pure, and no message holds a value of a secret. The languages of the files are in `_adopt_text`; the
parser of YAML is handed in, since hosts may have none.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Mapping, Sequence
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

# What the signaling server's image has in the place of a variable that is not set: the entrypoint leaves the sample
# (strukturag/nextcloud-spreed-signaling, docker/server/entrypoint.sh and server.conf.in).
SAMPLES = {
    ("sessions", "hashkey"): "the-secret-for-session-checksums",
    ("sessions", "blockkey"): "-encryption-key-",
    ("clients", "internalsecret"): "the-shared-secret-for-internal-clients",
}

# Environment variable of that image -> section and option of server.conf.
VARIABLES = {
    "HASH_KEY": ("sessions", "hashkey"),
    "BLOCK_KEY": ("sessions", "blockkey"),
    "INTERNAL_SHARED_SECRET_KEY": ("clients", "internalsecret"),
    "BACKENDS_ALLOWALL": ("backend", "allowall"),
    "BACKENDS_ALLOWALL_SECRET": ("backend", "secret"),
    "NATS_URL": ("nats", "url"),
    "JANUS_URL": ("mcu", "url"),
    "MAX_STREAM_BITRATE": ("mcu", "maxstreambitrate"),
    "MAX_SCREEN_BITRATE": ("mcu", "maxscreenbitrate"),
    "TURN_API_KEY": ("turn", "apikey"),
    "TURN_SECRET": ("turn", "secret"),
    "TURN_SERVERS": ("turn", "servers"),
    "TRUSTED_PROXIES": ("app", "trustedproxies"),
    "HTTP_LISTEN": ("http", "listen"),
    "HTTPS_LISTEN": ("https", "listen"),
    "STATS_IPS": ("stats", "allowed_ips"),
}
_PER_BACKEND = {
    "URLS": "urls",
    "URL": "url",
    "SHARED_SECRET": "secret",
    "SESSION_LIMIT": "sessionlimit",
    "MAX_STREAM_BITRATE": "maxstreambitrate",
    "MAX_SCREEN_BITRATE": "maxscreenbitrate",
}

# Part of a service: words in the image's name without registry and version, and names that a service has.
KINDS = {
    "signaling": (("spreed-signaling",), ("signaling", "signalling", "spreedbackend", "talk-hpb", "spreed-signaling")),
    "janus": (("janus",), ("janus",)),
    "coturn": (("coturn", "turnserver"), ("coturn", "turn", "turnserver")),
    "nats": (("nats",), ("nats",)),
    "proxy": (("traefik", "nginx", "caddy", "haproxy", "httpd"), ("traefik", "proxy", "nginx", "caddy")),
}

# Options of one letter (coturn, mainrelay.c; janus-gateway, options.c). coturn's -n and -c have no other names.
COTURN_SHORT = {
    "p": "listening-port",
    "L": "listening-ip",
    "X": "external-ip",
    "E": "relay-ip",
    "r": "realm",
    "l": "log-file",
    "v": "verbose",
    "V": "Verbose",
    "z": "no-auth",
}
JANUS_SHORT = {"S": "stun-server", "r": "rtp-port-range"}

LoadYaml = Callable[[str], Any]


class AdoptError(Exception):
    """What was found cannot be adopted; the text has one sentence for each problem, one a line, without a secret."""


@dataclass
class Port:
    """A published range of ports: on the host and in the container, both (first, last)."""

    address: str
    host: tuple[int, int]
    container: tuple[int, int]
    protocol: str


@dataclass
class Service:
    """One service of the compose file, with variables replaced and short forms made long."""

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
    labels: dict[str, str] = field(default_factory=dict)
    depends_on: dict[str, str] = field(default_factory=dict)
    raw: dict[str, Any] = field(default_factory=dict)

    @property
    def on_host_network(self) -> bool:
        return self.raw.get("network_mode") == "host"

    def publishes(self, port: int, protocol: str) -> Port | None:
        """Return the entry that publishes a port of the container, or None."""
        for entry in self.ports:
            if entry.protocol == protocol and entry.container[0] <= port <= entry.container[1]:
                return entry
        return None


@dataclass
class Backend:
    """A Nextcloud as the signaling server knows it. Limits are None where nothing is said, bitrates in bit/s."""

    name: str
    urls: list[str]
    secret: str
    session_limit: int | None = None
    stream_bitrate: int | None = None
    screen_bitrate: int | None = None
    old_key: bool = False


@dataclass
class Installation:
    """All that the files say."""

    path: str
    files: dict[str, str]
    compose: str = ""
    variables: dict[str, str] = field(default_factory=dict)
    services: dict[str, Service] = field(default_factory=dict)
    networks: dict[str, Any] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    env_texts: dict[str, _adopt_text.Environment] = field(default_factory=dict)
    conf_name: str = ""
    conf: dict[str, dict[str, str]] = field(default_factory=dict)
    backends: list[Backend] = field(default_factory=list)
    turn: list[tuple[str, str]] = field(default_factory=list)
    turn_arguments: list[tuple[str, str]] = field(default_factory=list)
    turn_conf: str = ""
    janus_arguments: list[tuple[str, str]] = field(default_factory=list)
    janus: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def service(self, kind: str) -> Service | None:
        """Return the service of a kind in `KINDS`, or None."""
        return self.services.get(self.kinds.get(kind, ""))

    def option(self, section: str, name: str) -> str:
        """Return an option of the signaling server, "" where it is not set."""
        return self.conf.get(section, {}).get(name, "")

    def turn_values(self, name: str) -> list[str]:
        """Return the values of an option of coturn that counts, [""] where it has none and [] where it is not set."""
        return [value for option, value in self.turn if option == name]

    def resolve(self, name: str) -> str:
        """Return the name under which a path of the compose file is in `files`."""
        whole = posixpath.normpath(posixpath.join(self.path, name))
        return posixpath.relpath(whole, self.path) if whole.startswith(f"{self.path.rstrip('/')}/") else whole


def read(files: Mapping[str, str], path: str, load: LoadYaml) -> Installation:
    """Return the installation in `files` ({name relative to `path`, or absolute: text}).

    load: parses YAML with every scalar as text, raises ValueError. Raises AdoptError.
    """
    found = Installation(path=path, files=dict(files))
    try:
        _read_compose(found, load)
        _read_signaling(found)
        _read_turn(found)
    except TextError as error:
        raise AdoptError(f"{error}.") from error
    _read_janus(found)
    found.backends = _backends(found)
    if not found.backends:
        raise AdoptError(
            f"The signaling server of {path} names no Nextcloud in {found.conf_name or 'BACKENDS'}, expected at least "
            f"one with a URL and a secret: correct adopt=, or begin with inventory.example."
        )
    return found


def _read_compose(found: Installation, load: LoadYaml) -> None:
    """Read the compose file, what overrides it, and the variables for both."""
    if ".env" in found.files:
        found.env_texts[".env"] = _environment(found, ".env", {})
        found.variables = found.env_texts[".env"].values
    said = found.variables.get("COMPOSE_FILE", "")
    if said:
        separator = found.variables.get("COMPOSE_PATH_SEPARATOR") or ":"
        names = [name for name in map(found.resolve, said.split(separator)) if name in found.files]
    else:
        names = [name for name in COMPOSE if name in found.files][:1]
    if not names and not _bare_conf(found):
        raise AdoptError(
            f"{found.path} has none of {', '.join(COMPOSE)}, expected the directory of a compose installation: correct "
            f"adopt=."
        )
    names += [] if said else [name for name in OVERRIDES if name in found.files][:1]
    document: dict[str, Any] = {}
    for name in names:
        try:
            part = load(found.files[name]) or {}
        except ValueError as error:
            raise AdoptError(f"{found.path}/{name} is no YAML, expected a compose file: correct it.") from error
        if not isinstance(part, dict) or not isinstance(part.get("services", {}), dict):
            raise AdoptError(f"{found.path}/{name} has no mapping 'services', expected a compose file: correct adopt=.")
        document = _merged(document, _interpolated(part, found.variables, name))
    found.compose = names[0] if names else ""
    found.networks = document.get("networks") or {}
    for name, raw in (document.get("services") or {}).items():
        found.services[name] = _service(found, name, raw or {})
    for kind in KINDS:
        found.kinds[kind] = _of_kind(found, kind)


def _environment(found: Installation, name: str, known: Mapping[str, str]) -> _adopt_text.Environment:
    try:
        return _adopt_text.environment(found.files[name], known)
    except TextError as error:
        raise AdoptError(f"{found.path}/{name} {error}.") from error


def _interpolated(value: Any, variables: Mapping[str, str], name: str) -> Any:
    """Return a document with the variables in all its texts replaced; keys stay."""
    if isinstance(value, dict):
        return {str(key): _interpolated(entry, variables, name) for key, entry in value.items()}
    if isinstance(value, list):
        return [_interpolated(entry, variables, name) for entry in value]
    try:
        return _adopt_text.interpolate(value, variables) if isinstance(value, str) else value
    except TextError as error:
        raise AdoptError(f"{name} {error}.") from error


def _merged(below: Any, above: Any) -> Any:
    """Return two documents as compose merges them, as far as it matters here: mappings and lists grow."""
    if isinstance(below, dict) and isinstance(above, dict):
        return {**below, **{key: _merged(below[key], value) if key in below else value for key, value in above.items()}}
    if isinstance(below, list) and isinstance(above, list):
        return below + above
    return above


def _pairs(value: Any) -> dict[str, str]:
    """Return a mapping, or a list of NAME=VALUE, as a mapping; names without a value are left out."""
    if isinstance(value, dict):
        return {key: str(entry) for key, entry in value.items() if entry is not None}
    pairs = [str(entry).partition("=") for entry in value or []]
    return {name.strip(): entry for name, sign, entry in pairs if sign}


def _words(value: Any) -> list[str]:
    if isinstance(value, list):
        return [str(entry) for entry in value]
    try:
        return shlex.split(value) if isinstance(value, str) else []
    except ValueError:
        return str(value).split()


def _service(found: Installation, name: str, raw: dict[str, Any]) -> Service:
    """Return one service; its env files are read, and its own environment wins over them."""
    build = raw.get("build")
    build = {"context": build} if isinstance(build, str) else build or {}
    entries = raw.get("env_file") or []
    entries = entries if isinstance(entries, list) else [entries]
    env_files = [found.resolve(str(entry.get("path", "") if isinstance(entry, dict) else entry)) for entry in entries]
    environment: dict[str, str] = {}
    for file in env_files:
        if file in found.files:
            found.env_texts[file] = _environment(found, file, found.variables)
            environment.update(found.env_texts[file].values)
        else:
            found.notes.append(f"{file}, the env file of the service {name}, could not be read.")
    environment.update(_pairs(raw.get("environment")))
    context = str(build.get("context", ""))
    networks, depends = raw.get("networks") or {}, raw.get("depends_on") or {}
    return Service(
        name=name,
        image=str(raw.get("image") or ""),
        build=bool(build),
        build_args=_pairs(build.get("args")),
        dockerfile=found.resolve(posixpath.join(context, str(build.get("dockerfile", "Dockerfile")))) if build else "",
        environment=environment,
        env_files=env_files,
        command=_words(raw.get("entrypoint")) + _words(raw.get("command")),
        ports=[port for entry in raw.get("ports") or [] for port in _ports(entry)],
        volumes=[pair for entry in raw.get("volumes") or [] for pair in _volume(entry)],
        networks=list(networks) or ([] if "network_mode" in raw else ["default"]),
        labels=_pairs(raw.get("labels")),
        depends_on={
            key: str((entry or {}).get("condition", "")) if isinstance(entry, dict) else ""
            for key, entry in (depends.items() if isinstance(depends, dict) else dict.fromkeys(depends).items())
        },
        raw=raw,
    )


def _range(text: str) -> tuple[int, int] | None:
    first, _dash, last = str(text).partition("-")
    return (int(first), int(last or first)) if first.isdigit() and (last or first).isdigit() else None


def _ports(entry: Any) -> list[Port]:
    """Return one entry of `ports`, in its short form [address:][host:]container[/protocol] or its long one."""
    if isinstance(entry, dict):
        inside = _range(str(entry.get("target", "")))
        outside = _range(str(entry.get("published", "")))
        protocol, address = str(entry.get("protocol", "tcp")), str(entry.get("host_ip", ""))
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


def _of_kind(found: Installation, kind: str) -> str:
    """Return the name of the service of a kind, by its image first, "" when there is none."""
    words, names = KINDS[kind]
    for service in found.services.values():
        repository = re.sub(r"[:@].*$", "", service.image.rpartition("/")[2])
        if any(repository == word or word in repository.split("-") or word in repository for word in words):
            return service.name
    return next((name for name in found.services if name.lower() in names), "")


def _mounted(found: Installation, service: Service, wanted: str) -> str:
    """Return the name of the file that is at the path `wanted` in a container, "" when none of ours is."""
    for source, target in service.volumes:
        if not source.startswith(("/", ".", "~")):
            continue
        if target.rstrip("/") == wanted:
            name = found.resolve(source)
        elif wanted.startswith(f"{target.rstrip('/')}/"):
            name = found.resolve(posixpath.join(source, wanted[len(target.rstrip("/")) + 1 :]))
        else:
            continue
        if name in found.files:
            return name
        found.notes.append(f"{name}, which the service {service.name} mounts at {wanted}, could not be read.")
    return ""


def _bare_conf(found: Installation) -> str:
    """Return the name of a server.conf that stands alone, without compose."""
    names = [name for name in found.files if posixpath.basename(name) == "server.conf"]
    return sorted(names, key=len)[0] if names else ""


def _read_signaling(found: Installation) -> None:
    """Find out what the signaling server is told: by a server.conf that is mounted, or by variables."""
    service = found.service("signaling")
    if service is None:
        found.conf_name = _bare_conf(found)
        if not found.conf_name:
            raise AdoptError(
                f"{found.path}/{found.compose} has no service that runs the signaling server, expected one with the "
                f"image strukturag/nextcloud-spreed-signaling: correct adopt=."
            )
    else:
        place = service.environment.get("CONFIG") or "/config/server.conf"
        for option, value in zip(service.command, service.command[1:]):
            place = value if option.lstrip("-") == "config" else place
        found.conf_name = _mounted(found, service, place)
    if found.conf_name:
        try:
            found.conf = _adopt_text.ini(found.files[found.conf_name])
        except TextError as error:
            raise AdoptError(f"{found.path}/{found.conf_name} {error}.") from error
        known = service.environment if service else {}
        for section in found.conf.values():
            for option, value in section.items():
                # The server does this for some options; a variable that is not set leaves its name.
                section[option] = re.sub(r"\$\((\w+)\)", lambda m: known.get(m.group(1), m.group(1)), value)
    elif service is not None:
        found.conf = _from_variables(service.environment)
    if found.option("backend", "backendtype") == "etcd":
        raise AdoptError(
            f"The signaling server of {found.path} has its backends in etcd, expected them in {found.conf_name}: they "
            f"cannot be seen from its files. Write their groups by hand, after inventory.example."
        )


def _from_variables(environment: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return what the image's entrypoint would write into server.conf."""
    conf: dict[str, dict[str, str]] = {}
    for (section, option), sample in SAMPLES.items():
        conf.setdefault(section, {})[option] = sample
    for name, (section, option) in VARIABLES.items():
        if environment.get(name):
            conf.setdefault(section, {})[option] = environment[name].strip()
    ids = environment.get("BACKENDS", "").replace(",", " ").split()
    conf.setdefault("backend", {})["backends"] = ", ".join(ids)
    for name in ids:
        prefix = f"BACKEND_{name.upper()}_"
        found = {key: environment.get(prefix + part, "").strip() for part, key in _PER_BACKEND.items()}
        conf[name.lower()] = {key: value for key, value in found.items() if value}
    return conf


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _backends(found: Installation) -> list[Backend]:
    """Return the Nextclouds in the order in which the signaling server has them; those it skips are noted."""
    result = []
    common = found.option("backend", "secret")
    if found.option("backend", "allowall").lower() in ("1", "t", "true", "y", "yes", "on"):
        found.notes.append(
            "The old signaling server takes every Nextcloud that knows its secret (allowall); only those that it names "
            "were taken over."
        )
    for name in _split(found.option("backend", "backends")):
        section = found.conf.get(name.lower(), {})
        urls, secret = _split(section.get("urls", "") or section.get("url", "")), section.get("secret", "") or common
        if not urls or not secret:
            missing = "URL" if not urls else "secret"
            found.notes.append(f"{name} has no {missing}: the old signaling server left it out, and so was done here.")
            continue
        result.append(
            Backend(
                name=name,
                urls=urls,
                secret=secret,
                session_limit=_number(section.get("sessionlimit", "")),
                stream_bitrate=_number(section.get("maxstreambitrate", "")),
                screen_bitrate=_number(section.get("maxscreenbitrate", "")),
                old_key="urls" not in section,
            )
        )
    for host in [] if result else _split(found.option("backend", "allowed")):
        result.append(Backend(host.partition(".")[0], [f"https://{host}"], common, old_key=True))
    return [backend for backend in result if backend.secret]


def _read_turn(found: Installation) -> None:
    """Find out what coturn is told. With -n it reads no file, and arguments win over a file's lines."""
    service = found.service("coturn")
    lines: list[tuple[str, str]] = []
    if service is None:
        names = [name for name in found.files if posixpath.basename(name) == "turnserver.conf"]
        found.turn_conf = names[0] if names else ""
    else:
        found.turn_arguments = _adopt_text.arguments(service.command, COTURN_SHORT)
        said = dict(found.turn_arguments).get("c", "")
        for place in [said] if said else ["/etc/coturn/turnserver.conf", "/etc/turnserver.conf"]:
            found.turn_conf = found.turn_conf or _mounted(found, service, place)
    if found.turn_conf:
        lines = _adopt_text.turnserver(found.files[found.turn_conf])
    given = {name for name, _value in found.turn_arguments}
    ignored = "n" in given
    found.turn = found.turn_arguments + [(k, v) for k, v in ([] if ignored else lines) if k not in given]


def _read_janus(found: Installation) -> None:
    """Find out what Janus is told. Arguments win over its file."""
    service = found.service("janus")
    if service is None:
        return
    names = [found.resolve(source) for source, _target in service.volumes if source.endswith(".jcfg")]
    names += [
        name
        for source, target in service.volumes
        for name in found.files
        if target.rstrip("/").endswith("janus") and name == posixpath.join(found.resolve(source), "janus.jcfg")
    ]
    for name in names:
        found.janus.update(_adopt_text.jcfg(found.files.get(name, "")))
    found.janus_arguments = _adopt_text.arguments(service.command, JANUS_SHORT)
    for option, value in found.janus_arguments:
        if option == "stun-server":
            found.janus["stun_server"] = value
        elif option == "nat-1-1":
            found.janus["nat_1_1_mapping"] = value
        elif option == "rtp-port-range":
            found.janus["rtp_port_range"] = value


def http_rules(service: Service | None) -> list[str]:
    """Return the rules of Traefik's routers on a service."""
    labels = service.labels if service else {}
    return [value for name, value in labels.items() if re.fullmatch(r"traefik\.http\.routers\..+\.rule", name)]


def domain(found: Installation) -> str:
    """Return the name of the signaling server, "" if unknown: Traefik's rule first, then what people call it."""
    service = found.service("signaling")
    for rule in http_rules(service):
        match = re.search(r"Host\([`'\"]([A-Za-z0-9.-]+)", rule)
        if match:
            return match.group(1).lower()
    said = [(service.environment if service else {}).get("EXTERNAL_HOSTNAME", "")]
    said += [
        value for name, value in found.variables.items() if re.search(r"(HPB|SIGNALL?ING)\w*(FQDN|DOMAIN|HOST)", name)
    ]
    return next((value.lower() for value in said if is_name(value)), "")


def is_name(text: str) -> bool:
    """Whether the text is a host name with a dot, and no address."""
    return bool(re.fullmatch(r"(?=.*[A-Za-z])[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+", text))


def turn_domain(found: Installation) -> str:
    """Return the name of the TURN server, "" if unknown."""
    said = found.turn_values("realm") + found.turn_values("server-name")
    said += [value for name, value in found.variables.items() if re.search(r"TURN\w*(FQDN|DOMAIN|HOST|REALM)", name)]
    servers = [re.sub(r"^turns?:", "", server) for server in _split(found.option("turn", "servers"))]
    said += [re.split(r"[:?]", server)[0] for server in servers]
    return next((value.lower() for value in said if is_name(value)), "")


def turn_secrets(found: Installation) -> list[str]:
    """Return the secrets that coturn accepts; where nothing is known of it, the one that the signaling server has."""
    given = [value for value in found.turn_values("static-auth-secret") if value]
    if not given and not found.turn:
        given = [found.option("turn", "secret")]
    return [value for value in dict.fromkeys(given) if value]


def images(found: Installation) -> Sequence[tuple[str, str]]:
    """Return (kind, image) of the services of the backend."""
    pairs = [(kind, found.service(kind)) for kind in ("signaling", "janus", "coturn", "nats")]
    return [(kind, service.image) for kind, service in pairs if service is not None]
