# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The secrets of the backend as data: parse, check, plan. Nothing here touches a file.

The document is `{"version": 1, <shared secrets>, "instances": {id: {"url", "backend", "turn", "next"}}}`. `next` is
there while a rotation is in progress and holds prepared values: `backend`, `turn` or both. A stored document may also
have `one_turn_secret` (true): the instances came from a coturn with one secret for all, so their TURN secrets may be
equal.
A secret has a name: a shared one its key (`internal`), an instance's `<id>.backend` or `<id>.turn`, a prepared one
`<id>.next.backend` or `<id>.next.turn`.
"""

from __future__ import annotations

import copy
import itertools
import json
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Callable

MASK = "********"
NEW = "(new secret)"
VERSION = 1

# Characters to generate. The signaling server takes 32 or 64 for the hash key and 16, 24 or 32 for the block key.
SHARED = {"session_hash_key": 64, "session_block_key": 32, "internal": 64, "janus_admin": 64}
INSTANCE = {"backend": 64, "turn": 64}
NEXT = "next"
ONE_TURN = "one_turn_secret"
LENGTHS = {"session_hash_key": (32, 64), "session_block_key": (16, 24, 32)}

# What `rotate` calls the shared ones.
SHARED_TARGETS = {
    "internal": ["internal"],
    "session": ["session_hash_key", "session_block_key"],
    "janus_admin": ["janus_admin"],
}

# Values printed in the samples and documents of the programs, which therefore everybody knows.
PUBLISHED = frozenset(
    {
        "the-secret-for-session-checksums",
        "-encryption-key-",
        "the-shared-secret-for-internal-clients",
        "the-shared-secret",
        "the-shared-secret-for-allowall",
        "the-api-key-for-the-rest-service",
        "6d1c17a7-c736-4e22-b02c-e2955b7ecc64",
        "static_secret_same_in_server_conf",
        "mysecretvalue",
        "verysecret",
        "moresecret",
        "janusoverlord",
        "adminpwd",
        "supersecret",
        "t0ps3cr3t",
        "north",
        "secret",
        "changeme",
    }
)

# A secret goes through the signaling server's server.conf (the TURN secrets alone do not), coturn's database, Talk's
# JSON, Janus' configuration, and the commands and tables of the pages in .handover/. Base64 passes everywhere.
_SIGNS = re.compile(r"[!-~]+")
_QUOTING = re.compile(r"[\"'`\\|<>{}]")
_VARIABLE = re.compile(r"[%$]\(")
# Words alone, one of which says that a secret is to be put there.
_PLACEHOLDER = re.compile(
    r"(?i)(?=.*(secret|passw|change|replace|paste|insert|random|your|example))[a-z]+([_.-]+[a-z]+)+"
)


class SecretsError(Exception):
    """A wrong input; the text is a whole sentence for the user and holds no secret."""


class DamagedError(Exception):
    """The stored document cannot be used; the text is the reason, without path and without a secret."""


@dataclass
class Plan:
    """The document as it is to be, what leads there in words, and the names of values that are new in it."""

    after: dict[str, Any]
    actions: list[str] = field(default_factory=list)
    new: set[str] = field(default_factory=set)
    warnings: list[str] = field(default_factory=list)


def is_published(value: str) -> bool:
    """Whether `value` is a sample that upstream publishes."""
    return value.strip().lower() in PUBLISHED


def fault(name: str, value: Any) -> str | None:
    """Return what is wrong with the value of the secret `name`, as the end of a sentence, or None."""
    if not isinstance(value, str):
        return f"{name} was expected to be text and is of type {type(value).__name__}"
    if is_published(value):
        return f"{name} is a sample value that upstream publishes, so everybody knows it"
    reason = _unfit(value, in_server_conf=name.rpartition(".")[2] != "turn")
    if reason:
        return f"{name} {reason}"
    lengths = LENGTHS.get(name)
    if lengths and len(value) not in lengths:
        return f"{name} was expected to have {' or '.join(map(str, lengths))} characters and has {len(value)}"
    if not lengths and not 32 <= len(value) <= 127:
        return f"{name} was expected to have 32 to 127 characters and has {len(value)}"
    return None


def _unfit(value: str, in_server_conf: bool) -> str | None:
    """Return for what a value does not reach one of the programs as it is, or None.

    What the signaling server makes of its server.conf: dlintw/goconf (read.go, get.go).
    """
    if not _SIGNS.fullmatch(value):
        return (
            "was expected to hold letters, digits and signs of ASCII only and holds something else, such as a blank, "
            "which server.conf or a command would cut"
        )
    if _QUOTING.search(value):
        return "holds one of \" ' ` \\ | < > { }, which a page in .handover/ or Janus' configuration would not keep"
    if in_server_conf and value[0] in "#;":
        return "begins with # or ;, which begins a comment in the signaling server's server.conf"
    if in_server_conf and _VARIABLE.search(value):
        return "holds %( or $(, with which the signaling server's server.conf names a variable"
    if _PLACEHOLDER.fullmatch(value):
        return "is a placeholder made of words, which can be guessed"
    return None


def flat(document: dict[str, Any]) -> dict[str, Any]:
    """Return {name: value} of all secrets in `document`, the prepared ones included."""
    values = {name: document[name] for name in SHARED if name in document}
    for instance, entry in document.get("instances", {}).items():
        values.update({f"{instance}.{kind}": entry[kind] for kind in INSTANCE if kind in entry})
        upcoming = entry.get(NEXT, {})
        values.update({f"{instance}.{NEXT}.{kind}": upcoming[kind] for kind in INSTANCE if kind in upcoming})
    return values


def twins(document: dict[str, Any]) -> tuple[str, str] | None:
    """Return the names of two secrets with the same value that must not have it, or None."""
    seen: dict[str, str] = {}
    turn = {f"{instance}.turn" for instance in document.get("instances", {})} if document.get(ONE_TURN) else set()
    for name, value in flat(document).items():
        if value in seen and not {seen[value], name} <= turn:
            return seen[value], name
        seen.setdefault(value, name)
    return None


def same_turn(document: dict[str, Any]) -> list[str]:
    """Return the ids of the instances whose TURN secret another one has, too."""
    values = [entry.get("turn") for entry in document.get("instances", {}).values()]
    return sorted(
        instance
        for instance, entry in document.get("instances", {}).items()
        if "turn" in entry and values.count(entry["turn"]) > 1
    )


def _shape_fault(document: Any, stored: bool) -> str | None:
    """Return what is wrong with the shape of a document; a stored one must be complete in its form."""
    if not isinstance(document, dict):
        return "the whole was expected to be a mapping and is not"
    version = document.get("version", None if stored else VERSION)
    if version != VERSION or isinstance(version, bool):
        return f"version {VERSION} was expected and {json.dumps(version)[:20]} was found"
    if document.get(ONE_TURN, True) is not True:
        return f"{ONE_TURN} was expected to be true or not there"
    for key in document:
        if key not in SHARED and key not in {"version", "instances", *([ONE_TURN] if stored else [])}:
            return f"the key '{key}' is unknown (known: {', '.join([*SHARED, 'instances', 'version'])})"
    instances = document.get("instances", None if stored else {})
    if not isinstance(instances, dict):
        return "instances was expected to be a mapping and is not"
    for instance, entry in instances.items():
        if not isinstance(entry, dict):
            return f"instances.{instance} was expected to be a mapping and is not"
        for key in entry:
            if key not in INSTANCE and key not in {"url", NEXT}:
                return f"the key '{key}' of instances.{instance} is unknown (known: backend, turn, url)"
        reason = _next_fault(instance, entry[NEXT], stored) if NEXT in entry else None
        if reason:
            return reason
        if stored and not isinstance(entry.get("url"), str):
            return f"instances.{instance}.url was expected to be text and is not"
    return None


def _next_fault(instance: str, upcoming: Any, stored: bool) -> str | None:
    """Return what is wrong with the prepared values of an instance, or None."""
    if not stored:
        return f"instances.{instance}.{NEXT} belongs to a rotation in progress, which only the stored file may hold"
    if not isinstance(upcoming, dict):
        return f"instances.{instance}.{NEXT} was expected to be a mapping and is not"
    for key in upcoming:
        if key not in INSTANCE:
            return f"the key '{key}' of instances.{instance}.{NEXT} is unknown (known: {', '.join(INSTANCE)})"
    return None


def parse(text: str) -> dict[str, Any]:
    """Return the document that the stored `text` holds; raises DamagedError with the reason."""
    if not text.strip():
        raise DamagedError("it is empty")
    try:
        document = json.loads(text)
    except ValueError as exc:
        position = f"line {exc.lineno}" if isinstance(exc, json.JSONDecodeError) else "an unknown place"
        raise DamagedError(f"it is no JSON from {position} on") from exc
    reason = _shape_fault(document, stored=True)
    for name, value in {} if reason else flat(document).items():
        reason = reason or fault(name, value)
    if reason:
        raise DamagedError(reason)
    pair = twins(document)
    if pair:
        raise DamagedError(f"{pair[0]} and {pair[1]} have the same value")
    return document


def dump(document: dict[str, Any]) -> str:
    """Return the text to store."""
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def without_none(values: dict[str, Any] | None) -> dict[str, Any]:
    """Return the user's values without keys that are null, which mean "not given"."""
    kept = {key: value for key, value in (values or {}).items() if value is not None}
    if isinstance(kept.get("instances"), dict):
        kept["instances"] = {
            instance: {key: value for key, value in entry.items() if value is not None}
            if isinstance(entry, dict)
            else entry
            for instance, entry in kept["instances"].items()
            if entry is not None
        }
    return kept


