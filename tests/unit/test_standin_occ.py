# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The occ stand-in against the recorded session with the real occ: output, exit code and what is stored."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from standin_instance import STANDIN, Nextcloud

TRANSCRIPT = Path(__file__).parent / "data" / "occ-transcript.txt"
# The recording joins the words with spaces: where a word begins or ends with one, this says what the words were.
WORDS = {
    "talk:signaling:add     s3cret": ["talk:signaling:add", "   ", "s3cret"],
    "talk:signaling:add   https://sp.example.org    secretD ": [
        "talk:signaling:add",
        "  https://sp.example.org  ",
        " secretD ",
    ],
    "talk:signaling:delete   https://sp.example.org  ": ["talk:signaling:delete", "  https://sp.example.org  "],
}


@pytest.fixture
def nextcloud(tmp_path: Path) -> Nextcloud:
    return Nextcloud(tmp_path / "nc", "--talk", "22.0.0")


def steps() -> list[tuple]:
    """Read the recording: ("run", words, stdout, stderr, exit code) and ("stored", key, text)."""
    result: list[tuple] = []
    words: list[str] = []
    out, err = [], []
    for line in TRANSCRIPT.read_text(encoding="utf-8").split("\n"):
        if line.startswith("$ occ "):
            words = WORDS.get(line[6:]) or line[6:].split(" ")
            out, err = [], []
        elif line.startswith("  out| "):
            out.append(line[7:] + "\n")
        elif line.startswith("  err| "):
            err.append(line[7:] + "\n")
        elif line.startswith("  rc="):
            result.append(("run", words, "".join(out), "".join(err), int(line[5:])))
        elif line.startswith("  db "):
            key, _separator, value = line[5:].partition(" = ")
            result.append(("stored", key, value))
        else:
            assert line.startswith("#####") or not line
    return result


def without_random(text: str) -> str:
    """Blank out what differs from run to run: generated TURN secrets and public keys."""
    text = re.sub(r"\b[0-9a-f]{40}\b", "GENERATED", text)
    return re.sub(r"-----BEGIN PUBLIC KEY-----\n\S+\n\S+\n-----END", "-----BEGIN PUBLIC KEY-----\nKEY\n-----END", text)


def test_whole_recording(nextcloud: Nextcloud) -> None:
    recorded = steps()
    assert len([step for step in recorded if step[0] == "run"]) > 80
    for step in recorded:
        if step[0] == "run":
            _kind, words, out, err, code = step
            got = nextcloud.occ(*words)
            assert (without_random(got[0]), got[1], got[2]) == (without_random(out), err, code), words
        else:
            row = nextcloud.stored(step[1])
            text = json.dumps(row, separators=(",", ":")) if row else ""
            assert without_random(text) == without_random(step[2])


def test_parallel_adds_lose_entries(nextcloud: Nextcloud) -> None:
    nextcloud.set(occ_delay=0.5)
    with ThreadPoolExecutor(6) as pool:
        codes = [
            result[2]
            for result in pool.map(
                lambda number: nextcloud.occ("talk:signaling:add", f"https://s{number}.example.org", "secret"), range(6)
            )
        ]
    assert codes == [0] * 6
    stored = json.loads(nextcloud.stored("signaling_servers")[0])
    assert 1 <= len(stored["servers"]) < 6


STATES = [
    (
        "maintenance",
        "Nextcloud is in maintenance mode, no apps are loaded.\nCommands provided by apps are unavailable.\n",
    ),
    (
        "upgrade",
        "Nextcloud or one of the apps require upgrade - only a limited number of commands are available\n"
        "You may use your browser or the occ upgrade command to do the upgrade\n",
    ),
    ("not installed", "Nextcloud is not installed - only a limited number of commands are available\n"),
    ("talk disabled", ""),
    ("talk missing", ""),
]


def enter(nextcloud: Nextcloud, state: str) -> None:
    if state == "maintenance":
        assert nextcloud.occ("maintenance:mode", "--on") == ("Maintenance mode enabled\n", "", 0)
    elif state == "upgrade":
        nextcloud.set(needs_upgrade=True)
    elif state == "not installed":
        nextcloud.configure("'installed' => true", "'installed' => false")
    elif state == "talk disabled":
        assert nextcloud.occ("app:disable", "spreed") == ("spreed 22.0.0 disabled\n", "", 0)
    else:
        nextcloud.set(talk=None)


