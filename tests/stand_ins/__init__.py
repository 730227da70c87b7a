"""Stand-ins for what the service talks to, on loopback."""
