#!/usr/bin/python
# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Begin or end the time in which prepared backend secrets come into force."""

from __future__ import annotations

DOCUMENTATION = r"""
module: hpb_changeover
short_description: Put prepared backend secrets in force when their Nextclouds have them
version_added: 0.1.0
description:
  - A Nextcloud and the signaling server know one secret for each other, and count what is signed with another one
    until they shut each other out. This module begins a process on the host of the backend that puts the prepared
    secret of an instance in force as soon as its Nextcloud has it, so that a moment lies between the two changes.
  - With O(routes), our own Traefik leads the posts of these Nextclouds to the process for this time. What is signed
    with the present or with the prepared secret is passed on, signed with the one in force. So nothing is refused,
    whatever a Nextcloud sends, and however long some of its web workers go on with the secret that they have read.
  - The prepared secret of an instance comes into force, and into O(secrets), with the first post that is signed with
    it, or when there is a file with the instance's name in O(directory).
  - The process ends with O(state=ended), and by itself after O(timeout) seconds.
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
attributes:
  check_mode:
    support: full
    description: Begins and ends nothing.
  diff_mode:
    support: none
    description: The result says what happened.
  idempotent:
    support: none
    description: Each begins another time.
options:
  state:
    description:
      - V(begun) returns when posts are led to the process, or when that turned out not to be possible.
      - V(ended) waits until no Nextcloud has signed with its old secret for O(settle) seconds, and returns when posts
        are led to the signaling server again.
    type: str
    choices: [begun, ended]
    required: true
  directory:
    description: Directory of the process, which is made and removed. It must be on this host and for root alone.
    type: path
    default: /run/nextcloud-talk-hpb-changeover
  secrets:
    description: The file of secrets. Each of O(instances) has a prepared C(backend) there. Required for O(state=begun).
    type: path
  instances:
    description: The instances whose backend secret changes, each with C(id), C(urls) and C(words), the names of all its
      prepared secrets that come into force with it.
    type: list
    elements: dict
    default: []
    suboptions:
      id:
        description: Name of the instance, a section of server.conf.
        type: str
        required: true
      urls:
        description: Under which URLs the signaling server knows the Nextcloud.
        type: list
        elements: str
        required: true
      words:
        description: Names of secrets, such as V(nc.backend).
        type: list
        elements: str
        required: true
  config:
    description: Directory with the C(config) of the signaling server, by which its container is known.
    type: path
    required: true
  signal:
    description: The signal on which the server reads its configuration again.
    type: str
    default: SIGHUP
  answer:
    description: Regular expression of the line with which the server answers it. Required for O(state=begun).
    type: str
  refusal:
    description: Regular expression of the line with which the server refuses what it read.
    type: str
    default: ""
  address:
    description: Where the signaling server listens, for O(routes).
    type: str
    default: 127.0.0.1
  port:
    description: Where the signaling server listens, for O(routes).
    type: int
    default: 8080
  resolve:
    description: Addresses of names that this host is to be told, each under its name.
    type: dict
    default: {}
  routes:
    description:
      - Traefik's dynamic configuration for the signaling server, as P(nextcloud_talk.hpb.traefik_routes#filter) makes
        it.
      - Empty where there is no Traefik of ours; then the secrets change all the same.
    type: dict
    default: {}
  dynamic:
    description: Directory from which Traefik reads its dynamic configuration. Required with O(routes).
    type: path
  domain:
    description: The name under which Traefik serves the signaling server.
    type: str
    default: ""
  web_address:
    description: Where Traefik is reached on this host.
    type: str
    default: 127.0.0.1
  web_port:
    description: Where Traefik is reached on this host.
    type: int
    default: 443
  web_tls:
    description: Whether Traefik speaks TLS there.
    type: bool
    default: true
  settle:
    description: Seconds for which no Nextcloud may have used its old secret before the process ends. Nextcloud 32 and
      newer keep settings for 3 seconds in each web worker.
    type: float
    default: 4
  timeout:
    description: Seconds after which the process ends in any case.
    type: int
    default: 600
"""

