# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Talk has stored about signaling, TURN and STUN servers, and the way from there to what is wanted.

`parse` reads the app configuration, `plan_signaling`, `plan_turn` and `plan_stun` compare it with what is wanted, and
`converge` carries plans out and reads back what was stored. `sync` is all of it, alone on this Nextcloud.

Talk keeps three values in the app config `spreed` (lib/Config.php of Talk): `signaling_servers`
`{"servers": [{"server", "verify"}], "secret"}`, `turn_servers` `[{"schemes", "server", "secret", "protocols"}]` and
`stun_servers` `["host:port"]`; each is a JSON text, the last two typed arrays from Talk 25 on.

A plan that only adds uses Talk's own `talk:*:add`. Any other change replaces the whole value by `config:import`: it is
one step, so that Talk is never without a server, and the value goes in by standard input, so that no secret stands in
the process list. `config:import` cannot write typed arrays; there the plan's single commands are run instead. Where occ
cannot read standard input, `config:app:set` does the same in one step, with the value in the process list.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Callable
from urllib.parse import urlsplit

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _lease
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._occ import MASK, STDIN, Occ, OccError, StdinRefused
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._occ_errors import TalkDisabled, TalkMissing

APP = "spreed"
SIGNALING = "signaling_servers"
TURN = "turn_servers"
STUN = "stun_servers"
MODE = "signaling_mode"
CLI_URL = "overwrite.cli.url"
DEFAULT_STUN = "stun.nextcloud.com:443"
"""What Talk uses when no STUN server is stored, and stores itself when the last one is deleted."""

NEW_SECRET = "(new secret)"  # noqa: S105 - a word for the diff
NO_SECRET = "(not set)"  # noqa: S105 - a word for the diff
ROUNDS = 3
"""How often a plan is made and carried out: Talk 25 adds its default STUN server to the first one of ours."""


class SignalingInternal(OccError):
    """`signaling_mode` is `internal`, so that Talk ignores every signaling server."""


class BadStored(OccError):
    """A stored value does not have the shape that Talk gives it."""


class NotStored(OccError):
    """occ reported success, but what is stored is not what was written."""


class BadInput(Exception):
    """An option of a module has a value that cannot work. The text is one sentence for the user."""


@dataclass(frozen=True)
class State:
    """What the app config `spreed` says.

    `servers`, `turn`, `stun` are the lists as Talk keeps them. `secret` is the one that all signaling servers share
    (None: the key does not exist). `typed` names the keys that are typed arrays, `stored` those that exist.
    `cli_url` is `overwrite.cli.url` of config.php, None when config.php was not read. `federation`: its users may talk
    with those of other Nextclouds.
    """

    installed: bool
    enabled: bool
    version: str
    mode: str
    servers: tuple[dict[str, Any], ...]
    secret: str | None
    turn: tuple[dict[str, Any], ...]
    stun: tuple[str, ...]
    typed: frozenset[str]
    stored: frozenset[str]
    cli_url: str | None = None
    federation: bool = False


@dataclass(frozen=True)
class Plan:
    """The way from one state to another.

    `key`: the app config key, or one of config.php; `commands`: the occ commands that lead there one by one; `value`:
    the whole new value, None when only the commands lead there; `adds_only`: nothing that is stored has to go or to
    change; `actions`: a sentence for each change, empty when there is none; `before`, `after`: the two sides of the
    diff, in one shape and without secrets.
    """

    key: str
    commands: tuple[tuple[str, ...], ...]
    value: Any
    adds_only: bool
    actions: tuple[str, ...]
    warnings: tuple[str, ...]
    before: dict[str, Any]
    after: dict[str, Any]


Planner = Callable[[State], Plan]
Reader = Callable[[Occ], State]
Hold = Callable[[Occ], AbstractContextManager[Callable[[], None]]]


# Reading


def read_state(occ: Occ) -> State:
    """Read what Talk has stored, with one start of PHP. Raises `OccError`.

    `config:list --private` is used rather than `talk:*:list`, since it has all three lists, `signaling_mode`, and
    whether Talk is on, and tells a key that was never set from an empty list. It is the only one that prints more
    secrets than ours, and none of what it prints is kept or shown.
    """
    return parsed(occ.json(["config:list", APP, "--private"]), occ.where)


