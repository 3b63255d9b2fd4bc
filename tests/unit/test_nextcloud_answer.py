# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What answers at a Nextcloud's address, and what its pages may do: tables of what proxies, logins and CDNs send."""

from __future__ import annotations

import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _nextcloud_answer

URL = "https://nc.example.org"
HPB = "https://talk.example.org"
ENDPOINT = "/ocs/v2.php/apps/spreed/api/v3/signaling/backend"
LET = (
    "Let /ocs/v2.php/apps/spreed/ and /ocs/v2.php/cloud/capabilities pass there without a login, or all that comes "
    "from the HPB (192.0.2.10)"
)
ASKS = ": something before the Nextcloud asks for a login."


def answer(status, kind="text/html", **others):
    return {"status": status, "type": kind, "location": "", "title": "", "headers": {}, "marks": [], **others}


@pytest.mark.parametrize(
    ("given", "name", "why"),
    [
        # Of the places that people put before a Nextcloud.
        (answer(403), "", f"answers the HPB 403 with a web page, where Talk answers in JSON{ASKS}"),
        (
            answer(403, title="403 Forbidden"),
            "",
            f'403 with a web page ("403 Forbidden"), where Talk answers in JSON{ASKS}',
        ),
        (answer(403, title="Attention Required! | Cloudflare"), "a rule of Cloudflare", f"(a rule of Cloudflare){''}"),
        (
            answer(503, title="Just a moment..."),
            "a challenge of Cloudflare",
            "503 with a web page (a challenge of Cloud",
        ),
        (answer(403, title="x", headers={"cf-mitigated": ["challenge"]}), "a challenge of Cloudflare", ASKS),
        (
            answer(401, headers={"www-authenticate": ['Basic realm="x"']}),
            "a password of the web server",
            "HPB 401 with a",
        ),
        (answer(401, "text/plain", title=""), "", "401 with a web page"),
        (answer(200, title="Login - Authelia"), "Authelia", f"200 with a web page (Authelia), where{' '}Talk"),
        (answer(200, title="Sign in"), "", f'200 with a web page ("Sign in"), where Talk answers in JSON{ASKS}'),
        (
            answer(302, "text/html", location="https://auth.example.org/?rd=https%3A%2F%2Fnc.example.org&rm=POST"),
            "",
            f"sends the HPB on to auth.example.org (302), where Talk would answer itself{ASKS}",
        ),
        (
            answer(302, "", location="//team.cloudflareaccess.com/cdn-cgi/access/login/nc.example.org"),
            "Cloudflare Access",
            "sends the HPB on to team.cloudflareaccess.com (Cloudflare Access) (302), where",
        ),
        (
            answer(302, "", location="/outpost.goauthentik.io/start?rd=x"),
            "authentik",
            "on to nc.example.org (authentik)",
        ),
        (
            answer(307, "", location="https://sso.example.org/oauth2/start?rd=%2F"),
            "oauth2-proxy",
            "(oauth2-proxy) (307)",
        ),
        (
            answer(302, "", location="https://id.example.org/realms/x/protocol/openid-connect/auth?client_id=nc"),
            "Keycloak",
            "(Keycloak)",
        ),
    ],
)
def test_something_asks_for_a_login(given, name, why):
    assert _nextcloud_answer.gate(given) == name
    word = _nextcloud_answer.judge(URL, given, ["192.0.2.10"])
    assert (word.cause, word.mend) == ("access-page", LET)
    assert word.why.startswith(f"{URL} ") and why in word.why


