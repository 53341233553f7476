/** Answers of a policy: named random numbers, prompts and samples as asked for, the forced-length control. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Completions, Situations } from "../../src/artifact/kinds.ts"
import { generate } from "../../src/stages/generate.ts"
import { freshFolder } from "../support/folders.ts"
import { failStage, rowsOf, runStage } from "../support/runStage.ts"
import { tinyPolicy, tinyWorld, warmPolicy } from "./ground.ts"

const fresh = freshFolder("generate")

const ground = Effect.cached(
  Effect.gen(function* () {
    const made = yield* tinyWorld(fresh)
    const raw = yield* tinyPolicy(fresh, made.world)
    return { ...made, raw, warm: yield* warmPolicy(fresh, raw, made.pretraining) }
  })
).pipe(Effect.runSync)

const answersOf = (dir: string) =>
  Effect.map(rowsOf(Completions, dir), (rows) => rows.map(({ id, text }) => [id, text]))
const linesOf = (text: string) => text.split("In the perspective of").length - 1

describe("generate", () => {
  it.live("one answer per prompt in the order of the prompts, journaled as samples without reward", () =>
    Effect.gen(function* () {
      const { test, warm } = yield* ground
      const { out, said } = yield* runStage(generate, { dir: fresh(), inputs: { policy: warm, situations: test } })
      const rows = yield* rowsOf(Completions, out.completions)
      const situations = yield* rowsOf(Situations, test)
      assert.deepStrictEqual(
        rows.map(({ id, prompt }) => [id, prompt]),
        situations.map(({ id, prompt }) => [id, prompt])
      )
      assert.deepStrictEqual(
        said.samples.map(({ advantage, completion, idx, parts, prompt, promptId, reward, step }) => [
          { id: promptId, prompt, text: completion },
          { advantage, idx, parts, reward, step }
        ]),
        rows.map((row) => [row, { advantage: null, idx: 0, parts: [], reward: null, step: 0 }])
      )
      assert.deepStrictEqual(said.progress.at(-1), { step: 12, of: 12 })
      const { values } = said.metrics[0]!
      // what fills up to sizes is said where programs are compiled for sizes
      const always = (record: object) => Object.keys(record).filter((name) => !name.startsWith("perf/bucket_padding/"))
      assert.sameMembers(always(values), always(generate.metrics))
      assert.isAbove(values["completions/mean_length"]!, 10)
    })
  )

  it.live("an answer depends on policy, seed, prompt and sample, not on what else is asked", () =>
    Effect.gen(function* () {
      const { development, test, train, warm } = yield* ground
      const ask = (situations: string, params: object = {}, seed = 0) =>
        Effect.flatMap(
          runStage(generate, { dir: fresh(), inputs: { policy: warm, situations }, params, seed }),
          ({ out }) => answersOf(out.completions)
        )
      const whole = yield* ask(test)
      assert.deepStrictEqual(yield* ask(test), whole)
      assert.deepStrictEqual(yield* ask(test, { prompts: 5 }), whole.slice(0, 5))
      const three = yield* ask(test, { samples: 3 })
      assert.deepStrictEqual(
        three.filter((_, k) => k % 3 === 0),
        whole
      )
      assert.isTrue(three.some(([, text], k) => k % 3 === 1 && text !== three[k - 1]![1]))
      assert.notDeepEqual(yield* ask(test, {}, 1), whole)

      // The same prompts among more than fit one chunk, in other places.
      const [first, second, third] = yield* Effect.forEach([test, train, development], (dir) => rowsOf(Situations, dir))
      const mixed = fresh()
      yield* Situations.write(mixed).write([...second!, ...first!.toReversed(), ...third!])
      const among = new Map((yield* ask(mixed)).map(([id, text]) => [id, text]))
      assert.strictEqual(among.size, 72)
      for (const [id, text] of whole) assert.strictEqual(among.get(id!), text)
    })
  )

  it.live("minLines keeps the list from being closed before that many lines, and no longer", () =>
    Effect.gen(function* () {
      const { test, warm } = yield* ground
      const ask = (params: object) =>
        Effect.flatMap(
          runStage(generate, { dir: fresh(), inputs: { policy: warm, situations: test }, params }),
          ({ out }) => answersOf(out.completions)
        )
      const closed = (rows: ReadonlyArray<ReadonlyArray<string>>) =>
        rows.flatMap(([, text]) => {
          const [list, ...rest] = text!.split("</core perspectives>")
          return rest.length === 0 ? [] : [linesOf(list!)]
        })
      assert.isBelow(Math.min(...closed(yield* ask({}))), 6)
      const forced = closed(yield* ask({ minLines: 6 }))
      assert.isAtLeast(forced.length, 8)
      assert.strictEqual(Math.min(...forced), 6)
    })
  )

  it.live("temperature 0 is the likeliest answer whatever the seed; a context that is too short is refused", () =>
    Effect.gen(function* () {
      const { raw, test, warm } = yield* ground
      const greedy = (seed: number) =>
        Effect.flatMap(
          runStage(generate, {
            dir: fresh(),
            inputs: { policy: warm, situations: test },
            params: { temperature: 0 },
            seed
          }),
          ({ out }) => answersOf(out.completions)
        )
      assert.deepStrictEqual(yield* greedy(0), yield* greedy(1))
      const error = yield* failStage(generate, {
        dir: fresh(),
        inputs: { policy: raw, situations: test },
        params: { maxNewTokens: 91 }
      })
      assert.match(String((error as Error).message), /97 tokens does not fit the model's 96/)
    })
  )
})
