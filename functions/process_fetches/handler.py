"""The queue: fetch the metrics of each message's account."""

from copilot_metrics.batch import process_batch

handler = process_batch
