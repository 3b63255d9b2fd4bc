# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The judgement of the steps that are taken as a user of a Nextcloud: what Talk tells its users, and what comes of it.

An instance here is as in the options of the module call_probe. No input or output.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _probe, _talk_client
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._probe import Verdict, failed, passed
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._talk_client import Unwanted

SETTINGS, HELLO_V1, HELLO_V2, CALL, TURN = "user-settings", "user-hello-v1", "user-hello-v2", "user-call", "user-turn"

# For the relayed call; what needs the least comes first.
PREFERRED = ("udp", "tcp")
NEXTCLOUD_LOG = "Look at the log of this Nextcloud."
REGISTER = "Register the backend in this Nextcloud again (playbook register)."
ASKED = {
    "settings": "a request for the signaling settings",
    "list": "a request for the conversations",
    "create": "a request for a new conversation",
    "join": "the way into a conversation of the user's own",
    "call": "the way into the call of a conversation of the user's own",
    "remove": "a request to delete the user's own conversation",
}


def steps(instance: Mapping[str, Any], turn: Mapping[str, Any]) -> list[str]:
    """Return the names of an instance's steps as a user: none where no user is given."""
    if not instance.get("user"):
        return []
    relayed = [TURN] if set(turn.get("protocols") or []) & set(PREFERRED) else []
    return [SETTINGS, HELLO_V1, HELLO_V2, CALL, *relayed]


# --- the Nextcloud -------------------------------------------------------------------------------------------------


def unwanted(instance: Mapping[str, Any], error: Unwanted) -> Verdict:
    """Explain an answer of the Nextcloud that was not wanted."""
    url, user = instance["url"], instance["user"]
    if error.status in (401, 403) and error.word == "no answer of Talk":
        return failed(
            f"{url} answers {ASKED.get(error.what, error.what)} with a page that is not Talk's ({error.status}): "
            "something before the Nextcloud asks for a login, or keeps the controller out.",
            "Let browsers and the controller through to /ocs/v2.php/apps/spreed/ there: whoever is in a call comes "
            "this way.",
        )
    if error.status == 401:
        return failed(
            f"{url} refuses the password of {user} (401).",
            f"Let {user} make an app password (personal settings, security), and put it into talk_verify_password; "
            "it was not tried a second time, since a Nextcloud slows down an address with failed logins.",
        )
    if error.status == 429 and error.what == "settings":
        return failed(
            f"{url} has locked the controller's address out after too many failed logins (429).",
            "Wait half an hour, or take the address out of its protection (occ security:bruteforce:reset).",
        )
    if 300 <= error.status < 400:
        return failed(f"{url} sends the controller on to {error.word} ({error.status}).", "Correct talk_url.")
    if error.status == 503:
        return failed(f"{url} is in maintenance mode, or waits for an upgrade (503).", "End it, and verify again.")
    if error.status == 404 and error.what in ("settings", "list"):
        return failed(f"{url} has no Talk (404).", "Enable Talk there, and check talk_url.")
    if error.status == 403:
        return forbidden(url, user, error)
    if error.word == "no answer of Talk":
        return failed(
            f"{url} answers {ASKED.get(error.what, error.what)} with something that is not Talk's ({error.status}).",
            "Check talk_url, and what a proxy before this Nextcloud does with /ocs/.",
        )
    if error.status == 500 and error.what in ("create", "call", "leave", "remove"):
        # lib/Signaling/BackendNotifier.php of Talk: a post that is refused (4xx) ends what the user does.
        return failed(
            f"{url} answers {ASKED.get(error.what, error.what)} with 500, as Talk does when it could not tell the HPB "
            "of it.",
            "See above whether the HPB takes this Nextcloud's requests (secret, address, a lockout after wrong ones). "
            + NEXTCLOUD_LOG,
        )
    word = f": {error.word}" if error.word else ""
    return failed(f"{url} answers {ASKED.get(error.what, error.what)} with {error.status}{word}.", NEXTCLOUD_LOG)


def forbidden(url: str, user: str, error: Unwanted) -> Verdict:
    """Explain what a user may not do."""
    if error.what == "create":
        return failed(
            f"{user} may not make conversations in {url} (403).",
            "Allow it to a group of the user (Talk's administration, limit creating conversations), or name another "
            "user in talk_verify_user.",
        )
    if error.what == "call":
        return failed(
            f"{url} lets {user} into no call (403).",
            "Allow calls in Talk's administration (limit starting calls).",
        )
    return failed(
        f"{user} may not use Talk in {url} (403).",
        "Put the user into a group that may use Talk (Talk's administration, limit to groups), or name another one "
        "in talk_verify_user.",
    )


def softened(instance: Mapping[str, Any], verdict: Verdict) -> Verdict:
    """Return a failure for which only the other side can be at fault as a warning, where we do not register."""
    if instance.get("register", True):
        return verdict
    return _probe.softened(
        verdict, "Not registered by us, so this is no failure:", f"{verdict.remedy} Its admin has to do that."
    )


