/** Pipelines of preference training: what they share, what they refuse, and that they wire only as they are meant to. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Effect, Schema } from "effect"
import { afterAll, assert, describe, it } from "vitest"
import type { Encoder, Policy } from "../../src/artifact/kinds.ts"
import { loadExperiment } from "../../src/dsl/load.ts"
import * as Pipeline from "../../src/dsl/Pipeline.ts"
import { emptyLookup, type Plan } from "../../src/dsl/Planned.ts"
import { plan } from "../../src/dsl/plan.ts"
import type { Ref } from "../../src/dsl/Stage.ts"
import { bestOf } from "../../src/stages/bestOf.ts"
import { preference } from "../../src/stages/preference.ts"
import { preferences } from "../../src/stages/preferences.ts"
import { sft } from "../../src/stages/sft.ts"
import { world } from "../../src/stages/world.ts"
import { root } from "../support/imports.ts"

const home = mkdtempSync(join(tmpdir(), "overtone-preferences-"))
afterAll(() => rmSync(home, { recursive: true, force: true }))
writeFileSync(join(home, "pairs.jsonl"), '{"prompt":"a","chosen":"b","rejected":"c"}\n')

const planned = (file: string): Promise<Plan> =>
  Effect.runPromise(
    Effect.flatMap(loadExperiment(file, { projectRoot: root }), (experiment) => plan(experiment, emptyLookup))
  )
const written = (text: string) => {
  const file = join(home, "x.yaml")
  writeFileSync(file, `name: x\n${text}\n`)
  return file
}
const nodesOf = ({ tasks }: Plan) => tasks.flatMap(({ nodes }) => nodes)
const refused = (text: string) =>
  Effect.runPromise(
    loadExperiment(written(text), { projectRoot: root }).pipe(
      Effect.as([]),
      Effect.catchTag("InvalidExperiment", ({ errors }) => Effect.succeed(errors.map((e) => `${e.path}: ${e.message}`)))
    )
  )

describe("baselines", () => {
  it("stand on one ground, and differ in what they do from the warm start on", async () => {
    const found = await planned(join(root, "experiments/baselines.yaml"))
    const count = (node: string) => nodesOf(found).filter((name) => name === node).length
    assert.deepStrictEqual(["data", "pretrain", "nli", "preferences"].map(count), [1, 1, 1, 1])
    // Three seeds; the base's warm start of 0 steps beside the common one.
    assert.deepStrictEqual(["bestOf", "bestSft", "preference", "continuedSft", "grpo"].map(count), [3, 3, 3, 3, 3])
    assert.strictEqual(count("warmStart"), 6)
  })

  it("do equally many updates on equally many answers", async () => {
    const { cells } = await planned(join(root, "experiments/baselines.yaml"))
    const of = (arm: string) => cells.find((cell) => cell.arm === arm)!.params as Record<string, Record<string, number>>
    const { bestSft } = of("best-of-g-sft")
    const { continuedSft } = of("continued-sft")
    const { preference: pairs } = of("dpo")
    const { grpo } = of("op-grpo")
    for (const { batchSize, steps } of [bestSft!, continuedSft!]) assert.deepStrictEqual([steps, batchSize], [60, 64])
    assert.deepStrictEqual([pairs!["steps"], 2 * pairs!["batchSize"]!], [60, 64])
    assert.strictEqual(grpo!["steps"]! * grpo!["updatesPerStep"]!, 60)
    assert.strictEqual((grpo!["promptsPerStep"]! * grpo!["groupSize"]!) / grpo!["updatesPerStep"]!, 64)
  })
})

describe("pipelines", () => {
  it("dpo takes pairs of the world or of a file; TIS-DPO trains its contrastive pair, and no other loss does", async () => {
    const world = nodesOf(await planned(written("pipeline: dpo")))
    assert.includeMembers(world, ["preferences", "preference"])
    assert.notInclude(world, "contrast.positive")
    const file = nodesOf(
      await planned(written("pipeline: dpo\nparams: { preferences: { from: file, path: pairs.jsonl } }"))
    )
    assert.includeMembers(file, ["preferences", "preference"])
    const tis = nodesOf(
      await planned(written("pipeline: dpo\nparams: { preference.loss: tis-dpo, contrast.steps: 20 }"))
    )
    assert.includeMembers(tis, ["contrast.positive", "contrast.negative", "preference"])
  })

  it("the baselines by vote share their slates and what those prefer", async () => {
    const found = await planned(
      written("arms: { sft: { pipeline: sft-top-voted }, dpo: { pipeline: dpo-top-bottom } }\nbaseline: sft")
    )
    assert.lengthOf(
      nodesOf(found).filter((node) => node === "preferences" || node === "slates"),
      2
    )
    assert.includeMembers(nodesOf(found), ["topSft", "preference"])
  })

  it.each([
    [
      "pipeline: dpo\nparams: { data: { path: pairs.jsonl }, policy: { path: . } }",
      /only the synthetic world has a judge/
    ],
    [
      "pipeline: sft-top-voted\nparams: { data: { path: pairs.jsonl }, policy: { path: . } }",
      /only the synthetic world logs slates/
    ],
    ["pipeline: best-of-g-sft\nparams: { bestOf.maxNewTokens: 91 }", /bestOf\.maxNewTokens: 91 tokens .* do not fit/],
    [
      "pipeline: best-of-g-sft\nparams: { data: { path: pairs.jsonl }, policy: { path: . }, estimator.steps: 0 }",
      /bestOf\.reward\.coverage\.threshold: is left to calibration/
    ],
    ["pipeline: dpo\nparams: { preference.loss: { kind: simpo, labelSmoothing: 0.7 } }", /labelSmoothing/],
    ["pipeline: dpo\nparams: { preference.loss: { kind: orpo, beta: 1 } }", /beta/]
  ])("refuse %#", async (text, message) => {
    assert.match((await refused(text)).join("\n"), message)
  })
})

it("wire only as they are meant to", () => {
  const sections = {
    data: Pipeline.section(world.params),
    preferences: preferences.params,
    preference: preference.params,
    bestOf: bestOf.params,
    sft: sft.params
  }
  const wired = Pipeline.make("wired", sections, (p) => {
    const made = world({}, p.data)
    const data = preferences({ world: made.world }, p.preferences)
    const miswired = (policy: Ref<typeof Policy>, estimator: Ref<typeof Encoder>) => {
      preference({ policy, pairs: data.pairs }, p.preference)
      sft({ policy, data: data.top }, p.sft)
      // @ts-expect-error rankings are no pairs
      preference({ policy, pairs: data.ranked }, p.preference)
      // @ts-expect-error demonstrations are no preferences
      preference({ policy, pairs: data.top }, p.preference)
      // @ts-expect-error pairs are no demonstrations: which of the two is to be learnt?
      sft({ policy, data: data.pairs }, p.sft)
      // @ts-expect-error demonstrations are no prompts: they have no references to be rewarded by
      bestOf({ policy, prompts: made.demonstrations, estimator }, p.bestOf)
      // @ts-expect-error an encoder is no policy
      preference({ policy: estimator, pairs: data.pairs }, p.preference)
    }
    void miswired
    return { pairs: data.pairs }
  })
  const tasks = Pipeline.build(wired, Schema.decodeUnknownSync(wired.params)({} as unknown))
  assert.deepStrictEqual(
    tasks.map(({ node }) => node),
    ["data", "preferences"]
  )
})
