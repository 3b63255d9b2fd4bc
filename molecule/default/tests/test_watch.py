# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The watcher on the backend's host: it tells of a change once, by mail and webhook, and of nothing else."""

from __future__ import annotations

import email
import json
import sys
import time

import pytest
from conftest import ADDRESS, PROJECT, play, recap

sys.path.insert(0, str(PROJECT / "tests/unit"))
from watch_bed import MailServer, Web  # noqa: E402

pytestmark = pytest.mark.long

# This machine, as the hosts of the test bed reach it.
HERE = ADDRESS.rpartition(".")[0] + ".1"
PERIOD = 10
# A look takes time itself, and so does systemd.
SPARE = 6
UNIT = "nextcloud-talk-hpb-watch"
METRICS = "/var/lib/metrics"


class Listener:
    """A mail server and a webhook for the watcher."""

    def __init__(self) -> None:
        self.calls: list[dict] = []
        self.mail = MailServer(HERE, login=False)
        self.web = Web(self._take, host=HERE)

    def _take(self, _path, body, _headers):
        self.calls.append(json.loads(body))
        return 200, {}, ""

    def heard(self) -> tuple[int, int]:
        """Return how many mails and webhook calls came so far."""
        return len(self.mail.letters), len(self.calls)

    def wait(self, mails: int, calls: int, seconds: float) -> float:
        """Wait until both came, and return after how many seconds."""
        start = time.monotonic()
        while time.monotonic() < start + seconds:
            if self.heard() >= (mails, calls):
                break
            time.sleep(0.2)
        assert self.heard() == (mails, calls), self.calls
        return time.monotonic() - start


@pytest.fixture
def listener():
    return Listener()


@pytest.fixture
def watched(hpb, listener):
    """The watcher set up with a short period; all of it is gone afterwards."""
    hpb.check_output(f"mkdir -p {METRICS}")
    settings = {
        "watch_period": PERIOD,
        "watch_mail_to": ["admin@example.org"],
        "watch_smtp_host": HERE,
        "watch_smtp_port": listener.mail.port,
        "watch_webhook_url": f"http://{HERE}:{listener.web.port}/hook",
        "watch_textfile_dir": METRICS,
    }
    done = play("-e", json.dumps(settings), playbook="playbooks/watch.yml")
    assert done.returncode == 0, done.stdout[-4000:]
    yield settings
    hpb.check_output("docker start coturn")
    gone = play("-e", json.dumps({**settings, "watch_state": "absent"}), playbook="playbooks/watch.yml")
    assert gone.returncode == 0, gone.stdout[-4000:]
    left = hpb.run(f"ls -d /etc/systemd/system/{UNIT}.* /opt/nextcloud-talk-hpb/watch {METRICS}/*.prom")
    assert left.stdout == ""
    assert hpb.run(f"systemctl is-active {UNIT}.timer").stdout.strip() != "active"


def test_a_stopped_coturn_is_told_once_and_so_is_its_return(hpb, watched, listener):
    again = play("-e", json.dumps(watched), playbook="playbooks/watch.yml")
    assert all(counts["changed"] == 0 for counts in recap(again.stdout).values()), again.stdout[-4000:]
    time.sleep(2 * PERIOD)
    assert listener.heard() == (0, 0), listener.calls

    hpb.check_output("docker stop coturn")
    print("told after", listener.wait(1, 1, 2 * PERIOD + SPARE))
    (change,) = listener.calls[0]["changes"]
    assert "coturn" in change["sentence"] and "docker start coturn" in change["mend"], change
    (recipients, letter), *_rest = listener.mail.letters
    assert recipients == ["admin@example.org"]
    text = email.message_from_string(letter).get_payload(decode=True).decode()
    assert change["sentence"] in text and change["mend"] in text
    time.sleep(2 * PERIOD)
    assert listener.heard() == (1, 1), listener.calls

    hpb.check_output("docker start coturn")
    print("its return told after", listener.wait(2, 2, 2 * PERIOD + SPARE + 10))
    time.sleep(2 * PERIOD)
    assert listener.heard() == (2, 2), listener.calls
    metrics = hpb.check_output(f"cat {METRICS}/hpb_watch.prom")
    assert "hpb_watch" in metrics
    journal = hpb.check_output(f"journalctl -q -u {UNIT} -o cat")
    assert "Traceback" not in journal