def parsed(document: Any, where: str) -> State:
    """Do what `parse` does, and raise `BadStored` instead."""
    try:
        return parse(document)
    except ValueError as error:
        raise BadStored(
            f"{where} has something stored in the app config {APP} that Talk cannot read: {error}; "
            f"look at it with 'occ config:app:get {APP} <key>' and delete the key if nobody needs its value."
        ) from None


def require_talk(state: State, where: str) -> None:
    """Raise unless Talk is installed and enabled."""
    if not state.installed:
        raise TalkMissing(f"{where} belongs to a Nextcloud without Talk; install it with 'occ app:install spreed'.")
    if not state.enabled:
        raise TalkDisabled(
            f"{where} belongs to a Nextcloud in which Talk is disabled; enable it with 'occ app:enable spreed'."
        )


def require_external(state: State, where: str) -> None:
    """Raise when Talk is told to ignore signaling servers."""
    if state.mode == "internal":
        raise SignalingInternal(
            f"{where} belongs to a Nextcloud whose signaling_mode is internal, so that Talk ignores every signaling "
            f"server; delete the setting with 'occ config:app:delete {APP} {MODE}' and run this again, or set mend "
            "(talk_mend in the inventory) to true."
        )


def parse(document: Any) -> State:
    """Return the state in the answer of `occ config:list spreed --private`, or of the same for everything.

    Raises `ValueError` with a text that names the key, never its value, when a value has another shape.
    """
    if not isinstance(document, dict) or not isinstance(document.get("apps"), dict):
        raise ValueError("the list of the app's settings is missing")
    app = document["apps"].get(APP) or {}
    signaling, turn, stun = (_value(app, key) for key in (SIGNALING, TURN, STUN))
    if signaling is not None and not isinstance(signaling, (dict, list)):
        raise ValueError(f"{SIGNALING} is neither an object nor a list")
    # PHP writes an empty object as a list.
    signaling = signaling if isinstance(signaling, dict) else (None if not signaling else {"servers": signaling})
    enabled = str(app.get("enabled") or "")
    system = document.get("system")
    return State(
        installed=bool(enabled or app.get("installed_version")),
        enabled=bool(enabled) and enabled != "no",
        version=str(app.get("installed_version") or ""),
        mode=str(app.get(MODE) or ""),
        servers=tuple(_items(SIGNALING, (signaling or {}).get("servers"), dict)),
        secret=None if signaling is None else str(signaling.get("secret") or ""),
        turn=tuple(_items(TURN, turn, dict)),
        stun=tuple(_items(STUN, stun, str)),
        typed=frozenset(key for key in (SIGNALING, TURN, STUN) if isinstance(app.get(key), (dict, list))),
        stored=frozenset(key for key in (SIGNALING, TURN, STUN) if app.get(key) is not None),
        cli_url=str(system.get(CLI_URL) or "") if isinstance(system, dict) else None,
        federation=str(app.get("federation_enabled") or "").lower() in ("yes", "1", "true"),
    )


def _value(app: Any, key: str) -> Any:
    """Return the decoded value of `key`, or None when it is not set or empty."""
    raw = app.get(key)
    if not isinstance(raw, str):
        return raw
    if not raw.strip():
        return None
    try:
        return json.loads(raw)
    except ValueError:
        raise ValueError(f"{key} is not JSON") from None


def _items(key: str, value: Any, kind: type) -> list[Any]:
    """Return the members of a list, which PHP writes as an object when its indexes have gaps."""
    members = list(value.values()) if isinstance(value, dict) else (value or [])
    if not isinstance(members, list) or not all(isinstance(member, kind) for member in members):
        raise ValueError(f"{key} is not a list of what Talk puts there")
    return members


# Comparing


def same_url(url: str) -> str:
    """Return the form in which two URLs of one signaling server are equal, as Talk and its clients treat them.

    wss is https and ws is http; case of scheme and host, the default port, spaces around and slashes at the end do
    not matter. Anything that is no URL is equal to itself only.
    """
    text = url.strip().rstrip("/")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return text
    scheme = {"wss": "https", "ws": "http"}.get(parts.scheme.lower(), parts.scheme.lower())
    if not parts.hostname or scheme not in ("https", "http"):
        return text
    authority = parts.hostname if port in (None, {"https": 443, "http": 80}[scheme]) else f"{parts.hostname}:{port}"
    return f"{scheme}://{authority}{parts.path}"


