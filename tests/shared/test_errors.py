"""Every error has its place in the tree, a status and a code."""

import re
from collections.abc import Iterator

from copilot_metrics import errors


def concrete(base: type[errors.CopilotMetricsError]) -> Iterator[type[errors.CopilotMetricsError]]:
    for kind in base.__subclasses__():
        if "code" in vars(kind):
            yield kind
        yield from concrete(kind)


def test_the_tree_in_the_documentation_is_the_tree() -> None:
    drawn = set(re.findall(r"─ (\w+) +(\d{3})  (\w+)", errors.__doc__ or ""))
    actual = {(kind.__name__, str(int(kind.status)), kind.code) for kind in concrete(errors.CopilotMetricsError)}
    assert drawn == actual


def test_programs_can_tell_errors_apart_by_their_codes() -> None:
    codes = [kind.code for kind in concrete(errors.CopilotMetricsError)]
    assert len(set(codes)) == len(codes) > 10


def test_no_known_failure_is_a_bare_internal_error() -> None:
    assert all(400 <= kind.status < 600 and kind.status != 500 for kind in concrete(errors.CopilotMetricsError))
