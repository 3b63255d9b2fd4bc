# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The doctor: from what a verification saw to the causes, each once, with what mends it. No input or output.

The causes are looked for from the root upwards. One that is found takes the failures that follow from it, so that they
are not explained a second time; what is left over at the end is said as the probe and Talk say it.

Words of the probe are recognised by asking `_probe` for them, never by a copy of the text.
"""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import (
    _addresses,
    _holders,
    _internet,
    _nextcloud_answer,
    _ports,
    _probe,
    _proxy,
    _setup_check,
    _talk,
    _trusted,
)
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._nextcloud_answer import Word

ALL = _probe.ALL
LOOPBACK = _addresses.LOOPBACK
CHECK = "check"
CHECK_NAME = "Talk's own check"
BROWSER = "chromium"
SERVER = "server"
# Steps whose media come from Janus itself, those whose media go through coturn, and all that need the programs.
DIRECT = ("direct", "direct-ipv6", "screen", "bitrate")
RELAYED = ("turn-udp", "turn-tcp", "turn-udp-ipv6", "turn-tcp-ipv6", "turn-tls", "turn-443")
CALLS = ("isolation", *DIRECT, *RELAYED)
# Of these one that fails where the backend's own call works has a cause of its own, in Talk.
USER = "user-"
USER_CALLS = (f"{USER}call", f"{USER}turn")
# Seconds between two tries of the signaling server to reach Janus, at the longest (maxReconnectInterval of its
# mcu_janus.go, 32 s; the pauses double), and some for the try itself.
RECONNECT_SECONDS = 40
# Seconds that Talk lets the two clocks differ (OCA\Talk\SetupCheck\HighPerformanceBackend).
CLOCK_SECONDS = 45
# The probe's TURN credentials count for an hour.
TURN_SECONDS = 3500
# Traefik renews 30 days before the end; what is below this was not renewed.
SOON_DAYS = 14

RUN = "ansible-playbook -i inventory nextcloud_talk.hpb."
PROGRAMS = ("nats", "janus", "coturn", "coturn443", "signalling", "traefik")
GUIDE = "docs/troubleshooting.md"
# No finding is without a way on.
LAST_RESORT = f"Run {RUN}logs, which shows the last errors of all programs"
# Wrong requests from which on Nextcloud's delay (6.4 s, doubled by each) fills what the signaling server waits.
DELAYING = 6
# The restart policy with which the containers are made (role container).
POLICY = "always"
# What Traefik's log has to say of certificates.
CERTIFICATES = ("acme", "certificate", "error", "tls")
# Firewalls that the role firewall can open.
OPENED_BY_US = ("ufw", "firewalld", "nftables")
MEMORY = {name: f"{name.rstrip('43')}_memory" for name in PROGRAMS}


@dataclass(frozen=True)
class Finding:
    """One cause: whom it concerns (`all`, or ids of instances), what failed, why, what mends it, what was seen.

    status: failed, or warning where nothing was seen to fail because of it.
    """

    cause: str
    instance: str
    step: str
    what: str
    why: str
    mend: str
    seen: str = ""
    status: str = _probe.FAILED

    @property
    def sentence(self) -> str:
        """The finding in one sentence for people, and the command."""
        return f"{'HPB' if self.instance == ALL else self.instance}, {self.what}: {self.why} {self.mend}"

    def plain(self) -> dict[str, str]:
        """Return it as plain data; `more` is where the documentation has more than a sentence about it."""
        return {**asdict(self), "sentence": self.sentence, "more": f"{GUIDE}#{self.cause}"}


class Case:
    """All evidence, the failures that nothing has explained yet, and the findings so far."""

    def __init__(
        self,
        report: Mapping[str, Any],
        inspection: Mapping[str, Any],
        reaches: Iterable[Mapping[str, Any]],
        context: Mapping[str, Any],
    ) -> None:
        self.inspection = inspection
        self.context = context
        self.instances: dict[str, Mapping[str, Any]] = {item["id"]: item for item in context.get("instances") or []}
        self.reaches = {item["id"]: item for item in reaches if "failed_at" in item}
        self.records = list(report.get("results") or [])
        self.open = [row for row in self.records if row["status"] == _probe.FAILED]
        self.open += [self._checked(item) for item in self.instances.values() if not self.check(item).get("ok", True)]
        self.findings: list[Finding] = []
        # Whether the signaling server is known to be out of reach for everybody.
        self.dark = False

    @staticmethod
    def check(instance: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what Talk's own check came to."""
        return instance.get("check") or {}

    def _checked(self, instance: Mapping[str, Any]) -> dict[str, Any]:
        """Return Talk's own check as a failed step."""
        check = self.check(instance)
        said = str(check.get("sentence", ""))
        cause, mend = str(check.get("cause") or ""), str(check.get("mend") or "")
        place = {"instance": instance["id"], "step": CHECK, "name": CHECK_NAME, "status": _probe.FAILED}
        words = {"cause": f"{cause}." if cause else said, "remedy": f"{mend[:1].upper()}{mend[1:]}." if mend else ""}
        return {**place, "seen": said, **words, "figures": {}}

    def satisfied(self, id_: str) -> bool:
        """Whether Talk itself says that it reaches the signaling server and finds what it needs."""
        check = self.check(self.instances.get(id_, {}))
        return bool(check.get("available")) and bool(check.get("ok"))

    def failed(self, *steps: str, instance: str = "") -> list[Mapping[str, Any]]:
        """Return the failures that are not explained yet, of these steps and of one instance.

        A call fails in Chromium for the reasons for which the probe's own fails on the same way.
        """
        return [
            row
            for row in self.open
            if (not steps or _probe.way(row["step"]) in steps) and (not instance or row["instance"] == instance)
        ]

    def caused(self, causes: Iterable[str], *steps: str) -> list[Mapping[str, Any]]:
        """Return the unexplained failures with one of these causes of the probe."""
        wanted = set(causes)
        return [row for row in self.failed(*steps) if row["cause"] in wanted]

    def found(
        self,
        cause: str,
        rows: Iterable[Mapping[str, Any]],
        why: str,
        mend: str,
        seen: Iterable[str] = (),
        *,
        instance: str = "",
        step: str = "",
        what: str = "",
        warning: bool = False,
    ) -> None:
        """Keep a finding that explains these failures; without failures it needs a place, a step and a name.

        With `warning` it is one unless it explains a failure.
        """
        rows = list(rows)
        status = _probe.WARNING if warning and not rows else _probe.FAILED
        self.open = [row for row in self.open if not any(row is other for other in rows)]
        ids = unique(row["instance"] for row in rows)
        place = instance or (ALL if ALL in ids else ", ".join(ids))
        steps = ", ".join(unique(row["step"] for row in rows)) or step
        names = ", ".join(unique(row["name"] for row in rows)) or what
        evidence = "; ".join(filter(None, seen))
        self.findings.append(Finding(cause, place, steps, names, why, mend or LAST_RESORT, evidence, status))

    # --- the evidence ---

    def part(self, name: str) -> Mapping[str, Any]:
        """Return a part of the inspection, {} when there was none."""
        return self.inspection.get(name) or {}

    def container(self, name: str) -> Mapping[str, Any]:
        """Return what is known of a container, {} when it was not looked at."""
        return self.part("containers").get(name) or {}

    def called(self, name: str) -> str:
        """Return what a container is called in the engine."""
        return str(self.container(name).get("name") or name)

    @property
    def host(self) -> str:
        """The HPB's host as the inventory has it."""
        return str(self.context.get("hpb_host") or "the HPB host")

    @property
    def domain(self) -> str:
        """The name at which the backend is reached."""
        return str(self.context.get("domain") or "")

    def public_addresses(self) -> set[str]:
        """Return where the backend's name leads to, as those see it who have asked."""
        found = {address for reach in self.reaches.values() for address in reach.get("addresses") or []}
        pin = (self.context.get("resolve") or {}).get(self.domain)
        return {pin} if pin else found

    def proxy_of(self, addresses: Iterable[str]) -> str:
        """Return whose proxy in the internet one of these addresses is, "" for nobody's."""
        further = list(self.context.get("cdn") or [])
        return next((whose for address in addresses if (whose := _internet.cdn(address, further))), "")

    def host_addresses(self) -> set[str]:
        """Return all addresses that are the host's own or stand for it."""
        configured = {str(self.context.get("public_ip") or ""), self.media_address()}
        return (set(self.inspection.get("addresses") or []) | configured) - {""}

    def coming(self) -> list[str]:
        """Return the addresses with which the HPB comes to others."""
        return sorted(one for one in self.host_addresses() | self.public_addresses() if not is_bridge(one))

    def media_address(self) -> str:
        """Return the host's address for media, as the inventory or else coturn's configuration has it."""
        listening = str(self.part("coturn").get("listening") or "")
        return str(self.context.get("media_ip") or "") or ("" if listening.startswith("127.") else listening)

    def log(self, name: str, about: Sequence[str] = ()) -> str:
        """Return the last lines of a container's log as evidence, those that speak of one of these things alone."""
        lines = self.container(name).get("log") or []
        if about:
            lines = [line for line in lines if any(word in line.lower() for word in about)]
        return f"log of {name}: {' | '.join(line[:200] for line in lines[-2:])}" if lines else ""

    def rules(self, ports: Iterable[str], rows: Iterable[Mapping[str, Any]] = ()) -> list[str]:
        """Return the rules of the HPB's own host that stop any of these ports, such as `udp 3478`, for these steps."""
        # What Docker passes on by itself never comes to these rules.
        if self.context.get("profile") == "bridge":
            return []
        rows = list(rows)
        only = {_probe.family_of_step(row["step"]) for row in rows} if rows else {"ipv4", "ipv6"}
        wanted = set(ports)
        stops = self.part("firewall").get("stops") or []
        return unique(stop["rule"] for stop in stops if stop["ports"] in wanted and stop["family"] in only)

    def opened(self, ports: Sequence[str], rules: Sequence[str]) -> str:
        """Return how ports are opened: on the HPB's own host where its rules stop them, else before it."""
        what = and_ports(ports)
        if not rules:
            return f"In the firewall before {self.host}, or of the controller's network: open {what}"
        kind = str(self.part("firewall").get("kind") or "")
        by_us = f", or let us do it: hpb_firewall: {kind} and {RUN}firewall" if kind in OPENED_BY_US else ""
        return f"In the firewall of {self.host} itself ({' | '.join(rules[:2])}): open {what}{by_us}"

    def blocked(self, cause: str, rows: Sequence[Mapping[str, Any]], why: str, ports: Sequence[str]) -> None:
        """Keep the finding that a firewall keeps the backend's ports closed."""
        rules, programs = self.rules(ports, rows), self.part("firewall").get("programs") or []
        seen = f"rules on {self.host}: {' | '.join(rules[:4])}" if rules else ""
        seen = seen or (f"no rule on {self.host} itself stops them ({', '.join(programs)})" if programs else "")
        self.found(cause, rows, why, self.opened(ports, rules), [seen], instance=ALL)

    def occ(self, id_: str, arguments: str) -> str:
        """Return a command of occ for the host of an instance as a remedy, as occ is reached there."""
        return f"On {reach_host(self, id_)}: {self.instances.get(id_, {}).get('occ') or 'occ'} {arguments}"

    def counted(self, id_: str) -> Mapping[str, int]:
        """Return for which addresses a Nextcloud has counted how many requests with a wrong secret, as far as asked."""
        return (self.instances.get(id_, {}).get("attempts") or {}).get("counted") or {}

    def forgotten(self, id_: str, counted: Iterable[str]) -> str:
        """Return how a Nextcloud is made to forget what it has counted for these addresses, or for the HPB's."""
        addresses = list(counted) or sorted(self.public_addresses()) or self.coming()
        begin = self.occ(id_, "security:bruteforce:reset")
        again = begin.partition(": ")[2]
        return f"{begin} " + f" && {again} ".join(addresses or ["ADDRESS_OF_THE_HPB"])

    def on_host(self, command: str) -> str:
        """Return a command for the HPB's host as a remedy."""
        return f"On {self.host}: {command}"


