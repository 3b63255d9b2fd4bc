# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what Talk has stored to what is wanted: parsing, comparing, planning, carrying out."""

from __future__ import annotations

import json
from contextlib import contextmanager, nullcontext

import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _talk, _talk_report
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._occ import Result, StdinRefused

URL = "https://talk.example.org"
OTHER = "https://hpb.example.net"
FORMER = "https://signaling.example.org"
NEW = "a1" * 32
OLD = "b2" * 32
THEIRS = "c3" * 32
LEFTOVER = "d4" * 32
TURN = {"schemes": "turn", "server": "turn.example.org:3478", "protocols": "udp,tcp"}
TURNS = {"schemes": "turns", "server": "turn.example.org:5349", "protocols": "tcp"}
FOREIGN = {"schemes": "turn", "server": "turn.example.net:3478", "secret": THEIRS, "protocols": "udp"}
STUN = "turn.example.org:3478"
FORMER_STUN = "relay.example.org:3478"
FORMER_TURN = {**TURN, "server": FORMER_STUN}


def document(**values):
    return {"apps": {"spreed": {"enabled": "yes", "installed_version": "21.1.0", **values}}}


def signaling(*servers, secret=NEW):
    entries = [{"server": server, "verify": verify} for server, verify in servers]
    return json.dumps({"servers": entries, "secret": secret})


class Talk:
    """Talk's commands over values in memory; `typed` is Talk 25, `deaf` one that stores nothing."""

    where = "occ"

    def __init__(self, typed=False, deaf=False, **values):
        self.values = values
        self.typed, self.deaf = typed, deaf
        self.commands, self.reads = [], 0

    def alone(self):
        return nullcontext()

    def json(self, arguments, bare=False):
        assert arguments == ["config:list", "spreed", "--private"]
        self.reads += 1
        encode = (lambda value: value) if self.typed else json.dumps
        lists = {key: value if key == "signaling_servers" else encode(value) for key, value in self.values.items()}
        return document(**lists)

    def run(self, arguments, stdin=None):
        self.commands.append(arguments)
        if not self.deaf:
            getattr(self, "do_" + arguments[0].replace(":", "_"))(arguments[1:], stdin)
        return Result(0, "", "")

    def do_config_import(self, arguments, stdin):
        assert arguments == ["php://stdin"]
        for key, value in json.loads(stdin)["apps"]["spreed"].items():
            assert isinstance(value, str)
            if key == "signaling_servers":
                self.values[key] = value
            elif not self.typed:
                self.values[key] = json.loads(value)

    def do_talk_signaling_add(self, arguments, _stdin):
        *flags, url, secret = arguments
        assert flags in (["--"], ["--verify", "--"])
        stored = json.loads(self.values.get("signaling_servers") or "{}")
        servers = stored.get("servers", [])
        servers.append({"server": url, "verify": "--verify" in flags})
        self.values["signaling_servers"] = json.dumps({"servers": servers, "secret": secret})

    def do_talk_turn_add(self, arguments, _stdin):
        secret, dashes, schemes, server, protocols = arguments
        assert dashes == "--"
        entries = self.values.setdefault("turn_servers", [])
        entry = {"schemes": schemes, "server": server, "protocols": protocols}
        assert not any({**one, "secret": ""} == {**entry, "secret": ""} for one in entries), "exists already"
        entries.append({**entry, "secret": secret.partition("=")[2]})

    def do_talk_turn_delete(self, arguments, _stdin):
        triple = arguments[1:]
        entries = self.values["turn_servers"]
        entries[:] = [one for one in entries if [one["schemes"], one["server"], one["protocols"]] != triple]

    def do_talk_stun_add(self, arguments, _stdin):
        default = [_talk.DEFAULT_STUN] if self.typed else []
        entries = self.values.setdefault("stun_servers", default)
        assert arguments[1] not in entries, "exists already"
        entries.append(arguments[1])

    def do_talk_stun_delete(self, arguments, _stdin):
        entries = self.values["stun_servers"]
        entries[:] = [one for one in entries if one != arguments[1]] or [_talk.DEFAULT_STUN]


def sync(talk, *planners, check):
    return _talk.sync(talk, planners, check, hold=lambda _occ: nullcontext(lambda: None))


# Comparing


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (URL, "https://TALK.example.org/", True),
        (URL, "wss://talk.example.org", True),
        (URL, "  HTTPS://talk.example.org:443//  ", True),
        (URL, "http://talk.example.org", False),
        ("http://talk.example.org:80", "ws://talk.example.org", True),
        (URL, "https://talk.example.org:8443", False),
        (URL + "/hpb", "https://Talk.example.org/hpb/", True),
        (URL + "/hpb", URL + "/HPB", False),
        (URL, "https://talk.example.org.example.net", False),
        (URL, "not-a-url", False),
        ("not-a-url", "not-a-url", True),
        ("https://[2001:db8::1", "https://[2001:db8::1", True),
    ],
)
def test_urls_are_compared_as_talk_does(one, other, same):
    assert (_talk.same_url(one) == _talk.same_url(other)) is same


@pytest.mark.parametrize(
    ("one", "same"),
    [
        ("Turn.Example.Org:3478", True),
        ("turn:turn.example.org:3478", True),
        ("https://turn.example.org:3478/", True),
        ("turn.example.org:3479", False),
        ("turn.example.net:3478", False),
    ],
)
def test_addresses_are_compared_without_scheme_and_case(one, same):
    assert (_talk.same_address(one) == STUN) is same


@pytest.mark.parametrize(
    "url", ["http://talk.example.org", "ws://t.example.org", "talk.example.org", "", "https://", "x"]
)
def test_a_url_that_cannot_be_used_is_refused(url):
    with pytest.raises(_talk.BadInput) as caught:
        _talk.checked_url(url, for_use=True)
    assert str(caught.value) == (
        f"The url of the signaling server is '{url}', but one like https://talk.example.org was expected, "
        "without user, query or fragment; correct the option url."
    )


@pytest.mark.parametrize(
    "url", ["https://a@talk.example.org", "https://t.example.org?x", "https://[2001:db8::1", URL + ":0"]
)
def test_a_url_with_more_or_less_in_it_is_refused(url):
    with pytest.raises(_talk.BadInput, match="correct the option url"):
        _talk.checked_url(url, for_use=False)


