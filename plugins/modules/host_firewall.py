#!/usr/bin/python
# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Have the firewall of a host let in the given ports, and nothing else of ours."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_firewall
short_description: Have the firewall of a host let in the given ports
version_added: 0.1.0
description:
  - Adds rules to the firewall that is on the host, and removes those that this module added before and that are not
    wanted any more, also from the other firewalls that it knows.
  - It neither installs nor enables a firewall, and touches no rule of anybody else.
  - In ufw the rules refer to an application profile, C(/etc/ufw/applications.d/nextcloud-talk-hpb).
  - In firewalld they are rich rules with the priority 31470, permanent and in force at once, without a reload.
  - In nftables they are a chain C(nextcloud_talk_hpb), and a jump to it in each chain that filters incoming packets,
    before the first rule that refuses everybody. A systemd unit puts them in again whenever C(nftables.service) has
    loaded its ruleset.
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
attributes:
  check_mode:
    support: full
    description: Says what would change. It fails as a real run would when the firewall is not there.
  diff_mode:
    support: full
    description: The rules of ours before and after, one in each line.
  idempotent:
    support: full
    description: A firewall that has the rules is not touched.
options:
  kind:
    description: The firewall. Empty means that no rule of ours is wanted in any.
    type: str
    choices: ["", ufw, firewalld, nftables]
    required: true
  rules:
    description: What is let in. Without any, no rule of ours is wanted.
    type: list
    elements: dict
    default: []
    suboptions:
      protocol:
        description: The protocol.
        type: str
        choices: [tcp, udp]
        required: true
      first:
        description: The first port.
        type: int
        required: true
      last:
        description: The last port.
        type: int
        required: true
      source:
        description: The one address that may. Empty for everybody.
        type: str
        default: ""
      why:
        description: What for. It is not used.
        type: str
        default: ""
  address:
    description:
      - Address of this host at which everybody arrives. Its interface tells the zone of firewalld, and in nftables
        which rules refuse what comes in there.
    type: str
    default: ""
  zone:
    description: For firewalld, the zone. Empty means that of the interface.
    type: str
    default: ""
  chains:
    description:
      - For nftables, the chains that get the jump, such as V(inet filter input). Empty means all with hook input and
        the policy drop, or the only one with hook input that has rules.
    type: list
    elements: str
    default: []
  directory:
    description: Directory for what the systemd unit of nftables needs.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Let browsers in
  nextcloud_talk.hpb.host_firewall:
    kind: ufw
    rules:
      - {protocol: tcp, first: 443, last: 443}
      - {protocol: udp, first: 20000, last: 29999}
    directory: /opt/nextcloud-talk-hpb/firewall

- name: Remove all of it
  nextcloud_talk.hpb.host_firewall:
    kind: ""
    directory: /opt/nextcloud-talk-hpb/firewall
"""

RETURN = r"""
rules:
  description: What is let in by rules of ours, one in each line, by the firewall that has them.
  type: dict
  returned: success
  sample: {ufw: [tcp 443 from everybody]}
"""

import abc  # noqa: E402
import inspect  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import shutil  # noqa: E402
import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _firewall, _nftables, _ours  # noqa: E402

UFW_PROFILES = Path("/etc/ufw/applications.d") / _firewall.NAME
UFW_RULES = (Path("/etc/ufw/user.rules"), Path("/etc/ufw/user6.rules"))
FIREWALLD_ZONES = Path("/etc/firewalld/zones")
UNITS = Path("/etc/systemd/system")


class HostError(Exception):
    """The firewall is not as expected; the message is for the user."""


class Host:
    """Commands on this host, and what is to be known of it."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        # Their words are read, so they must not be translated.
        module.run_command_environ_update = {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "LANGUAGE": "C"}

    def has(self, program: str) -> bool:
        return bool(self.module.get_bin_path(program))

    def ask(self, *command: str) -> str:
        """Return what a command wrote, an empty text when it failed or is not there."""
        program = self.module.get_bin_path(command[0])
        if not program:
            return ""
        code, out, _err = self.module.run_command([program, *command[1:]])
        return out if code == 0 else ""

    def do(self, *command: str) -> None:
        """Run a command; raises HostError when it fails."""
        code, out, err = self.module.run_command([self.module.get_bin_path(command[0], required=True), *command[1:]])
        if code != 0:
            said = ((err.strip() or out.strip()).splitlines() or ["no word"])[-1]
            raise HostError(
                f"'{' '.join(command)}' failed on this host ({said}), expected it to change nothing but our own rules: "
                "mend what it says and run the same command again."
            )

    def interface(self, address: str) -> str:
        """Return the interface that has `address`; of the one towards the outside when there is none."""
        if not address:
            return self.way_to("192.0.2.1")
        return _firewall.device(self.ask("ip", "-o", "address", "show", "to", address))

    def way_to(self, address: str) -> str:
        """Return the interface that leads to `address`."""
        return _firewall.device(self.ask("ip", "-o", "route", "get", address))


