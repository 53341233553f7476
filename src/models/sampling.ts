/**
 * The rules of sampling: options checked and turned into token ids, requests split into waves, and when an answer is
 * finished. What runs on the device is in `generate.ts`.
 */
import { Effect } from "effect"
import type { Stream } from "../device/random.ts"
import { type Choice, cacheBytesPerToken } from "./decode.ts"
import type { DecoderConfig } from "./decoderConfig.ts"
import { BadRequest, fail } from "./ModelError.ts"
import type { Tokenizer } from "./tokenizer.ts"

export interface Sampling {
  /** Names the random stream, with `purpose`, the prompt's id, the sample's number and the token's position. */
  readonly seed: number
  readonly purpose: string
  /** Most tokens of an answer, the end token included. */
  readonly maxNewTokens: number
  /** Answers per prompt; default 1. */
  readonly samples?: number
  /** Default 1; 0 takes the most probable token. */
  readonly temperature?: number
  /** Keep the k most probable tokens. */
  readonly topK?: number
  /** Keep the smallest set of tokens with this share of the probability. */
  readonly topP?: number
  /** Keep tokens with at least this share of the best one's probability. */
  readonly minP?: number
  /** Texts that end an answer; they are left out of its text. */
  readonly stopSequences?: ReadonlyArray<string>
  /** The token `closing` is forbidden until `newline` was written `count` times. Both must be single tokens. */
  readonly minLines?: { readonly count: number; readonly closing: string; readonly newline?: string }
  /** Most rows decoded at once; default 256. */
  readonly maxRows?: number
  /** Memory for keys and values; default what the device gives, 1 GiB on a CPU. */
  readonly cacheBytes?: number
}

/** A prompt as token ids. */
export interface GenerationRequest {
  /** Names the prompt in random streams: equal ids draw equal numbers. */
  readonly promptId: string
  readonly prompt: ReadonlyArray<number>
}

/** A row that is being written. */
export interface Row {
  readonly request: number
  readonly sample: number
  readonly stream: Stream
  readonly ids: Array<number>
  readonly logprobs: Array<number>
  readonly truncated: Array<number>
  lines: number
  finish: "stop" | "length" | undefined
  text: string | undefined
}

/** Rows that are generated together: some samples of some requests. */
export type Wave = ReadonlyArray<{ readonly request: number; readonly samples: ReadonlyArray<number> }>

/**
 * Waves of at most `maxRows` rows whose caches fit `cacheBytes`, prompts of like length together. A wave takes whole groups
 * unless one alone is too large, so that a prompt is run once.
 */
export const planWaves = (
  config: DecoderConfig,
  requests: ReadonlyArray<GenerationRequest>,
  { cacheBytes = 2 ** 30, maxNewTokens, maxRows = 256, samples = 1 }: Sampling
): ReadonlyArray<Wave> => {
  const lengths = requests.map(({ prompt }) => prompt.length)
  const order = lengths.map((_, i) => i).sort((a, b) => lengths[b]! - lengths[a]! || a - b)
  const waves: Array<Array<{ readonly request: number; readonly samples: ReadonlyArray<number> }>> = []
  let free = 0
  for (const request of order) {
    const bytes = cacheBytesPerToken(config) * (lengths[request]! + maxNewTokens)
    const cap = Math.max(1, Math.min(maxRows, Math.floor(cacheBytes / bytes)))
    let next = 0
    while (next < samples) {
      if (waves.length === 0 || free < Math.min(samples - next, cap)) {
        waves.push([])
        free = cap
      }
      const take = Math.min(free, samples - next)
      waves.at(-1)!.push({ request, samples: Array.from({ length: take }, (_, i) => next + i) })
      next += take
      free -= take
    }
  }
  return waves
}

/** Marks a row that has just written a token as finished where it is. */
export const finishRow = (
  row: Row,
  { stopSequences }: Rules,
  { maxNewTokens }: Sampling,
  tokenizer: Tokenizer,
  stops: ReadonlySet<number>
): void => {
  if (stops.has(row.ids.at(-1)!)) row.finish = "stop"
  else if (stopSequences.length > 0) {
    // a stop text lies within the last tokens: each writes at least one character of it
    const window = Math.max(...stopSequences.map((text) => text.length)) + 8
    const tail = tokenizer.decode(row.ids.slice(-window), { special: true })
    if (stopSequences.some((text) => tail.includes(text))) {
      const whole = tokenizer.decode(row.ids)
      const at = stopSequences.map((text) => whole.indexOf(text)).filter((index) => index >= 0)
      row.finish = "stop"
      row.text = whole.slice(0, Math.min(whole.length, ...at))
    }
  }
  if (row.finish === undefined && row.ids.length >= maxNewTokens) row.finish = "length"
}
/** Sampling options, checked and in token ids. */
export interface Rules {
  readonly choice: Choice
  readonly lines: { readonly count: number; readonly closing: number; readonly newline: number } | undefined
  readonly stopSequences: ReadonlyArray<string>
}

/** Checks sampling options; BadRequest names the one that cannot be. */
export const rulesOf = Effect.fnUntraced(function* (sampling: Sampling, tokenizer: Tokenizer) {
  const { maxNewTokens, minLines, minP, samples = 1, stopSequences = [], temperature = 1, topK, topP } = sampling
  const wrong = (detail: string) => Effect.fail(fail(new BadRequest({ detail: `sampling: ${detail}` })))
  const whole = (value: number) => Number.isInteger(value) && value >= 1
  if (!whole(maxNewTokens)) return yield* wrong(`maxNewTokens must be an integer >= 1, not ${maxNewTokens}`)
  if (!whole(samples)) return yield* wrong(`samples must be an integer >= 1, not ${samples}`)
  if (!(temperature >= 0 && Number.isFinite(temperature))) return yield* wrong(`temperature ${temperature} is not >= 0`)
  if (topK !== undefined && !whole(topK)) return yield* wrong(`topK must be an integer >= 1, not ${topK}`)
  if (topP !== undefined && !(topP > 0 && topP <= 1)) return yield* wrong(`topP must lie in (0, 1], not ${topP}`)
  if (minP !== undefined && !(minP >= 0 && minP <= 1)) return yield* wrong(`minP must lie in [0, 1], not ${minP}`)
  if (stopSequences.includes("")) return yield* wrong("a stop sequence is empty")
  let lines: Rules["lines"]
  if (minLines !== undefined && minLines.count > 0) {
    const tokenOf = (text: string) => {
      const ids = tokenizer.encode(text)
      return ids.length === 1
        ? Effect.succeed(ids[0]!)
        : wrong(`minLines needs ${JSON.stringify(text)} to be one token; this tokenizer makes it ${ids.length}`)
    }
    lines = {
      count: minLines.count,
      closing: yield* tokenOf(minLines.closing),
      newline: yield* tokenOf(minLines.newline ?? "\n")
    }
  }
  const choice: Choice = {
    greedy: temperature === 0,
    ...(topK === undefined ? {} : { topK }),
    ...(topP === undefined ? {} : { topP }),
    ...(minP === undefined ? {} : { minP }),
    banned: lines !== undefined
  }
  return { choice, lines, stopSequences } satisfies Rules
})
