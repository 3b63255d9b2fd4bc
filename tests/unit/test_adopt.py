# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the files of a compose installation to an inventory, a secrets file, and the defects that it has."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import adopt_bed
import pytest
import yaml
from adopt_bed import FILES, SECRETS, SOUND, secret
from ansible_collections.nextcloud_talk.hpb.plugins.filter.adopted import FilterModule, load
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import (
    _adopt,
    _adopt_defects,
    _adopt_inventory,
    _adopt_text,
    _secrets,
)
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._backends import backends
from module_process import run as run_module

ROOT = Path(__file__).resolve().parents[2]
HOST = {"name": "hpb1", "ansible_user": "root", "ansible_host": ""}
adopted = FilterModule().filters()["adopted"]


def adopt(files, host=None):
    """Return what the filter makes of the files; no secret is anywhere but in the secrets file."""
    made = adopted(files, "/srv/talk", host or HOST, "inventory", "inventory-secrets.vault")
    shown = json.dumps({key: value for key, value in made.items() if key != "secrets"})
    for value in [*SECRETS.values(), secret("hash"), secret("block", 32), secret("internal")]:
        assert value not in shown
    return made


def edited(files, *edits):
    """Return the files with texts replaced, (name, old, new); an old that is empty is a file that is new."""
    result = dict(files)
    for name, old, new in edits:
        assert old in result.get(name, ""), f"{name} has no {old}"
        result[name] = result[name].replace(old, new) if old else new
    return result


def understood(files):
    return _adopt.read(files, "/srv/talk", load)[0]


def document(files):
    return json.loads(adopt(files)["secrets"])


# The languages.

KNOWN = {"A": "a", "EMPTY": ""}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("$A-${A}", "a-a"),
        ("$$A $$", "$A $"),
        ("$NONE|${NONE}", "|"),
        ("${NONE:-x}${EMPTY:-y}${A:-z}", "xya"),
        ("${NONE-x}${EMPTY-y}${A-z}", "xa"),
        ("${A:+x}${EMPTY:+y}${EMPTY+z}${NONE+n}", "xz"),
        ("${NONE:-${OTHER:-in${A}}}!", "ina!"),
        ("${A:?must be there}${A?so}", "aa"),
        ("5$ and $1", "5$ and $1"),
    ],
)
def test_variables_are_replaced_as_compose_does_it(text, expected):
    assert _adopt_text.interpolate(text, KNOWN) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a ${A", "has ${ without a } after it, expected both: correct it"),
        ("${1}", "has ${ without the name of a variable after it, expected one: correct it"),
    ],
)
def test_variables_that_cannot_be_replaced(text, message):
    with pytest.raises(_adopt_text.TextError) as caught:
        _adopt_text.interpolate(text, KNOWN)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("X=1", "1"),
        ("  export X = 1 ", "1"),
        ("X: 1", "1"),
        ("X=1 # one", "1"),
        ("X=1#one", "1#one"),
        ("X=#one", ""),
        ("X= # one", ""),
        ('X="1 # one" # two', "1 # one"),
        ("X='$A # one'", "$A # one"),
        ('X="a\\"b\\n$A\\$A\\\\"', 'a"b\na$A\\'),
        ("X=$A", "a"),
        ("Y=2\nX=${Y}", "2"),
        ("A=changed\nX=$A", "a"),
        ('X="two\nlines"', "two\nlines"),
        ("X=1\r", "1"),
        ("\ufeffX=1", "1"),
        ("X=a=b", "a=b"),
        ("#X=2\nX=1\n", "1"),
        ("X=1\nX=2", "2"),
    ],
)
def test_env_files_are_read_as_compose_does_it(line, value):
    assert _adopt_text.environment(line, {"A": "a"}).values["X"] == value


def test_env_files_tell_what_is_fragile_in_them():
    read = _adopt_text.environment("A=1\nB=2 # two\nC='3'\nD=\"4\" # four\nE\n", {})
    assert (read.commented, read.quoted) == (["B", "D"], ["C", "D"])
    assert "E" not in read.values
    with pytest.raises(_adopt_text.TextError) as caught:
        _adopt_text.environment("A=1\nB='never\nclosed", {})
    assert str(caught.value) == "has a quote in line 2 that is not closed, expected one more: correct it"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[s]\nx = 1", "1"),
        ("[S]\nX: 1", "1"),
        ("[s]\nx = a:b=c", "a:b=c"),
        ("[s]\nx:a=b", "a=b"),
        ("[s]\nx = 1 # one", "1"),
        ("[s]\nx = 1\t; one", "1"),
        ("[s]\nx = 1;one#two", "1;one#two"),
        ("[s]\nx =# one", "# one"),
        ('[s]\nx = "1"', '"1"'),
        ("[s]\nx = 1\n  x = 2\n", "2"),
        ("[s]\nx = 1\nremote\nREM x = 2", "1"),
        ("[s]\nx = 1\nmore", "1\nmore"),
        ("[default]\nd = 9\n[s]\nx = %(d)s%(y)s\ny = 8", "98"),
        ("[s]\n#x=2\n;x=3\nx=1", "1"),
    ],
)
def test_server_conf_is_read_as_the_signaling_server_does_it(text, value):
    assert _adopt_text.ini(text)["s"]["x"] == value


