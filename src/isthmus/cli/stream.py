"""``isthmus stream``: watch a topic, or send to it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from isthmus.cli.arguments import Parser, duration
from isthmus.cli.quantities import bytes_text
from isthmus.errors import IsthmusError, SpecError
from isthmus.stream import StreamConsumer, StreamItem, StreamProducer, channels

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from isthmus.stream import Channel

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Watch or send; returns 0."""
    options = _parser().parse_args(argv)
    channel = _channel(options)
    return _tail(channel, options) if options.action == "tail" else _send(channel, options)


def _parser() -> Parser:
    parser = Parser("isthmus stream", description="Watch the topics of streams, or send to them.")
    actions = parser.add_subparsers(dest="action", required=True, metavar="tail|send")
    tail = actions.add_parser(
        "tail",
        help="print the items of topics as they come",
        description="Print a line for each item of some topics until they end. Nothing is decoded and no "
        "object is deleted. On a channel of logs everything that is kept is printed first, and nobody else "
        "misses it; on publish/subscribe, what comes from now on. A queue hands each item to one consumer, "
        "so there is no watching it.",
    )
    tail.add_argument("topics", nargs="+", metavar="TOPIC")
    tail.add_argument(
        "--objects",
        action="store_true",
        help="print the objects, too: decoding runs what their producers say, so trust them",
    )
    tail.add_argument(
        "--new", action="store_true", help="on a channel of logs, only what comes from now on"
    )
    tail.add_argument("--count", type=int, metavar="N", help="stop after N items")
    tail.add_argument(
        "--timeout", type=duration, metavar="TIME", help="stop when nothing comes for so long"
    )
    tail.add_argument("--json", action="store_true", help="print JSON, one item a line")
    send = actions.add_parser(
        "send",
        help="send lines of standard input to a topic",
        description="Send each line of standard input as a str, within its event.",
    )
    send.add_argument("topics", nargs=1, metavar="TOPIC")
    send.add_argument("--end", action="store_true", help="end the topic after the last line")
    send.add_argument(
        "--metadata", type=json.loads, default={}, metavar="JSON", help="sent with every line"
    )
    for action in (tail, send):
        action.add_argument(
            "--channel",
            required=True,
            help=f"kind of channel: {', '.join(sorted(channels.builtin))}",
        )
        action.add_argument(
            "--option",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help="argument of the channel, such as hostname=HOST, or broker=sqlite and "
            'options={"path":"logs.db"} of a log; repeat for more',
        )
    return parser


def _channel(options: Namespace) -> Channel:
    arguments: dict[str, Any] = {}
    for text in options.option:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise SpecError("--option", f"{text!r} is not NAME=VALUE")
        try:
            arguments[name] = json.loads(value)  # numbers, booleans, objects
        except ValueError:
            arguments[name] = value
    return channels.get(options.channel).from_config(arguments)


def _tail(channel: Channel, options: Namespace) -> int:
    if options.channel in ("memory", "redis-queue"):
        raise SpecError(
            "isthmus stream tail",
            f"who reads from a {options.channel} takes items away from its consumers; "
            "watch a log, or publish/subscribe",
        )
    subscriber = channel.subscriber(*options.topics, start=-1 if options.new else 0)
    with StreamConsumer(subscriber, evict=False, timeout=options.timeout) as consumer:
        count = 0
        try:
            for item in consumer.items():
                print(_line(item, options), flush=True)
                count += 1
                if count == options.count:
                    break
        except TimeoutError:
            if not options.timeout:
                raise
    return 0


def _line(item: StreamItem[Any], options: Namespace) -> str:
    entry: dict[str, Any] = {
        "topic": item.topic,
        "producer": item.producer,
        "number": item.number,
        "bytes": item.size,
        "metadata": item.metadata,
    }
    if options.objects:
        try:
            entry["object"] = repr(item.object)
        except IsthmusError as error:
            entry["error"] = str(error)
    if options.json:
        return json.dumps(entry, default=str)
    metadata = json.dumps(entry["metadata"], default=str) if entry["metadata"] else ""
    parts = [
        entry["topic"],
        f"{entry['producer']}/{entry['number']}",
        bytes_text(entry["bytes"]),
        metadata,
        entry.get("object") or entry.get("error", ""),
    ]
    return "  ".join(part for part in parts if part)


def _send(channel: Channel, options: Namespace) -> int:
    if options.channel == "memory":
        raise SpecError("isthmus stream send", "a memory channel ends with this process")
    (topic,) = options.topics
    producer = StreamProducer(channel.publisher(), None, batch_items=256)
    try:
        for line in sys.stdin:
            producer.send(topic, line.rstrip("\n"), metadata=options.metadata)
        if options.end:
            producer.close_topics(topic)
    finally:
        producer.close(end=False)
    return 0
