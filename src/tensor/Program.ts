/**
 * A program: named inputs and outputs over a graph, in topological order. Nodes are numbered by their place, so that
 * the same construction prints the same text in any process; that text is what caches may key on.
 */
import type { Dim, DimLike } from "./Dim.ts"
import { dimNames, equalShapes, substituteDim } from "./Dim.ts"
import { mergeLoops, pruneLoops, reach, reapply, rewrite, rewriteBody } from "./rewrite.ts"
import type { Body, Composite, Node, Op, Primitive, Tensor } from "./Tensor.ts"
import { apply, applyComposite, mismatch, parameter, typeText } from "./Tensor.ts"

export interface Program {
  readonly name: string
  /** In the order in which they were given, or created. */
  readonly inputs: ReadonlyMap<string, Tensor>
  readonly outputs: ReadonlyMap<string, Tensor>
  /** Output name -> input name: the output may be written over the input. */
  readonly donate: ReadonlyMap<string, string>
  /** Every node that an output needs, and every input, in topological order. */
  readonly nodes: readonly Node[]
}

export interface ProgramParts {
  /** Tensors made by `input`; by default those that the outputs need, as created. Unneeded ones stay inputs. */
  readonly inputs?: readonly Tensor[]
  readonly outputs: Readonly<Record<string, Tensor>>
  readonly donate?: Readonly<Record<string, string>>
}

const nameOf = (x: Tensor): string => {
  if (x.node.op.kind !== "input") throw new RangeError(`${typeText(x)} is no input: make it by input(name, ...)`)
  return x.node.op.name
}

const assemble = (
  name: string,
  outputs: readonly (readonly [string, Tensor])[],
  given: readonly Tensor[],
  donate: ReadonlyMap<string, string>
): Program => {
  const tensors = pruneLoops(outputs.map(([, x]) => x))
  const reached = reach([...given, ...tensors])
  const parameterless = reached.find((node) => node.op.kind === "parameter")
  if (parameterless !== undefined) throw new RangeError(`program ${name}: it uses a loop's parameter outside the loop`)
  const found = reached.flatMap((node) => (node.op.kind === "input" ? [node.outputs[0]!] : []))
  const inputs = new Map<string, Tensor>()
  for (const x of [...given, ...found]) {
    const key = nameOf(x)
    if (inputs.has(key) && inputs.get(key) !== x) throw new RangeError(`program ${name}: two inputs are named "${key}"`)
    if (given.length > 0 && !inputs.has(key) && !given.includes(x))
      throw new RangeError(`program ${name}: its outputs need the input "${key}", which is not among its inputs`)
    inputs.set(key, x)
  }
  const named = new Map(outputs.map(([key], i) => [key, tensors[i]!]))
  for (const [output, from] of donate) {
    const [x, y] = [inputs.get(from), named.get(output)]
    if (x === undefined || y === undefined)
      throw new RangeError(`program ${name}: "${from}" cannot be donated to "${output}": no such input or output`)
    if (x.dtype !== y.dtype || !equalShapes(x.shape, y.shape))
      throw mismatch(`program ${name}: "${from}" cannot be donated to "${output}"`, [x, y], "the types differ")
  }
  if (new Set(donate.values()).size !== donate.size) throw new RangeError(`program ${name}: an input is donated twice`)
  const known = new Set([...inputs.values()].flatMap((x) => x.shape.flatMap(dimNames)))
  for (const node of reached)
    for (const x of node.outputs)
      for (const dim of x.shape.flatMap(dimNames))
        if (!known.has(dim))
          throw new RangeError(`program ${name}: no input has the dimension ${dim} of ${typeText(x)}`)
  return { name, inputs, outputs: named, donate, nodes: reached }
}

// Equal literals of one graph become one node.
const literalTable = () => {
  const literals = new Map<string, readonly Tensor[]>()
  return (node: Node): readonly Tensor[] => {
    if (node.op.kind !== "constant") return node.outputs
    const values = node.op.values.map((v) => (Object.is(v, -0) ? "-0" : v)).join()
    const key = `${typeText(node.outputs[0]!)}${values}`
    const known = literals.get(key)
    if (known === undefined) literals.set(key, node.outputs)
    return known ?? node.outputs
  }
}

// Identities that have done their work disappear, and composites that say so stand in primitives.
const settle = () => {
  const literal = literalTable()
  const replace = (node: Node, inputs: readonly Tensor[]): readonly Tensor[] => {
    const { op } = node
    if (op.kind === "stopGradient" || op.kind === "saveName") return inputs
    if (op.kind === "constant") return literal(node)
    if (op.kind === "composite" && op.definition.inline)
      return rewriteFrom(op.definition.decompose(inputs, op.attributes), inputs, replace)
    if (op.kind !== "loop") return reapply(node, inputs)
    const { parameters, results } = op.body
    return withBody({ ...op, body: { parameters, results: mergeLoops(results) } }, inputs, settle())
  }
  return replace
}

const rewriteFrom = (
  tensors: readonly Tensor[],
  leaves: readonly Tensor[],
  replace: (node: Node, inputs: readonly Tensor[]) => readonly Tensor[]
) => rewrite(tensors, replace, new Map(leaves.map((x) => [x, x])))

const withBody = (
  op: Extract<Primitive, { kind: "loop" }>,
  inputs: readonly Tensor[],
  replace: (node: Node, inputs: readonly Tensor[]) => readonly Tensor[]
) => apply({ ...op, body: rewriteBody(op.body, replace) }, inputs)

