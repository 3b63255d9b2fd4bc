#!/usr/bin/python
# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Place real calls through the backend and say what works."""

from __future__ import annotations

DOCUMENTATION = r"""
module: call_probe
short_description: Prove the High Performance Backend with real calls
version_added: 0.1.0
description:
  - Talks to the signaling server from where it runs, as clients do, and places real calls with aiortc. It asks for its
    welcome, for paths and a websocket (for Janus' events) that must not be public, sends a signed request and a hello
    with a made-up ticket for each instance, then lets two peers per path exchange sound and picture through Janus,
    directly and over TURN only. In direct calls a text goes through a data channel too, and each instance gets a screen
    share.
  - Peers of each instance and of the one before it in the list join rooms of one name, and must not see or hear each
    other.
  - With O(instances[].user) it also does as that user's browser. It asks the Nextcloud what Talk tells the user, says
    hello by the ticket and by the token that Talk gives, and places calls in a conversation of the user's own, whose
    both ends are the user, directly and with the TURN credentials that Talk hands out. The conversation is removed
    again, also when the call fails or the module is told to end. One that was left all the same bears a name that
    begins with C(Test call of nextcloud_talk.hpb), and the next run removes it.
  - A wrong password is tried once. Nextcloud makes an address wait that has tried some.
  - It never causes a failed authentication while everything is right and O(negative) is not set, and tries nothing
    again that was refused, since the signaling server locks an address out after ten refusals.
  - With O(browser), two peers in a headless Chromium exchange sound and picture in the same ways, with the camera in
    three layers (simulcast) as Talk's web client offers it there; who watches chooses the smallest, then the largest.
  - Names of the proxy environment (C(https_proxy) and the like) are not used, as media does not pass such proxies.
  - Run it on the controller or on any machine from which calls should work, with the Python that has the libraries.
requirements:
  - aiortc 1.9 or newer
  - websockets 13 or newer
  - Chromium, where O(browser) is set
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
attributes:
  check_mode:
    support: full
    description: Does nothing and says so, since calls cannot prove what is not deployed yet.
  diff_mode:
    support: none
    description: It changes nothing.
  idempotent:
    support: full
    description: It changes nothing.
options:
  url:
    description: The URL of the signaling server as Talk knows it.
    type: str
    required: true
  internal_secret:
    description: The signaling server's secret for internal clients.
    type: str
    required: true
  ca_files:
    description: PEM files, on the machine where this runs, of authorities to trust beside the system's.
    type: list
    elements: path
    default: []
  ca_pem:
    description: Authorities to trust beside the system's, as PEM texts.
    type: list
    elements: str
    default: []
  resolve:
    description: Addresses for names, in place of what DNS says. Certificates are still checked for the name.
    type: dict
    default: {}
  instances:
    description: The Nextcloud instances to place calls for.
    type: list
    elements: dict
    required: true
    suboptions:
      id:
        description: The instance's name in the result.
        type: str
        required: true
      url:
        description: The instance's URL as configured in the signaling server.
        type: str
        required: true
      secret:
        description: The instance's backend secret.
        type: str
        required: true
      turn_secret:
        description: The instance's TURN secret. Without it the calls over TURN are skipped.
        type: str
      register:
        description: Whether we registered the backend in it. If not, a failing way to it is a warning.
        type: bool
        default: true
      optional:
        description: Whether it may be switched off. If so, a Nextcloud that is not reached is a warning.
        type: bool
        default: false
      talk_version:
        description:
          - Version of the Nextcloud's Talk, when it is known. The signaling server's features are then compared with
            what this Talk needs. One that it requires and does not find is a failure.
        type: str
      session_limit:
        description: How many sessions it may have at the same time, 0 for no limit. It is only returned.
        type: int
      user:
        description:
          - A user of this Nextcloud as whom to place calls, who owns nothing else and needs no rights. The machine on
            which this runs must reach the Nextcloud.
          - The calls as a user are placed one after the other, two sessions at a time.
        type: str
      password:
        description: An app password of O(instances[].user).
        type: str
      stream_bitrate:
        description:
          - The highest bitrate of one camera in bit/s, as configured in the signaling server, for O(bitrate). Without
            it the bitrate is measured and not judged.
        type: int
  turn:
    description: The TURN server. Without it only direct calls are placed.
    type: dict
    suboptions:
      server:
        description: Name or address, colon, port, as in Talk's settings.
        type: str
        required: true
      protocols:
        description:
          - The transports to it. Each is a call of its own for each instance. For V(tls) the certificate must name the
            server as in O(turn.server), and hold by the same authorities as that of O(url).
          - V(443) is TLS on port 443, where it is told from HTTPS by the name O(turn.name_443).
        type: list
        elements: str
        choices: [udp, tcp, tls, '443']
        default: [udp, tcp]
      tls_port:
        description: The port at which it speaks TLS.
        type: int
        default: 5349
      name_443:
        description: The name under which it is reached on port 443. Required for V(443) in O(turn.protocols).
        type: str
        default: ""
  families:
    description:
      - The families of addresses over which direct calls are placed, each one a call of its own. One that is named
        here and is not there is a failure.
      - Where the TURN server has addresses of both to which this machine has a route, calls over TURN by udp and tcp
        are placed over both, too, unless V(ipv6) is left out here. The family counts for the way to the TURN server.
        From there to Janus the server chooses it.
      - By default those of which the name in O(url) has addresses (O(resolve) included) to which this machine has a
        route. Where these are both, and Janus or this machine has no IPv6 for media, that call is skipped.
    type: list
    elements: str
    choices: [ipv4, ipv6]
  direct:
    description:
      - Whether media may reach Janus without TURN. If not, direct calls are skipped, and what they would have shown is
        shown by calls over the first of O(turn.protocols).
    type: bool
    default: true
  place:
    description:
      - Name of the machine on which this runs, for the sentences. By default they speak of the controller.
    type: str
    default: ""
  bitrate:
    description:
      - Whether to place one more call for each instance, one after the other, with a picture for which the publisher
        would spend more than it may. The bitrate that Janus allows and the one that arrives must not be above
        O(instances[].stream_bitrate) by more than 15 %.
      - aiortc sends between 0.25 and 1.5 Mbit/s. Outside of them only what Janus tells the publisher is judged.
      - It takes about 6 seconds for each instance, and loads the line and this machine.
    type: bool
    default: false
  negative:
    description:
      - Whether to send one request that must be refused, for the last instance with the secret of the one before it
        (with a made-up one where it is the only instance). It is not sent when a signed request has failed already.
      - The signaling server counts it as a failed authentication of this machine's address, and locks out who has ten
        within half an hour. So never set it where the probe runs on a Nextcloud or shares its address.
    type: bool
    default: false
  browser:
    description:
      - Path or name of a Chromium with which calls are placed as well, for instance V(/usr/bin/chromium) of Debian's
        package. Empty for none.
      - It runs without a screen, one call after the other, some 10 seconds for each, and as long again on a machine
        that is too busy for three layers. Raise O(timeout) where there are many instances.
      - As root it runs without its sandbox. All that it loads is an empty page, and all that it reaches are the backend
        and the TURN server.
      - The TURN server's certificate is checked by Chromium itself where the system knows its authority. One that holds
        by O(ca_files) or O(ca_pem) only is checked by the probe, and Chromium takes this certificate's key alone.
    type: str
    default: ""
  duration:
    description: Seconds of media on each path.
    type: int
    default: 3
  timeout:
    description: Seconds after which steps that are not finished have failed. The module ends at most 20 seconds later.
    type: int
    default: 180
  fail_on_error:
    description: Whether the module fails when a step has failed. It returns the same data then.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Place calls for two instances
  nextcloud_talk.hpb.call_probe:
    url: https://talk.example.org
    internal_secret: "{{ hpb_secrets.internal }}"
    turn:
      server: turn.example.org:3478
    instances:
      - id: nc
        url: https://nc.example.org
        secret: "{{ hpb_secrets.instances.nc.backend }}"
        turn_secret: "{{ hpb_secrets.instances.nc.turn }}"
        talk_version: 22.0.4
        user: call-test
        password: "{{ vault_call_test_app_password }}"
      - id: client
        url: https://cloud.client.example
        secret: "{{ hpb_secrets.instances.client.backend }}"
        turn_secret: "{{ hpb_secrets.instances.client.turn }}"
        register: false
  delegate_to: localhost
  vars:
    ansible_python_interpreter: "{{ ansible_playbook_python }}"

- name: Place them from another machine, and see whether the bitrate limit is in force
  nextcloud_talk.hpb.call_probe:
    url: https://talk.example.org
    internal_secret: "{{ hpb_secrets.internal }}"
    place: office.example.org
    families: [ipv4, ipv6]
    bitrate: true
    instances:
      - id: nc
        url: https://nc.example.org
        secret: "{{ hpb_secrets.instances.nc.backend }}"
        stream_bitrate: 1048576
  delegate_to: office.example.org

- name: Place them with a browser, too
  nextcloud_talk.hpb.call_probe:
    url: https://talk.example.org
    internal_secret: "{{ hpb_secrets.internal }}"
    browser: /usr/bin/chromium
    instances:
      - id: nc
        url: https://nc.example.org
        secret: "{{ hpb_secrets.instances.nc.backend }}"
  delegate_to: localhost
  vars:
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
"""

