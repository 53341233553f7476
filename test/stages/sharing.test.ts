/** What the quickstart's arms share: planned, not run. */
import { join } from "node:path"
import { Effect } from "effect"
import { assert, describe, it } from "vitest"
import { loadExperiment } from "../../src/dsl/load.ts"
import { emptyLookup, type Plan } from "../../src/dsl/Planned.ts"
import { plan } from "../../src/dsl/plan.ts"
import { root } from "../support/imports.ts"

const planned = (set: ReadonlyArray<string> = []): Promise<Plan> =>
  Effect.runPromise(
    loadExperiment(join(root, "experiments/quickstart.yaml"), { set, projectRoot: root }).pipe(
      Effect.flatMap((experiment) => plan(experiment, emptyLookup))
    )
  )
const keys = ({ tasks }: Plan, stage: string) => tasks.filter((task) => task.stage === stage).map(({ key }) => key)

describe("the quickstart", () => {
  it("four arms stand on one ground: one world, pretraining and NLI, an estimator and a warm start for each seed", async () => {
    const whole = await planned()
    const counts = Map.groupBy(whole.tasks, ({ stage }) => stage)
    const count = (stage: string) => counts.get(stage)?.length
    assert.deepStrictEqual(["world", "policy", "nli"].map(count), [1, 1, 1])
    assert.deepStrictEqual(["triplets", "estimator", "grpo"].map(count), [1, 3, 3])
    // Pretraining once, and three seeds each of warm start and continued SFT.
    assert.strictEqual(count("sft"), 1 + 3 + 3)
    // Four arms, three seeds.
    assert.deepStrictEqual(["generate", "evaluate"].map(count), [12, 12])
    const nodes = whole.tasks.flatMap(({ nodes }) => nodes)
    for (const node of [
      "data",
      "pretrain",
      "triplets",
      "estimator",
      "warmStart",
      "continuedSft",
      "grpo",
      "nli",
      "evaluate"
    ]) {
      assert.include(nodes, node)
    }
  })

  it("how answers are measured is no matter of how they are drawn, nor a reward of its estimator", async () => {
    const whole = await planned()
    const measured = await planned(["evaluate.threshold=0.8"])
    assert.deepStrictEqual(keys(measured, "generate"), keys(whole, "generate"))
    assert.notDeepEqual(keys(measured, "evaluate"), keys(whole, "evaluate"))
    const rewarded = await planned(["grpo.reward.coverage.shape=linear"])
    for (const stage of ["estimator", "sft", "nli"]) assert.deepStrictEqual(keys(rewarded, stage), keys(whole, stage))
    assert.notDeepEqual(keys(rewarded, "grpo"), keys(whole, "grpo"))
    const tuned = await planned(["evaluate.split=development"])
    assert.deepStrictEqual(keys(tuned, "grpo"), keys(whole, "grpo"))
    assert.notDeepEqual(keys(tuned, "generate"), keys(whole, "generate"))
  })
})
