/** The stages of Overtone wire only as they are meant to: every `@ts-expect-error` is checked by the type-check. */
import { Schema } from "effect"
import { expect, expectTypeOf, it } from "vitest"
import type { Completions, Encoder, Policy } from "../../src/artifact/kinds.ts"
import * as Pipeline from "../../src/dsl/Pipeline.ts"
import type { Ref } from "../../src/dsl/Stage.ts"
import { estimator } from "../../src/stages/estimator.ts"
import { evaluate } from "../../src/stages/evaluate.ts"
import { generate } from "../../src/stages/generate.ts"
import { grpo } from "../../src/stages/grpo.ts"
import { sft } from "../../src/stages/sft.ts"
import { triplets } from "../../src/stages/triplets.ts"
import { world } from "../../src/stages/world.ts"

const sections = {
  data: Pipeline.section(world.params),
  triplets: triplets.params,
  estimator: estimator.params,
  warmStart: sft.params,
  grpo: grpo.params,
  generate: generate.params,
  evaluate: evaluate.params
}

const wired = Pipeline.make("wired", sections, (p) => {
  const made = world({}, p.data)
  const { estimator: judge } = estimator(triplets({ world: made.world }, p.triplets), p.estimator)
  expectTypeOf(judge).toEqualTypeOf<Ref<typeof Encoder>>()

  const miswired = (policy: Ref<typeof Policy>, completions: Ref<typeof Completions>) => {
    expectTypeOf(grpo({ policy, prompts: made.train, estimator: judge }, p.grpo).policy).toEqualTypeOf<
      Ref<typeof Policy>
    >()
    // @ts-expect-error an encoder is no policy
    grpo({ policy: judge, prompts: made.train, estimator: judge }, p.grpo)
    // @ts-expect-error a policy is no estimator
    grpo({ policy, prompts: made.train, estimator: policy }, p.grpo)
    // @ts-expect-error demonstrations are no situations: they have no references to be rewarded by
    grpo({ policy, prompts: made.demonstrations, estimator: judge }, p.grpo)
    // @ts-expect-error situations are no demonstrations: they have no answers to learn
    sft({ policy, data: made.train }, p.warmStart)
    // @ts-expect-error answers come before they are measured
    evaluate({ situations: made.test, estimator: judge }, p.evaluate)
    // @ts-expect-error the estimator is no NLI classifier
    evaluate({ completions, situations: made.test, estimator: judge, nli: judge }, p.evaluate)
    // What may be left out may be left out.
    evaluate({ completions, situations: made.test, estimator: judge }, p.evaluate)
    // @ts-expect-error another stage's parameters
    sft({ policy, data: made.demonstrations }, p.evaluate)
  }
  void miswired
  return { judge }
})

it("what is wired compiles and builds", () => {
  const tasks = Pipeline.build(wired, Schema.decodeUnknownSync(wired.params)({} as unknown))
  expect(tasks.map(({ node }) => node)).toEqual(["data", "triplets", "estimator"])
})
