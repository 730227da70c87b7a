"""EventBridge and Lambda's event sources: the template's schedules and queues, each invoking its handler."""

import re
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from infra.local.lambdas import Context, Handler, load
from infra.local.problem import Problem
from infra.stack import EventSource, Function, Stack

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

SCHEDULE_OFF: Final = "off"
SECONDS: Final = {"minute": 60, "hour": 3600, "day": 86400}
POLLERS: Final = 2
"""How many batches of one queue are in work at once: while one ends, the next has begun."""
RECEIVED_AT_ONCE: Final = 10
"""What one ReceiveMessage gives (Amazon SQS API Reference)."""


class Events:
    """Threads that invoke functions when it is time, and when messages come."""

    def __init__(self, stack: Stack, queue_urls: Mapping[str, str], schedule: str | None) -> None:
        """Take the stack, its queues' addresses by logical id, and a schedule that replaces the template's.

        Raises Problem for a schedule that isn't ``rate(...)`` or ``off``.
        """
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        for rule in stack.schedules:
            seconds = period(schedule or rule.expression)
            if seconds is not None:
                self._add(self._fire, rule.function, seconds)
        for source in stack.event_sources:
            for _ in range(POLLERS):
                self._add(self._poll, source, queue_urls[source.queue])

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Take nothing new, and wait until what is in work has ended."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _add(self, target: Callable[..., None], *arguments: Any) -> None:  # noqa: ANN401  # the target's own
        self._threads.append(threading.Thread(target=target, args=arguments, daemon=True))

    def _fire(self, function: Function, seconds: int) -> None:
        """Invoke a function for each multiple of its period; at once for the one that has passed.

        A function that has seen that one already knows it by its time, as it must with EventBridge.
        """
        handler = load(function)
        moment = int(time.time()) // seconds * seconds
        while not self._stopping.wait(moment - time.time()):
            event = {
                "version": "0",
                "id": str(uuid.uuid4()),
                "detail-type": "Scheduled Event",
                "source": "aws.events",
                "time": datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "resources": [],
                "detail": {},
            }
            answer = invoke(function, handler, event)
            if answer is not None and answer["queued"]:
                say(f"{function.handler.parent.name} {answer['queued']} queued")
            moment += seconds

    def _poll(self, source: EventSource, url: str) -> None:
        handler = load(source.function)
        client: SQSClient = boto3.client("sqs", config=Config(retries={"total_max_attempts": 1}))
        while not self._stopping.is_set():
            try:
                messages = _received(client, url, source.batch_size)
                if messages:
                    _serve(source, handler, messages, client, url)
            except (BotoCoreError, ClientError) as error:
                say(f"{source.queue} can't be read ({type(error).__name__})")
                self._stopping.wait(5)


def period(expression: str) -> int | None:
    """Return the seconds of ``rate(5 minutes)``, None for ``off``. Raises Problem for anything else."""
    if expression == SCHEDULE_OFF:
        return None
    match = re.fullmatch(r"rate\(([1-9][0-9]{0,5}) (minute|hour|day)s?\)", expression)
    if match is None:
        raise Problem(f"The schedule {expression!r} isn't known locally: use one such as 'rate(5 minutes)', or 'off'")
    return int(match[1]) * SECONDS[match[2]]


def invoke(function: Function, handler: Handler, event: dict[str, Any]) -> dict[str, Any] | None:
    """Invoke a function; None where it raised, which is said."""
    try:
        return handler(event, Context(function.name))
    except Exception as error:  # noqa: BLE001  # whatever a function raises is counted as its error
        print(f"{function.name} raised {type(error).__name__}", file=sys.stderr)
        return None


def say(line: str) -> None:
    """Print what has happened, and when."""
    print(f"{datetime.now(UTC).astimezone():%H:%M:%S} {line}", flush=True)


def _received(client: "SQSClient", url: str, batch_size: int) -> "list[MessageTypeDef]":
    messages: list[MessageTypeDef] = []
    while len(messages) < batch_size:
        more = client.receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=min(RECEIVED_AT_ONCE, batch_size - len(messages)),
            WaitTimeSeconds=0 if messages else 1,
            MessageSystemAttributeNames=["All"],
        ).get("Messages", [])
        if not more:
            break
        messages += more
    return messages


def _serve(
    source: EventSource, handler: Handler, messages: "list[MessageTypeDef]", client: "SQSClient", url: str
) -> None:
    started = time.monotonic()
    answer = invoke(source.function, handler, {"Records": [_record(message) for message in messages]})
    failed = (
        {message["MessageId"] for message in messages}
        if answer is None
        else {failure["itemIdentifier"] for failure in answer["batchItemFailures"]}
    )
    served = [message for message in messages if message["MessageId"] not in failed]
    for start in range(0, len(served), RECEIVED_AT_ONCE):
        some = served[start : start + RECEIVED_AT_ONCE]
        client.delete_message_batch(
            QueueUrl=url,
            Entries=[{"Id": str(n), "ReceiptHandle": message["ReceiptHandle"]} for n, message in enumerate(some)],
        )
    milliseconds = round((time.monotonic() - started) * 1000)
    coming_back = f", {len(failed)} not served" if failed else ""
    say(f"{source.function.handler.parent.name} {len(messages)} accounts{coming_back} {milliseconds} ms")


def _record(message: "MessageTypeDef") -> dict[str, Any]:
    """Return a message as Lambda passes it (AWS Lambda Developer Guide: using Lambda with Amazon SQS)."""
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message["Attributes"],
        "messageAttributes": {},
        "md5OfBody": message["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:local",
        "awsRegion": "us-east-1",
    }
