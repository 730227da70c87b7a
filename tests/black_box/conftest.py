"""The service that the black-box tests are for."""

import os
from collections.abc import Iterator

import httpx
import pytest

from tests.black_box import targets
from tests.black_box.targets import Target


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    start = {"local": targets.local, "sam": targets.sam, "deployed": targets.deployed}
    with start[os.environ.get("TARGET", "local")](tmp_path_factory.mktemp("target")) as running:
        yield running
        for client in running.clients:
            client.close()


@pytest.fixture(scope="session")
def client(target: Target) -> httpx.Client:
    """A client that may do everything."""
    return target.client(target.write_key)


@pytest.fixture(autouse=True)
def _applicable(request: pytest.FixtureRequest, target: Target) -> None:
    """Skip what a target can't show, with the reason that the test gives."""
    for marker in request.node.iter_markers("not_on"):
        if target.name in marker.args:
            pytest.skip(marker.kwargs["reason"])
    if request.node.get_closest_marker("invented_github") and target.github is None:
        pytest.skip("it needs a GitHub that answers as a token says")
