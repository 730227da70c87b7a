"""The authorizer's entry point: API Gateway's event in, yes or no out.

Source: AWS, Working with AWS Lambda authorizers for HTTP APIs (payload format 2.0, simple responses). API Gateway
itself answers 401 where there is no ``Authorization`` header, and 403 for each no.
"""

from typing import TYPE_CHECKING, Any

from copilot_metrics.errors import DatabaseUnavailable
from copilot_metrics.keys import id_in, matches
from copilot_metrics.models import ApiKey, timestamp
from copilot_metrics.observability import logger
from copilot_metrics.tables import ApiKeyTable, api_key_table

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


def authorize(event: dict[str, Any], context: "LambdaContext") -> dict[str, Any]:
    """Say whether the request's ``Authorization: Bearer <key>`` allows its route.

    Raises DatabaseUnavailable: API Gateway answers 500 then, and lets nobody in.
    """
    route, keys = event["routeKey"], api_key_table()
    key, reason = _recognised(_presented(event), keys)
    if key is not None:
        reason = _refusal(key, route)
    facts = {"route": route, "request_id": context.aws_request_id, "key_id": key and key.id}
    if key is None or reason is not None:
        logger.info("refused", extra={**facts, "reason": reason})
        return {"isAuthorized": False}
    try:
        keys.note_use(key)
    except DatabaseUnavailable as error:
        # When a key was last used matters less than the request.
        logger.warning("use not noted", extra={**facts, "reason": error.detail})
    logger.info("allowed", extra=facts)
    return {"isAuthorized": True, "context": {"key_id": key.id, "key_name": key.name}}


def _presented(event: dict[str, Any]) -> str:
    source = event.get("identitySource") or [""]
    scheme, _, key = str(source[0]).strip().partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _recognised(presented: str, keys: ApiKeyTable) -> tuple[ApiKey | None, str | None]:
    """Return the key that was presented, or why it is none."""
    key_id = id_in(presented)
    if key_id is None:
        return None, "not an API key"
    found = keys.get(key_id)
    if found is None:
        return None, "unknown"
    key, kept = found
    return (key, None) if matches(presented, kept) else (None, "wrong")


def _refusal(key: ApiKey, route: str) -> str | None:
    """Return why a key may not call a route, None where it may."""
    if key.revoked_at is not None:
        return "revoked"
    if key.expires_at is not None and key.expires_at <= timestamp():
        return "expired"
    return None if key.scope.allows(route.partition(" ")[0]) else "scope"
