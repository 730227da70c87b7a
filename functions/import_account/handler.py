"""POST /accounts/import: take in a GitHub account by its access token."""

import json

from copilot_metrics.api import Request, Response, endpoint
from copilot_metrics.schemas import ImportRequest
from copilot_metrics.service import copilot_metrics_service


@endpoint
def handler(request: Request) -> Response:
    """Answer the account's id."""
    body = request.body(ImportRequest)
    proxy = None if body.proxy is None else body.proxy.get_secret_value()
    account_id = copilot_metrics_service().import_account(body.token.get_secret_value(), proxy)
    return Response(json.dumps({"account_id": account_id}))
