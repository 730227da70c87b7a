"""Sockets with a deadline, and proxies at allowed addresses only.

httpx limits each connect, read and write. A server that sends one byte before each limit keeps a request open for
hours, so the sockets themselves also respect one moment at which the whole exchange must have ended.
"""

import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import httpcore
import httpx
from socksio import SOCKSError

from copilot_metrics.proxies import PUBLIC_ONLY, ProxyRules

_deadline: ContextVar[float] = ContextVar("deadline")


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Let no socket operation of this thread last beyond ``seconds`` from now, all together."""
    token = _deadline.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _deadline.reset(token)


def _time_left(timeout: float | None, error: type[httpcore.TimeoutException]) -> float | None:
    end = _deadline.get(None)
    if end is None:
        return timeout
    left = end - time.monotonic()
    if left <= 0:
        raise error
    return left if timeout is None else min(timeout, left)


class DeadlineTransport(httpx.HTTPTransport):
    """httpx's own transport over sockets that are held to the deadline. Reads nothing from the environment."""

    def __init__(self, verify: ssl.SSLContext, proxy: str | None = None, rules: ProxyRules = PUBLIC_ONLY) -> None:
        """Take what to trust, and the proxy to go through with the rules for its address.

        Through a proxy, requests raise also InvalidInput where its address isn't allowed.
        """
        super().__init__(verify=verify, trust_env=False, proxy=None if proxy is None else httpx.Proxy(proxy))
        # Every socket leads to the proxy then.
        self._network = _DeadlineBackend(None if proxy is None else rules)
        # httpx has no public way to hand its transport a network backend.
        self._pool._network_backend = self._network  # noqa: SLF001

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request as httpx does; a proxy that doesn't speak SOCKS is its ProxyError, too."""
        try:
            return super().handle_request(request)
        except (SOCKSError, OverflowError) as error:  # httpx doesn't know its SOCKS library's errors
            raise httpx.ProxyError(type(error).__name__) from None

    def close(self) -> None:
        """Close every socket, also those to proxies that refused: httpcore forgets them."""
        super().close()
        self._network.close()


class _DeadlineBackend(httpcore.NetworkBackend):
    def __init__(self, rules: ProxyRules | None) -> None:
        self._rules = rules
        self._backend = httpcore.SyncBackend()
        self._open: set[_DeadlineStream] = set()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        failure: httpcore.ConnectError | None = None
        for address in [host] if self._rules is None else _allowed(self._rules, host, port):
            left = _time_left(timeout, httpcore.ConnectTimeout)
            try:
                stream = self._backend.connect_tcp(address, port, left, local_address, socket_options)
            except httpcore.ConnectError as error:
                failure = error
            else:
                return _DeadlineStream(stream, self._open)
        raise failure or httpcore.ConnectError

    def close(self) -> None:
        for stream in list(self._open):
            stream.close()


def _allowed(rules: ProxyRules, host: str, port: int) -> list[str]:
    try:
        return rules.addresses(host, port)
    except OSError as error:
        raise httpcore.ConnectError(type(error).__name__) from None


class _DeadlineStream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, among: set["_DeadlineStream"]) -> None:
        self._stream = stream
        self._among = among
        among.add(self)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _time_left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _time_left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._among.discard(self)
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        timeout = _time_left(timeout, httpcore.ConnectTimeout)
        # In place, so that whoever holds this stream closes the socket that is open.
        self._stream = self._stream.start_tls(ssl_context, server_hostname, timeout)
        return self

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401  # httpcore's own signature
        return self._stream.get_extra_info(info)
