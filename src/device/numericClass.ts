/**
 * The numeric class: the arithmetic that was asked for. It is part of the key of every task that computes on a device,
 * so results of different arithmetic are never mixed up. It is pure: a machine without the device computes the same class, and
 * a login node can plan for a GPU node. What only the machine knows (adapter, driver, instruction set) is recorded with the
 * attempt.
 */

export interface NumericClass {
  /** `cpu | webgpu | xla:cpu | xla:cuda | ...` */
  readonly provider: string
  readonly dtype: "f32" | "bf16"
  /** Threads of one task on the CPU (the order of its sums); null where the provider has none. */
  readonly threads: number | null
  /** Runtime and version, with its list of graph optimisers: `onnxruntime 1.30.0 (-X all)`. */
  readonly runtime: string
  /** On a card: sums are in one order at every run, because it was asked for. */
  readonly deterministic?: true
}

/** What an experiment asks for. */
export interface Compute {
  readonly threads: number
  readonly dtype: NumericClass["dtype"]
  readonly deterministic?: boolean
}

/** Threads where an experiment does not say: a constant, so that its bits do not depend on the machine. */
export const defaultThreads = 2

/** One line for people: `cpu-f32, 2 threads, onnxruntime 1.30.0 (-X all)`. */
export const classText = ({ deterministic, dtype, provider, runtime, threads }: NumericClass): string =>
  [
    `${provider}-${dtype}`,
    ...(threads === null ? [] : [`${threads} thread${threads === 1 ? "" : "s"}`]),
    ...(deterministic ? ["deterministic"] : []),
    runtime
  ].join(", ")
