# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Logs as the programs write them: recorded shapes, through a docker that prints them and checks how it is called."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import module_process
import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _logs, _ordinary

ROOT = Path(__file__).resolve().parents[2]
SECRET = "0123456789abcdef" * 4
OWN = "p#ss word/with+signs&more"
NC = {"id": "nc", "urls": ["https://nc.example.org"]}
DEV = {"id": "dev_nc", "urls": ["https://dev.example.org/cloud"]}

DOCKER = """#!{python}
import json, pathlib, sys
here = pathlib.Path({folder!r})
arguments = sys.argv[1:]
known = [name for name in ("nats", "janus", "coturn", "signalling", "traefik", "others") if (here / name).exists()]
if arguments[0] == "ps":
    print("\\n".join("id-" + name for name in known))
    sys.exit()
if arguments[:2] == ["container", "inspect"]:
    binds = [str(here / "base" / name) + "/config:/config:ro" for name in known]
    print(json.dumps([{{"Id": "id-" + name, "Name": "/hpb-" + name, "HostConfig": {{"Binds": binds}},
        "Config": {{"Labels": {{"nextcloud-talk.hpb": name}}}}}} for name in known]))
    sys.exit()
assert arguments[:5] == ["logs", "--timestamps", "--since", "24h", "--tail"] and arguments[5] == "20000", arguments
name = arguments[6].removeprefix("id-")
if name == "nats" and (here / "broken").exists():
    sys.exit("Error response from daemon: configured logging driver does not support reading")
for line in (here / name).read_text().splitlines():
    print(line, file=sys.stderr if name == "signalling" else sys.stdout)
"""

JANUS = "[Tue Nov 24 15:30:49 2026]"
COTURN = "2026-11-24T15:27:58.864+0000"
REFUSED = "WebSocketsEventHandler: Error connecting to backend (connection refused) (next retry in %ds)"
TRAEFIK = "\x1b[90m2026-11-24T15:28:18Z\x1b[0m \x1b[33mWRN\x1b[0m \x1b[1m"

# Container, what it prints behind Docker's time, the level and the text that come out of it.
SHAPES = [
    ("nats", "[1] 2026/11/24 15:27:25.335559 [INF] Server is ready", "info", "Server is ready"),
    ("nats", "[1] 2026/11/24 15:27:25.335559 [ERR] Error trying", "error", "Error trying"),
    ("nats", "[1] 2026/11/24 15:27:25.335559 [WRN] Slow consumer", "warning", "Slow consumer"),
    ("nats", "[1] 2026/11/24 15:27:25.335559 [FTL] Can't listen", "error", "Can't listen"),
    ("nats", "nats-server: no such option", "info", "nats-server: no such option"),
    ("janus", "[Tue Nov 24 15:30:49 2026] [WARN] [77] *NOT* cool", "warning", "[77] *NOT* cool"),
    ("janus", "[Tue Nov  3 15:30:49 2026] [ERR] [ice.c:f:1] No", "error", "[ice.c:f:1] No"),
    ("janus", "[Tue Nov 24 15:30:49 2026] [FATAL] [janus.c] No", "error", "[janus.c] No"),
    ("janus", "[Tue Nov 24 15:30:49 2026] [WSS-0x7f] Destroying", "info", "[WSS-0x7f] Destroying"),
    ("coturn", "2026-11-24T15:27:58.864+0000 WARNING No key: //x.pem", "warning", "No key: //x.pem"),
    ("coturn", "2026-11-24T15:27:58.864+0000 ERROR Cannot bind", "error", "Cannot bind"),
    ("coturn", "2026-11-24T15:27:58.864+0000 INFO pid file created", "info", "pid file created"),
    ("coturn", "2026-11-24T15:27:58.864+0000 INFO error 401: Unauthorized", "info", "error 401: Unauthorized"),
    ("coturn", "2026-11-24T15:27:58.864+0000 INFO error 403: Forbidden IP", "warning", "error 403: Forbidden IP"),
    ("coturn", "12: (7): ERROR: Cannot bind", "error", "Cannot bind"),
    ("coturn443", "2026-11-24T15:27:58.864+0000 INFO error 403: Forbidden IP", "warning", "error 403: Forbidden IP"),
    ("signalling", "hub.go:957: Unregister abc", "info", "hub.go:957: Unregister abc"),
    ("signalling", "client.go:9: Could not send ping", "error", "client.go:9: Could not send ping"),
    ("signalling", "2026/11/24 15:27:58 hub.go:9: Error joining", "error", "hub.go:9: Error joining"),
    ("signalling", "grpc.go:178: WARNING: No CA", "warning", "grpc.go:178: WARNING: No CA"),
    ("signalling", "b.go:1: Backend nc is missing or incomplete, skipping", "error", None),
    ("signalling", 'j.go:4: Unable to deliver message {"a":1}. Handle 7 gone?', "info", None),
    ("signalling", "c.go:5: Removed room session a: map[error:map[code:invalid]]", "info", None),
    ("signalling", "mcu_janus.go:161: Using a timeout of 10s for MCU requests", "info", None),
    ("signalling", "a.go:1: read tcp: i/o timeout", "error", None),
    ("signalling", "panic: runtime error", "error", "panic: runtime error"),
    (
        "traefik",
        "\x1b[90m2026-11-24T15:28:18Z\x1b[0m \x1b[31mERR\x1b[0m \x1b[1mNo certificate\x1b[0m",
        "error",
        "No certificate",
    ),
    ("traefik", "2026-11-24T15:28:18Z WRN careful", "warning", "careful"),
    ("traefik", "2026-11-24T15:28:18Z INF Starting", "info", "Starting"),
    ("traefik", "command traefik error: no such file", "error", "command traefik error: no such file"),
    ("other", "anything fatal", "error", "anything fatal"),
]


