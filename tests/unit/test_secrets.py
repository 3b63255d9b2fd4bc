# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables over the pure part of the secrets module."""

from __future__ import annotations

import copy
import itertools
import json

import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _secrets

NC = {"id": "nc", "url": "https://nc.example.org", "urls": ["https://nc.example.org"]}
DEV = {"id": "dev", "url": "https://dev.example.org", "urls": ["https://dev.example.org", "https://d.example.org"]}
USER = "userUSER0123456789userUSER012345"


def counter():
    """A stand-in for token_hex whose values tell in which order they were made."""
    numbers = itertools.count(1)
    return lambda size: f"{next(numbers):0{2 * size}x}"


def stored(*instances):
    return _secrets.plan(None, instances, generate=counter()).after


def test_the_first_plan_creates_everything_in_the_documented_lengths():
    result = _secrets.plan(None, [NC])
    lengths = {name: len(value) for name, value in _secrets.flat(result.after).items()}
    assert lengths == {
        "session_hash_key": 64,
        "session_block_key": 32,
        "internal": 64,
        "janus_admin": 64,
        "nc.backend": 64,
        "nc.turn": 64,
    }
    assert result.new == set(lengths)
    assert result.actions == [f"create {name}" for name in lengths]
    assert result.after["instances"]["nc"]["url"] == NC["url"]
    assert _secrets.parse(_secrets.dump(result.after)) == result.after


@pytest.mark.parametrize(
    ("wanted", "options", "actions"),
    [
        ([NC, DEV], {}, []),
        ([NC], {}, []),
        ([], {}, []),
        ([NC, DEV, {"id": "new", "url": "https://new.example.org"}], {}, ["create new.backend", "create new.turn"]),
        ([NC, DEV], {"rotate": ["nc"]}, ["rotate nc.backend", "rotate nc.turn"]),
        ([NC], {"rotate": ["dev.turn"]}, ["rotate dev.turn"]),
        ([NC, DEV], {"rotate": ["nc.backend", "internal"]}, ["rotate internal", "rotate nc.backend"]),
        ([NC, DEV], {"rotate": ["session"]}, ["rotate session_hash_key", "rotate session_block_key"]),
        ([NC, DEV], {"rotate": ["shared.janus_admin"]}, ["rotate janus_admin"]),
        ([NC], {"remove": ["dev"]}, ["remove dev"]),
        ([NC, DEV], {"remove": ["gone"]}, []),
        ([NC, {"id": "dev", "url": "https://d2.example.org"}], {}, ["set the url of dev"]),
        ([NC, {"id": "dev2", "url": "https://DEV.example.org/"}], {}, ["rename dev to dev2", "set the url of dev2"]),
        (
            [NC, {"id": "dev2", "url": "https://x.example.org", "urls": ["https://dev.example.org"]}],
            {},
            ["rename dev to dev2", "set the url of dev2"],
        ),
        (
            [NC, {"id": "dev2", "url": DEV["url"]}],
            {"remove": ["dev"]},
            ["remove dev", "create dev2.backend", "create dev2.turn"],
        ),
        ([NC, DEV], {"values": {"internal": USER}}, ["take from values: internal"]),
        ([NC, DEV], {"values": {"instances": {"nc": {"turn": USER}}}}, ["take from values: nc.turn"]),
        ([NC, DEV], {"prepare": ["nc"]}, ["prepare nc.backend", "prepare nc.turn"]),
        ([NC, DEV], {"prepare": ["nc.turn", "dev.backend"]}, ["prepare nc.turn", "prepare dev.backend"]),
        ([NC, DEV], {"prepare": ["nc.turn"], "rotate": ["nc.backend"]}, ["rotate nc.backend", "prepare nc.turn"]),
        ([NC, DEV], {"promote": ["nc"]}, []),
    ],
)
def test_plan_from_a_stored_document(wanted, options, actions):
    before = stored(NC, DEV)
    kept = copy.deepcopy(before)
    result = _secrets.plan(before, wanted, **options)
    assert result.actions == actions
    assert before == kept, "the current document must not be changed by planning"
    old, new = _secrets.flat(before), _secrets.flat(result.after)
    untouched = {name: value for name, value in new.items() if name not in result.new and name in old}
    assert untouched == {name: old[name] for name in untouched}
    assert all(new[name] != old.get(name) for name in result.new)


