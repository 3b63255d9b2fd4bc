# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The judgement of the call probe: from what was seen to verdicts, causes, remedies and the table. No input or output.

A step of one instance (or of `ALL`, the server itself) has one `Verdict`; a record is a verdict with its place.
"""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _features, _proxy, _signaling_client, _versions

ALL = "all"
OK, FAILED, WARNING, SKIPPED = "ok", "failed", "warning", "skipped"

CLOSED_PATHS = ("/metrics", "/api/v1/stats", "/api/v1/serverinfo", "/turn/credentials", "/debug/pprof/")
# Answers with which a path is closed. A proxy as we set it up says 404; the signaling server itself says 403 to whoever
# may not see its statistics, and 400 to who does not even ask for TURN credentials in the right way.
CLOSED = (400, 401, 403, 404)
PUBLIC_PATHS = "/spreed, /api/v1/welcome and /api/v1/room/"

# The version from which on the signaling server takes Janus' events at its websocket.
EVENTS_SINCE = "2.1.0"
NO_EVENTS = f"Let the proxy answer 404 to every request whose header {_proxy.EVENTS_HEADER} names {_proxy.EVENTS}."

# Percent of lost packets above which a path is worth a warning, and above which people complain.
LOSS_WARNING = 1.0
LOSS_FAILED = 10.0
# Seconds by which a probe may be late before its own loss counts no more as the line's.
LATE = 0.2
# A bitrate may be above its limit by this factor (headers, encoders that aim badly), and proves nothing below that one.
BITRATE_ABOVE, BITRATE_BELOW = 1.15, 0.3
# What aiortc's encoder sends at least and at most, in kbit/s.
ENCODER_LEAST, ENCODER_MOST = 250, 1500

STEP_NAMES = {
    "welcome": "signaling server",
    "closed": "private paths closed",
    "websocket": "internal session",
    "request": "signed request",
    "hello": "way to the Nextcloud",
    "features": "what Talk needs",
    "isolation": "apart from others",
    "refusal": "wrong secret refused",
    "direct": "direct call",
    "direct-ipv6": "direct call over IPv6",
    "turn-443": "call over TURN on port 443",
    "screen": "screen share",
    "bitrate": "bitrate limit",
    "user-settings": "what Talk tells a user",
    "user-hello-v1": "a user's ticket",
    "user-hello-v2": "a user's token",
    "user-call": "direct call as a user",
    "user-turn": "relayed call as a user",
    "chromium": "Chromium",
}
# The end of the name of a call that takes its way over IPv6. With TLS the name of the TURN server must stay, by which
# no family can be chosen, and the way differs from that over tcp in nothing that has to do with addresses.
IPV6 = "-ipv6"
PLAIN_TURN = ("udp", "tcp")
# The step of a call in Chromium is that of the way it takes, with this in front; the direct one's is this alone.
BROWSER = "browser"

RUN_DEPLOY = "Run the deployment again, then the playbook logs: look at the log of"


@dataclass(frozen=True)
class Verdict:
    """What a step came to: `seen` for people, `figures` for machines; a bad one has a cause and a remedy."""

    status: str
    seen: str = ""
    cause: str = ""
    remedy: str = ""
    figures: dict[str, Any] = field(default_factory=dict)

    def record(self, instance: str, step: str) -> dict[str, Any]:
        """Return the verdict with its place, as plain data."""
        place = {"instance": instance, "step": step, "name": step_name(step)}
        rest = {"seen": self.seen, "cause": self.cause, "remedy": self.remedy, "figures": self.figures}
        return {**place, "status": self.status, **rest}


def passed(seen: str, **figures: Any) -> Verdict:
    """Return a good verdict."""
    return Verdict(OK, seen, figures=figures)


def failed(cause: str, remedy: str, **figures: Any) -> Verdict:
    """Return a bad verdict."""
    return Verdict(FAILED, cause, cause, remedy, figures)


def skipped(why: str) -> Verdict:
    """Return the verdict of a step that another one made pointless."""
    return Verdict(SKIPPED, why)


def softened(verdict: Verdict, note: str, remedy: str = "") -> Verdict:
    """Return a bad verdict as a warning with a note in front and perhaps another remedy; good ones as they were."""
    if verdict.status != FAILED:
        return verdict
    return Verdict(WARNING, f"{note} {verdict.seen}", verdict.cause, remedy or verdict.remedy, verdict.figures)


def instance_steps(instance: Mapping[str, Any], calls: Sequence[str]) -> list[str]:
    """Return the names of an instance's steps; what Talk needs is one only where Talk's version is known."""
    return ["request", "hello", *(["features"] if instance.get("talk_version") else []), *calls]


def call_steps(
    protocols: Sequence[str], families: Sequence[str] = ("ipv4",), turn_families: Sequence[str] = ("ipv4",)
) -> list[str]:
    """Return the names of the calls that an instance gets, for TURN protocols and the families of both servers.

    `direct` is the call over IPv4, or over whatever there is; only where IPv6 is meant it is `direct-ipv6`. So it is
    with the way to the TURN server.
    """
    direct = [name for name, family in (("direct", "ipv4"), ("direct-ipv6", "ipv6")) if family in families]
    relayed = [f"turn-{protocol}" for protocol in protocols]
    if "ipv6" in turn_families:
        relayed += [f"turn-{protocol}{IPV6}" for protocol in protocols if protocol in PLAIN_TURN]
    return [*direct, *relayed, "screen"]


def browser_steps(protocols: Sequence[str]) -> list[str]:
    """Return the names of the calls in Chromium that an instance gets, for TURN protocols."""
    return [BROWSER, *(f"{BROWSER}-turn-{protocol}" for protocol in protocols)]


def way(step: str) -> str:
    """Return which way a call takes, as the name of the step in which the probe's own client takes it."""
    if step == BROWSER:
        return "direct"
    return step[len(BROWSER) + 1 :] if step.startswith(f"{BROWSER}-") else step


