/**
 * cuDNN's attention on a mesh. The partitioner cannot cut a library's call, but rows of a batch and heads are independent of
 * one another: each device calls it for its own (`sdy.manual_computation`, what JAX calls `shard_map`). An axis that does not
 * come out even is computed whole on every device.
 */
import type { CompositeOp } from "../../../tensor/Tensor.ts"
import { axisSize, type Mesh, type MeshAxis, meshAxes } from "../../mesh.ts"
import type { Module, Value } from "../Module.ts"
import { batchAxes, batchWays, type Spec, shardingText, shareShape } from "../sharding.ts"
import type { Fuse } from "../writer.ts"
import { fusedAttention, fusedTypes } from "./fusedAttention.ts"

type Axes = ReadonlyArray<MeshAxis>
type Type = Omit<Value, "name">

/** How a value of attention lies, by its rank and place among the operands. */
const specsOf = (rows: Axes, heads: Axes) => ({
  /** [batch, time, heads, width] */
  states: [rows, [], heads, []] as Spec,
  /** [batch, heads, time] */
  logSumExp: [rows, heads, []] as Spec,
  /** Broadcastable to [batch, heads, time, keys]. */
  mask: ({ shape }: Type): Spec =>
    shape.map((size, i) => {
      const axis = 4 - shape.length + i
      return size === 1 || axis > 1 ? [] : axis === 0 ? rows : heads
    })
})

/** `fusedAttention` for programs that all devices of a mesh run; undefined for what it does not do. */
export const attentionOver = (mesh: Mesh): Fuse => {
  const over = meshAxes.filter((name) => axisSize(mesh, name) > 1)
  return (op: CompositeOp, operands: ReadonlyArray<Value>, module: Module) => {
    const types = fusedTypes(op, operands)
    if (types === undefined) return undefined
    const present = (axes: Axes) => axes.filter((name) => axisSize(mesh, name) > 1)
    const rows = operands[0]!.shape[0]! % batchWays(mesh) === 0 ? present(batchAxes) : []
    const model = axisSize(mesh, "model")
    const even = operands.every(({ dtype, shape }) => dtype === "bool" || shape.length !== 4 || shape[2]! % model === 0)
    const specs = specsOf(rows, even ? present(["model"]) : [])
    const specOf = (x: Type): Spec =>
      x.dtype === "bool" ? specs.mask(x) : x.shape.length === 3 ? specs.logSumExp : specs.states
    const given = operands.map((value) => {
      const spec = specOf(value)
      return { value, part: shareShape(mesh, spec, value.shape), sharding: shardingText(spec) }
    })
    const made = types.map((type) => ({ type, sharding: shardingText(specOf(type)) }))
    return module.manual(over, given, made, (parts) => fusedAttention(op, parts, module)!)
  }
}
