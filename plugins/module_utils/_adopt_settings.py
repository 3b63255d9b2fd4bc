# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From an installation to group_vars/hpb.yml: names, ports, who serves 80 and 443.

Everything is pure, and none of it holds a secret.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _adopt, _ours, _ports, _proxy
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._adopt import Installation
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._backends import BITRATES

FILL_IN = "FILL IN"

# Networks that no router translates to. Python's own is_private counts the addresses of documentation as well.
_PRIVATE = (
    *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"),
    *("127.0.0.0/8", "169.254.0.0/16", "0.0.0.0/8"),
)

# What hpb_path takes (`_proxy`).
_PATH = re.compile(r"(/[A-Za-z0-9_-]+)*")

# Proxies that are only a form, by words of their images; see the role proxy.
_FORMS = {
    "nginx-proxy-manager": "Nginx Proxy Manager",
    "npmplus": "NPMplus",
    "zoraxy": "Zoraxy",
    "cloudflared": "Cloudflare Tunnel",
}
# Where a NAS has what people put on it (Synology, QNAP, Unraid): there its own panel is the proxy.
_NAS = re.compile(r"/volume\d+/|/share/|/mnt/user/")
# Where our own Traefik listens for such a proxy (the role hpb, hpb_proxy_port).
_FORM_PORT = 8084

# The ports of a backend of which nothing is changed; see `_ports`.
_USED = {
    "profile": "host",
    "form": 0,
    "turn": 3478,
    "turn_tls": 0,
    "turn_443": "",
    "turn_proxy": 3480,
    "signaling": 8080,
    "nats": 4222,
    "nats_monitor": 8222,
    "janus": 8188,
    "ping": 8083,
    "media": [20000, 29999],
    "relay": [61000, 65535],
    "relay_443": 1000,
}


@dataclass
class Words:
    """Sentences that are collected on the way."""

    changed: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    fill_in: list[str] = field(default_factory=list)


@dataclass
class Front:
    """Who has ports 80 and 443: our own Traefik, or the proxy that is there, as hpb_proxy calls it ("": not known).

    name: what people call a proxy that is only a form.
    """

    own: bool
    kind: str = ""
    why: str = ""
    then: str = "goes on serving the name"
    name: str = ""

    @property
    def form(self) -> bool:
        """Whether it is only a form, which passes everything on to our own Traefik."""
        return self.kind == _proxy.FORM


class _Lines:
    """The file as it grows."""

    def __init__(self, words: Words) -> None:
        self.words, self.lines = words, []  # type: ignore[var-annotated]

    def say(self, name: str, value: Any, why: str = "") -> None:
        self.lines.append(f"{name}: {scalar(value)}" + (f" # {why}" if why else ""))

    def ask(self, name: str, example: str, why: str) -> None:
        self.lines += [f"# {FILL_IN}: {why}", f"# {name}: {example}"]
        self.words.fill_in.append(f"{name} in group_vars/hpb.yml: {why}")


def settings(found: Installation, domain: str, words: Words, names: Names) -> str:
    """Return group_vars/hpb.yml. `domain` is the name of the signaling server, "" if it is not known."""
    file = _Lines(words)
    file.lines += ["---", f"# From {found.path}, by the playbook adopt. The role hpb explains all variables.", ""]
    who = front(found)
    if domain:
        file.say("hpb_domain", domain, "browsers and Nextclouds reach the backend at this name")
    elif found.all_in_one:
        file.ask("hpb_domain", "talk.example.org", "a name of its own: All-in-One has that of the Nextcloud for itself")
    else:
        file.ask("hpb_domain", "talk.example.org", "the name at which the Nextclouds have the signaling server")
    turn = _adopt.turn_domain(found)
    if turn:
        file.say("hpb_turn_domain", turn, "STUN and TURN")
    else:
        file.ask("hpb_turn_domain", "turn.example.org", "the name at which the Nextclouds have the TURN server")
    ports = _ports_taken(found, who, words)
    if "hpb_turn_port" in ports:
        file.say("hpb_turn_port", ports["hpb_turn_port"])
    _path(found, who, file)
    if names.prefix:
        keep = "keep their names" if names.taken[1:] else "keeps its name"
        file.say(
            _ours.PREFIX, names.prefix, f"of the old containers {_and(names.taken)} {keep}; ours: {names.ours[0]}, ..."
        )
    file.lines.append("")
    _who_serves(found, who, file, ports)
    if "hpb_turn_tls_port" in ports and who.own:
        file.say("hpb_turn_tls_port", ports["hpb_turn_tls_port"], "TURN over TLS")
    elif "hpb_turn_tls_port" in ports:
        why = "the old TURN server spoke TLS; this needs hpb_tls: files or private_ca"
        file.lines.append(f"# hpb_turn_tls_port: {ports['hpb_turn_tls_port']} # {why}")
    _public_address(found, file)
    for name, option in (
        ("signalling_stream_bitrate", "maxstreambitrate"),
        ("signalling_screen_bitrate", "maxscreenbitrate"),
    ):
        value = found.option("mcu", option)
        if value.isdigit() and BITRATES[0] <= int(value) <= BITRATES[1]:
            file.say(name, int(value), "bit/s, for an instance that names none")
    return "\n".join(file.lines) + "\n"


