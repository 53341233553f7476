import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { decoderParameters, headWeight, hidden } from "../../src/models/decoder.ts"
import { decoderConfig } from "../../src/models/decoderConfig.ts"
import { sft } from "../../src/objectives/sft.ts"
import { linearLogprobs } from "../../src/tensor/composites/linearLogprobs.ts"
import { gather } from "../../src/tensor/ops/indexing.ts"
import { asRows } from "../../src/tensor/ops/shape.ts"
import { input } from "../../src/tensor/Tensor.ts"
import { golden } from "./folders.ts"
import { evaluateTiny } from "./tiny.ts"

interface Case {
  readonly config: Readonly<Record<string, unknown>>
  readonly temperature: number
  readonly logprobs: ReadonlyArray<number>
  readonly entropies: ReadonlyArray<number>
  readonly loss: number
  readonly gradients: Readonly<Record<string, ReadonlyArray<number>>>
}
const reference = golden<{
  ids: ReadonlyArray<ReadonlyArray<number>>
  completion: ReadonlyArray<ReadonlyArray<number>>
  cases: Readonly<Record<string, Case>>
}>("tiny-decoders.json")

const close = (a: number, b: number, what: string) =>
  assert.isAtMost(Math.abs(a - b), 2e-5 * Math.max(1, Math.abs(b)), `${what}: ${a} against ${b}`)

describe("decoder", () => {
  it.effect.each(Object.keys(reference.cases))(
    "%s: token log-probabilities, entropies and every gradient equal transformers'",
    (name) =>
      Effect.gen(function* () {
        const expected = reference.cases[name]!
        const config = yield* decoderConfig(name, JSON.stringify(expected.config))
        const table = decoderParameters(config)
        const { completion, ids } = reference
        const time = ids[0]!.length
        // token t of row r is predicted by the hidden state before it
        const tokens = ids.flatMap((row, r) =>
          row.flatMap((id, t) =>
            completion[r]![t] === 1 ? [{ r, at: r * time + t - 1, id, flat: r * (time - 1) + t - 1 }] : []
          )
        )
        const { gradients, outputs } = evaluateTiny(
          table,
          (parameters) => {
            const states = asRows(hidden(config, parameters, input("ids", "i32", [2, time])))
            const rows = gather(states, input("at", "i32", ["tokens"]))
            const { entropy, logprob } = linearLogprobs(
              rows,
              headWeight(config, parameters),
              input("targets", "i32", ["tokens"]),
              {
                temperature: input("temperature", "f32", [])
              }
            )
            const { loss } = sft().build(
              {
                logprobs: logprob,
                entropies: entropy,
                mask: input("mask", "f32", ["tokens"]),
                rows: input("rows", "i32", ["tokens"]),
                rowCount: 2,
                groupCount: 2,
                totalTokens: input("totalTokens", "f32", []),
                totalRows: input("totalRows", "f32", [])
              },
              {}
            )
            return { loss, logprob, entropy }
          },
          {
            ids: { shape: [2, time], data: ids.flat() },
            at: { shape: [tokens.length], data: tokens.map(({ at }) => at) },
            targets: { shape: [tokens.length], data: tokens.map(({ id }) => id) },
            mask: { shape: [tokens.length], data: tokens.map(() => 1) },
            rows: { shape: [tokens.length], data: tokens.map(({ r }) => r) },
            totalTokens: { shape: [], data: [tokens.length] },
            totalRows: { shape: [], data: [2] },
            temperature: { shape: [], data: [expected.temperature] }
          }
        )
        tokens.forEach(({ flat }, i) => {
          close(outputs["logprob"]!.data[i]!, expected.logprobs[flat]!, `logprob ${i}`)
          close(outputs["entropy"]!.data[i]!, expected.entropies[flat]!, `entropy ${i}`)
        })
        close(outputs["loss"]!.data[0]!, expected.loss, "loss")
        assert.sameMembers([...gradients.keys()], Object.keys(expected.gradients))
        for (const [parameter, values] of Object.entries(expected.gradients)) {
          values.forEach((value, i) => {
            close(gradients.get(parameter)![i]!, value, `${parameter} ${i}`)
          })
        }
      })
  )
})
