# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The old installation, which runs: that of the unit tests with a proxy whose ports ours takes over. As JSON.

Of its containers four have names of ours. Its Janus is none: what is asked of the old signaling server here needs none,
and the test bed has one only after a deployment.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT / "tests/unit"))
from adopt_bed import FILES  # noqa: E402

EDGE = """services:
  edge:
    image: traefik:{traefik}
    container_name: traefik
    command:
      - --providers.docker
      - --providers.docker.exposedbydefault=false
      - --providers.file.filename=/edge/tls.yml
      - --entrypoints.websecure.address=:443
    ports: ["443:443"]
    volumes: ["/var/run/docker.sock:/var/run/docker.sock:ro", "/srv/edge:/edge:ro"]
    networks: [proxy]
    restart: always
"""

SERVER = """\
    networks: [proxy, default]
    command: [sh, /start.sh]
    volumes: ["/srv/edge/start.sh:/start.sh:ro"]
"""


def files(versions: dict[str, str]) -> dict[str, str]:
    """Return the text of each file, with the versions that the test bed has."""
    texts = dict(FILES)
    for name, old, new in (
        ("compose.yml", "services:\n", EDGE.format(**versions)),
        ("compose.yml", "  nats:\n", "  nats:\n    container_name: nats\n"),
        ("compose.yml", "  signalling:\n", "  signalling:\n    container_name: signalling\n"),
        ("compose.yml", "image: coturn/coturn\n", f"image: coturn/coturn:{versions['coturn']}\n"),
        ("compose.yml", "local/janus-custom\n", "debian:trixie-slim\n    container_name: old-janus\n"),
        ("compose.yml", "    build:\n      context: ./talk-hpb\n      dockerfile: ./janus-dockerfile\n", ""),
        ("compose.yml", "[janus, --full-trickle,", "[sleep, infinity,"),
        ("compose.yml", ', "--stun-server=coturn:3478"]', "]"),
        (".env", "NATS_VERSION=2.11.7 ", f"NATS_VERSION={versions['nats']} "),
        (".env", "SIGNALLING_VERSION=2.0.1", f"SIGNALLING_VERSION={versions['signaling']}"),
        # The test bed's image has no entrypoint that makes a server.conf of variables.
        ("compose.yml", "    networks: [proxy, default]\n", SERVER),
        ("talk-hpb/signalling.env", "USE_JANUS=1\nJANUS_URL=ws://janus:8188\n", ""),
    ):
        assert old in texts[name], f"{name} has no {old}"
        texts[name] = texts[name].replace(old, new, 1)
    # With no name of its own compose would call it talk_proxy, and the proxy would look in another one.
    texts["compose.yml"] += "networks:\n  proxy: {name: proxy}\n"
    return texts


if __name__ == "__main__":
    environment = os.environ.get("HPB_TEST_ENVIRONMENT") or "adopt"
    bed = json.loads((PROJECT / f".cache/{environment}/testbed.json").read_text(encoding="utf-8"))
    sys.stdout.write(json.dumps(files(bed["versions"])))
