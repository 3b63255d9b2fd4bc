#!/usr/bin/python
# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read, bring back or copy what makes a backend the same one."""

from __future__ import annotations

DOCUMENTATION = r"""
module: hpb_state
short_description: Read, bring back or copy what makes a backend the same one
version_added: 0.1.0
description:
  - The secrets, the certificates and what is remembered of the deployment, as one text that another host can be
    given, with the mode and the owner of each file and directory. With them a backend that is deployed
    on another host is the same one for every Nextcloud.
  - A file is replaced as a whole, the secrets first. Nothing is reached through a symbolic link.
  - With O(state=read) the result holds secrets, and with O(state=restored) the options do, so use C(no_log) on the
    task.
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
attributes:
  check_mode:
    support: full
    description: Nothing is written.
  diff_mode:
    support: full
    description: Shows the names of the files, never what is in them.
  idempotent:
    support: partial
    description: O(state=copied) makes another copy in each run.
options:
  base_dir:
    description: Directory of the backend.
    type: path
    required: true
  paths:
    description:
      - Files, and directories with all that is in them, relative to O(base_dir). What is not there is left out.
    type: list
    elements: str
    required: true
  domain:
    description: Name of the backend. A text that was read from one of another name is refused.
    type: str
    required: true
  state:
    description:
      - V(read) returns the text.
      - V(restored) writes the files of O(document).
      - V(copied) copies them to a directory of their own below C(backups) in O(base_dir), as protected as they are.
    type: str
    choices: [read, restored, copied]
    default: read
  document:
    description: The text that V(read) has returned.
    type: str
  existing:
    description:
      - What V(restored) does with files that are there and differ. V(refuse) fails, V(replace) replaces them, V(keep)
        leaves them as they are but fails when they are other secrets.
    type: str
    choices: [refuse, keep, replace]
    default: refuse
  keep:
    description: How many copies V(copied) leaves, the new one included. Older ones go.
    type: int
    default: 3
  images:
    description: The image of each container, kept in C(images.json) beside a copy.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Read what makes the backend the same one
  nextcloud_talk.hpb.hpb_state:
    base_dir: /opt/nextcloud-talk-hpb
    paths: [secrets, deployed.json, ca, tls, traefik/acme]
    domain: talk.example.org
  register: result
  no_log: true

- name: Bring it to another host
  nextcloud_talk.hpb.hpb_state:
    base_dir: /opt/nextcloud-talk-hpb
    paths: [secrets, deployed.json, ca, tls, traefik/acme]
    domain: talk.example.org
    state: restored
    document: "{{ result.document }}"
  delegate_to: new.example.org
  no_log: true
"""

RETURN = r"""
document:
  description: The text. This is secret, so the task needs C(no_log).
  type: str
  returned: O(state=read)
files:
  description: Names of the files in it, relative to O(base_dir).
  type: list
  elements: str
  returned: success
actions:
  description: What was (or, in check mode, would be) done, in words and without a secret.
  type: list
  elements: str
  returned: success
kept:
  description: Files that differ and were left as they are, with O(existing=keep).
  type: list
  elements: str
  returned: O(state=restored)
path:
  description: Directory of the copy.
  type: str
  returned: O(state=copied)
"""

import json  # noqa: E402
import os  # noqa: E402
import shutil  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _files, _state  # noqa: E402
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._state import StateError  # noqa: E402


def wanted_of(params: dict[str, Any]) -> dict[str, Any]:
    """Return the document of the options; raises StateError for one that cannot be used."""
    try:
        document = _state.parse(params["document"], params["paths"])
    except _state.DamagedError as error:
        raise StateError(
            f"What was to be brought back cannot be used: {error}. Nothing was changed; give a file that the playbook "
            f"backup has written."
        ) from error
    if document["domain"] != params["domain"]:
        raise StateError(
            f"What was to be brought back is of {document['domain']}, expected {params['domain']} (hpb_domain): give "
            f"the backup of this backend, or correct the inventory. Nothing was changed."
        )
    return document


def readable(document: dict[str, Any], base: str) -> None:
    """Raise StateError unless the document holds usable secrets."""
    try:
        _state.secrets_in(document)
    except _state.DamagedError as error:
        raise StateError(
            f"{base} on this host was expected to hold the state of a backend, and {error}: deploy first, or restore "
            f"it from a backup."
        ) from error


