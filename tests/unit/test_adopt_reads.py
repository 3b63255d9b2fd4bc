# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people really have: aio-talk, packages, Portainer, All-in-One, proxies of each kind, and odd files."""

from __future__ import annotations

import copy
import json
import os
import random
import re
import string

import adopt_bed
import adopt_field
import pytest
import yaml
from adopt_bed import FILES, SOUND, secret
from adopt_field import AIO_TALK, ALL_IN_ONE, FIELD_SECRETS, NATIVE, PORTAINER, base64_secret
from ansible_collections.nextcloud_talk.hpb.plugins.filter.adopted import FilterModule, load
from ansible_collections.nextcloud_talk.hpb.plugins.filter.misspelt import FilterModule as Misspelt
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import (
    _adopt,
    _adopt_compose,
    _adopt_defects,
    _adopt_proxy,
    _adopt_text,
    _ports,
    _proxy,
    _secrets,
)
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._backends import backends
from ansible_collections.nextcloud_talk.hpb.plugins.modules import adopt_read
from module_process import run as run_module

HOST = {"name": "hpb1", "ansible_user": "root", "ansible_host": ""}
_adopted = FilterModule().filters()["adopted"]
EVERY_SECRET = [*FIELD_SECRETS.values(), *adopt_bed.SECRETS.values()]


def adopt(files, path="/srv/talk", host=None, **more):
    """Return what the filter makes of the files; no secret is anywhere but in the secrets file."""
    made = _adopted(files, path, host or HOST, "inventory", "inventory-secrets.vault", **more)
    shown = json.dumps({key: value for key, value in made.items() if key != "secrets"})
    assert [value for value in EVERY_SECRET if json.dumps(value)[1:-1] in shown] == []
    return made


def at_root(files, path):
    """Return the files of a host as the module would name them for the directory `path`."""
    return {
        os.path.relpath(f"/{name}", path) if f"/{name}".startswith(f"{path}/") else f"/{name}": text.replace(
            "@ROOT@", ""
        )
        for name, text in files.items()
    }


def valid(made):
    """Return the hpb variables and the instances of an inventory, with which nothing else is wrong."""
    assert made["problems"] == []
    hosts, settings = yaml.safe_load(made["hosts"]), yaml.safe_load(made["group_vars"]) or {}
    groups = {"hpb": [*hosts["hpb"]["hosts"]], "nextcloud": []}
    hostvars = {host: {**(values or {}), **settings} for host, values in hosts["hpb"]["hosts"].items()}
    for name, group in hosts["nextcloud"]["children"].items():
        groups[name] = [*group["hosts"]]
        groups["nextcloud"] += groups[name]
        for host, values in group["hosts"].items():
            assert host not in groups["hpb"]
            hostvars[host] = {**(values or {}), **(group.get("vars") or {})}
    kind, traefik = settings.get("hpb_proxy", ""), settings.get("traefik_enabled", True)
    own, form = traefik and kind != "form", settings["hpb_proxy_port"] if kind == "form" else 0
    used = {
        **{"profile": "host", "own": own, "turn_443": "", "turn_proxy": 3480, "form": form, "relay_443": 1000},
        **{"nats": 4222, "nats_monitor": 8222, "janus": 8188, "ping": 8083},
        **{"media": [20000, 29999], "relay": [61000, 65535], "turn": settings.get("hpb_turn_port", 3478)},
        **{"turn_tls": settings.get("hpb_turn_tls_port", 0), "signaling": settings.get("hpb_signaling_port", 8080)},
    }
    assert _ports.problems(used) == []
    proxy = {
        **{"profile": "host", "own": traefik, "kind": kind, "path": settings.get("hpb_path", ""), "form_port": form},
        **{"address": "127.0.0.1", "listen": "127.0.0.1", "port": used["signaling"], "tls": "acme" if own else "proxy"},
        **{"network": settings.get("hpb_proxy_network", ""), "container": settings.get("hpb_proxy_network", "")},
        **{"entry_point": "websecure", "resolver": "", "turn_tls_port": used["turn_tls"], "turn_443": ""},
    }
    assert _proxy.problems(proxy) == []
    assert Misspelt().filters()["misspelt"](hostvars) == []
    _secrets.parse(made["secrets"])
    return settings, backends(groups, hostvars)


def secrets_of(made):
    return _secrets.flat(json.loads(made["secrets"]))


def numbers(made):
    lines = made["lines"][: made["lines"].index("To be filled in:")]
    return {int(m.group(1)) for line in lines if (m := re.match(r"  (\d+)\. ", line))}


# aio-talk: D1.


def test_two_containers_with_everything_in_them_become_one_backend_with_two_nextclouds():
    made = adopt(at_root(AIO_TALK, "/home/me/docker"), "/home/me/docker")
    settings, instances = valid(made)
    assert settings == {
        "hpb_domain": "signal1.example.org",
        "hpb_turn_domain": "signal1.example.org",
        "hpb_proxy": "form",
        "hpb_proxy_port": 8181,
        "signalling_stream_bitrate": 2097152,
    }
    assert [(one["id"], one["url"], one["stream_bitrate"]) for one in instances] == [
        ("cloud_example_net", "https://cloud.example.net", None),
        ("cloud_example_org", "https://cloud.example.org", 2097152),
    ]
    assert secrets_of(made) == {
        "cloud_example_net.backend": FIELD_SECRETS["signal two"],
        "cloud_example_net.turn": FIELD_SECRETS["turn two"],
        "cloud_example_org.backend": FIELD_SECRETS["signal one"],
        "cloud_example_org.turn": FIELD_SECRETS["turn one"],
        "internal": FIELD_SECRETS["internal two"],
    }
    assert numbers(made) == {2, 14, 21, 25, 28, 29, 39, 40, 41, 42}
    assert "# FILL IN: with hpb_proxy_container: in Docker it does not reach 127.0.0.1." in made["group_vars"]
    said = "\n".join(made["lines"])
    for sentence in (
        "cloud_example_net had https://signal2.example.org and TURN at signal2.example.org:3479; here all have one",
        "The TURN server is eturnal (nc-talk-2, nc-talk-1); here it is coturn, which takes the same credentials",
        "The servers have 2 internal secrets, of which the first was taken: a recording server or SIP bridge that has",
        "The service recording is a recording server, which is left alone: it needs the internal secret, and the",
        "cd /home/me/docker/hpb && docker compose stop nc-talk-2 nc-talk-1",
        "The way back is docker stop signalling coturn janus nats traefik, and then docker compose start nc-talk-2 nc-",
        "Nginx Proxy Manager (file npm/data/nginx/proxy_host/3.conf) takes no file: it passes the whole name on to our",
        "Enter into Nginx Proxy Manager what that run prints at its end, in the place of what leads to the old server",
    ):
        assert sentence in said


