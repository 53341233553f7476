/** The numeric classes of this backend, without its library: what a plan needs on any machine. */
import type { NumericClass } from "../numericClass.ts"

/** The library that the package `onnxruntime-node` of this project's lock file holds (a test compares). */
export const runtimeVersion = "onnxruntime 1.30.0"

/**
 * Graph optimisers: all, but for common-subexpression elimination, which would merge what `rematerialise` computes
 * twice on purpose and what a barrier keeps apart.
 */
export const disabledOptimizers: ReadonlyArray<string> = ["CommonSubexpressionElimination"]

/** The class of tasks that this backend computes. Its other providers have no threads of their own. */
export const onnxNumericClass = (
  compute: { readonly threads: number; readonly dtype: NumericClass["dtype"] },
  provider: string
): NumericClass => ({
  provider,
  dtype: compute.dtype,
  threads: provider === "cpu" ? compute.threads : null,
  runtime: `${runtimeVersion} (${[...disabledOptimizers.map((name) => `-${name}`), "all"].sort().join(" ")})`
})
