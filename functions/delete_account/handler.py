"""DELETE /accounts/{account_id}: remove an account, its token and its metrics."""

from http import HTTPStatus

from copilot_metrics.api import Request, Response, endpoint
from copilot_metrics.removal import remove_account

SECONDS = 20
"""Within API Gateway's 30: enough for some ten thousand snapshots."""


@endpoint
def handler(request: Request) -> Response:
    """Answer without a body."""
    remove_account(request.account_id(), seconds=SECONDS)
    return Response("", HTTPStatus.NO_CONTENT)
