# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A headless Chromium that is told what to do: its start, its end, and pages in it that run functions of ours.

It is driven over the Chrome DevTools Protocol through a pair of pipes: no port is opened that others on the machine
could use, and it ends by itself when this process does. What a page is told goes through the pipe, so a secret in it is
in no argument and in no environment. It reaches no name but those it is given, and its files are in one folder.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import itertools
import json
import os
import signal
import socket
import ssl
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable

try:
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
except ImportError:  # It comes with aiortc, whose absence the module names before anything of this is used.
    x509 = None

START_SECONDS = 30
COMMAND_SECONDS = 20
END_SECONDS = 5
TLS_SECONDS = 10
# One message; statistics of a connection are some 50 kB.
MESSAGE_BYTES = 16 * 1024 * 1024
# What a page calls to tell something by itself.
BINDING = "tell"
# The camera is one that Chromium has for tests: it needs no device, and moves.
CAMERA = "fps=15"

FLAGS = (
    "--headless",
    "--remote-debugging-pipe",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    # Nothing of its own may go out.
    "--no-proxy-server",
    "--no-pings",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--disable-domain-reliability",
    "--disable-breakpad",
    "--metrics-recording-only",
    "--password-store=basic",
    # Camera and microphone without a device and without a question; sound is played to nobody.
    "--use-fake-ui-for-media-stream",
    f"--use-fake-device-for-media-stream={CAMERA}",
    "--autoplay-policy=no-user-gesture-required",
    "--mute-audio",
    # A page that nobody looks at runs on, and tells the real addresses of its candidates.
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--disable-features=WebRtcHideLocalIpsWithMdns,OptimizationHints,MediaRouter,Translate",
)

# Chromium wants its pipes as 3 (commands) and 4 (answers).
START = (
    "import fcntl, os, sys; given, argv = [int(number) for number in sys.argv[1:3]], sys.argv[3:]; "
    # Neither may be overwritten before it was moved.
    "spare = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 10) for number in given]; "
    "[os.close(number) for number in given]; "
    "[os.dup2(number, place) for number, place in zip(spare, (3, 4))]; os.execvp(argv[0], argv)"
)
# What every Chromium complains about where there is no desktop.
NOISE = ("ERROR:dbus/", "unexpected operator")


class BrowserError(Exception):
    """The browser did not do as it was told; the message says what it said."""


def rules(*servers: tuple[str, str]) -> str:
    """Return Chromium's rules for names: those of (name, address) that there are, and there is no other.

    They also hold for addresses over tcp, and not for names of TURN servers over udp, which are looked up elsewhere in
    Chromium: so it is given an address where no certificate wants a name.
    """
    known = [f"MAP {name.lower().rstrip('.')} {bracketed(at)}" for name, at in servers if at and name != at]
    addresses = dict.fromkeys(f"EXCLUDE {bracketed(address)}" for _name, address in servers if address)
    return ", ".join([*known, "MAP * ~NOTFOUND", *addresses])


def bracketed(address: str) -> str:
    """Return an address as it stands in a URL; a name stays as it is."""
    return f"[{address}]" if ":" in address else address


def arguments(program: str, folder: str, name_rules: str, keys: Sequence[str], root: bool) -> list[str]:
    """Return the command. keys: what `key_of` returns of servers whose certificates have been checked, "" for none."""
    known = ",".join(dict.fromkeys(filter(None, keys)))
    return [
        program,
        *FLAGS,
        f"--user-data-dir={folder}/profile",
        f"--host-resolver-rules={name_rules}",
        *([f"--ignore-certificate-errors-spki-list={known}"] if known else []),
        # Chromium refuses to start as root with it.
        *(["--no-sandbox"] if root else []),
        f"file://{folder}/page.html",
    ]


def environment(folder: str, present: Mapping[str, str]) -> dict[str, str]:
    """Return the environment: the present one, with all places for files in the folder, and without a display."""
    kept = {
        name: value
        for name, value in present.items()
        if name not in ("DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS", "CHROMIUM_FLAGS", "SSLKEYLOGFILE")
    }
    places = ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "TMPDIR")
    return {**kept, **dict.fromkeys(places, folder)}


