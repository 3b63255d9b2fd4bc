#!/usr/bin/python
# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watch how much processor time the containers of the backend use."""

from __future__ import annotations

DOCUMENTATION = r"""
module: hpb_usage
short_description: Watch the processor time of the backend's containers
version_added: 0.1.0
description:
  - Reads, again and again, how much processor time the containers and the whole host have used, for as long as a file
    exists. Run it with C(async) and remove the file when enough was seen.
  - The figures are those of the kernel for the main process of each container and what descends from it. Health checks
    are no part of them. What the kernel does for the network outside of any process is in the figures of the host only.
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
attributes:
  check_mode:
    support: full
    description: Changes nothing in any mode.
  diff_mode:
    support: none
    description: Changes nothing.
  idempotent:
    support: full
    description: Changes nothing.
options:
  containers:
    description: The containers, by their names without a prefix.
    type: list
    elements: str
    default: [janus, coturn, signalling]
  base_dir:
    description: Directory of the backend, by which its containers are known.
    type: path
    default: /opt/nextcloud-talk-hpb
  signalling_address:
    description: Address of the signaling server on its host.
    type: str
    default: 127.0.0.1
  signalling_port:
    description: Port of the signaling server on its address.
    type: int
    default: 8080
  while_exists:
    description: The file. Without it the host is looked at once.
    type: path
  interval:
    description: Seconds between two samples.
    type: int
    default: 1
  timeout:
    description: Seconds after which it ends in any case.
    type: int
    default: 3600
seealso:
  - module: nextcloud_talk.hpb.call_load
  - plugin: nextcloud_talk.hpb.load_report
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Look at the backend once
  nextcloud_talk.hpb.hpb_usage:
  register: usage

- name: Watch it until a file is removed
  nextcloud_talk.hpb.hpb_usage:
    while_exists: /run/watched
  async: 600
  poll: 0
"""

RETURN = r"""
machine:
  description:
    - The host. C(processor), C(cores), C(memory_mb), C(kernel), and C(boot), which is the same for all names and
      containers of one machine.
  type: dict
  returned: success
missing:
  description: Those of O(containers) that do not run.
  type: list
  elements: str
  returned: success
publishers:
  description: How many streams were published when the module began, V(-1) when the signaling server does not say.
  type: int
  returned: success
sessions:
  description: How many sessions of clients were open when the module began, V(-1) when the server does not say.
  type: int
  returned: success
time:
  description: The host's clock at the start of the module, in Unix seconds.
  type: float
  returned: success
samples:
  description:
    - Each with C(time) (Unix seconds), C(used) (processor seconds of each container until then), and those of the host,
      all cores together, as C(busy), C(interrupts) (part of C(busy)) and C(whole).
  type: list
  elements: dict
  returned: success
"""

import time  # noqa: E402
from pathlib import Path  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import (  # noqa: E402
    _evidence,
    _record,
    _reload,
    _usage,
)


def main_processes(module: AnsibleModule, names: list[str]) -> dict[str, int]:
    """Return the main process of each container that runs."""
    module.get_bin_path("docker", required=True)
    try:
        ours = _record.ours(module.run_command, Path(module.params["base_dir"]))
    except _reload.ReloadError:
        # What else is asked may answer all the same.
        return {}
    found = {name: int((ours[name].get("State") or {}).get("Pid") or 0) for name in names if name in ours}
    return {name: pid for name, pid in found.items() if pid > 0}


def sessions(metrics: str) -> int:
    """Return how many sessions of clients are open, of all instances together."""
    return sum(entry["sessions"] for entry in _evidence.session_limits(metrics).values())


def main() -> None:
    """Look until the file is gone, and report."""
    began = time.time()
    module = AnsibleModule(
        argument_spec={
            "containers": {"type": "list", "elements": "str", "default": ["janus", "coturn", "signalling"]},
            "base_dir": {"type": "path", "default": "/opt/nextcloud-talk-hpb"},
            "signalling_address": {"type": "str", "default": _evidence.LOOPBACK},
            "signalling_port": {"type": "int", "default": 8080},
            "while_exists": {"type": "path"},
            "interval": {"type": "int", "default": 1},
            "timeout": {"type": "int", "default": 3600},
        },
        supports_check_mode=True,
    )
    params = module.params
    mains = main_processes(module, params["containers"])
    metrics = _evidence.local(params["signalling_port"], "/metrics", 5, params["signalling_address"])
    samples = [_usage.sample(mains, time.time())]
    end = time.monotonic() + params["timeout"]
    while params["while_exists"] and Path(params["while_exists"]).exists() and time.monotonic() < end:
        time.sleep(params["interval"])
        samples.append(_usage.sample(mains, time.time()))
    module.exit_json(
        changed=False,
        machine=_usage.machine(),
        missing=[name for name in params["containers"] if name not in mains],
        publishers=_usage.publishers(metrics["body"]) if metrics["status"] == 200 else -1,
        sessions=sessions(metrics["body"]) if metrics["status"] == 200 else -1,
        time=began,
        samples=samples,
    )


if __name__ == "__main__":
    main()