def test_server_conf_with_an_unknown_name_is_an_option_that_is_not_set():
    assert _adopt_text.ini("[s]\nx = a%(none)s\ny = %(y)s")["s"] == {}
    with pytest.raises(_adopt_text.TextError) as caught:
        _adopt_text.ini("[s]\nno option")
    assert str(caught.value).startswith("has a line that is neither a [section] nor name = value")


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["turnserver", "--realm=r", "-v"], [("realm", "r"), ("verbose", "")]),
        (["--realm", "r", "-n"], [("realm", "r"), ("n", "")]),
        (["-r", "r", "-c", "/x.conf"], [("realm", "r"), ("c", "/x.conf")]),
        (["-p3479", "-X=203.0.113.1"], [("listening-port", "3479"), ("external-ip", "203.0.113.1")]),
    ],
)
def test_arguments_are_read_as_coturn_does_it(words, options):
    assert _adopt_text.arguments(words, _adopt.COTURN_SHORT) == options


def test_turnserver_conf_and_janus_jcfg():
    assert _adopt_text.turnserver("# no\nverbose\n--realm = r\nstatic-auth-secret=a=b\n") == [
        ("verbose", ""),
        ("realm", "r"),
        ("static-auth-secret", "a=b"),
    ]
    text = 'nat: {\n  nat_1_1_mapping = "203.0.113.1"\n  # stun_server = "x"\n}\nmedia: { }\n  rtp_port_range = "1-2"'
    read = _adopt_text.jcfg(text)
    assert (read["nat_1_1_mapping"], read["rtp_port_range"], read.get("stun_server")) == ("203.0.113.1", "1-2", None)


# What is understood.


def test_the_installation_as_people_have_it():
    found = understood(FILES)
    assert found.kinds == {
        "signaling": "signalling",
        "janus": "janus",
        "coturn": "coturn",
        "eturnal": "",
        "nats": "nats",
        "proxy": "",
        "form": "",
    }
    assert [(one.name, one.urls, one.secret, one.session_limit) for one in found.backends] == [
        ("NC", ["https://nc.example.org"], SECRETS["NC"], 15),
        ("DEVNC", ["https://dev.example.org"], SECRETS["DEVNC"], 5),
        ("TESTNC", ["https://test.example.org"], SECRETS["TESTNC"], 5),
    ]
    assert (_adopt.domain(found), _adopt.turn_domain(found)) == ("talk.example.org", "turn.example.org")
    assert _adopt.turn_secrets(found) == [SECRETS["turn"]]
    assert found.option("mcu", "maxstreambitrate") == "2097152"
    coturn = found.service("coturn")
    assert (coturn.publishes(3478, "tcp").host, coturn.publishes(50050, "udp").host) == ((3478, 3478), (50000, 50099))


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ([("compose.yml", "- --realm=${COTURN_FQDN}", "- --realm=lan")], ("talk.example.org", "turn.example.org")),
        (
            [("compose.yml", "rule=Host(`${TALKHPB_FQDN}`)", "rule=Host(`HPB.example.org`)")],
            ("hpb.example.org", "turn.example.org"),
        ),
        ([("compose.yml", "- traefik.", "- other.")], ("talk.example.org", "turn.example.org")),
        (
            [
                (".env", "TALKHPB_FQDN=talk.example.org", "TALKHPB_FQDN="),
                ("compose.yml", "realm=${COTURN_FQDN}", "realm=192.0.2.1"),
                (".env", "COTURN_FQDN=turn.example.org\n", ""),
            ],
            ("", ""),
        ),
    ],
)
def test_names(edits, expected):
    found = understood(edited(FILES, *edits))
    assert (_adopt.domain(found), _adopt.turn_domain(found)) == expected


def test_a_mounted_server_conf_wins_over_variables():
    """The image's entrypoint writes none when there is one."""
    files = edited(SOUND, ("compose.yaml", 'ports: ["127.0', 'environment: {BACKENDS: other}\n    ports: ["127.0'))
    assert [one.name for one in understood(files).backends] == ["nc", "dev-nc", "turn"]


def test_an_override_and_a_variable_of_the_environment():
    override = "services: {signalling: {environment: [BACKEND_NC_URL=https://new.example.org], ports: !reset []}}"
    files = edited(FILES, ("compose.override.yml", "", override))
    assert understood(files).backends[0].urls == ["https://new.example.org"]
    conf = ("config/server.conf", f"secret = {SECRETS['NC']}", "secret = $(NC_SECRET)")
    environment = ("compose.yaml", 'ports: ["127.0', 'environment: ["NC_SECRET=from-there"]\n    ports: ["127.0')
    assert understood(edited(SOUND, conf, environment)).backends[0].secret == "from-there"
    assert understood(edited(SOUND, conf)).backends[0].secret == "NC_SECRET"


def test_compose_files_that_the_environment_names():
    files = {"talk.yml" if name == "compose.yml" else name: text for name, text in FILES.items()}
    more = "services: {signalling: {environment: [BACKEND_NC_URL=https://new.example.org]}}"
    files = edited(
        {**files, "more/x.yml": more}, (".env", "NATS_VERSION=", "COMPOSE_FILE=talk.yml:./more/x.yml\nNATS_VERSION=")
    )
    assert understood(files).backends[0].urls == ["https://new.example.org"]


