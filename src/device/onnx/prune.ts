/**
 * Drops what no output needs: composites are lowered with all their outputs, of which a program may use some. The
 * runtime would compute them.
 */

import type { GraphProto, NodeProto } from "./proto.ts"

/** What a node reads, what its body reads from outside included. */
export const readsOf = (node: NodeProto): ReadonlyArray<string> => {
  if (node.attribute.every((a) => a.g === undefined)) return node.input
  const captured = node.attribute.flatMap((a) => (a.g ? a.g.node.flatMap(readsOf) : []))
  return [...node.input, ...captured]
}

/** A loop without the stacked outputs that nothing reads. Its last carried values stay: they drive it. */
const pruneLoop = (node: NodeProto, used: ReadonlySet<string>): NodeProto => {
  const carried = node.input.length - 2
  const kept = node.output.map((name, i) => i < carried || used.has(name))
  return {
    ...node,
    output: node.output.filter((_, i) => kept[i]),
    attribute: node.attribute.map((a) => {
      if (a.g === undefined) return a
      // the first output of a body says whether to go on
      const output = a.g.output.filter((_, i) => i === 0 || kept[i - 1])
      const g: GraphProto = { ...a.g, output, node: pruneNodes(a.g.node, new Set(output.map(({ name }) => name))) }
      return { ...a, g }
    })
  }
}

/** The nodes, in topological order, that lead to some values. */
export const pruneNodes = (nodes: ReadonlyArray<NodeProto>, wanted: ReadonlySet<string>): ReadonlyArray<NodeProto> => {
  const used = new Set(wanted)
  const kept: Array<NodeProto> = []
  for (const node of nodes.toReversed()) {
    if (!node.output.some((name) => used.has(name))) continue
    const slim = node.opType === "Loop" ? pruneLoop(node, used) : node
    for (const name of readsOf(slim)) used.add(name)
    kept.push(slim)
  }
  return kept.toReversed()
}

/** A graph without dead nodes and initialisers. */
export const prune = (graph: GraphProto): GraphProto => {
  const node = pruneNodes(graph.node, new Set(graph.output.map(({ name }) => name)))
  const read = new Set(node.flatMap(readsOf))
  return { ...graph, node, initializer: graph.initializer.filter(({ name }) => read.has(name!)) }
}
