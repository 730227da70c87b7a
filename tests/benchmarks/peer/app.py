"""What a user would otherwise run: the plugin as its specification says it, with FastAPI, SQLAlchemy and SQLite.

Written for the benchmark from the specification alone, the straightforward way: a synchronous endpoint per call, a new
``httpx.Client`` per call, Argon2id with argon2-cffi's usual 100 MiB, and the newest row per account found by reading
all rows. ``uvicorn app:app`` serves it; ``DATABASE_URL``, ``GITHUB_API_URL`` and ``COPILOT_METRICS__TOKEN_SECRET`` are
its environment.
"""

import base64
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import httpx
from argon2.low_level import Type, hash_secret_raw
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from fastapi import APIRouter, Depends, FastAPI, HTTPException
from pydantic import BaseModel, ConfigDict
from sqlalchemy import ForeignKey, Text, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

GITHUB = os.environ.get("GITHUB_API_URL", "https://api.github.com")
SECRET = bytes.fromhex(os.environ["COPILOT_METRICS__TOKEN_SECRET"])
TIMEOUT_SECONDS = 30

engine = create_engine(os.environ.get("DATABASE_URL", "sqlite:///peer.db"))


class Base(DeclarativeBase):
    """The tables."""


class Account(Base):
    """``copilot_github_accounts``."""

    __tablename__ = "copilot_github_accounts"

    id: Mapped[int] = mapped_column(primary_key=True)
    login: Mapped[str]
    github_user_id: Mapped[int] = mapped_column(unique=True)
    node_id: Mapped[str]
    avatar_url: Mapped[str]
    token_ciphertext: Mapped[str]
    token_nonce: Mapped[str]
    token_salt: Mapped[str]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class Metrics(Base):
    """``copilot_metrics``."""

    __tablename__ = "copilot_metrics"

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey(Account.id), index=True)
    fetched_at: Mapped[datetime]
    payload: Mapped[str] = mapped_column(Text)


class ImportRequest(BaseModel):
    """The body of an import."""

    token: str
    proxy: str | None = None


class AccountOut(BaseModel):
    """An account as it is shown."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    login: str
    github_user_id: int
    node_id: str
    avatar_url: str
    created_at: datetime
    updated_at: datetime


class MetricsOut(BaseModel):
    """A snapshot as it is shown."""

    id: int
    account_id: int
    fetched_at: datetime
    payload: dict[str, Any]


def session() -> Iterator[Session]:
    """Open a session for one request."""
    with Session(engine) as opened:
        yield opened


Database = Annotated[Session, Depends(session)]
router = APIRouter(prefix="/plugins/copilot_metrics")


@router.post("/accounts/import")
def import_account(body: ImportRequest, database: Database) -> dict[str, int]:
    """Check the token with GitHub and store it encrypted."""
    with httpx.Client(proxy=body.proxy, timeout=TIMEOUT_SECONDS) as client:
        user = _json(client.get(f"{GITHUB}/user", headers={"authorization": f"token {body.token}"}))
    account = database.scalar(select(Account).where(Account.github_user_id == user["id"]))
    now = datetime.now(UTC)
    if account is None:
        account = Account(github_user_id=user["id"], created_at=now)
        database.add(account)
    salt, nonce = os.urandom(16), os.urandom(12)
    account.login, account.node_id, account.avatar_url = user["login"], user["node_id"], user["avatar_url"]
    account.token_ciphertext = _base64(AESGCM(_key(salt)).encrypt(nonce, body.token.encode(), None))
    account.token_nonce, account.token_salt = _base64(nonce), _base64(salt)
    account.updated_at = now
    database.commit()
    return {"account_id": account.id}


@router.get("/accounts")
def list_accounts(database: Database) -> list[AccountOut]:
    """List the accounts."""
    return [AccountOut.model_validate(account) for account in database.scalars(select(Account))]


@router.get("/accounts/{account_id}")
def get_account(account_id: int, database: Database) -> AccountOut:
    """Show one account."""
    return AccountOut.model_validate(_account(database, account_id))


@router.post("/metrics/fetch/{account_id}")
def fetch_metrics(account_id: int, database: Database) -> dict[str, int]:
    """Fetch an account's metrics and store them."""
    account = _account(database, account_id)
    key = _key(base64.b64decode(account.token_salt))
    nonce, ciphertext = base64.b64decode(account.token_nonce), base64.b64decode(account.token_ciphertext)
    token = AESGCM(key).decrypt(nonce, ciphertext, None).decode()
    with httpx.Client(timeout=TIMEOUT_SECONDS) as client:
        usage = _json(client.get(f"{GITHUB}/copilot_internal/user", headers={"authorization": f"Bearer {token}"}))
    metrics = Metrics(account_id=account_id, fetched_at=datetime.now(UTC), payload=json.dumps(usage))
    database.add(metrics)
    database.commit()
    return {"metrics_id": metrics.id}


@router.get("/metrics/{account_id}")
def latest_metrics_for_account(account_id: int, database: Database) -> MetricsOut:
    """Show an account's latest metrics."""
    rows = select(Metrics).where(Metrics.account_id == account_id).order_by(Metrics.id.desc())
    latest = database.scalars(rows).first()
    if latest is None:
        raise HTTPException(404, "no metrics")
    return _shown(latest)


@router.get("/metrics")
def latest_metrics_all(database: Database) -> list[MetricsOut]:
    """Show the latest metrics of all accounts."""
    latest: dict[int, Metrics] = {}
    for metrics in database.scalars(select(Metrics).order_by(Metrics.id)):
        latest[metrics.account_id] = metrics
    return [_shown(metrics) for metrics in latest.values()]


def _account(database: Session, account_id: int) -> Account:
    account = database.get(Account, account_id)
    if account is None:
        raise HTTPException(404, "no such account")
    return account


def _shown(metrics: Metrics) -> MetricsOut:
    return MetricsOut(
        id=metrics.id,
        account_id=metrics.account_id,
        fetched_at=metrics.fetched_at,
        payload=json.loads(metrics.payload),
    )


def _json(answer: httpx.Response) -> Any:
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        raise HTTPException(401, "invalid or expired token")
    answer.raise_for_status()
    return answer.json()


def _key(salt: bytes) -> bytes:
    return hash_secret_raw(SECRET, salt, time_cost=2, memory_cost=100 * 1024, parallelism=8, hash_len=32, type=Type.ID)


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


Base.metadata.create_all(engine)
app = FastAPI()
app.include_router(router)
