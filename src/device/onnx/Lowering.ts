/**
 * The state of a walk over a program: which graph value stands for which tensor. A value may be smaller than its tensor
 * where it broadcasts to it (fills, masks, biases); it is expanded only where an operator needs every element.
 */

import { equalShapes, type Shape } from "../../tensor/Dim.ts"
import type { Tensor } from "../../tensor/Tensor.ts"
import { Graph, type Name } from "./Graph.ts"

/** A value in the graph and its own shape, which broadcasts (as in numpy) to the shape of the tensor it stands for. */
export interface Value {
  readonly name: Name
  readonly shape: Shape
}

/** What a lowering depends on apart from the node. */
export interface Target {
  readonly threads: number
}

export interface Context extends Target {
  /** Outputs of the program that may be written over one of its inputs. */
  readonly donated: ReadonlyMap<Tensor, Tensor>
}

export class Lowering {
  readonly graph: Graph
  readonly context: Context
  readonly #parent: Lowering | undefined
  readonly #values = new Map<Tensor, Value>()
  readonly #expanded = new Map<Tensor, Name>()
  readonly #shared = new Map<string, Name>()

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

  /** A lowering for the body of a loop, which sees everything outside. */
  inner(): Lowering {
    return new Lowering(new Graph(this.graph), this.context, this)
  }

  /** Says that a value stands for a tensor. */
  set(tensor: Tensor, name: Name, shape: Shape = tensor.shape): void {
    this.#values.set(tensor, { name, shape })
  }

  has(tensor: Tensor): boolean {
    return this.#values.has(tensor) || (this.#parent?.has(tensor) ?? false)
  }

  /** The value of a tensor, perhaps smaller than it. */
  value(tensor: Tensor): Value {
    const own = this.#values.get(tensor)
    if (own !== undefined) return own
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
