# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The watcher as a real process against small servers: what it sees, and that it tells each change once."""

from __future__ import annotations

import fcntl
import re
import shutil
import time

import pytest
from watch_bed import NAMES, STOPPED, WELL, Bed


@pytest.fixture
def bed(tmp_path):
    return Bed(tmp_path)


def stop_coturn(bed):
    bed.containers(coturn={**STOPPED, "ExitCode": 137})
    bed.coturn.udp_well = False


def start_coturn(bed):
    bed.containers()
    bed.coturn.udp_well = True


def test_all_well_is_told_to_prometheus_only(bed):
    for _period in range(3):
        assert bed.run() == []
    assert (bed.posts, bed.mail_server.letters) == ([], [])
    names = ["docker", "signaling", "nats", "janus", "stun", "turn_tcp", "turn/nc", "certificate/signaling"]
    names += ["nextcloud/nc", "disk", "clock", *(f"container/{name}" for name in NAMES)]
    text = (bed.folder / "metrics/hpb_watch.prom").read_text(encoding="utf-8")
    found = re.findall(r'^hpb_watch_check_ok\{check="(.*)"\} (\d)$', text, re.MULTILINE)
    assert found == sorted((name, "1") for name in names)
    assert bed.metric('hpb_watch_certificate_days{name="signaling"}') == pytest.approx(90, abs=0.1)
    assert bed.metric('hpb_watch_certificate_days{name="nextcloud/nc"}') == pytest.approx(60, abs=0.1)
    assert time.time() - bed.metric("hpb_watch_last_run_timestamp_seconds") < 60
    assert [path.name for path in (bed.folder / "metrics").iterdir()] == ["hpb_watch.prom"]
    assert (bed.mode("metrics/hpb_watch.prom"), bed.mode("state/state.json")) == (0o644, 0o600)
    assert bed.coturn.allocated == bed.coturn.released == 3
    # It takes its leave of Janus as it should be, or Janus would see a connection that broke.
    assert bed.janus.left and set(bed.janus.left) == {b"\x88\x80" + bytes(4)}


def test_a_stopped_coturn_is_one_message_and_its_return_another(bed):
    assert bed.run() == []
    stop_coturn(bed)
    assert bed.run() == [] and bed.posts == []
    assert bed.run() == [
        "<4>container/coturn failed: The container coturn does not run (exited, exit code 137). "
        "To mend it: docker start coturn"
    ]
    (_key, post), (to, letter) = bed.posts[0], bed.mail_server.letters[0]
    assert sorted(post) == ["changes", "host", "text", "time"]
    assert post["host"] == "talk.example.org"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", post["time"])
    assert post["changes"] == [
        {
            "check": "container/coturn",
            "state": "failed",
            "sentence": "The container coturn does not run (exited, exit code 137).",
            "mend": "docker start coturn",
        }
    ]
    assert to == ["admin@example.org"]
    assert "Subject: [talk.example.org] container/coturn: failed\r\n" in letter
    assert "To mend it: docker start coturn" in letter and "To mend it: docker start coturn" in post["text"]
    assert bed.metric('hpb_watch_check_ok{check="container/coturn"}') == 0
    assert bed.metric('hpb_watch_check_ok{check="stun"}') is None

    for _period in range(3):
        assert bed.run() == []
    start_coturn(bed)
    assert bed.run() == []
    assert (len(bed.posts), len(bed.mail_server.letters)) == (1, 1)
    assert bed.run() == ["<5>container/coturn ok: The container coturn is well again, after 1 min."]
    for _period in range(3):
        assert bed.run() == []
    assert (len(bed.posts), len(bed.mail_server.letters)) == (2, 2)
    assert bed.posts[1][1]["changes"][0]["state"] == "ok"


def test_a_container_with_a_prefix_is_told_by_its_name(bed):
    for state in (STOPPED, WELL):
        bed.containers(nats=None, **{"hpb-nats": {**state, "service": "nats"}})
        assert bed.run() == []
        told = bed.run()
    assert told == ["<5>container/nats ok: The container hpb-nats is well again, after 1 min."]


def test_it_stops_between_two_looks_of_one_run(bed):
    """STUN fails already while the container was still seen well: one message all the same."""
    bed.coturn.udp_well = False
    bed.run()
    stop_coturn(bed)
    for _period in range(3):
        bed.run()
    assert bed.changes() == [("container/coturn", "failed")]


