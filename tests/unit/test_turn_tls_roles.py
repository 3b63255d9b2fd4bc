# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ACME and TURN over TLS make of the configurations of Traefik and coturn, of Talk's settings and of the ports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "0123456789abcdef0123456789abcdef"  # noqa: S105 - made up

PLAY = """
- hosts: cases
  gather_facts: false
  tasks:
    - ansible.builtin.import_role: {name: nextcloud_talk.hpb.hpb, tasks_from: inventory}
    - ansible.builtin.import_role: {name: nextcloud_talk.hpb.traefik, tasks_from: preflight}
    - ansible.builtin.import_role: {name: nextcloud_talk.hpb.signalling, tasks_from: preflight}
    # For its variables only.
    - ansible.builtin.import_role: {name: nextcloud_talk.hpb.coturn, tasks_from: certificate_wait}
      when: false
    - ansible.builtin.import_role: {name: nextcloud_talk.hpb.verify, tasks_from: preflight}
      when: false
    - ansible.builtin.import_role: {name: nextcloud_talk.hpb.watch}
      when: false
    - ansible.builtin.copy:
        dest: "{{ folder }}/{{ inventory_hostname }}.json"
        mode: "0600"
        content: >-
          {{ {'traefik': __traefik_files | items2dict('name', 'content'),
          'acme_files': __traefik_acme_files, 'environment': __traefik_acme_environment,
          'coturn': lookup('ansible.builtin.template', template, template_vars={'settings': __coturn_main}),
          'coturn443': lookup('ansible.builtin.template', template, template_vars={'settings': __coturn_443_settings}),
          'ports': __coturn_ports, 'certificate': __coturn_certificate_config, 'servers': hpb_turn_tls_servers,
          'all_servers': __hpb_turn_servers,
          'tcp': __hpb_tcp_ports, 'udp': __hpb_udp_ports, 'names': __hpb_names, 'verify': __verify_turn,
          'watch': {'containers': __watch_config.containers, 'tls_port': __watch_config.turn.tls_port}} | to_json }}
"""

CASES = {
    "default": {},
    "tls": {"hpb_turn_tls_port": 5349},
    "one_name": {"hpb_turn_tls_port": 5349, "hpb_turn_domain": "talk.example.org"},
    "bridge": {"hpb_network_profile": "bridge", "hpb_turn_tls_port": 5349, "hpb_signaling_port": 9080},
    "https": {"hpb_turn_443_domain": "turn443.example.org"},
    "own": {"hpb_tls": "private_ca", "hpb_turn_tls_port": 5349, "hpb_turn_443_domain": "turn.example.org"},
    "staging": {"hpb_acme_staging": True, "hpb_turn_tls_port": 5349},
    "dns": {
        "traefik_acme_dns_provider": "rfc2136",
        "traefik_acme_dns_credentials": {"RFC2136_TSIG_SECRET": TOKEN},
        "traefik_acme_dns_settings": {"RFC2136_NAMESERVER": "192.0.2.53", "RFC2136_TTL": 60},
        "traefik_acme_dns_resolvers": ["192.0.2.53:53"],
        "traefik_acme_hours": 168,
        "traefik_acme_server": "https://acme.example.org/dir",
        "traefik_acme_ca_files": ["{{ folder }}/one.pem", "{{ folder }}/two.pem"],
    },
}