@pytest.mark.parametrize(("state", "complaint"), STATES)
def test_states_hide_talk(nextcloud: Nextcloud, state: str, complaint: str) -> None:
    enter(nextcloud, state)
    message = '  There are no commands defined in the "talk:signaling" namespace.  '
    block = "\n".join(["", " " * len(message), message, " " * len(message), "", ""])
    assert nextcloud.occ("talk:signaling:list", "--output=json") == ("", complaint + block, 1)
    out, _err, code = nextcloud.occ("status", "--output=json")
    assert code == 0
    assert json.loads(out) == {
        "installed": state != "not installed",
        "version": "34.0.1.2",
        "versionstring": "34.0.1",
        "edition": "",
        "maintenance": state == "maintenance",
        "needsDbUpgrade": state == "upgrade",
        "productname": "Nextcloud",
        "extendedSupport": False,
    }
    assert nextcloud.occ("status", "-e")[2] == {"maintenance": 1, "upgrade": 2}.get(state, 0)


def test_apps(nextcloud: Nextcloud) -> None:
    assert nextcloud.occ("app:enable", "spreed") == ("spreed already enabled\n", "", 0)
    assert nextcloud.occ("app:enable", "nosuch") == ("Could not download app nosuch\n", "", 1)
    assert json.loads(nextcloud.occ("app:list", "--output=json")[0])["enabled"]["spreed"] == "22.0.0"
    nextcloud.occ("app:disable", "spreed")
    assert "spreed" in json.loads(nextcloud.occ("app:list", "--output=json")[0])["disabled"]
    assert nextcloud.occ("app:enable", "spreed") == ("spreed 22.0.0 enabled\n", "", 0)
    nextcloud.set(talk=None)
    assert nextcloud.occ("app:enable", "spreed") == ("Could not download app spreed\n", "", 1)
    assert "spreed" not in nextcloud.occ("app:list", "--output=json")[0]


def test_config_app(nextcloud: Nextcloud) -> None:
    value = '["stun.example.org:443"]'
    assert nextcloud.occ("config:app:get", "spreed", "stun_servers") == ("", "", 1)
    assert nextcloud.occ("config:app:set", "spreed", "stun_servers", "--value", value) == (
        f"Config value 'stun_servers' for app 'spreed' is now set to '{value}', stored as mixed in fast cache\n",
        "",
        0,
    )
    assert nextcloud.occ("config:app:set", "spreed", "stun_servers", f"--value={value}") == (
        "Config value were not updated\n",
        "",
        0,
    )
    assert nextcloud.occ("config:app:get", "spreed", "stun_servers") == (value + "\n", "", 0)
    everything = json.loads(nextcloud.occ("config:list", "spreed", "--private", "--output=json")[0])
    assert everything["apps"]["spreed"]["stun_servers"] == value
    masked = json.loads(nextcloud.occ("config:list", "spreed")[0])
    assert masked["apps"]["spreed"]["stun_servers"] == "***REMOVED SENSITIVE VALUE***"
    assert nextcloud.occ("config:app:delete", "spreed", "stun_servers")[2] == 0
    assert nextcloud.stored("stun_servers") is None


def test_config_import(nextcloud: Nextcloud, tmp_path: Path) -> None:
    path = tmp_path / "import.json"
    path.write_text(json.dumps({"apps": {"spreed": {"turn_servers": "[]", "signaling_mode": None}}}))
    assert nextcloud.occ("config:import", str(path)) == (f"Config successfully imported from: {path}\n", "", 0)
    assert nextcloud.stored("turn_servers") == ["[]", 2, 0]
    path.write_text("nonsense")
    with path.open() as handle:
        expected = ("The file must contain a valid json array\n", "", 1)
        assert nextcloud.occ("config:import", stdin=handle) == expected
    path.write_text(json.dumps({"apps": {"spreed": {"turn_servers": [1]}}}))
    out, _err, code = nextcloud.occ("config:import", str(path))
    assert code == 1
    assert out.startswith('Invalid app config value for "spreed":"turn_servers".')


def test_config_system(nextcloud: Nextcloud) -> None:
    assert nextcloud.occ("config:system:get", "overwrite.cli.url") == ("https://nc.example.org\n", "", 0)
    assert nextcloud.occ("config:system:get", "trusted_domains", "0") == ("nc.example.org\n", "", 0)
    assert nextcloud.occ("config:system:get", "nosuch") == ("", "", 1)
    url = "https://other.example.org/it's"
    assert nextcloud.occ("config:system:set", "overwrite.cli.url", "--value", url)[2] == 0
    assert nextcloud.occ("config:system:get", "overwrite.cli.url")[0] == url + "\n"


