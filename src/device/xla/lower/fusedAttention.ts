/**
 * Attention by cuDNN, whose kernels never write a [time, keys] matrix (https://arxiv.org/abs/2205.14135), as the custom calls
 * that XLA's GPU backend makes cuDNN graphs of. Targets, operands, layouts and configuration are those of JAX's
 * `dot_product_attention` (jax/_src/cudnn/fused_attention_stablehlo.py), in its layout [batch, time, heads, width]:
 *
 *   __cudnn$fmhaSoftmax                 (q, k, v) -> (out, log-sum-exp, workspace)
 *   __cudnn$fmhaSoftmaxBackward         (q, k, v, log-sum-exp, dOut, out) -> (dq, dk, dv, workspace)
 *   ...ScaleBiasSoftmax[Backward]       a bias behind v, and behind dOut: a mask as 0 and a large negative number
 *
 * Outputs come as [batch, heads, time, width] and lie as [batch, time, heads, width], so the transposes cost nothing. Compiled
 * for an H100 here, run on none. What cuDNN does not do goes through the definition.
 */
import { type AttentionAttributes, attentionGradOp, attentionOp } from "../../../tensor/composites/attention.ts"
import { type CompositeOp, isComposite } from "../../../tensor/Tensor.ts"
import { type Module, typeOf, type Value } from "../Module.ts"

/** JAX's score of what is hidden: twice as low, cuDNN's difference of two such is no number. */
const hidden = -(2 ** 41)

/** The most elements of a head that the kernels take. */
const widest = 128

const texts = (values: ReadonlyArray<number>) => values.map(String)

type Axes = readonly [lhs: number, rhs: number, batchLhs: ReadonlyArray<number>, batchRhs: ReadonlyArray<number>]

const product = ([lhs, rhs, batchLhs, batchRhs]: Axes) => ({
  lhs_contracting_dimensions: texts([lhs]),
  rhs_contracting_dimensions: texts([rhs]),
  lhs_batch_dimensions: texts(batchLhs),
  rhs_batch_dimensions: texts(batchRhs)
})

/** Products of q [batch, time, heads, width] and the like with each other, or of scores [batch, heads, time, keys] with them. */
const states: Axes = [3, 3, [0, 2], [0, 2]]
const byScores: Axes = [3, 1, [0, 1], [0, 2]]
const byTurnedScores: Axes = [2, 1, [0, 1], [0, 2]]

const forwardProducts = {
  bmm1_dot_dimension_numbers: product(states),
  bmm2_dot_dimension_numbers: product(byScores)
}
const backwardProducts = {
  bmm1_grad_gemm1_dot_dimension_numbers: product(byTurnedScores),
  bmm1_grad_gemm2_dot_dimension_numbers: product(byScores),
  bmm2_grad_gemm1_dot_dimension_numbers: product(byTurnedScores),
  bmm2_grad_gemm2_dot_dimension_numbers: product(states)
}

/** xla/service/gpu/backend_configs.proto, CudnnfMHABackendConfig, as JSON. */
const configuration = (q: Value, k: Value, { causal, scale }: AttentionAttributes, backward: boolean): string => {
  const [batch, time, heads] = q.shape
  return JSON.stringify({
    operation_queue_id: "0",
    cudnn_fmha_backend_config: {
      algorithm: {
        algo_id: "0",
        math_type: "TENSOR_OP_MATH",
        tuning_knobs: { "17": "1", "24": "0" },
        is_cudnn_frontend: true,
        workspace_size: "0"
      },
      fmha_scale: scale,
      dropout_rate: 0,
      intermediate_tensor_shape: {
        element_type: "BF16",
        dimensions: texts([batch!, heads!, time!, k.shape[1]!]),
        tuple_shapes: [],
        layout: {
          dim_level_types: [],
          dim_unique: [],
          dim_ordered: [],
          minor_to_major: texts([3, 2, 1, 0]),
          tiles: [],
          element_size_in_bits: "0",
          memory_space: "0",
          index_primitive_type: "PRIMITIVE_TYPE_INVALID",
          pointer_primitive_type: "PRIMITIVE_TYPE_INVALID",
          dynamic_shape_metadata_prefix_bytes: "0"
        },
        is_dynamic_dimension: [false, false, false, false]
      },
      seed: 42,
      is_flash_attention: true,
      mask_type: causal ? "CAUSAL" : "NO_MASK",
      sliding_window_length: 0,
      max_seg_per_batch: 1,
      is_paged_attention: false,
      ...(backward ? backwardProducts : forwardProducts)
    }
  })
}

const plainLayout = (rank: number) => Array.from({ length: rank }, (_, i) => rank - 1 - i)
const layoutText = (order: ReadonlyArray<number>) =>
  order.length > 0 ? `dense<[${order.join(", ")}]> : tensor<${order.length}xindex>` : "dense<> : tensor<0xindex>"

/** A result [batch, heads, time, width] that lies as [batch, time, heads, width]. */
const swapped = [3, 1, 2, 0]

const customCall = (
  module: Module,
  target: string,
  operands: ReadonlyArray<Value>,
  config: string,
  results: ReadonlyArray<{ readonly type: Pick<Value, "dtype" | "shape">; readonly layout: ReadonlyArray<number> }>
): ReadonlyArray<Value> => {
  const all = [...results, { type: { dtype: "u8" as const, shape: [0] }, layout: [0] }]
  const name = module.fresh()
  const layouts = [
    `operand_layouts = [${operands.map(({ shape }) => layoutText(plainLayout(shape.length))).join(", ")}]`,
    `result_layouts = [${all.map(({ layout }) => layoutText(layout)).join(", ")}]`
  ]
  const attributes = `api_version = 2 : i32, backend_config = "${config.replaceAll('"', "\\22")}", ${layouts.join(", ")}`
  const types = `(${operands.map(typeOf).join(", ")}) -> (${all.map(({ type }) => typeOf(type)).join(", ")})`
  module.line(
    `${name}:${all.length} = stablehlo.custom_call @${target}(${operands.map((x) => x.name).join(", ")}) {${attributes}} : ${types}`
  )
  return results.map(({ type: { dtype, shape } }, i) => ({ name: `${name}#${i}`, dtype, shape }))
}

