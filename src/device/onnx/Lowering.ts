/**
 * The state of a walk over a program: which graph value stands for which tensor. A value may be smaller than its tensor
 * where it broadcasts to it (fills, masks, biases); it is expanded only where an operator needs every element.
 */

import { type Dim, equalDims, equalShapes, type Shape, shapeText } from "../../tensor/Dim.ts"
import type { Tensor } from "../../tensor/Tensor.ts"
import { Graph, type Name } from "./Graph.ts"
import type { Choices, OnnxProvider } from "./provider.ts"

/** A value in the graph and its own shape, which broadcasts (as in numpy) to the shape of the tensor it stands for. */
export interface Value {
  readonly name: Name
  readonly shape: Shape
}

/**
 * Zeros but for a stretch of one axis, where some values lie one after the other: what the derivative of a slice is, and
 * the sum of the derivatives of neighbouring slices. Kept apart as long as possible: all slices of a tensor together are
 * one Concat, instead of paddings that are added up.
 */
export interface Stretch {
  readonly axis: number
  readonly start: Dim
  readonly limit: Dim
  readonly parts: ReadonlyArray<Name>
}

/** What a lowering depends on apart from the node. */
export interface Target {
  readonly threads: number
  /** The default is the CPU. */
  readonly provider?: OnnxProvider
  /** How often loops run whose number of trips is no constant, by that number's text; 1 where nothing is said. */
  readonly trips?: ReadonlyMap<string, number>
}

export interface Context extends Target {
  readonly choices: Choices
  /** Numbers of trips that the model was unrolled for, as they come up. */
  readonly unrolled: Map<string, Dim>
  /** Outputs of the program that may be written over one of its inputs. */
  readonly donated: ReadonlyMap<Tensor, Tensor>
}

export class Lowering {
  readonly graph: Graph
  readonly context: Context
  readonly #parent: Lowering | undefined
  readonly #values = new Map<Tensor, Value>()
  readonly #stretches = new Map<Tensor, Stretch>()
  readonly #expanded = new Map<Tensor, Name>()
  readonly #unfinished = new Map<Tensor, () => Name>()
  readonly #shared = new Map<string, Name>()
  readonly #reshaped = new Map<Name, Value>()
  /** Products of equal operands are computed once, while this is set. */
  reuseProducts = false

  constructor(graph: Graph, context: Context, parent?: Lowering) {
    this.graph = graph
    this.context = context
    this.#parent = parent
  }

  /** A value that several nodes of one graph use, emitted by the first that asks. */
  shared(key: string, emit: () => Name): Name {
    const known = this.#shared.get(key)
    if (known !== undefined) return known
    const name = emit()
    this.#shared.set(key, name)
    return name
  }

  /** A value in another shape: always the same one, and what it was reshaped from where that has this shape. */
  reshape(name: Name, from: Shape, shape: Shape): Name {
    if (equalShapes(from, shape)) return name
    const origin = this.#reshaped.get(name)
    if (origin !== undefined && equalShapes(origin.shape, shape)) return origin.name
    const [source, sourceShape] = origin === undefined ? [name, from] : [origin.name, origin.shape]
    const made = this.shared(`reshape ${source} ${shapeText(shape)}`, () =>
      this.graph.node("Reshape", [source, this.graph.reshapeTarget(sourceShape, shape)])
    )
    this.#reshaped.set(made, { name: source, shape: sourceShape })
    return made
  }

  /** A lowering for the body of a loop, which sees everything outside. */
  inner(): Lowering {
    return new Lowering(new Graph(this.graph), this.context, this)
  }

  /** A lowering for one trip of a loop whose body stands in this graph. */
  trip(): Lowering {
    return new Lowering(this.graph, this.context, this)
  }

  /** Says that a value stands for a tensor. */
  set(tensor: Tensor, name: Name, shape: Shape = tensor.shape): void {
    this.#values.set(tensor, { name, shape })
  }

  /** Says that a tensor is a stretch; `finish` makes a value of it when one is needed. */
  setStretch(tensor: Tensor, stretch: Stretch, finish: () => Name): void {
    this.#stretches.set(tensor, stretch)
    this.#unfinished.set(tensor, finish)
  }

  /** The stretch that a tensor is, in this very graph. */
  stretch(tensor: Tensor): Stretch | undefined {
    return this.#stretches.get(tensor)
  }

  /** Two stretches as one, where they are neighbours. */
  joined(a: Tensor, b: Tensor): Stretch | undefined {
    const [x, y] = [this.stretch(a), this.stretch(b)]
    if (x === undefined || y === undefined || x.axis !== y.axis) return undefined
    const [first, second] = equalDims(x.limit, y.start) ? [x, y] : [y, x]
    if (!equalDims(first.limit, second.start)) return undefined
    return { ...first, limit: second.limit, parts: [...first.parts, ...second.parts] }
  }

  has(tensor: Tensor): boolean {
    return this.#values.has(tensor) || this.#unfinished.has(tensor) || (this.#parent?.has(tensor) ?? false)
  }

  /** The value of a tensor, perhaps smaller than it. */
  value(tensor: Tensor): Value {
    const own = this.#values.get(tensor)
    if (own !== undefined) return own
    const finish = this.#unfinished.get(tensor)
    if (finish !== undefined) {
      this.#unfinished.delete(tensor)
      const made = { name: finish(), shape: tensor.shape }
      this.#values.set(tensor, made)
      return made
    }
    if (this.#parent === undefined) throw new Error(`a ${tensor.node.op.kind} was used before it was lowered`)
    return this.#parent.value(tensor)
  }

  /** The value of a tensor with every element. */
  full(tensor: Tensor): Name {
    const { name, shape } = this.value(tensor)
    if (equalShapes(shape, tensor.shape)) return name
    const known = this.#knownExpansion(tensor)
    if (known !== undefined) return known
    const expanded = this.graph.node("Expand", [name, this.graph.shapeValue(tensor.shape)])
    this.#expanded.set(tensor, expanded)
    return expanded
  }

  #knownExpansion(tensor: Tensor): Name | undefined {
    const parent = this.#parent
    return this.#expanded.get(tensor) ?? (parent ? parent.#knownExpansion(tensor) : undefined)
  }
}

/** Lowers one node whose inputs are lowered: adds nodes and sets the values of its outputs. */
export type Lower<O> = (op: O, inputs: ReadonlyArray<Tensor>, outputs: ReadonlyArray<Tensor>, to: Lowering) => void
