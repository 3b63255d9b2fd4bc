# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The address of a Nextcloud, as the signaling server compares it."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from urllib.parse import urlsplit

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_PATH = re.compile(r"(/[A-Za-z0-9._~!$&'()*+;=:@-]+)*")
_NUMBER = re.compile(r"[0-9]+")
_EXAMPLE = "https://cloud.example.org or https://example.org/cloud"


class UrlError(ValueError):
    """The text is no address that a Nextcloud can be reached at; the message ends a sentence that starts with it."""


def normalize_url(text: str) -> str:
    """Return `text` in the one form in which two addresses of the same Nextcloud are equal.

    Scheme and host in lower case, international names as browsers send them (xn--), no default port, no slash at
    the end. The case of the path matters and stays. Raises UrlError for what cannot be a Nextcloud's address.

    The signaling server strips the default port and compares host and port, then the path as a string prefix
    (strukturag/nextcloud-spreed-signaling, talk/backend_storage_static.go); a comma separates URLs in its
    configuration, and ` #` or ` ;` would start a comment there.
    """
    text = text.strip()
    if re.match(r"http://", text, re.IGNORECASE):
        raise UrlError(
            "starts with http://, expected https://: browsers give camera and microphone to pages with https only. "
            "Give the Nextcloud a certificate and write https://"
        )
    if not re.match(r"https://", text, re.IGNORECASE):
        raise UrlError(f"does not start with https://, expected a whole address such as {_EXAMPLE}")
    try:
        parts = urlsplit(text)
        port = parts.port
        host = parts.hostname or ""
    except ValueError as error:
        raise UrlError(f"cannot be understood ({error}), expected an address such as {_EXAMPLE}") from error
    if "@" in parts.netloc:
        raise UrlError(f"holds a user name, expected an address without one such as {_EXAMPLE}")
    if "?" in text or "#" in text:
        raise UrlError(
            f"has something after a ? or #, expected the address that Nextcloud starts at such as {_EXAMPLE}"
        )
    path = parts.path.rstrip("/")
    if path.endswith("/index.php"):
        raise UrlError(f"ends with /index.php, expected the address without it such as {_EXAMPLE}")
    if not _PATH.fullmatch(path) or any(part in (".", "..") for part in path.split("/")):
        raise UrlError(
            f"has the path {parts.path}, expected a path of letters, digits and -._~ without empty parts "
            f"such as {_EXAMPLE}"
        )
    netloc = normalize_host(host)
    if port == 0:
        raise UrlError("has the port 0, expected 1 to 65535 or no port")
    if port not in (None, 443):
        netloc = f"{netloc}:{port}"
    return f"https://{netloc}{path}"


def normalize_host(host: str) -> str:
    """Return a host name in lower case and ASCII, an IPv6 address in brackets and its shortest form."""
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if ":" in bare or _NUMBER.fullmatch(bare.rpartition(".")[2]):
        try:
            address = ipaddress.ip_address(bare)
        except ValueError as error:
            raise UrlError(f"has the host {host}, expected a name or an IP address") from error
        if getattr(address, "scope_id", None):
            raise UrlError(f"has the host {host} with an interface, expected an address that is valid everywhere")
        return f"[{address}]" if address.version == 6 else str(address)
    labels = [_label(label) for label in unicodedata.normalize("NFKC", bare).lower().removesuffix(".").split(".")]
    if len(".".join(labels)) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise UrlError(
            f"has the host {host or '(none)'}, expected a name of letters, digits, - and dots such as cloud.example.org"
        )
    return ".".join(labels)


def _label(label: str) -> str:
    """Return one part of an international name as browsers send it (UTS 46, non-transitional: no character is lost)."""
    if label.isascii():
        return label
    if not all(char in "-·" or unicodedata.category(char)[0] in "LMN" for char in label):
        return ""
    return "xn--" + label.encode("punycode").decode("ascii")


def covers(short: str, long: str) -> bool:
    """Say whether the signaling server would take the normalized URL `long` for one below `short`."""
    return f"{long}/".startswith(f"{short}/")
