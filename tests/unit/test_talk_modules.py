# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Talk modules as real processes against the occ stand-in, on the host and through a container engine."""

from __future__ import annotations

import getpass
import json
import os
import pwd
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from module_process import MODULES, standard_input

STANDIN = Path(__file__).parents[2] / "molecule" / "shared" / "nextcloud"
URL = "https://talk.example.org"
OTHER = "https://hpb.example.net"
FIRST = "0123456789abcdef" * 4
SECOND = "fedcba9876543210" * 4
TURN = {"server": "turn.example.org:3478"}
TURN_LINE = "turn turn.example.org:3478 udp,tcp"
STUN = "turn.example.org:3478"
FORMER_URL = "https://signaling.example.org"
FORMER = "relay.example.org:3478"
KEYS = ("signaling_servers", "turn_servers", "stun_servers")

# Writes down every start of PHP, then does what php does.
PHP = """#!/bin/sh
printf '%s\\n' "$*" >> {log}
exec {php} "$@"
"""
# Answers as an engine does, for the running container `app` only.
ENGINE = """#!/bin/sh
[ "$1" = exec ] || exit 64; shift
if [ "$1" = -i ]; then shift; else exec </dev/null; fi
if [ "$1" = -u ]; then echo "$2" >> {log}.users; shift 2; fi
case "$1" in
  app*) shift ;;
  stopped) echo "Error response from daemon: container 0a1b2c is not running" >&2; exit 1 ;;
  *) echo "Error response from daemon: No such container: $1" >&2; exit 1 ;;
esac
command -v "$1" >/dev/null || {{ echo "OCI runtime exec failed: exec: \\"$1\\": not found" >&2; exit 127; }}
exec "$@"
"""


