"""The settings: what a configuration file and the command line say, and how their mistakes are named."""

from __future__ import annotations

import configparser
import io
import pickle
import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmirror.errors import SettingsError
from fastmirror.ini import read_ini
from fastmirror.layout import Layout, PageFormat
from fastmirror.settings import Settings, fingerprint
from fastmirror.settings_file import _SUPPORTED, DEFAULT_CONFIGURATION, DEFAULT_FILE_HOST, parse_settings
from fastmirror.settings_upstream import DEFAULT_MASTER, as_host_has_it


def mirror(*lines: str, **overrides: str) -> Settings:
    """Settings of a [mirror] section: the directory in line 2, `lines` from line 3."""
    text = "\n".join(["[mirror]", "directory = /srv/pypi", *lines])
    return parse_settings(text, source="FILE", overrides=overrides)


def refusal(*lines: str, **overrides: str) -> str:
    with pytest.raises(SettingsError) as caught:
        mirror(*lines, **overrides)
    return str(caught.value)


def filtered(plugins: str, *lines: str) -> Settings:
    enabled = [f"    {name}" for name in plugins.split()]
    return mirror("[plugins]", "enabled =", *enabled, *lines)


# Defaults


def test_defaults_are_bandersnatchs_and_the_documented_ones():
    settings = parse_settings("[mirror]\ndirectory = /srv/pypi", cores=6)
    assert settings.upstream.master == DEFAULT_MASTER
    assert settings.upstream.timeout_s == 10
    assert settings.upstream.unhashed == "refuse"
    assert not settings.upstream.allow_non_https
    pool = settings.pool
    assert (pool.processes, pool.index_transfers, pool.file_transfers) == (6, 12, 48)
    assert (pool.max_rate, pool.transport) == (None, "curl")
    assert settings.pages.formats == (PageFormat.HTML, PageFormat.V1_HTML, PageFormat.JSON)
    assert settings.pages.core_metadata
    assert settings.storage.directory == "/srv/pypi"
    assert settings.storage.layout is None
    assert settings.storage.durability
    assert settings.storage.min_free == 1 << 30
    assert settings.storage.delete_grace_s == 3600
    assert (settings.guard.max_removals, settings.guard.max_removed_files) == (None, None)
    assert (settings.filters.allow, settings.filters.block) == (None, frozenset())
    assert (settings.log.max_bytes, settings.log.keep) == (64 << 20, 5)
    assert settings.warnings == ()
    assert settings.from_file


def test_no_file_is_needed():
    settings = parse_settings(None, overrides={"directory": "/srv/pypi"})
    assert settings.storage.directory == "/srv/pypi"
    assert not settings.from_file


def test_directory_is_required():
    with pytest.raises(SettingsError, match=r"FILE: \[mirror\] directory: not set"):
        parse_settings("[mirror]\nworkers = 3\n", source="FILE")


def test_settings_survive_pickling_and_can_be_hashed():
    settings = mirror("master = https://user:word@index.example")
    assert pickle.loads(pickle.dumps(settings)) == settings
    assert hash(settings) == hash(pickle.loads(pickle.dumps(settings)))


# Each key

