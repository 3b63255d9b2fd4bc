# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The run of the call probe: which step comes when, what it asks, and what stops the next ones.

`in_child` runs it in a process of its own, which cannot hang the caller; `child` is what that process does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import (
    _browser,
    _browser_call,
    _browser_verdict,
    _call,
    _isolation,
    _probe,
    _signaling_client,
    _user,
    _user_run,
)
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._probe import ALL, OK, Verdict
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._signaling_client import Lost, Refused, Session

HTTP_SECONDS = 10
# The server itself waits up to 10 seconds for the capabilities and as long for the answer.
HELLO_SECONDS = 25
# All calls encode, encrypt and decode in this one process: many more at once would measure the controller.
CALLS_AT_ONCE = 6
# A screen share is one more stream of the kind that the other calls have proven already.
SCREEN_SECONDS = 1
# Bitrates of shorter times depend on single pictures.
BITRATE_SECONDS = 3
LIMITS = ("session_limit", "stream_bitrate")
RELAYED = "not to be expected: all media of this backend goes through TURN"
# What the child gets for its start and its last words, beside the time for its steps.
SPARE_SECONDS = 20
# What it gets when the module is interrupted.
TIDY_SECONDS = 8
DISCARD_SECONDS = 5
# The name behind which an IPv6 address of a TURN server is given to aiortc, which takes names only.
TURN_ALIAS = "turn-server.invalid"
# The names behind which the addresses of either family are, where a call must reach the TURN server over one of them.
FAMILY_ALIASES = {"ipv4": "turn-server-ipv4.invalid", "ipv6": "turn-server-ipv6.invalid"}

START = (
    "import json, sys; spec = json.load(sys.stdin); sys.path[:] = spec.pop('sys_path'); "
    "from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _probe_run; _probe_run.child(spec)"
)


class ProbeError(Exception):
    """The probe itself did not work; the message is for the user."""


