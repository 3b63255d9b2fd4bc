# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The call probe's judgement: what was seen, and the verdict, cause and remedy that follow from it."""

from __future__ import annotations

import json
import socket
import ssl
from types import SimpleNamespace

import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _probe, _signaling_client
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._probe import FAILED, OK, SKIPPED, WARNING
from websockets.exceptions import InvalidMessage

URL = "https://talk.example.org"
NC = "https://nc.example.org"
TURN = "turn.example.org:3478"
BODY = json.dumps({"nextcloud-spreed-signaling": "Welcome", "version": "2.1.1"}).encode()
HOST = {"type": "host", "protocol": "udp", "address": "192.0.2.7", "port": 1111}
RELAY = {"type": "relay", "protocol": "udp", "address": "192.0.2.10", "port": 50000}
JANUS = {"type": "host", "protocol": "udp", "address": "2001:db8::10", "port": 20000}
REMOTE = ["host 192.0.2.10:20001", "host [2001:db8::10]:20001"]


def figures(lost=0, local=None, missing=(), late=0.0):
    return {
        "audio": {"received": 150, "lost": 0, "frames": 150},
        "video": {"received": 150 - lost, "lost": lost, "frames": 40},
        "first_frame_seconds": 0.61,
        "pair": {"local": local or HOST, "remote": JANUS},
        "missing": list(missing),
        "late_seconds": late,
    }


def certificate_error(code, text):
    error = ssl.SSLCertVerificationError(1, "failed")
    error.verify_code, error.verify_message = code, text
    return error


class Handshake(Exception):
    """An answer that is no websocket, as the websocket library reports it."""

    def __init__(self, status):
        super().__init__()
        self.response = SimpleNamespace(status_code=status)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (socket.gaierror(-2, "unknown"), "The name talk.example.org does not resolve on the controller."),
        (ConnectionRefusedError(111, "refused"), "nothing listens there"),
        (TimeoutError(), "does not answer in time"),
        (_signaling_client.NoAnswer(), "takes the connection, but gives no answer in time"),
        (certificate_error(10, "certificate has expired"), "not valid now (certificate has expired)"),
        (certificate_error(62, "Hostname mismatch"), "is for another name"),
        (
            certificate_error(20, "unable to get local issuer certificate"),
            "authority that the controller does not know",
        ),
        (certificate_error(7, "signature failure"), "does not hold: signature failure"),
        (ssl.SSLError(1, "x"), "does not speak TLS as expected"),
        (OSError(113, "No route to host"), "cannot be reached: No route to host"),
        (Handshake(404), "/spreed answers 404, expected a websocket"),
        (Handshake(400), "does not pass the upgrade to a websocket on"),
        (Handshake(502), "does not reach the signaling server"),
        (Handshake(403), "/spreed answers 403"),
        (InvalidMessage("no HTTP response"), "/spreed does not become a websocket: no HTTP response"),
        (KeyError("sdp"), "The probe itself ran into KeyError: 'sdp'."),
    ],
)
def test_an_unreachable_server_is_explained(error, words):
    verdict = _probe.unreachable(error, "talk.example.org")
    assert verdict.status == FAILED
    assert words in verdict.cause
    assert verdict.remedy.endswith(".")


@pytest.mark.parametrize(
    ("status", "body", "header", "result", "words"),
    [
        (200, BODY, "mcu, hello-v2", OK, "signaling server 2.1.1 with mcu"),
        (200, BODY, "hello-v2", FAILED, "not connected to Janus"),
        (200, BODY, None, FAILED, "without the header X-Spreed-Signaling-Features"),
        (200, b"<html>", "mcu", FAILED, "no signaling server"),
        (200, b"[]", "mcu", FAILED, "no signaling server"),
        (404, b"", None, FAILED, "answers 404, expected 200"),
        (503, b"", None, FAILED, "The proxy answers 503"),
    ],
)
def test_the_welcome(status, body, header, result, words):
    verdict = _probe.welcome(URL, status, body, header)
    assert (verdict.status, words in verdict.seen) == (result, True)


