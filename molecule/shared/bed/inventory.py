# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory of the demo: three Nextclouds, written with plain values so that a person can read and use it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

HEADER = """---
# The demo's hosts are containers on this machine. Try, in the checkout:
#   .venv/bin/ansible -i .demo/inventory all -m ping
#   .venv/bin/ansible-playbook -i .demo/inventory site.yml
# The backend's address is hpb_media_ip, its name hpb_domain, the CA of its certificate .demo/hpb-ca.pem,
# its secrets hpb_base_dir/secrets/secrets.json on the host talk.example.org.
"""


def demo(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the demo's inventory for the facts that `up` has returned (testbed.json)."""
    hosts = facts["hosts"]
    sources = facts["janus_sources"]
    versions = facts["versions"]
    backend = {
        "hpb_domain": "talk.example.org",
        "hpb_turn_domain": "turn.example.org",
        "hpb_media_ip": hosts["hpb"]["address"],
        "hpb_base_dir": "/opt/nextcloud-talk-hpb",
        "hpb_tls": "private_ca",
        "hpb_ca_files": ["{{ inventory_dir }}/../nextcloud-ca.pem"],
        "hpb_resolve": facts["resolve"],
        "hpb_nofile": 16384,
        "hpb_signaling_version": versions["signaling"],
        "nats_version": versions["nats"],
        "coturn_version": versions["coturn"],
        "traefik_version": versions["traefik"],
        "janus_pull": True,
    }
    for name, source in sources.items():
        prefix = "janus_" if name == "janus" else f"janus_{name}_"
        backend.update({f"{prefix}{key}": source[key] for key in ("version", "url", "sha256")})
    small = {"talk_session_limit": 5, "talk_stream_bitrate": 1048576, "talk_screen_bitrate": 2097152}
    large = {"talk_session_limit": 15, "talk_stream_bitrate": 2097152, "talk_screen_bitrate": 4194304}
    podman = {"talk_container": "test-app-1", "talk_container_engine": "podman"}
    # The stand-in's user, so that a call is placed as a user, too.
    user = {"talk_verify_user": "alice", "talk_verify_password": "TestB-edUse-rAppP-asswo-rd4Al"}
    instances = {
        "nc": ("nc.example.org", "web", {"talk_occ": "/var/www/nc/occ", **large, **user}),
        "dev_nc": ("dev.example.org", "web", {"talk_container": "dev-app-1", **small}),
        "test_nc": ("test.example.org", "test", {**podman, **small}),
    }
    return {
        "all": {
            "vars": {
                "ansible_connection": "community.docker.docker",
                "ansible_python_interpreter": "/usr/bin/python3",
            }
        },
        "hpb": {"hosts": {"talk.example.org": {"ansible_host": hosts["hpb"]["container"]}}, "vars": backend},
        "nextcloud": {
            "children": {
                name: {"hosts": {host: {"ansible_host": hosts[machine]["container"]}}, "vars": variables}
                for name, (host, machine, variables) in instances.items()
            }
        },
    }


def write(facts: dict[str, Any], directory: Path) -> Path:
    """Write the demo's inventory into `directory` and return the file."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "hosts.yml"
    shutil.copyfile(facts["ca"], directory.parent / "nextcloud-ca.pem")
    path.write_text(HEADER + yaml.safe_dump(demo(facts), sort_keys=False), encoding="utf-8")
    return path