def test_a_url_is_stored_without_the_slash_and_an_http_one_may_be_removed():
    assert _talk.checked_url(" https://talk.example.org/ ", for_use=True) == URL
    assert _talk.checked_url("http://talk.example.org", for_use=False) == "http://talk.example.org"


@pytest.mark.parametrize(
    "server",
    [
        "turn.example.org",
        "turn.example.org:0",
        "t.example.org:65536",
        "turn:t.example.org:1",
        "[2001:db8::1]:1",
        ":1",
        "-a:1",
    ],
)
def test_an_address_that_talk_cannot_use_is_refused(server):
    with pytest.raises(_talk.BadInput) as caught:
        _talk.checked_address(server, "TURN")
    assert str(caught.value) == (
        f"A TURN server is '{server}', but host:port with a name or an IPv4 address was expected, such as "
        "turn.example.org:3478, since Talk takes no scheme and no IPv6 address there; correct the option servers."
    )


@pytest.mark.parametrize("server", ["turn.example.org:3478", "192.0.2.1:443", "t:65535"])
def test_an_address_is_taken_as_it_is(server):
    assert _talk.checked_address(server, "STUN") == server


@pytest.mark.parametrize("secret", ["", None, " ", "a "])
def test_a_secret_that_talk_refuses_or_garbles_is_refused(secret):
    with pytest.raises(_talk.BadInput, match="64 hexadecimal digits were expected; correct the option secret"):
        _talk.checked_secret(secret)


# Reading


def test_nothing_stored_is_told_from_an_empty_list():
    empty = _talk.parse(document(signaling_servers=signaling(secret=OLD)))
    unset = _talk.parse(document())
    assert (empty.servers, empty.secret) == ((), OLD)
    assert (unset.servers, unset.secret, unset.turn, unset.stun) == ((), None, (), ())
    assert empty.stored == {"signaling_servers"}
    assert unset.stored == frozenset()


def test_texts_and_typed_arrays_are_read_alike():
    texts = _talk.parse(document(turn_servers=json.dumps([FOREIGN]), stun_servers=json.dumps([STUN])))
    typed = _talk.parse(document(turn_servers=[FOREIGN], stun_servers=[STUN]))
    assert (texts.turn, texts.stun) == (typed.turn, typed.stun) == ((FOREIGN,), (STUN,))
    assert (texts.typed, typed.typed) == (frozenset(), {"turn_servers", "stun_servers"})


@pytest.mark.parametrize("value", ["", "[]", "{}", [], {}, None])
def test_every_way_to_say_nothing_is_empty(value):
    state = _talk.parse(document(signaling_servers=value, turn_servers=value, stun_servers=value))
    assert (state.servers, state.turn, state.stun) == ((), (), ())


def test_a_list_with_gaps_is_read():
    state = _talk.parse(document(signaling_servers='{"servers":{"1":{"server":"https://a.example.org"}},"secret":"x"}'))
    assert state.servers == ({"server": "https://a.example.org"},)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"signaling_servers": THEIRS + "{"}, "signaling_servers is not JSON"),
        ({"signaling_servers": f'"{THEIRS}"'}, "signaling_servers is neither an object nor a list"),
        (
            {"signaling_servers": json.dumps({"servers": [THEIRS]})},
            "signaling_servers is not a list of what Talk puts there",
        ),
        ({"turn_servers": json.dumps([THEIRS])}, "turn_servers is not a list of what Talk puts there"),
        ({"stun_servers": json.dumps([{"secret": THEIRS}])}, "stun_servers is not a list of what Talk puts there"),
        ({"stun_servers": "7"}, "stun_servers is not a list of what Talk puts there"),
    ],
)
def test_a_damaged_value_is_named_and_not_shown(values, message):
    class Damaged:
        where = "occ"

        def json(self, _arguments):
            return document(**values)

    with pytest.raises(_talk.BadStored) as caught:
        _talk.read_state(Damaged())
    assert message in str(caught.value)
    assert "occ config:app:get spreed" in str(caught.value)
    assert THEIRS not in str(caught.value)


@pytest.mark.parametrize("answer", [[], {}, {"apps": []}, "x"])
def test_an_answer_without_the_app_is_refused(answer):
    with pytest.raises(ValueError, match="the list of the app's settings is missing"):
        _talk.parse(answer)


@pytest.mark.parametrize(
    ("app", "error", "message"),
    [
        ({}, _talk.TalkMissing, "occ belongs to a Nextcloud without Talk; install it with 'occ app:install spreed'."),
        (
            {"enabled": "no", "installed_version": "21.1.0"},
            _talk.TalkDisabled,
            "occ belongs to a Nextcloud in which Talk is disabled; enable it with 'occ app:enable spreed'.",
        ),
    ],
)
def test_a_nextcloud_without_talk_is_named(app, error, message):
    with pytest.raises(error) as caught:
        _talk.require_talk(_talk.parse({"apps": {"spreed": app}}), "occ")
    assert str(caught.value) == message


def test_talk_for_some_groups_is_enabled():
    _talk.require_talk(_talk.parse(document(enabled='["staff"]')), "occ")


# Signaling


def plan_signaling(stored, secret=NEW, verify=True, exclusive=False, present=True, former=()):
    state = _talk.parse(document(signaling_servers=stored))
    return _talk.plan_signaling(
        state, URL, secret, verify=verify, exclusive=exclusive, present=present, leftover=LEFTOVER, former=former
    )


