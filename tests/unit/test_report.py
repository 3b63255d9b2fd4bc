# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a verification: the document, its schema, and the three forms in which it is written."""

from __future__ import annotations

import copy
import datetime
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.nextcloud_talk.hpb.plugins.filter.report import report
from ansible_collections.nextcloud_talk.hpb.plugins.filter.report_text import report_text
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _report, _report_junit, _report_page

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = json.loads((ROOT / "tests/unit/data/report-sample.json").read_text(encoding="utf-8"))
SCHEMA = json.loads((ROOT / "docs/report.schema.json").read_text(encoding="utf-8"))
TIME, URL = "2026-11-24T15:36:12Z", "https://talk.example.org"
SECRET = "0123456789abcdef" * 4
HOSTILE = "<script>alert(1)</script>\"'><img src=https://evil.example.com/x>&amp;\x00\x1b[31m\u202eevil\ud800\ufffe]]>"


def step(name, status="ok", **given):
    texts = {"name": name, "seen": f"{name} seen", "cause": "", "remedy": "", "figures": {}}
    return {"instance": "nc", "step": name, "status": status, **texts, **given}


def instance(name="nc", **given):
    values = {"id": name, "url": f"https://{name}.example.org", "session_limit": 15, "register": True}
    return {**values, "stream_bitrate": 2097152, "screen_bitrate": None, **given}


CALL = {
    "seconds": 3,
    "late_seconds": 0.05,
    "loss_percent": 0.5,
    "first_frame_seconds": 0.42,
    "round_trip_seconds": 0.012,
    "missing": [],
    "audio": {"received": 150, "lost": 0, "frames": 150},
    "video": {"received": 90, "lost": 2, "frames": 80},
    "pair": {
        "local": {"type": "relay", "protocol": "udp", "address": "192.0.2.10", "port": 61000},
        "remote": {"type": "host", "protocol": "udp", "address": "2001:db8::10", "port": 20000},
    },
    "series": [{"t": 0.5, "audio": 25, "video": 10}, {"t": 1.0, "audio": 24, "video": 16}],
}
SERVER = [step("welcome", instance="all"), step("closed", instance="all")]
FAILED = step("hello", "failed", seen="It is off.", cause="It is off.", remedy="Switch it on.")
WARNING = step("hello", "warning", seen="Its admin has not entered it.", remedy="Wait for its admin.")
FINDING = {
    **{"instance": "nc", "step": "hello", "what": "It is off", "why": "at night", "mend": "Wake it", "seen": "-"},
    "status": "failed",
}


def made(steps, seen=None, findings=(), instances=None, result=None, **more):
    return report(
        instances or [instance()],
        seen or {},
        time=TIME,
        url=URL,
        turn_server="turn.example.org:3478",
        result={"results": steps, "seconds": 9.5, "version": "2.1.1", "features": ["mcu"], **(result or {})},
        findings=findings,
        **more,
    )


# --- the document -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "seen", "of_instance", "overall"),
    [
        ([*SERVER, step("direct")], {}, "ok", "ok"),
        ([*SERVER, step("direct"), FAILED], {}, "failed", "failed"),
        ([*SERVER, step("direct"), WARNING], {}, "warning", "ok"),
        ([*SERVER, step("direct")], {"nc": {"check": {"available": True, "ok": False}}}, "failed", "failed"),
        ([step("welcome", "failed", instance="all"), step("direct", "skipped")], {}, "not_checked", "failed"),
        ([*SERVER, step("direct", instance="other")], {}, "not_checked", "ok"),
        ([], {}, "not_checked", "not_checked"),
        ([], {"nc": {"check": {"available": True, "ok": False}}}, "failed", "failed"),
        ([], {"nc": {"check": {"available": True, "ok": True}}}, "not_checked", "not_checked"),
    ],
)
def test_the_verdicts(steps, seen, of_instance, overall):
    document = made(steps, seen)
    assert document["instances"][0]["verdict"] == of_instance
    assert document["verdict"] == overall


