# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the roles' versions and checksums come to, with a release and single pins."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SHOWN = {
    "nats": "nats_version",
    "coturn": "coturn_version",
    "signaling": "signalling_version",
    "traefik": "traefik_version",
    "events": "janus_events",
    "base": "janus_base_image",
    **{
        f"{source}{key}": f"janus_{'' if source == 'janus' else source + '_'}{name}"
        for source in ("janus", "libsrtp", "usrsctp")
        for key, name in (("", "version"), (" sha256", "sha256"), (" url", "url"))
    },
}


def ansible(*arguments: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    return subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), *arguments],
        cwd=ROOT,
        env={**env, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def shown(folder: Path, *arguments: str) -> dict[str, Any]:
    """Return what the roles' defaults come to, by the names of `SHOWN`."""
    roles = ["hpb", "nats", "janus", "coturn", "signalling", "traefik"]
    values = ", ".join(f"'{name}': {variable}" for name, variable in SHOWN.items())
    tasks = [{"ansible.builtin.import_role": {"name": f"nextcloud_talk.hpb.{role}"}, "when": False} for role in roles]
    tasks.append(
        {"ansible.builtin.copy": {"content": f"{{{{ {{{values}}} | to_json }}}}", "dest": str(folder / "shown.json")}}
    )
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}
    (folder / "play.yml").write_text(yaml.safe_dump([play]), encoding="utf-8")
    done = ansible(str(folder / "play.yml"), *arguments)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    return json.loads((folder / "shown.json").read_text(encoding="utf-8"))


def test_the_roles_take_the_newest_release_when_nothing_is_set(tmp_path: Path) -> None:
    archives = "https://github.com/{}/archive/"
    assert shown(tmp_path) == {
        "nats": "2.14.5-alpine3.22",
        "coturn": "4.17.0-r0",
        "signaling": "2.1.1",
        "traefik": "v3.7.13",
        "events": True,
        "base": "debian:trixie-slim",
        "janus": "1.4.1",
        "janus sha256": "cba1e7aac44f4458701c5e14698e791a0eee13ecacbdacc71b4245716c442c08",
        "janus url": f"{archives.format('meetecho/janus-gateway')}refs/tags/v1.4.1.tar.gz",
        "libsrtp": "2.8.0",
        "libsrtp sha256": "d123dcff5c56d4f1a9006f2b311ea99a85016cbf3bb24b1007885d422237db85",
        "libsrtp url": f"{archives.format('cisco/libsrtp')}refs/tags/v2.8.0.tar.gz",
        "usrsctp": "fd070e05a7474f38c7fecdf4d4b6005d2547ee00",
        "usrsctp sha256": "066d7ac63f5593bfd9947004961c72e7f5f4112c1ed2df19a1469b5c2dfab44d",
        "usrsctp url": f"{archives.format('sctplab/usrsctp')}fd070e05a7474f38c7fecdf4d4b6005d2547ee00.tar.gz",
    }


def test_the_roles_take_a_named_release_and_single_pins(tmp_path: Path) -> None:
    wanted = {"hpb_release": "2026.07", "coturn_version": "4.18.0-r0", "janus_version": "1.4.0"}
    wanted["hpb_registry"] = "registry.example.org"
    found = shown(tmp_path, "-e", json.dumps(wanted))
    assert found["nats"] == "2.12.15-alpine3.22"
    assert found["traefik"] == "v3.7.9"
    assert found["libsrtp sha256"] == "54facb1727a557c2a76b91194dcb2d0a453aaf8e2d0cbbf1e3c2848c323e28ad"
    assert found["base"] == "registry.example.org/debian:trixie-slim"
    assert found["coturn"] == "4.18.0-r0"
    assert found["janus"] == "1.4.0"
    assert found["janus sha256"] == "ba0d588ad2500e98cdc82e3dc2051c37ba52fa4ff374d92cfcd1145eb4315596"


@pytest.mark.parametrize(
    ("variables", "events"),
    [
        ({"hpb_signaling_version": "2.0.4"}, False),
        ({"hpb_signaling_version": 2.1}, True),
        ({"hpb_release": "2025.10"}, False),
        # The server that is deployed counts, whichever variable says it.
        ({"signalling_version": "2.0.4"}, False),
        ({"hpb_release": "2025.10", "signalling_version": "2.1.0"}, True),
    ],
)
def test_janus_sends_events_to_a_server_that_takes_them(tmp_path: Path, variables: dict, events: bool) -> None:
    assert shown(tmp_path, "-e", json.dumps(variables))["events"] is events


@pytest.mark.parametrize("playbook", ["deploy", "upgrade"])
def test_a_word_in_place_of_a_version_ends_a_run_in_a_sentence(tmp_path: Path, playbook: str) -> None:
    local = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
    hpb = {**local, "hpb_domain": "talk.example.org", "hpb_tls": "private_ca", "hpb_base_dir": str(tmp_path / "base")}
    hosts = {"hpb": {"hosts": {"talk.example.org": hpb}}, "nextcloud": {"hosts": {}}}
    (tmp_path / "hosts.json").write_text(json.dumps(hosts), encoding="utf-8")
    words = {"hpb_signaling_version": "latest", "traefik_version": "stable", "janus_version": "master"}
    done = ansible("-i", str(tmp_path / "hosts.json"), f"nextcloud_talk.hpb.{playbook}", "-e", json.dumps(words))
    assert done.returncode == 2
    for name, word in words.items():
        assert f"{name} is '{word}', which is no version number, expected one such as " in done.stdout
    assert "Version comparison failed" not in done.stdout + done.stderr
    assert "failed=1" in done.stdout and not (tmp_path / "base").exists()
