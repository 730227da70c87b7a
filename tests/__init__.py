"""The tests: they mirror functions/, shared/ and infra/; end_to_end/ runs on real parts."""