class Probe:
    """One run: `spec` has the options of the module call_probe, the records grow as steps end."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.url = spec["url"].rstrip("/")
        self.host = urlsplit(self.url).netloc
        self.secret = spec["internal_secret"]
        self.instances = spec["instances"]
        self.turn = spec.get("turn") or {}
        self.seconds = spec["duration"]
        self.timeout = spec["timeout"]
        self.negative = spec.get("negative", False)
        self.context = _signaling_client.tls_context(spec["ca_files"], spec["ca_pem"])
        # Those that were asked for; without a wish, those that there are, which is known later.
        self.wished = list(spec.get("families") or [])
        self.families = self.wished or ["ipv4"]
        # The protocol of the relay for what else goes directly, "" where media may.
        relayed = not spec.get("direct", True)
        self.relayed = next(iter(self.turn.get("protocols") or []), "none") if relayed else ""
        self.there: list[str] = []
        # The TURN server's address of each family that it has and this machine has a route to, where that is known.
        self.turn_addresses: dict[str, str] = spec.get("turn_addresses") or {}
        both = len(self.turn_addresses) > 1 and not relayed and (not self.wished or "ipv6" in self.wished)
        self.turn_families = ["ipv4", "ipv6"] if both else []
        self.bitrate = spec.get("bitrate", False)
        self.browser = spec.get("browser") or ""
        self.folder = spec.get("folder") or ""
        self.slots = asyncio.Semaphore(CALLS_AT_ONCE)
        self._verdicts: dict[tuple[str, str], Verdict] = {}
        self._server_features: list[str] = []
        self._version = ""
        until = time.time() + spec["timeout"] + SPARE_SECONDS
        self.users = {
            item["id"]: _user_run.UserSteps(item, self.url, self.context, self.turn, until)
            for item in self.instances
            if item.get("user")
        }

    def records(self) -> list[dict[str, Any]]:
        """Return all steps in the order of the plan; one without a verdict was not finished."""
        late = _probe.failed(
            f"It was not finished within {self.timeout} seconds.", "Raise the timeout, or look for what answers slowly."
        )
        plan = [(ALL, step) for step in ("welcome", "closed", "websocket", *(["chromium"] if self.browser else []))]
        plan += [(item["id"], step) for item in self.instances for step in self._steps(item)]
        found = dict(self._verdicts)
        for name, user in self.users.items():
            found.update({(name, step): verdict for step, verdict in user.verdicts.items()})
        return [found.get(place, late).record(*place) for place in plan]

    @property
    def calls(self) -> list[str]:
        """The names of the calls that each instance gets."""
        return _probe.call_steps(self.turn.get("protocols") or [], self.families, self.turn_families)

    @property
    def browsing(self) -> list[str]:
        """The names of the calls in a browser that each instance gets."""
        return _probe.browser_steps(self.turn.get("protocols") or []) if self.browser else []

    def limits(self) -> dict[str, dict[str, Any]]:
        """Return what the options say of each instance's limits, which no call can show."""
        return {item["id"]: {name: item.get(name) for name in LIMITS} for item in self.instances}

    async def _find_families(self) -> None:
        """Learn which families the server's name has. A name without any is the first request's to explain."""
        parts = urlsplit(self.url)
        with contextlib.suppress(OSError):
            self.there = await asyncio.to_thread(
                _signaling_client.families_of,
                parts.hostname or "",
                parts.port or (80 if parts.scheme == "http" else 443),
            )
        if not self.wished and len(self.there) > 1 and not self.relayed:
            self.families = self.there

    def _before(self, item: dict[str, Any]) -> dict[str, Any] | None:
        """Return the instance before this one in the list, None for the first."""
        place = self.instances.index(item)
        return self.instances[place - 1] if place else None

    def _steps(self, item: dict[str, Any]) -> list[str]:
        """Return the names of all steps of an instance in their order."""
        apart = ["isolation"] if self._before(item) else []
        refused = ["refusal"] if self.negative and item is self.instances[-1] else []
        heavy = ["bitrate"] if self.bitrate else []
        users = _user.steps(item, self.turn)
        return [*_probe.instance_steps(item, []), *apart, *refused, *self.calls, *heavy, *self.browsing, *users]

    def _later(self, item: dict[str, Any]) -> list[str]:
        """Return the steps of an instance that need its signed request and a session."""
        return [step for step in self._steps(item) if step not in ("request", "features", "refusal")]

    def _note(self, instance: str, step: str, verdict: Verdict) -> bool:
        """Keep a verdict and return whether it is a good one."""
        self._verdicts[instance, step] = verdict
        return verdict.status == OK

    def _skip(self, why: str, instance: str, *steps: str) -> None:
        for step in steps:
            self._note(instance, step, _probe.skipped(why))

    async def run(self) -> None:
        """Take all steps. What cannot succeed after a failure is not tried, so one cause is reported once."""
        await self._find_families()
        if not await self._welcome():
            self._skip("the signaling server is not ready", ALL, "closed", "websocket", "chromium")
            for item in self.instances:
                self._skip("the signaling server is not ready", item["id"], *self._steps(item))
            return
        _closed, *accepted = await asyncio.gather(self._closed(), *(self._request(item) for item in self.instances))
        able = [item for item, good in zip(self.instances, accepted) if good]
        for item in self.instances:
            if item not in able:
                self._skip("the signed request failed", item["id"], *self._later(item))
        await self._refuse(all(accepted))
        if not able:
            self._skip("no instance's signed request was accepted", ALL, "websocket", "chromium")
            return
        # One internal session before all others: a wrong secret is tried once, not once for each call.
        if not await self._websocket(able[0]):
            self._skip("no session on the signaling server", ALL, "chromium")
            for item in able:
                self._skip("no session on the signaling server", item["id"], *self._later(item))
            return
        calls = [(item, step) for item in able for step in self.calls]
        await asyncio.gather(
            *(self._greet(item) for item in able),
            *(self._isolate(item, able) for item in able),
            *(self._call(*call) for call in calls),
        )
        for item, step in calls:
            if _probe.is_doubtful(self._verdicts[item["id"], step]):
                await self._call(item, step)
        for item in able:
            await self._settle_user(item)
        # One after the other: they would take the bandwidth and the time of this process from each other.
        for item in able if self.bitrate else []:
            await self._call(item, "bitrate")
        if self.browser:
            await self._browse(able)

    async def _welcome(self) -> bool:
        try:
            answer = await self._fetch("/api/v1/welcome")
        except (OSError, HTTPException) as error:
            return self._note(ALL, "welcome", _probe.unreachable(error, self.host))
        features = answer.headers.get(_signaling_client.FEATURES_HEADER.lower())
        verdict = _probe.welcome(self.url, answer.status, answer.body, features)
        if verdict.status == OK:
            self._server_features, self._version = verdict.figures["features"], verdict.figures["version"]
            self._features(**verdict.figures)
        return self._note(ALL, "welcome", verdict)

    def _features(self, version: str, features: list[str]) -> None:
        for item in self.instances:
            if item.get("talk_version"):
                self._note(item["id"], "features", _probe.features(item["talk_version"], version, features))

    async def _closed(self) -> None:
        try:
            events, *answers = await asyncio.gather(
                asyncio.to_thread(_signaling_client.ask_for_events, self.url, self.context, HTTP_SECONDS),
                *(self._fetch(path) for path in _probe.CLOSED_PATHS),
            )
        except (OSError, HTTPException) as error:
            self._note(ALL, "closed", _probe.unreachable(error, self.host))
            return
        statuses = {path: answer.status for path, answer in zip(_probe.CLOSED_PATHS, answers)}
        self._note(ALL, "closed", _probe.closed(statuses, events, self._version))

    async def _request(self, item: dict[str, Any]) -> bool:
        # A message to a room in which nobody is has no effect.
        body = json.dumps({"type": "message", "message": {"data": {}}}).encode()
        headers = _signaling_client.signed_headers(item["secret"], item["url"], body)
        try:
            answer = await self._fetch(f"/api/v1/room/{room_name()}", headers, body)
        except (OSError, HTTPException) as error:
            return self._note(item["id"], "request", _probe.unreachable(error, self.host))
        return self._note(item["id"], "request", _probe.request(item["url"], answer.status))

    async def _refuse(self, accepted: bool) -> None:
        """Take the one step of a run that is meant to be refused, and never a second one."""
        if not self.negative:
            return
        item, other = self.instances[-1], self._before(self.instances[-1])
        if not accepted:
            self._skip("a signed request of this run has failed already", item["id"], "refusal")
            return
        secret, whose = (other["secret"], other["id"]) if other else (secrets.token_hex(32), "nobody")
        body = json.dumps({"type": "message", "message": {"data": {}}}).encode()
        headers = _signaling_client.signed_headers(secret, item["url"], body)
        try:
            answer = await self._fetch(f"/api/v1/room/{room_name()}", headers, body)
        except (OSError, HTTPException) as error:
            self._note(item["id"], "refusal", _probe.unreachable(error, self.host))
            return
        self._note(item["id"], "refusal", _probe.refusal(whose, item["url"], answer.status))

    async def _isolate(self, item: dict[str, Any], able: list[dict[str, Any]]) -> None:
        """Compare an instance with the one before it. All pairs would cost much and find no more."""
        other = self._before(item)
        if other is None:
            return
        if other not in able:
            self._skip(f"the signed request of {other['id']} failed", item["id"], "isolation")
            return
        opened = [lambda each=each: self._internal_session(each) for each in (other, item)]
        try:
            verdict = _probe.isolation(other["id"], await _isolation.look(*opened, room_name()))
        except Exception as error:  # noqa: BLE001
            verdict = self._explain(error)
        self._note(item["id"], "isolation", verdict)

    async def _websocket(self, item: dict[str, Any]) -> bool:
        try:
            session = await self._internal_session(item)
            await session.close()
        except Exception as error:  # noqa: BLE001 - of the libraries' many, each is explained
            return self._note(ALL, "websocket", self._explain(error))
        return self._note(ALL, "websocket", _probe.passed("websocket and internal secret are accepted"))

    async def _greet(self, item: dict[str, Any]) -> None:
        """Take the steps that need the Nextcloud: as nobody, and as a user where there is one."""
        user = self.users.get(item["id"])
        if user is None:
            await self._hello(item)
            return
        _nothing, useful = await asyncio.gather(self._hello(item), user.ask())
        hello = self._verdicts.get((item["id"], "hello"))
        if useful and hello and hello.status != OK:
            user.skip("the HPB's way to the Nextcloud failed")
        elif useful and await user.greet(self._server_features):
            for step in (_user.CALL, _user.TURN):
                if step == _user.CALL and self.relayed:
                    user.skip(RELAYED, *(name for name in user.steps if name == step))
                elif step in user.steps:
                    await self._user_call(item, step)

    async def _user_call(self, item: dict[str, Any], step: str) -> None:
        async with self.slots:
            await self.users[item["id"]].call(step, lambda: self._plan(item, self.calls[0])[0], self._relay)

    async def _settle_user(self, item: dict[str, Any]) -> None:
        """Place calls once more that may have been lost here, and leave a cause to the step that it belongs to."""
        user = self.users.get(item["id"])
        for step in (_user.CALL, _user.TURN) if user else ():
            if step in user.verdicts and _probe.is_doubtful(user.verdicts[step]):
                await self._user_call(item, step)
        if user:
            user.settle({step: verdict for (name, step), verdict in self._verdicts.items() if name == item["id"]})

    async def _hello(self, item: dict[str, Any]) -> None:
        hello = _signaling_client.ticket_hello(item["url"], f"probe-{secrets.token_hex(16)}")
        try:
            session = await Session.open(self.url, self.context, hello, HELLO_SECONDS)
            await session.close()
            verdict = _probe.hello_of(item, "", "")
        except Refused as error:
            verdict = _probe.hello_of(item, error.code, error.message)
        except asyncio.TimeoutError:
            verdict = _probe.hello_of(item, "timeout", "")
        except Exception as error:  # noqa: BLE001
            verdict = self._explain(error)
        self._note(item["id"], "hello", verdict)

    async def _call(self, item: dict[str, Any], step: str) -> None:
        protocol = _probe.turn_protocol(step)
        if self.relayed and step in ("direct", "direct-ipv6"):
            self._skip(RELAYED, item["id"], step)
            return
        protocol = protocol or self.relayed
        if protocol == "none":
            self._skip("media must go through TURN, and no TURN server is named", item["id"], step)
            return
        if protocol and not item.get("turn_secret"):
            self._skip("the instance has no TURN secret", item["id"], step)
            return
        server = self._turn_address(protocol) if protocol else ""
        async with self.slots:
            try:
                plan, seconds = self._plan(item, step)
                figures = await _call.place(lambda: self._internal_session(item), room_name(), plan, seconds)
                if protocol:
                    figures["turn_family"] = self._turn_family(step)
                if step == "bitrate":
                    verdict = _probe.bitrate(item.get("stream_bitrate"), figures)
                else:
                    verdict = _probe.call(step, figures)
            except _call.CallFailed as error:
                if error.stage == "family" and step == "direct-ipv6" and not self.wished:
                    verdict = _probe.no_family(error.evidence)
                else:
                    verdict = _probe.call_failed(step, server, error.stage, error.evidence)
            except Exception as error:  # noqa: BLE001
                verdict = self._explain(error)
        self._note(item["id"], step, verdict)

    async def _browse(self, able: list[dict[str, Any]]) -> None:
        """Place the calls in Chromium, one after the other: one alone takes as much of the machine as it can have."""
        try:
            async with _browser.Browser(await self._browser_command(), self.folder) as browser:
                self._note(ALL, "chromium", _browser_verdict.started(browser.version))
                for item, step in [(item, step) for item in able for step in self.browsing]:
                    await self._call_in(browser, item, step)
                    if _probe.is_doubtful(self._verdicts[item["id"], step]):
                        await self._call_in(browser, item, step)
        except _browser.BrowserError as error:
            self._note(ALL, "chromium", _browser_verdict.not_started(self.browser, str(error)))
            for item in able:
                self._skip("the browser did not start", item["id"], *self.browsing)

    async def _browser_command(self) -> list[str]:
        """Return the command that starts the browser, which finds the TURN server and nothing else."""
        servers, keys = [], []
        protocols = self.turn.get("protocols") or []
        for protocol in ("443", "tls") if "443" in protocols else ("tls",) if self.turn else ():
            name, port = split_server(self._turn_address(protocol))
            servers.append((name, await asyncio.to_thread(_browser.address_of, name, port)))
            if protocol in protocols:
                keys.append(await asyncio.to_thread(_browser.checked_key, name, port, self.context))
        return _browser.arguments(self.browser, self.folder, _browser.rules(*servers), keys, os.geteuid() == 0)

    def _browser_relay(self, item: dict[str, Any], protocol: str) -> _call.Relay:
        """Return the TURN server as the browser gets it, by its address where no certificate wants its name."""
        relay = self._own_relay(item, protocol)
        host, port = split_server(self._turn_address(protocol))
        address = host if protocol in ("tls", "443") else _browser.address_of(host, port) or host
        return replace(relay, host=address)

    async def _call_in(self, browser: _browser.Browser, item: dict[str, Any], step: str) -> None:
        protocol = _probe.turn_protocol(step)
        if self.relayed and not protocol:
            self._skip(RELAYED, item["id"], step)
            return
        if protocol and not item.get("turn_secret"):
            self._skip("the instance has no TURN secret", item["id"], step)
            return
        relay = await asyncio.to_thread(self._browser_relay, item, protocol) if protocol else None
        server = self._turn_address(protocol) if protocol else ""
        try:
            figures = await _browser_call.place(
                browser, lambda: self._internal_session(item), room_name(), relay, self.seconds
            )
            verdict = _browser_verdict.call(step, item.get("stream_bitrate"), figures)
        except _call.CallFailed as error:
            verdict = _browser_verdict.call_failed(step, server, error.stage, error.evidence)
        except _browser.BrowserError as error:
            verdict = _browser_verdict.broke(str(error))
        except Exception as error:  # noqa: BLE001
            verdict = self._explain(error)
        self._note(item["id"], step, verdict)

    def _plan(self, item: dict[str, Any], step: str) -> tuple[_call.Plan, float]:
        """Return what the call of this step is made of, and the seconds of media in it."""
        protocol = _probe.turn_protocol(step)
        if protocol:
            # A text through a data channel is proven once.
            relay = self._own_relay(item, protocol)
            if self.turn_families and protocol in _probe.PLAIN_TURN:
                relay = replace(relay, host=FAMILY_ALIASES[self._turn_family(step)])
            return _call.Plan(relay, data=protocol == self.relayed), self.seconds
        relay = self._own_relay(item, self.relayed) if self.relayed else None
        if step == "screen":
            return _call.Plan(relay, stream="screen", tracks=("video",)), SCREEN_SECONDS
        if step == "bitrate":
            return _call.Plan(relay, tracks=("video",), greedy=True), BITRATE_SECONDS
        # Where there is but one family and none was asked for, nothing is forbidden.
        family = "ipv6" if step == "direct-ipv6" else ("ipv4" if self.wished or len(self.families) > 1 else "")
        if family and family not in self.there:
            raise _call.CallFailed("family", side="name", family=family)
        return _call.Plan(data=True, family=family), self.seconds

    def _turn_family(self, step: str) -> str:
        """Return over which family a call reaches the TURN server, "" when that is not known."""
        if self.turn_families:
            protocol = _probe.turn_protocol(step) or self.relayed
            return ("ipv6" if step.endswith(_probe.IPV6) else "ipv4") if protocol in _probe.PLAIN_TURN else ""
        return next(iter(self.turn_addresses), "") if len(self.turn_addresses) == 1 else ""

    def _turn_address(self, protocol: str) -> str:
        """Return the TURN server as people write it; over TLS it listens on another port, on 443 under another name."""
        if protocol == "443":
            return f"{self.turn['name_443']}:443"
        host, colon, _port = self.turn["server"].rpartition(":")
        return f"{host}{colon}{self.turn['tls_port']}" if protocol == "tls" else self.turn["server"]

    def _own_relay(self, item: dict[str, Any], protocol: str) -> _call.Relay:
        credentials = _signaling_client.turn_credentials(item["turn_secret"], "probe", int(time.time()) + 3600)
        return self._relay(protocol, *credentials)

    def _relay(self, protocol: str, username: str, password: str) -> _call.Relay:
        host, port = split_server(self._turn_address(protocol))
        transport = "tls" if protocol == "443" else protocol
        return _call.Relay(TURN_ALIAS if ":" in host else host, port, transport, username, password)

    async def _internal_session(self, item: dict[str, Any]) -> Session:
        hello = _signaling_client.internal_hello(self.secret, item["url"])
        return await Session.open(self.url, self.context, hello)

    async def _fetch(
        self, path: str, headers: dict[str, str] | None = None, body: bytes | None = None
    ) -> _signaling_client.Answer:
        return await asyncio.to_thread(
            _signaling_client.fetch, self.url + path, self.context, HTTP_SECONDS, headers, body
        )

    def _explain(self, error: Exception) -> Verdict:
        """Return the verdict for an exception of a session."""
        if isinstance(error, Refused):
            return _probe.session_refused(error.code, error.message)
        if isinstance(error, Lost):
            return _probe.session_lost(str(error))
        if isinstance(error, asyncio.TimeoutError):
            error = TimeoutError()
        return _probe.unreachable(error, self.host)


