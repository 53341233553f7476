/** Losses, advantages and options of the GRPO stage on a tiny world: each does what its page says, and nothing else. */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Schema } from "effect"
import type { RewardInput } from "../../src/rewards/part.ts"
import { grpoRefusals } from "../../src/stages/grpo/params.ts"
import { grpo, grpoWith } from "../../src/stages/grpo.ts"
import { freshFolder } from "../support/folders.ts"
import { attemptStage, failStage, runStage } from "../support/runStage.ts"
import { timeless, tinyEstimator, tinyPolicy, tinyWorld, warmPolicy } from "./ground.ts"

const fresh = freshFolder("grpo-options")
const weights = (dir: string) => readFileSync(join(dir, "model.safetensors"))

const ground = Effect.cached(
  Effect.gen(function* () {
    const made = yield* tinyWorld(fresh)
    const policy = yield* warmPolicy(fresh, yield* tinyPolicy(fresh, made.world), made.pretraining)
    const { dir } = yield* tinyEstimator(fresh, made.world, 0)
    return { policy, prompts: made.train, estimator: dir }
  })
).pipe(Effect.runSync)

const base = { steps: 2, promptsPerStep: 4, groupSize: 4, maxNewTokens: 40, learningRate: 1e-3 }

/** A part of one's own, from a function of the answer. */
const partOf = (name: string, value: (input: RewardInput) => number) => ({
  name,
  module: import.meta.url,
  embeddings: false,
  fields: { weight: Schema.Finite },
  defaults: { weight: 1 },
  help: { weight: "weight in the reward" },
  score: (input: RewardInput) => ({ value: value(input) })
})
const brief = partOf("brief", ({ answer }) => 9 - answer.candidates.length)
const stage = grpoWith([brief])

const run = (params: object, more: object = {}, of: typeof grpo = stage) =>
  Effect.flatMap(ground, (inputs) =>
    runStage(of, { dir: fresh(), inputs, params: { ...base, ...params }, seed: 1, ...more })
  )
type Ran = Effect.Success<ReturnType<typeof run>>
const valuesOf = ({ said }: Ran, name: string) => said.metrics.map(({ values }) => values[name]!)
const advantagesOf = ({ said }: Ran, step = 0) =>
  said.samples.filter((row) => row.step === step).map(({ advantage }) => advantage!)
const mean = (values: ReadonlyArray<number>) => values.reduce((a, b) => a + b, 0) / values.length

const declared = Object.keys(grpo.metrics).map((name) => new RegExp(`^${name.replaceAll("*", ".+")}$`))
const sound = ({ said }: Ran) => {
  for (const { values } of said.metrics) {
    for (const [name, value] of Object.entries(values)) {
      assert.isTrue(Number.isFinite(value), `${name} is ${value}`)
      assert.isTrue(
        declared.some((known) => known.test(name)),
        `${name} is not declared`
      )
    }
  }
}

describe("losses", () => {
  const sections = {
    grpo: { kind: "grpo", delta: 3, aggregation: "token-mean-global" },
    gspo: { kind: "gspo" },
    cispo: { kind: "cispo", aggregation: "constant" },
    dppo: { kind: "dppo", divergence: "kl", high: 0.01 },
    copg: { kind: "copg", aggregation: "sequence-mean" },
    reinforce: { kind: "reinforce" }
  }
  it.live("each moves the policy, by its own way, with sound metrics", () =>
    Effect.gen(function* () {
      const moved = new Set<string>()
      for (const loss of Object.values(sections)) {
        const ran = yield* run({ loss, klCoefficient: 0.01, kl: { estimator: "k2", corrected: true } })
        sound(ran)
        moved.add(weights(ran.out.policy).toString("base64"))
        assert.isAbove(valuesOf(ran, "ratio/max")[0]!, 1)
      }
      assert.strictEqual(moved.size, Object.keys(sections).length)
    })
  )

  it.live("with one update a step all have the gradient of the policy gradient", () =>
    Effect.gen(function* () {
      const norms: Array<number> = []
      for (const loss of Object.values(sections)) {
        const one = { ...loss, aggregation: "sequence-mean", ...(loss.kind === "dppo" ? { high: 0.2 } : {}) }
        const ran = yield* run({ steps: 1, updatesPerStep: 1, loss: one })
        norms.push(valuesOf(ran, "grad_norm")[0]!)
        assert.isUndefined(ran.said.metrics[0]!.values["ratio/max"])
      }
      for (const norm of norms) assert.closeTo(norm / norms[0]!, 1, 1e-4)
    })
  )
})

