# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An installation of the backend as data: what each signaling server in it is told, with its TURN server and its Janus.

There are three kinds of them: services of compose (`_adopt_compose`), the one container aio-talk with everything in it,
by itself or inside Nextcloud All-in-One, and packages with their files in /etc. Everything here is pure, and no message
holds a value of a secret. The languages of the files are in `_adopt_text`; the parser of YAML is handed in, since hosts
may have none.
"""

from __future__ import annotations

import ipaddress
import json
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _adopt_compose, _adopt_proxy, _adopt_text
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._adopt_compose import (
    COMPOSE,
    AdoptError,
    Files,
    LoadYaml,
    Project,
    Service,
)
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._adopt_proxy import Route
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._adopt_text import TextError

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
    "BACKENDS_COMPAT_ALLOWED": ("backend", "allowed"),
    "BACKENDS_COMPAT_SECRET": ("backend", "secret"),
    "BACKENDS_ALLOWALL_SECRET": ("backend", "secret"),
    "SKIP_VERIFY": ("backend", "skipverify"),
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

# Where the images of these programs, and their packages, have their files.
COTURN_FILES = ("/etc/coturn/turnserver.conf", "/etc/turnserver.conf")
ETURNAL_FILES = ("/etc/eturnal.yml", "/opt/eturnal/etc/eturnal.yml", "/etc/eturnal/eturnal.yml", "/conf/eturnal.yml")

# What the signaling server listens on: its sample, and in aio-talk (nextcloud/all-in-one, Containers/talk).
PORT = 8080
AIO_PORT = 8081
# Where the web server of Nextcloud All-in-One serves it (Containers/apache/Caddyfile).
AIO_PATH = "/standalone-signaling"
# The file of its master container with all that it knows (php/src/Data/DataConst.php).
AIO_FILE = "configuration.json"

TRUE = ("1", "t", "true", "y", "yes", "on")


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
    """One signaling server with all that the files say of it.

    `kinds` has the names of the services that it works with, by `_adopt_compose.KINDS`. `turn` has what its TURN server
    is told, in coturn's words.
    """

    files: Files
    project: Project
    kinds: dict[str, str] = field(default_factory=dict)
    conf_name: str = ""
    conf: dict[str, dict[str, str]] = field(default_factory=dict)
    backends: list[Backend] = field(default_factory=list)
    turn: list[tuple[str, str]] = field(default_factory=list)
    turn_arguments: list[tuple[str, str]] = field(default_factory=list)
    turn_conf: str = ""
    eturnal: bool = False
    all_in_one: bool = False
    janus_arguments: list[tuple[str, str]] = field(default_factory=list)
    janus: dict[str, str] = field(default_factory=dict)
    routes: list[Route] = field(default_factory=list)

    @property
    def path(self) -> str:
        """Return the directory that was given."""
        return self.files.path

    @property
    def notes(self) -> list[str]:
        return self.files.notes

    @property
    def services(self) -> dict[str, Service]:
        return self.project.services

    @property
    def networks(self) -> dict[str, Any]:
        return self.project.networks

    @property
    def variables(self) -> dict[str, str]:
        return self.project.variables

    @property
    def native(self) -> bool:
        """Whether the programs are packages, and no containers."""
        return not self.project.names and not self.all_in_one

    @property
    def aio(self) -> Service | None:
        """Return the container with everything in it, or None."""
        return self.service("aio")

    @property
    def server(self) -> Service | None:
        """Return the service that the signaling server is in, or None."""
        return self.aio or self.service("signaling")

    @property
    def turn_service(self) -> Service | None:
        """Return the service that the TURN server is in, or None."""
        return self.aio or self.service("coturn") or self.service("eturnal")

    @property
    def inner_port(self) -> int:
        """Return the port on which the signaling server listens, where it is."""
        match = re.search(r":(\d+)\s*$", (self.option("http", "listen").split() or [""])[0])
        return int(match.group(1)) if match else PORT

    @property
    def port(self) -> int | None:
        """Return the port of the host at which a proxy finds the signaling server, None where it is at none."""
        server = self.server
        return server.outside(self.inner_port, "tcp") if server else self.inner_port

    def service(self, kind: str) -> Service | None:
        """Return the service of a kind in `KINDS`, or None."""
        return self.services.get(self.kinds.get(kind, ""))

    def option(self, section: str, name: str) -> str:
        """Return an option of the signaling server, "" where it is not set."""
        return self.conf.get(section, {}).get(name, "")

    def turn_values(self, name: str) -> list[str]:
        """Return the values of an option of coturn that counts, [""] where it has none and [] where it is not set."""
        return [value for option, value in self.turn if option == name]

    def called(self) -> str:
        """Return what tells it from other ones of the same installation."""
        where = self.server.name if self.server else "the signaling server"
        folder = self.files.shown(self.project.directory)
        return where if folder == self.path else f"{where} in {folder}"


def read(
    texts: Mapping[str, str], path: str, load: LoadYaml, entry: str = "", notes: Iterable[str] = ()
) -> list[Installation]:
    """Return the signaling servers in `texts` ({name relative to `path`, or absolute: text}) that have a Nextcloud.

    load: parses YAML with every scalar as text, raises ValueError. entry: the file that was named, "" when it was a
    directory. notes: what was noticed so far. Raises AdoptError, with all notes.
    """
    files = Files(path, texts, notes)
    try:
        return _read(files, load, entry)
    except TextError as error:
        raise AdoptError(f"{error}.", files.notes) from error
    except AdoptError as error:
        raise AdoptError(str(error), [*files.notes, *error.notes]) from error


def _read(files: Files, load: LoadYaml, entry: str) -> list[Installation]:
    is_compose = entry.endswith((".yml", ".yaml")) or not entry
    projects = _adopt_compose.find(files, load, entry) if is_compose else []
    found = [one for project in projects for one in _servers(files, project)]
    found = found or _all_in_one(files, projects) or _packages(files, projects, entry)
    for one in found:
        _read_signaling(one)
        _read_turn(one, load)
        _read_janus(one)
        one.backends = _backends(one)
    ways = _adopt_proxy.routes(files, load, {k: v for project in projects for k, v in _told(project).items()})
    for one in found:
        one.routes = _leading(one, ways, only=len(found) == 1)
    _note_others(files, projects, found)
    with_backends = _without_twins([one for one in found if one.backends])
    if not with_backends:
        places = dict.fromkeys(files.shown(one.conf_name) or ("NC_DOMAIN" if one.aio else "BACKENDS") for one in found)
        raise AdoptError(
            f"The signaling server of {files.path} names no Nextcloud in {', '.join(places)}, expected at least one "
            f"with a URL and a secret: correct adopt=, or begin with inventory.example."
        )
    return with_backends


def _without_twins(found: Sequence[Installation]) -> list[Installation]:
    """Leave out those that have the same Nextclouds as another one, which is reached: what it extends, for example."""

    def known(one: Installation) -> set[tuple[str, str]]:
        return {(url, backend.secret) for backend in one.backends for url in backend.urls}

    kept: list[Installation] = []
    for one in sorted(found, key=lambda one: one.port is None and not http_rules(one.server)):
        if not any(known(one) <= known(other) for other in kept):
            kept.append(one)
    return [one for one in found if one in kept]


def _told(project: Project) -> dict[str, str]:
    """Return the variables that the proxies of a project are given."""
    return {name: value for service in project.of_kind("proxy") for name, value in service.environment.items()}


def _servers(files: Files, project: Project) -> list[Installation]:
    """Return the signaling servers of a project, each with the parts that belong to it.

    Where there are as many of another part as there are servers, they belong together in the order of the file.
    """
    found = []
    servers = project.of_kind("signaling")
    for service in project.ours:
        one = Installation(files, project)
        if project.kinds[service.name] == "aio":
            one.kinds = {"aio": service.name}
            one.all_in_one = not is_name(service.environment.get("TALK_HOST", ""))
        else:
            one.kinds = {"signaling": service.name}
            for kind in ("janus", "coturn", "eturnal", "nats"):
                parts = [part.name for part in project.of_kind(kind)]
                needed = [part for part in parts if part in service.depends_on]
                number = servers.index(service) if len(parts) == len(servers) else 0
                one.kinds[kind] = (needed or parts[number : number + 1] or [""])[0]
        for kind in ("proxy", "form"):
            one.kinds[kind] = next((part.name for part in project.of_kind(kind)), "")
        found.append(one)
    return found


def _all_in_one(files: Files, projects: Sequence[Project]) -> list[Installation]:
    """Return the signaling server that the master container of Nextcloud All-in-One starts by itself, when that is what
    was meant.
    """
    master = any(project.of_kind("aio_master") for project in projects)
    for place in [place for place in files.texts if posixpath.basename(place) == AIO_FILE]:
        if not master and not files.inside(place):
            continue
        try:
            document = json.loads(files.texts[place])
        except ValueError:
            continue
        said = document.get("secrets") if isinstance(document, dict) else None
        if not isinstance(said, dict) or not {"SIGNALING_SECRET", "TURN_SECRET"} <= set(said):
            continue
        domain, port = str(document.get("domain") or ""), str(document.get("talk_port") or "3478")
        environment = {"NC_DOMAIN": domain, "TALK_HOST": "nextcloud-aio-talk", "TALK_PORT": port}
        environment |= {name: str(said.get(name, "")) for name in ("SIGNALING_SECRET", "TURN_SECRET")}
        environment["INTERNAL_SECRET"] = str(said.get("TALK_INTERNAL_SECRET", ""))
        service = Service(
            name="nextcloud-aio-talk",
            image="ghcr.io/nextcloud-releases/aio-talk",
            environment=environment,
            ports=[entry for protocol in ("tcp", "udp") for entry in _adopt_compose.ports(f"{port}:{port}/{protocol}")],
            networks=["nextcloud-aio"],
            raw={"read_only": True, "cap_drop": ["NET_RAW"], "container_name": "nextcloud-aio-talk"},
        )
        project = Project(files, posixpath.dirname(place), services={service.name: service})
        project.kinds = {service.name: "aio"}
        project.networks = {"nextcloud-aio": {"external": True}}
        return [Installation(files, project, kinds={"aio": service.name}, all_in_one=True)]
    return []


def _packages(files: Files, projects: Sequence[Project], entry: str) -> list[Installation]:
    """Return the signaling server whose server.conf stands alone: that of a package, or beside a compose file.

    Raises AdoptError when there is none.
    """
    is_conf = bool(entry) and not entry.endswith((".yml", ".yaml"))
    # Other programs have a server.conf, too.
    named = [one for one in files.named("server.conf") if re.search(r"(?im)^\s*\[backend\]", files.texts[one])]
    there = [files.place(entry)] if is_conf else named
    names = [place for place in there if files.inside(place)]
    project = projects[0] if projects else Project(files, files.path)
    if names:
        for other in names[1:]:
            files.note(
                f"{files.shown(other)} was left out, since {files.shown(names[0])} was read: name the other one with "
                f"adopt={posixpath.join(files.path, files.shown(other))} if that is the one that runs."
            )
        kinds = {kind: next((one.name for one in project.of_kind(kind)), "") for kind in _adopt_compose.KINDS}
        return [Installation(files, project, kinds=kinds, conf_name=names[0])]
    if not projects:
        hint = f"{there[0]} is there, so say adopt={posixpath.dirname(there[0])}" if there else "correct adopt="
        raise AdoptError(
            f"{files.path} has none of {', '.join(COMPOSE)} and no server.conf, expected the directory of an "
            f"installation of the backend: {hint}."
        )
    where = ", ".join(posixpath.join(files.path, files.shown(name)) for name in project.names)
    services = ", ".join(f"{one.name} ({one.image or 'built'})" for one in project.services.values())
    if project.of_kind("aio_master"):
        raise AdoptError(
            f"{where} starts Nextcloud All-in-One, which keeps what it starts itself in a volume, expected its "
            f"{AIO_FILE}: say adopt=/var/lib/docker/volumes/nextcloud_aio_mastercontainer/_data/data."
        )
    raise AdoptError(
        f"{where} has no service that runs the signaling server, expected one with the image "
        f"strukturag/nextcloud-spreed-signaling or nextcloud-releases/aio-talk and found {services or 'none'}: correct "
        f"adopt=."
    )


def _note_others(files: Files, projects: Sequence[Project], found: Sequence[Installation]) -> None:
    """Name the services that are no part of the backend, and the programs of a backend that are left alone."""
    used = {(id(one.project), name) for one in found for kind, name in one.kinds.items() if kind != "form"}
    others = []
    for project in projects:
        for service in project.services.values():
            kind = project.kinds[service.name]
            if (id(project), service.name) in used:
                continue
            if kind == "recording":
                files.note(
                    f"The service {service.name} is a recording server, which is left alone: it needs the internal "
                    f"secret, and the signaling server's address in the place where it has the old one."
                )
            else:
                others.append(f"{service.name} ({service.image or 'built'})")
    if others:
        files.note(
            f"No part of the backend, and left alone: {', '.join(others[:20])}{' and more' * (len(others) > 20)}."
        )


def _read_signaling(found: Installation) -> None:
    """Find out what the signaling server is told: by a server.conf that is mounted, or by variables."""
    files, service = found.files, found.service("signaling")
    if found.aio:
        found.conf = _from_aio(found, found.aio)
        return
    if service is not None:
        place = service.environment.get("CONFIG") or "/config/server.conf"
        for number, word in enumerate(service.command):
            name, sign, value = word.lstrip("-").partition("=")
            if name == "config" and word.startswith("-"):
                place = value if sign else (service.command[number + 1 : number + 2] or [place])[0]
        found.conf_name = _adopt_compose.mounted(found.project, service, place)
    if found.conf_name:
        try:
            found.conf = _adopt_text.ini(files.texts[found.conf_name])
        except TextError as error:
            raise AdoptError(f"{posixpath.join(files.path, files.shown(found.conf_name))} {error}.") from error
        known = service.environment if service else {}
        for section in found.conf.values():
            for option, value in section.items():
                # The server does this for some options; a variable that is not set leaves its name.
                section[option] = re.sub(r"\$\((\w+)\)", lambda m: known.get(m.group(1), m.group(1)), value)
    elif service is not None:
        found.conf = _from_variables(service.environment)
    if found.option("backend", "backendtype") == "etcd":
        raise AdoptError(
            f"The signaling server of {found.path} has its backends in etcd, expected them in "
            f"{files.shown(found.conf_name)}: they cannot be seen from its files. Write their groups by hand, after "
            f"inventory.example."
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


def _from_aio(found: Installation, service: Service) -> dict[str, dict[str, str]]:
    """Return what start.sh of aio-talk would write into its configuration.

    Source: nextcloud/all-in-one, Containers/talk/start.sh. The session keys are made at each start.
    """
    said = {name: value.strip() for name, value in service.environment.items()}
    missing = [name for name in ("NC_DOMAIN", "SIGNALING_SECRET", "TURN_SECRET") if not said.get(name)]
    if missing:
        found.files.note(
            f"{found.called()} has no {', no '.join(missing)} in these files, without which it does not start."
        )
    domain = re.sub(r"^[a-z]+://|/+$", "", said.get("NC_DOMAIN", ""), flags=re.IGNORECASE)
    bitrates = {
        option: said[name]
        for name, option in (
            ("TALK_MAX_STREAM_BITRATE", "maxstreambitrate"),
            ("TALK_MAX_SCREEN_BITRATE", "maxscreenbitrate"),
        )
        if said.get(name)
    }
    return {
        "http": {"listen": f"[::]:{AIO_PORT}"},
        "clients": {"internalsecret": said.get("INTERNAL_SECRET", "")},
        "backend": {"backends": domain, "skipverify": said.get("SKIP_CERT_VERIFY", "")},
        domain.lower(): {
            "urls": f"https://{domain}" if domain else "",
            "secret": said.get("SIGNALING_SECRET", ""),
            **bitrates,
        },
        "mcu": bitrates,
    }


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def split(text: str) -> list[str]:
    """Return the parts of a list with commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def _backends(found: Installation) -> list[Backend]:
    """Return the Nextclouds in the order in which the signaling server has them; those it skips are noted."""
    result = []
    common = found.option("backend", "secret")
    if found.option("backend", "allowall").lower() in TRUE:
        found.files.note(
            "The old signaling server takes every Nextcloud that knows its secret (allowall); only those that it names "
            "were taken over."
        )
    for name in split(found.option("backend", "backends")):
        section = found.conf.get(name.lower(), {})
        urls, secret = split(section.get("urls", "") or section.get("url", "")), section.get("secret", "") or common
        if not urls or not secret:
            missing = "URL" if not urls else "secret"
            found.files.note(f"{name} has no {missing}: the old signaling server left it out, and so was done here.")
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
    for host in [] if result else split(found.option("backend", "allowed")):
        result.append(Backend(host, [f"https://{host}"], common, old_key=True))
    return [backend for backend in result if backend.secret]


