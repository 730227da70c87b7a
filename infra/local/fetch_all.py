"""Fetch the metrics of all accounts now, and wait until each fetch has ended."""

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import httpx
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from infra.local.problem import Problem

POLL_SECONDS: Final = 1.0
ENDED: Final = frozenset({"ok", "token_invalid", "limited", "failing"})


class Service:
    """The API of a running service."""

    def __init__(self, url: str, api_key: str) -> None:
        """Take the address, with the prefix, and a key for writing where the service wants one."""
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx.Client(timeout=35, headers=headers)
        self._url = url.rstrip("/")

    def dispatch(self) -> tuple[int, str]:
        """Queue the fetch of all accounts; return how many at once, and the moment it is for."""
        answer = self._call("POST", f"{self._url}/metrics/fetch").json()
        return answer["queued"], answer["due"]

    def accounts(self) -> Iterator[dict[str, Any]]:
        """Yield all accounts."""
        url = f"{self._url}/accounts"
        while url:
            answer = self._call("GET", url)
            yield from answer.json()
            url = answer.links.get("next", {}).get("url", "")

    def _call(self, method: str, url: str) -> httpx.Response:
        try:
            answer = self._client.request(method, url)
        except httpx.TransportError as error:
            raise Problem(f"{self._url} can't be reached ({type(error).__name__}): start it with make run") from None
        if answer.is_error:
            raise Problem(f"{self._url} answered {answer.status_code}: {_said(answer)}")
        return answer


def fetch_all(service: Service, console: Console, seconds: float) -> bool:
    """Fetch all, show how it goes and how each account ended; return whether all went well. Raises Problem."""
    queued, due = service.dispatch()
    end = time.monotonic() + seconds
    with Progress(console=console) as progress:
        task = progress.add_task("Fetching", total=queued)
        while True:
            waiting, ended = _split([account for account in service.accounts() if not account["paused"]], due)
            progress.update(task, completed=len(ended), total=max(queued, len(ended)))
            if not waiting or time.monotonic() > end:
                break
            time.sleep(POLL_SECONDS)
    console.print(_summary(waiting, ended))
    return not waiting and all(account["last_fetch"]["status"] == "ok" for account in ended)


def _split(accounts: list[dict[str, Any]], due: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the accounts whose fetch goes on, and those whose fetch has ended; a refused token isn't fetched."""
    waiting: list[dict[str, Any]] = []
    ended: list[dict[str, Any]] = []
    for account in accounts:
        fetched = account["last_fetch"]
        recent = fetched is not None and (fetched["at"] >= due or fetched["status"] == "token_invalid")
        (ended if recent and fetched["status"] in ENDED else waiting).append(account)
    return waiting, ended


def _summary(waiting: list[dict[str, Any]], ended: list[dict[str, Any]]) -> Table:
    table = Table("status", "accounts", "for example")
    counts = Counter(account["last_fetch"]["status"] for account in ended)
    for status, count in sorted(counts.items()):
        example = next(account for account in ended if account["last_fetch"]["status"] == status)
        reason = example["last_fetch"]["reason"]
        table.add_row(status, str(count), f"{example['login']}: {reason}" if reason else example["login"])
    if waiting:
        last = waiting[0]["last_fetch"]
        reason = f": {last['reason']}" if last and last["reason"] else ""
        table.add_row("still trying", str(len(waiting)), f"{waiting[0]['login']}{reason}")
    return table


def _said(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return answer.reason_phrase


def main() -> int:
    """Run the command; return its exit code, 1 where an account failed."""
    parser = argparse.ArgumentParser(prog="make fetch-all", description=__doc__)
    parser.add_argument("--url", required=True, help="where the service is, with its prefix (URL=...)")
    parser.add_argument("--seconds", type=float, default=900, help="how long to wait at most (WAIT=...)")
    arguments = parser.parse_args()
    try:
        return (
            0 if fetch_all(Service(arguments.url, os.environ.get("API_KEY", "")), Console(), arguments.seconds) else 1
        )
    except Problem as problem:
        print(f"make fetch-all: {problem}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
