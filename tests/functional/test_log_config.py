"""log-config: the handlers of an operator's file, bandersnatch's old one included, get what the mirror's log gets."""

from __future__ import annotations

import io
import logging
import sys
from typing import TYPE_CHECKING

import pytest

from fastmirror import logs
from fastmirror.errors import SettingsError
from fastmirror.settings import LogSettings
from tests.fakes import faults

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Mirror
    from tests.fakes.index import FakeIndex

LOGGERS = ("fastmirror", "bandersnatch", "")
logger = logging.getLogger("fastmirror.tests")


@pytest.fixture(autouse=True)
def _closed_logs() -> Iterator[None]:
    """Leave logging as it was: what a configuration set up is taken down."""
    kept = logging.getLogger().handlers[:], logging.getLogger().level
    yield
    logs.set_up(None, None)
    for name in LOGGERS:
        for handler in logging.getLogger(name).handlers[:]:
            logging.getLogger(name).removeHandler(handler)
            if handler not in kept[0]:
                handler.close()
    logging.getLogger("bandersnatch").setLevel(logging.NOTSET)
    logging.getLogger("bandersnatch").propagate = True
    logging.getLogger().handlers[:] = kept[0]
    logging.getLogger().setLevel(kept[1])


def configuration(path: Path, handlers: dict[str, str], *loggers: str) -> str:
    """A file of logging.config: handlers by name, `loggers` as "name level handlers propagate"."""
    named = [line.split(" ") for line in loggers]
    lines = ["[formatters]", "keys=plain", "[formatter_plain]", "format=%(levelname)s %(name)s %(message)s"]
    lines += ["[handlers]", f"keys={','.join(handlers)}"]
    for name, made in handlers.items():
        lines += [f"[handler_{name}]", "formatter=plain", made]
    lines += ["[loggers]", f"keys={','.join(name for name, *_ in named)}"]
    for name, level, used, propagate in named:
        lines += [f"[logger_{name}]", f"level={level}", f"handlers={used}", f"propagate={propagate}"]
        lines += [f"qualname={name}"] if name != "root" else []
    path.write_text("\n".join(lines))
    return str(path)


def file_handler(path: Path, level: str = "NOTSET") -> str:
    return f"class=FileHandler\nlevel={level}\nargs=({str(path)!r}, 'w')"


def set_up(tmp_path: Path, config: str) -> list[str]:
    """Set up a command's logs; the list is what a person is told."""
    told: list[str] = []
    logs.set_up(str(tmp_path), LogSettings(max_bytes=1 << 20, keep=1, config=config), emit=told.append)
    return told


@pytest.mark.parametrize(
    "loggers",
    [
        ("root INFO out 1",),
        ("root WARNING  1", "fastmirror INFO out 0"),
        ("root WARNING  1", "bandersnatch INFO out 0"),
        ("root INFO out 1", "bandersnatch INFO  1"),
        ("root INFO out 1", "bandersnatch INFO out 1"),
        ("root INFO out 1", "bandersnatch INFO out 1", "fastmirror INFO out 1"),
    ],
)
def test_each_record_comes_once_to_what_is_set_up_for_root_fastmirror_or_bandersnatch(
    tmp_path: Path, loggers: tuple[str, ...]
) -> None:
    out = tmp_path / "out"
    told = set_up(tmp_path, configuration(tmp_path / "conf", {"out": file_handler(out)}, *loggers))
    logger.info("talk")
    logger.warning("trouble %d", 1)
    logger.debug("detail")
    assert out.read_text() == "INFO fastmirror.tests talk\nWARNING fastmirror.tests trouble 1\n"
    assert told == ["fastmirror: warning: trouble 1"]
    assert [line.split(" ", 1)[1].split(" ", 2)[2] for line in written(tmp_path)] == ["talk", "trouble 1"]


def written(directory: Path) -> list[str]:
    return logs.log_path(str(directory)).read_text().splitlines()


