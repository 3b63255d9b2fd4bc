# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Instances that came from a coturn with one secret for all: how long their TURN secrets may be equal."""

from __future__ import annotations

import json

import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _secrets
from module_process import run as run_module

ONE = "1" * 64
NC, DEV, NEW = ({"id": name, "url": f"https://{name}.example.org"} for name in ("nc", "dev", "new"))


def adopted(**more):
    entries = {one["id"]: {"url": one["url"], "turn": ONE} for one in (NC, DEV)}
    return {"version": 1, "instances": entries, _secrets.ONE_TURN: True, **more}


def test_they_are_kept_and_what_is_missing_is_made():
    after = _secrets.plan(_secrets.parse(_secrets.dump(adopted())), [NC, DEV, NEW]).after
    assert [after["instances"][name]["turn"] == ONE for name in ("nc", "dev", "new")] == [True, True, False]
    assert _secrets.same_turn(after) == ["dev", "nc"]
    assert after["instances"]["nc"]["backend"] != after["instances"]["dev"]["backend"]
    assert _secrets.parse(_secrets.dump(after)) == after
    assert _secrets.plan(after, [NC, DEV, NEW]).actions == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({_secrets.ONE_TURN: False}, "one_turn_secret was expected to be true or not there"),
        ({"internal": ONE}, "internal and dev.turn have the same value"),
        ({"one_turn": True}, "the key 'one_turn' is unknown"),
    ],
)
def test_nothing_else_may_be_equal(change, reason):
    with pytest.raises(_secrets.DamagedError) as caught:
        _secrets.parse(_secrets.dump(adopted(**change)))
    assert str(caught.value).startswith(reason)


def test_backend_secrets_may_not_be_equal_and_values_of_the_user_neither():
    document = adopted()
    for entry in document["instances"].values():
        entry["backend"] = "2" * 64
    with pytest.raises(_secrets.DamagedError) as caught:
        _secrets.parse(_secrets.dump(document))
    assert str(caught.value) == "dev.backend and nc.backend have the same value"
    with pytest.raises(_secrets.SecretsError):
        _secrets.check_values({_secrets.ONE_TURN: True})
    plain = {key: value for key, value in adopted().items() if key != _secrets.ONE_TURN}
    with pytest.raises(_secrets.DamagedError):
        _secrets.parse(_secrets.dump(plain))


def test_a_rotation_ends_it():
    first = _secrets.plan(adopted(), [NC, DEV])
    result = _secrets.plan(first.after, [NC, DEV], rotate=["dev.turn"])
    assert result.actions == ["rotate dev.turn", "end the one TURN secret for several instances"]
    assert (result.after["instances"]["nc"]["turn"], _secrets.ONE_TURN in result.after) == (ONE, False)


def test_one_that_is_prepared_and_promoted_ends_it():
    prepared = _secrets.plan(adopted(), [NC, DEV], prepare=["dev.turn"]).after
    assert _secrets.ONE_TURN in prepared
    assert _secrets.same_turn(_secrets.plan(prepared, [NC, DEV], promote=["dev.turn"]).after) == []


def test_the_module_restores_it_and_names_them(tmp_path):
    path = tmp_path / "secrets/secrets.json"
    assert run_module("secrets", {"path": str(path), "restore": _secrets.dump(adopted())})["changed"]
    options = {"path": str(path), "instances": [NC, DEV]}
    first, again = run_module("secrets", options), run_module("secrets", options)
    assert (first["same_turn"], first["changed"], again["same_turn"], again["changed"]) == (
        ["dev", "nc"],
        True,
        ["dev", "nc"],
        False,
    )
    assert set(again["secrets"]) == {"session_hash_key", "session_block_key", "internal", "janus_admin", "instances"}
    assert ONE not in json.dumps(again["diff"])
    ended = run_module("secrets", {**options, "rotate": ["dev.turn"]})
    assert (ended["same_turn"], _secrets.ONE_TURN in json.loads(path.read_text(encoding="utf-8"))) == ([], False)
