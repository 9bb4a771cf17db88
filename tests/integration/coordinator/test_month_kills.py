"""The coordinator is killed before each statement of a month's close, and loses or doubles nothing.

The close, late usage, expiry, invoices, charges and states are all in it, in both databases.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import warnings
from pathlib import Path

import pytest

import coordinator.store.sqlite.database as store_database
import coordinator.usage.database as usage_database
from coordinator.billing import account_credits, books, invoices
from coordinator.billing.account_credits import NewCredit
from coordinator.core.grants import CreditKind
from coordinator.core.months import DAY_MS
from tests.support.billed_year import Cards, Coordinator
from tests.support.billing import CENT, FEBRUARY, MARCH, count, usage

pytestmark = pytest.mark.integration

HOUR_MS = 3_600_000
#: When January, February and March are closed and charged.
LOOKS = (FEBRUARY + 5 * DAY_MS, MARCH + 5 * DAY_MS, MARCH + 40 * DAY_MS)
#: Above this the test would take too long.
MAX_STEPS = 900
