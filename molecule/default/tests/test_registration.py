# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each Nextcloud itself says is registered."""

from __future__ import annotations

import json

import pytest
from conftest import DIRECTORY

OCC = {
    "nc": ("web", "php /var/www/nc/occ"),
    "dev_nc": ("web", "docker exec -u www-data dev-app-1 php /var/www/html/occ"),
    "test_nc": ("other", "podman exec -u www-data test-app-1 php /var/www/html/occ"),
}


@pytest.fixture(params=sorted(OCC))
def instance(request):
    """One of the three registered instances and a way to ask its occ."""
    host_name, occ = OCC[request.param]
    host = request.getfixturevalue(host_name)

    def ask(command: str):
        return json.loads(host.check_output(f"{occ} {command} --output=json"))

    return request.param, ask


def test_exactly_our_entries_once(instance, secrets):
    name, ask = instance
    own = secrets["instances"][name]
    assert ask("talk:signaling:list") == {
        "servers": [{"server": "https://talk.example.org", "verify": False}],
        "secret": own["backend"],
    }
    assert ask("talk:turn:list") == [
        {"schemes": "turn", "server": "turn.example.org:3478", "secret": own["turn"], "protocols": "udp,tcp"}
    ]
    assert ask("talk:stun:list") == ["turn.example.org:3478"]


def test_the_nextcloud_reaches_the_backend_with_the_stored_secret(instance, request):
    """What Talk itself does when somebody is invited: a signed request to the registered server."""
    host_name, occ = OCC[instance[0]]
    program = occ.removesuffix("occ").replace("php ", "") + "standin"
    answer = request.getfixturevalue(host_name).run(f"{program} talk-post")
    assert answer.rc == 0, answer.stdout + answer.stderr
    assert answer.stdout.split() == ["https://talk.example.org", "200"]


def test_every_instance_has_secrets_of_its_own(secrets):
    values = [entry[kind] for entry in secrets["instances"].values() for kind in ("backend", "turn")]
    assert len(values) == len(set(values)) == 2 * len(secrets["instances"])
    assert all(len(value) == 64 for value in values)


def test_the_handover_page_has_what_an_admin_enters_who_is_never_contacted(secrets):
    page = DIRECTORY / "handover/client.md"
    assert [path.name for path in page.parent.glob("*.md")] == ["client.md"]
    assert page.stat().st_mode & 0o777 == 0o600
    own, text = secrets["instances"]["client"], page.read_text()
    assert f"occ talk:signaling:add https://talk.example.org {own['backend']}\n" in text
    assert f"occ talk:turn:add turn turn.example.org:3478 udp,tcp --secret={own['turn']}\n" in text


def test_instances_that_are_never_contacted_are_served_all_the_same(hpb, secrets):
    config = hpb.check_output("cat /opt/nextcloud-talk-hpb/signalling/config/server.conf")
    assert "[client]\nurl = https://cloud.client.example\n" in config
    assert secrets["instances"]["client"]["backend"] in config


def test_limits_are_in_the_servers_configuration(hpb):
    config = hpb.check_output("cat /opt/nextcloud-talk-hpb/signalling/config/server.conf")
    section = config.partition("[nc]\n")[2].partition("\n\n")[0]
    options = dict(line.split(" = ", 1) for line in section.splitlines())
    assert options["sessionlimit"] == "15"
    assert options["maxstreambitrate"] == "2097152"
    assert options["maxscreenbitrate"] == "4194304"
