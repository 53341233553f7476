"""Numbers for test/ope/estimators.test.ts: the estimators of Open Bandit Pipeline (obp/ope/estimators.py), worked
from their formulas in numpy, independently of src/ope; slate set probability by summing over all orders.

    python test/golden/ope/make.py > test/golden/ope/estimators.json
"""
import itertools
import json

import numpy as np

rng = np.random.default_rng(7)
n, actions = 12, 5


def dist(scale):
    x = np.exp(scale * rng.normal(size=(n, actions)))
    return x / x.sum(1, keepdims=True)


pi, pi0 = dist(1.2), dist(0.8)
a = np.array([rng.choice(actions, p=p) for p in pi0])
r = np.round(rng.uniform(size=n), 3)
q = rng.uniform(size=(n, actions))
i = np.arange(n)
w = pi[i, a] / pi0[i, a]
qa = q[i, a]
Q = (pi * q).sum(1)
lam, switch, shrink = 1.5, 1.2, 0.7
out = {
    "logWeight": np.log(w).tolist(), "reward": r.tolist(), "model": qa.tolist(), "direct": Q.tolist(),
    "settings": {"clip": lam, "switch": switch, "shrinkage": shrink},
    # InverseProbabilityWeighting, lambda_ = inf and 1.5
    "ips": (w * r).mean(), "ips_clipped": (np.minimum(w, lam) * r).mean(),
    # SelfNormalizedInverseProbabilityWeighting
    "snips": (w / w.mean() * r).mean(),
    # DirectMethod, DoublyRobust, SelfNormalizedDoublyRobust
    "dm": Q.mean(), "dr": (Q + w * (r - qa)).mean(), "sndr": (Q + w / w.mean() * (r - qa)).mean(),
    # SwitchDoublyRobust, DoublyRobustWithShrinkage
    "switch_dr": (Q + (w <= switch) * w * (r - qa)).mean(),
    "dros": (Q + shrink * w / (w ** 2 + shrink) * (r - qa)).mean(),
    "ess": w.sum() ** 2 / (w ** 2).sum(), "max": w.max(),
}

p = rng.dirichlet(np.ones(8))[:5]
total = 0.0
for order in itertools.permutations(p):
    left, prob = 1.0, 1.0
    for x in order:
        prob *= x / left
        left -= x
    total += prob
out["plackettLuce"] = {"p": p.tolist(), "logProbability": float(np.log(total))}
print(json.dumps(out, indent=1))
