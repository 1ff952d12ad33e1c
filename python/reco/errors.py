"""Exceptions. Every exception of the library is an :class:`Error` and carries the message of the C
library, which names the file or object, the value found and what was wanted."""

from __future__ import annotations


class Error(Exception):
    """Base of all errors of reco."""


class InvalidArgument(Error, ValueError):
    """An argument is out of its documented range."""


class OutOfMemory(Error, MemoryError):
    """Out of memory, or above a documented limit on it."""


class IOFailed(Error, OSError):
    """The operating system failed: a missing file, a full disk."""


class BadFormat(Error, ValueError):
    """A file is not what it claims to be."""


class Mismatch(Error, ValueError):
    """Two things do not belong together: a bank and another encoder's model, vectors of another width."""


class Unsupported(Error, NotImplementedError):
    """Valid, but not something that reco can do."""


class NotFound(Error, LookupError):
    """No such row, bank or key."""


class Exists(Error, FileExistsError):
    """It would overwrite something."""


class Busy(Error):
    """Another writer holds the bank."""


class Cancelled(Error):
    """The progress callback asked to stop."""


class Internal(Error):
    """A bug in reco or in a library below it."""


#: By the value of reco_status; RECO_OK, the first, is never raised.
BY_STATUS: tuple[type[Error], ...] = (
    Error, InvalidArgument, OutOfMemory, IOFailed, BadFormat, Mismatch, Unsupported, NotFound, Exists, Busy, Cancelled, Internal,
)
