/** Layers of parameters: dotted keys, merging, unions. */

import { Schema } from "effect"
import * as fc from "fast-check"
import { describe, expect, it } from "vitest"
import { emptyMap, type Located, locate, plain } from "../../src/dsl/located.ts"
import * as Param from "../../src/dsl/param.ts"
import { applicable, expand, flatten, merge, unionDefaults, unknownKeys } from "../../src/dsl/params.ts"
import { encodedAst, has, knownPaths } from "../../src/dsl/paths.ts"
import type { Place } from "../../src/dsl/problems.ts"

const at: Place = { file: "a.yaml", line: 1, col: 1, path: "" }
const node = (value: unknown): Located => locate(value, at)
const opened = (value: unknown): unknown => plain(expand(node(value)).value)

/** Nested objects of words, numbers and lists; never an empty object, which has no leaves to speak of. */
const tree = fc.letrec<{ tree: Record<string, unknown>; value: unknown }>((tie) => ({
  tree: fc.dictionary(fc.constantFrom("a", "b", "c", "steps"), tie("value"), {
    minKeys: 1,
    maxKeys: 4,
    noNullPrototype: true
  }),
  value: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    fc.integer(),
    fc.constant("word"),
    fc.array(fc.integer(), { maxLength: 2 }),
    tie("tree")
  )
})).tree

describe("expand", () => {
  it("reads nested, dotted and mixed spelling alike", () => {
    const want = { grpo: { steps: 3, reward: { coverage: { weight: 1, shape: "linear" } } } }
    expect(opened({ grpo: { steps: 3, reward: { coverage: { weight: 1, shape: "linear" } } } })).toEqual(want)
    expect(
      opened({ "grpo.steps": 3, "grpo.reward.coverage.weight": 1, "grpo.reward.coverage.shape": "linear" })
    ).toEqual(want)
    expect(
      opened({ "grpo.reward": { "coverage.weight": 1 }, grpo: { steps: 3 }, "grpo.reward.coverage.shape": "linear" })
    ).toEqual(want)
  })

  it("undoes flatten, and flatten undoes it", () => {
    fc.assert(
      fc.property(tree, (value) => {
        const flat = Object.fromEntries(flatten(node(value)).map(([path, entry]) => [path, plain(entry.value)]))
        expect(Object.keys(flat).every((path) => !Array.isArray(flat[path]) || path !== "")).toBe(true)
        expect(opened(flat)).toEqual(value)
      })
    )
  })

  it("refuses a leaf that a layer spells twice, above or below a leaf too", () => {
    const messages = (value: unknown) => expand(node(value)).problems.map((p) => p.message)
    expect(messages({ "a.b": 1, a: { b: 2 } })).toEqual([expect.stringContaining("a.b is spelt twice")])
    expect(messages({ a: 1, "a.b": 2 })).toEqual([expect.stringContaining("a.b stands below a key that has a value")])
    expect(messages({ "a.b": 2, a: 1 })).toEqual([expect.stringContaining("a is spelt twice")])
    expect(messages({ "a..b": 1, ".": 2 })).toHaveLength(2)
    expect(messages({ "a.b": 1, "a.c": 2, a: { d: 3 } })).toEqual([])
  })
})

describe("merge", () => {
  const over = (...layers: ReadonlyArray<unknown>) => plain(layers.map(node).reduce((a, b) => merge(a, b)))

  it("merges objects and replaces lists and leaves", () => {
    expect(over({ a: { b: 1, c: 2 }, l: [1, 2] }, { a: { c: 3 }, l: [4] })).toEqual({ a: { b: 1, c: 3 }, l: [4] })
    expect(over({ a: { b: 1 } }, { a: 5 })).toEqual({ a: 5 })
    expect(over({ a: 5 }, { a: { b: 1 } })).toEqual({ a: { b: 1 } })
  })

  it("with itself changes nothing, over nothing neither", () => {
    fc.assert(
      fc.property(tree, (value) => {
        expect(over(value, value)).toEqual(value)
        expect(over({}, value)).toEqual(value)
        expect(over(value, {})).toEqual(value)
      })
    )
  })

  it("is associative where layers agree what is an object", () => {
    // Leaf names and section names are disjoint here, as a Schema has it.
    const leaves = fc.dictionary(fc.constantFrom("x", "y"), fc.integer({ min: 0, max: 9 }), { noNullPrototype: true })
    const layer = fc.record(
      { s: fc.record({ t: leaves }, { requiredKeys: [] }), u: leaves },
      { requiredKeys: [], noNullPrototype: true }
    )
    fc.assert(
      fc.property(layer, layer, layer, (a, b, c) => {
        const [x, y, z] = [node(a), node(b), node(c)]
        expect(plain(merge(merge(x, y), z))).toEqual(plain(merge(x, merge(y, z))))
      })
    )
  })

  it("keeps where the last layer said it", () => {
    const old = locate({ a: { b: 1, c: 2 } }, { ...at, file: "base.yaml" })
    const merged = merge(old, node({ a: { b: 3 } }))
    const files = flatten(merged).map(([path, entry]) => [path, entry.value.at.file])
    expect(files).toEqual([
      ["a.b", "a.yaml"],
      ["a.c", "base.yaml"]
    ])
  })
})