def family_of_step(step: str) -> str:
    """Return the family of addresses that a call is meant to take: ipv6 only where its step says so."""
    return "ipv6" if way(step).endswith(IPV6) else "ipv4"


def step_name(step: str) -> str:
    """Return a step's name for people."""
    over = " and IPv6" if step.endswith(IPV6) else ""
    name = STEP_NAMES.get(way(step)) or f"call over TURN {turn_protocol(step)}{over}"
    return name if way(step) == step else f"{name} in Chromium"


def turn_protocol(step: str) -> str:
    """Return by which protocol a call reaches the TURN server (443 is TLS on that port), "" for one that uses none."""
    return step.partition("turn-")[2].removesuffix(IPV6)


# --- the way to a server -------------------------------------------------------------------------------------------


def unreachable(error: BaseException, host: str) -> Verdict:
    """Explain why a request or a websocket from here to `host` did not come about."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return bad_certificate(error, host)
    if isinstance(error, ssl.SSLError):
        return failed(
            f"{host} does not speak TLS as expected ({getattr(error, 'reason', None) or error}).",
            "Check that Traefik or your own proxy answers on this port, and with TLS.",
        )
    if isinstance(error, socket.gaierror):
        return failed(
            f"The name {host} does not resolve on the controller.",
            "Correct the name in the inventory where it is wrong, or give it an address in DNS, or in hpb_resolve.",
        )
    if isinstance(error, ConnectionRefusedError):
        return failed(
            f"{host} refuses the connection, so nothing listens there.",
            f"{RUN_DEPLOY} traefik, or that of your own proxy.",
        )
    if isinstance(error, _signaling_client.NoAnswer):
        return failed(
            f"{host} takes the connection, but gives no answer in time.",
            "See on the HPB host what it is busy with (docker stats), and at the log of the proxy there.",
        )
    if isinstance(error, TimeoutError):
        return failed(
            f"{host} does not answer in time.",
            "Open TCP 443 in the firewall before the HPB host, and check the address that the name resolves to.",
        )
    status = getattr(getattr(error, "response", None), "status_code", 0)
    if status:
        return no_websocket(int(status), host)
    if type(error).__module__.startswith("websockets"):
        return failed(
            f"https://{host}/spreed does not become a websocket: {error}.",
            "Let the proxy speak HTTP/1.1 to the signaling server and pass the headers Connection and Upgrade.",
        )
    if not isinstance(error, (OSError, HTTPException)):
        return failed(
            f"The probe itself ran into {type(error).__name__}: {error}.", "Report this as a bug, with this sentence."
        )
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return failed(f"{host} cannot be reached: {text}.", "Check the network between the controller and the HPB host.")


def bad_certificate(error: ssl.SSLCertVerificationError, host: str) -> Verdict:
    """Explain a certificate that does not hold, by OpenSSL's verification code."""
    code, text = error.verify_code, error.verify_message
    if code in (9, 10):
        return failed(
            f"The certificate of {host} is not valid now ({text}).",
            "Renew it, and check the clock of the controller.",
        )
    if code in (62, 64):
        return failed(
            f"The certificate of {host} is for another name.",
            f"Get a certificate that names {host}, or correct hpb_domain.",
        )
    if code in (18, 19, 20, 21):
        return failed(
            f"The certificate of {host} comes from an authority that the controller does not know.",
            "Add the authority's PEM file to hpb_ca_files, "
            "and check that the server sends its intermediate certificates.",
        )
    return failed(f"The certificate of {host} does not hold: {text}.", "Replace the certificate.")


