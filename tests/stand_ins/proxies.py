"""Stand-ins for what lies between the service and GitHub, on loopback: proxies, and a front that adds TLS.

Each listens, in a thread of its own, while it is entered::

    with HTTPProxy(credentials=("octo", "invented")) as proxy:
        client.user(token, proxy.url_with("octo", "invented"))
        proxy.requests  # what arrived, refused or not
"""

import asyncio
import base64
import contextlib
import ipaddress
import ssl
import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self
from urllib.parse import urlsplit

Credentials = tuple[str, str]


@dataclass(frozen=True)
class Asked:
    """What a proxy was asked to do."""

    method: str
    """``SOCKS5``, or HTTP's: ``CONNECT`` for a tunnel, ``GET`` for a request to pass on."""
    target: str
    """The URL to get, or ``host:port`` to connect to; empty where SOCKS5 ended before it was said."""
    credentials: Credentials | None
    allowed: bool


class Listener(ABC):
    """What listens on a free port of 127.0.0.1 and handles each connection."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.port = 0
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        return self

    def __exit__(self, *_exception: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @abstractmethod
    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection; it is closed afterwards."""

    async def connect(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to where the client wants to go."""
        reader, writer = await asyncio.open_connection(host, port)
        self._writers.append(writer)
        return reader, writer

    async def _start(self) -> asyncio.Server:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._tls)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)  # transports close in the loop's next turn

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.append(writer)
        try:
            await self.handle(reader, writer)
        except (asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()


class Proxy(Listener):
    """What both kinds of proxy have: credentials, and a memory."""

    scheme: ClassVar[str]

    def __init__(self, *, credentials: Credentials | None = None) -> None:
        """Take the credentials to require; none are by default."""
        super().__init__()
        self.credentials = credentials
        self.requests: list[Asked] = []
        self.carried = bytearray()
        """All that clients sent through tunnels."""

    @property
    def url(self) -> str:
        """The proxy's address, without credentials."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def url_with(self, username: str, password: str) -> str:
        """Return the proxy's address with credentials; they must need no quoting."""
        return f"{self.scheme}://{username}:{password}@127.0.0.1:{self.port}"

    def allows(self, method: str, target: str, credentials: Credentials | None) -> bool:
        """Note what was asked, and say whether these credentials may."""
        allowed = self.credentials is None or credentials == self.credentials
        self.requests.append(Asked(method, target, credentials, allowed))
        return allowed


class HTTPProxy(Proxy):
    """Passes on requests in absolute form, and connects for CONNECT."""

    scheme = "http"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        request, *lines = head.rstrip("\r\n").split("\r\n")
        method, target, _version = request.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if not self.allows(method, target, _basic(headers.get("proxy-authorization", ""))):
            await _answer(writer, "407 Proxy Authentication Required", 'proxy-authenticate: Basic realm="proxy"\r\n')
            return
        parts = urlsplit(f"//{target}" if method == "CONNECT" else target)
        assert parts.hostname is not None
        try:
            upstream = await self.connect(parts.hostname, parts.port or 80)
        except OSError:
            await _answer(writer, "502 Bad Gateway")
            return
        if method == "CONNECT":
            await _write(writer, b"HTTP/1.1 200 Connection established\r\n\r\n")
            await _relay((reader, writer), upstream, self.carried)
            return
        kept = [line for line in lines if not line.lower().startswith(("proxy-", "connection:"))]
        passed_on = [f"{method} {parts.path or '/'} HTTP/1.1", *kept, "connection: close", "", ""]
        await _write(upstream[1], "\r\n".join(passed_on).encode("latin-1"))
        # The stand-in for GitHub keeps connections, so the end of this one is up to the client.
        await _relay((reader, writer), upstream, bytearray())


class SOCKS5Proxy(Proxy):
    """Connects as RFC 1928 says, with RFC 1929's username and password where credentials are required."""

    scheme = "socks5"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _version, count = await reader.readexactly(2)
        offered = await reader.readexactly(count)
        wanted = 0 if self.credentials is None else 2
        if wanted not in offered:
            self.allows("SOCKS5", "", None)
            await _write(writer, b"\x05\xff")
            return
        await _write(writer, bytes([5, wanted]))
        credentials = None
        if wanted:
            await reader.readexactly(1)
            credentials = (await _counted(reader), await _counted(reader))
            if credentials != self.credentials:
                self.allows("SOCKS5", "", credentials)
                await _write(writer, b"\x01\x01")
                return
            await _write(writer, b"\x01\x00")
        _version, _command, _reserved, kind = await reader.readexactly(4)
        if kind == 3:
            host = await _counted(reader)
        else:
            host = str(ipaddress.ip_address(await reader.readexactly(4 if kind == 1 else 16)))
        port = int.from_bytes(await reader.readexactly(2), "big")
        self.allows("SOCKS5", f"{host}:{port}", credentials)
        rest = b"\x00\x01" + bytes(6)
        try:
            upstream = await self.connect(host, port)
        except OSError:
            await _write(writer, b"\x05\x05" + rest)
            return
        await _write(writer, b"\x05\x00" + rest)
        await _relay((reader, writer), upstream, self.carried)


class TLSFront(Listener):
    """Takes TLS off and passes what is inside on to a port of 127.0.0.1."""

    def __init__(self, behind: int, tls: ssl.SSLContext) -> None:
        """Take the port to pass on to, and the server's side of TLS."""
        super().__init__(tls=tls)
        self._behind = behind

    @property
    def url(self) -> str:
        """The front's address."""
        return f"https://127.0.0.1:{self.port}"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _relay((reader, writer), await self.connect("127.0.0.1", self._behind), bytearray())


class Babbler(Listener):
    """Says the same to every packet of whoever connects, understanding nothing; then closes, or falls silent."""

    def __init__(self, *replies: bytes, silent: bool = False) -> None:
        """Take a reply for each packet, and whether to keep the connection open after the last."""
        super().__init__()
        self._replies = replies
        self._silent = silent
        self.heard = bytearray()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for reply in self._replies:
            self.heard += await reader.read(0x10000)
            await _write(writer, reply)
        if self._silent:
            await asyncio.sleep(3600)


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _relay(client: Streams, upstream: Streams, carried: bytearray) -> None:
    """Carry bytes both ways until one side ends."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, copy: bytearray) -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while data := await reader.read(0x10000):
                copy += data
                await _write(writer, data)

    ways = {
        asyncio.create_task(carry(client[0], upstream[1], carried)),
        asyncio.create_task(carry(upstream[0], client[1], bytearray())),
    }
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        upstream[1].close()


async def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


async def _answer(writer: asyncio.StreamWriter, status: str, fields: str = "") -> None:
    await _write(writer, f"HTTP/1.1 {status}\r\n{fields}content-length: 0\r\nconnection: close\r\n\r\n".encode())


async def _counted(reader: asyncio.StreamReader) -> str:
    [length] = await reader.readexactly(1)
    return (await reader.readexactly(length)).decode()


def _basic(value: str) -> Credentials | None:
    if not value.startswith("Basic "):
        return None
    username, _, password = base64.b64decode(value.removeprefix("Basic ")).decode().partition(":")
    return username, password
