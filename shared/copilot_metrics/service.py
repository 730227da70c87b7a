"""The use cases that need GitHub: importing an account, and fetching its metrics."""

from datetime import UTC, datetime, timedelta

from copilot_metrics.errors import (
    CopilotMetricsError,
    DatabaseUnavailable,
    GitHubError,
    PayloadTooLarge,
    RateLimited,
    TokenRefused,
    TokenUnreadable,
)
from copilot_metrics.github import GitHubClient, github_client
from copilot_metrics.models import FetchRequest, FetchStatus, StoredToken, timestamp
from copilot_metrics.observability import logger
from copilot_metrics.secret import token_secrets
from copilot_metrics.settings import settings
from copilot_metrics.tables import AccountTable, MetricsTable, account_table, metrics_table
from copilot_metrics.vault import TokenVault


class CopilotMetricsService:
    """Brings the vault, GitHub and the tables together."""

    def __init__(self, github: GitHubClient, vault: TokenVault, accounts: AccountTable, metrics: MetricsTable) -> None:
        """Take the parts."""
        self._github = github
        self._vault = vault
        self._accounts = accounts
        self._metrics = metrics

    def import_account(self, token: str, proxy: str | None = None) -> int:
        """Check a token with GitHub, then store it sealed; return its account's id.

        A GitHub user who was imported before keeps the account's id; the token and the profile are replaced.
        Raises GitHubError for what GitHub says, InvalidInput for a proxy at an address that isn't allowed, and
        DatabaseUnavailable; nothing is stored then.
        """
        user = self._github.user(token, proxy)
        return self._accounts.upsert(
            user, lambda account_id: self._vault.seal(token, account_id=account_id, github_user_id=user.id)
        )

    def fetch_metrics(self, account_id: int) -> int:
        """Fetch an account's Copilot usage now and store it as its latest snapshot; return the snapshot's id.

        Raises AccountNotFound, TokenUnreadable, GitHubError, PayloadTooLarge or DatabaseUnavailable; the snapshots
        stored before stay as they are, and the account notes what went wrong.
        """
        metrics_id = self._fetch(self._accounts.get_token(account_id), due=None, failed=FetchStatus.FAILING)
        if metrics_id is None:
            raise AssertionError  # only a request with a due moment can have been served by another
        return metrics_id

    def fetch_due(self, request: FetchRequest, *, last_try: bool) -> int | None:
        """Serve a request from the queue; return the snapshot's id, or None where no fetch is needed.

        None is needed where another fetch has served the request, where GitHub has refused the account's token, and
        where the account is paused.
        Raises as fetch_metrics does, also RateLimited without asking GitHub again while its limit lasts.
        """
        stored = self._accounts.get_token(request.account_id)
        if stored.paused or stored.status is FetchStatus.TOKEN_INVALID:
            return None
        if stored.fresh_as_of is not None and stored.fresh_as_of >= request.due:
            return None
        if stored.not_before is not None and not last_try:
            seconds = (datetime.fromisoformat(stored.not_before) - datetime.now(UTC)).total_seconds()
            if seconds > 0:
                raise RateLimited(
                    f"GitHub limits this account until {stored.not_before}.", retry_after=int(seconds) + 1
                )
        return self._fetch(stored, due=request.due, failed=FetchStatus.FAILING if last_try else FetchStatus.RETRYING)

    def _fetch(self, stored: StoredToken, *, due: str | None, failed: FetchStatus) -> int | None:
        began = timestamp()
        try:
            token = self._vault.open(stored.sealed, account_id=stored.account_id, github_user_id=stored.github_user_id)
            payload = self._github.copilot_usage(token)
            return self._metrics.add(stored.account_id, payload, fresh_as_of=began, due=due)
        except (GitHubError, PayloadTooLarge, TokenUnreadable) as error:
            self._note(stored, error, due=due, failed=failed)
            raise

    def _note(self, stored: StoredToken, error: CopilotMetricsError, *, due: str | None, failed: FetchStatus) -> None:
        status, not_before = failed, None
        if isinstance(error, TokenRefused):
            status = FetchStatus.TOKEN_INVALID
        elif isinstance(error, RateLimited):
            not_before = timestamp(datetime.now(UTC) + timedelta(seconds=error.retry_after or 0))
            if failed is FetchStatus.RETRYING or due is None:
                status = FetchStatus.LIMITED
        try:
            self._accounts.record_failure(stored, status, error.detail, due=due, not_before=not_before)
        except DatabaseUnavailable as unnoted:
            # What GitHub said matters more to the caller.
            logger.warning("unnoted", extra={"account_id": stored.account_id, "reason": unnoted.detail})


def copilot_metrics_service() -> CopilotMetricsService:
    """Return the service as this process's environment asks for it.

    Raises SecretNotConfigured, SecretUnavailable or SettingInvalid.
    """
    current = settings()
    vault = TokenVault(token_secrets(current))
    github = github_client(current.github_api_url, current.proxy_rules)
    return CopilotMetricsService(github, vault, account_table(), metrics_table())