def test_a_rename_keeps_the_secrets_and_can_be_rotated_by_the_new_name_only():
    before = stored(NC, DEV)
    renamed = {"id": "dev2", "url": DEV["url"]}
    after = _secrets.plan(before, [NC, renamed]).after
    assert after["instances"]["dev2"] == before["instances"]["dev"]
    assert "dev" not in after["instances"]
    with pytest.raises(_secrets.SecretsError, match=r"rotate names 'dev', which is unknown"):
        _secrets.plan(before, [NC, renamed], rotate=["dev"])


def prepared(*words):
    """A stored document of nc and dev in which the next values of `words` are prepared."""
    return _secrets.plan(stored(NC, DEV), [NC, DEV], prepare=words).after


@pytest.mark.parametrize(
    ("ready", "options", "actions", "left"),
    [
        (["nc"], {}, [], ["nc.backend", "nc.turn"]),
        (["nc"], {"prepare": ["nc"]}, [], ["nc.backend", "nc.turn"]),
        (["nc.turn"], {"prepare": ["nc"]}, ["prepare nc.backend"], ["nc.turn"]),
        (["nc"], {"promote": ["nc"]}, ["promote nc.backend", "promote nc.turn"], []),
        (["nc"], {"promote": ["nc.turn"]}, ["promote nc.turn"], ["nc.backend"]),
        (["nc", "dev"], {"promote": ["dev"]}, ["promote dev.backend", "promote dev.turn"], ["nc.backend", "nc.turn"]),
        (
            ["nc"],
            {"rotate": ["nc.backend"]},
            ["drop what was prepared for nc.backend", "rotate nc.backend"],
            ["nc.turn"],
        ),
        (
            ["nc"],
            {"values": {"instances": {"nc": {"turn": USER}}}},
            ["drop what was prepared for nc.turn", "take from values: nc.turn"],
            ["nc.backend"],
        ),
        (["dev", "nc.turn"], {"remove": ["dev"]}, ["remove dev"], ["nc.turn"]),
    ],
)
def test_prepared_values_stay_until_they_are_promoted_or_superseded(ready, options, actions, left):
    before = prepared(*ready)
    wanted = [entry for entry in (NC, DEV) if entry["id"] not in options.get("remove", ())]
    result = _secrets.plan(before, wanted, **options)
    assert result.actions == actions
    old, new = _secrets.flat(before), _secrets.flat(result.after)
    kept = {name.replace(".next.", "."): value for name, value in new.items() if ".next." in name}
    assert {name: kept[name] for name in left} == {name: old[name.replace(".", ".next.")] for name in left}
    assert set(kept) == {*left, *(word.partition(" ")[2] for word in actions if word.startswith("prepare "))}
    for word in actions:
        verb, _space, name = word.partition(" ")
        if verb == "promote":
            assert new[name] == old[name.replace(".", ".next.")]
    assert all("next" not in entry or entry["next"] for entry in result.after["instances"].values())
    assert _secrets.parse(_secrets.dump(result.after)) == result.after


def test_a_value_of_the_user_that_is_in_force_drops_what_was_prepared():
    values = {"instances": {"nc": {"turn": USER}}}
    before = _secrets.plan(None, [NC], values).after
    before["instances"]["nc"]["next"] = {"turn": "e" * 64}
    result = _secrets.plan(before, [NC], values)
    assert result.actions == ["drop what was prepared for nc.turn"]
    assert "next" not in result.after["instances"]["nc"]


