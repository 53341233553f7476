/**
 * Reverse-mode differentiation: derivatives are ordinary graphs, built by walking the nodes backwards and applying
 * each operation's rule. Only what depends on the wanted tensors is visited, so frozen weights cost nothing and dead
 * code is never made.
 */
import { shapeText } from "./Dim.ts"
import { stopGradient } from "./ops/control.ts"
import { add } from "./ops/elementwise.ts"
import { ones, zeros } from "./ops/leaf.ts"
import { rowOf } from "./ops.ts"
import { reach } from "./rewrite.ts"
import type { Node, Op, Tensor, VjpContext } from "./Tensor.ts"
import { isFloat } from "./Tensor.ts"

const rule = (op: Op, context: VjpContext): readonly (Tensor | undefined)[] => {
  if (op.kind !== "composite") return rowOf(op).vjp(op, context)
  const { definition, attributes } = op
  if (definition.vjp) return definition.vjp(context, attributes)
  // fresh leaves: inputs may be equal or depend on each other, and the derivative is by each alone
  const leaves = context.inputs.map(stopGradient)
  return pullback(definition.decompose(leaves, attributes), context.cotangents, leaves, context.needs)
}

const isStopped = (x: Tensor) => x.node.op.kind === "stopGradient"
const differentiable = (x: Tensor) => isFloat(x.dtype)

/** The nodes through which a derivative can reach one of `wrt`. */
const activeNodes = (nodes: readonly Node[], wrt: ReadonlySet<Tensor>): ReadonlySet<Tensor> => {
  const active = new Set([...wrt].filter(differentiable))
  for (const node of nodes) {
    if (!node.inputs.some((x) => active.has(x))) continue
    for (const x of node.outputs) if (differentiable(x)) active.add(x)
  }
  return active
}

/**
 * The derivatives of `sum(outputs * cotangents)` by each of `wrt`; undefined where there is none (integers,
 * `stopGradient`, no path). Absent cotangents count as zero; `wanted` may leave some of `wrt` out.
 */
export const pullback = (
  outputs: readonly Tensor[],
  cotangents: readonly (Tensor | undefined)[],
  wrt: readonly Tensor[],
  wanted: readonly boolean[] = wrt.map(() => true)
): readonly (Tensor | undefined)[] => {
  const nodes = reach(outputs, isStopped)
  const active = activeNodes(nodes, new Set(wrt.filter((_, i) => wanted[i])))
  const sums = new Map<Tensor, Tensor>()
  const accumulate = (x: Tensor, dx: Tensor | undefined) => {
    if (dx === undefined || !active.has(x)) return
    const sum = sums.get(x)
    sums.set(x, sum === undefined ? dx : add(sum, dx))
  }
  outputs.forEach((x, i) => {
    accumulate(x, cotangents[i])
  })
  for (const node of nodes.toReversed()) {
    const needs = node.inputs.map((x) => active.has(x))
    if (!needs.includes(true)) continue
    const by = node.outputs.map((x) => sums.get(x))
    if (by.every((dy) => dy === undefined)) continue
    const derivatives = rule(node.op, { inputs: node.inputs, outputs: node.outputs, cotangents: by, needs })
    node.inputs.forEach((x, i) => {
      accumulate(x, derivatives[i])
    })
  }
  return wrt.map((x, i) => (wanted[i] ? sums.get(x) : undefined))
}

/**
 * The derivatives of a scalar loss by each parameter, zeros where there is none.
 * Throws a RangeError where the loss is no float scalar.
 */
export const gradient = (loss: Tensor, parameters: readonly Tensor[]): readonly Tensor[] => {
  if (loss.shape.length !== 0 || !differentiable(loss))
    throw new RangeError(`gradient: the loss must be a float scalar, not ${loss.dtype}${shapeText(loss.shape)}`)
  return pullback([loss], [ones([], loss.dtype)], parameters).map(
    (dx, i) => dx ?? zeros(parameters[i]!.shape, parameters[i]!.dtype)
  )
}
