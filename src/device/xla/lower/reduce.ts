/** Products, reductions, cumulative sums and selection of the largest. */
import { isFloat } from "../../../tensor/Tensor.ts"
import type { Lower } from "../Lowering.ts"
import { type Module, typeOf, type Value } from "../Module.ts"

const range = (count: number) => Array.from({ length: count }, (_, i) => i)

export const dot: Lower<"dot"> = (op, inputs, { module }) => {
  const { accumulate, dtype, transposeLeft, transposeRight } = op
  // integers of mixed signs meet in the dtype of their sums
  const [left, right] = isFloat(inputs[0]!.dtype) ? inputs : inputs.map((x) => module.convert(x, accumulate))
  const batch = right!.shape.length > 2 ? range(right!.shape.length - 2) : []
  const at = (x: Value, transposed: boolean, which: "free" | "contracted") => {
    const last = x.shape.length - 1
    return (which === "contracted") === transposed ? last - 1 : last
  }
  // a left operand is [..., m, k], a right one [..., k, n]
  const [byLeft, byRight] = [at(left!, transposeLeft, "contracted"), at(right!, !transposeRight, "contracted")]
  const m = left!.shape[at(left!, transposeLeft, "free")]!
  const n = right!.shape[at(right!, !transposeRight, "free")]!
  const shape = [...left!.shape.slice(0, -2), m, n]
  const batching = batch.length > 0 ? `batching_dims = [${batch.join(", ")}] x [${batch.join(", ")}], ` : ""
  const text = `stablehlo.dot_general ${left!.name}, ${right!.name}, ${batching}contracting_dims = [${byLeft}] x [${byRight}], precision = [HIGHEST, HIGHEST]`
  // every plugin adds bf16 products up in float32: asked for bf16, it rounds the sums as it writes them
  const made = dtype === "bf16" && left!.dtype === "bf16" ? dtype : accumulate
  const types = `(${typeOf(left!)}, ${typeOf(right!)}) -> ${typeOf({ dtype: made, shape })}`
  return [module.convert(module.define(made, shape, `${text} : ${types}`), dtype)]
}

const reductions = { sum: "add", max: "maximum", min: "minimum" } as const

export const reduce: Lower<"reduce"> = ({ axes, fn, keepDims }, [x], { module }) => {
  const result = module.reduce(reductions[fn], x!, axes)
  return [
    keepDims
      ? module.reshape(
          result,
          x!.shape.map((dim, axis) => (axes.includes(axis) ? 1 : dim))
        )
      : result
  ]
}

export const argMax: Lower<"argMax"> = ({ axis }, [x], { module }) => {
  const { shape } = x!
  const thin = shape.with(axis, 1)
  const most = module.broadcast(module.reshape(module.reduce("maximum", x!, [axis]), thin), shape)
  const places = module.iota("i32", shape, axis)
  // a line without a largest element (NaN) answers with its last place
  const last = module.splat(shape[axis]! - 1, "i32", shape)
  return [module.reduce("minimum", module.select(module.compare("EQ", x!, most), places, last), [axis])]
}

/** Axis lengths up to which the sums are written out. */
const unrolled = 16

/** Sums that one trip of a loop adds up: a card starts a kernel or three a trip, whatever they do. */
const stretch = 32

/** Sums along axis 0, written out, on top of a sum [1, ...] of what comes before. */
const writtenOut = (module: Module, x: Value, before?: Value): ReadonlyArray<Value> => {
  const sums: Array<Value> = []
  for (let i = 0; i < x.shape[0]!; i++) {
    const next = module.slice(x, 0, i, i + 1)
    const last = sums.at(-1) ?? before
    sums.push(last === undefined ? next : module.same("add", last, next))
  }
  return sums
}

/** Sums along axis 0, one after the other: equal neighbours for a zero between them, whatever the rounding. */
const sequential = (module: Module, x: Value): Value => {
  const [n = 0, ...rest] = x.shape
  const own = Math.min(stretch, n)
  const trips = Math.ceil(n / own)
  const filled = module.reshape(module.pad(x, 0, 0, trips * own - n, 0), [trips, own, ...rest])
  const zero = module.splat(0, x.dtype, [1, ...rest])
  const none = module.splat(0, x.dtype, filled.shape)
  const [, sums] = module.repeat(trips, [zero, none], (index, [sum, all]) => {
    const next = writtenOut(module, module.sliceAt(filled, index), sum)
    return [next.at(-1)!, module.updateAt(all!, module.concat(next, 0), index)]
  })
  return module.slice(module.reshape(sums!, [trips * own, ...rest]), 0, 0, n)
}

const alongFirst = (module: Module, x: Value): Value => {
  const [n = 0, ...rest] = x.shape
  if (n <= 1) return x
  if (n <= unrolled) return module.concat(writtenOut(module, x), 0)
  // blocks of about sqrt(n): first within each, all blocks at once, then over the blocks' sums
  const width = Math.ceil(Math.sqrt(n))
  const blocks = Math.ceil(n / width)
  const filled = module.pad(x, 0, 0, blocks * width - n, 0)
  const swap = [1, 0, ...range(rest.length).map((i) => i + 2)]
  const columns = module.transpose(module.reshape(filled, [blocks, width, ...rest]), swap)
  const inner = sequential(module, columns)
  const totals = module.reshape(module.slice(inner, 0, width - 1, width), [blocks, ...rest])
  const before = module.slice(module.pad(sequential(module, totals), 0, 1, 0, 0), 0, 0, blocks)
  const sums = module.same("add", module.broadcast(before, inner.shape), inner)
  return module.slice(module.reshape(module.transpose(sums, swap), [blocks * width, ...rest]), 0, 0, n)
}

const reversed = (module: Module, x: Value): Value =>
  module.define(x.dtype, x.shape, `stablehlo.reverse ${x.name}, dims = [0] : ${typeOf(x)}`)

export const cumulativeSum: Lower<"cumulativeSum"> = ({ axis, exclusive, reverse }, [x], { module }) => {
  const rank = x!.shape.length
  const front = [axis, ...range(rank).filter((i) => i !== axis)]
  const back = range(rank).map((i) => front.indexOf(i))
  const turned = module.transpose(x!, front)
  const ordered = reverse ? reversed(module, turned) : turned
  const all = alongFirst(module, ordered)
  const n = all.shape[0]!
  const sums = exclusive && n > 0 ? module.slice(module.pad(all, 0, 1, 0, 0), 0, 0, n) : all
  return [module.transpose(reverse ? reversed(module, sums) : sums, back)]
}

export const topK: Lower<"topK"> = ({ k }, [x], { module }) => {
  const shape = x!.shape.with(-1, k)
  const result = module.fresh()
  const [values, indices] = [
    { name: `${result}#0`, dtype: x!.dtype, shape },
    { name: `${result}#1`, dtype: "i32" as const, shape }
  ]
  module.line(
    `${result}:2 = chlo.top_k(${x!.name}, k = ${k}) : ${typeOf(x!)} -> (${typeOf(values)}, ${typeOf(indices)})`
  )
  return [values, indices]
}
