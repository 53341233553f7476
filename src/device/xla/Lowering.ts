/** What a lowering gets and gives: an operation, its operands as values, and the module to write to. */
import type { Dim, Shape } from "../../tensor/Dim.ts"
import { dimText } from "../../tensor/Dim.ts"
import type { Body, Kind, PrimitiveOf } from "../../tensor/Tensor.ts"
import type { Module, Value } from "./Module.ts"

export interface Lowering {
  readonly module: Module
  /** Writes a loop's body for given parameters; gives its results. */
  readonly body: (body: Body, parameters: ReadonlyArray<Value>) => ReadonlyArray<Value>
}

export type Lower<K extends Kind> = (
  op: PrimitiveOf<K>,
  inputs: ReadonlyArray<Value>,
  to: Lowering
) => ReadonlyArray<Value>

/** The size of a dimension that must be known. Throws a RangeError that names it where it is not. */
export const fixed = (dim: Dim): number => {
  if (typeof dim === "number") return dim
  throw new RangeError(`dimension ${dimText(dim)} has no size yet: XLA needs them all (specialise the program first)`)
}

export const fixedShape = (shape: Shape): ReadonlyArray<number> => shape.map(fixed)
