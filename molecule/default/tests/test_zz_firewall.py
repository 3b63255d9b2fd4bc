# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real ufw, firewalld and nftables, which refuse by default, on the host of the backend, seen from outside."""

from __future__ import annotations

import json
import shlex
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import ADDRESS, play, recap, started
from test_zz_proxies import calls_work

pytestmark = pytest.mark.long

# The machine on which this runs, as the test hosts see it.
CLIENT = ADDRESS.rpartition(".")[0] + ".1"
UNIT = "nextcloud-talk-hpb-firewall"

# Answers on the ports it is given, on all addresses: what is not answered is stopped on the way.
ECHO = """
import select, socket, sys
tcp, udp = (set(map(int, ports.split(","))) for ports in sys.argv[1:3])
listening = []
for kind, ports in ((socket.SOCK_STREAM, tcp), (socket.SOCK_DGRAM, udp)):
    for port in ports:
        one = socket.socket(socket.AF_INET, kind)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(("", port))
        if kind == socket.SOCK_STREAM:
            one.listen()
        listening.append(one)
while True:
    for one in select.select(listening, [], [])[0]:
        if one.type == socket.SOCK_STREAM:
            one.accept()[0].close()
        else:
            one.sendto(*one.recvfrom(100))
"""
# Around what is to be open, and within it.
TCP_ECHO = [81, 442, 444, 3477, 3479, 5349, 9999]
UDP_ECHO = [443, 3477, 3479, 19999, 20000, 25000, 29999, 30000, 60999, 61000, 63000, 65535]
# Those on which the backend itself listens, for others or for itself.
TCP_OURS = [80, 443, 3478, 8080, 8083, 4222, 8222, 8188]
OPEN = {"tcp": {443, 3478}, "udp": {3478, 20000, 25000, 29999, 61000, 63000, 65535}}
SSH = 22

STUN = bytes.fromhex("000100002112a442") + b"hpbhpbhpbhpb"


def written(hpb, path: str, content: str) -> None:
    """Write a file on the host."""
    hpb.check_output('mkdir -p "$(dirname %s)" && printf %%s %s > %s', path, content, path)


def tcp_open(port: int) -> bool:
    try:
        socket.create_connection((ADDRESS, port), timeout=1.5).close()
    except OSError:
        return False
    return True


def udp_open(ports: list[int]) -> set[int]:
    """Return those of the ports that answer."""

    def answers(port: int) -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.connect((ADDRESS, port))
            one.settimeout(0.7)
            for _ in range(3):
                try:
                    one.send(STUN)
                    if one.recv(200):
                        return True
                except OSError:
                    continue
        return False

    with ThreadPoolExecutor(len(ports)) as pool:
        return {port for port, answered in zip(ports, pool.map(answers, ports)) if answered}


def seen() -> dict[str, set[int]]:
    """Return the ports that answer from outside."""
    asked = [SSH, *TCP_ECHO, *TCP_OURS]
    with ThreadPoolExecutor(len(asked)) as pool:
        tcp = {port for port, answers in zip(asked, pool.map(tcp_open, asked)) if answers}
    return {"tcp": tcp, "udp": udp_open([3478, *UDP_ECHO])}


CLOSED = {"tcp": {SSH}, "udp": set()}
OPENED = {"tcp": {SSH, *OPEN["tcp"]}, "udp": OPEN["udp"]}

NFTABLES = """#!/usr/sbin/nft -f
table inet mine {}
delete table inet mine
table inet mine {
    set banned {
        type ipv4_addr
        elements = { 198.51.100.66, WEB }
    }
    chain services {
        tcp dport 22 accept
    }
    chain input {
        type filter hook input priority filter; policy drop;
        iifname "lo" accept
        ct state invalid drop
        ct state established,related accept
        ip saddr @banned drop
        icmp type echo-request accept
        jump services
        limit rate over 100/second burst 5000 packets drop
        pkttype host limit rate 500/second counter reject
    }
    chain forward {
        type filter hook forward priority filter; policy accept;
    }
}
"""
WEB = ADDRESS.rpartition(".")[0] + ".21"


def set_up_ufw(hpb) -> None:
    hpb.check_output(
        f"ufw default deny incoming && ufw allow 22/tcp && ufw deny from {WEB}"
        " && ufw allow from 192.0.2.1 to any port 99 && ufw --force enable"
    )


def set_up_firewalld(hpb) -> None:
    hpb.check_output(
        "sed -i 's/^IPv6_rpfilter=.*/IPv6_rpfilter=no/' /etc/firewalld/firewalld.conf && systemctl start firewalld"
        " && firewall-cmd --permanent --add-service=ssh && firewall-cmd --add-service=ssh"
        # One that is for the time being only, as fail2ban makes it.
        f""" && firewall-cmd --add-rich-rule='rule family="ipv4" source address="{WEB}" reject'"""
    )


