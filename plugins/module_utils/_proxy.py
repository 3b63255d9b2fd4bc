# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of the signaling server is public, in the one form from which the configuration of every proxy derives.

The surface is that of strukturag/nextcloud-spreed-signaling, server/backend_server.go and server/hub.go: browsers need
the websocket, Talk's own check the welcome, and a Nextcloud the rooms. Everything else (metrics, statistics, TURN
credentials, the profiler) is for the host itself, and 404 for others. Everything here is pure.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any

# The room's token stands alone after the last of them: no further slash, no dot and nothing encoded.
ROUTES = (
    {"path": "/spreed", "exact": True, "websocket": True},
    {"path": "/api/v1/welcome", "exact": True, "websocket": False},
    {"path": "/api/v1/room/", "exact": False, "websocket": False},
)
ROOM = "[^/.%]+"
# The websocket is also for Janus' events, which are told by this subprotocol: from 2.1.0 on the server takes them from
# every private address, without a secret and from 2.1.1 on of any size (server/hub.go, sfu/janus/events_handler.go).
# Janus reaches the server past all proxies, so what comes through one must not ask for it: not in other letters, nor
# among others.
EVENTS_HEADER = "Sec-WebSocket-Protocol"
EVENTS = "janus-events"
# Bytes of a request that the server takes (server/backend_server.go, maxBodySize).
MAX_BODY = 256 * 1024
# Seconds that a silent websocket is kept. The server pings every 54 seconds (client/client.go, pingPeriod).
IDLE_SECONDS = 3600

# The file that is written for each kind of proxy, and how one reads it anew, as Debian's package has it.
FILES = {
    "nginx": ("nginx.conf", "nginx -t && systemctl reload nginx"),
    "apache": ("apache.conf", "apachectl configtest && systemctl reload apache2"),
    "caddy": ("caddy.conf", "systemctl reload caddy"),
    "haproxy": ("haproxy.cfg", "systemctl reload haproxy"),
    "traefik": ("traefik.yml", ""),
}
KINDS = (*FILES, "traefik_labels")
# A proxy that takes no file, before our own Traefik.
FORM = "form"

_PREFIX = re.compile(r"(/[A-Za-z0-9_-]+)+")
_TRAEFIK_NAME = re.compile(r"[A-Za-z0-9_-]+")


def surface(prefix: str = "") -> dict[str, Any]:
    """Return what is public under `prefix` ("" or a path without a slash at its end).

    `routes` has for each path `path` (without the prefix), `exact`, `websocket`, `base` and `leaf` (the path up to its
    last slash, and a regular expression of the rest), and `rule` (Traefik's matcher, with the prefix). `pattern` is a
    regular expression (the same for PCRE, RE2 and POSIX) of all paths after the prefix and a slash. A request whose
    header `events_header` has `events` in it, in whatever letters, is public under none of them. `max_body` is in
    bytes, `idle` in seconds.
    """
    routes = []
    for route in ROUTES:
        base, slash, leaf = str(route["path"]).rpartition("/")
        whole = f"{prefix}{route['path']}"
        # A prefix would let ..%2f pass, which the server takes for a way up.
        rule = f"Path(`{whole}`)" if route["exact"] else f"PathRegexp(`^{whole}{ROOM}$`)"
        routes.append({**route, "base": base + slash, "leaf": leaf or ROOM, "rule": rule})
    pattern = "|".join((route["base"] + route["leaf"])[1:] for route in routes)
    return {
        "prefix": prefix,
        "routes": routes,
        "pattern": pattern,
        "events_header": EVENTS_HEADER,
        "events": EVENTS,
        "max_body": MAX_BODY,
        "idle": IDLE_SECONDS,
    }


