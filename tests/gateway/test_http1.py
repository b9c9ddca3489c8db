"""What upstreams send, however it is framed, coded and cut."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.plane.upstream.http1 import MAX_EXPANDED_BYTES, MAX_HEAD_BYTES, ProtocolError, Response

PACKED = gzip.compress(b"hello, world")
WHOLE = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n\r\nhello, world",
    "chunks": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 \r\ntransfer-encoding: Chunked\r\n\r\n"
        b"5;x=y\r\nhello\r\n007\r\n, world\r\n0\r\nTrailer: a\r\n\r\n"
    ),
    "packed": b"HTTP/1.1 200\r\nContent-Length: %d\r\nContent-Encoding: gzip\r\n\r\n%b" % (len(PACKED), PACKED),
    "deflated": b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\n\r\n" + zlib.compress(b"hello, world"),
}


@settings(deadline=None, max_examples=60)  # what it looks for is a difference, and a machine under load is none
@given(st.sampled_from(sorted(WHOLE)), st.lists(st.integers(0, 200), max_size=8))
def test_however_the_bytes_are_cut_the_body_is_the_same(kind: str, cuts: list[int]) -> None:
    data, response = WHOLE[kind], Response()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]

    body = b"".join(response.feed(data[start:end]) for start, end in pairwise(edges))
    keeps = response.keeps
    response.feed_eof()

    assert (response.status, body, response.is_ended) == (200, b"hello, world", True)
    assert keeps == (kind != "deflated")  # the last one ends with its connection


@pytest.mark.parametrize(
    ("head", "keeps"),
    [
        (b"HTTP/1.1 204 No Content\r\n", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0, 0\r\n", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: Close\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n", False),
    ],
)
def test_connection_is_kept_only_where_the_next_answer_cannot_be_taken_for_this_one(head: bytes, keeps: bool) -> None:
    response = Response()

    response.feed(head + b"\r\n" + (b"0\r\n\r\n" if b"chunked" in head else b""))

    assert (response.is_ended, response.keeps) == (True, keeps)


def test_bytes_behind_the_end_are_no_part_of_the_body_and_end_the_connection() -> None:
    together, apart = Response(), Response()

    body = together.feed(WHOLE["length"] + b"more")
    apart.feed(WHOLE["length"])
    apart.feed(b"more")

    assert body == b"hello, world"
    assert (together.keeps, apart.keeps) == (False, False)


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n",
        OK + b"x" * (MAX_HEAD_BYTES + 1),
        OK + b"no colon\r\n\r\n",
        OK + b"Content-Length : 4\r\n\r\n",
        OK + b"A: b\r\n folded\r\n\r\n",
        OK + b"A: b\rX: y\r\nContent-Length: 0\r\n\r\n",
        OK + b"A: b\nX: y\r\nContent-Length: 0\r\n\r\n",
        OK + b"A: b\0\r\nContent-Length: 0\r\n\r\n",
        OK + b"A: b\r\r\n\r\n",
        b"HTTP/1.1 200 OK\nA: b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: a\rX: y\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n",
        OK + b"Content-Length: -1\r\n\r\n",
        OK + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\n",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\n\r\nhello\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n",
        OK + b"Content-Encoding: br\r\n\r\n",
        OK + b"Content-Encoding: gzip\r\n\r\nplain",
        OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"\0" * (MAX_EXPANDED_BYTES + 1), 9),
    ],
)
def test_what_is_no_response_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        Response().feed(data)


def test_long_lines_of_a_head_do_not_stay_in_memory() -> None:
    tracemalloc.start()
    try:
        for number in range(200):
            response = Response()
            response.feed(OK + b"Content-Length: 0\r\nX-A: %d%b\r\n\r\n" % (number, b"a" * 50_000))
            assert len(response.headers["x-a"]) >= 50_000
            del response
        assert tracemalloc.get_traced_memory()[0] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["length", "chunks", "packed", "deflated"])
def test_response_that_breaks_off_is_not_taken_for_whole(kind: str) -> None:
    response = Response()

    response.feed(WHOLE[kind][:-3])

    assert not response.is_ended
    with pytest.raises(ProtocolError):
        response.feed_eof()
