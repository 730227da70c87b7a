"""The queue's batches: their accounts are fetched concurrently, and what fails comes back later.

A message that is reported as failed returns to the queue; after ``COPILOT_METRICS__FETCH_TRIES`` receipts, SQS moves it
to the dead-letter queue (Amazon SQS Developer Guide: dead-letter queues).
"""

import asyncio
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.utilities.batch import AsyncBatchProcessor, EventType, async_process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from copilot_metrics.errors import AccountNotFound, CopilotMetricsError, QueueUnavailable, RateLimited, TokenRefused
from copilot_metrics.measurements import measure
from copilot_metrics.models import FetchRequest
from copilot_metrics.observability import logger, where
from copilot_metrics.queue import FetchQueue, fetch_queue
from copilot_metrics.retries import at_least, growing_delay
from copilot_metrics.service import CopilotMetricsService, copilot_metrics_service
from copilot_metrics.settings import settings

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


class ComesBack(Exception):
    """A message that wasn't served; says nothing of why, as Powertools may log it."""


class Batch:
    """One invocation's messages, and what became of them."""

    def __init__(self, service: CopilotMetricsService, queue: FetchQueue, *, tries: int) -> None:
        """Take the parts, and how often a message is tried."""
        self._service = service
        self._queue = queue
        self._tries = tries
        self.outcomes: list[str] = []
        """One of Fetched, Skipped, Refused, Limited, Failed for each message."""
        self.seconds_to_stored: list[float] = []

    def serve(self, record: SQSRecord) -> None:
        """Serve one message. Raises ComesBack."""
        last_try = int(record.attributes.approximate_receive_count) >= self._tries
        try:
            request = FetchRequest.from_json(record.body)
            outcome = self._fetch(request, last_try=last_try)
        except RateLimited as error:
            self._bring_back(record, "Limited", 0 if last_try else at_least(error.retry_after or 0))
        except CopilotMetricsError as error:
            self._failed(record, last_try=last_try, reason=error.detail)
        except Exception as error:  # noqa: BLE001  # one message never touches the others
            self._failed(record, last_try=last_try, reason=where(error))
        else:
            self.outcomes.append(outcome)

    def _fetch(self, request: FetchRequest, *, last_try: bool) -> str:
        try:
            metrics_id = self._service.fetch_due(request, last_try=last_try)
        except AccountNotFound:
            return "Skipped"
        except TokenRefused:
            return "Refused"
        if metrics_id is None:
            return "Skipped"
        self.seconds_to_stored.append((datetime.now(UTC) - datetime.fromisoformat(request.due)).total_seconds())
        return "Fetched"

    def _failed(self, record: SQSRecord, *, last_try: bool, reason: str | list[str]) -> None:
        log = logger.warning if last_try else logger.info
        log("fetch failed", extra={"message_id": record.message_id, "last_try": last_try, "reason": reason})
        tries = int(record.attributes.approximate_receive_count)
        self._bring_back(record, "Failed", 0 if last_try else growing_delay(tries))

    def _bring_back(self, record: SQSRecord, outcome: str, seconds: int) -> None:
        self.outcomes.append(outcome)
        try:
            self._queue.delay(record.receipt_handle, seconds)
        except QueueUnavailable as error:
            # It comes back all the same, when the queue's own visibility timeout ends.
            logger.warning("not delayed", extra={"message_id": record.message_id, "reason": error.detail})
        raise ComesBack


def process_batch(event: dict[str, Any], context: "LambdaContext") -> dict[str, Any]:
    """Serve SQS's event; return which messages have to come back (AWS: partial batch responses).

    Raises SecretNotConfigured, SecretUnavailable, SettingInvalid or QueueUnavailable where nothing can be served.
    """
    if not settings().enabled:
        logger.warning("plugin disabled", extra={"messages": len(event["Records"])})
        return {"batchItemFailures": []}
    started = time.monotonic()
    batch = Batch(copilot_metrics_service(), fetch_queue(), tries=settings().fetch_tries)

    async def serve(record: SQSRecord) -> None:
        await asyncio.get_running_loop().run_in_executor(_workers(), batch.serve, record)

    processor = AsyncBatchProcessor(EventType.SQS, raise_on_entire_batch_failure=False)
    response = async_process_partial_response(event, serve, processor, context)
    counts = Counter(batch.outcomes)
    logger.info("batch", extra={**counts, "milliseconds": round((time.monotonic() - started) * 1000, 1)})
    measure(counts, batch.seconds_to_stored)
    return dict(response)


@cache
def _workers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(settings().fetch_concurrency, thread_name_prefix="fetch")
