"""End a run on SIGTERM or Ctrl-C between two iterations, after its state is saved."""

import signal
import threading
from types import FrameType
from typing import Any


class StopSignals:
    """Record a request to stop; a second Ctrl-C ends the run at once.

    Use as a context manager around training. Outside the main thread, where Python has no signals, it does nothing.
    """

    _WATCHED = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.received: int = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in self._WATCHED}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number
