"""GitHub's two endpoints, and what their answers mean.

The facts about answers come from GitHub's REST API documentation (authentication, rate limits and best practices)
and, for the undocumented ``/copilot_internal/user``, from what public clients observe.
"""

import json
import re
import ssl
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from http import HTTPStatus
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, NoReturn

import httpx

from copilot_metrics import __version__
from copilot_metrics.errors import GitHubFailed, GitHubTimeout, PayloadTooLarge, ProxyFailed, RateLimited, TokenRefused
from copilot_metrics.models import MAX_PAYLOAD_BYTES
from copilot_metrics.network import DeadlineTransport, deadline
from copilot_metrics.proxies import PUBLIC_ONLY, ProxyRules

if TYPE_CHECKING:
    from copilot_metrics.schemas import GitHubUser

USER_LIMIT_BYTES = 64 * 1024
ERROR_LIMIT_BYTES = 16 * 1024
MIN_RATE_LIMIT_SECONDS = 60
"""Where GitHub limits without saying for how long, it asks for at least a minute."""
MAX_RATE_LIMIT_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Timeouts:
    """Seconds; ``total`` bounds the whole exchange however slowly bytes arrive, and stays below API Gateway's 30."""

    connect: float = 5.0
    read: float = 10.0
    total: float = 15.0


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: httpx.Headers
    body: bytes
    """No more than was asked for."""
    complete: bool


class GitHubClient:
    """Asks GitHub with an account's token. Safe to share between threads; made once per process."""

    def __init__(
        self,
        api_url: str,
        proxy_rules: ProxyRules = PUBLIC_ONLY,
        timeouts: Timeouts = Timeouts(),  # frozen
    ) -> None:
        """Take GitHub's address, without a slash at its end, and where callers' proxies may be."""
        self._api_url = api_url
        self._proxy_rules = proxy_rules
        self._timeouts = timeouts
        self._client = self._new_client(proxy=None)

    def user(self, token: str, proxy: str | None = None) -> "GitHubUser":
        """Ask whose token it is, optionally through a proxy that serves this one call.

        Raises TokenRefused, RateLimited, GitHubFailed, ProxyFailed or GitHubTimeout, or InvalidInput for a proxy
        where there must be none.
        """
        from pydantic import ValidationError  # noqa: PLC0415  # functions that only fetch start without pydantic

        from copilot_metrics.schemas import GitHubUser  # noqa: PLC0415  # the same

        if proxy is None:
            answer = self._get(self._client, "/user", f"token {token}", USER_LIMIT_BYTES)
        else:
            try:
                own_client = self._new_client(proxy)
            except (httpx.InvalidURL, UnicodeError):
                raise ProxyFailed("The proxy's address is none that can be reached; check its host.") from None
            with closing(own_client) as client:
                answer = self._get(client, "/user", f"token {token}", USER_LIMIT_BYTES, via_proxy=True)
        if answer.status != HTTPStatus.OK:
            _refuse(answer, token)
        text = _json_object(answer, token)
        try:
            return GitHubUser.model_validate_json(text)
        except ValidationError as error:
            fields = ", ".join(sorted({str(problem["loc"][0]) for problem in error.errors() if problem["loc"]}))
            raise GitHubFailed(
                f"GitHub answered /user with a JSON object that isn't a user ({fields}); nothing was stored."
            ) from None

    def copilot_usage(self, token: str) -> str:
        """Fetch the token's account's Copilot plan and quotas; return the JSON object as GitHub wrote it.

        Raises TokenRefused, RateLimited, GitHubFailed, GitHubTimeout, or PayloadTooLarge.
        """
        answer = self._get(self._client, "/copilot_internal/user", f"Bearer {token}", MAX_PAYLOAD_BYTES)
        if answer.status in {HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND} and not _rate_limit_seconds(answer):
            raise TokenRefused(
                f"GitHub doesn't accept this account's token for Copilot usage ({_said(answer, token)}): "
                "import the account again with a token whose kind and scopes allow it."
            )
        if answer.status != HTTPStatus.OK:
            _refuse(answer, token)
        if not answer.complete:
            raise PayloadTooLarge(
                f"GitHub's answer is larger than the {MAX_PAYLOAD_BYTES} bytes that can be kept; "
                "it was not stored, and the metrics fetched before are still there."
            )
        return _json_object(answer, token)

    def _new_client(self, proxy: str | None) -> httpx.Client:
        return httpx.Client(
            base_url=self._api_url,
            transport=DeadlineTransport(_tls(), proxy, self._proxy_rules),
            trust_env=False,  # no global proxy, no .netrc: the specification's "No global proxy is used"
            follow_redirects=False,  # a redirect must not carry the token elsewhere
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),  # nor a cookie one account to the next
            timeout=httpx.Timeout(self._timeouts.read, connect=self._timeouts.connect),
            headers={
                "accept": "application/json",
                # Answers are small; uncompressed ones can't unpack into something huge.
                "accept-encoding": "identity",
                "user-agent": f"copilot-metrics/{__version__}",
            },
        )

    def _get(
        self, client: httpx.Client, path: str, authorization: str, limit: int, *, via_proxy: bool = False
    ) -> _Answer:
        way = "through the proxy " if via_proxy else ""
        try:
            with (
                deadline(self._timeouts.total),
                client.stream("GET", path, headers={"authorization": authorization}) as response,
            ):
                return _read(response, limit)
        except httpx.TimeoutException as error:
            raise GitHubTimeout(
                f"GitHub didn't answer {way}in time ({type(error).__name__}); try again later."
            ) from None
        except httpx.ProxyError as error:
            raise ProxyFailed(f"The proxy refused to pass the request on to GitHub ({type(error).__name__}).") from None
        # The last two: httpx reads a redirect's address even where it isn't followed.
        except (httpx.TransportError, httpx.InvalidURL, UnicodeError) as error:
            problem = f"could not be reached {way}or broke off its answer ({type(error).__name__})"
            if via_proxy:
                raise ProxyFailed(f"GitHub {problem}; check the proxy's address.") from None
            raise GitHubFailed(f"GitHub {problem}; try again later.") from None


