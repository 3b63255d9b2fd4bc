# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults injected into the running hosts: each is named once, at the right place, and nothing else is blamed."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from conftest import ADDRESS, PROJECT, SERVICES, play, read_secrets
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

sys.path.insert(0, str(PROJECT / ".tree"))
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _signaling_client  # noqa: E402

pytestmark = pytest.mark.long

BASE = "/opt/nextcloud-talk-hpb"
AUTHORITIES = f"{BASE}/signalling/config/authorities/hpb.pem"
DYNAMIC = f"{BASE}/traefik/config/dynamic/hpb.yml"
NC = "php /var/www/nc/occ"
URL = "https://talk.example.org"
ALL = "all"


@dataclass(frozen=True)
class Hosts:
    """The three test hosts."""

    hpb: object
    web: object
    other: object


@dataclass(frozen=True)
class Fault:
    """A context manager that injects it, the instance that the finding must have, and words of its sentences.

    `arguments` are those with which the person runs the verification.
    """

    inject: Callable[[Hosts], contextlib.AbstractContextManager[None]]
    instance: str
    words: tuple[str, ...]
    arguments: tuple[str, ...] = ()


FAULTS: dict[str, Fault] = {}


def fault(name: str, instance: str, *words: str, arguments: tuple[str, ...] = ()):
    """Put a generator of one step into the table."""

    def keep(function: Callable[[Hosts], Iterator[None]]) -> Callable[[Hosts], Iterator[None]]:
        FAULTS[name] = Fault(contextmanager(function), instance, words, arguments)
        return function

    return keep


def shell(name: str, host: str, inject: str, heal: str, instance: str, *words: str) -> None:
    """Put a fault into the table that one command makes and another one undoes, both on the same host."""

    def run(hosts: Hosts) -> Iterator[None]:
        where = getattr(hosts, host)
        where.check_output(inject)
        try:
            yield
        finally:
            where.check_output(heal)

    fault(name, instance, *words)(run)


# --- programs and firewalls ----------------------------------------------------------------------------------------

for program, how in (
    ("coturn", "stop"),
    ("janus", "stop"),
    ("nats", "stop"),
    ("traefik", "stop"),
    ("signalling", "kill"),
):
    shell(
        f"{program} is down",
        "hpb",
        f"docker {how} {program}",
        f"docker start {program}",
        ALL,
        program,
        f"docker start {program}",
    )


def closed(*rules: str) -> tuple[str, str]:
    """Return the commands that add rules to the host's packet filter and take them out."""
    adding, removing = ([f"iptables -{how} INPUT {rule} -j DROP" for rule in rules] for how in "ID")
    return " && ".join(adding), "; ".join(removing)


shell("Janus' ports are closed", "hpb", *closed("-p udp --dport 20000:29999"), ALL, "20000-29999", "firewall")
shell(
    "TURN over UDP is blocked",
    "hpb",
    *closed(f"-p udp --dport 3478 ! -s {ADDRESS}"),
    ALL,
    "udp 3478",
    "TURN over tcp works",
)
shell(
    "only 443 is open",
    "hpb",
    *closed("! -i lo -p udp", "! -i lo -p tcp --dport 3478"),
    ALL,
    "Only 443 is open",
)


@fault("the public address is somebody else's", ALL, "198.51.100.9", "hpb_public_ip")
def _public_address(hosts: Hosts) -> Iterator[None]:
    # People are behind routers: what the backend sends to them reaches them only as an answer.
    router = "OUTPUT -p udp -m conntrack --ctstate NEW ! -o lo -j DROP"
    try:
        changed = play("-e", "hpb_public_ip=198.51.100.9", playbook="playbooks/deploy.yml")
        assert changed.returncode == 0, changed.stdout[-3000:]
        hosts.hpb.check_output(f"iptables -I {router}")
        yield
    finally:
        hosts.hpb.run(f"iptables -D {router}")
        assert play(playbook="playbooks/deploy.yml").returncode == 0


# --- secrets -------------------------------------------------------------------------------------------------------


