"""Reference numbers for the preference objectives, by TRL's own loss functions in float64.

    python preferences.py

Made with trl 1.16, torch 2.15 on a CPU. `DPOTrainer._compute_loss` and `KTOTrainer._compute_loss` run on a stand-in for the
trainer whose model returns given token log-probabilities; `cpo_loss` and `odds_ratio_loss` are called as they are. Gradients are
by the token log-probabilities. Losses TRL has not are written out below in torch: Plackett-Luce DPO, TIS-DPO, IRPO.
"""
import contextlib, json, os, random
from collections import defaultdict
from types import SimpleNamespace as NS
import torch
import torch.nn.functional as F
from trl import DPOTrainer, KTOTrainer
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer
import trl.trainer.dpo_trainer as dpo_module, trl.trainer.kto_trainer as kto_module

torch.set_default_dtype(torch.float64)
torch.manual_seed(7)
here = os.path.dirname(os.path.abspath(__file__))


def num(x, digits=10):
    return [float(f"%.{digits}g" % v) for v in torch.as_tensor(x).detach().double().flatten().tolist()]


class Accelerator:
    device = torch.device("cpu")
    gather = staticmethod(lambda x: x)
    gather_for_metrics = staticmethod(lambda x: x)


class Model(torch.nn.Module):
    """Gives the log-probabilities it holds, whatever it is asked."""

    def __init__(self, *queue):
        super().__init__()
        self.queue = list(queue)

    def forward(self, **_):
        logp = self.queue.pop(0)
        blank = torch.zeros_like(logp)
        return NS(log_probs=logp, entropy=blank, mean_logits=blank, is_top1=blank.bool(), log_sum_sq_probs=blank, aux_loss=None)


def stand_in(**fields):
    return NS(accelerator=Accelerator(), aux_loss_enabled=False, args=NS(gradient_checkpointing_kwargs=None), _metrics=defaultdict(lambda: defaultdict(list)),
              gradient_checkpointing=False, _total_train_tokens=0, _tp_size=1, use_weighting=False, ld_alpha=None,
              **fields)


for module in (dpo_module, kto_module):
    module.disable_gradient_checkpointing = lambda *a, **k: contextlib.nullcontext()
    module.is_peft_model = lambda m: False

# Four pairs: chosen rows 0-3, rejected rows 4-7; the last pair has equal texts.
pairs, tokens = 4, 5
lengths = [5, 3, 1, 4, 4, 5, 2, 4]
mask = torch.tensor([[1.0] * n + [0.0] * (tokens - n) for n in lengths])
logp = -(torch.rand(2 * pairs, tokens) * 3 + 0.05)
ref = logp + torch.randn(2 * pairs, tokens) * 0.8
ref = torch.minimum(ref, torch.tensor(-0.01))
logp[7], ref[7] = logp[3], ref[3]
logp, ref = logp * mask, ref * mask
inputs = lambda: {"input_ids": torch.zeros(2 * pairs, tokens + 1, dtype=torch.long),
                  "attention_mask": torch.ones(2 * pairs, tokens + 1, dtype=torch.long),
                  "completion_mask": torch.cat([torch.zeros(2 * pairs, 1), mask], 1).long()}

out = {"tokens": tokens, "mask": num(mask), "logp": num(logp), "ref": num(ref), "cases": {}}
names = ["rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins", "logps/chosen", "logps/rejected"]


def case(name, loss, x, logs):
    (gradient,) = torch.autograd.grad(loss, x)
    out["cases"][name] = {"loss": num(loss)[0], "gradient": num(gradient), "logs": {k: num(v)[0] for k, v in logs.items()}}


def dpo(name, loss_type, beta=0.1, label_smoothing=0.0, divergence="reverse_kl", alpha=0.5, dtype=torch.float64, sft=0.0):
    x = logp.to(dtype).clone().requires_grad_()
    trainer = stand_in(model=NS(training=True), ref_model=Model(ref.to(dtype)), beta=beta, label_smoothing=label_smoothing,
                       loss_types=[loss_type, "sft"][:2 if sft else 1], loss_weights=[1.0, sft][:2 if sft else 1],
                       f_divergence_type=divergence,
                       f_alpha_divergence_coef=alpha, precompute_ref_logps=False)
    loss = DPOTrainer._compute_loss(trainer, Model(x * mask.to(dtype)), inputs(), False)
    case(name, loss, x, {k: trainer._metrics["train"][k][0] for k in names})


dpo("dpo", "sigmoid")
dpo("dpo with likelihood", "sigmoid", 0.2, sft=0.8)  # iterative reasoning preference optimisation
dpo("dpo beta 0.5", "sigmoid", 0.5)  # TRL 1.16 has label smoothing for its robust loss only
dpo("hinge beta 0.7", "hinge", 0.7)
dpo("ipo", "ipo")
dpo("robust smoothing 0.2", "robust", 0.3, 0.2)
dpo("dpo forward-kl", "sigmoid", 0.3, divergence="forward_kl")
dpo("dpo js", "sigmoid", 0.3, divergence="js_divergence")
dpo("dpo alpha 0.3", "sigmoid", 0.3, divergence="alpha_divergence", alpha=0.3, dtype=torch.float32)  # TRL's has no float64
dpo("ipo js", "ipo", 0.2, divergence="js_divergence")

chosen_tokens = mask[:pairs].sum()
lens = mask.sum(1)


