/**
 * What is added up in place is added up at once. A derivative by a weight is of no use to the rest of a backward pass, so a
 * scheduler that follows the longest chain leaves all of them to the end, and holds on to every activation and every
 * derivative that they need. Here the pass waits for them: an output that is written over its argument is ready before the
 * first product that was written down after everything it needs.
 *
 * The wait is a `barrier` over the product's operand and the outputs. Only the order changes, never a value.
 */
import { barrier } from "../../tensor/ops/control.ts"
import { type Program, program } from "../../tensor/Program.ts"
import { reach, reapply } from "../../tensor/rewrite.ts"
import type { Node, Tensor } from "../../tensor/Tensor.ts"

/** Work that is worth waiting before. */
const isWork = ({ op }: Node) => op.kind === "dot" || op.kind === "composite" || op.kind === "loop"

/** Outputs written over their arguments, by the product that has to wait for them. */
const waits = (source: Program): ReadonlyMap<Node, ReadonlyArray<Tensor>> => {
  const places = new Map(source.nodes.map((node, i) => [node, i]))
  const sums = [...source.donate.keys()].map((name) => source.outputs.get(name)!)
  const others = [...source.outputs.values()].filter((x) => !sums.includes(x))
  // how many of the outputs need a node: one that serves a single sum is that sum's own
  const users = new Map<Node, number>()
  const needs = new Map<Tensor, ReadonlyArray<Node>>()
  for (const x of [...new Set([...sums, ...others])]) {
    const nodes = reach([x])
    if (sums.includes(x)) needs.set(x, nodes)
    for (const node of nodes) users.set(node, (users.get(node) ?? 0) + 1)
  }
  const work = source.nodes.filter((node) => isWork(node) && users.get(node)! > 1)
  const found = new Map<Node, Array<Tensor>>()
  for (const [sum, nodes] of needs) {
    const last = Math.max(-1, ...nodes.flatMap((node) => (users.get(node)! > 1 ? [places.get(node)!] : [])))
    const next = work.find((node) => places.get(node)! > last)
    if (next === undefined) continue
    const list = found.get(next)
    if (list) list.push(sum)
    else found.set(next, [sum])
  }
  return found
}

/** The program with its sums in order. */
export const inOrder = (source: Program): Program => {
  if (source.donate.size < 2) return source
  const late = waits(source)
  if (late.size === 0) return source
  const inputs = [...source.inputs.values()]
  const known = new Map(inputs.map((x) => [x, x]))
  // sums before those who wait for them: their own nodes may stand later in the program
  const done = new Map<Tensor, Tensor>(known)
  const of = (tensors: ReadonlyArray<Tensor>): ReadonlyArray<Tensor> => {
    for (const node of reach(tensors, (x) => done.has(x))) {
      if (node.outputs.some((x) => done.has(x))) continue
      const sums = late.get(node)
      const given = node.inputs.map((x) => done.get(x)!)
      const operands = sums === undefined ? given : [barrier([given[0]!, ...of(sums)])[0]!, ...given.slice(1)]
      const outputs = reapply(node, operands)
      node.outputs.forEach((x, i) => {
        done.set(x, outputs[i]!)
      })
    }
    return tensors.map((x) => done.get(x)!)
  }
  const names = [...source.outputs.keys()]
  const outputs = of([...source.outputs.values()])
  return program(source.name, {
    inputs,
    outputs: Object.fromEntries(names.map((name, i) => [name, outputs[i]!])),
    donate: Object.fromEntries(source.donate)
  })
}