# What each program writes although all is well, as it was recorded, and lines that are nearly the same and are shown.
ORDINARY = [
    ("janus", f"{JANUS} [WARN] [881]  Hashing algorithm not the one we expected (sha-256), *NOT* cool"),
    ("janus", f"{JANUS} [WARN] [881] Failed to add some remote candidates (added 14, expected 16)"),
    ("janus", f"{JANUS} [WARN] mDNS resolution disabled, .local candidates will be ignored"),
    (
        "janus",
        f"{JANUS} [WARN] Janus is deployed on a private address (192.168.0.10) but you didn't specify any STUN server! "
        "Expect trouble if this is supposed to work over the internet and not just in a LAN...",
    ),
    ("janus", f"{JANUS} [ERR] [plugins/janus_videoroom.c:janus_videoroom_handler:10226] No such feed (1)"),
    ("janus", "[WARN] \tCouldn't access logger plugins folder..."),
    ("coturn", f"{COTURN} WARNING Certificate file not found or not readable: //turn_server_cert.pem"),
    ("coturn443", f"{COTURN} WARNING Private key file not found or not readable: //turn_server_pkey.pem"),
    (
        "signalling",
        "grpc_common.go:176: WARNING: No GRPC server certificate and/or key configured, running unencrypted",
    ),
    ("signalling", "common.go:210: WARNING: No GRPC CA configured, expecting unencrypted connections"),
    ("signalling", 'janus_client.go:4: Unable to deliver message {"janus":"event"}. Handle 7 gone?'),
    ("signalling", "clientsession.go:569: Removed room session a: map[error:map[code:x message:denied] type:error]"),
    (
        "traefik",
        f"{TRAEFIK}Traefik can reject some encoded characters in the request path. When your backend is not fully "
        "compliant with [RFC 3986](https://datatracker.ietf.org/doc/html/rfc3986), it is recommended to set these "
        "options to `false` to avoid split-view situation. Refer to the documentation for more details: "
        "https://doc.traefik.io/traefik/v3.6/migrate/v3/#encoded-characters-configuration-default-values",
    ),
]
NEAR_MISSES = [
    ("janus", f"{JANUS} [WARN] [881]  Hashing algorithm not the one we expected (sha-256), giving up"),
    ("janus", f"{JANUS} [WARN] [881]  Hashing algorithm not the one we expected (md5), *NOT* cool"),
    ("janus", f"{JANUS} [WARN] [881] Failed to add all remote candidates (added 0, expected 16)"),
    ("janus", f"{JANUS} [ERR] [881] Failed to add some remote candidates"),
    ("janus", f"{JANUS} [WARN] mDNS resolution failed, .local candidates will be ignored"),
    ("janus", f"{JANUS} [WARN] Janus is deployed on a private address (192.168.0.10) but the STUN server is wrong"),
    ("janus", f"{JANUS} [ERR] [plugins/janus_videoroom.c:janus_videoroom_handler:10226] No such room (1)"),
    ("janus", f"{JANUS} [ERR] [plugins/janus_videoroom.c:janus_videoroom_handler:1] No such feed (1), closing it"),
    ("coturn", f"{COTURN} WARNING Certificate file not found or not readable: /tls/turn.pem"),
    ("coturn", f"{COTURN} ERROR Private key file not found or not readable: //etc/turn_server_pkey.pem"),
    ("signalling", "grpc_common.go:176: WARNING: No GRPC server certificate could be read"),
    ("signalling", "hub.go:251: WARNING: No GRPC CA configured, expecting unencrypted connections from 192.0.2.7"),
    ("signalling", "talk.go:1: Could not remove room session a: map[error:map[code:denied]]"),
    ("signalling", "janus_client.go:4: Unable to deliver message: connection refused"),
    ("traefik", f"{TRAEFIK}Traefik can reject some encoded characters in the request path: %2F was refused"),
    # One program's word in the mouth of another.
    ("coturn", f"{COTURN} WARNING mDNS resolution disabled, .local candidates will be ignored"),
    ("traefik", f"{TRAEFIK}grpc.go:1: WARNING: No GRPC CA configured, expecting unencrypted connections"),
]