def unpaired(name, trainer_loss, mean, nll):
    x = logp.clone().requires_grad_()
    sums = (x * mask).sum(1)
    logps = sums / lens if mean else sums
    losses, chosen, rejected, *rest = trainer_loss(logps[:pairs], logps[pairs:])
    likelihood = -(x[:pairs] * mask[:pairs]).sum() / chosen_tokens
    logs = {"rewards/chosen": chosen.mean(), "rewards/rejected": rejected.mean(), "rewards/margins": (chosen - rejected).mean(),
            "rewards/accuracies": (chosen > rejected).double().mean(), "nll_loss": likelihood}
    if rest:  # ORPO: its losses are lambda log sigmoid, to be taken away
        case(name, likelihood - losses.mean(), x, {**logs, "log_odds_ratio": rest[0], "log_odds_chosen": rest[1]})
    else:
        if nll == 0:
            del logs["nll_loss"]
        case(name, losses.mean() + nll * likelihood, x, logs)


cpo_of = lambda **f: (lambda c, r: CPOTrainer.cpo_loss(NS(alpha=0.0, accelerator=Accelerator(), **f), c, r))
unpaired("cpo", cpo_of(loss_type="sigmoid", beta=0.1, label_smoothing=0.0), False, 1.0)
unpaired("cpo smoothing 0.1", cpo_of(loss_type="sigmoid", beta=0.4, label_smoothing=0.1), False, 0.5)
unpaired("simpo", cpo_of(loss_type="simpo", beta=2.5, simpo_gamma=1.375, label_smoothing=0.0), True, 0.0)
unpaired("cpo-simpo", cpo_of(loss_type="simpo", beta=2.0, simpo_gamma=0.5, label_smoothing=0.0), True, 0.7)
unpaired("orpo", lambda c, r: ORPOTrainer.odds_ratio_loss(NS(beta=0.1, accelerator=Accelerator()), c, r), True, 1.0)

# KTO: eight rows by themselves; mismatched pairs' log-ratios give the estimate.
labels = [1, 0, 1, 1, 0, 0, 1, 0]


def kto(name, mismatched, weights):
    x = logp.clone().requires_grad_()
    zeros = torch.zeros(2 * pairs, tokens)
    kl_logp = zeros.clone()
    kl_logp[:, 0] = torch.tensor(mismatched) - 9
    kl_ref = zeros.clone()
    kl_ref[:, 0] = -9
    batch = inputs()
    batch |= {f"KL_{k}": v for k, v in inputs().items()} | {"label": torch.tensor(labels)}
    trainer = stand_in(model=NS(training=True), ref_model=Model(kl_ref, ref), beta=0.2, loss_type="kto", calculate_KL=True,
                       desirable_weight=weights[0], undesirable_weight=weights[1], precompute_ref_logps=False)
    trainer._compute_kl_logps = lambda m, b: KTOTrainer._compute_kl_logps(trainer, m, b)
    loss = KTOTrainer._compute_loss(trainer, Model(kl_logp, x * mask), batch, False)
    logs = {k: trainer._metrics["train"][k][0] for k in names if k != "rewards/accuracies"}
    case(name, loss, x, {**logs, "kl": trainer._metrics["train"]["kl"][0]})
    out["cases"][name]["mismatched"] = sum(mismatched) / len(mismatched)


out["labels"] = labels
kto("kto", [0.3, 1.2, -0.4, 0.9, 0.1, 0.0, 2.0, -0.3], (1.0, 1.33))
kto("kto with a negative estimate", [-0.3, -1.2, 0.4, -0.9, 0.1, 0.0, -2.0, 0.3], (1.0, 1.0))

# Lists, by place: two lists of four, the second with three answers. Rows as above: list 0 is rows 0-3, list 1 rows 4-7.
present = [1, 1, 1, 1, 1, 1, 1, 0]
relevance = [4.0, 2.0, 2.0, 0.5, 3.0, 1.0, 0.0, 0.0]
out["present"], out["relevance"] = present, relevance
list_mask = mask.clone()
list_mask[7] = 0


def lists(name, loss_of, beta, per_token=False):
    x = logp.clone().requires_grad_()
    s = beta * ((x - ref) * list_mask).sum(1)
    if per_token:
        s = s / list_mask.sum(1).clamp(min=1)
    loss = (loss_of(s[0:4], relevance[0:4]) + loss_of(s[4:7], relevance[4:7])) / 2
    case(name, loss, x, {})


lists("pl-dpo", lambda s, _: -sum(s[k] - torch.logsumexp(s[k:], 0) for k in range(len(s))), 0.3)


def irpo(gain):
    def loss(s, y):
        total = 0
        for i in range(len(s)):
            others = torch.stack([s[j] - s[i] for j in range(len(s)) if j != i])
            total = total - gain(y[i]) / torch.log2(torch.tensor(2.0 + i)) * F.logsigmoid(-torch.log(torch.exp(others).mean()))
        return total / len(s)
    return loss


lists("irpo", irpo(lambda y: 2**y - 1), 0.7, per_token=True)
lists("irpo of votes", irpo(lambda y: y), 0.3)

weights = torch.exp(torch.rand(2 * pairs, tokens) * 2 - 0.5)
out["tokenWeights"] = num(weights)
x = logp.clone().requires_grad_()
rewards = 0.2 * ((x - ref) * weights * mask).sum(1)
case("tis-dpo", -F.logsigmoid(rewards[:pairs] - rewards[pairs:]).mean(), x,
     {"rewards/chosen": rewards[:pairs].mean(), "rewards/rejected": rewards[pairs:].mean()})

with open(os.path.join(here, "preferences.json"), "w") as f:
    json.dump(out, f, separators=(",", ":"))
    f.write("\n")
print({k: v["loss"] for k, v in out["cases"].items()})