ADDED = f"added the signaling server {URL}, with certificate check"
SIGNALING = [
    # name, stored, options, actions, value (None: unchanged), whether only occ's own add is needed
    ("fresh", None, {}, [ADDED], signaling((URL, True)), True),
    ("without check", None, {"verify": False}, [ADDED.replace("with ", "without ")], signaling((URL, False)), True),
    ("after absent", signaling(secret=LEFTOVER), {}, [ADDED], signaling((URL, True)), True),
    ("right", signaling((URL, True)), {}, [], None, False),
    ("right, beside another", signaling((OTHER, True), (URL, True)), {}, [], None, False),
    (
        "beside another",
        signaling((OTHER, False), secret=THEIRS),
        {},
        [ADDED, f"replaced the secret for {URL}"],
        signaling((OTHER, False), (URL, True)),
        True,
    ),
    (
        "instead of another",
        signaling((OTHER, False), secret=THEIRS),
        {"exclusive": True},
        [f"removed the signaling server {OTHER} of somebody else", ADDED, f"replaced the secret for {URL}"],
        signaling((URL, True)),
        False,
    ),
    (
        "new secret",
        signaling((URL, True), secret=OLD),
        {},
        [f"replaced the secret for {URL}"],
        signaling((URL, True)),
        False,
    ),
    (
        "empty secret",
        signaling((URL, True), secret=""),
        {},
        [f"replaced the secret for {URL}"],
        signaling((URL, True)),
        False,
    ),
    (
        "other check",
        signaling((URL, False)),
        {},
        [f"set the signaling server {URL} to be used with certificate check"],
        signaling((URL, True)),
        False,
    ),
    (
        "duplicate",
        signaling((URL, True), (URL, True)),
        {},
        [f"removed the duplicate entry {URL}"],
        signaling((URL, True)),
        False,
    ),
    (
        "every spelling",
        signaling((URL + "/", True), (OTHER, True), (URL, True), ("wss://Talk.example.org", False)),
        {},
        [f"removed the duplicate entry {URL}/", "removed the duplicate entry wss://Talk.example.org"],
        signaling((OTHER, True), (URL, True)),
        False,
    ),
    (
        "other spelling",
        signaling((URL + "/", True)),
        {},
        [f"replaced the entry {URL}/ by {URL}"],
        signaling((URL, True)),
        False,
    ),
    ("absent, never there", None, {"present": False}, [], None, False),
    ("absent already", signaling(secret=OLD), {"present": False}, [], None, False),
    ("absent, another stays", signaling((OTHER, True)), {"present": False, "exclusive": True}, [], None, False),
    (
        "absent",
        signaling((URL, True), (URL + "/", False)),
        {"present": False, "secret": None},
        [
            f"removed the signaling server {URL}",
            f"removed the signaling server {URL}/",
            "replaced the secret by a random one",
        ],
        signaling(secret=LEFTOVER),
        False,
    ),
    (
        "absent beside another, who needs the secret",
        signaling((URL, True), (OTHER, True)),
        {"present": False},
        [f"removed the signaling server {URL}"],
        signaling((OTHER, True)),
        False,
    ),
    (
        "our secret left behind",
        signaling(),
        {"present": False},
        ["replaced the secret by a random one"],
        signaling(secret=LEFTOVER),
        False,
    ),
    (
        "former, not said to be ours",
        signaling((FORMER, True)),
        {},
        [ADDED],
        signaling((FORMER, True), (URL, True)),
        True,
    ),
    (
        "instead of a former one",
        signaling(("wss://Signaling.example.org/", True), (OTHER, True)),
        {"former": [FORMER]},
        [f"replaced the entry wss://Signaling.example.org/ by {URL}"],
        signaling((OTHER, True), (URL, True)),
        False,
    ),
    (
        "beside a former one",
        signaling((FORMER, True), (URL, True), (URL + "/", True)),
        {"former": [FORMER, URL]},
        [f"removed the former entry {FORMER}", f"removed the duplicate entry {URL}/"],
        signaling((URL, True)),
        False,
    ),
    (
        "exclusive, a former one is not somebody else's",
        signaling((FORMER, True), (OTHER, True)),
        {"former": [FORMER], "exclusive": True},
        [f"removed the signaling server {OTHER} of somebody else", f"replaced the entry {FORMER} by {URL}"],
        signaling((URL, True)),
        False,
    ),
    ("former, never there", signaling((URL, True)), {"former": [FORMER]}, [], None, False),
    (
        "absent, former",
        signaling((FORMER, True), secret=OLD),
        {"former": [FORMER], "present": False, "secret": None},
        [f"removed the signaling server {FORMER}", "replaced the secret by a random one"],
        signaling(secret=LEFTOVER),
        False,
    ),
    (
        "an empty secret left behind",
        signaling(secret=""),
        {"present": False, "secret": None},
        ["replaced the secret by a random one"],
        signaling(secret=LEFTOVER),
        False,
    ),
]


@pytest.mark.parametrize(
    ("stored", "given", "actions", "value", "adds"), [case[1:] for case in SIGNALING], ids=[c[0] for c in SIGNALING]
)
def test_signaling_is_planned(stored, given, actions, value, adds):
    plan = plan_signaling(stored, **given)
    assert list(plan.actions) == actions
    assert plan.adds_only is adds
    if value is not None:
        assert plan.value == json.loads(value)
    assert set(plan.before) == set(plan.after) == {"signaling_servers", "secret"}
    assert not any(secret in json.dumps([plan.before, plan.after, actions]) for secret in (NEW, OLD, THEIRS, LEFTOVER))


@pytest.mark.parametrize(("stored", "given"), [case[1:3] for case in SIGNALING], ids=[case[0] for case in SIGNALING])
def test_signaling_is_right_after_one_round_and_a_second_does_nothing(stored, given):
    talk = Talk(**({} if stored is None else {"signaling_servers": stored}))
    given = {"secret": NEW, "verify": True, "exclusive": False, "present": True, **given}
    secret = given.pop("secret")

    def planner(state):
        return _talk.plan_signaling(state, URL, secret, leftover=LEFTOVER, **given)

    first = sync(talk, planner, check=False)
    assert len(talk.commands) == (1 if first["changed"] else 0)
    assert sync(talk, planner, check=False)["changed"] is False


@pytest.mark.parametrize(
    ("stored", "before", "after"),
    [
        (None, "(not set)", "(new secret)"),
        (signaling((URL, True)), "********", "********"),
        (signaling((URL, True), secret=OLD), "********", "(new secret)"),
    ],
)
def test_the_diff_says_only_whether_the_secret_changes(stored, before, after):
    plan = plan_signaling(stored)
    assert (plan.before["secret"], plan.after["secret"]) == (before, after)


