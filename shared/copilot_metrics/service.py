"""The use cases that need GitHub: importing an account, and fetching its metrics."""

from copilot_metrics.github import GitHubClient, github_client
from copilot_metrics.secret import token_secret
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
        Raises GitHubError for what GitHub says, and DatabaseUnavailable; nothing is stored then.
        """
        user = self._github.user(token, proxy)
        return self._accounts.upsert(
            user, lambda account_id: self._vault.seal(token, account_id=account_id, github_user_id=user.id)
        )

    def fetch_metrics(self, account_id: int) -> int:
        """Fetch an account's Copilot usage and store it as its latest snapshot; return the snapshot's id.

        Raises AccountNotFound, TokenUnreadable, GitHubError, PayloadTooLarge or DatabaseUnavailable; the snapshots
        stored before stay as they are.
        """
        stored = self._accounts.get_token(account_id)
        token = self._vault.open(stored.sealed, account_id=account_id, github_user_id=stored.github_user_id)
        return self._metrics.add(account_id, self._github.copilot_usage(token))


def copilot_metrics_service() -> CopilotMetricsService:
    """Return the service as this process's environment asks for it.

    Raises SecretNotConfigured, SecretUnavailable or SettingInvalid.
    """
    current = settings()
    vault = TokenVault(token_secret(current))
    return CopilotMetricsService(github_client(current.github_api_url), vault, account_table(), metrics_table())
