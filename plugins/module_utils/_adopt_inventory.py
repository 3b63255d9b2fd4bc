# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a compose installation to an inventory, a secrets file and the words that go with them. Everything is pure.

No text but the secrets file's holds a secret.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _adopt, _adopt_defects, _secrets
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._adopt import AdoptError, Backend, Installation
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._backends import BITRATES, NOT_INSTANCES, SECTIONS
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._network import UrlError, normalize_url

FILL_IN = "FILL IN"

# Words of a group's name that would be taken for something else.
_TAKEN = {name.lower() for name in NOT_INSTANCES} | SECTIONS

# Ways to reach the host that are taken over into the new inventory; never a password.
CONNECTION = ("ansible_host", "ansible_port", "ansible_user", "ansible_connection", "ansible_become")


@dataclass
class Instance:
    """A Nextcloud as it is to stand in the inventory."""

    id: str
    host: str
    urls: list[str]
    backend: Backend
    own_host: bool = True
    numbers: dict[str, int] = field(default_factory=dict)


@dataclass
class Adopted:
    """What came of it. `hosts`, `group_vars`, `secrets` and `page` are whole files, `lines` is for the terminal."""

    hosts: str
    group_vars: str
    secrets: str
    page: str
    lines: list[str]


@dataclass
class _Words:
    """Sentences that are collected on the way."""

    changed: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    fill_in: list[str] = field(default_factory=list)


@dataclass
class _Report:
    """What the words about it are made of."""

    found: Installation
    instances: list[Instance]
    document: dict[str, Any]
    words: _Words
    notes: list[str]
    defects: list[_adopt_defects.Found]
    steps: list[tuple[str, str]]


def adopt(found: Installation, host: Mapping[str, Any], into: str, secrets_file: str) -> Adopted:
    """Return everything for an installation.

    host: `name`, as the run calls the host of the installation, and those of `CONNECTION` that it has. into: the
    inventory directory, secrets_file: the name of the encrypted file, both on the controller. Raises AdoptError when no
    Nextcloud is left.
    """
    words = _Words()
    domain = _adopt.domain(found)
    instances = _instances(found, domain, words)
    if not instances:
        raise AdoptError("\n".join(["None of the Nextclouds can be taken over:", *words.refused]))
    document = _document(found, instances, words)
    settings = _settings(found, domain, words)
    defects = _adopt_defects.find(found)
    hosts = _hosts(found, instances, domain, host, words)
    steps = _steps(found, host, into, secrets_file, words)
    notes = [*words.changed, *words.refused, *found.notes]
    report = _Report(found, instances, document, words, notes, defects, steps)
    return Adopted(
        hosts=hosts,
        group_vars=settings,
        secrets=_secrets.dump(document),
        page=_page(report),
        lines=_lines(report),
    )


def valid_id(name: str, used: Iterable[str]) -> str:
    """Return a name that an instance can have, as near to `name` as can be and different from those used."""
    found = re.sub(r"[^A-Za-z0-9_]", "_", name) or "nc"
    if found[0].isdigit():
        found = f"nc_{found}"
    if found.lower() in _TAKEN:
        found = f"{found}_nc"
    others, number, plain = {other.lower() for other in used}, 2, found
    while found.lower() in others:
        found, number = f"{plain}_{number}", number + 1
    return found


def _instances(found: Installation, domain: str, words: _Words) -> list[Instance]:
    """Return the Nextclouds with names and addresses that work here."""
    result: list[Instance] = []
    for backend in found.backends:
        urls = _urls(backend, words)
        known = {url: other.id for other in result for url in other.urls}
        for url in [url for url in urls if url in known]:
            words.refused.append(
                f"{backend.name} has the URL {url} of {known[url]}, too, of which the old signaling server took the "
                f"first: it was left to {known[url]}."
            )
        urls = [url for url in urls if url not in known]
        if not urls:
            words.refused.append(f"{backend.name} has no URL of its own that can be used and was not taken over.")
            continue
        name = valid_id(backend.name, [other.id for other in result])
        if name != backend.name:
            words.changed.append(
                f"{backend.name} is called {name} here: a name has letters, digits and _, and is none that Ansible or "
                f"the signaling server's configuration uses otherwise."
            )
        host = urlsplit(urls[0]).hostname or ""
        own = host != domain and host not in [other.host for other in result]
        instance = Instance(name, host if own else f"{name}.{host}", urls, backend, own)
        instance.numbers = _numbers(backend, words)
        result.append(instance)
    return result


