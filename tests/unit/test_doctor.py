# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The doctor's judgement: one row for each cause, with evidence that was recorded from a real backend.

`data/doctor.json` was recorded with three instances, once healthy and once for each fault that stops a program or shuts
a port. The other faults are the healthy record with what the fault changes in it; the probe's words are asked of it.
"""

from __future__ import annotations

import copy
import datetime
import json
import re
import socket
import ssl
from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.nextcloud_talk.hpb.plugins.filter import diagnose as diagnose_filter
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import (
    _doctor,
    _holders,
    _probe,
    _setup_check,
    _user,
)
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._talk_client import Unwanted
from test_ports import USUAL as PORTS

RECORDED = json.loads((Path(__file__).parent / "data" / "doctor.json").read_text(encoding="utf-8"))
HOST = "talk.example.org"
IDS = ("dev_nc", "nc", "test_nc")
URLS = {"dev_nc": "https://dev.example.org", "nc": "https://nc.example.org", "test_nc": "https://test.example.org"}
GOOD_CHECK = {"available": True, "ok": True, "sentence": ""}
DAY = 86400


class Scene:
    """The evidence of one verification, healthy unless `name` says which recorded fault; methods bring in others."""

    def __init__(self, name: str = "healthy") -> None:
        recorded = copy.deepcopy(RECORDED[name])
        self.report, self.inspection = recorded["report"], recorded["inspection"]
        self.now = self.inspection["time"]
        # The screen share takes the way of the direct call; it came after the record was made.
        rows = self.report["results"]
        rows += [{**row, "step": "screen", "name": "screen share"} for row in rows if row["step"] == "direct"]
        self.context = {
            "url": f"https://{HOST}",
            "domain": HOST,
            "turn_server": "turn.example.org:3478",
            "public_ip": "",
            # Not known in a run that does not deploy; coturn's configuration has it.
            "media_ip": "",
            "hpb_host": HOST,
            "tls": "acme",
            "resolve": {},
            "time": self.now,
            "instances": [
                {
                    "id": id_,
                    "url": URLS[id_],
                    "urls": [URLS[id_]],
                    "host": URLS[id_].removeprefix("https://"),
                    "check": dict(GOOD_CHECK),
                    "nextcloud": {"maintenance": False, "needs_upgrade": False, "overwrite_cli_url": URLS[id_]},
                    "talk": {"signaling_servers": [{"server": f"https://{HOST}", "verify": True}]},
                }
                for id_ in IDS
            ],
        }
        self.reaches = [
            {
                "id": id_,
                "host": URLS[id_].removeprefix("https://"),
                "addresses": ["192.0.2.10"],
                "own_addresses": ["172.17.0.1", "192.0.2.22" if id_ == "test_nc" else "192.0.2.21"],
                "own_name_addresses": ["192.0.2.22" if id_ == "test_nc" else "192.0.2.21"],
                "failed_at": "",
                "kind": "",
                "text": "",
                "certificate": {"kind": "", "text": ""},
                "welcome": {"status": 200, "features": ["mcu"]},
                "request": {"status": 200, "features": ["mcu"]},
                "seconds_off": 0.2,
            }
            for id_ in IDS
        ]

    def instance(self, id_: str) -> dict:
        return next(item for item in self.context["instances"] if item["id"] == id_)

    def reach(self, id_: str) -> dict:
        return next(item for item in self.reaches if item["id"] == id_)

    def fail(self, instance: str, step: str, verdict: _probe.Verdict) -> None:
        """Let a step have this verdict of the probe, and the screen share that of the direct call."""
        (row,) = (row for row in self.report["results"] if (row["instance"], row["step"]) == (instance, step))
        row.update(verdict.record(instance, step))
        if step == "direct":
            self.fail(instance, "screen", verdict)

    def fail_all(self, step: str, verdict: _probe.Verdict) -> None:
        for id_ in IDS:
            self.fail(id_, step, verdict)

    def check_fails(self, sentence: str, *ids: str) -> None:
        for id_ in ids or IDS:
            self.instance(id_)["check"] = {"available": True, "ok": False, "sentence": sentence}

    def stop_at(self, step: str, kind: str, text: str = "", *ids: str, **others) -> None:
        """Let the way of Nextclouds to the backend end at a step."""
        for id_ in ids or IDS:
            self.reach(id_).update(failed_at=step, kind=kind, text=text, **others)

    def findings(self) -> list[_doctor.Finding]:
        return _doctor.diagnose(self.report, self.inspection, self.reaches, self.context)


def certificate_error(code: int, message: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError()
    error.verify_code, error.verify_message = code, message
    return error


def hello_error(id_: str, message: str) -> _probe.Verdict:
    return _probe.hello(URLS[id_], "internal_error", message)


# --- faults that were not recorded ---------------------------------------------------------------------------------


def nats_down_at_start(scene):
    """The signaling server started without NATS waits for it, so the proxy reaches nothing."""
    scene.inspection["containers"]["nats"].update(state="exited", exit_code=1)
    scene.inspection["containers"]["signalling"].update(health="starting", log=["waiting for NATS"])
    scene.inspection["signalling"].update(status=0, error="refused", upgrade="refused", features=[])
    scene.inspection["nats"].update(healthz=0, error="refused", connections=-1)
    scene.fail("all", "welcome", _probe.welcome(f"https://{HOST}", 502, b"", None))
    scene.check_fails("Talk was answered 502 by the signaling server.")
    scene.stop_at("welcome", "status", "502")


def wrong_backend_secret(scene):
    scene.fail("nc", "hello", _probe.hello(URLS["nc"], "invalid_request", ""))


def wrong_backend_secret_in_two(scene):
    wrong_backend_secret(scene)
    scene.fail("dev_nc", "hello", _probe.hello(URLS["dev_nc"], "invalid_request", ""))


def server_has_another_secret(scene):
    scene.fail("nc", "request", _probe.request(URLS["nc"], 403))
    scene.stop_at("request", "status", "403", "nc", request={"status": 403, "features": ["mcu"]})


def killed_for_memory(scene):
    scene.inspection["containers"]["janus"].update(state="exited", exit_code=137, oom_killed=True)
    scene.fail_all("direct", _probe.no_description("offer", "timeout", ""))


def others_have_its_ports(name, process, *ports, container=""):
    """A container of ours is stopped, and another program or container listens where it would."""

    def build(scene):
        scene.inspection["containers"][name].update(state="exited", exit_code=0)
        image = f"{container}:2" if container else ""
        holder = _holders.Holder(process, container, image, "shop" if container else "")._asdict()
        scene.inspection["held"] = {"holders": dict.fromkeys(ports, holder), "busy": [*ports, "tcp/22"]}
        scene.context["used_ports"] = PORTS
        if name == "traefik":
            scene.fail("all", "welcome", _probe.bad_certificate(certificate_error(62, "Hostname mismatch"), HOST))
            scene.inspection["certificate"] = {"kind": "wrong_name", "names": ["www.example.org"], "not_after": 0}
        else:
            scene.fail_all("direct", _probe.no_description("offer", "timeout", ""))

    return build


def janus_started(after: float, before: float = 5):
    """Janus was started so many seconds after the signaling server, and before the verification began."""

    def build(scene):
        for name, ago in (("janus", before), ("signalling", before + after)):
            moment = datetime.datetime.fromtimestamp(scene.now - ago, datetime.timezone.utc)
            scene.inspection["containers"][name]["started_at"] = moment.strftime("%Y-%m-%dT%H:%M:%S.%f123Z")
        scene.fail_all("direct", _probe.no_description("offer", "client_not_found", ""))

    return build


def crash_loop(scene):
    scene.inspection["containers"]["coturn"].update(state="restarting", exit_code=255, log=["ERROR Bad configuration"])
    scene.inspection["coturn"].update(stun="refused", tcp="refused")


def coturn_for_443_stopped(scene):
    scene.inspection["containers"]["coturn443"] = {"state": "exited", "exit_code": 1, "log": []}
    for id_ in IDS:
        verdict = _probe.no_allocation("turn443.example.org:443", "443", "connection reset", {})
        scene.report["results"].append(verdict.record(id_, "turn-443"))


def turn_certificate(days=60.0, names=("turn.example.org",), error="", allocate="certificate"):
    """What coturn shows on its port for TLS, and calls over that which fail."""

    def build(scene):
        shown = {"names": list(names), "not_after": 0 if error else scene.now + days * DAY, "error": error}
        shown["kind"] = "tls" if error else ""
        scene.inspection["coturn"].update(realm="turn.example.org", tls_port=5349, certificate=shown)
        evidence = {"turn": {"allocate": allocate}}
        for id_ in IDS if allocate else ():
            verdict = _probe.no_allocation("turn.example.org:5349", "tls", allocate, evidence)
            scene.report["results"].append(verdict.record(id_, "turn-tls"))

    return build


def turn_name_leads_elsewhere(scene):
    """To another address of the host, at which coturn does not listen."""
    scene.inspection["coturn"].update(listening="192.0.2.10", stun="", tcp="")
    evidence = {"turn": {"server": "192.0.2.99", "allocate": "refused"}}
    for protocol in ("udp", "tcp"):
        scene.fail_all(f"turn-{protocol}", _probe.no_allocation("turn.example.org:3478", protocol, "refused", evidence))


def turn_name_leads_to_the_floating_address(scene):
    turn_name_leads_elsewhere(scene)
    scene.inspection["addresses"] = ["192.0.2.10", "192.0.2.99"]


def proxied(turn="192.0.2.10"):
    """The name of the signaling server leads to a proxy in the internet, which passes nothing on, and that for TURN."""

    def build(scene):
        scene.context.update(cdn=["203.0.113.0/24"], media_ip="192.0.2.10", turn_server="turn.example.org:3478")
        for id_ in IDS:
            scene.reach(id_)["addresses"] = ["203.0.113.7"]
        evidence = {"ice": "checking", "remote": ["host 192.0.2.10:20100"]}
        if turn == "192.0.2.10":
            scene.fail_all("direct", _probe.no_path("direct", "", "publisher", evidence))
        evidence = {**evidence, "turn": {"server": turn, "allocate": "timeout"}}
        for protocol in ("udp", "tcp"):
            verdict = _probe.no_allocation("turn.example.org:3478", protocol, "timeout", evidence)
            scene.fail_all(f"turn-{protocol}", verdict)

    return build


def proxied_and_not_passed_on(scene):
    scene.context.update(cdn=["203.0.113.0/24"])
    scene.stop_at("status", "status", "522", "nc", addresses=["203.0.113.7"])
    scene.check_fails("Talk cannot connect to the signaling server.", "nc")


def hosts_file_of_the_nextcloud(scene):
    scene.stop_at("tcp", "refused", "", "nc", addresses=["127.0.1.1"])
    scene.check_fails("Talk cannot connect to the signaling server.", "nc")


def missing_container(scene):
    scene.inspection["containers"]["traefik"]["state"] = "missing"
    scene.fail("all", "welcome", _probe.unreachable(ConnectionRefusedError(), HOST))
    scene.stop_at("tcp", "refused")
    scene.check_fails("Talk cannot connect to the signaling server.")


def with_policy(state, *names):
    """Somebody has stopped containers by hand, or only seen to it that they do not come back."""

    def fault(scene):
        for name in names:
            scene.inspection["containers"][name].update(state=state, restart_policy="no", exit_code=0)

    return fault


def nats_paused(scene):
    """All calls of the only Nextcloud are all right: one signaling server alone hears itself."""
    scene.inspection["containers"]["nats"].update(state="paused")
    scene.inspection["nats"].update(healthz=0, error="timeout", connections=-1)


def nats_stopped_in_its_container(scene):
    scene.inspection["nats"].update(healthz=0, error="timeout", connections=-1)


def serverinfo_without_nats(scene):
    scene.inspection["signalling"]["serverinfo"] = {"nats": {"urls": ["nats://127.0.0.1:4222"], "connected": False}}


def janus_hangs(scene):
    scene.inspection["janus"]["upgrade"] = "timeout"
    scene.fail_all("direct", _probe.no_description("offer", "timeout", ""))


def nats_given_up(scene):
    scene.inspection["nats"]["connections"] = 0
    scene.fail_all("direct", _probe.no_description("offer", "timeout", ""))


def janus_given_up(scene):
    scene.inspection["signalling"]["features"].remove("mcu")
    body = b'{"nextcloud-spreed-signaling": "Welcome", "version": "2.0.2"}'
    scene.fail("all", "welcome", _probe.welcome(f"https://{HOST}", 200, body, "welcome,hello-v2"))


def serverinfo_without_janus(scene):
    scene.inspection["signalling"]["serverinfo"] = {"sfu": {"mode": "janus", "janus": {"connected": False}}}


def engine_dead(scene):
    scene.inspection.update(engine_error="Cannot connect to the Docker daemon", containers={})
    scene.fail("all", "welcome", _probe.unreachable(ConnectionRefusedError(), HOST))


def wrong_public_address(scene):
    scene.context.update(public_ip="198.51.100.9")
    scene.inspection["janus"]["mapping"] = "198.51.100.9"
    scene.inspection["coturn"]["external"] = "198.51.100.9/192.0.2.10"
    evidence = {"ice": "checking", "remote": ["host 198.51.100.9:20100"]}
    scene.fail_all("direct", _probe.no_path("direct", "", "publisher", evidence))


def missing_public_address(scene):
    """Behind NAT: the host's own address is private, and clients are told that one."""
    scene.context.update(media_ip="10.0.0.5")
    scene.inspection.update(addresses=["10.0.0.5"])
    for id_ in IDS:
        scene.reach(id_)["addresses"] = ["198.51.100.7"]
    evidence = {"ice": "checking", "remote": ["host 10.0.0.5:20100"]}
    scene.fail_all("direct", _probe.no_path("direct", "", "publisher", evidence))
    turn = {**evidence, "turn": {"allocate": "ok", "bind": "403"}}
    scene.fail_all("turn-udp", _probe.no_path("turn-udp", "turn.example.org:3478", "publisher", turn))


