/**
 * The numeric class of a computation: what was asked for that may change its bits. It is part of the key of every task
 * that uses a device, so it is pure: a machine without the device computes the same class. What a run met (adapter,
 * driver, instruction set) is recorded with the attempt and is no part of the class.
 */

/** `runtime` names the library and its version; `optimisers` its graph optimisers, those switched off with a leading `-`. */
export interface NumericClass {
  readonly device: string
  readonly dtype: "f32" | "bf16" | "f16"
  readonly threads: number
  readonly runtime: string
  readonly optimisers: ReadonlyArray<string>
}

/** The short name, as `cpu-f32-t1`. */
export const numericClassName = (c: NumericClass): string => `${c.device}-${c.dtype}-t${c.threads}`

/** The same class in a canonical spelling: fixed key order, optimisers sorted and without repeats. */
export const canonicalNumericClass = (c: NumericClass): NumericClass => ({
  device: c.device,
  dtype: c.dtype,
  threads: c.threads,
  runtime: c.runtime,
  optimisers: [...new Set(c.optimisers)].sort()
})
