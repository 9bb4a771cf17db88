"""Whose turn it is among those who wait for one thing: accounts in turn. Pure.

An account that has had its turn goes behind the others; of one account the first to come is first.
"""

from __future__ import annotations

from collections import OrderedDict


class Turns:
    """Those who wait, each once and by name; the caller bounds how many there are."""

    def __init__(self) -> None:
        #: account -> its waiters in the order of their coming; the account whose turn it is first.
        self._accounts: OrderedDict[str, OrderedDict[str, None]] = OrderedDict()

    def __len__(self) -> int:
        """How many wait."""
        return sum(len(each) for each in self._accounts.values())

    def join(self, account: str, name: str) -> None:
        """``name`` of ``account`` begins to wait, or waits on."""
        self._accounts.setdefault(account, OrderedDict()).setdefault(name)

    def is_first(self, account: str, name: str) -> bool:
        """Return whether it is the turn of ``name``."""
        first = next(iter(self._accounts), None)
        return first == account and next(iter(self._accounts[account])) == name

    def leave(self, account: str, name: str, *, served: bool) -> None:
        """``name`` waits no longer; ``served``: it has had its turn, and with it its account."""
        names = self._accounts.get(account)
        if names is None or name not in names:
            return
        del names[name]
        if not names:
            del self._accounts[account]
        elif served:
            self._accounts.move_to_end(account)
