"""The data folder keeps its two private values private, and the same."""

import re
import stat
from pathlib import Path

import pytest

from infra.local.data import data_folder
from infra.local.problem import Problem


def mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


def test_values_are_made_once_and_kept_for_this_user_only(tmp_path: Path) -> None:
    with data_folder(tmp_path / "data") as first:
        assert re.fullmatch("[0-9a-f]{64}", first.token_secret)
        assert re.fullmatch("[A-Z0-9]{20}", first.database_key)
        assert mode(first.path) == mode(first.database) == 0o700
        assert mode(first.path / "token_secret") == mode(first.path / "database_key") == 0o600
    with data_folder(tmp_path / "data") as second:
        assert second == first
    with data_folder(tmp_path / "other") as other:
        assert other.token_secret != first.token_secret
        assert other.database_key != first.database_key


def test_a_secret_from_the_environment_is_used_and_not_kept(tmp_path: Path) -> None:
    with data_folder(tmp_path / "data", "ab" * 32) as data:
        assert data.token_secret == "ab" * 32
    assert not (tmp_path / "data" / "token_secret").exists()


def test_only_one_run_at_a_time_uses_a_folder(tmp_path: Path) -> None:
    with (
        data_folder(tmp_path / "data"),
        pytest.raises(Problem, match="Another local run"),
        data_folder(tmp_path / "data"),
    ):
        pass
    with data_folder(tmp_path / "data"):
        pass


@pytest.mark.parametrize("name", ["token_secret", "database_key"])
def test_a_lost_value_is_never_replaced_beside_a_database_that_needs_it(tmp_path: Path, name: str) -> None:
    with data_folder(tmp_path / "data") as data:
        (data.database / "tables.db").touch()
    (tmp_path / "data" / name).unlink()
    with pytest.raises(Problem, match=f"{name} is missing: restore it"), data_folder(tmp_path / "data"):
        pass
    assert not (tmp_path / "data" / name).exists()