def test_the_welcome_tells_version_and_features():
    assert _probe.welcome(URL, 200, BODY, "mcu,hello-v2").figures == {
        "version": "2.1.1",
        "features": ["hello-v2", "mcu"],
    }


NOTHING = dict.fromkeys(_probe.CLOSED_PATHS, 404)
ITSELF = {**dict.fromkeys(_probe.CLOSED_PATHS, 403), "/turn/credentials": 400, "/debug/pprof/": 404}
TAKEN = (
    "A websocket with the subprotocol janus-events is taken, expected 404: by it whoever has a private address ends "
    "the signaling server with one message."
)


@pytest.mark.parametrize(
    ("statuses", "events", "version", "status", "seen"),
    [
        (NOTHING, (404, False), "2.1.1", OK, f"404 for {', '.join(NOTHING)}; no websocket for Janus' events"),
        # The signaling server says itself that it does not show them to everybody.
        (ITSELF, (404, False), "2.1.1", OK, "403 for /metrics, /api/v1/stats, /api/v1/serverinfo; 400 for /turn"),
        (NOTHING, (403, False), "2.1.1", OK, "404 for /metrics, "),
        # Whoever comes from a public address is shown out again; that it was taken is enough.
        (NOTHING, (101, True), "2.1.1", FAILED, TAKEN),
        (NOTHING, (101, True), "", FAILED, TAKEN),
        (ITSELF, (101, True), "2.1.1", FAILED, TAKEN),
        # The way to it takes the header off, so there is no such door.
        (NOTHING, (101, False), "2.1.0", OK, "404 for /metrics, "),
        (NOTHING, (101, False), "", OK, "404 for /metrics, "),
        (NOTHING, (101, False), "f6046e4", OK, "404 for /metrics, "),
        (
            NOTHING,
            (101, False),
            "2.0.2~docker",
            WARNING,
            "The proxy passes websockets with the subprotocol janus-events on. The signaling server 2.0.2~docker does "
            "not know it; one from 2.1.0 on can be ended by it from every private address.",
        ),
        (
            {"/metrics": 200, "/turn/credentials": 403, "/api/v1/stats": 302},
            (404, False),
            "2.1.1",
            FAILED,
            "/metrics answers 200, /api/v1/stats answers 302, expected 404 from outside.",
        ),
        ({"/metrics": 200}, (101, True), "2.1.1", FAILED, f"/metrics answers 200, expected 404 from outside. {TAKEN}"),
    ],
)
def test_what_must_not_be_public(statuses, events, version, status, seen):
    verdict = _probe.closed(statuses, events, version)
    assert (verdict.status, verdict.seen[: len(seen)]) == (status, seen)
    assert bool(verdict.remedy) == (status != OK)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("invalid_token", "refuses the internal secret"),
        ("invalid_client_type", "accepts no internal clients"),
        ("too_many_requests", "locked this controller's address out"),
        ("invalid_backend", "does not know the URL"),
        ("strange", "refuses a session: strange (why)"),
    ],
)
def test_a_refused_session_is_explained(code, words):
    assert words in _probe.session_refused(code, "why").cause


@pytest.mark.parametrize(
    ("status", "result", "words"),
    [
        (200, OK, "accepts the instance's secret"),
        (403, FAILED, f"refuses the signature for {NC}"),
        (429, FAILED, "locked this controller's address out"),
        (404, FAILED, "/api/v1/room/ answers 404"),
        (411, FAILED, "drops Content-Length"),
        (500, FAILED, "answered 500"),
    ],
)
def test_the_signed_request(status, result, words):
    verdict = _probe.request(NC, status)
    assert (verdict.status, words in verdict.seen) == (result, True)


