# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which ports collide, which have to be open for whom, and what a person is told of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _ports

ROOT = Path(__file__).resolve().parents[2]

USUAL = {
    "profile": "host",
    "own": True,
    "form": 0,
    "acme_http": True,
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
    "listen": "127.0.0.1",
    "proxy": "127.0.0.1",
    "container": "",
    "public": "",
    "private": "192.0.2.10",
}
TURN_443 = {"turn_443": "turn443.example.org"}
PROXY = {"own": False, "acme_http": False, "proxy": "198.51.100.7", "listen": "198.51.100.1"}
BRIDGE = {"profile": "bridge"}
FORM = {**PROXY, "form": "8084"}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"turn_tls": 5349, **TURN_443},
        {key: [str(port) for port in value] if isinstance(value, list) else value for key, value in USUAL.items()},
        {"turn": "3478", "signaling": "8080", "turn_tls": "5349"},
        PROXY,
        {**PROXY, "turn": 443, "turn_tls": 80},
        FORM,
        # tcp and udp are apart.
        {"turn_tls": 20000, "signaling": 29999},
        # Each program has an address of its own there.
        {**BRIDGE, "media": [20000, 65535], "turn": 61000, "signaling": 4222},
        {"media": [20000, 20003]},
        # What is not used does not count.
        {"turn_proxy": 3478},
        {"turn_proxy": "nonsense"},
        {"relay_443": 100000},
        {**TURN_443, "relay_443": 4535},
        # proxy_problems has a sentence about these.
        {"signaling": 80},
        {"signaling": "nonsense"},
    ],
)
def test_what_works_has_no_problem(settings):
    assert _ports.problems({**USUAL, **settings}) == []


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"media": [20000, 62000]},
            "janus_min_port to janus_max_port is 20000-62000, expected ports of its own: udp/61000-62000 are for media "
            "relayed by coturn (coturn_min_port to coturn_max_port) as well. Change one of janus_min_port to "
            "janus_max_port and coturn_min_port to coturn_max_port for the group hpb.",
        ),
        (
            {"turn": 20000},
            "janus_min_port to janus_max_port is 20000-29999, expected ports of its own: udp/20000 is for STUN "
            "and TURN "
            "(hpb_turn_port) as well. Change one of janus_min_port to janus_max_port and hpb_turn_port for the "
            "group hpb.",
        ),
        (
            {"turn": 65535},
            "coturn_min_port to coturn_max_port is 61000-65535, expected ports of its own: udp/65535 is for STUN",
        ),
        (
            {**TURN_443, "turn_proxy": 29999},
            "udp/29999 is for what coturn takes from port 443 (hpb_turn_proxy_port) as well.",
        ),
        (
            {**TURN_443, "turn_proxy": 3478},
            "hpb_turn_proxy_port is 3478, expected a port of its own: tcp/3478 and udp/3478 are for STUN and TURN",
        ),
        (
            {"turn_tls": 3478},
            "hpb_turn_tls_port is 3478, expected a port of its own, such as 5349, or 0 for none: tcp/3478 is "
            "for STUN and "
            "TURN (hpb_turn_port) as well. Change one of hpb_turn_tls_port and hpb_turn_port for the group hpb.",
        ),
        (
            {"turn_tls": 443},
            "hpb_turn_tls_port is 443, expected a port of its own, such as 5349, or 0 for none: tcp/443 is for "
            "HTTPS as "
            "well. Change it for the group hpb. For TURN on port 443 set hpb_turn_443_domain.",
        ),
        ({"turn": 80}, "hpb_turn_port is 80, expected a port of its own: tcp/80 is for HTTP of our Traefik as well."),
        ({"turn": 8080}, "hpb_signaling_port is 8080, expected a port of its own: tcp/8080 is for STUN and TURN"),
        (
            {"signaling": 4222},
            "hpb_signaling_port is 4222, expected a port of its own: tcp/4222 is for NATS (hpb_nats_port) as "
            "well. Change one of hpb_signaling_port and hpb_nats_port for the group hpb.",
        ),
        ({"janus": 4222}, "hpb_nats_port is 4222, expected a port of its own: tcp/4222 is for the websocket of Janus"),
        ({"nats_monitor": "x"}, "hpb_nats_monitor_port is 'x', expected a port of its own from 1 to 65535: correct it"),
        ({"signaling": 8188}, "tcp/8188 is for the websocket of Janus (hpb_janus_port) as well."),
        ({"signaling": 8083}, "tcp/8083 is for the health check of Traefik (traefik_ping_port) as well."),
        (
            {**FORM, "form": 8080},
            "hpb_signaling_port is 8080, expected a port of its own: tcp/8080 is for what our Traefik",
        ),
        (
            {**FORM, "form": 8083},
            "hpb_proxy_port is 8083, expected a port of its own: tcp/8083 is for the health check",
        ),
        ({**FORM, **BRIDGE, "form": 3478}, "hpb_proxy_port is 3478, expected a port of its own: tcp/3478 is for STUN"),
        ({**BRIDGE, "turn": 443}, "hpb_turn_port is 443, expected a port of its own: tcp/443 is for HTTPS as well."),
        ({"turn": "x"}, "hpb_turn_port is 'x', expected a port of its own from 1 to 65535: correct it"),
        ({"turn": 0}, "hpb_turn_port is '0', expected a port of its own from 1 to 65535: correct it"),
        ({"turn_tls": 65536}, "hpb_turn_tls_port is '65536', expected a port of its own, such as 5349, or 0 for none:"),
        ({**TURN_443, "turn_proxy": -1}, "hpb_turn_proxy_port is '-1', expected a port of its own from 1 to 65535"),
        (
            {"media": [1023, 29999]},
            "janus_min_port is '1023', expected a port from 1024 to 65535 for media of Janus: correct it",
        ),
        ({"relay": [61000, 65536]}, "coturn_max_port is '65536', expected a port from 1024 to 65535 for media relayed"),
        (
            {"media": [20000, 20002]},
            "janus_min_port is 20000 and janus_max_port is 20002, expected 4 ports at least for media of Janus, as "
            "many as a call of two takes",
        ),
        (
            {"relay": ["61000", "61000"]},
            "coturn_max_port is 61000, expected 4 ports at least for media relayed by coturn",
        ),
        (
            {"relay": [65535, 61000]},
            "coturn_min_port is 65535 and coturn_max_port is 61000, expected the first and the last port for media "
            "relayed by coturn: correct one of them for the group hpb.",
        ),
        (
            {**TURN_443, "relay_443": 4536},
            "coturn_443_ports is '4536', expected 1 to 4535 of the 4536 ports 61000-65535 (coturn_min_port to "
            "coturn_max_port), the others being for those who do not come by port 443: correct one of the three",
        ),
        ({**TURN_443, "relay_443": 0}, "coturn_443_ports is '0', expected 1 to 4535"),
    ],
)
def test_each_fault_is_one_sentence(settings, sentence):
    found = _ports.problems({**USUAL, **settings})
    assert len(found) == 1, found
    assert sentence in found[0]


