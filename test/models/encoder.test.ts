import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { classify, embed, encoderParameters } from "../../src/models/encoder.ts"
import { encoderConfig } from "../../src/models/encoderConfig.ts"
import { classification } from "../../src/objectives/classification.ts"
import { input } from "../../src/tensor/Tensor.ts"
import { golden } from "./folders.ts"
import { evaluateTiny } from "./tiny.ts"

const reference = golden<
  Readonly<Record<"ids" | "keep" | "segments", ReadonlyArray<ReadonlyArray<number>>>> &
    Readonly<Record<"embeddings" | "logits" | "labels", ReadonlyArray<number>>> & {
      readonly config: object
      readonly loss: number
      readonly gradients: Readonly<Record<string, ReadonlyArray<number>>>
    }
>("tiny-encoders.json")

const close = (a: number, b: number, what: string) =>
  assert.isAtMost(Math.abs(a - b), 2e-5 * Math.max(1, Math.abs(b)), `${what}: ${a} against ${b}`)

const { ids, keep, segments } = reference
const inputs = {
  ids: input("ids", "i32", [2, 7]),
  segments: input("segments", "i32", [2, 7]),
  lengths: input("lengths", "i32", [2])
}
const feeds = {
  ids: { shape: [2, 7], data: ids.flat() },
  segments: { shape: [2, 7], data: segments.flat() },
  lengths: { shape: [2], data: keep.map((row) => row.reduce((a, b) => a + b, 0)) }
}

describe("encoder", () => {
  it.effect("embeddings of padded rows equal transformers' mean pooling, and have length 1", () =>
    Effect.gen(function* () {
      const config = yield* encoderConfig("tiny", JSON.stringify(reference.config))
      const { outputs } = evaluateTiny(
        encoderParameters(config),
        (parameters) => ({ embeddings: embed(config, parameters, inputs) }),
        feeds
      )
      const found = outputs["embeddings"]!.data
      reference.embeddings.forEach((value, i) => {
        close(found[i]!, value, `embedding ${i}`)
      })
      close(Math.hypot(...found.subarray(0, 16)), 1, "length")
    })
  )

  it.effect("a classifier's scores, loss and every gradient equal transformers'", () =>
    Effect.gen(function* () {
      const labels = { architectures: ["BertForSequenceClassification"], id2label: { 0: "a", 1: "b", 2: "c" } }
      const config = yield* encoderConfig("tiny", JSON.stringify({ ...reference.config, ...labels }))
      const { gradients, outputs } = evaluateTiny(
        encoderParameters(config),
        (parameters) => {
          const logits = classify(config, parameters, inputs)
          const { loss } = classification().build(
            { logits, totalRows: input("totalRows", "f32", []) },
            { labels: input("labels", "i32", [2]) }
          )
          return { logits, loss }
        },
        { ...feeds, labels: { shape: [2], data: reference.labels }, totalRows: { shape: [], data: [2] } }
      )
      reference.logits.forEach((value, i) => {
        close(outputs["logits"]!.data[i]!, value, `logit ${i}`)
      })
      close(outputs["loss"]!.data[0]!, reference.loss, "loss")
      assert.sameMembers([...gradients.keys()], Object.keys(reference.gradients))
      for (const [parameter, values] of Object.entries(reference.gradients)) {
        values.forEach((value, i) => {
          close(gradients.get(parameter)![i]!, value, `${parameter} ${i}`)
        })
      }
    })
  )
})
