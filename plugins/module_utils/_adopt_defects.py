# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Known defects of compose installations of the backend: for each a test on the parsed installation, and what it means.

A test returns where the defect is, in words and without a value of a secret, and nothing where it is not. The numbers
are those of docs/adopt.md. Everything here is pure.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Callable

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _adopt, _secrets, _versions
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._adopt import Installation, Service

# Parts of the backend, in the order in which they are named.
PARTS = ("signaling", "aio", "janus", "coturn", "eturnal", "nats")

# coturn's own relay range (coturn, turnserver.conf).
RELAY_RANGE = (49152, 65535)

# The signaling server's limits in bit/s where nothing is said (strukturag/nextcloud-spreed-signaling, sfu/janus).
BITRATES = {"maxstreambitrate": 1048576, "maxscreenbitrate": 2097152}

# Versions below which something that matters is missing.
WANTED = {"signaling": (2, 1, 1), "janus": (1, 4, 1), "coturn": (4, 17, 0), "nats": (2, 12, 0)}

# Variables that people give to these images, and that nothing in them reads.
UNKNOWN = {
    "signaling": ("EXTERNAL_HOSTNAME", "LOG_LEVEL"),
    "aio": (
        "TRUSTED_PROXIES",
        "TALK_MODE",
        "PUBLIC_WSS_URL",
        "NEXTCLOUD_URL",
        "TALK_RELAY_MIN_PORT",
        "TALK_RELAY_MAX_PORT",
    ),
}

# What a container is given here and in no installation by itself; deploy is for its resource limits.
HARDENING = ("read_only", "cap_drop", "logging")


@dataclass(frozen=True)
class Defect:
    """`name` says it in a few words. The three sentences: what is wrong, what comes of it, what is done here."""

    number: int
    name: str
    seen: Callable[[Installation], list[str]]
    wrong: str
    consequence: str
    ours: str


@dataclass(frozen=True)
class Found:
    """A defect of an installation, and where it is."""

    number: int
    name: str
    where: list[str]
    sentence: str


def find(installations: Sequence[Installation]) -> list[Found]:
    """Return the defects of installations on one host, by number."""
    result = []
    for defect in DEFECTS:
        where = list(dict.fromkeys(place for one in installations for place in defect.seen(one)))
        if defect.number == SIDE_BY_SIDE and len(installations) < 2:
            where = []
        if where:
            sentence = f"{defect.wrong} {defect.consequence} Here: {defect.ours}"
            result.append(Found(defect.number, defect.name, where, sentence))
    return result


def _parts(found: Installation) -> Iterator[tuple[str, Service]]:
    for kind in PARTS:
        service = found.service(kind)
        if service is not None:
            yield kind, service


def _sample_keys(found: Installation) -> list[str]:
    where = []
    for (section, option), _sample in _adopt.SAMPLES.items():
        value = found.option(section, option)
        if found.aio and section == "sessions":
            continue
        variable = next(name for name, place in _adopt.VARIABLES.items() if place == (section, option))
        name = option if found.conf_name else variable
        if _secrets.is_published(value):
            where.append(f"{name} is the published sample" if found.conf_name else f"{name} is not set or the sample")
        elif not value and option != "internalsecret":
            where.append(f"{name} is not set")
    return where


def _janus_address(found: Installation) -> list[str]:
    if found.aio:
        within = (
            f"service {found.aio.name} with Janus and the relay, networks {', '.join(found.aio.networks) or 'none'}"
        )
        return [] if found.aio.on_host_network else [within]
    janus = found.service("janus")
    if janus is None or janus.on_host_network or found.janus.get("nat_1_1_mapping"):
        return []
    return [f"service {janus.name}, networks {', '.join(janus.networks) or 'none'}"]


def _host_of(server: str) -> str:
    """Return the host in a server's address, with or without a scheme and a port."""
    bare = re.sub(r"^[a-z0-9+.-]*:(//)?(?=[^0-9]|[0-9]+\.)", "", server.strip(), flags=re.IGNORECASE)
    bare = bare.rpartition("@")[2]
    return bare[1:].partition("]")[0] if bare.startswith("[") else re.split(r"[:/?]", bare)[0]


