"""Clients for AWS's services: botocore's, which boto3 only wraps. Without boto3, functions start sooner (docs/adr/)."""

import random
import threading
from functools import cache
from typing import Any

from botocore.config import Config
from botocore.session import Session, get_session

CONNECT_SECONDS = 2
ATTEMPTS = 3

_making = threading.Lock()


def client(service: str, *, read_seconds: int, connections: int = 10) -> Any:  # noqa: ANN401  # each service's own type
    """Make a client, with so many seconds to wait for each answer and so many connections to keep."""
    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=read_seconds,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        max_pool_connections=connections,
    )
    with _making:  # a session makes one at a time
        return _session().create_client(service, config=config)


@cache
def _session() -> Session:
    # botocore's pauses come from here, and would be the same in all functions that start from one snapshot.
    random.seed()
    return get_session()
