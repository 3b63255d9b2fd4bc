#!/usr/bin/python
# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Send a container the signal on which its program reads its configuration again, once per change."""

from __future__ import annotations

DOCUMENTATION = r"""
module: container_reload
short_description: Make the program in a container read its changed configuration
version_added: 0.1.0
description:
  - Sends a signal to a running container when the digest of what it reloads differs from the digest that
    is kept in the file C(reloaded) in O(directory), waits until the program has answered in its log, and only then
    keeps the new digest.
  - A container of this name that is not ours gets no signal; the module fails and names it.
  - A program that logs O(refusal) instead fails the module at once, with that line.
  - A run that ends between writing the configuration and the answer is therefore completed by the next one.
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
attributes:
  check_mode:
    support: full
    description: Says whether a signal would be sent, sends none.
  diff_mode:
    support: none
    description: A digest says nothing to a reader.
  idempotent:
    support: full
    description: The same digest never sends a second signal.
options:
  container:
    description: Name of the container.
    type: str
    required: true
  signal:
    description: Name of the signal, for example V(SIGHUP).
    type: str
    required: true
  answer:
    description: Regular expression of the line that the program logs when it has taken what it read.
    type: str
    required: true
  refusal:
    description: Regular expression of the line that the program logs when it refuses what it read. Empty for none.
    type: str
    default: ""
  digest:
    description: Digest of everything that the program reads when it gets the signal.
    type: str
    required: true
  directory:
    description: Directory that holds the C(config) of the container, and the digest which was answered last. It is
      called like the container, without a prefix.
    type: path
    required: true
  force:
    description: Send the signal although the digest is the kept one, because a file was put right on the disk.
    type: bool
    default: false
  settle:
    description:
      - Whether what M(nextcloud_talk.hpb.container_config) keeps of the container goes once all was read, as with
        O(nextcloud_talk.hpb.container_fallback#module:state=settled).
    type: bool
    default: false
  timeout:
    description: Seconds to wait for the answer.
    type: int
    default: 15
"""

EXAMPLES = r"""
- name: Let the signaling server read its backends again
  nextcloud_talk.hpb.container_reload:
    container: signalling
    signal: SIGHUP
    answer: Received SIGHUP, reloading
    digest: "{{ server_conf | hash('sha256') }}"
    directory: /opt/nextcloud-talk-hpb/signalling
"""

RETURN = r"""
found:
  description:
    - A digest of how the container, its image and its configuration are at the end, for
      M(nextcloud_talk.hpb.container_record). Empty when it is not healthy, and in check mode.
  type: str
  returned: success
signalled:
  description: Whether the signal was (or, in check mode, would be) sent.
  type: bool
  returned: success
"""

from pathlib import Path  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _fallback, _reload  # noqa: E402


def tell(module: AnsibleModule, kept: _fallback.Fallback, marker: Path) -> None:
    """Send the signal, and keep the digest in the marker, atomically, once it was answered."""
    wanted = module.params
    there, _aside = kept.both()
    if not there:
        raise _reload.ReloadError(
            f"Container {kept.name} was expected to take {wanted['signal']} and is not there: deploy it first, with "
            f"the playbook site."
        )
    # From now on the program may have read something else.
    marker.unlink(missing_ok=True)
    _reload.send(
        module.run_command,
        kept.name,
        there["id"],
        wanted["signal"],
        wanted["answer"],
        refusal=wanted["refusal"],
        timeout=wanted["timeout"],
    )
    _reload.keep_digest(str(marker), wanted["digest"])


def main() -> None:
    """Compare the digests and, unless in check mode, send the signal."""
    module = AnsibleModule(
        argument_spec={
            "container": {"type": "str", "required": True},
            "signal": {"type": "str", "required": True},
            "answer": {"type": "str", "required": True},
            "refusal": {"type": "str", "default": ""},
            "digest": {"type": "str", "required": True},
            "directory": {"type": "path", "required": True},
            "force": {"type": "bool", "default": False},
            "settle": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 15},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    marker = Path(wanted["directory"], "reloaded")
    kept = _fallback.Fallback(module.run_command, wanted["container"], wanted["directory"], module.check_mode)
    try:
        # Also after a start in the same run: that the program has read a file is certain only when it has answered.
        needed = wanted["force"] or _reload.kept_digest(str(marker)) != wanted["digest"]
        if needed and not module.check_mode:
            tell(module, kept, marker)
        if wanted["settle"]:
            kept.settle()
        found = kept.found()
    except (_reload.ReloadError, _fallback.FallbackError) as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        where = error.filename or marker
        module.fail_json(msg=f"{where} cannot be read or written: {error.strerror}. Mend that, run again.")
    module.exit_json(changed=needed, signalled=needed, found=found)


if __name__ == "__main__":
    main()
