"""Every failure a caller can meet.

Each error knows the HTTP status it is answered with and a ``code`` for programs::

    CopilotMetricsError
    ├─ InvalidInput           422  invalid_input            a field is wrong: which one, and what it should be
    ├─ RequestTooLarge        413  request_too_large
    ├─ UnsupportedMediaType   415  unsupported_media_type
    ├─ PluginDisabled         404  plugin_disabled          PLUGINS_ENABLED lacks copilot_metrics
    ├─ AccountNotFound        404  account_not_found
    ├─ MetricsNotFound        404  metrics_not_found        the account is there, nothing fetched yet
    ├─ ApiKeyNotFound         404  api_key_not_found        met by those who administer keys, not by the API
    ├─ PayloadTooLarge        413  payload_too_large        GitHub's answer doesn't fit a DynamoDB item
    ├─ GitHubError
    │  ├─ TokenRefused        401  github_token_refused
    │  ├─ RateLimited         429  github_rate_limited      with Retry-After
    │  ├─ GitHubFailed        502  github_failed            unreachable, 5xx, or an answer that makes no sense
    │  │  └─ ProxyFailed      502  proxy_failed
    │  └─ GitHubTimeout       504  github_timeout
    └─ Unavailable
       ├─ SecretNotConfigured 503  secret_not_configured
       ├─ SecretUnavailable   503  secret_unavailable       SSM can't be asked right now
       ├─ TokenUnreadable     503  token_unreadable         another secret sealed it, or the record was changed
       ├─ SettingInvalid      503  setting_invalid
       ├─ DatabaseUnavailable 503  database_unavailable     with Retry-After
       ├─ RemovalUnfinished   503  removal_unfinished       with Retry-After
       └─ QueueUnavailable    503  queue_unavailable        with Retry-After

``detail`` is for people and says what to do. No message, argument or note of these ever holds a token, a secret
or a proxy's credentials: errors are logged and answered as they are.
"""

from http import HTTPStatus
from typing import ClassVar


class CopilotMetricsError(Exception):
    """A failure with a status, a code and a sentence for the caller."""

    status: ClassVar[HTTPStatus] = HTTPStatus.INTERNAL_SERVER_ERROR
    code: ClassVar[str] = "internal_error"

    def __init__(self, detail: str, *, retry_after: int | None = None) -> None:
        """Take the sentence for the caller, and the seconds to wait before trying again where they are known."""
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after


class InvalidInput(CopilotMetricsError):
    """The caller sent something that can't be used; ``field`` names what."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    code = "invalid_input"

    def __init__(self, field: str, message: str) -> None:
        """Take the field's name as the caller wrote it, and what it should have been."""
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class RequestTooLarge(CopilotMetricsError):
    """The request's body is larger than any valid one."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    code = "request_too_large"


class UnsupportedMediaType(CopilotMetricsError):
    """The request's body isn't declared as JSON."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    code = "unsupported_media_type"


class PluginDisabled(CopilotMetricsError):
    """``PLUGINS_ENABLED`` doesn't contain ``copilot_metrics``."""

    status = HTTPStatus.NOT_FOUND
    code = "plugin_disabled"


class AccountNotFound(CopilotMetricsError):
    """No account has this id."""

    status = HTTPStatus.NOT_FOUND
    code = "account_not_found"

    def __init__(self, account_id: int) -> None:
        """Take the id that was asked for."""
        super().__init__(f"There is no account {account_id}. GET /accounts lists the accounts there are.")


class MetricsNotFound(CopilotMetricsError):
    """The account exists, but nothing was fetched for it yet."""

    status = HTTPStatus.NOT_FOUND
    code = "metrics_not_found"

    def __init__(self, account_id: int) -> None:
        """Take the account's id."""
        super().__init__(
            f"Account {account_id} has no metrics yet. POST /metrics/fetch/{account_id} fetches the first ones."
        )


class ApiKeyNotFound(CopilotMetricsError):
    """No API key has this id."""

    status = HTTPStatus.NOT_FOUND
    code = "api_key_not_found"

    def __init__(self, key_id: str) -> None:
        """Take the id that was asked for."""
        super().__init__(f"There is no API key {key_id}.")


class PayloadTooLarge(CopilotMetricsError):
    """GitHub's answer is larger than what can be kept."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    code = "payload_too_large"


class GitHubError(CopilotMetricsError):
    """GitHub, or the way to it, failed."""


class TokenRefused(GitHubError):
    """GitHub doesn't accept the token: invalid, expired, revoked, or of a kind the endpoint refuses."""

    status = HTTPStatus.UNAUTHORIZED
    code = "github_token_refused"


class RateLimited(GitHubError):
    """GitHub asks to wait; ``retry_after`` is never None."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    code = "github_rate_limited"


class GitHubFailed(GitHubError):
    """GitHub could not be reached, failed, or answered what makes no sense."""

    status = HTTPStatus.BAD_GATEWAY
    code = "github_failed"


class ProxyFailed(GitHubFailed):
    """The request's own proxy could not be used."""

    code = "proxy_failed"


class GitHubTimeout(GitHubError):
    """GitHub took longer than a caller can be kept waiting."""

    status = HTTPStatus.GATEWAY_TIMEOUT
    code = "github_timeout"


class Unavailable(CopilotMetricsError):
    """Something this service needs isn't there; the request itself may be fine."""

    status = HTTPStatus.SERVICE_UNAVAILABLE


class SecretNotConfigured(Unavailable):
    """The token secret is missing or malformed."""

    code = "secret_not_configured"


class SecretUnavailable(Unavailable):
    """The token secret is kept in SSM, and SSM didn't give it."""

    code = "secret_unavailable"


class TokenUnreadable(Unavailable):
    """A stored token can't be opened."""

    code = "token_unreadable"


class SettingInvalid(Unavailable):
    """An environment variable has a value that can't be used."""

    code = "setting_invalid"


class DatabaseUnavailable(Unavailable):
    """DynamoDB could not be reached, or refused."""

    code = "database_unavailable"


class RemovalUnfinished(Unavailable):
    """An account and its token are removed, but not yet all of its snapshots."""

    code = "removal_unfinished"


class QueueUnavailable(Unavailable):
    """SQS could not be reached, or refused; or the rest of a long dispatch could not be started."""

    code = "queue_unavailable"
