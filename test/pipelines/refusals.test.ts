/** Impossible combinations are told when the experiment is loaded, each with its place, not after pretraining. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Effect } from "effect"
import { afterAll, assert, describe, it } from "vitest"
import { loadExperiment } from "../../src/dsl/load.ts"
import { root } from "../support/imports.ts"

const home = mkdtempSync(join(tmpdir(), "overtone-refusals-"))
afterAll(() => rmSync(home, { recursive: true, force: true }))
writeFileSync(join(home, "rows.csv"), "prompt,answer\n")

const told = (pipeline: string, params: string) => {
  const file = join(home, "x.yaml")
  writeFileSync(file, `name: x\npipeline: ${pipeline}\nparams:\n  ${params}\n`)
  return Effect.runPromise(
    loadExperiment(file, { projectRoot: root }).pipe(
      Effect.as([]),
      Effect.catchTag("InvalidExperiment", ({ errors }) =>
        Effect.succeed(errors.map(({ line, message, path }) => `${line} ${path}: ${message}`))
      )
    )
  )
}

describe("refused with its place", () => {
  it.each([
    [
      "op-grpo",
      "policy: { hiddenSize: 100, heads: 3 }",
      /^4 params\.policy\.heads: .*100 does not divide into 3 heads/
    ],
    ["op-grpo", "policy: { hiddenSize: 60, heads: 4 }", /policy\.heads: .*of an even size/],
    ["op-grpo", "policy: { heads: 4, keyValueHeads: 3 }", /policy\.keyValueHeads: 3 does not divide the 4 heads/],
    ["warm-start", "estimator.hiddenSize: 30", /estimator\.heads: .*30 does not divide into 4 heads/],
    ["continued-sft", "nli.heads: 5", /^4 params\.nli\.heads: .*64 does not divide into 5 heads/],
    ["warm-start", "data.leastLines: 5", /data\.leastLines: 5 is more than `usualLines`, 4/],
    ["warm-start", "data.leastWindow: 11", /data\.leastWindow: 11 is more than `mostWindow`, 10/],
    [
      "warm-start",
      "evaluate.maxNewTokens: 91",
      /evaluate\.maxNewTokens: 91 tokens .* do not fit `policy.maxPositions`, 96/
    ],
    ["op-grpo", "grpo.maxNewTokens: 91", /grpo\.maxNewTokens: 91 tokens .* do not fit/],
    ["op-grpo", "{ data.train: 12, grpo.promptsPerStep: 13 }", /grpo\.promptsPerStep: .* distinct, and there are 12/],
    [
      "warm-start",
      "{ data: { source: file, path: rows.csv }, policy: { source: folder, path: . }, estimator.steps: 0 }",
      /params\.evaluate\.threshold: is left to calibration, .*`estimator\.steps: 0`/
    ],
    [
      "op-grpo",
      "grpo.keepBest: eval/reward",
      /grpo\.keepBest: the best policy by eval\/reward is asked for, and nothing/
    ],
    ["warm-start", "warmStart.keepBest: eval/loss", /warmStart\.keepBest: the best policy by eval\/loss/],
    [
      "op-grpo",
      "grpo: { evaluateEvery: 5, keepBest: eval/reward, reward: { tag: { weight: { from: 0, to: 1, steps: 9 } } } }",
      /grpo\.keepBest: a weight of the reward follows a schedule/
    ],
    [
      "op-grpo",
      "grpo: { evaluateEvery: 5, keepBest: eval/rewards/min/mean, reward.mine: { exec: [cat], version: '1' } }",
      /grpo\.keepBest: no evaluation has the metric eval\/rewards\/min\/mean: one of none, .*eval\/rewards\/mine\/mean/
    ],
    ["pope-windows", "candidates.maxNewTokens: 91", /candidates\.maxNewTokens: 91 tokens .* do not fit/],
    ["pope-windows", "ips: { cu: label, votes: slate }", /ips\./],
    ["pope", "ope: { model: exact, votes: min-max }", /ope\.model: an exact reward model .* not on min-max/],
    ["pope-windows", "ips.keepBest: eval/ope/snips", /ips\.keepBest: the best policy by eval\/ope\/snips is asked for/],
    ["pope-windows", "ips: { evaluateEvery: 5, keepBest: eval/ope/snip }", /ips\.keepBest.*eval\/ope\/snips/],
    [
      "pope-windows",
      "{ votes: equal, ips: { evaluateEvery: 5, keepBest: eval/ope/snips } }",
      /ips\.keepBest: the control of `votes: equal` would be chosen by people's votes/
    ],
    [
      "pope-windows",
      "{ votes: equal, ips.votes: relevance }",
      /ips\.votes: the control of `votes: equal` has .* no relevance/
    ],
    ["dpo", "preference: { evaluateEvery: 5, keepBest: eval/loss }", /preference\.keepBest.*eval_loss/],
    ["dpo", "preference.keepBest: eval_loss", /preference\.keepBest: the best policy by eval_loss is asked for/],
    [
      "dpo",
      "preference: { loss: kto, evaluateEvery: 5, keepBest: eval_loss }",
      /preference\.keepBest: the loss `kto` learns from single judgements/
    ],
    [
      "dpo",
      "{ preferences: { from: file, path: rows.csv }, preference.evaluateEvery: 5 }",
      /preference\.evaluateEvery: measures on pairs, and none are held out \(`preferences\.heldOut: 0`\)/
    ],
    ["op-grpo-on-log", "grpo: { updatesPerStep: 999 }", /grpo\.updatesPerStep/],
    ["op-grpo-on-log", "grpo.evaluateEvery: 5", /grpo\.evaluateEvery: this pipeline gives its training nothing/],
    ["op-grpo", "data: { path: rows.csv }", /^4 params\.data.*: a policy from scratch reads with a world's tokenizer/]
  ])("%s with %s", async (pipeline, params, message) => {
    const found = await told(pipeline, params)
    assert.lengthOf(found, 1, found.join("\n"))
    assert.match(found[0]!, message)
  })
})

it("published answers are not scored at a threshold that nobody found or gave", async () => {
  const threshold = /evaluate\.threshold: .* was not calibrated \(no threshold of its own in estimator\.json\)/
  const found = await told("score-published", "{ encoder: ., data: . }")
  assert.isTrue(
    found.some((text) => threshold.test(text)),
    found.join("\n")
  )
  const given = await told("score-published", "{ encoder: ., data: ., evaluate.threshold: 0.7 }")
  assert.isFalse(given.some((text) => threshold.test(text)))
})

describe("let through", () => {
  it.each([
    ["op-grpo", "{ policy: { hiddenSize: 64, heads: 4, keyValueHeads: 2, maxPositions: 97 }, grpo.maxNewTokens: 91 }"],
    ["op-grpo", "{ data.train: 12, grpo: { steps: 0, promptsPerStep: 13 } }"],
    ["warm-start", "{ data.leastLines: 4, data.demonstrations: full }"],
    [
      "warm-start",
      "{ data: { source: file, path: rows.csv }, policy: { source: folder, path: . }, estimator.steps: 0, evaluate.threshold: 0.7 }"
    ]
  ])("%s with %s", async (pipeline, params) => assert.deepEqual(await told(pipeline, params), []))
})