def check_values(values: dict[str, Any]) -> None:
    """Raise SecretsError when the user's values (same structure as the document, any part left out) cannot work."""
    reason = _shape_fault(values, stored=False)
    for name, value in {} if reason else flat(values).items():
        reason = reason or fault(name, value)
    if reason:
        raise SecretsError(
            f"In values, {reason}; make one with 'openssl rand -hex 32' "
            f"(-hex 16 for session_block_key) or leave it out, then one is generated."
        )


def _same_url(left: str, right: str) -> bool:
    return left.rstrip("/").lower() == right.rstrip("/").lower()


def _instances(wanted: Iterable[dict[str, Any]], remove: Iterable[str]) -> dict[str, list[str]]:
    """Return {id: [url, further urls]} of the wanted instances; raises SecretsError."""
    result: dict[str, list[str]] = {}
    for entry in wanted:
        if entry["id"] in result:
            raise SecretsError(f"Instance '{entry['id']}' is named twice in instances; name every instance once.")
        result[entry["id"]] = [entry["url"], *(entry.get("urls") or [])]
    both = [name for name in remove if name in result]
    if both:
        raise SecretsError(f"Instance '{both[0]}' is named in remove and in instances; take it out of one of them.")
    return result


def _rename(entries: dict[str, Any], wanted: dict[str, list[str]]) -> list[str]:
    """Move entries whose id is gone to the new id with the same URL; returns what was done in words."""
    actions = []
    for instance, urls in wanted.items():
        if instance in entries:
            continue
        for url in urls:
            old = next((name for name in entries if name not in wanted and _same_url(entries[name]["url"], url)), None)
            if old is not None:
                entries[instance] = entries.pop(old)
                actions.append(f"rename {old} to {instance}")
                break
    return actions