class Nextcloud:
    """A stand-in, the options that reach it, and what is stored in it."""

    def __init__(self, folder: Path, kind: str, *install: str, user: str = "") -> None:
        self.root, self.log = folder / "nc", folder / "starts"
        command = [sys.executable, STANDIN / "install.py", "--root", self.root, "--domain", "nc.example.org"]
        subprocess.run([*command, "--user", user or getpass.getuser(), *install], check=True)
        self.set(occ_delay=0)
        self.log.touch()
        self.log.chmod(0o666)
        self.options = {"occ": str(self.root / "occ"), "php": str(folder / "php")}
        for name, text in (("php", PHP), ("engine", ENGINE)):
            (folder / name).write_text(text.format(log=self.log, php=STANDIN / "php"), encoding="utf-8")
            (folder / name).chmod(0o755)
        if kind == "container":
            self.options |= {"container": "app", "container_engine": str(folder / "engine")}

    def set(self, **values: object) -> None:
        path = self.root / "data" / "standin.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    def configure(self, old: str, new: str) -> None:
        path = self.root / "config" / "config.php"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    def occ(self, *words: str) -> None:
        subprocess.run([sys.executable, "-IS", self.root / "occ", *words], check=True, capture_output=True)

    def stored(self, key: str):
        with sqlite3.connect(self.root / "data" / "nextcloud.db") as connection:
            query = "SELECT configvalue FROM oc_appconfig WHERE appid = 'spreed' AND configkey = ?"
            try:
                row = connection.execute(query, (key,)).fetchone()
            except sqlite3.OperationalError:  # no command has stored anything yet
                row = None
        return None if row is None else json.loads(row[0])

    def run(self, module: str, check: bool = False, **options):
        """Run a module; no secret may be in what it prints. Returns its result, with `starts`, the occ commands."""
        self.log.write_text("")
        arguments = {**self.options, **options}
        before = {key: self.stored(key) for key in KEYS}
        done = subprocess.run(
            [sys.executable, "-m", MODULES + module],
            input=standard_input({k: v for k, v in arguments.items() if v is not None}, check),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.stdout.strip(), done.stderr
        for secret in (FIRST, SECOND, *([options["secret"]] if len(options.get("secret") or "") > 8 else [])):
            assert secret not in done.stdout + done.stderr
        result = json.loads(done.stdout)
        if check or result.get("failed"):
            assert {key: self.stored(key) for key in KEYS} == before
        starts = [line.partition("/occ ")[2] for line in self.log.read_text().splitlines()]
        result["starts"] = [re.sub(r"--value=[0-9a-f]{32} (?=nextcloud_talk_hpb)", "TOKEN ", line) for line in starts]
        return result


@pytest.fixture
def nextcloud(tmp_path):
    return Nextcloud(tmp_path, "host", "--talk", "22.0.0")


@pytest.fixture(params=["host", "container"])
def either(request, tmp_path):
    return Nextcloud(tmp_path, request.param, "--talk", "22.0.0")


def facts(result):
    assert not result.get("failed"), result
    return result["changed"], result["actions"]


READ = "config:list spreed --private --output=json"
READ_ALL = "config:list --private --output=json"
IMPORT = "config:import php://stdin"
ASK = "config:app:get --default-value=free nextcloud_talk_hpb lease"
TAKE = [ASK, "config:app:set TOKEN nextcloud_talk_hpb lease", ASK]
RELEASE = [ASK, "config:app:delete nextcloud_talk_hpb lease"]


def change(*commands, read=READ):
    """The starts of PHP for a change: read as one of many, of this host, of all; do it; read back."""
    return [read, read, *TAKE, read, *commands, read, *RELEASE]


def test_signaling_ladder(either):
    def run(**options):
        return either.run("talk_signaling_server", **{"url": URL, "secret": FIRST, **options})

    missing = run(secret=None)
    assert missing["msg"] == "state is present but all of the following are missing: secret"
    missing = run(url=None)
    assert missing["msg"] == "missing required arguments: url"

    added = [f"added the signaling server {URL}, with certificate check"]
    result = run(check=True)
    assert facts(result) == (True, added)
    assert result["starts"] == [READ]
    assert result["diff"] == {
        "before": {"signaling_servers": [], "secret": "(not set)"},
        "after": {"signaling_servers": [{"server": URL, "verify": True}], "secret": "(new secret)"},
    }

    result = run()
    assert facts(result) == (True, added)
    assert result["starts"] == change(f"talk:signaling:add --verify -- {URL} {FIRST}")
    right = {"servers": [{"server": URL, "verify": True}], "secret": FIRST}
    assert either.stored("signaling_servers") == right

    result = run()
    assert facts(result) == (False, [])
    assert result["starts"] == [READ]
    assert result["diff"]["before"] == result["diff"]["after"]

    replaced = [f"replaced the secret for {URL}"]
    result = run(check=True, secret=SECOND)
    assert facts(result) == (True, replaced)
    assert result["diff"]["before"]["secret"] == "********"
    assert result["diff"]["after"]["secret"] == "(new secret)"
    result = run(secret=SECOND)
    assert facts(result) == (True, replaced)
    assert result["starts"] == change(IMPORT)
    assert either.stored("signaling_servers") == {**right, "secret": SECOND}
    assert facts(run(secret=SECOND)) == (False, [])

    unverified = [f"set the signaling server {URL} to be used without certificate check"]
    assert facts(run(secret=SECOND, verify=False)) == (True, unverified)
    assert either.stored("signaling_servers")["servers"] == [{"server": URL, "verify": False}]

    removed = [f"removed the signaling server {URL}", "replaced the secret by a random one"]
    assert facts(run(check=True, state="absent", secret=None)) == (True, removed)
    assert facts(run(state="absent", secret=None)) == (True, removed)
    left = either.stored("signaling_servers")
    assert left["servers"] == []
    assert len(left["secret"]) == 64
    assert left["secret"] not in (FIRST, SECOND)
    assert facts(run(state="absent", secret=SECOND)) == (False, [])
    assert either.stored("signaling_servers") == left
    assert facts(run()) == (True, added)
    assert either.stored("signaling_servers") == right


def test_signaling_duplicates_and_spellings_become_one_in_one_step(nextcloud):
    for url in (URL, f"{URL}/", "wss://Talk.example.org", URL):
        nextcloud.occ("talk:signaling:add", "--", url, FIRST)
    result = nextcloud.run("talk_signaling_server", url=URL, secret=FIRST)
    assert facts(result) == (
        True,
        [
            f"set the signaling server {URL} to be used with certificate check",
            f"replaced the entry {URL}/ by {URL}",
            f"replaced the entry wss://Talk.example.org by {URL}",
        ],
    )
    assert result["starts"] == change(IMPORT)
    assert nextcloud.stored("signaling_servers") == {"servers": [{"server": URL, "verify": True}], "secret": FIRST}


def test_another_signaling_server_is_kept_with_a_warning_or_removed(nextcloud):
    nextcloud.occ("talk:signaling:add", "--", OTHER, SECOND)
    result = nextcloud.run("talk_signaling_server", url=URL, secret=FIRST)
    # ansible-core 2.19 and newer wrap a warning, older ones do not.
    texts = [warning if isinstance(warning, str) else warning["event"]["msg"] for warning in result["warnings"]]
    assert texts == [
        "Another signaling server is registered beside ours, which Talk no longer supports: "
        f"{OTHER}. Talk has one secret for all of them, and it is ours now. Remove it, or set exclusive to true."
    ]
    assert [entry["server"] for entry in nextcloud.stored("signaling_servers")["servers"]] == [OTHER, URL]
    result = nextcloud.run("talk_signaling_server", url=URL, secret=FIRST, exclusive=True)
    assert facts(result) == (True, [f"removed the signaling server {OTHER} of somebody else"])
    assert "warnings" not in result
    assert nextcloud.stored("signaling_servers") == {"servers": [{"server": URL, "verify": True}], "secret": FIRST}


def test_a_former_signaling_server_is_replaced_or_removed(nextcloud):
    def run(**options):
        return nextcloud.run("talk_signaling_server", **{"url": URL, "secret": FIRST, **options})

    former = {"former": [FORMER_URL]}
    run(url=FORMER_URL)
    replaced = [f"replaced the entry {FORMER_URL} by {URL}"]
    assert facts(run(check=True, **former)) == (True, replaced)
    result = run(**former)
    assert facts(result) == (True, replaced)
    assert result["starts"] == change(IMPORT)
    assert nextcloud.stored("signaling_servers") == {"servers": [{"server": URL, "verify": True}], "secret": FIRST}
    assert facts(run(**former)) == (False, [])

    run(url=FORMER_URL, former=[URL])
    removed = [f"removed the signaling server {FORMER_URL}", "replaced the secret by a random one"]
    assert facts(run(**former, state="absent")) == (True, removed)
    assert nextcloud.stored("signaling_servers")["servers"] == []
    assert facts(run(**former, state="absent")) == (False, [])


def test_a_former_turn_server_is_replaced_or_removed(nextcloud):
    def run(**options):
        return nextcloud.run("talk_turn_server", **{"servers": [TURN], "secret": SECOND, **options})

    old = {"servers": [{"server": FORMER}], "secret": FIRST}
    run(**old)
    removed = f"removed the TURN server turn {FORMER} udp,tcp"
    replaced = [f"added the TURN server {TURN_LINE}", removed]
    assert facts(run(check=True, former=[FORMER])) == (True, replaced)
    assert facts(run(former=[FORMER])) == (True, replaced)
    assert [entry["server"] for entry in nextcloud.stored("turn_servers")] == [TURN["server"]]
    assert facts(run(former=[FORMER])) == (False, [])

    run(**old, former=[TURN["server"]])
    assert facts(run(former=[FORMER], state="absent", secret=None)) == (True, [removed])
    assert nextcloud.stored("turn_servers") == []
    assert facts(run(former=[FORMER], state="absent", secret=None)) == (False, [])


def test_a_former_stun_server_is_replaced_or_removed(nextcloud):
    def run(**options):
        return nextcloud.run("talk_stun_server", **{"servers": [STUN], **options})

    run(servers=[FORMER])
    replaced = [f"added the STUN server {STUN}", f"removed the STUN server {FORMER}"]
    assert facts(run(check=True, former=[FORMER])) == (True, replaced)
    assert facts(run(former=[FORMER])) == (True, replaced)
    assert nextcloud.stored("stun_servers") == [STUN]
    assert facts(run(former=[FORMER])) == (False, [])

    run(servers=[FORMER], former=[STUN])
    assert facts(run(former=[FORMER], state="absent")) == (True, [f"removed the STUN server {FORMER}"])
    assert nextcloud.stored("stun_servers") == ["stun.nextcloud.com:443"]
    assert facts(run(former=[FORMER], state="absent")) == (False, [])


def test_turn_ladder(either):
    def run(**options):
        return either.run("talk_turn_server", **{"servers": [TURN], "secret": FIRST, **options})

    assert run(secret=None)["msg"] == "state is present but all of the following are missing: secret"
    assert run(servers=None)["msg"] == "missing required arguments: servers"

    added = [f"added the TURN server {TURN_LINE}"]
    result = run(check=True)
    assert facts(result) == (True, added)
    assert result["starts"] == [READ]
    entry = {"schemes": "turn", "server": "turn.example.org:3478", "protocols": "udp,tcp"}
    assert result["diff"] == {
        "before": {"turn_servers": []},
        "after": {"turn_servers": [{**entry, "secret": "(new secret)"}]},
    }
    result = run()
    assert facts(result) == (True, added)
    assert result["starts"] == change(f"talk:turn:add --secret={FIRST} -- {TURN_LINE}")
    assert either.stored("turn_servers") == [{**entry, "secret": FIRST}]
    result = run()
    assert facts(result) == (False, [])
    assert result["starts"] == [READ]

    replaced = [f"replaced the secret of the TURN server {TURN_LINE}"]
    assert facts(run(check=True, secret=SECOND)) == (True, replaced)
    result = run(secret=SECOND)
    assert facts(result) == (True, replaced)
    assert result["starts"] == change(IMPORT)
    assert either.stored("turn_servers") == [{**entry, "secret": SECOND}]
    assert facts(run(secret=SECOND)) == (False, [])

    tcp = [{**TURN, "protocols": "tcp"}]
    result = run(secret=SECOND, servers=tcp)
    assert facts(result) == (
        True,
        ["added the TURN server turn turn.example.org:3478 tcp", f"removed the TURN server {TURN_LINE}"],
    )
    assert either.stored("turn_servers") == [{**entry, "protocols": "tcp", "secret": SECOND}]

    removed = ["removed the TURN server turn turn.example.org:3478 tcp"]
    assert facts(run(check=True, state="absent", secret=None)) == (True, removed)
    assert facts(run(state="absent", secret=None)) == (True, removed)
    assert facts(run(state="absent", secret=None)) == (False, [])
    assert either.stored("turn_servers") == []


def test_a_foreign_turn_server_is_kept_or_removed(nextcloud):
    nextcloud.occ("talk:turn:add", f"--secret={SECOND}", "turn", "turn.example.net:3478", "udp")
    assert nextcloud.run("talk_turn_server", servers=[TURN], secret=FIRST)["changed"]
    assert [entry["secret"] for entry in nextcloud.stored("turn_servers")] == [SECOND, FIRST]
    result = nextcloud.run("talk_turn_server", servers=[TURN], secret=FIRST, exclusive=True)
    assert facts(result) == (True, ["removed the TURN server turn turn.example.net:3478 udp of somebody else"])
    assert [entry["secret"] for entry in nextcloud.stored("turn_servers")] == [FIRST]


def test_stun_ladder(either):
    def run(**options):
        return either.run("talk_stun_server", **{"servers": [STUN], **options})

    assert run(servers=None)["msg"] == "missing required arguments: servers"
    added = [f"added the STUN server {STUN}"]
    result = run(check=True)
    assert facts(result) == (True, added)
    assert result["diff"] == {"before": {"stun_servers": []}, "after": {"stun_servers": [STUN]}}
    result = run()
    assert facts(result) == (True, added)
    assert result["starts"] == change(f"talk:stun:add -- {STUN}")
    assert either.stored("stun_servers") == [STUN]
    result = run()
    assert facts(result) == (False, [])
    assert result["starts"] == [READ]

    second = ["stun.example.org:443"]
    assert facts(run(check=True, servers=second, exclusive=True))[0] is True
    result = run(servers=second, exclusive=True)
    assert facts(result) == (
        True,
        ["added the STUN server stun.example.org:443", f"removed the STUN server {STUN} of somebody else"],
    )
    assert either.stored("stun_servers") == second
    assert facts(run(servers=second, exclusive=True)) == (False, [])

    removed = ["removed the STUN server stun.example.org:443"]
    assert facts(run(check=True, servers=second, state="absent")) == (True, removed)
    result = run(servers=second, state="absent")
    assert facts(result) == (True, removed)
    assert result["diff"]["after"] == {"stun_servers": ["stun.nextcloud.com:443"]}
    assert either.stored("stun_servers") == ["stun.nextcloud.com:443"]
    assert facts(run(servers=second, state="absent")) == (False, [])


def test_talk_25_keeps_typed_arrays_and_ends_in_the_same_state(tmp_path):
    nextcloud = Nextcloud(tmp_path, "host", "--talk", "25.0.0")
    result = nextcloud.run("talk_stun_server", servers=[STUN], exclusive=True)
    assert facts(result) == (True, [f"added the STUN server {STUN}"])
    assert nextcloud.stored("stun_servers") == [STUN]
    assert facts(nextcloud.run("talk_stun_server", servers=[STUN], exclusive=True)) == (False, [])

    entry = {"schemes": "turn", "server": "turn.example.org:3478", "protocols": "udp,tcp"}
    for secret, actions in (
        (FIRST, [f"added the TURN server {TURN_LINE}"]),
        (SECOND, [f"replaced the secret of the TURN server {TURN_LINE}"]),
        (SECOND, []),
    ):
        assert facts(nextcloud.run("talk_turn_server", servers=[TURN], secret=secret)) == (bool(actions), actions)
        assert nextcloud.stored("turn_servers") == [{**entry, "secret": secret}]
    assert facts(nextcloud.run("talk_turn_server", servers=[TURN], state="absent"))[0] is True
    assert nextcloud.stored("turn_servers") == []

    for secret in (FIRST, SECOND):
        assert nextcloud.run("talk_signaling_server", url=URL, secret=secret)["changed"]
        assert nextcloud.stored("signaling_servers") == {"servers": [{"server": URL, "verify": True}], "secret": secret}


def test_what_occ_does_not_store_is_an_error(tmp_path):
    """The typed array is there, but this php drops the commands that would change it, and says that all is well."""
    nextcloud = Nextcloud(tmp_path, "host", "--talk", "22.0.0")
    php = tmp_path / "php"
    text = php.read_text().replace("exec", 'case "$2" in talk:*|config:import) echo Added; exit 0;; esac\nexec')
    php.write_text(text)
    for module, options, key in (
        ("talk_signaling_server", {"url": URL, "secret": FIRST}, "signaling_servers"),
        ("talk_turn_server", {"servers": [TURN], "secret": FIRST}, "turn_servers"),
        ("talk_stun_server", {"servers": [STUN]}, "stun_servers"),
    ):
        result = nextcloud.run(module, **options)
        assert result["msg"].startswith(
            f"occ {nextcloud.root}/occ on this host reported success, but {key} of the app config spreed does not hold "
            "what was written;"
        )
        assert len(result["starts"]) == 10
        assert result["starts"][-2:] == RELEASE


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (
            lambda nc: nc.set(needs_upgrade=True),
            "needs an upgrade, before which Talk cannot be changed; run 'occ upgrade'",
        ),
        (
            lambda nc: nc.occ("maintenance:mode", "--on"),
            "is in maintenance mode, in which Talk cannot be changed; end it",
        ),
        (
            lambda nc: nc.occ("app:disable", "spreed"),
            "in which Talk is disabled; enable it with 'occ app:enable spreed'.",
        ),
        (
            lambda nc: nc.configure("'installed' => true", "'installed' => false"),
            "belongs to a Nextcloud that is not installed; finish its installation first.",
        ),
        (
            lambda nc: (nc.root / "occ").unlink(),
            "does not exist; set occ (talk_occ in the inventory) to the path of the",
        ),
        (
            lambda nc: (nc.root / "occ").write_text("print('PHP Fatal error: Out of memory in /x.php:1'); exit(255)"),
            "was stopped by a PHP error at 'config:list': PHP Fatal error: Out of memory in /x.php:1; mend this",
        ),
        (
            lambda nc: (nc.root / "occ").write_text("print('hello')"),
            "answered 'config:list --output=json' with something that is not JSON: hello; run it by hand",
        ),
        (
            lambda nc: (nc.root / "occ").write_text("print('Cannot write into \"config\" directory!')"),
            "cannot write into its config directory as the user it was run as; set user (talk_occ_user",
        ),
        (lambda nc: nc.options.update(php="no-such-php"), "needs the program no-such-php, which is not there; set php"),
    ],
)
def test_every_state_is_named(nextcloud, prepare, message):
    prepare(nextcloud)
    result = nextcloud.run("talk_signaling_server", url=URL, secret=FIRST)
    assert message in result["msg"]
    assert result["msg"].startswith(f"occ {nextcloud.root}/occ on this host ")
    assert "exception" not in result


