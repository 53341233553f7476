import { assert, describe, it } from "@effect/vitest"
import { OnnxCpu } from "../../src/device/onnx/OnnxCpu.ts"
import { classification } from "../../src/objectives/classification.ts"
import { contrastive } from "../../src/objectives/contrastive.ts"
import { gradient } from "../../src/tensor/gradient.ts"
import { type Feed, interpret } from "../../src/tensor/interpret.ts"
import { type Program, program } from "../../src/tensor/Program.ts"
import { input } from "../../src/tensor/Tensor.ts"
import { onDevice, runOnce } from "../device/support.ts"
import { golden } from "../models/folders.ts"
import { asRows } from "./evaluate.ts"

const close = (a: number, b: number, tolerance = 1e-6) =>
  assert.isAtMost(Math.abs(a - b), tolerance, `${a} against ${b}`)

type Outputs = Readonly<Record<string, { readonly data: ArrayLike<number> }>>
const read = (outputs: Outputs) => ({
  loss: outputs["loss"]!.data[0]!,
  by: Array.from(outputs["by"]!.data),
  accuracy: outputs["accuracy"]!.data[0]!
})
/** In float32. */
const onCpu = async (made: Program, feeds: Readonly<Record<string, Feed>>) =>
  read(await onDevice(OnnxCpu.layer({ threads: 1 }))(runOnce(made, feeds)))

const ranking = (texts: ReadonlyArray<ReadonlyArray<number>>, rows: number, scale: number) => {
  const width = texts[0]!.length / rows
  const embeddings = input("embeddings", "f32", [texts.length * rows, width])
  const { logs, loss } = contrastive({ scale }).build({ embeddings, rowCount: rows, texts: texts.length }, {})
  const by = gradient(loss, [embeddings])[0]!
  const feeds = { embeddings: { shape: [texts.length * rows, width], data: texts.flat() } }
  return [program("contrastive", { outputs: { loss, by, ...logs } }), feeds] as const
}
const rank = (...asked: Parameters<typeof ranking>) => read(interpret(...ranking(...asked)).outputs)

describe("contrastive", () => {
  it("equals PyTorch with hard negatives, and its gradient, in float32 too", async () => {
    const reference = golden<{
      contrastive: { shape: [number, number]; scale: number; loss: number; gradients: Array<Array<number>> } & Record<
        "anchor" | "positive" | "negative",
        Array<number>
      >
    }>("losses.json").contrastive
    const { anchor, negative, positive, scale, shape } = reference
    const texts = [anchor, positive, negative]
    for (const found of [rank(texts, shape[0], scale), await onCpu(...ranking(texts, shape[0], scale))]) {
      close(found.loss, reference.loss, 1e-5)
      reference.gradients.flat().forEach((value, i) => {
        close(found.by[i]!, value, 1e-5)
      })
    }
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

  it("its derivatives are those of central differences; twice the scale is embeddings of length sqrt 2", () => {
    const texts = [
      [0.6, 0.8, 1, 0],
      [0.8, 0.6, 0.28, 0.96],
      [0, 1, -0.6, 0.8]
    ]
    const { by } = rank(texts, 2, 3)
    const h = 1e-6
    texts.forEach((row, t) => {
      row.forEach((x, i) => {
        const at = (step: number) => rank(texts.with(t, row.with(i, x + step)), 2, 3).loss
        close(by[t * row.length + i]!, (at(h) - at(-h)) / (2 * h), 1e-7)
      })
    })
    const longer = texts.map((row) => row.map((x) => x * Math.SQRT2))
    close(rank(texts, 2, 6).loss, rank(longer, 2, 3).loss, 1e-12)
  })

  it("two rows without negatives are logistic regression on the difference of two scores", () => {
    // Row i has the scores s_ii and s_ij, and loses log(1 + exp(s_ij - s_ii)).
    const [anchors, positives, scale] = [[0.6, 0.8, 1, 0], [0.8, 0.6, 0.28, 0.96], 3]
    const score = (i: number, j: number) =>
      scale * (anchors[2 * i]! * positives[2 * j]! + anchors[2 * i + 1]! * positives[2 * j + 1]!)
    const expected = [0, 1].map((i) => Math.log1p(Math.exp(score(i, 1 - i) - score(i, i))))
    close(rank([anchors, positives], 2, scale).loss, (expected[0]! + expected[1]!) / 2, 1e-12)
  })

  it("refuses a scale of 0 and rows of one text", () => {
    assert.throws(() => contrastive({ scale: 0 }), /scale must be > 0/)
    assert.throws(() => rank([[1, 0, 0, 1]], 2, 3), /anchor and positive, not 1 text/)
  })
})

/** The classification loss of some rows of class scores, and its derivative; of a batch of so many rows. */
const classifying = (
  scores: ReadonlyArray<ReadonlyArray<number>>,
  right: ReadonlyArray<number>,
  total = scores.length
) => {
  const shape = [scores.length, scores[0]!.length]
  const logits = input("logits", "f32", shape)
  const labels = input("labels", "i32", [scores.length])
  const totalRows = input("totalRows", "f32", [])
  const { logs, loss } = classification().build({ logits, totalRows }, { labels })
  const by = gradient(loss, [logits])[0]!
  const feeds = {
    logits: { shape, data: scores.flat() },
    labels: { shape: [scores.length], data: right },
    totalRows: { shape: [], data: [total] }
  }
  return [program("classification", { outputs: { loss, by, ...logs } }), feeds] as const
}
const classify = (...asked: Parameters<typeof classifying>) => read(interpret(...classifying(...asked)).outputs)

describe("classification", () => {
  it("by hand: scores log 1, log 2, log 5 are probabilities 1/8, 2/8, 5/8; two classes are logistic regression", () => {
    const row = [0, Math.log(2), Math.log(5)]
    const found = classify([row, row], [2, 1])
    close(found.loss, (Math.log(8 / 5) + Math.log(4)) / 2, 1e-12)
    assert.strictEqual(found.accuracy, 0.5)
    // (probability - 1 of the right class) / rows
    const expected = [1 / 8, 2 / 8, -3 / 8, 1 / 8, -6 / 8, 5 / 8].map((x) => x / 2)
    found.by.forEach((x, i) => {
      close(x, expected[i]!, 1e-12)
    })
    close(classify([[0.3, 1.1]], [0]).loss, Math.log1p(Math.exp(0.8)), 1e-12)
  })

  it("equals PyTorch, in float32 too, and adds up over micro-batches", async () => {
    const reference = golden<{
      classification: { logits: Array<number>; labels: Array<number>; loss: number; gradient: Array<number> }
    }>("losses.json").classification
    const rows = asRows(reference.logits, [4, 3])
    const whole = classify(rows, reference.labels)
    for (const [found, tolerance] of [
      [whole, 1e-6],
      [await onCpu(...classifying(rows, reference.labels)), 1e-5]
    ] as const) {
      close(found.loss, reference.loss, tolerance)
      reference.gradient.forEach((value, i) => {
        close(found.by[i]!, value, tolerance)
      })
    }
    const parts = [
      [0, 1],
      [1, 4]
    ].map(([from, to]) => classify(rows.slice(from, to), reference.labels.slice(from, to), 4))
    for (const name of ["loss", "accuracy"] as const) {
      close(parts[0]![name] + parts[1]![name], whole[name], 1e-9)
    }
  })
})
