# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role proxy writes for each kind of proxy, under a name of its own and under a path."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _proxy
from test_proxy import PREFIX, PRIVATE, PUBLIC

ROOT = Path(__file__).resolve().parents[2]
FILES = {kind: name for kind, (name, _reload) in _proxy.FILES.items()}
PATHS = {"name": "", "path": PREFIX}
SERVER = "198.51.100.4:9080"


def play(folder: Path) -> str:
    """Run the role for both styles, and once with one kind and once with our own Traefik; return the output."""
    cases = [{"base": str(folder / name), "path": path, "kind": "", "own": False} for name, path in PATHS.items()]
    cases.append({"base": str(folder / "one"), "path": "", "kind": "caddy", "own": False})
    cases.append({"base": str(folder / "form"), "path": PREFIX, "kind": "form", "own": False})
    cases.append({"base": str(folder / "beside"), "path": "", "kind": "", "own": False, "prefix": "my.hpb-"})
    cases.append({"base": str(folder / "own"), "path": "", "kind": "", "own": True})
    (folder / "own/proxy").mkdir(parents=True)
    (folder / "own/proxy/nginx.conf").write_text("of another time")
    variables = {
        "hpb_base_dir": "{{ item.base }}",
        "hpb_container_prefix": "{{ item.prefix | default('') }}",
        "hpb_path": "{{ item.path }}",
        "hpb_proxy": "{{ item.kind }}",
        "hpb_own_proxy": "{{ item.own }}",
        "hpb_domain": "talk.example.org",
        "hpb_signaling_address": "198.51.100.4",
        "hpb_signaling_port": 9080,
        "hpb_proxy_port": 8084,
        "hpb_turn_domain": "turn.example.org",
        "hpb_proxy_address": "192.0.2.7",
        "hpb_proxy_entry_point": "https",
        "hpb_proxy_resolver": "le",
        "hpb_proxy_container": "",
    }
    task = {
        "name": "Write",
        "ansible.builtin.include_role": {"name": "nextcloud_talk.hpb.proxy"},
        "vars": variables,
        "loop": cases,
    }
    machine = {"ansible_python_interpreter": sys.executable}
    content = {"hosts": "localhost", "gather_facts": False, "vars": machine, "tasks": [task]}
    (folder / "play.yml").write_text(yaml.safe_dump([content]))
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", "-c", "local", "play.yml"],
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
    return done.stdout


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder that the role wrote into, and what was said."""
    folder = tmp_path_factory.mktemp("proxy")
    return folder, play(folder)


@pytest.fixture(scope="module")
def text(run):
    return lambda style, kind: (run[0] / style / "proxy" / FILES[kind]).read_text()


def allowed(style: str, pattern: str) -> tuple[list[str], list[str]]:
    """Return which public paths a pattern refuses, and which private ones it takes."""
    known = re.compile(pattern)
    full = PATHS[style]
    refused = [path for path in PUBLIC if not known.search(full + path)]
    return refused, [path for path in PRIVATE if known.search(full + path)]


def test_all_files_are_there_and_readable_by_the_proxy(run):
    folder, _output = run
    for style in PATHS:
        found = sorted(path.name for path in (folder / style / "proxy").iterdir())
        assert found == sorted(FILES.values())
        assert {path.stat().st_mode & 0o777 for path in (folder / style / "proxy").iterdir()} == {0o644}
    assert [path.name for path in (folder / "one/proxy").iterdir()] == ["caddy.conf"]
    assert not (folder / "own/proxy").exists()


def test_a_proxy_can_serve_two_backends_of_one_host(text):
    parts = {style: yaml.safe_load(text(style, "traefik"))["http"] for style in ("name", "beside")}
    names = {style: {name for kind in part.values() for name in kind} for style, part in parts.items()}
    assert names["beside"] == {f"my-hpb-{name}" for name in names["name"]}
    assert {service["service"] for service in parts["beside"]["routers"].values()} == {
        "my-hpb-nextcloud-talk-signalling"
    }
    assert re.findall(r"^backend (\S+)$", text("name", "haproxy"), re.MULTILINE) == ["nextcloud-talk-hpb"]
    assert re.findall(r"^backend (\S+)$", text("beside", "haproxy"), re.MULTILINE) == ["my-hpb-nextcloud-talk-hpb"]
    assert "use_backend my-hpb-nextcloud-talk-hpb if" in text("beside", "haproxy")


@pytest.mark.parametrize(("style", "prefix"), PATHS.items())
def test_nginx(text, style, prefix):
    content = text(style, "nginx")
    assert re.findall(r"^location (\S+) (\S+) \{", content, re.MULTILINE) == [
        ("=", f"{prefix}/spreed"),
        ("=", f"{prefix}/api/v1/welcome"),
        ("^~", f"{prefix}/api/v1/room/"),
        ("^~", f"{prefix}/"),
    ]
    targets = [f"http://{SERVER}{route['path']}" for route in _proxy.ROUTES]
    assert re.findall(r"proxy_pass (\S+);", content) == targets
    assert content.count("proxy_set_header X-Real-IP $remote_addr;") == 3
    (websocket,) = [part for part in content.split("location ") if "proxy_set_header Upgrade $http_upgrade;" in part]
    refused = "if ($http_sec_websocket_protocol ~* janus-events) {\n        return 404;\n    }"
    assert websocket.index(refused) < websocket.index("proxy_pass")
    assert 'proxy_set_header Sec-WebSocket-Protocol "";' in websocket
    assert content.rstrip().endswith(f"location ^~ {prefix}/ {{\n    return 404;\n}}")


@pytest.mark.parametrize(("style", "prefix"), PATHS.items())
def test_apache(text, style, prefix):
    content = text(style, "apache")
    passes = re.findall(r'^ProxyPassMatch "(\S+)" "(\S+)"(.*)$', content, re.MULTILINE)
    assert [(target, rest) for _pattern, target, rest in passes] == [
        (f"http://{SERVER}/$1", " upgrade=websocket timeout=3600"),
        (f"http://{SERVER}/api/v1/$1", ""),
        (f"http://{SERVER}/api/v1/room/$1", ""),
        ("!", ""),
    ]
    assert allowed(style, "|".join(pattern for pattern, target, _rest in passes if target != "!")) == ([], [])
    assert passes[-1][0] == f"^{prefix}/"
    (closed,) = re.findall(r'^RedirectMatch 404 "(\S+)"$', content, re.MULTILINE)
    assert [path for path in PUBLIC if re.search(closed, prefix + path)] == []
    # Apache has put ".." together and refused "%2f" before it looks here; no path at all is no path of ours.
    assert [path for path in PRIVATE if path and not re.search(closed, prefix + path)] == []
    (section,) = re.findall(r'<LocationMatch "(\S+)">', content)
    assert allowed(style, section) == ([], [])
    assert 'RequestHeader set X-Real-IP "expr=%{REMOTE_ADDR}"' in content
    refused = '<If "req_novary(\'Sec-WebSocket-Protocol\') =~ /janus-events/i">\n        RedirectMatch 404 "^"\n'
    assert refused in content.partition("<LocationMatch")[2]


@pytest.mark.parametrize(("style", "prefix"), PATHS.items())
def test_caddy(text, style, prefix):
    content = text(style, "caddy")
    assert re.findall(r"^handle(.*) \{$", content, re.MULTILINE) == [f" {prefix}/*" if prefix else ""]
    assert re.findall(r"uri strip_prefix (\S+)", content) == ([prefix] if prefix else [])
    (pattern,) = re.findall(r"@signaling path_regexp (\S+)", content)
    assert [path for path in PUBLIC if not re.search(pattern, path)] == []
    assert [path for path in PRIVATE if re.search(pattern, path)] == []
    assert re.findall(r"reverse_proxy (\S+) (\S+) \{", content) == [("@signaling", f"http://{SERVER}")]
    assert "header_up X-Real-IP {remote_host}" in content
    assert content.index("reverse_proxy") < content.index("respond 404")
    assert "@events header_regexp Sec-WebSocket-Protocol (?i)janus-events\n" in content
    assert content.index("respond @events 404") < content.index("reverse_proxy")


@pytest.mark.parametrize(("style", "prefix"), PATHS.items())
def test_haproxy(text, style, prefix):
    content = text(style, "haproxy")
    (pattern,) = re.findall(r"return status 404 unless \{ path -m reg '(\S+)' \}", content)
    assert allowed(style, pattern) == ([], [])
    assert content.index("return status 404") < content.index("server signaling")
    refused = "http-request return status 404 if { req.fhdr(Sec-WebSocket-Protocol) -m sub -i janus-events }\n"
    assert content.index(refused) < content.index("server signaling")
    assert ("replace-path '^/standalone-signaling(/.*)$' '\\1'" in content) == bool(prefix)
    assert "http-request set-header X-Real-IP %[src]" in content
    assert f"server signaling {SERVER}\n" in content
    line = "use_backend nextcloud-talk-hpb if { hdr(host),field(1,:) -i talk.example.org }"
    assert f"#   {line}{f' {{ path_beg {prefix}/ }}' if prefix else ''}\n" in content


@pytest.mark.parametrize(("style", "prefix"), PATHS.items())
def test_traefik(text, style, prefix):
    expected = _proxy.traefik(
        "talk.example.org",
        f"http://{SERVER}",
        [prefix],
        entry_point="https",
        tls={"certResolver": "le"},
        name="nextcloud-talk",
    )
    assert yaml.safe_load(text(style, "traefik")) == expected


def test_the_run_says_what_to_do(run):
    folder, said = run
    assert f"Put 'import {folder}/one/proxy/caddy.conf' into the site block talk.example.org {{ }}" in said
    assert "believes 192.0.2.7 what it says of its clients, and listens for it on 198.51.100.4:9080." in said
    # One that was chosen is shown as a whole, five would be no help.
    assert "respond 404" in said
    assert "RedirectMatch" not in said
    # A program is told to read its file in the same words later; the first time takes more.
    for name, reload in _proxy.FILES.values():
        assert f"{folder}/name/proxy/{name}" in said
        assert reload.rpartition(" && ")[0] in said


def test_a_form_is_told_what_to_tick(run):
    folder, said = run
    (page,) = (folder / "form/proxy").iterdir()
    assert page.name == "form.txt"
    text = page.read_text()
    for row in (
        "name                 talk.example.org, with HTTPS",
        "path                 /standalone-signaling, which is not cut off; or the whole name",
        "scheme               http",
        "host                 198.51.100.4",
        "port                 8084",
        "websockets           on",
        "timeouts             3600 seconds",
        "body size            256 KiB at least",
    ):
        assert f"  {row}" in text
    assert "Never enter port 9080, the signaling server itself" in text
    assert "It believes 192.0.2.7 alone who the clients are" in text
    step = "form: Let your proxy pass talk.example.org on to http://198.51.100.4:8084, with websockets; what to tick"
    assert f"{step} stands in {page}." in said
    assert (
        "Our Traefik believes 192.0.2.7 what it says of its clients, and listens for it on 198.51.100.4:8084." in said
    )
    # The page itself, once.
    assert "Nginx Proxy Manager   Proxy Hosts, Add" in said


def test_every_origin_of_the_certificate_has_its_tasks():
    specs = yaml.safe_load((ROOT / "roles/hpb/meta/argument_specs.yml").read_text())
    choices = specs["argument_specs"]["main"]["options"]["hpb_tls"]["choices"]
    assert "proxy" in choices
    assert [one for one in choices if not (ROOT / f"roles/host/tasks/tls_{one}.yml").is_file()] == []
