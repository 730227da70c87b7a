"""A stand-in for SQS that counts what is sent and keeps nothing: moto's slows down with each message it keeps."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


class CountingQueue:
    """Takes SendMessageBatch, in a thread of its own while it is entered."""

    def __init__(self) -> None:
        self.messages = 0
        lock = threading.Lock()
        queue = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # each answer would wait 40 ms

            def do_POST(self) -> None:  # http.server's own name
                entries = json.loads(self.rfile.read(int(self.headers["content-length"])))["Entries"]
                with lock:
                    queue.messages += len(entries)
                sent = [{"Id": entry["Id"], "MessageId": entry["Id"], "MD5OfMessageBody": ""} for entry in entries]
                body = json.dumps({"Successful": sent, "Failed": []}).encode()
                self.send_response(200)
                self.send_header("content-type", "application/x-amz-json-1.0")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: object) -> None:
                """Print nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()
