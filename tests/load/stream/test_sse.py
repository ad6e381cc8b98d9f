"""`sse.EventStream` and `think.find` at inputs whose reading is written beside them."""

from __future__ import annotations

import pytest

from orchestrator.load.stream.sse import EventStream
from orchestrator.load.stream.think import Tagged, find

TAGS = ("<t>", "</t>")


@pytest.mark.parametrize(
    ("reads", "events", "between"),
    [
        ([b"data: a\n\n"], [[b"a"]], True),
        ([b"data:a\n\n"], [[b"a"]], True),
        ([b"data:  a \n\n"], [[b" a "]], True),  # one space is the field's, all others the data's
        ([b"data\n\n"], [[]], True),
        ([b"data:\n\n"], [[b""]], True),
        ([b"data: a\ndata: b\n\n"], [[b"a\nb"]], True),
        ([b"data: a\n\ndata: b\n\n"], [[b"a", b"b"]], True),
        ([b"data: a\r\n\r\ndata: b\r\r"], [[b"a", b"b"]], False),  # an LF may yet come
        ([b"data: a\r", b"\n\r", b"\n", b"data: b\n\n"], [[], [b"a"], [], [b"b"]], True),
        ([b"data: a\n\r", b"data: b\n\n"], [[b"a"], [b"b"]], True),
        ([b"data: a\n\r", b"", b"\ndata: b\n\n"], [[b"a"], [], [b"b"]], True),
        ([b"da", b"ta: ", b"a", b"\n", b"\n"], [[], [], [], [], [b"a"]], True),
        ([b"da", b"ta: a\n\ndata: b"], [[], [b"a"]], False),
        ([b"data: a\n"], [[]], False),
        ([b"data: a"], [[]], False),
        ([b"\n\n"], [[]], True),
        ([b": comment\nid: 3\nretry: 5\n\n"], [[]], True),
        ([b": c\ndata: a\nid\n\n"], [[b"a"]], True),
        ([b"\xef\xbb\xbfdata: a\n\n"], [[b"a"]], True),
        ([b"\xef\xbb", b"\xbfdata: a\n\n"], [[], [b"a"]], True),
        ([b"data: a\n\n\xef\xbb\xbfdata: b\n\n"], [[b"a"]], True),  # a mark is one at the start alone
        ([b"event: ping\ndata: a\n\ndata: b\n\n"], [[b"b"]], True),
        ([b"event:KEEPALIVE \ndata: a\n\n"], [[]], True),
        ([b"event: heartbeat\n"], [[]], False),
        ([b"event: keep-alive\ndata: a\n\n"], [[]], True),
        ([b"event: message\ndata: a\n\n"], [[b"a"]], True),
        ([b"data: a\x0bb\x0cc\x85\n\n"], [[b"a\x0bb\x0cc\x85"]], True),  # what else ends a line in Python
    ],
)
def test_events_of_reads(reads: list[bytes], events: list[list[bytes]], between: bool) -> None:
    stream = EventStream()
    assert stream.between_events
    assert [stream.feed(read) for read in reads] == events
    assert stream.between_events is between


@pytest.mark.parametrize(
    ("content", "opened", "unclosed", "thought", "shown"),
    [
        ("<t>a</t>b", False, False, "a", "b"),
        (" \n<t>a</t>b", False, False, "a", "b"),
        ("<t></t>b", False, False, "", "b"),
        ("<t>a</t>b</t>c", False, False, "a", "b</t>c"),
        ("<t>a<t>b</t>c", False, False, "a<t>b", "c"),
        ("a</t>b", False, False, "a", "b"),  # the prompt had opened it
        (" a</t>b", False, False, " a", "b"),
        ("a</t>b", True, True, "a", "b"),
        ("</t>b", False, False, "", "b"),
        ("a<t>b</t>c", False, False, None, None),  # an answer about tags
        ("a<t>b</t>c", True, False, "a<t>b", "c"),
        ("a</t>b<t>", False, False, "a", "b<t>"),
        ("<t>a", False, False, "a", ""),
        ("<t>", False, False, "", ""),
        ("a", True, True, "a", ""),
        ("a", True, False, None, None),
        ("a", False, True, None, None),
        ("", True, True, None, None),
        (" ", True, True, " ", ""),
    ],
)
def test_reasoning_between_tags(
    content: str, opened: bool, unclosed: bool, thought: str | None, shown: str | None
) -> None:
    found = find(content, TAGS, opened=opened, unclosed=unclosed)
    if thought is None:
        assert found is None
    else:
        assert isinstance(found, Tagged)
        assert (content[found.start : found.end], content[found.visible :]) == (thought, shown)
