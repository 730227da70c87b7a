"""The local run: the functions of template.yaml behind a small HTTP server, on a durable embedded database."""