@pytest.mark.parametrize(
    ("code", "message", "result", "words"),
    [
        ("invalid_ticket", "", OK, "both hold the same secret"),
        ("invalid_request", "", FAILED, "it holds another secret"),
        ("", "", FAILED, "accepts a made-up ticket"),
        ("timeout", "", FAILED, "gets no answer from https://nc.example.org in time"),
        ("invalid_backend", "", FAILED, "does not know the URL"),
        ("auth_failed", "no", FAILED, "answers the HPB with auth_failed (no), expected invalid_ticket"),
        ("internal_error", "something new", FAILED, "internal_error (something new)"),
        ("internal_error", "dial tcp: lookup nc.example.org: no such host", FAILED, "cannot resolve the name of"),
        (
            "internal_error",
            "dial tcp: lookup nc.example.org on 127.0.0.11:53: write udp 127.0.0.1:53: operation not permitted",
            FAILED,
            "cannot resolve the name of",
        ),
        ("internal_error", "dial tcp 192.0.2.5:443: connect: connection refused", FAILED, "is refused the connection"),
        ("internal_error", "x509: certificate signed by unknown authority", FAILED, "does not know the authority"),
        ("internal_error", "x509: certificate is valid for a, not b", FAILED, "a certificate for another name"),
        ("internal_error", "x509: certificate has expired or is not yet valid", FAILED, "that is not valid now"),
        ("internal_error", "context deadline exceeded", FAILED, "gets no answer from"),
        ("internal_error", "unsupported content type", FAILED, "gets no answer of Talk from"),
        ("internal_error", "throttled OCS response", FAILED, "is throttled by"),
    ],
)
def test_the_hello_with_a_made_up_ticket(code, message, result, words):
    verdict = _probe.hello(NC, code, message)
    assert (verdict.status, words in verdict.seen) == (result, True)


REFUSED = ("internal_error", "connect: connection refused")


@pytest.mark.parametrize(
    ("instance", "code", "message", "result", "words"),
    [
        (
            {"register": False},
            "invalid_request",
            "",
            WARNING,
            "Its admin has not entered the secret yet, or a former one: https://nc.example.org refuses",
        ),
        ({"register": False}, *REFUSED, WARNING, "Not registered by us, so this is no failure: The HPB is refused"),
        ({"register": False}, "invalid_ticket", "", OK, "same secret"),
        ({"optional": True}, *REFUSED, WARNING, "Not checked, it is optional:"),
        ({"optional": True}, "timeout", "", WARNING, "Not checked, it is optional:"),
        ({"optional": True}, "internal_error", "unsupported content type", WARNING, "Not checked"),
        ({"optional": True}, "invalid_request", "", FAILED, "it holds another secret"),
        (
            {"optional": True},
            "internal_error",
            "x509: signed by unknown authority",
            FAILED,
            "does not know the authority",
        ),
        ({}, *REFUSED, FAILED, "is refused the connection"),
    ],
)
def test_the_inventory_says_how_bad_a_failed_hello_is(instance, code, message, result, words):
    verdict = _probe.hello_of({"url": NC, **instance}, code, message)
    assert (verdict.status, words in verdict.seen) == (result, True)


def test_the_admin_of_a_nextcloud_that_is_never_contacted_has_something_to_do():
    instance = {"url": NC, "register": False}
    assert _probe.hello_of(instance, *REFUSED).remedy == (
        "Start its web server or open its firewall. Its admin has to do that."
    )
    waiting = _probe.hello_of(instance, "invalid_request", "")
    assert waiting.remedy == "Give its admin the handover page, and verify again."
    assert _probe.warnings([waiting.record("client", "hello")]) == [
        f"client, way to the Nextcloud: Its admin has not entered the secret yet, or a former one: {NC} refuses the "
        "signature of the HPB. Give its admin the handover page, and verify again."
    ]


ALL_FEATURES = "audio-video-permissions,chat-relay,dialout,federation,hello-v2,incall-all,join-features,mcu,switchto"


