/**
 * Answers of a policy to the prompts of a data set. Random numbers are named by (cell seed, purpose, prompt, sample,
 * position), never by arm: two equal policies give equal answers, and arms are paired token by token.
 *
 * An interrupted attempt goes on after the prompts that it has answered, in the same batches, so with the same bits.
 *
 * With `minLines` the closing tag of the perspectives is masked until that many lines are written: a control for
 * length, not a method.
 */
import { readFile, writeFile } from "node:fs/promises"
import { Clock, Effect, Option, Schema } from "effect"
import { Completions, Policy, Situations } from "../artifact/kinds.ts"
import type { Situation } from "../data/records.ts"
import * as Param from "../dsl/param.ts"
import * as Stage from "../dsl/Stage.ts"
import { Task } from "../dsl/Task.ts"
import * as PolicyModel from "../models/Policy.ts"
import type { Sampling } from "../models/sampling.ts"
import { decodingMetrics, watchDecoding } from "./decoding.ts"

/**
 * How answers are drawn, as every stage that samples has it.
 * @param truncated what it means there that an option leaves tokens out, for those options' descriptions
 */
export const samplingFields = (
  defaults: { readonly temperature: number },
  bounds: Param.Bounds = { min: 0 },
  truncated = ""
) => ({
  temperature: Param.number(
    defaults.temperature,
    bounds.above === undefined ? "sampling temperature; 0 takes the likeliest token" : "sampling temperature",
    bounds
  ),
  topP: Param.number(1, `nucleus sampling: share of probability kept${truncated}`, { above: 0, max: 1 }),
  topK: Param.int(0, `keep the k likeliest tokens; 0 keeps all${truncated}`, { min: 0 }),
  minP: Param.number(0, `keep tokens with this share of the likeliest one's probability${truncated}`, {
    min: 0,
    max: 1
  }),
  maxNewTokens: Param.int(72, "most tokens of an answer, the end token included", { min: 1 })
})

/** The parameters of generation for an evaluation: a part of the `evaluate` section. */
export const generationFields = {
  ...samplingFields({ temperature: 0.7 }),
  prompts: Param.int(0, "use the first prompts only; 0 uses all", { min: 0 }),
  samples: Param.int(1, "answers per prompt", { min: 1 }),
  minLines: Param.int(0, "control: lines that must be written before the list may be closed", { min: 0 })
}
export const GenerateParams = Param.struct(generationFields)

interface SamplingParams {
  readonly temperature: number
  readonly topP: number
  readonly topK: number
  readonly minP: number
  readonly maxNewTokens: number
}

/** Parameters as the sampler wants them. */
export const samplingOf = (params: SamplingParams, seed: number, purpose: string, samples: number): Sampling => ({
  seed,
  purpose,
  samples,
  temperature: params.temperature,
  maxNewTokens: params.maxNewTokens,
  ...(params.topP < 1 ? { topP: params.topP } : {}),
  ...(params.topK > 0 ? { topK: params.topK } : {}),
  ...(params.minP > 0 ? { minP: params.minP } : {})
})

/** A line begins with this phrase; the list of lines is closed by this tag. Single tokens of a world's tokenizer. */
const lineStart = "In the perspective of"
const closing = "</core perspectives>"

/** Prompts that are answered in one go: results are the same, but progress is seen and memory bounded. */
const chunk = 64

/** Answers to situations, samples of a prompt together. */
export const rollOut = Effect.fn("rollOut")(function* (
  policy: PolicyModel.Policy,
  situations: ReadonlyArray<Situation>,
  sampling: Sampling
) {
  return yield* policy.generate(
    situations.map(({ id, prompt }) => ({ promptId: id, prompt })),
    sampling
  )
})

/** What is kept of an answer. */
const Answer = Schema.Struct({
  promptId: Schema.String,
  sample: Schema.Int,
  text: Schema.String,
  tokens: Schema.Int,
  clipped: Schema.Boolean
})
type Answer = typeof Answer.Type
const decodeAnswers = Schema.decodeUnknownSync(Schema.fromJsonString(Schema.Array(Answer)))
const answersFile = (dir: string) => `${dir}/answers.json`

const tokensOf = (answers: ReadonlyArray<Answer>) => answers.reduce((sum, { tokens }) => sum + tokens, 0)

export const generate = Stage.make("generate", {
  module: import.meta.url,
  version: 1,
  params: GenerateParams,
  inputs: { policy: Policy, situations: Situations },
  outputs: { completions: Completions },
  seeded: true,
  device: true,
  metrics: {
    "completions/mean_length": "none",
    "completions/clipped_ratio": "lower",
    "perf/tokens_per_second": "none",
    ...decodingMetrics
  },
  run: Effect.fn("stage.generate")(function* ({ inputs, outputs, params, seed }) {
    const task = yield* Task
    const policy = yield* PolicyModel.load(inputs.policy.dir)
    const all = yield* inputs.situations.rows
    const situations = params.prompts > 0 ? all.slice(0, params.prompts) : all
    const promptOf = new Map(situations.map(({ id, prompt }) => [id, prompt]))
    const sampling: Sampling = {
      ...samplingOf(params, seed, "evaluate", params.samples),
      ...(params.minLines > 0 ? { minLines: { count: params.minLines, closing, newline: lineStart } } : {})
    }
    const resumed = Option.getOrUndefined(yield* task.resume)
    const answers: Array<Answer> =
      resumed === undefined
        ? []
        : [...decodeAnswers(yield* Effect.promise(() => readFile(answersFile(resumed.dir), "utf8")))]
    const known = tokensOf(answers)
    const before = yield* Clock.currentTimeNanos
    const decoding = yield* watchDecoding(policy)
    yield* task.progress(resumed?.step ?? 0, situations.length)
    for (let at = resumed?.step ?? 0; at < situations.length; at += chunk) {
      const done = Math.min(at + chunk, situations.length)
      const fresh = (yield* rollOut(policy, situations.slice(at, done), sampling)).map(
        ({ finish, ids, promptId, sample, text }): Answer => ({
          promptId,
          sample,
          text,
          tokens: ids.length,
          clipped: finish === "length"
        })
      )
      answers.push(...fresh)
      yield* task.samples(
        fresh.map(({ promptId, sample, text }) => ({
          step: 0,
          promptId,
          idx: sample,
          prompt: promptOf.get(promptId) ?? "",
          completion: text,
          reward: null,
          advantage: null,
          parts: []
        }))
      )
      yield* task.progress(done, situations.length)
      if (done < situations.length && (yield* task.checkpointDue)) {
        yield* task.checkpoint(done, null, (dir) =>
          Effect.promise(() => writeFile(answersFile(dir), JSON.stringify(answers)))
        )
      }
    }
    const seconds = Number((yield* Clock.currentTimeNanos) - before) / 1e9
    yield* task.metrics(0, {
      "completions/mean_length": tokensOf(answers) / answers.length,
      "completions/clipped_ratio": answers.filter(({ clipped }) => clipped).length / answers.length,
      "perf/tokens_per_second": (tokensOf(answers) - known) / seconds,
      ...(yield* decoding.metrics)
    })
    yield* outputs.completions.write(
      answers.map(({ promptId, text }) => ({ id: promptId, prompt: promptOf.get(promptId) ?? "", text }))
    )
  })
})
