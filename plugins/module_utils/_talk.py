# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Talk has stored about signaling, TURN and STUN servers, and the way from there to what is wanted.

`parse` reads the app configuration, `plan_signaling`, `plan_turn` and `plan_stun` compare it with what is wanted, and
`converge` carries a plan out and reads back what was stored.

Talk keeps three values in the app config `spreed` (lib/Config.php of Talk): `signaling_servers`
`{"servers": [{"server", "verify"}], "secret"}`, `turn_servers` `[{"schemes", "server", "secret", "protocols"}]` and
`stun_servers` `["host:port"]`; each is a JSON text, the last two typed arrays from Talk 25 on.

A plan that only adds uses Talk's own `talk:*:add`. Any other change replaces the whole value by `config:import`: it is
one step, so that Talk is never without a server, and the value goes in by standard input, so that no secret stands in
the process list. `config:import` cannot write typed arrays; there the plan's single commands are run instead.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Callable
from urllib.parse import urlsplit

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._occ import MASK, UPGRADE, Occ, OccError

APP = "spreed"
SIGNALING = "signaling_servers"
TURN = "turn_servers"
STUN = "stun_servers"
DEFAULT_STUN = "stun.nextcloud.com:443"
"""What Talk uses when no STUN server is stored, and stores itself when the last one is deleted."""

NEW_SECRET = "(new secret)"  # noqa: S105 - a word for the diff
NO_SECRET = "(not set)"  # noqa: S105 - a word for the diff
ROUNDS = 3
"""How often a plan is made and carried out: Talk 25 adds its default STUN server to the first one of ours."""


class TalkDisabled(OccError):
    """Talk is installed but switched off."""


class TalkMissing(OccError):
    """Talk is not installed."""


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