def test_features_that_talk_requires_and_does_not_find_are_a_failure():
    features = [name for name in ALL_FEATURES.split(",") if name not in ("federation", "join-features")]
    verdict = _probe.features("21.1.0", "1.2.4", features)
    assert (verdict.status, verdict.seen) == (
        FAILED,
        "Talk 21.1.0 refuses the signaling server 1.2.4, which lacks federation (calls between Nextclouds).",
    )
    assert verdict.remedy == "Set hpb_signaling_version to 2.0.0 or newer, and deploy again."
    assert verdict.figures == {
        "talk_version": "21.1.0",
        "missing_required": ["federation"],
        "missing_optional": ["join-features"],
    }


@pytest.mark.parametrize(
    ("talk", "seen"),
    [
        ("22.0.0", "all that Talk 22.0.0 requires"),
        (
            "24.0.3",
            "all that Talk 24.0.3 requires. changed-users (shorter news about who is in a call) is in no released "
            "signaling server yet; calls work all the same, and nothing is to do.",
        ),
    ],
)
def test_features_that_talk_does_without_are_named(talk, seen):
    verdict = _probe.features(talk, "2.1.1", ALL_FEATURES.split(","))
    assert (verdict.status, verdict.seen) == (OK, seen)


def test_what_talk_needs_is_a_step_where_its_version_is_known():
    assert _probe.instance_steps({"talk_version": "22.0.0"}, ["direct"]) == ["request", "hello", "features", "direct"]
    assert _probe.instance_steps({"talk_version": None}, ["direct"]) == ["request", "hello", "direct"]
    assert _probe.step_name("features") == "what Talk needs"


@pytest.mark.parametrize(
    ("step", "given", "result", "words"),
    [
        ("direct", figures(), OK, "150 audio and 150 video packets, 0 lost, first picture after 0.6 s"),
        ("direct", figures(), OK, "host 192.0.2.7:1111 -> host [2001:db8::10]:20000"),
        ("direct", figures(), OK, "[2001:db8::10]:20000 (IPv4)"),
        ("turn-udp", figures(local=RELAY), OK, "relay 192.0.2.10:50000"),
        ("turn-udp", {**figures(local=RELAY), "turn_family": "ipv6"}, OK, "(IPv6 to TURN, IPv4 to Janus)"),
        ("turn-udp", {**figures(local=RELAY), "turn_family": ""}, OK, ":20000 (IPv4)"),
        ("turn-tcp", figures(), FAILED, "did not go through TURN"),
        ("direct", figures(lost=3), OK, "3 lost (1 %)"),
        ("direct", figures(lost=6), WARNING, "6 lost (2 %)"),
        ("direct", figures(lost=60), FAILED, "20 % of the packets were lost"),
        ("direct", figures(lost=60, late=0.3), WARNING, "60 lost (20 %)"),
        ("direct", figures(late=0.3), OK, "0 lost"),
        ("direct", figures(missing=["video"]), FAILED, "connected, but no video came through"),
        ("direct", figures(missing=["audio", "video"]), FAILED, "no audio and no video came through"),
        ("direct", {**figures(), "data": "ok"}, OK, "0 lost, a text, first picture after"),
        ("direct", {**figures(), "data": "no offer"}, FAILED, "(Janus offers the subscriber none)"),
        ("direct", {**figures(), "data": "closed"}, FAILED, "(the publisher's did not open)"),
        ("direct", {**figures(), "data": "lost"}, FAILED, "(both are open, and nothing arrived)"),
        ("direct", {**figures(missing=["video"]), "data": "no offer"}, FAILED, "connected, but no video came through"),
        ("direct-ipv6", figures(), OK, "150 audio and 150 video packets"),
        ("screen", {name: value for name, value in figures().items() if name != "audio"}, OK, "150 video packets, 0"),
        ("turn-tls", figures(), FAILED, "did not go through TURN"),
    ],
)
def test_a_call_that_was_connected(step, given, result, words):
    verdict = _probe.call(step, given)
    assert (verdict.status, words in verdict.seen) == (result, True)
    assert verdict.figures["loss_percent"] == _probe.loss_percent(given)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (figures(), False),
        (figures(lost=1), False),
        (figures(late=0.3), False),
        (figures(lost=1, late=0.3), True),
    ],
)
def test_loss_of_a_busy_controller_is_measured_again(given, expected):
    assert _probe.is_doubtful(_probe.call("direct", given)) is expected


