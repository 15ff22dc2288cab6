"""Two Ray nodes in two network namespaces: equal results, whatever dies on the way."""

from __future__ import annotations

import json
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.two_nodes import ADDRESS, HEAD, SECOND, TwoNodes, missing, start_two_nodes

from pricesmith.cli import run
from pricesmith.testing import make_catalog, make_csv

pytestmark = [
    pytest.mark.skipif(bool(missing()), reason=missing() or "two nodes can be started"),
    pytest.mark.timeout(600),
]
DRIVER = str(Path(__file__).with_name("driver.py"))
COMMAND = "import sys; from pricesmith.cli import main; sys.exit(main())"


@dataclass
class Shop:
    """A model, a file of 1,200 rows, and its prices as this machine computes them."""

    folder: Path
    prices: bytes

    def price(self, out: str, seconds: float) -> list[str]:
        """The arguments of a driver that prices the file slowly."""
        paths = [str(self.folder / name) for name in ("median", "new.csv", out)]
        return [DRIVER, "price", *paths, str(seconds)]


@pytest.fixture(scope="module")
def nodes() -> Iterator[TwoNodes]:
    """The running cluster, in a folder with a path short enough for Ray's sockets."""
    with (
        tempfile.TemporaryDirectory(prefix="ps", ignore_cleanup_errors=True) as folder,
        start_two_nodes(Path(folder)) as two,
    ):
        yield two


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The shop, on a folder that both nodes see."""
    folder = tmp_path_factory.mktemp("shop")
    make_csv(folder / "new.csv", 1_200, seed=1)
    catalog = ["--catalog", str(make_catalog(folder / "catalog", 400)), "--quiet"]
    assert run(["fit", "median", "--to", str(folder / "median"), *catalog]) == 0
    words = ["price", str(folder / "median"), "--file", str(folder / "new.csv"), "--comparables", "1", "--quiet"]
    assert run([*words, "--to", str(folder / "here.csv")]) == 0
    return Shop(folder, (folder / "here.csv").read_bytes())


def wait_for_parts(parts: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Wait until so many parts are written."""
    until = time.monotonic() + 240
    while len([*parts.glob("part-*.parquet")]) < count:
        assert process.poll() is None, process.communicate()[1][-2000:]
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.fixture(scope="module")
def faults(nodes: TwoNodes, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `driver.py faults` reports."""
    code, out, err = nodes.run([DRIVER, "faults", str(tmp_path_factory.mktemp("faults")), str(nodes.own)])
    assert code == 0, err[-3000:]
    facts: dict[str, Any] = json.loads(out.splitlines()[-1])
    return facts


def test_a_client_without_the_token_is_refused(nodes: TwoNodes, shop: Shop) -> None:
    """The error says what is missing, and nothing is written."""
    words = ["price", str(shop.folder / "median"), "--file", str(shop.folder / "new.csv"), "--cluster", ADDRESS]
    code, _, err = nodes.run(["-c", COMMAND, *words, "--to", str(shop.folder / "none.csv")], token=False)
    assert code == 2
    assert f"The Ray cluster at {ADDRESS} does not accept this process" in err
    assert "RAY_AUTH_TOKEN_PATH" in err
    assert "Traceback" not in err
    assert not (shop.folder / "none.csv").exists()


def test_a_folder_that_a_node_does_not_share_is_refused(faults: dict[str, Any]) -> None:
    """The error names the node and the folder."""
    assert f"Node {SECOND} does not share the folders" in faults["not shared"]
    assert "own is not the same folder there" in faults["not shared"]


def test_a_node_with_other_versions_is_refused(faults: dict[str, Any]) -> None:
    """The error names a node and both versions."""
    text = faults["other version"]
    assert text.startswith("exit code 2: Node 10.231.7.")
    assert "torch" in text
    assert "instead of 1.0.0" in text


def test_a_poisoned_shard_is_named_and_the_others_finish(faults: dict[str, Any]) -> None:
    """One shard raises, another kills its process each time; three are done."""
    results = {result["name"]: result for result in faults["poisoned"]}
    assert results["shard 1"]["failure"].startswith("ValueError: row 17 is broken (driver.py:")
    assert results["shard 1"]["node"] in (HEAD, SECOND)
    assert results["shard 2"]["failure"].startswith("its process died 4 times, last with WorkerCrashedError")
    done = sorted(name for name, result in results.items() if not result["failure"])
    assert done == ["shard 0", "shard 4", "shard 5"]


def test_a_full_disk_is_named_with_its_node_and_no_further_shard_is_begun(
    nodes: TwoNodes, faults: dict[str, Any]
) -> None:
    """The folder and the node are named, and shards are left for the next run."""
    failed = [result for result in faults["disk full"] if result["failure"]]
    assert failed
    for result in failed:
        assert result["failure"] == f"the disk is full: {nodes.own}"
        assert result["node"] == SECOND
    assert len(faults["disk full"]) < 80


def test_actors_live_as_long_as_the_run(faults: dict[str, Any]) -> None:
    """One process for each node runs its shards one after another, and so loads a model once."""
    results = faults["actors"]
    assert sorted(result["number"] for result in results) == [*range(6)]
    assert len({result["pid"] for result in results}) <= 2


def test_two_nodes_build_the_catalog_that_one_machine_builds(nodes: TwoNodes, shop: Shop) -> None:
    """Every file of it; the two sources are read by the nodes."""
    make_csv(shop.folder / "more.csv", 300, seed=2)
    sources = [str(shop.folder / name) for name in ("new.csv", "more.csv")]
    one, two = shop.folder / "one" / "shop", shop.folder / "two" / "shop"
    assert run(["curate", *sources, "--to", str(one), "--quiet"]) == 0
    words = ["curate", *sources, "--to", str(two), "--cluster", ADDRESS, "--quiet"]
    code, _, err = nodes.run(["-c", COMMAND, *words])
    assert code == 0, err
    names = sorted(path.name for path in one.iterdir())
    assert sorted(path.name for path in two.iterdir()) == names
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in names)


def test_two_nodes_write_the_file_that_one_machine_writes(nodes: TwoNodes, shop: Shop) -> None:
    """Byte for byte, from the command line."""
    paths = [str(shop.folder / "median"), "--file", str(shop.folder / "new.csv"), "--to", str(shop.folder / "two.csv")]
    code, out, err = nodes.run(["-c", COMMAND, "price", *paths, "--comparables", "1", "--cluster", "auto"])
    assert code == 0, err
    assert "1,200 rows: 1,200 priced" in out
    assert "(raylet)" not in err
    assert (shop.folder / "two.csv").read_bytes() == shop.prices
    assert not (shop.folder / "two.csv.parts").exists()


def test_a_sweep_on_the_nodes_gives_the_result_of_one_machine(nodes: TwoNodes, shop: Shop) -> None:
    """The same trials with the same errors, and the same model."""
    (shop.folder / "space.toml").write_text('[[recipe]]\nname = "ridge"\n[recipe.space]\nalpha = [0.5, 1.0, 2.0]\n')
    words = ["sweep", str(shop.folder / "catalog"), "--space", str(shop.folder / "space.toml"), "--json", "--to"]
    assert run([*words[:-2], "--quiet", "--to", str(shop.folder / "sweep-here")]) == 0
    code, out, err = nodes.run(["-c", COMMAND, *words, str(shop.folder / "sweep-there"), "--cluster", ADDRESS])
    assert code == 0, err[-3000:]
    there = json.loads(out)
    here = json.loads((shop.folder / "sweep-here" / "sweep.json").read_text())["sweep"]
    assert "2 nodes" in err
    assert [trial["errors"] for trial in there["trials"]] == [trial["errors"] for trial in here["trials"]]
    manifests = [shop.folder / name / "model" / "manifest.json" for name in ("sweep-here", "sweep-there")]
    assert len({json.loads(path.read_text())["identity"] for path in manifests}) == 1


def test_after_a_node_is_killed_at_half_the_other_finishes_the_same_file(nodes: TwoNodes, shop: Shop) -> None:
    """The shards that the dead node had are run again; then the driver is killed, and the same command resumes."""
    process = nodes.start(shop.price("killed.csv", 0.4))
    wait_for_parts(shop.folder / "killed.csv.parts", 6, process)
    nodes.kill_second()
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err[-3000:]
    assert json.loads(out)["priced"] == 1_200
    assert (shop.folder / "killed.csv").read_bytes() == shop.prices

    process = nodes.start(shop.price("resumed.csv", 0.4))
    parts = shop.folder / "resumed.csv.parts"
    wait_for_parts(parts, 4, process)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=240)
    kept = {int(path.stem.removeprefix("part-")) for path in parts.glob("part-*.parquet")}
    assert 4 <= len(kept) < 12
    process = nodes.start(shop.price("resumed.csv", 0))
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err[-3000:]
    sent = json.loads(out)["sent"]
    assert sent
    assert kept.isdisjoint(sent)
    assert (shop.folder / "resumed.csv").read_bytes() == shop.prices
