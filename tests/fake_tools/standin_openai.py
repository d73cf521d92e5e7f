"""A stand-in for a server with the OpenAI API: streams completions of a set pace. It serves no model.

Behaves as vLLM does at this boundary: token ids or text, ``ignore_eos``, usage at the end of a stream, errors
as HTTP 400 or as an event of a stream that began well. usage: standin_openai.py PORT [refuse-ids]
[refuse-extras] [fail-every N] [pace SECONDS] [window TOKENS]
"""

import http.server
import json
import sys
import threading
import time

PORT, WORDS = int(sys.argv[1]), sys.argv[2:]
TOKEN = " a\u2028\x85"  # with ends of lines that end none in an event stream, unescaped as vLLM sends them
VLLM_ONLY = ("ignore_eos", "stream_options")
asked: list[dict[str, object]] = []
lock = threading.Lock()


def option(name: str, default: float) -> float:
    return float(WORDS[WORDS.index(name) + 1]) if name in WORDS else default


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # each piece is sent at once

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            self._json(200, {"data": [{"id": "standin-model"}]})
        elif self.path == "/asked":
            self._json(200, asked)
        else:
            self._json(200 if self.path == "/health" else 404, {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with lock:
            asked.append(body)
            number = len(asked)
        prompt = body["prompt"]
        if "refuse-ids" in WORDS and isinstance(prompt, list):
            return self._stream([{"error": {"message": "Token id is out of vocabulary", "code": 400}}], 0)
        if "refuse-extras" in WORDS and any(name in body for name in VLLM_ONLY):
            return self._json(400, {"error": {"message": "extra fields not permitted"}})
        tokens = len(prompt) if isinstance(prompt, list) else len(prompt.split())
        if tokens > option("window", 1e9):
            return self._json(400, {"error": {"message": "longer than the context"}})
        if number % int(option("fail-every", 10**9)) == 0:
            return self._json(500, {"error": {"message": "out of memory"}})
        events: list[dict[str, object]] = [
            {"choices": [{"text": TOKEN}]} for _ in range(int(body["max_tokens"]))
        ]
        if body.get("stream_options", {}).get("include_usage"):
            usage = {"prompt_tokens": tokens, "completion_tokens": len(events)}
            events.append({"choices": [], "usage": usage})
        return self._stream(events, option("pace", 0.002))

    def _stream(self, events: list[dict[str, object]], pace_s: float) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for text in [*(json.dumps(each, ensure_ascii=False) for each in events), "[DONE]"]:
            time.sleep(pace_s)
            data = f"data: {text}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def _json(self, code: int, content: object) -> None:
        data = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
