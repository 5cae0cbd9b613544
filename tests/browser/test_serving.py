"""The server itself, spoken to byte by byte, as no browser would."""

import json
import socket
from urllib.parse import urlsplit

import map_home
import pytest


def say(served: str, head: str, body: bytes = b"") -> tuple[int, bytes]:
    """Sends a request and returns the status and all that comes back."""
    with socket.create_connection(("127.0.0.1", urlsplit(served).port), timeout=600) as line:
        line.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)
        answer = b""
        while part := line.recv(65_536):
            answer += part
    return int(answer.split()[1]), answer


def test_a_gigabyte_is_refused_before_it_is_sent(served):
    head = (
        f"POST /api/classify/{map_home.PLACE} HTTP/1.1\nHost: localhost\nContent-Length: "
        f"{1 << 30}\n"
        "Content-Type: multipart/form-data; boundary=x\nConnection: close"
    )
    code, _ = say(served, head)
    assert code == 413


@pytest.mark.parametrize(
    ("head", "codes"),
    [
        ("GET /runs HTTP/1.1\nHost: evil.example\nConnection: close", {421}),
        ("GET /runs HTTP/1.1\nConnection: close", {400, 421}),
        (
            "GET /runs HTTP/1.1\nHost: localhost\nX-Forwarded-Host: evil.example\nConnection: "
            "close",
            {200},
        ),
        ("GET http://evil.example/runs HTTP/1.1\nHost: evil.example\nConnection: close", {421}),
        ("GET /../../secret.txt HTTP/1.1\nHost: localhost\nConnection: close", {404}),
        ("GET /static/..%5c..%5cguard.py HTTP/1.1\nHost: localhost\nConnection: close", {404}),
        ("GET //etc/passwd HTTP/1.1\nHost: localhost\nConnection: close", {308, 404}),
        (
            "POST /api/x HTTP/1.1\nHost: localhost\nContent-Length: 5\nTransfer-Encoding: "
            "chunked\nConnection: close",
            {400, 404},
        ),
        ("\0\1\2", {400}),
    ],
)
def test_odd_requests_get_plain_refusals(served, head, codes):
    code, answer = say(served, head, b"0\r\n\r\n" if "chunked" in head else b"")
    assert code in codes
    assert (
        b"the secret" not in answer
        and b"Traceback" not in answer
        and b"evil.example" not in answer.split(b"\r\n\r\n")[-1]
    )


def test_nothing_tells_what_serves_it(served):
    _, answer = say(served, "GET /runs HTTP/1.1\nHost: localhost\nConnection: close")
    head = answer.split(b"\r\n\r\n")[0].lower()
    assert (
        b"\r\nserver:" not in head
        and b"werkzeug" not in head
        and b"content-security-policy:" in head
    )


def test_a_page_elsewhere_cannot_write_to_the_ledger(served):
    body = json.dumps({"rows": [1], "action": "reject"}).encode()
    head = (
        f"POST /api/maps/{map_home.PLACE}/ledger HTTP/1.1\nHost: localhost\nOrigin: "
        "http://evil.example\nConnection: close\n"
        f"Content-Type: application/json\nContent-Length: {len(body)}"
    )
    assert say(served, head, body)[0] == 403


@pytest.mark.parametrize("scheme", ["httpx", "ftp", "chrome-extension", "http", "https"])
def test_only_pages_of_this_address_by_http_may_change_something(served, scheme):
    port = urlsplit(served).port
    head = (
        f"POST /api/data/none/undo HTTP/1.1\nHost: localhost:{port}\n"
        f"Origin: {scheme}://localhost:{port}\nConnection: close\n"
        "Content-Type: application/json\nContent-Length: 2"
    )
    expected = {400, 404} if scheme in ("http", "https") else {403}
    assert say(served, head, b"{}")[0] in expected


def test_half_sent_requests_block_no_other(served):
    port = urlsplit(served).port
    lines = [socket.create_connection(("127.0.0.1", port), timeout=600) for _ in range(200)]
    try:
        for line in lines:
            line.sendall(
                b"POST /api/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf"
            )
        code, _ = say(served, "GET /data HTTP/1.1\nHost: localhost\nConnection: close")
        assert code == 200
    finally:
        for line in lines:
            line.close()