def restored(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Write the files of the text that are missing or differ; returns the module's result."""
    base, wanted = params["base_dir"], wanted_of(params)
    current = _state.collect(base, params["paths"], params["domain"])
    steps = _state.plan(current, wanted)
    differing = list(steps.differing)
    steps = _state.settle(steps, current, wanted, params["existing"], base)
    if not check_mode:
        _state.apply(base, steps)
    written = [entry["path"] for entry in steps.write]
    before = {entry["path"] for entry in current["files"]}
    return {
        "changed": bool(steps.actions),
        "actions": steps.actions,
        "files": [entry["path"] for entry in wanted["files"]],
        "kept": [path for path in differing if path not in written],
        "diff": {
            "before_header": base,
            "after_header": base,
            "before": "".join(f"{path}: {_files.MASK}\n" for path in sorted(before)),
            "after": "".join(
                f"{path}: {_files.NEW if path in written else _files.MASK}\n" for path in sorted({*before, *written})
            ),
        },
    }


def copied(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Copy the files to a directory of their own; returns the module's result."""
    base = params["base_dir"]
    document = _state.collect(base, params["paths"], params["domain"])
    backups = Path(base, "backups")
    there = [entry.name for entry in os.scandir(backups)] if backups.is_dir() else []
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    gone = _state.surplus([*there, stamp], params["keep"])
    if not check_mode:
        backups.mkdir(mode=0o700, exist_ok=True)
        with _files.directory(str(backups)) as fd:
            _files.adjust(fd, ".", 0o700, os.geteuid(), os.getegid())
        half = backups / _files.temporary(stamp)
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(mode=0o700)
        _state.apply(str(half), _state.plan({"directories": [{**_root(document), "path": "."}], "files": []}, document))
        with _files.directory(str(half)) as fd:
            text = json.dumps(params["images"], indent=2, sort_keys=True) + "\n"
            _files.write(fd, "images.json", text.encode(), mode=0o600, uid=os.geteuid(), gid=os.getegid())
        half.rename(backups / stamp)
        for name in gone:
            shutil.rmtree(backups / name)
    return {
        "changed": True,
        "actions": [f"copy the state to {backups / stamp}", *(f"remove {backups / name}" for name in gone)],
        "files": [entry["path"] for entry in document["files"]],
        "path": str(backups / stamp),
    }


def _root(document: dict[str, Any]) -> dict[str, Any]:
    """Return the entry of the base directory, which the copy's own does not follow: that is closed to others."""
    return next((entry for entry in document["directories"] if entry["path"] == "."), {})


def run(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Do what the state asks for; returns the module's result."""
    if params["state"] == "restored":
        return restored(params, check_mode)
    if params["state"] == "copied":
        return copied(params, check_mode)
    document = _state.collect(params["base_dir"], params["paths"], params["domain"])
    readable(document, params["base_dir"])
    return {
        "changed": False,
        "actions": [],
        "files": [entry["path"] for entry in document["files"]],
        "document": _state.dump(document),
    }


def main() -> None:
    """Read the options, do it, return what was done."""
    module = AnsibleModule(
        argument_spec={
            "base_dir": {"type": "path", "required": True},
            "paths": {"type": "list", "elements": "str", "required": True},
            "domain": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["read", "restored", "copied"], "default": "read"},
            "document": {"type": "str", "no_log": True},
            "existing": {"type": "str", "choices": ["refuse", "keep", "replace"], "default": "refuse"},
            "keep": {"type": "int", "default": 3},
            "images": {"type": "dict", "default": {}},
        },
        required_if=[("state", "restored", ("document",))],
        supports_check_mode=True,
    )
    # The whole text as a word to mask would only cost time; it is taken out of the arguments that Ansible returns.
    module.no_log_values.clear()
    shown = {"document": module.params["document"] and _files.MASK}
    invocation = {"module_args": {**module.params, **shown}}
    try:
        result = run(module.params, module.check_mode)
    except (StateError, _files.FilesError) as error:
        module.fail_json(msg=str(error), invocation=invocation)
    except OSError as error:
        where = error.filename or module.params["base_dir"]
        module.fail_json(
            msg=f"{where} cannot be read or written: {error.strerror}. Mend that, then run this again.",
            invocation=invocation,
        )
    module.exit_json(invocation=invocation, **result)


if __name__ == "__main__":
    main()