def line(text, second=0, fraction="000000000"):
    return f"2026-11-24T15:30:{second:02}.{fraction}Z {text}\n"


@pytest.mark.parametrize(("container", "raw", "level", "text"), SHAPES)
def test_shapes(container, raw, level, text):
    assert _logs.parse(container, line(raw)) == [
        _logs.Entry("2026-11-24T15:30:00.000000000", container, level, text or raw)
    ]


@pytest.mark.parametrize(("container", "raw"), ORDINARY)
def test_what_is_written_although_all_is_well_is_not_shown(container, raw):
    entries = _logs.parse(container, line(raw))
    assert [entry.level for entry in entries] == ["info"]
    assert _logs.choose(entries, lines=9) == [] and _logs.choose(entries, lines=9, everything=True) == entries


@pytest.mark.parametrize(("container", "raw"), NEAR_MISSES)
def test_what_is_nearly_the_same_is_shown(container, raw):
    (entry,) = _logs.choose(_logs.parse(container, line(raw)), lines=9)
    assert entry.level in ("error", "warning")


LEFT = [
    ("janus", f"{JANUS} [ERR] [ice.c:janus_plugin_session_is_alive:775] Invalid plugin session (0x7f73f8005d20)"),
    ("janus", f"{JANUS} [ERR] [janus.c:janus_plugin_handle_sdp:3820] [6692631127724834] Error setting ICE locally"),
    (
        "janus",
        f"{JANUS} [ERR] [janus.c:janus_plugin_push_event:3704] [6692631127724834] Cannot push event (handle not "
        "available anymore or negotiation stopped)",
    ),
]


def test_a_client_that_leaves_while_it_is_answered_is_ordinary_and_an_error_without_that_is_shown():
    entries = [entry for container, raw in LEFT for entry in _logs.parse(container, line(raw))]
    together = _logs.parse("janus", "".join(line(raw) for _container, raw in LEFT))
    assert _logs.choose(together, lines=9) == [] and len(entries) == 3
    for container, raw in LEFT[:2]:
        assert len(_logs.choose(_logs.parse(container, line(raw)), lines=9)) == 1


