#!/usr/bin/python
# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at everything on the host of the backend that tells why something does not work."""

from __future__ import annotations

DOCUMENTATION = r"""
module: hpb_inspect
short_description: Look at the backend from inside its host
version_added: 0.1.0
description:
  - Gathers, in one round trip and without changing anything, what tells why the backend does not work - containers and
    their logs, what the five programs answer on their host, the certificate, the addresses that Janus and
    coturn are configured with, rules of the firewall, and the way from the signaling server's container to each
    Nextcloud.
  - What cannot be found out is empty in the result and no failure. Nothing is judged here, see the filter
    P(nextcloud_talk.hpb.diagnose#filter).
  - Secrets in the logs are masked, those in O(secrets) and whatever looks like one.
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
attributes:
  check_mode:
    support: full
    description: Changes nothing in any mode.
  diff_mode:
    support: none
    description: Changes nothing.
  idempotent:
    support: full
    description: Changes nothing.
options:
  domain:
    description: Name at which the backend is reached, for which it must have a certificate.
    type: str
    required: true
  url:
    description: The URL of the signaling server, at which its own container must reach it. Empty is not tried.
    type: str
    default: ""
  base_dir:
    description: Directory of everything that is kept on the host.
    type: path
    default: /opt/nextcloud-talk-hpb
  containers:
    description: The containers to look at, by their names without a prefix.
    type: list
    elements: str
    default: [nats, janus, coturn, signalling, traefik]
  nats_monitor_port:
    description: Port of the monitor of NATS.
    type: int
    default: 8222
  janus_port:
    description: Port of the websocket of Janus.
    type: int
    default: 8188
  signalling_port:
    description: Port of the signaling server on its address.
    type: int
    default: 8080
  used_ports:
    description: The ports of the backend, hpb_used_ports of the role hpb. For programs that do not run it is looked who
      holds theirs. Empty is not looked.
    type: dict
    default: {}
  addresses:
    description: Where the programs are reached on their host.
    type: dict
    suboptions:
      nats:
        description: Address of NATS' monitoring.
        type: str
        default: 127.0.0.1
      janus:
        description: Address of Janus' websocket.
        type: str
        default: 127.0.0.1
      signalling:
        description: Address of the signaling server.
        type: str
        default: 127.0.0.1
      proxy:
        description: Address at which the proxy, our Traefik or another, is asked for its certificate.
        type: str
        default: 127.0.0.1
  nextclouds:
    description: The Nextclouds that the signaling server must reach.
    type: list
    elements: dict
    default: []
    suboptions:
      id:
        description: Name of the instance.
        type: str
        required: true
      url:
        description: Its address.
        type: str
        required: true
  secrets:
    description: Secrets that are masked wherever they stand in a log.
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds to wait for each answer.
    type: int
    default: 5
seealso:
  - module: nextcloud_talk.hpb.hpb_reach
  - plugin: nextcloud_talk.hpb.diagnose
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Look at the backend
  nextcloud_talk.hpb.hpb_inspect:
    domain: talk.example.org
    nextclouds:
      - id: nc
        url: https://nc.example.org
  register: inspection
"""

