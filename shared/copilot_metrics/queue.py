"""The queue between the schedule and the fetches."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Final

from botocore.exceptions import BotoCoreError, ClientError

from copilot_metrics import aws, retries
from copilot_metrics.errors import QueueUnavailable
from copilot_metrics.models import FetchRequest
from copilot_metrics.settings import settings

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

BATCH_MESSAGES: Final = 10
"""What one SendMessageBatch takes (Amazon SQS API Reference)."""
PARALLEL_BATCHES: Final = 8
SEND_SECONDS: Final = 10.0
MAX_DELAY_SECONDS: Final = 11 * 3600
"""A received message can be kept back for 12 hours at most, counted from when it was received."""


class FetchQueue:
    """Fetch requests on SQS."""

    def __init__(self, client: "SQSClient", url: str) -> None:
        """Take a client and the queue's address."""
        self._client = client
        self._url = url

    def send(self, requests: Sequence[FetchRequest]) -> None:
        """Send all requests, in parallel batches. Raises QueueUnavailable; some may have been sent then."""
        batches = [requests[start : start + BATCH_MESSAGES] for start in range(0, len(requests), BATCH_MESSAGES)]
        with ThreadPoolExecutor(PARALLEL_BATCHES) as pool:
            for _ in pool.map(self._send, batches):
                pass

    def delay(self, receipt_handle: str, seconds: int) -> None:
        """Keep a received message back for so many seconds. Raises QueueUnavailable."""
        try:
            self._client.change_message_visibility(
                QueueUrl=self._url, ReceiptHandle=receipt_handle, VisibilityTimeout=min(seconds, MAX_DELAY_SECONDS)
            )
        except (BotoCoreError, ClientError) as error:
            raise unavailable(error) from None

    def _send(self, batch: Sequence[FetchRequest]) -> None:
        waiting = {str(position): request for position, request in enumerate(batch)}
        for _ in retries.attempts(SEND_SECONDS, QueueUnavailable("The queue doesn't take messages right now.")):
            try:
                answer = self._client.send_message_batch(
                    QueueUrl=self._url,
                    Entries=[{"Id": entry, "MessageBody": request.to_json()} for entry, request in waiting.items()],
                )
            except (BotoCoreError, ClientError) as error:
                raise unavailable(error) from None
            for sent in answer.get("Successful", []):
                del waiting[sent["Id"]]
            if not waiting:
                return


def unavailable(error: BotoCoreError | ClientError) -> QueueUnavailable:
    """Return what a failed call means for a caller."""
    code = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
    return QueueUnavailable(f"The queue can't be used right now ({code}); try again in a moment.", retry_after=1)


@cache
def _sqs() -> "SQSClient":
    made: SQSClient = aws.client("sqs", read_seconds=5, connections=32)
    return made


def fetch_queue() -> FetchQueue:
    """Return the queue that this process's environment names. Raises QueueUnavailable where it names none."""
    url = settings().fetch_queue_url
    if url is None:
        raise QueueUnavailable("COPILOT_METRICS__FETCH_QUEUE_URL not configured: set it to the queue's address.")
    return FetchQueue(_sqs(), url)