/**
 * A program from named outputs. Throws a RangeError for two inputs of one name, an input that was not listed, and a
 * donation between unlike tensors.
 */
export const program = (name: string, { inputs = [], outputs, donate = {} }: ProgramParts): Program => {
  const named = Object.entries(outputs)
  const settled = rewrite(mergeLoops(named.map(([, x]) => x)), settle())
  return assemble(
    name,
    named.map(([key], i) => [key, settled[i]!]),
    inputs,
    new Map(Object.entries(donate))
  )
}

const transform = (source: Program, replace: (node: Node, inputs: readonly Tensor[]) => readonly Tensor[]): Program => {
  const given = [...source.inputs.values()]
  const named = [...source.outputs]
  const all = rewrite([...given, ...named.map(([, x]) => x)], replace)
  return assemble(
    source.name,
    named.map(([key], i) => [key, all[given.length + i]!]),
    all.slice(0, given.length),
    source.donate
  )
}

/** The program with every composite that `keep` refuses (by default all) replaced by its decomposition. */
export const expand = (source: Program, keep: (definition: Composite) => boolean = () => false): Program => {
  const expander = () => {
    const literal = literalTable()
    const replace = (node: Node, inputs: readonly Tensor[]): readonly Tensor[] => {
      const { op } = node
      if (op.kind === "constant") return literal(node)
      if (op.kind === "composite" && !keep(op.definition))
        return rewriteFrom(op.definition.decompose(inputs, op.attributes), inputs, replace)
      return op.kind === "loop" ? withBody(op, inputs, expander()) : reapply(node, inputs)
    }
    return replace
  }
  return transform(source, expander())
}

/** An operation with its symbolic sizes replaced. */
const substituteOp = (op: Primitive, dim: (d: Dim) => Dim, body: (b: Body) => Body): Primitive => {
  switch (op.kind) {
    case "input":
    case "parameter":
    case "fill":
    case "iota":
    case "reshape":
    case "broadcast":
      return { ...op, shape: op.shape.map(dim) }
    case "size":
      return { ...op, dim: dim(op.dim) }
    case "slice":
      return { ...op, start: dim(op.start), limit: dim(op.limit) }
    case "pad":
      return { ...op, before: dim(op.before), after: dim(op.after) }
    case "putAlong":
      return { ...op, size: dim(op.size) }
    case "segmentSum":
      return { ...op, segments: dim(op.segments) }
    case "loop":
      return { ...op, trips: dim(op.trips), body: body(op.body) }
    default:
      return op
  }
}

/** The program for given sizes of some or all of its named dimensions; a loop of one trip becomes its body. */
export const specialise = (source: Program, dims: Readonly<Record<string, DimLike>>): Program => {
  const dim = (d: Dim) => substituteDim(d, dims)
  const substituteBody = (body: Body): Body => {
    const parameters = body.parameters.map((x, i) => parameter(i, { shape: x.shape.map(dim), dtype: x.dtype }))
    return {
      parameters,
      results: rewrite(body.results, replace, new Map(body.parameters.map((x, i) => [x, parameters[i]!])))
    }
  }
  const replace = (node: Node, inputs: readonly Tensor[]): readonly Tensor[] => {
    const { op } = node
    if (op.kind === "composite") return applyComposite(op.definition, inputs, op.attributes)
    const special = substituteOp(op, dim, substituteBody)
    return special.kind === "loop" && special.trips === 1 ? unrolled(special, inputs) : apply(special, inputs)
  }
  return transform(source, replace)
}

const unrolled = (op: Extract<Primitive, { kind: "loop" }>, inputs: readonly Tensor[]): readonly Tensor[] => {
  const isScanned = (i: number) => i >= op.carried && i < op.carried + op.scanned
  const reshapeTo = (x: Tensor, shape: Tensor["shape"]) => apply({ kind: "reshape", shape }, [x])[0]!
  const zero = apply({ kind: "constant", values: [0], dtype: "i32", shape: [] }, [])[0]!
  const args = [zero, ...inputs.map((x, i) => (isScanned(i) ? reshapeTo(x, x.shape.slice(1)) : x))]
  const results = rewrite(op.body.results, reapply, new Map(op.body.parameters.map((x, i) => [x, args[i]!])))
  return results.map((x, i) => (i < op.carried ? x : reshapeTo(x, [1, ...x.shape])))
}

/** The named dimensions of a program's inputs, sorted. */
export const programDims = (source: Program): readonly string[] =>
  [...new Set([...source.inputs.values()].flatMap((x) => x.shape.flatMap(dimNames)))].sort()

/** How often each operation (composites by name) stands in a list of nodes, loop bodies included. */
export const countOps = (nodes: readonly Node[]): Readonly<Record<string, number>> => {
  const counts: Record<string, number> = {}
  const visit = (list: readonly Node[]) => {
    for (const { op } of list) {
      const key = opName(op)
      counts[key] = (counts[key] ?? 0) + 1
      if (op.kind === "loop") visit(reach(op.body.results))
    }
  }
  visit(nodes)
  return counts
}

/** The name of an operation: its function where it has one, a composite's own name, else its kind. */
export const opName = (op: Op): string => {
  if (op.kind === "composite") return op.definition.name
  return op.kind === "unary" || op.kind === "binary" || op.kind === "compare"
    ? op.fn
    : op.kind === "reduce"
      ? `reduce.${op.fn}`
      : op.kind
}
