# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The run of a load test: one process leads, several carry publishers and subscribers, so that all cores may be used.

`in_child` starts the leader, `child` is what it does, `carry` what a carrier does. The leader tells a carrier what to
do in lines of JSON on its standard input, and gets a line back for each: publish, subscribe, begin (a window of
measuring), end, quit.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import (
    _load,
    _load_media,
    _load_peer,
    _probe_run,
    _signaling_client,
    _usage,
)
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._call import Relay
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._signaling_client import Session

try:
    from aiortc import RTCCertificate
except ImportError:  # The module says so before anything of this is used.
    RTCCertificate = None

# How often a carrier looks for what is due. A camera's packets come in bursts of a picture, too.
TICK_SECONDS = 0.01
# Streams that a carrier connects at once.
CONNECTS_AT_ONCE = 4
# Time for a carrier's answer, and for each stream that it connects.
ANSWER_SECONDS = 60
STREAM_SECONDS = 1
SPARE_SECONDS = 30
MOST_PROCESSES = 16

START = (
    "import json, sys; spec = json.loads(sys.stdin.readline()); sys.path[:] = spec.pop('sys_path'); "
    "from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _load_run; _load_run.{what}(spec)"
)


class LoadError(Exception):
    """The load test itself did not work; the message is for the user."""


