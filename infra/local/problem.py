"""What keeps the local run from starting."""


class Problem(Exception):
    """One sentence for the person who started it: what is wrong and what to do."""
