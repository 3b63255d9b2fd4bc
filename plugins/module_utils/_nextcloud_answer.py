# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What answers at a Nextcloud's address, and what its pages are allowed to do. No input or output.

An answer here is what `_evidence.ask` returns. Talk answers the signaling server in JSON, whatever it says, and so does
Nextcloud when it refuses; a web page, or a way to somewhere else, comes from something before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urljoin, urlsplit

REDIRECTS = (301, 302, 303, 307, 308)
# What is known by a word in a page's title, in the address that it sends to, or in a header.
GATES = (
    ("cloudflareaccess.com", "Cloudflare Access"),
    ("/cdn-cgi/access/", "Cloudflare Access"),
    ("cf-mitigated challenge", "a challenge of Cloudflare"),
    ("just a moment", "a challenge of Cloudflare"),
    ("attention required! | cloudflare", "a rule of Cloudflare"),
    ("authelia", "Authelia"),
    ("goauthentik", "authentik"),
    ("authentik", "authentik"),
    ("/oauth2/", "oauth2-proxy"),
    ("/openid-connect/", "Keycloak"),
    ("/if/flow/", "authentik"),
    ("pangolin", "Pangolin"),
    ("login.microsoftonline.com", "Microsoft's login"),
    ("accounts.google.com", "Google's login"),
    ("anubis", "Anubis"),
    ("crowdsec", "CrowdSec"),
    ("www-authenticate basic", "a password of the web server"),
)


class Word(NamedTuple):
    """A cause in one word, why it is one, and what mends it."""

    cause: str
    why: str
    mend: str


def gate(answer: Mapping[str, Any]) -> str:
    """Return what stands before the Nextcloud, as far as it is known by what it says; "" when it is not."""
    headers = answer.get("headers") or {}
    said = [f"{name} {value}" for name in ("cf-mitigated", "www-authenticate") for value in headers.get(name) or []]
    text = " ".join([str(answer.get("title") or ""), str(answer.get("location") or ""), *said]).lower()
    return next((name for word, name in GATES if word in text), "")


def is_page(answer: Mapping[str, Any]) -> bool:
    """Whether an answer is a page for people or a way to somewhere else, not one for the signaling server."""
    if "ocs" in answer.get("marks", ()) or not answer.get("status"):
        return False
    return answer["status"] in REDIRECTS or str(answer.get("type") or "") in ("", "text/html", "text/plain")


def judge(url: str, answer: Mapping[str, Any], addresses: Sequence[str]) -> Word | None:
    """Return why the answer at the Nextcloud's address is not Talk's, None when it may be, or an error of its own.

    addresses: those with which the HPB comes.
    """
    if not is_page(answer):
        return None
    parts = urlsplit(url)
    status, location = answer["status"], str(answer.get("location") or "")
    path, name = parts.path.rstrip("/"), gate(answer)
    by = f" ({name})" if name else f' ("{answer["title"]}")' if answer.get("title") else ""
    let = (
        f"Let {path}/ocs/v2.php/apps/spreed/ and {path}/ocs/v2.php/cloud/capabilities pass there without a login, "
        f"or all that comes from the HPB{' (' + ', '.join(addresses) + ')' if addresses else ''}"
    )
    if status in REDIRECTS:
        target = urlsplit(urljoin(f"{url.rstrip('/')}/", location))
        same = (target.hostname, target.path.rstrip("/")) == (parts.hostname, _endpoint(path))
        if same and target.scheme != parts.scheme:
            why = f"{url} sends the HPB on to {target.scheme} ({status}), which the signaling server does not follow."
            return Word("nextcloud-redirect", why, f"Begin talk_url with {target.scheme}://")
        there, endpoint, _rest = target.path.partition(_endpoint(""))
        if same or endpoint and not name:
            why = f"{url} sends the HPB on to {target.netloc} ({status}), which the signaling server does not follow."
            right = f"{target.scheme}://{target.netloc}{there}"
            return Word("nextcloud-redirect", why, f"Set talk_url: {right}, or take the redirect away")
        why = (
            f"{url} sends the HPB on to {target.netloc or location}{by} ({status}), where Talk would answer itself: "
            "something before the Nextcloud asks for a login."
        )
        return Word("access-page", why, let)
    if status in (404, 405, 410):
        why = f"{url} answers the HPB {status} with a web page{by}, so {path}/ocs/ does not come to a Nextcloud there."
        mend = (
            "Correct talk_url (a Nextcloud below a path has it in its address), or let the web server there hand "
            f"{path}/ocs/ on to Nextcloud"
        )
        return Word("nextcloud-path", why, mend)
    if status >= 500 and not name:
        return None
    page = f"{url} answers the HPB {status} with a web page{by}, where Talk answers in JSON"
    if status < 300 and not name and not re.search(r"(?i)log ?in|sign ?in|anmeld|connexion", str(answer.get("title"))):
        why = f"{page}: what answers there is no Nextcloud, or asks for a login first."
        return Word("nextcloud-path", why, f"Correct talk_url, or the site of {parts.netloc} on its web server. {let}")
    return Word("access-page", f"{page}: something before the Nextcloud asks for a login.", let)


def _endpoint(path: str) -> str:
    return f"{path}/ocs/v2.php/apps/spreed/api/v3/signaling/backend"