def test_a_server_conf_alone():
    made = adopt({"server.conf": SOUND["config/server.conf"], "turnserver.conf": SOUND["turnserver.conf"]})
    assert [*yaml.safe_load(made["hosts"])["nextcloud"]["children"]] == ["nc", "dev_nc", "turn_nc"]
    assert any("Stop the old programs on hpb1, for good," in line for line in made["lines"])
    assert "     systemctl disable --now nextcloud-spreed-signaling janus nats-server coturn" in made["lines"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "/srv/talk has none of compose.yaml, compose.yml, docker-compose.yaml, docker-compose.yml and no server."),
        ({"compose.yml": "a: [b"}, "/srv/talk/compose.yml is no YAML, expected a compose file: correct it."),
        ({"compose.yml": "a"}, "/srv/talk/compose.yml has no mapping 'services', expected a compose file: correct"),
        ({"compose.yml": "services: {web: {image: nginx}}"}, "/srv/talk/compose.yml has no service that runs the"),
        (
            edited(FILES, ("talk-hpb/signalling.env", 'BACKENDS="NC DEVNC TESTNC"', "BACKENDS=")),
            "The signaling server of /srv/talk names no Nextcloud in BACKENDS, expected at least one with a URL and a",
        ),
        (
            edited(SOUND, ("config/server.conf", "timeout = 10", "backendtype = etcd")),
            "The signaling server of /srv/talk has its backends in etcd, expected them in config/server.conf: they",
        ),
        (edited(FILES, (".env", "NATS_VERSION=", "X='a\nNATS_VERSION=")), "/srv/talk/.env has a quote in line 5 that"),
        (edited(FILES, ("compose.yml", "${NATS_VERSION:-latest}", "${")), "compose.yml has ${ without a } after it"),
        (
            edited(SOUND, ("config/server.conf", "[http]", "[http]\nnonsense")),
            "/srv/talk/config/server.conf has a line that is neither a [section] nor name = value, expected one of",
        ),
        (
            edited(
                SOUND,
                *(("config/server.conf", f"https://{name}", "ftp://x") for name in ("nc", "alias", "dev", "test")),
            ),
            "None of the Nextclouds can be taken over:",
        ),
    ],
)
def test_what_cannot_be_adopted(files, message):
    assert adopt(files)["problems"][0].startswith(message)


def test_a_message_about_yaml_quotes_nothing():
    files = {"compose.yml": f"services:\n  a: [{SECRETS['NC']}\n  b: }}"}
    assert SECRETS["NC"] not in adopt(files)["problems"][0]


@pytest.mark.parametrize(
    ("edit", "note"),
    [
        (("BACKEND_DEVNC_URL=https://dev.example.org\n", ""), "DEVNC has no URL: the old signaling server left it out"),
        ((f"SECRET={SECRETS['DEVNC']}", "SECRET="), "DEVNC has no secret: the old signaling server left it out"),
        (
            ("USE_JANUS=1", "BACKENDS_ALLOWALL=1"),
            "The old signaling server takes every Nextcloud that knows its secret",
        ),
        (("URL=https://dev.example.org", "URL=http://dev.example.org"), "DEVNC was known under http://dev.example.org"),
        (("dev.example.org", "nc.example.org/"), "DEVNC has the URL https://nc.example.org of NC, too, of which the"),
        (("BITRATE=1048576", "BITRATE=1024"), "DEVNC: talk_stream_bitrate would be 1024 bit/s, expected 64000 to"),
        (
            (f"SECRET={SECRETS['DEVNC']}", f"SECRET={SECRETS['NC']}"),
            "The shared secret of DEVNC was not taken over: DE",
        ),
        (
            (f"SECRET={SECRETS['DEVNC']}", "SECRET=secret"),
            "The shared secret of DEVNC was not taken over: DEVNC.backend",
        ),
    ],
)
def test_what_is_different_is_said(edit, note):
    made = adopt(edited(FILES, ("talk-hpb/signalling.env", *edit)))
    assert [line for line in made["lines"] if line.startswith(f"  - {note}")], made["lines"]
    words = re.sub(r"\\(.)", r"\1", made["page"])
    assert f"- {note}" in words


# The inventory.


def inventory_of(made):
    """Return the groups and hostvars that Ansible would make of the two files, and the instances in them."""
    hosts, settings = yaml.safe_load(made["hosts"]), yaml.safe_load(made["group_vars"])
    groups = {"hpb": [*hosts["hpb"]["hosts"]], "nextcloud": []}
    hostvars = {host: {**(values or {}), **settings} for host, values in hosts["hpb"]["hosts"].items()}
    for name, group in hosts["nextcloud"]["children"].items():
        groups[name] = [*group["hosts"]]
        groups["nextcloud"] += groups[name]
        for host, values in group["hosts"].items():
            hostvars[host] = {**(values or {}), **(group["vars"] or {})}
    return groups, hostvars, backends(groups, hostvars)


def test_the_inventory_of_the_installation_as_people_have_it():
    groups, hostvars, instances = inventory_of(adopt(FILES))
    assert groups["hpb"] == ["talk.example.org"]
    assert hostvars["talk.example.org"] == {
        "ansible_user": "root",
        "ansible_host": "hpb1",
        "hpb_domain": "talk.example.org",
        "hpb_turn_domain": "turn.example.org",
        # Its coturn is called coturn.
        "hpb_container_prefix": "hpb-",
        "traefik_enabled": False,
        "hpb_proxy": "traefik_labels",
        "hpb_proxy_resolver": "letsencryptresolver",
        "hpb_proxy_network": "proxy",
        "signalling_stream_bitrate": 2097152,
        "signalling_screen_bitrate": 4194304,
    }
    said = ("id", "url", "session_limit", "stream_bitrate", "screen_bitrate")
    assert [tuple(one[key] for key in said) for one in instances] == [
        ("DEVNC", "https://dev.example.org", 5, 1048576, 2097152),
        ("NC", "https://nc.example.org", 15, 2097152, 4194304),
        ("TESTNC", "https://test.example.org", 5, None, None),
    ]


