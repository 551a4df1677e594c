"""Shows the report of a campaign live, to a browser on the same machine: `alpot serve`.

Other users and other web pages may reach the port, too. So each address holds a random token, which only the terminal
says; whoever does not know it learns nothing. A web page that had its own name lead to this machine (DNS rebinding)
is told from the user by the name in the request. Nothing that is asked for becomes the name of a file: what is served
is made in memory, and the campaign is only read.
"""

from __future__ import annotations

import gzip
import hmac
import secrets
import socket
import sys
import time
from hashlib import sha256
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import PurePosixPath
from socketserver import ThreadingTCPServer
from threading import Lock
from typing import Any, cast

from alpot.errors import AlpotError, UsageError
from alpot.report.page import report_files
from alpot.store.directory import CampaignDirectory
from alpot.store.ledger import Ledger

_HOST = "127.0.0.1"
_OWN_NAMES = frozenset({_HOST, "localhost"})
#: s before it is looked again whether the campaign has gone on: reading 100,000 events takes a second.
_LOOK_S = 5.0
#: s after which a browser asks again, while the campaign runs and while nobody runs it: then whoever reads the page is
#: left in peace. A header does it, for the page itself must not connect to anything.
_RELOAD_S, _IDLE_RELOAD_S = 15, 300
#: s that a connection may be silent, so that none is held for ever.
_PATIENCE_S = 30.0
#: Fewer bytes go out as they are. The level packs a page to a third in 0.2 s; higher ones take longer and gain little.
_WORTH_PACKING, _GZIP_LEVEL = 1400, 6
_INDEX = "index.html"
_TYPES = {".html": "text/html", ".csv": "text/csv"}
_HEADERS = {
    "Cache-Control": "private, no-cache",  # a browser asks each time, and says which page it has
    "Vary": "Accept-Encoding",
    "Connection": "close",  # one that waits for the next request would keep a thread
    "Referrer-Policy": "no-referrer",  # links lead out of the page, and its address holds the token
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class LiveReport:
    """The files of a report, made again once the campaign has gone on.

    Attributes:
        is_running: whether somebody ran the campaign when it was looked.
    """

    def __init__(self, directory: CampaignDirectory) -> None:
        self.directory = directory
        self.is_running = False
        self._lock = Lock()
        self._looked = -_LOOK_S
        self._shown: object = None
        self._files: dict[str, str] = {}

    def files(self) -> dict[str, str]:
        """Content by name; see ``alpot.report.page.report_files``.

        Raises:
            AlpotError: the campaign cannot be read.
        """
        with self._lock:  # two browsers, one report
            if time.monotonic() >= self._looked + _LOOK_S:
                state = self._state()
                if state != self._shown:
                    self._files, self._shown = report_files(self.directory), state
                self._looked = time.monotonic()
            return self._files

    def _state(self) -> object:
        """Differs once the report does; by the minute while the campaign runs, for its clock and what has stalled."""
        holder = self.directory.holder()
        self.is_running = holder is not None
        running = holder and (holder.host, holder.pid, holder.since, time.monotonic() // 60)
        with Ledger(self.directory.ledger, read_only=True) as ledger:
            return ledger.last_event, running


class ReportServer(ThreadingTCPServer):
    """Serves one report on the loopback interface; a context manager, see ``serve_forever``.

    Args:
        directory: the campaign.
        port: where it listens; 0 for any that is free.

    Attributes:
        report: what is served.
        token: part of every address.

    Raises:
        UsageError: it cannot listen there.
    """

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, directory: CampaignDirectory, port: int = 0) -> None:
        self.report = LiveReport(directory)
        self.token = secrets.token_urlsafe(32)
        try:
            super().__init__((_HOST, port), _Handler)
        except OSError as error:
            raise UsageError(
                f"cannot listen on port {port} of {_HOST}: {error.strerror}; choose another one with --port, or none"
            ) from error

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        """The address of the page, which is to be kept secret."""
        return f"http://{_HOST}:{self.port}/{self.token}/"

    @property
    def tunnel(self) -> str:
        """What a user types on another machine to see the page there, at the same address."""
        return f"ssh -N -L {self.port}:{_HOST}:{self.port} {socket.gethostname()}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away in the middle of an answer is no error."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """One request; methods without a ``do_`` are refused by the base class."""

    timeout = _PATIENCE_S
    protocol_version = "HTTP/1.1"  # browsers take no notice of tags before that
    server_version, sys_version = "alpot", ""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        server = cast(ReportServer, self.server)
        token, slash, name = self.path.partition("?")[0].removeprefix("/").partition("/")
        if not self._is_for_us():
            self._send(HTTPStatus.FORBIDDEN, f"This is {_HOST}, under no other name.")
        elif not hmac.compare_digest(token.encode(), server.token.encode()):
            self._send(HTTPStatus.FORBIDDEN, "Open the address that `alpot serve` has printed.")
        elif not slash:  # links of the page would lead out of the token
            self._send(HTTPStatus.PERMANENT_REDIRECT, f"The page is at {server.url}.", location=f"/{token}/")
        else:
            self._send_file(name or _INDEX, server.report)

    def _is_for_us(self) -> bool:
        """Whether the browser believes that it talks to its own machine."""
        hosts = self.headers.get_all("Host", [])
        return len(hosts) == 1 and hosts[0].partition(":")[0].lower() in _OWN_NAMES

    def _send_file(self, name: str, report: LiveReport) -> None:
        try:
            content = report.files().get(name)
        except AlpotError as error:
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, f"The report cannot be made: {error}")
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, a browser gets an answer
            sentence = f"The report cannot be made, by a mistake in alpot: {type(error).__name__}: {error}"
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, sentence)
            return
        if content is None:
            self._send(HTTPStatus.NOT_FOUND, "The report has no such file.")
        else:
            self._send(HTTPStatus.OK, content, _TYPES.get(PurePosixPath(name).suffix, "text/plain"))

    def _send(self, status: HTTPStatus, text: str, content_type: str = "text/plain", location: str = "") -> None:
        content = text.encode()
        tag = f'W/"{sha256(content).hexdigest()}"'
        if status == HTTPStatus.OK and self.headers.get("If-None-Match") == tag:
            status, content = HTTPStatus.NOT_MODIFIED, b""
        is_packed = len(content) >= _WORTH_PACKING and self._takes_gzip()
        if is_packed:
            content = gzip.compress(content, compresslevel=_GZIP_LEVEL, mtime=0)
        self.send_response(status)
        if is_packed:
            self.send_header("Content-Encoding", "gzip")
        if status in (HTTPStatus.OK, HTTPStatus.NOT_MODIFIED):
            self.send_header("ETag", tag)
        self.send_header("Content-Type", f"{content_type}; charset=utf-8")
        if status != HTTPStatus.NOT_MODIFIED:  # there it would be taken for the length of what the browser has
            self.send_header("Content-Length", str(len(content)))
        if location:
            self.send_header("Location", location)
        if content_type == "text/html" or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            is_running = cast(ReportServer, self.server).report.is_running
            self.send_header("Refresh", str(_RELOAD_S if is_running else _IDLE_RELOAD_S))
        self.end_headers()
        if self.command != "HEAD" and content:
            self.wfile.write(content)

    def _takes_gzip(self) -> bool:
        """Whether the browser says so, in the one way that all of them do."""
        return "gzip" in [name.strip() for name in self.headers.get("Accept-Encoding", "").split(",")]

    def end_headers(self) -> None:
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """The terminal shows the address, and nothing that others have asked for."""
