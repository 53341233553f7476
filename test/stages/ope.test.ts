/** Logged slates, their behaviour policy and off-policy evaluation, as stages; POPE's training is in ips.test.ts. */
import { appendFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Demonstrations, LoggedSlates, Situations } from "../../src/artifact/kinds.ts"
import type { LoggedSlate } from "../../src/data/records.ts"
import { behaviour } from "../../src/stages/behaviour.ts"
import { candidates } from "../../src/stages/candidates.ts"
import { evaluateOpe } from "../../src/stages/evaluateOpe.ts"
import { generate } from "../../src/stages/generate.ts"
import { ips } from "../../src/stages/ips.ts"
import { references } from "../../src/stages/references.ts"
import { responses } from "../../src/stages/responses.ts"
import { slates } from "../../src/stages/slates.ts"
import { freshFolder } from "../support/folders.ts"
import type { Said } from "../support/memoryTask.ts"
import { failStage, rowsOf, runStage } from "../support/runStage.ts"
import { label, loggedGround, writtenTo } from "./logged.ts"

const fresh = freshFolder("ope")
const mean = (values: ReadonlyArray<number>) => values.reduce((a, b) => a + b, 0) / values.length

const ground = loggedGround(fresh)
const written = (rows: ReadonlyArray<LoggedSlate>) => writtenTo(fresh(), rows)

/** Mean of an item. */
const item = (said: Said, name: string) => mean(said.items.filter((row) => row.name === name).map(({ value }) => value))

