"""An engine for tests, on loopback: answers /v1/embeddings and /v1/rerank, and Cohere's /v2/embed and /v2/rerank, by the words of the texts.
Prints its port; writes each request's path, model and input_type, if it has one, to the file in its argument. Refuses the model `none`, and a
request without the key that FAKE_KEY names."""

import base64
import json
import os
import struct
import sys
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def vector(text):
    floats = [0.0] * 64
    for word in text.lower().split():
        floats[zlib.crc32(word.strip(".,").encode()) % 64] += 1.0
    return floats


ASKED = open(sys.argv[1], "w")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        print(self.path, *(body[field] for field in ("model", "input_type") if field in body), file=ASKED, flush=True)
        if os.environ.get("FAKE_KEY") and self.headers["Authorization"] != "Bearer " + os.environ["FAKE_KEY"]:
            self.answer(401, {"error": {"message": "wrong key"}})
        elif body["model"] == "none":
            self.answer(404, {"error": {"message": "no such model"}})
        elif self.path in ("/v1/rerank", "/v2/rerank"):
            query = set(body["query"].lower().split())
            scores = [len(query & set(each.lower().split())) / len(query) for each in body["documents"]]
            self.answer(200, {"results": [{"index": i, "relevance_score": score} for i, score in enumerate(scores)]})
        elif self.path == "/v2/embed":
            self.answer(200, {"embeddings": {"float": [vector(text) for text in body["texts"]]}})
        else:
            rows = [base64.b64encode(struct.pack("<64f", *vector(text))).decode() for text in body["input"]]
            self.answer(200, {"data": [{"index": i, "embedding": row} for i, row in enumerate(rows)]})

    def answer(self, status, body):
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
