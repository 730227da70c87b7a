"""Against the floor: how much longer a function takes to start than a boto3 client, and what a warm one adds itself."""

import platform
import statistics
import subprocess
import time
from collections.abc import Iterator

import httpx

from infra.stack import ROOT
from tests.benchmarks.functions import Function, every_function
from tests.benchmarks.report import Ratio, Report
from tests.benchmarks.rig import BUILT, PROBE, PYTHON, Probe, Rig, rig
from tests.end_to_end.running import free_port

EMULATORS = "lib/python3*/site-packages/samcli/local/rapid/aws-lambda-rie-{}"
"""In SAM CLI's environment, by the machine's architecture."""
FLOOR = 'import boto3\nclient = boto3.client("dynamodb")\ndef handler(event, context):\n    return {}\n'
STARTS = 15


def measure(report: Report) -> None:
    """Measure all of it."""
    report.say("## Against the floor", "")
    report.say(
        "*Floor*: a function that imports boto3, makes a DynamoDB client and answers nothing. Each start is a fresh "
        "process of Lambda's Python with the built layer, until its first request (with its calls of DynamoDB, the "
        "queue or GitHub, which answers at once) is answered: under SAM's runtime emulator, and without it. *Loaded* "
        "is the part before the handler is called. A warm call's time is *own*, the *clients'* (botocore's, httpx's "
        "work), Argon2's, and waiting for DynamoDB and GitHub. Beyond a fetch, an import loads pydantic, which checks "
        "what strangers send: without it, it would start as soon."
    )
    with rig() as running:
        functions = list(every_function(running))
        head = ("function", "emulator, ms", "times the floor", "fresh process, ms", "times the floor", "loaded, ms")
        report.table((*head, "warm, ms", "own, ms", "clients', ms", "Argon2, ms"), _rows(report, running, functions))


def _rows(report: Report, running: Rig, functions: list[Function]) -> Iterator[tuple[str, ...]]:
    floor_code = BUILT / "Floor"
    floor_code.mkdir(exist_ok=True)
    (floor_code / "handler.py").write_text(FLOOR)
    plain = {name: value for name, value in running.environment.items() if name != "PYTHONPATH"}
    floor = Function("Floor", lambda _: {})
    floor_emulated = statistics.median(_emulated(floor, plain) for _ in range(STARTS))
    floor_fresh = statistics.median(_fresh(floor, plain)[0] for _ in range(STARTS))
    yield "floor", f"{floor_emulated:.0f}", "1", f"{floor_fresh:.0f}", "1", *[""] * 5
    for function in functions:
        emulated = statistics.median(_emulated(function, running.environment) for _ in range(STARTS))
        fresh, loaded = (
            statistics.median(some)
            for some in zip(*(_fresh(function, running.environment) for _ in range(STARTS)), strict=True)
        )
        passed, own, clients, derived = _warm(running, function)
        times = emulated / floor_emulated
        if function.most is not None:
            report.ratios.append(Ratio(f"cold start, {function.name}", "floor", times, at_most=function.most))
            report.ratios.append(Ratio(f"own time, {function.name}", "2 ms", own / 2, at_most=1))
        yield (
            *(function.name, f"{emulated:.0f}", f"{times:.2f}", f"{fresh:.0f}", f"{fresh / floor_fresh:.2f}"),
            *(f"{loaded:.0f}", f"{passed:.1f}", f"{own:.1f}", f"{clients:.1f}"),
            f"{derived:.1f}" if derived else "",
        )


def _fresh(function: Function, environment: dict[str, str]) -> tuple[float, float]:
    """Return the milliseconds from a process's start to its first answer, and to when the function was loaded."""
    with Probe([str(PYTHON), str(PROBE), str(BUILT / function.name / "handler.py")], environment) as probe:
        answered = probe.call(function.next_event(), measured=False)["answered"]
        return (answered - probe.started) * 1000, (probe.loaded - probe.started) * 1000


def _emulated(function: Function, environment: dict[str, str]) -> float:
    """Return the milliseconds from the first request for a function to its answer, its start between them."""
    port = free_port()
    code = BUILT / function.name
    architecture = "arm64" if platform.machine() in {"arm64", "aarch64"} else "x86_64"
    (emulator,) = (ROOT / ".tools" / "sam").glob(EMULATORS.format(architecture))
    process = subprocess.Popen(
        [
            *(str(emulator), "--runtime-interface-emulator-address", f"127.0.0.1:{port}"),
            *("--runtime-api-address", f"127.0.0.1:{free_port()}"),
            *(str(PYTHON), "-m", "awslambdaric", "handler.handler"),
        ],
        cwd=code,
        env={**environment, "LAMBDA_TASK_ROOT": str(code), "AWS_LAMBDA_FUNCTION_NAME": function.name},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}/2015-03-31/functions/function/invocations"
    try:
        with httpx.Client(trust_env=False, timeout=30) as client:
            while True:
                try:
                    client.get(f"http://127.0.0.1:{port}/")
                    break
                except httpx.TransportError:
                    time.sleep(0.01)
            event = function.next_event()
            started = time.perf_counter()
            answer = client.post(url, json=event).json()
            passed = time.perf_counter() - started
        assert answer.get("statusCode", 200) in {200, 202, 204}, answer
        assert "errorMessage" not in answer, answer
        return passed * 1000
    finally:
        process.terminate()
        process.wait()


def _warm(running: Rig, function: Function) -> tuple[float, float, float, float]:
    """Return the milliseconds of a call, its own, the clients', and Argon2's."""
    with running.probe(function.name) as probe:
        probe.call(*(function.next_event() for _ in range(3)))
        calls = probe.call(*(function.next_event() for _ in range(function.often)))["calls"]
    return (
        statistics.median(call["ms"] for call in calls),
        statistics.median(call["ms"] - call["called"] - call["derived"] for call in calls),
        statistics.median(call["called"] - call["waited"] for call in calls),
        statistics.median(call["derived"] for call in calls),
    )
