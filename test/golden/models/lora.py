"""Reference numbers for test/models/lora.test.ts, from PEFT on PyTorch.

    python lora.py

Made with peft 0.21.2, torch 2.15.0, transformers 5.23.0; float32 on a CPU. Weights are by the formula of make.py (`fill`), adapters
too, a quarter of it (both factors, so that every derivative of the first step is there). A step's loss is the mean over the completion's tokens;
AdamW has PyTorch's defaults but for what `optimizer` says; the gradient is clipped at norm 1. With `masks`, PEFT's dropout
modules are replaced by products with given masks (1.25 where sin(0.9 i + s) > -0.6, else 0; s as in `fill`).
"""
import json, math, os, sys, tempfile
import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

here = os.path.dirname(os.path.abspath(__file__))
torch.manual_seed(0)


def num(tensor, digits=8):
    return [float(f"%.{digits}g" % x) for x in tensor.detach().double().flatten().tolist()]


def wave(name, count):
    return torch.sin(0.7 * torch.arange(count, dtype=torch.float64) + sum(map(ord, name)))


def fill(named):
    with torch.no_grad():
        for name, p in named:
            w = wave(name, p.numel())
            p.copy_((1 + 0.1 * w if name.endswith("norm.weight") else 0.3 * w).reshape(p.shape).float())


class Mask(torch.nn.Module):
    def __init__(self, name):
        super().__init__()
        self.name = name

    def forward(self, x):
        i = torch.arange(x.numel(), dtype=torch.float64)
        kept = torch.sin(0.9 * i + sum(map(ord, self.name))) > -0.6
        return x * (1.25 * kept).reshape(x.shape).float()


ids = [[1, 7, 3, 12, 9, 30, 2], [5, 39, 8, 2, 0, 0, 0]]
keep = [[1] * 7, [1, 1, 1, 1, 0, 0, 0]]
completion = [[0, 0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 0, 0, 0]]
common = dict(vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
              max_position_embeddings=32)
llama = lambda: LlamaForCausalLM(LlamaConfig(**common, num_key_value_heads=2, rms_norm_eps=1e-5, rope_theta=500.0,
                                             tie_word_embeddings=False))
qwen2 = lambda: Qwen2ForCausalLM(Qwen2Config(**common, num_key_value_heads=2, rms_norm_eps=1e-6, rope_theta=10000.0,
                                             tie_word_embeddings=True))
cases = {
    "llama, all linear layers": (llama, dict(r=4, lora_alpha=8, target_modules="all-linear"), False),
    "llama, queries and values": (llama, dict(r=2, lora_alpha=3, target_modules=["q_proj", "v_proj"]), False),
    "qwen2, rank-stabilised": (qwen2, dict(r=3, lora_alpha=4, use_rslora=True,
                                           target_modules=["k_proj", "v_proj", "o_proj", "up_proj"]), False),
    "llama, dropout by given masks": (llama, dict(r=4, lora_alpha=8, lora_dropout=0.2, target_modules="all-linear"), True),
}
optimizer = dict(lr=0.002, betas=(0.9, 0.95), eps=1e-6, weight_decay=0.01)
out = {"ids": ids, "completion": completion, "optimizer": {"learningRate": 0.002, "beta2": 0.95, "epsilon": 1e-6, "weightDecay": 0.01}, "cases": {}}
for name, (make, settings, masked) in cases.items():
    base = make()
    fill(base.named_parameters())
    config = json.loads(base.config.to_json_string(use_diff=False))
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **settings))
    plain = lambda n: n.replace(".default.", ".")  # as the file names them
    trained = {plain(n): p for n, p in model.named_parameters() if p.requires_grad}
    fill(trained.items())
    with torch.no_grad():
        for p in trained.values():
            p *= 0.25
    if masked:
        for n, module in model.named_modules():
            if hasattr(module, "lora_dropout"):
                module.lora_dropout["default"] = Mask(n.removeprefix("base_model.model."))
    mask = torch.tensor(completion)[:, 1:].float()

    def scores():
        logits = model(torch.tensor(ids), attention_mask=torch.tensor(keep)).logits
        logp = F.log_softmax(logits[:, :-1], -1)
        return logp.gather(-1, torch.tensor(ids)[:, 1:, None])[..., 0]

    adamw = torch.optim.AdamW(trained.values(), **optimizer)
    case = {
        "config": {k: config.get(k) for k in ["model_type", "vocab_size", "hidden_size", "intermediate_size",
                   "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
                   "max_position_embeddings", "rms_norm_eps", "rope_parameters", "tie_word_embeddings",
                   "attention_bias", "mlp_bias", "hidden_act"] if config.get(k) is not None},
        "losses": [], "norms": [],
    }
    for step in range(20):
        token = scores()
        loss = -(token * mask).sum() / mask.sum()
        adamw.zero_grad()
        loss.backward()
        if step == 0:
            case["logprobs"] = num(token * mask)
            case["gradients"] = {n: [num(p.grad.norm())[0], *num(p.grad.flatten()[:3])] for n, p in trained.items()}
        norm = torch.nn.utils.clip_grad_norm_(trained.values(), 1.0)
        case["losses"] += num(loss)
        case["norms"] += num(norm)
        adamw.step()
    case["after"] = {n: [num(p.norm())[0], *num(p.flatten()[:3])] for n, p in trained.items()}
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        case["adapterConfig"] = json.load(open(f"{folder}/adapter_config.json"))
        case["adapterConfig"]["target_modules"].sort()
        case["file"] = {n: list(t.shape) for n, t in sorted(load_file(f"{folder}/adapter_model.safetensors").items())}
    if not masked:
        with torch.no_grad():
            case["loggedAfter"] = num(scores() * mask)
            case["merged"] = num(model.merge_and_unload()(torch.tensor(ids), attention_mask=torch.tensor(keep)).logits[0, -1][:8])
    out["cases"][name] = case
with open(os.path.join(here, "lora.json"), "w") as f:
    json.dump(out, f, separators=(",", ":"))
    f.write("\n")
