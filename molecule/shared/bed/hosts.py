# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test hosts: containers that are whole Debian hosts, with systemd and room for a Docker engine of their own."""

from __future__ import annotations

import io
import json
import tarfile
import time
from pathlib import Path

import docker

from bed import nextcloud
from bed.common import LABEL, BedError, Environment, digest, say

# What a kernel without IPv6 (ipv6.disable=1) answers: EAFNOSUPPORT, for every socket of AF_INET6. The rule holds for
# all that runs in the host, the containers of its own engine included, since filters add up.
AF_INET6, EAFNOSUPPORT = 10, 97
WITHOUT_IPV6 = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [
        {
            "names": ["socket"],
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": EAFNOSUPPORT,
            "args": [{"index": 0, "value": AF_INET6, "op": "SCMP_CMP_EQ"}],
        }
    ],
}
DIGEST = f"{LABEL}.digest"
RESOLVERS = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))


def nameservers() -> list[str]:
    """Return the resolvers of this machine that containers can reach."""
    for file in RESOLVERS:
        lines = file.read_text().splitlines() if file.is_file() else []
        found = [line.split()[1] for line in lines if line.startswith("nameserver ")]
        usable = [address for address in found if not address.startswith("127.") and address != "::1"]
        if usable:
            return usable
    return []