def unreachable(instance: Mapping[str, Any], error: BaseException, host: str) -> Verdict:
    """Explain why the controller does not reach the Nextcloud; it may be switched off where it is optional."""
    if isinstance(error, TimeoutError):
        verdict = failed(
            f"{host} does not answer the controller in time.",
            "Check that the Nextcloud is up and that the controller reaches it; after failed logins it lets an "
            "address wait.",
        )
    elif isinstance(error, ConnectionRefusedError):
        verdict = failed(f"{host} refuses the controller's connection.", "Start the web server of this Nextcloud.")
    else:
        verdict = _probe.unreachable(error, host)
        remedy = verdict.remedy.replace("hpb_domain", "talk_url").replace("the HPB host", "this Nextcloud")
        verdict = failed(verdict.cause, remedy)
    return _probe.softened(verdict, "Not checked, it is optional:") if instance.get("optional") else verdict


# --- what Talk tells its users -------------------------------------------------------------------------------------


def same_server(one: str, other: str) -> bool:
    """Whether two URLs are those of one signaling server; Talk takes wss for https."""

    def plain(url: str) -> str:
        text = url.strip().lower().rstrip("/")
        return f"https{text[3:]}" if text.startswith("wss:") else text

    return plain(one) == plain(other)


def uris(servers: Any) -> list[str]:
    """Return the URIs in the stunservers or turnservers of Talk's settings, in lower case."""
    found = []
    for entry in servers if isinstance(servers, list) else []:
        urls = entry.get("urls") if isinstance(entry, dict) else None
        found += [str(url).lower() for url in (urls if isinstance(urls, list) else [urls] if urls else [])]
    return found


def server_of(uri: str) -> str:
    """Return host and port of a STUN or TURN URI."""
    return uri.partition(":")[2].partition("?")[0]


def settings(
    instance: Mapping[str, Any], found: Mapping[str, Any], url: str, turn: Mapping[str, Any], removed: int = 0
) -> Verdict:
    """Judge what Talk tells the user: the signaling server, which must be `url`, and the STUN and TURN servers.

    turn: server and protocols, {} where there is none. removed: conversations of interrupted runs that are gone now.
    """
    nextcloud, user = instance["url"], instance["user"]
    if not found.get("userId"):
        return failed(
            f"{nextcloud} takes {user} for a guest: with a second factor it takes no login password.",
            f"Let {user} make an app password (personal settings, security), and put it into talk_verify_password.",
        )
    mode, server = str(found.get("signalingMode", "")), str(found.get("server") or "")
    if mode == "internal" or not server:
        hidden = " Talk's own warning about that is hidden." if found.get("hideWarning") else ""
        return softened(
            instance,
            failed(
                f"Talk in {nextcloud} does not use the backend: its users get Talk's internal signaling.{hidden}",
                f"{REGISTER} With talk_mend: true that sets signaling_mode right, too.",
            ),
        )
    if not same_server(server, url):
        return softened(
            instance,
            failed(
                f"Talk in {nextcloud} sends its users to {server}, expected {url}.",
                f"{REGISTER} With talk_exclusive: true that removes the other one.",
            ),
        )
    return softened(instance, media_servers(nextcloud, found, turn, removed))


def media_servers(nextcloud: str, found: Mapping[str, Any], turn: Mapping[str, Any], removed: int) -> Verdict:
    """Judge the STUN and TURN servers that Talk hands out. Others beside ours are named."""
    given = {"STUN": uris(found.get("stunservers")), "TURN": uris(found.get("turnservers"))}
    if turn:
        ours = str(turn["server"]).lower()
        # TLS is one more way, which a Nextcloud need not know.
        wanted = {"STUN": [f"stun:{ours}"]}
        wanted["TURN"] = [f"turn:{ours}?transport={name}" for name in PREFERRED if name in turn["protocols"]]
        missing = [uri for kind in wanted for uri in wanted[kind] if uri not in given[kind]]
        if missing:
            others = sorted({server_of(uri) for kind in given for uri in given[kind]} - {ours})
            instead = f" but {', '.join(others)}" if others else ""
            return failed(f"Talk in {nextcloud} does not give its users {', '.join(missing)}{instead}.", REGISTER)
    else:
        ours = ""
    others = sorted({server_of(uri) for kind in given for uri in given[kind]} - {ours})
    seen = f"{found['userId']} gets this signaling server{', STUN and TURN' if turn else ''}"
    seen += f"; also {', '.join(others)}" if others and turn else ""
    seen += f"; {removed} test {'call' if removed == 1 else 'calls'} of interrupted runs removed" if removed else ""
    return passed(seen, others=len(others) if turn else 0, removed=removed)


