"""Progress of long calls: tqdm's bars, if tqdm is installed."""

from __future__ import annotations

import sys
from typing import Any, Callable, Optional, Union

#: Called with (what, done, total); total is 0 where it is not known. An exception in it ends the work.
Hook = Callable[[str, int, int], object]
#: True: a bar; False: none; None: a bar on a terminal where tqdm is installed; or a callable.
Progress = Union[None, bool, Hook]


class Bars:
    """A tqdm bar for each kind of work that is reported. Use as a context manager."""

    def __init__(self, tqdm: Any) -> None:
        self._tqdm, self._bar, self._what = tqdm, None, ""

    def __call__(self, what: str, done: int, total: int) -> None:
        if self._bar is None or what != self._what:
            self.close()
            self._what = what
            self._bar = self._tqdm(total=total or None, desc=what)
        bar: Any = self._bar
        if total and bar.total != total:
            bar.total = total
        bar.update(done - bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class Shown:
    """``with Shown(progress) as hook``: hook is the callable to pass to the library, or None."""

    def __init__(self, progress: Progress) -> None:
        self._bars: Optional[Bars] = None
        self.hook: Optional[Hook] = None
        if callable(progress):
            self.hook = progress
        elif progress or (progress is None and sys.stderr is not None and sys.stderr.isatty()):
            try:
                from tqdm.auto import tqdm
            except ImportError:
                return
            self.hook = self._bars = Bars(tqdm)

    def __enter__(self) -> Optional[Hook]:
        return self.hook

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.close()
