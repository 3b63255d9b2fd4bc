# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Name and path of the backend from the files of reverse proxies."""

from __future__ import annotations

import time

import pytest
from adopt_bed import SOUND
from adopt_field import NATIVE
from ansible_collections.nextcloud_talk.hpb.plugins.filter.adopted import load
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _adopt_proxy
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._adopt_compose import Files
from test_adopt_reads import BACKEND, IMAGE, adopt, at_root, valid

TALK = "talk.example.org"


def server(*lines):
    """A server of nginx with these lines in it."""
    return "server {\n  listen 443 ssl;\n  server_name talk.example.org;\n  " + "\n  ".join(lines) + "\n}\n"


def location(pattern, url="http://127.0.0.1:8080/"):
    return f"location {pattern} {{ proxy_pass {url}; }}"


NGINX = [
    (server(location("/")), TALK, ""),
    (server(location("/standalone-signaling/", "http://localhost:8080/")), TALK, "/standalone-signaling"),
    (server(location("~ ^/hpb/(.*)$", "http://127.0.0.1:8080/$1")), TALK, "/hpb"),
    (server(location("^~ /a/b/spreed", "http://[::1]:8080/spreed")), TALK, "/a/b"),
    (server(location("= /hpb/api/v1/welcome")), TALK, "/hpb"),
    (server(f"location /x {{ {location('/x/spreed')} }}"), TALK, "/x"),
    (server("if ($scheme = https) { set $a b; }", location("/hpb")), TALK, "/hpb"),
    (
        "http { upstream up { server 127.0.0.1:8080 max_fails=3; keepalive 8; }"
        f"{server(location('/hpb/', 'http://up/'))} }}",
        TALK,
        "/hpb",
    ),
    (
        server(
            "set $app signaling;",
            "set $port 8080;",
            "location /s/ { set $proto http; proxy_pass $proto://$app:$port; }",
        ),
        TALK,
        "/s",
    ),
    (
        "# comment {\n"
        + server("# no ;", location("/hpb/", '"http://127.0.0.1:8080/"')).replace("name ", "name _ ~^x$ "),
        TALK,
        "/hpb",
    ),
    (location("/standalone-signaling/"), "", "/standalone-signaling"),
]

APACHE = [
    (
        """<VirtualHost *:443>
        ServerName talk.example.org
        ProxyPass "/standalone-signaling/" "ws://127.0.0.1:8080/"
        RewriteEngine On
        RewriteRule ^/standalone-signaling/spreed/$ - [L]
        RewriteRule ^/standalone-signaling/api/(.*) http://127.0.0.1:8080/api/$1 [L,P]
        </VirtualHost>""",
        TALK,
        "/standalone-signaling",
    ),
    (
        """<VirtualHost *:80>
        ServerName other.example.org
        </VirtualHost>
        <VirtualHost *:443>
        <Location /hpb>
          ProxyPass http://127.0.0.1:8080 upgrade=websocket
        </Location>
        ServerName https://talk.example.org:443
        </VirtualHost>""",
        TALK,
        "/hpb",
    ),
    (
        """<VirtualHost *:443>
        ServerName talk.example.org
        ProxyPassMatch ^/hpb/(.*)$ \\
          http://localhost:8080/$1
        </VirtualHost>""",
        TALK,
        "/hpb",
    ),
    ("ServerName talk.example.org\nProxyPass / http://127.0.0.1:8080/\n", TALK, ""),
]

CADDY = [
    ("talk.example.org {\n\treverse_proxy localhost:8080\n}", TALK, ""),
    (
        """https://talk.example.org:443, other.example.org {
        handle_path /hpb/* {
          reverse_proxy 127.0.0.1:8080
        }
        }""",
        TALK,
        "/hpb",
    ),
    (
        """talk.example.org {
        route /standalone-signaling/* {
          uri strip_prefix /standalone-signaling
          reverse_proxy http://127.0.0.1:8080
        }
        }""",
        TALK,
        "/standalone-signaling",
    ),
    (
        """(hpb) {
        @s path /hpb/spreed /hpb/api/*
        reverse_proxy @s {
          to signaling:8080
        }
        }
        {$NAME:talk.example.org} {
          import hpb
        }""",
        TALK,
        "/hpb",
    ),
    ("talk.example.org\n\nreverse_proxy /hpb/* 127.0.0.1:8080\n", TALK, "/hpb"),
]

