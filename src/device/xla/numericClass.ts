/** The numeric classes of this backend, without its library: what a plan needs on any machine. */
import type { Compute, NumericClass } from "../numericClass.ts"
import { tableName } from "./buckets.ts"
import { cpuPlugin, isGpu, pluginOf } from "./plugins.ts"

const arithmetic = { f32: "highest precision", bf16: "bf16 products with f32 sums" }

/** The class of tasks that a plugin computes: sizes are padded, so the table of buckets belongs to it. */
export const xlaNumericClass = (compute: Pick<Compute, "dtype" | "deterministic">, provider: string): NumericClass => {
  const plugin = pluginOf(provider) ?? cpuPlugin
  const quick = provider === cpuPlugin.provider ? ", small programs unoptimised" : ""
  return {
    provider,
    dtype: compute.dtype,
    threads: null,
    runtime: `xla ${plugin.version} (${arithmetic[compute.dtype]}, no excess precision${quick}, ${tableName})`,
    // others know no other way
    ...(compute.deterministic && isGpu(plugin) ? { deterministic: true } : {})
  }
}
