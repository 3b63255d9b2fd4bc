# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who holds a port that the backend is to have, and which variables lead past it."""

from __future__ import annotations

import pytest
import test_ports
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _holders
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._holders import Holder

USUAL, BRIDGE = test_ports.USUAL, test_ports.BRIDGE
APACHE, JAVA, COTURN = Holder("apache2"), Holder("java"), Holder("turnserver")
NPM = Holder("docker-proxy", "proxy-1", "docker.io/library/caddy:2.10", "cloud", "cloud_default")


def both(who):
    return {"tcp/80": who, "tcp/443": who}


@pytest.mark.parametrize(
    ("taken", "settings", "sentence"),
    [
        (
            both(APACHE),
            {},
            "Ports tcp/80 and tcp/443 are held by apache2, which can serve the backend beside what it serves now: set "
            "traefik_enabled: false and hpb_proxy: apache for the group hpb; the run then writes what belongs into its "
            "configuration, and says where.",
        ),
        (
            both(NPM),
            {},
            "Ports tcp/80 and tcp/443 are held by the container proxy-1 (image docker.io/library/caddy:2.10, of the "
            "compose "
            "project cloud), which can serve the backend beside what it serves now: set traefik_enabled: false, "
            "hpb_proxy: "
            "caddy, hpb_proxy_network: cloud_default and hpb_proxy_container: proxy-1 for the group hpb; the run then "
            "writes what belongs into its configuration, and says where.",
        ),
        # On the host's own network it is reached like a program of the host.
        (
            {"tcp/443": Holder("nginx", "web", "nginx")},
            {},
            "Port tcp/443 is held by the container web (image nginx), which can serve the backend beside what it "
            "serves now: "
            "set traefik_enabled: false and hpb_proxy: nginx for the group hpb;",
        ),
        (
            {"tcp/443": APACHE},
            BRIDGE,
            "set traefik_enabled: false, hpb_proxy: apache and hpb_network_profile: host for",
        ),
        (
            {"tcp/443": Holder("an unknown process")},
            {},
            "Port tcp/443 is held by an unknown process, which is not ours: when it is a web server that can pass on "
            "to "
            "another one, set traefik_enabled: false for the group hpb, and the run writes what belongs into its "
            "configuration; else move it to another port, and run the same command again.",
        ),
        (
            {"tcp/8080": JAVA},
            {},
            "Port tcp/8080 is held by java, which is not ours: set hpb_signaling_port: 8082 for the group hpb.",
        ),
        (
            {"udp/3478": JAVA},
            {},
            "Port udp/3478 is held by java, which is not ours: set hpb_turn_port: 3479 for the group hpb, and let the "
            "firewalls and the router pass it.",
        ),
        (
            {"udp/3478": COTURN, "tcp/3478": COTURN},
            test_ports.TURN_443 | {"turn_proxy": 3479},
            "Ports tcp/3478 and udp/3478 are held by turnserver, which is not ours: set hpb_turn_port: 3480 for the "
            "group "
            "hpb, and let the firewalls and the router pass it; where that was for Talk alone, ours replaces it, and "
            "it can "
            "be stopped instead.",
        ),
        ({"tcp/4222": JAVA}, {}, "set hpb_nats_port: 4223 for the group hpb."),
        ({"tcp/8222": JAVA}, {}, "set hpb_nats_monitor_port: 8223 for the group hpb."),
        ({"tcp/8188": JAVA}, {}, "set hpb_janus_port: 8189 for the group hpb."),
        ({"tcp/8083": JAVA}, {}, "set traefik_ping_port: 8084 for the group hpb."),
        (
            {"tcp/5349": COTURN},
            {"turn_tls": 5349},
            "set hpb_turn_tls_port: 5350 for the group hpb, and let the firewalls",
        ),
        ({"tcp/3480": JAVA}, test_ports.TURN_443, "set hpb_turn_proxy_port: 3481 for the group hpb."),
        # The port for all HTTPS may be that for TURN over TLS.
        ({"tcp/443": JAVA}, {**test_ports.PROXY, "turn_tls": 443}, "set hpb_turn_tls_port: 444 for the group hpb"),
    ],
)
def test_each_holder_is_one_sentence(taken, settings, sentence):
    found = _holders.problems(taken, {**USUAL, **settings}, ["tcp/8081"])
    assert len(found) == 1, found
    assert sentence in found[0]
    assert ": stop it" not in found[0]


