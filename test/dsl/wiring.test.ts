/** Mis-wiring a pipeline does not compile: every `@ts-expect-error` here is checked by the type-check. */
import { Schema } from "effect"
import { expect, expectTypeOf, it } from "vitest"
import type { Encoder, Policy } from "../../src/artifact/kinds.ts"
import * as Pipeline from "../../src/dsl/Pipeline.ts"
import * as Param from "../../src/dsl/param.ts"
import type { Ref } from "../../src/dsl/Stage.ts"
import { estimator, evaluate, grpo, sft, world } from "./project/stages/toys.ts"

const sections = {
  data: Pipeline.section(world.params),
  warmStart: Pipeline.section(sft.params),
  grpo: Pipeline.section(grpo.params)
}

const wired = Pipeline.make(
  "wired",
  { ...sections, estimator: Pipeline.section(estimator.params), evaluate: Pipeline.section(evaluate.params) },
  (p) => {
    const { situations } = world({}, p.data)
    const { encoder } = estimator({ situations }, p.estimator)
    const { policy } = sft({ situations }, p.warmStart)
    expectTypeOf(encoder).toEqualTypeOf<Ref<typeof Encoder>>()
    expectTypeOf(policy).toEqualTypeOf<Ref<typeof Policy>>()
    expectTypeOf(p.grpo.reward.coverage.shape).toEqualTypeOf<"ladder" | "linear">()

    const miswired = () => {
      // @ts-expect-error an encoder is no policy
      grpo({ policy: encoder, situations, estimator: encoder }, p.grpo)
      // @ts-expect-error a policy is no data set
      evaluate({ policy, situations: policy }, p.evaluate)
      // @ts-expect-error an input is missing
      grpo({ policy, situations }, p.grpo)
      // @ts-expect-error no such input
      sft({ situations, prompts: situations }, p.warmStart)
      // @ts-expect-error another stage's parameters
      sft({ situations }, p.grpo)
      // @ts-expect-error no such section
      sft({ situations }, p.coldStart)
      // @ts-expect-error no such output
      const { model } = sft({ situations }, p.warmStart)
      void model
    }
    void miswired
    return { policy }
  }
)

it("what is wired compiles, and tasks nobody asked for are no part of the graph", () => {
  const tasks = Pipeline.build(wired, Schema.decodeUnknownSync(wired.params)({} as unknown))
  expect(tasks.map((task) => task.node)).toEqual(["data", "warmStart"])
})

it("parameters have the types that their one-line declarations say", () => {
  const params = Param.struct({
    count: Param.int(1, "a count", { min: 0 }),
    rate: Param.number(0.5, "a rate", { above: 0, below: 1 }),
    word: Param.literal(["a", "b"], "a", "a word"),
    list: Param.array(Schema.Int, [1], "a list"),
    maybe: Param.optional(Schema.String, "perhaps"),
    source: Param.choice("kind", { x: { n: Param.int(1, "n") }, y: { t: Param.string("t", "t") } }, "x", "source")
  })
  const decode = Schema.decodeUnknownSync(params)
  const value = decode({})
  expectTypeOf(value.word).toEqualTypeOf<"a" | "b">()
  expectTypeOf(value.maybe).toEqualTypeOf<string | undefined>()
  if (value.source.kind === "x") expectTypeOf(value.source.n).toEqualTypeOf<number>()
  expect(value).toEqual({ count: 1, rate: 0.5, word: "a", list: [1], source: { kind: "x", n: 1 } })
  for (const bad of [
    { count: -1 },
    { count: 1.5 },
    { rate: 0 },
    { rate: 1 },
    { rate: Number.NaN },
    { rate: Infinity },
    { word: "c" }
  ]) {
    expect(() => decode(bad), JSON.stringify(bad)).toThrow()
  }
})

it("a stage that is given no section must be named", () => {
  const pipeline = Pipeline.make("inline", {}, () =>
    sft(
      { situations: world({}, { source: { kind: "world", situations: 1 } }).situations },
      { steps: 1, learningRate: 0 }
    )
  )
  expect(() => Pipeline.build(pipeline, {})).toThrow(/stage world: its parameters are no section.*node/)
})