@pytest.mark.parametrize(
    ("stored", "exclusive", "warnings"),
    [
        (signaling((URL, True)), False, []),
        (signaling((URL, True), (OTHER, True)), True, []),
        (
            signaling((URL, True), (OTHER, True)),
            False,
            [
                "Another signaling server is registered beside ours, which Talk no longer supports: "
                f"{OTHER}. Remove it, or set exclusive to true."
            ],
        ),
        (
            signaling((OTHER, True), secret=THEIRS),
            False,
            [
                "Another signaling server is registered beside ours, which Talk no longer supports: "
                f"{OTHER}. Talk has one secret for all of them, and it is ours now. "
                "Remove it, or set exclusive to true."
            ],
        ),
    ],
)
def test_another_signaling_server_is_a_warning(stored, exclusive, warnings):
    assert list(plan_signaling(stored, exclusive=exclusive).warnings) == warnings


def test_internal_mode_is_named():
    with pytest.raises(_talk.SignalingInternal) as caught:
        _talk.require_external(_talk.parse(document(signaling_mode="internal")), "occ")
    assert str(caught.value) == (
        "occ belongs to a Nextcloud whose signaling_mode is internal, so that Talk ignores every signaling server; "
        "delete the setting with 'occ config:app:delete spreed signaling_mode' and run this again, or set mend "
        "(talk_mend in the inventory) to true."
    )
    _talk.require_external(_talk.parse(document(signaling_mode="external")), "occ")


# TURN and STUN


def mine(entry, secret=NEW):
    return {**entry, "secret": secret}


TURN_LINE, TURNS_LINE = "turn turn.example.org:3478 udp,tcp", "turns turn.example.org:5349 tcp"
TURN_CASES = [
    # name, stored, options, actions, what is there afterwards
    (
        "fresh",
        None,
        {},
        [f"added the TURN server {TURN_LINE}", f"added the TURN server {TURNS_LINE}"],
        [mine(TURN), mine(TURNS)],
    ),
    ("right, in another order", [mine(TURNS), FOREIGN, mine(TURN)], {}, [], [mine(TURNS), FOREIGN, mine(TURN)]),
    ("one missing", [mine(TURN)], {}, [f"added the TURN server {TURNS_LINE}"], [mine(TURN), mine(TURNS)]),
    (
        "new secret",
        [mine(TURN, OLD), FOREIGN, mine(TURNS, OLD)],
        {},
        [f"replaced the secret of the TURN server {TURN_LINE}", f"replaced the secret of the TURN server {TURNS_LINE}"],
        [FOREIGN, mine(TURN), mine(TURNS)],
    ),
    (
        "duplicate with a former secret",
        [mine(TURN, OLD), mine(TURN), mine(TURNS)],
        {},
        [f"removed the duplicate TURN server {TURN_LINE}"],
        [mine(TURN), mine(TURNS)],
    ),
    (
        "other words for the same server",
        [mine({**TURN, "protocols": "udp"}), mine({**TURN, "server": "TURN.example.org:3478"}), mine(TURNS)],
        {},
        [
            f"added the TURN server {TURN_LINE}",
            "removed the TURN server turn turn.example.org:3478 udp",
            "removed the TURN server turn TURN.example.org:3478 udp,tcp",
        ],
        [mine(TURN), mine(TURNS)],
    ),
    (
        "exclusive",
        [FOREIGN, mine(TURN), mine(TURNS)],
        {"exclusive": True},
        ["removed the TURN server turn turn.example.net:3478 udp of somebody else"],
        [mine(TURN), mine(TURNS)],
    ),
    (
        "instead of a former one",
        [mine({**FORMER_TURN, "server": "Relay.example.org:3478"}, OLD), FOREIGN, mine(TURNS)],
        {"former": [FORMER_STUN]},
        [f"added the TURN server {TURN_LINE}", "removed the TURN server turn Relay.example.org:3478 udp,tcp"],
        [FOREIGN, mine(TURN), mine(TURNS)],
    ),
    (
        "exclusive, a former one is not somebody else's",
        [mine(FORMER_TURN), mine(TURN), mine(TURNS)],
        {"former": [FORMER_STUN, STUN], "exclusive": True},
        ["removed the TURN server turn relay.example.org:3478 udp,tcp"],
        [mine(TURN), mine(TURNS)],
    ),
    (
        "former, not said to be ours",
        [mine(FORMER_TURN), mine(TURN), mine(TURNS)],
        {},
        [],
        [mine(FORMER_TURN), mine(TURN), mine(TURNS)],
    ),
    (
        "absent, former",
        [mine(FORMER_TURN, OLD), FOREIGN],
        {"former": [FORMER_STUN], "present": False},
        ["removed the TURN server turn relay.example.org:3478 udp,tcp"],
        [FOREIGN],
    ),
    ("absent, never there", None, {"present": False}, [], None),
    (
        "absent",
        [mine(TURN), FOREIGN, mine({**TURNS, "schemes": "turn,turns"}, OLD)],
        {"present": False},
        [f"removed the TURN server {TURN_LINE}", "removed the TURN server turn,turns turn.example.org:5349 tcp"],
        [FOREIGN],
    ),
]
STUN_CASES = [
    ("fresh", None, {}, [f"added the STUN server {STUN}"], [STUN]),
    ("right", ["s.example.net:1", STUN], {}, [], ["s.example.net:1", STUN]),
    ("beside", ["s.example.net:1"], {}, [f"added the STUN server {STUN}"], ["s.example.net:1", STUN]),
    (
        "exclusive",
        [_talk.DEFAULT_STUN],
        {"exclusive": True},
        [f"added the STUN server {STUN}", f"removed the STUN server {_talk.DEFAULT_STUN} of somebody else"],
        [STUN],
    ),
    ("duplicate", [STUN, STUN], {}, [f"removed the duplicate STUN server {STUN}"], [STUN]),
    (
        "other spelling",
        ["Turn.example.org:3478"],
        {},
        [f"added the STUN server {STUN}", "removed the STUN server Turn.example.org:3478"],
        [STUN],
    ),
    (
        "instead of a former one",
        ["Relay.example.org:3478", "s.example.net:1"],
        {"former": [FORMER_STUN]},
        [f"added the STUN server {STUN}", "removed the STUN server Relay.example.org:3478"],
        ["s.example.net:1", STUN],
    ),
    (
        "exclusive, a former one is not somebody else's",
        [FORMER_STUN, STUN],
        {"former": [FORMER_STUN, STUN], "exclusive": True},
        [f"removed the STUN server {FORMER_STUN}"],
        [STUN],
    ),
    ("former, not said to be ours", [FORMER_STUN, STUN], {}, [], [FORMER_STUN, STUN]),
    (
        "absent, former",
        [FORMER_STUN],
        {"former": [FORMER_STUN], "present": False},
        [f"removed the STUN server {FORMER_STUN}"],
        [_talk.DEFAULT_STUN],
    ),
    ("absent, never there", None, {"present": False}, [], None),
    ("absent", [STUN, "s.example.net:1"], {"present": False}, [f"removed the STUN server {STUN}"], ["s.example.net:1"]),
    ("absent, the last", [STUN], {"present": False}, [f"removed the STUN server {STUN}"], [_talk.DEFAULT_STUN]),
]