MIRRORS = ("https://one.example", "https://two.example")
KEYS = [
    ("directory", "/mnt//pypi/", "storage.directory", "/mnt/pypi"),
    ("master", "https://index.example/root/", "upstream.master", "https://index.example/root"),
    ("allow-non-https", "ON", "upstream.allow_non_https", True),
    ("proxy", "socks5h://proxy.example:1080", "upstream.proxy", "socks5h://proxy.example:1080"),
    ("timeout", "2.5", "upstream.timeout_s", 2.5),
    ("ca-bundle", "/etc/ca.pem", "upstream.ca_bundle", "/etc/ca.pem"),
    ("netrc", "/etc/netrc", "upstream.netrc", "/etc/netrc"),
    ("unhashed", "accept", "upstream.unhashed", "accept"),
    ("workers", "10", "pool.file_transfers", 160),
    ("index-transfers", "256", "pool.index_transfers", 256),
    ("file-transfers", "1024", "pool.file_transfers", 1024),
    ("processes", "8", "pool.processes", 8),
    ("transport", "requests", "pool.transport", "requests"),
    ("max-rate", "10M", "pool.max_rate", 10 << 20),
    ("core-metadata", "off", "pages.core_metadata", False),
    ("simple-format", "json", "pages.formats", (PageFormat.JSON,)),
    ("root_uri", "https://files.example/", "pages.root_uri", "https://files.example"),
    ("layout", "hashed", "storage.layout", Layout.HASHED),
    ("hash-index", "true", "storage.hash_index", True),
    ("staging", "/srv/staging", "storage.staging", "/srv/staging"),
    ("durability", "off", "storage.durability", False),
    ("min-free", "20G", "storage.min_free", 20 << 30),
    ("delete-grace", "2d", "storage.delete_grace_s", 172800.0),
    ("max-removals", "0", "guard.max_removals", 0),
    ("max-removed-files", "5", "guard.max_removed_files", 5),
    ("log-max-size", "500k", "log.max_bytes", 500 << 10),
    ("log-keep", "0", "log.keep", 0),
    ("log-config", "/etc/log.ini", "log.config", "/etc/log.ini"),
    ("json", "1", "pages.legacy_json", True),
    ("digest_name", "MD5", "pages.digest_name", "md5"),
    ("keep_index_versions", "3", "pages.keep_versions", 3),
    ("keep-index-versions", "2", "pages.keep_versions", 2),
    ("compare-method", "stat", "storage.compare", "stat"),
    ("storage-filesystem-manage-permissions", "false", "storage.manage_permissions", False),
    ("removed-projects", "hide", "storage.removed_projects", "hide"),
    ("cleanup", "true", "storage.clean_legacy_names", True),
    ("stop-on-error", "yes", "run.stop_on_error", True),
    ("diff-file", "/srv/diff", "run.diff_file", "/srv/diff"),
    ("diff-append-epoch", "on", "run.diff_with_epoch", True),
    ("verifiers", "9", "run.verifiers", 9),
    (
        "metrics-file",
        "/var/lib/node_exporter/fastmirror.prom",
        "run.metrics_file",
        "/var/lib/node_exporter/fastmirror.prom",
    ),
    ("report-file", "/var/lib/mirror/run.json", "run.report_file", "/var/lib/mirror/run.json"),
    ("status-page", "false", "run.status_page", False),
    ("public-url", "https://pypi.example.com/mirror/", "run.public_url", "https://pypi.example.com/mirror"),
    ("sweep", "50", "run.sweep", (50, 0)),
    ("sweep", "0", "run.sweep", (0, 0)),
    ("sweep", "0.1%", "run.sweep", (0, 0.1)),
    ("sweep", "100 %", "run.sweep", (0, 100)),
    ("sweep", "", "run.sweep", None),
    ("global-timeout", "5h", "upstream.longest_transfer_s", 18000.0),
    ("download-mirror", "https://one.example/ https://two.example", "upstream.download_mirrors", MIRRORS),
    ("download-mirror-no-fallback", "true", "upstream.download_fallback", False),
]
# That are tried elsewhere: of one value alone, or of a branch of their own.
KEYS_ELSEWHERE = {
    *("release-files", "storage-backend", "file-hosts", "with-dependencies", "local-json"),
    *("executor", "scheduler"),
    *("max-root-size", "max-page-size", "max-root-memory", "max-page-memory", "max-metadata-size", "max-file-size"),
}


def _field(settings: Settings, path: str) -> object:
    branch, name = path.split(".")
    return getattr(getattr(settings, branch), name)


@pytest.mark.parametrize(("key", "value", "path", "expected"), KEYS)
def test_each_key_reaches_its_field_from_the_file_and_from_the_command_line(key, value, path, expected):
    directory = "" if key == "directory" else "directory = /srv/pypi\n"
    settings = parse_settings(f"[mirror]\n{directory}{key} = {value}\n")
    assert _field(settings, path) == expected
    assert settings.warnings == ()
    overrides = {"directory": "/srv/pypi"} | {key: value}
    assert _field(parse_settings(None, overrides=overrides), path) == expected