def wrong_cli_url(scene):
    scene.instance("nc")["nextcloud"]["overwrite_cli_url"] = "https://old.example.org"


def misspelt_url(scene):
    """The inventory's address leads nowhere, or to the Nextcloud that does not answer to it."""
    facts = scene.instance("nc")["nextcloud"]
    scene.instance("nc").update(url="https://nc.odd.example", urls=["https://nc.odd.example"])
    facts.update(trusted_domains=["nc.example.org"])
    scene.fail("nc", "hello", hello_error("nc", "no such host"))
    scene.check_fails("Talk says something.", "nc")
    scene.inspection["nextclouds"]["nc"] = {"url": "https://nc.odd.example", "inside": {"kind": "name"}}


def misspelt_further_url(scene):
    misspelt_url(scene)
    scene.instance("nc").update(url=URLS["nc"], urls=[URLS["nc"], "https://www.odd.example"])


def http_cli_url(scene):
    scene.instance("nc")["nextcloud"]["overwrite_cli_url"] = "http://nc.example.org"


def foreign_servers(*urls):
    def fault(scene):
        scene.instance("nc")["talk"]["signaling_servers"][:0] = [{"server": url, "verify": True} for url in urls]

    return fault


def turn_in_talk(*servers):
    def fault(scene):
        entries = [{"schemes": "turn", "server": server, "protocols": "udp,tcp"} for server in servers]
        scene.instance("nc")["talk"]["turn_servers"] = entries

    return fault


def foreign_server_only(scene):
    scene.instance("nc")["talk"]["signaling_servers"] = [{"server": "https://hpb-old.example.org", "verify": True}]


def foreign_server_that_talk_calls_an_error(scene):
    foreign_servers("https://hpb-old.example.org")(scene)
    said = _setup_check.judge("error", "Defining multiple High-performance backends is deprecated").plain()
    scene.instance("nc")["check"] = {"available": True, **said}


def http_in_talk(scene):
    scene.instance("nc")["talk"]["signaling_servers"][0]["server"] = f"http://{HOST}"


def expired(scene):
    scene.inspection["certificate"].update(not_after=scene.now - 3 * DAY)
    scene.fail("all", "welcome", _probe.unreachable(certificate_error(10, "certificate has expired"), HOST))
    scene.check_fails("The certificate has expired.")
    scene.stop_at("tls", "expired", "certificate has expired", certificate={"kind": "expired", "text": ""})


def expired_just_now(scene):
    expired(scene)
    scene.inspection["certificate"].update(not_after=scene.now - 300)


def expired_at_a_proxy_elsewhere(scene):
    expired(scene)
    scene.inspection["certificate"].update(names=[], not_after=0.0, error="Connection refused", kind="other")


