/**
 * POPE and its baselines on a log of one's own, from YAML to the table: with checkpoints that are made here, whose tokenizers
 * differ, and with SmolLM2 where its weights are (`OVERTONE_MODELS`).
 */
import { execFile } from "node:child_process"
import { mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { Effect } from "effect"
import { assert, beforeAll, describe, it } from "vitest"
import { loadExperiment } from "../../src/dsl/load.ts"
import { emptyLookup } from "../../src/dsl/Planned.ts"
import { plan } from "../../src/dsl/plan.ts"
import { wordLevelFiles } from "../../src/models/wordLevel.ts"
import { wordsOf } from "../../src/stages/scratch.ts"
import { cpu } from "../models/device.ts"
import { realModel } from "../models/folders.ts"
import { tinyPolicy } from "../models/tinyPolicy.ts"
import { worldSpec } from "../models/world.ts"
import { freshFolder } from "../support/folders.ts"
import { root } from "../support/imports.ts"
import { writeEncoder } from "./published.ts"

const fresh = freshFolder("pope-logged")
const smollm2 = realModel("smollm2")

const asked = ["buses", "bicycles", "cars", "trains"]
/** A slate of each of four prompts: in each the second response has most of the votes and the third fewest. */
const slates = asked.map((what) => ({
  prompt: `Should the town pay for ${what} ?`,
  responses: [
    { text: `Yes , ${what} take people to work .`, votes: 3 },
    { text: `Only if ${what} are quiet .`, votes: 8 },
    { text: `No , ${what} cost too much .`, votes: 1 }
  ]
}))
const texts = slates.flatMap(({ prompt, responses }) => [prompt, ...responses.map(({ text }) => text)])

/** A decoder with random weights that knows these words. */
const writePolicy = async (words: ReadonlyArray<string>, seed: number): Promise<string> => {
  const dir = fresh()
  mkdirSync(dir, { recursive: true })
  const spec = { ...worldSpec, words }
  const config = { vocabularySize: spec.phrases.length + words.length }
  await Effect.runPromise(
    tinyPolicy(seed, {}, config, wordLevelFiles(spec)).pipe(
      Effect.flatMap((policy) => policy.save(dir)),
      Effect.scoped,
      Effect.provide(cpu)
    )
  )
  return dir
}

let log: string
let policy: string
let behaviourPolicy: string
let encoder: string
beforeAll(async () => {
  log = join(fresh(), "log.jsonl")
  mkdirSync(join(log, ".."), { recursive: true })
  writeFileSync(log, slates.map((slate) => `${JSON.stringify(slate)}\n`).join(""))
  policy = await writePolicy(
    wordsOf(texts).filter((word) => word !== ","),
    1
  )
  // Its own tokenizer: most words are unknown to it, and responses have other lengths in its tokens.
  behaviourPolicy = await writePolicy(["the", "No", "Yes", "take", "cost", "too", "much"], 2)
  encoder = await writeEncoder(fresh())
})

/** An experiment of all methods; `more` is its parameters beside the small ones. */
const experiment = (more: Readonly<Record<string, unknown>>, methods: ReadonlyArray<string>): string => {
  const dir = fresh()
  mkdirSync(dir, { recursive: true })
  const small = { steps: 2, batchSize: 2 }
  const text = {
    name: "own-log",
    pipeline: "pope-logged",
    params: {
      data: { path: log, test: 2 },
      policy,
      behaviourPolicy,
      "encoder.path": encoder,
      fit: small,
      ips: small,
      topVoted: small,
      preference: small,
      evaluate: { maxNewTokens: 8, set: { of: "answers" }, samples: 2, threshold: 0.7 },
      ...more
    },
    arms: Object.fromEntries(methods.map((method) => [method, { params: { method } }])),
    ...(methods.length > 1 ? { baseline: methods.at(-1) } : {})
  }
  const file = join(dir, "own.yaml")
  writeFileSync(file, JSON.stringify(text))
  return file
}

const nodesOf = (file: string): Promise<ReadonlyArray<string>> =>
  Effect.runPromise(
    loadExperiment(file, { projectRoot: root }).pipe(
      Effect.flatMap((loaded) => plan(loaded, emptyLookup)),
      Effect.map(({ tasks }) => tasks.flatMap(({ nodes }) => nodes).sort())
    )
  )

const refused = (file: string): Promise<string> =>
  Effect.runPromise(
    loadExperiment(file, { projectRoot: root }).pipe(
      Effect.as(""),
      Effect.catchTag("InvalidExperiment", ({ errors }) =>
        Effect.succeed(errors.map((error) => `${error.path}: ${error.message}`).join("\n"))
      )
    )
  )

const exp = (...argv: ReadonlyArray<string>): Promise<{ readonly code: unknown; readonly out: string }> =>
  new Promise((resolve) => {
    execFile(process.execPath, [join(root, "src/main.ts"), ...argv], (error, out, err) =>
      resolve({ code: error === null ? 0 : error.code, out: `${out}${error === null ? "" : err}` })
    )
  })

/** Runs an experiment and answers a query of what it found. */
const found = async (file: string, sql: string): Promise<ReadonlyArray<Readonly<Record<string, unknown>>>> => {
  const warehouse = join(fresh(), "store")
  const run = await exp("--warehouse", warehouse, "run", file, "--jobs", "2")
  assert.strictEqual(run.code, 0, run.out)
  return JSON.parse((await exp("--warehouse", warehouse, "sql", sql, "--format", "json")).out)
}

describe("methods on a log of one's own", () => {
  it("share the log, its references and the behaviour policy; only POPE asks for the odds of what it trains on", async () => {
    const nodes = await nodesOf(experiment({}, ["pope", "sft-top", "preference", "base"]))
    const count = (name: string) => nodes.filter((node) => node === name).length
    for (const node of ["data", "policy", "encoder", "references", "fit", "ips", "lessons", "topVoted", "preference"]) {
      assert.strictEqual(count(node), 1, node)
    }
    // The odds of what POPE trains on, and of the held-out slates that all four are judged by, as by answers and references.
    assert.strictEqual(count("behaviour"), 2)
    assert.strictEqual(count("evaluate"), 12)
    const sft = await nodesOf(experiment({}, ["sft-top"]))
    assert.strictEqual(sft.filter((node) => node === "behaviour").length, 1)
    assert.notInclude(sft, "ips")
  })

  it("learn from Amazon's reviews likewise, and TIS-DPO by a contrastive pair", async () => {
    const amazon = { data: { source: "amazon", items: log, reviews: log }, "preference.loss": "tis-dpo" }
    const nodes = await nodesOf(experiment(amazon, ["preference"]))
    assert.includeMembers([...nodes], ["data", "lessons", "contrast.positive", "contrast.negative", "preference"])
  })

  it("refuse votes that prefer nothing", async () => {
    const message = await refused(experiment({ votes: "equal" }, ["sft-top"]))
    assert.match(message, /method: sft-top learns from who got more votes, and with `votes: equal` nobody did/)
    assert.strictEqual(await refused(experiment({ votes: "equal" }, ["pope"])), "")
  })

  it("refuse a threshold that nobody calibrated for the encoder", async () => {
    const message = await refused(experiment({ evaluate: { maxNewTokens: 8 } }, ["pope"]))
    assert.match(message, /evaluate\.threshold: is left to calibration, and .* was not calibrated/)
  })

  it("run from the file to the table, by policies with different tokenizers", async () => {
    const rows = await found(
      experiment({}, ["pope", "sft-top"]),
      "select arm, name, value from evaluations where name in ('eval/pl_score', 'ope/ips') order by arm, name, value"
    )
    // Two held-out queries by two measures, of each arm.
    assert.lengthOf(rows, 8, JSON.stringify(rows))
    assert.isTrue(rows.every(({ value }) => Number.isFinite(value)))
    const [pope, sft] = ["pope", "sft-top"].map((arm) =>
      rows.flatMap((row) => (row["arm"] === arm && row["name"] === "ope/ips" ? [row["value"]] : []))
    )
    assert.notDeepEqual(pope, sft)
  })

  it.skipIf(smollm2 === undefined)(
    "run on SmolLM2 by the odds of another checkpoint with its own tokenizer",
    async () => {
      const sql =
        "select name, avg(value) as value from evaluations where name in ('eval/pl_score', 'ope/ips') group by all"
      const small = { steps: 1, batchSize: 1 }
      const more = {
        policy: smollm2,
        "data.limit": 3,
        ips: small,
        topVoted: small,
        evaluate: { maxNewTokens: 4, threshold: 0.7 }
      }
      const rows = await found(experiment(more, ["pope"]), sql)
      assert.lengthOf(rows, 2, JSON.stringify(rows))
      assert.isTrue(rows.every(({ value }) => Number.isFinite(value)))
    }
  )
})
