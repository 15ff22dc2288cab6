"""What providers send is read with care: ids, times, counts, and files of any kind of lines."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricesmith.pricers.api.batch_jobs import anthropic_batches, gemini_batches, openai_batches
from pricesmith.pricers.api.batch_jobs.http import OutcomeUnknown
from pricesmith.pricers.api.batch_jobs.protocol import MAX_LINE_BYTES, check_id, read_count, read_lines, read_time

FIELDS = [
    *("custom_id", "response", "status_code", "body", "error", "code", "message", "result", "type", "errors", "data"),
    *("metadata", "key", "state", "output", "inlinedResponses", "responsesFile", "batchStats", "requestCount", "line"),
    *("id", "status", "request_counts", "total", "processing_status", "name", "done", "created_at", "output_file_id"),
]
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(FIELDS), values, max_size=6))
def test_results_and_jobs_of_any_form_are_read_without_an_exception(value: dict[str, object]) -> None:
    """What makes no sense is unreadable, or a job that is still running."""
    for module in (openai_batches, anthropic_batches, gemini_batches):
        result = module.read_result(value)
        assert isinstance(result.key, str)
        assert (result.state == "unreadable") <= (result.key == "")
    assert openai_batches.read_job(value, "b").id == "b"
    assert gemini_batches.read_job(value, "b").id == "b"


@given(st.lists(st.sampled_from([b'{"a": 1}', b"[1]", b"{", b"", b"  ", b"\xff", b"null", b"[" * 3000]), max_size=8))
def test_a_file_of_any_lines_yields_an_object_or_nothing_for_each(lines: list[bytes]) -> None:
    """Empty lines are skipped."""
    found = list(read_lines(io.BytesIO(b"\n".join(lines))))
    assert len(found) == sum(bool(line.strip()) for line in lines)
    assert found.count({"a": 1}) == lines.count(b'{"a": 1}')


def test_a_line_that_is_too_long_is_skipped_whole() -> None:
    """The next one is read."""
    huge = b'{"a": "' + b"x" * (2 * MAX_LINE_BYTES) + b'"}'
    assert list(read_lines(io.BytesIO(huge + b'\n{"a": 1}\n'))) == [None, {"a": 1}]
    assert list(read_lines(io.BytesIO(huge))) == [None]


@pytest.mark.parametrize("value", [None, 5, "", "a/b", "../x", "a b", "a?b", "x" * 300, "é", ["a"]], ids=repr)
def test_an_id_that_could_change_a_url_is_refused(value: object) -> None:
    """Ids become part of the URLs that carry the key."""
    with pytest.raises(OutcomeUnknown):
        check_id(value)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (5, 5.0),
        ("1970-01-01T00:01:00Z", 60.0),
        ("1970-01-01T00:01:00.123456789Z", 60.123456),
        ("soon", None),
        (None, None),
        (True, None),
    ],
    ids=repr,
)
def test_times_are_numbers_or_texts(value: object, seconds: float | None) -> None:
    """Anything else is unknown."""
    assert read_time(value) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("value", "count"), [(3, 3), ("3", 3), (-1, None), ("-1", None), (True, None), (1.5, None), ("9" * 30, None)]
)
def test_counts_are_numbers_or_texts(value: object, count: int | None) -> None:
    """Anything else is unknown."""
    assert read_count(value) == count
