/** The table of operations: derivatives against central differences, and whether the table is complete. */
import { describe, expect, test } from "vitest"
import { interpret } from "../../src/tensor/interpret.ts"
import { binaryRows, unaryRows } from "../../src/tensor/ops/elementwise.ts"
import { ops } from "../../src/tensor/ops.ts"
import { countOps, expand } from "../../src/tensor/Program.ts"
import type { Case } from "./cases.ts"
import { casePrograms, cases, checkBackend, generator } from "./cases.ts"

const STEP = 3e-4
/** Elements of each input that are moved. */
const PROBES = 12

const checkGradient = (item: Case, seed: number) => {
  const { forward, feeds, backward, backwardFeeds } = casePrograms(item, seed, seed % 2 === 1)
  if (backward === undefined) return
  const loss = (moved: typeof feeds) => {
    const { outputs } = interpret(forward, moved)
    return Object.entries(outputs).reduce((sum, [name, { data }]) => {
      const weights = backwardFeeds[name.replace("y", "w")]
      return weights === undefined ? sum : data.reduce((s, v, i) => s + v * weights.data[i]!, sum)
    }, 0)
  }
  const derivatives = interpret(backward, backwardFeeds).outputs
  const random = generator(seed + 5)
  for (const [name, { data }] of Object.entries(derivatives)) {
    const feed = feeds[name]!
    const probes =
      data.length <= PROBES ? data.keys() : Array.from({ length: PROBES }, () => Math.floor(random() * data.length))
    for (const at of probes) {
      const moved = (by: number) => ({
        ...feeds,
        [name]: { shape: feed.shape, data: Float64Array.from(feed.data).with(at, feed.data[at]! + by) }
      })
      // fourth order: the error is of the order of STEP^4
      const slope =
        (8 * (loss(moved(STEP)) - loss(moved(-STEP))) - loss(moved(2 * STEP)) + loss(moved(-2 * STEP))) / (12 * STEP)
      const error = Math.abs(slope - data[at]!) / Math.max(1, Math.abs(slope))
      expect(
        error,
        `${item.name}, seed ${seed}: d/d${name}[${at}] is ${data[at]}, differences give ${slope}`
      ).toBeLessThan(1e-7)
    }
  }
}

describe("derivatives agree with central differences", () => {
  for (const item of cases.filter((item) => item.gradient !== false))
    test(item.name, () => {
      for (const seed of [1, 2, 3, 4]) checkGradient(item, seed)
    })
})

test("every primitive and every function stands in the table", () => {
  const seen = new Set<string>()
  for (const item of cases) {
    const { forward, backward } = casePrograms(item, 1, true)
    for (const part of [forward, backward]) {
      if (part === undefined) continue
      for (const name of Object.keys(countOps(expand(part).nodes))) seen.add(name)
    }
  }
  const families = new Set(["unary", "binary", "compare", "reduce"])
  // what a program never holds: it is resolved when the program is made
  const resolved = new Set(["stopGradient", "saveName"])
  const wanted = [
    ...Object.keys(ops()).filter((kind) => !families.has(kind) && !resolved.has(kind)),
    ...Object.keys(unaryRows),
    ...Object.keys(binaryRows),
    "reduce.sum",
    "reduce.max",
    "reduce.min"
  ]
  expect(wanted.filter((name) => !seen.has(name))).toEqual([])
})

checkBackend("the interpreter itself", (program, feeds) => interpret(program, feeds).outputs, { seeds: [1, 2] })