def _inner(found: Installation, host: str) -> bool:
    """Whether a host is one that only containers know."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host


def _stun_inside(found: Installation) -> list[str]:
    server = found.janus.get("stun_server", "")
    if not server or not _inner(found, _host_of(server)):
        return []
    janus, coturn = found.service("janus"), found.kinds.get("coturn", "")
    late = janus is not None and coturn and coturn not in janus.depends_on
    return [f"STUN server {_host_of(server)}" + (", which Janus does not wait for" if late else "")]


def _detect_variables(found: Installation) -> list[str]:
    coturn = found.service("coturn")
    names = coturn.environment if coturn else {}
    return [name for name in ("DETECT_EXTERNAL_IP", "DETECT_RELAY_IP") if name in names]


def _ignored_file(found: Installation) -> list[str]:
    coturn = found.service("coturn")
    if coturn is None or "n" not in dict(found.turn_arguments):
        return []
    return [
        f"{found.files.shown(source)} at {target}"
        for source, target in coturn.volumes
        if target.endswith("turnserver.conf")
    ]


def _span(found: Installation) -> tuple[int, int]:
    """Return coturn's relay range."""
    values = [found.turn_values(name)[:1] for name in ("min-port", "max-port")]
    numbers = [int(value[0]) if value and value[0].isdigit() else None for value in values]
    return numbers[0] or RELAY_RANGE[0], numbers[1] or RELAY_RANGE[1]


def _other_range(found: Installation) -> list[str]:
    turn = found.service("coturn") or found.service("eturnal")
    if turn is None or turn.on_host_network or not turn.ports:
        return []
    first, last = _span(found)
    ranges = [p.container for p in turn.ports if p.protocol == "udp" and p.container[0] != p.container[1]]
    if any(start <= first and last <= end for start, end in ranges):
        return []
    opened = ", ".join(f"{start}-{end}" for start, end in ranges) or "none"
    return [f"published {opened}, used {first}-{last}"]


def _impossible_ranges(found: Installation) -> list[str]:
    spans = [
        (f"ports of {service.name}", span)
        for service in found.services.values()
        for port in service.ports
        for span in dict.fromkeys([port.host, port.container])
    ]
    spans.append(("coturn", _span(found)))
    match = re.fullmatch(r"(\d+)-(\d+)", found.janus.get("rtp_port_range", ""))
    if match:
        spans.append(("Janus", (int(match.group(1)), int(match.group(2)))))
    return [f"{name}: {first}-{last}" for name, (first, last) in spans if last > 65535 or first > last]


def _no_turn_tcp(found: Installation) -> list[str]:
    turn = found.turn_service
    if found.turn_values("no-tcp"):
        return ["no port for tcp" if found.eturnal else "no-tcp"]
    if turn is None or turn.on_host_network:
        return []
    said = [value for value in found.turn_values("listening-port") if value.isdigit()]
    port = int(said[0]) if said else 3478
    return [f"{p.host[0]}/udp only" for p in [turn.publishes(port, "udp")] if p and not turn.publishes(port, "tcp")]


def _open_relay(found: Installation) -> list[str]:
    if found.eturnal:
        return ["blacklist_peers is empty"] if found.turn_values("allow-any-peer") else []
    if found.service("coturn") is None and not found.turn:
        return []
    return [f"no {name}" for name in ("denied-peer-ip", "no-tcp-relay") if not found.turn_values(name)]


def _public_metrics(found: Installation) -> list[str]:
    coturn = found.service("coturn")
    port = coturn.publishes(9641, "tcp") if coturn else None
    return [f"{port.host[0]}:9641 on every address"] if port and not port.address.startswith(("127.", "::1")) else []


def _covered_var(found: Installation) -> list[str]:
    coturn = found.service("coturn")
    volumes = coturn.volumes if coturn else []
    where = [
        f"{found.files.shown(source)}:{target}"
        for source, target in volumes
        if target.rstrip("/") in ("/var", "/var/lib")
    ]
    logs = found.turn_values("log-file")
    return where + [f"log-file {value}" for value in logs if value not in ("stdout", "", "syslog", "/dev/stdout")]


def _verbose(found: Installation) -> list[str]:
    return [name for name in ("verbose", "Verbose") if found.turn_values(name)]


def _secret_argument(found: Installation) -> list[str]:
    return [name for name in ("static-auth-secret",) if name in dict(found.turn_arguments)]


