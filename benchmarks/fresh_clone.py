"""Try the two commands of the README as a stranger would: a fresh clone, no environment, `make demo`, `make test`.

python benchmarks/fresh_clone.py            # prints seconds for each, first and second run
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def timed(command: list[str], cwd: Path, env: dict[str, str]) -> tuple[float, int, str]:
    """Seconds, exit code and the last lines of a command."""
    start = time.perf_counter()
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
    tail = "\n".join((done.stdout + done.stderr).splitlines()[-12:])
    return time.perf_counter() - start, done.returncode, tail


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", default=["demo", "demo", "test"])
    targets = parser.parse_args().targets
    clean = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONPATH")}
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "pricesmith"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        for target in targets:
            if target == "demo":
                subprocess.run(["rm", "-rf", str(clone / "out")], check=True)
            seconds, code, tail = timed(["make", target], clone, clean)
            print(f"make {target}: {seconds:.0f} s, exit {code}\n{tail}\n", flush=True)
            if code:
                raise SystemExit(code)


if __name__ == "__main__":
    main()