def turn_planner(exclusive=False, present=True, former=()):
    secret = NEW if present else None
    return lambda state: _talk.plan_turn(state, [TURN, TURNS, TURN], secret, exclusive, present, former=former)


def stun_planner(exclusive=False, present=True, former=()):
    return lambda state: _talk.plan_stun(state, [STUN, STUN], exclusive, present, former=former)


CASES = [("turn_servers", turn_planner, *case) for case in TURN_CASES]
CASES += [("stun_servers", stun_planner, *case) for case in STUN_CASES]


@pytest.mark.parametrize("typed", [False, True], ids=["talk21", "talk25"])
@pytest.mark.parametrize(
    ("key", "planner", "stored", "given", "actions", "after"),
    [case[:2] + case[3:] for case in CASES],
    ids=[f"{case[0][:4]} {case[2]}" for case in CASES],
)
def test_lists_are_made_right(key, planner, stored, given, actions, after, typed):
    talk = Talk(typed=typed, **({} if stored is None else {key: list(stored)}))
    plan = planner(**given)
    checked = sync(talk, plan, check=True)
    assert talk.commands == []
    result = sync(talk, plan, check=False)
    assert result["actions"] == checked["actions"] == actions
    assert result["changed"] is checked["changed"] is bool(actions)
    if typed and key == "stun_servers" and stored is None and after:
        after = [_talk.DEFAULT_STUN, *after]
    order = repr
    assert sorted(talk.values.get(key, []), key=order) == sorted(after or [], key=order)
    assert not any(secret in json.dumps(result) for secret in (NEW, OLD, THEIRS))
    again = sync(talk, plan, check=False)
    assert (again["changed"], again["actions"]) == (False, [])
    assert again["diff"]["before"] == again["diff"]["after"]
    if key == "stun_servers":
        assert result["diff"]["after"] == again["diff"]["before"]


def test_the_default_stun_server_that_talk_25_adds_goes_when_ours_is_exclusive():
    talk = Talk(typed=True)
    result = sync(talk, stun_planner(exclusive=True), check=False)
    assert talk.values == {"stun_servers": [STUN]}
    assert result["diff"] == {"before": {"stun_servers": []}, "after": {"stun_servers": [STUN]}}


def test_a_first_registration_uses_talks_own_commands():
    talk = Talk()
    sync(talk, turn_planner(), check=False)
    sync(talk, stun_planner(), check=False)
    assert talk.commands == [
        ["talk:turn:add", f"--secret={NEW}", "--", "turn", "turn.example.org:3478", "udp,tcp"],
        ["talk:turn:add", f"--secret={NEW}", "--", "turns", "turn.example.org:5349", "tcp"],
        ["talk:stun:add", "--", STUN],
    ]


@pytest.mark.parametrize(
    ("typed", "commands"),
    [
        (False, [["config:import", "php://stdin"]]),
        (
            True,
            [
                ["talk:turn:delete", "--", "turn", "turn.example.org:3478", "udp,tcp"],
                ["talk:turn:add", f"--secret={NEW}", "--", "turn", "turn.example.org:3478", "udp,tcp"],
            ],
        ),
    ],
)
def test_a_new_turn_secret_is_one_step_and_out_of_the_process_list_where_possible(typed, commands):
    talk = Talk(typed=typed, turn_servers=[mine(TURN, OLD)])
    sync(talk, lambda state: _talk.plan_turn(state, [TURN], NEW, False, True), check=False)
    assert talk.commands == commands


def test_a_former_server_goes_after_the_right_one_is_there():
    talk = Talk(typed=True, turn_servers=[mine(FORMER_TURN)], stun_servers=[FORMER_STUN])
    planner = turn_planner(former=[FORMER_STUN])
    sync(talk, planner, check=False)
    sync(talk, stun_planner(former=[FORMER_STUN]), check=False)
    assert [" ".join(command[:2]) for command in talk.commands if command[0].startswith("talk:turn")] == [
        f"talk:turn:add --secret={NEW}",
        f"talk:turn:add --secret={NEW}",
        "talk:turn:delete --",
    ]
    assert talk.commands[-2:] == [["talk:stun:add", "--", STUN], ["talk:stun:delete", "--", FORMER_STUN]]


def test_a_former_signaling_server_needs_no_warning():
    stored = signaling((FORMER, True), secret=OLD)
    assert plan_signaling(stored).warnings != ()
    assert plan_signaling(stored, former=[FORMER]).warnings == ()


def test_the_turn_diff_marks_what_gets_a_new_secret():
    plan = turn_planner()(_talk.parse(document(turn_servers=[mine(TURN, OLD), mine(TURNS)])))
    assert plan.before == {"turn_servers": [{**TURN, "secret": "********"}, {**TURNS, "secret": "********"}]}
    assert plan.after == {"turn_servers": [{**TURNS, "secret": "********"}, {**TURN, "secret": "(new secret)"}]}


def test_an_old_turn_entry_without_schemes_is_a_turn_one():
    plan = turn_planner()(_talk.parse(document(turn_servers=[{k: v for k, v in mine(TURN).items() if k != "schemes"}])))
    assert list(plan.actions) == [
        f"replaced the secret of the TURN server {TURN_LINE}",
        f"added the TURN server {TURNS_LINE}",
    ]


@pytest.mark.parametrize("deaf_to", ["signaling_servers", "turn_servers", "stun_servers"])
def test_what_was_not_stored_is_an_error(deaf_to):
    planners = {
        "turn_servers": turn_planner(),
        "stun_servers": stun_planner(),
        "signaling_servers": lambda state: _talk.plan_signaling(
            state, URL, NEW, verify=True, exclusive=False, present=True, leftover=LEFTOVER
        ),
    }
    talk = Talk(deaf=True)
    with pytest.raises(_talk.NotStored) as caught:
        sync(talk, planners[deaf_to], check=False)
    assert f"occ reported success, but {deaf_to} of the app config spreed does not hold what was written" in str(
        caught.value
    )
    assert len({command[0] for command in talk.commands}) == 1