describe("slates", () => {
  it.live("are logged by a known policy over a pool, with a control whose votes are equal", () =>
    Effect.gen(function* () {
      const { log, said } = yield* ground
      const train = yield* rowsOf(LoggedSlates, log.train)
      assert.lengthOf(train, 48 * 4)
      for (const { promptId, responses, truth } of train) {
        assert.match(promptId, /^train\//)
        assert.closeTo(
          truth!.pool.reduce((sum, { logprob }) => sum + Math.exp(logprob), 0),
          1,
          1e-9
        )
        assert.closeTo(
          truth!.pool.reduce((sum, { target }) => sum + Math.exp(target!), 0),
          1,
          1e-9
        )
        for (const { logprob, text } of responses) {
          assert.strictEqual(logprob, truth!.pool.find((one) => one.text === text)!.logprob)
        }
      }
      const control = yield* rowsOf(LoggedSlates, log.equalVotes)
      assert.lengthOf(new Set(control.flatMap(({ responses }) => responses.map(({ votes }) => votes))) as never, 1)
      const rate = (rows: ReadonlyArray<LoggedSlate>) =>
        mean(rows.flatMap((row) => row.responses.map(({ exposure, votes }) => votes! / exposure!)))
      assert.closeTo(rate(control), rate(train), 1e-9)
      assert.deepStrictEqual(
        control.map((row) => row.responses.map(({ text }) => text)),
        train.map((row) => row.responses.map(({ text }) => text))
      )
      assert.sameMembers(Object.keys(said.metrics[0]!.values), Object.keys(slates.metrics))
      assert.closeTo(said.metrics[0]!.values["slates/value"]!, rate(train), 0.05)
    })
  )

  it.live("are a function of the seed, of one domain where asked, and without repetition where asked", () =>
    Effect.gen(function* () {
      const { made } = yield* ground
      const run = (params: unknown, seed = 0) =>
        Effect.flatMap(runStage(slates, { dir: fresh(), inputs: { world: made.world }, params, seed }), ({ out }) =>
          Effect.all([rowsOf(LoggedSlates, out.train), rowsOf(LoggedSlates, out.test)])
        )
      const [[a], [b], [c]] = yield* Effect.all([run({}), run({}), run({}, 1)])
      assert.deepStrictEqual(a, b)
      assert.notDeepEqual(a, c)
      const [own, other] = yield* run({ domains: 2, domain: 1, replacement: false, slateSize: 6 })
      assert.isBelow(own.length, 48)
      assert.deepStrictEqual([...new Set(own.map(({ source }) => source))], ["domain 1"])
      assert.deepStrictEqual([...new Set(other.map(({ source }) => source))], ["domain 1"])
      for (const { responses } of own) {
        assert.strictEqual(new Set(responses.map(({ text }) => text)).size, 6)
      }
      const inputs = { world: made.world }
      const far = yield* failStage(slates, { dir: fresh(), inputs, params: { domains: 2, domain: 2 } })
      assert.match(far.message, /no domain 2 among `domains: 2`/)
      const large = yield* failStage(slates, { dir: fresh(), inputs, params: { replacement: false, slateSize: 9 } })
      assert.match(large.message, /`slateSize: 9` .* not 8/)
    })
  )
})

describe("behaviour", () => {
  it.live("scores a log by a policy as that policy scores itself, and drops a truth that is not its own", () =>
    Effect.gen(function* () {
      const { log, policy } = yield* ground
      const { out, said } = yield* runStage(behaviour, {
        dir: fresh(),
        inputs: { slates: log.test, policy },
        params: { keepTokens: true }
      })
      const rows = yield* rowsOf(LoggedSlates, out.slates)
      for (const { responses, truth } of rows) {
        assert.isUndefined(truth)
        for (const { logprob, tokenLogprobs, tokens } of responses) {
          assert.lengthOf(tokenLogprobs!, tokens!)
          assert.closeTo(
            tokenLogprobs!.reduce((a, b) => a + b, 0),
            logprob!,
            1e-6
          )
        }
      }
      assert.sameMembers(Object.keys(said.metrics[0]!.values), Object.keys(behaviour.metrics))
      // The policy that is the behaviour policy has weight 1: IPS is the mean of what was logged.
      const { said: own } = yield* runStage(evaluateOpe, {
        dir: fresh(),
        inputs: { slates: out.slates, policy },
        params: label
      })
      assert.closeTo(item(own, "ope/log_ratio"), 0, 1e-6)
      assert.closeTo(item(own, "ope/ips"), item(own, "ope/snips"), 1e-6)
      assert.closeTo(own.metrics[0]!.values["ope/ess_share"]!, 1, 1e-6)
      // Of slates of equal votes no response is on top: the items are absent, not 0.
      const equal = rows.map((row) => ({ ...row, responses: row.responses.map((one) => ({ ...one, votes: 3 })) }))
      const { said: none } = yield* runStage(evaluateOpe, {
        dir: fresh(),
        inputs: { slates: written(equal as never), policy }
      })
      const names = new Set(none.items.map(({ name }) => name))
      assert.isTrue(names.has("ope/log_ratio"))
      assert.isFalse(names.has("ope/log_ratio/top") || names.has("ope/log_ratio/bottom"))
    })
  )

  it.live("missing odds are refused with a remedy, or skipped and counted", () =>
    Effect.gen(function* () {
      const { log } = yield* ground
      const [first, second] = yield* rowsOf(LoggedSlates, log.test)
      const bare = first!.responses.map(({ logprob: _, ...rest }) => rest)
      const rows = [
        { ...first!, responses: bare as never },
        { ...second!, responses: [second!.responses[0], { ...second!.responses[1]!, logprob: undefined }] as never }
      ]
      const inputs = { slates: written(rows) }
      const error = yield* failStage(behaviour, { dir: fresh(), inputs })
      assert.match(error.message, /slate "test\/0\/0": response 0 has no log-probability .*missing: skip/)
      const { out, said } = yield* runStage(behaviour, { dir: fresh(), inputs, params: { missing: "skip" } })
      const kept = yield* rowsOf(LoggedSlates, out.slates)
      assert.deepStrictEqual(
        kept.map(({ id, responses }) => [id, responses.length]),
        [[second!.id, 1]]
      )
      assert.deepInclude(said.metrics[0]!.values, { "behaviour/skipped": 4, "behaviour/slates_dropped": 1 })
      const { policy } = yield* ground
      const remedy = /let the stage `behaviour` score the log/
      assert.match((yield* failStage(ips, { dir: fresh(), inputs: { ...inputs, policy } })).message, remedy)
      assert.match((yield* failStage(evaluateOpe, { dir: fresh(), inputs: { ...inputs, policy } })).message, remedy)
      const unvoted = { ...second!, responses: second!.responses.map(({ votes: _, ...rest }) => rest) as never }
      for (const run of [
        (slates: string) => failStage(ips, { dir: fresh(), inputs: { slates, policy } }),
        (slates: string) => failStage(evaluateOpe, { dir: fresh(), inputs: { slates, policy } })
      ]) {
        const error = yield* run(written([unvoted]))
        assert.match(error.message, /response 0 has no votes; .* `columns\.votes: relevance`/)
      }
    })
  )

  it.live("every logged response is a demonstration for a behaviour policy to learn from", () =>
    Effect.gen(function* () {
      const { log } = yield* ground
      const { out } = yield* runStage(responses, { dir: fresh(), inputs: { slates: log.train } })
      const rows = yield* rowsOf(Demonstrations, out.data)
      const [first] = yield* rowsOf(LoggedSlates, log.train)
      assert.lengthOf(rows, 48 * 4 * 3)
      assert.strictEqual(rows[1]!.completion, first!.responses[1]!.text)
    })
  )
})

describe("evaluate-ope", () => {
  it.live("the world's target policy: estimates near the enumerated truth, the exact model at it", () =>
    Effect.gen(function* () {
      const { log } = yield* ground
      const run = (params: unknown) =>
        Effect.map(runStage(evaluateOpe, { dir: fresh(), inputs: { slates: log.train }, params }), ({ said }) => said)
      const said = yield* run({ ...label, weights: "independent", model: "exact" })
      const truth = item(said, "ope/truth")
      assert.closeTo(item(said, "ope/ips"), truth, 0.08)
      assert.closeTo(item(said, "ope/snips"), truth, 0.05)
      assert.closeTo(item(said, "ope/dr"), truth, 0.05)
      assert.closeTo(item(said, "ope/dm"), truth, 1e-9)
      const values = said.metrics[0]!.values
      assert.isBelow(values["ope/ips/low"]!, item(said, "ope/ips"))
      assert.isAbove(values["ope/ips/high"]!, item(said, "ope/ips"))
      // Nothing here asks people again: equal votes give the log's mean rate to a self-normalised estimate.
      assert.isBelow(item(said, "ope/equal_votes/snips"), truth)
      assert.sameMembers(
        [...new Set(said.items.map(({ name }) => name))],
        Object.keys(evaluateOpe.items).filter((name) => name !== "ope/on_policy")
      )
      // POPE's own reward on the same log: the bounds hold
      const pope = (yield* run({ propensity: "sequence" })).metrics[0]!.values
      assert.isAtMost(pope["ope/bound/second"]!, pope["ope/bound/first"]!)
    })
  )

  it.live(
    "a language model's truth by enumeration: what its probabilities on the pool earn, within the pool if asked",
    () =>
      Effect.gen(function* () {
        const { log, policy } = yield* ground
        const rows = yield* rowsOf(LoggedSlates, log.test)
        const agreed = rows.map((row) => ({
          ...row,
          truth: {
            ...row.truth!,
            pool: row.truth!.pool.map((one) => ({ ...one, approvals: one.approvals.map(() => 1) }))
          }
        }))
        const truths = (slates: ReadonlyArray<object>, propensity: string) =>
          Effect.map(
            runStage(evaluateOpe, {
              dir: fresh(),
              inputs: { slates: written(slates as never), policy },
              params: { ...label, weights: "independent", propensity }
            }),
            ({ said }) => said.items.flatMap(({ name, value }) => (name === "ope/truth" ? [value] : []))
          )
        // Where everybody approves of everything a query is worth what the pool holds of the policy's probability: its mass.
        const masses = yield* truths(agreed, "sequence")
        assert.lengthOf(masses, new Set(rows.map(({ promptId }) => promptId)).size)
        assert.isTrue(masses.every((mass) => mass > 0 && mass < 1))
        for (const one of yield* truths(agreed, "length-normalised")) assert.closeTo(one, 1, 1e-9)
        const [whole, within] = [yield* truths(rows, "sequence"), yield* truths(rows, "length-normalised")]
        within.forEach((value, k) => {
          assert.closeTo(value, whole[k]! / masses[k]!, 1e-9)
        })
      })
  )

  it.live("goes by relevance as by raw votes of that number, and names the slate that has none", () =>
    Effect.gen(function* () {
      const { log, policy } = yield* ground
      const rows = (yield* rowsOf(LoggedSlates, log.test)).map(({ truth: _, ...row }) => row)
      const with_ = (change: (response: LoggedSlate["responses"][number], place: number) => object) =>
        written(rows.map((row) => ({ ...row, responses: row.responses.map(change) })) as never)
      const run = (slates: string, votes: string, more: object = {}) => ({
        dir: fresh(),
        inputs: { slates, policy },
        params: { ...label, weights: "independent", votes, ...more }
      })
      const items = (asked: ReturnType<typeof run>) =>
        Effect.map(runStage(evaluateOpe, asked), ({ said }) => said.items.map(({ name, value }) => [name, value]))
      // Votes that say nothing beside a relevance; and votes of that number, with a relevance that says nothing.
      const judged = with_((one, k) => ({ ...one, votes: 1, relevance: k / 2 }))
      const voted = with_((one, k) => ({ ...one, votes: k / 2, relevance: 9 }))
      const found = yield* items(run(judged, "relevance"))
      assert.deepStrictEqual(found, yield* items(run(voted, "raw")))
      assert.isTrue(found.some(([name]) => name === "ope/log_ratio/top"))
      for (const cu of ["prob", "logprob"]) {
        const more = { cu, lambda: 1 }
        assert.deepStrictEqual(yield* items(run(judged, "relevance", more)), yield* items(run(voted, "raw", more)))
      }
      const trained = yield* Effect.all(
        (
          [
            [judged, "relevance"],
            [voted, "raw"]
          ] as const
        ).map(([slates, votes]) => {
          const { votes: _, ...how } = label
          const params = { ...how, votes, weights: "independent", steps: 1, batchSize: 4 }
          return Effect.map(
            runStage(ips, { dir: fresh(), inputs: { slates, policy }, params }),
            ({ said }) => said.metrics[0]!.values["ope/value"]
          )
        })
      )
      assert.strictEqual(trained[0], trained[1])
      const bare = with_(({ relevance: _, ...one }) => one)
      const below = with_((one) => ({ ...one, relevance: -1 }))
      const missing = yield* failStage(evaluateOpe, run(bare, "relevance"))
      assert.match(
        missing.message,
        /^evaluate-ope: slate "test\/.*": response 0 has no relevance, which `votes: relevance`/
      )
      const negative = yield* failStage(evaluateOpe, run(below, "relevance"))
      assert.match(
        negative.message,
        /slate "test\/.*": response 0 has a relevance of -1, and rewards go by one of at least 0/
      )
    })
  )

  it.live("refuses labels that could not matter, and a log without policy or target", () =>
    Effect.gen(function* () {
      const { log, policy } = yield* ground
      const inputs = { slates: log.test, policy }
      const idle = yield* failStage(evaluateOpe, { dir: fresh(), inputs, params: { cu: "label" } })
      assert.match(idle.message, /votes would not matter; take rate, min-max, raw or relevance/)
      const exact = yield* failStage(evaluateOpe, {
        dir: fresh(),
        inputs,
        params: { model: "exact", votes: "relevance" }
      })
      assert.match(exact.message, /evaluate-ope\.model: .* scales rate and raw, not on relevance; take model: fitted/)
      const [first] = yield* rowsOf(LoggedSlates, log.test)
      const { truth: _, ...known } = first!
      const alone = yield* failStage(evaluateOpe, { dir: fresh(), inputs: { slates: written([known]) }, params: label })
      assert.match(alone.message, /no policy to evaluate/)
      const empty = yield* failStage(evaluateOpe, { dir: fresh(), inputs: { slates: written([]) }, params: label })
      assert.match(empty.message, /no slates/)
    })
  )

  it.live("votes that are negative or not finite, and probabilities above 1, are no log", () =>
    Effect.gen(function* () {
      const { log } = yield* ground
      const [first] = yield* rowsOf(LoggedSlates, log.test)
      for (const [broken, message] of [
        [{ votes: -1 }, /greater than or equal to 0/],
        [{ logprob: 0.5 }, /at most 0/],
        [{ exposure: 0 }, /greater than 0/]
      ] as const) {
        const dir = written([])
        const responses = first!.responses.map((response) => ({ ...response, ...broken }))
        appendFileSync(join(dir, "rows.jsonl"), `${JSON.stringify({ ...first, responses })}\n`)
        const error = yield* failStage(evaluateOpe, { dir: fresh(), inputs: { slates: dir }, params: label })
        assert.match(error.message, message)
      }
    })
  )
})

describe("candidates", () => {
  const params = { samples: 3, voters: 50 }

  it.live("a policy's own answers become slates with its own odds and people's votes", () =>
    Effect.gen(function* () {
      const { made, policy } = yield* ground
      const inputs = { policy, situations: made.test, world: made.world }
      const { out, said } = yield* runStage(candidates, { dir: fresh(), inputs, params })
      const rows = yield* rowsOf(LoggedSlates, out.slates)
      assert.isAtMost(rows.length, 12)
      const always = (record: object) => Object.keys(record).filter((name) => !name.startsWith("perf/bucket_padding/"))
      assert.sameMembers(always(said.metrics[0]!.values), always(candidates.metrics))
      const { out: answers } = yield* runStage(generate, {
        dir: fresh(),
        inputs: { policy, situations: made.test },
        params: { samples: 8, temperature: 1 }
      })
      const { said: found } = yield* runStage(evaluateOpe, {
        dir: fresh(),
        inputs: { slates: out.slates, policy, completions: answers.completions, world: made.world },
        params: label
      })
      assert.closeTo(item(found, "ope/log_ratio"), 0, 1e-5)
      // Other answers of the same policy, judged by approval itself: on average what people vote.
      assert.closeTo(item(found, "ope/ips"), item(found, "ope/on_policy"), 0.08)
      // behaviour says the same odds of them
      const { out: odds } = yield* runStage(behaviour, { dir: fresh(), inputs: { slates: out.slates, policy } })
      const again = yield* rowsOf(LoggedSlates, odds.slates)
      again.forEach(({ responses }, i) => {
        responses.forEach(({ logprob }, k) => {
          assert.closeTo(logprob!, rows[i]!.responses[k]!.logprob!, 1e-4)
        })
      })
    })
  )

  it.live("refuses situations of another world, and says what to do where every answer is cut", () =>
    Effect.gen(function* () {
      const { made, policy } = yield* ground
      const inputs = { policy, situations: made.test, world: made.world }
      const cut = yield* failStage(candidates, { dir: fresh(), inputs, params: { ...params, maxNewTokens: 2 } })
      assert.match(cut.message, /cut at `maxNewTokens: 2`, .* raise it/)
    })
  )

  it.live("the most-voted responses are references, with their votes", () =>
    Effect.gen(function* () {
      const { log } = yield* ground
      const { out } = yield* runStage(references, { dir: fresh(), inputs: { slates: log.test }, params: { count: 2 } })
      const situations = yield* rowsOf(Situations, out.situations)
      assert.lengthOf(situations, 12)
      const slates = (yield* rowsOf(LoggedSlates, log.test)).filter(({ promptId }) => promptId === situations[0]!.id)
      const votes = new Map<string, number>()
      for (const { text, votes: count } of slates.flatMap(({ responses }) => responses)) {
        votes.set(text, (votes.get(text) ?? 0) + count!)
      }
      assert.deepStrictEqual(
        situations[0]!.perspectives.map((one) => one.votes),
        [...votes.values()].toSorted((a, b) => b - a).slice(0, 2)
      )
      assert.notInclude(situations[0]!.perspectives[0].text, "In the perspective of")
    })
  )
})
