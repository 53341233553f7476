/**
 * Lowers a program to an ONNX model (operator set 21 and com.microsoft). Named dimensions stay dynamic. Composites
 * that the runtime has a fused operator for are lowered to it, the others through their definition in primitives.
 */

import { linearLogprobsGradOp, linearLogprobsOp } from "../../tensor/composites/linearLogprobs.ts"
import { type Dim, type Shape, shapeText } from "../../tensor/Dim.ts"
import { opName, type Program } from "../../tensor/Program.ts"
import { reach } from "../../tensor/rewrite.ts"
import type { CompositeOp, Dtype, Kind, Node, PrimitiveOf, Tensor } from "../../tensor/Tensor.ts"
import { byteWidth, isComposite } from "../../tensor/Tensor.ts"
import { declare, Graph, type Name } from "./Graph.ts"
import { findInPlace, type InPlace } from "./inPlace.ts"
import { type Lower, Lowering, type Target } from "./Lowering.ts"
import { lowerComposite } from "./lower/composites.ts"
import { barrier, loop } from "./lower/control.ts"
import { dot } from "./lower/dot.ts"
import { binary, cast, compare, select, unary } from "./lower/elementwise.ts"
import { gather, putAlong, segmentSum, takeAlong } from "./lower/indexing.ts"
import { constant, fill, iota, size } from "./lower/leaf.ts"
import { argMax, cumulativeSum, reduce, topK } from "./lower/reduce.ts"
import { alias, broadcast, concat, pad, reshape, slice, transpose } from "./lower/shape.ts"
import { inputName, outputName } from "./names.ts"
import { orderForMemory } from "./order.ts"
import { encodeModel, type NodeProto } from "./proto.ts"
import { choicesOf } from "./provider.ts"
import { prune } from "./prune.ts"
import { sizeNodes } from "./sizes.ts"

export interface WriterOptions extends Target {
  /** Inputs that become initialisers, with their sizes. */
  readonly constants?: Readonly<Record<string, ReadonlyArray<number>>>
}

export interface Port {
  readonly name: string
  readonly dtype: Dtype
  readonly shape: Shape
}

export interface Written {
  readonly model: Uint8Array
  /** What must be fed, in order: inputs that are needed and are no constants. */
  readonly inputs: ReadonlyArray<Port>
  /** Constants that the model refers to. */
  readonly constants: ReadonlyArray<string>
  readonly outputs: ReadonlyArray<Port>
  /** What the model computes sizes with, and nothing else: these nodes are at home on the CPU. */
  readonly sizes: ReadonlySet<string>
  /** Nodes that must run on the CPU. */
  readonly onCpu: ReadonlyArray<string>
  /** Numbers of trips that the model was unrolled for: other ones need another model. */
  readonly unrolled: ReadonlyArray<Dim>
  /** Donations (output name to input name) that are safe as they stand: the input is read before it is overwritten. */
  readonly inPlace: InPlace
}

const unreachable = (op: { readonly kind: string }) => {
  throw new Error(`${op.kind} has no value`)
}

const identity: Lower<unknown> = (_, inputs, outputs, to) => alias(inputs, outputs, to)

/** One lowering for each primitive; a missing one does not type-check. */
const primitives: { readonly [K in Kind]: Lower<PrimitiveOf<K>> } = {
  input: unreachable,
  parameter: unreachable,
  constant,
  fill,
  iota,
  size,
  unary,
  binary,
  compare,
  select,
  cast,
  reshape,
  transpose,
  broadcast,
  slice,
  pad,
  concat,
  gather,
  takeAlong,
  putAlong,
  segmentSum,
  dot,
  reduce,
  argMax,
  cumulativeSum,
  topK,
  loop: (op, inputs, outputs, to) => loop(op, inputs, outputs, to, lowerAll),
  stopGradient: identity,
  barrier,
  saveName: identity,
  shard: identity
}

/**
 * Whether a vocabulary head, or its derivative, is a single chunk of known size: then the logits are kept from the one to
 * the other, which is no more memory than a chunk.
 */
const keepsLogits = (op: CompositeOp, inputs: ReadonlyArray<Tensor>): boolean => {
  const hidden = isComposite(op, linearLogprobsOp)
    ? inputs[0]
    : isComposite(op, linearLogprobsGradOp)
      ? inputs[1]
      : undefined
  const tokens = hidden?.shape[0]
  const chunk = op.attributes["chunk"]
  return typeof tokens === "number" && typeof chunk === "number" && tokens <= chunk
}

