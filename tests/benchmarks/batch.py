"""The batch: fetching all accounts, against the ideal and against one at a time; and the dispatcher's growth."""

import argparse
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import batched  # type: ignore[attr-defined]
