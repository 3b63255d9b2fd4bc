# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of one instance as one of its users: which comes when, and what stops the next ones.

The first request decides about the password: after a refusal nothing is asked of that Nextcloud any more. Calls are
placed one after the other, so that no more than two sessions count against the instance's limit.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Callable
from urllib.parse import urlsplit

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import (
    _call,
    _probe,
    _signaling_client,
    _talk_client,
    _user,
)
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._probe import FAILED, OK, Verdict
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._signaling_client import Refused, Session
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._talk_client import (
    Conversation,
    Member,
    Unreached,
    Unwanted,
    Web,
)

# The other calls listen longer; these prove that one comes about for a user.
CALL_SECONDS = 1
HELLO_SECONDS = 25


class UserSteps:
    """The steps as the user of `item`, an instance of the options; `verdicts` grows as they end.

    url and context: of the signaling server. turn: its TURN server, {} for none. until: the Unix time at which the
    probe is over for sure.
    """

    def __init__(
        self, item: Mapping[str, Any], url: str, context: ssl.SSLContext | None, turn: Mapping[str, Any], until: float
    ) -> None:
        self.item = item
        self.url = url
        self.context = context
        self.turn = turn
        self.until = until
        self.steps = _user.steps(item, turn)
        self.verdicts: dict[str, Verdict] = {}
        # Both ends of a call are this user, in two browsers.
        self._webs = [Web(item["url"], item["user"], item.get("password") or "", context) for _end in range(2)]
        self._settings: dict[str, Any] = {}
        self._features: list[str] = []
        self._transport = ""
        # Whether a call has failed for a reason in Talk, which another one would only meet again.
        self._hopeless = False

    def skip(self, why: str, *steps: str) -> None:
        """Note that these steps, or all that have no verdict, are pointless."""
        for step in steps or [step for step in self.steps if step not in self.verdicts]:
            self.verdicts[step] = _probe.skipped(why)

    async def ask(self) -> bool:
        """Learn Talk's settings, remove what interrupted runs have left, and say whether the rest makes sense."""
        if not self.steps:
            return False
        web = self._webs[0]
        try:
            self._settings = await asyncio.to_thread(web.settings)
            guest = not self._settings.get("userId")
            removed = 0 if guest else await _talk_client.tidy_up(web, time.time())
            verdict = _user.settings(self.item, self._settings, self.url, self.turn, removed)
        except Exception as error:  # noqa: BLE001 - of the libraries' many, each is explained
            verdict = self._explain(error)
        self.verdicts[_user.SETTINGS] = verdict
        usable = _user.same_server(str(self._settings.get("server") or ""), self.url)
        if verdict.status != OK and not (usable and self._settings.get("userId")):
            known = self._settings.get("userId")
            self.skip("what Talk tells its users does not lead to this HPB" if known else "nobody could log in")
            return False
        return True

    async def greet(self, features: Sequence[str]) -> bool:
        """Say hello as the user by ticket and by token, and say whether calls make sense."""
        self._features = list(features)
        user = str(self._settings.get("userId"))
        ticket, token = _talk_client.ticket_of(self._settings), _talk_client.token_of(self._settings)
        hellos = []
        if ticket:
            by_ticket = _signaling_client.ticket_hello(self.item["url"], ticket, user)
            hellos.append(self._hello(_user.HELLO_V1, "ticket (v1)", by_ticket))
        else:
            self.skip("this Talk gives no ticket", _user.HELLO_V1)
        if not token:
            self.skip("this Talk gives no token", _user.HELLO_V2)
        elif "hello-v2" not in features:
            self.skip("this signaling server takes no token (feature hello-v2)", _user.HELLO_V2)
        else:
            by_token = _signaling_client.token_hello(self.item["url"], token)
            hellos.append(self._hello(_user.HELLO_V2, "token (v2)", by_token))
        await asyncio.gather(*hellos)
        # A browser takes the token where there is one.
        used = _user.HELLO_V2 if token and "hello-v2" in features else _user.HELLO_V1
        if self.verdicts[used].status != OK:
            self.skip("no session on the signaling server as this user")
            return False
        return True

    async def _hello(self, step: str, what: str, hello: dict[str, Any]) -> None:
        try:
            session = await Session.open(self.url, self.context, hello, HELLO_SECONDS)
            await session.close()
            verdict = _user.greeted(self.item, what, str(self._settings.get("userId")), session.user_id)
        except Exception as error:  # noqa: BLE001
            verdict = self._explain(error)
        self.verdicts[step] = verdict

    async def call(self, step: str, plan: Callable[[], _call.Plan], relay: Callable[..., _call.Relay]) -> None:
        """Place the call of one step. plan: makes that of a direct call. relay: from transport and credentials."""
        if self._hopeless:
            self.skip("the call before it failed in Talk", step)
            return
        transport = ""
        room = Conversation(self._webs[0], self.until)
        try:
            made = replace(plan(), data=False)
            if step == _user.TURN:
                found = _user.relay_of(self._settings, self.turn)
                if found is None:
                    self.skip("Talk hands out no TURN server of this HPB", step)
                    return
                transport = self._transport = found[0]
                made = replace(made, relay=relay(*found), family="")
            ends = iter(self._webs)
            async with room:
                figures = await _call.place(lambda: self._enter(next(ends), room.token), room.token, made, CALL_SECONDS)
            verdict = _user.call(self.item, transport, figures, room.left)
        except _call.CallFailed as error:
            servers = (str(self.turn.get("server", "")), self.url)
            verdict = _user.call_failed(self.item, transport, servers, error.stage, error.evidence)
            self._hopeless = error.stage in ("permissions", "incall")
        except Exception as error:  # noqa: BLE001
            verdict = self._explain(error)
            self._hopeless = isinstance(error, (Unwanted, Unreached))
        self.verdicts[step] = verdict

    async def _enter(self, web: Web, token: str) -> Member:
        """Do as a browser does that opens a conversation."""
        settings = await asyncio.to_thread(web.settings, token)
        server = str(settings.get("server") or "")
        if not _user.same_server(server, self.url):
            # With several signaling servers Talk chooses one for each conversation.
            raise Unwanted("settings", 200, f"the signaling server {server or '(none)'}, expected {self.url}")
        hello = _talk_client.best_hello(self.item["url"], settings, self._features)
        return await Member.enter(web, self.url, self.context, hello)

    def settle(self, others: Mapping[str, Verdict]) -> None:
        """Skip the calls that failed where another one of the instance fails too: it has the cause already."""
        for step, same in ((_user.CALL, "direct"), (_user.TURN, f"turn-{self._transport}")):
            both = [where[name] for where, name in ((self.verdicts, step), (others, same)) if name in where]
            if len(both) == 2 and all(verdict.status == FAILED for verdict in both):
                self.skip(f"the {_probe.step_name(same)} of this instance failed", step)

    def _explain(self, error: Exception) -> Verdict:
        """Return the verdict for an exception: of the Nextcloud, or of a session on the signaling server."""
        if isinstance(error, Unwanted):
            return _user.unwanted(self.item, error)
        if isinstance(error, Unreached):
            return _user.unreachable(self.item, error.error, urlsplit(self.item["url"]).netloc)
        if isinstance(error, Refused):
            return _user.hello(self.item, error.code, error.message)
        if isinstance(error, _signaling_client.Lost):
            return _probe.session_lost(str(error))
        if isinstance(error, asyncio.TimeoutError):
            return _user.hello(self.item, "timeout", "")
        return _probe.unreachable(error, urlsplit(self.url).netloc)
