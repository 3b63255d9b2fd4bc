# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Installations as people run them: aio-talk twice behind Nginx Proxy Manager, Debian's packages behind nginx, a stack
of Portainer's, and Nextcloud All-in-One. Names of files are relative to the root of the host, which @ROOT@ stands for.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from adopt_bed import secret, write


def base64_secret(name: str) -> str:
    """What openssl rand -base64 32 gives: with signs, for those who look at letters and digits alone."""
    for number in range(1000):
        text = base64.b64encode(hashlib.sha256(f"{name} {number}".encode()).digest()).decode()
        if "+" in text and "/" in text:
            return text
    raise AssertionError("no such text")


FIELD_SECRETS = {
    **{name: base64_secret(name) for name in ("signal one", "turn one", "internal one", "signal two", "turn two")},
    **{name: secret(f"field {name}") for name in ("internal two", "cloud", "school", "turn", "hash", "api", "aio")},
    "block": secret("field block", 32),
    "aio turn": secret("field aio turn", 48),
    "aio internal": secret("field aio internal", 48),
    "stack turn": base64_secret("stack turn"),
    "stack nc": base64_secret("stack nc"),
    "stack internal": base64_secret("stack internal"),
}

# Two containers in one compose file, each for one Nextcloud; the proxy is in a directory beside it.
_PROXY_HOST = """\
# ------------------------------------------------------------
# {name}
# ------------------------------------------------------------

map $scheme $hsts_header {{
    https   "max-age=63072000; preload";
}}

server {{
  set $forward_scheme http;
  set $server         "192.0.2.10";
  set $port           {port};

  listen 80;
listen 443 ssl;

  server_name {name};
http2 on;

  # Let's Encrypt SSL
  include conf.d/include/letsencrypt-acme-challenge.conf;
  include conf.d/include/ssl-ciphers.conf;
  ssl_certificate /etc/letsencrypt/live/npm-3/fullchain.pem;
  ssl_certificate_key /etc/letsencrypt/live/npm-3/privkey.pem;

proxy_set_header Upgrade $http_upgrade;
proxy_set_header Connection $http_connection;
proxy_http_version 1.1;

  access_log /data/logs/proxy-host-3_access.log proxy;
  error_log /data/logs/proxy-host-3_error.log warn;

  location / {{
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection $http_connection;
    proxy_http_version 1.1;

    # Proxy!
    include conf.d/include/proxy.conf;
  }}

  # Custom
  include /data/nginx/custom/server_proxy[.]conf;
}}
"""

AIO_TALK = {
    "home/me/docker/hpb/docker-compose.yml": f"""\
name: 'hpb'

services:

  nc-talk-2:
    container_name: nc_talk_2
    image: nextcloud/aio-talk:latest
    init: true
    ports:
      - 3479:3478/tcp
      - 3479:3478/udp
      - 8281:8081/tcp
    environment:
      - NC_DOMAIN=cloud.example.net
      - TALK_HOST=signal2.example.org
      - TURN_SECRET={FIELD_SECRETS["turn two"]} #this must be a long secretpasswordkey
      - SIGNALING_SECRET={FIELD_SECRETS["signal two"]}
      - TZ=Pacific/Auckland
      - TALK_PORT=3478
      - INTERNAL_SECRET={FIELD_SECRETS["internal two"]}
      - SKIP_CERT_VERIFY=true
      - TRUSTED_PROXIES=192.0.2.0/24
    restart: unless-stopped

  nc-talk-1:
    container_name: nc_talk_1
    image: ghcr.io/nextcloud-releases/aio-talk:20260122_105751
    init: true
    ports:
      - 3478:3478/tcp
      - 3478:3478/udp
      - 8181:8081/tcp
    environment:
      NC_DOMAIN: cloud.example.org
      TALK_HOST: signal1.example.org
      TURN_SECRET: "${{TURN_SECRET_1}}"
      SIGNALING_SECRET: "${{SIGNALING_SECRET_1}}"
      TZ: Pacific/Auckland
      TALK_PORT: 3478
      INTERNAL_SECRET: "${{INTERNAL_SECRET_1}}"
      TALK_MAX_STREAM_BITRATE: 2097152
    restart: unless-stopped
    read_only: true
    tmpfs:
      - /var/log/supervisord
      - /var/run/supervisord
      - /opt/eturnal/run
      - /conf
      - /tmp

  recording:
    image: ghcr.io/nextcloud-releases/aio-talk-recording:latest
    environment: {{NC_DOMAIN: cloud.example.org, HPB_DOMAIN: signal1.example.org, RECORDING_SECRET: "${{REC}}"}}
    volumes: ["recordings:/tmp"]

volumes: {{recordings: }}
""",
    "home/me/docker/hpb/.env": f"""\
TURN_SECRET_1={FIELD_SECRETS["turn one"]}
SIGNALING_SECRET_1="{FIELD_SECRETS["signal one"]}"
INTERNAL_SECRET_1='{FIELD_SECRETS["internal one"]}'
""",
    "home/me/docker/npm/docker-compose.yml": """\
services:
  app:
    image: 'jc21/nginx-proxy-manager:latest'
    restart: unless-stopped
    ports: ['80:80', '443:443', '81:81']
    volumes:
      - ./data:/data
      - ./letsencrypt:/etc/letsencrypt
""",
    "home/me/docker/npm/data/nginx/proxy_host/3.conf": _PROXY_HOST.format(name="signal1.example.org", port=8181),
    "home/me/docker/npm/data/nginx/proxy_host/4.conf": _PROXY_HOST.format(name="signal2.example.org", port=8281),
    "home/me/docker/npm/data/nginx/proxy_host/5.conf": _PROXY_HOST.format(name="cloud.example.org", port=11000),
}

