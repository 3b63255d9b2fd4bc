# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An upgrade that switches Janus' events on, its failure, and the way back.

The test bed has a signaling server of before 2.1.0 only. So a newer one is played: the same program with another
version in it.
"""

from __future__ import annotations

import pytest
from conftest import BED, play

pytestmark = pytest.mark.long

DEPLOY = "playbooks/deploy.yml"
IMAGE = "strukturag/nextcloud-spreed-signaling"
OLD = BED["versions"]["signaling"]
NEW, BROKEN = f"2.1.{OLD.rpartition('.')[2]}", "2.1.99"


@pytest.fixture
def images(hpb):
    """Images of a newer server and of one that does not start."""
    hpb.check_output(
        f"mkdir -p /run/newer && cd /run/newer && "
        f"docker create --name newer {IMAGE}:{OLD} && docker cp newer:/usr/bin/nextcloud-spreed-signaling server && "
        f"docker rm newer && sed -i 's/{OLD}-/{NEW}-/' server && printf '#!/bin/sh\\nexit 1\\n' > broken && "
        f"chmod 755 server broken && for one in server:{NEW} broken:{BROKEN}; do "
        f'printf "FROM {IMAGE}:{OLD}\\nCOPY ${{one%%:*}} /usr/bin/nextcloud-spreed-signaling\\n" > Dockerfile && '
        f'DOCKER_BUILDKIT=0 docker build -q -t "{IMAGE}:${{one##*:}}" . || exit 1; done'
    )
    yield
    back = play(playbook=DEPLOY)
    hpb.run(f"docker image rm {IMAGE}:{NEW} {IMAGE}:{BROKEN}; rm -r /run/newer")
    assert back.returncode == 0, back.stdout[-4000:]


def began(hpb, name: str) -> str:
    """Return when a container was started."""
    return hpb.check_output("docker inspect --format '{{.State.StartedAt}}' %s", name)


def sends_events(hpb) -> bool:
    text = hpb.check_output("cat /opt/nextcloud-talk-hpb/janus/config/janus.eventhandler.wsevh.jcfg")
    return "enabled = true" in text


def deploy(version: str):
    return play("-e", f"hpb_signaling_version={version}", playbook=DEPLOY)


def test_events_begin_behind_the_server_and_end_before_it(hpb, images):
    assert not sends_events(hpb)
    janus = began(hpb, "janus")

    # The server does not come: it goes back, and Janus was not touched.
    failed = deploy(BROKEN)
    assert failed.returncode != 0
    assert "was put back with its configuration and is healthy again" in failed.stdout, failed.stdout[-4000:]
    assert began(hpb, "janus") == janus and not sends_events(hpb)

    done = deploy(NEW)
    assert done.returncode == 0, done.stdout[-4000:]
    assert sends_events(hpb)
    assert janus < began(hpb, "signalling") < began(hpb, "janus")
    assert done.stdout.count("Wait until nobody is in a call") == 1

    again = deploy(NEW)
    assert again.returncode == 0 and "changed=0" in again.stdout.rpartition("PLAY RECAP")[2], again.stdout[-4000:]

    back = play(playbook=DEPLOY)
    assert back.returncode == 0, back.stdout[-4000:]
    assert not sends_events(hpb)
    assert began(hpb, "janus") < began(hpb, "signalling")