def unique(items: Iterable[Any]) -> list[Any]:
    """Return the items without repetitions, in their order."""
    return list(dict.fromkeys(items))


def then(text: str) -> str:
    """Return a remedy as it stands inside of a sentence."""
    return text[:1].lower() + text[1:]


def and_ports(ports: Iterable[str]) -> str:
    """Return ports such as `udp 3478` as text, the same ones of both protocols as one."""
    found: dict[str, list[str]] = {}
    for text in ports:
        protocol, _space, span = text.partition(" ")
        found.setdefault(span, []).append(protocol)
    return ", ".join(f"{'+'.join(unique(protocols))} {span}" for span, protocols in found.items())


def and_list(items: Iterable[Any]) -> str:
    """Return sorted items as text."""
    return ", ".join(sorted({str(item) for item in items}))


# --- the programs --------------------------------------------------------------------------------------------------


def silent(case: Case, name: str) -> str:
    """Return how a program that runs does not do its work, "" when it does or nothing is known of it."""
    if name == "nats" and case.part("nats").get("healthz", 200) != 200:
        return "runs, but does not answer on its monitoring port"
    if name == "janus" and case.part("janus").get("upgrade", "101") != "101":
        janus = case.part("janus")
        place = f"{janus.get('address', LOOPBACK)}:{janus.get('port', 8188)}"
        return f"runs, but takes no websocket on {place} ({janus['upgrade']})"
    coturn = case.part("coturn")
    if name == "coturn" and coturn.get("stun"):
        return f"runs, but does not answer on {coturn.get('listening')}:{coturn.get('port')} ({coturn['stun']})"
    if name == "signalling" and case.part("signalling").get("status", 200) != 200:
        signalling = case.part("signalling")
        return f"runs, but does not answer on {signalling.get('address', LOOPBACK)}:{signalling.get('port', 8080)}"
    if name == "traefik" and case.part("certificate").get("kind") == "refused":
        return "runs, but nothing listens on port 443"
    return ""


# The variables of each program's ports; "": those of the web.
HELD = {
    "nats": (_ports.NATS[0], _ports.NATS_MONITOR[0]),
    "janus": (_ports.JANUS[0],),
    "coturn": (_ports.TURN[0], _ports.TURN_TLS[0]),
    "coturn443": (_ports.TURN_PROXY[0],),
    "signalling": (_ports.SIGNALING[0],),
    "traefik": ("", _ports.FORM[0], _ports.PING[0]),
}


def held(case: Case, name: str) -> dict[str, _holders.Holder]:
    """Return who holds ports of a program that does not run, as `tcp/443`."""
    settings = case.context.get("used_ports")
    uses = _ports.uses(settings) if settings else []
    own = {f"{what}/{first}" for use in uses if use.variable in HELD[name] for what, first, _last in use.spans}
    holders = case.part("held").get("holders") or {}
    return {port: _holders.Holder(**who) for port, who in holders.items() if port in own}


def ailment(case: Case, name: str) -> tuple[str, str]:
    """Return what is wrong with a container and what mends it, twice "" when nothing is."""
    why, mend = of_its_own(case, name)
    taken = held(case, name) if why and case.container(name).get("state") != "running" else {}
    if not taken:
        return why, mend
    # To start it would only end with the same.
    beside = _holders.problems(taken, case.context["used_ports"], case.part("held").get("busy") or [])
    who = and_list(one.text for one in taken.values())
    return f"{why.rstrip('.')}, and {who} has its ports now.", (
        f"{' '.join(beside)} Where ours is to have them again, stop what has them and run {RUN}deploy"
    )


def of_its_own(case: Case, name: str) -> tuple[str, str]:
    """Return what a container itself says is wrong with it and what mends that, twice "" when nothing is."""
    state = case.container(name)
    status, memory = state.get("state", ""), MEMORY.get(name, "its memory")
    deploy = f"{RUN}deploy"
    if status == "missing":
        return f"The container {name} of the backend does not exist.", f"Run {deploy}"
    how = silent(case, name) if status == "running" else ""
    name = case.called(name)
    if state.get("oom_killed") and status != "running":
        return f"{name} was killed for want of memory.", f"Raise {memory}, then run {deploy}"
    if status == "restarting":
        code = state.get("exit_code")
        return (
            f"{name} ends again and again right after its start (code {code}).",
            f"Mend what its log says, then run {deploy}",
        )
    if status == "paused":
        return f"{name} is paused.", case.on_host(f"docker unpause {name}")
    if status == "created":
        return f"{name} was never started{': ' + state['error'] if state.get('error') else ''}.", f"Run {deploy}"
    if status in ("exited", "dead"):
        why = f"{name} is stopped (code {state.get('exit_code')}{', ' + state['error'] if state.get('error') else ''})."
        if state.get("restart_policy") in ("", None, POLICY):
            return why, case.on_host(f"docker start {name}")
        why = f"{why[:-1]}, and its restart policy is {state['restart_policy']}, so it stays so after a boot."
        return why, case.on_host(f"docker update --restart {POLICY} {name} && docker start {name}")
    return (f"{name} {how}.", case.on_host(f"docker restart {name}")) if how else ("", "")


AFTER = {
    "nats": ("welcome", "closed", "websocket", "request", "hello", *CALLS, *USER_CALLS, CHECK),
    "janus": ("welcome", "closed", "websocket", "request", "hello", *CALLS, *USER_CALLS, CHECK),
    "coturn": ("turn-udp", "turn-tcp", "turn-udp-ipv6", "turn-tcp-ipv6", "turn-tls", "user-turn"),
    "coturn443": ("turn-443",),
    "signalling": ("welcome", "closed", "websocket", "request", "hello", *CALLS, *USER_CALLS, CHECK),
    "traefik": ("welcome", "closed", "websocket", "request", "hello", *CALLS, *USER_CALLS, CHECK),
}
NAMES = {
    "nats": "NATS",
    "janus": "Janus",
    "coturn": "TURN server",
    "coturn443": "TURN server for port 443",
    "signalling": "signaling server",
    "traefik": "proxy",
}


def engine(case: Case) -> None:
    """The engine does not answer, so nothing runs."""
    error = case.inspection.get("engine_error")
    rows = [row for row in case.failed() if row["step"] not in (CHECK, "features")]
    if error and rows:
        case.dark = True
        why = f"Docker does not answer on {case.host}: {error}."
        mend = case.on_host("systemctl restart docker")
        case.found("engine-down", case.failed(), why, mend, instance=ALL)


def programs(case: Case) -> None:
    """A program is stopped, missing, in a loop, or silent. The signaling server waits for NATS and for Janus."""
    # What ails already explains why those do not work that need it.
    waiting = False
    for name in PROGRAMS:
        why, mend = ailment(case, name)
        if (
            not why
            or name == "signalling"
            and waiting
            and case.container(name).get("state") in ("running", "restarting")
        ):
            continue
        waiting = waiting or name in ("nats", "janus")
        case.dark = case.dark or not name.startswith("coturn")
        seen = [started(case, name), case.log(name)]
        place = {"instance": ALL, "step": SERVER, "what": NAMES[name]}
        case.found(f"{name}-down", case.failed(*AFTER[name]), why, mend, seen, **place)


def policies(case: Case) -> None:
    """A container that runs would not come back after a boot, as its restart policy was changed by hand."""
    found: dict[str, list[str]] = {}
    for name in PROGRAMS:
        state = case.container(name)
        policy = state.get("restart_policy") or POLICY
        if policy != POLICY and state.get("state") == "running":
            found.setdefault(policy, []).append(case.called(name))
    for policy, names in found.items():
        why = (
            f"The restart policy of {' and '.join(names)} is {policy}, expected {POLICY}: what has it may stay away "
            "after a boot or a failure."
        )
        mend = f"Run {RUN}deploy, or {then(case.on_host(f'docker update --restart {POLICY} ' + ' '.join(names)))}"
        place = {"instance": ALL, "step": SERVER, "what": "restart after a boot", "warning": True}
        case.found("restart-policy", [], why, mend, **place)