def no_websocket(status: int, host: str) -> Verdict:
    """Explain an HTTP answer in place of a websocket."""
    if status == 404:
        return failed(
            f"https://{host}/spreed answers 404, expected a websocket.",
            "Let the proxy pass /spreed to the signaling server.",
        )
    if status in (200, 400, 426):
        return failed(
            f"https://{host}/spreed answers {status}: the proxy does not pass the upgrade to a websocket on.",
            "Let the proxy speak HTTP/1.1 to the signaling server and pass the headers Connection and Upgrade.",
        )
    if status in (502, 503, 504):
        return failed(
            f"The proxy of {host} answers {status}: it does not reach the signaling server.",
            f"{RUN_DEPLOY} signalling.",
        )
    return failed(f"https://{host}/spreed answers {status}, expected a websocket.", "Look at the log of the proxy.")


# --- steps of the server -------------------------------------------------------------------------------------------


def welcome(url: str, status: int, body: bytes, header: str | None) -> Verdict:
    """Judge the answer of /api/v1/welcome; the figures are version and features."""
    if status in (502, 503, 504):
        return failed(
            f"The proxy answers {status} for {url}: it does not reach the signaling server.",
            f"{RUN_DEPLOY} signalling.",
        )
    if status != 200:
        return failed(
            f"{url}/api/v1/welcome answers {status}, expected 200.",
            f"Let the proxy pass {PUBLIC_PATHS} to the signaling server, and check hpb_domain.",
        )
    try:
        content = json.loads(body)
    except ValueError:
        content = None
    if not isinstance(content, dict) or "nextcloud-spreed-signaling" not in content:
        return failed(
            f"{url}/api/v1/welcome answers something that is no signaling server.",
            "Check hpb_domain, and to what the proxy passes this path.",
        )
    version = str(content.get("version", ""))
    features = sorted(item.strip() for item in (header or "").split(",") if item.strip())
    if not features:
        return failed(
            f"{url}/api/v1/welcome comes without the header X-Spreed-Signaling-Features.",
            "Let the proxy keep the headers of the answer: Talk reads the features from it.",
            version=version,
        )
    server = f"signaling server {_versions.named(version)}"
    if "mcu" not in features:
        return failed(
            f"The {server} has no SFU (feature mcu is missing): it is not connected to Janus.",
            f"{RUN_DEPLOY} janus, then of signalling.",
            version=version,
            features=features,
        )
    return passed(f"{server} with mcu", version=version, features=features)


def closed(statuses: Mapping[str, int], events: tuple[int, bool], version: str) -> Verdict:
    """Judge the answers of what must not be public.

    statuses: of paths. events: of the websocket for Janus' events (the status, and whether it was taken for one).
    version: the signaling server's, "" where it is not known.
    """
    figures = {"statuses": dict(statuses), "events": {"status": events[0], "taken": events[1]}}
    open_paths = [f"{path} answers {status}" for path, status in statuses.items() if status not in CLOSED]
    causes = [f"{', '.join(open_paths)}, expected 404 from outside."] if open_paths else []
    remedies = [f"Let the proxy pass only {PUBLIC_PATHS} to the signaling server."] if open_paths else []
    if events[1]:
        causes.append(
            f"A websocket with the subprotocol {_proxy.EVENTS} is taken, expected 404: by it whoever has a private "
            f"address ends the signaling server with one message."
        )
        remedies.append(NO_EVENTS)
    if causes:
        return failed(" ".join(causes), " ".join(remedies), **figures)
    if events[0] == 101 and _versions.numbers(version) and not _versions.at_least(version, EVENTS_SINCE):
        cause = (
            f"The proxy passes websockets with the subprotocol {_proxy.EVENTS} on. The signaling server {version} does "
            f"not know it; one from {EVENTS_SINCE} on can be ended by it from every private address."
        )
        return Verdict(WARNING, cause, cause, NO_EVENTS, figures)
    refused: dict[int, list[str]] = {}
    for path, status in statuses.items():
        refused.setdefault(status, []).append(path)
    seen = "; ".join(f"{status} for {', '.join(paths)}" for status, paths in refused.items())
    return passed(f"{seen}; no websocket for Janus' events", **figures)


def session_refused(code: str, message: str) -> Verdict:
    """Explain why the server refused an internal session."""
    known = {
        "invalid_token": (
            "The signaling server refuses the internal secret.",
            "Run the deployment again: it runs with another secret than the secrets file says.",
        ),
        "invalid_client_type": (
            "The signaling server accepts no internal clients: its internal secret is empty.",
            "Run the deployment again: server.conf lacks clients.internalsecret.",
        ),
        "invalid_backend": (
            "The signaling server does not know the URL of this instance.",
            "Run the deployment again with this instance in the inventory.",
        ),
        "too_many_requests": (
            "The signaling server has locked this controller's address out, after too many failed attempts from it.",
            "Wait half an hour, or restart the signaling server, and find out who tried from this address.",
        ),
    }
    if code in known:
        return failed(*known[code])
    return failed(
        f"The signaling server refuses a session: {code}{f' ({message})' if message else ''}.",
        "Look at the log of signalling (playbook logs).",
    )


