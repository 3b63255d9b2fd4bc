# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The judgement of what is done as a user: settings, hellos, calls, and what each trouble is called."""

from __future__ import annotations

import socket
import ssl

import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _user
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._talk_client import Unwanted

ITEM = {"id": "nc", "url": "https://nc.example.org", "user": "alice", "register": True, "optional": False}
URL = "https://talk.example.org"
TURN = {"server": "turn.example.org:3478", "protocols": ["udp", "tcp", "tls"], "tls_port": 5349}


def entry(*urls, **given):
    return {"urls": list(urls), "username": "1764000000:x", "credential": "c", **given}


OURS = entry("turn:turn.example.org:3478?transport=udp", "turn:turn.example.org:3478?transport=tcp")
GIVEN = {
    "userId": "alice",
    "signalingMode": "external",
    "hideWarning": True,
    "server": URL,
    "stunservers": [{"urls": ["stun:turn.example.org:3478"]}],
    "turnservers": [OURS],
}
OTHER = entry("turn:turn.example.net:3478?transport=udp")


@pytest.mark.parametrize(
    ("item", "turn", "expected"),
    [
        ({"user": ""}, TURN, []),
        ({}, TURN, []),
        ({"user": "a"}, TURN, ["user-settings", "user-hello-v1", "user-hello-v2", "user-call", "user-turn"]),
        ({"user": "a"}, {}, ["user-settings", "user-hello-v1", "user-hello-v2", "user-call"]),
        (
            {"user": "a"},
            {**TURN, "protocols": ["tls"]},
            ["user-settings", "user-hello-v1", "user-hello-v2", "user-call"],
        ),
    ],
)
def test_steps(item, turn, expected):
    assert _user.steps(item, turn) == expected


@pytest.mark.parametrize(
    ("changes", "turn", "removed", "seen", "others"),
    [
        ({}, TURN, 0, "alice gets this signaling server, STUN and TURN", 0),
        ({"server": "WSS://Talk.example.org/"}, TURN, 0, "alice gets this signaling server, STUN and TURN", 0),
        ({"signalingMode": "conversation_cluster"}, TURN, 0, "alice gets this signaling server, STUN and TURN", 0),
        (
            {"turnservers": [OTHER, OURS], "stunservers": [{"urls": ["stun:a:1", "stun:turn.example.org:3478"]}]},
            TURN,
            0,
            "alice gets this signaling server, STUN and TURN; also a:1, turn.example.net:3478",
            2,
        ),
        ({}, {}, 0, "alice gets this signaling server", 0),
        ({"turnservers": [], "stunservers": []}, {}, 0, "alice gets this signaling server", 0),
        (
            {"turnservers": [entry("turn:TURN.example.org:3478?transport=udp")]},
            {**TURN, "protocols": ["udp"]},
            0,
            "",
            0,
        ),
        (
            {},
            TURN,
            1,
            "alice gets this signaling server, STUN and TURN; 1 test call of interrupted runs removed",
            0,
        ),
        (
            {},
            TURN,
            2,
            "alice gets this signaling server, STUN and TURN; 2 test calls of interrupted runs removed",
            0,
        ),
    ],
)
def test_good_settings(changes, turn, removed, seen, others):
    verdict = _user.settings(ITEM, {**GIVEN, **changes}, URL, turn, removed)
    assert (verdict.status, verdict.figures) == ("ok", {"others": others, "removed": removed})
    assert not seen or verdict.seen == seen