def test_a_value_that_a_nextcloud_must_be_told_is_prepared_and_counts_once_it_is_promoted():
    values = {"internal": "i" * 64, "instances": {"nc": {"backend": USER}, "dev": {"turn": "t" * 64}}}
    before = stored(NC, DEV)
    result = _secrets.plan(before, [NC, DEV], values, stage=["nc", "nobody"])
    # Nobody has to be told of a new instance's secret, of a shared one, and of one that is not staged.
    assert result.actions == [
        "prepare from values: nc.backend",
        "take from values: internal",
        "take from values: dev.turn",
    ]
    entry = result.after["instances"]["nc"]
    assert entry["backend"] == before["instances"]["nc"]["backend"] and entry["next"] == {"backend": USER}
    assert "nc.next.backend" in result.new
    again = _secrets.plan(result.after, [NC, DEV], values, stage=["nc"], prepare=["nc"])
    assert again.actions == ["prepare nc.turn"]
    assert again.after["instances"]["nc"]["next"]["backend"] == USER
    done = _secrets.plan(result.after, [NC, DEV], values, stage=["nc"], promote=["nc.backend"])
    assert done.actions == ["promote nc.backend"]
    assert done.after["instances"]["nc"]["backend"] == USER and "next" not in done.after["instances"]["nc"]
    for promote in ([], ["nc.backend"]):
        assert _secrets.plan(done.after, [NC, DEV], values, stage=["nc"], promote=promote).actions == []


def test_another_value_takes_the_place_of_what_was_prepared():
    values = {"instances": {"nc": {"backend": USER}}}
    result = _secrets.plan(prepared("nc"), [NC, DEV], values, stage=["nc"])
    assert result.actions == ["prepare from values: nc.backend"]
    assert result.after["instances"]["nc"]["next"]["backend"] == USER


def test_the_first_value_of_a_staged_instance_counts_at_once():
    values = {"instances": {"nc": {"backend": USER}}}
    assert _secrets.plan(None, [NC], values, stage=["nc"]).after["instances"]["nc"]["backend"] == USER


def test_a_rename_keeps_what_is_prepared():
    before = prepared("dev")
    renamed = {"id": "dev2", "url": DEV["url"]}
    result = _secrets.plan(before, [NC, renamed], promote=["dev2"])
    assert result.actions == ["rename dev to dev2", "promote dev2.backend", "promote dev2.turn"]
    assert _secrets.plan(before, [NC, renamed]).after["instances"]["dev2"] == before["instances"]["dev"]


def test_an_instance_that_left_keeps_its_secrets_and_what_is_prepared():
    before = prepared("dev")
    assert _secrets.plan(before, [NC]).after == before


def test_promoted_is_what_promote_stores():
    before = prepared("nc", "dev.turn")
    kept = copy.deepcopy(before)
    for words in ([], ["nc"], ["nc.turn", "dev"], ["dev.backend"]):
        assert _secrets.promoted(before, words) == _secrets.plan(before, [NC, DEV], promote=words).after
    assert before == kept
    with pytest.raises(_secrets.SecretsError, match=r"promote names 'session', which is unknown; known are dev, "):
        _secrets.promoted(before, ["session"])


def test_differing_names_what_is_not_the_same():
    one, other = prepared("nc.turn"), stored(NC, DEV)
    other["internal"] = USER
    other["instances"]["dev"]["url"] = NC["url"] + "/dev"
    del other["instances"]["nc"]
    assert _secrets.differing(one, one) == []
    expected = ["internal", "nc.backend", "nc.turn", "nc.next.turn", "nc.url", "dev.url"]
    assert sorted(_secrets.differing(one, other)) == sorted(expected)
    assert sorted(_secrets.differing(other, one)) == sorted(expected)


def test_values_that_are_stored_already_change_nothing():
    before = _secrets.plan(None, [NC], {"internal": USER}).after
    assert _secrets.plan(before, [NC], {"internal": USER}).actions == []


