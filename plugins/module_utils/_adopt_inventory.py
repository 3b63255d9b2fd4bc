# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a compose installation to an inventory, a secrets file and the words that go with them. Everything is pure.

No text but the secrets file's holds a secret.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import (
    _adopt,
    _adopt_defects,
    _adopt_settings,
    _secrets,
)
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._adopt import Backend, Installation
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._adopt_compose import COMPOSE, AdoptError, Project
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._adopt_settings import FILL_IN, Names, Words, scalar
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._backends import BITRATES, NOT_INSTANCES, SECTIONS
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._network import UrlError, normalize_url

# Words of a group's name that would be taken for something else.
_TAKEN = {name.lower() for name in NOT_INSTANCES} | SECTIONS

# Ways to reach the host that are taken over into the new inventory; never a password.
CONNECTION = ("ansible_host", "ansible_port", "ansible_user", "ansible_connection", "ansible_become")

# Kinds of services that may serve more than the backend.
_FRONTS = ("proxy", "form")

# Where STUN and TURN are everywhere.
TURN_PORT = 3478

# The container of a Nextcloud that All-in-One runs.
AIO_NEXTCLOUD = "nextcloud-aio-nextcloud"


@dataclass
class Instance:
    """A Nextcloud as it is to stand in the inventory."""

    id: str
    host: str
    urls: list[str]
    backend: Backend
    server: Installation
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
class _Report:
    """What the words about it are made of."""

    found: Sequence[Installation]
    instances: list[Instance]
    document: dict[str, Any]
    words: Words
    notes: list[str]
    defects: list[_adopt_defects.Found]
    steps: list[tuple[str, str]]

    @property
    def path(self) -> str:
        return self.found[0].path


def adopt(found: Sequence[Installation], host: Mapping[str, Any], into: str, secrets_file: str) -> Adopted:
    """Return everything for the signaling servers of one host, which become one backend.

    host: `name`, as the run calls the host of the installation, and those of `CONNECTION` that it has. into: the
    inventory directory, secrets_file: the name of the encrypted file, both on the controller. Raises AdoptError when no
    Nextcloud is left.
    """
    words = Words()
    # All of them become like one: the first with the usual port, if its name is known.
    main = min(found, key=lambda one: (not _adopt.domain(one), _adopt_settings.turn_port(one) != TURN_PORT))
    domain = _adopt.domain(main)
    name = domain or str(host["name"])
    instances = _instances(found, name, words)
    if not instances:
        raise AdoptError(
            "\n".join(["None of the Nextclouds can be taken over:", *words.refused]), [*words.changed, *main.notes]
        )
    document = _document(instances, words)
    names = _adopt_settings.names(found, _adopt_settings.front(main))
    settings = _adopt_settings.settings(main, domain, words, names)
    _say_who_keeps_a_name(names, words)
    _say_what_moves(found, main, domain, instances, words)
    defects = _adopt_defects.find(found)
    hosts = _hosts(main, instances, name, host, words)
    steps = _steps(found, main, instances, names=names, host=host, into=into, secrets_file=secrets_file)
    notes = [*words.changed, *words.refused, *main.notes]
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


def _host_in(url: str) -> str:
    """Return the host in an address of any shape, "" when there is none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _names(backends: Sequence[Backend]) -> dict[str, str]:
    """Return {name of a backend: what it is to be called}; one that is called like its host gets as many labels of
    that as tell it from others.
    """
    hosts = {backend.name: backend.name.split(":")[0].split("/")[0] for backend in backends}
    whole = {
        name: host.lower().split(".")
        for name, host in hosts.items()
        if any(host and host.lower() == _host_in(url) for one in backends if one.name == name for url in one.urls)
    }
    called = dict(zip(hosts, hosts))
    for name, labels in whole.items():
        short = (labels[:count] for count in range(1, len(labels)))
        alone = (part for part in short if sum(other[: len(part)] == part for other in whole.values()) == 1)
        called[name] = "_".join(next(alone, labels))
    return called


def _instances(found: Sequence[Installation], hpb: str, words: Words) -> list[Instance]:
    """Return the Nextclouds with names and addresses that work here; `hpb` is what the backend's own host is called."""
    result: list[Instance] = []
    names = _names([backend for one in found for backend in one.backends])
    for server, backend in [(one, backend) for one in found for backend in one.backends]:
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
        wanted = names[backend.name]
        name = valid_id(wanted, [other.id for other in result])
        if name != wanted:
            words.changed.append(
                f"{wanted} is called {name} here: a name has letters, digits and _, and is none that Ansible or "
                f"the signaling server's configuration uses otherwise."
            )
        host = urlsplit(urls[0]).hostname or ""
        own = host != hpb and host not in [other.host for other in result]
        instance = Instance(name, host if own else f"{name}.{host}", urls, backend, server, own)
        instance.numbers = _numbers(backend, words)
        result.append(instance)
    return result


