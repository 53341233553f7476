/** Preference training as a stage: every loss learns and resumes to the last bit; rows that say nothing are defined. */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit } from "effect"
import { Preferences, RankedLists } from "../../src/artifact/kinds.ts"
import type { PreferencePair } from "../../src/data/records.ts"
import { preference } from "../../src/stages/preference.ts"
import { preferences } from "../../src/stages/preferences.ts"
import { freshFolder } from "../support/folders.ts"
import { attemptStage, failStage, rowsOf, runStage } from "../support/runStage.ts"
import { timeless, tinyPolicy, tinyWorld, warmPolicy } from "./ground.ts"

const fresh = freshFolder("preference")
const weights = (dir: string) => readFileSync(join(dir, "model.safetensors"))

const ground = Effect.cached(
  Effect.gen(function* () {
    const { demonstrations, world } = yield* tinyWorld(fresh)
    const base = yield* tinyPolicy(fresh, world)
    const policy = yield* warmPolicy(fresh, base, demonstrations)
    const { out } = yield* runStage(preferences, {
      dir: fresh(),
      params: { from: "world", pairs: 96, errorRate: 0 },
      inputs: { world }
    })
    const { bottom, pairs, ranked, top, unpaired } = out
    return { base, top, bottom, inputs: { policy, pairs, ranked, unpaired, positive: policy, negative: base } }
  })
).pipe(Effect.runSync)

const params = { steps: 6, batchSize: 8, learningRate: 1e-3 }
const kinds = ["dpo", "hinge", "robust", "ipo", "simpo", "cpo", "orpo", "kto", "pl-dpo", "irpo", "tis-dpo"] as const

describe("preference", () => {
  it.live.each(kinds)("%s learns which answers are better, and says so by TRL's names", (kind) =>
    Effect.gen(function* () {
      const { inputs } = yield* ground
      const { said } = yield* runStage(preference, {
        dir: fresh(),
        inputs,
        params: { ...params, loss: { kind }, steps: 16, batchSize: 24 }
      })
      const values = said.metrics.map((row) => row.values)
      const mean = (name: string, rows: typeof values) => rows.reduce((sum, row) => sum + row[name]!, 0) / rows.length
      const [first, last] = [values.slice(0, 3), values.slice(-3)]
      assert.isAbove(mean("rewards/margins", last), mean("rewards/margins", first))
      if (kind !== "kto") assert.isAbove(mean("rewards/accuracies", last), 0.6)
      assert.isBelow(mean("loss", last), mean("loss", first))
      const declared = Object.keys(preference.metrics).map((name) => new RegExp(`^${name.replace("*", ".*")}$`))
      for (const name of Object.keys(values[0]!))
        assert.isTrue(
          declared.some((pattern) => pattern.test(name)),
          name
        )
    })
  )

  it.live.each(["dpo", "kto", "pl-dpo", "tis-dpo"] as const)(
    "%s: 6 steps are 3 steps, an interruption and the rest, to the last bit",
    (kind) =>
      Effect.gen(function* () {
        const { inputs } = yield* ground
        const asked = { inputs, params: { ...params, loss: { kind } }, seed: 4 }
        const whole = yield* runStage(preference, { dir: fresh(), ...asked })
        const first = yield* attemptStage(preference, { dir: fresh(), ...asked, checkpointEvery: 3, breakAt: 3 })
        assert.isTrue(Exit.hasInterrupts(first.exit))
        const rest = yield* runStage(preference, { dir: fresh(), ...asked, resume: first.said.checkpoints.at(-1)! })
        assert.deepStrictEqual(weights(rest.out.policy), weights(whole.out.policy))
        assert.deepStrictEqual([...timeless(first.said), ...timeless(rest.said)], timeless(whole.said))
      })
  )

  it.live.each(["dpo", "kto"] as const)("%s: 6 steps take up what 3 steps left, to the last bit", (kind) =>
    Effect.gen(function* () {
      const { inputs } = yield* ground
      // Two passes: rows of the second are scored by the reference once, in the first.
      const asked = (steps: number) => ({
        inputs,
        params: { ...params, batchSize: 24, steps, loss: { kind } },
        seed: 4
      })
      const whole = yield* runStage(preference, { dir: fresh(), ...asked(6) })
      const less = yield* runStage(preference, { dir: fresh(), ...asked(3) })
      const resume = { step: 3, dir: less.out.checkpoint, state: less.said.handedOver[0]!.state }
      const rest = yield* runStage(preference, { dir: fresh(), ...asked(6), resume })
      assert.deepStrictEqual(weights(rest.out.policy), weights(whole.out.policy))
      assert.deepStrictEqual([...timeless(less.said), ...timeless(rest.said)], timeless(whole.said))
      assert.strictEqual(
        preference.grows!.unless({ schedule: "cosine" } as never),
        "the cosine schedule spans all steps"
      )
    })
  )

  it.live("the first step of DPO is at the reference: loss log 2, rewards 0", () =>
    Effect.gen(function* () {
      const { inputs } = yield* ground
      const { said } = yield* runStage(preference, { dir: fresh(), inputs, params })
      const [{ values }] = said.metrics as [(typeof said.metrics)[number]]
      assert.closeTo(values["loss"]!, Math.log(2), 1e-5)
      assert.closeTo(values["rewards/margins"]!, 0, 1e-5)
    })
  )

  it.live("0 steps and a learning rate of 0 pass the weights through, bit for bit", () =>
    Effect.gen(function* () {
      const { inputs } = yield* ground
      for (const still of [{ steps: 0 }, { steps: 2, learningRate: 0 }]) {
        const { out } = yield* runStage(preference, { dir: fresh(), inputs, params: { ...params, ...still } })
        assert.deepStrictEqual(weights(out.policy), weights(inputs.policy))
      }
    })
  )

  it.live(
    "pairs that are held out are judged at the end: none is at the reference, more than half are after learning",
    () =>
      Effect.gen(function* () {
        const { inputs } = yield* ground
        const rows = yield* rowsOf(Preferences, inputs.pairs)
        const [pairs, heldOut] = [fresh(), fresh()]
        yield* Preferences.write(pairs).write(rows.slice(0, 72))
        yield* Preferences.write(heldOut).write(rows.slice(72))
        const run = (more: object) =>
          Effect.map(
            runStage(preference, {
              dir: fresh(),
              inputs: { ...inputs, pairs, heldOut },
              params: { ...params, ...more }
            }),
            ({ said }) => said.metrics.at(-1)!.values
          )
        assert.deepStrictEqual(yield* run({ steps: 0 }), { "eval_rewards/accuracies": 0, "eval_rewards/margins": 0 })
        const learnt = yield* run({ steps: 16, batchSize: 24 })
        assert.isAbove(learnt["eval_rewards/accuracies"]!, 0.5)
        assert.isAbove(learnt["eval_rewards/margins"]!, 0)
      })
  )

  it.live("offsets and weights of pairs are heard", () =>
    Effect.gen(function* () {
      const { inputs } = yield* ground
      const given = fresh()
      const rows = yield* rowsOf(Preferences, inputs.pairs)
      yield* Preferences.write(given).write(rows.map((row) => ({ ...row, margin: Math.LN2, weight: 3 })))
      const run = (loss: object) =>
        Effect.map(
          runStage(preference, {
            dir: fresh(),
            inputs: { ...inputs, pairs: given },
            params: { ...params, steps: 1, loss: { kind: "dpo", ...loss } }
          }),
          ({ said }) => said.metrics[0]!.values["loss"]!
        )
      // At the reference D = -log 2: -log sigmoid(-log 2) = log 3.
      assert.closeTo(yield* run({ offset: 1 }), Math.log(3), 1e-5)
      assert.closeTo(yield* run({ weights: "given" }), 3 * Math.log(2), 1e-5)
    })
  )
})

