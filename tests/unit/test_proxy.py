# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The public surface, what Traefik is told of it, and the judgement of the proxy's settings."""

from __future__ import annotations

import re

import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _preflight, _probe, _proxy

PREFIX = "/standalone-signaling"
PUBLIC = ["/spreed", "/api/v1/welcome", "/api/v1/room/abc123xy"]
PRIVATE = [
    "/",
    "",
    *_probe.CLOSED_PATHS,
    "/spreed/",
    "/spreed/x",
    "/spreedy",
    "/x/spreed",
    "/api/v1/welcome/",
    "/api/v1/welcomes",
    "/api/v1/room",
    "/api/v1/room/",
    "/api/v1/room/a/b",
    "/api/v1/room/../stats",
    "/api/v1/room/%2e%2e/stats",
    "/api/v1/room/..%2fstats",
    "/api/v1/room/..",
    "/api/v1/room/.",
]


@pytest.mark.parametrize("prefix", ["", PREFIX])
def test_the_pattern_has_what_is_public_and_nothing_else(prefix):
    pattern = re.compile(f"^{prefix}/({_proxy.surface(prefix)['pattern']})$")
    assert [path for path in PUBLIC if not pattern.match(prefix + path)] == []
    assert [path for path in PRIVATE if pattern.match(prefix + path)] == []


def test_base_and_leaf_make_the_path():
    routes = _proxy.surface()["routes"]
    assert [(route["base"], route["leaf"]) for route in routes] == [
        ("/", "spreed"),
        ("/api/v1/", "welcome"),
        ("/api/v1/room/", "[^/.%]+"),
    ]


ALLOWED = "Host(`talk.example.org`) && !HeaderRegexp(`Sec-WebSocket-Protocol`, `(?i)janus-events`)"
ROOT_RULE = f"{ALLOWED} && (Path(`/spreed`) || Path(`/api/v1/welcome`) || PathRegexp(`^/api/v1/room/[^/.%]+$`))"
PATH_RULE = (
    f"{ALLOWED} && (Path(`{PREFIX}/spreed`) || Path(`{PREFIX}/api/v1/welcome`) || "
    f"PathRegexp(`^{PREFIX}/api/v1/room/[^/.%]+$`))"
)
HEADERS = {"headers": {"stsSeconds": 31536000, "contentTypeNosniff": True}}


def router(rule: str, *middlewares: str, tls: dict | None = None) -> dict:
    return {
        "rule": rule,
        "entryPoints": ["websecure"],
        "service": "signalling",
        "middlewares": list(middlewares),
        "tls": tls or {},
    }


@pytest.mark.parametrize(
    ("prefixes", "routers", "strip"),
    [
        ([""], {"signalling": router(ROOT_RULE, "headers")}, None),
        ([PREFIX], {"signalling-path": router(PATH_RULE, "headers", "path")}, [PREFIX]),
        (
            ["", PREFIX],
            {"signalling": router(ROOT_RULE, "headers"), "signalling-path": router(PATH_RULE, "headers", "path")},
            [PREFIX],
        ),
    ],
)
def test_traefik_is_told_the_same_under_each_path(prefixes, routers, strip):
    found = _proxy.traefik("talk.example.org", "http://127.0.0.1:8080", prefixes)["http"]
    assert found["routers"] == routers
    assert found["services"] == {"signalling": {"loadBalancer": {"servers": [{"url": "http://127.0.0.1:8080"}]}}}
    assert found["middlewares"] == {
        "headers": HEADERS,
        **({"path": {"stripPrefix": {"prefixes": strip}}} if strip else {}),
    }


def test_traefik_behind_a_form_takes_any_name_without_tls_and_the_client_from_the_proxy():
    found = _proxy.traefik(
        "talk.example.org", "http://127.0.0.1:8080", ["", PREFIX], entry_point="form", plain=True, tls={"a": "b"}
    )["http"]
    assert found["routers"] == {
        "signalling": {
            "rule": ROOT_RULE.removeprefix("Host(`talk.example.org`) && "),
            "entryPoints": ["form"],
            "service": "signalling",
            "middlewares": ["headers"],
        },
        "signalling-path": {
            "rule": PATH_RULE.removeprefix("Host(`talk.example.org`) && "),
            "entryPoints": ["form"],
            "service": "signalling",
            "middlewares": ["headers", "path"],
        },
    }
    assert found["middlewares"]["headers"]["headers"] == {
        **HEADERS["headers"],
        "customRequestHeaders": {"X-Real-Ip": ""},
    }


