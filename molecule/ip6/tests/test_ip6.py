# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""IPv6 beside IPv4, a Nextcloud and clients that have nothing else, and a host whose kernel has none of it."""

from __future__ import annotations

import asyncio
import json

import pytest
import testinfra
import turn_client
from conftest import SERVICES, changed
from forbidden import FORBIDDEN

# Addresses that the host has besides: a second global one, a private one, and one that is not to stay.
SECOND, PRIVATE, FLEETING = "2001:db8:87:31::77", "fd12:3456:789a::10", "2001:db8:87:31::78"
RELAYED = ("turn-udp", "turn-tcp", "turn-udp-ipv6", "turn-tcp-ipv6")


@pytest.fixture(scope="module")
def dual(deploy):
    backend = deploy("ip6")
    for address, *more in ((SECOND,), (PRIVATE,), (FLEETING, "valid_lft", "9000", "preferred_lft", "9000")):
        backend.hpb.check_output(" ".join(["ip -6 address replace", f"{address}/64", "dev eth0 nodad", *more]))
    return backend


@pytest.fixture(scope="module")
def four(dual):
    return dual.bed["hosts"]["hpb"]["address"]


@pytest.fixture(scope="module")
def six(dual):
    return dual.bed["ipv6"]["hosts"]["hpb"]


@pytest.fixture(scope="module")
def without(deploy):
    return deploy("noip6")


def sound(rows, *wanted):
    """Every wanted step is ok for both instances, and no step has failed."""
    assert {place: row["seen"] for place, row in rows.items() if row["status"] == "failed"} == {}
    places = [(id_, step) for id_ in ("nc", "test_nc") for step in wanted]
    assert {place: rows[place]["status"] for place in places} == dict.fromkeys(places, "ok")


def ends(figures):
    """Where both ends of a call have sent their media from and to: {(type, address of ours), (type, of Janus)}."""
    sides = [figures[pair][side] for pair in ("pair", "publisher_pair") for side in ("local", "remote")]
    return {(side["type"], side["address"]) for side in sides}


class TestBothFamilies:
    """A host with a static address of each family."""

    def test_second_runs_change_nothing(self, dual):
        """Although the host has further addresses by now, of which none is for media."""
        for arguments in ([], ["--check", "--diff"]):
            again = dual.play(*arguments)
            assert again.returncode == 0, again.stdout[-3000:]
            assert set(changed(again.stdout).values()) == {0}, arguments

    def test_the_address_was_found(self, dual, four, six):
        janus = dual.text("janus/config/janus.jcfg")
        assert f'ice_enforce_list = "{four},{six}"' in janus and "ipv6 = true" in janus
        lines = dual.text("coturn/config/turnserver.conf").splitlines()
        for option in ("listening-ip", "relay-ip", "allowed-peer-ip"):
            assert [line for line in lines if line.startswith(f"{option}=")] == [f"{option}={four}", f"{option}={six}"]

    def test_janus_names_one_address_of_each_family(self, dual, four, six):
        with dual.call() as call:
            pass
        assert call.figures["told"] == sorted([four, six])

    def test_where_the_programs_listen(self, dual, four, six):
        """All that is for the programs themselves stays on the loopback, and that of IPv4."""
        listening = dual.listening()
        assert {program for address, program in listening if address == six} == {"turnserver"}
        open_to_all = {program for address, program in listening if address in ("*", "::", "0.0.0.0")}
        assert open_to_all == {"traefik"}
        # 127.0.0.11 is the name server of the test host itself.
        others = {address for address, _program in listening} - {"*", "::", "0.0.0.0", four, six, "127.0.0.11"}
        assert others == {"127.0.0.1"}

    def test_calls_over_both_families(self, dual, four, six):
        rows = dual.probe("both")
        sound(rows, "direct", "direct-ipv6", *RELAYED, "screen")
        for step, janus in (("direct", four), ("direct-ipv6", six)):
            assert {end for end in ends(rows["nc", step]["figures"]) if end[1] in (four, six)} == {("host", janus)}
        ways = {step: rows["nc", step]["figures"]["turn_family"] for step in RELAYED}
        assert ways == {step: "ipv6" if step.endswith("ipv6") else "ipv4" for step in RELAYED}
        assert "(IPv4)" in rows["nc", "direct"]["seen"] and "(IPv6)" in rows["nc", "direct-ipv6"]["seen"]
        assert "(IPv6 to TURN, IPv4 to Janus)" in rows["nc", "turn-udp-ipv6"]["seen"]

    def test_calls_of_a_client_without_ipv4(self, dual, four, six):
        rows = dual.probe("six")
        sound(rows, "direct", "turn-udp", "turn-tcp", "screen")
        own = dual.bed["ipv6"]["clients"]["six"]["address"]
        assert ends(rows["nc", "direct"]["figures"]) >= {("host", own), ("host", six)}
        for step in ("turn-udp", "turn-tcp"):
            figures = rows["nc", step]["figures"]
            assert figures["turn_family"] == "ipv6"
            assert ends(figures) == {("relay", four), ("host", four)}

    @pytest.mark.parametrize(("server", "family"), [("six", "ipv6"), ("four", "ipv6"), ("six", "ipv4")])
    def test_calls_over_a_relay_of_either_family(self, dual, request, four, six, server, family):
        with dual.call({"host": request.getfixturevalue(server), "family": family}) as call:
            pass
        assert call.figures["missing"] == []
        address = six if family == "ipv6" else four
        assert ends(call.figures) == {("relay", address), ("host", address)}

    @pytest.mark.parametrize("family", ["ipv4", "ipv6"])
    def test_relaying_is_refused_but_to_janus(self, dual, four, six, family):
        """While a call over a relay of that family goes on. 443 says that a peer is of the other family."""
        hosts = dual.bed["ipv6"]["hosts"]
        others = [SECOND, PRIVATE, FLEETING, hosts["web"], hosts["test"], dual.bed["hosts"]["web"]["address"]]
        peers = [*FORBIDDEN, *others, dual.bed["registry"].split(":")[0]]
        with dual.call({"host": six, "family": family}) as call:
            answers = dual.ask(six, peers, family)
            assert {peer: code for peer, code in answers.items() if code not in (403, 443)} == {}
            assert {peer for peer, code in answers.items() if code == 443} <= {
                peer for peer in peers if (":" in peer) != (family == "ipv6")
            }
            assert sum(code == 403 for code in answers.values()) >= 15
            own = six if family == "ipv6" else four
            assert dual.ask(six, [own], family) == {own: 200}
        assert call.figures["missing"] == []

    def test_no_relay_by_tcp_is_given(self, dual, six):
        for udp in (True, False):
            refused = asyncio.run(turn_client.allocate((six, 3478), dual.turn_secret, turn_client.TCP, udp))
            assert refused in (400, 403, 442)

    def test_an_instance_without_ipv4(self, dual, six):
        """It was registered and verified by the run; each of the two has called the other over IPv6."""
        test = dual.bed["hosts"]["test"]["container"]
        nextcloud = testinfra.get_host(f"docker://{test}")
        assert nextcloud.check_output("ip -4 -brief address show scope global") == ""
        assert nextcloud.run("python3 -c \"import socket; socket.create_connection(('%s', 443), 3)\"", six).rc == 0
        rows = dual.probe("both")
        assert rows["test_nc", "hello"]["status"] == "ok"
        # Only the signaling server has asked for this.
        log = nextcloud.check_output("cat /var/log/nginx/access.log")
        assert f"{six} - - " in log and "/ocs/v2.php/apps/spreed/api/" in log
        report = json.loads((dual.folder / "report.json").read_text(encoding="utf-8"))
        (instance,) = (item for item in report["instances"] if item["id"] == "test_nc")
        assert instance["check"]["ok"] is True

    @pytest.mark.parametrize(
        ("name", "address", "words"),
        [
            ("talk.example.org", "web", "The name talk.example.org leads to {address} over IPv6, this host has "),
            (
                "turn.example.org",
                SECOND,
                "The name turn.example.org leads to {address} over IPv6, expected {six} (hpb_me",
            ),
        ],
    )
    def test_an_aaaa_record_that_leads_elsewhere_stops_the_run(self, dual, four, six, name, address, words):
        address = dual.bed["ipv6"]["hosts"].get(address, address)
        with dual.led_to(name, [four, address]):
            refused = dual.play()
        assert refused.returncode != 0
        assert words.format(address=address, six=six) in " ".join(refused.stdout.split())
        assert set(changed(refused.stdout).values()) == {0}


