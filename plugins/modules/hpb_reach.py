#!/usr/bin/python
# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say how a Nextcloud's own host reaches the backend."""

from __future__ import annotations

DOCUMENTATION = r"""
module: hpb_reach
short_description: Say how a Nextcloud's host reaches the backend
version_added: 0.1.0
description:
  - Takes, in one round trip and without changing anything, each step of the way on which Talk reaches the signaling
    server - name, TCP, TLS, the welcome, and a request that is signed with the instance's secret - and compares the
    clocks.
  - It is asked from the host, also for a Nextcloud in a container. What only that container has, entries in its
    C(/etc/hosts) or a network of its own, is not seen.
  - Certificates are checked against the host's own authorities. Nextcloud brings a list of its own, to which
    C(occ security:certificates:import) adds; what a distribution trusts is nearly the same.
  - The signed request is sent only to a server whose certificate holds, or where O(verify) is false. It concerns a room
    in which nobody is and has no effect. With the right secret it is no failed authentication; when it is refused, it
    is not repeated.
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
  url:
    description: The URL of the signaling server as Talk knows it.
    type: str
    required: true
  nextcloud_url:
    description: The URL of the Nextcloud, for which the request is signed.
    type: str
    required: true
  secret:
    description: The instance's backend secret. Without it no request is signed.
    type: str
    default: ""
  verify:
    description: Whether Talk checks the certificate.
    type: bool
    default: true
  timeout:
    description: Seconds to wait for each answer.
    type: int
    default: 5
seealso:
  - module: nextcloud_talk.hpb.hpb_inspect
  - plugin: nextcloud_talk.hpb.diagnose
    plugin_type: filter
"""

EXAMPLES = r"""
- name: See how this Nextcloud reaches the backend
  nextcloud_talk.hpb.hpb_reach:
    url: https://talk.example.org
    nextcloud_url: https://nc.example.org
    secret: "{{ hpb_secrets.instances.nc.backend }}"
  register: reach
"""

RETURN = r"""
addresses:
  description: What the name of the signaling server resolves to on this host.
  type: list
  elements: str
  returned: success
hosts_file:
  description: The address that C(/etc/hosts) of the host has for the name, empty when it has none.
  type: str
  returned: success
own_addresses:
  description: The host's own addresses.
  type: list
  elements: str
  returned: success
own_name_addresses:
  description: What the Nextcloud's own name resolves to on this host.
  type: list
  elements: str
  returned: success
failed_at:
  description: The first step that did not work, empty when all did.
  type: str
  returned: success
  choices: ["", name, tcp, tls, welcome, request]
kind:
  description:
    - Why, in one word - C(name), C(refused), C(timeout), C(unreachable), C(unknown_ca), C(expired), C(not_yet_valid),
      C(wrong_name), C(certificate), C(tls), C(status), C(features) or C(other); empty when all steps worked.
  type: str
  returned: success
text:
  description: What was said by the program or the server at that step.
  type: str
  returned: success
certificate:
  description: What a check of the certificate came to, as C(kind) and C(text), also where O(verify) is false.
  type: dict
  returned: success
welcome:
  description: C(status) and C(features) of the answer to the welcome.
  type: dict
  returned: success
request:
  description: C(status) and C(features) of the answer to the signed request, status 0 when none was sent.
  type: dict
  returned: success
seconds_off:
  description:
    - By how many seconds this host's clock is ahead of the one that the server's header C(Date) shows, negative when it
      is behind. Talk takes 45. Not there when the server did not answer.
  type: float
  returned: when the server answered
time:
  description: The host's clock at the start of the module, in Unix seconds.
  type: float
  returned: success
"""

import email.utils  # noqa: E402
import hashlib  # noqa: E402
import hmac  # noqa: E402
import http.client  # noqa: E402
import json  # noqa: E402
import secrets  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402
from urllib.parse import urlsplit  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _evidence  # noqa: E402


def signed(secret: str, nextcloud: str, body: bytes) -> dict[str, str]:
    """Return the headers with which Talk sends `body` (upstream's docs/standalone-signaling-api-v1.md)."""
    random = secrets.token_hex(32)
    return {
        "Content-Type": "application/json",
        "Spreed-Signaling-Backend": nextcloud,
        "Spreed-Signaling-Random": random,
        "Spreed-Signaling-Checksum": hmac.new(secret.encode(), random.encode() + body, hashlib.sha256).hexdigest(),
    }


