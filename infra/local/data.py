"""The data folder of a local run: the database's files, and beside them the two private values it needs."""

import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.local.problem import Problem

TOKEN_SECRETS = re.compile(r"[0-9A-Fa-f]{64}(?:[\s,]+[0-9A-Fa-f]{64})*")
DATABASE_KEY = re.compile(r"[A-Z0-9]{20}")


@dataclass(frozen=True)
class DataFolder:
    """A folder that this process alone uses."""

    path: Path
    token_secret: str
    """One, or several while it is being changed, newest first."""
    database_key: str
    """An access key id. DynamoDB Local listens on all addresses and keeps each key's tables apart: who doesn't know
    this one, be it another machine or a web page, finds an empty database."""

    @property
    def database(self) -> Path:
        """Where the database keeps its files."""
        return self.path / "database"


@contextmanager
def data_folder(path: Path, token_secret: str | None = None) -> Iterator[DataFolder]:
    """Open a data folder, made on first use, and keep other local runs out of it meanwhile.

    ``token_secret`` is used instead of a kept or generated one. Raises Problem where the folder can't be used.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        (path / "database").mkdir(mode=0o700, exist_ok=True)
        lock = (path / "lock").open("w")
    except OSError as error:
        raise _unusable(path, error) from None
    with lock:
        _lock(lock.fileno(), path)
        try:
            folder = _contents(path, token_secret)
        except OSError as error:
            raise _unusable(path, error) from None
        yield folder


def in_use(path: Path) -> bool:
    """Tell whether a local run uses a data folder right now."""
    try:
        with (path / "lock").open("r+") as lock:
            _lock(lock.fileno(), path)
    except FileNotFoundError:
        return False
    except Problem:
        return True
    except OSError as error:
        raise _unusable(path, error) from None
    return False


def _contents(path: Path, token_secret: str | None) -> DataFolder:
    fresh = not any((path / "database").iterdir())
    return DataFolder(
        path=path,
        token_secret=token_secret or _kept(path / "token_secret", TOKEN_SECRETS, secrets.token_hex(32), fresh=fresh),
        database_key=_kept(path / "database_key", DATABASE_KEY, secrets.token_hex(10).upper(), fresh=fresh),
    )


def _unusable(path: Path, error: OSError) -> Problem:
    return Problem(f"The data folder {path} can't be used ({error.strerror}): {error.filename}")


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Problem(f"Another local run uses {path}: stop it, or choose another folder with DATA_DIR=...") from None


def _kept(file: Path, form: re.Pattern[str], generated: str, *, fresh: bool) -> str:
    """Return the file's value; where there is no file yet, keep the generated one in it for this user's eyes only."""
    if file.exists():
        value = file.read_text(errors="replace").strip()
        if not form.fullmatch(value):
            raise Problem(f"{file} is damaged: restore it, or remove {file.parent} to start with an empty database")
        return value
    if not fresh:
        # A new value would look like an empty database, or make every stored token unreadable.
        raise Problem(f"{file} is missing: restore it, or remove {file.parent} to start with an empty database")
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as new:
        new.write(generated + "\n")
        new.flush()
        os.fsync(new.fileno())
    return generated
