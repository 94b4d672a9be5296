"""What the scripts say where something is missing that they cannot bring."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_without_a_browser_and_the_right_to_install_one_the_environment_says_so(tmp_path: Path) -> None:
    for name in ("bash", "dirname", "cat", "sha256sum"):
        program = shutil.which(name)
        assert program is not None
        (tmp_path / name).symlink_to(program)
    (tmp_path / "id").write_text("#!/bin/sh\necho 1000\n")  # a user who is not root
    (tmp_path / "id").chmod(0o755)
    done = subprocess.run(
        ["bash", "scripts/environment", "test"], cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("The tests need Chromium and its driver: install chromium and chromedriver")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