@cache
def github_client(api_url: str, proxy_rules: ProxyRules = PUBLIC_ONLY) -> GitHubClient:
    """Return this process's client for a GitHub address."""
    return GitHubClient(api_url, proxy_rules)


@cache
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)


def _read(response: httpx.Response, limit: int) -> _Answer:
    if response.status_code != HTTPStatus.OK:
        limit = ERROR_LIMIT_BYTES
    encoded = response.headers.get("content-encoding", "identity").lower() != "identity"
    body = b""
    complete = True
    if not encoded:
        for chunk in response.iter_raw():
            body += chunk
            if len(body) > limit:
                complete = False
                break
    elif response.status_code == HTTPStatus.OK:
        raise GitHubFailed("GitHub compressed an answer that was asked for uncompressed; it was not read.")
    return _Answer(response.status_code, response.headers, body[:limit], complete)


def _refuse(answer: _Answer, token: str) -> NoReturn:
    if answer.status == HTTPStatus.UNAUTHORIZED:
        raise TokenRefused(
            f"GitHub refused the token ({_said(answer, token)}): it is invalid, expired or revoked; "
            "import the account with a valid one."
        )
    seconds = _rate_limit_seconds(answer)
    if seconds is not None:
        raise RateLimited(
            f"GitHub limits this account's requests ({_said(answer, token)}); try again in {seconds} seconds.",
            retry_after=seconds,
        )
    if answer.status == HTTPStatus.FORBIDDEN:
        raise TokenRefused(f"GitHub refused the token ({_said(answer, token)}): use one that may read its own user.")
    hint = ""
    if answer.status == HTTPStatus.NOT_FOUND or 300 <= answer.status < 400:  # noqa: PLR2004  # any redirect
        hint = " Check COPILOT_METRICS__GITHUB_API_URL."
    raise GitHubFailed(f"GitHub failed ({_said(answer, token)}); try again later.{hint}")


def _rate_limit_seconds(answer: _Answer) -> int | None:
    """Return how long GitHub asks to wait, None where the answer isn't about a limit.

    GitHub: Rate limits for the REST API. A limit shows as 429, as 403 with nothing remaining, as a Retry-After on
    any failure, or only in the message: secondary limits, and too many bad credentials.
    """
    headers = answer.headers
    limited = (
        answer.status == HTTPStatus.TOO_MANY_REQUESTS
        or "retry-after" in headers
        or (
            answer.status == HTTPStatus.FORBIDDEN
            and (
                headers.get("x-ratelimit-remaining") == "0"
                or re.search(rb"rate limit|abuse detection|login attempts exceeded", answer.body, re.IGNORECASE)
            )
        )
    )
    if not limited:
        return None
    seconds = _retry_after(headers)
    if seconds is None and headers.get("x-ratelimit-remaining") == "0":
        seconds = _until_reset(headers)
    if seconds is None:
        return MIN_RATE_LIMIT_SECONDS
    return max(1, min(seconds, MAX_RATE_LIMIT_SECONDS))


def _retry_after(headers: Mapping[str, str]) -> int | None:
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", value):
        return int(value)
    try:
        moment = parsedate_to_datetime(value)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return int((moment - datetime.now(UTC)).total_seconds()) + 1
    except (ValueError, OverflowError):
        return None


def _until_reset(headers: Mapping[str, str]) -> int | None:
    value = headers.get("x-ratelimit-reset", "")
    return int(value) - int(time.time()) + 1 if re.fullmatch(r"[0-9]{1,11}", value) else None


def _said(answer: _Answer, token: str) -> str:
    """Return the status and GitHub's own message, harmless to repeat: no token, one short printable line."""
    try:
        said = json.loads(answer.body)["message"]
    except (ValueError, TypeError, KeyError, RecursionError):
        said = None
    if not isinstance(said, str) or not said.strip() or token in said:
        return f"HTTP {answer.status}"
    text = "".join(character if character.isprintable() else " " for character in said).strip()
    return f"HTTP {answer.status}: {text[:200]}"


def _json_object(answer: _Answer, token: str) -> str:
    """Return the body's text: a JSON object by RFC 8259, and without the token, as it is stored and shown."""

    def unconverted(_number: str) -> None:
        """Skip what conversion costs and could refuse: any number that JSON allows is kept as it is."""

    def refused(name: str) -> NoReturn:
        raise ValueError(name)  # NaN and Infinity, which Python reads but JSON doesn't have

    try:
        text = answer.body.decode()
        document = json.loads(text, parse_int=unconverted, parse_float=unconverted, parse_constant=refused)
        # In one spelling: JSON has several for each letter.
        echoed = json.dumps(token)[1:-1] in json.dumps(document)
    except (ValueError, RecursionError):
        document, echoed = None, False
    if not isinstance(document, dict):
        raise GitHubFailed("GitHub answered something that isn't a JSON object; nothing was stored.")
    if echoed:
        raise GitHubFailed("GitHub's answer contains the token itself; nothing was stored.")
    return text
