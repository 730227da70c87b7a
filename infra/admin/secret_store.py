"""Where the token secrets are kept: an SSM parameter, and for a local run also a file."""

import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3

from infra.local.problem import Problem

if TYPE_CHECKING:
    from mypy_boto3_ssm import SSMClient


class SecretStore:
    """The secrets that functions read, newest first."""

    def __init__(self, parameter: str | None, file: Path | None = None) -> None:
        """Take the parameter's name, and the file that a local run keeps beside its data."""
        self._parameter = parameter
        self._file = file

    def read(self) -> tuple[str, ...]:
        """Return the secrets. Raises Problem where they come from the environment."""
        return self._split(self._described())

    def replace(self, known: Sequence[str], secrets: Sequence[str]) -> None:
        """Write other secrets in place of those that are known.

        A secret that nobody keeps makes tokens unreadable. So the file is written first, and what another has written
        at the same moment is kept, too. Raises Problem where the known ones are others by now.
        """
        described = self._described()
        if self._split(described) != tuple(known):
            raise Problem("The secrets were changed meanwhile: run it again")
        version = described["Version"]
        with self._locked():
            while True:
                written = self._write(secrets)
                between = [self._split(self._described(f":{number}")) for number in range(version + 1, written)]
                if not between:
                    return
                version = written
                secrets = list(dict.fromkeys([*secrets, *(secret for others in between for secret in others)]))

    def age(self) -> float:
        """Return for how many seconds functions may have known the secrets as they are."""
        if self._file is not None and self._file.exists():
            # The parameter of a local run is as old as the run; whoever runs has the file's secrets.
            return time.time() - self._file.stat().st_mtime
        changed: datetime = self._described()["LastModifiedDate"]
        return (datetime.now(UTC) - changed).total_seconds()

    def _write(self, secrets: Sequence[str]) -> int:
        value = ",".join(secrets)
        if self._file is not None:
            new = self._file.with_suffix(".new")
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as opened:
                opened.write(value + "\n")
                opened.flush()
                os.fsync(opened.fileno())
            new.replace(self._file)
        ssm, name = self._ssm(), str(self._parameter)
        [known] = ssm.describe_parameters(ParameterFilters=[{"Key": "Name", "Values": [name]}])["Parameters"]
        # Else AWS would take its own key again.
        key: Any = {"KeyId": known["KeyId"]} if "KeyId" in known else {}
        return ssm.put_parameter(Name=name, Value=value, Type="SecureString", Overwrite=True, **key)["Version"]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep file and parameter of a local run the same, whoever else writes."""
        if self._file is None:
            yield
            return
        with self._file.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _described(self, version: str = "") -> dict[str, Any]:
        if self._parameter is None:
            raise Problem(
                "The secret comes from COPILOT_METRICS__TOKEN_SECRET: put a new one before it there, with a comma "
                "between, or unset it so that the data folder's own is used"
            )
        return dict(self._ssm().get_parameter(Name=self._parameter + version, WithDecryption=True)["Parameter"])

    @staticmethod
    def _split(described: dict[str, Any]) -> tuple[str, ...]:
        return tuple(described["Value"].replace(",", " ").split())

    def _ssm(self) -> "SSMClient":
        return boto3.client("ssm")