def _tag(image: str) -> str:
    """Return the tag of an image, "" when it has none."""
    return image.rpartition("/")[2].partition("@")[0].partition(":")[2]


def _floating(found: Installation) -> list[str]:
    images = [image for _kind, image in _adopt.images(found) if image and "@sha256:" not in image]
    return [image for image in images if _tag(image) in ("", "latest")]


def _old_versions(found: Installation) -> list[str]:
    said = {kind: _tag(image) for kind, image in _adopt.images(found)}
    service = found.service("janus")
    variables = {**found.variables, **(service.build_args if service else {})}
    if service is not None and not _versions.numbers(said.get("janus", "")):
        said["janus"] = variables.get("JANUS_VERSION", "")
    where = []
    for kind, text in said.items():
        numbers = _versions.numbers(text)
        # A tag such as 2 or 2.1 moves within its line.
        if numbers and kind in WANTED and numbers < WANTED[kind][: len(numbers)]:
            where.append(f"{kind} {text}")
    return where


def _wide_trust(found: Installation) -> list[str]:
    where = []
    for text in re.split(r"[,\s]+", found.option("app", "trustedproxies")):
        try:
            network = ipaddress.ip_network(text, strict=False)
        except ValueError:
            continue
        if network.prefixlen < (24 if network.version == 4 else 64):
            where.append(text if str(network) == text else f"{text}, which means {network}")
    return where


def _comments_behind(found: Installation) -> list[str]:
    return [f"{name}: {', '.join(read.commented)}" for name, read in found.project.env_texts.items() if read.commented]


def _quotes(found: Installation) -> list[str]:
    return [
        f"{name}: {', '.join(read.quoted)}"
        for name, read in found.project.env_texts.items()
        if read.quoted and any(name in service.env_files for service in found.services.values())
    ]


def _one_key_for_two(found: Installation) -> list[str]:
    key = found.option("turn", "apikey")
    secrets = [found.option("turn", "secret"), *_adopt.turn_secrets(found)]
    return ["TURN API key = TURN secret"] if key and key in secrets else []


def _unused_turn(found: Installation) -> list[str]:
    return [found.option("turn", "servers")] if found.option("turn", "servers") else []


def _unknown_variables(found: Installation) -> list[str]:
    said = found.server.environment if found.server else {}
    return [name for name in UNKNOWN["aio" if found.aio else "signaling"] if name in said]


def _old_url_option(found: Installation) -> list[str]:
    return [backend.name for backend in found.backends if backend.old_key]


def _open_nats(found: Installation) -> list[str]:
    nats = found.service("nats")
    if nats is None:
        return []
    words = [
        *nats.command,
        *(found.files.texts.get(source, "") for source, _target in nats.volumes),
    ]
    listed = any(re.match(r"(-a|--addr|--net)[= ]?127\.", word) for word in words)
    if listed or any(re.search(r"--(user|pass|auth)\b|authorization|nkey|accounts", word) for word in words):
        return []
    return [f"service {nats.name}, networks {', '.join(nats.networks) or 'the host'}"]


def _proxy_networks(found: Installation) -> set[str]:
    """Return the networks that the reverse proxy is in, as far as the files tell."""
    proxy, signaling = found.service("proxy"), found.server
    named = {signaling.labels.get("traefik.docker.network", "")} if signaling else set()
    outside = {name for name, entry in found.networks.items() if isinstance(entry, dict) and entry.get("external")}
    return (set(proxy.networks) if proxy else set()) | named | outside


def _shared_network(found: Installation) -> list[str]:
    public = _proxy_networks(found)
    return [
        f"service {service.name} in {', '.join(sorted(public & set(service.networks)))}"
        for kind, service in _parts(found)
        if kind != "signaling" and public & set(service.networks)
    ]


def _bare_rule(found: Installation) -> list[str]:
    rules = [rule for rule in _adopt.http_rules(found.server) if "Path" not in rule]
    return rules + [
        f"{found.files.shown(way.place)} passes on all of {' '.join(way.names[:1])}{way.path or '/'}"
        for way in found.routes
        if way.whole
    ]


def _bare_router(found: Installation) -> list[str]:
    service = found.server
    labels = service.labels if service else {}
    routers = [m.group(1) for name in labels if (m := re.fullmatch(r"traefik\.http\.routers\.(.+)\.rule", name))]
    where = []
    for router in routers:
        missing = [
            part for part in ("entrypoints", "middlewares") if f"traefik.http.routers.{router}.{part}" not in labels
        ]
        where += [f"router {router}: no {', no '.join(missing)}"] if missing else []
    return where