def test_each_key_is_listed_above():
    assert {key for key, *_ in KEYS} | KEYS_ELSEWHERE == _SUPPORTED


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("workers = 0", "a whole number from 1 to 10"),
        ("workers = 50", "a whole number from 1 to 10"),
        ("workers = many", "a whole number from 1 to 10"),
        ("index-transfers = 257", "a whole number from 1 to 256"),
        ("file-transfers = 1025", "a whole number from 1 to 1024"),
        ("processes = 0", "a whole number from 1 to 256"),
        ("max-removals = -1", "a whole number of at least 0"),
        ("sweep = 1.5", "a part of the mirror such as 0.1%, or a number of projects, 0 for none"),
        ("sweep = 100.1%", "a part of the mirror such as 0.1%"),
        ("sweep = -1%", "a part of the mirror such as 0.1%"),
        ("sweep = all", "a part of the mirror such as 0.1%"),
        ("log-keep = -1", "a whole number from 0 to 1000"),
        ("timeout = 0", "a number of seconds above 0"),
        ("timeout = nan", "a number of seconds above 0"),
        ("timeout = inf", "a number of seconds above 0"),
        ("delete-grace = 1w", "seconds, or a duration such as 90s, 15m, 1h or 2d"),
        ("min-free = 5 apples", "a size such as 500k, 10M or 1G"),
        ("min-free = -1", "a size such as 500k, 10M or 1G"),
        ("simple-format = XML", "one of ALL, HTML, JSON"),
        ("layout = tree", "one of flat, hashed"),
        ("proxy = ftp://proxy.example", "http://HOST or https://HOST or socks4://HOST"),
        ("proxy = proxy.example:3128", "http://HOST or https://HOST or socks4://HOST"),
        ("master = index.example", "http://HOST or https://HOST, without query"),
        ("master = https://", "http://HOST or https://HOST, without query"),
        ("master = https://index.example:port", "http://HOST or https://HOST"),
        ("master = https://[::1", "http://HOST or https://HOST"),
        ("master = https://index.example/?key=1", "http://HOST or https://HOST, without query"),
        ("master =", "http://HOST or https://HOST, without query"),
        ("master = https://user:w/rd@index.example", "/ and @ of a password written as %2F and %40"),
        ("root_uri = /files", "http://HOST or https://HOST, without query"),
        ("root_uri = https://user:word@files.example", "an address without user and password"),
        ("staging = staging", "an absolute path"),
        ("ca-bundle = ~/ca.pem", "an absolute path"),
        ("netrc = .netrc", "an absolute path"),
        ("hash-index = perhaps", "one of 1, yes, true, on, 0, no, false, off"),
    ],
)
def test_a_bad_value_is_named_with_its_line_and_what_is_accepted(line, expected):
    key, _, value = line.partition("=")
    message = refusal("", line)
    assert message.startswith(f"FILE:4: [mirror] {key.strip()}: '")
    assert expected in message
    if "@" not in line and "?" not in line:
        assert f"'{value.strip()}': expected " in message


def test_the_wording_of_an_error():
    message = "FILE:3: [mirror] workers: '50': expected a whole number from 1 to 10"
    assert refusal("workers = 50") == message
    assert refusal(workers="50") == "--set workers: '50': expected a whole number from 1 to 10"


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("core-metadata = flase", "(did you mean 'false'?)"),
        ("transport = crul", "(did you mean 'curl'?)"),
        ("layout = Hash", "(did you mean 'hashed'?)"),
        ("simple-format = htm", "(did you mean 'HTML'?)"),
        ("unhashed = refused", "(did you mean 'refuse'?)"),
    ],
)
def test_a_misspelt_choice_comes_with_the_right_spelling(line, hint):
    assert refusal(line).endswith(hint)


def test_a_path_in_the_file_is_absolute():
    with pytest.raises(SettingsError, match=r"settings:2: \[mirror\] directory: 'pypi': expected an absolute"):
        parse_settings("[mirror]\ndirectory = pypi\n")


@pytest.mark.parametrize(
    ("value", "expected"),
    [("", None), ("0", None), ("500k", 512_000), ("10 MiB", 10 << 20), ("1.5g", 3 << 29), ("7B", 7)],
)
def test_sizes_have_binary_units_and_no_rate_is_no_limit(value, expected):
    assert mirror(f"max-rate = {value}").pool.max_rate == expected


