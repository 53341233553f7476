"""Reference numbers for test/objectives/ips.test.ts: POPE's objective (docs/ope.md) written out slate by slate in PyTorch, in float64,
with autograd's gradient by every token log-probability. Nothing of src/ is followed but the formulas: set probabilities are
sums over all orders, a self-normalised estimate is differentiated as the ratio that it is.

    python ips.py > ips.json          (torch 2.15)
"""
import itertools
import json

import torch

torch.set_default_dtype(torch.float64)
torch.manual_seed(11)

# Slates of three, one and two responses of one to three tokens, each with the behaviour policy's log-probability of the whole
# response, its number of tokens there, the votes (scaled), and the votes that a model predicts.
sizes, lengths = [3, 1, 2], [2, 3, 1, 3, 1, 2]
tokens = [[round(v, 6) for v in (-torch.rand(n) * 1.5 - 0.6).tolist()] for n in lengths]
behaviour = [{"logprob": round(-(1.2 + 1.5 * torch.rand(1).item()), 6), "tokens": n} for n in [1, 3, 2, 2, 1, 3]]
votes = [round(v, 6) for v in (2 * torch.rand(6)).tolist()]
model = [round(v, 6) for v in (2 * torch.rand(6)).tolist()]
starts = [0, 3, 4]


def propensities(kind, sums, counts):
    """log p of a slate's responses."""
    if kind == "sequence":
        return sums
    mean = sums / counts
    return mean if kind == "length-normalised" else torch.log_softmax(mean, 0)


def set_probability(kind, logp):
    if kind == "product":
        return logp.sum()
    total = 0.0
    for order in itertools.permutations(range(len(logp))):
        left, chance = torch.tensor(1.0), torch.tensor(1.0)
        for k in order:
            chance = chance * logp[k].exp() / left
            left = left - logp[k].exp()
        total = total + chance
    return total.log()


def case(weights="joint", set="product", propensity="length-normalised", cu="prob", diversity="soft-entropy", **more):
    settings = {"lambda": 1.0, "estimator": "plain", "clip": None, **more}
    x = [torch.tensor(row, requires_grad=True) for row in tokens]

    def rewards(v, logp):
        u = {"label": torch.ones_like(logp), "prob": logp.exp(), "logprob": logp}[cu]
        d = -logp if diversity == "soft-entropy" else -logp * logp.exp()
        return v * u + settings["lambda"] * d

    weighted, summed, plain = [], [], []
    for at, size in zip(starts, sizes):
        rows = range(at, at + size)
        logp = propensities(propensity, torch.stack([x[k].sum() for k in rows]), torch.tensor([len(tokens[k]) for k in rows]))
        logp0 = propensities(
            propensity,
            torch.tensor([behaviour[k]["logprob"] for k in rows]),
            torch.tensor([behaviour[k]["tokens"] for k in rows]),
        )
        if weights == "joint":
            logw = (set_probability(set, logp) - set_probability(set, logp0)).reshape(1)
        else:
            logw = logp - logp0
        if settings["clip"] is not None:
            logw = logw.clamp(max=torch.log(torch.tensor(settings["clip"])).item())
        w = logw.exp()
        r = rewards(torch.tensor([votes[k] for k in rows]), logp)
        if settings["estimator"] == "doubly-robust":
            q = rewards(torch.tensor([model[k] for k in rows]), logp)
            plain.append((torch.softmax(logp, 0) * q).sum())
            r = r - q
        weighted.append(w[0] * r.mean() if weights == "joint" else (w * r).mean())
        summed.append(w.mean())
    total = torch.stack(weighted).sum()
    if settings["estimator"] == "self-normalised":
        value = total / torch.stack(summed).sum()
    else:
        value = (total + (torch.stack(plain).sum() if plain else 0.0)) / len(sizes)
    (-value).backward()
    return {
        "settings": {"weights": weights, "set": set, "propensity": propensity, "cu": cu, "diversity": diversity, **settings},
        "value": value.item(),
        "weightSum": torch.stack(summed).sum().item(),
        "gradient": [row.grad.tolist() for row in x],
    }


print(json.dumps({
    "sizes": sizes, "tokens": tokens, "behaviour": behaviour, "votes": votes, "model": model,
    "cases": {
        "as published": case(),
        "joint, sequence": case(propensity="sequence", diversity="p-log-p"),
        "joint, pool-normalised": case(propensity="pool-normalised", **{"lambda": 0.5}),
        "joint, logprob": case(cu="logprob", diversity="p-log-p"),
        "joint, clipped": case(clip=1.1),
        "joint, plackett-luce": case(set="plackett-luce", propensity="sequence"),
        "joint, self-normalised": case(estimator="self-normalised", **{"lambda": 0.3}),
        "joint, doubly robust": case(estimator="doubly-robust", cu="label", **{"lambda": 0.0}),
        "independent": case(weights="independent"),
        "independent, clipped labels": case(weights="independent", propensity="sequence", cu="label", clip=1.3),
        "independent, self-normalised": case(weights="independent", cu="label", estimator="self-normalised", **{"lambda": 0.2}),
        "independent, doubly robust": case(weights="independent", propensity="sequence", estimator="doubly-robust"),
    },
}, separators=(",", ":")))
