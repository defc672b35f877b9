"""Programs that keep the container contract, other than our model server."""

import sys

CONTAINER = """
import json, os, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

sick = False
waiting = []

class Container(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.reply(503 if sick else 200)

    def do_POST(self):
        global sick
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        order = json.loads(body or b"{}")
        time.sleep(order.get("sleep_s", 0))
        if order.get("sick"):
            sick = True
        if order.get("die"):
            os._exit(3)
        if "pieces" in order:
            return self.stream(order)
        if order.get("cut"):
            self.send_response(500)
            self.send_header("content-length", "100")
            self.end_headers()
            self.wfile.write(b"only this")
            self.close_connection = True
            return
        said = {name.lower(): value for name, value in self.headers.items()}
        answer = json.dumps({"pid": os.getpid(), "headers": said, "order": order}).encode()
        self.reply(order.get("status", 200), answer, order.get("headers", {}))

    def reply(self, status, body=b"", headers={}):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self, order):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for piece in order["pieces"]:
            time.sleep(order.get("gap_s", 0))
            data = piece.encode()
            self.wfile.write(b"%x\\r\\n%s\\r\\n" % (len(data), data))
            self.wfile.flush()
        if order.get("break"):
            self.connection.close()
            self.close_connection = True
            return
        self.wfile.write(b"0\\r\\n\\r\\n")

address = "127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])
ThreadingHTTPServer(address, Container).serve_forever()
"""
"""Answers with what it was sent, or does what the JSON body tells it."""

COMMAND = [sys.executable, "-c", CONTAINER]