EXAMPLES = r"""
- name: Begin
  nextcloud_talk.hpb.hpb_changeover:
    state: begun
    secrets: /opt/nextcloud-talk-hpb/secrets/secrets.json
    config: /opt/nextcloud-talk-hpb/signalling
    answer: "Trusted proxies: "
    instances:
      - {id: nc, urls: ["https://nc.example.org"], words: [nc.backend, nc.turn]}

- name: End
  nextcloud_talk.hpb.hpb_changeover:
    state: ended
    config: /opt/nextcloud-talk-hpb/signalling
"""

RETURN = r"""
lines:
  description: What happened, a sentence for each instance and each address that was refused, with O(state=ended).
  type: list
  elements: str
  returned: success
locked:
  description: A sentence for each of O(instances) that the signaling server shuts out now, with O(state=ended).
  type: list
  elements: str
  returned: success
routed:
  description: Whether posts are, or were, led to the process.
  type: bool
  returned: success
instances:
  description: What became of each instance, with O(state=ended).
  type: dict
  returned: success
  contains:
    changed:
      description: Whether its new secret is in force.
      type: bool
    at:
      description: Since when, in seconds since 1970; 0 for not.
      type: float
    last_old:
      description: When the last post came that was signed with the old secret; 0 for never.
      type: float
    old:
      description: How many posts were signed with the old secret.
      type: int
    new:
      description: How many posts were signed with the new secret.
      type: int
    none:
      description: How many posts were signed with neither.
      type: int
    error:
      description: Why the new secret could not come into force. Empty otherwise.
      type: str
"""

import contextlib  # noqa: E402
import shutil  # noqa: E402
import socket  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402
from urllib.parse import urlsplit  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import (  # noqa: E402
    _changeover,
    _record,
    _reload,
    _secret_file,
)

INSTANCE = {
    "id": {"type": "str", "required": True},
    "urls": {"type": "list", "elements": "str", "required": True},
    "words": {"type": "list", "elements": "str", "required": True},
}


def changes(params: dict[str, Any]) -> list[_changeover.Change]:
    """Return the changes that are asked for, with the secrets; raises SecretsError or ChangeoverError."""
    document, _found = _secret_file.load(Path(params["secrets"]))
    entries = (document or {}).get("instances", {})
    found = []
    for wanted in params["instances"]:
        entry = entries.get(wanted["id"], {})
        new = entry.get("next", {}).get("backend")
        if not new:
            raise _changeover.ChangeoverError(
                f"{params['secrets']} was expected to hold a prepared backend secret of {wanted['id']} and holds none: "
                "another run may have put it in force. Run the playbook rotate again."
            )
        found.append(_changeover.Change(wanted["id"], wanted["urls"], entry["backend"], new, wanted["words"]))
    return found


def logged(module: AnsibleModule, seconds: float) -> dict[str, list[float]]:
    """Return what the signaling server has counted in the last seconds."""
    _name, container = _record.located(module.run_command, Path(module.params["config"]))
    _code, out, err = module.run_command(["docker", "logs", "--timestamps", "--since", f"{seconds:.0f}s", container])
    started = module.run_command(["docker", "container", "inspect", "--format", "{{.State.StartedAt}}", container])[1]
    return _changeover.counted(out + err, _changeover.moment(started))


def addresses(params: dict[str, Any]) -> dict[str, set[str]]:
    """Return the addresses of each Nextcloud, as this host knows them."""
    found: dict[str, set[str]] = {}
    for entry in params["instances"]:
        own = found.setdefault(entry["id"], set())
        for host in filter(None, (urlsplit(url).hostname for url in entry["urls"])):
            if host in params["resolve"]:
                own.add(params["resolve"][host])
                continue
            with contextlib.suppress(OSError):
                own.update(str(info[4][0]) for info in socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM))
    return found


def end(directory: Path, patience: float) -> dict[str, Any]:
    """End the process of the directory, if there is one, and return its report."""
    alive = _changeover.alive(directory)
    if alive:
        (directory / _changeover.END).touch()
    report = _changeover.wait_for(directory / _changeover.REPORT, patience if alive else 0.1)
    shutil.rmtree(directory, ignore_errors=True)
    return report or {"routed": False, "instances": {}}


