"""Argilla 2.8.0's own client reads our settings and our records.

    python experiments/exports/argilla.py --run runs/demo/run

Checked: `Settings.from_json` takes settings.json and finds it valid; `Record.from_dict` takes every record; each
record's fields, metadata and suggestion are among those that the settings name, with labels that the question has; the
chosen response is where the suggestion says. The client asks its server once, who it is: a server of three lines on
127.0.0.1 answers that, and nothing else is asked.
"""

import tempfile
from pathlib import Path

from environment import arguments, crossward, environment, inside

VERSION = "2.8.0"
INSTALLS = ([f"argilla=={VERSION}", "requests"],)
PROGRAM = r"""
import json, sys, threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version

asked = []
USER = {"id": "00000000-0000-0000-0000-000000000001", "username": "me", "first_name": "me", "role": "owner",
        "inserted_at": "2025-01-01T00:00:00", "updated_at": "2025-01-01T00:00:00"}


class Server(BaseHTTPRequestHandler):
    def do_GET(self):
        asked.append(self.path)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(USER).encode())

    def log_message(self, *a):
        pass


server = HTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
import argilla as rg

rg.Argilla(api_url=f"http://127.0.0.1:{server.server_port}", api_key="none")
export, pairs = sys.argv[1], sys.argv[2]
settings = rg.Settings.from_json(f"{export}/settings.json")
settings.validate()
fields, questions = {field.name for field in settings.fields}, {q.name: q for q in settings.questions}
metadata = {item.name for item in settings.metadata}
print(f"settings: fields {', '.join(sorted(fields))}; questions {', '.join(questions)}; "
      f"metadata {', '.join(sorted(metadata))}")
assert settings.serialize()["fields"][0]["settings"]["use_markdown"] is False
ours = [json.loads(line) for line in open(pairs, encoding="utf-8")]
lines = [json.loads(line) for line in open(f"{export}/records.jsonl", encoding="utf-8")]
assert len(lines) == len(ours)
first = scored = 0
for line, pair in zip(lines, ours):
    record = rg.Record.from_dict(line)
    told = record.to_dict()
    assert set(told["fields"]) == fields and set(told["metadata"]) <= metadata, told
    suggestion = told["suggestions"]["preference"]
    assert suggestion["value"] in {label for label in questions["preference"].labels}
    assert told["fields"][suggestion["value"]] == pair["chosen"][0]["content"], pair["id"]
    assert record.api_model().model_dump()["fields"]["instruction"] == pair["prompt"][0]["content"]
    assert told["responses"] == {} and 0.5 <= suggestion["score"] <= 1
    first += suggestion["value"] == "response_1"
print(f"{len(lines)} records, as many as pairs; the chosen response stands first in {first} of them")
print(f"asked of the server: {', '.join(asked)}")
print("versions: argilla " + version("argilla"))
"""


def main() -> None:
    given = arguments(__doc__ or "")
    with environment(given.environment, *INSTALLS) as python, tempfile.TemporaryDirectory() as work:
        export, pairs = Path(work) / "argilla", Path(work) / "trl"
        crossward("export", given.run, "--to", "argilla", "--output", export)
        crossward("export", given.run, "--to", "trl", "--output", pairs)
        print(inside(python, PROGRAM, export, pairs / "train.jsonl", NO_PROXY="127.0.0.1"), end="")


if __name__ == "__main__":
    main()
