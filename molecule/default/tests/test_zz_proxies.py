# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real proxies in place of our own Traefik, set up as the run says, under a name of their own and under a path."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import ssl
import sys
import time

import event_door
import pytest
from conftest import ADDRESS, PROJECT, SERVICES, play, read_secrets, recap
from test_network import Pinned
from websockets.asyncio.client import connect

sys.path.insert(0, str(PROJECT / ".tree"))
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _probe_run, _signaling_client  # noqa: E402

pytestmark = pytest.mark.long

DOMAIN = "talk.example.org"
PREFIX = "/standalone-signaling"
BASE = "/opt/nextcloud-talk-hpb"
# The machine on which this runs, as the test hosts see it.
CLIENT = ADDRESS.rpartition(".")[0] + ".1"
INSTANCES = {"nc": "https://nc.example.org", "dev_nc": "https://dev.example.org"}
PRIVATE = [
    "/metrics",
    "/api/v1/stats",
    "/api/v1/serverinfo",
    "/turn/credentials",
    "/turn/credentials?service=turn&api=x",
    "/debug/pprof/",
    "/",
    "/spreed/x",
    "/api/v1/room/",
    "/api/v1/room/../stats",
    "/api/v1/room/%2e%2e/stats",
    "/api/v1/room/..%2fstats",
    "/api/v1/welcome/../stats",
    "/dashboard/",
]
# What a path of the name serves besides, where the backend has only a path of it.
OTHER = "another site"

NGINX = """server {{
    listen 443 ssl;
    server_name talk.example.org;
    ssl_certificate {base}/tls/fullchain.pem;
    ssl_certificate_key {base}/tls/key.pem;
    include {base}/proxy/nginx.conf;
    {other}
}}
"""
APACHE = """<VirtualHost *:443>
    ServerName talk.example.org
    SSLEngine on
    SSLCertificateFile {base}/tls/fullchain.pem
    SSLCertificateKeyFile {base}/tls/key.pem
    Include {base}/proxy/apache.conf
    DocumentRoot /var/www/html
</VirtualHost>
"""
CADDY = """{{
    auto_https disable_redirects
}}
talk.example.org {{
    tls /etc/caddy/fullchain.pem /etc/caddy/key.pem
    import {base}/proxy/caddy.conf
    {other}
}}
"""
# What a form makes of its fields. The client's own X-Real-IP goes through it, as it does through a tunnel.
FORM = """server {{
    listen 443 ssl;
    server_name talk.example.org;
    ssl_certificate {base}/tls/fullchain.pem;
    ssl_certificate_key {base}/tls/key.pem;
    location / {{
        proxy_pass http://{target};
        proxy_http_version 1.1;
        proxy_set_header Host $host;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $http_connection;
    }}
}}
"""
HAPROXY = """global
    maxconn 1000
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend https
    bind :443 ssl crt /etc/haproxy/talk.pem alpn h2,http/1.1
    {line}
    {other}
"""
TRAEFIK_TLS = """tls:
  stores:
    default:
      defaultCertificate: {certFile: /tls/fullchain.pem, keyFile: /tls/key.pem}
"""


def written(hpb, path: str, content: str) -> None:
    """Write a file on the host."""
    hpb.check_output('mkdir -p "$(dirname %s)" && printf %%s %s > %s', path, content, path)


def set_up_nginx(hpb, under: str) -> None:
    other = f'location / {{ return 200 "{OTHER}"; }}' if under else ""
    written(hpb, "/etc/nginx/conf.d/talk.conf", NGINX.format(base=BASE, other=other))
    hpb.check_output("rm -f /etc/nginx/sites-enabled/default; nginx -t && systemctl restart nginx")


def set_up_apache(hpb, _under: str) -> None:
    written(hpb, "/etc/apache2/sites-enabled/000-default.conf", APACHE.format(base=BASE))
    written(hpb, "/var/www/html/index.html", OTHER)
    hpb.check_output(
        "a2enmod -q ssl proxy proxy_http headers alias && apachectl configtest && systemctl restart apache2"
    )


def set_up_caddy(hpb, under: str) -> None:
    other = f'respond "{OTHER}"' if under else ""
    written(hpb, "/etc/caddy/Caddyfile", CADDY.format(base=BASE, other=other))
    hpb.check_output(
        f"install -o caddy -m 0600 -t /etc/caddy {BASE}/tls/fullchain.pem {BASE}/tls/key.pem"
        " && caddy validate --config /etc/caddy/Caddyfile && systemctl restart caddy"
    )


