# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates by ACME and their renewal during calls, TURN over TLS and on port 443, and taking all of it out."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import ssl
import time

import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _evidence
from conftest import (
    ADDRESS,
    CACHE,
    OURS,
    TALK,
    TURN,
    TURN443,
    certificate,
    firewall,
    play,
    read_secrets,
    started,
    tls,
)
from running_call import RunningCall

# A STUN binding request (RFC 8489), with a transaction of noughts.
BINDING = b"\x00\x01\x00\x00\x21\x12\xa4\x42" + bytes(12)
PLACES = [(443, TALK), (5349, TURN), (443, TURN443)]


def call(hpb, monkeypatch, host: str, port: int, transport: str = "tls") -> RunningCall:
    """A call in the name of the instance nc that goes through TURN only, by this port."""
    # TURN over TLS knows authorities only from the environment of its process.
    monkeypatch.setenv("SSL_CERT_FILE", str(CACHE / "acme-root.pem"))
    secrets = read_secrets(hpb)
    return RunningCall(
        {
            "url": f"https://{TALK}",
            "internal_secret": secrets["internal"],
            "ca_pem": [(CACHE / "acme-root.pem").read_text()],
            "resolve": dict.fromkeys([TALK, TURN, TURN443], ADDRESS),
            "backend": "https://nc.example.org",
            "relay": {"host": host, "port": port, "transport": transport, "secret": secrets["instances"]["nc"]["turn"]},
        }
    )


def turn_entries(web) -> list[tuple[str, str, str]]:
    """Return what the Nextcloud nc has registered for TURN."""
    entries = json.loads(web.check_output("php /var/www/nc/occ talk:turn:list --output=json"))
    return [(entry["schemes"], entry["server"], entry["protocols"]) for entry in entries]


async def open_ports() -> list[int]:
    gate = asyncio.Semaphore(400)

    async def is_open(port: int) -> bool:
        async with gate:
            try:
                _reader, writer = await asyncio.wait_for(asyncio.open_connection(ADDRESS, port), 3)
            except (OSError, asyncio.TimeoutError):
                return False
            writer.close()
            return True

    answers = await asyncio.gather(*(is_open(port) for port in range(1, 65536)))
    return [port for port, answer in enumerate(answers, start=1) if answer]


def test_tcp_ports_from_outside():
    assert asyncio.run(open_ports()) == [80, 443, 3478, 5349]


@pytest.mark.parametrize(("port", "name"), PLACES)
def test_each_name_has_a_certificate_of_the_acme_server(port, name):
    names = [value for kind, value in certificate(port, name)["subjectAltName"] if kind == "DNS"]
    assert names == [name]


def test_the_key_is_coturns_alone(hpb):
    """Readable for coturn's user, and for nobody else but root."""
    found = hpb.check_output(
        "stat -c '%a %u %g' /opt/nextcloud-talk-hpb/coturn/tls /opt/nextcloud-talk-hpb/coturn/tls/turn.pem"
    )
    assert found.splitlines() == ["750 0 65534", "640 0 65534"]


def test_talk_has_each_way_once(web):
    assert turn_entries(web) == [
        ("turn", f"{TURN}:3478", "udp,tcp"),
        ("turns", f"{TURN}:5349", "tcp"),
        ("turns", f"{TURN443}:443", "tcp"),
    ]


def test_the_page_for_others_has_them_too():
    text = (CACHE / "handover/client.md").read_text()
    assert f"occ talk:turn:add turns {TURN}:5349 tcp" in text
    assert f"| {TURN443}:443 | 443 tcp |" in text


def test_other_names_on_443_are_served_as_before():
    with tls(443, TALK) as stream:
        connection = http.client.HTTPConnection(TALK)
        connection.sock = stream
        connection.request("GET", "/api/v1/welcome")
        assert connection.getresponse().status == 200
    with pytest.raises(ssl.SSLError), tls(443, "other.example.org"):
        pass


@pytest.mark.parametrize(("port", "name"), [(5349, TURN), (443, TURN443)])
def test_turn_knows_the_clients_own_address(port, name):
    """STUN answers with the address that coturn sees; behind a proxy that keeps none it would be the proxy's."""
    with tls(port, name) as stream:
        ours = stream.getsockname()[0]
        stream.sendall(BINDING)
        assert (ours, _evidence.mapped_address(stream.recv(1024))) == (OURS, OURS)


def test_only_traefik_reaches_the_port_behind_443(hpb):
    listening = hpb.check_output("ss -Hltun sport = :3480").splitlines()
    assert {line.split()[4] for line in listening} == {"127.0.0.1:3480"}


def test_a_call_works_where_only_443_is_open(hpb, monkeypatch):
    rules = [
        f"INPUT -s {OURS} -j DROP",
        f"OUTPUT -d {OURS} -j DROP",
        f"INPUT -s {OURS} -p tcp --dport 443 -j ACCEPT",
        f"OUTPUT -d {OURS} -p tcp --sport 443 -j ACCEPT",
    ]
    with firewall(hpb, *rules):
        for port in (80, 3478, 5349):
            with pytest.raises(TimeoutError):
                socket.create_connection((ADDRESS, port), 2)
        with pytest.raises(AssertionError, match="did not come about"):
            call(hpb, monkeypatch, TURN, 5349).__enter__()
        with call(hpb, monkeypatch, TURN443, 443) as running:
            time.sleep(10)
    print(running.figures)
    assert running.figures["pair"]["local"]["type"] == "relay"
    assert running.figures["pair"]["local"]["port"] >= 64536
    for kind in ("audio", "video"):
        assert running.figures[kind]["frames"] > 50
        assert running.figures[kind]["longest_pause"] <= 2
        assert running.figures[kind]["lost"] == 0


