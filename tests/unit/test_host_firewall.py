# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module as a real process in check mode, with stand-ins for the firewalls: this machine stays as it is."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import module_process
import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _firewall
from ansible_collections.nextcloud_talk.hpb.plugins.modules import host_firewall
from test_nftables import HTTPS, INPUT, MEDIA, ruleset

RULES = [
    {"protocol": "tcp", "first": 443, "last": 443, "why": "browsers"},
    {"protocol": "udp", "first": 20000, "last": 29999},
]


@pytest.fixture
def look(tmp_path):
    """Run the module in check mode with `programs` ({name: shell script}) and no others in the path."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def run(kind, programs=(), rules=None, **options):
        for name, script in dict(programs).items():
            (folder / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
            (folder / name).chmod(0o755)
        given = {
            "kind": kind,
            "rules": RULES if rules is None else rules,
            "directory": str(tmp_path / "firewall"),
            **options,
        }
        result = module_process.run("host_firewall", given, True, PATH=f"{folder}:/bin")
        assert not (tmp_path / "firewall").exists()
        return result

    return run


def test_without_a_firewall_nothing_is_done(look):
    result = look("", rules=[])
    assert (result["changed"], result["rules"]) == (False, {})
    assert (result["diff"]["before"], result["diff"]["after"]) == ("", "")


FIRST = "letting SSH in first, or choose another hpb_firewall for the group hpb (empty: you open the ports yourself)."


@pytest.mark.parametrize(
    ("kind", "programs", "sentence"),
    [
        (
            "ufw",
            {"ufw": "echo 'Status: inactive'"},
            "hpb_firewall is ufw, but ufw is inactive on this host, expected it there and active: say ufw enable, ",
        ),
        (
            "firewalld",
            {"firewall-cmd": "echo 'not running'; exit 252"},
            "hpb_firewall is firewalld, but firewalld is not running on this host, expected it there and active: say "
            "systemctl enable --now firewalld, ",
        ),
    ],
)
def test_a_firewall_that_is_not_active_is_a_sentence(look, kind, programs, sentence):
    result = look(kind, programs)
    assert result["failed"] and result["msg"] == sentence + FIRST


@pytest.mark.parametrize(
    ("kind", "what", "how"),
    [
        ("ufw", "ufw is not installed", "install it and say ufw enable"),
        ("firewalld", "firewalld is not installed", "install it and say systemctl enable --now firewalld"),
        ("nftables", "nft is not installed", "install nftables and say systemctl enable --now nftables"),
    ],
)
def test_a_firewall_that_is_not_there_is_a_sentence(look, kind, what, how):
    if shutil.which({"firewalld": "firewall-cmd", "nftables": "nft"}.get(kind, kind)):
        pytest.skip("this machine has it")
    result = look(kind)
    wanted = f"hpb_firewall is {kind}, but {what} on this host, expected it there and active: {how}, {FIRST}"
    assert result["failed"] and result["msg"] == wanted


def test_ufw(look):
    result = look("ufw", {"ufw": "test \"$*\" = status || exit 99; echo 'Status: active'"})
    assert result["changed"]
    assert result["rules"] == {"ufw": ["tcp 443 from everybody", "udp 20000-29999 from everybody"]}
    assert (result["diff"]["before"], result["diff"]["after"]) == (
        "",
        "ufw: tcp 443 from everybody\nufw: udp 20000-29999 from everybody\n",
    )


# Two zones; the interface of the loopback is in none, and a permanent rule of ours is of another time.
FIREWALL_CMD = r"""
case "$*" in
  --state) echo running ;;
  --get-zones) echo 'dmz public' ;;
  --get-default-zone) echo public ;;
  --get-zone-of-interface=*) echo 'no zone' >&2; exit 2 ;;
  "--permanent --list-all-zones")
    printf 'dmz\n  rich rules: \n\trule priority="31470" port port="80" protocol="tcp" accept\npublic\n' ;;
  --list-all-zones)
    printf 'public (active)\n  rich rules: \n\trule priority="31470" port port="443" protocol="tcp" accept\n' ;;
  *) exit 99 ;;