@pytest.mark.parametrize(
    ("url", "given", "cause", "why", "mend"),
    [
        (
            "https://nc.example.org/cloud",
            answer(404, title="404 Not Found"),
            "nextcloud-path",
            '404 with a web page ("404 Not Found"), so /cloud/ocs/ does not come to a Nextcloud there.',
            "Correct talk_url",
        ),
        (URL, answer(405, title="405 Not Allowed"), "nextcloud-path", "HPB 405", "hand /ocs/ on to Nextcloud"),
        (
            URL,
            answer(200, title="Welcome to nginx!"),
            "nextcloud-path",
            '("Welcome to nginx!"), where Talk answers in JSON: what answers there is no Nextcloud, or asks for a',
            "the site of nc.example.org on its web server",
        ),
        (
            URL,
            answer(301, location=f"https://www.example.org{ENDPOINT}"),
            "nextcloud-redirect",
            "sends the HPB on to www.example.org (301), which the signaling server does not follow",
            "Set talk_url: https://www.example.org, or take the redirect away",
        ),
        (
            "http://nc.example.org",
            answer(301, location=f"https://nc.example.org{ENDPOINT}"),
            "nextcloud-redirect",
            "sends the HPB on to https (301)",
            "Begin talk_url with https://",
        ),
        (
            URL,
            answer(308, location=f"https://www.example.org/nextcloud{ENDPOINT}/"),
            "nextcloud-redirect",
            "on to www.example.org (308)",
            "Set talk_url: https://www.example.org/nextcloud, or",
        ),
    ],
)
def test_something_else_answers(url, given, cause, why, mend):
    word = _nextcloud_answer.judge(url, given, ["192.0.2.10"])
    assert word.cause == cause
    assert why in word.why and mend in word.mend


@pytest.mark.parametrize(
    "given",
    [
        {},
        answer(412, "application/json", marks=["ocs"]),
        answer(412, "text/xml", marks=["ocs"]),
        answer(401, "application/json"),
        answer(403, "application/json"),
        answer(200, "text/html", marks=["ocs"]),
        # An error of the Nextcloud or of its web server, which is named as one.
        answer(500),
        answer(502, title="502 Bad Gateway"),
        answer(503, title="Maintenance mode"),
    ],
)
def test_what_may_be_the_nextcloud_itself_is_not_judged(given):
    assert _nextcloud_answer.judge(URL, given, []) is None


def test_without_known_addresses_none_is_named():
    word = _nextcloud_answer.judge(URL, answer(403), [])
    assert word.mend.endswith("or all that comes from the HPB")


# Nextcloud's own: of any answer, of its login and of a page of Talk (versions 28 to 34).
OWN = [
    "default-src 'self'; script-src 'self' 'nonce-eA=='; style-src 'self' 'unsafe-inline'; frame-src *; img-src * "
    "data: blob:; font-src 'self' data:; media-src *; connect-src *; object-src 'none'; base-uri 'self';",
    "default-src 'none';base-uri 'none';manifest-src 'self';script-src 'nonce-eA==';style-src 'self' 'unsafe-inline';"
    "img-src 'self' data: blob:;font-src 'self' data:;connect-src 'self';media-src 'self';frame-ancestors 'self'",
    "default-src 'none';base-uri 'none';manifest-src 'self';script-src 'nonce-eA==' blob:;connect-src 'self' blob: "
    "stun.example.org:3478 wss://talk.example.org ;worker-src blob: 'self'",
]
OWN_FEATURES = "autoplay 'self';camera 'none';fullscreen 'self';geolocation 'none';microphone 'none';payment 'none'"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-security-policy": OWN[:1]},
        {"content-security-policy": OWN[1:2], "feature-policy": [OWN_FEATURES]},
        {"content-security-policy": OWN[2:]},
        {"content-security-policy": ["frame-ancestors 'self'", *OWN]},
        {"content-security-policy": ["upgrade-insecure-requests"]},
        {"content-security-policy": ["default-src 'self' https: wss: 'unsafe-inline'"]},
        {"content-security-policy": ["default-src 'self'; connect-src *"]},
        {"content-security-policy": ["connect-src 'self' wss://talk.example.org"]},
        {"content-security-policy": ["connect-src 'self' talk.example.org"]},
        {"content-security-policy": ["connect-src 'self' https://*.example.org:443/spreed"]},
        {"content-security-policy": ["connect-src 'self' wss://talk.example.org:*"]},
        {"permissions-policy": ['camera=(self), microphone=(self "https://a.example.org"), geolocation=()']},
        {"permissions-policy": ["camera=*, display-capture=self, interest-cohort=()"]},
        {"permissions-policy": ["camera=()", "camera=(self)"]},
        {"feature-policy": ["camera 'self'; microphone *; usb 'none'"]},
    ],
)
def test_pages_that_may_do_what_talk_needs(headers):
    assert _nextcloud_answer.policies(URL, HPB, headers) == []


