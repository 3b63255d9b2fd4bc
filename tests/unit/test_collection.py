# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection can be built, installed and used by its name alone; its files name only what may be named."""

from __future__ import annotations

import configparser
import ipaddress
import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
NAME = "nextcloud_talk.hpb"
PROGRAMS = Path(sys.executable).parent
MODULES = sorted(path.stem for path in (ROOT / "plugins/modules").glob("*.py"))
PLAYBOOKS = sorted(path.stem for path in (ROOT / "playbooks").glob("*.yml"))

# Hosts that a link may point to: documentation names, upstream projects and their documentation.
LINKED = re.compile(
    r"""(.+\.)?(example(\.(org|com|net))?|localhost|invalid|test
    |(www\.)?gnu\.org|(spdx|keepachangelog)\.org|github\.com|docs\.ansible\.com|galaxy\.ansible\.com
    |docs\.nextcloud\.com|nextcloud-talk\.readthedocs\.io|nextcloud-spreed-signaling\.readthedocs\.io
    |(docs|download)\.docker\.com|doc\.traefik\.io|docs\.nats\.io|janus\.conf\.meetecho\.com|docs\.github\.com
    |www\.cloudflare\.com|api\.fastly\.com|d7uri8nf7uskq\.cloudfront\.net|docs\.imperva\.com|docs\.sucuri\.net
    |(www\.)?rfc-editor\.org|json-schema\.org|datatracker\.ietf\.org|(acme-v02|acme-staging-v02)\.api\.letsencrypt\.org|letsencrypt\.org)""",
    re.VERBOSE,
)
URL = re.compile(r"\b(?:https?|wss?)://[^\s\"'`<>)\]}|,\\]+")
ADDRESS = re.compile(r"(?<![\w.:/-])(?:\d{1,3}\.){3}\d{1,3}(?![\w.])")


def tracked() -> list[str]:
    """The files of the working tree that git knows or would add."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return sorted(name for name in listing.split("\0") if name and (ROOT / name).is_file())


def texts() -> dict[str, str]:
    found = {}
    for name in tracked():
        try:
            found[name] = (ROOT / name).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
    return found


TEXTS = {name: text for name, text in texts().items() if name != "LICENSE"}


def run(*command: str, cwd: Path, collections: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs one of the environment's programs, with no settings but the path of the collections."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PYTHONPATH"))}
    env["PATH"] = f"{PROGRAMS}{os.pathsep}{env['PATH']}"
    env["ANSIBLE_LOCALHOST_WARNING"] = env["ANSIBLE_INVENTORY_UNPARSED_WARNING"] = "false"
    if collections is not None:
        env["ANSIBLE_COLLECTIONS_PATH"] = str(collections)
    result = subprocess.run(
        [str(PROGRAMS / command[0]), *command[1:]], cwd=cwd, env=env, check=False, capture_output=True, text=True
    )
    assert result.returncode == 0, f"{' '.join(command)}\n{result.stdout}{result.stderr}"
    return result


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    run("ansible-galaxy", "collection", "build", "--output-path", str(folder), str(ROOT), cwd=folder)
    (built,) = folder.glob("*.tar.gz")
    return built


@pytest.fixture(scope="session")
def installed(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    run("ansible-galaxy", "collection", "install", "--offline", "-p", str(folder), str(archive), cwd=folder)
    return folder


def test_archive_is_named_after_the_version(archive: Path) -> None:
    galaxy = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))
    assert archive.name == f"{galaxy['namespace']}-{galaxy['name']}-{galaxy['version']}.tar.gz"


def test_archive_holds_what_users_need_and_nothing_of_the_workshop(archive: Path) -> None:
    with tarfile.open(archive) as opened:
        names = set(opened.getnames())
    wanted = {name for name in tracked() if name.startswith(("roles/", "plugins/", "playbooks/"))}
    assert wanted - names == set()
    hidden = {name for name in names if name.startswith(".")}
    assert hidden == set()
    workshop = {name for name in names if name.split("/")[0] in {"molecule", "tests"} or name.endswith(".pyc")}
    assert workshop == set()


def test_every_plugin_is_documented_where_it_is_installed(installed: Path) -> None:
    for kind, expected in (("module", MODULES), ("filter", None), ("lookup", None)):
        listing = run("ansible-doc", "-t", kind, "-l", "--json", NAME, cwd=installed, collections=installed)
        names = sorted(json.loads(listing.stdout))
        assert names, f"no {kind} is listed"
        if expected is not None:
            assert names == [f"{NAME}.{name}" for name in expected]
        documents = json.loads(
            run("ansible-doc", "-t", kind, "--json", *names, cwd=installed, collections=installed).stdout
        )
        for name in names:
            assert documents[name]["doc"]["short_description"], name


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_playbook_is_found_by_its_full_name(installed: Path, playbook: str, tmp_path: Path) -> None:
    inventory = tmp_path / "hosts.yml"
    inventory.write_text("hpb: {hosts: {hpb: {}}}\nnc: {hosts: {cloud: {}}}\n", encoding="utf-8")
    command = ["ansible-playbook", "-i", str(inventory), "--syntax-check", f"{NAME}.{playbook}"]
    assert "playbook:" in run(*command, cwd=tmp_path, collections=installed).stdout


def test_runtime_and_requirements_name_one_ansible() -> None:
    runtime = yaml.safe_load((ROOT / "meta/runtime.yml").read_text(encoding="utf-8"))
    assert runtime["requires_ansible"] == ">=2.19.0"
    assert "ansible-core>=2.19" in (ROOT / "requirements.txt").read_text(encoding="utf-8")


def test_changelog_names_the_version() -> None:
    version = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))["version"]
    assert f"v{version}\n" in (ROOT / "CHANGELOG.rst").read_text(encoding="utf-8")


def test_links_point_to_documentation_names_and_upstream() -> None:
    wrong = []
    for name, text in TEXTS.items():
        for url in URL.findall(text):
            try:
                host = (urlsplit(url).hostname or "").rstrip(".")
            except ValueError:
                continue
            if "." not in host or re.search(r"[{$%*]", host) or re.fullmatch(r"[\d.]+", host):
                continue
            if not LINKED.fullmatch(host):
                wrong.append(f"{name}: {url}")
    assert wrong == []


def test_addresses_are_reserved_ones() -> None:
    """Nextcloud's versions have four numbers, too; the second is always 0."""
    version_of_nextcloud = re.compile(r"[23]\d\.0\.\d{1,2}\.\d{1,2}")
    relays_of_6to4 = ipaddress.ip_network("192.88.99.0/24")
    wrong = []
    for name, text in TEXTS.items():
        # What operators of proxies publish are the addresses of their networks.
        if name == "plugins/module_utils/_cdn_ranges.py":
            continue
        for found in ADDRESS.findall(text):
            if version_of_nextcloud.fullmatch(found):
                continue
            try:
                address = ipaddress.ip_address(found)
            except ValueError:
                continue
            if address.is_global and not address.is_multicast and address not in relays_of_6to4:
                wrong.append(f"{name}: {found}")
    assert wrong == []