def _urls(backend: Backend, words: _Words) -> list[str]:
    """Return the addresses of a Nextcloud as the inventory takes them."""
    urls = []
    for url in backend.urls:
        secure = re.sub(r"^http://", "https://", url, flags=re.IGNORECASE)
        if secure != url:
            words.changed.append(
                f"{backend.name} was known under {url}, here it is {secure}: browsers give camera and microphone "
                f"to pages with https only. Check its overwrite.cli.url."
            )
        try:
            urls.append(normalize_url(secure))
        except UrlError as error:
            words.refused.append(f"{backend.name}: its URL {url} {error}.")
    return list(dict.fromkeys(urls))


def _numbers(backend: Backend, words: _Words) -> dict[str, int]:
    """Return the limits of an instance by our variables; a bitrate that cannot be meant is left out."""
    numbers = {}
    if backend.session_limit is not None:
        numbers["talk_session_limit"] = backend.session_limit
    for name, value in (
        ("talk_stream_bitrate", backend.stream_bitrate),
        ("talk_screen_bitrate", backend.screen_bitrate),
    ):
        if value is not None and BITRATES[0] <= value <= BITRATES[1]:
            numbers[name] = value
        elif value:
            words.refused.append(
                f"{backend.name}: {name} would be {value} bit/s, expected {BITRATES[0]} to {BITRATES[1]}; it was left "
                f"out, so that the server's own limit counts."
            )
    return numbers


def _document(found: Installation, instances: Sequence[Instance], words: _Words) -> dict[str, Any]:
    """Return the secrets file with what can be taken over; what is missing in it the playbook site makes."""
    document: dict[str, Any] = {"version": _secrets.VERSION, "instances": {}}
    holders: dict[str, str] = {}

    def usable(name: str, value: str, what: str, way_out: str) -> bool:
        reason = _secrets.fault(name, value) if value else f"{name} is empty"
        if reason is None and value in holders:
            reason = f"{name} has the same value as {holders[value]}, and each was expected to be its own"
        if reason:
            words.refused.append(f"{what} was not taken over: {reason}. {way_out}")
            return False
        holders[value] = name
        return True

    for instance in instances:
        entry = document["instances"][instance.id] = {"url": instance.urls[0]}
        if usable(
            f"{instance.id}.backend",
            instance.backend.secret,
            f"The shared secret of {instance.id}",
            f"The playbook site makes a new one and registers it; with talk_register: false the admin of "
            f"{instance.urls[0]} has to enter it, from handover/{instance.id}.md.",
        ):
            entry["backend"] = instance.backend.secret
    _take_turn(found, instances, document, words, usable)
    for name, section, option in (
        ("session_hash_key", "sessions", "hashkey"),
        ("session_block_key", "sessions", "blockkey"),
        ("internal", "clients", "internalsecret"),
    ):
        value = found.option(section, option)
        way_out = "The playbook site makes a new one, which nobody has to enter."
        if name == "internal":
            way_out = "The playbook site makes a new one; a recording server or SIP bridge needs to be given it."
        if value and usable(name, value, f"{option} of the signaling server", way_out):
            document[name] = value
    return document


def _take_turn(found: Installation, instances: Sequence[Instance], document: dict, words: _Words, usable: Any) -> None:
    """Put coturn's secret into the document, for each instance."""
    way_out = (
        "The playbook site makes one for each Nextcloud and registers it; with talk_register: false its admin has to "
        "enter it, from its page in handover/. Until then that Nextcloud has no TURN."
    )
    secrets = _adopt.turn_secrets(found)
    if not secrets:
        words.refused.append(f"coturn has no static-auth-secret in these files. {way_out}")
        return
    if len(secrets) > 1:
        words.refused.append(
            f"coturn takes {len(secrets)} static-auth-secrets, of which the first was looked at: a Nextcloud that has "
            f"another needs to be given the first, or its own by the playbook rotate."
        )
    if not usable("turn", secrets[0], "The TURN secret", way_out):
        return
    for instance in instances:
        document["instances"][instance.id]["turn"] = secrets[0]
    if len(instances) > 1:
        document[_secrets.ONE_TURN] = True


def _first_port(service: _adopt.Service | None, inside: int) -> int:
    """Return the port of the host at which a port of coturn is reached."""
    entry = service.publishes(inside, "udp") or service.publishes(inside, "tcp") if service else None
    return entry.host[0] + inside - entry.container[0] if entry and entry.host[0] else inside


def _port_of(found: Installation, option: str, default: int) -> int:
    values = [value for value in found.turn_values(option) if value.isdigit()]
    return int(values[0]) if values else default


