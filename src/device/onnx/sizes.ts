/** Which nodes of a graph compute sizes: whatever follows from shapes and constants alone, in tensors of a few elements. */
import type { GraphProto } from "./proto.ts"

/** Operators of shape arithmetic. What makes a tensor of a size (Range, Expand) is none. */
const arithmetic = new Set(
  "Add Sub Mul Div Max Min Concat Reshape Cast Squeeze Unsqueeze Gather Slice ReduceProd Identity".split(" ")
)

/** The names of the nodes that compute sizes. */
export const sizeNodes = (graph: GraphProto): ReadonlySet<string> => {
  const known = new Set(graph.initializer.filter(({ dims }) => dims.every((d) => d <= 8)).map(({ name }) => name))
  const found = new Set<string>()
  for (const node of graph.node) {
    const ofSizes = arithmetic.has(node.opType) && node.input.every((name) => name === "" || known.has(name))
    if (node.opType !== "Shape" && !ofSizes) continue
    found.add(node.name)
    for (const name of node.output) known.add(name)
  }
  return found
}
