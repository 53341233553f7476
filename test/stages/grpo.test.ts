/**
 * The GRPO stage on a tiny world: what it journals is what its formulas say, it resumes to the last bit, and nothing but
 * rewards moves the weights.
 */
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Schema } from "effect"
import { Completions, Situations } from "../../src/artifact/kinds.ts"
import { grpo, grpoWith, opGrpoParts } from "../../src/stages/grpo.ts"
import { score } from "../../src/stages/score.ts"
import { freshFolder } from "../support/folders.ts"
import { attemptStage, failStage, rowsOf, runStage } from "../support/runStage.ts"
import { brief, timeless, tinyEstimator, tinyPolicy, tinyWorld, warmPolicy } from "./ground.ts"

const fresh = freshFolder("grpo")
const lastState = (dir: string) => readFileSync(join(dir, "trainer.safetensors"))
const weights = (dir: string) => readFileSync(join(dir, "model.safetensors"))

const ground = Effect.cached(
  Effect.gen(function* () {
    const made = yield* tinyWorld(fresh)
    const policy = yield* warmPolicy(fresh, yield* tinyPolicy(fresh, made.world), made.pretraining)
    const taught = yield* tinyEstimator(fresh, made.world, 60)
    const untaught = yield* tinyEstimator(fresh, made.world, 0)
    return {
      inputs: { policy, prompts: made.train, estimator: taught.dir },
      development: made.development,
      world: made.world,
      untaught: untaught.dir
    }
  })
).pipe(Effect.runSync)

const params = {
  steps: 2,
  promptsPerStep: 4,
  groupSize: 4,
  maxNewTokens: 48,
  learningRate: 1e-3,
  reward: { options: { prefix: "as-trained" } }
}

const mean = (values: ReadonlyArray<number>) => values.reduce((a, b) => a + b, 0) / values.length

