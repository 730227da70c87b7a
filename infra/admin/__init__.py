"""Commands for whoever runs the service: its API keys, and its secret. For a local run, or for a deployed stack."""
