"""A stand-in for GitHub on loopback, that also misbehaves.

What a token gets is written in the token: ``gho_user-1001`` belongs to the GitHub user with the id 1001, and
``gho_user-1001-down`` to one for whom the Copilot endpoint fails. At the end of a token, ``-on-user`` moves the case to
``/user``, which otherwise answers all but refused tokens well. The cases are the functions named ``case_…`` below.

Run it with ``python -m tests.stand_ins.github --port 9999`` and the service with
``COPILOT_METRICS__GITHUB_API_URL=http://localhost:9999``.
"""

import argparse
import asyncio
import itertools
import json
import re
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Self

TOKEN = re.compile(r"gho_user-(?P<id>[1-9]\d*)(?:-(?P<case>[a-z0-9-]+?))?(?P<on_user>-on-user)?")


LARGEST = 399 * 1024
"""Bytes of the largest payload that is kept."""


@dataclass(frozen=True)
class Seen:
    """A request that arrived."""

    method: str
    path: str
    headers: dict[str, str]
    """Names in lower case."""


@dataclass(frozen=True)
class Exchange:
    """What a case may use to answer, or not to answer, one request."""

    seen: Seen
    writer: asyncio.StreamWriter
    token: str
    elsewhere: str

    async def send(
        self,
        status: int,
        body: bytes | str | object,
        *,
        headers: dict[str, str] | None = None,
        length: int | None = None,
    ) -> None:
        """Send an answer; ``length`` lies about the body's."""
        if not isinstance(body, bytes):
            body = (body if isinstance(body, str) else json.dumps(body)).encode()
        fields = {
            "content-type": "application/json; charset=utf-8",
            "content-length": str(len(body) if length is None else length),
            **(headers or {}),
        }
        head = f"HTTP/1.1 {status} Whatever\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        await self.write(head.encode() + b"\r\n" + body)

    async def write(self, data: bytes) -> None:
        """Send bytes."""
        self.writer.write(data)
        await self.writer.drain()

    async def drip(self, data: bytes) -> None:
        """Send bytes one by one, slowly enough to need minutes and fast enough for any timeout between two."""
        for byte in data:
            await self.write(bytes([byte]))
            await asyncio.sleep(0.2)


Case = Callable[[Exchange], Awaitable[None]]


async def case_refused(exchange: Exchange) -> None:
    """Not a valid token."""
    await exchange.send(401, {"message": "Bad credentials", "documentation_url": "https://docs.github.com/rest"})


async def case_revoked(exchange: Exchange) -> None:
    """Valid when it was imported, refused since."""
    await case_refused(exchange)


async def case_no_copilot(exchange: Exchange) -> None:
    """An account without Copilot: an answer, not an error."""
    await exchange.send(200, {"login": "octo-none", "access_type_sku": "no_access", "copilot_plan": "individual"})


async def case_wrong_kind(exchange: Exchange) -> None:
    """A kind of token that the endpoint doesn't accept."""
    await exchange.send(404, {"message": "Not Found"})


async def case_limited(exchange: Exchange) -> None:
    """Limited, for as long as the answer says."""
    await exchange.send(429, {"message": "Too many requests"}, headers={"retry-after": "30"})


async def case_limited_403(exchange: Exchange) -> None:
    """The hourly budget is used up."""
    headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(time.time()) + 90)}
    await exchange.send(403, {"message": "API rate limit exceeded for user."}, headers=headers)


async def case_secondary(exchange: Exchange) -> None:
    """A secondary limit, which only the message tells."""
    await exchange.send(403, {"message": "You have exceeded a secondary rate limit. Please wait a few minutes."})


async def case_down(exchange: Exchange) -> None:
    """GitHub fails."""
    await exchange.send(500, {"message": "Server Error"})


async def case_unavailable(exchange: Exchange) -> None:
    """GitHub is down for maintenance."""
    await exchange.send(503, "<html>Unicorn!</html>", headers={"content-type": "text/html"})


async def case_html(exchange: Exchange) -> None:
    """A page where JSON was asked for."""
    await exchange.send(200, "<html>Welcome</html>", headers={"content-type": "text/html"})


async def case_array(exchange: Exchange) -> None:
    """JSON, but no object."""
    await exchange.send(200, "[]")


async def case_nan(exchange: Exchange) -> None:
    """What Python takes for JSON and nobody else does."""
    await exchange.send(200, '{"a": NaN}')


