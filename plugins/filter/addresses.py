# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `addresses`: where the programs of the backend reach each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _addresses

DOCUMENTATION = r"""
name: addresses
short_description: Tell where the programs of the backend reach each other
version_added: 0.1.0
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
description:
  - In the network profile V(host) that is the host's loopback, and its address for media.
  - In the profile V(bridge) each program has fixed addresses in two private networks of Docker's, the halves of one
    subnet. C(core) is internal, and NATS and Janus are in no other; C(edge) is for those that are reached from outside.
positional: _input, subnet, media_ip, media_ip6
options:
  _input:
    description: The network profile, V(host) or V(bridge).
    type: str
    required: true
  subnet:
    description: The network of private IPv4 addresses for V(bridge), with a prefix length of at most 28.
    type: str
    default: ""
  media_ip:
    description: The host's address for media; empty while it is not known.
    type: str
    default: ""
  media_ip6:
    description: The host's IPv6 address for media; empty for none. It counts for V(host) only.
    type: str
    default: ""
  called:
    description: What the networks are called in the engine, by the names that they have without it.
    type: dict
    default: {}
  check:
    description: Whether to return a list of sentences for what cannot work, instead of addresses.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Show where NATS listens
  ansible.builtin.debug:
    msg: "{{ ('bridge' | nextcloud_talk.hpb.addresses('172.31.254.0/24', '192.0.2.10')).core.nats }}"
"""

RETURN = r"""
_value:
  description:
    - C(core) and C(edge), each with the address of each program and of C(host), which is how they see the host itself.
    - C(media), the address of Janus for media, which is the one peer that coturn relays to.
    - C(media6), the IPv6 address of Janus for media, empty for none.
    - C(neighbours6), the range of addresses that share the network of C(media6), empty for none.
    - C(web), the address at which the host itself reaches Traefik.
    - C(networks), each with C(name), C(subnet), C(gateway) and whether it is C(internal); empty in the profile V(host).
    - C(interfaces), the names of their interfaces on the host, by the networks' names; empty in the profile V(host).
    - C(places), for each program its networks, each with C(name) and C(ipv4_address); empty in the profile V(host).
  type: dict
"""


def addresses(
    profile: str,
    subnet: str = "",
    media_ip: str = "",
    media_ip6: str = "",
    *,
    called: Mapping[str, str] | None = None,
    check: bool = False,
) -> Any:
    """Return the addresses, or with `check` the sentences about what cannot work."""
    if check:
        return _addresses.problems(str(profile), str(subnet))
    try:
        return _addresses.addresses(str(profile), str(subnet), str(media_ip), str(media_ip6), called)
    except _addresses.AddressError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """Ansible's table of the filters in this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"addresses": addresses}
