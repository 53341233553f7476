/**
 * The smoke version of `score-published`, from the YAML to the table, on real texts and a real encoder. It runs where they
 * are (`../shared/data/overton`, `OVERTONE_MODELS`) and is skipped elsewhere. That of the SmolLM2 run takes minutes and
 * gigabytes: it is loaded here, its stages are tested one by one, and its head says how to run it.
 */
import { execFile } from "node:child_process"
import { existsSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { realModel } from "../models/folders.ts"
import { freshFolder } from "../support/folders.ts"
import { root } from "../support/imports.ts"

const fresh = freshFolder("smoke-real")
const data = join(root, "../shared/data/overton")
const minilm = realModel("minilm")
const smollm2 = realModel("smollm2")
const absent = !existsSync(join(data, "op_v2_test_5p.csv")) || minilm === undefined

const exp = (...argv: ReadonlyArray<string>): Promise<{ readonly code: unknown; readonly out: string }> =>
  new Promise((resolve) => {
    execFile(process.execPath, [join(root, "src/main.ts"), ...argv], (error, out, err) =>
      resolve({ code: error === null ? 0 : error.code, out: `${out}${error === null ? "" : err}` })
    )
  })

describe("real experiments, small", () => {
  it.skipIf(absent)("published answers are scored: OP-GRPO covers more of the first situations", async () => {
    const warehouse = join(fresh(), "store")
    const file = join(root, "experiments/smoke/score-published.yaml")
    const run = await exp("--warehouse", warehouse, "run", file, "--set", `data=${data}`, "--set", `encoder=${minilm}`)
    expect(run.code, run.out).toBe(0)
    const query = "select value, baseline_value, n_prompts from ablation where metric = 'eval/coverage/estimator'"
    const { out } = await exp("--warehouse", warehouse, "sql", query, "--format", "json")
    const [row] = JSON.parse(out)
    expect(row.n_prompts).toBe(4)
    expect(row.value).toBeGreaterThan(row.baseline_value)
    expect(row.value).toBeLessThanOrEqual(1)
  })

  it.skipIf(absent || smollm2 === undefined)("OP-GRPO on SmolLM2 is planned whole, from the real files", async () => {
    const file = join(root, "experiments/smoke/op-grpo-smollm2.yaml")
    const sets = [`data.path=${join(data, "op_v2_test_5p.csv")}`, `policy.path=${smollm2}`, `encoder.path=${minilm}`]
    const { code, out } = await exp("plan", file, "--json", ...sets.flatMap((set) => ["--set", set]))
    expect(code, out).toBe(0)
    const { cells, tasks } = JSON.parse(out)
    expect(cells).toHaveLength(2)
    expect(new Set(tasks.flatMap((task: { nodes: ReadonlyArray<string> }) => task.nodes))).toEqual(
      new Set(["data", "encoder", "estimator", "evaluate", "grpo", "policy", "warmStart"])
    )
  })
})