def takes_itself_for_http(url: str, page: Mapping[str, Any]) -> bool:
    """Whether a Nextcloud that was asked by https for its own address sends people on to its login by http.

    Both are its own words: the address of its login is the one that it takes for its own (IURLGenerator).
    """
    asked, target = urlsplit(url), urlsplit(str(page.get("location") or ""))
    login = target.path.rstrip("/").endswith("/login") and target.path.startswith(f"{asked.path.rstrip('/')}/")
    return (asked.scheme, target.scheme, target.hostname) == ("https", "http", asked.hostname) and login


# --- what a page may do --------------------------------------------------------------------------------------------

# How the policies begin that Nextcloud itself makes: EmptyContentSecurityPolicy::buildPolicy and
# OC_Response::addSecurityHeaders of its server. Those of Talk's pages name the signaling server.
OWN_CSP = re.compile(
    r"default-src 'none'; ?base-uri 'none'; ?manifest-src 'self'|default-src 'self'; script-src 'self' 'nonce-"
)
# EmptyFeaturePolicy::buildPolicy.
OWN_FEATURES = re.compile(r"autoplay .*;camera .*;fullscreen .*;geolocation .*;microphone ")
DEVICES = {"camera": "camera", "microphone": "microphone", "display-capture": "shared screen"}


def policies(url: str, hpb: str, headers: Mapping[str, Sequence[str]]) -> list[Word]:
    """Return what a proxy's headers keep the pages of a Nextcloud from: the way to the HPB, camera and microphone.

    hpb: the signaling server's URL. Nextcloud's own headers are not judged.
    """
    found = []
    for header in headers.get("content-security-policy") or []:
        # Where two headers have become one, a comma stands between them.
        for policy in filter(None, map(str.strip, header.split(","))):
            if not OWN_CSP.match(policy) and not reaches(policy, url, hpb):
                sources = _sources(policy)
                name = "connect-src" if "connect-src" in sources else "default-src"
                wanted = f"wss://{urlsplit(hpb).netloc}"
                why = (
                    f"A proxy before {url} adds Content-Security-Policy: {name} {' '.join(sources[name])}, with which "
                    "no browser may connect to the HPB."
                )
                mend = f"Take that header away there, since Nextcloud sends its own, or add {wanted} to its {name}"
                found.append(Word("csp", why, mend))
    denied = [device for device in DEVICES if device in _denied(headers)]
    if denied:
        name = "Permissions-Policy" if headers.get("permissions-policy") else "Feature-Policy"
        shown = ", ".join(f"{device}=()" if name == "Permissions-Policy" else f"{device} 'none'" for device in denied)
        why = (
            f"A proxy before {url} adds {name}: {shown}, with which no browser gives Talk the "
            f"{' and the '.join(DEVICES[device] for device in denied)}."
        )
        mend = f"Take {'these' if len(denied) > 1 else 'this'} out of that header there, or say self instead of nobody"
        found.append(Word("permissions-policy", why, mend))
    return list(dict.fromkeys(found))


def _sources(policy: str) -> dict[str, list[str]]:
    """Return the directives of a policy with their sources; of one that stands twice the first counts."""
    found: dict[str, list[str]] = {}
    for part in policy.split(";"):
        words = part.split()
        if words:
            found.setdefault(words[0].lower(), words[1:])
    return found


def reaches(policy: str, url: str, hpb: str) -> bool:
    """Whether a page at `url` with this policy may open a websocket to the signaling server (CSP Level 3, 6.7.2)."""
    sources = _sources(policy)
    allowed = sources.get("connect-src", sources.get("default-src"))
    if allowed is None:
        return True
    return any(_matches(source.lower(), urlsplit(url), urlsplit(hpb)) for source in allowed)


def _matches(source: str, page: Any, hpb: Any) -> bool:
    if source == "'self'":
        return (page.hostname, page.port or 443) == (hpb.hostname, hpb.port or 443)
    # Browsers let a source with https, and one without a scheme, stand for wss as well.
    if source in ("*", "wss:", "ws:", "https:", "http:"):
        return True
    match = re.fullmatch(r"(?:(?:wss?|https?)://)?([^/:]+)(?::(\d+|\*))?(?:/.*)?", source)
    if not match or source.startswith("'"):
        return False
    host, port = match.groups()
    named = host == hpb.hostname or host.startswith("*.") and str(hpb.hostname).endswith(host[1:])
    return bool(named and (port in (None, "*") or int(port) == (hpb.port or 443)))


def _denied(headers: Mapping[str, Sequence[str]]) -> set[str]:
    """Return the devices that foreign headers give to nobody."""
    found: set[str] = set()
    given: set[str] = set()
    for header in headers.get("permissions-policy") or []:
        for name, value in re.findall(r"([\w-]+)\s*=\s*(\([^)]*\)|[^,\s]+)", header):
            (found if _is_nobody(value.strip("()").split()) else given).add(name.lower())
    for header in headers.get("feature-policy") or []:
        for part in [] if OWN_FEATURES.search(header) else header.split(";"):
            words = part.split()
            if words[1:] and _is_nobody(words[1:]):
                found.add(words[0].lower())
    return found - given


def _is_nobody(allowed: Iterable[str]) -> bool:
    """Whether a page of the Nextcloud itself is not among who may use a device."""
    return not {"*", "self", "'self'", "src"} & set(allowed)