describe("advantages", () => {
  it.live("each kind by its formula; those of tokens are journaled as the mean over the answer's", () =>
    Effect.gen(function* () {
      const of = (kind: string) => Effect.map(run({ steps: 1, advantage: { kind } }), (ran) => ({ ran, kind }))
      const all = yield* Effect.forEach(
        ["group", "batch", "centred", "rloo", "reinforce++", "reinforce++-baseline"],
        of
      )
      for (const { ran } of all) sound(ran)
      const found = Object.fromEntries(all.map(({ kind, ran }) => [kind, advantagesOf(ran)]))
      const rewards = all[0]!.ran.said.samples.map(({ reward }) => reward!)
      assert.isAbove(new Set(rewards).size, 1)
      rewards.forEach((reward, i) => {
        const group = rewards.slice(i - (i % 4), i - (i % 4) + 4)
        assert.closeTo(found["centred"]![i]!, reward - mean(group), 1e-9)
        assert.closeTo(found["rloo"]![i]!, (4 / 3) * (reward - mean(group)), 1e-9)
      })
      // Without a KL all tokens of an answer have one advantage, so means over answers are affine in the reward.
      const [a, b] = [rewards.indexOf(Math.max(...rewards)), rewards.indexOf(Math.min(...rewards))]
      const slope = (found["reinforce++"]![a]! - found["reinforce++"]![b]!) / (rewards[a]! - rewards[b]!)
      rewards.forEach((reward, i) => {
        assert.closeTo(found["reinforce++"]![i]!, found["reinforce++"]![b]! + slope * (reward - rewards[b]!), 1e-9)
      })
    })
  )

  it.live(
    "answers that nothing could score have advantage 0 and leave their group's mean; if none could be, nothing moves",
    () =>
      Effect.gen(function* () {
        const half = grpoWith([
          partOf("half", ({ answer }) => (answer.candidates.length % 2 === 0 ? Number.NaN : answer.candidates.length))
        ])
        const ran = yield* run({ steps: 1, advantage: { kind: "centred" } }, {}, half)
        const rewards = ran.said.samples.map(({ reward }) => reward!)
        assert.isTrue(rewards.some(Number.isNaN) && rewards.some((reward) => reward > 1))
        ran.said.samples.forEach(({ advantage, reward }, i) => {
          const scored = rewards.slice(i - (i % 4), i - (i % 4) + 4).filter((r) => !Number.isNaN(r))
          assert.closeTo(advantage!, Number.isNaN(reward!) ? 0 : reward! - mean(scored), 1e-9)
        })
        const { policy } = yield* ground
        const nothing = grpoWith([partOf("nothing", () => Number.NaN)])
        for (const kind of ["group", "reinforce++"]) {
          const still = yield* run({ advantage: { kind } }, {}, nothing)
          assert.isTrue(advantagesOf(still).every((advantage) => advantage === 0))
          assert.deepStrictEqual(weights(still.out.policy), weights(policy))
        }
      })
  )
})

