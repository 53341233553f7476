/** Bad input through the whole command: what is said, the exit code, and that nothing else is lost. */
import { execFile } from "node:child_process"
import { copyFileSync, existsSync, readdirSync, statSync, truncateSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, beforeAll, describe, it } from "vitest"
import { freshFolder } from "../support/folders.ts"
import { root } from "../support/imports.ts"
import { csv, writeEncoder, writePublished } from "./published.ts"

const fresh = freshFolder("bad-command")

/** The command as a process of its own: `out` is its stdout, `said` all that it printed. */
const exp = (
  ...argv: ReadonlyArray<string>
): Promise<{ readonly code: unknown; readonly out: string; readonly said: string }> =>
  new Promise((resolve) => {
    execFile(process.execPath, [join(root, "src/main.ts"), ...argv], (error, out, err) =>
      resolve({ code: error === null ? 0 : error.code, out, said: out + err })
    )
  })

/** Writes an experiment and gives its path. */
const experiment = (text: string): string => {
  const file = join(fresh(), "bad.yaml")
  writeFileSync(file, text)
  return file
}
const pipeline = (name: string) => JSON.stringify(join(root, "pipelines", `${name}.ts`))

let encoder: string
let truncated: string
beforeAll(async () => {
  encoder = await writeEncoder(fresh())
  truncated = fresh()
  for (const name of readdirSync(encoder)) {
    if (statSync(join(encoder, name)).isFile()) copyFileSync(join(encoder, name), join(truncated, name))
  }
  truncateSync(join(truncated, "model.safetensors"), 3000)
})

describe("files and folders that are not there", () => {
  it("are told at once with their places, exit 3, and nothing is created", async () => {
    const data = writePublished(fresh(), { "modular_pluralism_outputs_2p.json": null })
    const warehouse = join(fresh(), "store")
    const arms = (folder: string) => `name: bad
pipeline: ${pipeline("score-published")}
params:
  stratum: 2p
  encoder: ${folder}
arms:
  op-grpo: { params: { answers: op-grpo, data: ${data} } }
  modular-pluralism: { params: { answers: modular-pluralism, data: ${data} } }
  nothing: { params: { data: ./nowhere } }
`
    const file = experiment(arms("./no-model"))
    const missing = await exp("--warehouse", warehouse, "run", file)
    assert.strictEqual(missing.code, 3)
    assert.match(missing.said, /bad\.yaml:5:12 params\.encoder: no file or folder .*no-model \(paths are relative to/)
    assert.match(missing.said, /bad\.yaml:9:30 arms\.nothing\.params\.data: no file or folder .*nowhere/)
    const stratum = await exp("--warehouse", warehouse, "run", experiment(arms(encoder)))
    assert.strictEqual(stratum.code, 3)
    assert.match(
      stratum.said,
      /bad\.yaml:4:12 params\.stratum: .* has no modular_pluralism_outputs_2p\.json \(no stratum is there in full/
    )
    assert.isFalse(existsSync(warehouse))
  })
})

describe("bad files", () => {
  it("fail their own arms with a message each, exit 4; the sound arm is done and kept", async () => {
    const sound = writePublished(fresh())
    const empty = writePublished(fresh(), { "op_v2_test_2p.csv": "prompt,answer\n" })
    const bare = csv(["prompt", "answer"], ["telling a lie", "It is bad."])
    const none = writePublished(fresh(), { "op_v2_test_2p.csv": bare })
    const file = experiment(`name: bad
pipeline: ${pipeline("score-published")}
compute: { threads: 1 }
params:
  stratum: 2p
  encoder: ${encoder}
  evaluate: { candidates: sentences, prefix: keep, threshold: 0.9999 }
arms:
  sound: { params: { data: ${sound} } }
  truncated: { params: { data: ${sound}, encoder: ${truncated} } }
  empty: { params: { data: ${empty} } }
  no-perspective: { params: { data: ${none} } }
`)
    const warehouse = join(fresh(), "store")
    const run = await exp("--warehouse", warehouse, "run", file)
    assert.strictEqual(run.code, 4, run.said)
    assert.match(run.said, /model\.safetensors: tensor ".*": .*the file is truncated; fetch it again/)
    assert.match(run.said, /op_v2_test_2p\.csv: no rows; at least one situation is needed/)
    assert.match(run.said, /op_v2_test_2p\.csv, line 2, field "answer": has no perspective; write "In the perspective/)
    assert.match(run.said, /3 tasks failed/)
    const query = "select arm, state from cells order by arm"
    const cells = await exp("--warehouse", warehouse, "sql", query, "--format", "json")
    assert.deepStrictEqual(JSON.parse(cells.out), [
      { arm: "empty", state: "failed" },
      { arm: "no-perspective", state: "failed" },
      { arm: "sound", state: "done" },
      { arm: "truncated", state: "failed" }
    ])
    const coverage = "select value from items where name = 'eval/coverage/estimator' order by prompt_id"
    const items = await exp("--warehouse", warehouse, "sql", coverage, "--format", "json")
    assert.deepStrictEqual(JSON.parse(items.out), [{ value: 1 }, { value: 0 }])
  })
})

describe("a learning rate that is far too large", () => {
  it("ends in NaN, exit 4, with step and remedy; with a better one the run goes on from what was done", async () => {
    const file = experiment(`name: bad
pipeline: ${pipeline("warm-start")}
compute: { threads: 1 }
params:
  data: { train: 48, development: 12, test: 12, perspectives: 16, clusters: 4, nliPairs: 240 }
  policy: { hiddenSize: 16, layers: 1, heads: 2, intermediateSize: 16 }
  pretrain: { steps: 6, batchSize: 4, learningRate: 1e30, schedule: constant }
`)
    const go = ["--warehouse", join(fresh(), "store"), "run", file, "--only", "pretrain"]
    const first = await exp(...go)
    assert.strictEqual(first.code, 4, first.said)
    assert.match(first.said, /sft: .* is (NaN|-?Infinity) at step \d; .*checkpoint.*\. Lower the learning rate/)
    const second = await exp(...go, "--json", "--set", "pretrain.learningRate=1e-3")
    assert.strictEqual(second.code, 0, second.said)
    assert.include(JSON.parse(second.out.trim().split("\n").at(-1)!), { ran: 1, cached: 2, failed: 0 })
  })
})