def test_a_nextcloud_without_talk_is_named(tmp_path):
    nextcloud = Nextcloud(tmp_path, "host", "--talk", "none")
    for module, options in (
        ("talk_signaling_server", {"url": URL, "secret": FIRST}),
        ("talk_turn_server", {"servers": [TURN], "secret": FIRST}),
        ("talk_stun_server", {"servers": [STUN]}),
    ):
        assert nextcloud.run(module, **options)["msg"] == (
            f"occ {nextcloud.root}/occ on this host belongs to a Nextcloud without Talk; "
            "install it with 'occ app:install spreed'."
        )


def test_our_entries_can_go_while_talk_is_disabled(nextcloud):
    nextcloud.run("talk_signaling_server", url=URL, secret=FIRST)
    nextcloud.run("talk_turn_server", servers=[TURN], secret=FIRST)
    nextcloud.run("talk_stun_server", servers=[STUN])
    nextcloud.occ("app:disable", "spreed")
    assert nextcloud.run("talk_signaling_server", url=URL, state="absent")["changed"]
    assert nextcloud.run("talk_turn_server", servers=[TURN], state="absent")["changed"]
    assert nextcloud.run("talk_stun_server", servers=[STUN], state="absent")["changed"]
    assert nextcloud.stored("signaling_servers")["servers"] == nextcloud.stored("turn_servers") == []


