"""Part c: the works of part b in PyTorch with transformers, PEFT and TRL, over random weights of the same shapes.

    python3 bench/gpu/peer.py --name "0.5B sft" --device cuda --result FILE [--tiny]

As near to ours as these libraries' own ways go: weights in float32 under bf16 autocast where all are trained, a base in
bf16 below an adapter and when decoding; scaled-dot-product attention; gradient checkpointing; fused AdamW; the head on answers
alone (as ours), so that logits of prompts are neither computed nor kept. `sft` and `lora` are plain loops, `trl sft` is TRL's.
A batch that does not fit is halved into micro-batches, and the record says so. A library that is missing is a result, too.
"""
import argparse
import importlib.metadata
import json
import os
import statistics
import tempfile
import time

parser = argparse.ArgumentParser()
parser.add_argument("--name", required=True)
parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
parser.add_argument("--result", required=True)
parser.add_argument("--tiny", action="store_true")
args = parser.parse_args()


def keep(found):
    beside = f"{args.result}.new"
    with open(beside, "w") as file:
        json.dump(found, file)
    os.replace(beside, args.result)


def version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


versions = {name: version(name) for name in ["torch", "transformers", "peft", "trl"]}
missing = [name for name in ["torch", "transformers"] if versions[name] == "absent"]
if missing or args.name == "peer versions":
    keep({"versions": versions, **({"absent": missing} if missing else {})})
    raise SystemExit(0)

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from transformers import Qwen2Config, Qwen2ForCausalLM  # noqa: E402

name, work = args.name.split(" ", 1)
cuda = args.device == "cuda"
device = torch.device(args.device)
real = dict(rows=8, prompt=513, answer=1536, rank=32, context=512, written=256, samples=8, repeats=5)
small = dict(rows=4, prompt=9, answer=24, rank=4, context=8, written=16, samples=4, repeats=2)
shape = small if args.tiny else real
layers = {"0.5B": 24, "3B": 36}[name]
sizes = {
    "0.5B": dict(hidden_size=896, intermediate_size=4864, num_attention_heads=14),
    "3B": dict(hidden_size=2048, intermediate_size=11008, num_attention_heads=16),
}[name]
if args.tiny:
    layers = {"0.5B": 1, "3B": 2}[name]
    sizes = dict(hidden_size=32 * layers, intermediate_size=64 * layers, num_attention_heads=4)
vocabulary = 512 if args.tiny else 151936
config = Qwen2Config(
    **sizes, num_hidden_layers=layers, num_key_value_heads=2, vocab_size=vocabulary, tie_word_embeddings=True,
    max_position_embeddings=32768, rope_theta=1e6, rms_norm_eps=1e-6, attn_implementation="sdpa", use_cache=True,
    bos_token_id=None, eos_token_id=None, pad_token_id=0,
)
torch.manual_seed(0)


def model_in(dtype):
    with torch.device(device):
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            return Qwen2ForCausalLM(config)
        finally:
            torch.set_default_dtype(before)


def wait():
    if cuda:
        torch.cuda.synchronize()


def timed(run, repeats):
    run()
    seconds = []
    for _ in range(repeats):
        wait()
        start = time.perf_counter()
        run()
        wait()
        seconds.append(time.perf_counter() - start)
    return seconds


def peak():
    return torch.cuda.max_memory_allocated() if cuda else None


def report(tokens, seconds, **more):
    rate = tokens / statistics.median(seconds)
    keep({"tokensPerSecond": rate, "tokens": tokens, "seconds": seconds, "peakBytes": peak(), "versions": versions, **more})