def test_the_inventory_of_a_server_conf():
    _groups, hostvars, instances = inventory_of(adopt(SOUND, {"name": "talk.example.org"}))
    assert hostvars["talk.example.org"]["hpb_signaling_port"] == 18080
    assert [(one["id"], one["urls"]) for one in instances] == [
        ("dev_nc", ["https://dev.example.org/cloud"]),
        ("nc", ["https://nc.example.org", "https://alias.example.org"]),
        ("turn_nc", ["https://test.example.org"]),
    ]


def test_two_nextclouds_on_one_name_and_one_on_the_backends_own():
    files = edited(
        FILES,
        ("talk-hpb/signalling.env", "https://dev.example.org", "https://nc.example.org/dev"),
        ("talk-hpb/signalling.env", "https://test.example.org", "https://talk.example.org/nc"),
    )
    groups, hostvars, instances = inventory_of(adopt(files))
    assert {one["id"]: one["url"] for one in instances} == {
        "NC": "https://nc.example.org",
        "DEVNC": "https://nc.example.org/dev",
        "TESTNC": "https://talk.example.org/nc",
    }
    assert hostvars[groups["DEVNC"][0]]["ansible_host"] == "nc.example.org"
    assert hostvars[groups["TESTNC"][0]]["ansible_host"] == "talk.example.org"


@pytest.mark.parametrize(
    ("name", "used", "expected"),
    [
        ("NC", [], "NC"),
        ("dev-nc", [], "dev_nc"),
        ("dev.nc", ["dev_nc"], "dev_nc_2"),
        ("a b", ["A_B", "a_b_2"], "a_b_3"),
        ("Turn", [], "Turn_nc"),
        ("hpb", [], "hpb_nc"),
        ("nextcloud", [], "nextcloud_nc"),
        ("1st", [], "nc_1st"),
        ("", [], "nc"),
    ],
)
def test_names_of_instances(name, used, expected):
    assert _adopt_inventory.valid_id(name, used) == expected


@pytest.mark.parametrize(
    ("edits", "wanted", "absent"),
    [
        ([("- traefik.", "- other.")], ["hpb_acme_email"], ["\ntraefik_enabled: false"]),
        (
            [
                (
                    "services:\n",
                    "services:\n  edge:\n    image: traefik:v3.4\n"
                    "    command: [--certificatesresolvers.le.acme.email=admin@example.org]\n",
                )
            ],
            ["\nhpb_acme_email: admin@example.org", "# Our own Traefik takes the place of the old service edge."],
            ["\ntraefik_enabled: false"],
        ),
        (
            [("rule=Host(`${TALKHPB_FQDN}`)", "rule=Host(`a.example.org`) && PathPrefix(`/hpb/`)")],
            ["hpb_path: /hpb"],
            [],
        ),
        (
            [("routers.signalling.tls=true", "routers.signalling.entrypoints=https")],
            ["hpb_proxy_entry_point: https"],
            [],
        ),
        ([("3478:3478", "13478:3478")], ["hpb_turn_port: 13478"], []),
        ([("- --verbose", "- --listening-port=3479"), ("3478:3478", "3479:3479")], ["hpb_turn_port: 3479"], []),
        ([("- --verbose", "- --cert=/c\n      - --pkey=/k")], [], ["hpb_turn_tls_port"]),
        (
            [("- --verbose", "- --cert=/c\n      - --pkey=/k"), ("9641:9641", "5349:5349")],
            ["\n# hpb_turn_tls_port: 5349"],
            [],
        ),
        (
            [("- --verbose", "- --cert=/c\n      - --pkey=/k"), ("9641:9641", "5349:5349"), ("- traefik.", "- other.")],
            ["\nhpb_turn_tls_port: 5349"],
            [],
        ),
        ([("- --verbose", "- --external-ip=203.0.113.5/172.18.0.3")], ["# hpb_public_ip: 203.0.113.5\n"], []),
        ([("- DETECT_EXTERNAL_IP=yes\n      - DETECT_RELAY_IP=yes", "- X=y")], [], ["hpb_public_ip"]),
        ([("- --realm=${COTURN_FQDN}", "- --realm=x")], ["hpb_turn_domain: turn.example.org"], []),
    ],
)
def test_settings_of_the_backend(edits, wanted, absent):
    settings = adopt(edited(FILES, *(("compose.yml", *edit) for edit in edits)))["group_vars"]
    assert yaml.safe_load(settings)
    assert [text for text in wanted if text not in settings] == []
    assert [text for text in absent if text in settings] == []


FIXED = "    container_name: coturn\n"
NPM = "  {name}:\n    image: {image}\n    ports: ['80:80', '443:443']\n{more}"