def test_a_renewal_reaches_coturn_while_calls_go_on(hpb, monkeypatch):
    """Traefik renews by itself; no container is restarted, and nobody's relayed call has a gap."""
    before, containers = certificate(5349, TURN)["serialNumber"], started(hpb)
    on_5349, on_443 = call(hpb, monkeypatch, TURN, 5349), call(hpb, monkeypatch, TURN443, 443)
    begin = time.monotonic()
    with on_5349, on_443:
        while certificate(5349, TURN)["serialNumber"] == before:
            assert time.monotonic() - begin < 240, "Traefik has not renewed"
            time.sleep(1)
        # Traefik's own connections of more than a minute have been seen by then, too.
        time.sleep(max(5.0, 75 - (time.monotonic() - begin)))
    print(f"renewed within {time.monotonic() - begin:.0f} s", on_5349.figures, on_443.figures)
    for figures in (on_5349.figures, on_443.figures):
        assert figures["pair"]["local"]["type"] == "relay"
        # 50 packets of sound each second. A machine that is busy delays this process by a second, a relay that is gone
        # for good.
        assert figures["audio"]["received"] > 49 * figures["seconds"]
        for kind in ("audio", "video"):
            assert figures[kind]["longest_pause"] <= 2
            assert figures[kind]["lost"] == 0
    assert started(hpb) == containers
    log = hpb.check_output("journalctl --no-pager -u nextcloud-talk-hpb-turn-certificate")
    assert '"signalled": true' in log
    assert "PRIVATE KEY" not in log
    # And a new client sees the renewed one.
    with call(hpb, monkeypatch, TURN, 5349):
        time.sleep(1)


def test_nothing_is_left_to_do_afterwards(hpb):
    before = started(hpb)
    done = play("-e", "hpb_verify=false")
    assert done.returncode == 0, done.stdout[-4000:]
    assert started(hpb) == before


def test_names_are_proven_by_dns_where_port_80_is_closed(hpb, tmp_path):
    """With the key of a name server from a file, on which nobody can lay eyes afterwards."""
    key = (CACHE / "tsig.key").read_text()
    variables = {
        "traefik_acme_dns_provider": "rfc2136",
        "traefik_acme_dns_credentials": {"RFC2136_TSIG_SECRET": key},
        "traefik_acme_dns_settings": {
            "RFC2136_NAMESERVER": "test.example.org:53",
            "RFC2136_TSIG_KEY": "acme.",
            "RFC2136_TSIG_ALGORITHM": "hmac-sha256.",
            "RFC2136_POLLING_INTERVAL": 1,
        },
        "traefik_acme_dns_resolvers": ["test.example.org:53"],
    }
    (tmp_path / "dns.json").write_text(json.dumps(variables))
    # As on a fresh host: otherwise Traefik asks for nothing.
    hpb.check_output("docker stop traefik")
    hpb.check_output("rm -f /opt/nextcloud-talk-hpb/traefik/acme/acme.json")
    before = certificate(5349, TURN)["serialNumber"]
    with firewall(hpb, "INPUT -p tcp --dport 80 -j DROP"):
        done = play("-e", f"@{tmp_path}/dns.json", "-vvv", "--diff", playbook="playbooks/deploy.yml")
        assert done.returncode == 0, done.stdout[-4000:]
        serials = {certificate(port, name)["serialNumber"] for port, name in PLACES}
        assert len(serials) == 3
        assert before not in serials
    assert key not in done.stdout + done.stderr
    assert key not in hpb.check_output("docker inspect traefik")
    assert (
        hpb.check_output("stat -c '%a %u %g' /opt/nextcloud-talk-hpb/traefik/config/RFC2136_TSIG_SECRET") == "600 0 0"
    )


def test_all_of_it_goes_when_it_is_switched_off(hpb, web):
    done = play("-e", '{"hpb_turn_tls_port": 0, "hpb_turn_443_domain": ""}')
    assert done.returncode == 0, done.stdout[-4000:]
    assert turn_entries(web) == [("turn", f"{TURN}:3478", "udp,tcp")]
    assert hpb.run("docker inspect coturn443").rc != 0
    assert hpb.run("ls -d /opt/nextcloud-talk-hpb/coturn443 /opt/nextcloud-talk-hpb/coturn/tls").stdout == ""
    assert "turn-certificate" not in hpb.check_output("systemctl list-unit-files --no-legend") + hpb.check_output(
        "ls /etc/systemd/system"
    )
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((ADDRESS, 5349), 5)
    again = play("-e", '{"hpb_turn_tls_port": 0, "hpb_turn_443_domain": ""}', "-e", "hpb_verify=false")
    assert again.returncode == 0, again.stdout[-4000:]
    assert "changed=0" in again.stdout
