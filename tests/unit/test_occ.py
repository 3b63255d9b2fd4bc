# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each answer of occ told from the others, on every way to it."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _occ
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _occ_errors as errors
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._occ_reach import HostPath, Result
from occ_ways import WAYS, Way

WHERE = "occ /srv/nc/occ on this host"
SECRET = "5ec7e7" * 8
NO_COMMANDS = '\n  There are no commands defined in the "talk:signaling" namespace.\n'
REACH = HostPath("/srv/nc/occ", "php", None)


@pytest.fixture
def tmp_path():
    """A directory that other users may enter, which those that pytest makes are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


OUTCOMES = [
    (
        Result(1, "", "Nextcloud is not installed - only a limited number of commands are available\n" + NO_COMMANDS),
        errors.NotInstalled,
        f"{WHERE} belongs to a Nextcloud that is not installed; finish its installation first.",
    ),
    (
        Result(1, "", "Nextcloud is in maintenance mode, no apps are loaded.\n" + NO_COMMANDS),
        errors.Maintenance,
        f"{WHERE} says that Nextcloud is in maintenance mode, in which Talk cannot be changed; "
        "end it with 'occ maintenance:mode --off' and run this again.",
    ),
    (
        Result(0, "{}", "Nextcloud is in maintenance mode, no apps are loaded.\n"),
        errors.Maintenance,
        "in maintenance mode",
    ),
    (
        Result(
            1, "", "Nextcloud or one of the apps require upgrade - only a limited number of commands\n" + NO_COMMANDS
        ),
        errors.UpgradeNeeded,
        f"{WHERE} says that Nextcloud or an app needs an upgrade, before which Talk cannot be changed; "
        "run 'occ upgrade' and then this again.",
    ),
    (
        Result(1, "", NO_COMMANDS),
        errors.TalkUnavailable,
        f"{WHERE} knows no command 'talk:signaling:add', because Talk is missing, disabled or too old in this "
        "Nextcloud; install it with 'occ app:install spreed', or enable it with 'occ app:enable spreed'.",
    ),
    (
        Result(0, 'Cannot write into "config" directory!\nThis can usually be fixed\n', ""),
        errors.WrongUser,
        f"{WHERE} cannot write into its config directory as the user it was run as; set user (talk_occ_user in the "
        "inventory) to the owner of config/config.php, or make that directory writable for them.",
    ),
    (
        Result(
            1,
            "Console has to be executed with the user that owns the file config/config.php\n"
            "Current user id: 0\nOwner id of config.php: 33\n",
            "",
        ),
        errors.WrongUser,
        f"{WHERE} refused the user it was run as; set user (talk_occ_user in the inventory) to the owner of "
        "config/config.php, number 33.",
    ),
    (
        Result(1, "Could not open input file: /srv/nc/occ\n", ""),
        errors.OccNotFound,
        f"{WHERE} does not exist; set occ (talk_occ in the inventory) to the path of the occ file of this Nextcloud.",
    ),
    (
        Result(255, "PHP Fatal error: Uncaught Error: Class Memcached not found in /srv/nc/lib/x.php:3\n#0 x\n", ""),
        errors.PhpFatal,
        f"{WHERE} was stopped by a PHP error at 'talk:signaling:add': PHP Fatal error: Uncaught Error: Class Memcached "
        "not found in /srv/nc/lib/x.php:3; mend this Nextcloud first, its log says more.",
    ),
    (
        Result(1, "An unhandled exception has been thrown:\nException: no database\n#0 x", ""),
        errors.PhpFatal,
        f"{WHERE} was stopped by a PHP error at 'talk:signaling:add': An unhandled exception has been thrown: "
        "Exception: no database; mend this Nextcloud first, its log says more.",
    ),
    (
        Result(1, "Server cannot be empty.\n", ""),
        errors.CommandFailed,
        f"{WHERE} refused 'talk:signaling:add' with exit code 1: Server cannot be empty; "
        "run the command by hand to see more.",
    ),
    (
        Result(
            1, "", '\n   Not enough arguments (missing: "secret").  \n\n\ntalk:signaling:add [--verify] [--] <server>\n'
        ),
        errors.CommandFailed,
        f"{WHERE} refused 'talk:signaling:add' with exit code 1: Not enough arguments (missing: \"secret\"); "
        "run the command by hand to see more.",
    ),
    (
        Result(1, "", f"  The {SECRET} option does not exist.\n"),
        errors.CommandFailed,
        f"{WHERE} refused 'talk:signaling:add' with exit code 1: The ******** option does not exist; "
        "run the command by hand to see more.",
    ),
    (
        Result(1, '{"servers":[],"secret":"somebody-elses"}', ""),
        errors.CommandFailed,
        f"{WHERE} refused 'talk:signaling:add' with exit code 1; run the command by hand to see more.",
    ),
]


@pytest.mark.parametrize(("result", "kind", "message"), OUTCOMES)
def test_an_outcome_is_named(result, kind, message):
    with pytest.raises(errors.OccError) as caught:
        _occ.raise_for(result, REACH, "talk:signaling:add", secrets=(SECRET,))
    assert caught.type is kind
    assert message in str(caught.value)
    assert SECRET not in str(caught.value)
    assert "somebody-elses" not in str(caught.value)


@pytest.mark.parametrize(
    ("result", "bare"),
    [
        (Result(0, "Added signaling server https://talk.example.org.\n", ""), False),
        (Result(0, "There is nothing to delete.\n", ""), False),
        (Result(0, "{}", "Nextcloud is in maintenance mode, no apps are loaded.\n"), True),
        (Result(0, "{}", "Nextcloud or one of the apps require upgrade - only a limited number\n"), True),
    ],
)
def test_a_success_is_none_of_them(result, bare):
    assert _occ.raise_for(result, REACH, "config:list", bare=bare) is None


@pytest.mark.parametrize(
    ("text", "document"),
    [
        ("[]\n", []),
        ('{"a": 1}', {"a": 1}),
        ('The process control (PCNTL) extensions are required\n{\n  "a": [\n 2]\n}\n', {"a": [2]}),
        ('[warning] something\n{"a": 3}\n', {"a": 3}),
    ],
)
def test_json_is_found_behind_warnings(text, document):
    assert _occ.decode(text) == document


@pytest.mark.parametrize("text", ["", "Cannot write", "{", '{"a": 1} and more'])
def test_what_is_no_json_is_refused(text):
    with pytest.raises(ValueError, match="no JSON document"):
        _occ.decode(text)


# Every state on every way


def answers(text: str, code: int):
    """Return what replaces occ by a program that prints `text` and ends with `code`."""

    def prepare(way):
        (way.nextcloud.root / "occ").write_text(f"import sys\nprint({text!r})\nsys.exit({code})\n")

    return prepare


def import_nothing(occ):
    occ.run(["config:import", _occ.STDIN], stdin="{}")


STATES = {
    "not installed": (
        lambda way: way.nextcloud.configure("'installed' => true", "'installed' => false"),
        errors.NotInstalled,
        "belongs to a Nextcloud that is not installed; finish its installation first.",
    ),
    "maintenance": (
        lambda way: way.nextcloud.configure("'installed' => true", "'maintenance' => true, 'installed' => true"),
        errors.Maintenance,
        "says that Nextcloud is in maintenance mode, in which Talk cannot be changed; "
        "end it with 'occ maintenance:mode --off' and run this again.",
    ),
    "upgrade": (
        lambda way: way.nextcloud.set(needs_upgrade=True),
        errors.UpgradeNeeded,
        "says that Nextcloud or an app needs an upgrade, before which Talk cannot be changed; "
        "run 'occ upgrade' and then this again.",
    ),
    "talk missing": (
        lambda way: way.nextcloud.set(talk=None),
        errors.TalkMissing,
        "belongs to a Nextcloud without Talk; install it with 'occ app:install spreed'.",
    ),
    "talk disabled": (
        lambda way: way.nextcloud.occ("app:disable", "spreed"),
        errors.TalkDisabled,
        "belongs to a Nextcloud in which Talk is disabled; enable it with 'occ app:enable spreed'.",
    ),
    "root refused": (
        answers(
            "Console has to be executed with the user that owns the file config/config.php\n"
            "Current user id: 0\nOwner id of config.php: 33",
            1,
        ),
        errors.WrongUser,
        "refused the user it was run as; {hints.user}, number 33.",
    ),
    "other user, exit 0": (
        answers('Cannot write into "config" directory!', 0),
        errors.WrongUser,
        "cannot write into its config directory as the user it was run as; {hints.user}, or make that directory "
        "writable for them.",
    ),
    "no occ": (
        answers("Could not open input file: occ", 1),
        errors.OccNotFound,
        "does not exist; {hints.path}.",
    ),
    "fatal": (
        answers("PHP Fatal error: Allowed memory size exhausted in /srv/x.php on line 3", 255),
        errors.PhpFatal,
        "was stopped by a PHP error at 'talk:signaling:list': PHP Fatal error: Allowed memory size exhausted in "
        "/srv/x.php on line 3; mend this Nextcloud first, its log says more.",
    ),
    # lib/versioncheck.php of Nextcloud, which is meant for a browser.
    "old PHP": (
        answers(
            "This version of Nextcloud requires at least PHP 8.2<br/>You are currently running 8.1.29. Please update "
            "your PHP version.",
            1,
        ),
        errors.WrongPhp,
        "wants PHP 8.2 or newer, but is run by PHP 8.1.29; {hints.php}.",
    ),
    "new PHP": (
        answers(
            "This version of Nextcloud is not compatible with PHP>=8.5.<br/>You are currently running 8.5.0alpha1.", 1
        ),
        errors.WrongPhp,
        "wants a PHP older than 8.5, but is run by PHP 8.5.0alpha1; {hints.php}.",
    ),
    "PHP without posix": (
        answers("The posix extensions are required - see the manual", 1),
        errors.WrongPhp,
        "is run by a PHP without the extension posix; install that for the command line as well, or {hints.php}.",
    ),
    "PHP without a module": (
        answers("PHP module zip not installed.\nPlease ask your server administrator to install the module.", 1),
        errors.WrongPhp,
        "is run by a PHP without the extension zip; install that for the command line as well, or {hints.php}.",
    ),
    "PHP without a driver": (
        answers("An unhandled exception has been thrown:\nException: could not find driver in /srv/x.php:3", 1),
        errors.WrongPhp,
        "is run by a PHP without the driver of its database; install that for the command line as well, or "
        "{hints.php}.",
    ),
    "database away": (
        answers(
            "An unhandled exception has been thrown:\nDoctrine\\DBAL\\Exception: Failed to connect to the database: An "
            "exception occurred in the driver: SQLSTATE[HY000] [2002] Connection refused in /srv/Connection.php:238\n"
            "Stack trace:\n#0 {main}",
            1,
        ),
        errors.DatabaseAway,
        "does not get into the database of this Nextcloud: An unhandled exception has been thrown: "
        "Doctrine\\DBAL\\Exception: Failed to connect to the database: An exception occurred in the driver: "
        "SQLSTATE[HY000] [2002] Connection refused in /srv/Connection.php:238; start the database, or see what "
        "config.php says of it (dbhost, dbuser).",
    ),
    "a page": (
        answers("<h1>Error</h1>Nobody&#39;s home;<br/>come <b>back</b> later", 1),
        errors.CommandFailed,
        "refused 'talk:signaling:list' with exit code 1: Error Nobody's home; come back later; run the command by hand "
        "to see more.",
    ),
    "words before data": (
        answers('Warning [core]: is gone; see {"secret": "of somebody else"}', 1),
        errors.CommandFailed,
        "refused 'talk:signaling:list' with exit code 1: Warning [core]: is gone; see; run the command by hand to see "
        "more.",
    ),
    "not JSON": (
        answers("Welcome", 0),
        errors.NotJson,
        "answered 'talk:signaling:list --output=json' with something that is not JSON: Welcome; run it by hand as the "
        "owner of config.php and mend what it says.",
    ),
    "refused": (
        answers("Nobody is at home.", 5),
        errors.CommandFailed,
        "refused 'talk:signaling:list' with exit code 5: Nobody is at home; run the command by hand to see more.",
    ),
    "error with exit 0": (
        answers("In das Verzeichnis config kann nicht geschrieben werden!", 0),
        errors.NotConfirmed,
        "ended 'config:import' with success, but did not say that it was done: In das Verzeichnis config kann nicht "
        "geschrieben werden!; run the command by hand, and mend what it says.",
        import_nothing,
    ),
    "no standard input": (
        answers("The file must contain a valid json array", 1),
        errors.StdinRefused,
        "got nothing by standard input at 'config:import'; {hints.stdin}.",
        import_nothing,
    ),
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", WAYS)
def test_every_state_is_named_on_every_way(tmp_path, monkeypatch, name, state):
    way = Way(tmp_path, name, monkeypatch)
    prepare, kind, message, *act = STATES[state]
    prepare(way)
    occ = way.caller(SECRET)
    with pytest.raises(errors.OccError) as caught:
        (act[0] if act else lambda it: it.json(["talk:signaling:list"]))(occ)
    assert caught.type is kind
    assert str(caught.value) == f"{way.where} {message.format(hints=way.reach.hints)}"


@pytest.mark.parametrize("name", WAYS)
def test_every_way_leads_to_occ_and_takes_a_secret_by_standard_input(tmp_path, monkeypatch, name):
    way = Way(tmp_path, name, monkeypatch)
    occ = way.caller(SECRET)
    assert occ.where == way.where
    assert occ.json(["talk:signaling:list"]) == []
    value = json.dumps({"servers": [], "secret": SECRET, "padding": "it's $HOME \\ `id`" * 9000})
    document = json.dumps({"apps": {"spreed": {"signaling_servers": value}}})
    occ.run(["config:import", "php://stdin"], stdin=document)
    assert way.nextcloud.stored("signaling_servers")[0] == value
    assert SECRET not in way.log.read_text()
    if name not in ("host", "owner"):
        assert "php://stdin" in way.log.read_text()
    owner = (way.nextcloud.root / "config" / "config.php").stat().st_uid
    assert (way.nextcloud.root / "data" / "nextcloud.db").stat().st_uid == owner


@pytest.mark.parametrize("name", WAYS)
def test_words_arrive_as_they_are_on_every_way(tmp_path, monkeypatch, name):
    way = Way(tmp_path, name, monkeypatch)
    odd = 'it\'s "$HOME" `id` \\ * ; exit 1 # \u00e9'
    way.caller().run(["config:app:set", "spreed", "odd", f"--value={odd}"])
    assert way.nextcloud.stored("odd")[0] == odd


def test_talk_that_has_not_the_command_is_called_too_old(tmp_path, monkeypatch):
    way = Way(tmp_path, "host", monkeypatch)
    with pytest.raises(errors.TalkTooOld) as caught:
        way.caller().run(["talk:recording:list"])
    assert str(caught.value) == (
        f"{way.where} knows no command 'talk:recording:list', although Talk is enabled, because it is too old or "
        "failed to load; update it with 'occ app:update spreed', and see Nextcloud's log."
    )


def test_what_app_list_does_not_tell_stays_open(tmp_path, monkeypatch):
    way = Way(tmp_path, "host", monkeypatch)
    (way.nextcloud.root / "occ").write_text(
        f"import sys\nif 'app:list' in sys.argv: sys.exit(1)\nsys.stderr.write({NO_COMMANDS!r})\nsys.exit(1)\n"
    )
    with pytest.raises(errors.OccError) as caught:
        way.caller().run(["talk:signaling:list"])
    assert caught.type is errors.TalkUnavailable