def wrong_name(scene):
    scene.inspection["certificate"].update(names=["old.example.org"])
    scene.fail("all", "welcome", _probe.unreachable(certificate_error(62, "Hostname mismatch"), HOST))
    scene.stop_at("tls", "wrong_name", certificate={"kind": "wrong_name", "text": ""})
    scene.check_fails("Talk cannot connect to the signaling server.")


def unknown_ca_at_nextcloud(scene):
    scene.stop_at("tls", "unknown_ca", "unable to get local issuer certificate", "nc")
    scene.check_fails("Talk cannot connect to the signaling server.", "nc")


def unknown_ca_at_hpb(scene):
    said = "x509: certificate signed by unknown authority"
    scene.fail("nc", "hello", hello_error("nc", said))
    scene.inspection["nextclouds"]["nc"]["tls"] = {"kind": "unknown_ca", "text": "unable to get local issuer"}


def hpb_clock(scene):
    scene.inspection["time"] += 60
    for id_ in IDS:
        scene.reach(id_)["seconds_off"] = -60.1
    scene.check_fails("The clocks differ.")


def too_old_for_all(scene):
    """Only instances after the first have a step that compares them with the one before."""
    for id_ in IDS:
        scene.fail(id_, "features", _probe.features("22.0.0", "1.2.4", ["mcu", "hello-v2"]))
    scene.report["results"].append(_probe.failed("They do not hear each other.", "Look.").record("nc", "isolation"))


def nextcloud_clock(scene):
    scene.reach("nc")["seconds_off"] = 61.0
    scene.check_fails("The clocks differ.", "nc")


def clock_of_two_nextclouds_on_one_machine(scene):
    nextcloud_clock(scene)
    scene.reach("dev_nc")["seconds_off"] = 60.9


def unknown_ca_of_all_at_hpb(scene):
    for id_ in IDS:
        scene.fail(id_, "hello", hello_error(id_, "x509: certificate signed by unknown authority"))
        scene.inspection["nextclouds"][id_]["tls"] = {"kind": "unknown_ca", "text": "unable to get local issuer"}


def maintenance_as_user(scene):
    scene.instance("nc")["nextcloud"]["maintenance"] = True
    as_user(scene, "user-settings", _user.unwanted(USER, Unwanted("settings", 503)))


def controller_clock(scene):
    scene.context["time"] += 4000
    for id_ in IDS:
        scene.reach(id_)["seconds_off"] = 0.3
    scene.fail_all(
        "turn-udp", _probe.no_allocation("turn.example.org:3478", "udp", "401", {"turn": {"allocate": "401"}})
    )


def features_dropped(scene):
    body = b'{"nextcloud-spreed-signaling": "Welcome", "version": "2.1.1"}'
    scene.fail("all", "welcome", _probe.welcome(f"https://{HOST}", 200, body, None))
    scene.check_fails("The signaling server must be updated.")
    scene.stop_at("welcome", "features")


def features_dropped_on_post(scene):
    scene.stop_at("request", "features")


def no_upgrade(scene):
    scene.fail("all", "websocket", _probe.no_websocket(426, HOST))


def too_old(scene):
    verdict = _probe.features("22.0.0", "1.2.4", ["audio-video-permissions", "hello-v2", "incall-all", "switchto"])
    scene.fail_all("features", verdict)
    scene.check_fails("The signaling server must be updated.")


def full(scene):
    scene.inspection["signalling"]["sessions"]["dev_nc"].update(sessions=5, refused=2)


def in_maintenance(scene):
    scene.instance("nc")["nextcloud"]["maintenance"] = True
    scene.fail("nc", "hello", hello_error("nc", "unsupported content type"))
    scene.check_fails("Nextcloud is in maintenance mode.", "nc")


def in_maintenance_seen_from_the_hpb(scene):
    scene.inspection["nextclouds"]["nc"]["inside"].update(status=503, maintenance=True, nextcloud=False)
    scene.fail("nc", "hello", hello_error("nc", "unsupported content type"))


def dns_of_hpb_wrong(scene):
    scene.stop_at("tcp", "timeout", "", "nc", addresses=["203.0.113.9"])
    scene.check_fails("Talk cannot connect to the signaling server.", "nc")


def dns_of_hpb_missing(scene):
    scene.stop_at("name", "name", "Name or service not known", addresses=[])
    scene.check_fails("Talk cannot connect to the signaling server.")


def dns_of_nextcloud_missing(scene):
    inside = scene.inspection["nextclouds"]["nc"]["inside"]
    inside.update(kind="name", status=0, address="", text="bad address 'nc.example.org'", nextcloud=False)
    scene.fail("nc", "hello", hello_error("nc", "dial tcp: lookup nc.example.org: no such host"))


def dns_of_nextcloud_wrong(scene):
    inside = scene.inspection["nextclouds"]["nc"]["inside"]
    inside.update(kind="timeout", status=0, address="203.0.113.9", text="download timed out", nextcloud=False)
    scene.inspection["nextclouds"]["nc"]["tls"] = {"kind": "timeout", "text": "timed out"}
    scene.fail("nc", "hello", hello_error("nc", "context deadline exceeded"))


def nextcloud_firewalled(scene):
    inside = scene.inspection["nextclouds"]["nc"]["inside"]
    inside.update(kind="refused", status=0, text="can't connect to remote host (192.0.2.21): Connection refused")
    scene.fail("nc", "hello", hello_error("nc", "connect: connection refused"))


def hpb_firewalled(scene):
    scene.stop_at("tcp", "timeout", "", "nc", "dev_nc")
    scene.check_fails("Talk cannot connect to the signaling server.", "nc", "dev_nc")


def asked(scene, id_="nc", **answer):
    """Let the HPB's host get this answer where a Nextcloud should be; the certificate there holds."""
    whole = {"stage": "", "kind": "", "text": "", "seconds": 0.1, "status": 412, "type": "application/json"}
    whole.update(location="", title="", headers={}, marks=["ocs"])
    scene.inspection["nextclouds"][id_]["answer"] = {**whole, **answer}
    return scene.inspection["nextclouds"][id_]


NO_JSON = "unsupported_content_type"
LATE = "context deadline exceeded"


def page_of(status, **answer):
    """A page where Talk should answer."""

    def build(scene):
        asked(scene, status=status, type="text/html", marks=[], **answer)
        scene.fail("nc", "hello", hello_error("nc", NO_JSON))

    return build


def login_by_redirect(scene):
    asked(scene, status=302, type="", marks=[], location="https://auth.example.org/login")
    scene.fail("nc", "hello", hello_error("nc", 'Post "https://nc.example.org/": not redirecting to different host'))


def behind_a_cdn(scene):
    """Each one who asks is given another choice of the CDN's addresses, and a rule there refuses the HPB."""
    page_of(403, title="Attention Required! | Cloudflare")(scene)
    scene.inspection["nextclouds"]["nc"]["inside"].update(address="198.51.100.3", status=403, nextcloud=False)
    scene.reach("nc")["own_name_addresses"] = ["198.51.100.1"]
    scene.context["cdn"] = ["198.51.100.0/24"]


def behind_several_addresses(scene):
    page_of(401)(scene)
    scene.inspection["nextclouds"]["nc"]["inside"].update(address="198.51.100.3", status=401, nextcloud=False)
    scene.reach("nc")["own_name_addresses"] = ["198.51.100.1", "198.51.100.2"]


def untrusted_name(scene):
    page_of(400)(scene)
    scene.inspection["nextclouds"]["nc"]["answer"]["marks"] = ["untrusted"]
    scene.instance("nc")["nextcloud"]["trusted_domains"] = ["localhost", "old.example.org"]


def stuck(stage, kind="timeout", text="timed out"):
    """A Nextcloud that takes the connection."""

    def build(scene):
        evidence = asked(scene, stage=stage, kind=kind, text=text, status=0, type="", marks=[])
        evidence["inside"].update(kind="timeout", status=0, text="download timed out", nextcloud=False)
        evidence["tls"] = {"kind": kind, "text": text} if stage == "tls" else {"kind": "", "text": ""}
        scene.fail("nc", "hello", hello_error("nc", LATE))

    return build


def counted(number, address="192.0.2.10", agrees=True, message=LATE, **facts):
    """A Nextcloud that has counted wrong secrets."""

    def build(scene):
        asked(scene)
        scene.instance("nc")["nextcloud"].update(facts)
        scene.instance("nc")["occ"] = "docker exec -u 33 app php /var/www/html/occ"
        if number:
            scene.instance("nc")["attempts"] = {"counted": {address: number}, "secret_matches": agrees}
        scene.inspection["signalling"]["configured"] = 1796083200.0
        scene.fail("nc", "hello", hello_error("nc", message))

    return build


