"""Bodies of pages: small ones in memory, large ones in a file without a name."""

from __future__ import annotations

import errno
import tempfile
from typing import BinaryIO

import pytest

from fastmirror.gathering import Body, Gathering
from fastmirror.weight import page_weight


def gathered(*chunks: bytes) -> Body:
    gathering = Gathering(tempfile.TemporaryFile)
    assert gathering.begin(200, {}) is None
    assert all(gathering.feed(chunk) for chunk in chunks)
    return gathering.body()


@pytest.mark.parametrize("chunks", [(), (b"a",), (b"a", b"bc"), (b"ab" * 600_000,), (b"abc" * 100_000,) * 9])
def test_a_body_is_what_came_however_large_and_can_be_read_again(chunks: tuple[bytes, ...]) -> None:
    whole, body = b"".join(chunks), gathered(*chunks)
    assert body.size == len(whole)
    for _ in range(2):
        assert body.read() == whole
        assert b"".join(body.pieces()) == whole
    assert body.digest() == Body(whole).digest()


def test_a_large_body_comes_in_pieces_of_bounded_size() -> None:
    assert max(map(len, gathered(*(b"x" * 300_000,) * 20).pieces())) <= 1 << 20


def test_no_more_than_a_megabyte_is_held_of_a_body_that_is_under_way() -> None:
    with tempfile.TemporaryFile() as file:
        gathering = Gathering(lambda: file)
        for _ in range(100):
            gathering.feed(b"x" * 50_000)
        file.seek(0, 2)
        assert file.tell() >= 100 * 50_000 - (1 << 20)


def test_a_disk_that_refuses_a_large_body_is_told_when_it_has_come() -> None:
    def refuse() -> BinaryIO:
        raise OSError(errno.ENOSPC, "No space left on device")

    gathering = Gathering(refuse)
    assert all(gathering.feed(b"x" * 700_000) for _ in range(4))
    with pytest.raises(OSError, match="No space left"):
        gathering.body()


def test_a_page_weighs_the_same_in_one_piece_and_in_many() -> None:
    page = b'{"files":[{"requires-python":">=3.8"}]}' * 50
    assert page_weight([page], html=False) == page_weight([page[:100], page[100:]], html=False) > 3 * len(page)


def test_characters_beyond_ascii_make_a_page_heavier() -> None:
    assert page_weight(["é".encode(), b"a" * 1000], html=False) > 3 * page_weight([b"a" * 1002], html=False)