@pytest.mark.parametrize(("value", "expected"), [("90", 90), ("90s", 90), ("15m", 900), ("1 H", 3600), ("0", 0)])
def test_durations(value, expected):
    assert mirror(f"delete-grace = {value}").storage.delete_grace_s == expected


@pytest.mark.parametrize("word", ["1", "yes", "TRUE", "On"])
def test_true_words(word):
    assert mirror(f"hash-index = {word}").storage.hash_index


@pytest.mark.parametrize("word", ["0", "no", "FALSE", "Off"])
def test_false_words(word):
    assert not mirror(f"core-metadata = {word}").pages.core_metadata


@pytest.mark.parametrize("key", ["proxy", "staging", "netrc", "ca-bundle", "root_uri", "layout", "max-rate"])
def test_an_empty_value_of_an_optional_key_is_its_absence(key):
    assert mirror(f"{key} =") == mirror()


@pytest.mark.parametrize(("workers", "index", "files"), [(1, 4, 16), (3, 12, 48), (10, 16, 160)])
def test_workers_set_both_numbers_of_transfers(workers, index, files):
    pool = mirror(f"workers = {workers}").pool
    assert (pool.index_transfers, pool.file_transfers) == (index, files)
    pool = mirror(f"workers = {workers}", "index-transfers = 7", "file-transfers = 9").pool
    assert (pool.index_transfers, pool.file_transfers) == (7, 9)


@pytest.mark.parametrize(("cores", "processes"), [(0, 1), (4, 4), (1000, 256)])
def test_a_process_per_core_within_bounds(cores, processes):
    settings = parse_settings(None, overrides={"directory": "/srv/pypi"}, cores=cores)
    assert settings.pool.processes == processes


# The upstream's address, and its secrets


@pytest.mark.parametrize("host", ["index.example", "127.0.0.1:8000", "[::1]:8000", "localhost"])
def test_an_http_master_needs_permission(host):
    assert "expected an https address (hint: allow-non-https = true)" in refusal(f"master = http://{host}")
    upstream = mirror(f"master = http://{host}/", "allow-non-https = true").upstream
    assert (upstream.master, upstream.allow_non_https) == (f"http://{host}", True)


def test_an_http_master_on_the_command_line_is_permission_enough():
    assert mirror(master="http://localhost:8000").upstream.allow_non_https
    assert mirror("allow-non-https = false", master="http://localhost").upstream.allow_non_https
    assert mirror(**{"mirror.master": "http://localhost"}).upstream.allow_non_https
    assert not mirror(master="https://index.example").upstream.allow_non_https
    assert "https" in refusal(master="http://localhost", **{"allow-non-https": "false"})


@pytest.mark.parametrize(
    ("userinfo", "credentials"),
    [("user:word", ("user", "word")), ("us%40er:p%3Aw%2F", ("us@er", "p:w/")), ("token", ("token", "")), ("", None)],
)
def test_credentials_are_taken_out_of_the_masters_address(userinfo, credentials):
    upstream = mirror(f"master = https://{userinfo}@index.example:8443/root/").upstream
    assert upstream.master == "https://index.example:8443/root"
    assert upstream.credentials == credentials


@given(
    st.text(st.characters(codec="ascii", exclude_characters="%@?"), min_size=6).map(lambda text: f"<{text}>"),
    st.sampled_from(["master", "proxy", "root_uri", "workers", "staging", "mastre", "log-keep"]),
    st.sampled_from(["https://user:{}@index.example", "http://{}:x@index.example", "{}@index.example:port"]),
)
def test_credentials_show_in_no_representation_error_or_warning(secret, key, address):
    for lines, overrides in (
        ([f"{key} = {address.format(secret)}"], {}),
        ([f"{key} {address.format(secret)}"], {}),
        ([], {key: address.format(secret)}),
    ):
        try:
            shown = repr(mirror(*lines, **overrides))
        except SettingsError as error:
            shown = f"{error} {error!r} {error.__cause__}"
        assert secret not in shown
        assert repr(secret)[1:-1] not in shown


def test_what_follows_a_question_mark_is_not_shown():
    assert "hunter2" not in refusal("master = https://index.example/?token=hunter2")


# The parsing rules


def _read_by_configparser(text: str) -> dict[str, dict[str, str]] | None:
    parser = configparser.RawConfigParser(delimiters=("=",), strict=True)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    try:
        parser.read_file(io.StringIO(text, newline=None))
    except configparser.Error:
        return None
    return {section: dict(parser[section]) for section in parser.sections()}


