"""The closing words of a test run: with which bandersnatch fastmirror was compared, and in what it was not."""

from __future__ import annotations

import pytest

NOT_COMPARED = {
    "storage-backend = s3": "fastmirror has no such storage",
    "filters and storages of third parties": "their interfaces are not bandersnatch's",
    "SOCKS proxies, and proxies of the environment": "tested by themselves",
    "runner.py, and the images": "fastmirror's --every and deployment files stand in their place",
}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say it, if any comparison was asked for."""
    ran: dict[str, int] = {}
    skipped: dict[str, int] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if not isinstance(report, pytest.TestReport) or not report.nodeid.startswith("tests/parity/"):
                continue
            if report.skipped and isinstance(report.longrepr, tuple):
                reason = str(report.longrepr[2]).removeprefix("Skipped: ")
                skipped[reason] = skipped.get(reason, 0) + 1
            elif report.when == "call":
                for version in (str(value) for name, value in report.user_properties if name == "bandersnatch"):
                    ran[version] = ran.get(version, 0) + 1
    if not ran and not skipped:
        return
    terminalreporter.section("parity with bandersnatch")
    for version, number in ran.items():
        terminalreporter.write_line(f"{number} comparisons with bandersnatch {version}")
    for reason, number in skipped.items():
        terminalreporter.write_line(f"{number} not made: {reason}")
    for what, reason in NOT_COMPARED.items():
        terminalreporter.write_line(f"not compared: {what}: {reason}")