def session_lost(message: str) -> Verdict:
    """Explain a websocket that ended too early."""
    return failed(
        f"The session on the signaling server ended early: {message}.",
        "Check that the proxy lets websockets live, and the log of signalling (playbook logs).",
    )


# --- steps of an instance ------------------------------------------------------------------------------------------


def request(url: str, status: int) -> Verdict:
    """Judge the answer to the request that was signed with the instance's secret."""
    if status == 200:
        return passed("the signaling server accepts the instance's secret")
    if status == 403:
        return failed(
            f"The signaling server refuses the signature for {url}: it does not know this URL, or with another secret.",
            "Run the deployment again with this instance in the inventory; it was not tried a second time.",
        )
    if status == 429:
        return session_refused("too_many_requests", "")
    if status == 404:
        return failed(
            "The path /api/v1/room/ answers 404.", "Let the proxy pass /api/v1/room/ to the signaling server."
        )
    if status == 411:
        return failed(
            "The proxy drops Content-Length of a POST.", "Let the proxy buffer requests or pass Content-Length on."
        )
    return failed(
        f"A signed request is answered {status}, expected 200.",
        "Look at the log of signalling (playbook logs).",
    )


# What the server's HTTP client says when it does not reach a Nextcloud, and what that means. The first match counts.
RESOLVE = (
    "cannot resolve the name of {url}",
    "Correct talk_url where it is wrong, or give the name an address in DNS or in hpb_resolve.",
)
NO_ROUTE = ("finds no route to {url}", "Check network and firewall between the two.")
NO_ANSWER = (
    "gets no answer from {url} in time",
    "See there whether its firewall lets the HPB host in, whether all PHP workers are busy, and whether its brute "
    "force protection delays the HPB (occ security:bruteforce:attempts ADDRESS).",
)
REDIRECTED = (
    "is sent on to another address by {url}",
    "Let /ocs/v2.php/apps/spreed/ pass there without a login and a redirect, or correct talk_url.",
)
OTHER_NAME = ("gets a certificate for another name from {url}", "Correct the certificate or talk_url.")
NO_JSON = (
    "gets no answer of Talk from {url}",
    "Check talk_url, the maintenance mode, that Talk is enabled there, and that nothing before it asks for a login.",
)
BACKEND_ERRORS = (
    # What Go's resolver says begins so, whatever kept it from an answer (net.DNSError).
    ("dial tcp: lookup ", *RESOLVE),
    ("unknown authority", "does not know the authority of the certificate of {url}", "Add it to hpb_ca_files."),
    ("certificate is valid for", *OTHER_NAME),
    ("not valid for any names", *OTHER_NAME),
    (
        "certificate has expired",
        "gets a certificate from {url} that is not valid now",
        "Renew it and check the clocks.",
    ),
    ("no such host", *RESOLVE),
    ("server misbehaving", *RESOLVE),
    ("connection refused", "is refused the connection to {url}", "Start its web server or open its firewall."),
    ("no route to host", *NO_ROUTE),
    ("network is unreachable", *NO_ROUTE),
    ("i/o timeout", *NO_ANSWER),
    ("deadline exceeded", *NO_ANSWER),
    ("timeout awaiting", *NO_ANSWER),
    ("tls handshake timeout", *NO_ANSWER),
    ("connection reset", "is cut off by {url}", "Check its web server and the firewall between the two."),
    ("unsupported content type", *NO_JSON),
    ("unsupported_content_type", *NO_JSON),
    ("incomplete", *NO_JSON),
    ("invalid character", *NO_JSON),
    ("not redirecting", *REDIRECTED),
    ("stopped after 10 redirects", *REDIRECTED),
    (
        "throttled",
        "is throttled by {url}",
        "Let it forget the HPB's address (occ security:bruteforce:reset ADDRESS), and see that trusted_proxies names "
        "the proxy before it.",
    ),
)
# Those that a machine gives that is switched off, or the proxy before it.
OFF = {RESOLVE[0], NO_ROUTE[0], NO_ANSWER[0], NO_JSON[0], "is refused the connection to {url}", "is cut off by {url}"}


def backend_error(message: str) -> tuple[str, str]:
    """Return what an error of the server's HTTP client means and what to do, twice "" for an unknown one."""
    return next((known[1:] for known in BACKEND_ERRORS if known[0] in message.lower()), ("", ""))


def is_unreachable(code: str, message: str) -> bool:
    """Whether an error of a hello says that the HPB does not reach the Nextcloud at all."""
    return code == "timeout" or (code == "internal_error" and backend_error(message)[0] in OFF)