def test_the_defaults_of_the_roles_are_those_of_hpb_used_ports():
    """The role hpb reads variables of others, which it knows only when the inventory sets them."""
    text = (ROOT / "roles/hpb/defaults/main.yml").read_text(encoding="utf-8")
    own = {
        name: value
        for role in ("janus", "coturn", "traefik")
        for name, value in yaml.safe_load(
            (ROOT / f"roles/{role}/defaults/main.yml").read_text(encoding="utf-8")
        ).items()
    }
    names = ["janus_min_port", "janus_max_port", "coturn_min_port", "coturn_max_port", "coturn_443_ports"]
    assert [name for name in names if f"{{{{ {name} | default({own[name]}) }}}}" not in text] == []
    assert own["traefik_acme_dns_provider"] == "" and "traefik_acme_dns_provider | default('')" in text


LOCAL = "32768\t60999"


@pytest.mark.parametrize(
    ("first", "last", "local", "reserved", "words"),
    [
        (20000, 29999, LOCAL, "", None),
        (61000, 65535, LOCAL, "", None),
        (20000, 32767, LOCAL, "", None),
        (20000, 32768, LOCAL, "", "ip_local_reserved_ports = 32768 in"),
        (60999, 65535, LOCAL, "", "ip_local_reserved_ports = 60999 in"),
        (
            40000,
            40099,
            LOCAL,
            "",
            "expected ports that the kernel of this host does not give to outgoing connections (32768-60999)",
        ),
        (40000, 40099, LOCAL, "40000-40099", None),
        (40000, 40099, LOCAL, "8080,40000-40049,40050-40099", None),
        (40000, 40099, LOCAL, "40050-40099,40000-40049", None),
        (40000, 40099, LOCAL, "40000-40098", "ip_local_reserved_ports = 40000-40098,40000-40099 in"),
        (40000, 40099, LOCAL, "8080,40001-40099", "ip_local_reserved_ports = 8080,40001-40099,40000-40099 in"),
        (20000, 65535, LOCAL, "32768-60999", None),
        (20000, 65535, LOCAL, "", "ip_local_reserved_ports = 32768-60999 in /etc/sysctl.d/90-nextcloud-talk.conf"),
    ],
)
def test_ranges_for_media_stay_clear_of_the_kernels(first, last, local, reserved, words):
    found = _ports.ephemeral_problems([{"name": "the range", "first": first, "last": last}], local, reserved)
    if words is None:
        assert found == []
    else:
        assert len(found) == 1 and found[0].startswith(f"the range is {first}-{last}, expected")
        assert words in found[0]