RETURN = r"""
ok:
  description: Whether no step has failed. Warnings and skipped steps are no failures.
  type: bool
  returned: when calls were placed
table:
  description: All steps as lines of text.
  type: list
  elements: str
  returned: when calls were placed
failures:
  description: What failed. Steps of one instance with one cause are one failure.
  type: list
  elements: dict
  returned: when calls were placed
  contains:
    instance:
      description: The instance, V(all) for the server itself.
      type: str
    step:
      description: The step, or several with a comma.
      type: str
    cause:
      description: What is wrong, one sentence.
      type: str
    remedy:
      description: What to do.
      type: str
    sentence:
      description: All of it as text.
      type: str
results:
  description: All steps in the order of the table.
  type: list
  elements: dict
  returned: when calls were placed
  contains:
    instance:
      description: The instance, V(all) for the server itself.
      type: str
    step:
      description:
        - One of welcome, closed, websocket, chromium for the server, else one of request, hello, features, isolation,
          refusal, direct, direct-ipv6, turn-udp, turn-tcp, turn-udp-ipv6, turn-tcp-ipv6, turn-tls, turn-443, screen,
          bitrate, browser, browser-turn-udp, browser-turn-tcp, browser-turn-tls, browser-turn-443. There is no features
          step without O(instances[].talk_version), no isolation step for the first instance, and refusal only for the
          last one with O(negative). For those over IPv6 see O(families), for bitrate O(bitrate), for chromium and those
          in it O(browser).
        - With O(instances[].user) also user-settings, user-hello-v1, user-hello-v2, user-call and, with O(turn),
          user-turn.
      type: str
    name:
      description: The step's name for people.
      type: str
    status:
      description: One of ok, failed, warning, skipped.
      type: str
    seen:
      description: What was seen, for people.
      type: str
    cause:
      description: What is wrong, empty if nothing is.
      type: str
    remedy:
      description: What to do, empty if nothing is to be done.
      type: str
    figures:
      description:
        - What was measured. For a call C(audio) and C(video), each with C(received), C(lost) (packets) and C(frames),
          C(loss_percent), C(first_frame_seconds), C(late_seconds) (by how much the probe itself was late at worst),
          C(kbit_per_second) (of all that arrived), C(pair) and C(publisher_pair) (each with C(local) and C(remote)),
          for a relayed one C(turn_family) (V(ipv4) or V(ipv6), the way to the TURN server, empty for unknown),
          and for a direct call C(data) (V(ok) when a text came through a data channel). For bitrate also
          C(told_kbit_per_second) (the limit that Janus told the publisher, 0 for none) and C(limit_kbit_per_second)
          (the expected one).
        - For a call in Chromium also C(layers) and C(switched), each by the layers' names (C(low), C(medium), C(high)).
          The former is what is sent, with C(width), C(height), C(packets) and C(bytes). The latter is what who chose
          this layer saw, with C(width), C(height), C(seconds) until it came, and C(stopped) when it could not come, as
          it was not sent any more. Further C(held_back) (C(cpu) or C(bandwidth), when that keeps it from sending more),
          C(load_per_processor), C(codec), C(relay_protocol), C(round_trip_seconds) and C(browser) (its version).
        - For a call that failed, how far ICE came. For the welcome, C(version) and C(features). For the features,
          C(talk_version), C(missing_required) and C(missing_optional). For isolation C(other) (the instance before),
          C(control) (whether the instance's own peers saw and heard each other) and C(learnt) (what one learnt of the
          other, expected empty). For refusal C(status). For user-settings C(others) (STUN and TURN servers beside ours)
          and C(removed) (conversations of interrupted runs).
      type: dict
  sample:
    - instance: nc
      step: direct
      name: direct call
      status: ok
      seen: 152 audio and 198 video packets, 0 lost, first picture after 0.6 s
      cause: ""
      remedy: ""
      figures:
        loss_percent: 0.0
        first_frame_seconds: 0.6
version:
  description: The signaling server's version.
  type: str
  returned: when calls were placed
features:
  description: The signaling server's features.
  type: list
  elements: str
  returned: when calls were placed
place:
  description: The option O(place).
  type: str
  returned: when calls were placed
limits:
  description: For each instance, by its id, what the options say of its C(session_limit) and C(stream_bitrate).
  type: dict
  returned: when calls were placed
  sample:
    nc:
      session_limit: 15
      stream_bitrate: 1048576
seconds:
  description: How long it took.
  type: float
  returned: when calls were placed
"""