class Carrier:
    """What one process carries: publishers with their sending, subscribers with their counting."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.context = _signaling_client.tls_context(spec["ca_files"], spec["ca_pem"])
        self.packets = _load_media.unpacked(spec["packets"])
        self.certificate = RTCCertificate.generateCertificate()
        self.slots = asyncio.Semaphore(CONNECTS_AT_ONCE)
        self.publishers: list[_load_peer.Publisher] = []
        self.subscribers: dict[str, list[_load_peer.Member]] = {}
        self.late = 0.0
        self.before: dict[str, Any] = {}
        self.marks: dict[tuple[int, bytes], _load.Mark] = {}

    async def open(self) -> Session:
        hello = _signaling_client.internal_hello(self.spec["internal_secret"], self.spec["backend"])
        return await Session.open(self.spec["url"], self.context, hello)

    def relay(self) -> Relay | None:
        given = self.spec.get("relay")
        return Relay(**given) if given else None

    async def publish(self, room: str) -> dict[str, Any]:
        """Add a publisher to a room; return its session."""
        session = await self.open()
        publisher = _load_peer.Publisher(session, self.certificate, self.relay(), self.packets)
        try:
            await session.join(room)
            await publisher.publish()
        except BaseException:
            await publisher.close()
            raise
        # Only now, since what is in this list is played.
        self.publishers.append(publisher)
        publisher.start(asyncio.get_running_loop().time())
        return {"session": session.session_id}

    async def subscribe(self, room: str, publishers: list[str], count: int) -> dict[str, Any]:
        """Have `count` subscribers in a room, each with the streams of all publishers; return why streams failed."""
        members = self.subscribers.setdefault(room, [])
        # One that lacks a stream would be taken for loss in all later steps.
        whole = [member for member in members if all(link.alive for link in member.links.values())]
        leaving = [member for member in members if member not in whole[:count]]
        members[:] = whole[:count]
        await asyncio.gather(*(member.close() for member in leaving))
        failures: list[str] = []

        async def watch(member: _load_peer.Member, publisher: str) -> None:
            async with self.slots:
                try:
                    await member.subscribe(publisher)
                except Exception as error:  # noqa: BLE001 - of the libraries' many, each is told
                    failures.append(str(error) or type(error).__name__)

        async def add() -> None:
            async with self.slots:
                try:
                    session = await self.open()
                    member = _load_peer.Member(session, self.certificate, self.relay())
                    members.append(member)
                    await session.join(room)
                except Exception as error:  # noqa: BLE001
                    failures.extend([str(error) or type(error).__name__] * len(publishers))
                    return
            await asyncio.gather(*(watch(member, publisher) for publisher in publishers))

        await asyncio.gather(*(add() for _number in range(count - len(members))))
        return {"failures": failures}

    def links(self) -> list[tuple[str, _load_peer.Link]]:
        """Return the transports of all subscribers, each with its publisher."""
        members = [member for room in self.subscribers.values() for member in room]
        return [(publisher, link) for member in members for publisher, link in member.links.items()]

    def used(self) -> dict[str, float]:
        """Return this process' own time: on a processor, and waiting for one (/proc/<pid>/schedstat)."""
        waited = _usage.text_of(Path("/proc/self/schedstat")).split()
        return {
            "time": time.monotonic(),
            "cpu": time.process_time(),
            "waited": int(waited[1]) / 1e9 if len(waited) > 1 else 0.0,
        }

    def dropped(self) -> int:
        tables = [_usage.text_of(Path("/proc/net") / name) for name in ("udp", "udp6")]
        return _usage.own_drops(tables, _usage.socket_inodes())

    def begin(self) -> dict[str, Any]:
        """Begin a window."""
        self.marks = {
            (id(link), ssrc): stream.mark()
            for _publisher, link in self.links()
            for ssrc, stream in link.streams.items()
        }
        self.before = {
            "dropped": self.dropped(),
            "sent": {item.session.session_id: dict(item.sent) for item in self.publishers},
            **self.used(),
        }
        self.late = 0.0
        return {}

    def end(self) -> dict[str, Any]:
        """End the window and return its figures.

        sent: packets of each publisher by kind. streams: for each publisher, kind and subscriber, what was received,
        how many octets, and what is missing between.
        """
        used, before = self.used(), self.before
        seconds = used["time"] - before["time"]
        sent = {
            session: {kind: item.sent[kind] - count for kind, count in before["sent"][session].items()}
            for session, item in ((item.session.session_id, item) for item in self.publishers)
        }
        streams = []
        for publisher, link in self.links():
            for kind in _load_peer.KINDS:
                counted = [(0, 0, 0)] + [
                    stream.since(self.marks.get((id(link), ssrc), _load.Mark(0, 0, -1)))
                    for ssrc, stream in link.streams.items()
                    if link.kinds[ssrc] == kind
                ]
                streams.append([publisher, kind, *(sum(column) for column in zip(*counted))])
        return {
            "seconds": seconds,
            "cpu": used["cpu"] - before["cpu"],
            "waited": used["waited"] - before["waited"],
            "late": self.late,
            "dropped": self.dropped() - before["dropped"],
            "sent": sent,
            "due": sum(item.rate(kind) for item in self.publishers for kind in _load_peer.KINDS) * seconds,
            "broken": sum(not item.alive for item in self.publishers),
            "streams": streams,
        }

    async def play(self) -> None:
        """Send what is due, until cancelled, and note by how much this process was late at worst."""
        loop = asyncio.get_running_loop()
        while True:
            for publisher in self.publishers:
                await publisher.play(loop.time())
            due = loop.time() + TICK_SECONDS
            await asyncio.sleep(TICK_SECONDS)
            self.late = max(self.late, loop.time() - due)

    async def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        """Do what the leader says."""
        what = command.pop("do")
        if what == "begin":
            return self.begin()
        if what == "end":
            return self.end()
        return await (self.publish(**command) if what == "publish" else self.subscribe(**command))

    async def close(self) -> None:
        """Leave all rooms."""
        members = [member for room in self.subscribers.values() for member in room]
        await asyncio.gather(*(member.close() for member in [*members, *self.publishers]))

    async def run(self) -> None:
        """Do what the leader says, line by line, until it says quit or is gone."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=2**24)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        playing = asyncio.ensure_future(self.play())
        # The leader waits for this line, since what it said earlier could be in the buffer that held the options.
        sys.stdout.write("{}\n")
        sys.stdout.flush()
        try:
            while line := await reader.readline():
                command = json.loads(line)
                if command["do"] == "quit":
                    break
                try:
                    if playing.done():
                        playing.result()
                    reply = await self.answer(command)
                except Exception as error:  # noqa: BLE001
                    reply = {"error": str(error) or type(error).__name__}
                sys.stdout.write(json.dumps(reply) + "\n")
                sys.stdout.flush()
        finally:
            playing.cancel()
            await self.close()


class Process:
    """A carrier as the leader sees it."""

    def __init__(self, process: Any) -> None:
        self._process = process

    @classmethod
    async def start(cls, spec: dict[str, Any]) -> Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            START.format(what="carry"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            limit=2**24,
        )
        started = cls(process)
        await started._say({**spec, "sys_path": sys.path}, "its start", ANSWER_SECONDS)
        return started

    async def ask(self, what: str, seconds: float = ANSWER_SECONDS, **arguments: Any) -> dict[str, Any]:
        """Have something done and return the answer. Raises `LoadError`."""
        return await self._say({"do": what, **arguments}, what, seconds)

    async def _say(self, line: dict[str, Any], what: str, seconds: float) -> dict[str, Any]:
        self._process.stdin.write(json.dumps(line).encode() + b"\n")
        try:
            answer = await asyncio.wait_for(self._process.stdout.readline(), seconds)
        except asyncio.TimeoutError as error:
            raise LoadError(
                f"A process of the generator did not answer to {what} within {seconds:.0f} s, expected it to: look at "
                "the load of its machine."
            ) from error
        if not answer:
            raise LoadError(
                f"A process of the generator ended at {what}, expected it to go on: look at its machine's memory."
            )
        reply: dict[str, Any] = json.loads(answer)
        if "error" in reply:
            raise LoadError(
                f"The load test stopped at {what}: {reply['error']}. Run the playbook verify, which names the cause."
            )
        return reply

    async def close(self) -> None:
        """Let it leave all rooms and end."""
        with contextlib.suppress(Exception):
            self._process.stdin.write(b'{"do": "quit"}\n')
            await asyncio.wait_for(self._process.wait(), ANSWER_SECONDS)
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


class Leader:
    """One run: publishers once, then step after step with more subscribers, see `_load.next_count`."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.packets = _load_media.encode(spec["bitrate"] * 1000)
        self.mbit = _load_media.bits_per_second(self.packets) / 1e6
        self.rooms = {_probe_run.room_name(): [] for _number in range(spec["rooms"])}
        self.processes: list[Process] = []
        each = spec["rooms"] * spec["publishers"]
        self.highest = _load.most(spec["subscribers"], each * self.mbit, each, spec["max_mbit"], spec["max_streams"])
        self.steps: list[dict[str, Any]] = []

    async def run(self) -> None:
        """Make all steps. Raises `LoadError` when no load comes about at all."""
        if not self.highest:
            raise LoadError(
                f"One subscriber gets {self.spec['rooms'] * self.spec['publishers']} streams of {self.mbit:.1f} "
                f"Mbit/s, expected no more than {self.spec['max_streams']} streams and {self.spec['max_mbit']} Mbit/s: "
                "lower publishers or bitrate, or raise max_mbit or max_streams."
            )
        spec = {**self.spec, "packets": _load_media.packed(self.packets)}
        count = min(self.spec["processes"] or os.cpu_count() or 1, MOST_PROCESSES)
        try:
            for _number in range(count):
                self.processes.append(await Process.start(spec))
            await self.publish()
            while (subscribers := self.following()) is not None:
                self.steps.append(await self.step(subscribers))
        finally:
            await asyncio.gather(*(process.close() for process in self.processes))

    def following(self) -> int | None:
        return _load.next_count([(step["subscribers"], step["verdict"]) for step in self.steps], self.highest)

    async def publish(self) -> None:
        """Have all publishers, evenly on the processes."""
        places = [room for room in self.rooms for _number in range(self.spec["publishers"])]
        for number, room in enumerate(places):
            reply = await self.processes[number % len(self.processes)].ask("publish", room=room)
            self.rooms[room].append(reply["session"])

    async def subscribe(self, subscribers: int) -> list[str]:
        """Have so many subscribers in each room, evenly on the processes; return why streams failed."""
        failures: list[str] = []
        for room, publishers in self.rooms.items():
            shares = [
                len(range(number, subscribers, len(self.processes))) for number, _process in enumerate(self.processes)
            ]
            replies = await asyncio.gather(
                *(
                    process.ask(
                        "subscribe",
                        ANSWER_SECONDS + STREAM_SECONDS * share * len(publishers),
                        room=room,
                        publishers=publishers,
                        count=share,
                    )
                    for process, share in zip(self.processes, shares)
                )
            )
            failures += [failure for reply in replies for failure in reply["failures"]]
        return failures

    async def step(self, subscribers: int) -> dict[str, Any]:
        """Measure with so many subscribers in each room; return the figures with the verdict."""
        failures = await self.subscribe(subscribers)
        await asyncio.sleep(self.spec["settle"])
        begin = time.time()
        await asyncio.gather(*(process.ask("begin") for process in self.processes))
        await asyncio.sleep(self.spec["seconds"])
        windows = await asyncio.gather(*(process.ask("end") for process in self.processes))
        end = time.time()
        wanted = self.spec["rooms"] * self.spec["publishers"] * subscribers
        step = {
            "subscribers": subscribers,
            "publishers": self.spec["publishers"],
            "rooms": self.spec["rooms"],
            "wanted": wanted,
            "streams": wanted - len(failures),
            "failures": sorted(set(failures)),
            "begin": begin,
            "end": end,
            **combined(windows),
        }
        step["verdict"], step["why"] = _load.judge(step, self.spec["loss_percent"])
        if failures:
            step["why"] += f" ({step['failures'][0]})"
        return step

    def report(self) -> dict[str, Any]:
        """Return what the module returns."""
        return {
            "steps": self.steps,
            "best": _load.best(self.steps) or {},
            "ending": _load.ending(self.steps, self.highest),
            "highest": self.highest,
            "mbit_each": round(self.mbit, 3),
            "machine": _usage.machine(),
            "processes": len(self.processes),
        }