def _read_by_fastmirror(text: str) -> dict[str, dict[str, str]] | None:
    try:
        config = read_ini(text, "FILE")
    except SettingsError:
        return None
    found: dict[str, dict[str, str]] = {}
    for section in config.sections:
        if section != "DEFAULT":
            keys = [key for home, key in config._entries if home in (section, "DEFAULT")]
            entries = [(key, config._find(section, key)) for key in keys]
            found[section] = {
                key: "\n".join(line.text for line in entry.lines).rstrip() for key, entry in entries if entry
            }
    return found


_INI_PIECES = st.sampled_from(
    ["[a]", "[b]", "[DEFAULT]", "[]", "k", "K", "=", " = ", "v", ":", "#", ";", " ", "\t", "\n", "\n ", "\r\n", "\r"]
)


@given(st.lists(_INI_PIECES, max_size=30).map("".join) | st.text().map(lambda text: text.lstrip("\ufeff")))
def test_files_are_read_as_bandersnatchs_parser_reads_them(text):
    """The same sections, keys and values as ConfigParser with `=` for delimiter, or refused by both."""
    assert _read_by_fastmirror(text) == _read_by_configparser(text)


def test_equals_is_the_only_delimiter_and_the_first_one_counts():
    upstream = mirror("master = https://user:w=rd@index.example", "ca-bundle=/a=b:c").upstream
    assert upstream.credentials == ("user", "w=rd")
    assert upstream.ca_bundle == "/a=b:c"


def test_keys_and_sections_are_case_sensitive():
    settings = parse_settings("[mirror]\ndirectory = /a\nWorkers = 5\n[Mirror]\nworkers = 7\n", source="FILE")
    assert settings.pool.index_transfers == 12
    assert settings.warnings == (
        "FILE:3: [mirror] Workers: unknown key, ignored (did you mean 'workers'?)",
        "FILE:4: [Mirror]: unknown section, ignored (did you mean 'mirror'?)",
    )


def test_comments_are_whole_lines():
    assert mirror("; workers = 9", "  # workers = 8", "#[mirror]").pool == mirror().pool
    assert "'5 ; inline'" in refusal("workers = 5 ; inline")


def test_an_indented_line_continues_the_value():
    assert mirror("ca-bundle =", "    /etc/ca.pem").upstream.ca_bundle == "/etc/ca.pem"


def test_per_cent_signs():
    upstream = mirror(
        "base = /etc/%%d",
        "ca-bundle = %(base)s/ca.pem",
        "netrc = /100%/%(half",
        "[DEFAULT]",
        "there = deep",
        "staging = /srv/%(there)s",
    )
    assert upstream.upstream.ca_bundle == "/etc/%d/ca.pem"
    assert upstream.upstream.netrc == "/100%/%(half"
    assert upstream.storage.staging == "/srv/deep"


def test_a_reference_sees_overrides_and_overrides_are_literal():
    settings = mirror("staging = %(directory)s/staging", directory="/srv/%(none)s%%")
    assert settings.storage.staging == "/srv/%(none)s%%/staging"


