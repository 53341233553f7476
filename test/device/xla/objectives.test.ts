/**
 * Every objective on XLA's CPU plugin: loss, everything that is logged and the derivative by every log-probability against the
 * float64 interpreter, with groups and tokens that are filled up to their buckets.
 */
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { ManagedRuntime } from "effect"
import { afterAll, describe, expect, it } from "vitest"
import { normals, stream, uniforms } from "../../../src/device/random.ts"
import { bucketOf } from "../../../src/device/xla/buckets.ts"
import { classification } from "../../../src/objectives/classification.ts"
import { contrastive } from "../../../src/objectives/contrastive.ts"
import type { TokenObjective } from "../../../src/objectives/Objective.ts"
import { multiplyDims } from "../../../src/tensor/Dim.ts"
import { gradient } from "../../../src/tensor/gradient.ts"
import { type Feed, interpret } from "../../../src/tensor/interpret.ts"
import { type Program, program } from "../../../src/tensor/Program.ts"
import { input } from "../../../src/tensor/Tensor.ts"
import { type Rows, tokenProgram } from "../../objectives/evaluate.ts"
import { everyObjective } from "../../objectives/everyObjective.ts"
import { root } from "../../support/imports.ts"
import { runOnce } from "../support.ts"
import { absent, titled, xlaCpu } from "./support.ts"

/** Not a bucket's largest size, so that programs are padded. */
const groups = 17

/** Values of an input that mean something to every objective that has one of this name. */
const valueOf = (name: string, i: number, random: number, size: number): number => {
  if (name.endsWith("Logprobs") || name === "behaviour") return -1 - 2 * random
  if (name === "advantages" || name === "offsets") return 2 * random - 1
  if (name === "labels") return i % 2
  if (name === "relevance") return size - 1 - (i % size)
  if (name === "present" || name === "distinct") return 1
  if (name === "kept") return i % 5 === 0 ? 0 : 1
  return 0.25 + random
}

/** Rows of one to three tokens of a policy and its reference, some hidden by the mask. */
const batchFor = ({ groupSize: size = 1, inputs }: TokenObjective): Rows => {
  const count = groups * size
  const rows = Array.from({ length: count }, (_, i) => 1 + ((i * 7) % 3))
  const perToken = (name: string, value: (random: number, i: number) => number) =>
    rows.map((length, i) => [...uniforms(stream(0, name, i), length)].map((random) => value(random, i)))
  const given = Object.entries(inputs).map(([name, { per }]): [string, NonNullable<Rows["inputs"]>[string]] => {
    if (per === "batch") return [name, name === "kl" ? 0.1 : count]
    if (per === "token") return [name, perToken(name, (random, i) => valueOf(name, i, random, size))]
    const random = uniforms(stream(0, name), count)
    return [name, rows.map((_, i) => valueOf(name, i, random[i]!, size))]
  })
  return {
    logprobs: perToken("policy", (random) => -0.5 - 2 * random),
    mask: perToken("mask", (random) => (random < 0.1 ? 0 : 1)),
    inputs: Object.fromEntries(given)
  }
}

const texts = 3
/** The objectives of encoders and classifiers, on what their models put out. */
const others = (): ReadonlyArray<readonly [name: string, program: Program, feeds: Readonly<Record<string, Feed>>]> => {
  const [width, classes] = [8, 3]
  const rowCount = multiplyDims("groups", 1)
  const counted = input("counted", "i32", [rowCount])
  const embeddings = input("embeddings", "f32", [multiplyDims(rowCount, texts), width])
  const ranked = contrastive().build({ embeddings, rowCount, texts }, {})
  const states = [...normals(stream(0, "embeddings"), texts * groups * width)]
  const unit = states.map((x, i) => x / Math.hypot(...states.slice(i - (i % width), i - (i % width) + width)))
  const logits = input("logits", "f32", [rowCount, classes])
  const labels = input("labels", "i32", [rowCount])
  const totalRows = input("totalRows", "f32", [])
  const classified = classification().build({ logits, totalRows }, { labels })
  const none = { shape: [groups], data: Array.from({ length: groups }, () => 0) }
  return [
    [
      "contrastive",
      program("contrastive", {
        inputs: [embeddings, counted],
        outputs: { loss: ranked.loss, by: gradient(ranked.loss, [embeddings])[0]!, ...ranked.logs }
      }),
      { embeddings: { shape: [texts * groups, width], data: unit }, counted: none }
    ],
    [
      "classification",
      program("classification", {
        outputs: { loss: classified.loss, by: gradient(classified.loss, [logits])[0]!, ...classified.logs }
      }),
      {
        logits: { shape: [groups, classes], data: [...normals(stream(0, "logits"), groups * classes)] },
        labels: { shape: [groups], data: Array.from({ length: groups }, (_, i) => i % classes) },
        totalRows: { shape: [], data: [groups] }
      }
    ]
  ]
}

it("names every objective there is", () => {
  const folder = join(root, "src/objectives")
  const written = readdirSync(folder).flatMap((file) => {
    const text = readFileSync(join(folder, file), "utf8")
    return [...text.matchAll(/export const (\w+) = \([^)]*\): (?:Token|Embedding|Logit)Objective\b/g)].map(
      ([, name]) => name!
    )
  })
  expect(written.length).toBeGreaterThan(20)
  const files = ["everyObjective.ts", "../device/xla/objectives.test.ts"]
  const tried = files.map((file) => readFileSync(join(root, "test/objectives", file), "utf8")).join()
  expect(written.filter((name) => !new RegExp(`[^\\w]${name}\\(`).test(tried))).toEqual([])
})

describe.skipIf(absent !== undefined)(titled("objectives on XLA"), () => {
  const runtime = ManagedRuntime.make(xlaCpu)
  afterAll(() => runtime.dispose())
  const agrees = async (own: Program, feeds: Readonly<Record<string, Feed>>) => {
    const expected = interpret(own, feeds).outputs
    const found = await runtime.runPromise(runOnce(own, feeds))
    expect(Object.keys(found).toSorted()).toEqual(Object.keys(expected).toSorted())
    for (const [name, { data }] of Object.entries(expected)) {
      const largest = data.reduce((most, x) => Math.max(most, Math.abs(x)), 1e-3)
      data.forEach((x, i) => {
        const difference = Math.abs(x - found[name]!.data[i]!)
        if (!(difference <= 1e-4 * largest)) throw new Error(`${name} ${i}: ${found[name]!.data[i]}, expected ${x}`)
      })
    }
    expect(expected["by"]!.data.some((x) => x !== 0)).toBe(true)
  }

  it("are padded here", () => {
    expect(bucketOf("groups", groups).high).toBeGreaterThan(groups)
  })

  it.each(everyObjective)("%s", async (_, objective) => {
    const { feeds, program } = tokenProgram(objective, batchFor(objective), { named: true })
    await agrees(program, feeds)
  })

  it.each(others())("%s", (_, own, feeds) => agrees(own, feeds))
})
