"""The HTTP API's authorizer: who may call which route."""

from copilot_metrics.authorization import authorize

handler = authorize