def wrong_secret_that_counts(scene):
    wrong_backend_secret(scene)
    scene.instance("nc")["attempts"] = {"counted": {"192.0.2.10": 3}, "secret_matches": False}


def takes_itself_for_http(scene):
    page = {"status": 302, "location": "http://nc.example.org/login", "headers": {}}
    scene.inspection["nextclouds"]["nc"]["page"] = page
    scene.instance("nc")["nextcloud"]["overwriteprotocol"] = ""


def policy_of_a_proxy(**headers):
    """Headers of the Nextcloud's pages."""

    def build(scene):
        kept = {name.replace("_", "-"): [value] for name, value in headers.items()}
        scene.inspection["nextclouds"]["nc"]["page"] = {"status": 200, "location": "", "headers": kept}

    return build


def own_name(federating=2, **found):
    """How the signaling server reaches its own name."""

    def build(scene):
        for id_ in IDS[:federating]:
            scene.instance(id_)["talk"]["federation"] = True
        whole = {
            "inside": {"kind": "", "status": 200, "address": "192.0.2.10", "text": ""},
            "tls": {"kind": "", "text": ""},
            "answer": {"stage": "", "kind": "", "status": 200, "marks": ["welcome"]},
        }
        for part, values in found.items():
            whole[part].update(values)
        scene.inspection["own_name"] = whole

    return build


def backend_stuck(step):
    """The HPB takes the connection of a Nextcloud and does not answer."""

    def build(scene):
        scene.stop_at(step, "timeout", "timed out", "nc")
        scene.check_fails("Talk cannot connect to the signaling server.", "nc")

    return build


def controller_throttled(scene):
    scene.fail("nc", "request", _probe.request(URLS["nc"], 429))


def nextcloud_throttled(scene):
    scene.stop_at("request", "status", "429", "nc", request={"status": 429, "features": []})


def stopped_here(rule, *ports, kind="nftables", family="ipv4"):
    """What a rule of the HPB's own host stops."""
    stops = [{"ports": text, "family": family, "rule": rule} for text in ports]
    return {"programs": ["nft"], "kind": kind, "stops": stops}


REJECT = "input: reject with icmp type host-prohibited"
ALL_PORTS = ("udp 20000-29999", "udp 3478", "tcp 3478", "udp 61000-65535", "tcp 443")


def cloud_image(*ports, kind="nftables"):
    """A host that lets in SSH and what is named here, and refuses all else."""

    def build(scene):
        closed = [text for text in ALL_PORTS if text not in ports]
        scene.inspection["firewall"] = stopped_here(REJECT, *closed, kind=kind)
        evidence = {"ice": "checking", "remote": ["host 192.0.2.10:20100"]}
        if "udp 20000-29999" in closed:
            scene.fail_all("direct", _probe.no_path("direct", "", "publisher", evidence))
        for protocol in ("udp", "tcp"):
            if f"{protocol} 3478" in closed:
                turn = {"turn": {"allocate": "timeout"}}
                verdict = _probe.no_allocation("turn.example.org:3478", protocol, "timeout", turn)
                scene.fail_all(f"turn-{protocol}", verdict)

    return build


def https_stopped(scene):
    scene.inspection["firewall"] = stopped_here("policy of INPUT: drop", "tcp 443", kind="ufw")
    scene.fail("all", "welcome", _probe.unreachable(TimeoutError(), HOST))
    scene.stop_at("tcp", "timeout")
    scene.check_fails("Talk cannot connect to the signaling server.")


def https_rejected_for_nextclouds(scene):
    scene.inspection["firewall"] = stopped_here(REJECT, "tcp 443")
    scene.stop_at("tcp", "unreachable", "", "nc")
    scene.check_fails("Talk cannot connect to the signaling server.", "nc")


def turn_tls_stopped(scene):
    scene.inspection["coturn"]["tls_port"] = 5349
    scene.inspection["firewall"] = stopped_here("policy of input: drop", "tcp 5349")
    for id_ in IDS:
        evidence = {"turn": {"allocate": "timeout"}}
        verdict = _probe.no_allocation("turn.example.org:5349", "tls", "timeout", evidence)
        scene.report["results"].append(verdict.record(id_, "turn-tls"))


def media_over_ipv6_stopped(scene):
    stopped = stopped_here("-A INPUT -p udp -j DROP", "udp 20000-29999", kind="iptables", family="ipv6")
    scene.inspection["firewall"] = stopped
    evidence = {"ice": "checking", "remote": ["host [2001:db8::10]:20100"]}
    for id_ in IDS:
        scene.reach(id_)["addresses"].append("2001:db8::10")
        verdict = _probe.no_path("direct-ipv6", "", "publisher", evidence)
        scene.report["results"].append(verdict.record(id_, "direct-ipv6"))


OPEN = dict.fromkeys(_probe.CLOSED_PATHS, 404)


def events_taken(proxy, statuses=None):
    def build(scene):
        target = "http://192.0.2.10:8084"
        scene.context.update(proxy=proxy, proxy_dir="/opt/hpb/proxy", proxy_target=target)
        scene.fail("all", "closed", _probe.closed(statuses or OPEN, (101, True), "2.1.1"))

    return build


def metrics_for_all(scene):
    scene.context.update(proxy="haproxy", proxy_dir="/opt/hpb/proxy")
    scene.fail("all", "closed", _probe.closed({**OPEN, "/metrics": 200}, (404, False), "2.1.1"))


def name_unknown_to_the_controller(scene):
    scene.fail("all", "welcome", _probe.unreachable(socket.gaierror(), HOST))


def nobody_knows(scene):
    scene.fail("nc", "hello", _probe.hello(URLS["nc"], "strange_code", ""))
    scene.inspection["containers"]["signalling"]["log"] = ["client.go:1: something strange failed"]


def seen_by_talk_alone(scene):
    scene.check_fails("Talk has two signaling servers, expected one.", "nc")


def recorded(name):
    """Return the scene of a recorded fault."""
    return lambda: Scene(name)


def made(fault):
    """Return the healthy scene with a fault."""

    def build():
        scene = Scene()
        fault(scene)
        return scene

    return build


DEPLOY = "nextcloud_talk.hpb.deploy"