BAD = [
    (
        {"userId": None},
        "https://nc.example.org takes alice for a guest: with a second factor it takes no login password.",
        "Let alice make an app password (personal settings, security), and put it into talk_verify_password.",
    ),
    (
        {"signalingMode": "internal", "server": "", "hideWarning": False},
        "Talk in https://nc.example.org does not use the backend: its users get Talk's internal signaling.",
        "Register the backend in this Nextcloud again (playbook register). With talk_mend: true that sets "
        "signaling_mode right, too.",
    ),
    (
        {"signalingMode": "internal", "server": ""},
        "Talk in https://nc.example.org does not use the backend: its users get Talk's internal signaling. Talk's own "
        "warning about that is hidden.",
        "talk_mend: true",
    ),
    (
        {"server": "https://other.example.net"},
        "Talk in https://nc.example.org sends its users to https://other.example.net, expected "
        "https://talk.example.org.",
        "talk_exclusive: true that removes the other one",
    ),
    (
        {"turnservers": [OTHER]},
        "Talk in https://nc.example.org does not give its users turn:turn.example.org:3478?transport=udp, "
        "turn:turn.example.org:3478?transport=tcp but turn.example.net:3478.",
        "Register the backend in this Nextcloud again (playbook register).",
    ),
    (
        {"turnservers": [], "stunservers": [{"urls": ["stun:turn.example.org:3479"]}]},
        "Talk in https://nc.example.org does not give its users stun:turn.example.org:3478, "
        "turn:turn.example.org:3478?transport=udp, turn:turn.example.org:3478?transport=tcp but "
        "turn.example.org:3479.",
        "playbook register",
    ),
]


@pytest.mark.parametrize(("changes", "cause", "remedy"), BAD)
def test_bad_settings(changes, cause, remedy):
    verdict = _user.settings(ITEM, {**GIVEN, **changes}, URL, TURN)
    assert (verdict.status, verdict.cause) == ("failed", cause)
    assert remedy in verdict.remedy


@pytest.mark.parametrize(("changes", "cause", "_remedy"), BAD[1:])
def test_where_we_do_not_register_only_a_login_is_our_fault(changes, cause, _remedy):
    verdict = _user.settings({**ITEM, "register": False}, {**GIVEN, **changes}, URL, TURN)
    assert (verdict.status, verdict.cause) == ("warning", cause)
    assert verdict.seen == f"Not registered by us, so this is no failure: {cause}"
    assert verdict.remedy.endswith("Its admin has to do that.")
    assert _user.settings({**ITEM, "register": False}, {**GIVEN, "userId": None}, URL, TURN).status == "failed"


@pytest.mark.parametrize(
    ("what", "status", "word", "cause", "remedy"),
    [
        (
            "settings",
            401,
            "",
            "https://nc.example.org refuses the password of alice (401).",
            "put it into talk_verify_password; it was not tried a second time",
        ),
        (
            "settings",
            429,
            "",
            "https://nc.example.org has locked the controller's address out after too many failed logins (429).",
            "occ security:bruteforce:reset",
        ),
        (
            "create",
            429,
            "",
            "https://nc.example.org answers a request for a new conversation with 429.",
            "Look at the log of this Nextcloud.",
        ),
        (
            "settings",
            301,
            "https://cloud.example.org/",
            "https://nc.example.org sends the controller on to https://cloud.example.org/ (301).",
            "Correct talk_url.",
        ),
        (
            "settings",
            503,
            "",
            "https://nc.example.org is in maintenance mode, or waits for an upgrade (503).",
            "End it",
        ),
        ("settings", 404, "", "https://nc.example.org has no Talk (404).", "Enable Talk there"),
        (
            "settings",
            403,
            "no answer of Talk",
            "https://nc.example.org answers a request for the signaling settings with a page that is not Talk's (403): "
            "something before the Nextcloud asks for a login, or keeps the controller out.",
            "Let browsers and the controller through",
        ),
        (
            "settings",
            401,
            "no answer of Talk",
            "https://nc.example.org answers a request for the signaling settings with a page that is not Talk's (401): "
            "something before the Nextcloud asks for a login, or keeps the controller out.",
            "/ocs/v2.php/apps/spreed/",
        ),
        ("settings", 403, "", "alice may not use Talk in https://nc.example.org (403).", "limit to groups"),
        ("create", 403, "permissions", "alice may not make conversations in https://nc.example.org (403).", "creating"),
        ("call", 403, "", "https://nc.example.org lets alice into no call (403).", "limit starting calls"),
        (
            "settings",
            200,
            "no answer of Talk",
            "https://nc.example.org answers a request for the signaling settings with something that is not Talk's "
            "(200).",
            "what a proxy before this Nextcloud does",
        ),
        (
            "create",
            400,
            "name",
            "https://nc.example.org answers a request for a new conversation with 400: name.",
            "Look at the log of this Nextcloud.",
        ),
        (
            "call",
            404,
            "",
            "https://nc.example.org answers the way into the call of a conversation of the user's own with 404.",
            "Look at the log of this Nextcloud.",
        ),
    ],
)
def test_unwanted_answers(what, status, word, cause, remedy):
    verdict = _user.unwanted(ITEM, Unwanted(what, status, word))
    assert (verdict.status, verdict.cause) == ("failed", cause)
    assert remedy in verdict.remedy