def test_the_document():
    seen = {"nc": {"nextcloud": "34.0.1.2", "talk": "22.0.4", "check": {"available": True, "ok": True, "where": "occ"}}}
    other = {**FINDING, "instance": "all"}
    document = made([*SERVER, step("direct", figures=CALL)], seen, [FINDING, other], images={"nats": "nats:2.12"})
    call = {key: value for key, value in step("direct", figures=CALL).items() if key != "instance"}
    assert document == {
        "schema_version": 1,
        "time": TIME,
        "seconds": 9.5,
        "verdict": "ok",
        "backend": {
            "url": URL,
            "turn_server": "turn.example.org:3478",
            "verdict": "ok",
            "versions": {"nats": "2.12", "signalling": "2.1.1"},
            "features": ["mcu"],
            "steps": [{key: value for key, value in row.items() if key != "instance"} for row in SERVER],
        },
        "instances": [
            {
                "id": "nc",
                "url": "https://nc.example.org",
                "verdict": "ok",
                "register": True,
                "optional": False,
                "session_limit": 15,
                "stream_bitrate": 2097152,
                "screen_bitrate": None,
                "nextcloud_version": "34.0.1.2",
                "talk_version": "22.0.4",
                "check": {"available": True, "ok": True, "sentence": ""},
                "steps": [call],
                "findings": [FINDING],
            }
        ],
        "findings": [other],
    }
    jsonschema.Draft202012Validator(SCHEMA).validate(document)


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"audio": {"received": 1, "lost": -2, "path": "x"}}, {"audio": {"received": 1, "lost": 0}}),
        ({"series": [None, 3, {"t": 1, "kind": "x"}]}, {"series": [{"t": 1}]}),
        ({"audio": None, "pair": {}, "missing": ["audio", 3]}, {"pair": {}, "missing": ["audio", ""]}),
        ({"statuses": {"/metrics": 404}}, {"statuses": {"/metrics": 404}}),
        ({"jitter_seconds": 0.5, "control": True}, {"jitter_seconds": 0.5, "control": True}),
        ({"jitter": {"mean": 0.1, "of": SECRET, "more": {"most": 3}}}, {"jitter": {"mean": 0.1, "more": {"most": 3}}}),
        ({"token": SECRET, SECRET: 1, "Token": 1, "texts": ["x"], "none": {"a": "b"}}, {}),
        ({"jitter_seconds": float("nan"), "loss_percent": float("inf")}, {}),
        ({"pair": {"local": {"address": "192.0.2.1", "ufrag": SECRET}}}, {"pair": {"local": {"address": "192.0.2.1"}}}),
        ([1, 2], {}),
    ],
)
def test_only_known_figures_and_numbers_are_taken(given, taken):
    assert _report.figures(given) == taken