def targets(document: dict[str, Any]) -> dict[str, list[str]]:
    """Return {word of `rotate`: [names of secrets]} for a document.

    A shared secret is also known as `shared.<word>`. An instance that is called like a shared secret
    makes the bare word ambiguous; then only the longer ones are there.
    """
    result = dict(SHARED_TARGETS)
    for instance in document["instances"]:
        kinds = {f"{instance}.{kind}": [f"{instance}.{kind}"] for kind in INSTANCE}
        if instance in SHARED_TARGETS:
            del result[instance]
        else:
            result[instance] = [name for names in kinds.values() for name in names]
        result.update(kinds)
    result.update({f"shared.{word}": names for word, names in SHARED_TARGETS.items()})
    return result


def _named(option: str, words: Iterable[str], known: dict[str, list[str]], given: Iterable[str]) -> set[str]:
    """Return the names of the secrets that the words of `option` mean; raises SecretsError."""
    names: set[str] = set()
    for word in words:
        if word not in known:
            raise SecretsError(f"{option} names '{word}', which is unknown; known are {', '.join(sorted(known))}.")
        names.update(known[word])
    fixed = sorted(names & set(given))
    if fixed:
        raise SecretsError(
            f"{option} names {', '.join(fixed)}, whose value is given in values; change it there and run again."
        )
    return names