# Packages on one host with the web server of the Nextcloud itself, which serves the backend under a path.
NATIVE = {
    "etc/nextcloud-spreed-signaling/server.conf": f"""\
# This file is generated. Lines with HAND-EDIT were changed.
[http]
listen = 127.0.0.1:8080 # HAND-EDIT

[app]
debug = false

[sessions]
hashkey = {FIELD_SECRETS["hash"]} # HAND-EDIT
blockkey = {FIELD_SECRETS["block"]} # HAND-EDIT

[clients]
#internalsecret = the-shared-secret-for-internal-clients

[backend]
backends = nextcloud-backend-0, nextcloud-backend-1 # HAND-EDIT
allowall = false
timeout = 10
connectionsperhost = 8

[nextcloud-backend-0]
url = https://cloud.example.org
secret = {FIELD_SECRETS["cloud"]}

[nextcloud-backend-1]
url = https://school.example.net/nextcloud
secret = {FIELD_SECRETS["school"]}

[nats]
url = nats://localhost:4222 # HAND-EDIT

[mcu]
type = janus # HAND-EDIT
url = ws://127.0.0.1:8188

[turn]
apikey = {FIELD_SECRETS["api"]}
secret = {FIELD_SECRETS["turn"]}
servers = turn:cloud.example.org:3478?transport=udp,turn:cloud.example.org:3478?transport=tcp
""",
    "etc/turnserver.conf": f"""\
listening-port=3478
tls-listening-port=3478
external-ip=$(detect-external-ip)
min-port=49152
max-port=65535
verbose
fingerprint
use-auth-secret
static-auth-secret={FIELD_SECRETS["turn"]}
realm=cloud.example.org
cert=/etc/letsencrypt/live/cloud.example.org/cert.pem
pkey=/etc/letsencrypt/live/cloud.example.org/privkey.pem
log-file=/var/tmp/turnserver.log
no-multicast-peers
denied-peer-ip=10.0.0.0-10.255.255.255
""",
    "etc/janus/janus.jcfg": "general: {\n\tdebug_level = 4\n}\nnat: {\n\tfull_trickle = true\n}\n",
    "etc/nats-server.conf": "listen: 127.0.0.1:4222\n",
    "etc/nginx/nginx.conf": """\
user www-data;
events { worker_connections 768; }
http {
  include /etc/nginx/mime.types;
  include /etc/nginx/conf.d/*.conf;
  include /etc/nginx/sites-enabled/*;
}
""",
    "etc/nginx/sites-enabled/nextcloud": """\
include snippets/signaling-upstream-servers.conf;

server {
  listen 0.0.0.0:80;
  server_name cloud.example.org;
  location / { rewrite ^ https://$host$request_uri? permanent; }
}

server {
  listen 0.0.0.0:443 ssl;
  server_name cloud.example.org;
  root /var/www/nextcloud;
  include /etc/nginx/snippets/headers.conf;

  location = / { try_files $uri $uri/ =404; }
  location ~ \\.php(?:$|/) { fastcgi_pass php-handler; }

  # Signaling
  include snippets/signaling-forwarding.conf;
}
""",
    "etc/nginx/snippets/headers.conf": 'add_header X-Content-Type-Options "nosniff" always;\n',
    "etc/nginx/snippets/signaling-upstream-servers.conf": "upstream signaling {\n    server 127.0.0.1:8080;\n}\n",
    "etc/nginx/snippets/signaling-forwarding.conf": """\
location /standalone-signaling/ {
    proxy_pass http://signaling/;
    proxy_http_version 1.1;
    proxy_set_header Host $host;
    proxy_set_header X-Real-IP $remote_addr;
}

location /standalone-signaling/spreed {
    proxy_pass http://signaling/spreed;
    proxy_http_version 1.1;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection "Upgrade";
}
""",
    **{
        f"lib/systemd/system/{name}.service": f"[Service]\nExecStart=/usr/bin/{name}\n"
        for name in ("nextcloud-spreed-signaling", "janus", "nats-server", "coturn")
    },
}

