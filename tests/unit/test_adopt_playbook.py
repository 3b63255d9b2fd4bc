# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook adopt: reads an installation, changes nothing in it, and writes what the other playbooks take."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import adopt_bed
import adopt_field
import pytest
import yaml
from adopt_bed import SECRETS
from adopt_field import FIELD_SECRETS
from ansible.parsing.vault import VaultLib, VaultSecret

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "adopting-password"
LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}


class Bed:
    """This machine as controller and as the host with the old installation, below a directory of the test."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.old = folder, folder / "old"
        adopt_bed.write(self.old, adopt_bed.FILES)
        # With an /etc of its own nothing of this machine is looked at.
        (self.old / "etc").mkdir()
        (folder / "password").write_text(f"{PASSWORD}\n", encoding="utf-8")
        (folder / "hosts.json").write_text(json.dumps({"all": {"hosts": {"old.example.org": LOCAL}}}), encoding="utf-8")

    def play(self, playbook: str, *arguments: str, inventory: str = "hosts.json", password: bool = True):
        """Run a playbook; no secret may be in what it prints. Returns the exit code and the output."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
        command = [
            *(Path(sys.executable).parent / "ansible-playbook", "-i", self.folder / inventory, "-vvv", "--diff"),
            *(f"nextcloud_talk.hpb.{playbook}", *arguments),
            *(["--vault-password-file", self.folder / "password"] if password else []),
        ]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**env, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )
        output = done.stdout + done.stderr
        for value in [*SECRETS.values(), *FIELD_SECRETS.values(), PASSWORD]:
            assert value not in output
            assert json.dumps(value)[1:-1] not in output
        return done.returncode, output

    def adopt(self, *arguments: str, password: bool = True):
        return self.play("adopt", "-e", f"adopt={self.old}", *arguments, password=password)

    def state(self) -> dict[str, tuple[str, int, int]]:
        """Return content, mode and time of every file of the old installation."""
        files = [path for path in sorted(self.old.rglob("*")) if path.is_file()]
        return {str(f): (f.read_text(encoding="utf-8"), f.stat().st_mode, f.stat().st_mtime_ns) for f in files}


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Bed:
    return Bed(tmp_path_factory.mktemp("adopt"))


def test_an_installation_becomes_an_inventory(bed: Bed) -> None:
    before, there = bed.state(), sorted(bed.folder.iterdir())
    code, output = bed.adopt("--check")
    assert code == 0, output[-3000:]
    assert f"Would write {bed.folder}/inventory" in output
    assert "+++ after: " in output and "+hpb_domain: talk.example.org" in output
    assert sorted(bed.folder.iterdir()) == there

    code, output = bed.adopt()
    assert code == 0, output[-3000:]
    assert f"Wrote {bed.folder}/inventory" in output
    assert "  16. too many are believed as proxies (172.17.0.0/12, which means 172.16.0.0/12; 192.168.0.0/16;" in output
    assert f"     cd {bed.old} && docker compose stop" in output
    assert bed.state() == before

    folder, vault = bed.folder / "inventory", bed.folder / "inventory-secrets.vault"
    written = {str(path.relative_to(folder)): path.read_text(encoding="utf-8") for path in folder.rglob("*.*")}
    assert set(written) == {"hosts.yml", "group_vars/hpb.yml", "ADOPTED.md"}
    assert [value for value in SECRETS.values() if any(value in text for text in written.values())] == []
    # The old coturn is called coturn, and keeps that name.
    said = "of the old containers coturn keeps its name; ours: hpb-signalling, ..."
    assert f"\nhpb_container_prefix: hpb- # {said}\n" in written["group_vars/hpb.yml"]
    back = "docker stop hpb-signalling hpb-coturn hpb-janus hpb-nats, and then docker compose start."
    assert f"The way back is {back}\n" in written["ADOPTED.md"]
    assert written["ADOPTED.md"].startswith(f"# Adopted from `{bed.old}`\n")
    assert stat.S_IMODE(vault.stat().st_mode) == 0o600
    secrets = json.loads(VaultLib([("default", VaultSecret(PASSWORD.encode()))]).decrypt(vault.read_bytes()))
    assert {name: entry["backend"] for name, entry in secrets["instances"].items()} == {
        name: SECRETS[name] for name in ("NC", "DEVNC", "TESTNC")
    }
    assert {entry["turn"] for entry in secrets["instances"].values()} == {SECRETS["turn"]}

    # A second run does not touch what somebody has filled in meanwhile.
    (folder / "hosts.yml").write_text("mine", encoding="utf-8")
    code, output = bed.adopt()
    assert code != 0
    for name in ("inventory/hosts.yml", "inventory/group_vars/hpb.yml", "inventory-secrets.vault"):
        assert f"{bed.folder}/{name} is there already, expected none, since nothing is overwritten:" in output
    assert (folder / "hosts.yml").read_text(encoding="utf-8") == "mine"