def test_references_that_lead_nowhere_are_named():
    assert refusal("staging = /%(nowhere)s") == "FILE:3: [mirror] staging: refers to 'nowhere', which is not set"
    assert "too deep or in a circle" in refusal("staging = /%(netrc)s", "netrc = /%(staging)s")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["workers = 3", "", "workers = 3"], "FILE:5: [mirror] workers: given twice, first in line 3"),
        (["[mirror]"], "FILE:3: [mirror]: given twice, first in line 1"),
        (["workers"], "FILE:3: 'workers': expected [section] or key = value"),
        (["= 3"], "FILE:3: '= 3': expected [section] or key = value"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(lines, message):
    assert refusal(*lines) == message


def test_a_key_needs_a_section():
    with pytest.raises(SettingsError, match=r"FILE:2: 'workers = 3': expected a \[section\] first"):
        parse_settings("# nothing\nworkers = 3\n", source="FILE")


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_lines_are_counted_whatever_ends_them(newline):
    text = newline.join(["\ufeff[mirror]", "directory =", "", "   # where", "   /srv/pypi", "", "workers = x"])
    with pytest.raises(SettingsError, match="settings:7: "):
        parse_settings(text)


# What is unknown, and what is known but not supported


def test_unknown_names_are_warned_of_with_line_and_nearest_name():
    settings = mirror("wokers = 5", "qqq = 1", "[plugin]", "enabled = x", "[allowlist]", "package = six")
    assert settings.warnings == (
        "FILE:3: [mirror] wokers: unknown key, ignored (did you mean 'workers'?)",
        "FILE:4: [mirror] qqq: unknown key, ignored",
        "FILE:5: [plugin]: unknown section, ignored (did you mean 'plugins'?)",
        "FILE:8: [allowlist] package: unknown key, ignored (did you mean 'packages'?)",
    )


def words(text: str) -> list[str]:
    return text.split()


BANDERSNATCH_DEFAULTS = words("""
    cleanup=false cleanup_todo=no compare-method=hash delete_missing_packages=0 diff-append-epoch=off diff-file=
    digest_name=SHA256 download-mirror= download-mirror-no-fallback=false global-timeout=1800 json=False
    keep-index-versions=0 keep_index_versions=0 log-config= release-files=YES stop-on-error=false
    storage-backend=filesystem storage-filesystem-manage-permissions=1 verifiers=3
""")


def test_bandersnatchs_defaults_pass_without_a_word():
    assert mirror(*BANDERSNATCH_DEFAULTS).warnings == ()


@pytest.mark.parametrize("line", words("cleanup_todo=yes delete_missing_packages=1 api-method=x delete-packages=true"))
def test_keys_that_are_not_needed_here_pass_without_a_word(line):
    assert mirror(line).warnings == ()


def test_a_mirror_without_files_links_to_pypis_own():
    settings = mirror("release-files = false")
    assert (settings.pages.release_files, settings.pages.root_uri) == (False, DEFAULT_FILE_HOST)
    assert len(settings.warnings) == 1
    settings = mirror("release-files = false", "root_uri = https://files.example")
    assert (settings.pages.root_uri, settings.warnings) == ("https://files.example", ())


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["storage-backend = swift"], "'swift': expected one of filesystem, s3"),
        (["digest_name = sha-256"], "'sha-256': expected one of "),
        (["keep_index_versions = 2", "layout = hashed"], "'2': expected 0 with layout = hashed"),
        (["keep-index-versions = 2", "layout = hashed"], "'2': expected 0 with layout = hashed"),
        (["hash-index = true", "layout = hashed"], "'true': expected false with layout = hashed"),
    ],
)
def test_what_cannot_be_ignored_is_an_error(lines, expected):
    message = refusal(*lines)
    assert message.startswith("FILE:3: ")
    assert expected in message


def test_an_unknown_plugin_is_warned_of():
    hint = " (did you mean 'blocklist_project'?)"
    assert filtered("blocklist_projects safety").warnings == (
        "FILE:5: [plugins] enabled: 'blocklist_projects': unknown plugin, ignored" + hint,
        "FILE:6: [plugins] enabled: 'safety': unknown plugin, ignored",
    )


# Filters


def test_the_allowlist_names_projects_whatever_their_versions():
    settings = filtered(
        "allowlist_project",
        "[allowlist]",
        "packages =",
        "    Six>=1.16  # an inline comment",
        "    # a whole line",
        "    zope.interface[test]; python_version > '3'",
        "    direct @ https://files.example/direct.whl#sha256=00",
    )
    assert settings.filters.allow == frozenset({"six", "zope-interface", "direct"})
    assert settings.warnings == ()


def test_the_allowlist_counts_only_where_its_plugin_is_enabled():
    settings = mirror("[allowlist]", "packages = six")
    assert settings.filters.allow is None
    assert settings.warnings == (
        "FILE:4: [allowlist] packages: without effect: allowlist_project is not enabled in [plugins]",
    )


@pytest.mark.parametrize("lines", [(), ("[allowlist]", "packages =", "    # six")])
def test_an_empty_allowlist_keeps_every_project_and_says_so(lines):
    settings = filtered("allowlist_project", *lines)
    assert settings.filters.allow is None
    assert settings.warnings == ("FILE:5: [plugins] enabled: [allowlist] packages is empty: every project is mirrored",)


