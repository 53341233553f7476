/**
 * The programs of cached generation. Every row has its own length in the cache: row r holds `lengths[r]` positions, and one
 * step writes position `lengths[r]` and samples the token after it. What samples is in the graph; a step gives three
 * numbers a row.
 */
import { cachedAttention } from "../tensor/composites/cachedAttention.ts"
import { linear } from "../tensor/composites/linear.ts"
import { greedy, sample } from "../tensor/composites/sample.ts"
import { sizeOf, subtractDims } from "../tensor/Dim.ts"
import { cast, notEqual } from "../tensor/ops/elementwise.ts"
import { gather } from "../tensor/ops/indexing.ts"
import { iota, zeros } from "../tensor/ops/leaf.ts"
import { expandDims, pad, reshape, transpose } from "../tensor/ops/shape.ts"
import { type Program, program } from "../tensor/Program.ts"
import { byteWidth, input, type Tensor } from "../tensor/Tensor.ts"
import { attendCausally, headWeight, hidden } from "./decoder.ts"
import type { DecoderConfig } from "./decoderConfig.ts"
import { adapting, type LoraSettings, policyInputs } from "./lora.ts"
import type { ParameterInputs } from "./parameters.ts"

/** Names of the cache tensors, [rows, keyValueHeads, places, headSize] each. */
export const cacheNames = ({ layers }: DecoderConfig): ReadonlyArray<string> =>
  Array.from({ length: layers }, (_, layer) => [`cache:k:${layer}`, `cache:v:${layer}`]).flat()

/** What keys and values are kept in. */
export const cacheDtype = ({ cached }: DecoderConfig) => cached ?? "f32"

/** The cache as inputs of a program, by name. */
export const cacheInputs = (config: DecoderConfig, rows: string, places: string): ReadonlyMap<string, Tensor> => {
  const shape = [rows, config.keyValueHeads, places, config.headSize]
  return new Map(cacheNames(config).map((name) => [name, input(name, cacheDtype(config), shape)]))
}

/**
 * Runs prompts once and lays their keys and values out for several rows each. Inputs: ids i32 [prompts, time]; source i32
 * [rows], the prompt of each row; places i32 [places], whose size is the cache's. Outputs: the cache. What padding wrote
 * lies behind a row's length, where nothing looks.
 */
export const prefillProgram = (config: DecoderConfig, lora?: LoraSettings): Program => {
  const parameters = policyInputs(config, lora)
  const ids = input("ids", "i32", ["prompts", "time"])
  const source = input("source", "i32", ["rows"])
  const places = input("places", "i32", ["places"])
  const outputs: Record<string, Tensor> = {}
  const attend = attendCausally(config)
  const lay = (x: Tensor) =>
    // [prompts, time, heads, d] -> [rows, heads, places, d]
    pad(gather(transpose(cast(x, cacheDtype(config)), [0, 2, 1, 3]), source), 2, 0, subtractDims("places", "time"))
  hidden(config, parameters, ids, {
    adapt: adapting(config, lora),
    attend: (q, k, v, layer) => {
      outputs[`cache:k:${layer}`] = lay(k)
      outputs[`cache:v:${layer}`] = lay(v)
      return attend(q, k, v, layer)
    }
  })
  return program(`prefill`, { inputs: [...parameters.all, ids, source, places], outputs })
}

/** How the next token is chosen: fixed parts of a decode program. */
export interface Choice {
  readonly greedy: boolean
  readonly topK?: number
  readonly topP?: number
  readonly minP?: number
  /** Whether each row may have one token that is forbidden at this step. */
  readonly banned: boolean
}

/** What one step of decoding reads. `temperature` is missing where the most probable token is taken. */
export interface StepInputs {
  /** The last token of each row, i32 [rows], and the positions its cache holds, i32 [rows]. */
  readonly token: Tensor
  readonly lengths: Tensor
  readonly cache: ReadonlyMap<string, Tensor>
  /** f32 [rows] in [0, 1), and a scalar. */
  readonly draw?: { readonly uniform: Tensor; readonly temperature: Tensor } | undefined
  /** A token that each row may not take, or -1: i32 [rows]. */
  readonly banned?: Tensor | undefined
}

