"""What is compared between the nodes of a cluster, on this machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pricesmith.cluster import nodes
from pricesmith.cluster.nodes import compare_versions, describe_programs, differing_node, shared_folders


def test_a_machine_that_sees_the_same_folders_does_not_differ(tmp_path: Path) -> None:
    """Probes are read, replies are written, and nothing is left."""
    model = tmp_path / "manifest.json"
    model.write_text("{}")
    out = tmp_path / "out"
    out.mkdir()
    with shared_folders([out, out], [model]) as check:
        assert len(check.probes) == 1
        assert check.find_difference() == ""
    assert [*out.iterdir()] == []


def test_a_folder_of_the_same_name_on_another_disk_differs(tmp_path: Path) -> None:
    """It has no probe, or another one."""
    with shared_folders([tmp_path]) as check:
        probe = Path(next(iter(check.probes)))
        probe.write_text("another")
        assert "is another folder there" in check.find_difference()
        probe.unlink()
        assert f"{tmp_path} is not the same folder there" in check.find_difference()


def test_a_model_that_is_missing_or_another_there_differs(tmp_path: Path) -> None:
    """Files are compared by their SHA-256."""
    model = tmp_path / "manifest.json"
    model.write_text("{}")
    with shared_folders([], [model]) as check:
        model.write_text("{ }")
        assert "has another content there" in check.find_difference()
        model.unlink()
        assert "cannot be read there" in check.find_difference()


def test_other_versions_are_named_with_both_numbers(tmp_path: Path) -> None:
    """Those of Python, Pricesmith with its source, and the libraries that compute prices."""
    with shared_folders([tmp_path]) as check:
        older = replace(check, versions={**check.versions, "torch": "1.0.0"})
        difference = older.find_difference()
    assert difference.startswith("versions: torch ")
    assert difference.endswith(" instead of 1.0.0")
    assert compare_versions({"ray": "2.60.0"}, {}) == "ray not installed instead of 2.60.0"
    assert describe_programs().keys() >= {"python", "pricesmith", "ray", "torch", "lightgbm"}


def test_the_error_for_a_node_names_it_and_what_to_do() -> None:
    """One text for versions, one for folders."""
    versions = differing_node("10.0.0.2", "versions: ray 2.59.0 instead of 2.60.0")
    assert (versions.exit_code, versions.got) == (2, "ray 2.59.0 instead of 2.60.0")
    folders = differing_node("10.0.0.2", "folders: /shared is not the same folder there")
    assert "10.0.0.2 does not share" in folders.what
    assert "under the same path" in folders.hint


def test_a_folder_that_cannot_be_written_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For example one that is mounted read-only there."""

    def refuse(path: Path, data: str) -> None:
        raise OSError(30, "Read-only file system", str(path))

    with shared_folders([tmp_path]) as check:
        monkeypatch.setattr(nodes, "write_atomic", refuse)
        assert f"{tmp_path} cannot be written there (Read-only file system)" in check.find_difference()


def test_the_error_for_a_node_that_does_not_answer_names_it() -> None:
    """With the two ways out."""
    error = nodes.silent_node("10.0.0.2", "NodeDiedError: gone")
    assert (error.exit_code, error.what) == (2, "Node 10.0.0.2 does not answer")
    assert "ray stop" in error.hint