def test_without_its_proxy_the_path_is_asked_for():
    files = {name: text for name, text in at_root(AIO_TALK, "/home/me/docker/hpb").items() if "npm" not in name}
    made = adopt(files, "/home/me/docker/hpb")
    assert valid(made)[0]["hpb_signaling_port"] == 8181
    assert "# FILL IN: only if the Nextclouds have it under a path (occ talk:signaling:list)" in made["group_vars"]
    assert "# hpb_path: /standalone-signaling\n" in made["group_vars"]


# What stands beside, the directory, the port that is published: what is written, and what it is called.
FORMS = [
    (
        {},
        "/volume1/docker/hpb",
        8181,
        {"hpb_proxy": "form", "hpb_proxy_port": 8181},
        "The panel of this NAS, as its directory tells,",
    ),
    (
        {},
        "/share/Container/hpb",
        8181,
        {"hpb_proxy": "form", "hpb_proxy_port": 8181},
        "The panel of this NAS, as its directory tells,",
    ),
    (
        {},
        "/mnt/user/appdata/hpb",
        80,
        {"hpb_proxy": "form", "hpb_proxy_port": 80},
        "The panel of this NAS, as its directory tells,",
    ),
    # That of the signaling server itself.
    (
        {},
        "/volume1/docker/hpb",
        8080,
        {"hpb_proxy": "form", "hpb_proxy_port": 8084},
        "The panel of this NAS, as its directory tells,",
    ),
    ({}, "/srv/volume1/hpb", 8181, {"traefik_enabled": False, "hpb_signaling_port": 8181}, ""),
    (
        {"zoraxy/compose.yml": "services:\n  z: {image: 'zoraxydocker/zoraxy:latest', ports: ['443:443']}\n"},
        *("/srv/talk", 8181, {"hpb_proxy": "form", "hpb_proxy_port": 8181}, "Zoraxy (file zoraxy/compose.yml)"),
    ),
    (
        {"zoraxy/compose.yml": "services:\n  # z: {image: 'zoraxydocker/zoraxy:latest'}\n  y: {image: nginx}\n"},
        *("/srv/talk", 8181, {"traefik_enabled": False, "hpb_signaling_port": 8181}, ""),
    ),
]


@pytest.mark.parametrize(("beside", "path", "port", "wanted", "name"), FORMS)
def test_before_a_proxy_that_is_only_a_form_our_own_traefik_stays(beside, path, port, wanted, name):
    network = f'ports: ["3478:3478/tcp", "3478:3478/udp", "{port}:8081"]'
    made = adopt({"hpb/compose.yml": ONE_AIO.format(**{**AIO_VALUES, "network": network}), **beside}, path)
    settings, _instances = valid(made)
    assert {key: value for key, value in settings.items() if "TURN" not in key and key[:6] != "hpb_tu"} == {
        "hpb_domain": "signal.example.org",
        **wanted,
    }
    said, number = "\n".join(made["lines"]), wanted.get("hpb_proxy_port")
    sentence = f"{name} takes no file: it passes the whole name on to our own Traefik at port {number} (hpb_proxy: form"
    assert (sentence in said) == ("takes no file" in said) == bool(name)
    assert "# hpb_path: /standalone-signaling\n" in made["group_vars"]
    # Where no file tells what serves the name, the way to this is said.
    assert ("say hpb_proxy: form in the place of traefik_enabled" in made["group_vars"]) == (not name)


ONE_AIO = """\
services:
  hpb:
    image: {image}
    environment:
      NC_DOMAIN: {domain}
      TALK_HOST: {host}
      TALK_PORT: {port}
      TURN_SECRET: {turn}
      SIGNALING_SECRET: {signaling}
      INTERNAL_SECRET: {internal}
    {network}
"""
AIO_VALUES = {
    "image": "ghcr.io/nextcloud-releases/aio-talk:latest",
    "domain": "cloud.example.org",
    "host": "signal.example.org",
    "port": "3478",
    **{name: secret(f"one {name}") for name in ("turn", "signaling", "internal")},
    "network": 'ports: ["3478:3478/tcp", "3478:3478/udp", "8181:8081"]',
}


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({}, {"hpb_domain": "signal.example.org", "hpb_signaling_port": 8181}),
        ({"image": "nextcloud/aio-talk"}, {"hpb_signaling_port": 8181}),
        ({"image": "docker.io/nextcloud/aio-talk:20240808_083748-arm64"}, {"hpb_signaling_port": 8181}),
        ({"image": "registry.example.org:5000/mirror/talk:1"}, {"hpb_signaling_port": 8181}),
        ({"network": "network_mode: host"}, {"hpb_signaling_port": 8081}),
        ({"domain": "https://Cloud.example.org/"}, {"hpb_signaling_port": 8181}),
        ({"port": "3479", "network": 'ports: ["3479:3479", "3479:3479/udp", "8181:8081"]'}, {"hpb_turn_port": 3479}),
        ({"network": 'ports: ["13478:3478/udp", "8080:8081"]'}, {"hpb_turn_port": 13478}),
        ({"host": "nextcloud-aio-talk"}, {"hpb_turn_domain": "cloud.example.org"}),
        (
            {"network": "labels: [traefik.http.routers.t.rule=Host(`hpb.example.org`)]\n    networks: [web]"},
            {"hpb_domain": "hpb.example.org", "hpb_proxy": "traefik_labels", "hpb_proxy_network": "web"},
        ),
    ],
)
def test_one_container_in_its_varieties(values, wanted):
    settings, instances = valid(adopt({"compose.yml": ONE_AIO.format(**{**AIO_VALUES, **values})}))
    assert {key: settings.get(key) for key in wanted} == wanted
    assert [(one["id"], one["url"]) for one in instances] == [("cloud", "https://cloud.example.org")]


def test_a_domain_that_is_none_is_named():
    made = adopt({"compose.yml": ONE_AIO.format(**{**AIO_VALUES, "domain": "'[{x}]'"})})
    assert made["problems"][:2] == [
        "None of the Nextclouds can be taken over:",
        "[{x}]: its URL https://[{x}] cannot be understood ('{x}' does not appear to be an IPv4 or IPv6 address), "
        "expected an address such as https://cloud.example.org or https://example.org/cloud.",
    ]


