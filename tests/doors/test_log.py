"""Log lines where the user wants them: in a file, on the screen, and nowhere else."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from mosaic_cases import run_cli
from zemosaic.cli.log import logged

Capture = pytest.CaptureFixture[str]


def speak() -> None:
    for level in (logging.DEBUG, logging.INFO, logging.WARNING):
        logging.getLogger("zemosaic.stages.x").log(level, "line of %s", logging.getLevelName(level))


@pytest.mark.parametrize(("verbose", "shown"), [(0, ()), (1, ("INFO", "WARNING")), (2, ("DEBUG", "INFO", "WARNING"))])
@pytest.mark.parametrize("to_file", [True, False])
def test_lines_go_where_they_are_wanted(
    tmp_path: Path, capfd: Capture, verbose: int, shown: tuple[str, ...], to_file: bool
) -> None:
    before = logging.getLogger("zemosaic").level
    with logged(tmp_path / "run.log" if to_file else None, verbose):
        speak()
    err = capfd.readouterr().err
    for level in ("DEBUG", "INFO", "WARNING"):
        assert (f"line of {level}" in err) == (level in shown)
    if to_file:
        text = (tmp_path / "run.log").read_text()
        assert all(f"zemosaic.stages.x: line of {level}" in text for level in ("DEBUG", "INFO", "WARNING"))
    assert logging.getLogger("zemosaic").level == before
    assert not logging.getLogger("zemosaic").handlers


@pytest.mark.parametrize(
    "command", ["doctor", "config", "scan", "build", "coadd", "match", "solve", "simulate", "store"]
)
def test_every_command_has_them(capfd: Capture, command: str) -> None:
    ran = run_cli(capfd, command, "--help")
    assert "--log" in ran.out
    assert "--verbose" in ran.out


def test_a_log_that_cannot_be_written_is_told(capfd: Capture, tmp_path: Path) -> None:
    ran = run_cli(capfd, "doctor", "--log", tmp_path / "none/run.log")
    assert ran.code == 4
    assert "No such file" in ran.err
