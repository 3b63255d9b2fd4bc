# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Talk's own check: the table of its results, and the module as a process against a Nextcloud that really asks."""

from __future__ import annotations

import json
import threading
from http.server import HTTPServer

import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _setup_check
from test_standin_http import FEATURES, Hpb
from test_talk_modules import FIRST, Nextcloud

COMMAND = "setupchecks --output=json"
UPDATE_OPTIONAL = "Warning: Running version: 2.1.1; some features are not there, missing features: changed-users"


@pytest.mark.parametrize(
    ("severity", "description", "result", "ok", "words"),
    [
        ("success", "", "ok", True, ""),
        ("error", "No High-performance backend configured - small calls only.", "not_configured", False, "register"),
        ("info", "No High-performance backend configured", "not_configured", False, "no signaling server"),
        ("warning", 'Running the "conversation_cluster" mode', "cluster_mode", True, "signaling_mode"),
        (
            "warning",
            "Defining multiple High-performance backends is deprecated",
            "several_servers",
            True,
            "delete the others with 'occ talk:signaling:delete URL', or set talk_exclusive: true",
        ),
        (
            "error",
            "The stored keys differ. Run `occ talk:signaling:verify-keys --update` to fix the issue.",
            "keys_differ",
            False,
            "mend them with 'occ talk:signaling:verify-keys --update'",
        ),
        ("error", "High-performance backend not configured correctly", "keys_unusable", False, "verify-keys"),
        ("error", "Error: Cannot connect to server", "cannot_connect", False, "TCP 443"),
        ("error", "Error: Server did not respond with proper JSON", "no_json", False, "/api/v1/welcome"),
        ("error", "Error: Certificate expired", "certificate_expired", False, "renew it"),
        ("error", "Error: System times are out of sync", "clocks_differ", False, "more than 45 seconds"),
        (
            "error",
            "Error: Running version: 1.2.4; Server needs to be updated to be compatible",
            "update_required",
            False,
            "set hpb_signaling_version to a newer version",
        ),
        ("warning", UPDATE_OPTIONAL, "update_optional", True, "changed-users (shorter news about who is in a call) is"),
        (
            "warning",
            "Warnung: Version 2.0.1; es fehlt: join-features, dialout",
            "update_optional",
            True,
            "join-features (knowing what other clients can do) comes with signaling server 2.0.2",
        ),
        ("warning", "It is highly recommended to configure a memory cache", "no_cache", True, "false alarm"),
        ("error", "Error: Server responded with: 502", "http_status", False, "answered 502"),
        ("error", "Etwas ganz anderes", "unknown", False, "Talk says: Etwas ganz anderes;"),
        ("warning", "Empfohlen: Zwischenspeicher", "unknown", True, "Talk says: Empfohlen: Zwischenspeicher;"),
        ("error", "", "unknown", False, "Talk says: error;"),
    ],
)
def test_each_result_has_a_sentence(severity, description, result, ok, words):
    verdict = _setup_check.judge(severity, description)
    assert (verdict.result, verdict.ok) == (result, ok)
    assert words in verdict.sentence
    assert (verdict.sentence == "") == (result == "ok")
    # There is no finding without a way to mend it.
    assert bool(verdict.cause) == bool(verdict.mend) == (result != "ok")
    assert verdict.plain()["sentence"] == verdict.sentence
    assert (verdict.severity, verdict.description) == (severity, description)