def _turning(
    document: dict[str, Any], given: Iterable[str], settled: Iterable[str] = (), **words: Iterable[str]
) -> dict[str, set[str]]:
    """Return {option: names of secrets} for rotate, prepare and promote; raises SecretsError.

    Only an instance's secrets can be prepared, since its Nextcloud must be told before they count. settled: names of
    given ones that are in place, so that nothing is left to promote.
    """
    known = targets(document)
    of_instances = {word: names for word, names in known.items() if not set(names) & set(SHARED)}
    found = {
        option: _named(
            option,
            named,
            known if option == "rotate" else of_instances,
            set(given) - set(settled) if option == "promote" else given,
        )
        for option, named in words.items()
    }
    for first, second in itertools.combinations(found, 2):
        both = sorted(found[first] & found[second])
        if both:
            raise SecretsError(f"{first} and {second} both name {', '.join(both)}; take it out of one of them.")
    return found


def _staged(document: dict[str, Any], given: dict[str, Any], stage: Iterable[str]) -> set[str]:
    """Return the names of given secrets of these instances that have another value now."""
    entries = document["instances"]
    names = {f"{instance}.{kind}": (instance, kind) for instance in stage for kind in INSTANCE if instance in entries}
    return {
        name
        for name, (instance, kind) in names.items()
        if name in given and kind in entries[instance] and entries[instance][kind] != given[name]
    }


def _places(document: dict[str, Any]) -> list[tuple[str, dict[str, Any], str, int]]:
    """Return the name of each secret, the mapping and the key where it stands, and its length."""
    found = [(name, document, name, length) for name, length in SHARED.items()]
    for instance, entry in document["instances"].items():
        found += [(f"{instance}.{kind}", entry, kind, length) for kind, length in INSTANCE.items()]
    return found


def _prepare_given(result: Plan, names: Iterable[str], given: dict[str, Any]) -> None:
    """Add to the plan that these given secrets of instances are prepared."""
    for name in sorted(names):
        instance, _dot, kind = name.rpartition(".")
        upcoming = result.after["instances"][instance].setdefault(NEXT, {})
        if upcoming.get(kind) != given[name]:
            upcoming[kind] = given[name]
            result.new.add(f"{instance}.{NEXT}.{kind}")
            result.actions.append(f"prepare from values: {name}")


def _take(entry: dict[str, Any], kind: str) -> str | None:
    """Remove the prepared value of that kind from an instance's entry and return it, None when there is none."""
    value: str | None = entry.get(NEXT, {}).pop(kind, None)
    if value is not None and not entry[NEXT]:
        del entry[NEXT]
    return value


def promoted(document: dict[str, Any], words: Iterable[str]) -> dict[str, Any]:
    """Return a copy of `document` in which the prepared values of the named secrets are in place.

    words: as `targets` knows them for instances. A secret of which nothing is prepared stays as it is.
    Raises SecretsError for an unknown word.
    """
    after = copy.deepcopy(document)
    names = _turning(after, (), promote=words)["promote"]
    for instance, entry in after["instances"].items():
        for kind in INSTANCE:
            value = _take(entry, kind) if f"{instance}.{kind}" in names else None
            if value is not None:
                entry[kind] = value
    return after


def differing(left: dict[str, Any], right: dict[str, Any]) -> list[str]:
    """Return the names of secrets and `<id>.url` that are not the same in both documents."""

    def values(document: dict[str, Any]) -> dict[str, Any]:
        urls = {f"{name}.url": entry.get("url") for name, entry in document.get("instances", {}).items()}
        return {**flat(document), **urls}

    one, other = values(left), values(right)
    return [name for name in {**one, **other} if one.get(name) != other.get(name)]


