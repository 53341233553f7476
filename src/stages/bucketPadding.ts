/**
 * How much of what a device computes only fills up to the sizes that programs are compiled for, as metrics: of `tokens` and what is
 * fed with them, and of the keys and values in the `cache`. Nothing on devices that compute every size as it is.
 */
import { type DeviceStats, type Filled, paddingOf } from "../device/Device.ts"

const none: Filled = { wanted: 0, computed: 0 }

/** As stages declare them. */
export const bucketPaddingMetrics = { "perf/bucket_padding/*": "none" } as const

/** Of what was done between two looks at a device; what nothing was done of is left out. */
export const bucketPadding = (before: DeviceStats, after: DeviceStats): Readonly<Record<string, number>> => {
  const of = (kind: "tokenElements" | "cacheElements", name: string) => {
    const [from, to] = [before[kind] ?? none, after[kind] ?? none]
    const since = { wanted: to.wanted - from.wanted, computed: to.computed - from.computed }
    return since.computed === 0 ? {} : { [`perf/bucket_padding/${name}`]: paddingOf(since) }
  }
  return { ...of("tokenElements", "tokens"), ...of("cacheElements", "cache") }
}
