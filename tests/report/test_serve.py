"""The live report over real sockets: who gets what, and that nothing else is told or touched."""

import gzip
import http.client
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from alpot.errors import UsageError
from alpot.report import serve
from alpot.report.page import report_files
from alpot.report.serve import ReportServer
from alpot.store.directory import CampaignDirectory

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.command_line import Run

SAFE = {
    "Cache-Control": "private, no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    text: str


@pytest.fixture
def directory(create) -> CampaignDirectory:
    """A campaign in which nothing has happened yet: its report is made in no time."""
    return create()


@pytest.fixture
def server(directory) -> Iterator[ReportServer]:
    with ReportServer(directory) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def ask(server) -> Callable[..., Answer]:
    def ask(
        path: str = "", method: str = "GET", host: str | None = None, *, token: str | None = None, **headers: str
    ) -> Answer:
        """Asks for a path below the token; it goes out as it stands, with nothing tidied up."""
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        prefix = f"/{server.token if token is None else token}/"
        connection.putrequest(method, prefix + path, skip_host=host is not None, skip_accept_encoding=True)
        if host:
            connection.putheader("Host", host)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        response = connection.getresponse()
        content = response.read()
        if response.headers["Content-Encoding"] == "gzip":
            content = gzip.decompress(content)
        answer = Answer(response.status, response.headers, content.decode())
        connection.close()
        return answer

    return ask


def raw(server: ReportServer, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def contents(directory: CampaignDirectory) -> dict[Path, tuple[int, bytes]]:
    """Every file with its time of change."""
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in directory.path.rglob("*") if path.is_file()}


def without_time(page: str) -> str:
    """The page without its last line, which says when it was written."""
    return page.partition("<footer")[0]


def test_the_page_and_its_tables_are_those_of_the_report(ask, directory):
    files = report_files(directory)
    assert "index.html" in files
    for name, content in files.items():
        answer = ask(name)
        assert answer.status == 200
        assert without_time(answer.text) == without_time(content)
    page = ask("")
    assert without_time(page.text) == without_time(files["index.html"])
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert {name: page.headers[name] for name in SAFE} == SAFE


def test_a_head_is_an_answer_without_its_body(ask):
    head, page = ask(method="HEAD"), ask()
    assert (head.status, head.text) == (200, "")
    assert int(head.headers["Content-Length"]) == len(page.text.encode())


def test_a_page_is_packed_for_those_who_can_unpack_it(ask):
    plain, packed = ask(), ask(Accept_Encoding="deflate, gzip, br")
    assert plain.headers["Content-Encoding"] is None and packed.headers["Content-Encoding"] == "gzip"
    assert plain.text == packed.text and plain.headers["ETag"] == packed.headers["ETag"]
    assert 2 * int(packed.headers["Content-Length"]) < int(plain.headers["Content-Length"])
    assert ask(Accept_Encoding="gzip;q=0").headers["Content-Encoding"] is None
    assert ask("nothing", Accept_Encoding="gzip").headers["Content-Encoding"] is None  # a sentence is short


def test_a_page_that_a_browser_has_is_not_sent_again(ask):
    tag = ask().headers["ETag"]
    same = ask(If_None_Match=tag)
    assert (same.status, same.text, same.headers["ETag"]) == (304, "", tag)
    assert same.headers["Refresh"] == "300" and "Content-Length" not in same.headers
    assert ask(If_None_Match='W/"another"').status == 200
    assert ask("nothing", If_None_Match=tag).status == 404
    assert ask(token="x", If_None_Match=tag).status == 403


@pytest.mark.parametrize("path", ["", "index.html", "nothing"])
@pytest.mark.parametrize("token", ["", "x", "..", "%00", "index.html"])
def test_without_the_token_nothing_is_told(ask, directory, token, path):
    answer = ask(path, token=token)
    assert (answer.status, answer.text) == (403, "Open the address that `alpot serve` has printed.")
    assert "Refresh" not in answer.headers and {name: answer.headers[name] for name in SAFE} == SAFE


@pytest.mark.parametrize("query", ["", "?again"])
def test_an_address_without_its_slash_leads_to_the_page(server, query):
    answer = raw(server, f"GET /{server.token}{query} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    assert b" 308 " in answer.splitlines()[0]
    assert f"\r\nLocation: /{server.token}/\r\n".encode() in answer


def test_a_token_is_known_whole_or_not_at_all(ask, server):
    last = "a" if server.token[-1] != "a" else "b"
    for token in (server.token[:-1] + last, server.token[:-1], server.token + "a", server.token.swapcase()):
        assert ask(token=token).status == 403
    for path in ("/", f"/{server.token[0]}\xf6/", f"/?{server.token}/", f"http://127.0.0.1/{server.token}/"):
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode("latin-1")
        assert b" 403 " in raw(server, request).splitlines()[0]


def test_tokens_are_long_and_never_the_same(directory):
    tokens = set()
    for _ in range(3):
        with ReportServer(directory) as server:
            tokens.add(server.token)
    assert len(tokens) == 3 and min(map(len, tokens)) >= 43  # 256 bits


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil", "", "[::1]"]
)
def test_under_another_name_nothing_is_told(ask, host, server):
    if host:
        assert ask(host=host).status == 403
    request = f"GET /{server.token}/ HTTP/1.0\r\n\r\n"  # no name at all
    assert b" 403 " in raw(server, request.encode()).splitlines()[0]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:8000"])
def test_a_tunnel_may_have_another_port(ask, host):
    assert ask(host=host).status == 200


def test_two_names_are_none(server):
    request = f"GET /{server.token}/ HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n"
    assert b" 403 " in raw(server, request.encode()).splitlines()[0]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "get", "BREW"])