@pytest.mark.parametrize(
    ("container", "message"),
    [
        ("stopped", "because this container is not running; start it, look at '"),
        ("nowhere", "has no container of this name; set container (talk_container in the inventory) to the right one"),
    ],
)
def test_a_container_that_cannot_be_entered_is_named(tmp_path, container, message):
    nextcloud = Nextcloud(tmp_path, "container")
    result = nextcloud.run("talk_stun_server", servers=[STUN], container=container)
    assert message in result["msg"]
    assert result["msg"].startswith(
        f"occ {nextcloud.root}/occ in the container {container} cannot be reached, because "
    )


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (
            "talk_signaling_server",
            {"url": "http://talk.example.org", "secret": FIRST},
            "The url of the signaling server is",
        ),
        ("talk_signaling_server", {"url": URL, "secret": FIRST + " "}, "The secret is empty or has spaces around it"),
        (
            "talk_turn_server",
            {"servers": [{"server": "turn.example.org"}], "secret": FIRST},
            "A TURN server is 'turn.exam",
        ),
        (
            "talk_stun_server",
            {"servers": ["stun:turn.example.org:1"]},
            "A STUN server is 'stun:turn.example.org:1', but",
        ),
        (
            "talk_turn_server",
            {"servers": [{**TURN, "protocols": "sctp"}], "secret": FIRST},
            "value of protocols must be one",
        ),
        ("talk_stun_server", {"servers": [STUN], "occ": "nc/occ"}, "an absolute path was expected"),
    ],
)
def test_options_that_cannot_work_are_refused_without_a_start(tmp_path, module, options, message):
    nextcloud = Nextcloud(tmp_path, "host")
    result = nextcloud.run(module, **options)
    assert message in result["msg"]
    assert result["starts"] == []


