import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { Device } from "../../src/device/Device.ts"
import type { Completion } from "../../src/models/generate.ts"
import type { PolicyPrompt } from "../../src/models/Policy.ts"
import type { Sampling } from "../../src/models/sampling.ts"
import { sft } from "../../src/objectives/sft.ts"
import { cpu } from "./device.ts"
import { tinyPolicy } from "./tinyPolicy.ts"

const texts = ["The farmer", "farmer sells well because of Duty", "Duty", "sells of", "Care Care Care Care Care Care"]
const prompts: ReadonlyArray<PolicyPrompt> = texts.map((prompt, i) => ({ promptId: `p${i}`, prompt }))
const base: Sampling = { seed: 5, purpose: "test", maxNewTokens: 24, samples: 3 }
const ids = (completions: ReadonlyArray<Completion>) => completions.map((completion) => completion.ids)

layer(cpu)("generate", (it) => {
  it.effect("neither waves, nor order, nor company, nor retirement changes what is written", () =>
    Effect.gen(function* () {
      const policy = yield* tinyPolicy(1)
      const whole = yield* policy.generate(prompts, base)
      assert.isAbove(new Set(whole.map(({ ids }) => ids.length)).size, 3) // rows end at different steps
      for (const maxRows of [1, 2, 4])
        assert.deepStrictEqual(ids(yield* policy.generate(prompts, { ...base, maxRows })), ids(whole))
      const turned = yield* policy.generate([...prompts].reverse(), base)
      assert.deepStrictEqual(ids(turned.slice(0, 3)), ids(whole.slice(-3)))
      const alone = yield* policy.generate([prompts[1]!], { ...base, samples: 2 })
      assert.deepStrictEqual(ids(alone), ids(whole.slice(3, 5)))
    })
  )

  it.effect("works on finished rows no longer than it takes to retire them", () =>
    Effect.gen(function* () {
      const policy = yield* tinyPolicy(1)
      const found = yield* policy.generate(prompts, { ...base, samples: 16, maxNewTokens: 40 })
      const { rowSteps, tokens } = yield* policy.generationStats
      assert.strictEqual(
        tokens,
        found.reduce((n, { ids }) => n + ids.length, 0)
      )
      const longest = Math.max(...found.map(({ ids }) => ids.length))
      // where steps come in segments, a row may stand still for the rest of its own
      const steps = (yield* Device).info.stepsPerRun ?? 1
      // at most a quarter of a batch is finished
      assert.isBelow(rowSteps, 1.34 * tokens + longest + (steps - 1) * found.length)
      assert.isBelow(rowSteps, (steps === 1 ? 0.8 : 0.9) * longest * found.length)
    })
  )

  it.effect("grows its cache past its first places, as one of full length would", () =>
    Effect.gen(function* () {
      const policy = yield* tinyPolicy(4, {}, { maxPositions: 400 })
      // the end token is forbidden for as long as there are no thousand lines
      const minLines = { count: 1000, closing: "<eos>" }
      const long = yield* policy.generate(prompts.slice(0, 2), { ...base, maxNewTokens: 300, samples: 2, minLines })
      assert.isTrue(long.every(({ finish, ids }) => ids.length === 300 && finish === "length"))
      const scores = yield* policy.logprobs(long.map(({ ids, prompt }) => ({ prompt, completion: ids })))
      scores.forEach(({ logprobs }, i) => {
        logprobs.forEach((value, j) => {
          assert.closeTo(value, long[i]!.logprobs[j]!, 1e-4)
        })
      })
    })
  )

  it.effect("writes the same in segments of many steps as step by step", () =>
    Effect.gen(function* () {
      const cases: ReadonlyArray<Partial<Sampling>> = [
        {},
        { topP: 0.8, topK: 9, temperature: 0.7 },
        { temperature: 0, samples: 1 },
        { stopSequences: ["well"], minLines: { count: 2, closing: "<eos>" }, maxNewTokens: 40 }
      ]
      const one = yield* tinyPolicy(1, { stepsPerRun: 1 })
      const decoded: Array<number> = []
      for (const stepsPerRun of [2, 4, 8, 16, 32]) {
        const many = yield* tinyPolicy(1, { stepsPerRun })
        for (const options of stepsPerRun === 4 || stepsPerRun === 32 ? cases : cases.slice(0, 1)) {
          const asked = { ...base, ...options }
          const [expected, found] = [yield* one.generate(prompts, asked), yield* many.generate(prompts, asked)]
          assert.deepStrictEqual(ids(found), ids(expected))
          assert.deepStrictEqual(
            found.map(({ finish, text }) => [finish, text]),
            expected.map(({ finish, text }) => [finish, text])
          )
          found.forEach(({ logprobs, truncatedLogprobs }, i) => {
            logprobs.forEach((value, j) => {
              assert.closeTo(value, expected[i]!.logprobs[j]!, 1e-5)
              assert.closeTo(truncatedLogprobs[j]!, expected[i]!.truncatedLogprobs[j]!, 1e-5)
            })
          })
          if (options === cases[0]) decoded.push((yield* many.generationStats).rowSteps)
        }
      }
      // a segment ends as soon as rows are to leave, so nobody waits for its last step, however long it could be
      assert.strictEqual(new Set(decoded).size, 1)
    })
  )

  it.effect("stops at a stop sequence and leaves it out of the text", () =>
    Effect.gen(function* () {
      const policy = yield* tinyPolicy(1)
      const plain = yield* policy.generate(prompts, base)
      const stopped = yield* policy.generate(prompts, { ...base, stopSequences: ["well", "Justice"] })
      let hits = 0
      stopped.forEach(({ finish, ids, text }, i) => {
        assert.deepStrictEqual(ids, plain[i]!.ids.slice(0, ids.length))
        assert.notMatch(text, /well|Justice/)
        const at = plain[i]!.text.search(/well|Justice/)
        if (at >= 0) {
          hits++
          assert.strictEqual(finish, "stop")
          assert.strictEqual(text, plain[i]!.text.slice(0, at))
        } else assert.deepStrictEqual(ids, plain[i]!.ids)
      })
      assert.isAbove(hits, 3)
    })
  )

  it.effect("forbids the closing tag until enough lines were written", () =>
    Effect.gen(function* () {
      const policy = yield* tinyPolicy(1)
      const closing = "</core perspectives>"
      const [tag, newline] = [policy.tokenizer.idOf(closing)!, policy.tokenizer.idOf("\n")!]
      const sampling: Sampling = { ...base, maxNewTokens: 40, samples: 8 }
      const linesBefore = (completions: ReadonlyArray<Completion>) =>
        completions.flatMap(({ ids }) => {
          const at = ids.indexOf(tag)
          return at < 0 ? [] : [ids.slice(0, at).filter((id) => id === newline).length]
        })
      assert.isTrue(linesBefore(yield* policy.generate(prompts, sampling)).some((lines) => lines < 2))
      const forced = yield* policy.generate(prompts, { ...sampling, minLines: { count: 2, closing } })
      const lines = linesBefore(forced)
      assert.isNotEmpty(lines)
      assert.isTrue(lines.every((n) => n >= 2))
      // what is forbidden leaves the distribution that is sampled, not the full softmax
      const truncated = forced[0]!.truncatedLogprobs
      forced[0]!.logprobs.forEach((value, i) => {
        assert.isAtMost(value, truncated[i]! + 1e-6)
      })
      assert.isTrue(forced[0]!.logprobs.some((value, i) => value < truncated[i]!))
      const scores = yield* policy.logprobs(forced.map(({ ids, prompt }) => ({ prompt, completion: ids })))
      assert.closeTo(scores[0]!.logprobs[0]!, forced[0]!.logprobs[0]!, 1e-5)
      const error = yield* Effect.flip(
        policy.generate(prompts, { ...sampling, minLines: { count: 1, closing: "The farmer" } })
      )
      assert.match(error.message, /needs "The farmer" to be one token; this tokenizer makes it 2/)
    })
  )

  it.effect("cuts the distribution as asked: top-k, top-p, min-p", () =>
    Effect.gen(function* () {
      const policy = yield* tinyPolicy(1)
      const most = yield* policy.generate(prompts, { ...base, temperature: 0 })
      assert.deepStrictEqual(ids(yield* policy.generate(prompts, { ...base, topK: 1 })), ids(most))
      assert.deepStrictEqual(ids(yield* policy.generate(prompts, { ...base, topP: 1e-6 })), ids(most))
      assert.deepStrictEqual(ids(yield* policy.generate(prompts, { ...base, minP: 1 })), ids(most))
      assert.isTrue(most.every(({ truncatedLogprobs }) => truncatedLogprobs.every((value) => value === 0)))
      const whole = yield* policy.generate(prompts, base)
      assert.deepStrictEqual(
        ids(yield* policy.generate(prompts, { ...base, topP: 1, minP: 0, topK: 1000 })),
        ids(whole)
      )
      assert.notDeepEqual(ids(yield* policy.generate(prompts, { ...base, seed: 6 })), ids(whole))
      assert.notDeepEqual(ids(yield* policy.generate(prompts, { ...base, purpose: "other" })), ids(whole))
    })
  )

  it.effect("decodes with the new weights after an update", () =>
    Effect.gen(function* () {
      for (const constantWeights of [2 ** 30, 0]) {
        const policy = yield* tinyPolicy(1, { constantWeights })
        const greedy: Sampling = { ...base, samples: 1, temperature: 0 }
        const [before] = yield* policy.generate([prompts[0]!], greedy)
        const trainer = yield* policy.trainer(sft(), { learningRate: 1e-2 })
        const sequence = { prompt: before!.prompt, completion: before!.ids }
        for (let i = 0; i < 3; i++) yield* trainer.update({ sequences: [sequence] })
        const [after] = yield* policy.generate([prompts[0]!], greedy)
        const [scores] = yield* policy.logprobs([{ prompt: after!.prompt, completion: after!.ids }])
        assert.isAbove(Math.abs(after!.logprobs[0]! - before!.logprobs[0]!), 1e-3)
        assert.closeTo(after!.logprobs[0]!, scores!.logprobs[0]!, 1e-5)
      }
    })
  )

  it.effect("refuses what cannot be, by name", () =>
    Effect.gen(function* () {
      const policy = yield* tinyPolicy(1)
      const message = (sampling: Partial<Sampling>) =>
        Effect.map(Effect.flip(policy.generate(prompts, { ...base, ...sampling })), (error) => error.message)
      assert.match(yield* message({ maxNewTokens: 60 }), /a text of \d+ tokens does not fit the model's 64: "<bos>/)
      assert.match(yield* message({ maxNewTokens: 0 }), /maxNewTokens must be an integer >= 1, not 0/)
      assert.match(yield* message({ temperature: -1 }), /temperature -1 is not >= 0/)
      assert.match(yield* message({ topP: 0 }), /topP must lie in \(0, 1\], not 0/)
      assert.match(yield* message({ stopSequences: [""] }), /a stop sequence is empty/)
    })
  )
})
