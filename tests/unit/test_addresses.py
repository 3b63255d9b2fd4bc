# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the programs reach each other, and what the roles make of it in each kind of network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.nextcloud_talk.hpb.plugins.filter import addresses as plugin
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _addresses

ROOT = Path(__file__).resolve().parents[2]
ROLES = ("hpb", "nats", "janus", "coturn", "signalling", "traefik", "container")
SUBNET = "172.31.254.0/24"


def test_on_the_hosts_network_everything_but_media_is_on_the_loopback():
    found = _addresses.addresses("host", "", "192.0.2.10")
    assert {half: {*found[half].values()} for half in ("core", "edge")} == {
        half: {"127.0.0.1", "192.0.2.10"} for half in ("core", "edge")
    }
    assert [name for name, address in found["core"].items() if address == "192.0.2.10"] == ["coturn"]
    assert (found["media"], found["media6"], found["web"]) == ("192.0.2.10", "", "127.0.0.1")
    assert (found["networks"], found["places"]) == ([], {})


def test_of_ipv6_only_media_has_an_address_and_only_on_the_hosts_network():
    plain = _addresses.addresses("host", "", "192.0.2.10")
    assert _addresses.addresses("host", "", "192.0.2.10", "2001:DB8:0::10") == {
        **plain,
        "media6": "2001:db8::10",
        "neighbours6": "2001:db8::-2001:db8::ffff:ffff:ffff:ffff",
    }
    assert plugin.addresses("bridge", SUBNET, "192.0.2.10", "2001:db8::10")["media6"] == ""


def test_private_networks_are_the_halves_of_the_subnet():
    found = _addresses.addresses("bridge", SUBNET, "192.0.2.10")
    assert found["networks"] == [
        {"name": "hpb-edge", "subnet": "172.31.254.0/25", "gateway": "172.31.254.1", "internal": False},
        {"name": "hpb-core", "subnet": "172.31.254.128/25", "gateway": "172.31.254.129", "internal": True},
    ]
    assert found["edge"] == {
        "host": "172.31.254.1",
        "coturn": "172.31.254.4",
        "signalling": "172.31.254.5",
        "traefik": "172.31.254.6",
    }
    assert found["core"] == {
        "host": "172.31.254.129",
        "nats": "172.31.254.130",
        "janus": "172.31.254.131",
        "coturn": "172.31.254.132",
        "signalling": "172.31.254.133",
    }
    assert (found["media"], found["web"]) == ("172.31.254.131", "192.0.2.10")
    # The first is the one with the way out, and the one on which ports are published.
    assert [place["name"] for place in found["places"]["coturn"]] == ["hpb-edge", "hpb-core"]
    assert found["places"]["janus"] == [{"name": "hpb-core", "ipv4_address": "172.31.254.131"}]


def test_the_smallest_subnet_has_room_for_all():
    found = _addresses.addresses("bridge", "192.168.7.16/28", "")
    assert found["edge"]["traefik"] == "192.168.7.22"
    assert found["core"]["signalling"] == "192.168.7.29"
    assert found["web"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("profile", "subnet", "words"),
    [
        ("bridged", SUBNET, "hpb_network_profile is 'bridged', expected host (all programs on the host's network) or"),
        ("bridge", "", "hpb_bridge_subnet is '' ("),
        ("bridge", "172.31.254.1/24", "has host bits set), expected a network of private IPv4 addresses"),
        ("bridge", "172.31.254.0/29", "hpb_bridge_subnet is 172.31.254.0/29, expected a network of private IPv4"),
        ("bridge", "fd00::/64", "hpb_bridge_subnet is fd00::/64, expected a network of private IPv4"),
        ("bridge", "192.0.2.0/24", "hpb_bridge_subnet is 192.0.2.0/24, which is not private, expected"),
        ("bridge", "10.0.0.0/7", "which is not private"),
    ],
)
def test_what_cannot_work_is_one_sentence(profile, subnet, words):
    (sentence,) = plugin.addresses(profile, subnet, check=True)
    assert words in sentence
    assert sentence.endswith("for the group hpb.")
    with pytest.raises(AnsibleFilterError) as raised:
        plugin.addresses(profile, subnet)
    assert sentence in str(raised.value)


def test_a_subnet_counts_for_private_networks_only():
    assert plugin.addresses("host", "nonsense", check=True) == []
    assert plugin.addresses("bridge", SUBNET, check=True) == []


# --- what the roles make of it -------------------------------------------------------------------------------------