def _say_who_keeps_a_name(names: Names, words: Words) -> None:
    """Say which containers of the old installation have names of ours, and what ours are called beside them."""
    if names.taken:
        have, keep, them = (
            ("have names", "They keep them", "them") if names.taken[1:] else ("has a name", "It keeps it", "it")
        )
        words.changed.append(
            f"Of the old containers {', '.join(names.taken)} {have} of ours. {keep}: ours are called "
            f"{', '.join(names.ours)} (hpb_container_prefix). Stop {them} and do not remove {them}: the way back "
            f"starts {them} again."
        )


def _say_what_moves(
    found: Sequence[Installation], main: Installation, domain: str, instances: Sequence[Instance], words: Words
) -> None:
    """Say which Nextclouds have the backend at a place that it will not have any more, and what the TURN server was."""
    for one, place in _adopt_settings.differing(found, main, domain):
        names = [instance.id for instance in instances if instance.server is one]
        words.changed.append(
            f"{', '.join(names)} had {place}; here all have one name and port, which the playbook site registers. With "
            f"talk_register: false the admin has to enter them, from the page in .handover/."
        )
    eturnal = [one.aio.name if one.aio else one.files.shown(one.turn_conf) for one in found if one.eturnal]
    if eturnal:
        words.changed.append(
            f"The TURN server is eturnal ({', '.join(filter(None, eturnal)) or 'a service'}); here it is coturn, which "
            f"takes the same credentials and relays from 61000-65535 (coturn_min_port, coturn_max_port)."
        )


def _urls(backend: Backend, words: Words) -> list[str]:
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


def _numbers(backend: Backend, words: Words) -> dict[str, int]:
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


class _Secrets:
    """The secrets file as it grows: what can be taken over; what is missing in it the playbook site makes."""

    def __init__(self, words: Words) -> None:
        self.words = words
        self.document: dict[str, Any] = {"version": _secrets.VERSION, "instances": {}}
        self.holders: dict[str, str] = {}
        self.turn: dict[str, bool] = {}

    def usable(self, name: str, value: str, what: str, way_out: str) -> bool:
        """Whether a secret can be the one of that name here, and nobody else's; says why not."""
        reason = _secrets.fault(name, value) if value else f"{name} is empty"
        if reason is None and value in self.holders:
            reason = f"{name} has the same value as {self.holders[value]}, and each was expected to be its own"
        if reason:
            self.words.refused.append(f"{what} was not taken over: {reason}. {way_out}")
            return False
        self.holders[value] = name
        return True

    def take_backend(self, instance: Instance) -> None:
        entry = self.document["instances"][instance.id] = {"url": instance.urls[0]}
        if self.usable(
            f"{instance.id}.backend",
            instance.backend.secret,
            f"The shared secret of {instance.id}",
            f"The playbook site makes a new one and registers it; with talk_register: false the admin of "
            f"{instance.urls[0]} has to enter it, from .handover/{instance.id}.md.",
        ):
            entry["backend"] = instance.backend.secret

    def take_turn(self, server: Installation, instances: Sequence[str], alone: bool) -> None:
        """Take the secret of a TURN server for its instances; other ones may have the same."""
        way_out = (
            "The playbook site makes one for each Nextcloud and registers it; with talk_register: false its admin has "
            "to enter it, from its page in .handover/. Until then that Nextcloud has no TURN."
        )
        called = "eturnal" if server.eturnal else "coturn"
        secrets = _adopt.turn_secrets(server)
        if not secrets:
            option = "secret" if server.eturnal else "static-auth-secret"
            self.words.refused.append(f"{called} has no {option} in these files. {way_out}")
            return
        if len(secrets) > 1:
            self.words.refused.append(
                f"{called} takes {len(secrets)} secrets, of which the first was looked at: a Nextcloud that has "
                f"another needs to be given the first, or its own by the playbook rotate."
            )
        which = "The TURN secret" if alone else f"The TURN secret of {server.called()}"
        if secrets[0] not in self.turn:
            name = "turn" if alone else f"{instances[0]}.turn"
            self.turn[secrets[0]] = self.usable(name, secrets[0], which, way_out)
        elif not self.turn[secrets[0]]:
            self.words.refused.append(f"{which} was not taken over either: it is the same.")
        for instance in instances if self.turn[secrets[0]] else ():
            self.document["instances"][instance]["turn"] = secrets[0]

    def take_shared(self, servers: Sequence[Installation]) -> None:
        """Take what no Nextcloud has: that of the first server, since there is one for all here."""
        for name, section, option in (
            ("session_hash_key", "sessions", "hashkey"),
            ("session_block_key", "sessions", "blockkey"),
            ("internal", "clients", "internalsecret"),
        ):
            way_out = "The playbook site makes a new one, which nobody has to enter."
            if name == "internal":
                way_out = "The playbook site makes a new one; a recording server or SIP bridge needs to be given it."
            values = list(dict.fromkeys(value for one in servers if (value := one.option(section, option))))
            if values and self.usable(name, values[0], f"{option} of the signaling server", way_out):
                self.document[name] = values[0]
            if len(values) > 1 and name == "internal":
                self.words.changed.append(
                    f"The servers have {len(values)} internal secrets, of which the first was taken: a recording "
                    f"server or SIP bridge that has another needs to be given it."
                )