def training(adapted):
    if adapted and versions["peft"] == "absent":
        return keep({"versions": versions, "absent": ["peft"]})
    model = model_in(torch.bfloat16 if adapted else torch.float32)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.config.use_cache = False
    if adapted:
        from peft import LoraConfig, get_peft_model

        own = LoraConfig(r=shape["rank"], lora_alpha=2 * shape["rank"], lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
        model = get_peft_model(model, own, autocast_adapter_dtype=True)
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4 if adapted else 1e-5, weight_decay=0.0, fused=cuda)
    rows, prompt, answer = shape["rows"], shape["prompt"], shape["answer"]
    places = prompt + answer - 1
    ids = torch.randint(1, min(400, vocabulary), (rows, places + 1), device=device)
    advantage = torch.rand(rows, 1, device=device)
    state = {"parts": 1}

    def update():
        optimizer.zero_grad(set_to_none=True)
        for part in range(state["parts"]):
            own = slice(part * rows // state["parts"], (part + 1) * rows // state["parts"])
            with torch.autocast(args.device, dtype=torch.bfloat16):
                logits = model(input_ids=ids[own, :-1], logits_to_keep=answer).logits
            loss = F.cross_entropy(logits.float().flatten(0, 1), ids[own, -answer:].flatten(), reduction="none")
            if adapted:  # GRPO's clipped ratio, one epoch: the ratio is 1
                logprob = -loss.view(-1, answer)
                ratio = torch.exp(logprob - logprob.detach())
                clipped = ratio.clamp(0.8, 1.2)
                loss = -torch.minimum(ratio * advantage[own], clipped * advantage[own])
            (loss.sum() / (rows * answer)).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()

    def fits():
        try:
            update()
            return True
        except torch.OutOfMemoryError:
            if state["parts"] == rows:
                raise
            return False

    while not fits():
        state["parts"] *= 2
        optimizer.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
    report(rows * places, timed(update, shape["repeats"]), microBatches=state["parts"])


def decoding(batch):
    rows = batch // 16 if args.tiny else batch
    model = model_in(torch.bfloat16).eval()
    prompts = torch.randint(1, min(400, vocabulary), (rows // shape["samples"], shape["context"]), device=device)
    ids = prompts.repeat_interleave(shape["samples"], 0)
    written = shape["written"]

    def generate():
        with torch.inference_mode():
            model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
                min_new_tokens=written, max_new_tokens=written, pad_token_id=0, eos_token_id=None,
            )

    report(rows * written, timed(generate, min(3, shape["repeats"])))


def trl():
    if versions["trl"] == "absent":
        return keep({"versions": versions, "absent": ["trl"]})
    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast, TrainerCallback
    from tokenizers import Tokenizer, models
    from trl import SFTConfig, SFTTrainer

    steps, rows = shape["repeats"] + 2, shape["rows"]
    length = shape["prompt"] + shape["answer"]
    ids = torch.randint(1, min(400, vocabulary), (rows * steps, length)).tolist()
    mask = [0] * shape["prompt"] + [1] * shape["answer"]
    data = Dataset.from_dict({"input_ids": ids, "completion_mask": [mask] * len(ids)})
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(400)}, unk_token="w0"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="w0", eos_token="w1", unk_token="w0")
    times = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_, **__):
            wait()
            times.append(time.perf_counter())

        def on_step_end(self, *_, **__):
            wait()
            times[-1] = time.perf_counter() - times[-1]

    own = SFTConfig(
        output_dir=tempfile.mkdtemp(), max_steps=steps, per_device_train_batch_size=rows, learning_rate=1e-5, bf16=True,
        gradient_checkpointing=True, optim="adamw_torch_fused" if cuda else "adamw_torch", max_length=length,
        save_strategy="no", report_to=[], logging_steps=1000, use_cpu=not cuda, completion_only_loss=True, disable_tqdm=True,
        dataloader_pin_memory=cuda,
    )
    SFTTrainer(model=model_in(torch.float32), args=own, train_dataset=data, processing_class=tokenizer, callbacks=[Clock()]).train()
    report(rows * (length - 1), times[2:])


if work in ("sft", "lora"):
    training(work == "lora")
elif work.startswith("decode "):
    decoding(int(work.split()[1]))
elif work == "trl sft":
    trl()
else:
    raise SystemExit(f"there is no work {work}")
