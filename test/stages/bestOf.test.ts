/** Best of G as a stage: which answers become demonstrations, interruption, and what cannot be learnt from. */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { assert, beforeAll, describe, it } from "@effect/vitest"
import { Effect, Exit } from "effect"
import { Demonstrations } from "../../src/artifact/kinds.ts"
import { bestAnswers, bestOf } from "../../src/stages/bestOf.ts"
import { freshFolder } from "../support/folders.ts"
import { attemptStage, failStage, rowsOf, runStage } from "../support/runStage.ts"
import { tinyEstimator, tinyPolicy, tinyWorld, warmPolicy } from "./ground.ts"

const fresh = freshFolder("best-of")
let inputs: { readonly policy: string; readonly prompts: string; readonly estimator: string }
beforeAll(async () => {
  const world = await Effect.runPromise(tinyWorld(fresh))
  const base = await Effect.runPromise(tinyPolicy(fresh, world.world))
  const policy = await Effect.runPromise(warmPolicy(fresh, base, world.demonstrations))
  const { dir } = await Effect.runPromise(tinyEstimator(fresh, world.world, 0))
  inputs = { policy, prompts: world.train, estimator: dir }
})

const asked = (params: object = {}) => ({ dir: fresh(), params: { groupSize: 4, ...params }, inputs, seed: 3 })
const bytes = (dir: string) => readFileSync(join(dir, "rows.jsonl"), "utf8")

describe("best of G", () => {
  it.live("keeps of every prompt the answer with the highest reward, and journals all of them", () =>
    Effect.gen(function* () {
      const { out, said } = yield* runStage(bestOf, asked())
      const rows = yield* rowsOf(Demonstrations, out.demonstrations)
      assert.lengthOf(said.samples, 48 * 4)
      const groups = Map.groupBy(said.samples, ({ promptId }) => promptId)
      for (const { completion, id } of rows) {
        const group = groups.get(id.replace(/\/best\/0$/, ""))!
        const chosen = group.find((sample) => sample.completion === completion)!
        const better = group.filter(({ reward }) => reward! > chosen.reward!)
        // Only an answer that was cut, which is none of the kept ones, may have scored higher.
        assert.isTrue(better.every((sample) => !/<\/summary>$/.test(sample.completion)))
      }
      const { values } = said.metrics[0]!
      assert.isAbove(values["best/reward"]!, values["reward"]!)
      assert.strictEqual(values["best/prompts"], rows.length / 48)
      assert.includeMembers(Object.keys(values), ["rewards/coverage/mean", "completions/clipped_ratio"])
      const declared = Object.keys(bestOf.metrics).map((name) => new RegExp(`^${name.replace("*", ".*")}$`))
      for (const name of Object.keys(values))
        assert.isTrue(
          declared.some((pattern) => pattern.test(name)),
          name
        )
    })
  )

  it.live("gives the same rows and bytes after an interruption", () =>
    Effect.gen(function* () {
      const whole = yield* runStage(bestOf, asked({ keep: 2 }))
      const broken = yield* attemptStage(bestOf, { ...asked({ keep: 2 }), checkpointEvery: 1, breakAt: 32 })
      assert.isTrue(Exit.hasInterrupts(broken.exit))
      const rest = yield* runStage(bestOf, { ...asked({ keep: 2 }), resume: broken.said.checkpoints[0]! })
      assert.strictEqual(bytes(rest.out.demonstrations), bytes(whole.out.demonstrations))
      assert.deepStrictEqual([...broken.said.samples, ...rest.said.samples], whole.said.samples)
      const apart = ({ metrics }: typeof whole.said) =>
        metrics.map(({ step, values }) => [
          step,
          Object.fromEntries(Object.entries(values).filter(([name]) => !name.startsWith("perf/")))
        ])
      assert.deepStrictEqual(apart(rest.said), apart(whole.said))
    })
  )

  it.live("answers that are all cut teach nothing, and the message says what to change", () =>
    Effect.gen(function* () {
      const error = yield* failStage(bestOf, asked({ maxNewTokens: 2, prompts: 3 }))
      assert.match(
        (error as Error).message,
        /none of the answers to 3 prompts can be learnt from: .* Raise `maxNewTokens`/
      )
    })
  )
})

describe("the best answers", () => {
  const answer = (text: string, reward: number | null, clipped = false) => ({
    id: "x",
    text,
    tokens: 3,
    clipped,
    reward,
    parts: []
  })
  it("are neither cut, nor empty, nor unscorable; the earlier of two equals", () => {
    const answers = [
      answer("a", 1),
      answer("b", 3, true),
      answer(" ", 3),
      answer("c", null),
      answer("d", 2),
      answer("e", 2)
    ]
    assert.deepStrictEqual(
      bestAnswers(answers, 2).map(({ text }) => text),
      ["d", "e"]
    )
    assert.lengthOf(bestAnswers([answer("", 1)], 1), 0)
  })
})