# cause, instance, words of the reason, words of the remedy
TABLE = [
    (recorded("coturn"), "coturn-down", "all", "coturn is stopped (code 137).", f"On {HOST}: docker start coturn"),
    (recorded("nats"), "nats-down", "all", "nats is stopped (code 0).", f"On {HOST}: docker start nats"),
    (made(nats_down_at_start), "nats-down", "all", "nats is stopped (code 1).", "docker start nats"),
    (recorded("janus"), "janus-down", "all", "janus is stopped (code 0).", "docker start janus"),
    (recorded("signalling"), "signalling-down", "all", "signalling is stopped", "docker start signalling"),
    (recorded("traefik"), "traefik-down", "all", "traefik is stopped", "docker start traefik"),
    (made(killed_for_memory), "janus-down", "all", "killed for want of memory", "Raise janus_memory"),
    (made(others_have_its_ports("traefik", "apache2", "tcp/80", "tcp/443")), "traefik-down", "all",
     "traefik is stopped (code 0), and apache2 has its ports now.",
     "set traefik_enabled: false and hpb_proxy: apache for the group hpb; the run then writes what belongs into its "
     "configuration, and says where. Where ours is to have them again, stop what has them and run"),
    (made(others_have_its_ports("janus", "docker-proxy", "tcp/8188", container="media")), "janus-down", "all",
     "janus is stopped (code 0), and the container media (image media:2, of the compose project shop) has its ports",
     "set hpb_janus_port: 8189 for the group hpb"),
    # Those of another program of ours say nothing about this one.
    (made(others_have_its_ports("janus", "apache2", "tcp/443")), "janus-down", "all", "janus is stopped (code 0).",
     f"On {HOST}: docker start janus"),
    (made(janus_started(600)), "janus-back", "all", "Janus was started 5 s before this verification, and the signaling "
     "server comes back to it within 40 s.", "verify again in half a minute, or on talk.example.org: docker restart"),
    (made(crash_loop), "coturn-down", "all", "ends again and again right after its start (code 255)", "its log says"),
    (made(coturn_for_443_stopped), "coturn443-down", "all", "coturn443 is stopped (code 1)", "docker start coturn443"),
    (made(turn_name_leads_elsewhere), "turn-address", "all",
     "leads to 192.0.2.99 on the controller, where nothing listens: coturn is at 192.0.2.10", "the DNS of turn"),
    (made(turn_name_leads_to_the_floating_address), "turn-address", "all",
     "leads to 192.0.2.99 on the controller, where nothing listens: coturn is at 192.0.2.10",
     f"Set hpb_media_ip: 192.0.2.99 for the group hpb, then run ansible-playbook -i inventory {DEPLOY}"),
    (made(proxied()), "only-443", "all", f"Only 443 is open between the controller and {HOST}", "open udp+tcp 3478"),
    (made(proxied("203.0.113.7")), "turn-proxied", "all",
     "turn.example.org leads to 203.0.113.7, a proxy of a CDN, which passes on neither TURN nor media.",
     'Give turn.example.org a DNS record without the proxy ("DNS only") that leads to 192.0.2.10'),
    (made(proxied_and_not_passed_on), "hpb-answer", "nc", "answers nc.example.org with 522", "Look at the proxy"),
    (made(hosts_file_of_the_nextcloud), "dns-hpb", "nc", "leads to 127.0.1.1 on nc.example.org",
     "Remove the line of talk.example.org from /etc/hosts of nc.example.org, so that DNS is asked"),
    (made(turn_certificate(-2)), "turn-certificate-expired", "all", "TLS has expired for 2 days", "port 80"),
    (made(turn_certificate(3, allocate="")), "turn-certificate-soon", "all", "TLS ends in 3 days", "port 80"),
    (made(turn_certificate(names=["talk.example.org"])), "turn-certificate-name", "all",
     "is for talk.example.org, not for turn.example.org", "Correct hpb_turn_domain"),
    (made(turn_certificate(error="no shared cipher", allocate="no tls")), "turn-certificate-missing", "all",
     "no certificate to speak TLS with on port 5349", "systemctl start nextcloud-talk-hpb-turn-certificate"),
    (made(missing_container), "traefik-down", "all", "The container traefik of the backend does not exist", DEPLOY),
    (made(with_policy("exited", "janus")), "janus-down", "all",
     "janus is stopped (code 0), and its restart policy is no, so it stays so after a boot.",
     f"On {HOST}: docker update --restart always janus && docker start janus"),
    (made(with_policy("running", "janus")), "restart-policy", "all", "The restart policy of janus is no, expected",
     f"deploy, or on {HOST}: docker update --restart always janus"),
    (made(with_policy("running", "nats", "janus")), "restart-policy", "all", "policy of nats and janus is no,",
     "nats janus"),
    (made(nats_paused), "nats-down", "all", "nats is paused.", f"On {HOST}: docker unpause nats"),
    (made(nats_stopped_in_its_container), "nats-down", "all", "nats runs, but does not answer", "docker restart nats"),
    (made(serverinfo_without_nats), "nats-lost", "all", "not connected to NATS", "docker restart signalling"),
    (made(janus_hangs), "janus-down", "all", "takes no websocket on 127.0.0.1:8188", "docker restart janus"),
    (made(nats_given_up), "nats-lost", "all", "not connected to NATS although NATS runs", "docker restart signalling"),
    (made(janus_given_up), "janus-lost", "all", "not connected to Janus", "docker restart signalling"),
    (made(serverinfo_without_janus), "janus-lost", "all", "not connected to Janus", "docker restart signalling"),
    (made(engine_dead), "engine-down", "all", "Cannot connect to the Docker daemon", "systemctl restart docker"),
    (recorded("rtp"), "rtp-range", "all", "stops udp 20000-29999", "--dport 20000:29999 -j DROP"),
    (recorded("turnudp"), "turn-udp-blocked", "all", "stops udp 3478", "open udp 3478"),
    (recorded("only443"), "only-443", "all", "Only 443 is open", "udp+tcp 3478, udp 20000-29999, udp 61000"),
    (made(cloud_image("tcp 443")), "only-443", "all", "Only 443 is open",
     f"In the firewall of {HOST} itself ({REJECT}): open udp+tcp 3478, udp 20000-29999, udp 61000-65535, or let us do "
     "it: hpb_firewall: nftables and ansible-playbook -i inventory nextcloud_talk.hpb.firewall"),
    (made(cloud_image("tcp 443", "udp 3478", "tcp 3478", kind="iptables")), "rtp-range", "all", "stops udp 20000-29999",
     f"In the firewall of {HOST} itself ({REJECT}): open udp 20000-29999"),
    (made(https_stopped), "host-firewall", "all", f"A rule of {HOST} itself stops tcp 443.", "(policy of INPUT: drop)"),
    (made(https_rejected_for_nextclouds), "host-firewall", "all", "itself stops tcp 443.", REJECT),
    (made(turn_tls_stopped), "host-firewall", "all", "itself stops tcp 5349.", "open tcp 5349, or let us do it"),
    (made(media_over_ipv6_stopped), "rtp-range", "all", "no media reaches Janus at 2001:db8::10",
     "itself (-A INPUT -p udp -j DROP): open udp 20000-29999"),
    (recorded("turnsecret"), "turn-secret", "nc", "does not have the instance's TURN secret", DEPLOY),
    (made(wrong_backend_secret), "backend-secret", "nc", "another backend secret", "register -e instance=nc"),
    (made(wrong_backend_secret_in_two), "backend-secret", "dev_nc, nc", "another backend secret", "instance=dev_nc,nc"),
    (made(server_has_another_secret), "backend-secret-hpb", "nc", "than the secrets file", "deploy -e instance=nc"),
    (made(wrong_public_address), "public-address", "all", "come to 198.51.100.9, but", "Remove hpb_public_ip"),
    (made(missing_public_address), "public-address", "all", "come to 10.0.0.5, but", "Set hpb_public_ip: 198.51.100.7"),
    (made(wrong_cli_url), "cli-url", "nc", "https://old.example.org, which the signaling server does not know",
     "overwrite.cli.url --value=https://nc.example.org"),
    (made(misspelt_url), "talk-url", "nc", "has it at https://nc.odd.example, but the Nextcloud calls itself https://nc.",
     f"Set talk_url: https://nc.example.org for it in the inventory, then run {_doctor.RUN}deploy"),
    (made(misspelt_further_url), "talk-url", "nc", "has it at https://www.odd.example, but", "Correct talk_urls of nc"),
    (made(http_cli_url), "cli-url-http", "nc", "with http instead of https", "--value=https://nc.example.org"),
    (made(foreign_servers("https://hpb-old.example.org")), "foreign-signaling", "nc",
     "Talk has https://hpb-old.example.org as signaling server beside ours. A call for which it picks",
     "On nc.example.org: occ talk:signaling:delete https://hpb-old.example.org, or set talk_exclusive: true for it and "
     f"run {_doctor.RUN}register -e instance=nc"),
    (made(foreign_servers("https://a.example.org", "https://b.example.org/x/")), "foreign-signaling", "nc",
     "Talk has https://a.example.org and https://b.example.org/x/ as signaling servers beside ours.",
     "occ talk:signaling:delete https://a.example.org && occ talk:signaling:delete https://b.example.org/x/, or set"),
    (made(turn_in_talk()), "turn-not-in-talk", "nc", "Talk does not have our TURN server turn.example.org:3478, so who",
     f"Run {_doctor.RUN}register -e instance=nc"),
    (made(turn_in_talk("turn.old.example:3478")), "turn-not-in-talk", "nc",
     "Talk does not have our TURN server turn.example.org:3478 (it has turn.old.example:3478), so", "register"),
    (made(foreign_server_only), "foreign-signaling", "nc",
     "Talk has https://hpb-old.example.org as signaling server and not ours, so no call", "register -e instance=nc"),
    (made(foreign_server_that_talk_calls_an_error), "foreign-signaling", "nc", "beside ours", "talk:signaling:delete"),
    (made(http_in_talk), "signaling-http", "nc", f"http://{HOST}, without encryption", "register -e instance=nc"),
    (made(expired_just_now), "certificate-expired", "all", "has expired for 5 minutes.", "docker restart traefik"),
    (made(expired), "certificate-expired", "all", "has expired for 3 days", "docker restart traefik"),
    (made(expired_at_a_proxy_elsewhere), "certificate-expired", "all", "has expired.", "port 80"),
    (made(wrong_name), "certificate-name", "all", "is for old.example.org", "hpb_domain"),
    (made(unknown_ca_at_nextcloud), "ca-at-nextcloud", "nc", "unknown on nc.example.org", "certificates:import"),
    (made(unknown_ca_at_hpb), "ca-at-hpb", "nc", "does not know the authority", "hpb_ca_files"),
    (made(too_old_for_all), "signaling-too-old", "dev_nc, nc, test_nc", "1.2.4", "hpb_signaling_version"),
    (made(hpb_clock), "clock", "all", f"The clock of {HOST} is 60 s ahead", f"On {HOST}: timedatectl"),
    (made(nextcloud_clock), "clock", "nc", "nc.example.org is 61 s ahead", "On nc.example.org: timedatectl"),
    (
        made(clock_of_two_nextclouds_on_one_machine),
        "clock",
        "dev_nc, nc",
        "The clock of its host dev.example.org is 61 s ahead",
        "On dev.example.org: timedatectl",
    ),
    (
        made(unknown_ca_of_all_at_hpb),
        "ca-at-hpb",
        "dev_nc, nc, test_nc",
        "certificates of dev.example.org, nc.example.org, test.example.org",
        "hpb_ca_files",
    ),
    (made(maintenance_as_user), "maintenance", "nc", "in maintenance mode", "maintenance:mode --off"),
    (made(controller_clock), "clock-controller", "all", "controller is 4000 s ahead", "On the controller"),
    (made(features_dropped), "proxy-features", "all", "drops the header X-Spreed", "proxy_hide_header"),
    (made(features_dropped_on_post), "proxy-features", "all", "from answers to POST", "pass on all headers"),
    (made(events_taken("own")), "event-door", "all", "subprotocol janus-events is taken, expected 404: by it whoever",
     f"Run {_doctor.RUN}deploy, which gives our Traefik its routes anew, and let {HOST} lead to it and nothing else"),
    (made(events_taken("nginx")), "event-door", "all", "ends the signaling server with one message.",
     "writes /opt/hpb/proxy/nginx.conf anew, then let your proxy read that, and nothing beside it: nginx -t && "),
    (made(events_taken("apache")), "event-door", "all", "is taken", "/proxy/apache.conf anew, then let your proxy"),
    (made(events_taken("caddy")), "event-door", "all", "is taken", "/proxy/caddy.conf anew, then let your proxy"),
    (made(events_taken("haproxy")), "event-door", "all", "is taken", "anew, then let your proxy read that, and"),
    (made(events_taken("traefik")), "event-door", "all", "is taken", "its file provider: put traefik.yml there again"),
    (made(events_taken("traefik_labels")), "event-door", "all", "is taken", "the container signalling its labels anew"),
    (made(events_taken("", {**OPEN, "/metrics": 403})), "event-door", "all", "is taken",
     "writes the files in /opt/hpb/proxy anew, then let your proxy take its own and reload it"),
    (made(events_taken("", {**OPEN, "/metrics": 403})), "event-door", "all", "is taken",
     "for one that takes no file, such as Nginx Proxy Manager, set hpb_proxy: form"),
    (made(events_taken("form", {**OPEN, "/metrics": 403})), "event-door", "all", "is taken",
     f"Let your proxy pass {HOST} on to http://192.0.2.10:8084, our Traefik, and nowhere else, see /opt/hpb/proxy/"),
    (made(events_taken("caddy", {**OPEN, "/metrics": 200})), "event-door", "all",
     "/metrics answers 200, expected 404 from outside. A websocket", "systemctl reload caddy"),
    (made(metrics_for_all), "private-paths", "all", "/metrics answers 200, expected 404 from outside.",
     "systemctl reload haproxy"),
    (made(no_upgrade), "proxy-websocket", "all", "does not pass on the websocket", "proxy_set_header Upgrade"),
    (made(too_old), "signaling-too-old", "dev_nc, nc, test_nc", "federation", DEPLOY),
    (made(full), "session-limit", "dev_nc", "in use (5 of 5)", "Raise talk_session_limit of dev_nc"),
    (made(in_maintenance), "maintenance", "nc", "in maintenance mode", "occ maintenance:mode --off"),
    (made(in_maintenance_seen_from_the_hpb), "maintenance", "nc", "in maintenance", "maintenance:mode --off"),
    (made(dns_of_hpb_wrong), "dns-hpb", "nc", "leads to 203.0.113.9 on nc.example.org, but the HPB is at 192.0.2.10",
     "DNS or /etc/hosts of nc.example.org"),
    (made(dns_of_hpb_missing), "dns-hpb", "dev_nc, nc, test_nc", "not resolve on dev.example.org, nc.example.org",
     "an address in the DNS of dev.example.org"),
    (made(dns_of_nextcloud_missing), "dns-nextcloud", "nc", "cannot resolve the name nc.example.org", "hpb_resolve"),
    (made(dns_of_nextcloud_wrong), "dns-nextcloud", "nc", "leads to 203.0.113.9 for talk.example.org, but the "
     "Nextcloud is at 192.0.2.21", "hpb_resolve: {nc.example.org: 192.0.2.21}"),
    (made(nextcloud_firewalled), "nextcloud-unreachable", "nc", "(192.0.2.21) refuses the connection", "open TCP 443"),
    (made(hpb_firewalled), "hpb-unreachable", "dev_nc, nc", "not answer dev.example.org, nc.example.org", "TCP 443"),
    (made(controller_throttled), "throttled", "all", "address of the controller (429)", "Wait half an hour"),
    (made(nextcloud_throttled), "throttled", "nc", "its host nc.example.org (429)", "Wait half an hour"),
    (made(page_of(403)), "access-page", "nc", "https://nc.example.org answers the HPB 403 with a web page, where Talk "
     "answers in JSON: something before the Nextcloud asks for a login.", "without a login, or all that comes"),
    (made(page_of(200, title="Log in")), "access-page", "nc", '200 with a web page ("Log in")',
     "spreed/ and /ocs/v2.php"),
    (made(page_of(503, title="Just a moment...")), "access-page", "nc", "(a challenge of Cloudflare)", "(192.0.2.10)"),
    (made(login_by_redirect), "access-page", "nc", "sends the HPB on to auth.example.org (302)", "without a login"),
    (made(behind_a_cdn), "access-page", "nc", "403 with a web page (a rule of Cloudflare)", "without a login"),
    (made(behind_several_addresses), "access-page", "nc", "401 with a web page", "without a login"),
    (made(page_of(404)), "nextcloud-path", "nc", "so /ocs/ does not come to a Nextcloud there", "Correct talk_url"),
    (made(page_of(502)), "nextcloud-error", "nc", "nc.example.org answers 502", "Look at the log of the Nextcloud"),
    (made(page_of(503, headers={"x-nextcloud-maintenance-mode": ["1"]})), "maintenance", "nc", "maintenance", "--off"),
    (made(untrusted_name), "trusted-domain", "nc", "at nc.example.org, which is no trusted domain",
     "On nc.example.org: occ config:system:set trusted_domains 2 --value=nc.example.org"),
    (made(stuck("answer")), "nextcloud-busy", "nc", "(192.0.2.21) takes the connection of talk.example.org, but gives",
     "pm.max_children"),
    (made(stuck("answer", "other", "Remote end closed connection")), "nextcloud-cut-off", "nc",
     "ends it without an answer (Remote end closed connection)", "On nc.example.org: look at the log of its web"),
    (made(stuck("tls")), "nextcloud-no-tls", "nc", "but TLS does not come about in time", "MTU"),
    (made(stuck("tls", "tls", "wrong version number")), "nextcloud-no-tls", "nc", "not speak TLS as expected (wrong",
     "serve HTTPS on that port"),
    (made(stuck("connect")), "nextcloud-unreachable", "nc", "(192.0.2.21) does not answer.", "open TCP 443 there"),
    (made(backend_stuck("welcome")), "hpb-no-answer", "nc", "takes the connection of nc.example.org, but gives no",
     "docker stats"),
    (made(backend_stuck("request")), "hpb-no-answer", "nc", "takes the connection of nc.example.org", "docker stats"),
    (made(backend_stuck("tls")), "hpb-no-answer", "nc", "TLS does not come about in time", "MTU"),
    (made(counted(9)), "brute-force", "nc", "has counted 9 requests with a wrong secret from 192.0.2.10 in 12 "
     "hours, so its brute force protection lets the HPB wait 25 s for each answer, which waits 10 s. The secrets agree "
     "now, so these came before (those of the HPB are of 2026-12-01 00:00 UTC).",
     "On nc.example.org: docker exec -u 33 app php /var/www/html/occ security:bruteforce:reset 192.0.2.10"),
    (made(counted(6, agrees=False)), "brute-force", "nc", "wait 6.4 s for each answer, which waits 10 s. Talk holds "
     "another backend secret than the HPB.", "register -e instance=nc. Then on nc.example.org: docker exec"),
    (made(counted(12, "172.18.0.4", trusted_proxies=["10.0.0.1"])), "brute-force", "nc", "It takes everybody who comes "
     "through the proxy 172.18.0.4 for one, as trusted_proxies does not name it.",
     "occ config:system:set trusted_proxies 1 --value=172.18.0.4. Then on nc.example.org: docker exec -u 33 app"),
    (made(counted(11, message="throttled OCS response")), "brute-force", "nc", "protection refuses the HPB (429)",
     "security:bruteforce:reset 192.0.2.10"),
    (made(counted(0, message="throttled OCS response")), "brute-force", "nc", "refuses the HPB (429), after too many",
     "trusted_proxies 0 --value=ADDRESS_OF_THE_PROXY. Then on nc.example.org: docker exec -u 33 app php "
     "/var/www/html/occ security:bruteforce:reset 192.0.2.10"),
    (made(wrong_secret_that_counts), "backend-secret", "nc", "another backend secret",
     "register -e instance=nc. Then on nc.example.org: occ security:bruteforce:reset 192.0.2.10"),
    (made(name_unknown_to_the_controller), "as-seen", "all", "does not resolve on the controller", "hpb_resolve"),
    (made(nobody_knows), "unknown", "nc", "expected invalid_ticket. The cause is not known.", "Look at the"),
    (made(seen_by_talk_alone), "as-seen", "nc", "two signaling servers", ""),
]  # fmt: skip