class Way:
    """The way from this host to the signaling server, step by step."""

    def __init__(self, params: dict[str, Any]) -> None:
        self.params = params
        self.parts = urlsplit(params["url"].rstrip("/"))
        self.name = self.parts.hostname or ""
        self.secure = self.parts.scheme != "http"
        self.port = self.parts.port or (443 if self.secure else 80)
        self.seconds = params["timeout"]
        self.found: dict[str, Any] = {
            "certificate": {"kind": "", "text": ""},
            "welcome": {"status": 0, "features": []},
            "request": {"status": 0, "features": []},
        }

    def take(self) -> dict[str, Any]:
        """Take all steps up to the first that does not work, and return what was found."""
        self.found["addresses"], error = _evidence.resolve(self.name)
        if error:
            return self.stopped("name", "name", error)
        kind = _evidence.tcp(self.name, self.port, self.seconds)
        if kind:
            return self.stopped("tcp", kind, "")
        if self.secure:
            checked = _evidence.tls(self.name, self.port, self.name, _evidence.trust(), self.seconds)
            self.found["certificate"] = checked
            if checked["kind"] and self.params["verify"]:
                # What a server says whose certificate does not hold is used for nothing but its clock.
                self.request("/api/v1/welcome")
                return self.stopped("tls", checked["kind"], checked["text"])
        return self.welcome()

    def welcome(self) -> dict[str, Any]:
        """Ask for the welcome, then send the signed request."""
        answer = self.request("/api/v1/welcome")
        features = _evidence.features(answer["headers"])
        self.found["welcome"] = {"status": answer["status"], "features": features}
        if answer["status"] != 200 or "nextcloud-spreed-signaling" not in answer["body"]:
            return self.stopped("welcome", answer["kind"] or "status", answer["text"] or str(answer["status"]))
        if not features:
            return self.stopped("welcome", "features", "")
        if not self.params["secret"]:
            return self.stopped("", "", "")
        body = json.dumps({"type": "message", "message": {"data": {}}}).encode()
        headers = signed(self.params["secret"], self.params["nextcloud_url"], body)
        answer = self.request(f"/api/v1/room/reach{secrets.token_hex(12)}", headers, body)
        features = _evidence.features(answer["headers"])
        self.found["request"] = {"status": answer["status"], "features": features}
        if answer["status"] != 200:
            return self.stopped("request", answer["kind"] or "status", answer["text"] or str(answer["status"]))
        return self.stopped("request", "features", "") if not features else self.stopped("", "", "")

    def request(self, path: str, headers: dict[str, str] | None = None, body: bytes | None = None) -> dict[str, Any]:
        """Send a request; the answer's clock is compared with ours."""
        connection: http.client.HTTPConnection
        if self.secure:
            # The certificate was checked before, and what it came to was heeded.
            context = _evidence.blind() if self.found["certificate"]["kind"] else _evidence.trust()
            connection = http.client.HTTPSConnection(self.name, self.port, timeout=self.seconds, context=context)
        else:
            connection = http.client.HTTPConnection(self.name, self.port, timeout=self.seconds)
        before = time.time()
        answer = _evidence.http_request(connection, self.parts.path + path, headers, body)
        date = email.utils.parsedate_tz(answer["headers"].get("date", ""))
        # As Talk does, by the first answer, that to the welcome.
        if date and "seconds_off" not in self.found:
            self.found["seconds_off"] = round((before + time.time()) / 2 - email.utils.mktime_tz(date), 1)
        return answer

    def stopped(self, step: str, kind: str, text: str) -> dict[str, Any]:
        """Return what was found, with the step that did not work."""
        return {**self.found, "failed_at": step, "kind": kind, "text": text}


def main() -> None:
    """Take the way and report."""
    began = time.time()
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "nextcloud_url": {"type": "str", "required": True},
            "secret": {"type": "str", "default": "", "no_log": True},
            "verify": {"type": "bool", "default": True},
            "timeout": {"type": "int", "default": 5},
        },
        supports_check_mode=True,
    )
    found = Way(module.params).take()
    texts = []
    for path in (Path("/proc/net/fib_trie"), Path("/proc/net/if_inet6")):
        try:
            texts.append(path.read_text(encoding="ascii"))
        except OSError:
            texts.append("")
    own, name = (urlsplit(module.params[url]).hostname or "" for url in ("nextcloud_url", "url"))
    module.exit_json(
        changed=False,
        time=began,
        own_addresses=_evidence.host_addresses(*texts),
        own_name_addresses=_evidence.resolve(own)[0],
        hosts_file=_evidence.hosts_file(name),
        **found,
    )


if __name__ == "__main__":
    main()
