"""The processes of a cluster on this machine: what they import."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import os
from convexsnn.admm.cluster import connect
if __name__ == "__main__":
    with connect(workers=1) as client:
        print(client.submit(os.getenv, "PYTHONSAFEPATH").result(), "PYTHONSAFEPATH" in os.environ)
"""
NAMES = ("multiprocessing", "pickle", "tornado", "distributed", "signal", "threading", "numpy", "msgpack")


@pytest.mark.slow
def test_workers_import_nothing_from_the_current_folder(tmp_path):
    pytest.importorskip("distributed")
    (tmp_path / "script.py").write_text(SCRIPT)
    folder = tmp_path / "downloaded"
    folder.mkdir()
    for name in NAMES:
        (folder / f"{name}.py").write_text(
            f"open({str(tmp_path / 'ran')!r}, 'w').write(__name__)\nraise SystemExit"
        )
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py"], capture_output=True, text=True, cwd=folder,
        env={name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"},
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("1 False\n", "") and not (tmp_path / "ran").exists()
