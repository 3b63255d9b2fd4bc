#!/usr/bin/python
# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what the containers of the backend have logged, errors first, without secrets."""

from __future__ import annotations

DOCUMENTATION = r"""
module: container_logs
short_description: Read the errors that the containers of the backend have logged
version_added: 0.1.0
description:
  - Reads the logs of the containers with C(docker logs), finds the errors and warnings in the shape that each program
    gives them, and returns them in order of time, without secrets. Lines that the programs write although all is well
    are no errors and no warnings.
  - Lines whose beginnings differ in long numbers and identifiers only become one entry, the last one, that says how
    often its like stood there.
  - Besides what O(secrets) and O(secrets_file) name, in plain, in a URL or in base64, every run of 32 or more letters
    and digits is masked, for example the identifier with which a session is resumed.
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
attributes:
  check_mode:
    support: full
    description: Only reads.
  diff_mode:
    support: none
    description: Changes nothing.
  idempotent:
    support: full
    description: Changes nothing.
options:
  containers:
    description: The containers, by their names without a prefix. One that does not exist is named in RV(problems).
    type: list
    elements: str
    default: [nats, janus, coturn, signalling, traefik]
  base_dir:
    description: Directory of the backend, by which its containers are known.
    type: path
    default: /opt/nextcloud-talk-hpb
  instances:
    description:
      - The Nextcloud instances that the lines shall concern, in the form of the filter
        P(nextcloud_talk.hpb.backends#filter). Of each C(id) and C(urls) are used.
      - Errors and warnings that name one of O(others) and none of these are left out; other lines that name one of
        these fill what room errors and warnings leave. Without instances all errors and warnings are returned.
    type: list
    elements: dict
    default: []
  others:
    description: The other instances, in the same form.
    type: list
    elements: dict
    default: []
  lines:
    description: How many entries are returned at most, the last ones.
    type: int
    default: 50
  since:
    description: How far back, as C(docker logs --since) takes it, for example V(2h) or V(2026-01-31T12:00:00).
    type: str
    default: 24h
  tail:
    description: How many lines of each container are read at most, the last ones.
    type: int
    default: 20000
  all:
    description: Return every line, not only errors, warnings and what names O(instances).
    type: bool
    default: false
  secrets:
    description: Values that are masked wherever they stand.
    type: list
    elements: str
    default: []
  secrets_file:
    description: File on the host, as M(nextcloud_talk.hpb.secrets) writes it, whose values are masked too.
    type: path
seealso:
  - module: nextcloud_talk.hpb.secrets
"""

EXAMPLES = r"""
- name: Read what went wrong for one instance in the last two hours
  nextcloud_talk.hpb.container_logs:
    instances:
      - id: nc
        urls: [https://nc.example.org]
    since: 2h
    secrets_file: /opt/nextcloud-talk-hpb/secrets/secrets.json
  register: logs

- name: Show it
  ansible.builtin.debug:
    msg: "{{ logs.lines }}"
"""

RETURN = r"""
entries:
  description: The entries in order of time.
  type: list
  elements: dict
  returned: success
  contains:
    time:
      description: When it was logged (UTC); of several the last.
      type: str
      sample: "2026-01-31T12:00:00.123456789"
    container:
      description: Name of the container, without its prefix.
      type: str
      sample: signalling
    level:
      description: V(error), V(warning) or V(info). The signaling server names no levels; its words say it.
      type: str
      sample: error
    text:
      description: What it says, without its own time and level and without secrets.
      type: str
    count:
      description: How often its like stood there.
      type: int
      sample: 1
lines:
  description: The same as lines of a table for a terminal, with RV(problems) below.
  type: list
  elements: str
  returned: success
problems:
  description: A sentence for each container whose log could not be read.
  type: list
  elements: str
  returned: success
"""

import json  # noqa: E402
from dataclasses import replace  # noqa: E402
from pathlib import Path  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _logs, _record, _reload  # noqa: E402


def read(module: AnsibleModule, mask: _logs.Mask) -> tuple[list[_logs.Entry], list[str]]:
    """Return the entries of all containers, and a sentence for each that could not be read."""
    entries: list[_logs.Entry] = []
    problems: list[str] = []
    options = ["--timestamps", "--since", module.params["since"], "--tail", str(module.params["tail"])]
    try:
        ours = _record.ours(module.run_command, Path(module.params["base_dir"]))
    except _reload.ReloadError as error:
        return [], [str(error)]
    for service in module.params["containers"]:
        if service not in ours:
            problems.append(
                f"There is no container {service} of the backend whose log could be read, expected one: run the "
                "playbook nextcloud_talk.hpb.site."
            )
            continue
        code, out, err = module.run_command(["docker", "logs", *options, ours[service]["Id"]], errors="replace")
        if code == 0:
            entries += _logs.parse(service, f"{out}\n{err}")
        else:
            said = (err.strip().splitlines() or ["nothing"])[-1]
            problems.append(
                f"The log of the container {_record.name_of(ours[service])} could not be read, Docker said: "
                f"{mask(said)}. Look at 'docker ps -a' on this host."
            )
    return entries, problems


def known_secrets(module: AnsibleModule) -> list[str]:
    """Return all secrets that are to be masked; fails the module when their file is there and cannot be read."""
    path = module.params["secrets_file"]
    found = list(module.params["secrets"])
    try:
        found += _logs.secrets_in(json.loads(Path(path).read_text(encoding="utf-8"))) if path else []
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        module.fail_json(
            msg=f"{path} was expected to hold the secrets that must not be shown and cannot be read "
            f"({type(error).__name__}): become root, or mend the file."
        )
    return found


def main() -> None:
    """Read, choose and mask."""
    module = AnsibleModule(
        argument_spec={
            "containers": {
                "type": "list",
                "elements": "str",
                "default": ["nats", "janus", "coturn", "signalling", "traefik"],
            },
            "base_dir": {"type": "path", "default": "/opt/nextcloud-talk-hpb"},
            "instances": {"type": "list", "elements": "dict", "default": []},
            "others": {"type": "list", "elements": "dict", "default": []},
            "lines": {"type": "int", "default": 50},
            "since": {"type": "str", "default": "24h"},
            "tail": {"type": "int", "default": 20000},
            "all": {"type": "bool", "default": False},
            "secrets": {"type": "list", "elements": "str", "default": [], "no_log": True},
            "secrets_file": {"type": "path", "no_log": False},
        },
        supports_check_mode=True,
    )
    if module.params["lines"] < 1:
        module.fail_json(msg=f"lines is {module.params['lines']}, expected 1 or more: name how many lines to show.")
    for instance in [*module.params["instances"], *module.params["others"]]:
        if not instance.get("id"):
            module.fail_json(msg="An instance has no id, expected what the filter backends returns: give id and urls.")
    mask = _logs.Mask(known_secrets(module))
    entries, problems = read(module, mask)
    chosen = [
        replace(entry, text=mask(entry.text))
        for entry in _logs.choose(
            entries,
            lines=module.params["lines"],
            instances=module.params["instances"],
            others=module.params["others"],
            everything=module.params["all"],
        )
    ]
    lines = [_logs.shown(entry) for entry in chosen] or ["Nothing of this kind was logged."]
    module.exit_json(
        changed=False, entries=[vars(entry) for entry in chosen], lines=lines + problems, problems=problems
    )


if __name__ == "__main__":
    main()