def test_each_ordinary_line_has_a_reason_and_an_example():
    for one in _ordinary.ORDINARY:
        assert one.why.endswith("."), one
        examples = [raw for container, raw in [*ORDINARY, *REFUSED_AT_FIRST, *LEFT] if container in one.containers]
        assert any(re.search(one.line, raw) for raw in examples), one


REFUSED_AT_FIRST = [
    ("janus", f"{JANUS} [ERR] [events/janus_wsevh.c:janus_wsevh_callback:735] {REFUSED % delay}") for delay in (1, 2)
]


def test_a_line_that_is_ordinary_until_it_is_better_is_shown_while_it_is_not():
    """Janus' events: refused while the server starts is no fault, refused for good is one."""
    refused = "".join(line(raw, second) for second, (_container, raw) in enumerate(REFUSED_AT_FIRST))
    connected = line(f"{JANUS} WebSocketsEventHandler connected", 5)
    later = line(f"{JANUS} [ERR] [events/janus_wsevh.c:janus_wsevh_callback:735] {REFUSED % 1}", 9)

    def shown(text):
        return [entry.time[17:19] for entry in _logs.parse("janus", text) if entry.level != "info"]

    assert shown(refused) == ["00", "01"]
    assert shown(refused + connected) == []
    assert shown(refused + connected + later) == ["09"]


def test_a_line_that_goes_on_belongs_to_the_one_before():
    raw = line("a.go:1: Could not read map[", 1, "000000000") + line(" key: value]", 1, "000100000")
    raw += line("health: nobody knows this shape", 9)
    assert [entry.text for entry in _logs.parse("signalling", raw)] == [
        "a.go:1: Could not read map[ key: value]",
        "health: nobody knows this shape",
    ]


def test_both_streams_are_put_in_order():
    found = _logs.parse("signalling", line("b.go:1: second", 2) + line("a.go:1: first", 1) + "no time\n")
    assert [entry.text for entry in found] == ["a.go:1: first", "b.go:1: second"]


@pytest.mark.parametrize(
    ("text", "instance", "expected"),
    [
        ("Register internal@nc from", NC, True),
        ("Register internal@dev_nc from", NC, False),
        ("Backend nc added.", NC, True),
        ("to https://nc.example.org/ocs/v2.php", NC, True),
        ("lookup NC.EXAMPLE.ORG: no such host", NC, True),
        ("to https://www.nc.example.org/", NC, False),
        ("to https://nc.example.org.evil.example/", NC, False),
        ("nc-17 nc_x anc", NC, False),
        ("to https://dev.example.org/cloud/ocs", DEV, True),
    ],
)
def test_who_is_named(text, instance, expected):
    assert bool(_logs.names(instance).search(text)) == expected


def entry(text, level=_logs.ERROR, second=0, container="signalling"):
    return _logs.Entry(f"2026-11-24T15:30:{second:02}.000000000", container, level, text)


def test_errors_come_first_and_what_names_the_instance_fills_the_rest():
    entries = [
        entry("Register internal@nc", _logs.INFO, 1),
        entry("Joined internal@nc", _logs.INFO, 2),
        entry("Could not reach https://dev.example.org", _logs.ERROR, 3),
        entry("Could not reach https://nc.example.org", _logs.ERROR, 4),
        entry("Could not write", _logs.WARNING, 5),
        entry("Nothing", _logs.INFO, 6),
        entry("nc and dev_nc failed", _logs.ERROR, 7),
    ]

    def texts(lines, **options):
        return [found.text for found in _logs.choose(entries, lines=lines, **options)]

    errors = ["Could not reach https://nc.example.org", "Could not write", "nc and dev_nc failed"]
    assert texts(lines=4, instances=[NC], others=[DEV]) == ["Joined internal@nc", *errors]
    assert texts(lines=9, instances=[NC], others=[DEV]) == ["Register internal@nc", "Joined internal@nc", *errors]
    assert texts(lines=2, instances=[NC], others=[DEV]) == errors[1:]
    assert texts(lines=9) == ["Could not reach https://dev.example.org", *errors]
    assert texts(lines=9, everything=True) == [found.text for found in entries]