# A stack of Portainer's in its second version, with a config in the file, one of the host, a service that extends
# another one, and variables in stack.env. Stack 7 is something else, and 9 the proxy.
_STACK = "var/lib/docker/volumes/portainer_data/_data/compose"
PORTAINER = {
    f"{_STACK}/7/docker-compose.yml": """\
services:
  db: {image: mariadb:11, volumes: ["db:/var/lib/mysql"]}
  app: {image: "nextcloud:31-fpm", environment: {MYSQL_PASSWORD: not-ours}}
volumes: {db: }
""",
    f"{_STACK}/9/docker-compose.yml": "services: {web: {image: caddy, network_mode: host, volumes: [./Caddyfile:/c]}}",
    f"{_STACK}/12/v1/docker-compose.yml": "services: {hpb: {image: strukturag/nextcloud-spreed-signaling:1.3.2}}\n",
    f"{_STACK}/12/v2/docker-compose.yml": """\
x-logging: &logging
  logging: {driver: json-file, options: {max-size: 10m}}

include:
  - path: parts/turn.yml

services:
  base:
    <<: *logging
    restart: always
    image: strukturag/nextcloud-spreed-signaling:${SIGNALING_TAG:?set it}
    environment:
      TZ: ${TZ}
    profiles: [never]

  hpb:
    extends: {service: base}
    profiles: [hpb]
    configs:
      - source: signaling
        target: /config/server.conf
    secrets: [internal]
    depends_on: [bus]
    networks: [inner]
    ports: ["${BIND:-127.0.0.1}:${HTTP_PORT:-8880}:8080"]

  bus:
    <<: *logging
    image: nats:2.12-alpine
    networks: {inner: {aliases: [nats]}}

  media:
    <<: *logging
    image: ghcr.io/example/janus-gateway:1.4.1
    network_mode: host

  watchtower:
    image: containrrr/watchtower
    volumes: ["/var/run/docker.sock:/var/run/docker.sock"]

networks: {inner: {internal: true}}
secrets: {internal: {environment: INTERNAL}}
configs:
  signaling:
    content: |
      [http]
      listen = 0.0.0.0:8080
      [clients]
      internalsecret = ${INTERNAL}
      [backend]
      backends = office
      [office]
      urls = https://${NC_FQDN}
      secret = ${NC_SECRET}
      sessionlimit = 30
      [nats]
      url = nats://nats:4222
      [mcu]
      type = janus
      url = ws://172.17.0.1:8188
""",
    f"{_STACK}/12/v2/parts/turn.yml": """\
services:
  relay:
    image: ghcr.io/processone/eturnal:1.12.2
    network_mode: host
    volumes:
      - ${ETURNAL_CONF:-/opt/eturnal/eturnal.yml}:/etc/eturnal.yml:ro
""",
    f"{_STACK}/12/v2/stack.env": f"""\
SIGNALING_TAG=2.0.4
ETURNAL_CONF=@ROOT@/opt/eturnal/eturnal.yml
INTERNAL={FIELD_SECRETS["stack internal"]}
NC_FQDN=office.example.org
NC_SECRET={FIELD_SECRETS["stack nc"]}
""",
    "opt/eturnal/eturnal.yml": f"""\
eturnal:
  secret: "{FIELD_SECRETS["stack turn"]}"
  realm: turn.example.org
  listen:
    - {{ip: "::", port: 3478, transport: udp}}
    - {{ip: "::", port: 3478, transport: auto}}
    - {{ip: "::", port: 5349, transport: tls}}
  tls_crt_file: /etc/eturnal/tls/crt.pem
  tls_key_file: /etc/eturnal/tls/key.pem
  relay_ipv4_addr: "203.0.113.4"
  relay_min_port: 50000
  relay_max_port: 50500
  blacklist_peers: [recommended]
""",
    f"{_STACK}/9/Caddyfile": """\
{
\temail admin@example.org
}

cloud.example.org {
\treverse_proxy 127.0.0.1:11000
}

office.example.org {
\thandle_path /hpb/* {
\t\treverse_proxy 127.0.0.1:8880 {
\t\t\theader_up X-Real-IP {remote_host}
\t\t}
\t}
\thandle {
\t\treverse_proxy 127.0.0.1:8081
\t}
}
""",
}

# What the master container of All-in-One keeps.
ALL_IN_ONE = {
    "var/lib/docker/volumes/nextcloud_aio_mastercontainer/_data/data/configuration.json": f"""\
{{
    "AIO_TOKEN": "x", "domain": "cloud.example.org", "isTalkEnabled": true, "talk_port": "3478",
    "secrets": {{
        "SIGNALING_SECRET": "{FIELD_SECRETS["aio"]}",
        "TURN_SECRET": "{FIELD_SECRETS["aio turn"]}",
        "TALK_INTERNAL_SECRET": "{FIELD_SECRETS["aio internal"]}",
        "DATABASE_PASSWORD": "not ours"
    }}
}}
""",
}


def written(folder: Path, files: dict[str, str]) -> Path:
    """Write the files of a host below a directory, and return that."""
    write(folder, {name: text.replace("@ROOT@", str(folder)) for name, text in files.items()})
    return folder