def test_internal_signaling_mode_is_refused(nextcloud):
    nextcloud.occ("config:app:set", "spreed", "signaling_mode", "--value=internal")
    result = nextcloud.run("talk_signaling_server", url=URL, secret=FIRST)
    assert "signaling_mode is internal, so that Talk ignores every signaling server" in result["msg"]
    assert "'occ config:app:delete spreed signaling_mode'" in result["msg"]


@pytest.mark.skipif(os.geteuid() != 0, reason="switching the user needs root")
@pytest.mark.parametrize("refused", [False, True])
def test_root_works_as_the_owner_of_config(tmp_path, refused):
    for folder in (tmp_path, *tmp_path.parents):
        if folder != Path("/tmp") and folder.stat().st_uid == os.geteuid() and str(folder) not in ("/", "/root"):
            folder.chmod(folder.stat().st_mode | 0o011)
    nextcloud = Nextcloud(tmp_path, "host", user="daemon")
    nextcloud.set(root_refused=refused)
    assert nextcloud.run("talk_signaling_server", url=URL, secret=FIRST)["changed"]
    result = nextcloud.run("talk_signaling_server", url=URL, secret=SECOND)
    assert facts(result) == (True, [f"replaced the secret for {URL}"])
    assert result["starts"] == change(IMPORT)
    owner = pwd.getpwnam("daemon").pw_uid
    assert (nextcloud.root / "data" / "nextcloud.db").stat().st_uid == owner


def test_the_engine_is_told_the_owner_of_config(tmp_path):
    nextcloud = Nextcloud(tmp_path, "container")
    nextcloud.run("talk_stun_server", servers=[STUN])
    nextcloud.run("talk_stun_server", servers=[STUN], user="www-data")
    users = (tmp_path / "starts.users").read_text().split()
    owner = (nextcloud.root / "config" / "config.php").stat().st_uid
    assert users == [str(owner)] * 10 + ["www-data"]