@fault("Talk has a wrong backend secret", "nc", "another backend secret", "register -e instance=nc")
def _backend_secret(hosts: Hosts) -> Iterator[None]:
    kept = hosts.web.check_output(f"{NC} config:app:get spreed signaling_servers")
    wrong = json.loads(kept)
    wrong["secret"] = "0" * 64
    write = f"{NC} config:app:set spreed signaling_servers --value='%s'"
    hosts.web.check_output(write % json.dumps(wrong))
    try:
        yield
    finally:
        hosts.web.check_output(write % kept)


@fault("coturn has another TURN secret", "nc", "TURN secret")
def _turn_secret(hosts: Hosts) -> Iterator[None]:
    turn = read_secrets(hosts.hpb)["instances"]["nc"]["turn"]
    change = (
        "python3 -c \"import sqlite3, sys; c = sqlite3.connect('%s/coturn/database/turndb'); "
        "c.execute('update turn_secret set value=? where value=?', sys.argv[1:]); c.commit()\" %s %s"
    )
    hosts.hpb.check_output(change % (BASE, "0" * 64, turn))
    try:
        yield
    finally:
        hosts.hpb.check_output(change % (BASE, turn, "0" * 64))


@fault("an address is locked out", ALL, "locked out", "controller")
def _throttled(hosts: Hosts) -> Iterator[None]:
    context = _signaling_client.tls_context([], [hosts.hpb.check_output(f"cat {BASE}/ca/ca.pem")])
    body = b'{"type": "message", "message": {"data": {}}}'
    status = 0
    with _signaling_client.pinned_names({"talk.example.org": ADDRESS}):
        for _attempt in range(15):
            headers = _signaling_client.signed_headers("0" * 64, "https://nc.example.org", body)
            status = _signaling_client.fetch(f"{URL}/api/v1/room/nobody", context, 60, headers, body).status
            if status == 429:
                break
    assert status == 429
    try:
        yield
    finally:
        hosts.hpb.check_output("docker restart signalling")


@fault("an instance has all its sessions", "test_nc", "5 of 5", "talk_session_limit")
def _session_limit(hosts: Hosts) -> Iterator[None]:
    # A guest who enters no room is sent away after 10 seconds.
    ticket = hosts.other.check_output("podman exec test-app-1 /var/www/html/standin ticket alice")
    context = _signaling_client.tls_context([], [hosts.hpb.check_output(f"cat {BASE}/ca/ca.pem")])
    ready, over = threading.Event(), threading.Event()

    async def hold() -> None:
        with _signaling_client.pinned_names({"talk.example.org": ADDRESS}):
            hello = _signaling_client.ticket_hello("https://test.example.org", ticket, "alice")
            sessions = [await _signaling_client.Session.open(URL, context, hello) for _each in range(5)]
        ready.set()
        await asyncio.to_thread(over.wait)
        await asyncio.gather(*(session.close() for session in sessions))

    thread = threading.Thread(target=lambda: asyncio.run(hold()))
    thread.start()
    try:
        assert ready.wait(30)
        yield
    finally:
        over.set()
        thread.join()


# --- certificates --------------------------------------------------------------------------------------------------