def test_self_is_enough_where_the_hpb_is_below_the_nextclouds_name():
    headers = {"content-security-policy": ["connect-src 'self'"]}
    assert _nextcloud_answer.policies(URL, f"{URL}/standalone-signaling", headers) == []
    assert _nextcloud_answer.policies(URL, f"{URL}:8443", headers) != []


@pytest.mark.parametrize(
    ("headers", "cause", "why", "mend"),
    [
        (
            {"content-security-policy": [OWN[2], "connect-src 'self'"]},
            "csp",
            f"A proxy before {URL} adds Content-Security-Policy: connect-src 'self', with which no browser may",
            "or add wss://talk.example.org to its connect-src",
        ),
        (
            {"content-security-policy": ["default-src 'self'; script-src 'self' 'unsafe-inline'"]},
            "csp",
            "adds Content-Security-Policy: default-src 'self', with which",
            "or add wss://talk.example.org to its default-src",
        ),
        (
            {"content-security-policy": [f"{OWN[0]}, connect-src 'none'"]},
            "csp",
            "adds Content-Security-Policy: connect-src 'none',",
            "Take that header away there, since Nextcloud sends its own",
        ),
        (
            {"content-security-policy": ["connect-src https://talk.example.org.evil.example *.talk.example.org"]},
            "csp",
            "connect-src https://talk.example.org.evil.example *.talk.example.org,",
            "wss://talk.example.org",
        ),
        (
            {"permissions-policy": ["camera=(), geolocation=(), microphone=()"]},
            "permissions-policy",
            f"A proxy before {URL} adds Permissions-Policy: camera=(), microphone=(), with which no browser gives Talk "
            "the camera and the microphone.",
            "Take these out of that header there, or say self instead of nobody",
        ),
        (
            {"permissions-policy": ['display-capture=("https://a.example.org")']},
            "permissions-policy",
            "adds Permissions-Policy: display-capture=(), with which no browser gives Talk the shared screen.",
            "Take this out of that header",
        ),
        (
            {"feature-policy": ["microphone 'none'; camera 'self'", OWN_FEATURES]},
            "permissions-policy",
            "adds Feature-Policy: microphone 'none', with which no browser gives Talk the microphone.",
            "Take this out",
        ),
    ],
)
def test_pages_that_a_proxy_keeps_from_what_talk_needs(headers, cause, why, mend):
    (word,) = _nextcloud_answer.policies(URL, HPB, headers)
    assert word.cause == cause
    assert why in word.why and mend in word.mend


@pytest.mark.parametrize(
    ("url", "location", "expected"),
    [
        (URL, "http://nc.example.org/login", True),
        (URL, "http://nc.example.org/index.php/login", True),
        (f"{URL}/cloud", "http://nc.example.org/cloud/login", True),
        (URL, "https://nc.example.org/login", False),
        (URL, "/login", False),
        (URL, "", False),
        ("http://nc.example.org", "http://nc.example.org/login", False),
        # A web server's own way to where a Nextcloud is, or to somebody else's login.
        (URL, "http://nc.example.org/nextcloud/", False),
        (URL, "http://sso.example.org/login", False),
    ],
)
def test_what_a_nextcloud_takes_itself_for(url, location, expected):
    assert _nextcloud_answer.takes_itself_for_http(url, {"location": location}) is expected