def set_up_nftables(hpb) -> None:
    written(hpb, "/etc/nftables.conf", NFTABLES.replace("WEB", WEB))
    # Its own stop would flush the rules of the test bed, too, without which no name is resolved.
    written(
        hpb,
        "/etc/systemd/system/nftables.service.d/bed.conf",
        "[Service]\nExecStop=\nExecStop=/usr/sbin/nft delete table inet mine\n",
    )
    hpb.check_output("systemctl daemon-reload && systemctl enable --now nftables")


SET_UP = {"ufw": set_up_ufw, "firewalld": set_up_firewalld, "nftables": set_up_nftables}
STOP = {
    "ufw": "ufw --force reset; ufw --force disable",
    "firewalld": "systemctl stop firewalld; rm -f /etc/firewalld/zones/*",
    "nftables": "systemctl disable --now nftables; rm -r /etc/systemd/system/nftables.service.d;"
    " systemctl daemon-reload",
}
# How each is read as its user reads it, counters left out.
READ = {
    "ufw": "ufw status verbose; ufw show added; cat /etc/ufw/user*.rules; ls /etc/ufw/applications.d",
    "firewalld": "firewall-cmd --list-all-zones; firewall-cmd --permanent --list-all-zones",
    "nftables": "ls /etc/systemd/system /etc/systemd/system/*.wants /opt/nextcloud-talk-hpb",
}
LOAD_AGAIN = {
    "ufw": ["ufw reload"],
    "firewalld": ["firewall-cmd --reload"],
    "nftables": [
        "systemctl reload nftables",
        "systemctl restart nftables",
        "systemctl stop nftables && systemctl start nftables",
        f"systemctl stop {UNIT} && systemctl start {UNIT}",
    ],
}


def rules(hpb, kind: str) -> str:
    """Return all rules of the host, as its kernel and its user have them."""
    return hpb.check_output(f"{READ[kind]}; nft --stateless list ruleset")


def run(*more: str, kind: str = "", playbook: str = "firewall", **variables) -> str:
    """Run a playbook with these variables and return its output."""
    done = play("-e", json.dumps({"hpb_firewall": kind, **variables}), *more, playbook=f"playbooks/{playbook}.yml")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout


def changed(output: str) -> int:
    return sum(counts["changed"] for counts in recap(output).values())


def refused(sentence: str, *more: str, kind: str, playbook: str) -> None:
    """Run a playbook that stops with a sentence before it changes anything."""
    done = play("-e", f"hpb_firewall={kind}", *more, playbook=f"playbooks/{playbook}.yml")
    assert done.returncode != 0 and sentence in done.stdout, done.stdout[-3000:]
    assert changed(done.stdout) == 0


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("ufw", "hpb_firewall is ufw, but ufw is not installed on this host, expected it there and active"),
        ("firewalld", "hpb_firewall is firewalld, but firewalld is not installed on this host"),
        ("nftables", "hpb_firewall is nftables, but nft is not installed on this host"),
    ],
)
def test_a_firewall_that_is_not_there_stops_the_run(kind, sentence):
    """Before any is installed below."""
    refused(sentence, kind=kind, playbook="firewall")
    refused(sentence, "--check", kind=kind, playbook="firewall" if kind != "ufw" else "deploy")


@pytest.fixture(scope="module")
def programs(hpb):
    """The firewalls of Debian's packages; at the end all is as it was."""
    before = started(hpb)
    written(hpb, "/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n")
    hpb.check_output(
        "chmod 0755 /usr/sbin/policy-rc.d && apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy"
        " --no-install-recommends ufw firewalld nftables && rm /usr/sbin/policy-rc.d"
        " && iptables-save > /run/iptables.saved && ip6tables-save > /run/ip6tables.saved"
    )
    written(hpb, "/run/echo.py", ECHO)
    ports = " ".join(",".join(map(str, one)) for one in ([SSH, *TCP_ECHO], UDP_ECHO))
    hpb.check_output(f"systemd-run --unit hpb-test-echo --collect python3 /run/echo.py {ports}")
    yield
    hpb.run("systemctl stop hpb-test-echo")
    # What a test that failed has left.
    run(close=True)
    for command in STOP.values():
        hpb.run(command)
    hpb.check_output("iptables-restore < /run/iptables.saved && ip6tables-restore < /run/ip6tables.saved")
    hpb.check_output("DEBIAN_FRONTEND=noninteractive apt-get purge -qy ufw firewalld nftables")
    assert started(hpb) == before
    assert seen()["tcp"] >= {80, 443, 3478}


@pytest.fixture(params=SET_UP)
def kind(request, hpb, programs):
    """A firewall that refuses everything but SSH, with some rules of its user's."""
    SET_UP[request.param](hpb)
    yield request.param
    hpb.run(STOP[request.param])


def from_the_other(web, port: int) -> bool:
    code = f"import socket; socket.create_connection(('{ADDRESS}', {port}), timeout=2)"
    return web.run(f"python3 -c {shlex.quote(code)}").rc == 0


