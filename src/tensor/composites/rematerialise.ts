/**
 * Trades time for memory (https://arxiv.org/abs/1604.06174): the derivative of a rematerialised layer keeps the layer's
 * inputs, and what `saveName` marks, and computes the rest again. The second computation starts from a `barrier` over
 * the inputs and the incoming derivatives, so that no optimiser merges it with the first or runs it early.
 */

import { pullback } from "../gradient.ts"
import { barrier, stopGradient } from "../ops/control.ts"
import { closeBody, dependents, instantiate, reapply, rewrite } from "../rewrite.ts"
import type { Body, Composite, Tensor } from "../Tensor.ts"
import { applyComposite } from "../Tensor.ts"

/** All results of the operations whose results are marked: an attention's log-sum-exp goes with its output. */
const saved = (results: readonly Tensor[], inputs: readonly Tensor[]): readonly Tensor[] =>
  [...dependents(results, inputs)].flatMap((node) => (node.op.kind === "saveName" ? node.inputs[0]!.node.outputs : []))

const definition = (body: Body, outputs: number, inputs: number): Composite => ({
  name: "rematerialised",
  inline: true,
  decompose: (args) => instantiate(body, args),
  vjp: (context) => {
    const cotangents = context.cotangents.slice(0, outputs)
    const present = cotangents.filter((dy) => dy !== undefined)
    const late = barrier([...context.inputs.slice(0, inputs), ...present]).slice(0, inputs)
    const leaves = [...late, ...context.inputs.slice(inputs)].map(stopGradient)
    const again = instantiate(body, leaves)
    const derivatives = pullback(again.slice(0, outputs), cotangents, leaves, context.needs)
    // what was kept stands for what was computed again
    const known = new Map<Tensor, Tensor>([...leaves, ...present].map((x) => [x, x]))
    again.slice(outputs).forEach((x, i) => {
      known.set(x, context.outputs[outputs + i]!)
    })
    const wanted = derivatives.filter((dx) => dx !== undefined)
    const replaced = new Map(rewrite(wanted, reapply, known).map((dx, i) => [wanted[i]!, dx]))
    return derivatives.map((dx) => dx && replaced.get(dx))
  }
})

/** `layer(...inputs)`, with a derivative that computes the layer again; weights that the layer reads are kept as they are. */
export const rematerialise = (
  inputs: readonly Tensor[],
  layer: (...inputs: readonly Tensor[]) => readonly Tensor[]
): readonly Tensor[] => {
  // stand-ins, so that the layer's graph ends at its inputs even where they depend on each other
  const own = inputs.map(stopGradient)
  const results = layer(...own)
  const { body, captured } = closeBody(own, [...results, ...saved(results, own)])
  const args = [...inputs, ...captured]
  return applyComposite(definition(body, results.length, inputs.length), args, {}).slice(0, results.length)
}