describe("dynamic sampling", () => {
  // Prompts of an even length are all worth the same.
  const some = grpoWith([
    partOf("some", ({ answer, prompt }) => (prompt.situation.length % 2 === 0 ? 1 : 9 - answer.candidates.length))
  ])
  const rounds = (n: number) => ({ dynamicSampling: { rounds: n } })

  it.live("replaces groups without variance until the step is full, by prompts that it has not had", () =>
    Effect.gen(function* () {
      const plain = yield* run({}, {}, some)
      assert.isAbove(valuesOf(plain, "frac_reward_zero_std")[0]!, 0)
      const ran = yield* run(rounds(20), {}, some)
      sound(ran)
      assert.deepStrictEqual(valuesOf(ran, "sampling/groups"), [4, 4])
      assert.isAbove(valuesOf(ran, "sampling/rounds")[0]!, 1)
      const rows = ran.said.samples.filter(({ step }) => step === 0)
      const groups = Map.groupBy(rows, ({ promptId }) => promptId)
      assert.isAbove(groups.size, 4)
      assert.isTrue([...groups.values()].every(({ length }) => length === 4))
      const taught = [...groups.values()].filter((group) => group.some(({ advantage }) => advantage !== 0))
      assert.lengthOf(taught, 4)
      // The first prompts are those of a step without replacement, and answered alike.
      const first = plain.said.samples.filter(({ step }) => step === 0).map(({ completion }) => completion)
      assert.deepStrictEqual(
        rows.slice(0, 16).map(({ completion }) => completion),
        first
      )
    })
  )

  it.live("is bounded: without any variance it asks so often, then keeps the first groups and learns nothing", () =>
    Effect.gen(function* () {
      const flat = grpoWith([partOf("flat", () => 1)])
      const ran = yield* run(rounds(2), {}, flat)
      assert.deepStrictEqual(valuesOf(ran, "sampling/rounds"), [3, 3])
      assert.deepStrictEqual(valuesOf(ran, "sampling/groups"), [4, 4])
      assert.deepStrictEqual(weights(ran.out.policy), weights((yield* ground).policy))
      // 48 prompts: after 11 rounds of 4 there are no others.
      const all = yield* run({ ...rounds(99), steps: 1, groupSize: 2, maxNewTokens: 4 }, {}, flat)
      assert.deepStrictEqual(valuesOf(all, "sampling/rounds"), [12])
    })
  )

  it.live("resumes to the last bit", () =>
    Effect.gen(function* () {
      const all = { inputs: yield* ground, params: { ...base, ...rounds(3), steps: 3 }, seed: 2 }
      const whole = yield* runStage(some, { dir: fresh(), ...all })
      const first = yield* attemptStage(some, { dir: fresh(), ...all, checkpointEvery: 1, breakAt: 1 })
      const rest = yield* runStage(some, { dir: fresh(), ...all, resume: first.said.checkpoints.at(-1)! })
      assert.deepStrictEqual([...first.said.samples, ...rest.said.samples], whole.said.samples)
      assert.deepStrictEqual(weights(rest.out.policy), weights(whole.out.policy))
    })
  )
})