def certificate_error(code):
    error = ssl.SSLCertVerificationError("no")
    error.verify_code, error.verify_message = code, "no"
    return error


@pytest.mark.parametrize(
    ("error", "cause", "remedy"),
    [
        (TimeoutError(), "nc.example.org does not answer the controller in time.", "lets an address wait"),
        (ConnectionRefusedError(), "nc.example.org refuses the controller's connection.", "Start the web server"),
        (socket.gaierror(), "The name nc.example.org does not resolve on the controller.", "hpb_resolve"),
        (certificate_error(62), "The certificate of nc.example.org is for another name.", "correct talk_url"),
        (certificate_error(20), "comes from an authority that the controller does not know", "hpb_ca_files"),
        (OSError("no route"), "nc.example.org cannot be reached: no route.", "the controller and this Nextcloud"),
    ],
)
def test_a_nextcloud_that_is_not_reached(error, cause, remedy):
    verdict = _user.unreachable(ITEM, error, "nc.example.org")
    assert verdict.status == "failed" and cause in verdict.cause and remedy in verdict.remedy
    optional = _user.unreachable({**ITEM, "optional": True}, error, "nc.example.org")
    assert optional.status == "warning" and optional.seen.startswith("Not checked, it is optional: ")


@pytest.mark.parametrize(
    ("code", "message", "cause", "remedy"),
    [
        (
            "invalid_ticket",
            "",
            "https://nc.example.org refuses the ticket of alice that it gave a moment before.",
            "share one database",
        ),
        ("no_such_user", "", "https://nc.example.org does not know alice when the HPB asks.", "same Nextcloud"),
        (
            "invalid_token",
            "",
            "The HPB refuses the token of alice: it does not fit the key that https://nc.example.org shows.",
            "occ talk:signaling:verify-keys --update",
        ),
        (
            "token_not_valid_yet",
            "",
            "The clock of https://nc.example.org is more than a minute ahead of the HPB's.",
            "NTP",
        ),
        ("token_expired", "", "The clock of https://nc.example.org is more than a minute behind the HPB's.", "NTP"),
        (
            "session_limit_exceeded",
            "",
            "The instance has as many sessions as it may have.",
            "Raise talk_session_limit",
        ),
        (
            "invalid_request",
            "",
            "https://nc.example.org refuses the signature of the HPB: it holds another secret.",
            "Register the HPB there again",
        ),
        ("timeout", "", "The HPB gets no answer from https://nc.example.org in time.", "firewall"),
        ("internal_error", "dial: no such host", "The HPB cannot resolve the name of https://nc.example.org.", "DNS"),
        (
            "odd",
            "why",
            "The signaling server refuses a session to alice: odd (why).",
            "log of signalling (playbook logs)",
        ),
    ],
)
def test_hellos_that_are_refused(code, message, cause, remedy):
    verdict = _user.hello(ITEM, code, message)
    assert (verdict.status, verdict.cause) == ("failed", cause)
    assert remedy in verdict.remedy


@pytest.mark.parametrize(
    ("found", "status", "seen"),
    [
        ("alice", "ok", "the ticket (v1) of alice is accepted"),
        ("bob", "failed", "The signaling server takes alice for bob."),
        ("", "failed", "The signaling server takes alice for a guest."),
    ],
)
def test_the_server_must_know_the_same_user(found, status, seen):
    verdict = _user.greeted(ITEM, "ticket (v1)", "alice", found)
    assert (verdict.status, verdict.seen) == (status, seen)


