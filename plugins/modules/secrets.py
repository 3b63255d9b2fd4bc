#!/usr/bin/python
# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep the secrets of the backend in one file on its host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: secrets
short_description: Keep the secrets of the Talk backend in one file
version_added: 0.1.0
description:
  - Keeps one JSON file with every secret of the backend and of its Nextcloud instances. It creates what is missing,
    changes nothing that is there, rotates what O(rotate) names and deletes only what O(remove) names.
  - A rotation in two steps, during which a Nextcloud and the backend can be told one after the other, is O(prepare) and
    then O(promote). What is prepared lies beside the values that count and is kept until it is promoted.
  - The file has mode 0600 in a directory of mode 0700, both of the user that runs the module. It is replaced as a
    whole, so that a module that is killed leaves the old or the new one. A lock keeps two runs apart.
  - An instance that is new in O(instances) and has the URL of an instance that is in the file and no longer in
    O(instances) is a rename and keeps its secrets.
  - A file that is damaged is an error and never replaced.
  - The result holds all secrets, so use C(no_log) on the task.
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
attributes:
  check_mode:
    support: full
    description: Nothing is stored. Secrets that would be new are returned as random values that are used once, so
      that later tasks can render; RV(stored) is then V(false).
  diff_mode:
    support: full
    description: Shows the names of the secrets, never a value.
  idempotent:
    support: partial
    description: Every run with O(rotate) makes new secrets; without it a second run changes nothing. This also holds
      for O(prepare), O(promote) and O(restore).