describe("reference", () => {
  it.live(
    "that takes the policy's weights every step is the policy at the start of each: KL 0; a mixture lies between",
    () =>
      Effect.gen(function* () {
        const kl = (reference: object) =>
          Effect.map(run({ steps: 3, updatesPerStep: 1, klCoefficient: 0.01, reference, learningRate: 3e-3 }), (ran) =>
            valuesOf(ran, "kl")
          )
        const [never, always, half, second] = yield* Effect.forEach(
          [{}, { syncEvery: 1 }, { syncEvery: 1, mix: 0.5 }, { syncEvery: 2 }],
          kl
        )
        assert.isAbove(never![2]!, 1e-3)
        for (const step of [1, 2]) assert.isBelow(Math.abs(always![step]!), 1e-6)
        assert.isTrue(half![2]! > 1e-6 && half![2]! < never![2]!)
        assert.isAbove(second![1]!, 1e-4)
        assert.isBelow(Math.abs(second![2]!), 1e-6)
      })
  )

  it.live("that moves is kept in checkpoints: an interrupted run goes on to the last bit", () =>
    Effect.gen(function* () {
      const params = {
        ...base,
        steps: 3,
        klCoefficient: 0.1,
        reference: { syncEvery: 1, mix: 0.3 },
        learningRate: 3e-3
      }
      const all = { inputs: yield* ground, params, seed: 2 }
      const whole = yield* runStage(stage, { dir: fresh(), ...all })
      const first = yield* attemptStage(stage, { dir: fresh(), ...all, checkpointEvery: 2, breakAt: 2 })
      assert.isTrue(Exit.hasInterrupts(first.exit))
      const rest = yield* runStage(stage, { dir: fresh(), ...all, resume: first.said.checkpoints.at(-1)! })
      assert.deepStrictEqual([...timeless(first.said), ...timeless(rest.said)], timeless(whole.said))
      assert.deepStrictEqual(weights(rest.out.policy), weights(whole.out.policy))
    })
  )

  it.live("a KL in the reward is taken off what advantages are computed from, not off the reward", () =>
    Effect.gen(function* () {
      const more = {
        updatesPerStep: 1,
        learningRate: 3e-3,
        kl: { estimator: "k1", in: "reward" },
        advantage: { kind: "centred" }
      }
      const [none, strong] = [yield* run(more), yield* run({ ...more, klCoefficient: 5 })]
      // Policy and reference are one before the first update.
      advantagesOf(strong).forEach((advantage, i) => {
        assert.closeTo(advantage, advantagesOf(none)[i]!, 1e-3)
      })
      const rewards = strong.said.samples.filter(({ step }) => step === 1).map(({ reward }) => reward!)
      const charged = advantagesOf(strong, 1)
      const off = rewards.map((reward, i) => charged[i]! - (reward - mean(rewards.slice(i - (i % 4), i - (i % 4) + 4))))
      assert.isAbove(Math.max(...off.map(Math.abs)), 0.01)
      sound(strong)
      const tokens = yield* run({ ...more, klCoefficient: 5, advantage: { kind: "reinforce++" } })
      sound(tokens)
    })
  )
})

describe("options", () => {
  it.live("answers that were cut off are not learnt from, if one asks", () =>
    Effect.gen(function* () {
      const { policy } = yield* ground
      const length = partOf("early", ({ answer }) => answer.candidates.length + answer.core.length)
      const cut = { maxNewTokens: 6, maskTruncated: true }
      const all = yield* run(cut, {}, grpoWith([length]))
      assert.deepStrictEqual(valuesOf(all, "completions/clipped_ratio"), [1, 1])
      assert.deepStrictEqual(valuesOf(all, "completions/masked_ratio"), [1, 1])
      assert.isTrue(advantagesOf(all).some((advantage) => advantage !== 0))
      assert.deepStrictEqual(weights(all.out.policy), weights(policy))
      const some = yield* run({ maskTruncated: true, maxNewTokens: 30 })
      sound(some)
      const [masked] = valuesOf(some, "completions/masked_ratio")
      assert.isTrue(masked! > 0 && masked! < 1)
    })
  )

  it.live("overlong answers lose reward where advantages are computed, linearly in the buffer", () =>
    Effect.gen(function* () {
      const flat = grpoWith([partOf("flat", () => 1)])
      const ran = yield* run(
        { steps: 1, overlong: { buffer: 40, weight: 2 }, advantage: { kind: "centred" } },
        {},
        flat
      )
      assert.isTrue(ran.said.samples.every(({ reward }) => reward === 1))
      const advantages = advantagesOf(ran)
      assert.isBelow(Math.min(...advantages), 0)
      // Each token costs 2 / 40: advantages differ by whole multiples within a group.
      advantages.forEach((advantage, i) => {
        const steps = (advantage - advantages[i - (i % 4)]!) / (2 / 40)
        assert.closeTo(steps, Math.round(steps), 1e-9)
      })
      const decomposed = yield* run(
        { steps: 1, overlong: { buffer: 40 }, reward: { aggregate: "normalize-then-sum" } },
        {},
        flat
      )
      assert.isBelow(Math.min(...advantagesOf(decomposed)), 0)
    })
  )

  it.live("a correction weighs what a nucleus drew by the whole softmax; without one it weighs 1", () =>
    Effect.gen(function* () {
      const find = (more: object) => run({ steps: 1, ...more })
      const name = "sampling/importance_sampling_ratio"
      const nucleus = yield* find({ topP: 0.6, correction: { kind: "truncate", level: "token" } })
      sound(nucleus)
      // A nucleus is likelier than the whole: weights in (0.6, 1].
      assert.isAbove(valuesOf(nucleus, `${name}/min`)[0]!, 0.55)
      assert.isBelow(valuesOf(nucleus, `${name}/min`)[0]!, 0.95)
      assert.closeTo(valuesOf(nucleus, `${name}/max`)[0]!, 0.99, 0.0101)
      assert.strictEqual(valuesOf(nucleus, `${name}/cut`)[0], 0)
      const rows = yield* find({ topP: 0.6, correction: { kind: "mask", level: "sequence", floor: 0.5 } })
      assert.isAbove(valuesOf(rows, `${name}/cut`)[0]!, 0)
      const whole = yield* find({ correction: { kind: "mask", level: "sequence" } })
      assert.closeTo(valuesOf(whole, `${name}/mean`)[0]!, 1, 1e-3)
      const plain = yield* find({})
      assert.closeTo(valuesOf(whole, "loss")[0]!, valuesOf(plain, "loss")[0]!, 1e-3)
    })
  )

  it.live("an entropy bonus raises the entropy", () =>
    Effect.gen(function* () {
      const last = (entropyBonus: number) =>
        Effect.map(run({ steps: 5, entropyBonus, learningRate: 3e-3 }), (ran) => valuesOf(ran, "entropy").at(-1)!)
      assert.isAbove(yield* last(1), (yield* last(0)) + 0.2)
    })
  )
})