def key_of(certificate: bytes) -> str:
    """Return what Chromium calls the key of a certificate (DER): the base64 of its SHA-256. Raises ValueError."""
    key = x509.load_der_x509_certificate(certificate).public_key()
    info = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(info).digest()).decode()


def checked_key(host: str, port: int, context: ssl.SSLContext) -> str:
    """Return the key of a TLS server whose certificate holds for `host` by the context, "" where the system's do.

    Chromium knows the system's authorities and none of ours, and has no option for one. So a server of one of ours is
    checked here, and Chromium is told to take this key and no other that it cannot check itself. What does not hold
    here gets no key, and is refused by Chromium.
    """
    with contextlib.suppress(OSError):
        certificate_of(host, port, system_context())
        return ""
    with contextlib.suppress(OSError, ValueError):
        return key_of(certificate_of(host, port, context))
    return ""


def system_context() -> ssl.SSLContext:
    """Return a context that trusts the system's authorities, and none that the environment names."""
    paths = ssl.get_default_verify_paths()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if Path(paths.openssl_cafile).is_file():
        context.load_verify_locations(cafile=paths.openssl_cafile)
    if Path(paths.openssl_capath).is_dir():
        context.load_verify_locations(capath=paths.openssl_capath)
    return context


def certificate_of(host: str, port: int, context: ssl.SSLContext) -> bytes:
    """Return a server's certificate (DER) once it holds. Raises OSError, of which ssl.SSLError is one."""
    with socket.create_connection((host, port), timeout=TLS_SECONDS) as plain:  # noqa: SIM117
        with context.wrap_socket(plain, server_hostname=host) as secure:
            return secure.getpeercert(binary_form=True) or b""


def address_of(name: str, port: int) -> str:
    """Return the first address of a name, "" when it has none."""
    with contextlib.suppress(OSError):
        return str(socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)[0][4][0])
    return ""