def test_the_like_become_one():
    entries = [entry(f"[{number}] not cool", second=number % 60, container="janus") for number in range(1000, 1030)]
    (found,) = _logs.choose([*entries[:20], entries[25], *entries[20:25]], lines=50)
    assert (found.count, found.text) == (26, "[1019] not cool")
    assert _logs.shown(found) == "11-24 15:30:59  janus       error    [1019] not cool (26 times)"


def in_base64(text):
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize("secret", [SECRET, OWN, "just-8-l"])
@pytest.mark.parametrize(
    ("spell", "expected"),
    [
        (lambda secret: secret, "********"),
        (lambda secret: f"?api={quote(secret, safe='')}&x", "?api=********&x"),
        (lambda secret: f"?api={quote(secret, safe='').lower()}&x", "?api=********&x"),
        (lambda secret: f"say:{in_base64(secret)}.", "say:********."),
        (lambda secret: f"({in_base64(f'u:{secret}')})", "(********)"),
        (lambda secret: f"({in_base64(f'us:{secret}')})", "(********)"),
        (lambda secret: f"({in_base64(f'use:{secret}-and-more')})", "(********)"),
        (lambda secret: base64.urlsafe_b64encode(f"u:{secret}".encode()).decode(), "********"),
        (lambda secret: f"Authorization: Basic {in_base64(f'user:{secret}')}", "Authorization: Basic ********"),
    ],
)
def test_masks_every_spelling(secret, spell, expected):
    assert _logs.Mask([secret])(f"before {spell(secret)} after") == f"before {expected} after"


def test_masks_what_nobody_named():
    mask = _logs.Mask([])
    assert mask("nats://user:hidden-word@127.0.0.1:4222") == "nats://user:********@127.0.0.1:4222"
    assert mask("Authorization: Bearer short-token") == "Authorization: Bearer ********"
    assert mask("private=MTc5NTUzNDI0OHwySVdrVThzZXpxeEpNQmpaVjhX") == "private=********"
    assert mask("to https://nc.example.org/ocs/v2.php/apps/spreed/api/v3/signaling/backend: EOF") == (
        "to https://nc.example.org/ocs/v2.php/apps/spreed/api/v3/signaling/backend: EOF"
    )


def test_secrets_of_a_file():
    document = {
        "version": 1,
        "internal": SECRET,
        "instances": {"nc": {"url": NC["urls"][0], "turn": "t" * 32, "next": {"turn": "n" * 32}}},
    }
    assert _logs.secrets_in(document) == [SECRET, "t" * 32, "n" * 32]


class Engine:
    def __init__(self, folder) -> None:
        self.folder = folder
        docker = folder / "docker"
        docker.write_text(DOCKER.format(python=sys.executable, folder=str(folder)), encoding="utf-8")
        docker.chmod(0o755)
        self.put("nats", line("[1] 2026/11/24 15:27:25.335559 [INF] Server is ready", 1))
        self.put("janus", line("[Tue Nov 24 15:30:05 2026] [ERR] [ice.c:1] dropped", 5))
        self.put("coturn", line(f"2026-11-24T15:30:04.864+0000 ERROR user {SECRET}", 4))
        self.put(
            "signalling",
            line("hub.go:861: Register internal@nc from 192.0.2.7", 2)
            + line(f"b.go:1: Could not send to https://nc.example.org/?s={quote(OWN, safe='')}", 3)
            + line("b.go:1: Could not send to https://dev.example.org/cloud", 6),
        )

    def put(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text, encoding="utf-8")

    def logs(self, **options):
        given = {"base_dir": str(self.folder / "base"), **options}
        result = module_process.run("container_logs", given, PATH=f"{self.folder}:{os.environ['PATH']}")
        assert SECRET not in json.dumps(result.get("entries", [])) + json.dumps(result.get("lines", []))
        return result


@pytest.fixture
def engine(tmp_path):
    return Engine(tmp_path)