def read(path: Path) -> str:
    """Return the text of a file, empty when it is not there."""
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return ""


def replace(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file as a whole."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    Path(name).chmod(mode)
    Path(name).replace(path)


class Firewall(abc.ABC):
    """One kind of firewall on this host. `wanted` is what it shall let in; without any, all of ours is to go."""

    def __init__(self, host: Host, params: dict, wanted: list[_firewall.Rule]) -> None:
        self.host = host
        self.params = params
        self.wanted = wanted

    @abc.abstractmethod
    def read(self) -> list[str]:
        """Read what of ours is there; returns it as lines."""

    @abc.abstractmethod
    def check(self) -> None:
        """Refuse a firewall that cannot be told anything."""

    @abc.abstractmethod
    def plan(self) -> list[str]:
        """Plan how to get to what is wanted; returns that as lines."""

    @abc.abstractmethod
    def differs(self) -> bool:
        """Whether there is anything to do."""

    @abc.abstractmethod
    def apply(self) -> None:
        """Do it."""


class Ufw(Firewall):
    """Rules that refer to application profiles of ours."""

    def read(self) -> list[str]:
        self.rules = _firewall.ufw_rules(*(read(path) for path in UFW_RULES))
        return _firewall.shown(self.rules)

    def check(self) -> None:
        if not self.host.has("ufw"):
            raise HostError(_firewall.needed("ufw", "ufw is not installed", "install it and say ufw enable"))
        if not self.host.ask("ufw", "status").startswith("Status: active"):
            raise HostError(_firewall.needed("ufw", "ufw is inactive", "say ufw enable"))

    def plan(self) -> list[str]:
        self.profiles = _firewall.ufw_profiles(self.wanted)
        self.before, self.after = _firewall.ufw_plan(self.wanted, self.rules)
        return _firewall.shown(self.wanted)

    def differs(self) -> bool:
        return bool(self.before or self.after) or read(UFW_PROFILES) != self.profiles

    def apply(self) -> None:
        if self.before and not UFW_PROFILES.exists():
            # ufw withdraws no rule whose profile somebody has tidied away.
            replace(UFW_PROFILES, _firewall.ufw_profiles(self.rules))
        for words in self.before:
            self.host.do("ufw", *words)
        if self.profiles:
            replace(UFW_PROFILES, self.profiles)
        elif UFW_PROFILES.exists():
            UFW_PROFILES.unlink()
        for words in self.after:
            self.host.do("ufw", *words)


class Firewalld(Firewall):
    """Rich rules with a priority of ours, permanently and in the firewalld that runs."""

    def read(self) -> list[str]:
        self.permanent: dict[str, list[str]] = {}
        self.runtime: dict[str, list[str]] = {}
        self.running = False
        self.permanently = ["firewall-offline-cmd"]
        # Asking takes a second: not where it never got a rule of ours.
        if not self.wanted and not self._written():
            return []
        self.running = self.host.ask("firewall-cmd", "--state").strip() == "running"
        # One that does not run keeps what is permanent.
        if self.running:
            self.permanently = ["firewall-cmd", "--permanent"]
        self.permanent = _firewall.rich_rules(self.host.ask(*self.permanently, "--list-all-zones"))
        if self.running:
            self.runtime = _firewall.rich_rules(self.host.ask("firewall-cmd", "--list-all-zones"))
        return self._lines(self.permanent, "permanently") + self._lines(self.runtime, "now")

    @staticmethod
    def _written() -> bool:
        mark = f'priority="{_firewall.PRIORITY}"'
        return any(mark in read(path) for path in FIREWALLD_ZONES.glob("*.xml"))

    @staticmethod
    def _lines(zones: dict[str, list[str]], when: str) -> list[str]:
        lines = []
        for zone, texts in sorted(zones.items()):
            rules = [rule for rule in map(_firewall.rule_of_rich, texts) if rule]
            lines += [f"{line} in the zone {zone}, {when}" for line in _firewall.shown(rules)]
        return lines

    def check(self) -> None:
        start = "say systemctl enable --now firewalld"
        if not self.host.has("firewall-cmd"):
            raise HostError(_firewall.needed("firewalld", "firewalld is not installed", f"install it and {start}"))
        if not self.running:
            raise HostError(_firewall.needed("firewalld", "firewalld is not running", start))
        zone = self.params["zone"]
        if zone and zone not in self.host.ask("firewall-cmd", "--get-zones").split():
            raise HostError(
                f"hpb_firewall_zone is {zone}, which firewalld on this host does not know, expected one of those that "
                f"firewall-cmd --get-zones names: correct it for the group hpb, or leave it empty."
            )

    def _zone(self, source: str) -> str:
        """Return the zone at which packets of a source arrive."""
        if self.params["zone"]:
            return self.params["zone"]
        interface = self.host.way_to(source) if source else self.host.interface(self.params["address"])
        zone = self.host.ask("firewall-cmd", f"--get-zone-of-interface={interface}").strip() if interface else ""
        return zone or self.host.ask("firewall-cmd", "--get-default-zone").strip()

    def plan(self) -> list[str]:
        zones: dict[str, list[str]] = {}
        for source in _firewall.by_source(self.wanted):
            mine = [_firewall.rich_rule(rule) for rule in sorted(self.wanted) if rule[3] == source]
            zones.setdefault(self._zone(source), []).extend(mine)
        self.calls: list[tuple[list[str], str, list[str]]] = []
        for known in ("permanent", "runtime") if self.running else ("permanent",):
            command = self.permanently if known == "permanent" else ["firewall-cmd"]
            for zone, options in _firewall.rich_plan(zones, getattr(self, known)):
                self.calls.append((command, zone, options))
        # Whether there is anything of ours is read from what is permanent: so that goes last.
        if not self.wanted:
            self.calls.reverse()
        return self._lines(zones, "permanently") + self._lines(zones, "now")

    def differs(self) -> bool:
        return bool(self.calls)

    def apply(self) -> None:
        for command, zone, options in self.calls:
            self.host.do(*command, f"--zone={zone}", *options)


class Nftables(Firewall):
    """A chain of ours in the tables that filter, and the unit that puts it there again."""

    def read(self) -> list[str]:
        self.directory = Path(self.params["directory"])
        self.unit = UNITS / _firewall.UNIT
        units = _ours.unit_files(UNITS, [_firewall.UNIT])
        self.problems = _ours.unit_problems(units, str(self.directory.parent), [_firewall.UNIT])
        self.is_ours = bool(units) and not self.problems
        self.there = self.is_ours or self.directory.exists()
        self.kept = self.is_ours and self.host.ask("systemctl", "is-enabled", _firewall.UNIT).strip() == "enabled"
        self.ruleset: dict = {"nftables": []}
        if (self.wanted or self.there) and self.host.has("nft"):
            self.ruleset = _nftables.read()
        lines = []
        for chain, _handle in _nftables.jumps(self.ruleset):
            rules = [rule for rule in _nftables.ours(self.ruleset).get(chain[:2], []) if rule]
            lines += [f"{line} in {' '.join(chain)}" for line in _firewall.shown(rules)]
        return lines + self._keeper(self.kept)

    @staticmethod
    def _keeper(kept: bool) -> list[str]:
        return [f"{_firewall.UNIT} puts them in again"] if kept else []

    def check(self) -> None:
        if self.problems:
            raise HostError(self.problems[0])
        if not self.host.has("nft"):
            how = "install nftables and say systemctl enable --now nftables"
            raise HostError(_firewall.needed("nftables", "nft is not installed", how))
        _nftables.chains(self.ruleset, self.params["chains"])

    def plan(self) -> list[str]:
        self.files: dict[Path, str] = {}
        if not self.wanted:
            self.commands = _nftables.plan(self.ruleset, [], [], "")
            return []
        chains = _nftables.chains(self.ruleset, self.params["chains"])
        interface = self.host.interface(self.params["address"])
        self.commands = _nftables.plan(self.ruleset, self.wanted, chains, interface)
        config = {"rules": self.wanted, "chains": self.params["chains"], "interface": interface}
        self.files = {
            self.directory / "nftables.py": inspect.getsource(_nftables),
            self.directory / "nftables.json": json.dumps(config, indent=2) + "\n",
            self.unit: _firewall.unit(str(self.directory)),
        }
        lines = [f"{line} in {' '.join(chain)}" for chain in chains for line in _firewall.shown(self.wanted)]
        return lines + self._keeper(True)

    def differs(self) -> bool:
        if not self.wanted:
            return self.there or bool(self.commands)
        changed = any(read(path) != text for path, text in self.files.items())
        active = self.host.ask("systemctl", "is-active", _firewall.UNIT).strip() == "active"
        return changed or bool(self.commands) or not (self.kept and active)

    def apply(self) -> None:
        if self.wanted:
            for path, text in self.files.items():
                replace(path, text)
            self.host.do("systemctl", "daemon-reload")
            self.host.do("systemctl", "enable", "--quiet", _firewall.UNIT)
            # One that is active is reloaded, so that nothing is closed for a moment.
            self.host.do("systemctl", "reload-or-restart", _firewall.UNIT)
            return
        if self.is_ours:
            self.host.do("systemctl", "disable", "--now", "--quiet", _firewall.UNIT)
            # Otherwise systemd goes on listing one that has failed; one that has not may be an error to it.
            self.host.ask("systemctl", "reset-failed", _firewall.UNIT)
            self.unit.unlink()
            self.host.do("systemctl", "daemon-reload")
        # What the unit could not do, and nothing where it did all.
        _nftables.change(_nftables.plan(_nftables.read(), [], [], "") if self.commands else [])
        shutil.rmtree(self.directory, ignore_errors=True)


KINDS = {"ufw": Ufw, "firewalld": Firewalld, "nftables": Nftables}


def run(module: AnsibleModule) -> dict:
    """Read all firewalls, plan, apply unless in check mode; returns the module's result."""
    host = Host(module)
    rules = _firewall.rules_of(module.params["rules"])
    before, after, due = {}, {}, []
    for name, kind in KINDS.items():
        firewall = kind(host, module.params, rules if name == module.params["kind"] else [])
        before[name] = firewall.read()
        if firewall.wanted:
            firewall.check()
        after[name] = firewall.plan()
        if firewall.differs():
            due.append(firewall)
    # What is wanted comes first: between two firewalls nothing is closed that shall be open.
    for firewall in sorted(due, key=lambda one: not one.wanted):
        if not module.check_mode:
            firewall.apply()
    return {
        "changed": bool(due),
        "rules": {name: lines for name, lines in after.items() if lines},
        "diff": difference(before, after),
    }


def difference(before: dict[str, list[str]], after: dict[str, list[str]]) -> dict[str, str]:
    """Return both as texts with one rule in each line."""
    texts = [
        _firewall.sequence([f"{name}: {line}" for name, lines in known.items() for line in lines])
        for known in (before, after)
    ]
    return {"before": texts[0], "after": texts[1], "before_header": "our rules", "after_header": "our rules"}


def main() -> None:
    """Read the options, bring the firewall to the wish, return what it lets in."""
    rule = {
        "protocol": {"type": "str", "choices": ["tcp", "udp"], "required": True},
        "first": {"type": "int", "required": True},
        "last": {"type": "int", "required": True},
        "source": {"type": "str", "default": ""},
        "why": {"type": "str", "default": ""},
    }
    module = AnsibleModule(
        argument_spec={
            "kind": {"type": "str", "choices": ["", *KINDS], "required": True},
            "rules": {"type": "list", "elements": "dict", "default": [], "options": rule},
            "address": {"type": "str", "default": ""},
            "zone": {"type": "str", "default": ""},
            "chains": {"type": "list", "elements": "str", "default": []},
            "directory": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except (HostError, _nftables.NftError) as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename} cannot be read or written: {error.strerror}. Mend that, run again.")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