def last_words(text: str) -> str:
    """Return the last line of what a browser said that says something, without time and place in its sources."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not any(word in line for word in NOISE)]
    line = lines[-1] if lines else "without a word"
    if line.startswith("[") and "] " in line:
        line = line.split("] ", 1)[1]
    return line[:300]


class Browser:
    """A running Chromium, for as long as the `async with` block."""

    def __init__(self, command: Sequence[str], folder: str) -> None:
        self.version = ""
        self._command = list(command)
        self._folder = Path(folder)
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._pages: dict[str, Page] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._transports: list[asyncio.BaseTransport] = []
        self._writer: Any = None

    async def __aenter__(self) -> Browser:
        try:
            await self._start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_unused: object) -> None:
        await self.close()

    async def _start(self) -> None:
        (self._folder / "page.html").write_text("<!DOCTYPE html><title>probe</title>", encoding="utf-8")
        commands, answers = os.pipe(), os.pipe()
        try:
            with (self._folder / "browser.log").open("wb") as log:
                self._process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-c", START, str(commands[0]), str(answers[1]), *self._command),
                    pass_fds=(commands[0], answers[1]),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environment(str(self._folder), os.environ),
                    start_new_session=True,
                )
        finally:
            os.close(commands[0])
            os.close(answers[1])
        loop = asyncio.get_running_loop()
        stream = asyncio.StreamReader(limit=MESSAGE_BYTES)
        source, sink = os.fdopen(answers[0], "rb"), os.fdopen(commands[1], "wb")
        reading, _protocol = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), source)
        self._writer, _protocol = await loop.connect_write_pipe(asyncio.BaseProtocol, sink)
        self._transports = [reading, self._writer]
        self._reader = asyncio.ensure_future(self._read(stream))
        found = await self.command("Browser.getVersion", seconds=START_SECONDS)
        self.version = str(found.get("product", "")).rpartition("/")[2]

    async def command(self, method: str, *, seconds: float = COMMAND_SECONDS, page: str = "", **given: Any) -> Any:
        """Send a command of the protocol, to a page or to the browser, and return its result. Raises `BrowserError`."""
        identifier = next(self._ids)
        message = {"id": identifier, "method": method, "params": given, **({"sessionId": page} if page else {})}
        future = asyncio.get_running_loop().create_future()
        self._answers[identifier] = future
        try:
            if self._reader is None or self._reader.done():
                raise BrowserError(self._ended())
            self._writer.write(json.dumps(message).encode() + b"\0")
            answer = await asyncio.wait_for(future, seconds)
        except asyncio.TimeoutError as error:
            raise BrowserError(f"it did not answer {method} within {seconds} seconds") from error
        finally:
            self._answers.pop(identifier, None)
        if "error" in answer:
            raise BrowserError(f"it refuses {method}: {answer['error'].get('message', '')}")
        return answer.get("result", {})

    async def page(self) -> Page:
        """Open a page."""
        target = await self.command("Target.createTarget", url=f"file://{self._folder}/page.html")
        attached = await self.command("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        page = Page(self, target["targetId"], attached["sessionId"])
        self._pages[page.session] = page
        await self.command("Runtime.enable", page=page.session)
        await self.command("Runtime.addBinding", page=page.session, name=BINDING)
        await page.loaded()
        return page

    async def close(self) -> None:
        """End the browser with all its processes. Never raises."""
        if self._process and self._process.returncode is None:
            with contextlib.suppress(BrowserError, asyncio.TimeoutError):
                await self.command("Browser.close", seconds=END_SECONDS)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._process.wait(), END_SECONDS)
        if self._process:
            # Its processes are a group of their own.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()
        if self._reader:
            self._reader.cancel()
        for transport in self._transports:
            transport.close()

    def said(self) -> str:
        """Return what the browser wrote to standard error."""
        try:
            return (self._folder / "browser.log").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def _ended(self) -> str:
        return f"it ended: {last_words(self.said())}"

    async def _read(self, stream: asyncio.StreamReader) -> None:
        try:
            while True:
                self._take(json.loads((await stream.readuntil(b"\0"))[:-1]))
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, ValueError):
            if self._process:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._process.wait(), END_SECONDS)
            for future in self._answers.values():
                if not future.done():
                    future.set_exception(BrowserError(self._ended()))

    def _take(self, message: dict[str, Any]) -> None:
        future = self._answers.get(message.get("id", 0))
        if future and not future.done():
            future.set_result(message)
        elif message.get("method") == "Runtime.bindingCalled":
            page = self._pages.get(message.get("sessionId", ""))
            if page:
                page.told(json.loads(message["params"]["payload"]))


class Page:
    """A page of the browser: functions of ours run in it, and it tells what happens by itself."""

    def __init__(self, browser: Browser, target: str, session: str) -> None:
        self.session = session
        self.told: Callable[[dict[str, Any]], None] = lambda _message: None
        self._browser = browser
        self._target = target

    async def loaded(self) -> None:
        """Wait until the page is there; before that another one is, which has no camera. Raises `BrowserError`."""
        end = time.monotonic() + COMMAND_SECONDS
        while time.monotonic() < end:
            # What is asked while one page follows the other is not answered.
            with contextlib.suppress(BrowserError):
                if await self.run("location.protocol === 'file:' && document.readyState === 'complete'"):
                    return
            await asyncio.sleep(0.05)
        raise BrowserError(f"it did not open its page within {COMMAND_SECONDS} seconds")

    async def run(self, script: str) -> Any:
        """Run a script and return the value of its last expression, a promise's once it has one.

        Raises `BrowserError` with the first line of an exception's text, which is the page's own.
        """
        given = {"expression": script, "awaitPromise": True, "returnByValue": True}
        result = await self._browser.command("Runtime.evaluate", page=self.session, **given)
        failed = result.get("exceptionDetails")
        if failed:
            text = (failed.get("exception") or {}).get("description") or failed.get("text") or "an exception"
            raise BrowserError(str(text).splitlines()[0][:300])
        return (result.get("result") or {}).get("value")

    async def call(self, function: str, *values: Any) -> Any:
        """Call a function of the page with values that JSON can hold, and return what it returns."""
        return await self.run(f"{function}({', '.join(json.dumps(value) for value in values)})")

    async def close(self) -> None:
        """Close the page, and with it all that it has opened. Never raises."""
        with contextlib.suppress(BrowserError, asyncio.TimeoutError):
            await self._browser.command("Target.closeTarget", seconds=END_SECONDS, targetId=self._target)
