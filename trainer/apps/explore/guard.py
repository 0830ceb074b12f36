"""Who may use the page: no other website by way of the user's browser.

A website that the user visits can make the browser post to 127.0.0.1, and can give its own name the address 127.0.0.1
(DNS rebinding). The first has another Origin than the Host that it posts to, the second a Host that is not this
machine's.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Of every answer: the browser itself then refuses to load anything from elsewhere, or to show the page in a frame."""


class Guard:
    """Decides by the headers of a request."""

    def __init__(self, host: str) -> None:
        """host: that the server listens at, as the user typed it."""
        self._names = LOOPBACK | {host.lower()}
        self._is_local = _is_loopback(host)
        if not self._is_local:
            self._names |= {socket.gethostname().lower(), socket.getfqdn().lower()}

    def refusal(self, host: str, origin: str | None) -> str | None:
        """Return why a request is refused, or None. host, origin: its headers.

        The port is free: with `ssh -L` it is another one. Names of other machines are refused; where other machines
        may connect, addresses are not, for DNS rebinding needs a name.
        """
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            name = ""
        if name not in self._names and (self._is_local or not _is_address(name)):
            return f"this page is not served under the name {name!r}; open the address that the program printed"
        if origin is not None and origin != f"http://{host}":
            return "this request comes from another page than the program's own"
        return None

    @property
    def is_local(self) -> bool:
        """Whether this machine alone can connect."""
        return self._is_local


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return host.lower() in LOOPBACK or (_is_address(host) and ipaddress.ip_address(host).is_loopback)