RETURN = r"""
engine_error:
  description: Why Docker does not answer, empty when it does.
  type: str
  returned: success
containers:
  description:
    - For each container what it is called in the engine (C(name)), its C(state) (C(missing) when there is none),
      C(health), C(health_output), C(exit_code), C(oom_killed), C(error), C(started_at), C(finished_at), C(restarts),
      C(restart_policy), C(image), and C(log), the last lines of its log that tell of trouble.
  type: dict
  returned: success
held:
  description:
    - Where a program of ours does not run, who else holds ports of ours - C(holders), for each port such as C(tcp/443)
      the C(process), and C(container), C(image), C(project) (of compose) and C(network) of one that is in a container,
      and C(busy), all ports on which something listens.
  type: dict
  returned: success
signalling:
  description:
    - What the signaling server says on the loopback - C(status), C(version) and C(features) of its welcome, C(upgrade)
      (101 when it takes a websocket), C(serverinfo) (since 2.0.3, else empty), C(configured), when its configuration
      with the secrets was written last (in Unix seconds), and C(sessions) with the sessions, limit and refusals of each
      backend.
  type: dict
  returned: success
nats:
  description: C(healthz), the HTTP status of its health, and C(connections), C(-1) when it does not say.
  type: dict
  returned: success
janus:
  description:
    - C(port) of its websocket, C(upgrade) (101 when it takes one), C(enforce), C(mapping) and C(ports) of its
      configuration.
  type: dict
  returned: success
coturn:
  description:
    - C(stun) and C(tcp), empty when it answers on its address, else why not, and C(listening), C(port), C(tls_port)
      (0 for none), C(realm), C(external) and C(ports) of its configuration.
    - C(certificate) is what it shows on its port for TLS, as RV(certificate); empty when it has none.
  type: dict
  returned: success
certificate:
  description:
    - The certificate that is shown for O(domain) at O(addresses.proxy) - C(names), C(issuer), C(not_before) and
      C(not_after) in Unix seconds, and C(error) with C(kind) when there is none.
  type: dict
  returned: success
addresses:
  description: The host's own addresses.
  type: list
  elements: str
  returned: success
time:
  description: The host's clock at the start of the module, in Unix seconds.
  type: float
  returned: success
firewall:
  description:
    - C(programs) that could be asked for the rules of this host, C(kind), whose rules they are (C(ufw), C(firewalld),
      C(nftables), C(iptables), empty when there are none), and C(stops), which ports of the backend nobody gets through
      to because of them, each with C(ports) (such as C(udp 20000-29999)), C(family) (C(ipv4), C(ipv6)) and C(rule).
  type: dict
  returned: success
nextclouds:
  description:
    - For each of O(nextclouds) its C(url), C(inside), what C(wget) in the container of the signaling server came to
      (C(kind), C(status), C(address), C(text), C(maintenance), C(nextcloud)), and C(tls), whether its certificate holds
      for the authorities that the signaling server trusts (C(kind), C(text)). The latter is asked from the host, whose
      network the container shares.
    - C(answer) is what a question like those of the signaling server came to there - the C(stage) that did not come
      about (C(name), C(connect), C(tls), C(answer); empty when there was an answer), C(kind) and C(text) of why,
      C(seconds), C(status), C(type), C(location), C(title) of a page, C(headers) that say who answered, and C(marks) by
      which it is known (C(ocs) for Nextcloud, C(untrusted) where it does not know the name, C(welcome) for a signaling
      server).
    - C(page) has C(status), C(location) and C(headers) of the answer to the Nextcloud's own address.
    - C(hosts_file) is the address that C(/etc/hosts) of the host has for its name, empty when it has none.
  type: dict
  returned: success
own_name:
  description: The same of O(url), with C(url), C(inside), C(tls) and C(answer). Empty when that was not tried.
  type: dict
  returned: success
"""

import concurrent.futures  # noqa: E402
import json  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402
from urllib.parse import urlsplit  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import (  # noqa: E402
    _evidence,
    _packet_filter,
    _ports,
    _preflight,
    _record,
    _reload,
)

ASKED = ("nats", "janus", "signalling", "proxy")
CAPABILITIES = "/ocs/v2.php/cloud/capabilities?format=json"
WELCOME = "/api/v1/welcome"
BACKEND = "/ocs/v2.php/apps/spreed/api/v3/signaling/backend"
# As the signaling server asks, but for the header without which Nextcloud refuses at once (412): so nothing is counted
# as a wrong secret, and nothing is delayed for that.
QUESTION = {
    "User-Agent": "nextcloud-spreed-signaling",
    "Accept": "application/json",
    "Content-Type": "application/json",
}
# The authorities that the signaling server trusts besides the system's, below the base directory.
AUTHORITIES = "signalling/config/authorities/hpb.pem"
# All of them: what one keeps, another one may not show.
FILTERS = {
    "nft": ["list", "ruleset"],
    "iptables-save": ["-c"],
    "ip6tables-save": ["-c"],
    "iptables-legacy-save": ["-c"],
    "ip6tables-legacy-save": ["-c"],
}
NOBODY = "65534"
# Lines of a log among which those that tell of trouble are looked for.
LOG_LINES = 300


def text_of(path: Path) -> str:
    """Return a file's text, "" for one that cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def modified(path: Path) -> float:
    """Return when a file was written last, in Unix seconds; 0 for one that cannot be looked at."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


