"""Carrying on in another invocation, where one function's time isn't enough."""

import json
from functools import cache
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from copilot_metrics import aws
from copilot_metrics.errors import QueueUnavailable

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient


def carry_on(function_name: str, event: dict[str, Any]) -> None:
    """Have Lambda invoke a function soon, without waiting for it. Raises QueueUnavailable."""
    try:
        _lambda().invoke(FunctionName=function_name, InvocationType="Event", Payload=json.dumps(event))
    except (BotoCoreError, ClientError) as error:
        code = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
        raise QueueUnavailable(
            f"The rest of the accounts could not be queued ({code}); try again in a moment.", retry_after=1
        ) from None


@cache
def _lambda() -> "LambdaClient":
    made: LambdaClient = aws.client("lambda", read_seconds=5)
    return made