def started(case: Case, name: str) -> str:
    """Return since when a container runs or does not."""
    state = case.container(name)
    if state.get("state") == "running":
        return f"started {state.get('started_at')}, {state.get('health') or 'no health check'}"
    ended = state.get("finished_at") or ""
    return f"ended {ended}" if ended and not ended.startswith("0001") else ""


def connections(case: Case) -> None:
    """The signaling server runs, and so do NATS and Janus, but it is not connected to one of them."""
    if case.dark:
        return
    info = case.part("signalling").get("serverinfo") or {}
    nats = info.get("nats") or {}
    if nats.get("connected") is False or case.part("nats").get("connections") == 0:
        case.dark = True
        why = "The signaling server is not connected to NATS although NATS runs."
        seen = [f"connections at NATS: {case.part('nats').get('connections')}", case.log("signalling")]
        mend = case.on_host(f"docker restart {case.called('signalling')}")
        case.found("nats-lost", case.failed(*AFTER["nats"]), why, mend, seen, instance=ALL, step=SERVER, what="NATS")
    janus = (info.get("sfu") or {}).get("janus") or {}
    features = case.part("signalling").get("features")
    if janus.get("connected") is False or features and "mcu" not in features:
        case.dark = True
        why = "The signaling server is not connected to Janus although Janus runs."
        mend = case.on_host(f"docker restart {case.called('signalling')}")
        seen = [case.log("signalling")]
        case.found("janus-lost", case.failed(*AFTER["janus"]), why, mend, seen, instance=ALL, step=SERVER, what="Janus")


def janus_back(case: Case) -> None:
    """Janus was started after the signaling server and a moment ago: that comes back to it after a pause of its own."""
    janus, server = (_moment(case.container(name).get("started_at")) for name in ("janus", "signalling"))
    began = case.context.get("time") or case.inspection.get("time") or 0
    rows = case.failed(*CALLS, *USER_CALLS)
    # Who has come as far as media has met Janus.
    unmet = [row for row in case.failed(*DIRECT) if "ice" not in row["figures"]]
    if case.dark or not unmet or not janus > server or not -60 < began - janus < RECONNECT_SECONDS:
        return
    why = (
        f"Janus was started {max(int(began - janus), 0)} s before this verification, and the signaling server comes "
        f"back to it within {RECONNECT_SECONDS} s."
    )
    mend = f"Run {RUN}verify again in half a minute, or on {case.host}: docker restart {case.called('signalling')}"
    place = {"instance": ALL, "step": SERVER, "what": "Janus"}
    case.found("janus-back", rows, why, mend, [started(case, "janus")], **place)


def _moment(time: Any) -> float:
    """Return a time that the engine tells (RFC 3339, in UTC) in Unix seconds, 0 for none."""
    try:
        whole = datetime.datetime.strptime(str(time)[:19], "%Y-%m-%dT%H:%M:%S")
    except ValueError:
        return 0.0
    return whole.replace(tzinfo=datetime.timezone.utc).timestamp()


# --- clocks and certificates ---------------------------------------------------------------------------------------


def clock(case: Case) -> None:
    """A clock is wrong; which one it is, two others say."""
    here, there = case.context.get("time"), case.inspection.get("time")
    host = there - here if here and there else 0.0
    nextclouds = {id_: reach["seconds_off"] for id_, reach in case.reaches.items() if "seconds_off" in reach}
    # Those that disagree with the HPB in the same way as the controller does.
    agreeing = [id_ for id_, off in nextclouds.items() if abs(off + host) <= CLOCK_SECONDS]
    if abs(host) > CLOCK_SECONDS and (agreeing or not nextclouds):
        rows = case.failed(CHECK) + (turn_refused(case) if abs(host) > TURN_SECONDS else []) + token_times(case)
        certificates = case.caused(certificate_words(case, 9, 10), "welcome", "websocket")
        why = f"The clock of {case.host} is {ahead(host)}; Talk takes {CLOCK_SECONDS} s."
        mend = case.on_host("timedatectl set-ntp true")
        seen = [f"{id_}: {ahead(off)} against the HPB" for id_, off in nextclouds.items()]
        case.found("clock", rows + certificates, why, mend, seen, instance=ALL, step=SERVER, what="clock")
        return
    if abs(host) > CLOCK_SECONDS:
        why = f"The clock of the controller is {ahead(-host)}, its Nextclouds and the HPB agree."
        rows = turn_refused(case) + case.caused(certificate_words(case, 9, 10))
        case.found(
            "clock-controller", rows, why, "On the controller: timedatectl set-ntp true", instance=ALL, what="clock"
        )
    for ids in machines(case, [id_ for id_, off in nextclouds.items() if abs(off) > CLOCK_SECONDS]):
        name = reach_host(case, ids[0])
        why = f"The clock of its host {name} is {ahead(nextclouds[ids[0]])}; Talk takes {CLOCK_SECONDS} s."
        seen = [f"header Date of {case.context.get('url')}"]
        rows = [row for id_ in ids for row in case.failed(CHECK, instance=id_) + token_times(case, id_)]
        place = {"instance": ", ".join(ids), "step": CHECK, "what": "clock"}
        case.found("clock", rows, why, f"On {name}: timedatectl set-ntp true", seen, **place)


def machines(case: Case, ids: Iterable[str]) -> list[list[str]]:
    """Return the ids in groups of those whose Nextclouds are on one machine, which has one set of addresses."""
    groups: dict[Any, list[str]] = {}
    for id_ in ids:
        own = case.reaches[id_].get("own_addresses")
        groups.setdefault(tuple(own) if own else reach_host(case, id_), []).append(id_)
    return list(groups.values())


def ahead(seconds: float) -> str:
    """Return how a clock differs, in words."""
    return f"{abs(seconds):.0f} s {'ahead' if seconds > 0 else 'behind'}"


def reach_host(case: Case, id_: str) -> str:
    """Return the host from which an instance was asked."""
    return str(case.reaches.get(id_, {}).get("host") or case.instances.get(id_, {}).get("host") or id_)


def turn_refused(case: Case) -> list[Mapping[str, Any]]:
    """Return the calls whose TURN credential was refused."""
    return [row for row in case.failed(*CALLS) if allocation(row) == "401"]


def token_times(case: Case, instance: str = "") -> list[Mapping[str, Any]]:
    """Return the users' tokens that were refused for their time."""
    return [row for row in case.failed("user-hello-v2", instance=instance) if row["cause"].startswith("The clock of ")]


def certificate_words(case: Case, *codes: int) -> list[str]:
    """Return how the probe speaks of a certificate of the signaling server with these verification codes."""
    words = []
    for code in codes:
        error = ssl.SSLCertVerificationError()
        error.verify_code, error.verify_message = code, VERIFY_MESSAGES[code]
        words.append(_probe.bad_certificate(error, urlsplit(str(case.context.get("url") or "")).netloc).cause)
    return words


VERIFY_MESSAGES = {
    9: "certificate is not yet valid",
    10: "certificate has expired",
    62: "Hostname mismatch",
}


def renewal(case: Case) -> str:
    """Return how the certificate is renewed, as the inventory has it."""
    kind = case.context.get("tls")
    if kind == "files":
        return f"Renew the certificate that hpb_tls_certificate names, then run {RUN}deploy"
    if kind == "private_ca":
        return f"Run {RUN}deploy"
    if kind == "proxy":
        return f"Renew the certificate of {case.domain} on your proxy"
    return (
        f"Let port 80 of {case.domain} be reached from the internet, then on {case.host}: docker restart "
        f"{case.called('traefik')} (its log says what Let's Encrypt answered)"
    )


def certificates(case: Case) -> None:
    """The backend's certificate has expired or is for another name."""
    if held(case, "traefik"):
        # What is shown is somebody else's.
        return
    shown = case.part("certificate")
    seen_by = {id_: (reach.get("certificate") or {}).get("kind", "") for id_, reach in case.reaches.items()}
    now = case.context.get("time") or case.inspection.get("time") or 0
    rows = case.failed(*AFTER["traefik"])
    ended = shown.get("not_after") or 0
    old = case.caused(certificate_words(case, 10)) or [id_ for id_, kind in seen_by.items() if kind == "expired"]
    if ended and now and ended < now or old and not ended:
        since = f" for {lasting(now - ended)}" if ended else ""
        why = f"The certificate of {case.domain} has expired{since}."
        case.dark = True
        seen = [case.log("traefik", CERTIFICATES)]
        case.found("certificate-expired", rows, why, renewal(case), seen, instance=ALL, step=SERVER, what="certificate")
        return
    names = shown.get("names") or []
    other = case.caused(certificate_words(case, 62)) or [id_ for id_, kind in seen_by.items() if kind == "wrong_name"]
    if names and not covers(names, case.domain) or other and not names:
        case.dark = True
        why = f"The certificate that is shown for {case.domain} is for {and_list(names) or 'another name'}."
        mend = f"Correct hpb_domain or get a certificate for {case.domain}. {renewal(case)}"
        case.found(
            "certificate-name",
            rows,
            why,
            mend,
            [case.log("traefik", CERTIFICATES)],
            instance=ALL,
            step=SERVER,
            what="certificate",
        )