def test_an_instance_called_like_a_shared_secret_makes_the_bare_word_unknown():
    twin = {"id": "internal", "url": "https://internal.example.org"}
    before = stored(twin)
    with pytest.raises(_secrets.SecretsError) as caught:
        _secrets.plan(before, [twin], rotate=["internal"])
    assert str(caught.value) == (
        "rotate names 'internal', which is unknown; known are internal.backend, internal.turn, janus_admin, session, "
        "shared.internal, shared.janus_admin, shared.session."
    )
    assert _secrets.plan(before, [twin], rotate=["shared.internal"]).actions == ["rotate internal"]


@pytest.mark.parametrize(
    ("wanted", "options", "message"),
    [
        (
            [NC],
            {"rotate": ["bad"]},
            "rotate names 'bad', which is unknown; known are internal, janus_admin, nc, nc.backend, nc.turn, session, "
            "shared.internal, shared.janus_admin, shared.session.",
        ),
        (
            [NC],
            {"rotate": ["nc"], "values": {"instances": {"nc": {"turn": USER}}}},
            "rotate names nc.turn, whose value is given in values; change it there and run again.",
        ),
        (
            [NC],
            {"prepare": ["nc"], "values": {"instances": {"nc": {"turn": USER}}}},
            "prepare names nc.turn, whose value is given in values; change it there and run again.",
        ),
        (
            [NC],
            {"promote": ["nc.turn"], "values": {"instances": {"nc": {"turn": USER}}}},
            "promote names nc.turn, whose value is given in values; change it there and run again.",
        ),
        (
            [NC],
            {"prepare": ["session"]},
            "prepare names 'session', which is unknown; known are nc, nc.backend, nc.turn.",
        ),
        (
            [NC],
            {"promote": ["shared.internal"]},
            "promote names 'shared.internal', which is unknown; known are nc, nc.backend, nc.turn.",
        ),
        (
            [NC],
            {"prepare": ["nc"], "promote": ["nc.turn"]},
            "prepare and promote both name nc.turn; take it out of one of them.",
        ),
        (
            [NC],
            {"rotate": ["nc"], "prepare": ["nc"]},
            "rotate and prepare both name nc.backend, nc.turn; take it out of one of them.",
        ),
        ([NC, NC], {}, "Instance 'nc' is named twice in instances; name every instance once."),
        ([NC], {"remove": ["nc"]}, "Instance 'nc' is named in remove and in instances; take it out of one of them."),
        (
            [NC],
            {"values": {"internal": USER, "instances": {"nc": {"turn": USER}}}},
            "internal and nc.turn have the same value and every secret was expected to be its own, "
            "so that no admin holds another's; give one of them another value.",
        ),
        (
            [NC, DEV],
            {"values": {"instances": {"nc": {"turn": USER}, "dev": {"turn": USER}}}},
            "nc.turn and dev.turn have the same value and every secret was expected to be its own, "
            "so that no admin holds another's; give one of them another value.",
        ),
    ],
)
def test_plan_refuses(wanted, options, message):
    with pytest.raises(_secrets.SecretsError) as caught:
        _secrets.plan(None, wanted, **options)
    assert str(caught.value) == message


def test_values_of_an_unknown_instance_are_a_warning():
    result = _secrets.plan(None, [NC], {"instances": {"n_c": {"turn": USER}}})
    assert result.warnings == [
        "values holds secrets of instance 'n_c', which is neither in instances nor in the file; "
        "they are not used. Correct the name if it is misspelt."
    ]
    assert USER not in _secrets.dump(result.after)


