/** The numeric classes of this backend, without its library: what a plan needs on any machine. */
import type { NumericClass } from "../numericClass.ts"
import { tableName } from "./buckets.ts"
import { cpuPlugin } from "./plugins.ts"

/** Providers that this backend computes for. */
export const xlaProviders: ReadonlyArray<string> = [cpuPlugin.provider]

/** The class of tasks that a plugin computes: sizes are padded, so the table of buckets belongs to it. */
export const xlaNumericClass = (
  compute: { readonly dtype: NumericClass["dtype"] },
  provider: string
): NumericClass => ({
  provider,
  dtype: compute.dtype,
  threads: null,
  runtime: `xla ${cpuPlugin.version} (${compute.dtype === "bf16" ? "bf16 products with f32 sums" : "highest precision"}, no excess precision, small programs unoptimised, ${tableName})`
})
