/** Evaluation and scoring, broken off and taken up: nothing that was computed is computed again, and nothing comes out otherwise. */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { assert, beforeAll, describe, it } from "@effect/vitest"
import { Effect, Exit } from "effect"
import { Completions, Situations } from "../../src/artifact/kinds.ts"
import { evaluate } from "../../src/stages/evaluate.ts"
import { nli } from "../../src/stages/nli.ts"
import { score } from "../../src/stages/score.ts"
import { readWorld } from "../../src/stages/world.ts"
import { draws } from "../../src/world/draws.ts"
import { say, writeWorldAnswer } from "../../src/world/language.ts"
import { freshFolder } from "../support/folders.ts"
import { attemptStage, rowsOf, runStage } from "../support/runStage.ts"
import { tinyEncoderParams, tinyEstimator, tinyWorld } from "./ground.ts"

const fresh = freshFolder("evaluate-resume")
let inputs: { completions: string; situations: string; estimator: string; nli: string; world: string }
beforeAll(async () => {
  const made = await Effect.runPromise(tinyWorld(fresh))
  const world = await Effect.runPromise(readWorld(made.world))
  const { dir: estimator } = await Effect.runPromise(tinyEstimator(fresh, made.world, 0))
  const classifier = await Effect.runPromise(
    runStage(nli, { dir: fresh(), params: { ...tinyEncoderParams, steps: 1 }, inputs: { pairs: made.nliPairs } })
  )
  const situations = await Effect.runPromise(rowsOf(Situations, made.test))
  // Enough texts for two micro-batches of the estimator, enough pairs for several of the classifier.
  const rows = situations.slice(0, 6).flatMap(({ id, prompt }) => {
    const { window } = world.splits.test.find((one) => one.id === id)!
    const random = draws(0, "answers", id)
    return Array.from({ length: 45 }, () => {
      const sayings = Array.from({ length: 6 }, () => say(world, "demonstrations", random.pick(window), random))
      return { id, prompt, text: writeWorldAnswer(sayings) }
    })
  })
  const completions = fresh()
  await Effect.runPromise(Completions.write(completions).write(rows))
  inputs = { completions, situations: made.test, estimator, nli: classifier.out.classifier, world: made.world }
})

const summary = (dir: string) => readFileSync(join(dir, "summary.json"), "utf8")

describe("an evaluation that was broken off", () => {
  it.live("goes on among the embeddings, and among the pairs of NLI, to the same rows and bytes", () =>
    Effect.gen(function* () {
      const asked = () => ({ dir: fresh(), params: { prefix: "keep", set: { of: "lines" } }, inputs })
      const whole = yield* runStage(evaluate, asked())
      const steps = whole.said.progress.map(({ step }) => step)
      const { of: total } = whole.said.progress.at(-1)!
      assert.isAbove(steps.length, 5)
      assert.strictEqual(steps.at(-1), total)
      assert.deepStrictEqual(
        steps,
        steps.toSorted((a, b) => a - b)
      )
      const phases = new Set<string>()
      for (const breakAt of [steps[1]!, steps.at(-2)!]) {
        const broken = yield* attemptStage(evaluate, { ...asked(), checkpointEvery: 1, breakAt })
        assert.isTrue(Exit.isFailure(broken.exit))
        assert.isEmpty(broken.said.items)
        const resume = broken.said.checkpoints.at(-1)!
        assert.strictEqual(resume.step, breakAt)
        phases.add((resume.state as { readonly phase: string }).phase)
        const rest = yield* runStage(evaluate, { ...asked(), resume })
        // Only what was left was computed.
        const later = rest.said.progress.map(({ step }) => step)
        assert.strictEqual(Math.min(...later), breakAt)
        assert.strictEqual(rest.said.progress.at(-1)!.of, total)
        assert.deepStrictEqual(rest.said.items, whole.said.items)
        assert.strictEqual(summary(rest.out.report), summary(whole.out.report))
      }
      assert.sameMembers([...phases], ["embeddings", "entailment"])
    })
  )
})

describe("scoring that was broken off", () => {
  it.live("goes on after the answers that it scored", () =>
    Effect.gen(function* () {
      const { completions, estimator, situations } = inputs
      const asked = () => ({ dir: fresh(), inputs: { completions, estimator, situations } })
      const whole = yield* runStage(score, asked())
      const broken = yield* attemptStage(score, { ...asked(), checkpointEvery: 1, breakAt: 256 })
      assert.isTrue(Exit.isFailure(broken.exit))
      const rest = yield* runStage(score, { ...asked(), resume: broken.said.checkpoints[0]! })
      assert.deepStrictEqual([...broken.said.samples, ...rest.said.samples], whole.said.samples)
      assert.deepStrictEqual(rest.said.metrics, whole.said.metrics)
      assert.deepStrictEqual(rest.said.progress[0], { step: 256, of: 270 })
      assert.strictEqual(summary(rest.out.report), summary(whole.out.report))
    })
  )
})