def test_one_secret_for_everything_is_taken_once_and_the_rest_is_named():
    same = dict.fromkeys(("turn", "signaling", "internal"), AIO_VALUES["turn"])
    made = adopt({"compose.yml": ONE_AIO.format(**{**AIO_VALUES, **same})})
    assert secrets_of(made) == {"cloud.backend": AIO_VALUES["turn"]}
    assert any(
        line.startswith("  - The TURN secret was not taken over: turn has the same value as cloud.backend")
        for line in made["lines"]
    )
    assert 37 in numbers(made)


def test_several_containers_with_one_turn_secret_are_known_to_have_it():
    text = AIO_TALK["home/me/docker/hpb/docker-compose.yml"].replace(FIELD_SECRETS["turn two"], "${TURN_SECRET_1}")
    files = at_root({**AIO_TALK, "home/me/docker/hpb/docker-compose.yml": text}, "/home/me/docker/hpb")
    made = adopt(files, "/home/me/docker/hpb")
    assert json.loads(made["secrets"])["one_turn_secret"] is True
    assert any("rotate -e rotate=ID.turn" in line for line in made["lines"])


def test_containers_in_several_compose_files_of_one_directory_or_of_several():
    one = ONE_AIO.format(**AIO_VALUES)
    two = one.replace("cloud.example.org", "files.example.org").replace("signal.", "two.")
    for name in ("turn", "signaling", "internal"):
        two = two.replace(AIO_VALUES[name], secret(f"two {name}"))
    for names in (("hpb-one.yml", "hpb-two.yml"), ("one/compose.yml", "two/docker-compose.yaml")):
        _settings, instances = valid(made := adopt(dict(zip(names, (one, two)))))
        assert [one["id"] for one in instances] == ["cloud", "files"]
        stops = [line.strip() for line in made["lines"] if "docker compose" in line and line.startswith("     ")]
        assert stops == (
            ["cd /srv/talk && docker compose -f hpb-one.yml stop", "cd /srv/talk && docker compose -f hpb-two.yml stop"]
            if "/" not in names[0]
            else ["cd /srv/talk/one && docker compose stop", "cd /srv/talk/two && docker compose stop"]
        )


def test_what_a_container_lacks_is_named_with_the_refusal():
    text = ONE_AIO.format(**AIO_VALUES).replace(AIO_VALUES["signaling"], "${SIGNALING_SECRET}")
    problems = adopt({"compose.yml": text})["problems"]
    assert problems == [
        "The signaling server of /srv/talk names no Nextcloud in NC_DOMAIN, expected at least one with a URL and a "
        "secret: correct adopt=, or begin with inventory.example.",
        "Noticed until then:",
        "  - compose.yml uses SIGNALING_SECRET, which no file that was read sets: it was taken as empty. Put it into "
        ".env where something is missing below.",
        "  - hpb has no SIGNALING_SECRET in these files, without which it does not start.",
        "  - cloud.example.org has no secret: the old signaling server left it out, and so was done here.",
    ]


# All-in-One.

AIO_DATA = "/var/lib/docker/volumes/nextcloud_aio_mastercontainer/_data/data"


def test_what_the_master_container_of_all_in_one_keeps():
    made = adopt(at_root(ALL_IN_ONE, AIO_DATA), AIO_DATA)
    settings, instances = valid(made)
    assert settings == {"hpb_turn_domain": "cloud.example.org", "traefik_enabled": False}
    assert [(one["id"], one["url"]) for one in instances] == [("cloud", "https://cloud.example.org")]
    hosts = yaml.safe_load(made["hosts"])["nextcloud"]["children"]["cloud"]
    assert hosts["vars"] == {"talk_container": "nextcloud-aio-nextcloud"}
    assert hosts["hosts"]["cloud.example.org"] == {"ansible_host": "hpb1", "ansible_user": "root"}
    assert secrets_of(made)["cloud.turn"] == FIELD_SECRETS["aio turn"]
    assert any(
        "NEXTCLOUD_KEEP_DISABLED_APPS=true, without which it removes the app Talk" in line for line in made["lines"]
    )


def test_the_compose_file_of_all_in_one_leads_to_what_its_master_container_keeps():
    master = {"compose.yaml": "services: {nextcloud-aio-mastercontainer: {image: nextcloud/all-in-one:latest}}"}
    assert adopt(master)["problems"] == [
        "/srv/talk/compose.yaml starts Nextcloud All-in-One, which keeps what it starts itself in a volume, expected "
        "its configuration.json: say adopt=/var/lib/docker/volumes/nextcloud_aio_mastercontainer/_data/data."
    ]
    assert [one["id"] for one in valid(adopt({**master, **at_root(ALL_IN_ONE, "/srv/talk")}))[1]] == ["cloud"]
    # What else is on the host is not what was meant.
    assert adopt({"a.conf": "x", **at_root(ALL_IN_ONE, "/srv/talk")})["problems"]


def test_the_manual_installation_of_all_in_one_takes_bare_names_from_its_env_file():
    compose = """\
services:
  nextcloud-aio-nextcloud:
    image: ghcr.io/nextcloud-releases/aio-nextcloud:latest
    environment: [NC_DOMAIN, TURN_SECRET, SIGNALING_SECRET]
  nextcloud-aio-talk:
    image: ghcr.io/nextcloud-releases/aio-talk:latest
    ports: ["${TALK_PORT}:${TALK_PORT}/tcp", "${TALK_PORT}:${TALK_PORT}/udp"]
    environment:
      - NC_DOMAIN
      - TALK_HOST=nextcloud-aio-talk
      - TURN_SECRET
      - SIGNALING_SECRET
      - TALK_PORT
      - INTERNAL_SECRET=${TALK_INTERNAL_SECRET}
    profiles: [talk]
"""
    env = (
        f"NC_DOMAIN=cloud.example.org   # TODO! Needs to be changed\nTALK_PORT=3478\nTURN_SECRET={secret('m1')}\n"
        f"SIGNALING_SECRET={secret('m2')}\nTALK_INTERNAL_SECRET={secret('m3')}\n"
    )
    made = adopt({"compose.yaml": compose, ".env": env})
    settings, instances = valid(made)
    assert (settings, [one["id"] for one in instances]) == (
        {"hpb_turn_domain": "cloud.example.org", "traefik_enabled": False},
        ["cloud"],
    )
    assert "     cd /srv/talk && docker compose stop nextcloud-aio-talk" in made["lines"]
    assert any("Set TALK_ENABLED and REMOVE_DISABLED_APPS to no in its .env before." in line for line in made["lines"])
    assert any("No part of the backend, and left alone: nextcloud-aio-nextcloud (" in line for line in made["lines"])


# Packages.