HAPROXY = [
    (
        """frontend https
  bind :443 ssl
  acl talk hdr(host) -i talk.example.org
  acl below path_beg /standalone-signaling
  use_backend hpb if talk below
  default_backend web
backend web
  server a 127.0.0.1:81
backend hpb
  http-request replace-path /standalone-signaling(.*) \\1
  server a 127.0.0.1:8080 check
""",
        TALK,
        "/standalone-signaling",
    ),
    (
        """frontend https
  use_backend hpb if { hdr(host),field(1,:) -i talk.example.org } { path_beg /hpb/ }
backend hpb
  server a signaling:8080
""",
        TALK,
        "/hpb",
    ),
    ("listen hpb\n  bind :443 ssl\n  server a 127.0.0.1:8080\n", "", ""),
]

TRAEFIK = [
    (
        """http:
  routers:
    hpb: {rule: "Host(`talk.example.org`) && PathPrefix(`/hpb`)", service: hpb@file}
    other: {rule: "Host(`x.example.org`)", service: none}
  services:
    hpb: {loadBalancer: {servers: [{url: "http://127.0.0.1:8080"}]}}
""",
        TALK,
        "/hpb",
    ),
]

SERVED = [
    (kind, *entry)
    for kind, entries in (
        ("nginx", NGINX),
        ("apache", APACHE),
        ("caddy", CADDY),
        ("haproxy", HAPROXY),
        ("traefik", TRAEFIK),
    )
    for entry in entries
]
# Reached at the same port on the host.
HERE = {**SOUND, "compose.yaml": SOUND["compose.yaml"].replace("127.0.0.1:18080:8080", "127.0.0.1:8080:8080")}


@pytest.mark.parametrize(("kind", "text", "name", "path"), SERVED)
def test_name_and_path_are_found_in_the_file_of_the_proxy(kind, text, name, path):
    place = "/etc/proxy/dynamic.yml" if kind == "traefik" else "/etc/proxy/file"
    settings, _instances = valid(adopt({**HERE, place: text}))
    assert settings["hpb_proxy"] == kind
    assert (settings.get("hpb_domain", ""), settings.get("hpb_path", "")) == (name, path)
    assert settings["traefik_enabled"] is False


@pytest.mark.parametrize(
    "text",
    [
        server(location("/other/", "http://127.0.0.1:9000")),
        server(location("/", "http://192.0.2.77:8080")),
        server(location("/", "http://unix:/run/x.sock")),
        server(location("@name")),
        "server { location / { proxy_pass http://127.0.0.1:8080",
        "server { include a; include *; include; set $a $a; location / { proxy_pass http://$a; } }",
        "{" * 5000,
        "}" * 5000 + ";",
        "<VirtualHost *:443>\nProxyPass\nProxyPass /\nRewriteRule\n<Location>\n</Location>\n",
        "talk.example.org {\n reverse_proxy\n @x\n handle\n import\n import a\n}\n(a) {\n import a\n}\n",
        "frontend\n acl\n use_backend\nbackend\n server\n",
        "http: {routers: [1], services: {a: 1}}",
        "http:\n  routers: {a: {rule: 5, service: a}}\n  services: {a: {loadBalancer: {servers: 3}}}",
        "http:\n  routers: {a: 1}\n",
        "http: [",
    ],
)
def test_files_that_say_nothing_of_it(text):
    for place in ("/etc/proxy/file", "/etc/proxy/file.yml"):
        assert "hpb_path" not in valid(adopt({**SOUND, place: text}))[0]