def hello(url: str, code: str, message: str) -> Verdict:
    """Judge the error that answers a hello with a made-up ticket; "" is an accepted one, "timeout" none at all."""
    if code == "invalid_ticket":
        return passed("the HPB reaches the Nextcloud, and both hold the same secret")
    if code == "":
        return failed(f"{url} accepts a made-up ticket.", "Check what answers there: Talk would have refused it.")
    if code == "timeout":
        return failed(f"The HPB {NO_ANSWER[0].format(url=url)}.", NO_ANSWER[1])
    if code == "invalid_request":
        return failed(
            f"{url} refuses the signature of the HPB: it holds another secret.",
            "Register the HPB there again, with the secret of this instance.",
        )
    if code == "internal_error":
        what, remedy = backend_error(message)
        if what:
            return failed(f"The HPB {what.format(url=url)}.", remedy)
    if code in ("invalid_backend", "too_many_requests"):
        return session_refused(code, message)
    return failed(
        f"{url} answers the HPB with {code}{f' ({message})' if message else ''}, expected invalid_ticket.",
        "Look at the log of this Nextcloud and at that of signalling (playbook logs).",
    )


def hello_of(instance: Mapping[str, Any], code: str, message: str) -> Verdict:
    """Judge a hello with regard to what the inventory says of the instance.

    Where we may not register, the other side may not be ready; an optional Nextcloud may be switched off.
    """
    verdict = hello(instance["url"], code, message)
    if not instance.get("register", True):
        if code == "invalid_request":
            return Verdict(
                WARNING,
                f"Its admin has not entered the secret yet, or a former one: {instance['url']} refuses the signature "
                "of the HPB.",
                verdict.cause,
                "Give its admin the handover page, and verify again.",
            )
        return softened(
            verdict,
            "Not registered by us, so this is no failure:",
            f"{verdict.remedy} Its admin has to do that.",
        )
    if instance.get("optional") and is_unreachable(code, message):
        return softened(verdict, "Not checked, it is optional:")
    return verdict


def features(talk_version: str, server_version: str, present: Sequence[str]) -> Verdict:
    """Judge the server's features by what this release of Talk needs."""
    required, optional = _features.missing(talk_version, present)
    problems, notes = _features.explain(talk_version, server_version, present)
    figures = {"talk_version": talk_version, "missing_required": required, "missing_optional": optional}
    if problems:
        return failed(
            " ".join(problem.cause for problem in problems), " ".join(problem.remedy for problem in problems), **figures
        )
    return passed(" ".join([f"all that Talk {talk_version} requires{'.' if notes else ''}", *notes]), **figures)


def isolation(other: str, figures: dict[str, Any]) -> Verdict:
    """Judge what `_isolation.look` found between an instance and the one with the id `other`."""
    figures = {"other": other, **figures}
    if figures["learnt"]:
        return failed(
            f"The instances are not apart: in rooms of one name, one {' and '.join(figures['learnt'])} of the other "
            f"({other}).",
            "Give each its own section with its own URLs in server.conf: run the deployment again.",
            **figures,
        )
    if not figures["control"]:
        return failed(
            "Two sessions of this instance in one room do not hear each other, so nothing is known of others.",
            "Look at the logs of nats and signalling (playbook logs).",
            **figures,
        )
    return passed(f"nothing of {other} is seen or heard in a room of the same name", **figures)


def refusal(whose: str, url: str, status: int) -> Verdict:
    """Judge the answer to a request for `url` that was signed with another secret: that of `whose`."""
    if status == 403:
        return passed(f"the secret of {whose} is refused for {url}", status=status)
    if status == 200:
        return failed(
            f"The signaling server accepts the secret of {whose} for {url}.",
            "Give each instance a secret of its own, and run the deployment again.",
            status=status,
        )
    if status == 429:
        return session_refused("too_many_requests", "")
    return failed(
        f"A request with the secret of {whose} for {url} is answered {status}, expected 403.",
        "Look at the log of signalling (playbook logs).",
        status=status,
    )


# --- calls ---------------------------------------------------------------------------------------------------------


def loss_percent(figures: Mapping[str, Any]) -> float:
    """Return how many of all expected packets were lost, in percent."""
    kinds = [figures[kind] for kind in ("audio", "video") if kind in figures]
    lost = sum(item["lost"] for item in kinds)
    expected = sum(item["received"] for item in kinds) + lost
    return round(100 * lost / expected, 2) if expected else 0.0


def is_late(figures: Mapping[str, Any]) -> bool:
    """Whether the probe itself was too late to fetch packets in time."""
    return figures.get("late_seconds", 0) > LATE


def is_doubtful(verdict: Verdict) -> bool:
    """Whether a call should be placed once more, alone: packets were lost while this machine was too busy."""
    return verdict.figures.get("loss_percent", 0) > 0 and is_late(verdict.figures)