def _settings(found: Installation, domain: str, words: _Words) -> str:
    """Return group_vars/hpb.yml."""
    lines = ["---", f"# From {found.path}, by the playbook adopt. The role hpb explains all variables.", ""]

    def say(name: str, value: Any, why: str = "") -> None:
        lines.append(f"{name}: {_scalar(value)}" + (f" # {why}" if why else ""))

    def ask(name: str, example: str, why: str) -> None:
        lines.append(f"# {FILL_IN}: {why}")
        lines.append(f"# {name}: {example}")
        words.fill_in.append(f"{name} in group_vars/hpb.yml: {why}")

    if domain:
        say("hpb_domain", domain, "browsers and Nextclouds reach the backend at this name")
    else:
        ask("hpb_domain", "talk.example.org", "the name at which the Nextclouds have the signaling server")
    turn = _adopt.turn_domain(found)
    if turn:
        say("hpb_turn_domain", turn, "STUN and TURN")
    else:
        ask("hpb_turn_domain", "turn.example.org", "the name at which the Nextclouds have the TURN server")
    service = found.service("coturn")
    port = _first_port(service, _port_of(found, "listening-port", 3478))
    if port != 3478:
        say("hpb_turn_port", port)
    prefix = _path(found)
    if prefix:
        say("hpb_path", prefix, "the name serves something else, too")
    lines.append("")
    own = _proxy(found, lines, say, ask)
    _tls(found, service, own, lines)
    outside = [re.split("/", value)[0] for value in found.turn_values("external-ip") if value]
    outside += [value for value in [found.janus.get("nat_1_1_mapping", "")] if value]
    if outside or any(name.startswith("DETECT_") for name in (service.environment if service else {})):
        lines += [
            "",
            "# The old coturn or Janus was told its public address. It is needed here when the host is behind NAT; the",
            "# preflight of the playbook site says so.",
            f"# hpb_public_ip: {outside[0] if outside else '192.0.2.10'}",
        ]
    for name, option in (
        ("signalling_stream_bitrate", "maxstreambitrate"),
        ("signalling_screen_bitrate", "maxscreenbitrate"),
    ):
        value = found.option("mcu", option)
        if value.isdigit() and BITRATES[0] <= int(value) <= BITRATES[1]:
            say(name, int(value), "bit/s, for an instance that names none")
    return "\n".join(lines) + "\n"


def _path(found: Installation) -> str:
    """Return the path under which Traefik serves the signaling server, "" where it is the root."""
    for rule in _adopt.http_rules(found.service("signaling")):
        match = re.search(r"PathPrefix\([`'\"](/[A-Za-z0-9_/-]+)", rule)
        if match and not match.group(1).startswith(("/spreed", "/api")):
            return match.group(1).rstrip("/")
    return ""


def _proxy(found: Installation, lines: list[str], say: Any, ask: Any) -> bool:
    """Say who serves ports 80 and 443. Returns whether it is our own Traefik."""
    signaling, proxy = found.service("signaling"), found.service("proxy")
    labels = signaling.labels if signaling else {}
    published = signaling.publishes(8080, "tcp") if signaling else None
    if proxy is None and _adopt.http_rules(signaling):
        lines.append(
            "# A Traefik that is no part of the old installation has ports 80 and 443, and goes on serving the name."
        )
        say("traefik_enabled", False)
        say("hpb_proxy", "traefik_labels", "needs Traefik 3.4; see the role proxy for others")
        for name, option in (("hpb_proxy_resolver", "tls.certresolver"), ("hpb_proxy_entry_point", "entrypoints")):
            pattern = rf"traefik\.http\.routers\..+\.{re.escape(option)}"
            value = next((value for key, value in labels.items() if re.fullmatch(pattern, key)), "")
            if value:
                say(name, value.split(",")[0])
        network = labels.get("traefik.docker.network") or next((n for n in signaling.networks if n != "default"), "")
        if network:
            say("hpb_proxy_network", network)
            ask("hpb_proxy_container", "traefik", f"the name of Traefik's container in the Docker network {network}")
        return False
    if proxy is None and signaling and (published or signaling.on_host_network):
        port = published.host[0] if published else 8080
        lines.append(
            "# A proxy that is no part of the old installation has ports 80 and 443, and goes on serving the name."
        )
        say("traefik_enabled", False)
        if port != 8080 and port >= 1024:
            say("hpb_signaling_port", port, "where that proxy finds the signaling server")
        return False
    mails = [word for word in (proxy.command if proxy else []) if re.search(r"acme\.email=", word, re.IGNORECASE)]
    if proxy is not None:
        lines.append(
            f"# Our own Traefik takes the place of the old service {proxy.name}. Where that serves other names, too,"
        )
        lines.append("# keep it and say traefik_enabled: false (see the role proxy).")
    if mails:
        say("hpb_acme_email", mails[0].partition("=")[2], "Let's Encrypt writes to it")
    else:
        ask("hpb_acme_email", "admin@example.org", "where Let's Encrypt writes to, or choose hpb_tls")
    return True