def is_among(url: str, urls: Iterable[str]) -> bool:
    """Whether `url` is one of `urls` in any spelling."""
    return same_url(url) in {same_url(one) for one in urls}


def same_address(server: str) -> str:
    """Return the form in which two `host:port` of one TURN or STUN server are equal: no scheme, no case."""
    return re.sub(r"^(?:https?://|(?:turns?|stuns?):(?://)?)", "", server.strip().lower()).rstrip("/")


def checked_url(url: str, for_use: bool) -> str:
    """Return the URL to store. Raises `BadInput` unless it is one that Talk and browsers can use.

    With `for_use` false the URL is only looked for, and may be the http one of a former registration.
    """
    text = url.strip().rstrip("/")
    schemes = ("https", "wss") if for_use else ("https", "wss", "http", "ws")
    try:
        parts = urlsplit(text)
        fine = parts.scheme.lower() in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fine = False
    if not fine or re.search(r"[\s?#@]", text):
        raise BadInput(
            f"The url of the signaling server is '{url}', but one like https://talk.example.org was expected, "
            "without user, query or fragment; correct the option url."
        )
    return text


ADDRESS = re.compile(r"^(?=.{1,255}$)[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?:(\d{1,5})$")


def checked_address(server: str, kind: str) -> str:
    """Return `host:port` as it is stored. Raises `BadInput` for anything that Talk would refuse or cannot use."""
    match = ADDRESS.match(server)
    if not match or not 0 < int(match.group(1)) < 65536:
        raise BadInput(
            f"A {kind} server is '{server}', but host:port with a name or an IPv4 address was expected, such as "
            "turn.example.org:3478, since Talk takes no scheme and no IPv6 address there; correct the option servers."
        )
    return server


def checked_secret(secret: str | None) -> str:
    """Return the secret to store. Raises `BadInput` for one that Talk would refuse."""
    if not secret or secret != secret.strip():
        raise BadInput(
            "The secret is empty or has spaces around it, but 64 hexadecimal digits were expected; "
            "correct the option secret."
        )
    return secret


def reconcile(
    current: tuple[Any, ...], wanted: list[Any], ours: Callable[[Any], bool], exclusive: bool
) -> tuple[list[Any], list[Any], list[Any]]:
    """Return the list to have, what is missing in `current`, and what has to go from it.

    A wanted entry that is there once stays in its place. Every other entry that is `ours` goes (a duplicate, another
    spelling, a former secret), and with `exclusive` every foreign one too.
    """
    missing, kept, gone = list(wanted), [], []
    for entry in current:
        if entry in missing:
            missing.remove(entry)
            kept.append(entry)
        elif exclusive or ours(entry):
            gone.append(entry)
        else:
            kept.append(entry)
    return kept + missing, missing, gone


# Planning


def plan_signaling(
    state: State,
    url: str,
    secret: str | None,
    *,
    verify: bool,
    exclusive: bool,
    present: bool,
    leftover: str,
    former: Iterable[str] = (),
) -> Plan:
    """Plan for one signaling server. `former` are URLs under which it was registered before, leftovers of ours.

    `leftover` is a fresh random secret that is stored when our server goes and none stays: the key is never deleted,
    as Talk accepts a signature made with an empty secret when there is no key (Talk 21.1).
    """
    wanted = [{"server": url, "verify": verify}] if present else []
    ours = _server_is({same_url(one) for one in (url, *former)}, same_url)
    final, missing, gone = reconcile(state.servers, wanted, ours, exclusive and present)
    foreign = [entry["server"] for entry in final if not ours(entry)]
    removed_foreign = [str(entry.get("server")) for entry in gone if not ours(entry)]
    removed_ours = [entry for entry in gone if ours(entry)]

    actions = [f"removed the signaling server {server} of somebody else" for server in removed_foreign]
    new_secret = state.secret
    if present:
        new_secret = secret
        actions += _signaling_actions(url, verify, missing, removed_ours)
        if state.secret != secret and (state.servers or not missing):
            actions.append(f"replaced the secret for {url}")
    else:
        actions += [f"removed the signaling server {entry['server']}" for entry in removed_ours]
        exposed = state.secret == "" or (state.secret is not None and state.secret == secret)
        if not final and (removed_ours or exposed):
            new_secret = leftover
            actions.append("replaced the secret by a random one")

    add = ("talk:signaling:add", *(("--verify",) if verify else ()), "--", url, secret or "")
    return Plan(
        key=SIGNALING,
        commands=(add,) if missing else (),
        value={"servers": final, "secret": new_secret or ""},
        adds_only=bool(missing) and not gone,
        actions=tuple(actions),
        warnings=_foreign_warnings(foreign, state.secret, new_secret) if present else (),
        before=signaling_side(state.servers, state.secret, state.secret),
        after=signaling_side(final, new_secret, state.secret),
    )