def test_a_part_that_includes_itself_ends():
    files = Files(
        "/", {"/etc/nginx/a": server("include b;"), "/etc/nginx/x/b": "include b; include a;" + location("/")}
    )
    assert _adopt_proxy.routes(files, load, {})


@pytest.mark.parametrize(
    "texts",
    [
        {f"conf.d/{n}.conf": server("include conf.d/*.conf;", location("/")) for n in range(300)},
        {"a": "frontend a\n use_backend b if " + "{ hdr(host) a " * 20000 + "\nbackend b\n server a 127.0.0.1:80\n"},
        {"a": "<VirtualHost *>\nProxyPass / http://a" + "(" * 100000},
        {"a": "<VirtualHost *>\n<Location " + "/a" * 100000 + ">\nProxyPass http://a\n"},
    ],
    ids=["includes", "conditions", "brackets", "paths"],
)
def test_files_that_nobody_writes_take_no_time(texts):
    started = time.process_time()
    _adopt_proxy.routes(Files("/etc/nginx", texts), load, {})
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("/", ""),
        ("/hpb", "/hpb"),
        ("/hpb/", "/hpb"),
        ("//hpb//x/", "/hpb/x"),
        ("^/hpb/(spreed|api)", "/hpb"),
        ("/hpb*", "/hpb"),
        ("/spreed", ""),
        ("/api/v1/room/", ""),
        ("/apis", "/apis"),
        ("/hpb/metrics", "/hpb"),
        ("@name", None),
        ("*", None),
        ("", None),
    ],
)
def test_what_stands_before_the_servers_own_paths(pattern, path):
    assert _adopt_proxy.prefix(pattern) == path


def test_of_several_paths_the_first_is_taken_and_all_are_told():
    two = server(location("/one/"), location("/two/"))
    made = adopt({**HERE, "/etc/nginx/x": two})
    assert valid(made)[0]["hpb_path"] == "/one"
    assert any(
        "The old proxy serves the signaling server as https://talk.example.org/one and https://talk.example.org/two"
        in line
        for line in made["lines"]
    )


def test_a_path_that_cannot_be_said_is_asked_for():
    made = adopt({**HERE, "/etc/caddy/Caddyfile": "talk.example.org {\n reverse_proxy /a-/-b/* 127.0.0.1:8080\n}"})
    assert valid(made)[0]["hpb_path"] == "/a-/-b"
    made = adopt(SOUND)
    assert "# FILL IN: only if the Nextclouds have it under a path (occ talk:signaling:list)" in made["group_vars"]


@pytest.mark.parametrize(
    ("more", "name", "path"),
    [
        ("environment: {VIRTUAL_HOST: 'hpb.example.org,x', VIRTUAL_PATH: /hpb/, BACKEND}", "hpb.example.org", "/hpb"),
        ("labels: {caddy: hpb.example.org, caddy.handle_path: /hpb/*}", "hpb.example.org", "/hpb"),
        ("labels: {caddy_1: 'https://hpb.example.org', caddy_1.reverse_proxy: /x/* a}", "hpb.example.org", "/x"),
        ("labels: {caddy: 'https://hpb.example.org'}", "hpb.example.org", None),
        ("deploy: {labels: [traefik.http.routers.a.rule=Host(`hpb.example.org`)]}", "hpb.example.org", None),
    ],
)
def test_names_from_the_labels_and_variables_of_other_proxies(more, name, path):
    more = more if "BACKEND" in more else f"{more}\n    environment: {{BACKEND}}"
    text = f"services:\n  s:\n    image: {IMAGE}\n    {more.replace('BACKEND', BACKEND, 1)}\n"
    settings, _instances = valid(adopt({"compose.yml": text}))
    assert (settings["hpb_domain"], settings.get("hpb_path")) == (name, path)


def test_where_the_old_lines_are_is_said():
    made = adopt(at_root(NATIVE, "/etc"), "/etc")
    assert any(
        "In the proxy (nginx/snippets/signaling-forwarding.conf) replace what leads to the old server by what that"
        in line
        for line in made["lines"]
    )
