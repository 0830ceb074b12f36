"""Only the newest request of a page counts: older ones that wait or run are given up."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

MOST_PAGES = 1000  # whose newest request is remembered

Check = Callable[[], None]
"""Raises Overtaken where what it belongs to is no longer wanted."""


class Overtaken(Exception):
    """A newer request has taken the place of this one."""


class Latest:
    """The number of the newest request by page. Pages count their requests upwards. is_closed: none counts any more."""

    def __init__(self) -> None:
        self._newest: OrderedDict[str, int] = OrderedDict()
        self.is_closed = False

    def register(self, page: str, number: int) -> Check:
        """Note a request. Returns what raises Overtaken once a later one is noted, or all of them are given up."""
        self._newest[page] = max(number, self._newest.get(page, number))
        self._newest.move_to_end(page)
        if len(self._newest) > MOST_PAGES:
            self._newest.popitem(last=False)

        def check() -> None:
            """Raise Overtaken where the request is not wanted any more."""
            if self.is_closed or self._newest.get(page, number) > number:
                raise Overtaken

        return check

    def close(self) -> None:
        """Give all requests up."""
        self.is_closed = True