def _signaling_actions(url: str, verify: bool, missing: list[Any], removed: list[Any]) -> list[str]:
    """Return the sentences for what happens to entries of ours, `removed` being those that are not as wanted."""
    check = "with" if verify else "without"
    if missing and not removed:
        return [f"added the signaling server {url}, {check} certificate check"]
    if not missing:
        return [f"removed the {_kind(entry['server'], url)} entry {entry['server']}" for entry in removed]
    actions = []
    if any(entry["server"] == url for entry in removed):
        actions.append(f"set the signaling server {url} to be used {check} certificate check")
    others = sorted({entry["server"] for entry in removed} - {url})
    return actions + [f"replaced the entry {server} by {url}" for server in others]


def _kind(server: str, url: str) -> str:
    return "duplicate" if same_url(server) == same_url(url) else "former"


def _foreign_warnings(foreign: list[str], before: str | None, after: str | None) -> tuple[str, ...]:
    if not foreign:
        return ()
    names = ", ".join(foreign)
    text = f"Another signaling server is registered beside ours, which Talk no longer supports: {names}. "
    if before and before != after:
        text += "Talk has one secret for all of them, and it is ours now. "
    return (text + "Remove it, or set exclusive to true.",)


def signaling_side(servers: Any, secret: str | None, known: str | None) -> dict[str, Any]:
    """Return one side of the diff, `known` being the secret that is stored."""
    return {
        SIGNALING: [{"server": entry.get("server"), "verify": bool(entry.get("verify"))} for entry in servers],
        "secret": NO_SECRET if not secret else (MASK if secret == known else NEW_SECRET),
    }


def plan_turn(
    state: State,
    servers: list[dict[str, str]],
    secret: str | None,
    exclusive: bool,
    present: bool,
    *,
    former: Iterable[str] = (),
) -> Plan:
    """Plan for our TURN entries, `servers` being dictionaries with `schemes`, `server` and `protocols`.

    `former` are the `host:port` that were ours before, leftovers.
    """
    wanted = []
    for entry in servers if present else []:
        if {**entry, "secret": secret} not in wanted:
            wanted.append({**entry, "secret": secret})
    addresses = [entry["server"] for entry in servers]
    ours = _server_is({same_address(server) for server in (*addresses, *former)}, same_address)
    final, missing, gone = reconcile(state.turn, wanted, ours, exclusive and present)

    left = [triple_of(entry) for entry in final if entry not in missing]
    lost = list(dict.fromkeys(triple_of(entry) for entry in gone))
    # talk:turn:delete takes every entry of the same three words, so what should stay of them is added again.
    again = [entry for entry in final if triple_of(entry) in lost and entry not in missing]
    fresh = {triple_of(entry) for entry in missing + again}
    deletes = {triple: ("talk:turn:delete", "--", *triple) for triple in lost}
    adds = [
        ("talk:turn:add", f"--secret={entry.get('secret')}", "--", *triple_of(entry)) for entry in [*missing, *again]
    ]
    commands = [deletes[triple] for triple in lost if triple in fresh] + adds
    commands += [deletes[triple] for triple in lost if triple not in fresh]

    actions = []
    for triple in map(triple_of, missing):
        actions.append(f"{'replaced the secret of' if triple in lost else 'added'} the TURN server {' '.join(triple)}")
    for entry in gone:
        triple = triple_of(entry)
        if triple in left:
            actions.append(f"removed the duplicate TURN server {' '.join(triple)}")
        elif triple not in fresh:
            whose = "" if ours(entry) else " of somebody else"
            actions.append(f"removed the TURN server {' '.join(triple)}{whose}")
    return Plan(
        key=TURN,
        commands=tuple(commands),
        value=final,
        adds_only=not gone,
        actions=tuple(dict.fromkeys(actions)),
        warnings=(),
        before={TURN: [_turn_side(entry, MASK) for entry in state.turn]},
        after={TURN: [_turn_side(entry, NEW_SECRET if entry in missing else MASK) for entry in final]},
    )