/** The next token of every row, and the cache with the last one written. */
export const decodeStep = (
  config: DecoderConfig,
  parameters: ParameterInputs,
  choice: Choice,
  { banned, cache, draw, lengths, token }: StepInputs,
  lora?: LoraSettings
) => {
  const caches: Record<string, Tensor> = {}
  const states = hidden(config, parameters, expandDims(token, 1), {
    positions: expandDims(lengths, 1),
    adapt: adapting(config, lora),
    attend: (q, k, v, layer) => {
      const own = (kind: "k" | "v") => cast(cache.get(`cache:${kind}:${layer}`)!, "f32")
      const next = cachedAttention(q, k, v, { k: own("k"), v: own("v") }, lengths)
      caches[`cache:k:${layer}`] = cast(next.cache.k, cacheDtype(config))
      caches[`cache:v:${layer}`] = cast(next.cache.v, cacheDtype(config))
      return next.out
    }
  })
  const logits = linear(reshape(states, [token.shape[0]!, config.hiddenSize]), headWeight(config, parameters))
  const mask = banned && notEqual(iota([1, config.vocabularySize], 1), expandDims(banned, 1))
  const { minP, topK, topP } = choice
  const sampled =
    draw === undefined
      ? { ...greedy(logits, mask), truncatedLogprob: zeros(token.shape) }
      : sample(logits, draw.uniform, { temperature: draw.temperature, topK, topP, minP, mask })
  return { token: sampled.token, logprob: sampled.logprob, truncatedLogprob: sampled.truncatedLogprob, caches }
}

/**
 * One step. Inputs: token i32 [rows], lengths i32 [rows], the cache, and where they matter uniform f32 [rows], temperature
 * f32 scalar, banned i32 [rows] (a token, or -1). Outputs: token i32, logprob (full softmax at the temperature; at 1 for
 * greedy decoding), truncatedLogprob (the distribution sampled from), [rows] each, and the cache, in place.
 */
export const decodeProgram = (config: DecoderConfig, choice: Choice, lora?: LoraSettings): Program => {
  const cache = cacheInputs(config, "rows", "places")
  const { caches, ...sampled } = decodeStep(
    config,
    policyInputs(config, lora),
    choice,
    {
      token: input("token", "i32", ["rows"]),
      lengths: input("lengths", "i32", ["rows"]),
      cache,
      draw: choice.greedy
        ? undefined
        : { uniform: input("uniform", "f32", ["rows"]), temperature: input("temperature", "f32", []) },
      banned: choice.banned ? input("banned", "i32", ["rows"]) : undefined
    },
    lora
  )
  const donate = Object.fromEntries([...cache.keys()].map((name) => [name, name]))
  return program("decode", { outputs: { ...sampled, ...caches }, donate })
}

/**
 * Moves rows of the cache. Inputs: the cache [rows, ...], keep i32 [kept], and with `grow` grown i32 [grown], whose size is
 * the number of places from then on. Outputs: the cache of the kept rows, under the same names.
 */
export const moveProgram = (config: DecoderConfig, grow: boolean): Program => {
  const keep = input("keep", "i32", ["kept"])
  const grown = input("grown", "i32", ["grown"])
  const cache = cacheInputs(config, "rows", "places")
  const outputs = Object.fromEntries(
    [...cache].map(([name, x]) => {
      const kept = gather(x, keep)
      return [name, grow ? pad(kept, 2, 0, subtractDims("grown", "places")) : kept]
    })
  )
  return program(grow ? "grow" : "retire", { inputs: [...cache.values(), keep, ...(grow ? [grown] : [])], outputs })
}

/** Bytes of cache that one position of one row takes. */
export const cacheBytesPerToken = (config: DecoderConfig): number =>
  Number(sizeOf([config.layers, 2, config.keyValueHeads, config.headSize])) * byteWidth[cacheDtype(config)]