SAMPLE = "is a sample value that upstream publishes, so everybody knows it"
SIGNS = (
    "was expected to hold letters, digits and signs of ASCII only and holds something else, such as a blank, which "
    "server.conf or a command would cut"
)
QUOTING = "holds one of \" ' ` \\ | < > { }, which a page in .handover/ or Janus' configuration would not keep"
COMMENT = "begins with # or ;, which begins a comment in the signaling server's server.conf"
VARIABLE = "holds %( or $(, with which the signaling server's server.conf names a variable"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"session_hash_key": "the-secret-for-session-checksums"}, f"session_hash_key {SAMPLE}"),
        ({"session_block_key": "-encryption-key-"}, f"session_block_key {SAMPLE}"),
        ({"internal": "the-shared-secret-for-internal-clients"}, f"internal {SAMPLE}"),
        ({"janus_admin": "janusoverlord"}, f"janus_admin {SAMPLE}"),
        ({"janus_admin": " AdminPwd "}, f"janus_admin {SAMPLE}"),
        ({"instances": {"nc": {"backend": "the-shared-secret"}}}, f"nc.backend {SAMPLE}"),
        ({"instances": {"nc": {"backend": "MySecretValue"}}}, f"nc.backend {SAMPLE}"),
        ({"instances": {"nc": {"turn": "north"}}}, f"nc.turn {SAMPLE}"),
        ({"internal": "a b" * 20}, f"internal {SIGNS}"),
        ({"internal": USER + "\n"}, f"internal {SIGNS}"),
        ({"internal": ""}, f"internal {SIGNS}"),
        *(({"internal": f"{USER}{sign}"}, f"internal {QUOTING}") for sign in "\"'`\\|<>{}"),
        ({"internal": f"{USER}\u00e4"}, f"internal {SIGNS}"),
        *(({"internal": f"{sign}{USER}"}, f"internal {COMMENT}") for sign in "#;"),
        *(({"internal": f"{USER}{sign}x)"}, f"internal {VARIABLE}") for sign in ("%(", "$(")),
        *(
            ({"instances": {"nc": {"turn": word}}}, "nc.turn is a placeholder made of words, which can be guessed")
            for word in ("this-must-be-a-long-secret-password", "PLEASE_REPLACE_ME_WITH_SOMETHING_LONG")
        ),
        ({"internal": "a" * 31}, "internal was expected to have 32 to 127 characters and has 31"),
        ({"internal": "a" * 128}, "internal was expected to have 32 to 127 characters and has 128"),
        ({"internal": 42}, "internal was expected to be text and is of type int"),
        (
            {"session_block_key": "a" * 31},
            "session_block_key was expected to have 16 or 24 or 32 characters and has 31",
        ),
        ({"session_hash_key": "a" * 33}, "session_hash_key was expected to have 32 or 64 characters and has 33"),
        (
            {"intern": USER},
            "the key 'intern' is unknown (known: session_hash_key, session_block_key, internal, janus_admin, "
            "instances, version)",
        ),
        (
            {"instances": {"nc": {"trun": USER}}},
            "the key 'trun' of instances.nc is unknown (known: backend, turn, url)",
        ),
        (
            {"instances": {"nc": {"next": {"turn": USER}}}},
            "instances.nc.next belongs to a rotation in progress, which only the stored file may hold",
        ),
        ({"instances": {"nc": USER}}, "instances.nc was expected to be a mapping and is not"),
        ({"instances": [USER]}, "instances was expected to be a mapping and is not"),
        ({"version": 2}, "version 1 was expected and 2 was found"),
    ],
)
def test_check_values_refuses(values, reason):
    with pytest.raises(_secrets.SecretsError) as caught:
        _secrets.check_values(values)
    assert str(caught.value) == (
        f"In values, {reason}; make one with 'openssl rand -hex 32' "
        f"(-hex 16 for session_block_key) or leave it out, then one is generated."
    )


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"version": 1},
        {"session_block_key": "a" * 16},
        {"session_hash_key": "a" * 32},
        {"internal": "Z" * 127},
        {"internal": "bAse64/+" * 5 + "abc="},
        {"internal": "-_bAse64-url" * 3},
        {"internal": "Pass#word;of%a$manager!?&*()[]~^@,.:"},
        {"instances": {"nc": {"turn": "#;%($(" + "a" * 30}}},
    ],
)
def test_check_values_accepts(values):
    assert _secrets.check_values(values) is None


