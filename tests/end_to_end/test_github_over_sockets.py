"""The GitHub client over real sockets: answers that come slowly, wrongly or never, and proxies."""

import gc
import ipaddress
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from copilot_metrics.errors import (
    CopilotMetricsError,
    GitHubFailed,
    GitHubTimeout,
    InvalidInput,
    PayloadTooLarge,
    ProxyFailed,
    RateLimited,
    TokenRefused,
)
from copilot_metrics.github import GitHubClient, Timeouts
from copilot_metrics.proxies import ProxyRules
from tests.end_to_end.running import free_port
from tests.stand_ins.github import GitHubStandIn
from tests.stand_ins.proxies import Asked, Babbler, HTTPProxy, Proxy, SOCKS5Proxy, TLSFront

pytestmark = pytest.mark.timeout(60)  # a deadline that isn't kept shows as this

LOOPBACK = ProxyRules.parsed(["127.0.0.1"])
PATIENT = Timeouts(connect=20, read=20, total=20)
TOKEN = "gho_user-1001"
USERNAME, PASSWORD = "octo", "invented-password"


class Clients:
    """Makes clients and closes their connections: the service's live as long as their process."""

    def __init__(self) -> None:
        self._made: list[GitHubClient] = []

    def new(self, url: str, timeouts: Timeouts = PATIENT, rules: ProxyRules = LOOPBACK) -> GitHubClient:
        client = GitHubClient(url, rules, timeouts)
        self._made.append(client)
        return client

    def close(self) -> None:
        for client in self._made:
            client._client.close()


@pytest.fixture
def clients() -> Iterator[Clients]:
    made = Clients()
    yield made
    made.close()
    gc.collect()  # so that a socket left open fails the test that left it, and no other


@pytest.fixture
def github() -> Iterator[GitHubStandIn]:
    """A stand-in whose requests are one test's only."""
    with GitHubStandIn() as stand_in:
        yield stand_in


def failed_user(client: GitHubClient, token: str, proxy: str | None = None) -> CopilotMetricsError:
    with pytest.raises(CopilotMetricsError) as caught:
        client.user(token, proxy)
    return caught.value


def failed_usage(client: GitHubClient, token: str) -> CopilotMetricsError:
    with pytest.raises(CopilotMetricsError) as caught:
        client.copilot_usage(token)
    return caught.value


class TestAnswers:
    def test_good_answers_arrive(self, clients: Clients, github: GitHubStandIn) -> None:
        client = clients.new(github.url)
        assert client.user(TOKEN).id == 1001
        assert '"octo-1001"' in client.copilot_usage(TOKEN)
        assert [(seen.method, seen.path) for seen in github.requests] == [
            ("GET", "/user"),
            ("GET", "/copilot_internal/user"),
        ]

    def test_an_answer_that_takes_its_time_arrives(self, clients: Clients) -> None:
        with GitHubStandIn(latency=0.5) as github:
            assert clients.new(github.url).user(TOKEN).id == 1001

    def test_numbers_arrive_as_they_were_sent(self, clients: Clients, github: GitHubStandIn) -> None:
        text = clients.new(github.url).copilot_usage(f"{TOKEN}-numbers")
        assert '"exact": 93.50, "large": 123456789012345678901234567890, "huge": 1e400' in text

    @pytest.mark.parametrize(
        ("case", "expected"),
        [
            ("refused", TokenRefused),
            ("wrong-kind", TokenRefused),
            ("limited", RateLimited),
            ("limited-403", RateLimited),
            ("secondary", RateLimited),
            ("down", GitHubFailed),
            ("unavailable", GitHubFailed),
            ("html", GitHubFailed),
            ("array", GitHubFailed),
            ("nan", GitHubFailed),
            ("deep", GitHubFailed),
            ("echo", GitHubFailed),
            ("truncated", GitHubFailed),
            ("closed", GitHubFailed),
            ("garbage", GitHubFailed),
            ("gzip", GitHubFailed),
            ("huge", PayloadTooLarge),
            ("endless", PayloadTooLarge),
        ],
    )
    def test_each_way_to_fail_has_its_error_and_spoils_nothing_for_the_next(
        self, clients: Clients, github: GitHubStandIn, case: str, expected: type[CopilotMetricsError]
    ) -> None:
        client = clients.new(github.url)
        token = f"{TOKEN}-{case}"
        error = failed_user(client, token) if case == "refused" else failed_usage(client, token)
        assert type(error) is expected
        assert token not in str(error)
        assert '"octo-1001"' in client.copilot_usage(TOKEN)

    @pytest.mark.parametrize(
        "case", ["html", "array", "deep", "echo", "huge", "endless", "truncated", "closed", "gzip"]
    )
    def test_a_user_is_never_made_of_nonsense(self, clients: Clients, github: GitHubStandIn, case: str) -> None:
        assert type(failed_user(clients.new(github.url), f"{TOKEN}-{case}-on-user")) is GitHubFailed

    def test_a_redirect_is_not_followed(self, clients: Clients) -> None:
        with (
            GitHubStandIn() as elsewhere,
            GitHubStandIn(elsewhere=elsewhere.url) as github,
        ):
            client = clients.new(github.url)
            assert type(failed_usage(client, f"{TOKEN}-redirect")) is GitHubFailed
            assert type(failed_user(client, f"{TOKEN}-redirect-on-user")) is GitHubFailed
            assert len(github.requests) == 2
        assert elsewhere.requests == []


