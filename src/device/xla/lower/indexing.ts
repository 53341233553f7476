/** Reading and adding up by indices: StableHLO's gather and scatter. */
import { overwriteOp } from "../../../tensor/composites/overwrite.ts"
import { byteWidth, isComposite } from "../../../tensor/Tensor.ts"
import { fixed, type Lower } from "../Lowering.ts"
import { type Module, typeOf, type Value } from "../Module.ts"
import type { Fuse } from "../writer.ts"

const list = (values: ReadonlyArray<number>) => `[${values.join(", ")}]`
const range = (count: number) => Array.from({ length: count }, (_, i) => i)

/** Indices at least 32 bits wide: an 8-bit index could not name the last row of 200. */
const wide = (module: Module, indices: Value) =>
  byteWidth[indices.dtype] < 4 ? module.convert(indices, "i32") : indices

export const gather: Lower<"gather"> = ({ axis }, [x, given], { module }) => {
  const indices = wide(module, given!)
  const rank = indices.shape.length
  const shape = x!.shape.toSpliced(axis, 1, ...indices.shape)
  const offsets = range(shape.length).filter((i) => i < axis || i >= axis + rank)
  const numbers = `offset_dims = ${list(offsets)}, collapsed_slice_dims = ${list([axis])}, start_index_map = ${list([axis])}, index_vector_dim = ${rank}`
  const sizes = x!.shape.with(axis, 1).join(", ")
  const text = `"stablehlo.gather"(${x!.name}, ${indices.name}) <{dimension_numbers = #stablehlo.gather<${numbers}>, indices_are_sorted = false, slice_sizes = array<i64${sizes ? `: ${sizes}` : ""}>}>`
  const types = `(${typeOf(x!)}, ${typeOf(indices)}) -> ${typeOf({ dtype: x!.dtype, shape })}`
  return [module.define(x!.dtype, shape, `${text} : ${types}`)]
}

export const takeAlong: Lower<"takeAlong"> = ({ axis }, [x, given], { module }) => {
  const indices = wide(module, given!)
  const { shape } = indices
  const others = list(range(shape.length).filter((i) => i !== axis))
  const numbers = `collapsed_slice_dims = ${list([axis])}, operand_batching_dims = ${others}, start_indices_batching_dims = ${others}, start_index_map = ${list([axis])}, index_vector_dim = ${shape.length}`
  const sizes = shape.map(() => 1).join(", ")
  const text = `"stablehlo.gather"(${x!.name}, ${indices.name}) <{dimension_numbers = #stablehlo.gather<${numbers}>, indices_are_sorted = false, slice_sizes = array<i64: ${sizes}>}>`
  const types = `(${typeOf(x!)}, ${typeOf(indices)}) -> ${typeOf({ dtype: x!.dtype, shape })}`
  return [module.define(x!.dtype, shape, `${text} : ${types}`)]
}

/** A tensor with updates at indices, each made of what was there and what comes. */
const scatter = (
  module: Module,
  into: Value,
  indices: Value,
  updates: Value,
  numbers: string,
  unique: boolean,
  combine: (before: Value, update: Value) => Value
): Value => {
  const { dtype, shape } = into
  const [a, b] = [module.fresh(), module.fresh()]
  const scalar = typeOf({ dtype, shape: [] })
  const name = module.fresh()
  module.line(
    `${name} = "stablehlo.scatter"(${into.name}, ${indices.name}, ${updates.name}) <{scatter_dimension_numbers = #stablehlo.scatter<${numbers}>, indices_are_sorted = false, unique_indices = ${unique}}> ({`
  )
  module.line(`^bb0(${a}: ${scalar}, ${b}: ${scalar}):`)
  module.region(() => {
    const made = combine({ name: a, dtype, shape: [] }, { name: b, dtype, shape: [] })
    module.line(`stablehlo.return ${made.name} : ${scalar}`)
  })
  module.line(`}) : (${typeOf(into)}, ${typeOf(indices)}, ${typeOf(updates)}) -> ${typeOf(into)}`)
  return { name, dtype, shape }
}

/** Zeros of a shape, plus updates at indices; repeats add up, in their order on a CPU. */
const scatterAdd = (
  module: Module,
  shape: ReadonlyArray<number>,
  indices: Value,
  updates: Value,
  numbers: string
): Value =>
  scatter(module, module.splat(0, updates.dtype, shape), indices, updates, numbers, false, (a, b) =>
    module.same("add", a, b)
  )

export const putAlong: Lower<"putAlong"> = ({ axis, size }, [values, given], { module }) => {
  const indices = wide(module, given!)
  const rank = values!.shape.length
  const others = list(range(rank).filter((i) => i !== axis))
  const numbers = `inserted_window_dims = ${list([axis])}, input_batching_dims = ${others}, scatter_indices_batching_dims = ${others}, scatter_dims_to_operand_dims = ${list([axis])}, index_vector_dim = ${rank}`
  return [scatterAdd(module, values!.shape.with(axis, fixed(size)), indices, values!, numbers)]
}

export const segmentSum: Lower<"segmentSum"> = ({ segments }, [values, given], { module }) => {
  const ids = wide(module, given!)
  const shape = values!.shape.with(0, fixed(segments))
  const windows = list(range(shape.length - 1).map((i) => i + 1))
  const numbers = `update_window_dims = ${windows}, inserted_window_dims = [0], scatter_dims_to_operand_dims = [0], index_vector_dim = 1`
  return [scatterAdd(module, shape, ids, values!, numbers)]
}

/** `overwrite` where it lies: each row's values at its own place, the rest of the table untouched. */
export const overwriting: Fuse = (op, [x, values, given], module) => {
  if (!isComposite(op, overwriteOp)) return undefined
  const { axis } = op.attributes
  const places = wide(module, given!)
  const windows = list(range(values!.shape.length).slice(1))
  const numbers = `update_window_dims = ${windows}, inserted_window_dims = ${list([axis])}, input_batching_dims = [0], scatter_indices_batching_dims = [0], scatter_dims_to_operand_dims = ${list([axis])}, index_vector_dim = 1`
  return [scatter(module, x!, places, values!, numbers, true, (_, update) => update)]
}