@pytest.mark.parametrize("path", ["/etc", "/etc/nextcloud-spreed-signaling"])
def test_packages_behind_the_web_server_of_a_nextcloud(path):
    made = adopt(at_root(NATIVE, path), path)
    settings, instances = valid(made)
    assert settings == {
        "hpb_domain": "cloud.example.org",
        "hpb_turn_domain": "cloud.example.org",
        "hpb_path": "/standalone-signaling",
        "traefik_enabled": False,
        "hpb_proxy": "nginx",
    }
    assert [(one["id"], one["url"]) for one in instances] == [
        ("nextcloud_backend_0", "https://cloud.example.org"),
        ("nextcloud_backend_1", "https://school.example.net/nextcloud"),
    ]
    assert secrets_of(made) == {
        "session_hash_key": FIELD_SECRETS["hash"],
        "session_block_key": FIELD_SECRETS["block"],
        "nextcloud_backend_0.backend": FIELD_SECRETS["cloud"],
        "nextcloud_backend_1.backend": FIELD_SECRETS["school"],
        "nextcloud_backend_0.turn": FIELD_SECRETS["turn"],
        "nextcloud_backend_1.turn": FIELD_SECRETS["turn"],
    }
    assert "     systemctl disable --now nextcloud-spreed-signaling janus nats-server coturn" in made["lines"]


def test_packages_of_upstream_with_eturnal_and_no_proxy_that_is_known():
    eturnal = (
        f"eturnal:\n  secret: [{secret('e1')}, {secret('e2')}]\n  listen: [{{ip: '::', port: 3479, transport: udp}}]\n"
    )
    files = {
        "server.conf": SOUND["config/server.conf"],
        "/etc/eturnal.yml": eturnal,
        "/lib/systemd/system/signaling.service": "x",
        "/lib/systemd/system/eturnal.service": "x",
    }
    made = adopt(files, "/etc/signaling")
    settings, _instances = valid(made)
    assert settings == {"hpb_turn_port": 3479, "signalling_stream_bitrate": 1048576}
    assert secrets_of(made)["nc.turn"] == secret("e1")
    said = "\n".join(made["lines"])
    assert "The TURN server is eturnal (/etc/eturnal.yml); here it is coturn, which takes the same credentials" in said
    assert "eturnal takes 2 secrets, of which the first was looked at" in said
    assert "systemctl disable --now signaling eturnal" in said
    assert "# traefik_enabled: false, hpb_proxy: and what it is (see the role proxy)." in made["group_vars"]


def test_packages_that_are_not_where_was_looked_are_hinted_at():
    files = {"/etc/signaling/server.conf": SOUND["config/server.conf"]}
    assert adopt(files)["problems"] == [
        "/srv/talk has none of compose.yaml, compose.yml, docker-compose.yaml, docker-compose.yml and no server.conf, "
        "expected the directory of an installation of the backend: /etc/signaling/server.conf is there, so say "
        "adopt=/etc/signaling."
    ]


def test_the_server_conf_of_another_program_is_none():
    files = at_root({**NATIVE, "etc/a-vpn/server.conf": "port 1194\nproto udp\n"}, "/etc")
    made = adopt(files, "/etc")
    assert len(valid(made)[1]) == 2
    assert not any("a-vpn" in line for line in made["lines"])
    assert "no server.conf" in adopt({"server.conf": "port 1194\n"})["problems"][0]


def test_of_two_server_confs_the_first_is_taken_and_the_other_named():
    files = {"a/server.conf": SOUND["config/server.conf"], "b/server.conf": SOUND["config/server.conf"]}
    made = adopt(files)
    assert any(
        line.startswith(
            "  - b/server.conf was left out, since a/server.conf was read: name the other one with adopt=/srv/t"
        )
        for line in made["lines"]
    )
    made = adopt({"server.conf": SOUND["config/server.conf"]}, "/srv/talk/b", entry="server.conf")
    assert len(valid(made)[1]) == 3


def test_a_turn_server_of_a_package_beside_compose_is_taken_and_said():
    compose = SOUND["compose.yaml"]
    start = compose.index("  coturn:\n")
    files = {name: text for name, text in SOUND.items() if name != "turnserver.conf"}
    files["compose.yaml"] = compose[:start] + compose[compose.index("networks:\n", start) :]
    files["/etc/turnserver.conf"] = SOUND["turnserver.conf"]
    made = adopt(files)
    assert secrets_of(made)["nc.turn"] == adopt_bed.SECRETS["turn"]
    assert (
        "  - No service beside signaling is a TURN server: that of /etc/turnserver.conf was taken for it."
        in made["lines"]
    )


# Portainer, and what compose can do.

STACKS = "/var/lib/docker/volumes/portainer_data/_data/compose"


@pytest.mark.parametrize("path", [STACKS, f"{STACKS}/12"])
def test_a_stack_of_portainer_in_its_last_version(path):
    made = adopt(at_root(PORTAINER, path), path)
    settings, instances = valid(made)
    assert settings == {
        "hpb_domain": "office.example.org",
        "hpb_turn_domain": "turn.example.org",
        "hpb_path": "/hpb",
        "traefik_enabled": False,
        "hpb_proxy": "caddy",
        "hpb_signaling_port": 8880,
    }
    assert [(one["id"], one["session_limit"]) for one in instances] == [("office", 30)]
    assert secrets_of(made) == {
        "office.backend": FIELD_SECRETS["stack nc"],
        "office.turn": FIELD_SECRETS["stack turn"],
        "internal": FIELD_SECRETS["stack internal"],
    }
    assert "# hpb_public_ip: 203.0.113.4\n" in made["group_vars"]
    said = "\n".join(made["lines"])
    assert (
        "In Portainer on hpb1 stop the containers of relay, hpb, bus, media, not their stack: stopping that removes"
        in said
    )
    assert "No part of the backend, and left alone: watchtower (containrrr/watchtower)." in said
    assert (
        "v2/docker-compose.yml uses TZ, which no file that was read sets: it was taken as empty. Put it into " in said
    )


def test_what_a_stack_calls_its_own_directory_is_below_data_on_the_host():
    compose = (
        "services: {hpb: {image: strukturag/nextcloud-spreed-signaling, volumes: [./server.conf:/config/server.conf]}}"
    )
    files = {"docker-compose.yml": compose, "/data/compose/3/server.conf": SOUND["config/server.conf"]}
    assert len(valid(adopt(files, f"{STACKS}/3"))[1]) == 3


IMAGE = "strukturag/nextcloud-spreed-signaling:2.1.1"
CONF = SOUND["config/server.conf"]


def server(rest, more=""):
    """Return a compose file with one signaling server."""
    return f"services: {{s: {{image: '{IMAGE}', {rest}}}}}\n{more}"


