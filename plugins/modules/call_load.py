#!/usr/bin/python
# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Load the backend with publishers and subscribers, step by step, and say what arrives."""

from __future__ import annotations

DOCUMENTATION = r"""
module: call_load
short_description: Load the High Performance Backend with publishers and subscribers
version_added: 0.1.0
description:
  - Opens rooms as an internal client, has O(publishers) in each send sound and picture, and lets more and more
    subscribers receive all of them, until more than O(loss_percent) of the packets are lost, the generator itself is
    the limit, or a maximum is reached. The number of subscribers is doubled as long as all is well; then the middle
    between the best and the worse is tried.
  - Sound and picture are encoded once and sent over and over as RTP. Subscribers decode nothing and ask for nothing
    again; they count packets by the sequence numbers in the RTP headers.
  - A step in which a process of the generator ran or waited for a processor for more than 90 % of the time, stood still
    for more than 0.25 s, sent less than it should, or whose sockets threw packets away, does not count. It is made
    once more.
  - It loads processor and line of the backend like a real meeting of that size. Calls that run there meanwhile can
    lose picture and sound, so run it when nobody is in a call. Sessions of internal clients do not count for the
    session limits of instances, and no Nextcloud is asked for anything.
  - The names of rooms are random. When the task is ended, its sessions leave within some seconds.
requirements:
  - aiortc 1.9 or newer
  - websockets 13 or newer
  - Linux
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
attributes:
  check_mode:
    support: full
    description: Does nothing and says so.
  diff_mode:
    support: none
    description: It changes nothing.
  idempotent:
    support: full
    description: It changes nothing.
options:
  url:
    description: The URL of the signaling server as Talk knows it.
    type: str
    required: true
  internal_secret:
    description: The signaling server's secret for internal clients.
    type: str
    required: true
  backend:
    description: The URL of an instance as configured in the signaling server, in whose name rooms are opened.
    type: str
    required: true
  ca_files:
    description: PEM files, on the machine where this runs, of authorities to trust beside the system's.
    type: list
    elements: path
    default: []
  ca_pem:
    description: Authorities to trust beside the system's, as PEM texts.
    type: list
    elements: str
    default: []
  resolve:
    description: Addresses for names, in place of what DNS says. Certificates are still checked for the name.
    type: dict
    default: {}
  turn:
    description: The TURN server that all media goes through. Without it media goes directly.
    type: dict
    suboptions:
      server:
        description: Name or address, colon, port, as in Talk's settings.
        type: str
        required: true
      secret:
        description: The instance's TURN secret.
        type: str
        required: true
      protocol:
        description: The transport to it.
        type: str
        choices: [udp, tcp, tls]
        default: udp
  publishers:
    description: Publishers in each room.
    type: int
    default: 4
  subscribers:
    description: The most subscribers in each room. Each receives the streams of all publishers in it.
    type: int
    default: 16
  rooms:
    description: Rooms at the same time.
    type: int
    default: 1
  bitrate:
    description: Sound and picture of one publisher in kbit/s, 32 of them for the sound.
    type: int
    default: 1000
  seconds:
    description: Seconds for which each step is measured.
    type: int
    default: 10
  settle:
    description: Seconds between the last connection of a step and its measuring.
    type: int
    default: 3
  loss_percent:
    description: How much loss ends the ramp.
    type: float
    default: 1.0
  max_mbit:
    description: The most Mbit/s delivered to all subscribers together. A step that would be above is not made.
    type: int
    default: 200
  max_streams:
    description:
      - The most streams delivered, rooms times publishers times subscribers. Each takes a port of Janus, and one of
        coturn when it is relayed.
    type: int
    default: 400
  processes:
    description: Processes of the generator, 0 for as many as the machine has cores, 16 at most.
    type: int
    default: 0
  timeout:
    description: Seconds after which no further step is made; what was measured until then is returned.
    type: int
    default: 600
seealso:
  - module: nextcloud_talk.hpb.hpb_usage
  - plugin: nextcloud_talk.hpb.load_report
    plugin_type: filter
"""

EXAMPLES = r"""
- name: See how many can watch four cameras
  nextcloud_talk.hpb.call_load:
    url: https://talk.example.org
    internal_secret: "{{ hpb_secrets.internal }}"
    backend: https://nc.example.org
    publishers: 4
    subscribers: 32
  delegate_to: localhost
  vars:
    ansible_python_interpreter: "{{ ansible_playbook_python }}"

- name: The same through TURN
  nextcloud_talk.hpb.call_load:
    url: https://talk.example.org
    internal_secret: "{{ hpb_secrets.internal }}"
    backend: https://nc.example.org
    turn:
      server: turn.example.org:3478
      secret: "{{ hpb_secrets.instances.nc.turn }}"
    subscribers: 32
  delegate_to: localhost
  vars:
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
"""