@pytest.mark.parametrize("servers", [("turn.example.org:3478",), ("turn.old.example:3478", "TURN.example.org:3478")])
def test_turn_servers_of_others_beside_ours_are_nobodys_business(servers):
    assert made(turn_in_talk(*servers))().findings() == []


@pytest.mark.parametrize("fault", [nats_paused, nats_stopped_in_its_container, nats_given_up, serverinfo_without_nats])
@pytest.mark.parametrize("ids", [("nc",), IDS])
def test_nats_is_looked_at_even_where_all_calls_are_all_right(fault, ids):
    """With one Nextcloud and no user no call may show it, and the run fails all the same."""
    scene = made(fault)()
    scene.report["results"] = [row for row in Scene().report["results"] if row["instance"] in ("all", *ids)]
    scene.context["instances"] = [scene.instance(id_) for id_ in ids]
    assert not [row for row in scene.report["results"] if row["status"] == _probe.FAILED]
    (finding,) = scene.findings()
    assert (finding.cause[:5], finding.status, finding.what) == ("nats-", _probe.FAILED, "NATS")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (None, "Correct the DNS or /etc/hosts of nc.example.org"),
        (
            "203.0.113.9",
            "Correct or remove the line of talk.example.org in /etc/hosts of nc.example.org, which answers",
        ),
        (
            "",
            "Correct the DNS record of talk.example.org as nc.example.org is told it; its /etc/hosts does not say that",
        ),
    ],
)
def test_which_of_the_two_has_answered_for_a_name(line, words):
    scene = Scene()
    dns_of_hpb_wrong(scene)
    if line is not None:
        scene.reach("nc")["hosts_file"] = line
    (finding,) = scene.findings()
    assert finding.mend.startswith(words)


