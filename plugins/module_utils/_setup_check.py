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
KEYS_UNUSABLE = "keys_unusable"
SEVERAL = "Talk has more than one signaling server, which is deprecated, and checked nothing further"
UNUSABLE = (
    "Talk cannot use its signaling keys or its list of servers",
    "run 'occ talk:signaling:verify-keys', which says more, and register the backend again",
)


class NoSetupChecks(OccError):
    """This Nextcloud has no such command."""


@dataclass(frozen=True)
class Verdict:
    """What the check said (`severity`, `description`) and which result it is; `ok` unless calls cannot work so.

    `cause` is why it is not all well and `mend` what to do, both parts of sentences, both empty when all is well.
    """

    severity: str
    description: str
    result: str
    ok: bool
    cause: str = ""
    mend: str = ""

    @property
    def sentence(self) -> str:
        """Cause and mend in one sentence."""
        return f"{self.cause}; {self.mend}." if self.cause else ""

    def plain(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {**vars(self), "sentence": self.sentence}


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


def made(reach: Reach) -> Verdict | None:
    """Let Talk make its check and return what it comes to, None when it has none. Raises `OccError`.

    Talk makes its pair of keys at the first use of them, and where that is this check it fails by an error of OpenSSL's
    that is left from there, and is fine the next time. So such a result is asked for once more.
    """
    verdict = None
    for _time in range(2):
        found = read(reach)
        verdict = judge(str(found.get("severity") or ""), str(found.get("description") or "")) if found else None
        if not verdict or verdict.result != KEYS_UNUSABLE:
            break
    return verdict


def read(reach: Reach) -> dict[str, Any]:
    """Run all setup checks with one start of PHP and return Talk's, {} when it is not among them. Raises `OccError`."""
    document = Occ(AnyResult(reach)).json([COMMAND])
    # PHP writes an empty object as a list.
    checks = document.get(CATEGORY) if isinstance(document, dict) else None
    check = checks.get(CHECK) if isinstance(checks, dict) else None
    return check if isinstance(check, dict) else {}


# A part of what the check says, the result that it is, why that is so, and what is to be done.
KNOWN = (
    (
        "no high-performance backend configured",
        "not_configured",
        "Talk has no signaling server",
        "register the backend (nextcloud_talk.hpb.register), and see that signaling_mode is not set to internal",
    ),
    (
        "conversation_cluster",
        "cluster_mode",
        "Talk's signaling_mode is conversation_cluster, which is deprecated",
        "delete it with 'occ config:app:delete spreed signaling_mode'",
    ),
    (
        "defining multiple high-performance backends",
        "several_servers",
        SEVERAL,
        "delete the others with 'occ talk:signaling:delete URL', or set talk_exclusive: true and register again",
    ),
    (
        "verify-keys --update",
        "keys_differ",
        "Talk's two signaling keys do not belong together, so that no client can log in",
        "mend them with 'occ talk:signaling:verify-keys --update'",
    ),
    # The command stands in it in every language.
    ("talk:signaling:verify-keys", KEYS_UNUSABLE, *UNUSABLE),
    ("not configured correctly", KEYS_UNUSABLE, *UNUSABLE),
    (
        "cannot connect to server",
        "cannot_connect",
        "Talk cannot connect to the signaling server",
        "see on the Nextcloud's host that its name resolves, that TCP 443 to it is open, and that its certificate is "
        "trusted there (talk_verify_tls)",
    ),
    (
        "proper json",
        "no_json",
        "Talk got something that is no answer of a signaling server",
        "see where its URL leads from the Nextcloud's host, and that the proxy passes /api/v1/welcome on",
    ),
    (
        "certificate expired",
        "certificate_expired",
        "Talk gets a certificate that has expired from the signaling server",
        "renew it, and check the clock of the Nextcloud's host",
    ),
    (
        "out of sync",
        "clocks_differ",
        "The clocks of the Nextcloud's host and of the HPB's host differ by more than 45 seconds",
        "let both follow a time server",
    ),
    (
        "needs to be updated",
        "update_required",
        "Talk refuses the signaling server as too old",
        f"set {_features.SETTING} to a newer version and deploy again, or let the proxy pass the header "
        "X-Spreed-Signaling-Features on",
    ),
    (
        "memory cache",
        "no_cache",
        "Talk sees no memory cache",
        "with APCu this is a false alarm of the command line (apc.enable_cli), without any set up memcache.local in "
        "config.php",
    ),
)
FEATURE_LIST = re.compile(r":\s*([a-z][a-z0-9-]*(?:,\s*[a-z][a-z0-9-]*)*)\.?$")
VERSION = re.compile(r"\d+\.\d+[\w.~+-]*")
HTTP_STATUS = re.compile(r"\b([1-5]\d\d)\.?$")


def judge(severity: str, description: str) -> Verdict:
    """Return which of the check's results this is, why, and what to do."""
    if severity == "success":
        return Verdict(severity, description, "ok", True)
    fine = severity != "error"
    text = description.lower()
    for part, result, cause, mend in KNOWN:
        if part in text:
            # Nextcloud can be told to hide this one as a mere information.
            return Verdict(severity, description, result, fine and result != "not_configured", cause, mend)
    features, status = FEATURE_LIST.search(description), HTTP_STATUS.search(description)
    names = [name.strip() for name in features.group(1).split(",")] if features else []
    if fine and ("missing features" in text or _features.FEATURES.keys() & set(names)):
        version = VERSION.search(description)
        said = " ".join(_features.notes(version.group() if version else "", names)).rstrip(".")
        return Verdict(severity, description, "update_optional", True, "Talk does without something", said)
    if status:
        cause = f"Talk was answered {status.group(1)} by the signaling server, expected 200"
        mend = "look at the proxy before it and at the log of signalling (playbook logs)"
        return Verdict(severity, description, "http_status", fine, cause, mend)
    cause = f"Talk says: {description.strip().rstrip('.') or severity}"
    return Verdict(severity, description, "unknown", fine, cause, "see Administration settings, Talk, in the browser")