def test_info(nextcloud):
    def run(**options):
        return nextcloud.run("talk_info", url=URL, secret=FIRST, nextcloud_urls=["https://nc.example.org"], **options)

    result = run(check=True)
    assert result["starts"] == [READ_ALL]
    assert (result["changed"], result["problems"]) == (False, [])
    assert (result["registered"], result["secret_matches"]) == (False, False)
    assert (result["trusted"], result["cli_url_matches"]) == (True, True)
    assert result["nextcloud"] == {
        "version": "34.0.1.2",
        "maintenance": False,
        "needs_upgrade": False,
        "overwrite_cli_url": "https://nc.example.org",
        "overwritehost": "",
        "overwriteprotocol": "https",
        "overwritewebroot": "",
        "trusted_domains": ["nc.example.org"],
        "trusted_proxies": [],
        "all_in_one": False,
    }
    me = pwd.getpwuid(os.geteuid()).pw_name
    become = f"sudo -u {me}" if shutil.which("sudo") else f"runuser -u {me} --"
    assert result["occ"] == f"{become} {nextcloud.options['php']} {nextcloud.root}/occ"
    assert result["talk"]["federation"] is False
    assert result["urls_found"] == ["https://nc.example.org"]
    assert (result["talk"]["installed"], result["talk"]["enabled"], result["talk"]["version"]) == (True, True, "22.0.0")

    nextcloud.run("talk_signaling_server", url=URL, secret=FIRST)
    nextcloud.run("talk_turn_server", servers=[TURN], secret=SECOND)
    result = run()
    assert (result["registered"], result["secret_matches"], result["problems"]) == (True, True, [])
    assert result["talk"]["turn_servers"] == [{"schemes": "turn", "server": STUN, "protocols": "udp,tcp"}]
    assert nextcloud.run("talk_info", secret=SECOND)["secret_matches"] is False

    nextcloud.occ("config:system:set", "overwrite.cli.url", "--value=http://localhost")
    nextcloud.occ("config:system:set", "trusted_domains", "0", "--value=www.example.org")
    nextcloud.occ("app:disable", "spreed")
    nextcloud.occ("maintenance:mode", "--on")
    result = run()
    assert (result["trusted"], result["cli_url_matches"]) == (False, False)
    assert [text.partition(" says that ")[2] or text.partition(" belongs to ")[2] for text in result["problems"]] == [
        "Nextcloud is in maintenance mode, in which Talk cannot be changed; "
        "end it with 'occ maintenance:mode --off' and run this again.",
        "a Nextcloud in which Talk is disabled; enable it with 'occ app:enable spreed'.",
        "a Nextcloud whose overwrite.cli.url is http://localhost, but https://nc.example.org was expected, and the "
        "signaling server refuses what Talk sends from cron; set it with "
        "'occ config:system:set overwrite.cli.url --value=https://nc.example.org', or set mend (talk_mend in the "
        "inventory) to true.",
        "a Nextcloud that does not answer at https://nc.example.org, as the name is no trusted domain; add it to "
        "trusted_domains with 'occ config:system:set trusted_domains 1 --value=nc.example.org'.",
    ]


def test_info_names_what_it_cannot_read(tmp_path):
    nextcloud = Nextcloud(tmp_path, "host")
    nextcloud.configure("'installed' => true", "'installed' => false")
    assert nextcloud.run("talk_info")["msg"] == (
        f"occ {nextcloud.root}/occ on this host belongs to a Nextcloud that is not installed; "
        "finish its installation first."
    )


REGISTRATION = {
    "url": URL,
    "secret": FIRST,
    "turn_servers": [TURN],
    "turn_secret": SECOND,
    "stun_servers": [STUN],
    "former_urls": [FORMER_URL],
    "former_servers": [FORMER],
}
ADDED = [
    f"added the signaling server {URL}, with certificate check",
    f"added the TURN server {TURN_LINE}",
    f"added the STUN server {STUN}",
]
TURN_ENTRY = {"schemes": "turn", "server": STUN, "secret": SECOND, "protocols": "udp,tcp"}