RETURN = r"""
steps:
  description: All steps in their order.
  type: list
  elements: dict
  returned: when the load was made
  contains:
    subscribers:
      description: Subscribers in each room.
      type: int
    publishers:
      description: Publishers in each room.
      type: int
    rooms:
      description: Rooms.
      type: int
    wanted:
      description: Streams that were to be delivered.
      type: int
    streams:
      description: Those of which the connection came about.
      type: int
    failures:
      description: Why others did not.
      type: list
      elements: str
    begin:
      description: When measuring began, in Unix seconds of the machine where this runs.
      type: float
    end:
      description: When it ended.
      type: float
    seconds:
      description: For how long it was measured.
      type: float
    due:
      description: Packets that the publishers were to send.
      type: int
    sent:
      description: Those that they sent.
      type: int
    broken:
      description: Publishers that lost their connection.
      type: int
    expected:
      description: Packets that the subscribers were to get.
      type: int
    received:
      description: Those that they got.
      type: int
    lost:
      description: Those that were lost.
      type: int
    loss_percent:
      description: RV(steps[].lost) of RV(steps[].expected).
      type: float
    mbit_per_second:
      description: What was delivered to all subscribers together, without headers of UDP and IP.
      type: float
    generator:
      description:
        - What it cost the generator. C(busy), for each process the share of the time in which it ran or waited for a
          processor; C(cores), how many they used together; C(late_seconds), for how long one of them stood still at
          worst; C(dropped), packets that their sockets threw away.
      type: dict
    verdict:
      description: One of ok, loss, generator (the step does not count) and failed (not all connections came about).
      type: str
    why:
      description: The reason of the verdict, empty for ok.
      type: str
best:
  description: The step with the most delivered whose verdict is ok, empty when there is none.
  type: dict
  returned: when the load was made
ending:
  description: What the steps show of the backend's limit, one sentence.
  type: str
  returned: when the load was made
highest:
  description: The most subscribers in each room that the options allow.
  type: int
  returned: when the load was made
mbit_each:
  description: Mbit/s of one publisher.
  type: float
  returned: when the load was made
processes:
  description: Processes of the generator.
  type: int
  returned: when the load was made
machine:
  description: The generator's machine, as M(nextcloud_talk.hpb.hpb_usage) returns it.
  type: dict
  returned: when the load was made
"""

import importlib.util  # noqa: E402
import sys  # noqa: E402
from typing import Any  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import (  # noqa: E402
    _load_run,
    _probe_run,
    _signaling_client,
)

TURN = {
    "server": {"type": "str", "required": True},
    "secret": {"type": "str", "required": True, "no_log": True},
    "protocol": {"type": "str", "choices": ["udp", "tcp", "tls"], "default": "udp"},
}
# The lowest values that make sense. A picture of less than 68 kbit/s is no load.
LEAST = {
    "publishers": 1,
    "subscribers": 1,
    "rooms": 1,
    "bitrate": 100,
    "seconds": 1,
    "settle": 0,
    "max_mbit": 1,
    "max_streams": 1,
    "processes": 0,
    "timeout": 1,
}


def problem(params: dict[str, Any]) -> str:
    """Return why no load can be made with these options on this machine, "" when it can."""
    missing = [name for name in ("aiortc", "websockets") if importlib.util.find_spec(name) is None]
    if missing:
        return (
            f"The Python {sys.executable} has no {' and no '.join(missing)}, expected both for the load test: "
            f"run '{sys.executable} -m pip install aiortc websockets'."
        )
    for name, least in LEAST.items():
        if params[name] < least:
            return f"{name} is {params[name]}, expected {least} or more: correct it."
    if not 0 < params["loss_percent"] <= 100:
        return f"loss_percent is {params['loss_percent']:g}, expected more than 0 and no more than 100: correct it."
    try:
        _signaling_client.tls_context(params["ca_files"], params["ca_pem"])
        if params["turn"]:
            _probe_run.split_server(params["turn"]["server"])
    except OSError as error:
        return f"ca_files or ca_pem holds no certificate in PEM format ({error.strerror or error}): correct it."
    except _probe_run.ProbeError as error:
        return str(error)
    return ""


def main() -> None:
    """Check what is needed, make the load in child processes, return what was seen."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "internal_secret": {"type": "str", "required": True, "no_log": True},
            "backend": {"type": "str", "required": True},
            "ca_files": {"type": "list", "elements": "path", "default": []},
            "ca_pem": {"type": "list", "elements": "str", "default": []},
            "resolve": {"type": "dict", "default": {}},
            "turn": {"type": "dict", "options": TURN},
            "publishers": {"type": "int", "default": 4},
            "subscribers": {"type": "int", "default": 16},
            "rooms": {"type": "int", "default": 1},
            "bitrate": {"type": "int", "default": 1000},
            "seconds": {"type": "int", "default": 10},
            "settle": {"type": "int", "default": 3},
            "loss_percent": {"type": "float", "default": 1.0},
            "max_mbit": {"type": "int", "default": 200},
            "max_streams": {"type": "int", "default": 400},
            "processes": {"type": "int", "default": 0},
            "timeout": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=False, skipped=True, msg="No load is made in check mode.")
    found = problem(module.params)
    if found:
        module.fail_json(msg=found)
    try:
        report = _load_run.in_child({name: module.params[name] for name in module.argument_spec})
    except _load_run.LoadError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **report)


if __name__ == "__main__":
    main()
