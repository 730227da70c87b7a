"""What CloudWatch counts: metrics written to the log (AWS: CloudWatch embedded metric format)."""

from collections.abc import Iterable

from aws_lambda_powertools import Metrics
from aws_lambda_powertools.metrics import MetricUnit

NAMESPACE = "CopilotMetrics"


def measure(counts: dict[str, int], seconds_to_stored: Iterable[float] = ()) -> None:
    """Write one batch's counts, and for each stored snapshot the seconds since it was due."""
    metrics = Metrics(namespace=NAMESPACE, service="copilot_metrics")
    for name, count in counts.items():
        metrics.add_metric(name=name, unit=MetricUnit.Count, value=count)
    for seconds in seconds_to_stored:
        metrics.add_metric(name="SecondsToStored", unit=MetricUnit.Seconds, value=seconds)
    if metrics.provider.metric_set:  # empty where POWERTOOLS_METRICS_DISABLED is set
        metrics.flush_metrics()