class Host:
    """One test host of an environment."""

    def __init__(self, client: docker.DockerClient, environment: Environment, name: str, image: str) -> None:
        self.client = client
        self.environment = environment
        self.name = name
        self.image = image
        self.container_name = environment.container(name)

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command in the host and return what it wrote; raises BedError when it fails and `check` is set."""
        code, output = self.client.containers.get(self.container_name).exec_run(list(command))
        text = (output or b"").decode(errors="replace")
        if check and code:
            raise BedError(
                f"{self.container_name}: {' '.join(command)} failed with status {code}: {text.strip()[-500:]}"
            )
        return text

    def up(self, stand_in_tags: dict[str, str]) -> None:
        """Bring the host into the described state and wait until it is ready. One that differs is made anew."""
        files = self._files()
        wanted = digest(
            Path(__file__).read_bytes(),
            self.image,
            self.environment.ipv6,
            *(f"{path} {mode:o} " + text for path, (text, mode) in sorted(files.items())),
        )
        try:
            container = self.client.containers.get(self.container_name)
        except docker.errors.NotFound:
            container = None
        if container and container.labels.get(DIGEST) != wanted:
            say(f"{self.container_name}: described otherwise now, making it anew")
            container.remove(force=True, v=True)
            container = None
        if not container:
            self._create(wanted, files)
            container = self.client.containers.get(self.container_name)
        if container.status != "running":
            container.start()
        self._wait_for_system()
        if self.environment.instances(self.name):
            for command in nextcloud.commands(self.environment, self.name, stand_in_tags):
                self.run(*command)

    def _files(self) -> dict[str, tuple[str, int]]:
        """Return what is laid out before the first start: path -> text and mode."""
        engine = {"registry-mirrors": [f"http://{self.environment.registry}"]}
        if nameservers():
            engine["dns"] = nameservers()
        files = {"/etc/docker/daemon.json": (json.dumps(engine, indent=2) + "\n", 0o644)}
        if self.environment.instances(self.name):
            files |= nextcloud.files(self.environment, self.name)
        return files

    def _create(self, wanted: str, files: dict[str, tuple[str, int]]) -> None:
        api = self.client.api
        information = self.client.info()
        binds = [f"{self._volume('docker')}:/var/lib/docker"]
        if nextcloud.has_podman(self.environment, self.name):
            binds.append(f"{self._volume('podman')}:/var/lib/containers")
        legacy = information.get("CgroupVersion", "1") == "1"
        if legacy:
            binds.append("/sys/fs/cgroup:/sys/fs/cgroup:rw")
        sysctls = {"net.ipv4.ip_unprivileged_port_start": "1024"}
        security = ["seccomp=unconfined"]
        if self.environment.ipv6 == "none" and self.name == "hpb":
            security = [f"seccomp={json.dumps(WITHOUT_IPV6)}"]
            sysctls |= {f"net.ipv6.conf.{each}.disable_ipv6": "1" for each in ("all", "default", "lo")}
        if any("name=apparmor" in option for option in information.get("SecurityOptions", [])):
            security.append("apparmor=unconfined")
        host_config = api.create_host_config(
            binds=binds,
            # SYS_PTRACE: without it nobody can be let into a container whose program is not root's (docker exec).
            cap_add=["SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE"],
            security_opt=security,
            tmpfs={"/run": "rw,exec,nosuid,nodev,mode=755", "/tmp": "rw,exec,nosuid,nodev,mode=1777"},
            # Docker opens all ports to everybody in a container; a real host does not.
            sysctls=sysctls,
        )
        # What `docker run --security-opt systempaths=unconfined` says to the engine; nested containers need it.
        host_config |= {"MaskedPaths": [], "ReadonlyPaths": []}
        if not legacy:
            host_config["CgroupnsMode"] = "private"
        endpoint = api.create_endpoint_config(
            aliases=self.environment.names(self.name),
            ipv4_address=self.environment.host_address(self.name),
            ipv6_address=self.environment.host_address6(self.name) or None,
        )
        made = api.create_container(
            self.image,
            name=self.container_name,
            hostname=self.name,
            labels=self.environment.labels | {DIGEST: wanted},
            host_config=host_config,
            networking_config=api.create_networking_config({self.environment.prefix: endpoint}),
        )
        api.put_archive(made["Id"], "/", _tar(files))

    def _volume(self, kind: str) -> str:
        """Return the name of a new, empty volume: an engine's layers cannot lie upon those of another one."""
        name = f"{self.container_name}-{kind}"
        for old in self.client.volumes.list(filters={"name": f"^{name}$"}):
            old.remove()
        self.client.volumes.create(name, labels=self.environment.labels)
        return name

    def _wait_for_system(self) -> None:
        state = ""
        for _ in range(240):
            container = self.client.containers.get(self.container_name)
            if container.status not in ("running", "created"):
                log = container.logs(tail=20).decode(errors="replace")
                raise BedError(f"{self.container_name}: stopped right after its start: {log}")
            state = self.run("systemctl", "is-system-running", check=False).strip()
            if state in ("running", "degraded"):
                break
            time.sleep(0.25)
        if state == "degraded":
            failed = self.run("systemctl", "list-units", "--failed", "--plain", "--no-legend", check=False)
            say(f"{self.container_name}: systemd calls itself degraded: {failed.strip()}")
        elif state != "running":
            raise BedError(
                f"{self.container_name}: systemd is {state or 'silent'} after 60 s: see docker exec journalctl."
            )


def create_network(client: docker.DockerClient, environment: Environment) -> None:
    """Make the environment's network unless it is there."""
    if client.networks.list(names=[f"^{environment.prefix}$"]):
        return
    pools = [docker.types.IPAMPool(subnet=environment.subnet, gateway=environment.address(1))]
    if environment.ipv6 == "both":
        pools.append(docker.types.IPAMPool(subnet=environment.subnet6, gateway=environment.address6(1)))
    client.networks.create(
        environment.prefix,
        driver="bridge",
        enable_ipv6=environment.ipv6 == "both",
        ipam=docker.types.IPAMConfig(pool_configs=pools),
        labels=environment.labels,
    )


def _tar(files: dict[str, tuple[str, int]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        directories = {str(parent) for path in files for parent in Path(path).parents} - {"/"}
        for directory in sorted(directories):
            entry = tarfile.TarInfo(directory.lstrip("/"))
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        for path, (text, mode) in files.items():
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode, entry.mtime = len(text.encode()), mode, int(time.time())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()