def test_a_value_that_somebody_else_keeps_changing_is_given_up():
    class Fickle(Talk):
        def do_talk_stun_add(self, arguments, _stdin):
            self.values["stun_servers"] = [f"s{len(self.commands)}.example.net:1"]

    talk = Fickle()
    with pytest.raises(_talk.NotStored, match="something else changes it at the same time"):
        sync(talk, stun_planner(), check=False)
    assert len(talk.commands) == _talk.ROUNDS


def signaling_planner(secret=NEW, **given):
    options = {"url": URL, "verify": True, "former": [], "exclusive": False, "present": True, **given}
    return _talk.signaling_planner("occ", secret=secret, **options)


def test_everything_is_made_right_with_one_reading_of_each_round():
    talk = Talk(stun_servers=[STUN])
    result = sync(talk, signaling_planner(), turn_planner(), stun_planner(), check=False)
    assert result["actions"] == [
        f"added the signaling server {URL}, with certificate check",
        f"added the TURN server {TURN_LINE}",
        f"added the TURN server {TURNS_LINE}",
    ]
    assert set(result["diff"]["before"]) == set(result["diff"]["after"])
    assert set(result["diff"]["after"]) == {"signaling_servers", "secret", "turn_servers", "stun_servers"}
    # Before, as the only one of this host, as the only one of all, and what was written.
    assert talk.reads == 4
    assert sync(talk, signaling_planner(), turn_planner(), stun_planner(), check=False)["changed"] is False
    assert talk.reads == 5


def test_what_another_writer_did_meanwhile_is_kept_and_not_reported():
    class Late(Talk):
        @contextmanager
        def alone(self):
            self.values["signaling_servers"] = signaling((OTHER, True), (URL, True))
            yield

    talk = Late()
    result = sync(talk, signaling_planner(), check=False)
    assert (result["changed"], result["actions"], talk.commands) == (False, [], [])
    assert result["diff"]["before"] == result["diff"]["after"]
    talk = Late(turn_servers=[FOREIGN])
    assert sync(talk, signaling_planner(), turn_planner(), check=False)["actions"] == [
        f"added the TURN server {TURN_LINE}",
        f"added the TURN server {TURNS_LINE}",
    ]


def test_a_lost_lease_stops_before_the_change():
    def lost():
        raise RuntimeError("lost")

    talk = Talk()
    with pytest.raises(RuntimeError):
        _talk.sync(talk, [signaling_planner()], False, hold=lambda _occ: nullcontext(lost))
    assert talk.commands == []


class WithoutStdin(Talk):
    def do_config_import(self, arguments, stdin):
        raise StdinRefused("occ cannot read it")

    def do_config_app_set(self, arguments, _stdin):
        app, key, value = arguments
        assert app == "spreed"
        text = value.partition("=")[2]
        self.values[key] = text if key == "signaling_servers" else json.loads(text)


@pytest.mark.parametrize("key", ["signaling_servers", "turn_servers", "stun_servers"])
def test_without_standard_input_a_value_is_still_replaced_in_one_step(key):
    cases = {
        "signaling_servers": (signaling((URL, False), secret=OLD), signaling_planner()),
        "turn_servers": ([mine(TURN, OLD), mine(TURNS)], turn_planner()),
        "stun_servers": ([FORMER_STUN], stun_planner(former=[FORMER_STUN])),
    }
    stored, planner = cases[key]
    talk = WithoutStdin(**{key: stored})
    assert sync(talk, planner, check=False)["changed"]
    assert [command[:3] for command in talk.commands] == [
        ["config:import", "php://stdin"],
        ["config:app:set", "spreed", key],
    ]
    assert sync(talk, planner, check=False)["changed"] is False


def test_without_standard_input_what_was_not_stored_is_an_error():
    class Deaf(WithoutStdin):
        def do_config_app_set(self, arguments, _stdin):
            pass

    with pytest.raises(_talk.NotStored):
        sync(Deaf(signaling_servers=signaling((URL, False))), signaling_planner(), check=False)


MENDED = [
    ("internal", "internal", ["deleted the signaling_mode internal, with which Talk ignores every signaling server"]),
    ("external", "external", []),
    ("not set", "", []),
]


@pytest.mark.parametrize(("mode", "actions"), [case[1:] for case in MENDED], ids=[case[0] for case in MENDED])
def test_an_internal_mode_is_mended(mode, actions):
    plan = _talk.plan_mode(_talk.parse(document(signaling_mode=mode)))
    assert list(plan.actions) == actions
    assert plan.commands == ((("config:app:delete", "spreed", "signaling_mode"),) if actions else ())
    assert (plan.before, plan.after) == ({"signaling_mode": mode}, {"signaling_mode": "" if actions else mode})


@pytest.mark.parametrize(
    ("found", "urls", "action"),
    [
        ("http://localhost", ["https://nc.example.org"], "https://nc.example.org (it was http://localhost)"),
        (None, ["https://nc.example.org", "https://a.example.org"], "https://nc.example.org (it was not set)"),
        ("https://A.example.org:443/", ["https://nc.example.org", "https://a.example.org"], None),
        ("http://localhost", [], None),
    ],
)
def test_the_url_for_cron_is_mended(found, urls, action):
    system = {} if found is None else {"overwrite.cli.url": found}
    plan = _talk.plan_cli_url(_talk.parse({**document(), "system": system}), urls)
    assert list(plan.actions) == ([f"set overwrite.cli.url to {action}"] if action else [])
    command = ("config:system:set", "overwrite.cli.url", "--value=https://nc.example.org")
    assert plan.commands == ((command,) if action else ())
    assert plan.after == {"overwrite.cli.url": urls[0] if action else found or ""}


def test_what_cannot_be_mended_is_an_error_of_config_php():
    class Fixed(Talk):
        def json(self, arguments, bare=False):
            return {**super().json(arguments, bare), "system": {"overwrite.cli.url": "http://localhost"}}

        def do_config_system_set(self, arguments, _stdin):
            pass

    with pytest.raises(_talk.NotStored, match=r"but overwrite.cli.url of config.php does not hold what was written"):
        sync(Fixed(), lambda state: _talk.plan_cli_url(state, ["https://nc.example.org"]), check=False)


