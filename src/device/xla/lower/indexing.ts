/** Reading and adding up by indices: StableHLO's gather and scatter. */
import { byteWidth } from "../../../tensor/Tensor.ts"
import { fixed, type Lower } from "../Lowering.ts"
import { type Module, typeOf, type Value } from "../Module.ts"

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

/** Zeros of a shape, plus updates at indices; repeats add up, in their order on a CPU. */
const scatterAdd = (
  module: Module,
  shape: ReadonlyArray<number>,
  indices: Value,
  updates: Value,
  numbers: string
): Value => {
  const { dtype } = updates
  const zeros = module.splat(0, dtype, shape)
  const [a, b] = [module.fresh(), module.fresh()]
  const scalar = typeOf({ dtype, shape: [] })
  const name = module.fresh()
  module.line(
    `${name} = "stablehlo.scatter"(${zeros.name}, ${indices.name}, ${updates.name}) <{scatter_dimension_numbers = #stablehlo.scatter<${numbers}>, indices_are_sorted = false, unique_indices = false}> ({`
  )
  module.line(`^bb0(${a}: ${scalar}, ${b}: ${scalar}):`)
  module.region(() => {
    const sum = module.same("add", { name: a, dtype, shape: [] }, { name: b, dtype, shape: [] })
    module.line(`stablehlo.return ${sum.name} : ${scalar}`)
  })
  module.line(`}) : (${typeOf(zeros)}, ${typeOf(indices)}, ${typeOf(updates)}) -> ${typeOf(zeros)}`)
  return { name, dtype, shape }
}

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