def test_no_mail_address_but_documentation_ones() -> None:
    mail = re.compile(r"\b[\w.+-]+@((?:[\w-]+\.)+[a-z]{2,})\b")
    wrong = [
        f"{name}: {found.group()}"
        for name, text in TEXTS.items()
        for found in mail.finditer(text)
        if not re.fullmatch(r"(.+\.)?(example(\.(org|com|net))?|invalid|test|service|socket)", found.group(1))
    ]
    assert wrong == []


def machine_words() -> set[str]:
    """What only this machine knows: where the checkout lies, and where pip and apt are told to fetch from."""
    general = {"opt", "usr", "var", "srv"}
    words = {str(ROOT)} if len(ROOT.parts) > 2 and ROOT.parts[1] not in general else set()
    sources: list[str] = [value for name, value in os.environ.items() if name.startswith("PIP_") and "://" in value]
    for path in (Path("/etc/pip.conf"), Path.home() / ".config/pip/pip.conf", Path.home() / ".pip/pip.conf"):
        if path.is_file():
            parser = configparser.ConfigParser(interpolation=None)
            parser.read(path, encoding="utf-8")
            sources += [value for section in parser.sections() for value in parser[section].values()]
    apt = Path("/etc/apt")
    for path in [apt / "sources.list", *apt.glob("sources.list.d/*")]:
        if path.is_file():
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            sources += [line for line in lines if not line.startswith("#")]
    for source in sources:
        words |= {host for url in URL.findall(source) if "." in (host := urlsplit(url).hostname or "")}
    return words


@pytest.mark.parametrize("word", sorted(machine_words()))
def test_nothing_of_this_machine_is_named(word: str) -> None:
    assert [name for name, text in TEXTS.items() if word in text] == []


def test_links_between_documents_lead_somewhere() -> None:
    wrong = []
    for name, text in TEXTS.items():
        if not name.endswith(".md"):
            continue
        for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)", text):
            if "://" not in target and not (ROOT / name).parent.joinpath(target).exists():
                wrong.append(f"{name}: {target}")
    assert wrong == []


def test_scripts_can_be_run() -> None:
    scripts = [name for name in TEXTS if name.startswith("scripts/") or name == ".ci/run"]
    shebang = [name for name in scripts if TEXTS[name].startswith("#!")]
    assert "scripts/test" in shebang
    assert [name for name in shebang if not os.access(ROOT / name, os.X_OK)] == []