def triple_of(entry: dict[str, Any]) -> tuple[str, str, str]:
    """Return the three words by which Talk knows a TURN entry; an old entry without schemes is a turn one."""
    return str(entry.get("schemes") or "turn"), str(entry.get("server")), str(entry.get("protocols"))


def _turn_side(entry: dict[str, Any], secret: str) -> dict[str, str]:
    schemes, server, protocols = triple_of(entry)
    return {"schemes": schemes, "server": server, "protocols": protocols, "secret": secret}


def plan_stun(state: State, servers: list[str], exclusive: bool, present: bool, *, former: Iterable[str] = ()) -> Plan:
    """Plan for our STUN entries (`host:port`). Without any other one Talk's own default stays behind ours.

    `former` are the `host:port` that were ours before, leftovers.
    """
    ours = {same_address(server) for server in (*servers, *former)}
    wanted = list(dict.fromkeys(servers)) if present else []
    final, missing, gone = reconcile(
        state.stun, wanted, lambda entry: same_address(entry) in ours, exclusive and present
    )
    if gone and not final:
        final = [DEFAULT_STUN]
    lost = list(dict.fromkeys(gone))
    again = [entry for entry in dict.fromkeys(final) if entry in lost]
    deletes = {entry: ("talk:stun:delete", "--", entry) for entry in lost}
    commands = [deletes[entry] for entry in lost if entry in again]
    commands += [("talk:stun:add", "--", entry) for entry in [*missing, *again]]
    commands += [deletes[entry] for entry in lost if entry not in again]
    if again and DEFAULT_STUN not in [*state.stun, *final]:
        # Talk adds it when a duplicate was all there was.
        commands.append(("talk:stun:delete", "--", DEFAULT_STUN))
    actions = [f"added the STUN server {entry}" for entry in missing]
    for entry in lost:
        whose = "" if same_address(entry) in ours else " of somebody else"
        kind = "duplicate STUN server" if entry in again else "STUN server"
        actions.append(f"removed the {kind} {entry}{whose}")
    return Plan(
        key=STUN,
        commands=tuple(commands),
        value=final,
        adds_only=not gone,
        actions=tuple(actions),
        warnings=(),
        before={STUN: list(state.stun)},
        after={STUN: list(final)},
    )


def _server_is(wanted: set[str], form: Callable[[str], str]) -> Callable[[dict[str, Any]], bool]:
    """Return the test whether an entry's server is one of ours, whatever its spelling."""
    return lambda entry: form(str(entry.get("server"))) in wanted


def plan_mode(state: State) -> Plan:
    """Plan to delete a `signaling_mode` of `internal`, with which Talk ignores every signaling server."""
    wrong = state.mode == "internal"
    return Plan(
        key=MODE,
        commands=(("config:app:delete", APP, MODE),) if wrong else (),
        value=None,
        adds_only=False,
        actions=(f"deleted the {MODE} internal, with which Talk ignores every signaling server",) if wrong else (),
        warnings=(),
        before={MODE: state.mode},
        after={MODE: "" if wrong else state.mode},
    )