def combined(windows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of a step from those of the carriers' windows (`Carrier.end`)."""
    sent = {session: counts for window in windows for session, counts in window["sent"].items()}
    streams = [stream for window in windows for stream in window["streams"]]
    seconds = sum(window["seconds"] for window in windows) / len(windows)
    expected = sum(sent.get(publisher, {}).get(kind, 0) for publisher, kind, *_figures in streams)
    lost = 0
    for publisher, kind, received, _octets, missing in streams:
        due = sent.get(publisher, {}).get(kind, 0)
        lost += _load.lost(due, received, missing, round(due / seconds * _load.SLACK_SECONDS))
    return {
        "seconds": round(seconds, 2),
        "due": round(sum(window["due"] for window in windows)),
        "sent": sum(sum(counts.values()) for counts in sent.values()),
        "broken": sum(window["broken"] for window in windows),
        "expected": expected,
        "received": sum(stream[2] for stream in streams),
        "lost": lost,
        "loss_percent": round(_load.percent(lost, expected), 3),
        "mbit_per_second": round(sum(stream[3] for stream in streams) * 8 / 1e6 / seconds, 2),
        "generator": {
            "busy": [round((window["cpu"] + window["waited"]) / window["seconds"], 3) for window in windows],
            "cores": round(sum(window["cpu"] / window["seconds"] for window in windows), 3),
            "late_seconds": round(max(window["late"] for window in windows), 3),
            "dropped": sum(window["dropped"] for window in windows),
        },
    }


@contextlib.contextmanager
def names(spec: dict[str, Any]) -> Any:
    """Have all names resolve as the options say, that of a TURN server with an IPv6 address included."""
    with _signaling_client.pinned_names({**spec["resolve"], **spec.get("pins", {})}):
        yield


def carry(spec: dict[str, Any]) -> None:
    """Be a carrier; never returns."""
    logging.disable(logging.CRITICAL)
    with names(spec):
        parts = urlsplit(spec["url"])
        _load_peer.use_addresses(_load_peer.local_addresses(parts.hostname or "", parts.port or 443))

        async def run() -> None:
            await Carrier(spec).run()

        asyncio.run(run())
    os._exit(0)


async def abandoned() -> None:
    """Return when the process that started this one is gone: no load may go on that nobody waits for."""
    parent = os.getppid()
    while os.getppid() == parent:
        await asyncio.sleep(1)


def child(spec: dict[str, Any]) -> None:
    """Lead a run and write its report to standard output; never returns."""
    logging.disable(logging.CRITICAL)
    turn = spec.pop("turn", None)
    if turn:
        host, port = _probe_run.split_server(turn["server"])
        name, password = _signaling_client.turn_credentials(turn["secret"], "load", int(time.time()) + 6 * 3600)
        if ":" in host:
            spec["pins"] = {_probe_run.TURN_ALIAS: host}
            host = _probe_run.TURN_ALIAS
        spec["relay"] = {
            "host": host,
            "port": port,
            "transport": turn["protocol"],
            "username": name,
            "password": password,
        }

    async def run() -> dict[str, Any]:
        leader = Leader(spec)
        running = asyncio.ensure_future(leader.run())
        watching = asyncio.ensure_future(abandoned())
        await asyncio.wait([running, watching], timeout=spec["timeout"], return_when=asyncio.FIRST_COMPLETED)
        watching.cancel()
        if not running.done():
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
        else:
            running.result()
        return leader.report()

    try:
        report = asyncio.run(run())
    except LoadError as error:
        report = {"error": str(error)}
    sys.stdout.write(json.dumps(report))
    sys.stdout.flush()
    os._exit(0)


def in_child(spec: dict[str, Any]) -> dict[str, Any]:
    """Make a run in processes of its own and return its report. Raises LoadError."""
    data = json.dumps({**spec, "sys_path": sys.path}) + "\n"
    limit = spec["timeout"] + ANSWER_SECONDS + SPARE_SECONDS
    try:
        with tempfile.NamedTemporaryFile("w", suffix=".pem", encoding="utf-8") as bundle:
            # TURN over TLS knows authorities only from the environment of its process.
            bundle.write(_probe_run.authorities(spec))
            bundle.flush()
            process = subprocess.run(
                [sys.executable, "-c", START.format(what="child")],
                input=data,
                capture_output=True,
                text=True,
                timeout=limit,
                check=False,
                env={**os.environ, "SSL_CERT_FILE": bundle.name},
            )
    except subprocess.TimeoutExpired as error:
        raise LoadError(f"The load test was still busy after {limit} s and was ended: raise the timeout.") from error
    try:
        report: dict[str, Any] = json.loads(process.stdout)
    except ValueError as error:
        lines = process.stderr.strip().splitlines() or ["without a word"]
        raise LoadError(
            f"The load test ended with code {process.returncode}: {lines[-1]}. "
            f"Check that aiortc and websockets of {sys.executable} are complete."
        ) from error
    if "error" in report:
        raise LoadError(report["error"])
    return report
