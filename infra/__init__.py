"""What the template can't say: the local run, and tools around the deployed stack."""