# Reporting

SERVER = _talk_report.Server(
    "31.0.6.2", False, False, "https://nc.example.org/", ("nc.example.org", "*.example.net"), 2
)


@pytest.mark.parametrize(
    ("url", "trusted"),
    [
        ("https://nc.example.org", True),
        ("https://NC.example.org:8443/x", True),
        ("https://a.b.example.net", True),
        ("https://example.net", False),
        ("https://nc.example.org.evil.example", False),
        ("https://localhost", True),
    ],
)
def test_trusted_domains(url, trusted):
    assert _talk_report.is_trusted(url, SERVER) is trusted


def test_the_report_holds_no_secret():
    state = _talk.parse(document(signaling_servers=signaling((URL, True)), turn_servers=[FOREIGN], stun_servers=[STUN]))
    facts = _talk_report.report(SERVER, state, "wss://talk.example.org/", NEW, ["https://nc.example.org"])
    assert facts["registered"] is facts["secret_matches"] is facts["trusted"] is facts["cli_url_matches"] is True
    assert facts["talk"] == {
        "installed": True,
        "enabled": True,
        "version": "21.1.0",
        "signaling_mode": "",
        "federation": False,
        "signaling_servers": [{"server": URL, "verify": True}],
        "turn_servers": [{"schemes": "turn", "server": "turn.example.net:3478", "protocols": "udp"}],
        "stun_servers": [STUN],
    }
    assert NEW not in json.dumps(facts)
    assert THEIRS not in json.dumps(facts)
    assert _talk_report.problems(SERVER, state, ["https://nc.example.org"], "occ") == []


def test_what_was_not_asked_is_not_answered():
    assert set(_talk_report.report(SERVER, _talk.parse(document()), None, None, [])) == {
        "nextcloud",
        "talk",
        "urls_found",
    }


def server(cli_url="", trusted=(), **values):
    return _talk_report.Server("31.0.6.2", False, False, cli_url, tuple(trusted), len(trusted), **values)


FOUND = [
    ("nothing", server(), []),
    ("the url for cron", server("https://NC.example.org:443/", ["nc.example.org"]), ["https://nc.example.org"]),
    ("nor what is no url", server("https://[2001:db8::1", ["a.example.org"]), ["https://a.example.org"]),
    ("nor a name that is not trusted", server("https://nc.example.org", ["a.example.org"]), ["https://a.example.org"]),
    ("not with http", server("http://nc.example.org", ["nc.example.org"]), ["https://nc.example.org"]),
    (
        "each name once",
        server("https://nc.example.org", ["nc.example.org", "www.example.org:8443", "NC.example.org"]),
        ["https://nc.example.org", "https://www.example.org:8443"],
    ),
    (
        "no names for the inside",
        server(trusted=["*.example.org", "192.0.2.1", "192.0.2.1:8080", "[2001:db8::1]", "2001:db8::1", "localhost"]),
        [],
    ),
    ("nor these", server("https://localhost", ["app", "app:443", "a.localhost", "localhost.localdomain", "a b.c"]), []),
    (
        "the path of the url for cron",
        server("http://localhost/cloud/", ["nc.example.org"]),
        ["https://nc.example.org/cloud"],
    ),
    (
        "the path that is said",
        server("https://nc.example.org/cloud", ["nc.example.org"], webroot="/"),
        ["https://nc.example.org/cloud", "https://nc.example.org"],
    ),
    (
        "the name that is said",
        server("", ["a.example.org"], host="nc.example.org:8443", webroot="/cloud"),
        ["https://nc.example.org:8443/cloud", "https://a.example.org/cloud"],
    ),
    (
        "never https",
        server("https://a.example.org", ["b.example.org", "a.example.org"], protocol="http"),
        ["https://a.example.org"],
    ),
]


@pytest.mark.parametrize(("found", "urls"), [case[1:] for case in FOUND], ids=[case[0] for case in FOUND])
def test_the_urls_of_a_nextcloud_are_found(found, urls):
    assert _talk_report.urls_found(found) == urls


def test_with_an_overwritehost_every_name_is_trusted():
    assert _talk_report.is_trusted("https://nc.example.org", server()) is False
    assert _talk_report.is_trusted("https://nc.example.org", server(host="other.example.org")) is True


@pytest.mark.parametrize(
    ("stored", "trusted", "free"),
    [
        (["a.example.org"], ("a.example.org",), 1),
        ({"0": "a.example.org", "4": "b.example.org"}, ("a.example.org", "b.example.org"), 5),
        (None, (), 0),
    ],
)
def test_trusted_domains_are_read_with_their_gaps(stored, trusted, free):
    found = _talk_report.parse_server({"trusted_domains": stored}, False)
    assert (found.trusted, found.next_trusted) == (trusted, free)


AIO = "https://cloud.example.org/standalone-signaling/"
AIO_DELETE = f"talk:signaling:delete {AIO}"
AIO_TURN = {"schemes": "turn", "server": "cloud.example.org:3478", "secret": THEIRS, "protocols": "udp,tcp"}
AIO_SERVERS = {
    "by trusted domain": server(trusted=["localhost", "Cloud.example.org:443"], all_in_one=True),
    "by overwritehost": server(host="cloud.example.org", all_in_one=True),
    "by its url": server("https://cloud.example.org", all_in_one=True),
}


@pytest.mark.parametrize("found", AIO_SERVERS.values(), ids=AIO_SERVERS)
@pytest.mark.parametrize(
    ("entry", "turn", "commands"),
    [
        (AIO, [], [AIO_DELETE]),
        (AIO, [AIO_TURN, FOREIGN], [AIO_DELETE, "talk:turn:delete turn cloud.example.org:3478 udp,tcp"]),
        ("wss://CLOUD.example.org:443/standalone-signaling", [], None),
        ("https://cloud.example.org", [AIO_TURN], []),
        ("https://hpb.example.net/standalone-signaling/", [], []),
        ("https://[2001:db8::1", [], []),
    ],
)
def test_the_own_talk_of_all_in_one_is_recognised(found, entry, turn, commands):
    state = _talk.parse(document(signaling_servers=signaling((entry, True)), turn_servers=turn))
    if commands is None:
        commands = [f"talk:signaling:delete {entry}"]
    assert _talk_report.all_in_one_commands(found, state) == commands
    problems = _talk_report.problems(found, state, [], "occ")
    assert len(problems) == bool(commands)
    for command in commands:
        assert f"'occ {command}'" in problems[0]
    assert _talk_report.problems(found, state, [], "occ", present=False) == []


