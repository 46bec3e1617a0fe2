"""An S3 server on loopback (moto's) behind a proxy that misbehaves: it answers 500 and 503, loses answers to what was done, cuts bodies in the
middle, and is slow. For scripts; `python compat/store_server.py` keeps one until Enter is pressed and prints its environment.
"""

import http.client
import logging
import os
import random
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
from moto.server import ThreadedMotoServer

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "someone", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true"}


class Server(ThreadingHTTPServer):
    """A server that is silent about clients that are killed."""

    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        pass


class Store:
    """The server. `faults` is the share of requests that go wrong; each kind is counted in `counts`."""

    def __init__(self, faults: float, seed: int = 0):
        self.faults, self.random, self.lock = faults, random.Random(seed), threading.Lock()
        self.counts: dict[str, int] = {}
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self.moto.start()
        _, self.port = self.moto.get_host_and_port()
        proxy = type("Proxy", (Proxy,), {"store": self})
        self.proxy = Server(("127.0.0.1", 0), proxy)
        threading.Thread(target=self.proxy.serve_forever, daemon=True).start()
        # Not through the proxy: this is how the script itself looks.
        self.client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{self.port}", aws_access_key_id="someone",
                                   aws_secret_access_key="secret", region_name="us-east-1")

    def env(self) -> dict[str, str]:
        """The environment of a process that is to use the server through the proxy."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
        return kept | CREDENTIALS | {"AWS_ENDPOINT_URL": self.url()}

    def url(self) -> str:
        return f"http://127.0.0.1:{self.proxy.server_port}"

    def fault(self, method: str) -> str:
        with self.lock:
            kinds = ["500", "503", "slow", "lost"] + (["cut", "cut"] if method == "GET" else [])
            kind = self.random.choice(kinds) if self.random.random() < self.faults else "none"
            self.counts[kind] = self.counts.get(kind, 0) + 1
            self.counts[method] = self.counts.get(method, 0) + 1
            return kind

    def objects(self, bucket: str) -> dict[str, bytes]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        return {key: self.client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}

    def stop(self) -> None:
        self.proxy.shutdown()
        self.moto.stop()


class Proxy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: Store

    def log_message(self, *_: object) -> None:
        pass

    def forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.store.fault(self.command)
        if fault in ("500", "503"):
            self.answer(int(fault), [("Content-Type", "application/xml")], b"<Error><Code>InternalError</Code></Error>")
            return
        if fault == "slow":
            time.sleep(self.store.random.uniform(0.2, 2.0))
        server = http.client.HTTPConnection("127.0.0.1", self.store.port)
        server.request(self.command, self.path, body, dict(self.headers.items()))
        got = server.getresponse()
        content = got.read()
        server.close()
        headers = [(name, value) for name, value in got.getheaders() if name.lower() not in ("connection", "content-length", "transfer-encoding")]
        if self.command == "HEAD":
            headers += [("Content-Length", got.getheader("Content-Length", "0"))]
        if fault == "lost":
            self.cut()
        elif fault == "cut" and len(content) > 1:
            self.answer(got.status, headers, content[: self.store.random.randrange(1, len(content))], len(content))
            self.cut()
        else:
            self.answer(got.status, headers, content)

    def answer(self, status: int, headers: list[tuple[str, str]], content: bytes, length: int | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def cut(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.close()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = forward


if __name__ == "__main__":
    store = Store(faults=0.1)
    store.client.create_bucket(Bucket="shards")
    print("\n".join(f"export {key}={value}" for key, value in (CREDENTIALS | {"AWS_ENDPOINT_URL": store.url()}).items()))
    input("the bucket is s3://shards; Enter ends the server\n")
    store.stop()
