"""Changing the token secret: every token is sealed again under a new one, while the service runs.

It can be interrupted at any moment and run again. The old secret goes when ``--finish`` finds nothing left under it.
"""

import argparse
import os
import secrets
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Final

from rich.console import Console
from rich.progress import Progress

from copilot_metrics.errors import AccountNotFound, TokenUnreadable
from copilot_metrics.secret import (
    MAX_AGE_OF_UNKNOWN_SECONDS,
    MAX_AGE_SECONDS,
    TokenSecrets,
    parsed_secrets,
)
from copilot_metrics.tables import AccountTable, account_table
from copilot_metrics.vault import TokenVault
from infra.admin.secret_store import SecretStore
from infra.admin.target import command, options, target

AT_ONCE: Final = 1000
LONGEST_CALL_SECONDS: Final = 60
"""A function that began with the secrets as they were may still seal under them for so long."""


class Rotation:
    """The accounts, and the secrets that their tokens are under."""

    def __init__(self, accounts: AccountTable, known: TokenSecrets) -> None:
        """Take the parts."""
        self._accounts = accounts
        self._newest = known.newest.key_id
        self._vault = TokenVault(known)
        self.unreadable: list[str] = []
        """What can't be opened, and so not be sealed again, an account a line."""

    def outdated(self) -> list[int]:
        """Return the accounts whose tokens are under another secret than the newest."""
        ids = self._accounts.ids()
        return [
            account_id for some in _chunks(ids) for account_id, key_id in self._key_ids(some) if key_id != self._newest
        ]

    def seal_again(self, account_id: int) -> str:
        """Seal one account's token under the newest secret; return what became of it.

        An import or removal that comes between wins.
        """
        try:
            stored = self._accounts.get_token(account_id)
            owner = {"account_id": account_id, "github_user_id": stored.github_user_id}
            token = self._vault.open(stored.sealed, **owner)
            replaced = self._accounts.replace_token(stored, self._vault.seal(token, **owner))
        except AccountNotFound:
            return "removed meanwhile"
        except TokenUnreadable as error:
            self.unreadable.append(error.detail)
            return "unreadable"
        return "sealed again" if replaced else "replaced meanwhile"

    def _key_ids(self, ids: list[int]) -> Iterator[tuple[int, str]]:
        for account_id, item in self._accounts.read(ids, ("id", "token_key_id")):
            yield account_id, item.get("token_key_id", {"S": ""})["S"]


def rotate(store: SecretStore, console: Console, *, finish: bool) -> bool:
    """Seal all tokens under the newest secret, a new one where there is only one; return whether all are."""
    known = store.read()
    if len(known) == 1 and finish:
        console.print("There is only one secret: nothing to finish.")
        return True
    if len(known) == 1:
        store.replace(known, (secrets.token_hex(32), *known))
        console.print("Made a new secret, and put it before the old one.")
    _wait(console, MAX_AGE_OF_UNKNOWN_SECONDS + 1 - store.age(), "running functions can find the new secret")
    known = store.read()  # whatever another command has done meanwhile
    known_secrets = TokenSecrets(parsed_secrets(",".join(known), source="what is kept"))
    rotation = Rotation(account_table(), known_secrets)
    if finish:
        _wait(console, MAX_AGE_SECONDS + LONGEST_CALL_SECONDS - store.age(), "nobody seals under the old secret")
    outcomes = _seal_all_again(rotation, console)
    for line in rotation.unreadable[:10]:
        console.print(f"[red]unreadable[/red] {line}")
    left = [account_id for account_id in rotation.outdated() if account_id not in outcomes["unreadable"]]
    console.print(", ".join(f"{len(ids)} {outcome}" for outcome, ids in outcomes.items() if ids) or "Nothing to do.")
    newest, *older = known_secrets.key_ids
    if left:
        console.print(f"{len(left)} accounts were sealed under an older secret meanwhile: run it again.")
        return False
    if not finish:
        console.print(
            f"Every token that can be read is under {newest}. The older ({', '.join(older)}) can go: run it again with "
            "FINISH=1. Backups from before still need the older ones."
        )
        return True
    store.replace(known, known[:1])
    console.print(f"Only {newest} is left.")
    return True


def _seal_all_again(rotation: Rotation, console: Console) -> dict[str, set[int]]:
    outcomes: dict[str, set[int]] = {
        name: set() for name in ("sealed again", "replaced meanwhile", "removed meanwhile", "unreadable")
    }
    outdated = rotation.outdated()
    with Progress(console=console) as progress, ThreadPoolExecutor(int(2 * (os.cpu_count() or 1))) as pool:
        task = progress.add_task("Sealing again", total=len(outdated))
        try:
            for account_id, outcome in zip(outdated, pool.map(rotation.seal_again, outdated), strict=True):
                outcomes[outcome].add(account_id)
                progress.advance(task)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return outcomes


def _wait(console: Console, seconds: float, until: str) -> None:
    if seconds > 0:
        with console.status(f"Waiting {round(seconds)} s until {until} ..."):
            time.sleep(seconds)


def _chunks(ids: Iterator[int]) -> Iterator[list[int]]:
    while chunk := list(islice(ids, AT_ONCE)):
        yield chunk


def main() -> int:
    """Run the command; return its exit code, 1 where it has to be run again."""
    parser = argparse.ArgumentParser(prog="make rotate-secret", description=__doc__)
    options(parser)
    parser.add_argument("--finish", action="store_true", help="let the older secrets go (FINISH=1)")
    arguments = parser.parse_args()

    def run(console: Console) -> bool:
        with target(arguments.stack, arguments.data) as store:
            return rotate(store, console, finish=arguments.finish)

    return command("make rotate-secret", run)


if __name__ == "__main__":
    sys.exit(main())
