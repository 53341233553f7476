/**
 * What a step of each objective costs beside a step of GRPO on the same tokens: one update of the quickstart's policy
 * (64 answers of 56 tokens to prompts of 16), packing, gradients and AdamW included, passes of a reference model not. All
 * take turns, every round beginning with another one; ratios are medians over rounds of times within a round, by the clock
 * and by the processor's time, which others on the machine disturb less.
 *
 *   node bench/objectives.ts [--threads N] [--rounds N] [--rows N] [objective ...]      prints a JSON object an objective
 */
import { parseArgs } from "node:util"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { Effect } from "effect"
import { OnnxCpu } from "../src/device/onnx/OnnxCpu.ts"
import { integers, stream } from "../src/device/random.ts"
import type { BatchValues } from "../src/models/batchInputs.ts"
import { cispo } from "../src/objectives/cispo.ts"
import { copg } from "../src/objectives/copg.ts"
import { cpo } from "../src/objectives/cpo.ts"
import { dpo, hinge, ipo, robustDpo } from "../src/objectives/dpo.ts"
import { dppo } from "../src/objectives/dppo.ts"
import { grpo } from "../src/objectives/grpo.ts"
import { gspo } from "../src/objectives/gspo.ts"
import { ips } from "../src/objectives/ips.ts"
import { irpo } from "../src/objectives/irpo.ts"
import { kto } from "../src/objectives/kto.ts"
import type { TokenObjective } from "../src/objectives/Objective.ts"
import { orpo } from "../src/objectives/orpo.ts"
import { plackettLuceDpo } from "../src/objectives/plackettLuceDpo.ts"
import { reinforce } from "../src/objectives/reinforce.ts"
import { sft } from "../src/objectives/sft.ts"
import { simpo } from "../src/objectives/simpo.ts"
import { tisDpo } from "../src/objectives/tisDpo.ts"
import { median } from "./median.ts"
import { tinyPolicy } from "./works.ts"

const given = { old: "given" } as const
const withKl = { ...given, klCoefficient: 0.001 }

const objectives: Readonly<Record<string, TokenObjective>> = {
  grpo: grpo(given),
  "grpo again": grpo(given),
  "grpo, k3": grpo(withKl),
  "op-grpo": grpo({ ...withKl, dualClip: 3 }),
  "dr-grpo": grpo({ ...given, aggregation: "constant", maxTokens: 72 }),
  "grpo, weighted and masked": grpo({ ...given, weighted: true, masked: true }),
  "grpo, entropy bonus": grpo({ ...given, entropyBonus: 0.01 }),
  gspo: gspo(given),
  cispo: cispo(given),
  "dppo tv": dppo(given),
  "dppo kl": dppo({ ...given, divergence: "kl" }),
  copg: copg(given),
  reinforce: reinforce(given),
  sft: sft(),
  dpo: dpo(),
  "dpo, alpha divergence": dpo({ divergence: "alpha" }),
  hinge: hinge(),
  "robust dpo": robustDpo({ labelSmoothing: 0.1 }),
  ipo: ipo(),
  simpo: simpo(),
  cpo: cpo(),
  orpo: orpo(),
  kto: kto(),
  "plackett-luce dpo": plackettLuceDpo({ size: 4 }),
  irpo: irpo({ size: 4 }),
  "tis-dpo": tisDpo(),
  "ips, product": ips({ groupSize: 4 }),
  "ips, independent": ips({ groupSize: 4, weights: "independent" }),
  "ips, plackett-luce": ips({ groupSize: 4, set: "plackett-luce", propensity: "sequence" })
}

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    threads: { type: "string", default: "1" },
    rounds: { type: "string", default: "15" },
    rows: { type: "string", default: "64" }
  }
})
const rows = Number(values.rows)
const tokens = { prompt: 16, completion: 56 }

/** Values that no loss is upset by: what they are does not change the time. */
const inputsFor = ({ inputs }: TokenObjective): Readonly<Record<string, BatchValues>> =>
  Object.fromEntries(
    Object.entries(inputs).map(([name, { per }]): [string, BatchValues] => {
      if (per === "batch") return [name, rows * tokens.completion]
      const row = (i: number) => (name === "behaviour" || name === "advantages" ? (i % 2 === 0 ? 1 : -1) : 1)
      if (per === "row") return [name, Array.from({ length: rows }, (_, i) => row(i))]
      const value = name.endsWith("Logprobs") ? -6 : 1
      return [name, Array.from({ length: rows }, () => new Float32Array(tokens.completion).fill(value))]
    })
  )

const measured = Effect.gen(function* () {
  const policy = yield* tinyPolicy
  const ids = (name: string, count: number) => [
    ...integers(stream(0, "bench", name), count, 1, policy.config.vocabularySize)
  ]
  const sequences = Array.from({ length: rows }, (_, row) => ({
    prompt: ids(`prompt ${row}`, tokens.prompt),
    completion: ids(`completion ${row}`, tokens.completion)
  }))
  const wanted = Object.entries(objectives).filter(
    ([name]) => name === "grpo" || positionals.length === 0 || positionals.includes(name)
  )
  const ready = yield* Effect.forEach(
    wanted,
    Effect.fnUntraced(function* ([name, objective]) {
      const trainer = yield* policy.trainer(objective, { learningRate: 1e-9 })
      const step = trainer.update({ sequences, inputs: inputsFor(objective) })
      yield* step
      return { name, step, seconds: [] as Array<number>, busy: [] as Array<number> }
    })
  )
  for (let round = 0; round < Number(values.rounds); round++) {
    for (let i = 0; i < ready.length; i++) {
      const one = ready[(i + round) % ready.length]!
      const [start, used] = [process.hrtime.bigint(), process.cpuUsage()]
      yield* one.step
      one.seconds.push(Number(process.hrtime.bigint() - start) / 1e9)
      const { system, user } = process.cpuUsage(used)
      one.busy.push((system + user) / 1e6)
    }
  }
  const base = ready.find(({ name }) => name === "grpo")!
  const against = (own: ReadonlyArray<number>, other: ReadonlyArray<number>) =>
    median(own.map((seconds, round) => seconds / other[round]!))
  for (const { busy, name, seconds } of ready) {
    const ratio = against(seconds, base.seconds)
    const processorRatio = against(busy, base.busy)
    console.log(JSON.stringify({ objective: name, milliseconds: median(seconds) * 1e3, ratio, processorRatio }))
  }
}).pipe(Effect.scoped, Effect.provide(NodeFileSystem.layer))

await Effect.runPromise(Effect.provide(measured, OnnxCpu.layer({ threads: Number(values.threads) })))