class Look:
    """One look at the host; `module` gives the options and runs the programs."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.base = Path(module.params["base_dir"])
        self.seconds = module.params["timeout"]
        given = module.params["addresses"] or {}
        self.addresses = {name: given.get(name) or _evidence.LOOPBACK for name in ASKED}
        self.docker = module.get_bin_path("docker")
        self.enter = module.get_bin_path("nsenter")
        # The id of the signaling server's container, and its process.
        self.server, self.process = "", 0

    def engine_error(self) -> str:
        """Return why Docker does not answer, "" when it does."""
        if not self.docker:
            return "there is no program docker on this host"
        code, _out, err = self.module.run_command([self.docker, "version", "--format", "{{.Server.Version}}"])
        lines = err.strip().splitlines()
        return "" if code == 0 else (lines[-1] if lines else "no answer")

    def containers(self) -> dict[str, Any]:
        """Return the states of the containers with the ends of their logs."""
        try:
            ours = _record.ours(self.module.run_command, self.base)
        except _reload.ReloadError:
            ours = {}
        found = _evidence.containers(ours, self.module.params["containers"])
        server = ours.get("signalling", {})
        self.server, self.process = server.get("Id", ""), (server.get("State") or {}).get("Pid") or 0
        for name, state in found.items():
            state["log"] = []
            if state["state"] != "missing":
                argv = [self.docker, "logs", "--tail", str(LOG_LINES), ours[name]["Id"]]
                _code, out, err = self.module.run_command(argv)
                state["log"] = _evidence.log_tail(name, out + err, self.module.params["secrets"])
        return found

    def held(self, containers: dict[str, Any]) -> dict[str, Any]:
        """Return who else holds ports of ours while a program of ours does not run, and all ports in use."""
        settings = self.module.params["used_ports"]
        if not settings or all(state["state"] == "running" for state in containers.values()):
            return {"holders": {}, "busy": []}
        wanted: dict[str, list[int]] = {"tcp": [], "udp": []}
        for use in _ports.uses(settings):
            for protocol, first, last in use.spans:
                wanted[protocol] += [first] if first == last else []
        entries = _preflight.inspected(self.module.run_command, "container", ["ps"])
        names = {state["name"] for state in containers.values() if state["state"] == "running"}
        own = [entry for entry in entries if str(entry.get("Name", "")).lstrip("/") in names]
        published = {port for entry in own for port in _preflight.held_ports(entry)}
        taken = _preflight.foreign(wanted, {entry["State"]["Pid"] for entry in own}, published)
        found = _preflight.held_by(taken, entries)
        return {"holders": {port: who._asdict() for port, who in found.items()}, "busy": _preflight.busy(taken)}

    def signalling(self) -> dict[str, Any]:
        """Return what the signaling server says to its own host."""
        address, port = self.addresses["signalling"], self.module.params["signalling_port"]
        welcome = _evidence.local(port, "/api/v1/welcome", self.seconds, address)
        info = _evidence.local(port, "/api/v1/serverinfo", self.seconds, address)
        metrics = _evidence.local(port, "/metrics", self.seconds, address)
        return {
            "status": welcome["status"],
            "error": welcome["kind"],
            "address": address,
            "port": port,
            "version": str(parsed(welcome["body"]).get("version", "")),
            "features": _evidence.features(welcome["headers"]),
            "upgrade": _evidence.upgrade(port, "/spreed", "", self.seconds, address, greetings=_evidence.GREETINGS),
            "serverinfo": parsed(info["body"]) if info["status"] == 200 else {},
            "configured": modified(self.base / "signalling/config/server.conf"),
            "sessions": _evidence.session_limits(metrics["body"]) if metrics["status"] == 200 else {},
        }

    def nats(self) -> dict[str, Any]:
        """Return NATS' health and how many programs are connected to it."""
        address = self.addresses["nats"]
        port = self.module.params["nats_monitor_port"]
        health = _evidence.local(port, "/healthz", self.seconds, address)
        state = parsed(_evidence.local(port, "/varz", self.seconds, address)["body"])
        return {"healthz": health["status"], "error": health["kind"], "connections": int(state.get("connections", -1))}

    def janus(self) -> dict[str, Any]:
        """Return whether Janus answers, and the addresses it is configured with."""
        text = text_of(self.base / "janus/config/janus.jcfg")
        port = self.module.params["janus_port"]
        return {
            "port": port,
            "upgrade": _evidence.upgrade(port, "/", "janus-protocol", self.seconds, self.addresses["janus"]),
            "address": self.addresses["janus"],
            "enforce": _evidence.jcfg_setting(text, "ice_enforce_list"),
            "mapping": _evidence.jcfg_setting(text, "nat_1_1_mapping"),
            "ports": _evidence.jcfg_setting(text, "rtp_port_range"),
        }

    def coturn(self) -> dict[str, Any]:
        """Return whether coturn answers, and the addresses it is configured with."""
        options = _evidence.turn_options(text_of(self.base / "coturn/config/turnserver.conf"))
        listening = _evidence.first(options.get("listening-ip", [])) or "127.0.0.1"
        port = int(_evidence.first(options.get("listening-port", [])) or 3478)
        ports = [_evidence.first(options.get(name, [])) for name in ("min-port", "max-port")]
        answer = _evidence.stun(listening, port, self.seconds)
        realm, tls = (_evidence.first(options.get(name, [])) for name in ("realm", "tls-listening-port"))
        return {
            "realm": realm,
            "tls_port": int(tls or 0),
            "certificate": _evidence.certificate(listening, int(tls), realm, self.seconds) if tls else {},
            "stun": answer["kind"],
            "tcp": _evidence.tcp(listening, port, self.seconds),
            "listening": listening,
            "port": port,
            "external": _evidence.first(options.get("external-ip", [])),
            "ports": "-".join(ports) if all(ports) else "",
        }

    def firewall(self, janus: dict[str, Any], coturn: dict[str, Any], addresses: list[str]) -> dict[str, Any]:
        """Return which of the backend's ports a rule of this host stops, as all programs say that can be asked."""
        listings: dict[str, str] = {}
        for program, arguments in FILTERS.items():
            path = self.module.get_bin_path(program)
            code, out, _err = self.module.run_command([path, *arguments]) if path else (1, "", "")
            if code == 0:
                listings[program] = out
        proc = Path("/proc/net")
        interface = _evidence.arriving(text_of(proc / "route"), text_of(proc / "ipv6_route"))
        wanted = [f"udp {janus['ports']}", *(f"{protocol} {coturn['port']}" for protocol in ("udp", "tcp"))]
        wanted += [f"udp {coturn['ports']}", "tcp 443", f"tcp {coturn['tls_port']}"]
        spans = [span for span in map(_evidence.span, wanted) if span]
        return {
            "programs": list(listings),
            "kind": _packet_filter.kind_of(listings),
            "stops": _packet_filter.stops(listings, spans, interface, addresses),
        }

    def inside(self, url: str, running: bool) -> dict[str, Any]:
        """Return how a request from inside the signaling server's container ends.

        It is made by the programs, in the network and with the files of the container, but as a process of the host:
        BusyBox' programs leave children behind, which nothing in the container would ever collect. After some eighty
        looks it would be full of them (pids limit), and its health check could not start.
        """
        if not (running and self.enter and self.process):
            return {
                "kind": "not asked",
                "status": 0,
                "address": "",
                "text": "",
                "maintenance": False,
                "nextcloud": False,
            }
        wget = ["wget", "-S", "-T", str(self.seconds), "-O", "-", "--header", "OCS-APIRequest: true", url]
        inside = ["--target", str(self.process), "--mount", "--net", "--setuid", NOBODY, "--setgid", NOBODY]
        argv = [self.enter, *inside, "timeout", str(2 * self.seconds), *wget]
        return _evidence.wget_outcome(*self.module.run_command(argv))

    def way(self, url: str, path: str, running: bool, pins: dict[str, str]) -> tuple[dict[str, Any], _evidence.Place]:
        """Return how the signaling server's container reaches a path at an address, and where that is."""
        parts = urlsplit(url)
        name, port = parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443)
        inside = self.inside(url.rstrip("/") + path, running)
        context = None if parts.scheme == "http" else _evidence.trust(str(self.base / AUTHORITIES))
        return inside, _evidence.Place(
            inside["address"] or pins.get(name.lower()) or name, port, name, context, self.seconds
        )

    def nextcloud(self, url: str, running: bool, pins: dict[str, str]) -> dict[str, Any]:
        """Return how the signaling server's container reaches a Nextcloud, and what answers there."""
        inside, place = self.way(url, CAPABILITIES, running, pins)
        path = urlsplit(url).path.rstrip("/")
        answer, tls = answered(place, path + BACKEND, QUESTION, b"{}")
        page = {} if answer["stage"] else answered(place, f"{path}/", {"Accept": "text/html"})[0]
        kept = {key: page[key] for key in ("status", "location", "headers") if page and not page["stage"]}
        line = _evidence.hosts_file(urlsplit(url).hostname or "")
        return {"url": url, "inside": inside, "tls": tls, "answer": answer, "page": kept, "hosts_file": line}

    def own_name(self, running: bool, pins: dict[str, str]) -> dict[str, Any]:
        """Return how the signaling server's container reaches its own public name."""
        url = self.module.params["url"]
        if not url or not running:
            return {}
        inside, place = self.way(url, WELCOME, running, pins)
        answer, tls = answered(place, urlsplit(url).path.rstrip("/") + WELCOME, {})
        return {"url": url, "inside": inside, "tls": tls, "answer": answer}

    def pins(self, running: bool) -> dict[str, str]:
        """Return the names that the signaling server's container has addresses for."""
        if not running:
            return {}
        _code, hosts, _err = self.module.run_command([self.docker, "exec", self.server, "cat", "/etc/hosts"])
        return _evidence.pinned(hosts)

    def nextclouds(self, running: bool, pins: dict[str, str]) -> dict[str, Any]:
        """Return how each Nextcloud is reached, several asked at a time."""
        wanted = self.module.params["nextclouds"]
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = pool.map(lambda item: self.nextcloud(item["url"], running, pins), wanted)
            return {item["id"]: answer for item, answer in zip(wanted, answers)}