options:
  path:
    description:
      - The file. Its directory is made when it is missing, and must hold nothing else when its mode has to be changed.
    type: path
    required: true
  instances:
    description:
      - The Nextcloud instances that need secrets, as the filter P(nextcloud_talk.hpb.backends#filter) returns them.
        Read are C(id), the name, C(url), the URL, and C(urls), all its URLs.
      - Instances that are in the file only are kept there.
    type: list
    elements: dict
    default: []
  rotate:
    description:
      - What gets a new value. An instance's name means both of its secrets, C(NAME.backend) and C(NAME.turn) one of
        them; V(internal), V(session) (both session keys) and V(janus_admin) are the shared ones, also known as
        V(shared.internal), V(shared.session) and V(shared.janus_admin).
      - The new value counts at once. What was prepared for the same secret is dropped.
      - A secret that O(values) gives cannot be rotated here.
    type: list
    elements: str
    default: []
  prepare:
    description:
      - For which secrets of instances a next value is made, in the words of O(rotate); the shared ones have none.
        A next value that is there already stays, so that a rotation that was interrupted goes on with the same values.
      - A secret that O(values) gives cannot be prepared, unless it has another value and is one of O(stage).
    type: list
    elements: str
    default: []
  promote:
    description:
      - Which next values are put in place of the present ones, in the words of O(prepare). A secret without a next
        value stays as it is.
    type: list
    elements: str
    default: []
  stage:
    description:
      - Names of instances whose Nextcloud must be told a secret before it counts. Where O(values) gives one of them
        another value than it has, that is only prepared, as with O(prepare), and put in place with O(promote).
    type: list
    elements: str
    default: []
  remove:
    description: Names of instances whose secrets are deleted. One that is not in the file is no error.
    type: list
    elements: str
    default: []
  values:
    description:
      - Secrets that you choose, for example from a vault, in the structure of RV(secrets); any part may be left out.
        They win over what is in the file, and are stored there; see O(stage) for those of instances.
      - Letters, digits and signs such as those of base64, 32 to 127 of them; C(session_hash_key) has 32 or 64,
        C(session_block_key) 16, 24 or 32. Refused is what would not reach every program as it is (blanks, quotes, and
        some more signs), two that are equal, and the samples that upstream publishes.
    type: dict
    default: {}
  must_exist:
    description: Fail when the file is missing, instead of making new secrets.
    type: bool
    default: false
  restore:
    description:
      - The whole text of a file that this module has written, for example from a backup. It is checked and stored as it
        is. A file that holds something else is an error unless O(replace) is set.
      - Cannot be used together with O(instances), O(rotate), O(prepare), O(promote), O(remove) or O(values).
    type: str
  replace:
    description: With O(restore), replace a file that holds something else or is damaged.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Keep the secrets of two instances
  nextcloud_talk.hpb.secrets:
    path: /opt/nextcloud-talk-hpb/secrets/secrets.json
    instances:
      - {id: nc, url: https://nc.example.org}
      - {id: dev, url: https://dev.example.org, urls: [https://dev2.example.org]}
  register: result
  no_log: true

- name: Give one instance another TURN secret
  nextcloud_talk.hpb.secrets:
    path: /opt/nextcloud-talk-hpb/secrets/secrets.json
    instances:
      - {id: nc, url: https://nc.example.org}
    rotate: [nc.turn]
  no_log: true

- name: Make the next secrets of an instance, without using them yet
  nextcloud_talk.hpb.secrets:
    path: /opt/nextcloud-talk-hpb/secrets/secrets.json
    prepare: [nc]
  register: result
  no_log: true

- name: Put them in place, once its Nextcloud has them
  nextcloud_talk.hpb.secrets:
    path: /opt/nextcloud-talk-hpb/secrets/secrets.json
    promote: [nc]
  no_log: true

- name: Forget an instance
  nextcloud_talk.hpb.secrets:
    path: /opt/nextcloud-talk-hpb/secrets/secrets.json
    remove: [dev]
  no_log: true

- name: Bring back a backup onto a new host
  nextcloud_talk.hpb.secrets:
    path: /opt/nextcloud-talk-hpb/secrets/secrets.json
    restore: "{{ lookup('ansible.builtin.unvault', 'secrets.vault') }}"
  no_log: true
"""

RETURN = r"""
secrets:
  description: All secrets. This is secret, so the task needs C(no_log).
  type: dict
  returned: success
  contains:
    session_hash_key:
      description: Key with which the signaling server signs session ids.
      type: str
    session_block_key:
      description: Key with which the signaling server encrypts session ids.
      type: str
    internal:
      description: Secret of internal clients of the signaling server.
      type: str
    janus_admin:
      description: Secret of the administration interface of Janus.
      type: str
    instances:
      description: For each instance its C(url), its C(backend) secret and its C(turn) secret; while a rotation is in
        progress also C(next), with the values that C(backend) and C(turn) will have.
      type: dict
same_turn:
  description: Names of instances whose TURN secret another one has, too, since they came from an installation that
    had one for all. A new instance never gets it, and O(rotate) ends it.
  type: list
  elements: str
  returned: success
actions:
  description: What was (or, in check mode, would be) done, in words and without a secret.
  type: list
  elements: str
  returned: success
  sample: [create nc.backend, create nc.turn]
missing:
  description: Whether there was no file before, or a damaged one that O(restore) replaces.
  type: bool
  returned: success
stored:
  description: Whether RV(secrets) is what the file holds. V(false) only in check mode when something would change.
  type: bool
  returned: success
"""

import os  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _files, _secret_file, _secrets  # noqa: E402
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._secrets import SecretsError  # noqa: E402


def restored(path: Path, text: str, replace: bool) -> tuple[_secrets.Plan, dict[str, Any], _files.Found]:
    """Return the plan to store the document `text`, the document before and what is at `path`; raises SecretsError."""
    try:
        wanted = _secrets.parse(text)
    except _secrets.DamagedError as exc:
        raise SecretsError(
            f"The text in restore was expected to be a whole secrets file and cannot be used: {exc}. Nothing was "
            f"changed; give the file as it was on the backend's host."
        ) from exc
    try:
        current, found = _secret_file.load(path)
    except SecretsError:
        with _files.directory(str(path.parent)) as fd:
            found = _files.look(fd, path.name, content=False)
        if not replace or found.kind != "file":
            raise
        return _secrets.Plan(wanted, [f"replace {path}, which was damaged"], set(_secrets.flat(wanted))), {}, found
    names = _secrets.differing(current, wanted) if current else []
    if names and not replace:
        raise SecretsError(
            f"The secrets file {path} already holds other values than the text in restore, for {', '.join(names)}; "
            f"nothing was changed. To put those of restore in their place, run again with -e replace=true."
        )
    if current is None:
        return _secrets.Plan(wanted, [f"create {path}"], set(_secrets.flat(wanted))), {}, found
    return _secrets.Plan(wanted, [f"replace {name}" for name in names], set(names)), current, found


def directory_actions(path: Path) -> list[str]:
    """Return what is to be done to the directory of the file `path`; raises SecretsError when that would do harm."""
    parent = path.parent
    if not parent.exists():
        return [f"create directory {parent}"]
    with _files.directory(str(parent)) as fd:
        status = os.fstat(fd)
        foreign = {entry.name for entry in os.scandir(fd)} - {path.name, _files.temporary(path.name)}
    if status.st_mode & 0o7777 == 0o700 and status.st_uid == os.geteuid():
        return []
    if foreign:
        raise SecretsError(
            f"The directory {parent} was expected to have mode 0700 and to belong to the user that runs the module, "
            f"and it also holds other files, so it is not changed; give the secrets file a directory of its own."
        )
    return [f"set owner and mode of directory {parent}"]


def secure_directory(path: Path) -> None:
    """Make the directory of the file `path`, or correct its owner and mode."""
    _files.make_directories(str(path.parent.parent))
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with _files.directory(str(path.parent)) as fd:
        _files.adjust(fd, ".", 0o700, os.geteuid(), os.getegid())
    # The name of a new directory must be on the disk as well, or the secrets in it are lost with the power.
    above = os.open(path.parent.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(above)
    finally:
        os.close(above)


def maintained(path: Path, params: dict[str, Any]) -> tuple[_secrets.Plan, dict[str, Any], _files.Found]:
    """Return the plan to what the options ask for, the document before and what is at `path`; raises SecretsError."""
    current, found = _secret_file.load(path)
    if current is None and params["must_exist"]:
        raise SecretsError(
            f"The secrets file {path} is missing although this backend is already registered; restore it from a "
            f"backup, or run again with -e new_secrets=true, which makes new secrets for every instance."
        )
    steps = _secrets.plan(
        current,
        params["instances"],
        params["values"],
        params["rotate"],
        params["remove"],
        prepare=params["prepare"],
        promote=params["promote"],
        stage=params["stage"],
    )
    return steps, current or {}, found


def wish(path: Path, params: dict[str, Any]) -> tuple[_secrets.Plan, dict[str, Any], bool]:
    """Return the plan, the document before (empty without a file) and whether only the attributes are wrong."""
    if params["restore"] is not None:
        steps, current, found = restored(path, params["restore"], params["replace"])
    else:
        steps, current, found = maintained(path, params)
    loose = found.kind == "file" and (found.mode != 0o600 or found.uid != os.geteuid())
    if loose:
        steps.actions.append(f"set owner and mode of {path}")
    return steps, current, loose


def run(path: Path, params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Read, plan, store unless in check mode; returns the module's result."""
    params["values"] = _secrets.without_none(params["values"])
    _secrets.check_values(params["values"])
    others = [name for name in ("instances", "rotate", "prepare", "promote", "remove", "values") if params[name]]
    if params["restore"] is not None and others:
        raise SecretsError(f"restore stores a document as it is and was expected alone; leave out {', '.join(others)}.")
    actions = directory_actions(path)
    steps, before, loose = wish(path, params)
    if not check_mode:
        if actions:
            secure_directory(path)
        with _secret_file.locked(path.parent) as fd:
            steps, before, loose = wish(path, params)
            text = _secrets.dump(steps.after)
            if steps.after != before:
                _files.write(fd, path.name, text.encode(), mode=0o600, uid=os.geteuid(), gid=os.getegid())
            elif loose:
                _files.adjust(fd, path.name, 0o600, os.geteuid(), os.getegid())
            if _files.look(fd, _files.temporary(path.name), content=False).kind != "absent":
                os.unlink(_files.temporary(path.name), dir_fd=fd)
    return {
        "changed": bool(actions or steps.actions),
        "actions": actions + steps.actions,
        "diff": {
            "before_header": str(path),
            "after_header": str(path),
            "before": _secrets.masked(before),
            "after": _secrets.masked(steps.after, steps.new),
        },
        "secrets": {key: value for key, value in steps.after.items() if key not in ("version", _secrets.ONE_TURN)},
        "same_turn": _secrets.same_turn(steps.after),
        "missing": not before,
        "stored": not check_mode or steps.after == before,
        "warnings_": steps.warnings,
    }


def main() -> None:
    """Read the options, bring the file to the wish, return the secrets."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "instances": {"type": "list", "elements": "dict", "default": []},
            "rotate": {"type": "list", "elements": "str", "default": []},
            "prepare": {"type": "list", "elements": "str", "default": []},
            "promote": {"type": "list", "elements": "str", "default": []},
            "stage": {"type": "list", "elements": "str", "default": []},
            "remove": {"type": "list", "elements": "str", "default": []},
            "values": {"type": "dict", "default": {}, "no_log": True},
            "must_exist": {"type": "bool", "default": False},
            "restore": {"type": "str", "no_log": True},
            "replace": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    # The result has to hold the user's own values, which Ansible would mask in it. So they are
    # taken out of the list of what is masked, and out of the arguments that Ansible returns.
    module.no_log_values.clear()
    shown = {"values": _secrets.MASK, "restore": module.params["restore"] and _secrets.MASK}
    invocation = {"module_args": {**module.params, **shown}}
    try:
        result = run(Path(module.params["path"]), module.params, module.check_mode)
    except (SecretsError, _files.FilesError) as exc:
        module.fail_json(msg=str(exc), invocation=invocation)
    except OSError as exc:
        msg = f"The secrets file {module.params['path']} cannot be written: {exc.strerror}. Mend that, then run again."
        module.fail_json(msg=msg, invocation=invocation)
    for warning in result.pop("warnings_"):
        module.warn(warning)
    module.exit_json(invocation=invocation, **result)


if __name__ == "__main__":
    main()
