"""Conditions in SQL in which columns of the user's stand by name."""

from __future__ import annotations

import re
from typing import Callable, Optional, TypeVar

from . import errors

T = TypeVar("T")
_MISSING = re.compile(r"no such column: ([A-Za-z_][A-Za-z0-9_]*)")


def column_condition(error: errors.Error, where: str) -> Optional[str]:
    """Names that SQLite does not know are columns of the user's, which lie in meta."""
    found = _MISSING.search(str(error))
    if not found:
        return None
    name = re.compile(rf"(?<![\w.$'\"]){re.escape(found[1])}(?![\w(])")
    parts = re.split(r"('(?:[^']|'')*'|\"(?:[^\"]|\"\")*\")", where)
    parts[::2] = [name.sub(f"json_extract(meta, '$.\"{found[1]}\"')", part) for part in parts[::2]]
    made = "".join(parts)
    return made if made != where else None


def with_columns(call: Callable[[Optional[str]], T], where: Optional[str]) -> T:
    """Call with a condition in which columns of the user's may stand by name."""
    for _ in range(64):
        try:
            return call(where)
        except errors.InvalidArgument as error:
            longer = column_condition(error, where) if where is not None else None
            if longer is None:
                raise
            where = longer
    raise errors.InvalidArgument("too many columns in a condition")