def test_what_comes_and_goes_is_not_told(bed):
    for _period in range(3):
        stop_coturn(bed)
        assert bed.run() == []
        start_coturn(bed)
        assert bed.run() == []
    assert bed.posts == []

    stop_coturn(bed)
    bed.run(), bed.run()
    for _period in range(3):
        start_coturn(bed)
        bed.run()
        stop_coturn(bed)
        bed.run()
    assert bed.changes() == [("container/coturn", "failed")]


def test_several_changes_are_one_message(bed):
    bed.features, bed.connections, bed.janus.well = "welcome", 0, False
    bed.run(), bed.run()
    assert bed.changes() == [("signaling", "failed"), ("nats", "failed"), ("janus", "failed")]
    assert len(bed.posts) == len(bed.mail_server.letters) == 1
    assert "Subject: [talk.example.org] 3 changes\r\n" in bed.mail_server.letters[0][1]


def test_what_cannot_be_delivered_is_kept_and_sent_once(bed):
    bed.hook_status, bed.mail_server.well = 500, False
    stop_coturn(bed)
    bed.run()
    assert bed.tries == 0
    lines = bed.run()
    assert lines[1:] == [
        "<4>the mail server takes no message: it answers 421. 1 wait and are sent again in each run.",
        "<4>the webhook takes no message: it answers 500. 1 wait and are sent again in each run.",
    ]
    assert bed.tries == 3
    assert bed.metric("hpb_watch_waiting_messages") == 2
    assert bed.run() == [], "that it still fails is not said again"
    start_coturn(bed)
    bed.run()
    assert len(bed.run()) == 1
    assert bed.metric("hpb_watch_waiting_messages") == 4

    bed.hook_status, bed.mail_server.well = 204, True
    assert bed.run() == [
        "<5>the mail server takes messages again; all that waited were sent.",
        "<5>the webhook takes messages again; all that waited were sent.",
    ]
    assert bed.run() == []
    assert bed.changes() == [("container/coturn", "failed"), ("container/coturn", "ok")]
    assert [("coturn: failed" in text, "coturn: ok" in text) for _to, text in bed.mail_server.letters] == [
        (True, False),
        (False, True),
    ]
    assert bed.metric("hpb_watch_waiting_messages") == 0


def test_a_message_has_one_key_however_often_it_is_sent(bed):
    stop_coturn(bed)
    bed.run(), bed.run()
    start_coturn(bed)
    bed.run(), bed.run()
    keys = [key for key, _post in bed.posts]
    assert len(keys) == len(set(keys)) == 2
    for key, (_to, letter) in zip(keys, bed.mail_server.letters):
        assert f"Message-ID: <{key}@talk.example.org>" in letter


def test_only_those_whose_mail_was_put_off_get_it_again(bed):
    bed.config["mail"]["to"] = ["one@example.org", "two@example.org"]
    bed.mail_server.refuse = {"two@example.org"}
    stop_coturn(bed)
    bed.run(), bed.run(), bed.run()
    assert [to for to, _letter in bed.mail_server.letters] == [["one@example.org"]]
    bed.mail_server.refuse = set()
    bed.run(), bed.run()
    assert [to for to, _letter in bed.mail_server.letters] == [["one@example.org"], ["two@example.org"]]


def test_a_mail_server_that_hangs_up_after_the_letter_gets_it_once(bed):
    bed.mail_server.rude = True
    stop_coturn(bed)
    assert [len(bed.run()) for _period in range(4)] == [0, 1, 0, 0]
    assert len(bed.mail_server.letters) == 1
    assert bed.metric("hpb_watch_waiting_messages") == 0


def test_mail_and_webhook_over_tls(bed):
    context = bed.authority.context("localhost")
    bed.config["mail"].update(host="localhost", starttls=True)
    bed.config["webhook"]["url"] = f"https://localhost:{bed.hook.port}/hook?a=b"
    bed.mail_server.context = bed.hook.context = context
    stop_coturn(bed)
    bed.run(), bed.run()
    assert (len(bed.posts), len(bed.mail_server.letters)) == (1, 1)


@pytest.mark.parametrize("starttls", [True, False])
def test_no_password_and_no_token_for_a_server_without_a_valid_certificate(bed, starttls):
    bed.config["mail"].update(host="localhost", starttls=starttls)
    bed.config["webhook"]["url"] = f"https://localhost:{bed.hook.port}/hook?a=b"
    bed.mail_server.context = bed.hook.context = bed.stranger.context("localhost")
    stop_coturn(bed)
    bed.run()
    lines = bed.run()
    assert (bed.tries, bed.mail_server.letters) == (0, [])
    said = "unable to get local issuer certificate" if starttls else "SMTPNotSupportedError"
    assert lines[1] == (f"<4>the mail server takes no message: {said}. 1 wait and are sent again in each run.")