def test_which_of_the_two_has_answered_for_a_nextcloud():
    scene = Scene()
    dns_of_nextcloud_wrong(scene)
    scene.inspection["nextclouds"]["nc"]["hosts_file"] = "203.0.113.9"
    (finding,) = scene.findings()
    assert finding.mend.startswith(
        f"Correct or remove the line of nc.example.org in /etc/hosts of {HOST}, which answers"
    )


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "1 minute"),
        (-5, "1 minute"),
        (300, "5 minutes"),
        (7199, "120 minutes"),
        (7200, "2 hours"),
        (40 * 3600, "40 hours"),
        (2 * DAY, "2 days"),
        (13.6 * DAY, "14 days"),
    ],
)
def test_how_long_something_lasts(seconds, words):
    assert _doctor.lasting(seconds) == words


@pytest.mark.parametrize(
    ("log", "seen"),
    [
        (["Traefik version 3.5 built on 2025", "Starting provider *file.Provider"], ""),
        (["level=error Unable to obtain ACME certificate", "Starting"], "log of traefik: level=error Unable to obtain"),
    ],
)
def test_of_the_proxys_log_a_certificate_shows_what_speaks_of_it(log, seen):
    scene = Scene()
    expired(scene)
    scene.inspection["containers"]["traefik"]["log"] = log
    (finding,) = scene.findings()
    assert finding.seen.startswith(seen) and bool(finding.seen) == bool(seen)


@pytest.mark.parametrize(("build", "cause", "instance", "why", "mend"), TABLE)
def test_no_sentence_begins_in_the_middle(build, cause, instance, why, mend):
    (finding,) = build().findings()
    assert not re.search(r"(?:[Tt]hen|or|and|:) On ", finding.sentence.split(": ", 1)[1].replace(finding.why, "", 1))


@pytest.mark.parametrize(("build", "cause", "instance", "why", "mend"), TABLE)
def test_one_fault_is_one_finding(build, cause, instance, why, mend):
    (finding,) = build().findings()
    assert (finding.cause, finding.instance) == (cause, instance)
    assert why in finding.why
    assert mend in finding.mend
    place = "HPB" if instance == "all" else instance
    assert finding.sentence == f"{place}, {finding.what}: {finding.why} {finding.mend}"
    assert finding.what and finding.step


WARNINGS = [
    (takes_itself_for_http, "overwriteprotocol", "nc", "Asked by https, the Nextcloud takes itself for http, so the",
     "On nc.example.org: occ config:system:set overwriteprotocol --value=https"),
    (policy_of_a_proxy(content_security_policy="connect-src 'self'"), "csp", "nc", "connect-src 'self', with which no",
     "add wss://talk.example.org to its connect-src"),
    (policy_of_a_proxy(permissions_policy="camera=()"), "permissions-policy", "nc", "Permissions-Policy: camera=(),",
     "say self instead of nobody"),
    (own_name(1, inside={"kind": "timeout"}), "own-name", "all", "does not reach its own name talk.example.org at",
     "Set hpb_resolve: {talk.example.org: 192.0.2.10}"),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "cause", "instance", "why", "mend"), WARNINGS)
def test_what_no_call_has_shown_is_a_warning(fault, cause, instance, why, mend):
    (finding,) = made(fault)().findings()
    assert (finding.cause, finding.instance, finding.status) == (cause, instance, "warning")
    assert why in finding.why and mend in finding.mend


@pytest.mark.parametrize(
    ("fault", "why", "mend"),
    [
        (
            own_name(inside={"kind": "name"}),
            "cannot resolve its own name",
            "hpb_resolve: {talk.example.org: 192.0.2.10}",
        ),
        (
            own_name(inside={"kind": "refused"}),
            "does not reach its own name talk.example.org at 192.0.2.10",
            "hpb_resolve",
        ),
        (own_name(answer={"stage": "answer"}), "does not reach its own name", "hpb_resolve"),
        (
            own_name(tls={"kind": "wrong_name", "text": "Hostname mismatch"}),
            "(192.0.2.10: Hostname mismatch)",
            "hpb_res",
        ),
        (
            own_name(tls={"kind": "unknown_ca", "text": "self-signed"}, answer={}),
            "does not trust who answers",
            "hpb_resol",
        ),
        (own_name(answer={"marks": []}), "finds something else than itself by its own name", "hpb_resolve"),
    ],
)
def test_the_backend_must_reach_itself_where_its_nextclouds_call_each_other(fault, why, mend):
    (finding,) = made(fault)().findings()
    assert (finding.cause, finding.instance, finding.status) == ("own-name", "all", "failed")
    assert why in finding.why and "federation" in finding.why and mend in finding.mend


def test_the_backends_own_authority_comes_with_a_deployment():
    fault = own_name(tls={"kind": "unknown_ca", "text": "self-signed"})
    scene = made(fault)()
    scene.context["tls"] = "private_ca"
    assert "deploy, which gives it the certificate of its own CA" in scene.findings()[0].mend