esac
"""


def test_firewalld(look):
    result = look("firewalld", {"firewall-cmd": FIREWALL_CMD}, rules=RULES[:1], address="127.0.0.1")
    assert result["diff"]["before"] == (
        "firewalld: tcp 80 from everybody in the zone dmz, permanently\n"
        "firewalld: tcp 443 from everybody in the zone public, now\n"
    )
    assert result["diff"]["after"] == (
        "firewalld: tcp 443 from everybody in the zone public, permanently\n"
        "firewalld: tcp 443 from everybody in the zone public, now\n"
    )
    other = look("firewalld", rules=RULES[:1], zone="dmz")
    assert other["rules"]["firewalld"][0] == "tcp 443 from everybody in the zone dmz, permanently"
    wrong = look("firewalld", rules=RULES[:1], zone="office")
    assert wrong["msg"].startswith(
        "hpb_firewall_zone is office, which firewalld on this host does not know, expected one"
    )


def test_nftables(look, tmp_path):
    (tmp_path / "ruleset.json").write_text(json.dumps(ruleset((INPUT, "drop", []))), encoding="utf-8")
    nft = f'test "$*" = "--json list ruleset" || exit 99; cat {tmp_path}/ruleset.json'
    result = look("nftables", {"nft": nft})
    assert result["changed"]
    assert result["rules"]["nftables"] == [
        "tcp 443 from everybody in inet filter input",
        "udp 20000-29999 from everybody in inet filter input",
        "nextcloud-talk-hpb-firewall.service puts them in again",
    ]
    (tmp_path / "ruleset.json").write_text(json.dumps(ruleset()), encoding="utf-8")
    none = look("nftables")
    assert none["msg"].startswith("hpb_firewall is nftables, but no chain of nftables on this host filters incoming")
    failing = look("nftables", {"nft": "echo 'Error: cannot open netlink' >&2; exit 1"})
    assert failing["msg"] == (
        "nft --json list ruleset failed (Error: cannot open netlink), expected to change nothing but our own rules."
    )


@pytest.mark.parametrize(
    ("directory", "problem"),
    [
        ("{base}/firewall", ""),
        ("", "nextcloud-talk-hpb-firewall.service was not written by this collection, expected that name free"),
        ("/opt/other/firewall", "firewall.service starts /opt/other/firewall/nftables.py, which another backend"),
    ],
)
def test_a_unit_of_others_is_neither_written_over_nor_removed(monkeypatch, tmp_path, directory, problem):
    """Not as a process, since it would look at the units of this machine."""
    monkeypatch.setattr(host_firewall, "UNITS", tmp_path)
    monkeypatch.setattr(host_firewall._nftables, "read", lambda: {"nftables": []})
    unit, base = tmp_path / _firewall.UNIT, tmp_path / "base"
    unit.write_text(_firewall.unit(directory.format(base=base)) if directory else "[Unit]\n", encoding="utf-8")
    said = []
    host = SimpleNamespace(
        has=lambda _program: False, ask=lambda *_words: "enabled\n", do=lambda *words: said.append(words[:2])
    )
    firewall = host_firewall.Nftables(host, {"directory": str(base / "firewall"), "chains": []}, [])
    assert bool(firewall.read()) is not bool(problem)
    firewall.plan()
    assert firewall.differs() is not bool(problem)
    with pytest.raises(host_firewall.HostError, match=problem or "nft is not installed"):
        firewall.check()
    firewall.apply()
    assert unit.exists() is bool(problem)
    assert said == ([] if problem else [("systemctl", "disable"), ("systemctl", "daemon-reload")])


def test_the_rules_of_the_tables_are_the_same():
    """Both kinds of tests mean the same rules."""
    assert [(rule["protocol"], rule["first"], rule["last"], "") for rule in RULES] == [HTTPS, MEDIA]
