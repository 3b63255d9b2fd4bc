# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The same backend behind 1:1 NAT, on private networks of Docker's, in a LAN only, and on a public address.

The classes are steps of one way: each deploys what it is about onto what the one before has left.
"""

from __future__ import annotations

import asyncio
import json

import pytest
import turn_client
from conftest import SERVICES, changed, probe, steps
from forbidden import FORBIDDEN

CAPABILITIES = {"coturn": ["NET_BIND_SERVICE"], "traefik": ["NET_BIND_SERVICE"]}
CORE, EDGE = "172.31.254.128/25", "172.31.254.0/25"
# Who is where in each of them; 1 is the host.
NATS, JANUS, COTURN, SIGNALLING, TRAEFIK = range(2, 7)


def core(place: int) -> str:
    return f"172.31.254.{128 + place}"


def edge(place: int) -> str:
    return f"172.31.254.{place}"


def sound(rows, *wanted: str) -> None:
    """Every wanted step is ok, and no step has failed."""
    assert {name: row["seen"] for name, row in rows.items() if row["status"] == "failed"} == {}
    assert {name: rows[name]["status"] for name in wanted} == dict.fromkeys(wanted, "ok")


def pairs(row) -> list[str]:
    """What the two ends of a call have selected: the type of the remote candidate and its address."""
    found = [row["figures"][name]["remote"] for name in ("pair", "publisher_pair")]
    return sorted({f"{remote['type']} {remote['address']}" for remote in found})


def refuse(ask, call, further=()) -> None:
    """All forbidden addresses, the further ones too, are refused while the call goes on."""
    peers = [*FORBIDDEN, *further]
    answers = ask(peers)
    assert {peer for peer, code in answers.items() if code not in (403, 443)} == set()
    # What is refused for another reason than being forbidden is so because the relay has IPv4 only.
    assert {peer for peer, code in answers.items() if code == 443 and ":" not in peer} == set()
    assert len(peers) >= 40


def tcp_is_refused(server: str, secret: str) -> None:
    """No relay by TCP is given, whichever way one asks, while one by UDP is (RFC 6062)."""
    for udp in (True, False):
        assert asyncio.run(turn_client.allocate((server, 3478), secret, turn_client.TCP, udp)) in (400, 403, 442)
        assert asyncio.run(turn_client.allocate((server, 3478), secret, turn_client.UDP, udp)) == turn_client.GRANTED


@pytest.fixture(scope="module")
def behind_nat(site):
    return site()


@pytest.fixture(scope="module")
def bridge(site):
    return site(hpb_network_profile="bridge")


@pytest.fixture(scope="module")
def containers(bridge, hpb):
    found = json.loads(hpb.check_output("docker inspect " + " ".join(SERVICES)))
    return {container["Name"].lstrip("/"): container for container in found}


@pytest.fixture(scope="module")
def lan(site):
    return site(hpb_public_ip="", verify_from=["inside"])


@pytest.fixture(scope="module")
def public(site, internet, bed):
    internet.attach(True)
    try:
        address = internet.address("direct")
        # Everywhere the names lead to this address, the only one at which coturn and Janus are then.
        names = {**bed["resolve"], "talk.example.org": address, "turn.example.org": address}
        yield site(hpb_public_ip="", hpb_media_ip=address, outside_address=address, hpb_resolve=names)
    finally:
        internet.attach(False)


class TestBehindNat:
    """1:1 NAT without hairpin before the host. Its names lead to the router from outside, to itself from inside."""

    def test_the_router_has_no_hairpin(self, behind_nat, internet, bed):
        """From inside the public address leads nowhere, so nothing of what follows can come by it."""
        code = "import socket, sys; socket.create_connection((sys.argv[1], 443), 3)"
        for client, reached in (("outside", True), ("inside", False)):
            container = internet.client.containers.get(internet.container(client))
            status, _output = container.exec_run([bed["internet"]["python"], "-c", code, internet.public])
            assert (status == 0) is reached, client

    def test_a_second_run_changes_nothing(self, behind_nat):
        again = behind_nat.play()
        assert again.returncode == 0, again.stdout[-3000:]
        assert set(changed(again.stdout).values()) == {0}

    def test_calls_from_outside(self, behind_nat, bed, secrets, hpb, internet):
        names = {"talk.example.org": internet.public, "turn.example.org": internet.public}
        rows = steps(probe(bed, secrets, hpb, "outside", resolve=names))
        sound(rows, "direct", "turn-udp", "turn-tcp", "screen")
        assert pairs(rows["direct"]) == [f"host {internet.public}"]

    def test_calls_from_inside(self, behind_nat, bed, secrets, hpb, private):
        """With the name server of the LAN alone, which leads to the private address."""
        rows = steps(probe(bed, secrets, hpb, "inside"))
        sound(rows, "direct", "turn-udp", "turn-tcp", "screen")
        assert pairs(rows["direct"]) == [f"host {private}"]

    def test_janus_names_both_addresses_and_no_other(self, behind_nat, told, hpb, internet, private):
        assert told(False) == sorted([internet.public, private])
        settings = hpb.check_output("cat /opt/nextcloud-talk-hpb/janus/config/janus.jcfg")
        assert f'nat_1_1_mapping = "{internet.public}"' in settings
        assert "keep_private_host = true" in settings
        assert f'ice_enforce_list = "{private}"' in settings

    def test_relaying_is_refused_but_to_janus(self, behind_nat, ask, call, bed, internet, private):
        refuse(ask, call, [bed["hosts"]["web"]["address"], bed["registry"].split(":")[0], internet.address("outside")])
        # Each in a relay of its own: to coturn the two are one peer, for which there is one channel.
        assert [ask([peer])[peer] for peer in (private, internet.public)] == [200, 200]

    def test_nothing_else_listens_where_janus_is_reached(self, behind_nat, hpb, private, secrets, call):
        """coturn relays to every port of that address, so no other program may have one there."""
        holders = set()
        for line in hpb.check_output("ss -Hlunp").splitlines():
            address = line.split()[3].rpartition(":")[0].strip("[]").partition("%")[0]
            if address in (private, "0.0.0.0", "*", "::"):
                holders.add(line.split('users:(("')[1].partition('"')[0] if "users:" in line else line)
        assert holders == {"turnserver", "janus"}
        tcp_is_refused(private, secrets["instances"]["nc"]["turn"])


class TestBridge:
    """Private networks of Docker's; the router and its NAT are still before the host."""

    def test_a_second_run_and_a_dry_run_change_nothing(self, bridge):
        for arguments in ([], ["--check", "--diff"]):
            again = bridge.play(*arguments)
            assert again.returncode == 0, again.stdout[-3000:]
            assert set(changed(again.stdout).values()) == {0}, arguments

    def test_the_verification_says_that_direct_calls_are_not_expected(self, bridge):
        words = "skipped  not to be expected: all media of this backend goes through TURN"
        # From the controller, from outside and from inside.
        assert bridge.first.stdout.count(words) == 3

    def test_calls_from_outside(self, bridge, bed, secrets, hpb, internet):
        names = {"talk.example.org": internet.public, "turn.example.org": internet.public}
        rows = steps(probe(bed, secrets, hpb, "outside", resolve=names, direct=False))
        sound(rows, "turn-udp", "turn-tcp", "screen")
        assert rows["direct"]["status"] == "skipped"
        for name in ("turn-udp", "turn-tcp", "screen"):
            assert rows[name]["figures"]["pair"]["local"]["type"] == "relay"
            assert pairs(rows[name]) == [f"host {core(JANUS)}"]

    def test_calls_from_inside(self, bridge, bed, secrets, hpb):
        rows = steps(probe(bed, secrets, hpb, "inside", direct=False))
        sound(rows, "turn-udp", "turn-tcp", "screen")

    def test_no_call_comes_about_without_turn(self, bridge, bed, secrets, hpb):
        """Otherwise the calls above would prove nothing."""
        rows = steps(probe(bed, secrets, hpb, "inside", turn=None))
        assert rows["direct"]["status"] == "failed"
        assert core(JANUS) in rows["direct"]["cause"]

    def test_the_signaling_server_sees_the_clients_addresses(self, bridge, hpb, internet):
        log = hpb.check_output("docker logs signalling 2>&1")
        assert f"from {internet.address('outside')} " in log
        assert f"from {edge(1)} " not in log

    def test_janus_names_its_private_address_alone(self, bridge, told):
        assert told(True) == [core(JANUS)]

    def test_only_what_is_needed_is_published(self, containers):
        published = {
            f"{held['HostIp']}:{held['HostPort']} {port}"
            for container in containers.values()
            for port, bindings in (container["HostConfig"]["PortBindings"] or {}).items()
            for held in bindings
        }
        wanted = ("80/tcp", "443/tcp", "3478/tcp", "3478/udp")
        assert published == {f"0.0.0.0:{port.split('/')[0]} {port}" for port in wanted}

    def test_who_is_on_which_network(self, containers, hpb):
        places = {
            name: {network: one["IPAddress"] for network, one in container["NetworkSettings"]["Networks"].items()}
            for name, container in containers.items()
        }
        assert places == {
            "nats": {"hpb-core": core(NATS)},
            "janus": {"hpb-core": core(JANUS)},
            "coturn": {"hpb-core": core(COTURN), "hpb-edge": edge(COTURN)},
            "signalling": {"hpb-core": core(SIGNALLING), "hpb-edge": edge(SIGNALLING)},
            "traefik": {"hpb-edge": edge(TRAEFIK)},
        }
        networks = json.loads(hpb.check_output("docker network inspect hpb-core hpb-edge"))
        assert [network["Internal"] for network in networks] == [True, False]
        assert [network["IPAM"]["Config"][0]["Subnet"] for network in networks] == [CORE, EDGE]

    @pytest.mark.parametrize("name", SERVICES)
    def test_hardening(self, containers, hpb, name):
        host = containers[name]["HostConfig"]
        assert host["ReadonlyRootfs"] is True
        assert host["CapDrop"] == ["ALL"]
        assert [one.removeprefix("CAP_") for one in host["CapAdd"] or []] == CAPABILITIES.get(name, [])
        assert host["SecurityOpt"] == ["no-new-privileges:true"]
        assert host["RestartPolicy"]["Name"] == "always"
        status = hpb.check_output(f"cat /proc/{containers[name]['State']['Pid']}/status")
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        assert fields["NoNewPrivs"].strip() == "1"
        assert int(fields["CapBnd"], 16) == (1 << 10 if name in CAPABILITIES else 0)

    def test_relaying_is_refused_but_to_janus(self, bridge, ask, call, bed, internet, private):
        ours = [core(place) for place in (1, NATS, COTURN, SIGNALLING)]
        ours += [edge(place) for place in (1, COTURN, SIGNALLING, TRAEFIK)]
        refuse(ask, call, [*ours, private, bed["hosts"]["web"]["address"], internet.address("outside")])
        assert ask([core(JANUS)]) == {core(JANUS): 200}

    def test_nothing_else_listens_where_janus_is_reached(self, bridge, hpb, private, secrets, call):
        """The address is the container's own, in which Janus is alone."""
        pid = hpb.check_output("docker inspect --format '{{.State.Pid}}' janus")
        # Docker's own resolver is on the loopback of every container.
        lines = [
            line
            for line in hpb.check_output(f"nsenter --target {pid} --net ss -Hlunp").splitlines()
            if "127." not in line
        ]
        assert lines
        assert {line.split('users:(("')[1].partition('"')[0] for line in lines} == {"janus"}
        tcp_is_refused(private, secrets["instances"]["nc"]["turn"])

    def test_neither_nats_nor_janus_have_a_way_out(self, bridge, hpb):
        for name in ("nats", "janus"):
            pid = hpb.check_output("docker inspect --format '{{.State.Pid}}' %s", name)
            assert hpb.check_output(f"nsenter --target {pid} --net ip route show default") == ""