def _read_turn(found: Installation, load: LoadYaml) -> None:
    """Find out what the TURN server is told, in coturn's words."""
    coturn, eturnal = found.service("coturn"), found.service("eturnal")
    if found.aio:
        found.turn, found.eturnal = _turn_of_aio(found.aio), True
    elif coturn:
        found.turn_arguments = _adopt_text.arguments(coturn.command, COTURN_SHORT)
        said = dict(found.turn_arguments).get("c", "")
        for place in [said] if said else COTURN_FILES:
            found.turn_conf = found.turn_conf or _adopt_compose.mounted(found.project, coturn, place)
        _read_coturn(found)
    elif eturnal:
        for place in ETURNAL_FILES:
            found.turn_conf = found.turn_conf or _adopt_compose.mounted(found.project, eturnal, place)
        _read_eturnal(found, load, _with_files(found.project, eturnal))
    else:
        _read_turn_package(found, load)


def _read_turn_package(found: Installation, load: LoadYaml) -> None:
    """Read the file of a TURN server that is no service: the one with a secret, coturn's first."""
    files = found.files
    for name in files.named("turnserver.conf", "eturnal.yml"):
        tried = Installation(files, found.project, turn_conf=name)
        if name.endswith(".yml"):
            _read_eturnal(tried, load, {})
        else:
            _read_coturn(tried)
        if not found.turn_conf or (
            tried.turn_values("static-auth-secret") and not found.turn_values("static-auth-secret")
        ):
            found.turn, found.turn_conf, found.eturnal = tried.turn, name, tried.eturnal
    if found.turn_conf and found.project.names and not files.inside(found.turn_conf):
        files.note(f"No service beside {found.called()} is a TURN server: that of {found.turn_conf} was taken for it.")


