import { Effect } from "effect"
import { FileSystem } from "effect/FileSystem"
import type { Sequence } from "../../src/models/batching.ts"
import type { Policy } from "../../src/models/Policy.ts"
import type { TrainingOptions } from "../../src/models/PolicyTrainer.ts"
import { open } from "../../src/models/safetensors/read.ts"
import { sft } from "../../src/objectives/sft.ts"

/** Sequences of the tiny policy's words, of many lengths, by a rule. */
export const someSequences = (count: number, longest = 40): ReadonlyArray<Sequence> =>
  Array.from({ length: count }, (_, row) => {
    const words = (n: number, shift: number) =>
      Array.from({ length: n }, (_, i) => 4 + ((row * 7 + i * 5 + shift) % 17))
    const completion = 1 + ((row * 13) % (longest - 6))
    return { prompt: [1, ...words(1 + (row % 4), 0), 2], completion: [...words(completion - 1, 3), 3] }
  })

/** One step at learning rate 0 by a trainer of its own: losses, and the gradients as AdamW's first moments (0.1 g) have them. */
export const stepOf = Effect.fn("stepOf")(function* (
  policy: Policy,
  sequences: ReadonlyArray<Sequence>,
  options: TrainingOptions,
  aggregation: "token-mean" | "sequence-mean" = "token-mean"
) {
  const fs = yield* FileSystem
  const trainer = yield* policy.trainer(sft({ aggregation }), { learningRate: 0, maxGradientNorm: 1e9 }, options)
  const update = yield* trainer.update({ sequences })
  const path = `${yield* fs.makeTempDirectoryScoped()}/trainer.safetensors`
  yield* trainer.checkpoint(path)
  const saved = yield* open(path)
  const gradients = new Map<string, Float32Array>()
  for (const [name, info] of saved.tensors) if (name.startsWith("m:")) gradients.set(name, yield* saved.float32(info))
  return { ...update, gradients }
}, Effect.scoped)

type Step = Effect.Success<ReturnType<typeof stepOf>>

/** The largest difference between two steps: of loss, norm and entropy, of log-probabilities, of gradients, each against its size. */
export const differenceOf = (a: Step, b: Step): number => {
  const names = ["loss", "grad_norm", "entropy"]
  const scalars = names.map((name) => Math.abs(a.metrics[name]! / b.metrics[name]! - 1))
  const of = (x: ArrayLike<number>, y: ArrayLike<number>) => {
    if (x.length !== y.length) return Number.POSITIVE_INFINITY
    const size = Math.max(...Array.from(y, Math.abs))
    return Math.max(0, ...Array.from(x, (value, i) => Math.abs(value - y[i]!) / (size === 0 ? 1 : size)))
  }
  const tokens = a.logprobs.map((row, i) => of(row, b.logprobs[i]!))
  const gradients = [...b.gradients].map(([name, values]) => of(a.gradients.get(name) ?? [], values))
  return Math.max(...scalars, ...tokens, ...gradients)
}
