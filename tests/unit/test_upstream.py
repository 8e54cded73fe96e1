from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from fastmirror.errors import PageError, SettingsError, UpstreamError
from fastmirror.settings_file import parse_settings
from fastmirror.transport import Reply
from fastmirror.upstream import (
    Dialect,
    RootChange,
    RootIndex,
    dialect_of,
    is_json,
    legacy_url,
    load_root,
    parse_json_root,
    project_url,
    read_root,
    require_usable,
    root_change,
    root_request,
    save_root,
    with_netrc,
)

if TYPE_CHECKING:
    from fastmirror.names import NormalizedName
    from fastmirror.settings import UpstreamSettings

MASTER = "https://index.example"
PAGE_URL = f"{MASTER}/simple/"
JSON = "application/vnd.pypi.simple.v1+json"
HTML = "application/vnd.pypi.simple.v1+html"


def reply(body: bytes = b"", content_type: str = JSON, *, status: int = 200, error: str = "") -> Reply:
    return Reply(0, status, {"content-type": content_type}, body, error, retryable=False)


def root(*projects: Any) -> bytes:
    """A root index in PyPI's form: (name, serial), or whole entries."""
    entries = [entry if isinstance(entry, dict) else {"_last-serial": entry[1], "name": entry[0]} for entry in projects]
    return json.dumps({"meta": {"api-version": "1.4"}, "projects": entries}, separators=(",", ":")).encode()


def with_serial(body: bytes, serial: int) -> bytes:
    return body.replace(b'"meta":{', b'"meta":{"_last-serial":%d,' % serial)


def index_of(projects: Any, serial: int | None, *skipped: str) -> RootIndex:
    return RootIndex(projects, serial, list(skipped))


def change_of(changed: Any, removed: Any, serial: int) -> RootChange:
    return RootChange(changed, removed, serial, [])


# What is asked


def test_pages_have_the_urls_that_the_specification_gives_them():
    assert project_url(MASTER, "six") == f"{MASTER}/simple/six/"
    assert legacy_url(MASTER, "six") == f"{MASTER}/pypi/six/json"


@pytest.mark.parametrize(
    ("dialect", "json_first", "html"), [(None, True, True), (Dialect.JSON, True, False), (Dialect.HTML, False, True)]
)
def test_the_root_index_is_asked_for_in_the_dialect_of_its_upstream(dialect, json_first, html):
    request = root_request(MASTER, dialect, "", 100)
    assert request.url == PAGE_URL
    (accept,) = request.headers
    assert (JSON in accept, "html" in accept) == (json_first, html)
    assert request.compressed


def test_the_root_index_is_asked_for_again_only_if_it_is_another():
    assert 'If-None-Match: "e"' in root_request(MASTER, Dialect.JSON, '"e"', 100).headers


# What is answered


@pytest.mark.parametrize("status", [200, 304])
def test_a_root_index_that_came_is_usable(status):
    require_usable(reply(status=status), "root index")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (reply(status=503), "root index cannot be read: HTTP status 503"),
        (reply(status=404), "root index cannot be read: HTTP status 404"),
        (reply(status=0, error="connection refused"), "root index cannot be read: connection refused"),
        (reply(status=200, error="body ended early"), "root index cannot be read: body ended early"),
    ],
)
def test_a_root_index_that_did_not_come_makes_the_upstream_unusable(answer, said):
    with pytest.raises(UpstreamError) as caught:
        require_usable(answer, "root index")
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (JSON, True),
        ("Application/VND.PyPI.Simple.v1+JSON; charset=utf-8", True),
        ("application/json", True),
        ("application/vnd.pypi.simple.latest+json", True),
        (HTML, False),
        ("text/html; charset=utf-8", False),
        ("", False),
    ],
)
def test_an_answer_is_json_by_its_content_type(content_type, expected):
    assert is_json(reply(content_type=content_type)) is expected


def test_an_answer_without_a_content_type_is_no_json():
    assert not is_json(Reply(0, 200, {}, b"{}", "", retryable=False))