def test_it_is_only_read(ask, directory, method):
    before = contents(directory)
    answer = ask(method=method)
    assert answer.status == 501 and {name: answer.headers[name] for name in SAFE} == SAFE
    assert contents(directory) == before


@pytest.mark.parametrize(
    "path",
    [
        "../campaign.toml",
        "../../campaign.toml",
        "..%2fcampaign.toml",
        "%2e%2e/campaign.toml",
        "..\\campaign.toml",
        "/etc/passwd",
        "//etc/passwd",
        "campaign.toml",
        "ledger.sqlite",
        "report/index.html",
        "index.html/",
        "./index.html",
        "index.html%00",
        "INDEX.HTML",
        "file:///etc/passwd",
    ],
)
def test_no_path_becomes_a_file(ask, path):
    answer = ask(path)
    assert answer.status == 404 and answer.text == "The report has no such file."


def test_garbage_does_no_harm(server, ask, capfd):
    for request in (b"", b"\0" * 100, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"A" * 70_000, b"GET /\r\n\r\n"):
        assert server.token.encode() not in raw(server, request)
    with socket.create_connection(("127.0.0.1", server.port)):
        pass  # goes away without a word
    assert ask().status == 200
    said = capfd.readouterr()
    assert said.out == said.err == ""  # what others ask for is not written to the terminal


def test_it_listens_on_the_loopback_interface_only(server):
    listening = [c for c in psutil.Process().net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert {c.laddr.ip for c in listening if c.laddr.port == server.port} == {"127.0.0.1"}
    assert server.url == f"http://127.0.0.1:{server.port}/{server.token}/"


def test_looking_changes_nothing(ask, directory):
    before = contents(directory)
    for name in ("", "index.html", "nothing"):
        ask(name)
    assert contents(directory) == before
    assert not (directory.report / "index.html").exists()


def test_the_page_follows_the_campaign(make, monkeypatch):
    made = []

    def counted(directory):
        made.append(directory)
        return report_files(directory)

    monkeypatch.setattr(serve, "report_files", counted)
    monkeypatch.setattr(serve, "_LOOK_S", 0.0)
    controller = make()
    report = serve.LiveReport(controller.directory)
    before = report.files()["index.html"]
    assert report.files()["index.html"] == before and len(made) == 1  # nothing has happened
    controller.run()
    after = report.files()["index.html"]
    assert "the budget of 40 labels is spent" in after and "the budget of 40 labels is spent" not in before
    report.files()
    assert len(made) == 2


def test_it_is_not_looked_too_often(make):
    controller = make()
    report = serve.LiveReport(controller.directory)
    before = report.files()
    controller.run()
    assert report.files() is before


def test_browsers_come_back_more_often_while_it_runs(ask, directory, monkeypatch):
    monkeypatch.setattr(serve, "_LOOK_S", 0.0)
    assert ask().headers["Refresh"] == "300"
    with directory.lock():
        page = ask()
        assert page.headers["Refresh"] == "15" and "running" in page.text
    assert ask().headers["Refresh"] == "300"


def test_a_campaign_that_cannot_be_read_is_told_and_tried_again(ask, directory):
    text = directory.config.read_text()
    directory.config.write_text("no toml")
    answer = ask()
    assert answer.status == 503 and answer.headers["Refresh"] == "300"
    assert answer.text.startswith("The report cannot be made: ") and "campaign.toml" in answer.text
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    directory.config.write_text(text)
    assert ask().status == 200


def test_whatever_goes_wrong_is_answered(ask, directory, monkeypatch):
    directory.config.write_bytes(b"\xff")
    answer = ask()
    assert answer.status == 503 and "is not a text file in UTF-8" in answer.text

    def broken(directory):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(serve, "report_files", broken)
    answer = ask()
    assert answer.status == 500 and "ZeroDivisionError: division by zero" in answer.text
    assert answer.headers["Refresh"] == "300"


def test_a_port_that_is_taken(server, directory):
    with pytest.raises(UsageError, match=f"port {server.port} of 127.0.0.1: Address already in use; choose another"):
        ReportServer(directory, server.port)


def test_the_verb_report(directory, tmp_path):
    said = Run("report", directory.path, cwd=tmp_path).end()
    assert (said.code, said.out, said.err) == (0, f"{directory.report / 'index.html'}\n", "")
    page = (directory.report / "index.html").read_text(encoding="utf-8")
    assert without_time(page) == without_time(report_files(directory)["index.html"])


def test_the_verb_serve(directory, tmp_path):
    run = Run("serve", directory.path, cwd=tmp_path)
    try:
        url, hint = (run.process.stdout.readline() for _ in range(2))
        port, token = int(url.split(":")[2].split("/")[0]), url.split("/")[3]
        assert f"ssh -N -L {port}:127.0.0.1:{port} " in hint
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", f"/{token}/")
        assert "Nothing was trained so far" in connection.getresponse().read().decode()
        os.kill(run.process.pid, signal.SIGINT)
        said = run.end()
        assert (said.code, said.err) == (0, "")
        assert not run.descendants()
    finally:
        run.clear()
