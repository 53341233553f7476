"""Reference numbers for test/objectives/policyGradient.test.ts: losses, gradients and clip shares of policy-gradient
losses on one batch, in float64. `trl` cases are computed by TRL itself (`GRPOTrainer._compute_loss`, called on a stand-in
for the trainer that gives it the log-probabilities below); the others by the formulas in PyTorch, with autograd's gradient.

Run: python policyGradient.py > policyGradient.json          (torch 2.15, trl 1.16)
"""
import json
from collections import defaultdict
from types import SimpleNamespace

import torch
from trl.trainer.grpo_trainer import GRPOTrainer

torch.set_default_dtype(torch.float64)
torch.manual_seed(7)
N, T, MAX = 4, 5, 8
lengths = [5, 3, 1, 4]
mask = torch.tensor([[1.0 if t < n else 0.0 for t in range(T)] for n in lengths])
logp = -torch.rand(N, T) * 2.5 - 0.02
old = (logp + torch.randn(N, T) * 0.4).clamp(max=-0.01)
ref = (logp + torch.randn(N, T) * 0.5).clamp(max=-0.01)
weights = torch.rand(N, T) * 2
advantages = torch.tensor([1.1, -0.7, -1.3, 0.9])
rounded = [t.mul(1e6).round().div(1e6) for t in (logp, old, ref, weights)]
logp, old, ref, weights = rounded


class Accelerator:
    num_processes = 1
    sync_gradients = True

    def reduce(self, x, reduction="sum"):
        return x

    def gather(self, x):
        return x.reshape(1) if x.dim() == 0 else x


def trl(loss_type, level="token", low=0.2, high=0.2, delta=None, beta=0.0, corrected=False, weighted=False, bonus=0.0,
        items=None):
    x = logp.clone().requires_grad_()
    it = SimpleNamespace(
        aux_loss_enabled=False,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        importance_sampling_level=level,
        beta=beta,
        args=SimpleNamespace(use_bias_correction_kl=corrected, delta=delta, steps_per_generation=1),
        loss_type=loss_type,
        epsilon_low=low,
        epsilon_high=high,
        use_vllm=weighted,
        vllm_importance_sampling_correction=weighted,
        model=SimpleNamespace(training=True),
        current_gradient_accumulation_steps=1,
        max_completion_length=MAX,
        accelerator=Accelerator(),
        _entropy_bonus_enabled=bonus > 0,
        use_adaptive_entropy=False,
        entropy_coef=bonus,
        _metrics={"train": defaultdict(list)},
        _get_per_token_logps_and_entropies=lambda *a, **k: (x, torch.full((N, T), 0.5), None),
    )
    inputs = {
        "prompt_ids": torch.zeros(N, 1, dtype=torch.long),
        "prompt_mask": torch.ones(N, 1),
        "completion_ids": torch.zeros(N, T, dtype=torch.long),
        "completion_mask": mask,
        "advantages": advantages,
        "old_per_token_logps": old,
        "ref_per_token_logps": ref,
        "importance_sampling_ratio": weights,
        "num_items_in_batch": torch.tensor(float(items if items is not None else mask.sum())),
    }
    loss = GRPOTrainer._compute_loss(it, it.model, inputs)
    loss.backward()
    logs = {k: v[0] for k, v in it._metrics["train"].items() if k in ("kl", "clip_ratio/low_mean",
            "clip_ratio/high_mean", "clip_ratio/region_mean", "cispo_clip_ratio")}
    return {"loss": loss.item(), "gradient": x.grad.flatten().tolist(), "logs": logs}


def formula(token_loss):
    x = logp.clone().requires_grad_()
    loss = (token_loss(x, advantages[:, None]) * mask).sum() / mask.sum()
    loss.backward()
    return {"loss": loss.item(), "gradient": x.grad.flatten().tolist(), "logs": {}}