@pytest.mark.parametrize("fault", [own_name(), own_name(0, inside={"kind": "timeout"})])
def test_a_backend_that_reaches_itself_or_need_not(fault):
    assert made(fault)().findings() == []


def test_a_nextcloud_that_takes_itself_for_http_explains_calls_that_fail():
    scene = Scene()
    takes_itself_for_http(scene)
    as_user(scene, "user-call", _user.unwanted(USER, Unwanted("call", 500)))
    (finding,) = scene.findings()
    assert (finding.cause, finding.status, finding.step) == ("overwriteprotocol", "failed", "user-call")


def test_what_config_php_says_already_is_not_advised():
    scene = Scene()
    takes_itself_for_http(scene)
    scene.instance("nc")["nextcloud"]["overwriteprotocol"] = "https"
    assert scene.findings() == []


@pytest.mark.parametrize(("number", "stage"), [(3, ""), (9, "answer")])
def test_the_protection_is_not_blamed_for_what_it_does_not_do(number, stage):
    """A short delay, and a Nextcloud that does not answer what is not delayed either."""
    scene = made(counted(number))()
    scene.inspection["nextclouds"]["nc"]["answer"].update(stage=stage, kind="timeout" if stage else "")
    assert [item.cause for item in scene.findings()] == ["nextcloud-busy" if stage else "as-seen"]


def test_no_finding_is_without_a_mend():
    scenes = [build() for build, *_rest in TABLE] + [made(fault)() for fault, *_rest in WARNINGS]
    for scene in scenes:
        for finding in scene.findings():
            assert finding.why.strip() and finding.mend.strip(), finding
    case = _doctor.Case({}, {}, [], {})
    case.found("any", [], "Something is wrong.", "", instance="all", step="server", what="it")
    assert case.findings[0].mend == _doctor.LAST_RESORT


def test_nothing_is_found_where_all_is_well():
    assert Scene().findings() == []


def test_a_good_certificate_of_coturn_is_no_cause():
    scene = Scene()
    turn_certificate(allocate="")(scene)
    assert scene.findings() == []


def test_coturn_on_a_private_network_of_dockers_is_reached_by_an_address_of_the_host():
    scene = Scene()
    turn_name_leads_elsewhere(scene)
    scene.inspection["coturn"]["listening"] = "172.20.0.2"
    assert "turn-address" not in [finding.cause for finding in scene.findings()]


def test_a_certificate_for_days_is_no_cause_where_few_days_are_usual():
    scene = Scene()
    turn_certificate(days=3, allocate="")(scene)
    assert [finding.cause for finding in scene.findings()] == ["turn-certificate-soon"]
    scene.context["certificate_days"] = 2
    assert scene.findings() == []


@pytest.mark.parametrize(("profile", "family"), [("bridge", "ipv4"), ("host", "ipv6")])
def test_a_rule_is_not_blamed_where_it_is_not_asked(profile, family):
    """What Docker publishes passes the rules of the host by, and those for IPv6 stop no call over IPv4."""
    scene = Scene("rtp")
    scene.context["profile"] = profile
    scene.inspection["firewall"] = stopped_here(REJECT, "udp 20000-29999", family=family)
    (finding,) = scene.findings()
    assert finding.mend.startswith(f"In the firewall before {HOST}, or of the controller's network: open udp 20000")
    assert f"no rule on {HOST} itself stops them" in finding.seen


def test_nothing_is_found_without_any_evidence():
    assert _doctor.diagnose({}, {}, [], {}) == []


def test_what_the_probe_says_stays_where_the_host_cannot_be_asked():
    scene = Scene("coturn")
    scene.inspection = {"unreachable": True, "msg": "no route to host"}
    scene.reaches = [{"unreachable": True, "id": "nc", "host": "nc.example.org"}]
    findings = scene.findings()
    assert {finding.cause for finding in findings} == {"as-seen"}
    assert findings[0].instance == "dev_nc, nc, test_nc"
    assert findings[0].why == "Nothing listens for TURN on turn.example.org:3478."
    assert f"{HOST} could not be inspected: no route to host" in findings[0].seen


def test_the_same_cause_in_several_instances_is_one_finding():
    scene = Scene()
    evidence = {"turn": {"allocate": "401"}}
    scene.fail_all("turn-udp", _probe.no_allocation("turn.example.org:3478", "udp", "401", evidence))
    assert [(item.cause, item.instance) for item in scene.findings()] == [("turn-secret", "dev_nc, nc, test_nc")]


def test_two_faults_are_two_findings():
    scene = Scene("coturn")
    wrong_backend_secret(scene)
    assert [item.cause for item in scene.findings()] == ["coturn-down", "backend-secret"]


@pytest.mark.parametrize("step", ["name", "tcp", "tls", "welcome"])
def test_talks_own_word_counts_more_than_what_its_host_sees(step):
    """The host of a Nextcloud in a container may lack a name or an authority that the container has."""
    scene = Scene()
    scene.stop_at(step, "unknown_ca", "", "nc")
    assert scene.findings() == []
    scene.instance("nc")["check"] = {"available": False, "ok": True, "sentence": "too old"}
    assert [item.instance for item in scene.findings()] == ["nc"]


def test_a_difference_of_clocks_that_talk_takes_is_none():
    scene = Scene()
    scene.inspection["time"] += 40
    scene.reach("nc")["seconds_off"] = -44.0
    assert scene.findings() == []


def as_user(scene, step, verdict):
    """Let one instance be verified as a user, too, and a step of that fail."""
    scene.report["results"].append(verdict.record("nc", step))


USER = {"id": "nc", "url": URLS["nc"], "user": "alice"}


@pytest.mark.parametrize("off", [-61.0, 61.0])
def test_a_token_that_is_refused_for_its_time_is_explained_by_the_clock(off):
    scene = Scene()
    scene.reach("nc")["seconds_off"] = off
    code = "token_expired" if off < 0 else "token_not_valid_yet"
    as_user(scene, "user-hello-v2", _user.hello(USER, code, ""))
    assert [(item.cause, item.instance) for item in scene.findings()] == [("clock", "nc")]


@pytest.mark.parametrize(
    ("step", "verdict", "mend"),
    [
        ("user-settings", _user.unwanted(USER, Unwanted("settings", 401)), "talk_verify_password"),
        ("user-hello-v2", _user.hello(USER, "invalid_token", ""), "occ talk:signaling:verify-keys --update"),
        (
            "user-turn",
            _user.call_failed(USER, "udp", ("turn", "url"), "publisher", {"turn": {"allocate": "401"}}),
            "playbook register",
        ),
    ],
)
def test_what_only_a_user_meets_keeps_its_own_cause(step, verdict, mend):
    scene = Scene()
    as_user(scene, step, verdict)
    (finding,) = scene.findings()
    assert (finding.cause, finding.step, finding.why) == ("as-seen", step, verdict.cause)
    assert mend in finding.mend


def test_the_log_of_what_is_down_is_evidence():
    (finding,) = Scene("signalling").findings()
    assert "log of signalling: " in finding.seen and "ended 2026-" in finding.seen


def test_the_filter_returns_plain_data_and_refuses_what_is_none():
    scene = Scene("coturn")
    (plain,) = diagnose_filter.diagnose(scene.report, scene.inspection, scene.reaches, scene.context)
    assert set(plain) == {"cause", "instance", "step", "what", "why", "mend", "seen", "status", "sentence", "more"}
    json.dumps(plain)
    with pytest.raises(AnsibleFilterError, match="given list for inspection, expected a dictionary"):
        diagnose_filter.diagnose({}, [], [], {})


def test_a_call_in_chromium_fails_for_the_reasons_of_the_probes_own():
    rows = [
        {"instance": "nc", "step": step, "name": step, "status": "failed", "seen": "", "cause": "", "remedy": ""}
        for step in ("direct", "browser", "turn-udp", "browser-turn-udp", "chromium")
    ]
    case = _doctor.Case({"results": rows}, {}, [], {})
    assert [row["step"] for row in case.failed("direct")] == ["direct", "browser"]
    assert [row["step"] for row in case.failed(*_doctor.CALLS)] == [row["step"] for row in rows[:-1]]


@pytest.mark.parametrize("fault", [janus_started(600, 60), janus_started(-20)])
def test_a_janus_that_the_server_has_had_time_for_is_no_excuse(fault):
    assert "janus-back" not in {finding.cause for finding in made(fault)().findings()}
