# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role traefik makes of its variables, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from passlib.hash import bcrypt

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "correct horse battery staple"
RULE = (
    "Host(`talk.example.org`) && !HeaderRegexp(`Sec-WebSocket-Protocol`, `(?i)janus-events`) && "
    "(Path(`/spreed`) || Path(`/api/v1/welcome`) || PathRegexp(`^/api/v1/room/[^/.%]+$`))"
)
DASHBOARD = {"traefik_dashboard": True, "traefik_dashboard_users": {"admin": PASSWORD, "other": PASSWORD}}
FORM = {
    "hpb_own_proxy": False,
    "hpb_tls": "proxy",
    "hpb_proxy_address": "192.0.2.7",
    "hpb_signaling_address": "2001:db8::10",
    "hpb_proxy_port": 8084,
}

GOOD = {
    "plain": {},
    "older": {"traefik_version": "v3.7.11"},
    "bare": {"traefik_version": "3.8.0"},
    "floating": {"traefik_version": "latest"},
    "paths": {"hpb_path": "/standalone-signaling", "traefik_paths": ["/old", "/standalone-signaling"]},
    "acme": {"hpb_tls": "acme"},
    "port": {"hpb_signaling_port": 9080},
    "form": {**FORM, **DASHBOARD, "hpb_path": "/standalone-signaling"},
    "dashboard": DASHBOARD,
    "dashboard again": DASHBOARD,
}
BAD = {
    "text": ({"traefik_paths": "/old"}, "traefik_paths is a text, expected a list of paths"),
    "slash": ({"traefik_paths": ["/old/"]}, "traefik_paths holds '/old/', expected paths of letters, digits, - and _"),
    "rule": ({"traefik_paths": ["/a`)"]}, "traefik_paths holds '/a`)', expected paths"),
    "nobody": ({"traefik_dashboard": True}, "traefik_dashboard is true, but traefik_dashboard_users names nobody"),
    "colon": (
        {**DASHBOARD, "traefik_dashboard_users": {"a:b": PASSWORD}},
        "traefik_dashboard_users names 'a:b', expected a user without a colon",
    ),
    "short": (
        {**DASHBOARD, "traefik_dashboard_users": {"admin": "too short"}},
        "The password of admin in traefik_dashboard_users is short, expected 12 characters or more",
    ),
    "same path": ({**DASHBOARD, "hpb_path": "/traefik"}, "The path /traefik is that of the dashboard, expected"),
}
CASE = [
    {
        "name": "Try",
        "block": [
            {
                "name": "Judge",
                "ansible.builtin.include_role": {
                    "name": "nextcloud_talk.hpb.traefik",
                    "tasks_from": "preflight",
                    "public": True,
                },
            },
            {
                "name": "Keep what would be written",
                "ansible.builtin.copy": {
                    "dest": "{{ case.file }}",
                    "mode": "0644",
                    "content": "{{ {'static': __traefik_static_whole, 'text': __traefik_dynamic_text,"
                    " 'volumes': __traefik_volumes} | to_json }}",
                },
            },
        ],
        "rescue": [
            {
                "name": "Keep the message",
                "ansible.builtin.copy": {
                    "dest": "{{ case.file }}",
                    "mode": "0644",
                    "content": "{{ {'msg': ansible_failed_result.msg} | to_json }}",
                },
            }
        ],
    }
]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each case came to: {name: {"static", "text"} or {"msg"}}."""
    folder = tmp_path_factory.mktemp("traefik")
    # Where a play looks for what the role finds beside itself.
    (folder / "templates").symlink_to(ROOT / "roles/traefik/templates")
    common = {
        "ansible_python_interpreter": sys.executable,
        "hpb_base_dir": str(folder),
        "hpb_domain": "talk.example.org",
        "hpb_path": "",
        "hpb_tls": "private_ca",
        "hpb_registry": "",
        "hpb_nofile": 1024,
        "hpb_signaling_port": 8080,
        "hpb_addresses": {"edge": {"signalling": "127.0.0.1"}},
        "hpb_own_proxy": True,
        "hpb_turn_443_domain": "",
        "hpb_turn_domain": "turn.example.org",
        "hpb_turn_tls_port": 0,
        "hpb_turn_proxy_port": 3480,
        "hpb_acme_file": "/opt/hpb/acme.json",
        "hpb_acme_email": "admin@example.org",
        "hpb_acme_staging": False,
        "hpb_secrets": {"session_hash_key": "5" * 64},
    }
    cases = {**GOOD, **{name: variables for name, (variables, _words) in BAD.items()}}
    # A play for each, or the variables of one case would last for the next.
    plays = [
        {
            "name": name,
            "hosts": f"case{number}",
            "gather_facts": False,
            "vars": {**common, **variables, "case": {"file": str(folder / f"{name}.json")}},
            "tasks": CASE,
        }
        for number, (name, variables) in enumerate(cases.items())
    ]
    (folder / "play.yml").write_text(yaml.safe_dump(plays))
    hosts = ",".join(f"case{number}" for number in range(len(cases))) + ","
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), "-i", hosts, "-c", "local", "play.yml"],
        cwd=folder,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".tree"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in cases}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_work_is_one_sentence(found, name):
    message = found[name].get("msg", "it was taken")
    assert BAD[name][1] in message
    assert "\n" not in message
    assert PASSWORD not in message and "too short" not in message


@pytest.mark.parametrize(
    ("name", "expected"), [("plain", True), ("older", False), ("bare", True), ("floating", False), ("dashboard", True)]
)
def test_header_aliases_are_deleted_where_traefik_knows_how(found, name, expected):
    entries = found[name]["static"]["entryPoints"]
    assert set(entries) == {"web", "websecure", "ping"}
    for entry in entries.values():
        assert (entry.get("http", {}).get("aliasHeadersStrategy") == "delete") == expected
    # An older Traefik would not start with an empty one either.
    assert ("http" in entries["websecure"]) == expected


def test_the_root_alone_is_served(found):
    dynamic = yaml.safe_load(found["plain"]["text"])
    assert {name: router["rule"] for name, router in dynamic["http"]["routers"].items()} == {"signalling": RULE}
    assert dynamic["http"]["routers"]["signalling"]["tls"] == {}
    assert set(dynamic["http"]["middlewares"]) == {"headers"}
    assert dynamic["tls"]["options"] == {"default": {"minVersion": "VersionTLS12", "sniStrict": False}}
    assert dynamic["tls"]["stores"]["default"]["defaultCertificate"]["certFile"] == "/tls/fullchain.pem"
    assert found["plain"]["text"].startswith("# certificate acme\n")


def test_paths_are_served_besides(found):
    http = yaml.safe_load(found["paths"]["text"])["http"]
    assert http["routers"]["signalling"]["rule"] == RULE
    assert http["middlewares"]["path"] == {"stripPrefix": {"prefixes": ["/standalone-signaling", "/old"]}}
    assert http["routers"]["signalling-path"]["middlewares"] == ["headers", "path"]
    for path in ("/old/spreed", "/standalone-signaling/api/v1/welcome"):
        assert f"Path(`{path}`)" in http["routers"]["signalling-path"]["rule"]


def test_behind_a_form_there_is_one_plain_port(found):
    one = found["form"]
    ping = {"address": "127.0.0.1:8083", "http": {"aliasHeadersStrategy": "delete"}}
    http = {"aliasHeadersStrategy": "delete"}
    form = {"address": "[2001:db8::10]:8084", "forwardedHeaders": {"trustedIPs": ["192.0.2.7"]}, "http": http}
    assert one["static"]["entryPoints"] == {"form": form, "ping": ping}
    assert one["volumes"] == []
    dynamic = yaml.safe_load(one["text"])
    assert "tls" not in dynamic
    assert set(dynamic["http"]["routers"]) == {"signalling", "signalling-path", "dashboard"}
    assert [name for name, router in dynamic["http"]["routers"].items() if "tls" in router] == []
    assert {tuple(router["entryPoints"]) for router in dynamic["http"]["routers"].values()} == {("form",)}
    assert dynamic["http"]["middlewares"]["headers"]["headers"]["customRequestHeaders"] == {"X-Real-Ip": ""}
    assert found["plain"]["volumes"][0].endswith(":/tls:ro")


def test_the_resolver_and_the_port(found):
    dynamic = yaml.safe_load(found["acme"]["text"])
    assert dynamic["http"]["routers"]["signalling"]["tls"] == {"certResolver": "letsencryptresolver"}
    assert "stores" not in dynamic["tls"]
    servers = yaml.safe_load(found["port"]["text"])["http"]["services"]["signalling"]["loadBalancer"]["servers"]
    assert servers == [{"url": "http://127.0.0.1:9080"}]


def test_the_dashboard_has_hashes_that_stay_the_same(found):
    assert found["dashboard"]["static"]["api"] == {"dashboard": True, "basePath": "/traefik"}
    assert "api" not in found["plain"]["static"]
    text = found["dashboard"]["text"]
    assert PASSWORD not in text
    http = yaml.safe_load(text)["http"]
    assert http["routers"]["dashboard"] == {
        "rule": "Host(`talk.example.org`) && PathPrefix(`/traefik/`)",
        "entryPoints": ["websecure"],
        "service": "api@internal",
        "middlewares": ["headers", "users"],
        "tls": {},
    }
    logins = dict(login.split(":", 1) for login in http["middlewares"]["users"]["basicAuth"]["users"])
    assert set(logins) == {"admin", "other"}
    assert logins["admin"] != logins["other"]
    for hashed in logins.values():
        assert hashed.startswith("$2b$12$")
        assert bcrypt.verify(PASSWORD, hashed)
        assert not bcrypt.verify(PASSWORD + "x", hashed)
    assert found["dashboard again"]["text"] == text
