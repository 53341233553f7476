/**
 * AdamW over a model's parameters, as programs on named device tensors: running moments {m, v}, decoupled decay, clipping
 * by the global norm, gradients added up over micro-batches, learning rate by schedule.
 *
 *   g <- g min(1, maxNorm / (|g| + 1e-6));   then AdamW as in `tensor/composites/adamw.ts` (PyTorch's arithmetic)
 */
import { adamw } from "../tensor/composites/adamw.ts"
import { add, div, min, mul, sqrt, square } from "../tensor/ops/elementwise.ts"
import { reduceSum } from "../tensor/ops/reduce.ts"
import { type Program, program } from "../tensor/Program.ts"
import { input, type Tensor } from "../tensor/Tensor.ts"
import type { ParameterSpec } from "./parameters.ts"

export interface OptimizerSettings {
  /** Peak learning rate, >= 0; 0 leaves the weights untouched, bit by bit. */
  readonly learningRate: number
  /** After the warm-up: `constant` (default), or down to `finalFactor` over `totalUpdates`. */
  readonly schedule?: "constant" | "cosine" | "linear"
  /** Updates over which the learning rate rises to its peak; default 0. Update u (from 0) has factor (u + 1) / (warmup + 1). */
  readonly warmupUpdates?: number
  /** Length of the whole schedule; required unless it is constant. */
  readonly totalUpdates?: number
  /** What is left of the peak at the end of a cosine or linear schedule; default 0. */
  readonly finalFactor?: number
  readonly beta1?: number
  readonly beta2?: number
  readonly epsilon?: number
  readonly weightDecay?: number
  /** Which parameters decay: `all` (default; PyTorch, verl), or `matrices` only (transformers' Trainer). */
  readonly decayed?: "all" | "matrices"
  /** Largest global gradient norm; null switches clipping off. Default 1. */
  readonly maxGradientNorm?: number | null
}

/** The learning rate of update u = 0, 1, 2, ... Throws a RangeError for settings that make no schedule. */
export const learningRateAt = (settings: OptimizerSettings, update: number): number => {
  const { finalFactor = 0, learningRate, schedule = "constant", totalUpdates, warmupUpdates = 0 } = settings
  if (!(learningRate >= 0 && warmupUpdates >= 0 && finalFactor >= 0)) {
    throw new RangeError(
      `learning rate ${learningRate}, warm-up ${warmupUpdates}, final factor ${finalFactor}: all must be >= 0`
    )
  }
  if (update < warmupUpdates) return (learningRate * (update + 1)) / (warmupUpdates + 1)
  if (schedule === "constant") return learningRate
  if (totalUpdates === undefined) throw new RangeError(`a ${schedule} schedule needs totalUpdates`)
  const progress = Math.min(1, (update - warmupUpdates) / Math.max(1, totalUpdates - warmupUpdates))
  const left = schedule === "linear" ? 1 - progress : 0.5 * (1 + Math.cos(Math.PI * progress))
  return learningRate * (finalFactor + (1 - finalFactor) * left)
}

/** 1 - beta^step in float64, with steps counted from 1. */
export const corrections = ({ beta1 = 0.9, beta2 = 0.999 }: OptimizerSettings, step: number) => ({
  correction1: 1 - beta1 ** step,
  correction2: 1 - beta2 ** step
})

/**
 * The program of one optimizer step. Inputs: `<name>`, `grad:<name>`, `m:<name>`, `v:<name>` for each parameter, scalars
 * `learningRate`, `correction1`, `correction2`. Outputs: the same names for parameters and moments, in place, and the
 * scalar `gradNorm` before clipping. Without `weights` only the moments are outputs.
 */
export const applyProgram = (
  name: string,
  table: ReadonlyArray<ParameterSpec>,
  settings: OptimizerSettings,
  weights: boolean
): Program => {
  const { beta1 = 0.9, beta2 = 0.999, decayed = "all", epsilon = 1e-8, maxGradientNorm = 1, weightDecay = 0 } = settings
  const scalars = ["learningRate", "correction1", "correction2"].map((key) => input(key, "f32", []))
  const [learningRate, correction1, correction2] = scalars as [Tensor, Tensor, Tensor]
  const parameters = table.map((spec) => {
    const tensor = (prefix: string) => input(`${prefix}${spec.name}`, "f32", spec.shape)
    return { spec, param: tensor(""), grad: tensor("grad:"), m: tensor("m:"), v: tensor("v:") }
  })
  const squares = parameters.map(({ grad }) => reduceSum(square(grad)))
  const gradNorm = sqrt(squares.reduce((sum, x) => add(sum, x)))
  const factor = maxGradientNorm === null ? undefined : min(div(maxGradientNorm, add(gradNorm, 1e-6)), 1)
  const outputs: Record<string, Tensor> = { gradNorm }
  const donate: Record<string, string> = {}
  const inputs: Array<Tensor> = []
  for (const { grad, m, param, spec, v } of parameters) {
    const decays = decayed === "all" || spec.shape.length > 1
    const next = adamw(
      { param, grad: factor === undefined ? grad : mul(grad, factor), m, v },
      { learningRate, correction1, correction2, beta1, beta2, epsilon, weightDecay: decays ? weightDecay : 0 }
    )
    inputs.push(param, grad, m, v)
    const results = {
      ...(weights ? { [spec.name]: next.param } : {}),
      [`m:${spec.name}`]: next.m,
      [`v:${spec.name}`]: next.v
    }
    for (const [key, tensor] of Object.entries(results)) {
      outputs[key] = tensor
      donate[key] = key
    }
  }
  return program(`${name}.apply`, { inputs: [...inputs, ...scalars], outputs, donate })
}
