/**
 * Cached generation on the device. Prompts are run once each, whatever the number of samples; rows that are finished leave
 * the batch; the random number of a token is named by (seed, purpose, prompt, sample, position), so that neither batching nor
 * order changes what is drawn.
 *
 * Weights: a model of at most `constantWeights` bytes, or one that is not being trained, decodes with its weights as
 * constants of the loaded program, which the runtime rearranges for speed; the program is loaded anew when the weights change
 * (`forget`). Above that the weights are fed. An adapter is fed always and not merged: the weights below it never change.
 */
import { Effect, Exit, Scope } from "effect"
import { Device, type DeviceTensor, type Loaded } from "../device/Device.ts"
import type { DeviceError } from "../device/DeviceError.ts"
import { i32 } from "../device/HostTensor.ts"
import { usualBatch } from "../device/microBatch.ts"
import { stream } from "../device/random.ts"
import type { Program } from "../tensor/Program.ts"
import { scalar } from "./batching.ts"
import { cacheDtype, cacheNames, decodeProgram, moveProgram, prefillProgram } from "./decode.ts"
import type { DecoderConfig } from "./decoderConfig.ts"
import type { Adapter } from "./lora.ts"
import { BadRequest, fail, type ModelError, NonFinite, TextTooLong } from "./ModelError.ts"
import type { Weights } from "./parameters.ts"
import { grownTo, leaveAt, retireShare, stepsBetweenTexts, stepsOfRun } from "./rolling.ts"
import {
  finishRow,
  type GenerationRequest,
  planWaves,
  type Row,
  type Rules,
  rulesOf,
  type Sampling,
  type Wave
} from "./sampling.ts"
import { segmentProgram } from "./segment.ts"
import { stepFeeds } from "./stepFeeds.ts"
import type { Tokenizer } from "./tokenizer.ts"

export interface Completion {
  readonly promptId: string
  /** 0, 1, ... within the prompt. */
  readonly sample: number
  readonly prompt: ReadonlyArray<number>
  /** The tokens written, the end token included. */
  readonly ids: ReadonlyArray<number>
  /** Without special tokens and without the stop sequence that ended it. */
  readonly text: string
  /** Of each token under the full softmax at the temperature (at 1 for temperature 0). */
  readonly logprobs: Float32Array
  /** Of each token under the distribution it was drawn from. */
  readonly truncatedLogprobs: Float32Array
  /** `stop`: an end token or a stop sequence; `length`: `maxNewTokens` was reached. */
  readonly finish: "stop" | "length"
}

/** What generation did, besides its answers. */
export interface GenerationStats {
  /** Rows x steps that were computed. */
  readonly rowSteps: number
  /** Tokens that were written. */
  readonly tokens: number
}

export interface Generated {
  /** In the order of the requests, samples of a prompt together. */
  readonly completions: ReadonlyArray<Completion>
  readonly stats: GenerationStats
}

export interface Sampler {
  readonly generate: (
    requests: ReadonlyArray<GenerationRequest>,
    sampling: Sampling
  ) => Effect.Effect<Generated, ModelError | DeviceError>
  /** Gives up programs that hold the weights as constants: before the weights change. */
  readonly forget: Effect.Effect<void>
}

export interface SamplerOptions {
  /** Largest model, in bytes of weights, that decodes with constants; default 4 GiB. 0: always feed the weights. */
  readonly constantWeights?: number
  /** Most steps of one run (`segment.ts`); default: what the device says. Tokens do not depend on it. */
  readonly stepsPerRun?: number
}