def room_name() -> str:
    """Return the name of a room in which nobody is."""
    return f"probe{secrets.token_hex(12)}"


def split_server(server: str) -> tuple[str, int]:
    """Return host and port of a TURN server, as in Talk's settings. Raises ProbeError."""
    host, _colon, port = server.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ProbeError(f"The TURN server is '{server}', expected a name, a colon and a port: correct turn.server.")
    return host.strip("[]"), int(port)


async def limited(spec: dict[str, Any]) -> dict[str, Any]:
    """Run the probe within its time and return its report."""
    probe = Probe(spec)
    task = asyncio.ensure_future(probe.run())
    # Who is told to end tidies up first: the peers' sessions, and what was made in a Nextcloud.
    # Elsewhere than in the main thread of a Unix process there are no handlers; the time limit still tidies up.
    with contextlib.suppress(ValueError, NotImplementedError, RuntimeError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(task, spec["timeout"])
    return {**_probe.report(probe.records(), spec.get("place") or ""), "limits": probe.limits()}


def authorities(spec: dict[str, Any]) -> str:
    """Return all authorities that are trusted, as PEM: what the environment or OpenSSL says, and the options.

    Raises OSError for a file that cannot be read.
    """
    usual = ssl.get_default_verify_paths().cafile
    files = [Path(path) for path in [*([usual] if usual else []), *spec["ca_files"]]]
    return "\n".join([*(path.read_text(encoding="utf-8") for path in files), *spec["ca_pem"]]) + "\n"


def child(spec: dict[str, Any]) -> None:
    """Run the probe and write its report to standard output; never returns."""
    # Failures of single packets and checks are normal for the libraries; what counts is in the report.
    logging.disable(logging.CRITICAL)
    pins = dict(spec["resolve"])
    if spec.get("turn"):
        host, port = split_server(spec["turn"]["server"])
        if ":" in host:
            pins[TURN_ALIAS] = host
        # A name that does not resolve is the calls' to explain.
        with contextlib.suppress(OSError, UnicodeError), _signaling_client.pinned_names(pins):
            spec["turn_addresses"] = _signaling_client.addresses_of(host, port)
        pins |= {FAMILY_ALIASES[family]: address for family, address in spec.get("turn_addresses", {}).items()}
    with _signaling_client.pinned_names(pins):
        report = asyncio.run(limited(spec))
    sys.stdout.write(json.dumps(report))
    sys.stdout.flush()
    # Threads of a codec that hangs must not keep the process.
    os._exit(0)


def followed(process: subprocess.Popen[str], data: str, limit: float) -> tuple[str, str]:
    """Give a process its input and return its output and errors; one that is left early may tidy up before its end.

    Raises subprocess.TimeoutExpired after `limit` seconds, when the process is gone.
    """
    with process:
        try:
            return process.communicate(data, timeout=limit)
        except BaseException:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(TIDY_SECONDS)
            process.kill()
            raise


def discard(folder: str) -> None:
    """Remove a folder, "" for none. A browser whose probe was ended writes into it for a second or two yet."""
    end = time.monotonic() + DISCARD_SECONDS
    while folder and Path(folder).exists() and time.monotonic() < end:
        shutil.rmtree(folder, ignore_errors=True)
        if Path(folder).exists():
            time.sleep(0.2)


def in_child(spec: dict[str, Any]) -> dict[str, Any]:
    """Run the probe in a process of its own and return its report. Raises ProbeError."""
    # The browser's files; here, since a child that is ended cannot remove them.
    folder = tempfile.mkdtemp(prefix="call-probe-") if spec.get("browser") else ""
    data = json.dumps({**spec, "folder": folder, "sys_path": sys.path})
    limit = spec["timeout"] + SPARE_SECONDS
    try:
        with tempfile.NamedTemporaryFile("w", suffix=".pem", encoding="utf-8") as bundle:
            # TURN over TLS knows authorities only from the environment of its process.
            bundle.write(authorities(spec))
            bundle.flush()
            process = subprocess.Popen(
                [sys.executable, "-c", START],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "SSL_CERT_FILE": bundle.name},
            )
            output, errors = followed(process, data, limit)
    except subprocess.TimeoutExpired as error:
        raise ProbeError(
            f"The probe was still busy after {limit} seconds and was ended: look at the load of the controller, "
            f"or raise the timeout."
        ) from error
    finally:
        discard(folder)
    try:
        return json.loads(output)
    except ValueError as error:
        lines = errors.strip().splitlines() or ["without a word"]
        raise ProbeError(
            f"The probe ended with code {process.returncode}: {lines[-1]}. "
            f"Check that aiortc and websockets of {sys.executable} are complete."
        ) from error