def turn_certificate(case: Case) -> None:
    """coturn has no certificate for TLS, an old one, or one for another name."""
    coturn = case.part("coturn")
    shown, name = coturn.get("certificate") or {}, str(coturn.get("realm") or "")
    if not shown or shown.get("kind") in ("refused", "timeout", "unreachable"):
        return
    rows = [row for row in case.failed("turn-tls") if allocation(row) in ("certificate", "no tls")]
    now, ended = case.context.get("time") or case.inspection.get("time") or 0, shown.get("not_after") or 0
    place = {"instance": ALL, "step": SERVER, "what": "certificate of TURN"}
    if shown.get("error"):
        why = f"coturn has no certificate to speak TLS with on port {coturn.get('tls_port')}."
        mend = case.on_host("systemctl start nextcloud-talk-hpb-turn-certificate (its status says what is missing)")
        case.found(
            "turn-certificate-missing",
            rows,
            why,
            mend,
            [case.log("traefik", CERTIFICATES), case.log("coturn")],
            **place,
        )
    elif now and ended < now:
        why = f"The certificate with which coturn speaks TLS has expired for {lasting(now - ended)}."
        case.found("turn-certificate-expired", rows, why, renewal(case), [case.log("coturn")], **place)
    elif not covers(shown.get("names") or [], name):
        why = f"The certificate with which coturn speaks TLS is for {and_list(shown['names'])}, not for {name}."
        mend = f"Correct hpb_turn_domain or get a certificate for {name}. {renewal(case)}"
        case.found("turn-certificate-name", rows, why, mend, [case.log("coturn")], **place)
    elif now and ended - now < case.context.get("certificate_days", SOON_DAYS) * 86400:
        why = f"The certificate with which coturn speaks TLS ends in {lasting(ended - now)}."
        case.found("turn-certificate-soon", rows, why, renewal(case), [case.log("traefik", CERTIFICATES)], **place)


def lasting(seconds: float) -> str:
    """Return how long that is, in whole days, hours below two days, or minutes below two hours."""
    for unit, length, least in (("day", 86400, 2 * 86400), ("hour", 3600, 7200), ("minute", 60, 0)):
        if seconds >= least:
            count = max(1, int(seconds / length + 0.5))
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return "1 minute"


def covers(names: Iterable[str], domain: str) -> bool:
    """Whether a certificate with these names holds for the domain (a wildcard stands for one label, RFC 9525)."""
    domain = domain.lower()
    return any(name.lower() in (domain, f"*.{domain.partition('.')[2]}") for name in names)


# --- the proxy, and what the server refuses ------------------------------------------------------------------------


def throttled(case: Case) -> None:
    """The signaling server has locked an address out after too many refusals."""
    words = [_probe.session_refused("too_many_requests", "").cause]
    own = case.caused(words)
    away = [id_ for id_, reach in case.reaches.items() if (reach.get("request") or {}).get("status") == 429]
    mend = (
        "Wait half an hour, or at once, which ends running calls, "
        f"on {case.host}: docker restart {case.called('signalling')}. Then look for who sends a wrong secret from there"
    )
    if own:
        case.found(
            "throttled",
            own,
            "The signaling server has locked out the address of the controller (429).",
            mend,
            instance=ALL,
        )
    for id_ in away:
        why = f"The signaling server has locked out the address of its host {reach_host(case, id_)} (429)."
        case.found(
            "throttled", case.failed(CHECK, instance=id_), why, mend, instance=id_, step=CHECK, what="signed request"
        )
    if own or away:
        # What the lock kept from being seen is not guessed at.
        case.reaches = {id_: reach for id_, reach in case.reaches.items() if id_ not in away}


def proxy(case: Case) -> None:
    """The proxy loses headers or the upgrade to a websocket, while the signaling server itself has them."""
    if case.dark:
        return
    inner = case.part("signalling")
    bare = [row for row in case.failed("welcome") if "version" in row["figures"] and not row["figures"].get("features")]
    lossy = [
        id_
        for id_, reach in case.reaches.items()
        if reach.get("kind") == "features" and reach.get("failed_at") in ("welcome", "request")
    ]
    if inner.get("features") and (bare or lossy):
        case.dark = case.dark or bool(bare)
        post = not bare and all(case.reaches[id_]["failed_at"] == "request" for id_ in lossy)
        why = (
            f"The proxy before the signaling server drops the header X-Spreed-Signaling-Features"
            f"{' from answers to POST' if post else ''}; on {case.host} itself it is there."
        )
        mend = "Let your own proxy pass on all headers of the answer (nginx: without proxy_hide_header)"
        rows = bare + [row for row in case.failed(CHECK) if not lossy or row["instance"] in lossy]
        seen = [f"features on {case.host}: {', '.join(inner['features'])}"]
        case.found("proxy-features", rows, why, mend, seen, instance=ALL, step="welcome", what="signaling server")
    host = urlsplit(str(case.context.get("url") or "")).netloc
    words = {_probe.no_websocket(status, host).cause for status in (200, 400, 403, 404, 405, 426, 500, 501)}
    rows = [row for row in case.failed() if row["cause"] in words or f"https://{host}/spreed does not" in row["cause"]]
    if rows and inner.get("upgrade") == "101":
        why = f"The proxy does not pass on the websocket of https://{host}/spreed; on {case.host} itself it is taken."
        mend = (
            "Give the proxy HTTP/1.1 and the headers Upgrade and Connection for /spreed "
            "(nginx: proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; "
            "proxy_set_header Connection upgrade)"
        )
        case.found("proxy-websocket", rows, why, mend, [f"seen: {rows[0]['cause']}"], instance=ALL)


def not_private(case: Case) -> None:
    """The proxy passes on what is for the host itself: a path, or Janus' events."""
    for row in case.failed("closed"):
        if "events" in row["figures"]:
            taken = row["figures"]["events"]["taken"]
            case.found("event-door" if taken else "private-paths", [row], row["cause"], closing(case), instance=ALL)


def closing(case: Case) -> str:
    """Return what lets the proxy that is there pass on no more than it has to."""
    kind, folder = str(case.context.get("proxy") or ""), case.context.get("proxy_dir")
    deploy = f"Run {RUN}deploy"
    if kind == "own":
        return f"{deploy}, which gives our Traefik its routes anew, and let {case.domain} lead to it and nothing else"
    if kind == _proxy.FORM:
        target = case.context.get("proxy_target")
        return f"Let your proxy pass {case.domain} on to {target}, our Traefik, and nowhere else, see {folder}/form.txt"
    if kind == "traefik_labels":
        return (
            f"{deploy}, which gives the container signalling its labels anew, and let your Traefik route by them alone"
        )
    name, reload = _proxy.FILES.get(kind, ("", ""))
    if not name:
        return (
            f"{deploy}, which writes the files in {folder} anew, then let your proxy take its own and reload it; for "
            f"one that takes no file, such as Nginx Proxy Manager, set hpb_proxy: {_proxy.FORM}"
        )
    how = f": {reload}" if reload else f", from the directory of its file provider: put {name} there again"
    return f"{deploy}, which writes {folder}/{name} anew, then let your proxy read that, and nothing beside it{how}"


def too_old(case: Case) -> None:
    """The signaling server lacks what the Nextcloud's Talk requires."""
    for row in case.failed("features"):
        # Servers that are older still tell their clients less of each other.
        rows = [row, *case.failed(CHECK, "isolation", instance=row["instance"])]
        mend = f"{row['remedy']} Then run {RUN}deploy"
        seen = [f"missing: {', '.join(row['figures'].get('missing_required') or [])}"]
        case.found("signaling-too-old", rows, row["cause"], mend, seen)


def session_limit(case: Case) -> None:
    """An instance has as many sessions as it may have."""
    words = _probe.session_refused("session_limit_exceeded", "").cause.rstrip(".")
    sessions = case.part("signalling").get("sessions") or {}
    for id_ in case.instances:
        entry = sessions.get(id_) or {}
        full = entry.get("limit", 0) > 0 and entry.get("sessions", 0) >= entry["limit"]
        rows = [row for row in case.failed("hello", instance=id_) if row["cause"].startswith(words)]
        if full or rows:
            count = f" ({entry['sessions']} of {entry['limit']})" if full else ""
            why = f"All sessions that the instance may have are in use{count}; whoever comes next is refused."
            mend = f"Raise talk_session_limit of {id_}, then run {RUN}deploy (no call is dropped)"
            seen = [f"refused so far: {entry['refused']}" if entry.get("refused") else ""]
            case.found("session-limit", rows, why, mend, seen, instance=id_, step="hello", what="sessions")


# --- between the two servers ---------------------------------------------------------------------------------------


def maintenance(case: Case) -> None:
    """The Nextcloud is in maintenance, or waits for its upgrade."""
    for id_, instance in case.instances.items():
        facts = instance.get("nextcloud") or {}
        evidence = case.part("nextclouds").get(id_) or {}
        inside = evidence.get("inside") or {}
        said = (evidence.get("answer") or {}).get("headers") or {}
        rows = case.failed("hello", CHECK, instance=id_)
        place = {"instance": id_, "step": "hello", "what": "way to the Nextcloud"}
        if facts.get("maintenance") or inside.get("maintenance") or "x-nextcloud-maintenance-mode" in said:
            mend = case.occ(id_, "maintenance:mode --off")
            case.found("maintenance", rows, "The Nextcloud is in maintenance mode.", mend, **place)
        elif facts.get("needs_upgrade"):
            mend = case.occ(id_, "upgrade")
            case.found("needs-upgrade", rows, "The Nextcloud waits for its upgrade.", mend, **place)


def misnamed(case: Case) -> None:
    """The inventory has an address of which the Nextcloud knows nothing, while it has one of its own."""
    for id_, instance in case.instances.items():
        wrong = unknown_there(case, id_)
        if not wrong:
            continue
        own = str(instance["nextcloud"]["overwrite_cli_url"]).rstrip("/")
        variable = "talk_url" if str(instance.get("url", "")).rstrip("/") in wrong else "talk_urls"
        why = (
            f"The inventory has it at {' and '.join(wrong)}, but the Nextcloud calls itself {own} (overwrite.cli.url) "
            "and has no such name among its trusted domains."
        )
        mend = f"Set talk_url: {own} for it" if variable == "talk_url" else f"Correct talk_urls of {id_}"
        rows = case.failed("hello", CHECK, instance=id_)
        place = {"instance": id_, "step": "hello", "what": "address of the Nextcloud"}
        case.found("talk-url", rows, why, f"{mend} in the inventory, then run {RUN}deploy", **place)


