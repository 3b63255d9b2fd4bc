# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables over what a rotation concerns, and the filters that a playbook reaches it through."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.nextcloud_talk.hpb.plugins.filter import promoted as promoted_plugin
from ansible_collections.nextcloud_talk.hpb.plugins.filter import rotation as plugin
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _rotation, _secrets


def instance(name: str, **changes: Any) -> dict[str, Any]:
    return {"id": name, "host": f"{name}.example.org", "register": True, "state": "present", **changes}


NC, NAS = instance("nc"), instance("nas", optional=True)
CLIENT, GONE = instance("client", register=False), instance("gone", state="absent")
NEW = instance("new")
INVENTORY = [NC, NAS, CLIENT, GONE, NEW]
# lost is deployed and no longer in the inventory; new is in the inventory and not deployed.
DEPLOYED = [{"id": name} for name in ("nc", "nas", "client", "gone", "lost")]
NC_BOTH = ["nc.backend", "nc.turn"]
KNOWN = (
    "all, client, client.backend, client.turn, gone, gone.backend, gone.turn, internal, janus_admin, lost, "
    "lost.backend, lost.turn, nas, nas.backend, nas.turn, nc, nc.backend, nc.turn, session, shared.internal, "
    "shared.janus_admin, shared.session"
)
RESTART = "restarts: every client reconnects"


@pytest.mark.parametrize(
    ("words", "away", "expected"),
    [
        ("nc", (), {"secrets": NC_BOTH, "instances": ["nc"], "containers": ["signalling"]}),
        ("nc.turn", (), {"secrets": ["nc.turn"], "instances": ["nc"], "containers": ["signalling"]}),
        (["nc.turn", "nc.backend"], (), {"secrets": NC_BOTH, "instances": ["nc"], "containers": ["signalling"]}),
        (" nas , nc ", (), {"secrets": [*NC_BOTH, "nas.backend", "nas.turn"], "instances": ["nc", "nas"]}),
        ("session", (), {"shared": ["shared.session"], "containers": ["signalling"], "secrets": [], "instances": []}),
        ("shared.internal", (), {"shared": ["shared.internal"], "containers": ["signalling"]}),
        ("janus_admin", (), {"shared": ["shared.janus_admin"], "containers": ["janus"], "secrets": []}),
        ("janus_admin,nc", (), {"shared": ["shared.janus_admin"], "containers": ["signalling", "janus"]}),
        ("all", (), {"instances": ["nc", "nas"], "handover": [], "shared": []}),
        ("all", ["nas"], {"instances": ["nc"], "secrets": NC_BOTH, "handover": []}),
        ("nas", ["nas"], {"instances": [], "handover": ["nas"], "secrets": ["nas.backend", "nas.turn"]}),
        ("all,nas.turn", ["nas"], {"instances": ["nc"], "handover": ["nas"]}),
        ("client.turn", (), {"instances": [], "handover": ["client"], "secrets": ["client.turn"]}),
        ("all,nc.turn", (), {"secrets": [*NC_BOTH, "nas.backend", "nas.turn"]}),
    ],
)
def test_words_mean(words: Any, away: Any, expected: dict[str, Any]) -> None:
    found = vars(_rotation.rotation(words, INVENTORY, DEPLOYED, away))
    assert found["problems"] == []
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("bad", f"rotate names 'bad', which is unknown; known are {KNOWN}."),
        ("nc.trun", f"rotate names 'nc.trun', which is unknown; known are {KNOWN}."),
        ("new.trun", f"rotate names 'new.trun', which is unknown; known are {KNOWN}."),
        (
            "new.turn",
            "rotate names 'new.turn', but the instance new is not deployed, expected one that is: run the playbook "
            "site first, which makes its secrets.",
        ),
        (
            "lost",
            "rotate names lost, which is deployed but is not in the inventory, expected an instance that stays: leave "
            "it out, or run the playbook site first, which says what to do about it.",
        ),
        (
            "gone.backend",
            "rotate names gone, which is deployed but leaves the backend (talk_state: absent), expected an instance "
            "that stays: leave it out, or run the playbook site first, which says what to do about it.",
        ),
        (
            " ",
            f"rotate names nothing, expected what gets new secrets: say -e rotate=NAME with one or several of {KNOWN}, "
            f"comma separated.",
        ),
    ],
)
def test_words_that_are_refused(words: str, problem: str) -> None:
    assert _rotation.rotation(words, INVENTORY, DEPLOYED).problems == [problem]


def test_an_instance_called_like_a_shared_secret_makes_the_bare_word_unknown() -> None:
    twin = [instance("session")]
    assert "'session', which is unknown" in _rotation.rotation("session", twin, twin).problems[0]
    assert _rotation.rotation("session.turn", twin, twin).secrets == ["session.turn"]
    assert _rotation.rotation("shared.session", twin, twin).shared == ["shared.session"]


def test_the_cost_is_told_beforehand() -> None:
    lines = _rotation.rotation("all,client,internal,session,janus_admin", INVENTORY, DEPLOYED, ["nas"]).lines
    assert lines == [
        "nc: new backend and turn secret, here and in its Nextcloud; that restarts no container, running calls go on.",
        "client: new backend and turn secret here at once, although we never contact it; from then on nobody there can "
        "join a call until its admin has entered what the handover page says. That restarts no container.",
        f"internal: {_rotation.COST['internal']}",
        f"session: {_rotation.COST['session']}",
        f"janus_admin: {_rotation.COST['janus_admin']}",
        "nas: skipped, since its host nas.example.org is switched off; rotate=nas changes it here all the same.",
        "gone: skipped, since it leaves the backend (talk_state: absent).",
        "lost: skipped, since it is not in the inventory.",
    ]
    assert RESTART in lines[2] and RESTART in lines[3]
    assert "Janus restarts: all calls drop" in lines[4]


def test_the_costs_are_known_for_every_shared_word() -> None:
    assert set(_rotation.COST) == set(_rotation.CONTAINER) == set(_secrets.SHARED_TARGETS)


def test_the_filter_returns_the_plan() -> None:
    found = plugin.FilterModule().filters()["rotation"]("nc", INVENTORY, DEPLOYED)
    assert found == vars(_rotation.rotation("nc", INVENTORY, DEPLOYED))


def test_the_filter_promoted_puts_in_place_and_refuses_unknown_words() -> None:
    promoted = promoted_plugin.FilterModule().filters()["promoted"]
    entry = {"url": "https://nc.example.org", "backend": "a" * 32, "turn": "b" * 32}
    secrets = {"internal": "c" * 32, "instances": {"nc": {**entry, "next": {"turn": "d" * 32}}}}
    kept = copy.deepcopy(secrets)
    assert promoted(secrets, ["nc"])["instances"]["nc"] == {**entry, "turn": "d" * 32}
    assert secrets == kept
    with pytest.raises(AnsibleFilterError, match="promote names 'dev', which is unknown; known are nc, nc.backend"):
        promoted(secrets, ["dev"])
