/** Walks over graphs that copy them: closing and instantiating subgraphs, replacing nodes, dropping dead loop state. */

import { equalShapes } from "./Dim.ts"
import type { Body, Node, PrimitiveOf, Tensor, TensorType } from "./Tensor.ts"
import { apply, applyComposite, makeNode, parameter } from "./Tensor.ts"

const none = () => false

/** The nodes that tensors depend on, in topological order; the walk stops at leaves, whose nodes are not visited. */
export const reach = (tensors: readonly Tensor[], isLeaf: (x: Tensor) => boolean = none): readonly Node[] => {
  const seen = new Set<Node>()
  const open = [...tensors]
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    if (seen.has(next.node) || isLeaf(next)) continue
    seen.add(next.node)
    for (const x of next.node.inputs) open.push(x)
  }
  return [...seen].sort((a, b) => a.id - b.id)
}

const sameTypes = (a: readonly TensorType[], b: readonly TensorType[]) =>
  a.length === b.length && a.every((x, i) => x.dtype === b[i]!.dtype && equalShapes(x.shape, b[i]!.shape))

/** The node applied to other inputs; itself where they are the same. */
export const reapply = (node: Node, inputs: readonly Tensor[]): readonly Tensor[] => {
  if (inputs.every((x, i) => x === node.inputs[i])) return node.outputs
  if (sameTypes(inputs, node.inputs)) return makeNode(node.op, inputs, node.outputs).outputs
  const { op } = node
  return op.kind === "composite" ? applyComposite(op.definition, inputs, op.attributes) : apply(op, inputs)
}

/** What stands for a node, given what stands for its inputs. */
export type Replace = (node: Node, inputs: readonly Tensor[]) => readonly (Tensor | undefined)[]

/** Copies the graph below `tensors`, node by node; `known` says what stands for some tensors already. */
export const rewrite = (
  tensors: readonly Tensor[],
  replace: Replace,
  known: ReadonlyMap<Tensor, Tensor> = new Map()
): readonly Tensor[] => {
  const map = new Map(known)
  const find = (x: Tensor): Tensor => {
    const found = map.get(x)
    if (found === undefined) throw new RangeError("a rewritten graph uses a tensor that was dropped from it")
    return found
  }
  for (const node of reach(tensors, (x) => known.has(x))) {
    const outputs = replace(node, node.inputs.map(find))
    node.outputs.forEach((x, i) => {
      const y = outputs[i]
      if (y !== undefined && !map.has(x)) map.set(x, y)
    })
  }
  return tensors.map(find)
}

/** The results of a subgraph for arguments. */
export const instantiate = (body: Body, args: readonly Tensor[]): readonly Tensor[] =>
  rewrite(body.results, reapply, new Map(body.parameters.map((x, i) => [x, args[i]!])))

/** The nodes below `tensors` that depend on some of `roots`. */
export const dependents = (tensors: readonly Tensor[], roots: readonly Tensor[]): ReadonlySet<Node> => {
  const ends = new Set(roots)
  const found = new Set<Node>()
  for (const node of reach(tensors, (x) => ends.has(x)))
    if (node.inputs.some((x) => ends.has(x) || found.has(x.node))) found.add(node)
  return found
}

/**
 * Makes a subgraph of what lies between parameters and results: outer tensors become further parameters (`captured`,
 * in order), except literals, which are copied.
 */
export const closeBody = (
  parameters: readonly Tensor[],
  results: readonly Tensor[]
): { readonly body: Body; readonly captured: readonly Tensor[] } => {
  const inside = dependents(results, parameters)
  const captured: Tensor[] = []
  const all = [...parameters]
  const known = new Map(parameters.map((x) => [x, x]))
  const outer = (x: Tensor) => {
    if (inside.has(x.node) || known.has(x) || x.node.op.kind === "constant") return
    const inner = parameter(all.length, x)
    all.push(inner)
    captured.push(x)
    known.set(x, inner)
  }
  for (const node of [...inside].sort((a, b) => a.id - b.id)) for (const x of node.inputs) outer(x)
  for (const x of results) outer(x)
  return { body: { parameters: all, results: rewrite(results, reapply, known) }, captured }
}

/** A subgraph with every node replaced; parameters stay. */
export const rewriteBody = (body: Body, replace: Replace): Body => ({
  parameters: body.parameters,
  results: rewrite(body.results, replace, new Map(body.parameters.map((x) => [x, x])))
})

type LoopNode = Node & { readonly op: PrimitiveOf<"loop"> }
const isLoop = (node: Node): node is LoopNode => node.op.kind === "loop"

/** One loop that gives all that some nodes give: loops over the same inputs and state that stack other things. */
const united = (nodes: readonly LoopNode[]): readonly LoopNode[][] => {
  const groups: LoopNode[][] = []
  for (const node of nodes) {
    const state = (other: LoopNode) => other.op.body.results.slice(0, other.op.carried)
    const same = groups.find(
      ([first]) =>
        node.inputs.every((x, i) => x === first!.inputs[i]) && state(node).every((x, i) => x === state(first!)[i])
    )
    if (same === undefined) groups.push([node])
    else same.push(node)
  }
  return groups.filter((group) => group.length > 1)
}