def begin(module: AnsibleModule) -> dict[str, Any]:
    """Begin the process, and return what it says; raises ChangeoverError."""
    params = module.params
    directory = Path(params["directory"])
    end(directory, params["settle"] + _changeover.ROUTE_SECONDS + _changeover.TIMEOUT)
    wanted = changes(params)
    directory.mkdir(mode=0o700, parents=True)
    spec = {**params, "server": (params["address"], params["port"])}
    spec["web"] = (params["web_address"], params["web_port"], params["web_tls"])
    _changeover.detach(_changeover.Changeover(spec, wanted).serve)
    found = _changeover.wait_for(directory / _changeover.READY, _changeover.ROUTE_SECONDS + 10)
    if found is None:
        why = (_changeover.wait_for(directory / _changeover.REPORT, 1) or {}).get("error", "it says nothing")
        raise _changeover.ChangeoverError(
            f"A process that puts new secrets in force was expected to begin on this host and did not ({why}): look "
            f"whether {directory.parent} is full or read-only, mend that, and run the same command again."
        )
    counts = logged(module, _changeover.WINDOW)
    problems = _changeover.in_the_way(counts, addresses(params), time.time(), routed=found["routed"])
    if problems:
        end(directory, _changeover.ROUTE_SECONDS + _changeover.TIMEOUT)
        raise _changeover.ChangeoverError("\n".join(problems))
    return {"routed": found["routed"], "instances": {}}


def finish(module: AnsibleModule) -> dict[str, Any]:
    """End the process, and return its report with what the server has counted meanwhile."""
    params = module.params
    directory = Path(params["directory"])
    try:
        begun = (directory / _changeover.READY).stat().st_mtime
    except OSError:
        return {**end(directory, 0), "lines": [], "locked": []}
    report = end(directory, params["settle"] + _changeover.ROUTE_SECONDS + _changeover.TIMEOUT)
    counts = logged(module, _changeover.WINDOW)
    locked = _changeover.in_the_way(counts, addresses(params), time.time(), routed=True)
    return {**report, "lines": _changeover.lines(report, counts, begun), "locked": locked}


def main() -> None:
    """Begin or end, and say what happened."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["begun", "ended"], "required": True},
            "directory": {"type": "path", "default": "/run/nextcloud-talk-hpb-changeover"},
            "secrets": {"type": "path", "no_log": False},
            "instances": {"type": "list", "elements": "dict", "default": [], "options": INSTANCE},
            "config": {"type": "path", "required": True},
            "signal": {"type": "str", "default": "SIGHUP"},
            "answer": {"type": "str"},
            "refusal": {"type": "str", "default": ""},
            "address": {"type": "str", "default": "127.0.0.1"},
            "port": {"type": "int", "default": 8080},
            "resolve": {"type": "dict", "default": {}},
            "routes": {"type": "dict", "default": {}},
            "dynamic": {"type": "path"},
            "domain": {"type": "str", "default": ""},
            "web_address": {"type": "str", "default": "127.0.0.1"},
            "web_port": {"type": "int", "default": 443},
            "web_tls": {"type": "bool", "default": True},
            "settle": {"type": "float", "default": 4},
            "timeout": {"type": "int", "default": 600},
        },
        required_if=[("state", "begun", ("secrets", "answer"))],
        supports_check_mode=True,
    )
    params = module.params
    try:
        if module.check_mode:
            result = {"routed": False, "instances": {}, "lines": [], "locked": []}
        elif params["state"] == "begun":
            result = begin(module)
        else:
            result = finish(module)
    except (_changeover.ChangeoverError, _reload.ReloadError, _secret_file.SecretsError) as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename} cannot be read or written: {error.strerror}. Mend that, run again.")
    module.exit_json(changed=not module.check_mode and params["state"] == "begun", **result)


if __name__ == "__main__":
    main()
