# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses in every spelling, and those that are none."""

from __future__ import annotations

import pytest
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._network import (
    UrlError,
    covers,
    normalize_host,
    normalize_url,
)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("https://nc.example.org", "https://nc.example.org"),
        ("https://nc.example.org/", "https://nc.example.org"),
        ("  HTTPS://NC.Example.ORG//  ", "https://nc.example.org"),
        ("https://nc.example.org.", "https://nc.example.org"),
        ("https://nc.example.org:443/", "https://nc.example.org"),
        ("https://nc.example.org:", "https://nc.example.org"),
        ("https://nc.example.org:8443/", "https://nc.example.org:8443"),
        ("https://example.org/nc2/", "https://example.org/nc2"),
        ("https://EXAMPLE.org/Cloud/Nc", "https://example.org/Cloud/Nc"),
        ("https://cloud", "https://cloud"),
        ("https://192.0.2.7/nc", "https://192.0.2.7/nc"),
        ("https://[2001:DB8:0:0::7]/", "https://[2001:db8::7]"),
        ("https://[2001:db8::7]:8443/nc", "https://[2001:db8::7]:8443/nc"),
        ("https://wölkchen.example.org", "https://xn--wlkchen-90a.example.org"),
        ("https://WÖLKCHEN.example.org", "https://xn--wlkchen-90a.example.org"),
        ("https://xn--wlkchen-90a.example.org", "https://xn--wlkchen-90a.example.org"),
        ("https://straße.example.org", "https://xn--strae-oqa.example.org"),
        ("https://例え.example", "https://xn--r8jz45g.example"),
    ],
)
def test_url(given, expected):
    assert normalize_url(given) == expected
    assert normalize_url(expected) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("http://nc.example.org", "starts with http://, expected https://"),
        ("HTTP://nc.example.org", "starts with http://, expected https://"),
        ("nc.example.org", "does not start with https://"),
        ("ftp://nc.example.org", "does not start with https://"),
        ("https:/nc.example.org", "does not start with https://"),
        ("", "does not start with https://"),
        ("https://", "has the host (none)"),
        ("https:///nc", "has the host (none)"),
        ("https://admin:pw@nc.example.org", "holds a user name"),
        ("https://@nc.example.org", "holds a user name"),
        ("https://nc.example.org/?a=b", "has something after a ? or #"),
        ("https://nc.example.org/#", "has something after a ? or #"),
        ("https://nc.example.org/index.php", "ends with /index.php"),
        ("https://nc.example.org/a//b", "has the path /a//b"),
        ("https://nc.example.org/a/../b", "has the path /a/../b"),
        ("https://nc.example.org/a b", "has the path /a b"),
        ("https://nc.example.org/a,https://b.example.org", "has the path"),
        ("https://nc.example.org/%(x)s", "has the path"),
        ("https://nc.example.org:99999", "cannot be understood"),
        ("https://nc.example.org:x", "cannot be understood"),
        ("https://nc.example.org:0", "has the port 0"),
        ("https://[2001:db8::zz]", "expected"),
        ("https://[fe80::1%25eth0]", "expected"),
        ("https://192.0.2.256", "has the host 192.0.2.256"),
        ("https://nc_1.example.org", "has the host nc_1.example.org"),
        ("https://-nc.example.org", "has the host -nc.example.org"),
        ("https://nc..example.org", "has the host nc..example.org"),
        ("https://n c.example.org", "has the host n c.example.org"),
        ("https://nc☁.example.org", "has the host nc☁.example.org"),
    ],
)
def test_url_refused(given, expected):
    with pytest.raises(UrlError) as error:
        normalize_url(given)
    assert expected in str(error.value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("NC.example.org", "nc.example.org"),
        ("2001:db8::5", "[2001:db8::5]"),
        ("[2001:db8::5]", "[2001:db8::5]"),
        ("192.0.2.5", "192.0.2.5"),
    ],
)
def test_host(given, expected):
    assert normalize_host(given) == expected


@pytest.mark.parametrize(
    ("short", "long", "expected"),
    [
        ("https://x.example", "https://x.example/nc2", True),
        ("https://x.example", "https://x.example", True),
        ("https://x.example/nc", "https://x.example/nc2", False),
        ("https://x.example/nc2", "https://x.example", False),
        ("https://x.example", "https://x.example:8443/nc2", False),
        ("https://x.example", "https://x.example.org", False),
    ],
)
def test_covers(short, long, expected):
    assert covers(short, long) is expected