@dataclass
class Names:
    """What our containers are called, in the order in which they are stopped, and the prefix of these names.

    taken: the containers of the old installation that have names of ours; where there are none, there is no prefix.
    """

    ours: list[str]
    prefix: str = ""
    taken: list[str] = field(default_factory=list)


def names(found: Sequence[Installation], who: Front) -> Names:
    """Return how our containers are called beside those of the old installation, which keep their names."""
    traefik = ["traefik"] if who.own or who.form else []
    services = ["signalling", "coturn", "janus", "nats", *traefik]
    projects = {id(one.project): one.project for one in found}.values()
    there = [
        _ours.Container(service.container_name)
        for project in projects
        for service in project.services.values()
        if service.container_name
    ]
    claim = _ours.Claim(services, "", "", {})
    taken = [one.name for kind in claim.strangers(there) for one in kind]
    prefix = claim.proposal(there, []) if taken else ""
    return Names([prefix + service for service in services], prefix, taken)


def turn_port(found: Installation) -> int:
    """Return the port of the host at which TURN is reached."""
    return _outside(found, _port_of(found, "listening-port") or 3478)


def tls_port(found: Installation) -> int:
    """Return the port of the host at which TURN over TLS is reached, 0 where it is at none."""
    if not found.turn_values("cert") or not found.turn_values("pkey") or found.turn_values("no-tls"):
        return 0
    inside, service = _port_of(found, "tls-listening-port") or 5349, found.turn_service
    if service and not service.on_host_network and not service.publishes(inside, "tcp"):
        return 0
    return _outside(found, inside)


def _outside(found: Installation, inside: int) -> int:
    service = found.turn_service
    return (service and (service.outside(inside, "udp") or service.outside(inside, "tcp"))) or inside


def _port_of(found: Installation, option: str) -> int:
    values = [int(value) for value in found.turn_values(option) if value.isdigit() and len(value) < 6]
    return values[0] if values else 0


def _ports_taken(found: Installation, who: Front, words: Words) -> dict[str, int]:
    """Return the ports that differ from ours and can be taken; of the others is said what they collide with."""
    wanted = [("hpb_turn_port", "turn", turn_port(found)), ("hpb_turn_tls_port", "turn_tls", tls_port(found))]
    if who.form and found.port:
        wanted.append(("hpb_proxy_port", "form", found.port))
    elif not who.own and found.port:
        wanted.append(("hpb_signaling_port", "signaling", found.port))
    used: dict[str, Any] = {**_USED, "own": who.own, "form": _FORM_PORT if who.form else 0}
    taken = {}
    for name, key, port in wanted:
        problems = _ports.problems({**used, key: port})
        if key == "signaling" and port < _ports.FIRST_OF_RANGE:
            problems = [f"{name} is {port}, expected 1024 or more, since the server is no root."]
        if port == used[key]:
            continue
        if problems:
            words.refused.append(f"{name}: {port} was left out: {problems[0]}")
        else:
            used[key] = taken[name] = port
    return taken


def _path(found: Installation, who: Front, file: _Lines) -> None:
    """Say the path, or ask for it where the proxy that has one cannot be seen."""
    known = _adopt.places(found)
    path = known[0][1] if known else ""
    if found.all_in_one and not found.routes:
        return
    if len(known) > 1:
        spelled = [f"https://{name or '...'}{path}" for name, path in known]
        file.words.changed.append(
            f"The old proxy serves the signaling server as {' and '.join(spelled[:6])}, of which the first was taken: "
            f"where a Nextcloud that cannot be registered has another one (occ talk:signaling:list), set hpb_domain "
            f"and hpb_path to that."
        )
    if path and _PATH.fullmatch(path):
        file.say("hpb_path", path, "the name serves something else, too")
    elif path or (not who.own and (not who.kind or who.form and not found.routes)):
        file.ask(
            "hpb_path",
            path if path and _PATH.fullmatch(path) else "/standalone-signaling",
            "only if the Nextclouds have it under a path (occ talk:signaling:list), which no file that was read says",
        )


