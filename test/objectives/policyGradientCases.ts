/** The batch of the reference numbers of policy-gradient losses, and what their tests compare with. */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { cispo } from "../../src/objectives/cispo.ts"
import { copg } from "../../src/objectives/copg.ts"
import { dppo } from "../../src/objectives/dppo.ts"
import { grpo } from "../../src/objectives/grpo.ts"
import { gspo } from "../../src/objectives/gspo.ts"
import type { TokenObjective } from "../../src/objectives/Objective.ts"
import type { PolicyGradientSettings } from "../../src/objectives/policyGradient.ts"
import { reinforce } from "../../src/objectives/reinforce.ts"
import { root } from "../support/imports.ts"
import { within } from "./close.ts"
import { asRows, type Rows } from "./evaluate.ts"

export interface Reference {
  readonly loss: number
  readonly gradient: ReadonlyArray<number>
  readonly logs: Readonly<Record<string, number>>
}
export type Flat = ReadonlyArray<number>
const file = join(root, "test/golden/objectives/policyGradient.json")
export const golden: Record<"logp" | "old" | "ref" | "mask" | "weights" | "advantages", Flat> &
  Record<"trl" | "formula", Readonly<Record<string, Reference>>> & {
    readonly shape: readonly [number, number]
    readonly maxTokens: number
  } = JSON.parse(readFileSync(file, "utf8"))

export const { close, closeAll } = within(1e-9)

export const rowsOf = (values: Flat) => asRows(values, golden.shape)
/** The batch of the reference numbers; its log-probabilities replaced, if given. */
export const batch = (logp: Flat = golden.logp, inputs: Rows["inputs"] = {}): Rows => ({
  logprobs: rowsOf(logp),
  mask: rowsOf(golden.mask),
  inputs: {
    advantages: golden.advantages,
    oldLogprobs: rowsOf(golden.old),
    refLogprobs: rowsOf(golden.ref),
    weights: rowsOf(golden.weights),
    tokensPerUpdate: 20,
    ...inputs
  }
})
export const given = { old: "given" } as const

export const losses: Readonly<Record<string, (settings: PolicyGradientSettings) => TokenObjective>> = {
  grpo,
  gspo,
  cispo,
  dppo,
  copg,
  reinforce
}