import importlib.util  # noqa: E402
import shutil  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from typing import Any  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import (  # noqa: E402
    _probe,
    _probe_run,
    _signaling_client,
)

INSTANCE = {
    "id": {"type": "str", "required": True},
    "url": {"type": "str", "required": True},
    "secret": {"type": "str", "required": True, "no_log": True},
    "turn_secret": {"type": "str", "no_log": True},
    "register": {"type": "bool", "default": True},
    "optional": {"type": "bool", "default": False},
    "talk_version": {"type": "str"},
    "session_limit": {"type": "int"},
    "user": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "stream_bitrate": {"type": "int"},
}
TURN = {
    "server": {"type": "str", "required": True},
    "protocols": {
        "type": "list",
        "elements": "str",
        "choices": ["udp", "tcp", "tls", "443"],
        "default": ["udp", "tcp"],
    },
    "tls_port": {"type": "int", "default": 5349},
    "name_443": {"type": "str", "default": ""},
}


def problem(params: dict[str, Any]) -> str:
    """Return why the probe cannot run with these options on this machine, "" when it can."""
    missing = [name for name in ("aiortc", "websockets") if importlib.util.find_spec(name) is None]
    if missing:
        return (
            f"The Python {sys.executable} has no {' and no '.join(missing)}, expected both for placing calls: "
            f"run '{sys.executable} -m pip install aiortc websockets'."
        )
    if params["browser"] and shutil.which(params["browser"]) is None:
        return (
            f"There is no program {params['browser']} on {params['place'] or 'the controller'}, expected the Chromium "
            "that browser names: install it (Debian's package chromium), correct the path, or leave browser empty."
        )
    for path in params["ca_files"]:
        try:
            _signaling_client.tls_context([path], [])
        except OSError as error:
            return f"The file {path} of ca_files is no readable PEM file ({error.strerror or error}): correct the path."
    try:
        _signaling_client.tls_context([], params["ca_pem"])
    except OSError as error:
        return f"A text of ca_pem is no certificate in PEM format ({error.strerror or error}): correct it."
    for item in params["instances"]:
        if bool(item["user"]) != bool(item["password"]):
            there, missing = ("user", "password") if item["user"] else ("password", "user")
            return (
                f"The instance {item['id']} has a {there} and no {missing}, expected both or none: set {missing}, or "
                f"remove {there}."
            )
    if params["turn"]:
        try:
            host, _port = _probe_run.split_server(params["turn"]["server"])
        except _probe_run.ProbeError as error:
            return str(error)
        if "tls" in params["turn"]["protocols"] and ":" in host:
            return (
                f"The TURN server is the address {host}, expected a name for a call over TLS, whose certificate is "
                "checked for it: correct turn.server, or take tls out of turn.protocols."
            )
        if "443" in params["turn"]["protocols"] and not params["turn"]["name_443"]:
            return "turn.protocols has 443, expected also the name for it: set turn.name_443, or take 443 out."
    return ""