@pytest.mark.parametrize(
    ("step", "stage", "evidence", "words"),
    [
        ("direct", "signaling", {"code": "too_many_requests"}, "locked this controller's address out"),
        ("direct", "signaling", {"message": "the connection was cut"}, "ended early: the connection was cut"),
        (
            "direct",
            "offer",
            {"code": "client_not_found"},
            "Janus did not take the publisher's offer (client_not_found)",
        ),
        ("direct", "requestoffer", {"code": "timeout"}, "to the subscriber (no answer in time)"),
        ("direct", "offer", {"code": "not_allowed", "message": "No."}, "does not allow to take the publisher's offer"),
        ("turn-udp", "turn", {"turn": {"allocate": "401"}}, "refuses this instance's TURN secret (401)"),
        ("turn-udp", "turn", {"turn": {"allocate": "486"}}, "quota (486)"),
        ("turn-udp", "turn", {"turn": {"allocate": "508"}}, "no free relay port (508)"),
        ("turn-tcp", "turn", {"turn": {"allocate": "timeout"}}, "does not answer over tcp"),
        ("turn-tcp", "turn", {"turn": {"allocate": "refused"}}, f"Nothing listens for TURN on {TURN}"),
        ("turn-tcp", "turn", {"turn": {"allocate": "name"}}, "does not resolve on the controller"),
        ("turn-tcp", "turn", {"turn": {"allocate": "OSError"}}, "gives no relay address (OSError)"),
        ("turn-udp", "turn", {"turn": {"allocate": "ok"}}, "at the first attempt and one at the second"),
        (
            "turn-udp",
            "publisher",
            {"turn": {"allocate": "ok", "bind": "403"}, "remote": REMOTE[:1]},
            "refuses to relay to Janus at 192.0.2.10 (403)",
        ),
        (
            "turn-udp",
            "subscriber",
            {"turn": {"allocate": "ok", "bind": "ok"}, "remote": REMOTE},
            "nothing came through between it and Janus at 192.0.2.10, [2001:db8::10] (subscriber)",
        ),
        ("turn-tls", "turn", {"turn": {"allocate": "timeout"}}, "does not answer over tls"),
        ("turn-tls", "turn", {"turn": {"allocate": "certificate"}}, f"The certificate of the TURN server {TURN}"),
        ("turn-tls", "turn", {"turn": {"allocate": "no tls"}}, f"The TURN server {TURN} does not speak TLS"),
        ("direct", "family", {"side": "name", "family": "ipv4"}, "The signaling server's name has no IPv4 address"),
        ("direct-ipv6", "family", {"side": "local", "family": "ipv6"}, "The controller has no IPv6 address for media"),
        ("direct-ipv6", "family", {"side": "remote", "family": "ipv6"}, "Janus names no IPv6 address"),
        ("screen", "publisher", {"remote": REMOTE[:1], "ice": "checking"}, "No media path from the controller to"),
        ("direct", "publisher", {"remote": []}, "Janus named no address for the publisher"),
        ("direct", "publisher", {"remote": REMOTE, "ice": "completed"}, "(DTLS) was not agreed on"),
        ("direct", "publisher", {"remote": REMOTE[:1], "ice": "checking"}, "to Janus at 192.0.2.10 (publisher)"),
    ],
)
def test_a_call_that_did_not_come_about(step, stage, evidence, words):
    verdict = _probe.call_failed(step, TURN, stage, evidence)
    assert verdict.status == FAILED
    assert words in verdict.cause
    assert verdict.remedy.endswith(".")