def answered(
    place: _evidence.Place, path: str, headers: dict[str, str], body: bytes | None = None
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what a request came to, and whether TLS came about with a certificate that holds (kind "")."""
    answer = _evidence.ask(place, path, headers, body)
    tls = answer.pop("tls")
    if place.context and answer["stage"] in ("name", "connect", "tls"):
        tls = {"kind": answer["kind"], "text": answer["text"]}
    return answer, tls


def parsed(text: str) -> dict[str, Any]:
    """Return a JSON object, {} for anything else."""
    try:
        content = json.loads(text)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def main() -> None:
    """Look and report."""
    began = time.time()
    nextcloud = {"id": {"type": "str", "required": True}, "url": {"type": "str", "required": True}}
    module = AnsibleModule(
        argument_spec={
            "domain": {"type": "str", "required": True},
            "url": {"type": "str", "default": ""},
            "base_dir": {"type": "path", "default": "/opt/nextcloud-talk-hpb"},
            "containers": {
                "type": "list",
                "elements": "str",
                "default": ["nats", "janus", "coturn", "signalling", "traefik"],
            },
            "signalling_port": {"type": "int", "default": 8080},
            "nats_monitor_port": {"type": "int", "default": 8222},
            "janus_port": {"type": "int", "default": 8188},
            "used_ports": {"type": "dict", "default": {}},
            "addresses": {
                "type": "dict",
                "options": {name: {"type": "str", "default": _evidence.LOOPBACK} for name in ASKED},
            },
            "nextclouds": {"type": "list", "elements": "dict", "default": [], "options": nextcloud},
            "secrets": {"type": "list", "elements": "str", "default": [], "no_log": True},
            "timeout": {"type": "int", "default": 5},
        },
        supports_check_mode=True,
    )
    look = Look(module)
    error = look.engine_error()
    containers = {} if error else look.containers()
    running = containers.get("signalling", {}).get("state") == "running"
    pins = look.pins(running)
    proc = Path("/proc/net")
    addresses = _evidence.host_addresses(text_of(proc / "fib_trie"), text_of(proc / "if_inet6"))
    janus, coturn = look.janus(), look.coturn()
    module.exit_json(
        changed=False,
        time=began,
        engine_error=error,
        containers=containers,
        held=look.held(containers),
        signalling=look.signalling(),
        nats=look.nats(),
        janus=janus,
        coturn=coturn,
        certificate=_evidence.certificate(
            look.addresses["proxy"], 443, module.params["domain"], module.params["timeout"]
        ),
        addresses=addresses,
        firewall=look.firewall(janus, coturn, addresses),
        nextclouds=look.nextclouds(running, pins),
        own_name=look.own_name(running, pins),
    )


if __name__ == "__main__":
    main()