def test_the_blocklist_counts_bare_names_alone():
    settings = filtered(
        "blocklist_project", "[blocklist]", "packages =", "    Six # all of it", "    black>=25", "    ruff[x]"
    )
    assert settings.filters.block == frozenset({"six"})
    reason = "more than a name, ignored: blocklist_release is not enabled in [plugins]"
    assert settings.warnings == (
        f"FILE:9: [blocklist] packages: black: {reason}",
        f"FILE:10: [blocklist] packages: ruff: {reason}",
    )


@pytest.mark.parametrize("line", ["six >=", "-r other.txt", "six==1 --hash=sha256:00", "./path", "a b", "é"])
def test_a_line_that_is_no_requirement_is_named_with_its_own_line(line):
    with pytest.raises(SettingsError) as caught:
        filtered("allowlist_project", "[allowlist]", "packages =", "    # why", "    six", f"    {line}")
    assert str(caught.value) == (
        f"FILE:10: [allowlist] packages: '{line}': expected a requirement, such as six or six>=1.16"
    )


# diff-file


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("/d/{{mirror_staging}}/new", "/d/stage/new"),
        ("{{ mirror_directory }}", "/srv/pypi"),
        ("{{  plug ins _ list_of_it }}/new", "/lists/new"),
        ("/plain_path/new", "/plain_path/new"),
    ],
)
def test_a_diff_file_may_refer_to_one_other_setting(value, path):
    settings = mirror(f"diff-file = {value}", "staging = /stage", "[plug ins]", "list_of_it = /lists")
    assert settings.run.diff_file == path


@pytest.mark.parametrize("value", ["{{mirror_nothing}}/x", "{{nosuch_directory}}", "/d/{{directory}}", "/d/{{mirror_"])
def test_a_diff_file_that_refers_to_no_setting_is_kept_in_the_mirrors_directory(value):
    settings = mirror(f"diff-file = {value}")
    assert settings.run.diff_file == "/srv/pypi/mirrored-files"
    assert settings.warnings[0].startswith("FILE:3: [mirror] diff-file: ")
    assert "refers to no setting" in settings.warnings[0]


# Overrides


def test_overrides_win_and_reach_other_sections():
    settings = filtered("blocklist_project", "[blocklist]", "packages = six")
    assert settings.filters.block == frozenset({"six"})
    settings = mirror("workers = 1", **{"workers": "2", "plugins.enabled": "blocklist_project"})
    assert settings.pool.index_transfers == 8
    settings = mirror(**{"plugins.enabled": "allowlist_project", "allowlist.packages": "six\nRuff"})
    assert settings.filters.allow == frozenset({"six", "ruff"})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("worker", "--set worker: unknown key of [mirror] (did you mean 'workers'?)"),
        ("allowlist.package", "--set allowlist.package: unknown key of [allowlist] (did you mean 'packages'?)"),
        ("alowlist.packages", "--set alowlist.packages: unknown section (did you mean 'allowlist'?)"),
        ("qqqqqq", "--set qqqqqq: unknown key of [mirror]"),
    ],
)
def test_a_typo_on_the_command_line_is_an_error(name, message):
    assert refusal(**{name: "1"}) == message


# The whole


@given(st.text(), st.dictionaries(st.sampled_from(sorted(_SUPPORTED)) | st.text(), st.text(), max_size=3))
def test_nothing_but_a_settings_error_comes_of_arbitrary_text(text, overrides):
    with suppress(SettingsError):
        parse_settings(text, overrides=overrides)


_LINES = st.builds(
    "{}={}".format, st.sampled_from([*sorted(_SUPPORTED), "json", "verifiers", "release-files"]), st.text(max_size=20)
)


@given(
    st.lists(_LINES, max_size=4),
    st.sampled_from(["", "allowlist_project", "blocklist_project"]),
    st.lists(st.text(max_size=20), max_size=4),
)
def test_nothing_but_a_settings_error_comes_of_arbitrary_values(lines, plugin, packages):
    text = "\n".join([f"[plugins]\nenabled={plugin}\n[allowlist]\npackages =", *(f"  {line}" for line in packages)])
    text += "\n[blocklist]\npackages =\n" + "\n".join(f" {line}" for line in packages)
    with suppress(SettingsError):
        mirror(*lines, text)


