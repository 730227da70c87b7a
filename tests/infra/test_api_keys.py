"""Making, listing and revoking API keys."""

import io
import re
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from copilot_metrics.keys import digest, id_in
from copilot_metrics.models import Scope
from copilot_metrics.tables import api_key_table
from infra.admin.api_keys import main, make, show
from infra.local.problem import Problem

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

pytestmark = pytest.mark.usefixtures("tables")


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=200)


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_key_is_shown_once_and_only_its_digest_is_kept(
    console: Console, capsys: pytest.CaptureFixture[str], tables: "DynamoDBClient"
) -> None:
    make(console, " the build ", Scope.READ, None)
    key = capsys.readouterr().out.strip()
    assert re.fullmatch(r"cmk_[0-9a-f]{12}_[A-Za-z0-9_-]{43}", key)
    known, kept = api_key_table().get(str(id_in(key))) or pytest.fail("not stored")
    assert (known.name, known.scope, known.expires_at, kept) == ("the build", Scope.READ, None, digest(key))
    assert key not in repr(tables.scan(TableName="copilot_metrics_api_keys")["Items"])
    show(console)
    assert "the build" in printed(console)
    assert key not in printed(console)


def test_keys_are_all_different(console: Console, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(20):
        make(console, "a test", Scope.WRITE, 90)
    assert len(set(capsys.readouterr().out.split())) == 20


def test_the_list_tells_what_became_of_each(console: Console, capsys: pytest.CaptureFixture[str]) -> None:
    for name, days in (("lasting", None), ("ending", 1), ("ended", -1), ("gone", None)):
        make(console, name, Scope.READ, days)
    api_key_table().revoke(str(id_in(capsys.readouterr().out.split()[-1])))
    show(console)
    lines = {line.split("│")[2].strip(): line for line in printed(console).splitlines() if line.startswith("│")}
    states = {name: lines[name].split("│")[6].split()[0] for name in ("lasting", "ending", "ended", "gone")}
    assert states == {"lasting": "good", "ending": "good", "ended": "expired", "gone": "revoked"}
    assert "good until" in lines["ending"]


@pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 101])
def test_a_key_without_a_name_is_not_made(console: Console, name: str) -> None:
    with pytest.raises(Problem, match="NAME="):
        make(console, name, Scope.READ, None)
    assert list(api_key_table().all()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["make", "--name", "x"], "SCOPE="),
        (["make", "--name", "x", "--scope", "all"], "SCOPE="),
        (["make", "--scope", "read"], "NAME="),
        (["make", "--name", "x", "--scope", "read", "--days=0"], "DAYS"),
        (["make", "--name", "x", "--scope", "read", "--days=-1"], "DAYS"),
        (["make", "--name", "x", "--scope", "read", "--days=soon"], "DAYS"),
        (["revoke"], "ID="),
    ],
)
def test_what_is_missing_is_said_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    monkeypatch.setattr("sys.argv", ["api_keys", *arguments])
    assert main() == 1
    error = capsys.readouterr().err
    assert error.startswith("make api-key: ")
    assert said in error
    assert len(error.splitlines()) == 1
