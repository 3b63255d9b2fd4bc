# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which calls are running, and the waiting for their end with a server that answers like the signaling server."""

from __future__ import annotations

import http.server
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _calls

ROOT = Path(__file__).resolve().parents[2]
OLD = 'signaling_hub_sessions{backend="nc",clienttype="client"} 3\n'
STREAMS = 'signaling_mcu_publishers{type="video"} 2\nsignaling_mcu_publishers{type="screen"} 1\n'
IN_CALL = (
    'signaling_call_sessions{backend="nc",clienttype="client",room="a"} 2\n'
    'signaling_call_sessions{backend="nc",clienttype="federation",room="a"} 1\n'
    'signaling_call_sessions{backend="nc",clienttype="client",room="b"} 1\n'
    'signaling_call_sessions{backend="dev_nc",clienttype="virtual",room="c"} 1\n'
    'signaling_call_sessions{backend="test_nc",clienttype="client",room="d"} 0\n'
    'signaling_call_sessions{backend="test_nc",clienttype="internal",room="d"} 1\n'
)

CASES = [
    ("", False, "no call is running"),
    (OLD, False, "no call is running"),
    ('signaling_mcu_publishers{type="video"} 0\n', False, "no call is running"),
    (OLD + 'signaling_mcu_publishers{type="video"} 1\n', True, "1 stream is published"),
    (STREAMS, True, "3 streams are published"),
    (
        STREAMS + IN_CALL,
        True,
        "dev_nc: 1 call with 1 person, nc: 2 calls with 4 people; 3 streams are published",
    ),
    (IN_CALL, True, "dev_nc: 1 call with 1 person, nc: 2 calls with 4 people; 0 streams are published"),
]


@pytest.mark.parametrize(("metrics", "running", "text"), CASES)
def test_running_calls(metrics, running, text):
    found = _calls.calls(metrics)
    assert found["running"] is running
    assert _calls.sentence(found) == text


class Server:
    """A signaling server whose call ends after `looks` looks at its metrics."""

    def __init__(self, looks: int) -> None:
        outer = self
        self.left = looks

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.left -= 1
                body = (STREAMS if outer.left >= 0 else "").encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_unused):
                """Say nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_unused):
        self.server.shutdown()
        self.server.server_close()


def drain(port: int, *arguments: str, **options) -> tuple[dict, str]:
    """Run the task as Ansible does; returns its result and all that was shown."""
    task = {"nextcloud_talk.hpb.hpb_drain": {"port": port, **options}, "register": "result"}
    show = {"ansible.builtin.debug": {"msg": "RESULT {{ result | to_json }}"}}
    play = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [task, show]}]
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", *arguments, "/dev/stdin"],
        input=json.dumps(play),
        cwd=ROOT,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
            "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    line = next(json.loads("{" + line.strip() + "}") for line in done.stdout.splitlines() if "RESULT" in line)
    return json.loads(line["msg"].removeprefix("RESULT ")), done.stdout


def test_it_waits_until_the_call_has_ended_and_says_for_whom():
    with Server(2) as server:
        result, shown = drain(server.port, timeout=60, interval=1, report=0, hint="Do not wait: -e at_once=true.")
    assert result["running"] is False and result["waited"] >= 2
    assert shown.count("waiting for running calls") == 2
    said = r"localhost: waiting for running calls, (5\d|60) s at most \(3 streams are published\)\. Do not wait"
    assert re.search(said, shown), shown


def test_at_the_limit_it_goes_on_and_tells_what_is_running():
    with Server(100) as server:
        result, shown = drain(server.port, timeout=2, interval=1)
    assert result["running"] is True and result["text"] == "3 streams are published"
    assert 2 <= result["waited"] <= 10
    assert shown.count("waiting for running calls") == 1


def test_without_a_limit_and_in_a_dry_run_it_looks_once():
    with Server(100) as server:
        result, shown = drain(server.port)
        dry, _shown = drain(server.port, "--check", timeout=600)
    assert result["running"] is True and dry["running"] is True
    assert dry["waited"] == 0 and "waiting" not in shown


def test_a_server_that_does_not_answer_is_not_waited_for():
    with Server(0) as server:
        port = server.port
    result, _shown = drain(port, timeout=600)
    assert result["running"] is False and result["answered"] is False
    assert "does not answer" in result["text"]


TALK = [
    ("No calls in progress\n", {"calls": 0, "people": 0}),
    ("There are currently 2 calls in progress with 5 participants\n", {"calls": 2, "people": 5}),
    (
        "PHP Warning: something\nThere are currently 1 calls in progress with 0 participants\n",
        {"calls": 1, "people": 0},
    ),
    ('Cannot write into "config" directory!\n', None),
]


@pytest.mark.parametrize(("text", "found"), TALK)
def test_what_talk_says_of_its_calls(text, found):
    assert _calls.talk_calls(text) == found