class TestLan:
    """Back on the host's network, in a LAN without internet."""

    def test_nothing_is_left_of_the_private_networks(self, lan, hpb):
        assert "hpb-" not in hpb.check_output("docker network ls --format '{{.Name}}'")
        assert hpb.run("pgrep docker-proxy").rc == 1

    def test_calls_from_inside(self, lan, bed, secrets, hpb, private):
        rows = steps(probe(bed, secrets, hpb, "inside"))
        sound(rows, "direct", "turn-udp", "turn-tcp", "screen")
        assert pairs(rows["direct"]) == [f"host {private}"]

    def test_janus_names_the_address_of_the_lan_alone(self, lan, told, hpb, private):
        assert told(False) == [private]
        assert "nat_1_1" not in hpb.check_output("cat /opt/nextcloud-talk-hpb/janus/config/janus.jcfg")
        assert "external-ip" not in hpb.check_output("cat /opt/nextcloud-talk-hpb/coturn/config/turnserver.conf")

    def test_relaying_is_refused_but_to_janus(self, lan, ask, call, bed, private):
        refuse(ask, call, [bed["hosts"]["web"]["address"]])
        assert ask([private]) == {private: 200}


class TestPublicAddress:
    """A public address on a network interface of the host, beside a private one and Docker's."""

    def test_calls_from_outside(self, public, bed, secrets, hpb, internet):
        address = internet.address("direct")
        names = {"talk.example.org": address, "turn.example.org": address}
        rows = steps(probe(bed, secrets, hpb, "outside", resolve=names))
        sound(rows, "direct", "turn-udp", "turn-tcp", "screen")
        assert pairs(rows["direct"]) == [f"host {address}"]

    def test_janus_names_the_public_address_alone(self, public, told, internet):
        """Neither the private one beside it nor Docker's."""
        assert told(False) == [internet.address("direct")]

    def test_relaying_is_refused_but_to_janus(self, public, internet, secrets, bed, private):
        address, secret = internet.address("direct"), secrets["instances"]["nc"]["turn"]
        peers = [*FORBIDDEN, private, bed["hosts"]["web"]["address"], internet.address("outside")]
        answers = asyncio.run(turn_client.ask((address, 3478), secret, peers))
        assert {peer for peer, code in answers.items() if code not in (403, 443)} == set()
        assert asyncio.run(turn_client.ask((address, 3478), secret, [address])) == {address: 200}
        tcp_is_refused(address, secret)