describe("rows that say nothing", () => {
  const written = Effect.fnUntraced(function* (rows: ReadonlyArray<PreferencePair>) {
    const dir = fresh()
    yield* Preferences.write(dir).write(rows)
    return dir
  })

  it.live("pairs of equal texts are left out and counted; only such pairs are an error", () =>
    Effect.gen(function* () {
      const { inputs } = yield* ground
      const rows = yield* rowsOf(Preferences, inputs.pairs)
      const equal = rows.slice(0, 3).map((row) => ({ ...row, rejected: row.chosen }))
      const plain = yield* runStage(preference, { dir: fresh(), inputs, params })
      const mixed = yield* runStage(preference, {
        dir: fresh(),
        inputs: { ...inputs, pairs: yield* written([...equal, ...rows]) },
        params
      })
      assert.deepStrictEqual(weights(mixed.out.policy), weights(plain.out.policy))
      assert.strictEqual(mixed.said.metrics[0]!.values["preference/equal"], 3)
      const error = yield* failStage(preference, {
        dir: fresh(),
        inputs: { ...inputs, pairs: yield* written(equal) },
        params
      })
      assert.match((error as Error).message, /of 3 rows 3 have equal texts and 0 do not fit .* none is left/)
    })
  )

  it.live("an answer longer than the context fails with its text, or is skipped and counted", () =>
    Effect.gen(function* () {
      const { inputs } = yield* ground
      const rows = yield* rowsOf(Preferences, inputs.pairs)
      const long = { ...rows[0]!, rejected: Array.from({ length: 6 }, () => rows[0]!.rejected).join("\n") }
      const pairs = yield* written([long, ...rows])
      const error = yield* failStage(preference, { dir: fresh(), inputs: { ...inputs, pairs }, params })
      assert.match((error as Error).message, /^a text of \d+ tokens does not fit the model's 96/)
      const { said } = yield* runStage(preference, {
        dir: fresh(),
        inputs: { ...inputs, pairs },
        params: { ...params, tooLong: "skip" }
      })
      assert.strictEqual(said.metrics[0]!.values["preference/skipped"], 1)
    })
  )

  it.live("data or models that a loss needs and that are not there are named", () =>
    Effect.gen(function* () {
      const { inputs } = yield* ground
      const failed = (loss: object, without: object) =>
        Effect.map(
          failStage(preference, { dir: fresh(), inputs: { ...inputs, ...without }, params: { ...params, loss } }),
          (error) => (error as Error).message
        )
      assert.match(yield* failed({ kind: "kto" }, { unpaired: undefined }), /`kto` learns from the input `unpaired`/)
      assert.match(yield* failed({ kind: "dpo" }, { pairs: undefined }), /`dpo` learns from the input `pairs`/)
      assert.match(
        yield* failed({ kind: "tis-dpo" }, { negative: undefined }),
        /needs the inputs `positive` and `negative`/
      )
      const alone = fresh()
      yield* RankedLists.write(alone).write([{ id: "a", prompt: "x", answers: [{ text: "y", relevance: 1 }] }])
      assert.match(yield* failed({ kind: "irpo" }, { ranked: alone }), /`ranked` has no row that says what is better/)
      const voted = fresh()
      const answers = [40, 2].map((relevance, k) => ({ text: `y${k}`, relevance }))
      yield* RankedLists.write(voted).write([{ id: "a", prompt: "x", answers: [answers[0]!, answers[1]!] }])
      assert.match(
        yield* failed({ kind: "irpo", gain: "exponential" }, { ranked: voted }),
        /`loss\.gain: exponential` is for grades up to 30, and a relevance is 40: counts of votes want `gain: linear`/
      )
    })
  )
})