def relay_of(found: Mapping[str, Any], turn: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """Return transport, user name and password of our TURN server as Talk hands them out, None where it does not."""
    ours = str(turn.get("server", "")).lower()
    for transport in PREFERRED:
        for entry in found.get("turnservers") or []:
            if transport in turn["protocols"] and f"turn:{ours}?transport={transport}" in uris([entry]):
                return transport, str(entry.get("username", "")), str(entry.get("credential", ""))
    return None


# --- the signaling server ------------------------------------------------------------------------------------------

CLOCK = "Set the clocks of both hosts by NTP."
SHARED_CODES = ("timeout", "invalid_request", "internal_error", "invalid_backend", "too_many_requests")


def hello(instance: Mapping[str, Any], code: str, message: str) -> Verdict:
    """Explain a hello of the user that the signaling server refused; "timeout" is no answer at all."""
    url, user = instance["url"], instance["user"]
    known = {
        "invalid_ticket": (
            f"{url} refuses the ticket of {user} that it gave a moment before.",
            "Check that the HPB and the controller reach the same Nextcloud by this name (DNS, hpb_resolve), and that "
            "its web servers share one database.",
        ),
        "no_such_user": (f"{url} does not know {user} when the HPB asks.", "Check that it is the same Nextcloud."),
        "invalid_token": (
            f"The HPB refuses the token of {user}: it does not fit the key that {url} shows.",
            "Run occ talk:signaling:verify-keys --update in this Nextcloud, wait some minutes, and verify again.",
        ),
        "token_not_valid_yet": (f"The clock of {url} is more than a minute ahead of the HPB's.", CLOCK),
        "token_expired": (f"The clock of {url} is more than a minute behind the HPB's.", CLOCK),
        "session_limit_exceeded": (
            "The instance has as many sessions as it may have.",
            "Raise talk_session_limit, or verify when fewer people use Talk.",
        ),
    }
    if code in known:
        return failed(*known[code])
    if code in SHARED_CODES:
        return _probe.hello_of(instance, code, message)
    return failed(
        f"The signaling server refuses a session to {user}: {code}{f' ({message})' if message else ''}.",
        "Look at the log of signalling (playbook logs).",
    )


def greeted(instance: Mapping[str, Any], what: str, wanted: str, found: str) -> Verdict:
    """Judge a hello that was accepted: the signaling server must know us as the user that Talk named."""
    if wanted != found:
        return failed(
            f"The signaling server takes {wanted} for {found or 'a guest'}.",
            f"Look at the log of signalling (playbook logs), and at what {instance['url']} answers it.",
        )
    return passed(f"the {what} of {found} is accepted")


# --- the call ------------------------------------------------------------------------------------------------------


def call(instance: Mapping[str, Any], transport: str, figures: dict[str, Any], left: str) -> Verdict:
    """Judge a call as the user, relayed by `transport` ("" for direct). left: why its conversation is still there."""
    verdict = _probe.call(f"turn-{transport}" if transport else CALL, figures)
    if left and verdict.status == _probe.OK:
        return Verdict(
            _probe.WARNING,
            f"{verdict.seen}. The conversation of the call is still there ({left}).",
            f"{instance['url']} did not delete the conversation of the call ({left}).",
            f"Let {instance['user']} delete '{_talk_client.NAME}...', or let the next verification do it.",
            verdict.figures,
        )
    return verdict


def call_failed(
    instance: Mapping[str, Any], transport: str, servers: tuple[str, str], stage: str, evidence: Mapping[str, Any]
) -> Verdict:
    """Explain a call of the user that did not come about; `servers` are our TURN server and the signaling server."""
    server, url = servers
    nextcloud, user = instance["url"], instance["user"]
    code = str(evidence.get("code", ""))
    if stage == "incall":
        return softened(
            instance,
            failed(
                f"{nextcloud} does not tell the HPB that {user} is in a call: its signed requests do not arrive.",
                f"Check that this Nextcloud reaches {url} and trusts its certificate (talk_verify_tls); its log says "
                "'Failed to send message to signaling server'.",
            ),
        )
    if stage == "permissions" or stage == "offer" and code == "not_allowed":
        return failed(
            f"{user} may not speak or show anything in a conversation of the user's own.",
            "Give users the permissions for sound and video in Talk's administration (default permissions).",
        )
    if stage == "requestoffer" and code == "not_allowed":
        return failed(
            f"The signaling server does not take both ends of the call of {user} for being in one call.",
            "Look at the log of signalling (playbook logs).",
        )
    if stage == "signaling" and code in ("no_such_room", "duplicate_session"):
        return failed(
            f"{nextcloud} lets {user} into a conversation and refuses the same to the HPB ({code}).",
            "Check that the HPB and the controller reach the same Nextcloud by this name (DNS, hpb_resolve).",
        )
    if stage == "signaling" and code:
        return hello(instance, code, str(evidence.get("message", "")))
    if (evidence.get("turn") or {}).get("allocate") == "401":
        return softened(
            instance,
            failed(
                f"The TURN server {server} refuses the credentials that Talk in {nextcloud} gives its users (401).",
                f"{REGISTER} Talk holds another TURN secret than coturn, or its clock is a day behind.",
                **evidence,
            ),
        )
    return _probe.call_failed(f"turn-{transport}" if transport else CALL, server, stage, evidence)