def test_registration_ladder(either):
    def run(**options):
        result = either.run("talk_registration", **{**REGISTRATION, **options})
        assert SECOND not in json.dumps({**result, "starts": []})
        return result

    assert run(secret=None)["msg"] == "state is present but all of the following are missing: secret"
    assert "The secret is empty" in run(turn_secret=None)["msg"]
    result = run(check=True)
    assert facts(result) == (True, ADDED)
    assert result["starts"] == [READ]
    result = run()
    assert facts(result) == (True, ADDED)
    assert result["starts"] == change(
        f"talk:signaling:add --verify -- {URL} {FIRST}",
        f"talk:turn:add --secret={SECOND} -- {TURN_LINE}",
        f"talk:stun:add -- {STUN}",
    )
    assert result["diff"] == {
        "before": {"signaling_servers": [], "secret": "(not set)", "turn_servers": [], "stun_servers": []},
        "after": {
            "signaling_servers": [{"server": URL, "verify": True}],
            "secret": "(new secret)",
            "turn_servers": [{**TURN_ENTRY, "secret": "(new secret)"}],
            "stun_servers": [STUN],
        },
    }
    assert either.stored("signaling_servers") == {"servers": [{"server": URL, "verify": True}], "secret": FIRST}
    assert either.stored("turn_servers") == [TURN_ENTRY]
    assert either.stored("stun_servers") == [STUN]

    result = run()
    assert facts(result) == (False, [])
    assert result["starts"] == [READ]
    assert result["diff"]["before"] == result["diff"]["after"]

    removed = [
        f"removed the signaling server {URL}",
        "replaced the secret by a random one",
        f"removed the TURN server {TURN_LINE}",
        f"removed the STUN server {STUN}",
    ]
    gone = {"state": "absent", "secret": None, "turn_secret": None}
    assert facts(run(check=True, **gone)) == (True, removed)
    assert facts(run(**gone)) == (True, removed)
    assert facts(run(**gone)) == (False, [])
    assert either.stored("signaling_servers")["servers"] == either.stored("turn_servers") == []


def test_registration_replaces_what_is_former_and_keeps_what_is_not_ours(nextcloud):
    nextcloud.occ("talk:signaling:add", "--", FORMER_URL, FIRST)
    nextcloud.occ("talk:turn:add", f"--secret={FIRST}", "turn", FORMER, "udp,tcp")
    nextcloud.occ("talk:turn:add", f"--secret={FIRST}", "turn", "turn.example.net:3478", "udp")
    nextcloud.occ("talk:stun:add", FORMER)
    assert facts(nextcloud.run("talk_registration", **REGISTRATION)) == (
        True,
        [
            f"replaced the entry {FORMER_URL} by {URL}",
            f"added the TURN server {TURN_LINE}",
            f"removed the TURN server turn {FORMER} udp,tcp",
            f"added the STUN server {STUN}",
            f"removed the STUN server {FORMER}",
        ],
    )
    assert [entry["server"] for entry in nextcloud.stored("turn_servers")] == ["turn.example.net:3478", STUN]
    foreign = "removed the TURN server turn turn.example.net:3478 udp of somebody else"
    only_signaling = {"turn_servers": [], "stun_servers": [], "former_servers": []}
    result = nextcloud.run("talk_registration", **{**REGISTRATION, **only_signaling, "exclusive": True})
    assert facts(result) == (False, [])
    assert facts(nextcloud.run("talk_registration", **REGISTRATION, exclusive=True)) == (True, [foreign])


def test_registration_mends_only_when_it_is_asked_to(nextcloud):
    nextcloud.occ("config:app:set", "spreed", "signaling_mode", "--value=internal")
    nextcloud.occ("config:system:set", "overwrite.cli.url", "--value=http://localhost")
    assert "signaling_mode is internal" in nextcloud.run("talk_registration", **REGISTRATION)["msg"]
    options = {**REGISTRATION, "mend": True, "nextcloud_urls": ["https://nc.example.org", "https://a.example.org"]}
    mended = [
        "deleted the signaling_mode internal, with which Talk ignores every signaling server",
        "set overwrite.cli.url to https://nc.example.org (it was http://localhost)",
    ]
    assert facts(nextcloud.run("talk_registration", check=True, **options)) == (True, mended + ADDED)
    result = nextcloud.run("talk_registration", **options)
    assert facts(result) == (True, mended + ADDED)
    assert result["starts"].count(READ_ALL) == 4
    sides = [result["diff"][side] for side in ("before", "after")]
    assert [(side["signaling_mode"], side["overwrite.cli.url"]) for side in sides] == [
        ("internal", "http://localhost"),
        ("", "https://nc.example.org"),
    ]
    info = nextcloud.run("talk_info", nextcloud_urls=options["nextcloud_urls"][:1])
    assert (info["problems"], info["talk"]["signaling_mode"]) == ([], "")
    result = nextcloud.run("talk_registration", **options)
    assert facts(result) == (False, [])
    assert result["starts"] == [READ_ALL]


def test_registration_gives_no_healthy_nextcloud_a_wrong_name(nextcloud):
    wrong = {"mend": True, "nextcloud_urls": ["https://nc.odd.example"]}
    for check in (True, False):
        message = nextcloud.run("talk_registration", check=check, **REGISTRATION, **wrong)["msg"]
        assert "calls itself https://nc.example.org (overwrite.cli.url)" in message
        assert "set talk_url: https://nc.example.org in the inventory" in message
    assert nextcloud.run("talk_info")["nextcloud"]["overwrite_cli_url"] == "https://nc.example.org"
    assert nextcloud.run("talk_info")["talk"]["signaling_servers"] == []
    assert "msg" not in nextcloud.run("talk_registration", **{**REGISTRATION, **wrong, "state": "absent"})


def test_what_is_mended_or_leaves_is_no_problem_for_info(nextcloud):
    nextcloud.occ("config:app:set", "spreed", "signaling_mode", "--value=internal")
    nextcloud.occ("config:system:set", "overwrite.cli.url", "--value=https://www.example.org")
    nextcloud.occ("config:system:set", "trusted_domains", "1", "--value=www.example.org")
    urls = {"nextcloud_urls": ["https://nc.example.org"]}
    assert len(nextcloud.run("talk_info", **urls)["problems"]) == 2
    assert len(nextcloud.run("talk_info", **urls, accept_found=True)["problems"]) == 1
    assert nextcloud.run("talk_info", **urls, mend=True)["problems"] == []
    assert nextcloud.run("talk_info", **urls, state="absent")["problems"] == []