BACKEND = f"BACKENDS: nc, BACKEND_NC_URLS: 'https://nc.example.org', BACKEND_NC_SHARED_SECRET: {secret('x')}"


@pytest.mark.parametrize(
    "files",
    [
        # Variables in the source of a volume.
        {
            "compose.yml": server("volumes: ['${CONF:-/abs/server.conf}:/config/server.conf']"),
            "/abs/server.conf": CONF,
        },
        {
            "compose.yml": f"services: {{s: {{image: '{IMAGE}', volumes: ['${{DIR}}/hpb:/config']}}}}",
            ".env": "DIR=/opt\n",
            "/opt/hpb/server.conf": CONF,
        },
        # Configs and secrets, from files, from the file itself, from a variable.
        {
            "compose.yml": server(
                "configs: [{source: c, target: /config/server.conf}]", "configs: {c: {file: ./conf/server}}"
            ),
            "conf/server": CONF,
        },
        {
            "compose.yml": f"services: {{s: {{image: '{IMAGE}', secrets: [server.conf], environment: "
            "{CONFIG: /run/secrets/server.conf}}}\nsecrets: {server.conf: {environment: CONFIG_TEXT}}",
            ".env": "CONFIG_TEXT='" + CONF.replace("'", "") + "'\n",
        },
        {
            "compose.yml": server(
                "secrets: [{source: conf, target: /config/server.conf}]", "secrets: {conf: {file: /srv/secret}}"
            ),
            "/srv/secret": CONF,
        },
        # A named volume, and one that is bound.
        {
            "compose.yml": f"services: {{s: {{image: '{IMAGE}', volumes: ['conf:/config']}}}}\nvolumes: {{conf: }}",
            "/var/lib/docker/volumes/talk_conf/_data/server.conf": CONF,
        },
        {
            "compose.yml": f"name: other\nservices: {{s: {{image: '{IMAGE}', volumes: ['conf:/config']}}}}\n"
            "volumes: {conf: {name: mine}}",
            "/var/lib/docker/volumes/mine/_data/server.conf": CONF,
        },
        {
            "compose.yml": server(
                "volumes: [{type: volume, source: c, target: /config}]",
                "volumes: {c: {driver_opts: {type: none, o: bind, device: /opt/c}}}",
            ),
            "/opt/c/server.conf": CONF,
        },
        # The path of the configuration in a command, and in a directory that is mounted.
        {
            "compose.yml": f"services: {{s: {{image: '{IMAGE}', volumes: ['./etc:/etc/hpb'], "
            "command: /usr/bin/nextcloud-spreed-signaling --config=/etc/hpb/server.conf}}",
            "etc/server.conf": CONF,
        },
        # Includes: short, long with a directory and an env file, and of files that include.
        {
            "compose.yml": "include: [sub/hpb.yml]",
            "sub/hpb.yml": f"services: {{s: {{image: '{IMAGE}', volumes: ['.:/config']}}}}",
            "sub/server.conf": CONF,
        },
        {
            "compose.yml": "include: [{path: [a.yml, ../b/b.yml], project_directory: /opt, env_file: e.env}]",
            "a.yml": f"services: {{s: {{image: '{IMAGE}', volumes: ['./${{NAME}}:/config/server.conf']}}}}",
            "/srv/b/b.yml": "services: {s: {restart: always}}",
            "e.env": "NAME=x.conf",
            "/opt/x.conf": CONF,
        },
        {
            "compose.yml": "include: [a/a.yml]",
            "a/a.yml": "include: [{path: ../b/b.yml}]",
            "b/b.yml": f"services: {{s: {{image: '{IMAGE}', env_file: [b.env], environment: {{BACKENDS: nc}}}}}}",
            "b/b.env": f"BACKEND_NC_URLS=https://nc.example.org\nBACKEND_NC_SHARED_SECRET={secret('x')}\n",
        },
        # Extends: in the file, from another one, and in a row.
        {"compose.yml": f"services: {{a: {{environment: {{{BACKEND}}}}}, s: {{extends: a, image: '{IMAGE}'}}}}"},
        {
            "compose.yml": f"services: {{s: {{extends: {{file: c/c.yml, service: b}}, image: '{IMAGE}'}}}}",
            "c/c.yml": "services: {a: {volumes: ['./server.conf:/config/server.conf']}, b: {extends: {service: a}}}",
            "c/server.conf": CONF,
        },
        # Overrides, merge keys, a list above a mapping, and tags.
        {
            "compose.yml": f"x: &x {{image: '{IMAGE}'}}\nservices: {{s: {{<<: *x, environment: "
            f"{{{BACKEND.replace('nc,', 'no,')}}}}}}}",
            "compose.override.yml": "services: {s: {environment: [BACKENDS=nc]}}",
        },
        {
            "docker-compose.yaml": f"services: {{s: {{image: '{IMAGE}', command: [--config, /no/server.conf], "
            "volumes: ['/no:/config']}}",
            "docker-compose.override.yml": "services: {s: {command: !reset null, volumes: !override ['.:/config']}}",
            "server.conf": CONF,
        },
        # Several files by a variable, one of another name, and one that is named.
        {
            ".env": "COMPOSE_FILE=a.yml:b.yml",
            "a.yml": f"services: {{s: {{image: '{IMAGE}'}}}}",
            "b.yml": f"services: {{s: {{environment: {{{BACKEND}}}}}}}",
        },
        {"talk.yml": f"services:\n  s: {{image: '{IMAGE}', environment: {{{BACKEND}}}}}"},
        # Variables of a service without its image's name, and the old form of backends.
        {"compose.yml": f"services: {{mine: {{image: 'registry.example.org/hpb:1', environment: {{{BACKEND}}}}}}}"},
        {
            "compose.yml": server(
                f"environment: {{BACKENDS_COMPAT_ALLOWED: nc.example.org, BACKENDS_COMPAT_SECRET: {secret('x')}}}"
            )
        },
    ],
)
def test_a_signaling_server_is_found_however_compose_says_it(files):
    made = adopt(files, entry="")
    assert "nc" in [one["id"] for one in valid(made)[1]], made


def test_a_compose_file_of_another_name_can_be_named():
    files = {
        "other.yml": f"services: {{s: {{image: '{IMAGE}', environment: {{{BACKEND}}}}}}}",
        "compose.yml": "services: {web: {image: nginx}}",
    }
    made = adopt(files, entry="other.yml")
    assert [one["id"] for one in valid(made)[1]] == ["nc"]
    assert "     cd /srv/talk && docker compose -f other.yml stop" in made["lines"]


