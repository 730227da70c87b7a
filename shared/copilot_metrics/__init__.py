"""Copilot plans and quotas of several GitHub accounts: the code that the functions share.

The modules and who may import whom are drawn in ``docs/architecture.md``.
"""

__version__ = "0.1.0"