const params = Schema.Struct({
  data: Param.struct({
    source: Param.choice(
      "kind",
      { world: { n: Param.int(100, "n") }, file: { path: Schema.String } },
      "world",
      "source"
    )
  }),
  untagged: Schema.optionalKey(
    Schema.Union([Schema.Struct({ path: Schema.String }), Schema.Struct({ world: Schema.Int, seed: Schema.Int })])
  ),
  steps: Param.int(3, "steps"),
  named: Schema.optionalKey(Schema.Record(Schema.String, Schema.Struct({ weight: Schema.Finite })))
})
const ast = encodedAst(params)

describe("unions", () => {
  const over = (...layers: ReadonlyArray<unknown>) => plain(layers.map(node).reduce((a, b) => merge(a, b, ast)))

  it("another discriminator replaces the object, the same one merges", () => {
    const world = { data: { source: { kind: "world", n: 5 } } }
    expect(over(world, { data: { source: { kind: "file", path: "x" } } })).toEqual({
      data: { source: { kind: "file", path: "x" } }
    })
    expect(over(world, { data: { source: { kind: "world" } } })).toEqual(world)
    expect(over(world, { data: { source: { n: 6 } } })).toEqual({ data: { source: { kind: "world", n: 6 } } })
  })

  it("keys that only another member has replace too", () => {
    expect(over({ data: { source: { kind: "world", n: 5 } } }, { data: { source: { path: "x" } } })).toEqual({
      data: { source: { path: "x" } }
    })
    expect(over({ untagged: { world: 1 } }, { untagged: { path: "x" } })).toEqual({ untagged: { path: "x" } })
    expect(over({ untagged: { world: 1 } }, { untagged: { seed: 2 } })).toEqual({ untagged: { world: 1, seed: 2 } })
  })

  it("a default variant can be changed by one key", () => {
    const merged = merge(unionDefaults(ast, at), node({ data: { source: { n: 7 } } }), ast)
    expect(plain(merged)).toEqual({ data: { source: { kind: "world", n: 7 } } })
  })
})

describe("paths", () => {
  it("knows sections and leaves of every member", () => {
    expect(knownPaths(ast)).toEqual(
      expect.arrayContaining([
        "data",
        "data.source",
        "data.source.kind",
        "data.source.n",
        "data.source.path",
        "untagged.seed",
        "steps"
      ])
    )
    expect(has(ast, ["data", "source", "n"])).toBe(true)
    expect(has(ast, ["steps", "n"])).toBe(false)
    expect(has(ast, ["named", "anything", "weight"])).toBe(true)
    expect(has(ast, ["named", "anything", "wait"])).toBe(false)
  })

  it("unknown keys are told once, as far up as they go", () => {
    const found = unknownKeys(node({ dta: { a: 1, b: 2 }, data: { source: { m: 1 } }, steps: 3 }), [ast]).map((u) =>
      u.path.join(".")
    )
    expect(found).toEqual(["dta", "data.source.m"])
    expect(unknownKeys(node({ steps: 1, other: 2 }), [ast, encodedAst(Schema.Struct({ other: Schema.Int }))])).toEqual(
      []
    )
  })

  it("a Schema takes its part of a layer", () => {
    expect(plain(applicable(node({ steps: 1, other: { a: 1 }, data: { x: 1 } }), ast))).toEqual({ steps: 1 })
    expect(plain(applicable(emptyMap(at), ast))).toEqual({})
  })
})
