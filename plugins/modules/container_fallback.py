#!/usr/bin/python
# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep no longer what was healthy before of a container, or put it back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: container_fallback
short_description: Keep no longer what was healthy before, or put it back
version_added: 0.1.0
description:
  - What M(nextcloud_talk.hpb.container_config) keeps of a container that is being changed, its configuration
    C(config.previous) and, when it is made anew, the container NAME-previous, is kept until O(state=settled) removes it
    or O(state=restored) puts it back.
  - What a run leaves that was killed, the next one goes on from, see M(nextcloud_talk.hpb.container_look).
  - A container that is not ours is never touched, whatever it is called. Where one has the name of ours, the module
    fails and says so.
  - Works with the program C(docker) on the host.
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
attributes:
  check_mode:
    support: full
    description: Says what would be done to containers and directories.
  diff_mode:
    support: none
    description: A configuration that is put back is not shown.
  idempotent:
    support: full
    description: Each state can be asked for again.
options:
  container:
    description: Name of the container.
    type: str
    required: true
  directory:
    description: Directory that holds the C(config) of the container. It is called like it, without a prefix.
    type: path
    required: true
  state:
    description:
      - V(tried) changes nothing; what is kept stays until it is known whether the container is good.
      - V(settled) removes what is kept.
      - V(restored) puts what is kept back, starts it or has it read again, and waits until it is healthy.
    type: str
    choices: [tried, settled, restored]
    required: true
  signal:
    description: With O(state=restored), the signal on which the program reads its configuration again. Empty for none.
    type: str
    default: ""
  answer:
    description: With O(signal), regular expression of the line that the program logs when it has taken what it read.
    type: str
    default: ""
  timeout:
    description: With O(state=restored), seconds until the container must be healthy.
    type: int
    default: 90
  secrets:
    description: Secrets that are masked in the log.
    type: list
    elements: str
    default: []
seealso:
  - module: nextcloud_talk.hpb.container_config
  - module: nextcloud_talk.hpb.container_look
  - module: nextcloud_talk.hpb.container_reload
"""

EXAMPLES = r"""
- name: It is healthy, so forget the old one
  nextcloud_talk.hpb.container_fallback:
    container: signalling
    directory: /opt/nextcloud-talk-hpb/signalling
    state: settled
"""

RETURN = r"""
kept:
  description: Whether something is (or, in check mode, was) kept at the end.
  type: bool
  returned: success
actions:
  description: What was (or would be) done, in words.
  type: list
  elements: str
  returned: success
found:
  description:
    - With O(state=tried) and O(state=settled), a digest of how the container, its image and its configuration are at
      the end, for M(nextcloud_talk.hpb.container_record). Empty when it is not healthy, and in check mode.
  type: str
  returned: success
restored:
  description: With O(state=restored), whether there was anything to put back.
  type: bool
  returned: success
healthy:
  description: With O(state=restored), whether the container is healthy in the end.
  type: bool
  returned: success
image:
  description: With O(state=restored), the image of the container in the end, empty when there is none.
  type: str
  returned: success
log:
  description: With O(state=restored), the last lines of the container that failed, without secrets.
  type: list
  elements: str
  returned: success
"""

import time  # noqa: E402
from typing import Any  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import (  # noqa: E402
    _evidence,
    _fallback,
    _files,
    _reload,
)

LOG_LINES = 25
SETTLING = 10


class Fallback(_fallback.Fallback):
    """The same with what the options of the module say."""

    def __init__(self, module: AnsibleModule) -> None:
        params = module.params
        super().__init__(module.run_command, params["container"], params["directory"], module.check_mode)
        self.module = module

    def log(self, there: dict[str, Any]) -> list[str]:
        """Return the last lines of the container, masked."""
        _code, out, err = self.run_command(["docker", "logs", "--tail", str(LOG_LINES), there["id"]])
        lines = [line.rstrip() for line in (out + err).splitlines() if line.strip()]
        return [_evidence.masked(line, self.module.params["secrets"])[: _evidence.LINE_LENGTH] for line in lines]

    def healthy(self) -> bool:
        """Wait until the container is healthy; returns whether it is."""
        began = time.monotonic()
        deadline = began + self.module.params["timeout"]
        while True:
            state, _aside = self.both()
            if state.get("running") and state["health"] in ("healthy", ""):
                return True
            # Of one that was just started, Docker may still say what it was before.
            given_up = state.get("health") == "unhealthy" and time.monotonic() > began + SETTLING
            if given_up or time.monotonic() > deadline:
                return False
            time.sleep(0.5)

    def have_read(self, there: dict[str, Any]) -> None:
        """Make the program that runs read the configuration that was put back: on a signal, or by a restart."""
        wanted = self.module.params
        if wanted["signal"]:
            try:
                self.actions.append(f"{wanted['signal']} to {self.name}")
                _reload.send(self.run_command, self.name, there["id"], wanted["signal"], wanted["answer"])
                return
            except _reload.ReloadError:
                self.actions.append("no answer")
        self.docker([["docker", "restart", there["id"]]])

    def restore(self, there: dict[str, Any], aside: dict[str, Any]) -> dict[str, Any]:
        """Put back what is kept; returns the part of the result that tells of it."""
        log = self.log(there) if there else []
        restored = bool(aside) or (self.kept.there() and bool(there))
        if not restored or self.check_mode:
            return {"restored": restored, "healthy": False, "image": there.get("image", ""), "log": log}
        other = self.kept.put_back()
        self.note("put back", other)
        if aside:
            self.docker(_fallback.container_steps("restored", self.name, there, aside, True))
        else:
            self.docker(_fallback.set_limits(there["id"], there["limits"], self.kept.limits()))
            if other or not there["running"]:
                self.have_read(there)
        self.kept.was_read()
        healthy = self.healthy()
        self.kept.discard()
        return {"restored": True, "healthy": healthy, "image": self.both()[0].get("image", ""), "log": log}

    def run(self, state: str) -> dict[str, Any]:
        """Bring it to the state; returns the module's result."""
        result = {"restored": False, "healthy": False, "image": "", "log": [], "found": ""}
        if state == "settled":
            self.settle()
        if state != "restored":
            result["found"] = self.found()
        else:
            there, aside = self.both()
            # A kept container without a kept configuration is rubbish, see _fallback.
            result |= self.restore(there, aside if self.kept.there() else {})
        # A copy of the configuration comes and goes within one run; that is no change of the host.
        noted = [action for action in self.actions if state == "restored" or action.startswith("docker ")]
        return {"changed": bool(noted), "kept": self.kept.there(), "actions": self.actions, **result}


def main() -> None:
    """Read the options, do it, and say what was done."""
    module = AnsibleModule(
        argument_spec={
            "container": {"type": "str", "required": True},
            "directory": {"type": "path", "required": True},
            "state": {"type": "str", "required": True, "choices": ["tried", "settled", "restored"]},
            "signal": {"type": "str", "default": ""},
            "answer": {"type": "str", "default": ""},
            "timeout": {"type": "int", "default": 90},
            "secrets": {"type": "list", "elements": "str", "default": [], "no_log": True},
        },
        supports_check_mode=True,
    )
    try:
        result = Fallback(module).run(module.params["state"])
    except (_fallback.FallbackError, _files.FilesError) as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        where = error.filename or module.params["directory"]
        module.fail_json(msg=f"{where} cannot be read or written: {error.strerror}. Mend that, run again.")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