def set_up_haproxy(hpb, under: str) -> None:
    lines = hpb.check_output(f"cat {BASE}/proxy/haproxy.cfg").splitlines()
    (line,) = [text.lstrip("# ") for text in lines if text.startswith("#   use_backend ")]
    other = f'http-request return status 200 content-type text/plain string "{OTHER}" unless {{ path_beg {under}/ }}'
    written(hpb, "/etc/haproxy/haproxy.cfg", HAPROXY.format(line=line, other=other if under else ""))
    written(hpb, "/etc/default/haproxy", f'EXTRAOPTS="-f {BASE}/proxy/haproxy.cfg"\n')
    hpb.check_output(
        f"cat {BASE}/tls/fullchain.pem {BASE}/tls/key.pem > /etc/haproxy/talk.pem"
        f" && haproxy -c -f /etc/haproxy/haproxy.cfg -f {BASE}/proxy/haproxy.cfg && systemctl restart haproxy"
    )


def traefik_image(hpb) -> str:
    """Return the name of Traefik's image that our own deployment has left on the host."""
    return hpb.check_output("docker image ls --format '{{.Repository}}:{{.Tag}}' traefik").split()[0]


def set_up_traefik(hpb, _under: str) -> None:
    written(hpb, "/etc/edge/tls.yml", TRAEFIK_TLS)
    hpb.check_output(f"cp {BASE}/proxy/traefik.yml /etc/edge/talk.yml")
    hpb.check_output(
        f"docker run --detach --name traefik --network host -v /etc/edge:/etc/edge:ro -v {BASE}/tls:/tls:ro"
        f" {traefik_image(hpb)} --providers.file.directory=/etc/edge --entrypoints.websecure.address=:443"
    )


def edge_network(hpb) -> None:
    """Start a Traefik in a Docker network of its own, which learns from labels. It is called as ours is."""
    written(hpb, "/etc/edge/tls.yml", TRAEFIK_TLS)
    hpb.check_output("rm -f /etc/edge/talk.yml; docker network create --subnet 198.51.100.0/24 edge")
    hpb.check_output(
        "docker run --detach --name traefik --network edge --ip 198.51.100.7 -p 443:443"
        f" -v /var/run/docker.sock:/var/run/docker.sock:ro -v /etc/edge:/etc/edge:ro -v {BASE}/tls:/tls:ro"
        f" {traefik_image(hpb)} --providers.docker.exposedbydefault=false --providers.file.directory=/etc/edge"
        " --entrypoints.websecure.address=:443"
    )


SET_UP = {
    "nginx": set_up_nginx,
    "apache": set_up_apache,
    "caddy": set_up_caddy,
    "haproxy": set_up_haproxy,
    "traefik": set_up_traefik,
}
STOP = {
    "nginx": "systemctl stop nginx",
    "apache": "systemctl stop apache2",
    "caddy": "systemctl stop caddy",
    "haproxy": "systemctl stop haproxy",
    "traefik": "docker rm --force traefik",
}


def deploy(*more: str, register: bool = False, **variables) -> str:
    """Deploy with these variables, and register if asked; return the output."""
    said = ""
    for playbook in ["playbooks/deploy.yml", *(["playbooks/register.yml"] if register else [])]:
        done = play("-e", json.dumps({"traefik_enabled": False, **variables}), *more, playbook=playbook)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        said += done.stdout
    return said


@pytest.fixture(scope="module")
def programs(hpb):
    """The proxies of Debian's packages on the host of the backend; at the end all is as it was."""
    written(hpb, "/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n")
    hpb.check_output(
        "chmod 0755 /usr/sbin/policy-rc.d && apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy"
        " --no-install-recommends nginx apache2 caddy haproxy && rm /usr/sbin/policy-rc.d"
    )
    yield
    for command in STOP.values():
        hpb.run(command)
    hpb.run("docker network rm edge")
    back = play()
    assert back.returncode == 0, back.stdout[-6000:]
    again = play("-e", "hpb_verify=false")
    assert all(counts["changed"] == 0 for counts in recap(again.stdout).values())


