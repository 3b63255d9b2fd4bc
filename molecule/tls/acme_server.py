#!/usr/bin/env python3
# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts pebble, an ACME server for tests, and the name server BIND on the host of test.example.org; both from Debian.

Pebble speaks ACME at https://test.example.org:14000/dir with a certificate of the bed's CA, asks BIND for names, and
makes certificates that are valid for 21 minutes. BIND has the zone example.org, and takes changes that are signed with
the key of .cache/tls/tsig.key (TSIG, RFC 8945). The root of pebble's certificates is written to
.cache/tls/acme-root.pem.
"""

from __future__ import annotations

import base64
import http.client
import json
import secrets
import ssl
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "shared"))
from bed import pki  # noqa: E402
from bed.common import Environment, say  # noqa: E402

ENVIRONMENT = Environment("tls")
HOST = ENVIRONMENT.container("test")
NAME = "test.example.org"
# Traefik renews certificates of an hour 20 minutes before their end, so these after a minute or two.
VALID_SECONDS = 21 * 60 + 30

NAMED = """
options {{ directory "/var/cache/bind"; listen-on {{ any; }}; recursion no; dnssec-validation no; }};
key "acme." {{ algorithm hmac-sha256; secret "{key}"; }};
zone "example.org" {{ type master; file "/var/lib/bind/example.org"; allow-update {{ key "acme."; }}; }};
"""
# The name server has a name that everybody in the bed knows without it.
ZONE = """$TTL 1
@ IN SOA test hostmaster 1 60 60 60 1
@ IN NS test
test IN A {own}
talk IN A {hpb}
turn IN A {hpb}
turn443 IN A {hpb}
"""
UNIT = """[Service]
Environment=PEBBLE_VA_NOSLEEP=1 PEBBLE_AUTHZREUSE=0 PEBBLE_WFE_NONCEREJECT=0
ExecStart=/usr/bin/pebble -config /etc/pebble-test/config.json -dnsserver 127.0.0.1:53
Restart=on-failure
"""


def run(*command: str, data: str | None = None) -> str:
    """Run a command in the host; returns its output."""
    argv = ["docker", "exec", *(["-i"] if data is not None else []), HOST, *command]
    done = subprocess.run(argv, input=data, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{HOST}: {' '.join(command)} failed with status {done.returncode}: {done.stderr[-800:]}")
    return done.stdout


def write(path: str, text: str) -> None:
    """Write a file in the host."""
    run("sh", "-c", f"mkdir -p $(dirname {path}) && cat >{path}", data=text)


def root(authority: Path) -> str:
    """Wait until pebble answers, and return the root of its certificates."""
    context = ssl.create_default_context(cafile=str(authority))
    # Its certificate is for the name, which only the bed's network knows.
    context.check_hostname = False
    error: Exception | None = None
    for _ in range(60):
        try:
            connection = http.client.HTTPSConnection(
                ENVIRONMENT.host_address("test"), 15000, context=context, timeout=5
            )
            connection.request("GET", "/roots/0")
            return connection.getresponse().read().decode()
        except OSError as problem:
            error = problem
            time.sleep(0.5)
    raise SystemExit(f"pebble on {HOST} does not answer ({error}): see docker exec {HOST} journalctl -u pebble-test.")


def main() -> None:
    """Install, configure and start both."""
    directory = ENVIRONMENT.directory
    authority = directory / "ca.pem"
    run(
        "sh",
        "-c",
        "apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends pebble bind9",
    )
    key = directory / "tsig.key"
    if not key.exists():
        key.touch(mode=0o600)
        key.write_text(base64.b64encode(secrets.token_bytes(32)).decode())
    write("/etc/bind/named.conf", NAMED.format(key=key.read_text()))
    # What an earlier run has changed stands there.
    run("rm", "-f", "/var/lib/bind/example.org.jnl")
    write(
        "/var/lib/bind/example.org",
        ZONE.format(own=ENVIRONMENT.host_address("test"), hpb=ENVIRONMENT.host_address("hpb")),
    )
    run("chown", "-R", "bind:bind", "/var/lib/bind")
    run("systemctl", "restart", "named")
    certificate, private = pki.certificate(directory, [NAME])
    write("/etc/pebble-test/cert.pem", certificate.read_text())
    write("/etc/pebble-test/key.pem", private.read_text())
    config = {
        "listenAddress": "0.0.0.0:14000",
        "managementListenAddress": "0.0.0.0:15000",
        "certificate": "/etc/pebble-test/cert.pem",
        "privateKey": "/etc/pebble-test/key.pem",
        "httpPort": 80,
        "tlsPort": 443,
        "ocspResponderURL": "",
        "certificateValidityPeriod": VALID_SECONDS,
        "profiles": {"default": {"description": "for minutes", "validityPeriod": VALID_SECONDS}},
    }
    write("/etc/pebble-test/config.json", json.dumps({"pebble": config}))
    write("/etc/systemd/system/pebble-test.service", UNIT)
    run("systemctl", "daemon-reload")
    run("systemctl", "restart", "pebble-test")
    (directory / "acme-root.pem").write_text(root(authority))
    say(f"{HOST}: pebble at https://{NAME}:14000/dir, BIND with the zone example.org")


if __name__ == "__main__":
    main()
