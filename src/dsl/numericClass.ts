/**
 * The numeric class: the arithmetic that was asked for. It is part of the key of every task that computes on a device,
 * so results of different arithmetic are never mixed up. It holds nothing that only the machine knows (adapter, driver,
 * instruction set): those are recorded with the attempt, and a login node can plan for a GPU node.
 */
import { optimisers, runtimeVersion } from "../device/onnx/numericClass.ts"

export interface NumericClass {
  /** `cpu | webgpu | xla:cpu | xla:cuda | ...` */
  readonly provider: string
  readonly dtype: "f32" | "bf16"
  /** Threads of one task on the CPU (the order of its sums); null where the provider has none. */
  readonly threads: number | null
  /** Runtime and version, with its list of graph optimisers: `onnxruntime 1.30.0 (all -X)`. */
  readonly runtime: string
}

/** Threads where an experiment does not say: a constant, so that its bits do not depend on the machine. */
export const defaultThreads = 2

/** The class of an experiment's tasks on a provider: `cpu`, `webgpu`, `xla:...`. */
export const numericClass = (
  compute: { readonly threads: number; readonly dtype: NumericClass["dtype"] },
  provider: string
): NumericClass => ({
  provider,
  dtype: compute.dtype,
  threads: provider === "cpu" ? compute.threads : null,
  runtime: provider.startsWith("xla") ? "xla" : `${runtimeVersion} (${[...optimisers].sort().join(" ")})`
})

/** One line for people: `cpu-f32, 2 threads, onnxruntime@1.30.0`. */
export const classText = (c: NumericClass): string =>
  [
    `${c.provider}-${c.dtype}`,
    ...(c.threads === null ? [] : [`${c.threads} thread${c.threads === 1 ? "" : "s"}`]),
    c.runtime
  ].join(", ")