@pytest.mark.parametrize(
    ("edits", "prefix", "said"),
    [
        ([(FIXED, "")], "", ""),
        ([(FIXED, "    container_name: hpb-coturn\n")], "", ""),
        ([], "hpb-", "Of the old containers coturn has a name of ours. It keeps it: ours are called hpb-signalling, "),
        (
            [("  nats:\n", "  nats:\n    container_name: nats\n")],
            "hpb-",
            "Of the old containers coturn, nats have names of ours. They keep them: ours are called hpb-signalling, ",
        ),
        # Our Traefik runs in neither.
        ([(FIXED, "    container_name: traefik\n")], "", ""),
        ([(FIXED, "    container_name: traefik-previous\n")], "", ""),
        ([(FIXED, "    container_name: traefik\n"), ("- traefik.", "- other.")], "hpb-", "containers traefik has a"),
        (
            [(FIXED, "    container_name: coturn-previous\n")],
            "hpb-",
            "Of the old containers coturn-previous has a name",
        ),
        ([("  nats:\n", "  nats:\n    container_name: hpb-nats\n")], "talk-", "ours are called talk-signalling, "),
        ([("  nats:\n", "  nats:\n    container_name: hpb-janus-previous\n")], "talk-", "coturn has a name of ours."),
        # One that is no part of the backend has its name all the same.
        (
            [(FIXED, ""), ("services:\n", "services:\n  queue:\n    image: alpine\n    container_name: nats\n")],
            "hpb-",
            "Of the old containers nats has a name of ours.",
        ),
    ],
)
def test_ours_are_called_otherwise_where_old_containers_have_their_names_and_only_there(edits, prefix, said):
    made = adopt(edited(FILES, *(("compose.yml", *edit) for edit in edits)))
    settings, lines = yaml.safe_load(made["group_vars"]), "\n".join(made["lines"])
    assert settings.get("hpb_container_prefix", "") == prefix
    assert ("hpb_container_prefix" in made["group_vars"]) == bool(prefix)
    assert said in lines and said in made["page"].replace("\\", "")
    assert ("of the old containers" in made["group_vars"]) == ("Of the old containers" in lines) == bool(prefix)
    traefik = "" if "traefik_enabled" in settings else f" {prefix}traefik"
    ours = f"docker stop {prefix}signalling {prefix}coturn {prefix}janus {prefix}nats{traefik}, and then docker compose"
    assert f"The way back is {ours} start" in lines


@pytest.mark.parametrize(
    ("edits", "command", "back"),
    [
        ([], "docker compose stop", "docker compose start."),
        (
            [("services:\n", "services:\n  web: {image: alpine}\n")],
            "docker compose stop nats janus signalling coturn",
            "docker compose start nats janus signalling coturn.",
        ),
        # Such a one is known to compose by its name alone.
        (
            [(FIXED, "    profiles: [turn]\n")],
            "docker compose stop nats janus signalling coturn",
            "docker compose start nats janus signalling coturn.",
        ),
        (
            [
                (
                    f"image: coturn/coturn\n{FIXED}    restart: unless-stopped",
                    "image: coturn/coturn\n    restart: always",
                )
            ],
            "docker update --restart unless-stopped $(docker compose ps --all --quiet coturn) && docker compose stop",
            "docker compose start.",
        ),
        (
            [(FIXED, "    deploy: {restart_policy: {condition: any}}\n")],
            "docker update --restart unless-stopped $(docker compose ps --all --quiet coturn) && docker compose stop",
            "docker compose start.",
        ),
    ],
)
def test_old_containers_are_stopped_for_good_and_not_removed(edits, command, back):
    made = adopt(edited(FILES, *(("compose.yml", *edit) for edit in edits)))
    number = made["lines"].index(f"     cd /srv/talk && {command}")
    sentence = made["lines"][number - 1]
    assert "Stop the old containers on hpb1, and do not remove them (no down, no rm)." in sentence
    assert sentence.endswith(f" {back}")
    assert ("comes back with Docker or a reboot" in sentence) == ("docker update" in command)


@pytest.mark.parametrize(
    ("image", "more", "wanted", "name"),
    [
        (
            "jc21/nginx-proxy-manager:2",
            "    networks: [proxy]\n    container_name: npm\n",
            {"hpb_proxy_network": "talk_proxy", "hpb_proxy_container": "npm"},
            "Nginx Proxy Manager",
        ),
        (
            "docker.io/zoraxydocker/zoraxy:v3.2",
            "",
            {"hpb_proxy_network": "talk_default", "hpb_proxy_container": "talk-front-1"},
            "Zoraxy",
        ),
        ("zoeyvid/npmplus", "    network_mode: host\n", {}, "NPMplus"),
        (
            "cloudflare/cloudflared",
            "",
            {"hpb_proxy_network": "talk_default", "hpb_proxy_container": "talk-front-1"},
            "Cloudflare Tunnel",
        ),
    ],
)
def test_a_form_in_the_compose_file_stays_and_passes_everything_to_our_traefik(image, more, wanted, name):
    front = NPM.format(name="front", image=image, more=more)
    edits = [("services:\n", f"services:\n{front}"), ("- traefik.", "- other.")]
    made = adopt(edited(FILES, *(("compose.yml", *edit) for edit in edits)))
    settings = yaml.safe_load(made["group_vars"])
    found = {key: value for key, value in settings.items() if "proxy" in key or key == "traefik_enabled"}
    assert found == {"hpb_proxy": "form", "hpb_proxy_port": 8084, **wanted}
    said = "\n".join(made["lines"])
    assert f"{name} (service front) takes no file: it passes the whole name on to our own Traefik at port 8084" in said
    assert f"Enter into {name} what that run prints at its end, in the place of what leads to the old server" in said
    # It serves others, too.
    assert "     cd /srv/talk && docker compose stop nats janus signalling coturn" in made["lines"]
    assert f"left alone: front ({image})." in said