describe("grpo", () => {
  it.live("rows: groups of distinct prompts, six parts that sum to the reward, advantages by the formula", () =>
    Effect.gen(function* () {
      const { inputs } = yield* ground
      const { said } = yield* runStage(grpo, { dir: fresh(), inputs, params, seed: 1 })
      assert.lengthOf(said.samples, 2 * 4 * 4)
      for (const step of [0, 1]) {
        const rows = said.samples.filter((row) => row.step === step)
        const groups = Map.groupBy(rows, ({ promptId }) => promptId)
        assert.strictEqual(groups.size, 4)
        for (const group of groups.values()) {
          assert.deepStrictEqual(
            group.map(({ idx }) => idx),
            [0, 1, 2, 3]
          )
          const rewards = group.map(({ reward }) => reward!)
          const centre = mean(rewards)
          const std = Math.sqrt(rewards.reduce((sum, r) => sum + (r - centre) ** 2, 0) / 3)
          for (const { advantage, reward } of group) {
            assert.closeTo(advantage!, std < 1e-9 ? 0 : (reward! - centre) / (std + 1e-6), 1e-9)
          }
        }
        for (const { parts, reward } of rows) {
          assert.deepStrictEqual(
            parts.map(({ name, weight }) => [name, weight]),
            [
              ["coverage", 0.3],
              ["uniqueness", 0.3],
              ["format", 0.1],
              ["tag", 1],
              ["coverage_rate", 0],
              ["uniqueness_rate", 0]
            ]
          )
          const sum = parts.reduce((total, { value, weight }) => total + value * weight, 0)
          assert.closeTo(reward!, Math.max(sum, 0), 1e-12)
        }
      }
      assert.isTrue(said.samples.some(({ advantage }) => advantage !== 0))
      const ids = new Set((yield* rowsOf(Situations, inputs.prompts)).map(({ id }) => id))
      assert.isTrue(said.samples.every(({ promptId }) => ids.has(promptId)))
    })
  )

  it.live("metrics: TRL's names, means of what was journaled, updates counted, the sampler in agreement", () =>
    Effect.gen(function* () {
      const { inputs } = yield* ground
      const more = { ...params, updatesPerStep: 3, klCoefficient: 0.01 }
      const { said } = yield* runStage(grpo, { dir: fresh(), inputs, params: more, seed: 1 })
      assert.deepStrictEqual(
        said.metrics.map(({ step, values }) => [step, values["updates"]]),
        [
          [0, 3],
          [1, 6]
        ]
      )
      for (const { step, values } of said.metrics) {
        for (const name of [
          ..."loss grad_norm learning_rate updates reward reward_std frac_reward_zero_std kl entropy".split(" "),
          ..."coverage uniqueness format tag coverage_rate uniqueness_rate"
            .split(" ")
            .map((part) => `rewards/${part}/mean`),
          ..."completions/mean_length completions/clipped_ratio clip_ratio/region_mean".split(" "),
          ...["max", "mean", "p999"].map((statistic) => `sampling/logp_difference/${statistic}`)
        ]) {
          assert.isTrue(Number.isFinite(values[name]), `${name} is ${values[name]}`)
        }
        const declared = Object.keys(grpo.metrics).map((name) => new RegExp(`^${name.replaceAll("*", ".+")}$`))
        for (const name of Object.keys(values))
          assert.isTrue(
            declared.some((known) => known.test(name)),
            name
          )
        const rows = said.samples.filter((row) => row.step === step)
        assert.closeTo(values["reward"]!, mean(rows.map(({ reward }) => reward!)), 1e-12)
        const tags = rows.map(({ parts }) => parts.find(({ name }) => name === "tag")!.value)
        assert.closeTo(values["rewards/tag/mean"]!, mean(tags), 1e-12)
        assert.isBelow(values["sampling/logp_difference/max"]!, 5e-4)
      }
      // Before the first update policy and reference are one: k3 is 0; afterwards the KL is there.
      assert.isAtLeast(said.metrics[1]!.values["kl"]!, 0)
    })
  )

  it.live("4 steps are 2 steps, an interruption and the rest: weights and rows to the last bit", () =>
    Effect.gen(function* () {
      const { inputs } = yield* ground
      const all = { inputs, params: { ...params, steps: 4 }, seed: 2 }
      const whole = yield* runStage(grpo, { dir: fresh(), ...all })
      const first = yield* attemptStage(grpo, { dir: fresh(), ...all, checkpointEvery: 2, breakAt: 2 })
      assert.isTrue(Exit.hasInterrupts(first.exit))
      const rest = yield* runStage(grpo, { dir: fresh(), ...all, resume: first.said.checkpoints.at(-1)! })
      assert.deepStrictEqual([...first.said.samples, ...rest.said.samples], whole.said.samples)
      assert.deepStrictEqual([...timeless(first.said), ...timeless(rest.said)], timeless(whole.said))
      assert.deepStrictEqual(weights(rest.out.policy), weights(whole.out.policy))
      assert.notDeepEqual(weights(whole.out.policy), weights(inputs.policy))
    })
  )

  it.live("measures its reward on held-out prompts, which changes nothing, and keeps the best policy", () =>
    Effect.gen(function* () {
      const { development, inputs } = yield* ground
      const all = { ...params, steps: 3, promptsPerStep: 2 }
      const plain = yield* runStage(grpo, { dir: fresh(), inputs, params: all, seed: 3 })
      const kept = "eval/rewards/coverage/mean"
      const { out, said } = yield* runStage(grpo, {
        dir: fresh(),
        inputs: { ...inputs, development },
        params: { ...all, evaluateEvery: 1, keepBest: kept },
        seed: 3
      })
      const measured = said.metrics.filter(({ values }) => values["eval/reward"] !== undefined)
      assert.deepStrictEqual(
        measured.map(({ step }) => step),
        [0, 1, 2]
      )
      assert.deepStrictEqual(
        timeless(said).filter(([, values]) => Object.hasOwn(values as object, "loss")),
        timeless(plain.said)
      )
      assert.deepStrictEqual(said.samples, plain.said.samples)
      assert.deepStrictEqual(lastState(out.checkpoint), lastState(plain.out.checkpoint))
      const values = measured.map((row) => row.values[kept]!)
      const step = values.indexOf(Math.max(...values))
      assert.strictEqual(said.metrics.at(-1)!.values["eval/kept_step"], step)
      const until = yield* runStage(grpo, { dir: fresh(), inputs, params: { ...all, steps: step + 1 }, seed: 3 })
      assert.deepStrictEqual(weights(out.policy), weights(until.out.policy))
      const declared = Object.keys(grpo.metrics).map((name) => new RegExp(`^${name.replaceAll("*", ".+")}$`))
      for (const name of Object.keys(measured[0]!.values))
        assert.isTrue(
          declared.some((known) => known.test(name)),
          name
        )
      // Every part that the reward has can be gone by.
      assert.includeMembers(Object.keys(measured[0]!.values), [
        "eval/reward",
        ...opGrpoParts.map((part) => `eval/rewards/${part.name}/mean`)
      ])
    })
  )

  it.live("keeps the best policy by a reward of a user's own, which evaluations ask as steps do", () =>
    Effect.gen(function* () {
      const { development, inputs } = yield* ground
      const script = join(fresh(), "shortest.mjs")
      // Says of every completion how many perspectives it has, from 0 down.
      writeFileSync(
        script,
        `import { createInterface } from "node:readline"
for await (const line of createInterface({ input: process.stdin })) {
  const { id, rows } = JSON.parse(line)
  console.log(JSON.stringify({ id, scores: rows.map(({ perspectives }) => -perspectives.length) }))
}
`
      )
      const kept = "eval/rewards/shortest/mean"
      const shortest = { exec: [process.execPath, script], version: "1", weight: 1 }
      const all = { ...params, steps: 3, promptsPerStep: 2, reward: { ...params.reward, shortest } }
      const { out, said } = yield* runStage(grpo, {
        dir: fresh(),
        inputs: { ...inputs, development },
        params: { ...all, evaluateEvery: 1, keepBest: kept },
        seed: 3
      })
      const values = said.metrics.flatMap(({ values }) => (values[kept] === undefined ? [] : [values[kept]]))
      assert.lengthOf(values, 3)
      assert.isTrue(values.every((value) => value <= 0))
      const step = values.indexOf(Math.max(...values))
      assert.strictEqual(said.metrics.at(-1)!.values["eval/kept_step"], step)
      const until = yield* runStage(grpo, { dir: fresh(), inputs, params: { ...all, steps: step + 1 }, seed: 3 })
      assert.deepStrictEqual(weights(out.policy), weights(until.out.policy))
      const other = yield* failStage(grpo, {
        dir: fresh(),
        inputs: { ...inputs, development },
        params: { ...all, evaluateEvery: 1, keepBest: "eval/rewards/longest/mean" }
      })
      assert.deepInclude(other, { _tag: "GrpoRefused", path: "keepBest" })
      assert.match(
        (other as Error).message,
        /no evaluation has the metric eval\/rewards\/longest\/mean: one of none, eval\/reward, .*eval\/rewards\/shortest\/mean$/
      )
    })
  )

  it.live("refuses to compare rewards whose weights move, and a best policy by nothing", () =>
    Effect.gen(function* () {
      const { development, inputs } = yield* ground
      const moving = { ...params.reward, tag: { weight: { from: 0, to: 1, steps: 9 } } }
      const attempt = (more: object) =>
        failStage(grpo, { dir: fresh(), inputs: { ...inputs, development }, params: { ...params, ...more } })
      const scheduled = yield* attempt({ reward: moving, evaluateEvery: 1, keepBest: "eval/reward" })
      assert.match((scheduled as Error).message, /^grpo\.keepBest: a weight of the reward follows a schedule/)
      const blind = yield* attempt({ keepBest: "eval/reward" })
      assert.match((blind as Error).message, /^grpo\.keepBest: the best policy by eval\/reward is asked for/)
    })
  )

  it.live("3 steps go on from the checkpoint of 2, the moving reference and a scheduled weight included", () =>
    Effect.gen(function* () {
      const { inputs } = yield* ground
      const all = {
        ...params,
        klCoefficient: 0.01,
        reference: { syncEvery: 2, mix: 0.5 },
        warmupSteps: 3,
        reward: { ...params.reward, coverage: { weight: { from: 0.1, to: 0.6, steps: 3 } } }
      }
      const whole = yield* runStage(grpo, { dir: fresh(), inputs, params: { ...all, steps: 3 }, seed: 2 })
      const less = yield* runStage(grpo, { dir: fresh(), inputs, params: { ...all, steps: 2 }, seed: 2 })
      const resume = { step: 2, dir: less.out.checkpoint, state: less.said.handedOver[0]!.state }
      const rest = yield* runStage(grpo, { dir: fresh(), inputs, params: { ...all, steps: 3 }, seed: 2, resume })
      assert.deepStrictEqual([...less.said.samples, ...rest.said.samples], whole.said.samples)
      assert.deepStrictEqual([...timeless(less.said), ...timeless(rest.said)], timeless(whole.said))
      assert.deepStrictEqual(weights(rest.out.policy), weights(whole.out.policy))
      const left = (dir: string, file: string) => readFileSync(join(dir, file))
      for (const file of ["trainer.safetensors", "reference/model.safetensors"])
        assert.deepStrictEqual(left(rest.out.checkpoint, file), left(whole.out.checkpoint, file))
      assert.isNull(grpo.grows!.unless({ schedule: "constant" } as never))
      assert.strictEqual(grpo.grows!.unless({ schedule: "linear" } as never), "the linear schedule spans all steps")
    })
  )

  it.live("a learning rate of 0, weights of 0 and 0 steps leave the policy as it is, bit for bit", () =>
    Effect.gen(function* () {
      const { inputs } = yield* ground
      const before = weights(inputs.policy)
      const still = yield* runStage(grpo, { dir: fresh(), inputs, params: { ...params, learningRate: 0 } })
      assert.deepStrictEqual(weights(still.out.policy), before)
      assert.isTrue(still.said.samples.some(({ advantage }) => advantage !== 0))
      const nothing = { weight: 0 }
      const unrewarded = yield* runStage(grpo, {
        dir: fresh(),
        inputs,
        params: { ...params, reward: { coverage: nothing, uniqueness: nothing, format: nothing, tag: nothing } }
      })
      assert.deepStrictEqual(weights(unrewarded.out.policy), before)
      assert.isTrue(unrewarded.said.samples.every(({ advantage, reward }) => reward === 0 && advantage === 0))
      assert.strictEqual(unrewarded.said.metrics[0]!.values["frac_reward_zero_std"], 1)
      // Even with fewer prompts than a step would take.
      const none = yield* runStage(grpo, {
        dir: fresh(),
        inputs,
        params: { ...params, steps: 0, promptsPerStep: 1000 }
      })
      assert.deepStrictEqual(weights(none.out.policy), before)
    })
  )

  it.live("rollouts of the first step do not depend on the estimator, rewards do", () =>
    Effect.gen(function* () {
      const { inputs, untaught } = yield* ground
      const one = { dir: fresh(), params: { ...params, steps: 1 }, seed: 3 }
      const taught = yield* runStage(grpo, { ...one, inputs })
      const other = yield* runStage(grpo, { ...one, dir: fresh(), inputs: { ...inputs, estimator: untaught } })
      const texts = ({ said }: typeof taught) => said.samples.map(({ completion, promptId }) => [promptId, completion])
      assert.deepStrictEqual(texts(other), texts(taught))
      const rewards = ({ said }: typeof taught) => said.samples.map(({ reward }) => reward)
      assert.notDeepEqual(rewards(other), rewards(taught))
      // Another seed is another world of answers.
      const reseeded = yield* runStage(grpo, { ...one, dir: fresh(), inputs, seed: 4 })
      assert.notDeepEqual(texts(reseeded), texts(taught))
    })
  )

  it.live("GDPO normalises every part in its group: the advantages of a batch have mean 0 and deviation 1", () =>
    Effect.gen(function* () {
      const { inputs } = yield* ground
      const reward = { ...params.reward, aggregate: "normalize-then-sum" }
      const { said } = yield* runStage(grpo, { dir: fresh(), inputs, params: { ...params, steps: 1, reward }, seed: 1 })
      const advantages = said.samples.map(({ advantage }) => advantage!)
      assert.closeTo(mean(advantages), 0, 1e-9)
      const variance = advantages.reduce((sum, a) => sum + a * a, 0) / (advantages.length - 1)
      assert.closeTo(Math.sqrt(variance), 1, 1e-4)
    })
  )

  it.live("scores of the stage `score` are the rewards that GRPO gave to the same answers", () =>
    Effect.gen(function* () {
      const { inputs } = yield* ground
      const { said } = yield* runStage(grpo, { dir: fresh(), inputs, params: { ...params, steps: 1 }, seed: 5 })
      const dir = fresh()
      const answers = said.samples.map(({ completion, prompt, promptId }) => ({
        id: promptId,
        prompt,
        text: completion
      }))
      yield* Completions.write(dir).write(answers)
      const scored = yield* runStage(score, {
        dir: fresh(),
        params: { reward: params.reward },
        inputs: { completions: dir, situations: inputs.prompts, estimator: inputs.estimator }
      })
      assert.deepStrictEqual(
        scored.said.samples.map(({ idx, parts, promptId, reward }) => ({ idx, parts, promptId, reward })),
        said.samples.map(({ idx, parts, promptId, reward }) => ({ idx, parts, promptId, reward }))
      )
      assert.isTrue(scored.said.samples.every(({ advantage }) => advantage === null))
      const { values } = scored.said.metrics[0]!
      assert.closeTo(values["reward"]!, mean(said.samples.map(({ reward }) => reward!)), 1e-12)
      assert.hasAllKeys(values, ["reward", ...said.samples[0]!.parts.map(({ name }) => `rewards/${name}/mean`)])
    })
  )

  it.live("raises a reward that it is given: shorter answers are learnt in a few steps, from a part of one's own", () =>
    Effect.gen(function* () {
      const { inputs } = yield* ground
      const { said } = yield* runStage(grpoWith([brief]), {
        dir: fresh(),
        inputs,
        params: { ...params, reward: {}, steps: 12, promptsPerStep: 8, groupSize: 8, learningRate: 3e-3 }
      })
      const rewards = said.metrics.map(({ values }) => values["rewards/brief/mean"]!)
      assert.isAbove(mean(rewards.slice(-3)), mean(rewards.slice(0, 2)) + 0.5)
    })
  )

  it.live("fewer prompts than a step needs is said with both numbers", () =>
    Effect.gen(function* () {
      const { inputs } = yield* ground
      const error = yield* failStage(grpo, { dir: fresh(), inputs, params: { ...params, promptsPerStep: 49 } })
      assert.deepInclude(error, { _tag: "GroupTooSmall", rows: 48, wanted: 49 })
    })
  )

  it("no temperature of 0, no group of one, no unknown part", () => {
    const decode = (section: unknown) =>
      Schema.decodeUnknownResult(grpo.params, { onExcessProperty: "error" })(section)._tag
    assert.strictEqual(decode({}), "Success")
    for (const bad of [
      { temperature: 0 },
      { groupSize: 1 },
      { reward: { cover: { weight: 1 } } },
      { loss: { kind: "grpo", clip: { low: -1 } } }
    ]) {
      assert.strictEqual(decode(bad), "Failure", JSON.stringify(bad))
    }
    assert.deepStrictEqual(
      opGrpoParts.map(({ name }) => name),
      ["coverage", "uniqueness", "format", "tag"]
    )
  })
})
