/** POPE's training as a stage: it goes on to the last bit, learns what people voted for, and says what it cannot take. */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit } from "effect"
import { LoggedSlates } from "../../src/artifact/kinds.ts"
import type { LoggedSlate } from "../../src/data/records.ts"
import { behaviour } from "../../src/stages/behaviour.ts"
import { ips } from "../../src/stages/ips.ts"
import { freshFolder } from "../support/folders.ts"
import { attemptStage, failStage, rowsOf, runStage } from "../support/runStage.ts"
import { timeless } from "./ground.ts"
import { label, loggedGround, writtenTo } from "./logged.ts"

const fresh = freshFolder("ips")
const weights = (dir: string) => readFileSync(join(dir, "model.safetensors"))
const ground = loggedGround(fresh)
const written = (rows: ReadonlyArray<LoggedSlate>) => writtenTo(fresh(), rows)

describe("ips", () => {
  const params = { steps: 6, batchSize: 12, learningRate: 2e-3 }

  it.live("6 steps are 3 steps, an interruption and the rest, to the last bit; every metric is declared", () =>
    Effect.gen(function* () {
      const { log, policy } = yield* ground
      const inputs = { policy, slates: log.train }
      const whole = yield* runStage(ips, { dir: fresh(), inputs, params, seed: 2 })
      const first = yield* attemptStage(ips, { dir: fresh(), inputs, params, seed: 2, checkpointEvery: 3, breakAt: 3 })
      assert.isTrue(Exit.hasInterrupts(first.exit))
      const rest = yield* runStage(ips, {
        dir: fresh(),
        inputs,
        params,
        seed: 2,
        resume: first.said.checkpoints.at(-1)!
      })
      assert.deepStrictEqual(weights(rest.out.policy), weights(whole.out.policy))
      assert.deepStrictEqual([...timeless(first.said), ...timeless(rest.said)], timeless(whole.said))
      // those of evaluations, and of devices that compile for sizes, apart
      const always = (record: object) =>
        Object.keys(record).filter((name) => !/^(eval|perf\/bucket_padding)\//.test(name))
      assert.sameMembers(always(whole.said.metrics[0]!.values), always(ips.metrics))
      const less = yield* runStage(ips, { dir: fresh(), inputs, params: { ...params, steps: 3 }, seed: 2 })
      const resume = { step: 3, dir: less.out.checkpoint, state: less.said.handedOver[0]!.state }
      const longer = yield* runStage(ips, { dir: fresh(), inputs, params, seed: 2, resume })
      assert.deepStrictEqual(weights(longer.out.policy), weights(whole.out.policy))
      const none = yield* runStage(ips, { dir: fresh(), inputs, params: { ...params, steps: 0 } })
      assert.deepStrictEqual(weights(none.out.policy), weights(policy))
    })
  )

  it.live(
    "on its own odds it learns what people voted for; on equal votes a self-normalised estimate teaches nothing",
    () =>
      Effect.gen(function* () {
        const { log, policy } = yield* ground
        const own = yield* runStage(behaviour, { dir: fresh(), inputs: { slates: log.train, policy } })
        const train = (params: Readonly<Record<string, unknown>>, slates = own.out.slates) =>
          Effect.map(
            runStage(ips, {
              dir: fresh(),
              inputs: { policy, slates },
              params: { steps: 40, batchSize: 24, learningRate: 2e-3, ...label, weights: "independent", ...params }
            }),
            ({ out, said }) => ({ out, values: said.metrics.map((row) => row.values) })
          )
        const plain = yield* train({ estimator: "clipped", propensity: "length-normalised" })
        // It rises, and everything that was logged has become likelier, the worst too.
        const [start, end] = [plain.values[0]!, plain.values.at(-1)!]
        assert.closeTo(start["log_ratio/mean"]!, 0, 1e-3)
        assert.isAbove(end["ope/value"]!, start["ope/value"]!)
        assert.isAbove(end["log_ratio/bottom"]!, 0)
        for (const estimator of ["self-normalised", "doubly-robust"] as const) {
          const { values } = yield* train({ estimator, propensity: "length-normalised", votes: "min-max" })
          assert.isAbove(values.at(-1)!["log_ratio/top"]!, values.at(-1)!["log_ratio/bottom"]! + 0.02)
          assert.isAbove(values.at(-1)!["ope/value"]!, values[0]!["ope/value"]!)
        }
        const equal = yield* runStage(behaviour, { dir: fresh(), inputs: { slates: log.equalVotes, policy } })
        const idle = yield* train({ estimator: "self-normalised", steps: 3 }, equal.out.slates)
        // Rounding of float32 is all that is left of a gradient.
        for (const values of idle.values.slice(0, 1)) assert.isBelow(values["grad_norm"]!, 1e-4)
        // Nobody is on top and nobody at the bottom; a 0 would say that they had not moved.
        for (const values of idle.values) {
          assert.isNumber(values["log_ratio/mean"])
          assert.notProperty(values, "log_ratio/top")
          assert.notProperty(values, "log_ratio/bottom")
        }
        const moved = yield* train({ estimator: "clipped", steps: 3 }, equal.out.slates)
        assert.isAbove(moved.values[0]!["grad_norm"]!, 1e-2)
      })
  )

  it.live(
    "takes slates of different sizes, joint weights by Plackett-Luce, and refuses texts that are there twice",
    () =>
      Effect.gen(function* () {
        const { log, policy } = yield* ground
        const rows = (yield* rowsOf(LoggedSlates, log.train)).filter(
          ({ responses }) => new Set(responses.map(({ text }) => text)).size === responses.length
        )
        const short = rows.slice(0, 12).map((row, k) => {
          const [first, second, third] = row.responses
          return { ...row, responses: k % 2 === 0 ? [first, second!, third!] : [first] } as LoggedSlate
        })
        const params = { steps: 2, batchSize: 6, set: "plackett-luce", propensity: "sequence", clip: 1e6 } as const
        const { said } = yield* runStage(ips, { dir: fresh(), inputs: { policy, slates: written(short) }, params })
        assert.isTrue(said.metrics.every(({ values }) => Number.isFinite(values["loss"])))
        const [one] = short
        const twice = { ...one!, responses: [one!.responses[0], one!.responses[0]] } as LoggedSlate
        const error = yield* failStage(ips, { dir: fresh(), inputs: { policy, slates: written([twice]) }, params })
        assert.match(error.message, /slate "train\/\d+\/\d": holds a text twice/)
        const wrong = yield* failStage(ips, {
          dir: fresh(),
          inputs: { policy, slates: written(short) },
          params: { set: "plackett-luce" }
        })
        assert.match(wrong.message, /length-normalised propensities are no probabilities/)
      })
  )
})