def test_a_copy_on_the_controller_says_nothing_of_the_way_to_the_host():
    made = adopt(FILES, {"name": "localhost", "ansible_connection": "local", "ansible_user": "me"})
    assert yaml.safe_load(made["hosts"])["hpb"]["hosts"] == {"talk.example.org": None}


def test_what_to_fill_in_is_marked_where_it_is():
    made = adopt(FILES)
    assert made["hosts"].count("FILL IN") == 3
    assert made["group_vars"].count("FILL IN") == 2
    asked = made["lines"][made["lines"].index("To be filled in:") + 1 : made["lines"].index("What is next:") - 1]
    assert [line.split()[1] for line in asked] == ["hpb_proxy_container", "hpb_public_ip", "NC", "DEVNC", "TESTNC"]


# The secrets.


def test_secrets_are_the_same_ones_and_a_file_that_can_be_imported():
    made = adopt(SOUND)
    read = _secrets.parse(made["secrets"])
    assert _secrets.flat(read) == {
        "session_hash_key": secret("hash"),
        "session_block_key": secret("block", 32),
        "internal": secret("internal"),
        "nc.backend": SECRETS["NC"],
        "dev_nc.backend": SECRETS["DEVNC"],
        "turn_nc.backend": SECRETS["TESTNC"],
        "nc.turn": SECRETS["turn"],
        "dev_nc.turn": SECRETS["turn"],
        "turn_nc.turn": SECRETS["turn"],
    }
    assert read["instances"]["dev_nc"]["url"] == "https://dev.example.org/cloud"


@pytest.mark.parametrize(
    ("name", "old", "new", "missing", "reason"),
    [
        (
            ".env",
            SECRETS["turn"],
            "north",
            {"NC.turn", "DEVNC.turn", "TESTNC.turn"},
            "The TURN secret was not taken over: turn is a sample value that upstream publishes, so everybody knows",
        ),
        (
            ".env",
            SECRETS["turn"],
            "short",
            {"NC.turn", "DEVNC.turn", "TESTNC.turn"},
            "The TURN secret was not taken over: turn was expected to have 32 to 127 characters and has 5.",
        ),
        (
            ".env",
            SECRETS["turn"],
            SECRETS["DEVNC"],
            {"NC.turn", "DEVNC.turn", "TESTNC.turn"},
            "The TURN secret was not taken over: turn has the same value as DEVNC.backend, and each was expected to be",
        ),
        (
            "talk-hpb/signalling.env",
            SECRETS["NC"],
            "<<<replace me with a secret>>>",
            {"NC.backend"},
            "The shared secret of NC was not taken over: NC.backend was expected to hold letters, digits and signs of",
        ),
        (
            "compose.yml",
            "- --static-auth-secret=${COTURN_SECRET}",
            "- --lt-cred-mech",
            {"NC.turn", "DEVNC.turn", "TESTNC.turn"},
            "coturn has no static-auth-secret in these files. The playbook site makes one for each Nextcloud",
        ),
    ],
)
def test_a_secret_that_cannot_be_taken_over_is_left_out_and_named(name, old, new, missing, reason):
    kept = _secrets.flat(document(FILES))
    files = edited(FILES, (name, old, new))
    assert set(kept) - set(_secrets.flat(document(files))) == missing
    assert [line for line in adopt(files)["lines"] if line.startswith(f"  - {reason}")], adopt(files)["lines"]


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        (secret("hash"), secret("hash")[:48], "session_hash_key was expected to have 32 or 64 characters and has 48"),
        (secret("block", 32), secret("block", 30), "session_block_key was expected to have 16 or 24 or 32 characters"),
        (secret("internal"), "the-shared-secret-for-internal-clients", "internal is a sample value that upstream"),
    ],
)
def test_keys_of_the_signaling_server(old, new, name):
    files = edited(SOUND, ("config/server.conf", old, new))
    assert name.split()[0] not in document(files)
    assert [line for line in adopt(files)["lines"] if name in line]


def test_two_turn_secrets_of_which_the_first_is_taken():
    second = f"static-auth-secret={SECRETS['turn']}\nstatic-auth-secret={secret('second')}"
    files = edited(SOUND, ("turnserver.conf", f"static-auth-secret={SECRETS['turn']}", second))
    assert document(files)["instances"]["nc"]["turn"] == SECRETS["turn"]
    assert any("coturn takes 2 secrets, of which the first" in line for line in adopt(files)["lines"])


# The defects.

HOW_TO = {*range(1, 31), 35, 36, 40} - {7, 8}


def numbers(files):
    return {defect.number for defect in _adopt_defects.find([understood(files)])}


def test_all_are_known():
    known = [defect.number for defect in _adopt_defects.DEFECTS]
    assert known == sorted(set(known))
    assert {*known, *_adopt_defects.UNSEEN} == set(range(1, 43))
    assert set(range(1, 43)) - set(known) == {33, 34}


