"""Read files and byte ranges of files from a URL, through fsspec, with retries and one clear error.

Every request opens its own connection or takes one of the file system's pool, so that many may be in flight at once,
from threads. A file system belongs to one process: a fork opens its own.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from random import SystemRandom
from typing import Any

from common.errors import Fault, UserError, first_line
from common.paths import Location, Url

log = logging.getLogger(__name__)
WAITS = (0.1, 0.5, 2.0, 8.0, 30.0)  # seconds before each new try, on average: a store may be away for a while
_CONNECT, _SILENCE = 10, 60  # seconds: to connect, and without a byte, over HTTP
_REFUSED = (401, 403)
_TRY_AGAIN = (408, 425, 429)  # of the HTTP statuses below 500
_NO_CREDENTIALS = (  # names of what the clients of S3, GCS and Azure raise; the clients need not be installed
    *("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound"),
    *("DefaultCredentialsError", "RefreshError", "ClientAuthenticationError"),
)
_have_answered: set[str] = set()  # hosts, in this process and in those that it was forked from
_random = SystemRandom()  # it decides nothing but how long to wait


class RangesIgnored(UserError):
    """A server that answers a request for a few bytes with another number of them."""


def read(location: Location) -> bytes:
    """Return the contents of a file on a disk or at a URL.

    Raises FileNotFoundError where it is not there. Of a URL raises UserError where it does not answer, or refuses, and
    Fault where it has answered before and does not any more.
    """
    if isinstance(location, Path):
        return location.read_bytes()
    return _ask(location, lambda system, path: system.cat_file(path))


def read_range(url: Url, offset: int, length: int) -> bytes:
    """Return `length` bytes from `offset` on of the file at a URL, fewer where it ends before.

    Raises as `read` does, and RangesIgnored where the server sends more than it was asked for.
    """
    data = _ask(url, lambda system, path: system.cat_file(path, start=offset, end=offset + length))
    if len(data) > length:
        raise RangesIgnored(
            f"{url}: the server ignores byte ranges: it sent {len(data):,} bytes, {length:,} were asked for; use a "
            "server that supports ranges (nginx, Caddy, an object store), or copy the set to a disk"
        )
    return data


def refuse_without_ranges(url: Url) -> None:
    """Read two bytes of a small file. Raises RangesIgnored where the server sends all of it."""
    read_range(url, 1, 2)


def _ask(url: Url, request: Callable[[Any, str], bytes]) -> bytes:
    """Make a request, again after a while where it fails in a way that may pass."""
    for wait in (*WAITS, None):
        try:
            system = _file_system(os.getpid(), url.partition("://")[0], _host(url))
            data = request(system, system._strip_protocol(url))
            _have_answered.add(_host(url))
            return data
        except FileNotFoundError:
            raise FileNotFoundError(errno.ENOENT, "not found", str(url)) from None
        except Exception as error:  # every store's client has errors of its own
            problem = _lasting_problem(url, error)
            if problem is None and wait is None:
                raise _no_answer(url, error) from None
            if problem is not None:
                raise UserError(problem) from None
            log.debug("%s: %s; trying again", url, _said(error))
        time.sleep((wait or 0) * (0.5 + _random.random()))
    raise AssertionError("the last try returns or raises")


def _no_answer(url: Url, error: Exception) -> UserError | Fault:
    """Say that all tries failed. A store that has answered this process may come back: a job then starts again."""
    tries, said = len(WAITS) + 1, _said(error)
    if _host(url) in _have_answered:
        return Fault(
            f"{url}: does not answer any more, after {tries} tries ({said}); run the same command again when it does"
        )
    return UserError(f"{url}: does not answer, after {tries} tries ({said}); check the URL and the network")


def _host(url: Url) -> str:
    return url.partition("://")[2].partition("/")[0]


@functools.lru_cache(maxsize=64)
def _file_system(process: int, scheme: str, host: str) -> Any:
    """Open the file system of a URL's scheme, once in a process for each host.

    Options of a store come from the environment, as fsspec reads it: FSSPEC_S3_ANON=true. process: its PID, as a
    connection does not survive a fork.
    """
    import fsspec

    options: dict[str, Any] = {}
    if scheme in ("http", "https"):
        from aiohttp import ClientTimeout

        timeout = ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=_SILENCE)
        options = {"client_kwargs": {"timeout": timeout, "trust_env": True}}  # proxies and ~/.netrc
    return fsspec.filesystem(scheme, **options)


def _lasting_problem(url: Url, error: Exception) -> str | None:
    """Say what is wrong where another try would not help; None where it may."""
    status = getattr(error, "status", None)
    if isinstance(error, ImportError):
        return f"{url}: {first_line(error)}; install what reads it: pip install 'idgan[remote]'"
    if isinstance(error, ValueError) and "rotocol not known" in str(error):
        return f"{url}: nothing here reads {url.partition('://')[0]}:// ({first_line(error)}); correct the URL"
    if isinstance(error, PermissionError) or status in _REFUSED or type(error).__name__ in _NO_CREDENTIALS:
        return (
            f"{url}: access is refused ({_said(error)}); give every node the credentials that the store's own tools "
            "take (environment or home folder), or for a public bucket FSSPEC_S3_ANON=true, FSSPEC_GS_TOKEN=anon"
        )
    if isinstance(status, int) and 400 <= status < 500 and status not in _TRY_AGAIN:
        return f"{url}: the server refuses the request ({_said(error)}); check the URL"
    return None


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}" if str(error) else type(error).__name__