def _healthy(service: Service, kind: str) -> bool:
    # The image of aio-talk has a check.
    check = service.raw.get("healthcheck", {} if kind == "aio" else None)
    return isinstance(check, dict) and str(check.get("disable", "")).lower() != "true"


def _no_health(found: Installation) -> list[str]:
    without = [service.name for kind, service in _parts(found) if not _healthy(service, kind)]
    hasty = [
        f"{service.name} does not wait until {', '.join(names)} is healthy"
        for _kind, service in _parts(found)
        if (names := [name for name, condition in service.depends_on.items() if condition != "service_healthy"])
    ]
    return ([f"no healthcheck: {', '.join(without)}"] if without else []) + hasty


def _fixed_names(found: Installation) -> list[str]:
    names = [service for service in found.services.values() if service.container_name]
    # All of them named is a convention; some of them is an accident. All-in-One has names for all.
    return [f"service {service.name}" for service in names] if len(names) < len(found.services) else []


def _soft(found: Installation) -> list[str]:
    where = []
    for _kind, service in _parts(found):
        missing = [name for name in HARDENING if not service.raw.get(name)]
        if not service.raw.get("mem_limit") and not service.raw.get("deploy"):
            missing.append("memory limit")
        where += [f"{service.name}: no {', no '.join(missing)}"] if missing else []
    return where


def _undeclared_networks(found: Installation) -> list[str]:
    used = {name for service in found.services.values() for name in service.networks} - {"default"}
    where = [f"{name} is not declared" for name in sorted(used - set(found.networks))]
    signaling = found.server
    label = signaling.labels.get("traefik.docker.network", "") if signaling else ""
    entry = found.networks.get(label) or {} if label in found.networks else None
    if entry is not None and not entry.get("external") and not entry.get("name"):
        where.append(f"{label} gets the project's name before it, the label says {label}")
    return where


def _no_nats_url(found: Installation) -> list[str]:
    urls = [url.strip() for url in found.option("nats", "url").split(",") if url.strip()]
    # What stands before an @ is a password.
    return [re.sub(r"//.*@", "//", url) for url in urls if not re.match(r"(nats|tls)://(?!.*//)|:loopback:", url)]


def _unknown_hosts(found: Installation) -> list[str]:
    known = {"localhost", *found.services}
    for service in found.services.values():
        known |= service.known_as
    places = {
        "TURN server": found.option("turn", "servers"),
        "STUN server": found.janus.get("stun_server", ""),
        "Janus": found.option("mcu", "url"),
        "NATS": found.option("nats", "url"),
    }
    where = []
    for name, text in places.items():
        hosts = [_host_of(part) for part in re.split(r"[,\s]+", text) if part] if found.services else []
        where += [f"{name} {host}" for host in hosts if re.fullmatch(r"[A-Za-z][\w-]*", host) and host not in known]
    return where


def _silent_restarts(found: Installation) -> list[str]:
    return [
        f"service {service.name}"
        for kind, service in _parts(found)
        if service.raw.get("restart") in ("unless-stopped", "always") and not _healthy(service, kind)
    ]


def _unused_versions(found: Installation) -> list[str]:
    janus = found.service("janus")
    if janus is None or not janus.build:
        return []
    names = [n for n in found.variables if re.fullmatch(r"(JANUS|LIBSRTP|USRSCTP|LIBNICE)\w*_VERSION", n)]
    unused = [name for name in names if name not in janus.build_args]
    where = [f"{', '.join(unused)} not among the build's args"] if unused else []
    there = janus.dockerfile in found.files.texts or "dockerfile_inline" in (janus.raw.get("build") or {})
    return where + ([] if there else [f"{found.files.shown(janus.dockerfile)} is not there"])


def _poor_secrets(found: Installation) -> list[str]:
    where, holders = [], {}
    for backend in found.backends:
        reason = _secrets.fault(f"the secret of {backend.name}", backend.secret)
        if reason is None and backend.secret in holders:
            reason = f"{backend.name} has the secret of {holders[backend.secret]}"
        holders.setdefault(backend.secret, backend.name)
        where += [reason] if reason else []
    for value in _adopt.turn_secrets(found)[:1]:
        if value in holders:
            where.append(f"the TURN secret is the secret of {holders[value]}")
    return where


