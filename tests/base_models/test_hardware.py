"""What this machine can hold: the machine's memory, or less where a limit is set."""

from __future__ import annotations

import pytest

from pricesmith.base_models.hardware import detect_hardware, format_size, parse_size
from pricesmith.core.errors import UsageError


def test_without_bf16_a_weight_has_four_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planner reads what the weights will be loaded as."""
    import torch

    for dtype, dtype_bytes in ((torch.bfloat16, 2), (torch.float32, 4)):
        monkeypatch.setattr("pricesmith.pricers.llm.base_model.best_dtype", lambda dtype=dtype: dtype)
        assert detect_hardware().dtype_bytes == dtype_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("24GB", 24 * 10**9),
        ("24 GiB", 24 * 2**30),
        (" 80 gb ", 80 * 10**9),
        ("0.5TB", 5 * 10**11),
        ("512MiB", 2**29),
        ("24G", 24 * 10**9),
    ],
)
def test_an_amount_of_memory_is_read_as_written(text: str, size: int) -> None:
    """GB is 10^9 bytes and GiB is 2^30."""
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["24", "", "GB", "24 gigs", "-3GB", "nan GB", "1e3GB", "0GB", "9999999TB", "24GB GB", "24 GB, 8 GB"]
)
def test_what_is_no_amount_of_memory_is_refused(text: str) -> None:
    """With what was got, what is allowed and an example."""
    with pytest.raises(UsageError) as error:
        parse_size(text)
    assert error.value.got
    assert error.value.hint


def test_sizes_are_shown_in_gigabytes() -> None:
    """Of 10^9 bytes, as cards are sold."""
    assert (format_size(24e9), format_size(1.25e8)) == ("24.0 GB", "125 MB")
