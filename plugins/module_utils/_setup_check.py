# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Talk's own check of its backend, which stands among Nextcloud's setup checks: run it, and say what it means.

The check is lib/SetupCheck/HighPerformanceBackend.php of Talk: it wants one signaling server, a pair of keys that
belong together, and asks the server for its welcome. It never notices a wrong secret. What it says may be translated
into the language of the Nextcloud, so what is not recognised is quoted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _features
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._occ import Occ, OccError, Reach, Result, decode

CATEGORY = "talk"
CHECK = "OCA\\Talk\\SetupCheck\\HighPerformanceBackend"
COMMAND = "setupchecks"


class NoSetupChecks(OccError):
    """This Nextcloud has no such command."""


@dataclass(frozen=True)
class Verdict:
    """What the check said (`severity`, `description`) and which result it is; `ok` unless calls cannot work so."""

    severity: str
    description: str
    result: str
    ok: bool
    sentence: str


class AnyResult:
    """A way to occ on which `setupchecks` is a success whatever it finds: its exit code 1 is about all apps."""

    def __init__(self, reach: Reach) -> None:
        """In everything but `run` it is like `reach`."""
        self._reach = reach

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reach, name)

    def run(self, arguments: list[str], stdin: str | None) -> Result:
        """Start occ. Raises `NoSetupChecks` besides what the way raises."""
        result = self._reach.run(arguments, stdin)
        if re.search(rf'Command "{COMMAND}" is not defined|no commands defined in the "{COMMAND}"', result.err):
            raise NoSetupChecks(
                f"{self.where} belongs to a Nextcloud without the command {COMMAND}, so Talk's own check was not made; "
                "see Administration settings, Talk, in the browser."
            )
        return replace(result, code=0) if result.code == 1 and _is_json(result.out) else result


def _is_json(text: str) -> bool:
    try:
        decode(text)
    except ValueError:
        return False
    return True


def read(reach: Reach) -> dict[str, Any]:
    """Run all setup checks with one start of PHP and return Talk's, {} when it is not among them. Raises `OccError`."""
    document = Occ(AnyResult(reach)).json([COMMAND])
    # PHP writes an empty object as a list.
    checks = document.get(CATEGORY) if isinstance(document, dict) else None
    check = checks.get(CHECK) if isinstance(checks, dict) else None
    return check if isinstance(check, dict) else {}


# A part of what the check says, the result that it is, and what is to be done.
KNOWN = (
    (
        "no high-performance backend configured",
        "not_configured",
        "Talk has no signaling server; register the backend (nextcloud_talk.hpb.register), and see that signaling_mode "
        "is not set to internal.",
    ),
    (
        "conversation_cluster",
        "cluster_mode",
        "Talk's signaling_mode is conversation_cluster, which is deprecated; delete it with "
        "'occ config:app:delete spreed signaling_mode'.",
    ),
    (
        "defining multiple high-performance backends",
        "several_servers",
        "Talk has more than one signaling server, which is deprecated, and checked nothing further; delete the others "
        "with 'occ talk:signaling:delete URL', or set talk_exclusive: true and register again.",
    ),
    (
        "verify-keys --update",
        "keys_differ",
        "Talk's two signaling keys do not belong together, so that no client can log in; mend them with "
        "'occ talk:signaling:verify-keys --update'.",
    ),
    (
        "not configured correctly",
        "keys_unusable",
        "Talk cannot use its signaling keys or its list of servers; run 'occ talk:signaling:verify-keys', which says "
        "more, and register the backend again.",
    ),
    (
        "cannot connect to server",
        "cannot_connect",
        "Talk cannot connect to the signaling server; see on the Nextcloud's host that its name resolves, that TCP 443 "
        "to it is open, and that its certificate is trusted there (talk_verify_tls).",
    ),
    (
        "proper json",
        "no_json",
        "Talk got something that is no answer of a signaling server; see where its URL leads from the Nextcloud's "
        "host, and that the proxy passes /api/v1/welcome on.",
    ),
    (
        "certificate expired",
        "certificate_expired",
        "Talk gets a certificate that has expired from the signaling server; renew it, and check the clock of the "
        "Nextcloud's host.",
    ),
    (
        "out of sync",
        "clocks_differ",
        "The clocks of the Nextcloud's host and of the HPB's host differ by more than 45 seconds; let both follow a "
        "time server.",
    ),
    (
        "needs to be updated",
        "update_required",
        f"Talk refuses the signaling server as too old; set {_features.SETTING} to a newer version and deploy again, "
        "or let the proxy pass the header X-Spreed-Signaling-Features on.",
    ),
    (
        "memory cache",
        "no_cache",
        "Talk sees no memory cache; with APCu this is a false alarm of the command line (apc.enable_cli), without any "
        "set up memcache.local in config.php.",
    ),
)
FEATURE_LIST = re.compile(r":\s*([a-z][a-z0-9-]*(?:,\s*[a-z][a-z0-9-]*)*)\.?$")
VERSION = re.compile(r"\d+\.\d+[\w.~+-]*")
HTTP_STATUS = re.compile(r"\b([1-5]\d\d)\.?$")


def judge(severity: str, description: str) -> Verdict:
    """Return which of the check's results this is, and in one sentence what to do; "" when all is well."""
    if severity == "success":
        return Verdict(severity, description, "ok", True, "")
    fine = severity != "error"
    text = description.lower()
    for part, result, sentence in KNOWN:
        if part in text:
            # Nextcloud can be told to hide this one as a mere information.
            return Verdict(severity, description, result, fine and result != "not_configured", sentence)
    features, status = FEATURE_LIST.search(description), HTTP_STATUS.search(description)
    names = [name.strip() for name in features.group(1).split(",")] if features else []
    if fine and ("missing features" in text or _features.FEATURES.keys() & set(names)):
        version = VERSION.search(description)
        sentence = " ".join(_features.notes(version.group() if version else "", names))
        return Verdict(severity, description, "update_optional", True, f"Talk does without something: {sentence}")
    if status:
        return Verdict(
            severity,
            description,
            "http_status",
            fine,
            f"Talk was answered {status.group(1)} by the signaling server, expected 200; look at the proxy before it "
            "and at the log of the container signalling.",
        )
    return Verdict(
        severity,
        description,
        "unknown",
        fine,
        f"Talk says: {description.strip() or severity}; see Administration settings, Talk, in the browser.",
    )