def _unchecked(found: Installation) -> list[str]:
    name = "SKIP_CERT_VERIFY" if found.aio else "skipverify"
    return [name] if found.option("backend", "skipverify").lower() in _adopt.TRUE else []


def _environment_secrets(found: Installation) -> list[str]:
    where = []
    for _kind, service in _parts(found):
        said = service.environment
        names = [name for name in said if said[name] and re.search(r"SECRET(?!.*FILE)|(HASH|BLOCK)_KEY$", name)]
        where += [f"{service.name}: {', '.join(names)}"] if names else []
    return where


def _one_each(found: Installation) -> list[str]:
    return [f"{found.called()} for {', '.join(one.name for one in found.backends)}"]


def _fleeting_keys(found: Installation) -> list[str]:
    return [f"service {found.aio.name}"] if found.aio else []


def _caps_above(found: Installation) -> list[str]:
    where = []
    for option, kind in (("maxstreambitrate", "stream"), ("maxscreenbitrate", "screen")):
        said = found.option("mcu", option)
        cap = int(said) if said.isdigit() else BITRATES[option]
        for backend in found.backends:
            value = getattr(backend, f"{kind}_bitrate")
            if value is not None and value > cap:
                where.append(f"{backend.name}: {kind} {value} above {cap}")
    return where


# Seen where there is more than one server.
SIDE_BY_SIDE = 41

