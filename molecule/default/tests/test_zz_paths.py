# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A second Nextcloud under a path of the first one's name."""

from __future__ import annotations

import json

import pytest
import yaml
from conftest import play, read_secrets

pytestmark = pytest.mark.long

URL = "https://nc.example.org/two"
ROOT = "/var/www/two"
LOCATION = (
    "location /two/ { proxy_pass http://127.0.0.1:8109; proxy_set_header Host $host;"
    " proxy_set_header X-Forwarded-For $remote_addr; }"
)


@pytest.fixture
def second(web, tmp_path):
    """An inventory for the second Nextcloud, which runs; at the end it is gone."""
    config = "/etc/nginx/conf.d/nc.example.org.conf"
    web.check_output(
        f"python3 /opt/nextcloud-standin/install.py --root {ROOT} --domain nc.example.org --url {URL}"
        f" && systemd-run --unit two python3 -IS {ROOT}/server.py --root {ROOT} --port 8109 --webroot /two"
        f" && cp {config} /run/nc.conf"
    )
    web.check_output(
        "sed -i %s %s && nginx -t && systemctl reload nginx", f"s#location / #{LOCATION}\\n location / #", config
    )
    path = tmp_path / "second.yml"
    host = {"ansible_connection": "community.docker.docker", "ansible_host": web.backend.name}
    instance = {"hosts": {"two.example.org": host}, "vars": {"talk_occ": f"{ROOT}/occ", "talk_url": URL}}
    path.write_text(yaml.safe_dump({"nextcloud": {"children": {"two_nc": instance}}}))
    yield path
    web.run(f"systemctl stop two; mv /run/nc.conf {config}; systemctl reload nginx")
    left = play("-e", "remove=two_nc", "-e", "hpb_verify=false")
    assert left.returncode == 0, left.stdout[-6000:]
    web.run(f"rm -rf {ROOT}")


def test_each_of_two_on_one_name_has_its_own_secret_and_its_own_calls(hpb, web, second):
    """The signaling server takes the first URL that a request begins with, so the longer one comes first."""
    done = play("-i", str(second))
    assert done.returncode == 0, done.stdout[-6000:]

    config = hpb.check_output("cat /opt/nextcloud-talk-hpb/signalling/config/server.conf")
    (listed,) = [line for line in config.splitlines() if line.startswith("backends = ")]
    ids = listed.removeprefix("backends = ").split(", ")
    assert ids.index("two_nc") < ids.index("nc")

    secrets = read_secrets(hpb)["instances"]
    assert secrets["two_nc"]["backend"] != secrets["nc"]["backend"]
    for root, name in ((ROOT, "two_nc"), ("/var/www/nc", "nc")):
        stored = json.loads(web.check_output(f"php {root}/occ talk:signaling:list --output=json"))
        assert stored["secret"] == secrets[name]["backend"]
        # What Talk itself does when somebody is invited: a signed request that names the Nextcloud's URL.
        answer = web.check_output(f"{root}/standin talk-post")
        assert answer.split() == ["https://talk.example.org", "200"]