/** A sampler over a policy's weights; its programs live as long as the scope. */
export const makeSampler = Effect.fn("Sampler.make")(function* (
  described: DecoderConfig,
  tokenizer: Tokenizer,
  stopIds: ReadonlyArray<number>,
  weights: Weights,
  options: SamplerOptions = {},
  adapter?: Adapter
): Effect.fn.Return<Sampler, never, Device | Scope.Scope> {
  const device = yield* Device
  // where products round keys and values to bfloat16 anyway, half the bytes say the same
  const narrow = device.info.numericClass.dtype === "bf16"
  const config: DecoderConfig = narrow ? { ...described, cached: "bf16" } : described
  const { constantWeights = 4 * 2 ** 30, stepsPerRun = device.info.stepsPerRun ?? 1 } = options
  const scope = yield* Scope.Scope
  const parameters = Object.fromEntries(weights)
  const adapted = Object.fromEntries(adapter?.weights ?? [])
  const lora = adapter?.settings
  const weightBytes = [...weights.values()].reduce((n, { byteLength }) => n + byteLength, 0)
  const asConstants = weightBytes <= constantWeights
  const names = cacheNames(config)
  const stops = new Set(stopIds)

  // Programs by what they do; those with constants are dropped when the weights change.
  const kept = new Map<
    string,
    { readonly loaded: Loaded; readonly scope: Scope.Closeable; readonly constants: boolean }
  >()
  const need = Effect.fnUntraced(function* (key: string, constants: boolean, make: () => Program) {
    const known = kept.get(key)
    if (known !== undefined) return known.loaded
    const own = yield* Scope.fork(scope)
    const loaded = yield* device
      .load(programOf(key, make), constants ? { constants: parameters } : {})
      .pipe(Scope.provide(own))
    kept.set(key, { loaded, scope: own, constants })
    return loaded
  })
  const programs = new Map<string, Program>()
  const programOf = (key: string, make: () => Program) => {
    const known = programs.get(key) ?? make()
    programs.set(key, known)
    return known
  }
  const forget = Effect.suspend(() => {
    const gone = [...kept].filter(([, { constants }]) => constants)
    for (const [key] of gone) kept.delete(key)
    return Effect.forEach(gone, ([, own]) => Scope.close(own.scope, Exit.void), { discard: true })
  })

  const allocate = (rows: number, places: number, own: Scope.Scope) =>
    Effect.gen(function* () {
      const shape = [rows, config.keyValueHeads, places, config.headSize]
      const cache: Record<string, DeviceTensor> = {}
      for (const name of names) cache[name] = yield* device.tensor({ name, dtype: cacheDtype(config), shape }, "zeros")
      return cache
    }).pipe(Scope.provide(own))

  /** Generates the rows of some requests together. */
  const wave = Effect.fnUntraced(function* (
    requests: ReadonlyArray<GenerationRequest>,
    group: Wave,
    sampling: Sampling,
    rules: Rules
  ) {
    const { maxNewTokens, purpose, seed, temperature = 1 } = sampling
    const prompts = group.map(({ request }) => requests[request]!.prompt)
    let rows: Array<Row & { readonly prompt: number }> = group.flatMap(({ request, samples }, prompt) =>
      samples.map((sample) => ({
        request,
        prompt,
        sample,
        stream: stream(seed, purpose, requests[request]!.promptId, sample),
        ids: [],
        logprobs: [],
        truncated: [],
        lines: 0,
        finish: undefined,
        text: undefined
      }))
    )
    const all = rows
    const kind = JSON.stringify(rules.choice)
    const steps = stepsOfRun(stepsPerRun, maxNewTokens)
    const decode =
      steps === 1
        ? need(`decode ${kind}`, asConstants, () => decodeProgram(config, rules.choice, lora))
        : need(`segment of ${steps} ${kind}`, asConstants, () =>
            segmentProgram(config, rules.choice, { steps, stops: stops.size }, lora)
          )

    const time = Math.max(...prompts.map((prompt) => prompt.length)) - 1
    const most = time + maxNewTokens
    let places = grownTo(time, most, device.sizeFor)
    const waveScope = yield* Scope.Scope
    let cacheScope = yield* Scope.fork(waveScope)
    let cache = yield* allocate(rows.length, places, cacheScope)
    if (time > 0) {
      const prefill = yield* need("prefill", false, () => prefillProgram(config, lora))
      const ids = new Int32Array(prompts.length * time).fill(tokenizer.special.pad)
      prompts.forEach((prompt, i) => {
        ids.set(prompt.slice(0, -1), i * time)
      })
      yield* device.run(
        prefill,
        {
          ...parameters,
          ...adapted,
          ids: i32([prompts.length, time], ids),
          source: i32(
            [rows.length],
            rows.map(({ prompt }) => prompt)
          ),
          places: i32([places], new Int32Array(places))
        },
        cache
      )
    }

    let rowSteps = 0
    for (let step = 0; step < maxNewTokens; ) {
      const alive = rows.flatMap((row, i) => (row.finish === undefined ? [i] : []))
      if (alive.length === 0) break
      const full = time + step >= places
      const few = steps === 1 ? rows.length * (1 - retireShare) : leaveAt(rows.length, all.length, device.sizeFor)
      if (full || alive.length <= few) {
        const grown = full ? grownTo(places, most, device.sizeFor) : places
        const move = yield* need(full ? "grow" : "retire", false, () => moveProgram(config, full))
        const nextScope = yield* Scope.fork(waveScope)
        const next = yield* allocate(alive.length, grown, nextScope)
        const keep = i32([alive.length], alive)
        yield* device.run(
          move,
          { ...cache, keep, ...(full ? { grown: i32([grown], new Int32Array(grown)) } : {}) },
          next
        )
        yield* Scope.close(cacheScope, Exit.void)
        rows = alive.map((i) => rows[i]!)
        places = grown
        cache = next
        cacheScope = nextScope
      }
      const n = rows.length
      const texts = rules.stopSequences.length > 0 ? stepsBetweenTexts : steps
      const left = Math.min(steps, texts, maxNewTokens - step, places - time - step)
      const run = { steps, left, leave: leaveAt(n, all.length, device.sizeFor) }
      const outputs = yield* device.run(
        yield* decode,
        {
          ...cache,
          ...adapted,
          ...(asConstants ? {} : parameters),
          ...stepFeeds(rows, prompts, rules, run, stops),
          ...(rules.choice.greedy ? {} : { temperature: scalar(temperature) })
        },
        cache
      )
      const done = steps === 1 ? 1 : Number(outputs["done"]!.data[0])
      rowSteps += n * done
      const [tokens, logprobs, truncated] = [
        outputs["token"]!.data,
        outputs["logprob"]!.data,
        outputs["truncatedLogprob"]!.data
      ]
      for (let at = 0; at < done * n; at++) {
        const row = rows[at % n]!
        if (row.finish !== undefined) continue
        const id = Number(tokens[at])
        const logprob = Number(logprobs[at])
        if (!Number.isFinite(logprob)) {
          return yield* fail(
            new NonFinite({
              what: "the log-probability of a sampled token",
              value: String(logprob),
              where: `token ${row.ids.length}`
            })
          )
        }
        row.ids.push(id)
        row.logprobs.push(logprob)
        row.truncated.push(Number(truncated[at]))
        if (id === rules.lines?.newline) row.lines++
        finishRow(row, rules, sampling, tokenizer, stops)
      }
      step += done
    }
    return { rows: all, rowSteps }
  }, Effect.scoped)

  const generate: Sampler["generate"] = Effect.fn("Sampler.generate")(function* (requests, sampling) {
    const rules = yield* rulesOf(sampling, tokenizer)
    const { maxNewTokens, samples = 1 } = sampling
    for (const { prompt } of requests) {
      if (prompt.length === 0) return yield* fail(new BadRequest({ detail: "a prompt has no tokens" }))
      if (prompt.length + maxNewTokens > config.maxPositions) {
        const text = tokenizer.decode(prompt, { special: true })
        return yield* fail(new TextTooLong({ text, tokens: prompt.length + maxNewTokens, limit: config.maxPositions }))
      }
    }
    const waves = planWaves(config, requests, { cacheBytes: device.info.batch?.bytes ?? usualBatch.bytes, ...sampling })
    const found = new Map<number, Completion>()
    let rowSteps = 0
    let tokens = 0
    for (const group of waves) {
      const done = yield* wave(requests, group, sampling, rules)
      rowSteps += done.rowSteps
      for (const row of done.rows) {
        const { prompt, promptId } = requests[row.request]!
        tokens += row.ids.length
        found.set(row.request * samples + row.sample, {
          promptId,
          sample: row.sample,
          prompt,
          ids: row.ids,
          text: row.text ?? tokenizer.decode(row.ids),
          logprobs: Float32Array.from(row.logprobs),
          truncatedLogprobs: Float32Array.from(row.truncated),
          finish: row.finish ?? "length"
        })
      }
    }
    return {
      completions: Array.from({ length: requests.length * samples }, (_, i) => found.get(i)!),
      stats: { rowSteps, tokens }
    }
  })

  return { generate, forget }
})
