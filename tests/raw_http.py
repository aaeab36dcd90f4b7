"""HTTP/1.1 by hand, for servers that answer as no library would."""

import socket
import threading


def read_request(connection: socket.socket) -> bytes | None:
    """One request with its body, in however many pieces it arrives; None where the other side has hung up.

    Raises OSError where the connection is cut.
    """
    received = b""
    while b"\r\n\r\n" not in received:
        if not (piece := connection.recv(65536)):
            return None
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
    while len(body) < int((lengths or [b"0"])[0]):
        if not (piece := connection.recv(65536)):
            return None
        body += piece
    return head + b"\r\n\r\n" + body


def drip(connection: socket.socket) -> None:
    """A header that never ends, a byte every 10 ms."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while True:
        connection.sendall(b"a")
        threading.Event().wait(0.01)
