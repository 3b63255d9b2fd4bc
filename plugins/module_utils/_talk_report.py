# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Nextcloud and its Talk are like, and what would keep the backend from being registered or used.

`read_all` reads config.php and Talk's settings; everything else is pure.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _trusted
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._network import UrlError, normalize_url
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._occ import UPGRADE, Occ, OccError
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._talk import (
    CLI_URL,
    SIGNALING,
    BadStored,
    State,
    is_among,
    parsed,
    require_external,
    require_talk,
    same_address,
    same_url,
    signaling_side,
    triple_of,
)


class Misnamed(OccError):
    """The inventory has a name for the Nextcloud of which that knows nothing."""


@dataclass(frozen=True)
class Server:
    """What config.php says, and whether an upgrade waits. A text is empty when it is not set.

    `cli_url`, `host`, `protocol`, `webroot` are `overwrite.cli.url`, `overwritehost`, `overwriteprotocol` and
    `overwritewebroot`; `all_in_one` is `one-click-instance`, which Nextcloud All-in-One sets. `trusted` has the trusted
    domains, and `next_trusted` is the first index that is free for another one. `proxies` are the trusted proxies.
    """

    version: str
    maintenance: bool
    needs_upgrade: bool
    cli_url: str
    trusted: tuple[str, ...]
    next_trusted: int
    host: str = ""
    protocol: str = ""
    webroot: str = ""
    all_in_one: bool = False
    proxies: tuple[str, ...] = ()


def parse_server(system: dict[str, Any], needs_upgrade: bool) -> Server:
    """Return what is needed of `system` in the answer of `occ config:list --private`."""
    trusted = system.get("trusted_domains") or {}
    if isinstance(trusted, list):
        trusted = dict(enumerate(trusted))
    proxies = system.get("trusted_proxies") or ()
    return Server(
        version=str(system.get("version") or ""),
        maintenance=bool(system.get("maintenance")),
        needs_upgrade=needs_upgrade,
        cli_url=str(system.get(CLI_URL) or ""),
        trusted=tuple(str(name) for name in trusted.values()),
        next_trusted=1 + max((int(index) for index in trusted if str(index).isdigit()), default=-1),
        host=str(system.get("overwritehost") or ""),
        protocol=str(system.get("overwriteprotocol") or ""),
        webroot=str(system.get("overwritewebroot") or ""),
        all_in_one=str(system.get("one-click-instance")).lower() in ("true", "1"),
        proxies=tuple(map(str, proxies.values() if isinstance(proxies, dict) else proxies)),
    )


def read_all(occ: Occ, bare: bool = False) -> tuple[Server, State]:
    """Read config.php and what Talk has stored, with one start of PHP. Raises `OccError`.

    Of the answer, which has the settings of all apps, nothing but Talk's and a few of config.php is kept. With `bare`
    it is read in maintenance too.
    """
    document, result = occ.answer(["config:list", "--private"], bare=bare)
    system = document.get("system") if isinstance(document, dict) else None
    if not isinstance(system, dict):
        raise BadStored(f"{occ.where} was expected to list the system's settings, but its answer holds none of them.")
    return parse_server(system, UPGRADE in result.err), parsed(document, occ.where)


def urls_found(server: Server) -> list[str]:
    """Return the URLs by which this Nextcloud can be meant, normalized, those with https only.

    They are `overwrite.cli.url` unless its name is not trusted, and `overwritehost` and each trusted domain with the
    path at which Nextcloud is. A trusted domain with a wildcard, without a dot or with an address is left out: such
    names are for the inside.
    """
    path = server.webroot if server.webroot else _parts(server.cli_url).path
    names = [server.host] if server.host else []
    names += [name for name in server.trusted if _trusted.is_public(name)]
    candidates = [server.cli_url] if is_trusted(server.cli_url, server) else []
    if server.protocol.lower() != "http":
        candidates += [f"https://{name}{path}" for name in names]
    found = []
    for candidate in candidates:
        try:
            url = normalize_url(candidate)
        except UrlError:
            continue
        if url not in found and urlsplit(url).hostname != "localhost":
            found.append(url)
    return found


def all_in_one_commands(server: Server, state: State) -> list[str]:
    """Return the occ commands that remove what Nextcloud All-in-One has registered for its own Talk container.

    At each start All-in-One adds the signaling server `https://<its domain>/standalone-signaling/` unless it is there,
    and a TURN server of its domain unless there is any (Containers/nextcloud/entrypoint.sh of nextcloud/all-in-one). So
    the list is empty when there is no such signaling server.
    """
    own = {server.host, _parts(server.cli_url).netloc, *server.trusted}
    own = {_trusted.hostname(name) for name in own if name} if server.all_in_one else set()
    commands = []
    for entry in state.servers:
        parts = _parts(same_url(str(entry.get("server"))))
        if parts.path.lower() == "/standalone-signaling" and _trusted.hostname(parts.netloc) in own:
            commands.append(f"talk:signaling:delete {entry.get('server')}")
    if commands:
        triples = [triple_of(entry) for entry in state.turn]
        commands += [
            f"talk:turn:delete {' '.join(one)}" for one in triples if _trusted.hostname(same_address(one[1])) in own
        ]
    return commands