def test_a_nextcloud_that_is_not_all_in_one_may_have_such_a_server():
    state = _talk.parse(document(signaling_servers=signaling((AIO, True))))
    assert _talk_report.problems(server("https://cloud.example.org"), state, [], "occ") == []


@pytest.mark.parametrize(
    ("value", "all_in_one"), [(True, True), ("true", True), (False, False), ("", False), (None, False)]
)
def test_all_in_one_is_read(value, all_in_one):
    assert _talk_report.parse_server({"one-click-instance": value}, False).all_in_one is all_in_one


def test_what_is_mended_or_leaves_is_no_problem():
    state = _talk.parse(document(signaling_mode="internal"))
    found, urls = server("https://b.example.org", ["a.example.org"]), ["https://a.example.org"]
    assert len(_talk_report.problems(found, state, urls, "occ")) == 2
    assert _talk_report.problems(found, state, urls, "occ", mend=True) == []
    assert len(_talk_report.problems(found, state, urls, "occ", further=["https://b.example.org"])) == 1
    gone = _talk.parse({"apps": {"spreed": {}}})
    assert _talk_report.problems(found, gone, urls, "occ", present=False) == []


TYPO, SET = "https://nc.odd.example", "talk_url: https://nc.example.org"
TYPED = (
    "occ belongs to a Nextcloud that calls itself https://nc.example.org (overwrite.cli.url) and does not have the "
    f"name in {TYPO}, its talk_url in the inventory, among its trusted domains; set talk_url: https://nc.example.org "
    "in the inventory, or, should it answer at that name, too, add that to its trusted domains first."
)


@pytest.mark.parametrize(
    ("found", "urls", "expected"),
    [
        (server("https://nc.example.org/", ["localhost", "nc.example.org"]), [TYPO], [TYPED]),
        (server("https://nc.example.org", ["*.example.org"]), [TYPO], [TYPED]),
        (server("https://nc.example.org", [], host="nc.example.org"), [TYPO], [TYPED]),
        (server("https://nc.example.org", ["nc.example.org"]), [TYPO, "https://nc.example.org"], [TYPED]),
        (
            server("https://nc.example.org", ["nc.example.org"]),
            ["https://nc.example.org", TYPO],
            [TYPED.replace("its talk_url", "its talk_urls").replace(f"set {SET}", "correct talk_urls")],
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("mend", [False, True])
def test_a_wrong_name_in_the_inventory_is_not_given_to_the_nextcloud(found, urls, expected, mend):
    state = _talk.parse(document())
    assert _talk_report.problems(found, state, urls, "occ", mend=mend) == expected
    assert _talk_report.problems(found, state, urls, "occ", mend=mend, further=["https://nc.example.org"]) == expected
    assert _talk_report.problems(found, state, urls, "occ", present=False) == []


@pytest.mark.parametrize(
    ("found", "urls", "left"),
    [
        # It is not known by what name the Nextcloud is reached.
        (server("http://nc.example.org", ["nc.example.org"]), [TYPO], 2),
        (server("https://nc.example.org", ["other.example.org"]), [TYPO], 2),
        (server("https://localhost", ["localhost"]), [TYPO], 2),
        (server("https://192.0.2.7", ["192.0.2.7"]), [TYPO], 2),
        (server("https://[nc", ["nc.example.org"]), [TYPO], 2),
        (server("", ["nc.example.org"]), [TYPO], 2),
        # The Nextcloud knows the name, so that only its own address is another one.
        (server("https://old.example.org", ["old.example.org", "nc.odd.example"]), [TYPO], 1),
        (server("https://nc.example.org", ["nc.example.org"]), ["https://nc.example.org"], 0),
    ],
)
def test_where_the_nextcloud_has_no_name_of_its_own_it_is_told_ours(found, urls, left):
    problems = _talk_report.problems(found, _talk.parse(document()), urls, "occ")
    assert len(problems) == left
    assert all("'occ config:system:set " in text for text in problems)
    _talk_report.refuse_misnamed(found, urls, "occ")


def test_every_problem_is_named():
    found_server = _talk_report.Server("31.0.6.2", True, True, "", ("other.example.org",), 1)
    state = _talk.parse({"apps": {"spreed": {"signaling_mode": "internal"}}})
    found = _talk_report.problems(found_server, state, ["https://nc.example.org:8443"], "occ")
    for part, text in zip(
        [
            "occ says that Nextcloud is in maintenance mode",
            "occ says that Nextcloud or an app needs an upgrade",
            "occ belongs to a Nextcloud without Talk",
            "signaling_mode is internal",
            "overwrite.cli.url is not set, but https://nc.example.org:8443 was expected",
            "'occ config:system:set trusted_domains 1 --value=nc.example.org:8443'",
        ],
        found,
    ):
        assert part in text
    assert len(found) == 6


ADDED = "added the STUN server turn.example.org:3478"
URL_SET = "set overwrite.cli.url to https://nc.example.org (it was not set)"


@pytest.mark.parametrize(
    ("actions", "dry", "sentence"),
    [
        ({}, False, ""),
        ({"nc": []}, True, ""),
        # Nothing that Talk tells its clients.
        ({"nc": [URL_SET]}, False, ""),
        (
            {"nc": [URL_SET, ADDED], "dev_nc": [], "test": [ADDED]},
            False,
            "Tabs in which Talk is open (nc, test) say that it was updated and has to be reloaded; until that is done "
            "they offer no call.",
        ),
        (
            {"nc": [f"deleted the {_talk.MODE} internal, with which Talk ignores every signaling server"]},
            True,
            "Tabs in which Talk is open (nc) will say that it was updated and has to be reloaded; until that is done "
            "they offer no call: do this outside working hours.",
        ),
    ],
)
def test_what_people_see_who_have_talk_open(actions, dry, sentence):
    assert _talk.tabs(actions, dry) == sentence
