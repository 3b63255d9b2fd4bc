#!/usr/bin/python
# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep the TURN secrets of one realm in coturn's database."""

from __future__ import annotations

DOCUMENTATION = r"""
module: coturn_secrets
short_description: Keep the TURN secrets in the database of coturn
version_added: 0.1.0
description:
  - Makes the secrets of one realm in coturn's SQLite database exactly the given ones, in one transaction that adds
    before it withdraws. coturn reads them at every authentication, so nothing has to be restarted.
  - Makes the database with the one table that is needed, when it is missing. Secrets of other realms are left alone.
requirements:
  - The sqlite3 module of Python on the host
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
attributes:
  check_mode:
    support: full
    description: Reads the database and changes nothing. Works on a host without the database too.
  diff_mode:
    support: full
    description: Shows how many secrets there are and how many are new, never a value.
  idempotent:
    support: full
    description: A database that holds exactly the secrets already is not written.
options:
  path:
    description:
      - The database file. It gets mode 0600.
      - Its directory is made when it is missing and gets mode 0700, so it must be there for this file alone. All
        directories above it must be passable (mode x) for O(owner).
    type: path
    required: true
  realm:
    description: The realm of the secrets, as coturn is configured with.
    type: str
    required: true
  secrets:
    description: >-
      The secrets, each of 32 to 127 letters, digits and signs such as those of base64. An empty list withdraws all of
      the realm.
    type: list
    elements: str
    required: true
  owner:
    description: Name or uid of the user that coturn runs as. The database is read and written as this user.
    type: str
    default: "65534"
    aliases: [uid]
  group:
    description: Name or gid of the group that coturn runs as.
    type: str
    default: "65534"
    aliases: [gid]
"""

EXAMPLES = r"""
- name: Let every instance use TURN with its own secret
  nextcloud_talk.hpb.coturn_secrets:
    path: /opt/nextcloud-talk-hpb/coturn/data/turndb
    realm: turn.example.org
    secrets: "{{ hpb_secrets.instances.values() | map(attribute='turn') | list }}"
"""

RETURN = r"""
actions:
  description: What was (or, in check mode, would be) done, in words and without a secret.
  type: list
  elements: str
  returned: success
  sample: [add 1 secret(s) to realm turn.example.org]
created:
  description: Whether there was no database before. A coturn that was running then still has the old one open and
    needs a restart.
  type: bool
  returned: success
"""

import os  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _coturn, _files, _secrets  # noqa: E402
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._coturn import CoturnError  # noqa: E402


def check_input(realm: str, secrets: list[str]) -> None:
    """Raise FilesError when coturn could not keep the realm or a secret."""
    if not 1 <= len(realm) <= 127:
        raise _files.FilesError(
            f"The realm was expected to have 1 to 127 characters and has {len(realm)}; use the TURN server's name."
        )
    for index, value in enumerate(secrets):
        reason = _secrets.fault("turn", value)
        if reason:
            raise _files.FilesError(
                f"Entry {index + 1} of secrets cannot be used: {reason}; make one with 'openssl rand -hex 32'."
            )


def identify(value: str, group: bool, check_mode: bool) -> int:
    """Return the uid or gid of an option; our own in check mode when the name does not exist yet."""
    try:
        number = _files.parse_id(value, group)
    except KeyError as exc:
        if not check_mode:
            kind = "group" if group else "user"
            raise _files.FilesError(
                f"The {kind} '{value}' was expected to exist on this host and does not; create it or give its number."
            ) from exc
        number = None
    return number if number is not None else (os.getegid() if group else os.geteuid())


def attribute_actions(path: Path, uid: int, gid: int) -> list[str]:
    """Return what is to be done to directory and file; raises FilesError for a link or a special file."""
    actions = []
    tree = _files.look_at_tree(str(path.parent), [])
    parent, file = tree["."], tree.get(path.name, _files.Found())
    if parent.kind == "absent":
        actions.append(f"create directory {path.parent}")
    elif (parent.mode, parent.uid, parent.gid) != (0o700, uid, gid):
        strangers = [name for name in tree if name != "." and not name.startswith(path.name)]
        if strangers:
            raise _files.FilesError(
                f"The directory {path.parent} was expected to have mode 0700 and to belong to coturn's user, and it "
                f"also holds other files, so it is not changed; give the database a directory of its own."
            )
        actions.append(f"set owner and mode of directory {path.parent}")
    if file.kind == "absent":
        actions.append(f"create {path}")
    elif file.kind != "file":
        raise _files.FilesError(
            f"{path} was expected to be a regular file with one name and is not; "
            f"stop coturn, move it away and run again, then it is made anew."
        )
    elif (file.mode, file.uid, file.gid) != (0o600, uid, gid):
        actions.append(f"set owner and mode of {path}")
    return actions


def secure(path: Path, uid: int, gid: int) -> None:
    """Make the directory, and set owner and mode of it and of a database that is there."""
    _files.make_directories(str(path.parent.parent))
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with _files.directory(str(path.parent)) as fd:
        _files.adjust(fd, ".", 0o700, uid, gid)
        if _files.look(fd, path.name, content=False).kind == "file":
            _files.adjust(fd, path.name, 0o600, uid, gid)


def run(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Read, plan, apply unless in check mode; returns the module's result."""
    path, realm = Path(params["path"]), params["realm"]
    check_input(realm, params["secrets"])
    uid, gid = identify(params["owner"], False, check_mode), identify(params["group"], True, check_mode)
    created = not os.path.lexists(path)
    actions = attribute_actions(path, uid, gid)
    # A database that still belongs to another user can be read only after secure(), and in check mode only by us.
    if actions and not check_mode:
        secure(path, uid, gid)
    as_user = (os.geteuid(), os.getegid()) if actions and check_mode else (uid, gid)
    with _coturn.acting_as(*as_user):
        if not (check_mode and created) and not os.access(path.parent, os.X_OK, effective_ids=True):
            raise _files.FilesError(
                f"{path.parent} was expected to be reachable for uid {as_user[0]} and is not, because a directory "
                f"above it is closed to this user; give that directory the mode 0755 or 0711."
            )
        current = _coturn.read(str(path), realm)
        steps = _coturn.plan(current, params["secrets"])
        if not check_mode and (created or steps.table or steps.add or steps.withdraw):
            steps = _coturn.apply(str(path), realm, params["secrets"])
    actions += steps.actions(realm)
    header = {"before_header": str(path), "after_header": str(path)}
    return {
        "changed": bool(actions),
        "actions": actions,
        "created": created,
        "diff": {**header, **_coturn.diff(realm, current, steps)},
    }


def main() -> None:
    """Read the options, bring the database to the wish, return what was done."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "realm": {"type": "str", "required": True},
            "secrets": {"type": "list", "elements": "str", "required": True, "no_log": True},
            "owner": {"type": "str", "default": "65534", "aliases": ["uid"]},
            "group": {"type": "str", "default": "65534", "aliases": ["gid"]},
        },
        supports_check_mode=True,
    )
    path = module.params["path"]
    try:
        result = run(module.params, module.check_mode)
    except _files.FilesError as exc:
        module.fail_json(msg=str(exc))
    except CoturnError as exc:
        module.fail_json(
            msg=f"coturn's database {path} cannot be used: {exc}; check that every directory above it is passable for "
            f"uid {module.params['owner']} and the disk is not full, or stop coturn, move the file away and run again, "
            f"then it is made anew."
        )
    except OSError as exc:
        module.fail_json(msg=f"{exc.filename or path} cannot be read or written: {exc.strerror}. Mend that, run again.")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
