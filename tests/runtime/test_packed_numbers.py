"""Numbers and lists of numbers of a packet: back as they were, in the bits that they need, and never beyond the end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duch.errors import PacketError
from duch.packed_numbers import Reader, number, numbers

whole = st.integers(0, 2**63 - 1)


@given(st.lists(whole | st.lists(whole, max_size=70) | st.lists(st.integers(7, 9), max_size=70)), st.binary(max_size=5))
def test_round_trip(values: list[int | list[int]], tail: bytes) -> None:
    content = b"".join(numbers(value) if isinstance(value, list) else number(value) for value in values)
    reader = Reader(content + tail)
    for value in values:
        assert (reader.numbers(len(value)) if isinstance(value, list) else reader.number()) == value
    assert reader.rest() == tail


@pytest.mark.parametrize(
    ("value", "content"), [(0, "00"), (127, "7f"), (128, "8001"), (300, "ac02"), (2**63 - 1, "ff" * 8 + "7f")]
)
def test_a_number_takes_a_byte_for_seven_bits(value: int, content: str) -> None:
    assert number(value).hex() == content


@pytest.mark.parametrize(
    ("values", "content"),
    [
        ([], "0000"),
        ([5], "0500"),
        ([5] * 1000, "0500"),
        ([5, 6], "0501" + "40"),
        ([10, 12, 10, 13, 11], "0a02" + "2340"),  # above the least 00 10 00 11 01
        ([0, 2**63 - 1], "003f" + f"{(2**63 - 1) << 2:032x}"),
    ],
)
def test_a_list_takes_the_bits_of_its_widest(values: list[int], content: str) -> None:
    assert numbers(values).hex() == content


@pytest.mark.parametrize(
    "content", ["", "80", "ff" * 9, "ff" * 9 + "01", "00", "0040", "0001", "0008", "ffffffffffffffff7f01ff"]
)
def test_what_goes_on_too_long_is_refused(content: str) -> None:
    with pytest.raises(PacketError):
        Reader(bytes.fromhex(content)).numbers(1)


@given(st.binary(max_size=40), st.integers(0, 65_535))
def test_arbitrary_bytes_are_numbers_or_refused(content: bytes, n: int) -> None:
    try:
        values = Reader(content).numbers(n)
    except PacketError:
        return
    assert len(values) == n
    assert all(0 <= value < 2**63 for value in values)