@pytest.mark.parametrize(
    ("protocols", "families", "expected"),
    [
        (["udp", "tcp"], ["ipv4"], ["direct", "turn-udp", "turn-tcp", "screen"]),
        ([], ["ipv4"], ["direct", "screen"]),
        (["tls"], ["ipv6", "ipv4"], ["direct", "direct-ipv6", "turn-tls", "screen"]),
        ([], ["ipv6"], ["direct-ipv6", "screen"]),
    ],
)
def test_each_way_is_a_call_of_its_own(protocols, families, expected):
    assert _probe.call_steps(protocols, families) == expected


def test_only_plain_turn_is_reached_over_ipv6_in_a_call_of_its_own():
    steps = ["direct", "turn-udp", "turn-tls", "turn-udp-ipv6", "screen"]
    assert _probe.call_steps(["udp", "tls"], ["ipv4"], ["ipv4", "ipv6"]) == steps


@pytest.mark.parametrize(
    ("step", "name", "protocol"),
    [
        ("turn-udp", "call over TURN udp", "udp"),
        ("turn-tls", "call over TURN tls", "tls"),
        ("turn-443", "call over TURN on port 443", "443"),
        ("direct-ipv6", "direct call over IPv6", ""),
        ("turn-tcp-ipv6", "call over TURN tcp and IPv6", "tcp"),
        ("screen", "screen share", ""),
    ],
)
def test_names_of_calls(step, name, protocol):
    assert (_probe.step_name(step), _probe.turn_protocol(step)) == (name, protocol)


def test_turn_over_tls_that_is_silent_needs_a_tcp_port():
    verdict = _probe.call_failed("turn-tls", "turn.example.org:5349", "turn", {"turn": {"allocate": "timeout"}})
    assert verdict.remedy.startswith("Open tcp 5349 in the firewall")


def test_turn_over_ipv6_that_is_silent_may_be_a_wrong_record():
    evidence = {"turn": {"allocate": "timeout"}}
    verdict = _probe.call_failed("turn-udp-ipv6", "turn.example.org:3478", "turn", evidence)
    assert verdict.cause == "Over IPv6 the TURN server turn.example.org:3478 does not answer over udp."
    assert verdict.remedy.startswith("Open udp 3478 in the firewall before the HPB host. ")
    assert verdict.remedy.endswith("Check that the AAAA record of the name leads to the HPB host (hpb_media_ip6).")
    assert verdict.figures == evidence


def test_turn_on_443_that_is_silent_leads_to_both_programs():
    verdict = _probe.call_failed("turn-443", "turn443.example.org:443", "turn", {"turn": {"allocate": "timeout"}})
    assert verdict.cause == "The TURN server turn443.example.org:443 does not answer over tls."
    assert "Open tcp 443 in the firewall" in verdict.remedy
    assert "coturn443, and of traefik" in verdict.remedy


def test_a_family_that_nobody_asked_for_is_no_failure():
    verdict = _probe.no_family({"side": "remote", "family": "ipv6"})
    assert (verdict.status, verdict.cause, verdict.remedy) == (SKIPPED, "", "")
    assert verdict.seen.startswith("Janus names no IPv6 address")


@pytest.mark.parametrize(
    ("limit", "got", "told", "result", "words"),
    [
        (1048576, 1030, 1049, OK, "1030 kbit/s arrive, Janus allows 1049 kbit/s; the limit is 1049 kbit/s"),
        (1048576, 1206, 1049, OK, "the limit is 1049 kbit/s"),
        (1048576, 1207, 1049, FAILED, "limit of 1049 kbit/s is not in force: 1207 kbit/s arrive, Janus allows 1049"),
        (1048576, 1030, 2097, FAILED, "limit of 1049 kbit/s is not in force: 1030 kbit/s arrive, Janus allows 2097"),
        (1048576, 1500, 0, FAILED, "limit of 1049 kbit/s is not in force: 1500 kbit/s arrive."),
        (1048576, 314, 1049, OK, "could not be driven high enough for a limit of 1049 kbit/s"),
        (4000000, 1500, 4000, OK, "the limit is 4000 kbit/s"),
        (2097152, 1500, 0, OK, "so the limit of 2097 kbit/s is not proven"),
        (64000, 261, 64, OK, "the limit is 64 kbit/s"),
        (64000, 400, 64, FAILED, "limit of 64 kbit/s is not in force"),
        (None, 1010, 1049, OK, "1010 kbit/s arrive, Janus allows 1049 kbit/s; the instance's own limit is not known"),
    ],
)
def test_the_bitrate_limit(limit, got, told, result, words):
    verdict = _probe.bitrate(limit, {"kbit_per_second": got, "told_kbit_per_second": told, "missing": []})
    assert (verdict.status, words in verdict.seen) == (result, True), verdict.seen
    assert verdict.figures["limit_kbit_per_second"] == (round(limit / 1000) if limit else None)