def unknown_there(case: Case, id_: str) -> list[str]:
    """Return those addresses of an instance of which its Nextcloud, which has one of its own, knows nothing."""
    instance = case.instances.get(id_) or {}
    facts = instance.get("nextcloud") or {}
    urls = [str(url).rstrip("/") for url in instance.get("urls") or [instance.get("url", "")]]
    cli_url, host = (str(facts.get(name) or "") for name in ("overwrite_cli_url", "overwritehost"))
    return _trusted.misnamed(urls, cli_url, facts.get("trusted_domains") or [], host)


def own_address(case: Case) -> None:
    """The Nextcloud calls itself by an address that the signaling server does not know, or is told one with http."""
    for id_, instance in case.instances.items():
        urls = [str(url).rstrip("/") for url in instance.get("urls") or [instance.get("url", "")]]
        own = str((instance.get("nextcloud") or {}).get("overwrite_cli_url") or "").rstrip("/")
        rows = case.failed(CHECK, instance=id_)
        place = {"instance": id_, "step": CHECK, "what": "address of the Nextcloud"}
        mend = case.occ(id_, f"config:system:set overwrite.cli.url --value={urls[0]}")
        if own and own.lower() not in {url.lower() for url in urls} and not unknown_there(case, id_):
            kind = "http" if own.lower().startswith("http://") else "address"
            why = (
                f"overwrite.cli.url is {own}, with http instead of https, so"
                if kind == "http"
                else f"overwrite.cli.url is {own}, which the signaling server does not know, so"
            )
            why += f" what its cron sends is refused with 403; expected {' or '.join(urls)}."
            case.found("cli-url-http" if kind == "http" else "cli-url", rows, why, mend, **place)
        for server in (instance.get("talk") or {}).get("signaling_servers") or []:
            parts = urlsplit(str(server.get("server", "")).lower())
            if parts.scheme in ("http", "ws") and parts.hostname == case.domain.lower():
                why = f"Talk has the signaling server as {server['server']}, without encryption; browsers refuse that."
                mend = f"{RUN}register -e instance={id_}"
                case.found("signaling-http", rows, why, f"Run {mend}", **{**place, "what": "signaling server in Talk"})


def foreign_signaling(case: Case) -> None:
    """Talk has a signaling server of others, beside ours or alone; for each call it picks one of those that it has."""
    # Ours without encryption is another finding.
    ours = _talk.same_url(str(case.context.get("url") or ""))
    own = (ours, ours.replace("https://", "http://", 1))
    for id_, instance in case.instances.items():
        servers = [str(one.get("server", "")) for one in (instance.get("talk") or {}).get("signaling_servers") or []]
        mine = {server for server in servers if _talk.same_url(server) in own}
        others = unique(server for server in servers if server not in mine)
        if not others:
            continue
        named = f"{' and '.join(others)} as signaling server{'s' if len(others) > 1 else ''}"
        register = f"run {RUN}register -e instance={id_}"
        begin = case.occ(id_, "talk:signaling:delete")
        again = begin.partition(": ")[2]
        if mine:
            why = f"Talk has {named} beside ours. A call for which it picks another one than ours does not come here."
        else:
            why = f"Talk has {named} and not ours, so no call of its users comes here."
        remedy = f"{begin} " + f" && {again} ".join(others)
        mend = f"{remedy}, or set talk_exclusive: true for it and {register}"
        if not mine:
            mend = f"{register[:1].upper()}{register[1:]}. Then {then(remedy)}"
        rows = [row for row in case.failed(CHECK, instance=id_) if row["cause"] == f"{_setup_check.SEVERAL}."]
        place = {"instance": id_, "step": CHECK, "what": "signaling servers in Talk", "warning": True}
        case.found("foreign-signaling", rows, why, mend, **place)


def turn_in_talk(case: Case) -> None:
    """Talk has TURN servers of others only, or none, so nobody is told of ours."""
    ours = _talk.same_address(str(case.context.get("turn_server") or ""))
    for id_, instance in case.instances.items():
        entries = (instance.get("talk") or {}).get("turn_servers")
        if not ours or entries is None:
            continue
        servers = unique(str(one.get("server", "")) for one in entries)
        if ours in map(_talk.same_address, servers):
            continue
        has = f" (it has {' and '.join(servers)})" if servers else ""
        why = (
            f"Talk does not have our TURN server {ours}{has}, so who comes from a network that lets no media through "
            "by udp is neither seen nor heard."
        )
        rows = case.failed("user-turn", instance=id_)
        place = {"instance": id_, "step": CHECK, "what": "TURN servers in Talk", "warning": True}
        case.found("turn-not-in-talk", rows, why, f"Run {RUN}register -e instance={id_}", **place)


def brute_force(case: Case) -> None:
    """A Nextcloud delays or refuses the HPB, since it has counted wrong secrets of its address."""
    for id_, instance in case.instances.items():
        url = str(instance.get("url", ""))
        refused = _probe.hello(url, "internal_error", "throttled").cause
        late = {_probe.hello(url, "timeout", "").cause, _probe.hello(url, "internal_error", "deadline exceeded").cause}
        rows = [row for row in case.failed("hello", instance=id_) if row["cause"] in late | {refused}]
        counted = case.counted(id_)
        answer = (case.part("nextclouds").get(id_) or {}).get("answer") or {}
        # A question that is not the signaling server's own is not delayed: what does not answer it has another reason.
        delays = max(counted.values(), default=0) >= DELAYING and not answer.get("stage")
        if not rows or rows[0]["cause"] != refused and not delays:
            continue
        why = (
            "The Nextcloud's brute force protection refuses the HPB (429), after too many requests with a wrong secret."
        )
        if counted:
            address, number = max(counted.items(), key=lambda item: (item[1], item[0]))
            does = "refuses the HPB (429)" if rows[0]["cause"] == refused else late_by(number)
            why = (
                f"The Nextcloud has counted {number} requests with a wrong secret from {address} in 12 hours, so its "
                f"brute force protection {does}."
            )
        behind, first = behind_refusals(case, id_, counted)
        forgotten = case.forgotten(id_, counted)
        mend = f"{first}{then(forgotten)}" if first else forgotten
        case.found("brute-force", rows, f"{why}{behind}", mend, [f"counted: {counted}"] if counted else [])


def late_by(number: int) -> str:
    """Return how long Nextcloud delays an answer after so many wrong requests (OC\\Security\\Bruteforce\\Throttler)."""
    return f"lets the HPB wait {min(25.0, 0.1 * 2 ** min(number, 10)):g} s for each answer, which waits 10 s"


def behind_refusals(case: Case, id_: str, counted: Mapping[str, int]) -> tuple[str, str]:
    """Return why a Nextcloud has counted wrong secrets, and what is to be done before it forgets them."""
    instance = case.instances[id_]
    agrees = (instance.get("attempts") or {}).get("secret_matches")
    proxies = (instance.get("nextcloud") or {}).get("trusted_proxies")
    # What both hosts have, as networks of Docker's, a proxy of the Nextcloud comes with.
    near = set((case.reaches.get(id_) or {}).get("own_addresses") or []) - case.public_addresses()
    others = [address for address in counted if address not in case.coming() or address in near]
    if agrees is False:
        return " Talk holds another backend secret than the HPB.", f"Run {RUN}register -e instance={id_}. Then "
    if others and len(others) == len(counted):
        behind = (
            f" It takes everybody who comes through the proxy {others[0]} for one, as trusted_proxies does not name it."
        )
        command = f"config:system:set trusted_proxies {len(proxies or [])} --value={others[0]}"
        return behind, f"{case.occ(id_, command)}. Then "
    since = case.part("signalling").get("configured")
    behind = ""
    if agrees:
        when = f" (those of the HPB are of {utc(since)})" if since else ""
        behind = f" The secrets agree now, so these came before{when}."
    if not counted and not proxies:
        command = case.occ(id_, "config:system:set trusted_proxies 0 --value=ADDRESS_OF_THE_PROXY")
        behind += " Where trusted_proxies does not name the proxy before it, it takes everybody for one."
        return behind, f"Where there is a proxy: {then(command)}. Then "
    return behind, ""