class TestWaiting:
    @pytest.mark.parametrize("case", ["slow", "slow-headers", "hang"])
    @pytest.mark.parametrize("on_user", [True, False])
    def test_the_whole_exchange_has_a_deadline(
        self, clients: Clients, github: GitHubStandIn, case: str, *, on_user: bool
    ) -> None:
        # Slow answers send a byte every 0.2 seconds for minutes, so no limit on a single read ends them.
        client = clients.new(github.url, Timeouts(connect=20, read=20, total=1))
        error = failed_user(client, f"{TOKEN}-{case}-on-user") if on_user else failed_usage(client, f"{TOKEN}-{case}")
        assert type(error) is GitHubTimeout
        assert len(github.requests) == 1

    def test_silence_has_a_limit_of_its_own(self, clients: Clients, github: GitHubStandIn) -> None:
        client = clients.new(github.url, Timeouts(connect=20, read=0.5, total=300))
        assert type(failed_usage(client, f"{TOKEN}-hang")) is GitHubTimeout

    def test_the_next_exchange_has_a_deadline_of_its_own(self, clients: Clients, github: GitHubStandIn) -> None:
        client = clients.new(github.url, Timeouts(connect=20, read=20, total=1))
        assert type(failed_usage(client, f"{TOKEN}-hang")) is GitHubTimeout
        assert '"octo-1001"' in client.copilot_usage(TOKEN)

    def test_a_handshake_that_never_ends_has_a_deadline(self, clients: Clients) -> None:
        with Babbler(silent=True) as silent:
            client = clients.new(f"https://127.0.0.1:{silent.port}", Timeouts(connect=20, read=20, total=1))
            assert type(failed_usage(client, TOKEN)) is GitHubTimeout