def test_a_whole_stored_document_is_accepted_as_values():
    document = stored(NC)
    _secrets.check_values(document)
    assert _secrets.flat(_secrets.plan(None, [NC], document).after) == _secrets.flat(document)


def test_null_means_not_given():
    values = {"internal": None, "instances": {"nc": {"turn": None, "backend": USER}, "dev": None}}
    assert _secrets.without_none(values) == {"instances": {"nc": {"backend": USER}}}
    assert _secrets.without_none(None) == {}


def document(**changes):
    return json.dumps({**stored(NC), **changes})


def with_next(upcoming):
    entry = {**stored(NC)["instances"]["nc"], "next": upcoming}
    return document(instances={"nc": entry})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is empty"),
        ("\n", "it is empty"),
        ('{"version": 1,\n"int', "it is no JSON from line 2 on"),
        ("[]", "the whole was expected to be a mapping and is not"),
        ("{}", "version 1 was expected and null was found"),
        (document(version=2), "version 1 was expected and 2 was found"),
        (document(version=True), "version 1 was expected and true was found"),
        (document(instances=None), "instances was expected to be a mapping and is not"),
        (document(instances={"nc": {}}), "instances.nc.url was expected to be text and is not"),
        (with_next("abc"), "instances.nc.next was expected to be a mapping and is not"),
        (with_next({"url": "x"}), "the key 'url' of instances.nc.next is unknown (known: backend, turn)"),
        (with_next({"turn": "abc"}), "nc.next.turn was expected to have 32 to 127 characters and has 3"),
        (
            with_next({"turn": "north"}),
            "nc.next.turn is a sample value that upstream publishes, so everybody knows it",
        ),
        (with_next({"turn": "f" * 64, "backend": "f" * 64}), "nc.next.backend and nc.next.turn have the same value"),
        (with_next({"turn": stored(NC)["internal"]}), "internal and nc.next.turn have the same value"),
        (document(internal="abc"), "internal was expected to have 32 to 127 characters and has 3"),
        (document(internal=None), "internal was expected to be text and is of type NoneType"),
        (document(internal="f" * 64, janus_admin="f" * 64), "internal and janus_admin have the same value"),
        (
            document(other="x"),
            "the key 'other' is unknown (known: session_hash_key, session_block_key, internal, janus_admin, "
            "instances, version)",
        ),
    ],
)
def test_parse_refuses(text, reason):
    with pytest.raises(_secrets.DamagedError) as caught:
        _secrets.parse(text)
    assert str(caught.value) == reason


def test_a_missing_secret_in_a_good_file_is_created():
    before = stored(NC)
    del before["janus_admin"], before["instances"]["nc"]["turn"]
    result = _secrets.plan(_secrets.parse(_secrets.dump(before)), [NC])
    assert result.actions == ["create janus_admin", "create nc.turn"]


def test_masked_shows_names_and_urls_only():
    result = _secrets.plan(stored(NC), [NC], rotate=["nc.turn"])
    assert _secrets.masked(result.after, result.new) == {
        "version": 1,
        "session_hash_key": "********",
        "session_block_key": "********",
        "internal": "********",
        "janus_admin": "********",
        "instances": {"nc": {"url": NC["url"], "backend": "********", "turn": "(new secret)"}},
    }
    assert _secrets.masked(None) == {}


def test_masked_knows_prepared_values():
    result = _secrets.plan(prepared("nc.turn"), [NC, DEV], prepare=["nc"])
    assert _secrets.masked(result.after, result.new)["instances"]["nc"] == {
        "url": NC["url"],
        "backend": "********",
        "turn": "********",
        "next": {"backend": "(new secret)", "turn": "********"},
    }