@pytest.mark.parametrize(
    ("files", "note"),
    [
        ({"compose.yml": "include: [none.yml]"}, "none.yml, which compose.yml includes, could not be read."),
        (
            {"compose.yml": "include: [a.yml]", "a.yml": "include: [compose.yml]"},
            "compose.yml includes itself: it was left out there.",
        ),
        (
            {"compose.yml": "services: {s: {extends: {file: none.yml, service: a}}}"},
            "none.yml, which compose.yml extends for s, could not be read.",
        ),
        (
            {"compose.yml": "services: {s: {extends: a}}"},
            "The service s extends a, which is not in compose.yml: it was taken as it is.",
        ),
        (
            {"compose.yml": "services: {s: {extends: t}, t: {extends: s}}"},
            "The service s in compose.yml extends itself: it was taken as it is.",
        ),
        (
            {"compose.yml": f"services: {{s: {{image: '{IMAGE}', configs: [c]}}}}\nconfigs: {{c: {{external: true}}}}"},
            "What configs.c of the service s is, only Docker knows: it could not be read.",
        ),
        (
            {"compose.yml": server("env_file: [a.env, {path: b.env, required: false}]")},
            "a.env, the env file of the service s, could not be read.",
        ),
        (
            {"compose.yml": f"services: {{s: {{image: '{IMAGE}', volumes: ['./x:/config/server.conf']}}}}"},
            "x, which the service s mounts at /config/server.conf, could not be read.",
        ),
        ({".env": "COMPOSE_FILE=a.yml"}, "a.yml, which COMPOSE_FILE names, could not be read."),
        (
            {"compose.yml": f"services: {{s: {{image: '{IMAGE}', environment: {{BACKENDS_ALLOWALL: 'true'}}}}}}"},
            "The old signaling server takes every Nextcloud that knows its secret (allowall); only those that it names "
            "were taken over.",
        ),
        (
            {"compose.yml": f"services: {{s: {{image: '{IMAGE}', environment: {{BACKENDS: '${{B}}'}}}}}}"},
            "compose.yml uses B, which no file that was read sets: it was taken as empty. Put it into .env where "
            "something is missing below.",
        ),
    ],
)
def test_a_refusal_says_what_was_noticed_until_then(files, note):
    problems = adopt(files, skipped=["big.conf has 300000 bytes, more than a configuration has."])["problems"]
    assert not problems[0].startswith("  - ")
    assert problems[problems.index("Noticed until then:") + 1] == (
        "  - big.conf has 300000 bytes, more than a configuration has."
    )
    assert f"  - {note}" in problems


def test_what_could_not_be_read_is_said_in_the_end_as_well():
    made = adopt(FILES, skipped=["data cannot be looked into: Permission denied."])
    assert "  - data cannot be looked into: Permission denied." in made["lines"]


def test_none_that_can_be_taken_over_says_why_with_what_was_noticed():
    conf = "[backend]\nbackends = a\nallowall = true\n[a]\nurl = ftp://x\nsecret = " + secret("x")
    problems = adopt({"server.conf": conf})["problems"]
    assert problems[0] == "None of the Nextclouds can be taken over:"
    assert any("takes every Nextcloud that knows its secret (allowall)" in line for line in problems)


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        ("ghcr.io/nextcloud-releases/aio-talk:latest", "aio"),
        ("nextcloud/aio-talk", "aio"),
        ("ghcr.io/nextcloud-releases/aio-talk-recording:latest", "recording"),
        ("nextcloud/aio-talk-recording@sha256:0", "recording"),
        ("nextcloud/all-in-one", "aio_master"),
        ("strukturag/nextcloud-spreed-signaling:2.1.1", "signaling"),
        ("quay.io/strukturag/nextcloud-spreed-signaling:2.1.1-proxy", ""),
        ("canyan/janus-gateway:master", "janus"),
        ("instrumentisto/coturn", "coturn"),
        ("ghcr.io/processone/eturnal", "eturnal"),
        ("nats:2.12-alpine", "nats"),
        ("natsio/prometheus-nats-exporter", ""),
        ("natsio/nats-box", ""),
        ("traefik:v3", "proxy"),
        ("jc21/nginx-proxy-manager:latest", "form"),
        ("zoraxydocker/zoraxy", "form"),
        ("nginx", ""),
        ("tecnativa/docker-socket-proxy", ""),
        ("mariadb", ""),
    ],
)
def test_what_a_service_is(image, kind):
    service = _adopt_compose.Service(name="proxy", image=image)
    assert _adopt_compose.kind_of(service) == kind


# Secrets: D3.


def test_a_secret_that_is_accepted_is_the_same_one_in_server_conf():
    """What the rules let through is not changed by the language of that file, and what they refuse for it is."""
    chosen = random.Random(42)
    alphabet = 5 * (string.ascii_letters + string.digits) + string.punctuation + " \t"
    accepted = 0
    for _number in range(3000):
        value = "".join(chosen.choice(alphabet) for _count in range(40))
        if _secrets.fault("nc.backend", value) is None:
            accepted += 1
            conf = _adopt_text.ini(f"[nc]\nsecret = {value}\nsessionlimit = 0\n")
            assert conf["nc"] == {"secret": value, "sessionlimit": "0"}
            assert re.sub(r"\$\((\w+)\)", "", value) == value
    assert accepted > 50
    for value in ("#" + "a" * 40, "a %(x)s" + "a" * 40, "a" * 40 + " #b"):
        assert _adopt_text.ini(f"[nc]\nsecret = {value}\n").get("nc") != {"secret": value}
        assert _secrets.fault("nc.backend", value)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (base64_secret("any"), None),
        ("bAse64-url_" * 4, None),
        (
            "with a blank " * 4,
            "NC.backend was expected to hold letters, digits and signs of ASCII only and holds something",
        ),
        ("${NOT_REPLACED_ANYWHERE_1234567890}", "NC.backend holds one of"),
        ("PASTE_YOUR_SIGNALING_SECRET_HERE_PLEASE", "NC.backend is a placeholder made of words, which can be guessed"),
    ],
)
def test_base64_is_taken_over_and_what_cannot_work_is_named(value, reason):
    text = FILES["talk-hpb/signalling.env"].replace(adopt_bed.SECRETS["NC"], f"'{value}'")
    made = _adopted({**FILES, "talk-hpb/signalling.env": text}, "/srv/talk", HOST, "inventory", "x.vault")
    if reason is None:
        assert secrets_of(made)["NC.backend"] == value
    else:
        assert "NC.backend" not in secrets_of(made)
        assert any(
            line.startswith(f"  - The shared secret of NC was not taken over: {reason}") for line in made["lines"]
        )


# Addresses and ports: D5, D6.