def test_deeply_nested_markers_are_a_settings_error():
    nested = "six; " + "(" * 20_000 + "os_name == 'x'" + ")" * 20_000
    with pytest.raises(SettingsError, match="expected a requirement"):
        filtered("allowlist_project", "[allowlist]", f"packages = {nested}")


def test_the_default_configuration_parses_without_a_warning():
    settings = parse_settings(DEFAULT_CONFIGURATION)
    assert settings.warnings == ()
    assert settings.storage.directory == "/srv/pypi"
    assert settings.storage.layout is Layout.HASHED
    assert settings.upstream.master == DEFAULT_MASTER
    assert settings == parse_settings("[mirror]\ndirectory = /srv/pypi\nlayout = hashed\n")


def test_the_examples_in_the_default_configuration_are_valid():
    settings = parse_settings(re.sub("^; ", "", DEFAULT_CONFIGURATION, flags=re.MULTILINE))
    assert settings.warnings == ()
    assert settings.filters.allow == frozenset({"requests", "urllib3"})
    assert settings.filters.block == frozenset({"example-project"})
    assert settings.guard.max_removals == 100


# The fingerprint


@pytest.mark.parametrize(
    "line",
    [
        "simple-format = JSON",
        "root_uri = https://files.example",
        "core-metadata = false",
        "unhashed = accept",
        "hash-index = true",
    ],
)
def test_the_fingerprint_tells_what_shapes_a_page(line):
    assert fingerprint(mirror(line), 1) != fingerprint(mirror(), 1)


def test_the_fingerprint_tells_renderers_apart():
    assert fingerprint(mirror(), 1) != fingerprint(mirror(), 2)


def test_the_fingerprint_has_nothing_to_do_with_the_projects_mirrored_or_the_pace():
    narrowed = filtered("allowlist_project", "[allowlist]", "packages = six")
    assert fingerprint(narrowed, 1) == fingerprint(mirror("workers = 9"), 1) == fingerprint(mirror(), 1)


def test_the_fingerprint_is_the_same_in_every_release_and_process():
    assert fingerprint(mirror(), 1) == "3194d6643987ad165a5aea6fd3142822"


def test_a_clusters_host_has_its_own_proxy_unless_one_is_chosen_and_its_own_download_mirrors_first() -> None:
    near = {
        "HTTPS_PROXY": "http://near:3128",
        "NO_PROXY": "a b",
        "FASTMIRROR_DOWNLOAD_MIRROR": "https://near https://x",
    }
    parent = {"HTTPS_PROXY": "http://far:3128"}
    text = "[mirror]\ndirectory = /srv\ndownload-mirror = https://x\n"
    upstream = parse_settings(text, environment=parent).upstream
    there = as_host_has_it(upstream, near, [])
    assert (there.proxy, there.no_proxy, there.download_mirrors) == (
        "http://near:3128",
        "a,b",
        ("https://near", "https://x"),
    )
    assert as_host_has_it(upstream, {}, []).proxy is None
    chosen = parse_settings(text + "proxy = http://chosen:3128\n", environment=parent).upstream
    assert as_host_has_it(chosen, near, []).proxy == "http://chosen:3128"
    with pytest.raises(SettingsError, match="FASTMIRROR_DOWNLOAD_MIRROR"):
        as_host_has_it(upstream, {"FASTMIRROR_DOWNLOAD_MIRROR": "http://near"}, [])


def test_a_cluster_needs_its_schedulers_address_and_one_without_use_is_told() -> None:
    text = "[mirror]\ndirectory = /srv\n"
    pool = parse_settings(f"{text}executor = dask\nscheduler = tls://10.0.0.1:8786\n").pool
    assert (pool.executor, pool.scheduler) == ("dask", "tls://10.0.0.1:8786")
    with pytest.raises(SettingsError, match="needs a scheduler"):
        parse_settings(f"{text}executor = dask\n")
    with pytest.raises(SettingsError, match="the address of a dask scheduler"):
        parse_settings(f"{text}executor = dask\nscheduler = 10.0.0.1\n")
    assert "without effect" in parse_settings(f"{text}scheduler = tcp://10.0.0.1:8786\n").warnings[0]