def test_every_port_of_the_host_has_a_way_out():
    """Nothing is left of which one can only say that somebody else has it."""
    for settings in (USUAL, {**USUAL, **test_ports.TURN_443, "turn_tls": 5349}, {**USUAL, **test_ports.PROXY}):
        for use in _holders._ports.uses(settings):
            for protocol, first, last in use.spans:
                if first == last:
                    (found,) = _holders.problems({f"{protocol}/{first}": JAVA}, settings, [])
                    assert f"set {use.variable or 'traefik_enabled'}: " in found


def test_two_holders_are_two_sentences():
    found = _holders.problems({"tcp/80": APACHE, "tcp/443": Holder("haproxy"), "tcp/8080": JAVA}, USUAL, [])
    assert len(found) == 3
    assert _holders.problems({}, {}, []) == []


@pytest.mark.parametrize(
    ("who", "kind"),
    [
        (APACHE, "apache"),
        (Holder("httpd"), "apache"),
        (Holder("openresty"), "nginx"),
        (Holder("docker-proxy", "x", "registry.example.org:5000/library/traefik:v3.7@sha256:0"), "traefik"),
        (Holder("docker-proxy", "x", "haproxy"), "haproxy"),
        (Holder("docker-proxy", "nginx", "example/application"), ""),
        (JAVA, ""),
    ],
)
def test_kinds(who, kind):
    assert who.kind == kind


def described(name, pid, mode="bridge", networks=(), ports=None, labels=None):
    """A container as the engine describes it."""
    return {
        "Name": f"/{name}",
        "State": {"Pid": pid},
        "Config": {"Image": "nginx:1.29", "Labels": labels or {}},
        "HostConfig": {"NetworkMode": mode, "PortBindings": ports or {}},
        "NetworkSettings": {"Networks": dict.fromkeys(networks)},
    }


PUBLISHED = described(
    "web",
    100,
    "cloud_default",
    ["cloud_default"],
    {"8443/tcp": [{"HostIp": "", "HostPort": "443"}], "53/udp": [{"HostIp": "", "HostPort": "53"}], "80/tcp": None},
    {"com.docker.compose.project": "cloud"},
)
HOST = described("own", 200, "host", ["host"])


@pytest.mark.parametrize(
    ("port", "process", "pid", "found"),
    [
        ("tcp/443", "docker-proxy", 7, Holder("docker-proxy", "web", "nginx:1.29", "cloud", "cloud_default")),
        ("tcp/443", "dockerd", 8, Holder("dockerd", "web", "nginx:1.29", "cloud", "cloud_default")),
        ("udp/53", "docker-proxy", 7, Holder("docker-proxy", "web", "nginx:1.29", "cloud", "cloud_default")),
        ("udp/443", "docker-proxy", 7, Holder("docker-proxy")),
        ("tcp/8443", "docker-proxy", 7, Holder("docker-proxy")),
        ("tcp/80", "nginx", 201, Holder("nginx", "own", "nginx:1.29")),
        ("tcp/443", "nginx", 300, Holder("nginx")),
        ("tcp/8080", "", 0, Holder("an unknown process")),
    ],
)
def test_who_holds_a_port(port, process, pid, found):
    def within(pid, ancestors):
        return pid in ancestors or pid - 1 in ancestors

    assert _holders.holder(port, process, pid, [PUBLISHED, HOST], within) == found