def utc(seconds: float) -> str:
    """Return a time for people."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def to_nextcloud(case: Case) -> None:
    """The HPB does not reach a Nextcloud, does not trust it, or something else answers there."""
    unknown: dict[str, tuple[list[Mapping[str, Any]], str]] = {}
    for id_, evidence in case.part("nextclouds").items():
        rows = case.failed("hello", instance=id_)
        if not rows:
            continue
        tls = evidence.get("tls") or {}
        if tls.get("kind") == "unknown_ca":
            unknown[urlsplit(str(evidence.get("url", ""))).hostname or ""] = rows, tls.get("text", "")
            continue
        word = nextcloud_network(case, id_, evidence) or nextcloud_answer(case, id_, evidence)
        if word:
            inside = evidence.get("inside") or {}
            said = [f"wget in signalling: {inside['text']}" if inside.get("text") else "", tls.get("text", "")]
            case.found(word.cause, rows, word.why, word.mend, said)
    if unknown:
        of = f"certificate{'s' if len(unknown) > 1 else ''} of {', '.join(unknown)}"
        why = f"The HPB does not know the authority of the {of}."
        mend = f"Add its PEM file to hpb_ca_files, then run {RUN}deploy"
        rows = [row for found, _text in unknown.values() for row in found]
        case.found("ca-at-hpb", rows, why, mend, unique(text for _rows, text in unknown.values()))


def nextcloud_network(case: Case, id_: str, evidence: Mapping[str, Any]) -> Word | None:
    """Return why no question of the HPB comes to a Nextcloud, None when one does."""
    inside, tls, answer = (evidence.get(part) or {} for part in ("inside", "tls", "answer"))
    name = urlsplit(str(evidence.get("url", ""))).hostname or ""
    kind, address = inside.get("kind", ""), str(inside.get("address") or "")
    stage = answer.get("stage", "")
    there = reach_host(case, id_)
    if kind == "name":
        why = f"{case.host} cannot resolve the name {name} of the Nextcloud."
        mend = (
            f"Give {name} an address in the DNS of {case.host}, or name it in hpb_resolve and run {RUN}deploy; where "
            f"the name is wrong, correct talk_url of {id_}"
        )
        return Word("dns-nextcloud", why, mend)
    if (
        elsewhere(case, id_, address)
        and (kind or tls.get("kind") or not inside.get("nextcloud"))
        and not is_genuine(evidence)
    ):
        right = and_list(right_addresses(case, id_))
        why = f"{name} leads to {address} for {case.host}, but the Nextcloud is at {right}."
        source = where_from(name, case.host, evidence.get("hosts_file"), [address])
        mend = f"{source}, or set hpb_resolve: {{{name}: {right}}} and run {RUN}deploy"
        return Word("dns-nextcloud", why, mend)
    if tls.get("kind") in ("expired", "not_yet_valid", "wrong_name"):
        word = "is for another name" if tls["kind"] == "wrong_name" else "is not valid now"
        mend = f"Renew it there{', or correct talk_url' if tls['kind'] == 'wrong_name' else ''}."
        return Word("nextcloud-certificate", f"The certificate of the Nextcloud {name} {word}.", mend)
    at = f"{name} ({address})" if address else name
    if stage == "answer" and answer.get("kind") != "timeout":
        why = (
            f"The Nextcloud {at} takes the connection of {case.host} and ends it without an answer ({answer['text']})."
        )
        mend = f"On {there}: look at the log of its web server, and for a firewall between the two that looks into HTTP"
        return Word("nextcloud-cut-off", why, mend)
    if stage == "answer":
        why = f"The Nextcloud {at} takes the connection of {case.host}, but gives no answer in time."
        mend = (
            f"On {there}: see whether all PHP workers are busy (pm.max_children of PHP-FPM, whose log says that it was "
            "reached; MaxRequestWorkers of Apache) and whether the database answers"
        )
        return Word("nextcloud-busy", why, mend)
    if stage == "tls" and answer.get("kind") == "timeout":
        why = f"The Nextcloud {at} takes the connection of {case.host}, but TLS does not come about in time."
        mend = (
            f"On {there}: restart its web server, and see that the way there takes packets of full size (a tunnel or "
            "DS-Lite needs a smaller MTU on one of the two)"
        )
        return Word("nextcloud-no-tls", why, mend)
    if stage == "tls" and tls.get("kind") == "tls":
        why = f"The Nextcloud {at} does not speak TLS as expected ({answer.get('text') or tls.get('text')})."
        return Word("nextcloud-no-tls", why, f"On {there}: serve HTTPS on that port, or correct talk_url")
    if kind in ("refused", "timeout", "unreachable"):
        word = {"refused": "refuses the connection", "timeout": "does not answer", "unreachable": "has no route"}[kind]
        why = f"From {case.host} the Nextcloud {name} ({address}) {word}."
        mend = f"Start its web server and open TCP 443 there for {', '.join(case.coming())}"
        return Word("nextcloud-unreachable", why, mend)
    return None


def is_genuine(evidence: Mapping[str, Any]) -> bool:
    """Whether who was asked at a Nextcloud's address has a certificate for its name."""
    answer = evidence.get("answer") or {}
    if not str(evidence.get("url", "")).startswith("https://") or (evidence.get("tls") or {}).get("kind"):
        return False
    return answer.get("stage", "connect") in ("", "answer")


def nextcloud_answer(case: Case, id_: str, evidence: Mapping[str, Any]) -> Word | None:
    """Return why what answers the HPB at a Nextcloud's address is not Talk, None when it is."""
    answer, url = evidence.get("answer") or {}, str(evidence.get("url", ""))
    name = urlsplit(url).netloc
    if "untrusted" in (answer.get("marks") or []):
        trusted = (case.instances.get(id_, {}).get("nextcloud") or {}).get("trusted_domains") or []
        mend = case.occ(id_, f"config:system:set trusted_domains {len(trusted) or 9} --value={name}")
        return Word("trusted-domain", f"The Nextcloud does not answer at {name}, which is no trusted domain.", mend)
    word = _nextcloud_answer.judge(url, answer, case.coming())
    status = max(answer.get("status", 0), (evidence.get("inside") or {}).get("status", 0))
    if word or status < 500:
        return word
    why = f"The web server of {urlsplit(url).hostname} answers {status}."
    there = case.instances.get(id_, {}).get("host") or name
    return Word("nextcloud-error", why, f"Look at the log of the Nextcloud on {there}.")


def right_addresses(case: Case, id_: str) -> list[str]:
    """Return where a Nextcloud is by its own word: its name's addresses if they are its own, else its own."""
    reach = case.reaches.get(id_) or {}
    own = [address for address in reach.get("own_addresses") or [] if not is_bridge(address)]
    named = [address for address in reach.get("own_name_addresses") or [] if not address.startswith(("127.", "::1"))]
    return [address for address in named if address in own] or named or own


def is_bridge(address: str) -> bool:
    """Whether this is an address of Docker's default pools' first one (its bridge on the host)."""
    return address.startswith("172.17.")


def elsewhere(case: Case, id_: str, address: str) -> bool:
    """Whether the HPB takes a Nextcloud to be at an address that is neither its own nor its name's there.

    A proxy in the internet, and what has several addresses of others, gives each one another choice of them.
    """
    reach = case.reaches.get(id_) or {}
    own, named = set(reach.get("own_addresses") or []), set(reach.get("own_name_addresses") or [])
    several = len({one for one in named if ":" not in one} or named) > 1 and not named & own
    if several or case.proxy_of({address, *named}):
        return False
    return bool(address and right_addresses(case, id_) and address not in own | named)


def to_backend(case: Case) -> None:
    """Nextclouds do not reach the HPB, or do not trust it; those that fail alike are one finding."""
    if case.dark:
        return
    groups: dict[tuple[str, str, str], list[str]] = {}
    for id_, reach in case.reaches.items():
        late = reach["failed_at"] == "request" and reach.get("kind") == "timeout"
        if (late or reach["failed_at"] not in ("", "request")) and not case.satisfied(id_):
            groups.setdefault(no_way(case, reach), []).append(id_)
    for (cause, why, mend), ids in groups.items():
        if not cause:
            continue
        hosts = ", ".join(unique(reach_host(case, id_) for id_ in ids))
        seen = unique(part for id_ in ids for part in way_seen(case.reaches[id_]))
        rows = [row for id_ in ids for row in case.failed(CHECK, instance=id_)]
        place = {"instance": ", ".join(ids), "step": CHECK, "what": "way to the HPB"}
        case.found(cause, rows, why.format(hosts=hosts), mend.format(hosts=hosts), seen, **place)


def https_closed(case: Case) -> None:
    """A rule of the HPB's own host stops HTTPS."""
    rules = case.rules(["tcp 443"])
    away = [id_ for id_, reach in case.reaches.items() if reach.get("failed_at") == "tcp" and not case.satisfied(id_)]
    host = urlsplit(str(case.context.get("url") or "")).netloc
    words = tuple(_probe.unreachable(error, host).cause for error in (TimeoutError(), ConnectionRefusedError()))
    words += (f"{host} cannot be reached",)
    rows = [row for row in case.failed("welcome") if row["cause"].startswith(words)]
    if case.dark or not rules or not rows and not away:
        return
    case.dark = True
    rows += [row for id_ in away or list(case.instances) for row in case.failed(CHECK, instance=id_)]
    place = {"instance": ALL, "step": "welcome", "what": "signaling server"}
    case.found(
        "host-firewall", rows, f"A rule of {case.host} itself stops tcp 443.", case.opened(["tcp 443"], rules), **place
    )


