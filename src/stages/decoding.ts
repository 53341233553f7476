/**
 * How well generation fills what the device computes, as metrics. `perf/live_share`: of the rows x steps that were decoded, the
 * share that wrote a token; the others stood in the batch after their end. Beside it what only fills up (`bucketPadding.ts`), of all
 * programs, scoring and updates too.
 */
import { Effect } from "effect"
import { Device } from "../device/Device.ts"
import type { Policy } from "../models/Policy.ts"
import { bucketPadding, bucketPaddingMetrics } from "./bucketPadding.ts"

/** As stages declare them. */
export const decodingMetrics = { "perf/live_share": "none", ...bucketPaddingMetrics } as const

/** `metrics`: those of all that is done from now on until it runs; those of nothing are left out. */
export const watchDecoding = Effect.fnUntraced(function* (policy: Policy) {
  const device = yield* Device
  const now = Effect.all({ decoded: policy.generationStats, device: device.stats })
  const before = yield* now
  const metrics = Effect.map(now, (after): Readonly<Record<string, number>> => {
    const rowSteps = after.decoded.rowSteps - before.decoded.rowSteps
    return {
      ...(rowSteps === 0 ? {} : { "perf/live_share": (after.decoded.tokens - before.decoded.tokens) / rowSteps }),
      ...bucketPadding(before.device, after.device)
    }
  })
  return { metrics }
})
