# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module as a real process: what Ansible writes to its standard input, and what it answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from ansible.module_utils.common import parameters

MODULES = "ansible_collections.nextcloud_talk.hpb.plugins.modules."

# Modules return how they were called; newer cores ask them to with this.
INVOCATION = {"_ansible_inject_invocation": True} if "inject_invocation" in parameters.PASS_VARS else {}


def standard_input(options, check=False):
    """Return the text that Ansible gives a module that is called with `options`."""
    internal = {"_ansible_check_mode": check, "_ansible_diff": True, **INVOCATION}
    return json.dumps({"ANSIBLE_MODULE_ARGS": {**options, **internal}})


def run(module, options, check=False, **environment):
    """Run the module of that name with `environment` added to ours, and return its result."""
    done = subprocess.run(
        [sys.executable, "-m", MODULES + module],
        input=standard_input(options, check),
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.strip(), done.stderr
    return json.loads(done.stdout)
