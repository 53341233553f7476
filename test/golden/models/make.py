"""Reference numbers for test/models and test/objectives, from PyTorch, transformers and sentence-transformers.

    python make.py MODELS        MODELS holds minilm/ and smollm2/ (Hugging Face folders)

Made with torch 2.15.0, transformers 5.23.0, sentence-transformers; float32 on a CPU. Tiny models have weights by a formula
(`fill`), which the tests repeat, so that no weights need to be stored.
"""
import json, math, os, sys
import numpy as np, torch
import torch.nn.functional as F

here = os.path.dirname(os.path.abspath(__file__))
models = sys.argv[1]
torch.manual_seed(0)


def save(name, value):
    with open(os.path.join(here, name), "w") as f:
        json.dump(value, f, separators=(",", ":"))
        f.write("\n")


def num(tensor, digits=7):
    flat = tensor.detach().double().flatten().tolist()
    return [float(f"%.{digits}g" % x) for x in flat]


def fill(model):
    """Parameter `name` at flat index i: 0.3 sin(0.7 i + s), s = sum of the name's character codes; norms 1 + 0.1 sin."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            i = torch.arange(p.numel(), dtype=torch.float64)
            wave = torch.sin(0.7 * i + sum(map(ord, name)))
            norm = name.endswith("norm.weight") or name.endswith("LayerNorm.weight")
            p.copy_((1 + 0.1 * wave if norm else 0.3 * wave).reshape(p.shape).float())
    return model.eval()


# ---------------------------------------------------------------- tiny models of every supported kind
from transformers import (BertConfig, BertForSequenceClassification, BertModel, LlamaConfig, LlamaForCausalLM,
                          Qwen2Config, Qwen2ForCausalLM)

ids = [[1, 7, 3, 12, 9, 30, 2], [5, 39, 8, 2, 0, 0, 0]]
keep = [[1] * 7, [1, 1, 1, 1, 0, 0, 0]]
completion = [[0, 0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 0, 0, 0]]
common = dict(vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
              max_position_embeddings=32)
decoders = {
    "llama": LlamaForCausalLM(LlamaConfig(**common, num_key_value_heads=2, rms_norm_eps=1e-5, rope_theta=500.0,
                                          tie_word_embeddings=False)),
    "llama-bias": LlamaForCausalLM(LlamaConfig(**common, num_key_value_heads=4, rms_norm_eps=1e-5, attention_bias=True,
                                               mlp_bias=True, tie_word_embeddings=True)),
    "llama-wide-head": LlamaForCausalLM(LlamaConfig(**common, num_key_value_heads=1, rms_norm_eps=1e-6, head_dim=6,
                                                    tie_word_embeddings=True)),
    "qwen2": Qwen2ForCausalLM(Qwen2Config(**common, num_key_value_heads=2, rms_norm_eps=1e-6, rope_theta=10000.0,
                                          tie_word_embeddings=True)),
}
out = {"ids": ids, "completion": completion, "cases": {}}
for name, model in decoders.items():
    fill(model)
    logits = model(torch.tensor(ids), attention_mask=torch.tensor(keep)).logits
    t = 0.7
    logp = F.log_softmax(logits[:, :-1] / t, -1)
    target = torch.tensor(ids)[:, 1:]
    mask = torch.tensor(completion)[:, 1:].float()
    token = logp.gather(-1, target[..., None])[..., 0]
    entropy = -(logp.exp() * logp).sum(-1)
    loss = -(token * mask).sum() / mask.sum()
    loss.backward()
    config = json.loads(model.config.to_json_string(use_diff=False))
    out["cases"][name] = {
        "config": {k: config.get(k) for k in ["model_type", "vocab_size", "hidden_size", "intermediate_size",
                   "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
                   "max_position_embeddings", "rms_norm_eps", "rope_parameters", "tie_word_embeddings",
                   "attention_bias", "mlp_bias", "hidden_act"] if config.get(k) is not None},
        "lastLogits": num(logits[0, -1]),
        "temperature": t,
        "logprobs": num(token * mask), "entropies": num(entropy * mask), "loss": num(loss)[0],
        "gradients": {n: [num(p.grad.norm())[0], *num(p.grad.flatten()[:3])] for n, p in model.named_parameters()},
    }
save("tiny-decoders.json", out)

segments = [[0, 0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 0, 0, 0]]
small = dict(vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
             max_position_embeddings=16, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
bert = fill(BertModel(BertConfig(**small), add_pooling_layer=False))
hidden = bert(torch.tensor(ids), attention_mask=torch.tensor(keep), token_type_ids=torch.tensor(segments)).last_hidden_state
k = torch.tensor(keep).float()[..., None]
embedding = F.normalize((hidden * k).sum(1) / k.sum(1), dim=-1)
classifier = fill(BertForSequenceClassification(BertConfig(**small, num_labels=3)))
logits = classifier(torch.tensor(ids), attention_mask=torch.tensor(keep), token_type_ids=torch.tensor(segments)).logits
labels = torch.tensor([2, 0])
loss = F.cross_entropy(logits, labels)
loss.backward()
save("tiny-encoders.json", {
    "ids": ids, "keep": keep, "segments": segments, "config": {**small, "model_type": "bert", "hidden_act": "gelu"},
    "embeddings": num(embedding), "logits": num(logits), "labels": labels.tolist(), "loss": num(loss)[0],
    "gradients": {n: [num(p.grad.norm())[0], *num(p.grad.flatten()[:3])]
                  for n, p in classifier.named_parameters() if p.grad is not None}})

# ---------------------------------------------------------------- losses
g = torch.Generator().manual_seed(1)
N, T = 4, 5
logp = (-torch.rand(N, T, generator=g) * 3).requires_grad_()
old = (logp.detach() + 0.4 * torch.randn(N, T, generator=g))
ref = (logp.detach() + 0.3 * torch.randn(N, T, generator=g))
mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 0]], dtype=torch.float)
advantage = torch.tensor([1.3, -0.7, 0.0, -1.6])
lo, hi, dual, beta = 0.2, 0.2, 3.0, 0.04
ratio = (logp - old).exp()
A = advantage[:, None]
clipped = ratio.clamp(1 - lo, 1 + hi)
token = torch.maximum(-ratio * A, -clipped * A)
token = torch.where(A < 0, torch.minimum(token, -dual * A), token)
k3 = (ref - logp).exp() - (ref - logp) - 1
loss = ((token + beta * k3) * mask).sum() / mask.sum()
loss.backward()
region = (((ratio < 1 - lo) & (A < 0)) | ((ratio > 1 + hi) & (A > 0))).float()
grpo = {"shape": [N, T], "logp": num(logp), "old": num(old), "ref": num(ref), "mask": num(mask),
        "advantage": num(advantage), "epsilonLow": lo, "epsilonHigh": hi, "dualClip": dual, "beta": beta,
        "loss": num(loss, 9)[0], "kl": num((k3 * mask).sum() / mask.sum(), 9)[0],
        "clipRatio": num((region * mask).sum() / mask.sum(), 9)[0], "gradient": num(logp.grad)}
B, D, scale = 4, 6, 20.0
a, p, n = (F.normalize(torch.randn(B, D, generator=g), dim=-1).requires_grad_() for _ in range(3))
scores = scale * a @ torch.cat([p, n]).T
loss = F.cross_entropy(scores, torch.arange(B))
loss.backward()
mnrl = {"shape": [B, D], "scale": scale, "anchor": num(a, 9), "positive": num(p, 9), "negative": num(n, 9),
        "loss": num(loss, 9)[0], "gradients": [num(a.grad), num(p.grad), num(n.grad)]}
z = torch.randn(4, 3, generator=g).requires_grad_()
y = torch.tensor([0, 2, 1, 1])
loss = F.cross_entropy(z, y)
loss.backward()
nli = {"logits": num(z, 9), "labels": y.tolist(), "loss": num(loss, 9)[0], "gradient": num(z.grad)}
save("losses.json", {"grpo": grpo, "contrastive": mnrl, "classification": nli})

# ---------------------------------------------------------------- AdamW with clipping: five steps
w = torch.nn.Parameter(torch.sin(torch.arange(6.0)))
b = torch.nn.Parameter(torch.cos(torch.arange(2.0)))
optimizer = torch.optim.AdamW([w, b], lr=0.1, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.01)
steps = []
for step in range(5):
    optimizer.zero_grad()
    loss = ((w - 2) ** 2).sum() + (torch.outer(b, w) ** 2).sum()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_([w, b], 1.0)
    optimizer.param_groups[0]["lr"] = 0.1 * (step + 1) / 5
    optimizer.step()
    steps.append({"loss": num(loss, 9)[0], "norm": num(norm, 9)[0], "w": num(w, 9), "b": num(b, 9)})
save("adamw.json", {"steps": steps})

# ---------------------------------------------------------------- real checkpoints
from sentence_transformers import SentenceTransformer
from transformers import AutoModelForCausalLM, AutoTokenizer

sentences = [
    "In the perspective of Justice, lying to a friend is wrong.",
    "In the perspective of Right to life, everyone should be able to live without fear of violence or neglect.",
    "a",
    "Ünïcödé — naïve café, 東京! 😀 don't  stop\tnow\nplease",
    "Duty of care " * 40,
]
texts = sentences + ["", " leading and trailing ", "1234567 3.14 a_b x==y", "<|im_start|>user\nhi<|im_end|>"]
minilm = SentenceTransformer(os.path.join(models, "minilm"), device="cpu")
fast = AutoTokenizer.from_pretrained(os.path.join(models, "minilm"))
save("minilm.json", {
    "sentences": sentences, "embeddings": [num(torch.tensor(e), 6) for e in minilm.encode(sentences, normalize_embeddings=True)],
    "tokens": [{"text": t, "ids": fast(t)["input_ids"]} for t in texts],
    "pair": {"text": "The cat sat.", "second": "A dog ran", **{k: fast("The cat sat.", "A dog ran")[k] for k in ["input_ids", "token_type_ids"]}}})

path = os.path.join(models, "smollm2")
tokenizer = AutoTokenizer.from_pretrained(path)
model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
chats = [
    [{"role": "user", "content": "Provide a structured comprehensive analysis of: Lying to a friend"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}, {"role": "user", "content": "2+2?"}],
]
cases = []
for chat in chats:
    text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    row = tokenizer(text, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logits = model(torch.tensor([row])).logits[0]
        answer = model.generate(torch.tensor([row]), do_sample=False, max_new_tokens=16, pad_token_id=2)[0][len(row):].tolist()
        logp = F.log_softmax(logits[:-1], -1).gather(-1, torch.tensor(row)[1:, None])[:, 0]
    cases.append({"messages": chat, "text": text, "ids": row, "lastLogits": num(logits[-1, ::97]), "logprobs": num(logp),
                  "greedy": answer, "greedyText": tokenizer.decode(answer, skip_special_tokens=True)})
save("smollm2.json", {"cases": cases, "tokens": [
    {"text": t, "ids": tokenizer(t, add_special_tokens=False)["input_ids"]} for t in texts]})
print("done")
