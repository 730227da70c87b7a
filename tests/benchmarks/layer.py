"""The layer: how large it is, and what is in it that no function loads."""

import zipfile
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from tests.benchmarks.functions import every_function
from tests.benchmarks.report import Report
from tests.benchmarks.rig import LAYER, rig

MEBIBYTE = 1 << 20
WORTH_A_ROW = 0.2
"""Megabytes."""


def measure(report: Report) -> None:
    """Measure it."""
    files = [file for file in LAYER.rglob("*") if file.is_file()]
    bytecode = sum(file.stat().st_size for file in files if file.suffix == ".pyc")
    unpacked = sum(file.stat().st_size for file in files)
    loaded: dict[str, set[str]] = {}
    with rig() as running:
        for function in every_function(running):
            with running.probe(function.name) as probe:
                loaded[function.name] = set(probe.call(function.next_event(), files=True)["files"])
    report.say(
        "## The layer",
        "",
        f"{unpacked / MEBIBYTE:.1f} MB unpacked (of these {bytecode / MEBIBYTE:.1f} MB bytecode), "
        f"{_packed(files) / MEBIBYTE:.1f} MB packed. *Loaded* is what functions have loaded once they have answered a "
        "usual call; the rest is for other calls, or for nothing.",
    )
    head = ("package", "MB", "loaded, MB", "by how many functions")
    report.table(head, _packages(files, loaded))


def _packed(files: list[Path]) -> int:
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, file.relative_to(LAYER))
    return packed.tell()


def _packages(files: list[Path], loaded: dict[str, set[str]]) -> Iterator[tuple[str, ...]]:
    sizes, used = Counter[str](), Counter[str]()
    users: dict[str, set[str]] = {}
    for file in files:
        package = file.relative_to(LAYER).parts[0]
        # Bytecode goes with its source.
        source = file.parent.parent / f"{file.name.partition('.')[0]}.py" if file.suffix == ".pyc" else file
        sizes[package] += file.stat().st_size
        by = {name for name, some in loaded.items() if str(source) in some}
        users.setdefault(package, set()).update(by)
        if by:
            used[package] += file.stat().st_size
    for package, size in sizes.most_common():
        if size / MEBIBYTE > WORTH_A_ROW:
            yield package, f"{size / MEBIBYTE:.1f}", f"{used[package] / MEBIBYTE:.1f}", str(len(users[package]))