def test_defects_of_the_installation_as_people_have_it():
    assert numbers(FILES) == HOW_TO
    placeholders = edited(FILES, ("talk-hpb/signalling.env", SECRETS["NC"], "<<<replace me with a secret>>>"))
    assert numbers(placeholders) == HOW_TO | {37}


def test_a_sound_installation_has_none():
    assert numbers(SOUND) == set()
    assert "None of those that can be seen from the files." in adopt(SOUND)["page"]


CONF, COMPOSE, TURN = "config/server.conf", "compose.yaml", "turnserver.conf"
COTURN = "image: coturn/coturn:4.17.0-r0\n    network_mode: host"
JANUS = "image: registry.example.org/janus:1.4.1\n    network_mode: host"
SIGNALING = 'ports: ["127.0.0.1:18080:8080"]'
RULE = "traefik.http.routers.t"
TURN_PORTS = '"3478:3478", "3478:3478/udp", "61000-65535:61000-65535/udp"'
EDITS = [
    (1, [(CONF, secret("hash"), "the-secret-for-session-checksums")]),
    (1, [(CONF, f"blockkey = {secret('block', 32)}", "")]),
    (2, [(COMPOSE, JANUS, JANUS.replace("network_mode: host", "networks: [inner]"))]),
    (3, [(COMPOSE, JANUS, f"{JANUS}\n    command: janus --stun-server=coturn:3478")]),
    (3, [(COMPOSE, JANUS, f"{JANUS}\n    command: [janus, -S, '192.168.1.1:3478']")]),
    (4, [(COMPOSE, COTURN, f"{COTURN}\n    environment: {{DETECT_EXTERNAL_IP: 'yes'}}")]),
    (5, [(COMPOSE, COTURN, f"{COTURN}\n    command: [-n]")]),
    (
        6,
        [
            (
                COMPOSE,
                COTURN,
                COTURN.replace(
                    "network_mode: host", 'ports: ["3478:3478", "3478:3478/udp", "50000-50099:50000-50099/udp"]'
                ),
            )
        ],
    ),
    (7, [(TURN, "65535", "655350")]),
    (7, [(COMPOSE, JANUS, f"{JANUS}\n    command: janus -r 30000-20000")]),
    (8, [(TURN, "log-file", "no-tcp\nlog-file")]),
    (
        8,
        [
            (
                COMPOSE,
                COTURN,
                COTURN.replace("network_mode: host", f"ports: [{TURN_PORTS.replace('3478:3478', '3478:3478/udp', 1)}]"),
            )
        ],
    ),
    (9, [(TURN, "no-tcp-relay\n", "")]),
    (9, [(TURN, "denied-peer-ip=10.0.0.0-10.255.255.255\n", "")]),
    (10, [(COMPOSE, COTURN, COTURN.replace("network_mode: host", f'ports: [{TURN_PORTS}, "9641:9641"]'))]),
    (11, [(COMPOSE, "      - {type: bind,", "      - ./data:/var/\n      - {type: bind,")]),
    (11, [(TURN, "log-file=stdout", "log-file=/var/log/turn.log")]),
    (12, [(TURN, "log-file", "verbose\nlog-file")]),
    (13, [(COMPOSE, COTURN, f"{COTURN}\n    command: --static-auth-secret={SECRETS['turn']}")]),
    (14, [(COMPOSE, "nats:2.14.5", "nats:latest")]),
    (14, [(COMPOSE, "coturn/coturn:4.17.0-r0", "registry.example.org:5000/coturn")]),
    (15, [(COMPOSE, "signaling:2.1.1", "signaling:2.0.4")]),
    (15, [(COMPOSE, "nats:2.14.5", "nats:2.9-alpine")]),
    (16, [(CONF, "trustedproxies = 172.30.0.2", "trustedproxies = 172.30.0.2, 10.0.0.0/8")]),
    (17, [(COMPOSE, SIGNALING, f"{SIGNALING}\n    env_file: a.env"), ("a.env", "", "TZ=UTC # time\n")]),
    (18, [(COMPOSE, SIGNALING, f"{SIGNALING}\n    env_file: a.env"), ("a.env", "", "TZ='UTC'\n")]),
    (19, [(CONF, "[nats]", f"apikey = {SECRETS['turn']}\n[nats]")]),
    (20, [(CONF, "[nats]", "servers = turn:turn.example.org:3478\n[nats]")]),
    (21, [(COMPOSE, SIGNALING, f"{SIGNALING}\n    environment: [LOG_LEVEL=info]")]),
    (22, [(CONF, "urls = https://test", "url = https://test")]),
    (23, [("nats.conf", "authorization", "jetstream")]),
    (24, [(COMPOSE, "inner: {internal: true}", "inner: {external: true}")]),
    (
        25,
        [
            (
                COMPOSE,
                SIGNALING,
                f"labels: [{RULE}.rule=Host(`a.example.org`), {RULE}.entrypoints=e, {RULE}.middlewares=m]",
            )
        ],
    ),
    (
        26,
        [(COMPOSE, SIGNALING, f"labels: [{RULE}.rule=Host(`a.example.org`) && Path(`/spreed`), {RULE}.middlewares=m]")],
    ),
    (27, [(COMPOSE, "depends_on: {nats: {condition: service_healthy}}", "depends_on: [nats]")]),
    (28, [(COMPOSE, COTURN, f"{COTURN}\n    container_name: coturn")]),
    (29, [(COMPOSE, "  mem_limit: 512m\n", "")]),
    (29, [(COMPOSE, "  cap_drop: [ALL]\n", "")]),
    (30, [(COMPOSE, "networks:\n  inner: {internal: true}", "")]),
    (31, [(CONF, "nats://nats:4222", "ws://nats://nats:4222")]),
    (32, [(CONF, "nats://nats:4222", "nats://natz:4222")]),
    (32, [(CONF, "ws://127.0.0.1:8188", "ws://januss:8188")]),
    (
        36,
        [
            (COMPOSE, JANUS, f"{JANUS}\n    build: {{context: ./j}}"),
            (".env", "", "JANUS_VERSION=1.4.1\n"),
            ("j/Dockerfile", "", "FROM scratch\n"),
        ],
    ),
    (36, [(COMPOSE, JANUS, f"{JANUS}\n    build: ./j")]),
    (37, [(CONF, SECRETS["NC"], "tooshort")]),
    (37, [(CONF, SECRETS["NC"], SECRETS["DEVNC"])]),
    (37, [(CONF, SECRETS["NC"], SECRETS["turn"])]),
    (39, [(CONF, "timeout = 10", "skipverify = true")]),
    (40, [(COMPOSE, SIGNALING, f"{SIGNALING}\n    environment: [HASH_KEY={secret('hash')}]")]),
    (38, [(CONF, "= 1048576\n\n[turn]", "= 4194304\n\n[turn]")]),
    (38, [(CONF, "type = janus\nurl = ws://127.0.0.1:8188\nmaxstreambitrate = 1048576", "maxstreambitrate = 999999")]),
]
# What cannot be without another one.
WITH = {5: {9}}