def show_pair(pair: Mapping[str, Any]) -> str:
    """Return a candidate pair as text."""
    if not pair:
        return "unknown path"
    sides = [f"{pair[side]['type']} {join_address(pair[side])}" for side in ("local", "remote")]
    return " -> ".join(sides)


def join_address(candidate: Mapping[str, Any]) -> str:
    """Return address and port as one word."""
    address = candidate["address"]
    return f"[{address}]:{candidate['port']}" if ":" in address else f"{address}:{candidate['port']}"


def family_of(address: str) -> str:
    """Return the name of an address's family for people."""
    return "IPv6" if ":" in address else "IPv4"


def show_families(figures: Mapping[str, Any]) -> str:
    """Return the families of addresses on the way of a call as text, "" for an unknown way."""
    pair = figures.get("pair")
    if not pair:
        return ""
    family = family_of(pair["local"]["address"])
    turn = FAMILIES.get(str(figures.get("turn_family")))
    return f" ({turn} to TURN, {family} to Janus)" if turn else f" ({family})"


DATA_ERRORS = {
    "no offer": "Janus offers the subscriber none",
    "closed": "the publisher's did not open",
    "lost": "both are open, and nothing arrived",
}


def call(step: str, figures: dict[str, Any]) -> Verdict:
    """Judge the figures of a call that was connected."""
    figures = {**figures, "loss_percent": loss_percent(figures)}
    missing = figures.get("missing") or []
    if missing:
        return failed(
            f"The call was connected, but no {' and no '.join(missing)} came through.",
            "Look at the log of janus (playbook logs), and for a firewall that drops large UDP packets.",
            **figures,
        )
    data = figures.get("data", "ok")
    if data != "ok":
        return failed(
            f"Sound and picture came through, but no text did through a data channel ({DATA_ERRORS[data]}).",
            "Build janus with data channels (libusrsctp) and look at the log of janus (playbook logs).",
            **figures,
        )
    loss, kinds = figures["loss_percent"], [kind for kind in ("audio", "video") if kind in figures]
    lost = sum(figures[kind]["lost"] for kind in kinds)
    share = f" ({loss:g} %)" if lost else ""
    seen = (
        f"{' and '.join(str(figures[kind]['received']) + ' ' + kind for kind in kinds)} packets, {lost} lost{share}, "
        f"{'a text, ' if 'data' in figures else ''}"
        f"first picture after {figures.get('first_frame_seconds', 0):.1f} s, "
        f"{show_pair(figures['pair'])}{show_families(figures)}"
    )
    if turn_protocol(step) and figures["pair"] and figures["pair"]["local"]["type"] != "relay":
        return failed(
            f"The call did not go through TURN but by {show_pair(figures['pair'])}.",
            "Install the newest aiortc on the controller: it was told to use nothing but TURN.",
            **figures,
        )
    if lost and is_late(figures):
        return Verdict(
            WARNING,
            seen,
            f"{loss:g} % of the packets were lost, but the controller was too busy to tell where.",
            "Run the verification again when the controller is less busy.",
            figures,
        )
    if loss > LOSS_FAILED:
        return failed(
            f"{loss:g} % of the packets were lost.",
            "Check the load of the HPB host and of the controller, and the line between them.",
            **figures,
        )
    if loss > LOSS_WARNING:
        return Verdict(WARNING, seen, f"{loss:g} % of the packets were lost.", "Check the line and the load.", figures)
    return Verdict(OK, seen, figures=figures)


def bitrate(limit: int | None, figures: dict[str, Any]) -> Verdict:
    """Judge a call whose picture wanted more than the instance may send; `limit` in bit/s, None for an unknown one.

    The limit is in force when Janus tells it to the publisher, and what arrives keeps to it.
    """
    got, told = figures["kbit_per_second"], figures["told_kbit_per_second"]
    allowed = round(limit / 1000) if limit else 0
    figures = {**figures, "limit_kbit_per_second": allowed or None}
    if figures.get("missing"):
        return call("bitrate", figures)
    seen = f"{got} kbit/s arrive" + (f", Janus allows {told} kbit/s" if told else "")
    if not allowed:
        return passed(f"{seen}; the instance's own limit is not known", **figures)
    if told > allowed * BITRATE_ABOVE or got > max(allowed, ENCODER_LEAST) * BITRATE_ABOVE:
        return failed(
            f"The bitrate limit of {allowed} kbit/s is not in force: {seen}.",
            "Run the deployment again, and look at maxstreambitrate of this instance in server.conf.",
            **figures,
        )
    if got < allowed * BITRATE_BELOW:
        return passed(f"{seen}; the stream could not be driven high enough for a limit of {allowed} kbit/s", **figures)
    if not told and allowed * BITRATE_ABOVE >= ENCODER_MOST:
        return passed(f"{seen}; the probe sends no more, so the limit of {allowed} kbit/s is not proven", **figures)
    return passed(f"{seen}; the limit is {allowed} kbit/s", **figures)


