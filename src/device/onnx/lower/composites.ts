/**
 * Composites that the runtime has a fused operator for, in float32. What is not here, or not in float32, is lowered
 * through its definition.
 */

import { geluOp, swigluOp } from "../../../tensor/composites/activation.ts"
import { cachedAttentionOp } from "../../../tensor/composites/cachedAttention.ts"
import { kthLargestOp } from "../../../tensor/composites/kthLargest.ts"
import { layerNormOp, rmsNormOp } from "../../../tensor/composites/norm.ts"
import { rotaryOp } from "../../../tensor/composites/rotary.ts"
import { logSoftmaxOp, softmaxOp } from "../../../tensor/composites/softmax.ts"
import { dimText, multiplyDims } from "../../../tensor/Dim.ts"
import { type Attributes, type Composite, type CompositeOp, isFloat, type Tensor } from "../../../tensor/Tensor.ts"
import type { Lowering } from "../Lowering.ts"
import { cachedAttention } from "./attention.ts"

/** Lowers a composite and says whether it could. */
type Fused<A> = (attributes: A, inputs: ReadonlyArray<Tensor>, outputs: ReadonlyArray<Tensor>, to: Lowering) => boolean

const microsoft = { domain: "com.microsoft" } as const

/** y = x operator(...) over the last axis. */
const alongLastAxis =
  (operator: string): Fused<Attributes> =>
  (_, [x], [y], to) => {
    to.set(y!, to.graph.node(operator, [to.full(x!)], { axis: -1 }))
    return true
  }

const logSoftmax: Fused<Attributes> = (attributes, inputs, outputs, to) =>
  to.context.choices.logSoftmax === "operator" && alongLastAxis("LogSoftmax")(attributes, inputs, outputs, to)

const rmsNorm: Fused<{ readonly epsilon: number }> = ({ epsilon }, [x, weight], [y, inverse], to) => {
  const attributes = { axis: -1, epsilon: { float: epsilon }, stash_type: 1 }
  const operands = [to.full(x!), to.full(weight!)]
  if (to.context.choices.rmsNormDeviation === "definition") {
    const { graph } = to
    to.set(y!, graph.node("SimplifiedLayerNormalization", operands, attributes))
    const mean = graph.node("ReduceMean", [graph.node("Mul", [operands[0]!, operands[0]!]), graph.int64s([-1])])
    const deviation = graph.node("Sqrt", [graph.node("Add", [mean, graph.scalar("f32", epsilon)])])
    to.set(inverse!, graph.node("Reciprocal", [deviation]))
    return true
  }
  const [normal, deviation] = to.graph.nodeOf("SimplifiedLayerNormalization", operands, attributes, { outputs: 2 })
  to.set(y!, normal!)
  to.set(inverse!, deviation!)
  return true
}

const layerNorm: Fused<{ readonly epsilon: number }> = ({ epsilon }, inputs, [y, mean, inverse], to) => {
  const attributes = { axis: -1, epsilon: { float: epsilon }, stash_type: 1 }
  const operands = inputs.map((x) => to.full(x))
  const made = to.graph.nodeOf("LayerNormalization", operands, attributes, { outputs: 3 })
  to.set(y!, made[0]!)
  to.set(mean!, made[1]!)
  to.set(inverse!, made[2]!)
  return true
}

/** gate sigmoid(gate) in one pass, then the product. */
const swiglu: Fused<Attributes> = (_, [gate, up], [y], to) => {
  const silu = to.graph.node("QuickGelu", [to.full(gate!)], { alpha: { float: 1 } }, microsoft)
  to.set(y!, to.graph.node("Mul", [silu, to.full(up!)]))
  return true
}

const kthLargest: Fused<{ readonly k: number }> = ({ k }, [x], [y], to) => {
  const { graph } = to
  const [best] = graph.nodeOf(
    "TopK",
    [to.full(x!), graph.int64s([k])],
    { axis: -1, largest: 1, sorted: 1 },
    { outputs: 2 }
  )
  to.set(y!, graph.node("Slice", [best!, graph.int64s([k - 1]), graph.int64s([k]), graph.int64s([1])]))
  return true
}

const gelu: Fused<Attributes> = (_, [x], [y], to) => {
  to.set(y!, to.graph.node("Gelu", [to.full(x!)], {}))
  return true
}

/** Heads [batch, time, heads, d] lie as [batch, time, heads * d]; the tables are rows of a cache, picked by position. */
const rotary: Fused<{ readonly inverse: boolean }> = ({ inverse }, [x, cos, sin], [y], to) => {
  const [batch, time, heads, width] = x!.shape
  if (typeof heads !== "number" || typeof width !== "number") return false
  const perRow = cos!.shape.length === 3
  if (perRow && to.context.choices.rotaryRows === "definition") return false
  const { graph } = to
  const flat = [batch!, time!, heads * width]
  /** 0, 1, 2, ... as [batch, time]: each position has a row of its own in the tables. */
  const ownRows = () => {
    const count = graph.node("Reshape", [graph.dimValue(multiplyDims(batch!, time!)), graph.int64s([])])
    const ramp = graph.node("Range", [graph.scalar("i64", 0), count, graph.scalar("i64", 1)])
    return graph.node("Reshape", [ramp, graph.shapeValue([batch!, time!])])
  }
  const operand = graph.node("Reshape", [to.full(x!), graph.reshapeTarget(x!.shape, flat)])
  const table = (t: Tensor) => {
    const name = to.full(t)
    if (!perRow) return name
    return to.shared(`rows ${name}`, () => graph.node("Reshape", [name, graph.int64s([-1, width / 2])]))
  }
  const sine = table(sin!)
  const turned = inverse ? to.shared(`minus ${sine}`, () => graph.node("Neg", [sine])) : sine
  const positions = perRow ? to.shared(`rows of [${x!.shape.slice(0, 2).map(dimText)}]`, ownRows) : graph.int64s([0])
  const operands = [operand, positions, table(cos!), turned]
  const made = graph.node("RotaryEmbedding", operands, { num_heads: heads, interleaved: 0 }, microsoft)
  to.set(y!, graph.node("Reshape", [made, graph.reshapeTarget(flat, x!.shape)]))
  return true
}

const rules = new Map<Composite<never>, Fused<never>>()
const rule = <A extends Attributes>(definition: Composite<A>, fused: Fused<A>) => rules.set(definition, fused)
rule(softmaxOp, alongLastAxis("Softmax"))
rule(logSoftmaxOp, logSoftmax)
rule(rmsNormOp, rmsNorm)
rule(layerNormOp, layerNorm)
rule(swigluOp, swiglu)
rule(geluOp, gelu)
rule(kthLargestOp, kthLargest)
rule(rotaryOp, rotary)
rule(cachedAttentionOp, cachedAttention)

/** Lowers a composite to fused operators and says whether it could. */
export const lowerComposite = (
  op: CompositeOp,
  inputs: ReadonlyArray<Tensor>,
  outputs: ReadonlyArray<Tensor>,
  to: Lowering
): boolean => {
  const fused = rules.get(op.definition)
  if (fused === undefined || inputs.some((x) => isFloat(x.dtype) && x.dtype !== "f32")) return false
  // the rule was entered with this definition, so it takes its attributes
  return fused(op.attributes as never, inputs, outputs, to)
}