@pytest.mark.parametrize(("number", "edits"), EDITS)
def test_each_defect_is_seen_where_it_is_and_nothing_else(number, edits):
    assert numbers(edited(SOUND, *edits)) == {number} | WITH.get(number, set())


def test_no_health_check_is_two_defects():
    files = edited(SOUND, (COMPOSE, '  healthcheck: {test: [CMD, "true"]}\n', ""))
    assert numbers(files) == {27, 35}


def test_every_defect_but_some_has_been_seen():
    # Those of aio-talk are in its own tests.
    seen = {number for number, _edits in EDITS}
    assert seen | {27, 35, 41, 42} == {defect.number for defect in _adopt_defects.DEFECTS}


def test_a_defect_says_where_it_is_and_what_comes_of_it():
    (found,) = _adopt_defects.find([understood(edited(SOUND, (CONF, "172.30.0.2", "172.17.0.0/12")))])
    assert found.where == ["172.17.0.0/12, which means 172.16.0.0/12"]
    assert found.sentence == (
        "The networks of trusted proxies are much larger than the proxy's own address. Whoever is in one of them can "
        "claim any address, and gets around what locks out guessers. Here: exactly the proxy's one address is trusted."
    )


def test_the_docs_name_every_defect_and_what_cannot_be_seen():
    text = (ROOT / "docs/adopt.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (\d+) \| ([^|]+) \|", text, re.MULTILINE))
    assert {int(number): name.strip() for number, name in rows.items() if int(number) not in (33, 34)} == {
        defect.number: defect.name for defect in _adopt_defects.DEFECTS
    }
    assert {int(number) for number in rows} == set(range(1, 43))
    assert [n for n, what in _adopt_defects.UNSEEN.items() if f"| {n} | {rows[str(n)]} | {what}" not in text] == []


# The module that reads.


def test_the_files_that_matter_are_read_and_no_others(tmp_path):
    folder, other = tmp_path / "talk", tmp_path / "other"
    adopt_bed.write(folder, {**FILES, "data/app/config.php": "<?php", "notes.txt": "x", "a/b/c/d/too-deep.conf": "x"})
    adopt_bed.write(other, {"turn.conf": "realm=x", "unnamed.conf": "x"})
    (folder / "compose.override.yml").write_text(
        f"services: {{coturn: {{volumes: ['../other/turn.conf:/t.conf', '{other}/none.conf:/n']}}}}", encoding="utf-8"
    )
    (folder / "binary.conf").write_bytes(b"\xff\xfe\x00")
    (folder / "large.conf").write_text("x" * 300_000, encoding="utf-8")
    os.mkfifo(folder / "pipe.conf")
    (folder / "loop").symlink_to(folder)
    result = run_module("adopt_read", {"path": str(folder), "usual_places": False})
    assert result["files"] == {
        **FILES,
        "compose.override.yml": result["files"]["compose.override.yml"],
        str(other / "turn.conf"): "realm=x",
    }
    assert result["changed"] is False
    assert result["skipped"] == [
        "binary.conf is no UTF-8 text.",
        "large.conf has 300000 bytes, more than a configuration has.",
        "pipe.conf is no regular file.",
    ]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "srv/talk",
            "path is srv/talk, expected an absolute path of a directory on this host: say -e adopt=/path/of/it.",
        ),
        (
            "/nonexistent/talk",
            "/nonexistent/talk was expected to be the directory of an installation and cannot be read: No such file "
            "or directory. Correct adopt=, or set ansible_become: true.",
        ),
    ],
)
def test_a_directory_that_cannot_be_read(path, message):
    assert run_module("adopt_read", {"path": path})["msg"] == message
