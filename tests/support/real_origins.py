"""``python real_origins.py KIND``: an origin on a real HTTP library that answers with what it saw.

Prints its port. Every answer is 200 with JSON in ``X-Seen``: how many requests it had so far (``n``), and of
this one ``method``, ``target`` as it came, and ``body`` in hex. A request counts once it is whole.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

COUNTER = itertools.count(1)
LOCK = threading.Lock()


def seen(method: str, target: str, body: bytes) -> str:
    with LOCK:
        return json.dumps({"n": next(COUNTER), "method": method, "target": target, "body": body.hex()})


def announce(port: int) -> None:
    print(f"port {port}", flush=True)


def served_by_threads(serve: Callable[[socket.socket], None]) -> None:
    """Accept for ever, a thread each."""

    def guarded(sock: socket.socket) -> None:
        with sock:
            try:
                serve(sock)
            except OSError:
                pass

    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listening:
        announce(listening.getsockname()[1])
        while True:
            sock, _ = listening.accept()
            threading.Thread(target=guarded, args=(sock,), daemon=True).start()


def answer(method: str, target: str, body: bytes) -> bytes:
    return f"HTTP/1.1 200 OK\r\nX-Seen: {seen(method, target, body)}\r\nContent-Length: 0\r\n\r\n".encode()


def recorder() -> None:
    """What stands behind nginx and HAProxy: they have checked and framed everything anew."""

    def serve(sock: socket.socket) -> None:
        stream = sock.makefile("rb")
        while line := stream.readline():
            method, target, _ = line.decode("latin-1").split(" ")
            fields = {}
            while (line := stream.readline()) not in (b"\r\n", b""):
                name, _, value = line.decode("latin-1").partition(":")
                fields[name.lower()] = value.strip()
            if fields.get("expect"):
                sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = b""
            if "transfer-encoding" in fields:
                while size := int(stream.readline().split(b";")[0], 16):
                    body += stream.read(size)
                    stream.readline()
                while stream.readline() not in (b"\r\n", b""):
                    pass
            else:
                size = int(fields.get("content-length") or 0)
                body = stream.read(size)
                if len(body) < size:
                    return
            sock.sendall(answer(method, target, body))

    served_by_threads(serve)


def h11_() -> None:
    import h11

    def serve(sock: socket.socket) -> None:
        connection = h11.Connection(h11.SERVER)
        method = target = ""
        body = b""
        while True:
            try:
                event = connection.next_event()
            except h11.RemoteProtocolError as error:
                status = error.error_status_hint
                sock.sendall(
                    b"HTTP/1.1 %d Refused\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status
                )
                return
            if event is h11.NEED_DATA:
                if connection.they_are_waiting_for_100_continue:
                    sock.sendall(
                        connection.send(h11.InformationalResponse(status_code=100, headers=[])) or b""
                    )
                connection.receive_data(sock.recv(65536))
            elif isinstance(event, h11.Request):
                method, target, body = event.method.decode(), event.target.decode("latin-1"), b""
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                fields = [("X-Seen", seen(method, target, body)), ("Content-Length", "0")]
                sock.sendall(connection.send(h11.Response(status_code=200, headers=fields)) or b"")
                connection.send(h11.EndOfMessage())
                if connection.our_state is h11.MUST_CLOSE:
                    return
                connection.start_next_cycle()
            else:
                return

    served_by_threads(serve)


def httptools_() -> None:
    import httptools

    class Reader:
        def __init__(self, sock: socket.socket) -> None:
            self.sock = sock
            self.parser = httptools.HttpRequestParser(self)

        def on_message_begin(self) -> None:
            self.target = self.body = b""
            self.expects = False

        def on_url(self, url: bytes) -> None:
            self.target += url

        def on_header(self, name: bytes, value: bytes) -> None:
            self.expects = self.expects or name.lower() == b"expect"

        def on_headers_complete(self) -> None:
            if self.expects:
                self.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")

        def on_body(self, data: bytes) -> None:
            self.body += data

        def on_message_complete(self) -> None:
            method = self.parser.get_method().decode()
            self.sock.sendall(answer(method, self.target.decode("latin-1"), self.body))

    def serve(sock: socket.socket) -> None:
        reader = Reader(sock)
        while data := sock.recv(65536):
            try:
                reader.parser.feed_data(data)
            except httptools.HttpParserUpgrade:
                return
            except httptools.HttpParserError:
                sock.sendall(b"HTTP/1.1 400 Refused\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return

    served_by_threads(serve)


def http_server() -> None:
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def __getattr__(self, name: str) -> Any:
            if name.startswith("do_"):  # whatever the method
                return self.respond
            raise AttributeError(name)

        def respond(self) -> None:
            target = self.raw_requestline.decode("latin-1").split(" ")[1]
            body = self.chunks() if self.headers.get("Transfer-Encoding", "").lower() == "chunked" else None
            if body is None:
                size = int(self.headers.get("Content-Length", 0))
                body = self.rfile.read(size)
                if len(body) < size:
                    self.close_connection = True
                    return
            self.send_response(200)
            self.send_header("X-Seen", seen(self.command, target, body))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def chunks(self) -> bytes:
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline() not in (b"\r\n", b"\n", b""):
                pass
            return body

        def log_message(self, *_: object) -> None:
            pass

        def log_request(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 1024

        def handle_error(self, *_: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    announce(server.server_address[1])
    server.serve_forever()


def aiohttp_() -> None:
    from aiohttp import web

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")  # type: ignore[attr-defined]
        body = await request.read()
        return web.Response(headers={"X-Seen": seen(request.method, request.raw_path, body)})

    async def run() -> None:
        runner = web.ServerRunner(web.Server(handle))
        await runner.setup()
        listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
        await web.SockSite(runner, listening).start()
        announce(listening.getsockname()[1])
        await asyncio.Event().wait()

    asyncio.run(run())


def tornado_() -> None:
    from tornado.httpserver import HTTPServer
    from tornado.httputil import HTTPHeaders, HTTPServerRequest, ResponseStartLine
    from tornado.netutil import bind_sockets

    def handle(request: HTTPServerRequest) -> None:
        fields = HTTPHeaders({"X-Seen": seen(str(request.method), str(request.uri), request.body)})
        fields["Content-Length"] = "0"
        assert request.connection is not None
        request.connection.write_headers(ResponseStartLine("HTTP/1.1", 200, "OK"), fields)
        request.connection.finish()

    async def run() -> None:
        (listening,) = bind_sockets(0, "127.0.0.1", backlog=1024)
        HTTPServer(handle).add_sockets([listening])
        announce(listening.getsockname()[1])
        await asyncio.Event().wait()

    asyncio.run(run())


def gunicorn_() -> None:
    from gunicorn.app.base import BaseApplication

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        body = environ["wsgi.input"].read()
        shown = seen(environ["REQUEST_METHOD"], environ["RAW_URI"], body)
        start_response("200 OK", [("X-Seen", shown), ("Content-Length", "0")])
        return [b""]

    class Application(BaseApplication):  # type: ignore[misc]
        def load_config(self) -> None:
            self.cfg.set("bind", "127.0.0.1:0")
            self.cfg.set("worker_class", "gthread")
            self.cfg.set("threads", 16)
            self.cfg.set("keepalive", 60)
            self.cfg.set("loglevel", "critical")
            self.cfg.set("when_ready", lambda server: announce(server.LISTENERS[0].getsockname()[1]))
            if "control_socket_disable" in self.cfg.settings:
                self.cfg.set("control_socket_disable", True)

        def load(self) -> Any:
            return application

    Application().run()


KINDS = {
    "recorder": recorder,
    "h11": h11_,
    "httptools": httptools_,
    "http.server": http_server,
    "aiohttp": aiohttp_,
    "tornado": tornado_,
    "gunicorn": gunicorn_,
}

if __name__ == "__main__":
    KINDS[sys.argv[1]]()
