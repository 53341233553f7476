import { assert, describe, it } from "@effect/vitest"
import { classification } from "../../src/objectives/classification.ts"
import { contrastive } from "../../src/objectives/contrastive.ts"
import { gradient } from "../../src/tensor/gradient.ts"
import { interpret } from "../../src/tensor/interpret.ts"
import { program } from "../../src/tensor/Program.ts"
import { input } from "../../src/tensor/Tensor.ts"
import { golden } from "../models/folders.ts"

const close = (a: number, b: number, tolerance = 1e-6) =>
  assert.isAtMost(Math.abs(a - b), tolerance, `${a} against ${b}`)

const rank = (texts: ReadonlyArray<ReadonlyArray<number>>, rows: number, scale: number) => {
  const width = texts[0]!.length / rows
  const embeddings = input("embeddings", "f32", [texts.length * rows, width])
  const { logs, loss } = contrastive({ scale }).build({ embeddings, rowCount: rows, texts: texts.length }, {})
  const by = gradient(loss, [embeddings])[0]!
  const { outputs } = interpret(program("contrastive", { outputs: { loss, by, ...logs } }), {
    embeddings: { shape: [texts.length * rows, width], data: texts.flat() }
  })
  return {
    loss: outputs["loss"]!.data[0]!,
    by: Array.from(outputs["by"]!.data),
    accuracy: outputs["accuracy"]!.data[0]!
  }
}

describe("contrastive", () => {
  it("equals PyTorch with hard negatives, and its gradient", () => {
    const reference = golden<{
      contrastive: { shape: [number, number]; scale: number; loss: number; gradients: Array<Array<number>> } & Record<
        "anchor" | "positive" | "negative",
        Array<number>
      >
    }>("losses.json").contrastive
    const { anchor, negative, positive, scale, shape } = reference
    const found = rank([anchor, positive, negative], shape[0], scale)
    close(found.loss, reference.loss, 1e-5)
    reference.gradients.flat().forEach((value, i) => {
      close(found.by[i]!, value, 1e-5)
    })
  })

  it("by hand: two orthogonal pairs at scale s lose log(1 + exp(-s))", () => {
    const eye = [1, 0, 0, 1]
    const found = rank([eye, eye], 2, 3)
    close(found.loss, Math.log(1 + Math.exp(-3)), 1e-12)
    assert.strictEqual(found.accuracy, 1)
    // the positives exchanged: log(1 + exp(s)), and no anchor finds its own
    const swapped = rank([eye, [0, 1, 1, 0]], 2, 3)
    close(swapped.loss, Math.log(1 + Math.exp(3)), 1e-12)
    assert.strictEqual(swapped.accuracy, 0)
  })

  it("refuses a scale of 0 and rows of one text", () => {
    assert.throws(() => contrastive({ scale: 0 }), /scale must be > 0/)
    assert.throws(() => rank([[1, 0, 0, 1]], 2, 3), /anchor and positive, not 1 text/)
  })
})

describe("classification", () => {
  it("equals PyTorch, and adds up over micro-batches", () => {
    const reference = golden<{
      classification: { logits: Array<number>; labels: Array<number>; loss: number; gradient: Array<number> }
    }>("losses.json").classification
    const run = (from: number, to: number) => {
      const rows = to - from
      const logits = input("logits", "f32", [rows, 3])
      const labels = input("labels", "i32", [rows])
      const totalRows = input("totalRows", "f32", [])
      const { logs, loss } = classification().build({ logits, totalRows }, { labels })
      const by = gradient(loss, [logits])[0]!
      return interpret(program("classification", { outputs: { loss, by, ...logs } }), {
        logits: { shape: [rows, 3], data: reference.logits.slice(from * 3, to * 3) },
        labels: { shape: [rows], data: reference.labels.slice(from, to) },
        totalRows: { shape: [], data: [4] }
      }).outputs
    }
    const whole = run(0, 4)
    close(whole["loss"]!.data[0]!, reference.loss)
    reference.gradient.forEach((value, i) => {
      close(whole["by"]!.data[i]!, value)
    })
    for (const name of ["loss", "accuracy"]) {
      close(run(0, 1)[name]!.data[0]! + run(1, 4)[name]!.data[0]!, whole[name]!.data[0]!, 1e-9)
    }
  })
})