const lowerNode = ({ op, inputs, outputs }: Node, to: Lowering): void => {
  if (op.kind !== "composite") {
    const table: { readonly [kind: string]: Lower<never> } = primitives
    // the key is the kind of the operation, so the lowering is the one for this operation
    table[op.kind]!(op as never, inputs, outputs, to)
    return
  }
  if (lowerComposite(op, inputs, outputs, to)) return
  const results = op.definition.decompose(inputs, op.attributes)
  to.reuseProducts = keepsLogits(op, inputs)
  lowerAll(results, to)
  to.reuseProducts = false
  alias(results, outputs, to)
}

/** Lowers whatever some tensors need that is not lowered yet. */
const lowerAll = (results: ReadonlyArray<Tensor>, to: Lowering): void => {
  const outer = to.graph.label
  for (const node of reach(results, (x) => to.has(x))) {
    to.graph.label = outer ? `${outer}/${opName(node.op)}` : opName(node.op)
    lowerNode(node, to)
  }
  to.graph.label = outer
}

/** Replaces value names in nodes, bodies included. */
const rename = (nodes: ReadonlyArray<NodeProto>, by: ReadonlyMap<Name, Name>): ReadonlyArray<NodeProto> => {
  const one = (name: Name) => by.get(name) ?? name
  return nodes.map((node) => ({
    ...node,
    input: node.input.map(one),
    output: node.output.map(one),
    attribute: node.attribute.map((a) => (a.g ? { ...a, g: { ...a.g, node: rename(a.g.node, by) } } : a))
  }))
}

/** Names graph values after the outputs that they are; a value that cannot be renamed gets an Identity. */
const nameOutputs = (
  graph: Graph,
  outputs: ReadonlyArray<readonly [output: string, value: Name]>
): ReadonlyMap<Name, Name> => {
  const made = new Set(graph.nodes.flatMap((node) => node.output))
  const names = new Map<Name, Name>()
  for (const [output, value] of outputs) {
    if (made.has(value) && !names.has(value)) names.set(value, outputName(output))
    else graph.node("Identity", [value], {}, { outputs: [outputName(output)] })
  }
  return names
}

/** The model of a program. Throws a RangeError where a size cannot be known at run time. */
export const writeProgram = (program: Program, { constants = {}, ...target }: WriterOptions): Written => {
  const graph = new Graph()
  const donated = new Map(
    [...program.donate].map(([output, name]) => [program.outputs.get(output)!, program.inputs.get(name)!])
  )
  const choices = choicesOf(target.provider)
  const unrolled = new Map<string, Dim>()
  const to = new Lowering(graph, { ...target, donated, choices, unrolled })
  const needed = new Set(reach([...program.outputs.values()]))
  const fed: Array<readonly [name: string, tensor: Tensor]> = []
  const used: Array<string> = []
  for (const [name, tensor] of program.inputs) {
    to.set(tensor, inputName(name))
    const sizes = constants[name]
    if (sizes !== undefined) {
      if (!needed.has(tensor.node)) continue
      used.push(name)
      const bytes = sizes.reduce((n, size) => n * size, byteWidth[tensor.dtype])
      graph.external(inputName(name), tensor.dtype, sizes, bytes)
      continue
    }
    // an input that nothing needs may still tell a size
    fed.push([name, tensor])
    graph.declareDims(inputName(name), tensor.shape)
  }
  const results = [...program.outputs]
  lowerAll(
    results.map(([, tensor]) => tensor),
    to
  )
  const values = results.map(([name, tensor]) => [name, to.full(tensor)] as const)
  const names = nameOutputs(graph, values)
  const draft = graph.finish(
    program.name,
    fed.map(([name, x]) => declare(inputName(name), x.dtype, x.shape)),
    results.map(([name, x]) => declare(outputName(name), x.dtype, x.shape))
  )
  const finished = prune({ ...draft, node: rename(draft.node, names) })
  return {
    model: encodeModel({ ...finished, node: orderForMemory(finished.node) }),
    inputs: fed.map(([name, { dtype, shape }]) => ({ name, dtype, shape })),
    constants: used,
    outputs: results.map(([name, { dtype, shape }]) => ({ name, dtype, shape })),
    sizes: sizeNodes(finished),
    onCpu: finished.node.filter(({ opType }) => choices.onCpu.includes(opType)).map(({ name }) => name),
    unrolled: [...unrolled.values()],
    inPlace: findInPlace(finished, program.donate, choices)
  }
}

/** What a program is fed and gives, in words: for errors. */
export const portText = ({ name, dtype, shape }: Port): string => `${name} ${dtype}${shapeText(shape)}`