def plan_cli_url(state: State, urls: Sequence[str]) -> Plan:
    """Plan for `overwrite.cli.url` to be one of `urls`, by which the signaling server knows this Nextcloud."""
    found = state.cli_url or ""
    wrong = bool(urls) and not is_among(found, urls)
    return Plan(
        key=CLI_URL,
        commands=(("config:system:set", CLI_URL, f"--value={urls[0]}"),) if wrong else (),
        value=None,
        adds_only=False,
        actions=(f"set {CLI_URL} to {urls[0]} (it was {found or 'not set'})",) if wrong else (),
        warnings=(),
        before={CLI_URL: found},
        after={CLI_URL: urls[0] if wrong else found},
    )


# What the modules ask for


def signaling_planner(
    where: str,
    *,
    url: str,
    secret: str | None,
    verify: bool,
    former: Sequence[str],
    exclusive: bool,
    present: bool,
    mend: bool = False,
) -> Planner:
    """Return the function from a state to the plan for one signaling server. Raises `BadInput`.

    With `mend` a `signaling_mode` of `internal` is no error, since another plan deletes it.
    """
    url = checked_url(url, for_use=present)
    secret = checked_secret(secret) if present else secret
    leftover = secrets.token_hex(32)

    def plan(state: State) -> Plan:
        if present:
            require_talk(state, where)
        if present and not mend:
            require_external(state, where)
        return plan_signaling(
            state,
            url,
            secret,
            verify=verify,
            exclusive=exclusive,
            present=present,
            leftover=leftover,
            former=former,
        )

    return plan


def turn_planner(
    where: str,
    *,
    servers: list[dict[str, str]],
    secret: str | None,
    former: Sequence[str],
    exclusive: bool,
    present: bool,
) -> Planner:
    """Return the function from a state to the plan for our TURN entries. Raises `BadInput`."""
    secret = checked_secret(secret) if present and servers else None
    for entry in servers:
        checked_address(entry["server"], "TURN")

    def plan(state: State) -> Plan:
        if present:
            require_talk(state, where)
        return plan_turn(state, servers, secret, exclusive, present, former=former)

    return plan


def stun_planner(where: str, *, servers: list[str], former: Sequence[str], exclusive: bool, present: bool) -> Planner:
    """Return the function from a state to the plan for our STUN entries. Raises `BadInput`."""
    for server in servers:
        checked_address(server, "STUN")

    def plan(state: State) -> Plan:
        if present:
            require_talk(state, where)
        return plan_stun(state, servers, exclusive, present, former=former)

    return plan


# Doing


def import_document(plan: Plan) -> str:
    """Return what `occ config:import` reads to store the value of `plan`: the value is a text, as Talk stores it."""
    return json.dumps({"apps": {APP: {plan.key: _stored(plan)}}})


def carry_out(occ: Occ, plan: Plan, typed: bool) -> None:
    """Carry `plan` out once. `typed` says that the stored value is a typed array. Raises `OccError`."""
    if plan.value is None or plan.adds_only or (typed and plan.commands):
        for command in plan.commands:
            occ.run(list(command))
        return
    try:
        # With a path, since occ without one reads standard input but does not wait for it.
        occ.run(["config:import", STDIN], stdin=import_document(plan))
    except StdinRefused:
        if typed:
            raise
        occ.run(["config:app:set", APP, plan.key, f"--value={_stored(plan)}"])


def _stored(plan: Plan) -> str:
    """Return the value of `plan` as the text that Talk stores."""
    return json.dumps(plan.value, separators=(",", ":"))


def sync(
    occ: Occ, planners: Sequence[Planner], check: bool, *, read: Reader = read_state, hold: Hold = _lease.held
) -> dict[str, Any]:
    """Read, plan and, unless `check`, carry out; return `changed`, `actions`, `warnings` and `diff` of a module.

    The caller has put into the planners what the state must be like for a plan to make sense. When something has to
    change, it is read and planned again as the only writer, first of this host and then of all, so that what is
    reported is what was done. Raises `OccError`.
    """
    plans = _plans(planners, read(occ))
    after = [plan.after for plan in plans]
    if not check and _changes(plans):
        with occ.alone():
            plans = _plans(planners, read(occ))
            after = [plan.after for plan in plans]
            if _changes(plans):
                with hold(occ) as keep:
                    state = read(occ)
                    plans = _plans(planners, state)
                    final = _plans(planners, converge(occ, state, planners, read, keep))
                # Some releases of Talk add their default STUN server by themselves.
                after = [done.before if plan.key == STUN else plan.after for plan, done in zip(plans, final)]
    return {
        "changed": _changes(plans),
        "actions": [action for plan in plans for action in plan.actions],
        "warnings": [warning for plan in plans for warning in plan.warnings],
        "diff": {
            "before": {key: value for plan in plans for key, value in plan.before.items()},
            "after": {key: value for side in after for key, value in side.items()},
        },
    }


