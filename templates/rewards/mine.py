"""The same reward in Python: `grpo.reward.brevity: { exec: [python3, ../rewards/mine.py], version: "1" }`.

One process for the whole task. A line on stdin is a batch, a line on stdout its scores: a number for each row, or None
for a row that cannot be scored. Everything else belongs on stderr. Raise `version` when the file's imports change.
"""

import json
import sys


def score(row, most):
    words = len(row["completion"].split())
    return min(1.0, most / max(1, words))


for line in sys.stdin:
    batch = json.loads(line)
    most = batch["params"].get("most", 20)
    scores = [score(row, most) for row in batch["rows"]]
    print(json.dumps({"id": batch["id"], "scores": scores}), flush=True)
