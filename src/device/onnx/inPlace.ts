/**
 * Which donations need no copy. An output may be written where its donated input lies if every node that reads the
 * input, or a value that shares its memory, is sure to have run before the node that writes the output, or is that node
 * and an operator that reads each element before it writes it.
 */

import { inputName, outputName } from "./names.ts"
import type { GraphProto, NodeProto } from "./proto.ts"
import type { Choices } from "./provider.ts"
import { readsOf } from "./prune.ts"

/** Output name to input name. */
export type InPlace = ReadonlyMap<string, string>

/** Operators whose first operand and first output share memory. */
const views = new Set(["Reshape", "Identity", "Squeeze", "Unsqueeze", "Flatten"])

/** Operators that look at the shape of their operand and not at its elements. */
const shapeOnly = new Set(["Shape", "Size"])

/** Operators that read element i of same-shaped operands before they write element i, and nothing after. */
const elementwise = new Set(
  "Add Sub Mul Div Pow Max Min Neg Abs Exp Log Sqrt Reciprocal Sigmoid Tanh Where Cast Identity Sum".split(" ")
)

/** Operators whose given output continues the given operand, in the same memory where the caller says so. */
const continuations: Readonly<Record<string, ReadonlyMap<number, number>>> = {
  GroupQueryAttention: new Map([
    [1, 3],
    [2, 4]
  ]),
  ScatterND: new Map([[0, 0]])
}

export const findInPlace = (
  graph: GraphProto,
  donate: ReadonlyMap<string, string>,
  { elementwiseInPlace }: Pick<Choices, "elementwiseInPlace">
): InPlace => {
  if (donate.size === 0) return new Map()
  const producers = new Map<string, NodeProto>()
  const readers = new Map<string, Array<NodeProto>>()
  for (const node of graph.node) {
    for (const name of node.output) producers.set(name, node)
    for (const name of new Set(readsOf(node))) {
      const list = readers.get(name)
      if (list) list.push(node)
      else readers.set(name, [node])
    }
  }
  const order = new Map(graph.node.map((node, i) => [node, i]))
  const ancestors = (node: NodeProto, oldest: number): ReadonlySet<NodeProto> => {
    const seen = new Set<NodeProto>()
    const open = [node]
    for (let next = open.pop(); next !== undefined; next = open.pop()) {
      for (const name of readsOf(next)) {
        const producer = producers.get(name)
        // nodes stand in topological order: nothing before the oldest reader can lead to one
        if (producer === undefined || seen.has(producer) || order.get(producer)! < oldest) continue
        seen.add(producer)
        open.push(producer)
      }
    }
    return seen
  }
  const found = new Map<string, string>()
  for (const [output, input] of donate) {
    const writer = producers.get(outputName(output))
    if (writer === undefined) continue
    // readers of the input and of its views
    const touching: Array<{ readonly node: NodeProto; readonly name: string }> = []
    const names = [inputName(input)]
    for (let name = names.pop(); name !== undefined; name = names.pop()) {
      for (const node of readers.get(name) ?? []) {
        if (shapeOnly.has(node.opType)) continue
        touching.push({ node, name })
        if (views.has(node.opType) && node.input[0] === name) names.push(node.output[0]!)
      }
    }
    const before = ancestors(writer, Math.min(...touching.map(({ node }) => order.get(node)!)))
    const safeHere = (name: string) => {
      const at = writer.output.indexOf(outputName(output))
      const continued = continuations[writer.opType]?.get(at)
      if (continued !== undefined) {
        return name === inputName(input) && writer.input.every((x, i) => (x === name) === (i === continued))
      }
      return elementwiseInPlace && elementwise.has(writer.opType) && name === inputName(input)
    }
    if (touching.every(({ node, name }) => (node === writer ? safeHere(name) : before.has(node)))) {
      found.set(output, input)
    }
  }
  return found
}
