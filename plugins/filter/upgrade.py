# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `upgrade`: what an upgrade would change, what it interrupts, and how it is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _release, _upgrade
from ansible_collections.nextcloud_talk.hpb.plugins.plugin_utils import _releases

DOCUMENTATION = r"""
name: upgrade
short_description: Say what an upgrade would change
version_added: 0.1.0
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
description:
  - Compares what runs on a host with what its inventory asks for and with the newest release of this collection.
positional: _input, variables
options:
  _input:
    description: Name of the release that the inventory asks for. Empty means the newest.
    type: str
    required: true
  variables:
    description: The host's variables, C(hostvars[inventory_hostname]).
    type: dict
    required: true
  running:
    description: The reference of the image of each container that runs, by the container's name.
    type: dict
    required: true
  deployed:
    description: What P(nextcloud_talk.hpb.release_pins#filter) returned at the last deployment.
    type: dict
    default: {}
  host:
    description: Name of the host, for the page.
    type: str
    required: true
  site:
    description: The command that deploys, for the page.
    type: str
    required: true
seealso:
  - plugin: nextcloud_talk.hpb.release
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Say what an upgrade would change
  ansible.builtin.debug:
    msg: >-
      {{ (hpb_release | nextcloud_talk.hpb.upgrade(hostvars[inventory_hostname], running={'nats': 'nats:2.12.15'},
      host='talk.example.org', site='ansible-playbook nextcloud_talk.hpb.site')).text }}
"""

RETURN = r"""
_value:
  description:
    - C(rows), for each part that runs its C(part), C(program), C(running), C(wanted), C(newest) and what changed,
      C(words).
    - C(release), the one that was deployed; C(wanted), that of the inventory; C(newest); C(pinned), the variables that
      override it.
    - C(interrupts), what the newest interrupts; C(text), a page for the terminal as lines; C(markdown), the same as a
      file.
  type: dict
"""


def upgrade(
    name: str,
    variables: Mapping[str, Any],
    *,
    running: Mapping[str, str],
    host: str,
    site: str,
    deployed: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the comparison of what runs with the inventory and the newest, and the page in two forms."""
    try:
        found = _upgrade.compare(_releases.load(), str(name), variables, running, deployed or {})
    except _release.ReleaseError as error:
        raise AnsibleFilterError(str(error)) from error
    return {
        **found,
        "interrupts": _upgrade.interrupted(found["rows"], "newest"),
        "text": _upgrade.text(found, host, site),
        "markdown": _upgrade.markdown(found, host, site),
    }


class FilterModule:
    """Ansible's table of the filters in this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"upgrade": upgrade}
