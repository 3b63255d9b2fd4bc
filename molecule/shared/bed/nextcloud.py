# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts Nextcloud stand-ins on a test host, behind nginx with certificates of the test CA."""

from __future__ import annotations

from bed import pki
from bed.common import Environment
from bed.images import STAND_IN, STAND_IN_IMAGE

CODE = "/opt/nextcloud-standin"
# Podman's counterpart of the engine's registry-mirrors.
REGISTRIES = """\
[[registry]]
location = "docker.io"
[[registry.mirror]]
location = "{registry}"
insecure = true
"""
# In a test host control groups cannot be made for every controller, nor limits raised; Podman asks for both.
CONTAINERS = """\
[containers]
cgroups = "disabled"
default_ulimits = ["nofile=1024:4096", "nproc=1024:4096"]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "crun"
"""
SITE = """\
server {{
    listen 443 ssl;{further}
    server_name {domain};
    ssl_certificate /etc/nginx/tls/{domain}.pem;
    ssl_certificate_key /etc/nginx/tls/{domain}.key;
    client_max_body_size 16m;
    location / {{
        proxy_pass http://127.0.0.1:{port};
        proxy_http_version 1.1;
        proxy_set_header Host $host;
        proxy_set_header X-Real-IP $remote_addr;
        proxy_set_header X-Forwarded-For $remote_addr;
        proxy_set_header X-Forwarded-Proto https;
        proxy_read_timeout 120s;
    }}
}}
"""


def has_podman(environment: Environment, host: str) -> bool:
    """Return whether one of the host's Nextclouds runs in a container of Podman."""
    return any(instance.get("engine") == "podman" for instance in environment.instances(host).values())


def files(environment: Environment, host: str) -> dict[str, tuple[str, int]]:
    """Return what a host with Nextclouds needs before its first start: path -> text and mode."""
    found = {"/usr/local/share/ca-certificates/testbed.crt": ((environment.directory / "ca.pem").read_text(), 0o644)}
    further = "\n    listen [::]:443 ssl;" if environment.ipv6 == "both" else ""
    for instance in environment.instances(host).values():
        domain = instance["domain"]
        certificate, key = pki.certificate(environment.directory, [domain])
        found[f"/etc/nginx/tls/{domain}.pem"] = (certificate.read_text(), 0o644)
        found[f"/etc/nginx/tls/{domain}.key"] = (key.read_text(), 0o600)
        found[f"/etc/nginx/conf.d/{domain}.conf"] = (
            SITE.format(domain=domain, port=instance["port"], further=further),
            0o644,
        )
    for file in sorted(STAND_IN.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            mode = 0o755 if file.stat().st_mode & 0o100 else 0o644
            found[f"{CODE}/{file.relative_to(STAND_IN)}"] = (file.read_text(), mode)
    if has_podman(environment, host):
        registries = REGISTRIES.format(registry=environment.registry)
        found["/etc/containers/registries.conf.d/testbed.conf"] = (registries, 0o644)
        found["/etc/containers/containers.conf.d/testbed.conf"] = (CONTAINERS, 0o644)
    unit = (STAND_IN / "nextcloud-standin@.service").read_text()
    found["/etc/systemd/system/nextcloud-standin@.service"] = (unit, 0o644)
    return found


def commands(environment: Environment, host: str, tags: dict[str, str]) -> list[list[str]]:
    """Return what brings the host's Nextclouds up once it runs; each may be repeated.

    `tags` are those of the stand-in's images, by the domain that an image is for.
    """
    steps = [["update-ca-certificates"]]
    for name, instance in environment.instances(host).items():
        if "container" in instance:
            steps.append(["sh", "-ec", _container(instance, tags[instance["domain"]])])
            if instance.get("engine") == "podman":
                # It has no daemon that would start the container after a reboot.
                steps.append(["systemctl", "enable", "podman-restart.service"])
            continue
        service = f"nextcloud-standin@{name}"
        install = ["/usr/bin/python3", f"{CODE}/install.py", "--root", instance["path"], "--domain", instance["domain"]]
        install += ["--php", "/usr/local/bin/php", "--service", name, "--port", str(instance["port"])]
        steps += [install, ["systemctl", "enable", "--now", service]]
    return steps


def _container(instance: dict, tag: str) -> str:
    """Return a script that runs the instance in the test host's own Docker, or Podman."""
    name, engine = instance["container"], instance.get("engine", "docker")
    options = [
        f"--name {name}",
        "--detach",
        "--restart always",
        "--network host",
        # The resolver that knows the other test hosts; the engine's own setting names the machine's.
        "--dns 127.0.0.11",
        "--volume /etc/ssl/certs/ca-certificates.crt:/etc/ssl/certs/ca-certificates.crt:ro",
    ]
    serve = f"/usr/bin/python3 -IS {instance['path']}/server.py --root {instance['path']} --bind 127.0.0.1"
    image = f"docker.io/library/{STAND_IN_IMAGE}:{tag}"
    return (
        f"{engine} container inspect {name} >/dev/null 2>&1 && exec {engine} start {name}\n"
        f"exec {engine} run {' '.join(options)} {image} {serve} --port {instance['port']}"
    )