def dppo(divergence, low, high, cap=10.0):
    def loss(x, a):
        p, mu = x.exp().detach(), old.exp()
        if divergence == "tv":
            d = (p - mu).abs()
        else:
            d = mu * (old - x.detach()) + (1 - mu) * torch.log((1 - mu + 1e-8) / (1 - p + 1e-8))
        up = (a > 0) & (p > mu) & (d > high)
        down = (a <= 0) & (p < mu) & (d > low)
        keep = (~(up | down)).double()
        return -a * (p / mu).clamp(max=cap) * keep * x

    return formula(loss)


def copg(low, high):
    lo, hi = torch.log1p(torch.tensor(-low)), torch.log1p(torch.tensor(high))
    return formula(lambda x, a: -torch.min(x * a, torch.clamp(x, old + lo, old + hi) * a))


def kl(estimator, corrected=False):
    def loss(x, a):
        d = x - ref
        k = {"k1": d, "k2": d * d / 2, "k3": torch.exp(-d) + d - 1}[estimator]
        ratio = torch.exp(x - old)
        clipped = ratio.clamp(0.8, 1.2)
        return -torch.min(ratio * a, clipped * a) + 0.3 * (k * ratio if corrected else k)

    return formula(loss)


def dual(c):
    def loss(x, a):
        ratio = torch.exp(x - old)
        l = -torch.min(ratio * a, ratio.clamp(0.8, 1.2) * a)
        return torch.where(a < 0, torch.min(l, -c * a), l)

    return formula(loss)


# verl's masked_whiten of REINFORCE++'s returns, with std + 1e-6 in place of sqrt(var + 1e-8)
rewards = torch.tensor([1.0, 0.2, 0.0, 0.7])
token_kl = (logp - ref) * mask
token_rewards = -0.1 * token_kl
for row, n in enumerate(lengths):
    token_rewards[row, n - 1] += rewards[row]


def whitened(gamma):
    returns = torch.zeros(N, T)
    running = torch.zeros(N)
    for t in reversed(range(T)):
        running = (token_rewards[:, t] + gamma * running) * mask[:, t]
        returns[:, t] = running
    valid = returns[mask.bool()]
    return ((returns - valid.mean()) / (valid.std(unbiased=True) + 1e-6) * mask).flatten().tolist()


print(json.dumps({
    "shape": [N, T],
    "maxTokens": MAX,
    **{k: v.flatten().tolist() for k, v in
       {"logp": logp, "old": old, "ref": ref, "mask": mask, "weights": weights, "advantages": advantages}.items()},
    "trl": {
        "bnpo": trl("bnpo"),
        "clip-higher": trl("bnpo", high=0.28),
        "dapo of 20 tokens": trl("dapo", items=20),
        "grpo": trl("grpo"),
        "dr_grpo": trl("dr_grpo"),
        "delta": trl("bnpo", delta=1.4),
        "k3": trl("bnpo", beta=0.3),
        "k3 corrected": trl("bnpo", beta=0.3, corrected=True),
        "weighted": trl("grpo", beta=0.3, weighted=True),
        "entropy bonus": trl("dr_grpo", bonus=0.1),
        "gspo": trl("grpo", level="sequence", low=0.1, high=0.15),
        "luspo": trl("luspo", level="sequence", low=0.1, high=0.15),
        "cispo": trl("cispo", high=1.3),
    },
    "formula": {
        "reinforce": formula(lambda x, a: -a * x),
        "dppo tv": dppo("tv", 0.05, 0.08),
        "dppo tv, cap": dppo("tv", 9.0, 9.0, 1.1),
        "dppo kl": dppo("kl", 0.02, 0.01),
        "copg": copg(0.2, 0.3),
        "dual": dual(1.3),
        "k1": kl("k1"),
        "k2": kl("k2"),
        "k2 corrected": kl("k2", True),
    },
    "returns": {"rewards": rewards.tolist(), "klCoefficient": 0.1, "epsilon": 1e-6, "one": whitened(1.0), "most": whitened(0.9)},
}, separators=(",", ":")))