def plan(
    current: dict[str, Any] | None,
    wanted: Iterable[dict[str, Any]],
    values: dict[str, Any] | None = None,
    rotate: Iterable[str] = (),
    remove: Iterable[str] = (),
    *,
    prepare: Iterable[str] = (),
    promote: Iterable[str] = (),
    stage: Iterable[str] = (),
    generate: Callable[[int], str] = secrets.token_hex,
) -> Plan:
    """Return the plan from the stored document `current` (None = no file) to what is wanted.

    wanted: dicts with id, url and urls (further URLs, may be missing). values: checked by check_values.
    rotate: words as `targets` knows them. prepare, promote: such words of instances; the first makes the values that
    the second puts in place. remove: ids. stage: ids of instances for which another value of the user's is only
    prepared, since their Nextcloud must be told before it counts. generate(n) returns 2 * n random hex characters.
    Raises SecretsError for an input that cannot work.
    """
    remove = list(remove)
    instances = _instances(wanted, remove)
    after = copy.deepcopy(current) if current else {"version": VERSION, "instances": {}}
    result = Plan(after)
    entries = after["instances"]
    for instance in remove:
        if entries.pop(instance, None) is not None:
            result.actions.append(f"remove {instance}")
    result.actions += _rename(entries, instances)
    for instance, urls in instances.items():
        entry = entries.setdefault(instance, {"url": urls[0]})
        if entry["url"] != urls[0]:
            entry["url"] = urls[0]
            result.actions.append(f"set the url of {instance}")

    given = flat(values or {})
    for instance in (values or {}).get("instances", {}):
        if instance not in entries and instance not in remove:
            result.warnings.append(
                f"values holds secrets of instance '{instance}', which is neither in instances nor in the file; "
                f"they are not used. Correct the name if it is misspelt."
            )
    staged = _staged(after, given, stage)
    settled = {name for name, value in flat(after).items() if given.get(name) == value}
    turning = _turning(after, set(given) - staged, settled, rotate=rotate, prepare=prepare, promote=promote)
    waiting = staged - turning["promote"]
    _prepare_given(result, waiting, given)
    for name, where, key, length in _places(after):
        if name in waiting:
            continue
        # What was prepared would replace, at the end of its rotation, a value that is newer or not ours to change.
        dropped = _take(where, key) if name in given or name in turning["rotate"] else None
        if dropped is not None and name not in turning["promote"]:
            result.actions.append(f"drop what was prepared for {name}")
        if name in given:
            if where.get(key) == given[name]:
                continue
            where[key], verb = given[name], "promote" if name in turning["promote"] else "take from values:"
        elif name in turning["promote"] and (value := _take(where, key)) is not None:
            where[key], verb = value, "promote"
        elif key not in where:
            where[key], verb = generate(length // 2), "create"
        elif name in turning["rotate"]:
            where[key], verb = generate(length // 2), "rotate"
        else:
            continue
        result.new.add(name)
        result.actions.append(f"{verb} {name}")
    for instance, entry in entries.items():
        for kind, length in INSTANCE.items():
            # Values that are prepared already stay: the Nextcloud may have been given them before a run ended early.
            if f"{instance}.{kind}" in turning["prepare"] and kind not in entry.get(NEXT, {}):
                entry.setdefault(NEXT, {})[kind] = generate(length // 2)
                result.new.add(f"{instance}.{NEXT}.{kind}")
                result.actions.append(f"prepare {instance}.{kind}")

    # Once each has its own, none shall become equal again.
    if ONE_TURN in after and not same_turn(after):
        del after[ONE_TURN]
        result.actions.append("end the one TURN secret for several instances")
    pair = twins(after)
    if pair:
        raise SecretsError(
            f"{pair[0]} and {pair[1]} have the same value and every secret was expected to be its own, "
            f"so that no admin holds another's; give one of them another value."
        )
    return result


def masked(document: dict[str, Any] | None, new: Iterable[str] = ()) -> dict[str, Any]:
    """Return the document with every secret as ********, those named in `new` as (new secret)."""
    if not document:
        return {}
    result = copy.deepcopy(document)
    fresh = set(new)

    def hide(where: dict[str, Any], keys: Iterable[str], prefix: str) -> None:
        for key in keys:
            if key in where:
                where[key] = NEW if f"{prefix}{key}" in fresh else MASK

    hide(result, SHARED, "")
    for instance, entry in result["instances"].items():
        hide(entry, INSTANCE, f"{instance}.")
        hide(entry.get(NEXT, {}), INSTANCE, f"{instance}.{NEXT}.")
    return result
