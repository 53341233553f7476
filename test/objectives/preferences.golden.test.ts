/** Losses on pairs, lists and single judgements against TRL's own functions, in float64 and in float32 on the device. */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { describe, it } from "vitest"
import { OnnxCpu } from "../../src/device/onnx/OnnxCpu.ts"
import { cpo } from "../../src/objectives/cpo.ts"
import { dpo, hinge, ipo, robustDpo } from "../../src/objectives/dpo.ts"
import { irpo } from "../../src/objectives/irpo.ts"
import { kto } from "../../src/objectives/kto.ts"
import type { TokenObjective } from "../../src/objectives/Objective.ts"
import { orpo } from "../../src/objectives/orpo.ts"
import { plackettLuceDpo } from "../../src/objectives/plackettLuceDpo.ts"
import { simpo } from "../../src/objectives/simpo.ts"
import { tisDpo } from "../../src/objectives/tisDpo.ts"
import { onDevice, runOnce } from "../device/support.ts"
import { root } from "../support/imports.ts"
import { within } from "./close.ts"
import { asRows, evaluateTokens, type Rows, tokenProgram } from "./evaluate.ts"

const { close, closeAll } = within(1e-6)

interface Golden {
  readonly tokens: number
  readonly mask: ReadonlyArray<number>
  readonly logp: ReadonlyArray<number>
  readonly ref: ReadonlyArray<number>
  readonly labels: ReadonlyArray<number>
  readonly present: ReadonlyArray<number>
  readonly relevance: ReadonlyArray<number>
  readonly tokenWeights: ReadonlyArray<number>
  readonly cases: Readonly<
    Record<
      string,
      {
        readonly loss: number
        readonly gradient: ReadonlyArray<number>
        readonly logs: Readonly<Record<string, number>>
      } & {
        readonly mismatched?: number
      }
    >
  >
}
const golden = JSON.parse(readFileSync(join(root, "test/golden/objectives/preferences.json"), "utf8")) as Golden
const rowsOf = (flat: ReadonlyArray<number>) => asRows(flat, [8, golden.tokens])

/** Rows 0-3 are chosen, 4-7 rejected; a batch has the two of a pair one after the other. */
const interleaved = [0, 4, 1, 5, 2, 6, 3, 7]
const inOrder = [0, 1, 2, 3, 4, 5, 6, 7]

/** In the float64 interpreter and in float32 on the device: loss, gradient and metrics are the golden ones. */
const againstGolden = async (
  name: string,
  objective: TokenObjective,
  order: ReadonlyArray<number>,
  inputs: Rows["inputs"] = {},
  mask = rowsOf(golden.mask)
) => {
  const { gradient, logs, loss } = golden.cases[name]!
  const take = <A>(rows: ReadonlyArray<A>) => order.map((row) => rows[row]!)
  const rows: Rows = {
    logprobs: take(rowsOf(golden.logp)),
    mask: take(mask),
    inputs: { refLogprobs: take(rowsOf(golden.ref)), ...inputs }
  }
  const { feeds, program, read } = tokenProgram(objective, rows)
  const inFloat64 = evaluateTokens(objective, rows)
  const inFloat32 = read(await onDevice(OnnxCpu.layer({ threads: 1 }))(runOnce(program, feeds)))
  for (const found of [inFloat64, inFloat32]) {
    close(found.loss, loss, 1e-5, name)
    closeAll(found.by, take(rowsOf(gradient)).flat(), 1e-5, `${name}, derivatives`)
    for (const [log, value] of Object.entries(logs))
      if (log !== "kl") close(found.log(log), value, 1e-5, `${name} ${log}`)
  }
  return inFloat32
}

const chosenTokens = golden.mask.slice(0, 4 * golden.tokens).reduce((sum, x) => sum + x, 0)

describe("equal TRL", () => {
  it.each<[string, TokenObjective]>([
    ["dpo", dpo()],
    ["dpo beta 0.5", dpo({ beta: 0.5 })],
    ["dpo with likelihood", dpo({ beta: 0.2, nllWeight: 0.8 })],
    ["hinge beta 0.7", hinge({ beta: 0.7 })],
    ["ipo", ipo()],
    ["robust smoothing 0.2", robustDpo({ beta: 0.3, labelSmoothing: 0.2 })],
    ["dpo forward-kl", dpo({ beta: 0.3, divergence: "forward-kl" })],
    ["dpo js", dpo({ beta: 0.3, divergence: "js" })],
    ["dpo alpha 0.3", dpo({ beta: 0.3, divergence: "alpha", alpha: 0.3 })],
    ["ipo js", ipo({ beta: 0.2, divergence: "js" })],
    ["cpo", cpo()],
    ["cpo smoothing 0.1", cpo({ beta: 0.4, labelSmoothing: 0.1, nllWeight: 0.5 })],
    ["simpo", simpo()],
    ["cpo-simpo", simpo({ beta: 2, gamma: 0.5, nllWeight: 0.7 })],
    ["orpo", orpo()],
    ["tis-dpo", tisDpo({ beta: 0.2 })]
  ])("%s: loss, gradient, metrics", async (name, objective) => {
    const found = await againstGolden(name, objective, interleaved, {
      chosenTokens,
      tokenWeights: interleaved.map((row) => rowsOf(golden.tokenWeights)[row]!)
    })
    // The fourth pair's texts are equal: no gradient by the difference of its answers.
    const [chosen, rejected] = [6, 7].map((row) => found.by.slice(row * 5, row * 5 + 5))
    if (!/cpo|orpo|tis|likelihood/.test(name))
      closeAll(
        chosen!,
        rejected!.map((value) => -value),
        1e-9
      )
  })

  it.each([
    ["kto", kto({ beta: 0.2, undesirableWeight: 1.33 })],
    ["kto with a negative estimate", kto({ beta: 0.2 })]
  ])("%s: loss, gradient, metrics", async (name, objective) => {
    await againstGolden(name, objective, inOrder, {
      labels: golden.labels,
      desirable: golden.labels.reduce((sum, x) => sum + x, 0),
      kl: golden.cases[name]!.mismatched!
    })
  })

  it.each([
    ["pl-dpo", plackettLuceDpo({ size: 4, beta: 0.3 })],
    ["irpo", irpo({ size: 4, beta: 0.7, gain: "exponential" })],
    ["irpo of votes", irpo({ size: 4, beta: 0.3, lengths: "sums" })]
  ])("%s, written out in torch: loss and gradient; a list with an empty place", async (name, objective) => {
    const mask = rowsOf(golden.mask).map((row, k) => (golden.present[k] === 1 ? row : row.map(() => 0)))
    await againstGolden(name, objective, inOrder, { present: golden.present, relevance: golden.relevance }, mask)
  })
})
