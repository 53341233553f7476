/** POPE's objective on a tiny policy and one slate of two: its estimate rises, and what people voted for gains on what they did not. */
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { type IpsSettings, ips } from "../../src/objectives/ips.ts"
import { logSumExp } from "../../src/ope/propensity.ts"
import { cpu } from "../models/device.ts"
import { tinyPolicy } from "../models/tinyPolicy.ts"

const settings: Readonly<Record<string, Omit<IpsSettings, "groupSize">>> = {
  "as published": {},
  "joint, without entropy": { lambda: 0, clip: 10 },
  independent: { weights: "independent", clip: 10 },
  "independent, votes as labels": { weights: "independent", cu: "label", lambda: 0, clip: 10 },
  "pool-normalised": { weights: "independent", propensity: "pool-normalised", lambda: 0, clip: 10 },
  "doubly robust": { weights: "independent", cu: "label", lambda: 0, estimator: "doubly-robust", clip: 10 }
}

layer(cpu)("learning", (it) => {
  it.effect.each(Object.keys(settings))("%s", (name) =>
    Effect.gen(function* () {
      const chosen = { groupSize: 2, ...settings[name]! }
      const policy = yield* tinyPolicy(3)
      const sequences = yield* Effect.forEach(["Care", "Justice"], (answer) => policy.sequence("Duty", answer))
      const trainer = yield* policy.trainer(ips(chosen), { learningRate: 3e-3 })
      const means = Effect.map(policy.logprobs(sequences), (rows) =>
        rows.map(({ logprobs }) => logprobs.reduce((sum, x) => sum + x, 0) / logprobs.length)
      )
      const before = yield* means
      // The slate was logged by the policy itself, and all votes went to its first response: K hh = 2 and 0.
      const mass = chosen.propensity === "pool-normalised" ? logSumExp(before) : 0
      const behaviour = before.map((mean) => mean - mass)
      const inputs = { present: [1, 1], distinct: [1, 1], votes: [2, 0], model: [1, 1], behaviour }
      const values: Array<number> = []
      for (let update = 0; update < 15; update++) {
        const { metrics } = yield* trainer.update({ sequences, inputs })
        assert.isTrue(Object.values(metrics).every(Number.isFinite))
        values.push(metrics["value"]!)
      }
      assert.isAbove(values.at(-1)!, values[0]!)
      const after = yield* means
      const [voted, other] = [after[0]! - before[0]!, after[1]! - before[1]!]
      if (name === "as published") {
        // What the control on equal votes is for: both get likelier, and votes hardly matter.
        assert.isAbove(Math.min(voted, other), 1)
        assert.closeTo(voted, other, 0.1)
      } else {
        assert.isAbove(voted, other + 0.05)
      }
      // Of these only a baseline and a pool make what earned nothing less likely.
      assert.strictEqual(other < 0, name === "doubly robust" || name === "pool-normalised")
    })
  )
})