def _read_coturn(found: Installation) -> None:
    """Read coturn's options. With -n it reads no file, and arguments win over a file's lines."""
    lines = _adopt_text.turnserver(found.files.texts[found.turn_conf]) if found.turn_conf else []
    given = {name for name, _value in found.turn_arguments}
    found.turn = found.turn_arguments + [(k, v) for k, v in ([] if "n" in given else lines) if k not in given]


def _with_files(project: Project, service: Service) -> dict[str, str]:
    """Return the environment of a service, with what stands in the files that NAME__FILE names."""
    said = dict(service.environment)
    for name, place in service.environment.items():
        bare = re.sub(r"__?FILE$", "", name)
        text = project.files.texts.get(_adopt_compose.mounted(project, service, place), "") if bare != name else ""
        if text:
            said[bare] = text.strip()
    return said


def _read_eturnal(found: Installation, load: LoadYaml, environment: Mapping[str, str]) -> None:
    """Read the file of eturnal, which wins over its variables.

    Source: processone/eturnal, config/eturnal.yml and doc/CONTAINER.md.
    """
    found.eturnal, files = True, found.files
    said: dict[str, Any] = {}
    if found.turn_conf:
        try:
            document = load(files.texts[found.turn_conf])
        except ValueError:
            files.note(f"{files.shown(found.turn_conf)} is no YAML, so what eturnal is told could not be read.")
            document = {}
        part = document.get("eturnal") if isinstance(document, dict) else None
        said = part if isinstance(part, dict) else {}
    for name in ("secret", "relay_min_port", "relay_max_port", "relay_ipv4_addr", "relay_ipv6_addr"):
        if said.get(name) is None and environment.get(f"ETURNAL_{name.upper()}"):
            said[name] = environment[f"ETURNAL_{name.upper()}"]
    secrets = said.get("secret")
    pairs = [("static-auth-secret", secret) for secret in (secrets if isinstance(secrets, list) else [secrets])]
    listening = [entry for entry in said.get("listen") or [] if isinstance(entry, dict)] if said.get("listen") else []
    protocols: dict[str, Any] = {}
    for entry in listening:
        protocols.setdefault(str(entry.get("transport") or "udp"), entry.get("port") or "3478")
    pairs.append(("listening-port", protocols.get("udp") or protocols.get("tcp")))
    pairs.append(("tls-listening-port", protocols.get("tls")))
    if "tls" in protocols:
        pairs += [("cert", said.get("tls_crt_file")), ("pkey", said.get("tls_key_file"))]
    if listening and not {"tcp", "auto"} & set(protocols):
        pairs.append(("no-tcp", ""))
    if isinstance(said.get("blacklist_peers"), list) and not said["blacklist_peers"]:
        pairs.append(("allow-any-peer", ""))
    pairs += [
        ("realm", said.get("realm")),
        ("min-port", said.get("relay_min_port")),
        ("max-port", said.get("relay_max_port")),
        ("external-ip", said.get("relay_ipv4_addr")),
    ]
    found.turn = [(name, str(value).strip()) for name, value in pairs if value is not None]