def _document(instances: Sequence[Instance], words: Words) -> dict[str, Any]:
    """Return the secrets file."""
    found = _Secrets(words)
    for instance in instances:
        found.take_backend(instance)
    servers = list({id(instance.server): instance.server for instance in instances}.values())
    for server in servers:
        found.take_turn(server, [one.id for one in instances if one.server is server], alone=len(servers) == 1)
    found.take_shared(servers)
    turn = [entry["turn"] for entry in found.document["instances"].values() if "turn" in entry]
    if len(set(turn)) < len(turn):
        found.document[_secrets.ONE_TURN] = True
    return found.document


def _hosts(found: Installation, instances: Sequence[Instance], name: str, host: Mapping[str, Any], words: Words) -> str:
    """Return hosts.yml; `name` is what the backend's host is called in it."""
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
        f"    {scalar(name)}:",
        *(f"      {key}: {scalar(value)}" for key, value in connection.items()),
        "",
        "nextcloud: # every group below is one Nextcloud instance",
        "  children:",
    ]
    for instance in instances:
        lines += [f"    {scalar(instance.id)}:", "      hosts:", f"        {scalar(instance.host)}:"]
        # The Nextcloud of an All-in-One is where its Talk is.
        here = instance.server.all_in_one and bool(connection)
        if here:
            said = {"ansible_host": str(host["name"]), **connection}
            lines += [f"          {key}: {scalar(value)}" for key, value in said.items()]
        elif not instance.own_host:
            lines.append(f"          ansible_host: {scalar(_host_of(instance))}")
        lines.append("      vars:")
        if here:
            lines.append(f"        talk_container: {AIO_NEXTCLOUD}")
        else:
            lines += [
                f"        # {FILL_IN} one of these lines, without its #; README.md has other ways to reach occ. Until",
                "        # then /var/www/nextcloud/occ is tried; without it the playbook site stops at once.",
                "        # talk_occ: /var/www/nextcloud/occ # occ on that host",
                "        # talk_container: nextcloud-app-1 # a container there",
                "        # talk_register: false # somebody else's: never contacted, keeps the settings that it has",
            ]
            words.fill_in.append(
                f"{instance.id} in hosts.yml: how its occ is reached, or talk_register: false, and ansible_host where "
                f"the machine to log in to is not {_host_of(instance)}"
            )
        if not instance.own_host or instance.urls[0] != f"https://{instance.host}":
            lines.append(f"        talk_url: {scalar(instance.urls[0])}")
        if instance.urls[1:]:
            lines.append(f"        talk_urls: [{', '.join(map(scalar, instance.urls[1:]))}]")
        lines += [f"        {key}: {value}" for key, value in instance.numbers.items()]
    return "\n".join(lines) + "\n"


def _host_of(instance: Instance) -> str:
    return instance.host if instance.own_host else instance.host[len(instance.id) + 1 :]


