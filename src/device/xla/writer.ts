/**
 * Lowers a program of fixed sizes to a StableHLO module. Composites go through their definition in primitives, which XLA
 * fuses itself, unless the caller knows a library's way. What a program donates may be overwritten (`tf.aliasing_output`); which arguments really are is said anew
 * at each call.
 */
import { opName, type Program } from "../../tensor/Program.ts"
import { reach } from "../../tensor/rewrite.ts"
import type { Body, CompositeOp, Kind, Node, Tensor } from "../../tensor/Tensor.ts"
import { fixed, fixedShape, type Lower, type Lowering } from "./Lowering.ts"
import { computedSpecs, type Layouts } from "./layouts.ts"
import { barrier, loop } from "./lower/control.ts"
import { binary, cast, compare, select, unary } from "./lower/elementwise.ts"
import { gather, putAlong, segmentSum, takeAlong } from "./lower/indexing.ts"
import { argMax, cumulativeSum, dot, reduce, topK } from "./lower/reduce.ts"
import { Module, type Value } from "./Module.ts"
import { meshLine, type Spec, shardingText } from "./sharding.ts"

export interface Port {
  readonly name: string
  readonly dtype: Value["dtype"]
  readonly shape: ReadonlyArray<number>
}

export interface Written {
  /** The module's text. */
  readonly text: string
  /** Arguments, in order: the inputs that some output needs. */
  readonly inputs: ReadonlyArray<Port>
  readonly outputs: ReadonlyArray<Port>
  /** Output name to input name: arguments that the outputs may overwrite. */
  readonly donate: ReadonlyMap<string, string>
  /** The operation of the program that a line of the text, counted from 1, is a part of: `attention/softmax/exp`. */
  readonly labelOf: (line: number) => string | undefined
}

const unreachable = (op: { readonly kind: string }): never => {
  throw new Error(`${op.kind} has no value of its own`)
}

/** One lowering for each primitive; a missing one does not type-check. */
const primitives: { readonly [K in Kind]: Lower<K> } = {
  input: unreachable,
  parameter: unreachable,
  constant: ({ dtype, shape, values }, _, { module }) => [module.constant(values, dtype, shape)],
  fill: ({ dtype, shape, value }, _, { module }) => [module.splat(value, dtype, fixedShape(shape))],
  iota: ({ axis, dtype, shape }, _, { module }) => [module.iota(dtype, fixedShape(shape), axis)],
  size: ({ dim, dtype }, _, { module }) => [module.splat(fixed(dim), dtype)],
  unary,
  binary,
  compare,
  select,
  cast,
  reshape: ({ shape }, [x], { module }) => [module.reshape(x!, fixedShape(shape))],
  transpose: ({ permutation }, [x], { module }) => [module.transpose(x!, permutation)],
  broadcast: ({ shape }, [x], { module }) => [module.broadcast(x!, fixedShape(shape))],
  slice: ({ axis, limit, start, stride }, [x], { module }) => [
    module.slice(x!, axis, fixed(start), fixed(limit), stride)
  ],
  pad: ({ after, axis, before, value }, [x], { module }) => [module.pad(x!, axis, fixed(before), fixed(after), value)],
  concat: ({ axis }, inputs, { module }) => [module.concat(inputs, axis)],
  gather,
  takeAlong,
  putAlong,
  segmentSum,
  dot,
  reduce,
  argMax,
  cumulativeSum,
  topK,
  loop,
  stopGradient: (_, inputs) => inputs,
  barrier,
  saveName: (_, inputs) => inputs,
  // one device: laid out as it is
  shard: (_, inputs) => inputs
}

/** A composite's values by something faster than its definition; undefined where there is none. */
export type Fuse = (op: CompositeOp, operands: ReadonlyArray<Value>, module: Module) => ReadonlyArray<Value> | undefined