describe("refusals", () => {
  const decode = (section: object) => Schema.decodeSync(grpo.params)(section)
  const paths = (section: object) => grpoRefusals(decode(section)).map(({ path }) => path)

  it("what means nothing together is said with its key", () => {
    assert.deepStrictEqual(paths({}), [])
    const gdpo = { reward: { aggregate: "normalize-then-sum" } }
    assert.deepStrictEqual(paths(gdpo), [])
    assert.deepStrictEqual(paths({ ...gdpo, advantage: { kind: "rloo" } }), ["advantage.kind"])
    assert.deepStrictEqual(paths({ ...gdpo, klCoefficient: 1, kl: { in: "reward" } }), ["kl.in"])
    assert.deepStrictEqual(paths({ kl: { in: "reward", corrected: true } }), ["kl.corrected"])
    assert.deepStrictEqual(paths({ overlong: { buffer: 73 } }), ["overlong.buffer"])
    assert.deepStrictEqual(paths({ loss: { kind: "grpo", delta: 1.2 } }), ["loss.delta"])
    assert.deepStrictEqual(paths({ loss: { kind: "cispo", floor: 5 } }), ["loss.floor"])
    assert.deepStrictEqual(paths({ loss: { kind: "copg", clip: { low: 1 } } }), ["loss.clip.low"])
    assert.deepStrictEqual(paths({ updatesPerStep: 129 }), ["updatesPerStep"])
  })

  it("unknown losses and knobs of other losses are refused by the Schema", () => {
    const bad = [
      { loss: { kind: "ppo" } },
      { loss: { kind: "gspo", cap: 3 } },
      { advantage: { kind: "rloo", epsilon: 1 } },
      { correction: { kind: "none", cap: 1 } },
      { groupSize: 1 }
    ]
    for (const section of bad) {
      const found = Schema.decodeResult(grpo.params, { onExcessProperty: "error" })(section)
      assert.strictEqual(found._tag, "Failure", JSON.stringify(section))
    }
  })

  it.live("and by the stage itself", () =>
    Effect.gen(function* () {
      const params = { ...base, overlong: { buffer: 41 } }
      const error = yield* failStage(stage, { dir: fresh(), inputs: yield* ground, params })
      assert.deepInclude(error, { _tag: "GrpoRefused", path: "overlong.buffer" })
    })
  )
})
