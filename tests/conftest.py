"""Fixtures that more than one file of tests uses."""

import sys

import pytest

from convexsnn.cli import main


@pytest.fixture
def cli(monkeypatch, capsys, tmp_path):
    """Return a function that runs the command line in an empty folder: (status, out, err)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERMINAL_WIDTH", "200")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["convexsnn", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return left.value.code or 0, out, err

    return run
