/**
 * The law of keeping the best of a training: the policy is the one that a run of so many steps ends with, through an
 * interruption and through a longer run, to the last bit.
 */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { assert } from "@effect/vitest"
import { Effect, Exit } from "effect"
import type { MemoryTaskOptions, Said } from "../support/memoryTask.ts"
import { timeless } from "./ground.ts"

/** The bytes of a policy's weights. */
export const weights = (dir: string) => readFileSync(join(dir, "model.safetensors"))

/** A metric as it was said, with its steps. */
export const measured = ({ metrics }: Said, name: string) =>
  metrics.flatMap(({ step, values }) => (values[name] === undefined ? [] : [[step, values[name]] as const]))

interface Ended {
  readonly exit: Exit.Exit<void, unknown>
  readonly said: Said
  readonly out: { readonly policy: string; readonly checkpoint: string }
}

/** How a stage is run: its parameters, and whether the held-out data is given. */
interface How extends Pick<MemoryTaskOptions, "breakAt" | "checkpointEvery" | "resume"> {
  readonly params: object
  readonly held: boolean
}

interface Best {
  readonly keepBest: string
  readonly evaluateEvery: number
  /** 9: measured at 1, 3, 5, 7 and at the end. */
  readonly steps: number
}

/**
 * Held for a stage whose held-out data get worse with training: `run` runs it with one seed, `best` are its parameters, and
 * `better` says which of two values of `best.keepBest` is kept.
 */
export const keepsBest = (
  run: (how: How) => Effect.Effect<Ended>,
  best: Best,
  better: (value: number, than: number) => boolean
) =>
  Effect.gen(function* () {
    const ends = (how: How) =>
      Effect.tap(run(how), ({ exit }) => Effect.sync(() => assert.isTrue(Exit.isSuccess(exit), String(exit))))
    const last = best.steps - 1
    const whole = yield* ends({ params: best, held: true })
    const [step] = measured(whole.said, best.keepBest).reduce((a, b) => (better(b[1], a[1]) ? b : a))
    assert.isBelow(step, last)
    assert.deepStrictEqual(measured(whole.said, "eval/kept_step"), [[last, step]])
    const { keepBest: _, ...plain } = best
    const shorter = yield* ends({ params: { ...plain, steps: step + 1, evaluateEvery: 0 }, held: false })
    assert.deepStrictEqual(weights(whole.out.policy), weights(shorter.out.policy))

    const first = yield* run({ params: best, held: true, checkpointEvery: 1, breakAt: 5 })
    assert.isTrue(Exit.hasInterrupts(first.exit))
    const rest = yield* ends({ params: best, held: true, resume: first.said.checkpoints.at(-1)! })
    assert.deepStrictEqual([...timeless(first.said), ...timeless(rest.said)], timeless(whole.said))
    assert.deepStrictEqual(weights(rest.out.policy), weights(whole.out.policy))

    for (const steps of [last - 2, last - 1]) {
      // Of these one is a multiple of 2: the other measures its end and says what it kept, and hands neither on.
      const less = yield* ends({ params: { ...best, steps }, held: true })
      const given = less.said.handedOver[0]!
      assert.strictEqual(less.said.metrics.length - given.metrics, steps % best.evaluateEvery === 0 ? 1 : 2)
      const longer = yield* ends({
        params: best,
        held: true,
        resume: { step: steps, dir: less.out.checkpoint, state: given.state }
      })
      const inherited = timeless(less.said).slice(0, given.metrics)
      assert.deepStrictEqual([...inherited, ...timeless(longer.said)], timeless(whole.said))
      assert.deepStrictEqual(weights(longer.out.policy), weights(whole.out.policy))
      const left = (dir: string) => weights(join(dir, "best"))
      assert.deepStrictEqual(left(longer.out.checkpoint), left(whole.out.checkpoint))
    }
  })