@pytest.mark.parametrize(("content_type", "spoken"), [(JSON, Dialect.JSON), (HTML, Dialect.HTML)])
def test_the_first_answer_settles_the_dialect_and_no_other_changes_it(content_type, spoken):
    answer = reply(content_type=content_type)
    assert dialect_of(answer, None) is spoken
    assert [dialect_of(answer, settled) for settled in Dialect] == [
        settled if settled is spoken else None for settled in Dialect
    ]


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", JSON),
        (b"{", JSON),
        (b"[]", JSON),
        (b"null", JSON),
        (b"{}", JSON),
        (b'{"projects":{}}', JSON),
        (b'{"projects":[]}', JSON),
        (b'{"projects":[{"name":"../x"}]}', JSON),
        (root(("six", 5)).replace(b"1.4", b"2.0"), JSON),
        (root(("six", 5))[:-4], JSON),
        (b"<html><body>down for maintenance</body></html>", JSON),
        (b"\xff\xfe", JSON),
        (b"", HTML),
        (b"<html><body>down for maintenance</body></html>", HTML),
        (root(("six", 5)), HTML),
    ],
)
def test_what_is_no_root_index_or_lists_nothing_makes_the_upstream_unusable(body, content_type):
    with pytest.raises(UpstreamError, match="root index cannot be used"):
        read_root(body, Dialect.JSON if content_type == JSON else Dialect.HTML, PAGE_URL)


def test_an_html_root_index_lists_names_without_serials():
    body = b'<!DOCTYPE html><a href="/simple/six/">Six</a><a href="zope.interface/">zope.interface</a>'
    assert read_root(body, Dialect.HTML, PAGE_URL) == index_of({"six": None, "zope-interface": None}, None)


# JSON root indexes


@pytest.mark.case(10)
def test_names_are_normalised_and_the_greatest_serial_is_the_whole_indexs():
    index = parse_json_root(root(("Flask.Admin", 7), ("six", 5)))
    assert index == index_of({"flask-admin": 7, "six": 5}, 7)


@pytest.mark.case(10)
def test_the_serial_of_the_whole_may_be_above_that_of_every_project():
    """The last event may have been a removal."""
    assert parse_json_root(with_serial(root(("six", 5)), 9)).serial == 9


def test_entries_without_a_valid_name_are_left_out_with_a_reason():
    index = parse_json_root(
        b'{"projects":[{"name":"six"},{"name":"../x"},{"name":6},{},{"Name":"a"},7,"pip",null,["idna"],[]]}'
    )
    assert index.projects == {"six": None}
    assert len(index.skipped) == 9
    assert all(len(reason) < 200 for reason in index.skipped)


def test_of_a_name_that_is_listed_twice_the_first_entry_stands():
    index = parse_json_root(root(("a.b", 5), ("A_B", 6)))
    assert index.projects == {"a-b": 5}
    assert index.skipped == ["name listed twice: 'A_B'"]