def _steps(
    found: Sequence[Installation],
    main: Installation,
    instances: Sequence[Instance],
    *,
    names: Names,
    host: Mapping[str, Any],
    into: str,
    secrets_file: str,
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
            f"Look. All that this may complain of in the end is ports that the old "
            f"{'programs' if found[0].native else 'containers'} hold. What it proposes for these is for those who keep "
            f"what holds them.",
            f"{playbook}.site --check --diff",
        ),
        (
            "In the firewall open 20000-29999/udp (Janus) and 61000-65535/udp (TURN) beside the ports that are open; "
            "the old ranges can be closed when all is done.",
            "",
        ),
    ]
    projects = list({id(one.project): one.project for one in found}.values())
    for project in projects:
        steps.append(_stop(project, [one for one in found if one.project is project], where, names))
    steps.append(("Deploy, register and prove it with a call for each Nextcloud.", f"{playbook}.site"))
    ways = dict.fromkeys(one.files.shown(way.place) for one in found for way in one.routes)
    front = _adopt_settings.front(main)
    if front.form:
        steps.append(
            (
                f"Enter into {front.name} what that run prints at its end, in the place of what leads to the old "
                f"server, and run it again.",
                f"{playbook}.site",
            )
        )
    elif ways and not front.own:
        steps.append(
            (
                f"In the proxy ({', '.join(ways)}) replace what leads to the old server by what that run prints at "
                f"its end, and run it again.",
                f"{playbook}.site",
            )
        )
    steps.append(
        (
            "Read the summary: registered, secrets agree, calls direct and through TURN. Where talk_register is false, "
            "have somebody place a call.",
            "",
        )
    )
    if len(instances) > 1 and len({tuple(_adopt.turn_secrets(one.server)) for one in instances}) < len(instances):
        steps.append(
            (
                "Once it works, give each Nextcloud a TURN secret of its own; who cannot be told keeps the old one.",
                f"{playbook}.rotate -e rotate=ID.turn",
            )
        )
    return steps


def _stop(project: Project, found: Sequence[Installation], where: str, names: Names) -> tuple[str, str]:
    """Return how the old programs of a project are stopped, and what the way back is."""
    back = f"The way back is docker stop {' '.join(names.ours)}, and then"
    if found[0].all_in_one and not project.names:
        return (
            f"Switch off the Talk of All-in-One on {where}: start its master container with "
            f"NEXTCLOUD_KEEP_DISABLED_APPS=true, without which it removes the app Talk as well, and take Nextcloud "
            f"Talk off in its interface. This ends calls. {back} to put it on there.",
            "",
        )
    if found[0].native:
        units = " ".join(_adopt.units(found[0]))
        return (
            f"Stop the old programs on {where}, for good, so that a reboot does not bring them back. This ends calls. "
            f"{back} systemctl enable --now {units}.",
            f"systemctl disable --now {units}",
        )
    front = _adopt_settings.front(found[0])
    used = {
        one.kinds[kind] for one in found for kind in one.kinds if kind not in _FRONTS or front.own and kind == "proxy"
    }
    ours = [service for name, service in project.services.items() if name in used]
    called = " ".join(service.name for service in ours)
    if re.search(r"/compose/\d+(/v\d+)?$", project.directory):
        return (
            f"In Portainer on {where} stop the containers of {called.replace(' ', ', ')}, not their stack: stopping "
            f"that removes them. One with restart: always comes back with Docker or a reboot: set it to unless stopped "
            f"before. This ends calls. {back} to start them there.",
            "",
        )
    files = [posixpath.relpath(name, project.directory) for name in project.names]
    standard = files[0] in COMPOSE or project.variables.get("COMPOSE_FILE")
    compose = "docker compose" + ("" if standard else "".join(f" -f {name}" for name in files))
    # One with a profile is started and stopped by its name alone.
    whole = len(ours) == len(project.services) and not any(service.raw.get("profiles") for service in ours)
    suffix = "" if whole else f" {called}"
    returning = " ".join(service.name for service in ours if service.restart == "always")
    command, why = f"{compose} stop{suffix}", ""
    if returning:
        command = f"docker update --restart unless-stopped $({compose} ps --all --quiet {returning}) && {command}"
        why = " One with restart: always comes back with Docker or a reboot; hence the first command."
    aside = " Set TALK_ENABLED and REMOVE_DISABLED_APPS to no in its .env before." if found[0].all_in_one else ""
    return (
        f"Stop the old containers on {where}, and do not remove them (no down, no rm).{why} This ends calls.{aside} "
        f"{back} {compose} start{suffix}.",
        f"cd {project.directory} && {command}",
    )


def _kept(document: Mapping[str, Any], instance: str) -> str:
    """Say which of an instance's secrets are as before."""
    entry = document["instances"][instance]
    kept = [word for word in ("backend", "turn") if word in entry]
    return " and ".join(kept) + " secret unchanged" if kept else "new secrets"


def _lines(report: _Report) -> list[str]:
    """Return what the run prints."""
    count, defects = len(report.instances), len(report.defects)
    lines = [f"{count} Nextcloud{'s' if count > 1 else ''} in {report.path}:"]
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
    lines = [f"# Adopted from {_code(report.path)}", "", "This page holds no secret."]
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