@pytest.mark.parametrize(
    ("resolver", "tls"),
    [({}, {"tls": "true"}), ({"certResolver": "le"}, {"tls.certResolver": "le"})],
)
def test_labels_say_what_the_file_says(resolver, tls):
    dynamic = _proxy.traefik(
        "talk.example.org", "http://192.0.2.1:8080", [PREFIX], entry_point="https", tls=resolver, name="nextcloud-talk"
    )
    start = "traefik.http.routers.nextcloud-talk-signalling-path"
    assert _proxy.labels(dynamic) == {
        "traefik.enable": "true",
        f"{start}.rule": PATH_RULE,
        f"{start}.entryPoints": "https",
        f"{start}.service": "nextcloud-talk-signalling",
        f"{start}.middlewares": "nextcloud-talk-headers,nextcloud-talk-path",
        **{f"{start}.{name}": value for name, value in tls.items()},
        "traefik.http.services.nextcloud-talk-signalling.loadBalancer.server.url": "http://192.0.2.1:8080",
        "traefik.http.middlewares.nextcloud-talk-headers.headers.stsSeconds": "31536000",
        "traefik.http.middlewares.nextcloud-talk-headers.headers.contentTypeNosniff": "true",
        "traefik.http.middlewares.nextcloud-talk-path.stripPrefix.prefixes": PREFIX,
    }


OWN = {
    "profile": "host",
    "own": True,
    "kind": "",
    "path": "",
    "address": "127.0.0.1",
    "listen": "127.0.0.1",
    "port": 8080,
    "form_port": 8084,
    "tls": "acme",
    "network": "",
    "container": "",
    "entry_point": "websecure",
    "resolver": "",
    "turn_tls_port": 0,
    "turn_443": "",
}
THERE = {**OWN, "own": False, "kind": "nginx", "tls": "proxy"}
FORM = {**OWN, "kind": "form", "tls": "proxy"}