@pytest.fixture(scope="module", params=["name", "path"])
def under(request, hpb, programs):
    """The path under which the backend is deployed, behind a proxy that is not there yet."""
    path = PREFIX if request.param == "path" else ""
    said = deploy(hpb_path=path, register=True)
    assert f"Your own proxy is to serve https://{DOMAIN}{path}." in said
    assert "nginx: Put 'include" in said
    return path


@pytest.fixture
def context(hpb) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=hpb.check_output(f"cat {BASE}/ca/ca.pem"))


def answer(context, path: str, method: str = "GET", body: bytes | None = None, headers: dict | None = None):
    """Return status, headers and text of an answer of whatever serves the name."""
    connection = Pinned(DOMAIN, context=context)
    connection.request(method, path, body=body, headers=headers or {})
    response = connection.getresponse()
    return response.status, response.headers, response.read().decode(errors="replace")


def wait_for(context, path: str) -> None:
    """Wait until the proxy passes on what it shall."""
    seen: object = None
    for _ in range(60):
        try:
            seen = answer(context, path)[0]
        except (OSError, http.client.HTTPException) as error:
            seen = error
        if seen == 200:
            return
        time.sleep(0.5)
    raise AssertionError(f"{path} does not answer 200: {seen}")


def calls_work(hpb, under: str, context) -> None:
    """Place direct and relayed calls for two instances, with everything that goes before them."""
    secrets = read_secrets(hpb)
    instances = [
        {
            "id": name,
            "url": url,
            "secret": secrets["instances"][name]["backend"],
            "turn_secret": secrets["instances"][name]["turn"],
            "register": True,
        }
        for name, url in INSTANCES.items()
    ]
    report = _probe_run.in_child(
        {
            "url": f"https://{DOMAIN}{under}",
            "internal_secret": secrets["internal"],
            "ca_files": [],
            "ca_pem": [hpb.check_output(f"cat {BASE}/ca/ca.pem")],
            "resolve": {DOMAIN: ADDRESS, "turn.example.org": ADDRESS},
            "turn": {"server": "turn.example.org:3478", "protocols": ["udp"], "tls_port": 5349},
            "instances": instances,
            "duration": 1,
            "timeout": 90,
        }
    )
    print("\n".join(report["table"]))
    assert {row["status"] for row in report["results"]} == {"ok"}, report["failures"]
    steps = {row["step"] for row in report["results"]}
    assert {"welcome", "closed", "websocket", "request", "hello", "direct", "turn-udp"} <= steps


def private_is_closed(under: str, context) -> None:
    found = {path: answer(context, under + path)[0] for path in PRIVATE}
    assert found == dict.fromkeys(PRIVATE, 404)


def the_rest_is_another_site(under: str, context) -> None:
    """Beside the path there is nothing of the signaling server."""
    for path in ("/api/v1/welcome", "/metrics", "/spreed") if under else ():
        status, headers, text = answer(context, path)
        assert "spreed" not in (headers.get("Server") or "") and "nextcloud-spreed" not in text, (path, status)


def headers_are_kept(hpb, under: str, context) -> None:
    """The features are on the answers, and a request keeps its length."""
    secret = read_secrets(hpb)["instances"]["nc"]["backend"]
    body = json.dumps({"type": "message", "message": {"data": {}}}).encode()
    signed = _signaling_client.signed_headers(secret, INSTANCES["nc"], body)
    for seen in (
        answer(context, f"{under}/api/v1/welcome"),
        answer(context, f"{under}/api/v1/room/nobody", "POST", body, signed),
    ):
        assert seen[0] == 200, seen
        assert "mcu" in seen[1]["X-Spreed-Signaling-Features"]
    # What is too long is refused, by the proxy or by the server, which Apache may call a bad gateway.
    assert answer(context, f"{under}/api/v1/room/nobody", "POST", b"x" * 300_000, signed)[0] in (413, 502)


async def say_hello(url: str, tls: ssl.SSLContext | None, secret: str, forged: str) -> None:
    """Open a session as a client that claims to have another address."""
    claims = {"X-Real-IP": forged, "X-Forwarded-For": forged, "Forwarded": f"for={forged}"}
    options = {"ssl": tls} if tls else {}
    async with connect(url, additional_headers=claims, proxy=None, close_timeout=2, **options) as session:
        hello = _signaling_client.internal_hello(secret, INSTANCES["nc"])
        await session.send(json.dumps({"id": "1", "type": "hello", "hello": hello}))
        replies = [json.loads(await session.recv()) for _ in range(2)]
        assert replies[-1]["type"] == "hello", replies


