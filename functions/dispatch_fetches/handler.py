"""The schedule: queue the fetch of every account."""

from copilot_metrics.schedule import dispatch_scheduled

handler = dispatch_scheduled