def no_way(case: Case, reach: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return cause, reason and remedy of a way that ends before the HPB; {hosts} stands for those that took it."""
    step, kind, text = reach["failed_at"], reach.get("kind", ""), reach.get("text") or ""
    addresses, domain = reach.get("addresses") or [], case.domain
    if step == "name":
        why = f"The name {domain} does not resolve on {{hosts}}."
        mend = f"Give {domain} an address in the DNS of {{hosts}}; where the name is wrong, correct hpb_domain"
        return "dns-hpb", why, mend
    # What is behind a proxy in the internet, the name does not say.
    astray = addresses and case.host_addresses() and not set(addresses) & case.host_addresses()
    if astray and not case.proxy_of(addresses):
        right = case.context.get("public_ip") or case.media_address() or and_list(case.host_addresses())
        why = f"{domain} leads to {and_list(addresses)} on {{hosts}}, but the HPB is at {right}."
        if all(map(_internet.is_loopback, addresses)):
            return "dns-hpb", why, f"Remove the line of {domain} from /etc/hosts of {{hosts}}, so that DNS is asked"
        return "dns-hpb", why, where_from(domain, "{hosts}", reach.get("hosts_file"), addresses)
    if step == "tcp":
        words = {"refused": "Port 443 of {} refuses {{hosts}}.", "timeout": "Port 443 of {} does not answer {{hosts}}."}
        mend = f"Open TCP 443 for {{hosts}} in the firewalls there (outgoing) and of {case.host}"
        return "hpb-unreachable", words.get(kind, "{{hosts}} has no route to port 443 of {}.").format(domain), mend
    if kind == "unknown_ca":
        why = f"The authority of the certificate of {domain} is unknown on {{hosts}}."
        mend = "On {hosts}: occ security:certificates:import ca.pem, or set talk_verify_tls: false for it"
        return "ca-at-nextcloud", why, mend
    if step == "tls" and kind == "timeout":
        why = f"{domain} takes the connection of {{hosts}}, but TLS does not come about in time."
        mend = "See that the way between the two takes packets of full size (a tunnel or DS-Lite needs a smaller MTU)"
        return "hpb-no-answer", why, mend
    if step == "tls":
        why = f"TLS between {{hosts}} and {domain} does not come about ({braced(text or kind)})."
        return "hpb-tls", why, "Look for a proxy before {hosts} that shows a certificate of its own."
    if kind == "timeout":
        why = f"{domain} takes the connection of {{hosts}}, but gives no answer in time."
        mend = f"On {case.host}: see what it is busy with (docker stats), and the log of the proxy there"
        return "hpb-no-answer", why, mend
    if kind == "status":
        why = f"{domain} answers {{hosts}} with {braced(text)}, expected the welcome of the signaling server."
        return "hpb-answer", why, "Look at the proxy between {hosts} and the HPB."
    return "", "", ""


def where_from(name: str, host: str, line: str | None, addresses: Iterable[str]) -> str:
    """Return what is to be corrected where a name leads to wrong addresses on a host.

    line: the address that its /etc/hosts has for the name, "" when it has none, None when that is not known.
    """
    if line is None:
        return f"Correct the DNS or /etc/hosts of {host}"
    if line and line in addresses:
        return f"Correct or remove the line of {name} in /etc/hosts of {host}, which answers before DNS"
    return f"Correct the DNS record of {name} as {host} is told it; its /etc/hosts does not say that"


def braced(text: str) -> str:
    """Return text as it must stand in a template."""
    return text.replace("{", "{{").replace("}", "}}")


def way_seen(reach: Mapping[str, Any]) -> list[str]:
    """Return the evidence of a way that ended too early."""
    said = [f"{reach['failed_at']}: {reach['text']}"] if reach.get("text") else []
    addresses = reach.get("addresses") or []
    return [*said, *([f"addresses there: {and_list(addresses)}"] if addresses else [])]


# --- secrets -------------------------------------------------------------------------------------------------------


def secrets(case: Case) -> None:
    """A secret is not the same at both ends."""
    refused: list[Mapping[str, Any]] = []
    wrong: list[Mapping[str, Any]] = []
    seen: list[str] = []
    ids: dict[str, list[str]] = {"refused": [], "wrong": []}
    for id_, instance in case.instances.items():
        url = str(instance.get("url", ""))
        status = ((case.reaches.get(id_) or {}).get("request") or {}).get("status")
        rows = [row for row in case.caused([_probe.request(url, 403).cause], "request") if row["instance"] == id_]
        if rows or status == 403:
            ids["refused"].append(id_)
            refused += rows + case.failed(CHECK, instance=id_)
            seen += [f"{id_} is answered {status} on its own host"] if status else []
        rows = case.caused([_probe.hello(url, "invalid_request", "").cause], "hello")
        if rows:
            ids["wrong"].append(id_)
            wrong += rows
    if ids["refused"]:
        why = "The signaling server does not know it, or with another secret than the secrets file says."
        place = {"instance": ", ".join(ids["refused"]), "step": "request", "what": "signed request"}
        mend = f"Run {RUN}deploy -e instance={','.join(ids['refused'])}"
        case.found("backend-secret-hpb", refused, why, mend, seen, **place)
    if wrong:
        why = "Talk holds another backend secret than the HPB; nobody can join a call there."
        mend = f"Run {RUN}register -e instance={','.join(ids['wrong'])}"
        # Each question with the wrong secret has counted.
        mend += "".join(
            f". Then {then(case.forgotten(id_, case.counted(id_)))}" for id_ in ids["wrong"] if case.counted(id_)
        )
        case.found("backend-secret", wrong, why, mend, ["Talk answers invalid_request to a signed question"])
    refused_turn: dict[str, list[Mapping[str, Any]]] = {}
    for row in turn_refused(case):
        refused_turn.setdefault(row["instance"], []).append(row)
    for rows in refused_turn.values():
        why = "coturn does not have the instance's TURN secret (401)."
        case.found("turn-secret", rows, why, f"Run {RUN}deploy", [case.log("coturn")])


# --- media ---------------------------------------------------------------------------------------------------------


def allocation(row: Mapping[str, Any]) -> str:
    """Return what a TURN server answered when it was asked for a relay address, "" when it was not asked."""
    return str((row["figures"].get("turn") or {}).get("allocate", ""))


def told_by_janus(rows: Iterable[Mapping[str, Any]]) -> set[str]:
    """Return the addresses at which Janus says that it is reached, from candidates such as ``host 192.0.2.1:20000``."""
    lines = [str(line) for row in rows for line in row["figures"].get("remote") or []]
    return {line.split(" ", 1)[1].rpartition(":")[0].strip("[]") for line in lines if " " in line}


def is_private(address: str) -> bool:
    """Whether nobody on the internet reaches this address."""
    try:
        return ipaddress.ip_address(address).is_private
    except ValueError:
        return False


def public_address(case: Case) -> None:
    """Janus or coturn tells clients an address at which the host is not reached."""
    rows = [row for row in case.failed(*DIRECT) if "ice" in row["figures"]]
    told, right = told_by_janus(rows), case.public_addresses()
    # A proxy in the internet takes no media: where that goes, the name for TURN says.
    if case.proxy_of(right):
        right = {address for address in turn_servers(case) if ":" not in address and not case.proxy_of([address])}
    if not told or not right or told & right:
        return
    media = case.media_address()
    mapping, external = case.part("janus").get("mapping") or "", case.part("coturn").get("external") or ""
    # A host in a LAN whose name leads to another of its own addresses is reached at both.
    if told <= set(case.inspection.get("addresses") or []) and right & set(case.inspection.get("addresses") or []):
        return
    if told == {media} and not is_private(media) and not mapping:
        return
    why = f"Janus tells clients to come to {and_list(told)}, but {case.domain} is at {and_list(right)}."
    here = right & set(case.inspection.get("addresses") or [])
    mend = f"Set hpb_public_ip: {sorted(right)[0]}"
    if here:
        mend = "Remove hpb_public_ip" if mapping else f"Set hpb_media_ip: {sorted(here)[0]}"
    seen = [f"nat_1_1_mapping: {mapping or 'none'}", f"external-ip of coturn: {external or 'none'}"]
    also = [row for row in case.failed(*RELAYED) if not allocation(row) or allocation(row) == "ok"]
    mend = f"{mend} for the group hpb, then run {RUN}deploy (restarts Janus and coturn)"
    case.found("public-address", rows + also, why, mend, seen, instance=ALL)


def turn_servers(case: Case) -> set[str]:
    """Return the addresses at which TURN was looked for."""
    rows = [row for row in case.records if _probe.way(row["step"]) in RELAYED]
    return {str((row["figures"].get("turn") or {}).get("server") or "") for row in rows} - {""}


def turn_name(case: Case) -> str:
    """Return the name of the TURN server, for a sentence."""
    return str(case.context.get("turn_server") or "").rpartition(":")[0] or "The name of the TURN server"


def turn_proxied(case: Case) -> None:
    """The name of the TURN server leads to a proxy in the internet, which passes on HTTP alone."""
    rows = [
        row for row in case.failed(*RELAYED) if case.proxy_of([(row["figures"].get("turn") or {}).get("server") or ""])
    ]
    if not rows:
        return
    reached = {row["figures"]["turn"]["server"] for row in rows}
    name = "The name of hpb_turn_443_domain" if {row["step"] for row in rows} == {"turn-443"} else turn_name(case)
    right = case.context.get("public_ip") or case.media_address() or "the HPB"
    whose = case.proxy_of(reached)
    why = f"{name} leads to {and_list(reached)}, a proxy of {whose}, which passes on neither TURN nor media."
    own = "" if name != case.domain else ", or TURN a name of its own with such a record (hpb_turn_domain)"
    mend = f'Give {name} a DNS record without the proxy ("DNS only") that leads to {right}{own}'
    case.found("turn-proxied", rows, why, mend, instance=ALL)


def turn_address(case: Case) -> None:
    """The name of the TURN server leads to an address at which coturn does not listen."""
    coturn = case.part("coturn")
    listening = str(coturn.get("listening") or "")
    # On port 443 Traefik is asked, which listens everywhere.
    rows = [row for row in case.failed(*RELAYED) if allocation(row) == "refused" and row["step"] != "turn-443"]
    reached = {str((row["figures"].get("turn") or {}).get("server") or "") for row in rows} - {""}
    # Behind NAT another address stands for it. Which of several IPv6 addresses it has is not asked.
    right = {listening, str(case.context.get("public_ip") or ""), str(coturn.get("external") or "").partition("/")[0]}
    wrong = sorted(address for address in reached - right if ":" not in address)
    # On a private network of Docker's coturn is reached by a port of the host.
    if coturn.get("stun") or listening not in (case.inspection.get("addresses") or []) or not wrong:
        return
    name, here = turn_name(case), [address for address in wrong if address in (case.inspection.get("addresses") or [])]
    why = f"{name} leads to {and_list(wrong)} on the controller, where nothing listens: coturn is at {listening}."
    mend = f"Correct the DNS of {name} (or its entry in hpb_resolve)"
    if here:
        mend = f"Set hpb_media_ip: {here[0]} for the group hpb, then run {RUN}deploy (restarts Janus and coturn)"
    case.found("turn-address", rows, why, mend, [f"coturn answers at {listening}"], instance=ALL)


def ports(case: Case) -> None:
    """A firewall keeps media away: everything but HTTPS, TURN over udp, or Janus' range."""
    coturn = case.part("coturn")
    rows = [row for row in case.failed(*RELAYED) if allocation(row) in ("timeout", "refused", "unreachable")]
    # Where nobody has seen coturn answer, a refusal says that nothing listens, which is no firewall's doing.
    if coturn.get("stun") or not coturn and any(allocation(row) == "refused" for row in rows):
        rows = []
    direct = [row for row in case.failed(*DIRECT) if "ice" in row["figures"]]
    udp, tcp = ([row for row in rows if _probe.way(row["step"]) == step] for step in ("turn-udp", "turn-tcp"))
    port = coturn.get("port") or str(case.context.get("turn_server") or ":3478").rpartition(":")[2]
    janus, relay = case.part("janus").get("ports") or "20000-29999", coturn.get("ports") or "61000-65535"
    if direct and udp and tcp:
        why = f"Only 443 is open between the controller and {case.host}: TURN on {port} and Janus get nothing."
        case.blocked(
            "only-443", direct + udp + tcp, why, (f"udp {port}", f"tcp {port}", f"udp {janus}", f"udp {relay}")
        )
    elif udp:
        # Where Janus is not reached by udp either, that is one cause.
        closed = (f"udp {port}", f"udp {janus}") if direct else (f"udp {port}",)
        over_tcp = "works" if not tcp else "does not work either"
        why = (
            f"A firewall stops {' and '.join(closed)} between the controller and {case.host}; TURN over tcp {over_tcp}."
        )
        case.blocked("turn-udp-blocked", direct + udp + tcp, why, closed)
    elif tcp:
        why = f"A firewall stops tcp {port} between the controller and {case.host}."
        case.blocked("turn-tcp-blocked", tcp, why, (f"tcp {port}",))
    if direct and not udp:
        relayed = [row for row in case.failed(*RELAYED) if (row["figures"].get("turn") or {}).get("bind") == "ok"]
        why = f"A firewall stops udp {janus}, so no media reaches Janus at {and_list(told_by_janus(direct))}."
        case.blocked("rtp-range", direct + relayed, why, (f"udp {janus}",))
    closed_at = {
        "turn-tls": f"tcp {coturn.get('tls_port') or 5349}",
        "turn-443": "tcp 443",
        f"turn-udp{_probe.IPV6}": f"udp {port}",
        f"turn-tcp{_probe.IPV6}": f"tcp {port}",
    }
    for step, text in closed_at.items():
        left = [row for row in case.failed(step) if allocation(row) in ("timeout", "refused", "unreachable")]
        if case.rules([text], left) and left:
            case.blocked("host-firewall", left, f"A rule of {case.host} itself stops {text}.", (text,))


# --- what nobody's call has shown ---------------------------------------------------------------------------------


def pages(case: Case) -> None:
    """What a proxy before a Nextcloud, or one that it does not know of, keeps its pages and its requests from."""
    for id_, evidence in case.part("nextclouds").items():
        page, url = evidence.get("page") or {}, str(evidence.get("url", ""))
        place = {"instance": id_, "step": "hello", "what": "pages of the Nextcloud", "warning": True}
        for word in _nextcloud_answer.policies(url, str(case.context.get("url") or ""), page.get("headers") or {}):
            case.found(word.cause, [], word.why, word.mend, **place)
        facts = case.instances.get(id_, {}).get("nextcloud") or {}
        if not facts.get("overwriteprotocol") and _nextcloud_answer.takes_itself_for_http(url, page):
            why = (
                "Asked by https, the Nextcloud takes itself for http, so the HPB refuses (403) what it sends when "
                "somebody joins a call: a proxy before it ends TLS, and it does not know of that."
            )
            mend = case.occ(id_, "config:system:set overwriteprotocol --value=https")
            rows = case.failed(*USER_CALLS, instance=id_)
            seen = [f"{url}/ leads to {page['location']}"]
            case.found("overwriteprotocol", rows, why, mend, seen, **{**place, "what": "address of the Nextcloud"})


def own_name(case: Case) -> None:
    """The signaling server does not reach itself by its public name, which calls between its Nextclouds need."""
    found = case.part("own_name")
    federating = [id_ for id_, instance in case.instances.items() if (instance.get("talk") or {}).get("federation")]
    if case.dark or not found or not federating or len(case.instances) < 2:
        return
    inside, tls, answer = (found.get(part) or {} for part in ("inside", "tls", "answer"))
    address = str(inside.get("address") or "")
    if inside.get("kind") == "name":
        why = f"The signaling server cannot resolve its own name {case.domain}"
    elif inside.get("kind") in ("refused", "timeout", "unreachable") or answer.get("stage") in ("connect", "answer"):
        why = f"The signaling server does not reach its own name {case.domain} at {address or 'any address'}"
    elif tls.get("kind"):
        why = (
            f"The signaling server does not trust who answers at its own name {case.domain} ({address}: {tls['text']})"
        )
    elif "welcome" not in (answer.get("marks") or []):
        why = f"The signaling server finds something else than itself by its own name {case.domain} at {address}"
    else:
        return
    mine = [one for one in case.inspection.get("addresses") or [] if not is_bridge(one)]
    right = case.media_address() or str(case.context.get("proxy_address") or "") or (mine or ["ADDRESS_OF_THE_HPB"])[0]
    mend = f"Set hpb_resolve: {{{case.domain}: {right}}} for the group hpb, then run {RUN}deploy"
    if tls.get("kind") == "unknown_ca" and case.context.get("tls") == "private_ca":
        mend = f"Run {RUN}deploy, which gives it the certificate of its own CA"
    place = {"instance": ALL, "step": SERVER, "what": "own name", "warning": len(federating) < 2}
    why += ", which a call between two of its Nextclouds (federation) needs."
    case.found("own-name", [], why, mend, [f"federation is on for {and_list(federating)}"], **place)


# --- the whole -----------------------------------------------------------------------------------------------------

CAUSES: tuple[Callable[[Case], None], ...] = (
    engine,
    programs,
    policies,
    connections,
    janus_back,
    clock,
    certificates,
    turn_certificate,
    throttled,
    proxy,
    not_private,
    too_old,
    session_limit,
    maintenance,
    misnamed,
    own_address,
    foreign_signaling,
    turn_in_talk,
    brute_force,
    to_nextcloud,
    https_closed,
    to_backend,
    secrets,
    public_address,
    turn_proxied,
    turn_address,
    ports,
    own_name,
    pages,
)

# How the run of the probe (_probe_run) begins to speak of a step for which no time was left.
UNFINISHED = "It was not finished within"
# Where the probe knows no more, its remedy is to look somewhere.
UNKNOWN = ("Look at the log", "Report this as a bug", "Check the load")
PROGRAM_OF = {
    "welcome": "traefik",
    "closed": "traefik",
    **dict.fromkeys(DIRECT, "janus"),
    "hello": "signalling",
    "request": "signalling",
}


def rest(case: Case) -> None:
    """Say what no cause above explains: as the probe and Talk say it, with the evidence where they do not know."""
    # Steps that a cause for all makes wait for their time leave none for the others.
    if any(finding.instance == ALL and finding.status == _probe.FAILED for finding in case.findings):
        case.open = [row for row in case.open if not row["cause"].startswith(UNFINISHED)]
    # What a user meets follows from what ails the instance: with that mended, the next verification says what is left.
    failed = [finding for finding in case.findings if finding.status == _probe.FAILED]
    sick = {id_ for finding in failed for id_ in finding.instance.split(", ")}
    case.open = [
        row for row in case.open if not row["step"].startswith(USER) or row["instance"] not in sick and ALL not in sick
    ]
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in case.open:
        groups.setdefault((row["instance"], row["cause"], row["remedy"]), []).append(row)
    for (_instance, cause, remedy), rows in groups.items():
        if rows[0]["step"] == CHECK and not remedy:
            remedy = (
                f"{case.occ(rows[0]['instance'], 'setupchecks')}; or see Administration settings, Talk, in the browser"
            )
        known = bool(remedy) and not remedy.startswith(UNKNOWN)
        way = _probe.way(rows[0]["step"])
        program = "coturn" if way.startswith("turn-") else PROGRAM_OF.get(way, "signalling")
        # What no container can know of.
        seen = [case.log(program)] if way not in (CHECK, BROWSER) else []
        if not case.inspection.get("containers"):
            seen.append(f"{case.host} could not be inspected{said_why(case)}")
        why = cause if known else f"{cause} The cause is not known."
        case.found("as-seen" if known else "unknown", rows, why, remedy, seen)


def said_why(case: Case) -> str:
    """Return why the inspection did not come about."""
    said = case.inspection.get("msg") or case.inspection.get("engine_error") or ""
    return f": {' '.join(str(said).split())}" if said else ""


def merged(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings, those that say the same of several instances as one."""
    result: dict[tuple[str, str, str], Finding] = {}
    for finding in findings:
        key = (finding.cause, finding.why, finding.mend)
        before = result.get(key)
        if before is None:
            result[key] = finding
            continue
        seen = "; ".join(unique(part for part in (before.seen, finding.seen) if part))
        lists = {
            name: ", ".join(unique(f"{getattr(before, name)}, {getattr(finding, name)}".split(", ")))
            for name in ("instance", "step", "what")
        }
        status = _probe.FAILED if _probe.FAILED in (before.status, finding.status) else finding.status
        result[key] = replace(before, seen=seen, status=status, **lists)
    return list(result.values())


def diagnose(
    report: Mapping[str, Any],
    inspection: Mapping[str, Any],
    reaches: Iterable[Mapping[str, Any]],
    context: Mapping[str, Any],
) -> list[Finding]:
    """Return the causes of what a verification found, the root of each trouble once.

    `report` is the result of call_probe ({} when no call was placed), `inspection` that of hpb_inspect ({} for none),
    `reaches` those of hpb_reach, each with the id of its instance and its host. `context` has url, domain, turn_server,
    public_ip, media_ip, cdn (networks of proxies in the internet), hpb_host, tls, resolve (name: address),
    certificate_days (days left below which a certificate is a finding; 14), proxy (own for our Traefik, else
    hpb_proxy), proxy_dir (where the files for another one are), proxy_target (where our Traefik listens for one that is
    only a form), profile (of the network: host or bridge), proxy_address (at which the proxy is asked on the HPB's
    host), time (the controller's clock when the inspection began, Unix seconds), and instances: each with id, url,
    urls, host, check (available, ok, sentence, cause, mend), nextcloud and talk (as talk_info returns them, {} when it
    was not asked), occ (how it is begun there), and attempts (what talk_attempts returns, {} when it was not asked).
    """
    case = Case(report, inspection, reaches, context)
    for cause in CAUSES:
        cause(case)
    rest(case)
    return merged(case.findings)