def client_is_seen(hpb, url: str, tls: ssl.SSLContext | None, address: str = ADDRESS) -> None:
    """The signaling server logs the address of the client, whatever the client says of itself."""
    since = hpb.check_output("date +%s")
    forged = "203.0.113.9"
    with _signaling_client.pinned_names({DOMAIN: address}):
        asyncio.run(asyncio.wait_for(say_hello(url, tls, read_secrets(hpb)["internal"], forged), 30))
    log = hpb.check_output(f"docker logs --since {since} signalling 2>&1")
    assert f"from {CLIENT} " in log, log
    assert forged not in log


def serves(hpb, under: str, context, alone: bool = False) -> None:
    """All that a proxy must do; alone is one that has the whole name for the backend."""
    wait_for(context, f"{under}/api/v1/welcome")
    private_is_closed(under, context)
    if not alone:
        the_rest_is_another_site(under, context)
    headers_are_kept(hpb, under, context)
    client_is_seen(hpb, f"wss://{DOMAIN}{under}/spreed", context)
    event_door.is_shut(hpb, context, under)
    calls_work(hpb, under, context)


@pytest.mark.parametrize("kind", SET_UP)
def test_a_proxy_that_is_there(hpb, under, context, kind):
    try:
        SET_UP[kind](hpb, under)
        serves(hpb, under, context)
        if kind == "nginx":
            listed = play(
                "-e", json.dumps({"traefik_enabled": False, "hpb_path": under}), playbook="playbooks/verify.yml"
            )
            assert listed.returncode == 0, listed.stdout[-6000:]
    finally:
        hpb.run(STOP[kind])


def test_our_traefik_is_gone_and_the_server_is_for_this_host_alone(hpb, under):
    names = hpb.check_output("docker ps --all --format '{{.Names}}'").split()
    assert sorted(names) == sorted(set(SERVICES) - {"traefik"})
    config = hpb.check_output(f"cat {BASE}/signalling/config/server.conf")
    assert "listen = 127.0.0.1:8080\n" in config
    assert "trustedproxies = 127.0.0.1\n" in config


def test_the_nextclouds_have_the_path(web, under):
    listed = json.loads(web.check_output("php /var/www/nc/occ talk:signaling:list --output=json"))
    assert [entry["server"] for entry in listed["servers"]] == [f"https://{DOMAIN}{under}"]


def test_a_traefik_in_docker_that_learns_from_labels(hpb, programs, context):
    """Its address in its network is the one that is believed, and no container of the same name is touched."""
    edge_network(hpb)
    before = hpb.check_output("docker inspect --format '{{.State.StartedAt}}' traefik")
    chosen = {"hpb_proxy": "traefik_labels", "hpb_proxy_network": "edge", "hpb_proxy_container": "traefik"}
    try:
        deploy(hpb_path=PREFIX, **chosen)
        serves(hpb, PREFIX, context)
        config = hpb.check_output(f"cat {BASE}/signalling/config/server.conf")
        assert "trustedproxies = 198.51.100.7\n" in config
        assert "listen = 127.0.0.1:8080 198.51.100.1:8080\n" in config
        assert hpb.check_output("docker inspect --format '{{.State.StartedAt}}' traefik") == before
        again = deploy(hpb_path=PREFIX, **chosen)
        assert all(counts["changed"] == 0 for counts in recap(again).values()), again[-3000:]
    finally:
        hpb.run(STOP["traefik"])
        hpb.run("docker network rm edge")


def set_up_form(hpb, target: str) -> None:
    written(hpb, "/etc/nginx/conf.d/talk.conf", FORM.format(base=BASE, target=target))
    hpb.check_output("rm -f /etc/nginx/sites-enabled/default; nginx -t && systemctl restart nginx")


@pytest.mark.parametrize("path", ["", PREFIX])
def test_a_proxy_that_is_only_a_form(hpb, programs, context, path):
    """Our Traefik behind it keeps shut what is private, and knows who the client is."""
    chosen = {"traefik_enabled": True, "hpb_proxy": "form", "hpb_path": path}
    said = deploy(register=True, **chosen)
    assert f"Let your proxy pass {DOMAIN} on to http://127.0.0.1:8084, with websockets" in said
    assert "  port                 8084" in said
    try:
        set_up_form(hpb, "127.0.0.1:8084")
        serves(hpb, path, context, alone=True)
        listening = hpb.check_output("ss -Hltn").splitlines()
        assert [line.split()[3] for line in listening if line.split()[3].endswith((":8084", ":8080"))] == [
            "127.0.0.1:8080",
            "127.0.0.1:8084",
        ]
        verified = play("-e", json.dumps(chosen), playbook="playbooks/verify.yml")
        assert verified.returncode == 0, verified.stdout[-6000:]
        again = deploy(**chosen)
        assert all(counts["changed"] == 0 for counts in recap(again).values()), again[-3000:]
    finally:
        hpb.run(STOP["nginx"])


