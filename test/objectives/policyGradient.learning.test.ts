/** Every policy-gradient loss on a tiny policy: what is rewarded becomes likelier, what is not less likely, until it is certain. */
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { cispo } from "../../src/objectives/cispo.ts"
import { copg } from "../../src/objectives/copg.ts"
import { dppo } from "../../src/objectives/dppo.ts"
import { grpo } from "../../src/objectives/grpo.ts"
import { gspo } from "../../src/objectives/gspo.ts"
import type { TokenObjective } from "../../src/objectives/Objective.ts"
import { reinforce } from "../../src/objectives/reinforce.ts"
import { cpu } from "../models/device.ts"
import { tinyPolicy } from "../models/tinyPolicy.ts"

const given = { old: "given" } as const
const losses: Readonly<Record<string, TokenObjective>> = {
  grpo: grpo({ ...given, dualClip: 3 }),
  gspo: gspo({ ...given, clipLow: 0.1, clipHigh: 0.1 }),
  cispo: cispo(given),
  dppo: dppo(given),
  copg: copg(given),
  reinforce: reinforce(given)
}

layer(cpu)("learning", (it) => {
  it.effect.each(Object.keys(losses))("%s", (name) =>
    Effect.gen(function* () {
      const policy = yield* tinyPolicy(3)
      const sequences = yield* Effect.forEach(
        [
          ["Duty", "Care"],
          ["Duty", "Justice"]
        ] as const,
        ([prompt, answer]) => policy.sequence(prompt, answer)
      )
      const trainer = yield* policy.trainer(losses[name]!, { learningRate: 5e-3 })
      const perToken = Effect.map(policy.logprobs(sequences), (rows) => rows.map(({ logprobs }) => logprobs))
      const odds = Effect.map(perToken, (rows) => {
        const [a, b] = rows.map((row) => row.reduce((x, y) => x + y, 0))
        return a! - b!
      })
      const before = yield* odds
      // Ten generations of two updates: the second of each is off policy.
      for (let generation = 0; generation < 10; generation++) {
        const oldLogprobs = yield* perToken
        for (let update = 0; update < 2; update++) {
          const { metrics } = yield* trainer.update({ sequences, inputs: { advantages: [1, -1], oldLogprobs } })
          assert.isTrue(Object.values(metrics).every(Number.isFinite))
        }
      }
      assert.isAbove(yield* odds, before + 2)
    })
  )
})
