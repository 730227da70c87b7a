"""Lambda, as far as functions in this process see it."""

import importlib.util
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from infra.stack import Function


@dataclass(frozen=True)
class Context:
    """What Lambda tells a function of its invocation."""

    function_name: str
    aws_request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    memory_limit_in_mb: int = 512
    invoked_function_arn: str = "arn:aws:lambda:us-east-1:000000000000:function:local"
    seconds: float = 300
    started: float = field(default_factory=time.monotonic)

    def get_remaining_time_in_millis(self) -> int:
        """Return how long the invocation may still take."""
        return int((self.started + self.seconds - time.monotonic()) * 1000)


Handler = Callable[[dict[str, Any], Context], dict[str, Any]]


def load(function: Function) -> Handler:
    """Import a function's handler under a name of its own, as each function has its own Python in Lambda."""
    spec = importlib.util.spec_from_file_location(f"local_functions.{function.name}", function.handler)
    if spec is None or spec.loader is None:
        raise RuntimeError(f"{function.handler} can't be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return cast("Handler", module.handler)