def opened(settings):
    """The rules as short texts."""
    return [
        f"{rule['protocol']} {_ports.ports(rule['first'], rule['last'])} {rule['source']}".strip()
        for rule in _ports.rules({**USUAL, **settings})
    ]


MEDIA = ["udp 20000-29999", "udp 61000-65535"]
TURN = ["udp 3478", "tcp 3478"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ["tcp 80", "tcp 443", *TURN, *MEDIA]),
        ({"acme_http": False}, ["tcp 443", *TURN, *MEDIA]),
        ({"turn_tls": 5349, **TURN_443}, ["tcp 80", "tcp 443", *TURN, "tcp 5349", *MEDIA]),
        (
            {"media": ["30000", "30999"], "turn": "3479"},
            ["tcp 80", "tcp 443", "udp 3479", "tcp 3479", "udp 30000-30999", MEDIA[1]],
        ),
        (PROXY, ["tcp 8080 198.51.100.7", *TURN, *MEDIA]),
        (FORM, ["tcp 8084 198.51.100.7", *TURN, *MEDIA]),
        ({**FORM, "proxy": "127.0.0.1"}, [*TURN, *MEDIA]),
        ({**PROXY, "proxy": "2001:0db8::7"}, ["tcp 8080 2001:db8::7", *TURN, *MEDIA]),
        ({**PROXY, "proxy": "127.0.0.1"}, [*TURN, *MEDIA]),
        ({**PROXY, "listen": "127.0.0.1"}, [*TURN, *MEDIA]),
        ({**PROXY, "proxy": "::1"}, [*TURN, *MEDIA]),
        (BRIDGE, ["tcp 80", "tcp 443", *TURN]),
        ({**BRIDGE, "turn_tls": 5349}, ["tcp 80", "tcp 443", *TURN, "tcp 5349"]),
    ],
)
def test_what_has_to_be_open(settings, expected):
    assert opened(settings) == expected
    assert all(rule["why"] for rule in _ports.rules({**USUAL, **settings}))


@pytest.mark.parametrize("port", [8083, 4222, 8222, 8188, 3480])
def test_what_the_programs_have_for_each_other_is_never_open(port):
    for settings in ({}, {**TURN_443, "turn_tls": 5349}, PROXY, BRIDGE):
        rules = _ports.rules({**USUAL, **settings})
        assert not any(rule["first"] <= port <= rule["last"] for rule in rules)


