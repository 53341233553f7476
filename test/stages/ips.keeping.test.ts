/** POPE's training measured on held-out slates: what it measures, which policy is kept, and what it cannot measure by. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { LoggedSlates } from "../../src/artifact/kinds.ts"
import type { LoggedSlate } from "../../src/data/records.ts"
import { behaviour } from "../../src/stages/behaviour.ts"
import { evaluateOpe } from "../../src/stages/evaluateOpe.ts"
import { logRatiosOf } from "../../src/stages/ips/report.ts"
import { ips } from "../../src/stages/ips.ts"
import { freshFolder } from "../support/folders.ts"
import { attemptStage, failStage, rowsOf, runStage } from "../support/runStage.ts"
import { timeless } from "./ground.ts"
import { keepsBest, measured, weights } from "./keepsBest.ts"
import { loggedGround, writtenTo } from "./logged.ts"

const fresh = freshFolder("ips-keeping")
const written = (rows: ReadonlyArray<LoggedSlate>) => writtenTo(fresh(), rows)

const logged = loggedGround(fresh)
const ground = Effect.cached(
  Effect.gen(function* () {
    const { log, policy } = yield* logged
    const odds = (slates: string) =>
      Effect.map(runStage(behaviour, { dir: fresh(), inputs: { slates, policy } }), ({ out }) => out.slates)
    const [slates, fair] = yield* Effect.all([odds(log.train), odds(log.development)])
    // Held-out people who vote for what those of the training log did not: the more is learnt, the worse.
    const rows = yield* rowsOf(LoggedSlates, slates)
    const contrary = rows.slice(0, 24).map((row): LoggedSlate => {
      const most = Math.max(...row.responses.map(({ votes }) => votes!))
      const [first, ...rest] = row.responses.map((one) => ({ ...one, votes: most - one.votes! }))
      return { ...row, responses: [first!, ...rest] }
    })
    return { contrary: written(contrary), fair, policy, slates }
  })
).pipe(Effect.runSync)

const learning = { votes: "min-max", cu: "label", lambda: 0, weights: "independent", estimator: "self-normalised" }
const params = { steps: 9, batchSize: 24, learningRate: 2e-3, evaluateEvery: 2, ...learning } as const
const best = { ...params, keepBest: "eval/log_ratio/margin" } as const
const evaluations = Object.keys(ips.metrics).filter((name) => name.startsWith("eval/") && name !== "eval/kept_step")

describe("ips, measured in training", () => {
  it("log-ratios of the most- and the least-voted, by hand", () => {
    const votes = [
      [1, 1],
      [3, 0, 3]
    ]
    const ratios = [
      [5, 7],
      [1, -2, 2]
    ]
    // top (1 + 2) / 2, bottom -2; the first slate has neither
    assert.deepStrictEqual(logRatiosOf(votes, ratios), { mean: 13 / 5, extremes: { top: 1.5, bottom: -2 } })
    assert.isUndefined(logRatiosOf(votes.slice(0, 1), ratios.slice(0, 1)).extremes)
  })

  it.live("every n steps and at the end, by evaluate-ope's own numbers, and training is the same without it", () =>
    Effect.gen(function* () {
      const { fair, policy, slates } = yield* ground
      const inputs = { policy, slates, development: fair }
      const { out, said } = yield* runStage(ips, { dir: fresh(), inputs, params, seed: 1 })
      for (const name of evaluations) {
        assert.deepStrictEqual(
          measured(said, name).map(([step]) => step),
          [1, 3, 5, 7, 8],
          name
        )
      }
      const without = { ...params, evaluateEvery: 0 }
      const plain = yield* runStage(ips, { dir: fresh(), inputs: { policy, slates }, params: without, seed: 1 })
      assert.deepStrictEqual(weights(out.policy), weights(plain.out.policy))
      const trained = timeless(said).filter(([, values]) => !Object.hasOwn(values as object, "eval/ope/snips"))
      assert.deepStrictEqual(trained, timeless(plain.said))
      const { said: judged } = yield* runStage(evaluateOpe, {
        dir: fresh(),
        inputs: { policy: out.policy, slates: fair },
        params: { votes: "min-max", cu: "label", lambda: 0, weights: "independent" }
      })
      const mean = (name: string) => {
        const values = judged.items.filter((item) => item.name === name).map(({ value }) => value)
        return values.reduce((sum, value) => sum + value, 0) / values.length
      }
      for (const name of ["ope/ips_clipped", "ope/snips", "ope/dr"]) {
        assert.closeTo(measured(said, `eval/${name}`).at(-1)![1], mean(name), 1e-5, name)
      }
      assert.closeTo(measured(said, "eval/ope/ess_share").at(-1)![1], judged.metrics[0]!.values["ope/ess_share"]!, 1e-5)
    })
  )

  it.live("keeps the best policy of a run that gets worse, through an interruption and a longer run, bit for bit", () =>
    Effect.flatMap(ground, ({ contrary, policy, slates }) =>
      keepsBest(
        ({ held, ...how }) => {
          const inputs = { policy, slates, development: held ? contrary : undefined }
          return attemptStage(ips, { dir: fresh(), inputs, seed: 1, ...how })
        },
        best,
        (value, than) => value > than
      )
    )
  )

  it.live("says before training what it cannot be measured on", () =>
    Effect.gen(function* () {
      const { fair, policy, slates } = yield* ground
      const fail = (asked: object, development?: string) =>
        Effect.map(
          failStage(ips, { dir: fresh(), inputs: { policy, slates, development }, params: asked }),
          (error) => (error as Error).message
        )
      assert.match(yield* fail(params), /^ips: `evaluateEvery: 2` asks for development data, and the pipeline/)
      assert.match(yield* fail(params, written([])), /no rows; hold some out \(`data\.development`\)/)
      assert.match(
        yield* fail({ ...best, evaluateEvery: 0 }, fair),
        /^ips: the best policy by eval\/log_ratio\/margin is asked for, and nothing is measured/
      )
      const rows = yield* rowsOf(LoggedSlates, fair)
      const votes = (count: number | undefined) =>
        written(
          rows.map((row) => {
            const [first, ...rest] = row.responses.map(({ votes: _, ...one }) =>
              count === undefined ? one : { ...one, votes: count }
            )
            return { ...row, responses: [first!, ...rest] }
          })
        )
      assert.match(yield* fail(params, votes(undefined)), /^ips: slate "development\/.*": response 0 has no votes/)
      assert.match(yield* fail(best, votes(3)), /one response has more votes than another, and there are none/)
    })
  )
})