/**
 * The same tensors, where loops over the same inputs and state are one: a loop, and the same with what its derivatives read of
 * each trip stacked.
 */
export const mergeLoops = (tensors: readonly Tensor[]): readonly Tensor[] => {
  const alike = Map.groupBy(reach(tensors).filter(isLoop), ({ op }) => op.body.parameters)
  const together = new Map<Node, readonly LoopNode[]>()
  for (const nodes of alike.values())
    for (const group of united(nodes)) for (const node of group) together.set(node, group)
  if (together.size === 0) return tensors
  const made = new Map<readonly LoopNode[], ReadonlyMap<Tensor, Tensor>>()
  return rewrite(tensors, (node, inputs) => {
    const group = together.get(node)
    if (group === undefined || !isLoop(node)) return reapply(node, inputs)
    const { op } = node
    const state = op.body.results.slice(0, op.carried)
    const stacked = [...new Set(group.flatMap((other) => other.op.body.results.slice(op.carried)))]
    const known =
      made.get(group) ??
      new Map(
        apply({ ...op, body: { parameters: op.body.parameters, results: [...state, ...stacked] } }, inputs).map(
          (x, i) => [i < op.carried ? group[0]!.outputs[i]! : stacked[i - op.carried]!, x] as const
        )
      )
    made.set(group, known)
    return op.body.results.map((x, i) => known.get(i < op.carried ? group[0]!.outputs[i]! : x)!)
  })
}

/** Which results, inputs and body parameters of a loop matter if some of its outputs do. */
const liveLoop = (op: PrimitiveOf<"loop">, used: (output: number) => boolean) => {
  const needs = op.body.results.map((x) => {
    const nodes = new Set(reach([x]))
    return new Set(op.body.parameters.flatMap((p, i) => (nodes.has(p.node) ? [i] : [])))
  })
  const results = new Set(op.body.results.flatMap((_, i) => (used(i) ? [i] : [])))
  const parameters = new Set<number>()
  for (let before = -1; before !== results.size; ) {
    before = results.size
    for (const i of results) for (const p of needs[i]!) parameters.add(p)
    for (let i = 0; i < op.carried; i++) if (parameters.has(1 + i)) results.add(i)
  }
  for (const i of results) if (i < op.carried) parameters.add(1 + i)
  return { results, parameters }
}

/** The same tensors without what loops compute for nobody: unused stacked outputs, carried values and inputs. */
export const pruneLoops = (tensors: readonly Tensor[]): readonly Tensor[] => {
  const used = new Set(tensors)
  const live = new Map<Node, ReturnType<typeof liveLoop>>()
  for (const node of reach(tensors).toReversed()) {
    if (!node.outputs.some((x) => used.has(x))) continue
    if (node.op.kind !== "loop") {
      for (const x of node.inputs) used.add(x)
      continue
    }
    const found = liveLoop(node.op, (i) => used.has(node.outputs[i]!))
    live.set(node, found)
    node.inputs.forEach((x, i) => {
      if (found.parameters.has(1 + i)) used.add(x)
    })
  }
  return rewriteLive(tensors, live, used)
}

const rewriteLive = (
  tensors: readonly Tensor[],
  live: ReadonlyMap<Node, ReturnType<typeof liveLoop>>,
  used: ReadonlySet<Tensor>
): readonly Tensor[] => {
  const map = new Map<Tensor, Tensor>()
  for (const node of reach(tensors)) {
    if (!node.outputs.some((x) => used.has(x))) continue
    const found = live.get(node)
    if (found === undefined || node.op.kind !== "loop") {
      const outputs = reapply(
        node,
        node.inputs.map((x) => map.get(x)!)
      )
      node.outputs.forEach((x, i) => {
        map.set(x, outputs[i]!)
      })
      continue
    }
    const { op } = node
    const isLive = (i: number) => found.results.has(i)
    const inputs = node.inputs.flatMap((x, i) => (found.parameters.has(1 + i) ? [map.get(x)!] : []))
    const kept = op.body.results.flatMap((_, i) => (isLive(i) ? [i] : []))
    const parameters = op.body.parameters.filter((_, i) => i === 0 || found.parameters.has(i))
    const results = pruneLoops(kept.map((i) => op.body.results[i]!))
    const renumbered = parameters.map((x, i) => parameter(i, x))
    const body = {
      parameters: renumbered,
      results: rewrite(results, reapply, new Map(parameters.map((x, i) => [x, renumbered[i]!])))
    }
    const count = (from: number, size: number) =>
      Array.from({ length: size }, (_, i) => from + i).filter((i) => found.parameters.has(1 + i)).length
    const outputs = apply(
      { ...op, carried: count(0, op.carried), scanned: count(op.carried, op.scanned), body },
      inputs
    )
    kept.forEach((i, n) => {
      map.set(node.outputs[i]!, outputs[n]!)
    })
  }
  return tensors.map((x) => map.get(x)!)
}