def call_failed(step: str, server: str, stage: str, evidence: Mapping[str, Any]) -> Verdict:
    """Explain a call that did not come about; `server` is the TURN server as configured, "" without one."""
    code, message = str(evidence.get("code", "")), str(evidence.get("message", ""))
    if stage == "family":
        return no_address(evidence)
    if stage == "signaling":
        return session_refused(code, message) if code else session_lost(message)
    if stage in ("offer", "requestoffer"):
        return no_description(stage, code, message)
    turn = evidence.get("turn") or {}
    if turn and turn.get("allocate") != "ok":
        verdict = no_allocation(server, turn_protocol(step), str(turn.get("allocate", "")), evidence)
        return over_ipv6(verdict) if step.endswith(IPV6) else verdict
    if stage == "turn":
        return failed(
            f"The TURN server {server} gave no relay address at the first attempt and one at the second.",
            "Run the verification again; if it stays so, look at the load of the HPB host.",
            **evidence,
        )
    return no_path(step, server, stage, evidence)


FAMILIES = {"ipv4": "IPv4", "ipv6": "IPv6"}


def no_address(evidence: Mapping[str, Any]) -> Verdict:
    """Explain that one side has no address of the family: side is name (that of the server), local or remote."""
    family, side = FAMILIES.get(str(evidence.get("family")), "network"), evidence.get("side")
    if side == "name":
        return failed(
            f"The signaling server's name has no {family} address to which the controller has a route.",
            f"Give the name one in DNS and the controller a route, or take {family} out of families.",
            **evidence,
        )
    if side == "local":
        return failed(
            f"The controller has no {family} address for media.",
            f"Run the verification from a machine that has {family}.",
            **evidence,
        )
    return failed(
        f"Janus names no {family} address, so clients that have only {family} get no media directly.",
        f"Let Janus use {family} (hpb_media_ip6), if the HPB host has it.",
        **evidence,
    )


def over_ipv6(verdict: Verdict) -> Verdict:
    """Return the verdict of a TURN server that does not serve over IPv6, where a wrong AAAA record may be the cause."""
    cause = f"Over IPv6 {verdict.cause[0].lower()}{verdict.cause[1:]}"
    remedy = f"{verdict.remedy} Check that the AAAA record of the name leads to the HPB host (hpb_media_ip6)."
    return failed(cause, remedy, **verdict.figures)


def no_family(evidence: Mapping[str, Any]) -> Verdict:
    """Return the verdict of a call over IPv6 that nobody asked for, where one side has no IPv6 for media."""
    verdict = no_address(evidence)
    return Verdict(SKIPPED, verdict.cause, figures=verdict.figures)


def no_description(stage: str, code: str, message: str) -> Verdict:
    """Explain an SFU that does not answer."""
    what = "take the publisher's offer" if stage == "offer" else "offer the publisher's stream to the subscriber"
    if code == "not_allowed":
        return failed(
            f"The signaling server does not allow to {what}: {message}",
            "Look at the log of signalling (playbook logs).",
        )
    reason = {"timeout": "no answer in time", "": message}.get(code, code)
    return failed(f"Janus did not {what} ({reason}).", f"{RUN_DEPLOY} janus, then of signalling.")


def no_allocation(server: str, protocol: str, error: str, evidence: Mapping[str, Any]) -> Verdict:
    """Explain a TURN server that gives no relay address."""
    port = f"{protocol if protocol in ('udp', 'tcp') else 'tcp'} {server.rpartition(':')[2]}"
    program = "coturn443, and of traefik" if protocol == "443" else "coturn"
    known = {
        "401": (
            f"The TURN server {server} refuses this instance's TURN secret (401).",
            "Run the deployment again: coturn does not have the secret that the secrets file says.",
        ),
        "486": (
            f"The TURN server {server} has reached its quota (486).",
            "Raise or remove user-quota and total-quota of coturn.",
        ),
        "508": (
            f"The TURN server {server} has no free relay port (508).",
            "Widen the relay range of coturn (min-port, max-port) and the firewall's.",
        ),
        "timeout": (
            f"The TURN server {server} does not answer over {'tls' if protocol == '443' else protocol}.",
            f"Open {port} in the firewall before the HPB host. {RUN_DEPLOY} {program}.",
        ),
        "refused": (
            f"Nothing listens for TURN on {server}.",
            f"{RUN_DEPLOY} {program}.",
        ),
        "certificate": (
            f"The certificate of the TURN server {server} does not hold.",
            "Check that it names the server and is valid now; a private authority must stand in hpb_ca_files.",
        ),
        "no tls": (
            f"The TURN server {server} does not speak TLS.",
            "Check its TLS port, and that coturn can read its certificate and key: without them it turns TLS off.",
        ),
        "name": (
            f"The name of the TURN server {server} does not resolve on the controller.",
            f"Correct {'hpb_turn_443_domain' if protocol == '443' else 'hpb_turn_domain'} where it is wrong, or give "
            "the name an address in DNS, or in hpb_resolve.",
        ),
    }
    if error in known:
        return failed(*known[error], **evidence)
    return failed(f"The TURN server {server} gives no relay address ({error}).", f"{RUN_DEPLOY} {program}.", **evidence)