def change_over(
    occ: Occ,
    planners: Sequence[Planner],
    then: Callable[[], None],
    *,
    read: Reader = read_state,
    hold: Hold = _lease.held,
) -> dict[str, Any]:
    """Do what `sync` does, the signaling servers with their secret at the very end, and call `then` at once.

    That last change is not read back, so that nothing lies between it and `then`: the caller makes the other half of
    the change there, and calls `sync` afterwards. It comes behind the lease, by which nobody is kept out longer than
    needed; who takes the lease now reads the state only after the change (`_lease.SETTLE`). Raises `OccError`.
    """
    with occ.alone():
        with hold(occ) as keep:
            state = read(occ)
            plans = _plans(planners, state)
            others = [planner for planner, plan in zip(planners, plans) if plan.key != SIGNALING]
            state = converge(occ, state, others, read, keep)
        last = [plan for plan in _plans(planners, state) if plan.key == SIGNALING and plan.actions]
        for plan in last:
            carry_out(occ, plan, plan.key in state.typed)
        then()
    return {
        "changed": _changes(plans),
        "actions": [action for plan in plans for action in plan.actions],
        "warnings": [warning for plan in plans for warning in plan.warnings],
        "diff": {
            "before": {key: value for plan in plans for key, value in plan.before.items()},
            "after": {key: value for plan in plans for key, value in plan.after.items()},
        },
    }


def tabs(actions: Mapping[str, Sequence[str]], dry: bool) -> str:
    """Return what people see who have Talk open while its servers change; "" where nobody's do.

    actions: {instance: what `sync` did or, in a dry run, would do}. Talk's header X-Nextcloud-Talk-Hash changes with
    the signaling, STUN and TURN servers, and with that a tab asks for a reload.
    """
    ids = [name for name, done in actions.items() if any(not one.startswith(f"set {CLI_URL} ") for one in done)]
    if not ids:
        return ""
    says, advice = ("will say", ": do this outside working hours") if dry else ("say", "")
    return (
        f"Tabs in which Talk is open ({', '.join(ids)}) {says} that it was updated and has to be reloaded; until that "
        f"is done they offer no call{advice}."
    )


def _plans(planners: Sequence[Planner], state: State) -> list[Plan]:
    return [planner(state) for planner in planners]


def _changes(plans: Iterable[Plan]) -> bool:
    return any(plan.actions for plan in plans)


def converge(occ: Occ, state: State, planners: Sequence[Planner], read: Reader, keep: Callable[[], None]) -> State:
    """Carry out the plans for `state` until nothing is left to do, and return the state that was read back.

    `keep` is called before each change, and raises when we may not make it any more. Raises `NotStored` when a change
    was reported as done and the stored value is the old one, or never gets right.
    """
    for _round in range(ROUNDS):
        plans = [plan for plan in _plans(planners, state) if plan.actions]
        if not plans:
            return state
        for plan in plans:
            keep()
            carry_out(occ, plan, plan.key in state.typed)
        before, state = state, read(occ)
        if state == before:
            break
    left = [plan.key for plan in _plans(planners, state) if plan.actions]
    if left:
        raise NotStored(_not_stored(left[0], occ.where))
    return state


def _not_stored(key: str, where: str) -> str:
    if key == CLI_URL:
        return (
            f"{where} reported success, but {key} of config.php does not hold what was written; see whether another "
            "file in the directory config sets it, too, or whether config.php may not be written, and set it there."
        )
    return (
        f"{where} reported success, but {key} of the app config {APP} does not hold what was written; "
        "see whether something else changes it at the same time, or whether this release of Talk is newer than "
        "this collection, and enter the value in Talk's administration settings."
    )