def test_info_in_maintenance_and_of_all_in_one(nextcloud):
    nextcloud.occ("talk:signaling:add", "--verify", "--", "https://nc.example.org/standalone-signaling/", FIRST)
    nextcloud.occ("config:system:set", "one-click-instance", "--type=boolean", "--value=true")
    nextcloud.occ("config:system:set", "overwritehost", "--value=NC.example.org")
    nextcloud.occ("config:system:set", "overwritewebroot", "--value=/cloud")
    nextcloud.occ("maintenance:mode", "--on")
    result = nextcloud.run("talk_info", url=URL, secret=FIRST)
    assert result["nextcloud"]["all_in_one"] is result["nextcloud"]["maintenance"] is result["secret_matches"] is True
    assert (result["nextcloud"]["overwritehost"], result["nextcloud"]["overwritewebroot"]) == (
        "NC.example.org",
        "/cloud",
    )
    assert result["urls_found"] == ["https://nc.example.org", "https://nc.example.org/cloud"]
    assert len(result["problems"]) == 2
    assert result["problems"][1] == (
        f"occ {nextcloud.root}/occ on this host belongs to a Nextcloud All-in-One whose own Talk container is on and "
        "registered again at every start; set NEXTCLOUD_KEEP_DISABLED_APPS to true for its master container (otherwise "
        "the app Talk goes too), switch Talk off in its interface (Containers, Optional), then remove what it has "
        "registered with 'occ talk:signaling:delete https://nc.example.org/standalone-signaling/', and run this again."
    )
    assert nextcloud.run("talk_info", state="absent")["problems"] == result["problems"][:1]


def test_info_keeps_nothing_of_other_apps_and_no_secret_of_config_php(nextcloud):
    nextcloud.occ("config:app:set", "mail", "password", f"--value={SECOND}")
    nextcloud.occ("config:system:set", "dbpassword", f"--value={FIRST}")
    result = nextcloud.run("talk_info", secret=FIRST)
    assert "mail" not in json.dumps(result["talk"]) + json.dumps(result["nextcloud"])


def start_all(nextcloud, runs):
    """Start the module once for each (module, options) of `runs` at the same time; return the results."""
    processes = []
    for module, options in runs:
        text = standard_input({**nextcloud.options, **options})
        process = subprocess.Popen(
            [sys.executable, "-m", MODULES + module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        process.stdin.write(text)
        process.stdin.close()
        processes.append(process)
    return [json.loads(process.stdout.read()) for process in processes]


def test_twenty_registrations_at_a_time_make_one_and_tell_the_truth(nextcloud):
    nextcloud.set(occ_delay=0.2)
    results = start_all(nextcloud, [("talk_registration", REGISTRATION)] * 20)
    told = sorted((facts(result) for result in results), reverse=True)
    assert told == [(True, ADDED)] + [(False, [])] * 19
    assert nextcloud.stored("signaling_servers") == {"servers": [{"server": URL, "verify": True}], "secret": FIRST}
    assert nextcloud.stored("turn_servers") == [TURN_ENTRY]
    assert nextcloud.stored("stun_servers") == [STUN]


def test_writers_of_several_machines_lose_nothing(tmp_path):
    """Each has a name of its own for the container, and therefore a lock of its own."""
    nextcloud = Nextcloud(tmp_path, "container", "--talk", "22.0.0")
    nextcloud.set(occ_delay=0.2)
    names = [f"turn{number}.example.org:3478" for number in range(6)]
    runs = [
        ("talk_turn_server", {"container": f"app{name[4]}", "servers": [{"server": name}], "secret": FIRST})
        for name in names
    ]
    for name, result in zip(names, start_all(nextcloud, runs)):
        assert facts(result) == (True, [f"added the TURN server turn {name} udp,tcp"])
    assert sorted(entry["server"] for entry in nextcloud.stored("turn_servers")) == names


def test_ways_to_turn_over_tls_stay_single_and_go_when_they_are_former(nextcloud):
    """Several entries of ours beside each other, as TURN over TLS and on 443 need them."""
    plain, tls, on_443 = (
        {"schemes": schemes, "server": server, "protocols": protocols}
        for schemes, server, protocols in (
            ("turn", STUN, "udp,tcp"),
            ("turns", "turn.example.org:5349", "tcp"),
            ("turns", "turn443.example.org:443", "tcp"),
        )
    )

    def run(*servers, former=()):
        options = {**REGISTRATION, "turn_servers": list(servers), "former_servers": list(former)}
        return nextcloud.run("talk_registration", **options)["changed"]

    def stored():
        return [{key: entry[key] for key in plain} for entry in nextcloud.stored("turn_servers")]

    assert run(plain)
    assert run(plain, tls, on_443)
    assert stored() == [plain, tls, on_443]
    assert not run(plain, tls, on_443)
    assert run(plain, on_443, former=[tls["server"]])
    assert stored() == [plain, on_443]
    assert run(plain, former=[tls["server"], on_443["server"]])
    assert stored() == [plain]