def front(found: Installation) -> Front:
    """Return who has ports 80 and 443."""
    proxy, server, port = found.service("proxy"), found.server, found.port
    if proxy is None and _adopt.http_rules(server):
        return Front(False, "traefik_labels", "A Traefik that is no part of the old installation")
    if found.routes and (proxy is None or found.native):
        way = found.routes[0]
        if way.kind == _proxy.FORM:
            return _form(_FORMS["nginx-proxy-manager"], f" (file {found.files.shown(way.place)})")
        return Front(False, way.kind, f"The proxy with the file {found.files.shown(way.place)}")
    if found.all_in_one:
        return Front(False, "", "Nextcloud All-in-One, or the proxy before it,", "has to serve hpb_domain as well")
    form = found.service("form")
    if proxy is None and form is not None:
        return _form(_form_name(form.image), f" (service {form.name})")
    if proxy is None and server and port:
        return _form_elsewhere(found) or Front(False, "", "A proxy that is no part of the old installation")
    return Front(True)


def _form(name: str, where: str = "") -> Front:
    return Front(False, _proxy.FORM, f"{name}{where}", name=name)


def _form_name(image: str) -> str:
    """Return what people call the proxy of an image that is only a form, "" for any other image."""
    repository = image.partition("@")[0].rpartition("/")[2].partition(":")[0].lower()
    return next((name for word, name in _FORMS.items() if word in repository), "")


def _form_elsewhere(found: Installation) -> Front | None:
    """Return a proxy that is only a form and serves the name as far as can be known: one of a compose file beside the
    installation, or the panel of a NAS, which has no file.
    """
    for place, text in sorted(found.files.texts.items()):
        if place.endswith((".yml", ".yaml")):
            for image in re.findall(r"(?m)^[^#\n]*\bimage[\"']?:\s*[\"']?([^\s\"',}]+)", text):
                if _form_name(image):
                    return _form(_form_name(image), f" (file {found.files.shown(place)})")
    return _form("the panel of this NAS", ", as its directory tells,") if _NAS.match(found.path) else None


def _who_serves(found: Installation, who: Front, file: _Lines, ports: dict[str, int]) -> None:
    """Say who serves ports 80 and 443."""
    if who.own:
        _own_traefik(found, file)
        return
    if who.form:
        _before_our_traefik(found, who, file, ports.get("hpb_proxy_port", _FORM_PORT))
        return
    file.lines.append(f"# {who.why} has ports 80 and 443, and {who.then}.")
    file.say("traefik_enabled", False)
    if who.kind == "traefik_labels":
        file.say("hpb_proxy", "traefik_labels", "needs Traefik 3.4; see the role proxy for others")
        _docker_traefik(found, file)
    elif who.kind:
        file.say("hpb_proxy", who.kind, "the role proxy writes a file for it")
    elif not found.all_in_one:
        file.lines += [
            "# The role proxy writes files for nginx, Apache, Caddy, HAProxy and Traefik. Where that proxy takes none",
            "# (Nginx Proxy Manager, a NAS, a tunnel), say hpb_proxy: form in the place of traefik_enabled.",
        ]
    if "hpb_signaling_port" in ports:
        file.say("hpb_signaling_port", ports["hpb_signaling_port"], "where that proxy finds the signaling server")
    if who.kind not in ("", "traefik_labels") and "/etc/" not in found.routes[0].place:
        file.ask(
            "hpb_proxy_network", "proxy", "with hpb_proxy_container, only if that proxy runs in Docker on this host"
        )


def _before_our_traefik(found: Installation, who: Front, file: _Lines, port: int) -> None:
    """Say where a proxy that is only a form is, and where it finds our own Traefik."""
    why = who.why[:1].upper() + who.why[1:]
    file.lines += [
        f"# {why} {who.then}. It takes no file: it passes the",
        "# whole name on to our own Traefik, which keeps shut what is private. The run says what to enter there.",
    ]
    file.say("hpb_proxy", _proxy.FORM)
    file.say("hpb_proxy_port", port, "our Traefik for it; never enter the port of the signaling server itself")
    file.words.changed.append(
        f"{why} takes no file: it passes the whole name on to our own Traefik at port {port} (hpb_proxy: form, "
        f"hpb_proxy_port), which keeps shut what is private. The playbook site prints what to enter there."
    )
    service = found.service("form")
    if service is not None and service.on_host_network:
        return
    if service is not None and service.networks:
        known = found.networks.get(service.networks[0]) or {}
        external = service.networks[0] if known.get("external") else f"{found.project.called}_{service.networks[0]}"
        file.say("hpb_proxy_network", known.get("name") or external)
        container = service.container_name or f"{found.project.called}-{service.name}-1"
        file.say("hpb_proxy_container", container, "as compose calls it; a fixed address there outlives its restarts")
    elif who.name in _FORMS.values():
        why = "with hpb_proxy_container: in Docker it does not reach 127.0.0.1. hpb_proxy_address for one elsewhere"
        file.ask("hpb_proxy_network", "npm_default", why)
    else:
        file.ask("hpb_proxy_address", "192.0.2.20", "only if that proxy is no part of this host")