def test_a_bitrate_of_nothing_is_a_failure():
    figures = {"kbit_per_second": 0, "told_kbit_per_second": 1049, "missing": ["video"]}
    assert "no video came through" in _probe.bitrate(1048576, figures).cause


def test_sentences_name_the_place_from_which_calls_are_placed():
    report = _probe.report([_probe.session_refused("too_many_requests", "").record("all", "websocket")], "web")
    assert report["place"] == "web"
    assert report["failures"][0]["sentence"].startswith(
        "From web: HPB, internal session: The signaling server has locked web's address out,"
    )
    assert "controller" not in json.dumps(report)
    lost = _probe.call_failed("direct", "", "family", {"side": "local", "family": "ipv6"}).record("nc", "direct")
    assert _probe.report([lost], "web")["results"][0]["seen"] == "web has no IPv6 address for media."
    assert "The controller" in _probe.report([lost])["results"][0]["seen"]


def records():
    turned = {"turn": {"allocate": "ok", "bind": "ok"}, "remote": REMOTE[:1], "ice": "checking"}
    return [
        _probe.welcome(URL, 200, BODY, "mcu").record("all", "welcome"),
        _probe.request(NC, 200).record("nc", "request"),
        _probe.call_failed("direct", "", "publisher", {"remote": REMOTE[:1], "ice": "checking"}).record("nc", "direct"),
        _probe.call_failed("turn-udp", TURN, "publisher", turned).record("nc", "turn-udp"),
        _probe.request("https://dev.example.org", 403).record("dev", "request"),
        _probe.skipped("the signed request failed").record("dev", "direct"),
        _probe.hello_of({"url": "https://nas.example.org", "optional": True}, *REFUSED).record("nas", "hello"),
    ]


def test_one_cause_is_one_failure():
    report = _probe.report(records())
    assert [(item["instance"], item["step"]) for item in report["failures"]] == [
        ("nc", "direct, turn-udp"),
        ("dev", "request"),
    ]
    first = report["failures"][0]
    assert first["sentence"] == f"nc, direct call, call over TURN udp: {first['cause']} {first['remedy']}"
    assert (report["ok"], report["version"], report["features"]) == (False, "2.1.1", ["mcu"])


def test_failures_of_the_server_are_named_so():
    refused = _probe.session_refused("invalid_token", "").record("all", "websocket")
    assert _probe.failures([refused])[0]["sentence"].startswith("HPB, internal session: The signaling server refuses")


def test_warnings_and_skipped_steps_are_no_failures():
    report = _probe.report([row for row in records() if row["status"] in (OK, WARNING, SKIPPED)])
    assert report["ok"] is True
    assert _probe.warnings(report["results"]) == [
        "nas, way to the Nextcloud: Not checked, it is optional: The HPB is refused the connection to "
        "https://nas.example.org. Start its web server or open its firewall."
    ]


def test_the_table_has_aligned_columns():
    lines = _probe.report(records())["table"]
    assert lines[0] == "instance  step                  result   seen"
    assert lines[2] == "nc        signed request        ok       the signaling server accepts the instance's secret"
    assert {line.index(word) for line, word in zip(lines[1:3], ("ok", "ok"))} == {lines[0].index("result")}
