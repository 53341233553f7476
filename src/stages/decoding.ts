/**
 * How well generation fills what the device computes, as metrics. `perf/live_share`: of the rows x steps that were decoded, the
 * share that wrote a token; the others stood in the batch after their end. On devices that compile programs for sizes
 * `perf/bucket_padding/*`: the share of elements that only fill up to such a size, of `tokens` and what is fed with them (of all
 * programs, scoring and updates too) and of the keys and values in the `cache`.
 */
import { Effect } from "effect"
import { Device, type Filled, paddingOf } from "../device/Device.ts"
import type { Policy } from "../models/Policy.ts"

/** As stages declare them. */
export const decodingMetrics = { "perf/live_share": "none", "perf/bucket_padding/*": "none" } as const

const none: Filled = { wanted: 0, computed: 0 }

/** `metrics`: those of all that is done from now on until it runs; those of nothing are left out. */
export const watchDecoding = Effect.fnUntraced(function* (policy: Policy) {
  const device = yield* Device
  const now = Effect.all({ decoded: policy.generationStats, device: device.stats })
  const before = yield* now
  const metrics = Effect.map(now, (after): Readonly<Record<string, number>> => {
    const rowSteps = after.decoded.rowSteps - before.decoded.rowSteps
    const padding = (kind: "tokenElements" | "cacheElements", name: string) => {
      const [from, to] = [before.device[kind] ?? none, after.device[kind] ?? none]
      const since = { wanted: to.wanted - from.wanted, computed: to.computed - from.computed }
      return since.computed === 0 ? {} : { [`perf/bucket_padding/${name}`]: paddingOf(since) }
    }
    return {
      ...(rowSteps === 0 ? {} : { "perf/live_share": (after.decoded.tokens - before.decoded.tokens) / rowSteps }),
      ...padding("tokenElements", "tokens"),
      ...padding("cacheElements", "cache")
    }
  })
  return { metrics }
})
