# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rotation of secrets concerns, and what it will cost. Everything here is pure and knows no secret.

What a signaling server reads at its start only, and what it reads again on SIGHUP: server/hub.go (Reload) and
server/backend_server.go of strukturag/nextcloud-spreed-signaling.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _secrets
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._backends import names

ALL = "all"

COST = {
    "internal": "the signaling server restarts: every client reconnects, and calls through it are interrupted for some "
    "seconds; whoever connects with the internal secret (recording, SIP bridge) must be given the new one.",
    "session": "the signaling server restarts: every client reconnects and joins anew, and calls through it are "
    "interrupted for some seconds.",
    "janus_admin": "Janus restarts: all calls drop, and the clients set them up again.",
}


# Which container reads the secret.
CONTAINER = {"internal": "signalling", "session": "signalling", "janus_admin": "janus"}


@dataclass
class Rotation:
    """What is rotated and how.

    secrets: names of instances' secrets (`nc.turn`), in the order of the deployed instances. shared: what the module
    calls the shared ones (`shared.internal`). containers: which are deployed for it. instances: ids whose Nextcloud is
    told. handover: ids that were named although their Nextcloud cannot be told. skipped, lines, problems: sentences
    about who is left out, what will happen, and why not to go on.
    """

    secrets: list[str] = field(default_factory=list)
    shared: list[str] = field(default_factory=list)
    containers: list[str] = field(default_factory=list)
    instances: list[str] = field(default_factory=list)
    handover: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def rotation(
    words: Any,
    inventory: Sequence[Mapping[str, Any]],
    deployed: Sequence[Mapping[str, Any]],
    away: Collection[str] = (),
) -> Rotation:
    """Return what the words (a list, or comma separated) mean.

    A word is an id (both secrets of the instance), `<id>.backend`, `<id>.turn`, `all` (all instances), or a shared
    secret as _secrets.targets knows it. inventory: instances as _backends.backends returns them with the state all.
    deployed: the instances that are deployed, of which the id is read. away: ids whose host does not answer.
    """
    result = Rotation()
    ids = [entry["id"] for entry in deployed]
    declared = {entry["id"]: entry for entry in inventory}
    known = _secrets.targets({"instances": dict.fromkeys(ids, {})})
    listed = ", ".join([ALL, *sorted(known)])
    asked = names(words)
    if not asked:
        result.problems.append(
            f"rotate names nothing, expected what gets new secrets: say -e rotate=NAME with one or several of "
            f"{listed}, comma separated."
        )
    named: set[str] = set()
    for word in asked:
        name, _dot, kind = word.partition(".")
        if word in known:
            named.update(known[word])
        elif name in declared and name not in ids and kind in ("", *_secrets.INSTANCE):
            result.problems.append(
                f"rotate names '{word}', but the instance {name} is not deployed, expected one that is: run the "
                f"playbook site first, which makes its secrets."
            )
        elif word != ALL:
            result.problems.append(f"rotate names '{word}', which is unknown; known are {listed}.")
    for word, secrets in _secrets.SHARED_TARGETS.items():
        if named & set(secrets):
            result.shared.append(f"shared.{word}")
    for name in ids:
        mine = [f"{name}.{kind}" for kind in _secrets.INSTANCE]
        explicit = [secret for secret in mine if secret in named]
        wanted = mine if ALL in asked else explicit
        if wanted:
            _instance(result, declared.get(name, {"id": name}), wanted, explicit=bool(explicit), away=name in away)
    shared = [word for word in COST if f"shared.{word}" in result.shared]
    result.containers = [name for name in ("signalling", "janus") if name in {CONTAINER[word] for word in shared}]
    if result.secrets and "signalling" not in result.containers:
        result.containers.insert(0, "signalling")
    result.lines += [f"{word}: {COST[word]}" for word in shared] + result.skipped
    return result


def _instance(result: Rotation, entry: Mapping[str, Any], wanted: list[str], *, explicit: bool, away: bool) -> None:
    """Add the secrets `wanted` of one instance to the result, or why they are left out.

    entry: the instance, with nothing but its id when it is not in the inventory. explicit: whether it was named.
    """
    name = entry["id"]
    what = " and ".join(secret.rpartition(".")[2] for secret in wanted)
    if entry.get("state") != "present":
        why = "leaves the backend (talk_state: absent)" if "state" in entry else "is not in the inventory"
        if explicit:
            result.problems.append(
                f"rotate names {name}, which is deployed but {why}, expected an instance that stays: leave it out, or "
                f"run the playbook site first, which says what to do about it."
            )
        else:
            result.skipped.append(f"{name}: skipped, since it {why}.")
    elif entry["register"] and not away:
        result.secrets += wanted
        result.instances.append(name)
        result.lines.append(
            f"{name}: new {what} secret, here and in its Nextcloud; that restarts no container, running calls go on."
        )
    else:
        why = f"its host {entry['host']} is switched off" if entry["register"] else "we never contact it"
        if explicit:
            result.secrets += wanted
            result.handover.append(name)
            result.lines.append(
                f"{name}: new {what} secret here at once, although {why}; from then on nobody there can join a call "
                f"until its admin has entered what the handover page says. That restarts no container."
            )
        else:
            result.skipped.append(f"{name}: skipped, since {why}; rotate={name} changes it here all the same.")