def test_the_secrets_can_be_imported_and_the_inventory_is_refused_until_it_is_filled_in(bed: Bed) -> None:
    code, output = bed.adopt("-e", "into=second")
    assert code == 0, output[-3000:]
    hosts = bed.folder / "second/hosts.yml"
    document = yaml.safe_load(hosts.read_text(encoding="utf-8"))
    assert document["hpb"]["hosts"] == {"talk.example.org": None}
    document["hpb"]["hosts"] = {"talk.example.org": LOCAL}
    hosts.write_text(yaml.safe_dump(document), encoding="utf-8")
    base = ("-e", f"hpb_base_dir={bed.folder / 'host'}")
    code, output = bed.play("secrets", "-e", "import=second-secrets.vault", *base, inventory="second")
    assert code == 0, output[-3000:]
    stored = json.loads((bed.folder / "host/secrets/secrets.json").read_text(encoding="utf-8"))
    assert stored["instances"]["NC"] == {
        "backend": SECRETS["NC"],
        "turn": SECRETS["turn"],
        "url": "https://nc.example.org",
    }
    code, output = bed.play("site", "--check", *base, inventory="second")
    assert code != 0
    assert "Of hpb_proxy_network and hpb_proxy_container only one is set" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["-e", "adopt="],
            "adopt is '', expected the absolute path of the directory of the installation on old.exam",
        ),
        (
            ["-e", "adopt=old"],
            "adopt is 'old', expected the absolute path of the directory of the installation on old.ex",
        ),
        (
            ["-e", "adopt=/nonexistent"],
            "/nonexistent was expected to be the directory of an installation and cannot be read",
        ),
        (["-e", "into=none/third"], "/none is no directory on the controller, expected one for "),
        (["-i", "other.example.org,"], "The run has 2 hosts (old.example.org, other.example.org), expected the one"),
    ],
)
def test_what_cannot_work_is_refused(bed: Bed, arguments: list[str], message: str) -> None:
    code, output = bed.adopt("-e", "into=third", *arguments)
    assert code != 0
    assert message in output
    assert not list(bed.folder.glob("third*"))


def test_no_vault_password_and_what_is_no_installation(bed: Bed) -> None:
    code, output = bed.adopt("-e", "into=third", password=False)
    assert code != 0
    assert (
        f"This run has no vault password, expected the one to encrypt {bed.folder}/third-secrets.vault with" in output
    )
    (bed.folder / "none/etc").mkdir(parents=True)
    code, output = bed.adopt("-e", "into=third", "-e", f"adopt={bed.folder}/none")
    assert code != 0
    assert f"{bed.folder}/none has none of compose.yaml, compose.yml, docker-compose.yaml, docker-compose.yml" in output
    assert not list(bed.folder.glob("third*"))


@pytest.mark.parametrize(
    ("files", "path", "instances", "said", "proxy"),
    [
        (
            adopt_field.AIO_TALK,
            "home/me/docker",
            {"cloud_example_net": "signal two", "cloud_example_org": "signal one"},
            "cloud_example_net had https://signal2.example.org and TURN at signal2.example.org:3479;",
            {"hpb_proxy": "form", "hpb_proxy_port": 8181},
        ),
        (
            adopt_field.NATIVE,
            "etc/nextcloud-spreed-signaling",
            {"nextcloud_backend_0": "cloud", "nextcloud_backend_1": "school"},
            "hpb_turn_tls_port: 3478 was left out: hpb_turn_tls_port is 3478, expected a port of its own,",
            {"hpb_proxy": "nginx", "traefik_enabled": False},
        ),
        (
            adopt_field.PORTAINER,
            "var/lib/docker/volumes/portainer_data/_data/compose",
            {"office": "stack nc"},
            "v2/docker-compose.yml uses TZ, which no file that was read sets: it was taken as empty.",
            {"hpb_proxy": "caddy", "traefik_enabled": False},
        ),
    ],
    ids=["aio-talk", "packages", "portainer"],
)
def test_what_people_have_becomes_an_inventory_that_the_other_playbooks_take(
    tmp_path, files, path, instances, said, proxy
):
    bed = Bed(tmp_path)
    (tmp_path / "local.json").write_text(json.dumps({"all": {"hosts": {"localhost": LOCAL}}}), encoding="utf-8")
    adopt_field.written(tmp_path / "host", files)
    code, output = bed.play("adopt", "-e", f"adopt={tmp_path}/host/{path}", inventory="local.json")
    assert code == 0, output[-3000:]
    assert said in output
    vault = bed.folder / "inventory-secrets.vault"
    secrets = json.loads(VaultLib([("default", VaultSecret(PASSWORD.encode()))]).decrypt(vault.read_bytes()))
    assert {name: entry["backend"] for name, entry in secrets["instances"].items()} == {
        name: FIELD_SECRETS[which] for name, which in instances.items()
    }
    settings = yaml.safe_load((bed.folder / "inventory/group_vars/hpb.yml").read_text(encoding="utf-8"))
    assert {name: settings.get(name) for name in ("hpb_proxy", "hpb_proxy_port", "traefik_enabled")} == {
        **dict.fromkeys(("hpb_proxy", "hpb_proxy_port", "traefik_enabled")),
        **proxy,
    }
    # What is to be filled in is said beside; then the checks of the inventory have nothing to say.
    document = yaml.safe_load((bed.folder / "inventory/hosts.yml").read_text(encoding="utf-8"))
    document["hpb"]["hosts"] = dict.fromkeys(document["hpb"]["hosts"], LOCAL)
    (bed.folder / "inventory/hosts.yml").write_text(yaml.safe_dump(document), encoding="utf-8")
    base = ("-e", f"hpb_base_dir={bed.folder / 'base'}")
    code, output = bed.play("secrets", "-e", f"import={vault}", *base, inventory="inventory")
    assert code == 0, output[-3000:]
    code, output = bed.play("firewall", *base, inventory="inventory")
    assert code == 0, output[-3000:]
