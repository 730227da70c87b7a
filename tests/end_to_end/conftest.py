"""What the tests on real parts share: one stand-in for GitHub, and one local run on DynamoDB Local."""

from collections.abc import Iterator

import pytest

from tests.end_to_end.running import LocalRun
from tests.stand_ins.github import GitHubStandIn


@pytest.fixture(scope="session")
def github() -> Iterator[GitHubStandIn]:
    with GitHubStandIn() as stand_in:
        yield stand_in


@pytest.fixture(scope="session")
def service(github: GitHubStandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRun]:
    """A local run that all tests use, each with GitHub users of its own."""
    with LocalRun(tmp_path_factory.mktemp("service") / "data", github.url) as running:
        yield running
