"""API keys: make one, list them, revoke one."""

import argparse
import re
import sys
from datetime import UTC, datetime, timedelta

from rich.console import Console
from rich.table import Column, Table

from copilot_metrics.keys import digest, new_key
from copilot_metrics.models import ApiKey, Scope, timestamp
from copilot_metrics.tables import api_key_table
from infra.admin.target import command, options, target
from infra.local.problem import Problem

MAX_NAME = 100


def make(console: Console, name: str, scope: Scope, days: int | None) -> None:
    """Make a key and print it, this once. Raises Problem for a name that isn't one."""
    _check_name(name)
    now = datetime.now(UTC)
    expires_at = None if days is None else timestamp(now + timedelta(days=days))
    key, key_id = new_key()
    api_key_table().add(ApiKey(key_id, name.strip(), scope, timestamp(now), expires_at), digest(key))
    console.print("It is shown this once; send it as [bold]Authorization: Bearer[/bold] with each request.")
    # For scripts: the key alone on standard output's last line.
    print(key)


def show(console: Console) -> None:
    """Print what is known of all keys, newest first."""
    # Whole ids, also where the others have little room: revoking needs them.
    table = Table(Column("id", no_wrap=True, min_width=12), "for", "scope", "made", "last used", "state")
    now = timestamp()
    for key in sorted(api_key_table().all(), key=lambda key: key.created_at, reverse=True):
        state = "good"
        if key.expires_at is not None:
            state = f"{'expired' if key.expires_at <= now else 'good until'} {_minute(key.expires_at)}"
        if key.revoked_at is not None:
            state = f"revoked {_minute(key.revoked_at)}"
        last_used = "never" if key.last_used_at is None else _minute(key.last_used_at)
        table.add_row(key.id, key.name, key.scope, _minute(key.created_at), last_used, state)
    console.print(table)


def _minute(timestamp: str) -> str:
    return timestamp[:16]


def _check(arguments: argparse.Namespace) -> None:
    """Say what is missing before anything is started. Raises Problem."""
    if arguments.action == "make":
        if arguments.scope not in list(Scope):
            raise Problem("Say what the key is good for: SCOPE=read (to look) or SCOPE=write (everything)")
        if arguments.days and not re.fullmatch(r"[1-9][0-9]{0,4}", arguments.days):
            raise Problem("DAYS must be a whole number from 1 to 99999")
        _check_name(arguments.name)
    if arguments.action == "revoke" and not arguments.id:
        raise Problem("Say which key: ID=... (make api-keys lists them)")


def _check_name(name: str) -> None:
    if not name.isprintable() or not 1 <= len(name.strip()) <= MAX_NAME:
        raise Problem("Say who or what the key is for: NAME=... (up to 100 characters)")


def main() -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="make api-key", description=__doc__)
    options(parser)
    actions = parser.add_subparsers(dest="action", required=True)
    making = actions.add_parser("make")
    making.add_argument("--name", default="", help="who or what it is for (NAME=...)")
    making.add_argument("--scope", default="", help="read or write (SCOPE=...)")
    making.add_argument("--days", default="", help="for how long it is good (DAYS=...); without, until it is revoked")
    actions.add_parser("list")
    actions.add_parser("revoke").add_argument("--id", default="", help="the key's id (ID=...)")
    arguments = parser.parse_args()

    def run(console: Console) -> bool:
        _check(arguments)
        with target(arguments.stack, arguments.data):
            if arguments.action == "make":
                days = int(arguments.days) if arguments.days else None
                make(console, arguments.name, Scope(arguments.scope), days)
            elif arguments.action == "revoke":
                api_key_table().revoke(arguments.id)
                console.print(f"Revoked {arguments.id}: within a minute it opens nothing any more.")
            else:
                show(console)
        return True

    return command("make api-key", run)


if __name__ == "__main__":
    sys.exit(main())