@pytest.mark.parametrize(
    ("given", "serial"),
    [
        (5, 5),
        ("5", 5),
        (2**63 - 1, 2**63 - 1),
        (0, None),
        ("0", None),
        (-1, None),
        (2**63, None),
        (2**64 - 1, None),
        (10**30, None),
        ("9" * 30, None),
        ("9" * 5000, None),
        (5.0, None),
        (True, None),
        (None, None),
        ("", None),
        ("five", None),
        ("\u0665", None),
        ("-5", None),
        (" 5", None),
        ([5], None),
        ({"serial": 5}, None),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_a_serial_is_a_positive_number_that_the_state_can_hold_or_none(given, serial):
    body = root({"name": "six", "_last-serial": given})
    assert parse_json_root(body).projects == {"six": serial}
    assert parse_json_root(json.dumps(json.loads(body), indent=1).encode()).projects == {"six": serial}


@pytest.mark.case(9)
@pytest.mark.parametrize("version", ["1.0", "1.4", "1.99", "1"])
def test_every_minor_version_is_read(version):
    assert parse_json_root(root(("six", 5)).replace(b"1.4", version.encode())).projects == {"six": 5}


@pytest.mark.case(9)
@pytest.mark.parametrize("version", ["2.0", "0.9", "10.1", "", "one"])
def test_another_major_version_is_refused(version):
    with pytest.raises(PageError, match="unknown major api-version"):
        parse_json_root(root(("six", 5)).replace(b"1.4", version.encode()))


def test_a_large_index_is_read_whole():
    """In many pieces; none is lost at a seam."""
    listed = [(f"p-{number}", number + 1) for number in range(40_000)]
    body = root(*listed)
    assert len(body) > 1 << 20
    assert parse_json_root(body) == index_of(dict(listed), 40_000)


@pytest.mark.parametrize(
    "text",
    [
        '{"projects":[{"name":"six","x":"},{"},{"name":"pip"}],"meta":{}}',
        '{"projects":[{"name":"six","x":"},{"},{"name":"pip"}]}',
        '{"projects":[{"name":"six","x":"]}"},{"name":"pip"}]}',
        '{"projects":[{"name":"six","x":[{},{}]},{"name":"pip"}]}',
        '{"x":{"projects":[{"name":"no"}]},"projects":[{"name":"six"},{"name":"pip"}]}',
        '{"projects":[{"name":"no"}],"projects":[{"name":"six"},{"name":"pip"}]}',
        '{"projects":[{"name":"six"},{"name":"pip"}],"more":[{}]}',
        '{"projects":[{"name":"six"},{"name":"pip"}],"meta":{"x":[1]}}',
        '{"projects":[{"name":"six"},{"name":"pip","x":[]}]}',
        ' {"projects":[{"name":"six"},{"name":"pip"}]} \n',
        '{"projects": [ {"name": "six"}, {"name": "pip"} ] }',
    ],
)
def test_whatever_the_form_the_projects_are_those_of_the_json(text, monkeypatch):
    monkeypatch.setattr("fastmirror.upstream._CHUNK_BYTES", 1)
    assert list(parse_json_root(text.encode()).projects) == ["six", "pip"]


# What changed


def test_a_change_is_what_differs():
    old = root(("Kept", 1), ("newer", 2), ("gone", 3))
    new = with_serial(root(("new", 9), ("Kept", 1), ("newer", 8)), 12)
    assert root_change(old, new) == change_of({"new": 9, "newer": 8}, ["gone"], 12)


def test_nothing_differs_between_an_index_and_itself():
    body = with_serial(root(("six", 1), ("pip", 2)), 5)
    assert root_change(body, body) == change_of({}, [], 5)


def test_a_name_that_is_only_written_otherwise_is_not_removed():
    change = root_change(root(("Six", 1), ("pip", 2)), root(("six", 1), ("pip", 2)))
    assert change is not None
    assert (change.changed, change.removed) == ({"six": 1}, [])


@pytest.mark.parametrize(
    "other",
    [
        b"",
        b"{}",
        b'{"projects":[]}',
        b"<html>",
        json.dumps(json.loads(root(("six", 1))), indent=1).encode(),
        root(("six", 1))[:-1],
        root(("six", 1)).replace(b"[{", b"[_").replace(b'"name"', b'"{name"'),
        root(("six", 1)).replace(b"1.4", b"2.0"),
        root({"name": "six", "x": "},{"}),
        root({"name": "six", "x": [{}, {}]}),
        root({"name": "six", "x": [{"a": 1}, {"name": "pip"}, {"a": 2}]}),
    ],
)
def test_another_form_takes_the_whole_of_both(other):
    """So it does for what cannot be used: reading the whole says why."""
    whole = root(("pip", 2))
    assert root_change(whole, other) is None
    if b"2.0" not in other:
        assert root_change(other, whole) is None


def test_so_many_changes_take_the_whole_of_both():
    old = root(*((f"p-{number}", 1) for number in range(30_000)))
    new = root(*((f"p-{number}", 2) for number in range(30_000)))
    assert root_change(old, new) is None


@pytest.mark.case(2)
@pytest.mark.parametrize("twin", ["a-b", "A_b", "a.-b"])
def test_a_project_that_was_listed_twice_and_is_once_is_not_gone(twin: str) -> None:
    twice, once = root(("a-b", 4), (twin, 3), ("six", 1)), root(("a-b", 4), ("six", 1))
    change = root_change(twice, once)
    assert change is None or change.removed == []
    old, new = (with_serial(root(*listed, ("six", 1)), 5) for listed in ([("ab", 4)], []))
    assert root_change(old, new) == change_of({}, ["ab"], 5)


@pytest.mark.parametrize(
    "new",
    [
        pytest.param(root(*((f"p-{number}", 1) for number in range(200))), id="many entries"),
        pytest.param(b'{"projects":[{"name":"six","is":[' + b",".join([b"[]"] * 300) + b"]}]}", id="heavy entry"),
        pytest.param(
            b'{"meta":{"is":[' + b",".join([b"1"] * 300) + b']},"projects":[{"name":"six"}]}', id="a heavy head"
        ),
    ],
)
def test_a_change_that_takes_more_memory_than_allowed_is_not_compared(new: bytes) -> None:
    old = root(("six", 1))
    assert root_change(old, new) is not None
    assert root_change(old, new, memory=30_000) is None


def test_a_change_in_a_large_index_is_found():
    listed = [(f"p-{number}", number + 1) for number in range(40_000)]
    changed = [*listed[:20_000], ("p-20000", 99_999), *listed[20_001:30_000], *listed[30_001:]]
    assert root_change(root(*listed), root(*changed)) == change_of({"p-20000": 99_999}, ["p-30000"], 99_999)


# What is kept


def test_a_root_index_that_is_kept_loads_as_it_was(tmp_path):
    path = str(tmp_path / "root-index")
    assert load_root(path) == b""
    for body in (b"first", b"second"):
        save_root(path, body)
        assert load_root(path) == body
    assert [entry.name for entry in tmp_path.iterdir()] == ["root-index"]


# Credentials


def upstream(url: str = MASTER, **overrides: str) -> UpstreamSettings:
    return parse_settings(
        f"[mirror]\ndirectory = /srv/pypi\nmaster = {url}\n", source="FILE", overrides=overrides
    ).upstream


def test_credentials_come_from_netrc_where_it_names_the_host(tmp_path):
    path = tmp_path / "netrc"
    path.write_text("machine index.example login ann password secret\nmachine other.example login no password no\n")
    path.chmod(0o600)
    assert with_netrc(upstream(netrc=str(path))).credentials == ("ann", "secret")


def test_netrc_says_nothing_of_other_hosts(tmp_path):
    path = tmp_path / "netrc"
    path.write_text("machine other.example login no password no\n")
    path.chmod(0o600)
    settings = upstream(netrc=str(path))
    assert with_netrc(settings) == settings


def test_credentials_of_the_url_come_first(tmp_path):
    path = tmp_path / "netrc"
    path.write_text("machine index.example login ann password secret\n")
    settings = upstream("https://bob:word@index.example", netrc=str(path))
    assert with_netrc(settings).credentials == ("bob", "word")


def test_without_netrc_there_are_no_credentials():
    assert with_netrc(upstream()).credentials is None


@pytest.mark.parametrize("text", [None, "machine index.example login\nnonsense here\n"])
def test_a_netrc_that_cannot_be_read_is_the_operators_to_mend(tmp_path, text):
    path = tmp_path / "netrc"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SettingsError, match="netrc cannot be read") as caught:
        with_netrc(upstream(netrc=str(path)))
    assert "secret" not in str(caught.value)


def test_names_as_upstream_writes_them_are_told_where_they_differ_and_only_if_asked():
    old, new = root(("Six", 1), ("pip", 2)), root(("Six", 1), ("pip", 2), ("Zope.Interface", 3))
    displays: dict[NormalizedName, str] = {}
    whole = read_root(new, Dialect.JSON, PAGE_URL, displays)
    assert displays == {"six": "Six", "zope-interface": "Zope.Interface"}
    assert whole == read_root(new, Dialect.JSON, PAGE_URL)
    changed: dict[NormalizedName, str] = {}
    assert root_change(old, new, changed) == root_change(old, new)
    assert changed == {"zope-interface": "Zope.Interface"}
    from_html: dict[NormalizedName, str] = {}
    read_root(b'<a href="/simple/Zope.Interface/">Zope.Interface</a>', Dialect.HTML, PAGE_URL, from_html)
    assert from_html == {"zope-interface": "Zope.Interface"}


@pytest.mark.parametrize(
    "entry", ["[" * 1000 + "]" * 1000, '{"name":' + "[" * 1000 + "]" * 1000 + "}", '{"name": "..."}']
)
def test_an_entry_without_a_name_is_told_however_deep_it_is(entry: str) -> None:
    body = b'{"projects":[{"name":"six"},%b]}' % entry.encode()
    index = parse_json_root(body)
    assert list(index.projects) == ["six"]
    assert [reason.partition(":")[0] for reason in index.skipped] == ["entry without a valid name"]
