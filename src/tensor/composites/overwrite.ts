/**
 * One place of every row written anew: out[r, .., places[r], ..] = values[r, .., ..], and all else as in x. A place that is not
 * on the axis writes nothing. By definition that is a choice for each element of x; where x may be changed in place a writer
 * can leave all rows but those untouched.
 */
import type { Dim } from "../Dim.ts"
import { equalShapes } from "../Dim.ts"
import { equal, select } from "../ops/elementwise.ts"
import { iota } from "../ops/leaf.ts"
import { expandDims, reshape } from "../ops/shape.ts"
import type { Composite, Tensor } from "../Tensor.ts"
import { applyComposite, isInt, mismatch } from "../Tensor.ts"

/** Inputs (x [rows, .., n, ..], values without the axis of size n, places, integers [rows]); outputs (out like x). */
export const overwriteOp: Composite<{ readonly axis: number }> = {
  name: "overwrite",
  decompose: (inputs, { axis }) => {
    const [x, values, places] = [inputs[0]!, inputs[1]!, inputs[2]!]
    const fits =
      axis > 0 &&
      axis < x.shape.length &&
      x.dtype === values.dtype &&
      isInt(places.dtype) &&
      equalShapes(x.shape.toSpliced(axis, 1), values.shape) &&
      equalShapes(x.shape.slice(0, 1), places.shape)
    if (!fits)
      throw mismatch("overwrite", inputs, `they are no table, values without its axis ${axis} and a place a row`)
    const one = (at: number): ReadonlyArray<Dim> => x.shape.map((dim, i) => (i === at ? dim : 1))
    const here = equal(iota(one(axis), axis, places.dtype), reshape(places, one(0)))
    return [select(here, expandDims(values, axis), x)]
  }
}

/** `x` [rows, .., n, ..] with `values` (without that axis) at `places` [rows] of an axis that is not the first. */
export const overwrite = (x: Tensor, values: Tensor, places: Tensor, axis: number): Tensor =>
  applyComposite(overwriteOp, [x, values, places], { axis })[0]!