def no_path(step: str, server: str, stage: str, evidence: Mapping[str, Any]) -> Verdict:
    """Explain two ends that know of each other and do not connect."""
    remote = [str(item) for item in evidence.get("remote") or []]
    where = ", ".join(sorted({item.split(" ", 1)[1].rpartition(":")[0] for item in remote if " " in item}))
    if not remote:
        return failed(
            f"Janus named no address for the {stage}.",
            "Check ice_enforce_list in the configuration of janus: it must match an interface of the HPB host.",
            **evidence,
        )
    if evidence.get("ice") == "completed":
        return failed(
            f"The {stage} reached Janus, but the encryption of the media (DTLS) was not agreed on.",
            "Look for a firewall that drops large UDP packets, and at the log of janus (playbook logs).",
            **evidence,
        )
    if not turn_protocol(step):
        return failed(
            f"No media path from the controller to Janus at {where} ({stage}).",
            "Open the UDP range of Janus in the firewall before the HPB host, "
            "and check that this is the address at which it is reached (hpb_public_ip).",
            **evidence,
        )
    turn = evidence.get("turn") or {}
    if turn.get("bind") == "403":
        return failed(
            f"The TURN server {server} refuses to relay to Janus at {where} (403).",
            "Allow exactly this address in coturn (allowed-peer-ip), or correct external-ip.",
            **evidence,
        )
    return failed(
        f"The TURN server {server} serves, but nothing came through between it and Janus at {where} ({stage}).",
        "Open the relay range of coturn and the UDP range of Janus between the two.",
        **evidence,
    )


# --- the report ----------------------------------------------------------------------------------------------------


def failures(records: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return the failures; steps of one instance that have one cause are one failure."""
    found: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for record in records:
        if record["status"] == FAILED:
            found.setdefault((record["instance"], record["cause"], record["remedy"]), []).append(record)
    result = []
    for (instance, cause, remedy), group in found.items():
        names = ", ".join(record["name"] for record in group)
        place = "HPB" if instance == ALL else instance
        result.append(
            {
                "instance": instance,
                "step": ", ".join(record["step"] for record in group),
                "cause": cause,
                "remedy": remedy,
                "sentence": f"{place}, {names}: {cause} {remedy}",
            }
        )
    return result


def merged(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the records, those that fail only because of another step's cause with that cause.

    When Janus is reached neither directly nor by a TURN server that relays to it, the reason is the same.
    """
    direct = {row["instance"]: row for row in records if row["step"] == "direct" and "ice" in row["figures"]}
    result = []
    for row in records:
        first = direct.get(row["instance"])
        if first and row["status"] == FAILED and (row["figures"].get("turn") or {}).get("bind") == "ok":
            row = {**row, **{name: first[name] for name in ("seen", "cause", "remedy")}}
        result.append(dict(row))
    return result


def warnings(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a sentence for each warning."""
    return [
        f"{record['instance']}, {record['name']}: {record['seen']} {record['remedy']}".strip()
        for record in records
        if record["status"] == WARNING
    ]


def table(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the records as lines of text with aligned columns."""
    rows = [("instance", "step", "result", "seen")]
    rows += [(row["instance"], row["name"], row["status"], row["seen"]) for row in records]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return ["  ".join([*(row[column].ljust(widths[column]) for column in range(3)), row[3]]).rstrip() for row in rows]


def moved(record: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Return a record whose sentences name `place` where they speak of the controller."""
    texts = {name: record[name] for name in ("seen", "cause", "remedy")}
    for words in ("this controller", "the controller", "The controller"):
        texts = {name: text.replace(words, place) for name, text in texts.items()}
    return {**record, **texts}


def report(records: Sequence[Mapping[str, Any]], place: str = "") -> dict[str, Any]:
    """Return the whole result: ok, results, table, failures, version, features of the server and the place.

    place: the machine on which the probe ran, "" for the controller; every failure is said to be seen from there.
    """
    records = merged(records)
    if place:
        records = [moved(record, place) for record in records]
    found = failures(records)
    if place:
        found = [{**item, "sentence": f"From {place}: {item['sentence']}"} for item in found]
    figures = next((row["figures"] for row in records if row["step"] == "welcome"), {})
    return {
        "ok": not found,
        "results": records,
        "table": table(records),
        "failures": found,
        "version": figures.get("version", ""),
        "features": figures.get("features", []),
        "place": place,
    }