def texts_in(value, path=()):
    """All texts of a document with their place."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from texts_in(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from texts_in(item, (*path, index))


def everywhere(value, text):
    """The same structure with `text` in every text, and a further key with it in every mapping."""
    if isinstance(value, str):
        return f"{value} {text}"
    if isinstance(value, dict):
        return {**{key: everywhere(item, text) for key, item in value.items()}, "secret": text, text: {text: text}}
    if isinstance(value, list):
        return [everywhere(item, text) for item in value] + [text]
    return value


@pytest.mark.parametrize("form", ["json", "junit", "html"])
def test_what_is_not_described_is_in_no_form(form):
    """A key that nobody described, with a secret in it, at every place of the document."""

    def sneak(value):
        if isinstance(value, dict):
            return {**{key: sneak(item) for key, item in value.items()}, "secret": SECRET, "password": {"a": [SECRET]}}
        return [sneak(item) for item in value] if isinstance(value, list) else value

    document = copy.deepcopy(SAMPLE)
    # Versions and statuses are mappings with any key.
    assert SECRET in json.dumps(sneak(document))
    document = sneak(document)
    del document["backend"]["versions"]["secret"]
    assert SECRET not in report_text(document, form)


@pytest.mark.parametrize("form", ["json", "junit", "html"])
def test_a_secret_in_any_text_is_masked(form):
    rows = [everywhere(step("direct", "failed", figures=CALL), SECRET), *SERVER]
    rows[0] |= {"instance": "nc", "status": "failed"}
    finding = everywhere(FINDING, SECRET) | {"instance": "nc"}
    seen = {"nc": everywhere({"nextcloud": "34", "talk": "22", "check": {"sentence": "x", "ok": False}}, SECRET)}
    seen["nc"]["check"]["ok"] = False
    secrets = {"internal": "f" * 32, "instances": {"nc": {"url": "https://nc.example.org", "turn": SECRET}}}
    arguments = {"result": {"version": SECRET, "features": [SECRET]}, "images": {"nats": f"nats:{SECRET}"}}
    assert SECRET in report_text(made(rows, seen, [finding], **arguments), form)
    text = report_text(made(rows, seen, [finding], hide=secrets, **arguments), form)
    assert SECRET not in text
    assert "********" in text
    assert "https://nc.example.org" in text


def test_the_sample_is_one_and_holds_documentation_addresses():
    assert _report.known(SAMPLE) == SAMPLE
    assert SAMPLE["verdict"] == "failed"
    jsonschema.Draft202012Validator(SCHEMA).validate(SAMPLE)
    addresses = {text for path, text in texts_in(SAMPLE) if path[-1] == "address"}
    assert addresses
    assert [item for item in addresses if not item.startswith(("192.0.2.", "198.51.100."))] == []
    assert not re.search(r"[0-9a-f]{32}", json.dumps(SAMPLE))


# --- the schema ---------------------------------------------------------------------------------------------------


def described(node):
    return set(node["properties"])


@pytest.mark.parametrize(
    ("keys", "node"),
    [
        (_report.DOCUMENT({}), SCHEMA),
        (_report.BACKEND({}), SCHEMA["properties"]["backend"]),
        (_report.INSTANCE({}), SCHEMA["$defs"]["instance"]),
        (_report.CHECK({}), SCHEMA["$defs"]["instance"]["properties"]["check"]),
        (_report.STEP({}), SCHEMA["$defs"]["step"]),
        (_report.FINDING({}), SCHEMA["$defs"]["finding"]),
    ],
)
def test_the_schema_has_exactly_the_keys_of_the_document(keys, node):
    assert described(node) == set(keys)
    assert node["required"] == list(node["properties"])


def test_the_schema_is_valid_and_describes_every_figure():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert described(SCHEMA["$defs"]["figures"]) >= set(_report.FIGURES)


def test_the_page_of_documentation_names_every_key():
    text = (ROOT / "docs/report.md").read_text(encoding="utf-8")
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    words = set(re.findall(r"[a-z_]+", " ".join(re.findall(r"`([^`]+)`", text))))
    nodes = [SCHEMA, *SCHEMA["$defs"].values(), SCHEMA["properties"]["backend"]]
    nodes.append(SCHEMA["$defs"]["instance"]["properties"]["check"])
    keys = {key for node in nodes for key in node.get("properties", {})}
    assert sorted(keys - words) == []


@pytest.mark.parametrize(
    "break_it",
    [
        lambda document: document.pop("verdict"),
        lambda document: document.update(time="yesterday"),
        lambda document: document["instances"][0].update(verdict="fine"),
        lambda document: document["instances"][0]["steps"][0].pop("figures"),
        lambda document: document["instances"][0]["steps"][0]["figures"].update(token="x"),
    ],
)
def test_the_schema_refuses(break_it):
    document = copy.deepcopy(SAMPLE)
    break_it(document)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMA).validate(document)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "The report has the schema_version None, expected 1: give what the filter report or a report.json"),
        ({"schema_version": 2}, "The report has the schema_version 2, expected 1: "),
        ("text", "The report has the schema_version None, expected 1: "),
    ],
)
def test_another_document_is_refused(document, message):
    with pytest.raises(AnsibleFilterError, match=re.escape(message)):
        report_text(document, "json")


def test_another_form_is_refused():
    with pytest.raises(AnsibleFilterError, match="the form is 'pdf', expected one of json, junit, html"):
        report_text(SAMPLE, "pdf")


def test_json_is_the_document():
    assert json.loads(report_text(SAMPLE, "json")) == SAMPLE


# --- what is wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "findings", "expected"),
    [
        ([step("direct")], [], []),
        ([FAILED, {**FAILED, "step": "direct"}], [], [("nc", "failed", "It is off.", "Switch it on.")]),
        ([WARNING], [], [("nc", "warning", "Its admin has not entered it.", "Wait for its admin.")]),
        ([FAILED], [FINDING], [("nc", "failed", "It is off at night", "Wake it")]),
        ([WARNING], [FINDING], [("nc", "warning", "It is off at night", "Wake it")]),
        (
            [WARNING, {**FAILED, "step": "direct"}],
            [],
            [
                ("nc", "failed", "It is off.", "Switch it on."),
                ("nc", "warning", "Its admin has not entered it.", "Wait for its admin."),
            ],
        ),
        ([FAILED], [{**FINDING, "step": "hello, direct"}], [("nc", "failed", "It is off at night", "Wake it")]),
        (
            [{**FAILED, "instance": "all"}],
            [{**FINDING, "instance": "all"}],
            [("backend", "failed", "It is off at night", "Wake it")],
        ),
    ],
)
def test_what_is_wrong_is_said_once(steps, findings, expected):
    found = _report.problems(made(steps, findings=findings))
    assert [(item["place"], item["status"], item["cause"], item["remedy"]) for item in found] == expected


# --- JUnit --------------------------------------------------------------------------------------------------------


def junit(document):
    return ET.fromstring(report_text(document, "junit"))


def test_junit_of_the_sample():
    root = junit(SAMPLE)
    assert root.tag == "testsuites"
    assert [suite.get("name") for suite in root] == ["backend", *(item["id"] for item in SAMPLE["instances"])]
    assert root.get("failures") == "1"
    for suite in root:
        cases = suite.findall("testcase")
        datetime.datetime.strptime(suite.get("timestamp"), "%Y-%m-%dT%H:%M:%S")
        assert float(suite.get("time")) >= 0
        assert int(suite.get("tests")) == len(cases) > 0
        assert int(suite.get("failures")) == len(suite.findall("testcase/failure"))
        assert int(suite.get("skipped")) == len(suite.findall("testcase/skipped"))
        assert suite.get("errors") == "0"
        assert [child.tag for child in suite] == ["properties", *["testcase"] * len(cases)]
    for key in ("tests", "failures", "skipped"):
        assert int(root.get(key)) == sum(int(suite.get(key)) for suite in root)


def test_junit_of_each_status():
    steps = [
        FAILED,
        step("direct", figures=CALL),
        step("turn-udp", "warning", cause="Some are lost.", remedy="Look."),
        step("turn-tcp", "skipped"),
    ]
    seen = {"nc": {"check": {"available": True, "ok": False, "sentence": "It is old."}}}
    root = junit(made(steps, seen, [FINDING], [instance(), instance("other")]))
    server, suite, other = root
    assert server.find("testcase/skipped").get("message") == "No call was placed."
    assert (other.get("tests"), other.get("skipped")) == ("1", "1")
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("5", "2", "1")
    cases = {case.get("name"): case for case in suite.findall("testcase")}
    assert cases["hello"].get("classname") == "nextcloud_talk.hpb.nc"
    assert cases["hello"].find("failure").attrib == {"message": "It is off.", "type": "hello"}
    assert cases["hello"].find("failure").text == "It is off.\nSwitch it on."
    assert cases["direct"].get("time") == "3.420"
    assert cases["hello"].get("time") is None
    assert cases["turn-udp"].find("system-out").text == "Warning: turn-udp seen\nSome are lost.\nLook."
    assert cases["turn-udp"].find("failure") is None
    assert cases["turn-tcp"].find("skipped").get("message") == "turn-tcp seen"
    assert cases["Talk's own check"].find("failure").get("message") == "It is old."
    assert suite.find("system-out").text == "It is off at night Wake it"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\x00b\x1bc", "a\ufffdb\ufffdc"),
        ("\ud800\ufffe\uffff", "\ufffd\ufffd\ufffd"),
        ("tab\tline\n\U0001f600 \x7f", "tab\tline\n\U0001f600 \x7f"),
    ],
)
def test_characters_that_xml_does_not_have(text, expected):
    assert _report_junit.legal(text) == expected


def test_junit_escapes_everything():
    document = everywhere(SAMPLE, HOSTILE)
    document["schema_version"] = 1
    text = report_text(document, "junit")
    assert "<script" not in text and "<img" not in text
    root = ET.fromstring(text)
    assert HOSTILE[:20] in root[1].get("name")
    assert {element.tag for element in root.iter()} <= {
        "testsuites", "testsuite", "testcase", "failure", "skipped", "system-out", "properties", "property"
    }  # fmt: skip


# --- the page -----------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Reads a page: which elements there are, whether each is closed in its turn, their attributes, and the text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.wrong, self.elements, self.said, self.style = [], [], [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        if self.open and self.open[-1] == "style":
            self.style += data
        else:
            self.said.append(data.strip())

    def tags(self):
        return {tag for tag, _attributes in self.elements}


KNOWN_TAGS = {
    "html", "head", "meta", "title", "style", "body", "main", "section", "div", "footer", "h1", "h2", "h3", "p", "b",
    "span", "ul", "li", "dl", "dt", "dd", "svg", "circle", "path", "rect", "line", "polyline", "text",
}  # fmt: skip
EMPTY = made([])
RICH = made(
    [*SERVER, FAILED, step("direct", figures=CALL), step("turn-udp", "failed", figures={"ice": "checking"}),
     step("screen", figures={"video": {"received": 3}, "data": "ok"})],
    {"nc": {"check": {"available": False, "sentence": "It is off."}}},
    [FINDING],
)  # fmt: skip


@pytest.mark.parametrize("document", [SAMPLE, EMPTY, RICH, everywhere(SAMPLE, HOSTILE) | {"schema_version": 1}])
def test_a_page_is_well_formed_and_loads_nothing(document):
    page = Page(report_text(document, "html"))
    assert (page.open, page.wrong) == ([], [])
    assert page.tags() <= KNOWN_TAGS
    allowed = {
        "charset", "name", "content", "http-equiv", "lang", "class", "d", "x", "y", "x1", "x2", "y1", "y2", "cx", "cy",
        "r", "rx", "width", "height", "points", "viewbox", "role", "aria-label", "text-anchor", "stroke-dasharray",
    }  # fmt: skip
    assert {name for _tag, attributes in page.elements for name in attributes} <= allowed
    assert [
        value for _tag, attributes in page.elements for value in attributes.values() if "://" in (value or "")
    ] == []
    assert "url(" not in page.style and "@import" not in page.style


def test_a_hostile_text_is_shown_as_it_is():
    page = Page(report_text(everywhere(SAMPLE, HOSTILE) | {"schema_version": 1}, "html"))
    said = " ".join(page.said)
    assert "<script>alert(1)</script>\"'><img src=https://evil.example.com/x>&amp;" in said
    assert not re.search("[\x00\x1b\u202e\ud800]", said)


@pytest.mark.parametrize(
    ("element", "expected"),
    [
        (("p", "<b>", _report_page.Html("<b></b>"), None, 3), "<p>&lt;b&gt;<b></b>3</p>"),
        (
            ("svg", {"class_": '"><i>', "text_anchor": "'&", "x": None}),
            '<svg class="&quot;&gt;&lt;i&gt;" text-anchor="&#x27;&amp;"></svg>',
        ),
        (("meta", {"name": "a\x00"}), '<meta name="a\ufffd">'),
    ],
)
def test_children_and_attributes_are_escaped(element, expected):
    tag, *children = element
    attributes = children.pop() if children and isinstance(children[-1], dict) else {}
    assert _report_page.el(tag, *children, **attributes) == expected


def test_the_page_of_the_sample():
    page = Page(report_text(SAMPLE, "html"))
    said = page.said
    assert "One of 3 instances does not work" in said
    assert "The HPB is refused the connection to https://test.example.org." in said
    assert "Start its web server or open its firewall." in said
    titles = [said[index] for index in range(len(said)) if said[index] in ("nc", "dev_nc", "test_nc", "Backend")]
    # The place of the problem, then the cards, the failed instance first.
    assert titles == ["test_nc", "test_nc", "dev_nc", "nc", "Backend"]
    assert "9 / 9" in said


def test_the_page_of_a_call():
    said = Page(report_text(RICH, "html")).said
    for text in ("0.4 s", "12 ms", "2 (0.83 %)", "192.0.2.10:61000", "[2001:db8::10]:20000", "came through", "TURN"):
        assert text in said, text
    assert "at most 15" in said and "2.1 Mbit/s" in said and "the server's limit" in said


@pytest.mark.parametrize(
    ("steps", "count", "headline"),
    [
        ([*SERVER, step("direct")], 1, "Calls work"),
        ([*SERVER, step("direct")], 2, "Calls work for 1 of 2 instances, the rest was not checked"),
        ([*SERVER, step("direct"), step("direct", instance="nc1")], 2, "Calls work for all 2 instances"),
        ([*SERVER, FAILED], 1, "The instance does not work"),
        ([*SERVER, FAILED], 2, "One of 2 instances does not work"),
        ([*SERVER, FAILED, {**FAILED, "instance": "nc1"}], 3, "2 of 3 instances do not work"),
        ([{**FAILED, "instance": "all"}, step("direct", "skipped")], 1, "The backend does not work as it should"),
        ([], 1, "No call was placed"),
    ],
)
def test_the_headline(steps, count, headline):
    instances = [instance(), *(instance(f"nc{number}") for number in range(1, count))]
    assert _report_page.summary(made(steps, instances=instances))[0] == headline


@pytest.mark.parametrize(
    ("received", "lost", "bars"),
    [
        (100, 0, [("track", 240.0), ("audio", 240.0)]),
        (50, 50, [("track", 240.0), ("audio", 120.0), ("lost", 120.0)]),
        # One of very many can still be seen.
        (99999, 1, [("track", 240.0), ("audio", 238.0), ("lost", 2.0)]),
        (0, 5, [("track", 240.0), ("lost", 240.0)]),
    ],
)
def test_the_bars(received, lost, bars):
    page = Page(_report_page.bars({"audio": {"received": received, "lost": lost}}))
    assert [(item["class"], float(item["width"])) for tag, item in page.elements if tag == "rect"] == bars


def test_the_curves():
    page = Page(_report_page.curves(CALL["series"]))
    lines = {item["class"]: item["points"] for tag, item in page.elements if tag == "polyline"}
    assert lines == {"audio": "0.0,14.0 240.0,16.2", "video": "0.0,47.6 240.0,34.2"}
    assert "25 packets" in page.said


@pytest.mark.parametrize("series", [[{"t": 1}, {"t": 1}], [{"audio": 1}, {"audio": 2}], [{"t": 1, "audio": 0}] * 2])
def test_curves_of_next_to_nothing(series):
    assert Page(_report_page.curves(series)).wrong == []


@pytest.mark.parametrize(
    ("received", "lost", "share"),
    [
        (100, 0, "0 %"),
        (0, 0, "0 %"),
        (99, 1, "1 %"),
        (10**6, 1, "< 0.01 %"),
        (0, 4, "100 %"),
        (2, 1, "33 %"),
        (1000, 8, "0.79 %"),
    ],
)
def test_a_loss_never_reads_as_none(received, lost, share):
    assert _report_page.share_lost(received, lost) == share