@pytest.mark.parametrize(
    ("turnservers", "expected"),
    [
        ([OURS], ("udp", "1764000000:x", "c")),
        ([OTHER, {**OURS, "credential": "mine"}], ("udp", "1764000000:x", "mine")),
        ([entry("turn:TURN.example.org:3478?transport=tcp")], ("tcp", "1764000000:x", "c")),
        ([OTHER], None),
        ([entry("turns:turn.example.org:3478?transport=tcp")], None),
        ([], None),
        (None, None),
    ],
)
def test_our_turn_server_as_talk_hands_it_out(turnservers, expected):
    assert _user.relay_of({"turnservers": turnservers}, TURN) == expected


FIGURES = {
    "audio": {"received": 50, "lost": 0, "frames": 50},
    "video": {"received": 60, "lost": 0, "frames": 15},
    "pair": {
        side: {"type": "relay", "protocol": "udp", "address": "192.0.2.1", "port": 1} for side in ("local", "remote")
    },
}


def test_calls():
    assert _user.call(ITEM, "udp", FIGURES, "").status == "ok"
    left = _user.call(ITEM, "", FIGURES, "500 locked")
    assert left.status == "warning"
    assert left.seen.endswith("The conversation of the call is still there (500 locked).")
    assert "Test call of nextcloud_talk.hpb" in left.remedy
    host = {"local": {**FIGURES["pair"]["local"], "type": "host"}, "remote": FIGURES["pair"]["remote"]}
    assert _user.call(ITEM, "udp", {**FIGURES, "pair": host}, "").status == "failed"
    assert _user.call(ITEM, "", {**FIGURES, "pair": host}, "").status == "ok"
    assert _user.call(ITEM, "", {**FIGURES, "missing": ["video"]}, "500").status == "failed"


@pytest.mark.parametrize(
    ("stage", "evidence", "cause", "remedy"),
    [
        (
            "incall",
            {},
            "https://nc.example.org does not tell the HPB that alice is in a call: its signed requests do not arrive.",
            "reaches https://talk.example.org and trusts its certificate (talk_verify_tls)",
        ),
        (
            "permissions",
            {"permissions": 128},
            "alice may not speak or show anything in a conversation of the user's own.",
            "default permissions",
        ),
        (
            "offer",
            {"code": "not_allowed"},
            "alice may not speak or show anything in a conversation of the user's own.",
            "default permissions",
        ),
        (
            "requestoffer",
            {"code": "not_allowed"},
            "The signaling server does not take both ends of the call of alice for being in one call.",
            "log of signalling (playbook logs)",
        ),
        (
            "signaling",
            {"code": "no_such_room"},
            "https://nc.example.org lets alice into a conversation and refuses the same to the HPB (no_such_room).",
            "same Nextcloud",
        ),
        (
            "signaling",
            {"code": "session_limit_exceeded"},
            "The instance has as many sessions as it may have.",
            "talk_session_limit",
        ),
        ("signaling", {"message": "gone"}, "The session on the signaling server ended early: gone.", "proxy"),
        (
            "publisher",
            {"turn": {"allocate": "401"}},
            "The TURN server turn.example.org:3478 refuses the credentials that Talk in https://nc.example.org gives "
            "its users (401).",
            "Talk holds another TURN secret than coturn",
        ),
        (
            "publisher",
            {"turn": {"allocate": "timeout"}},
            "The TURN server turn.example.org:3478 does not answer over udp.",
            "Open udp 3478",
        ),
        ("offer", {"code": "timeout"}, "Janus did not take the publisher's offer (no answer in time).", "janus"),
    ],
)
def test_calls_that_do_not_come_about(stage, evidence, cause, remedy):
    verdict = _user.call_failed(ITEM, "udp", ("turn.example.org:3478", URL), stage, evidence)
    assert (verdict.status, verdict.cause) == ("failed", cause)
    assert remedy in verdict.remedy