@pytest.fixture
def hpb(tmp_path):
    """A Nextcloud with one registered signaling server on this machine, and how that answers."""
    answers = type("Answers", (Hpb,), {"seen": []})
    server = HTTPServer(("127.0.0.1", 0), answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    nextcloud = Nextcloud(tmp_path, "host", "--talk", "22.0.0")
    nextcloud.occ("talk:signaling:add", "--", f"http://127.0.0.1:{server.server_port}", FIRST)
    # Its keys are there.
    nextcloud.set(openssl_quirk=False)
    nextcloud.occ("talk:signaling:verify-keys")
    nextcloud.set(openssl_quirk=True)
    yield nextcloud, answers
    server.shutdown()
    thread.join()
    server.server_close()


CASES = {
    "ok": ({}, "ok"),
    "old": ({"features": ""}, "update_required"),
    "missing": ({"features": FEATURES.replace("join-features, ", "")}, "update_optional"),
    "clock": ({"clock": 60}, "clocks_differ"),
    "html": ({"body": b"<html>"}, "no_json"),
    "proxy": ({"code": 502}, "http_status"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_nextcloud_that_really_asks(hpb, case):
    (nextcloud, answers), (changes, result) = hpb, CASES[case]
    for name, value in changes.items():
        setattr(answers, name, value)
    found = nextcloud.run("talk_check")
    assert (found["available"], found["result"], found["changed"]) == (True, result, False)
    assert found["ok"] == (found["severity"] in ("success", "warning")) == (case in ("ok", "missing"))
    assert found["where"] == f"occ {nextcloud.root}/occ on this host"
    assert found["starts"] == [COMMAND]
    if case == "missing":
        # 2.0.2 has it, so the header was changed on the way.
        assert "is missing although this version has it" in found["sentence"]
    assert nextcloud.run("talk_check", check=True)["result"] == result


def test_a_talk_that_nobody_has_opened_makes_its_keys_in_the_first_check(hpb):
    """Which fails for that reason: OpenSSL's error of making them is taken for one of using them."""
    nextcloud, _answers = hpb
    for key in ("privkey", "pubkey"):
        nextcloud.occ("config:app:delete", "spreed", f"signaling_token_{key}_es256")
    found = nextcloud.run("talk_check")
    assert (found["result"], found["ok"], found["sentence"]) == ("ok", True, "")
    assert found["starts"] == [COMMAND, COMMAND]
    # It is asked once more for that reason only, and not for ever.
    said = {
        "severity": "error",
        "description": "Nicht richtig eingerichtet. `occ talk:signaling:verify-keys` sagt mehr.",
    }
    answer = json.dumps({"talk": {_setup_check.CHECK: said}})
    (nextcloud.root / "occ").write_text(f"print({answer!r})")
    found = nextcloud.run("talk_check")
    assert (found["result"], found["ok"]) == ("keys_unusable", False)
    assert found["cause"] == "Talk cannot use its signaling keys or its list of servers"
    assert found["mend"].startswith("run 'occ talk:signaling:verify-keys'")


def test_what_is_stored_in_the_nextcloud_is_judged_first(hpb):
    nextcloud, _answers = hpb
    nextcloud.set(memcache="apcu")
    assert nextcloud.run("talk_check")["result"] == "no_cache"
    nextcloud.occ("config:app:set", "spreed", "signaling_token_pubkey_es256", "--value=other")
    assert nextcloud.run("talk_check")["result"] == "keys_differ"
    nextcloud.occ("talk:signaling:add", "https://second.example.org", FIRST)
    assert nextcloud.run("talk_check")["result"] == "several_servers"
    nextcloud.occ("config:app:set", "spreed", "signaling_mode", "--value=internal")
    assert nextcloud.run("talk_check")["result"] == "not_configured"


@pytest.mark.parametrize("kind", ["host", "container"])
def test_a_closed_port(tmp_path, kind):
    nextcloud = Nextcloud(tmp_path, kind, "--talk", "22.0.0")
    nextcloud.occ("talk:signaling:add", "--", "https://127.0.0.1:1", FIRST)
    found = nextcloud.run("talk_check")
    assert (found["result"], found["ok"], found["description"]) == (
        "cannot_connect",
        False,
        "Error: Cannot connect to server",
    )


OLD_OCC = """import sys
sys.stderr.write('\\n  Command "setupchecks" is not defined.  \\n\\n')
sys.exit(1)
"""


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda nc: (nc.root / "occ").write_text(OLD_OCC), "belongs to a Nextcloud without the command setupchecks"),
        (lambda nc: nc.occ("app:disable", "spreed"), "whose Talk is disabled or has no check of its backend"),
        (lambda nc: (nc.root / "occ").write_text("print('[]')"), "has no check of its backend"),
        (lambda nc: nc.occ("maintenance:mode", "--on"), "is in maintenance mode"),
        (lambda nc: (nc.root / "occ").unlink(), "does not exist; set occ (talk_occ in the inventory)"),
        (lambda nc: (nc.root / "occ").write_text("exit(1)"), "refused 'setupchecks' with exit code 1"),
        (lambda nc: nc.options.update(occ="occ"), "an absolute path was expected"),
    ],
)
def test_where_there_is_no_result_the_module_says_why_and_does_not_fail(tmp_path, prepare, words):
    nextcloud = Nextcloud(tmp_path, "host", "--talk", "22.0.0")
    prepare(nextcloud)
    found = nextcloud.run("talk_check")
    assert not found.get("failed"), found
    assert (found["available"], found["ok"], found["result"], found["severity"]) == (False, True, "not_available", "")
    assert words in found["sentence"]