DEFECTS = (
    Defect(
        1,
        "published or missing session keys",
        _sample_keys,
        "The keys for session ids, or the secret of internal clients, are the samples that everybody can read.",
        "Session ids can be forged, and anybody can join any room of any Nextcloud as an internal client.",
        "own keys are made once and kept; samples are refused.",
    ),
    Defect(
        2,
        "Janus has an address of Docker's only",
        _janus_address,
        "Janus names its container's address to browsers.",
        "Nobody outside can send media to it: every call depends on a relay that reaches that private network.",
        "Janus is on the host's network, or behind TURN on purpose (hpb_network_profile: bridge).",
    ),
    Defect(
        3,
        "Janus asks a STUN server inside the network",
        _stun_inside,
        "A STUN server in the same private network sees the container's address and answers with it.",
        "It finds out nothing, and Janus ends at its start when that server is not up yet.",
        "Janus has no STUN server; a public address that is not the host's own is said (hpb_public_ip).",
    ),
    Defect(
        4,
        "coturn is to detect its address",
        _detect_variables,
        "No script of coturn's image reads these variables, and a command of one's own also drops the image's default.",
        "Behind NAT coturn hands out relay addresses that nobody reaches.",
        "external-ip stands in coturn's configuration, from hpb_public_ip.",
    ),
    Defect(
        5,
        "coturn's file is mounted and ignored",
        _ignored_file,
        "-n tells coturn to read no configuration file.",
        "What is set in the mounted file, limits and denied peers included, does not count.",
        "everything stands in the file, and that is read.",
    ),
    Defect(
        6,
        "the published relay ports are not those that are used",
        _other_range,
        "The ports that are published do not cover the range that coturn relays from.",
        "Most relays get a port that nobody reaches, so that calls over TURN fail by chance.",
        "coturn_min_port and coturn_max_port are what coturn uses and what is to be opened.",
    ),
    Defect(
        7,
        "a range of ports that cannot be",
        _impossible_ranges,
        "A range ends above 65535, or before it begins.",
        "The program or Docker refuses it, or the firewall opens something else.",
        "ranges are variables that are checked before anything is changed.",
    ),
    Defect(
        8,
        "TURN by UDP only",
        _no_turn_tcp,
        "TURN is not reachable by TCP.",
        "Whoever is in a network that blocks UDP cannot take part.",
        "TURN is offered by UDP and TCP, on request by TLS and on port 443.",
    ),
    Defect(
        9,
        "TURN leads into private networks",
        _open_relay,
        "coturn relays to any address, or by TCP as well.",
        "Everybody with TURN credentials reaches what is behind this host: containers, NATS, the cloud's metadata.",
        "all private and special ranges are denied but the one address of Janus, and no relaying by TCP.",
    ),
    Defect(
        10,
        "coturn's metrics are public",
        _public_metrics,
        "The port of coturn's metrics is published on every address.",
        "The world can read them once they are switched on.",
        "coturn's metrics are not published.",
    ),
    Defect(
        11,
        "coturn's /var is covered",
        _covered_var,
        "A directory of the host lies over the place of coturn's database, or takes its log.",
        "coturn's user cannot write there, or the log grows without an end.",
        "the log goes to Docker and is rotated; the database has a directory of its own.",
    ),
    Defect(
        12,
        "coturn logs every session",
        _verbose,
        "coturn is told to be verbose.",
        "The log names who talked when from which address, and fills the disk.",
        "only what matters is logged.",
    ),
    Defect(
        13,
        "the TURN secret is in a command line",
        _secret_argument,
        "The secret is an argument of coturn.",
        "Whoever may list processes or containers reads it, and the image's entrypoint evaluates what is in it.",
        "secrets are in files and in coturn's database only.",
    ),
    Defect(
        14,
        "images without a version",
        _floating,
        "An image has no version, or the tag latest.",
        "The next pull changes programs without being asked, and nobody can say what ran before.",
        "every image has a version, and a digest where you give one.",
    ),
    Defect(
        15,
        "old versions",
        _old_versions,
        "A program is older than what Talk uses today, or lacks mended vulnerabilities.",
        "Talk names the server as incomplete, and known holes stay open.",
        "current versions, which one variable each changes.",
    ),
    Defect(
        16,
        "too many are believed as proxies",
        _wide_trust,
        "The networks of trusted proxies are much larger than the proxy's own address.",
        "Whoever is in one of them can claim any address, and gets around what locks out guessers.",
        "exactly the proxy's one address is trusted.",
    ),
    Defect(
        17,
        "comments behind values",
        _comments_behind,
        "A comment stands behind a value in an env file.",
        "Compose cuts it off, other programs take it for a part of the value.",
        "there are no env files.",
    ),
    Defect(
        18,
        "quotes in env files",
        _quotes,
        "A value in an env file stands in quotes.",
        "Docker without compose keeps them, and the image's entrypoint then fails.",
        "there are no env files.",
    ),
    Defect(
        19,
        "one key for two things",
        _one_key_for_two,
        "The key of the signaling server's TURN API is the TURN secret itself.",
        "It travels in addresses and stands in access logs; who reads one there has the TURN secret.",
        "that API is not switched on.",
    ),
    Defect(
        20,
        "TURN servers that nobody asks for",
        _unused_turn,
        "The signaling server is told of TURN servers.",
        "Only Janus could ask for them, and does not: it is one more place for the secret.",
        "Nextcloud hands out TURN, and nobody else.",
    ),
    Defect(
        21,
        "variables that do not exist",
        _unknown_variables,
        "The signaling server's image knows no such variable.",
        "It has no effect, whatever it seems to promise.",
        "server.conf is rendered whole, and unknown variables of ours are refused.",
    ),
    Defect(
        22,
        "the old option for a URL",
        _old_url_option,
        "A Nextcloud's address is given by the option of before 2.0.4.",
        "It can have one address only, and the option is to vanish.",
        "urls, with talk_urls for further ones.",
    ),
    Defect(
        23,
        "NATS is open to its network",
        _open_nats,
        "NATS takes everybody who reaches it.",
        "Every container in that network can read and forge what the signaling server tells its clients.",
        "NATS listens on 127.0.0.1, or is on a network without others.",
    ),
    Defect(
        24,
        "Janus or coturn beside the web servers",
        _shared_network,
        "A part of the backend is in the network of the reverse proxy.",
        "Every web container in it reaches Janus' interface, which asks for no password.",
        "these interfaces are on 127.0.0.1, or on networks of their own.",
    ),
    Defect(
        25,
        "everything is public",
        _bare_rule,
        "The proxy passes on whatever is asked of that name.",
        "Metrics, statistics and the TURN API are guarded by one list of addresses alone.",
        "three paths are public, all others are not found.",
    ),
    Defect(
        26,
        "a router without an entry point or headers",
        _bare_router,
        "The proxy's router is bound to no entry point, or adds no security headers.",
        "It is served on every port of the proxy, unencrypted ones included.",
        "HTTPS only, with a redirect and headers.",
    ),
    Defect(
        27,
        "nobody looks whether it works",
        _no_health,
        "Containers have no health check, or are started before those that they need.",
        "A signaling server that finds no NATS at its start gives up on it later; the proxy sends people too early.",
        "every container has a check, and the next one waits for it.",
    ),
    Defect(
        28,
        "some containers have a fixed name",
        _fixed_names,
        "A container name is fixed for some services.",
        "A second one of its kind on the host collides with it.",
        "a name that another container has is refused before anything is changed, that container is left alone, and "
        "hpb_container_prefix gives ours other names.",
    ),
    Defect(
        29,
        "containers may do everything",
        _soft,
        "Containers can write to their images, have all of Docker's capabilities, or no limits of memory and logs.",
        "A hole in one program opens more than it must, and one program can fill the host.",
        "read-only, no capabilities but those that are named, limits, rotated logs, users without rights.",
    ),
    Defect(
        30,
        "a network that is not declared",
        _undeclared_networks,
        "A service is in a network that the file does not declare, or that is called otherwise in the proxy's label.",
        "Compose refuses the file, or the proxy looks in a network that is another one.",
        "networks are made under the names that are used.",
    ),
    Defect(
        31,
        "an address of NATS that is none",
        _no_nats_url,
        "NATS is not spoken to by nats:// and a host.",
        "The signaling server does not start.",
        "the address is rendered.",
    ),
    Defect(
        32,
        "a host that nobody knows",
        _unknown_hosts,
        "A host is named that is no service of this file and no whole name.",
        "It cannot be resolved, most often for a misspelling.",
        "the parts are told each other's addresses by the roles.",
    ),
    Defect(
        35,
        "restarts that nobody sees",
        _silent_restarts,
        "A container is restarted for ever, and has no health check.",
        "A program that ends at once, for example for a wrong key, looks as if it were running.",
        "the run waits until each container is healthy and says what its log has otherwise.",
    ),
    Defect(
        36,
        "Janus' versions have no effect",
        _unused_versions,
        "Versions are set that the build of Janus is not given, or its Dockerfile is missing.",
        "What is compiled is what the Dockerfile says, whatever the variables say.",
        "sources are pinned by version and sha256, and the image's tag is made of them.",
    ),
    Defect(
        37,
        "secrets that are placeholders, short or shared",
        _poor_secrets,
        "A shared secret is no secret of its own of 32 letters, digits and signs or more.",
        "It can be guessed, or the admin of one Nextcloud can sign for another.",
        "each Nextcloud has secrets of its own; equal and poor ones are refused.",
    ),
    Defect(
        38,
        "limits without effect",
        _caps_above,
        "A Nextcloud's bitrate lies above the signaling server's own, which is the lower of both.",
        "Cameras and screens get less than the file promises.",
        "the server's limit is the highest of all instances'.",
    ),
    Defect(
        39,
        "certificates are not checked",
        _unchecked,
        "The signaling server takes any certificate for that of a Nextcloud.",
        "Who is between the two can read and forge what they tell each other.",
        "certificates are checked; a private authority is named (hpb_ca_files).",
    ),
    Defect(
        40,
        "secrets in the environment",
        _environment_secrets,
        "Secrets are variables of a container.",
        "Whoever may list containers reads them, and so does every program that is started in them.",
        "secrets are in files of the program's own user.",
    ),
    Defect(
        41,
        "a server for each Nextcloud",
        _one_each,
        "Several signaling servers, each with all other parts, run side by side.",
        "Each takes memory, names and ports of its own, and is updated and watched by itself.",
        "one backend serves all of them, each with its own secrets and limits.",
    ),
    Defect(
        42,
        "session keys of one start",
        _fleeting_keys,
        "aio-talk makes the keys for session ids at each start.",
        "After a restart nobody can go on with the session that they had.",
        "the keys are made once and kept.",
    ),
)

UNSEEN = {
    7: "ports that a router or a drawing names beside these files",
    8: "whether the router passes on TURN by TCP as well",
    31: "addresses in a drawing or a description",
    32: "misspellings and arrows in a drawing",
    33: "whether a drawing lets Nextcloud speak to the TURN server: it only makes credentials, browsers use them",
    34: "what it is called: Janus forwards streams (an SFU), although the option's name is mcu",
}
