#!/usr/bin/python
# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Register the whole backend in Talk, or take it out."""

from __future__ import annotations

DOCUMENTATION = r"""
module: talk_registration
short_description: Register the whole High Performance Backend in Nextcloud Talk
version_added: 0.1.0
description:
  - Makes Talk know our signaling server, our TURN servers and our STUN servers, each exactly once, or not at all.
  - Does what M(nextcloud_talk.hpb.talk_signaling_server), M(nextcloud_talk.hpb.talk_turn_server) and
    M(nextcloud_talk.hpb.talk_stun_server) do, with one start of PHP for all three when nothing has to change.
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
extends_documentation_fragment:
  - nextcloud_talk.hpb.occ
attributes:
  check_mode:
    support: full
    description: Says what would change and changes nothing, with one start of PHP.
  diff_mode:
    support: full
    description: Secrets are shown as V(********), or as V((new secret\)) when they change.
  idempotent:
    support: full
    description: A second run changes nothing.
options:
  url:
    description:
      - URL of the signaling server as browsers reach it, without C(/spreed).
      - It must start with C(https://) or C(wss://); for O(state=absent) it may also be an C(http://) or C(ws://) one.
    type: str
    required: true
  secret:
    description:
      - Secret that Talk shares with the signaling server. Required for O(state=present).
      - Talk has one secret for all its signaling servers. With O(state=absent) a secret that is still stored although
        no server is left is replaced by a random one.
    type: str
  verify:
    description: Whether Talk checks the certificate of the signaling server.
    type: bool
    default: true
  former_urls:
    description: Former URLs of our signaling server. Entries with one of them are leftovers and go.
    type: list
    elements: str
    default: []
  turn_servers:
    description: All our TURN servers.
    type: list
    elements: dict
    default: []
    suboptions:
      server:
        description: Name or IPv4 address, colon, port, for example V(turn.example.org:3478).
        type: str
        required: true
      schemes:
        description: C(turn) is TURN over UDP or TCP, C(turns) is TURN over TLS.
        type: str
        choices: [turn, turns, "turn,turns"]
        default: turn
      protocols:
        description: Protocols that clients may use to reach the server.
        type: str
        choices: [udp, tcp, "udp,tcp"]
        default: udp,tcp
  turn_secret:
    description: Secret that Talk shares with the TURN servers. Required for O(state=present) with O(turn_servers).
    type: str
  stun_servers:
    description: All our STUN servers as name or IPv4 address, colon, port, for example V(turn.example.org:3478).
    type: list
    elements: str
    default: []
  former_servers:
    description: Former C(host:port) of our TURN and STUN servers. Entries with one of them are leftovers and go.
    type: list
    elements: str
    default: []
  exclusive:
    description:
      - Whether signaling, TURN and STUN servers of somebody else are removed. Without it they stay, and a warning names
        another signaling server, since Talk does not support several any more.
    type: bool
    default: false
  mend:
    description:
      - Whether what keeps the backend from working is set right in Nextcloud, too. A C(signaling_mode) of V(internal)
        is deleted, and C(overwrite.cli.url) becomes the first of O(nextcloud_urls) unless it is one of them.
      - Only with O(state=present).
    type: bool
    default: false
  nextcloud_urls:
    description: URLs under which the signaling server knows this Nextcloud, for O(mend).
    type: list
    elements: str
    default: []
  state:
    description:
      - Whether the backend should be registered.
      - V(absent) leaves a random secret for signaling behind, because without one anybody could sign requests to Talk's
        backend.
    type: str
    choices: [present, absent]
    default: present
  changeover:
    description:
      - Whether the secret changes on the other side at the same time, see M(nextcloud_talk.hpb.hpb_changeover). Then
        it is changed last, and nothing is read back; run this again without the option for that.
      - Only with O(state=present).
    type: bool
    default: false
  announce:
    description:
      - With O(changeover), whether a request that is signed with the new secret goes to O(url) at once, in the name of
        the first of O(nextcloud_urls). Whoever receives it knows that Nextcloud has that secret.
      - That it does not arrive is no failure.
    type: bool
    default: false
seealso:
  - module: nextcloud_talk.hpb.talk_info
  - module: nextcloud_talk.hpb.talk_signaling_server
  - module: nextcloud_talk.hpb.talk_turn_server
  - module: nextcloud_talk.hpb.talk_stun_server
"""

EXAMPLES = r"""
- name: Register the backend in a Nextcloud on this host
  nextcloud_talk.hpb.talk_registration:
    occ: /var/www/nc/occ
    url: https://talk.example.org
    secret: "{{ hpb_secrets.instances.nc.backend }}"
    turn_servers:
      - server: turn.example.org:3478
    turn_secret: "{{ hpb_secrets.instances.nc.turn }}"
    stun_servers: ["turn.example.org:3478"]

- name: Register it, and set right what keeps it from working
  nextcloud_talk.hpb.talk_registration:
    container: dev-app-1
    url: https://talk.example.org
    secret: "{{ hpb_secrets.instances.dev_nc.backend }}"
    mend: true
    nextcloud_urls: ["https://dev.example.org"]

- name: Take it out
  nextcloud_talk.hpb.talk_registration:
    occ: /var/www/nc/occ
    url: https://talk.example.org
    turn_servers:
      - server: turn.example.org:3478
    stun_servers: ["turn.example.org:3478"]
    state: absent
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, one sentence each, without secrets.
  type: list
  elements: str
  returned: success
  sample:
    - added the signaling server https://talk.example.org, with certificate check
    - added the TURN server turn turn.example.org:3478 udp,tcp
    - added the STUN server turn.example.org:3478
stored_at:
  description: When O(changeover) had stored the secret, in seconds since 1970 by the clock of this host; 0 without it.
  type: float
  returned: success
announced:
  description: Whether the request of O(announce) was answered.
  type: bool
  returned: success
"""