def test_typed_arrays_of_talk_25(nextcloud: Nextcloud, tmp_path: Path) -> None:
    nextcloud.set(talk="25.0.0")
    refused = ("Config value were not updated\n", "", 0)
    value = '["stun.example.org:443"]'
    assert nextcloud.occ("config:app:set", "spreed", "stun_servers", "--value", value) == refused
    path = tmp_path / "import.json"
    path.write_text(json.dumps({"apps": {"spreed": {"turn_servers": "[]"}}}))
    assert nextcloud.occ("config:import", str(path))[2] == 0
    assert nextcloud.stored("stun_servers") is None
    assert nextcloud.stored("turn_servers") is None
    assert nextcloud.occ("talk:stun:add", "stun.example.org:443") == ("Added stun.example.org:443.\n", "", 0)
    assert nextcloud.stored("stun_servers") == ['["stun.nextcloud.com:443","stun.example.org:443"]', 64, 0]
    assert nextcloud.occ("config:app:set", "spreed", "stun_servers", "--value", value) == refused
    out, _err, code = nextcloud.occ("config:app:set", "spreed", "stun_servers", "--type=array", "--value", value)
    assert (out[:49], code) == ("Config value 'stun_servers' for app 'spreed' is n", 0)
    assert nextcloud.stored("stun_servers") == [value, 64, 0]
    listed = json.loads(nextcloud.occ("config:list", "spreed", "--private", "--output=json")[0])
    assert listed["apps"]["spreed"]["stun_servers"] == ["stun.example.org:443"]


def test_verify_keys_mends_a_mismatch(nextcloud: Nextcloud) -> None:
    nextcloud.set(openssl_quirk=False)
    assert nextcloud.occ("talk:signaling:verify-keys")[2] == 0
    nextcloud.occ("config:app:set", "spreed", "signaling_token_pubkey_es256", "--value=other")
    out, _err, code = nextcloud.occ("talk:signaling:verify-keys")
    assert (out.splitlines()[-1], code) == (
        "Stored public key for algorithm es256 does not match stored private key",
        1,
    )
    assert nextcloud.occ("talk:signaling:verify-keys", "--update")[2] == 0
    assert nextcloud.occ("talk:signaling:verify-keys")[2] == 0


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def owned_by_nobody():
    """An instance of another user, in a directory that everybody can reach."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    yield Nextcloud(directory / "nc", "--user", "nobody", "--php", str(directory / "php"))
    shutil.rmtree(directory)


@as_root
def test_root_becomes_the_owner(owned_by_nobody: Nextcloud) -> None:
    out, err, code = owned_by_nobody.occ("talk:signaling:add", "https://hpb.example.org", "secret")
    assert (out, err, code) == ("Added signaling server https://hpb.example.org.\n", "", 0)
    owner = pwd.getpwnam("nobody").pw_uid
    owned_by_nobody.occ("maintenance:mode", "--on")
    for name in ("config/config.php", "data/nextcloud.db"):
        assert (owned_by_nobody.root / name).stat().st_uid == owner


@as_root
def test_other_user_is_told_with_exit_code_0(owned_by_nobody: Nextcloud) -> None:
    out, _err, code = owned_by_nobody.occ("status", "--output=json", user=1)
    assert out.startswith('Cannot write into "config" directory!\n')
    assert code == 0


@as_root
def test_root_can_be_refused(owned_by_nobody: Nextcloud) -> None:
    owned_by_nobody.set(root_refused=True)
    out, _err, code = owned_by_nobody.occ("status")
    assert out.startswith("Console has to be executed with the user that owns the file config/config.php\n")
    assert code == 1
    assert owned_by_nobody.occ("status", user="nobody")[2] == 0


@as_root
def test_php_shim(owned_by_nobody: Nextcloud) -> None:
    shim = str(owned_by_nobody.root.parent / "php")
    command = [shim, "-d", "apc.enable_cli=1", str(owned_by_nobody.root / "occ"), "talk:stun:list", "--output=json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("[]\n", "", 0)
    done = subprocess.run([shim, "/nonexistent/occ"], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("Could not open input file: /nonexistent/occ\n", 1)


def test_reinstall_keeps_state(nextcloud: Nextcloud) -> None:
    nextcloud.occ("talk:stun:add", "stun.example.org:443")
    nextcloud.configure("https://nc.example.org", "https://changed.example.org")
    Nextcloud(nextcloud.root)
    assert nextcloud.occ("talk:stun:list", "--output=json")[0] == '["stun.example.org:443"]\n'
    assert nextcloud.occ("config:system:get", "overwrite.cli.url")[0] == "https://changed.example.org\n"


def test_no_machine_of_ours_in_the_files() -> None:
    for path in STANDIN.rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            assert str(Path(__file__).resolve().parents[2]) not in path.read_text(encoding="utf-8"), path
