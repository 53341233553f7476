/** A training gets development data where it asks to be measured, and no dependency where it does not. */
import { Schema } from "effect"
import { expect, it } from "vitest"
import bestOfG from "../../pipelines/best-of-g-sft.ts"
import continuedSft from "../../pipelines/continued-sft.ts"
import dpo from "../../pipelines/dpo.ts"
import dpoTopBottom from "../../pipelines/dpo-top-bottom.ts"
import opGrpo from "../../pipelines/op-grpo.ts"
import pope from "../../pipelines/pope.ts"
import popeLogged from "../../pipelines/pope-logged.ts"
import popeWindows from "../../pipelines/pope-windows.ts"
import sftTopVoted from "../../pipelines/sft-top-voted.ts"
import { type AnyPipeline, build } from "../../src/dsl/Pipeline.ts"

/** Where each training's inputs come from, by node and stage. */
const inputsOf = (pipeline: AnyPipeline, params: unknown) => {
  const tasks = build(pipeline, Schema.decodeSync(pipeline.params)(params))
  return (node: string, stage: string) =>
    tasks
      .filter((task) => task.node === node && task.stage.name === stage)
      .map(({ inputs }) =>
        Object.fromEntries(
          Object.entries(inputs).map(([name, ref]) => [name, `${ref.task.node}.${ref.output}`] as const)
        )
      )[0]
}

it("nothing is added by default", () => {
  const of = inputsOf(opGrpo, {})
  expect(Object.keys(of("grpo", "grpo") ?? {})).toEqual(["policy", "prompts", "estimator"])
  for (const node of ["pretrain", "warmStart"]) expect(Object.keys(of(node, "sft") ?? {})).toEqual(["policy", "data"])
})

it("each training is given the data of its kind when asked", () => {
  const measured = { evaluateEvery: 5 }
  const of = inputsOf(opGrpo, { pretrain: measured, warmStart: measured, grpo: measured })
  expect(of("pretrain", "sft")).toMatchObject({ development: "data.developmentDemonstrations" })
  expect(of("warmStart", "sft")).toMatchObject({ development: "data.developmentDemonstrations" })
  expect(of("grpo", "grpo")).toMatchObject({ prompts: "data.train", development: "data.development" })
  const continued = inputsOf(continuedSft, { continuedSft: measured })
  expect(continued("continuedSft", "sft")).toMatchObject({ development: "data.developmentDemonstrations" })
  expect(Object.keys(continued("warmStart", "sft") ?? {})).toEqual(["policy", "data"])
})

it("POPE is given slates of development queries when asked, with the odds of its log", () => {
  const measured = { evaluateEvery: 5 }
  const inputs = (pipeline: AnyPipeline, params: object) => inputsOf(pipeline, params)("ips", "ips")
  expect(Object.keys(inputs(pope, {}) ?? {})).toEqual(["policy", "slates"])
  expect(Object.keys(inputs(popeWindows, {}) ?? {})).toEqual(["policy", "slates"])
  expect(inputs(pope, { ips: measured })).toMatchObject({ development: "candidates.slates" })
  expect(inputs(popeWindows, { ips: measured })).toMatchObject({ development: "candidates.slates" })
  expect(inputs(pope, { log: "pool", ips: measured })).toMatchObject({ development: "behaviour.slates" })
})

it("preference training is given pairs that are held out when asked", () => {
  const preference = { evaluateEvery: 5 }
  const heldOut = (pipeline: AnyPipeline, params: object) =>
    inputsOf(pipeline, params)("preference", "preference")?.["heldOut"]
  for (const [pipeline, params] of [
    [dpo, {}],
    [dpoTopBottom, {}],
    [pope, { method: "preference" }]
  ] as ReadonlyArray<readonly [AnyPipeline, object]>) {
    expect(heldOut(pipeline, params)).toBeUndefined()
    expect(heldOut(pipeline, { ...params, preference })).toBe("heldOut.pairs")
  }
  expect(inputsOf(dpo, { preference })("heldOut", "preferences")).toEqual({ world: "data.world" })
  expect(inputsOf(dpoTopBottom, { preference })("heldOut", "preferences")).toEqual({ slates: "slates.development" })
})

it("a log of one's own is measured on what it holds out, and refused where that is nothing", () => {
  const file = (path: string) => ({ _tag: "File" as const, path, sha256: "" })
  const params = (development: number) => ({
    data: { source: "file" as const, path: file("log.jsonl"), development },
    encoder: { path: file("encoder") },
    evaluate: { threshold: 0.6 },
    ips: { evaluateEvery: 5 }
  })
  expect(inputsOf(popeLogged, params(9))("ips", "ips")).toMatchObject({ development: "behaviour.slates" })
  const paths = (development: number) =>
    popeLogged.check(Schema.decodeSync(popeLogged.params)(params(development)) as never).map(({ path }) => path)
  expect(paths(0)).toEqual(["ips.evaluateEvery"])
  expect(paths(9)).toEqual([])
})

it("the control of shuffled references sees no true ones while it is measured", () => {
  const of = inputsOf(opGrpo, { references: "shuffled", grpo: { evaluateEvery: 5, keepBest: "eval/reward" } })
  expect(of("grpo", "grpo")).toMatchObject({ prompts: "references.situations", development: "references.situations" })
})

it.each([
  [bestOfG, "bestSft"],
  [dpo, "contrast"],
  [dpoTopBottom, "contrast"],
  [sftTopVoted, "topSft"],
  [pope, "topVoted"],
  [pope, "fit"]
] as ReadonlyArray<readonly [AnyPipeline, string]>)(
  "%s: what cannot be measured is refused when it is loaded",
  (pipeline, section) => {
    const refused = (params: object) =>
      pipeline.check(Schema.decodeSync(pipeline.params)(params) as never).map(({ path }) => path)
    expect(refused({ [section]: { evaluateEvery: 5 } })).toContain(`${section}.evaluateEvery`)
    expect(refused({})).not.toContain(`${section}.evaluateEvery`)
  }
)
