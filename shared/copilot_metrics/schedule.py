"""The schedule's entry point: EventBridge's event in, requests on the queue."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

from copilot_metrics.dispatch import dispatcher, hand_over
from copilot_metrics.measurements import measure
from copilot_metrics.models import timestamp
from copilot_metrics.observability import logger
from copilot_metrics.settings import settings

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

HAND_OVER_SECONDS = 15
"""Kept back for the last messages and for the next invocation."""


def dispatch_scheduled(event: dict[str, Any], context: "LambdaContext") -> dict[str, int]:
    """Queue every account for the event's ``time``, or carry on where another invocation's time ran out.

    Returns how many were ``queued``. Raises QueueUnavailable or DatabaseUnavailable; Lambda repeats the event then.
    """
    if not settings().enabled:
        logger.warning("plugin disabled")
        return {"queued": 0}
    seconds = context.get_remaining_time_in_millis() / 1000 - HAND_OVER_SECONDS
    if "after" in event:
        due = event["due"]
        dispatched = dispatcher().carry_on(due, after=event["after"], seconds=seconds)
    else:
        due = timestamp(datetime.fromisoformat(event["time"]))
        dispatched = dispatcher().dispatch(due, seconds=seconds)
    hand_over(context.function_name, due, dispatched)
    logger.info("dispatch", extra={"due": due, "queued": dispatched.queued, "after": dispatched.after})
    measure({"Queued": dispatched.queued})
    return {"queued": dispatched.queued}
