"""Enqueue the rival's tasks, as a process of its environment: a line of JSON on standard input, an answer for each."""

import json
import sys

import tasks  # type: ignore[import-not-found]

for line in sys.stdin:
    request = json.loads(line)
    if "prepare" in request:
        tasks.prepare({int(account): tuple(pair) for account, pair in request["prepare"].items()})
    else:
        tasks.send(request["task"], request["accounts"])
    print("done", flush=True)