@pytest.mark.parametrize(
    ("lines", "wanted", "asked"),
    [
        ("external-ip=$(detect-external-ip)", None, "found its address by itself"),
        ("external-ip=${EXTERNAL_IP}", None, "found its address by itself"),
        ("external-ip=turn.example.org", None, "found its address by itself"),
        ("external-ip=172.18.0.3", None, "was told a private address"),
        ("external-ip=203.0.113.5/10.0.0.5", "203.0.113.5", None),
        ("external-ip=2001:db8::5\nexternal-ip=203.0.113.5", "203.0.113.5", None),
        ("external-ip=", None, None),
        ("", None, None),
    ],
)
def test_a_public_address_is_proposed_only_if_it_is_one(lines, wanted, asked):
    settings = adopt({**SOUND, "turnserver.conf": f"{SOUND['turnserver.conf']}\n{lines}\n"})["group_vars"]
    proposed = re.findall(r"(?m)^# hpb_public_ip: (.*)$", settings)
    assert proposed == ([wanted] if wanted else ["192.0.2.10"] if asked else [])
    sentence = f"# FILL IN: only if this host is behind NAT; the old TURN server {asked}"
    assert (sentence in settings) is bool(asked)


TLS = "cert=/c\npkey=/k\n"


@pytest.mark.parametrize(
    ("lines", "own", "wanted", "left_out"),
    [
        ("listening-port=3478\ntls-listening-port=3478\n" + TLS, True, {}, "hpb_turn_tls_port: 3478 was left out: "),
        (
            "listening-port=3479\ntls-listening-port=3479\n" + TLS,
            True,
            {"hpb_turn_port": 3479},
            "hpb_turn_tls_port: 3479 was",
        ),
        ("listening-port=3478\ntls-listening-port=3478\n" + TLS, False, {}, "hpb_turn_tls_port: 3478 was left out: "),
        (
            "tls-listening-port=443\n" + TLS,
            True,
            {},
            "hpb_turn_tls_port: 443 was left out: hpb_turn_tls_port is 443, expected",
        ),
        (
            "listening-port=443\n",
            True,
            {},
            "hpb_turn_port: 443 was left out: hpb_turn_port is 443, expected a port of its",
        ),
        ("listening-port=443\n", False, {"hpb_turn_port": 443}, None),
        ("listening-port=8188\n", True, {}, "hpb_turn_port: 8188 was left out: "),
        ("tls-listening-port=5349\n" + TLS, True, {"hpb_turn_tls_port": 5349}, None),
        ("listening-port=99999\n", True, {}, "hpb_turn_port: 99999 was left out: hpb_turn_port is '99999', expected"),
        ("listening-port=none\n", True, {}, None),
    ],
)
def test_ports_that_cannot_be_are_left_out_and_said(lines, own, wanted, left_out):
    compose = (
        SOUND["compose.yaml"]
        if not own
        else SOUND["compose.yaml"].replace('ports: ["127.0.0.1:18080:8080"]', "init: true")
    )
    made = adopt({**SOUND, "compose.yaml": compose, "turnserver.conf": SOUND["turnserver.conf"] + lines})
    settings, _instances = valid(made)
    assert {key: value for key, value in settings.items() if "turn" in key and "domain" not in key} == wanted
    said = [line for line in made["lines"] if "was left out: " in line]
    assert [line for line in said if left_out in line] if left_out else said == [], said


# eturnal in a container.


@pytest.mark.parametrize(
    ("service", "files", "wanted"),
    [
        (f"environment: {{ETURNAL_SECRET: {secret('et')}, ETURNAL_RELAY_MIN_PORT: 50000}}", {}, {secret("et")}),
        (
            "environment: {ETURNAL_SECRET__FILE: /run/secrets/turn}\n    secrets: [turn]",
            {"turn.txt": f"{secret('et')}\n"},
            {secret("et")},
        ),
        (
            "volumes: ['./eturnal.yml:/etc/eturnal.yml']",
            {"eturnal.yml": f"eturnal: {{secret: {secret('et')}}}"},
            {secret("et")},
        ),
        ("volumes: ['./eturnal.yml:/etc/eturnal.yml']", {"eturnal.yml": "eturnal: [1]"}, set()),
        ("volumes: ['./eturnal.yml:/etc/eturnal.yml']", {"eturnal.yml": "eturnal: {"}, set()),
    ],
)
def test_eturnal_in_a_container(service, files, wanted):
    text = (
        f"services:\n  s: {{image: '{IMAGE}', environment: {{{BACKEND}}}}}\n"
        "  t:\n    image: ghcr.io/processone/eturnal\n"
        f"    {service}\nsecrets: {{turn: {{file: ./turn.txt}}}}\n"
    )
    made = adopt({"compose.yml": text, **files})
    assert {value for name, value in secrets_of(made).items() if name.endswith(".turn")} == wanted
    assert any("The TURN server is eturnal" in line for line in made["lines"])


def test_defects_of_eturnal():
    text = (
        f"services:\n  s: {{image: '{IMAGE}', environment: {{{BACKEND}}}}}\n"
        "  t:\n    image: ghcr.io/processone/eturnal\n"
        "    volumes: ['./e.yml:/etc/eturnal.yml']\n    ports: ['3478:3478/udp', '50000-50500:50000-50500/udp']\n"
    )
    conf = "eturnal: {secret: x, blacklist_peers: [], listen: [{port: 3478, transport: udp}]}"
    found = _adopt.read({"compose.yml": text, "e.yml": conf}, "/srv/talk", load)
    assert {6, 8, 9} <= {defect.number for defect in _adopt_defects.find(found)}


# The module that reads.


def reading(folder, **options):
    return run_module("adopt_read", {"path": str(folder), "usual_places": False, **options})


@pytest.mark.parametrize(
    ("files", "path", "wanted"),
    [
        (AIO_TALK, "home/me/docker/hpb", set(AIO_TALK) - {"home/me/docker/npm/docker-compose.yml"}),
        (NATIVE, "etc/nextcloud-spreed-signaling", set(NATIVE)),
        (NATIVE, "etc", set(NATIVE)),
        (PORTAINER, "var/lib/docker/volumes/portainer_data/_data/compose", set(PORTAINER)),
        (ALL_IN_ONE, AIO_DATA[1:], set(ALL_IN_ONE)),
    ],
)
def test_what_an_installation_leads_to_is_read(tmp_path, files, path, wanted):
    adopt_field.written(tmp_path, files)
    result = reading(tmp_path / path, usual_places="npm" in str(wanted))
    root = tmp_path / path
    assert {
        os.path.relpath(root / name, tmp_path) for name in result["files"] if str(root / name).startswith(str(tmp_path))
    } == wanted
    assert result["entry"] == ""


