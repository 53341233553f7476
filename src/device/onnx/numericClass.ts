/** The numeric classes of this backend, without its library: what a plan needs on any machine. */

import type { NumericClass } from "../numericClass.ts"

/** The library that the package `onnxruntime-node` of this project's lock file holds (a test compares). */
export const runtimeVersion = "onnxruntime 1.30.0"

/**
 * Graph optimisers: all, but for common-subexpression elimination, which would merge what `rematerialise` computes
 * twice on purpose and what a barrier keeps apart.
 */
export const disabledOptimizers: ReadonlyArray<string> = ["CommonSubexpressionElimination"]
export const optimisers: ReadonlyArray<string> = ["all", ...disabledOptimizers.map((name) => `-${name}`)]

export const cpuNumericClass = ({ threads }: { readonly threads: number }): NumericClass => ({
  device: "cpu",
  dtype: "f32",
  threads,
  runtime: runtimeVersion,
  optimisers
})