class TestNoIpv6:
    """A host whose kernel knows no IPv6."""

    def test_the_kernel_refuses_every_socket_of_ipv6(self, without):
        """On the host and in a container; else nothing of what follows would mean anything."""
        code = "import socket; socket.socket(socket.AF_INET6)"
        refused = without.hpb.run(f"python3 -c '{code}'")
        assert "Address family not supported by protocol" in refused.stderr
        assert "not supported" in without.hpb.run("docker exec janus bash -c 'exec 3<>/dev/tcp/::1/8188'").stderr

    def test_second_runs_change_nothing(self, without):
        for arguments in ([], ["--check", "--diff"]):
            again = without.play(*arguments)
            assert again.returncode == 0, again.stdout[-3000:]
            assert set(changed(again.stdout).values()) == {0}, arguments

    def test_nothing_was_restarted_or_failed_to_bind(self, without):
        for name in SERVICES:
            state = json.loads(without.hpb.check_output(f"docker inspect {name}"))[0]
            assert (state["RestartCount"], state["State"]["Health"]["Status"]) == (0, "healthy"), name
            log = without.hpb.run(f"docker logs {name} 2>&1").stdout
            refused = [line for line in log.splitlines() if "family not supported" in line or "annot bind" in line]
            assert refused == [], name

    def test_nothing_is_said_of_ipv6(self, without):
        own = without.bed["hosts"]["hpb"]["address"]
        assert "ipv6" not in without.text("janus/config/janus.jcfg")
        lines = without.text("coturn/config/turnserver.conf").splitlines()
        for option in ("listening-ip", "relay-ip", "allowed-peer-ip"):
            assert [line for line in lines if line.startswith(f"{option}=")] == [f"{option}={own}"]

    def test_calls(self, without):
        own = without.bed["hosts"]["hpb"]["address"]
        for relay in (None, {"host": own}):
            with without.call(relay) as call:
                pass
            assert call.figures["missing"] == [] and call.figures["told"] == [own]

    def test_an_aaaa_record_is_named(self, without):
        own = without.bed["hosts"]["hpb"]["address"]
        with without.led_to("talk.example.org", [own, "2001:db8::10"]):
            refused = without.play()
        words = "The name talk.example.org leads to 2001:db8::10 over IPv6, and this host has no IPv6: remove the AAAA"
        assert refused.returncode != 0
        assert words in " ".join(refused.stdout.split())
