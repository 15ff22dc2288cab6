"""Mistakes that the type checker catches, so that they cannot be written."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path


def test_an_item_handed_to_a_pricer_is_a_type_error(tmp_path: Path) -> None:
    """A pricer can never be given the price by mistake."""
    source = Path(__file__).parent / "typing" / "fail_item_to_pricer.py"
    # Outside tests/, since pyproject.toml relaxes the checks of the tests' own modules.
    program = Path(shutil.copy(source, tmp_path))
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--num-workers", "0", str(program)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    errors = [line for line in checked.stdout.splitlines() if "error:" in line]
    wrong_line = 1 + program.read_text().splitlines().index("    return pricer.price(items)  # the one error")
    assert len(errors) == 1, checked.stdout + checked.stderr
    assert f":{wrong_line}: error:" in errors[0]
    assert "arg-type" in errors[0]
