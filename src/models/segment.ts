/**
 * Many steps of cached generation as one program: a loop whose state is the last tokens, the lengths, who is still writing,
 * and the cache. Where starting a program costs more than a loop inside one (a card's), the host looks only between segments:
 * it takes what was written, drops rows that are finished, and makes room. A segment ends when few enough rows are left that
 * dropping the others pays, so that short answers do not wait for its last step.
 *
 * A row that writes an end token stands still for the rest of the segment: its token and length stay, so that it writes over
 * one and the same place. When the segment has ended all rows do, and a device may leave those steps out. Tokens are those
 * of single steps, for they are drawn with the same numbers.
 */

import { loop } from "../tensor/ops/control.ts"
import { add, and, cast, equal, greater, max, not, select, sub } from "../tensor/ops/elementwise.ts"
import { constant } from "../tensor/ops/leaf.ts"
import { mayEndEarly } from "../tensor/ops/mayEndEarly.ts"
import { reduceMax, reduceSum } from "../tensor/ops/reduce.ts"
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
 * At most `steps` steps. Inputs: token, lengths, live (1 or 0) i32 [rows]; left, the most steps of this run, and leave, the
 * number of live rows at which it ends, i32 scalars; the cache; stops i32 [`stops`], the end tokens; with a temperature uniform
 * f32 [steps, rows] and temperature f32 scalar; with `choice.banned` lines i32 [rows], how many lines a row has yet to write
 * before `closing` (i32 scalar) is allowed, and `newline` (i32 scalar), which counts them down. Outputs: done i32 scalar, the
 * steps that were done, at least one where left > 0; token i32, logprob and truncatedLogprob f32, [steps, rows] each, of which
 * those beyond `done` and a row's after its end are void; the cache.
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
  const leave = input("leave", "i32", [])
  const stops = input("stops", "i32", [stopCount])
  const temperature = choice.greedy ? undefined : input("temperature", "f32", [])
  const uniform = choice.greedy ? [] : [input("uniform", "f32", [steps, "rows"])]
  const writing = choice.banned
    ? { lines: perRow("lines"), closing: input("closing", "i32", []), newline: input("newline", "i32", []) }
    : undefined

  const { carried, stacked } = mayEndEarly(
    loop(
      {
        trips: steps,
        carried: [
          input("left", "i32", []),
          constant(0, "i32"),
          perRow("token"),
          perRow("lengths"),
          perRow("live"),
          ...(writing ? [writing.lines] : []),
          ...cache.values()
        ],
        scanned: uniform
      },
      ({ carried: [left, done, token, lengths, live, ...rest], scanned: [drawn] }) => {
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
        const going = greater(left!, 0)
        const writes = and(greater(live!, 0), going)
        const goesOn = and(writes, not(isStop(next.token, stops)))
        const stillLive = select(going, cast(goesOn, "i32"), live!)
        const enough = greater(reduceSum(stillLive, 0), leave)
        return {
          carried: [
            select(and(going, enough), sub(left!, 1), constant(0, "i32")),
            add(done!, cast(going, "i32")),
            select(goesOn, next.token, token!),
            add(lengths!, cast(goesOn, "i32")),
            stillLive,
            ...(writing && lines
              ? [max(sub(lines, cast(and(writes, equal(next.token, writing.newline)), "i32")), 0)]
              : []),
            ...names.map((name) => next.caches[name]!)
          ],
          stacked: [next.token, next.logprob, next.truncatedLogprob]
        }
      }
    )
  )
  const [token, logprob, truncatedLogprob] = stacked
  return program("segment", {
    outputs: {
      done: carried[1]!,
      token: token!,
      logprob: logprob!,
      truncatedLogprob: truncatedLogprob!,
      ...Object.fromEntries(names.map((name, i) => [name, carried.slice(writing ? 6 : 5)[i]!]))
    },
    donate: Object.fromEntries(names.map((name) => [name, name]))
  })
}