@dataclass(frozen=True)
class Plan:
    """The way from one state to another.

    `key`: the app config key; `commands`: the occ commands that lead there one by one; `value`: the whole new value;
    `adds_only`: nothing that is stored has to go or to change; `actions`: a sentence for each change, empty when there
    is none; `before`, `after`: the two sides of the diff, in one shape and without secrets.
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


# Reading


def read_state(occ: Occ, bare: bool = False) -> State:
    """Read the state with one start of PHP. Raises `OccError`.

    `config:list --private` is used rather than `talk:*:list`, since it has all three lists, `signaling_mode`, and
    whether Talk is on, and tells a key that was never set from an empty list. It is the only one that prints more
    secrets than ours, and none of what it prints is kept or shown.
    """
    document = occ.json(["config:list", APP, "--private"], bare=bare)
    try:
        return parse(document)
    except ValueError as error:
        raise BadStored(
            f"{occ.where} has something stored in the app config {APP} that Talk cannot read: {error}; "
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
            f"server; delete the setting with 'occ config:app:delete {APP} signaling_mode' and run this again."
        )


def parse(document: Any) -> State:
    """Return the state in the answer of `occ config:list spreed --private`.

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
    return State(
        installed=bool(enabled or app.get("installed_version")),
        enabled=bool(enabled) and enabled != "no",
        version=str(app.get("installed_version") or ""),
        mode=str(app.get("signaling_mode") or ""),
        servers=tuple(_items(SIGNALING, (signaling or {}).get("servers"), dict)),
        secret=None if signaling is None else str(signaling.get("secret") or ""),
        turn=tuple(_items(TURN, turn, dict)),
        stun=tuple(_items(STUN, stun, str)),
        typed=frozenset(key for key in (SIGNALING, TURN, STUN) if isinstance(app.get(key), (dict, list))),
        stored=frozenset(key for key in (SIGNALING, TURN, STUN) if app.get(key) is not None),
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
        before=_signaling_side(state.servers, state.secret, state.secret),
        after=_signaling_side(final, new_secret, state.secret),
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


def _signaling_side(servers: Any, secret: str | None, known: str | None) -> dict[str, Any]:
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

    left = [_triple(entry) for entry in final if entry not in missing]
    lost = list(dict.fromkeys(_triple(entry) for entry in gone))
    # talk:turn:delete takes every entry of the same three words, so what should stay of them is added again.
    again = [entry for entry in final if _triple(entry) in lost and entry not in missing]
    fresh = {_triple(entry) for entry in missing + again}
    deletes = {triple: ("talk:turn:delete", "--", *triple) for triple in lost}
    adds = [("talk:turn:add", f"--secret={entry.get('secret')}", "--", *_triple(entry)) for entry in [*missing, *again]]
    commands = [deletes[triple] for triple in lost if triple in fresh] + adds
    commands += [deletes[triple] for triple in lost if triple not in fresh]

    actions = []
    for triple in map(_triple, missing):
        actions.append(f"{'replaced the secret of' if triple in lost else 'added'} the TURN server {' '.join(triple)}")
    for entry in gone:
        triple = _triple(entry)
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


def _triple(entry: dict[str, Any]) -> tuple[str, str, str]:
    """Return the three words by which Talk knows a TURN entry; an old entry without schemes is a turn one."""
    return str(entry.get("schemes") or "turn"), str(entry.get("server")), str(entry.get("protocols"))


def _turn_side(entry: dict[str, Any], secret: str) -> dict[str, str]:
    schemes, server, protocols = _triple(entry)
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


# Doing


def import_document(plan: Plan) -> str:
    """Return what `occ config:import` reads to store the value of `plan`: the value is a text, as Talk stores it."""
    return json.dumps({"apps": {APP: {plan.key: json.dumps(plan.value, separators=(",", ":"))}}})


def carry_out(occ: Occ, plan: Plan, typed: bool) -> None:
    """Carry `plan` out once. `typed` says that the stored value is a typed array. Raises `OccError`."""
    if plan.adds_only or (typed and plan.commands):
        for command in plan.commands:
            occ.run(list(command))
    else:
        # With a path, since occ without one reads standard input but does not wait for it.
        occ.run(["config:import", "/dev/stdin"], stdin=import_document(plan))


def sync(occ: Occ, planner: Planner, check: bool) -> dict[str, Any]:
    """Read, plan and, unless `check`, carry out; return `changed`, `actions`, `warnings` and `diff` of a module.

    The caller has put into `planner` what the state must be like for a plan to make sense. Raises `OccError`.
    """
    state = read_state(occ)
    plan = planner(state)
    after = plan.after
    if plan.actions and not check:
        final = converge(occ, state, planner)
        if plan.key == STUN:
            # Some releases of Talk add their default server by themselves.
            after = planner(final).before
    return {
        "changed": bool(plan.actions),
        "actions": list(plan.actions),
        "warnings": list(plan.warnings),
        "diff": {"before": plan.before, "after": after},
    }


def converge(occ: Occ, state: State, planner: Planner) -> State:
    """Carry out the plans for `state` until nothing is left to do, and return the state that was read back.

    Raises `NotStored` when a change was reported as done and the stored value is the old one, or never gets right.
    """
    for _round in range(ROUNDS):
        plan = planner(state)
        if not plan.actions:
            return state
        carry_out(occ, plan, plan.key in state.typed)
        before, state = state, read_state(occ)
        if state == before:
            break
    if planner(state).actions:
        raise NotStored(
            f"{occ.where} reported success, but {plan.key} of the app config {APP} does not hold what was written; "
            "see whether something else changes it at the same time, or whether this release of Talk is newer than "
            "this collection, and enter the value in Talk's administration settings."
        )
    return state


# Reporting


@dataclass(frozen=True)
class Server:
    """What Nextcloud says about itself; `cli_url` is its `overwrite.cli.url`, empty when not set."""

    version: str
    maintenance: bool
    needs_upgrade: bool
    cli_url: str
    trusted: tuple[str, ...]


def read_server(occ: Occ) -> Server:
    """Read config.php with one start of PHP, without its secrets. Raises `OccError`."""
    document, result = occ.answer(["config:list", "system"], bare=True)
    system = document.get("system") if isinstance(document, dict) else None
    if not isinstance(system, dict):
        raise BadStored(f"{occ.where} was expected to list the system's settings, but its answer holds none of them.")
    trusted = system.get("trusted_domains") or []
    if isinstance(trusted, str):
        # A release that counts it among the secrets.
        trusted = occ.json(["config:system:get", "trusted_domains"], bare=True)
    return Server(
        version=str(system.get("version") or ""),
        maintenance=bool(system.get("maintenance")),
        needs_upgrade=UPGRADE in result.err,
        cli_url=str(system.get("overwrite.cli.url") or ""),
        trusted=tuple(str(name) for name in (trusted.values() if isinstance(trusted, dict) else trusted)),
    )


def is_trusted(url: str, trusted: tuple[str, ...]) -> bool:
    """Whether Nextcloud answers under the name in `url` (lib/private/Security/TrustedDomainHelper.php of Nextcloud).

    A name is compared without regard to case, with its port and without; `*` stands for any part of it.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    names = {host, parts.netloc.lower()}
    for pattern in trusted:
        regex = "[-.a-z0-9]*".join(re.escape(part) for part in pattern.lower().split("*"))
        if any(re.fullmatch(regex, name) for name in names):
            return True
    return host == "localhost"


def report(server: Server, state: State, url: str | None, secret: str | None, urls: list[str]) -> dict[str, Any]:
    """Return the facts for the user, without any secret; what was not asked for is left out."""
    facts: dict[str, Any] = {
        "nextcloud": {
            "version": server.version,
            "maintenance": server.maintenance,
            "needs_upgrade": server.needs_upgrade,
            "overwrite_cli_url": server.cli_url,
            "trusted_domains": list(server.trusted),
        },
        "talk": {
            "installed": state.installed,
            "enabled": state.enabled,
            "version": state.version,
            "signaling_mode": state.mode,
            "signaling_servers": _signaling_side(state.servers, None, None)[SIGNALING],
            "turn_servers": [dict(zip(("schemes", "server", "protocols"), _triple(entry))) for entry in state.turn],
            "stun_servers": list(state.stun),
        },
    }
    if url:
        facts["registered"] = any(same_url(str(entry.get("server"))) == same_url(url) for entry in state.servers)
    if secret:
        facts["secret_matches"] = state.secret is not None and hmac.compare_digest(
            state.secret.encode(), secret.encode()
        )
    if urls:
        facts["trusted"] = all(is_trusted(one, server.trusted) for one in urls)
        facts["cli_url_matches"] = _cli_url_matches(server, urls)
    return facts


def _cli_url_matches(server: Server, urls: list[str]) -> bool:
    return same_url(server.cli_url) in {same_url(one) for one in urls}


def problems(server: Server, state: State, urls: list[str], where: str) -> list[str]:
    """Return a sentence for everything that keeps the backend from being registered or used."""
    found = []
    if server.maintenance:
        found.append(
            f"{where} says that Nextcloud is in maintenance mode, in which Talk cannot be changed; "
            "end it with 'occ maintenance:mode --off' and run this again."
        )
    if server.needs_upgrade:
        found.append(
            f"{where} says that Nextcloud or an app needs an upgrade, before which Talk cannot be changed; "
            "run 'occ upgrade' and then this again."
        )
    for check in (require_talk, require_external):
        try:
            check(state, where)
        except OccError as error:
            found.append(str(error))
    if urls and not _cli_url_matches(server, urls):
        found.append(
            f"{where} belongs to a Nextcloud whose overwrite.cli.url is {server.cli_url or 'not set'}, but "
            f"{' or '.join(urls)} was expected, and the signaling server refuses what Talk sends from cron; "
            f"set it with 'occ config:system:set overwrite.cli.url --value={urls[0]}'."
        )
    found += [
        f"{where} belongs to a Nextcloud that does not answer at {one}, as the name is no trusted domain; "
        f"add it to trusted_domains with 'occ config:system:set trusted_domains {len(server.trusted)} "
        f"--value={urlsplit(one).netloc}'."
        for one in urls
        if not is_trusted(one, server.trusted)
    ]
    return found