import contextlib  # noqa: E402
import http.client  # noqa: E402
import ssl  # noqa: E402
import time  # noqa: E402
from urllib.parse import urlsplit  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import (  # noqa: E402
    _signaling_client,
    _talk,
    _talk_report,
)
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._occ import (  # noqa: E402
    ARGUMENTS,
    Occ,
    OccError,
    reach_from,
)

SERVER = {
    "server": {"type": "str", "required": True},
    "schemes": {"type": "str", "choices": ["turn", "turns", "turn,turns"], "default": "turn"},
    "protocols": {"type": "str", "choices": ["udp", "tcp", "udp,tcp"], "default": "udp,tcp"},
}
OPTIONS = {
    **ARGUMENTS,
    "url": {"type": "str", "required": True},
    "secret": {"type": "str", "no_log": True},
    "verify": {"type": "bool", "default": True},
    "former_urls": {"type": "list", "elements": "str", "default": []},
    "turn_servers": {"type": "list", "elements": "dict", "default": [], "options": SERVER},
    "turn_secret": {"type": "str", "no_log": True},
    "stun_servers": {"type": "list", "elements": "str", "default": []},
    "former_servers": {"type": "list", "elements": "str", "default": []},
    "exclusive": {"type": "bool", "default": False},
    "mend": {"type": "bool", "default": False},
    "nextcloud_urls": {"type": "list", "elements": "str", "default": []},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "changeover": {"type": "bool", "default": False},
    "announce": {"type": "bool", "default": False},
}
ANNOUNCE_SECONDS = 3
"""A request that is not answered in this time is not waited for."""


def planners_from(params: dict, where: str) -> list[_talk.Planner]:
    """Return the functions from a state to the plans for these options. Raises `BadInput`."""
    present = params["state"] == "present"
    mend = params["mend"] and present
    turn, stun, former = params["turn_servers"], params["stun_servers"], params["former_servers"]
    planners = [_talk.plan_mode, lambda state: _talk.plan_cli_url(state, params["nextcloud_urls"])] if mend else []
    signaling = _talk.signaling_planner(
        where,
        url=params["url"],
        secret=params["secret"],
        verify=params["verify"],
        former=params["former_urls"],
        exclusive=params["exclusive"],
        present=present,
        mend=mend,
    )
    planners.append(signaling)
    # Who has none of ours says nothing about those of others.
    common = {"former": former, "present": present}
    if turn or former:
        exclusive = params["exclusive"] and bool(turn)
        secret = params["turn_secret"]
        planners.append(_talk.turn_planner(where, servers=turn, secret=secret, exclusive=exclusive, **common))
    if stun or former:
        exclusive = params["exclusive"] and bool(stun)
        planners.append(_talk.stun_planner(where, servers=stun, exclusive=exclusive, **common))
    return planners


def reader_from(params: dict) -> _talk.Reader:
    """Return what reads Talk's settings, and config.php where that is mended, each time with one start of PHP."""

    def read_whole(occ: Occ) -> _talk.State:
        server, state = _talk_report.read_all(occ)
        _talk_report.refuse_misnamed(server, params["nextcloud_urls"], occ.where)
        return state

    return read_whole if params["mend"] and params["state"] == "present" else _talk.read_state


def announced(params: dict) -> bool:
    """Send a signed request that says nothing; returns whether it was answered."""
    if not params["announce"] or not params["nextcloud_urls"]:
        return False
    # To a room that is nobody's: the server passes it on to whoever is in it.
    body = b'{"type":"message","message":{"data":{}}}'
    headers = _signaling_client.signed_headers(params["secret"], params["nextcloud_urls"][0], body)
    parts = urlsplit(_talk.same_url(params["url"]))
    # It holds nothing that a stranger could use, and Nextcloud's own trust is none of this process.
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(
        parts.hostname or "", parts.port, timeout=ANNOUNCE_SECONDS, context=context
    )
    with contextlib.suppress(OSError, ValueError, http.client.HTTPException), contextlib.closing(connection):
        connection.request("POST", f"{parts.path}/api/v1/room/changeover", body, headers)
        return bool(connection.getresponse().status == 200)
    return False


def changed_over(occ: Occ, params: dict) -> dict:
    """Change the secret last and announce it; returns the result of the module."""
    seen: dict[str, float | bool] = {}

    def then() -> None:
        seen["stored_at"] = time.time()
        seen["announced"] = announced(params)

    return {**_talk.change_over(occ, planners_from(params, occ.where), then, read=reader_from(params)), **seen}


def main() -> None:
    """Compare, plan, and change unless in check mode."""
    module = AnsibleModule(
        argument_spec=OPTIONS, required_if=[("state", "present", ("secret",))], supports_check_mode=True
    )
    params = module.params
    try:
        occ = Occ(reach_from(params), (params["secret"] or "", params["turn_secret"] or ""))
        if params["changeover"] and params["state"] == "present" and not module.check_mode:
            result = changed_over(occ, params)
        else:
            result = _talk.sync(occ, planners_from(params, occ.where), module.check_mode, read=reader_from(params))
            result |= {"announced": False, "stored_at": 0.0}
    except (OccError, _talk.BadInput) as error:
        module.fail_json(msg=str(error))
    for warning in result.pop("warnings"):
        module.warn(warning)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