def _parts(url: str) -> SplitResult:
    """Return the parts of a URL, all empty when it is none."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def is_trusted(url: str, server: Server) -> bool:
    """Whether Nextcloud answers under the name in `url` (lib/private/Security/TrustedDomainHelper.php of Nextcloud).

    With an `overwritehost` every name is trusted.
    """
    return bool(server.host) or _trusted.is_named(url, server.trusted) or _parts(url).hostname == "localhost"


def report(server: Server, state: State, url: str | None, secret: str | None, urls: list[str]) -> dict[str, Any]:
    """Return the facts for the user, without any secret; what was not asked for is left out."""
    facts: dict[str, Any] = {
        "nextcloud": {
            "version": server.version,
            "maintenance": server.maintenance,
            "needs_upgrade": server.needs_upgrade,
            "overwrite_cli_url": server.cli_url,
            "overwritehost": server.host,
            "overwriteprotocol": server.protocol,
            "overwritewebroot": server.webroot,
            "trusted_domains": list(server.trusted),
            "trusted_proxies": list(server.proxies),
            "all_in_one": server.all_in_one,
        },
        "talk": {
            "installed": state.installed,
            "enabled": state.enabled,
            "version": state.version,
            "signaling_mode": state.mode,
            "federation": state.federation,
            "signaling_servers": signaling_side(state.servers, None, None)[SIGNALING],
            "turn_servers": [dict(zip(("schemes", "server", "protocols"), triple_of(entry))) for entry in state.turn],
            "stun_servers": list(state.stun),
        },
        "urls_found": urls_found(server),
    }
    if url:
        facts["registered"] = any(same_url(str(entry.get("server"))) == same_url(url) for entry in state.servers)
    if secret:
        facts["secret_matches"] = state.secret is not None and hmac.compare_digest(
            state.secret.encode(), secret.encode()
        )
    if urls:
        facts["trusted"] = all(is_trusted(one, server) for one in urls)
        facts["cli_url_matches"] = is_among(server.cli_url, urls)
    return facts


def _quoted(command: str) -> str:
    return f"'occ {command}'"


def problems(
    server: Server,
    state: State,
    urls: Sequence[str],
    where: str,
    *,
    present: bool = True,
    mend: bool = False,
    further: Sequence[str] = (),
) -> list[str]:
    """Return a sentence for everything that keeps the backend from being registered or used.

    When it is to leave (`present` false), only what keeps occ from writing counts. What `mend` sets right is no
    problem. `overwrite.cli.url` may be one of `urls` or of `further`.
    """
    found = []
    if server.maintenance:
        found.append(
            f"{where} says that Nextcloud is in maintenance mode, in which Talk cannot be changed; "
            "end it with 'occ maintenance:mode --off' and run this again."
        )
    if server.needs_upgrade:
        found.append(
            f"{where} says that Nextcloud or an app needs an upgrade, before which Talk cannot be changed; "
            "run 'occ upgrade' and then this again."
        )
    if not present:
        return found
    for check in (require_talk,) if mend else (require_talk, require_external):
        try:
            check(state, where)
        except OccError as error:
            found.append(str(error))
    commands = all_in_one_commands(server, state)
    if commands:
        found.append(
            f"{where} belongs to a Nextcloud All-in-One whose own Talk container is on and registered again at every "
            "start; set NEXTCLOUD_KEEP_DISABLED_APPS to true for its master container (otherwise the app Talk goes "
            "too), switch Talk off in its interface (Containers, Optional), then remove what it has registered with "
            f"{' and '.join(map(_quoted, commands))}, and run this again."
        )
    misnamed = _trusted.misnamed(urls, server.cli_url, server.trusted, server.host)
    found += [_misnamed(where, server, one, "talk_url" if one == urls[0] else "talk_urls") for one in misnamed]
    if urls and not mend and not misnamed and not is_among(server.cli_url, [*urls, *further]):
        found.append(
            f"{where} belongs to a Nextcloud whose {CLI_URL} is {server.cli_url or 'not set'}, but "
            f"{' or '.join(urls)} was expected, and the signaling server refuses what Talk sends from cron; "
            f"set it with 'occ config:system:set {CLI_URL} --value={urls[0]}', or set mend (talk_mend in the "
            "inventory) to true."
        )
    found += [
        f"{where} belongs to a Nextcloud that does not answer at {one}, as the name is no trusted domain; "
        f"add it to trusted_domains with 'occ config:system:set trusted_domains {server.next_trusted} "
        f"--value={_parts(one).netloc}'."
        for one in urls
        if one not in misnamed and not is_trusted(one, server)
    ]
    return found


def _misnamed(where: str, server: Server, url: str, variable: str) -> str:
    """Return that the inventory has an address of which the Nextcloud knows nothing, while it has one of its own."""
    own = server.cli_url.rstrip("/")
    mend = f"set {variable}: {own}" if variable == "talk_url" else f"correct {variable}"
    return (
        f"{where} belongs to a Nextcloud that calls itself {own} ({CLI_URL}) and does not have the name in {url}, its "
        f"{variable} in the inventory, among its trusted domains; {mend} in the inventory, or, should it answer at "
        "that name, too, add that to its trusted domains first."
    )


def refuse_misnamed(server: Server, urls: Sequence[str], where: str) -> None:
    """Raise where `urls`, of which the first is to become its `overwrite.cli.url`, begin with a wrong name."""
    if urls and urls[0] in _trusted.misnamed(urls, server.cli_url, server.trusted, server.host):
        raise Misnamed(_misnamed(where, server, urls[0], "talk_url"))
