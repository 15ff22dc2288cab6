"""The wheel and the sdist: everything that the code reads is in them, and the installed command works elsewhere."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "pricesmith"


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist of this checkout, built with the setuptools that is installed."""
    folder = tmp_path_factory.mktemp("dist")
    copy = tmp_path_factory.mktemp("checkout") / "pricesmith"
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    for name in names:
        if name and (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


def test_the_wheel_holds_every_file_of_the_package(dist: Path) -> None:
    """Modules, recipes, tables and templates: a file that is not packed is found missing only after a release."""
    (wheel,) = dist.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("pricesmith/")}
    tracked = subprocess.run(["git", "ls-files", "src"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    expected = {name.removeprefix("src/") for name in tracked.split("\n") if name and (ROOT / name).is_file()}
    assert len(expected) > 100
    assert expected - packed == set()


def test_the_sdist_holds_the_license_and_the_source(dist: Path) -> None:
    """What is needed to build again is in the sdist."""
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml", "src/pricesmith/__init__.py"} <= names


def test_the_installed_command_works_outside_the_checkout(dist: Path, tmp_path: Path) -> None:
    """The wheel in a fresh environment: the console script makes a catalog and a model from a table."""
    (wheel,) = dist.glob("*.whl")
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin" / "python"
    install = [sys.executable, "-m", "pip", f"--python={python}", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, str(wheel)], check=True, cwd=tmp_path)
    # The dependencies are those of this environment; the package itself is the installed one.
    site = Path(
        subprocess.check_output(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
        ).strip()
    )
    paths = [path for path in sys.path if path.endswith("site-packages")] or [sysconfig.get_path("purelib")]
    (site / "dependencies.pth").write_text("\n".join(paths) + "\n")

    def run(*words: str) -> str:
        done = subprocess.run(
            [str(word) for word in words], cwd=tmp_path, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"}
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    script = str(environment / "bin" / "pricesmith")
    assert run(str(python), "-c", "import pricesmith; print(pricesmith.__file__)").startswith(str(environment))
    assert run(script, "--version").strip() == "0.1.0"
    run(str(python), "-m", "pricesmith.testing", "shop.csv", "new.csv")
    run(script, "curate", "shop.csv", "--to", "shop")
    run(script, "fit", "median", "--catalog", "shop", "--to", "median")
    run(script, "price", "median", "--file", "new.csv", "--to", "prices.csv")
    assert (tmp_path / "prices.csv").read_text().count("\n") > 10