SECRET = "0" * 64
PLAY = [
    {
        "hosts": "localhost",
        "gather_facts": False,
        "vars_files": [
            str(ROOT / "roles" / role / part / "main.yml") for role in ROLES for part in ("defaults", "vars")
        ],
        "tasks": [
            {
                "ansible.builtin.copy": {
                    "dest": "{{ result }}",
                    "mode": "0600",
                    "content": "{{ {'nat': __janus_settings.nat, 'media': __janus_settings.media, "
                    "'websockets': __janus_websockets.general, 'wsevh': __janus_wsevh.general, "
                    "'coturn': __coturn_options, 'nats': __nats_config, 'signalling': "
                    "__signalling_sections, 'traefik': __traefik_dynamic.http.services, 'ports': __container_ports, "
                    "'networks': container_networks, 'start': __container_start, 'health': "
                    "lookup('ansible.builtin.template', health)} | to_json }}",
                }
            }
        ],
    }
]
GIVEN = {
    "hpb_domain": "talk.example.org",
    "hpb_turn_domain": "turn.example.org",
    "hpb_media_ip": "10.0.0.5",
    "health": str(ROOT / "roles/signalling/templates/health.j2"),
    "hpb_instances": [],
    "hpb_secrets": {
        **dict.fromkeys(("janus_admin", "session_hash_key", "session_block_key", "internal"), SECRET),
        "instances": {},
    },
    "container_name": "coturn",
    "container_restart_on": ["what it was before"],
    "container_ports": ["3478/udp"],
    "container_image": "",
    "container_command": [],
    "container_config": [],
    "container_health": [],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Render what depends on the network with these variables."""
    folder = tmp_path_factory.mktemp("play")
    (folder / "play.yml").write_text(yaml.safe_dump(PLAY), encoding="utf-8")

    def render(**variables):
        result = folder / "result.json"
        given = {**GIVEN, "result": str(result), **variables}
        done = subprocess.run(
            [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", "-c", "local", "play.yml"]
            + ["-e", json.dumps({**given, "ansible_python_interpreter": sys.executable})],
            cwd=folder,
            env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".tree"), "ANSIBLE_NOCOLOR": "1"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(result.read_text(encoding="utf-8"))

    return render


PLAIN_NAT = {"full_trickle": True, "ice_enforce_list": "10.0.0.5", "ignore_mdns": True}


def test_a_host_with_its_own_address_translates_nothing(made):
    """In a LAN, and on a public address: what was rendered before there were profiles."""
    found = made()
    assert found["nat"] == PLAIN_NAT
    turn = found["coturn"]
    assert (turn["listening-ip"], turn["relay-ip"], turn["external-ip"]) == (["10.0.0.5"], ["10.0.0.5"], [])
    assert turn["allowed-peer-ip"] == ["10.0.0.5"]
    assert found["media"] == {"rtp_port_range": "20000-29999"}
    assert found["websockets"]["ws_ip"] == "127.0.0.1"
    assert found["wsevh"]["backend"] == "ws://127.0.0.1:8080/spreed"
    assert (found["nats"]["listen"], found["nats"]["http"]) == ("127.0.0.1:4222", "127.0.0.1:8222")
    server = found["signalling"]
    assert server["http"]["listen"] == "127.0.0.1:8080"
    assert (server["nats"]["url"], server["mcu"]["url"]) == ("nats://127.0.0.1:4222", "ws://127.0.0.1:8188")
    assert (server["app"]["trustedproxies"], server["stats"]["allowed_ips"]) == ("127.0.0.1", "127.0.0.1")
    assert found["traefik"]["signalling"]["loadBalancer"]["servers"] == [{"url": "http://127.0.0.1:8080"}]
    # A container on the host's network is not made anew because there are profiles now.
    assert (found["networks"], found["start"]) == ([], ["what it was before"])


@pytest.mark.parametrize(
    "given",
    [
        {"hpb_media_ip6": "2001:DB8:0::10"},
        {"__hpb_preflight": {"media_ip6": "2001:db8::10", "containers": {}}},
    ],
)
@pytest.mark.parametrize("public", ["", "192.0.2.10"])
def test_ipv6_is_served_at_one_address_beside_ipv4(made, given, public):
    found, plain = made(**given, hpb_public_ip=public), made(hpb_public_ip=public)
    assert found["media"] == {"rtp_port_range": "20000-29999", "ipv6": True}
    assert found["nat"] == {**plain["nat"], "ice_enforce_list": "10.0.0.5,2001:db8::10"}
    both = ["10.0.0.5", "2001:db8::10"]
    denied = [*plain["coturn"]["denied-peer-ip"], "2001:db8::-2001:db8::ffff:ffff:ffff:ffff"]
    ways = {"listening-ip": both, "relay-ip": both, "allowed-peer-ip": both, "denied-peer-ip": denied}
    assert found["coturn"] == {**plain["coturn"], **ways}
    # Nothing else is different: the programs reach each other as before.
    assert {**found, "media": 0, "nat": 0, "coturn": 0} == {**plain, "media": 0, "nat": 0, "coturn": 0}


@pytest.mark.parametrize(
    "given",
    [
        {"hpb_media_ip6": "", "__hpb_preflight": {"media_ip6": "2001:db8::10", "containers": {}}},
        {"__hpb_preflight": {"media_ip6": "", "containers": {}}},
    ],
)
def test_without_an_ipv6_address_nothing_is_rendered_for_it(made, given):
    assert made(**given) == made()


@pytest.mark.parametrize("keep", [False, True])
def test_behind_nat_both_sides_are_named(made, keep):
    found = made(hpb_public_ip="192.0.2.10", janus_keep_private_host=keep)
    kept = {"keep_private_host": True} if keep else {}
    assert found["nat"] == {**PLAIN_NAT, "nat_1_1_mapping": "192.0.2.10", **kept}
    assert found["coturn"]["external-ip"] == ["192.0.2.10/10.0.0.5"]
    assert found["coturn"]["allowed-peer-ip"] == ["10.0.0.5"]


def test_a_public_address_that_is_the_hosts_own_is_no_nat(made):
    found = made(hpb_public_ip="10.0.0.5", janus_keep_private_host=True)
    assert (found["nat"], found["coturn"]["external-ip"]) == (PLAIN_NAT, [])


def test_another_port_of_the_signaling_server_is_everyones(made):
    found = made(hpb_network_profile="bridge", hpb_signaling_port=9080)
    assert found["wsevh"]["backend"] == "ws://172.31.254.133:9080/spreed"
    assert found["signalling"]["http"]["listen"] == "127.0.0.1:9080 172.31.254.133:9080 172.31.254.5:9080"
    assert found["traefik"]["signalling"]["loadBalancer"]["servers"] == [{"url": "http://172.31.254.5:9080"}]
    assert "http://127.0.0.1:9080/api/v1/welcome" in found["health"]


def test_labels_and_networks_each_make_a_container_anew(made):
    labels = {"traefik.enable": "true"}
    assert made(container_labels=labels)["start"] == [["what it was before"], labels]
    start = made(container_labels=labels, hpb_network_profile="bridge")["start"]
    assert start[:2] == [["what it was before"], labels] and len(start[2]) == 2


@pytest.mark.parametrize("public", ["", "192.0.2.10"])
def test_on_private_networks_coturn_reaches_janus_alone(made, public):
    found = made(hpb_network_profile="bridge", hpb_public_ip=public, janus_keep_private_host=True)
    janus, nats, server = "172.31.254.131", "172.31.254.130", "172.31.254.133"
    assert found["nat"] == {**PLAIN_NAT, "ice_enforce_list": janus}
    turn = found["coturn"]
    assert (turn["listening-ip"], turn["relay-ip"]) == (["172.31.254.4"], ["172.31.254.132"])
    assert (turn["allowed-peer-ip"], turn["external-ip"]) == ([janus], [])
    assert "172.16.0.0-172.31.255.255" in turn["denied-peer-ip"]
    assert found["websockets"]["ws_ip"] == janus
    assert found["wsevh"]["backend"] == f"ws://{server}:8080/spreed"
    assert (found["nats"]["listen"], found["nats"]["http"]) == (f"{nats}:4222", f"{nats}:8222")
    settings = found["signalling"]
    assert settings["http"]["listen"] == f"127.0.0.1:8080 {server}:8080 172.31.254.5:8080"
    assert (settings["nats"]["url"], settings["mcu"]["url"]) == (f"nats://{nats}:4222", f"ws://{janus}:8188")
    assert settings["app"]["trustedproxies"] == "172.31.254.6"
    assert settings["stats"]["allowed_ips"] == "127.0.0.1, 172.31.254.129"
    assert found["traefik"]["signalling"]["loadBalancer"]["servers"] == [{"url": "http://172.31.254.5:8080"}]
    assert found["ports"] == ["0.0.0.0:3478:3478/udp"]
    assert [place["name"] for place in found["networks"]] == ["hpb-edge", "hpb-core"]
    assert found["start"][0] == ["what it was before"] and len(found["start"][1]) == 2