def _docker_traefik(found: Installation, file: _Lines) -> None:
    """Say what a Traefik with Docker's labels is told."""
    labels = found.server.labels if found.server else {}
    for name, option in (("hpb_proxy_resolver", "tls.certresolver"), ("hpb_proxy_entry_point", "entrypoints")):
        pattern = rf"traefik\.http\.routers\..+\.{re.escape(option)}"
        value = next((value for key, value in labels.items() if re.fullmatch(pattern, key)), "")
        if value:
            file.say(name, value.split(",")[0])
    networks = [name for name in (found.server.networks if found.server else []) if name != "default"]
    network = labels.get("traefik.docker.network") or next(iter(networks), "")
    if network:
        file.say("hpb_proxy_network", network)
        file.ask("hpb_proxy_container", "traefik", f"the name of Traefik's container in the Docker network {network}")


def _own_traefik(found: Installation, file: _Lines) -> None:
    proxy = found.service("proxy")
    mails = [word for word in (proxy.command if proxy else []) if re.search(r"acme\.email=", word, re.IGNORECASE)]
    if proxy is not None:
        file.lines += [
            f"# Our own Traefik takes the place of the old service {proxy.name}. Where that serves other names, too,",
            "# keep it and say traefik_enabled: false (see the role proxy).",
        ]
    elif found.native:
        file.lines += [
            "# Our own Traefik takes ports 80 and 443. Where a web server on this host has them, keep that and say",
            "# traefik_enabled: false, hpb_proxy: and what it is (see the role proxy).",
        ]
    if mails:
        file.say("hpb_acme_email", mails[0].partition("=")[2], "Let's Encrypt writes to it")
    else:
        file.ask("hpb_acme_email", "admin@example.org", "where Let's Encrypt writes to, or choose hpb_tls")


def _public_address(found: Installation, file: _Lines) -> None:
    """Propose the address outside of a NAT that the old programs were told, or leave it to the user."""
    said = [value.partition("/")[0] for value in found.turn_values("external-ip")]
    said += _adopt.split(found.janus.get("nat_1_1_mapping", ""))
    service = found.turn_service
    found_by_itself = any(name.startswith("DETECT_") for name in (service.environment if service else {}))
    told = [value for value in said if value]
    public = [value for value in told if _is_public(value)]
    if public:
        file.lines += [
            "",
            "# The old TURN server or Janus was told its public address. It is needed here when the host is behind",
            "# NAT; the preflight of the playbook site says so.",
            f"# hpb_public_ip: {public[0]}",
        ]
    elif told or found_by_itself:
        file.lines.append("")
        private = told and all(map(_is_address, told))
        what = "was told a private address" if private else "found its address by itself"
        file.ask("hpb_public_ip", "192.0.2.10", f"only if this host is behind NAT; the old TURN server {what}")


def _and(things: Sequence[str]) -> str:
    return " and ".join([", ".join(things[:-1]), things[-1]] if things[1:] else things)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_public(text: str) -> bool:
    """Whether it is an IPv4 address that a router before this host may have, documentation's included."""
    if not _is_address(text) or ":" in text:
        return False
    private = (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "0.0.0.0/8",
    )
    return not any(ipaddress.ip_address(text) in ipaddress.ip_network(network) for network in private)


def scalar(value: Any) -> str:
    """Return a value as YAML: bare where that is safe, else in JSON's quotes."""
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    plain = re.fullmatch(r"[A-Za-z/][A-Za-z0-9_./@-]*(:[A-Za-z0-9_./@-]+)*", text)
    word = text.lower() in {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}
    return text if isinstance(value, int) or (plain and not word) else json.dumps(text)


def differing(found: Sequence[Installation], main: Installation, domain: str) -> list[tuple[Installation, str]]:
    """Return the other servers whose Nextclouds have the backend at another place, with that place."""
    result = []
    for one in found:
        theirs, port = _adopt.domain(one), turn_port(one)
        places = [f"https://{theirs}"] if theirs and theirs != domain else []
        if one is not main and (port != turn_port(main) or _adopt.turn_domain(one) != _adopt.turn_domain(main)):
            places.append(f"TURN at {_adopt.turn_domain(one) or 'another name'}:{port}")
        if one is not main and places:
            result.append((one, " and ".join(places)))
    return result