def play(folder: Path, cases: dict[str, dict]) -> subprocess.CompletedProcess:
    """Render all cases with one playbook, each as a host of its own."""
    common = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "folder": str(folder),
        "template": str(ROOT / "roles/coturn/templates/turnserver.conf.j2"),
        "hpb_domain": "talk.example.org",
        "hpb_turn_domain": "turn.example.org",
        "hpb_acme_email": "admin@example.org",
        "hpb_media_ip": "192.0.2.10",
        "hpb_former_turn_servers": [],
    }
    inventory = {
        "cases": {"hosts": {name: {**common, **case} for name, case in cases.items()}},
        "hpb": {"hosts": {"talk.example.org": {}}},
        "nextcloud": {"children": {"nc": {"hosts": {"nc.example.org": {}}}}},
    }
    for name in ("one", "two"):
        (folder / f"{name}.pem").write_text(f"the authority {name}\n")
    (folder / "hosts.json").write_text(json.dumps(inventory))
    (folder / "play.yml").write_text(PLAY)
    env = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    return subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "-i", folder / "hosts.json", folder / "play.yml"],
        cwd=folder,
        env={**env, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".tree"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def rendered(tmp_path_factory) -> dict[str, dict]:
    """What each case renders to."""
    folder = tmp_path_factory.mktemp("cases")
    done = play(folder, CASES)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {name: json.loads((folder / f"{name}.json").read_text()) for name in CASES}
    for case in found.values():
        case["static"], case["dynamic"] = (yaml.safe_load(text) for text in case["traefik"].values())
    return found


def options(text: str) -> dict[str, list[str]]:
    """Return a turnserver.conf as {option: values}; a flag has none."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        found.setdefault(name, []).extend([value] if equals else [])
    return found


def test_nothing_changes_for_those_who_set_nothing(rendered):
    """The texts are those of before, to the letter: another one would restart programs and end calls."""
    data = json.loads((ROOT / "tests/unit/data/turn-tls-default.json").read_text())
    default = rendered["default"]
    assert {name: default[name] for name in data} == data
    assert (default["acme_files"], default["environment"], default["servers"]) == ([], {}, [])
    assert (default["tcp"], default["udp"]) == ([80, 443, 3478, 8080, 8083, 4222, 8222, 8188], [3478])
    assert default["verify"]["protocols"] == ["udp", "tcp"]
    assert default["watch"] == {"containers": ["nats", "janus", "coturn", "signalling", "traefik"], "tls_port": 0}


def test_turn_over_tls(rendered):
    case = rendered["tls"]
    conf, before = options(case["coturn"]), options(rendered["default"]["coturn"])
    assert before.pop("no-tls") == []
    assert {name: conf.pop(name) for name in ("tls-listening-port", "cert", "pkey")} == {
        "tls-listening-port": ["5349"],
        "cert": ["/tls/turn.pem"],
        "pkey": ["/tls/turn.pem"],
    }
    assert conf == before
    assert case["dynamic"]["http"]["routers"]["signalling"]["tls"] == {
        "certResolver": "letsencryptresolver",
        "domains": [{"main": "talk.example.org"}, {"main": "turn.example.org"}],
    }
    assert "tcp" not in case["dynamic"]
    assert case["servers"] == [{"schemes": "turns", "server": "turn.example.org:5349", "protocols": "tcp"}]
    assert case["all_servers"] == ["turn.example.org:3478", "turn.example.org:5349"]
    assert case["tcp"] == [*rendered["default"]["tcp"], 5349]
    assert (case["verify"]["protocols"], case["verify"]["tls_port"]) == (["udp", "tcp", "tls"], 5349)
    assert case["watch"]["tls_port"] == 5349
    wanted = {"acme": "/opt/nextcloud-talk-hpb/traefik/acme/acme.json", "certificate": "", "key": "", "port": 5349}
    assert case["certificate"].items() >= {**wanted, "name": "turn.example.org", "address": "192.0.2.10"}.items()


def test_turn_over_tls_on_private_networks(rendered):
    """coturn's port is published, and the host asks for its certificate at its own address."""
    case = rendered["bridge"]
    conf = options(case["coturn"])
    assert (conf["listening-ip"], conf["tls-listening-port"]) == (["172.31.254.4"], ["5349"])
    assert case["ports"] == ["3478/udp", "3478/tcp", "5349/tcp"]
    assert (case["tcp"], case["udp"]) == ([80, 443, 3478, 5349], [3478])
    assert case["certificate"]["address"] == "172.31.254.4"
    services = case["dynamic"]["http"]["services"]
    assert services["signalling"]["loadBalancer"]["servers"] == [{"url": "http://172.31.254.5:9080"}]
    assert rendered["default"]["ports"] == ["3478/udp", "3478/tcp"]


def test_one_name_for_all_needs_one_certificate(rendered):
    assert rendered["one_name"]["traefik"] == rendered["default"]["traefik"]
    assert rendered["one_name"]["certificate"]["name"] == "talk.example.org"


def test_turn_on_443(rendered):
    case, default = rendered["https"], rendered["default"]
    tcp = case["dynamic"].pop("tcp")
    assert tcp["routers"]["turn"] == {
        "rule": "HostSNI(`turn443.example.org`)",
        "entryPoints": ["websecure"],
        "service": "turn",
        "tls": {"certResolver": "letsencryptresolver", "options": "turn"},
    }
    assert tcp["services"]["turn"]["loadBalancer"] == {
        "serversTransport": "turn",
        "servers": [{"address": "127.0.0.1:3480"}],
    }
    assert tcp["serversTransports"] == {"turn": {"proxyProtocol": {"version": 2}}}
    assert case["dynamic"]["tls"]["options"].pop("turn")["minVersion"] == "VersionTLS12"
    assert case["dynamic"] == default["dynamic"]
    assert case["static"] == default["static"]

    main, own = options(case["coturn"]), options(case["coturn443"])
    assert (main["min-port"], main["max-port"]) == (["61000"], ["64535"])
    assert (own["min-port"], own["max-port"]) == (["64536"], ["65535"])
    assert (own["listening-ip"], own["listening-port"], own["tcp-proxy-port"]) == (["127.0.0.1"], ["3480"], ["3480"])
    same = set(main) - {"listening-ip", "listening-port", "min-port", "max-port"}
    assert {name: own[name] for name in same} == {name: main[name] for name in same}
    assert {"denied-peer-ip", "allowed-peer-ip", "no-tcp-relay", "no-multicast-peers", "use-auth-secret"} < same

    assert case["servers"] == [{"schemes": "turns", "server": "turn443.example.org:443", "protocols": "tcp"}]
    assert case["names"] == ["talk.example.org", "turn.example.org", "turn443.example.org"]
    assert (case["tcp"][-1], case["udp"]) == (3480, [3478, 3480])
    assert (case["verify"]["protocols"], case["verify"]["name_443"]) == (["udp", "tcp", "443"], "turn443.example.org")
    assert "coturn443" in case["watch"]["containers"]


def test_a_certificate_of_ones_own(rendered):
    case = rendered["own"]
    assert case["dynamic"]["tcp"]["routers"]["turn"]["tls"] == {"options": "turn"}
    assert case["dynamic"]["http"]["routers"]["signalling"]["tls"] == {}
    assert case["dynamic"]["tls"]["stores"]["default"]["defaultCertificate"]["certFile"] == "/tls/fullchain.pem"
    assert [server["server"] for server in case["servers"]] == ["turn.example.org:5349", "turn.example.org:443"]
    assert (case["certificate"]["acme"], case["certificate"]["key"]) == ("", "/opt/nextcloud-talk-hpb/tls/key.pem")


def test_the_staging_servers_certificates_do_not_stay(rendered):
    acme = rendered["staging"]["static"]["certificatesResolvers"]["letsencryptresolver"]["acme"]
    assert acme["caServer"] == "https://acme-staging-v02.api.letsencrypt.org/directory"
    assert acme["storage"] == "/acme/acme-staging.json"
    assert rendered["staging"]["certificate"]["acme"] == "/opt/nextcloud-talk-hpb/traefik/acme/acme-staging.json"


def test_names_are_proven_by_dns_without_a_secret_in_the_environment(rendered):
    case = rendered["dns"]
    acme = case["static"]["certificatesResolvers"]["letsencryptresolver"]["acme"]
    assert "httpChallenge" not in acme
    assert acme["dnsChallenge"] == {"provider": "rfc2136", "resolvers": ["192.0.2.53:53"]}
    assert (acme["certificatesDuration"], acme["caServer"]) == (168, "https://acme.example.org/dir")
    assert case["environment"] == {
        "RFC2136_TSIG_SECRET_FILE": "/config/RFC2136_TSIG_SECRET",
        "RFC2136_NAMESERVER": "192.0.2.53",
        "RFC2136_TTL": "60",
    }
    assert case["acme_files"] == [
        {"name": "RFC2136_TSIG_SECRET", "content": TOKEN, "mode": "0600", "secret": True},
        {"name": "authorities.pem", "content": "the authority one\nthe authority two\n"},
    ]
    assert (acme["caCertificates"], acme["caSystemCertPool"]) == (["/config/authorities.pem"], True)
    assert TOKEN not in json.dumps(case["static"]) + json.dumps(case["environment"])


REFUSED = {
    "same": (
        {"hpb_turn_443_domain": "Talk.example.org"},
        "the same as hpb_domain, expected another name for the same host",
    ),
    "url": ({"hpb_turn_443_domain": "https://turn443.example.org"}, "expected a name without scheme and port"),
    "https": ({"hpb_turn_tls_port": 443}, "hpb_turn_tls_port is 443, expected a port of its own, such as 5349"),
    "turn": ({"hpb_turn_tls_port": 3478}, "hpb_turn_tls_port is 3478, expected a port of its own"),
    "ranges": (
        {"janus_max_port": 62000},
        "janus_min_port to janus_max_port is 20000-62000, expected ports of its own: udp/61000-62000 are for media",
    ),
    "few": ({"janus_max_port": 20002}, "janus_max_port is 20002, expected 4 ports at least for media of Janus"),
    "picture": ({"signalling_stream_bitrate": 1}, "signalling_stream_bitrate is '1', expected bit/s from 64000"),
    "screen": ({"signalling_screen_bitrate": "2 Mbit"}, "signalling_screen_bitrate is '2 Mbit', expected bit/s"),
    "silent": ({"signalling_connections_per_host": 0}, "'0', expected a whole number from 1, or the signaling server"),
    "share": (
        {"hpb_turn_443_domain": "turn443.example.org", "coturn_443_ports": 5000},
        "coturn_443_ports is '5000', expected 1 to 4535 of the 4536 ports 61000-65535",
    ),
    "firewall": (
        {"hpb_firewall": "iptables"},
        "hpb_firewall is 'iptables', expected ufw, firewalld, nftables, or nothing",
    ),
    "chain": (
        {"hpb_firewall_chains": ["inet filter"]},
        "hpb_firewall_chains names 'inet filter', expected family, table and name of a chain",
    ),
    "chains": (
        {"hpb_firewall_chains": "inet filter input"},
        "hpb_firewall_chains is a text, expected a list of chains",
    ),
    "bridge": (
        {"hpb_network_profile": "bridge", "hpb_turn_443_domain": "turn443.example.org"},
        "but hpb_network_profile is bridge, expected no TURN on port 443 there",
    ),
    "provider": ({"traefik_acme_dns_credentials": {"CF_DNS_API_TOKEN": TOKEN}}, "without traefik_acme_dns_provider"),
    "name": (
        {"traefik_acme_dns_provider": "x", "traefik_acme_dns_credentials": {"a-b": TOKEN}},
        "names a-b, expected the name of an environment variable of the provider",
    ),
    "authority": (
        {"traefik_acme_ca_files": ["/nowhere.pem"]},
        "traefik_acme_ca_files names /nowhere.pem, expected a file",
    ),
}


def test_what_cannot_work_is_refused_before_anything_changes(tmp_path):
    done = play(tmp_path, {name: case for name, (case, _problem) in REFUSED.items()})
    assert done.returncode != 0
    assert TOKEN not in done.stdout + done.stderr
    said = done.stdout + done.stderr
    for name, (_case, problem) in REFUSED.items():
        begin = said.index(f"[{name}]: FAILED!")
        assert problem in " ".join(said[begin:].split("FAILED!")[1].split()), (name, said)
    assert list(tmp_path.glob("*.json")) == [tmp_path / "hosts.json"]
