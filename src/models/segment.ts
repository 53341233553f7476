/**
 * Many steps of cached generation as one program: a loop whose state is the last tokens, the lengths, who is still writing,
 * and the cache. Where starting a program costs more than a loop inside one (a card's), the host looks only between segments:
 * it takes what was written, drops rows that are finished, and makes room.
 *
 * A row that writes an end token stands still for the rest of the segment: its token and length stay, so that it writes over
 * one and the same place. Tokens are those of single steps, for they are drawn with the same numbers.
 */

import { loop } from "../tensor/ops/control.ts"
import { add, and, cast, equal, greater, max, not, select, sub } from "../tensor/ops/elementwise.ts"
import { constant } from "../tensor/ops/leaf.ts"
import { reduceMax } from "../tensor/ops/reduce.ts"
import { expandDims } from "../tensor/ops/shape.ts"
import { type Program, program } from "../tensor/Program.ts"
import { input, type Tensor } from "../tensor/Tensor.ts"
import { type Choice, cacheInputs, decodeStep } from "./decode.ts"
import type { DecoderConfig } from "./decoderConfig.ts"
import { type LoraSettings, policyInputs } from "./lora.ts"

/** Whether each row's token is one of `stops` i32 [stops]. */
const isStop = (token: Tensor, stops: Tensor): Tensor =>
  greater(reduceMax(cast(equal(expandDims(token, 1), expandDims(stops, 0)), "i32"), 1), 0)

/**
 * `steps` steps. Inputs: token, lengths, live (1 or 0) i32 [rows]; the cache; stops i32 [`stops`], the end tokens; with a
 * temperature uniform f32 [steps, rows] and temperature f32 scalar; with `choice.banned` lines i32 [rows], how many lines a
 * row has yet to write before `closing` (i32 scalar) is allowed, and `newline` (i32 scalar), which counts them down. Outputs:
 * token i32, logprob and truncatedLogprob f32, [steps, rows] each, of which a row's are void after its end; the cache.
 */
export const segmentProgram = (
  config: DecoderConfig,
  choice: Choice,
  { steps, stops: stopCount }: { readonly steps: number; readonly stops: number },
  lora?: LoraSettings
): Program => {
  const parameters = policyInputs(config, lora)
  const cache = cacheInputs(config, "rows", "places")
  const names = [...cache.keys()]
  const perRow = (name: string) => input(name, "i32", ["rows"])
  const stops = input("stops", "i32", [stopCount])
  const temperature = choice.greedy ? undefined : input("temperature", "f32", [])
  const uniform = choice.greedy ? [] : [input("uniform", "f32", [steps, "rows"])]
  const writing = choice.banned
    ? { lines: perRow("lines"), closing: input("closing", "i32", []), newline: input("newline", "i32", []) }
    : undefined

  const { carried, stacked } = loop(
    {
      trips: steps,
      carried: [
        perRow("token"),
        perRow("lengths"),
        perRow("live"),
        ...(writing ? [writing.lines] : []),
        ...cache.values()
      ],
      scanned: uniform
    },
    ({ carried: [token, lengths, live, ...rest], scanned: [drawn] }) => {
      const [lines, ...caches] = writing ? rest : [undefined, ...rest]
      const next = decodeStep(
        config,
        parameters,
        choice,
        {
          token: token!,
          lengths: lengths!,
          cache: new Map(names.map((name, i) => [name, caches[i]!])),
          draw: temperature && drawn ? { uniform: drawn, temperature } : undefined,
          banned: writing && lines ? select(greater(lines, 0), writing.closing, constant(-1, "i32")) : undefined
        },
        lora
      )
      const goesOn = and(greater(live!, 0), not(isStop(next.token, stops)))
      const still = cast(goesOn, "i32")
      return {
        carried: [
          select(goesOn, next.token, token!),
          add(lengths!, still),
          still,
          ...(writing && lines ? [max(sub(lines, cast(equal(next.token, writing.newline), "i32")), 0)] : []),
          ...names.map((name) => next.caches[name]!)
        ],
        stacked: [next.token, next.logprob, next.truncatedLogprob]
      }
    }
  )
  const [token, logprob, truncatedLogprob] = stacked
  return program("segment", {
    outputs: {
      token: token!,
      logprob: logprob!,
      truncatedLogprob: truncatedLogprob!,
      ...Object.fromEntries(names.map((name, i) => [name, carried.slice(writing ? 4 : 3)[i]!]))
    },
    donate: Object.fromEntries(names.map((name) => [name, name]))
  })
}