def _tls(found: Installation, service: _adopt.Service | None, own: bool, lines: list[str]) -> None:
    """Say where TURN over TLS is."""
    if not found.turn_values("cert") or not found.turn_values("pkey") or found.turn_values("no-tls"):
        return
    inside = _port_of(found, "tls-listening-port", 5349)
    if service and not service.on_host_network and not service.publishes(inside, "tcp"):
        return
    port = _first_port(service, inside)
    lines.append(
        f"hpb_turn_tls_port: {port} # TURN over TLS"
        if own
        else f"# hpb_turn_tls_port: {port} # the old coturn spoke TLS; this needs hpb_tls: files or private_ca"
    )


def _scalar(value: Any) -> str:
    """Return a value as YAML: bare where that is safe, else in JSON's quotes."""
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    plain = re.fullmatch(r"[A-Za-z/][A-Za-z0-9_./@-]*(:[A-Za-z0-9_./@-]+)*", text)
    word = text.lower() in {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}
    return text if isinstance(value, int) or (plain and not word) else json.dumps(text)


def _hosts(
    found: Installation, instances: Sequence[Instance], domain: str, host: Mapping[str, Any], words: _Words
) -> str:
    """Return hosts.yml."""
    name = domain or str(host["name"])
    connection = {key: host[key] for key in CONNECTION if host.get(key) not in (None, "")}
    if name != host["name"]:
        connection.setdefault("ansible_host", host["name"])
    if connection.get("ansible_connection") == "local":
        # A copy of the files was read: where the host itself is, only the user knows.
        connection = {}
    lines = [
        "---",
        f"# From {found.path}, by the playbook adopt. What concerns the backend itself is in group_vars/hpb.yml.",
        "",
        "hpb: # the host that runs the backend",
        "  hosts:",
        f"    {_scalar(name)}:",
        *(f"      {key}: {_scalar(value)}" for key, value in connection.items()),
        "",
        "nextcloud: # every group below is one Nextcloud instance",
        "  children:",
    ]
    for instance in instances:
        lines += [f"    {_scalar(instance.id)}:", "      hosts:", f"        {_scalar(instance.host)}:"]
        if not instance.own_host:
            lines.append(f"          ansible_host: {_scalar(_host_of(instance))}")
        lines += [
            "      vars:",
            f"        # {FILL_IN} one of these lines, without its #; README.md has other ways to reach occ. Until then",
            "        # /var/www/nextcloud/occ is tried; without it the playbook site stops and changes nothing.",
            "        # talk_occ: /var/www/nextcloud/occ # occ on that host",
            "        # talk_container: nextcloud-app-1 # a container there",
            "        # talk_register: false # somebody else's: never contacted, keeps the settings that it has",
        ]
        if not instance.own_host or instance.urls[0] != f"https://{instance.host}":
            lines.append(f"        talk_url: {_scalar(instance.urls[0])}")
        if instance.urls[1:]:
            lines.append(f"        talk_urls: [{', '.join(map(_scalar, instance.urls[1:]))}]")
        lines += [f"        {key}: {value}" for key, value in instance.numbers.items()]
        words.fill_in.append(
            f"{instance.id} in hosts.yml: how its occ is reached, or talk_register: false, and ansible_host where the "
            f"machine to log in to is not {_host_of(instance)}"
        )
    return "\n".join(lines) + "\n"


def _host_of(instance: Instance) -> str:
    return instance.host if instance.own_host else instance.host[len(instance.id) + 1 :]