def test_levels_are_the_operators_for_theirs_and_ours_for_ours(tmp_path: Path) -> None:
    outs = {name: tmp_path / name for name in ("grave", "all")}
    handlers = {"grave": file_handler(outs["grave"], "ERROR"), "all": file_handler(outs["all"])}
    config = configuration(tmp_path / "conf", handlers, "root WARNING grave 1", "fastmirror DEBUG grave,all 0")
    set_up(tmp_path, config)
    for level in (logging.DEBUG, logging.INFO, logging.ERROR):
        logger.log(level, "at %d", level)
    assert outs["grave"].read_text().splitlines() == ["ERROR fastmirror.tests at 40"]
    assert [line[-5:] for line in outs["all"].read_text().splitlines()] == ["at 10", "at 20", "at 40"]
    assert [line[-5:] for line in written(tmp_path)] == ["at 20", "at 40"]


def test_what_the_operators_handler_says_on_the_terminal_is_not_said_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    console = "class=StreamHandler\nlevel=ERROR\nargs=(sys.stderr,)"
    told = set_up(tmp_path, configuration(tmp_path / "conf", {"console": console}, "root INFO console 1"))
    logger.warning("trouble")
    logger.error("failure")
    assert (told, stream.getvalue()) == (["fastmirror: warning: trouble"], "ERROR fastmirror.tests failure\n")


def test_no_credentials_and_no_control_characters_reach_the_operators_handlers(tmp_path: Path) -> None:
    out = tmp_path / "out"
    set_up(tmp_path, configuration(tmp_path / "conf", {"out": file_handler(out)}, "root INFO out 1"))
    try:
        raise ValueError("at http://me:hunter2@h/")
    except ValueError:
        logger.exception("asked %s", "http://me:hunter2@h/\x1b[31m\nforged")
    text = out.read_text()
    assert "hunter2" not in text
    assert text.startswith("ERROR fastmirror.tests asked http://***@h/\\x1b[31m\\nforged\nTraceback")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "No such file or directory"),
        ("", "RuntimeError|KeyError"),
        ("[loggers]\nkeys=root\n", "KeyError"),
        ("nonsense", "RuntimeError|MissingSectionHeaderError"),
        (
            "[formatters]\nkeys=\n[handlers]\nkeys=a\n[handler_a]\nclass=Nothing\nargs=()\n[loggers]\nkeys=root\n",
            "Error",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_named_and_the_rest_is_set_up(
    tmp_path: Path, text: str | None, reason: str
) -> None:
    path = tmp_path / "conf"
    if text is not None:
        path.write_text(text)
    told: list[str] = []
    with pytest.raises(SettingsError, match=rf"log-config cannot be used \(.*({reason}).*\): '{path}'"):
        logs.set_up(str(tmp_path), LogSettings(max_bytes=1 << 20, keep=1, config=str(path)), emit=told.append)
    logger.warning("still told")
    assert told == ["fastmirror: warning: still told"]
    assert len(written(tmp_path)) == 1


def test_a_run_logs_to_the_handlers_of_bandersnatchs_old_file(mirror: Mirror, index: FakeIndex, tmp_path: Path) -> None:
    index.add_file("six", "six-1.0.tar.gz")
    index.fault("/packages/*", faults.status(404))
    out = tmp_path / "bandersnatch.log"
    config = configuration(tmp_path / "conf", {"out": file_handler(out)}, "root WARNING  1", "bandersnatch INFO out 0")
    result = mirror.run(set={"log-config": config})
    assert (result.status, result.stderr) == (1, "")
    assert "INFO fastmirror.execution six: partial: six-1.0.tar.gz: HTTP status 404" in out.read_text().splitlines()


def test_a_run_with_a_log_config_that_cannot_be_used_ends_with_status_2(
    mirror: Mirror, index: FakeIndex, tmp_path: Path
) -> None:
    result = mirror.run(set={"log-config": str(tmp_path / "none")})
    assert result.status == 2
    assert "fastmirror: error: log-config cannot be used (No such file or directory)" in result.stderr
    assert index.requests == []