/** Writes whatever some tensors need that has no value yet; gives theirs. Some are laid out anew as they are made. */
const lowerAll = (
  module: Module,
  fuse: Fuse,
  results: ReadonlyArray<Tensor>,
  values: Map<Tensor, Value>,
  constraints?: ReadonlyMap<Tensor, Spec>
): ReadonlyArray<Value> => {
  const laid = (x: Tensor, value: Value): Value => {
    const spec = constraints?.get(x)
    return spec === undefined ? value : module.constrain(value, shardingText(spec))
  }
  const to: Lowering = {
    module,
    body: (body: Body, parameters) =>
      lowerAll(module, fuse, body.results, new Map(body.parameters.map((x, i) => [x, laid(x, parameters[i]!)])))
  }
  const lower = ({ inputs, op, outputs }: Node): void => {
    const operands = inputs.map((x) => values.get(x)!)
    const table: {
      readonly [kind: string]: (op: never, inputs: ReadonlyArray<Value>, to: Lowering) => ReadonlyArray<Value>
    } = primitives
    const made =
      op.kind === "composite"
        ? (fuse(op, operands, module) ?? lowerAll(module, fuse, op.definition.decompose(inputs, op.attributes), values))
        : // the key is the kind of the operation, so the lowering is the one for this operation
          table[op.kind]!(op as never, operands, to)
    outputs.forEach((x, i) => {
      values.set(x, laid(x, made[i]!))
    })
  }
  const outer = module.label
  for (const node of reach(results, (x) => values.has(x))) {
    module.label = outer === "" ? opName(node.op) : `${outer}/${opName(node.op)}`
    lower(node)
  }
  module.label = outer
  return results.map((x) => values.get(x)!)
}

/**
 * The module of a program. Throws a RangeError where a dimension has no size.
 * @param layouts how its inputs and outputs lie on a mesh; one device where it is left out
 * @param fuse what the plugin does faster than by definition; nothing where it is left out
 */
export const writeProgram = (program: Program, layouts?: Layouts, fuse: Fuse = () => undefined): Written => {
  const module = new Module()
  const outputs = [...program.outputs]
  const needed = new Set(reach(outputs.map(([, x]) => x)))
  const used = [...program.inputs].filter(([, x]) => needed.has(x.node))
  const values = new Map<Tensor, Value>()
  const places = new Map(outputs.map(([name], i) => [name, i]))
  const names = new Set(used.map(([name]) => name))
  const donate = new Map([...program.donate].filter(([, input]) => names.has(input)))
  const overwrites = new Map([...donate].map(([output, input]) => [input, places.get(output)!]))
  const parameters = used.map(([name, x], i) => {
    const value = { name: `%a${i}`, dtype: x.dtype, shape: fixedShape(x.shape) }
    values.set(x, value)
    const spec = layouts?.inputs.get(name)?.spec
    return {
      ...value,
      overwrittenBy: overwrites.get(name),
      sharding: spec === undefined ? undefined : shardingText(spec)
    }
  })
  const constraints = layouts === undefined ? undefined : computedSpecs(program, layouts)
  for (const [, x] of used) {
    const spec = constraints?.get(x)
    if (spec !== undefined) values.set(x, module.constrain(values.get(x)!, shardingText(spec)))
  }
  const results = lowerAll(
    module,
    fuse,
    outputs.map(([, x]) => x),
    values,
    constraints
  )
  const over = layouts && {
    mesh: meshLine(layouts.mesh),
    shardings: outputs.map(([name]) => shardingText(layouts.outputs.get(name)!.spec))
  }
  return {
    text: module.finish(program.name, parameters, results, over),
    inputs: used.map(([name, { dtype }], i) => ({ name, dtype, shape: parameters[i]!.shape })),
    outputs: outputs.map(([name], i) => ({ name, dtype: results[i]!.dtype, shape: results[i]!.shape })),
    donate,
    labelOf: module.labels()
  }
}

/** A type for sentences: `f32[2, 3]`. */
export const portText = ({ dtype, name, shape }: Port): string => `${name} ${dtype}[${shape.join(", ")}]`