const swap = (module: Module, x: Value) => module.transpose(x, [0, 2, 1, 3])
const headsFirst = ({ dtype, shape: [batch, time, heads, width] }: Value) => ({
  type: { dtype, shape: [batch!, heads!, time!, width!] },
  layout: swapped
})

/** Whether cuDNN's kernels do it: JAX's conditions for compute capability 8 and later. */
const fits = (
  q: Value,
  k: Value,
  v: Value,
  { causal, mask, saved }: AttentionAttributes,
  hide: Value | undefined
): boolean => {
  const [, time, heads, width] = q.shape
  const [, keys, kvHeads] = k.shape
  const even = time! % 2 === 0 && keys! % 2 === 0
  return (
    [q, k, v].every(({ dtype }) => dtype === "bf16") &&
    saved === "logSumExp" &&
    width! <= widest &&
    width! % 8 === 0 &&
    v.shape[3] === width &&
    heads! % kvHeads! === 0 &&
    (!causal || time === keys) &&
    (!mask || (!causal && even && hide?.dtype === "bool"))
  )
}

/** A mask, broadcastable to [batch, heads, time, keys], as what is added to the scores: all of the last two axes. */
const biasOf = (module: Module, q: Value, k: Value, hide: Value): Value => {
  const lead = Array.from({ length: 4 - hide.shape.length }, () => 1)
  const four = module.reshape(hide, [...lead, ...hide.shape])
  const shape = [four.shape[0]!, four.shape[1]!, q.shape[1]!, k.shape[1]!]
  const seen = module.broadcast(four, shape)
  return module.select(seen, module.splat(0, "bf16", shape), module.splat(hidden, "bf16", shape))
}

const logSumExpOf = ({ shape: [batch, time, heads] }: Value) => ({
  dtype: "f32" as const,
  shape: [batch!, heads!, time!]
})

const forward = (
  attributes: AttentionAttributes,
  [q, k, v, hide]: ReadonlyArray<Value>,
  module: Module
): ReadonlyArray<Value> | undefined => {
  if (q === undefined || k === undefined || v === undefined || !fits(q, k, v, attributes, hide)) return undefined
  const bias = hide === undefined ? [] : [biasOf(module, q, k, hide)]
  const [out, logSumExp] = customCall(
    module,
    bias.length > 0 ? "__cudnn$fmhaScaleBiasSoftmax" : "__cudnn$fmhaSoftmax",
    [q, k, v, ...bias],
    configuration(q, k, attributes, false),
    [headsFirst(q), { type: logSumExpOf(q), layout: plainLayout(3) }]
  )
  return [swap(module, out!), logSumExp!]
}

const fitsBackwards = (
  attributes: AttentionAttributes & { readonly byLogSumExp: boolean },
  dOut: Value,
  q: Value,
  k: Value,
  v: Value,
  out: Value,
  hide: Value | undefined
): boolean =>
  !attributes.byLogSumExp && dOut.dtype === "bf16" && out.dtype === "bf16" && fits(q, k, v, attributes, hide)

const backward = (
  attributes: AttentionAttributes & { readonly byLogSumExp: boolean },
  [dOut, q, k, v, out, logSumExp, hide]: ReadonlyArray<Value>,
  module: Module
): ReadonlyArray<Value> | undefined => {
  if (q === undefined || k === undefined || v === undefined || dOut === undefined || out === undefined) return undefined
  if (!fitsBackwards(attributes, dOut, q, k, v, out, hide)) return undefined
  const bias = hide === undefined ? [] : [biasOf(module, q, k, hide)]
  const results = customCall(
    module,
    bias.length > 0 ? "__cudnn$fmhaScaleBiasSoftmaxBackward" : "__cudnn$fmhaSoftmaxBackward",
    [q, k, v, logSumExp!, dOut, ...bias, out],
    configuration(q, k, attributes, true),
    [headsFirst(q), headsFirst(k), headsFirst(v)]
  )
  return results.map((x) => swap(module, x))
}

/** The types of the values that `fusedAttention` would give; undefined where it would give none. */
export const fusedTypes = (
  op: CompositeOp,
  operands: ReadonlyArray<Value>
): ReadonlyArray<Omit<Value, "name">> | undefined => {
  if (isComposite(op, attentionOp)) {
    const [q, k, v, hide] = operands as readonly [Value, Value, Value, Value?]
    return fits(q, k, v, op.attributes, hide) ? [q, logSumExpOf(q)] : undefined
  }
  if (!isComposite(op, attentionGradOp)) return undefined
  const [dOut, q, k, v, out, , hide] = operands as readonly [Value, Value, Value, Value, Value, Value, Value?]
  return fitsBackwards(op.attributes, dOut, q, k, v, out, hide) ? [q, k, v] : undefined
}

/** The values of an attention, or of its derivative, by cuDNN; undefined for what it does not do, and for all else. */
export const fusedAttention = (
  op: CompositeOp,
  operands: ReadonlyArray<Value>,
  module: Module
): ReadonlyArray<Value> | undefined => {
  if (isComposite(op, attentionOp)) return forward(op.attributes, operands, module)
  if (isComposite(op, attentionGradOp)) return backward(op.attributes, operands, module)
  return undefined
}