def test_whoever_passes_on_the_whole_name_to_the_server_is_told(hpb, programs, context):
    """The server refuses what is private itself. A server before 2.1.0 has no events to be told; a later one does."""
    chosen = {"hpb_proxy": "", "hpb_path": "", "traefik_enabled": False}
    deploy(register=True, **chosen)
    try:
        set_up_form(hpb, "127.0.0.1:8080")
        wait_for(context, "/api/v1/welcome")
        verified = play("-e", json.dumps(chosen), playbook="playbooks/verify.yml")
        assert verified.returncode == 0, verified.stdout[-6000:]
        assert "The proxy passes websockets with the subprotocol janus-events on." in verified.stdout
    finally:
        hpb.run(STOP["nginx"])


def test_a_proxy_on_another_host(hpb, web, programs, context):
    """It is believed, and nobody else who reaches the signaling server beside it."""
    there = ADDRESS.rpartition(".")[0] + ".21"
    deploy(hpb_proxy="nginx", hpb_proxy_address=there)
    conf = hpb.check_output(f"cat {BASE}/proxy/nginx.conf")
    assert f"proxy_pass http://{ADDRESS}:8080/spreed;" in conf
    try:
        for name in ("fullchain.pem", "key.pem"):
            written(web, f"/etc/nginx/talk/tls/{name}", hpb.check_output(f"cat {BASE}/tls/{name}") + "\n")
        written(web, "/etc/nginx/talk/proxy/nginx.conf", conf)
        written(web, "/etc/nginx/conf.d/talk.conf", NGINX.format(base="/etc/nginx/talk", other=""))
        web.check_output("nginx -t && systemctl reload nginx")
        client_is_seen(hpb, f"wss://{DOMAIN}/spreed", context, there)
        event_door.is_shut(hpb, context, address=there)
        client_is_seen(hpb, f"ws://{DOMAIN}:8080/spreed", None)
    finally:
        web.run("rm -rf /etc/nginx/talk /etc/nginx/conf.d/talk.conf; systemctl reload nginx")


def test_our_own_traefik_under_a_path_and_its_dashboard(hpb, programs, context):
    password = "a password of 30 characters ok"
    chosen = {
        "traefik_enabled": True,
        "hpb_path": PREFIX,
        "traefik_paths": ["/old"],
        "traefik_dashboard": True,
        "traefik_dashboard_users": {"admin": password},
    }
    said = deploy("--diff", **chosen)
    for path in ("", PREFIX, "/old"):
        wait_for(context, f"{path}/api/v1/welcome")
        private_is_closed(path, context)
    client_is_seen(hpb, f"wss://{DOMAIN}{PREFIX}/spreed", context)
    for path in ("", PREFIX, "/old"):
        event_door.is_shut(hpb, context, path)
    calls_work(hpb, PREFIX, context)

    hashes = hpb.check_output(f"grep -o '[$]2b[$]12[$][^ ]*' {BASE}/traefik/config/dynamic/hpb.yml")
    assert password not in said and hashes not in said
    basic, wrong = (
        {"Authorization": "Basic " + base64.b64encode(login.encode()).decode()}
        for login in (f"admin:{password}", "admin:wrong")
    )
    for path in ("/traefik/dashboard/", "/traefik/api/rawdata"):
        assert answer(context, path)[0] == 401
        assert answer(context, path, headers=wrong)[0] == 401
        assert answer(context, path, headers=basic)[0] == 200
    assert answer(context, "/dashboard/", headers=basic)[0] == 404
    assert answer(context, "/api/rawdata", headers=basic)[0] == 404
    assert "aliasHeadersStrategy" not in hpb.check_output("docker logs traefik 2>&1")
    again = deploy(**chosen)
    assert all(counts["changed"] == 0 for counts in recap(again).values()), again[-3000:]
