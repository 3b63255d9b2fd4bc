# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Talk's setup check of the High-performance backend, which really asks the registered signaling server."""

from __future__ import annotations

import email.utils
import json
import os
import ssl
import time
import urllib.error
import urllib.request
from typing import Any

from . import keys
from .state import Instance

CLASS = "OCA\\Talk\\SetupCheck\\HighPerformanceBackend"
MAX_CLOCK_DIFFERENCE = 45
# Feature of the signaling server -> first Talk that requires, or misses, it.
REQUIRED = {"audio-video-permissions": 15, "incall-all": 15, "hello-v2": 15, "switchto": 16, "federation": 20}
OPTIONAL = {"dialout": 18, "join-features": 21, "chat-relay": 23, "changed-users": 23}
_WORDS = {
    "CAN_NOT_CONNECT": "Error: Cannot connect to server",
    "JSON_INVALID": "Error: Server did not respond with proper JSON",
    "CERTIFICATE_EXPIRED": "Error: Certificate expired",
    "TIME_OUT_OF_SYNC": "Error: System times are out of sync",
}


class CheckFailed(Exception):
    """The signaling server cannot be used; the text is Talk's error code."""


def tls_context(instance: Instance, verify: bool) -> ssl.SSLContext:
    """Return the TLS settings of a request to a signaling server: `verify` is what the administrator stored."""
    context = ssl.create_default_context()
    if instance.settings["ca_file"]:
        context.load_verify_locations(instance.settings["ca_file"])
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def http_url(server: str) -> str:
    """Return the HTTP form of a stored signaling server, without a slash at the end."""
    url = server.rstrip("/").lower()
    for scheme, other in (("wss://", "https://"), ("ws://", "http://")):
        if url.startswith(scheme):
            return other + url[len(scheme) :]
    return url


def _welcome(instance: Instance, server: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    url = http_url(server["server"]) + "/api/v1/welcome"
    try:
        context = tls_context(instance, server["verify"])
        with urllib.request.urlopen(url, timeout=10, context=context) as response:
            body, headers = response.read(), response.headers
    except urllib.error.HTTPError as error:
        raise CheckFailed(str(error.code)) from None
    except urllib.error.URLError as error:
        reason = error.reason
        # OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED
        if isinstance(reason, ssl.SSLCertVerificationError) and reason.verify_code == 10:
            raise CheckFailed("CERTIFICATE_EXPIRED") from None
        raise CheckFailed("CAN_NOT_CONNECT") from None
    except (OSError, ValueError):
        raise CheckFailed("CAN_NOT_CONNECT") from None
    try:
        data = json.loads(body)
    except ValueError:
        data = None
    if not isinstance(data, dict) or "version" not in data:
        raise CheckFailed("JSON_INVALID")
    return data, headers


def compatibility(instance: Instance, server: dict[str, Any]) -> tuple[str, list[str]]:
    """Ask the server; return its version and the optional features it lacks. Raises CheckFailed."""
    data, headers = _welcome(instance, server)
    date = email.utils.parsedate_to_datetime(headers["Date"]).timestamp() if headers["Date"] else time.time()
    if abs(date - time.time()) > MAX_CLOCK_DIFFERENCE:
        raise CheckFailed("TIME_OUT_OF_SYNC")
    features = {feature.strip() for feature in (headers["X-Spreed-Signaling-Features"] or "").split(",")}
    if any(since <= instance.talk_major and feature not in features for feature, since in REQUIRED.items()):
        raise CheckFailed(f"UPDATE_REQUIRED {data['version']}")
    missing = [
        feature for feature, since in OPTIONAL.items() if since <= instance.talk_major and feature not in features
    ]
    return str(data["version"]), missing


def _result(severity: str, description: str | None = None) -> dict[str, Any]:
    return {
        "name": "High-performance backend",
        "severity": severity,
        "description": description,
        "descriptionParameters": None,
        "linkToDoc": None,
    }


def check(instance: Instance) -> dict[str, Any]:
    """Return the check's result in the shape of occ's JSON: name, severity, description."""
    servers = instance.signaling()["servers"]
    if not servers or instance.get("spreed", "signaling_mode") == "internal":
        return _result("error", "No High-performance backend configured")
    if len(servers) > 1:
        return _result("warning", "Defining multiple High-performance backends is deprecated")
    private, public = keys.stored(instance)
    if not private:
        # The error of OpenSSL's that making the keys leaves behind is taken for one of using them.
        if keys.ensure(instance) and instance.settings["openssl_quirk"]:
            return _result(
                "error",
                "High-performance backend not configured correctly. Run `occ talk:signaling:verify-keys` for details.",
            )
    elif keys.public_key(private) != public:
        return _result(
            "error",
            "The stored public key for used algorithm ES256 does not match the stored private key."
            " Run `occ talk:signaling:verify-keys --update` to fix the issue.",
        )
    try:
        version, missing = compatibility(instance, servers[0])
    except CheckFailed as error:
        code, _separator, version = str(error).partition(" ")
        if code == "UPDATE_REQUIRED":
            return _result("error", f"Error: Running version: {version}; Server needs to be updated")
        return _result("error", _WORDS.get(code, f"Error: Server responded with: {code}"))
    if missing:
        return _result("warning", f"Warning: Running version: {version}; missing features: {', '.join(missing)}")
    memcache = instance.settings["memcache"]
    if not memcache or (memcache == "apcu" and not os.environ.get("STANDIN_APC_CLI")):
        return _result("warning", "It is highly recommended to configure a memory cache")
    return _result("success")