def _steps(
    found: Installation, host: Mapping[str, Any], into: str, secrets_file: str, words: _Words
) -> list[tuple[str, str]]:
    """Return what is to be done now: (sentence, command or "")."""
    playbook = f"ansible-playbook -i {into} nextcloud_talk.hpb"
    where = "its host" if host.get("ansible_connection") == "local" else host["name"]
    steps = [(f"Fill in what is marked {FILL_IN} in {into}.", "")]
    steps += [
        (
            "Bring the secrets onto the host. The old installation goes on as before.",
            f"{playbook}.secrets -e import={secrets_file} --ask-vault-pass",
        ),
        (
            "Look. All that this may complain of in the end is ports that the old containers hold.",
            f"{playbook}.site --check --diff",
        ),
        (
            "In the firewall open 20000-29999/udp (Janus) and 61000-65535/udp (TURN) beside the ports that are open; "
            "the old ranges can be closed when all is done.",
            "",
        ),
    ]
    if found.compose:
        steps.append(
            (
                f"Stop the old containers on {where}, without -v, so that their volumes stay. This ends calls. "
                f"The way back is docker compose up -d, after our containers were stopped.",
                f"cd {found.path} && docker compose down",
            )
        )
    else:
        steps.append((f"Stop the old programs on {where}. This ends calls.", ""))
    steps += [
        ("Deploy, register and prove it with a call for each Nextcloud.", f"{playbook}.site"),
        (
            "Read the summary: registered, secrets agree, calls direct and through TURN. Where talk_register is false, "
            "have somebody place a call.",
            "",
        ),
    ]
    if len(found.backends) > 1:
        steps.append(
            (
                "Once it works, give each Nextcloud a TURN secret of its own; who cannot be told keeps the old one.",
                f"{playbook}.rotate -e rotate=ID.turn",
            )
        )
    return steps


def _kept(document: Mapping[str, Any], instance: str) -> str:
    """Say which of an instance's secrets are as before."""
    entry = document["instances"][instance]
    kept = [word for word in ("backend", "turn") if word in entry]
    return " and ".join(kept) + " secret unchanged" if kept else "new secrets"


def _lines(report: _Report) -> list[str]:
    """Return what the run prints."""
    count, defects = len(report.instances), len(report.defects)
    lines = [f"{count} Nextcloud{'s' if count > 1 else ''} in {report.found.path}:"]
    lines += [f"  {one.id}: {one.urls[0]}, {_kept(report.document, one.id)}" for one in report.instances]
    lines.append(_shared(report.document))
    if report.notes:
        lines += ["", "What is different:", *(f"  - {note}" for note in report.notes)]
    lines += ["", f"Known defects of such installations that were found: {defects or 'none'}."]
    for defect in report.defects:
        lines += [f"  {defect.number}. {defect.name} ({'; '.join(defect.where)})", f"     {defect.sentence}"]
    lines += ["", "To be filled in:", *(f"  - {entry}" for entry in report.words.fill_in), "", "What is next:"]
    for number, (sentence, command) in enumerate(report.steps, start=1):
        lines += [f"  {number}. {sentence}", *([f"     {command}"] if command else [])]
    return lines


def _page(report: _Report) -> str:
    """Return the page of Markdown that stays beside the inventory."""
    lines = [f"# Adopted from {_code(report.found.path)}", "", "This page holds no secret."]
    lines += ["", "## What was taken over", ""]
    lines += ["| instance | URL | sessions | bitrates (camera, screen) | secrets |", "|---|---|---|---|---|"]
    for one in report.instances:
        camera, screen = (one.numbers.get(f"talk_{kind}_bitrate", "server's") for kind in ("stream", "screen"))
        limit = one.numbers.get("talk_session_limit", 0) or "no limit"
        kept = _kept(report.document, one.id)
        lines.append(f"| {one.id} | {' '.join(one.urls)} | {limit} | {camera}, {screen} | {kept} |")
    lines += ["", _escaped(_shared(report.document))]
    if report.notes:
        lines += ["", "## What is different", "", *(f"- {_escaped(note)}" for note in report.notes)]
    lines += ["", "## What is to be filled in", "", *(f"- {_escaped(entry)}" for entry in report.words.fill_in)]
    lines += ["", "## What is next", ""]
    for number, (sentence, command) in enumerate(report.steps, start=1):
        lines += [f"{number}. {_escaped(sentence)}", *(["", f"   {_code(command)}", ""] if command else [])]
    lines += ["", "## Known defects that were found", ""]
    for defect in report.defects:
        where = _escaped("; ".join(defect.where))
        lines.append(f"- **{defect.number}. {defect.name}** ({where}): {_escaped(defect.sentence)}")
    if not report.defects:
        lines.append("None of those that can be seen from the files.")
    lines += ["", "What cannot be seen from the files:", ""]
    lines += [f"- {number}: {what}" for number, what in _adopt_defects.UNSEEN.items()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)) + "\n"


def _shared(document: Mapping[str, Any]) -> str:
    """Say which of the secrets that no Nextcloud has are as before."""
    names = [name for name in _secrets.SHARED if name in document]
    return f"Shared secrets unchanged: {', '.join(names) or 'none'}."


def _code(text: str) -> str:
    return f"`{text.replace('`', chr(39))}`"


def _escaped(text: str) -> str:
    """Return text of the installation in which Markdown finds nothing of its own."""
    return re.sub(r"([\\`*_<>|\[\]])", r"\\\1", text)