def _turn_of_aio(service: Service) -> list[tuple[str, str]]:
    """Return what start.sh of aio-talk tells eturnal, which is the TURN server in it."""
    said = service.environment
    pairs = [
        ("static-auth-secret", said.get("TURN_SECRET")),
        ("listening-port", said.get("TALK_PORT") or "3478"),
        # By itself it is reached at TALK_HOST; as part of Nextcloud All-in-One at the name of the Nextcloud.
        ("realm", said.get("TURN_DOMAIN")),
        ("realm", said.get("TALK_HOST")),
        ("realm", said.get("NC_DOMAIN")),
    ]
    return [(name, value.strip()) for name, value in pairs if value]


def _read_janus(found: Installation) -> None:
    """Find out what Janus is told. Arguments win over its file."""
    service, files = found.service("janus"), found.files
    names: list[str] = []
    if service is not None:
        folders = [target for _source, target in service.volumes]
        wanted = [target for target in folders if target.endswith(".jcfg")]
        wanted += [posixpath.join(target, "janus.jcfg") for target in folders if target.rstrip("/").endswith("janus")]
        known = len(files.notes)
        names = [_adopt_compose.mounted(found.project, service, place) for place in wanted]
        # What of Janus is not there is what its image has.
        del files.notes[known:]
    elif found.native:
        names = files.named("janus.jcfg")[:1]
    for name in names:
        found.janus.update(_adopt_text.jcfg(files.texts.get(name, "")))
    found.janus_arguments = _adopt_text.arguments(service.command, JANUS_SHORT) if service else []
    for option, value in found.janus_arguments:
        if option == "stun-server":
            found.janus["stun_server"] = value
        elif option == "nat-1-1":
            found.janus["nat_1_1_mapping"] = value
        elif option == "rtp-port-range":
            found.janus["rtp_port_range"] = value