def test_exactly_what_has_to_be_open_is_open(hpb, web, kind):
    assert seen() == CLOSED
    untouched = rules(hpb, kind)
    containers = started(hpb)

    shown = run("--check", "--diff", kind=kind)
    assert f"+{kind}: udp 20000-29999 from everybody" in shown
    assert rules(hpb, kind) == untouched and seen() == CLOSED

    # The table is there without any firewall, and no host is asked for it.
    assert "20000-29999  udp       everybody  media to and from Janus" in run(ansible_host="nowhere")

    # A deployment does what the playbook firewall does.
    playbook = "deploy" if kind == "ufw" else "firewall"
    assert changed(run(kind=kind, playbook=playbook)) == 1
    assert seen() == OPENED
    calls_work(hpb, "", None)
    # Whom the user's own rules refuse is refused still.
    assert not from_the_other(web, 443)
    assert changed(run(kind=kind)) == 0
    assert changed(run("--check", "--diff", kind=kind)) == 0
    assert kind != "ufw" or changed(run(kind=kind, playbook="deploy")) == 0

    for command in LOAD_AGAIN[kind]:
        hpb.check_output(command)
        # systemctl does not wait for the unit that follows.
        time.sleep(2)
        assert seen() == OPENED, command
    assert changed(run(kind=kind)) == 0

    # Other ranges take the place of the old ones, and back.
    assert changed(run(kind=kind, janus_max_port=25000, coturn_min_port=63000)) == 1
    assert seen() == {"tcp": OPENED["tcp"], "udp": OPENED["udp"] - {29999, 61000}}
    assert changed(run(kind=kind)) == 1
    assert seen() == OPENED

    if kind == "firewalld":
        # It forgets by itself what was for the time being, when it is reloaded as above.
        SET_UP[kind](hpb)
    if kind == "ufw":
        hpb.check_output("rm /etc/ufw/applications.d/nextcloud-talk-hpb")
    assert changed(run(kind=kind, close=True)) == 1
    assert rules(hpb, kind) == untouched
    assert seen() == CLOSED
    assert changed(run(kind=kind, close=True)) == 0
    assert started(hpb) == containers


def test_the_proxy_alone_reaches_the_signaling_server(hpb, other, kind):
    untouched = rules(hpb, kind)
    proxied = {"traefik_enabled": False, "hpb_signaling_address": ADDRESS, "hpb_signaling_port": 8090}
    assert changed(run(kind=kind, hpb_proxy_address=CLIENT, **proxied)) == 1
    hpb.check_output("systemd-run --unit hpb-test-proxy --collect python3 /run/echo.py 8090 8090")
    try:
        time.sleep(1)
        assert tcp_open(8090) and not tcp_open(443)
        assert not from_the_other(other, 8090)
    finally:
        hpb.check_output("systemctl stop hpb-test-proxy")
    # Another proxy takes its place.
    assert changed(run(kind=kind, hpb_proxy_address="192.0.2.7", **proxied)) == 1
    assert not tcp_open(8090)
    # Without a firewall the next deployment takes it all away, as the playbook firewall does when it is asked to.
    assert changed(run(playbook="deploy") if kind == "ufw" else run(close=True)) == 1
    assert rules(hpb, kind) == untouched and seen() == CLOSED


def test_private_networks_need_nothing(hpb, kind):
    untouched = rules(hpb, kind)
    said = run(kind=kind, hpb_network_profile="bridge", hpb_bridge_subnet="172.31.253.0/24")
    assert changed(said) == 0 and "Docker publishes them past ufw, firewalld and nftables" in said
    assert rules(hpb, kind) == untouched


def test_another_firewall_takes_over(hpb, programs):
    set_up_ufw(hpb)
    before = rules(hpb, "ufw")
    try:
        assert changed(run(kind="ufw")) == 1
        hpb.check_output("ufw --force disable")
        set_up_nftables(hpb)
        ruleset = hpb.check_output("nft --stateless list table inet mine")
        assert changed(run(kind="nftables")) == 1
        assert "nextcloud" not in hpb.check_output("ufw show added; ls /etc/ufw/applications.d")
        assert seen() == OPENED
        assert changed(run(kind="nftables")) == 0
        assert changed(run(close=True)) == 1
        assert hpb.check_output("nft --stateless list table inet mine") == ruleset
    finally:
        hpb.run(STOP["nftables"])
        hpb.check_output("ufw --force enable")
        after = rules(hpb, "ufw")
        hpb.run(STOP["ufw"])
    assert after == before


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("ufw", "hpb_firewall is ufw, but ufw is inactive on this host, expected it there and active"),
        ("firewalld", "hpb_firewall is firewalld, but firewalld is not running on this host"),
        ("nftables", "no chain of nftables on this host filters incoming packets"),
    ],
)
def test_a_firewall_that_is_not_active_stops_the_run(hpb, programs, kind, sentence):
    refused(sentence, kind=kind, playbook="deploy" if kind == "ufw" else "firewall")
    refused(sentence, "--check", kind=kind, playbook="firewall")