def served_by(bed, authority, days):
    bed.nextcloud.context = authority.context("nc.example.org", days)


def behind_another_proxy(bed, path="", days=100.0):
    bed.config |= {"containers": [name for name in NAMES if name != "traefik"], "tls": "proxy"}
    bed.names(bed.config["containers"])
    bed.config["signaling"]["url"] += path
    bed.signaling.context = bed.authority.context("talk.example.org", days)


FAULTS = {
    "no mcu": (
        lambda bed: setattr(bed, "features", "welcome"),
        "signaling: The signaling server is not connected to Janus (no mcu among its features). docker restart janus",
    ),
    "another certificate": (
        lambda bed: setattr(bed.signaling, "context", bed.stranger.context("talk.example.org")),
        "signaling: The certificate of https://talk.example.org is not valid (unable to get local issuer certificate). "
        "run the playbook nextcloud_talk.hpb.site",
    ),
    "a certificate of another name": (
        lambda bed: setattr(bed.signaling, "context", bed.authority.context("other.example.org")),
        "signaling: The certificate of https://talk.example.org is not valid (Hostname mismatch, certificate is not "
        "valid for 'talk.example.org'.). run the playbook nextcloud_talk.hpb.site",
    ),
    "a certificate that ends soon": (
        lambda bed: setattr(bed.signaling, "context", bed.authority.context("talk.example.org", 13.2)),
        "certificate/signaling: The certificate of https://talk.example.org ends in 13 days. "
        "run the playbook nextcloud_talk.hpb.site",
    ),
    "not the signaling server": (
        lambda bed: setattr(bed.signaling, "answer", lambda *_words: (502, {}, "Bad Gateway")),
        "signaling: https://talk.example.org/api/v1/welcome answers 502, expected the welcome of the signaling server. "
        "docker logs --tail 50 traefik",
    ),
    "a proxy that was there does not serve the path": (
        lambda bed: behind_another_proxy(bed, "/standalone-signaling"),
        "signaling: https://talk.example.org/standalone-signaling/api/v1/welcome answers 404, expected the welcome of "
        "the signaling server. let your proxy pass on what its file in proxy/ says",
    ),
    "a proxy that was there has a certificate that ends soon": (
        lambda bed: behind_another_proxy(bed, days=13.2),
        "certificate/signaling: The certificate of https://talk.example.org ends in 13 days. renew the certificate of "
        "talk.example.org on your proxy",
    ),
    "NATS without the signaling server": (
        lambda bed: setattr(bed, "connections", 0),
        "nats: The signaling server is not connected to NATS. docker restart signalling",
    ),
    "NATS with a fault": (
        lambda bed: setattr(bed.nats, "answer", lambda *_words: (200, {}, "no JSON")),
        "nats: NATS does not answer (JSONDecodeError). docker restart nats",
    ),
    "Janus refuses": (
        lambda bed: setattr(bed.janus, "well", False),
        "janus: Janus takes no ping on its websocket. docker restart janus",
    ),
    "another TURN secret": (
        lambda bed: setattr(bed.coturn, "secret", "6" * 64),
        "turn/nc: coturn does not know the TURN secret of nc (401). run the playbook nextcloud_talk.hpb.site",
    ),
    "no tcp": (
        lambda bed: bed.coturn.tcp.close(),
        "turn_tcp: coturn takes no connection on tcp port PORT (connection refused). docker restart coturn",
    ),
    "no container": (
        lambda bed: bed.containers(janus=None),
        "container/janus: There is no container janus of the backend. run the playbook nextcloud_talk.hpb.site",
    ),
    "a container of another backend": (
        lambda bed: bed.containers(janus={**WELL, "base": "/elsewhere"}),
        "container/janus: There is no container janus of the backend. run the playbook nextcloud_talk.hpb.site",
    ),
    "only the one that is kept": (
        lambda bed: bed.containers(nats=None, **{"nats-previous": {**STOPPED, "service": "nats"}}),
        "container/nats: There is no container nats of the backend. run the playbook nextcloud_talk.hpb.site",
    ),
    "an unhealthy container with a prefix": (
        lambda bed: bed.containers(
            traefik=None, **{"hpb-traefik": {**WELL, "service": "traefik", "Health": {"Status": "unhealthy"}}}
        ),
        "container/traefik: The container hpb-traefik runs, but its health is: unhealthy. docker restart hpb-traefik",
    ),
    "an unhealthy container": (
        lambda bed: bed.containers(traefik={**WELL, "Health": {"Status": "unhealthy"}}),
        "container/traefik: The container traefik runs, but its health is: unhealthy. docker restart traefik",
    ),
    "a container without health": (
        lambda bed: bed.containers(nats={key: value for key, value in WELL.items() if key != "Health"}),
        "container/nats: The container nats runs, but its health is: none. docker restart nats",
    ),
    "a container that ends again and again": (
        lambda bed: bed.containers(janus={**WELL, "Restarting": True}),
        "container/janus: The container janus ends again and again. docker logs --tail 50 janus",
    ),
    "a paused container": (
        lambda bed: bed.containers(janus={**WELL, "Status": "paused", "Paused": True}),
        "container/janus: The container janus is paused. docker unpause janus",
    ),
    "NATS stopped, and so the signaling server is unhealthy": (
        lambda bed: bed.containers(nats=STOPPED, signalling={**WELL, "Health": {"Status": "unhealthy"}}),
        "container/nats: The container nats does not run (exited, exit code 0). docker start nats",
    ),
    "no Docker": (lambda bed: bed.put("containers", None), "docker: Docker does not answer. systemctl restart docker"),
    "no docker program": (
        lambda bed: bed.config.update(docker="/nowhere/docker"),
        "docker: Docker cannot be asked (no such file or directory). run the playbook nextcloud_talk.hpb.site",
    ),
    "a Nextcloud's certificate ends soon": (
        lambda bed: served_by(bed, bed.authority, 5.3),
        "nextcloud/nc: The certificate of the Nextcloud nc ends in 5 days. renew the certificate on nc.example.org",
    ),
    "a Nextcloud's certificate has ended": (
        lambda bed: served_by(bed, bed.authority, -3.1),
        "nextcloud/nc: The certificate of the Nextcloud nc ended 3 days ago. renew the certificate on nc.example.org",
    ),
    "a Nextcloud's certificate of an unknown CA": (
        lambda bed: served_by(bed, bed.stranger, 100),
        "nextcloud/nc: The certificate of the Nextcloud nc (https://nc.example.org:PORT/cloud) is not valid here "
        "(unable to get local issuer certificate). renew the certificate on nc.example.org, or name its CA in "
        "hpb_ca_files",
    ),
    "a Nextcloud without TLS": (
        lambda bed: setattr(bed.nextcloud, "context", None),
        "nextcloud/nc: The Nextcloud nc speaks no TLS at https://nc.example.org:PORT/cloud (MANY). mend its web server",
    ),
    "a Nextcloud that is off": (
        lambda bed: bed.deployed({"id": "other", "url": "https://nas.example.org:1", "optional": False}),
        "nextcloud/other: The Nextcloud other does not answer at https://nas.example.org:PORT (connection refused). "
        "start its web server, and see that this host reaches it: curl -I https://nas.example.org:PORT",
    ),
    "no space": (
        lambda bed: bed.config.update(disk_free_mb=2**40),
        "disk: BASE has NUMBER MiB of free space, expected 1099511627776. docker builder prune",
    ),
    "a clock": (
        lambda bed: setattr(bed, "ahead", 300.0),
        "clock: The clock of this host is NUMBER s behind that of every Nextcloud that answers. "
        "timedatectl set-ntp true",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_one_sentence_and_a_command(bed, fault):
    prepare, expected = FAULTS[fault]
    prepare(bed)
    bed.run(), bed.run()
    (post,) = (post for _key, post in bed.posts)
    (change,) = post["changes"]
    found = f"{change['check']}: {change['sentence']} {change['mend']}"
    pattern = re.escape(expected).replace("PORT", r"\d+").replace("NUMBER", r"\d+").replace("BASE", r"/\S+")
    assert re.fullmatch(pattern.replace("MANY", ".+"), found), found


def test_a_certificate_that_is_not_trusted_has_days_too(bed):
    bed.signaling.context = bed.stranger.context("talk.example.org", 33)
    bed.nextcloud.context = bed.stranger.context("nc.example.org", 44)
    bed.run()
    assert bed.metric('hpb_watch_certificate_days{name="signaling"}') == pytest.approx(33, abs=0.1)
    assert bed.metric('hpb_watch_certificate_days{name="nextcloud/nc"}') == pytest.approx(44, abs=0.1)


def test_a_certificate_that_ends_after_2050(bed):
    """From then on certificates carry another kind of time."""
    bed.nextcloud.context = bed.authority.context("nc.example.org", 20000)
    bed.run()
    assert bed.metric('hpb_watch_certificate_days{name="nextcloud/nc"}') == pytest.approx(20000, abs=0.1)


@pytest.mark.parametrize("entry", [{"optional": True}, {"optional": False, "register": False}])
def test_an_optional_nextcloud_may_be_off_and_one_of_others_out_of_reach(bed, entry):
    bed.deployed({"id": "nas", "url": "https://nas.example.org:1", **entry})
    for _period in range(3):
        assert bed.run() == []
    assert bed.metric('hpb_watch_check_ok{check="nextcloud/nas"}') is None
    assert bed.metric('hpb_watch_check_ok{check="nextcloud/nc"}') == 1


def test_silent_stun_is_told(bed):
    bed.coturn.udp_well = False
    bed.run(), bed.run()
    assert bed.changes() == [("stun", "failed"), ("turn/nc", "failed")]
    assert bed.posts[0][1]["changes"][0]["sentence"] == (
        f"coturn does not answer STUN on udp port {bed.coturn.port} (no answer in time)."
    )


def test_coturn_with_tls(bed):
    tls = bed.authority.context("turn.example.org", 9.4)
    bed.config["turn"]["tls_port"] = bed.signaling.port
    bed.signaling.context = tls
    bed.run(), bed.run()
    assert ("certificate/turn", "failed") in bed.changes()
    assert bed.metric('hpb_watch_certificate_days{name="turn"}') == pytest.approx(9.4, abs=0.1)


def test_certificate_of_turn_on_443(bed):
    ending = bed.authority.context("turn443.example.org", 9.4)

    def choose(stream, name, context):
        if name == "turn443.example.org":
            stream.context = ending

    bed.signaling.context.sni_callback = choose
    bed.config["turn"]["name_443"] = "turn443.example.org"
    bed.run(), bed.run()
    assert bed.changes() == [("certificate/turn_443", "failed")]
    assert bed.posts[0][1]["changes"][0]["sentence"] == "The certificate of turn443.example.org ends in 9 days."
    assert bed.metric('hpb_watch_certificate_days{name="turn_443"}') == pytest.approx(9.4, abs=0.1)


def test_neither_mail_nor_webhook_nor_metrics(bed):
    bed.config.update(mail=None, webhook=None, textfile_dir="")
    stop_coturn(bed)
    bed.run()
    assert len(bed.run()) == 1
    assert (bed.tries, bed.mail_server.letters, list((bed.folder / "metrics").iterdir())) == (0, [], [])


def test_a_removed_instance_is_forgotten(bed):
    gone = {"id": "other", "url": "https://nas.example.org:1", "optional": False}
    bed.deployed(gone)
    bed.run(), bed.run()
    bed.deployed()
    bed.run(), bed.run()
    assert bed.changes() == [("nextcloud/other", "failed")]
    assert bed.metric('hpb_watch_check_ok{check="nextcloud/other"}') is None


@pytest.mark.parametrize(
    ("prepare", "expected"),
    [
        (
            lambda bed: bed.config.update(ca_files=["/nowhere/ca.pem"]),
            "/nowhere/ca.pem was expected to hold certificates of a CA (PEM) and does not (no such file or directory): "
            "run the playbook nextcloud_talk.hpb.watch.",
        ),
        (
            lambda bed: (bed.folder / "base/deployed.json").write_text("{", encoding="utf-8"),
            "BASE/deployed.json cannot be read (JSONDecodeError): run the playbook nextcloud_talk.hpb.site, then the "
            "playbook watch.",
        ),
        (
            lambda bed: shutil.rmtree(bed.folder / "state"),
            "FileNotFoundError, no such file or directory (STATE/lock).",
        ),
        (
            lambda bed: bed.config.pop("nats"),
            "the configuration has no nats: run the playbook nextcloud_talk.hpb.watch.",
        ),
    ],
)
def test_only_a_broken_watcher_is_a_failed_unit(bed, prepare, expected):
    prepare(bed)
    (bed.folder / "config.json").write_text("{}", encoding="utf-8")
    process = bed.start()
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (1, "")
    expected = expected.replace("BASE", str(bed.folder / "base")).replace("STATE", str(bed.folder / "state"))
    assert out == f"<3>The watcher cannot work: {expected}\n"


def test_a_damaged_state_is_begun_anew(bed):
    (bed.folder / "state/state.json").write_text("{", encoding="utf-8")
    (line,) = bed.run()
    assert "state.json cannot be read" in line and "begun anew" in line
    assert bed.run() == []


def test_a_second_run_at_the_same_time_ends(bed):
    with (bed.folder / "state/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        assert bed.run() == ["<5>Another run of the watcher is under way; this one ends."]
    assert bed.run() == []