@pytest.mark.parametrize(
    "settings",
    [
        OWN,
        {**OWN, "path": PREFIX, "port": "9080"},
        {**OWN, "profile": "bridge", "turn_tls_port": 5349},
        {**OWN, "turn_443": "turn443.example.org"},
        THERE,
        {**THERE, "kind": "", "path": "/a/b_c-1", "tls": "private_ca"},
        {**THERE, "address": "192.0.2.7", "listen": "198.51.100.4"},
        {**THERE, "address": "2001:db8::7", "listen": "2001:db8::4"},
        {**THERE, "kind": "traefik_labels", "network": "proxy", "container": "traefik", "resolver": "le"},
        FORM,
        {**FORM, "address": "192.0.2.7", "listen": "198.51.100.4", "form_port": "80"},
        {**FORM, "network": "proxy", "container": "npm", "address": "192.0.2.3", "listen": "192.0.2.1"},
        {**FORM, "tls": "files", "turn_tls_port": 5349, "path": PREFIX},
    ],
)
def test_what_works_is_not_complained_about(settings):
    assert _proxy.problems(settings) == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({**OWN, "path": "standalone-signaling"}, "hpb_path is 'standalone-signaling', expected a path of letters"),
        ({**OWN, "path": "/"}, "hpb_path is '/', expected"),
        ({**OWN, "path": "/a/"}, "hpb_path is '/a/', expected"),
        ({**OWN, "path": "/a`) || Path(`/"}, "expected a path of letters, digits, - and _"),
        ({**OWN, "port": 80}, "hpb_signaling_port is '80', expected a number from 1024"),
        ({**OWN, "port": "x"}, "hpb_signaling_port is 'x', expected"),
        (
            {**THERE, "profile": "bridge"},
            "hpb_network_profile is bridge, but traefik_enabled is false, expected our own",
        ),
        (
            {**OWN, "profile": "bridge", "turn_443": "turn443.example.org"},
            "hpb_turn_443_domain is turn443.example.org, but hpb_network_profile is bridge, expected no TURN on",
        ),
        ({**OWN, "tls": "proxy"}, "hpb_tls is proxy, but traefik_enabled is not false"),
        ({**OWN, "kind": "nginx"}, "set traefik_enabled: false, or hpb_proxy: form for one that takes no file"),
        ({**OWN, "kind": "nginx"}, "is set, but traefik_enabled is not false, expected a proxy that is there"),
        (
            {**THERE, "kind": "apache2"},
            "hpb_proxy is 'apache2', expected nginx, apache, caddy, haproxy, traefik, traefik_labels, form or",
        ),
        ({**FORM, "own": False}, "hpb_proxy is form, but traefik_enabled is false, expected our own Traefik, to which"),
        ({**FORM, "form_port": 0}, "hpb_proxy_port is '0', expected a number from 1 to 65535: correct it."),
        ({**FORM, "form_port": "http"}, "hpb_proxy_port is 'http', expected"),
        ({**FORM, "tls": "acme"}, "hpb_tls is acme, but hpb_proxy is form: Let's Encrypt's certificate comes to"),
        ({**FORM, "address": "npm"}, "hpb_proxy_address is 'npm', expected exactly one IP address"),
        ({**FORM, "listen": "::"}, "hpb_signaling_address is ::, expected the one address at which the proxy reaches"),
        ({**FORM, "container": "npm"}, "Of hpb_proxy_network and hpb_proxy_container only one is set"),
        ({**FORM, "turn_tls_port": 5349}, "hpb_turn_tls_port is 5349, but hpb_tls is proxy"),
        ({**FORM, "turn_443": "turn443.example.org"}, "turn443.example.org, but hpb_proxy is form, expected our own"),
        ({**FORM, "profile": "bridge"}, "hpb_proxy is form, but hpb_network_profile is bridge, expected host, where"),
        ({**THERE, "tls": "acme"}, "hpb_tls is acme, but traefik_enabled is false"),
        ({**THERE, "address": "192.0.2.0/24"}, "hpb_proxy_address is '192.0.2.0/24', expected exactly one IP address"),
        ({**THERE, "address": "proxy.example.org"}, "hpb_proxy_address is 'proxy.example.org', expected exactly one"),
        ({**THERE, "listen": "talk.example.org"}, "hpb_signaling_address is 'talk.example.org', expected exactly one"),
        ({**THERE, "listen": "0.0.0.0"}, "hpb_signaling_address is 0.0.0.0, expected the one address"),
        ({**THERE, "network": "proxy"}, "Of hpb_proxy_network and hpb_proxy_container only one is set"),
        ({**THERE, "container": "proxy"}, "Of hpb_proxy_network and hpb_proxy_container only one is set"),
        ({**THERE, "entry_point": ""}, "hpb_proxy_entry_point is '', expected the name"),
        (
            {**THERE, "turn_443": "turn443.example.org"},
            "hpb_turn_443_domain is turn443.example.org, but traefik_enabled is false",
        ),
        ({**THERE, "turn_tls_port": 5349, "tls": "proxy"}, "hpb_turn_tls_port is 5349, but hpb_tls is proxy"),
        ({**THERE, "resolver": "a b"}, "hpb_proxy_resolver is 'a b', expected the name"),
    ],
)
def test_each_fault_is_one_sentence(settings, words):
    (sentence,) = _proxy.problems(settings)
    assert words in sentence


# As the engine writes it, shortened to what is read.
INSPECTED = """[{"Name": "/traefik", "NetworkSettings": {"Networks": {
    "proxy": {"IPAMConfig": {"IPv4Address": "192.0.2.3"}, "Gateway": "192.0.2.1", "IPAddress": "192.0.2.3"},
    "web": {"IPAMConfig": null, "Gateway": "198.51.100.1", "IPAddress": "198.51.100.9"},
    "inner": {"IPAMConfig": null, "Gateway": "", "IPAddress": "203.0.113.9"}}}}]"""


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        ("proxy", {"address": "192.0.2.3", "gateway": "192.0.2.1", "fixed": True}),
        ("web", {"address": "198.51.100.9", "gateway": "198.51.100.1", "fixed": False}),
    ],
)
def test_the_seat_of_a_proxy_in_docker(network, expected):
    assert _preflight.seat(INSPECTED, network, "traefik") == (expected, "")


@pytest.mark.parametrize(
    ("inspected", "network", "words"),
    [
        ("[]\n", "proxy", "There is no container traefik (hpb_proxy_container), expected your proxy running in the"),
        ("", "proxy", "There is no container traefik (hpb_proxy_container)"),
        (INSPECTED, "edge", "The container traefik is in inner, proxy, web, expected your proxy running in the Docker"),
        (INSPECTED, "inner", "has no address in inner, or the host has none there"),
        ('[{"NetworkSettings": {"Networks": {}}}]', "proxy", "The container traefik is in no network"),
    ],
)
def test_a_proxy_that_is_not_there_is_named(inspected, network, words):
    found, sentence = _preflight.seat(inspected, network, "traefik")
    assert found == {}
    assert words in sentence