# Where it is reached.


def _leading(found: Installation, ways: Sequence[Route], only: bool) -> list[Route]:
    """Return those of the proxies' ways that lead to a signaling server, those that certainly do first.

    A proxy on another host, or one that only has a form, names this host by an address that is not in these files: then
    the name has to be the server's, or the path one that is made for it. only: no other server is in the installation.
    """
    server, port = found.server, found.port
    names, inner = (server.known_as if server else set()), found.inner_port
    sure, likely = [], []
    for way in ways:
        if (
            any(host in names and at == inner for host, at in way.targets)
            or port is not None
            and any(at == port and _is_this_host(host) for host, at in way.targets)
        ):
            sure.append(way)
        elif any(at == port and host not in found.services for host, at in way.targets) and (
            said_domain(found) in way.names or (only and re.search(r"signal|hpb", way.path))
        ):
            likely.append(way)
    return sure or likely


def _is_this_host(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host in ("localhost", "host.docker.internal", "host.containers.internal")
    return address.is_loopback or address.is_unspecified


def http_rules(service: Service | None) -> list[str]:
    """Return the rules of Traefik's routers on a service."""
    labels = service.labels if service else {}
    return [value for name, value in labels.items() if re.fullmatch(r"traefik\.http\.routers\..+\.rule", name)]


def _labelled(service: Service | None) -> list[tuple[list[str], str]]:
    """Return (names, path) by which the labels or variables of a service tell a proxy of Docker's where to serve it."""
    if service is None:
        return []
    found = [_adopt_proxy.rule(text)[:2] for text in http_rules(service)]
    # nginx-proxy, and caddy-docker-proxy.
    said = service.environment
    found.append((split(said.get("VIRTUAL_HOST", "")), _adopt_proxy.prefix(said.get("VIRTUAL_PATH", "/")) or ""))
    for name, value in service.labels.items():
        if re.fullmatch(r"caddy(_\d+)?", name):
            paths = [
                path
                for key, text in service.labels.items()
                if re.fullmatch(rf"{name}\.(\d+_)?(handle_path|handle|route|reverse_proxy)", key)
                for path in [_adopt_proxy.prefix(text.split()[0]) if text.split() else None]
                if path
            ]
            found.append((re.split(r"[\s,]+", re.sub(r"https?://", "", value)), (paths or [""])[0]))
    return [([name.lower() for name in names if is_name(name)], path) for names, path in found]


def said_domain(found: Installation) -> str:
    """Return the name of the signaling server that its own settings say, "" if they do not."""
    server = found.server
    said = [name for names, _path in _labelled(server) for name in names]
    said += [server.environment.get(key, "") for key in ("TALK_HOST", "EXTERNAL_HOSTNAME")] if server else []
    said += [
        value for name, value in found.variables.items() if re.search(r"(HPB|SIGNALL?ING)\w*(FQDN|DOMAIN|HOST)", name)
    ]
    return next((value.lower() for value in said if is_name(value)), "")


def places(found: Installation) -> list[tuple[str, str]]:
    """Return (name, path) of all places at which it is served, the likeliest first; "" for a name that is not known."""
    domain = said_domain(found)
    labelled = [(name, path) for names, path in _labelled(found.server) for name in names]
    routed = [(name, way.path) for way in found.routes for name in way.names or (domain,)]
    if found.all_in_one and not routed:
        routed = [(backend.name.lower(), AIO_PATH) for backend in found.backends]
    if domain and not found.all_in_one:
        routed.sort(key=lambda place: place[0] != domain)
    return list(
        dict.fromkeys([*labelled, *routed, *([(domain, "")] if domain and not labelled and not routed else [])])
    )


def domain(found: Installation) -> str:
    """Return the name of the signaling server, "" if unknown: a proxy's first, then what people call it."""
    if found.all_in_one and not found.routes:
        # The name of the Nextcloud itself, which its own web server has.
        return ""
    return next((name for name, _path in places(found) if name), said_domain(found))


def is_name(text: str) -> bool:
    """Whether the text is a host name with a dot, and no address."""
    return bool(re.fullmatch(r"(?=.*[A-Za-z])[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+", text))


def turn_domain(found: Installation) -> str:
    """Return the name of the TURN server, "" if unknown."""
    said = found.turn_values("realm") + found.turn_values("server-name")
    said += [value for name, value in found.variables.items() if re.search(r"TURN\w*(FQDN|DOMAIN|HOST|REALM)", name)]
    servers = [re.sub(r"^turns?:", "", server) for server in split(found.option("turn", "servers"))]
    said += [re.split(r"[:?]", server)[0] for server in servers]
    return next((value.lower() for value in said if is_name(value)), "")


def turn_secrets(found: Installation) -> list[str]:
    """Return the secrets that the TURN server takes; where nothing is known of it, that of the signaling server."""
    given = [value for value in found.turn_values("static-auth-secret") if value]
    if not given and not found.turn:
        given = [found.option("turn", "secret")]
    return [value for value in dict.fromkeys(given) if value]


def images(found: Installation) -> Sequence[tuple[str, str]]:
    """Return (kind, image) of the services of the backend."""
    pairs = [(kind, found.service(kind)) for kind in ("signaling", "aio", "janus", "coturn", "eturnal", "nats")]
    return [(kind, service.image) for kind, service in pairs if service is not None]


# Packages: what their services are called (Debian, strukturag/nextcloud-spreed-signaling, processone/eturnal, nats-io).
SIGNALING_UNITS = ("nextcloud-spreed-signaling", "signaling", "spreed-signaling")
OTHER_UNITS = ("janus", "janus-gateway", "nats-server", "nats", "gnatsd", "coturn", "eturnal")


def units(found: Installation) -> list[str]:
    """Return the names of the services of packages: those whose files were read, else the likely ones."""
    there = {
        posixpath.basename(place).removesuffix(".service")
        for place in found.files.texts
        if place.endswith(".service") and "/systemd/" in place
    }
    told = [name for name in SIGNALING_UNITS if name in there]
    likely = "signaling" if "/signaling/" in found.conf_name else SIGNALING_UNITS[0]
    others = [name for name in OTHER_UNITS if name in there]
    turn = "eturnal" if found.eturnal else "coturn"
    return (told or [likely]) + (others or ["janus", "nats-server", turn])