class TestConnections:
    def test_nobody_listening_is_githubs_failure(self, clients: Clients) -> None:
        assert type(failed_usage(clients.new(f"http://127.0.0.1:{free_port()}"), TOKEN)) is GitHubFailed

    def test_a_connection_that_was_closed_since_is_replaced(self, clients: Clients) -> None:
        with GitHubStandIn() as github:
            client = clients.new(github.url)
            client.user(TOKEN)
        with GitHubStandIn(port=github.port):
            assert client.user(TOKEN).id == 1001

    @pytest.mark.parametrize("name", ["HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"])
    def test_proxies_of_the_environment_are_not_used(
        self, clients: Clients, github: GitHubStandIn, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        for other in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(other, raising=False)
        with HTTPProxy() as proxy:
            monkeypatch.setenv(name, proxy.url)
            client = clients.new(github.url)
            assert client.user(TOKEN).id == 1001
            assert client.copilot_usage(TOKEN)
        assert proxy.requests == []


@pytest.fixture(params=[HTTPProxy, SOCKS5Proxy])
def proxy(request: pytest.FixtureRequest) -> Iterator[Proxy]:
    """A proxy that anybody may use."""
    kind: type[Proxy] = request.param
    with kind() as entered:
        yield entered


@pytest.fixture(params=[HTTPProxy, SOCKS5Proxy])
def locked_proxy(request: pytest.FixtureRequest) -> Iterator[Proxy]:
    """A proxy that wants credentials."""
    kind: type[Proxy] = request.param
    with kind(credentials=(USERNAME, PASSWORD)) as entered:
        yield entered


class TestProxies:
    def test_a_proxy_serves_its_one_call(self, clients: Clients, github: GitHubStandIn, proxy: Proxy) -> None:
        client = clients.new(github.url)
        assert client.user(TOKEN).id == 1001
        assert proxy.requests == []
        assert client.user(TOKEN, proxy.url).id == 1001
        assert len(proxy.requests) == 1
        assert client.user(TOKEN).id == 1001
        assert client.copilot_usage(TOKEN)
        assert len(proxy.requests) == 1
        assert len(github.requests) == 4

    def test_it_is_asked_for_github(self, clients: Clients, github: GitHubStandIn) -> None:
        with HTTPProxy() as http, SOCKS5Proxy() as socks:
            for proxy in (http, socks):
                clients.new(github.url).user(TOKEN, proxy.url)
        assert http.requests == [Asked("GET", f"{github.url}/user", None, allowed=True)]
        assert socks.requests == [Asked("SOCKS5", f"127.0.0.1:{github.port}", None, allowed=True)]

    def test_github_does_not_see_what_was_meant_for_the_proxy(
        self, clients: Clients, github: GitHubStandIn, locked_proxy: Proxy
    ) -> None:
        clients.new(github.url).user(TOKEN, locked_proxy.url_with(USERNAME, PASSWORD))
        [seen] = github.requests
        assert seen.headers["authorization"] == f"token {TOKEN}"
        assert set(seen.headers) <= {"host", "accept", "accept-encoding", "connection", "user-agent", "authorization"}

    @pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
    def test_a_socks_proxy_resolves_names(self, clients: Clients, github: GitHubStandIn, scheme: str) -> None:
        with SOCKS5Proxy() as proxy:
            client = clients.new(f"http://localhost:{github.port}")
            assert client.user(TOKEN, f"{scheme}://127.0.0.1:{proxy.port}").id == 1001
        assert [asked.target for asked in proxy.requests] == [f"localhost:{github.port}"]

    def test_credentials_are_given(self, clients: Clients, github: GitHubStandIn, locked_proxy: Proxy) -> None:
        client = clients.new(github.url)
        assert client.user(TOKEN, locked_proxy.url_with(USERNAME, PASSWORD)).id == 1001
        [asked] = locked_proxy.requests
        assert (asked.credentials, asked.allowed) == ((USERNAME, PASSWORD), True)

    def test_quoted_credentials_are_given_as_they_are_meant(self, clients: Clients, github: GitHubStandIn) -> None:
        for kind in (HTTPProxy, SOCKS5Proxy):
            with kind(credentials=("octo@example", "p:/ü")) as proxy:
                url = proxy.url_with("octo%40example", "p%3A%2F%C3%BC")
                assert clients.new(github.url).user(TOKEN, url).id == 1001

    def test_wrong_credentials_are_told_without_repeating_them(
        self, clients: Clients, github: GitHubStandIn, locked_proxy: Proxy
    ) -> None:
        client = clients.new(github.url)
        for proxy in (locked_proxy.url_with("wrong-name", "wrong-password"), locked_proxy.url):
            error = failed_user(client, TOKEN, proxy)
            assert isinstance(error, GitHubFailed)
            assert "wrong-" not in str(error)
            assert TOKEN not in str(error)
        assert [asked.allowed for asked in locked_proxy.requests] == [False, False]
        assert github.requests == []

    @pytest.mark.parametrize("scheme", ["http", "https", "socks5", "socks5h"])
    def test_a_proxy_that_is_not_there_is_the_proxys_failure(
        self, clients: Clients, github: GitHubStandIn, scheme: str
    ) -> None:
        address = f"{scheme}://{USERNAME}:{PASSWORD}@127.0.0.1:{free_port()}"
        error = failed_user(clients.new(github.url), TOKEN, address)
        assert type(error) is ProxyFailed
        assert PASSWORD not in str(error)
        assert github.requests == []

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0"])
    def test_a_proxy_inside_is_refused_without_a_connection(
        self, clients: Clients, github: GitHubStandIn, proxy: Proxy, host: str
    ) -> None:
        url = proxy.url.replace("127.0.0.1", f"{USERNAME}:{PASSWORD}@{host}")
        error = failed_user(clients.new(github.url, rules=ProxyRules()), TOKEN, url)
        assert (type(error), error.status) == (InvalidInput, 422)
        assert "public address" in str(error)
        assert PASSWORD not in str(error)
        assert (proxy.requests, github.requests) == ([], [])

    def test_the_address_that_was_checked_is_connected_to(
        self, clients: Clients, github: GitHubStandIn, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[str] = []
        original = socket.getaddrinfo

        def rebinding(host: str, port: int, *hints: Any, **named_hints: Any) -> Any:
            if host == "proxy.example":
                asked.append(host)
                host = "127.0.0.1" if len(asked) == 1 else "192.0.2.1"
            return original(host, port, *hints, **named_hints)

        monkeypatch.setattr(socket, "getaddrinfo", rebinding)
        assert clients.new(github.url).user(TOKEN, proxy.url.replace("127.0.0.1", "proxy.example")).id == 1001
        assert asked == ["proxy.example"]

    def test_a_github_that_the_proxy_cannot_reach_is_a_failure(self, clients: Clients, proxy: Proxy) -> None:
        error = failed_user(clients.new(f"http://127.0.0.1:{free_port()}"), TOKEN, proxy.url)
        assert isinstance(error, GitHubFailed)

    @pytest.mark.parametrize(
        "host",
        ["a..b", ".", f"{'a' * 64}.example", "1.2.3.999", "[v1.x]"],
    )
    @pytest.mark.parametrize("scheme", ["http", "socks5"])
    def test_an_address_that_cannot_be_one_is_the_proxys_failure(
        self, clients: Clients, github: GitHubStandIn, scheme: str, host: str
    ) -> None:
        assert type(failed_user(clients.new(github.url), TOKEN, f"{scheme}://{host}:9090")) is ProxyFailed

    @pytest.mark.parametrize("scheme", ["http", "socks5"])
    def test_a_proxy_that_says_nothing_is_a_timeout(self, clients: Clients, github: GitHubStandIn, scheme: str) -> None:
        with Babbler(silent=True) as silent:
            client = clients.new(github.url, Timeouts(connect=20, read=20, total=1))
            error = failed_user(client, TOKEN, f"{scheme}://127.0.0.1:{silent.port}")
        assert type(error) is GitHubTimeout

    @pytest.mark.parametrize(
        "replies",
        [
            pytest.param([], id="closed at once"),
            pytest.param([b"HTTP/1.1 400 Bad Request\r\n\r\n"], id="an HTTP proxy"),
            pytest.param([b"\x05"], id="half a greeting"),
            pytest.param([b"\x05\xff"], id="no method in common"),
            pytest.param([b"\x05\x02"], id="credentials that nobody has"),
            pytest.param([b"\x05\x09"], id="an unknown method"),
            pytest.param([b"\x05\x00"], id="closed after the greeting"),
            pytest.param([b"\x05\x00", b"nonsense"], id="nonsense after the greeting"),
            pytest.param([b"\x05\x00", b"\x05\x00"], id="half an answer"),
            pytest.param([b"\x05\x00", b"\x05\x7f\x00\x01" + bytes(6)], id="an unknown refusal"),
            pytest.param([b"\x05\x00", b"\x05\x02\x00\x01" + bytes(6)], id="refused by its rules"),
        ],
    )
    def test_what_does_not_speak_socks_is_the_proxys_failure(
        self, clients: Clients, github: GitHubStandIn, replies: list[bytes]
    ) -> None:
        with Babbler(*replies) as babbler:
            error = failed_user(clients.new(github.url), TOKEN, f"socks5://127.0.0.1:{babbler.port}")
        assert type(error) is ProxyFailed
        assert github.requests == []

    def test_credentials_too_long_for_socks_are_the_proxys_failure(
        self, clients: Clients, github: GitHubStandIn
    ) -> None:
        with SOCKS5Proxy(credentials=(USERNAME, PASSWORD)) as proxy:
            error = failed_user(clients.new(github.url), TOKEN, proxy.url_with(USERNAME, PASSWORD * 20))
        assert type(error) is ProxyFailed
        assert PASSWORD not in str(error)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for loopback that signs itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stand-in")])
    now = datetime.now(UTC)
    public = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(public, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "certificate.pem"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return file


@pytest.fixture
def secure_url(github: GitHubStandIn, certificate: Path) -> Iterator[str]:
    """GitHub's address over TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with TLSFront(github.port, context) as front:
        yield front.url


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let clients made from here on trust the certificate."""
    context = ssl.create_default_context(cafile=certificate)
    monkeypatch.setattr("copilot_metrics.github._tls", lambda: context)


class TestTLS:
    @pytest.mark.usefixtures("trusted")
    def test_an_answer_arrives_over_tls(self, clients: Clients, secure_url: str) -> None:
        client = clients.new(secure_url)
        assert client.user(TOKEN).id == 1001
        assert '"octo-1001"' in client.copilot_usage(TOKEN)

    def test_a_certificate_that_nobody_vouches_for_gets_no_token(
        self, clients: Clients, github: GitHubStandIn, secure_url: str
    ) -> None:
        assert type(failed_user(clients.new(secure_url), TOKEN)) is GitHubFailed
        assert github.requests == []

    @pytest.mark.usefixtures("trusted")
    def test_a_certificate_of_another_name_gets_no_token(
        self, clients: Clients, github: GitHubStandIn, secure_url: str
    ) -> None:
        assert type(failed_user(clients.new(secure_url.replace("127.0.0.1", "localhost")), TOKEN)) is GitHubFailed
        assert github.requests == []

    @pytest.mark.usefixtures("trusted")
    def test_a_slow_answer_over_tls_has_a_deadline(self, clients: Clients, secure_url: str) -> None:
        client = clients.new(secure_url, Timeouts(connect=20, read=20, total=1))
        assert type(failed_usage(client, f"{TOKEN}-slow")) is GitHubTimeout

    @pytest.mark.usefixtures("trusted")
    def test_a_proxy_carries_tls_and_sees_no_token(
        self, clients: Clients, github: GitHubStandIn, secure_url: str, locked_proxy: Proxy
    ) -> None:
        client = clients.new(secure_url)
        assert client.user(TOKEN, locked_proxy.url_with(USERNAME, PASSWORD)).id == 1001
        [asked] = locked_proxy.requests
        assert asked.method in {"CONNECT", "SOCKS5"}
        assert asked.target == secure_url.removeprefix("https://")
        assert asked.allowed
        assert len(locked_proxy.carried) > len(TOKEN)
        assert TOKEN.encode() not in locked_proxy.carried
        assert len(github.requests) == 1

    @pytest.mark.usefixtures("trusted")
    def test_wrong_credentials_for_a_tunnel_are_the_proxys_failure(
        self, clients: Clients, secure_url: str, locked_proxy: Proxy
    ) -> None:
        client = clients.new(secure_url)
        for proxy in (locked_proxy.url_with("wrong-name", "wrong-password"), locked_proxy.url):
            error = failed_user(client, TOKEN, proxy)
            assert type(error) is ProxyFailed
            assert "wrong-" not in str(error)
        assert locked_proxy.carried == b""

    @pytest.mark.usefixtures("trusted")
    def test_a_slow_answer_through_a_tunnel_has_a_deadline(
        self, clients: Clients, secure_url: str, proxy: Proxy
    ) -> None:
        client = clients.new(secure_url, Timeouts(connect=20, read=20, total=1))
        assert type(failed_user(client, f"{TOKEN}-slow-on-user", proxy.url)) is GitHubTimeout

    def test_a_tunnel_to_a_stranger_gets_no_token(
        self, clients: Clients, github: GitHubStandIn, secure_url: str, proxy: Proxy
    ) -> None:
        assert type(failed_user(clients.new(secure_url), TOKEN, proxy.url)) is ProxyFailed
        assert [asked.target for asked in proxy.requests] == [secure_url.removeprefix("https://")]
        assert github.requests == []

    @pytest.mark.usefixtures("trusted")
    def test_a_tunnel_to_nowhere_is_the_proxys_failure(self, clients: Clients, proxy: Proxy) -> None:
        assert type(failed_user(clients.new(f"https://127.0.0.1:{free_port()}"), TOKEN, proxy.url)) is ProxyFailed

    @pytest.mark.parametrize(
        "reply", [b"", b"\x00\x01\x02 hello\r\n\r\n", b"HTTP/1.1 302 Found\r\nlocation: /\r\n\r\n"]
    )
    def test_a_tunnel_that_is_none_is_the_proxys_failure(self, clients: Clients, secure_url: str, reply: bytes) -> None:
        with Babbler(reply) as babbler:
            error = failed_user(clients.new(secure_url), TOKEN, f"http://127.0.0.1:{babbler.port}")
        assert type(error) is ProxyFailed
        assert TOKEN.encode() not in babbler.heard

    def test_a_proxy_with_a_certificate_that_nobody_vouches_for_is_not_used(
        self, clients: Clients, github: GitHubStandIn, certificate: Path
    ) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        with HTTPProxy() as proxy, TLSFront(proxy.port, context) as front:
            error = failed_user(clients.new(github.url), TOKEN, front.url)
        assert type(error) is ProxyFailed
        assert proxy.requests == []
        assert github.requests == []
