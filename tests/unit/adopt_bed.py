# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A compose installation as people have it: five files, three Nextclouds, and most of the known defects."""

from __future__ import annotations

import hashlib
from pathlib import Path


def secret(name: str, length: int = 64) -> str:
    """A secret of the old installation; the same in every run, so that tests can look for it."""
    return hashlib.sha256(f"adopted {name}".encode()).hexdigest()[:length]


SECRETS = {name: secret(name) for name in ("turn", "NC", "DEVNC", "TESTNC")}

DOTENV = f"""\
# shared by the services
COTURN_SECRET={SECRETS["turn"]}
COTURN_FQDN=turn.example.org
TALKHPB_FQDN=talk.example.org
NATS_VERSION=2.11.7          # leave it out for the newest
SIGNALLING_VERSION=2.0.1
JANUS_VERSION=1.3.2
LIBSRTP_VERSION=2.7.0
"""

SIGNALLING = f"""\
HTTP_LISTEN=0.0.0.0:8080
TRUSTED_PROXIES=172.17.0.0/12,192.168.0.0/16,10.0.0.0/8,fc00::/7
MAX_STREAM_BITRATE=2097152 # 2 Mbit/s
MAX_SCREEN_BITRATE=4194304 # 4 Mbit/s
USE_JANUS=1
JANUS_URL=ws://janus:8188
NATS_URL=nats://nats:4222
TURN_SERVERS=turn:coturn:3478
#LOG_LEVEL="debug"
LOG_LEVEL="info"

BACKENDS="NC DEVNC TESTNC"
BACKEND_NC_URL=https://nc.example.org
BACKEND_NC_SHARED_SECRET={SECRETS["NC"]}
BACKEND_NC_SESSION_LIMIT=15
BACKEND_NC_MAX_STREAM_BITRATE=2097152
BACKEND_NC_MAX_SCREEN_BITRATE=4194304
BACKEND_DEVNC_URL=https://dev.example.org
BACKEND_DEVNC_SHARED_SECRET={SECRETS["DEVNC"]}
BACKEND_DEVNC_SESSION_LIMIT=5
BACKEND_DEVNC_MAX_STREAM_BITRATE=1048576
BACKEND_DEVNC_MAX_SCREEN_BITRATE=2097152
BACKEND_TESTNC_URL=https://test.example.org
BACKEND_TESTNC_SHARED_SECRET={SECRETS["TESTNC"]}
BACKEND_TESTNC_SESSION_LIMIT=5
"""

COMPOSE = """\
services:
  nats:
    image: nats:${NATS_VERSION:-latest}
    command: ["-p=4222"]
    restart: unless-stopped

  janus:
    image: local/janus-custom
    build:
      context: ./talk-hpb
      dockerfile: ./janus-dockerfile
    restart: unless-stopped
    networks: [proxy]
    command: [janus, --full-trickle, "--stun-server=coturn:3478"]

  signalling:
    image: strukturag/nextcloud-spreed-signaling:${SIGNALLING_VERSION:-latest}
    restart: unless-stopped
    depends_on: [nats, janus, coturn]
    networks: [proxy, default]
    env_file:
      - ./talk-hpb/signalling.env
    environment:
      - EXTERNAL_HOSTNAME=${TALKHPB_FQDN}
      - TURN_API_KEY=${COTURN_SECRET}
      - TURN_SECRET=${COTURN_SECRET}
    labels:
      - traefik.enable=true
      - traefik.http.routers.signalling.rule=Host(`${TALKHPB_FQDN}`)
      - traefik.http.routers.signalling.tls=true
      - traefik.http.routers.signalling.tls.certresolver=letsencryptresolver
      - traefik.http.services.signalling.loadbalancer.server.port=8080
      - traefik.docker.network=proxy

  coturn:
    image: coturn/coturn
    container_name: coturn
    restart: unless-stopped
    ports:
      - 3478:3478
      - 3478:3478/udp
      - 50000-50099:50000-50099/udp
      - 9641:9641
    environment:
      - DETECT_EXTERNAL_IP=yes
      - DETECT_RELAY_IP=yes
    command:
      - -n
      - --log-file=/var/turn.log
      - --realm=${COTURN_FQDN}
      - --use-auth-secret
      - --static-auth-secret=${COTURN_SECRET}
      - --verbose
    volumes:
      - ./coturn/:/var/
      - ./turnserver.conf:/etc/coturn/turnserver.conf
    networks: [proxy]
"""

TURNSERVER = """\
# not read: -n
min-port=50000
max-port=50099
no-tcp-relay
denied-peer-ip=10.0.0.0-10.255.255.255
"""

FILES = {
    ".env": DOTENV,
    "compose.yml": COMPOSE,
    "talk-hpb/signalling.env": SIGNALLING,
    "turnserver.conf": TURNSERVER,
}

# The same three Nextclouds as a mounted server.conf has them, and nothing else that is known to be wrong.
SERVER_CONF = f"""\
[http]
listen = 0.0.0.0:8080

[app]
trustedproxies = 172.30.0.2

[sessions]
hashkey = {secret("hash")}
blockkey = {secret("block", 32)}

[clients]
internalsecret = {secret("internal")}

[backend]
backends = nc, dev-nc, turn ; the last one is called like a section
timeout = 10

[nc]
urls = https://nc.example.org, https://alias.example.org
secret = {SECRETS["NC"]}
sessionlimit = 15

[dev-nc]
urls: https://dev.example.org/cloud/
secret: {SECRETS["DEVNC"]}
maxstreambitrate = 1048576

[turn]
urls = https://test.example.org
secret = {SECRETS["TESTNC"]}

[nats]
url = nats://nats:4222

[mcu]
type = janus
url = ws://127.0.0.1:8188
maxstreambitrate = 1048576
"""

SOUND_COMPOSE = """\
x-common: &common
  read_only: true
  cap_drop: [ALL]
  logging: {driver: local}
  mem_limit: 512m
  restart: unless-stopped
  healthcheck: {test: [CMD, "true"]}

services:
  nats:
    <<: *common
    image: nats:2.14.5
    command: -c /etc/nats.conf
    volumes: ["./nats.conf:/etc/nats.conf:ro"]
    networks: [inner]
  janus:
    <<: *common
    image: registry.example.org/janus:1.4.1
    network_mode: host
  signaling:
    <<: *common
    image: "ghcr.io/strukturag/nextcloud-spreed-signaling:2.1.1"
    depends_on: {nats: {condition: service_healthy}}
    ports: ["127.0.0.1:18080:8080"]
    volumes: ["./config:/config:ro"]
    networks: {inner: {aliases: [hpb]}}
  coturn:
    <<: *common
    image: coturn/coturn:4.17.0-r0
    network_mode: host
    volumes:
      - {type: bind, source: ./turnserver.conf, target: /etc/coturn/turnserver.conf, read_only: true}
networks:
  inner: {internal: true}
"""

SOUND_TURNSERVER = f"""\
realm=turn.example.org
use-auth-secret
static-auth-secret={SECRETS["turn"]}
denied-peer-ip=10.0.0.0-10.255.255.255
no-tcp-relay
min-port=61000
max-port=65535
log-file=stdout
"""

SOUND = {
    "compose.yaml": SOUND_COMPOSE,
    "config/server.conf": SERVER_CONF,
    "turnserver.conf": SOUND_TURNSERVER,
    "nats.conf": "authorization { token: from-elsewhere }\n",
}


def write(folder: Path, files: dict[str, str]) -> None:
    """Write an installation into a directory."""
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