async def case_deep(exchange: Exchange) -> None:
    """Nested deeper than any parser goes."""
    await exchange.send(200, '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}")


async def case_numbers(exchange: Exchange) -> None:
    """Valid JSON that careless code changes."""
    await exchange.send(
        200,
        '{"exact": 93.50, "large": 123456789012345678901234567890, "huge": 1e400, "none": null,'
        ' "text": "\\u00fcn\\u00ef \U0001f600", "a_field_nobody_knows": {"nested": [1, 2.5, null]}}',
    )


async def case_huge(exchange: Exchange) -> None:
    """A valid answer that no DynamoDB item can hold."""
    await exchange.send(200, {"filler": "x" * 500_000})


async def case_large(exchange: Exchange) -> None:
    """A valid answer that just fits."""
    await exchange.send(200, {"filler": "x" * (LARGEST - len('{"filler": ""}'))})


async def case_endless(exchange: Exchange) -> None:
    """An answer that never ends."""
    await exchange.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        await exchange.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")


async def case_slow(exchange: Exchange) -> None:
    """A body that trickles in."""
    await exchange.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n")
    await exchange.drip(b" " * 1000)


async def case_slow_headers(exchange: Exchange) -> None:
    """Headers that trickle in."""
    await exchange.drip(b"HTTP/1.1 200 OK\r\nx-padding: " + b"x" * 1000)


async def case_hang(_exchange: Exchange) -> None:
    """No answer at all."""
    await asyncio.sleep(3600)


async def case_truncated(exchange: Exchange) -> None:
    """An answer that breaks off."""
    await exchange.send(200, '{"login": "octo', length=1000)
    exchange.writer.close()


async def case_closed(exchange: Exchange) -> None:
    """A connection that is closed without an answer."""
    exchange.writer.close()


async def case_garbage(exchange: Exchange) -> None:
    """Not HTTP."""
    await exchange.write(b"\x00\x01\x02 hello\r\n\r\n")
    exchange.writer.close()


async def case_redirect(exchange: Exchange) -> None:
    """A redirect to another host."""
    await exchange.send(302, "", headers={"location": f"{exchange.elsewhere}/user"})


async def case_gzip(exchange: Exchange) -> None:
    """A compressed answer though none was asked for; unpacked it could be anything."""
    await exchange.send(200, b"\x1f\x8b\x08\x00" + b"\x00" * 100, headers={"content-encoding": "gzip"})


async def case_echo(exchange: Exchange) -> None:
    """An answer with the token in it."""
    await exchange.send(200, {"login": "octo-echo", "id": 1, "note": exchange.token})


async def case_echo_error(exchange: Exchange) -> None:
    """A failure whose message has the token in it."""
    await exchange.send(401, {"message": f"Bad credentials: {exchange.token}"})


async def case_unknown(exchange: Exchange) -> None:
    """Not a case of this stand-in."""
    await exchange.send(400, {"message": f"The cases are {', '.join(_cases())}"})


def _cases() -> dict[str, Case]:
    prefix = "case_"
    return {
        name.removeprefix(prefix).replace("_", "-"): value
        for name, value in globals().items()
        if name.startswith(prefix)
    }


class GitHubStandIn:
    """The stand-in, in a thread of its own while it is entered."""

    def __init__(
        self, *, port: int = 0, host: str = "127.0.0.1", latency: float = 0.0, elsewhere: str = "http://127.0.0.1:9"
    ) -> None:
        """Take the address (any free port by default), each answer's delay in seconds, and where redirects lead."""
        self._host = host
        self.port = port
        self.latency = latency
        self.elsewhere = elsewhere
        self.requests: list[Seen] = []
        self._counter = itertools.count(1)
        self._cases = _cases()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The API's address."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        """Start listening."""
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        return self

    def __exit__(self, *_exception: object) -> None:
        """Stop, and drop what is still connected."""
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> asyncio.Server:
        server = await asyncio.start_server(self._connected, self._host, self.port, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _stop(self) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                request, *lines = head.rstrip("\r\n").split("\r\n")
                method, path, _version = request.split(" ")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
                await self._answer(Seen(method, path, headers), writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(task)
            writer.close()

    async def _answer(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        self.requests.append(seen)
        await asyncio.sleep(self.latency)
        schemes = {"/user": "token ", "/copilot_internal/user": "Bearer "}
        authorization = seen.headers.get("authorization", "")
        exchange = Exchange(seen, writer, authorization.partition(" ")[2], self.elsewhere)
        if seen.path not in schemes:
            await exchange.send(404, {"message": "Not Found"})
        elif "user-agent" not in seen.headers:
            await exchange.send(403, {"message": "Request forbidden by administrative rules."})
        elif not authorization.startswith(schemes[seen.path]) or not (match := TOKEN.fullmatch(exchange.token)):
            await case_refused(exchange)
        else:
            on_user = bool(match["on_user"]) or match["case"] == "refused"
            if match["case"] and on_user == (seen.path == "/user"):
                await self._cases.get(match["case"], case_unknown)(exchange)
            elif seen.path == "/user":
                await exchange.send(200, _user(int(match["id"])))
            else:
                await exchange.send(200, self._usage(int(match["id"])))

    def _usage(self, user_id: int) -> dict[str, object]:
        used = next(self._counter)
        return {
            "login": f"octo-{user_id}",
            "id": user_id,
            "copilot_plan": "individual_pro",
            "access_type_sku": "plus_monthly_subscriber_quota",
            "quota_reset_date_utc": "2026-12-01T00:00:00.000Z",
            "quota_snapshots": {
                "chat": {"quota_id": "chat", "unlimited": True, "entitlement": 0, "percent_remaining": 100.0},
                "premium_interactions": {
                    "quota_id": "premium_interactions",
                    "unlimited": False,
                    "entitlement": 7000,
                    "quota_remaining": 7000 - used / 10,
                    "credits_used": used,
                },
            },
        }


def _user(user_id: int) -> dict[str, object]:
    return {
        "login": f"octo-{user_id}",
        "id": user_id,
        "node_id": f"U_{user_id}",
        "avatar_url": f"https://avatars.example/u/{user_id}?v=4",
        "name": "Octo Cat",
        "type": "User",
        "email": None,
    }


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=9999)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    arguments = parser.parse_args()
    with GitHubStandIn(port=arguments.port, latency=arguments.latency) as github:
        print(f"A stand-in for GitHub at {github.url}. Cases: {', '.join(_cases())}", flush=True)  # noqa: T201
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("Stopped.")  # noqa: T201


if __name__ == "__main__":
    main()