def test_one_file_can_be_named_and_what_it_leads_to_is_read_wherever_it_is(tmp_path):
    files = {
        "talk/hpb.yml": "include: [deep/er/than/it/is/looked/a.yml]\n"
        "services: {s: {volumes: ['${CONF:-@ROOT@/abs/server.conf}:/c', "
        "'${DIR}:/d', './link:/l']}}\n",
        "talk/.env": "DIR=@ROOT@/mounted\nBROKEN='\n",
        "talk/deep/er/than/it/is/looked/a.yml": "services: {a: {env_file: b.env}}",
        "talk/deep/er/than/it/is/looked/b.env": "A=1",
        "abs/server.conf": "[http]",
        "mounted/turnserver.conf": "realm=x",
        "mounted/key.pem": "x",
        "mounted/key.conf": "-----BEGIN PRIVATE KEY-----",
        "linked/server.conf": "[app]",
        "talk/secret-token": "x",
        "not/named.conf": "x",
    }
    adopt_field.written(tmp_path, files)
    (tmp_path / "talk/link").symlink_to(tmp_path / "linked")
    (tmp_path / "talk/.env").write_text(f"DIR={tmp_path}/mounted\n", encoding="utf-8")
    result = reading(tmp_path / "talk/hpb.yml")
    assert (result["path"], result["entry"]) == (str(tmp_path / "talk"), "hpb.yml")
    assert set(result["files"]) == {
        "hpb.yml",
        ".env",
        "deep/er/than/it/is/looked/a.yml",
        "deep/er/than/it/is/looked/b.env",
        str(tmp_path / "abs/server.conf"),
        str(tmp_path / "mounted/turnserver.conf"),
        "link/server.conf",
    }


def test_odd_directories_are_bounded_and_said(tmp_path):
    folder = tmp_path / "talk"
    adopt_bed.write(folder, {"compose.yml": "services: {}", "latin.conf": "x"})
    (folder / "latin.conf").write_bytes("# Schlüssel\nrealm=x\n".encode("latin-1"))
    many = folder / "many"
    many.mkdir()
    for number in range(2500):
        (many / f"{number:04}.conf").write_text("x", encoding="utf-8")
    (folder / "a").symlink_to(folder / "a")
    (folder / "b.conf").symlink_to(folder / "b.conf")
    (folder / "c").symlink_to(folder)
    (folder / "d").mkdir()
    (folder / "d/up").symlink_to(folder.parent)
    (folder / "f.conf").mkdir()
    (folder / "socket.yml").symlink_to("/dev/zero")
    for number in range(30):
        (folder / f"binary{number}.conf").write_bytes(b"\0" * 10)
    result = reading(folder)
    assert len(result["files"]) == 400
    assert {"compose.yml", "latin.conf"} <= set(result["files"])
    assert len(result["skipped"]) == 21
    assert "many has more entries than were looked at." in result["skipped"]
    assert result["skipped"][-1].endswith(" more were left out like these.")
    # Nothing of that keeps the filter from saying a sentence.
    assert adopt(result["files"], result["path"], skipped=result["skipped"])["problems"]


def test_what_may_not_be_read_is_said(tmp_path, monkeypatch):
    """In this process, since root may read everything."""
    adopt_bed.write(tmp_path, {"compose.yml": "x: {}", "no.conf": "x", "dir/x.conf": "x", "there.conf": "x"})

    def refused(real, name):
        def call(path, *arguments):
            if str(path).endswith(name):
                raise PermissionError(13, "Permission denied")
            return real(path, *arguments)

        return call

    monkeypatch.setattr(adopt_read.os, "scandir", refused(os.scandir, "dir"))
    monkeypatch.setattr(adopt_read.os, "open", refused(os.open, "no.conf"))
    reader = adopt_read.collect(tmp_path, usual_places=False)
    assert reader.skipped == [
        "dir cannot be looked into: Permission denied.",
        "no.conf cannot be read: Permission denied.",
    ]
    assert set(reader.files) == {"compose.yml", "there.conf"}


# Odd files.


def odd(value, chosen):
    """Return a document in which one thing is something else."""
    other = chosen.choice([None, "", "text", [], {}, ["a"], {"a": None}, 5, [[]], [{}], "a:b:c:d", "${", "!x"])
    if isinstance(value, dict) and value and chosen.random() < 0.85:
        key = chosen.choice([*value])
        return {**value, key: odd(value[key], chosen)}
    if isinstance(value, list) and value and chosen.random() < 0.85:
        place = chosen.randrange(len(value))
        return [*value[:place], odd(value[place], chosen), *value[place + 1 :]]
    return other


def test_files_of_any_shape_lead_to_a_sentence():
    chosen = random.Random(7)
    portainer = at_root(PORTAINER, STACKS)
    cases = [
        ("/srv/talk", FILES, "compose.yml"),
        ("/srv/talk", SOUND, "compose.yaml"),
        (STACKS, portainer, "12/v2/docker-compose.yml"),
        (STACKS, portainer, "/opt/eturnal/eturnal.yml"),
        ("/home/me/docker", at_root(AIO_TALK, "/home/me/docker"), "hpb/docker-compose.yml"),
        (AIO_DATA, at_root(ALL_IN_ONE, AIO_DATA), "configuration.json"),
    ]
    for number in range(180):
        path, files, name = cases[number % len(cases)]
        document = odd(copy.deepcopy(yaml.safe_load(files[name])), chosen)
        made = _adopted({**files, name: yaml.safe_dump(document)}, path, HOST, "inventory", "x.vault")
        assert made["problems"] or made["hosts"]
        assert not any("a shape that was not expected" in line for line in made["problems"]), (
            name,
            document,
            made["problems"],
        )


def test_anchors_without_an_end_are_refused():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    text = "\n".join([*lines, "services: {s: {image: nginx}}"])
    assert adopt({"compose.yml": text})["problems"] == [
        "compose.yml has more than 200000 values, expected a compose file: correct adopt=."
    ]


def test_what_was_never_thought_of_is_said_too(monkeypatch):
    monkeypatch.setattr(_adopt_proxy, "routes", lambda *_arguments: 1 / 0)
    assert adopt(FILES, skipped=["a note."])["problems"] == [
        "The files of /srv/talk have a shape that was not expected (ZeroDivisionError at <lambda>, line "
        f"{test_what_was_never_thought_of_is_said_too.__code__.co_firstlineno + 1}): report this with the compose "
        "file, without its secrets, or begin with inventory.example.",
        "Noticed until then:",
        "  - a note.",
    ]