def traefik(
    domain: str,
    server: str,
    prefixes: Sequence[str] = ("",),
    *,
    entry_point: str = "websecure",
    tls: Mapping[str, Any] | None = None,
    name: str = "",
    plain: bool = False,
) -> dict[str, Any]:
    """Return Traefik's dynamic configuration (as its file provider takes it) for the signaling server at the URL
    `server`, under the name `domain` and each of `prefixes` ("" is the root).

    `tls` is the router's own: {} for a certificate that Traefik has, or {"certResolver": name}. `name` begins the names
    of all parts; a Traefik of others may have a middleware that is called headers, too. `plain` is for an entry point
    at which a proxy comes that has the certificate, by whatever name: there is no TLS, and the client is whom the proxy
    names in X-Forwarded-For. Its X-Real-IP, which may be a client's own, goes no further.
    """

    def named(part: str) -> str:
        return f"{name}-{part}" if name else part

    security: dict[str, Any] = {"stsSeconds": 31536000, "contentTypeNosniff": True}
    if plain:
        security["customRequestHeaders"] = {"X-Real-Ip": ""}
    middlewares: dict[str, Any] = {named("headers"): {"headers": security}}
    routers: dict[str, Any] = {}
    closed = f"!HeaderRegexp(`{EVENTS_HEADER}`, `(?i){EVENTS}`)"
    allowed = closed if plain else f"Host(`{domain}`) && {closed}"
    below = [prefix for prefix in prefixes if prefix]
    if below:
        middlewares[named("path")] = {"stripPrefix": {"prefixes": below}}
    for router, group in (("signalling", [prefix for prefix in prefixes if not prefix]), ("signalling-path", below)):
        if group:
            rules = [route["rule"] for prefix in group for route in surface(prefix)["routes"]]
            routers[named(router)] = {
                "rule": f"{allowed} && ({' || '.join(rules)})",
                "entryPoints": [entry_point],
                "service": named("signalling"),
                "middlewares": [named("headers")] if group is not below else [named("headers"), named("path")],
                **({} if plain else {"tls": dict(tls or {})}),
            }
    services = {named("signalling"): {"loadBalancer": {"servers": [{"url": server}]}}}
    return {"http": {"routers": routers, "services": services, "middlewares": middlewares}}


def labels(dynamic: Mapping[str, Any]) -> dict[str, str]:
    """Return the labels of a container that tell Traefik's Docker provider the same as `dynamic` (of `traefik`).

    The server's URL is a label from Traefik 3.4 on. It takes the place of the container's own address: on the host's
    network it has none.
    """
    found = {"traefik.enable": "true"}
    http = dynamic["http"]
    for name, router in http["routers"].items():
        # An empty mapping would be no label at all.
        _flatten(f"traefik.http.routers.{name}", {**router, "tls": router["tls"] or True}, found)
    for name, service in http["services"].items():
        (server,) = service["loadBalancer"]["servers"]
        _flatten(f"traefik.http.services.{name}.loadBalancer.server", server, found)
    for name, middleware in http["middlewares"].items():
        _flatten(f"traefik.http.middlewares.{name}", middleware, found)
    return found


def _flatten(path: str, value: Any, found: dict[str, str]) -> None:
    """Put `value` into `found` as labels below `path`."""
    if isinstance(value, Mapping):
        for key, entry in value.items():
            _flatten(f"{path}.{key}", entry, found)
    elif isinstance(value, (list, tuple)):
        found[path] = ",".join(str(entry) for entry in value)
    else:
        found[path] = str(value).lower() if isinstance(value, bool) else str(value)