def test_the_table():
    assert _ports.table(USUAL, "talk.example.org", "") == [
        "Ports to be open for talk.example.org. On the host they are yours to open, or set hpb_firewall: ufw, "
        "firewalld or "
        "nftables. A firewall before the host, such as a cloud's, is yours.",
        "  port         protocol  from       for",
        "  80           tcp       everybody  Let's Encrypt proves the names of the certificate, now and at "
        "each renewal",
        "  443          tcp       everybody  browsers, apps and the Nextclouds reach the signaling server",
        "  3478         udp       everybody  STUN and TURN",
        "  3478         tcp       everybody  TURN for clients whose network lets no udp through",
        "  20000-29999  udp       everybody  media to and from Janus",
        "  61000-65535  udp       everybody  media that TURN relays, for calls of two and with other servers",
    ]


def test_behind_nat_the_table_has_what_the_router_passes_on():
    nat = {**USUAL, **PROXY, "public": "203.0.113.9", "private": "192.168.7.2", "media": [20000, 20099]}
    lines = _ports.table(nat, "talk.example.org", "ufw")
    assert lines[0] == (
        "Ports to be open for talk.example.org. On the host ufw opens them (hpb_firewall). The router has to "
        "pass them on "
        "from 203.0.113.9 to 192.168.7.2."
    )
    start = lines.index("What the router passes on, from 203.0.113.9 to the same port of 192.168.7.2:")
    # Not the port that is for the proxy alone.
    assert [line.split() for line in lines[start + 1 :]] == [
        ["udp", "203.0.113.9:3478", "->", "192.168.7.2:3478"],
        ["tcp", "203.0.113.9:3478", "->", "192.168.7.2:3478"],
        ["udp", "203.0.113.9:20000-20099", "->", "192.168.7.2:20000-20099"],
        ["udp", "203.0.113.9:61000-65535", "->", "192.168.7.2:61000-65535"],
    ]
    for unknown in ("", "talk.example.org", "203.0.113.9"):
        lines = _ports.table({**nat, "private": unknown}, "talk.example.org", "")
        assert "  udp 203.0.113.9:3478         ->  this host's private address:3478" in lines


@pytest.mark.parametrize(
    ("settings", "firewall", "line"),
    [
        (
            {},
            "nftables",
            "Ports to be open for talk.example.org: tcp 80, 443, 3478; udp 3478, 20000-29999, 61000-65535. On the host "
            "nftables opens them (hpb_firewall). A firewall before the host, such as a cloud's, is yours.",
        ),
        (
            BRIDGE,
            "ufw",
            "Ports to be open for talk.example.org: tcp 80, 443, 3478; udp 3478. Docker publishes them past "
            "ufw, firewalld "
            "and nftables, so nothing is opened on the host. A firewall before the host, such as a cloud's, is yours.",
        ),
        (
            PROXY,
            "",
            "Ports to be open for talk.example.org: tcp 8080 (from 198.51.100.7 only), 3478; udp 3478, 20000-29999, "
            "61000-65535. On the host they are yours to open, or set hpb_firewall: ufw, firewalld or nftables. "
            "A firewall "
            "before the host, such as a cloud's, is yours.",
        ),
    ],
)
def test_the_line_at_the_end_of_a_deployment(settings, firewall, line):
    assert _ports.table({**USUAL, **settings}, "talk.example.org", firewall, short=True) == [line]


def test_an_existing_proxy_is_named():
    lines = _ports.table({**USUAL, **PROXY}, "h", "")
    assert "443 tcp is your own proxy's, which serves the signaling server: open it where that is." in lines
    lines = _ports.table({**USUAL, **PROXY, "proxy": "127.0.0.1", "container": "edge"}, "h", "")
    assert lines[-1] == "8080 tcp is for the container edge alone, whose address is found out when it is deployed."