@contextmanager
def served(hpb, name: str, days: int) -> Iterator[None]:
    """Let Traefik serve a certificate for `name` that ends in so many days, made by the backend's own CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    authority = x509.load_pem_x509_certificate(hpb.check_output(f"cat {BASE}/ca/ca.pem").encode())
    signer = serialization.load_pem_private_key(hpb.check_output(f"cat {BASE}/ca/key.pem").encode(), None)
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=30))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(signer, hashes.SHA256())
    )
    pair = {
        "fullchain.pem": certificate.public_bytes(serialization.Encoding.PEM).decode(),
        "key.pem": key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
    }
    hpb.check_output(f"cp -a {BASE}/tls /run/tls-kept")
    for file, text in pair.items():
        hpb.check_output(f"printf '%s' '{text}' > {BASE}/tls/{file}")
    hpb.check_output(f"sleep 1; echo '#' >> {DYNAMIC}; sleep 3")
    try:
        yield
    finally:
        for file in pair:
            hpb.check_output(f"cat /run/tls-kept/{file} > {BASE}/tls/{file}")
        hpb.check_output(f"rm -r /run/tls-kept; sed -i '/^#$/d' {DYNAMIC}; sleep 3")


@fault("the certificate has expired", ALL, "expired")
def _expired(hosts: Hosts) -> Iterator[None]:
    with served(hosts.hpb, "talk.example.org", -1):
        yield


@fault("the certificate is for another name", ALL, "other.example.org", "talk.example.org")
def _another_name(hosts: Hosts) -> Iterator[None]:
    with served(hosts.hpb, "other.example.org", 30):
        yield


shell(
    "the backend does not know the CA of the Nextclouds",
    "hpb",
    f"cp {AUTHORITIES} /run/hpb.pem && : > {AUTHORITIES} && docker restart signalling",
    f"cat /run/hpb.pem > {AUTHORITIES} && docker restart signalling",
    "dev_nc, nc, test_nc",
    "hpb_ca_files",
)


@fault(
    "a Nextcloud does not know the CA of the backend",
    "nc",
    "talk_verify_tls",
    "security:certificates:import",
    arguments=("-e", "talk_verify_tls=true"),
)
def _unknown_ca(hosts: Hosts) -> Iterator[None]:
    kept = hosts.web.check_output(f"{NC} config:app:get spreed signaling_servers")
    strict = json.loads(kept)
    for server in strict["servers"]:
        server["verify"] = True
    write = f"{NC} config:app:set spreed signaling_servers --value='%s'"
    hosts.web.check_output(write % json.dumps(strict))
    try:
        yield
    finally:
        hosts.web.check_output(write % kept)


# --- proxies -------------------------------------------------------------------------------------------------------


@contextmanager
def header_changed(hpb, kind: str, header: str, value: str) -> Iterator[None]:
    """Let Traefik change a header of requests or of answers ("Request", "Response"); an empty one is dropped."""
    setting = f'custom{kind}Headers: {{{header}: "{value}"}}'
    hpb.check_output(
        f"cp -a {DYNAMIC} /run/dynamic-kept && "
        f"sed -i 's/^        contentTypeNosniff: true/&\\n        {setting}/' {DYNAMIC} && "
        f"grep -q custom{kind} {DYNAMIC} && sleep 3"
    )
    try:
        yield
    finally:
        hpb.check_output(f"cat /run/dynamic-kept > {DYNAMIC}; rm /run/dynamic-kept; sleep 3")


@fault("the proxy drops the header with the features", ALL, "X-Spreed-Signaling-Features")
def _features(hosts: Hosts) -> Iterator[None]:
    with header_changed(hosts.hpb, "Response", "X-Spreed-Signaling-Features", ""):
        yield


@fault("the proxy does not pass websockets on", ALL, "websocket", "Upgrade")
def _upgrade(hosts: Hosts) -> Iterator[None]:
    with header_changed(hosts.hpb, "Request", "Upgrade", ""):
        yield


# --- the Nextclouds ------------------------------------------------------------------------------------------------

shell(
    "Nextcloud is in maintenance",
    "web",
    f"{NC} maintenance:mode --on",
    f"{NC} maintenance:mode --off",
    "nc",
    "maintenance",
    "--off",
)
for name, wrong in (("by http", "http://nc.example.org"), ("by another name", "https://old.example.org")):
    shell(
        f"Nextcloud calls itself {name}",
        "web",
        f"{NC} config:system:set overwrite.cli.url --value={wrong}",
        f"{NC} config:system:set overwrite.cli.url --value=https://nc.example.org",
        "nc",
        f"overwrite.cli.url is {wrong}",
        "--value=https://nc.example.org",
    )
shell(
    "the clock of a Nextcloud's host is wrong",
    "web",
    # Every program started from now on sees another time; the containers on that host have files of their own.
    "{ dpkg -s libfaketime || { apt-get -q update && apt-get -qy install libfaketime; }; } > /dev/null 2>&1; "
    "echo '+60s' > /etc/faketimerc && ls /usr/lib/*/faketime/libfaketime.so.1 > /etc/ld.so.preload",
    "rm /etc/ld.so.preload /etc/faketimerc",
    "dev_nc, nc",
    "60 s ahead",
    "timedatectl",
)
shell(
    "the Nextcloud's host has a wrong address of the backend",
    "web",
    "cp /etc/hosts /run/hosts && echo '203.0.113.9 talk.example.org' >> /etc/hosts",
    "cat /run/hosts > /etc/hosts",
    "nc",
    "talk.example.org",
    "203.0.113.9",
)


@fault("the backend has a wrong address of a Nextcloud", "test_nc", "test.example.org", "203.0.113.9", "hpb_resolve")
def _address_of_nextcloud(hosts: Hosts) -> Iterator[None]:
    known = json.loads(hosts.hpb.check_output("docker inspect --format '{{json .HostConfig.ExtraHosts}}' signalling"))
    pins = dict(line.split(":", 1) for line in known) | {"test.example.org": "203.0.113.9"}
    changed = play("-e", json.dumps({"hpb_resolve": pins}), playbook="playbooks/deploy.yml")
    try:
        assert changed.returncode == 0, changed.stdout[-3000:]
        yield
    finally:
        assert play(playbook="playbooks/deploy.yml").returncode == 0


SITE = "/etc/nginx/conf.d/nc.example.org.conf"


def before_nextcloud(name: str, line: str, *words: str) -> None:
    """Put a fault into the table that is a line in the web server before a Nextcloud."""
    shell(
        name,
        "web",
        f"cp -a {SITE} /run/site-kept && sed -i '/location . {{/i {line}' {SITE} && nginx -qt && "
        "systemctl reload nginx && sleep 1",
        f"cat /run/site-kept > {SITE}; rm /run/site-kept; systemctl reload nginx; sleep 1",
        "nc",
        *words,
    )


before_nextcloud(
    "something before a Nextcloud asks for a login",
    "location /ocs/v2.php/apps/spreed/api/v3/signaling/backend { return 403; }",
    "answers the HPB 403 with a web page",
    "without a login",
    ADDRESS,
)
before_nextcloud(
    "a proxy keeps the pages of a Nextcloud from the HPB",
    'add_header Content-Security-Policy "default-src https:; connect-src https://nc.example.org" always;',
    "Content-Security-Policy: connect-src https://nc.example.org",
    "add wss://talk.example.org",
)
before_nextcloud(
    "a proxy keeps the pages of a Nextcloud from the camera",
    'add_header Permissions-Policy "camera=(), geolocation=()" always;',
    "Permissions-Policy: camera=()",
    "say self instead of nobody",
)
shell(
    "all PHP workers of a Nextcloud are busy",
    "web",
    "systemctl kill --signal=STOP nextcloud-standin@nc",
    "systemctl kill --signal=CONT nextcloud-standin@nc",
    "nc",
    "takes the connection of talk.example.org, but gives no answer in time",
    "pm.max_children",
)
shell(
    "a Nextcloud delays the backend for wrong secrets",
    "web",
    f'{NC} security:bruteforce:attempts {ADDRESS} > /dev/null && python3 -c "import sqlite3, time; '
    "c = sqlite3.connect('/var/www/nc/data/nextcloud.db'); c.executemany('insert into oc_bruteforce_attempts (action, "
    f"occurred, ip, subnet) values (?, ?, ?, ?)', [('talkSignalingSecret', int(time.time()), '{ADDRESS}', "
    f"'{ADDRESS}/32')] * 9); c.commit()\"",
    f"{NC} security:bruteforce:reset {ADDRESS}",
    "nc",
    f"has counted 9 requests with a wrong secret from {ADDRESS}",
    "The secrets agree now",
    f"/var/www/nc/occ security:bruteforce:reset {ADDRESS}",
)
shell(
    "a Nextcloud takes itself for http",
    "web",
    f"{NC} config:system:set overwriteprotocol --value=",
    f"{NC} config:system:set overwriteprotocol --value=https",
    "nc",
    "takes itself for http",
    "overwriteprotocol --value=https",
)

OLD = "1.2.4"


@fault(
    "the signaling server is too old for Talk",
    "dev_nc, nc, test_nc",
    OLD,
    "federation",
    "hpb_signaling_version to 2.0.0",
    arguments=("-e", f"hpb_signaling_version={OLD}"),
)
def _too_old(hosts: Hosts) -> Iterator[None]:
    # The one that the host's own distribution has, in the image of the newer one.
    hosts.hpb.check_output(
        "rm -rf /run/old && mkdir /run/old && cd /run/old && apt-get -q update > /dev/null && "
        "apt-get -q download nextcloud-spreed-signaling && dpkg-deb --extract *.deb package && "
        "cp package/usr/bin/nextcloud-spreed-signaling-server server && "
        "printf 'FROM %s\\nCOPY server /usr/bin/nextcloud-spreed-signaling\\n' "
        "\"$(docker inspect --format '{{.Config.Image}}' signalling)\" > Dockerfile && "
        f"docker build -q -t strukturag/nextcloud-spreed-signaling:{OLD} ."
    )
    changed = play("-e", f"hpb_signaling_version={OLD}", playbook="playbooks/deploy.yml")
    try:
        assert changed.returncode == 0, changed.stdout[-3000:]
        yield
    finally:
        assert play(playbook="playbooks/deploy.yml").returncode == 0
        hosts.hpb.check_output(f"docker rmi strukturag/nextcloud-spreed-signaling:{OLD}; rm -r /run/old")


# --- the tests -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hosts(hpb, web, other) -> Hosts:
    return Hosts(hpb, web, other)


def findings(tmp_path, *arguments: str) -> list[dict]:
    """Verify, and return all causes that were found."""
    done = play(
        "-e", f"verify_report_dir={tmp_path}", "-e", "verify_seconds=1", *arguments, playbook="playbooks/verify.yml"
    )
    document = json.loads((tmp_path / "report.json").read_text())
    found = document["findings"] + [one for entry in document["instances"] for one in entry["findings"]]
    assert (done.returncode != 0) == any(one["status"] == "failed" for one in found), done.stdout[-6000:]
    return found


def settle(hpb) -> None:
    """Wait until the parts have found each other again: all healthy, and Janus offered to clients."""
    welcome = "wget -q -S -O /dev/null http://127.0.0.1:8080/api/v1/welcome 2>&1"
    hpb.check_output(
        f"for name in {' '.join(SERVICES)}; do for i in $(seq 60); do "
        "[ \"$(docker inspect --format '{{.State.Health.Status}}' $name)\" = healthy ] && break; sleep 1; done; done"
    )
    hpb.check_output(
        f"for i in $(seq 60); do docker exec signalling sh -c '{welcome}' | grep -q mcu && break; sleep 1; done"
    )


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_once_where_it_is(name, hosts, tmp_path):
    wanted = FAULTS[name]
    try:
        with wanted.inject(hosts):
            found = findings(tmp_path, *wanted.arguments)
    finally:
        settle(hosts.hpb)
    print(json.dumps(found, indent=1))
    assert len(found) == 1
    text = " ".join(str(found[0][key]) for key in ("what", "why", "mend"))
    assert sorted(found[0]["instance"].split(", ")) == sorted(wanted.instance.split(", "))
    for word in wanted.words:
        assert word in text


# What the programs log of a wrong secret and of an address that is locked out; coturn's challenge to everybody is none.
REFUSED = re.compile(r"Failed attempt|Detected bruteforce|credentials of user")


def test_a_healthy_backend_has_no_finding_twenty_times(hosts, tmp_path):
    since = hosts.hpb.check_output("date -u +%Y-%m-%dT%H:%M:%SZ")
    for _run in range(20):
        assert findings(tmp_path) == []
    logs = hosts.hpb.check_output(f"for name in {' '.join(SERVICES)}; do docker logs --since {since} $name 2>&1; done")
    assert [line for line in logs.splitlines() if REFUSED.search(line)] == []