def is_address(text: str) -> bool:
    """Whether the text is exactly one IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def problems(settings: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each thing that cannot work.

    settings: `profile` (hpb_network_profile), `own` (bool: our Traefik runs), `kind` (hpb_proxy), `path` (hpb_path),
    `address` (hpb_proxy_address), `listen` (hpb_signaling_address), `port`, `form_port` (hpb_proxy_port), `tls`
    (hpb_tls), `network` and `container` (hpb_proxy_network, hpb_proxy_container), `entry_point`, `resolver`,
    `turn_tls_port` (0: none), `turn_443` (the name for TURN on port 443, "" for none).
    """
    found = []
    if settings["path"] and not _PREFIX.fullmatch(str(settings["path"])):
        found.append(
            f"hpb_path is '{settings['path']}', expected a path of letters, digits, - and _ that starts with a slash "
            f"and does not end with one, such as /standalone-signaling: correct it."
        )
    port = str(settings["port"])
    if not port.isdigit() or not 1024 <= int(port) <= 65535:
        found.append(
            f"hpb_signaling_port is '{port}', expected a number from 1024 to 65535 (the server is no root): correct it."
        )
    if settings["profile"] == "bridge":
        found.extend(_bridge_problems(settings))
    if settings["kind"] == FORM:
        found.extend(_form_problems(settings))
    elif settings["own"]:
        return found + _own_problems(settings)
    elif settings["kind"] not in ("", *KINDS):
        found.append(
            f"hpb_proxy is '{settings['kind']}', expected {', '.join(KINDS)}, {FORM} or nothing (files for all of "
            f"them): correct it."
        )
    before = f"hpb_proxy is {FORM}" if settings["kind"] == FORM else "traefik_enabled is false"
    if settings["tls"] == "acme":
        found.append(
            f"hpb_tls is acme, but {before}: Let's Encrypt's certificate comes to the proxy that is "
            "there. Remove hpb_tls, or choose files or private_ca for a certificate in tls below hpb_base_dir."
        )
    if settings["turn_443"]:
        found.append(
            f"hpb_turn_443_domain is {settings['turn_443']}, but {before}, expected our own Traefik on port 443, "
            f"which tells TURN from HTTPS there: remove it, or offer TURN over TLS on hpb_turn_tls_port."
        )
    if settings["turn_tls_port"] and settings["tls"] == "proxy":
        found.append(
            f"hpb_turn_tls_port is {settings['turn_tls_port']}, but hpb_tls is proxy, expected a certificate that "
            f"coturn can read: choose files or private_ca, or set hpb_turn_tls_port: 0."
        )
    for name, value in (("hpb_proxy_address", settings["address"]), ("hpb_signaling_address", settings["listen"])):
        if not is_address(str(value)):
            found.append(
                f"{name} is '{value}', expected exactly one IP address, no name and no network: whoever has the "
                f"proxy's address is believed in what it says of others. Correct it."
            )
    if is_address(str(settings["listen"])) and ipaddress.ip_address(str(settings["listen"])).is_unspecified:
        found.append(
            f"hpb_signaling_address is {settings['listen']}, expected the one address at which the proxy reaches this "
            f"host: what listens there speaks plain HTTP and is for the proxy alone. Name that address."
        )
    if bool(settings["network"]) != bool(settings["container"]):
        found.append(
            "Of hpb_proxy_network and hpb_proxy_container only one is set, expected both (the proxy runs in Docker on "
            "this host) or none: set the other one too."
        )
    for name, value, needed in (
        ("hpb_proxy_entry_point", str(settings["entry_point"]), True),
        ("hpb_proxy_resolver", str(settings["resolver"]), False),
    ):
        if (value or needed) and not _TRAEFIK_NAME.fullmatch(value):
            found.append(f"{name} is '{value}', expected the name that your Traefik's configuration has: correct it.")
    return found


def _bridge_problems(settings: Mapping[str, Any]) -> list[str]:
    """Return what of the settings there is on the host's network only."""
    found = []
    if not settings["own"] and settings["kind"] != FORM:
        found.append(
            "hpb_network_profile is bridge, but traefik_enabled is false, expected our own Traefik, which alone "
            "reaches the signaling server on its private network: remove traefik_enabled, or set hpb_network_profile: "
            "host."
        )
    if settings["turn_443"] and settings["kind"] != FORM:
        found.append(
            f"hpb_turn_443_domain is {settings['turn_443']}, but hpb_network_profile is bridge, expected no TURN on "
            f"port 443 there: remove it and offer TURN over TLS on hpb_turn_tls_port, or set hpb_network_profile: host."
        )
    return found


def _form_problems(settings: Mapping[str, Any]) -> list[str]:
    """Return what keeps our Traefik from serving the backend behind a proxy that is only a form."""
    found = []
    if not settings["own"]:
        found.append(
            f"hpb_proxy is {FORM}, but traefik_enabled is false, expected our own Traefik, to which such a proxy "
            f"passes everything on and which keeps shut what is private: remove traefik_enabled."
        )
    port = str(settings["form_port"])
    if not port.isdigit() or not 1 <= int(port) <= 65535:
        found.append(f"hpb_proxy_port is '{port}', expected a number from 1 to 65535: correct it.")
    if settings["profile"] == "bridge":
        found.append(
            f"hpb_proxy is {FORM}, but hpb_network_profile is bridge, expected host, where such a proxy is told from "
            f"others by its address: set hpb_network_profile: host, or let our own Traefik have ports 80 and 443."
        )
    return found


def _own_problems(settings: Mapping[str, Any]) -> list[str]:
    """Return what of the settings does nothing, or harm, where our own Traefik serves the backend."""
    found = []
    if settings["tls"] == "proxy":
        found.append(
            "hpb_tls is proxy, but traefik_enabled is not false, expected a certificate for our own Traefik: choose "
            "acme, files or private_ca."
        )
    if settings["kind"] or settings["network"] or settings["container"]:
        found.append(
            "hpb_proxy, hpb_proxy_network or hpb_proxy_container is set, but traefik_enabled is not false, expected a "
            f"proxy that is there in place of our own Traefik: set traefik_enabled: false, or hpb_proxy: {FORM} for "
            f"one that takes no file, or remove them."
        )
    return found