def test_module(engine):
    engine.put("secrets.json", json.dumps({"instances": {"nc": {"turn": SECRET}}}))
    result = engine.logs(
        instances=[NC], others=[DEV], secrets=[OWN], secrets_file=str(engine.folder / "secrets.json"), lines=3
    )
    assert result["changed"] is False
    assert result["lines"] == [
        "11-24 15:30:03  signalling  error    b.go:1: Could not send to https://nc.example.org/?s=********",
        "11-24 15:30:04  coturn      error    user ********",
        "11-24 15:30:05  janus       error    [ice.c:1] dropped",
        "There is no container traefik of the backend whose log could be read, expected one: run the playbook "
        "nextcloud_talk.hpb.site.",
    ]
    assert result["problems"] == result["lines"][3:]
    assert result["entries"][1] == {
        "time": "2026-11-24T15:30:04.000000000",
        "container": "coturn",
        "level": "error",
        "text": "user ********",
        "count": 1,
    }
    engine.put("broken", "")
    assert engine.logs(containers=["nats"])["problems"] == [
        "The log of the container hpb-nats could not be read, Docker said: Error response from daemon: configured "
        "logging driver does not support reading. Look at 'docker ps -a' on this host."
    ]
    more = engine.logs(instances=[NC], others=[DEV], secrets=[SECRET, OWN], lines=4)["lines"]
    assert more[0] == "11-24 15:30:02  signalling  info     hub.go:861: Register internal@nc from 192.0.2.7"


def test_module_without_an_instance_and_with_every_line(engine):
    assert [entry["text"] for entry in engine.logs(containers=["signalling"], secrets=[OWN])["entries"]] == [
        "b.go:1: Could not send to https://nc.example.org/?s=********",
        "b.go:1: Could not send to https://dev.example.org/cloud",
    ]
    assert len(engine.logs(containers=["nats", "signalling"], all=True, secrets=[OWN])["entries"]) == 4
    assert engine.logs(containers=["nats"])["lines"] == ["Nothing of this kind was logged."]


def test_playbook(engine):
    """For one instance, with the secrets of the host's own file, on a host without that file too."""
    (engine.folder / "base/secrets").mkdir(parents=True)
    local = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
    hpb = {**local, "hpb_domain": "talk.example.org", "hpb_tls": "private_ca"}
    hpb["hpb_base_dir"] = str(engine.folder / "base")
    children = {
        "nc": {"hosts": {"nc.example.org": {}}},
        "dev_nc": {"hosts": {"dev.example.org": {"talk_url": "https://dev.example.org/cloud"}}},
    }
    inventory = {"hpb": {"hosts": {"talk.example.org": hpb}}, "nextcloud": {"children": children}}
    engine.put("hosts.json", json.dumps(inventory))
    env = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    env.update(ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"), PATH=f"{engine.folder}:{env['PATH']}")
    outputs = []
    for secrets in (None, {"instances": {"nc": {"url": "https://nc.example.org", "turn": SECRET, "backend": OWN}}}):
        if secrets:
            engine.put("base/secrets/secrets.json", json.dumps(secrets))
        done = subprocess.run(
            [Path(sys.executable).parent / "ansible-playbook", "-i", engine.folder / "hosts.json", "-vvv"]
            + ["nextcloud_talk.hpb.logs", "-e", "instance=nc", "-e", "lines=5"],
            cwd=engine.folder,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert SECRET not in done.stdout + done.stderr
        outputs.append(done.stdout)
    assert "error    b.go:1: Could not send to https://nc.example.org/?s=********" in outputs[1]
    for output in outputs:
        assert "info     hub.go:861: Register internal@nc from" in output
        assert "dev.example.org/cloud" not in output.rpartition("Show them")[2]
        assert "There is no container traefik of the backend" in output


def test_module_refuses(engine):
    assert engine.logs(lines=0)["msg"] == "lines is 0, expected 1 or more: name how many lines to show."
    assert engine.logs(instances=[{"urls": []}])["msg"] == (
        "An instance has no id, expected what the filter backends returns: give id and urls."
    )
    engine.put("broken.json", "{")
    path = str(engine.folder / "broken.json")
    assert engine.logs(secrets_file=path)["msg"] == (
        f"{path} was expected to hold the secrets that must not be shown and cannot be read (JSONDecodeError): become "
        "root, or mend the file."
    )
