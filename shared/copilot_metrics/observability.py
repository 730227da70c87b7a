"""What the functions tell the outside of themselves."""

import traceback

from aws_lambda_powertools import Logger

logger = Logger(service="copilot_metrics")


def where(error: BaseException) -> list[str]:
    """Return an error's type and the places it passed, innermost last, for a log line.

    Never its message or its causes' messages: libraries put what they were handling into them, tokens included.
    """
    frames = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    return [type(error).__name__, *frames]