def main() -> None:
    """Check what is needed, run the probe in a child process, return what was seen."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "internal_secret": {"type": "str", "required": True, "no_log": True},
            "ca_files": {"type": "list", "elements": "path", "default": []},
            "ca_pem": {"type": "list", "elements": "str", "default": []},
            "resolve": {"type": "dict", "default": {}},
            "instances": {"type": "list", "elements": "dict", "required": True, "options": INSTANCE},
            "turn": {"type": "dict", "options": TURN},
            "families": {"type": "list", "elements": "str", "choices": ["ipv4", "ipv6"]},
            "direct": {"type": "bool", "default": True},
            "place": {"type": "str", "default": ""},
            "bitrate": {"type": "bool", "default": False},
            "negative": {"type": "bool", "default": False},
            "browser": {"type": "str", "default": ""},
            "duration": {"type": "int", "default": 3},
            "timeout": {"type": "int", "default": 180},
            "fail_on_error": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    params = module.params
    if module.check_mode:
        module.exit_json(changed=False, skipped=True, msg="No calls are placed in check mode.")
    found = problem(params)
    if found:
        module.fail_json(msg=found)
    started = time.monotonic()
    try:
        report = _probe_run.in_child({name: params[name] for name in module.argument_spec if name != "fail_on_error"})
    except _probe_run.ProbeError as error:
        module.fail_json(msg=str(error))
    report["seconds"] = round(time.monotonic() - started, 1)
    for sentence in _probe.warnings(report["results"]):
        module.warn(sentence)
    if params["fail_on_error"] and not report["ok"]:
        module.fail_json(msg="\n".join(item["sentence"] for item in report["failures"]), **report)
    module.exit_json(changed=False, **report)


if __name__ == "__main__":
    main()
