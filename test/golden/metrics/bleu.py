"""Reference values of BLEU and Self-BLEU, by NLTK. Made once, with

    python3 -m venv venv && venv/bin/pip install nltk==3.10.4 && venv/bin/python test/golden/metrics/bleu.py

Self-BLEU as Texygen computes it (utils/metrics/SelfBleu.py): each output against all the others, uniform weights,
SmoothingFunction().method1. Tokens are given, so that no tokenizer is compared.
"""
import json
import random
from pathlib import Path

from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

method1 = SmoothingFunction().method1


def bleu(hypothesis, references):
    return float(sentence_bleu(references, hypothesis, (0.25,) * 4, method1))


def self_bleu(outputs):
    return sum(bleu(o, outputs[:i] + outputs[i + 1 :]) for i, o in enumerate(outputs)) / len(outputs)


fixed = [
    "the cat is on the mat .".split(),
    "there is a cat on the mat .".split(),
    "a dog sleeps under the old table by the door .".split(),
    "the cat sat".split(),
    "on".split(),
    "fairness matters , and so does mercy .".split(),
]
draw = random.Random(0)
words = "justice mercy duty care truth harm rule law of and the a".split()
drawn = [[draw.choice(words) for _ in range(draw.randint(1, 14))] for _ in range(12)]
sets = [fixed, drawn, drawn[:2], [fixed[0], fixed[0], fixed[0]]]
out = {
    "made with": "test/golden/metrics/bleu.py, nltk 3.10.4",
    "bleu": [
        {"hypothesis": h, "references": rs, "value": bleu(h, rs)}
        for s in (fixed, drawn)
        for i, h in enumerate(s)
        for rs in [s[:i] + s[i + 1 :], [s[(i + 1) % len(s)]]]
    ],
    "selfBleu": [{"outputs": s, "value": self_bleu(s)} for s in sets],
}
Path(__file__).with_name("bleu.json").write_text(json.dumps(out, separators=(",", ":")) + "\n")
